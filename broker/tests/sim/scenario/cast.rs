//! The peers of a run.

use super::{KEYS, Plan, STRANGER, Scene, port};
use crate::context::{Listener, MILLISECOND, Nanos, Owner, SECOND};
use crate::curve::{self, SERVER_KEYS};
use crate::message::Profile;
use crate::model::Numbers;
use crate::peers::asker::Asker;
use crate::peers::handler::Handler;
use crate::peers::misbehaving::{Misbehaving, Misbehaviour};
use crate::peers::monitors::{Reader, Steerer};
use crate::peers::request::{Client, Worker};
use crate::peers::spread::{Publisher, Sink, Source, Subscriber};
use crate::peers::{Peer, Role, Spec};
use crate::plain;
use broker::config::{Config, ProxyConfig, SocketName};
use std::time::Duration;
use zmtp::{HeartbeatConfig, MechanismConfig, SocketType};

impl Scene {
    /// Peers for all endpoints of one side.
    pub(super) fn peers_of(&mut self, proxy: &ProxyConfig, side: SocketName) {
        let socket_type = proxy.socket_type(side);
        let config = proxy.socket(side);
        for connect in &config.connect {
            self.peer(proxy, side, port(&connect.endpoint), true);
        }
        for endpoint in &config.bind {
            let takes = matches!(socket_type, SocketType::Dealer | SocketType::Push);
            let most = if takes && self.plan == Plan::Handover {
                2
            } else {
                6
            };
            for _ in 0..1 + self.random.below(most) {
                self.peer(proxy, side, port(endpoint), false);
            }
        }
    }

    /// Adds a peer for a broker's socket of this type.
    fn peer(&mut self, proxy: &ProxyConfig, side: SocketName, port: u16, is_listening: bool) {
        let socket_type = proxy.socket_type(side);
        let mut spec = self.spec(socket_type, port, is_listening);
        spec.is_v2 = proxy.socket(side).options.accept_zmtp2 && self.random.chance(25);
        if spec.is_v2 {
            spec.heartbeat = None;
            spec.minor = 0;
            spec.knows_ping = false;
        }
        let mechanism = &proxy.socket(side).mechanism;
        if *mechanism != MechanismConfig::Null {
            // Nothing waits for a peer that only sends or subscribes. To one that listens, a broker
            // would connect again and again.
            let is_needed = matches!(socket_type, SocketType::Dealer | SocketType::Push);
            let key = self.random.pick(&KEYS.collect::<Vec<_>>());
            let is_stranger = !is_needed && !is_listening && self.random.chance(10);
            spec.mechanism = match (mechanism, is_stranger) {
                (MechanismConfig::PlainServer, true) => plain::intruder(&mut self.random),
                (MechanismConfig::PlainServer, false) => plain::client(key),
                (_, true) => curve::client(STRANGER, SERVER_KEYS[0]),
                (_, false) => curve::client(key, SERVER_KEYS[0]),
            };
        }
        let is_router = socket_type == SocketType::Router && !is_listening;
        let keeps = is_router && !proxy.socket(side).options.router_handover;
        // The holder keeps an identity from those that announce it too.
        if keeps && self.random.chance(30) {
            spec.identity = b"x".to_vec();
            // Where it does not come back, the next one gets the identity.
            if self.random.chance(50) {
                (spec.stays, spec.returns) = (Some(2 * SECOND), false);
            }
        }
        let behind = &proxy.backend.options;
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
            // A REP discards messages without an envelope.
            SocketType::Rep => {
                let window = random.pick(&[1, 1, 2, 5]);
                Role::Client(Client::new(spec.socket_type, true, window).in_lockstep())
            }
            SocketType::Dealer => {
                let effort = random.pick(&[0, MILLISECOND, 100 * MILLISECOND]);
                Role::Worker(Worker::new(effort, random.chance(20)))
            }
            SocketType::Xsub => {
                let hears_twice = behind.xpub_verbose || behind.xpub_verboser;
                Role::Publisher(Publisher::new(random.chance(70), hears_twice))
            }
            SocketType::Xpub => {
                let is_old_fashioned = random.chance(20);
                let is_inverted = behind.invert_matching;
                // A reload may give it a cache.
                let order = (is_inverted, proxy.publishers().is_some());
                let is_numbered = Numbers::are_shown(proxy);
                let subscriber = Subscriber::new(random, is_old_fashioned, order);
                Role::Subscriber(subscriber.of_numbered(is_numbered))
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
        // Two peers with one identity that a broker connects to would replace each other without
        // end.
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
            is_v2: false,
            mechanism: MechanismConfig::Null,
            knows_ping: minor > 0 || random.chance(50),
            minor,
            out_max: random.pick(&[1, 1000, 100_000]),
            pings: random.chance(30),
            port,
            quota: u32::try_from(quota).expect("small"),
            read: self.reading(),
            socket_type: own_type,
            returns: true,
            stays: None,
        }
    }

