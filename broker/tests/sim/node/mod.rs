//! A driver for a [`Core`] without a machine: for the core it behaves like the real one, in random
//! order and at random speed.

use crate::context::SocketKey;
use crate::context::{Context, Event, MILLISECOND, Nanos};
use crate::model::Model;
use crate::net::Plug;
use broker::config::{Config, Endpoint, SocketName};
use broker::limits::SCRATCH_SIZE;
use broker::view::SocketView;
use broker::{ConnId, Core, LinkId, ListenerId, ProxyId};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

mod actions;
mod audit;
mod changes;
mod closing;
mod contests;
mod decisions;
mod http;
mod questions;
mod settings;
mod steering;
mod traffic;

pub(crate) use changes::Repertoire;

#[derive(Debug)]
pub(crate) struct Node {
    base: Instant,
    /// Connections that cannot be written to any more, until the core runs deferred work.
    broken: Vec<ConnId>,
    by_cable: BTreeMap<usize, ConnId>,
    /// Every proxy that is there, was there, or may come.
    pub(crate) config: Config,
    pub(crate) core: Core,
    /// The endpoints that connections were made to.
    dialled: BTreeMap<ConnId, Endpoint>,
    /// All dropped messages, as last told.
    dropped_messages: u64,
    /// When each proxy was asked for a sample of messages the last time.
    sampled: BTreeMap<ProxyId, Instant>,
    /// The last report of watches.
    watches: Vec<broker::view::WatchView>,
    /// Figures of all sockets, from before a proxy may have been freed.
    last_figures: Vec<SocketView>,
    /// The proxies of the configuration that the core has.
    proxies: Vec<Option<ProxyId>>,
    pub(crate) repertoire: Repertoire,
    /// Connections that a stop closed with time left, although their input had a receiver.
    cut_off: BTreeSet<ConnId>,
    /// The proxies of the model that have the peers of removed captures and controls.
    ghosts: Vec<u32>,
    /// Captures and controls that were removed and may come again.
    shelved: BTreeMap<SocketKey, Vec<Endpoint>>,
    /// The listeners of the control of the broker: one, or none.
    broker_controls: BTreeSet<ListenerId>,
    /// The recordings, by the index of the proxy.
    tapes: BTreeMap<u32, settings::Recording>,
    /// When a stop began to close connections.
    pub(crate) drained_at: Option<Nanos>,
    /// The configuration is being read again.
    http: http::Http,
    is_reloading: bool,
    /// Connections that the core will close with its deferred work.
    dying: Vec<ConnId>,
    /// The time at which its stop had ended.
    pub(crate) gone_at: Option<Nanos>,
    pub(crate) hosts: BTreeMap<ConnId, Host>,
    /// Ends of connections whose peers did not read their last bytes in time.
    pub(crate) impatient: BTreeSet<Plug>,
    /// Turns in a row that were due only by the core's clock and did nothing.
    idle_turns: u64,
    inbox: Vec<Happening>,
    index: usize,
    /// It was killed.
    pub(crate) is_dead: bool,
    /// It was told to stop twice.
    pub(crate) is_hurried: bool,
    pub(crate) model: Model,
    /// Connections that the program has kicked.
    kicked: BTreeSet<ConnId>,
    /// Turns in a row that a passed deadline made due: shed memory is free only after the next.
    overdue_turns: u32,
    /// Ends of connections that were open when the broker stopped.
    pub(crate) parted: BTreeSet<Plug>,
    /// Timers that the core had reason to set.
    pub(crate) reminders: u64,
    scratch: Vec<u8>,
    pub(crate) stopped_at: Option<Nanos>,
    /// Proxies that were told to end, and the times at which they closed the first connection.
    terminated: BTreeMap<u32, Nanos>,
    wake_at: Option<Nanos>,
}

/// One connection of the kernel.
#[derive(Debug)]
pub(crate) struct Host {
    can_read: bool,
    is_suspended: bool,
    /// Some of its input was left for the next turn.
    is_cut: bool,
    pub(crate) plug: Plug,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its close was requested and happens at this time.
    Leaving(Nanos),
    Flushing(Nanos),
    Lingering(Nanos),
}

/// Events for the driver between two turns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    Accepted(SocketKey, ListenerId, Plug),
    ConnectFailed(LinkId, ErrorKind),
    Connected(LinkId, Plug),
    Readable(Plug),
    Writable(Plug),
}

