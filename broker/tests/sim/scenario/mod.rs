//! The elements of a run, all drawn from the seed.

mod cast;
mod options;
mod roles;

use crate::context::{Context, Listener, Owner, SocketKey};
use crate::curve;
use crate::message::{Profile, Style};
use crate::node::Repertoire;
use crate::plain;
use crate::random::Random;
use crate::world::{World, script};
use broker::config::endpoint::Host;
use broker::config::{
    Admission, Attach, CacheConfig, CaptureFormat, Client, ClientKeys, Config, Endpoint, Fault,
    Kind, OptionError, ProxyConfig, Reject, SocketConfig, SocketName, SocketOption, SocketOptions,
};
use options::Dice;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use zmtp::{MechanismConfig, SocketType};

/// The arrangement of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Queue,
    Forwarder,
    Streamer,
    /// Every kind of proxy in one broker.
    All,
    /// Several proxies in one broker, most of them of one kind.
    Several,
    /// A REP in front, which takes one request at a time.
    Lockstep,
    /// Two brokers, the second one behind the first.
    Chain,
    /// Few workers or sinks, slow and short-lived; senders send when one of them returns.
    Handover,
    /// Proxies that connect to their peers.
    Reversed,
}

impl Plan {
    pub(crate) const ALL: [Self; 9] = [
        Self::Queue,
        Self::Forwarder,
        Self::Streamer,
        Self::All,
        Self::Several,
        Self::Lockstep,
        Self::Chain,
        Self::Handover,
        Self::Reversed,
    ];
}

/// The kinds that have a name.
const KINDS: [&str; 3] = ["queue", "forwarder", "streamer"];

