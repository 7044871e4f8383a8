//! Received bytes on their way through the broker.
//!
//! Received bytes are in one of three places. Most are read into the driver's one scratch buffer
//! and are gone before the next connection is read. The rest, an unfinished message or one that
//! must wait, is kept in the connection's tail. A large message is read straight into the tail,
//! whose allocation then becomes the message itself, shared by all its receivers.
//!
//! Where a connection has a coder, received bytes are *raw* until the opener has turned them into
//! plain ZMTP, in place and frame by frame. Without a coder all bytes are plain.
//!
//! ```text
//!        start            plain           end
//!   done   │  plain ZMTP    │   raw bytes   │  room
//! ─────────┴────────────────┴───────────────┴────────
//! ```

use bytes::Bytes;
use zmtp::{Error, Limits, Opener};

/// A message of at least this size is read into a buffer of its own. Below, carrying its beginning
/// from one read to the next costs at most a copy of this size.
pub(crate) const LARGE_SIZE_MIN: usize = 64 << 10;

/// The first bytes of a large message, up to this size, are carried from one read to the next.
/// After that, a buffer of its own has room for twice the received bytes: memory follows the bytes
/// that a peer has sent, not those that it has announced.
pub(crate) const CARRIED_SIZE_MAX: usize = 32 << 10;

/// A buffer with less room than this grows before it is read into.
const ROOM_SIZE_MIN: usize = 4 << 10;

/// Most bytes of a growing buffer that are made ready for reading at once.
const READY_SIZE_MAX: usize = 256 << 10;

/// A message of at least this size, of which [`RESERVED_FROM_SIZE`] have arrived, is read into
/// reserved addresses, whose memory exists only once it is read into.
const RESERVED_SIZE_MIN: usize = 8 << 20;
const RESERVED_FROM_SIZE: usize = 1 << 20;

/// The least reservation. Every allocator maps an allocation of more than 32 MiB as pages of its
/// own, so it grows without a copy, and all of it returns to the system.
const RESERVATION_SIZE_MIN: usize = 33 << 20;

/// Whether addresses are reserved: a process with 32-bit addresses would have none left after about
/// a hundred beginnings of messages. It gets as many as it counts as memory.
const RESERVES: bool = cfg!(target_pointer_width = "64");

/// Most bytes to read beyond the end of a large message, if the peer has sent them already.
const LARGE_BEHIND_SIZE_MAX: usize = 64 << 10;

/// Room for them after a message of this size. It stays with the message while that is queued, so
/// it must be small in comparison.
fn behind_size(message_size: usize) -> usize {
    (message_size / 8).min(LARGE_BEHIND_SIZE_MAX)
}

/// Received bytes, and how many of them were handled.
///
/// Invariant: `start <= plain <= end <= buffer.len()`; bytes before `start` were handled, bytes
/// from `plain` to `end` are raw, bytes from `end` on are room for reading. Without a coder `plain`
/// is `end`.
#[derive(Debug, Default)]
pub struct Input {
    buffer: Vec<u8>,
    /// Memory of the opener for the frame at the front of the raw bytes, in bytes.
    opener_memory: usize,
    /// The largest extent of the buffer that was made ready for reading.
    touched: usize,
    end: usize,
    /// What comes in is raw.
    is_coded: bool,
    is_scratch: bool,
    /// How many raw bytes it takes to open the next frame.
    need: usize,
    plain: usize,
    start: usize,
}

impl Input {
    /// The driver's scratch buffer, empty.
    pub(crate) fn scratch(buffer: Vec<u8>) -> Self {
        Self {
            touched: buffer.len(),
            buffer,
            is_scratch: true,
            ..Self::default()
        }
    }

