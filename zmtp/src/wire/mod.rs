//! What stands on the wire, piece by piece.
//!
//! Each format is parsed in one place: [`greeting`] has the 64 bytes that begin a connection,
//! [`header`] the two or nine bytes in front of every frame, `frame` whole frames as they are sent,
//! [`command`] the body of a command frame, `loop_check` the commands that zmqd adds, and
//! [`metadata`] the property list within READY. A parser returns `None` when bytes are missing, and
//! an error when more bytes would not help.

pub mod command;
pub(crate) mod frame;
pub mod greeting;
pub mod header;
pub(crate) mod loop_check;
pub mod metadata;
