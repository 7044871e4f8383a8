//! A Python process with pyzmq that executes blocks of a test.
//!
//! `py/peer.py` defines and explains the functions that these blocks may use beside pyzmq itself
//! (`connect`, `settle`, `take` and so on).

use std::any::type_name;
use std::str::FromStr;

use crate::dialogue::Dialogue;
use crate::environment;
use crate::zmqd::Zmqd;

/// A running Python; killed when dropped.
#[derive(Debug)]
pub struct Python {
    dialogue: Dialogue,
}

impl Python {
    /// Starts a Python without the endpoints of a broker.
    #[must_use]
    pub fn new() -> Self {
        Self::under(&[])
    }

    /// As [`Python::new`], by a command that executes the arguments behind it.
    #[must_use]
    pub fn under(wrapper: &[&str]) -> Self {
        let mut command = environment::python(wrapper);
        command
            .arg("-u")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/py/peer.py"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        Self {
            dialogue: Dialogue::start(&mut command),
        }
    }

    /// Starts a Python with the broker's endpoints in `frontend`, `backend`, `capture` and
    /// `control`.
    #[must_use]
    pub fn beside(broker: &Zmqd) -> Self {
        let mut python = Self::new();
        python.meet(broker);
        python
    }

    /// Sets the variables for the endpoints of a broker, as [`Python::beside`] does.
    pub fn meet(&mut self, broker: &Zmqd) {
        self.set("frontend", broker.frontend());
        self.set("backend", broker.backend());
        self.set("capture", broker.capture());
        self.set("control", broker.control());
    }

    /// Sets a variable to a text.
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
        self.dialogue.ask("run", &[block]);
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
        self.dialogue.ask("ask", &[expression]);
        let answer = self.answer();
        let value = answer.parse();
        value.unwrap_or_else(|_| panic!("{expression} is {answer}, not a {}", type_name::<T>()))
    }

    /// Sends a signal by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        self.dialogue.signal(name);
    }

    /// Ends the process with SIGKILL, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    #[track_caller]
    fn answer(&self) -> String {
        let answer = self.dialogue.answer();
        let (text, stderr) = (answer.text(), self.dialogue.stderr());
        assert!(answer.verdict == "ok", "Python failed:\n{text}\n{stderr}");
        text
    }
}

impl Default for Python {
    fn default() -> Self {
        Self::new()
    }
}
