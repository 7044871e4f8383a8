//! One connection: a [`Session`] with its buffers, over a stream that does not wait.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Instant;

use zmtp::{Authorization, Event, Opener, Peer, Sealer, Session, SessionConfig, Version};

use super::queue::Queue;
use super::{Advice, ClientError, Stream};

/// A connection, from its greeting on.
#[derive(Debug)]
pub(super) struct Connection {
    /// Received plain bytes; those before `taken` are handled.
    input: Vec<u8>,
    /// Opens received frames, if the mechanism encrypts them.
    opener: Option<Opener>,
    /// Plain bytes to be sent.
    out: Queue,
    /// Received frames that are not opened yet.
    raw: Vec<u8>,
    /// Bytes for the stream, if the mechanism encrypts them.
    sealed: Queue,
    sealer: Option<Sealer>,
    session: Session,
    /// Steps of the handshake so far: the greeting, and then commands of the peer.
    steps: u32,
    stream: Stream,
    taken: usize,
    version: Version,
}

/// The result of [`Connection::step`], by its place in the input.
#[derive(Debug)]
pub(super) enum Heard {
    Message(Range<usize>),
    Ready(Peer),
    Subscription { add: bool, topic: Range<usize> },
}

/// Encrypted bytes that are made ahead of the stream, and at most a frame more.
const SEALED_SIZE: usize = 64 << 10;

/// A buffer without bytes keeps at most this much memory.
const KEPT_SIZE_MAX: usize = 64 << 10;

impl Connection {
    /// Begins a handshake on a stream.
    pub(super) fn new(
        stream: Stream,
        config: Arc<SessionConfig>,
        now: Instant,
    ) -> Result<Self, ClientError> {
        stream.set_nonblocking()?;
        let mut out = Queue::default();
        let session = Session::new(config, now, out.tail());
        Ok(Self {
            input: Vec::new(),
            opener: None,
            out,
            raw: Vec::new(),
            sealed: Queue::default(),
            sealer: None,
            session,
            steps: 0,
            stream,
            taken: 0,
            version: Version::V3_0,
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Handles received bytes up to the next message or subscription; [`None`] needs more bytes.
    /// Ranges are valid until the next call.
    ///
    /// # Errors
    /// The connection is over; the ERROR for the peer can still be sent.
    pub(super) fn step(&mut self) -> Result<Option<Heard>, ClientError> {
        loop {
            let start = self.taken;
            let input = self.input.get_mut(start..).unwrap_or_default();
            let step = self.session.handle_input(input, self.out.tail());
            let step = step.map_err(ClientError::Protocol)?;
            self.taken += step.consumed;
            match step.event {
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
                    if !self.open()? {
                        return Ok(None);
                    }
                }
                // A client lets in the peer that it has connected to.
                Event::Authenticate(_) => {
                    let granted = Authorization::Granted { user: None };
                    let decided = self.session.authorize(granted, self.out.tail());
                    decided.map_err(ClientError::Protocol)?;
                }
                Event::LoopCheck(_) | Event::Trial(_) | Event::Undecided => {}
                Event::Progress => self.steps = self.steps.saturating_add(1),
                Event::Ready(peer) => {
                    self.version = peer.version;
                    self.begin_coding();
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

    /// Received bytes, by a range of [`Self::step`].
    pub(super) fn bytes(&self, at: Range<usize>) -> &[u8] {
        self.input.get(at).unwrap_or_default()
    }

    /// Reads once, through `scratch`; the number of bytes, and zero if there are none yet. Buffers
    /// grow with received bytes, not with announced sizes.
    ///
    /// # Errors
    /// The peer has closed the connection, or it failed.
    pub(super) fn read(&mut self, scratch: &mut [u8], now: Instant) -> Result<usize, ClientError> {
        let size = match (&self.stream).read(scratch) {
            Ok(0) => return Err(ClientError::Closed),
            Ok(size) => size,
            Err(error) => return not_yet(error),
        };
        self.session.handle_received(now);
        let buffer = match &self.opener {
            Some(_) => &mut self.raw,
            None => &mut self.input,
        };
        buffer.extend_from_slice(scratch.get(..size).unwrap_or_default());
        Ok(size)
    }

    /// Sends pending bytes, as far as the stream takes them; the number of bytes on the wire.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) fn flush(&mut self) -> Result<usize, ClientError> {
        let mut written = 0;
        loop {
            let queue = match &mut self.sealer {
                None if self.sealed.is_empty() => &mut self.out,
                None => &mut self.sealed,
                Some(sealer) => {
                    if self.sealed.is_empty() && !self.out.is_empty() {
                        let tail = self.sealed.tail();
                        let size = sealer.append_sealed(self.out.pending(), SEALED_SIZE, tail);
                        self.out.advance(size.map_err(ClientError::Protocol)?);
                    }
                    &mut self.sealed
                }
            };
            if queue.is_empty() {
                return Ok(written);
            }
            match (&self.stream).write(queue.pending()) {
                Ok(size) => {
                    queue.advance(size);
                    written += size;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(written),
                Err(error) => {
                    not_yet(error)?;
                }
            }
        }
    }

    /// The plain bytes to be sent, to append whole messages to.
    pub(super) fn out(&mut self) -> &mut Vec<u8> {
        self.out.tail()
    }

    /// The number of bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.out.len() + self.sealed.len()
    }

    /// The number of received bytes that are not handled.
    pub(super) fn unhandled(&self) -> usize {
        self.input.len() + self.raw.len()
    }

    /// Subscribes to a topic, in the form that this peer understands.
    pub(super) fn subscribe(&mut self, topic: &[u8]) {
        Peer::append_subscription(self.version, topic, true, self.out.tail());
    }

    /// The time for [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    /// Sends a PING if it is due. While reading `is_paused`, silence of the peer means nothing.
    ///
    /// # Errors
    /// The handshake took too long, or the peer is silent for too long.
    pub(super) fn handle_timeout(
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
    pub(super) fn explain(&self, error: ClientError) -> ClientError {
        match Advice::new(&self.session.config().mechanism, self.steps, &error) {
            Some(advice) => ClientError::Handshake(Box::new(error), advice),
            None => error,
        }
    }

    /// Closes the sending direction.
    pub(super) fn end(&self) {
        // A connection that is over already needs no end.
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// The handshake is over: if the mechanism encrypts traffic, what is received and sent from
    /// now on passes through its coder.
    fn begin_coding(&mut self) {
        if let Some(coder) = self.session.take_coder() {
            self.raw = self.input.split_off(self.taken);
            self.opener = Some(coder.opener);
            self.sealer = Some(coder.sealer);
            // The rest of the handshake leaves as it is.
            self.sealed = std::mem::take(&mut self.out);
        }
    }

    /// Opens the whole frames that were received; returns whether there were any.
    fn open(&mut self) -> Result<bool, ClientError> {
        let Some(opener) = &mut self.opener else {
            return Ok(false);
        };
        let limits = &self.session.config().limits;
        let opened = opener.open(&mut self.raw, limits);
        let opened = opened.map_err(ClientError::Protocol)?;
        self.input.extend_from_slice(&self.raw[..opened.plain]);
        self.raw.drain(..opened.consumed);
        if self.raw.is_empty() {
            self.raw.shrink_to(KEPT_SIZE_MAX);
        }
        Ok(opened.plain > 0)
    }
}

/// Zero bytes, if the stream only is not ready.
fn not_yet(error: io::Error) -> Result<usize, ClientError> {
    match error.kind() {
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => Ok(0),
        _ => Err(ClientError::Io(error)),
    }
}
