//! Bodies of the fuzz targets: ordinary functions, so that `cargo test` with a stable compiler
//! replays the corpus.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic here is what a fuzzer looks for"
)]

mod command;
mod deframer;
mod ends;
mod greeting;
mod header;
mod keys;
mod session;

pub use command::fuzz_command;
pub use deframer::fuzz_deframer;
pub use ends::fuzz_ends;
pub use greeting::fuzz_greeting;
pub use header::fuzz_header;
pub use session::{fuzz_session, fuzz_traffic};

use crate::limits::Limits;
use crate::socket_type::SocketType;

/// Small limits, so that a fuzzer reaches them.
pub(crate) const LIMITS: Limits = Limits {
    handshake_command_size_max: 1024,
    message_frames_max: 8,
    message_size_max: 1024,
    topic_size_max: 32,
};

/// What a peer with keys does to our side of CURVE.
pub fn fuzz_curve(data: &[u8]) {
    crate::mechanism::curve::fuzzing::fuzz_curve(data);
}

/// The bit of the first byte of each input that stands for ZMTP 2.0.
const OLD: u8 = 0x80;

fn socket_type(which: u8) -> SocketType {
    let index = usize::from(which & !OLD) % SocketType::ALL.len();
    let socket_type = SocketType::ALL.get(index).copied();
    socket_type.unwrap_or(SocketType::Pair)
}
