//! The bytes of a recording. Numbers are little-endian.
//!
//! ```text
//! record:   marker f7 "zqr" | size of the body, 4 | CRC-32 of the body, 4 | CRC-32 of these 12, 4
//!           body: kind, 1 | …
//! begin:    01 | version, 2 | program that wrote it, text to the end
//! message:  02 | time, 8 | direction, 1 | flags, 1 | socket type, 1 | connection, 8
//!           | peer: kind, 1, and its address | size of the source, 2 | source, text
//!           | if a flag says so: size of the user name, 1 | user name, text
//!           | frames as ZMTP has them on the wire, to the end
//! lost:     03 | time, 8 | messages, 8 | bytes, 8
//! ```
//!
//! A header has a checksum of its own, so that its size can be trusted when its body cannot:
//! reading takes linear time, whatever the file contains.

use byteorder::{ByteOrder as _, LittleEndian};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use zmtp::{Deframer, Found, Limits, SocketType, Version};

use crate::config::SocketName;
use crate::peer::PeerAddress;

/// The version of the format, in the first record of each file. It rises when older readers would
/// misread a record; a reader reads all versions up to its own. Version 2 has user names.
pub const VERSION: u16 = 2;

/// The largest body of a record. Longer messages are not recorded but counted as lost, and a reader
/// treats a larger size as damage.
pub const RECORD_SIZE_MAX: u32 = 1 << 30;

/// The first bytes of each record: not text, and rare in other data.
pub(super) const MARKER: [u8; 4] = *b"\xf7zqr";

/// Bytes before a body.
pub(super) const HEADER_SIZE: usize = 16;

const BEGIN: u8 = 1;
const MESSAGE: u8 = 2;
const LOST: u8 = 3;

/// Bytes of a message's body before the peer.
const MESSAGE_FIXED_SIZE: usize = 20;

/// The bit of the flags for "the first frame is an identity".
const ROUTED: u8 = 1;

/// The bit of the flags for "a user name follows the source", since version 2.
const HAS_USER: u8 = 2;

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Received by the frontend.
    In,
    /// Received by the backend, and sent by the frontend.
    Out,
}

/// The origin of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The number of its connection, which distinguishes peers of one source; 0 if unknown.
    pub connection: u64,
    /// Its direction; `None` if unknown.
    pub direction: Option<Direction>,
    /// Whether the first frame is the identity of the peer that sent the message or, on its way
    /// out, receives it.
    pub is_routed: bool,
    /// Its sender; [`None`] if unknown.
    pub peer: Option<PeerAddress>,
    /// The type of the socket that received it; `None` if unknown.
    pub socket_type: Option<SocketType>,
    /// The name of the proxy, or the endpoint of the capture.
    pub source: &'a str,
    /// The user name of its sender; `None` if unknown. At most 255 bytes are recorded.
    pub user: Option<&'a str>,
}

impl<'a> Origin<'a> {
    /// An origin of which only the source is known.
    #[must_use]
    pub fn of(source: &'a str) -> Self {
        Self {
            connection: 0,
            direction: None,
            is_routed: false,
            peer: None,
            socket_type: None,
            source,
            user: None,
        }
    }
}

/// One message of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its frames in wire form, for `zmtp::Frames`.
    pub frames: &'a [u8],
    /// Its origin.
    pub origin: Origin<'a>,
    /// Its time, in nanoseconds since 1970.
    pub time_ns: u64,
}

/// Messages that were not recorded, because the buffer was full or writing failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Their bytes, frame headers included.
    pub bytes: u64,
    /// Their number.
    pub messages: u64,
    /// The time of the next recorded message, in nanoseconds since 1970.
    pub time_ns: u64,
}

/// The content of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Begin {
        version: u16,
    },
    Lost(Lost),
    Message(Message<'a>),
    /// A kind of record from a later version, which is skipped.
    Unknown,
}

