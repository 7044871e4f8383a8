//! Two sessions that talk to each other: one reports what the other sends.

use super::keys::{curve_client, curve_server, reset_entropy};
use super::{LIMITS, OLD, socket_type};
use crate::coder::{Coder, Sealer};
use crate::config::{MechanismConfig, SessionConfig};
use crate::encode::{append_frame, append_message};
use crate::error::{Deadline, Error, Incompatible, Refused};
use crate::heartbeat::HeartbeatConfig;
use crate::limits::GREETING_SIZE;
use crate::mechanism::plain::{Password, PlainClient};
use crate::mechanism::{Authorization, Credentials};
use crate::peer::Peer;
use crate::session::{Event, Session};
use crate::version::Version;
use crate::wire::command::append_ping;
use crate::wire::header::{COMMAND, Header, Legal, LegalFlags, MORE};
use crate::wire::loop_check::{LoopCheck, LoopCommand, Probe};
use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reads `data` as two configurations and then as operations: deliver some bytes, send this, let
/// time pass. Bits 4 and 5 of the second byte pick the mechanism. With CURVE the operations can
/// also change, drop, repeat and insert bytes on their way; what is reported must still be what was
/// sent, without the frames that were dropped whole: gaps between nonces are legal. Sockets that
/// match must understand each other, whatever the pieces and the commands in between. Sockets that
/// do not match must both notice. Only silence may end in a timeout.
pub fn fuzz_ends(data: &[u8]) {
    let [which, other, rest, operations @ ..] = data else {
        return;
    };
    reset_entropy();
    let Some(mut ends) = Ends::new(*which, *other, *rest) else {
        return;
    };
    for operation in operations.chunks_exact(2) {
        let [what, argument] = operation else {
            return;
        };
        if !ends.operate(*what, *argument) {
            return;
        }
    }
    ends.finish();
}

const HEARTBEAT: HeartbeatConfig = HeartbeatConfig {
    interval: Duration::from_secs(1),
    timeout: Duration::from_secs(2),
    ttl: Duration::from_secs(3),
};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a long frame that are sealed or opened at once.
const STEP_SIZE: usize = 16;

/// Bytes of a frame that is opened at once: longer ones take steps.
const FRAME_SIZE_MAX: usize = 16 * STEP_SIZE + 9;

/// Bytes that a cable may hold.
const CABLE_SIZE_MAX: usize = 16 << 10;

fn seal_in_steps(sealer: &mut Sealer, flags: u8, body: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let (front, mut rest) = out.split_at_mut(out.len() - body.len());
    let mut tagging = sealer.begin(flags, body.len(), front)?;
    body.chunks(STEP_SIZE).for_each(|piece| tagging.add(piece));
    let mut sealing = tagging.finish(front);
    for piece in body.chunks(STEP_SIZE) {
        let (room, behind) = rest.split_at_mut(piece.len());
        sealing.seal(piece, room);
        rest = behind;
    }
    Ok(())
}

/// What one end sends and the other has to report.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Loop(LoopCommand),
    Message(Vec<u8>),
    Subscription(bool, Vec<u8>),
}

/// A frame that one end sends, and what the other has to report for it.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    /// Its position in all that its end sends.
    at: usize,
    frame: Vec<u8>,
    /// [`None`] if it is a part of a message.
    said: Option<Said>,
}

/// A frame on the wire of CURVE.
struct Sealed {
    /// What is proved of it: all behind its header.
    body: Vec<u8>,
    /// The position of the plain frame in all that its end sends.
    plain: Range<usize>,
}

struct End {
    /// When it came to traffic or to a trial: its heartbeat begins.
    came_in_at: Option<Instant>,
    /// What traffic passes through since the end of the handshake.
    coder: Option<Box<Coder>>,
    config: Arc<SessionConfig>,
    /// Bytes that the other end has got.
    delivered: usize,
    expected: VecDeque<Announced>,
    heard_at: Instant,
    input: Vec<u8>,
    is_excused: bool,
    is_on_trial: bool,
    is_ready: bool,
    is_undecided: bool,
    /// Sealed frames of the other end that never came, though later ones did.
    lost: usize,
    /// Sealed frames of the other end that were opened or lost.
    opened: usize,
    out: Vec<u8>,
    /// Received bytes that are still sealed, or being opened.
    raw: Vec<u8>,
    /// The same as they came.
    received: Vec<u8>,
    sealed: Vec<Sealed>,
    /// All that was ever in `out`.
    sent: Vec<u8>,
    session: Session,
    /// What is on its way, sealed.
    wire: Vec<u8>,
}

