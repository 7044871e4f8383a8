//! A whole run: brokers, peers, cables between them, and what becomes of them.

use crate::context::SocketKey;
use crate::context::{Context, Coverage, Dial, Event, MILLISECOND, Nanos, Owner, SECOND};
use crate::node::{Happening, Node};
use crate::peers::Peer;
use crate::random::Random;
use broker::config::Config;
use broker::{LinkId, ListenerId};
use std::io::ErrorKind;

/// No run needs more events; one that does is a loop.
const EVENTS_MAX: u64 = 500_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ctx: Context,
    pub(crate) nodes: Vec<Node>,
    pub(crate) peers: Vec<Peer>,
    /// What the run does beside running.
    pub(crate) script: Script,
    events: u64,
}

/// The course of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// Somebody sends PINGs by the clock: there is never nothing to do.
    pub(crate) beats: bool,
    /// Time between two faults; none is a fair-weather run.
    pub(crate) fault_gap: Option<Nanos>,
    /// Brokers are killed and come back.
    pub(crate) kills: bool,
    /// When all that is wrong is put right, or the brokers stop in the middle of everything.
    pub(crate) lasts: Nanos,
    pub(crate) stops_early: bool,
    pub(crate) stops_twice: bool,
}

/// What came out of a run.
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
    pub(crate) fn add_node(&mut self, config: Config) {
        let index = self.nodes.len();
        let node = Node::new(&mut self.ctx, index, config);
        self.nodes.push(node);
    }

    /// Runs the whole script, panicking at the first thing that is not as it must be.
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

    /// As [`Self::run_until_quiet`] where heartbeats go on for ever: until all that was begun must
    /// have come to its end, and then to a moment between two heartbeats.
    fn run_until_still(&mut self) {
        self.run_until(self.ctx.now + 15 * SECOND);
        for _ in 0..100_000 {
            if self.is_still() {
                return;
            }
            self.step();
        }
        panic!("something is always under way");
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
        assert!(self.events < EVENTS_MAX, "this will never end: {event:?}");
        self.ctx.now = at;
        let ctx = &mut self.ctx;
        let taker_at = ctx.taker_at;
        match event {
            Event::Break { plug, kind } => {
                if ctx.break_now(plug, kind) {
                    // Whoever writes before he is told learns of it by that.
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
        if self.ctx.taker_at != taker_at {
            for peer in self.peers.iter_mut().filter(|peer| peer.spec.follows) {
                peer.notice(&mut self.ctx);
            }
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
        // The youngest are those in use.
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
            9 => self.peers[peer].hang_up(ctx),
            10 => {
                let ports: Vec<u16> = ctx.ports.keys().copied().collect();
                let port = (!ports.is_empty()).then(|| ctx.random.pick(&ports));
                if let Some(listener) = port.and_then(|port| ctx.ports.get_mut(&port)) {
                    listener.is_up = !listener.is_up;
                }
            }
            _ if self.script.kills && !self.ctx.is_over => self.kill(),
            _ => {}
        }
    }

    /// A broker is killed, and another one takes its place.
    fn kill(&mut self) {
        let live: Vec<usize> = (0..self.nodes.len())
            .filter(|index| !self.nodes[*index].is_dead)
            .collect();
        let index = self.ctx.random.pick(&live);
        self.ctx.coverage.add("brokers killed", 1);
        self.nodes[index].kill(&mut self.ctx);
        let config = self.nodes[index].config.clone();
        self.add_node(config);
    }

    /// Puts right what is wrong: from now on everybody takes what is sent to him.
    fn calm(&mut self) {
        let ctx = &mut self.ctx;
        ctx.is_calm = true;
        ctx.trace.note(ctx.now, "calm", [0; 3]);
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
    }

    /// Lets all brokers stop, whatever they are at, and runs until nothing is left to do.
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
        // Some read on as before; then all do.
        self.run_until(self.ctx.now + SECOND);
        self.calm();
        self.run_until_quiet();
    }
}

/// How a run goes, for better or worse.
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
