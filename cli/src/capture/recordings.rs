//! Recordings; several are read as if they were one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker::record::{Entry, Fault, Message, Reader};

use super::OwnedMessage;
use crate::output::Failure;

/// Messages of one or more files in the order of their times.
#[derive(Debug)]
pub(crate) struct Recordings {
    damaged: u64,
    files: Vec<Open>,
}

/// The state of the recordings after reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// All bytes were valid.
    Intact,
    /// The number of damaged places.
    Damaged(u64),
}

/// A file and its next message.
#[derive(Debug)]
struct Open {
    next: Option<OwnedMessage>,
    path: PathBuf,
    reader: Reader<File>,
    /// The source of the last message, most often also that of the next.
    source: Arc<str>,
}

impl Recordings {
    /// Opens files and reads the beginning of each.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut recordings = Self {
            damaged: 0,
            files: Vec::new(),
        };
        for path in paths {
            let file = File::open(path).map_err(|error| refuse(path, &error))?;
            let mut open = Open {
                next: None,
                path: path.clone(),
                reader: Reader::new(file),
                source: "".into(),
            };
            recordings.damaged += open.advance()?;
            recordings.files.push(open);
        }
        Ok(recordings)
    }

    /// Passes all messages to `take`, the earliest first, until it returns `false`.
    pub(crate) fn read(
        mut self,
        mut take: impl FnMut(&Message<'_>) -> Result<bool, Failure>,
    ) -> Result<Integrity, Failure> {
        loop {
            let waiting = self.files.iter_mut().filter(|file| file.next.is_some());
            let time = |file: &&mut Open| file.next.as_ref().map(|next| next.message().time_ns);
            // If times are equal, the file named first comes first.
            let Some(file) = waiting.min_by_key(time) else {
                break;
            };
            if let Some(next) = &file.next
                && !take(&next.message())?
            {
                break;
            }
            self.damaged += file.advance()?;
        }
        Ok(match self.damaged {
            0 => Integrity::Intact,
            damaged => Integrity::Damaged(damaged),
        })
    }
}

impl Integrity {
    /// Fails if anything was damaged; the log has the details by then.
    pub(crate) fn check(self) -> Result<(), Failure> {
        match self {
            Self::Intact => Ok(()),
            Self::Damaged(1) => Err(Failure::Running("the recording is damaged".to_owned())),
            Self::Damaged(places) => Err(Failure::Running(format!(
                "the recording is damaged in {places} places"
            ))),
        }
    }
}

impl Open {
    /// Advances to the next message; returns the number of damaged places before it.
    fn advance(&mut self) -> Result<u64, Failure> {
        let (mut damaged, path) = (0, self.path.display());
        let last = self.next.take();
        self.next = loop {
            match self
                .reader
                .read()
                .map_err(|error| refuse(&self.path, &error))?
            {
                Some(Entry::Message(message)) => {
                    if *self.source != *message.origin.source {
                        self.source = message.origin.source.into();
                    }
                    let user = last.as_ref().and_then(OwnedMessage::user);
                    break Some(OwnedMessage::new(&message, &self.source, user));
                }
                Some(Entry::Lost(lost)) => log::warn!(
                    "{path}: {} messages of {} bytes are missing here, they were not recorded",
                    lost.messages,
                    lost.bytes
                ),
                Some(Entry::Damage(damage)) => match damage.fault {
                    Fault::Corrupt => {
                        log::error!("{path}: {damage}");
                        damaged += 1;
                    }
                    Fault::Unfinished => log::warn!("{path}: {damage}"),
                },
                None => break None,
            }
        };
        Ok(damaged)
    }
}

fn refuse(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Running(format!("cannot read {}: {error}", path.display()))
}
