//! One connection: a [`Session`] with its buffers, over a stream that waits or does not.

use std::io;
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Instant;

use broker::config::Admission;
use zmtp::{Authorization, Credentials, Event, Peer, Session, SessionConfig, Version};

use super::queue::Queue;
use super::wire::Wire;
use super::{Advice, ClientError, Stream};

/// A connection, from its greeting on.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Which peers may come in, if the mechanism asks.
    admission: Admission,
    /// Received bytes; those before `taken` are handled.
    input: Vec<u8>,
    /// Bytes to be sent.
    out: Queue,
    session: Session,
    /// Steps of the handshake so far: the greeting, and then commands of the peer.
    steps: u32,
    taken: usize,
    version: Version,
    wire: Wire,
}

/// The result of [`Connection::step`], by its place in the input.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(Range<usize>),
    Ready(Peer),
    Subscription { add: bool, topic: Range<usize> },
}

/// A buffer without bytes keeps at most this much memory.
const KEPT_SIZE_MAX: usize = 64 << 10;

impl Connection {
    /// Begins a handshake on a stream.
    pub(crate) fn new(
        stream: Stream,
        config: Arc<SessionConfig>,
        admission: Admission,
        now: Instant,
    ) -> Self {
        let mut out = Queue::default();
        let session = Session::new(config, now, out.tail());
        Self {
            admission,
            input: Vec::new(),
            out,
            session,
            steps: 0,
            taken: 0,
            version: Version::V3_0,
            wire: Wire::new(stream),
        }
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.stream().as_raw_fd()
    }

    pub(crate) fn stream(&self) -> &Stream {
        self.wire.stream()
    }

    /// Handles received bytes up to the next message or subscription; [`None`] needs more bytes.
    /// Ranges are valid until the next call.
    ///
    /// # Errors
    /// The connection is over; the ERROR for the peer can still be sent.
    pub(crate) fn step(&mut self) -> Result<Option<Heard>, ClientError> {
        loop {
            let start = self.taken;
            let input = self.input.get_mut(start..).unwrap_or_default();
            let step = self.session.handle_input(input, self.out.tail());
            let step = step.map_err(ClientError::Protocol)?;
            self.taken += step.consumed;
            let event = match step.event {
                Event::Authenticate(credentials) => self.admit(&credentials)?,
                event => event,
            };
            match event {
                Event::Message(span) => {
                    self.session.accept();
                    let at = self.taken..self.taken + span.size;
                    self.taken = at.end;
                    return Ok(Some(Heard::Message(at)));
                }
                Event::Need(_) => {
                    self.input.truncate(self.input.len() - step.removed);
                    self.input.drain(..self.taken);
                    self.taken = 0;
                    if self.input.is_empty() {
                        self.input.shrink_to(KEPT_SIZE_MAX);
                    }
                    return Ok(None);
                }
                Event::Authenticate(_)
                | Event::LoopCheck(_)
                | Event::Trial(_)
                | Event::Undecided => {}
                Event::Progress => self.steps = self.steps.saturating_add(1),
                Event::Ready(peer) => {
                    self.version = peer.version;
                    if let Some(coder) = self.session.take_coder() {
                        let limits = self.session.config().limits;
                        let unsent = std::mem::take(&mut self.out);
                        let received = self.input.split_off(self.taken);
                        let opened = self.wire.encrypt(*coder, limits, unsent, received)?;
                        self.input.extend_from_slice(&opened);
                    }
                    return Ok(Some(Heard::Ready(peer)));
                }
                Event::Subscription { add, topic } => {
                    return Ok(Some(Heard::Subscription {
                        add,
                        topic: start + topic.start..start + topic.end,
                    }));
                }
            }
        }
    }

