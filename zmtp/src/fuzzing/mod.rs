//! Bodies of the fuzz targets: ordinary functions, so that a stable `cargo test` replays the
//! corpus.

mod deframer;
mod session;

pub use deframer::fuzz_deframer;
pub use session::{fuzz_session, fuzz_traffic};

use crate::limits::Limits;
use crate::socket_type::SocketType;

/// Small limits, so that a fuzzer meets them.
const LIMITS: Limits = Limits {
    handshake_command_size_max: 512,
    message_frames_max: 8,
    message_size_max: 1024,
    topic_size_max: 32,
};

/// The bit of the first byte of every input that is about ZMTP 2.0.
const OLD: u8 = 0x80;

fn socket_type(which: u8) -> SocketType {
    let index = usize::from(which & !OLD) % SocketType::ALL.len();
    let socket_type = SocketType::ALL.get(index).copied();
    socket_type.unwrap_or(SocketType::Pair)
}
