//! A client-side ZeroMQ socket: connections, their queues, and an event loop.
//!
//! ```text
//! dialers, listeners ──► links: Connection + queue ──► next(): one piece of news at a time
//!                                     ▲
//!            send, send_to, publish ──┘ false: no peer has room now, News::Room follows
//! ```
//!
//! It knows how each type of socket chooses its peers, and no more: envelopes and the order of
//! requests and replies are for the caller. Nothing is read while the caller does not ask for news,
//! so that a slow caller slows down its peers. Memory is bounded: by the bytes of all inputs
//! together, by the queue of each peer, and by the number of connections.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

mod sending;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::config::{Admission, Attach, Endpoint};
pub(crate) use mio::Waker;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use zmtp::{Frames, SessionConfig, SocketType};

use super::connection::{Connection, Heard};
use super::dialer::{Attempt, Dialers, PAUSE_MIN};
use super::signals;
use super::subscriptions::Subscriptions;
use super::{ClientConfig, ClientError, Listener, Stream};
use crate::output::Failure;
use crate::value::Attached;

/// A peer; it stays the same until its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerId {
    key: usize,
    serial: u64,
}

/// What happened at a socket.
#[derive(Debug)]
pub(crate) enum News<'a> {
    /// The handshake with a peer is over.
    Joined(PeerId),
    /// A connection ended, or could not be made.
    Lost(Loss),
    Message(Arrival<'a>),
    /// A peer has taken bytes that the caller waits for: it has room again, for example.
    Room,
    /// A signal requests the end.
    Stop,
    /// A peer has subscribed or cancelled.
    Subscribed,
    /// Nothing happened until the deadline.
    TimedOut,
    /// The waker was used.
    Woken,
}

/// A received message.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    /// The identity of its sender, as a ROUTER shows it.
    pub(crate) identity: &'a [u8],
    pub(crate) peer: PeerId,
    /// The endpoint of its sender.
    pub(crate) source: &'a Arc<str>,
    /// Its frames in wire form; `zmtp::Frames` iterates over them.
    pub(crate) wire: &'a [u8],
}

/// The end of a connection, or of an attempt.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) endpoint: Arc<str>,
    pub(crate) error: ClientError,
    /// Whether the endpoint is one to connect to.
    pub(crate) is_dialed: bool,
    /// The peer, if the handshake was over.
    pub(crate) peer: Option<PeerId>,
    /// Bytes in its queue, if there are messages among them.
    pub(crate) unsent: usize,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct Socket {
    admission: Admission,
    /// When to look at the deadlines of all connections.
    beat_at: Instant,
    dialers: Dialers,
    /// Links with bytes to be sent.
    dirty: Vec<usize>,
    events: Events,
    /// Received bytes of all links that are not handled.
    held: usize,
    /// Nothing is sent any more.
    is_ended: bool,
    is_paused: bool,
    /// Rounds of work since the deadlines of connections were due.
    late_beats: u32,
    /// Rounds of work since the deadline of [`Self::next`].
    late_rounds: u32,
    links: Slab<Link>,
    listeners: Vec<Listening>,
    /// Links whose handshake is over.
    members: Vec<usize>,
    missed: u64,
    news: VecDeque<News<'static>>,
    poll: Poll,
    /// Links that may have received bytes.
    ready: VecDeque<usize>,
    scratch: Vec<u8>,
    serial: u64,
    session: Arc<SessionConfig>,
    /// The source of [`News::Stop`].
    stops: Option<UnixStream>,
    topics: Vec<Vec<u8>>,
    /// Memory of the subscriptions of all peers, in bytes.
    topics_held: usize,
    /// The place in `members` of the peer with the next turn.
    turn: usize,
    /// The caller waits for queued bytes to leave.
    wants_progress: bool,
    /// The receivers of one message.
    wanted: Vec<usize>,
    /// A message found no room.
    wants_room: bool,
    waker: Arc<Waker>,
    /// Steps since the system was last asked for events.
    worked: u32,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    dialer: Option<usize>,
    endpoint: Arc<str>,
    /// Since when its queue is full and the peer reads nothing.
    full_since: Option<Instant>,
    held: usize,
    identity: Box<[u8]>,
    is_dirty: bool,
    is_member: bool,
    /// Its queue has messages.
    is_owed: bool,
    /// In `ready`.
    is_queued: bool,
    serial: u64,
    topics: Subscriptions,
}

/// A listening endpoint.
#[derive(Debug)]
struct Listening {
    endpoint: Arc<str>,
    listener: Listener,
    /// When to accept again; the distant past while connections may wait.
    retry_at: Option<Instant>,
}

