//! Slots with stable numbers.

use std::ops::{Index, IndexMut};

/// No slot: the end of a list, the absence of a node.
pub(super) const NONE: u32 = u32::MAX;

/// What an [`Arena`] can hold: a value that can carry the number of a vacant slot while it is
/// itself vacant.
pub(super) trait Slot {
    /// The value of a vacant slot whose successor in the list of vacant slots is `next`.
    fn vacant(next: u32) -> Self;
    /// The successor given to [`vacant`](Self::vacant).
    fn next_vacant(&self) -> u32;
}

/// A growing array whose elements keep their numbers; removed ones are reused, last one first.
#[derive(Debug)]
pub(super) struct Arena<T> {
    slots: Vec<T>,
    vacant_head: u32,
    live: usize,
}

impl<T: Slot> Arena<T> {
    /// An arena without heap memory.
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            vacant_head: NONE,
            live: 0,
        }
    }

    /// Stores `value` and returns its number, which is below 2^31. Amortised O(1).
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.live += 1;
        if self.vacant_head == NONE {
            reserve_one(&mut self.slots, 4);
            let number = number(self.slots.len());
            self.slots.push(value);
            return number;
        }
        let number = self.vacant_head;
        self.vacant_head = self[number].next_vacant();
        self[number] = value;
        number
    }

    /// Makes the slot vacant. The caller has read what it still needs.
    pub(super) fn remove(&mut self, number: u32) {
        debug_assert!(self.live > 0);
        self.live -= 1;
        self[number] = T::vacant(self.vacant_head);
        self.vacant_head = number;
    }

    /// Slots in use.
    pub(super) const fn live(&self) -> usize {
        self.live
    }

    /// Heap bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<T>()
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.slots[number as usize]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.slots[number as usize]
    }
}

/// Makes room for one element more; grows by a sixteenth, at least by `step`, and not by the factor
/// of two of `Vec`, because with a million topics half of the memory would be slack. Large blocks
/// are moved by the kernel's page tables (`mremap`), so frequent growth costs little.
pub(super) fn reserve_one<T>(items: &mut Vec<T>, step: usize) {
    if items.len() == items.capacity() {
        items.reserve_exact((items.len() / 16).max(step));
    }
}

/// An index as it is stored. Two thousand million nodes take more memory than the limits allow.
pub(super) fn number(index: usize) -> u32 {
    match u32::try_from(index) {
        Ok(number) if number < 1 << 31 => number,
        _ => panic!("more than 2^31 nodes in a subscription trie"),
    }
}
