//! The greeting: 64 bytes that each side sends at once (RFC 37, "The Greeting").
//!
//! ```text
//! FF  8 bytes padding  7F  major  minor  20 bytes mechanism  as-server  31 bytes filler
//! 0   1             8  9   10     11     12              31  32         33           63
//! ```

use crate::error::{Error, Incompatible, Malformed};
use crate::limits::{GREETING_SIZE, MECHANISM_SIZE};
use bytes::BufMut;

/// Where the first byte after the signature stands.
const VERSION_AT: usize = 10;

/// A parsed greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Name of the mechanism, padded with zeros as it stands on the wire.
    pub mechanism: [u8; MECHANISM_SIZE],
    /// Minor version; decides between subscriptions as messages (0) and as commands (1 and up).
    pub minor: u8,
}

impl Greeting {
    /// Our own: version 3.1 and `mechanism`.
    #[must_use]
    pub fn new(mechanism: &str) -> Self {
        let mut padded = [0; MECHANISM_SIZE];
        for (to, from) in padded.iter_mut().zip(mechanism.bytes()) {
            *to = from;
        }
        Self {
            mechanism: padded,
            minor: 1,
        }
    }

    /// Parses the peer's greeting; `None` asks for more bytes, up to [`GREETING_SIZE`].
    ///
    /// A wrong peer is recognised by its first byte that is wrong, so that one which says `GET /`
    /// and waits is not waited for. Padding and as-server are not looked at: libzmq fills the one
    /// with the length of its identity and leaves the other zero even where it is the server. Majors
    /// above 3 are read as 3.1, as libzmq reads them.
    ///
    /// # Errors
    /// [`Malformed::Signature`] for what is not ZMTP, [`Incompatible`] for its older versions.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, Error> {
        match input.first() {
            None => return Ok(None),
            Some(0xff) => {}
            Some(_) => return Err(Malformed::Signature.into()),
        }
        match input.get(9) {
            None => return Ok(None),
            Some(last) if last & 1 == 0 => return Err(Incompatible::Version1.into()),
            Some(_) => {}
        }
        let major = match input.get(VERSION_AT) {
            None => return Ok(None),
            Some(0) => return Err(Incompatible::Version1.into()),
            Some(1) => return Err(Incompatible::Version2.into()),
            Some(major) => *major,
        };
        let Some(greeting) = input.get(..GREETING_SIZE) else {
            return Ok(None);
        };
        let minor = greeting.get(VERSION_AT + 1).copied().unwrap_or_default();
        let mut mechanism = [0; MECHANISM_SIZE];
        for (to, from) in mechanism
            .iter_mut()
            .zip(greeting.iter().skip(VERSION_AT + 2))
        {
            *to = *from;
        }
        Ok(Some(Self {
            mechanism,
            minor: if major == 3 { minor } else { 1 },
        }))
    }

    /// Appends the 64 bytes, all at once: a side that waits for the other before it says its version
    /// deadlocks with another that does the same.
    pub fn emit(&self, out: &mut impl BufMut) {
        out.put_slice(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, self.minor]);
        out.put_slice(&self.mechanism);
        out.put_bytes(0, GREETING_SIZE - VERSION_AT - 2 - MECHANISM_SIZE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted() -> Vec<u8> {
        let mut out = Vec::new();
        Greeting::new("NULL").emit(&mut out);
        out
    }

    #[test]
    fn emits_what_libzmq_emits() {
        let out = emitted();
        assert_eq!(out.len(), GREETING_SIZE);
        assert_eq!(out[..16], *b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL");
        assert!(out[16..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn parses_only_once_whole() {
        let whole = emitted();
        for size in 0..GREETING_SIZE {
            assert_eq!(Greeting::parse(&whole[..size]), Ok(None), "{size} bytes");
        }
        assert_eq!(Greeting::parse(&whole), Ok(Some(Greeting::new("NULL"))));
    }

    #[test]
    fn padding_and_as_server_are_not_validated() {
        let mut whole = emitted();
        whole[1..9].fill(0xee);
        whole[32] = 1;
        whole[63] = 0x55;
        assert_eq!(Greeting::parse(&whole), Ok(Some(Greeting::new("NULL"))));
    }

    #[test]
    fn versions_are_told_apart_as_soon_as_they_can_be() {
        let table: [(&[u8], Error); 5] = [
            (b"GET / HTTP/1.1", Malformed::Signature.into()),
            (b"\x01", Malformed::Signature.into()),
            (b"\xff\0\0\0\0\0\0\0\x01\x7e", Incompatible::Version1.into()),
            (
                b"\xff\0\0\0\0\0\0\0\x01\x7f\x00",
                Incompatible::Version1.into(),
            ),
            (
                b"\xff\0\0\0\0\0\0\0\x01\x7f\x01",
                Incompatible::Version2.into(),
            ),
        ];
        for (input, error) in table {
            assert_eq!(
                Greeting::parse(input),
                Err(error),
                "{}",
                input.escape_ascii()
            );
            let shorter = &input[..if input[0] == 0xff { input.len() - 1 } else { 0 }];
            assert_eq!(Greeting::parse(shorter), Ok(None));
        }
    }

    #[test]
    fn minor_versions_and_later_majors() {
        for (major, minor, expected) in [(3, 0, 0), (3, 1, 1), (3, 7, 7), (2, 0, 1), (4, 0, 1)] {
            let mut whole = emitted();
            whole[10] = major;
            whole[11] = minor;
            let parsed = Greeting::parse(&whole).unwrap().unwrap();
            assert_eq!(parsed.minor, expected, "{major}.{minor}");
        }
    }
}
