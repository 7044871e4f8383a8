//! MESSAGE: what each frame travels in once the handshake is over.
//!
//! ```text
//! flags  size    "\x07MESSAGE"  nonce  tag  inner flags  data      flags: 00, or 02 LONG
//! 1      1 or 8  8              8      16   1                      inner: 01 MORE, 02 COMMAND
//! ```
//!
//! RFC 26 would have MESSAGE travel as a command; libzmq sends it as a message, and takes what it
//! finds in the flags outside for the flags of the frame inside, where it could be forged. So MORE
//! and COMMAND stand inside only, and a frame that has them outside is refused.

use super::crypto::{self, BoxKey, MessageKey, SteppedBox, TAG_SIZE, TextStream};
use crate::coder::{Opened, STEP_SIZE, long_size};
use crate::error::{Error, Internal, Malformed, Misbehaved, Unverified};
use crate::limits::Limits;
use crate::wire::header::{
    COMMAND, Header, LONG, LONG_SIZE, Legal, LegalFlags, MORE, SHORT_BODY_SIZE_MAX, SHORT_SIZE,
};

/// The name, with its size in front.
const NAME: &[u8; 8] = b"\x07MESSAGE";
/// Bytes in front of the box.
const FRONT_SIZE: usize = NAME.len() + size_of::<u64>();
/// Bytes of a body that are not data.
const OVERHEAD: usize = FRONT_SIZE + TAG_SIZE + 1;

/// Steps of the shortest long frame, where the size of a step is set.
const STEPS_MIN: usize = 16;

/// The inner flag of a frame that others of its message follow.
const INNER_MORE: u8 = 0x01;
/// The inner flag of a command.
const INNER_COMMAND: u8 = 0x02;

/// Opens what the peer sends.
#[derive(Debug)]
pub(crate) struct Opener {
    /// The error of the next call: the frame at the front of its input is illegal.
    deferred: Option<Error>,
    key: MessageKey,
    /// Bytes of the body of the shortest frame that is opened in steps.
    long_size: usize,
    /// The last nonce.
    nonce: u64,
    /// Most bytes of a long frame that are opened at once.
    step_size: usize,
    /// The frame at the front of the input, if it is being opened in steps.
    stepped: Option<Box<Stepped>>,
}

/// A frame that is being opened in steps. Opened data takes the place that it has once the frame is
/// opened, so that it moves only once.
///
/// ```text
/// room for the plain header | opened data | void | sealed text
/// ```
#[derive(Debug)]
struct Stepped {
    /// Bytes in front of the text.
    front_size: usize,
    inner_flags: u8,
    nonce: u64,
    /// Bytes of the text that were opened.
    opened_size: usize,
    tag: [u8; TAG_SIZE],
    text: SteppedBox,
    /// Bytes of the text: the inner flags and the data.
    text_size: usize,
}

/// Seals what the peer is sent. It has no copies: two of them would send the same nonce twice.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: MessageKey,
    /// Bytes of the body of the shortest frame that is better sealed in steps.
    long_size: usize,
    /// The last nonce.
    nonce: u64,
    /// Most bytes of a long frame that are sealed at once.
    step_size: usize,
}

/// The first pass over a frame that is sealed in steps.
#[derive(Debug)]
pub(crate) struct Tagging {
    inner_flags: u8,
    text: SteppedBox,
}

/// The second pass.
#[derive(Debug)]
pub(crate) struct Sealing(TextStream);

impl Opener {
    /// Opens boxes of `key` whose nonces begin with `prefix` and are greater than `nonce`.
    pub(super) fn new(key: &BoxKey, prefix: &[u8; 16], nonce: u64) -> Self {
        Self {
            deferred: None,
            key: MessageKey::new(key, prefix),
            long_size: long_size(),
            nonce,
            step_size: STEP_SIZE,
            stepped: None,
        }
    }

    pub(crate) fn set_step_size(&mut self, bytes: usize) {
        self.step_size = bytes;
        self.long_size = bytes * STEPS_MIN;
    }

    pub(crate) fn memory(&self) -> usize {
        self.stepped.as_deref().map_or(0, size_of_val)
    }