struct Ends {
    ends: [End; 2],
    is_tampered: bool,
    now: Instant,
    start: Instant,
}

/// The mechanisms of both ends, which always go together.
fn mechanisms(which: u8) -> [MechanismConfig; 2] {
    let plain = || {
        let client = PlainClient::new(b"user", Password::new(b"secret"));
        MechanismConfig::PlainClient(Arc::new(client.expect("short enough")))
    };
    match which {
        1 => [plain(), MechanismConfig::PlainServer],
        2 => [curve_client(), curve_server()],
        3 => [curve_server(), curve_client()],
        _ => [MechanismConfig::Null, MechanismConfig::Null],
    }
}

/// What the other end is told of one with this mechanism.
fn credentials_of(mechanism: &MechanismConfig) -> Credentials {
    match mechanism {
        MechanismConfig::PlainClient(_) => Credentials::Plain {
            password: Password::new(b"secret"),
            user: (*b"user").into(),
        },
        MechanismConfig::CurveClient(client) => Credentials::Curve(client.public_key()),
        _ => Credentials::Null,
    }
}

/// The positions of whole frames, and those of their bodies.
fn frames_in(bytes: &[u8]) -> Vec<(Range<usize>, Range<usize>)> {
    let legal = Legal {
        command_size_max: u64::MAX,
        flags: LegalFlags::V3,
        message_size_max: u64::MAX,
    };
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(header) = Header::parse(&bytes[at..], &legal).expect("frames of ours") {
        let body = at + header.size..at + header.size + header.body_size;
        frames.push((at..body.end, body.clone()));
        at = body.end;
    }
    assert_eq!(at, bytes.len(), "whole frames");
    frames
}

