//! A core whose driver is a test.

use broker::config::{
    Config, Endpoint, Kind, ProxyConfig, SocketConfig, SocketName, SocketOptions,
};
use broker::{Action, ConnId, Core, Flow, ListenerId, MemoryUse, SLICES_MAX, SocketId};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use zmtp::encode::{append_command, append_frame, append_message};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{IDENTITY, SOCKET_TYPE, append_property};
use zmtp::{Frame, Frames, SocketType, Version};

/// A proxy, by its index in the configuration, and one of its sockets.
pub(crate) type Place = (usize, SocketName);

/// The socket in this place.
pub(crate) fn socket_at(core: &Core, (proxy, name): Place) -> SocketId {
    let proxy = core.proxies().nth(proxy).expect("the proxy is configured");
    core.socket(proxy, name).expect("the socket is configured")
}

/// The listener of the socket in this place.
pub(crate) fn listener_at(core: &Core, place: Place) -> ListenerId {
    let mut listeners = core.listeners(socket_at(core, place));
    listeners.next().expect("the socket listens")
}

/// A core whose endpoints are bound.
pub(crate) fn bound(now: Instant, config: &Config, seed: u64) -> Core {
    let mut core = Core::new(now, config, seed);
    open(&mut core);
    core
}

/// Everything that a core is to listen on can be listened on.
pub(crate) fn open(core: &mut Core) {
    while core.is_opening() {
        if let Some(Action::Listen(id)) = core.poll_action() {
            let (endpoint, _) = core.listener(id).expect("it is asked for");
            let endpoint = endpoint.clone();
            core.handle_listening(id, endpoint);
        }
    }
}

/// One proxy and its driver; queues are written only on request.
pub(crate) struct Play {
    /// Connections that the core closed: nothing may be sent to them.
    pub(crate) closed: Vec<ConnId>,
    pub(crate) core: Core,
    pub(crate) now: Instant,
    /// The address of the next peer.
    pub(crate) peer: SocketAddr,
    pub(crate) scratch: Vec<u8>,
}

impl Play {
    /// A streamer with these options on both sides.
    pub(crate) fn new(options: SocketOptions) -> Self {
        let mut config = proxy("streamer");
        config.frontend.options = options.clone();
        config.backend.options = options;
        Self::of(config)
    }

    pub(crate) fn of(config: ProxyConfig) -> Self {
        Self::of_all(vec![config])
    }

    /// A broker with several proxies.
    pub(crate) fn of_all(proxies: Vec<ProxyConfig>) -> Self {
        Self::run(&Config {
            proxies,
            ..Config::default()
        })
    }

