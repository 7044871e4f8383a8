//! Connections in line, any of which can leave in constant time.

use crate::conn::ConnTable;
use crate::ids::ConnId;
use std::collections::VecDeque;

/// Empty places that a line may have in addition to one for each connection.
const EMPTY_MAX: usize = 16;

/// A line that contains each connection at most once; each knows its place.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The number of the first place.
    first: u64,
    len: usize,
    /// Places in the middle are empty where a connection has left; the first and last never are.
    places: VecDeque<Option<ConnId>>,
}

impl Line {
    /// The number of connections in line.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The connection with the next turn.
    pub(crate) fn front(&self) -> Option<ConnId> {
        self.places.front().copied().flatten()
    }

    pub(crate) fn push_back(&mut self, id: ConnId, conns: &mut ConnTable) {
        let Some(conn) = conns.get_mut(id) else {
            debug_assert!(false, "a closed connection is in line");
            return;
        };
        debug_assert!(conn.place.is_none(), "it is in line already");
        conn.place = Some(self.first + self.places.len() as u64);
        self.places.push_back(Some(id));
        self.len += 1;
    }

    /// The first connection leaves.
    pub(crate) fn pop_front(&mut self, conns: &mut ConnTable) {
        if let Some(id) = self.front() {
            self.remove(id, conns);
        }
    }

    /// The first connection goes to the end.
    pub(crate) fn rotate(&mut self, conns: &mut ConnTable) {
        if let Some(id) = self.front() {
            self.remove(id, conns);
            self.push_back(id, conns);
        }
    }

    /// This connection leaves, if it is in line.
    pub(crate) fn remove(&mut self, id: ConnId, conns: &mut ConnTable) {
        let Some(place) = conns.get_mut(id).and_then(|conn| conn.place.take()) else {
            return;
        };
        let index = usize::try_from(place - self.first).unwrap_or(usize::MAX);
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        debug_assert_eq!(*place, Some(id), "another one is there");
        *place = None;
        self.len -= 1;
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        while let Some(None) = self.places.back() {
            self.places.pop_back();
        }
        if self.places.len() > 2 * self.len + EMPTY_MAX {
            self.close_up(conns);
        }
    }

    /// Renumbers all places, without empty ones: once in as many removals as there are places.
    fn close_up(&mut self, conns: &mut ConnTable) {
        self.places.retain(Option::is_some);
        for (id, place) in self.places.iter().flatten().zip(self.first..) {
            if let Some(conn) = conns.get_mut(*id) {
                conn.place = Some(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::{Conn, Origin};
    use crate::ids::{ProxyId, SocketId};
    use crate::peer::PeerAddress;
    use crate::table::Handle;
    use std::sync::Arc;
    use std::time::Instant;
    use zmtp::{Session, SessionConfig, SocketType};

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant works: no time passes"
    )]
    fn add(conns: &mut ConnTable) -> ConnId {
        let (config, now) = (SessionConfig::new(SocketType::Pull), Instant::now());
        let session = Session::new(Arc::new(config), now, &mut Vec::new());
        let ids = (ProxyId::new(0, 0), SocketId::new(0, 0));
        let peer = PeerAddress::Program;
        conns.insert(Conn::new(now, session, ids, peer, Origin::Accepted))
    }

    /// Compared with a plain list that is searched.
    #[test]
    fn the_others_keep_their_order_when_one_leaves() {
        let (mut conns, mut line, mut plain) = (ConnTable::new(1), Line::default(), Vec::new());
        let all: Vec<ConnId> = (0..100).map(|_| add(&mut conns)).collect();
        let mut state = 7_u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [kind, which, ..] = state.to_be_bytes();
            let id = all[usize::from(which) % all.len()];
            match kind % 8 {
                0 => {
                    line.rotate(&mut conns);
                    let by = plain.len().min(1);
                    plain.rotate_left(by);
                }
                1 => {
                    line.pop_front(&mut conns);
                    plain.drain(..plain.len().min(1));
                }
                2..5 => {
                    line.remove(id, &mut conns);
                    plain.retain(|other| *other != id);
                }
                _ if plain.contains(&id) => {}
                _ => {
                    line.push_back(id, &mut conns);
                    plain.push(id);
                }
            }
            assert!(line.places.iter().flatten().eq(&plain));
            assert_eq!(
                (line.len(), line.front()),
                (plain.len(), plain.first().copied())
            );
            assert!(line.places.len() <= 2 * line.len() + EMPTY_MAX);
        }
    }

    #[test]
    fn a_line_whose_first_never_moves_does_not_grow() {
        let (mut conns, mut line) = (ConnTable::new(1), Line::default());
        let stuck = add(&mut conns);
        line.push_back(stuck, &mut conns);
        let [mut former, other] = [(); 2].map(|()| add(&mut conns));
        line.push_back(former, &mut conns);
        for _ in 0..10_000 {
            let next = if former == other {
                add(&mut conns)
            } else {
                other
            };
            line.push_back(next, &mut conns);
            line.remove(former, &mut conns);
            former = next;
        }
        assert_eq!((line.len(), line.front()), (2, Some(stuck)));
        assert!(line.places.len() <= 4 + EMPTY_MAX);
    }
}
