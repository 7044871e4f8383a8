//! Tables whose entries are found by handles, where a handle never finds another entry.

use slab::Slab;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A slot of a [`Table`], and the number of its earlier uses.
pub(crate) trait Handle: Copy + Debug + Eq {
    fn new(slot: u32, generation: u32) -> Self;

    fn generation(self) -> u32;

    fn slot(self) -> usize;
}

/// Entries of one type. A free slot is reused under another handle.
#[derive(Debug)]
pub(crate) struct Table<H, T> {
    entries: Slab<Entry<T>>,
    first_generation: u32,
    /// The generation of each slot's next entry, while the slot is free.
    generations: Vec<u32>,
    handles: PhantomData<fn() -> H>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: T,
}

impl<H: Handle, T> Table<H, T> {
    /// An empty table; the first entry of each slot will have this generation.
    pub(crate) fn new(first_generation: u32) -> Self {
        Self {
            entries: Slab::new(),
            first_generation,
            generations: Vec::new(),
            handles: PhantomData,
        }
    }

    /// Adds an entry, which `make` builds from its own handle.
    ///
    /// # Panics
    /// At 2³² entries at once, for which no machine has the memory.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(H) -> T) -> H {
        let entry = self.entries.vacant_entry();
        let index = entry.key();
        if index == self.generations.len() {
            self.generations.push(self.first_generation);
        }
        let Ok(slot) = u32::try_from(index) else {
            unreachable!("more entries than slots")
        };
        let generation = self.generations[index];
        let handle = H::new(slot, generation);
        entry.insert(Entry {
            generation,
            value: make(handle),
        });
        handle
    }

    /// Removes an entry. Its slot is free, and its handle finds nothing any more.
    pub(crate) fn remove(&mut self, handle: H) -> Option<T> {
        self.get(handle)?;
        // The generation of a slot wraps around after 2³² uses.
        self.generations[handle.slot()] = handle.generation().wrapping_add(1);
        Some(self.entries.remove(handle.slot()).value)
    }

    /// Replaces an entry by the result of `change`, under the same handle.
    pub(crate) fn replace_with(
        &mut self,
        handle: H,
        change: impl FnOnce(T) -> T,
    ) -> Option<&mut T> {
        self.get(handle)?;
        let Entry { generation, value } = self.entries.remove(handle.slot());
        let vacant = self.entries.vacant_entry();
        debug_assert_eq!(
            vacant.key(),
            handle.slot(),
            "the slot freed last comes first"
        );
        let value = change(value);
        Some(&mut vacant.insert(Entry { generation, value }).value)
    }

    #[inline]
    pub(crate) fn get(&self, handle: H) -> Option<&T> {
        let entry = self.entries.get(handle.slot())?;
        (entry.generation == handle.generation()).then_some(&entry.value)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, handle: H) -> Option<&mut T> {
        let entry = self.entries.get_mut(handle.slot())?;
        (entry.generation == handle.generation()).then_some(&mut entry.value)
    }

    /// The entry in this slot.
    #[inline]
    pub(crate) fn in_slot(&self, slot: u32) -> Option<(H, &T)> {
        let Entry { generation, value } = self.entries.get(slot as usize)?;
        Some((H::new(slot, *generation), value))
    }

    /// Several entries at once, mutable.
    ///
    /// # Panics
    /// If two handles are equal, or if one finds nothing.
    pub(crate) fn disjoint_mut<const N: usize>(&mut self, handles: [H; N]) -> [&mut T; N] {
        let found = self.entries.get_disjoint_mut(handles.map(H::slot));
        let mut generations = handles.map(H::generation).into_iter();
        match found {
            Ok(entries) => entries.map(|entry| {
                assert_eq!(Some(entry.generation), generations.next(), "{handles:?}");
                &mut entry.value
            }),
            Err(error) => panic!("{handles:?}: {error}"),
        }
    }

    /// Two entries at once, mutable.
    ///
    /// # Panics
    /// As [`Self::disjoint_mut`].
    #[inline]
    pub(crate) fn pair_mut(&mut self, one: H, other: H) -> (&mut T, &mut T) {
        let found = self.entries.get2_mut(one.slot(), other.slot());
        match found {
            Some((left, right))
                if (left.generation, right.generation)
                    == (one.generation(), other.generation()) =>
            {
                (&mut left.value, &mut right.value)
            }
            _ => panic!("{one:?} or {other:?} finds nothing"),
        }
    }

    /// Every entry, in the order of the slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (H, &T)> {
        self.entries
            .iter()
            .map(|(index, entry)| (handle(index, entry.generation), &entry.value))
    }

    /// Every entry, mutable, in the same order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (H, &mut T)> {
        self.entries
            .iter_mut()
            .map(|(index, entry)| (handle(index, entry.generation), &mut entry.value))
    }

    /// Every handle that finds an entry, in the same order.
    pub(crate) fn handles(&self) -> Vec<H> {
        self.iter().map(|(handle, _)| handle).collect()
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

fn handle<H: Handle>(index: usize, generation: u32) -> H {
    H::new(u32::try_from(index).unwrap_or(u32::MAX), generation)
}

/// For handles that are known to find an entry.
///
/// # Panics
/// If one does not.
impl<H: Handle, T> Index<H> for Table<H, T> {
    type Output = T;

    #[inline]
    fn index(&self, handle: H) -> &T {
        let Some(entry) = self.get(handle) else {
            panic!("{handle:?} finds nothing")
        };
        entry
    }
}

impl<H: Handle, T> IndexMut<H> for Table<H, T> {
    #[inline]
    fn index_mut(&mut self, handle: H) -> &mut T {
        let Some(entry) = self.get_mut(handle) else {
            panic!("{handle:?} finds nothing")
        };
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SocketId;

    #[test]
    fn a_handle_never_finds_another_entry() {
        let mut table: Table<SocketId, &str> = Table::new(7);
        let first = table.insert_with(|_| "first");
        assert_eq!((table[first], table.len()), ("first", 1));
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert_with(|_| "second");
        assert_eq!(second.slot(), first.slot());
        assert_eq!(table.get(first), None);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.replace_with(first, |_| "third"), None);
        assert_eq!(table.in_slot(0), Some((second, &"second")));
        assert_eq!(table.handles(), [second]);
    }

    #[test]
    fn an_entry_is_replaced_under_its_handle() {
        let mut table: Table<SocketId, u8> = Table::new(0);
        let [first, second] = [1, 2].map(|value| table.insert_with(|_| value));
        assert_eq!(table.replace_with(first, |value| value + 10), Some(&mut 11));
        assert_eq!((table[first], table[second]), (11, 2));
    }

    #[test]
    fn several_entries_can_be_changed_at_once() {
        let mut table: Table<SocketId, u8> = Table::new(0);
        let ids = [1, 2, 3].map(|value| table.insert_with(|_| value));
        let [last, first] = table.disjoint_mut([ids[2], ids[0]]);
        std::mem::swap(last, first);
        assert_eq!(ids.map(|id| table[id]), [3, 2, 1]);
        let (first, second) = table.pair_mut(ids[0], ids[1]);
        std::mem::swap(first, second);
        assert_eq!(ids.map(|id| table[id]), [2, 3, 1]);
    }

    #[test]
    #[should_panic(expected = "finds nothing")]
    fn indexing_with_a_stale_handle_panics() {
        let mut table: Table<SocketId, u8> = Table::new(0);
        let id = table.insert_with(|_| 1);
        table.remove(id);
        table[id] = 2;
    }
}
