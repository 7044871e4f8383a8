//! ZAP handlers: they decide about the peers of a broker, rightly or not, in time or not.

use super::wire::Told;
use super::{Tools, Wish};
use crate::context::{Nanos, SECOND};
use std::collections::VecDeque;
use zmtp::Frames;

/// The user names that handlers give; some have roles.
const NAMES: [&str; 4] = ["", "guest", "user-1", "client-2"];

/// A REP or ROUTER that answers requests (RFC 27).
#[derive(Debug, Default)]
pub(crate) struct Handler {
    hangs_up: bool,
    /// Answers, and when they are due.
    todo: VecDeque<(Nanos, Vec<Vec<u8>>)>,
}

impl Handler {
    pub(crate) fn connected(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: &Told) {
        let Told::Message(message) = told else { return };
        let ctx = &mut *tools.ctx;
        let frames: Vec<Vec<u8>> = Frames::new(message).map(|it| it.body.to_vec()).collect();
        let number = &frames[2];
        let user = ctx.random.pick(&NAMES).as_bytes();
        let granted = answer(number, b"200", user);
        // In the end every peer may come in at once.
        let choice = if ctx.is_calm {
            99
        } else {
            ctx.random.below(24)
        };
        let later = ctx.now + ctx.random.range(0..=3 * SECOND);
        let now = ctx.now;
        let answers = match choice {
            0 | 1 => vec![(now, answer(number, b"400", b""))],
            2 => vec![(now, answer(number, b"300", b""))],
            3 => vec![(now, answer(number, b"500", user))],
            4 => vec![(now, answer(number, b"2OO", user))],
            5 => vec![(now, answer(number, b"200", b"\x1b[2J"))],
            6 => vec![(now, vec![Vec::new(), b"1.0".to_vec(), number.clone()])],
            7 => vec![(now, vec![b"nonsense".to_vec()])],
            // The number of another request, perhaps.
            8 => {
                let other = ctx.random.below(40).to_string();
                vec![(now, answer(other.as_bytes(), b"200", user))]
            }
            9 => vec![(now, granted), (now, answer(number, b"400", b""))],
            10 => vec![(now, answer(number, b"400", b"")), (now, granted)],
            11 => Vec::new(),
            12..15 => vec![(later, granted)],
            15 => {
                ctx.coverage.add("handlers that vanish", 1);
                self.hangs_up = true;
                Vec::new()
            }
            _ => vec![(now, granted)],
        };
        self.todo.extend(answers);
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        if self.hangs_up && !tools.ctx.is_calm {
            return Wish::Close;
        }
        let (now, is_calm) = (tools.ctx.now, tools.ctx.is_calm);
        let (due, later): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.todo)
            .into_iter()
            .partition(|(at, _)| is_calm || *at <= now);
        self.todo = later;
        for (_, frames) in due {
            let pings = tools.spec.pings;
            let random = &mut tools.ctx.random;
            tools.wire.send_frames(random, &frames, pings);
        }
        let next = self.todo.iter().map(|(at, _)| *at).min();
        next.map_or(Wish::Wait, Wish::Turn)
    }
}

/// An answer: delimiter, version, number, status, its text, user, metadata.
fn answer(number: &[u8], status: &[u8], user: &[u8]) -> Vec<Vec<u8>> {
    let frames: [&[u8]; 7] = [b"", b"1.0", number, status, b"text", user, b""];
    frames.map(<[u8]>::to_vec).into()
}
