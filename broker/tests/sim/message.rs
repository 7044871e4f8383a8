//! Numbered messages: sender, number and purpose determine every byte.
//!
//! ```text
//! [prefix of the pattern: topic, identities, delimiter] [header, filler] [extra]…
//! ```
//!
//! The receiver builds the message again from its header and compares every byte. A deletion is the
//! topic of a publication and empty frames: the topic names both.

use crate::random::{Random, digest, mix};
use std::sync::LazyLock;
use zmtp::Frames;
use zmtp::encode::append_frame;
use zmtp::wire::header::MORE;

/// The purpose of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Request,
    Reply,
    Publication,
    /// From a subscriber to the publishers.
    Upstream,
    Item,
    /// Of a topic: it has no content.
    Deletion,
}

/// The first bytes of each message's header frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) purpose: Purpose,
    /// Different for every connection of every peer.
    pub(crate) sender: u32,
    pub(crate) number: u32,
    /// The request, if this is a reply.
    pub(crate) answers: (u32, u32),
}

/// The key by which the model distinguishes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A numbered message.
    Numbered(Purpose, u32, u32),
    /// A message of a misbehaving peer, by its digest.
    Other(u64),
}

/// The sizes of the messages of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Tiny,
    Mixed,
    Large,
}

/// Properties that all messages of a run share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Publishers have topics of their own, and delete them.
    pub(crate) deletes: bool,
    pub(crate) profile: Profile,
    pub(crate) salt: u64,
}

const HEADER_SIZE: usize = 32;
const MAGIC: [u8; 3] = *b"\xfeZ\x07";
/// No frame is longer.
const PART_SIZE_MAX: usize = 100_000;
const NOISE_SIZE: usize = 256 << 10;

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    (0..NOISE_SIZE / 8)
        .flat_map(|_| random.next().to_le_bytes())
        .collect()
});

impl Header {
    pub(crate) fn new(purpose: Purpose, sender: u32, number: u32) -> Self {
        Self {
            purpose,
            sender,
            number,
            answers: (0, 0),
        }
    }

    pub(crate) fn key(&self) -> Key {
        Key::Numbered(self.purpose, self.sender, self.number)
    }

    fn emit(&self, style: Style) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes[3] = self.purpose as u8;
        bytes[4..8].copy_from_slice(&self.sender.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.number.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.answers.0.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.answers.1.to_be_bytes());
        let check = digest(style.salt, &bytes[..24]);
        bytes[24..].copy_from_slice(&check.to_be_bytes());
        bytes
    }

    fn parse(style: Style, frame: &[u8]) -> Option<Self> {
        let bytes = frame.first_chunk::<HEADER_SIZE>()?;
        let number = |at: usize| {
            let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_be_bytes(four)
        };
        let purpose = match bytes[3] {
            0 => Purpose::Request,
            1 => Purpose::Reply,
            2 => Purpose::Publication,
            3 => Purpose::Upstream,
            _ => Purpose::Item,
        };
        let header = Self {
            purpose,
            sender: number(4),
            number: number(8),
            answers: (number(12), number(16)),
        };
        (header.emit(style) == *bytes).then_some(header)
    }

    /// Sizes and offsets in the noise of its frames, the filler after the header first.
    fn parts(&self, style: Style) -> Vec<(usize, usize)> {
        let identity = mix(u64::from(self.sender) << 32 | u64::from(self.number));
        let mut random = Random::new(style.salt ^ identity ^ self.purpose as u64);
        let count = match random.below(8) {
            0..=2 => 1,
            3 | 4 => 2,
            5 => 3,
            6 => 4,
            _ => 5,
        };
        let mut part = || {
            let size = part_size(style.profile, &mut random);
            (random.below(NOISE_SIZE - PART_SIZE_MAX), size)
        };
        (0..count).map(|_| part()).collect()
    }

    /// The frames of the message after the prefix of its pattern.
    pub(crate) fn frames(&self, style: Style) -> Vec<Vec<u8>> {
        let part = |(at, size): (usize, usize)| NOISE[at..at + size].to_vec();
        let mut frames: Vec<Vec<u8>> = self.parts(style).into_iter().map(part).collect();
        frames[0].splice(..0, self.emit(style));
        frames
    }

    /// The topic of a publication. Of three in a row, the first two have one of their own if
    /// publishers delete.
    pub(crate) fn topic(&self, style: Style) -> Vec<u8> {
        let is_own = style.deletes && self.number % 3 < 2;
        let number = self.number - if is_own { self.number % 3 } else { 0 };
        let identity = mix(u64::from(number) << 32 | u64::from(self.sender));
        let mut random = Random::new(style.salt ^ identity);
        let mut topic: Vec<u8> = (0..random.below(4)).map(|_| random.pick(b"ab")).collect();
        if is_own {
            topic.extend(self.sender.to_be_bytes());
            topic.extend(number.to_be_bytes());
        }
        topic
    }

    /// Whether a deletion may follow this publication.
    pub(crate) fn may_be_deleted(&self, style: Style) -> bool {
        style.deletes && self.number % 3 < 2
    }
}

