//! Harness for tests that drive the built `zmqd` with unmodified peers.
//!
//! A test starts a broker, starts a Python beside it, and runs blocks of Python:
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
//! - [`Zmqd`] is the process under test: its endpoints, log, memory and exit.
//! - [`Python`] is a process that executes blocks of Python with pyzmq and the functions of
//!   `py/peer.py`; its environment is made on first use.
//! - [`Raw`] is a TCP connection that sends any bytes.
//! - [`Network`] has hosts, and cables between them that can be cut.
//! - [`turns`] has the locks of tests that cannot run beside each other.
//! - [`tap::Tap`] sits between a peer and the broker and counts their heartbeats.
//! - [`implementation`] runs the same scenarios with other implementations of ZeroMQ.
//!
//! Every wait is for a fact and has a deadline of [`PATIENCE`]. The message of a failure names the
//! fact and contains the log of the broker.
#![forbid(unsafe_code)]

pub mod clock;
mod dialogue;
mod environment;
mod fixed_endpoints;
pub mod flood;
pub mod implementation;
mod lines;
pub mod network;
pub mod python;
pub mod raw;
mod scratch;
pub mod tap;
pub mod turns;
pub mod zmqd;

pub use clock::{PATIENCE, Pace, Stopwatch, wait_until};
pub use fixed_endpoints::FixedEndpoints;
pub use network::{Host, Network};
pub use python::Python;
pub use raw::Raw;
pub use scratch::Scratch;
pub use zmqd::{ANY, CURVE_KEYS, Finished, Zmqd, binary, vacant_endpoint};
