//! Received bytes on their way through the broker.
//!
//! There are three places where received bytes can be. Most are read into the driver's one scratch
//! buffer and are gone before the next connection is read. What is left of them, a message that is
//! not whole or one that must wait, is kept in the connection's tail. A large message is read
//! straight into the tail, whose allocation then becomes the message itself, shared by all who get
//! it.

use bytes::{Bytes, BytesMut};

/// A message that will have at least this many bytes is read into a buffer of its own. Below,
/// keeping its beginning from one read to the next costs at most a copy of this size.
pub(crate) const LARGE_SIZE_MIN: usize = 64 << 10;

/// A large message's buffer begins with this size and doubles: memory follows what a peer sent and
/// not what it announced.
const LARGE_STEP_SIZE: usize = 1 << 20;

/// Most bytes read beyond the end of a large message if the peer has sent them already.
const LARGE_BEHIND_SIZE_MAX: usize = 64 << 10;

/// Room for them behind a message of this size. It stays with the message for as long as that is
/// queued, so that it must not be large beside it.
fn behind_size(message_size: usize) -> usize {
    (message_size / 8).min(LARGE_BEHIND_SIZE_MAX)
}

/// Received bytes and how far they are dealt with.
///
/// Invariant: `start <= end <= buffer.len()`; bytes before `start` are done with, bytes from `end`
/// on are room for reading.
#[derive(Debug, Default)]
pub struct Input {
    buffer: BytesMut,
    end: usize,
    is_scratch: bool,
    start: usize,
}

impl Input {
    /// The driver's scratch buffer, empty.
    pub(crate) fn scratch(buffer: BytesMut) -> Self {
        Self {
            buffer,
            end: 0,
            is_scratch: true,
            start: 0,
        }
    }

    /// Room to read into.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.buffer[self.end..]
    }

    /// Takes note that `size` bytes were read into [`Self::spare`].
    pub fn filled(&mut self, size: usize) {
        assert!(
            size <= self.buffer.len() - self.end,
            "more was read than there was room for"
        );
        self.end += size;
    }

    /// The whole buffer: ranges that the egress of a connection keeps count from its front.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// How far the buffer is dealt with.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The bytes not dealt with.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The bytes not dealt with, for a session to close gaps in.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Is done with `size` bytes at the front.
    #[inline]
    pub(crate) fn consume(&mut self, size: usize) {
        self.start += size;
        debug_assert!(self.start <= self.end, "more was consumed than there was");
    }

    /// Cuts `size` void bytes off the end.
    #[inline]
    pub(crate) fn cut(&mut self, size: usize) {
        self.end -= size;
        debug_assert!(self.start <= self.end, "more was cut than there was");
    }

    /// Memory that it holds.
    pub(crate) fn size(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Whether the bytes are the driver's, to be given back.
    pub(crate) fn is_scratch(&self) -> bool {
        self.is_scratch
    }

    /// Copies `carried` to the front of an empty scratch.
    pub(crate) fn carry(&mut self, carried: &[u8]) {
        debug_assert!(self.end == 0, "only an empty scratch carries");
        self.buffer[..carried.len()].copy_from_slice(carried);
        self.end = carried.len();
    }

    /// What is left, in a buffer of its own; nothing if all is dealt with.
    pub(crate) fn keep(&self) -> Self {
        let buffer = BytesMut::from(self.bytes());
        Self {
            end: buffer.len(),
            buffer,
            is_scratch: false,
            start: 0,
        }
    }

    /// The driver's buffer back.
    pub(crate) fn into_buffer(self) -> BytesMut {
        self.buffer
    }

    /// Makes room for a message of which `size` bytes are announced and some have come.
    pub(crate) fn grow_for(&mut self, size: usize) {
        if self.start > 0 {
            let _ = self.buffer.split_to(self.start);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end < self.buffer.len() {
            return;
        }
        let behind = behind_size(size);
        let wanted = size.saturating_add(behind);
        let allowed = self.end.saturating_mul(2).max(LARGE_STEP_SIZE);
        self.buffer
            .resize(wanted.min(allowed).max(self.end + behind), 0);
    }

    /// Puts `bytes` behind the others, in memory that grows with them.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        debug_assert!(!self.is_scratch, "the scratch has its size");
        self.buffer.truncate(self.end);
        if self.start > 0 {
            let _ = self.buffer.split_to(self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
        self.end = self.buffer.len();
    }

    /// Takes the first `size` bytes out, and answers with the capacity of their memory, which is
    /// theirs alone; not for the scratch. They are not copied if they are most of the buffer: then
    /// the others are.
    pub(crate) fn take_shared(&mut self, size: usize) -> (Bytes, usize) {
        debug_assert!(!self.is_scratch, "the scratch is not given away");
        let taken = self.start..self.start + size;
        if size < self.buffer.len() / 2 {
            self.start += size;
            return (Bytes::copy_from_slice(&self.buffer[taken]), size);
        }
        let rest = BytesMut::from(&self.buffer[taken.end..self.end]);
        let mut front = std::mem::replace(&mut self.buffer, rest);
        let capacity = front.capacity();
        self.end -= taken.end;
        self.start = 0;
        front.truncate(taken.end);
        (front.freeze().slice(taken), capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_message_grows_with_what_came() {
        let mut input = Input::default();
        let announced = usize::MAX / 2;
        input.grow_for(announced);
        assert_eq!(input.spare().len(), LARGE_STEP_SIZE);
        for step in 1..5 {
            let room = input.spare().len();
            input.filled(room);
            input.grow_for(announced);
            assert_eq!(input.buffer().len(), LARGE_STEP_SIZE << step);
        }
    }

    #[test]
    fn what_stands_behind_a_shared_message_stays() {
        let mut input = Input::default();
        input.grow_for(10);
        input.spare()[..10].copy_from_slice(b"..messageX");
        input.filled(10);
        input.consume(2);
        assert_eq!(input.take_shared(7).0, &b"message"[..]);
        assert_eq!(input.bytes(), b"X");
        assert_eq!(input.keep().bytes(), b"X");
        input.append(b"YZ");
        assert_eq!((input.bytes(), input.size()), (&b"XYZ"[..], 3));
    }
}
