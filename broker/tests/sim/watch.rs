//! The copies that a capture must send and the answers that a control must give, decided
//! independently of the broker.
//!
//! A copy is due when a message goes on, which is known for each connection after every call of the
//! core. Every reader of the capture at that moment must get the copy, unless its queue is full.

use crate::message::{Key, Style, key_of};
use crate::random::digest;
use broker::config::{CaptureFormat, Overflow, ProxyConfig, SocketName, SocketOptions};
use broker::{ConnId, Core};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use zmtp::{Frames, SocketType};

/// Bytes of an identity that the broker generates.
const MADE_UP_SIZE: u64 = 9;

/// A received message that has not gone on.
#[derive(Debug)]
pub(crate) struct Passing {
    /// Bytes of the bodies of its frames.
    pub(crate) body_bytes: u64,
    /// The digest of all its bytes.
    pub(crate) digest: u64,
    /// The beginning of its first frame.
    pub(crate) first: Vec<u8>,
    pub(crate) frames: u64,
    pub(crate) key: Key,
}

/// The sender of a message that goes on.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) id: ConnId,
    /// Its announced or generated identity, as far as known.
    pub(crate) identity: &'a [u8],
    pub(crate) side: SocketName,
}

/// A reader of the capture, between two calls of the core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Audience<'a> {
    pub(crate) id: ConnId,
    /// It is being closed, so it is unknown whether it got the last copies. Its queue is full.
    pub(crate) is_at_high_water: bool,
    pub(crate) is_closing: bool,
    /// Its queue is full, and the kernel accepts no bytes of it.
    pub(crate) is_full: bool,
    /// It gets the copies to which it did not subscribe.
    pub(crate) is_inverted: bool,
    pub(crate) topics: &'a BTreeSet<Vec<u8>>,
}

/// A copy that a reader must be sent.
#[derive(Clone, Copy, Debug)]
struct Copy {
    /// The number of the call of the core.
    call: u64,
    digest: u64,
    is_excused: bool,
    key: Key,
    /// The number of the message among those of its sender.
    order: u64,
}

#[derive(Clone, Debug, Default)]
struct Reader {
    awaited: BTreeMap<ConnId, VecDeque<Copy>>,
    /// Copies that it missed because its queue was full.
    missed: u64,
    newest_call: u64,
    /// The last position of each sender's messages in the copies sent.
    orders: BTreeMap<ConnId, u64>,
    /// It subscribes to everything.
    takes_all: bool,
    /// Its queue was full at some time.
    was_full: bool,
    /// The last copy of each topic: a subscription, or a cancel.
    view: BTreeMap<Vec<u8>, bool>,
}

/// An answer that a control must give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Empty,
    /// The messages with a topic; if not exactly, at least these.
    Count {
        is_exact: bool,
        messages: u64,
    },
    /// JSON that contains this text.
    Json(String),
    /// Frames and bytes from the frontend and from the backend; if not exactly, at least these.
    Statistics {
        is_exact: bool,
        numbers: [[u64; 2]; 2],
    },
}

/// The capture and the control of one proxy.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    answers: BTreeMap<ConnId, VecDeque<Answer>>,
    /// The messages since a client of the control has first asked for those of a side with a topic.
    counts: BTreeMap<(ConnId, usize, Vec<u8>), u64>,
    /// Messages do not go on without a copy.
    pub(crate) blocks: bool,
    calls: u64,
    has_peers: bool,
    /// Memory is limited, so it is unknown which peers lose messages.
    may_shed: bool,
    /// Copies for readers of the capture, each counted.
    pub(crate) expected: u64,
    /// Answers that expired before they were sent.
    pub(crate) expired: u64,
    is_balanced: bool,
    /// Copies in queues may be dropped again, which is counted.
    is_lossy: bool,
    /// Repeated subscriptions are passed on and shown.
    is_verbose: bool,
    pub(crate) is_paused: bool,
    /// Balanced captures: copies that were sent after newer ones of the same sender.
    pub(crate) late: u64,
    /// Frames and bytes that went on, identities included, from each side.
    passed: [[u64; 2]; 2],
    /// Balanced captures: copies that no reader was sent yet.
    pool: BTreeMap<ConnId, VecDeque<Copy>>,
    /// The frame in front of a copy, if any.
    prefixes: [Option<Vec<u8>>; 2],
    readers: BTreeMap<ConnId, Reader>,
    shown_subscriptions: u64,
    style: Style,
    types: [SocketType; 2],
    /// Answers that were dropped for lack of room.
    pub(crate) unanswered: u64,
    /// Copies that may have been queued or not.
    pub(crate) unsure: u64,
}

