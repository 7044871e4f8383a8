//! Brokers and peers connected by cables, without a machine: time jumps, and bytes arrive in pieces
//! of any size and in any order that cables allow.

use broker::config::{Config, SocketName};
use broker::view::SocketView;
use broker::{Action, ConnId, Core, Flow, LinkId, ListenerId, SLICES_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmtp::encode::append_message;
use zmtp::{Event, LoopCheck, LoopCommand, Peer, Session, SessionConfig, SocketType};

/// Time between two turns with events.
const TURN: Duration = Duration::from_micros(100);

/// The simulated world.
pub(crate) struct Net {
    /// Endpoints that refuse connections for now.
    pub(crate) barred: BTreeSet<String>,
    cables: Vec<Cable>,
    listeners: BTreeMap<String, (usize, ListenerId)>,
    nodes: Vec<Node>,
    now: Instant,
    pub(crate) peers: Vec<Wire>,
    random: Random,
}

struct Node {
    name: usize,
    by_id: BTreeMap<ConnId, Plug>,
    core: Core,
    scratch: Vec<u8>,
}

/// One end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plug {
    cable: usize,
    end: usize,
}

/// Bytes in transit to each end, and the owners of the ends.
struct Cable {
    endpoint: String,
    is_closed: bool,
    owners: [Owner; 2],
    ways: [Vec<u8>; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Node(usize, ConnId),
    Gone,
    Peer(usize),
}

/// A peer that is not a broker, or claims to be one.
pub(crate) struct Wire {
    pub(crate) heard: Vec<LoopCommand>,
    input: Vec<u8>,
    pub(crate) is_closed: bool,
    /// Whether it reads nothing.
    pub(crate) is_deaf: bool,
    pub(crate) is_ready: bool,
    pub(crate) messages: Vec<Vec<u8>>,
    out: Vec<u8>,
    plug: Plug,
    session: Session,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "some instant to count from")]
        let now = Instant::now();
        Self {
            barred: BTreeSet::new(),
            cables: Vec::new(),
            listeners: BTreeMap::new(),
            nodes: Vec::new(),
            now,
            peers: Vec::new(),
            random: Random::new(seed),
        }
    }

    /// Starts a broker and names it.
    pub(crate) fn add(&mut self, name: usize, text: &str) {
        let config = Config::from_toml(text, "loops.toml").expect("a good configuration");
        let index = self.nodes.len();
        let mut core = Core::new(self.now, &config, self.random.next());
        while core.is_opening() {
            if let Some(Action::Listen(id)) = core.poll_action() {
                let (endpoint, _) = core.listener(id).expect("it is asked for");
                let endpoint = endpoint.clone();
                core.handle_listening(id, endpoint);
            }
        }
        for (proxy, sides) in core.proxies().zip(&config.proxies) {
            for side in sides.sockets() {
                let socket = core.socket(proxy, side).expect("it is configured");
                for listener in core.listeners(socket) {
                    let (endpoint, _) = core.listener(listener).expect("it is listed");
                    let key = endpoint.to_string();
                    self.listeners.insert(key, (index, listener));
                }
            }
        }
        self.nodes.push(Node {
            name,
            by_id: BTreeMap::new(),
            core,
            scratch: vec![0; 64 << 10],
        });
    }

    /// Connects a peer; it claims to be a broker if `loop_check` is set.
    pub(crate) fn connect(
        &mut self,
        socket_type: SocketType,
        endpoint: &str,
        loop_check: LoopCheck,
    ) -> usize {
        let index = self.peers.len();
        let plug = self.plug_in(endpoint, Owner::Peer(index)).expect(endpoint);
        let config = SessionConfig {
            loop_check,
            ..SessionConfig::new(socket_type)
        };
        let mut out = Vec::new();
        let session = Session::new(Arc::new(config), self.now, &mut out);
        self.peers.push(Wire {
            heard: Vec::new(),
            input: Vec::new(),
            is_closed: false,
            is_deaf: false,
            is_ready: false,
            messages: Vec::new(),
            out,
            plug,
            session,
        });
        index
    }

    /// Cuts every cable to this endpoint, and refuses connections to it.
    pub(crate) fn bar(&mut self, endpoint: &str) {
        self.barred.insert(endpoint.to_owned());
        for index in 0..self.cables.len() {
            if self.cables[index].endpoint == endpoint {
                self.pull(index);
            }
        }
    }

    /// A view of a socket of a broker's first proxy.
    pub(crate) fn socket(&self, name: usize, side: SocketName) -> SocketView {
        let mut nodes = self.nodes.iter();
        let node = nodes
            .find(|node| node.name == name)
            .expect("it was started");
        let mut sockets = node.core.statistics().into_iter();
        sockets
            .find(|socket| socket.socket == side)
            .expect("each proxy has both")
    }

    /// The kernel accepts bytes for all peers again.
    pub(crate) fn hear_all(&mut self) {
        for node in &mut self.nodes {
            for id in node.by_id.keys() {
                node.core.handle_writable(*id);
            }
        }
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound)
    }

    /// The number of connections of all brokers that ended because of a loop.
    pub(crate) fn loops(&self) -> u64 {
        let nodes = self.nodes.iter();
        let all = nodes.flat_map(|node| node.core.statistics());
        all.map(|socket| socket.counters.closed_for("loop")).sum()
    }

    /// The number of messages that all brokers have received.
    pub(crate) fn messages(&self) -> u64 {
        let nodes = self.nodes.iter();
        let all = nodes.flat_map(|node| node.core.statistics());
        all.map(|socket| socket.counters.messages_in).sum()
    }

    /// Runs for this time.
    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            if self.turn() {
                self.now += TURN;
                continue;
            }
            let deadlines = self
                .nodes
                .iter()
                .filter_map(|node| node.core.poll_timeout());
            let next = deadlines.min().unwrap_or(until).min(until);
            self.now = next.max(self.now + TURN);
        }
    }

    /// One turn of all brokers and peers; false if nothing happened.
    fn turn(&mut self) -> bool {
        let mut has_moved = false;
        for index in 0..self.nodes.len() {
            self.nodes[index].core.begin_turn(self.now);
            self.nodes[index].core.handle_timeout(self.now, self.now);
            has_moved |= self.finish_turn(index);
        }
        for index in 0..self.peers.len() {
            let Wire { out, plug, .. } = &mut self.peers[index];
            self.cables[plug.cable].ways[1 - plug.end].append(out);
        }
        for cable in 0..self.cables.len() {
            for end in [0, 1] {
                has_moved |= self.deliver(Plug { cable, end });
            }
        }
        has_moved
    }

    /// Delivers a part of the bytes in transit.
    fn deliver(&mut self, plug: Plug) -> bool {
        let Cable { owners, ways, .. } = &mut self.cables[plug.cable];
        let (owner, way) = (owners[plug.end], &mut ways[plug.end]);
        if way.is_empty() || owner == Owner::Gone {
            return false;
        }
        let size = match self.random.below(4) {
            // Not yet.
            0 => return true,
            1 => 1 + self.random.below(way.len()),
            _ => way.len(),
        };
        match owner {
            Owner::Node(node, id) => self.feed(plug, node, id, size),
            Owner::Peer(peer) if self.peers[peer].is_deaf => return false,
            Owner::Peer(peer) => {
                let bytes: Vec<u8> = way.drain(..size).collect();
                self.peers[peer].hear(&bytes);
            }
            Owner::Gone => {}
        }
        true
    }

    fn feed(&mut self, plug: Plug, index: usize, id: ConnId, size: usize) {
        let node = &mut self.nodes[index];
        if !node.core.wants_input(id) {
            return;
        }
        let mut input = node.core.begin_input(id, &mut node.scratch);
        let size = size.min(input.spare().len());
        let bytes: Vec<u8> = self.cables[plug.cable].ways[plug.end]
            .drain(..size)
            .collect();
        input.spare()[..size].copy_from_slice(&bytes);
        input.filled(size);
        loop {
            let flow = self.nodes[index]
                .core
                .handle_input(self.now, id, &mut input);
            while let Some(target) = self.nodes[index].core.poll_urgent() {
                self.write(index, target, input.buffer());
                self.nodes[index].core.keep_rest(target, &input);
            }
            match flow {
                Flow::Flush => {}
                Flow::More => self.nodes[index].core.begin_turn(self.now),
                _ => break,
            }
        }
        let node = &mut self.nodes[index];
        node.core.end_input(id, input, &mut node.scratch);
        self.finish_turn(index);
    }

    fn write(&mut self, index: usize, id: ConnId, input: &[u8]) -> bool {
        let node = &mut self.nodes[index];
        let Some(plug) = node.by_id.get(&id).copied() else {
            return false;
        };
        let far = self.cables[plug.cable].owners[1 - plug.end];
        let is_deaf = matches!(far, Owner::Peer(peer) if self.peers[peer].is_deaf);
        if is_deaf {
            node.core.handle_written(id, 0, true);
            return false;
        }
        let mut has_written = false;
        while let Some(egress) = node
            .core
            .egress_to_write(id, input)
            .filter(|egress| !egress.is_empty())
        {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            let bytes: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            self.cables[plug.cable].ways[1 - plug.end].extend(&bytes);
            node.core.handle_written(id, bytes.len(), false);
            has_written = true;
        }
        has_written
    }

    fn finish_turn(&mut self, index: usize) -> bool {
        let mut has_acted = false;
        self.nodes[index].core.begin_turn(self.now);
        loop {
            while let Some(action) = self.nodes[index].core.poll_action() {
                has_acted = true;
                match action {
                    Action::Connect(link) => self.dial(index, link),
                    Action::Close { id, .. } => {
                        self.write(index, id, &[]);
                        self.close(index, id);
                    }
                    _ => {}
                }
            }
            while let Some(id) = self.nodes[index].core.poll_dirty() {
                has_acted |= self.write(index, id, &[]);
            }
            if !self.nodes[index].core.run_deferred(self.now) {
                return has_acted;
            }
        }
    }

    fn dial(&mut self, index: usize, link: LinkId) {
        let Some((endpoint, _)) = self.nodes[index].core.link(link) else {
            return;
        };
        let endpoint = endpoint.to_string();
        let Some(plug) = self.plug_in(&endpoint, Owner::Gone) else {
            let error = ErrorKind::ConnectionRefused.into();
            let core = &mut self.nodes[index].core;
            core.handle_connect_failed(self.now, link, &error);
            return;
        };
        let node = &mut self.nodes[index];
        let id = node
            .core
            .handle_connected(self.now, link, address(plug.cable))
            .expect("the link is wanted");
        node.by_id.insert(id, plug);
        self.cables[plug.cable].owners[plug.end] = Owner::Node(index, id);
    }

    /// A cable to the listener of an endpoint.
    fn plug_in(&mut self, endpoint: &str, near: Owner) -> Option<Plug> {
        let (far, listener) = *self.listeners.get(endpoint)?;
        if self.barred.contains(endpoint) {
            return None;
        }
        let cable = self.cables.len();
        let node = &mut self.nodes[far];
        let peer = address(cable);
        let id = node.core.handle_accepted(self.now, listener, peer)?;
        node.by_id.insert(id, Plug { cable, end: 1 });
        self.cables.push(Cable {
            endpoint: endpoint.to_owned(),
            is_closed: false,
            owners: [near, Owner::Node(far, id)],
            ways: [Vec::new(), Vec::new()],
        });
        Some(Plug { cable, end: 0 })
    }

    /// A broker closes a connection. Bytes that it has written still arrive.
    fn close(&mut self, index: usize, id: ConnId) {
        if let Some(plug) = self.nodes[index].by_id.remove(&id) {
            self.cables[plug.cable].owners[plug.end] = Owner::Gone;
            self.cables[plug.cable].ways[plug.end].clear();
            let far = Plug {
                end: 1 - plug.end,
                ..plug
            };
            while !self.cables[far.cable].ways[far.end].is_empty() && self.deliver(far) {}
            self.pull(plug.cable);
        }
        self.nodes[index].core.handle_closed(self.now, id);
    }

    fn pull(&mut self, cable: usize) {
        if std::mem::replace(&mut self.cables[cable].is_closed, true) {
            return;
        }
        for owner in self.cables[cable].owners {
            match owner {
                Owner::Node(node, id) => self.nodes[node].core.handle_read_closed(id, None),
                Owner::Gone => {}
                Owner::Peer(peer) => self.peers[peer].is_closed = true,
            }
        }
    }
}

