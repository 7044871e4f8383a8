//! One header and limits of any size, in arithmetic that cannot overflow.

use crate::deframer::{Deframer, Found};
use crate::encode::{append_command, append_frame};
use crate::error::Malformed;
use crate::frames::Frames;
use crate::limits::Limits;
use crate::version::Version;
use crate::wire::header::{Header, Legal, LegalFlags};

/// Reads `data` as a version, two limits of eight bytes each, and the beginning of a frame. The
/// header is parsed at each size, alone and after a first frame of its message, and each decision
/// is compared with one in 128-bit arithmetic.
pub fn fuzz_header(data: &[u8]) {
    let Some((setting, input)) = Setting::split(data) else {
        return;
    };
    for size in 0..=input.len().min(LONG_SIZE + 1) {
        setting.check(input.get(..size).unwrap_or_default());
    }
    setting.check_in_message(input);
    check_encoded(input);
}

const LONG_SIZE: usize = 9;

/// A first frame, with MORE.
const FIRST: &[u8] = b"\x01\x01a";

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    announced: u128,
    flags: u8,
    size: usize,
}

/// The limits for headers.
struct Setting {
    command_size_max: u64,
    flags: LegalFlags,
    message_size_max: u64,
    version: Version,
}

impl Setting {
    fn split(data: &[u8]) -> Option<(Self, &[u8])> {
        let (&which, rest) = data.split_first()?;
        let (command, rest) = rest.split_first_chunk()?;
        let (message, rest) = rest.split_first_chunk()?;
        let (version, flags) = match which % 3 {
            0 => (Version::V2, LegalFlags::V2),
            1 => (Version::V2, LegalFlags::V2_ALONE),
            _ => (Version::V3_1, LegalFlags::V3),
        };
        let setting = Self {
            command_size_max: u64::from_be_bytes(*command),
            flags,
            message_size_max: u64::from_be_bytes(*message),
            version,
        };
        Some((setting, rest))
    }

    /// Parses `input`, which may be less than a header.
    fn check(&self, input: &[u8]) {
        let legal = Legal {
            command_size_max: self.command_size_max,
            flags: self.flags,
            message_size_max: self.message_size_max,
        };
        let parsed = Header::parse(input, &legal);
        assert_eq!(parsed.map(|found| found.map(said)), naive(&legal, input));
        assert_eq!(Header::size_of(input), naive_size(input));
        match Header::parse_short(input) {
            Some(short) => assert_eq!(naive_said(input), Some(said(short))),
            None => assert!(!matches!(input, [0 | 1, _, ..])),
        }
        if let Ok(Some(_)) = parsed {
            let longer = [input, &[0xff]].concat();
            assert_eq!(Header::parse(&longer, &legal), parsed);
        }
    }

    /// Deframes `input` after a first frame, and alone.
    fn check_in_message(&self, input: &[u8]) {
        let limits = Limits {
            message_frames_max: 2,
            message_size_max: self.message_size_max,
            topic_size_max: self.command_size_max,
            ..Limits::default()
        };
        for first in [&b""[..], FIRST] {
            let mut deframer = Deframer::new(self.version);
            let mut stream = [first, input].concat();
            if (first.len() as u64) > self.message_size_max {
                let found = deframer.scan(&mut stream, &limits);
                assert!(found.is_err(), "the first frame is too large already");
                continue;
            }
            let expected = naive_end(self.version, &limits, first.len(), input);
            // With MORE another frame would follow, so the last byte of this one is withheld.
            if let (Ok(end), Some(1 | 3)) = (expected, input.first()) {
                stream.truncate(end - 1);
            }
            match deframer.scan(&mut stream, &limits) {
                Err(error) => assert_eq!(Err(error), expected),
                Ok(Found::Need { removed, size }) => {
                    assert_eq!((removed, Ok(size)), (0, expected));
                    assert!(size > stream.len(), "asked for bytes that are there");
                }
                Ok(Found::Command { body, .. }) => assert_eq!(Ok(body.end), expected),
                Ok(Found::Message { skipped, span }) => {
                    assert_eq!((skipped, Ok(span.size)), (0, expected));
                    let frames = Frames::new(stream.get(..span.size).unwrap_or_default());
                    assert_eq!(frames.count(), usize::from(!first.is_empty()) + 1);
                }
            }
        }
    }
}

