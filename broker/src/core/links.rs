//! Connecting endpoints: each has a link, which is tried again until the broker stops.

use crate::config::{Endpoint, SocketOptions};
use crate::ids::{ConnId, SocketId};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

/// One connecting endpoint.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) backoff: Backoff,
    pub(crate) endpoint: Endpoint,
    /// The filter of its socket that restricts its subscriptions.
    pub(crate) filter: usize,
    /// A failure was reported and no success since: further failures are not reported.
    pub(crate) is_known_down: bool,
    /// The log has reported that the peer is late with its greeting, and no handshake was completed
    /// since.
    pub(crate) is_known_silent: bool,
    /// It closed a loop when it was last up, so it comes back on trial.
    pub(crate) is_looped: bool,
    pub(crate) socket: SocketId,
    /// Its queue while the peer is not connected, if the options ask for one.
    pub(crate) queue_while_down: Option<ConnId>,
    pub(crate) state: LinkState,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The driver connects.
    Connecting,
    /// This connection exists, before or after its handshake.
    Up(ConnId),
    /// It waits until this time.
    Waiting(Instant),
}

/// The wait before the next attempt: it doubles after each failure, up to a maximum, and each wait
/// is shortened by up to half at random, so that the clients of a server do not reconnect together.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    first: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(options: &SocketOptions) -> Self {
        let first = options.reconnect_ivl.max(Duration::from_millis(1));
        Self {
            failures: 0,
            first,
            max: options.reconnect_ivl_max.max(first),
        }
    }

    /// The next wait, shortened at random.
    pub(crate) fn next(&mut self, random: &mut Random) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let wait = self.first.saturating_mul(factor).min(self.max);
        self.failures = (self.failures + 1).min(31);
        let half = wait / 2;
        half + half.mul_f64(random.fraction())
    }

    /// A handshake was completed: the next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Numbers that cannot be predicted from earlier ones without the seed: hashes of the seed and a
/// count.
#[derive(Debug)]
pub(crate) struct Random {
    count: u64,
    seed: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { count: 0, seed }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, self.count).hash(&mut hasher);
        hasher.finish()
    }

    /// A random number.
    pub(crate) fn number(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap_or_default()
    }

    /// A number that is never drawn twice.
    pub(crate) fn wide_number(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// A number from 0 up to, but not including, 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(self.number()) / 2_f64.powi(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_over() {
        let (mut backoff, mut random) = (Backoff::new(&SocketOptions::default()), Random::new(7));
        for wait_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            let wait = backoff.next(&mut random).as_secs_f64() * 1000.0;
            let full = f64::from(wait_ms);
            assert!(wait >= full / 2.0 && wait < full, "{wait} of {full}");
        }
        backoff.reset();
        assert!(backoff.next(&mut random) < Duration::from_millis(100));
        for _ in 0..100 {
            backoff.next(&mut random);
        }
    }
}
