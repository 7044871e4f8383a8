//! Slots with stable numbers.

use super::blocks::Blocks;
use std::iter;
use std::ops::{Index, IndexMut};

/// No slot: the end of a list, or no node.
pub(super) const NONE: u32 = u32::MAX;

/// A value in an [`Arena`], which can hold the numbers of two vacant slots while it is itself
/// vacant.
pub(super) trait Slot: Copy {
    /// The value of a vacant slot between two others in the list of vacant slots.
    fn vacant(neighbours: Neighbours) -> Self;
    /// The argument of [`vacant`](Self::vacant), if the slot is vacant.
    fn neighbours(&self) -> Option<Neighbours>;
}

/// The vacant slots before and after another, or [`NONE`] at the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbours {
    pub(super) previous: u32,
    pub(super) next: u32,
}

/// A growing array whose elements keep their numbers; slots of removed ones are reused, last one
/// first.
#[derive(Debug)]
pub(super) struct Arena<T> {
    live: usize,
    slots: Blocks<T>,
    vacant_head: u32,
}

impl<T: Slot> Arena<T> {
    /// An arena without heap memory.
    pub(super) const fn new() -> Self {
        Self {
            live: 0,
            slots: Blocks::new(1),
            vacant_head: NONE,
        }
    }

    /// Stores `value` and returns its number, which is below 2^31. Amortised O(1); copies no more
    /// than one block.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.live += 1;
        if self.vacant_head == NONE {
            let number = number(self.slots.len());
            self.slots.push(iter::once(value), 4);
            return number;
        }
        let number = self.vacant_head;
        self.unlink(number);
        self[number] = value;
        number
    }

    /// Makes the slot vacant. The caller must have read the value.
    pub(super) fn remove(&mut self, number: u32) {
        debug_assert!(self.live > 0);
        self.live -= 1;
        let next = self.vacant_head;
        self[number] = T::vacant(Neighbours {
            previous: NONE,
            next,
        });
        self.relink(next, |neighbours| neighbours.previous = number);
        self.vacant_head = number;
    }

    /// Whether less than a quarter of several blocks is in use.
    pub(super) const fn is_sparse(&self) -> bool {
        self.slots.len() > self.slots.items_per_block() && self.live < self.slots.len() / 4
    }

    /// Removes the last slot if it is vacant; otherwise returns its number, for the caller to move
    /// it.
    pub(super) fn drop_last(&mut self) -> Option<u32> {
        let last = number(self.slots.len() - 1);
        if self[last].neighbours().is_none() {
            return Some(last);
        }
        self.unlink(last);
        self.slots.pop();
        None
    }

    /// Moves the value of the last slot to a vacant one and returns its new number.
    pub(super) fn move_last(&mut self) -> u32 {
        let (last, target) = (number(self.slots.len() - 1), self.vacant_head);
        debug_assert!(target != NONE && target != last);
        self.unlink(target);
        self[target] = self[last];
        self.slots.pop();
        target
    }

    fn unlink(&mut self, number: u32) {
        let Some(Neighbours { previous, next }) = self[number].neighbours() else {
            unreachable!("slot {number} is not vacant")
        };
        if previous == NONE {
            self.vacant_head = next;
        }
        self.relink(previous, |neighbours| neighbours.next = next);
        self.relink(next, |neighbours| neighbours.previous = previous);
    }

    fn relink(&mut self, number: u32, change: impl FnOnce(&mut Neighbours)) {
        if number != NONE
            && let Some(mut neighbours) = self[number].neighbours()
        {
            change(&mut neighbours);
            self[number] = T::vacant(neighbours);
        }
    }

    /// Slots in use.
    pub(super) const fn live(&self) -> usize {
        self.live
    }

    /// Heap bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.slots.bytes()
    }

    /// Slots for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.slots[number]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.slots[number]
    }
}

/// An index in its stored form. Two thousand million nodes take more memory than the limits allow.
pub(super) fn number(index: usize) -> u32 {
    match u32::try_from(index) {
        Ok(number) if number < 1 << 31 => number,
        _ => panic!("more than 2^31 nodes in a subscription trie"),
    }
}