const WAKER: Token = Token(usize::MAX);
const STOPS: Token = Token(usize::MAX - 1);
/// The tokens of listeners count down from here.
const LISTENER: usize = usize::MAX - 2;
const LISTENERS_MAX: usize = 1000;

/// Connections of one socket; more are closed.
const CONNECTIONS_MAX: usize = 4096;

/// Received bytes of all connections that are not handled; then the largest input is given up.
const HELD_SIZE_MAX: usize = 256 << 20;

/// Memory of the subscriptions of all peers; then the peer with the most is given up.
const TOPICS_SIZE_MAX: usize = 256 << 20;

/// Steps before the system is asked for events again.
const WORK_MAX: u32 = 256;

/// Rounds of [`WORK_MAX`] steps for what has arrived before a deadline. A peer that sends without
/// end would put it off without them.
const LATE_ROUNDS_MAX: u32 = 16;

/// Connections that are accepted between two looks at the others.
const ACCEPTED_MAX: u32 = 64;

/// The deadlines of connections are looked at so often, at most and at least.
const BEAT_MIN: Duration = Duration::from_millis(50);
const BEAT_MAX: Duration = Duration::from_secs(1);

const READ_SIZE: usize = 64 << 10;

impl Socket {
    /// A socket without endpoints. A SUB subscribes to `topics`.
    ///
    /// # Errors
    /// The system has no event queue left.
    pub(crate) fn new(config: &ClientConfig, topics: Vec<Vec<u8>>) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::Running(format!("cannot poll: {error}"));
        let poll = Poll::new().map_err(failed)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed)?);
        Ok(Self {
            admission: Admission::Any,
            beat_at: Instant::now(),
            dialers: Dialers::new(config.timeout, Arc::clone(&waker)),
            dirty: Vec::new(),
            events: Events::with_capacity(256),
            held: 0,
            is_ended: false,
            is_paused: false,
            late_beats: 0,
            late_rounds: 0,
            links: Slab::new(),
            listeners: Vec::new(),
            members: Vec::new(),
            missed: 0,
            news: VecDeque::new(),
            poll,
            ready: VecDeque::new(),
            scratch: vec![0; READ_SIZE],
            serial: 0,
            session: Arc::new(config.session()),
            stops: None,
            topics,
            topics_held: 0,
            turn: 0,
            wants_progress: false,
            wanted: Vec::new(),
            wants_room: false,
            waker,
            worked: 0,
        })
    }

    /// Adds an endpoint. Returns it with its real port if it is bound.
    ///
    /// # Errors
    /// It cannot be bound.
    pub(crate) fn attach(
        &mut self,
        (attach, endpoint): &Attached,
    ) -> Result<Option<Endpoint>, Failure> {
        if *attach == Attach::Connect {
            self.dialers.add(endpoint.clone(), Instant::now());
            return Ok(None);
        }
        let refuse =
            |error: io::Error| Failure::Running(format!("cannot bind {endpoint}: {error}"));
        let (listener, bound) = Listener::bind(endpoint).map_err(refuse)?;
        listener.set_nonblocking().map_err(refuse)?;
        let index = self.listeners.len();
        if index == LISTENERS_MAX {
            return Err(refuse(io::Error::other("too many endpoints")));
        }
        let fd = listener.as_raw_fd();
        let token = Token(LISTENER - index);
        let registry = self.poll.registry();
        registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
            .map_err(refuse)?;
        self.listeners.push(Listening {
            endpoint: bound.to_string().into(),
            listener,
            retry_at: None,
        });
        Ok(Some(bound))
    }

    /// A CURVE server lets in only these clients; without a call, all.
    pub(crate) fn admit(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// From now on SIGINT and SIGTERM are [`News::Stop`].
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn watch_signals(&mut self) -> Result<(), Failure> {
        let stops = signals::stops()?;
        let fd = stops.as_raw_fd();
        let registry = self.poll.registry();
        registry
            .register(&mut SourceFd(&fd), STOPS, Interest::READABLE)
            .map_err(|error| Failure::Running(format!("cannot wait for signals: {error}")))?;
        self.stops = Some(stops);
        Ok(())
    }

    /// What causes [`News::Woken`] from another thread.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// The number of peers after their handshake.
    pub(crate) fn peers(&self) -> usize {
        self.members.len()
    }

    /// The number of peers with a subscription.
    pub(crate) fn subscribers(&self) -> usize {
        let members = self.members.iter();
        members
            .filter(|key| !self.links[**key].topics.is_empty())
            .count()
    }

    /// Messages that subscribers missed because they read nothing.
    pub(crate) fn missed(&self) -> u64 {
        self.missed
    }

    /// Stops or resumes the reading of messages. Handshakes go on.
    pub(crate) fn pause(&mut self, is_paused: bool) {
        if self.is_paused && !is_paused {
            let keys: Vec<usize> = self.members.clone();
            keys.into_iter().for_each(|key| self.queue(key));
        }
        self.is_paused = is_paused;
    }

    /// Whether a peer is at an endpoint that this socket connects to.
    pub(crate) fn is_dialed(&self, peer: PeerId) -> bool {
        let link = self.links.get(peer.key);
        link.is_some_and(|link| link.dialer.is_some())
    }

    /// The peer with this identity, announced or made up.
    pub(crate) fn find(&self, identity: &[u8]) -> Option<PeerId> {
        let found = |key: &&usize| *self.links[**key].identity == *identity;
        self.members.iter().find(found).map(|key| self.id(*key))
    }

    /// The endpoint of a peer; empty if it has left.
    pub(crate) fn endpoint(&self, peer: PeerId) -> &str {
        let link = self.links.get(peer.key);
        link.map_or("", |link| &link.endpoint)
    }

    /// Connects no more, and closes the sending direction of all connections: the peers close them
    /// when they have read everything.
    pub(crate) fn end(&mut self) {
        self.dialers.stop();
        self.is_ended = true;
        for (_, link) in &self.links {
            link.connection.end();
        }
    }

    /// Waits for the next piece of news until the deadline.
    ///
    /// # Errors
    /// The system has no events.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Result<News<'_>, Failure> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Ok(news);
            }
            match self.work() {
                Some((key, Heard::Message(at))) => {
                    if self.is_wanted(key, at.clone()) {
                        return Ok(self.message(key, at));
                    }
                }
                Some((key, Heard::Ready(peer))) => self.join(key, &peer.identity),
                Some((key, Heard::Subscription { add, topic })) => self.subscribe(key, add, topic),
                None => {
                    self.flush_all();
                    if !self.news.is_empty() {
                        continue;
                    }
                    let now = Instant::now();
                    let is_late = deadline.is_some_and(|deadline| deadline <= now);
                    self.wait(deadline, now)?;
                    self.late_rounds = if is_late { self.late_rounds + 1 } else { 0 };
                    let has_heard_all = self.news.is_empty() && self.ready.is_empty();
                    if is_late && (has_heard_all || self.late_rounds > LATE_ROUNDS_MAX) {
                        self.late_rounds = 0;
                        return Ok(News::TimedOut);
                    }
                }
            }
        }
    }

    /// Whether a SUB has subscribed to a message: some publishers send more.
    fn is_wanted(&self, key: usize, at: Range<usize>) -> bool {
        if self.session.socket_type != SocketType::Sub {
            return true;
        }
        let mut frames = Frames::new(self.links[key].connection.bytes(at));
        let first = frames.next().map(|frame| frame.body).unwrap_or_default();
        self.topics.iter().any(|topic| first.starts_with(topic))
    }

    fn message(&self, key: usize, at: Range<usize>) -> News<'_> {
        let link = &self.links[key];
        News::Message(Arrival {
            identity: &link.identity,
            peer: self.id(key),
            source: &link.endpoint,
            wire: link.connection.bytes(at),
        })
    }

    fn id(&self, key: usize) -> PeerId {
        let serial = self.links[key].serial;
        PeerId { key, serial }
    }

    /// Handles input until a link has news; [`None`] if no link has, or it is time for events.
    fn work(&mut self) -> Option<(usize, Heard)> {
        while self.worked < WORK_MAX
            && let Some(&key) = self.ready.front()
        {
            self.worked += 1;
            let is_unread = self.is_unread(key);
            let link = &mut self.links[key];
            if is_unread {
                link.is_queued = false;
                self.ready.pop_front();
                continue;
            }
            match link.connection.step() {
                Ok(Some(heard)) => return Some((key, heard)),
                Ok(None) => {}
                Err(error) => {
                    // The ERROR for the peer; a failure to send it does not matter.
                    drop(link.connection.flush());
                    self.lose(key, error);
                    continue;
                }
            }
            // The next one has its turn before this one goes on.
            self.ready.pop_front();
            match link.connection.read(&mut self.scratch, Instant::now()) {
                Ok(0) => link.is_queued = false,
                Ok(_) => self.ready.push_back(key),
                Err(error) => {
                    self.lose(key, error);
                    continue;
                }
            }
            self.account(key);
            self.flush(key);
        }
        None
    }

    /// Whether messages of a peer have to wait.
    fn is_unread(&self, key: usize) -> bool {
        let is_full = self.session.socket_type == SocketType::Rep && !self.has_room(key);
        self.links[key].is_member && (self.is_paused || is_full)
    }

    /// Keeps the sum of unhandled bytes, and its limit.
    fn account(&mut self, key: usize) {
        let link = &mut self.links[key];
        let held = link.connection.unhandled();
        self.held = self.held - link.held + held;
        link.held = held;
        if self.held > HELD_SIZE_MAX {
            let largest = self.links.iter().max_by_key(|(_, link)| link.held);
            if let Some((key, _)) = largest {
                self.lose(
                    key,
                    ClientError::Refused("the inputs of all peers are too large"),
                );
            }
        }
    }

    /// The handshake is over.
    fn join(&mut self, key: usize, identity: &[u8]) {
        if self.session.socket_type == SocketType::Pair && !self.members.is_empty() {
            return self.lose(key, ClientError::Refused("a PAIR has one peer at a time"));
        }
        let link = &mut self.links[key];
        link.is_member = true;
        link.identity = match identity {
            [] => made_up_identity(link.serial),
            identity => identity.into(),
        };
        if let Some(dialer) = link.dialer {
            self.dialers.succeed(dialer);
        }
        for topic in &self.topics {
            link.connection.subscribe(topic, true);
        }
        self.members.push(key);
        self.mark(key);
        self.news.push_back(News::Joined(self.id(key)));
    }

    fn subscribe(&mut self, key: usize, add: bool, topic: Range<usize>) {
        let link = &mut self.links[key];
        let topic = link.connection.bytes(topic);
        let before = link.topics.memory();
        let is_taken = !add || link.topics.add(topic);
        if !add {
            link.topics.remove(topic);
        }
        self.topics_held = self.topics_held - before + link.topics.memory();
        if !is_taken {
            return self.lose(
                key,
                ClientError::Refused("the peer has too many subscriptions"),
            );
        }
        self.news.push_back(News::Subscribed);
        if self.topics_held > TOPICS_SIZE_MAX {
            let links = self.links.iter();
            if let Some((key, _)) = links.max_by_key(|(_, link)| link.topics.memory()) {
                self.lose(
                    key,
                    ClientError::Refused("the subscriptions of all peers are too many"),
                );
            }
        }
    }

    /// Adds a link to those that may have received bytes.
    fn queue(&mut self, key: usize) {
        let link = &mut self.links[key];
        if !link.is_queued {
            link.is_queued = true;
            self.ready.push_back(key);
        }
    }

    /// Removes a link whose connection is over.
    fn lose(&mut self, key: usize, error: ClientError) {
        let link = self.links.remove(key);
        self.held -= link.held;
        self.topics_held -= link.topics.memory();
        self.members.retain(|member| *member != key);
        self.ready.retain(|ready| *ready != key);
        if let Some(dialer) = link.dialer {
            self.dialers.retry(dialer, Instant::now());
        }
        let peer = link.is_member.then_some(PeerId {
            key,
            serial: link.serial,
        });
        let error = match peer {
            Some(_) => error,
            None => link.connection.explain(error),
        };
        self.news.push_back(News::Lost(Loss {
            endpoint: link.endpoint,
            error,
            is_dialed: link.dialer.is_some(),
            peer,
            unsent: match link.is_owed {
                true => link.connection.unsent(),
                false => 0,
            },
        }));
    }

    /// Waits for events until the deadline or the next internal one.
    fn wait(&mut self, deadline: Option<Instant>, now: Instant) -> Result<(), Failure> {
        self.worked = 0;
        let beat = (!self.links.is_empty()).then_some(self.beat_at);
        let retries = self.listeners.iter().filter_map(|it| it.retry_at);
        let wake = deadline.into_iter().chain(beat).chain(retries);
        let wake = wake.chain(self.dialers.poll_timeout()).min();
        let timeout = match self.ready.is_empty() {
            true => wake.map(|wake| wake.saturating_duration_since(now)),
            false => Some(Duration::ZERO),
        };
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(Failure::Running(format!("cannot poll: {error}")));
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let now = Instant::now();
        for event in &events {
            match event.token() {
                WAKER => self.news.push_back(News::Woken),
                STOPS => self.news.push_back(News::Stop),
                Token(token) if token > LISTENER - LISTENERS_MAX => {
                    self.listeners[LISTENER - token].retry_at = Some(now);
                }
                Token(key) if self.links.contains(key) => {
                    self.queue(key);
                    if event.is_writable() {
                        self.flush(key);
                    }
                }
                _ => {}
            }
        }
        self.events = events;
        while let Some(attempt) = self.dialers.poll_attempt() {
            self.handle_attempt(attempt, now);
        }
        self.dialers.handle_timeout(now);
        for index in 0..self.listeners.len() {
            if self.listeners[index].retry_at.is_some_and(|at| at <= now) {
                self.accept(index, now);
            }
        }
        // What has arrived is heard before a deadline counts.
        if self.beat_at <= now {
            self.late_beats += 1;
            let has_heard_all = self.ready.is_empty() || self.is_paused;
            if has_heard_all || self.late_beats > LATE_ROUNDS_MAX {
                self.late_beats = 0;
                self.beat(now);
            }
        }
        Ok(())
    }

    /// Looks at the deadlines of all connections.
    fn beat(&mut self, now: Instant) {
        let mut next = now + BEAT_MAX;
        let keys: Vec<usize> = self.links.iter().map(|(key, _)| key).collect();
        for key in keys {
            let is_unread = self.is_unread(key);
            let link = &mut self.links[key];
            match link.connection.handle_timeout(now, is_unread) {
                Ok(()) => {
                    next = next.min(link.connection.poll_timeout().unwrap_or(next));
                    self.flush(key);
                }
                Err(error) => {
                    drop(link.connection.flush());
                    self.lose(key, error);
                }
            }
        }
        self.beat_at = next.max(now + BEAT_MIN);
    }

    fn handle_attempt(&mut self, Attempt { dialer, result }: Attempt, now: Instant) {
        let endpoint = Arc::clone(self.dialers.name(dialer));
        let added = result.and_then(|stream| self.add(stream, &endpoint, Some(dialer), now));
        if let Err(error) = added {
            self.dialers.retry(dialer, now);
            self.news.push_back(News::Lost(Loss {
                endpoint,
                error,
                is_dialed: true,
                peer: None,
                unsent: 0,
            }));
        }
    }

    fn accept(&mut self, index: usize, now: Instant) {
        let listening = &mut self.listeners[index];
        listening.retry_at = None;
        let endpoint = Arc::clone(&listening.endpoint);
        for _ in 0..ACCEPTED_MAX {
            let accepted = match self.listeners[index].listener.accept() {
                Ok(stream) if self.links.len() < CONNECTIONS_MAX => {
                    self.add(stream, &endpoint, None, now)
                }
                Ok(_) => Err(ClientError::Refused("there are too many connections")),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => {
                        self.listeners[index].retry_at = Some(now + PAUSE_MIN);
                        return;
                    }
                },
            };
            if let Err(error) = accepted {
                self.news.push_back(News::Lost(Loss {
                    endpoint: Arc::clone(&endpoint),
                    error,
                    is_dialed: false,
                    peer: None,
                    unsent: 0,
                }));
            }
        }
        self.listeners[index].retry_at = Some(now);
    }

    /// Begins the handshake on a new connection.
    fn add(
        &mut self,
        stream: Stream,
        endpoint: &Arc<str>,
        dialer: Option<usize>,
        now: Instant,
    ) -> Result<(), ClientError> {
        stream.set_nonblocking()?;
        let connection = Connection::new(
            stream,
            Arc::clone(&self.session),
            self.admission.clone(),
            now,
        );
        let entry = self.links.vacant_entry();
        let (key, fd) = (entry.key(), connection.fd());
        let registry = self.poll.registry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&fd), Token(key), interest)?;
        self.serial += 1;
        entry.insert(Link {
            connection,
            dialer,
            endpoint: Arc::clone(endpoint),
            full_since: None,
            held: 0,
            identity: Box::default(),
            is_dirty: false,
            is_member: false,
            is_owed: false,
            is_queued: false,
            serial: self.serial,
            topics: Subscriptions::default(),
        });
        self.beat_at = self.beat_at.min(now + BEAT_MIN);
        self.mark(key);
        self.queue(key);
        Ok(())
    }
}

/// An identity for a peer without one: as in libzmq, five bytes of which the first is zero.
fn made_up_identity(serial: u64) -> Box<[u8]> {
    let mut identity = [0; 5];
    identity[1..].copy_from_slice(&serial.to_be_bytes()[4..]);
    identity.into()
}
