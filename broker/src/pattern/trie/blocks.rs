//! A growing array that never moves as a whole.

use std::ops::{Index, IndexMut};

/// The most bytes of a block, and so the most that the allocator copies for one more item.
pub(super) const BLOCK_BYTES_MAX: usize = 128 << 10;

/// Items of `width` elements each, in blocks that hold the same power of two of them. The last
/// block in use grows by a sixteenth of the total, not by a factor of two like `Vec`, because with
/// a million topics half of the memory would be slack.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    blocks: Vec<Vec<T>>,
    bytes: usize,
    len: usize,
    /// A block holds two to the power of this many items.
    shift: u32,
    width: usize,
}

impl<T> Blocks<T> {
    /// No items, and no heap memory.
    pub(super) const fn new(width: usize) -> Self {
        Self {
            blocks: Vec::new(),
            bytes: 0,
            len: 0,
            shift: (BLOCK_BYTES_MAX / (width * size_of::<T>())).ilog2(),
            width,
        }
    }

    /// Number of items.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Items for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.blocks.iter().map(Vec::capacity).sum::<usize>() / self.width
    }

    /// Items of a whole block.
    pub(super) const fn items_per_block(&self) -> usize {
        1 << self.shift
    }

    /// Heap bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an item with these elements; makes room for at least `step` items at first.
    pub(super) fn push(&mut self, item: impl Iterator<Item = T>, step: usize) {
        let (index, mask) = (self.len >> self.shift, self.items_per_block() - 1);
        if index == self.blocks.len() {
            let before = self.blocks.capacity();
            if index == before {
                self.blocks.reserve_exact((index / 8).max(1));
            }
            self.blocks.push(Vec::new());
            self.bytes += (self.blocks.capacity() - before) * size_of::<Vec<T>>();
        }
        let block = &mut self.blocks[index];
        if block.len() == block.capacity() {
            let (before, left) = (block.capacity(), mask + 1 - (self.len & mask));
            let items = (self.len / 16).max(step).min(left);
            block.reserve_exact(items * self.width);
            self.bytes += (block.capacity() - before) * size_of::<T>();
        }
        block.extend(item);
        self.len += 1;
    }

    /// Removes the last item. An empty block is kept until the one before is half empty, and the
    /// only block keeps half as much again, so that the next item does not allocate again. With the
    /// last item all memory is freed.
    pub(super) fn pop(&mut self) {
        self.len -= 1;
        if self.len == 0 {
            (self.blocks, self.bytes) = (Vec::new(), 0);
            return;
        }
        let (index, mask) = (self.len >> self.shift, self.items_per_block() - 1);
        let in_block = self.len & mask;
        self.blocks[index].truncate(in_block * self.width);
        let block_bytes = |block: &Vec<T>| block.capacity() * size_of::<T>();
        if in_block <= self.items_per_block() / 2 {
            while self.blocks.len() > index + 1 {
                self.bytes -= self.blocks.pop().as_ref().map_or(0, block_bytes);
            }
        }
        let block = &mut self.blocks[index];
        if index == 0 && block.len() < (block.capacity() / self.width).div_ceil(2) * self.width {
            let before = block.capacity();
            block.shrink_to((self.len + self.len / 2) * self.width);
            self.bytes -= (before - block.capacity()) * size_of::<T>();
        }
    }

    /// The elements of an item.
    #[inline]
    pub(super) fn item(&self, index: u32) -> &[T] {
        let (block, start) = self.place(index);
        &self.blocks[block][start..start + self.width]
    }

    /// The elements of an item, mutable.
    #[inline]
    pub(super) fn item_mut(&mut self, index: u32) -> &mut [T] {
        let (block, start) = self.place(index);
        &mut self.blocks[block][start..start + self.width]
    }

    #[inline]
    const fn place(&self, index: u32) -> (usize, usize) {
        let index = index as usize;
        let mask = (1 << self.shift) - 1;
        (index >> self.shift, (index & mask) * self.width)
    }
}

impl<T: Copy> Blocks<T> {
    /// Overwrites an item with the last one, and removes the last.
    pub(super) fn swap_remove(&mut self, index: u32) {
        let last = u32::try_from(self.len - 1).unwrap_or(u32::MAX);
        let ((to, at), (from, start)) = (self.place(index), self.place(last));
        let range = start..start + self.width;
        if to == from {
            self.blocks[to].copy_within(range, at);
        } else if let Ok([source, target]) = self.blocks.get_disjoint_mut([from, to]) {
            target[at..at + self.width].copy_from_slice(&source[range]);
        }
        self.pop();
    }
}

/// For items of one element.
impl<T> Index<u32> for Blocks<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: u32) -> &T {
        let (block, start) = self.place(index);
        &self.blocks[block][start]
    }
}

impl<T> IndexMut<u32> for Blocks<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        let (block, start) = self.place(index);
        &mut self.blocks[block][start]
    }
}
