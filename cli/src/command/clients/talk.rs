//! The loop of all clients: sends what is due, prints what arrives, and knows when it is over.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;
use zmtp::encode::append_frame;
use zmtp::{Frames, SocketType};

use super::exec::Jobs;
use super::input::{Input, Next};
use super::output::Output;
use super::progress::Progress;
use crate::capture::time;
use crate::client::{Arrival, ClientError, Loss, News, PeerId, Socket};
use crate::output::Failure;

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) answer: Answer,
    /// Messages after which it is over.
    pub(super) count: Option<u64>,
    /// Whether all endpoints are connected to.
    pub(super) is_dialed: bool,
    /// Peers or subscribers to wait for.
    pub(super) peers: usize,
    pub(super) socket_type: SocketType,
    /// The longest wait for anything to happen.
    pub(super) timeout: Option<Duration>,
}

/// How a REP replies.
#[derive(Debug)]
pub(super) enum Answer {
    Echo,
    Exec {
        command: Vec<OsString>,
        parallel: usize,
    },
    /// With the next message of the input.
    Input,
}

/// A running client.
#[derive(Debug)]
pub(super) struct Talk {
    /// What goes in front of the reply of a REP, in wire form.
    envelope: Vec<u8>,
    /// A handshake has succeeded.
    has_joined: bool,
    /// When to say what is waited for.
    hint_at: Option<Instant>,
    input: Option<Input>,
    is_input_over: bool,
    /// Enough peers have come once.
    is_started: bool,
    jobs: Option<Jobs>,
    /// When anything happened last.
    last: Instant,
    output: Output,
    plan: Plan,
    /// The error of the input, which ends it.
    problem: Option<Failure>,
    /// Endpoints that have a problem which was reported.
    problems: BTreeSet<Arc<str>>,
    progress: Progress,
    /// Messages that were received; of a REP, requests that were answered.
    received: u64,
    /// Connections that ended before their handshake.
    refused: u64,
    /// The message in work, in wire form.
    scratch: Vec<u8>,
    sent: u64,
    socket: Socket,
    /// The peer that a REQ waits for, or that waits for a REP.
    waiting: Option<PeerId>,
}

/// How a loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Stopped,
    TimedOut,
}

/// The wait before the first word about missing peers.
const HINT: Duration = Duration::from_secs(1);

/// The wait for peers that read nothing, or do not close the connection, at the end.
const LINGER: Duration = Duration::from_secs(10);

/// Connections without a handshake of which the log has a warning; more could fill it.
const REFUSALS_SHOWN_MAX: u64 = 100;

/// Messages that are sent before peers and signals are heard again.
const SENT_MAX: u32 = 256;

/// A buffer keeps at most this much memory.
const SCRATCH_SIZE_MAX: usize = 1 << 20;

/// A message without room is tried again after this time.
const RETRY: Duration = Duration::from_millis(100);

impl Talk {
    pub(super) fn new(plan: Plan, socket: Socket, input: Option<Input>, output: Output) -> Self {
        let now = Instant::now();
        let jobs = match &plan.answer {
            Answer::Exec { command, parallel } => {
                Some(Jobs::new(command.clone(), *parallel, socket.waker()))
            }
            _ => None,
        };
        Self {
            envelope: Vec::new(),
            has_joined: false,
            hint_at: Some(now + HINT),
            is_input_over: input.is_none(),
            input,
            is_started: false,
            jobs,
            last: now,
            progress: Progress::new(output.is_silent(), now),
            output,
            plan,
            problem: None,
            problems: BTreeSet::new(),
            received: 0,
            refused: 0,
            scratch: Vec::new(),
            sent: 0,
            socket,
            waiting: None,
        }
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        let ended = self.work();
        self.progress.end();
        self.output.flush()?;
        let end = ended?;
        if end != End::Stopped && self.sends() {
            self.finish()?;
        }
        if let Some(problem) = self.problem.take() {
            return Err(problem);
        }
        if self.socket.missed() > 0 {
            log::warn!(
                "{} messages were not sent to subscribers that read nothing",
                self.socket.missed()
            );
        }
        match end {
            End::Done | End::Stopped => Ok(()),
            End::TimedOut => self.judge(),
        }
    }

