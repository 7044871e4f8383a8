//! Recordings: passing messages in files, with their time and their sender.
//!
//! ```text
//! event loop ── push, flush ──► Recorder ══ batches ══► thread ── write(2) ──► FILE, FILE.000001
//!                                                                                │
//! zmqd sniff --read, replay, export ◄──────────────────────────── Reader ◄───────┘
//! ```
//!
//! [`Recorder::push`] only copies into memory that is bounded and never waits; what does not fit is
//! counted, and the recording itself says how much is missing. A thread writes to the file.
//! [`Reader`] reads it, whatever happened to it since. The format is described in
//! `docs/recording.md` and lives in `format.rs`.

mod format;
mod reader;
mod recorder;
mod rotation;

#[doc(hidden)]
pub mod fuzzing;

use std::path::PathBuf;
use std::time::Duration;

pub use format::{Direction, Lost, Message, Origin, RECORD_SIZE_MAX, VERSION};
pub use reader::{Damage, Entry, Fault, ReadError, Reader};
pub use recorder::{OpenError, Recorder, Statistics};

/// Where a recording goes and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordConfig {
    /// A file is closed and the next one begun with the first message that comes so long after
    /// its own first message; `None` is never.
    pub age_max: Option<Duration>,
    /// Bytes that may wait to be written; what comes when they are used up is lost and counted. A
    /// message longer than this is always lost.
    pub buffer_size_max: u64,
    /// How many files there may be, the one being written included; 0 is any number.
    pub files_max: u32,
    /// A file is closed and the next one begun before it would grow beyond so many bytes, unless
    /// it has no message yet; 0 is never.
    pub file_size_max: u64,
    /// The file being written. Older ones stand beside it as `PATH.000001`, `PATH.000002` and so
    /// on, the newest with the highest number. What is no regular file, a pipe for example, is
    /// written to as it is, and has no other files.
    pub path: PathBuf,
}

/// What a core shows the messages of a proxy to, with the time of its own; a [`Recorder`] that the
/// driver gave a clock, for example.
pub trait Tape: std::fmt::Debug + Send {
    /// Everything of this turn has passed.
    fn flush(&mut self);

    /// A message goes on, given as the parts of its wire form.
    fn push(&mut self, origin: &Origin<'_>, parts: &[&[u8]]);

    /// What it has come to so far.
    fn statistics(&self) -> Statistics;
}

impl RecordConfig {
    /// The buffer when nothing is configured.
    pub const BUFFER_SIZE_MAX: u64 = 64 << 20;

    /// One file that grows without a limit, with the default buffer.
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
