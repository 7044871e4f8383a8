//! The bytes that one connection of a broker has read and written, interpreted independently of it.

use crate::context::SocketKey;
use crate::message::{Key, Style, key_of};
use crate::model::{Contest, Offers, Part};
use crate::net::Plug;
use crate::plain;
use crate::random::digest;
use crate::watch::Passing;
use broker::config::{Admission, Network, Reject, SocketConfig, SocketName, SocketOptions};
use broker::limits::CACHE_TOPIC_SIZE_MAX;
use broker::{ConnId, SLICES_MAX};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;
use zmtp::curve::PublicKey;
use zmtp::encode::append_frame;
use zmtp::limits::{GREETING_SIZE, GREETING_V2_SIZE, SIGNATURE_SIZE};
use zmtp::{
    Authorization, Credentials, Error, Event, Frames, Limits, LoopCheck, LoopCommand, Opener, Peer,
    Session, SessionConfig, SocketType, Step,
};

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Handshake,
    Ready,
    Closed,
}

/// A message that a connection must be sent, unless its queue is full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// The time at which the broker was given the message.
    pub(crate) at: Instant,
    /// The number of the broker's input.
    pub(crate) batch: u64,
    /// The queue was full after its input, so that the message may be missing.
    pub(crate) is_excused: bool,
    /// The input was handled in one go: once a queue is full it stays full.
    pub(crate) is_single: bool,
    pub(crate) key: Key,
    /// Its position among all messages that get numbers, if known.
    pub(crate) number: Option<u64>,
}

/// A message that a connection is being sent.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) key: Key,
    /// The number behind it.
    pub(crate) number: Option<u64>,
    pub(crate) topic: Vec<u8>,
}

/// A received message whose destination is not decided yet.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The beginning of its first frame.
    pub(crate) first: Vec<u8>,
    /// All frames behind the first are empty.
    pub(crate) is_empty: bool,
    pub(crate) is_single_frame: bool,
    pub(crate) key: Key,
}

