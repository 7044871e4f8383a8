//! Finds where a whole message ends.
//!
//! The deframer owns no bytes. It walks frame headers in the caller's buffer, never bodies, and
//! remembers its position, so that it walks no byte twice.
//!
//! ```text
//! input:  | frame, MORE | frame, MORE | frame, M… not received yet
//!         0                           scanned
//! ```

use crate::error::Malformed;
use crate::finder::Finder;
use crate::limits::Limits;
use crate::version::Version;
use crate::wire::header::{Header, Legal, LegalFlags};
use std::ops::Range;

/// One whole message in wire form, whose headers were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The number of its frames, at least one.
    pub frames: u32,
    /// Its size in bytes, frame headers included.
    pub size: usize,
}

/// What [`Deframer::scan`] found at the beginning of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A command frame, between two messages or between two frames of one message.
    Command {
        /// The position of its body.
        body: Range<usize>,
        /// Whether part of a message precedes it.
        inside_message: bool,
    },
    /// `input[skipped..][..span.size]` is a whole message.
    Message {
        /// Bytes in front of the message, which were handled.
        skipped: usize,
        /// The message after them.
        span: Span,
    },
    /// No whole message yet.
    Need {
        /// Bytes at the end of the input that are void now: the caller truncates the input by them.
        removed: usize,
        /// The size that the input must have, once truncated, before anything can be found.
        size: usize,
    },
}

/// Walks the frames of one message.
///
/// Invariant: `input[..scanned]` are `frames` whole frames, all with MORE, of one message; the
/// bytes in `input[scanned..scanned + gap]` are commands that were handled; the rest was not looked
/// at. The gap is closed before [`Found::Message`] or [`Found::Need`] is returned, which
/// moves each byte at most twice, however many commands a peer sends between frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deframer {
    frames: u32,
    gap: usize,
    legal_flags: LegalFlags,
    scanned: usize,
}

impl Deframer {
    /// A deframer before the first frame of a peer's traffic.
    #[must_use]
    pub fn new(version: Version) -> Self {
        Self {
            frames: 0,
            gap: 0,
            legal_flags: LegalFlags::of(version),
            scanned: 0,
        }
    }

    /// Looks for a whole message or command at the beginning of `input`.
    ///
    /// Until [`Self::advance`] is called, the answer stays the same and costs nothing. The work is
    /// bounded by the number of frames in `input`, and by its size if a message contains commands.
    ///
    /// # Errors
    /// A frame or message breaks a limit; its header is enough to tell.
    #[inline]
    pub fn scan(&mut self, input: &mut [u8], limits: &Limits) -> Result<Found, Malformed> {
        let legal = Legal {
            command_size_max: limits.traffic_command_size_max(),
            flags: self.legal_flags,
            message_size_max: limits.message_size_max,
        };
        loop {
            let start = self.scanned + self.gap;
            let rest = input.get(start..).unwrap_or_default();
            let Some(header) = Header::parse(rest, &legal)? else {
                let size = self.scanned + Header::size_of(rest);
                return Ok(self.need(input, size));
            };
            // On 32-bit targets the sum could wrap: a message of that size is too large anyway.
            let frame_size = header.size.checked_add(header.body_size);
            let size = frame_size.and_then(|size| size.checked_add(start));
            let (Some(frame_size), Some(end)) = (frame_size, size) else {
                return Err(Malformed::MessageTooLarge);
            };
            if header.command {
                if end > input.len() {
                    return Ok(self.need(input, end - self.gap));
                }
                let body = start + header.size..end;
                return Ok(Found::Command {
                    body,
                    inside_message: self.frames > 0,
                });
            }
            if (end - self.gap) as u64 > limits.message_size_max {
                return Err(Malformed::MessageTooLarge);
            }
            if self.frames >= limits.message_frames_max {
                return Err(Malformed::TooManyFrames);
            }
            if end > input.len() {
                return Ok(self.need(input, end - self.gap));
            }
            if !header.more {
                return Ok(self.message(input, start..end));
            }
            if self.gap > 0 {
                input.copy_within(start..end, self.scanned);
            }
            self.scanned += frame_size;
            self.frames += 1;
        }
    }