impl Watch {
    /// `None` if the proxy has neither capture nor control.
    pub(crate) fn new(
        config: &ProxyConfig,
        (may_shed, is_lossy): (bool, bool),
        style: Style,
    ) -> Option<Self> {
        let has = |side: SocketName| config.socket(side).has_endpoint();
        let capture = &config.capture;
        let prefix = |prefix: &String| {
            let is_monitored = capture.format == CaptureFormat::Monitored;
            is_monitored.then(|| prefix.clone().into_bytes())
        };
        (has(SocketName::Capture) || has(SocketName::Control)).then(|| Self {
            answers: BTreeMap::new(),
            counts: BTreeMap::new(),
            blocks: has(SocketName::Capture)
                && capture.socket_type != SocketType::Pub
                && capture.socket.options.overflow == Overflow::Block,
            calls: 0,
            has_peers: false,
            may_shed,
            expected: 0,
            expired: 0,
            is_lossy,
            is_verbose: {
                let options = &config.backend.options;
                options.xpub_verbose || options.xpub_verboser
            },
            is_balanced: capture.socket_type != SocketType::Pub,
            is_paused: false,
            late: 0,
            passed: [[0; 2]; 2],
            pool: BTreeMap::new(),
            prefixes: [&capture.in_prefix, &capture.out_prefix].map(prefix),
            readers: BTreeMap::new(),
            shown_subscriptions: 0,
            style,
            types: SocketName::SIDES.map(|side| config.socket_type(side)),
            unanswered: 0,
            unsure: 0,
        })
    }

    /// The capture or the control comes or goes: what is known of its former peers is forgotten.
    pub(crate) fn renew(&mut self, side: SocketName, config: &ProxyConfig) {
        let flags = (self.may_shed, self.is_lossy);
        let Some(new) = Self::new(config, flags, self.style) else {
            return;
        };
        if side == SocketName::Control {
            self.answers.clear();
            (self.expired, self.passed, self.unanswered) = (0, new.passed, 0);
            return;
        }
        *self = Self {
            answers: std::mem::take(&mut self.answers),
            calls: self.calls,
            counts: std::mem::take(&mut self.counts),
            expired: self.expired,
            is_paused: self.is_paused,
            passed: self.passed,
            unanswered: self.unanswered,
            ..new
        };
    }

    /// The capture goes: messages do not wait for it any more.
    pub(crate) fn end_copies(&mut self) {
        self.blocks = false;
    }

