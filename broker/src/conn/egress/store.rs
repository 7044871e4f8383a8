//! What all queues have in common: the account of their memory, spare buffers, the time.

use super::apart::Apart;
use super::buffer::Buffer;
use super::shared::{Meter, Shared};
use super::{Chunk, SLICES_MAX};
use bytes::Bytes;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// Capacities of batches: each class has four times that of the one before. A queue that holds
/// little gets a small buffer, and a batch that grows is copied at most three times. The last two
/// are for what is copied out of an input at once.
const CLASS_SIZES: [usize; 7] = [
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    128 << 10,
    256 << 10,
];

/// Spare bytes of each class: a turn to many peers finds its buffers again.
const CLASS_SPARE_MAX: [usize; 7] = [
    256 << 10,
    256 << 10,
    512 << 10,
    1 << 20,
    1 << 20,
    512 << 10,
    1 << 20,
];

/// Chunks for which lists are kept: half a megabyte of them.
const LIST_ROOM_MAX: usize = 12 << 10;

/// Queues of messages kept apart that are kept for reuse, all of them empty.
const APARTS_MAX: usize = 256;

/// What all queues have in common.
#[derive(Debug, Default)]
pub(crate) struct Store {
    #[expect(
        clippy::vec_box,
        reason = "a queue has it in a box, which is what is kept"
    )]
    aparts: Vec<Box<Apart>>,
    aparts_bytes: u64,
    /// Whether no queue copies what it can write straight from the input, however short it is.
    pub(crate) copies_nothing: bool,
    keys: RandomState,
    /// What was copied last out of the current input.
    kept: Option<KeptRun>,
    /// How many chunks the lists below could hold.
    list_room: usize,
    /// Lists of drained queues, kept for the next ones.
    lists: Vec<VecDeque<Chunk>>,
    meter: Meter,
    /// Memory that one queue each has for itself.
    owned: u64,
    /// Bytes in all queues together; what several share counts for each.
    pub(crate) queued: u64,
    /// Buffers of drained batches by class, kept for the next ones: an idle peer owns none.
    spare: [Vec<Buffer>; CLASS_SIZES.len()],
    spare_bytes: [usize; CLASS_SIZES.len()],
    /// The time that messages are stamped with which may be dropped for their age: microseconds
    /// since the core began.
    pub(crate) stamp: u64,
}

/// A run of the current input that a queue has kept.
#[derive(Debug)]
pub(super) struct KeptRun {
    range: Range<usize>,
    /// The copy, once a second queue wanted the same.
    shared: Option<Shared>,
}

impl Store {
    /// One for tests whose queues count in and out of different ones.
    #[cfg(test)]
    pub(crate) fn boundless() -> Self {
        Self {
            owned: 1 << 30,
            queued: 1 << 30,
            ..Self::default()
        }
    }

    /// Memory of all queues, of what was taken out of them and of the spare buffers, in bytes. What
    /// several queues share counts once.
    pub(crate) fn memory(&self) -> u64 {
        self.owned + self.meter.total() + self.spare()
    }

    /// Memory of the spare buffers, in bytes.
    pub(crate) fn spare(&self) -> u64 {
        let buffers: usize = self.spare_bytes.iter().sum();
        (buffers + self.list_room * size_of::<Chunk>()) as u64 + self.aparts_bytes
    }

    /// Gives the spare buffers back to the allocator.
    pub(crate) fn release_spare(&mut self) {
        self.aparts = Vec::new();
        self.aparts_bytes = 0;
        self.lists = Vec::new();
        self.list_room = 0;
        self.spare = Default::default();
        self.spare_bytes = [0; CLASS_SIZES.len()];
    }

    /// Makes bytes that several queues may hold. Their memory has `capacity` bytes, and no other
    /// owner.
    pub(crate) fn share(&self, bytes: Bytes, capacity: usize) -> Shared {
        Shared::new(bytes, capacity, &self.meter)
    }

    /// As [`Self::share`], of a copy.
    pub(crate) fn share_copy(&self, bytes: &[u8]) -> Shared {
        self.share_buffer(Buffer::copy_of(bytes))
    }

    /// As [`Self::share`], of what a queue had for itself.
    pub(super) fn share_buffer(&self, buffer: Buffer) -> Shared {
        Shared::of_buffer(buffer, &self.meter)
    }

    /// The bytes of the input are done with: no queue will keep more of them.
    #[inline]
    pub(crate) fn forget_input(&mut self) {
        if self.kept.is_some() {
            self.kept = None;
        }
    }

    /// A copy of the input's `range` that others have kept too, if it is not the first.
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

    /// Whether a copy of the input's `range` is there already.
    pub(super) fn has_kept(&self, range: &Range<usize>) -> bool {
        let kept = self.kept.as_ref().filter(|kept| kept.range == *range);
        kept.is_some_and(|kept| kept.shared.is_some())
    }

    /// Counts `bytes` for the queue with this account.
    pub(super) fn charge(&mut self, account: &mut u64, bytes: usize) {
        *account += bytes as u64;
        self.owned += bytes as u64;
    }

    pub(super) fn refund(&mut self, account: &mut u64, bytes: usize) {
        *account -= bytes as u64;
        self.owned -= bytes as u64;
    }

    /// Counts that something has another size now.
    pub(super) fn resize(&mut self, account: &mut u64, before: usize, after: usize) {
        self.charge(account, after);
        self.refund(account, before);
    }

    /// A keyed hash of a topic.
    pub(super) fn hash(&self, topic: &[u8]) -> u64 {
        self.keys.hash_one(topic)
    }

    /// An empty buffer for at least `size` bytes; not counted for its queue yet.
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

    /// Takes a buffer back that is not counted for its queue any more.
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

    pub(super) fn give_list(&mut self, list: VecDeque<Chunk>) {
        debug_assert!(list.is_empty(), "only an empty list is kept");
        let room = list.capacity();
        if (1..=SLICES_MAX).contains(&room) && self.list_room + room <= LIST_ROOM_MAX {
            self.list_room += room;
            self.lists.push(list);
        }
    }

    /// An empty queue of messages kept apart, counted for itself.
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

    /// The block that waits for others to keep the same run.
    pub(super) fn kept_block(&self) -> Option<&Shared> {
        self.kept.as_ref().and_then(|kept| kept.shared.as_ref())
    }

    /// The spare buffers, counted anew.
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
