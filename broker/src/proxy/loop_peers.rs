//! The brokers right next to a socket, as far as they say that they are: for finding loops.

use crate::ids::ConnId;
use crate::limits::PROBES_REMEMBERED_MAX;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// A loop that is tried again and again is an error in the log once in this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The brokers that a socket is connected with, and what they have asked it to pass on.
#[derive(Debug, Default)]
pub(crate) struct LoopPeers {
    /// Connections with brokers that look for loops.
    pub(crate) peers: BTreeSet<ConnId>,
    /// When a loop over a connection that we accepted was last reported.
    reported_at: Option<Instant>,
    /// The last probes that came by, so that each is passed on once.
    seen: VecDeque<u128>,
}

/// What is known of a broker at the other end of a connection.
#[derive(Debug, Default)]
pub(crate) struct LoopPeer {
    /// The probe that was sent to see whether it comes back from here.
    pub(crate) probe: Option<u128>,
    /// Probes put into its queue since that was last seen empty.
    pub(crate) waiting: u32,
}

impl LoopPeers {
    /// Takes note of a probe; false if it has been here before.
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

    /// Whether a loop is news.
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
    fn a_probe_is_new_once_until_many_others_have_come_by() {
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