#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) admission: Admission,
    /// A ZAP handler decides about it, of those that the list admits.
    asks_handler: bool,
    /// It waits for the answer of a handler; the name is that of the list, if it has one.
    pub(crate) asking: Option<Option<Arc<str>>>,
    /// Partly written messages that were not compared with [`Self::expected`] yet.
    pub(crate) begun: VecDeque<Begun>,
    pub(crate) begun_bytes: u64,
    pub(crate) begun_messages: u64,
    /// When the broker closed it.
    pub(crate) closed_at: Option<Instant>,
    pub(crate) coder_step_size: usize,
    /// It waits for the identity of another peer.
    pub(crate) contest: Option<Contest>,
    /// The proved credentials of the peer.
    pub(crate) credentials: Option<Credentials>,
    /// The positions of the messages that its role forbids, among all that it sent.
    pub(crate) denied: Vec<u64>,
    /// The program's decision, which the session has not got yet.
    pub(crate) decision: Option<Authorization>,
    pub(crate) expected: VecDeque<Expected>,
    /// The label of what is wrong with its first frame that does not open.
    pub(crate) forged: Option<&'static str>,
    /// For a peer of a ROUTER: the identity in front of its messages.
    pub(crate) given: Option<Vec<u8>>,
    /// Its end was read.
    pub(crate) has_ended: bool,
    /// It has waited for its identity.
    pub(crate) has_waited: bool,
    /// When it was last heard of.
    pub(crate) heard_at: Option<Instant>,
    pub(crate) heard_bytes: u64,
    pub(crate) heard_messages: u64,
    pub(crate) identity: Vec<u8>,
    /// The first message for a new peer, before it was sent.
    pub(crate) greeting: Option<Vec<u8>>,
    /// The number of such messages sent.
    pub(crate) greetings: u64,
    /// The number of its messages that went on before the broker closed it.
    pub(crate) handled: Option<u64>,
    /// The program has denied it.
    pub(crate) is_denied: bool,
    /// The broker closes it for what it has said, and handles nothing that it says later.
    pub(crate) is_deaf: bool,
    /// It will be closed soon.
    pub(crate) is_dying: bool,
    /// Denied peers get an ERROR.
    pub(crate) is_told: bool,
    /// How many messages in its queue were unsent when that was last looked at.
    pub(crate) unsent_before: u64,
    /// The broker cannot write to it any more.
    pub(crate) is_mute: bool,
    /// A ROUTER's peer that lies: whose of several alike its messages are is not known, nor what
    /// answers are for it.
    pub(crate) is_wild: bool,
    /// Both it and the broker look for loops.
    pub(crate) is_neighbour: bool,
    /// The broker's output is encrypted now.
    is_sealing: bool,
    /// Its handshake waits for the program to decide.
    pub(crate) is_undecided: bool,
    /// Its handshake was completed at some time.
    pub(crate) was_ready: bool,
    /// The number of the input from which the newest message written here came.
    pub(crate) newest_batch: u64,
    /// The last number behind a message that was written here.
    pub(crate) last_number: Option<u64>,
    /// The last values for it.
    pub(crate) offers: Offers,
    /// The last position of each sender's messages that were written here.
    pub(crate) orders: BTreeMap<ConnId, u64>,
    /// The number of its messages that have gone on, and the others, if a capture or control
    /// watches.
    pub(crate) passed: u64,
    pub(crate) passing: VecDeque<Passing>,
    /// Those that have gone on, if a capture or control watches: the beginning of the first frame,
    /// and the number of frames.
    pub(crate) gone: BTreeSet<(Vec<u8>, u64)>,
    /// The number of its messages that have gone on, if one waits for the other.
    pub(crate) passed_steps: u64,
    /// The number of its messages that have gone on, of those whose destination was decided then.
    pub(crate) passed_late: u64,
    /// Messages whose destination is decided when they go on.
    pub(crate) pending: VecDeque<Pending>,
    /// The role of its user, if that has one.
    pub(crate) part: Option<Part>,
    pub(crate) phase: Phase,
    pub(crate) plug: Plug,
    pub(crate) socket: SocketKey,
    /// The input of the last missing message.
    pub(crate) skipped: Option<u64>,
    /// Its subscriptions, as far as its role permits them.
    pub(crate) topics: BTreeSet<Vec<u8>>,
    /// Its subscriptions as it made them.
    pub(crate) wanted: BTreeSet<Vec<u8>>,
    /// The name under which the program has let it in.
    pub(crate) user: Option<Arc<str>>,
    /// The user with its password, if that is right; the password waits to be compared.
    pub(crate) unchecked: Option<Option<Arc<str>>>,
    /// The subscriptions of others that it was sent.
    pub(crate) view: BTreeSet<Vec<u8>>,
    /// Messages that it should have been sent and was not.
    pub(crate) missed: u64,
    /// The first bytes received.
    first: Vec<u8>,
    input: Vec<u8>,
    /// The size of the broker's answer to a peer of ZMTP 2.0, which replaces the greeting.
    greeting_v2_size: Option<usize>,
    /// The unsent bytes of the broker's greeting, which is sent in steps.
    greeting_left: usize,
    /// The last unit begun is a message, not a command.
    is_last_message: bool,
    opener: Option<Opener>,
    /// Received bytes that were not decrypted.
    raw: Vec<u8>,
    /// Remaining bytes of the message being written.
    rest: usize,
    session: Session,
    start: usize,
    style: Style,
}

/// Input of a connection.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message to a control.
    Command(Vec<u8>),
    /// A loop command.
    Loops(LoopCommand),
    Message {
        /// An empty frame precedes the last ones, as a REP requires.
        is_enveloped: bool,
        /// All frames behind the first are empty.
        is_empty: bool,
        is_single_frame: bool,
        message: Passing,
        size: usize,
    },
    Ready(Peer),
    Subscription {
        add: bool,
        topic: Vec<u8>,
    },
}

