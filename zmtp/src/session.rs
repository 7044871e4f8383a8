//! One connection's protocol, from the greeting to the last message.
//!
//! ```text
//! bytes in ──► handle_input ──► Step { consumed, removed, event }
//!                   └─────────► `out`: bytes to send before anything else
//! ```
//!
//! A session has no socket, no clock and no copy of the traffic. It looks at the caller's buffer
//! and reports positions; the caller drops consumed bytes and decides when it is done with a
//! message.

use crate::coder::Coder;
use crate::config::SessionConfig;
use crate::deframer::{Deframer, Found, Span};
use crate::error::{Deadline, Error, Malformed, Misbehaved, Refused};
use crate::finder::Finder;
use crate::frames::Frames;
use crate::heartbeat::Heartbeat;
use crate::limits::TRIAL_PATIENCE_MIN;
use crate::mechanism::{Authorization, Credentials, Mechanism, Progress};
use crate::opening::{ExpectGreeting, ExpectIdentity, Opened, Outcome};
use crate::peer::Peer;
use crate::version::Version;
use crate::wire::command::{Command, append_error, append_pong};
use crate::wire::header::{Header, Legal, LegalFlags};
use crate::wire::loop_check::{LoopCheck, LoopCommand, append_join};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What happened at the front of the input. Commands about loops are reported only if
/// [`SessionConfig::loop_check`] asks for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The caller has to say whether the peer may come in: [`Session::authorize`]. Nothing behind
    /// this is dealt with before.
    Authenticate(Credentials),
    /// The peer sent a command about loops.
    LoopCheck(LoopCommand),
    /// A whole message: `input[consumed..][..span.size]`. It is not consumed: the same step comes
    /// again until the caller calls [`Session::accept`] and drops its bytes.
    Message(Span),
    /// The next step needs an input of this many bytes.
    Need(usize),
    /// A part of the handshake, or a command, was handled.
    Progress,
    /// The handshake is over; from now on messages may be sent.
    Ready(Peer),
    /// The peer of our publishing socket subscribes (`add`) or cancels.
    Subscription {
        /// True for a subscription, false for its cancellation.
        add: bool,
        /// The position of the topic in the input.
        topic: Range<usize>,
    },
    /// The handshake is over except for a trial: commands about loops may be sent at once, messages
    /// only after [`Event::Ready`] or [`Session::end_trial`].
    Trial(Peer),
    /// [`Session::authorize`] was not called yet.
    Undecided,
}

/// The answer of [`Session::handle_input`].
///
/// First handle `event`, whose ranges count from the front of the input as it was given. Then drop
/// `consumed` bytes at the front and `removed` bytes at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes at the front that were handled.
    pub consumed: usize,
    /// What happened.
    pub event: Event,
    /// Bytes at the end that are void, because a command inside a message was removed and the bytes
    /// behind it moved up; only with [`Event::Need`].
    pub removed: usize,
}

impl Step {
    /// One that takes nothing of the input, as what [`Session::authorize`] answers.
    #[must_use]
    pub fn of(event: Event) -> Self {
        Self::new(0, event)
    }

    #[inline]
    fn new(consumed: usize, event: Event) -> Self {
        Self {
            consumed,
            event,
            removed: 0,
        }
    }
}

/// The protocol state of one connection.
#[derive(Debug)]
pub struct Session {
    /// What the traffic is to pass through, until the caller takes it.
    coder: Option<Box<Coder>>,
    config: Arc<SessionConfig>,
    handshake_deadline: Option<Instant>,
    heartbeat: Heartbeat,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waits for the peer's greeting.
    ExpectGreeting(ExpectGreeting),
    /// The peer speaks ZMTP 2.0; waits for its identity.
    ExpectIdentity(ExpectIdentity),
    /// The mechanism's handshake; apart, since it is larger than all that follows it.
    Handshake(Box<Handshake>),
    /// Messages.
    Traffic(Deframer),
    /// A trial: commands only. The peer is reported again when the trial ends.
    Trial(Peer),
    /// The session has ended with this error.
    Failed(Error),
}

/// A handshake that is under way.
#[derive(Debug)]
struct Handshake {
    /// The caller has not said yet whether the peer may come in.
    is_undecided: bool,
    mechanism: Mechanism,
    version: Version,
}

