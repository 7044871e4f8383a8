//! Messages that can still be removed from a queue, because no byte of them was written.
//!
//! A queue that is given up may be as large as the memory limit, and it is given up just when
//! memory is short. So it is taken apart chunk by chunk, without a second copy.

use super::buffer::Buffer;
use super::{BATCH_SIZE_MAX, Body, Chunk, Egress, Shared, Store};
use std::collections::VecDeque;
use std::ops::Range;
use zmtp::Frames;
use zmtp::wire::header::COMMAND;

/// Unsent messages, in order: queued, and not begun, since no byte of them was written. The store
/// counts their bytes as queued, and their memory, until they are delivered or discarded.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    bytes: u64,
    /// Memory, without shared blocks.
    footprint: u64,
    /// Small messages, collected for the last segment.
    gathered: Buffer,
    messages: u32,
    /// Whole messages, several in each segment.
    segments: VecDeque<Shared>,
}

impl Unsent {
    /// The number of messages.
    pub(crate) fn messages(&self) -> u32 {
        self.messages
    }

    /// Bytes of all messages.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Takes out the first message.
    pub(crate) fn pop(&mut self, store: &mut Store) -> Option<Shared> {
        let front = self.segments.front_mut()?;
        let (size, _) = front_size(front);
        let message = front.split_to(size);
        if front.is_empty() {
            self.segments.pop_front();
        }
        self.messages -= 1;
        self.bytes -= size as u64;
        store.queued -= size as u64;
        if self.segments.is_empty() {
            let list = self.list_size();
            store.refund(&mut self.footprint, list);
            self.segments = VecDeque::new();
        }
        Some(message)
    }

    /// Appends the messages of another queue.
    pub(crate) fn append(&mut self, mut other: Self, store: &mut Store) {
        let before = self.list_size();
        let list = other.list_size();
        store.refund(&mut other.footprint, list);
        self.segments.append(&mut other.segments);
        let after = self.list_size();
        store.resize(&mut self.footprint, before, after);
        self.messages = self.messages.saturating_add(other.messages);
        self.bytes += other.bytes;
    }

    /// Drops all messages; returns their number.
    pub(crate) fn discard(&mut self, store: &mut Store) -> u32 {
        store.queued -= self.bytes;
        let list = self.list_size();
        store.refund(&mut self.footprint, list);
        std::mem::take(self).messages
    }

    fn list_size(&self) -> usize {
        self.segments.capacity() * size_of::<Shared>()
    }

    /// Appends copies of messages, or of a part of one; `messages` end in it.
    pub(super) fn gather(&mut self, part: &[u8], messages: u32, store: &mut Store) {
        let before = self.gathered.capacity();
        let size = self.gathered.len() + part.len();
        if size > before {
            let mut larger = Buffer::with_capacity(size.max(2 * before));
            larger.extend_from_slice(&self.gathered);
            store.resize(&mut self.footprint, before, larger.capacity());
            self.gathered = larger;
        }
        self.gathered.extend_from_slice(part);
        self.bytes += part.len() as u64;
        self.messages += messages;
        if messages > 0 && self.gathered.len() >= BATCH_SIZE_MAX {
            self.flush(store);
        }
    }

    /// Appends whole messages that no queue owns any more.
    pub(super) fn push_owned(&mut self, bytes: Buffer, messages: u32, store: &mut Store) {
        let shared = store.share_buffer(bytes);
        self.push_shared(shared, messages, store);
    }

    /// Appends whole messages that queues may share.
    pub(super) fn push_shared(&mut self, bytes: Shared, messages: u32, store: &mut Store) {
        self.flush(store);
        self.bytes += bytes.len() as u64;
        self.messages += messages;
        self.push_segment(bytes, store);
    }

    fn push_segment(&mut self, bytes: Shared, store: &mut Store) {
        let before = self.list_size();
        self.segments.push_back(bytes);
        let after = self.list_size();
        if after != before {
            store.resize(&mut self.footprint, before, after);
        }
    }

    /// Makes a segment of the collected messages.
    fn flush(&mut self, store: &mut Store) {
        if self.gathered.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.gathered);
        store.refund(&mut self.footprint, bytes.capacity());
        let shared = store.share_buffer(bytes.shrink());
        self.push_segment(shared, store);
    }

    /// Its own memory, recounted.
    pub(super) fn owned(&self) -> usize {
        self.gathered.capacity() + self.list_size()
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = &Shared> {
        self.segments.iter()
    }
}

impl Egress {
    /// The same as [`Self::close`], but returns the unsent messages.
    pub(crate) fn close_and_take(&mut self, store: &mut Store) -> Unsent {
        let unsent = self.take_unsent(&[], store);
        self.close(store);
        unsent
    }

