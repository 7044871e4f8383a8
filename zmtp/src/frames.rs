//! The frames of a message that the deframer has accepted.

use crate::show::show;
use crate::wire::header::{COMMAND, Header, Legal, LegalFlags, MORE};
use std::fmt;

/// Accepts every frame: the sizes were checked when the message was received.
const UNLIMITED: Legal = Legal {
    command_size_max: u64::MAX,
    flags: LegalFlags::V3,
    message_size_max: u64::MAX,
};

/// Characters of a frame that `Display` shows.
const SHOWN_LEN_MAX: usize = 64;

/// Frames of a message that `Display` shows.
const SHOWN_FRAMES_MAX: usize = 16;

/// Iterates over the frames of one message in wire form. It cannot fail on a message that a
/// [`Span`](crate::Span) delimits, and ends early on other bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

/// One frame of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The body.
    pub body: &'a [u8],
    /// Whether it is a command; no message that a [`Span`](crate::Span) delimits has one.
    pub command: bool,
    /// Whether more frames follow.
    pub more: bool,
}

impl Frame<'_> {
    /// The flags of its header, except the one that tells the form of the size.
    #[must_use]
    #[inline]
    pub fn flags(&self) -> u8 {
        let more = if self.more { MORE } else { 0 };
        let command = if self.command { COMMAND } else { 0 };
        more | command
    }
}

impl<'a> Frames<'a> {
    /// Iterates over `message`, a whole message in wire form.
    #[must_use]
    #[inline]
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The body of the next frame, which stays the next one; empty at the end. In front of the
    /// first frame it is the topic that subscriptions match.
    #[must_use]
    #[inline]
    pub fn first(&self) -> &'a [u8] {
        Self::clone(self).next().map_or(&[], |frame| frame.body)
    }

    /// The remaining frames, in wire form: after the first call of `next`, the message without its
    /// first frame.
    #[must_use]
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let header = match Header::parse_short(self.rest) {
            Some(header) => header,
            None => Header::parse(self.rest, &UNLIMITED).ok()??,
        };
        let (_, rest) = self.rest.split_at_checked(header.size)?;
        let (body, rest) = rest.split_at_checked(header.body_size)?;
        self.rest = rest;
        Some(Frame {
            body,
            command: header.command,
            more: header.more,
        })
    }
}

/// Displays the frames as `[text][\x00\xff…(+12 bytes)]`, each as [`show`] displays it. Of a
/// message of many frames, only the first appear.
impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, frame) in Self::clone(self).enumerate() {
            if index == SHOWN_FRAMES_MAX {
                return f.write_str("…");
            }
            write!(f, "[{}]", show(frame.body).up_to(SHOWN_LEN_MAX))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_frames_and_keeps_the_rest() {
        let mut frames = Frames::new(b"\x01\x02id\x01\x00\x02\0\0\0\0\0\0\0\x01x");
        assert_eq!(
            frames.next(),
            Some(Frame {
                body: b"id",
                command: false,
                more: true
            })
        );
        assert_eq!(frames.rest(), b"\x01\x00\x02\0\0\0\0\0\0\0\x01x");
        assert_eq!(
            frames.next(),
            Some(Frame {
                body: b"",
                command: false,
                more: true
            })
        );
        assert_eq!(
            frames.next(),
            Some(Frame {
                body: b"x",
                command: false,
                more: false
            })
        );
        assert_eq!(frames.next(), None);
    }

    #[test]
    fn display_is_readable_and_short() {
        let mut message = b"\x01\x03\0ab\x00\x64".to_vec();
        message.extend([b'x'; 100]);
        let expected = format!("[\\x00ab][{}…(+36 bytes)]", "x".repeat(64));
        assert_eq!(Frames::new(&message).to_string(), expected);
        let many = b"\x01\x01a".repeat(1000);
        assert_eq!(
            Frames::new(&many).to_string(),
            format!("{}…", "[a]".repeat(16))
        );
    }
}
