//! Changes of the configuration of a running broker.
//!
//! A change is made as a whole or not at all. What it adds is opened first: the core makes new
//! proxies and listeners, and the driver binds the endpoints. When all of them are open, the rest
//! follows in one step: options, endpoints that go, proxies that go, links. If one cannot be
//! opened, everything that was opened for the change is closed again. A broker begins with a change
//! from the empty configuration.

use crate::config::{
    Attach, Change, Changes, Config, Connect, Endpoint, Misfit, Place, Problem, ProxyConfig,
    SocketName, SocketOption, SocketPath, Value, diff,
};
use crate::core::admin::Admin;
use crate::core::closed::ClosedLimits;
use crate::core::{Action, Bound, Core, ListenError};
use crate::ids::{LinkId, ListenerId, ProxyId, SocketId};
use crate::proxy::{Proxy, Stop};
use crate::record::{OpenError, RecordConfig, Tape};
use std::time::Instant;

/// A change that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the result follows"]
pub struct ChangeId(u64);

/// The effect of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The endpoints that the broker listens on for new or changed sockets, each with its real
    /// port or path.
    pub bound: Vec<Bound>,
    /// The keys of the settings that need a restart, and were left out.
    pub needs_restart: Vec<String>,
}

/// Why a change was not made. The configuration has not changed then.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Another change is in progress.
    #[error("another change is in progress: wait for its result")]
    Busy,
    /// The resulting configuration would be illegal.
    #[error("the new configuration is illegal: {0}")]
    Illegal(#[from] Problem),
    /// An endpoint could not be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The change does not fit the configuration.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A capture or control cannot be added or removed while the broker runs, nor can other keys of
    /// a proxy; with the key.
    #[error("{0} cannot be added or removed while the broker runs: restart it")]
    NeedsRestart(String),
    /// No proxy of this broker has this handle.
    #[error("no proxy of this broker has this id: ask for the proxies")]
    NoSuchProxy,
    /// A recording could not be begun.
    #[error(transparent)]
    Record(#[from] OpenError),
    /// The broker is stopping.
    #[error("the broker is stopping: start it again with the new configuration")]
    Stopping,
}

/// The result of a change.
pub type ChangeResult = Result<Applied, ChangeError>;

/// The running configuration, and the change in progress.
#[derive(Debug, Default)]
pub(super) struct Reconfiguration {
    /// The running configuration.
    pub(super) config: Config,
    /// The number of changes begun.
    count: u64,
    opening: Option<Opening>,
    /// The result of the last change, until it is taken.
    outcome: Option<(ChangeId, ChangeResult)>,
}

/// A change that has not been made yet: the driver opens what it needs.
#[derive(Debug)]
struct Opening {
    changes: Changes,
    /// Listeners that end with the change.
    going: Vec<ListenerId>,
    id: ChangeId,
    /// New listeners.
    listeners: Vec<ListenerId>,
    /// Listeners that move unchanged to another socket.
    moving: Vec<(ListenerId, SocketId)>,
    /// Keys of settings that need a restart.
    needs_restart: Vec<String>,
    /// The resulting configuration.
    next: Config,
    /// New proxies.
    proxies: Vec<(ProxyId, Box<ProxyConfig>)>,
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
        let mut proxies = opening.proxies.iter();
        let (_, config) = proxies.find(|(id, _)| *id == proxy)?;
        config.record.as_ref()
    }

    /// The driver has started the recording that [`Action::Record`] requested.
    pub fn handle_recording(&mut self, proxy: ProxyId, tape: Box<dyn Tape>) {
        if self.proxies.get(proxy).is_some() {
            self.record(proxy, tape);
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

    /// Begins the change that leads to `next`; those in `later` are left out.
    pub(super) fn begin_change(&mut self, next: Config, later: &Changes) -> ChangeId {
        let changes = diff(&self.reconfiguration.config, &next);
        let state = &mut self.reconfiguration;
        state.count += 1;
        let id = ChangeId(state.count);
        state.outcome = None;
        let mut opening = Opening {
            going: self.going(&changes),
            changes,
            id,
            listeners: Vec::new(),
            moving: Vec::new(),
            needs_restart: later.needing_restart(),
            next,
            proxies: Vec::new(),
            waits_for: 0,
        };
        for change in std::mem::take(&mut opening.changes.list) {
            match &change {
                Change::Bind(at, endpoint) => {
                    if let Some(socket) = self.socket_at(at) {
                        self.listen(&mut opening, socket, endpoint);
                    }
                }
                Change::ProxyAdded(config) => self.prepare_proxy(&mut opening, config),
                _ => {}
            }
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

    /// The listeners that end with these changes.
    fn going(&self, changes: &Changes) -> Vec<ListenerId> {
        let mut going: Vec<ListenerId> = Vec::new();
        for change in &changes.list {
            match change {
                Change::ProxyRemoved(name) => {
                    if let Some(id) = self.proxy_named(name) {
                        let sockets = self.proxies[id].sockets();
                        going.extend(sockets.flat_map(|socket| self.listeners(socket)));
                    }
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
        for name in SocketName::ALL {
            if let Some(socket) = self.socket(id, name) {
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
    fn listen(&mut self, opening: &mut Opening, socket: SocketId, endpoint: &Endpoint) {
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

    /// A part that the change needs is open.
    pub(super) fn change_has_answer(&mut self) {
        if let Some(opening) = &mut self.reconfiguration.opening {
            opening.waits_for = opening.waits_for.saturating_sub(1);
            if opening.waits_for == 0 {
                self.complete_change();
            }
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
        for (id, _) in opening.proxies {
            self.deferred.withdraw(Action::Record(id));
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
        let have_changed = (&former.roles, &former.users) != (&config.roles, &config.users);
        let concerns_roles = |change: &Change| match change {
            Change::Option { option, .. } => option.name == "invert_matching",
            _ => false,
        };
        if have_changed || opening.changes.list.iter().any(concerns_roles) {
            self.reassess_peers();
        }
        let config = &self.reconfiguration.config;
        self.shutdown.set_drain_timeout(config.drain_timeout);
        let limit = config.memory_limit;
        if limit != former.memory_limit {
            self.set_memory_limit(limit);
        }
        for listener in opening.going {
            self.remove_listener(listener);
        }
        for change in &opening.changes.list {
            if !is_first {
                log::info!("{change}");
            }
            match change {
                Change::Connect(at, connect) => {
                    if let Some(socket) = self.socket_at(at) {
                        self.add_link(socket, connect);
                    }
                }
                Change::Disconnect(at, connect) => {
                    if let Some(link) = self.link_at(at, connect) {
                        self.remove_link(link);
                    }
                }
                Change::ProxyRemoved(name) => {
                    let added: Vec<ProxyId> = opening.proxies.iter().map(|(id, _)| *id).collect();
                    if let Some(id) = self.former_proxy(name, &added) {
                        self.remove_proxy(now, id);
                    }
                }
                _ => {}
            }
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

    /// Connects a new proxy to its endpoints.
    fn connect_proxy(&mut self, id: ProxyId, config: &ProxyConfig) {
        for name in SocketName::ALL {
            if let Some(socket) = self.socket(id, name) {
                for connect in &config.socket(name).connect {
                    self.add_link(socket, connect);
                }
            }
        }
    }

    /// The proxy with this name, unless it is being removed.
    pub(super) fn proxy_named(&self, name: &str) -> Option<ProxyId> {
        self.former_proxy(name, &[])
    }

    /// The same, except new ones.
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
        if others.all(|(_, proxy)| proxy.stop != Stop::No) {
            self.deferred.is_stop_asked = true;
        }
    }
}

/// Changes of the configuration. Each begins at once, and is completed once the driver has opened
/// what it needs: [`crate::Handle::change`] and [`crate::Broker::change`] wait for the result.
impl Admin<'_> {
    /// The running configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.core.reconfiguration.config
    }

    /// The endpoints that the broker listens on, each with its real port or path.
    #[must_use]
    pub fn bound(&self) -> Vec<Bound> {
        self.core.bound()
    }

    /// Makes all changes that need no restart, or none of them: [`diff`] finds the changes that
    /// lead from [`Self::config`] to another configuration. New endpoints are bound before old
    /// ones are closed.
    ///
    /// # Errors
    /// The change was not begun: [`ChangeError`] says why.
    pub fn apply(&mut self, changes: &Changes) -> Result<ChangeId, ChangeError> {
        let core = &mut *self.core;
        if core.reconfiguration.opening.is_some() {
            return Err(ChangeError::Busy);
        }
        if core.shutdown.stop() != Stop::No || core.deferred.is_stop_asked {
            return Err(ChangeError::Stopping);
        }
        let mut next = core.reconfiguration.config.clone();
        changes.apply_to(&mut next)?;
        next.check()?;
        let found = diff(&core.reconfiguration.config, &next);
        if let Some(key) = found.needing_restart().into_iter().next() {
            return Err(ChangeError::NeedsRestart(key));
        }
        core.charge_walk();
        Ok(core.begin_change(next, changes))
    }

    /// Adds a proxy.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn add_proxy(&mut self, config: ProxyConfig) -> Result<ChangeId, ChangeError> {
        self.apply_one(Change::ProxyAdded(Box::new(config)))
    }

    /// Removes a proxy: it accepts no more peers, sends queued messages within the drain timeout
    /// and the linger of its sockets, and leaves nothing behind. The last proxy stays: stop the
    /// broker instead.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn remove_proxy(&mut self, id: ProxyId) -> Result<ChangeId, ChangeError> {
        let name = self.name_of(id)?;
        self.apply_one(Change::ProxyRemoved(name))
    }

    /// Listens on another endpoint, or connects to another.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn attach(
        &mut self,
        proxy: ProxyId,
        socket: SocketName,
        attach: Attach,
        endpoint: Endpoint,
    ) -> Result<ChangeId, ChangeError> {
        let at = self.path(proxy, socket)?;
        self.apply_one(match attach {
            Attach::Bind => Change::Bind(at, endpoint),
            Attach::Connect => Change::Connect(at, endpoint.into()),
        })
    }

    /// Reverts [`Self::attach`]. An endpoint to listen on may be given with its real port or path;
    /// its peers stay connected. A connection to an endpoint is closed; messages queued for its
    /// peer go to other peers if any peer may get them.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn detach(
        &mut self,
        proxy: ProxyId,
        socket: SocketName,
        attach: Attach,
        endpoint: &Endpoint,
    ) -> Result<ChangeId, ChangeError> {
        let at = self.path(proxy, socket)?;
        let core = &*self.core;
        let change = match attach {
            Attach::Bind => {
                let listeners = core.socket_at(&at).into_iter();
                let mut listeners = listeners.flat_map(|socket| core.listeners(socket));
                let is_it = |id: &ListenerId| {
                    core.listeners[*id].bound.as_ref() == Some(endpoint)
                        || core.listeners[*id].endpoint == *endpoint
                };
                let found = listeners.find(is_it);
                let configured = found.map(|id| core.listeners[id].endpoint.clone());
                Change::Unbind(at, configured.unwrap_or_else(|| endpoint.clone()))
            }
            Attach::Connect => {
                let config = self.config().proxies.iter();
                let mut sockets = config
                    .filter(|config| config.name == at.proxy)
                    .map(|config| config.socket(socket));
                let connects = sockets.next().map(|socket| &socket.connect[..]);
                let mut connects = connects.unwrap_or_default().iter();
                let found = connects.find(|connect| connect.endpoint == *endpoint);
                let connect = found.cloned();
                Change::Disconnect(at, connect.unwrap_or_else(|| endpoint.clone().into()))
            }
        };
        self.apply_one(change)
    }

    /// Sets an option of a socket. [`Applied::needs_restart`] tells if that has no effect yet.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn set_option(
        &mut self,
        proxy: ProxyId,
        socket: SocketName,
        option: &'static SocketOption,
        to: Value,
    ) -> Result<ChangeId, ChangeError> {
        let at = self.path(proxy, socket)?;
        let mut next = self.config().clone();
        let mut proxies = next.proxies.iter_mut().enumerate();
        let Some((index, config)) = proxies.find(|(_, config)| config.name == at.proxy) else {
            return Err(ChangeError::NoSuchProxy);
        };
        option
            .set(&mut config.socket_mut(socket).options, to)
            .map_err(|error| Problem {
                fault: error.into(),
                place: Place::Socket(index, socket),
            })?;
        let changes = diff(self.config(), &next);
        self.apply(&changes)
    }

    fn apply_one(&mut self, change: Change) -> Result<ChangeId, ChangeError> {
        self.apply(&Changes { list: vec![change] })
    }

    fn name_of(&self, id: ProxyId) -> Result<String, ChangeError> {
        let proxy = self.core.proxies.get(id).filter(|it| !it.is_removed);
        Ok(proxy.ok_or(ChangeError::NoSuchProxy)?.name.clone())
    }

    fn path(&self, id: ProxyId, socket: SocketName) -> Result<SocketPath, ChangeError> {
        Ok(SocketPath {
            proxy: self.name_of(id)?,
            socket,
        })
    }
}
