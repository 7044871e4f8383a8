//! The time, as far as the driver has told it.

use std::time::{Duration, Instant};

/// A clock that never goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    began_at: Instant,
    now: Instant,
    /// See [`Self::stamp`].
    stamp: u64,
    /// See [`Self::unix`].
    unix: Duration,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began_at: now,
            now,
            stamp: 0,
            unix: Duration::ZERO,
        }
    }

    /// Moves the clock to `now`, unless it is later already.
    #[inline]
    pub(super) fn advance(&mut self, now: Instant) -> Instant {
        if now > self.now {
            self.now = now;
            let since = now - self.began_at;
            let micros = u64::from(since.subsec_nanos().div_ceil(1000));
            self.stamp = since.as_secs().saturating_mul(1_000_000) + micros;
        }
        self.now
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// The time since the beginning of 1970, as the driver has told it last; zero if it has not.
    pub(super) fn unix(&self) -> Duration {
        self.unix
    }

    /// The same in nanoseconds.
    pub(super) fn unix_nanos(&self) -> u64 {
        u64::try_from(self.unix.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn set_unix(&mut self, unix: Duration) {
        self.unix = unix;
    }

    /// The time since the beginning.
    pub(super) fn uptime(&self) -> Duration {
        self.now - self.began_at
    }

    /// Microseconds since the beginning, rounded up, so that nothing stamped with them seems older
    /// than it is.
    pub(super) fn stamp(&self) -> u64 {
        self.stamp
    }

    /// The latest stamp of a message that is at least this old; [`None`] if no message can be.
    pub(super) fn stamp_before(&self, age: Duration) -> Option<u64> {
        let since = (self.now - self.began_at).checked_sub(age)?;
        u64::try_from(since.as_micros()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant works: the test moves it"
    )]
    fn messages_below_an_age_never_count_as_old() {
        let start = Instant::now();
        let mut clock = Clock::new(start);
        let age = Duration::from_micros(5);
        for nanos in (0..20_000_u64).step_by(7) {
            clock.advance(start + Duration::from_nanos(nanos));
            let mut later = clock;
            for wait in [4_000, 4_999, 5_000, 6_000] {
                later.advance(clock.now() + Duration::from_nanos(wait));
                let is_old = later
                    .stamp_before(age)
                    .is_some_and(|it| clock.stamp() <= it);
                assert!(wait >= 5_000 || !is_old, "after {nanos} ns and {wait} ns");
                assert!(wait < 6_000 || is_old, "after {nanos} ns and {wait} ns");
            }
        }
        assert_eq!(clock.advance(start), clock.now(), "it does not go back");
    }
}
