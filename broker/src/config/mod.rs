//! What a broker is made of: proxies, their sides, their endpoints and options.
//!
//! These are plain values. [`Config::from_toml`] makes them from text, the command line makes them
//! from arguments, a program that embeds the broker makes them itself; [`Config::check`] says
//! whether the broker can work by them.

use crate::record::RecordConfig;
use std::time::Duration;
use zmtp::SocketType;

mod aside;
mod check;
pub mod endpoint;
mod file;
mod nearest;
mod options;

pub use crate::proxy::kind::{Kind, PairError, socket};
pub use aside::{CaptureConfig, CaptureFormat, ControlConfig};
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
    /// Bytes of memory that peers may cause together; zero is no limit. The
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
    /// Where copies of all messages go; nowhere without an endpoint.
    pub capture: CaptureConfig,
    /// Where the proxy is steered from; from nowhere without an endpoint.
    pub control: ControlConfig,
    /// Which socket types the two sides have.
    pub kind: Kind,
    /// The name in logs, messages and metrics; unique within a [`Config`].
    pub name: String,
    /// Where every message is recorded.
    pub record: Option<RecordConfig>,
}

/// One side of a proxy: a socket with any number of endpoints of both sorts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideConfig {
    /// Endpoints to listen on.
    pub bind: Vec<Endpoint>,
    /// Endpoints to connect to, and to reconnect to for ever.
    pub connect: Vec<Connect>,
    /// Limits and times of every connection on this side.
    pub options: SocketOptions,
}

/// An endpoint to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What may be subscribed to there, by prefix, in place of [`SocketOptions::subscribe`]; none
    /// leaves it at that. Only for SUB and XSUB.
    pub subscribe: Vec<String>,
}

impl From<Endpoint> for Connect {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            subscribe: Vec::new(),
        }
    }
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
    /// A proxy without endpoints.
    #[must_use]
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            frontend: SideConfig::default(),
            backend: SideConfig::default(),
            capture: CaptureConfig::default(),
            control: ControlConfig::default(),
            kind,
            name: name.into(),
            record: None,
        }
    }

    /// One of its sockets.
    #[must_use]
    pub fn side(&self, side: Side) -> &SideConfig {
        match side {
            Side::Frontend => &self.frontend,
            Side::Backend => &self.backend,
            Side::Capture => &self.capture.side,
            Side::Control => &self.control.side,
        }
    }

    /// One of its sockets, to change it.
    pub fn side_mut(&mut self, side: Side) -> &mut SideConfig {
        match side {
            Side::Frontend => &mut self.frontend,
            Side::Backend => &mut self.backend,
            Side::Capture => &mut self.capture.side,
            Side::Control => &mut self.control.side,
        }
    }

    /// The socket type of one of its sockets.
    #[must_use]
    pub fn socket_type(&self, side: Side) -> SocketType {
        match side {
            Side::Frontend => self.kind.frontend,
            Side::Backend => self.kind.backend,
            Side::Capture => self.capture.socket,
            Side::Control => self.control.socket,
        }
    }

    /// The sockets that it has: both sides, and those beside the path that have an endpoint.
    pub fn sides(&self) -> impl Iterator<Item = Side> {
        let exists = |side: &Side| !side.is_beside() || self.side(*side).has_endpoint();
        Side::ALL.into_iter().filter(exists)
    }
}

impl SideConfig {
    /// Whether anybody can come, or it goes to anybody.
    #[must_use]
    pub fn has_endpoint(&self) -> bool {
        !(self.bind.is_empty() && self.connect.is_empty())
    }

    /// Adds an endpoint to bind or to connect to.
    pub fn attach(&mut self, attach: Attach, endpoint: Endpoint) {
        match attach {
            Attach::Bind => self.bind.push(endpoint),
            Attach::Connect => self.connect.push(endpoint.into()),
        }
    }
}

/// A socket of a proxy: one of its two sides, or one of those beside the path of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Where requests, publications and work come in.
    Frontend,
    /// Where they go out.
    Backend,
    /// Where copies of all messages go.
    Capture,
    /// Where the proxy is steered from.
    Control,
}

impl Side {
    /// All, in the order of their values.
    pub const ALL: [Self; 4] = [Self::Frontend, Self::Backend, Self::Capture, Self::Control];

    /// The two that messages pass through, frontend first.
    pub const BOTH: [Self; 2] = [Self::Frontend, Self::Backend];

    /// The one across. Those beside the path face each other, and nothing flows between them.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Frontend => Self::Backend,
            Self::Backend => Self::Frontend,
            Self::Capture => Self::Control,
            Self::Control => Self::Capture,
        }
    }

    /// Whether no message passes through it.
    #[must_use]
    pub fn is_beside(self) -> bool {
        matches!(self, Self::Capture | Self::Control)
    }

    /// The name in configuration files and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Capture => "capture",
            Self::Control => "control",
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
