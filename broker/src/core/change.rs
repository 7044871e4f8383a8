//! Changes of the configuration of a running broker.
//!
//! A change is made as a whole or not at all: `opening.rs` opens what it needs, then makes it. A
//! broker begins with a change from the empty configuration.

use crate::config::{
    Attach, Change, Changes, Config, Endpoint, Fault, HttpAddress, Misfit, Place, Problem,
    ProxyConfig, SocketName, SocketOption, SocketPath, Value, diff,
};
use crate::core::admin::Admin;
use crate::core::{Bound, ListenError};
use crate::ids::{ListenerId, ProxyId};
use crate::proxy::Stop;
use crate::record::OpenError;
use std::io;
use std::net::SocketAddr;

/// A change that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "the result follows"]
pub struct ChangeId(pub(super) u64);

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
    /// The address for HTTP could not be opened.
    #[error("cannot listen on http://{address}: {source}")]
    Http {
        /// The address.
        address: HttpAddress,
        /// The reason of the system.
        source: io::Error,
    },
    /// The resulting configuration would be illegal.
    #[error("the new configuration is illegal: {0}")]
    Illegal(#[from] Problem),
    /// An endpoint could not be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The change does not fit the configuration.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// No proxy of this broker has this handle.
    #[error("no proxy of this broker has this id: ask for the proxies")]
    NoSuchProxy,
    /// A proxy began to end before the change was complete, as a peer of its control demanded.
    #[error("the proxy {0} began to stop: make the change again")]
    ProxyStopping(String),
    /// A recording could not be begun.
    #[error(transparent)]
    Record(#[from] OpenError),
    /// The broker is stopping.
    #[error("the broker is stopping: start it again with the new configuration")]
    Stopping,
}

/// The result of a change.
pub type ChangeResult = Result<Applied, ChangeError>;

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

    /// The address at which HTTP is served, with the real port; `None` if it is off.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.core.reconfiguration.http
    }

    /// Makes all changes that need no restart, or none of them: [`diff`] finds the changes that
    /// lead from [`Self::config`] to another configuration. New endpoints are bound before old
    /// ones are closed; one that the system refuses because an old one is in its way is bound last,
    /// at the moment when the old one closes.
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

    /// Listens on another endpoint, or connects to another. With its first endpoint, a proxy gets a
    /// capture or control.
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

    /// Reverts [`Self::attach`]. With its last endpoint, a capture or control goes. An endpoint to
    /// listen on may be given with its real port or path;
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
                let config = self.config().proxy(&at.proxy);
                let connects = config.map(|config| &config.socket(socket).connect[..]);
                let mut connects = connects.unwrap_or_default().iter();
                let found = connects.find(|connect| connect.endpoint == *endpoint);
                let connect = found.cloned();
                Change::Disconnect(at, connect.unwrap_or_else(|| endpoint.clone().into()))
            }
        };
        self.apply_one(change)
    }

    /// Sets an option of a socket. [`Applied::needs_restart`] tells if that has no effect yet. An
    /// option that names a key file is refused: read the keys with [`Config::load_keys`], and
    /// [`Self::apply`] the differences.
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
        let place = Place::Socket(index, socket);
        if option.names_keys() {
            let fault = Fault::KeysNotLoaded;
            return Err(Problem { fault, place }.into());
        }
        option
            .set(&mut config.socket_mut(socket).options, to)
            .map_err(|error| Problem {
                fault: error.into(),
                place,
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