    /// Gives up the queue: the peer does not read any more.
    pub(crate) fn close(&mut self, store: &mut Store) {
        store.queued -= self.bytes;
        while let Some(chunk) = self.chunks.pop_front() {
            self.give_chunk(chunk, store);
        }
        self.end_chunks(store);
        if let Some(apart) = &mut self.apart {
            apart.clear(store);
        }
        self.end_apart(store);
        self.close_sealed(store);
        debug_assert!(self.footprint == 0, "an empty queue owns memory");
        *self = Self {
            is_apart: self.is_apart,
            is_closed: true,
            ..Self::default()
        };
    }

    /// Drops the unsent messages; returns their number. Partly written
    /// messages and commands stay. `input` is the buffer that the queue refers to, or empty.
    pub(crate) fn shed(&mut self, input: &[u8], store: &mut Store) -> u32 {
        self.sift(input, None, store)
    }

    /// The same as [`Self::shed`], but returns the messages.
    pub(crate) fn take_unsent(&mut self, input: &[u8], store: &mut Store) -> Unsent {
        let mut unsent = Unsent::default();
        self.sift(input, Some(&mut unsent), store);
        unsent.flush(store);
        unsent
    }

    fn sift(&mut self, input: &[u8], mut taken: Option<&mut Unsent>, store: &mut Store) -> u32 {
        let (mut messages, mut bytes) = (0, 0);
        let mut unparsed = std::mem::take(&mut self.preamble);
        let mut is_begun = self.chunks.front().is_some_and(|front| front.prefix > 0);
        let mut old = std::mem::take(&mut self.chunks);
        let old_room = old.capacity() * size_of::<Chunk>();
        let mut written = std::mem::take(&mut self.written);
        while let Some(chunk) = old.pop_front() {
            let next_prefix = old.front().map_or(0, |next| next.prefix as usize);
            let mut sieve = Sieve::new(unparsed, written, is_begun, next_prefix);
            sieve.sift(&chunk, input);
            unparsed -= sieve.unparsed;
            is_begun = sieve.is_prefix_begun;
            messages += sieve.taken_messages;
            bytes += sieve.taken_bytes as u64;
            if sieve.taken.is_empty() {
                // Only the message whose prefix is partly written has bytes in front.
                self.preamble += if is_begun {
                    chunk.size()
                } else {
                    sieve.unparsed
                };
                self.written += written;
                self.put_back(chunk, store);
            } else {
                if let Some(taken) = &mut taken {
                    sieve.hand_over(&chunk, input, taken, store);
                }
                self.preamble += sieve.begun_size;
                self.keep_pieces(&sieve, chunk, input, store);
            }
            written = 0;
        }
        store.refund(&mut self.footprint, old_room);
        store.give_list(old);
        let open = std::mem::take(&mut self.open);
        if open.messages > 0 {
            messages += open.messages;
            bytes += (open.end - open.start) as u64;
            if let Some(taken) = &mut taken {
                taken.gather(&input[open.start..open.end], open.messages, store);
            }
        }
        if let Some(apart) = &mut self.apart {
            let (apart_messages, apart_bytes) = apart.sift(taken.as_deref_mut(), store);
            messages += apart_messages;
            bytes += apart_bytes;
        }
        self.messages -= messages;
        self.bytes -= bytes;
        if taken.is_none() {
            store.queued -= bytes;
        }
        self.end_apart(store);
        messages
    }

    /// Appends a chunk, whose memory is counted, to those that stay.
    fn put_back(&mut self, chunk: Chunk, store: &mut Store) {
        let Chunk {
            body,
            messages,
            prefix,
        } = chunk;
        if let Body::Shared(shared) = &body {
            self.footprint -= shared.block_size();
        }
        self.push_chunk(body, messages, prefix, store);
    }

    /// Appends the staying part of a chunk to those of the others.
    fn keep_pieces(&mut self, sieve: &Sieve, chunk: Chunk, input: &[u8], store: &mut Store) {
        let messages = chunk.messages - sieve.taken_messages;
        let (first, size) = match &sieve.kept[..] {
            [] => {
                // The others were written.
                self.messages -= messages;
                return self.give_chunk(chunk, store);
            }
            [first, ..] => (first.clone(), sieve.kept.iter().map(Range::len).sum()),
        };
        let is_one = sieve.kept.len() == 1;
        let prefix = if sieve.keeps_first { chunk.prefix } else { 0 };
        match &chunk.body {
            Body::Input(range) if is_one => {
                let range = range.start + first.start..range.start + first.end;
                self.push_chunk(Body::Input(range), messages, prefix, store);
            }
            Body::Shared(shared) if is_one && !shared.is_wasted_on(size) => {
                let rest = Body::Shared(shared.slice(first));
                self.push_chunk(rest, messages, prefix, store);
                self.give_chunk(chunk, store);
            }
            _ => {
                let bytes = chunk.bytes(input);
                let mut copy = Buffer::with_capacity(size);
                for range in &sieve.kept {
                    copy.extend_from_slice(&bytes[range.clone()]);
                }
                store.charge(&mut self.footprint, copy.capacity());
                self.push_chunk(Body::Batch(copy), messages, prefix, store);
                self.give_chunk(chunk, store);
            }
        }
    }
}

