//! Reasons: log text and counter label in one, also for the assertions of tests.

use std::fmt;
use std::io;

/// The labels of errors of the protocol: see [`CloseReason::Protocol`].
pub const PROTOCOL_LABELS: [&str; zmtp::Error::LABELS.len()] = zmtp::Error::LABELS;

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The role of its sender does not permit it.
    Denied,
    /// It was queued for longer than `max_age`.
    Expired,
    /// The process reached its memory limit, and this queue was the largest.
    MemoryLimit,
    /// A ROUTER cannot send it because its peer is not connected.
    NoSuchPeer,
    /// Its sender has a socket type that only receives.
    NotExpected,
    /// The peer's queue is at its high-water mark.
    PeerFull,
    /// A newer message replaced it in the queue.
    Replaced,
    /// The broker stops, and the peer did not read it in time.
    Stopping,
    /// It is a subscription beyond the limit.
    TooManySubscriptions,
    /// A ROUTER cannot send it because no frame follows the identity.
    WithoutBody,
    /// A REP or REQ cannot take it because no empty frame separates envelope and body.
    WithoutEnvelope,
}

impl DropReason {
    /// Every reason, in alphabetical order: the order of [`crate::stats::SocketStats::drops`].
    pub const ALL: [Self; 11] = [
        Self::Denied,
        Self::Expired,
        Self::MemoryLimit,
        Self::NoSuchPeer,
        Self::NotExpected,
        Self::PeerFull,
        Self::Replaced,
        Self::Stopping,
        Self::TooManySubscriptions,
        Self::WithoutBody,
        Self::WithoutEnvelope,
    ];

    /// The label: a short constant name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::MemoryLimit => "memory-shed",
            Self::NoSuchPeer => "no-such-peer",
            Self::NotExpected => "not-expected",
            Self::PeerFull => "peer-full",
            Self::Replaced => "replaced",
            Self::Stopping => "stopping",
            Self::TooManySubscriptions => "too-many-subscriptions",
            Self::WithoutBody => "without-body",
            Self::WithoutEnvelope => "without-envelope",
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The configuration does not connect to its endpoint any more.
    EndpointRemoved,
    /// The peer closed it during the handshake.
    GaveUp,
    /// The peer announced an identity of the broker's generated form.
    IdentityReserved,
    /// Another peer has the announced identity.
    IdentityTaken,
    /// The system reported an error.
    Io(io::ErrorKind),
    /// It came from an address that the filters reject.
    AddressRejected,
    /// A command of a control closed it.
    Kicked,
    /// The peer closed it after the beginning of its greeting, before its version.
    LeftInGreeting,
    /// It is part of a loop of brokers.
    Loop,
    /// The process reached its memory limit, and this peer used the most.
    MemoryLimit,
    /// The configuration has changed, and does not admit it any more.
    NotAdmitted,
    /// Its PAIR has another peer already.
    PairTaken,
    /// The peer closed it.
    PeerClosed,
    /// The session failed.
    Protocol(zmtp::Error),
    /// A new peer has taken over the identity.
    Replaced,
    /// The role of its user does not permit this side of this proxy, or its subscriptions cannot be
    /// limited there.
    RoleForbids,
    /// The role of its user has changed, and it has many subscriptions: it may come again.
    RoleChanged,
    /// The configuration does not have its socket any more.
    SocketRemoved,
    /// The broker stops.
    Stopping,
    /// The publisher does not read its subscriptions.
    SubscriptionsUnread,
    /// Its user has as many connections as its role permits.
    TooManyConnections,
    /// The peer has more subscriptions than the limit.
    TooManySubscriptions,
    /// Its queue stayed full for longer than `overflow_timeout`.
    TooSlow,
    /// No ZAP handler has let it in.
    Zap(ZapRefusal),
}

/// Why a peer was refused about which ZAP handlers decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZapRefusal {
    /// Too many peers wait for answers, or the queues of the handlers are full.
    Busy,
    /// The handler answered 400: it does not let the peer in.
    Denied,
    /// The handler answered 500: it has failed.
    HandlerError,
    /// The connection to the handler ended before its answer.
    Lost,
    /// The answer does not have the form of ZAP 1.0.
    Malformed,
    /// No handler is connected.
    NotConnected,
    /// The handler answered 300: it cannot decide now.
    Temporary,
    /// No answer came within `zap_timeout`.
    TimedOut,
}

impl ZapRefusal {
    /// The label: a short constant name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Busy => "zap-busy",
            Self::Denied => "zap-denied",
            Self::HandlerError => "zap-handler-error",
            Self::Lost => "zap-lost",
            Self::Malformed => "zap-malformed",
            Self::NotConnected => "zap-not-connected",
            Self::Temporary => "zap-temporary",
            Self::TimedOut => "zap-timed-out",
        }
    }

    /// Whether the handler has decided about this peer; otherwise the handler is the problem.
    pub(crate) fn is_decision(self) -> bool {
        self == Self::Denied
    }
}

