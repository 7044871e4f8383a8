//! Sans-IO ZMTP 3.x, and 2.0 where it is wanted: what ZeroMQ peers say to each other, without
//! sockets and without a clock.
//!
//! ```text
//!             ┌────────────────────── Session ──────────────────────┐
//! bytes in ──►│ Greeting ──► Mechanism (READY) ──► Deframer         │──► Step { consumed, event }
//!             └──────────────────────────┬──────────────────────────┘
//!                                        └──► bytes to send at once: greeting, READY, PONG, ERROR
//! ```
//!
//! The caller owns every buffer. [`Session::handle_input`] looks at received bytes and reports
//! where the next message stands; nothing is copied, nothing is allocated for a message, and no
//! size that a peer announces is believed before it is compared with [`Limits`]. A message stays in
//! the form it has on the wire: [`Frames`] walks it, and taking away or putting in front a first
//! frame leaves every other byte as it is, because MORE is a flag of each frame.
//!
//! # The loop
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use zmtp::{Event, Frames, Session, SessionConfig, SocketType};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example is a driver")]
//! # fn main() -> Result<(), zmtp::Error> {
//! // The peer's half of the conversation: a greeting, READY of a PUSH, one message.
//! let mut input = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL"[..], &[0; 48]].concat();
//! input.extend(b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PUSH\x00\x05hello");
//!
//! let mut out = Vec::new();
//! let config = Arc::new(SessionConfig::new(SocketType::Pull));
//! let mut session = Session::new(config, Instant::now(), &mut out);
//! let mut heard = Vec::new();
//! loop {
//!     let step = session.handle_input(&mut input, &mut out)?;
//!     match step.event {
//!         Event::Need(_) => break, // a driver would read more here
//!         Event::Message(span) => {
//!             let message = &input[step.consumed..][..span.size];
//!             heard.push(Frames::new(message).to_string());
//!             session.accept();
//!             input.drain(..step.consumed + span.size);
//!         }
//!         _ => drop(input.drain(..step.consumed)),
//!     }
//! }
//! assert_eq!(heard, ["[hello]"]);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::expect_used, clippy::panic)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod encode;
pub mod limits;
pub mod wire;

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

pub use config::{MechanismConfig, SessionConfig};
pub use deframer::{Deframer, Found, Span};
pub use error::{
    Deadline, Error, Incompatible, Malformed, MechanismName, Misbehaved, Reason, Refused,
};
pub use finder::Finder;
pub use frames::{Frame, Frames};
pub use heartbeat::HeartbeatConfig;
pub use limits::Limits;
pub use peer::Peer;
pub use session::{Event, Session, Step};
pub use show::{Shown, is_hidden, show};
pub use socket_type::SocketType;
pub use version::Version;
pub use wire::loop_check::{LoopCheck, LoopCommand, Probe};