    /// Decides about the peer; the answer is what happens next.
    fn admit(&mut self, credentials: &Credentials) -> Result<Event, ClientError> {
        let decision = self
            .admission
            .decide(credentials, self.stream().peer_address().ip());
        let decision = decision.unwrap_or(Authorization::Denied { is_told: false });
        let next = self.session.authorize(decision, self.out.tail());
        next.map_err(ClientError::Protocol)
    }

    /// Received bytes, by a range of [`Self::step`].
    pub(crate) fn bytes(&self, at: Range<usize>) -> &[u8] {
        self.input.get(at).unwrap_or_default()
    }

    /// Reads once, through `scratch`; the number of bytes, and zero if there are none yet. Buffers
    /// grow with received bytes, not with announced sizes.
    ///
    /// # Errors
    /// The peer has closed the connection, or it failed.
    pub(crate) fn read(
        &mut self,
        scratch: &mut Vec<u8>,
        now: Instant,
    ) -> Result<usize, ClientError> {
        let heard = match self.wire.read(scratch) {
            Ok(heard) => heard,
            Err(error) if is_not_yet(&error) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        if heard.raw == 0 {
            return Err(ClientError::Closed);
        }
        self.session.handle_received(now);
        let plain = scratch.get(..heard.plain).unwrap_or_default();
        self.input.extend_from_slice(plain);
        Ok(heard.raw)
    }

    /// Sends pending bytes, as far as the stream takes them; whether it took any.
    ///
    /// # Errors
    /// The connection failed.
    pub(crate) fn flush(&mut self) -> Result<bool, ClientError> {
        let before = self.unsent();
        let mut is_blocked = false;
        while self.unsent() > 0 && !is_blocked {
            match self.wire.write(self.out.pending()) {
                Ok((taken, no_room)) => {
                    self.out.advance(taken);
                    is_blocked = no_room;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.unsent() != before)
    }

    /// The bytes to be sent, to append whole messages to.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        self.out.tail()
    }

    /// The number of bytes that wait to be sent.
    pub(crate) fn unsent(&self) -> usize {
        self.out.len() + self.wire.unsent()
    }

    /// Whether received bytes are not handled.
    pub(crate) fn has_input(&self) -> bool {
        self.input.len() > self.taken || self.wire.unopened() > 0
    }

    /// The number of received bytes that are not handled, or that the next step removes.
    pub(crate) fn unhandled(&self) -> usize {
        self.input.len() + self.wire.unopened()
    }

    /// Subscribes to a topic (`add`) or cancels it, in the form that this peer understands.
    pub(crate) fn subscribe(&mut self, topic: &[u8], add: bool) {
        Peer::append_subscription(self.version, topic, add, self.out.tail());
    }

    /// The time for [`Self::handle_timeout`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    /// Sends a PING if it is due. While reading `is_paused`, silence of the peer means nothing.
    ///
    /// # Errors
    /// The handshake took too long, or the peer is silent for too long.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        is_paused: bool,
    ) -> Result<(), ClientError> {
        if is_paused {
            self.session.pause_liveness(now);
        }
        let beat = self.session.handle_timeout(now, self.out.tail());
        beat.map_err(ClientError::Protocol)
    }

    /// Adds to the error of a handshake what to check.
    pub(crate) fn explain(&self, error: ClientError) -> ClientError {
        let error = match error {
            ClientError::Protocol(zmtp::Error::TimedOut(_)) => ClientError::TimedOut,
            error => error,
        };
        match Advice::new(&self.session.config().mechanism, self.steps, &error) {
            Some(advice) => ClientError::Handshake(Box::new(error), advice),
            None => error,
        }
    }

    /// Closes the sending direction.
    pub(crate) fn end(&self) {
        // A connection that is over already needs no end.
        drop(self.stream().shutdown(Shutdown::Write));
    }

    /// The connection without its session, and the received bytes that are not handled.
    pub(crate) fn into_wire(mut self) -> (Wire, Vec<u8>) {
        self.input.drain(..self.taken);
        (self.wire, self.input)
    }
}

/// Whether a stream only is not ready.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
    )
}
