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

/// Beats at equal distances. A beat that comes late does not put off those behind it.
#[derive(Debug)]
pub struct Pace {
    beats: u32,
    interval: Duration,
    watch: Stopwatch,
}

impl Pace {
    /// The first beat is due now, the others follow at this interval.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            beats: 0,
            interval,
            watch: Stopwatch::start(),
        }
    }

    /// The stopwatch that the beats are counted by.
    #[must_use]
    pub fn watch(&self) -> Stopwatch {
        self.watch
    }

    /// Waits for the next beat and returns when it was due, counted from the start.
    pub fn wait(&mut self) -> Duration {
        let due = self.interval * self.beats;
        self.beats += 1;
        if let Some(early) = due.checked_sub(self.watch.elapsed()) {
            thread::sleep(early);
        }
        due
    }
}

/// Does nothing for this time, as a peer does that stalls.
pub fn idle(time: Duration) {
    thread::sleep(time);
}

/// Asks again and again for at most this time; `None` if there was no answer in it.
pub fn poll_for<T>(time: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = check() {
            return Some(answer);
        }
        if watch.elapsed() >= time {
            return None;
        }
        thread::sleep(Duration::from_millis(2)); // between two looks; no test depends on it
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
