//! Greetings, which begin a connection and tell its version.
//!
//! ```text
//! 3.x  FF  8 bytes padding  7F  major  minor  20 bytes mechanism  as-server  31 bytes filler
//! 2.0  FF  8 bytes padding  7F  01     socket type
//!      0   1             8  9   10     11     12              31  32         33           63
//! ```

use crate::error::{Error, Incompatible};
use crate::limits::{GREETING_SIZE, GREETING_V2_SIZE, MECHANISM_SIZE, SIGNATURE_SIZE};
use crate::socket_type::SocketType;
use crate::version::Version;
use bytes::BufMut;

/// The position of the version: the first byte after the signature.
const VERSION_AT: usize = SIGNATURE_SIZE;

/// The position of the flag of a server.
const AS_SERVER_AT: usize = VERSION_AT + 2 + MECHANISM_SIZE;

/// The position of the socket type in a greeting of 2.0.
const SOCKET_TYPE_AT: usize = GREETING_V2_SIZE - 1;

/// How much of a peer's greeting has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Nothing, or a part of the signature.
    Nothing,
    /// The signature of a version that announces its number.
    Signature,
    /// Also the first byte of the version: 0 is 1.0, 1 is 2.0, 3 is 3.x.
    Major(u8),
}

impl Arrived {
    /// Looks at the front of a greeting.
    ///
    /// The first wrong byte is enough to recognise another protocol, so that a peer that sends
    /// `GET /` and waits for an answer is closed at once.
    ///
    /// # Errors
    /// [`Error::NotZmtp`] for another protocol, [`Incompatible::Version1`] for ZMTP 1.0, which
    /// announces no version.
    pub fn of(input: &[u8]) -> Result<Self, Error> {
        match input.first() {
            None => return Ok(Self::Nothing),
            Some(0xff) => {}
            Some(_) => return Err(Error::not_zmtp(input)),
        }
        match input.get(SIGNATURE_SIZE - 1) {
            None => return Ok(Self::Nothing),
            Some(last) if last & 1 == 0 => return Err(Incompatible::Version1.into()),
            Some(_) => {}
        }
        Ok(match input.get(VERSION_AT) {
            None => Self::Signature,
            Some(major) => Self::Major(*major),
        })
    }
}

/// A parsed greeting of version 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Whether its sender is the server of the mechanism. NULL has no server.
    pub as_server: bool,
    /// Name of the mechanism, padded with zeros as on the wire.
    pub mechanism: [u8; MECHANISM_SIZE],
    /// The version of its sender.
    pub version: Version,
}

impl Greeting {
    /// Our own: version 3.1, `mechanism`, and no server.
    #[must_use]
    pub fn new(mechanism: &str) -> Self {
        let mut padded = [0; MECHANISM_SIZE];
        for (to, from) in padded.iter_mut().zip(mechanism.bytes()) {
            *to = from;
        }
        Self {
            as_server: false,
            mechanism: padded,
            version: Version::V3_1,
        }
    }

    /// Parses the peer's greeting; `None` needs more bytes, up to [`GREETING_SIZE`].
    ///
    /// Padding is ignored: libzmq writes the length of its identity there. A peer without as-server
    /// may be a server nevertheless: libzmq never sets it. Majors above 3 count as 3.1, as in
    /// libzmq.
    ///
    /// # Errors
    /// Those of [`Arrived::of`], and [`Incompatible`] for versions before 3.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, Error> {
        match Arrived::of(input)? {
            Arrived::Major(0) => return Err(Incompatible::Version1.into()),
            Arrived::Major(1) => return Err(Incompatible::Version2.into()),
            _ => {}
        }
        let Some(greeting) = input.get(..GREETING_SIZE) else {
            return Ok(None);
        };
        let mut mechanism = [0; MECHANISM_SIZE];
        let mut rest = greeting.iter().skip(VERSION_AT).copied();
        let version = match (rest.next(), rest.next()) {
            (Some(3), Some(0)) => Version::V3_0,
            _ => Version::V3_1,
        };
        for (to, from) in mechanism.iter_mut().zip(rest) {
            *to = from;
        }
        Ok(Some(Self {
            as_server: greeting.get(AS_SERVER_AT) == Some(&1),
            mechanism,
            version,
        }))
    }

    /// The 64 bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; GREETING_SIZE] {
        let mut bytes = [0; GREETING_SIZE];
        self.emit(&mut bytes.as_mut_slice());
        bytes
    }

    /// Appends the 64 bytes.
    pub fn emit(&self, out: &mut impl BufMut) {
        let minor = u8::from(self.version >= Version::V3_1);
        out.put_slice(&[0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, minor]);
        out.put_slice(&self.mechanism);
        out.put_u8(u8::from(self.as_server));
        out.put_bytes(0, GREETING_SIZE - AS_SERVER_AT - 1);
    }
}

