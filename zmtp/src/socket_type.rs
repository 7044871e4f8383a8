//! Socket types: their names on the wire, and the pairs that may talk to each other.

use crate::error::Incompatible;
use std::fmt;

/// A ZeroMQ socket type, as announced in the `Socket-Type` property of READY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SocketType {
    /// Asynchronous client: fair-queued input, load-balanced output.
    Dealer,
    /// One exclusive peer.
    Pair,
    /// Publisher.
    Pub,
    /// Sink of a pipeline.
    Pull,
    /// Source of a pipeline.
    Push,
    /// Synchronous server.
    Rep,
    /// Synchronous client.
    Req,
    /// Asynchronous server: input labelled with, output routed by, the peer's identity.
    Router,
    /// Subscriber.
    Sub,
    /// Publisher that sees its subscriptions as messages.
    Xpub,
    /// Subscriber that sends its subscriptions as messages.
    Xsub,
}

use SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, Xpub, Xsub};

impl SocketType {
    /// Every type, in alphabetical order.
    pub const ALL: [Self; 11] = [
        Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, Xpub, Xsub,
    ];

    /// The name in READY, such as `"ROUTER"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dealer => "DEALER",
            Pair => "PAIR",
            Pub => "PUB",
            Pull => "PULL",
            Push => "PUSH",
            Rep => "REP",
            Req => "REQ",
            Router => "ROUTER",
            Sub => "SUB",
            Xpub => "XPUB",
            Xsub => "XSUB",
        }
    }

    /// The type with this name on the wire; names are case-sensitive, as in libzmq.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|candidate| candidate.name().as_bytes() == name)
    }

    /// The type with this number in a greeting of ZMTP 2.0: RFC 15 has the first nine, libzmq 3.2
    /// sends two more.
    #[must_use]
    pub fn from_octet(octet: u8) -> Option<Self> {
        const TYPES: [SocketType; 11] = [
            Pair, Pub, Sub, Req, Rep, Dealer, Router, Pull, Push, Xpub, Xsub,
        ];
        TYPES.get(usize::from(octet)).copied()
    }

    /// Its number in a greeting of ZMTP 2.0, where "XPUB and XSUB are API constructs only" (RFC
    /// 15): they have the numbers of PUB and SUB.
    #[must_use]
    pub fn octet(self) -> u8 {
        match self {
            Pair => 0,
            Pub | Xpub => 1,
            Sub | Xsub => 2,
            Req => 3,
            Rep => 4,
            Dealer => 5,
            Router => 6,
            Pull => 7,
            Push => 8,
        }
    }

    /// The types a peer may announce to a socket of this type (RFC 37, "Socket-Type").
    #[must_use]
    pub fn peers(self) -> &'static [Self] {
        match self {
            Dealer => &[Dealer, Rep, Router],
            Pair => &[Pair],
            Pub | Xpub => &[Sub, Xsub],
            Pull => &[Push],
            Push => &[Pull],
            Rep => &[Dealer, Req],
            Req => &[Rep, Router],
            Router => &[Dealer, Req, Router],
            Sub | Xsub => &[Pub, Xpub],
        }
    }

    /// Whether a socket of this type may talk to a `peer`.
    #[must_use]
    pub fn accepts(self, peer: Self) -> bool {
        self.peers().contains(&peer)
    }

    /// Checks that a socket of this type may talk to a peer of that type.
    pub(crate) fn check(self, peer: Self) -> Result<(), Incompatible> {
        if self.accepts(peer) {
            return Ok(());
        }
        Err(Incompatible::SocketType { local: self, peer })
    }

    /// Whether READY carries an `Identity` property: libzmq sends it from exactly these.
    #[must_use]
    pub fn announces_identity(self) -> bool {
        matches!(self, Dealer | Req | Router)
    }

    /// Whether peers subscribe to a socket of this type.
    #[must_use]
    pub fn is_publisher(self) -> bool {
        matches!(self, Pub | Xpub)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatibility_is_symmetric() {
        for local in SocketType::ALL {
            assert!(!local.peers().is_empty());
            for peer in SocketType::ALL {
                assert_eq!(
                    local.accepts(peer),
                    peer.accepts(local),
                    "{local} and {peer}"
                );
            }
        }
    }

    #[test]
    fn numbers_are_those_of_rfc_15_and_of_libzmq() {
        for socket_type in SocketType::ALL {
            let announced = SocketType::from_octet(socket_type.octet()).unwrap();
            assert_eq!(announced.peers(), socket_type.peers(), "{socket_type}");
            assert!(announced.octet() <= 8, "RFC 15 has no more");
        }
        for octet in 0..=10 {
            let announced = SocketType::from_octet(octet).unwrap();
            assert_eq!(
                announced.octet(),
                [0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2][usize::from(octet)]
            );
        }
        assert_eq!(SocketType::from_octet(11), None);
        assert_eq!(SocketType::from_octet(255), None);
    }

    #[test]
    fn names_round_trip_and_are_case_sensitive() {
        for socket_type in SocketType::ALL {
            assert_eq!(
                SocketType::from_name(socket_type.name().as_bytes()),
                Some(socket_type)
            );
        }
        assert_eq!(SocketType::from_name(b"router"), None);
    }
}
