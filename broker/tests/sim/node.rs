//! A driver for a [`Core`] without a machine under it: as far as the core can tell it does what the
//! real one does, in random order and at random speed.

use crate::check::check_size;
use crate::context::{Context, Dial, Event, MILLISECOND, Nanos, Owner};
use crate::model::{Model, index};
use crate::net::{Plug, Received, Written};
use crate::random::mix;
use crate::shadow::Phase;
use crate::watch::is_at_high_water;
use broker::config::{Config, Endpoint, Side};
use broker::limits::{LINGER, SCRATCH_SIZE};
use broker::{Action, ConnId, Core, Egress, Flow, Input, LinkId, SLICES_MAX, SocketId};
use bytes::BytesMut;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(crate) struct Node {
    base: Instant,
    /// Connections that can not be written to any more, until the core has been told to settle.
    broken: Vec<ConnId>,
    by_cable: BTreeMap<usize, ConnId>,
    pub(crate) config: Config,
    pub(crate) core: Core,
    /// Connections that were closed by a stop with time left and somebody to take what they sent.
    cut_off: BTreeSet<ConnId>,
    /// When a stop began to close connections.
    pub(crate) drained_at: Option<Nanos>,
    /// Connections that will be given up when the core settles.
    dying: Vec<ConnId>,
    /// When its stop had come to its end.
    pub(crate) gone_at: Option<Nanos>,
    pub(crate) hosts: BTreeMap<ConnId, Host>,
    /// Ends of connections whose peers did not read their last bytes in time.
    pub(crate) impatient: BTreeSet<Plug>,
    /// Turns in a row that nothing but the core's clock asked for and that did nothing.
    idle_turns: u64,
    inbox: Vec<Happening>,
    index: usize,
    /// It was killed.
    pub(crate) is_dead: bool,
    /// It was told to stop twice.
    pub(crate) is_hurried: bool,
    pub(crate) model: Model,
    /// Turns in a row after which a deadline had passed: what is shed is gone only by the next.
    overdue_turns: u32,
    /// Ends of connections that were open when the broker stopped.
    pub(crate) parted: BTreeSet<Plug>,
    readable: Vec<ConnId>,
    /// Reminders that the core was given reason to set.
    pub(crate) reminders: u64,
    scratch: BytesMut,
    pub(crate) stopped_at: Option<Nanos>,
    wake_at: Option<Nanos>,
}

/// One connection as the kernel would have it.
#[derive(Debug)]
pub(crate) struct Host {
    can_read: bool,
    is_parked: bool,
    is_queued: bool,
    pub(crate) plug: Plug,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Its close was asked for and happens then.
    Leaving(Nanos),
    Flushing(Nanos),
    Lingering(Nanos),
}

/// What the driver is told between two turns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    Accepted(SocketId, Plug),
    ConnectFailed(LinkId, ErrorKind),
    Connected(LinkId, Plug),
    Readable(Plug),
    Writable(Plug),
}

impl Node {
    pub(crate) fn new(ctx: &mut Context, index: usize, config: Config) -> Self {
        let seed = ctx.random.next();
        let mut node = Self {
            base: ctx.base,
            broken: Vec::new(),
            by_cable: BTreeMap::new(),
            core: Core::new(&config, seed),
            cut_off: BTreeSet::new(),
            drained_at: None,
            dying: Vec::new(),
            gone_at: None,
            hosts: BTreeMap::new(),
            idle_turns: 0,
            impatient: BTreeSet::new(),
            inbox: Vec::new(),
            index,
            is_dead: false,
            is_hurried: false,
            model: Model::new(&config, ctx.style),
            config,
            overdue_turns: 0,
            parted: BTreeSet::new(),
            readable: Vec::new(),
            // The first turn has no reason but the beginning.
            reminders: 1,
            scratch: BytesMut::zeroed(SCRATCH_SIZE),
            stopped_at: None,
            wake_at: None,
        };
        node.wake(ctx, ctx.now);
        node
    }

