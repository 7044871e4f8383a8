//! Messages that can each be removed: by age, by topic, or the oldest for a new one.
//!
//! Their bytes are adjacent in segments, next to lists of their positions. A removed message leaves
//! a hole; a segment that is more than half holes is compacted. Each step costs as much as the
//! messages that it concerns, whatever the length of the queue.

use super::buffer::Buffer;
use super::index::{Index, low};
use super::segment::{Content, Segment, State, Unit};
use super::shared::Shared;
use super::unsent::{Unsent, front_size};
use super::{BATCH_SIZE_MAX, Store};
use std::collections::VecDeque;
use std::io::IoSlice;
use zmtp::Frames;

/// The smallest segment of a queue that is not empty.
const SEGMENT_SIZE_MIN: usize = 1 << 10;

/// A larger segment is made for one message, and has exactly its size.
const ROUNDED_SIZE_MAX: usize = 16 << 10;

/// Units visited for one call of the kernel, if there are holes between them.
const UNITS_WALKED_MAX: usize = 4096;

/// The part of a queue whose messages are kept apart.
#[derive(Debug)]
pub(super) struct Apart {
    /// Its memory, including shared blocks.
    footprint: u64,
    /// The positions of each topic's messages, once a call needed them.
    index: Option<Index>,
    /// Bytes to send.
    live: u64,
    /// The number of the next unit.
    next: u64,
    /// No unit before this one can be removed.
    oldest: u64,
    segments: VecDeque<Segment>,
    /// Units visited.
    #[cfg(test)]
    pub(super) visited: std::cell::Cell<u64>,
}

impl Default for Apart {
    fn default() -> Self {
        Self {
            footprint: size_of::<Self>() as u64,
            index: None,
            live: 0,
            next: 0,
            oldest: 0,
            segments: VecDeque::new(),
            #[cfg(test)]
            visited: std::cell::Cell::new(0),
        }
    }
}

