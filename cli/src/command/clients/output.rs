//! The printed messages: lines, bare bytes, or files.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use broker::record::{Message, Origin};
use zmtp::Frames;

use super::Request;
use super::args::ShowArgs;
use crate::capture::show::{Form, Style, has_colour};
use crate::capture::{split, time};
use crate::logger::Verbosity;
use crate::output::{Failure, print_bytes};

/// Where messages go.
#[derive(Debug)]
pub(super) struct Output {
    kind: Kind,
    /// Pending lines.
    lines: String,
    /// The number of messages.
    number: u64,
    /// Pending bytes.
    raw: Vec<u8>,
}

#[derive(Debug)]
enum Kind {
    Files(PathBuf),
    Lines(Style),
    Nothing,
    Raw,
}

/// Pending bytes that are written at once.
const PENDING_SIZE: usize = 64 << 10;

/// An empty buffer keeps at most this much memory.
const KEPT_SIZE_MAX: usize = 256 << 10;

impl Output {
    /// # Errors
    /// The folder for the frames cannot be made.
    pub(super) fn new(request: &Request<'_>, verbosity: Verbosity) -> Result<Self, Failure> {
        let kind = match request.show {
            None => Kind::Nothing,
            Some(show) => Kind::of(show, request, verbosity)?,
        };
        Ok(Self {
            kind,
            lines: String::new(),
            number: 0,
            raw: Vec::new(),
        })
    }

    /// Whether anything is printed.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.kind, Kind::Nothing)
    }

    /// Whether [`Self::flush`] has something to do.
    pub(super) fn is_pending(&self) -> bool {
        !self.lines.is_empty() || !self.raw.is_empty()
    }

    /// Shows a message in wire form; its first frame is an identity if it `is_routed`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn show(
        &mut self,
        wire: &[u8],
        source: &str,
        is_routed: bool,
    ) -> Result<(), Failure> {
        self.number += 1;
        let message = Message {
            frames: wire,
            origin: Origin {
                is_routed,
                ..Origin::of(source)
            },
            time_ns: time::now_ns(),
        };
        match &self.kind {
            Kind::Files(folder) => write_files(folder, self.number, split(&message).1)?,
            Kind::Lines(style) => style.append(&mut self.lines, &message, None),
            Kind::Nothing => {}
            Kind::Raw => {
                for frame in split(&message).1 {
                    self.raw.extend_from_slice(frame.body);
                }
            }
        }
        if self.lines.len() + self.raw.len() >= PENDING_SIZE {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.is_pending() {
            print_bytes(self.lines.as_bytes())?;
            print_bytes(&self.raw)?;
            self.lines.clear();
            self.lines.shrink_to(KEPT_SIZE_MAX);
            self.raw.clear();
            self.raw.shrink_to(KEPT_SIZE_MAX);
        }
        Ok(())
    }
}

impl Kind {
    fn of(show: &ShowArgs, request: &Request<'_>, verbosity: Verbosity) -> Result<Self, Failure> {
        if let Some(folder) = &show.dump {
            fs::create_dir_all(folder).map_err(|error| refuse(folder, &error))?;
            return Ok(Self::Files(folder.clone()));
        }
        if show.raw {
            return Ok(Self::Raw);
        }
        if verbosity.quiet > 0 {
            return Ok(Self::Nothing);
        }
        let form = match (request.common.json, show.hex, verbosity.verbose) {
            (true, _, _) => Form::Json,
            (_, true, _) => Form::Hex,
            (_, _, 0) => Form::Frames,
            _ => Form::Line,
        };
        Ok(Self::Lines(Style {
            cut: usize::try_from(show.cut).unwrap_or(usize::MAX),
            has_colour: has_colour(),
            has_source: request.endpoints.len() > 1,
            form,
        }))
    }
}

/// Writes each frame into a file of its own, `00000001-1` for example.
fn write_files(folder: &Path, number: u64, frames: Frames<'_>) -> Result<(), Failure> {
    for (index, frame) in frames.enumerate() {
        let path = folder.join(format!("{number:08}-{}", index + 1));
        // A file that is there may be of an earlier run: it stays.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(frame.body));
        written.map_err(|error| refuse(&path, &error))?;
    }
    Ok(())
}

fn refuse(path: &Path, error: &std::io::Error) -> Failure {
    let name = path.display().to_string();
    let shown = zmtp::show(&name);
    Failure::Running(match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already: name an empty folder", shown.whole())
        }
        _ => format!("cannot write {}: {error}", shown.whole()),
    })
}
