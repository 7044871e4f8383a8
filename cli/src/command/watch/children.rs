//! The processes that a watch starts, each in a process group of its own.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Child, ExitStatus, Stdio};

use mio::unix::pipe::{self, Receiver};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use watch::config::Command;
use watch::{Outcome, RunId};

use super::sources::Progress;

/// The processes that run.
#[derive(Debug, Default)]
pub(super) struct Children {
    runs: BTreeMap<RunId, Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    is_service: bool,
    written: Written,
}

/// The end of what a process wrote.
#[derive(Debug, Default)]
struct Written {
    bytes: Vec<u8>,
}

/// Bytes that are kept of what a process writes.
const WRITTEN_MAX: usize = 4 << 10;

/// Bytes that are read from one pipe before others have their turn.
const READ_SIZE: usize = 16 << 10;

/// The most that a pipe holds, unless its owner makes it larger than usual.
const PIPE_SIZE_MAX: usize = 64 << 10;

/// Variables that commands get from this process; everything else is left out.
const VARIABLES: [&str; 9] = [
    "HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER",
];

impl Children {
    /// Starts a command; returns the end of the pipe that it writes to.
    pub(super) fn start(
        &mut self,
        id: RunId,
        command: &Command,
        environment: Vec<(&'static str, String)>,
        is_service: bool,
    ) -> io::Result<Receiver> {
        let (sender, receiver) = pipe::new()?;
        sender.set_nonblocking(false)?;
        let stdout = OwnedFd::from(sender);
        let stderr = stdout.try_clone()?;
        let variables = VARIABLES.into_iter();
        let kept = variables.filter_map(|name| env::var_os(name).map(|value| (name, value)));
        let child = process::Command::new(command.program())
            .args(command.0.iter().skip(1))
            .env_clear()
            .envs(kept)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()?;
        let running = Running {
            child,
            is_service,
            written: Written::default(),
        };
        self.runs.insert(id, running);
        Ok(receiver)
    }

    /// Reads some of what a process, or one that it has left behind, has written; [`None`]: nothing
    /// follows.
    pub(super) fn read(&mut self, id: RunId, pipe: &mut Receiver) -> Option<Progress> {
        let mut buffer = [0; READ_SIZE];
        match pipe.read(&mut buffer) {
            Ok(0) => None,
            Ok(size) => {
                if let Some(running) = self.runs.get_mut(&id) {
                    running.written.append(&buffer[..size]);
                }
                Some(Progress::More)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(Progress::More),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(Progress::Waits),
            Err(_) => None,
        }
    }

    /// Reads the rest of what a process that has ended has written, which is what a pipe holds.
    /// Processes that it has left behind may write without end.
    pub(super) fn read_rest(&mut self, id: RunId, pipe: &mut Receiver) {
        for _ in 0..PIPE_SIZE_MAX / READ_SIZE {
            if self.read(id, pipe) != Some(Progress::More) {
                return;
            }
        }
    }

    /// Sends a signal to the process group of a command that runs.
    pub(super) fn signal(&self, id: RunId, signal: watch::Signal) {
        if let Some(running) = self.runs.get(&id) {
            let signal = match signal {
                watch::Signal::Kill => Signal::SIGKILL,
                watch::Signal::Term => Signal::SIGTERM,
            };
            running.signal(signal);
        }
    }

    /// The processes that have ended; `drain` reads the rest of what each wrote. As the first
    /// process of a system, this one also takes the ends of those whose parents are gone.
    pub(super) fn ended(
        &mut self,
        mut drain: impl FnMut(&mut Self, RunId),
    ) -> Vec<(RunId, Outcome, String)> {
        let ids: Vec<RunId> = self.runs.keys().copied().collect();
        let mut ended = Vec::new();
        for id in ids {
            let status = self.runs.get_mut(&id).and_then(Running::end);
            if let Some(status) = status {
                drain(self, id);
                if let Some(running) = self.runs.remove(&id) {
                    ended.push((id, outcome(status), running.written.text()));
                }
            }
        }
        if process::id() == 1 {
            self.reap_orphans();
        }
        ended
    }

    fn reap_orphans(&self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let is_own = |pid: Pid| {
            let mut runs = self.runs.values();
            runs.any(|running| running.pid() == pid)
        };
        while let Ok(status) = waitid(Id::All, flags) {
            match status.pid() {
                Some(pid) if !is_own(pid) => drop(waitpid(pid, Some(WaitPidFlag::WNOHANG))),
                _ => return,
            }
        }
    }
}

impl Running {
    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    fn signal(&self, signal: Signal) {
        // It fails only if no process of the group is left.
        let _ = killpg(self.pid(), signal);
    }

    /// The status of the process if it has ended. What a service has left behind in its group is
    /// killed first: the number of the group belongs to it as long as its end is not taken.
    fn end(&mut self) -> Option<ExitStatus> {
        if self.is_service {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            match waitid(Id::Pid(self.pid()), flags) {
                Ok(WaitStatus::StillAlive) => return None,
                _ => self.signal(Signal::SIGKILL),
            }
        }
        self.child.try_wait().ok().flatten()
    }
}

fn outcome(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, signal) => Outcome::Signalled(signal.unwrap_or_default()),
    }
}

impl Written {
    fn append(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(WRITTEN_MAX)..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(WRITTEN_MAX);
        self.bytes.drain(..excess);
        self.bytes.extend_from_slice(bytes);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The kernel tells of new bytes only: what a turn leaves has to follow without another event.
    #[test]
    fn what_one_turn_does_not_read_follows_in_the_next() {
        let (mut sender, mut receiver) = pipe::new().unwrap();
        sender.write_all(&[b'x'; 2 * READ_SIZE]).unwrap();
        let mut children = Children::default();
        let mut turn = || children.read(RunId::default(), &mut receiver);
        assert_eq!(turn(), Some(Progress::More));
        assert_eq!(turn(), Some(Progress::More));
        assert_eq!(turn(), Some(Progress::Waits));
        drop(sender);
        assert_eq!(turn(), None);
    }

    #[test]
    fn the_end_of_what_is_written_is_kept() {
        let mut written = Written::default();
        written.append(b"first");
        assert_eq!(written.text(), "first");
        for size in [WRITTEN_MAX - 5, 1, 3 * WRITTEN_MAX] {
            written.append(&vec![b'x'; size]);
            assert!(written.bytes.len() <= WRITTEN_MAX);
        }
        written.append(b"last");
        assert_eq!(written.bytes.len(), WRITTEN_MAX);
        assert!(written.text().ends_with("xlast"));
    }
}
