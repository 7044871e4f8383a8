//! What waits to be sent to one peer: wire bytes in order, in as few pieces as possible.
//!
//! ```text
//! chunks: | batch: small messages, copied | shared: a large one | input: a run still in the
//! scratch |
//!           └ written                                             └ settled from `open`
//! ```
//!
//! A message that is forwarded as it came is at first only a range of the input. Ranges that touch
//! grow together; when the input is done with, a long run is written to the socket straight from
//! the buffer it was read into, and a short one is copied to the end of the batch.

mod unsent;

pub(crate) use unsent::Unsent;

use crate::conn::Input;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::time::Instant;
use zmtp::Frames;

/// A run of the input at least this long is written from where it is. Shorter ones are gathered, so
/// that one system call takes the messages of many.
pub(crate) const DIRECT_SIZE_MIN: usize = 16 << 10;

/// A batch at least this long is not appended to any more.
const BATCH_SIZE_MAX: usize = 64 << 10;

/// Most pieces handed to the kernel at once.
pub const SLICES_MAX: usize = 64;

/// The queue of one peer.
///
/// Invariants: the chunks together are `preamble` bytes, then whole messages and commands; one that
/// `continues` begins behind the prefix of its first message. `written` is less than the size of
/// the front chunk, and 0 if there is none; `bytes` and `messages` are the sums over chunks and
/// `open`, less `written`.
#[derive(Debug, Default)]
pub struct Egress {
    bytes: u64,
    chunks: VecDeque<Chunk>,
    /// Each message is a chunk of its own, so that it can be taken out again.
    is_apart: bool,
    is_closed: bool,
    messages: u32,
    open: Open,
    /// How much of the front belongs to the handshake: parts of a greeting are no frames, and a
    /// frame that is an identity is no message.
    preamble: usize,
    written: usize,
}

#[derive(Debug)]
struct Chunk {
    body: Body,
    /// Whether its first message began in the chunk before.
    continues: bool,
    /// How many messages end in it.
    messages: u32,
    /// When it was queued, if messages are kept apart.
    queued_at: Option<Instant>,
}

#[derive(Debug)]
enum Body {
    /// Copied bytes; appended to while none of them is written.
    Batch(Vec<u8>),
    /// A part of the input being handled.
    Input(Range<usize>),
    /// Bytes that others send too.
    Shared(Bytes),
}

/// A run of the current input that may still grow.
#[derive(Debug, Default)]
struct Open {
    end: usize,
    messages: u32,
    start: usize,
}

/// What all queues have in common.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Buffers of drained batches, kept for the next ones: an idle peer owns none.
    free: Vec<Vec<u8>>,
    /// What they could hold.
    free_bytes: usize,
    /// How many chunks the lists below could hold.
    list_room: usize,
    /// Lists of drained queues, kept for the next ones in the same way.
    lists: Vec<VecDeque<Chunk>>,
    /// The time, as far as it was told.
    pub(crate) now: Option<Instant>,
    /// Bytes in all queues together; what several share counts for each.
    pub(crate) queued: u64,
}

impl Store {
    /// Bytes that are kept: a turn to many peers finds its buffers again.
    const FREE_BYTES_MAX: usize = 2 << 20;

    /// Chunks for which lists are kept: a megabyte of them.
    const LIST_ROOM_MAX: usize = 16 << 10;

    fn take(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        buffer
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        let size = buffer.capacity();
        if size <= 2 * BATCH_SIZE_MAX && self.free_bytes + size <= Self::FREE_BYTES_MAX {
            buffer.clear();
            self.free_bytes += size;
            self.free.push(buffer);
        }
    }

    fn take_list(&mut self) -> VecDeque<Chunk> {
        let list = self.lists.pop().unwrap_or_default();
        self.list_room -= list.capacity();
        list
    }

    fn give_list(&mut self, list: VecDeque<Chunk>) {
        debug_assert!(list.is_empty(), "only an empty list is kept");
        let room = list.capacity();
        if (1..=SLICES_MAX).contains(&room) && self.list_room + room <= Self::LIST_ROOM_MAX {
            self.list_room += room;
            self.lists.push(list);
        }
    }
}

impl Egress {
    /// Queues one message: `prefix` and then a range of the input's buffer, that touches no other.
    #[inline(always)]
    pub(crate) fn push_input(
        &mut self,
        prefix: &[u8],
        input: &Input,
        range: Range<usize>,
        store: &mut Store,
    ) {
        self.count(1, prefix.len() + range.len(), store);
        if self.is_apart {
            self.push_apart(&[prefix, &input.buffer()[range]], store);
            return;
        }
        self.settle(input, store);
        if range.len() < DIRECT_SIZE_MIN || !input.is_scratch() {
            self.copy_in([prefix, &input.buffer()[range]], 1, store);
            return;
        }
        let continues = !prefix.is_empty();
        if continues {
            self.copy_in([prefix], 0, store);
        }
        let chunk = Chunk {
            body: Body::Input(range),
            continues,
            messages: 1,
            queued_at: None,
        };
        self.push_chunk(chunk, store);
    }

