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

use std::path::Path;

pub use config::RecordConfig;
pub use format::{Direction, Lost, Message, Origin, RECORD_SIZE_MAX, VERSION};
pub use reader::{Damage, Entry, Fault, ReadError, Reader};
pub use recorder::{Ending, OpenError, Recorder, Statistics};

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
