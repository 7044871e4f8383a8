//! What a run consists of: everything is drawn from the seed.

use crate::context::{Context, Listener, MILLISECOND, Nanos, Owner, SECOND};
use crate::message::{Profile, Style};
use crate::peers::beside::{Reader, Steerer};
use crate::peers::liar::Liar;
use crate::peers::request::{Client, Worker};
use crate::peers::spread::{Publisher, Sink, Source, Subscriber};
use crate::peers::{Peer, Role, Spec};
use crate::random::Random;
use crate::world::{World, script};
use broker::config::endpoint::Host;
use broker::config::{
    Attach, Balance, CaptureFormat, Config, Endpoint, Kind, ProxyConfig, Side, SideConfig,
    SocketOptions,
};
use std::net::Ipv4Addr;
use std::time::Duration;
use zmtp::{HeartbeatConfig, SocketType};

/// What sort of arrangement a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Queue,
    Forwarder,
    Streamer,
    /// Every kind of proxy in one broker.
    All,
    /// Two brokers, the second one behind the first.
    Chain,
    /// Few workers or sinks, slow and short-lived; who sends does so when one of them comes back.
    Handover,
    /// Proxies that connect to their peers.
    Reversed,
}

impl Plan {
    pub(crate) const ALL: [Self; 7] = [
        Self::Queue,
        Self::Forwarder,
        Self::Streamer,
        Self::All,
        Self::Chain,
        Self::Handover,
        Self::Reversed,
    ];
}

/// Draws a run.
pub(crate) fn draw(seed: u64, is_loud: bool) -> World {
    let mut random = Random::new(seed);
    let plan = random.pick(&Plan::ALL);
    let style = Style {
        profile: random.pick(&[Profile::Tiny, Profile::Tiny, Profile::Mixed, Profile::Large]),
        salt: random.next(),
    };
    let own = Random::new(seed ^ 0x5eed_0f09_7104_5000);
    let script = script(&mut random);
    let mut ctx = Context::new(&mut random, style, is_loud);
    ctx.has_beats = script.beats;
    ctx.is_even = plan == Plan::Handover;
    ctx.is_fair = script.beats && script.fault_gap.is_none() && random.chance(50);
    if is_loud {
        eprintln!("{plan:?} {style:?} {script:?}");
    }
    let mut scene = Scene {
        own,
        plan,
        port: 5000,
        random,
        world: World::new(ctx, script),
    };
    match plan {
        Plan::Queue => scene.broker(&["queue"], 0),
        Plan::Forwarder => scene.broker(&["forwarder"], 0),
        Plan::Streamer => scene.broker(&["streamer"], 0),
        Plan::All => scene.broker(&["queue", "forwarder", "streamer"], 0),
        Plan::Chain => {
            let name = scene.random.pick(&["queue", "forwarder", "streamer"]);
            scene.chain(name);
        }
        Plan::Handover => {
            let name = scene.random.pick(&["queue", "streamer"]);
            scene.broker(&[name], 0);
        }
        Plan::Reversed => {
            let name = scene.random.pick(&["queue", "forwarder", "streamer"]);
            scene.broker(&[name], 60);
        }
    }
    if is_loud {
        for node in &scene.world.nodes {
            eprintln!("{:?}", node.config);
        }
        for (index, peer) in scene.world.peers.iter().enumerate() {
            eprintln!("peer {index}: {:?} {:?}", peer.role, peer.spec);
        }
    }
    scene.world
}

struct Scene {
    /// Draws beside `random`, so that what they decide does not change all that follows.
    own: Random,
    plan: Plan,
    port: u16,
    random: Random,
    world: World,
}

impl Scene {
    /// One broker with these proxies; in so many of a hundred cases a side connects.
    fn broker(&mut self, names: &[&str], connects: u64) {
        let mut config = self.config();
        for name in names {
            let mut proxy = self.proxy(name);
            if *name == "queue" {
                let ways = [Balance::RoundRobin, Balance::LeastQueued, Balance::Ready];
                proxy.backend.options.balance = self.random.pick(&ways);
                proxy.backend.options.immediate |= proxy.backend.options.balance == Balance::Ready;
            }
            if self.plan == Plan::Handover {
                // Something is left when one of them goes.
                let options = &mut proxy.backend.options;
                options.sndhwm = options.sndhwm.max(10);
                options.sndhwm_bytes = options.sndhwm_bytes.max(1 << 20);
            }
            for side in Side::BOTH {
                let is_connecting = self.random.chance(connects);
                let count = if is_connecting {
                    1 + self.random.below(4)
                } else {
                    1
                };
                for _ in 0..count {
                    let port = self.next_port();
                    let attach = if is_connecting {
                        Attach::Connect
                    } else {
                        Attach::Bind
                    };
                    proxy.side_mut(side).attach(attach, endpoint(port));
                }
            }
            self.watch(&mut proxy);
            config.proxies.push(proxy);
        }
        self.world.add_node(config.clone());
        for proxy in &config.proxies {
            for side in Side::BOTH {
                self.peers_of(proxy, side);
            }
            self.watchers_of(proxy);
        }
        self.liars(&config);
    }

