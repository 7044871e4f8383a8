//! Bytes that several queues share: they exist once in memory, and are counted once.

use super::buffer::Buffer;
use bytes::Bytes;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most bytes that are copied to free a block: more would keep other connections waiting.
const COPIED_SIZE_MAX: usize = 1 << 20;

/// Memory of all shared blocks. It is a counter of its own, not a field of the store, because the
/// last owner of a block may have no access to the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Bytes of all blocks together.
    pub(super) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of a block of bytes. Clones and slices refer to the same block, which is freed with the
/// last of them.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    block: Arc<Block>,
    range: Range<usize>,
}

#[derive(Debug)]
struct Block {
    bytes: Bytes,
    meter: Meter,
    /// The size of its memory, used or not.
    size: u64,
}

impl Shared {
    /// Counts `bytes`, whose memory has `capacity` bytes and no other owner, until the last clone
    /// is dropped.
    pub(super) fn new(bytes: Bytes, capacity: usize, meter: &Meter) -> Self {
        let size = capacity.max(bytes.len()) + size_of::<Block>();
        let size = size as u64;
        meter.0.fetch_add(size, Ordering::Relaxed);
        let range = 0..bytes.len();
        let meter = meter.clone();
        let block = Arc::new(Block { bytes, meter, size });
        Self { block, range }
    }

    /// Counts the bytes of a queue's buffer in the same way.
    pub(super) fn of_buffer(buffer: Buffer, meter: &Meter) -> Self {
        let capacity = buffer.capacity();
        Self::new(buffer.into_bytes(), capacity, meter)
    }

    /// The bytes without the first `size`.
    pub(crate) fn skip(&self, size: usize) -> Self {
        self.slice(size..self.len())
    }

    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len());
        let start = self.range.start;
        Self {
            block: self.block.clone(),
            range: start + range.start..start + range.end,
        }
    }

    /// Takes out the first `size` bytes.
    pub(super) fn split_to(&mut self, size: usize) -> Self {
        let front = self.slice(0..size);
        self.range.start += size;
        front
    }

    /// Memory of the whole block.
    pub(crate) fn block_size(&self) -> u64 {
        self.block.size
    }

    /// Whether the block is much too large for `left` bytes of it, so few that they are copied
    /// quickly.
    pub(super) fn is_wasted_on(&self, left: usize) -> bool {
        (left as u64) < self.block.size / 4 && left <= COPIED_SIZE_MAX
    }

    /// The address that identifies the block.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.block).addr()
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block.bytes[self.range.clone()]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.size, Ordering::Relaxed);
    }
}
