//! A ZeroMQ broker as a library: proxies between sockets that unmodified ZeroMQ peers connect to.
//! The package is called `zmqd-broker`, the library `broker`.
//!
//! ```text
//!  peers ──► Broker (driver: mio, sockets, clock) ──► Core (no input, no output, no clock)
//!                                                      └─ Proxy ─ Pattern ─ Conn ─ zmtp::Session
//! ```
//!
//! A program that embeds a broker makes a [`config::Config`], binds it, and runs it on a thread of
//! its own:
//!
//! ```
//! use broker::{Broker, config::Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::from_toml(
//!     r#"
//!     [[proxy]]
//!     kind = "queue"
//!     frontend = { bind = "tcp://127.0.0.1:0" }
//!     backend = { bind = "tcp://127.0.0.1:0" }
//!     "#,
//!     "example.toml",
//! )?;
//! let mut broker = Broker::bind(&config)?;
//! println!("clients connect to {}", broker.bound()[0].endpoint);
//! let handle = broker.handle();
//! let thread = std::thread::spawn(move || broker.run());
//! let sockets = handle.call(|admin| admin.sockets());
//! assert_eq!(sockets.map(|sockets| sockets.len()), Some(2));
//! handle.stop();
//! thread.join().expect("the broker does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Core`] is public for programs with a driver of their own, such as a simulator.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod limits;
pub mod reason;
pub mod record;
pub mod stats;
pub mod view;

#[doc(hidden)]
pub mod fuzzing;

/// Tests the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Views as the JSON objects that a control sends.
pub mod json {
    pub use crate::core::{
        endpoints, from_hex, render_cache as cache, render_closed as closed_peer,
        render_drops as drops, render_event as event, render_peer as peer, render_record as record,
        render_replay as replay, render_sample as sample, render_socket as socket,
        render_statistics as statistics, render_topic as topic, render_turns as turns,
        render_watch as watch,
    };
}

/// Listening sockets of `ipc://`, for other programs of the same kind.
pub mod ipc {
    pub use crate::driver::ipc::{Bound, SocketFile, listen};
}

mod conn;
mod core;
mod driver;
mod ids;
mod pattern;
mod peer;
mod permit;
mod proxy;
mod table;

/// The values that a broker is made from.
pub use config::{self, sort};
pub use conn::{Egress, Input, SLICES_MAX};
pub use core::{
    Action, Admin, AdminError, Applied, Bound, ChangeError, ChangeId, ChangeResult, Core, Flow,
    ListenError, MemoryUse, Query, Reloaded,
};
pub use driver::{BindError, Broker, Handle, HttpServer, PassedSocket, Stage};
pub use ids::{ConnId, LinkId, ListenerId, ProxyId, SocketId};
pub use peer::PeerAddress;

/// Parts for benchmarks; not part of the interface.
#[doc(hidden)]
pub mod bench_support {
    pub use crate::pattern::trie::{Inserted, Removed, Trie};
}
