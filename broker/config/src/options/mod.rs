//! Options of sockets: plain values, and the table that names them.

use std::time::Duration;
use zmtp::{SocketType, show};

mod idle;
mod ipc;
mod network;
mod policy;
mod table;
mod value;

use super::{SocketName, keys::ANY, suggest};
pub use ipc::{IpcMode, IpcOwner};
pub use network::Network;
pub use policy::{Balance, Overflow, Reject};
pub use table::SocketOption;
pub use value::{TIME_MS_MAX, Unit, Value, ValueKind};

/// Options of one socket, under libzmq's names where libzmq has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Whether to accept peers of ZMTP 2.0, the protocol of ZeroMQ 3.2.
    pub accept_zmtp2: bool,
    /// Maximum number of pending connections; the kernel may have a lower limit.
    pub backlog: u32,
    /// The selection of the next peer where each message goes to one peer.
    pub balance: Balance,
    /// The network interface to use, regardless of routes; empty means any.
    pub bindtodevice: String,
    /// Another name for [`Overflow::Conflate`].
    pub conflate: bool,
    /// The longest time for connecting to one address before the next is tried; zero leaves it to
    /// the system.
    pub connect_timeout: Duration,
    /// The CURVE clients that may come in: `any`, a directory of certificates, or a file with a key
    /// and a name in each line. [`super::Config::load_keys`] reads it.
    pub curve_clients: String,
    /// The file with the CURVE secret key of this side; empty means no CURVE.
    pub curve_secret: String,
    /// The public key of the CURVE server that this side is a client of, or the file that has it.
    pub curve_server: String,
    /// The longest time from connecting to the end of the handshake; zero is unlimited.
    pub handshake_ivl: Duration,
    /// The time between two PINGs to a peer; zero sends none. Peers before ZMTP 3.1 get none.
    pub heartbeat_ivl: Duration,
    /// The longest silence after a PING before a peer counts as dead; zero is unlimited.
    pub heartbeat_timeout: Duration,
    /// The time-to-live that PINGs announce: without another PING in this time the peer may close.
    /// Zero announces none.
    pub heartbeat_ttl: Duration,
    /// Whether messages are queued only for connected peers; otherwise links that are down have
    /// queues too.
    pub immediate: bool,
    /// Whether the socket may listen on addresses that other machines reach, although any peer may
    /// come in.
    pub insecure: bool,
    /// Whether publications go to peers that did *not* subscribe to them.
    pub invert_matching: bool,
    /// Permissions of the files of local sockets; [`None`] leaves them to the umask.
    pub ipc_mode: Option<IpcMode>,
    /// The owner of the files of local sockets; [`None`] is the user of the process.
    pub ipc_owner: Option<IpcOwner>,
    /// Whether `*` and names include IPv6 addresses.
    pub ipv6: bool,
    /// The time that a stop goes on sending queued messages; [`None`] is the drain timeout, which
    /// is the maximum in any case.
    pub linger: Option<Duration>,
    /// Whether to look for loops together with other zmqd brokers.
    pub loop_check: bool,
    /// The longest time that a message may be queued; zero is unlimited.
    pub max_age: Duration,
    /// Most frames accepted in one message.
    pub maxmsgframes: u32,
    /// The largest message accepted from a peer, in bytes on the wire with all frame headers.
    pub maxmsgsize: u64,
    /// The treatment of a message for a peer whose queue is full.
    pub overflow: Overflow,
    /// The time that a queue may be full before [`Overflow::Disconnect`] closes its peer.
    pub overflow_timeout: Duration,
    /// The file with the password of a PLAIN client.
    pub plain_password_file: String,
    /// The user name of a PLAIN client; empty means that this side is none.
    pub plain_username: String,
    /// The file with the users of a PLAIN server and their passwords; empty means that this side is
    /// none. [`super::Config::load_keys`] reads it.
    pub plain_users: String,
    /// Whether new peers get an empty message, so that a ROUTER learns of them at once.
    pub probe_router: bool,
    /// Kernel receive buffer in bytes; [`None`] leaves it to the system.
    pub rcvbuf: Option<u32>,
    /// Messages of one peer that may wait, while all receivers are full, before the peer is
    /// suspended; zero is unlimited.
    pub rcvhwm: u32,
    /// Bytes of such messages.
    pub rcvhwm_bytes: u64,
    /// The wait before the first attempt to reconnect.
    pub reconnect_ivl: Duration,
    /// The longest such wait; each failure doubles the wait up to this limit.
    pub reconnect_ivl_max: Duration,
    /// The treatment of peers that may not come in.
    pub reject: Reject,
    /// Whether a newcomer takes an identity from a live peer that has it.
    pub router_handover: bool,
    /// Whether to log messages for peers that are not connected.
    pub router_mandatory: bool,
    /// The identity that DEALER, REQ and ROUTER sockets announce; empty means none.
    pub routing_id: String,
    /// Kernel send buffer in bytes; [`None`] leaves it to the system.
    pub sndbuf: Option<u32>,
    /// Messages queued for one peer before it counts as full; zero is unlimited.
    pub sndhwm: u32,
    /// Bytes queued for one peer before it counts as full.
    pub sndhwm_bytes: u64,
    /// The topics of a SUB, and the only topics that an XSUB passes on, by prefix.
    pub subscribe: Vec<String>,
    /// Subscriptions that one peer may hold.
    pub subscriptions_max: u32,
    /// Networks from which peers may connect over TCP; empty means all.
    pub tcp_accept_filter: Vec<Network>,
    /// Whether the system probes silent peers; [`None`] is the system default, here and below.
    pub tcp_keepalive: Option<bool>,
    /// Unanswered probes until a peer counts as dead.
    pub tcp_keepalive_cnt: Option<u32>,
    /// Silence before the first probe, in seconds.
    pub tcp_keepalive_idle: Option<u32>,
    /// Time between probes, in seconds.
    pub tcp_keepalive_intvl: Option<u32>,
    /// How long sent data may stay unacknowledged; zero leaves it to the system.
    pub tcp_maxrt: Duration,
    /// The longest topic of a subscription, in bytes.
    pub topic_size_max: u32,
    /// Type of service of every packet.
    pub tos: u32,
    /// Another name for [`Overflow::Block`], on XPUB and PUB only.
    pub xpub_nodrop: bool,
    /// Whether every subscription goes upstream, not only the first to a topic.
    pub xpub_verbose: bool,
    /// Whether every subscription and every cancel goes upstream.
    pub xpub_verboser: bool,
    /// The first message to each new subscriber; empty means none.
    pub xpub_welcome_msg: String,
    /// The ZAP domain of its peers, about which ZAP handlers decide; empty means that none is
    /// asked.
    pub zap_domain: String,
    /// The time until a ZAP handler must have answered; a peer without an answer is refused.
    pub zap_timeout: Duration,
}

