//! The auxiliary sockets of a proxy: capture, control, replay, and the one that asks ZAP handlers.

use super::endpoint::IpcName;
use super::{Endpoint, Kind, Overflow, ProxyConfig, ReplayConfig, Side, SocketConfig, SocketName};
use zmtp::SocketType;

/// The capture, which sends copies of all messages of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// The format of the copies.
    pub format: CaptureFormat,
    /// The first frame of copies of messages that the frontend received, in the monitored format.
    pub in_prefix: String,
    /// The first frame of copies of messages that the backend received, in the monitored format.
    pub out_prefix: String,
    /// Its endpoints and options; without an endpoint the proxy has no capture.
    pub socket: SocketConfig,
    /// One of [`CaptureConfig::SOCKETS`].
    pub socket_type: SocketType,
}

/// The control, through which a proxy is steered and queried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Its endpoints and options; without an endpoint the proxy has no control.
    pub socket: SocketConfig,
    /// One of [`ControlConfig::SOCKETS`].
    pub socket_type: SocketType,
}

/// Where the broker listens for questions about all its proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BrokerControl {
    /// On this endpoint: the path of an ipc socket, which only the user of the broker may use.
    At(Endpoint),
    /// Nowhere.
    Off,
    /// As the program decides that runs the broker; the library listens nowhere.
    #[default]
    Unset,
}

impl BrokerControl {
    /// The word for [`Self::Off`] in configuration files and on the command line.
    pub const OFF: &str = "none";

    /// Reads an endpoint, or [`Self::OFF`].
    ///
    /// # Errors
    /// The text is not the endpoint of an ipc socket with a path.
    pub fn from_text(text: &str) -> Result<Self, String> {
        if text == Self::OFF {
            return Ok(Self::Off);
        }
        let at = Endpoint::parse_bind(text).map(Self::At);
        let at = at.map_err(|error| error.to_string())?;
        if at.is_private() {
            Ok(at)
        } else {
            Err(Self::not_private())
        }
    }

    /// The endpoint that the broker listens on.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::At(endpoint) => Some(endpoint),
            Self::Off | Self::Unset => None,
        }
    }

    /// Whether the mode of a file can keep other users away.
    pub(super) fn is_private(&self) -> bool {
        let is_path = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Ipc(IpcName::Path(_)));
        self.endpoint().is_none_or(is_path)
    }

    /// What to write instead of an endpoint that is not private.
    pub(super) fn not_private() -> String {
        "the control of the broker is for its own user: write ipc:///PATH or none".to_owned()
    }

    /// The proxy without messages to which the control of the broker belongs.
    pub fn proxy(&self) -> Option<ProxyConfig> {
        let endpoint = self.endpoint()?.clone();
        let mut proxy = ProxyConfig::new(Kind::ALL[0], Self::PROXY);
        let control = &mut proxy.control.socket;
        control.bind.push(endpoint);
        control.options.ipc_mode = "600".parse().ok();
        Some(proxy)
    }

    /// The name of that proxy, which a configured one cannot have.
    pub const PROXY: &str = "(broker)";
}

impl std::fmt::Display for BrokerControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(endpoint) => endpoint.fmt(f),
            Self::Off | Self::Unset => f.write_str(Self::OFF),
        }
    }
}

/// The configuration of one auxiliary socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auxiliary {
    /// A capture.
    Capture(CaptureConfig),
    /// A control.
    Control(ControlConfig),
    /// A socket for replays, and the messages that it keeps.
    Replay(ReplayConfig),
    /// The connections to ZAP handlers.
    Zap(SocketConfig),
}

impl Auxiliary {
    /// That of a proxy; `None` for the sides.
    pub(super) fn of(config: &ProxyConfig, name: SocketName) -> Option<Self> {
        match name {
            SocketName::Frontend | SocketName::Backend => None,
            SocketName::Capture => Some(Self::Capture(config.capture.clone())),
            SocketName::Control => Some(Self::Control(config.control.clone())),
            SocketName::Replay => Some(Self::Replay(config.replay.clone())),
            SocketName::Zap => Some(Self::Zap(config.zap.clone())),
        }
    }

    /// The name of the socket.
    #[must_use]
    pub fn name(&self) -> SocketName {
        match self {
            Self::Capture(_) => SocketName::Capture,
            Self::Control(_) => SocketName::Control,
            Self::Replay(_) => SocketName::Replay,
            Self::Zap(_) => SocketName::Zap,
        }
    }

    /// Gives it to a proxy.
    pub(super) fn put_into(self, config: &mut ProxyConfig) {
        match self {
            Self::Capture(capture) => config.capture = capture,
            Self::Control(control) => config.control = control,
            Self::Replay(replay) => config.replay = replay,
            Self::Zap(zap) => config.zap = zap,
        }
    }

    /// Takes the auxiliary socket with this name from a proxy.
    pub(super) fn remove_from(config: &mut ProxyConfig, name: SocketName) {
        match name {
            SocketName::Frontend | SocketName::Backend => {}
            SocketName::Capture => config.capture = CaptureConfig::default(),
            SocketName::Control => config.control = ControlConfig::default(),
            SocketName::Replay => config.replay = ReplayConfig::default(),
            SocketName::Zap => config.zap = SocketConfig::default(),
        }
    }
}

/// The format of copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CaptureFormat {
    /// As in pyzmq's `MonitoredQueue`: a frame with the direction, then the message. Messages of
    /// ROUTER:ROUTER appear in their outgoing form, all others in their incoming form.
    #[default]
    Monitored,
    /// As in `zmq_proxy`: the message in its incoming form.
    Proxy,
}

impl CaptureConfig {
    /// The socket types of a capture, as in `zmq_proxy`.
    pub const SOCKETS: [SocketType; 4] = [
        SocketType::Pub,
        SocketType::Push,
        SocketType::Pair,
        SocketType::Dealer,
    ];
}

impl CaptureConfig {
    /// The prefix of copies of messages that this side received.
    pub(super) fn prefix(&self, side: Side) -> &str {
        match side {
            Side::Backend => &self.out_prefix,
            Side::Frontend => &self.in_prefix,
        }
    }

    /// The same, to change it.
    pub(super) fn prefix_mut(&mut self, side: Side) -> &mut String {
        match side {
            Side::Backend => &mut self.out_prefix,
            Side::Frontend => &mut self.in_prefix,
        }
    }

    /// Whether messages wait until a reader has room for their copies. A PUB never waits, as in
    /// libzmq.
    pub fn blocks(&self) -> bool {
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
    /// The socket types of a control, as in `zmq_proxy_steerable`.
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
