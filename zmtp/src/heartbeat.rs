//! Heartbeats in both directions.
//!
//! Ours work as in libzmq: a PING every interval, and the connection ends if nothing was received
//! for a time after one. A PING of the peer may carry a time-to-live, after which a silent peer
//! counts as dead (RFC 37, "Connection Heartbeating").

use crate::error::Deadline;
use crate::version::Version;
use crate::wire::command::append_ping;
use std::time::{Duration, Instant};

/// The heartbeats of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// Time between two PINGs.
    pub interval: Duration,
    /// Time of silence after a PING until the peer counts as dead; zero for no limit.
    pub timeout: Duration,
    /// Time of our silence after a PING until the peer may count us as dead; zero for no limit. At
    /// most 6553.5 s on the wire, and at most 65.5 s for libzmq, which keeps the milliseconds in
    /// sixteen bits.
    pub ttl: Duration,
}

/// The deadlines of one connection whose handshake is over.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heartbeat {
    /// When the peer counts as dead, because nothing was received since a PING of ours.
    expires_at: Option<Instant>,
    /// When bytes were last received.
    heard_at: Option<Instant>,
    /// Whether a PING of ours has not been answered by PONG.
    is_asking: bool,
    /// Whether the peer knows PING: it speaks 3.1, or it has sent one.
    knows_ping: bool,
    /// Time between the last two PINGs of the peer.
    peer_interval: Option<Duration>,
    /// When its last PING arrived.
    peer_pinged_at: Option<Instant>,
    /// When our next PING is due.
    ping_at: Option<Instant>,
    /// When the peer's time-to-live ends.
    ttl_ends_at: Option<Instant>,
}

impl Heartbeat {
    /// Begins when the handshake is over. PING is part of 3.1, but libzmq 4.2.0 to 4.3.2 know it
    /// and announce 3.0: such a peer gets PINGs once it has sent one.
    pub(crate) fn start(&mut self, config: Option<HeartbeatConfig>, version: Version) {
        self.knows_ping = false;
        self.ping_at = None;
        if version.has_commands() {
            self.learn_ping(config);
        }
    }

    fn learn_ping(&mut self, config: Option<HeartbeatConfig>) {
        self.knows_ping = true;
        if let (Some(config), Some(now)) = (config, self.heard_at) {
            self.ping_at = now.checked_add(config.interval);
        }
    }

    /// Sends PING now; false if the peer does not know PING.
    pub(crate) fn ask(&mut self, config: Option<HeartbeatConfig>, out: &mut Vec<u8>) -> bool {
        if self.knows_ping {
            self.append_ping(config, out);
        }
        self.knows_ping
    }

    /// When bytes were last received.
    pub(crate) fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// Whether bytes were received after `moment`.
    pub(crate) fn has_heard_since(&self, moment: Instant) -> bool {
        self.heard_at.is_some_and(|heard| heard > moment)
    }

    /// Bytes were received: any bytes are a sign of life.
    #[inline]
    pub(crate) fn handle_received(&mut self, now: Instant) {
        self.expires_at = None;
        self.heard_at = Some(now);
        self.ttl_ends_at = None;
    }

    /// A PING was received, with a time-to-live.
    pub(crate) fn handle_ping(&mut self, config: Option<HeartbeatConfig>, ttl_deciseconds: u16) {
        if !self.knows_ping {
            self.learn_ping(config);
        }
        if let (Some(now), Some(before)) = (self.heard_at, self.peer_pinged_at) {
            // PINGs that arrived together have no meaningful interval.
            let interval = now.saturating_duration_since(before);
            self.peer_interval = Some(interval)
                .filter(|interval| *interval >= PEER_INTERVAL_MIN)
                .or(self.peer_interval);
        }
        self.peer_pinged_at = self.heard_at;
        if ttl_deciseconds > 0 {
            let ttl = Duration::from_millis(100) * u32::from(ttl_deciseconds);
            self.ttl_ends_at = self.heard_at.and_then(|now| now.checked_add(ttl));
        }
    }

    /// A PONG was received: the peer has read all bytes before the PING.
    pub(crate) fn handle_pong(&mut self) {
        self.is_asking = false;
    }

    /// Whether every PING has been answered by PONG.
    pub(crate) fn has_answer(&self) -> bool {
        !self.is_asking
    }

    /// Whether nothing was received for too long after a PING.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }

