//! A whole run: brokers, peers, cables between them, and their fates.

use crate::context::SocketKey;
use crate::context::{Context, Coverage, Dial, Event, Listener, MILLISECOND, Nanos, Owner, SECOND};
use crate::node::{Happening, Node, Repertoire};
use crate::peers::Peer;
use crate::random::Random;
use broker::config::Config;
use broker::{LinkId, ListenerId};
use std::io::ErrorKind;

/// More events than any run needs: a loop.
const EVENTS_MAX: u64 = 500_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) nodes: Vec<Node>,
    pub(crate) peers: Vec<Peer>,
    /// The script of the run.
    pub(crate) script: Script,
    events: u64,
}

/// The course of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Heartbeats are in use, so events never end.
    pub(crate) beats: bool,
    /// The time between two faults; none is a run without faults.
    pub(crate) fault_gap: Option<Nanos>,
    /// Brokers are killed and restarted.
    pub(crate) kills: bool,
    /// The time after which all faults end, or the brokers stop in the middle of everything.
    pub(crate) lasts: Nanos,
    pub(crate) stops_early: bool,
    pub(crate) stops_twice: bool,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) coverage: Coverage,
    pub(crate) hash: u64,
}

impl World {
    pub(crate) fn new(ctx: Context, script: Script) -> Self {
        Self {
            ctx,
            events: 0,
            nodes: Vec::new(),
            peers: Vec::new(),
            script,
        }
    }

    /// Starts a broker, which listens at once.
    pub(crate) fn add_node(&mut self, config: Config, repertoire: Repertoire) {
        let index = self.nodes.len();
        let node = Node::new(&mut self.ctx, index, config, repertoire);
        self.nodes.push(node);
    }

    /// Runs the whole script, and panics at the first violated condition.
    pub(crate) fn run(mut self) -> Outcome {
        if let Some(gap) = self.script.fault_gap {
            self.ctx.queue.push(gap, Event::Fault);
        }
        self.run_until(self.script.lasts);
        if self.script.stops_early {
            self.stop();
        } else {
            self.calm();
            if self.script.beats {
                self.run_until_still();
            } else {
                self.run_until_quiet();
            }
            self.check_quiet();
            self.stop();
        }
        self.check_stopped();
        Outcome {
            coverage: self.ctx.coverage,
            hash: self.ctx.trace.hash(),
        }
    }

    fn run_until(&mut self, end: Nanos) {
        while self.ctx.queue.next().is_some_and(|at| at <= end) {
            self.step();
        }
        self.ctx.now = end;
    }

    fn run_until_quiet(&mut self) {
        while self.ctx.queue.next().is_some() {
            self.step();
        }
    }

    /// Like [`Self::run_until_quiet`], for runs with heartbeats, which never end: runs until
    /// everything begun must have ended, then to a moment between two heartbeats.
    fn run_until_still(&mut self) {
        self.run_until(self.ctx.now + 15 * SECOND);
        for _ in 0..100_000 {
            if self.is_still() {
                return;
            }
            self.step();
        }
        panic!("bytes are always in transit");
    }

    fn is_still(&self) -> bool {
        let nodes = self.nodes.iter().filter(|node| !node.is_dead);
        let wires = self.peers.iter().filter_map(|peer| peer.wire.as_ref());
        self.ctx.is_silent_everywhere()
            && nodes.into_iter().all(Node::is_quiet)
            && wires.into_iter().all(|wire| wire.pending() == 0)
    }

    fn step(&mut self) {
        let Some((at, event)) = self.ctx.queue.pop() else {
            return;
        };
        self.events += 1;
        assert!(self.events < EVENTS_MAX, "this never ends: {event:?}");
        self.ctx.now = at;
        let ctx = &mut self.ctx;
        let taker_at = ctx.taker_at;
        match event {
            Event::Break { plug, kind } => {
                if ctx.break_now(plug, kind) {
                    // An owner that writes before it is notified learns of the loss by that.
                    let at = at + ctx.random.range(0..=3 * MILLISECOND);
                    ctx.queue.push(at, Event::Tell { plug });
                }
            }
            Event::Credit { plug, size } => {
                if ctx.credit(plug, size) {
                    self.tell(plug, Happening::Writable(plug));
                }
            }
            Event::Deliver { plug } => {
                if ctx.deliver(plug) {
                    self.tell(plug, Happening::Readable(plug));
                }
            }
            Event::Dial(dial) => self.dial(dial),
            Event::Fault => self.fault(),
            Event::Peer(index) => self.peers[index].act(ctx),
            Event::Tell { plug } => {
                self.tell(plug, Happening::Readable(plug));
                self.tell(plug, Happening::Writable(plug));
            }
            Event::Turn(index) => self.nodes[index].turn(ctx),
        }
        self.check_kept_waiting();
        if self.ctx.taker_at != taker_at {
            for peer in self.peers.iter_mut().filter(|peer| peer.spec.follows) {
                peer.notice(&mut self.ctx);
            }
        }
    }