/// Draws a run.
pub(crate) fn draw(seed: u64, is_loud: bool) -> World {
    let mut random = Random::new(seed);
    let plan = random.pick(&Plan::ALL);
    let style = Style {
        deletes: random.chance(40),
        profile: random.pick(&[Profile::Tiny, Profile::Tiny, Profile::Mixed, Profile::Large]),
        salt: random.next(),
    };
    let script = script(&mut random);
    let mut ctx = Context::new(&mut random, style, is_loud);
    ctx.has_beats = script.beats;
    ctx.is_even = plan == Plan::Handover;
    ctx.may_overtake = plan == Plan::Chain && script.fault_gap.is_some();
    ctx.is_fair = script.beats && script.fault_gap.is_none() && random.chance(50);
    if is_loud {
        eprintln!("{plan:?} {style:?} {script:?}");
    }
    let mut scene = Scene {
        group: 0,
        is_odd: random.chance(60),
        plan,
        port: 5000,
        random,
        world: World::new(ctx, script),
    };
    scene.build();
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

/// The numbers of the keys that peers have.
pub(crate) const KEYS: RangeInclusive<u8> = 2..=4;

/// The number of the key of peers that lists do not let in from where they are.
const STRANGER: u8 = 5;

struct Scene {
    /// Counts groups of proxies; messages must not cross from one group to another.
    group: usize,
    /// Whether options that are seldom configured are drawn too.
    is_odd: bool,
    plan: Plan,
    port: u16,
    random: Random,
    world: World,
}

impl Scene {
    fn build(&mut self) {
        let kind = self.random.pick(&KINDS);
        match self.plan {
            Plan::Queue => self.broker(&["queue"], 0),
            Plan::Forwarder => self.broker(&["forwarder"], 0),
            Plan::Streamer => self.broker(&["streamer"], 0),
            Plan::All => self.broker(&KINDS, 0),
            Plan::Several => {
                let count = 2 + self.random.below(2);
                let mut kinds = vec![kind; count];
                kinds.extend(self.random.chance(30).then(|| self.random.pick(&KINDS)));
                self.broker(&kinds, 10);
            }
            Plan::Lockstep => self.broker(&["REP:DEALER"], 0),
            Plan::Chain => self.chain(kind),
            Plan::Handover => {
                let kind = self.random.pick(&["queue", "streamer"]);
                self.broker(&[kind], 0);
            }
            Plan::Reversed => self.broker(&[kind], 60),
        }
    }

    /// One broker with proxies of these kinds; `connects` is the percentage of sides that connect.
    fn broker(&mut self, kinds: &[&str], connects: u64) {
        let mut config = self.config();
        for (index, kind) in kinds.iter().enumerate() {
            self.group = index;
            let mut proxy = self.proxy(&format!("{index}-{kind}"), kind);
            if self.plan == Plan::Handover {
                // Messages are left when one of them leaves.
                let options = &mut proxy.backend.options;
                options.sndhwm = options.sndhwm.max(10);
                options.sndhwm_bytes = options.sndhwm_bytes.max(1 << 20);
            }
            for side in SocketName::SIDES {
                if self.random.chance(25) {
                    self.secure(proxy.socket_mut(side));
                }
                let is_connecting = self.random.chance(connects);
                let (attach, count) = if is_connecting {
                    (Attach::Connect, 1 + self.random.below(4))
                } else {
                    (Attach::Bind, 1)
                };
                for _ in 0..count {
                    let port = self.next_port();
                    proxy.socket_mut(side).attach(attach, endpoint(port));
                }
            }
            // Copies lack the envelope that a REP removes.
            if self.plan != Plan::Lockstep {
                self.watch(&mut proxy);
            }
            if !matches!(self.plan, Plan::Lockstep | Plan::Handover) && self.random.chance(30) {
                self.guard(&mut proxy);
            }
            self.keep(&mut proxy, config.memory_limit);
            config.proxies.push(proxy);
        }
        let mut repertoire = self.repertoire(&mut config);
        if !matches!(self.plan, Plan::Lockstep | Plan::Handover) {
            self.roles(&mut config, &mut repertoire);
        }
        // A quarter of the memory is for connections. With less, sinks of many proxies could not
        // come in, and senders would wait for them without an end.
        if config.memory_limit > 0 && config.proxies.len() + repertoire.late.len() > 2 {
            config.memory_limit = config.memory_limit.max(400_000);
        }
        self.world.add_node(config.clone(), repertoire.clone());
        for (key, attach, endpoint) in &repertoire.endpoints {
            let mut proxy = config.proxies[key.proxy as usize].clone();
            let socket = proxy.socket_mut(key.side);
            (socket.bind, socket.connect) = (Vec::new(), Vec::new());
            socket.attach(*attach, endpoint.clone());
            self.peers_of(&proxy, key.side);
        }
        for proxy in config.proxies.iter().chain(&repertoire.late) {
            for side in SocketName::SIDES {
                self.peers_of(proxy, side);
            }
            self.watchers_of(proxy);
            self.askers_of(proxy);
            self.handlers_of(proxy);
        }
        self.liars(&config);
        self.forgers(&config);
    }

    /// What may change in a broker while it runs.
    fn repertoire(&mut self, config: &mut Config) -> Repertoire {
        let steers = self.random.chance(20);
        let is_excused = matches!(self.plan, Plan::Lockstep | Plan::Handover);
        // A proxy that comes again would need its handler again.
        let has_handlers = config.proxies.iter().any(|it| it.zap.has_endpoint());
        if is_excused || has_handlers || self.random.chance(50) {
            return Repertoire {
                steers,
                ..Repertoire::default()
            };
        }
        config.proxies.iter_mut().for_each(legalize);
        let mut repertoire = Repertoire {
            is_any: true,
            steers,
            ..Repertoire::default()
        };
        for proxy in 0..u32::try_from(config.proxies.len()).expect("few proxies") {
            self.group = proxy as usize;
            for side in SocketName::SIDES {
                if self.random.chance(40) {
                    let port = self.next_port();
                    let attach = self.random.pick(&[Attach::Bind, Attach::Connect]);
                    let key = SocketKey { proxy, side };
                    repertoire.endpoints.push((key, attach, endpoint(port)));
                    self.expect_later(port, attach);
                }
            }
        }
        for index in 0..self.random.below(3) {
            self.group = config.proxies.len() + index;
            let kind = self.random.pick(&KINDS);
            let mut proxy = self.proxy(&format!("late-{index}"), kind);
            for side in SocketName::SIDES {
                let port = self.next_port();
                proxy.socket_mut(side).attach(Attach::Bind, endpoint(port));
                self.expect_later(port, Attach::Bind);
            }
            self.watch(&mut proxy);
            legalize(&mut proxy);
            for side in [SocketName::Capture, SocketName::Control] {
                for bound in &proxy.socket(side).bind {
                    self.expect_later(port(bound), Attach::Bind);
                }
            }
            repertoire.late.push(proxy);
        }
        repertoire
    }

    /// The broker may listen on a port, but does not yet.
    fn expect_later(&mut self, port: u16, attach: Attach) {
        if attach == Attach::Bind {
            let listener = Listener {
                is_up: false,
                owner: Owner::Node(self.world.nodes.len()),
                socket: None,
            };
            self.world.ctx.ports.insert(port, listener);
        }
    }

    /// Two proxies of a kind in a row.
    fn chain(&mut self, kind: &str) {
        let (mut first, mut second) = (self.proxy("first", kind), self.proxy("second", kind));
        // A broker wants the topics of all its subscribers, and would otherwise be closed again and
        // again.
        first.backend.options.subscriptions_max = 1_000_000;
        // It returns under its identity before its former end is noticed.
        second.frontend.options.router_handover = true;
        first.frontend.options.router_handover = true;
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
            self.world.add_node(config, Repertoire::default());
        }
        self.peers_of(&first, SocketName::Frontend);
        self.peers_of(&second, SocketName::Backend);
        for proxy in [&first, &second] {
            self.watchers_of(proxy);
        }
    }

    /// Gives some proxies a capture, and some a control.
    fn watch(&mut self, proxy: &mut ProxyConfig) {
        if self.random.chance(40) {
            let prefixes = [
                ("in", "out"),
                ("in", "out"),
                ("", ""),
                ("", "b"),
                ("x", "x"),
            ];
            let (in_prefix, out_prefix) = self.random.pick(&prefixes);
            let port = self.next_port();
            let types = [SocketType::Pub, SocketType::Pub, SocketType::Pub];
            let others = [SocketType::Push, SocketType::Dealer];
            let socket = self.random.pick(&[&types[..], &others].concat());
            let options = self.options(SocketName::Capture, socket);
            let capture = &mut proxy.capture;
            (capture.in_prefix, capture.out_prefix) = (in_prefix.into(), out_prefix.into());
            capture.format = self.random.pick(&CaptureFormat::ALL);
            capture.socket_type = socket;
            capture.socket.options = options;
            capture.socket.attach(Attach::Bind, endpoint(port));
        }
        if self.random.chance(30) {
            let port = self.next_port();
            let types = [SocketType::Rep, SocketType::Rep, SocketType::Pair];
            let socket = self.random.pick(&types);
            let options = self.options(SocketName::Control, socket);
            let control = &mut proxy.control;
            control.socket_type = socket;
            control.socket.options = options;
            control.socket.attach(Attach::Bind, endpoint(port));
        }
    }

    /// Lets some forwarders keep messages.
    fn keep(&mut self, proxy: &mut ProxyConfig, memory_limit: u64) {
        if proxy.publishers().is_none() {
            return;
        }
        if self.random.chance(40) && !proxy.backend.options.invert_matching {
            proxy.cache = Some(draw_cache(&mut self.random, memory_limit));
        }
        if self.random.chance(30) {
            let port = self.next_port();
            let replay = &mut proxy.replay;
            replay.messages_max = self.random.pick(&[1, 20, 100_000]);
            replay.bytes_max = kept_bytes(&mut self.random, memory_limit);
            // Each of two brokers would add a number.
            replay.sequence = self.plan != Plan::Chain && self.random.chance(50);
            replay.socket.options.sndhwm = self.random.pick(&[0, 1, 7, 1000]);
            replay.socket.attach(Attach::Bind, endpoint(port));
            if !self.world.script.beats {
                replay.socket.options.heartbeat_ivl = Duration::ZERO;
            }
        }
    }

    fn config(&mut self) -> Config {
        Config {
            drain_timeout: Duration::from_millis(self.random.pick(&[0, 100, 2000, 10_000])),
            // A request that is shed is never answered, and a REP waits until its sender has left.
            memory_limit: match self.random.below(3) {
                _ if self.plan == Plan::Lockstep => 0,
                // If waiting messages fill the memory, workers that could take them cannot connect.
                0 if self.world.ctx.style.profile != Profile::Tiny => {
                    self.random.pick(&[1 << 20, 2 << 20])
                }
                0 => self.random.pick(&[150_000, 300_000, 1 << 20]),
                _ => 0,
            },
            ..Config::default()
        }
    }

    /// Draws a mechanism for a socket, and which of its peers may come in.
    fn secure(&mut self, socket: &mut SocketConfig) {
        // A peer of ZMTP 2.0 cannot authenticate.
        socket.options.accept_zmtp2 = false;
        // Ports are drawn; so is this, without another number of the seed.
        socket.options.reject = match self.port % 2 {
            0 => Reject::Close,
            _ => Reject::Error,
        };
        socket.admission = Admission::Program;
        if self.random.chance(20) {
            socket.mechanism = MechanismConfig::PlainServer;
            if self.random.chance(70) {
                socket.admission = Admission::Users(plain::users());
            }
        } else if self.random.chance(70) {
            socket.mechanism = curve::server(curve::SERVER_KEYS[0]);
            socket.admission = match self.random.below(3) {
                0 => Admission::Any,
                1 => Admission::Keys(Arc::new(client_keys(None))),
                _ => Admission::Program,
            };
        }
    }

    /// Lets a ZAP handler decide about the peers of a proxy.
    fn guard(&mut self, proxy: &mut ProxyConfig) {
        for side in SocketName::SIDES {
            // Messages would wait for workers and sinks that stay out.
            let is_needed = matches!(
                proxy.socket_type(side),
                SocketType::Dealer | SocketType::Push
            );
            let socket = proxy.socket_mut(side);
            if is_needed || socket.bind.is_empty() {
                continue;
            }
            if matches!(socket.admission, Admission::Program | Admission::Users(_)) {
                socket.admission = Admission::Any;
            }
            let options = &mut socket.options;
            options.accept_zmtp2 = false;
            options.zap_domain = "lobby".to_owned();
            options.zap_timeout = Duration::from_millis(self.random.pick(&[50, 500, 2000]));
            if !proxy.zap.has_endpoint() {
                let port = self.next_port();
                let options = &mut proxy.zap.options;
                options.reconnect_ivl = Duration::from_millis(10);
                if !self.world.script.beats {
                    options.heartbeat_ivl = Duration::ZERO;
                }
                proxy.zap.attach(Attach::Connect, endpoint(port));
            }
        }
    }

    fn next_port(&mut self) -> u16 {
        self.port += 1;
        self.world.ctx.groups.insert(self.port, self.group);
        self.port
    }

    /// A proxy of the kind with this name, or between these sockets.
    fn proxy(&mut self, name: &str, kind: &str) -> ProxyConfig {
        let pair = || kind.parse().expect("two sockets that make a proxy");
        let kind = Kind::from_name(kind).unwrap_or_else(pair);
        let mut proxy = ProxyConfig::new(kind, name);
        for side in SocketName::SIDES {
            proxy.socket_mut(side).options = self.options(side, proxy.socket_type(side));
        }
        proxy
    }

    fn options(&mut self, side: SocketName, socket_type: SocketType) -> SocketOptions {
        let is_odd = self.is_odd && self.random.chance(60);
        let mut dice = Dice {
            has_beats: self.world.script.beats,
            is_chained: self.plan == Plan::Chain,
            is_fair: self.world.ctx.is_fair,
            is_odd,
            random: &mut self.random,
            side,
            socket_type,
        };
        dice.options()
    }
}

