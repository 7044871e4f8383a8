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
//!
//! A long frame is sealed in steps, of which only one is in memory. Its tag stands in front, so
//! that its body passes twice: once for the tag, while nothing can be written, and then piece by
//! piece as the kernel takes them.

use super::buffer::Buffer;
use super::{Egress, SLICES_MAX, Store};
use std::io::IoSlice;
use std::iter;
use zmtp::{Error, Frame, Frames, Opener, Sealer, Sealing, Tagging};

/// Sealed bytes at which no more frames are sealed: one system call takes about as many. A frame
/// that is larger is sealed alone.
const SEALED_SIZE_MAX: usize = 64 << 10;

/// What goes out next. Its own memory is part of [`crate::limits::CODER_MEMORY`].
#[derive(Debug)]
pub(super) struct Sealed {
    /// Sealed frames, or the end of the handshake. Without memory when all of it is written.
    buffer: Buffer,
    /// Bytes that sealing has added so far.
    growth: u64,
    /// The frame that is being sealed in steps.
    long: Option<Box<Long>>,
    /// How many messages end in it.
    messages: u32,
    sealer: Sealer,
    written: usize,
}

impl Sealed {
    /// Its memory in bytes, without its own size.
    pub(super) fn owned(&self) -> usize {
        self.buffer.capacity() + self.long_size()
    }

    /// Whether nothing can be written yet.
    fn is_in_first_pass(&self) -> bool {
        let long = self.long.as_deref();
        long.is_some_and(|long| matches!(long.pass, Pass::First(..)))
    }

    fn long_size(&self) -> usize {
        self.long.as_deref().map_or(0, size_of_val)
    }
}

/// A frame that is being sealed in steps. All of it but the body has left the queue.
#[derive(Debug)]
struct Long {
    /// Bytes of the body that are left.
    left: usize,
    pass: Pass,
}

#[derive(Debug)]
enum Pass {
    /// This many bytes of the body were added to the tag. The buffer has what stands in front.
    First(Tagging, usize),
    Second(Sealing),
}

impl Egress {
    /// The handshake is over: what was queued so far goes out as it is, and all that follows is
    /// sealed.
    pub(crate) fn begin_sealing(&mut self, sealer: Sealer, store: &mut Store) {
        let mut sealed = Box::new(Sealed {
            buffer: Buffer::default(),
            growth: 0,
            long: None,
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

    /// Seals the next frames, unless sealed ones are left, or a step of a long one; `input` is the
    /// buffer the queue leans on, or empty. Answers how many bytes were sealed.
    ///
    /// # Errors
    /// The coder has come to its end.
    pub(crate) fn seal(&mut self, input: &[u8], store: &mut Store) -> Result<usize, Error> {
        let is_due = |it: &mut Box<Sealed>| it.buffer.is_empty() || it.is_in_first_pass();
        let Some(mut sealed) = self.sealed.take_if(is_due) else {
            return Ok(0);
        };
        let result = match sealed.long.take() {
            Some(long) => Ok(self.seal_step(&mut sealed, long, input, store)),
            None => self.seal_into(&mut sealed, input, store),
        };
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
        let first = frames().next();
        let first = first.map(|(frame, size)| (frame.flags(), size, frame.body.len()));
        if let Some((flags, size, body_size)) = first
            && sealed.sealer.takes_steps(body_size)
        {
            return self.begin_long(sealed, flags, (size, body_size), store);
        }
        // Up to the end of the last message that fits, or of the last frame of a larger one.
        let (mut next, mut batch) = (Extent::default(), Extent::default());
        for (frame, size) in frames() {
            let before = next;
            next.frames += 1;
            next.plain += size;
            next.sealed += sealed.sealer.sealed_size(frame.body.len());
            let fits = next.sealed <= SEALED_SIZE_MAX;
            if before.frames > 0 && (!fits || sealed.sealer.takes_steps(frame.body.len())) {
                next = before;
                break;
            }
            if !frame.more {
                batch = next;
            }
        }
        if batch.frames == 0 {
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
            let room = buffer.grow(size);
            sealed.sealer.seal(frame.flags(), frame.body, room)?;
        }
        self.put_sealed(sealed, buffer, plain, store);
        Ok(size)
    }

    /// Begins to seal the frame at the front, of `size` bytes with a body of `body_size`.
    fn begin_long(
        &mut self,
        sealed: &mut Sealed,
        flags: u8,
        (size, body_size): (usize, usize),
        store: &mut Store,
    ) -> Result<usize, Error> {
        let front = sealed.sealer.sealed_size(body_size) - body_size;
        let mut buffer = store.take(front);
        let tagging = sealed.sealer.begin(flags, body_size, buffer.grow(front))?;
        self.put_sealed(sealed, buffer, size - body_size, store);
        store.charge(&mut self.footprint, size_of::<Long>());
        sealed.long = Some(Box::new(Long {
            left: body_size,
            pass: Pass::First(tagging, 0),
        }));
        Ok(front)
    }

    /// Takes the next step of a long frame, whose body is at the front; answers how many bytes of
    /// it have passed.
    fn seal_step(
        &mut self,
        sealed: &mut Sealed,
        mut long: Box<Long>,
        input: &[u8],
        store: &mut Store,
    ) -> usize {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.plain_slices(input, &mut slices);
        let body = slices[..count].first().map_or(&[][..], |piece| piece);
        let body = &body[..body.len().min(long.left)];
        debug_assert!(body.len() == long.left, "a frame is in one piece");
        let step_size = sealed.sealer.step_size();
        match long.pass {
            Pass::First(mut tagging, before) => {
                let after = body.len().min(before + step_size);
                tagging.add(&body[before..after]);
                long.pass = if after == body.len() {
                    Pass::Second(tagging.finish(sealed.buffer.whole_mut()))
                } else {
                    Pass::First(tagging, after)
                };
                sealed.long = Some(long);
                after - before
            }
            Pass::Second(mut sealing) => {
                let size = body.len().min(step_size.max(SEALED_SIZE_MAX));
                let mut buffer = store.take(size);
                sealing.seal(&body[..size], buffer.grow(size));
                self.put_sealed(sealed, buffer, size, store);
                if size < long.left {
                    long.left -= size;
                    long.pass = Pass::Second(sealing);
                    sealed.long = Some(long);
                } else {
                    store.refund(&mut self.footprint, size_of::<Long>());
                }
                size
            }
        }
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

    /// The bytes at the front that are sealed, those that cannot be written yet included. For
    /// tests.
    #[must_use]
    pub fn sealed_bytes(&self) -> usize {
        let sealed = self.sealed.as_deref();
        sealed.map_or(0, |it| it.buffer.len() - it.written)
    }

    /// The sealed bytes that can be written, and were not.
    pub(super) fn sealed_rest(&self) -> &[u8] {
        let sealed = self.sealed.as_deref().filter(|it| !it.is_in_first_pass());
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
            store.refund(&mut self.footprint, sealed.long_size());
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
    let size = size_of::<Sealed>() + size_of::<Opener>();
    assert!(size as u64 + 32 <= crate::limits::CODER_MEMORY);
};