    /// Reading from the peer is suspended, so its silence means nothing, and its PINGs are not
    /// answered. It gets PINGs of ours instead, twice as often as it sent its own: any traffic is a
    /// sign of life.
    pub(crate) fn pause_liveness(&mut self, now: Instant) {
        self.expires_at = None;
        self.ttl_ends_at = None;
        let early = self
            .peer_interval
            .and_then(|interval| now.checked_add(interval / 2));
        self.ping_at = self.ping_at.into_iter().chain(early).min();
    }

    /// The peer may not have read all that it was sent. When its application is slow, libzmq stops
    /// reading and so does not answer PING, but it goes on sending PINGs of its own. So a missing
    /// answer counts only if the peer's PINGs are missing too.
    pub(crate) fn excuse_silence(&mut self, now: Instant) {
        let late_at = self.heard_at.zip(self.peer_interval);
        let late_at = late_at.and_then(|(heard, interval)| heard.checked_add(interval * 2));
        if late_at.is_none_or(|late_at| now < late_at) {
            self.expires_at = None;
        }
    }

    /// Sends PING if it is due; an error if a deadline has passed.
    pub(crate) fn handle_timeout(
        &mut self,
        config: Option<HeartbeatConfig>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Deadline> {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if self.is_overdue(now) {
            return Err(Deadline::Heartbeat);
        }
        if is_due(self.ttl_ends_at) {
            return Err(Deadline::TimeToLive);
        }
        if is_due(self.ping_at) {
            self.append_ping(config, out);
            self.ping_at = config.and_then(|config| now.checked_add(config.interval));
            if let Some(config) = config
                && self.expires_at.is_none()
                && !config.timeout.is_zero()
            {
                self.expires_at = now.checked_add(config.timeout);
            }
        }
        Ok(())
    }

    fn append_ping(&mut self, config: Option<HeartbeatConfig>, out: &mut Vec<u8>) {
        let ttl = config.map_or(Duration::ZERO, |config| config.ttl);
        append_ping(out, ttl_deciseconds(ttl));
        self.is_asking = true;
    }

    /// The next of the deadlines.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.expires_at, self.ping_at, self.ttl_ends_at]
            .into_iter()
            .flatten()
            .min()
    }
}

/// PINGs that follow each other faster do not set the interval, which limits the PINGs to a
/// suspended peer.
const PEER_INTERVAL_MIN: Duration = Duration::from_millis(20);

