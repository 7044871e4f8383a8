//! The broker on a real machine: mio, sockets, the clock.
//!
//! [`Broker::turn`] is the loop's body. All bytes read in a turn are forwarded at once, and written
//! once per receiver after the last read; only runs large enough for a system call of their own are
//! written straight from the buffer they were read into.

#![expect(clippy::disallowed_methods, reason = "the driver reads the clock")]

use crate::config::{Config, Endpoint};
use crate::conn::{Input, SLICES_MAX};
use crate::core::{Action, Admin, Bound, ChangeError, Core, Flow};
use crate::ids::{ConnId, LinkId};
use crate::limits::{ACK_CHECKS_PER_TURN_MAX, FINISHED_PER_TURN_MAX, LINGER, SCRATCH_SIZE};
use crate::peer::PeerAddress;
use ack_check::Diagnosis;
use connector::{Connector, Dial, Outcome};
use handle::Command;
use http::Http;
use listener::Listener;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::errno::Errno;
use passed::Passed;
use reload::Reload;
use signal_hook_mio::v1_0::Signals;
use signals::AtSigusr1;
use stage::Stages;
use std::collections::{VecDeque, hash_map::RandomState};
use std::fmt;
use std::hash::BuildHasher as _;
use std::io::{self, IoSlice};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use stream::{Socket, State, Stream};
use tape::{Endings, unix_time};

mod ack_check;
mod address;
mod connector;
mod crowd;
mod descriptors;
mod handle;
mod http;
pub(crate) mod ipc;
mod listener;
mod opening;
mod passed;
mod reload;
mod signals;
mod stage;
mod stream;
mod tape;
mod tune;

pub use handle::Handle;
pub use http::HttpServer;
pub use passed::PassedSocket;
pub use stage::Stage;

/// Readiness events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;

/// The longest time of a turn, in case its budget of work is too large for the machine.
const TURN_TIME_MAX: Duration = Duration::from_millis(2);

/// System calls between two reads of the clock.
const CALLS_BETWEEN_LOOKS: usize = 8;

/// Bytes read or written that count as one more system call.
const BYTES_PER_CALL: usize = 16 << 10;

/// A token is one of these kinds, in its upper bits, and an index.
const KIND_SHIFT: u32 = usize::BITS - 3;
const KIND_CONNECTION: usize = 0;
const KIND_LINK: usize = 1;
const KIND_LISTENER: usize = 2;
const KIND_SIGNAL: usize = 3;
const KIND_WAKER: usize = 4;