impl Session {
    /// A session on a new connection; appends the beginning of our greeting to `out`. The rest
    /// follows when the version of the peer is known.
    #[must_use]
    pub fn new(config: Arc<SessionConfig>, now: Instant, out: &mut Vec<u8>) -> Self {
        let state = State::ExpectGreeting(ExpectGreeting::start(&config, out));
        let handshake_deadline = config
            .handshake_timeout
            .and_then(|timeout| now.checked_add(timeout));
        Self {
            coder: None,
            config,
            handshake_deadline,
            heartbeat: Heartbeat::default(),
            state,
        }
    }

    /// What the peer's traffic is to pass through, if its mechanism protects that; to be asked at
    /// [`Event::Ready`] and [`Event::Trial`]. All input behind that step has to be opened before
    /// it is handled, and all output since then to be sealed before it is sent.
    #[must_use]
    pub fn take_coder(&mut self) -> Option<Box<Coder>> {
        self.coder.take()
    }

    /// Looks at the front of `input` and reports the first event there.
    ///
    /// It appends bytes that must be sent at once (READY, PONG, ERROR) to `out`, also on an error.
    /// The work is bounded by the number of frames of one message.
    ///
    /// # Errors
    /// The session is over; every later call returns the same error.
    pub fn handle_input(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        let step = match &mut self.state {
            State::Traffic(deframer) => {
                let found = deframer.scan(input, &self.config.limits);
                let traffic = Traffic {
                    config: &self.config,
                    deframer,
                    heartbeat: &mut self.heartbeat,
                };
                traffic.step(found, input, out)
            }
            _ => self.handshake(input, out),
        };
        if let Err(error) = &step {
            self.fail(*error, out);
        }
        step
    }

    /// Answers [`Event::Authenticate`]: the handshake goes on, or ends in a refusal. Appends what
    /// the peer is to be told, and answers with what happens next, as a step does. It has no effect
    /// at any other time.
    ///
    /// # Errors
    /// The session is over: the peer is denied, or the system has no random numbers.
    pub fn authorize(
        &mut self,
        authorization: Authorization,
        out: &mut Vec<u8>,
    ) -> Result<Event, Error> {
        let progress = match (&mut self.state, authorization) {
            (State::Failed(error), _) => return Err(*error),
            (State::Handshake(handshake), authorization) if handshake.is_undecided => {
                match authorization {
                    Authorization::Granted { user } => {
                        handshake.mechanism.authorize(&self.config, user, out)
                    }
                    Authorization::Denied { is_told } => Err(Refused::ByUs { is_told }.into()),
                }
            }
            _ => return Ok(Event::Progress),
        };
        match progress {
            Ok(progress) => Ok(self.proceed(progress)),
            Err(error) => {
                self.fail(error, out);
                Err(error)
            }
        }
    }

    /// A fast path to whole messages at the front of the input, valid until the next call of
    /// [`Self::handle_input`]. [`None`] before the end of the handshake, inside a message, and for
    /// a publishing socket, where a message can be a subscription.
    #[must_use]
    #[inline]
    pub fn finder(&self) -> Option<Finder> {
        match &self.state {
            State::Traffic(deframer) if !self.config.socket_type.is_publisher() => {
                deframer.finder(&self.config.limits)
            }
            _ => None,
        }
    }

    /// Notes that bytes were received. Call it before they are handled: without it, heartbeats end
    /// every connection.
    #[inline]
    pub fn handle_received(&mut self, now: Instant) {
        self.heartbeat.handle_received(now);
    }

    /// Notes that reading from the peer is suspended: its silence means nothing, and its PINGs
    /// cannot be answered. It gets PINGs instead, often enough to know that we are alive.
    pub fn pause_liveness(&mut self, now: Instant) {
        if self.is_ready() {
            self.heartbeat.pause_liveness(now);
        }
    }