    /// Without faults, only refused peers wait in their handshakes for longer than they like: the
    /// broker closes them later with each attempt.
    fn check_kept_waiting(&mut self) {
        for plug in self.ctx.kept_waiting.drain(..) {
            let mut mirrors = self.nodes.iter().flat_map(|it| it.model.mirrors.values());
            let mirror = mirrors.find(|mirror| mirror.plug == plug.other());
            let is_refused = mirror.is_some_and(|mirror| mirror.is_denied);
            assert!(
                is_refused || !self.ctx.is_fair,
                "a live broker keeps its peer waiting over {plug:?}"
            );
        }
    }

    fn tell(&mut self, plug: crate::net::Plug, happening: Happening) {
        match self.ctx.cables[plug.cable].owners[plug.side] {
            Owner::Node(index) => self.nodes[index].notice(&mut self.ctx, happening),
            Owner::Peer(index) => self.peers[index].notice(&mut self.ctx),
        }
    }

    fn dial(&mut self, dial: Dial) {
        let ctx = &mut self.ctx;
        let listener = ctx.ports.get(&dial.port).filter(|listener| listener.is_up);
        let listener = listener.copied();
        let is_lost = !ctx.is_calm && ctx.random.chance(3);
        let Some(listener) = listener.filter(|_| !is_lost) else {
            match (dial.from, dial.link) {
                (Owner::Node(index), Some(link)) => {
                    let kind = if is_lost {
                        ErrorKind::TimedOut
                    } else {
                        ErrorKind::ConnectionRefused
                    };
                    self.nodes[index].notice(ctx, Happening::ConnectFailed(link, kind));
                }
                (Owner::Peer(index), _) => self.peers[index].dial_failed(ctx),
                (Owner::Node(_), None) => unreachable!("a broker connects by its links"),
            }
            return;
        };
        let plug = ctx.connect([dial.from, listener.owner]);
        ctx.trace.show(|| {
            format!(
                "cable {}: {:?} to {:?}",
                plug.cable, dial.from, listener.owner
            )
        });
        self.attach(dial.from, plug, dial.link, None);
        self.attach(listener.owner, plug.other(), None, listener.socket);
    }

    fn attach(
        &mut self,
        owner: Owner,
        plug: crate::net::Plug,
        link: Option<LinkId>,
        socket: Option<(SocketKey, ListenerId)>,
    ) {
        let ctx = &mut self.ctx;
        match (owner, link, socket) {
            (Owner::Node(index), Some(link), _) => {
                self.nodes[index].notice(ctx, Happening::Connected(link, plug));
            }
            (Owner::Node(index), None, Some((socket, listener))) => {
                self.nodes[index].notice(ctx, Happening::Accepted(socket, listener, plug));
            }
            (Owner::Peer(index), ..) => self.peers[index].connected(ctx, plug),
            (Owner::Node(_), None, None) => unreachable!("a broker listens by its sockets"),
        }
    }

    fn fault(&mut self) {
        let Some(gap) = self.script.fault_gap.filter(|_| !self.ctx.is_calm) else {
            return;
        };
        let at = self.ctx.now + self.ctx.random.range(1..=2 * gap);
        self.ctx.queue.push(at, Event::Fault);
        if self.ctx.cables.is_empty() || self.peers.is_empty() {
            return;
        }
        // The newest ones are those in use.
        let recent = self.ctx.cables.len().min(20);
        let cable = self.ctx.cables.len() - 1 - self.ctx.random.below(recent);
        let peer = self.ctx.random.below(self.peers.len());
        let until = self.ctx.now + self.ctx.random.range(0..=SECOND);
        let ctx = &mut self.ctx;
        let kind = ctx.random.below(12);
        ctx.trace.note(ctx.now, "fault", [kind, cable, peer]);
        match kind {
            0..=2 => {
                ctx.coverage.add("resets", 1);
                ctx.reset(cable, ErrorKind::ConnectionReset);
            }
            3 | 4 => {
                ctx.coverage.add("half-open deaths", 1);
                ctx.silence(cable);
                // The kernel gives up in the end.
                for side in 0..2 {
                    let plug = crate::net::Plug { cable, side };
                    let kind = ErrorKind::TimedOut;
                    let at = until + ctx.random.range(0..=3 * SECOND);
                    ctx.queue.push(at, Event::Break { plug, kind });
                }
            }
            5 | 6 => ctx.stall(cable, until),
            7 | 8 => self.peers[peer].pause(until),
            9 => self.come_back(peer, until),
            10 => {
                let ports: Vec<u16> = ctx.ports.keys().copied().collect();
                let port = (!ports.is_empty()).then(|| ctx.random.pick(&ports));
                if let Some(listener) = port.and_then(|port| ctx.ports.get_mut(&port)) {
                    let is_there = listener.socket.is_some();
                    let is_peer = matches!(listener.owner, Owner::Peer(_));
                    listener.is_up = !listener.is_up && (is_there || is_peer);
                }
            }
            _ if self.script.kills && !self.ctx.is_over => self.kill(),
            _ => {}
        }
    }

