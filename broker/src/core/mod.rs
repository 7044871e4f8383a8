//! The broker without its input and output: connections, proxies, time as an argument.
//!
//! The driver tells what happened (`handle_*`) and asks what to do (`poll_*`). Nothing here blocks,
//! reads a clock, or knows what a file descriptor is, so that a simulator can be a driver too.
//!
//! A turn, from the driver's view:
//!
//! ```text
//! for each readable connection:
//!     input = begin_input(id, scratch), read into input.spare()
//!     loop { handle_input(now, id, input); write every poll_urgent() from input's buffer; until not Flush }
//!     end_input(id, input)
//! handle_timeout(now)
//! loop { do every poll_action(); write every poll_dirty(); until settle() has nothing more }
//! ```

use crate::config::{Config, Endpoint, Side};
use crate::conn::outbox::Outbox;
use crate::conn::{Conn, ConnId, ConnTable, Egress, Origin, Phase, SocketId};
use crate::limits::CANCELS_PER_TURN_MAX;
use crate::pattern::Pattern;
use crate::proxy::Proxy;
use crate::stats::SocketSnapshot;
use crate::why::Why;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zmtp::Session;

mod actions;
mod intake;
mod links;
mod report;
mod subscriptions;
mod timers;

pub use actions::{Action, LinkId};
pub use intake::Flow;
use links::{Backoff, Link, LinkState, Random};
use report::Reports;
use timers::{Owner, Timers};

/// The whole state of a broker.
#[derive(Debug)]
pub struct Core {
    actions: VecDeque<Action>,
    /// Connections that can not be written to any more; see to them at the next [`Self::settle`].
    broken: Vec<ConnId>,
    conns: ConnTable,
    /// What sessions want said at once; empty between calls.
    control: Vec<u8>,
    /// Former XPUB peers whose subscriptions are being cancelled.
    departing: VecDeque<ConnId>,
    /// Connections to be given up at the next [`Self::settle`]: never in the middle of an input, whose
    /// bytes their queues may lean on.
    doomed: Vec<(ConnId, Why)>,
    drain_timeout: Duration,
    /// What a REQ or REP puts in front of the message being forwarded.
    envelope: Vec<u8>,
    links: Vec<Link>,
    outbox: Outbox,
    /// The identity frame of the message being forwarded.
    prefix: Vec<u8>,
    proxies: Vec<Proxy>,
    random: Random,
    reports: Reports,
    stop: Stop,
    targets: Vec<ConnId>,
    timers: Timers,
    /// Sockets whose waiting connections are to be tried at the next [`Self::settle`].
    wakes: Vec<SocketId>,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// There is none.
    No,
    /// What is queued is being sent, until then.
    Draining(Instant),
    /// Everything is being closed.
    Closing,
}

