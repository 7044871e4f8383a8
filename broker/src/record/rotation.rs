//! The files of a recording: the current one, and older ones next to it.

use crate::sort;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::format;

/// Digits of the numbers after the names, so that listings stay in order for long.
const DIGITS: usize = 6;

/// Names and numbers, for renaming and removing files.
#[derive(Debug)]
pub(super) struct Files {
    files_max: u32,
    /// Whether the path is a regular file, which can be renamed and truncated.
    is_regular: bool,
    path: PathBuf,
}

/// A file that is being written; its first record was written.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    /// Its size: that of whole records.
    size: u64,
}

impl Files {
    pub(super) fn new(path: &Path, files_max: u32) -> Self {
        let is_regular = fs::metadata(path).map_or(true, |data| data.is_file());
        Self {
            files_max,
            is_regular,
            path: path.to_owned(),
        }
    }

    /// Keeps this number of files from the next one on; zero is all.
    pub(super) fn set_count(&mut self, files_max: u32) {
        self.files_max = files_max;
    }

    /// Whether another file can be begun.
    pub(super) fn can_rotate(&self) -> bool {
        self.is_regular
    }

    /// Begins a file. An existing file at its path becomes the newest of the older files, of which
    /// only the configured number is kept.
    pub(super) fn begin(&self) -> io::Result<Open> {
        let mut options = OpenOptions::new();
        options.append(true).mode(MODE);
        if self.is_regular {
            self.set_aside()?;
            options.create_new(true);
        }
        let file = options.open(&self.path)?;
        if self.is_regular {
            // Held while the file is open. An earlier file keeps its own lock.
            file.try_lock()?;
        }
        let mut open = Open::of(file);
        let mut begin = Vec::new();
        format::append_begin(&mut begin);
        format::seal(&mut begin);
        if let Err(error) = open.write(&begin) {
            if self.is_regular {
                // Otherwise each attempt on a full disk would leave another file behind.
                drop(fs::remove_file(&self.path));
            }
            return Err(error);
        }
        Ok(open)
    }

    /// Renames the file at the path, unless it is empty, and removes the oldest files.
    fn set_aside(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(data) if data.len() == 0 => fs::remove_file(&self.path)?,
            Ok(_) => {
                let next = self
                    .numbers()?
                    .last()
                    .map_or(1, |last| last.saturating_add(1));
                fs::rename(&self.path, self.numbered(next))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.files_max > 0 {
            let numbers = self.numbers()?;
            let kept = self.files_max as usize - 1;
            for number in &numbers[..numbers.len().saturating_sub(kept)] {
                fs::remove_file(self.numbered(*number))?;
            }
        }
        Ok(())
    }

    /// The numbers of the older files, in order.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut stem = self.path.file_name().unwrap_or_default().to_owned();
        stem.push(".");
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let digits = name
                .as_encoded_bytes()
                .strip_prefix(stem.as_encoded_bytes())
                .filter(|digits| digits.len() >= DIGITS && digits.iter().all(u8::is_ascii_digit))
                .and_then(|digits| str::from_utf8(digits).ok());
            numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
        }
        sort::by_key(&mut numbers, |number| *number);
        Ok(numbers)
    }

    fn numbered(&self, number: u64) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number:0DIGITS$}"));
        name.into()
    }

    /// Makes sure that no other process writes to the file at the path.
    pub(super) fn check_vacant(&self) -> io::Result<()> {
        // Opening a pipe would wait for its other end.
        if !self.is_regular {
            return Ok(());
        }
        match File::open(&self.path) {
            Ok(file) => match file.try_lock() {
                Err(TryLockError::WouldBlock) => Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another recording is being written there; end it, or choose another file",
                )),
                outcome => Ok(outcome?),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Open {
    pub(super) fn of(file: File) -> Self {
        Self { file, size: 0 }
    }

    /// Appends whole records, in one system call if the kernel takes them all at once.
    ///
    /// # Errors
    /// Some of them may be in the file then, which must be truncated before the next write.
    pub(super) fn write(&mut self, records: &[u8]) -> io::Result<()> {
        self.file.write_all(records)?;
        self.size += records.len() as u64;
        Ok(())
    }

    /// Removes the half record that a failed write of `records` left behind. Whole records stay;
    /// returns their size.
    ///
    /// # Errors
    /// The file cannot be truncated.
    pub(super) fn cut(&mut self, records: &[u8]) -> io::Result<usize> {
        let written = self.file.metadata()?.len().saturating_sub(self.size);
        let written = usize::try_from(written).unwrap_or(usize::MAX);
        let mut kept = 0;
        while let Some((_, size)) = format::first(&records[kept..])
            && kept + size <= written
        {
            kept += size;
        }
        self.file.set_len(self.size + kept as u64)?;
        self.size += kept as u64;
        Ok(kept)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// Only the user of the broker may read messages.
const MODE: u32 = 0o600;
