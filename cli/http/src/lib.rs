//! The HTTP server of zmqd: metrics for Prometheus, health, a JSON interface, and a dashboard. The
//! package is called `zmqd-http`, the library `http`.
//!
//! ```text
//!  clients ──► Server (a thread: mio, sockets, clock) ── questions ──► Broker (its own thread)
//!                 └─ Connection ─ Head ─ route ─ Response ◄── views ────────┘
//! ```
//!
//! [`Server`] is a [`broker::HttpServer`]. It asks the broker one question at a time, through
//! [`broker::Handle::post`]; views are rendered on its own thread. So clients cost the path of
//! messages no more than the share of a turn that calls have. Connections, their heads and the
//! answers in memory are limited, and a client that is slow is closed.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[doc(hidden)]
pub mod fuzzing;

/// Tests the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod api;
mod connection;
mod head;
mod health;
mod history;
mod limits;
mod metrics;
mod page;
mod process;
mod response;
mod route;
mod server;
#[cfg(test)]
mod tests;

pub use server::Server;
