//! Notices services that fall silent, and restarts them: the decisions of `zmqd watch`.
//!
//! ```text
//! time ────────────────┐
//! heartbeats ──────────┤                ┌──► commands to run, processes to end
//! answers of a broker ─┼──► Watcher ────┤
//! ends of processes ───┘                └──► events, lines of the log
//! ```
//!
//! Nothing here performs input or output, or reads a clock. Only [`Config::load_keys`] reads files.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod config;
mod decoder;
pub mod limits;
mod look;
mod watcher;

#[doc(hidden)]
pub mod fuzzing;

pub use config::{Config, ConfigErrors};
pub use decoder::{Decoder, Flaw};
pub use watcher::{
    Event, Heartbeat, Level, Outcome, Output, RunId, Signal, State, WatchId, Watcher,
};
