//! Changes of a running broker beyond proxies and options: captures and controls, keys, recordings,
//! and endpoints that overlap with their successors.

use super::Node;
use super::actions::port;
use crate::context::{Context, SocketKey};
use crate::curve;
use crate::model::index;
use crate::scenario::{KEYS, client_keys, draw_cache};
use crate::watch::is_at_high_water;
use broker::config::endpoint::Host;
use broker::config::{
    Admission, BrokerControl, CaptureFormat, ClientKeys, Config, Endpoint, SocketName, diff,
};
use broker::record::{Origin, RecordConfig, Statistics};
use broker::view::ValueView;
use broker::{Applied, ConnId, Egress, ProxyId, Reloaded};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zmtp::encode::append_message;
use zmtp::{MechanismConfig, SocketType};

/// A recording that the broker was given.
#[derive(Debug)]
pub(super) struct Recording {
    /// The messages that the proxy had received on both sides when it began.
    before: u64,
    state: Arc<Mutex<TapeState>>,
}

#[derive(Debug)]
struct TapeState {
    config: RecordConfig,
    is_over: bool,
    messages: u64,
    /// The connections and user names of the senders since the last look; `None` for the name is a
    /// peer without one.
    senders: BTreeSet<(u64, Option<String>)>,
}

#[derive(Debug)]
struct Tape {
    path: Box<Path>,
    state: Arc<Mutex<TapeState>>,
}

