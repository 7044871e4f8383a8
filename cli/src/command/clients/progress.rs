//! The progress of long sending, on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// A line on stderr that is written again and again.
#[derive(Debug)]
pub(super) struct Progress {
    /// When to write it; [`None`] without a terminal.
    due: Option<Instant>,
    is_shown: bool,
    size: u64,
    started: Instant,
}

const INTERVAL: Duration = Duration::from_secs(1);

impl Progress {
    /// `is_wanted` is false for a command that prints messages on the same terminal.
    pub(super) fn new(is_wanted: bool, now: Instant) -> Self {
        let has_place = is_wanted && io::stderr().is_terminal();
        Self {
            due: has_place.then(|| now + INTERVAL),
            is_shown: false,
            size: 0,
            started: now,
        }
    }

    /// The time for [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// A message of this size was sent.
    pub(super) fn count(&mut self, size: usize) {
        self.size += size as u64;
    }

    /// Writes the line if it is due.
    pub(super) fn handle_timeout(&mut self, sent: u64, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        self.due = Some(now + INTERVAL);
        if sent == 0 {
            return;
        }
        self.is_shown = true;
        let line = describe(sent, self.size, now.duration_since(self.started));
        // Without its reader the line has no purpose.
        drop(write!(io::stderr(), "\r{line}\x1b[K"));
    }

    /// Removes the line.
    pub(super) fn end(&mut self) {
        self.due = None;
        if std::mem::take(&mut self.is_shown) {
            drop(write!(io::stderr(), "\r\x1b[K"));
        }
    }
}

fn describe(sent: u64, size: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let (rate, size) = (sent as f64 / seconds, size as f64 / 1e6);
    format!(
        "{sent} messages, {size:.1} MB, {rate:.0} messages/s, {:.1} MB/s",
        size / seconds
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test begins at any moment")]

    use super::*;

    #[test]
    fn the_line_has_sums_and_rates() {
        assert_eq!(
            describe(1000, 2_500_000, Duration::from_secs(2)),
            "1000 messages, 2.5 MB, 500 messages/s, 1.2 MB/s"
        );
    }

    #[test]
    fn nothing_is_shown_without_a_terminal() {
        let now = Instant::now();
        assert_eq!(Progress::new(false, now).poll_timeout(), None);
    }
}
