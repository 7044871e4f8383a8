//! Copies that a queue makes: of the rest of an input that goes away, and of the end of a large
//! block.

use super::buffer::Buffer;
use super::unsent::front_size;
use super::{Body, Chunk, Egress, Store};
use crate::conn::Input;
use std::ops::Range;

/// Copies of at least this size use buffers that are kept for reuse; others have exactly their
/// size.
const REUSED_SIZE_MIN: usize = 32 << 10;

/// Shorter runs are not worth sharing.
const SHARED_RUN_SIZE_MIN: usize = 1 << 10;

/// The result of [`Egress::keep`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Bytes copied.
    pub(crate) copied: u64,
    /// Messages dropped, for which the allowance was too small.
    pub(crate) dropped: u32,
}

impl Egress {
    /// Copies the queue's part of the input, which is about to go away, but drops messages for
    /// which more than `allowance` bytes would be needed. A partly written message is kept in any
    /// case.
    pub(crate) fn keep(&mut self, input: &Input, allowance: u64, store: &mut Store) -> Kept {
        debug_assert!(self.open.messages == 0, "runs are closed first");
        let mut kept = Kept::default();
        let mut at = self.first_leaning();
        while self.leaning > 0 {
            let mut removed = 0;
            if let Body::Input(range) = &self.chunks[at].body {
                let range = range.clone();
                self.leaning -= 1;
                let left = allowance.saturating_sub(kept.copied);
                if store.has_kept(&range) || range.len() as u64 <= left {
                    self.keep_chunk(at, range, input, &mut kept, store);
                } else {
                    let count = self.chunks.len();
                    self.keep_part(at, &input.buffer()[range], left, &mut kept, store);
                    removed = count - self.chunks.len();
                }
            }
            at = at + 1 - removed;
        }
        self.end_chunks(store);
        kept
    }

    /// The place of the first chunk in the input; all of them are near the end.
    fn first_leaning(&self) -> usize {
        let (mut at, mut left) = (self.chunks.len(), self.leaning);
        while left > 0 {
            at -= 1;
            left -= u32::from(matches!(self.chunks[at].body, Body::Input(_)));
        }
        at
    }

    /// Copies all of a chunk, including its written part: the ends of messages are found from the
    /// front. If other queues keep the same bytes, all share one copy.
    fn keep_chunk(
        &mut self,
        at: usize,
        range: Range<usize>,
        input: &Input,
        kept: &mut Kept,
        store: &mut Store,
    ) {
        let is_worth_sharing = range.len() >= SHARED_RUN_SIZE_MIN;
        let was_there = store.has_kept(&range);
        let shared = is_worth_sharing.then(|| store.kept(&range, input.buffer()));
        if !was_there {
            kept.copied += range.len() as u64;
        }
        self.chunks[at].body = match shared.flatten() {
            Some(shared) => {
                self.footprint += shared.block_size();
                Body::Shared(shared)
            }
            None => Body::Batch(self.copy(&input.buffer()[range], store)),
        };
    }

    /// A counted copy. Pages that were in use before cost less than new ones.
    fn copy(&mut self, bytes: &[u8], store: &mut Store) -> Buffer {
        let mut copy = match bytes.len() {
            REUSED_SIZE_MIN.. => store.take(bytes.len()),
            size => Buffer::with_capacity(size),
        };
        copy.extend_from_slice(bytes);
        store.charge(&mut self.footprint, copy.capacity());
        copy
    }

    /// Copies as many messages of a chunk in the input as `left` allows, and drops the others;
    /// removes the chunk if none stays.
    fn keep_part(
        &mut self,
        at: usize,
        bytes: &[u8],
        left: u64,
        kept: &mut Kept,
        store: &mut Store,
    ) {
        let written = if at == 0 { self.written } else { 0 };
        let is_prefix_begun = self.is_prefix_begun(at);
        // Whole messages that were written, then the partly written one, then as many as the
        // allowance permits.
        let mut end = if at == 0 {
            self.preamble.min(bytes.len())
        } else {
            0
        };
        let (mut begin, mut dropped) = (0, 0);
        let mut next = end;
        while next < bytes.len() {
            let start = next;
            next += front_size(&bytes[next..]).0;
            let is_begun = start < written || start == 0 && is_prefix_begun;
            let fits = dropped == 0 && (next - begin) as u64 <= left;
            if !is_begun && !fits {
                dropped += 1;
                continue;
            }
            if next <= written {
                begin = next;
            }
            end = next;
        }
        let lost = (bytes.len() - end) as u64;
        kept.copied += (end - begin) as u64;
        kept.dropped += dropped;
        self.messages -= dropped;
        self.bytes -= lost;
        store.queued -= lost;
        self.chunks[at].messages -= dropped;
        if end == begin {
            self.remove_chunk(at, store);
            return;
        }
        if at == 0 {
            self.written -= begin;
            self.preamble = self.preamble.saturating_sub(begin);
        }
        let copy = self.copy(&bytes[begin..end], store);
        let chunk = &mut self.chunks[at];
        chunk.body = Body::Batch(copy);
        if begin > 0 {
            chunk.prefix = 0;
        }
    }

    /// Removes a chunk without messages, and the prefix of its first message.
    fn remove_chunk(&mut self, at: usize, store: &mut Store) {
        let Some(Chunk {
            messages, prefix, ..
        }) = self.chunks.remove(at)
        else {
            return;
        };
        if at == 0 {
            // Its messages were written or dropped.
            self.messages -= messages;
            self.preamble = 0;
            self.written = 0;
            return;
        }
        let prefix = prefix as usize;
        if prefix == 0 {
            return;
        }
        self.bytes -= prefix as u64;
        store.queued -= prefix as u64;
        let written = if at == 1 { self.written } else { 0 };
        let Body::Batch(batch) = &mut self.chunks[at - 1].body else {
            return;
        };
        batch.truncate(batch.len() - prefix);
        if batch.len() > written {
            return;
        }
        if at == 1 {
            self.written = 0;
        }
        if let Some(Chunk {
            body: Body::Batch(batch),
            messages,
            ..
        }) = self.chunks.remove(at - 1)
        {
            self.messages -= messages;
            self.preamble = self.preamble.saturating_sub(batch.len());
            self.give(batch, store);
        }
    }

    /// Whether the chunk at this place begins in the middle of a partly written message.
    fn is_prefix_begun(&self, at: usize) -> bool {
        let prefix = self.chunks[at].prefix as usize;
        let kept_before = match at {
            0 => 0,
            1 => self.chunks[0].size() - self.written,
            _ => return false,
        };
        prefix > kept_before
    }

    /// Copies the rest of a shared block at the front if it is too small to keep the whole block
    /// for it.
    pub(crate) fn release_blocks(&mut self, store: &mut Store) {
        if let Some(apart) = &mut self.apart {
            apart.release_block(store);
        }
        let Some(front) = self.chunks.front() else {
            return;
        };
        let (prefix, written) = (front.prefix, self.written);
        let Body::Shared(shared) = &front.body else {
            return;
        };
        let left = shared.len() - written;
        if !shared.is_wasted_on(left) {
            return;
        }
        let shared = shared.clone();
        let mut end = self.preamble;
        while end < written || end == 0 && prefix > 0 {
            end += front_size(&shared[end..]).0;
        }
        let copy = self.copy(&shared[written..], store);
        self.footprint -= shared.block_size();
        if let Some(front) = self.chunks.front_mut() {
            front.body = Body::Batch(copy);
            front.prefix = 0;
        }
        self.preamble = end - written;
        self.written = 0;
    }
}
