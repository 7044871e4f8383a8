//! Changes of the configuration of a running broker: proxies, endpoints and options, at random.

use super::Node;
use crate::check::check_lost;
use crate::context::{Context, Owner, SocketKey};
use crate::model::{index, is_balanced};
use crate::random::Random;
use broker::config::{
    Attach, Balance, Config, Endpoint, ProxyConfig, RoleConfig, SocketName, SocketOptions, diff,
};
use broker::record::OpenError;
use broker::view::SocketView;
use broker::{Action, Admin, Applied, ChangeError, ChangeId, ConnId, ListenerId, ProxyId};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// What a run may change in a broker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repertoire {
    /// Endpoints to add, by the index of their proxies. Peers are there for them.
    pub(crate) endpoints: Vec<(SocketKey, Attach, Endpoint)>,
    /// Whether anything changes.
    pub(crate) is_any: bool,
    /// Proxies to add. Peers are there for them.
    pub(crate) late: Vec<ProxyConfig>,
    /// What the roles may be instead.
    pub(crate) roles: Vec<Vec<RoleConfig>>,
    /// Whether the program pauses, resumes and ends proxies.
    pub(crate) steers: bool,
}

/// A change of an option, for the better or without a condition that can become false.
const OPTIONS: &[fn(&mut Random, &mut SocketOptions)] = &[
    |random, options| {
        options.sndhwm = match options.sndhwm {
            0 => 0,
            marks => marks * random.pick(&[2, 10]),
        };
    },
    |_, options| options.sndhwm_bytes *= 2,
    |random, options| options.rcvhwm = random.pick(&[0, 1, 3, 100]),
    |random, options| options.rcvhwm_bytes = random.pick(&[1, 1000, 1 << 20]),
    |random, options| {
        if !options.max_age.is_zero() {
            options.max_age = Duration::from_millis(random.pick(&[5, 50, 500, 2000]));
        }
    },
    |random, options| {
        options.overflow_timeout = Duration::from_millis(random.pick(&[100, 1000, 5000]));
    },
    |random, options| {
        options.reconnect_ivl = Duration::from_millis(random.pick(&[10, 100]));
        options.reconnect_ivl_max = Duration::from_millis(random.pick(&[100, 1000]));
    },
    |_, options| options.router_mandatory ^= true,
    |_, options| options.maxmsgframes *= 2,
    |_, options| options.subscriptions_max = 1_000_000,
    |random, options| {
        if options.balance != Balance::Ready {
            options.balance = random.pick(&[Balance::RoundRobin, Balance::LeastQueued]);
        }
    },
];

impl Node {
    /// Changes something, if the run is about that.
    pub(super) fn reconfigure(&mut self, ctx: &mut Context, now: Instant) {
        if self.stopped_at.is_some() || ctx.is_calm {
            return;
        }
        if !self.repertoire.is_any {
            if !self.repertoire.roles.is_empty() {
                self.change_roles(ctx, now);
            }
            return;
        }
        self.check_tapes(now);
        self.check_recorded_users(ctx);
        match ctx.random.below(15) {
            0 | 1 => self.add_proxy(ctx, now),
            2 | 3 => self.remove_proxy(ctx, now),
            4 => self.add_endpoint(ctx, now),
            5 => self.remove_endpoint(ctx, now),
            6 => self.move_endpoint(ctx, now),
            7 => self.change_auxiliary(ctx, now),
            8 => self.change_keys(ctx, now),
            9 => self.change_recording(ctx, now),
            12 => self.change_http(ctx, now),
            10 => self.move_broker_control(ctx, now),
            11 if !self.repertoire.roles.is_empty() => self.change_roles(ctx, now),
            13 => self.change_kept(ctx, now),
            _ => self.change_options(ctx, now),
        }
        // Each connection may have been given a reason to be looked at.
        self.reminders += 2 * self.hosts.len() as u64 + 10;
    }

    fn add_proxy(&mut self, ctx: &mut Context, now: Instant) {
        let absent = (0..self.proxies.len()).filter(|index| {
            let key = u32::try_from(*index).expect("few proxies");
            self.proxies[*index].is_none() && !self.model.removed.contains(&key)
        });
        let Some(index) = absent.take(1).next() else {
            return;
        };
        let config = self.config.proxies[index].clone();
        if self
            .change(ctx, now, |admin| admin.add_proxy(config))
            .is_some()
        {
            let known: Vec<ProxyId> = self.proxies.iter().copied().flatten().collect();
            let mut all = self.core.proxies();
            self.proxies[index] = all.find(|id| !known.contains(id));
            drop(all);
            assert!(self.proxies[index].is_some(), "a proxy was added");
            ctx.coverage.add("proxies added", 1);
        }
    }

