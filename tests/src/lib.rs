//! Harness for tests that drive the built `zmqd` with unmodified peers.
//!
//! A test starts a broker, starts a Python beside it, and lets Python speak:
//!
//! ```no_run
//! use zmqd_tests::{Python, Zmqd};
//!
//! let broker = Zmqd::queue(&[]);
//! let mut python = Python::beside(&broker);
//! python.run(
//!     r#"
//!     server = connect(zmq.REP, backend)
//!     client = connect(zmq.REQ, frontend)
//!     client.send(b"question")
//!     assert server.recv() == b"question"
//!     "#,
//! );
//! ```
//!
//! - [`Zmqd`] is the process under test: its endpoints, its log, its memory, its end.
//! - [`Python`] is a process that executes blocks of Python with pyzmq and the words of
//!   `py/peer.py`; the environment it runs in is made on first use, see [`python`].
//! - [`Raw`] is a TCP connection that sends whatever bytes a test likes.
//! - [`Network`] is made of hosts with cables between them that can be cut.
//! - [`tap::Tap`] sits between a peer and the broker and counts their heartbeats.
//! - [`implementation`] runs the same scenarios with other implementations of ZeroMQ.
//!
//! Every wait is for a fact and has a deadline of [`PATIENCE`]; what was waited for is in the
//! message of the failure, and so is the log of the broker.
#![forbid(unsafe_code)]

pub mod clock;
mod dialogue;
mod environment;
pub mod flood;
pub mod implementation;
mod lines;
pub mod network;
mod place;
pub mod python;
pub mod raw;
mod scratch;
pub mod tap;
pub mod zmqd;

pub use clock::{PATIENCE, Pace, Stopwatch, wait_until};
pub use network::{Host, Network};
pub use place::Place;
pub use python::Python;
pub use raw::Raw;
pub use scratch::Scratch;
pub use zmqd::{ANY, Finished, Zmqd, vacant_endpoint};
