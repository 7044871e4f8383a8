//! The peers of a broker: one connection at a time, at a speed of their own, through all faults.

use crate::context::{Context, Dial, Event, MILLISECOND, Nanos, Owner, SECOND};
use crate::message::header_of;
use crate::net::Plug;
use wire::{Pulled, Told, Wire};
use zmtp::{HeartbeatConfig, MechanismConfig, SocketType};

pub(crate) mod asker;
pub(crate) mod handler;
pub(crate) mod misbehaving;
pub(crate) mod monitors;
pub(crate) mod request;
pub(crate) mod spread;
pub(crate) mod wire;

use asker::Asker;
use handler::Handler;
use misbehaving::Misbehaving;
use monitors::{Reader, Steerer};
use request::{Client, Worker};
use spread::{Publisher, Sink, Source, Subscriber};

/// The fixed properties of a peer.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// It sends only when a new worker or sink is about to be ready.
    pub(crate) follows: bool,
    /// The time between two actions of its own.
    pub(crate) gap: Nanos,
    /// Its own heartbeats, and its limits for those of the broker.
    pub(crate) heartbeat: Option<HeartbeatConfig>,
    pub(crate) identity: Vec<u8>,
    /// Brokers connect to it, not the reverse.
    pub(crate) is_listening: bool,
    /// It speaks ZMTP 2.0.
    pub(crate) is_v2: bool,
    pub(crate) mechanism: MechanismConfig,
    pub(crate) minor: u8,
    /// Bytes queued before it stops sending for a while.
    pub(crate) out_max: usize,
    /// It knows PING, even if it announces an older version.
    pub(crate) knows_ping: bool,
    pub(crate) pings: bool,
    pub(crate) port: u16,
    /// The number of actions of its own.
    pub(crate) quota: u32,
    /// Bytes per read, and the time until the next.
    pub(crate) read: (usize, Nanos),
    pub(crate) socket_type: SocketType,
    /// The longest duration of a connection, if limited.
    pub(crate) stays: Option<Nanos>,
    /// It comes back after that.
    pub(crate) returns: bool,
}

#[derive(Debug)]
pub(crate) enum Role {
    Asker(Asker),
    Client(Client),
    Handler(Handler),
    Misbehaving(Misbehaving),
    Publisher(Publisher),
    Reader(Reader),
    Sink(Sink),
    Source(Source),
    Steerer(Steerer),
    Subscriber(Subscriber),
    Worker(Worker),
}

/// The tools of a role.
#[derive(Debug)]
pub(crate) struct Tools<'a> {
    pub(crate) ctx: &'a mut Context,
    pub(crate) spec: &'a Spec,
    pub(crate) wire: &'a mut Wire,
}

/// The request of a role after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The end of this connection.
    Close,
    /// Another turn at this time.
    Turn(Nanos),
    /// No turn before the next event.
    Wait,
}

#[derive(Debug)]
pub(crate) struct Peer {
    dial_at: Option<Nanos>,
    /// It has left, and does not come back.
    has_left: bool,
    index: usize,
    is_dialling: bool,
    leaves_at: Option<Nanos>,
    /// The bytes received on its last connection, if the other side ended it.
    pub(crate) past: Option<(Plug, u64)>,
    paused_until: Nanos,
    read_at: Nanos,
    pub(crate) role: Role,
    pub(crate) spec: Spec,
    wake_at: Option<Nanos>,
    pub(crate) wire: Option<Wire>,
}

impl Peer {
    pub(crate) fn new(ctx: &mut Context, index: usize, spec: Spec, role: Role) -> Self {
        let mut peer = Self {
            dial_at: None,
            has_left: false,
            index,
            is_dialling: false,
            leaves_at: None,
            past: None,
            paused_until: 0,
            read_at: 0,
            role,
            spec,
            wake_at: None,
            wire: None,
        };
        if !peer.spec.is_listening {
            let at = ctx.random.range(0..=500 * MILLISECOND);
            peer.dial_at = Some(at);
            peer.wake(ctx, at);
        }
        peer
    }

    pub(crate) fn is_liar(&self) -> bool {
        matches!(self.role, Role::Misbehaving(_))
    }

    /// Bytes arrived, or there is room again.
    pub(crate) fn notice(&mut self, ctx: &mut Context) {
        let delay = ctx.random.range(0..=100_000);
        self.wake(ctx, ctx.now + delay);
    }

    fn wake(&mut self, ctx: &mut Context, at: Nanos) {
        if self.wake_at.is_none_or(|wake_at| wake_at > at) {
            self.wake_at = Some(at);
            ctx.queue.push(at, Event::Peer(self.index));
        }
    }

    /// Does nothing until this time.
    pub(crate) fn pause(&mut self, until: Nanos) {
        self.paused_until = until;
    }

