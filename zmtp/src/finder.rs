//! A fast path through a burst of whole messages.

use crate::limits::Limits;
use crate::wire::header::{Header, Legal, LegalFlags};

/// Finds whole messages without a call of the session for each.
///
/// It finds only messages. At a command, an error or the beginning of a message it finds nothing,
/// and [`Session::handle_input`](crate::Session::handle_input) has to look at the input. It has no
/// state: the caller drops the bytes of a message and need not accept it.
#[derive(Clone, Copy, Debug)]
pub struct Finder {
    frames_max: u32,
    legal: Legal,
}

impl Finder {
    pub(crate) fn new(limits: &Limits, flags: LegalFlags) -> Self {
        Self {
            frames_max: limits.message_frames_max,
            legal: Legal {
                // A command is not an error: the session handles it.
                command_size_max: u64::MAX,
                flags,
                message_size_max: limits.message_size_max,
            },
        }
    }

    /// The size of the message at the front of `input`, if it is whole and within the limits.
    #[must_use]
    #[inline]
    pub fn find(&self, input: &[u8]) -> Option<usize> {
        let mut rest = input;
        for _ in 0..self.frames_max {
            let header = match Header::parse_short(rest) {
                Some(header) => header,
                None => Header::parse(rest, &self.legal).ok()??,
            };
            if header.command {
                return None;
            }
            (_, rest) = rest.split_at_checked(header.size)?;
            (_, rest) = rest.split_at_checked(header.body_size)?;
            if !header.more {
                let size = input.len() - rest.len();
                return (size as u64 <= self.legal.message_size_max).then_some(size);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whole_messages_within_the_limits_and_nothing_else() {
        let limits = Limits {
            message_frames_max: 2,
            message_size_max: 10,
            ..Limits::default()
        };
        let finder = Finder::new(&limits, LegalFlags::V3);
        let table: [(&[u8], Option<usize>); 9] = [
            (b"\x00\x01ab", Some(3)),
            (b"\x01\x01a\x02\0\0\0\0\0\0\0\x00", None),
            (b"\x01\x01a\x00\x05.....", Some(10)),
            (b"\x01\x01a\x00\x06......", None),
            (b"\x01\x00\x01\x00\x00\x00", None),
            (b"\x00\x02a", None),
            (b"\x04\x05\x04JOIN", None),
            (b"\x08\x00", None),
            (b"", None),
        ];
        for (input, expected) in table {
            assert_eq!(finder.find(input), expected, "{}", input.escape_ascii());
        }
    }
}
