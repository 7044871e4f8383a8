//! The frame header: the only place where flags and sizes are read.
//!
//! ```text
//! flags  size            body of `size` bytes      flags: 01 MORE, 02 LONG, 04 COMMAND
//! 1      1, or 8 if LONG
//! ```

use crate::error::Malformed;
use crate::version::Version;
use byteorder::{BigEndian, ByteOrder};

/// More frames of the same message follow.
pub const MORE: u8 = 0x01;
/// The size has eight bytes, not one.
pub const LONG: u8 = 0x02;
/// The frame is a command.
pub const COMMAND: u8 = 0x04;

/// Bytes of a header with a one-byte size.
pub const SHORT_SIZE: usize = 2;
/// Bytes of a header with an eight-byte size.
pub const LONG_SIZE: usize = 9;
/// Largest body that a one-byte size can announce.
pub const SHORT_BODY_SIZE_MAX: usize = 255;

/// A parsed frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of body that follow.
    pub body_size: usize,
    /// Whether the frame is a command.
    pub command: bool,
    /// Whether more frames of the message follow.
    pub more: bool,
    /// Bytes of the header itself, 2 or 9.
    pub size: usize,
}

/// The headers that [`Header::parse`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Legal {
    /// Largest body of a command.
    pub command_size_max: u64,
    /// The flags that a frame may have.
    pub flags: LegalFlags,
    /// Largest body of a message frame.
    pub message_size_max: u64,
}

/// The legal combinations of flags: bit n stands for a byte of flags with the value n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegalFlags(u32);

impl Header {
    /// Parses the header at the beginning of `input`; `None` if it is incomplete.
    ///
    /// A long header with a small size is legal, as in libzmq. Reserved bits are refused, which
    /// RFC 37 allows and libzmq does not do: they are the first sign of a stream out of step.
    ///
    /// # Errors
    /// [`Malformed::Flags`], [`Malformed::FrameTooLarge`] or [`Malformed::CommandTooLarge`]; the
    /// size is checked in `u64`, before any byte of the body has arrived.
    #[inline]
    pub fn parse(input: &[u8], legal: &Legal) -> Result<Option<Self>, Malformed> {
        let Some(&flags) = input.first() else {
            return Ok(None);
        };
        legal.flags.check(flags)?;
        let (size, announced) = match flags & LONG {
            0 => match input.get(1) {
                Some(&short) => (SHORT_SIZE, u64::from(short)),
                None => return Ok(None),
            },
            _ => match input.get(1..LONG_SIZE) {
                Some(long) => (LONG_SIZE, BigEndian::read_u64(long)),
                None => return Ok(None),
            },
        };
        let command = flags & COMMAND != 0;
        let max = if command {
            legal.command_size_max
        } else {
            legal.message_size_max
        };
        // The second comparison only ever fails on 32-bit targets whose limit was set above 4 GiB.
        let body_size = match usize::try_from(announced) {
            Ok(body_size) if announced <= max => body_size,
            _ if command => return Err(Malformed::CommandTooLarge),
            _ => return Err(Malformed::FrameTooLarge),
        };
        Ok(Some(Self {
            body_size,
            command,
            more: flags & MORE != 0,
            size,
        }))
    }

    /// A fast path for most frames: those of messages, with a one-byte size. `None` for other
    /// frames. It checks no limit: so small a frame is checked with its message.
    #[must_use]
    #[inline]
    pub fn parse_short(input: &[u8]) -> Option<Self> {
        match *input {
            [flags @ 0..=MORE, body_size, ..] => Some(Self {
                body_size: usize::from(body_size),
                command: false,
                more: flags == MORE,
                size: SHORT_SIZE,
            }),
            _ => None,
        }
    }

    /// The size of the header that begins with these bytes.
    #[must_use]
    pub fn size_of(input: &[u8]) -> usize {
        match input.first() {
            Some(flags) if flags & LONG != 0 => LONG_SIZE,
            _ => SHORT_SIZE,
        }
    }
}

