//! The broker without its input and output: connections, proxies, time as an argument.
//!
//! The driver reports events (`handle_*`) and asks for work (`poll_*`). The core does not block,
//! read a clock, or know file descriptors, so a simulator can be its driver too.
//!
//! A turn, from the driver's view:
//!
//! ```text
//! begin_turn(now)
//! read_later(id) for each connection that may be read
//! while may_call(): run a question or command of the program on admin(now)
//! for each id of poll_read():
//!     input = begin_input(id, scratch), and read into input.spare()
//!     loop:
//!         flow = handle_input(now, id, input)
//!         write each connection of poll_urgent(), from the buffer of input
//!         end the loop unless flow is Flush
//!     end_input(id, input)
//! handle_timeout(now, heard_until)
//! loop:
//!     do each action of poll_action()
//!     write each connection of poll_dirty()
//!     end the loop when run_deferred() has no more work
//! ```

use crate::config::{BrokerControl, Changes, Config, HttpConfig, SocketName};
use crate::conn::outbox::Outbox;
use crate::conn::{Conn, ConnTable, Egress, Origin, Phase};
use crate::ids::{ConnId, LinkId, ListenerId, ProxyId, SocketId};
use crate::limits::{
    CANCELS_PER_TURN_MAX, KEPT_PER_TURN_MAX, TELLS_PER_TURN_MAX, UNDECIDED_SIZE_MAX,
};
use crate::pattern::Pattern;
use crate::peer::PeerAddress;
use crate::proxy::{Proxy, Sockets};
use crate::reason::{CloseReason, DropReason};
use crate::record::{RecordConfig, Tape};
use crate::stats::TurnTimes;
use crate::table::Table;
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

mod actions;
mod admin;
mod agenda;
pub(crate) mod authorize;
mod auxiliary;
mod change;
mod clock;
mod closed;
mod coding;
mod control;
mod deferred;
mod down_link;
mod events;
mod forward;
mod inproc;
mod intake;
mod leaving;
mod lifecycle;
mod links;
mod listeners;
mod live_options;
mod loops;
mod memory;
pub(crate) mod names;
mod observe;
mod opening;
mod passwords;
mod query;
mod ranking;
mod receive_hwm;
mod refusals;
mod reload;
mod render;
mod replays;
pub(crate) mod report;
mod roles;
mod shutdown;
mod subscriptions;
mod timers;
mod turn;
mod values;
mod walk;
mod watches;
pub(crate) mod zap;

pub use actions::Action;
pub use admin::{Admin, AdminError};
use agenda::Agenda;
pub use change::{Applied, ChangeError, ChangeId, ChangeResult};
use clock::Clock;
use closed::ClosedLimits;
pub(crate) use closed::ClosedPeers;
use deferred::Deferred;
use events::Events;
pub use intake::Flow;
use leaving::Leaving;
use links::{Link, Random};
use listeners::Listener;
pub use listeners::{Bound, ListenError};
use memory::Memory;
pub use memory::MemoryUse;
use observe::Copies;
use opening::Reconfiguration;
use passwords::Passwords;
pub use query::Query;
use refusals::Refusals;
use reload::Reload;
pub use reload::Reloaded;
pub use render::{
    endpoints, from_hex, render_cache, render_closed, render_drops, render_event, render_peer,
    render_record, render_replay, render_sample, render_socket, render_statistics, render_topic,
    render_turns, render_watch,
};
use report::ROOM_AGAIN;
use roles::Users;
use shutdown::Shutdown;
use subscriptions::Pending;
use timers::{Owner, Timers};
use turn::{Kind, Turn, cost};
use watches::Watches;

/// The whole state of a broker.
#[derive(Debug)]
pub struct Core {
    agenda: Agenda,
    clock: Clock,
    /// The limits of the closed peers that a socket remembers.
    closed_limits: ClosedLimits,
    /// Another size of steps than that of the codec: see [`Self::set_coder_step_size`].
    coder_step_size: Option<usize>,
    conns: ConnTable,
    deferred: Deferred,
    /// Proxies that keep messages.
    keeping: Vec<ProxyId>,
    /// Messages dropped by sockets that were removed.
    dropped_before: u64,
    events: Events,
    leaving: Leaving,
    links: Table<LinkId, Link>,
    listeners: Table<ListenerId, Listener>,
    memory: Memory,
    outbox: Outbox,
    passwords: Passwords,
    pending: Pending,
    proxies: Table<ProxyId, Proxy>,
    random: Random,
    reconfiguration: Reconfiguration,
    reload: Reload,
    /// Proxies that are recorded.
    recorded: Vec<ProxyId>,
    refusals: Refusals,
    scratch: Scratch,
    shutdown: Shutdown,
    sockets: Sockets,
    timers: Timers,
    turn: Turn,
    users: Users,
    watches: Watches,
}

