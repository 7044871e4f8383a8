//! The brokers connected to a socket, as far as they announce it: for finding loops.

use crate::ids::ConnId;
use crate::limits::PROBES_REMEMBERED_MAX;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// A loop that forms again and again is logged as an error once in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The brokers connected to a socket, and the probes that they sent.
#[derive(Debug, Default)]
pub(crate) struct LoopPeers {
    /// Connections with brokers that look for loops.
    pub(crate) peers: BTreeSet<ConnId>,
    /// The last report of a loop over an accepted connection.
    reported_at: Option<Instant>,
    /// The last probes, so that each is passed on once.
    seen: VecDeque<u128>,
}

/// The state of a broker at the other end of a connection.
#[derive(Debug, Default)]
pub(crate) struct LoopPeer {
    /// The probe sent for this connection, to see whether it comes back.
    pub(crate) probe: Option<u128>,
    /// Probes put into its queue since the queue was last empty.
    pub(crate) waiting: u32,
}

impl LoopPeers {
    /// Notes a probe; false if it was noted before.
    pub(crate) fn is_new(&mut self, number: u128) -> bool {
        if self.seen.contains(&number) {
            return false;
        }
        if self.seen.len() == PROBES_REMEMBERED_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(number);
        true
    }

    /// Whether to report a loop at the error level.
    pub(crate) fn may_report(&mut self, now: Instant) -> bool {
        let is_news = self
            .reported_at
            .is_none_or(|at| now.saturating_duration_since(at) >= REPORT_INTERVAL);
        if is_news {
            self.reported_at = Some(now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_new_once_until_many_others_have_come() {
        let mut loop_peers = LoopPeers::default();
        for number in 0..PROBES_REMEMBERED_MAX as u128 {
            assert!(loop_peers.is_new(number));
        }
        assert!(!loop_peers.is_new(0) && !loop_peers.is_new(7));
        assert!(
            loop_peers.is_new(u128::MAX),
            "this one drives the first out"
        );
        assert!(!loop_peers.is_new(1) && loop_peers.is_new(0));
        assert_eq!(loop_peers.seen.len(), PROBES_REMEMBERED_MAX);
    }
}
