//! ZeroMQ sockets that listen: PULL or SUB for heartbeats, PUB for events, REP for the control.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::config::Endpoint;
use zmtp::encode::append_message;
use zmtp::{Event, Frames, HeartbeatConfig, Limits, Peer, Session, SessionConfig, SocketType};

use super::counters::{Counters, Trouble};
use super::sources::Progress;
use crate::client;

/// The purpose of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Answers questions.
    Control,
    /// Publishes events and data.
    Events,
    /// Receives heartbeats.
    Heartbeat,
}

impl Role {
    /// The name in lines about it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Events => "events",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    config: Arc<SessionConfig>,
    /// The endpoint as the configuration has it.
    pub(super) endpoint: Endpoint,
    inner: client::Listener,
    pub(super) role: Role,
}

/// A connection of one of them.
#[derive(Debug)]
pub(super) struct Connection {
    /// The last time that bytes arrived, or the begin of the connection.
    pub(super) heard_at: Instant,
    /// Received bytes that are not handled.
    input: Vec<u8>,
    /// Whether its input waits until it has read more of what is for it.
    is_held: bool,
    is_ready: bool,
    out: Vec<u8>,
    pub(super) role: Role,
    session: Session,
    stream: client::Stream,
    topics: Topics,
}

/// The subscriptions of a reader.
#[derive(Debug, Default)]
struct Topics {
    list: Vec<Vec<u8>>,
    /// The bytes of all.
    size: usize,
}

/// Most connections of each socket; more are closed.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Largest message that a peer may send. An object may have as much over plain TCP; this is also
/// the most input that is kept of a peer, besides one read.
const MESSAGE_SIZE_MAX: u64 = 64 << 10;

/// Bytes that wait for a peer. A reader of events misses those that do not fit; a peer with that
/// many answers is not read from.
const OUT_SIZE_MAX: usize = 1 << 20;

/// Subscriptions of one reader, and the bytes of all; one with more is closed.
const TOPICS_MAX: usize = 1000;
const TOPICS_SIZE_MAX: usize = 64 << 10;

/// Bytes that are read from one connection before others have their turn. They hold at most 2048
/// messages.
const READ_SIZE: usize = 4 << 10;

impl Listener {
    pub(super) fn bind(
        endpoint: &Endpoint,
        role: Role,
        socket_type: SocketType,
    ) -> io::Result<(Self, Endpoint)> {
        let (inner, bound) = client::Listener::bind(endpoint)?;
        inner.set_nonblocking()?;
        let listener = Self {
            config: session_config(socket_type),
            endpoint: endpoint.clone(),
            inner,
            role,
        };
        Ok((listener, bound))
    }

    pub(super) fn socket_type(&self) -> SocketType {
        self.config.socket_type
    }

    /// Takes another purpose for all connections from now on.
    pub(super) fn change(&mut self, role: Role, socket_type: SocketType) {
        self.config = session_config(socket_type);
        self.role = role;
    }

    /// The number of its descriptor, for events.
    pub(super) fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    /// The next connection that waits.
    pub(super) fn accept(&self, now: Instant) -> io::Result<Connection> {
        let stream = self.inner.accept()?;
        stream.set_nonblocking()?;
        let mut out = Vec::new();
        let session = Session::new(Arc::clone(&self.config), now, &mut out);
        Ok(Connection {
            heard_at: now,
            input: Vec::new(),
            is_held: false,
            is_ready: false,
            out,
            role: self.role,
            session,
            stream,
            topics: Topics::default(),
        })
    }
}

