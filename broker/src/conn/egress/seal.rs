//! The sealed front of a queue, where the connection has a coder.
//!
//! ```text
//!   sealed: goes out as it is           plain: chunks, and messages kept apart
//! ┌──────────────────────────────────┬──────────────────────────────────────────┐
//! │ ███████ ← written                │                                          │
//! └──────────────────────────────────┴──────────────────────────────────────────┘
//! ```
//!
//! Frames are sealed just before they are written, and no earlier: until then a message can be
//! dropped, replaced or given to another peer. Sealed frames have their place in the order that
//! the peer expects, so that they are as good as written.

use super::buffer::Buffer;
use super::{Egress, SLICES_MAX, Store};
use std::io::IoSlice;
use std::iter;
use zmtp::wire::header::{COMMAND, MORE};
use zmtp::{Error, Frame, Frames, Sealer};

/// Sealed bytes at which no more messages are sealed: one system call takes about as many. A
/// message that is larger is sealed alone.
const SEALED_SIZE_MAX: usize = 64 << 10;

/// What goes out next. Its own memory is part of [`crate::limits::CODER_MEMORY`].
#[derive(Debug)]
pub(super) struct Sealed {
    /// Sealed frames, or the end of the handshake. Without memory when all of it is written.
    pub(super) buffer: Buffer,
    /// Bytes that sealing has added so far.
    growth: u64,
    /// How many messages end in it.
    messages: u32,
    sealer: Sealer,
    written: usize,
}

impl Egress {
    /// The handshake is over: what was queued so far goes out as it is, and all that follows is
    /// sealed.
    pub(crate) fn begin_sealing(&mut self, sealer: Sealer, store: &mut Store) {
        let mut sealed = Box::new(Sealed {
            buffer: Buffer::default(),
            growth: 0,
            messages: 0,
            sealer,
            written: 0,
        });
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.plain_slices(&[], &mut slices);
        let size = slices[..count].iter().map(|slice| slice.len()).sum();
        debug_assert!(size as u64 == self.bytes, "a handshake is short");
        if size > 0 {
            let mut buffer = store.take(size);
            for slice in &slices[..count] {
                buffer.extend_from_slice(slice);
            }
            self.put_sealed(&mut sealed, buffer, size, store);
        }
        self.sealed = Some(sealed);
    }

    /// Whether frames are sealed before they are written.
    #[inline]
    pub fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Seals the next frames, unless sealed ones are left; `input` is the buffer the queue leans
    /// on, or empty. Answers how many bytes were sealed.
    ///
    /// # Errors
    /// The coder has come to its end.
    pub(crate) fn seal(&mut self, input: &[u8], store: &mut Store) -> Result<usize, Error> {
        let Some(mut sealed) = self.sealed.take_if(|sealed| sealed.buffer.is_empty()) else {
            return Ok(0);
        };
        let result = self.seal_into(&mut sealed, input, store);
        self.sealed = Some(sealed);
        result
    }

    fn seal_into(
        &mut self,
        sealed: &mut Sealed,
        input: &[u8],
        store: &mut Store,
    ) -> Result<usize, Error> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.plain_slices(input, &mut slices);
        let slices = &slices[..count];
        let frames = || slices.iter().flat_map(|slice| frames_of(slice));
        // Up to the end of the last message that fits, or of the first one.
        let (mut next, mut batch) = (Extent::default(), Extent::default());
        for (frame, size) in frames() {
            next.frames += 1;
            next.plain += size;
            next.sealed += sealed.sealer.sealed_size(frame.body.len());
            if batch.frames > 0 && next.sealed > SEALED_SIZE_MAX {
                break;
            }
            if !frame.more {
                batch = next;
            }
        }
        if batch.frames == 0 {
            // A message in more pieces than are seen at once.
            batch = next;
        }
        let Extent {
            frames: count,
            plain,
            sealed: size,
        } = batch;
        if count == 0 {
            return Ok(0);
        }
        let mut buffer = store.take(size);
        for (frame, _) in frames().take(count) {
            let size = sealed.sealer.sealed_size(frame.body.len());
            let more = if frame.more { MORE } else { 0 };
            let command = if frame.command { COMMAND } else { 0 };
            let room = buffer.grow(size);
            sealed.sealer.seal(more | command, frame.body, room)?;
        }
        self.put_sealed(sealed, buffer, plain, store);
        Ok(size)
    }

    /// Puts a buffer in the place of the first `plain` bytes, which it was made of.
    fn put_sealed(&mut self, sealed: &mut Sealed, buffer: Buffer, plain: usize, store: &mut Store) {
        store.charge(&mut self.footprint, buffer.capacity());
        let messages = self.messages;
        self.advance_plain(plain, store);
        sealed.messages = messages - self.messages;
        sealed.growth += (buffer.len() - plain) as u64;
        self.messages = messages;
        self.bytes += buffer.len() as u64;
        store.queued += buffer.len() as u64;
        sealed.buffer = buffer;
    }

    /// The bytes that sealing has added to all that was queued.
    pub(crate) fn sealing_growth(&self) -> u64 {
        self.sealed.as_ref().map_or(0, |sealed| sealed.growth)
    }

    /// The sealed bytes that were not written.
    pub(super) fn sealed_rest(&self) -> &[u8] {
        let sealed = self.sealed.as_deref();
        sealed.map_or(&[], |sealed| &sealed.buffer[sealed.written..])
    }

    /// Takes note that the kernel took `size` of the sealed bytes.
    pub(super) fn advance_sealed(&mut self, size: usize, store: &mut Store) {
        self.bytes -= size as u64;
        store.queued -= size as u64;
        let Some(sealed) = &mut self.sealed else {
            return;
        };
        sealed.written += size;
        if sealed.written == sealed.buffer.len() {
            self.messages -= std::mem::take(&mut sealed.messages);
            sealed.written = 0;
            let buffer = std::mem::take(&mut sealed.buffer);
            self.give(buffer, store);
        }
    }

    /// Gives up the sealed bytes and the coder.
    pub(super) fn close_sealed(&mut self, store: &mut Store) {
        if let Some(sealed) = self.sealed.take() {
            self.give(sealed.buffer, store);
        }
    }
}

/// How much of a queue is sealed at once.
#[derive(Clone, Copy, Default)]
struct Extent {
    frames: usize,
    /// Bytes before and after.
    plain: usize,
    sealed: usize,
}

/// The frames of a piece of a queue, each with its size.
fn frames_of(piece: &[u8]) -> impl Iterator<Item = (Frame<'_>, usize)> {
    let mut frames = Frames::new(piece);
    iter::from_fn(move || {
        let before = frames.rest().len();
        let frame = frames.next()?;
        Some((frame, before - frames.rest().len()))
    })
}

const _: () = {
    // Each is in a box of its own.
    let size = size_of::<Sealed>() + size_of::<zmtp::Opener>();
    assert!(size as u64 + 32 <= crate::limits::CODER_MEMORY);
};
