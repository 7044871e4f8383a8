//! A Python process with pyzmq that executes what a test tells it to.
//!
//! The words that blocks of Python may use beside pyzmq itself (`connect`, `settle`, `take` and so
//! on) are defined and explained in `py/peer.py`.

use std::any::type_name;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::clock::PATIENCE;
use crate::environment;
use crate::lines::Lines;
use crate::zmqd::Zmqd;

/// A running Python; killed when dropped.
#[derive(Debug)]
pub struct Python {
    answers: Receiver<Result<String, String>>,
    child: Child,
    stderr: Lines,
    stdin: ChildStdin,
}

impl Python {
    /// Starts a Python that knows no endpoint yet.
    #[must_use]
    pub fn new() -> Self {
        let mut command = environment::python();
        command
            .arg("-u")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/py/peer.py"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
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
            while let Some(answer) = read_answer(&mut stdout) {
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

    /// Starts a Python with the broker's endpoints in `frontend`, `backend`, `capture` and
    /// `control`.
    #[must_use]
    pub fn beside(broker: &Zmqd) -> Self {
        let mut python = Self::new();
        python.set("frontend", broker.frontend());
        python.set("backend", broker.backend());
        python.set("capture", broker.capture());
        python.set("control", broker.control());
        python
    }

    /// Gives a text a name.
    #[track_caller]
    pub fn set(&mut self, name: &str, text: &str) {
        self.run(&format!("{name} = {text:?}"));
    }

    /// Executes a block.
    ///
    /// # Panics
    ///
    /// With the traceback, if the block raises; an `assert` in it is an assertion of the test.
    #[track_caller]
    pub fn run(&mut self, block: &str) {
        self.begin(block);
        self.finish();
    }

    /// Begins a block that the test does not wait for yet.
    #[track_caller]
    pub fn begin(&mut self, block: &str) {
        self.request("run", block);
    }

    /// Waits for the end of the block begun last.
    ///
    /// # Panics
    ///
    /// As [`Python::run`].
    #[track_caller]
    pub fn finish(&mut self) {
        self.answer();
    }

    /// The value of an expression.
    ///
    /// # Panics
    ///
    /// If the expression raises or its value is not a `T`.
    #[track_caller]
    #[must_use]
    pub fn ask<T: FromStr>(&mut self, expression: &str) -> T {
        self.request("ask", expression);
        let answer = self.answer();
        let value = answer.parse();
        value.unwrap_or_else(|_| panic!("{expression} is {answer}, not a {}", type_name::<T>()))
    }

    /// Ends the process with SIGKILL, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    #[track_caller]
    fn request(&mut self, verb: &str, text: &str) {
        let request = format!("{verb} {}\n{text}", text.len());
        let sent = self
            .stdin
            .write_all(request.as_bytes())
            .and_then(|()| self.stdin.flush());
        assert!(sent.is_ok(), "Python is gone:\n{}", self.stderr);
    }

    #[track_caller]
    fn answer(&self) -> String {
        match self.answers.recv_timeout(PATIENCE + GRACE) {
            Ok(Ok(value)) => value,
            Ok(Err(traceback)) => panic!("Python failed:\n{traceback}\n{}", self.stderr),
            Err(error) => panic!("Python gave no answer: {error}\n{}", self.stderr),
        }
    }
}

impl Default for Python {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Both fail only if the process is gone already, which is the aim.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads `ok LENGTH` or `error LENGTH` and so many bytes; `None` at the end of the stream.
fn read_answer(stdout: &mut BufReader<ChildStdout>) -> Option<Result<String, String>> {
    let mut line = String::new();
    stdout.read_line(&mut line).ok()?;
    let (verdict, len) = line.trim_end().split_once(' ')?;
    let mut text = vec![0; len.parse().ok()?];
    stdout.read_exact(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(if verdict == "ok" { Ok(text) } else { Err(text) })
}

/// Python's own deadlines are [`PATIENCE`] and say more; they shall come first.
const GRACE: Duration = Duration::from_secs(15);
