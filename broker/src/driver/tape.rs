//! Recordings with the time of the wall clock.

use crate::record::{self, Origin, Recorder, Statistics};
use std::time::{SystemTime, UNIX_EPOCH};

/// A recorder and its clock.
#[derive(Debug)]
pub(super) struct Tape {
    recorder: Recorder,
}

impl Tape {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder }
    }
}

impl record::Tape for Tape {
    fn flush(&mut self) {
        self.recorder.flush();
    }

    fn push(&mut self, origin: &Origin<'_>, parts: &[&[u8]]) {
        // The time is unknown before 1970 and after 2554.
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let time_ns = time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(0));
        self.recorder.push(time_ns, origin, parts);
    }

    fn statistics(&self) -> Statistics {
        self.recorder.statistics()
    }
}