impl Wire {
    fn hear(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        loop {
            let step = self.session.handle_input(&mut self.input, &mut self.out);
            let step = step.expect("brokers speak ZMTP");
            let mut consumed = step.consumed;
            match step.event {
                Event::Need(_) => {
                    self.input.truncate(self.input.len() - step.removed);
                    return;
                }
                Event::LoopCheck(said) => self.heard.push(said),
                Event::Message(span) => {
                    self.messages
                        .push(self.input[consumed..][..span.size].to_vec());
                    self.session.accept();
                    consumed += span.size;
                }
                Event::Ready(_) => self.is_ready = true,
                Event::Authenticate(_) | Event::Undecided => unreachable!("it is not asked for"),
                Event::Progress | Event::Subscription { .. } | Event::Trial(_) => {}
            }
            self.input.drain(..consumed);
        }
    }

    /// The numbers at the end of the messages.
    pub(crate) fn numbers(&self) -> Vec<u16> {
        let number = |message: &Vec<u8>| message.last_chunk().copied().map(u16::from_be_bytes);
        self.messages.iter().filter_map(number).collect()
    }

    pub(crate) fn say(&mut self, command: LoopCommand) {
        command.append(&mut self.out);
    }

    pub(crate) fn send(&mut self, frames: &[&[u8]]) {
        append_message(&mut self.out, frames);
    }

    pub(crate) fn subscribe(&mut self, topic: &[u8]) {
        Peer::append_subscription(zmtp::Version::V3_1, topic, true, &mut self.out);
    }
}

fn address(cable: usize) -> SocketAddr {
    let port = u16::try_from(cable % 60_000).expect("a port");
    (Ipv4Addr::LOCALHOST, port).into()
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is below a usize")
    }
}