impl Ends {
    /// Only the first end may ask for a trial, as only connecting ends do.
    #[expect(
        clippy::disallowed_methods,
        reason = "a beginning for a clock of its own"
    )]
    fn new(which: u8, other: u8, rest: u8) -> Option<Self> {
        let first = socket_type(which);
        let second = if other & 0x40 == 0 {
            let peers = first.peers();
            *peers.get(usize::from(other & 0x3f) % peers.len())?
        } else {
            socket_type(other & 0x3f)
        };
        let mechanisms = mechanisms(other >> 4 & 3);
        let checks = [LoopCheck::Off, LoopCheck::On, LoopCheck::Trial];
        let start = Instant::now();
        let end = |which, socket_type, loop_check, bits: u8, mechanism: &MechanismConfig| {
            let config = Arc::new(SessionConfig {
                accept_zmtp2: which & OLD != 0,
                authenticate: bits & 4 != 0,
                handshake_timeout: Some(HANDSHAKE_TIMEOUT),
                heartbeat: (bits & 1 != 0).then_some(HEARTBEAT),
                identity: vec![b'i'; [0, 1, 254, 255][usize::from(bits >> 1 & 3)]],
                limits: LIMITS,
                loop_check,
                mechanism: mechanism.clone(),
                ..SessionConfig::new(socket_type)
            });
            let mut out = Vec::new();
            End {
                session: Session::new(config.clone(), start, &mut out),
                coder: None,
                config,
                delivered: 0,
                expected: VecDeque::new(),
                came_in_at: None,
                heard_at: start,
                input: Vec::new(),
                is_excused: false,
                is_on_trial: false,
                is_ready: false,
                is_undecided: false,
                lost: 0,
                opened: 0,
                out,
                raw: Vec::new(),
                received: Vec::new(),
                sealed: Vec::new(),
                sent: Vec::new(),
                wire: Vec::new(),
            }
        };
        let check = *checks.get(usize::from(rest % 3))?;
        let other_check = *checks.get(usize::from(rest / 3 % 2))?;
        let bits = rest / 6;
        Some(Self {
            ends: [
                end(which, first, check, bits, &mechanisms[0]),
                end(other, second, other_check, bits >> 3, &mechanisms[1]),
            ],
            is_tampered: false,
            now: start,
            start,
        })
    }

    /// Whether the connection is open.
    fn operate(&mut self, what: u8, argument: u8) -> bool {
        let from = usize::from(what & 1);
        let [first, second] = &mut self.ends;
        let (end, across) = if from == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let size = usize::from(argument);
        match what >> 1 & 15 {
            0 => return self.deliver(from, size + 1),
            1 => return self.deliver(from, 64 * (size + 1)),
            2 => return self.pass(Duration::from_millis(100) * u32::from(argument)),
            3 => {
                if end.is_undecided {
                    end.decide(&across.config);
                    return self.hear(from);
                }
                if end.session.end_trial(&mut end.out).is_some() {
                    assert!(end.is_on_trial && end.config.loop_check == LoopCheck::Trial);
                    end.is_ready = true;
                }
            }
            4 => {
                end.session.pause_liveness(self.now);
                end.is_excused = true;
            }
            5 => {
                end.session.excuse_silence(self.now);
                end.is_excused = true;
            }
            6 => end.send_probe(across, argument),
            12..=15 if end.tamper(what >> 1 & 3, argument) => self.is_tampered = true,
            _ if !end.is_ready || end.out.len() + end.wire.len() > CABLE_SIZE_MAX => {}
            7 => end.send_message(across, &[vec![argument | 2; size * 3]]),
            8 => {
                let frames = vec![vec![argument | 2; size / 8]; size % 8 + 1];
                end.send_message(across, &frames);
            }
            9 => end.send_with_pings(across, argument),
            10 => append_ping(&mut end.out, u16::from(argument) * 100),
            _ => end.subscribe(across, size % 33, argument & 0x80 == 0, what & OLD == 0),
        }
        true
    }

    /// Moves up to `size` bytes from one end to the other.
    fn deliver(&mut self, from: usize, size: usize) -> bool {
        let [first, second] = &mut self.ends;
        let (end, across) = if from == 0 {
            (first, second)
        } else {
            (second, first)
        };
        end.flush();
        let size = size.min(end.wire.len());
        if size == 0 {
            return true;
        }
        end.delivered += size;
        let arrived = end.wire.drain(..size);
        if across.coder.is_some() {
            across.received.extend_from_slice(arrived.as_slice());
            across.raw.extend(arrived);
        } else {
            across.input.extend(arrived);
        }
        across.heard_at = self.now;
        across.session.handle_received(self.now);
        self.hear(1 - from)
    }

    /// Lets an end handle what it has received.
    fn hear(&mut self, which: usize) -> bool {
        let are_compatible = self.are_compatible();
        let [first, second] = &mut self.ends;
        let (across, end) = if which == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let heard = across.hear(end);
        assert!(self.is_tampered || across.lost == 0, "a frame is lost");
        match heard {
            Ok(()) => true,
            Err(_) if self.is_tampered => false,
            Err(
                Error::Incompatible(Incompatible::SocketType { .. })
                | Error::Refused(Refused::ByPeer(_)),
            ) => {
                assert!(!are_compatible && !across.is_ready);
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Lets time pass for both ends, deadline by deadline.
    fn pass(&mut self, duration: Duration) -> bool {
        let before = self.now;
        self.now += duration;
        for end in &mut self.ends {
            if end.is_ready || end.is_on_trial {
                end.came_in_at.get_or_insert(before);
            }
            while let Some(deadline) = end.session.poll_timeout().filter(|at| *at <= self.now) {
                // One that was over from the beginning, as after a late decision, is due now.
                let deadline = deadline.max(before);
                let Err(error) = end.session.handle_timeout(deadline, &mut end.out) else {
                    let next = end.session.poll_timeout();
                    assert!(next.is_none_or(|next| next > deadline), "it is done");
                    continue;
                };
                let silence = deadline - end.heard_at;
                match error {
                    Error::TimedOut(Deadline::Greeting { .. } | Deadline::Handshake { .. }) => {
                        assert!(!end.is_ready && !end.is_on_trial);
                        assert!(deadline - self.start >= HANDSHAKE_TIMEOUT);
                    }
                    Error::TimedOut(Deadline::Trial { .. }) => {
                        assert!(end.is_on_trial && !end.is_ready);
                        assert!(end.config.loop_check == LoopCheck::On);
                        assert!(deadline - self.start >= HANDSHAKE_TIMEOUT);
                    }
                    Error::TimedOut(Deadline::Heartbeat) => {
                        assert!(end.config.heartbeat.is_some() && silence >= HEARTBEAT.timeout);
                    }
                    Error::TimedOut(Deadline::TimeToLive) => {
                        assert!(silence >= HEARTBEAT.ttl);
                    }
                    error => panic!("{error}"),
                }
                return false;
            }
            let is_watched = end.config.heartbeat.is_some() && !end.is_excused;
            if let Some(came_in_at) = end.came_in_at.filter(|_| is_watched) {
                let silence = self.now - end.heard_at.max(came_in_at);
                assert!(silence < HEARTBEAT.interval + HEARTBEAT.timeout);
            }
            if !(end.is_ready || end.is_on_trial) {
                assert!(self.now - self.start < HANDSHAKE_TIMEOUT);
            }
        }
        true
    }

    /// Delivers everything: nothing may be left.
    fn finish(mut self) {
        for _ in 0..8 {
            for (from, end_trial) in [(0, 6), (1, 7)] {
                if !self.deliver(from, usize::MAX) || !self.operate(end_trial, 0) {
                    return;
                }
            }
        }
        if self.is_tampered {
            return;
        }
        assert!(self.are_compatible(), "neither end has noticed");
        for end in &self.ends {
            assert!(end.is_ready && end.session.is_ready(), "an end still waits");
            assert_eq!(end.expected, [], "not reported");
            assert_eq!((end.input.len(), end.out.len()), (0, 0));
            assert_eq!((end.raw.len(), end.wire.len()), (0, 0));
            let is_sealed = end.config.mechanism.name() == "CURVE";
            assert_eq!(end.coder.is_some(), is_sealed);
        }
        let [first, second] = &self.ends;
        assert_eq!(
            first.count_sent(b"\x04PING"),
            second.count_sent(b"\x04PONG")
        );
        assert_eq!(
            second.count_sent(b"\x04PING"),
            first.count_sent(b"\x04PONG")
        );
    }

    fn are_compatible(&self) -> bool {
        let [first, second] = self.ends.each_ref().map(|end| end.config.socket_type);
        first.peers().contains(&second)
    }
}

impl End {
    fn send_message(&mut self, across: &mut Self, frames: &[Vec<u8>]) {
        let mut message = Vec::new();
        append_message(&mut message, frames);
        self.announce_message(across, &message);
        self.out.extend_from_slice(&message);
    }

    /// A message with PINGs at every legal position.
    fn send_with_pings(&mut self, across: &mut Self, argument: u8) {
        for index in 0..3 {
            if argument >> index & 1 != 0 {
                append_ping(&mut self.out, 0);
            }
            let mut frame = Vec::new();
            let body = vec![index | 2; usize::from(argument >> 3)];
            append_frame(&mut frame, &body, index < 2);
            self.announce_message(across, &frame);
            self.out.extend_from_slice(&frame);
        }
    }

    /// Tells the other end what to expect of the frame that is sent next.
    fn announce(&self, across: &mut Self, frame: Vec<u8>, said: Option<Said>) {
        let at = self.sent.len() + self.out.len();
        across.expected.push_back(Announced { at, frame, said });
    }

    /// Tells the other end to expect frames of a message, which are sent next.
    fn announce_message(&self, across: &mut Self, frames: &[u8]) {
        let next = self.sent.len() + self.out.len();
        for (frame, _) in frames_in(frames) {
            across.expected.push_back(Announced {
                at: next + frame.start,
                frame: frames[frame].to_vec(),
                said: None,
            });
        }
    }

    fn send_probe(&mut self, across: &mut Self, argument: u8) {
        let checks = [self.config.loop_check, across.config.loop_check];
        if checks.contains(&LoopCheck::Off) || !(self.is_ready || self.is_on_trial) {
            return;
        }
        let said = match argument % 3 {
            0 => LoopCommand::Up,
            1 => LoopCommand::Loop,
            _ => LoopCommand::Probe(Probe {
                exit: u32::from(argument) << 20,
                hops: argument,
                number: u128::from(argument) << 100,
            }),
        };
        let mut frame = Vec::new();
        said.append(&mut frame);
        self.announce(across, frame.clone(), Some(Said::Loop(said)));
        self.out.append(&mut frame);
    }

    /// Subscribes, or cancels, by command or in the older form.
    fn subscribe(&mut self, across: &mut Self, topic_size: usize, add: bool, is_command: bool) {
        let topic = vec![b't'; topic_size];
        let version = if is_command {
            Version::V3_1
        } else {
            Version::V3_0
        };
        let mut frame = Vec::new();
        Peer::append_subscription(version, &topic, add, &mut frame);
        if across.config.socket_type.is_publisher() {
            let said = Said::Subscription(add, topic);
            self.announce(across, frame.clone(), Some(said));
        } else if !is_command {
            self.announce(across, frame.clone(), None);
        }
        self.out.append(&mut frame);
    }

    /// Puts on its way what the session has said.
    fn flush(&mut self) {
        match &mut self.coder {
            Some(coder) => {
                for (frame, body) in frames_in(&self.out) {
                    let start = self.wire.len();
                    let size = coder.sealer.sealed_size(body.len());
                    self.wire.resize(start + size, 0);
                    let (flags, wire) = (self.out[frame.start], &mut self.wire[start..]);
                    let (sealer, body) = (&mut coder.sealer, &self.out[body]);
                    let sealed = if sealer.takes_steps(body.len()) {
                        seal_in_steps(sealer, flags, body, wire)
                    } else {
                        sealer.seal(flags, body, wire)
                    };
                    sealed.expect("a nonce is left");
                    let (_, sealed_body) = frames_in(wire).remove(0);
                    self.sealed.push(Sealed {
                        body: wire[sealed_body].to_vec(),
                        plain: self.sent.len() + frame.start..self.sent.len() + frame.end,
                    });
                }
            }
            None => self.wire.extend_from_slice(&self.out),
        }
        self.sent.append(&mut self.out);
    }

    /// Changes what is on its way, if it should be protected against that.
    fn tamper(&mut self, how: u8, argument: u8) -> bool {
        self.flush();
        let at = usize::from(argument) * 5;
        if self.config.mechanism.name() != "CURVE"
            || self.delivered < GREETING_SIZE
            || at >= self.wire.len()
        {
            return false;
        }
        let end = self.wire.len().min(at + 40);
        match how {
            0 => self.wire[at] ^= 1 << (argument & 7),
            1 => drop(self.wire.drain(at..end)),
            2 => self.wire.extend_from_within(at..end),
            _ => self.wire.insert(at, argument),
        }
        true
    }

    /// Takes the coder at the end of the handshake. What was said before is not sealed.
    fn take_coder(&mut self) {
        if let Some(mut coder) = self.session.take_coder() {
            self.flush();
            coder.set_step_size(STEP_SIZE);
            self.coder = Some(coder);
            self.raw = mem::take(&mut self.input);
            self.received.clone_from(&self.raw);
        }
    }

    /// Opens what has come, and tells whether anything has.
    fn open(&mut self, peer: &Self) -> Result<bool, Error> {
        let Some(coder) = &mut self.coder else {
            return Ok(false);
        };
        let opened = coder.opener.open_step(&mut self.raw, &LIMITS)?;
        self.input.extend_from_slice(&self.raw[..opened.plain]);
        let received: Vec<u8> = self.received.drain(..opened.consumed).collect();
        let plain = self.lose(peer, &received);
        assert_eq!(
            self.raw[..opened.plain],
            plain,
            "opened is not what was sealed"
        );
        self.raw.drain(..opened.consumed);
        // An illegal frame is reported once those in front of it are dealt with.
        let is_waiting = opened.need > self.raw.len();
        assert!(
            is_waiting || opened.coded > 0,
            "asked for bytes that are there"
        );
        assert!(
            opened.coded < STEP_SIZE + FRAME_SIZE_MAX,
            "more than a step was opened at once"
        );
        Ok(opened.coded > 0)
    }

    /// Finds received frames, which have opened, among those that the peer has sealed: each must be
    /// there, behind the one before. Expects nothing more of those that were left out, and returns
    /// what was sealed in the others.
    fn lose(&mut self, peer: &Self, received: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        for (_, body) in frames_in(received) {
            let mut left = peer.sealed[self.opened..].iter();
            let lost = left.position(|sealed| sealed.body == received[body.clone()]);
            let lost = lost.expect("what has opened was sealed, and was not opened before");
            let found = self.opened + lost;
            for sealed in &peer.sealed[self.opened..found] {
                let at = sealed.plain.start;
                self.expected.retain(|announced| announced.at != at);
            }
            plain.extend_from_slice(&peer.sent[peer.sealed[found].plain.clone()]);
            self.lost += lost;
            self.opened = found + 1;
        }
        plain
    }

    /// Handles received bytes, and compares.
    fn hear(&mut self, peer: &Self) -> Result<(), Error> {
        let peer_config = &*peer.config;
        loop {
            let step = self.session.handle_input(&mut self.input, &mut self.out)?;
            if let Event::Ready(_) | Event::Trial(_) = step.event {
                assert!(!self.session.is_in_handshake());
            }
            let consumed = step.consumed;
            match step.event {
                Event::Need(size) => {
                    self.input.truncate(self.input.len() - step.removed);
                    assert!(size > self.input.len(), "asked for bytes that are there");
                    if !self.open(peer)? {
                        return Ok(());
                    }
                }
                Event::Authenticate(credentials) => {
                    assert!(self.decides() && !self.is_undecided);
                    assert_eq!(credentials, credentials_of(&peer_config.mechanism));
                    self.is_undecided = true;
                }
                Event::Undecided => {
                    assert!(self.is_undecided);
                    return Ok(());
                }
                Event::Message(span) => {
                    let message: Vec<u8> =
                        self.input.drain(consumed..consumed + span.size).collect();
                    self.expect(Said::Message(message));
                    self.session.accept();
                }
                Event::Subscription { add, topic } => {
                    let topic = self.input[topic].to_vec();
                    self.expect(Said::Subscription(add, topic));
                }
                event => self.note(event, peer_config),
            }
            self.input.drain(..consumed);
            self.take_coder();
        }
    }

    /// An event that is about no bytes.
    fn note(&mut self, event: Event, peer_config: &SessionConfig) {
        match event {
            Event::Progress => {}
            Event::LoopCheck(said) => self.expect(Said::Loop(said)),
            Event::Trial(peer) => {
                assert!(!self.is_on_trial && !self.is_ready);
                self.is_on_trial = true;
                self.check_peer(&peer, peer_config);
            }
            Event::Ready(peer) => {
                assert!(!self.is_ready);
                let checks = [self.config.loop_check, peer_config.loop_check];
                let is_tried =
                    checks.contains(&LoopCheck::Trial) && !checks.contains(&LoopCheck::Off);
                assert_eq!(self.is_on_trial, is_tried);
                self.is_ready = true;
                self.check_peer(&peer, peer_config);
            }
            event => panic!("{event:?} is about bytes"),
        }
    }

    /// What an end hears of the other is what that was told to be.
    fn check_peer(&self, peer: &Peer, config: &SessionConfig) {
        let identity: &[u8] = if config.socket_type.announces_identity() {
            &config.identity
        } else {
            b""
        };
        assert_eq!(*peer.identity, *identity);
        assert_eq!(peer.loop_check, config.loop_check);
        assert_eq!(peer.socket_type, Some(config.socket_type));
        assert_eq!(peer.user.is_some(), self.decides());
        assert_eq!(peer.version, Version::V3_1);
    }

    /// Whether it is asked about its peer.
    fn decides(&self) -> bool {
        match self.config.mechanism {
            MechanismConfig::Null => self.config.authenticate,
            _ => self.config.mechanism.is_server(),
        }
    }

    /// Lets the peer in.
    fn decide(&mut self, peer_config: &SessionConfig) {
        let user = Some("user".into());
        let granted = Authorization::Granted { user };
        let event = self.session.authorize(granted, &mut self.out);
        self.is_undecided = false;
        self.note(event.expect("a decision in time"), peer_config);
        self.take_coder();
    }

    /// How many commands of this name it has sent.
    fn count_sent(&self, name: &[u8]) -> usize {
        let (mut rest, mut count) = (&self.sent[GREETING_SIZE..], 0);
        while let [flags, size, ..] = *rest {
            let (header_size, body_size) = if flags & 2 == 0 {
                (2, usize::from(size))
            } else {
                (9, usize::from(rest[7]) * 256 + usize::from(rest[8]))
            };
            let (frame, behind) = rest.split_at(header_size + body_size);
            count += usize::from(flags & 4 != 0 && frame[header_size..].starts_with(name));
            rest = behind;
        }
        count
    }

    fn expect(&mut self, said: Said) {
        assert_eq!(self.next_expected(), Some(said));
    }

    /// What is to be reported next. If the end of a message is lost, the message goes on with the
    /// next one, and commands in between are not reported.
    fn next_expected(&mut self) -> Option<Said> {
        let mut message = Vec::new();
        while let Some(Announced { frame, said, .. }) = self.expected.pop_front() {
            let flags = frame[0];
            if said.is_some() && message.is_empty() {
                return said;
            }
            if flags & COMMAND != 0 {
                assert!(self.lost > 0, "a command inside a message");
                continue;
            }
            message.extend_from_slice(&frame);
            if flags & MORE == 0 {
                return Some(Said::Message(message));
            }
        }
        None
    }
}