    /// A peer closes its connection and comes back. Now and then the broker does not learn of that
    /// before its kernel gives up.
    fn come_back(&mut self, mut peer: usize, until: Nanos) {
        let ctx = &mut self.ctx;
        // Its identity may still belong to its former connection.
        let named = self.peers.iter().enumerate();
        let named = named.filter(|(_, peer)| !peer.spec.identity.is_empty());
        let named: Vec<usize> = named.map(|(index, _)| index).collect();
        if !named.is_empty() && ctx.random.chance(50) {
            peer = ctx.random.pick(&named);
        }
        let peer = &mut self.peers[peer];
        if let Some(wire) = peer.wire.as_ref().filter(|_| ctx.random.chance(50)) {
            ctx.coverage.add("peers that come back unnoticed", 1);
            let plug = wire.plug.other();
            ctx.silence(plug.cable);
            let kind = ErrorKind::TimedOut;
            let at = until + ctx.random.range(0..=5 * SECOND);
            ctx.queue.push(at, Event::Break { plug, kind });
        }
        peer.hang_up(ctx);
    }

    /// A broker is killed, and a new one replaces it.
    fn kill(&mut self) {
        let live: Vec<usize> = (0..self.nodes.len())
            .filter(|index| !self.nodes[*index].is_dead)
            .collect();
        let index = self.ctx.random.pick(&live);
        self.ctx.coverage.add("brokers killed", 1);
        self.nodes[index].kill(&mut self.ctx);
        let config = self.nodes[index].present();
        self.add_node(config, Repertoire::default());
    }

    /// Ends all faults: from now on every peer reads everything.
    fn calm(&mut self) {
        let ctx = &mut self.ctx;
        ctx.is_calm = true;
        ctx.trace.note(ctx.now, "calm", [0; 3]);
        // Nothing is added any more.
        let may_come = |listener: &mut Listener| {
            matches!(listener.owner, Owner::Peer(_)) || listener.socket.is_some()
        };
        ctx.ports.retain(|_, listener| may_come(listener));
        for listener in ctx.ports.values_mut() {
            listener.is_up = true;
        }
        for cable in 0..ctx.cables.len() {
            ctx.speed_up(cable);
            if ctx.is_silent(cable) {
                ctx.reset(cable, ErrorKind::TimedOut);
            }
        }
        for peer in &mut self.peers {
            peer.notice(ctx);
        }
        for node in &mut self.nodes {
            node.calm(ctx);
        }
    }

    /// Makes all brokers stop, in whatever state, and runs until no events are left.
    fn stop(&mut self) {
        self.ctx.is_over = true;
        self.ctx.trace.note(self.ctx.now, "stop", [0; 3]);
        for node in self.nodes.iter_mut().filter(|node| !node.is_dead) {
            node.stop(&mut self.ctx);
        }
        if self.script.stops_twice {
            self.run_until(self.ctx.now + 20 * MILLISECOND);
            for node in self.nodes.iter_mut().filter(|node| !node.is_dead) {
                node.stop(&mut self.ctx);
            }
        }
        // At first some peers do not read; then all do.
        self.run_until(self.ctx.now + SECOND);
        self.calm();
        self.run_until_quiet();
    }
}

/// The course of a run, drawn at random.
pub(crate) fn script(random: &mut Random) -> Script {
    Script {
        beats: random.chance(15),
        fault_gap: match random.below(4) {
            0 => None,
            1 => Some(SECOND),
            2 => Some(200 * MILLISECOND),
            _ => Some(40 * MILLISECOND),
        },
        kills: random.chance(15),
        lasts: random.range(500 * MILLISECOND..=5 * SECOND),
        stops_early: random.chance(25),
        stops_twice: random.chance(20),
    }
}
