//! Commands: bodies of frames with the COMMAND flag, `name-size(1) name data`.

use crate::error::{Malformed, Reason};
use crate::limits::{ERROR_REASON_SIZE_MAX, PING_CONTEXT_SIZE_MAX};
use crate::wire::frame::append_command;
use crate::wire::loop_check::{self, LoopCommand, Parsed};
use byteorder::{BigEndian, ByteOrder};
use bytes::BufMut;

/// A parsed command; borrows its data from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// CANCEL: the peer no longer wants this topic.
    Cancel(&'a [u8]),
    /// ERROR: the peer refuses us, with its reason.
    Error(Reason),
    /// ZMQD-JOIN: no loop was found, messages may pass from now on.
    Join,
    /// ZMQD-UP, ZMQD-PROBE and ZMQD-LOOP: brokers look for loops.
    LoopCheck(LoopCommand),
    /// PING: the peer asks for a sign of life.
    Ping {
        /// To be echoed; at most 16 bytes.
        context: &'a [u8],
        /// How long the peer may be silent from now on, in tenths of a second; 0 for any time.
        ttl_deciseconds: u16,
    },
    /// PONG: the answer to a PING of ours.
    Pong,
    /// READY: the peer's property list.
    Ready(&'a [u8]),
    /// SUBSCRIBE: the peer wants this topic.
    Subscribe(&'a [u8]),
    /// Any other command; ignored once the handshake is over.
    Unknown,
}

impl<'a> Command<'a> {
    /// Parses the body of a command frame.
    ///
    /// # Errors
    /// The name, or a field of a known command, runs past the end.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let (name, data) = split_name(body)?;
        Ok(match name {
            b"CANCEL" => Self::Cancel(data),
            b"ERROR" => {
                let (&size, text) = data.split_first().ok_or(Malformed::ErrorReason)?;
                let text = text
                    .get(..usize::from(size))
                    .ok_or(Malformed::ErrorReason)?;
                Self::Error(Reason::new(text))
            }
            b"PING" => {
                let (ttl, context) = data.split_at_checked(2).ok_or(Malformed::Ping)?;
                // Longer contexts are cut, as in libzmq (RFC 37 allows 16 bytes).
                let context = context.get(..PING_CONTEXT_SIZE_MAX).unwrap_or(context);
                Self::Ping {
                    context,
                    ttl_deciseconds: BigEndian::read_u16(ttl),
                }
            }
            b"PONG" => Self::Pong,
            b"READY" => Self::Ready(data),
            b"SUBSCRIBE" => Self::Subscribe(data),
            _ => match loop_check::parse(name, data)? {
                Some(Parsed::Join) => Self::Join,
                Some(Parsed::Said(said)) => Self::LoopCheck(said),
                None => Self::Unknown,
            },
        })
    }
}

/// Splits the body of a command frame into name and data.
///
/// # Errors
/// If the name runs past the end.
pub fn split_name(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (&size, rest) = body.split_first().ok_or(Malformed::CommandName)?;
    rest.split_at_checked(usize::from(size))
        .ok_or(Malformed::CommandName)
}

/// Appends ERROR with the beginning of `reason`.
pub fn append_error(out: &mut impl BufMut, reason: &str) {
    let mut data = Vec::with_capacity(1 + reason.len());
    let text = reason
        .as_bytes()
        .get(..ERROR_REASON_SIZE_MAX)
        .unwrap_or(reason.as_bytes());
    data.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    data.extend_from_slice(text);
    append_command(out, "ERROR", &data);
}

/// Appends PING without a context, as libzmq does.
pub fn append_ping(out: &mut impl BufMut, ttl_deciseconds: u16) {
    append_command(out, "PING", &ttl_deciseconds.to_be_bytes());
}

/// Appends PONG with the context of the PING it answers.
pub fn append_pong(out: &mut impl BufMut, context: &[u8]) {
    append_command(out, "PONG", context);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_table() {
        let table: [(&[u8], Result<Command<'_>, Malformed>); 12] = [
            (b"\x05READYdata", Ok(Command::Ready(b"data"))),
            (b"\x09SUBSCRIBE", Ok(Command::Subscribe(b""))),
            (b"\x06CANCELtopic", Ok(Command::Cancel(b"topic"))),
            (
                b"\x04PING\x02\x8bctx",
                Ok(Command::Ping {
                    context: b"ctx",
                    ttl_deciseconds: 651,
                }),
            ),
            (b"\x04PING\x00", Err(Malformed::Ping)),
            (b"\x04PONGctx", Ok(Command::Pong)),
            (b"\x05ERROR\x03400", Ok(Command::Error(Reason::new(b"400")))),
            (b"\x05ERROR\x04400", Err(Malformed::ErrorReason)),
            (b"\x05ERROR", Err(Malformed::ErrorReason)),
            (b"\x04JOINgroup", Ok(Command::Unknown)),
            (b"\x06READY", Err(Malformed::CommandName)),
            (b"", Err(Malformed::CommandName)),
        ];
        for (body, expected) in table {
            assert_eq!(Command::parse(body), expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn a_long_ping_context_is_cut_to_sixteen_bytes() {
        let mut body = b"\x04PING\0\0".to_vec();
        body.extend([7; 58]);
        let expected = Command::Ping {
            context: &[7; 16],
            ttl_deciseconds: 0,
        };
        assert_eq!(Command::parse(&body), Ok(expected));
    }

    #[test]
    fn an_error_reason_longer_than_its_length_byte_is_cut() {
        let mut out = Vec::new();
        append_error(&mut out, &"x".repeat(300));
        assert_eq!(
            Command::parse(&out[9..]),
            Ok(Command::Error(Reason::new(&[b'x'; 255])))
        );
    }
}