    /// The core was called once more, with these readers of the capture. Some of its peers may not
    /// be writable any more.
    pub(crate) fn called(&mut self, audience: &[Audience<'_>], has_peers: bool) {
        self.calls += 1;
        self.has_peers = has_peers;
        for reader in audience {
            let known = self.readers.entry(reader.id).or_default();
            known.takes_all = reader.topics.contains(&b""[..]);
            // It is unknown whose queue is shed when memory is short, and which messages were
            // replaced.
            known.was_full |= reader.is_at_high_water || self.may_shed || self.is_lossy;
        }
    }

    /// A message has gone on during the last call.
    pub(crate) fn passed(
        &mut self,
        sender: &Sender<'_>,
        order: u64,
        message: &Passing,
        audience: &[Audience<'_>],
    ) {
        assert!(
            !self.is_paused,
            "{:?} went on through a paused proxy",
            message.key
        );
        let side = usize::from(sender.side == SocketName::Backend);
        let is_labelled = self.types[side] == SocketType::Router;
        for ((_, counted, topic), messages) in &mut self.counts {
            if *counted == side && message.first.starts_with(topic) {
                *messages += 1;
            }
        }
        let [frames, bytes] = &mut self.passed[side];
        *frames += message.frames + u64::from(is_labelled);
        *bytes += message.body_bytes;
        if is_labelled {
            let size = sender.identity.len() as u64;
            *bytes += if size > 0 { size } else { MADE_UP_SIZE };
        }
        let mut copy = Copy {
            call: self.calls,
            digest: message.digest,
            is_excused: false,
            key: message.key,
            order,
        };
        if self.is_balanced {
            if self.has_peers || self.blocks {
                let copies = self.pool.entry(sender.id).or_default();
                copies.push_back(copy);
                self.expected += 1;
            }
            return;
        }
        let first = match &self.prefixes[side] {
            Some(prefix) => prefix,
            // A generated identity begins with a zero.
            None if is_labelled && sender.identity.is_empty() => &[0][..],
            None if is_labelled => sender.identity,
            None => &message.first,
        };
        for reader in audience {
            let is_match = reader.topics.iter().any(|topic| first.starts_with(topic));
            if is_match != reader.is_inverted {
                copy.is_excused =
                    reader.is_full || reader.is_closing || self.may_shed || self.is_lossy;
                self.expected += 1;
                self.unsure += u64::from(reader.is_closing);
                let known = self.readers.entry(reader.id).or_default();
                known.awaited.entry(sender.id).or_default().push_back(copy);
            }
        }
    }

    /// A copy is being sent to a reader; returns the sender of the message and the identity in
    /// front of it, if any.
    pub(crate) fn shown<'a>(
        &mut self,
        id: ConnId,
        copy: &'a [u8],
        side_of: impl Fn(ConnId) -> SocketName,
    ) -> Option<(ConnId, &'a [u8])> {
        for side in SocketName::SIDES {
            let Some((identity, message)) = self.take_apart(side, copy) else {
                continue;
            };
            let digest = digest(self.style.salt, message);
            let known = if self.is_balanced {
                &self.pool
            } else {
                &self.readers.entry(id).or_default().awaited
            };
            let is_it = |copy: &&Copy| copy.digest == digest;
            // A copy of a misbehaving peer may equal another: the one that need not be sent.
            let found = known
                .iter()
                .filter(|(sender, copies)| {
                    side_of(**sender) == side && copies.iter().any(|copy| is_it(&copy))
                })
                .min_by_key(|(_, copies)| {
                    let before = copies.iter().take_while(|copy| !is_it(copy));
                    before.filter(|copy| !copy.is_excused).count()
                });
            if let Some(sender) = found.map(|(sender, _)| *sender) {
                self.show(id, sender, digest);
                return identity.map(|identity| (sender, identity));
            }
        }
        let subscription = self.subscription(copy);
        let (add, topic) = subscription.unwrap_or_else(|| {
            let key = key_of(self.style, copy);
            panic!("{id:?} was shown {key:?}, which did not go on, or was shown before, or changed")
        });
        self.shown_subscriptions += 1;
        if self.is_balanced {
            return None;
        }
        let reader = self.readers.entry(id).or_default();
        if !reader.takes_all {
            return None;
        }
        let former = reader.view.insert(topic.clone(), add);
        assert!(
            former != Some(add) || reader.was_full || self.is_verbose,
            "{id:?} was shown twice, though its queue was never full: {} {add}",
            topic.escape_ascii()
        );
        None
    }

    fn show(&mut self, id: ConnId, sender: ConnId, digest: u64) {
        let reader = self.readers.entry(id).or_default();
        let known = if self.is_balanced {
            &mut self.pool
        } else {
            &mut reader.awaited
        };
        let copies = known.get_mut(&sender).expect("it was found");
        let at = copies.iter().position(|copy| copy.digest == digest);
        let at = at.expect("it was found");
        let copy = copies.remove(at).expect("it was found");
        if self.is_balanced {
            let last = reader.orders.entry(sender).or_default();
            self.late += u64::from(copy.order < *last);
            *last = copy.order.max(*last);
            return;
        }
        for missed in copies.drain(..at) {
            assert!(
                missed.is_excused,
                "{id:?} was not shown {:?} though its queue was not full; then came {:?}",
                missed.key, copy.key
            );
            assert!(
                missed.call < copy.call || self.may_shed || self.is_lossy,
                "{id:?} was shown {:?} though its queue had been full before",
                copy.key
            );
            reader.missed += 1;
        }
        assert!(
            reader.newest_call <= copy.call,
            "{id:?} was shown {:?} after a later message",
            copy.key
        );
        reader.newest_call = copy.call;
    }

    /// Divides a copy of a message that `side` received into the identity of its sender, if in
    /// front, and the message.
    fn take_apart<'a>(
        &self,
        side: SocketName,
        copy: &'a [u8],
    ) -> Option<(Option<&'a [u8]>, &'a [u8])> {
        let side = usize::from(side == SocketName::Backend);
        let mut frames = Frames::new(copy);
        if let Some(prefix) = &self.prefixes[side] {
            frames
                .next()
                .filter(|frame| frame.more && frame.body == prefix)?;
        }
        let mut identity = None;
        if self.types[side] == SocketType::Router {
            let frame = frames.next().filter(|frame| frame.more)?;
            identity = Some(frame.body);
        }
        Some((identity, frames.rest()))
    }