    pub(crate) fn connected(&mut self, ctx: &mut Context, plug: Plug) {
        self.is_dialling = false;
        self.hang_up(ctx);
        let group = ctx.groups[&self.spec.port];
        let sender = ctx.add_sender(&self.spec.identity, group, self.is_liar());
        let mut wire = Wire::new(ctx, plug, &self.spec, sender);
        match &mut self.role {
            Role::Asker(asker) => asker.connected(),
            Role::Client(client) => client.connected(),
            Role::Handler(handler) => handler.connected(),
            Role::Misbehaving(misbehaving) => {
                if let Some(out) = misbehaving.connected(ctx, &self.spec, sender) {
                    wire.replace(out);
                }
            }
            Role::Publisher(publisher) => publisher.connected(),
            Role::Reader(reader) => reader.connected(),
            Role::Steerer(steerer) => steerer.connected(),
            Role::Subscriber(subscriber) => subscriber.connected(ctx.is_calm),
            Role::Sink(_) | Role::Source(_) | Role::Worker(_) => {}
        }
        self.wire = Some(wire);
        let stays = self.spec.stays;
        self.leaves_at = stays.map(|stays| ctx.now + ctx.random.range(0..=stays));
        self.dial_at = None;
        self.read_at = 0;
        self.notice(ctx);
    }

    pub(crate) fn dial_failed(&mut self, ctx: &mut Context) {
        self.is_dialling = false;
        self.dial_later(ctx);
    }

    /// Closes the connection, in order as far as the peer is concerned.
    pub(crate) fn hang_up(&mut self, ctx: &mut Context) {
        if let Some(wire) = self.wire.take() {
            ctx.close(wire.plug);
            self.past = None;
            self.dial_later(ctx);
        }
    }

    /// In the final phase, only peers that others wait for reconnect.
    fn dial_later(&mut self, ctx: &mut Context) {
        let is_needed = matches!(
            self.role,
            Role::Reader(_) | Role::Sink(_) | Role::Steerer(_) | Role::Worker(_)
        );
        let is_gone = !ctx.ports.contains_key(&self.spec.port);
        let is_gone = is_gone || self.has_left;
        if self.spec.is_listening || is_gone || ctx.is_over || (ctx.is_calm && !is_needed) {
            return;
        }
        if let Role::Misbehaving(misbehaving) = &mut self.role
            && !misbehaving.comes_back()
        {
            return;
        }
        let at = ctx.now + ctx.random.range(MILLISECOND..=500 * MILLISECOND);
        self.dial_at = Some(at);
        self.wake(ctx, at);
    }

    pub(crate) fn act(&mut self, ctx: &mut Context) {
        if self.wake_at.is_none_or(|at| at > ctx.now) {
            return;
        }
        self.wake_at = None;
        if self.paused_until > ctx.now && !ctx.is_calm {
            self.wake(ctx, self.paused_until);
            return;
        }
        if self.wire.is_none() {
            self.dial(ctx);
            return;
        }
        if !self.read(ctx) {
            let ended = self.wire.as_ref();
            let past = ended.map(|wire| (wire.plug, wire.received_messages));
            self.hang_up(ctx);
            self.past = past;
            return;
        }
        let Some(wire) = &mut self.wire else { return };
        if !wire.beat(ctx) {
            ctx.coverage.add("peers that declared the broker dead", 1);
            let (index, plug) = (self.index, wire.plug);
            if wire.is_ready {
                assert!(
                    !ctx.is_fair,
                    "a live broker gave peer {index} no sign of life over {plug:?}"
                );
            } else {
                ctx.kept_waiting.push(plug);
            }
            self.hang_up(ctx);
            return;
        }
        let mut tools = Tools {
            ctx,
            spec: &self.spec,
            wire,
        };
        let wish = self.role.turn(&mut tools);
        if !wire.flush(ctx) || wish == Wish::Close {
            self.hang_up(ctx);
            return;
        }
        let (plug, beat) = (wire.plug, wire.next_beat());
        if let Some(at) = self.leaves_at.filter(|_| !ctx.is_calm) {
            if at <= ctx.now {
                self.has_left = !self.spec.returns;
                self.hang_up(ctx);
                return;
            }
            self.wake(ctx, at);
        }
        if let Some(at) = beat.map(|at| ctx.nanos(at)) {
            self.wake(ctx, at.max(ctx.now + 1));
        }
        if let Wish::Turn(at) = wish {
            self.wake(ctx, at.max(ctx.now + 1));
        }
        let reads =
            !matches!(&self.role, Role::Misbehaving(misbehaving) if !misbehaving.reads_at_all(ctx));
        if reads && ctx.can_read(plug) {
            let at = if ctx.is_calm { 0 } else { self.read_at };
            self.wake(ctx, at.max(ctx.now + 1));
        }
    }

    fn dial(&mut self, ctx: &mut Context) {
        let Some(at) = self.dial_at.filter(|_| !ctx.is_over && !self.is_dialling) else {
            return;
        };
        if at > ctx.now {
            self.wake(ctx, at);
            return;
        }
        self.dial_at = None;
        self.is_dialling = true;
        let dial = Dial {
            from: Owner::Peer(self.index),
            link: None,
            port: self.spec.port,
        };
        let at = ctx.now + ctx.random.range(1_000..=5 * MILLISECOND);
        ctx.queue.push(at, Event::Dial(dial));
    }

