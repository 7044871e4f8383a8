//! Temporary files of tests.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::environment::target_dir;

/// A file under the target directory, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Writes a file with this text and this extension.
    #[must_use]
    pub fn new(extension: &str, text: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = target_dir().join(format!("scratch-{}-{number}.{extension}", process::id()));
        fs::write(&path, text).expect("the target directory can be written to");
        Self { path }
    }

    /// A file that does not exist yet.
    #[must_use]
    pub fn absent(extension: &str) -> Self {
        let scratch = Self::new(extension, "");
        fs::remove_file(&scratch.path).expect("the file exists");
        scratch
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path
            .to_str()
            .expect("the target directory has a name in UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path)); // fails only if the test has removed it
    }
}
