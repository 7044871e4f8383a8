//! Sans-IO ZMTP 3.x, and 2.0 on request: the protocol of ZeroMQ, without sockets and without a
//! clock. The package is called `zmqd-zmtp`, the library `zmtp`.
//!
//! ```text
//!             ┌────────────────────── Session ──────────────────────┐
//! bytes in ──►│ Greeting ──► Mechanism (READY) ──► Deframer         │──► Step { consumed, event }
//!             └──────────────────────────┬──────────────────────────┘
//!                                        └──► bytes to send at once: greeting, READY, PONG, ERROR
//! ```
//!
//! The caller owns every buffer. [`Session::handle_input`] looks at received bytes and reports
//! where the next message is. It copies nothing, allocates nothing for a message, and compares each
//! announced size with [`Limits`] before it uses it. A message stays in wire form: [`Frames`] walks
//! it, and a first frame can be removed or added without touching the other bytes, because MORE is
//! a flag of each frame.
//!
//! # The loop
//!
//! After each read, handle steps until the session needs more input:
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use zmtp::{Event, Frames, Session, SessionConfig, SocketType};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example is a driver")]
//! # fn main() -> Result<(), zmtp::Error> {
//! // What a PUSH sends: greeting, READY, a message, and another with a PING between its frames.
//! let mut received = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL"[..], &[0; 48]].concat();
//! received.extend(b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH");
//! received.extend(b"\x00\x05hello\x01\x03two\x04\x07\x04PING\0\0\x00\x06frames");
//!
//! let (mut input, mut out, mut heard) = (Vec::new(), Vec::new(), Vec::new());
//! let config = Arc::new(SessionConfig::new(SocketType::Pull));
//! let mut session = Session::new(config, Instant::now(), &mut out);
//! for piece in received.chunks(15) {
//!     // A driver sends `out` here, and reads more.
//!     input.extend_from_slice(piece);
//!     loop {
//!         let step = session.handle_input(&mut input, &mut out)?;
//!         match step.event {
//!             Event::Need(_) => {
//!                 // A command inside a message was removed, and bytes behind it moved up.
//!                 input.truncate(input.len() - step.removed);
//!                 break;
//!             }
//!             Event::Message(span) => {
//!                 let message = &input[step.consumed..][..span.size];
//!                 heard.push(Frames::new(message).to_string());
//!                 session.accept();
//!                 input.drain(..step.consumed + span.size);
//!             }
//!             _ => drop(input.drain(..step.consumed)),
//!         }
//!     }
//! }
//! assert_eq!(heard, ["[hello]", "[two][frames]"]);
//! # Ok(())
//! # }
//! ```
//!
//! A driver also calls [`Session::handle_received`] after each read, and
//! [`Session::handle_timeout`] when [`Session::poll_timeout`] says so; without them it can have no
//! heartbeats and no handshake timeout. [`encode`] puts messages into wire form.
//!
//! # Subscribing
//!
//! A SUB or XSUB subscribes once the handshake is over, in the form that the version of its peer
//! knows: a command since ZMTP 3.1, a message before. [`Peer::append_subscription`] writes either.
//! At a PUB or XPUB both arrive as [`Event::Subscription`].
//!
//! ```
//! use zmtp::{Peer, Version};
//!
//! let (mut to_new, mut to_old) = (Vec::new(), Vec::new());
//! // In a driver, the version is that of the peer in `Event::Ready`.
//! Peer::append_subscription(Version::V3_1, b"weather.", true, &mut to_new);
//! Peer::append_subscription(Version::V3_0, b"weather.", true, &mut to_old);
//! assert_eq!(to_new, b"\x04\x12\x09SUBSCRIBEweather.");
//! assert_eq!(to_old, b"\x00\x09\x01weather.");
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod curve;
pub mod encode;
pub mod limits;
pub mod plain;
pub mod wire;

mod coder;
mod config;
mod deframer;
mod error;
mod finder;
mod frames;
mod heartbeat;
mod mechanism;
mod opening;
mod peer;
mod session;
mod show;
mod socket_type;
mod version;

#[doc(hidden)]
pub mod fuzzing;

/// Tests the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use coder::{Coder, Opened, Opener, STEP_SIZE, Sealer, Sealing, Tagging};
pub use config::{MechanismConfig, SessionConfig};
pub use deframer::{Deframer, Found, Span};
pub use error::{
    Deadline, Error, Incompatible, Internal, Malformed, MechanismName, Misbehaved, Reason, Refused,
    Unverified,
};
pub use finder::Finder;
pub use frames::{Frame, Frames};
pub use heartbeat::HeartbeatConfig;
pub use limits::Limits;
pub use mechanism::{Authorization, Credentials};
pub use peer::Peer;
pub use session::{Event, Session, Step};
pub use show::{Shown, is_hidden, show};
pub use socket_type::SocketType;
pub use version::Version;
pub use wire::loop_check::{LoopCheck, LoopCommand, Probe};
