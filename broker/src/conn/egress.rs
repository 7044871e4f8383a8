//! The queue of one peer: wire bytes in order, in as few pieces as possible.
//!
//! ```text
//!   batch: small messages, copied   shared: with other queues   input: a run in the scratch
//! ┌───────────────────────────────┬───────────────────────────┬────────────────────────────┐
//! │ ███████ ← written             │                           │                     ← open │
//! └───────────────────────────────┴───────────────────────────┴────────────────────────────┘
//! ```
//!
//! A message that is forwarded unchanged is at first only a range of the input: the open run.
//! Adjacent ranges grow together. At the end of the input, a long run is written to the socket
//! straight from the buffer it was read into, and a short one is copied to the end of the batch.
//!
//! If each message must be removable, the queue continues in `Apart`, after the chunks.
//!
//! Every byte of memory is counted when it is allocated: a queue's own memory in its footprint and
//! in the store, shared memory once in the store.

mod apart;
mod buffer;
mod index;
mod keep;
mod seal;
mod segment;
mod shared;
mod store;
mod unsent;
pub(crate) mod walk;

pub(crate) use shared::Shared;
pub(crate) use store::Store;
pub(crate) use unsent::Unsent;

use crate::conn::Input;
use apart::Apart;
use buffer::Buffer;
use seal::Sealed;
use segment::State;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

/// A run of the input of at least this size is written from its place. Shorter ones are gathered,
/// so that one system call sends messages of many senders.
pub(crate) const DIRECT_SIZE_MIN: usize = 16 << 10;

/// The same for a message with a prefix when copies must be avoided: below this size, a chunk of
/// its own would cost as much as the copy.
const DIRECT_SIZE_MIN_TIGHT: usize = 1 << 10;

/// The maximum size of a growing batch.
const BATCH_SIZE_MAX: usize = 64 << 10;

/// A batch of at least this size does not grow, unless it was that large from the beginning.
const BATCH_GROWTH_MAX: usize = 16 << 10;

/// Most pieces handed to the kernel in one call.
pub const SLICES_MAX: usize = 64;

/// The queue of one peer.
///
/// Invariants: the chunks together are `preamble` bytes, then whole messages and commands. A chunk
/// with a `prefix` begins after that many bytes of its first message, with which the chunk before
/// ends, if they were not sent yet. `written` is less than the size of the front chunk, and 0 if
/// the list is empty; `bytes` and `messages` are the sums over sealed bytes, chunks, `open` and
/// `apart`, minus the written ones.
#[derive(Debug, Default)]
pub struct Egress {
    /// Messages kept apart, after the chunks; only while there are any.
    apart: Option<Box<Apart>>,
    bytes: u64,
    chunks: VecDeque<Chunk>,
    /// Memory of the chunks and of their list, including shared blocks.
    footprint: u64,
    /// Whether each message must be removable.
    is_apart: bool,
    is_closed: bool,
    /// The number of chunks in the input.
    leaning: u32,
    messages: u32,
    open: Open,
    /// Bytes at the front that must not be parsed, and stay: parts of a greeting are not frames, a
    /// frame that is an identity is not a message, and a message may have lost its beginning.
    preamble: usize,
    /// What goes out before all of these, where frames are sealed.
    sealed: Option<Box<Sealed>>,
    written: usize,
}

#[derive(Debug)]
struct Chunk {
    body: Body,
    /// The number of messages that end in it.
    messages: u32,
    /// The number of bytes of its first message that are, or were, in the chunk before.
    prefix: u32,
}

#[derive(Debug)]
enum Body {
    /// Copied bytes; extended until the first of them is written.
    Batch(Buffer),
    /// A part of the input being handled.
    Input(Range<usize>),
    /// Bytes that other queues share.
    Shared(Shared),
}

/// A run of the current input that may still grow.
#[derive(Debug, Default)]
struct Open {
    end: usize,
    messages: u32,
    start: usize,
}