    /// A [`Finder`], unless a message has begun.
    #[inline]
    pub(crate) fn finder(&self, limits: &Limits) -> Option<Finder> {
        (self.frames == 0).then(|| Finder::new(limits, self.legal_flags))
    }

    /// Forgets the message just found, whose bytes the caller has dropped.
    #[inline]
    pub fn advance(&mut self) {
        debug_assert_eq!(self.gap, 0, "a message was found with a gap in it");
        self.frames = 0;
        self.gap = 0;
        self.scanned = 0;
    }

    /// Skips a command that [`Self::scan`] found inside a message, once it was handled.
    ///
    /// The caller itself drops a command between messages.
    pub fn skip_command(&mut self, body: &Range<usize>) {
        debug_assert!(self.frames > 0, "the command is inside a message");
        self.gap = body.end - self.scanned;
    }

    /// Whether a message has begun.
    #[must_use]
    pub fn is_inside_message(&self) -> bool {
        self.frames > 0
    }

    /// The last frame of a message is at `last`; moves the frames before it next to it.
    #[inline]
    fn message(&mut self, input: &mut [u8], last: Range<usize>) -> Found {
        let skipped = self.gap;
        let span = Span {
            frames: self.frames + 1,
            size: last.end - skipped,
        };
        if skipped > 0 {
            // To the right: the message is dropped next, so its bytes move once. To the left, all
            // bytes behind it would have to move.
            input.copy_within(..self.scanned, skipped);
            self.gap = 0;
        }
        Found::Message { skipped, span }
    }

