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

use super::crypto::{BoxKey, MessageKey, TAG_SIZE};
use crate::coder::Opened;
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
    /// The last nonce.
    nonce: u64,
}

/// Seals what the peer is sent. It has no copies: two of them would send the same nonce twice.
#[derive(Debug)]
pub(crate) struct Sealer {
    key: MessageKey,
    /// The last nonce.
    nonce: u64,
}

impl Opener {
    /// Opens boxes of `key` whose nonces begin with `prefix` and are greater than `nonce`.
    pub(super) fn new(key: &BoxKey, prefix: &[u8; 16], nonce: u64) -> Self {
        Self {
            deferred: None,
            key: MessageKey::new(key, prefix),
            nonce,
        }
    }

    /// Opens the whole frames at the front of `raw` in place. The plain frames then stand there,
    /// one behind the other, in the form in which a peer without encryption sends them. Sizes are
    /// compared with `limits` before the body of a frame has come.
    ///
    /// # Errors
    /// The frame at the front is illegal; the frames in front of an illegal one are opened first.
    /// The connection is to be closed, without an ERROR command (RFC 26).
    pub(crate) fn open(&mut self, raw: &mut [u8], limits: &Limits) -> Result<Opened, Error> {
        if let Some(error) = self.deferred.take() {
            return Err(error);
        }
        let mut opened = Opened {
            consumed: 0,
            need: 0,
            plain: 0,
        };
        while opened.need == 0 {
            match self.open_next(raw, &mut opened, limits) {
                Err(error) if opened.consumed > 0 => {
                    self.deferred = Some(error);
                    opened.need = 1;
                }
                result => result?,
            }
        }
        Ok(opened)
    }

    /// Opens the next frame, or says how many bytes it needs.
    fn open_next(
        &mut self,
        raw: &mut [u8],
        opened: &mut Opened,
        limits: &Limits,
    ) -> Result<(), Error> {
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
            return Ok(());
        };
        if header.body_size < OVERHEAD {
            return Err(Malformed::MessageCommand.into());
        }
        let size = header.size.saturating_add(header.body_size);
        let body = opened.consumed + header.size;
        let end = opened.consumed.saturating_add(size);
        let Some(sealed) = raw.get_mut(body..end) else {
            opened.need = size;
            return Ok(());
        };
        let inner_flags = self.open_body(sealed)?;
        let data = body + OVERHEAD;
        let flags = plain_flags(inner_flags, end - data, limits)?;
        opened.plain += put_header(raw, opened.plain, flags, end - data);
        raw.copy_within(data..end, opened.plain);
        opened.plain += end - data;
        opened.consumed = end;
        Ok(())
    }

    /// Opens the body of a frame in place and returns the inner flags.
    fn open_body(&mut self, body: &mut [u8]) -> Result<u8, Error> {
        let (name, rest) = body
            .split_first_chunk_mut()
            .ok_or(Malformed::MessageCommand)?;
        if name != NAME {
            return Err(Misbehaved::NotEncrypted.into());
        }
        let (nonce, sealed) = rest
            .split_first_chunk_mut()
            .ok_or(Malformed::MessageCommand)?;
        let nonce = u64::from_be_bytes(*nonce);
        if nonce <= self.nonce {
            return Err(Unverified::Nonce.into());
        }
        let text = self.key.open(nonce, sealed).ok_or(Unverified::Message)?;
        let &inner_flags = text.first().ok_or(Malformed::MessageCommand)?;
        self.nonce = nonce;
        Ok(inner_flags)
    }
}

impl Sealer {
    /// Most bytes that a frame grows by: its header may become a long one.
    pub(crate) const OVERHEAD_MAX: usize = OVERHEAD + LONG_SIZE - SHORT_SIZE;

    /// Seals with `key` and nonces that begin with `prefix` and are greater than `nonce`.
    pub(super) fn new(key: &BoxKey, prefix: &[u8; 16], nonce: u64) -> Self {
        Self {
            key: MessageKey::new(key, prefix),
            nonce,
        }
    }

    /// How long a frame with a body of `body_size` bytes is once it is sealed, its header included.
    #[inline]
    pub(crate) fn sealed_size(body_size: usize) -> usize {
        let sealed_body_size = body_size + OVERHEAD;
        if sealed_body_size > SHORT_BODY_SIZE_MAX {
            LONG_SIZE + sealed_body_size
        } else {
            SHORT_SIZE + sealed_body_size
        }
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
        let nonce = self.nonce.checked_add(1).filter(|nonce| *nonce < u64::MAX);
        let nonce = nonce.ok_or(Internal::NoncesUsedUp)?;
        self.nonce = nonce;
        let header_size = put_header(out, 0, 0, body.len() + OVERHEAD);
        let frame = out.get_mut(header_size..).unwrap_or_default();
        let (front, sealed) = frame.split_at_mut(FRONT_SIZE);
        let (name, counter) = front.split_at_mut(NAME.len());
        name.copy_from_slice(NAME);
        counter.copy_from_slice(&nonce.to_be_bytes());
        let (_, text) = sealed.split_at_mut(TAG_SIZE);
        if let Some((inner_flags, data)) = text.split_first_mut() {
            *inner_flags = self::inner_flags(flags);
            data.copy_from_slice(body);
        }
        self.key.seal(nonce, sealed);
        Ok(())
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
