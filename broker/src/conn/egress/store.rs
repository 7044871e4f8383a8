//! State that all queues share: the account of their memory, spare buffers, the time.

use super::apart::Apart;
use super::buffer::Buffer;
use super::shared::{Meter, Shared};
use super::{Chunk, SLICES_MAX};
use bytes::Bytes;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// Capacities of batches: each class has four times that of the one before. A short queue gets a
/// small buffer, and a growing batch is copied at most three times. The last two classes are for
/// large copies out of an input.
const CLASS_SIZES: [usize; 7] = [
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
];

/// Spare bytes of each class: a turn with many receivers finds its buffers again.
const CLASS_SPARE_MAX: [usize; 7] = [
    256 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    1 << 20,
    512 << 10,
    1 << 20,
];

/// Chunks in lists kept for reuse: half a megabyte of them.
const LIST_ROOM_MAX: usize = 12 << 10;

/// Queues of messages kept apart that are kept for reuse, all of them empty.
const APARTS_MAX: usize = 256;

/// State that all queues share.
#[derive(Debug, Default)]
pub(crate) struct Store {
    #[expect(clippy::vec_box, reason = "queues own boxes, and the boxes are kept")]
    aparts: Vec<Box<Apart>>,
    aparts_bytes: u64,
    /// Whether queues write even short runs straight from the input, to avoid copies.
    pub(crate) copies_nothing: bool,
    keys: RandomState,
    /// The last copy out of the current input.
    kept: Option<KeptRun>,
    /// The number of chunks for which the lists below have room.
    list_room: usize,
    /// Lists of drained queues, kept for reuse.
    lists: Vec<VecDeque<Chunk>>,
    meter: Meter,
    /// Memory owned by single queues.
    owned: u64,
    /// Bytes in all queues together; shared bytes count for each queue.
    pub(crate) queued: u64,
    /// Buffers of drained batches by class, kept for reuse: an idle peer owns none.
    spare: [Vec<Buffer>; CLASS_SIZES.len()],
    spare_bytes: [usize; CLASS_SIZES.len()],
    /// The time stamp for messages that may expire: microseconds since the core began.
    pub(crate) stamp: u64,
}

/// A run of the current input that a queue has copied.
#[derive(Debug)]
pub(super) struct KeptRun {
    range: Range<usize>,
    /// The copy, once a second queue needed the same.
    shared: Option<Shared>,
}

impl Store {
    /// A store for tests whose queues count in different ones.
    #[cfg(test)]
    pub(crate) fn boundless() -> Self {
        Self {
            owned: 1 << 30,
            queued: 1 << 30,
            ..Self::default()
        }
    }

    /// Memory of all queues, of messages removed from them, and of spare buffers, in bytes. Shared
    /// memory counts once.
    pub(crate) fn memory(&self) -> u64 {
        self.owned + self.meter.total() + self.spare()
    }

    /// Memory of the spare buffers, in bytes.
    pub(crate) fn spare(&self) -> u64 {
        let buffers: usize = self.spare_bytes.iter().sum();
        (buffers + self.list_room * size_of::<Chunk>()) as u64 + self.aparts_bytes
    }

    /// Returns the spare buffers to the allocator.
    pub(crate) fn release_spare(&mut self) {
        self.aparts = Vec::new();
        self.aparts_bytes = 0;
        self.lists = Vec::new();
        self.list_room = 0;
        self.spare = Default::default();
        self.spare_bytes = [0; CLASS_SIZES.len()];
    }

    /// Makes bytes that several queues may share. Their memory has `capacity` bytes, and no other
    /// owner.
    pub(crate) fn share(&self, bytes: Bytes, capacity: usize) -> Shared {
        Shared::new(bytes, capacity, &self.meter)
    }

    /// The same as [`Self::share`], with a copy.
    pub(crate) fn share_copy(&self, bytes: &[u8]) -> Shared {
        self.share_buffer(Buffer::copy_of(bytes))
    }

    /// The same as [`Self::share`], with a queue's own buffer.
    pub(super) fn share_buffer(&self, buffer: Buffer) -> Shared {
        Shared::of_buffer(buffer, &self.meter)
    }

    /// The input goes away: no queue will copy more of it.
    #[inline]
    pub(crate) fn forget_input(&mut self) {
        if self.kept.is_some() {
            self.kept = None;
        }
    }