impl Egress {
    /// Queues one message: `prefix` and then a range of the input's buffer that does not touch
    /// another.
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
            let parts = [prefix, &input.buffer()[range]];
            self.apart(store).push(&parts, State::Message, store);
            return;
        }
        self.close_run(input, store);
        if range.len() < DIRECT_SIZE_MIN && !store.copies_nothing || !input.is_scratch() {
            self.copy_in([prefix, &input.buffer()[range]], 1, store);
        } else {
            self.push_direct(prefix, input, range, store);
        }
    }

    #[inline(never)]
    fn push_direct(
        &mut self,
        prefix: &[u8],
        input: &Input,
        range: Range<usize>,
        store: &mut Store,
    ) {
        if range.len() < DIRECT_SIZE_MIN_TIGHT && !prefix.is_empty() {
            self.copy_in([prefix, &input.buffer()[range]], 1, store);
            return;
        }
        let prefix = self.push_prefix(prefix, store);
        self.leaning += 1;
        self.push_chunk(Body::Input(range), 1, prefix, store);
    }

    /// Queues the first bytes of a message whose rest is the next chunk.
    fn push_prefix(&mut self, prefix: &[u8], store: &mut Store) -> u32 {
        if !prefix.is_empty() {
            self.copy_in([prefix], 0, store);
        }
        u32::try_from(prefix.len()).expect("a prefix is shorter than a message")
    }

    /// Queues a range of the input's buffer with this number of messages; joins it with the one
    /// before if they touch. Not for a queue that keeps messages apart.
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
            self.close_run(input, store);
            self.open.start = range.start;
        }
        self.open.end = range.end;
        self.open.messages += messages;
    }

    /// Queues one message: `prefix` and then bytes that other queues may share.
    pub(crate) fn push_shared(&mut self, prefix: &[u8], body: Shared, store: &mut Store) {
        debug_assert!(
            self.open.messages == 0,
            "a shared message is the only one of its input"
        );
        self.count(1, prefix.len() + body.len(), store);
        if !self.is_apart {
            let prefix = self.push_prefix(prefix, store);
            self.push_chunk(Body::Shared(body), 1, prefix, store);
        } else if prefix.is_empty() {
            self.apart(store).push_shared(body, store);
        } else {
            let parts = [prefix, &body];
            self.apart(store).push(&parts, State::Message, store);
        }
    }

    /// Queues bytes with `messages` whole messages that other queues may share: one copy for all.
    /// The open run of the input goes first.
    pub(crate) fn push_shared_run(
        &mut self,
        input: &Input,
        bytes: Shared,
        messages: u32,
        store: &mut Store,
    ) {
        self.count(messages, bytes.len(), store);
        if self.is_apart {
            self.apart(store).push_shared(bytes, store);
            return;
        }
        self.close_run(input, store);
        self.push_chunk(Body::Shared(bytes), messages, 0, store);
    }

    /// The handshake is over: the bytes queued so far belong to it.
    pub(crate) fn begin_traffic(&mut self) {
        debug_assert!(self.apart.is_none(), "a handshake has no messages");
        self.preamble = self.chunks.iter().map(Chunk::size).sum();
    }

    /// Queues bytes that contain `messages` whole messages, or only commands.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8], messages: u32, store: &mut Store) {
        if bytes.is_empty() {
            return;
        }
        self.count(messages, bytes.len(), store);
        if !self.is_apart {
            self.copy_in([bytes], messages, store);
            return;
        }
        let mut rest = bytes;
        for _ in 1..messages {
            let (message, behind) = rest.split_at(unsent::front_size(rest).0);
            self.apart(store).push(&[message], State::Message, store);
            rest = behind;
        }
        let state = match messages {
            0 => State::Command,
            _ => State::Message,
        };
        self.apart(store).push(&[rest], state, store);
    }

    /// From now on each message can be removed again, at the cost of a few more bytes for each.
    pub(crate) fn keep_apart(&mut self) {
        self.is_apart = true;
    }

    /// Queues messages that were removed from another queue.
    pub(crate) fn push_unsent(&mut self, mut unsent: Unsent, store: &mut Store) {
        while let Some(message) = unsent.pop(store) {
            self.push_whole(message, store);
        }
    }

    /// Queues a message for this peer alone: small ones are copied.
    pub(crate) fn push_whole(&mut self, message: Shared, store: &mut Store) {
        if message.len() < BATCH_SIZE_MAX {
            self.push_bytes(&message, 1, store);
        } else {
            self.push_shared(&[], message, store);
        }
    }

    /// Appends the messages of a queue, none of which was begun.
    pub(crate) fn append(&mut self, mut other: Self, store: &mut Store) {
        debug_assert!(other.written + other.preamble == 0 && other.open.messages == 0);
        debug_assert!(self.open.messages == 0 && other.leaning == 0);
        debug_assert!(self.is_apart == other.is_apart || other.is_empty());
        self.bytes += other.bytes;
        self.messages += other.messages;
        if !other.chunks.is_empty() {
            debug_assert!(self.apart.is_none(), "chunks go before messages kept apart");
        }
        let rooms = |own: &Self, other: &Self| own.chunks.capacity() + other.chunks.capacity();
        let before = rooms(self, &other);
        self.footprint += other.footprint;
        self.chunks.append(&mut other.chunks);
        other.chunks = VecDeque::new();
        let (size, after) = (size_of::<Chunk>(), rooms(self, &other));
        store.resize(&mut self.footprint, before * size, after * size);
        if let Some(behind) = other.apart {
            match &mut self.apart {
                Some(apart) => apart.append(behind, store),
                None => self.apart = Some(behind),
            }
        }
    }

    #[inline(never)]
    fn apart(&mut self, store: &mut Store) -> &mut Apart {
        self.apart.get_or_insert_with(|| store.take_apart())
    }

    #[inline]
    fn count(&mut self, messages: u32, bytes: usize, store: &mut Store) {
        self.messages += messages;
        self.bytes += bytes as u64;
        store.queued += bytes as u64;
    }

    /// Removes the oldest unsent message; false without one. Only for messages that are kept apart,
    /// like the next two functions.
    pub(crate) fn drop_oldest(&mut self, store: &mut Store) -> bool {
        self.drop_apart(store, |apart, store| apart.drop_oldest(1, None, store)) > 0
    }

    /// Removes the unsent messages, or only those whose first frame is `topic`; returns their
    /// number.
    pub(crate) fn drop_unsent(&mut self, topic: Option<&[u8]>, store: &mut Store) -> u32 {
        self.drop_apart(store, |apart, store| match topic {
            Some(topic) => apart.drop_topic(topic, store),
            None => apart.drop_oldest(u32::MAX, None, store),
        })
    }

    /// Removes the unsent messages with this stamp or an earlier one, at most `most`; returns their
    /// number.
    pub(crate) fn drop_expired(&mut self, latest: u64, most: u32, store: &mut Store) -> u32 {
        self.drop_apart(store, |apart, store| {
            apart.drop_oldest(most, Some(latest), store)
        })
    }

    fn drop_apart(
        &mut self,
        store: &mut Store,
        drop: impl FnOnce(&mut Apart, &mut Store) -> (u32, u64),
    ) -> u32 {
        let Some(apart) = &mut self.apart else {
            return 0;
        };
        let (messages, bytes) = drop(apart, store);
        self.messages -= messages;
        self.bytes -= bytes;
        store.queued -= bytes;
        self.end_apart(store);
        messages
    }

    /// Frees the part for messages kept apart if it is empty.
    fn end_apart(&mut self, store: &mut Store) {
        if let Some(empty) = self.apart.take_if(|apart| apart.is_empty()) {
            store.give_apart(empty);
        }
    }

    /// Ends the run of the current input. A long run stays in the scratch, to be written from
    /// there; others are copied, unless copies must be avoided.
    #[inline]
    pub(crate) fn close_run(&mut self, input: &Input, store: &mut Store) {
        if self.open.messages > 0 {
            self.close_open_run(input, store);
        }
    }

    fn close_open_run(&mut self, input: &Input, store: &mut Store) {
        let Open {
            end,
            messages,
            start,
        } = std::mem::take(&mut self.open);
        let is_short = end - start < DIRECT_SIZE_MIN && !store.copies_nothing;
        if is_short || !input.is_scratch() {
            self.copy_in([&input.buffer()[start..end]], messages, store);
        } else {
            self.leaning += 1;
            self.push_chunk(Body::Input(start..end), messages, 0, store);
        }
    }

    /// Whether a part of the queue is in the input.
    #[inline]
    pub(crate) fn leans_on_input(&self) -> bool {
        self.leaning > 0
    }

    /// The pieces to send next, at most [`SLICES_MAX`]; `input` is the buffer that the queue refers
    /// to, or empty. Returns their number: 0 while a long frame is being sealed, and nothing of it
    /// can be sent yet.
    pub fn slices<'a>(&'a self, input: &'a [u8], out: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        if self.is_sealed() {
            out[0] = IoSlice::new(self.sealed_rest());
            return usize::from(!out[0].is_empty());
        }
        self.plain_slices(input, out)
    }

    /// The unsealed pieces, at most [`SLICES_MAX`]: all pieces without a coder. For tests, which
    /// compare them with the expected ones.
    pub fn plain_slices<'a>(
        &'a self,
        input: &'a [u8],
        out: &mut [IoSlice<'a>; SLICES_MAX],
    ) -> usize {
        let mut count = 0;
        let mut skip = self.written;
        for (slot, chunk) in out.iter_mut().zip(&self.chunks) {
            *slot = IoSlice::new(&chunk.bytes(input)[skip..]);
            skip = 0;
            count += 1;
        }
        match &self.apart {
            Some(apart) => count + apart.slices(&mut out[count..]),
            None => count,
        }
    }

    /// Notes that the kernel accepted `size` bytes from the front.
    pub(crate) fn advance(&mut self, size: usize, store: &mut Store) {
        if self.is_sealed() {
            self.advance_sealed(size, store);
        } else {
            self.advance_plain(size, store);
        }
    }

    /// Takes note that `size` plain bytes at the front are done with.
    fn advance_plain(&mut self, size: usize, store: &mut Store) {
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
            if let Some(chunk) = self.chunks.pop_front() {
                self.give_chunk(chunk, store);
            }
        }
        self.end_chunks(store);
        if let Some(apart) = &mut self.apart {
            self.messages -= apart.advance(std::mem::take(&mut self.written), store);
            self.end_apart(store);
        }
        debug_assert!(self.written == 0, "more bytes were written than queued");
    }

    /// Frees the memory of a chunk.
    #[inline]
    fn give_chunk(&mut self, chunk: Chunk, store: &mut Store) {
        match chunk.body {
            Body::Batch(buffer) => self.give(buffer, store),
            Body::Input(_) => self.leaning -= 1,
            Body::Shared(shared) => self.footprint -= shared.block_size(),
        }
    }

    #[inline]
    fn give(&mut self, buffer: Buffer, store: &mut Store) {
        store.refund(&mut self.footprint, buffer.capacity());
        store.give(buffer);
    }

    /// Frees the list of chunks if it is empty.
    fn end_chunks(&mut self, store: &mut Store) {
        if self.chunks.is_empty() && self.chunks.capacity() > 0 {
            let size = self.chunks.capacity() * size_of::<Chunk>();
            store.refund(&mut self.footprint, size);
            store.give_list(std::mem::take(&mut self.chunks));
        }
    }

    /// Messages queued, including the one being written.
    #[inline]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Unsent messages in a queue that keeps messages apart.
    pub(crate) fn unsent(&self) -> u32 {
        let is_begun = self.apart.as_ref().is_some_and(|apart| apart.is_begun());
        self.messages - u32::from(is_begun)
    }

    /// Memory of this queue in bytes: its own, and all of each block that it shares with others.
    pub(crate) fn footprint(&self) -> u64 {
        self.footprint + self.apart.as_ref().map_or(0, |apart| apart.footprint())
    }

    /// Bytes queued that the kernel has not accepted yet.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it has no bytes to send.
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
        let size: usize = parts.iter().map(|part| part.len()).sum();
        let is_being_written = self.written > 0 && self.chunks.len() == 1;
        if let Some(Chunk {
            body: Body::Batch(batch),
            messages: count,
            ..
        }) = self.chunks.back_mut()
            && size <= batch.capacity() - batch.len()
            && !is_being_written
        {
            *count += messages;
            parts.iter().for_each(|part| batch.extend_from_slice(part));
        } else {
            self.copy_in_new(&parts, size, messages, store);
        }
    }

    /// Copies bytes for which the last batch has no room: into a larger batch, or a new one.
    #[inline(never)]
    fn copy_in_new(&mut self, parts: &[&[u8]], size: usize, messages: u32, store: &mut Store) {
        let is_being_written = self.written > 0 && self.chunks.len() == 1;
        let mut wanted = size;
        if let Some(Chunk {
            body: Body::Batch(batch),
            messages: count,
            ..
        }) = self.chunks.back_mut()
        {
            let may_grow = batch.capacity() <= BATCH_GROWTH_MAX && !is_being_written;
            if may_grow && batch.len() + size <= BATCH_SIZE_MAX {
                let mut larger = store.take(batch.len() + size);
                larger.extend_from_slice(batch);
                parts.iter().for_each(|part| larger.extend_from_slice(part));
                *count += messages;
                store.charge(&mut self.footprint, larger.capacity());
                let smaller = std::mem::replace(batch, larger);
                return self.give(smaller, store);
            }
            // The next batch after a large one is probably large.
            wanted = wanted.max(batch.len().min(BATCH_SIZE_MAX) / 4);
        }
        let mut batch = store.take(wanted);
        parts.iter().for_each(|part| batch.extend_from_slice(part));
        store.charge(&mut self.footprint, batch.capacity());
        self.push_chunk(Body::Batch(batch), messages, 0, store);
    }

    /// Appends a chunk; its memory is counted already unless it is shared.
    #[inline(never)]
    fn push_chunk(&mut self, body: Body, messages: u32, prefix: u32, store: &mut Store) {
        let before = self.chunks.capacity();
        if before == 0 {
            self.chunks = store.take_list();
        }
        if let Body::Shared(shared) = &body {
            self.footprint += shared.block_size();
        }
        self.chunks.push_back(Chunk {
            body,
            messages,
            prefix,
        });
        let after = self.chunks.capacity();
        if after != before {
            let size = size_of::<Chunk>();
            store.resize(&mut self.footprint, before * size, after * size);
        }
    }
}

impl Chunk {
    fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match &self.body {
            Body::Batch(buffer) => buffer,
            Body::Input(range) => &input[range.clone()],
            Body::Shared(shared) => shared,
        }
    }

    #[inline]
    fn size(&self) -> usize {
        match &self.body {
            Body::Batch(buffer) => buffer.len(),
            Body::Input(range) => range.len(),
            Body::Shared(shared) => shared.len(),
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