    /// Room to read into.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.buffer[self.end..]
    }

    /// Notes that `size` bytes were read into [`Self::spare`].
    pub fn filled(&mut self, size: usize) {
        assert!(
            size <= self.buffer.len() - self.end,
            "more bytes were read than fit"
        );
        self.end += size;
        if !self.is_coded {
            self.plain = self.end;
        }
    }

    /// From now on what comes in is raw if `is_coded`.
    pub(crate) fn set_coded(&mut self, is_coded: bool) {
        self.is_coded = is_coded;
    }

    /// All that is not dealt with is raw, and so is what comes in.
    pub(crate) fn begin_coding(&mut self) {
        self.is_coded = true;
        self.plain = self.start;
    }

    /// Turns whole frames among the raw bytes into plain ones, or a part of a long one; answers how
    /// many bytes were opened.
    ///
    /// # Errors
    /// The first of them is not what the peer may send.
    pub(crate) fn open(&mut self, opener: &mut Opener, limits: &Limits) -> Result<usize, Error> {
        if self.plain == self.end {
            self.need = 1;
            return Ok(0);
        }
        let opened = opener.open_step(&mut self.buffer[self.plain..self.end], limits)?;
        self.need = opened.need;
        self.opener_memory = opener.memory();
        if opened.consumed > 0 {
            let rest = self.plain + opened.consumed;
            self.plain += opened.plain;
            self.buffer.copy_within(rest..self.end, self.plain);
            self.end -= rest - self.plain;
        }
        Ok(opened.coded)
    }

    /// Whether more can be opened at once, without more bytes.
    pub(crate) fn opens_more(&self) -> bool {
        self.need == 0 && self.raw_len() > 0
    }

    /// The size that it must have before it can be handled, if that takes `plain` plain bytes.
    pub(crate) fn need(&self) -> usize {
        self.bytes().len() + self.need
    }

    /// The whole buffer, from whose front the ranges in queues count.
    #[must_use]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The position of the first byte that was not handled.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The plain bytes that were not handled.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.plain]
    }

    /// The plain bytes not dealt with, for a session to close gaps in.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.plain]
    }

    /// The bytes that were not handled, plain and raw.
    #[inline]
    pub(crate) fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The number of raw bytes.
    pub(crate) fn raw_len(&self) -> usize {
        self.end - self.plain
    }

    /// Marks `size` bytes at the front as handled.
    #[inline]
    pub(crate) fn consume(&mut self, size: usize) {
        self.start += size;
        debug_assert!(
            self.start <= self.plain,
            "more bytes were consumed than received"
        );
    }

    /// Truncates the plain bytes by `size` void ones.
    #[inline]
    pub(crate) fn cut(&mut self, size: usize) {
        if self.raw_len() > 0 {
            let raw = self.plain..self.end;
            self.buffer.copy_within(raw, self.plain - size);
        }
        self.plain -= size;
        self.end -= size;
        debug_assert!(
            self.start <= self.plain,
            "more bytes were cut than received"
        );
    }

    /// Bytes of its memory, including the growth at the next read if it contains the beginning of a
    /// message of `need` bytes.
    pub(crate) fn memory(&self, need: usize) -> u64 {
        let next = match self.size_for(need) {
            _ if !self.is_grown_for(need) => 0,
            RESERVATION_SIZE_MIN.. if RESERVES => self.end + READY_SIZE_MAX,
            size if self.is_full() => size,
            _ => 0,
        };
        (self.allocated().max(next) + self.opener_memory) as u64
    }

    /// Bytes of memory of the buffer.
    fn allocated(&self) -> usize {
        match self.buffer.capacity() {
            RESERVATION_SIZE_MIN.. if RESERVES => self.touched,
            capacity => capacity,
        }
    }

    /// Whether a message of `need` bytes is read into this buffer, not into the scratch.
    pub(crate) fn is_grown_for(&self, need: usize) -> bool {
        need >= LARGE_SIZE_MIN && self.held().len() >= CARRIED_SIZE_MAX
    }

    /// Whether most of its memory is unused.
    pub(crate) fn is_mostly_spent(&self) -> bool {
        self.allocated() > 2 * self.held().len().max(CARRIED_SIZE_MAX)
    }

    /// Whether the allocation must grow before the next read.
    fn is_full(&self) -> bool {
        self.buffer.capacity() - self.end < ROOM_SIZE_MIN
    }

    /// The size to which [`Self::grow_for`] grows a full allocation.
    fn size_for(&self, need: usize) -> usize {
        let wanted = need.saturating_add(behind_size(need));
        let twice = self.held().len().saturating_mul(2);
        if RESERVES && need >= RESERVED_SIZE_MIN && self.held().len() >= RESERVED_FROM_SIZE {
            return wanted.min(twice).max(RESERVATION_SIZE_MIN);
        }
        wanted.min(twice)
    }

    /// Whether the buffer is the driver's, to be given back.
    pub(crate) fn is_scratch(&self) -> bool {
        self.is_scratch
    }

    /// Copies what another input holds to the front of an empty scratch.
    pub(crate) fn carry(&mut self, carried: &Self) {
        debug_assert!(self.end == 0, "only an empty scratch carries");
        self.end = carried.held().len();
        self.buffer[..self.end].copy_from_slice(carried.held());
        self.plain = carried.bytes().len();
        self.need = carried.need;
        self.opener_memory = carried.opener_memory;
    }

    /// The rest in a buffer of its own; empty if all bytes were handled.
    pub(crate) fn keep(&self) -> Self {
        let buffer = self.held().to_vec();
        Self {
            end: buffer.len(),
            is_coded: self.is_coded,
            is_scratch: false,
            need: self.need,
            opener_memory: self.opener_memory,
            plain: self.bytes().len(),
            start: 0,
            touched: buffer.len(),
            buffer,
        }
    }

    /// Returns the driver's buffer.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Makes room for a message of which `size` bytes are announced and some have arrived.
    ///
    /// A large allocation grows in place: the allocator moves pages, not bytes. Only a little of
    /// the room is made ready for reading, so that a step costs the same whatever the size.
    pub(crate) fn grow_for(&mut self, size: usize) {
        self.buffer.truncate(self.end);
        if self.is_full() {
            let came = self.held().len();
            let reserved = self.size_for(size);
            self.drop_front();
            let is_reserved = self.buffer.try_reserve_exact(reserved.saturating_sub(came));
            if is_reserved.is_err() {
                // For systems with few addresses, or that count them as memory.
                self.buffer.reserve_exact(READY_SIZE_MAX);
            }
        }
        let room = self.buffer.capacity().min(self.end + READY_SIZE_MAX);
        self.buffer.resize(room, 0);
        self.touched = self.touched.max(room);
    }

    /// Moves the rest to the front.
    fn drop_front(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.plain -= self.start;
            self.start = 0;
            self.buffer.truncate(self.end);
        }
    }

    /// Appends all bytes of a scratch, which is then empty, in memory that grows with them.
    pub(crate) fn append(&mut self, scratch: &mut Self) {
        debug_assert!(!self.is_scratch, "the scratch has its size");
        self.buffer.truncate(self.end);
        // Each byte moves at most once for each consumed byte.
        if self.start > self.held().len() {
            self.drop_front();
        }
        self.buffer.extend_from_slice(scratch.held());
        self.end = self.buffer.len();
        self.touched = self.touched.max(self.end);
        self.is_coded = scratch.is_coded;
        if !self.is_coded {
            self.plain = self.end;
        }
        scratch.start = scratch.end;
        scratch.plain = scratch.end;
    }

    /// Takes the first `size` bytes out, and returns them with the capacity of their memory, which
    /// has no other owner. If they are most of the buffer, the others are copied instead of them.
    /// The scratch is not given away: its bytes are copied.
    pub(crate) fn take_shared(&mut self, size: usize) -> (Bytes, usize) {
        let taken = self.start..self.start + size;
        if self.is_scratch || size < self.allocated() / 2 {
            self.start += size;
            return (Bytes::copy_from_slice(&self.buffer[taken]), size);
        }
        let capacity = self.allocated();
        let rest = self.buffer[taken.end..self.end].to_vec();
        self.touched = rest.len();
        let mut front = std::mem::replace(&mut self.buffer, rest);
        self.end -= taken.end;
        self.plain -= taken.end;
        self.start = 0;
        front.truncate(taken.end);
        (Bytes::from(front).slice(taken), capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(bytes: &[u8]) -> Input {
        let mut scratch = Input::scratch(bytes.to_vec());
        scratch.filled(bytes.len());
        scratch
    }

    #[test]
    fn a_large_message_grows_with_the_received_bytes() {
        let mut input = Input::default();
        input.append(&mut scratch(&[0; CARRIED_SIZE_MAX]));
        let announced = usize::MAX / 2;
        for step in 1..12 {
            let counted = input.memory(announced);
            let full = CARRIED_SIZE_MAX << step;
            while input.bytes().len() < full {
                input.grow_for(announced);
                let room = input.spare().len();
                assert!((1..=READY_SIZE_MAX).contains(&room));
                input.filled(room);
                assert!(
                    input.memory(0) <= counted.max(input.bytes().len() as u64),
                    "it was counted before it was taken"
                );
            }
        }
    }

    #[test]
    fn addresses_are_reserved_only_where_there_are_plenty() {
        for announced in [RESERVED_SIZE_MIN, 128 << 20] {
            let mut input = Input::default();
            input.append(&mut scratch(&[0; CARRIED_SIZE_MAX]));
            while input.bytes().len() < 3 * RESERVED_FROM_SIZE {
                let counted = input.memory(announced);
                input.grow_for(announced);
                let addresses = input.buffer.capacity() as u64;
                let most = match usize::BITS {
                    32 => counted,
                    _ => RESERVATION_SIZE_MIN as u64,
                };
                assert!(addresses <= most, "{addresses} of {most}");
                let room = input.spare().len();
                input.filled(room);
            }
        }
    }

    #[test]
    fn bytes_after_a_shared_message_stay() {
        let mut input = Input::default();
        input.append(&mut scratch(b"..messageX"));
        input.consume(2);
        assert_eq!(input.take_shared(7).0, &b"message"[..]);
        assert_eq!(input.bytes(), b"X");
        assert_eq!(input.keep().bytes(), b"X");
        input.append(&mut scratch(b"YZ"));
        assert_eq!(input.bytes(), b"XYZ");
    }

    #[test]
    fn raw_bytes_move_up_when_plain_ones_are_cut() {
        let mut input = Input::scratch(vec![b'.'; 9]);
        input.spare()[..6].copy_from_slice(b"plain.");
        input.filled(6);
        input.set_coded(true);
        input.spare().copy_from_slice(b"raw");
        input.filled(3);
        input.cut(1);
        assert_eq!(
            (input.bytes(), input.held()),
            (&b"plain"[..], &b"plainraw"[..])
        );
        assert_eq!(input.keep().held(), b"plainraw");
    }
}
