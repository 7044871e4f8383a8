//! Small variable-sized arrays without holes between them.
//!
//! A pool keeps blocks of equal capacity side by side in one array per capacity. The last block of
//! an array overwrites one that is freed, so that no history of insertions and removals can
//! fragment the memory. The price is that blocks move: each one names its owner, and the caller
//! that frees a block is told which owner must get a new position.

use super::arena::number;
use super::blocks::Blocks;
use std::fmt::Debug;
use std::iter;

/// The structure of the entries of a block.
pub(super) trait Shape {
    /// The element type of the arrays.
    type Word: Copy + Default + Debug;
    /// A block of capacity n is n * `WIDTHS[0]` words, then n * `WIDTHS[1]` words, and so on.
    const WIDTHS: &'static [usize];
    /// The words of one entry.
    const WIDTH: usize = {
        let (mut sum, mut index) = (0, 0);
        while index < Self::WIDTHS.len() {
            sum += Self::WIDTHS[index];
            index += 1;
        }
        sum
    };
}

/// Blocks of at most [`ENTRIES_MAX`] entries of shape `S`.
///
/// A block is identified by its position and its number of entries together.
#[derive(Debug)]
pub(super) struct Pool<S: Shape> {
    classes: Vec<Class<S::Word>>,
    bytes: usize,
}

/// All blocks of one capacity.
#[derive(Debug)]
struct Class<W> {
    words: Blocks<W>,
    owners: Blocks<u32>,
}

/// The block of `owner` is now at position `at`.
#[derive(Debug)]
#[must_use = "the owner's position is stale"]
pub(super) struct Moved {
    pub(super) owner: u32,
    pub(super) at: u32,
}

impl<S: Shape> Pool<S> {
    /// A pool without heap memory.
    pub(super) const fn new() -> Self {
        Self {
            classes: Vec::new(),
            bytes: 0,
        }
    }

    /// A new block for `count` > 0 entries, all zero.
    pub(super) fn allocate(&mut self, count: usize, owner: u32) -> u32 {
        let (index, width) = (class_of(count), capacity(count) * S::WIDTH);
        if self.classes.len() <= index {
            self.bytes -= self.classes.capacity() * size_of::<Class<S::Word>>();
            self.classes.reserve_exact(index + 1 - self.classes.len());
            let capacities = &CAPACITIES[self.classes.len()..=index];
            self.classes.extend(capacities.iter().map(|capacity| Class {
                words: Blocks::new(usize::from(*capacity) * S::WIDTH),
                owners: Blocks::new(1),
            }));
            self.bytes += self.classes.capacity() * size_of::<Class<S::Word>>();
        }
        let class = &mut self.classes[index];
        let at = number(class.owners.len());
        self.bytes -= class.bytes();
        class.owners.push(iter::once(owner), 1);
        let zeros = iter::repeat_n(S::Word::default(), width);
        class.words.push(zeros, 1);
        self.bytes += class.bytes();
        at
    }

    /// Frees the block; another block moves to its position, and its owner is returned.
    #[must_use = "the owner's position is stale"]
    pub(super) fn release(&mut self, at: u32, count: usize) -> Option<Moved> {
        let class = &mut self.classes[class_of(count)];
        self.bytes -= class.bytes();
        class.owners.swap_remove(at);
        class.words.swap_remove(at);
        self.bytes += class.bytes();
        let is_moved = (at as usize) < class.owners.len();
        is_moved.then(|| Moved {
            owner: class.owners[at],
            at,
        })
    }

    /// The words of a block: see [`Shape::WIDTHS`], with [`capacity`] as n.
    #[inline]
    pub(super) fn words(&self, at: u32, count: usize) -> &[S::Word] {
        self.classes[class_of(count)].words.item(at)
    }

    /// The words of a block, mutable.
    pub(super) fn words_mut(&mut self, at: u32, count: usize) -> &mut [S::Word] {
        self.classes[class_of(count)].words.item_mut(at)
    }

    /// Notes the new number of a block's owner.
    pub(super) fn set_owner(&mut self, at: u32, count: usize, owner: u32) {
        self.classes[class_of(count)].owners[at] = owner;
    }