    /// Two proxies of a kind, one behind the other.
    fn chain(&mut self, name: &str) {
        let (mut first, mut second) = (self.proxy(name), self.proxy(name));
        // A broker wants all that its own subscribers want, and would come back for ever.
        first.backend.options.subscriptions_max = 1_000_000;
        let (front, middle, back) = (self.next_port(), self.next_port(), self.next_port());
        first.frontend.attach(Attach::Bind, endpoint(front));
        second.backend.attach(Attach::Bind, endpoint(back));
        if self.random.chance(50) {
            first.backend.attach(Attach::Connect, endpoint(middle));
            second.frontend.attach(Attach::Bind, endpoint(middle));
        } else {
            first.backend.attach(Attach::Bind, endpoint(middle));
            second.frontend.attach(Attach::Connect, endpoint(middle));
        }
        for proxy in [&mut first, &mut second] {
            let mut config = self.config();
            self.watch(proxy);
            config.proxies.push(proxy.clone());
            self.world.add_node(config);
        }
        self.peers_of(&first, Side::Frontend);
        self.peers_of(&second, Side::Backend);
        for proxy in [&first, &second] {
            self.watchers_of(proxy);
        }
    }

    /// Gives some proxies a capture, and some a control.
    fn watch(&mut self, proxy: &mut ProxyConfig) {
        if self.own.chance(40) {
            let prefixes = [
                ("in", "out"),
                ("in", "out"),
                ("", ""),
                ("", "b"),
                ("x", "x"),
            ];
            let (in_prefix, out_prefix) = self.own.pick(&prefixes);
            let port = self.next_port();
            let options = self.options();
            let capture = &mut proxy.capture;
            (capture.in_prefix, capture.out_prefix) = (in_prefix.into(), out_prefix.into());
            capture.format = self.own.pick(&CaptureFormat::ALL);
            let types = [SocketType::Pub, SocketType::Pub, SocketType::Pub];
            let others = [SocketType::Push, SocketType::Dealer];
            capture.socket = self.own.pick(&[&types[..], &others].concat());
            capture.side.options = options;
            capture.side.attach(Attach::Bind, endpoint(port));
        }
        if self.own.chance(30) {
            let (port, options) = (self.next_port(), self.options());
            let control = &mut proxy.control;
            control.socket = self
                .own
                .pick(&[SocketType::Rep, SocketType::Rep, SocketType::Pair]);
            control.side.options = options;
            control.side.attach(Attach::Bind, endpoint(port));
        }
    }

    /// Whoever reads the capture and is at the control.
    fn watchers_of(&mut self, proxy: &ProxyConfig) {
        if let Some(endpoint) = proxy.capture.side.bind.first() {
            for _ in 0..1 + self.own.below(5) {
                let spec = self.spec(proxy.capture.socket, port(endpoint), false);
                let topics = self.wanted_copies(proxy, spec.socket_type);
                self.add_peer(spec, Role::Reader(Reader::new(topics)));
            }
        }
        if let Some(endpoint) = proxy.control.side.bind.first() {
            let is_pair = proxy.control.socket == SocketType::Pair;
            let count = if is_pair { 1 } else { 1 + self.own.below(3) };
            for _ in 0..count {
                let mut spec = self.spec(proxy.control.socket, port(endpoint), false);
                spec.quota = spec.quota.min(60);
                let (pauses, window) = (self.own.chance(50), self.own.pick(&[1, 1, 5]));
                let steerer = Steerer::new(spec.socket_type, pauses, window);
                self.add_peer(spec, Role::Steerer(steerer));
            }
        }
    }

