//! The broker on a real machine: mio, sockets, the clock.
//!
//! [`Broker::turn`] is the loop's body. Everything read in a turn is forwarded at once, and
//! written once per receiver when all was read; only what is long enough to be worth a system call
//! of its own is written straight from the buffer it was read into.

#![expect(
    clippy::disallowed_methods,
    reason = "the driver is where the clock is read"
)]

use crate::config::{Config, Endpoint, Side};
use crate::conn::{ConnId, SLICES_MAX, SocketId};
use crate::core::{Action, Core, Flow, LinkId};
use crate::limits::{EXAMINED_PER_TURN_MAX, LINGER, SCRATCH_SIZE};
use crate::peer::PeerAddress;
use crate::record::Recorder;
use bytes::BytesMut;
use connector::{Connector, Dial, Outcome};
use handle::Command;
use listener::{Accepted, Listener};
use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::errno::Errno;
use reach::Diagnosis;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use std::collections::{VecDeque, hash_map::RandomState};
use std::fmt;
use std::hash::BuildHasher as _;
use std::io::{self, IoSlice};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use stream::{Socket, State, Stream};
use tape::Tape;

mod address;
mod connector;
mod handle;
mod ipc;
mod listener;
mod reach;
mod stream;
mod tape;
mod tune;

pub use handle::Handle;
pub use listener::{BindError, Bound};

/// Readiness events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// A token is one of these kinds, in its upper bits, and an index.
const KIND_SHIFT: u32 = usize::BITS - 3;
const KIND_CONNECTION: usize = 0;
const KIND_LINK: usize = 1;
const KIND_LISTENER: usize = 2;
const KIND_SIGNAL: usize = 3;
const KIND_WAKER: usize = 4;

/// A broker whose endpoints are bound.
pub struct Broker {
    bound: Vec<Bound>,
    commands: mpsc::Receiver<Command>,
    connector: Connector,
    core: Core,
    diagnosis: Diagnosis,
    /// Turns in a row in which the kernel may have had more to tell than it could.
    full_turns: usize,
    handle: Handle,
    /// Whatever the kernel had for us at that moment has been taken up.
    heard_until: Instant,
    listeners: Vec<Listener>,
    /// Connections being closed, the earliest deadline first.
    lingering: VecDeque<(Instant, ConnId)>,
    poll: Poll,
    /// Connections to be read from, each at most once.
    readable: VecDeque<ConnId>,
    scratch: BytesMut,
    signals: Option<Signals>,
    stops: u32,
    /// By the slot of their id.
    streams: Vec<Option<Stream>>,
    /// Silent peers, about whose systems the kernel is to be asked.
    suspects: VecDeque<ConnId>,
}

