//! Peers that wait for something that the broker sends them piece by piece, as their queues have
//! room for it.

use crate::ids::ConnId;
use std::collections::BTreeMap;

/// The peers that wait, and those of them whose queues have room, in the order of their turns.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    /// By the number of the place, so that a peer that goes leaves nothing behind.
    line: BTreeMap<u64, ConnId>,
    next_place: u64,
    waiting: BTreeMap<ConnId, Waiter<T>>,
}

#[derive(Debug)]
struct Waiter<T> {
    /// Its place in the line.
    place: Option<u64>,
    wanted: T,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self {
            line: BTreeMap::new(),
            next_place: 0,
            waiting: BTreeMap::new(),
        }
    }
}

impl<T> Waiters<T> {
    /// What a peer waits for.
    pub(crate) fn get(&self, id: ConnId) -> Option<&T> {
        self.waiting.get(&id).map(|waiter| &waiter.wanted)
    }

    /// What a peer waits for, to be changed.
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        self.waiting.get_mut(&id).map(|waiter| &mut waiter.wanted)
    }

    /// What a peer waits for from now on, to be added to.
    pub(crate) fn get_or_default(&mut self, id: ConnId) -> &mut T
    where
        T: Default,
    {
        let waiter = self.waiting.entry(id).or_insert_with(|| Waiter {
            place: None,
            wanted: T::default(),
        });
        &mut waiter.wanted
    }

    /// What each peer waits for.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &T> {
        self.waiting.values().map(|waiter| &waiter.wanted)
    }

    /// A peer waits for this. It keeps its place in the line, if it has one.
    pub(crate) fn insert(&mut self, id: ConnId, wanted: T) {
        let earlier = self.waiting.get(&id);
        let place = earlier.and_then(|waiter| waiter.place);
        self.waiting.insert(id, Waiter { place, wanted });
    }

    /// A peer does not wait any more; returns what it has waited for.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<T> {
        let waiter = self.waiting.remove(&id)?;
        if let Some(place) = waiter.place {
            self.line.remove(&place);
        }
        Some(waiter.wanted)
    }

    /// Puts a peer in line, if it waits; call this when its queue has room.
    pub(crate) fn line_up(&mut self, id: ConnId) {
        if let Some(waiter) = self.waiting.get_mut(&id)
            && waiter.place.is_none()
        {
            waiter.place = Some(self.next_place);
            self.line.insert(self.next_place, id);
            self.next_place += 1;
        }
    }

    /// The next peer in line, which leaves the line.
    pub(crate) fn next_in_line(&mut self) -> Option<ConnId> {
        let (_, id) = self.line.pop_first()?;
        if let Some(waiter) = self.waiting.get_mut(&id) {
            waiter.place = None;
        }
        Some(id)
    }

    /// Whether a peer is in line.
    pub(crate) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Handle;

    #[test]
    fn each_peer_has_one_place_in_the_line_and_takes_it_along() {
        let [a, b, c] = [0, 1, 2].map(|slot| ConnId::new(slot, 0));
        let mut waiters = Waiters::default();
        for id in [a, b, c] {
            waiters.insert(id, "first");
            waiters.line_up(id);
            waiters.line_up(id);
        }
        waiters.insert(a, "second");
        assert_eq!(waiters.remove(b), Some("first"));
        assert_eq!(waiters.next_in_line(), Some(a));
        assert_eq!(waiters.get(a), Some(&"second"));
        waiters.line_up(a);
        assert_eq!(waiters.next_in_line(), Some(c));
        assert_eq!(waiters.next_in_line(), Some(a));
        assert!(!waiters.has_line());
        assert_eq!(waiters.next_in_line(), None);
    }
}