    /// Reads once, if it is time, and passes the input to the role; returns whether the connection
    /// holds.
    fn read(&mut self, ctx: &mut Context) -> bool {
        let Some(wire) = &mut self.wire else {
            return true;
        };
        if self.read_at > ctx.now && !ctx.is_calm {
            return true;
        }
        let (limit, pause) = self.spec.read;
        self.read_at = ctx.now + pause;
        let limit = if ctx.is_calm { 64 << 10 } else { limit };
        if let Role::Misbehaving(misbehaving) = &mut self.role
            && !misbehaving.reads_well()
        {
            return misbehaving.reads(ctx, wire.plug);
        }
        let before = wire.received();
        let (pulled, told) = wire.pull(ctx, limit);
        let takes = matches!(self.role, Role::Sink(_) | Role::Worker(_));
        if takes && wire.is_greeted(before) {
            ctx.taker_at = ctx.now;
        }
        for told in told {
            if let Told::Message(message) = &told {
                check_origin(ctx, message, wire.sender);
            }
            let mut tools = Tools {
                ctx,
                spec: &self.spec,
                wire,
            };
            self.role.hear(&mut tools, told);
        }
        pulled == Pulled::Open
    }
}

/// Messages do not cross from one proxy to another.
fn check_origin(ctx: &Context, message: &[u8], receiver: u32) {
    if let Some((header, _)) = header_of(ctx.style, message) {
        let (from, to) = (ctx.sender(&header), &ctx.senders[receiver as usize]);
        assert_eq!(from.group, to.group, "{header:?} crossed to another proxy");
    }
}

impl Role {
    fn hear(&mut self, tools: &mut Tools<'_>, told: Told) {
        match self {
            Self::Asker(asker) => asker.hear(tools, &told),
            Self::Client(client) => client.hear(tools, told),
            Self::Handler(handler) => handler.hear(tools, &told),
            Self::Misbehaving(_) => {}
            Self::Publisher(publisher) => publisher.hear(tools, told),
            Self::Reader(reader) => reader.hear(tools, &told),
            Self::Sink(sink) => sink.hear(tools, &told),
            Self::Source(_) => assert!(matches!(told, Told::Ready), "a PUSH gets no messages"),
            Self::Steerer(steerer) => steerer.hear(tools, &told),
            Self::Subscriber(subscriber) => subscriber.hear(tools, &told),
            Self::Worker(worker) => worker.hear(tools, told),
        }
    }

    fn turn(&mut self, tools: &mut Tools<'_>) -> Wish {
        if let Self::Misbehaving(misbehaving) = self {
            return misbehaving.turn(tools);
        }
        if !tools.wire.is_ready {
            return Wish::Wait;
        }
        if tools.spec.pings && !tools.ctx.is_calm && tools.ctx.random.chance(10) {
            tools.wire.ping(&mut tools.ctx.random);
        }
        match self {
            Self::Asker(asker) => asker.turn(tools),
            Self::Client(client) => client.turn(tools),
            Self::Handler(handler) => handler.turn(tools),
            Self::Misbehaving(_) | Self::Sink(_) => Wish::Wait,
            Self::Publisher(publisher) => publisher.turn(tools),
            Self::Reader(reader) => reader.turn(tools),
            Self::Source(source) => source.turn(tools),
            Self::Steerer(steerer) => steerer.turn(tools),
            Self::Subscriber(subscriber) => subscriber.turn(tools),
            Self::Worker(worker) => worker.turn(tools),
        }
    }
}

/// The time for which a peer that follows a new one goes on.
const FOLLOWS_WITHIN: Nanos = MILLISECOND / 2;

/// Counts the actions of a peer, and decides when they are due.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    pub(crate) done: u32,
    next_at: Nanos,
}

impl Pace {
    /// Whether the next action is due; if so, it counts.
    pub(crate) fn is_due(&mut self, tools: &mut Tools<'_>) -> bool {
        let is_due = !tools.ctx.is_calm
            && self.done < tools.spec.quota
            && (!tools.spec.follows || tools.ctx.now <= tools.ctx.taker_at + FOLLOWS_WITHIN)
            && self.next_at <= tools.ctx.now
            && tools.wire.pending() < tools.spec.out_max;
        if is_due {
            self.done += 1;
            // Several in one burst, then a gap.
            if tools.ctx.random.chance(40) {
                let gap = tools.spec.gap;
                self.next_at = tools.ctx.now + tools.ctx.random.range(0..=2 * gap);
            }
        }
        is_due
    }

    /// The time of the next check; a full queue wakes its peer when it was written.
    pub(crate) fn wish(&self, tools: &Tools<'_>) -> Wish {
        if tools.ctx.is_calm || tools.spec.follows || self.done >= tools.spec.quota {
            Wish::Wait
        } else if tools.wire.pending() >= tools.spec.out_max {
            Wish::Turn(tools.ctx.now + MILLISECOND.max(tools.spec.gap))
        } else {
            Wish::Turn(self.next_at.min(tools.ctx.now + SECOND))
        }
    }
}