impl Broker {
    /// Binds every endpoint of `config`; nobody is accepted before [`Self::run`].
    ///
    /// # Errors
    /// The first endpoint that could not be bound, and why.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        let (mut bound, mut listeners) = (Vec::new(), Vec::new());
        for (proxy, proxy_config) in (0..).zip(&config.proxies) {
            for side in Side::ALL {
                let side_config = proxy_config.side(side);
                for endpoint in &side_config.bind {
                    let (name, id) = (proxy_config.name.clone(), SocketId { proxy, side });
                    let listener = Listener::bind(endpoint, id, &side_config.options);
                    let listener = listener.map_err(|source| BindError::Endpoint {
                        endpoint: Box::new(endpoint.clone()),
                        proxy: name.clone(),
                        side,
                        source,
                    })?;
                    bound.push(Bound {
                        endpoint: listener.endpoint.clone(),
                        proxy: name,
                        side,
                    });
                    listeners.push(listener);
                }
            }
        }
        let seed = RandomState::new().hash_one(0);
        let mut core = Core::new(config, seed);
        for (proxy, proxy_config) in (0..).zip(&config.proxies) {
            if let Some(record) = &proxy_config.record {
                core.record(proxy, Box::new(Tape::new(Recorder::open(record)?)));
            }
        }
        Ok(Self::with_listeners(core, bound, listeners)?)
    }

    fn with_listeners(
        core: Core,
        bound: Vec<Bound>,
        mut listeners: Vec<Listener>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), token(KIND_WAKER, 0))?);
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), token(KIND_LISTENER, index))?;
        }
        let (sender, commands) = mpsc::channel();
        Ok(Self {
            bound,
            commands,
            connector: Connector::new(Arc::clone(&waker)),
            core,
            diagnosis: Diagnosis::default(),
            full_turns: 0,
            handle: Handle {
                commands: sender,
                waker,
            },
            heard_until: Instant::now(),
            listeners,
            lingering: VecDeque::new(),
            poll,
            readable: VecDeque::new(),
            scratch: BytesMut::zeroed(SCRATCH_SIZE),
            signals: None,
            stops: 0,
            streams: Vec::new(),
            suspects: VecDeque::new(),
        })
    }

    /// What it listens on, in the order of the configuration.
    #[must_use]
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// From now on SIGINT and SIGTERM let [`Self::run`] send what is queued and return; a second
    /// one lets it return at once.
    ///
    /// # Errors
    /// What the system said.
    pub fn stop_on_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let token = token(KIND_SIGNAL, 0);
        self.poll
            .registry()
            .register(&mut signals, token, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// If the kernel refuses to wait for events.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        self.finish_turn(Instant::now());
        while !self.core.is_stopped() && self.stops < 2 {
            self.turn(&mut events)?;
        }
        // Whoever still asks, or will, is not to wait for an answer.
        self.commands = mpsc::channel().1;
        Ok(())
    }

    /// Waits for something to happen and does all that follows from it.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let before = Instant::now();
        let timeout = self.timeout(before);
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let now = Instant::now();
        let mut count = 0;
        for event in events.iter() {
            self.handle_event(now, event);
            count += 1;
        }
        self.note_heard(before, count);
        self.accept(now);
        for _ in 0..self.readable.len() {
            if let Some(id) = self.readable.pop_front() {
                self.read(now, id);
            }
        }
        self.expire_attempts(self.heard_until);
        self.core.handle_timeout(now, self.heard_until);
        self.examine_suspects();
        self.finish_turn(now);
        Ok(())
    }

    /// Deadlines are judged as of a moment up to which everybody has been heard. The kernel is
    /// asked after it, or else a process that was stopped for a while would think peers dead whose
    /// words are waiting; and there may be more of them than are told in one turn. All are told in
    /// turn, so that only so many turns can be full of what was there before.
    fn note_heard(&mut self, before: Instant, events: usize) {
        self.full_turns += 1;
        if events < EVENTS_MAX || self.full_turns > self.streams.len() / EVENTS_MAX {
            self.full_turns = 0;
            self.heard_until = before;
        }
    }

    /// How long the next turn may wait: not at all if there is work that needs no event.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let accepts_more = self
            .listeners
            .iter()
            .any(|listener| listener.can_accept && listener.paused_until.is_none());
        let has_work = !self.readable.is_empty() || !self.suspects.is_empty();
        if has_work || self.core.has_backlog() || accepts_more {
            return Some(Duration::ZERO);
        }
        let pauses = self
            .listeners
            .iter()
            .filter_map(|listener| listener.paused_until);
        let lingering = self.lingering.front().map(|(deadline, _)| *deadline);
        let next = self
            .core
            .poll_timeout()
            .into_iter()
            .chain(pauses)
            .chain(lingering)
            .chain(self.connector.poll_timeout())
            .min()?;
        Some(next.saturating_duration_since(now))
    }

    fn handle_event(&mut self, now: Instant, event: &Event) {
        let Token(value) = event.token();
        let index = value & ((1 << KIND_SHIFT) - 1);
        match value >> KIND_SHIFT {
            KIND_CONNECTION => self.handle_stream_event(index, event),
            KIND_LINK => {
                let link = LinkId(u32::try_from(index).unwrap_or(u32::MAX));
                let dial = Dial::new(now, link, &self.core, self.poll.registry());
                let outcome = self.connector.handle_event(dial);
                self.handle_outcome(now, outcome);
            }
            KIND_LISTENER => self.listeners[index].can_accept = true,
            KIND_SIGNAL => {
                let signals = self
                    .signals
                    .as_mut()
                    .map_or(0, |signals| signals.pending().count());
                for _ in 0..signals {
                    self.stop(now);
                }
            }
            _ => self.handle_wake(now),
        }
    }

    fn handle_stream_event(&mut self, slot: usize, event: &Event) {
        let Some(stream) = self.streams.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        let id = stream.id;
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            stream.can_read = true;
            stream.is_read_closed |= event.is_read_closed() || event.is_error();
            self.read_later(id);
        }
        if event.is_writable() && self.core.is_blocked(id) {
            self.core.handle_writable(id);
        }
    }

    fn handle_wake(&mut self, now: Instant) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::ConnectInproc { name, reply } => {
                    let stream = self.connect_inproc(now, &name, PeerAddress::Program);
                    drop(reply.send(stream));
                }
                Command::Stop => self.stop(now),
                // A receiver that is gone does not want to know.
                Command::Statistics(sender) => drop(sender.send(self.core.statistics())),
            }
        }
        while let Some((link, resolved)) = self.connector.poll_resolved() {
            let outcome = match resolved {
                Err(error) => Some((link, Err(error))),
                Ok(addresses) => {
                    let dial = Dial::new(now, link, &self.core, self.poll.registry());
                    self.connector.try_next(dial, addresses.into())
                }
            };
            self.handle_outcome(now, outcome);
        }
    }

    fn handle_outcome(&mut self, now: Instant, outcome: Option<Outcome>) {
        match outcome {
            Some((link, Ok((socket, peer)))) => {
                let id = self.core.handle_connected(now, link, peer);
                self.add_stream(now, id, socket);
            }
            Some((link, Err(error))) => {
                self.core.handle_connect_failed(now, link, &error);
                if lacks_descriptors(&error) {
                    self.release_descriptors(now);
                }
            }
            None => {}
        }
    }

    /// Attempts to connect that have taken too long.
    fn expire_attempts(&mut self, now: Instant) {
        while let Some(link) = self.connector.poll_expired(now) {
            let dial = Dial::new(now, link, &self.core, self.poll.registry());
            let outcome = self.connector.handle_expired(dial);
            self.handle_outcome(now, outcome);
        }
    }

    /// Makes a pair of sockets, one for whoever bound this name, and answers the other. So the
    /// core has connections like any other at both ends.
    fn connect_inproc(
        &mut self,
        now: Instant,
        name: &str,
        peer: PeerAddress,
    ) -> io::Result<UnixStream> {
        let mut listeners = self.listeners.iter();
        let Some(listener) = listeners.find(|listener| listener.inproc_name() == Some(name)) else {
            let message = format!("nobody binds inproc://{name}");
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        };
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let socket_id = listener.socket_id;
        let id = self.core.handle_accepted(now, socket_id, peer);
        self.add_stream(now, id, Socket::Unix(mio::net::UnixStream::from_std(ours)));
        Ok(theirs)
    }

    fn connect(&mut self, now: Instant, link: LinkId) {
        let outcome = if let Endpoint::Inproc(name) = self.core.endpoint(link) {
            let name = name.clone();
            let stream = self.connect_inproc(now, &name, PeerAddress::Inproc);
            let stream = stream.and_then(|stream| {
                stream.set_nonblocking(true)?;
                let socket = Socket::Unix(mio::net::UnixStream::from_std(stream));
                Ok((socket, PeerAddress::Inproc))
            });
            Some((link, stream))
        } else {
            let dial = Dial::new(now, link, &self.core, self.poll.registry());
            self.connector.connect(dial)
        };
        self.handle_outcome(now, outcome);
    }

    fn stop(&mut self, now: Instant) {
        self.stops += 1;
        self.core.handle_stop(now);
    }

    fn accept(&mut self, now: Instant) {
        let (mut accepted, mut is_short) = (Vec::new(), false);
        for listener in &mut self.listeners {
            if listener.can_accept {
                let before = listener.paused_until;
                listener.accept(now, &mut accepted);
                is_short |= listener.paused_until.is_some_and(|it| before != Some(it));
            }
        }
        if is_short {
            self.release_descriptors(now);
        }
        for Accepted {
            peer,
            socket,
            socket_id,
        } in accepted
        {
            match socket {
                None => self.core.handle_kept_out(now, socket_id, peer),
                Some(socket) => {
                    let id = self.core.handle_accepted(now, socket_id, peer);
                    self.add_stream(now, id, socket);
                }
            }
        }
    }

    fn add_stream(&mut self, now: Instant, id: ConnId, mut socket: Socket) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = token(KIND_CONNECTION, id.slot());
        let registered = self.poll.registry().register(&mut socket, token, interest);
        if let Err(error) = registered {
            self.core.handle_read_closed(id, Some(&error));
            self.core.settle(now);
        }
        if id.slot() >= self.streams.len() {
            self.streams.resize_with(id.slot() + 1, || None);
        }
        self.streams[id.slot()] = Some(Stream::new(id, socket));
        self.read_later(id);
    }

    /// Sees to it that a connection is read from in this turn or the next, if it may be.
    fn read_later(&mut self, id: ConnId) {
        let Some(stream) = stream_of(&mut self.streams, id) else {
            return;
        };
        let wants = self.core.wants_input(id) || stream.state != State::Open;
        if stream.can_read && wants && !stream.is_queued {
            stream.is_queued = true;
            self.readable.push_back(id);
        }
    }

    /// Reads once from a connection and forwards all that came.
    fn read(&mut self, now: Instant, id: ConnId) {
        let Some(stream) = stream_of(&mut self.streams, id) else {
            return;
        };
        stream.is_queued = false;
        if stream.state != State::Open || !self.core.wants_input(id) {
            return;
        }
        let mut input = self.core.begin_input(id, &mut self.scratch);
        match stream.read(input.spare()) {
            Ok(None) => {}
            Ok(Some(0)) => self.core.handle_read_closed(id, None),
            Err(error) => self.core.handle_read_closed(id, Some(&error)),
            Ok(Some(size)) => {
                input.filled(size);
                loop {
                    let flow = self.core.handle_input(now, id, &mut input);
                    while let Some(target) = self.core.poll_urgent() {
                        self.write(target, input.buffer());
                        self.core.keep_rest(target, &input);
                    }
                    if flow != Flow::Flush {
                        break;
                    }
                }
            }
        }
        self.core.end_input(id, input, &mut self.scratch);
        self.read_later(id);
    }

    /// Nobody can come for want of descriptors, not even who would take what waits here. Peers
    /// that have closed and whose messages wait can do without: all they sent is taken in.
    fn release_descriptors(&mut self, now: Instant) {
        let is_gone = |stream: &&Stream| {
            stream.is_read_closed && stream.state == State::Open && self.core.is_parked(stream.id)
        };
        let streams = self.streams.iter().flatten().filter(is_gone);
        let gone: Vec<ConnId> = streams.map(|stream| stream.id).collect();
        gone.into_iter().for_each(|id| self.take_rest(now, id));
    }

    /// Reads all that a peer has sent which has closed, as far as there is memory, and lets go of
    /// its descriptor.
    fn take_rest(&mut self, now: Instant, id: ConnId) {
        while let Some(stream) = stream_of(&mut self.streams, id)
            && self.core.has_memory_to_spare()
        {
            let mut input = self.core.begin_input(id, &mut self.scratch);
            let size = stream.read(input.spare());
            match size {
                Ok(None) => {}
                Ok(Some(size @ 1..)) => {
                    input.filled(size);
                    self.core.handle_input(now, id, &mut input);
                }
                Ok(Some(0)) | Err(_) => {
                    stream.release();
                    self.core.handle_read_closed(id, None);
                }
            }
            self.core.end_input(id, input, &mut self.scratch);
            if !matches!(size, Ok(Some(1..))) {
                return;
            }
        }
    }

    /// Writes what is queued for a connection until the kernel takes no more.
    fn write(&mut self, id: ConnId, input: &[u8]) {
        let Some(stream) = stream_of(&mut self.streams, id) else {
            // What has no stream takes nothing: asking again would not change that.
            self.core.handle_written(id, 0, true);
            return;
        };
        while !self.core.is_blocked(id) {
            let Some(egress) = self.core.egress(id).filter(|egress| !egress.is_empty()) else {
                return;
            };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            match stream.write_vectored(&slices[..count]) {
                Ok(size) => self.core.handle_written(id, size, false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.core.handle_written(id, 0, true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.core.handle_write_failed(id);
                    // The next read will say that the peer is gone.
                    stream.can_read = true;
                    self.read_later(id);
                    return;
                }
            }
        }
    }

    /// Does what the core asks for, and writes what there is to write, until there is nothing more.
    fn finish_turn(&mut self, now: Instant) {
        loop {
            while let Some(action) = self.core.poll_action() {
                self.act(now, action);
            }
            while let Some(id) = self.core.poll_dirty() {
                self.write(id, &[]);
            }
            if !self.core.settle(now) {
                break;
            }
        }
        self.core.flush_tapes();
        self.finish_lingering(now);
    }

    /// Asks the kernel about some silent peers, and about the others in the next turns.
    fn examine_suspects(&mut self) {
        for _ in 0..self.suspects.len().min(EXAMINED_PER_TURN_MAX) {
            let Some(id) = self.suspects.pop_front() else {
                return;
            };
            // Peers on this machine are gone when their connections are.
            let stream = stream_of(&mut self.streams, id);
            if let Some(socket) = stream.and_then(|stream| stream.tcp())
                && self.diagnosis.is_unreachable(socket)
            {
                self.core.handle_unreachable(id);
            }
        }
    }

    fn act(&mut self, now: Instant, action: Action) {
        match action {
            Action::Connect(link) => self.connect(now, link),
            Action::Close { id, lingers } => {
                let deadline = now + LINGER;
                match stream_of(&mut self.streams, id) {
                    Some(stream) if lingers => {
                        stream.state = State::Flushing(deadline);
                        self.lingering.push_back((deadline, id));
                    }
                    _ => self.drop_stream(now, id),
                }
            }
            Action::Examine(id) => self.suspects.push_back(id),
            Action::Resume(id) => self.read_later(id),
            Action::ResumeAll => {
                let ids: Vec<_> = self
                    .streams
                    .iter()
                    .flatten()
                    .map(|stream| stream.id)
                    .collect();
                ids.into_iter().for_each(|id| self.read_later(id));
            }
            Action::StopAccepting(None) => {
                self.listeners.clear();
                self.connector.clear();
            }
            Action::StopAccepting(Some(proxy)) => {
                let listeners = self.listeners.iter_mut();
                listeners
                    .filter(|listener| listener.socket_id.proxy == proxy)
                    .for_each(Listener::close);
            }
        }
    }

    /// Brings connections that are being closed a step further.
    fn finish_lingering(&mut self, now: Instant) {
        for _ in 0..self.lingering.len() {
            let Some((deadline, id)) = self.lingering.pop_front() else {
                return;
            };
            let Some(stream) = stream_of(&mut self.streams, id) else {
                continue;
            };
            if matches!(stream.state, State::Flushing(_))
                && self.core.egress(id).is_none_or(|egress| egress.is_empty())
            {
                stream.finish(deadline);
            }
            let is_finished = matches!(stream.state, State::Lingering(_))
                && stream.is_finished(&mut self.scratch);
            if is_finished || deadline <= now {
                self.drop_stream(now, id);
            } else {
                self.lingering.push_back((deadline, id));
            }
        }
    }

    fn drop_stream(&mut self, now: Instant, id: ConnId) {
        if let Some(slot) = self.streams.get_mut(id.slot())
            && slot.as_ref().is_some_and(|stream| stream.id == id)
        {
            // Closing the descriptor takes it out of the poll.
            *slot = None;
        }
        self.core.handle_closed(now, id);
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("bound", &self.bound)
            .finish_non_exhaustive()
    }
}

/// Whether something failed because this process, or the system, may not open more files.
fn lacks_descriptors(error: &io::Error) -> bool {
    [Errno::EMFILE, Errno::ENFILE]
        .map(|errno| Some(errno as i32))
        .contains(&error.raw_os_error())
}

/// The stream of a connection.
fn stream_of(streams: &mut [Option<Stream>], id: ConnId) -> Option<&mut Stream> {
    streams
        .get_mut(id.slot())?
        .as_mut()
        .filter(|stream| stream.id == id)
}

fn token(kind: usize, index: usize) -> Token {
    debug_assert!(index < 1 << KIND_SHIFT);
    Token(kind << KIND_SHIFT | index)
}

fn link_token(link: LinkId) -> Token {
    token(KIND_LINK, link.0 as usize)
}

#[cfg(test)]
mod tests;