/// A partly written message or command.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_command: bool,
}

/// The configuration that the sessions of a socket share.
fn session_config(socket_type: SocketType, config: &SocketConfig) -> Arc<SessionConfig> {
    let options = &config.options;
    let limits = Limits {
        message_frames_max: options.maxmsgframes,
        message_size_max: options.maxmsgsize,
        topic_size_max: u64::from(options.topic_size_max),
        ..Limits::default()
    };
    Arc::new(SessionConfig {
        accept_zmtp2: options.accept_zmtp2,
        authenticate: config.admission == Admission::Program || !options.zap_domain.is_empty(),
        limits,
        loop_check: if options.loop_check {
            LoopCheck::On
        } else {
            LoopCheck::Off
        },
        mechanism: config.mechanism.clone(),
        ..SessionConfig::new(socket_type)
    })
}

impl Mirror {
    pub(crate) fn new(
        (socket, socket_type): (SocketKey, SocketType),
        config: &SocketConfig,
        plug: Plug,
        now: Instant,
        style: Style,
    ) -> Self {
        let options = &config.options;
        Self {
            admission: config.admission.clone(),
            asks_handler: !options.zap_domain.is_empty(),
            asking: None,
            begun: VecDeque::new(),
            begun_bytes: 0,
            begun_messages: 0,
            closed_at: None,
            coder_step_size: zmtp::STEP_SIZE,
            contest: None,
            credentials: None,
            decision: None,
            denied: Vec::new(),
            expected: VecDeque::new(),
            first: Vec::new(),
            forged: None,
            given: None,
            greeting: first_message(socket_type, options),
            greeting_v2_size: greeting_v2_size(socket_type, options),
            greetings: 0,
            handled: None,
            has_ended: false,
            has_waited: false,
            heard_at: None,
            heard_bytes: 0,
            heard_messages: 0,
            identity: Vec::new(),
            input: Vec::new(),
            greeting_left: GREETING_SIZE,
            is_deaf: false,
            is_denied: false,
            is_dying: false,
            unsent_before: 0,
            is_mute: false,
            is_neighbour: false,
            is_sealing: false,
            is_told: options.reject == Reject::Error,
            is_undecided: false,
            is_wild: false,
            missed: 0,
            opener: None,
            newest_batch: 0,
            last_number: None,
            offers: Offers::default(),
            orders: BTreeMap::new(),
            passed: 0,
            passing: VecDeque::new(),
            gone: BTreeSet::new(),
            passed_late: 0,
            passed_steps: 0,
            pending: VecDeque::new(),
            part: None,
            phase: Phase::Handshake,
            plug,
            is_last_message: false,
            raw: Vec::new(),
            rest: 0,
            session: Session::new(session_config(socket_type, config), now, &mut Vec::new()),
            skipped: None,
            socket,
            start: 0,
            style,
            topics: BTreeSet::new(),
            unchecked: None,
            wanted: BTreeSet::new(),
            user: None,
            view: BTreeSet::new(),
            was_ready: false,
        }
    }

    /// The number of its messages that are left when `received` have gone on: those behind the last
    /// of these, denied ones too.
    pub(crate) fn left(&self, received: u64) -> u64 {
        let before = |(order, at): &(u64, &u64)| **at - 1 - order < received;
        let denied = (0..).zip(&self.denied).filter(before).count() as u64;
        self.heard_messages.saturating_sub(received + denied)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.phase == Phase::Ready && !self.is_mute
    }

