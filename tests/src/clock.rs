//! The only place where tests look at the clock.
#![expect(
    clippy::disallowed_methods,
    reason = "the processes under test live in real time, so their deadlines do too"
)]

use std::thread;
use std::time::{Duration, Instant};

/// How long any fact may take to come true before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Counts up from zero; for deadlines and for the few facts that are durations.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Begins to count.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// What is left of [`PATIENCE`], or `None` once it has run out.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        PATIENCE
            .checked_sub(self.elapsed())
            .filter(|left| !left.is_zero())
    }
}

/// Asks again and again until `check` has an answer, and returns it.
///
/// # Panics
///
/// After [`PATIENCE`], naming `what` was waited for.
#[track_caller]
pub fn wait_until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = check() {
            return answer;
        }
        assert!(
            watch.patience().is_some(),
            "waited {PATIENCE:?} in vain for {what}"
        );
        thread::sleep(Duration::from_millis(2)); // between two looks; no test depends on it
    }
}