    fn remove_proxy(&mut self, ctx: &mut Context, now: Instant) {
        // The first one goes on, or the broker would stop.
        let index = 1 + ctx.random.below(self.proxies.len());
        let Some(id) = self.proxies.get(index).copied().flatten() else {
            return;
        };
        let key = u32::try_from(index).expect("few proxies");
        if self.model.removed.contains(&key) {
            return;
        }
        if self
            .change(ctx, now, |admin| admin.remove_proxy(id))
            .is_none()
        {
            return;
        }
        ctx.coverage.add("proxies removed", 1);
        self.model.removed.insert(key);
        self.model.terminate(key);
        if ctx.random.chance(70) {
            // The same again, for the same peers.
            let mut config = self.config.proxies[index].clone();
            config.name.push('r');
            config.record = None;
            self.model.add_proxy(&config);
            self.config.proxies.push(config);
            self.proxies.push(None);
        }
    }

    fn add_endpoint(&mut self, ctx: &mut Context, now: Instant) {
        let Some((id, key, attach, endpoint)) = self.draw_endpoint(ctx, false) else {
            return;
        };
        let added = endpoint.clone();
        let begin = move |admin: &mut Admin<'_>| admin.attach(id, key.side, attach, added);
        if self.change(ctx, now, begin).is_some() {
            let config = &mut self.config.proxies[key.proxy as usize];
            config.socket_mut(key.side).attach(attach, endpoint);
            let immediate = config.socket(key.side).options.immediate;
            self.model.sockets[index(key)].keeps_for_links |=
                attach == Attach::Connect && !immediate;
            ctx.coverage.add("endpoints added", 1);
        }
    }

    /// An endpoint of the repertoire that its socket has, or has not.
    fn draw_endpoint(
        &self,
        ctx: &mut Context,
        is_there: bool,
    ) -> Option<(ProxyId, SocketKey, Attach, Endpoint)> {
        let endpoints = &self.repertoire.endpoints;
        if endpoints.is_empty() {
            return None;
        }
        let (key, attach, endpoint) = endpoints[ctx.random.below(endpoints.len())].clone();
        let config = &self.config.proxies[key.proxy as usize];
        let has_it = has_endpoint(config, key.side, &endpoint);
        let id = self.changeable(key).filter(|_| has_it == is_there)?;
        Some((id, key, attach, endpoint))
    }

    fn remove_endpoint(&mut self, ctx: &mut Context, now: Instant) {
        let Some((id, key, attach, endpoint)) = self.draw_endpoint(ctx, true) else {
            return;
        };
        let begin = |admin: &mut Admin<'_>| admin.detach(id, key.side, attach, &endpoint);
        if self.change(ctx, now, begin).is_none() {
            return;
        }
        ctx.coverage.add("endpoints removed", 1);
        let socket = self.config.proxies[key.proxy as usize].socket_mut(key.side);
        socket.bind.retain(|other| *other != endpoint);
        socket.connect.retain(|other| other.endpoint != endpoint);
        if attach == Attach::Connect {
            let dialled = self.dialled.iter();
            let ended = dialled.filter(|(id, other)| self.is_open(**id) && **other == endpoint);
            let ended: Vec<ConnId> = ended.map(|(id, _)| *id).collect();
            self.dying.extend(&ended);
            // What waited for the link goes to other peers, and is not seen here.
            if !socket_options(&self.config, key).immediate {
                self.model.sockets[index(key)].requeued = None;
            }
        }
    }

