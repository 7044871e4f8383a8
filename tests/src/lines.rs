//! The output of a child process, collected line by line while it runs.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::clock::{PATIENCE, Stopwatch};

/// The lines of one stream so far; clones see the same lines.
#[derive(Clone)]
pub(crate) struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    arrived: Condvar,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ended: bool,
    lines: Vec<String>,
}

impl Lines {
    /// Collects from `stream` on a thread of its own until the stream ends.
    pub(crate) fn collect(stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            arrived: Condvar::new(),
            state: Mutex::default(),
        });
        let writer = Self {
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                writer
                    .lock()
                    .lines
                    .push(String::from_utf8_lossy(&line).trim_end().to_owned());
                writer.shared.arrived.notify_all();
                line.clear();
            }
            writer.lock().ended = true;
            writer.shared.arrived.notify_all();
        });
        Self { shared }
    }

    /// How many lines contain `needle`.
    pub(crate) fn count(&self, needle: &str) -> usize {
        self.lock()
            .lines
            .iter()
            .filter(|line| line.contains(needle))
            .count()
    }

    /// All lines so far.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Waits for the end of the stream and returns all of it.
    #[track_caller]
    pub(crate) fn to_end(&self) -> String {
        self.wait("the end of the output", |state| {
            state.ended.then(|| state.lines.join("\n"))
        })
    }

    /// Waits until `pick` finds something among the lines; `None` if the stream ends before.
    #[track_caller]
    pub(crate) fn find<T>(
        &self,
        what: &str,
        mut pick: impl FnMut(&[String]) -> Option<T>,
    ) -> Option<T> {
        self.wait(what, |state| match pick(&state.lines) {
            Some(found) => Some(Some(found)),
            None => state.ended.then_some(None),
        })
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, mut check: impl FnMut(&State) -> Option<T>) -> T {
        let watch = Stopwatch::start();
        let mut state = self.lock();
        loop {
            if let Some(answer) = check(&state) {
                return answer;
            }
            let Some(patience) = watch.patience() else {
                let seen = state.lines.join("\n");
                drop(state);
                panic!("waited {PATIENCE:?} for {what}; lines so far:\n{seen}");
            };
            let waited = self.shared.arrived.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        let skipped = state.lines.len().saturating_sub(LINES_SHOWN_MAX);
        if skipped > 0 {
            writeln!(f, "[{skipped} lines before]")?;
        }
        for line in &state.lines[skipped..] {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("len", &self.lock().lines.len())
            .finish()
    }
}

/// Whether `line` contains `needle`, and not only as the beginning of a longer number: a line with
/// port 45678 does not mention port 4567.
pub(crate) fn mentions(line: &str, needle: &str) -> bool {
    let is_digit = |one: char| one.is_ascii_digit();
    let ends_there = |rest: &str| !(needle.ends_with(is_digit) && rest.starts_with(is_digit));
    line.match_indices(needle)
        .any(|(at, _)| ends_there(&line[at + needle.len()..]))
}

/// A failing test prints only this many lines, the last ones; more would hide the failure.
const LINES_SHOWN_MAX: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_port_is_not_the_port_looked_for() {
        assert!(mentions("127.0.0.1:45678: closed", "127.0.0.1:45678"));
        assert!(mentions("closed 127.0.0.1:4567", "127.0.0.1:4567"));
        assert!(mentions("not :45678 but :4567.", ":4567"));
        assert!(!mentions("127.0.0.1:45678: closed", "127.0.0.1:4567"));
        assert!(mentions("(key 66z(U>@+…)", "(key "));
    }
}