    /// A peer's reading: everything at once, little by little, or seldom.
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
            (64, 20 * MILLISECOND),
            (1, 3 * MILLISECOND),
        ])
    }

    pub(super) fn liars(&mut self, config: &Config) {
        let is_excused = self.world.ctx.is_fair || self.plan == Plan::Lockstep;
        if is_excused || self.random.chance(60) {
            return;
        }
        for _ in 0..1 + self.random.below(4) {
            let proxy = &config.proxies[self.random.below(config.proxies.len())];
            let mut side = self.random.pick(&SocketName::SIDES);
            if proxy.capture.socket.has_endpoint() && self.random.chance(20) {
                side = SocketName::Capture;
            }
            let Some(endpoint) = proxy.socket(side).bind.first() else {
                continue;
            };
            let mut spec = self.spec(proxy.socket_type(side), port(endpoint), false);
            if !proxy.socket(side).options.router_handover {
                spec.identity.clear();
            }
            // Old ones are closed at once, and do little else.
            let kind = match self.random.below(10) {
                0 => Misbehaviour::Old,
                _ => self.random.pick(&Misbehaviour::ALL),
            };
            let misbehaving = Misbehaving::new(&mut self.random, kind);
            self.add_peer(spec, Role::Misbehaving(misbehaving));
        }
    }

    /// Peers with the right keys that do not encrypt as they should.
    pub(super) fn forgers(&mut self, config: &Config) {
        if self.world.ctx.is_fair || self.plan == Plan::Lockstep {
            return;
        }
        for proxy in &config.proxies {
            for side in SocketName::SIDES {
                let socket = proxy.socket(side);
                let is_encrypted = matches!(socket.mechanism, MechanismConfig::CurveServer(_));
                let Some(endpoint) = socket.bind.first().filter(|_| is_encrypted) else {
                    continue;
                };
                for _ in 0..self.random.below(3) {
                    let mut spec = self.spec(proxy.socket_type(side), port(endpoint), false);
                    spec.identity.clear();
                    let key = self.random.pick(&KEYS.collect::<Vec<_>>());
                    spec.mechanism = curve::client(key, SERVER_KEYS[0]);
                    let forger = Misbehaving::new(&mut self.random, Misbehaviour::Forger);
                    self.add_peer(spec, Role::Misbehaving(forger));
                }
            }
        }
    }

    /// The peers of the capture and the control.
    pub(super) fn watchers_of(&mut self, proxy: &ProxyConfig) {
        if let Some(endpoint) = proxy.capture.socket.bind.first() {
            for _ in 0..1 + self.random.below(5) {
                let spec = self.spec(proxy.capture.socket_type, port(endpoint), false);
                let topics = self.wanted_copies(proxy, spec.socket_type);
                self.add_peer(spec, Role::Reader(Reader::new(topics)));
            }
        }
        if let Some(endpoint) = proxy.control.socket.bind.first() {
            let is_pair = proxy.control.socket_type == SocketType::Pair;
            let count = if is_pair { 1 } else { 1 + self.random.below(3) };
            for _ in 0..count {
                let mut spec = self.spec(proxy.control.socket_type, port(endpoint), false);
                spec.quota = spec.quota.min(60);
                let (pauses, window) = (self.random.chance(50), self.random.pick(&[1, 1, 5]));
                // The first proxy goes on; otherwise the broker would stop.
                let has_more = matches!(self.plan, Plan::Several | Plan::All);
                let may_end = has_more && !proxy.name.starts_with('0');
                let terminates = may_end && self.random.chance(50);
                let steerer = Steerer::new(spec.socket_type, (pauses, terminates), window);
                self.add_peer(spec, Role::Steerer(steerer));
            }
        }
    }

    /// The peers that ask a proxy for messages again.
    pub(super) fn askers_of(&mut self, proxy: &ProxyConfig) {
        if let Some(endpoint) = proxy.replay.socket.bind.first() {
            for _ in 0..1 + self.random.below(3) {
                let mut spec = self.spec(SocketType::Router, port(endpoint), false);
                spec.socket_type = SocketType::Dealer;
                spec.identity.clear();
                spec.quota = spec.quota.min(20);
                self.add_peer(spec, Role::Asker(Asker::default()));
            }
        }
    }

    /// The ZAP handlers of a proxy.
    pub(super) fn handlers_of(&mut self, proxy: &ProxyConfig) {
        for connect in &proxy.zap.connect {
            let mut spec = self.spec(SocketType::Dealer, port(&connect.endpoint), true);
            spec.socket_type = self.random.pick(&[SocketType::Rep, SocketType::Router]);
            if self.random.chance(80) {
                spec.read = (64 << 10, MILLISECOND);
            }
            self.add_peer(spec, Role::Handler(Handler::default()));
        }
    }

    /// The subscriptions of a reader: everything, a direction, a rare beginning, nothing.
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
        let count = self.random.below(3);
        let topics: Vec<&[u8]> = (0..=count).map(|_| self.random.pick(&choice)).collect();
        let mut topics: Vec<Vec<u8>> = topics.into_iter().map(<[u8]>::to_vec).collect();
        topics.sort();
        topics.dedup();
        topics
    }
}
