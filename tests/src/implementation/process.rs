//! Implementations in programs of their own, which read requests and write answers.
//!
//! A request is `VERB SOCKET NUMBER LENGTH…` and so many bytes for each length:
//!
//! | verb | number | parts |
//! |---|---|---|
//! | `open` | ms between PINGs, 0 for none | socket type, identity (empty for none), endpoint |
//! | `subscribe`, `cancel` | 0 | topic |
//! | `send` | ms to wait | those of the message |
//! | `receive` | ms to wait | none |
//!
//! Sockets are numbered from 0 in the order in which they are opened. The answer is `ok` with the
//! parts of the message, if the request was `receive`, `silence` if none came, or `error` with a
//! text.

use std::cell::RefCell;
use std::fmt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use super::{Implementation, Kind, Message, Peer, Settings};
use crate::clock::PATIENCE;
use crate::dialogue::{Answer, Dialogue};
use crate::environment;

/// A running program; killed when it and all its sockets are dropped.
pub struct Process {
    dialogue: Rc<RefCell<Dialogue>>,
    opened: RefCell<usize>,
}

struct Socket {
    dialogue: Rc<RefCell<Dialogue>>,
    number: usize,
}

impl Process {
    /// Name and version of npm's zeromq, as docs/testing.md writes them.
    #[must_use]
    pub fn npm_version() -> String {
        format!("npm {}", environment::NPM_PIN.replace('@', " "))
    }

    /// npm's zeromq under Node.
    ///
    /// # Panics
    ///
    /// If Node or npm is missing, or the package cannot be installed.
    #[must_use]
    #[track_caller]
    pub fn npm() -> Self {
        let mut command = environment::node();
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/js/peer.cjs"));
        Self::start(&mut command)
    }

    /// The C library of the system.
    ///
    /// # Panics
    ///
    /// If a C compiler or libzmq is missing.
    #[must_use]
    #[track_caller]
    pub fn c() -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/c/peer.c");
        Self::start(&mut environment::compiled(source))
    }

    fn start(command: &mut Command) -> Self {
        Self {
            dialogue: Rc::new(RefCell::new(Dialogue::start(command))),
            opened: RefCell::new(0),
        }
    }
}

impl Implementation for Process {
    fn open(&self, kind: Kind, endpoint: &str, settings: Settings) -> Box<dyn Peer> {
        let number = self.opened.replace_with(|opened| *opened + 1);
        let socket = Socket {
            dialogue: Rc::clone(&self.dialogue),
            number,
        };
        let parts = [kind.name(), settings.identity, endpoint];
        socket.ask("open", settings.heartbeat_ms.into(), &parts);
        Box::new(socket)
    }
}

impl Socket {
    #[track_caller]
    fn ask(&self, verb: &str, number: u128, parts: &[impl AsRef<[u8]>]) -> Answer {
        let mut dialogue = self.dialogue.borrow_mut();
        dialogue.ask(&format!("{verb} {} {number}", self.number), parts);
        let answer = dialogue.answer();
        let stderr = dialogue.stderr();
        assert!(
            answer.verdict != "error",
            "{verb} failed: {}\n{stderr}",
            answer.text()
        );
        answer
    }
}

impl Peer for Socket {
    fn subscribe(&mut self, topic: &str) {
        self.ask("subscribe", 0, &[topic]);
    }

    fn cancel(&mut self, topic: &str) {
        self.ask("cancel", 0, &[topic]);
    }

    fn send(&mut self, message: &[Vec<u8>]) {
        self.ask("send", PATIENCE.as_millis(), message);
    }

    fn receive_within(&mut self, patience: Duration) -> Option<Message> {
        let answer = self.ask("receive", patience.as_millis(), &[] as &[&str]);
        (answer.verdict == "ok").then_some(answer.parts)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}