    /// Queues a range of the input's buffer that holds so many messages; it is put together with
    /// the one before if they touch. Not for a queue that keeps messages apart.
    #[inline]
    pub(crate) fn push_run(
        &mut self,
        input: &Input,
        range: Range<usize>,
        messages: u32,
        store: &mut Store,
    ) {
        debug_assert!(!self.is_apart, "messages that are kept apart have no runs");
        self.count(messages, range.len(), store);
        if self.open.end != range.start || self.open.messages == 0 {
            self.settle(input, store);
            self.open.start = range.start;
        }
        self.open.end = range.end;
        self.open.messages += messages;
    }

    /// Queues one message: `prefix` and then the bytes that others may send too.
    pub(crate) fn push_shared(&mut self, prefix: &[u8], body: Bytes, store: &mut Store) {
        debug_assert!(
            self.open.messages == 0,
            "a shared message is the only one of its input"
        );
        self.count(1, prefix.len() + body.len(), store);
        let continues = !prefix.is_empty();
        if continues && self.is_apart {
            self.push_apart(&[prefix, &body], store);
            return;
        }
        if continues {
            self.copy_in([prefix], 0, store);
        }
        let chunk = Chunk {
            body: Body::Shared(body),
            continues,
            messages: 1,
            queued_at: if self.is_apart { store.now } else { None },
        };
        self.push_chunk(chunk, store);
    }

    /// The handshake is over: what was queued so far belongs to it.
    pub(crate) fn begin_traffic(&mut self) {
        self.preamble = self.chunks.iter().map(Chunk::size).sum();
    }

