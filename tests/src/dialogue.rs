//! A child process that answers requests over its standard input and output.
//!
//! A request is a line of words, the last ones being the lengths of the parts behind the line. An
//! answer has the same form; its first word is a verdict.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::clock::PATIENCE;
use crate::lines::Lines;

/// A running child and both ends of its pipes; killed when dropped.
#[derive(Debug)]
pub(crate) struct Dialogue {
    answers: Receiver<Answer>,
    child: Child,
    stderr: Lines,
    stdin: ChildStdin,
}

/// An answer of the child.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) parts: Vec<Vec<u8>>,
    pub(crate) verdict: String,
}

impl Dialogue {
    /// Starts the child.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdin = child.stdin.take().expect("standard input was piped");
        let stdout = child.stdout.take().expect("standard output was piped");
        let stderr = Lines::collect(child.stderr.take().expect("standard error was piped"));
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(answer) = Answer::read(&mut stdout) {
                if sender.send(answer).is_err() {
                    break;
                }
            }
        });
        Self {
            answers,
            child,
            stderr,
            stdin,
        }
    }

    /// Sends a request, with the lengths of the parts behind the words.
    #[track_caller]
    pub(crate) fn ask(&mut self, words: &str, parts: &[impl AsRef<[u8]>]) {
        let mut header = words.to_owned();
        for part in parts {
            header += &format!(" {}", part.as_ref().len());
        }
        header.push('\n');
        let mut sent = self.stdin.write_all(header.as_bytes());
        for part in parts {
            sent = sent.and_then(|()| self.stdin.write_all(part.as_ref()));
        }
        let sent = sent.and_then(|()| self.stdin.flush());
        assert!(sent.is_ok(), "the child has ended:\n{}", self.stderr);
    }

    /// Waits for the answer to the last request.
    #[track_caller]
    pub(crate) fn answer(&self) -> Answer {
        let answer = self.answers.recv_timeout(PATIENCE + GRACE);
        answer.unwrap_or_else(|error| panic!("the child gave no answer: {error}\n{}", self.stderr))
    }

    /// Sends a signal by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The standard error of the child.
    pub(crate) fn stderr(&self) -> &Lines {
        &self.stderr
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Answer {
    /// Reads one; `None` at the end of the stream.
    fn read(stdout: &mut BufReader<ChildStdout>) -> Option<Self> {
        let mut line = String::new();
        stdout.read_line(&mut line).ok()?;
        let mut words = line.split_whitespace();
        let verdict = words.next()?.to_owned();
        let mut parts = Vec::new();
        for len in words {
            let mut part = vec![0; len.parse().ok()?];
            stdout.read_exact(&mut part).ok()?;
            parts.push(part);
        }
        Some(Self { parts, verdict })
    }

    /// The parts as one text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.parts.concat()).into_owned()
    }
}

/// Sends a signal by its name without `SIG`.
pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot send SIG{name} to {pid}"
    );
}

/// The deadlines of the child are [`PATIENCE`] too. Their messages say more, so they come first.
const GRACE: Duration = Duration::from_secs(15);