    /// The events that the broker must see in these bytes.
    /// `may_be_here` says whether the role of a user permits it.
    pub(crate) fn hear(&mut self, bytes: &[u8], may_be_here: &dyn Fn(&str) -> bool) -> Vec<Heard> {
        self.input.drain(..self.start);
        self.start = 0;
        let is_coded = self.opener.is_some();
        let heard = if is_coded {
            &mut self.raw
        } else {
            &mut self.input
        };
        heard.extend_from_slice(bytes);
        self.look_for_v2(bytes);
        let mut heard = Vec::new();
        if self.is_deaf {
            return heard;
        }
        while let Ok(step) = self.step() {
            let input = &self.input[self.start..];
            self.start += step.consumed;
            match step.event {
                Event::Need(_) => {
                    self.input.truncate(self.input.len() - step.removed);
                    if !self.open_more() {
                        break;
                    }
                }
                Event::LoopCheck(said) => heard.push(Heard::Loops(said)),
                Event::Progress => {}
                Event::Authenticate(credentials) => self.authenticate(credentials, may_be_here),
                Event::Undecided => break,
                Event::Trial(peer) => {
                    self.begin_coding();
                    self.meet(&peer);
                }
                Event::Ready(peer) => {
                    self.begin_coding();
                    self.meet(&peer);
                    heard.push(Heard::Ready(peer));
                }
                Event::Message(span) => {
                    let message = &input[step.consumed..][..span.size];
                    heard.push(self.message(message));
                    self.session.accept();
                    self.start += span.size;
                }
                Event::Subscription { add, topic } => heard.push(Heard::Subscription {
                    add,
                    topic: input[topic].to_vec(),
                }),
            }
        }
        heard
    }

    fn step(&mut self) -> Result<Step, Error> {
        let out = &mut Vec::new();
        match self.decision.take() {
            Some(authorization) => self.session.authorize(authorization, out).map(Step::of),
            None => {
                let input = &mut self.input[self.start..];
                self.session.handle_input(input, out)
            }
        }
    }

    /// Expects the decision about a peer with these credentials.
    fn authenticate(&mut self, credentials: Credentials, may_be_here: &dyn Fn(&str) -> bool) {
        match (&self.admission, &credentials) {
            (Admission::Keys(_), Credentials::Curve(key)) if self.asks_handler => {
                match user_of(&self.admission, key) {
                    None => self.decide(None, self.is_told),
                    user => self.asking = Some(user),
                }
            }
            _ if self.asks_handler => self.asking = Some(None),
            (Admission::Program, _) => self.is_undecided = true,
            (admission, Credentials::Curve(key)) => {
                let user = user_of(admission, key);
                self.decide(user.filter(|user| may_be_here(user)), self.is_told);
            }
            (Admission::Users(_), Credentials::Plain { password, user }) => {
                self.unchecked = Some(plain::name_of(user, password));
            }
            other => panic!("it is not asked for: {other:?}"),
        }
        self.credentials = Some(credentials);
    }

    /// Expects that the user comes in, or no peer.
    pub(crate) fn decide(&mut self, user: Option<Arc<str>>, is_told: bool) {
        self.is_denied = user.is_none();
        self.decision = Some(match user {
            None => Authorization::Denied { is_told },
            user => Authorization::Granted { user },
        });
    }

    /// Other peers may come in from now on; returns whether this one may stay.
    pub(crate) fn readmit(&mut self, admission: &Admission) -> bool {
        self.admission = admission.clone();
        let Some(Credentials::Curve(key)) = &self.credentials else {
            return true;
        };
        let user = user_of(admission, key);
        let may_stay = user.is_some();
        if self.user.is_some() {
            self.user = user;
        }
        may_stay
    }

    /// The handshake is over: with CURVE, all later bytes are encrypted.
    fn begin_coding(&mut self) {
        if let Some(mut coder) = self.session.take_coder() {
            coder.set_step_size(self.coder_step_size);
            self.opener = Some(coder.opener);
            self.raw = self.input.split_off(self.start);
        }
    }

    /// Decrypts received frames; returns false if no frame was whole.
    fn open_more(&mut self) -> bool {
        let Some(opener) = self.opener.as_mut().filter(|_| self.forged.is_none()) else {
            return false;
        };
        let limits = &self.session.config().limits;
        let opened = match opener.open(&mut self.raw, limits) {
            Ok(opened) => opened,
            Err(error) => {
                self.forged = Some(error.label());
                return false;
            }
        };
        self.input.extend_from_slice(&self.raw[..opened.plain]);
        self.raw.drain(..opened.consumed);
        opened.plain > 0
    }