impl Direction {
    /// The direction of the messages that a socket receives, if it forwards messages.
    #[must_use]
    pub fn of(side: SocketName) -> Option<Self> {
        match side {
            SocketName::Frontend => Some(Self::In),
            SocketName::Backend => Some(Self::Out),
            SocketName::Capture | SocketName::Control | SocketName::Replay | SocketName::Zap => {
                None
            }
        }
    }

    /// `"in"` or `"out"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The contents of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) body_size: usize,
    checksum: u32,
}

impl Header {
    /// Parses a header; `None` if these bytes are not a header.
    pub(super) fn parse(bytes: &[u8; HEADER_SIZE]) -> Option<Self> {
        let size = LittleEndian::read_u32(&bytes[4..8]);
        let is_header = bytes[..4] == MARKER
            && size <= RECORD_SIZE_MAX
            && LittleEndian::read_u32(&bytes[12..]) == crc32fast::hash(&bytes[..12]);
        is_header.then(|| Self {
            body_size: size as usize,
            checksum: LittleEndian::read_u32(&bytes[8..12]),
        })
    }

    /// Whether the header belongs to this body.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        body.len() == self.body_size && crc32fast::hash(body) == self.checksum
    }
}

/// Bytes of the body of a message record.
pub(super) fn message_size(origin: &Origin<'_>, parts: &[&[u8]]) -> u64 {
    let peer_size = match origin.peer {
        None | Some(PeerAddress::DownLink | PeerAddress::Inproc | PeerAddress::Program) => 0,
        Some(PeerAddress::Ipc { .. }) => 8,
        Some(PeerAddress::Tcp(SocketAddr::V4(_))) => 6,
        Some(PeerAddress::Tcp(SocketAddr::V6(_))) => 22,
    };
    let source_size = source_of(origin).len() as u64;
    let user_size = user_of(origin).map_or(0, |user| 1 + user.len() as u64);
    MESSAGE_FIXED_SIZE as u64 + 1 + peer_size + 2 + source_size + user_size + size_of_all(parts)
}

/// Bytes of all parts of a message.
pub(super) fn size_of_all(parts: &[&[u8]]) -> u64 {
    parts.iter().map(|part| part.len() as u64).sum()
}