fn ttl_deciseconds(ttl: Duration) -> u16 {
    u16::try_from(ttl.as_millis() / 100).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Option<HeartbeatConfig> = Some(HeartbeatConfig {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(15),
        ttl: Duration::from_secs(30),
    });

    #[expect(
        clippy::disallowed_methods,
        reason = "a beginning for a clock of the test's own"
    )]
    fn started() -> (Heartbeat, Instant) {
        let (mut heartbeat, start) = (Heartbeat::default(), Instant::now());
        heartbeat.handle_received(start);
        heartbeat.start(CONFIG, Version::V3_1);
        (heartbeat, start)
    }

    /// Goes from deadline to deadline up to `until` seconds; the seconds of each PING, and the end.
    fn run(
        heartbeat: &mut Heartbeat,
        start: Instant,
        until: u64,
    ) -> (Vec<u64>, Option<(u64, Deadline)>) {
        let mut pings = Vec::new();
        while let Some(now) = heartbeat.poll_timeout() {
            let seconds = now.duration_since(start).as_secs();
            if seconds > until {
                break;
            }
            let mut out = Vec::new();
            match heartbeat.handle_timeout(CONFIG, now, &mut out) {
                Err(deadline) => return (pings, Some((seconds, deadline))),
                Ok(()) => assert_eq!(out, b"\x04\x07\x04PING\x01\x2c"),
            }
            pings.push(seconds);
        }
        (pings, None)
    }

    #[test]
    fn a_silent_peer_is_dead_after_interval_and_timeout() {
        let (mut heartbeat, start) = started();
        let end = Some((25, Deadline::Heartbeat));
        assert_eq!(run(&mut heartbeat, start, 100), (vec![10, 20], end));
    }

    #[test]
    fn the_silence_of_a_suspended_peer_does_not_count() {
        let (mut heartbeat, start) = started();
        assert_eq!(run(&mut heartbeat, start, 10), (vec![10], None));
        heartbeat.pause_liveness(start + Duration::from_secs(11));
        assert_eq!(heartbeat.expires_at, None, "the PING needs no answer now");
        assert_eq!(heartbeat.ttl_ends_at, None);
    }

    #[test]
    fn any_input_is_a_sign_of_life() {
        let (mut heartbeat, start) = started();
        assert_eq!(run(&mut heartbeat, start, 20), (vec![10, 20], None));
        heartbeat.handle_received(start + Duration::from_secs(24));
        let end = Some((45, Deadline::Heartbeat));
        assert_eq!(run(&mut heartbeat, start, 100), (vec![30, 40], end));
    }

    #[test]
    fn the_time_to_live_of_the_peer_is_kept_and_cancelled() {
        let (mut heartbeat, start) = started();
        heartbeat.handle_ping(CONFIG, 5);
        let half = start + Duration::from_millis(500);
        assert_eq!(heartbeat.poll_timeout(), Some(half));
        let mut at_half = heartbeat;
        let too_late = at_half.handle_timeout(CONFIG, half, &mut Vec::new());
        assert_eq!(too_late, Err(Deadline::TimeToLive));
        heartbeat.handle_received(start + Duration::from_millis(400));
        assert_eq!(
            heartbeat.poll_timeout(),
            Some(start + Duration::from_secs(10))
        );
        heartbeat.handle_ping(CONFIG, 0);
        assert_eq!(
            heartbeat.poll_timeout(),
            Some(start + Duration::from_secs(10))
        );
    }

    #[test]
    fn a_suspended_peer_gets_pings_as_often_as_it_sent_them() {
        let (mut heartbeat, start) = started();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for milliseconds in [1000, 1200] {
            heartbeat.handle_received(at(milliseconds));
            heartbeat.handle_ping(CONFIG, 3);
        }
        heartbeat.pause_liveness(at(1250));
        assert_eq!(heartbeat.poll_timeout(), Some(at(1350)));
        let mut out = Vec::new();
        assert_eq!(heartbeat.handle_timeout(CONFIG, at(1350), &mut out), Ok(()));
        assert_eq!(out, b"\x04\x07\x04PING\x01\x2c");
        heartbeat.pause_liveness(at(1350));
        assert_eq!(heartbeat.poll_timeout(), Some(at(1450)));
    }

    #[test]
    fn a_peer_that_does_not_read_is_excused_while_its_own_pings_come() {
        let (mut heartbeat, start) = started();
        let at = |seconds| start + Duration::from_secs(seconds);
        let run = |heartbeat: &mut Heartbeat, seconds| {
            heartbeat.excuse_silence(at(seconds));
            heartbeat.handle_timeout(CONFIG, at(seconds), &mut Vec::new())
        };
        // It has sent no PINGs, so that it may be alive.
        for seconds in [10, 20, 30, 1000] {
            assert_eq!(run(&mut heartbeat, seconds), Ok(()));
        }
        for seconds in [1001, 1021, 1041] {
            heartbeat.handle_received(at(seconds));
            heartbeat.handle_ping(CONFIG, 0);
            assert_eq!(run(&mut heartbeat, seconds + 19), Ok(()));
        }
        // Two of them are missing.
        assert_eq!(run(&mut heartbeat, 1080), Ok(()));
        assert_eq!(run(&mut heartbeat, 1095), Err(Deadline::Heartbeat));
    }

    #[test]
    fn a_peer_of_3_0_gets_pings_from_its_first_one_on() {
        let (mut heartbeat, start) = started();
        heartbeat.start(CONFIG, Version::V3_0);
        assert!(!heartbeat.ask(CONFIG, &mut Vec::new()));
        heartbeat.handle_received(start + Duration::from_secs(7));
        assert_eq!(heartbeat.poll_timeout(), None);
        heartbeat.handle_ping(CONFIG, 0);
        let end = Some((32, Deadline::Heartbeat));
        assert_eq!(run(&mut heartbeat, start, 100), (vec![17, 27], end));
    }

    #[test]
    fn only_bytes_after_a_ping_count_as_its_answer() {
        let (mut heartbeat, start) = started();
        let (asked, mut out) = (start + Duration::from_secs(1), Vec::new());
        heartbeat.handle_received(asked);
        assert!(heartbeat.ask(None, &mut out));
        assert_eq!(out, b"\x04\x07\x04PING\x00\x00");
        assert!(!heartbeat.has_answer() && !heartbeat.has_heard_since(asked));
        heartbeat.handle_received(asked + Duration::from_millis(1));
        assert!(heartbeat.has_heard_since(asked));
    }

    #[test]
    fn peers_that_do_not_know_ping_get_none() {
        let (mut heartbeat, _) = started();
        for version in [Version::V2, Version::V3_0] {
            heartbeat.start(CONFIG, version);
            assert_eq!(heartbeat.poll_timeout(), None, "{version}");
        }
        heartbeat.start(None, Version::V3_1);
        assert_eq!(heartbeat.poll_timeout(), None);
    }
}