    /// The name of the mechanism.
    pub(crate) fn mechanism(&self) -> &'static str {
        self.session.mechanism()
    }

    /// The queue is encrypted from now on. The bytes queued before are the end of the handshake,
    /// and are not compared with anything.
    pub(crate) fn begin_sealing(&mut self) {
        if !std::mem::replace(&mut self.is_sealing, true) {
            self.greeting_left = 0;
            self.rest = 0;
        }
    }

    fn meet(&mut self, peer: &Peer) {
        // Since a trial began, another list may have given it another name.
        if self.user.is_none() {
            self.user.clone_from(&peer.user);
        }
        let checks = [peer.loop_check, self.session.config().loop_check];
        self.is_neighbour |= !checks.contains(&LoopCheck::Off);
    }

    /// Checks whether the peer speaks 2.0, to which the broker sends less than a greeting.
    fn look_for_v2(&mut self, bytes: &[u8]) {
        let missing = (SIGNATURE_SIZE + 1).saturating_sub(self.first.len());
        self.first.extend(bytes.iter().take(missing));
        if missing > 0
            && self.first.get(SIGNATURE_SIZE) == Some(&1)
            && let Some(size) = self.greeting_v2_size
        {
            self.greeting_left -= GREETING_SIZE - size;
        }
    }

    fn message(&self, message: &[u8]) -> Heard {
        if matches!(
            self.socket.side,
            SocketName::Control | SocketName::Replay | SocketName::Zap
        ) {
            return Heard::Command(message.to_vec());
        }
        let mut frames = Frames::new(message);
        let first = frames.next().expect("a message has a frame");
        // A reply is identified by the frames after the identity.
        let socket_type = self.session.config().socket_type;
        let known = if socket_type == SocketType::Dealer && first.more {
            frames.rest()
        } else {
            message
        };
        let bodies = Frames::new(message).map(|frame| frame.body.len() as u64);
        let mut behind = Frames::new(message).skip(1);
        let mut fronts = Frames::new(message).filter(|frame| frame.more);
        Heard::Message {
            is_enveloped: fronts.any(|frame| frame.body.is_empty()),
            is_empty: first.more && behind.all(|frame| frame.body.is_empty()),
            is_single_frame: !first.more,
            message: Passing {
                body_bytes: bodies.sum(),
                digest: digest(self.style.salt, message),
                first: beginning(first.body),
                frames: Frames::new(message).count() as u64,
                key: key_of(self.style, known),
            },
            size: message.len(),
        }
    }

    /// The messages and commands whose first byte is among the `taken` ones.
    pub(crate) fn tap(&mut self, offered: &[IoSlice<'_>], taken: usize) -> Vec<Unit> {
        let mut units = Vec::new();
        if self.rest >= taken {
            self.rest -= taken;
            return units;
        }
        let mut slices = offered.iter();
        let mut bytes = Vec::new();
        while bytes.len() < taken {
            bytes.extend_from_slice(slices.next().expect("more bytes were taken than offered"));
        }
        let mut at = std::mem::take(&mut self.rest);
        while at < taken {
            let (size, is_command) = loop {
                if let Some(found) = unit(&bytes[at..], self.greeting_left) {
                    break found;
                }
                bytes.extend_from_slice(slices.next().expect("the queue holds whole messages"));
            };
            units.push(Unit {
                bytes: bytes[at..at + size].to_vec(),
                is_command,
            });
            let body = bytes[at..at + size].get(2..).unwrap_or_default();
            let is_ready = is_command && body.starts_with(b"\x05READY");
            assert!(
                !(is_ready && (self.is_denied || self.asking.is_some())),
                "it was denied, or not decided about, and gets READY"
            );
            self.greeting_left = self.greeting_left.saturating_sub(size);
            self.is_last_message = !is_command;
            at += size;
        }
        self.rest = at - taken;
        units
    }

    /// The unsent messages; `None` if not all are visible.
    pub(crate) fn unsent(&self, queued: &[IoSlice<'_>]) -> Option<Vec<Vec<u8>>> {
        if queued.len() == SLICES_MAX {
            return None;
        }
        let bytes: Vec<u8> = queued.iter().flat_map(|slice| slice.to_vec()).collect();
        let (mut at, mut messages, mut greeting_left) = (self.rest, vec![], self.greeting_left);
        while at < bytes.len() {
            let (size, is_command) =
                unit(&bytes[at..], greeting_left).expect("the queue holds whole messages");
            greeting_left = greeting_left.saturating_sub(size);
            let is_greeting = self.greeting.as_deref() == Some(&bytes[at..at + size]);
            if !(is_command || is_greeting && messages.is_empty()) {
                messages.push(bytes[at..at + size].to_vec());
            }
            at += size;
        }
        Some(messages)
    }

    /// One if a message is partly written, otherwise zero.
    pub(crate) fn begun_last(&self) -> u32 {
        u32::from(self.rest > 0 && self.is_last_message)
    }

    /// Drops the state of an open connection.
    pub(crate) fn close(&mut self) {
        self.phase = Phase::Closed;
        self.input = Vec::new();
        self.start = 0;
    }
}

/// The name of the client with this key; `None` if it may not come in.
fn user_of(admission: &Admission, key: &PublicKey) -> Option<Arc<str>> {
    match admission {
        Admission::Keys(keys) => {
            let client = keys.client(key)?;
            // All peers come from the loopback interface.
            let is_local = |it: &Network| it.contains(Ipv4Addr::LOCALHOST.into());
            let may = client.from.is_empty() || client.from.iter().any(is_local);
            may.then(|| client.user.clone())
        }
        _ => Some(key.to_string().into()),
    }
}

/// The size of the broker's answer to a peer of ZMTP 2.0, if it accepts one.
fn greeting_v2_size(socket_type: SocketType, options: &SocketOptions) -> Option<usize> {
    let announces = matches!(
        socket_type,
        SocketType::Dealer | SocketType::Req | SocketType::Router
    );
    let identity_size = options.routing_id.len() * usize::from(announces);
    let size = GREETING_V2_SIZE + 2 + identity_size;
    options.accept_zmtp2.then_some(size)
}

/// As much of a first frame as the model needs: more than the longest topic that has a last value.
pub(crate) fn beginning(first: &[u8]) -> Vec<u8> {
    first[..first.len().min(CACHE_TOPIC_SIZE_MAX + 1)].to_vec()
}

/// The first message for a new peer of a socket, if there is one.
fn first_message(socket_type: SocketType, options: &SocketOptions) -> Option<Vec<u8>> {
    let text = match socket_type {
        SocketType::Dealer | SocketType::Req | SocketType::Router => {
            options.probe_router.then_some("")
        }
        SocketType::Pub | SocketType::Xpub => {
            Some(&options.xpub_welcome_msg[..]).filter(|text| !text.is_empty())
        }
        _ => None,
    }?;
    let mut message = Vec::new();
    append_frame(&mut message, text.as_bytes(), false);
    Some(message)
}

/// Size of the message, command or part of a greeting in front, and whether it is not a message.
fn unit(bytes: &[u8], greeting_left: usize) -> Option<(usize, bool)> {
    if greeting_left > 0 {
        return (!bytes.is_empty()).then_some((greeting_left.min(bytes.len()), true));
    }
    let is_command = bytes.first()? & zmtp::wire::header::COMMAND != 0;
    let mut frames = Frames::new(bytes);
    while frames.next()?.more {}
    Some((bytes.len() - frames.rest().len(), is_command))
}
