//! ZeroMQ sockets that listen: PULL or SUB for heartbeats, PUB for events, REP for the control.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::PeerAddress;
use broker::config::{Admission, Endpoint, Network, SocketConfig};
use zmtp::encode::append_message;
use zmtp::{Frames, HeartbeatConfig, Limits, SessionConfig, SocketType};

use super::counters::{Counters, Trouble};
use super::sources::{Progress, Source};
use crate::client::{self, ClientError, Heard, Subscriptions};

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
    /// The key of its endpoint in the configuration.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Events => "watcher.events",
            Self::Heartbeat => "watcher.heartbeat.zmtp",
        }
    }

    /// The name in lines about it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Events => "events",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// What all connections of a socket have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    admission: Admission,
    /// The networks that peers may come from; empty: any.
    networks: Vec<Network>,
    role: Role,
    session: Arc<SessionConfig>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    /// The endpoint with its real port.
    pub(super) bound: Endpoint,
    /// The endpoint as the configuration has it.
    pub(super) endpoint: Endpoint,
    inner: client::Listener,
    pub(super) rules: Rules,
}

/// A connection of one of them.
#[derive(Debug)]
pub(super) struct Connection {
    /// The last time that bytes arrived, or the begin of the connection.
    pub(super) heard_at: Instant,
    inner: client::Connection,
    /// Whether its input waits until it has read more of what is for it.
    is_held: bool,
    /// Whether its handshake is over.
    pub(super) is_ready: bool,
    pub(super) role: Role,
    socket_type: SocketType,
    /// The subscriptions of a reader.
    topics: Subscriptions,
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

impl Rules {
    /// The rules of a socket, by its configuration.
    pub(super) fn new(role: Role, socket_type: SocketType, config: &SocketConfig) -> Self {
        let limits = Limits {
            message_frames_max: 64,
            message_size_max: MESSAGE_SIZE_MAX,
            ..Limits::default()
        };
        let session = SessionConfig {
            handshake_timeout: Some(Duration::from_secs(10)),
            heartbeat: Some(HeartbeatConfig {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(30),
                ttl: Duration::ZERO,
            }),
            limits,
            mechanism: config.mechanism.clone(),
            ..SessionConfig::new(socket_type)
        };
        Self {
            admission: config.admission.clone(),
            networks: config.options.tcp_accept_filter.clone(),
            role,
            session: Arc::new(session),
        }
    }

    /// The purpose of the socket.
    pub(super) fn role(&self) -> Role {
        self.role
    }
}

/// Whether a peer may come from this address.
pub(super) fn admits(networks: &[Network], peer: PeerAddress) -> bool {
    match peer {
        PeerAddress::Tcp(address) if !networks.is_empty() => {
            networks.iter().any(|it| it.contains(address.ip()))
        }
        _ => true,
    }
}

impl Listener {
    pub(super) fn bind(endpoint: &Endpoint, rules: Rules) -> io::Result<Self> {
        let (inner, bound) = client::Listener::bind(endpoint)?;
        inner.set_nonblocking()?;
        Ok(Self {
            bound,
            endpoint: endpoint.clone(),
            inner,
            rules,
        })
    }

    /// The number of its descriptor, for events.
    pub(super) fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    /// The next connection that waits; [`None`] if its peer may not come from its address.
    pub(super) fn accept(&self, now: Instant) -> io::Result<Option<Source>> {
        let Rules {
            admission,
            networks,
            role,
            session,
        } = &self.rules;
        let stream = self.inner.accept()?;
        if !admits(networks, stream.peer_address()) {
            return Ok(None);
        }
        stream.set_nonblocking()?;
        let inner = client::Connection::new(stream, Arc::clone(session), admission.clone(), now);
        Ok(Some(Source::Zmtp(Box::new(Connection {
            heard_at: now,
            inner,
            is_held: false,
            is_ready: false,
            role: *role,
            socket_type: session.socket_type,
            topics: Subscriptions::default(),
        }))))
    }
}

impl Connection {
    /// The number of its descriptor, for events.
    pub(super) fn fd(&self) -> RawFd {
        self.inner.fd()
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
    ) -> Result<Progress, ClientError> {
        let was_held = std::mem::take(&mut self.is_held);
        self.handle(found)?;
        let mut progress = Progress::Waits;
        if !self.is_held && self.inner.read(&mut vec![0; READ_SIZE], now)? > 0 {
            self.heard_at = now;
            self.handle(found)?;
            progress = Progress::More;
        }
        self.inner.flush()?;
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
        self.inner.unsent() < OUT_SIZE_MAX
    }

    fn handle(
        &mut self,
        found: &mut impl FnMut(&[&[u8]]) -> Option<Vec<Vec<u8>>>,
    ) -> Result<(), ClientError> {
        while self.has_room() {
            let heard = match self.inner.step() {
                Ok(Some(heard)) => heard,
                Ok(None) => return Ok(()),
                Err(error) => {
                    // The ERROR for the peer; a failure to send it does not matter.
                    drop(self.inner.flush());
                    return Err(error);
                }
            };
            match heard {
                Heard::Message(at) => {
                    let wire = self.inner.bytes(at);
                    let frames: Vec<&[u8]> = Frames::new(wire).map(|it| it.body).collect();
                    if let Some(answer) = found(&frames) {
                        append_message(self.inner.out(), &answer);
                    }
                }
                Heard::Ready(_) => {
                    self.is_ready = true;
                    if self.socket_type == SocketType::Sub {
                        self.inner.subscribe(b"", true);
                    }
                }
                Heard::Subscription { add, topic } => {
                    let topic = self.inner.bytes(topic);
                    if !add {
                        self.topics.remove(topic);
                    } else if !self.topics.add(topic)
                        || self.topics.exceed(TOPICS_MAX, TOPICS_SIZE_MAX)
                    {
                        return Err(ClientError::Refused("the peer has too many subscriptions"));
                    }
                }
            }
        }
        self.is_held = self.inner.has_input();
        Ok(())
    }

    /// Queues a message for this reader, if it subscribes to its first frame; returns whether there
    /// is something to send.
    pub(super) fn publish(&mut self, frames: &[&[u8]], counters: &mut Counters) -> bool {
        let is_wanted = frames.first().is_some_and(|it| self.topics.matches(it));
        if !self.is_ready || !is_wanted {
            return false;
        }
        if !self.has_room() {
            counters.note(
                Trouble::Missed,
                &format_args!("at most {OUT_SIZE_MAX} bytes wait"),
            );
            return false;
        }
        append_message(self.inner.out(), frames);
        true
    }

    /// The time for [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    /// Sends a PING, or ends a connection that is silent for too long.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        self.inner.handle_timeout(now, self.is_held)?;
        self.inner.flush().map(|_| ())
    }
}
