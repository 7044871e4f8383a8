//! Other implementations of ZeroMQ behind one interface, so that all of them run the same
//! scenarios.
//!
//! An [`Implementation`] opens sockets, each a [`Peer`]. [`scenario`] has the scenarios, and the
//! macro [`runs!`](crate::runs) turns them into the tests of one implementation. docs/testing.md
//! lists what runs; [`assert_documented`] checks that list.

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
pub trait Implementation {
    /// Opens a socket that connects to an endpoint, and reconnects if the implementation can.
    fn open(&self, kind: Kind, endpoint: &str, settings: Settings) -> Box<dyn Peer>;
}

/// A socket of an implementation. Every failure is a panic, and so is a call that lasts longer than
/// [`PATIENCE`].
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
    /// Milliseconds between PINGs; 0 sends none, which is every implementation's default.
    pub heartbeat_ms: u16,
    /// The identity to announce; empty announces none.
    pub identity: &'static str,
}

/// How long an implementation that sends PINGs waits for a PONG: longer than a busy machine delays
/// one.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(20);

/// A scenario: the first implementation is in front of the broker, the second behind it.
pub type Scenario = fn(&dyn Implementation, &dyn Implementation);

/// Which implementations exchange messages.
pub mod pairing {
    use super::{Implementation, Pyzmq, Scenario};

    /// The implementation on both sides of the broker.
    pub fn alone<W: Implementation>(start: impl Fn() -> W, scenario: Scenario) {
        scenario(&start(), &start());
    }

    /// The implementation in front of the broker, pyzmq behind it.
    pub fn frontend<W: Implementation>(start: impl Fn() -> W, scenario: Scenario) {
        scenario(&start(), &Pyzmq::start());
    }

    /// pyzmq in front of the broker, the implementation behind it.
    pub fn backend<W: Implementation>(start: impl Fn() -> W, scenario: Scenario) {
        scenario(&Pyzmq::start(), &start());
    }
}

/// Makes a test of each pairing of each scenario for one implementation, and lists in `RUNS` what
/// runs. This is the one list of the scenarios, in the order of docs/testing.md.
///
/// All scenarios run with the pairings in the first line, except those named below it, which run
/// with their own, if any.
///
/// ```text
/// runs! {
///     Rzmq::start: alone frontend backend;
///     multipart_requests: backend;
///     answered_heartbeats:;
/// }
/// ```
#[macro_export]
macro_rules! runs {
    ($($line:tt)+) => {
        $crate::runs_of! {
            [
                requests
                multipart_requests
                identities
                pipelined
                publications
                subscriptions
                work
                large_messages
                reconnections
                resubscriptions
                answered_heartbeats
                own_heartbeats
            ]
            $($line)+
        }
    };
}

/// The tests of one implementation, for [`runs!`](crate::runs).
#[doc(hidden)]
#[macro_export]
macro_rules! runs_of {
    (
        [$($scenario:ident)+]
        $start:path: $($default:ident)+;
        $($exception:ident: $($pairing:ident)*;)*
    ) => {
        pub(crate) const RUNS: &[(&str, &[&str])] =
            &[$((stringify!($scenario), $scenario::PAIRINGS)),+];
        // An exception that is not a scenario does not compile.
        const _: &[$crate::implementation::Scenario] =
            &[$($crate::implementation::scenario::$exception),*];
        $crate::scenario_tests! {
            [$] $start;
            [$($scenario)+]
            {$($default)+}
            {$($exception: $($pairing)*;)*}
        }
    };
}

/// A module for each scenario, for [`runs!`](crate::runs). Its pairings are those of the exception
/// with its name, or the default.
#[doc(hidden)]
#[macro_export]
macro_rules! scenario_tests {
    ([$d:tt] $start:path; [$($scenario:ident)+] $default:tt $exceptions:tt) => {
        $(
            mod $scenario {
                use super::*;

                macro_rules! tests {
                    ($d default:tt {$scenario: $d($d pairing:ident)*; $d($d rest:tt)*}) => {
                        $crate::pairing_tests! { $start, $scenario: $d($d pairing)* }
                    };
                    ($d default:tt {$d other:ident: $d($d pairing:ident)*; $d($d rest:tt)*}) => {
                        tests! { $d default {$d($d rest)*} }
                    };
                    ({$d($d default:ident)+} {}) => {
                        $crate::pairing_tests! { $start, $scenario: $d($d default)+ }
                    };
                }

                tests! { $default $exceptions }
            }
        )+
    };
}

/// The tests of one scenario, for [`runs!`](crate::runs).
#[doc(hidden)]
#[macro_export]
macro_rules! pairing_tests {
    ($start:path, $scenario:ident: $($pairing:ident)*) => {
        pub(super) const PAIRINGS: &[&str] = &[$(stringify!($pairing)),*];
        $(
            #[test]
            fn $pairing() {
                use $crate::implementation::{pairing, scenario};
                pairing::$pairing($start, scenario::$scenario);
            }
        )*
    };
}

/// Compares the column of an implementation in docs/testing.md with what it runs.
///
/// # Panics
///
/// With the cell that is wrong.
#[track_caller]
pub fn assert_documented(implementation: &str, runs: &[(&str, &[&str])]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/testing.md");
    let text = fs::read_to_string(path).expect("the document exists");
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| scenario |"));
    let header = cells(lines.next().expect("the document has a table of scenarios"));
    let column = header.iter().position(|cell| cell == implementation);
    let column = column.unwrap_or_else(|| panic!("no column {implementation:?} in {header:?}"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let documented: Vec<(String, String)> = rows
        .map(|line| {
            let row = cells(line);
            (row[0].trim_matches('`').to_owned(), row[column].clone())
        })
        .collect();
    let actual = runs.iter().map(|(scenario, pairings)| {
        let cell = match pairings {
            [] => "no".to_owned(),
            ["alone", "frontend", "backend"] => "yes".to_owned(),
            pairings => pairings.join(", "),
        };
        ((*scenario).to_owned(), cell)
    });
    let actual: Vec<(String, String)> = actual.collect();
    assert_eq!(documented, actual, "{path}: column {implementation}");
}