    /// What a reader subscribes to: everything, a direction, what few messages begin with, nothing.
    fn wanted_copies(&mut self, proxy: &ProxyConfig, socket_type: SocketType) -> Vec<Vec<u8>> {
        let choice = [
            &b""[..],
            b"",
            proxy.capture.in_prefix.as_bytes(),
            proxy.capture.out_prefix.as_bytes(),
            b"x",
            b"\0",
            b"a",
            b"nothing",
        ];
        if !matches!(socket_type, SocketType::Sub | SocketType::Xsub) {
            return Vec::new();
        }
        let count = self.own.below(3);
        let topics: Vec<&[u8]> = (0..=count).map(|_| self.own.pick(&choice)).collect();
        let mut topics: Vec<Vec<u8>> = topics.into_iter().map(<[u8]>::to_vec).collect();
        topics.sort();
        topics.dedup();
        topics
    }

    fn config(&mut self) -> Config {
        Config {
            drain_timeout: Duration::from_millis(self.random.pick(&[0, 100, 2000, 10_000])),
            memory_limit: match self.random.below(12) {
                0 => self.random.pick(&[300_000, 1 << 20, 4 << 20]),
                _ => 0,
            },
            proxies: Vec::new(),
        }
    }

    fn next_port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    fn proxy(&mut self, name: &str) -> ProxyConfig {
        ProxyConfig {
            backend: SideConfig {
                options: self.options(),
                ..SideConfig::default()
            },
            frontend: SideConfig {
                options: self.options(),
                ..SideConfig::default()
            },
            ..ProxyConfig::new(Kind::from_name(name).expect("a kind of proxy"), name)
        }
    }

    /// Limits are mostly small, so that they are met.
    fn options(&mut self) -> SocketOptions {
        let (has_beats, is_fair) = (self.world.script.beats, self.world.ctx.is_fair);
        let random = &mut self.random;
        // One that is held back before it has sent two PINGs relies on those of the broker.
        let beat = random.pick(&[if is_fair { 500 } else { 0 }, 500, 1000]);
        let reconnect = random.pick(&[1, 10, 100]);
        let lingers = [None, None, None, None, Some(0), Some(300)];
        SocketOptions {
            immediate: self.own.chance(70),
            linger: self.own.pick(&lingers).map(Duration::from_millis),
            rcvhwm: self.own.pick(&[1, 1, 1, 0, 2, 20]),
            rcvhwm_bytes: self.own.pick(&[1, 5000, 64 << 20]),
            handshake_ivl: Duration::from_millis(random.pick(&[0, 200, 1000, 30_000])),
            maxmsgframes: random.pick(&[12, 8192]),
            maxmsgsize: random.pick(&[700_000, 128 << 20]),
            reconnect_ivl: Duration::from_millis(reconnect),
            reconnect_ivl_max: Duration::from_millis(reconnect * random.pick(&[1, 3, 20])),
            sndhwm: random.pick(&[0, 1, 2, 3, 5, 10, 100, 1000]),
            sndhwm_bytes: random.pick(&[1, 100, 2000, 50_000, 1 << 20, 64 << 20]),
            subscriptions_max: random.pick(&[3, 1_000_000, 1_000_000, 1_000_000]),
            topic_size_max: random.pick(&[64, 4096]),
            heartbeat_ivl: Duration::from_millis(if has_beats { beat } else { 0 }),
            heartbeat_timeout: Duration::from_millis(random.pick(&[300, 3000])),
            heartbeat_ttl: Duration::from_millis(random.pick(&[0, 3000])),
            // Clients come again under their names while the broker has not seen their ends.
            router_handover: true,
            ..SocketOptions::DEFAULT
        }
    }

    /// Peers for all endpoints of one side.
    fn peers_of(&mut self, proxy: &ProxyConfig, side: Side) {
        let socket_type = proxy.socket_type(side);
        let config = proxy.side(side);
        for connect in &config.connect {
            self.peer(socket_type, port(&connect.endpoint), true);
        }
        for endpoint in &config.bind {
            let takes = matches!(socket_type, SocketType::Dealer | SocketType::Push);
            let most = if takes && self.plan == Plan::Handover {
                2
            } else {
                6
            };
            for _ in 0..1 + self.random.below(most) {
                self.peer(socket_type, port(endpoint), false);
            }
        }
    }

