//! The way of a change: what it needs is opened, then it is made.
//!
//! The core makes new proxies, sockets and listeners, and the driver binds the endpoints and opens
//! the files of recordings. When all of them are open, the rest follows in one step
//! ([`Core::complete_change`]): options, keys, endpoints that go, proxies that go, links. If one
//! cannot be opened, everything that was opened for the change is closed again
//! ([`Core::fail_change`]).
//!
//! The system refuses an endpoint as long as an overlapping one is bound: `tcp://*:5559` beside
//! `tcp://127.0.0.1:5559`. If the other one goes with the change, both wait until all other parts
//! are open; then the old one is closed and the new one bound. If that fails, the old one is bound
//! again.

use crate::config::{
    BrokerControl, Change, Changes, Config, Connect, Endpoint, HttpConfig, ProxyConfig, SocketName,
    SocketPath, diff,
};
use crate::core::change::{Applied, ChangeError, ChangeId, ChangeResult};
use crate::core::closed::ClosedLimits;
use crate::core::events::{Facts, Place};
use crate::core::{Action, Core};
use crate::ids::{LinkId, ListenerId, ProxyId, SocketId};
use crate::proxy::{Proxy, Stop};
use crate::record::{OpenError, RecordConfig, Tape};
use log::Level;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

/// The running configuration, and the change in progress.
#[derive(Debug, Default)]
pub(super) struct Reconfiguration {
    /// The running configuration.
    pub(super) config: Config,
    /// Where the driver listens for HTTP, with the real port.
    pub(super) http: Option<SocketAddr>,
    /// The number of changes begun.
    count: u64,
    pub(super) opening: Option<Opening>,
    /// The result of the last change, until it is taken.
    outcome: Option<(ChangeId, ChangeResult)>,
}

/// A change that has not been made yet: the driver opens what it needs.
#[derive(Debug)]
pub(super) struct Opening {
    /// New captures and controls.
    pub(super) auxiliaries: Vec<(ProxyId, SocketId)>,
    /// New listeners that the system refused because one of those that go is in the way.
    blocked: Vec<ListenerId>,
    changes: Changes,
    /// Listeners that end with the change.
    going: Vec<ListenerId>,
    /// Where the driver listens for HTTP, if that is new.
    http: Option<SocketAddr>,
    id: ChangeId,
    /// New listeners.
    listeners: Vec<ListenerId>,
    /// Listeners that move unchanged to another socket.
    moving: Vec<(ListenerId, SocketId)>,
    /// Keys of settings that need a restart.
    needs_restart: Vec<String>,
    /// The resulting configuration.
    pub(super) next: Config,
    /// New proxies.
    proxies: Vec<(ProxyId, Box<ProxyConfig>)>,
    /// Listeners that were closed ahead of the change, to make room for others.
    suspended: Vec<ListenerId>,
    /// New recordings.
    tapes: Vec<(ProxyId, Box<dyn Tape>)>,
    /// Answers of the driver to wait for.
    waits_for: usize,
}

impl Reconfiguration {
    /// A broker that works by this configuration.
    pub(super) fn of(config: Config) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }
}

