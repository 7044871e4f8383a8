//! A log file: opened again on demand, rotated by size and age, and a disk that may be full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zmtp::show;

/// The log file. Closed files are called `PATH.1`, the latest, to `PATH.N`.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    /// The last line was not written to its end.
    is_cut: bool,
    /// Lines that could not be written since the last one that was.
    lost: u64,
    /// The begin of the file: its creation, where the file system knows that.
    opened: Instant,
    path: PathBuf,
    rotation: Option<Rotation>,
    size: u64,
}

/// When a file is closed for the next one, and how many closed files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// The age at which a file is closed; zero: at any age.
    pub(crate) age_max: Duration,
    /// Closed files that are kept.
    pub(crate) files_max: u32,
    /// The number of bytes that a file does not exceed, except by its only line; zero: at any size.
    pub(crate) size_max: u64,
}

impl LogFile {
    /// Opens the file, at the end of what it has.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(
        path: PathBuf,
        rotation: Option<Rotation>,
        now: Instant,
    ) -> io::Result<Self> {
        let file = append_to(&path)?;
        let mut opened = Self {
            file,
            is_cut: false,
            lost: 0,
            opened: now,
            path,
            rotation,
            size: 0,
        };
        opened.note_state(now);
        Ok(opened)
    }

    /// Opens the file again, which another process may have renamed. If that fails, the log goes on
    /// in the former file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn reopen(&mut self, now: Instant) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        self.note_state(now);
        Ok(())
    }

    /// Takes note of the size and age of the file that is open now.
    fn note_state(&mut self, now: Instant) {
        let state = self.file.metadata();
        self.size = state.as_ref().map_or(0, fs::Metadata::len);
        let created = state.and_then(|it| it.created());
        let age = created.ok().and_then(|at| at.elapsed().ok());
        // A file without a line has no age yet.
        let age = age.filter(|_| self.size > 0).unwrap_or_default();
        self.opened = now.checked_sub(age).unwrap_or(now);
        self.is_cut = false;
    }

    /// Writes one line, with its line end. A log that cannot be written does not stop the program:
    /// stderr gets the error, and the number of lost lines when the file can be written again.
    pub(super) fn write(&mut self, line: &[u8], now: Instant) {
        self.rotate_if_due(line.len() as u64, now);
        match self.append(line) {
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    self.complain(&format!("works again, {lost} lines were lost"));
                }
            }
            Err(error) => {
                if self.lost == 0 {
                    let error = format!("cannot write: {error}; lines are lost until it works");
                    self.complain(&error);
                }
                self.lost += 1;
            }
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_cut {
            self.file.write_all(b"\n")?;
            self.is_cut = false;
            self.size += 1;
        }
        let written = self.file.write(line)?;
        self.size += written as u64;
        if written < line.len() {
            self.is_cut = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Begins another file if the next line, of this size, does not belong into this one.
    fn rotate_if_due(&mut self, size: u64, now: Instant) {
        let Some(rotation) = self.rotation else {
            return;
        };
        let Rotation {
            age_max, size_max, ..
        } = rotation;
        let is_full = size_max > 0 && self.size.saturating_add(size) > size_max;
        let age = now.saturating_duration_since(self.opened);
        let is_old = age_max > Duration::ZERO && age >= age_max;
        if self.size == 0 || !(is_full || is_old) {
            return;
        }
        match rotate(&self.path, rotation.files_max) {
            Ok(file) => {
                self.file = file;
                self.is_cut = false;
            }
            Err(error) => {
                self.complain(&format!("cannot begin another file: {error}; it grows on"));
            }
        }
        // After a failure, the next attempt comes when the file has grown as much again.
        self.opened = now;
        self.size = 0;
    }

    fn complain(&self, what: &str) {
        // If stderr is closed too, the sentence is lost.
        let path = shown(&self.path);
        let _ = writeln!(io::stderr(), "zmqd: log file {path}: {what}");
    }

    /// The path, for messages.
    pub(super) fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// Renames the files, and opens the next one.
fn rotate(path: &Path, files_max: u32) -> io::Result<File> {
    if files_max == 0 {
        fs::remove_file(path)?;
    }
    for number in (0..files_max).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    append_to(path)
}

/// The name of a closed file; 0 is the open one.
fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}

fn shown(path: &Path) -> String {
    show(&path.display().to_string()).whole().to_string()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any time to count from")]
mod tests {
    use super::*;

    /// A log file that is removed with its closed files.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("zmqd-log-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn path(&self) -> PathBuf {
            self.0.join("a.log")
        }

        /// The sizes of the files, the open one first.
        fn sizes(&self) -> Vec<u64> {
            let found = |number| fs::metadata(numbered(&self.path(), number)).ok();
            (0..9).map_while(found).map(|found| found.len()).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn rotation(size_max: u64, age_max: Duration) -> Option<Rotation> {
        Some(Rotation {
            age_max,
            files_max: 2,
            size_max,
        })
    }

    #[test]
    fn files_rotate_by_size_and_the_oldest_goes() {
        let folder = Folder::new("size");
        let by_size = rotation(10, Duration::ZERO);
        let now = Instant::now();
        let mut file = LogFile::open(folder.path(), by_size, now).unwrap();
        for expected in [
            vec![5],
            vec![10],
            vec![5, 10],
            vec![10, 10],
            vec![5, 10, 10],
            vec![10, 10, 10],
            vec![5, 10, 10],
        ] {
            file.write(b"four\n", now);
            assert_eq!(folder.sizes(), expected);
        }
        file.write(b"longer than the limit\n", now);
        assert_eq!(folder.sizes(), [22, 5, 10]);
        let mut again = LogFile::open(folder.path(), by_size, now).unwrap();
        again.write(b"four\n", now);
        assert_eq!(folder.sizes(), [5, 22, 5], "a full file is not appended to");
    }

    #[test]
    fn files_rotate_by_age() {
        let folder = Folder::new("age");
        let now = Instant::now();
        let by_age = rotation(0, Duration::from_secs(60));
        let mut file = LogFile::open(folder.path(), by_age, now).unwrap();
        for second in [0, 59, 60, 119, 120] {
            file.write(b"four\n", now + Duration::from_secs(second));
        }
        assert_eq!(folder.sizes(), [5, 10, 10]);
    }

    #[test]
    fn a_file_that_cannot_rotate_is_written_on() {
        let folder = Folder::new("stays");
        let now = Instant::now();
        let by_size = rotation(10, Duration::ZERO);
        let mut file = LogFile::open(folder.path(), by_size, now).unwrap();
        // Folders with something in them are in the places of the closed files.
        for number in [1, 2] {
            fs::create_dir_all(numbered(&folder.path(), number).join("a")).unwrap();
        }
        for _ in 0..5 {
            file.write(b"four\n", now);
        }
        assert_eq!(fs::metadata(folder.path()).unwrap().len(), 25);
    }

    #[test]
    fn a_file_that_was_renamed_is_opened_again() {
        let folder = Folder::new("again");
        let now = Instant::now();
        let mut file = LogFile::open(folder.path(), None, now).unwrap();
        file.write(b"one\n", now);
        fs::rename(folder.path(), numbered(&folder.path(), 1)).unwrap();
        file.write(b"two\n", now);
        file.reopen(now).unwrap();
        file.write(b"three\n", now);
        assert_eq!(folder.sizes(), [6, 8]);
        fs::remove_dir_all(&folder.0).unwrap();
        assert!(file.reopen(now).is_err());
    }
}