    /// Adds a peer for a broker's socket of this type.
    fn peer(&mut self, socket_type: SocketType, port: u16, is_listening: bool) {
        let mut spec = self.spec(socket_type, port, is_listening);
        let sends = matches!(socket_type, SocketType::Router | SocketType::Pull);
        if self.plan == Plan::Handover {
            spec.follows = sends;
            spec.stays = (!sends).then_some(SECOND / 10);
        }
        let random = &mut self.random;
        let role = match socket_type {
            SocketType::Router => {
                let (delimits, window) = (random.chance(50), 1 + random.below(20));
                Role::Client(Client::new(spec.socket_type, delimits, window))
            }
            SocketType::Dealer => {
                let effort = random.pick(&[0, MILLISECOND, 100 * MILLISECOND]);
                Role::Worker(Worker::new(effort, random.chance(20)))
            }
            SocketType::Xsub => Role::Publisher(Publisher::new(random.chance(70))),
            SocketType::Xpub => {
                let is_old_fashioned = random.chance(20);
                Role::Subscriber(Subscriber::new(random, is_old_fashioned))
            }
            SocketType::Pull => Role::Source(Source::default()),
            _ => Role::Sink(Sink::new(random.chance(15))),
        };
        self.add_peer(spec, role);
    }

    fn add_peer(&mut self, spec: Spec, role: Role) {
        let index = self.world.peers.len();
        if spec.is_listening {
            let listener = Listener {
                is_up: self.random.chance(80),
                owner: Owner::Peer(index),
                socket: None,
            };
            self.world.ctx.ports.insert(spec.port, listener);
        }
        let peer = Peer::new(&mut self.world.ctx, index, spec, role);
        self.world.peers.push(peer);
    }

    fn spec(&mut self, socket_type: SocketType, port: u16, is_listening: bool) -> Spec {
        let random = &mut self.random;
        let own_type = random.pick(socket_type.peers());
        let quota = match self.world.ctx.style.profile {
            Profile::Tiny => 10 + random.below(600),
            Profile::Mixed => 5 + random.below(120),
            Profile::Large => 3 + random.below(40),
        };
        // Two that a broker connects to under one name would take turns for ever.
        let identity = match random.below(10) {
            _ if is_listening => Vec::new(),
            0 => vec![b'x'],
            1 => vec![b'y'; 255],
            2 => (0..3).map(|_| random.next().to_le_bytes()[0]).collect(),
            _ => Vec::new(),
        };
        let beats = self.world.script.beats && random.chance(50);
        let minor = if random.chance(20) { 0 } else { 1 };
        // PING came with 3.1.
        let heartbeat = (beats && minor > 0).then(|| HeartbeatConfig {
            interval: Duration::from_millis(random.pick(&[500, 1000])),
            timeout: Duration::from_secs(3),
            ttl: Duration::from_secs(random.pick(&[0, 5])),
        });
        Spec {
            follows: false,
            gap: random.pick(&[0, 100_000, MILLISECOND, 20 * MILLISECOND]),
            heartbeat,
            identity,
            is_listening,
            minor,
            out_max: random.pick(&[1, 1000, 100_000]),
            pings: random.chance(30),
            port,
            quota: u32::try_from(quota).expect("small"),
            read: self.reading(),
            socket_type: own_type,
            stays: None,
        }
    }

    /// How a peer reads: everything at once, or little by little, or seldom.
    fn reading(&mut self) -> (usize, Nanos) {
        if self.world.ctx.is_fair {
            return (64 << 10, MILLISECOND);
        }
        self.random.pick(&[
            (64 << 10, 0),
            (64 << 10, MILLISECOND),
            (4 << 10, MILLISECOND),
            (1 << 10, 10 * MILLISECOND),
            (16 << 10, 200 * MILLISECOND),
            (64 << 10, 2 * SECOND),
            (300, 0),
        ])
    }

    fn liars(&mut self, config: &Config) {
        if self.world.ctx.is_fair || self.random.chance(60) {
            return;
        }
        for _ in 0..1 + self.random.below(4) {
            let proxy = &config.proxies[self.random.below(config.proxies.len())];
            let mut side = self.random.pick(&Side::BOTH);
            if proxy.capture.side.has_endpoint() && self.own.chance(20) {
                side = Side::Capture;
            }
            let Some(endpoint) = proxy.side(side).bind.first() else {
                continue;
            };
            let spec = self.spec(proxy.socket_type(side), port(endpoint), false);
            let liar = Liar::new(&mut self.random);
            self.add_peer(spec, Role::Liar(liar));
        }
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::Tcp {
        host: Host::Ip(Ipv4Addr::LOCALHOST.into()),
        port,
        source: None,
    }
}

fn port(endpoint: &Endpoint) -> u16 {
    match endpoint {
        Endpoint::Tcp { port, .. } => *port,
        _ => unreachable!("the simulated network has nothing else"),
    }
}
