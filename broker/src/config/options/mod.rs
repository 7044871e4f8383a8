//! Options of sockets: plain values, and the table that names them.

use std::time::Duration;
use zmtp::{SocketType, show};

mod idle;
mod ipc;
mod network;
mod policy;
mod table;
mod value;

use super::{SocketName, suggest};
pub use ipc::{IpcMode, IpcOwner};
pub use network::Network;
pub use policy::{Balance, Overflow};
pub use table::SocketOption;
pub use value::{TIME_MS_MAX, Unit, Value, ValueKind};

/// Options of one socket, under libzmq's names where libzmq has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Whether peers of ZMTP 2.0 are served, which is what ZeroMQ 3.2 speaks.
    pub accept_zmtp2: bool,
    /// Connections that the kernel keeps until they are accepted; it may have a limit of its own.
    pub backlog: u32,
    /// Whose turn it is where each message goes to one peer.
    pub balance: Balance,
    /// The network interface to use whatever the routes say; empty is any.
    pub bindtodevice: String,
    /// Another word for [`Overflow::Conflate`].
    pub conflate: bool,
    /// How long one address may take to answer before the next is tried; zero leaves it to the
    /// system.
    pub connect_timeout: Duration,
    /// How long a peer may take from connecting to the end of its handshake; zero is no limit.
    pub handshake_ivl: Duration,
    /// Between one PING to a peer and the next; zero sends none. Peers before ZMTP 3.1 get none.
    pub heartbeat_ivl: Duration,
    /// How long a peer may be silent after a PING before it counts as dead; zero is for ever.
    pub heartbeat_timeout: Duration,
    /// How long a peer is told to wait for the next PING before it may think us dead; zero tells it
    /// nothing.
    pub heartbeat_ttl: Duration,
    /// Whether messages go only to peers that are there; otherwise a link that is down has a queue
    /// too.
    pub immediate: bool,
    /// Whether publications go to those who did *not* subscribe to them.
    pub invert_matching: bool,
    /// Permissions of the files of local sockets; [`None`] leaves them to the umask.
    pub ipc_mode: Option<IpcMode>,
    /// Whose the files of local sockets are; [`None`] is the user we run as.
    pub ipc_owner: Option<IpcOwner>,
    /// Whether `*` and names stand for IPv6 addresses too.
    pub ipv6: bool,
    /// How long a stop goes on sending what is queued; [`None`] is as long as the drain timeout
    /// allows, which is the most in any case.
    pub linger: Option<Duration>,
    /// Whether to look for loops together with other brokers that do so too.
    pub loop_check: bool,
    /// How long a message may be queued before it is dropped; zero is for ever.
    pub max_age: Duration,
    /// Most frames accepted in one message.
    pub maxmsgframes: u32,
    /// Largest message accepted from a peer, in bytes on the wire with all its frame headers.
    pub maxmsgsize: u64,
    /// What happens to a message for a peer whose queue is full.
    pub overflow: Overflow,
    /// How long a queue may stay full until [`Overflow::Disconnect`] closes its peer.
    pub overflow_timeout: Duration,
    /// Whether new peers are sent an empty message, so that a ROUTER knows them at once.
    pub probe_router: bool,
    /// Bytes that the kernel keeps for receiving; [`None`] leaves it to the system.
    pub rcvbuf: Option<u32>,
    /// Messages of one peer held while nobody can take them, before it is not read from any more;
    /// zero is no limit.
    pub rcvhwm: u32,
    /// Bytes of such messages.
    pub rcvhwm_bytes: u64,
    /// First wait before a lost or failed connection is tried again.
    pub reconnect_ivl: Duration,
    /// Longest such wait; each failure doubles the wait up to here.
    pub reconnect_ivl_max: Duration,
    /// Whether a peer takes an identity over from the one that has it, or is refused.
    pub router_handover: bool,
    /// Whether the log tells of messages for peers that are not there.
    pub router_mandatory: bool,
    /// The identity that DEALER, REQ and ROUTER sockets announce; empty is none.
    pub routing_id: String,
    /// Bytes that the kernel keeps for sending; [`None`] leaves it to the system.
    pub sndbuf: Option<u32>,
    /// Messages queued for one peer before it counts as full; zero is no limit.
    pub sndhwm: u32,
    /// Bytes queued for one peer before it counts as full, whatever their number.
    pub sndhwm_bytes: u64,
    /// What a SUB subscribes to, and the only topics an XSUB passes on, by prefix.
    pub subscribe: Vec<String>,
    /// Subscriptions one peer may hold.
    pub subscriptions_max: u32,
    /// Networks that peers may come from over TCP; none is from everywhere.
    pub tcp_accept_filter: Vec<Network>,
    /// Whether the system probes silent peers; [`None`] is its default, here and below.
    pub tcp_keepalive: Option<bool>,
    /// Unanswered probes until a peer is dead.
    pub tcp_keepalive_cnt: Option<u32>,
    /// Silence before the first probe, in seconds.
    pub tcp_keepalive_idle: Option<u32>,
    /// Time between probes, in seconds.
    pub tcp_keepalive_intvl: Option<u32>,
    /// How long sent data may stay unacknowledged; zero leaves it to the system.
    pub tcp_maxrt: Duration,
    /// Longest topic one may subscribe to, in bytes.
    pub topic_size_max: u32,
    /// Type of service of every packet.
    pub tos: u32,
    /// Another word for [`Overflow::Block`], on XPUB and PUB only.
    pub xpub_nodrop: bool,
    /// Whether every subscription goes upstream, and not only the first to a topic.
    pub xpub_verbose: bool,
    /// Whether every subscription and every cancel goes upstream.
    pub xpub_verboser: bool,
    /// What new subscribers are sent first; empty is nothing.
    pub xpub_welcome_msg: String,
}