/// Parses the greeting of a peer that speaks ZMTP 2.0, up to its socket type; `None` needs more
/// bytes, up to [`GREETING_V2_SIZE`]. The identity follows as a frame.
///
/// # Errors
/// [`Incompatible::UnknownSocketType`].
pub fn parse_v2(input: &[u8]) -> Result<Option<SocketType>, Error> {
    match input.get(SOCKET_TYPE_AT) {
        None => Ok(None),
        Some(octet) => match SocketType::from_octet(*octet) {
            None => Err(Incompatible::UnknownSocketType.into()),
            socket_type => Ok(socket_type),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Reason;

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
    fn padding_is_not_validated() {
        let mut whole = emitted();
        whole[1..9].fill(0xee);
        whole[63] = 0x55;
        assert_eq!(Greeting::parse(&whole), Ok(Some(Greeting::new("NULL"))));
    }

    #[test]
    fn only_one_means_as_server() {
        let server = Greeting {
            as_server: true,
            ..Greeting::new("PLAIN")
        };
        let mut whole = server.bytes();
        assert_eq!(whole[32], 1);
        assert_eq!(Greeting::parse(&whole), Ok(Some(server)));
        for other in [0, 2, 0xff] {
            whole[32] = other;
            assert_eq!(Greeting::parse(&whole), Ok(Some(Greeting::new("PLAIN"))));
        }
    }

    #[test]
    fn a_greeting_of_2_0_has_twelve_bytes() {
        let whole = b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x08";
        assert_eq!(whole.len(), GREETING_V2_SIZE);
        for size in 0..=whole.len() {
            let expected = match size {
                0..10 => Arrived::Nothing,
                10 => Arrived::Signature,
                _ => Arrived::Major(1),
            };
            assert_eq!(Arrived::of(&whole[..size]), Ok(expected), "{size} bytes");
        }
        assert_eq!(parse_v2(&whole[..11]), Ok(None));
        assert_eq!(parse_v2(whole), Ok(Some(SocketType::Push)));
        let unknown = [&whole[..11], &[11]].concat();
        let error = Incompatible::UnknownSocketType.into();
        assert_eq!(parse_v2(&unknown), Err(error));
    }

    #[test]
    fn versions_are_told_apart_as_soon_as_they_can_be() {
        let table: [(&[u8], Error); 5] = [
            (
                b"GET / HTTP/1.1\r\nHost",
                Error::NotZmtp(Reason::new(b"GET / HTTP/1.1")),
            ),
            (b"\x01", Error::NotZmtp(Reason::new(b"\x01"))),
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
        for (major, minor, expected) in [
            (3, 0, Version::V3_0),
            (3, 1, Version::V3_1),
            (3, 7, Version::V3_1),
            (2, 0, Version::V3_1),
            (4, 0, Version::V3_1),
        ] {
            let mut whole = emitted();
            whole[10] = major;
            whole[11] = minor;
            let parsed = Greeting::parse(&whole).unwrap().unwrap();
            assert_eq!(parsed.version, expected, "{major}.{minor}");
        }
    }
}