impl Core {
    /// A broker at rest; the first [`Self::poll_action`]s say whom to connect to. `seed` only makes the
    /// waits of different processes differ.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Self {
        let mut core = Self {
            actions: VecDeque::new(),
            broken: Vec::new(),
            conns: ConnTable::default(),
            control: Vec::new(),
            departing: VecDeque::new(),
            doomed: Vec::new(),
            drain_timeout: config.drain_timeout,
            envelope: Vec::new(),
            links: Vec::new(),
            outbox: Outbox::default(),
            prefix: Vec::new(),
            proxies: config.proxies.iter().map(Proxy::new).collect(),
            random: Random::new(seed),
            reports: Reports::default(),
            stop: Stop::No,
            targets: Vec::new(),
            timers: Timers::default(),
            wakes: Vec::new(),
        };
        for (proxy, proxy_config) in (0..).zip(&config.proxies) {
            for side in Side::BOTH {
                let side_config = proxy_config.side(side);
                for endpoint in &side_config.connect {
                    core.add_link(SocketId { proxy, side }, endpoint.clone());
                }
            }
        }
        core
    }

    fn add_link(&mut self, socket: SocketId, endpoint: Endpoint) {
        let options = &self.proxies[socket.proxy as usize]
            .socket(socket.side)
            .options;
        let id = LinkId(u32::try_from(self.links.len()).unwrap_or(u32::MAX));
        self.links.push(Link {
            backoff: Backoff::new(options),
            endpoint,
            is_known_down: false,
            socket,
            state: LinkState::Connecting,
        });
        self.actions.push_back(Action::Connect(id));
    }

    /// A peer connected to an endpoint of `socket`.
    pub fn handle_accepted(&mut self, now: Instant, socket: SocketId, peer: SocketAddr) -> ConnId {
        self.add_conn(now, socket, peer, Origin::Accepted)
    }

    /// A connection that [`Action::Connect`] asked for was made.
    pub fn handle_connected(&mut self, now: Instant, link: LinkId, peer: SocketAddr) -> ConnId {
        let socket = self.links[link.0 as usize].socket;
        let id = self.add_conn(now, socket, peer, Origin::Dialled(link.0));
        self.links[link.0 as usize].state = LinkState::Up(id);
        id
    }

    /// A connection that [`Action::Connect`] asked for could not be made. It is asked for again later;
    /// only the first failure in a row is worth a warning.
    pub fn handle_connect_failed(&mut self, now: Instant, link: LinkId, error: &io::Error) {
        let entry = &mut self.links[link.0 as usize];
        let Link {
            endpoint, socket, ..
        } = entry;
        let (name, side) = (&self.proxies[socket.proxy as usize].name, socket.side);
        let level = if entry.is_known_down {
            log::Level::Debug
        } else {
            log::Level::Warn
        };
        log::log!(
            level,
            "{name} {side}: cannot connect to {endpoint}, will go on trying: {error}"
        );
        entry.is_known_down = true;
        self.retry_link(now, link);
    }

    /// The peer closed the connection, or reading from it failed: all it sent has been handled.
    pub fn handle_read_closed(&mut self, id: ConnId, error: Option<&io::Error>) {
        self.doom(
            id,
            error.map_or(Why::PeerClosed, |error| Why::Io(error.kind())),
        );
    }

    /// Writing failed: what is queued will never be read. What the peer sent before it went may still be
    /// there, so the connection ends when reading fails too.
    pub fn handle_write_failed(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_blocked = true;
            self.broken.push(id);
        }
    }

    /// The kernel took `size` bytes of what [`Self::slices_of`] showed; `is_blocked` if it would take no
    /// more for now.
    pub fn handle_written(&mut self, id: ConnId, size: usize, is_blocked: bool) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.is_blocked = is_blocked;
        conn.egress.advance(size, &mut self.outbox.pool);
        let id_of_socket = conn.socket;
        let proxy = &mut self.proxies[id_of_socket.proxy as usize];
        let socket = proxy.socket_mut(id_of_socket.side);
        if let Some(balancer) = socket.pattern.balancer() {
            balancer.writable(id, &mut self.conns, &socket.options);
        }
        let has_stranded = socket.pattern.has_stranded();
        let across = self.across(id_of_socket);
        let proxy = &self.proxies[across.proxy as usize];
        if has_stranded || !proxy.socket(across.side).waiting.is_empty() {
            self.wake_later(across);
        }
    }

    /// The kernel takes bytes for this connection again.
    pub fn handle_writable(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_blocked = false;
            self.outbox.mark_dirty(&mut self.conns, id);
        }
    }

    /// The driver has closed what [`Action::Close`] named.
    pub fn handle_closed(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.phase = Phase::Closed;
        let origin = conn.origin;
        if !conn.is_departing {
            self.conns.remove(id);
        }
        if let Origin::Dialled(link) = origin {
            self.retry_link(now, LinkId(link));
        }
    }

    /// Time has passed: deadlines, retries, and a slice of the work that is done little by little.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((deadline, owner)) = self.timers.pop_due(now) {
            match owner {
                Owner::Conn(id) => self.check_deadline(now, id, deadline),
                Owner::Link(id) => self.check_link(now, id),
            }
        }
        self.cancel_departed(CANCELS_PER_TURN_MAX);
        self.settle(now);
    }

    /// Begins to stop: nobody is accepted or read from any more, what is queued is sent, for as long as
    /// the configuration says. A second call gives up what is queued.
    pub fn handle_stop(&mut self, now: Instant) {
        if self.stop != Stop::No {
            self.close_all();
            return;
        }
        self.stop = Stop::Draining(now + self.drain_timeout);
        self.actions.push_back(Action::StopAccepting);
        for link in &mut self.links {
            if let LinkState::Waiting(_) = link.state {
                link.state = LinkState::Connecting;
            }
        }
        let unfinished: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.phase == Phase::Handshake)
            .map(|(id, _)| id)
            .collect();
        for id in unfinished {
            self.doom(id, Why::Stopping);
        }
        self.settle(now);
    }

    /// The next thing for the driver to do.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next connection to be written while the input is still there.
    #[must_use]
    pub fn poll_urgent(&mut self) -> Option<ConnId> {
        self.outbox.poll_urgent()
    }

    /// The next connection to be written at the end of the turn.
    #[must_use]
    pub fn poll_dirty(&mut self) -> Option<ConnId> {
        self.outbox.poll_dirty(&mut self.conns)
    }

    /// When [`Self::handle_timeout`] wants to be called; may change with every call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stop = match self.stop {
            Stop::Draining(deadline) => Some(deadline),
            _ => None,
        };
        self.timers.next().into_iter().chain(stop).min()
    }

    /// Whether there is work left that needs no event: the next turn should not wait.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        !(self.broken.is_empty()
            && self.departing.is_empty()
            && self.doomed.is_empty()
            && self.wakes.is_empty())
    }

    /// What is queued for a connection.
    #[must_use]
    pub fn egress(&self, id: ConnId) -> Option<&Egress> {
        self.conns.get(id).map(|conn| &conn.egress)
    }

    /// Whether the kernel is known to take nothing for this connection now.
    #[must_use]
    pub fn is_blocked(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.is_blocked)
    }

    /// Whether this connection should be read from when there is something to read.
    #[must_use]
    pub fn wants_input(&self, id: ConnId) -> bool {
        self.stop == Stop::No
            && self
                .conns
                .get(id)
                .is_some_and(|conn| !conn.is_parked && conn.phase < Phase::Closing)
    }

    /// The endpoint of a link.
    #[must_use]
    pub fn endpoint(&self, link: LinkId) -> &Endpoint {
        &self.links[link.0 as usize].endpoint
    }

    /// Whether a stop has come to its end: nothing is open any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop == Stop::Closing && self.conns.len() == 0
    }

    /// What every socket has seen, in the order of the configuration, frontends first.
    #[must_use]
    pub fn statistics(&self) -> Vec<SocketSnapshot> {
        let mut snapshots: Vec<_> = self
            .proxies
            .iter()
            .flat_map(|proxy| Side::BOTH.map(|side| snapshot(proxy, side)))
            .collect();
        for (_, conn) in self.conns.iter() {
            let index =
                conn.socket.proxy as usize * 2 + usize::from(conn.socket.side == Side::Backend);
            snapshots[index].queued_bytes += conn.egress.bytes();
            snapshots[index].queued_messages += u64::from(conn.egress.messages());
        }
        snapshots
    }

    /// Does what had to wait for the end of an input: closes what is doomed, lets wait no longer who
    /// need not. Answers whether there may be more to write or to act on.
    pub fn settle(&mut self, now: Instant) -> bool {
        let had_work = !(self.broken.is_empty() && self.doomed.is_empty() && self.wakes.is_empty());
        while let Some(id) = self.broken.pop() {
            self.give_up_queue(id);
        }
        self.close_doomed(now);
        while let Some(socket) = self.wakes.pop() {
            self.wake(socket);
        }
        self.close_doomed(now);
        if let Stop::Draining(deadline) = self.stop
            && (now >= deadline || self.is_drained())
        {
            self.close_all();
            return self.settle(now);
        }
        had_work
    }

    fn add_conn(
        &mut self,
        now: Instant,
        socket: SocketId,
        peer: SocketAddr,
        origin: Origin,
    ) -> ConnId {
        let config = self.proxies[socket.proxy as usize]
            .socket(socket.side)
            .session
            .clone();
        let session = Session::new(config, now, &mut self.control);
        let id = self.conns.insert(Conn::new(session, socket, peer, origin));
        self.send_control(id);
        self.remind(id);
        if self.stop != Stop::No {
            self.doom(id, Why::Stopping);
        }
        id
    }

    /// Reminders of connections that are gone may outnumber the others when peers come and go fast.
    fn insert_timer(&mut self, deadline: Instant, owner: Owner) {
        if self.timers.len() > 2 * (self.conns.len() + self.links.len()) + 1024 {
            let conns = &self.conns;
            self.timers.retain(|owner| match owner {
                Owner::Conn(id) => conns.get(id).is_some(),
                Owner::Link(_) => true,
            });
        }
        self.timers.insert(deadline, owner);
    }

    /// Lets a session see to its deadlines.
    ///
    /// One that is parked is not read, so its silence is ours: what it has said since may be waiting
    /// in the kernel. The same is true of one that has not taken what was sent to it, since libzmq
    /// stops reading, and so answering PING, when its application is slow. Both get their PINGs all the
    /// same, for the peer's own deadlines; the second as long as there is room for them.
    fn check_deadline(&mut self, now: Instant, id: ConnId, reminder: Instant) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        // Reminders of deadlines that have since moved forward are still in the heap.
        if conn.reminder != Some(reminder) || conn.phase >= Phase::Closing {
            return;
        }
        conn.reminder = None;
        if conn.phase == Phase::Ready && (conn.is_parked || !conn.egress.is_empty()) {
            conn.session.handle_received(now);
        }
        match conn.session.handle_timeout(now, &mut self.control) {
            Err(error) => {
                self.control.clear();
                self.doom(id, Why::Protocol(error));
            }
            Ok(()) => {
                self.answer(id);
                self.remind(id);
            }
        }
    }

    /// Sees to it that the next deadline of a connection is not missed. One that moves back costs
    /// nothing until its old reminder comes up.
    fn remind(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if let Some(deadline) = conn.session.poll_timeout()
            && conn.reminder.is_none_or(|reminder| deadline < reminder)
        {
            conn.reminder = Some(deadline);
            self.insert_timer(deadline, Owner::Conn(id));
        }
    }

    fn check_link(&mut self, now: Instant, id: LinkId) {
        let link = &mut self.links[id.0 as usize];
        if let LinkState::Waiting(until) = link.state
            && until <= now
        {
            link.state = LinkState::Connecting;
            self.actions.push_back(Action::Connect(id));
        }
    }

    fn retry_link(&mut self, now: Instant, id: LinkId) {
        if self.stop != Stop::No {
            return;
        }
        let link = &mut self.links[id.0 as usize];
        let until = now + link.backoff.next(&mut self.random);
        link.state = LinkState::Waiting(until);
        self.insert_timer(until, Owner::Link(id));
    }

    /// A handshake over this link was completed.
    fn link_is_up(&mut self, link: u32) {
        let link = &mut self.links[link as usize];
        link.backoff.reset();
        link.is_known_down = false;
        let proxy = &self.proxies[link.socket.proxy as usize];
        log::info!(
            "{} {}: connected to {}",
            proxy.name,
            link.socket.side,
            link.endpoint
        );
    }

    fn doom(&mut self, id: ConnId, why: Why) {
        self.doomed.push((id, why));
    }

    /// The socket through which goes out what comes in on this one, and the other way round.
    fn across(&self, socket: SocketId) -> SocketId {
        let side = self.proxies[socket.proxy as usize].across(socket.side);
        SocketId { side, ..socket }
    }

    fn wake_later(&mut self, socket: SocketId) {
        if !self.wakes.contains(&socket) {
            self.wakes.push(socket);
        }
    }

    /// Queues what a session wants said.
    fn send_control(&mut self, id: ConnId) {
        self.outbox
            .push_bytes(&mut self.conns, id, &self.control, 0);
        self.control.clear();
    }

    fn close_doomed(&mut self, now: Instant) {
        while let Some((id, why)) = self.doomed.pop() {
            self.close(now, id, why);
        }
    }

    /// Gives up what is queued for a peer that can not be written to any more.
    fn give_up_queue(&mut self, id: ConnId) {
        let Some(conn) = self
            .conns
            .get_mut(id)
            .filter(|conn| conn.phase == Phase::Ready)
        else {
            return;
        };
        let socket = conn.socket;
        let (wire, messages) = conn.egress.close(&mut self.outbox.pool);
        let pattern = &mut self.proxies[socket.proxy as usize]
            .socket_mut(socket.side)
            .pattern;
        if let Some(balancer) = pattern.balancer() {
            balancer.detach(id, &mut self.conns);
        }
        self.strand(socket, &wire, messages);
    }

    /// Gives the messages that a dead peer had not been sent to the others, where one is as good as
    /// another.
    fn strand(&mut self, id: SocketId, wire: &[u8], messages: u32) {
        let socket = self.proxies[id.proxy as usize].socket_mut(id.side);
        if let Some(balancer) = socket.pattern.balancer() {
            balancer.strand(wire);
            socket.stats.requeued += u64::from(messages);
        }
        let has_lost_request = socket.pattern.has_lost_request();
        let across = self.across(id);
        if has_lost_request {
            let proxy = &mut self.proxies[across.proxy as usize];
            proxy.socket_mut(across.side).pattern.give_up_request();
        }
        self.wake_later(across);
    }

    /// Gives up a connection.
    fn close(&mut self, now: Instant, id: ConnId, why: Why) {
        let Some(conn) = self
            .conns
            .get_mut(id)
            .filter(|conn| conn.phase < Phase::Closing)
        else {
            return;
        };
        let was_ready = conn.phase == Phase::Ready;
        let was_parked = std::mem::take(&mut conn.is_parked);
        conn.phase = Phase::Closing;
        let (socket_id, peer) = (conn.socket, conn.peer);
        // A peer that was refused is to hear why, and those of a broker that stops what was queued.
        let lingers = match why {
            Why::Protocol(error) => error.reply().is_some(),
            _ => why == Why::Stopping,
        };
        let unsent = (!lingers).then(|| conn.egress.close(&mut self.outbox.pool));
        let proxy = &mut self.proxies[socket_id.proxy as usize];
        let name = &proxy.name;
        let side = socket_id.side;
        let level = if why.is_notable() {
            log::Level::Warn
        } else {
            log::Level::Debug
        };
        if level > log::Level::Warn || self.reports.allow(now) {
            log::log!(level, "{name} {side}: closed {peer}: {why}");
        }
        let (socket, _) = proxy.sockets_mut(side);
        socket.stats.count_close(&why);
        if was_parked {
            socket.waiting.retain(|waiting| *waiting != id);
        }
        if was_ready {
            socket.peers -= 1;
            socket.pattern.detach(id, &mut self.conns);
            if let Some((wire, messages)) = unsent {
                self.strand(socket_id, &wire, messages);
                // A REP whose requester left takes the next request.
                self.wake_later(socket_id);
            }
            let socket = self.proxies[socket_id.proxy as usize].socket_mut(side);
            if let (Pattern::Xpub(_), Some(conn)) = (&socket.pattern, self.conns.get_mut(id)) {
                conn.is_departing = true;
                self.departing.push_back(id);
            }
        }
        self.actions.push_back(Action::Close { id, lingers });
    }

    fn close_all(&mut self) {
        self.stop = Stop::Closing;
        let all: Vec<ConnId> = self.conns.iter().map(|(id, _)| id).collect();
        for id in all {
            self.doom(id, Why::Stopping);
        }
    }

    /// Whether nothing is queued that could still be sent. What waits for a peer that is not there will
    /// wait in vain: nobody is accepted any more.
    fn is_drained(&self) -> bool {
        let could_go = |proxy: &Proxy, from: Side| {
            let (waits, to) = (
                !proxy.socket(from).waiting.is_empty(),
                proxy.socket(from.opposite()),
            );
            to.peers > 0 && (waits || to.pattern.has_stranded())
        };
        let is_between = |proxy: &Proxy| Side::BOTH.iter().any(|from| could_go(proxy, *from));
        !self.proxies.iter().any(is_between)
            && self.conns.iter().all(|(_, conn)| conn.egress.is_empty())
    }
}

fn snapshot(proxy: &Proxy, side: Side) -> SocketSnapshot {
    let socket = proxy.socket(side);
    let topics = match &socket.pattern {
        Pattern::Xpub(xpub) => xpub.topics(),
        _ => 0,
    };
    SocketSnapshot {
        counters: socket.stats.clone(),
        peers: socket.peers,
        proxy: proxy.name.clone(),
        queued_bytes: 0,
        queued_messages: 0,
        side,
        topics,
        waiting: socket.waiting.len(),
    }
}
