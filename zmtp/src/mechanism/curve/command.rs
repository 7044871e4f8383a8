//! The commands of CurveZMQ: their names, their sizes, and the nonces of their boxes.
//!
//! ```text
//! HELLO     version 1.0 (2), zeros (72), C' (32), nonce (8), box (80)
//! WELCOME   nonce (16), box (144)
//! cookie    nonce (16), secret box (80)
//! INITIATE  cookie (96), nonce (8), box (144 and metadata)
//! vouch     nonce (16), box (80)
//! READY     nonce (8), box (16 and metadata)
//! MESSAGE   nonce (8), box (17 and data)
//! ```

use super::crypto::{KEY_SIZE, NONCE_SIZE, TAG_SIZE};
use crate::error::Malformed;

/// Bytes of a nonce that counts.
pub(super) const SHORT_NONCE_SIZE: usize = 8;
/// Bytes of a random nonce.
pub(super) const LONG_NONCE_SIZE: usize = 16;

/// The version that HELLO has to name.
pub(super) const VERSION: [u8; 2] = [1, 0];
/// Zeros in HELLO, as many as make it larger than the WELCOME that it asks for.
pub(super) const PADDING_SIZE: usize = 72;
/// Zeros in the box of HELLO.
pub(super) const SIGNATURE_SIZE: usize = 64;
/// Bytes of HELLO behind its name.
pub(super) const HELLO_SIZE: usize =
    VERSION.len() + PADDING_SIZE + KEY_SIZE + SHORT_NONCE_SIZE + TAG_SIZE + SIGNATURE_SIZE;
/// Bytes of a cookie.
pub(super) const COOKIE_SIZE: usize = LONG_NONCE_SIZE + TAG_SIZE + 2 * KEY_SIZE;
/// Bytes of WELCOME behind its name.
pub(super) const WELCOME_SIZE: usize = LONG_NONCE_SIZE + TAG_SIZE + KEY_SIZE + COOKIE_SIZE;
/// Bytes of the box of a vouch.
pub(super) const VOUCH_BOX_SIZE: usize = TAG_SIZE + 2 * KEY_SIZE;
/// Bytes in the box of INITIATE before the metadata.
pub(super) const INITIATE_BOX_SIZE_MIN: usize = KEY_SIZE + LONG_NONCE_SIZE + VOUCH_BOX_SIZE;
/// Largest body of INITIATE and READY. libzmq sends less than 1 KiB; a certificate fits easily.
pub(super) const BODY_SIZE_MAX: usize = 64 << 10;

/// What the nonces of a command begin with.
pub(super) const HELLO_PREFIX: &[u8; 16] = b"CurveZMQHELLO---";
pub(super) const WELCOME_PREFIX: &[u8; 8] = b"WELCOME-";
pub(super) const COOKIE_PREFIX: &[u8; 8] = b"COOKIE--";
pub(super) const INITIATE_PREFIX: &[u8; 16] = b"CurveZMQINITIATE";
pub(super) const VOUCH_PREFIX: &[u8; 8] = b"VOUCH---";
pub(super) const READY_PREFIX: &[u8; 16] = b"CurveZMQREADY---";
pub(super) const CLIENT_PREFIX: &[u8; 16] = b"CurveZMQMESSAGEC";
pub(super) const SERVER_PREFIX: &[u8; 16] = b"CurveZMQMESSAGES";

/// The nonce of a command: its prefix, and what the command carries of it.
pub(super) fn nonce(prefix: &[u8], rest: &[u8]) -> [u8; NONCE_SIZE] {
    let mut nonce = [0; NONCE_SIZE];
    for (to, from) in nonce.iter_mut().zip(prefix.iter().chain(rest)) {
        *to = *from;
    }
    nonce
}

/// Writes `parts`, one behind the other.
pub(super) fn fill(to: &mut [u8], parts: &[&[u8]]) {
    debug_assert_eq!(to.len(), parts.iter().map(|part| part.len()).sum());
    for (to, from) in to.iter_mut().zip(parts.iter().copied().flatten()) {
        *to = *from;
    }
}

/// Reads the fields of a command, one behind the other.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next field, of `SIZE` bytes.
    pub(super) fn take<const SIZE: usize>(&mut self) -> Result<&'a [u8; SIZE], Malformed> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Malformed::CommandSize)?;
        self.0 = rest;
        Ok(field)
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}