/// Buffers of one call, kept for the next, so that messages need no allocation.
#[derive(Debug, Default)]
struct Scratch {
    /// Commands of a session for its peer; empty between calls.
    session_out: Vec<u8>,
    copies: Copies,
    /// The envelope that a REQ or REP puts in front of the message being forwarded.
    envelope: Vec<u8>,
    /// The identity frame of the message being forwarded.
    prefix: Vec<u8>,
    targets: Vec<ConnId>,
}

impl Core {
    /// A new broker; its first [`Self::poll_action`]s are requests to listen, and, when every
    /// endpoint is open, attempts to connect. `seed` makes the waits of different processes, and
    /// the identities that they generate, differ.
    #[must_use]
    pub fn new(now: Instant, config: &Config, seed: u64) -> Self {
        let mut core = Self {
            agenda: Agenda::default(),
            clock: Clock::new(now),
            closed_limits: ClosedLimits::of(config),
            coder_step_size: None,
            conns: ConnTable::new(Random::new(seed).number()),
            deferred: Deferred::default(),
            keeping: Vec::new(),
            dropped_before: 0,
            events: Events::default(),
            leaving: Leaving::default(),
            links: Table::new(0),
            listeners: Table::new(0),
            memory: Memory::new(config.memory_limit),
            outbox: Outbox::default(),
            passwords: Passwords::default(),
            pending: Pending::default(),
            proxies: Table::new(0),
            random: Random::new(seed),
            reconfiguration: Reconfiguration::of(Config {
                broker_control: BrokerControl::Off,
                http: HttpConfig::default(),
                proxies: Vec::new(),
                roles: Vec::new(),
                users: BTreeMap::new(),
                ..*config
            }),
            recorded: Vec::new(),
            reload: Reload::default(),
            refusals: Refusals::default(),
            scratch: Scratch::default(),
            shutdown: Shutdown::new(config.drain_timeout),
            sockets: Table::new(0),
            timers: Timers::default(),
            turn: Turn::default(),
            users: Users::default(),
            watches: Watches::default(),
        };
        let _ = core.begin_change(config.clone(), &Changes::default());
        core
    }

    /// The time since the beginning of 1970: the first number of a ring of messages, and the time
    /// of requests for them. Call this before anything else, and before requests are read.
    pub fn set_unix_time(&mut self, unix: Duration) {
        self.clock.set_unix(unix);
        for id in &self.keeping {
            let first = self.clock.unix_nanos();
            self.proxies[*id].observers.number_from(first);
        }
    }

    /// For tests, which want short frames to take steps too: see [`zmtp::Coder::set_step_size`].
    #[doc(hidden)]
    pub fn set_coder_step_size(&mut self, bytes: usize) {
        self.coder_step_size = Some(bytes);
    }

    /// Whether [`Self::set_unix_time`] has an effect.
    #[must_use]
    pub fn wants_unix_time(&self) -> bool {
        !self.keeping.is_empty()
    }

    /// Every proxy: in the order of the configuration, as long as none was removed; one that is
    /// added takes the first free place.
    pub fn proxies(&self) -> impl Iterator<Item = ProxyId> {
        let proxies = self.proxies.iter().filter(|(_, proxy)| !proxy.is_own);
        proxies.map(|(id, _)| id)
    }

    /// The socket of a proxy with this name; auxiliary sockets exist if they are configured.
    #[must_use]
    pub fn socket(&self, proxy: ProxyId, name: SocketName) -> Option<SocketId> {
        self.proxies.get(proxy)?.socket(name)
    }

    /// The names of a proxy and of its socket, for the log.
    fn names(&self, id: SocketId) -> (&str, SocketName) {
        let socket = &self.sockets[id];
        (&self.proxies[socket.proxy].name, socket.name)
    }