    /// Tells the loop of something; it comes around a little later.
    pub(crate) fn notice(&mut self, ctx: &mut Context, happening: Happening) {
        if self.is_dead {
            if let Happening::Accepted(_, plug) | Happening::Connected(_, plug) = happening {
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
        ctx.trace.note(
            ctx.now,
            "turn",
            [self.index, self.inbox.len(), self.readable.len()],
        );
        let was_asked = !self.inbox.is_empty() || !self.readable.is_empty();
        let mut inbox = std::mem::take(&mut self.inbox);
        ctx.random.shuffle(&mut inbox);
        for happening in inbox {
            self.happen(ctx, now, happening);
        }
        let mut readable = std::mem::take(&mut self.readable);
        ctx.random.shuffle(&mut readable);
        for id in readable {
            // Not where somebody's sign of life may be among what is left for later.
            if !ctx.has_beats && ctx.random.chance(5) {
                self.readable.push(id);
            } else {
                self.read(ctx, id);
            }
        }
        self.before_settling();
        self.core.handle_timeout(now, now);
        self.after_settling();
        let has_acted = self.finish_turn(ctx, now);
        self.finish_closing(ctx, now);
        self.model.reconcile();
        self.check_turn(ctx);
        assert!(self.model.kicked.is_empty(), "kicked, and still there");
        // Whoever is held back is sent PINGs, which nobody sees if he does not read.
        let is_stuck = |(id, host): (&ConnId, &Host)| host.is_parked || self.core.is_blocked(*id);
        let has_stuck = self.hosts.iter().any(is_stuck);
        self.idle_turns += u64::from(!was_asked && !has_acted && !has_stuck);
        self.schedule(ctx);
    }

    fn schedule(&mut self, ctx: &mut Context) {
        if self.core.is_stopped() {
            return;
        }
        if !self.readable.is_empty() || self.core.has_backlog() {
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
            "a deadline that has passed wakes for ever"
        );
        if let Some(at) = closing.chain(timeout).min() {
            self.wake(ctx, at.max(ctx.now + 1));
        }
    }

    fn happen(&mut self, ctx: &mut Context, now: Instant, happening: Happening) {
        match happening {
            Happening::Accepted(socket, plug) => {
                if ctx.is_open(plug) && self.stopped_at.is_none() {
                    let id = self.core.handle_accepted(now, socket, address(plug));
                    self.add_host(ctx, id, socket, plug);
                } else {
                    ctx.close(plug);
                }
            }
            Happening::Connected(link, plug) => {
                if self.stopped_at.is_some() {
                    ctx.close(plug);
                    return;
                }
                let socket = self.socket_of(link);
                let id = self.core.handle_connected(now, link, address(plug));
                self.add_host(ctx, id, socket, plug);
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

    /// The configuration names every endpoint once.
    fn socket_of(&self, link: LinkId) -> SocketId {
        let endpoint = self.core.endpoint(link);
        let mut sockets = (0..).zip(&self.config.proxies).flat_map(|(proxy, config)| {
            Side::ALL.map(|side| (SocketId { proxy, side }, config.side(side)))
        });
        let found = sockets.find(|(_, side)| {
            side.connect
                .iter()
                .any(|connect| connect.endpoint == *endpoint)
        });
        found.expect("a link is configured").0
    }

    fn add_host(&mut self, ctx: &mut Context, id: ConnId, socket: SocketId, plug: Plug) {
        let now = self.now(ctx);
        self.reminders += 2;
        self.model.connected(id, socket, plug, now);
        self.by_cable.insert(plug.cable, id);
        let host = Host {
            can_read: true,
            is_parked: false,
            is_queued: false,
            plug,
            state: State::Open,
        };
        let former = self.hosts.insert(id, host);
        assert!(former.is_none(), "{id:?} is used twice");
        ctx.trace
            .note(ctx.now, "connection", [self.index, plug.cable, id.slot()]);
        self.read_later(id);
    }

    fn read_later(&mut self, id: ConnId) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        let wants = self.core.wants_input(id) || host.state != State::Open;
        if host.can_read && wants && !host.is_queued {
            host.is_queued = true;
            self.readable.push(id);
        }
    }

    /// Reads once and forwards all that came.
    fn read(&mut self, ctx: &mut Context, id: ConnId) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        host.is_queued = false;
        if host.state != State::Open || !self.core.wants_input(id) {
            return;
        }
        let plug = host.plug;
        let mut input = self.core.begin_input(id, &mut self.scratch);
        let spare = input.spare();
        assert!(!spare.is_empty(), "there is no room for reading");
        match ctx.read(plug, spare) {
            Received::Nothing => host.can_read = false,
            // What waits goes first; then it is heard of once more.
            Received::End => {
                self.core.handle_read_closed(id, None);
                self.dying.extend((!host.is_parked).then_some(id));
            }
            Received::Broken(kind) => {
                self.core.handle_read_closed(id, Some(&kind.into()));
                self.dying.extend((!host.is_parked).then_some(id));
            }
            Received::Data(size) => {
                ctx.coverage
                    .add("read while parked", u64::from(host.is_parked));
                let targets = self.model.hear(id, &spare[..size]);
                input.filled(size);
                self.handle_input(ctx, id, &mut input, &targets);
            }
        }
        self.core.end_input(id, input, &mut self.scratch);
        self.read_later(id);
    }

    fn handle_input(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        input: &mut Input,
        targets: &BTreeSet<ConnId>,
    ) {
        let now = self.now(ctx);
        let (mut full, mut goes) = (BTreeSet::new(), 0);
        loop {
            goes += 1;
            let before = self.core.egress(id).map_or(0, Egress::messages);
            let flow = self.core.handle_input(now, id, input);
            self.model.called(&self.core, &[]);
            self.check_answers(ctx, id, before);
            let is_full = |target: &&ConnId| {
                let options = &self.model.socket(**target).options;
                self.core.is_blocked(**target) && is_at_high_water(&self.core, **target, options)
            };
            full.extend(targets.iter().filter(is_full));
            while let Some(target) = self.core.poll_urgent() {
                ctx.coverage.add("written from the scratch", 1);
                self.write(ctx, target, input.buffer());
                self.core.keep_rest(target, input);
            }
            match flow {
                Flow::Flush => {
                    ctx.coverage.add("flushed for room", 1);
                    continue;
                }
                Flow::Closed => {
                    ctx.coverage.add("protocol errors", 1);
                    self.dying.push(id);
                }
                Flow::Parked => {
                    ctx.coverage.add("parked", 1);
                    self.hosts.get_mut(&id).expect("it is there").is_parked = true;
                }
                Flow::Done => {}
                Flow::More => panic!("nobody set a quota"),
            }
            break;
        }
        self.model.handled(targets, &full, goes);
        if self.hosts.get(&id).is_some_and(|host| host.is_parked) {
            self.model.parked(id);
        }
    }

    /// Whatever the proxy is stuck in, a control answers at once, unless it has no room.
    fn check_answers(&mut self, ctx: &mut Context, id: ConnId, before: u32) {
        let asked = self.model.take_asked();
        if asked == 0 {
            return;
        }
        self.dying.extend(&self.model.kicked);
        let socket = self.model.shadows[&id].socket;
        let stuck = self.core.statistics();
        let is_stuck = stuck.iter().any(|socket| socket.waiting > 0);
        ctx.coverage.add("questions", asked as u64);
        ctx.coverage
            .add("questions while messages wait", u64::from(is_stuck));
        let after = self.core.egress(id).map_or(0, Egress::messages);
        let queued = (after - before) as usize;
        let watch = self.model.watches[socket.proxy as usize].as_mut();
        let watch = watch.expect("there is a control");
        assert!(queued <= asked, "{id:?}: more answers than questions");
        if queued < asked {
            let options = &self.model.sockets[index(socket)].options;
            let is_full = is_at_high_water(&self.core, id, options);
            let is_live = self.model.shadows[&id].is_live();
            assert!(
                is_full || !is_live,
                "{id:?}: {asked} questions, {queued} answers"
            );
            watch.not_answered(id, asked - queued, is_full);
        }
    }

    /// Writes what is queued until the kernel takes no more.
    fn write(&mut self, ctx: &mut Context, id: ConnId, input: &[u8]) {
        let Some(plug) = self.hosts.get(&id).map(|host| host.plug) else {
            return;
        };
        while !self.core.is_blocked(id) {
            let Some(egress) = self.core.egress(id).filter(|egress| !egress.is_empty()) else {
                return;
            };
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            // The end of a message may lie behind what can be seen of a very long queue.
            let offered = if count == SLICES_MAX {
                count - 2
            } else {
                count
            };
            match ctx.write(plug, &slices[..offered]) {
                Written::Taken(size) => {
                    assert!(size > 0, "an empty queue has something to write");
                    self.model.wrote(id, &slices[..count], size);
                    self.core.handle_written(id, size, false);
                }
                Written::Blocked => {
                    ctx.coverage.add("blocked", 1);
                    self.core.handle_written(id, 0, true);
                }
                Written::Broken => {
                    ctx.coverage.add("broken while writing", 1);
                    self.core.handle_write_failed(id);
                    self.broken.push(id);
                    self.hosts.get_mut(&id).expect("it is there").can_read = true;
                    self.read_later(id);
                    return;
                }
            }
        }
    }

    /// Looks at what the connections to be given up leave behind.
    fn before_settling(&mut self) {
        let mut gone: Vec<ConnId> = self.dying.iter().chain(&self.broken).copied().collect();
        gone.sort_unstable();
        gone.dedup();
        for id in gone {
            if let Some(egress) = self.core.egress(id) {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = egress.slices(&[], &mut slices);
                self.model.dying(id, &slices[..count]);
            }
        }
        self.dying.clear();
    }

    fn after_settling(&mut self) {
        for id in std::mem::take(&mut self.broken) {
            if let Some(shadow) = self.model.shadows.get_mut(&id) {
                shadow.is_mute |= shadow.is_live();
            }
        }
    }

    /// Does what the core asks for until there is nothing more; answers whether there was anything.
    fn finish_turn(&mut self, ctx: &mut Context, now: Instant) -> bool {
        let mut has_acted = false;
        loop {
            let mut actions: Vec<Action> = Vec::new();
            while let Some(action) = self.core.poll_action() {
                actions.push(action);
            }
            // There is no order among those of different connections.
            let salt = ctx.random.next();
            actions.sort_by_key(|action| match action {
                Action::Close { id, .. } | Action::Examine(id) | Action::Resume(id) => {
                    mix(salt ^ id.slot() as u64)
                }
                Action::Connect(_) | Action::ResumeAll | Action::StopAccepting(_) => mix(salt),
            });
            has_acted |= !actions.is_empty();
            let closing = actions.iter().filter_map(|action| match action {
                Action::Close { id, .. } => Some(*id),
                _ => None,
            });
            let closing: Vec<ConnId> = closing.collect();
            self.model.called(&self.core, &closing);
            self.note_cut_off(ctx, &actions);
            for action in actions {
                if let Action::Resume(id) = action
                    && closing.contains(&id)
                {
                    // It goes with what it had to say, as one that waits.
                    continue;
                }
                self.act(ctx, now, action);
            }
            while let Some(id) = self.core.poll_dirty() {
                has_acted = true;
                self.write(ctx, id, &[]);
            }
            self.before_settling();
            let has_more = self.core.settle(now);
            self.after_settling();
            if !has_more {
                return has_acted;
            }
        }
    }

    /// Finds those that a stop closes though what they sent could still go somewhere.
    fn note_cut_off(&mut self, ctx: &Context, actions: &[Action]) {
        let ends = |action: &Action| match action {
            Action::Close { id, .. } => self.model.shadows[id].phase == Phase::Ready,
            _ => false,
        };
        let drain = ctx.span(self.config.drain_timeout);
        let Some(stopped_at) = self.stopped_at.filter(|_| actions.iter().any(ends)) else {
            return;
        };
        let is_first = self.drained_at.is_none();
        self.drained_at.get_or_insert(ctx.now);
        if ctx.now >= stopped_at + drain || self.is_hurried || self.is_impatient() {
            return;
        }
        if is_first {
            self.model.excuse_lonely();
        }
        for action in actions {
            if let Action::Close { id, .. } = action
                && self.hosts[id].is_parked
                && self.model.has_takers(*id)
            {
                self.cut_off.insert(*id);
            }
        }
    }

    fn act(&mut self, ctx: &mut Context, now: Instant, action: Action) {
        match action {
            Action::Connect(link) => {
                let Endpoint::Tcp { port, .. } = *self.core.endpoint(link) else {
                    unreachable!("the simulated network has nothing else")
                };
                let dial = Dial {
                    from: Owner::Node(self.index),
                    link: Some(link),
                    port,
                };
                let at = ctx.now + ctx.random.range(1_000..=5 * MILLISECOND);
                ctx.trace
                    .note(ctx.now, "dial", [self.index, port.into(), 0]);
                ctx.queue.push(at, Event::Dial(dial));
            }
            Action::Close { id, lingers } => {
                let host = self.hosts.get_mut(&id).expect("it is closed once");
                assert_eq!(host.state, State::Open, "{id:?} is closed once");
                let is_excused = host.is_parked && !self.cut_off.contains(&id);
                if self.stopped_at.is_some() && self.model.shadows[&id].is_live() {
                    self.parted.insert(host.plug);
                }
                let received = self.core.messages_received(id);
                self.model.closed(id, received, is_excused);
                if lingers {
                    host.state = State::Flushing(ctx.now + ctx.span(LINGER));
                } else if ctx.random.chance(20) {
                    host.state = State::Leaving(ctx.now + ctx.random.range(0..=MILLISECOND));
                } else {
                    self.drop_host(ctx, now, id);
                }
            }
            Action::Examine(id) => {
                let cable = self.hosts.get(&id).map(|host| host.plug.cable);
                if cable.is_some_and(|cable| ctx.is_silent(cable)) {
                    self.core.handle_unreachable(id);
                }
            }
            Action::Resume(id) => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.is_parked = self.core.is_parked(id);
                }
                self.read_later(id);
            }
            Action::ResumeAll => {
                let all: Vec<ConnId> = self.hosts.keys().copied().collect();
                for id in all {
                    self.read_later(id);
                }
            }
            Action::StopAccepting(_) => {
                for listener in ctx.ports.values_mut() {
                    listener.is_up &= listener.owner != Owner::Node(self.index);
                }
            }
        }
    }

    /// Brings connections that are being closed a step further.
    fn finish_closing(&mut self, ctx: &mut Context, now: Instant) {
        let closing = self
            .hosts
            .iter()
            .filter(|(_, host)| host.state != State::Open);
        let closing: Vec<ConnId> = closing.map(|(id, _)| *id).collect();
        for id in closing {
            let host = self.hosts.get_mut(&id).expect("it is there");
            let (plug, mut deadline) = (host.plug, 0);
            if let State::Leaving(at) = host.state {
                deadline = at;
            }
            if let State::Flushing(at) = host.state {
                deadline = at;
                if self.core.egress(id).is_none_or(|egress| egress.is_empty()) {
                    ctx.finish(plug);
                    host.state = State::Lingering(at);
                }
            }
            let mut is_finished = false;
            if let State::Lingering(at) = host.state {
                deadline = at;
                let scratch = &mut self.scratch;
                is_finished = loop {
                    match ctx.read(plug, scratch) {
                        Received::Data(_) => {}
                        Received::Nothing => break false,
                        Received::Broken(_) | Received::End => break true,
                    }
                };
            }
            if !is_finished && deadline <= ctx.now && host.state != State::Leaving(deadline) {
                self.impatient.insert(plug);
            }
            if is_finished || deadline <= ctx.now {
                self.drop_host(ctx, now, id);
            }
        }
        // A slot that is free now may have been waited for.
        self.finish_turn(ctx, now);
        if self.core.is_stopped() {
            self.gone_at.get_or_insert(ctx.now);
        }
    }

    fn drop_host(&mut self, ctx: &mut Context, now: Instant, id: ConnId) {
        let host = self.hosts.remove(&id).expect("it is dropped once");
        self.by_cable.remove(&host.plug.cable);
        ctx.close(host.plug);
        self.reminders += 1;
        self.core.handle_closed(now, id);
    }

    /// Whether a side gives up what it has queued before the time for it is over.
    pub(crate) fn is_impatient(&self) -> bool {
        let mut sides = self
            .config
            .proxies
            .iter()
            .flat_map(|proxy| proxy.sides().map(|side| proxy.side(side)));
        sides.any(|side| side.options.linger.is_some())
    }

    /// What must be true after every turn.
    fn check_turn(&self, ctx: &Context) {
        for (id, host) in &self.hosts {
            let Some(egress) = self.core.egress(*id) else {
                panic!("{id:?} is forgotten before it is closed");
            };
            let is_stuck = !egress.is_empty() && !self.core.is_blocked(*id);
            assert!(!is_stuck, "{id:?} has something to send and nobody knows");
            check_size(*id, egress);
            let socket = self.model.socket(*id);
            let options = &socket.options;
            if options.sndhwm != 0 {
                assert!(
                    egress.messages() <= options.sndhwm,
                    "{id:?}: too many messages"
                );
            }
            // Subscriptions must not be lost and know no limit but their own; answers are as long
            // as they are.
            let is_limited = !matches!(
                (socket.socket_type, self.model.shadows[id].socket.side),
                (zmtp::SocketType::Xsub, _) | (_, Side::Control)
            );
            if is_limited {
                let largest = (socket.largest + 9 + 255) as u64;
                let limit = options.sndhwm_bytes + largest + 2 * broker::limits::CONTROL_BYTES_MAX;
                assert!(
                    egress.bytes() < limit,
                    "{id:?}: {} bytes queued",
                    egress.bytes()
                );
            }
            if host.state == State::Open && host.can_read && self.core.wants_input(*id) {
                assert!(host.is_queued, "{id:?} may be read and nobody does");
            }
        }
        let limit = self.config.memory_limit;
        if limit > 0 {
            let used = self.core.memory_in_use();
            // What the last step of the turn added.
            let most = limit + (1 << 20);
            assert!(used <= most, "{used} bytes in use, {limit} allowed");
        }
        assert!(
            ctx.has_beats || self.idle_turns <= self.reminders,
            "{} turns did nothing by {}",
            self.idle_turns,
            ctx.now
        );
    }

    /// Begins to stop, or stops at once if it has begun before.
    pub(crate) fn stop(&mut self, ctx: &mut Context) {
        let now = self.now(ctx);
        self.is_hurried = self.stopped_at.is_some();
        self.stopped_at.get_or_insert(ctx.now);
        self.before_settling();
        self.core.handle_stop(now);
        self.after_settling();
        self.reminders += 2;
        self.finish_turn(ctx, now);
        self.finish_closing(ctx, now);
        self.wake(ctx, ctx.now);
    }

    /// Everything it had is gone, as when its process is killed.
    pub(crate) fn kill(&mut self, ctx: &mut Context) {
        self.is_dead = true;
        for host in self.hosts.values() {
            ctx.reset(host.plug.cable, ErrorKind::ConnectionReset);
        }
        for happening in std::mem::take(&mut self.inbox) {
            self.notice(ctx, happening);
        }
        for listener in ctx.ports.values_mut() {
            listener.is_up &= listener.owner != Owner::Node(self.index);
        }
    }

    /// Whether nothing of it will happen without somebody else.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_sent = |id| self.core.egress(id).is_none_or(|egress| egress.is_empty());
        self.inbox.is_empty()
            && self.readable.is_empty()
            && !self.core.has_backlog()
            && self.hosts.keys().all(|id| is_sent(*id))
    }

    /// Runs a turn for which there is no reason.
    pub(crate) fn turn_for_nothing(&mut self, ctx: &Context) {
        let before = self.core.statistics();
        let now = self.now(ctx);
        self.core.handle_timeout(now, now);
        assert_eq!(self.core.poll_action(), None, "work without a reason");
        assert_eq!(self.core.poll_dirty(), None, "work without a reason");
        assert!(!self.core.settle(now), "work without a reason");
        assert!(!self.core.has_backlog(), "a backlog that never ends");
        assert!(
            self.core.statistics() == before,
            "figures change by themselves"
        );
    }
}

pub(crate) fn address(plug: Plug) -> SocketAddr {
    let port = u16::try_from(plug.cable % 60_000).expect("below 60000");
    (Ipv4Addr::LOCALHOST, 1000 + port).into()
}
