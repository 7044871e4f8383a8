//! The time at which each message is due.

use std::time::Duration;

/// The speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// A multiple of the recorded speed.
    Times(f64),
    /// Everything is due at once.
    Unlimited,
}

/// Computes when messages are due, relative to the beginning; it has no clock.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The time of the first message.
    first_ns: Option<u64>,
    /// The last due time, so that a clock that was set back does not change the order.
    last: Duration,
    pace: Pace,
}

impl Schedule {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            first_ns: None,
            last: Duration::ZERO,
            pace,
        }
    }

    /// When the message recorded at this time is due.
    pub(super) fn due(&mut self, time_ns: u64) -> Duration {
        let first_ns = *self.first_ns.get_or_insert(time_ns);
        if let Pace::Times(speed) = self.pace {
            let elapsed = Duration::from_nanos(time_ns.saturating_sub(first_ns));
            let scaled = Duration::try_from_secs_f64(elapsed.as_secs_f64() / speed);
            self.last = self.last.max(scaled.unwrap_or(DUE_MAX).min(DUE_MAX));
        }
        self.last
    }
}

/// A century: later times do not matter, and an `Instant` must be able to hold them.
const DUE_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_scaled_from_the_first_message_on() {
        for (speed, expected_ms) in [
            (1.0, [0, 10, 10, 10, 2000]),
            (2.0, [0, 5, 5, 5, 1000]),
            (0.5, [0, 20, 20, 20, 4000]),
        ] {
            let mut schedule = Schedule::new(Pace::Times(speed));
            let begin = 1_700_000_000_000_000_000;
            let times_ms = [0, 10, 10, 7, 2000];
            let due = times_ms.map(|ms| schedule.due(begin + ms * 1_000_000));
            assert_eq!(due, expected_ms.map(Duration::from_millis), "{speed}");
        }
    }

    #[test]
    fn everything_is_due_at_once_without_a_pace() {
        let mut schedule = Schedule::new(Pace::Unlimited);
        for time_ns in [5, 1_000_000_000, 0, u64::MAX] {
            assert_eq!(schedule.due(time_ns), Duration::ZERO);
        }
    }

    #[test]
    fn distant_times_do_not_overflow() {
        let mut schedule = Schedule::new(Pace::Times(1e-300));
        assert_eq!(schedule.due(0), Duration::ZERO);
        assert_eq!(schedule.due(u64::MAX), DUE_MAX);
    }
}
