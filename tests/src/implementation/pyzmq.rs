//! pyzmq, the implementation that all others are paired with.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::{HEARTBEAT_TIMEOUT, Implementation, Kind, Message, Peer, Settings};
use crate::environment::PYZMQ_PIN;
use crate::python::Python;

/// A Python that opens sockets.
#[derive(Debug)]
pub struct Pyzmq {
    python: Rc<RefCell<Python>>,
}

struct Socket {
    name: String,
    python: Rc<RefCell<Python>>,
}

impl Pyzmq {
    /// Name and version, as docs/testing.md writes them.
    #[must_use]
    pub fn version() -> String {
        PYZMQ_PIN.replace("==", " ")
    }

    /// Starts a Python.
    #[must_use]
    pub fn start() -> Self {
        let mut python = Python::new();
        python.run(
            r#"
            sockets = []

            def receive(source, ms):
                if is_silent(source, ms):
                    return "silence"
                return ",".join(part.hex() for part in source.recv_multipart())
            "#,
        );
        Self {
            python: Rc::new(RefCell::new(python)),
        }
    }
}

impl Implementation for Pyzmq {
    fn open(&self, kind: Kind, endpoint: &str, settings: Settings) -> Box<dyn Peer> {
        let mut options = String::new();
        if !settings.identity.is_empty() {
            options += &format!(", routing_id={:?}.encode()", settings.identity);
        }
        if settings.heartbeat_ms > 0 {
            let timeout_ms = HEARTBEAT_TIMEOUT.as_millis();
            options += &format!(
                ", heartbeat_ivl={}, heartbeat_timeout={timeout_ms}",
                settings.heartbeat_ms
            );
        }
        let mut python = self.python.borrow_mut();
        let (kind, number) = (kind.name(), python.ask::<usize>("len(sockets)"));
        python.run(&format!(
            "sockets.append(dial(zmq.{kind}, {endpoint:?}{options}))"
        ));
        Box::new(Socket {
            name: format!("sockets[{number}]"),
            python: Rc::clone(&self.python),
        })
    }
}

impl Socket {
    fn run(&self, what: &str) {
        self.python
            .borrow_mut()
            .run(&format!("{}.{what}", self.name));
    }
}

impl Peer for Socket {
    fn subscribe(&mut self, topic: &str) {
        self.run(&format!("subscribe({topic:?})"));
    }

    fn cancel(&mut self, topic: &str) {
        self.run(&format!("unsubscribe({topic:?})"));
    }

    fn send(&mut self, message: &[Vec<u8>]) {
        let parts: Vec<String> = message.iter().map(|part| hex(part)).collect();
        let parts = parts.join(",");
        self.run(&format!(
            "send_multipart([bytes.fromhex(part) for part in {parts:?}.split(',')])"
        ));
    }

    fn receive_within(&mut self, patience: Duration) -> Option<Message> {
        let (name, patience_ms) = (&self.name, patience.as_millis());
        let mut python = self.python.borrow_mut();
        let received: String = python.ask(&format!("receive({name}, {patience_ms})"));
        let parts = || received.split(',').map(bytes).collect();
        (received != "silence").then(parts)
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("four bits");
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit - b'a' + 10,
    };
    let pairs = hex.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