impl Core {
    /// Whether the driver must still open something for a change: see [`Self::poll_action`].
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.reconfiguration.opening.is_some() || !self.deferred.opening.is_empty()
    }

    /// The result of a change, if it is known; only the last one is remembered, and only until it
    /// is taken.
    pub fn take_outcome(&mut self, id: ChangeId) -> Option<ChangeResult> {
        let found = self.reconfiguration.outcome.take_if(|it| it.0 == id);
        found.map(|(_, outcome)| outcome)
    }

    /// The result of the change with which the broker begins.
    pub fn take_first_outcome(&mut self) -> Option<ChangeResult> {
        self.take_outcome(ChangeId(1))
    }

    /// The recording that [`Action::Record`] requests.
    #[must_use]
    pub fn record_config(&self, proxy: ProxyId) -> Option<&RecordConfig> {
        let opening = self.reconfiguration.opening.as_ref()?;
        let name = &self.proxies.get(proxy)?.name;
        opening.next.proxy(name)?.record.as_ref()
    }

    /// The driver has started the recording that [`Action::Record`] requested.
    pub fn handle_recording(&mut self, proxy: ProxyId, tape: Box<dyn Tape>) {
        if let Some(opening) = &mut self.reconfiguration.opening
            && self.proxies.get(proxy).is_some()
        {
            opening.tapes.push((proxy, tape));
            self.change_has_answer();
        }
    }

    /// The driver could not start the recording that [`Action::Record`] requested: the whole change
    /// fails.
    pub fn handle_record_failed(&mut self, proxy: ProxyId, error: OpenError) {
        if self.proxies.get(proxy).is_some() {
            self.fail_change(error.into());
        }
    }

    /// The configuration whose address [`Action::OpenHttp`] requests.
    #[must_use]
    pub fn http_to_open(&self) -> Option<&HttpConfig> {
        let opening = self.reconfiguration.opening.as_ref()?;
        Some(&opening.next.http)
    }

    /// The driver listens as [`Action::OpenHttp`] requested, at this address with its real port.
    pub fn handle_http_open(&mut self, address: SocketAddr) {
        if let Some(opening) = &mut self.reconfiguration.opening {
            opening.http = Some(address);
            self.change_has_answer();
        }
    }

    /// The driver cannot listen as [`Action::OpenHttp`] requested: the whole change fails.
    pub fn handle_http_failed(&mut self, source: io::Error) {
        if let Some(address) = self.http_to_open().and_then(|config| config.address) {
            self.fail_change(ChangeError::Http { address, source });
        }
    }

    /// Begins the change that leads to `next`; those in `later` are left out.
    pub(super) fn begin_change(&mut self, next: Config, later: &Changes) -> ChangeId {
        let changes = diff(&self.reconfiguration.config, &next);
        let state = &mut self.reconfiguration;
        state.count += 1;
        let id = ChangeId(state.count);
        state.outcome = None;
        let mut opening = Opening {
            auxiliaries: Vec::new(),
            blocked: Vec::new(),
            going: self.going(&changes),
            changes,
            http: None,
            id,
            listeners: Vec::new(),
            moving: Vec::new(),
            needs_restart: later.needing_restart(),
            next,
            proxies: Vec::new(),
            suspended: Vec::new(),
            tapes: Vec::new(),
            waits_for: 0,
        };
        for change in std::mem::take(&mut opening.changes.list) {
            self.prepare(&mut opening, &change);
            opening.changes.list.push(change);
        }
        opening.waits_for += opening.listeners.len();
        let is_complete = opening.waits_for == 0;
        self.reconfiguration.opening = Some(opening);
        if is_complete {
            self.complete_change();
        }
        id
    }

    /// Opens what one difference needs.
    fn prepare(&mut self, opening: &mut Opening, change: &Change) {
        match change {
            Change::Bind(at, endpoint) => {
                if let Some(socket) = self.running_socket_at(at) {
                    self.listen(opening, socket, endpoint);
                }
            }
            Change::AuxiliaryAdded(proxy, auxiliary) => {
                if let Some(proxy) = self.running_proxy(proxy) {
                    self.prepare_auxiliary(opening, proxy, auxiliary.name());
                }
            }
            Change::BrokerControl { to, .. } => {
                if let Some(config) = to.proxy() {
                    self.prepare_proxy(opening, &config);
                }
            }
            Change::Http { from, to } if to.address.is_some() && to.address != from.address => {
                opening.waits_for += 1;
                self.deferred.open(Action::OpenHttp);
            }
            Change::ProxyAdded(config) => self.prepare_proxy(opening, config),
            Change::Record { proxy, from, to } => {
                let [before, after] = [from, to].map(|it| it.as_ref().map(|it| &it.path));
                if after.is_some()
                    && before != after
                    && let Some(proxy) = self.running_proxy(proxy)
                {
                    opening.waits_for += 1;
                    self.deferred.open(Action::Record(proxy));
                }
            }
            _ => {}
        }
    }

    /// The listeners that end with these changes.
    fn going(&self, changes: &Changes) -> Vec<ListenerId> {
        let mut going: Vec<ListenerId> = Vec::new();
        for change in &changes.list {
            let removed = match change {
                Change::BrokerControl { .. } => Some(BrokerControl::PROXY),
                Change::ProxyRemoved(name) => Some(&name[..]),
                _ => None,
            };
            match change {
                Change::BrokerControl { .. } | Change::ProxyRemoved(_) => {
                    if let Some(id) = removed.and_then(|name| self.proxy_named(name)) {
                        let sockets = self.proxies[id].sockets();
                        going.extend(sockets.flat_map(|socket| self.listeners(socket)));
                    }
                }
                Change::AuxiliaryRemoved(at) => {
                    let socket = self.socket_at(at).into_iter();
                    going.extend(socket.flat_map(|socket| self.listeners(socket)));
                }
                Change::Unbind(at, endpoint) => {
                    if let Some(socket) = self.socket_at(at) {
                        let mut listeners = self.listeners(socket);
                        going.extend(listeners.find(|id| {
                            !going.contains(id) && self.listeners[*id].endpoint == *endpoint
                        }));
                    }
                }
                _ => {}
            }
        }
        going
    }

    /// Makes a proxy and listens on its endpoints; it connects to none yet.
    fn prepare_proxy(&mut self, opening: &mut Opening, config: &ProxyConfig) {
        let sockets = &mut self.sockets;
        let id = self
            .proxies
            .insert_with(|id| Proxy::new(id, config, sockets));
        opening.proxies.push((id, Box::new(config.clone())));
        self.set_kept(id, config);
        for name in SocketName::ALL {
            if let Some(socket) = self.socket(id, name) {
                self.count_subscriptions(socket);
                for endpoint in &config.socket(name).bind {
                    self.listen(opening, socket, endpoint);
                }
            }
        }
        if config.record.is_some() {
            opening.waits_for += 1;
            self.deferred.open(Action::Record(id));
        }
    }

    /// Listens on an endpoint: through a suitable listener that would end with the change, or
    /// through a new one.
    pub(super) fn listen(&mut self, opening: &mut Opening, socket: SocketId, endpoint: &Endpoint) {
        let options = &self.sockets[socket].options;
        let does_as_well = |id: &ListenerId| {
            let listener = &self.listeners[*id];
            let former = &self.sockets[listener.socket].options;
            listener.endpoint == *endpoint && options.listens_like(former)
        };
        if let Some(index) = opening.going.iter().position(does_as_well) {
            let listener = opening.going.swap_remove(index);
            opening.moving.push((listener, socket));
        } else {
            let listener = self.add_listener(socket, endpoint.clone());
            opening.listeners.push(listener);
        }
    }

    /// A part that the change needs is open, or waits for others.
    pub(super) fn change_has_answer(&mut self) {
        let Some(opening) = &mut self.reconfiguration.opening else {
            return;
        };
        opening.waits_for = opening.waits_for.saturating_sub(1);
        if opening.waits_for > 0 {
            return;
        }
        if opening.blocked.is_empty() {
            self.complete_change();
        } else {
            self.listen_instead();
        }
    }

    /// The system refused an endpoint because another one is bound. If one that goes is in its way,
    /// it is tried again when that one is closed: returns whether that is so.
    pub(super) fn listen_later(&mut self, id: ListenerId) -> bool {
        let Some(opening) = &mut self.reconfiguration.opening else {
            return false;
        };
        let endpoint = &self.listeners[id].endpoint;
        let mut going = opening.going.iter();
        let is_waiting = opening.suspended.is_empty()
            && going.any(|other| self.listeners[*other].may_block(endpoint));
        if is_waiting {
            opening.blocked.push(id);
            self.change_has_answer();
        }
        is_waiting
    }

    /// All parts are open but the endpoints that others block, which go with the change: closes
    /// those, and listens in their place.
    fn listen_instead(&mut self) {
        let Some(opening) = &mut self.reconfiguration.opening else {
            return;
        };
        let blocked = std::mem::take(&mut opening.blocked);
        opening.waits_for = blocked.len();
        for id in &opening.going {
            let listener = &self.listeners[*id];
            let blocks = |other: &ListenerId| listener.may_block(&self.listeners[*other].endpoint);
            if blocked.iter().any(blocks) {
                opening.suspended.push(*id);
                self.deferred.open(Action::StopListening(*id));
            }
        }
        for id in blocked {
            self.deferred.open(Action::Listen(id));
        }
    }

    /// A part that the change needs cannot be opened: reverts the change.
    pub(super) fn fail_change(&mut self, error: ChangeError) {
        let Some(opening) = self.reconfiguration.opening.take() else {
            return;
        };
        for id in opening.listeners {
            self.remove_listener(id);
        }
        let concerns_http = |change: &Change| matches!(change, Change::Http { .. });
        if opening.changes.list.iter().any(concerns_http) {
            self.deferred.withdraw(Action::OpenHttp);
            self.deferred.open(Action::ServeHttp);
        }
        // Once their places are free again.
        for id in opening.suspended {
            self.deferred.open(Action::Listen(id));
        }
        for (_, socket) in opening.auxiliaries {
            self.free_socket(socket);
        }
        for id in self.proxies.handles() {
            self.deferred.withdraw(Action::Record(id));
        }
        for (id, _) in opening.proxies {
            self.free_proxy(id);
        }
        self.reconfiguration.outcome = Some((opening.id, Err(error)));
    }

    /// All parts that the change needs are open: completes it.
    fn complete_change(&mut self) {
        let Some(opening) = self.reconfiguration.opening.take() else {
            return;
        };
        let now = self.clock.now();
        let is_first = opening.id == ChangeId(1);
        for (listener, socket) in &opening.moving {
            self.listeners[*listener].socket = *socket;
        }
        for listener in &opening.listeners {
            self.listeners[*listener].is_open = true;
        }
        let former = std::mem::replace(&mut self.reconfiguration.config, opening.next);
        self.closed_limits = ClosedLimits::of(&self.reconfiguration.config);
        self.set_options(now, &opening.changes);
        let config = &self.reconfiguration.config;
        self.shutdown.set_drain_timeout(config.drain_timeout);
        if config.http != former.http {
            if config.http.address != former.http.address {
                self.reconfiguration.http = opening.http;
            }
            self.deferred.act(Action::ServeHttp);
        }
        let limit = self.reconfiguration.config.memory_limit;
        if limit != former.memory_limit {
            self.set_memory_limit(limit);
        }
        for listener in opening.going {
            if opening.suspended.contains(&listener) {
                self.listeners.remove(listener);
            } else {
                self.remove_listener(listener);
            }
        }
        let added: Vec<ProxyId> = opening.proxies.iter().map(|(id, _)| *id).collect();
        for change in &opening.changes.list {
            if !is_first {
                self.tell(
                    Level::Info,
                    Place::Broker,
                    Facts::default(),
                    &change.to_string(),
                );
            }
            self.make_change(now, change, &added);
        }
        for (proxy, socket) in opening.auxiliaries {
            self.add_auxiliary(proxy, socket);
        }
        self.set_keys(&opening.changes);
        let concerns_roles = |change: &Change| match change {
            Change::Admission { .. } | Change::Role { .. } | Change::User { .. } => true,
            Change::Option { option, .. } => option.name == "invert_matching",
            _ => false,
        };
        if opening.changes.list.iter().any(concerns_roles) {
            self.reassess_peers();
        }
        for (proxy, tape) in opening.tapes {
            self.record(proxy, Some(tape));
        }
        for (id, config) in &opening.proxies {
            self.connect_proxy(*id, config);
        }
        let moved = opening.moving.iter().map(|(listener, _)| *listener);
        let listeners = moved.chain(opening.listeners);
        let applied = Applied {
            bound: listeners.filter_map(|id| self.bound_as(id)).collect(),
            needs_restart: opening.needs_restart,
        };
        self.reconfiguration.outcome = Some((opening.id, Ok(applied)));
    }

    /// Makes one difference, as far as nothing had to be opened for it; `added` are new proxies.
    fn make_change(&mut self, now: Instant, change: &Change, added: &[ProxyId]) {
        match change {
            Change::AuxiliaryRemoved(at) => {
                if let Some(socket) = self.socket_at(at) {
                    self.remove_auxiliary(socket);
                }
            }
            Change::BrokerControl { .. } => {
                if let Some(id) = self.former_proxy(BrokerControl::PROXY, added) {
                    self.remove_proxy(now, id);
                }
            }
            Change::Cache { proxy, .. }
            | Change::CaptureFormat { proxy, .. }
            | Change::CapturePrefix { proxy, .. }
            | Change::Replay { proxy, .. } => {
                if let Some(proxy) = self.proxy_named(proxy) {
                    self.set_observers(proxy);
                }
            }
            Change::Connect(at, connect) => {
                if let Some(socket) = self.running_socket_at(at) {
                    self.add_link(socket, connect);
                }
            }
            Change::Disconnect(at, connect) => {
                if let Some(link) = self.link_at(at, connect) {
                    self.remove_link(link);
                }
            }
            Change::ProxyRemoved(name) => {
                if let Some(id) = self.former_proxy(name, added) {
                    self.remove_proxy(now, id);
                }
            }
            Change::Record { proxy, to, .. } => {
                if let Some(id) = self.proxy_named(proxy) {
                    self.change_recording(id, to.as_deref());
                }
            }
            _ => {}
        }
    }

    /// Connects a new proxy to its endpoints.
    fn connect_proxy(&mut self, id: ProxyId, config: &ProxyConfig) {
        for name in SocketName::ALL {
            if let Some(socket) = self.socket(id, name) {
                self.connect_socket(socket, &config.socket(name).connect);
            }
        }
    }

    /// Connects a new socket to its endpoints.
    pub(super) fn connect_socket(&mut self, socket: SocketId, endpoints: &[Connect]) {
        for connect in endpoints {
            self.add_link(socket, connect);
        }
    }

    /// The proxy with this name, unless it is being removed.
    pub(super) fn proxy_named(&self, name: &str) -> Option<ProxyId> {
        self.former_proxy(name, &[])
    }

    /// The same, unless it has begun to end: such a proxy opens nothing any more.
    fn running_proxy(&self, name: &str) -> Option<ProxyId> {
        let id = self.proxy_named(name)?;
        (self.proxies[id].stop == Stop::No).then_some(id)
    }

    /// The same as [`Self::proxy_named`], except new ones.
    fn former_proxy(&self, name: &str, added: &[ProxyId]) -> Option<ProxyId> {
        let mut proxies = self.proxies.iter();
        let found = proxies
            .find(|(id, proxy)| proxy.name == name && !proxy.is_removed && !added.contains(id));
        found.map(|(id, _)| id)
    }

    /// The socket of this path.
    pub(super) fn socket_at(&self, at: &SocketPath) -> Option<SocketId> {
        self.socket(self.proxy_named(&at.proxy)?, at.socket)
    }

    /// The same, unless its proxy has begun to end.
    fn running_socket_at(&self, at: &SocketPath) -> Option<SocketId> {
        self.socket(self.running_proxy(&at.proxy)?, at.socket)
    }

    /// The link of an endpoint that a socket connects to.
    fn link_at(&self, at: &SocketPath, connect: &Connect) -> Option<LinkId> {
        let socket = self.socket_at(at)?;
        let mut links = self.links.iter();
        let found = links.find(|(_, link)| {
            link.socket == socket && link.connect == *connect && !link.is_removed
        });
        found.map(|(id, _)| id)
    }

    /// Removes a proxy: it sends queued messages, and leaves nothing behind.
    fn remove_proxy(&mut self, now: Instant, id: ProxyId) {
        self.proxies[id].is_removed = true;
        self.leaving.proxies.push(id);
        if self.proxies[id].stop == Stop::No {
            self.stop_proxy(now, id);
        }
        let mut others = self.proxies.iter();
        if others.all(|(_, proxy)| proxy.is_own || proxy.stop != Stop::No) {
            self.deferred.is_stop_asked = true;
        }
    }
}
