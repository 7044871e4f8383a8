//! What waits to be sent to one peer: wire bytes in order, in as few pieces as possible.
//!
//! ```text
//! chunks: | batch: small messages, copied | shared: a large one | input: a run still in the scratch |
//!           └ written                                             └ settled from `open`
//! ```
//!
//! A message that is forwarded as it came is at first only a range of the input. Ranges that touch
//! grow together; when the input is done with, a long run is written to the socket straight from the
//! buffer it was read into, and a short one is copied to the end of the batch.

use crate::conn::Input;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use zmtp::Frames;
use zmtp::limits::GREETING_SIZE;
use zmtp::wire::header::COMMAND;

/// A run of the input at least this long is written from where it is. Shorter ones are gathered, so
/// that one system call takes the messages of many.
pub(crate) const DIRECT_SIZE_MIN: usize = 16 << 10;

/// A batch at least this long is not appended to any more.
const BATCH_SIZE_MAX: usize = 64 << 10;

/// First byte of a greeting.
const GREETING_START: u8 = 0xff;

/// Most pieces handed to the kernel at once.
pub const SLICES_MAX: usize = 64;

/// The queue of one peer.
///
/// Invariants: the chunks together are whole messages and commands; one that `continues` begins behind
/// the prefix of its first message. `written` is less than the size of the front chunk, and 0 if there
/// is none; `bytes` and `messages` are the sums over chunks and `open`, less `written`.
#[derive(Debug, Default)]
pub struct Egress {
    bytes: u64,
    chunks: VecDeque<Chunk>,
    is_closed: bool,
    messages: u32,
    open: Open,
    written: usize,
}

#[derive(Debug)]
struct Chunk {
    body: Body,
    /// Whether its first message began in the chunk before.
    continues: bool,
    /// How many messages end in it.
    messages: u32,
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

/// Buffers of drained batches, kept for the next ones: an idle peer owns none.
#[derive(Debug, Default)]
pub(crate) struct BatchPool {
    free: Vec<Vec<u8>>,
}

impl BatchPool {
    /// How many are kept: some megabyte at most.
    const FREE_MAX: usize = 16;

