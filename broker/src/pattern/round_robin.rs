//! Peers that take turns: libzmq's load balancer (`lb_t`) as a data structure.

use crate::conn::{Conn, ConnTable};
use crate::ids::ConnId;

/// Peers in a circle; those that can take a message are in front.
///
/// Invariants: `peers[..active]` take turns, and are neither busy nor full; each of the others is;
/// `current < active`, or both are 0; `conn.turn` of each peer is its index.
#[derive(Debug, Default)]
pub(crate) struct RoundRobin {
    active: usize,
    current: usize,
    peers: Vec<Peer>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    id: ConnId,
    /// It works on its last message, where peers must be ready for each message.
    is_busy: bool,
    /// It was found full and slow, and its queue has not drained to half since.
    is_full: bool,
}

/// The reason why a peer has no turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    Busy,
    Full,
}

impl RoundRobin {
    /// Adds a peer after the others that have turns.
    pub(crate) fn insert(&mut self, id: ConnId, conns: &mut ConnTable) {
        let index = self.peers.len();
        self.peers.push(Peer {
            id,
            is_busy: false,
            is_full: false,
        });
        self.set_turn(index, conns);
        self.activate(index, conns);
    }

    /// Removes a peer.
    pub(crate) fn remove(&mut self, id: ConnId, conns: &mut ConnTable) {
        let Some(mut index) = self.index_of(id, conns) else {
            return;
        };
        if index < self.active {
            self.active -= 1;
            self.swap(index, self.active, conns);
            index = self.active;
            if self.current == self.active {
                self.current = 0;
            }
        }
        self.peers.swap_remove(index);
        if index < self.peers.len() {
            self.set_turn(index, conns);
        }
    }

    /// Whether it has no peers.
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether only one peer has turns.
    #[inline]
    pub(crate) fn has_one(&self) -> bool {
        self.active == 1
    }

    /// The peer with the turn.
    #[inline]
    pub(crate) fn current(&self) -> Option<ConnId> {
        let current = self.peers[..self.active].get(self.current)?;
        Some(current.id)
    }

    /// Passes the turn to the next peer.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.current += 1;
        if self.current >= self.active {
            self.current = 0;
        }
    }

    /// Passes the turn to the peer with the least `load`; among equals, to the next.
    pub(crate) fn advance_to_least(&mut self, load: impl Fn(ConnId) -> u64) {
        let from_current = |step: &usize| (self.current + step) % self.active;
        let loads = (0..self.active).map(|step| (load(self.peers[from_current(&step)].id), step));
        if let Some((_, step)) = loads.min() {
            self.current = from_current(&step);
        }
    }

    /// The peer with the turn has no further turns until the pause is over.
    pub(crate) fn pause_current(&mut self, pause: Pause, conns: &mut ConnTable) {
        let Some(peer) = self.peers[..self.active].get_mut(self.current) else {
            return;
        };
        *peer.flag(pause) = true;
        self.active -= 1;
        if self.current < self.active {
            self.swap(self.current, self.active, conns);
        } else {
            self.current = 0;
        }
    }

    /// Ends a pause of a peer. It has turns again, after all others, unless another pause remains.
    /// Returns whether there was such a pause.
    pub(crate) fn end_pause(&mut self, pause: Pause, id: ConnId, conns: &mut ConnTable) -> bool {
        if self.active == self.peers.len() {
            return false;
        }
        let Some(index) = self.index_of(id, conns) else {
            return false;
        };
        let peer = &mut self.peers[index];
        let had_pause = std::mem::take(peer.flag(pause));
        if had_pause && !peer.is_busy && !peer.is_full {
            self.activate(index, conns);
        }
        had_pause
    }

    /// Whether this peer was found full, and its queue has not drained to half since.
    pub(crate) fn is_full(&self, id: ConnId, conn: &Conn) -> bool {
        let peer = self.peers.get(conn.turn as usize);
        peer.is_some_and(|peer| peer.id == id && peer.is_full)
    }

    /// All such peers.
    pub(crate) fn full(&self) -> impl Iterator<Item = ConnId> {
        let paused = self.peers[self.active..].iter();
        paused.filter(|peer| peer.is_full).map(|peer| peer.id)
    }

    fn activate(&mut self, index: usize, conns: &mut ConnTable) {
        debug_assert!(index >= self.active, "it has turns already");
        self.swap(index, self.active, conns);
        self.active += 1;
    }

    fn index_of(&self, id: ConnId, conns: &ConnTable) -> Option<usize> {
        let index = conns.get(id)?.turn as usize;
        (self.peers.get(index)?.id == id).then_some(index)
    }

    fn swap(&mut self, left: usize, right: usize, conns: &mut ConnTable) {
        if left != right {
            self.peers.swap(left, right);
            self.set_turn(left, conns);
            self.set_turn(right, conns);
        }
    }

    fn set_turn(&self, index: usize, conns: &mut ConnTable) {
        if let Some(conn) = conns.get_mut(self.peers[index].id) {
            conn.turn = u32::try_from(index).unwrap_or(u32::MAX);
        }
    }
}

impl Peer {
    fn flag(&mut self, pause: Pause) -> &mut bool {
        match pause {
            Pause::Busy => &mut self.is_busy,
            Pause::Full => &mut self.is_full,
        }
    }
}
