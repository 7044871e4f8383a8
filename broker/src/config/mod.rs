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

pub use crate::proxy::kind::{Kind, PairError, socket};
pub use check::{Fault, Place, Problem};
pub use endpoint::{Attach, Endpoint, EndpointError};
pub use file::ConfigError;
pub use options::{
    Balance, Form, IpcMode, IpcOwner, Network, OptionError, Overflow, SocketOption, SocketOptions,
    TIME_MS_MAX, Unit, Value,
};

/// A whole broker: any number of proxies on one event loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a stop may take to send what is queued; zero stops at once.
    pub drain_timeout: Duration,
    /// Bytes that all queues and all received input may hold together; zero is no limit. The
    /// process needs some more for connections and subscriptions.
    pub memory_limit: u64,
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

impl Config {
    /// The drain timeout when nothing is configured.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

    /// The memory limit when nothing is configured.
    pub const MEMORY_LIMIT: u64 = 512 << 20;
}

impl Default for Config {
    /// No proxy yet, and the default drain timeout.
    fn default() -> Self {
        Self {
            drain_timeout: Self::DRAIN_TIMEOUT,
            memory_limit: Self::MEMORY_LIMIT,
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
