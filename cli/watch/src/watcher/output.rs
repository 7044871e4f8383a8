//! What a [`super::Watcher`] asks its driver to do.

use std::fmt;
use std::path::PathBuf;

use crate::config::{Command, Url};

/// The handle of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub(super) u64);

/// The handle of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub(super) u64);

/// The state of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No sign of life so far.
    New,
    /// The last sign of life is younger than `after`.
    Up,
    /// A check found no sign of life; another has to confirm it.
    Late,
    /// Confirmed: no sign of life.
    Down,
    /// The action runs.
    Acting,
    /// The watch takes no action, by a command or because its proxy is paused.
    Paused,
    /// Too many actions did not help: no more follow until a sign of life or a command.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::New,
        Self::Up,
        Self::Late,
        Self::Down,
        Self::Acting,
        Self::Paused,
        Self::Failed,
    ];

    /// The name in answers, events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Up => "up",
            Self::Late => "late",
            Self::Down => "down",
            Self::Acting => "acting",
            Self::Paused => "paused",
            Self::Failed => "failed",
        }
    }
}

/// The level of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A person has to act.
    Error,
    /// A service is down, or a command failed.
    Warn,
    /// Everything else.
    Info,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this code.
    Exited(i32),
    /// It does not end, even after KILL.
    Held,
    /// It could not be started, for this reason.
    NotStarted(String),
    /// A signal ended it.
    Signalled(i32),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with code {code}"),
            Self::Held => f.write_str("does not end after KILL"),
            Self::NotStarted(reason) => write!(f, "could not be started: {reason}"),
            Self::Signalled(signal) => write!(f, "was ended by signal {signal}"),
        }
    }
}

/// A signal for a process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Term,
}

/// A change that others may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The name: that of a state, or `acted`, `recovered`, `resumed` or `storm`.
    pub kind: &'static str,
    /// Why.
    pub reason: String,
    /// The state that the watch is in now.
    pub state: Option<State>,
    /// The watch; empty if the event concerns all.
    pub watch: String,
    /// Where it is posted; [`None`]: where all events are.
    pub webhook: Option<Url>,
}

impl Event {
    pub(super) fn storm(reason: String, webhook: Option<Url>) -> Self {
        Self {
            kind: "storm",
            reason,
            state: None,
            watch: String::new(),
            webhook,
        }
    }
}

/// A request to the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look whether the process runs whose number is in this file, and call
    /// [`super::Watcher::handle_process`].
    CheckPidFile {
        /// The file.
        path: PathBuf,
        /// The watch.
        watch: WatchId,
    },
    /// Tell others.
    Event(Event),
    /// Write a line of the log.
    Log(Level, String),
    /// Start a command in a process group of its own, and call [`super::Watcher::handle_exit`] when
    /// it has ended or could not be started.
    Run {
        /// The program and its arguments.
        command: Command,
        /// Variables, besides those that every command gets.
        environment: Vec<(&'static str, String)>,
        /// The handle for [`Self::Signal`] and the end.
        id: RunId,
        /// Whether it is a service: what remains of its process group when it ends is killed.
        is_service: bool,
    },
    /// Send a signal to the process group of a command.
    Signal(RunId, Signal),
}

impl Output {
    /// The question to systemd whether a unit is active.
    pub(super) fn probe(id: RunId, unit: &str) -> Self {
        let words = ["systemctl", "is-active", "--quiet", "--", unit];
        Self::Run {
            command: Command(words.map(str::to_owned).to_vec()),
            environment: Vec::new(),
            id,
            is_service: false,
        }
    }
}
