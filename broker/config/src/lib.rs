//! The configuration of a broker: proxies, their sides, endpoints and options.
//!
//! These are plain values. [`Config::from_toml`] reads them from text, the command line makes them
//! from arguments, and a program that embeds the broker makes them itself. [`Config::check`] says
//! whether the broker can run them.

#![forbid(unsafe_code)]
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::time::Duration;
use zmtp::{MechanismConfig, SocketType};

mod admission;
mod auxiliary;
mod changes;
mod check;
pub mod endpoint;
mod file;
mod http;
mod keys;
mod kind;
pub mod limits;
mod options;
mod record;
mod retained;
mod role;
pub mod sort;
mod suggest;
mod units;

pub use admission::{Admission, Client, ClientKeys, Users};
pub use auxiliary::{Auxiliary, BrokerControl, CaptureConfig, CaptureFormat, ControlConfig};
pub use changes::{Applies, Change, Changes, Misfit, SocketPath, diff};
pub use check::{Fault, Place, Problem};
pub use endpoint::{Attach, Endpoint, EndpointError};
pub use file::{ConfigError, ConfigErrors};
pub use http::{HttpAddress, HttpConfig, HttpToken};
pub use keys::{KeyError, UserFile, curve_clients, plain_client, public_key, read_secret_key};
pub use kind::{Kind, PairError, socket};
pub use options::{
    Balance, IpcMode, IpcOwner, Network, OptionError, Overflow, Reject, SocketOption,
    SocketOptions, TIME_MS_MAX, Unit, Value, ValueKind,
};
pub use record::RecordConfig;
pub use retained::{CacheConfig, ReplayConfig};
pub use role::{RoleConfig, RoleSide, TopicRule};
pub use suggest::hint;
pub use units::{parse_size, parse_time};

/// A whole broker: any number of proxies on one event loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The control that answers for all proxies.
    pub broker_control: BrokerControl,
    /// The longest time that a stop spends sending queued messages; zero stops at once.
    pub drain_timeout: Duration,
    /// The HTTP server for metrics, health and the dashboard.
    pub http: HttpConfig,
    /// Bytes of memory that all peers together may cause; zero is unlimited. The process needs more
    /// memory than that.
    pub memory_limit: u64,
    /// The proxies, in the order they were configured.
    pub proxies: Vec<ProxyConfig>,
    /// The roles that users may have. The role [`RoleConfig::DEFAULT`], if it is there, is that of
    /// all users without another. Without it such users may do everything.
    pub roles: Vec<RoleConfig>,
    /// The roles of users, by the names of both; for users that [`Client::role`] gives none.
    pub users: BTreeMap<String, String>,
}

/// One proxy: two sockets that exchange messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The side that usually binds: clients, publishers or sources connect to it.
    pub frontend: SocketConfig,
    /// The other side: workers, subscribers or sinks.
    pub backend: SocketConfig,
    /// The last values that new subscribers get, if the proxy keeps them. Only for a proxy of XSUB
    /// or SUB, and XPUB or PUB.
    pub cache: Option<CacheConfig>,
    /// The capture; without an endpoint it does not exist.
    pub capture: CaptureConfig,
    /// The control; without an endpoint it does not exist.
    pub control: ControlConfig,
    /// The socket types of the two sides.
    pub kind: Kind,
    /// The name in logs, messages and metrics; unique within a [`Config`].
    pub name: String,
    /// The recording of every message.
    pub record: Option<RecordConfig>,
    /// The messages that peers can ask for again; without an endpoint none are kept. Only for the
    /// same proxies as [`Self::cache`].
    pub replay: ReplayConfig,
    /// The connections to ZAP handlers, which decide about the peers of sockets that have a
    /// [`SocketOptions::zap_domain`]; without an endpoint there are none.
    pub zap: SocketConfig,
}

/// One side of a proxy: a socket with any number of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketConfig {
    /// Which peers may come in.
    pub admission: Admission,
    /// Endpoints to listen on.
    pub bind: Vec<Endpoint>,
    /// Endpoints to connect to, with reconnection.
    pub connect: Vec<Connect>,
    /// The security mechanism, which all peers must have too.
    pub mechanism: MechanismConfig,
    /// The options of every connection on this side.
    pub options: SocketOptions,
}

/// An endpoint to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The topics that may be subscribed to there, by prefix, instead of
    /// [`SocketOptions::subscribe`]; an empty list means that one. Only for SUB and XSUB.
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
    /// The default drain timeout.
    pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

    /// The default memory limit.
    pub const MEMORY_LIMIT: u64 = 512 << 20;

    /// The proxy with this name.
    #[must_use]
    pub fn proxy(&self, name: &str) -> Option<&ProxyConfig> {
        self.proxies.iter().find(|proxy| proxy.name == name)
    }

    /// The proxy with this name, to change it.
    pub fn proxy_mut(&mut self, name: &str) -> Option<&mut ProxyConfig> {
        self.proxies.iter_mut().find(|proxy| proxy.name == name)
    }

    /// The role with this name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&RoleConfig> {
        self.roles.iter().find(|role| role.name == name)
    }
}