    /// The peer closed the connection, or reading from it failed: all its input was handled, or
    /// waits. Waiting messages go on first; then the driver reports the end again.
    pub fn handle_read_closed(&mut self, id: ConnId, error: Option<&io::Error>) {
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_suspended) {
            conn.backlog.close();
            return;
        }
        let why = error.map_or(CloseReason::PeerClosed, |error| {
            CloseReason::Io(error.kind())
        });
        self.close_later(id, why);
    }

    /// Writing failed: the queue will never be read. Input of the peer may still be available, so
    /// the connection ends only when reading fails too.
    pub fn handle_write_failed(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_blocked = true;
            self.deferred.broken.push_back(id);
        } else if let Some(closing) = self.conns.closing_mut(id) {
            closing.egress.close(&mut self.outbox.store);
        }
    }

    /// The kernel accepted `size` bytes of those in [`Egress::slices`]; `is_blocked` if it accepts
    /// no more for now.
    pub fn handle_written(&mut self, id: ConnId, size: usize, is_blocked: bool) {
        self.turn.charge(cost::WRITE + turn::bytes(size));
        let Some(conn) = self.conns.get_mut(id) else {
            if let Some(closing) = self.conns.closing_mut(id) {
                closing.is_blocked = is_blocked;
                closing.egress.advance(size, &mut self.outbox.store);
                if size > 0 && closing.peer == PeerAddress::Inproc {
                    self.shutdown.inproc.note();
                }
            }
            return;
        };
        conn.is_blocked = is_blocked;
        if size > 0 && conn.peer == PeerAddress::Inproc {
            self.shutdown.inproc.note();
        }
        let messages_before = conn.egress.messages();
        conn.egress.advance(size, &mut self.outbox.store);
        if is_blocked {
            conn.egress.release_blocks(&mut self.outbox.store);
        }
        conn.traffic.bytes_sent += size as u64;
        conn.traffic.messages_sent += u64::from(messages_before - conn.egress.messages());
        let socket_id = conn.socket;
        let socket = &mut self.sockets[socket_id];
        let patience = socket.patience(id, conn);
        if patience.is_none() || size > 0 && matches!(socket.pattern, Pattern::Xsub(_)) {
            conn.fullness.iter_mut().for_each(|full| full.since = None);
        }
        if let Some(term) = socket.watch_term(id, conn)
            && let full = conn.fullness.get_or_insert_default()
            && !std::mem::replace(&mut full.is_watched, true)
        {
            let later = self.clock.now() + lifecycle::look_again_after(term);
            self.timers.insert(later, Owner::Queue(id));
        }
        self.queue_shortened(id);
    }

    /// The queue of an open connection has become shorter: messages were written, expired, shed or
    /// replaced. Does everything that may follow from that.
    fn queue_shortened(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let socket_id = conn.socket;
        let socket = &mut self.sockets[socket_id];
        let has_missed = socket.missed_before.is_some() || conn.traffic.is_missing_some();
        let has_room = has_missed && conn.is_at_low_water(&socket.options);
        if let Some(balancer) = socket.pattern.balancer() {
            balancer.writable(id, &mut self.conns, &socket.options);
        }
        let has_orphaned = socket.pattern.has_orphaned();
        if has_room {
            self.report_room(id, ROOM_AGAIN);
        }
        self.give_up_lost_request(socket_id);
        if has_orphaned || self.is_waited_for(socket_id) {
            self.wake_for(socket_id);
        }
        self.tell_later(id);
        self.kept_later(id);
    }

    /// Whether messages wait for a peer of this socket.
    fn is_waited_for(&self, id: SocketId) -> bool {
        let waits = |sender: SocketId| !self.sockets[sender].suspended.is_empty();
        let socket = &self.sockets[id];
        match socket.across {
            Some(across) => waits(across),
            None if socket.name == SocketName::Capture => {
                self.proxies[socket.proxy].sides().into_iter().any(waits)
            }
            None => false,
        }
    }

    /// The kernel accepts bytes for this connection again.
    pub fn handle_writable(&mut self, id: ConnId) {
        if let Some(writer) = self.conns.writer(id) {
            *writer.is_blocked = false;
            self.outbox.mark_dirty(&mut self.conns, id);
        }
    }

    /// The driver has closed the connection of [`Action::Close`].
    pub fn handle_closed(&mut self, now: Instant, id: ConnId) {
        let Some(closing) = self.conns.closing_mut(id) else {
            return;
        };
        closing.is_closed = true;
        let (origin, is_cancelling) = (closing.origin, closing.is_cancelling);
        if !is_cancelling {
            self.forget(id);
        }
        if let Origin::Dialled(link) = origin {
            self.retry_link(now, link);
        }
    }

    /// Time has passed: handles deadlines, retries, and a slice of the work that is done in small
    /// steps.
    ///
    /// Deadlines of peers are judged as of `heard_until`, up to which all input of peers was handed
    /// over; it may be before `now`.
    pub fn handle_timeout(&mut self, now: Instant, heard_until: Instant) {
        let now = self.advance(now);
        self.turn.work_on(Kind::Deadlines);
        while self.timers.next().is_some_and(|next| next <= heard_until)
            && !self.turn.cuts()
            && let Some((deadline, owner)) = self.timers.pop_due(heard_until)
        {
            self.turn.charge(cost::TIMER);
            match owner {
                Owner::Conn(id) => self.check_deadline(heard_until, id, deadline),
                Owner::Contest(id) => self.check_contest(id),
                Owner::Greeting(id) => self.check_greeting(id),
                Owner::Link(id) => self.check_link(now, id),
                Owner::Queue(id) => self.check_queue(heard_until, id),
                Owner::Rate(id) => self.check_rate(id),
                Owner::Refusal(id) => self.end_refusal(id),
                Owner::Reports(proxy) => self.sum_up_reports(proxy),
                Owner::Sample(proxy) => self.end_sample(proxy),
                Owner::Shed => self.sum_up_shed(),
                Owner::Trial(id) => self.check_trial(id),
                Owner::Zap(id) => self.check_zap(id),
            }
        }
        self.turn.work_on(Kind::Subscriptions);
        let done =
            self.cancel_departed(CANCELS_PER_TURN_MAX) + self.tell_publishers(TELLS_PER_TURN_MAX);
        self.turn.charge(done as u64 * cost::CANCEL);
        if !self.keeping.is_empty() {
            self.send_kept(KEPT_PER_TURN_MAX);
        }
        self.enforce_limit(&[]);
        self.shutdown.inproc.turn();
        self.run_deferred(now);
    }

    /// Records every message of this proxy from now on, or none any more.
    pub(super) fn record(&mut self, proxy: ProxyId, tape: Option<Box<dyn Tape>>) {
        self.recorded.retain(|other| *other != proxy);
        if tape.is_some() {
            self.recorded.push(proxy);
        }
        self.proxies[proxy].observers.set_tape(tape);
    }

    /// The recording of a proxy ends, or has other limits; one that needs another file is begun
    /// elsewhere.
    pub(super) fn change_recording(&mut self, proxy: ProxyId, to: Option<&RecordConfig>) {
        match (to, self.proxies[proxy].observers.recording.tape_mut()) {
            (Some(to), Some(tape)) if tape.path() == to.path => tape.set_limits(to),
            (None, Some(_)) => self.record(proxy, None),
            _ => {}
        }
    }

    /// Tells the recordings that the turn is over.
    pub fn flush_tapes(&mut self) {
        for proxy in &self.recorded {
            if let Some(tape) = self.proxies[*proxy].observers.recording.tape_mut() {
                tape.flush();
            }
        }
    }

    /// The next request to the driver. Requests to open something come first, whatever the budget
    /// of the turn.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.deferred.opening.pop_front() {
            self.turn.work_on(Kind::Actions);
            self.turn.charge(cost::CONNECT);
            return Some(action);
        }
        let units = match self.deferred.actions.front()? {
            Action::Connect(_) => cost::CONNECT,
            Action::ResumeAll => self.conns.len() as u64 * cost::WALK,
            _ => 0,
        };
        if units > 0 {
            self.turn.work_on(Kind::Actions);
            if self.turn.cuts() {
                return None;
            }
            self.turn.charge(units);
        }
        let action = self.deferred.actions.pop_front();
        self.memory.is_resuming &= action != Some(Action::ResumeAll);
        action
    }

    /// The next connection to write before the input goes away.
    #[must_use]
    pub fn poll_urgent(&mut self) -> Option<ConnId> {
        self.outbox.poll_urgent(&mut self.conns)
    }

    /// The next connection to write at the end of the turn, while its budget allows. Proxies take
    /// turns; peers in their handshake come last.
    #[must_use]
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        self.turn.work_on(Kind::Writing);
        while self.outbox.has_dirty() && !self.turn.cuts() {
            let done = self.turn.done();
            let Some(id) = self.outbox.poll_dirty(&mut self.conns, done) else {
                break;
            };
            if self.drop_expired(id) {
                self.outbox.mark_dirty(&mut self.conns, id);
                continue;
            }
            if self.egress(id).is_some_and(|egress| !egress.is_empty()) {
                return Some(id);
            }
        }
        if !self.outbox.has_greetings() {
            return None;
        }
        self.turn.work_on(Kind::Newcomers);
        if self.turn.cuts() {
            return None;
        }
        let done = self.turn.done();
        self.outbox.poll_greeting(&mut self.conns, done)
    }

    /// Whether a connection that is being written must leave the rest to the next turn, because the
    /// budget of this one is used up. [`Self::poll_dirty`] will return it again.
    pub fn leaves_rest(&mut self, id: ConnId) -> bool {
        let must = self.turn.cuts();
        if must {
            self.outbox.mark_dirty(&mut self.conns, id);
        }
        must
    }

    /// Begins a turn: its budget of work is whole again. Call this once, before anything else in a
    /// turn.
    pub fn begin_turn(&mut self, now: Instant) {
        self.advance(now);
        self.turn.begin();
    }

    /// The clock says that the turn takes too long: from now on [`Self::poll_read`] and similar
    /// functions return nothing.
    pub fn end_turn(&mut self) {
        self.turn.end();
    }

    /// A connection of [`Self::poll_urgent`] will be written later; [`Self::keep_rest`] follows.
    pub fn write_later(&mut self, id: ConnId) {
        self.outbox.mark_dirty(&mut self.conns, id);
    }

    /// Whether [`Self::end_turn`] was called in this turn.
    #[must_use]
    pub fn is_turn_over(&self) -> bool {
        self.turn.is_over()
    }

    /// The work since [`Self::begin_turn`], in units of about a nanosecond.
    #[must_use]
    pub fn work_of_turn(&self) -> u64 {
        self.turn.work()
    }

    /// Notes the duration of the finished turn, without its waiting time.
    pub fn note_turn(&mut self, duration: Duration) {
        self.turn.times.note(duration);
    }

    /// The durations of turns.
    #[must_use]
    pub fn turn_times(&self) -> &TurnTimes {
        &self.turn.times
    }

    /// The time at which [`Self::handle_timeout`] is due; may change with every call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stop = self.stop_deadline();
        self.timers.next().into_iter().chain(stop).min()
    }

    /// Whether work is pending that needs no event: the next turn should not wait.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !(self.deferred.is_empty()
            && self.agenda.is_empty()
            && self.passwords.is_empty()
            && !self.has_pending_subscriptions()
            && self.conns.overflowing.is_empty()
            && !self.outbox.has_dirty()
            && !self.outbox.has_greetings()
            && self.shutdown.is_quiet())
    }

    /// The queue of a connection.
    #[must_use]
    pub fn egress(&self, id: ConnId) -> Option<&Egress> {
        self.conns.egress(id)
    }

    /// Whether the kernel accepts no bytes for this connection now.
    #[must_use]
    pub fn is_blocked(&self, id: ConnId) -> bool {
        self.conns.is_blocked(id)
    }

    /// The number of messages of a connection that have gone on.
    #[must_use]
    pub fn messages_received(&self, id: ConnId) -> u64 {
        self.conns.messages_received(id)
    }

    /// Whether to read from this connection when input is available.
    #[must_use]
    pub fn wants_input(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| {
            let is_held = conn.is_suspended && !conn.backlog.has_room();
            let is_full = conn.is_undecided() && conn.tail.held().len() >= UNDECIDED_SIZE_MAX;
            !conn.closes_later
                && !conn.is_paused()
                && conn.refusal().is_none()
                && !is_full
                && self.is_read_in_stop(conn)
                && !is_held
                && !self.would_only_wait(conn)
        })
    }

    /// Whether memory for input is short, and messages of this peer would wait.
    pub(super) fn would_only_wait(&self, conn: &Conn) -> bool {
        let socket = &self.sockets[conn.socket];
        let waits = conn.is_suspended || conn.phase == Phase::Ready && !socket.suspended.is_empty();
        waits && self.memory.is_input_tight()
    }

    /// Whether the broker has begun to stop, or has stopped.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shutdown.stop() != crate::proxy::Stop::No
    }

    /// Whether a stop has ended: no connection is open any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shutdown.is_closing() && self.conns.len() == 0
    }

    /// Does the work deferred to the end of an input: closes connections, and resumes suspended
    /// senders. Returns whether there may be more to write or more actions.
    pub fn run_deferred(&mut self, now: Instant) -> bool {
        let mut had_work = false;
        self.turn.work_on(Kind::Closing);
        self.report_overflows();
        while !self.deferred.broken.is_empty() && !self.turn.cuts() {
            if let Some(id) = self.deferred.broken.pop_front() {
                self.turn.charge(cost::CLOSE);
                self.give_up_queue(now, id);
                had_work = true;
            }
        }
        while let Some(link) = self.deferred.absent.pop() {
            self.down_link_queue(now, link);
        }
        had_work |= self.run_closes(now);
        self.turn.work_on(Kind::Waking);
        while self.deferred.has_wakes() && !self.turn.cuts() {
            if let Some(socket) = self.deferred.next_wake() {
                self.wake(socket);
                had_work = true;
            }
        }
        had_work |= self.run_closes(now);
        let has_ended = self.check_stops(now);
        had_work || has_ended
    }

    /// Moves the core's clock to `now`, unless it is later already.
    #[inline]
    fn advance(&mut self, now: Instant) -> Instant {
        let now = self.clock.advance(now);
        self.outbox.store.stamp = self.clock.stamp();
        now
    }

    fn close_later(&mut self, id: ConnId, why: CloseReason) {
        self.deferred.close_later(&mut self.conns, id, why);
    }

    /// Resumes the suspended senders of both sides of a proxy, and delivers orphaned messages.
    fn wake_both(&mut self, proxy: ProxyId) {
        let [frontend, backend] = self.proxies[proxy].sides();
        for (id, opposite) in [(frontend, backend), (backend, frontend)] {
            let (own, across) = (&self.sockets[id], &self.sockets[opposite]);
            if !own.suspended.is_empty() || across.pattern.has_orphaned() {
                self.deferred.wake(id);
            }
        }
    }

    /// A peer of this socket joined, has room, or left: resumes the senders that wait for it.
    fn wake_for(&mut self, id: SocketId) {
        let socket = &self.sockets[id];
        match socket.across {
            Some(across) => self.deferred.wake(across),
            None if socket.name == SocketName::Capture => self.deferred.wake(id),
            // Questions do not wait for answers.
            None => {}
        }
    }

    /// Releases the next request if the last one that a socket sent is lost: its answer will not
    /// come.
    fn give_up_lost_request(&mut self, socket: SocketId) {
        let own = &mut self.sockets[socket];
        if own.errand.take_lost() {
            own.pattern.give_up_request();
            if let Some(across) = own.across {
                self.sockets[across].pattern.give_up_request();
            }
            self.wake_for(socket);
        }
    }

    /// Drops expired messages of a queue before it is sent, as many as the budget of the turn
    /// allows; returns whether there may be more.
    fn drop_expired(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else {
            return false;
        };
        let socket = &mut self.sockets[conn.socket];
        let max_age = socket.options.max_age;
        if max_age.is_zero() {
            return false;
        }
        let Some(latest) = self.clock.stamp_before(max_age) else {
            return false;
        };
        let store = &mut self.outbox.store;
        let most = u32::try_from(self.turn.left() / cost::CANCEL).unwrap_or(u32::MAX);
        let expired = conn.egress.drop_expired(latest, most.max(1), store);
        self.turn.charge(u64::from(expired) * cost::CANCEL);
        let left = conn.egress.unsent();
        socket.count_dropped((id, conn), DropReason::Expired, expired, left);
        if expired > 0 {
            self.queue_shortened(id);
        }
        expired >= most.max(1)
    }

    /// Queues the output of a session.
    fn send_session_output(&mut self, id: ConnId) {
        self.outbox
            .push_bytes(&mut self.conns, id, &self.scratch.session_out, 0);
        self.scratch.session_out.clear();
    }
}