impl Tape {
    fn with<R>(&self, then: impl FnOnce(&mut TapeState) -> R) -> R {
        then(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl broker::record::Tape for Tape {
    fn flush(&mut self) {}

    fn path(&self) -> &Path {
        &self.path
    }

    fn push(&mut self, origin: &Origin<'_>, _: &[&[u8]]) {
        let sender = (origin.connection, origin.user.map(str::to_owned));
        // Of a peer that has left, whose subscriptions are cancelled, nothing is known any more.
        let is_known = origin.peer.is_some();
        assert!(is_known || origin.user.is_none(), "{origin:?}");
        self.with(|state| {
            state.messages += 1;
            if is_known {
                state.senders.insert(sender);
            }
        });
    }

    fn set_limits(&mut self, config: &RecordConfig) {
        self.with(|state| state.config = config.clone());
    }

    fn statistics(&self) -> Statistics {
        let messages = self.with(|state| state.messages);
        Statistics {
            messages,
            ..Statistics::default()
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        self.with(|state| state.is_over = true);
    }
}

impl Node {
    /// Makes the running configuration that of [`Self::config`] for one proxy; restores that if the
    /// change fails.
    fn reload(&mut self, ctx: &mut Context, now: Instant, proxy: u32, former: Config) -> bool {
        let config = self.config.proxies[proxy as usize].clone();
        let mut next = self.admin(now).config().clone();
        let mut proxies = next.proxies.iter_mut();
        let own = proxies.find(|it| it.name == config.name);
        *own.expect("it is there") = config;
        let applied = self.change(ctx, now, |admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        });
        let Some(Applied { needs_restart, .. }) = applied else {
            self.config = former;
            return false;
        };
        assert_eq!(needs_restart, [""; 0]);
        true
    }

    fn draw_proxy(&self, ctx: &mut Context) -> u32 {
        u32::try_from(ctx.random.below(self.proxies.len())).expect("few proxies")
    }

    /// Replaces an endpoint to listen on by one with the same port.
    pub(super) fn move_endpoint(&mut self, ctx: &mut Context, now: Instant) {
        let key = SocketKey {
            proxy: self.draw_proxy(ctx),
            side: ctx.random.pick(&SocketName::ALL),
        };
        if self.changeable(key).is_none() {
            return;
        }
        let spare: Vec<u16> = self
            .repertoire
            .endpoints
            .iter()
            .map(|it| port(&it.2))
            .collect();
        let former = self.config.clone();
        let bind = &mut self.config.proxies[key.proxy as usize]
            .socket_mut(key.side)
            .bind;
        let mut own = bind.iter_mut().filter(|it| !spare.contains(&port(it)));
        let Some(Endpoint::Tcp { host, .. }) = own.next() else {
            return;
        };
        *host = match host {
            Host::Ip(ip) if *ip == Ipv4Addr::LOCALHOST => Host::Ip([127, 0, 0, 2].into()),
            _ => Host::Ip(Ipv4Addr::LOCALHOST.into()),
        };
        if self.reload(ctx, now, key.proxy, former) {
            ctx.coverage
                .add("endpoints replaced by overlapping ones", 1);
        }
    }

    /// The control of the broker comes, goes or moves: it listens where it should and nowhere else,
    /// and is none of the proxies.
    pub(super) fn move_broker_control(&mut self, ctx: &mut Context, now: Instant) {
        let to = ctx.random.pick(&["none", "ipc:///a.ctl", "ipc:///b.ctl"]);
        let to = BrokerControl::from_text(to).expect("it is private");
        let mut next = self.admin(now).config().clone();
        next.broker_control = to.clone();
        let proxies: Vec<_> = self.core.proxies().collect();
        let applied = self.change(ctx, now, |admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        });
        while let Some(action) = self.core.poll_action() {
            self.act(ctx, now, action);
        }
        assert_eq!(self.core.proxies().collect::<Vec<_>>(), proxies, "proxies");
        let running = self.admin(now).config().broker_control.clone();
        let listening = self.broker_controls.iter();
        let listening = listening.filter_map(|id| self.core.listener(*id));
        let listening: Vec<Endpoint> = listening.map(|(endpoint, _)| endpoint.clone()).collect();
        let expected: Vec<Endpoint> = running.endpoint().cloned().into_iter().collect();
        assert_eq!(listening, expected, "the control of the broker");
        assert_eq!(self.broker_controls.len(), expected.len());
        if applied.is_some() {
            assert_eq!(running.endpoint(), to.endpoint());
            self.config.broker_control = to;
            ctx.coverage.add("broker controls moved", 1);
        }
    }

    /// Removes a capture or control, or gives one back.
    pub(super) fn change_auxiliary(&mut self, ctx: &mut Context, now: Instant) {
        let key = SocketKey {
            proxy: self.draw_proxy(ctx),
            side: ctx.random.pick(&[SocketName::Capture, SocketName::Control]),
        };
        let index = key.proxy as usize;
        // A paused proxy would stay so.
        if self.changeable(key).is_none() || self.model.is_paused(index) {
            return;
        }
        let former = self.config.clone();
        let config = &mut self.config.proxies[index];
        if let Some(bind) = self.shelved.get(&key).cloned() {
            config.socket_mut(key.side).bind = bind;
            if key.side == SocketName::Capture {
                config.capture.format = ctx.random.pick(&CaptureFormat::ALL);
            }
            let config = config.clone();
            if self.reload(ctx, now, key.proxy, former) {
                self.shelved.remove(&key);
                if let Some(watch) = &mut self.model.watches[index] {
                    watch.renew(key.side, &config);
                }
                ctx.coverage.add("captures and controls added", 1);
            }
            return;
        }
        let mut ghost = config.clone();
        let bind = std::mem::take(&mut config.socket_mut(key.side).bind);
        if bind.is_empty() || !self.reload(ctx, now, key.proxy, former) {
            return;
        }
        self.shelved.insert(key, bind);
        let number = u32::try_from(self.config.proxies.len()).expect("few proxies");
        self.model.retire(key, number, &ghost);
        self.ghosts.push(number);
        ghost.name.push_str(&format!("-{number}"));
        for side in SocketName::ALL {
            let socket = ghost.socket_mut(side);
            (socket.bind, socket.connect) = (Vec::new(), Vec::new());
        }
        self.config.proxies.push(ghost);
        self.proxies.push(None);
        ctx.coverage.add("captures and controls removed", 1);
    }

    /// Caches begin with values of a former broker.
    pub(super) fn restore_values(&mut self, ctx: &mut Context) {
        let now = ctx.instant();
        for (proxy, id) in (0..).zip(self.proxies.clone()) {
            let Some(id) = id.filter(|_| ctx.random.chance(50)) else {
                continue;
            };
            let topics: [&[u8]; 3] = [b"a", b"ab", b"bb"];
            let age = Duration::from_secs(ctx.random.pick(&[0, 1, 10]));
            let values = topics.map(|topic| {
                let mut wire = Vec::new();
                append_message(&mut wire, &[topic, b"restored"]);
                ValueView { age, wire }
            });
            let taken = self.admin(now).restore_values(id, &values);
            let taken = taken.expect("the proxy is there");
            ctx.coverage.add("values restored", taken as u64);
            self.model.restored(proxy, &values);
        }
    }

    /// A forwarder keeps other values than before, or none, and another number of messages.
    pub(super) fn change_kept(&mut self, ctx: &mut Context, now: Instant) {
        let key = SocketKey {
            proxy: self.draw_proxy(ctx),
            side: SocketName::Backend,
        };
        let (former, limit) = (self.config.clone(), self.config.memory_limit);
        let config = &mut self.config.proxies[key.proxy as usize];
        let publishes = config.publishers().is_some() && !config.backend.options.invert_matching;
        if !publishes || self.changeable(key).is_none() {
            return;
        }
        let config = &mut self.config.proxies[key.proxy as usize];
        let keeps = ctx.random.chance(70);
        config.cache = keeps.then(|| draw_cache(&mut ctx.random, limit));
        if config.replay.socket.has_endpoint() {
            config.replay.messages_max = ctx.random.pick(&[1, 20, 100_000]);
        }
        let config = config.clone();
        if self.reload(ctx, now, key.proxy, former) {
            self.model.set_cache(key.proxy, &config);
            ctx.coverage.add("caches changed", 1);
        }
    }

    /// The copies for readers that have left are of no interest any more.
    pub(super) fn forget_ghosts(&mut self) {
        let Self {
            ghosts,
            hosts,
            model,
            ..
        } = self;
        ghosts.retain(|ghost| {
            let is_its = |id: &ConnId| model.mirrors[id].socket.proxy == *ghost;
            let is_there = hosts.keys().any(is_its);
            if !is_there {
                model.watches[*ghost as usize] = None;
            }
            is_there
        });
    }

    /// Replaces the list of clients of a socket, or its own key.
    pub(super) fn change_keys(&mut self, ctx: &mut Context, now: Instant) {
        // Lists of clients give roles too, which are changed elsewhere.
        if !self.config.roles.is_empty() {
            return;
        }
        let servers = self.servers_with_lists();
        if servers.is_empty() {
            return;
        }
        let key = ctx.random.pick(&servers);
        let former = self.config.clone();
        let config = self.config.proxies[key.proxy as usize].socket_mut(key.side);
        let has_other_key = ctx.random.chance(25);
        let ports = config
            .bind
            .iter()
            .chain(config.connect.iter().map(|it| &it.endpoint));
        let spare = self.repertoire.endpoints.iter();
        let spare = spare.filter(|it| it.0 == key).map(|it| &it.2);
        let ports: Vec<u16> = ports.chain(spare).map(port).collect();
        let is_second = ports.iter().any(|port| ctx.second_keys.contains(port));
        if has_other_key {
            config.mechanism = curve::server(curve::SERVER_KEYS[usize::from(!is_second)]);
        } else {
            config.admission = match ctx.random.below(4) {
                0 => Admission::Any,
                1 => Admission::Keys(Arc::new(client_keys(None))),
                _ => Admission::Keys(Arc::new(some_keys(ctx))),
            };
        }
        if !self.reload_keys(ctx, now, key, former) {
            return;
        }
        if has_other_key {
            ctx.coverage.add("server keys changed", 1);
            for port in ports {
                if is_second {
                    ctx.second_keys.remove(&port);
                } else {
                    ctx.second_keys.insert(port);
                }
            }
        }
    }

    /// The sides that are servers of CURVE with lists of clients, or with none. What is not applied
    /// must not be in the configuration, which another change would apply.
    fn servers_with_lists(&self) -> Vec<SocketKey> {
        let mut servers = Vec::new();
        for (proxy, config) in (0..).zip(&self.config.proxies) {
            for side in SocketName::SIDES {
                let (key, socket) = (SocketKey { proxy, side }, config.socket(side));
                let is_server = matches!(socket.mechanism, MechanismConfig::CurveServer(_));
                if is_server
                    && socket.admission != Admission::Program
                    && self.changeable(key).is_some()
                {
                    servers.push(key);
                }
            }
        }
        servers
    }

    fn reload_keys(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        key: SocketKey,
        former: Config,
    ) -> bool {
        let config = self.config.proxies[key.proxy as usize]
            .socket(key.side)
            .clone();
        let is_made = self.reload(ctx, now, key.proxy, former);
        if is_made {
            let denied = self.model.set_keys(key, &config);
            ctx.coverage
                .add("peers whose keys were removed", denied.len() as u64);
            self.dying.extend(denied);
            self.reminders += 2 * self.hosts.len() as u64;
        }
        is_made
    }

    /// In the end every peer may come in that has a key.
    pub(super) fn let_back_in(&mut self, ctx: &mut Context, now: Instant) {
        if !ctx.is_calm || self.stopped_at.is_some() || !self.config.roles.is_empty() {
            return;
        }
        for proxy in 0..u32::try_from(self.proxies.len()).expect("few proxies") {
            for side in SocketName::SIDES {
                let key = SocketKey { proxy, side };
                let all = Admission::Keys(Arc::new(client_keys(None)));
                let admission = &self.config.proxies[proxy as usize].socket(side).admission;
                let is_partial = matches!(admission, Admission::Keys(_)) && *admission != all;
                if is_partial && self.changeable(key).is_some() {
                    let former = self.config.clone();
                    let config = &mut self.config.proxies[proxy as usize];
                    config.socket_mut(side).admission = all;
                    while !self.reload_keys(ctx, now, key, former.clone()) {}
                }
            }
        }
    }

    /// A reload that a peer of a control asked for is over.
    pub(super) fn answer_reload(&mut self, ctx: &mut Context) {
        if !std::mem::take(&mut self.is_reloading) {
            return;
        }
        let mut askers = self.model.reloading.clone();
        askers.sort();
        askers.dedup();
        let queued = |node: &Self, id: ConnId| node.core.egress(id).map_or(0, Egress::messages);
        let before: Vec<u32> = askers.iter().map(|id| queued(self, *id)).collect();
        self.core.handle_reloaded(&Ok(Reloaded {
            changes: vec!["a change".to_owned()],
            needs_restart: Vec::new(),
        }));
        for (id, before) in askers.into_iter().zip(before) {
            let count = (queued(self, id) - before) as usize;
            let options = &self.model.socket(id).options;
            let is_full = is_at_high_water(&self.core, id, options) || self.model.may_shed;
            self.model.reloaded(id, count, is_full);
            ctx.coverage.add("reloads answered", count as u64);
        }
    }

    /// Begins, ends or changes a recording.
    pub(super) fn change_recording(&mut self, ctx: &mut Context, now: Instant) {
        let proxy = self.draw_proxy(ctx);
        let side = SocketName::Frontend;
        if self.changeable(SocketKey { proxy, side }).is_none() {
            return;
        }
        let former = self.config.clone();
        let record = &mut self.config.proxies[proxy as usize].record;
        let path = ctx.random.pick(&["one", "another"]);
        *record = match ctx.random.below(4) {
            0 => None,
            size => Some(RecordConfig {
                file_size_max: size as u64,
                ..RecordConfig::new(path)
            }),
        };
        let config = record.clone();
        let before = self.tapes.get(&proxy).map(|tape| tape.state.clone());
        if !self.reload(ctx, now, proxy, former) {
            return;
        }
        ctx.coverage.add("recordings changed", 1);
        let after = self.tapes.get(&proxy).map(|tape| tape.state.clone());
        let is_over = |state: &Arc<Mutex<TapeState>>| state.lock().expect("no panic").is_over;
        match config {
            None => {
                assert!(
                    before.is_none_or(|it| is_over(&it)),
                    "a recording that goes on"
                );
                self.tapes.remove(&proxy);
            }
            Some(config) => {
                let state = after.expect("it was begun");
                assert!(!is_over(&state), "a recording has ended");
                assert_eq!(state.lock().expect("no panic").config, config);
                let former = before.filter(|former| !Arc::ptr_eq(former, &state));
                assert!(former.is_none_or(|it| is_over(&it)), "two recordings");
            }
        }
    }

    /// The driver opens the file of a recording.
    pub(super) fn begin_recording(&mut self, now: Instant, id: ProxyId) {
        let config = self
            .core
            .record_config(id)
            .expect("it is asked for")
            .clone();
        let state = Arc::new(Mutex::new(TapeState {
            config: config.clone(),
            is_over: false,
            messages: 0,
            senders: BTreeSet::new(),
        }));
        let mut proxies = self.proxies.iter().zip(0..);
        let (_, proxy) = proxies
            .find(|(other, _)| **other == Some(id))
            .expect("it is there");
        let tape = Tape {
            path: config.path.into(),
            state: state.clone(),
        };
        let before = self.received_by(now, proxy);
        self.core.handle_recording(id, Box::new(tape));
        // If another part of the change fails, it is over at once.
        if !state.lock().expect("no panic").is_over {
            self.tapes.insert(proxy, Recording { before, state });
        }
    }

    /// The messages that both sides of a proxy have received.
    fn received_by(&mut self, now: Instant, proxy: u32) -> u64 {
        let id = self.proxies[proxy as usize].expect("it is there");
        let view = self.admin(now).proxy(id).expect("it is there");
        let sides = view.sockets.iter().filter(|it| it.socket.side().is_some());
        sides.map(|it| it.counters.messages_in).sum()
    }

    /// The recording of a proxy that is gone has ended.
    pub(super) fn check_tape_over(&self, proxy: u32) {
        if let Some(Recording { state, .. }) = self.tapes.get(&proxy) {
            assert!(
                state.lock().expect("no panic").is_over,
                "a recording goes on"
            );
        }
    }

    /// Each recorded message has the user name of its sender, and no other. Called before a name
    /// can change, and at the end of a turn.
    pub(super) fn check_recorded_users(&self, ctx: &mut Context) {
        for Recording { state, .. } in self.tapes.values() {
            let mut state = state.lock().expect("no panic");
            for (number, user) in std::mem::take(&mut state.senders) {
                let mut mirrors = self.model.mirrors.iter();
                let (id, mirror) = mirrors
                    .find(|(id, _)| id.number() == number)
                    .expect("a recorded connection is one of the broker's");
                assert_eq!(
                    user.as_deref(),
                    mirror.user.as_deref(),
                    "{id:?} is recorded"
                );
                ctx.coverage
                    .add("recorded users", u64::from(user.is_some()));
            }
        }
    }

    /// Each recording has the messages that went on since it began.
    pub(super) fn check_tapes(&mut self, now: Instant) {
        let proxies: Vec<u32> = self.tapes.keys().copied().collect();
        for proxy in proxies {
            if self.proxies[proxy as usize].is_none() || self.model.removed.contains(&proxy) {
                continue;
            }
            let received = self.received_by(now, proxy);
            let Recording { before, state } = &self.tapes[&proxy];
            let found = state.lock().expect("no panic").messages;
            let backend = SocketKey {
                proxy,
                side: SocketName::Backend,
            };
            let socket_type = self.model.sockets[index(backend)].socket_type;
            let expected = received - before;
            // Subscriptions that are passed on are recorded too.
            let is_right = found == expected || socket_type == SocketType::Xpub && found > expected;
            assert!(is_right, "{found} messages recorded, {expected} received");
        }
    }
}

/// The keys of some peers.
fn some_keys(ctx: &mut Context) -> ClientKeys {
    let mut keys = ClientKeys::default();
    for number in KEYS {
        if ctx.random.chance(60) {
            keys.insert(&curve::public_key(number), &format!("renamed-{number}")[..]);
        }
    }
    keys
}