    /// Nothing more can be found; moves the unfinished rest next to the frames before it.
    #[inline]
    fn need(&mut self, input: &mut [u8], size: usize) -> Found {
        let removed = self.gap;
        if removed > 0 {
            input.copy_within(self.scanned + removed.., self.scanned);
            self.gap = 0;
        }
        Found::Need { removed, size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan_all(stream: &[u8]) -> Result<Vec<(Vec<u8>, u32)>, Malformed> {
        let (mut deframer, mut input, mut found) =
            (Deframer::new(Version::V3_1), stream.to_vec(), vec![]);
        loop {
            match deframer.scan(&mut input, &Limits::default())? {
                Found::Message { skipped, span } => {
                    found.push((input[skipped..][..span.size].to_vec(), span.frames));
                    input.drain(..skipped + span.size);
                    deframer.advance();
                }
                Found::Command {
                    body,
                    inside_message: true,
                } => deframer.skip_command(&body),
                Found::Command { body, .. } => drop(input.drain(..body.end)),
                Found::Need { size, .. } => {
                    assert!(size > input.len() || input.is_empty());
                    return Ok(found);
                }
            }
        }
    }

    #[test]
    fn whole_messages() {
        let stream = b"\x00\x01a\x01\x00\x01\x02bc\x00\x01d\x02\0\0\0\0\0\0\0\x01e";
        let found = scan_all(stream).unwrap();
        assert_eq!(
            found,
            [
                (stream[..3].to_vec(), 1),
                (stream[3..12].to_vec(), 3),
                (stream[12..].to_vec(), 1),
            ]
        );
    }

    #[test]
    fn asks_for_exactly_what_is_missing() {
        let whole = b"\x01\x03abc\x02\0\0\0\0\0\0\0\x02de";
        let mut deframer = Deframer::new(Version::V3_1);
        for size in 0..whole.len() {
            let expected = match size {
                0..2 => 2,
                2..5 => 5,
                5 => 7,
                6..14 => 14,
                _ => 16,
            };
            let found = deframer.scan(&mut whole[..size].to_vec(), &Limits::default());
            assert_eq!(
                found,
                Ok(Found::Need {
                    removed: 0,
                    size: expected
                }),
                "{size} bytes"
            );
        }
    }

    #[test]
    fn commands_inside_a_message_leave_no_hole() {
        let ping = b"\x04\x07\x04PING\0\0";
        let frames: [&[u8]; 3] = [b"\x01\x01a", b"\x01\x02bc", b"\x00\x01d"];
        let mut stream = Vec::new();
        for frame in frames {
            stream.extend_from_slice(ping);
            stream.extend_from_slice(ping);
            stream.extend_from_slice(frame);
        }
        stream.extend_from_slice(b"\x00\x01z");
        let found = scan_all(&stream).unwrap();
        assert_eq!(found, [(frames.concat(), 3), (b"\x00\x01z".to_vec(), 1)]);
    }

    #[test]
    fn a_gap_is_closed_when_bytes_are_missing() {
        let mut input = b"\x01\x01a\x04\x05\x04JOIN\x01\x03bc".to_vec();
        let (mut deframer, limits) = (Deframer::new(Version::V3_1), Limits::default());
        let Ok(Found::Command {
            body,
            inside_message: true,
        }) = deframer.scan(&mut input, &limits)
        else {
            panic!("a command inside a message");
        };
        assert_eq!(input[body.clone()], *b"\x04JOIN");
        deframer.skip_command(&body);
        let found = deframer.scan(&mut input, &limits);
        assert_eq!(
            found,
            Ok(Found::Need {
                removed: 7,
                size: 8
            })
        );
        input.truncate(input.len() - 7);
        assert_eq!(input, b"\x01\x01a\x01\x03bc");
    }

    #[test]
    fn limits_hold_just_above_and_not_just_below() {
        let limits = Limits {
            message_size_max: 10,
            message_frames_max: 3,
            ..Limits::default()
        };
        let table: [(&[u8], Result<bool, Malformed>); 6] = [
            (b"\x00\x08........", Ok(true)),
            (b"\x00\x09.........", Err(Malformed::MessageTooLarge)),
            (b"\x00\x0b", Err(Malformed::FrameTooLarge)),
            (b"\x01\x01.\x00\x05.....", Ok(true)),
            (b"\x01\x00\x01\x00\x00\x00", Ok(true)),
            (
                b"\x01\x00\x01\x00\x01\x00\x00\x00",
                Err(Malformed::TooManyFrames),
            ),
        ];
        for (stream, expected) in table {
            let found = Deframer::new(Version::V3_1).scan(&mut stream.to_vec(), &limits);
            let is_message = found.map(|found| matches!(found, Found::Message { .. }));
            assert_eq!(is_message, expected, "{}", stream.escape_ascii());
        }
    }

    #[test]
    fn a_command_is_illegal_where_there_are_none() {
        let mut deframer = Deframer::new(Version::V2);
        let mut input = b"\x01\x01a\x04".to_vec();
        let limits = Limits::default();
        assert_eq!(deframer.scan(&mut input, &limits), Err(Malformed::Flags));
        let mut deframer = Deframer::new(Version::V2);
        for _ in 0..2 {
            assert!(deframer.scan(&mut b"\x00\x00".to_vec(), &limits).is_ok());
            deframer.advance();
        }
        let command = deframer.scan(&mut b"\x04".to_vec(), &limits);
        assert_eq!(command, Err(Malformed::Flags), "after a message too");
    }

    #[test]
    fn the_answer_is_the_same_until_advanced() {
        let mut input = b"\x01\x01a\x00\x01b".to_vec();
        let mut deframer = Deframer::new(Version::V3_1);
        let first = deframer.scan(&mut input, &Limits::default());
        assert_eq!(first, deframer.scan(&mut input, &Limits::default()));
        assert!(deframer.is_inside_message());
        deframer.advance();
        assert!(!deframer.is_inside_message());
    }
}
