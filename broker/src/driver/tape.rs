//! Recordings with the time of the wall clock.

use crate::record::{self, Ending, Origin, RecordConfig, Recorder, Statistics};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A recorder and its clock.
#[derive(Debug)]
pub(super) struct Tape {
    endings: Endings,
    recorder: Recorder,
}

/// Threads of recordings that have ended, and may still write. The event loop waits for none of
/// them; the broker does when it is dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Endings(Arc<Mutex<Vec<Ending>>>);

impl Endings {
    fn add(&self, ending: Ending) {
        let mut endings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        endings.retain(|ending| !ending.is_over());
        endings.push(ending);
    }
}

impl Tape {
    pub(super) fn new(recorder: Recorder, endings: &Endings) -> Self {
        Self {
            endings: endings.clone(),
            recorder,
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.endings.add(self.recorder.end());
    }
}

/// The time since the beginning of 1970; zero if the clock is before that.
pub(super) fn unix_time() -> Duration {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.unwrap_or_default()
}

impl record::Tape for Tape {
    fn flush(&mut self) {
        self.recorder.flush();
    }

    fn path(&self) -> &Path {
        self.recorder.path()
    }

    fn push(&mut self, origin: &Origin<'_>, parts: &[&[u8]]) {
        // The time is unknown after 2554.
        let time_ns = u64::try_from(unix_time().as_nanos()).unwrap_or(0);
        self.recorder.push(time_ns, origin, parts);
    }

    fn set_limits(&mut self, config: &RecordConfig) {
        self.recorder.set_limits(config);
    }

    fn statistics(&self) -> Statistics {
        self.recorder.statistics()
    }
}