fn is_legal(rules: LegalFlags, flags: u8) -> bool {
    match rules {
        LegalFlags::V2_ALONE => matches!(flags, 0 | 2),
        LegalFlags::V2 => matches!(flags, 0..=3),
        _ => matches!(flags, 0..=4 | 6),
    }
}

fn naive(legal: &Legal, input: &[u8]) -> Result<Option<Said>, Malformed> {
    let Some(&flags) = input.first() else {
        return Ok(None);
    };
    if !is_legal(legal.flags, flags) {
        return Err(Malformed::Flags);
    }
    let Some(said) = naive_said(input) else {
        return Ok(None);
    };
    let (max, error) = if flags & 4 == 0 {
        (legal.message_size_max, Malformed::FrameTooLarge)
    } else {
        (legal.command_size_max, Malformed::CommandTooLarge)
    };
    if said.announced > u128::from(max) || said.announced > usize::MAX as u128 {
        return Err(error);
    }
    Ok(Some(said))
}

fn said(header: Header) -> Said {
    Said {
        announced: header.body_size as u128,
        flags: u8::from(header.more)
            | u8::from(header.size == LONG_SIZE) << 1
            | u8::from(header.command) << 2,
        size: header.size,
    }
}

fn naive_size(input: &[u8]) -> usize {
    match input.first() {
        Some(flags) if flags & 2 != 0 => LONG_SIZE,
        _ => 2,
    }
}

/// The fields of a header, legal or not; `None` if it is incomplete.
fn naive_said(input: &[u8]) -> Option<Said> {
    let flags = *input.first()?;
    let size = naive_size(input);
    let bytes = input.get(1..size)?.iter();
    Some(Said {
        announced: bytes.fold(0, |sum, byte| sum * 256 + u128::from(*byte)),
        flags,
        size,
    })
}

/// The end of the frame at the front of `input`, or the size that is needed to know it.
fn naive_end(
    version: Version,
    limits: &Limits,
    first: usize,
    input: &[u8],
) -> Result<usize, Malformed> {
    let legal = Legal {
        command_size_max: limits.traffic_command_size_max(),
        flags: match version {
            Version::V2 => LegalFlags::V2,
            _ => LegalFlags::V3,
        },
        message_size_max: limits.message_size_max,
    };
    let Some(said) = naive(&legal, input)? else {
        return Ok(first + naive_size(input));
    };
    let end = first as u128 + said.size as u128 + said.announced;
    let is_message = said.flags & 4 == 0;
    if is_message && end > u128::from(limits.message_size_max) {
        return Err(Malformed::MessageTooLarge);
    }
    usize::try_from(end).map_err(|_| Malformed::MessageTooLarge)
}

/// An encoded frame has the shortest possible header.
fn check_encoded(body: &[u8]) {
    for more in [false, true] {
        let mut frame = Vec::new();
        append_frame(&mut frame, body, more);
        check_shortest(&frame, u8::from(more), body.len());
        assert!(frame.ends_with(body));
    }
    let mut command = Vec::new();
    append_command(&mut command, "FUZZ", body);
    check_shortest(&command, 4, body.len() + 5);
    assert!(command.ends_with(body));
}

fn check_shortest(frame: &[u8], flags: u8, body_size: usize) {
    let is_long = body_size > 255;
    let size = if is_long { LONG_SIZE } else { 2 };
    let expected = Said {
        announced: body_size as u128,
        flags: flags | u8::from(is_long) << 1,
        size,
    };
    assert_eq!(naive_said(frame), Some(expected));
    assert_eq!(frame.len(), size + body_size);
}
