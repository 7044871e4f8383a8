//! The peers at both ends of a queue.

use super::wire::{Told, lead};
use super::{Pace, Tools, Wish};
use crate::context::{Nanos, SECOND};
use crate::message::{Header, Purpose, header_of, verify};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use zmtp::SocketType;

/// The number in an answer to the request of a misbehaving peer.
const NO_REQUEST: (u32, u32) = (u32::MAX, u32::MAX);

/// A REQ, DEALER or ROUTER that sends requests.
#[derive(Debug)]
pub(crate) struct Client {
    /// The unanswered requests of this connection, and the times at which it stops waiting.
    awaited: BTreeMap<u32, Nanos>,
    answered: BTreeSet<u32>,
    /// Puts an empty frame in front, as REQ does.
    delimits: bool,
    /// All clients share one request at a time: a late answer goes to the next client.
    is_in_lockstep: bool,
    number: u32,
    pace: Pace,
    window: usize,
}

impl Client {
    pub(crate) fn new(socket_type: SocketType, delimits: bool, window: usize) -> Self {
        let is_req = socket_type == SocketType::Req;
        Self {
            answered: BTreeSet::new(),
            awaited: BTreeMap::new(),
            delimits: delimits || is_req,
            is_in_lockstep: false,
            number: 0,
            pace: Pace::default(),
            window: if is_req { 1 } else { window },
        }
    }

    /// Makes it one of the clients of a REP.
    pub(crate) fn in_lockstep(self) -> Self {
        Self {
            delimits: true,
            is_in_lockstep: true,
            ..self
        }
    }

    pub(crate) fn connected(&mut self) {
        self.awaited.clear();
        self.answered.clear();
        self.number = 0;
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: Told) {
        let Told::Message(message) = told else { return };
        let ctx = &mut *tools.ctx;
        let Some((header, at)) = header_of(ctx.style, &message) else {
            ctx.coverage.add("lies received", 1);
            return;
        };
        if ctx.sender(&header).is_liar {
            return;
        }
        assert_eq!(header.purpose, Purpose::Reply, "a client gets replies");
        verify(ctx.style, &message, &header, at);
        ctx.receive_once(&header);
        ctx.coverage.add("replies", 1);
        let (sender, number) = header.answers;
        if header.answers == NO_REQUEST {
            ctx.coverage.add("answers without a question", 1);
            return;
        }
        if sender == tools.wire.sender {
            assert!(number < self.number, "{header:?} answers nothing");
            assert_eq!(at, usize::from(self.delimits), "envelope of {header:?}");
            assert!(
                self.answered.insert(number),
                "{header:?} is a second answer"
            );
            self.awaited.remove(&number);
            return;
        }
        if self.is_in_lockstep {
            ctx.coverage.add("late answers", 1);
            return;
        }
        let asker = &ctx.senders[sender as usize].identity;
        assert!(
            !asker.is_empty() && *asker == tools.spec.identity,
            "{header:?} is for another client"
        );
        ctx.coverage.add("replies to a former self", 1);
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        let now = tools.ctx.now;
        let count = self.awaited.len();
        self.awaited.retain(|_, until| *until > now);
        let is_strict = tools.spec.socket_type == SocketType::Req || self.is_in_lockstep;
        if self.awaited.len() < count && is_strict {
            tools.ctx.coverage.add("impatient clients", 1);
            return Wish::Close;
        }
        while self.awaited.len() < self.window && self.pace.is_due(tools) {
            let header = Header::new(Purpose::Request, tools.wire.sender, self.number);
            let lead = vec![Vec::new(); usize::from(self.delimits)];
            tools.wire.send(tools.ctx, &lead, &header, tools.spec.pings);
            let patience = tools.ctx.random.range(SECOND..=4 * SECOND);
            self.awaited.insert(self.number, now + patience);
            self.number += 1;
        }
        let patience = self.awaited.values().min().copied();
        match (self.pace.wish(tools), patience) {
            (_, Some(at)) if self.awaited.len() >= self.window => Wish::Turn(at),
            (Wish::Turn(next), Some(at)) => Wish::Turn(next.min(at)),
            (Wish::Wait, Some(at)) if self.is_in_lockstep => Wish::Turn(at),
            (wish, _) => wish,
        }
    }
}

/// A request to answer.
#[derive(Debug)]
struct Task {
    answers: (u32, u32),
    due: Nanos,
    envelope: Vec<Vec<u8>>,
}

/// A REP, DEALER or ROUTER that answers.
#[derive(Debug)]
pub(crate) struct Worker {
    number: u32,
    todo: VecDeque<Task>,
    /// The longest time for an answer.
    effort: Nanos,
    /// Whether it also sends unrequested messages.
    is_chatty: bool,
}

impl Worker {
    pub(crate) fn new(effort: Nanos, is_chatty: bool) -> Self {
        Self {
            effort,
            is_chatty,
            number: 0,
            todo: VecDeque::new(),
        }
    }

    pub(crate) fn hear(&mut self, tools: &mut Tools<'_>, told: Told) {
        let Told::Message(message) = told else {
            return;
        };
        let ctx = &mut *tools.ctx;
        let honest = header_of(ctx.style, &message).filter(|(header, _)| {
            let sender = ctx.sender(header);
            !sender.is_liar
        });
        let Some((header, at)) = honest else {
            // Answered nevertheless, since the broker waits for the answer.
            ctx.coverage.add("lies received", 1);
            self.todo.push_back(Task {
                answers: NO_REQUEST,
                due: ctx.now,
                envelope: lead(&message, 1),
            });
            return;
        };
        assert_eq!(header.purpose, Purpose::Request, "a worker gets requests");
        verify(ctx.style, &message, &header, at);
        ctx.receive_once(&header);
        if at > 0 {
            ctx.overhear(&lead(&message, 1)[0]);
        }
        ctx.coverage.add("requests", 1);
        let due = ctx.now + ctx.random.range(0..=self.effort);
        let answers = (header.sender, header.number);
        self.todo.push_back(Task {
            answers,
            due,
            envelope: lead(&message, at),
        });
    }

    pub(crate) fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        let now = tools.ctx.now;
        while let Some(task) = self.todo.front() {
            if task.due > now && !tools.ctx.is_calm {
                return Wish::Turn(task.due);
            }
            if tools.wire.pending() >= tools.spec.out_max {
                return Wish::Turn(now + SECOND / 100);
            }
            let Some(task) = self.todo.pop_front() else {
                break;
            };
            self.say(tools, &task.envelope, task.answers);
            if self.is_chatty && tools.ctx.random.chance(10) {
                // To a client that never existed, to no client, or to an existing one, perhaps of
                // another proxy.
                let ctx = &mut *tools.ctx;
                let known = &ctx.identities;
                let stranger = match ctx.random.below(3) {
                    0 => Vec::new(),
                    1 => vec![vec![0xee; 5]],
                    _ if known.is_empty() => Vec::new(),
                    _ => vec![known[ctx.random.below(known.len())].clone()],
                };
                self.say(tools, &stranger, NO_REQUEST);
            }
        }
        Wish::Wait
    }

    fn say(&mut self, tools: &mut Tools<'_>, envelope: &[Vec<u8>], answers: (u32, u32)) {
        let mut header = Header::new(Purpose::Reply, tools.wire.sender, self.number);
        header.answers = answers;
        self.number += 1;
        tools
            .wire
            .send(tools.ctx, envelope, &header, tools.spec.pings);
    }
}
