//! The table of socket options: configuration keys, help, `check` and the guide all read it.
//!
//! To add one: a field of [`SocketOptions`], a row of [`SocketOption::ALL`], a line in the guide.

use super::value::{Field, TIME_MAX, Unit, Value, ValueKind};
use super::{Balance, OptionError, Overflow, Reject, SocketOptions};
use crate::Applies;

/// One socket option: a row of [`SocketOption::ALL`].
#[derive(Clone, Copy)]
pub struct SocketOption {
    /// When a new value takes effect in a running broker.
    pub applies: Applies,
    /// One short line for help and documentation; it explains the value zero if that is special.
    pub doc: &'static str,
    /// The values it can have.
    pub kind: ValueKind,
    /// libzmq's name for it, where libzmq has it.
    pub libzmq: Option<&'static str>,
    /// The key in configuration files and of `--set`: libzmq's name in lower case.
    pub name: &'static str,
    field: fn(&SocketOptions) -> &dyn Field,
    field_mut: fn(&mut SocketOptions) -> &mut dyn Field,
}

impl SocketOption {
    /// Every option, in the order of help and documentation.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "sndhwm",
            libzmq: Some("ZMQ_SNDHWM"),
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Messages, 0, COUNT_MAX),
            doc: "Messages queued for one peer before it counts as full; 0: unlimited",
            field: |options| &options.sndhwm,
            field_mut: |options| &mut options.sndhwm,
        },
        Self {
            name: "sndhwm_bytes",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Bytes, 1, SIZE_MAX),
            doc: "Bytes queued for one peer before it counts as full",
            field: |options| &options.sndhwm_bytes,
            field_mut: |options| &mut options.sndhwm_bytes,
        },
        Self {
            name: "rcvhwm",
            libzmq: Some("ZMQ_RCVHWM"),
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Messages, 0, COUNT_MAX),
            doc: "Messages of a peer that may wait before it is suspended; 0: unlimited",
            field: |options| &options.rcvhwm,
            field_mut: |options| &mut options.rcvhwm,
        },
        Self {
            name: "rcvhwm_bytes",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Bytes, 1, SIZE_MAX),
            doc: "Bytes of a peer that may wait before it is suspended",
            field: |options| &options.rcvhwm_bytes,
            field_mut: |options| &mut options.rcvhwm_bytes,
        },
        Self {
            name: "maxmsgsize",
            libzmq: Some("ZMQ_MAXMSGSIZE"),
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Bytes, 1, SIZE_MAX),
            doc: "Bytes of the largest accepted message, with its frame headers",
            field: |options| &options.maxmsgsize,
            field_mut: |options| &mut options.maxmsgsize,
        },
        Self {
            name: "maxmsgframes",
            libzmq: None,
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Frames, 1, COUNT_MAX),
            doc: "Frames of the longest accepted message",
            field: |options| &options.maxmsgframes,
            field_mut: |options| &mut options.maxmsgframes,
        },
        Self {
            name: "linger",
            libzmq: Some("ZMQ_LINGER"),
            applies: Applies::Live,
            kind: ValueKind::optional(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds that a stop goes on sending; -1: the drain timeout",
            field: |options| &options.linger,
            field_mut: |options| &mut options.linger,
        },
        Self {
            name: "curve_secret",
            libzmq: None,
            applies: Applies::NewConnections,
            kind: ValueKind::Text { size_max: 4096 },
            doc: "File with this side's CURVE secret key; empty: no CURVE",
            field: |options| &options.curve_secret,
            field_mut: |options| &mut options.curve_secret,
        },
        Self {
            name: "curve_clients",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::Text { size_max: 4096 },
            doc: "CURVE clients that may come in: any, a directory, or a file",
            field: |options| &options.curve_clients,
            field_mut: |options| &mut options.curve_clients,
        },
        Self {
            name: "curve_server",
            libzmq: None,
            applies: Applies::NewConnections,
            kind: ValueKind::Text { size_max: 4096 },
            doc: "CURVE server to connect to: its public key, or the file with it",
            field: |options| &options.curve_server,
            field_mut: |options| &mut options.curve_server,
        },
        Self {
            name: "plain_users",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::Text { size_max: 4096 },
            doc: "File with the PLAIN users that may come in; empty: no PLAIN server",
            field: |options| &options.plain_users,
            field_mut: |options| &mut options.plain_users,
        },
        Self {
            name: "plain_username",
            libzmq: Some("ZMQ_PLAIN_USERNAME"),
            applies: Applies::NewConnections,
            kind: ValueKind::Text { size_max: 255 },
            doc: "User name of a PLAIN client; empty: no PLAIN client",
            field: |options| &options.plain_username,
            field_mut: |options| &mut options.plain_username,
        },
        Self {
            name: "plain_password_file",
            libzmq: None,
            applies: Applies::NewConnections,
            kind: ValueKind::Text { size_max: 4096 },
            doc: "File with the password of a PLAIN client",
            field: |options| &options.plain_password_file,
            field_mut: |options| &mut options.plain_password_file,
        },
        Self {
            name: "zap_domain",
            libzmq: Some("ZMQ_ZAP_DOMAIN"),
            applies: Applies::Live,
            kind: ValueKind::Text { size_max: 255 },
            doc: "Domain in which ZAP handlers decide about peers; empty: none is asked",
            field: |options| &options.zap_domain,
            field_mut: |options| &mut options.zap_domain,
        },
        Self {
            name: "zap_timeout",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Milliseconds, 1, TIME_MAX),
            doc: "Milliseconds until a ZAP handler must have answered about a peer",
            field: |options| &options.zap_timeout,
            field_mut: |options| &mut options.zap_timeout,
        },
        Self {
            name: "reject",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::Choice(Reject::NAMES),
            doc: "Treatment of peers that may not come in: close late, or ERROR at once",
            field: |options| &options.reject,
            field_mut: |options| &mut options.reject,
        },
        Self {
            name: "insecure",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::Flag,
            doc: "Permit peers of the network without CURVE and tcp_accept_filter",
            field: |options| &options.insecure,
            field_mut: |options| &mut options.insecure,
        },
        Self {
            name: "handshake_ivl",
            libzmq: Some("ZMQ_HANDSHAKE_IVL"),
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds from connecting to the end of the handshake; 0: unlimited",
            field: |options| &options.handshake_ivl,
            field_mut: |options| &mut options.handshake_ivl,
        },
        Self {
            name: "accept_zmtp2",
            libzmq: None,
            applies: Applies::NewConnections,
            kind: ValueKind::Flag,
            doc: "Accept peers of ZMTP 2.0, the protocol of ZeroMQ 3.2, too",
            field: |options| &options.accept_zmtp2,
            field_mut: |options| &mut options.accept_zmtp2,
        },
        Self {
            name: "heartbeat_ivl",
            libzmq: Some("ZMQ_HEARTBEAT_IVL"),
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds between PINGs to a peer; 0: none",
            field: |options| &options.heartbeat_ivl,
            field_mut: |options| &mut options.heartbeat_ivl,
        },
        Self {
            name: "heartbeat_timeout",
            libzmq: Some("ZMQ_HEARTBEAT_TIMEOUT"),
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds of silence after a PING until a peer is dead; 0: never",
            field: |options| &options.heartbeat_timeout,
            field_mut: |options| &mut options.heartbeat_timeout,
        },
        Self {
            name: "heartbeat_ttl",
            libzmq: Some("ZMQ_HEARTBEAT_TTL"),
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Milliseconds, 0, TTL_MAX),
            doc: "Milliseconds without a PING after which peers may close; 0: never",
            field: |options| &options.heartbeat_ttl,
            field_mut: |options| &mut options.heartbeat_ttl,
        },
        Self {
            name: "reconnect_ivl",
            libzmq: Some("ZMQ_RECONNECT_IVL"),
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Milliseconds, 1, TIME_MAX),
            doc: "Milliseconds before the first attempt to reconnect",
            field: |options| &options.reconnect_ivl,
            field_mut: |options| &mut options.reconnect_ivl,
        },
        Self {
            name: "reconnect_ivl_max",
            libzmq: Some("ZMQ_RECONNECT_IVL_MAX"),
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Milliseconds, 1, TIME_MAX),
            doc: "Maximum of that time, which each failed attempt doubles",
            field: |options| &options.reconnect_ivl_max,
            field_mut: |options| &mut options.reconnect_ivl_max,
        },
        Self {
            name: "immediate",
            libzmq: Some("ZMQ_IMMEDIATE"),
            applies: Applies::Live,
            kind: ValueKind::Flag,
            doc: "Queue only for connected peers; false: also for links that are down",
            field: |options| &options.immediate,
            field_mut: |options| &mut options.immediate,
        },
        Self {
            name: "connect_timeout",
            libzmq: Some("ZMQ_CONNECT_TIMEOUT"),
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds for connecting to one address; 0: system default",
            field: |options| &options.connect_timeout,
            field_mut: |options| &mut options.connect_timeout,
        },
        Self {
            name: "sndbuf",
            libzmq: Some("ZMQ_SNDBUF"),
            applies: Applies::Restart,
            kind: ValueKind::optional(Unit::Bytes, 0, INT_MAX),
            doc: "Kernel send buffer (SO_SNDBUF) in bytes; -1: system default",
            field: |options| &options.sndbuf,
            field_mut: |options| &mut options.sndbuf,
        },
        Self {
            name: "rcvbuf",
            libzmq: Some("ZMQ_RCVBUF"),
            applies: Applies::Restart,
            kind: ValueKind::optional(Unit::Bytes, 0, INT_MAX),
            doc: "Kernel receive buffer (SO_RCVBUF) in bytes; -1: system default",
            field: |options| &options.rcvbuf,
            field_mut: |options| &mut options.rcvbuf,
        },
        Self {
            name: "backlog",
            libzmq: Some("ZMQ_BACKLOG"),
            applies: Applies::Restart,
            kind: ValueKind::number(Unit::Connections, 1, INT_MAX),
            doc: "Maximum number of pending connections, not yet accepted",
            field: |options| &options.backlog,
            field_mut: |options| &mut options.backlog,
        },
        Self {
            name: "ipv6",
            libzmq: Some("ZMQ_IPV6"),
            applies: Applies::Restart,
            kind: ValueKind::Flag,
            doc: "Use IPv6 too for * and host names; numeric addresses always work",
            field: |options| &options.ipv6,
            field_mut: |options| &mut options.ipv6,
        },
        Self {
            name: "tos",
            libzmq: Some("ZMQ_TOS"),
            applies: Applies::Restart,
            kind: ValueKind::number(Unit::None, 0, 255),
            doc: "Type of service of every packet: four times the DSCP",
            field: |options| &options.tos,
            field_mut: |options| &mut options.tos,
        },
        Self {
            name: "bindtodevice",
            libzmq: Some("ZMQ_BINDTODEVICE"),
            applies: Applies::Restart,
            kind: ValueKind::Text {
                size_max: DEVICE_SIZE_MAX,
            },
            doc: "The network interface to use, regardless of routes",
            field: |options| &options.bindtodevice,
            field_mut: |options| &mut options.bindtodevice,
        },
        Self {
            name: "ipc_mode",
            libzmq: None,
            applies: Applies::Restart,
            kind: ValueKind::Text { size_max: 4 },
            doc: "Permissions of ipc socket files, in octal; none: as the umask says",
            field: |options| &options.ipc_mode,
            field_mut: |options| &mut options.ipc_mode,
        },
        Self {
            name: "ipc_owner",
            libzmq: None,
            applies: Applies::Restart,
            kind: ValueKind::Text { size_max: 255 },
            doc: "USER:GROUP of ipc socket files; none: those of the zmqd process",
            field: |options| &options.ipc_owner,
            field_mut: |options| &mut options.ipc_owner,
        },
        Self {
            name: "tcp_accept_filter",
            libzmq: Some("ZMQ_TCP_ACCEPT_FILTER"),
            applies: Applies::NewConnections,
            kind: ValueKind::List,
            doc: "Networks from which peers may connect, as ADDRESS/BITS; none: all",
            field: |options| &options.tcp_accept_filter,
            field_mut: |options| &mut options.tcp_accept_filter,
        },
        Self {
            name: "tcp_keepalive",
            libzmq: Some("ZMQ_TCP_KEEPALIVE"),
            applies: Applies::Restart,
            kind: ValueKind::optional(Unit::None, 0, 1),
            doc: "TCP keepalive (SO_KEEPALIVE): 1 or 0; -1: system default",
            field: |options| &options.tcp_keepalive,
            field_mut: |options| &mut options.tcp_keepalive,
        },
        Self {
            name: "tcp_keepalive_idle",
            libzmq: Some("ZMQ_TCP_KEEPALIVE_IDLE"),
            applies: Applies::Restart,
            kind: ValueKind::optional(Unit::Seconds, 1, 32_767),
            doc: "Seconds of silence before the first probe; -1: system default",
            field: |options| &options.tcp_keepalive_idle,
            field_mut: |options| &mut options.tcp_keepalive_idle,
        },
        Self {
            name: "tcp_keepalive_intvl",
            libzmq: Some("ZMQ_TCP_KEEPALIVE_INTVL"),
            applies: Applies::Restart,
            kind: ValueKind::optional(Unit::Seconds, 1, 32_767),
            doc: "Seconds between keepalive probes; -1: system default",
            field: |options| &options.tcp_keepalive_intvl,
            field_mut: |options| &mut options.tcp_keepalive_intvl,
        },
        Self {
            name: "tcp_keepalive_cnt",
            libzmq: Some("ZMQ_TCP_KEEPALIVE_CNT"),
            applies: Applies::Restart,
            kind: ValueKind::optional(Unit::Probes, 1, 127),
            doc: "Unanswered probes until a peer is dead; -1: system default",
            field: |options| &options.tcp_keepalive_cnt,
            field_mut: |options| &mut options.tcp_keepalive_cnt,
        },
        Self {
            name: "tcp_maxrt",
            libzmq: Some("ZMQ_TCP_MAXRT"),
            applies: Applies::Restart,
            kind: ValueKind::number(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds that data may stay unacknowledged; 0: system default",
            field: |options| &options.tcp_maxrt,
            field_mut: |options| &mut options.tcp_maxrt,
        },
        Self {
            name: "balance",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::Choice(Balance::NAMES),
            doc: "How DEALER, PUSH and REQ sides select the next peer",
            field: |options| &options.balance,
            field_mut: |options| &mut options.balance,
        },
        Self {
            name: "overflow",
            libzmq: None,
            applies: Applies::Restart,
            kind: ValueKind::Choice(Overflow::NAMES),
            doc: "Treatment of messages for a peer whose queue is full",
            field: |options| &options.overflow,
            field_mut: |options| &mut options.overflow,
        },
        Self {
            name: "conflate",
            libzmq: Some("ZMQ_CONFLATE"),
            applies: Applies::Restart,
            kind: ValueKind::Flag,
            doc: "Keep only the newest message for each peer: overflow = conflate",
            field: |options| &options.conflate,
            field_mut: |options| &mut options.conflate,
        },
        Self {
            name: "xpub_nodrop",
            libzmq: Some("ZMQ_XPUB_NODROP"),
            applies: Applies::Restart,
            kind: ValueKind::Flag,
            doc: "Wait for full subscribers: overflow = block, on XPUB and PUB",
            field: |options| &options.xpub_nodrop,
            field_mut: |options| &mut options.xpub_nodrop,
        },
        Self {
            name: "overflow_timeout",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds that a queue may be full until disconnect closes its peer",
            field: |options| &options.overflow_timeout,
            field_mut: |options| &mut options.overflow_timeout,
        },
        Self {
            name: "max_age",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Milliseconds, 0, TIME_MAX),
            doc: "Milliseconds that a message may be queued; 0: unlimited",
            field: |options| &options.max_age,
            field_mut: |options| &mut options.max_age,
        },
        Self {
            name: "router_handover",
            libzmq: Some("ZMQ_ROUTER_HANDOVER"),
            applies: Applies::Live,
            kind: ValueKind::Flag,
            doc: "Take an identity from a live peer too, not only from a silent one",
            field: |options| &options.router_handover,
            field_mut: |options| &mut options.router_handover,
        },
        Self {
            name: "router_mandatory",
            libzmq: Some("ZMQ_ROUTER_MANDATORY"),
            applies: Applies::Live,
            kind: ValueKind::Flag,
            doc: "Log messages for peers that are not connected",
            field: |options| &options.router_mandatory,
            field_mut: |options| &mut options.router_mandatory,
        },
        Self {
            name: "probe_router",
            libzmq: Some("ZMQ_PROBE_ROUTER"),
            applies: Applies::NewConnections,
            kind: ValueKind::Flag,
            doc: "Send new peers an empty message",
            field: |options| &options.probe_router,
            field_mut: |options| &mut options.probe_router,
        },
        Self {
            name: "routing_id",
            libzmq: Some("ZMQ_ROUTING_ID"),
            applies: Applies::NewConnections,
            kind: ValueKind::Text { size_max: 255 },
            doc: "Identity that DEALER, REQ and ROUTER announce; empty: none",
            field: |options| &options.routing_id,
            field_mut: |options| &mut options.routing_id,
        },
        Self {
            name: "subscribe",
            libzmq: Some("ZMQ_SUBSCRIBE"),
            applies: Applies::Restart,
            kind: ValueKind::List,
            doc: "Topics of a SUB; topics that an XSUB may pass on; none: all",
            field: |options| &options.subscribe,
            field_mut: |options| &mut options.subscribe,
        },
        Self {
            name: "xpub_verbose",
            libzmq: Some("ZMQ_XPUB_VERBOSE"),
            applies: Applies::Live,
            kind: ValueKind::Flag,
            doc: "Pass on every subscription, not only the first to a topic",
            field: |options| &options.xpub_verbose,
            field_mut: |options| &mut options.xpub_verbose,
        },
        Self {
            name: "xpub_verboser",
            libzmq: Some("ZMQ_XPUB_VERBOSER"),
            applies: Applies::Live,
            kind: ValueKind::Flag,
            doc: "Pass on every subscription and cancel; XSUB across: the last cancel",
            field: |options| &options.xpub_verboser,
            field_mut: |options| &mut options.xpub_verboser,
        },
        Self {
            name: "xpub_welcome_msg",
            libzmq: Some("ZMQ_XPUB_WELCOME_MSG"),
            applies: Applies::NewConnections,
            kind: ValueKind::Text { size_max: 4096 },
            doc: "First message to each new subscriber; empty: none",
            field: |options| &options.xpub_welcome_msg,
            field_mut: |options| &mut options.xpub_welcome_msg,
        },
        Self {
            name: "invert_matching",
            libzmq: Some("ZMQ_INVERT_MATCHING"),
            applies: Applies::Live,
            kind: ValueKind::Flag,
            doc: "Send to peers that did not subscribe",
            field: |options| &options.invert_matching,
            field_mut: |options| &mut options.invert_matching,
        },
        Self {
            name: "subscriptions_max",
            libzmq: None,
            applies: Applies::Live,
            kind: ValueKind::number(Unit::Subscriptions, 1, COUNT_MAX),
            doc: "Subscriptions that one peer may hold",
            field: |options| &options.subscriptions_max,
            field_mut: |options| &mut options.subscriptions_max,
        },
        Self {
            name: "topic_size_max",
            libzmq: None,
            applies: Applies::NewConnections,
            kind: ValueKind::number(Unit::Bytes, 1, COUNT_MAX),
            doc: "Bytes of the longest topic of a subscription",
            field: |options| &options.topic_size_max,
            field_mut: |options| &mut options.topic_size_max,
        },
        Self {
            name: "loop_check",
            libzmq: None,
            applies: Applies::NewConnections,
            kind: ValueKind::Flag,
            doc: "Detect rings of brokers, together with the other brokers",
            field: |options| &options.loop_check,
            field_mut: |options| &mut options.loop_check,
        },
    ];

    /// The option with this name.
    ///
    /// # Errors
    /// There is none; the error names the nearest.
    pub fn find(name: &str) -> Result<&'static Self, OptionError> {
        Self::ALL
            .iter()
            .find(|option| option.name == name)
            .ok_or_else(|| OptionError::Unknown {
                name: name.to_owned(),
            })
    }

    /// Every name, in the order of the table.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|option| option.name).collect()
    }

    /// The value among `options`.
    #[must_use]
    pub fn get(&self, options: &SocketOptions) -> Value {
        (self.field)(options).load()
    }

    /// The value when nothing is configured.
    #[must_use]
    pub fn default_value(&self) -> Value {
        self.get(&SocketOptions::default())
    }

    /// Sets the value that it has when nothing is configured.
    pub(super) fn reset(&self, options: &mut SocketOptions) {
        let stored = (self.field_mut)(options).store(self.default_value());
        debug_assert!(stored.is_ok(), "{}: its default is legal", self.name);
    }

    /// Reads a value as the command line has it.
    ///
    /// # Errors
    /// The option cannot have this value.
    pub fn parse(&self, text: &str) -> Result<Value, OptionError> {
        let value = self.kind.parse(text)?;
        self.set(&mut SocketOptions::default(), value.clone())?;
        Ok(value)
    }

    /// Sets the value among `options`.
    ///
    /// # Errors
    /// The option cannot have this value; `options` are as they were.
    pub fn set(&self, options: &mut SocketOptions, value: Value) -> Result<(), OptionError> {
        self.kind.check(&value)?;
        let stored = (self.field_mut)(options).store(value);
        stored.map_err(OptionError::Malformed)
    }
}

impl std::fmt::Debug for SocketOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketOption")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The longest time-to-live that libzmq counts right: it keeps the milliseconds in sixteen bits.
const TTL_MAX: i64 = 65_500;

/// The longest name of a network interface.
const DEVICE_SIZE_MAX: usize = 15;

/// What fits the `int` that the system's options are.
const INT_MAX: i64 = 0x7FFF_FFFF;

const COUNT_MAX: i64 = 0xFFFF_FFFF;
/// What a TOML integer can hold.
const SIZE_MAX: i64 = i64::MAX;