    /// Queues bytes that hold `messages` whole messages, or only commands.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8], messages: u32, store: &mut Store) {
        if bytes.is_empty() {
            return;
        }
        self.count(messages, bytes.len(), store);
        if self.is_apart && messages == 1 {
            self.push_apart(&[bytes], store);
        } else {
            self.copy_in([bytes], messages, store);
        }
    }

    /// From now on each message can be taken out again; it costs an allocation.
    pub(crate) fn keep_apart(&mut self) {
        self.is_apart = true;
    }

    /// Queues messages that were taken out of another queue.
    pub(crate) fn push_unsent(&mut self, mut unsent: Unsent, store: &mut Store) {
        while let Some(message) = unsent.pop(store) {
            self.push_whole(message, store);
        }
    }

    /// Queues a message that nobody else may still want: small ones are copied.
    pub(crate) fn push_whole(&mut self, message: Bytes, store: &mut Store) {
        if message.len() < BATCH_SIZE_MAX {
            self.push_bytes(&message, 1, store);
        } else {
            self.push_shared(&[], message, store);
        }
    }

    /// Puts the messages of a queue of which nothing was written behind those of this one.
    pub(crate) fn append(&mut self, mut other: Self) {
        debug_assert!(other.written + other.preamble == 0 && other.open.messages == 0);
        debug_assert!(self.open.messages == 0);
        self.bytes += other.bytes;
        self.messages += other.messages;
        self.chunks.append(&mut other.chunks);
    }

    fn push_apart(&mut self, parts: &[&[u8]], store: &mut Store) {
        let chunk = Chunk {
            body: Body::Batch(parts.concat()),
            continues: false,
            messages: 1,
            queued_at: store.now,
        };
        self.push_chunk(chunk, store);
    }

    #[inline]
    fn count(&mut self, messages: u32, bytes: usize, store: &mut Store) {
        self.messages += messages;
        self.bytes += bytes as u64;
        store.queued += bytes as u64;
    }

    /// Takes out the oldest message of which no byte was written; false if there is none. Only for
    /// messages that are kept apart, as the next two.
    pub(crate) fn drop_oldest(&mut self, store: &mut Store) -> bool {
        self.drop_where(1, |_| true, store) > 0
    }

    /// Takes out the messages of which no byte was written, or only those whose first frame is
    /// `topic`; answers how many.
    pub(crate) fn drop_unsent(&mut self, topic: Option<&[u8]>, store: &mut Store) -> u32 {
        let is_about = |chunk: &Chunk| match topic {
            Some(topic) => {
                let first = Frames::new(chunk.bytes(&[])).next();
                first.is_some_and(|frame| frame.body == topic)
            }
            None => true,
        };
        self.drop_where(u32::MAX, is_about, store)
    }

    /// Takes out the messages queued at or before `limit` of which no byte was written; answers how
    /// many.
    pub(crate) fn drop_expired(&mut self, limit: Instant, store: &mut Store) -> u32 {
        let is_old = |chunk: &Chunk| chunk.queued_at.is_some_and(|queued_at| queued_at <= limit);
        // They are in order of age: one look tells that there is nothing to do.
        if !self.chunks.iter().take(2).any(is_old) {
            return 0;
        }
        self.drop_where(u32::MAX, is_old, store)
    }

    fn drop_where(
        &mut self,
        limit: u32,
        is_condemned: impl Fn(&Chunk) -> bool,
        store: &mut Store,
    ) -> u32 {
        // What is left of a message that was begun when the queue was shed is in the preamble.
        let begun = self.written.max(self.preamble);
        let (mut dropped, mut bytes, mut at) = (0, 0, 0);
        self.chunks.retain(|chunk| {
            let is_begun = at < begun;
            let goes = dropped < limit && chunk.messages == 1 && !is_begun && is_condemned(chunk);
            at += chunk.size();
            if goes {
                dropped += 1;
                bytes += chunk.size() as u64;
            }
            !goes
        });
        self.messages -= dropped;
        self.bytes -= bytes;
        store.queued -= bytes;
        dropped
    }

    /// Ends the run of the current input. A long one is left in the scratch, to be written from
    /// there; others are copied.
    #[inline]
    pub(crate) fn settle(&mut self, input: &Input, store: &mut Store) {
        if self.open.messages > 0 {
            self.settle_open(input, store);
        }
    }

    fn settle_open(&mut self, input: &Input, store: &mut Store) {
        let Open {
            end,
            messages,
            start,
        } = std::mem::take(&mut self.open);
        if end - start < DIRECT_SIZE_MIN || !input.is_scratch() {
            self.copy_in([&input.buffer()[start..end]], messages, store);
        } else {
            let body = Body::Input(start..end);
            let chunk = Chunk {
                body,
                continues: false,
                messages,
                queued_at: None,
            };
            self.push_chunk(chunk, store);
        }
    }

    /// Copies what is still in the input, which is about to go away.
    pub(crate) fn keep(&mut self, input: &Input, store: &mut Store) {
        debug_assert!(self.open.messages == 0, "settle comes first");
        let written = self.written;
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            if let Body::Input(range) = &chunk.body {
                // The written part is kept too: the ends of messages are found by walking from the
                // front. Only the chunk in front has one.
                debug_assert!(index > 0 || written < range.len());
                let mut batch = store.take();
                batch.extend_from_slice(&input.buffer()[range.clone()]);
                chunk.body = Body::Batch(batch);
            }
        }
    }

    /// Whether a part of the queue is still in the input.
    pub(crate) fn leans_on_input(&self) -> bool {
        self.chunks
            .iter()
            .any(|chunk| matches!(chunk.body, Body::Input(_)))
    }

    /// The pieces to send next, at most [`SLICES_MAX`]; `input` is the buffer the queue leans on,
    /// or empty. Answers how many there are.
    pub fn slices<'a>(&'a self, input: &'a [u8], out: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut count = 0;
        let mut skip = self.written;
        for (slot, chunk) in out.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(&chunk.bytes(input)[skip..]);
            skip = 0;
            count += 1;
        }
        count
    }

    /// Takes note that the kernel took `size` bytes from the front.
    pub(crate) fn advance(&mut self, size: usize, store: &mut Store) {
        self.bytes -= size as u64;
        store.queued -= size as u64;
        self.written += size;
        while let Some(front) = self.chunks.front() {
            let front_size = front.size();
            if self.written < front_size {
                return;
            }
            self.written -= front_size;
            self.preamble = self.preamble.saturating_sub(front_size);
            self.messages -= front.messages;
            if let Some(Chunk {
                body: Body::Batch(buffer),
                ..
            }) = self.chunks.pop_front()
            {
                store.give(buffer);
            }
        }
        debug_assert!(self.written == 0, "more was written than there was");
        store.give_list(std::mem::take(&mut self.chunks));
    }

    /// Messages queued, the one being written included.
    #[inline]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Bytes queued and not yet taken by the kernel.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether the peer does not read any more.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Copies `parts` to the end of the queue, in which `messages` messages end.
    #[inline]
    fn copy_in<const N: usize>(&mut self, parts: [&[u8]; N], messages: u32, store: &mut Store) {
        let is_being_written = self.written > 0 && self.chunks.len() == 1;
        if let Some(Chunk {
            body: Body::Batch(batch),
            messages: count,
            ..
        }) = self.chunks.back_mut()
            && batch.len() < BATCH_SIZE_MAX
            && !is_being_written
            && !self.is_apart
        {
            *count += messages;
            parts.iter().for_each(|part| batch.extend_from_slice(part));
        } else {
            self.copy_in_new(&parts, messages, store);
        }
    }

    #[inline(never)]
    fn push_chunk(&mut self, chunk: Chunk, store: &mut Store) {
        if self.chunks.capacity() == 0 {
            self.chunks = store.take_list();
        }
        self.chunks.push_back(chunk);
    }

    #[inline(never)]
    fn copy_in_new(&mut self, parts: &[&[u8]], messages: u32, store: &mut Store) {
        let mut batch = store.take();
        parts.iter().for_each(|part| batch.extend_from_slice(part));
        let chunk = Chunk {
            body: Body::Batch(batch),
            continues: false,
            messages,
            queued_at: None,
        };
        self.push_chunk(chunk, store);
    }
}

impl Chunk {
    fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match &self.body {
            Body::Batch(buffer) => buffer,
            Body::Input(range) => &input[range.clone()],
            Body::Shared(bytes) => bytes,
        }
    }

    fn size(&self) -> usize {
        match &self.body {
            Body::Batch(buffer) => buffer.len(),
            Body::Input(range) => range.len(),
            Body::Shared(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests;