    /// A streamer whose configuration `change` has altered.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            proxies: vec![proxy("streamer")],
            ..Config::default()
        };
        change(&mut config);
        Self::run(&config)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant works: the test moves it"
    )]
    pub(crate) fn run(config: &Config) -> Self {
        let now = Instant::now();
        Self {
            closed: Vec::new(),
            core: bound(now, config, 1),
            now,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            scratch: vec![0; 256 << 10],
        }
    }

    /// A source or sink connects and reads its part of the handshake.
    pub(crate) fn join(&mut self, side: SocketName) -> ConnId {
        let id = match side {
            SocketName::Frontend => self.join_as(side, SocketType::Push),
            _ => self.join_as(side, SocketType::Pull),
        };
        self.write(id);
        id
    }

    /// A peer connects; the broker's part of the handshake is not written yet.
    pub(crate) fn join_as(&mut self, side: SocketName, socket_type: SocketType) -> ConnId {
        self.join_with(side, socket_type, &[])
    }

    /// The same as [`Self::join_as`], for a peer that announces these properties too.
    pub(crate) fn join_with(
        &mut self,
        side: SocketName,
        socket_type: SocketType,
        properties: &[(&str, &[u8])],
    ) -> ConnId {
        self.join_to((0, side), socket_type, properties)
    }

    /// The same as [`Self::join_with`], for a socket of any proxy.
    pub(crate) fn join_to(
        &mut self,
        socket: Place,
        socket_type: SocketType,
        properties: &[(&str, &[u8])],
    ) -> ConnId {
        self.join_announcing(Version::V3_1, socket, socket_type, properties)
    }

    /// A peer connects and announces an identity, unless that is empty.
    pub(crate) fn join_named(
        &mut self,
        socket: Place,
        socket_type: SocketType,
        identity: &[u8],
    ) -> ConnId {
        self.join_speaking(Version::V3_1, socket, socket_type, identity)
    }

    /// The same, in this version of the protocol.
    pub(crate) fn join_speaking(
        &mut self,
        version: Version,
        socket: Place,
        socket_type: SocketType,
        identity: &[u8],
    ) -> ConnId {
        let announced = [(IDENTITY, identity)];
        let properties = if identity.is_empty() {
            &[][..]
        } else {
            &announced
        };
        self.join_announcing(version, socket, socket_type, properties)
    }

    /// A peer connects and announces these properties in addition to its socket type.
    pub(crate) fn join_announcing(
        &mut self,
        version: Version,
        socket: Place,
        socket_type: SocketType,
        properties: &[(&str, &[u8])],
    ) -> ConnId {
        let listener = listener_at(&self.core, socket);
        let id = self.core.handle_accepted(self.now, listener, self.peer);
        let id = id.expect("every address may connect");
        let (mut hello, mut metadata) = (Vec::new(), Vec::new());
        let greeting = Greeting::new("NULL");
        Greeting {
            version,
            ..greeting
        }
        .emit(&mut hello);
        append_property(&mut metadata, SOCKET_TYPE, socket_type.name().as_bytes());
        for (name, value) in properties {
            append_property(&mut metadata, name, value);
        }
        append_command(&mut hello, "READY", &metadata);
        self.feed(id, &hello);
        id
    }

    /// The connection of a peer ends.
    pub(crate) fn lose(&mut self, id: ConnId) {
        self.core.begin_turn(self.now);
        self.core.handle_read_closed(id, None);
        self.core.run_deferred(self.now);
        while let Some(action) = self.core.poll_action() {
            if let Action::Close { id, .. } = action {
                self.core.handle_closed(self.now, id);
            }
        }
        self.core.run_deferred(self.now);
    }

    /// Messages of one frame each arrive, all at once.
    pub(crate) fn send(&mut self, id: ConnId, bodies: &[&str]) -> Flow {
        let mut wire = Vec::new();
        for body in bodies {
            append_frame(&mut wire, body.as_bytes(), false);
        }
        self.feed(id, &wire)
    }

    /// A message of several frames arrives.
    pub(crate) fn send_frames(&mut self, id: ConnId, frames: &[&[u8]]) {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        self.feed(id, &wire);
    }

    /// Runs this number of turns without reading or writing.
    pub(crate) fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.core.begin_turn(self.now);
            self.core.handle_timeout(self.now, self.now);
        }
    }

    /// The memory in use, but for events and closed peers, of which there are more and more.
    pub(crate) fn memory(&self) -> MemoryUse {
        MemoryUse {
            closed: 0,
            ..self.core.memory()
        }
    }

    /// Lets time pass, including all deadlines in it.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(next) = self.core.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.core.begin_turn(self.now);
            self.core.handle_timeout(self.now, self.now);
        }
        self.now = end;
        self.core.begin_turn(end);
        self.core.handle_timeout(end, end);
    }

    /// Bytes arrive; returns how far the broker got with them.
    pub(crate) fn feed(&mut self, id: ConnId, bytes: &[u8]) -> Flow {
        let mut rest = bytes;
        loop {
            let flow = self.feed_once(id, &mut rest);
            if rest.is_empty() || flow == Flow::Closed {
                return flow;
            }
        }
    }

    /// As many bytes arrive as fit; `bytes` keeps the rest.
    fn feed_once(&mut self, id: ConnId, bytes: &mut &[u8]) -> Flow {
        let mut input = self.core.begin_input(id, &mut self.scratch);
        let (came, rest) = bytes.split_at(bytes.len().min(input.spare().len()));
        *bytes = rest;
        input.spare()[..came.len()].copy_from_slice(came);
        input.filled(came.len());
        self.core.begin_turn(self.now);
        let flow = loop {
            let flow = self.core.handle_input(self.now, id, &mut input);
            while let Some(urgent) = self.core.poll_urgent() {
                assert!(!self.closed.contains(&urgent), "{urgent} is closing");
                // The kernel accepts no bytes.
                self.core.handle_written(urgent, 0, true);
                self.core.keep_rest(urgent, &input);
            }
            match flow {
                Flow::Flush => {}
                Flow::More => self.core.begin_turn(self.now),
                _ => break flow,
            }
        };
        self.core.end_input(id, input, &mut self.scratch);
        self.core.handle_timeout(self.now, self.now);
        flow
    }

    /// Runs turns until no password waits; returns the connections whose handshakes went on, in
    /// this order, and how far the broker got with each.
    pub(crate) fn check_passwords(&mut self) -> Vec<(ConnId, Flow)> {
        let mut went_on = Vec::new();
        loop {
            self.core.begin_turn(self.now);
            let before = went_on.len();
            while let Some(id) = self.core.poll_newcomer() {
                went_on.push((id, self.feed(id, &[])));
            }
            if went_on.len() == before {
                return went_on;
            }
        }
    }

    /// The kernel accepts the queue of a peer; returns the bodies as text.
    pub(crate) fn write(&mut self, id: ConnId) -> Vec<String> {
        let text = |body: Vec<u8>| String::from_utf8_lossy(&body).into_owned();
        self.write_frames(id).into_iter().map(text).collect()
    }

    /// The kernel accepts the queue of a peer; returns the bodies.
    pub(crate) fn write_frames(&mut self, id: ConnId) -> Vec<Vec<u8>> {
        let sent = self.write_up_to(id, usize::MAX);
        let body = |frame: Frame<'_>| frame.body.to_vec();
        Frames::new(&sent).map(body).collect()
    }

    /// The kernel accepts at most this number of bytes of a peer's queue; returns them.
    pub(crate) fn write_up_to(&mut self, id: ConnId, limit: usize) -> Vec<u8> {
        self.core.begin_turn(self.now);
        self.core.handle_writable(id);
        let mut is_due = false;
        while let Some(next) = self.core.poll_dirty() {
            is_due |= next == id;
        }
        let (mut sent, mut is_blocked) = (Vec::new(), false);
        while is_due && !is_blocked {
            let egress = self.core.egress_to_write(id, &[]);
            let egress = egress.expect("a connection");
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(&[], &mut slices);
            let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|it| it.to_vec()).collect();
            is_blocked = bytes.len() > limit - sent.len();
            bytes.truncate(limit - sent.len());
            self.core.handle_written(id, bytes.len(), is_blocked);
            sent.extend(bytes);
            is_due = self.core.egress(id).is_some_and(|it| !it.is_empty());
        }
        sent
    }
}

/// A proxy that listens on both sides.
pub(crate) fn proxy(kind: &str) -> ProxyConfig {
    let kind = Kind::from_name(kind).expect("a kind of the table");
    ProxyConfig {
        frontend: listening(),
        backend: listening(),
        ..ProxyConfig::new(kind, kind.name)
    }
}

/// The greeting and READY of a peer.
pub(crate) fn hello(socket_type: SocketType) -> Vec<u8> {
    let (mut hello, mut metadata) = (Vec::new(), Vec::new());
    Greeting::new("NULL").emit(&mut hello);
    append_property(&mut metadata, SOCKET_TYPE, socket_type.name().as_bytes());
    append_command(&mut hello, "READY", &metadata);
    hello
}

pub(crate) fn listening() -> SocketConfig {
    let endpoint: Endpoint = "tcp://127.0.0.1:1".parse().expect("an endpoint");
    SocketConfig {
        bind: vec![endpoint],
        ..SocketConfig::default()
    }
}