    /// Whether nothing was received for too long after a PING: [`Self::handle_timeout`] will end
    /// the session, unless [`Self::excuse_silence`] is called first.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.heartbeat.is_overdue(now)
    }

    /// Whether the peer has answered every PING, and so has read all bytes before the last one.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        self.heartbeat.has_answer()
    }

    /// Asks the peer for a sign of life by a PING. False if the handshake is not over, or the peer
    /// is not known to understand PING.
    pub fn ask(&mut self, out: &mut Vec<u8>) -> bool {
        self.is_ready() && self.heartbeat.ask(self.config.heartbeat, out)
    }

    /// Whether bytes were received after `moment`.
    #[must_use]
    pub fn has_heard_since(&self, moment: Instant) -> bool {
        self.heartbeat.has_heard_since(moment)
    }

    /// Notes that the peer may be too slow to have read the PING that it should answer. A peer that
    /// has sent PINGs of its own still counts as dead when those stop.
    pub fn excuse_silence(&mut self, now: Instant) {
        self.heartbeat.excuse_silence(now);
    }

    /// Appends PING if it is due, and checks the deadlines of the peer.
    ///
    /// # Errors
    /// The session is over: the handshake took too long, or the peer is dead.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Error> {
        let timed_out = match self.handshake_deadline {
            Some(deadline) if deadline <= now => Err(self.late()),
            _ => self
                .heartbeat
                .handle_timeout(self.config.heartbeat, now, out),
        };
        timed_out.map_err(|deadline| {
            let error = Error::TimedOut(deadline);
            self.fail(error, out);
            error
        })
    }

    /// Notes that the caller is done with the last message and drops its bytes.
    #[inline]
    pub fn accept(&mut self) {
        if let State::Traffic(deframer) = &mut self.state {
            deframer.advance();
        }
    }

    /// Ends a trial that our side has asked for: appends that to `out` and returns the peer, to
    /// which messages may be sent from now on. `None` without a trial, or if the peer asked for it.
    pub fn end_trial(&mut self, out: &mut Vec<u8>) -> Option<Peer> {
        if self.config.loop_check != LoopCheck::Trial {
            return None;
        }
        let peer = self.leave_trial()?;
        append_join(out);
        Some(peer)
    }

    /// When to call [`Self::handle_timeout`]; may change with every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let heartbeat = self.heartbeat.poll_timeout();
        self.handshake_deadline.into_iter().chain(heartbeat).min()
    }

    /// The configuration that all sessions of this socket share.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }

    /// The name of its security mechanism, as in the greeting.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        self.config.mechanism.name()
    }

    /// Whether the handshake is over and the session has not failed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Traffic(_))
    }

    /// Whether the peer has not finished its greeting.
    #[must_use]
    pub fn is_greeting(&self) -> bool {
        matches!(self.state, State::ExpectGreeting(_))
    }

    /// Whether the greetings are over and the handshake is not.
    #[must_use]
    pub fn is_in_handshake(&self) -> bool {
        matches!(self.state, State::ExpectIdentity(_) | State::Handshake(_))
    }

    /// The deadline that the peer has missed.
    fn late(&self) -> Deadline {
        let after = self.config.handshake_timeout.unwrap_or_default();
        match self.state {
            State::ExpectGreeting(_) => Deadline::Greeting { after },
            State::Trial(_) => Deadline::Trial {
                after: after.max(TRIAL_PATIENCE_MIN),
            },
            _ => Deadline::Handshake { after },
        }
    }

    fn fail(&mut self, error: Error, out: &mut Vec<u8>) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        let is_in_handshake = matches!(self.state, State::Handshake(_));
        if let Some(reason) = error.reply()
            && is_in_handshake
            && self.config.may_send_error()
        {
            append_error(out, reason);
        }
        self.handshake_deadline = None;
        self.heartbeat = Heartbeat::default();
        self.state = State::Failed(error);
    }

    fn handshake(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        let config = &self.config;
        Ok(match &mut self.state {
            State::ExpectGreeting(state) => match state.handle_input(config, input, out)? {
                Outcome::Need(size) => Step::new(0, Event::Need(size)),
                Outcome::Done { size, result } => {
                    let event = match result {
                        Opened::V2(next) => {
                            self.state = State::ExpectIdentity(next);
                            Event::Progress
                        }
                        Opened::V3(version) => self.start_mechanism(version, out)?,
                    };
                    Step::new(size, event)
                }
            },
            State::ExpectIdentity(state) => match state.handle_input(input)? {
                Outcome::Need(size) => Step::new(0, Event::Need(size)),
                Outcome::Done { size, result } => Step::new(size, self.end_handshake(result)),
            },
            State::Handshake(handshake) if handshake.is_undecided => Step::new(0, Event::Undecided),
            State::Handshake(handshake) => {
                match whole_command(config.limits.handshake_command_size_max, input)? {
                    Outcome::Need(size) => Step::new(0, Event::Need(size)),
                    Outcome::Done { size, result } => {
                        let (mechanism, version) = (&mut handshake.mechanism, handshake.version);
                        let progress = mechanism.handle_command(config, version, result, out)?;
                        Step::new(size, self.proceed(progress))
                    }
                }
            }
            State::Traffic(_) => Step::new(0, Event::Progress),
            State::Trial(_) => self.trial(input, out)?,
            State::Failed(error) => return Err(*error),
        })
    }

    /// The greetings are exchanged.
    fn start_mechanism(&mut self, version: Version, out: &mut Vec<u8>) -> Result<Event, Error> {
        let mut mechanism = Mechanism::new(&self.config.mechanism);
        let progress = mechanism.start(&self.config, out);
        self.state = State::Handshake(Box::new(Handshake {
            is_undecided: false,
            mechanism,
            version,
        }));
        Ok(self.proceed(progress?))
    }

    /// What follows when the mechanism has come so far.
    fn proceed(&mut self, progress: Progress) -> Event {
        let is_undecided = matches!(progress, Progress::Authenticate(_));
        if let State::Handshake(handshake) = &mut self.state {
            handshake.is_undecided = is_undecided;
        }
        match progress {
            Progress::Authenticate(credentials) => Event::Authenticate(credentials),
            Progress::Continue => Event::Progress,
            Progress::Done(peer, coder) => {
                self.coder = coder;
                self.end_handshake(peer)
            }
        }
    }

    fn end_handshake(&mut self, peer: Peer) -> Event {
        self.handshake_deadline = None;
        self.heartbeat.start(self.config.heartbeat, peer.version);
        let checks = [self.config.loop_check, peer.loop_check];
        if checks.contains(&LoopCheck::Trial) && !checks.contains(&LoopCheck::Off) {
            // A trial of ours ends when the caller ends it.
            if self.config.loop_check != LoopCheck::Trial {
                self.handshake_deadline = self.trial_deadline();
            }
            self.state = State::Trial(peer.clone());
            return Event::Trial(peer);
        }
        self.state = State::Traffic(Deframer::new(peer.version));
        Event::Ready(peer)
    }

    /// When the peer must have ended its trial.
    fn trial_deadline(&self) -> Option<Instant> {
        let patience = self.config.handshake_timeout?.max(TRIAL_PATIENCE_MIN);
        self.heartbeat.heard_at()?.checked_add(patience)
    }

    /// A step of a trial.
    fn trial(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        let size_max = self.config.limits.traffic_command_size_max();
        let (size, body) = match whole_command(size_max, input)? {
            Outcome::Need(size) => return Ok(Step::new(0, Event::Need(size))),
            Outcome::Done { size, result } => (size, result),
        };
        let event = match Command::parse(body)? {
            Command::Ping {
                context,
                ttl_deciseconds,
            } => {
                self.heartbeat
                    .handle_ping(self.config.heartbeat, ttl_deciseconds);
                append_pong(out, context);
                Event::Progress
            }
            Command::Join if self.config.loop_check != LoopCheck::Trial => {
                self.leave_trial().map_or(Event::Progress, Event::Ready)
            }
            Command::LoopCheck(said) => Event::LoopCheck(said),
            Command::Cancel(_) | Command::Subscribe(_) => {
                return Err(Misbehaved::UnexpectedCommand.into());
            }
            _ => Event::Progress,
        };
        Ok(Step::new(size, event))
    }

    fn leave_trial(&mut self) -> Option<Peer> {
        let State::Trial(peer) = &self.state else {
            return None;
        };
        let peer = peer.clone();
        self.handshake_deadline = None;
        self.state = State::Traffic(Deframer::new(peer.version));
        Some(peer)
    }
}

