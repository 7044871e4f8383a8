//! Commands that answer requests: each in a process of its own, a number of them at a time.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use zmtp::Frames;

use crate::client::{PeerId, Waker};

/// The running commands.
#[derive(Debug)]
pub(super) struct Jobs {
    argv: Arc<[OsString]>,
    count: usize,
    count_max: usize,
    done: Receiver<Done>,
    sender: Sender<Done>,
    waker: Arc<Waker>,
}

/// The end of a command.
#[derive(Debug)]
pub(super) struct Done {
    /// What goes in front of the reply, in wire form.
    pub(super) envelope: Vec<u8>,
    /// What it printed; an error if it cannot be started.
    pub(super) output: io::Result<Vec<u8>>,
    pub(super) peer: PeerId,
}

/// The largest output of a command.
const OUTPUT_SIZE_MAX: u64 = 128 << 20;

impl Jobs {
    pub(super) fn new(argv: Vec<OsString>, count_max: usize, waker: Arc<Waker>) -> Self {
        let (sender, done) = mpsc::channel();
        Self {
            argv: argv.into(),
            count: 0,
            count_max,
            done,
            sender,
            waker,
        }
    }

    /// The number of commands that run.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether no more command may start now.
    pub(super) fn is_full(&self) -> bool {
        self.count >= self.count_max
    }

    /// Starts the command for a request, whose body is in wire form.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(super) fn start(&mut self, peer: PeerId, envelope: &[u8], body: &[u8]) -> io::Result<()> {
        let (argv, sender) = (Arc::clone(&self.argv), self.sender.clone());
        let (waker, envelope) = (Arc::clone(&self.waker), envelope.to_vec());
        let mut input = Vec::with_capacity(body.len());
        for frame in Frames::new(body) {
            input.extend_from_slice(frame.body);
        }
        let job = move || {
            let done = Done {
                envelope,
                output: run(&argv, &input),
                peer,
            };
            if sender.send(done).is_ok() {
                drop(waker.wake());
            }
        };
        let thread = thread::Builder::new().name("command".to_owned());
        thread.spawn(job)?;
        self.count += 1;
        Ok(())
    }

    /// The next command that has ended.
    pub(super) fn poll(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        self.count -= 1;
        Some(done)
    }
}

/// Runs a command to its end, and returns what it printed. A failure of the command is logged: the
/// next request may be another one.
///
/// # Errors
/// It cannot be started.
fn run(argv: &[OsString], input: &[u8]) -> io::Result<Vec<u8>> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let mut output = Vec::new();
    let read = thread::scope(|scope| {
        // A command may print before it has read everything, or read nothing at all.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
        let Some(stdout) = stdout else {
            return Ok(());
        };
        let size = stdout.take(OUTPUT_SIZE_MAX + 1).read_to_end(&mut output);
        if size? as u64 > OUTPUT_SIZE_MAX {
            child.kill()?;
            return Err(io::Error::other(
                "it printed more than 128 MiB; the reply is empty",
            ));
        }
        Ok(())
    });
    let status = child.wait();
    match (read, status) {
        (Ok(()), Ok(status)) if status.success() => {}
        (Ok(()), Ok(status)) => log::warn!("the command failed: {status}"),
        (Err(error), _) | (_, Err(error)) => {
            output = Vec::new();
            log::warn!("the command failed: {error}");
        }
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_command_gets_its_input_and_no_shell() {
        let echoed = run(&argv(&["echo", "$HOME", "*"]), b"ignored").unwrap();
        assert_eq!(echoed, b"$HOME *\n");
        let large = vec![b'x'; 3_000_000];
        assert_eq!(run(&argv(&["cat"]), &large).unwrap(), large);
        assert_eq!(run(&argv(&["false"]), b"").unwrap(), b"");
        assert!(run(&argv(&["/nonexistent"]), b"").is_err());
    }

    #[test]
    fn a_command_that_prints_too_much_ends_with_an_empty_reply() {
        let endless = ["cat", "/dev/zero"];
        assert_eq!(run(&argv(&endless), b"").unwrap(), b"");
    }
}
