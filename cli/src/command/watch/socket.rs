//! ZeroMQ sockets that listen: PULL or SUB for heartbeats, PUB for events, REP for the control.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::config::Endpoint;
use zmtp::encode::append_message;
use zmtp::{Event, Frames, HeartbeatConfig, Limits, Peer, Session, SessionConfig, SocketType};

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
    inner: client::Listener,
    pub(super) role: Role,
}

/// A connection of one of them.
#[derive(Debug)]
pub(super) struct Connection {
    /// Received bytes that are not handled.
    input: Vec<u8>,
    is_ready: bool,
    /// Messages that a reader that is too slow has missed.
    missed: u64,
    out: Vec<u8>,
    pub(super) role: Role,
    session: Session,
    stream: client::Stream,
    topics: Vec<Vec<u8>>,
}

/// Most connections of each socket; more are closed.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Largest message that a peer may send.
const MESSAGE_SIZE_MAX: u64 = 64 << 10;

/// Bytes that wait for a reader; it misses what does not fit.
const OUT_SIZE_MAX: usize = 1 << 20;

/// Subscriptions of one reader; one with more is closed.
const TOPICS_MAX: usize = 1000;

const READ_SIZE: usize = 16 << 10;

impl Listener {
    pub(super) fn bind(
        endpoint: &Endpoint,
        role: Role,
        socket_type: SocketType,
    ) -> io::Result<(Self, Endpoint)> {
        let (inner, bound) = client::Listener::bind(endpoint)?;
        inner.set_nonblocking()?;
        let limits = Limits {
            message_frames_max: 64,
            message_size_max: MESSAGE_SIZE_MAX,
            ..Limits::default()
        };
        let config = SessionConfig {
            handshake_timeout: Some(Duration::from_secs(10)),
            heartbeat: Some(HeartbeatConfig {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(30),
                ttl: Duration::ZERO,
            }),
            limits,
            ..SessionConfig::new(socket_type)
        };
        let config = Arc::new(config);
        Ok((
            Self {
                config,
                inner,
                role,
            },
            bound,
        ))
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
            input: Vec::new(),
            is_ready: false,
            missed: 0,
            out,
            role: self.role,
            session,
            stream,
            topics: Vec::new(),
        })
    }
}

impl Connection {
    /// The number of its descriptor, for events.
    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Reads, handles what has arrived, and writes; each message goes to `found` as frames, and the
    /// frames that it returns are sent back.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        found: &mut impl FnMut(&[&[u8]]) -> Option<Vec<Vec<u8>>>,
    ) -> io::Result<()> {
        let mut buffer = [0; READ_SIZE];
        loop {
            let received = (&self.stream).read(&mut buffer);
            match received {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => {
                    self.session.handle_received(now);
                    self.input.extend_from_slice(&buffer[..size]);
                    self.handle(found)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.flush(),
                Err(error) => return Err(error),
            }
        }
    }

    fn handle(
        &mut self,
        found: &mut impl FnMut(&[&[u8]]) -> Option<Vec<Vec<u8>>>,
    ) -> io::Result<()> {
        let mut start = 0;
        loop {
            let step = self
                .session
                .handle_input(&mut self.input[start..], &mut self.out);
            let step = step.map_err(|error| {
                // The ERROR for the peer; a failure to send it does not matter.
                let _ = self.flush();
                io::Error::other(error.to_string())
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
                    subscribe(&mut self.topics, topic, add)?;
                }
                Event::Authenticate(_)
                | Event::LoopCheck(_)
                | Event::Progress
                | Event::Trial(_)
                | Event::Undecided => {}
            }
        }
    }

    /// Publishes a message to this reader, if it subscribes to its first frame.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn publish(&mut self, frames: &[&[u8]]) -> io::Result<()> {
        let is_wanted = |topic: &Vec<u8>| frames.first().is_some_and(|it| it.starts_with(topic));
        if !self.is_ready || !self.topics.iter().any(is_wanted) {
            return Ok(());
        }
        if self.out.len() >= OUT_SIZE_MAX {
            if self.missed == 0 {
                log::warn!("a reader of events is too slow and misses some");
            }
            self.missed += 1;
            return Ok(());
        }
        append_message(&mut self.out, frames);
        self.flush()
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
        beat.map_err(|error| io::Error::other(error.to_string()))?;
        self.flush()
    }
}

fn subscribe(topics: &mut Vec<Vec<u8>>, topic: &[u8], add: bool) -> io::Result<()> {
    if add {
        if topics.len() == TOPICS_MAX {
            return Err(io::Error::other("too many subscriptions"));
        }
        topics.push(topic.to_vec());
    } else if let Some(index) = topics.iter().position(|it| it == topic) {
        topics.swap_remove(index);
    }
    Ok(())
}