    /// Turns a block of `count` entries into one of `count` + 1 with a gap at `index`, whose
    /// content is unspecified. Returns the new position. Moves the entries of one block.
    pub(super) fn open(
        &mut self,
        at: u32,
        count: usize,
        index: usize,
        owner: u32,
    ) -> (u32, Option<Moved>) {
        debug_assert!(index <= count && count < ENTRIES_MAX);
        if count == 0 {
            return (self.allocate(1, owner), None);
        }
        self.reshape(at, (count, count + 1), (index, index + 1), owner)
    }

    /// Removes the entry at `index` from a block of `count` entries. Returns the new position,
    /// which is meaningless when no entry is left. Moves the entries of one block.
    pub(super) fn close(
        &mut self,
        at: u32,
        count: usize,
        index: usize,
        owner: u32,
    ) -> (u32, Option<Moved>) {
        debug_assert!(index < count);
        if count == 1 {
            return (0, self.release(at, 1));
        }
        self.reshape(at, (count, count - 1), (index + 1, index), owner)
    }

    /// Moves the entries from `from` on to `to`, into another block if the capacity requires it;
    /// entries before both keep their place.
    fn reshape(
        &mut self,
        at: u32,
        (count, count_new): (usize, usize),
        (from, to): (usize, usize),
        owner: u32,
    ) -> (u32, Option<Moved>) {
        let (old, new) = (class_of(count), class_of(count_new));
        let mut offset = 0;
        if old == new {
            let words = self.words_mut(at, count);
            for width in S::WIDTHS {
                let array = &mut words[offset * capacity(count)..][..capacity(count) * width];
                array.copy_within(from * width..count * width, to * width);
                offset += width;
            }
            return (at, None);
        }
        let at_new = self.allocate(count_new, owner);
        let Ok([source, target]) = self.classes.get_disjoint_mut([old, new]) else {
            unreachable!("two different capacities")
        };
        let (source, target) = (source.words.item(at), target.words.item_mut(at_new));
        for width in S::WIDTHS {
            let source = &source[offset * capacity(count)..][..count * width];
            let target = &mut target[offset * capacity(count_new)..][..count_new * width];
            let kept = from.min(to) * width;
            target[..kept].copy_from_slice(&source[..kept]);
            let tail = &source[from * width..];
            target[to * width..][..tail.len()].copy_from_slice(tail);
            offset += width;
        }
        (at_new, self.release(at, count))
    }

    /// Heap bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The owner of a block.
    #[cfg(test)]
    pub(super) fn owner(&self, at: u32, count: usize) -> u32 {
        self.classes[class_of(count)].owners[at]
    }

    /// Number of blocks, and the heap bytes, recounted.
    #[cfg(test)]
    pub(super) fn census(&self) -> (usize, usize) {
        let classes = self.classes.capacity() * size_of::<Class<S::Word>>();
        let bytes: usize = self.classes.iter().map(Class::bytes).sum();
        (
            self.classes.iter().map(|class| class.owners.len()).sum(),
            classes + bytes,
        )
    }
}

impl<W> Class<W> {
    const fn bytes(&self) -> usize {
        self.words.bytes() + self.owners.bytes()
    }
}

/// The capacity of a block with `count` entries.
pub(super) const fn capacity(count: usize) -> usize {
    CAPACITIES[class_of(count)] as usize
}

const fn class_of(count: usize) -> usize {
    CLASS_OF[count] as usize
}

/// The largest number of entries in one block.
pub(super) const ENTRIES_MAX: usize = 256;

/// Exact up to 8, then four per octave: at most a quarter of a block is unused.
const CAPACITIES: [u16; 28] = [
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160,
    192, 224, 256,
];

const CLASS_OF: [u8; ENTRIES_MAX + 1] = {
    let mut table = [0; ENTRIES_MAX + 1];
    let (mut count, mut class) = (1, 0u8);
    while count <= ENTRIES_MAX {
        if count > CAPACITIES[class as usize] as usize {
            class += 1;
        }
        table[count] = class;
        count += 1;
    }
    table
};
