//! What a broker is made of: proxies, their sides, their endpoints and options.
//!
//! These are plain values. [`Config::from_toml`] makes them from text, the command line makes them
//! from arguments, a program that embeds the broker makes them itself; [`Config::check`] says
//! whether the broker can work by them.

use std::time::Duration;

mod check;
pub mod endpoint;
mod file;
mod nearest;
mod options;

pub use crate::proxy::kind::Kind;
pub use check::{Fault, Place, Problem};
pub use endpoint::{Attach, Endpoint, EndpointError};
pub use file::ConfigError;
pub use options::{OptionError, SocketOption, TIME_MS_MAX, Unit};

/// A whole broker: any number of proxies on one event loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a stop may take to send what is queued; zero stops at once.
    pub drain_timeout: Duration,
    /// The proxies, in the order they were configured.
    pub proxies: Vec<ProxyConfig>,
}

/// One proxy: two sockets and what is between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The side that binds by habit: clients, publishers or sources come here.
    pub frontend: SideConfig,
    /// The other side: workers, subscribers or sinks.
    pub backend: SideConfig,
    /// Which socket types the two sides have.
    pub kind: Kind,
    /// The name in logs, messages and metrics; unique within a [`Config`].
    pub name: String,
}

/// One side of a proxy: a socket with any number of endpoints of both sorts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideConfig {
    /// Endpoints to listen on.
    pub bind: Vec<Endpoint>,
    /// Endpoints to connect to, and to reconnect to for ever.
    pub connect: Vec<Endpoint>,
    /// Limits and times of every connection on this side.
    pub options: SocketOptions,
}

/// Options of one socket, under libzmq's names where libzmq has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// How long a peer may take from connecting to the end of its handshake; zero is no limit.
    pub handshake_ivl: Duration,
    /// Between one PING to a peer and the next; zero sends none. Peers before ZMTP 3.1 get none.
    pub heartbeat_ivl: Duration,
    /// How long a peer may be silent after a PING before it counts as dead; zero is for ever.
    pub heartbeat_timeout: Duration,
    /// How long a peer is told to wait for the next PING before it may think us dead; zero tells it
    /// nothing.
    pub heartbeat_ttl: Duration,
    /// Largest message accepted from a peer, in bytes on the wire with all its frame headers.
    pub maxmsgsize: u64,
    /// Most frames accepted in one message.
    pub maxmsgframes: u32,
    /// First wait before a lost or failed connection is tried again.
    pub reconnect_ivl: Duration,
    /// Longest such wait; each failure doubles the wait up to here.
    pub reconnect_ivl_max: Duration,
    /// Messages queued for one peer before it counts as full; zero is no limit.
    pub sndhwm: u32,
    /// Bytes queued for one peer before it counts as full, whatever their number.
    pub sndhwm_bytes: u64,
    /// Subscriptions one peer may hold.
    pub subscriptions_max: u32,
    /// Longest topic one may subscribe to, in bytes.
    pub topic_size_max: u32,
}

impl Config {
    /// The drain timeout when nothing is configured.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
}

impl Default for Config {
    /// No proxy yet, and the default drain timeout.
    fn default() -> Self {
        Self {
            drain_timeout: Self::DRAIN_TIMEOUT,
            proxies: Vec::new(),
        }
    }
}

impl ProxyConfig {
    /// One of the two sides.
    #[must_use]
    pub fn side(&self, side: Side) -> &SideConfig {
        match side {
            Side::Frontend => &self.frontend,
            Side::Backend => &self.backend,
        }
    }

    /// One of the two sides, to change it.
    pub fn side_mut(&mut self, side: Side) -> &mut SideConfig {
        match side {
            Side::Frontend => &mut self.frontend,
            Side::Backend => &mut self.backend,
        }
    }
}

impl SideConfig {
    /// Adds an endpoint to bind or to connect to.
    pub fn attach(&mut self, attach: Attach, endpoint: Endpoint) {
        match attach {
            Attach::Bind => self.bind.push(endpoint),
            Attach::Connect => self.connect.push(endpoint),
        }
    }
}

impl SocketOptions {
    /// What holds where nothing is configured.
    pub const DEFAULT: Self = Self {
        handshake_ivl: Duration::from_secs(30),
        heartbeat_ivl: Duration::from_secs(10),
        heartbeat_timeout: Duration::from_secs(15),
        heartbeat_ttl: Duration::from_secs(30),
        maxmsgsize: 128 << 20,
        maxmsgframes: 8192,
        reconnect_ivl: Duration::from_millis(100),
        reconnect_ivl_max: Duration::from_secs(5),
        sndhwm: 1000,
        sndhwm_bytes: 64 << 20,
        subscriptions_max: 1_000_000,
        topic_size_max: 4096,
    };
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A side of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Where requests, publications and work come in.
    Frontend,
    /// Where they go out.
    Backend,
}

impl Side {
    /// Both, frontend first.
    pub const BOTH: [Self; 2] = [Self::Frontend, Self::Backend];

    /// The one across.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Frontend => Self::Backend,
            Self::Backend => Self::Frontend,
        }
    }

    /// `"frontend"` or `"backend"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