/// Finds the body of the next command, where only commands are legal.
fn whole_command(size_max: u64, input: &[u8]) -> Result<Outcome<&[u8]>, Error> {
    let legal = Legal {
        command_size_max: size_max,
        flags: LegalFlags::V3,
        message_size_max: u64::MAX,
    };
    let header = match Header::parse(input, &legal) {
        Ok(Some(header)) => header,
        Ok(None) => return Ok(Outcome::Need(Header::size_of(input))),
        // Larger than the address space of a 32-bit target; the fault is that it is a message.
        Err(Malformed::FrameTooLarge) => return Err(Misbehaved::MessageInHandshake.into()),
        Err(error) => return Err(error.into()),
    };
    if !header.command {
        return Err(Misbehaved::MessageInHandshake.into());
    }
    let size = header.size + header.body_size;
    let Some(body) = input.get(header.size..size) else {
        return Ok(Outcome::Need(size));
    };
    Ok(Outcome::Done { size, result: body })
}

/// The parts of a session that a step of traffic needs.
struct Traffic<'a> {
    config: &'a SessionConfig,
    deframer: &'a mut Deframer,
    heartbeat: &'a mut Heartbeat,
}

impl Traffic<'_> {
    /// One step after the handshake, beginning with what the deframer found first.
    fn step(
        mut self,
        mut found: Result<Found, Malformed>,
        input: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Step, Error> {
        loop {
            match found? {
                Found::Message { skipped, span } => {
                    if span.frames == 1 && self.config.socket_type.is_publisher() {
                        let message = input.get(skipped..skipped + span.size).unwrap_or_default();
                        if let Some(event) = subscription_message(self.config, message, skipped)? {
                            self.deframer.advance();
                            return Ok(Step::new(skipped + span.size, event));
                        }
                    }
                    return Ok(Step::new(skipped, Event::Message(span)));
                }
                Found::Need { removed, size } => {
                    return Ok(Step {
                        consumed: 0,
                        event: Event::Need(size),
                        removed,
                    });
                }
                Found::Command {
                    body,
                    inside_message,
                } => {
                    let event = self.command(input, &body, inside_message, out)?;
                    if !inside_message {
                        return Ok(Step::new(body.end, event));
                    }
                    self.deframer.skip_command(&body);
                    found = self.deframer.scan(input, &self.config.limits);
                }
            }
        }
    }

    /// Handles a command. PING and PONG are legal everywhere, even inside a message: libzmq's
    /// heartbeat timer inserts them wherever its encoder is.
    fn command(
        &mut self,
        input: &[u8],
        body: &Range<usize>,
        inside_message: bool,
        out: &mut Vec<u8>,
    ) -> Result<Event, Error> {
        let bytes = input.get(body.clone()).unwrap_or_default();
        let (topic, add) = match Command::parse(bytes)? {
            Command::Ping {
                context,
                ttl_deciseconds,
            } => {
                self.heartbeat
                    .handle_ping(self.config.heartbeat, ttl_deciseconds);
                append_pong(out, context);
                return Ok(Event::Progress);
            }
            Command::Pong => {
                self.heartbeat.handle_pong();
                return Ok(Event::Progress);
            }
            Command::Subscribe(topic) => (topic, true),
            Command::Cancel(topic) => (topic, false),
            Command::LoopCheck(said) if self.config.loop_check != LoopCheck::Off => {
                return Ok(Event::LoopCheck(said));
            }
            // Unknown commands are ignored, and so are commands of a handshake (RFC 37; libzmq).
            _ => return Ok(Event::Progress),
        };
        if !self.config.socket_type.is_publisher() {
            return Ok(Event::Progress);
        }
        if inside_message {
            return Err(Misbehaved::CommandInMessage.into());
        }
        subscription(self.config, add, body.end - topic.len()..body.end)
    }
}

/// The older form of a subscription: a message of one frame that begins with 1 or 0. XSUB sockets
/// of libzmq send it to peers of every version.
fn subscription_message(
    config: &SessionConfig,
    message: &[u8],
    at: usize,
) -> Result<Option<Event>, Error> {
    let body = Frames::new(message)
        .next()
        .map(|frame| frame.body)
        .unwrap_or_default();
    let end = at + message.len();
    match body.split_first() {
        Some((first @ (0 | 1), topic)) => {
            subscription(config, *first == 1, end - topic.len()..end).map(Some)
        }
        _ => Ok(None),
    }
}

fn subscription(config: &SessionConfig, add: bool, topic: Range<usize>) -> Result<Event, Error> {
    if topic.len() as u64 > config.limits.topic_size_max {
        return Err(Misbehaved::TopicTooLong.into());
    }
    Ok(Event::Subscription { add, topic })
}