    fn work(&mut self) -> Result<End, Failure> {
        loop {
            let due = self.send_due();
            if self.is_over() {
                return Ok(End::Done);
            }
            // What is printed waits only while more has arrived already.
            let now = Instant::now();
            let deadline = match self.output.is_pending() {
                true => Some(now),
                false => self.deadline(due),
            };
            let is_late = match self.socket.next(deadline)? {
                News::Stop => return Ok(End::Stopped),
                News::Message(Arrival {
                    identity,
                    peer,
                    source,
                    wire,
                }) => {
                    self.scratch.clear();
                    if self.plan.socket_type == SocketType::Router {
                        append_frame(&mut self.scratch, identity, true);
                    }
                    self.scratch.extend_from_slice(wire);
                    let source = Arc::clone(source);
                    self.handle_message(peer, &source)?;
                    false
                }
                News::Lost(loss) => {
                    self.handle_loss(loss)?;
                    false
                }
                News::Joined(peer) => {
                    self.has_joined = true;
                    log::debug!("{}: connected", self.socket.endpoint(peer));
                    self.last = Instant::now();
                    false
                }
                News::Woken => {
                    self.finish_jobs()?;
                    false
                }
                News::Room | News::Subscribed => false,
                News::TimedOut => true,
            };
            if is_late && self.output.is_pending() {
                self.output.flush()?;
            } else if is_late && self.handle_timeout(Instant::now()) {
                return Ok(End::TimedOut);
            }
        }
    }

    /// Whether this type sends.
    fn sends(&self) -> bool {
        !matches!(self.plan.socket_type, SocketType::Sub | SocketType::Pull)
    }

    fn is_over(&self) -> bool {
        if self.problem.is_some() {
            return self.plan.socket_type != SocketType::Req || self.waiting.is_none();
        }
        let has_all = self.plan.count.is_some_and(|count| self.received >= count);
        match self.plan.socket_type {
            SocketType::Pub | SocketType::Push => self.is_input_over,
            SocketType::Req => self.is_input_over && self.waiting.is_none(),
            SocketType::Rep => {
                let needs_input = matches!(self.plan.answer, Answer::Input);
                has_all || needs_input && self.is_input_over
            }
            _ if self.plan.count == Some(0) => self.is_input_over,
            _ => has_all,
        }
    }

    /// When to look again if nothing happens.
    fn deadline(&self, due: Option<Instant>) -> Option<Instant> {
        let late = self.plan.timeout.map(|timeout| self.last + timeout);
        let hint = self.hint_at.filter(|_| !self.is_started);
        let times = [due, late, hint, self.progress.poll_timeout()];
        times.into_iter().flatten().min()
    }

    /// Says what is waited for, and shows the progress. True if it has taken too long.
    fn handle_timeout(&mut self, now: Instant) -> bool {
        if self.hint_at.is_some_and(|at| at <= now) {
            self.hint_at = None;
            if !self.is_started && self.sends() {
                log::info!("waiting for {}", self.missing());
            }
        }
        self.progress.handle_timeout(self.sent, now);
        let late = self.plan.timeout.map(|timeout| self.last + timeout);
        late.is_some_and(|late| late <= now)
    }

    /// The peers that are waited for.
    fn missing(&self) -> String {
        let count = self.plan.peers;
        let plural = if count == 1 { "" } else { "s" };
        match self.plan.socket_type {
            SocketType::Pub if count > 0 => {
                format!("{count} subscriber{plural}; --peers 0 sends without")
            }
            SocketType::Push => format!("{count} peer{plural}"),
            _ => "a peer".to_owned(),
        }
    }

