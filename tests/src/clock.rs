//! The clock of the tests; they read the time nowhere else.
#![expect(
    clippy::disallowed_methods,
    reason = "the processes under test live in real time, so their deadlines do too"
)]

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for a fact before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Measures time from its start, for deadlines and durations.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// Starts now.
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

    /// The rest of [`PATIENCE`], or `None` once it is over.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        PATIENCE
            .checked_sub(self.elapsed())
            .filter(|left| !left.is_zero())
    }
}

/// Beats at equal intervals. A late beat does not delay the next ones.
#[derive(Debug)]
pub struct Pace {
    beats: u32,
    interval: Duration,
    watch: Stopwatch,
}

impl Pace {
    /// Starts with a beat that is due now; the others follow at this interval.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            beats: 0,
            interval,
            watch: Stopwatch::start(),
        }
    }

    /// The stopwatch that times the beats.
    #[must_use]
    pub fn watch(&self) -> Stopwatch {
        self.watch
    }

    /// Waits for the next beat; returns when it was due, as time since the start.
    pub fn wait(&mut self) -> Duration {
        let due = self.interval * self.beats;
        self.beats += 1;
        if let Some(early) = due.checked_sub(self.watch.elapsed()) {
            thread::sleep(early);
        }
        due
    }
}

/// Does nothing for this time, as a stalled peer does.
pub fn idle(time: Duration) {
    thread::sleep(time);
}

/// Calls `check` again and again for at most this time; `None` if it never had an answer.
pub fn poll_for<T>(time: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = check() {
            return Some(answer);
        }
        if watch.elapsed() >= time {
            return None;
        }
        thread::sleep(Duration::from_millis(2)); // between two checks; no test depends on it
    }
}

/// Calls `check` again and again until it has an answer, and returns that.
///
/// # Panics
///
/// After [`PATIENCE`], with `what` in the message.
#[track_caller]
pub fn wait_until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = check() {
            return answer;
        }
        assert!(watch.patience().is_some(), "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(2)); // between two checks; no test depends on it
    }
}
