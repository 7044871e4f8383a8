//! What can still be taken out of a queue: the messages of which no byte was written.
//!
//! A queue that is given up may be as large as the memory limit, and it is given up just when there
//! is no more. So it is taken apart chunk by chunk, and nowhere is a second copy of it.

use super::{BATCH_SIZE_MAX, Body, Chunk, Egress, Store};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use zmtp::Frames;
use zmtp::wire::header::COMMAND;

/// Messages that were queued and not begun, in order. The store counts their bytes as queued until
/// they are delivered or discarded.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    bytes: u64,
    /// Small messages on their way to the last segment.
    gathered: Vec<u8>,
    messages: u32,
    /// Whole messages, one after the other in each.
    segments: VecDeque<Bytes>,
}

impl Unsent {
    /// How many messages there are.
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

    /// Takes the first message out.
    pub(crate) fn pop(&mut self, store: &mut Store) -> Option<Bytes> {
        self.flush();
        let front = self.segments.front_mut()?;
        let (size, _) = front_size(front);
        let message = front.split_to(size);
        if !front.has_remaining() {
            self.segments.pop_front();
        }
        self.messages -= 1;
        self.bytes -= size as u64;
        store.queued -= size as u64;
        Some(message)
    }

    /// Puts the messages of another queue behind these.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.flush();
        other.flush();
        self.segments.append(&mut other.segments);
        self.messages = self.messages.saturating_add(other.messages);
        self.bytes += other.bytes;
    }

    /// Drops them all; answers how many they were.
    pub(crate) fn discard(&mut self, store: &mut Store) -> u32 {
        store.queued -= self.bytes;
        std::mem::take(self).messages
    }

    fn gather(&mut self, part: &[u8], ends_message: bool) {
        self.gathered.extend_from_slice(part);
        self.bytes += part.len() as u64;
        self.messages += u32::from(ends_message);
        if ends_message && self.gathered.len() >= BATCH_SIZE_MAX {
            self.flush();
        }
    }

    fn push_shared(&mut self, message: Bytes) {
        self.flush();
        self.bytes += message.len() as u64;
        self.messages += 1;
        self.segments.push_back(message);
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            self.segments
                .push_back(std::mem::take(&mut self.gathered).into());
        }
    }
}

impl Egress {
    /// As [`Self::close`], but hands over the messages of which no byte was written.
    pub(crate) fn close_and_take(&mut self, store: &mut Store) -> Unsent {
        let unsent = self.take_unsent(store);
        self.close(store);
        unsent
    }

    /// Gives up the queue, now and for ever: the peer does not read any more.
    pub(crate) fn close(&mut self, store: &mut Store) {
        debug_assert!(self.open.messages == 0, "settle comes first");
        store.queued -= self.bytes;
        for chunk in std::mem::take(&mut self.chunks) {
            if let Body::Batch(buffer) = chunk.body {
                store.give(buffer);
            }
        }
        *self = Self {
            is_apart: self.is_apart,
            is_closed: true,
            ..Self::default()
        };
    }

    /// Drops the messages of which no byte was written; answers how many. What was begun, and
    /// commands, stay.
    pub(crate) fn shed(&mut self, store: &mut Store) -> u32 {
        self.take_unsent(store).discard(store)
    }

    /// As [`Self::shed`], but hands the messages over.
    pub(crate) fn take_unsent(&mut self, store: &mut Store) -> Unsent {
        debug_assert!(!self.leans_on_input() && self.open.messages == 0);
        let mut sieve = Sieve {
            at: 0,
            begun: self.begun(),
            fate: None,
            kept: VecDeque::new(),
            preamble: self.preamble,
            taken: Unsent::default(),
        };
        for chunk in std::mem::take(&mut self.chunks) {
            sieve.sift(chunk, store);
        }
        self.chunks = sieve.kept;
        self.bytes -= sieve.taken.bytes;
        self.messages -= sieve.taken.messages;
        sieve.taken
    }

    /// Up to where units of the queue are begun: at least the first if its prefix is gone already.
    fn begun(&self) -> usize {
        let continues = self.chunks.front().is_some_and(|front| front.continues);
        self.written.max(usize::from(continues))
    }
}

/// Parts a queue into what stays and what can be taken out.
struct Sieve {
    /// Where the chunk begins.
    at: usize,
    /// What begins before this stays.
    begun: usize,
    /// What becomes of the message that goes on in the next chunk.
    fate: Option<Fate>,
    kept: VecDeque<Chunk>,
    preamble: usize,
    taken: Unsent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Taken,
}

/// A message or command, or as much of it as is in the chunk.
struct Piece {
    ends_message: bool,
    fate: Fate,
    size: usize,
}

impl Sieve {
    fn sift(&mut self, chunk: Chunk, store: &mut Store) {
        let (bytes, size) = (chunk.bytes(&[]), chunk.size());
        let continues = chunk.continues && self.fate != Some(Fate::Taken);
        // What stays of a chunk that does not stay as it is.
        let mut kept: Option<Vec<u8>> = None;
        let (mut from, mut messages) = (0, 0);
        while from < size {
            let piece = self.piece(&bytes[from..], self.at + from);
            let part = &bytes[from..from + piece.size];
            match (piece.fate, &chunk.body) {
                (Fate::Kept, _) => {
                    messages += u32::from(piece.ends_message);
                    if let Some(kept) = &mut kept {
                        kept.extend_from_slice(part);
                    }
                }
                (Fate::Taken, body) => {
                    kept.get_or_insert_with(|| bytes[..from].to_vec());
                    match body {
                        Body::Shared(message) if !chunk.continues => {
                            self.taken.push_shared(message.clone());
                        }
                        _ => self.taken.gather(part, piece.ends_message),
                    }
                }
            }
            from += piece.size;
        }
        self.at += size;
        let Some(kept) = kept else {
            return self.kept.push_back(chunk);
        };
        if !kept.is_empty() {
            self.kept.push_back(Chunk {
                body: Body::Batch(kept),
                continues,
                messages,
                queued_at: chunk.queued_at,
            });
        }
        if let Body::Batch(buffer) = chunk.body {
            store.give(buffer);
        }
    }

    fn piece(&mut self, rest: &[u8], at: usize) -> Piece {
        if at < self.preamble {
            return Piece {
                ends_message: false,
                fate: Fate::Kept,
                size: rest.len().min(self.preamble - at),
            };
        }
        let is_command = rest.first().is_some_and(|flags| flags & COMMAND != 0);
        let fate = self
            .fate
            .take()
            .unwrap_or(if at < self.begun || is_command {
                Fate::Kept
            } else {
                Fate::Taken
            });
        let (size, is_whole) = front_size(rest);
        if !is_whole {
            self.fate = Some(fate);
        }
        Piece {
            ends_message: is_whole && !is_command,
            fate,
            size,
        }
    }
}

/// Size of the message or command at the front of `wire`, and whether all of it is there.
fn front_size(wire: &[u8]) -> (usize, bool) {
    let (mut frames, mut more) = (Frames::new(wire), true);
    while more && let Some(frame) = frames.next() {
        more = frame.more;
    }
    let size = wire.len() - frames.rest().len();
    assert!(size > 0, "a queue holds whole frames");
    (size, !more)
}
