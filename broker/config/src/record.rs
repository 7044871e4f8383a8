//! Recordings of passing messages.

use std::path::PathBuf;
use std::time::Duration;

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