impl fmt::Display for ZapRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "too many peers wait for answers of the ZAP handler",
            Self::Denied => "the ZAP handler does not let it in",
            Self::HandlerError => "the ZAP handler has failed (status 500)",
            Self::Lost => "the connection to the ZAP handler ended before its answer",
            Self::Malformed => "the answer of the ZAP handler is malformed",
            Self::NotConnected => "no ZAP handler is connected: start it, or check zap.connect",
            Self::Temporary => "the ZAP handler cannot decide now (status 300)",
            Self::TimedOut => "the ZAP handler did not answer in time (zap_timeout)",
        })
    }
}

impl CloseReason {
    /// Every label of a reason that is not an error of the protocol; [`PROTOCOL_LABELS`] has the
    /// others.
    pub const LABELS: [&'static str; 22] = [
        "endpoint-removed",
        "gave-up",
        "identity-reserved",
        "identity-taken",
        "io-error",
        "kept-out",
        "kicked",
        "left-in-greeting",
        "loop",
        "memory-shed",
        "not-admitted",
        "pair-taken",
        "peer-closed",
        "replaced",
        "role-changed",
        "role-forbids",
        "socket-removed",
        "stopping",
        "subscriptions-unread",
        "too-many-connections",
        "too-many-subscriptions",
        "too-slow",
    ];

    /// The label: a short constant name.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::EndpointRemoved => "endpoint-removed",
            Self::GaveUp => "gave-up",
            Self::IdentityReserved => "identity-reserved",
            Self::IdentityTaken => "identity-taken",
            Self::Io(_) => "io-error",
            Self::AddressRejected => "kept-out",
            Self::Kicked => "kicked",
            Self::LeftInGreeting => "left-in-greeting",
            Self::Loop => "loop",
            Self::MemoryLimit => "memory-shed",
            Self::NotAdmitted => "not-admitted",
            Self::PairTaken => "pair-taken",
            Self::PeerClosed => "peer-closed",
            Self::Protocol(error) => error.label(),
            Self::Replaced => "replaced",
            Self::RoleForbids => "role-forbids",
            Self::RoleChanged => "role-changed",
            Self::SocketRemoved => "socket-removed",
            Self::Stopping => "stopping",
            Self::SubscriptionsUnread => "subscriptions-unread",
            Self::TooManyConnections => "too-many-connections",
            Self::TooManySubscriptions => "too-many-subscriptions",
            Self::TooSlow => "too-slow",
            Self::Zap(refusal) => refusal.label(),
        }
    }

    /// Whether the peer still gets its queue: a refused peer gets the reason, and a peer that is
    /// closed without a fault of its own gets its messages.
    pub(crate) fn lingers(&self) -> bool {
        match self {
            Self::Protocol(error) => error.has_final_bytes(),
            _ => matches!(self, Self::Loop | Self::SocketRemoved | Self::Stopping),
        }
    }

    /// Whether operators should know of it: the peer is at fault, or two peers conflict.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        // A loop is logged when it is found.
        !matches!(
            self,
            Self::EndpointRemoved
                | Self::Io(_)
                | Self::Loop
                | Self::PeerClosed
                | Self::SocketRemoved
                | Self::Stopping
        )
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndpointRemoved => f.write_str("its endpoint was removed"),
            Self::GaveUp => {
                f.write_str("it closed during the handshake: check that the socket types match")
            }
            Self::IdentityReserved => {
                f.write_str("its identity has the broker's own generated form")
            }
            Self::IdentityTaken => f.write_str("another peer has its identity"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::AddressRejected => f.write_str("its address is not in tcp_accept_filter"),
            Self::Kicked => f.write_str("kicked by command"),
            Self::LeftInGreeting => f.write_str("it closed in the middle of its greeting"),
            Self::Loop => f.write_str("it is part of a loop of brokers"),
            Self::MemoryLimit => {
                f.write_str("the memory limit was reached and this peer used the most")
            }
            Self::NotAdmitted => f.write_str("the configuration does not admit it any more"),
            Self::PairTaken => f.write_str("the PAIR has a peer already"),
            Self::PeerClosed => f.write_str("closed by the peer"),
            Self::Protocol(error) => write!(f, "{error}"),
            Self::Replaced => f.write_str("another peer came with the same identity"),
            Self::RoleForbids => f.write_str("the role of its user does not permit this side"),
            Self::RoleChanged => f.write_str("the role of its user has changed"),
            Self::SocketRemoved => f.write_str("its socket was removed"),
            Self::Stopping => f.write_str("the broker stops"),
            Self::SubscriptionsUnread => f.write_str("it does not read its subscriptions"),
            Self::TooManyConnections => {
                f.write_str("its user has as many connections as its role permits")
            }
            Self::TooManySubscriptions => f.write_str("too many subscriptions"),
            Self::TooSlow => f.write_str("its queue stayed full for too long"),
            Self::Zap(refusal) => write!(f, "{refusal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_of_a_close_is_listed() {
        let source = include_str!("reason.rs");
        let start = source.find("impl CloseReason").expect("it is there");
        let rest = &source[start..];
        let start = rest.find("pub fn label").expect("the function is there");
        let body = rest[start..]
            .split("\n    }\n")
            .next()
            .expect("it has an end");
        let mut found: Vec<&str> = body.split('"').skip(1).step_by(2).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, CloseReason::LABELS);
        let twice = found
            .iter()
            .find(|label| zmtp::Error::LABELS.contains(label));
        assert_eq!(twice, None, "a label of two kinds of reason");
    }
}
