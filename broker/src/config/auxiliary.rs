//! The auxiliary sockets of a proxy: capture and control.

use super::{Overflow, SocketConfig};
use zmtp::SocketType;

/// Where copies of all messages of a proxy go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// What a copy looks like.
    pub format: CaptureFormat,
    /// The first frame of what came in through the frontend, in the monitored format.
    pub in_prefix: String,
    /// The first frame of what came in through the backend, in the monitored format.
    pub out_prefix: String,
    /// Its endpoints and options; there is no capture without an endpoint.
    pub socket: SocketConfig,
    /// One of [`CaptureConfig::SOCKETS`].
    pub socket_type: SocketType,
}

/// Where a proxy is steered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Its endpoints and options; there is no control without an endpoint.
    pub socket: SocketConfig,
    /// One of [`ControlConfig::SOCKETS`].
    pub socket_type: SocketType,
}

/// What a copy of a message looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureFormat {
    /// As pyzmq's `MonitoredQueue` has it: a frame that says the direction, then the message; of
    /// ROUTER:ROUTER as it goes out, of all others as it came in.
    #[default]
    Monitored,
    /// As `zmq_proxy` has it: the message as it came in.
    Proxy,
}

impl CaptureConfig {
    /// The socket types it can have, those that `zmq_proxy` takes.
    pub const SOCKETS: [SocketType; 4] = [
        SocketType::Pub,
        SocketType::Push,
        SocketType::Pair,
        SocketType::Dealer,
    ];
}

impl CaptureConfig {
    /// Whether messages wait until a reader can take their copies. Those of a PUB never wait, as in
    /// libzmq.
    pub(crate) fn blocks(&self) -> bool {
        let overflow = self.socket.options.overflow_on(self.socket_type);
        self.socket.has_endpoint()
            && self.socket_type != SocketType::Pub
            && overflow == Overflow::Block
    }
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            format: CaptureFormat::default(),
            in_prefix: "in".to_owned(),
            out_prefix: "out".to_owned(),
            socket: SocketConfig::default(),
            socket_type: SocketType::Pub,
        }
    }
}

impl ControlConfig {
    /// The socket types it can have, those that `zmq_proxy_steerable` takes.
    pub const SOCKETS: [SocketType; 3] = [SocketType::Rep, SocketType::Pair, SocketType::Sub];
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            socket: SocketConfig::default(),
            socket_type: SocketType::Rep,
        }
    }
}

impl CaptureFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Monitored, Self::Proxy];

    /// The name in configuration files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Monitored => "monitored",
            Self::Proxy => "proxy",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}