impl Default for Config {
    /// A configuration without proxies, with the default limits.
    fn default() -> Self {
        Self {
            broker_control: BrokerControl::default(),
            drain_timeout: Self::DRAIN_TIMEOUT,
            http: HttpConfig::default(),
            memory_limit: Self::MEMORY_LIMIT,
            proxies: Vec::new(),
            roles: Vec::new(),
            users: BTreeMap::new(),
        }
    }
}

impl ProxyConfig {
    /// A proxy without endpoints.
    #[must_use]
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            frontend: SocketConfig::default(),
            backend: SocketConfig::default(),
            cache: None,
            capture: CaptureConfig::default(),
            control: ControlConfig::default(),
            kind,
            name: name.into(),
            record: None,
            replay: ReplayConfig::default(),
            zap: SocketConfig::default(),
        }
    }

    /// One of its sockets.
    #[must_use]
    pub fn socket(&self, name: SocketName) -> &SocketConfig {
        match name {
            SocketName::Frontend => &self.frontend,
            SocketName::Backend => &self.backend,
            SocketName::Capture => &self.capture.socket,
            SocketName::Control => &self.control.socket,
            SocketName::Replay => &self.replay.socket,
            SocketName::Zap => &self.zap,
        }
    }

    /// One of its sockets, to change it.
    pub fn socket_mut(&mut self, name: SocketName) -> &mut SocketConfig {
        match name {
            SocketName::Frontend => &mut self.frontend,
            SocketName::Backend => &mut self.backend,
            SocketName::Capture => &mut self.capture.socket,
            SocketName::Control => &mut self.control.socket,
            SocketName::Replay => &mut self.replay.socket,
            SocketName::Zap => &mut self.zap,
        }
    }

    /// The socket type of one of its sockets.
    #[must_use]
    pub fn socket_type(&self, name: SocketName) -> SocketType {
        match name {
            SocketName::Frontend => self.kind.frontend,
            SocketName::Backend => self.kind.backend,
            SocketName::Capture => self.capture.socket_type,
            SocketName::Control => self.control.socket_type,
            SocketName::Replay => SocketType::Router,
            SocketName::Zap => SocketType::Dealer,
        }
    }

    /// The side of the publishers, if the other one sends to subscribers.
    #[must_use]
    pub fn publishers(&self) -> Option<Side> {
        let mut sides = Side::ALL.into_iter();
        sides.find(|side| {
            let types = [*side, side.opposite()].map(|it| self.socket_type(it.into()));
            matches!(types[0], SocketType::Xsub | SocketType::Sub)
                && matches!(types[1], SocketType::Xpub | SocketType::Pub)
        })
    }

    /// The topics for which publishers are asked even without subscribers, by prefix.
    pub fn kept_topics(&self) -> impl Iterator<Item = &[u8]> {
        let cache = self.cache.iter().flat_map(|cache| &cache.topics);
        let replays = self.replay.socket.has_endpoint().then_some(&[][..]);
        cache.map(String::as_bytes).chain(replays)
    }

    /// Its sockets: both sides, and each auxiliary socket that has an endpoint.
    pub fn sockets(&self) -> impl Iterator<Item = SocketName> {
        let exists = |name: &SocketName| name.side().is_some() || self.socket(*name).has_endpoint();
        SocketName::ALL.into_iter().filter(exists)
    }
}

impl SocketConfig {
    /// Whether it binds or connects to an endpoint.
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

/// A side of a proxy: messages arrive at one and leave through the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Receives requests, publications and work.
    Frontend,
    /// Sends them on.
    Backend,
}

impl Side {
    /// Both, frontend first.
    pub const ALL: [Self; 2] = [Self::Frontend, Self::Backend];

    /// The other side.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Frontend => Self::Backend,
            Self::Backend => Self::Frontend,
        }
    }
}

/// A socket of a proxy, by its name in configuration files and logs: one of the two sides or an
/// auxiliary socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketName {
    /// The side that receives requests, publications and work.
    Frontend,
    /// The side that sends them on.
    Backend,
    /// Sends copies of all messages.
    Capture,
    /// Receives commands and questions.
    Control,
    /// Sends messages again to peers that ask for them.
    Replay,
    /// Asks ZAP handlers about peers of the others.
    Zap,
}

impl SocketName {
    /// All, in the order of their values.
    pub const ALL: [Self; 6] = [
        Self::Frontend,
        Self::Backend,
        Self::Capture,
        Self::Control,
        Self::Replay,
        Self::Zap,
    ];

    /// The sides, frontend first.
    pub const SIDES: [Self; 2] = [Self::Frontend, Self::Backend];

    /// Its side, unless it is an auxiliary socket.
    #[must_use]
    pub fn side(self) -> Option<Side> {
        match self {
            Self::Frontend => Some(Side::Frontend),
            Self::Backend => Some(Side::Backend),
            Self::Capture | Self::Control | Self::Replay | Self::Zap => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Backend => "backend",
            Self::Capture => "capture",
            Self::Control => "control",
            Self::Replay => "replay",
            Self::Zap => "zap",
        }
    }
}

impl From<Side> for SocketName {
    fn from(side: Side) -> Self {
        match side {
            Side::Frontend => Self::Frontend,
            Side::Backend => Self::Backend,
        }
    }
}

impl std::fmt::Display for SocketName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
