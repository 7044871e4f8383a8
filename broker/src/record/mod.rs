//! Recordings: forwarded messages in files, with time and sender.
//!
//! ```text
//! event loop ── push, flush ──► Recorder ══ batches ══► thread ── write(2) ──► FILE, FILE.000001
//!                                                                                │
//! zmqd sniff --read, replay, export ◄──────────────────────────── Reader ◄───────┘
//! ```
//!
//! [`Recorder::push`] only copies into memory of limited size, and never waits; messages beyond
//! that are counted, and the recording itself says how many are missing. A thread writes to the
//! file. [`Reader`] reads the file, even if it was damaged. `docs/recording.md` describes the
//! format, `format.rs` implements it.

mod format;
mod reader;
mod recorder;
mod rotation;

#[doc(hidden)]
pub mod fuzzing;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use format::{Direction, Lost, Message, Origin, RECORD_SIZE_MAX, VERSION};
pub use reader::{Damage, Entry, Fault, ReadError, Reader};
pub use recorder::{Ending, OpenError, Recorder, Statistics};

/// The file of a recording, and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordConfig {
    /// The age at which the next file begins, with the first message that arrives this long after
    /// the first one of the current file; `None` is never.
    pub age_max: Option<Duration>,
    /// Bytes that may wait to be written; messages beyond are lost and counted. A message longer
    /// than this is always lost.
    pub buffer_size_max: u64,
    /// The number of files to keep, including the current one; 0 is all.
    pub files_max: u32,
    /// The size at which the next file begins, before the current one would exceed it, unless it
    /// has no message yet; 0 is never.
    pub file_size_max: u64,
    /// The current file. Older ones are next to it as `PATH.000001`, `PATH.000002` and so on, the
    /// newest with the highest number. A target that is not a regular file, such as a pipe, is
    /// written to as it is, and does not rotate.
    pub path: PathBuf,
}

/// A recording, as the core uses it: the implementation knows the time, as a [`Recorder`] with the
/// driver's clock does.
pub trait Tape: std::fmt::Debug + Send {
    /// The turn is over.
    fn flush(&mut self);

    /// The current file, as it was configured.
    fn path(&self) -> &Path;

    /// A message goes on, given as the parts of its wire form.
    fn push(&mut self, origin: &Origin<'_>, parts: &[&[u8]]);

    /// Other limits apply from now on; the path is the same.
    fn set_limits(&mut self, config: &RecordConfig);

    /// The figures so far.
    fn statistics(&self) -> Statistics;
}

impl RecordConfig {
    /// The default size of the buffer.
    pub const BUFFER_SIZE_MAX: u64 = 64 << 20;

    /// One file without a size limit, with the default buffer.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            age_max: None,
            buffer_size_max: Self::BUFFER_SIZE_MAX,
            files_max: 0,
            file_size_max: 0,
            path: path.into(),
        }
    }
}