impl SocketOptions {
    /// What holds where nothing is configured.
    pub const DEFAULT: Self = Self {
        accept_zmtp2: false,
        // After a restart every client of the broker comes back within 200 ms.
        backlog: 4096,
        balance: Balance::RoundRobin,
        bindtodevice: String::new(),
        conflate: false,
        connect_timeout: Duration::ZERO,
        handshake_ivl: Duration::from_secs(30),
        heartbeat_ivl: Duration::from_secs(10),
        heartbeat_timeout: Duration::from_secs(15),
        heartbeat_ttl: Duration::from_secs(30),
        // A message that waits may still go to somebody else.
        immediate: true,
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
        probe_router: false,
        rcvbuf: None,
        // What waits is safest with who sent it.
        rcvhwm: 1,
        rcvhwm_bytes: 64 << 20,
        reconnect_ivl: Duration::from_millis(100),
        reconnect_ivl_max: Duration::from_secs(5),
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
    };

    /// Options that contradict each other: `reconnect_ivl_max` is below `reconnect_ivl`;
    /// `immediate` is off where workers must be ready; `conflate` or `xpub_nodrop` and `overflow`
    /// name different policies.
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

    /// Whether messages may have to be taken out of a queue again, one by one.
    pub(crate) fn keeps_apart(&self) -> bool {
        self.overflow.takes_back() || !self.max_age.is_zero()
    }

    /// What happens when a queue of a socket of this type is full, whichever option says so.
    pub(crate) fn overflow_on(&self, socket_type: SocketType) -> Overflow {
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

/// A value or a name that no option has, or options that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A worker that is not there cannot be ready.
    #[error(
        "immediate is false, so that messages are queued for workers that are not there, and \
         balance is \"ready\": set immediate to true, or balance to another"
    )]
    AbsentReady,
    /// The longest wait before a reconnection is below the first.
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
    /// Not one of the names that may be chosen from.
    #[error("unknown choice \"{}\": {hint}", show(name))]
    Choice {
        /// What to write instead.
        hint: String,
        /// What was asked for.
        name: String,
    },
    /// The queue of a peer cannot both keep one message and keep all.
    #[error("conflate and xpub_nodrop are both true: set one of them to false")]
    ConflateWithoutDrop,
    /// Of another kind.
    #[error("write {kind}")]
    ValueKind {
        /// What must be written.
        kind: ValueKind,
    },
    /// It has no effect on a socket beside the path.
    #[error("{name} = {value} has no effect on a {side}, {reason}: leave it out")]
    Idle {
        /// The option.
        name: &'static str,
        /// Why it has none.
        reason: &'static str,
        /// Which socket.
        side: SocketName,
        /// What it is set to.
        value: String,
    },
    /// Of the right kind, but without a meaning for this option; the sentence says what to write.
    #[error("{0}")]
    Malformed(String),
    /// A name of libzmq's for one policy, beside another policy.
    #[error(
        "{name} is true and overflow is \"{overflow}\": set {name} to false, or overflow to \
         \"standard\""
    )]
    Overflow {
        /// The option that says one thing.
        name: &'static str,
        /// What `overflow` says.
        overflow: &'static str,
    },
    /// Out of range.
    #[error("{value} is out of range: {}", value::range(kind))]
    Range {
        /// What must be written.
        kind: ValueKind,
        /// What was asked for.
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
    /// No such option.
    #[error("unknown option \"{}\": {}", show(name), suggest::hint(name,
         &SocketOption::names()))]
    Unknown {
        /// What was asked for.
        name: String,
    },
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
