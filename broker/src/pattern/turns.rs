//! Whose turn it is: libzmq's load balancer (`lb_t`) as a data structure.

use crate::conn::ConnTable;
use crate::ids::ConnId;

/// Peers in a circle; those that can take a message stand in front.
///
/// Invariants: `peers[..active]` take turns, the others do not; `current < active`, or both are 0;
/// `conn.turn` of each peer is its index.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    active: usize,
    current: usize,
    peers: Vec<ConnId>,
}

impl Turns {
    /// Adds a peer behind those that take turns.
    pub(crate) fn insert(&mut self, id: ConnId, conns: &mut ConnTable) {
        let index = self.peers.len();
        self.peers.push(id);
        self.set_turn(index, conns);
        self.activate(id, conns);
    }

    /// Takes a peer out for good.
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

    /// Whether there is nobody, full or not.
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Whether only one takes turns.
    #[inline]
    pub(crate) fn has_one(&self) -> bool {
        self.active == 1
    }

    /// Whose turn it is.
    #[inline]
    pub(crate) fn current(&self) -> Option<ConnId> {
        self.peers[..self.active].get(self.current).copied()
    }

    /// It is the next one's turn.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.current += 1;
        if self.current >= self.active {
            self.current = 0;
        }
    }

    /// It is the turn of the one with the least `load`; among equals, of the next.
    pub(crate) fn advance_to_least(&mut self, load: impl Fn(ConnId) -> u64) {
        let from_current = |step: &usize| (self.current + step) % self.active;
        let loads = (0..self.active).map(|step| (load(self.peers[from_current(&step)]), step));
        if let Some((_, step)) = loads.min() {
            self.current = from_current(&step);
        }
    }

    /// The one whose turn it is takes none until [`Self::activate`].
    pub(crate) fn deactivate_current(&mut self, conns: &mut ConnTable) {
        if self.active == 0 {
            return;
        }
        self.active -= 1;
        if self.current < self.active {
            self.swap(self.current, self.active, conns);
        } else {
            self.current = 0;
        }
    }

    /// Takes turns again, behind all who do.
    pub(crate) fn activate(&mut self, id: ConnId, conns: &mut ConnTable) {
        if let Some(index) = self.index_of(id, conns)
            && index >= self.active
        {
            self.swap(index, self.active, conns);
            self.active += 1;
        }
    }

    fn index_of(&self, id: ConnId, conns: &ConnTable) -> Option<usize> {
        let index = conns.get(id)?.turn as usize;
        (self.peers.get(index) == Some(&id)).then_some(index)
    }

    fn swap(&mut self, left: usize, right: usize, conns: &mut ConnTable) {
        if left != right {
            self.peers.swap(left, right);
            self.set_turn(left, conns);
            self.set_turn(right, conns);
        }
    }

    fn set_turn(&self, index: usize, conns: &mut ConnTable) {
        if let Some(conn) = conns.get_mut(self.peers[index]) {
            conn.turn = u32::try_from(index).unwrap_or(u32::MAX);
        }
    }
}