/// A broker could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The configuration asks for what the system does not give, an endpoint that another process
    /// listens on for example.
    #[error(transparent)]
    Config(#[from] ChangeError),
    /// The system refused an event loop.
    #[error("cannot make an event loop: {0}")]
    EventLoop(#[from] io::Error),
    /// A passed socket is not for exactly one endpoint.
    #[error("{0}")]
    Passed(String),
}

/// A broker whose endpoints are bound.
pub struct Broker {
    at_sigusr1: AtSigusr1,
    /// The time at which the work of the turn began.
    began_at: Instant,
    /// System calls since the last read of the clock, with bytes counted as calls.
    calls: usize,
    commands: mpsc::Receiver<Command>,
    connector: Connector,
    core: Core,
    created_at: Instant,
    diagnosis: Diagnosis,
    endings: Endings,
    /// Turns in a row in which the kernel may have had more events than it could report.
    full_turns: usize,
    handle: Handle,
    /// Other threads may have sent commands.
    has_commands: bool,
    http: Http,
    /// By the slot of their id.
    listeners: Vec<Option<Listener>>,
    /// Connections being closed, the earliest deadline first.
    lingering: VecDeque<(Instant, ConnId)>,
    /// Listeners with peers to accept, in the order of their turns.
    crowded: VecDeque<usize>,
    /// Sockets that another process has opened, with the endpoints that they are for.
    passed: Passed,
    poll: Poll,
    reload: Reload,
    scratch: Vec<u8>,
    signals: Option<Signals>,
    stages: Stages,
    /// Connections being closed that may be able to proceed.
    stirred: VecDeque<ConnId>,
    stops: u32,
    /// By the slot of their id.
    streams: Vec<Option<Stream>>,
    /// Silent peers about whose systems the kernel will be asked.
    ack_checks: VecDeque<ConnId>,
}

impl Broker {
    /// Binds every endpoint of `config`; no connection is accepted before [`Self::run`].
    ///
    /// # Errors
    /// The first problem of [`Config::check`], or the first endpoint that could not be bound, and
    /// the reason.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        Self::bind_with(config, Http::default(), &[])
    }

    /// The same, with a server for HTTP. It begins with [`Self::run`], if [`Config::http`] has an
    /// address, and ends with the broker.
    ///
    /// # Errors
    /// As [`Self::bind`], or the address for HTTP could not be bound.
    pub fn bind_with_http(
        config: &Config,
        server: impl HttpServer + 'static,
    ) -> Result<Self, BindError> {
        Self::bind_with_sockets(config, server, &[])
    }

    /// The same, with listening sockets that another process has opened: the endpoints that they
    /// are for are not bound. Each must be for exactly one endpoint, which covers its address: by
    /// its name or, without that of a socket of a proxy, by its address and port.
    ///
    /// # Errors
    /// As [`Self::bind_with_http`], or a socket is for no endpoint or for several.
    pub fn bind_with_sockets(
        config: &Config,
        server: impl HttpServer + 'static,
        passed: &[PassedSocket],
    ) -> Result<Self, BindError> {
        Self::bind_with(config, Http::new(Box::new(server)), passed)
    }

    fn bind_with(config: &Config, http: Http, passed: &[PassedSocket]) -> Result<Self, BindError> {
        config.check().map_err(ChangeError::from)?;
        let now = Instant::now();
        let core = Core::new(now, config, RandomState::new().hash_one(0));
        let mut broker = Self::with_core(now, core)?;
        broker.http = http;
        broker.passed = passed::assign(config, passed).map_err(BindError::Passed)?;
        broker.open(now);
        if let Some(Err(error)) = broker.core.take_first_outcome() {
            return Err(error.into());
        }
        Ok(broker)
    }

    fn with_core(now: Instant, mut core: Core) -> io::Result<Self> {
        core.set_unix_time(unix_time());
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), token(KIND_WAKER, 0))?);
        let (sender, commands) = mpsc::channel();
        Ok(Self {
            ack_checks: VecDeque::new(),
            at_sigusr1: AtSigusr1::default(),
            began_at: now,
            calls: 0,
            commands,
            connector: Connector::new(Arc::clone(&waker)),
            core,
            created_at: now,
            crowded: VecDeque::new(),
            diagnosis: Diagnosis::default(),
            endings: Endings::default(),
            full_turns: 0,
            handle: Handle {
                commands: sender,
                waker,
            },
            has_commands: false,
            http: Http::default(),
            listeners: Vec::new(),
            lingering: VecDeque::new(),
            passed: Passed::default(),
            poll,
            reload: Reload::default(),
            scratch: vec![0; SCRATCH_SIZE],
            signals: None,
            stages: Stages::default(),
            stirred: VecDeque::new(),
            stops: 0,
            streams: Vec::new(),
        })
    }

    /// What it listens on: in the order of the configuration, as long as that was not changed.
    #[must_use]
    pub fn bound(&self) -> Vec<Bound> {
        self.core.bound()
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Questions and commands before [`Self::run`] and after it; other threads use
    /// [`Handle::call`] while it runs.
    pub fn admin(&mut self) -> Admin<'_> {
        self.core.admin(Instant::now())
    }

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// If the kernel refuses to wait for events.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let now = Instant::now();
        self.began_at = now;
        self.core.begin_turn(now);
        self.finish_work(now);
        self.enter(Stage::Running);
        while !self.core.is_stopped() && self.stops < 2 {
            self.turn(&mut events)?;
        }
        self.core.finish_reports();
        // A thread that asks now or later must not wait for an answer.
        self.commands = mpsc::channel().1;
        Ok(())
    }

    /// Waits for events and handles them, with all work that follows.
    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let before = Instant::now();
        self.core
            .note_turn(before.saturating_duration_since(self.began_at));
        let timeout = self.timeout(before);
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            return Err(error);
        }
        let now = Instant::now();
        self.began_at = now;
        self.core.begin_turn(now);
        if self.core.wants_unix_time() {
            self.core.set_unix_time(unix_time());
        }
        let mut count = 0;
        for event in events.iter() {
            self.handle_event(now, event);
            count += 1;
        }
        self.note_heard(before, count);
        self.handle_commands(now);
        while let Some(id) = self.core.poll_read() {
            self.read(now, id);
        }
        let heard_until = self.core.heard_until().unwrap_or(self.created_at);
        self.expire_attempts(heard_until);
        self.core.handle_timeout(now, heard_until);
        self.check_acks();
        self.finish_work(now);
        self.take_in_newcomers(now);
        self.core.flush_tapes();
        self.finish_lingering(now);
        if self.core.is_stopping() {
            self.enter(Stage::Stopping);
        }
        Ok(())
    }

    /// Ends a turn that takes too long by the clock, which is read now and then.
    fn mind_clock(&mut self) {
        self.calls += 1;
        if self.calls < CALLS_BETWEEN_LOOKS {
            return;
        }
        self.calls = 0;
        if self.began_at.elapsed() > TURN_TIME_MAX {
            self.core.end_turn();
        }
    }

    /// Notes the time up to which all peers were read, for their deadlines. The kernel is asked
    /// after that time; otherwise a process that was stopped for a while would close peers whose
    /// signs of life wait to be read. More events may exist than one call reports; since all are
    /// reported in turn, only a limited number of calls can be full of old ones.
    fn note_heard(&mut self, before: Instant, events: usize) {
        self.full_turns += 1;
        if events < EVENTS_MAX || self.full_turns > self.streams.len() / EVENTS_MAX {
            self.full_turns = 0;
            self.core.note_heard(before);
        }
    }

    /// The time that the next turn may wait: none if work is pending that needs no event.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        let crowded = self.crowded.iter();
        let crowded = crowded.filter_map(|index| self.listeners.get(*index)?.as_ref());
        let crowded = crowded.filter(|listener| listener.can_accept);
        let accepts_more = crowded
            .clone()
            .any(|listener| listener.paused_until.is_none());
        let has_work = self.has_commands || !self.stirred.is_empty() || !self.ack_checks.is_empty();
        if has_work || self.core.has_backlog() || accepts_more {
            return Some(Duration::ZERO);
        }
        let pauses = crowded.filter_map(|listener| listener.paused_until);
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
                let Some(link) = self.core.link_in_slot(index) else {
                    return;
                };
                if let Some(dial) = Dial::new(now, link, &self.core, self.poll.registry()) {
                    let outcome = self.connector.handle_event(dial);
                    self.handle_outcome(now, outcome);
                }
            }
            KIND_LISTENER => self.handle_crowd(index),
            KIND_SIGNAL => self.handle_signals(now),
            _ => {
                self.has_commands = true;
                self.handle_resolved(now);
            }
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

    /// Runs commands of other threads, at least one; those beyond the budget of the turn wait for
    /// the next turn.
    fn handle_commands(&mut self, now: Instant) {
        while self.has_commands {
            let Ok(command) = self.commands.try_recv() else {
                self.has_commands = false;
                return;
            };
            self.mind_clock();
            match command {
                Command::Call(call) => {
                    call(&mut self.core.admin(now));
                    self.open(now);
                }
                Command::Change { begin, reply } => drop(reply.send(self.change(begin))),
                Command::ConnectInproc { name, reply } => {
                    let stream = self.connect_inproc(now, &name, PeerAddress::Program);
                    drop(reply.send(stream));
                }
                Command::Reloaded(read) => self.handle_read_again(*read),
                Command::Stop => self.stop(now),
            }
            if !self.core.may_call() {
                return;
            }
        }
    }

    /// Handles addresses that were looked up.
    fn handle_resolved(&mut self, now: Instant) {
        while let Some((link, resolved)) = self.connector.poll_resolved() {
            let outcome = match resolved {
                Err(error) => Some((link, Err(error))),
                Ok(addresses) => Dial::new(now, link, &self.core, self.poll.registry())
                    .and_then(|dial| self.connector.try_next(dial, addresses.into())),
            };
            self.handle_outcome(now, outcome);
        }
    }

    fn handle_outcome(&mut self, now: Instant, outcome: Option<Outcome>) {
        match outcome {
            Some((link, Ok((socket, peer)))) => {
                if let Some(id) = self.core.handle_connected(now, link, peer) {
                    self.add_stream(now, id, socket);
                }
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

    /// Ends attempts to connect that have taken too long.
    fn expire_attempts(&mut self, now: Instant) {
        while let Some(link) = self.connector.poll_expired(now) {
            let dial = Dial::new(now, link, &self.core, self.poll.registry());
            match dial {
                None => self.connector.stop(link),
                Some(dial) => {
                    let outcome = self.connector.handle_expired(dial);
                    self.handle_outcome(now, outcome);
                }
            }
        }
    }

    /// Makes a pair of sockets, one for the side that binds this name, and returns the other. So
    /// the core has ordinary connections at both ends.
    fn connect_inproc(
        &mut self,
        now: Instant,
        name: &str,
        peer: PeerAddress,
    ) -> io::Result<UnixStream> {
        let not_bound = || {
            let message = format!("no side binds inproc://{name}");
            io::Error::new(io::ErrorKind::NotFound, message)
        };
        let mut listeners = self.listeners.iter().flatten();
        let listener = listeners.find(|listener| listener.inproc_name() == Some(name));
        let listener = listener.ok_or_else(not_bound)?.id;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let id = self.core.handle_accepted(now, listener, peer);
        let id = id.ok_or_else(not_bound)?;
        self.add_stream(now, id, Socket::Unix(mio::net::UnixStream::from_std(ours)));
        Ok(theirs)
    }

    fn connect(&mut self, now: Instant, link: LinkId) {
        let Some((endpoint, _)) = self.core.link(link) else {
            return;
        };
        let outcome = if let Endpoint::Inproc(name) = endpoint {
            let name = name.clone();
            let stream = self.connect_inproc(now, &name, PeerAddress::Inproc);
            let stream = stream.and_then(|stream| {
                stream.set_nonblocking(true)?;
                let socket = Socket::Unix(mio::net::UnixStream::from_std(stream));
                Ok((socket, PeerAddress::Inproc))
            });
            Some((link, stream))
        } else {
            Dial::new(now, link, &self.core, self.poll.registry())
                .and_then(|dial| self.connector.connect(dial))
        };
        self.handle_outcome(now, outcome);
    }

    fn stop(&mut self, now: Instant) {
        self.stops += 1;
        self.core.handle_stop(now);
    }

    fn add_stream(&mut self, now: Instant, id: ConnId, mut socket: Socket) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = token(KIND_CONNECTION, id.slot());
        let registered = self.poll.registry().register(&mut socket, token, interest);
        if let Err(error) = registered {
            self.core.handle_read_closed(id, Some(&error));
            self.core.run_deferred(now);
        }
        if id.slot() >= self.streams.len() {
            self.streams.resize_with(id.slot() + 1, || None);
        }
        self.streams[id.slot()] = Some(Stream::new(id, socket));
        self.read_later(id);
    }

    /// Makes sure that a connection is read in this turn or a later one, if it may be.
    fn read_later(&mut self, id: ConnId) {
        let Some(stream) = stream_of(&mut self.streams, id) else {
            return;
        };
        if stream.state != State::Open {
            self.stirred.push_back(id);
        } else if stream.can_read || self.core.is_cut(id) {
            self.core.read_later(id);
        }
    }

    /// Reads once from a connection and forwards the input, or continues with the rest of the last
    /// input.
    fn read(&mut self, now: Instant, id: ConnId) {
        self.mind_clock();
        let Some(stream) = stream_of(&mut self.streams, id) else {
            return;
        };
        let is_cut = self.core.is_cut(id);
        if is_cut && stream.is_read_closed && self.core.is_asking(id) {
            // Its answers would reach no peer.
            return self.core.handle_read_closed(id, None);
        }
        let mut input = self.core.begin_input(id, &mut self.scratch);
        if is_cut {
            self.handle_input(now, id, &mut input);
        } else {
            match stream.read(input.spare()) {
                Ok(None) => {}
                Ok(Some(0)) => self.core.handle_read_closed(id, None),
                Err(error) => self.core.handle_read_closed(id, Some(&error)),
                Ok(Some(size)) => {
                    self.calls += size / BYTES_PER_CALL;
                    input.filled(size);
                    self.handle_input(now, id, &mut input);
                }
            }
        }
        self.core.end_input(id, input, &mut self.scratch);
        self.read_later(id);
    }

    fn handle_input(&mut self, now: Instant, id: ConnId, input: &mut Input) {
        loop {
            let flow = self.core.handle_input(now, id, input);
            while let Some(target) = self.core.poll_urgent() {
                // It can wait, unless it needs room to go on.
                if flow == Flow::Flush || !self.core.is_turn_over() {
                    self.write(target, input.buffer());
                } else {
                    self.core.write_later(target);
                }
                self.core.keep_rest(target, input);
            }
            if flow != Flow::Flush {
                return;
            }
        }
    }

    /// Writes the queue of a connection until the kernel accepts no more.
    fn write(&mut self, id: ConnId, input: &[u8]) {
        while !self.core.is_blocked(id) {
            self.mind_clock();
            let Some(stream) = stream_of(&mut self.streams, id) else {
                // A connection without a stream accepts no bytes, now or later.
                return self.core.handle_written(id, 0, true);
            };
            let egress = self.core.egress_to_write(id, input);
            let Some(egress) = egress.filter(|egress| !egress.is_empty()) else {
                if stream.state != State::Open {
                    self.stirred.push_back(id);
                }
                return;
            };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            if count == 0 {
                // A long frame is being sealed, of which nothing can be written yet.
                if self.core.leaves_rest(id) {
                    return;
                }
                continue;
            }
            match stream.write_some(&slices[..count]) {
                Ok(size) => {
                    self.calls += size / BYTES_PER_CALL;
                    self.core.handle_written(id, size, false);
                    // Bytes in the input are written before it goes away, if there is time.
                    let may_leave = input.is_empty() || self.core.is_turn_over();
                    let egress = self.core.egress(id);
                    let has_more = egress.is_some_and(|egress| !egress.is_empty());
                    if has_more && may_leave && self.core.leaves_rest(id) {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.core.handle_written(id, 0, true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.core.handle_write_failed(id);
                    // The next read will report that the peer is gone.
                    stream.can_read = true;
                    self.read_later(id);
                    return;
                }
            }
        }
    }

    /// Runs the core's actions, and writes queues, until no work is left or the budget of the turn
    /// is used up.
    fn finish_work(&mut self, now: Instant) {
        loop {
            while let Some(action) = self.core.poll_action() {
                self.act(now, action);
            }
            while let Some(id) = self.core.poll_dirty() {
                self.write(id, &[]);
            }
            if !self.core.run_deferred(now) {
                break;
            }
        }
    }

    /// Asks the kernel about some silent peers; the others follow in the next turns.
    fn check_acks(&mut self) {
        for _ in 0..self.ack_checks.len().min(ACK_CHECKS_PER_TURN_MAX) {
            let Some(id) = self.ack_checks.pop_front() else {
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
                        self.stirred.push_back(id);
                    }
                    _ => self.drop_stream(now, id),
                }
            }
            Action::CheckAcks(id) => self.ack_checks.push_back(id),
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
            Action::Listen(id) => self.listen(id),
            Action::OpenHttp => self.open_http(),
            Action::Record(proxy) => self.record(proxy),
            Action::Reload => self.reload(),
            Action::ServeHttp => self.serve_http(now),
            Action::StopConnecting(link) => self.connector.stop(link),
            Action::StopListening(id) => {
                if let Some(slot) = self.listeners.get_mut(id.slot())
                    && let Some(listener) = slot.take_if(|listener| listener.id == id)
                {
                    listener.leave(self.poll.registry());
                    self.crowded.retain(|index| *index != id.slot());
                }
            }
        }
    }

    /// Advances connections that are being closed: those with events, and those whose time is over.
    fn finish_lingering(&mut self, now: Instant) {
        for _ in 0..self.stirred.len().min(FINISHED_PER_TURN_MAX) {
            let Some(id) = self.stirred.pop_front() else {
                break;
            };
            let Some(stream) = stream_of(&mut self.streams, id) else {
                continue;
            };
            if let State::Flushing(deadline) = stream.state
                && self.core.egress(id).is_none_or(|egress| egress.is_empty())
            {
                stream.finish(deadline);
            }
            let is_lingering = matches!(stream.state, State::Lingering(_));
            if is_lingering && stream.is_finished(&mut self.scratch) {
                self.drop_stream(now, id);
            } else if is_lingering && stream.can_read {
                self.stirred.push_back(id);
            }
        }
        for _ in 0..FINISHED_PER_TURN_MAX {
            let Some((_, id)) = self
                .lingering
                .pop_front_if(|(deadline, _)| *deadline <= now)
            else {
                return;
            };
            if stream_of(&mut self.streams, id).is_some() {
                self.drop_stream(now, id);
            }
        }
    }

    fn drop_stream(&mut self, now: Instant, id: ConnId) {
        if let Some(slot) = self.streams.get_mut(id.slot())
            && slot.as_ref().is_some_and(|stream| stream.id == id)
        {
            // Closing the descriptor removes it from the poll.
            *slot = None;
        }
        self.core.handle_closed(now, id);
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("bound", &self.bound())
            .finish_non_exhaustive()
    }
}

/// Whether an operation failed because this process, or the system, has no free file descriptors.
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
    token(KIND_LINK, link.slot())
}

#[cfg(test)]
mod tests;
