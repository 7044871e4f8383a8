//! Counters: plain numbers, counted where things happen and read on request.

use crate::reason::{CloseReason, DropReason};
use std::fmt;
use std::time::Duration;

/// The counters of one socket of a proxy.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SocketStats {
    /// Bytes of the messages accepted from peers, on the wire.
    pub bytes_in: u64,
    /// Bytes of the messages queued for peers, on the wire.
    pub bytes_out: u64,
    /// Connections that ended, by the label of their reason, in the order of their first
    /// occurrence.
    pub closed: Vec<(&'static str, u64)>,
    /// Dropped messages, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
    /// Messages accepted from peers.
    pub messages_in: u64,
    /// Messages queued for peers; a message for several counts for each.
    pub messages_out: u64,
    /// Connections that finished their handshake.
    pub peers_attached: u64,
    /// Messages taken back from peers that died before any byte of them was written.
    pub requeued: u64,
}

impl SocketStats {
    /// The number of messages dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    #[inline]
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        self.count_drops(reason, 1);
    }

    #[inline]
    pub(crate) fn count_drops(&mut self, reason: DropReason, messages: u32) {
        self.drops[reason as usize] += u64::from(messages);
    }

    /// Counts accepted messages and their bytes.
    #[inline]
    pub(crate) fn count_in(&mut self, messages: u32, bytes: usize) {
        self.messages_in += u64::from(messages);
        self.bytes_in += bytes as u64;
    }

    /// Counts messages queued for this number of peers, and their bytes.
    #[inline]
    pub(crate) fn count_out(&mut self, peers: usize, messages: u32, bytes: usize) {
        self.messages_out += peers as u64 * u64::from(messages);
        self.bytes_out += (peers * bytes) as u64;
    }

    /// The number of connections that ended for the reason with this label.
    #[must_use]
    pub fn closed_for(&self, label: &str) -> u64 {
        self.closed
            .iter()
            .find(|(known, _)| *known == label)
            .map_or(0, |(_, count)| *count)
    }

    pub(crate) fn count_close(&mut self, why: &CloseReason) {
        let label = why.label();
        match self.closed.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => self.closed.push((label, 1)),
        }
    }
}

/// Shows the reasons of drops by name, and omits those without any.
impl fmt::Debug for SocketStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Drops<'a>(&'a [u64]);
        impl fmt::Debug for Drops<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let named = DropReason::ALL.iter().zip(self.0);
                let some = named.filter(|(_, count)| **count > 0);
                let labels = some.map(|(reason, count)| (reason.label(), count));
                f.debug_map().entries(labels).finish()
            }
        }
        let Self {
            bytes_in,
            bytes_out,
            closed,
            drops,
            messages_in,
            messages_out,
            peers_attached,
            requeued,
        } = self;
        f.debug_struct("SocketStats")
            .field("bytes_in", bytes_in)
            .field("bytes_out", bytes_out)
            .field("closed", closed)
            .field("drops", &Drops(drops))
            .field("messages_in", messages_in)
            .field("messages_out", messages_out)
            .field("peers_attached", peers_attached)
            .field("requeued", requeued)
            .finish()
    }
}

/// The durations of the loop's turns, without the time spent waiting for events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnTimes {
    /// The number of turns by duration: the first bucket below a microsecond, the next below two,
    /// then four and so on; the last has all longer turns.
    pub buckets: [u64; Self::BUCKETS],
    /// Turns that used up their budget and left work to the next.
    pub cut_short: u64,
    /// The longest turn.
    pub longest: Duration,
    /// The time of all turns.
    pub total: Duration,
}

impl TurnTimes {
    /// Up to a second and more.
    pub const BUCKETS: usize = 22;

    /// The number of turns.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The upper bound of a bucket's durations; [`None`] for the last.
    #[must_use]
    pub fn bound(bucket: usize) -> Option<Duration> {
        (bucket + 1 < Self::BUCKETS).then(|| Duration::from_micros(1 << bucket))
    }

    pub(crate) fn note(&mut self, duration: Duration) {
        let micros = duration.as_micros();
        let bucket = (u128::BITS - micros.leading_zeros()) as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)] += 1;
        self.longest = self.longest.max(duration);
        self.total += duration;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_with_the_names_of_their_reasons() {
        let mut stats = SocketStats::default();
        stats.count_drops(DropReason::PeerFull, 7);
        let shown = format!("{stats:?}");
        assert!(shown.contains("drops: {\"peer-full\": 7}"), "{shown}");
    }

    #[test]
    fn a_turn_is_counted_below_the_next_power_of_two() {
        let mut times = TurnTimes::default();
        for micros in [0, 1, 2, 3, 4, 1_048_575, 1_048_576, 3_600_000_000] {
            times.note(Duration::from_micros(micros));
        }
        assert_eq!(times.buckets[..4], [1, 1, 2, 1]);
        assert_eq!(times.buckets[TurnTimes::BUCKETS - 2..], [1, 2]);
        assert_eq!(times.count(), 8);
        assert_eq!(times.longest, Duration::from_secs(3600));
        assert_eq!(TurnTimes::bound(0), Some(Duration::from_micros(1)));
        assert_eq!(TurnTimes::bound(20), Some(Duration::from_micros(1 << 20)));
        assert_eq!(TurnTimes::bound(21), None);
    }
}
