//! A log file that can be opened again, and a disk that may be full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zmtp::show;

use crate::output::Failure;

/// The log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    /// The last line was not written to its end.
    is_cut: bool,
    /// Lines that could not be written since the last one that was.
    lost: u64,
}

impl LogFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let file = open(&path).map_err(|error| {
            let path = shown(&path);
            Failure::Running(format!("--log-file: cannot open {path}: {error}"))
        })?;
        let state = State {
            file,
            is_cut: false,
            lost: 0,
        };
        Ok(Self {
            path,
            state: Mutex::new(state),
        })
    }

    /// Opens the file again, which another process may have renamed. If that fails, the log goes on
    /// in the former file.
    pub(super) fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.file = file;
                state.is_cut = false;
                drop(state);
                log::info!("opened the log file again (SIGUSR1)");
            }
            Err(error) => {
                let path = shown(&self.path);
                log::error!("cannot open {path} again: {error}; the log goes on in the old file");
            }
        }
    }
}

impl State {
    /// Writes a line, or counts it as lost.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_cut {
            self.file.write_all(b"\n")?;
            self.is_cut = false;
        }
        let written = self.file.write(line)?;
        if written < line.len() {
            self.is_cut = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl Write for &LogFile {
    /// Writes one line. A log that cannot be written does not stop the program: stderr gets the
    /// error, and the number of lost lines when the file can be written again.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.append(line) {
            Ok(()) => {
                let lost = std::mem::take(&mut state.lost);
                if lost > 0 {
                    complain(&self.path, &format!("works again, {lost} lines were lost"));
                }
            }
            Err(error) => {
                if state.lost == 0 {
                    let error = format!("cannot write: {error}; lines are lost until it works");
                    complain(&self.path, &error);
                }
                state.lost += 1;
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}

fn complain(path: &Path, what: &str) {
    // If stderr is closed too, there is no place left to say so.
    let _ = writeln!(io::stderr(), "zmqd: --log-file {}: {what}", shown(path));
}

fn shown(path: &Path) -> String {
    show(&path.display().to_string()).whole().to_string()
}