    /// A copy of the input's `range` that other queues have made too, unless this is the first.
    pub(super) fn kept(&mut self, range: &Range<usize>, buffer: &[u8]) -> Option<Shared> {
        let again = self.kept.as_mut().filter(|kept| kept.range == *range);
        let Some(again) = again else {
            let range = range.clone();
            self.kept = Some(KeptRun {
                range,
                shared: None,
            });
            return None;
        };
        let meter = &self.meter;
        let copy = again.shared.get_or_insert_with(|| {
            Shared::of_buffer(Buffer::copy_of(&buffer[range.clone()]), meter)
        });
        Some(copy.clone())
    }

    /// Whether a copy of the input's `range` exists.
    pub(super) fn has_kept(&self, range: &Range<usize>) -> bool {
        let kept = self.kept.as_ref().filter(|kept| kept.range == *range);
        kept.is_some_and(|kept| kept.shared.is_some())
    }

    /// Charges `bytes` to the queue with this account.
    pub(super) fn charge(&mut self, account: &mut u64, bytes: usize) {
        *account += bytes as u64;
        self.owned += bytes as u64;
    }

    pub(super) fn refund(&mut self, account: &mut u64, bytes: usize) {
        *account -= bytes as u64;
        self.owned -= bytes as u64;
    }

    /// Notes a change of size.
    pub(super) fn resize(&mut self, account: &mut u64, before: usize, after: usize) {
        self.charge(account, after);
        self.refund(account, before);
    }

    /// A keyed hash of a topic.
    pub(super) fn hash(&self, topic: &[u8]) -> u64 {
        self.keys.hash_one(topic)
    }

    /// An empty buffer for at least `size` bytes; not charged to its queue yet.
    #[inline]
    pub(super) fn take(&mut self, size: usize) -> Buffer {
        let class = CLASS_SIZES.partition_point(|class| *class < size);
        let Some(spare) = self.spare.get_mut(class) else {
            return Buffer::with_capacity(size);
        };
        match spare.pop() {
            Some(buffer) => {
                self.spare_bytes[class] -= buffer.capacity();
                buffer
            }
            None => Buffer::with_capacity(CLASS_SIZES[class]),
        }
    }

    /// Takes back a buffer that is not charged to its queue any more.
    #[inline]
    pub(super) fn give(&mut self, mut buffer: Buffer) {
        let size = buffer.capacity();
        let above = CLASS_SIZES.partition_point(|class| *class <= size);
        let Some(class) = above.checked_sub(1) else {
            return;
        };
        let is_much_larger = size > 2 * CLASS_SIZES[class];
        if !is_much_larger && self.spare_bytes[class] + size <= CLASS_SPARE_MAX[class] {
            buffer.truncate(0);
            self.spare_bytes[class] += size;
            self.spare[class].push(buffer);
        }
    }

    pub(super) fn take_list(&mut self) -> VecDeque<Chunk> {
        let list = self.lists.pop().unwrap_or_default();
        self.list_room -= list.capacity();
        list
    }

    #[inline]
    pub(super) fn give_list(&mut self, list: VecDeque<Chunk>) {
        debug_assert!(list.is_empty(), "only an empty list is kept");
        let room = list.capacity();
        if (1..=SLICES_MAX).contains(&room) && self.list_room + room <= LIST_ROOM_MAX {
            self.list_room += room;
            self.lists.push(list);
        }
    }

    /// An empty queue of messages kept apart, charged only for itself.
    pub(super) fn take_apart(&mut self) -> Box<Apart> {
        let apart = match self.aparts.pop() {
            Some(spare) => {
                self.aparts_bytes -= spare.footprint();
                spare
            }
            None => Box::default(),
        };
        self.owned += apart.footprint();
        apart
    }

    pub(super) fn give_apart(&mut self, apart: Box<Apart>) {
        self.owned -= apart.footprint();
        if self.aparts.len() < APARTS_MAX && apart.is_small() {
            self.aparts_bytes += apart.footprint();
            self.aparts.push(apart);
        }
    }

    /// The block that waits for other queues to keep the same run.
    pub(super) fn kept_block(&self) -> Option<&Shared> {
        self.kept.as_ref().and_then(|kept| kept.shared.as_ref())
    }

    /// The bytes of spare buffers, recounted.
    #[cfg(test)]
    pub(super) fn walk_spare(&self) -> usize {
        let buffers = self.spare.iter().flatten().map(Buffer::capacity);
        let lists = self
            .lists
            .iter()
            .map(|list| list.capacity() * size_of::<Chunk>());
        let aparts = self.aparts.iter().map(|apart| apart.walk());
        buffers.chain(lists).chain(aparts).sum()
    }
}
