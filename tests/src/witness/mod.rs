//! Other implementations of ZeroMQ behind one interface, so that all of them run the same
//! scenarios.
//!
//! A [`Witness`] opens sockets, a [`Peer`] is one of them, [`scenario`] is what they are put
//! through, and the macro [`runs!`](crate::runs) makes the tests of one witness and the list of
//! them. What is not in that list does not run; docs/testing.md says so, which
//! [`assert_documented`] makes sure of.

mod process;
mod pyzmq;
pub mod scenario;

use std::fs;
use std::time::Duration;

pub use process::Process;
pub use pyzmq::Pyzmq;

use crate::clock::PATIENCE;

/// The parts of a message.
pub type Message = Vec<Vec<u8>>;

/// An implementation of ZeroMQ.
pub trait Witness {
    /// Opens a socket that connects to an endpoint, and stays connected if the witness can.
    fn open(&self, kind: Kind, endpoint: &str, settings: Settings) -> Box<dyn Peer>;
}

/// A socket of a witness. Whatever goes wrong, or lasts longer than [`PATIENCE`], is a panic.
pub trait Peer {
    /// Subscribes to a topic; only for SUB.
    fn subscribe(&mut self, topic: &str);

    /// Cancels a subscription; only for SUB.
    fn cancel(&mut self, topic: &str);

    /// Sends a message.
    fn send(&mut self, message: &[Vec<u8>]);

    /// The next message, if one arrives within this time.
    fn receive_within(&mut self, patience: Duration) -> Option<Message>;
}

impl dyn Peer + '_ {
    /// The next message.
    #[track_caller]
    pub fn receive(&mut self) -> Message {
        let message = self.receive_within(PATIENCE);
        message.unwrap_or_else(|| panic!("no message in {PATIENCE:?}"))
    }
}

/// The socket types of the scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DEALER
    Dealer,
    /// PUB
    Pub,
    /// PULL
    Pull,
    /// PUSH
    Push,
    /// REP
    Rep,
    /// REQ
    Req,
    /// ROUTER
    Router,
    /// SUB
    Sub,
    /// XPUB
    XPub,
}

impl Kind {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dealer => "DEALER",
            Self::Pub => "PUB",
            Self::Pull => "PULL",
            Self::Push => "PUSH",
            Self::Rep => "REP",
            Self::Req => "REQ",
            Self::Router => "ROUTER",
            Self::Sub => "SUB",
            Self::XPub => "XPUB",
        }
    }
}

/// What is set before a socket connects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Milliseconds between PINGs; 0 is the witness's default, which is none.
    pub heartbeat_ms: u16,
    /// The identity to announce; empty is none of the test's.
    pub identity: &'static str,
}

/// How long a witness that sends PINGs waits for a PONG: longer than a busy machine holds one up.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);

/// A scenario: the first witness is in front of the broker, the second behind it.
pub type Scenario = fn(&dyn Witness, &dyn Witness);

/// Who meets whom.
pub mod pairing {
    use super::{Pyzmq, Scenario, Witness};

    /// The witness on both sides of the broker.
    pub fn alone<W: Witness>(start: impl Fn() -> W, scenario: Scenario) {
        scenario(&start(), &start());
    }

    /// The witness in front of the broker, pyzmq behind it.
    pub fn frontend<W: Witness>(start: impl Fn() -> W, scenario: Scenario) {
        scenario(&start(), &Pyzmq::start());
    }

    /// pyzmq in front of the broker, the witness behind it.
    pub fn backend<W: Witness>(start: impl Fn() -> W, scenario: Scenario) {
        scenario(&Pyzmq::start(), &start());
    }
}

/// Makes a test of each pairing of each scenario, and lists them in `RUNS`.
///
/// ```text
/// runs! {
///     Zeromq::start;
///     requests: alone frontend backend;
///     subscriptions: backend;
/// }
/// ```
#[macro_export]
macro_rules! runs {
    ($start:expr; $($scenario:ident: $($pairing:ident)+;)+) => {
        pub(crate) const RUNS: &[(&str, &[&str])] =
            &[$((stringify!($scenario), &[$(stringify!($pairing)),+])),+];
        $(
            mod $scenario {
                use super::*;
                $(
                    #[test]
                    fn $pairing() {
                        use $crate::witness::{pairing, scenario};
                        pairing::$pairing($start, scenario::$scenario);
                    }
                )+
            }
        )+
    };
}

/// Compares the column of a witness in docs/testing.md with what it runs.
///
/// # Panics
///
/// With the cell that is wrong.
#[track_caller]
pub fn assert_documented(witness: &str, runs: &[(&str, &[&str])]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/testing.md");
    let text = fs::read_to_string(path).expect("the document is there");
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| scenario |"));
    let header = cells(lines.next().expect("there is a table of scenarios"));
    let column = header.iter().position(|cell| cell == witness);
    let column = column.unwrap_or_else(|| panic!("no column {witness:?} in {header:?}"));
    let rows: Vec<Vec<String>> = lines
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(cells)
        .collect();
    let said = rows
        .iter()
        .map(|row| (row[0].trim_matches('`'), row[column].as_str()));
    let done = scenario::NAMES.iter().map(|name| {
        let run = runs.iter().find(|(scenario, _)| scenario == name);
        let cell = match run.map_or(&[] as &[&str], |(_, pairings)| pairings) {
            [] => "no".to_owned(),
            ["alone", "frontend", "backend"] => "yes".to_owned(),
            pairings => pairings.join(", "),
        };
        (*name, cell)
    });
    let said: Vec<(&str, String)> = said.map(|(name, cell)| (name, cell.to_owned())).collect();
    assert_eq!(said, done.collect::<Vec<_>>(), "{path}: column {witness}");
    let unknown = runs
        .iter()
        .find(|(name, _)| !scenario::NAMES.contains(name));
    assert_eq!(
        unknown, None,
        "a scenario that scenario::NAMES does not have"
    );
}