impl Connection {
    /// The number of its descriptor, for events.
    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Reads some of what has arrived, handles it, and writes; each message goes to `found` as
    /// frames, and the frames that it returns are sent back. A peer that does not read its answers
    /// is not read from either.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        counters: &mut Counters,
        found: &mut impl FnMut(&[&[u8]]) -> Option<Vec<Vec<u8>>>,
    ) -> io::Result<Progress> {
        let was_held = std::mem::take(&mut self.is_held);
        self.handle(found)?;
        let mut progress = Progress::Waits;
        if !self.is_held {
            let mut buffer = [0; READ_SIZE];
            match (&self.stream).read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => {
                    self.heard_at = now;
                    self.session.handle_received(now);
                    self.input.extend_from_slice(&buffer[..size]);
                    self.handle(found)?;
                    progress = Progress::More;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => progress = Progress::More,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.flush()?;
        if self.is_held && self.has_room() {
            self.is_held = false;
            progress = Progress::More;
        }
        if self.is_held && !was_held {
            let detail = format_args!("the {} socket", self.role.name());
            counters.note(Trouble::Held, &detail);
        }
        Ok(progress)
    }

    fn has_room(&self) -> bool {
        self.out.len() < OUT_SIZE_MAX
    }

    fn handle(
        &mut self,
        found: &mut impl FnMut(&[&[u8]]) -> Option<Vec<Vec<u8>>>,
    ) -> io::Result<()> {
        let mut start = 0;
        loop {
            if !self.has_room() {
                self.is_held = start < self.input.len();
                self.input.drain(..start);
                return Ok(());
            }
            let step = self
                .session
                .handle_input(&mut self.input[start..], &mut self.out);
            let step = step.map_err(|error| {
                // The ERROR for the peer; a failure to send it does not matter.
                let _ = self.flush();
                refusal(&error)
            })?;
            let from = start;
            start += step.consumed;
            match step.event {
                Event::Message(span) => {
                    self.session.accept();
                    let wire = &self.input[start..start + span.size];
                    let frames: Vec<&[u8]> = Frames::new(wire).map(|it| it.body).collect();
                    if let Some(answer) = found(&frames) {
                        append_message(&mut self.out, &answer);
                    }
                    start += span.size;
                }
                Event::Need(_) => {
                    self.input.truncate(self.input.len() - step.removed);
                    self.input.drain(..start);
                    return Ok(());
                }
                Event::Ready(peer) => {
                    self.is_ready = true;
                    if self.session.config().socket_type == SocketType::Sub {
                        Peer::append_subscription(peer.version, b"", true, &mut self.out);
                    }
                }
                Event::Subscription { add, topic } => {
                    let topic = &self.input[from + topic.start..from + topic.end];
                    self.topics.change(topic, add)?;
                }
                Event::Authenticate(_)
                | Event::LoopCheck(_)
                | Event::Progress
                | Event::Trial(_)
                | Event::Undecided => {}
            }
        }
    }

    /// Queues a message for this reader, if it subscribes to its first frame; returns whether there
    /// is something to send.
    pub(super) fn publish(&mut self, frames: &[&[u8]], counters: &mut Counters) -> bool {
        let is_wanted = |topic: &Vec<u8>| frames.first().is_some_and(|it| it.starts_with(topic));
        if !self.is_ready || !self.topics.list.iter().any(is_wanted) {
            return false;
        }
        if !self.has_room() {
            counters.note(
                Trouble::Missed,
                &format_args!("at most {OUT_SIZE_MAX} bytes wait"),
            );
            return false;
        }
        append_message(&mut self.out, frames);
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let outcome = loop {
            if written == self.out.len() {
                break Ok(());
            }
            match (&self.stream).write(&self.out[written..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(size) => written += size,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.out.drain(..written);
        outcome
    }

    /// The time for [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }

    /// Sends a PING, or ends a connection that is silent for too long.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> io::Result<()> {
        let beat = self.session.handle_timeout(now, &mut self.out);
        beat.map_err(|error| refusal(&error))?;
        self.flush()
    }
}

impl Topics {
    fn change(&mut self, topic: &[u8], add: bool) -> io::Result<()> {
        if add {
            self.size += topic.len();
            if self.list.len() == TOPICS_MAX || self.size > TOPICS_SIZE_MAX {
                return Err(refusal(&"too many subscriptions"));
            }
            self.list.push(topic.to_vec());
        } else if let Some(index) = self.list.iter().position(|it| it == topic) {
            self.size -= topic.len();
            self.list.swap_remove(index);
        }
        Ok(())
    }
}

/// Why a connection ends, by the fault of the peer.
fn refusal(reason: &dyn Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason.to_string())
}

fn session_config(socket_type: SocketType) -> Arc<SessionConfig> {
    let limits = Limits {
        message_frames_max: 64,
        message_size_max: MESSAGE_SIZE_MAX,
        ..Limits::default()
    };
    Arc::new(SessionConfig {
        handshake_timeout: Some(Duration::from_secs(10)),
        heartbeat: Some(HeartbeatConfig {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            ttl: Duration::ZERO,
        }),
        limits,
        ..SessionConfig::new(socket_type)
    })
}