    /// Whether the first message may be sent.
    fn may_send(&mut self) -> bool {
        if !self.is_started {
            let has_any = self.socket.peers() > 0;
            self.is_started = match self.plan.socket_type {
                SocketType::Pub if self.plan.peers > 0 => {
                    self.socket.subscribers() >= self.plan.peers
                }
                SocketType::Pub => has_any || !self.plan.is_dialed,
                _ => has_any && self.socket.peers() >= self.plan.peers,
            };
        }
        let is_waiting = self.waiting.is_some();
        match self.plan.socket_type {
            // A lost broker comes back, and a publisher that waits for it loses nothing.
            SocketType::Pub if self.plan.is_dialed => self.is_started && self.socket.peers() > 0,
            SocketType::Rep => is_waiting,
            SocketType::Req => self.is_started && !is_waiting,
            _ => self.is_started,
        }
    }

    /// Sends the messages that are due, as far as peers have room. Returns when to go on, unless
    /// something happens before.
    fn send_due(&mut self) -> Option<Instant> {
        let mut count = 0;
        while !self.is_input_over && self.may_send() {
            count += 1;
            if count > SENT_MAX {
                return Some(Instant::now());
            }
            let Some(input) = &mut self.input else {
                return None;
            };
            let now = Instant::now();
            let wire = match input.next(now) {
                Ok(Next::Due(due)) => return Some(due),
                Ok(Next::Message(wire)) => wire,
                Ok(Next::NotYet) => return None,
                Ok(Next::End) => {
                    self.is_input_over = true;
                    return None;
                }
                // The messages before it are sent first.
                Err(problem) => {
                    self.problem = Some(problem);
                    self.is_input_over = true;
                    return None;
                }
            };
            let size = wire.len();
            let is_sent = match self.plan.socket_type {
                SocketType::Pub => self.socket.publish(wire, false),
                SocketType::Rep => {
                    if let Some(peer) = self.waiting.take() {
                        self.socket.reply(peer, &self.envelope, wire);
                    }
                    self.received += 1;
                    self.socket.pause(false);
                    true
                }
                SocketType::Req => {
                    self.waiting = self.socket.send(wire);
                    self.waiting.is_some()
                }
                SocketType::Router => route(&mut self.socket, wire),
                _ => self.socket.send(wire).is_some(),
            };
            if !is_sent {
                return Some(now + RETRY);
            }
            input.advance(now);
            self.sent += 1;
            self.last = now;
            self.progress.count(size);
            if self.is_over() {
                return None;
            }
        }
        None
    }

    /// Shows the message in `scratch`, and replies to it if this type does.
    fn handle_message(&mut self, peer: PeerId, source: &str) -> Result<(), Failure> {
        let wire = std::mem::take(&mut self.scratch);
        let socket_type = self.plan.socket_type;
        let (envelope, body) = match socket_type {
            SocketType::Rep | SocketType::Req => split_envelope(&wire),
            _ => (&[][..], &wire[..]),
        };
        let is_expected = match socket_type {
            SocketType::Rep => !body.is_empty(),
            SocketType::Req => !body.is_empty() && self.waiting == Some(peer),
            SocketType::Pub | SocketType::Push => false,
            _ => true,
        };
        if is_expected {
            self.last = Instant::now();
            let is_routed = socket_type == SocketType::Router;
            self.output.show(body, source, is_routed)?;
            if socket_type == SocketType::Rep {
                self.answer(peer, envelope, body)?;
            } else {
                self.waiting = None;
                self.received += 1;
            }
        } else {
            log::debug!("{source}: a message that is not expected is dropped");
        }
        if wire.capacity() <= SCRATCH_SIZE_MAX {
            self.scratch = wire;
        }
        Ok(())
    }

    fn answer(&mut self, peer: PeerId, envelope: &[u8], body: &[u8]) -> Result<(), Failure> {
        match (&self.plan.answer, &mut self.jobs) {
            (Answer::Exec { .. }, Some(jobs)) => {
                let started = jobs.start(peer, envelope, body);
                started.map_err(|error| cannot_run(&self.plan.answer, &error))?;
                self.pause_for_jobs();
            }
            (Answer::Input, _) => {
                self.envelope.clear();
                self.envelope.extend_from_slice(envelope);
                self.waiting = Some(peer);
                self.socket.pause(true);
            }
            _ => {
                self.socket.reply(peer, envelope, body);
                self.received += 1;
            }
        }
        Ok(())
    }

