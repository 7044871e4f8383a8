//! What stands on the wire, piece by piece.
//!
//! Each file knows one thing and parses it in one place: [`greeting`] the 64 bytes both sides begin
//! with, [`header`] the two or nine bytes in front of every frame, [`command`] the body of a
//! command frame, [`metadata`] the property list within some of those. A parser answers `None` when
//! bytes are missing and an error when more bytes would not help.

pub mod command;
pub mod greeting;
pub mod header;
pub mod metadata;
