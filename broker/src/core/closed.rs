//! The peers that were closed last.

use crate::config::{Config, SocketName};
use crate::conn::Conn;
use crate::core::Core;
use crate::ids::ConnId;
use crate::peer::PeerAddress;
use crate::reason::CloseReason;
use std::collections::VecDeque;
use std::time::Instant;
use zmtp::Frames;

/// The most closed peers remembered for one socket, if there are few sockets.
const CLOSED_LEN_MAX: usize = 1000;

/// The closed peers remembered for one socket, whatever the number of sockets.
const CLOSED_LEN_MIN: usize = 16;

/// The closed peers remembered for all sockets together: some MiB.
const CLOSED_TOTAL: usize = 1 << 14;

/// A closed peer.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(super) at: Instant,
    pub(super) id: ConnId,
    pub(super) identity: Box<[u8]>,
    pub(super) peer: PeerAddress,
    pub(super) since: Instant,
    pub(super) why: CloseReason,
}

/// The part of the memory limit that all lists together may take.
const MEMORY_SHARE: u64 = 32;

/// What the list of one socket may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClosedLimits {
    len: usize,
    size: u64,
}

impl ClosedLimits {
    /// Each socket has a list of its own, with its share of the limits, so that a flood of peers at
    /// one socket does not erase the lists of others.
    pub(super) fn of(config: &Config) -> Self {
        let sockets = SocketName::ALL.len() * config.proxies.len().max(1);
        Self {
            len: (CLOSED_TOTAL / sockets).clamp(CLOSED_LEN_MIN, CLOSED_LEN_MAX),
            size: match config.memory_limit {
                0 => u64::MAX,
                limit => limit / MEMORY_SHARE / sockets as u64,
            },
        }
    }
}

/// The peers of one socket that were closed last, the latest first.
#[derive(Debug, Default)]
pub(crate) struct ClosedPeers {
    /// Bytes of the identities.
    identities: u64,
    list: VecDeque<Closed>,
}

impl ClosedPeers {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Closed> {
        self.list.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The memory that it takes.
    pub(super) fn memory(&self) -> u64 {
        (self.list.capacity() * size_of::<Closed>()) as u64 + self.identities
    }

    /// Remembers a peer instead of the oldest ones, as far as the limits allow.
    fn push(&mut self, closed: Closed, limits: ClosedLimits) {
        let more = closed.identity.len() as u64;
        let size =
            |list: &Self, len: usize| (len * size_of::<Closed>()) as u64 + list.identities + more;
        while self.len() >= limits.len || size(self, self.len() + 1) > limits.size {
            let Some(oldest) = self.list.pop_back() else {
                return;
            };
            self.identities -= oldest.identity.len() as u64;
        }
        if self.len() == self.list.capacity() {
            // A list that doubles could take twice its share.
            self.list
                .reserve_exact(1 + self.len().min(limits.len - self.len() - 1) / 4);
        }
        self.identities += more;
        self.list.push_front(closed);
    }
}

/// The identity under which a ROUTER addresses a peer; empty if it has none.
pub(super) fn identity(conn: &Conn) -> &[u8] {
    let frame = Frames::new(&conn.identity_frame).next();
    frame.map_or(&[], |frame| frame.body)
}

impl Core {
    /// Remembers a peer that is being closed. A peer of a capture or control is remembered only
    /// after a fault.
    pub(super) fn remember_closed(&mut self, now: Instant, id: ConnId, why: CloseReason) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let socket = &mut self.sockets[conn.socket];
        let is_auxiliary = socket.across.is_none();
        if is_auxiliary && !why.is_notable() {
            return;
        }
        let closed = Closed {
            at: now,
            id,
            identity: identity(conn).into(),
            peer: conn.peer,
            since: conn.traffic.since,
            why,
        };
        let before = socket.closed.memory();
        socket.closed.push(closed, self.closed_limits);
        self.memory.closed = self.memory.closed + socket.closed.memory() - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Kind, ProxyConfig};

    #[expect(clippy::disallowed_methods, reason = "a time that no test looks at")]
    fn closed(identity: usize) -> Closed {
        let now = Instant::now();
        Closed {
            at: now,
            id: ConnId {
                generation: 1,
                slot: 1,
            },
            identity: vec![7; identity].into(),
            peer: PeerAddress::Inproc,
            since: now,
            why: CloseReason::PeerClosed,
        }
    }

    fn limits(memory_limit: u64) -> ClosedLimits {
        let kind = Kind::from_name("queue").expect("a kind");
        ClosedLimits::of(&Config {
            memory_limit,
            proxies: vec![ProxyConfig::new(kind, "queue")],
            ..Config::default()
        })
    }

    #[test]
    fn the_memory_of_closed_peers_is_a_small_share_of_the_limit() {
        for identity in [0, 255] {
            let (mut peers, limits) = (ClosedPeers::default(), limits(1 << 20));
            for _ in 0..5000 {
                peers.push(closed(identity), limits);
            }
            assert!(peers.len() > 10, "{}", peers.len());
            let spare = peers.len() as u64 / 4 * size_of::<Closed>() as u64;
            assert!(peers.memory() <= limits.size + spare, "{}", peers.memory());
            let sum: u64 = peers.iter().map(|it| it.identity.len() as u64).sum();
            assert_eq!(sum, peers.identities);
        }
    }

    #[test]
    fn without_a_limit_of_memory_their_number_is_limited() {
        let mut peers = ClosedPeers::default();
        for _ in 0..5000 {
            peers.push(closed(255), limits(0));
        }
        assert_eq!(peers.len(), CLOSED_LEN_MAX);
    }

    #[test]
    fn a_peer_is_forgotten_if_it_alone_exceeds_the_share() {
        let mut peers = ClosedPeers::default();
        peers.push(closed(255), limits(100));
        assert_eq!((peers.len(), peers.memory()), (0, 0));
    }
}