    /// Sends the output of the commands that have ended.
    fn finish_jobs(&mut self) -> Result<(), Failure> {
        while let Some(done) = self.jobs.as_mut().and_then(Jobs::poll) {
            let output = done.output;
            let output = output.map_err(|error| cannot_run(&self.plan.answer, &error))?;
            self.scratch.clear();
            append_frame(&mut self.scratch, &output, false);
            self.socket.reply(done.peer, &done.envelope, &self.scratch);
            self.received += 1;
            self.last = Instant::now();
        }
        self.pause_for_jobs();
        Ok(())
    }

    /// Reads requests only while a command may start for them.
    fn pause_for_jobs(&mut self) {
        if let Some(jobs) = &self.jobs {
            let begun = self.received + jobs.count() as u64;
            let has_all = self.plan.count.is_some_and(|count| begun >= count);
            self.socket.pause(has_all || jobs.is_full());
        }
    }

    fn handle_loss(&mut self, loss: Loss) -> Result<(), Failure> {
        let Loss {
            endpoint, error, ..
        } = &loss;
        let unsent = match loss.unsent {
            0 => String::new(),
            unsent => format!("; {unsent} bytes were not sent"),
        };
        if loss.unsent > 0 && self.must_arrive(loss.is_dialed) {
            return Err(Failure::Running(format!("{endpoint}: {error}{unsent}")));
        }
        match (loss.peer, loss.is_dialed) {
            (Some(peer), is_dialed) => {
                if self.waiting == Some(peer) {
                    if self.plan.socket_type == SocketType::Req {
                        return Err(Failure::Running(format!(
                            "{endpoint}: {error} before the reply"
                        )));
                    }
                    self.waiting = None;
                    self.socket.pause(false);
                }
                let level = match (error, is_dialed) {
                    (ClientError::Refused(_), _) => Level::Warn,
                    (_, true) => Level::Info,
                    (_, false) => Level::Debug,
                };
                let again = if is_dialed { "; connecting again" } else { "" };
                log::log!(level, "{endpoint}: {error}{unsent}{again}");
            }
            (None, true) if !self.has_joined && is_final(error) => {
                return Err(Failure::Running(format!(
                    "cannot connect to {endpoint}: {error}"
                )));
            }
            (None, true) if self.problems.insert(Arc::clone(endpoint)) => {
                log::warn!("cannot connect to {endpoint}: {error}; retrying");
            }
            (None, true) => log::debug!("cannot connect to {endpoint}: {error}"),
            (None, false) => {
                self.refused += 1;
                let is_shown = self.refused <= REFUSALS_SHOWN_MAX;
                let level = if is_shown { Level::Warn } else { Level::Debug };
                log::log!(level, "{endpoint}: {error}");
            }
        }
        Ok(())
    }

    /// Whether it is a failure if a peer leaves before it has taken what it was sent. Subscribers
    /// and peers that wait for a reply come and go as they like.
    fn must_arrive(&self, is_dialed: bool) -> bool {
        match self.plan.socket_type {
            SocketType::Pub => is_dialed,
            SocketType::Rep | SocketType::Router => false,
            _ => true,
        }
    }

