//! The messages of a suspended peer that may wait: libzmq's receive high-water mark.

use crate::config::SocketOptions;
use zmtp::wire::header::{Header, Legal, LegalFlags};
use zmtp::{Limits, Version};

/// Whole messages and commands in the tail of a suspended connection.
///
/// Headers are parsed once: from the end of the last count, and from the front again only when half
/// of the counted ones have gone on.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    has_room: bool,
    /// The peer has closed the connection.
    is_closed: bool,
    /// Bytes in the tail at the last count.
    size: usize,
    units: u32,
    walked: usize,
}

/// The limits, and how to parse the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BacklogLimits<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) options: &'a SocketOptions,
    pub(crate) version: Version,
}

impl Backlog {
    /// Whether to read from the peer, though it is suspended.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room
    }

    /// More was read: `tail` is all that waits now, before `raw_len` bytes that are not opened.
    pub(crate) fn received(&mut self, tail: &[u8], raw_len: usize, to: BacklogLimits<'_>) {
        let BacklogLimits {
            limits,
            options,
            version,
        } = to;
        let legal = Legal {
            command_size_max: limits.traffic_command_size_max(),
            flags: LegalFlags::of(version),
            message_size_max: limits.message_size_max,
        };
        let units_max = match options.rcvhwm {
            0 => u32::MAX,
            limit => limit,
        };
        self.size = tail.len();
        self.has_room = (tail.len() + raw_len) as u64 <= options.rcvhwm_bytes;
        while self.has_room {
            let rest = tail.get(self.walked..).unwrap_or_default();
            let header = match Header::parse(rest, &legal) {
                // The session reports the error when it reaches these bytes.
                Err(_) => return self.end(),
                Ok(None) => return,
                Ok(Some(header)) => header,
            };
            let Some(after) = rest.get(header.size..).map(<[u8]>::len) else {
                return;
            };
            if header.body_size > after {
                return;
            }
            self.walked += header.size + header.body_size;
            self.units += u32::from(!header.more);
            self.has_room = self.units < units_max;
        }
    }

    /// Some of it has gone on and `tail` is left. Returns whether the peer may be read from again.
    pub(crate) fn went_on(&mut self, tail: &[u8], raw_len: usize, to: BacklogLimits<'_>) -> bool {
        if tail.len() > self.size / 2 {
            self.has_room = false;
            return false;
        }
        *self = Self::default();
        self.received(tail, raw_len, to);
        self.has_room
    }

    /// The peer has closed the connection and sends no more.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.end();
    }

    /// Whether the peer has closed the connection, as far as known.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The peer is not read from before all of it has gone on.
    pub(crate) fn end(&mut self) {
        self.has_room = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rcvhwm: u32, rcvhwm_bytes: u64) -> SocketOptions {
        SocketOptions {
            rcvhwm,
            rcvhwm_bytes,
            ..SocketOptions::DEFAULT
        }
    }

    fn to<'a>(options: &'a SocketOptions, limits: &'a Limits) -> BacklogLimits<'a> {
        BacklogLimits {
            limits,
            options,
            version: Version::V3_1,
        }
    }

    /// Two frames of one message, a command, a message.
    const TAIL: &[u8] = b"\x01\x01a\x00\x01b\x04\x05\x04PING\x00\x01c";

    #[test]
    fn whole_messages_and_commands_count_however_they_arrive() {
        for (rcvhwm, room_until) in [(1, 6), (2, 13), (3, 16), (4, usize::MAX), (0, usize::MAX)] {
            let (options, limits) = (options(rcvhwm, 1000), Limits::default());
            let mut backlog = Backlog::default();
            for end in 0..=TAIL.len() {
                backlog.received(&TAIL[..end], 0, to(&options, &limits));
                assert_eq!(
                    backlog.has_room(),
                    end < room_until,
                    "{rcvhwm}: {end} bytes"
                );
                if !backlog.has_room() {
                    break;
                }
            }
        }
    }

    #[test]
    fn bytes_are_limited_whatever_the_number_of_messages() {
        let (options, limits) = (options(0, 15), Limits::default());
        let mut backlog = Backlog::default();
        backlog.received(&TAIL[..15], 0, to(&options, &limits));
        assert!(backlog.has_room());
        backlog.received(TAIL, 0, to(&options, &limits));
        assert!(!backlog.has_room());
    }

    #[test]
    fn there_is_room_again_when_half_has_gone_on() {
        let (options, limits) = (options(3, 1000), Limits::default());
        let mut backlog = Backlog::default();
        backlog.received(TAIL, 0, to(&options, &limits));
        assert!(!backlog.has_room());
        assert!(!backlog.went_on(&TAIL[6..], 0, to(&options, &limits)));
        assert!(backlog.went_on(&TAIL[13..], 0, to(&options, &limits)));
        backlog.received(&TAIL[13..], 0, to(&options, &limits));
        assert!(backlog.has_room(), "one of three");
    }

    #[test]
    fn nothing_is_read_after_malformed_bytes() {
        let (options, limits) = (options(0, 1000), Limits::default());
        let mut backlog = Backlog::default();
        backlog.received(b"\x00\x01a\xff", 0, to(&options, &limits));
        assert!(!backlog.has_room());
    }
}