impl Node {
    pub(crate) fn new(
        ctx: &mut Context,
        index: usize,
        mut config: Config,
        repertoire: Repertoire,
    ) -> Self {
        let seed = ctx.random.next();
        let mut core = Core::new(ctx.instant(), &config, seed);
        let coder_step_size = ctx.random.pick(&[16, 64, 1000, zmtp::STEP_SIZE]);
        core.set_coder_step_size(coder_step_size);
        let mut proxies: Vec<Option<ProxyId>> = core.proxies().map(Some).collect();
        config.proxies.extend(repertoire.late.iter().cloned());
        proxies.resize(config.proxies.len(), None);
        let mut node = Self {
            base: ctx.base,
            broken: Vec::new(),
            by_cable: BTreeMap::new(),
            core,
            dialled: BTreeMap::new(),
            dropped_messages: 0,
            sampled: BTreeMap::new(),
            watches: Vec::new(),
            last_figures: Vec::new(),
            proxies,
            repertoire,
            cut_off: BTreeSet::new(),
            ghosts: Vec::new(),
            shelved: BTreeMap::new(),
            broker_controls: BTreeSet::new(),
            tapes: BTreeMap::new(),
            drained_at: None,
            dying: Vec::new(),
            http: http::Http::default(),
            is_reloading: false,
            gone_at: None,
            hosts: BTreeMap::new(),
            idle_turns: 0,
            impatient: BTreeSet::new(),
            inbox: Vec::new(),
            index,
            is_dead: false,
            is_hurried: false,
            kicked: BTreeSet::new(),
            model: Model::new(&config, ctx.style, ctx.instant(), coder_step_size),
            config,
            overdue_turns: 0,
            parted: BTreeSet::new(),
            // The first turn is due by itself.
            reminders: 1,
            scratch: vec![0; SCRATCH_SIZE],
            stopped_at: None,
            terminated: BTreeMap::new(),
            wake_at: None,
        };
        node.restore_values(ctx);
        while node.core.is_opening() {
            let action = node.core.poll_action().expect("something is to be opened");
            node.act(ctx, ctx.instant(), action);
        }
        node.wake(ctx, ctx.now);
        node
    }

    /// Notifies the loop of an event; it runs a turn a little later.
    pub(crate) fn notice(&mut self, ctx: &mut Context, happening: Happening) {
        if self.is_dead {
            if let Happening::Accepted(.., plug) | Happening::Connected(_, plug) = happening {
                ctx.reset(plug.cable, ErrorKind::ConnectionReset);
            }
            return;
        }
        self.inbox.push(happening);
        let delay = match ctx.random.below(100) {
            0 if !ctx.is_calm => ctx.random.range(0..=500 * MILLISECOND),
            0..10 => ctx.random.range(0..=MILLISECOND),
            _ => ctx.random.range(0..=20_000),
        };
        self.wake(ctx, ctx.now + delay);
    }

    fn wake(&mut self, ctx: &mut Context, at: Nanos) {
        if self.wake_at.is_none_or(|wake_at| wake_at > at) {
            self.wake_at = Some(at);
            ctx.queue.push(at, Event::Turn(self.index));
        }
    }

