//! A peer that asks for messages that have passed.

use super::wire::{Told, lead};
use super::{Pace, Tools, Wish};
use crate::message::{header_of, verify};
use zmtp::Frames;

/// A DEALER that asks a forwarder for messages again.
#[derive(Debug, Default)]
pub(crate) struct Asker {
    /// Whether an answer is under way.
    is_waiting: bool,
    /// The least number that the next message may have.
    next: u64,
    pace: Pace,
    prefix: Vec<u8>,
}

impl Asker {
    pub(crate) fn connected(&mut self) {
        self.is_waiting = false;
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: &Told) {
        let Told::Message(message) = told else { return };
        assert!(self.is_waiting, "an answer to nothing");
        let number = <[u8; 8]>::try_from(&lead(message, 1)[0][..]).expect("a number");
        let number = u64::from_be_bytes(number);
        let mut frames = Frames::new(message);
        let is_last = frames.next().is_some_and(|frame| !frame.more);
        if is_last {
            self.is_waiting = false;
            // What it has asked for may have gone.
            assert!(
                number >= self.next.min(number),
                "the end is before the beginning"
            );
            tools.ctx.coverage.add("replays", 1);
            self.next = number;
            return;
        }
        assert!(number >= self.next, "{number} came after {}", self.next);
        self.next = number + 1;
        let rest = frames.rest();
        let topic = Frames::new(rest)
            .next()
            .expect("a message has a frame")
            .body;
        assert!(topic.starts_with(&self.prefix), "it asked for other topics");
        tools.ctx.coverage.add("messages again", 1);
        if let Some((header, at)) = header_of(tools.ctx.style, rest)
            && !tools.ctx.sender(&header).is_liar
        {
            verify(tools.ctx.style, rest, &header, at);
        }
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        if self.is_waiting {
            return Wish::Wait;
        }
        if self.pace.is_due(tools) {
            let random = &mut tools.ctx.random;
            // From the beginning, or where it has stopped.
            self.next = random.pick(&[0, self.next]);
            self.prefix = random.pick(&[&b""[..], b"a", b"bb"]).to_vec();
            let frames = [self.next.to_be_bytes().to_vec(), self.prefix.clone()];
            let pings = tools.spec.pings;
            tools.wire.send_frames(random, &frames, pings);
            self.is_waiting = true;
        }
        match self.pace.wish(tools) {
            _ if self.is_waiting => Wish::Wait,
            wish => wish,
        }
    }
}