impl Apart {
    /// Its memory in bytes, including all of the blocks that it shares.
    pub(super) fn footprint(&self) -> u64 {
        self.footprint
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the message at the front is partly written.
    pub(super) fn is_begun(&self) -> bool {
        self.segments.front().is_some_and(Segment::is_begun)
    }

    /// Whether it is small enough to be kept for reuse.
    pub(super) fn is_small(&self) -> bool {
        self.is_empty() && self.segments.capacity() <= 8
    }

    /// Queues one message or some commands.
    pub(super) fn push(&mut self, parts: &[&[u8]], state: State, store: &mut Store) {
        let micros = self.micros(store);
        self.push_at(parts, state, micros, store);
    }

    fn push_at(&mut self, parts: &[&[u8]], state: State, micros: u64, store: &mut Store) {
        let size = parts.iter().map(|part| part.len()).sum();
        let back = self.segments.back();
        if back.is_none_or(|back| !back.has_room(size, micros)) {
            self.open_segment(size, micros, store);
        }
        if let Some(back) = self.segments.back_mut() {
            // Units after it may be gone: the numbers of a segment have no gaps.
            self.next = back.first + back.units.len() as u64;
            self.oldest = self.oldest.min(self.next);
            let before = back.owned();
            back.push(parts, state, micros);
            let after = back.owned();
            if after != before {
                store.resize(&mut self.footprint, before, after);
            }
        }
        self.live += size as u64;
        self.pushed(parts, state, store);
    }

    /// Queues messages that other queues may share.
    pub(super) fn push_shared(&mut self, bytes: Shared, store: &mut Store) {
        let micros = self.micros(store);
        let mut segment = Segment::new(Content::Shared(bytes.clone()), self.next, micros);
        let mut start = 0;
        while start < bytes.len() && start <= Unit::START_MAX {
            let (size, _) = front_size(&bytes[start..]);
            segment.push_unit(start, size, State::Message, micros);
            start += size;
            self.live += size as u64;
            self.pushed(&[&bytes[start - size..start]], State::Message, store);
        }
        // A block of more than a gigabyte continues in another segment.
        if start < bytes.len() {
            segment.content = Content::Shared(bytes.slice(0..start));
        }
        self.push_segment(segment, store);
        if start < bytes.len() {
            self.push_shared(bytes.skip(start), store);
        }
    }

    /// The time of a unit, in order of age, whatever the clock says.
    fn micros(&self, store: &Store) -> u64 {
        let now = store.stamp;
        match self.segments.back() {
            Some(back) => now.max(back.micros(back.units.len() - 1)),
            None => now,
        }
    }

    /// Numbers a unit.
    fn pushed(&mut self, parts: &[&[u8]], state: State, store: &mut Store) {
        if state == State::Message && self.index.is_some() {
            // Each part has whole frames.
            let first = parts.iter().find(|part| !part.is_empty());
            let hash = store.hash(first.map_or(&[], |part| topic(part)));
            self.insert(hash, self.next, store);
        }
        self.next += 1;
    }

    fn open_segment(&mut self, size: usize, micros: u64, store: &mut Store) {
        if let Some(back) = self.segments.back_mut() {
            let before = back.owned();
            back.units.shrink_to_fit();
            let after = back.owned();
            store.resize(&mut self.footprint, before, after);
        }
        let usual = usize::try_from(self.live / 8).unwrap_or(usize::MAX);
        let wanted = match self.live {
            0 => size,
            _ => size.max(usual.clamp(SEGMENT_SIZE_MIN, BATCH_SIZE_MAX)),
        };
        let buffer = if size <= ROUNDED_SIZE_MAX {
            store.take(wanted)
        } else {
            Buffer::with_capacity(size)
        };
        let segment = Segment::new(Content::Owned(buffer), self.next, micros);
        self.push_segment(segment, store);
    }

    fn push_segment(&mut self, segment: Segment, store: &mut Store) {
        self.footprint += segment.block();
        store.charge(&mut self.footprint, segment.owned());
        let before = self.segments.capacity();
        self.segments.push_back(segment);
        let (after, size) = (self.segments.capacity(), size_of::<Segment>());
        store.resize(&mut self.footprint, before * size, after * size);
    }

    /// Frees the memory of a segment.
    fn give(&mut self, segment: Segment, store: &mut Store) {
        self.footprint -= segment.block();
        store.refund(&mut self.footprint, segment.owned());
        if let Content::Owned(buffer) = segment.content {
            store.give(buffer);
        }
        if self.segments.is_empty() {
            self.drop_index(store);
        }
    }

    fn drop_index(&mut self, store: &mut Store) {
        if let Some(index) = self.index.take() {
            store.refund(&mut self.footprint, index.memory());
        }
    }

    /// Appends another such queue.
    pub(super) fn append(&mut self, mut other: Box<Self>, store: &mut Store) {
        self.drop_index(store);
        other.drop_index(store);
        let list = other.segments.capacity() * size_of::<Segment>();
        let back = self.segments.back();
        let mut micros = back.map_or(0, |back| back.micros(back.units.len() - 1));
        for mut segment in std::mem::take(&mut other.segments) {
            other.footprint -= segment.block();
            store.refund(&mut other.footprint, segment.owned());
            segment.first = self.next;
            segment.epoch = segment.epoch.max(micros);
            micros = segment.epoch;
            self.next += segment.units.len() as u64;
            self.live += segment.live as u64;
            self.push_segment(segment, store);
        }
        store.refund(&mut other.footprint, list);
        other.live = 0;
        store.give_apart(other);
    }

    /// Removes up to `count` messages, the oldest first, but none queued after `limit`. Returns
    /// their number and bytes.
    pub(super) fn drop_oldest(
        &mut self,
        count: u32,
        limit: Option<u64>,
        store: &mut Store,
    ) -> (u32, u64) {
        let (mut messages, mut bytes) = (0, 0);
        while messages < count && self.oldest < self.next {
            let Some((at, unit)) = self.locate(self.oldest) else {
                // The unit with this number is gone: continues with the first one after it.
                let at = self.segments.partition_point(|it| it.first < self.oldest);
                self.oldest = self.segments.get(at).map_or(self.next, |it| it.first);
                continue;
            };
            self.visit();
            let segment = &self.segments[at];
            if segment.can_drop(unit) {
                if limit.is_some_and(|limit| segment.micros(unit) > limit) {
                    break;
                }
                messages += 1;
                self.oldest += 1;
                bytes += self.take_out(at, unit, store);
            } else {
                self.oldest += 1;
            }
        }
        (messages, bytes)
    }

    /// Removes the messages whose first frame is `wanted`; returns the same as
    /// [`Self::drop_oldest`].
    pub(super) fn drop_topic(&mut self, wanted: &[u8], store: &mut Store) -> (u32, u64) {
        if self.index.is_none() {
            self.build_index(store);
        }
        let hash = store.hash(wanted);
        let (mut messages, mut bytes) = (0, 0);
        while let Some((at, unit)) = self.find(hash, wanted) {
            messages += 1;
            bytes += self.take_out(at, unit, store);
        }
        (messages, bytes)
    }

    /// A message of this topic that can be removed.
    fn find(&self, hash: u64, wanted: &[u8]) -> Option<(usize, usize)> {
        let front = self.segments.front()?.first;
        let index = self.index.as_ref()?;
        index.candidates(hash).find_map(|number| {
            self.visit();
            let ahead = number.wrapping_sub(low(front));
            let (at, unit) = self.locate(front + u64::from(ahead))?;
            let segment = &self.segments[at];
            (segment.can_drop(unit) && topic(segment.unit(unit)) == wanted).then_some((at, unit))
        })
    }

    fn build_index(&mut self, store: &mut Store) {
        let mut index = Index::default();
        for segment in &self.segments {
            for unit in segment.head..segment.units.len() {
                if segment.can_drop(unit) {
                    let hash = store.hash(topic(segment.unit(unit)));
                    index.insert(hash, segment.first + unit as u64);
                }
            }
        }
        store.charge(&mut self.footprint, index.memory());
        self.index = Some(index);
    }

    fn insert(&mut self, hash: u64, number: u64, store: &mut Store) {
        if let Some(index) = &mut self.index {
            let before = index.memory();
            index.insert(hash, number);
            let after = index.memory();
            store.resize(&mut self.footprint, before, after);
        }
    }

    /// Removes a unit from the index that leaves the queue, or cannot be removed any more.
    fn forget(&mut self, at: usize, unit: usize, store: &mut Store) {
        let Some(index) = &mut self.index else {
            return;
        };
        let segment = &self.segments[at];
        if segment.units[unit].state() == State::Message {
            let hash = store.hash(topic(segment.unit(unit)));
            let before = index.memory();
            index.remove(hash, segment.first + unit as u64);
            let after = index.memory();
            store.resize(&mut self.footprint, before, after);
        }
    }

    /// The segment and unit with this number.
    fn locate(&self, number: u64) -> Option<(usize, usize)> {
        let at = self.segments.partition_point(|it| it.first <= number);
        let at = at.checked_sub(1)?;
        let unit = usize::try_from(number - self.segments[at].first).ok()?;
        (unit < self.segments[at].units.len()).then_some((at, unit))
    }

    /// Removes a message; returns its size.
    fn take_out(&mut self, at: usize, unit: usize, store: &mut Store) -> u64 {
        self.forget(at, unit, store);
        let segment = &mut self.segments[at];
        let size = segment.make_hole(unit) as u64;
        self.live -= size;
        if segment.live == 0 {
            self.remove(at, store);
        } else if segment.is_sparse() {
            self.compact(at, store);
        }
        size
    }

    fn remove(&mut self, at: usize, store: &mut Store) {
        if let Some(segment) = self.segments.remove(at) {
            self.give(segment, store);
        }
    }

    /// Copies the rest of a segment to the end of the one before it, or to a smaller buffer.
    fn compact(&mut self, at: usize, store: &mut Store) {
        let left = self.segments[at].live;
        let (first, epoch) = (self.segments[at].first, self.segments[at].epoch);
        let last = self.segments[at].units.len() - 1;
        let latest = self.segments[at].micros(last);
        let before = at.checked_sub(1);
        let has_room = |before: &usize| self.segments[*before].has_room(left, latest);
        let (to, old) = if let Some(before) = before.filter(has_room) {
            (before, self.segments.remove(at))
        } else {
            let mut fresh = Segment::new(Content::Owned(store.take(left)), first, epoch);
            fresh.units.reserve_exact(self.segments[at].units.len());
            store.charge(&mut self.footprint, fresh.owned());
            (at, Some(std::mem::replace(&mut self.segments[at], fresh)))
        };
        let Some(old) = old else {
            return;
        };
        let owned_before = self.segments[to].owned();
        let lowest = self.segments[to].first + self.segments[to].units.len() as u64;
        for unit in old.head..old.units.len() {
            self.visit();
            let state = old.units[unit].state();
            if state == State::Hole {
                continue;
            }
            let is_begun = unit == old.head && old.begun > 0;
            let bytes = &old.unit(unit)[if is_begun { old.begun } else { 0 }..];
            let number = old.first + unit as u64;
            let to = &mut self.segments[to];
            let after = to.first + to.units.len() as u64;
            if state == State::Message
                && let Some(index) = &mut self.index
            {
                let hash = store.hash(topic(old.unit(unit)));
                if is_begun {
                    index.remove(hash, number);
                } else {
                    index.renumber(hash, number, after);
                }
            }
            let state = if is_begun && state == State::Message {
                State::Rest
            } else {
                state
            };
            to.push(&[bytes], state, old.micros(unit));
        }
        self.oldest = self.oldest.min(lowest);
        if to == at {
            self.segments[to].units.shrink_to_fit();
        }
        let owned_after = self.segments[to].owned();
        store.resize(&mut self.footprint, owned_before, owned_after);
        self.give(old, store);
    }

    /// Copies the rest of a large block at the front, if it is small.
    pub(super) fn release_block(&mut self, store: &mut Store) {
        let front = self.segments.front();
        let is_shared = front.is_some_and(|front| matches!(front.content, Content::Shared(_)));
        if is_shared && front.is_some_and(Segment::is_sparse) {
            self.compact(0, store);
        }
    }

    /// The pieces to send next; returns their number.
    pub(super) fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let (mut count, mut walked) = (0, 0);
        for segment in &self.segments {
            if count == out.len() || walked > UNITS_WALKED_MAX {
                break;
            }
            if segment.holes == 0 {
                out[count] = IoSlice::new(segment.left());
                count += 1;
                continue;
            }
            let mut start = segment.units[segment.head].start() + segment.begun;
            for unit in segment.head..segment.units.len() {
                walked += 1;
                let (range, is_last) = (segment.range(unit), unit + 1 == segment.units.len());
                let is_hole = segment.units[unit].state() == State::Hole;
                let end = if is_hole { range.start } else { range.end };
                if (is_hole || is_last) && end > start {
                    if count == out.len() {
                        return count;
                    }
                    out[count] = IoSlice::new(&segment.bytes()[start..end]);
                    count += 1;
                }
                if is_hole {
                    start = range.end;
                }
            }
        }
        count
    }