    /// Opens frames at the front of `raw` in place, at most a step of a long one. The plain frames
    /// then stand there, one behind the other, in the form in which a peer without encryption sends
    /// them. Sizes are compared with `limits` before the body of a frame has come.
    ///
    /// # Errors
    /// The frame at the front is illegal; the frames in front of an illegal one are opened first.
    /// The connection is to be closed, without an ERROR command (RFC 26).
    pub(crate) fn open(&mut self, raw: &mut [u8], limits: &Limits) -> Result<Opened, Error> {
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        let mut opened = Opened::default();
        loop {
            match self.open_next(raw, &mut opened, limits) {
                Ok(true) if opened.coded < self.step_size => {}
                Ok(_) => return Ok(opened),
                Err(error) if opened.consumed > 0 => {
                    self.defer(error);
                    opened.need = 1;
                    return Ok(opened);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next call is to fail.
    pub(crate) fn defer(&mut self, error: Error) {
        self.deferred = Some(error);
    }

    /// Opens the next frame, or a step of it, or says how many bytes it needs. Returns whether
    /// there may be more to open.
    fn open_next(
        &mut self,
        raw: &mut [u8],
        opened: &mut Opened,
        limits: &Limits,
    ) -> Result<bool, Error> {
        if let Some(mut stepped) = self.stepped.take() {
            if stepped.open_more(raw, self.step_size, opened) {
                self.end_steps(*stepped, raw, opened, limits)?;
            } else {
                self.stepped = Some(stepped);
            }
            return Ok(false);
        }
        let legal = Legal {
            command_size_max: 0,
            flags: LegalFlags::V2_ALONE,
            message_size_max: limits
                .message_size_max
                .max(limits.traffic_command_size_max())
                .saturating_add(OVERHEAD as u64),
        };
        let rest = raw.get(opened.consumed..).unwrap_or_default();
        let Some(header) = Header::parse(rest, &legal)? else {
            opened.need = Header::size_of(rest);
            return Ok(false);
        };
        if header.body_size < OVERHEAD {
            return Err(Malformed::MessageCommand.into());
        }
        let size = header.size.saturating_add(header.body_size);
        if header.body_size >= self.long_size {
            return self.begin_steps(&header, rest, opened);
        }
        let body = opened.consumed + header.size;
        let end = opened.consumed.saturating_add(size);
        let Some(sealed) = raw.get_mut(body..end) else {
            opened.need = size;
            return Ok(false);
        };
        let inner_flags = self.open_body(sealed)?;
        let data = body + OVERHEAD;
        let flags = plain_flags(inner_flags, end - data, limits)?;
        opened.plain += put_header(raw, opened.plain, flags, end - data);
        raw.copy_within(data..end, opened.plain);
        opened.plain += end - data;
        opened.coded += size;
        opened.consumed = end;
        Ok(true)
    }

    /// Begins to open the long frame at the front of `rest`, once a step of it is there and the
    /// frames before it are out of the way. Returns whether that is so.
    fn begin_steps(
        &mut self,
        header: &Header,
        rest: &[u8],
        opened: &mut Opened,
    ) -> Result<bool, Error> {
        if rest.len() < header.size + OVERHEAD.max(self.step_size) {
            opened.need = header.size.saturating_add(header.body_size);
            return Ok(false);
        }
        if opened.consumed > 0 {
            return Ok(false);
        }
        let body = rest.get(header.size..).unwrap_or_default();
        let (nonce, sealed) = self.check_front(body)?;
        let tag = sealed.first_chunk().ok_or(Malformed::MessageCommand)?;
        self.stepped = Some(Box::new(Stepped {
            front_size: header.size + FRONT_SIZE + TAG_SIZE,
            inner_flags: 0,
            nonce,
            opened_size: 0,
            tag: *tag,
            text: self.key.begin(nonce),
            text_size: header.body_size - FRONT_SIZE - TAG_SIZE,
        }));
        Ok(true)
    }

    /// All pieces of a long frame are open.
    fn end_steps(
        &mut self,
        stepped: Stepped,
        raw: &mut [u8],
        opened: &mut Opened,
        limits: &Limits,
    ) -> Result<(), Error> {
        let (tag, _) = stepped.text.finish();
        if !crypto::is_equal(&tag, &stepped.tag) {
            return Err(Unverified::Message.into());
        }
        self.nonce = stepped.nonce;
        let data_size = stepped.text_size - 1;
        let flags = plain_flags(stepped.inner_flags, data_size, limits)?;
        opened.plain = put_header(raw, 0, flags, data_size) + data_size;
        opened.consumed = stepped.front_size + stepped.text_size;
        Ok(())
    }

    /// Opens the body of a frame in place and returns the inner flags.
    fn open_body(&mut self, body: &mut [u8]) -> Result<u8, Error> {
        let (nonce, _) = self.check_front(body)?;
        let sealed = body.get_mut(FRONT_SIZE..).unwrap_or_default();
        let text = self.key.open(nonce, sealed).ok_or(Unverified::Message)?;
        let &inner_flags = text.first().ok_or(Malformed::MessageCommand)?;
        self.nonce = nonce;
        Ok(inner_flags)
    }

    /// The nonce and the box of a body, whose name is right.
    fn check_front<'a>(&self, body: &'a [u8]) -> Result<(u64, &'a [u8]), Error> {
        let (name, rest) = body.split_first_chunk().ok_or(Malformed::MessageCommand)?;
        if name != NAME {
            return Err(Misbehaved::NotEncrypted.into());
        }
        let (nonce, sealed) = rest.split_first_chunk().ok_or(Malformed::MessageCommand)?;
        let nonce = u64::from_be_bytes(*nonce);
        if nonce <= self.nonce {
            return Err(Unverified::Nonce.into());
        }
        Ok((nonce, sealed))
    }
}

impl Stepped {
    /// Opens the next piece of the text, at most `step_size` bytes; returns whether it was the
    /// last.
    fn open_more(&mut self, raw: &mut [u8], step_size: usize, opened: &mut Opened) -> bool {
        let start = self.front_size + self.opened_size;
        let size = raw.len().saturating_sub(start);
        let size = size.min(step_size).min(self.text_size - self.opened_size);
        let Some(piece) = raw.get_mut(start..start + size) else {
            return false;
        };
        self.text.open(piece);
        opened.coded += size;
        let mut data = start..start + size;
        if self.opened_size == 0
            && let Some(inner_flags) = piece.first()
        {
            self.inner_flags = *inner_flags;
            data.start += 1;
        }
        // The header of the same size, without the overhead in front of the data.
        let plain_header_size = header_size(self.text_size - 1);
        let void_size = self.front_size + 1 - plain_header_size;
        raw.copy_within(data.clone(), data.start - void_size);
        self.opened_size += size;
        let is_whole = self.opened_size == self.text_size;
        if !is_whole && data.end == raw.len() {
            opened.need = self.front_size + self.text_size;
        }
        is_whole
    }
}

impl Sealer {
    /// Most bytes that a frame grows by: its header may become a long one.
    pub(crate) const OVERHEAD_MAX: usize = OVERHEAD + LONG_SIZE - SHORT_SIZE;

    /// Seals with `key` and nonces that begin with `prefix` and are greater than `nonce`.
    pub(super) fn new(key: &BoxKey, prefix: &[u8; 16], nonce: u64) -> Self {
        Self {
            key: MessageKey::new(key, prefix),
            long_size: long_size(),
            nonce,
            step_size: STEP_SIZE,
        }
    }

    pub(crate) fn set_step_size(&mut self, bytes: usize) {
        self.step_size = bytes;
        self.long_size = bytes * STEPS_MIN;
    }

    pub(crate) fn step_size(&self) -> usize {
        self.step_size
    }

    /// Whether a frame with a body of `body_size` bytes is to be sealed in steps.
    #[inline]
    pub(crate) fn takes_steps(&self, body_size: usize) -> bool {
        body_size >= self.long_size
    }

    /// How long a frame with a body of `body_size` bytes is once it is sealed, its header included.
    #[inline]
    pub(crate) fn sealed_size(body_size: usize) -> usize {
        let sealed_body_size = body_size + OVERHEAD;
        header_size(sealed_body_size) + sealed_body_size
    }

    /// Seals a frame into `out`: `flags` are those of its plain header.
    ///
    /// # Errors
    /// If no nonce is left. The connection is then to be closed.
    ///
    /// # Panics
    /// If `out` is not as long as [`Self::sealed_size`] says.
    pub(crate) fn seal(&mut self, flags: u8, body: &[u8], out: &mut [u8]) -> Result<(), Error> {
        assert_eq!(out.len(), Self::sealed_size(body.len()), "the sealed size");
        let (nonce, sealed) = self.put_front(body.len(), out)?;
        let (_, text) = sealed.split_at_mut(TAG_SIZE);
        if let Some((inner_flags, data)) = text.split_first_mut() {
            *inner_flags = self::inner_flags(flags);
            data.copy_from_slice(body);
        }
        self.key.seal(nonce, sealed);
        Ok(())
    }

    /// Begins to seal a frame with a body of `body_size` bytes in steps: writes what stands in
    /// front of the box.
    ///
    /// # Errors
    /// If no nonce is left. The connection is then to be closed.
    ///
    /// # Panics
    /// If `front` is not as long as [`Self::sealed_size`] says, without the body.
    pub(crate) fn begin(
        &mut self,
        flags: u8,
        body_size: usize,
        front: &mut [u8],
    ) -> Result<Tagging, Error> {
        let size = Self::sealed_size(body_size) - body_size;
        assert_eq!(front.len(), size, "the size of the front");
        let (nonce, _) = self.put_front(body_size, front)?;
        let (mut text, inner_flags) = (self.key.begin(nonce), inner_flags(flags));
        text.add(&[inner_flags]);
        Ok(Tagging { inner_flags, text })
    }

    /// Writes what stands in front of the box; returns its nonce, and the rest of `out`.
    fn put_front<'a>(
        &mut self,
        body_size: usize,
        out: &'a mut [u8],
    ) -> Result<(u64, &'a mut [u8]), Error> {
        let nonce = self.nonce.checked_add(1).filter(|nonce| *nonce < u64::MAX);
        let nonce = nonce.ok_or(Internal::NoncesUsedUp)?;
        self.nonce = nonce;
        let header_size = put_header(out, 0, 0, body_size + OVERHEAD);
        let frame = out.get_mut(header_size..).unwrap_or_default();
        let (front, sealed) = frame.split_at_mut(FRONT_SIZE);
        let (name, counter) = front.split_at_mut(NAME.len());
        name.copy_from_slice(NAME);
        counter.copy_from_slice(&nonce.to_be_bytes());
        Ok((nonce, sealed))
    }
}

impl Tagging {
    /// Adds the next piece of the data.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.text.add(piece);
    }

    /// All pieces were added: completes what [`Sealer::begin`] wrote.
    pub(crate) fn finish(self, front: &mut [u8]) -> Sealing {
        let (tag, mut text) = self.text.finish();
        let start = front.len().saturating_sub(TAG_SIZE + 1);
        if let Some((room, inner_flags)) = front
            .get_mut(start..)
            .and_then(<[u8]>::split_first_chunk_mut)
        {
            *room = tag;
            inner_flags.fill(self.inner_flags);
            text.seal(inner_flags);
        }
        Sealing(text)
    }
}

impl Sealing {
    /// Seals the next piece of the data into `out`, which is as long.
    pub(crate) fn seal(&mut self, piece: &[u8], out: &mut [u8]) {
        out.copy_from_slice(piece);
        self.0.seal(out);
    }
}

fn inner_flags(flags: u8) -> u8 {
    let more = if flags & MORE == 0 { 0 } else { INNER_MORE };
    let command = if flags & COMMAND == 0 {
        0
    } else {
        INNER_COMMAND
    };
    more | command
}

/// The flags of a plain frame; also holds its data to the limit of its kind.
fn plain_flags(inner_flags: u8, size: usize, limits: &Limits) -> Result<u8, Malformed> {
    let size = size as u64;
    match inner_flags {
        INNER_COMMAND if size > limits.traffic_command_size_max() => {
            Err(Malformed::CommandTooLarge)
        }
        INNER_COMMAND => Ok(COMMAND),
        0 | INNER_MORE if size > limits.message_size_max => Err(Malformed::FrameTooLarge),
        0 => Ok(0),
        INNER_MORE => Ok(MORE),
        _ => Err(Malformed::Flags),
    }
}

/// The size of the header of a frame.
fn header_size(body_size: usize) -> usize {
    if body_size > SHORT_BODY_SIZE_MAX {
        LONG_SIZE
    } else {
        SHORT_SIZE
    }
}

/// Writes a frame header at `at`, where there is room for it, and returns its size.
fn put_header(to: &mut [u8], at: usize, flags: u8, body_size: usize) -> usize {
    let mut header = [flags; LONG_SIZE];
    let size = match u8::try_from(body_size) {
        Ok(short) => {
            header[1] = short;
            SHORT_SIZE
        }
        Err(_) => {
            header[0] = flags | LONG;
            header[1..].copy_from_slice(&(body_size as u64).to_be_bytes());
            LONG_SIZE
        }
    };
    if let (Some(to), Some(header)) = (to.get_mut(at..at + size), header.get(..size)) {
        to.copy_from_slice(header);
    }
    size
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
