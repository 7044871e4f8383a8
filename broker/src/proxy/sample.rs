//! A sample of the messages that pass, for those who ask for one.
//!
//! It begins with the first question and ends when none follows for a while, so that a proxy whose
//! messages are not looked at does no work for it. It keeps the beginnings of few messages.

use crate::config::Side;
use crate::ids::ConnId;
use crate::limits::{SAMPLE_BYTES_MAX, SAMPLE_FRAMES_MAX, SAMPLE_LEN_MAX};
use crate::peer::PeerAddress;
use crate::proxy::observers::signed;
use std::collections::VecDeque;
use zmtp::Frames;

/// Microseconds after which one more message may be taken.
const PAUSE: i64 = 1_000_000 / SAMPLE_LEN_MAX as i64;

/// Memory of a sample: what it may take, with addresses and names.
pub(crate) const MEMORY: u64 =
    (SAMPLE_LEN_MAX * (SAMPLE_FRAMES_MAX * (SAMPLE_BYTES_MAX + 32) + 1024)) as u64;

/// The newest messages, the oldest first.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The time from which on a message may be taken, in microseconds since the beginning of the
    /// broker. It moves on with each, and is at most a second ago.
    free: i64,
    pub(crate) list: VecDeque<Sampled>,
}

/// The beginning of a frame, and the size of the frame.
pub(crate) type FrameBegin = (Box<[u8]>, usize);

/// The beginning of a message that has passed.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub(crate) frames: Vec<FrameBegin>,
    pub(crate) has_more: bool,
    pub(crate) id: ConnId,
    pub(crate) identity: Box<[u8]>,
    pub(crate) peer: Option<PeerAddress>,
    pub(crate) side: Side,
    /// Bytes of the message on the wire.
    pub(crate) size: usize,
    /// Microseconds since the beginning of the broker.
    pub(crate) stamp: u64,
    pub(crate) user: Option<Box<str>>,
}

impl Sample {
    /// A sample that begins at this time.
    pub(crate) fn new(stamp: u64) -> Self {
        Self {
            free: signed(stamp) - 1_000_000,
            list: VecDeque::new(),
        }
    }

    /// Whether a message that passes at this time is taken; if so, call [`Self::push`].
    pub(crate) fn takes(&mut self, stamp: u64) -> bool {
        let stamp = signed(stamp);
        let next = self.free.max(stamp - 1_000_000) + PAUSE;
        let is_free = next <= stamp;
        if is_free {
            self.free = next;
        }
        is_free
    }

    /// Keeps a message instead of the oldest one.
    pub(crate) fn push(&mut self, message: Sampled) {
        if self.list.len() == SAMPLE_LEN_MAX {
            self.list.pop_front();
        }
        self.list.push_back(message);
    }
}

/// The beginnings of the frames of a message, and whether it has more frames.
pub(crate) fn begin(wire: &[u8]) -> (Vec<FrameBegin>, bool) {
    let mut frames = Frames::new(wire);
    let begin = |body: &[u8]| body[..body.len().min(SAMPLE_BYTES_MAX)].into();
    let first = frames.by_ref().take(SAMPLE_FRAMES_MAX);
    let first = first.map(|frame| (begin(frame.body), frame.body.len()));
    (first.collect(), frames.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmtp::encode::append_message;

    /// The messages that are taken of one each millisecond, from one time to another.
    fn taken(sample: &mut Sample, times: std::ops::Range<u64>) -> usize {
        times.filter(|time| sample.takes(1000 * time)).count()
    }

    #[test]
    fn a_burst_is_taken_and_then_so_many_in_a_second() {
        for begin in [0, 5000] {
            let mut sample = Sample::new(1000 * begin);
            assert_eq!(
                (0..99).filter(|_| sample.takes(1000 * begin)).count(),
                SAMPLE_LEN_MAX
            );
            for second in 0..3 {
                let from = begin + 1000 * second + 1;
                assert_eq!(taken(&mut sample, from..from + 1000), SAMPLE_LEN_MAX);
            }
            let late = 1000 * (begin + 100_000);
            assert_eq!(
                (0..99).filter(|_| sample.takes(late)).count(),
                SAMPLE_LEN_MAX
            );
        }
    }

    #[test]
    fn of_a_message_the_beginnings_of_few_frames_are_kept() {
        let mut wire = Vec::new();
        append_message(&mut wire, &[&b"topic"[..], &[7; 1000], b""]);
        let (frames, has_more) = begin(&wire);
        let sizes: Vec<_> = frames
            .iter()
            .map(|(kept, size)| (kept.len(), *size))
            .collect();
        assert_eq!(sizes, [(5, 5), (SAMPLE_BYTES_MAX, 1000), (0, 0)]);
        assert!(!has_more);
        for (count, expected) in [(SAMPLE_FRAMES_MAX, false), (SAMPLE_FRAMES_MAX + 1, true)] {
            wire.clear();
            append_message(&mut wire, &vec![&b"x"[..]; count]);
            let (frames, has_more) = begin(&wire);
            assert_eq!((frames.len(), has_more), (SAMPLE_FRAMES_MAX, expected));
        }
    }
}