    /// Notes that the kernel accepted `size` bytes; returns the number of messages that end in
    /// them.
    pub(super) fn advance(&mut self, mut size: usize, store: &mut Store) -> u32 {
        let mut messages = 0;
        while size > 0
            && let Some(front) = self.segments.front_mut()
        {
            let is_all = size >= front.live;
            if is_all && self.index.is_none() {
                size -= front.live;
                messages += front.messages;
                self.live -= front.live as u64;
                self.remove(0, store);
                continue;
            }
            let unit = front.head;
            let left = front.range(unit).len() - front.begun;
            let taken = size.min(left);
            size -= taken;
            front.live -= taken;
            self.live -= taken as u64;
            if taken < left {
                front.begun += taken;
                break;
            }
            self.forget(0, unit, store);
            self.visit();
            let front = &mut self.segments[0];
            let before = front.messages;
            front.pass_head();
            messages += before - front.messages;
            if front.live == 0 {
                self.remove(0, store);
            }
        }
        debug_assert!(size == 0, "more bytes were written than queued");
        messages
    }

    /// Separates the unsent messages from the rest, and puts them into
    /// `taken`, if given. Returns the same as [`Self::drop_oldest`].
    pub(super) fn sift(&mut self, mut taken: Option<&mut Unsent>, store: &mut Store) -> (u32, u64) {
        self.drop_index(store);
        let (mut messages, mut bytes) = (0, 0);
        let list = self.segments.capacity() * size_of::<Segment>();
        store.refund(&mut self.footprint, list);
        self.live = 0;
        for mut segment in std::mem::take(&mut self.segments) {
            let is_whole = segment.begun == 0
                && segment.holes == 0
                && (segment.head..segment.units.len()).all(|unit| segment.can_drop(unit));
            if is_whole {
                messages += segment.messages;
                bytes += segment.live as u64;
                if let Some(taken) = &mut taken {
                    self.hand_over(&mut segment, taken, store);
                }
                self.give(segment, store);
                continue;
            }
            let mut kept = Vec::new();
            for unit in segment.head..segment.units.len() {
                let (state, message) = (segment.units[unit].state(), segment.unit(unit));
                if segment.can_drop(unit) {
                    messages += 1;
                    bytes += message.len() as u64;
                    if let Some(taken) = &mut taken {
                        taken.gather(message, 1, store);
                    }
                } else if state != State::Hole {
                    kept.push(unit);
                }
            }
            self.keep_units(&segment, &kept, store);
            self.give(segment, store);
        }
        self.oldest = self.next;
        (messages, bytes)
    }