impl LegalFlags {
    /// Flags of ZMTP 2.0, which has no commands and reserves their flag.
    pub const V2: Self = Self(1 << 0 | 1 << MORE | 1 << LONG | 1 << (LONG | MORE));
    /// Flags of a frame that is not part of a message, in ZMTP 2.0.
    pub const V2_ALONE: Self = Self(1 << 0 | 1 << LONG);
    /// Flags of ZMTP 3.0 and later: a command has no MORE.
    pub const V3: Self = Self(Self::V2.0 | 1 << COMMAND | 1 << (COMMAND | LONG));

    /// Flags of `version`.
    #[must_use]
    pub fn of(version: Version) -> Self {
        match version {
            Version::V2 => Self::V2,
            Version::V3_0 | Version::V3_1 => Self::V3,
        }
    }

    #[inline]
    fn check(self, flags: u8) -> Result<(), Malformed> {
        if u32::from(flags) >= u32::BITS || self.0 >> flags & 1 == 0 {
            return Err(Malformed::Flags);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGAL: Legal = Legal {
        command_size_max: 1000,
        flags: LegalFlags::V3,
        message_size_max: 100_000,
    };

    fn header(more: bool, command: bool, size: usize, body_size: usize) -> Header {
        Header {
            body_size,
            command,
            more,
            size,
        }
    }

    #[test]
    fn legal_headers() {
        let table: [(&[u8], Header); 6] = [
            (b"\x00\x00", header(false, false, 2, 0)),
            (b"\x01\xff", header(true, false, 2, 255)),
            (b"\x04\x05", header(false, true, 2, 5)),
            (b"\x02\0\0\0\0\0\0\0\x05", header(false, false, 9, 5)),
            (
                b"\x03\0\0\0\0\0\x01\x86\xa0",
                header(true, false, 9, 100_000),
            ),
            (b"\x06\0\0\0\0\0\0\x03\xe8", header(false, true, 9, 1000)),
        ];
        for (input, expected) in table {
            assert_eq!(Header::parse(input, &LEGAL), Ok(Some(expected)));
            let is_short = input[0] <= MORE;
            assert_eq!(
                Header::parse_short(input),
                Some(expected).filter(|_| is_short)
            );
            for size in 0..input.len() {
                assert_eq!(Header::parse(&input[..size], &LEGAL), Ok(None));
            }
            assert_eq!(Header::size_of(input), input.len());
        }
    }

    #[test]
    fn sizes_just_above_and_far_above_the_limit() {
        for announced in [
            100_001,
            u64::MAX / 2,
            u64::MAX / 2 + 1,
            u64::MAX - 9,
            u64::MAX,
        ] {
            let mut input = vec![LONG];
            input.extend(announced.to_be_bytes());
            assert_eq!(
                Header::parse(&input, &LEGAL),
                Err(Malformed::FrameTooLarge),
                "{announced}"
            );
            input[0] = LONG | COMMAND;
            assert_eq!(
                Header::parse(&input, &LEGAL),
                Err(Malformed::CommandTooLarge)
            );
        }
        let above = b"\x06\0\0\0\0\0\0\x03\xe9";
        assert_eq!(
            Header::parse(above, &LEGAL),
            Err(Malformed::CommandTooLarge)
        );
    }

    #[test]
    fn illegal_flags_are_seen_in_the_first_byte() {
        for flags in 0..=255_u8 {
            let legal = matches!(flags, 0..=4 | 6);
            assert_eq!(
                Header::parse(&[flags], &LEGAL).is_ok(),
                legal,
                "{flags:#04x}"
            );
        }
    }

    #[test]
    fn without_commands_their_flag_is_reserved() {
        let legal = Legal {
            flags: LegalFlags::of(Version::V2),
            ..LEGAL
        };
        for flags in 0..=255_u8 {
            let parsed = Header::parse(&[flags], &legal);
            assert_eq!(parsed.is_ok(), flags <= 3, "{flags:#04x}");
        }
        assert_eq!(
            Header::parse(b"\x03\0\0\0\0\0\x01\x86\xa0", &legal),
            Ok(Some(header(true, false, 9, 100_000)))
        );
    }
}