    fn now(&self, ctx: &Context) -> Instant {
        self.base + Duration::from_nanos(ctx.now)
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, ctx: &mut Context) {
        if self.is_dead || self.wake_at.is_none_or(|at| at > ctx.now) {
            return;
        }
        self.wake_at = None;
        let now = self.now(ctx);
        self.model.now = now;
        ctx.trace.note(
            ctx.now,
            "turn",
            [self.index, self.inbox.len(), self.hosts.len()],
        );
        let was_asked = !self.inbox.is_empty() || self.core.has_backlog();
        self.core.begin_turn(now);
        if ctx.random.chance(5) {
            self.ask(ctx, now);
        }
        self.decide(ctx, now);
        self.let_back_in(ctx, now);
        self.answer_reload(ctx);
        if ctx.random.chance(4) {
            self.reconfigure(ctx, now);
        }
        if ctx.is_calm || ctx.random.chance(4) {
            self.steer(ctx, now);
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        ctx.random.shuffle(&mut inbox);
        for happening in inbox {
            self.happen(ctx, now, happening);
        }
        self.core.note_heard(now);
        let put_off = self.read_all(ctx);
        self.before_settling();
        let heard_until = self.core.heard_until().unwrap_or(self.base);
        self.core.handle_timeout(now, heard_until);
        self.after_settling();
        let mut has_acted = self.finish_turn(ctx, now);
        if self.read_newcomers(ctx) {
            has_acted |= self.finish_turn(ctx, now);
        }
        put_off.into_iter().for_each(|id| self.read_later(id));
        self.finish_closing(ctx, now);
        self.model.reconcile();
        if !self.core.has_backlog() {
            ctx.coverage
                .add("peers that handlers let wait", self.model.expire_asked());
        }
        self.check_turn(ctx);
        self.check_recorded_users(ctx);
        self.check_left();
        self.check_work();
        assert!(self.model.kicked.is_empty(), "kicked, and still there");
        // A suspended peer is sent PINGs, which have no effect if it does not read.
        let is_stuck =
            |(id, host): (&ConnId, &Host)| host.is_suspended || self.core.is_blocked(*id);
        let has_stuck = self.hosts.iter().any(is_stuck);
        self.idle_turns += u64::from(!was_asked && !has_acted && !has_stuck);
        self.decide_later(ctx);
        self.schedule(ctx);
    }

    fn schedule(&mut self, ctx: &mut Context) {
        if self.core.is_stopped() {
            return;
        }
        if !self.inbox.is_empty() || self.core.has_backlog() {
            let at = ctx.now + ctx.random.range(1..=20_000);
            self.wake(ctx, at);
            return;
        }
        let closing = self.hosts.values().filter_map(|host| match host.state {
            State::Open => None,
            State::Leaving(at) | State::Flushing(at) | State::Lingering(at) => Some(at),
        });
        let timeout = self.core.poll_timeout().map(|at| ctx.nanos(at));
        let is_overdue = timeout.is_some_and(|timeout| timeout <= ctx.now);
        self.overdue_turns = if is_overdue {
            self.overdue_turns + 1
        } else {
            0
        };
        assert!(
            self.overdue_turns < 10,
            "a passed deadline wakes without end"
        );
        if let Some(at) = closing.chain(timeout).min() {
            self.wake(ctx, at.max(ctx.now + 1));
        }
    }

    fn happen(&mut self, ctx: &mut Context, now: Instant, happening: Happening) {
        match happening {
            Happening::Accepted(..) if !self.core.may_accept() => {
                ctx.coverage.add("accepted in a later turn", 1);
                self.inbox.push(happening);
            }
            Happening::Accepted(socket, listener, plug) => {
                let is_open = ctx.is_open(plug);
                let core = &mut self.core;
                let id = is_open.then(|| core.handle_accepted(now, listener, address(plug)));
                match id.flatten() {
                    Some(id) => self.add_host(ctx, id, socket, plug),
                    None => ctx.close(plug),
                }
            }
            Happening::Connected(link, plug) => {
                let endpoint = self.core.link(link).map(|(endpoint, _)| endpoint.clone());
                let id = self.core.handle_connected(now, link, address(plug));
                match id.zip(endpoint) {
                    Some((id, endpoint)) => {
                        let socket = self.socket_of(&endpoint);
                        self.dialled.insert(id, endpoint);
                        self.add_host(ctx, id, socket, plug);
                    }
                    None => ctx.close(plug),
                }
            }
            Happening::ConnectFailed(link, kind) => {
                self.reminders += 1;
                self.core.handle_connect_failed(now, link, &kind.into());
                let sockets = self.core.statistics();
                let is_kept = sockets
                    .iter()
                    .any(|it| it.peers == 0 && it.queued_messages > 0);
                let what = "queued for a link that is down";
                ctx.coverage.add(what, u64::from(is_kept));
            }
            Happening::Readable(plug) => {
                if let Some(id) = self.by_cable.get(&plug.cable).copied() {
                    self.hosts.get_mut(&id).expect("it is there").can_read = true;
                    self.read_later(id);
                }
            }
            Happening::Writable(plug) => {
                if let Some(id) = self.by_cable.get(&plug.cable).copied()
                    && self.core.is_blocked(id)
                {
                    self.core.handle_writable(id);
                }
            }
        }
    }

    /// The configuration names every port once, but that a proxy may come again.
    fn socket_of(&self, endpoint: &Endpoint) -> SocketKey {
        let is_it = |other: &Endpoint| actions::port(other) == actions::port(endpoint);
        let sockets = (0..).zip(&self.config.proxies).flat_map(|(proxy, config)| {
            SocketName::ALL.map(|side| (SocketKey { proxy, side }, config.socket(side)))
        });
        let mut sockets: Vec<_> = sockets.collect();
        sockets.reverse();
        let mut sockets = sockets.into_iter();
        let found = sockets.find(|(_, side)| {
            let mut connects = side.connect.iter();
            side.bind.iter().any(is_it) || connects.any(|connect| is_it(&connect.endpoint))
        });
        let mut others = self.repertoire.endpoints.iter();
        let other = others.find(|(.., other)| is_it(other));
        let found = found
            .map(|(key, _)| key)
            .or_else(|| other.map(|(key, ..)| *key));
        found.expect("an endpoint is configured")
    }

    fn add_host(&mut self, ctx: &mut Context, id: ConnId, socket: SocketKey, plug: Plug) {
        let now = self.now(ctx);
        self.reminders += 2;
        self.model.connected(id, socket, plug, now);
        self.by_cable.insert(plug.cable, id);
        let host = Host {
            can_read: true,
            is_suspended: false,
            is_cut: false,
            plug,
            state: State::Open,
        };
        let former = self.hosts.insert(id, host);
        assert!(former.is_none(), "{id:?} is used twice");
        ctx.trace
            .note(ctx.now, "connection", [self.index, plug.cable, id.slot()]);
        self.read_later(id);
    }

    fn is_open(&self, id: ConnId) -> bool {
        let host = self.hosts.get(&id);
        host.is_some_and(|host| host.state == State::Open)
    }

    fn read_later(&mut self, id: ConnId) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        host.is_cut = self.core.is_cut(id);
        if host.can_read || host.is_cut {
            self.core.read_later(id);
        }
    }
}

pub(crate) fn address(plug: Plug) -> SocketAddr {
    let port = u16::try_from(plug.cable % 60_000).expect("below 60000");
    (Ipv4Addr::LOCALHOST, 1000 + port).into()
}