    /// The subscription or cancel in a copy, if it is one that an XPUB passes on.
    fn subscription(&self, copy: &[u8]) -> Option<(bool, Vec<u8>)> {
        let (_, message) = self.take_apart(SocketName::Backend, copy)?;
        let frame = Frames::new(message).next().filter(|frame| !frame.more)?;
        let (first, topic) = frame.body.split_first()?;
        let is_one = self.types[1] == SocketType::Xpub && *first < 2;
        is_one.then(|| (*first == 1, topic.to_vec()))
    }

    /// A control received this command or question, which kicks this number of peers; returns the
    /// number of answers.
    pub(crate) fn asked(
        &mut self,
        id: ConnId,
        command: &[u8],
        kicked: usize,
        is_rep: bool,
    ) -> usize {
        let answer = match command {
            b"PAUSE" | b"RESUME" => {
                self.is_paused = command == b"PAUSE";
                is_rep.then_some(Answer::Empty)
            }
            b"STATISTICS" => Some(Answer::Statistics {
                // It is unknown when the subscriptions of dead peers are cancelled.
                is_exact: self.types[1] != SocketType::Xpub,
                numbers: self.passed,
            }),
            [b'{', ..] => {
                let text = String::from_utf8_lossy(command);
                let word = text.split('"').nth(3).unwrap_or_default();
                if word == "count" {
                    let answer = self.count(id, &text);
                    self.answers.entry(id).or_default().push_back(answer);
                    return 1;
                }
                Some(Answer::Json(match word {
                    "kick" if kicked == 0 => "{\"error\":\"".to_owned(),
                    "kick" => "{\"kicked\":[\"".to_owned(),
                    "statistics" => format!("\"paused\":{}", self.is_paused),
                    word => format!("\"{word}\":["),
                }))
            }
            _ => is_rep.then_some(Answer::Empty),
        };
        let count = usize::from(answer.is_some());
        self.answers.entry(id).or_default().extend(answer);
        count
    }

    /// The answer to a question for a count by topic.
    fn count(&mut self, id: ConnId, question: &str) -> Answer {
        let value = |index| question.split('"').nth(index).unwrap_or_default();
        let side = usize::from(value(7) == "backend");
        let topic = value(11);
        let topic = topic.as_bytes().to_vec();
        let messages = self.counts.entry((id, side, topic)).or_default();
        Answer::Count {
            // Subscriptions that are passed on are messages too.
            is_exact: side == 0 || self.types[1] != SocketType::Xpub,
            messages: *messages,
        }
    }

    /// The control answers a question that it got earlier.
    pub(crate) fn answer_later(&mut self, id: ConnId) {
        let answer = Answer::Json("\"changes\":[\"a change\"]".to_owned());
        self.answers.entry(id).or_default().push_back(answer);
    }

    /// This number of answers is queued: those before them have expired.
    pub(crate) fn keep_answers(&mut self, id: ConnId, queued: u32) {
        let answers = self.answers.entry(id).or_default();
        while answers.len() > queued as usize {
            answers.pop_front();
            self.expired += 1;
        }
    }

    /// The last `count` answers had no room, or their peer has left.
    pub(crate) fn not_answered(&mut self, id: ConnId, count: usize, is_full: bool) {
        let answers = self.answers.entry(id).or_default();
        answers.truncate(answers.len() - count);
        self.unanswered += if is_full { count as u64 } else { 0 };
    }

