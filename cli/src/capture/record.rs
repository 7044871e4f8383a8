//! The options for recording.

use std::path::PathBuf;
use std::time::Duration;

use broker::record::RecordConfig;

use crate::value::{size, time};

// The recording, and its limits.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// Record messages to a file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Size at which another file begins; 0: never
    #[arg(long, value_name = "SIZE", default_value = "0", requires = "record")]
    #[arg(value_parser = size)]
    record_size: u64,
    /// Age at which another file begins; 0: never
    #[arg(long, value_name = "TIME", default_value = "0", requires = "record")]
    #[arg(value_parser = time)]
    record_age: Duration,
    /// Files to keep, the newest included; 0: all
    #[arg(long, value_name = "N", default_value = "0", requires = "record")]
    record_files: u32,
}

impl RecordArgs {
    /// The configuration of the recording, if one was requested.
    pub(crate) fn config(&self) -> Option<RecordConfig> {
        self.record.as_ref().map(|path| RecordConfig {
            age_max: Some(self.record_age).filter(|age| !age.is_zero()),
            file_size_max: self.record_size,
            files_max: self.record_files,
            ..RecordConfig::new(path)
        })
    }
}