/// The header of the publication that a message deletes: the one before it or another one of the
/// same topic. A second empty frame tells them apart.
pub(crate) fn deletion_of(style: Style, message: &[u8]) -> Option<Header> {
    let mut frames = Frames::new(message);
    let topic = frames.next().filter(|frame| style.deletes && frame.more)?;
    let bytes = topic.body.last_chunk::<8>()?;
    let [sender, number] = [0, 4].map(|at| {
        let four = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        u32::from_be_bytes(four)
    });
    let empty: Vec<bool> = frames.map(|frame| frame.body.is_empty()).collect();
    let behind = u32::try_from(empty.len()).ok()?;
    let number = number.checked_add(behind.checked_sub(1)?)?;
    let header = Header::new(Purpose::Deletion, sender, number);
    let is_right = empty.iter().all(|it| *it) && behind <= 2 && header.topic(style) == topic.body;
    is_right.then_some(header)
}

/// The frames of a message that deletes this publication.
pub(crate) fn deletion(style: Style, header: &Header) -> Vec<Vec<u8>> {
    let behind = 1 + header.number as usize % 3;
    let mut frames = vec![Vec::new(); 1 + behind];
    frames[0] = header.topic(style);
    frames
}

/// Sizes on both sides of every threshold in the broker.
fn part_size(profile: Profile, random: &mut Random) -> usize {
    let around = |middle: usize, random: &mut Random| middle - 48 + random.below(64);
    let class = match profile {
        Profile::Tiny => 0,
        Profile::Mixed => random.below(100),
        Profile::Large => 60 + random.below(40),
    };
    match class {
        0..76 => random.below(60),
        76..85 => around(256, random),
        85..92 => around(16 << 10, random),
        92..96 => around(64 << 10, random),
        _ => random.below(PART_SIZE_MAX),
    }
}

/// The header of a message, and the number of frames before it.
pub(crate) fn header_of(style: Style, message: &[u8]) -> Option<(Header, usize)> {
    Frames::new(message)
        .take(8)
        .zip(0..)
        .find_map(|(frame, at)| Some((Header::parse(style, frame.body)?, at)))
}

/// The model's key of a message.
pub(crate) fn key_of(style: Style, message: &[u8]) -> Key {
    header_of(style, message).map_or_else(
        || match deletion_of(style, message) {
            Some(header) => header.key(),
            None => Key::Other(digest(style.salt, message)),
        },
        |(header, _)| header.key(),
    )
}

/// A message without the number that a forwarder has put behind it, and the number.
pub(crate) fn take_number(message: &[u8]) -> (Vec<u8>, u64) {
    let mut frames = Frames::new(message);
    let (mut last, mut before) = (0, 0);
    loop {
        let at = message.len() - frames.rest().len();
        if frames.next().is_none() {
            break;
        }
        (before, last) = (last, at);
    }
    let number = Frames::new(&message[last..]).next().expect("a frame").body;
    let number = <[u8; 8]>::try_from(number).expect("a number of 8 bytes");
    let mut bytes = message[..last].to_vec();
    bytes[before] &= !MORE;
    (bytes, u64::from_be_bytes(number))
}

/// Panics unless every byte after the first `lead` frames is as the header determines.
pub(crate) fn verify(style: Style, message: &[u8], header: &Header, lead: usize) {
    let mut frames = Frames::new(message).skip(lead);
    let parts = header.parts(style);
    for (index, (at, size)) in parts.iter().enumerate() {
        let frame = frames
            .next()
            .unwrap_or_else(|| panic!("{header:?} lost frames from {index} on"));
        let skip = if index == 0 { HEADER_SIZE } else { 0 };
        assert_eq!(
            frame.body.len(),
            skip + size,
            "{header:?}: size of frame {index}"
        );
        assert!(
            frame.body[skip..] == NOISE[*at..at + size],
            "{header:?}: bytes of frame {index} changed"
        );
        assert_eq!(
            frame.more,
            index + 1 < parts.len(),
            "{header:?}: MORE of frame {index}"
        );
    }
}

/// Appends a frame, sometimes in the long form although it is short, which is legal.
pub(crate) fn append(out: &mut Vec<u8>, body: &[u8], more: bool, random: &mut Random) {
    if body.len() < 256 && random.chance(3) {
        out.push(2 | u8::from(more));
        out.extend((body.len() as u64).to_be_bytes());
        out.extend_from_slice(body);
    } else {
        append_frame(out, body, more);
    }
}