impl SocketOptions {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        accept_zmtp2: false,
        // After a restart every client reconnects within 200 ms.
        backlog: 4096,
        balance: Balance::RoundRobin,
        bindtodevice: String::new(),
        conflate: false,
        curve_clients: String::new(),
        curve_secret: String::new(),
        curve_server: String::new(),
        connect_timeout: Duration::ZERO,
        handshake_ivl: Duration::from_secs(30),
        heartbeat_ivl: Duration::from_secs(10),
        heartbeat_timeout: Duration::from_secs(15),
        heartbeat_ttl: Duration::from_secs(30),
        // A waiting message can still go to another peer.
        immediate: true,
        insecure: false,
        invert_matching: false,
        ipc_mode: None,
        ipc_owner: None,
        ipv6: false,
        linger: None,
        loop_check: true,
        max_age: Duration::ZERO,
        maxmsgsize: 128 << 20,
        maxmsgframes: 8192,
        overflow: Overflow::Standard,
        overflow_timeout: Duration::from_secs(10),
        plain_password_file: String::new(),
        plain_username: String::new(),
        plain_users: String::new(),
        probe_router: false,
        rcvbuf: None,
        // Waiting messages are safest in their senders.
        rcvhwm: 1,
        rcvhwm_bytes: 64 << 20,
        reconnect_ivl: Duration::from_millis(100),
        reconnect_ivl_max: Duration::from_secs(5),
        reject: Reject::Close,
        router_handover: false,
        router_mandatory: false,
        routing_id: String::new(),
        sndbuf: None,
        sndhwm: 1000,
        sndhwm_bytes: 64 << 20,
        subscribe: Vec::new(),
        subscriptions_max: 1_000_000,
        tcp_accept_filter: Vec::new(),
        tcp_keepalive: None,
        tcp_keepalive_cnt: None,
        tcp_keepalive_idle: None,
        tcp_keepalive_intvl: None,
        tcp_maxrt: Duration::ZERO,
        topic_size_max: 4096,
        tos: 0,
        xpub_nodrop: false,
        xpub_verbose: false,
        xpub_verboser: false,
        xpub_welcome_msg: String::new(),
        zap_domain: String::new(),
        zap_timeout: Duration::from_secs(5),
    };

    /// All contradictions: `reconnect_ivl_max` is below `reconnect_ivl`; `immediate` is off where
    /// workers must be ready; `conflate` or `xpub_nodrop` contradicts `overflow`.
    #[must_use]
    pub fn contradictions(&self) -> Vec<OptionError> {
        let mut errors = Vec::new();
        if self.reconnect_ivl_max < self.reconnect_ivl {
            errors.push(OptionError::BackOff {
                first_ms: self.reconnect_ivl.as_millis(),
                max_ms: self.reconnect_ivl_max.as_millis(),
            });
        }
        if !self.immediate && self.balance == Balance::Ready {
            errors.push(OptionError::AbsentReady);
        }
        errors.extend(self.curve_errors());
        errors.extend(self.plain_errors());
        errors.extend(self.zap_errors());
        if self.conflate && self.xpub_nodrop {
            errors.push(OptionError::ConflateWithoutDrop);
        }
        for (name, is_set, meaning) in [
            ("conflate", self.conflate, Overflow::Conflate),
            ("xpub_nodrop", self.xpub_nodrop, Overflow::Block),
        ] {
            if is_set && ![Overflow::Standard, meaning].contains(&self.overflow) {
                let overflow = self.overflow.name();
                errors.push(OptionError::Overflow { name, overflow });
            }
        }
        errors
    }

    /// Contradictions among the options for CURVE.
    fn curve_errors(&self) -> Option<OptionError> {
        let (has_clients, has_server) = (
            !self.curve_clients.is_empty(),
            !self.curve_server.is_empty(),
        );
        let has_secret = !self.curve_secret.is_empty();
        match (has_secret, has_clients, has_server) {
            (false, false, false) => None,
            (false, true, _) => Some(OptionError::CurveSecretMissing {
                name: "curve_clients",
            }),
            (false, false, true) => Some(OptionError::CurveSecretMissing {
                name: "curve_server",
            }),
            (true, true, true) => Some(OptionError::CurveBothRoles),
            (true, false, false) if self.zap_domain.is_empty() => {
                Some(OptionError::CurveRoleMissing)
            }
            (true, ..) if self.accept_zmtp2 => Some(OptionError::Zmtp2 {
                name: "curve_secret",
            }),
            (true, ..) => None,
        }
    }

    /// Contradictions among the options for PLAIN, and between those and others.
    fn plain_errors(&self) -> Option<OptionError> {
        let is_server = !self.plain_users.is_empty();
        let has_name = !self.plain_username.is_empty();
        let has_password = !self.plain_password_file.is_empty();
        let curve = [&self.curve_secret, &self.curve_clients, &self.curve_server];
        match (is_server, has_name, has_password) {
            (false, false, false) => None,
            _ if curve.iter().any(|text| !text.is_empty()) => Some(OptionError::PlainAndCurve),
            (true, true, _) | (true, _, true) => Some(OptionError::PlainBothRoles),
            (false, false, true) => Some(OptionError::PlainIncomplete {
                has: "plain_password_file",
                lacks: "plain_username",
            }),
            (false, true, false) => Some(OptionError::PlainIncomplete {
                has: "plain_username",
                lacks: "plain_password_file",
            }),
            _ if self.accept_zmtp2 => Some(OptionError::Zmtp2 {
                name: if is_server {
                    "plain_users"
                } else {
                    "plain_username"
                },
            }),
            _ => None,
        }
    }

    /// Contradictions between the domain of ZAP and other options.
    fn zap_errors(&self) -> Option<OptionError> {
        let has_mechanism = [&self.curve_secret, &self.plain_users];
        let has_mechanism = has_mechanism.iter().any(|text| !text.is_empty());
        match self.zap_domain.is_empty() {
            true if self.plain_users == ANY => Some(OptionError::PlainAny),
            true => None,
            false if !self.curve_server.is_empty() => Some(OptionError::ZapClient {
                name: "curve_server",
            }),
            false if !self.plain_username.is_empty() => Some(OptionError::ZapClient {
                name: "plain_username",
            }),
            false if self.accept_zmtp2 && !has_mechanism => {
                Some(OptionError::Zmtp2 { name: "zap_domain" })
            }
            false => None,
        }
    }

    /// Whether ZAP handlers decide about peers.
    pub fn asks_zap(&self) -> bool {
        !self.zap_domain.is_empty()
    }

    /// Whether single messages may have to be removed from a queue.
    pub fn keeps_apart(&self) -> bool {
        self.overflow.takes_back() || !self.max_age.is_zero()
    }

    /// Whether what listens by these options is as what listens by the others: the driver looks at
    /// nothing else when it opens a listener.
    pub fn listens_like(&self, other: &Self) -> bool {
        let of_listeners = |options: &Self| Self {
            backlog: options.backlog,
            bindtodevice: options.bindtodevice.clone(),
            ipc_mode: options.ipc_mode,
            ipc_owner: options.ipc_owner.clone(),
            ipv6: options.ipv6,
            rcvbuf: options.rcvbuf,
            sndbuf: options.sndbuf,
            tcp_keepalive: options.tcp_keepalive,
            tcp_keepalive_cnt: options.tcp_keepalive_cnt,
            tcp_keepalive_idle: options.tcp_keepalive_idle,
            tcp_keepalive_intvl: options.tcp_keepalive_intvl,
            tcp_maxrt: options.tcp_maxrt,
            tos: options.tos,
            ..Self::DEFAULT
        };
        of_listeners(self) == of_listeners(other)
    }

    /// The treatment of messages for a full queue of this socket type, from all options that
    /// concern it.
    pub fn overflow_on(&self, socket_type: SocketType) -> Overflow {
        match socket_type {
            _ if self.conflate => Overflow::Conflate,
            SocketType::Pub | SocketType::Xpub if self.xpub_nodrop => Overflow::Block,
            _ => self.overflow,
        }
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// An unknown option, a wrong value, or contradicting options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A worker that is not connected cannot be ready.
    #[error(
        "immediate is false, so that messages are queued for workers that are not there, and \
         balance is \"ready\": set immediate to true, or balance to another"
    )]
    AbsentReady,
    /// The longest wait before a reconnection is shorter than the first.
    #[error(
        "reconnect_ivl_max ({max_ms} ms) is below reconnect_ivl ({first_ms} ms): \
         set it to {first_ms} or more"
    )]
    BackOff {
        /// `reconnect_ivl`, in milliseconds.
        first_ms: u128,
        /// `reconnect_ivl_max`, in milliseconds.
        max_ms: u128,
    },
    /// Not one of the possible names.
    #[error("unknown choice \"{}\": {hint}", show(name))]
    Choice {
        /// The remedy.
        hint: String,
        /// The value.
        name: String,
    },
    /// A queue cannot both keep one message and keep all.
    #[error("conflate and xpub_nodrop are both true: set one of them to false")]
    ConflateWithoutDrop,
    /// A side is either a CURVE server or a CURVE client.
    #[error(
        "curve_clients makes this side a CURVE server and curve_server a client: leave out one of \
         them"
    )]
    CurveBothRoles,
    /// A secret key, and nothing about the peers.
    #[error(
        "curve_secret is set, but not the keys of the peers: set curve_clients to the clients that \
         may come in, or curve_server to the key of the server"
    )]
    CurveRoleMissing,
    /// Keys of peers, and no own key.
    #[error(
        "{name} is set and curve_secret is not: set it to the file with this side's secret key"
    )]
    CurveSecretMissing {
        /// The option.
        name: &'static str,
    },
    /// A value of the wrong kind.
    #[error("write {kind}")]
    ValueKind {
        /// The right kind.
        kind: ValueKind,
    },
    /// The option has no effect on an auxiliary socket.
    #[error("{name} = {value} has no effect on a {side}: {reason}; leave it out")]
    Idle {
        /// The option.
        name: &'static str,
        /// The reason.
        reason: &'static str,
        /// The socket.
        side: SocketName,
        /// Its value.
        value: String,
    },
    /// A value of the right kind that this option cannot have; the sentence has the remedy.
    #[error("{0}")]
    Malformed(String),
    /// A name of libzmq's for one policy, with `overflow` set to another.
    #[error(
        "{name} is true and overflow is \"{overflow}\": set {name} to false, or overflow to \
         \"standard\""
    )]
    Overflow {
        /// The option.
        name: &'static str,
        /// The value of `overflow`.
        overflow: &'static str,
    },
    /// A side has one mechanism.
    #[error("options for CURVE and for PLAIN are set: a side has one mechanism; leave out one")]
    PlainAndCurve,
    /// A side is either a PLAIN server or a PLAIN client.
    #[error(
        "plain_users makes this side a PLAIN server and plain_username a client: leave out one of \
         them"
    )]
    PlainBothRoles,
    /// A user name without a password, or the reverse.
    #[error("{has} is set and {lacks} is not: a PLAIN client needs both")]
    PlainIncomplete {
        /// The option that is set.
        has: &'static str,
        /// The option that is missing.
        lacks: &'static str,
    },
    /// Any password, and no handler that compares it.
    #[error(
        "plain_users is \"any\" and zap_domain is not set: set zap_domain, so that a ZAP handler \
         compares the passwords, or plain_users to a file"
    )]
    PlainAny,
    /// Out of range.
    #[error("{value} is out of range: {}", value::range(kind))]
    Range {
        /// The right kind.
        kind: ValueKind,
        /// The value.
        value: i64,
    },
    /// A text that is too long.
    #[error("this text of {size} bytes is too long: write one of at most {size_max} bytes")]
    TooLong {
        /// Its length.
        size: usize,
        /// The longest legal length.
        size_max: usize,
    },
    /// An unknown option.
    #[error("unknown option \"{}\": {}", show(name), suggest::hint(name,
         &SocketOption::names()))]
    Unknown {
        /// The name.
        name: String,
    },
    /// A client of a mechanism has chosen its server, and asks nothing about it.
    #[error(
        "zap_domain has no effect with {name}: a client chooses its server; leave out one of them"
    )]
    ZapClient {
        /// The option that makes this side a client.
        name: &'static str,
    },
    /// A peer of ZMTP 2.0 has no mechanism.
    #[error("accept_zmtp2 has no effect with {name}: set it to false")]
    Zmtp2 {
        /// The option that needs a mechanism.
        name: &'static str,
    },
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