/// The keys of all peers that have one. That of a stranger is for another network, and another may
/// have a role.
pub(crate) fn client_keys(role: Option<&str>) -> ClientKeys {
    let mut keys = ClientKeys::default();
    for number in KEYS.chain([STRANGER]) {
        let networks: &[&str] = match number {
            STRANGER => &["10.0.0.0/8", "fd00::/8"],
            3 => &["10.0.0.0/8", "127.0.0.0/8"],
            _ => &[],
        };
        let networks = networks.iter().map(|text| text.parse().expect(text));
        let client = Client {
            from: networks.collect(),
            role: role.filter(|_| number == 4).map(Into::into),
            user: format!("client-{number}").into(),
        };
        keys.insert(&curve::public_key(number), client);
    }
    keys
}

/// Draws which last values a forwarder keeps.
pub(crate) fn draw_cache(random: &mut Random, memory_limit: u64) -> CacheConfig {
    let topics = random.pick(&[&[""][..], &[""], &["a"], &["a", "bb"]]);
    CacheConfig {
        age_max: random
            .pick(&[None, None, Some(200), Some(5000)])
            .map(Duration::from_millis),
        bytes_max: kept_bytes(random, memory_limit),
        empty_deletes: random.chance(50),
        // The simulated broker has no program beside it.
        path: None,
        topics: topics.iter().map(ToString::to_string).collect(),
    }
}

/// Draws the memory for messages that are kept.
fn kept_bytes(random: &mut Random, memory_limit: u64) -> u64 {
    let bytes = random.pick(&[1000, 20_000, 16 << 20, 16 << 20]);
    match memory_limit {
        0 => bytes,
        limit => bytes.min(limit / 16),
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

/// Takes back what the broker copes with, but a configuration must not have.
fn legalize(proxy: &mut ProxyConfig) {
    let mut config = Config {
        proxies: vec![proxy.clone()],
        ..Config::default()
    };
    while let Err(problem) = config.check() {
        let proxy = &mut config.proxies[0];
        match &problem.fault {
            Fault::Options(OptionError::Idle { name, side, .. }) => {
                let option = SocketOption::find(name).expect("an option of the table");
                let options = &mut proxy.socket_mut(*side).options;
                let set = option.set(options, option.default_value());
                set.expect("a default is legal");
            }
            Fault::Prefix => {
                let capture = &mut proxy.capture;
                (capture.in_prefix, capture.out_prefix) = ("in".into(), "out".into());
            }
            fault => panic!("{fault}"),
        }
    }
    *proxy = config.proxies.remove(0);
}