    fn take(&mut self) -> Vec<u8> {
        self.free.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        if self.free.len() < Self::FREE_MAX && buffer.capacity() <= 2 * BATCH_SIZE_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

impl Egress {
    /// Queues one message: `prefix` and then a range of the input's buffer.
    #[inline]
    pub(crate) fn push_input(
        &mut self,
        prefix: &[u8],
        input: &Input,
        range: Range<usize>,
        pool: &mut BatchPool,
    ) {
        self.messages += 1;
        self.bytes += (prefix.len() + range.len()) as u64;
        if prefix.is_empty() {
            if self.open.end != range.start || self.open.messages == 0 {
                self.settle(input, pool);
                self.open = Open {
                    end: range.start,
                    messages: 0,
                    start: range.start,
                };
            }
            self.open.end = range.end;
            self.open.messages += 1;
            return;
        }
        self.settle(input, pool);
        if range.len() < DIRECT_SIZE_MIN || !input.is_scratch() {
            let batch = self.batch(pool, 1);
            batch.extend_from_slice(prefix);
            batch.extend_from_slice(&input.buffer()[range]);
        } else {
            self.batch(pool, 0).extend_from_slice(prefix);
            self.chunks.push_back(Chunk {
                body: Body::Input(range),
                continues: true,
                messages: 1,
            });
        }
    }

    /// Queues one message: `prefix` and then the bytes that others may send too.
    pub(crate) fn push_shared(&mut self, prefix: &[u8], body: Bytes, pool: &mut BatchPool) {
        debug_assert!(
            self.open.messages == 0,
            "a shared message is the only one of its input"
        );
        self.messages += 1;
        self.bytes += (prefix.len() + body.len()) as u64;
        let continues = !prefix.is_empty();
        if continues {
            self.batch(pool, 0).extend_from_slice(prefix);
        }
        self.chunks.push_back(Chunk {
            body: Body::Shared(body),
            continues,
            messages: 1,
        });
    }

    /// Queues bytes that hold `messages` whole messages, or only commands.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8], messages: u32, pool: &mut BatchPool) {
        if bytes.is_empty() {
            return;
        }
        self.messages += messages;
        self.bytes += bytes.len() as u64;
        self.batch(pool, messages).extend_from_slice(bytes);
    }

    /// Ends the run of the current input. A long one is left in the scratch, to be written from there;
    /// others are copied.
    #[inline]
    pub(crate) fn settle(&mut self, input: &Input, pool: &mut BatchPool) {
        let Open {
            end,
            messages,
            start,
        } = std::mem::take(&mut self.open);
        if messages == 0 {
            return;
        }
        if end - start < DIRECT_SIZE_MIN || !input.is_scratch() {
            self.batch(pool, messages)
                .extend_from_slice(&input.buffer()[start..end]);
        } else {
            let body = Body::Input(start..end);
            self.chunks.push_back(Chunk {
                body,
                continues: false,
                messages,
            });
        }
    }

    /// Copies what is still in the input, which is about to go away.
    pub(crate) fn keep(&mut self, input: &Input, pool: &mut BatchPool) {
        debug_assert!(self.open.messages == 0, "settle comes first");
        let written = self.written;
        for (index, chunk) in self.chunks.iter_mut().enumerate() {
            if let Body::Input(range) = &chunk.body {
                // The written part is kept too: the ends of messages are found by walking from the
                // front. Only the chunk in front has one.
                debug_assert!(index == 0 || written < range.end);
                let mut batch = pool.take();
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

    /// The pieces to send next, at most [`SLICES_MAX`]; `input` is the buffer the queue leans on, or
    /// empty. Answers how many there are.
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
    pub(crate) fn advance(&mut self, size: usize, pool: &mut BatchPool) {
        self.bytes -= size as u64;
        self.written += size;
        while let Some(front) = self.chunks.front() {
            let front_size = front.size();
            if self.written < front_size {
                return;
            }
            self.written -= front_size;
            self.messages -= front.messages;
            if let Some(Chunk {
                body: Body::Batch(buffer),
                ..
            }) = self.chunks.pop_front()
            {
                pool.give(buffer);
            }
        }
        debug_assert!(self.written == 0, "more was written than there was");
        if self.chunks.capacity() > SLICES_MAX {
            self.chunks = VecDeque::new();
        }
    }

    /// Gives up the queue, now and for ever: the peer does not read any more. Hands over the messages
    /// of which no byte was written, in order, in wire form, and how many they are.
    pub(crate) fn close(&mut self, pool: &mut BatchPool) -> (Vec<u8>, u32) {
        debug_assert!(!self.leans_on_input() && self.open.messages == 0);
        let begun = self.chunks.front().is_some_and(|front| front.continues);
        let written = self.written.max(usize::from(begun));
        let mut queue = Vec::new();
        for chunk in std::mem::take(&mut self.chunks) {
            queue.extend_from_slice(chunk.bytes(&[]));
            if let Body::Batch(buffer) = chunk.body {
                pool.give(buffer);
            }
        }
        let (mut kept, mut kept_messages, mut at) = (Vec::new(), 0, 0);
        while at < queue.len() {
            let (size, is_message) = unit_size(&queue[at..]);
            if at >= written && is_message {
                kept.extend_from_slice(&queue[at..at + size]);
                kept_messages += 1;
            }
            at += size;
        }
        *self = Self {
            is_closed: true,
            ..Self::default()
        };
        (kept, kept_messages)
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

    /// The batch at the end of the queue, with `messages` more to come in it.
    #[inline]
    fn batch(&mut self, pool: &mut BatchPool, messages: u32) -> &mut Vec<u8> {
        let is_front = self.chunks.len() == 1;
        let appendable = match self.chunks.back() {
            Some(Chunk {
                body: Body::Batch(buffer),
                ..
            }) => buffer.len() < BATCH_SIZE_MAX && !(is_front && self.written > 0),
            _ => false,
        };
        if !appendable {
            let body = Body::Batch(pool.take());
            self.chunks.push_back(Chunk {
                body,
                continues: false,
                messages: 0,
            });
        }
        match self.chunks.back_mut() {
            Some(Chunk {
                body: Body::Batch(buffer),
                messages: count,
                ..
            }) => {
                *count += messages;
                buffer
            }
            _ => unreachable!("a batch was just put there"),
        }
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

/// Size of the whole message or command at the front of `wire`, and whether it is a message. A queue may
/// begin with our greeting, whose first byte no frame can have.
pub(crate) fn unit_size(wire: &[u8]) -> (usize, bool) {
    let first = wire.first().copied().unwrap_or_default();
    if first == GREETING_START {
        return (GREETING_SIZE.min(wire.len()), false);
    }
    let mut frames = Frames::new(wire);
    while frames.next().is_some_and(|frame| frame.more) {}
    let size = wire.len() - frames.rest().len();
    assert!(size > 0, "a queue holds whole messages and commands");
    (size, first & COMMAND == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        zmtp::encode::append_frame(&mut out, &vec![b'x'; size], false);
        out
    }

    fn scratch(bytes: &[u8]) -> Input {
        let mut input = Input::scratch(bytes.into());
        input.filled(bytes.len());
        input
    }

    fn content(egress: &Egress, input: &[u8]) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = egress.slices(input, &mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn touching_ranges_become_one_run() {
        let bytes = message(60).repeat(1000);
        let input = scratch(&bytes);
        let (mut egress, mut pool) = (Egress::default(), BatchPool::default());
        for at in (0..bytes.len()).step_by(62) {
            egress.push_input(&[], &input, at..at + 62, &mut pool);
        }
        assert_eq!((egress.messages(), egress.bytes()), (1000, 62_000));
        egress.settle(&input, &mut pool);
        assert!(egress.leans_on_input(), "a long run stays in the input");
        assert_eq!(egress.chunks.len(), 1);
        assert_eq!(content(&egress, &bytes), bytes);
        egress.advance(100, &mut pool);
        egress.keep(&input, &mut pool);
        assert!(!egress.leans_on_input());
        assert_eq!(content(&egress, &[]), bytes[100..]);
    }

    #[test]
    fn a_prefix_goes_in_front_of_each_message() {
        let (small, large) = (message(60), message(20_000));
        let bytes = [small.clone(), large.clone(), small.clone()].concat();
        let input = scratch(&bytes);
        let (mut egress, mut pool) = (Egress::default(), BatchPool::default());
        let mut at = 0;
        let mut expected = Vec::new();
        for message in [&small, &large, &small] {
            egress.push_input(b"\x01\x02id", &input, at..at + message.len(), &mut pool);
            at += message.len();
            expected.extend_from_slice(b"\x01\x02id");
            expected.extend_from_slice(message);
        }
        egress.settle(&input, &mut pool);
        assert!(egress.leans_on_input());
        assert_eq!(content(&egress, &bytes), expected);
        assert_eq!(egress.bytes(), expected.len() as u64);
    }

    #[test]
    fn counts_come_down_to_zero_whatever_the_pieces() {
        let bytes = message(100);
        let input = scratch(&bytes);
        for piece in 1..bytes.len() * 3 + 10 {
            let (mut egress, mut pool) = (Egress::default(), BatchPool::default());
            egress.push_bytes(b"\x04\x01\x00", 0, &mut pool);
            for _ in 0..2 {
                egress.push_input(&[], &input, 0..bytes.len(), &mut pool);
                egress.settle(&input, &mut pool);
            }
            egress.push_shared(&[], Bytes::copy_from_slice(&bytes), &mut pool);
            while !egress.is_empty() {
                let size = usize::try_from(egress.bytes()).unwrap().min(piece);
                egress.advance(size, &mut pool);
            }
            assert_eq!(
                (egress.messages(), egress.chunks.len(), egress.written),
                (0, 0, 0)
            );
        }
    }

    #[test]
    fn only_messages_with_no_byte_written_are_handed_over() {
        let (one, two) = (message(10), [b"\x01\x01a".to_vec(), message(20)].concat());
        let shared = message(30);
        let whole = [&one[..], b"\x04\x05\x04PONG", &two, &shared].concat();
        for written in 0..=whole.len() {
            let (mut egress, mut pool) = (Egress::default(), BatchPool::default());
            egress.push_bytes(&one, 1, &mut pool);
            egress.push_bytes(b"\x04\x05\x04PONG", 0, &mut pool);
            egress.push_bytes(&two, 1, &mut pool);
            egress.push_shared(&[], shared.clone().into(), &mut pool);
            egress.advance(written, &mut pool);
            let (kept, messages) = egress.close(&mut pool);
            let two_at = one.len() + 7;
            let mut expected = Vec::new();
            for (at, message) in [(0, &one), (two_at, &two), (two_at + two.len(), &shared)] {
                if written <= at {
                    expected.push(message.clone());
                }
            }
            assert_eq!(messages as usize, expected.len(), "{written} bytes written");
            assert_eq!(kept, expected.concat());
            assert!(egress.is_closed() && egress.is_empty());
        }
    }

    #[test]
    fn a_greeting_that_was_not_sent_is_no_message() {
        let mut greeting = vec![0; 64];
        greeting[0] = 0xff;
        for written in [0, 1, 63] {
            let (mut egress, mut pool) = (Egress::default(), BatchPool::default());
            egress.push_bytes(&greeting, 0, &mut pool);
            egress.push_bytes(b"\x04\x06\x05READY", 0, &mut pool);
            egress.push_bytes(&message(10), 1, &mut pool);
            egress.advance(written, &mut pool);
            assert_eq!(egress.close(&mut pool), (message(10), 1));
        }
    }

    #[test]
    fn a_message_whose_prefix_is_gone_is_not_handed_over() {
        let (large, small) = (message(20_000), message(10));
        let (mut egress, mut pool) = (Egress::default(), BatchPool::default());
        egress.push_shared(b"\x01\x02id", large.into(), &mut pool);
        egress.push_bytes(&small, 1, &mut pool);
        egress.advance(4, &mut pool);
        assert_eq!((egress.written, egress.messages()), (0, 2));
        assert_eq!(egress.close(&mut pool), (small, 1));
    }

    #[test]
    fn a_batch_being_written_is_not_appended_to() {
        let (mut egress, mut pool) = (Egress::default(), BatchPool::default());
        egress.push_bytes(&message(10), 1, &mut pool);
        egress.advance(3, &mut pool);
        egress.push_bytes(&message(10), 1, &mut pool);
        assert_eq!(egress.chunks.len(), 2);
        egress.advance(9, &mut pool);
        assert_eq!(egress.messages(), 1);
    }
}