    /// Waits until the peers have taken everything.
    fn finish(&mut self) -> Result<(), Failure> {
        self.socket.pause(false);
        let linger = self.plan.timeout.map_or(LINGER, |time| time.min(LINGER));
        let (mut unsent, mut is_ended) = (usize::MAX, false);
        let mut deadline = Instant::now() + linger;
        loop {
            let left = self.socket.flush_messages();
            if left < unsent {
                unsent = left;
                deadline = Instant::now() + linger;
            }
            if left == 0 && !is_ended {
                self.socket.end();
                is_ended = true;
            }
            if is_ended && self.socket.peers() == 0 {
                return Ok(());
            }
            match self.socket.next(Some(deadline))? {
                News::Lost(loss) if loss.unsent > 0 => self.handle_loss(loss)?,
                News::Stop => return Ok(()),
                News::TimedOut if is_ended => {
                    log::warn!("peers did not close the connection in time");
                    return Ok(());
                }
                News::TimedOut => {
                    return Err(Failure::Running(format!(
                        "{unsent} bytes were not sent: a peer reads nothing"
                    )));
                }
                _ => {}
            }
        }
    }

    /// The result after the longest wait.
    fn judge(&self) -> Result<(), Failure> {
        let time = time::short(self.plan.timeout.unwrap_or_default());
        let (received, sent) = (self.received, self.sent);
        let sentence = match (self.plan.socket_type, self.plan.count) {
            _ if !self.is_started && self.input.is_some() && self.sends_first() => {
                format!("{time} passed without {}", self.missing())
            }
            (SocketType::Pub | SocketType::Push, _) => {
                format!("no peer took a message for {time}; {sent} messages were sent")
            }
            (SocketType::Req, _) => format!("no reply within {time}"),
            (_, Some(count)) => format!("{received} of {count} messages arrived within {time}"),
            (_, None) if received > 0 => return Ok(()),
            (_, None) => format!("no message arrived within {time}"),
        };
        Err(Failure::Running(sentence))
    }

    /// Whether this type sends before it receives.
    fn sends_first(&self) -> bool {
        matches!(
            self.plan.socket_type,
            SocketType::Pub | SocketType::Push | SocketType::Req
        )
    }
}

/// What is in front of the body, up to the first empty frame, and the body. Without an empty frame
/// the body is empty too.
fn split_envelope(wire: &[u8]) -> (&[u8], &[u8]) {
    let mut frames = Frames::new(wire);
    while let Some(frame) = frames.next() {
        if frame.body.is_empty() {
            return wire.split_at(wire.len() - frames.rest().len());
        }
    }
    (&[], &[])
}

/// Whether another attempt would end in the same error.
fn is_final(error: &ClientError) -> bool {
    match error {
        ClientError::Handshake(..) => true,
        ClientError::Protocol(error) => !matches!(error, zmtp::Error::TimedOut(_)),
        _ => false,
    }
}

fn cannot_run(answer: &Answer, error: &io::Error) -> Failure {
    let program = match answer {
        Answer::Exec { command, .. } => command.first(),
        _ => None,
    };
    let program = program.map(|program| program.to_string_lossy());
    Failure::Running(format!(
        "cannot run {}: {error}",
        zmtp::show(program.unwrap_or_default().as_bytes())
    ))
}

/// Sends a message to the peer that its first frame names; false if it has no room.
fn route(socket: &mut Socket, wire: &[u8]) -> bool {
    let mut frames = Frames::new(wire);
    let identity = frames.next().map(|frame| frame.body).unwrap_or_default();
    if let Some(peer) = socket.find(identity) {
        return socket.send_to(peer, frames.rest());
    }
    let shown = zmtp::show(identity);
    log::warn!("no peer has the identity {shown}: a message is dropped");
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmtp::encode::append_message;

    #[test]
    fn an_envelope_ends_with_the_first_empty_frame() {
        for (frames, envelope_frames) in [
            (&["", "a"][..], 1),
            (&["x", "y", "", "a", "", "b"], 3),
            (&["", ""], 1),
        ] {
            let mut wire = Vec::new();
            append_message(&mut wire, frames);
            let (envelope, body) = split_envelope(&wire);
            assert_eq!([envelope, body].concat(), wire);
            assert_eq!(Frames::new(envelope).count(), envelope_frames);
        }
        for frames in [&["a"][..], &["a", "b"], &[""]] {
            let mut wire = Vec::new();
            append_message(&mut wire, frames);
            assert!(split_envelope(&wire).1.is_empty(), "{frames:?}");
        }
    }
}