/// Divides a chunk into a part that stays and messages that can be removed.
#[derive(Debug, Default)]
struct Sieve {
    /// Bytes at the front of the staying part that must not be parsed, because they, or the message
    /// they belong to, are partly written.
    begun_size: usize,
    /// Whether the first message was partly written before the chunk; at the end, whether the first
    /// message of the next chunk was.
    is_prefix_begun: bool,
    /// The staying part.
    kept: Vec<Range<usize>>,
    /// Whether it begins where the chunk began.
    keeps_first: bool,
    /// The number of bytes of the next chunk's first message at the end of this one.
    next_prefix: usize,
    taken: Vec<Piece>,
    taken_bytes: usize,
    taken_messages: u32,
    /// The number of bytes at the front that must not be parsed.
    unparsed: usize,
    written: usize,
}

/// Adjacent messages to remove, or a part of one.
#[derive(Debug)]
struct Piece {
    /// The number of messages that end in it.
    messages: u32,
    range: Range<usize>,
}

impl Sieve {
    fn new(unparsed: usize, written: usize, is_begun: bool, next_prefix: usize) -> Self {
        Self {
            is_prefix_begun: is_begun,
            next_prefix,
            unparsed,
            written,
            ..Self::default()
        }
    }

    fn sift(&mut self, chunk: &Chunk, input: &[u8]) {
        let bytes = chunk.bytes(input);
        self.unparsed = self.unparsed.min(bytes.len());
        let (mut at, written) = (self.unparsed, self.written);
        if at > written {
            self.keep(written..at, true);
        }
        let is_prefix_cut = self.next_prefix > bytes.len();
        let end = bytes.len().saturating_sub(self.next_prefix);
        while at < end {
            let next = at + front_size(&bytes[at..end]).0;
            let is_command = bytes[at] & COMMAND != 0;
            let is_continued = at == 0 && chunk.prefix > 0;
            let is_begun = at < written || is_continued && self.is_prefix_begun;
            if is_begun || is_command {
                self.keeps_first |= is_continued && written == 0;
                self.keep(at.max(written)..next, is_begun);
            } else {
                self.take(at..next, 1);
            }
            at = next;
        }
        self.is_prefix_begun = false;
        if self.next_prefix > 0 {
            self.is_prefix_begun = is_prefix_cut || written > end || at > end;
            let range = at.max(end)..bytes.len();
            if self.is_prefix_begun {
                self.keep(range.start.max(written)..range.end, true);
            } else {
                self.take(range, 0);
            }
        }
    }

    /// Returns the removed part of a chunk.
    fn hand_over(&self, chunk: &Chunk, input: &[u8], taken: &mut Unsent, store: &mut Store) {
        let bytes = chunk.bytes(input);
        let is_whole = self.taken[0].range.len() == bytes.len() && chunk.prefix == 0;
        if let Body::Shared(shared) = &chunk.body
            && is_whole
            && self.taken[0].messages == chunk.messages
        {
            return taken.push_shared(shared.clone(), chunk.messages, store);
        }
        for piece in &self.taken {
            taken.gather(&bytes[piece.range.clone()], piece.messages, store);
        }
    }

    fn keep(&mut self, range: Range<usize>, is_begun: bool) {
        if range.is_empty() {
            return;
        }
        if is_begun {
            self.begun_size += range.len();
        }
        match self.kept.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.kept.push(range),
        }
    }

    fn take(&mut self, range: Range<usize>, messages: u32) {
        self.taken_bytes += range.len();
        self.taken_messages += messages;
        match self.taken.last_mut() {
            // The beginning of a message is a piece of its own: it must not end a segment.
            Some(last) if last.range.end == range.start && messages > 0 => {
                last.range.end = range.end;
                last.messages += messages;
            }
            _ => self.taken.push(Piece { messages, range }),
        }
    }
}

/// The size of the message or command at the front of `wire`, and whether it is whole.
pub(super) fn front_size(wire: &[u8]) -> (usize, bool) {
    let (mut frames, mut more) = (Frames::new(wire), true);
    while more && let Some(frame) = frames.next() {
        more = frame.more;
    }
    let size = wire.len() - frames.rest().len();
    assert!(size > 0, "a queue holds whole frames");
    (size, !more)
}