    fn change_options(&mut self, ctx: &mut Context, now: Instant) {
        let key = SocketKey {
            proxy: u32::try_from(ctx.random.below(self.proxies.len())).expect("few proxies"),
            side: ctx.random.pick(&SocketName::SIDES),
        };
        if self.changeable(key).is_none() {
            return;
        }
        let mut options = socket_options(&self.config, key).clone();
        ctx.random.pick(OPTIONS)(&mut ctx.random, &mut options);
        // The model has judged the subscriptions that wait by the former limit.
        let before = socket_options(&self.config, key).subscriptions_max;
        let mut waiting = self.hosts.keys().filter(|id| self.core.is_suspended(**id));
        let has_waiting = waiting.any(|id| self.model.mirrors[id].socket == key);
        if has_waiting && options.subscriptions_max != before {
            return;
        }
        let mut next = self.admin(now).config().clone();
        let name = &self.config.proxies[key.proxy as usize].name;
        let mut proxies = next.proxies.iter_mut();
        let config = proxies.find(|config| config.name == *name);
        config.expect("it is there").socket_mut(key.side).options = options.clone();
        let applied = self.change(ctx, now, |admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        });
        assert_eq!(applied.expect("nothing is bound").needs_restart, [""; 0]);
        let proxy = &mut self.config.proxies[key.proxy as usize];
        proxy.socket_mut(key.side).options = options.clone();
        self.model.sockets[index(key)].options = options;
        ctx.coverage.add("options changed", 1);
    }

    /// Gives users other roles. What waits would be judged by the new ones.
    fn change_roles(&mut self, ctx: &mut Context, now: Instant) {
        if self
            .hosts
            .keys()
            .any(|id| self.core.is_suspended(*id) || self.core.is_cut(*id))
        {
            return;
        }
        let mut next = self.admin(now).config().clone();
        let choice = &self.repertoire.roles;
        next.roles
            .clone_from(&choice[ctx.random.below(choice.len())]);
        let applied = self.change(ctx, now, |admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        });
        assert!(applied.is_some(), "nothing is bound");
        self.config.roles.clone_from(&next.roles);
        self.model.set_roles(&next);
        ctx.coverage.add("roles changed", 1);
    }

    /// The proxy of a socket that is there and not about to go.
    pub(super) fn changeable(&self, key: SocketKey) -> Option<ProxyId> {
        let is_ending = self.model.terminated.contains_key(&key.proxy);
        self.proxies[key.proxy as usize].filter(|_| !is_ending)
    }

    /// Makes a change. Now and then an endpoint cannot be bound: then nothing has changed.
    pub(super) fn change(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        begin: impl FnOnce(&mut Admin<'_>) -> Result<ChangeId, ChangeError>,
    ) -> Option<Applied> {
        let before = (self.admin(now).config().clone(), self.core.walk_tables());
        let listened = self.listened(ctx);
        let id = begin(&mut self.admin(now)).expect("it is legal");
        let mut fails = ctx.random.chance(20);
        let mut has_failed = false;
        while self.core.is_opening() {
            match self.core.poll_action().expect("something is to be opened") {
                Action::Listen(listener) if std::mem::take(&mut fails) => {
                    has_failed = true;
                    let error = ErrorKind::AddrNotAvailable.into();
                    self.core.handle_listen_failed(listener, error);
                }
                Action::OpenHttp if std::mem::take(&mut fails) => {
                    has_failed = true;
                    let error = ErrorKind::AddrInUse.into();
                    self.core.handle_http_failed(error);
                }
                Action::Record(proxy) if std::mem::take(&mut fails) => {
                    has_failed = true;
                    let (path, source) = ("full".into(), ErrorKind::StorageFull.into());
                    self.core
                        .handle_record_failed(proxy, OpenError { path, source });
                }
                action => {
                    // Those that are opened before one fails.
                    fails |= !has_failed && ctx.random.chance(10);
                    self.act(ctx, now, action);
                }
            }
        }
        let outcome = self.core.take_outcome(id).expect("all is open");
        ctx.trace.show(|| {
            let changes = diff(&before.0, self.core.admin(now).config());
            let lines: Vec<String> = changes.list.iter().map(ToString::to_string).collect();
            format!("change: {lines:?}")
        });
        assert_eq!(outcome.is_err(), has_failed, "{outcome:?}");
        if has_failed {
            let after = (self.admin(now).config().clone(), self.core.walk_tables());
            assert_eq!(before, after, "a change that failed");
            assert_eq!(listened, self.listened(ctx), "ports after a failed change");
            ctx.coverage.add("changes that failed", 1);
        }
        outcome.ok()
    }

    /// The ports on which it listens, each with its listener.
    fn listened(&self, ctx: &Context) -> Vec<(u16, ListenerId)> {
        let ports = ctx.ports.iter();
        let own = ports.filter(|(_, it)| it.owner == Owner::Node(self.index));
        own.filter_map(|(port, it)| Some((*port, it.socket?.1)))
            .collect()
    }

    /// Before the core may free a proxy: takes note of its figures.
    pub(super) fn note_leaving(&mut self) {
        let mut leaving = self.proxies.iter().zip(0..);
        if leaving.any(|(id, key)| id.is_some() && self.model.removed.contains(&key)) {
            self.last_figures = self.core.statistics();
        }
    }

    /// Finds out which proxies are gone: nothing is left of them, and what they were given was sent
    /// or counted.
    pub(super) fn check_left(&mut self) {
        assert_eq!(self.core.walk_stale_ids(), 0, "ids of what is gone");
        self.forget_ghosts();
        let there: Vec<ProxyId> = self.core.proxies().collect();
        for proxy in 0..self.proxies.len() {
            if self.proxies[proxy].is_some_and(|id| !there.contains(&id)) {
                self.proxies[proxy] = None;
                self.check_gone(proxy);
            }
        }
        let known = self.proxies.iter().flatten().count();
        assert_eq!(known, there.len(), "proxies");
        let is_leaving = |key: &u32| self.proxies[*key as usize].is_some();
        if self.stopped_at.is_some() || self.model.terminated.keys().any(is_leaving) {
            return;
        }
        let present = self.present();
        let sockets = present.proxies.iter();
        let sockets = sockets.flat_map(|proxy| proxy.sockets().map(|it| proxy.socket(it)));
        // The control of the broker is that of a proxy without messages.
        let own = self.broker_controls.len();
        let (mut count, mut listeners, mut links) = (3 * own, own, 0);
        for socket in sockets {
            count += 1;
            listeners += socket.bind.len();
            links += socket.connect.len();
        }
        let tables = self.core.walk_tables();
        // Links and sockets that were removed wait for the ends of their connections.
        let (leaving, leaving_sockets) = (tables[5].1, tables[6].1);
        let found = [
            tables[1].1 - leaving_sockets,
            tables[2].1 - (leaving - leaving_sockets),
            tables[3].1,
        ];
        assert_eq!(found, [count, links, listeners], "{tables:?}");
    }

    fn check_gone(&self, proxy: usize) {
        let key = u32::try_from(proxy).expect("few proxies");
        assert!(self.model.removed.contains(&key), "a proxy is gone");
        let is_its = |id: &ConnId| self.model.mirrors[id].socket.proxy == key;
        assert!(
            !self.hosts.keys().any(is_its),
            "a proxy that is gone has peers"
        );
        self.check_tape_over(key);
        let name = &self.config.proxies[proxy].name;
        let own = |figures: &&SocketView| figures.proxy == *name;
        for figures in self.last_figures.iter().filter(own) {
            let side = figures.socket;
            let socket = &self.model.sockets[index(SocketKey { proxy: key, side })];
            if is_balanced(socket.socket_type) && side.side().is_some() && !socket.is_lossy {
                check_lost(&format!("{name} {side}, which is gone"), figures, socket);
            }
        }
    }

    /// The configuration without what is gone or has not come yet.
    pub(crate) fn present(&self) -> Config {
        let proxies = self.config.proxies.iter().zip(&self.proxies).zip(0..);
        let is_ended = |key: &u32| self.model.terminated.contains_key(key);
        let present = proxies.filter(|((_, id), key)| id.is_some() && !is_ended(key));
        Config {
            proxies: present.map(|((config, _), _)| config.clone()).collect(),
            ..self.config.clone()
        }
    }

    /// All proxies that the core has, and their indices in the model.
    pub(super) fn known(&self) -> Vec<(ProxyId, u32)> {
        let known = self.proxies.iter().zip(0..);
        known
            .filter_map(|(id, key)| Some((((*id)?), key)))
            .collect()
    }
}

fn has_endpoint(config: &ProxyConfig, side: SocketName, endpoint: &Endpoint) -> bool {
    let socket = config.socket(side);
    let mut connects = socket.connect.iter();
    socket.bind.contains(endpoint) || connects.any(|connect| connect.endpoint == *endpoint)
}

fn socket_options(config: &Config, key: SocketKey) -> &SocketOptions {
    &config.proxies[key.proxy as usize].socket(key.side).options
}