    /// Hands over all messages of a segment, without a copy.
    fn hand_over(&mut self, segment: &mut Segment, taken: &mut Unsent, store: &mut Store) {
        let start = segment.units[segment.head].start();
        let messages = segment.messages;
        match &mut segment.content {
            Content::Owned(bytes) => {
                let bytes = std::mem::take(bytes);
                store.refund(&mut self.footprint, bytes.capacity());
                if start == 0 {
                    taken.push_owned(bytes.shrink(), messages, store);
                } else {
                    taken.push_owned(Buffer::copy_of(&bytes[start..]), messages, store);
                }
            }
            Content::Shared(shared) => taken.push_shared(shared.skip(start), messages, store),
        }
    }

    /// Appends units of a segment that stay to those that stayed before.
    fn keep_units(&mut self, segment: &Segment, kept: &[usize], store: &mut Store) {
        for unit in kept {
            let is_begun = *unit == segment.head && segment.begun > 0;
            let begun = if is_begun { segment.begun } else { 0 };
            let state = match segment.units[*unit].state() {
                State::Message => State::Rest,
                state => state,
            };
            let micros = segment.micros(*unit);
            let range = segment.range(*unit);
            if let Content::Shared(shared) = &segment.content
                && !shared.is_wasted_on(range.len() - begun)
            {
                let rest = shared.slice(range.start + begun..range.end);
                let size = rest.len();
                let mut segment = Segment::new(Content::Shared(rest), self.next, micros);
                segment.push_unit(0, size, state, micros);
                self.live += size as u64;
                self.next += 1;
                self.push_segment(segment, store);
            } else {
                self.push_at(&[&segment.unit(*unit)[begun..]], state, micros, store);
            }
        }
    }

    /// Frees all memory.
    pub(super) fn clear(&mut self, store: &mut Store) {
        while let Some(segment) = self.segments.pop_front() {
            self.give(segment, store);
        }
        self.live = 0;
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }

    /// Its own memory, recounted.
    pub(super) fn walk(&self) -> usize {
        let segments: usize = self.segments.iter().map(Segment::owned).sum();
        let list = self.segments.capacity() * size_of::<Segment>();
        let index = self.index.as_ref().map_or(0, Index::memory);
        size_of::<Self>() + segments + list + index
    }

    #[inline]
    fn visit(&self) {
        #[cfg(test)]
        self.visited.set(self.visited.get() + 1);
    }
}

/// The first frame of a message.
fn topic(message: &[u8]) -> &[u8] {
    Frames::new(message).first()
}