    /// A control answers.
    pub(crate) fn answered(&mut self, id: ConnId, message: &[u8], is_rep: bool) {
        let mut frames = Frames::new(message);
        if is_rep {
            while frames.next().is_some_and(|frame| !frame.body.is_empty()) {}
        }
        let bodies: Vec<&[u8]> = frames.map(|frame| frame.body).collect();
        let answer = self.answers.entry(id).or_default().pop_front();
        match answer.unwrap_or_else(|| panic!("{id:?} was answered without a question")) {
            Answer::Empty => assert_eq!(bodies, [b""], "the answer to a command"),
            Answer::Count { is_exact, messages } => {
                let [body] = bodies[..] else {
                    panic!("an answer of {} frames", bodies.len())
                };
                let body = String::from_utf8_lossy(body);
                let told = body.split([':', '}']).nth(1).map(str::parse::<u64>);
                let Some(Ok(told)) = told else {
                    panic!("{body} is not a count")
                };
                let is_right = told == messages || !is_exact && told > messages;
                assert!(is_right, "{body} instead of {messages}");
            }
            Answer::Json(text) => {
                let [body] = bodies[..] else {
                    panic!("an answer of {} frames", bodies.len())
                };
                let body = String::from_utf8_lossy(body);
                assert!(body.contains(&text), "{text} is not in the answer {body}");
            }
            Answer::Statistics { is_exact, numbers } => {
                check_statistics(&bodies, numbers, is_exact)
            }
        }
    }

    /// The capture has dropped this number of copies; the world is quiet. If its proxy was told to
    /// end, it may have dropped what no reader was left to take.
    pub(crate) fn check_quiet(
        &self,
        what: &str,
        (dropped, requeued, is_ended): (u64, Option<u64>, bool),
        is_live: impl Fn(ConnId) -> bool,
    ) {
        let left = |copies: &BTreeMap<ConnId, VecDeque<Copy>>| {
            copies
                .values()
                .map(|copies| copies.len() as u64)
                .sum::<u64>()
        };
        let lost = left(&self.pool);
        if self.blocks && !self.is_lossy && !is_ended {
            assert_eq!(lost, 0, "{what}: messages that went on without a copy");
        }
        if self.is_balanced {
            // Dropped copies may be subscriptions too.
            let has_others = self.types[1] == SocketType::Xpub && lost < dropped;
            assert!(
                lost == dropped || has_others,
                "{what}: {lost} missed, {dropped} dropped"
            );
        }
        if let Some(requeued) = requeued {
            assert!(self.late <= requeued, "{what}: {} copies late", self.late);
        }
        let mut missed = 0;
        for (id, reader) in &self.readers {
            if !is_live(*id) {
                continue;
            }
            missed += reader.missed + left(&reader.awaited);
            for copy in reader.awaited.values().flatten() {
                assert!(
                    copy.is_excused,
                    "{id:?} was not shown {:?} though its queue was not full",
                    copy.key
                );
            }
        }
        if !self.is_balanced {
            assert!(
                missed <= dropped,
                "{what}: {missed} missed, {dropped} dropped"
            );
        }
        for (id, answers) in self.answers.iter().filter(|(id, _)| is_live(**id)) {
            assert!(
                answers.is_empty(),
                "{what}: {id:?} was not answered: {answers:?}"
            );
        }
    }

    /// The last copy of each topic at readers that missed nothing, for subscriptions.
    pub(crate) fn views(
        &self,
    ) -> (
        impl Iterator<Item = (ConnId, &BTreeMap<Vec<u8>, bool>)>,
        u64,
    ) {
        let readers = self.readers.iter().filter(|(_, reader)| !reader.was_full);
        let views = readers.map(|(id, reader)| (*id, &reader.view));
        (views, self.shown_subscriptions)
    }
}

/// Whether the queue of a connection is full.
pub(crate) fn is_at_high_water(core: &Core, id: ConnId, options: &SocketOptions) -> bool {
    core.egress(id).is_some_and(|egress| {
        (options.sndhwm != 0 && egress.messages() >= options.sndhwm)
            || egress.bytes() >= options.sndhwm_bytes
    })
}

fn check_statistics(bodies: &[&[u8]], numbers: [[u64; 2]; 2], is_exact: bool) {
    let number = |body: &&[u8]| u64::from_ne_bytes((*body).try_into().expect("eight bytes"));
    let told: Vec<u64> = bodies.iter().map(number).collect();
    let [front, back] = numbers;
    let expected = [front, back, back, front].concat();
    if is_exact {
        assert_eq!(told, expected, "STATISTICS");
        return;
    }
    assert_eq!(told.len(), expected.len(), "STATISTICS");
    assert_eq!(
        (told[0], told[1]),
        (front[0], front[1]),
        "STATISTICS of the frontend"
    );
    assert!(
        told[2] >= back[0] && told[3] >= back[1],
        "STATISTICS of the backend: {told:?}, at least {expected:?}"
    );
    assert_eq!(
        told[4..],
        [told[2], told[3], told[0], told[1]],
        "STATISTICS"
    );
}