/// Appends the record of a message whose body has at most [`RECORD_SIZE_MAX`] bytes, without its
/// checksums, which [`seal`] adds.
pub(super) fn append_message(
    out: &mut Vec<u8>,
    time_ns: u64,
    origin: &Origin<'_>,
    parts: &[&[u8]],
) {
    let start = append_header(out);
    let mut fixed = [0; MESSAGE_FIXED_SIZE];
    fixed[0] = MESSAGE;
    LittleEndian::write_u64(&mut fixed[1..9], time_ns);
    fixed[9] = match origin.direction {
        None => 0,
        Some(Direction::In) => 1,
        Some(Direction::Out) => 2,
    };
    let user = user_of(origin);
    fixed[10] = if origin.is_routed { ROUTED } else { 0 };
    if user.is_some() {
        fixed[10] |= HAS_USER;
    }
    fixed[11] = origin.socket_type.map_or(0, code_of);
    LittleEndian::write_u64(&mut fixed[12..20], origin.connection);
    out.extend_from_slice(&fixed);
    append_peer(out, origin.peer);
    let source = source_of(origin);
    out.extend_from_slice(
        &u16::try_from(source.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    out.extend_from_slice(source.as_bytes());
    if let Some(user) = user {
        out.push(u8::try_from(user.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(user.as_bytes());
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    finish(out, start);
}

/// Appends the record of the messages that are missing before it.
pub(super) fn append_lost(out: &mut Vec<u8>, lost: Lost) {
    let start = append_header(out);
    out.push(LOST);
    for number in [lost.time_ns, lost.messages, lost.bytes] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    finish(out, start);
}

/// Appends the first record of a file.
pub(super) fn append_begin(out: &mut Vec<u8>) {
    let start = append_header(out);
    out.push(BEGIN);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(concat!("zmqd ", env!("CARGO_PKG_VERSION")).as_bytes());
    finish(out, start);
}

/// The record at the beginning of `bytes`, which was appended here, and its whole size; `None` if
/// `bytes` is empty.
pub(super) fn first(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_SIZE>()?;
    let body_size = LittleEndian::read_u32(&header[4..8]) as usize;
    Some((parse(rest.get(..body_size)?)?, HEADER_SIZE + body_size))
}

/// The same; also adds the checksums.
pub(super) fn seal(bytes: &mut [u8]) -> Option<(Record<'_>, usize)> {
    let (header, rest) = bytes.split_first_chunk_mut::<HEADER_SIZE>()?;
    let body_size = LittleEndian::read_u32(&header[4..8]) as usize;
    let body = rest.get(..body_size)?;
    LittleEndian::write_u32(&mut header[8..12], crc32fast::hash(body));
    let checksum = crc32fast::hash(&header[..12]);
    LittleEndian::write_u32(&mut header[12..], checksum);
    Some((parse(body)?, HEADER_SIZE + body_size))
}

/// Parses a body with a valid checksum; `None` if it is malformed. The frames of a message are not
/// checked, see [`is_message`].
pub(super) fn parse(body: &[u8]) -> Option<Record<'_>> {
    let (kind, rest) = body.split_first()?;
    Some(match *kind {
        BEGIN => Record::Begin {
            version: LittleEndian::read_u16(rest.first_chunk::<2>()?),
        },
        MESSAGE => Record::Message(parse_message(body)?),
        LOST => {
            let numbers = rest.first_chunk::<24>()?;
            Record::Lost(Lost {
                bytes: LittleEndian::read_u64(&numbers[16..]),
                messages: LittleEndian::read_u64(&numbers[8..16]),
                time_ns: LittleEndian::read_u64(&numbers[..8]),
            })
        }
        _ => Record::Unknown,
    })
}

/// Whether these bytes are exactly one whole message in wire form.
pub(super) fn is_message(frames: &mut [u8]) -> bool {
    let limits = Limits {
        message_frames_max: u32::MAX,
        message_size_max: u64::MAX,
        ..Limits::default()
    };
    let size = frames.len();
    let found = Deframer::new(Version::V3_1).scan(frames, &limits);
    matches!(found, Ok(Found::Message { skipped: 0, span }) if span.size == size)
}

fn parse_message(body: &[u8]) -> Option<Message<'_>> {
    let (fixed, rest) = body.split_first_chunk::<MESSAGE_FIXED_SIZE>()?;
    let (peer, rest) = parse_peer(rest)?;
    let (size, rest) = rest.split_first_chunk::<2>()?;
    let (source, rest) = rest.split_at_checked(LittleEndian::read_u16(size).into())?;
    let (user, frames) = match fixed[10] & HAS_USER {
        0 => (None, rest),
        _ => {
            let (size, rest) = rest.split_first()?;
            let (user, frames) = rest.split_at_checked(usize::from(*size))?;
            (Some(str::from_utf8(user).ok()?), frames)
        }
    };
    Some(Message {
        frames,
        origin: Origin {
            connection: LittleEndian::read_u64(&fixed[12..]),
            direction: match fixed[9] {
                1 => Some(Direction::In),
                2 => Some(Direction::Out),
                _ => None,
            },
            is_routed: fixed[10] & ROUTED != 0,
            peer,
            socket_type: SOCKET_TYPES
                .get(usize::from(fixed[11]).checked_sub(1).unwrap_or(usize::MAX))
                .copied(),
            source: str::from_utf8(source).ok()?,
            user,
        },
        time_ns: LittleEndian::read_u64(&fixed[1..9]),
    })
}

fn append_peer(out: &mut Vec<u8>, peer: Option<PeerAddress>) {
    match peer {
        None | Some(PeerAddress::DownLink) => out.push(0),
        Some(PeerAddress::Inproc) => out.push(1),
        Some(PeerAddress::Program) => out.push(2),
        Some(PeerAddress::Ipc { pid, uid }) => {
            out.push(3);
            out.extend_from_slice(&pid.to_le_bytes());
            out.extend_from_slice(&uid.to_le_bytes());
        }
        Some(PeerAddress::Tcp(SocketAddr::V4(address))) => {
            out.push(4);
            out.extend_from_slice(&address.ip().octets());
            out.extend_from_slice(&address.port().to_le_bytes());
        }
        Some(PeerAddress::Tcp(SocketAddr::V6(address))) => {
            out.push(6);
            out.extend_from_slice(&address.ip().octets());
            out.extend_from_slice(&address.port().to_le_bytes());
            out.extend_from_slice(&address.scope_id().to_le_bytes());
        }
    }
}

fn parse_peer(bytes: &[u8]) -> Option<(Option<PeerAddress>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    Some(match *kind {
        0 => (None, rest),
        1 => (Some(PeerAddress::Inproc), rest),
        2 => (Some(PeerAddress::Program), rest),
        3 => {
            let (numbers, rest) = rest.split_first_chunk::<8>()?;
            let pid = LittleEndian::read_i32(&numbers[..4]);
            let uid = LittleEndian::read_u32(&numbers[4..]);
            (Some(PeerAddress::Ipc { pid, uid }), rest)
        }
        4 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let ip = IpAddr::V4(Ipv4Addr::from(*ip));
            let address = SocketAddr::new(ip, LittleEndian::read_u16(port));
            (Some(PeerAddress::Tcp(address)), rest)
        }
        6 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (scope, rest) = rest.split_first_chunk::<4>()?;
            let scope = LittleEndian::read_u32(scope);
            let port = LittleEndian::read_u16(port);
            let address = SocketAddrV6::new(Ipv6Addr::from(*ip), port, 0, scope);
            (Some(PeerAddress::Tcp(address.into())), rest)
        }
        _ => return None,
    })
}

/// Socket types in the order of their numbers, from 1 on.
const SOCKET_TYPES: [SocketType; 11] = [
    SocketType::Pair,
    SocketType::Pub,
    SocketType::Sub,
    SocketType::Req,
    SocketType::Rep,
    SocketType::Dealer,
    SocketType::Router,
    SocketType::Pull,
    SocketType::Push,
    SocketType::Xpub,
    SocketType::Xsub,
];

fn code_of(socket_type: SocketType) -> u8 {
    let index = SOCKET_TYPES.iter().position(|one| *one == socket_type);
    index
        .and_then(|index| u8::try_from(index + 1).ok())
        .unwrap_or_default()
}

/// The source, truncated if its size would not fit.
fn source_of<'a>(origin: &Origin<'a>) -> &'a str {
    let end = origin.source.floor_char_boundary(usize::from(u16::MAX));
    &origin.source[..end]
}

/// The user name, truncated if its size would not fit.
fn user_of<'a>(origin: &Origin<'a>) -> Option<&'a str> {
    let user = origin.user?;
    let end = user.floor_char_boundary(usize::from(u8::MAX));
    Some(&user[..end])
}

/// Appends a header without sizes and checksums, and returns its position.
fn append_header(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&[0; HEADER_SIZE - MARKER.len()]);
    start
}

/// Writes the size of the body that ends here into its header.
fn finish(out: &mut [u8], start: usize) {
    let body_size = out.len() - start - HEADER_SIZE;
    debug_assert!(
        body_size as u64 <= u64::from(RECORD_SIZE_MAX),
        "checked by the caller"
    );
    let body_size = u32::try_from(body_size).unwrap_or(u32::MAX);
    LittleEndian::write_u32(&mut out[start + 4..start + 8], body_size);
}
