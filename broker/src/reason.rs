//! Reasons: at once the text in the log, the label of a counter and what a test asserts.

use std::fmt;
use std::io;

/// Why a message went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It was queued for longer than `max_age`.
    Expired,
    /// The memory of the process came to its limit, and this queue was the largest.
    MemoryLimit,
    /// A ROUTER is to send it to a peer that is not, or no longer, there.
    NoSuchPeer,
    /// A peer of a socket type that only receives sent it.
    NotExpected,
    /// The peer's queue is at its high-water mark.
    PeerFull,
    /// A newer message took its place in the queue.
    Replaced,
    /// The broker stops, and the peer did not take it in time.
    Stopping,
    /// It is a subscription, and there are as many as there may be.
    TooManySubscriptions,
    /// A ROUTER is to send it, and it has no frame behind the identity.
    WithoutBody,
    /// A REP or REQ received it, and there is no empty frame between envelope and body.
    WithoutEnvelope,
}

impl DropReason {
    /// Every reason, in alphabetical order: the order of [`crate::stats::SocketStats::drops`].
    pub const ALL: [Self; 10] = [
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

    /// A short constant name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
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
    /// The peer closed it in the middle of the handshake.
    GaveUp,
    /// It announced an identity that the broker has generated for another peer.
    IdentityReserved,
    /// Another peer has the identity it announced.
    IdentityTaken,
    /// The system reported an error.
    Io(io::ErrorKind),
    /// It came from an address that the filters reject.
    AddressRejected,
    /// A command of a control closed it.
    Kicked,
    /// It closed after the beginning of its greeting, before it said its version.
    LeftInGreeting,
    /// It is part of a loop of brokers.
    Loop,
    /// The memory of the process came to its limit, and this peer had most of it.
    MemoryLimit,
    /// It is a PAIR's second peer.
    PairTaken,
    /// The peer closed it.
    PeerClosed,
    /// The session failed.
    Protocol(zmtp::Error),
    /// Another peer came with the same identity.
    Replaced,
    /// The broker stops.
    Stopping,
    /// A publisher does not read the subscriptions it is sent.
    SubscriptionsUnread,
    /// It holds as many subscriptions as a peer may.
    TooManySubscriptions,
    /// Its queue stayed full for longer than `overflow_timeout`.
    TooSlow,
}

impl CloseReason {
    /// A short constant name.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::GaveUp => "gave-up",
            Self::IdentityReserved => "identity-reserved",
            Self::IdentityTaken => "identity-taken",
            Self::Io(_) => "io-error",
            Self::AddressRejected => "kept-out",
            Self::Kicked => "kicked",
            Self::LeftInGreeting => "left-in-greeting",
            Self::Loop => "loop",
            Self::MemoryLimit => "memory-shed",
            Self::PairTaken => "pair-taken",
            Self::PeerClosed => "peer-closed",
            Self::Protocol(error) => error.label(),
            Self::Replaced => "replaced",
            Self::Stopping => "stopping",
            Self::SubscriptionsUnread => "subscriptions-unread",
            Self::TooManySubscriptions => "too-many-subscriptions",
            Self::TooSlow => "too-slow",
        }
    }

    /// Whether an operator should know of it: the peer did wrong, or two peers are in each other's
    /// way.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        // A loop was reported when it was found.
        !matches!(
            self,
            Self::Io(_) | Self::Loop | Self::PeerClosed | Self::Stopping
        )
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GaveUp => {
                f.write_str("it closed during the handshake: check that the socket types match")
            }
            Self::IdentityReserved => f.write_str("its identity is one that the broker generates"),
            Self::IdentityTaken => f.write_str("another peer has its identity"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::AddressRejected => f.write_str("its address is not in tcp_accept_filter"),
            Self::Kicked => f.write_str("kicked by command"),
            Self::LeftInGreeting => f.write_str("it closed in the middle of its greeting"),
            Self::Loop => f.write_str("it is part of a loop of brokers"),
            Self::MemoryLimit => f.write_str("the memory limit is reached and it has most"),
            Self::PairTaken => f.write_str("the pair has its peer already"),
            Self::PeerClosed => f.write_str("closed by the peer"),
            Self::Protocol(error) => write!(f, "{error}"),
            Self::Replaced => f.write_str("another peer came with the same identity"),
            Self::Stopping => f.write_str("the broker stops"),
            Self::SubscriptionsUnread => f.write_str("it does not read its subscriptions"),
            Self::TooManySubscriptions => f.write_str("too many subscriptions"),
            Self::TooSlow => f.write_str("its queue stayed full for too long"),
        }
    }
}
