//! Tells the log about peers that misbehave, without letting them flood it.

use crate::limits::REPORTS_PER_SECOND_MAX;
use std::time::{Duration, Instant};

/// How many reports may still be made; what is above is counted and summed up later.
#[derive(Debug)]
pub(crate) struct Reports {
    left: u32,
    since: Option<Instant>,
    suppressed: u64,
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            left: REPORTS_PER_SECOND_MAX,
            since: None,
            suppressed: 0,
        }
    }
}

impl Reports {
    /// Whether one more report may be made now.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= Duration::from_secs(1) {
            if self.suppressed > 0 {
                log::warn!(
                    "{} more closed peers were not reported one by one",
                    self.suppressed
                );
            }
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        if self.left == 0 {
            self.suppressed += 1;
            return false;
        }
        self.left -= 1;
        true
    }
}
