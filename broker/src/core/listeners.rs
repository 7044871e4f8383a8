//! Listening endpoints: each has a listener, which the driver opens and closes.

use crate::config::{Endpoint, SocketName, SocketOptions};
use crate::conn::Origin;
use crate::core::events::{Facts, Place};
use crate::core::{Action, Core};
use crate::ids::{ConnId, ListenerId, ProxyId, SocketId};
use crate::peer::PeerAddress;
use crate::reason::CloseReason;
use log::Level;
use std::io;
use std::time::Instant;

/// One listening endpoint.
#[derive(Debug)]
pub(super) struct Listener {
    /// The endpoint with its real port or path, once the driver has opened it.
    pub(super) bound: Option<Endpoint>,
    /// As it was configured.
    pub(super) endpoint: Endpoint,
    /// The change that it was opened for is complete: peers are taken in.
    pub(super) is_open: bool,
    pub(super) socket: SocketId,
}

impl Listener {
    fn bound_endpoint(&self) -> &Endpoint {
        self.bound.as_ref().unwrap_or(&self.endpoint)
    }

    /// Whether it may be the reason why this endpoint is in use: whether two hosts overlap is left
    /// to the system.
    pub(super) fn may_block(&self, endpoint: &Endpoint) -> bool {
        match (self.bound_endpoint(), endpoint) {
            (Endpoint::Tcp { port, .. }, Endpoint::Tcp { port: other, .. }) => port == other,
            (own, other) => own == other,
        }
    }
}

/// One endpoint that the broker listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The endpoint, with the port or the path that was chosen if there was a choice.
    pub endpoint: Endpoint,
    /// The name of the proxy.
    pub proxy: String,
    /// The socket of the proxy.
    pub side: SocketName,
}

/// An endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{proxy} {side}: cannot bind {endpoint}: {source}")]
pub struct ListenError {
    /// The endpoint as it was configured.
    pub endpoint: Box<Endpoint>,
    /// The name of its proxy.
    pub proxy: String,
    /// The socket of the proxy.
    pub side: SocketName,
    /// What the system said.
    pub source: io::Error,
}

impl Core {
    /// The driver has opened what [`Action::Listen`] named, as `endpoint`, which has a real port or
    /// path. Peers that connect to it wait until [`Self::is_opening`] is false.
    pub fn handle_listening(&mut self, id: ListenerId, endpoint: Endpoint) {
        match self.listeners.get_mut(id) {
            Some(listener) => {
                listener.bound = Some(endpoint);
                // One that is open already was closed for a change that has failed.
                if !listener.is_open {
                    self.change_has_answer();
                }
            }
            // The change that it was for has failed.
            None => self.deferred.open(Action::StopListening(id)),
        }
    }

    /// The driver could not open what [`Action::Listen`] named: the change that needs it fails as
    /// a whole.
    pub fn handle_listen_failed(&mut self, id: ListenerId, error: io::Error) {
        let Some(listener) = self.listeners.get(id) else {
            return;
        };
        if listener.is_open {
            return self.lose_listener(id, &error);
        }
        if error.kind() == io::ErrorKind::AddrInUse && self.listen_later(id) {
            return;
        }
        let listener = &self.listeners[id];
        let (proxy, side) = self.names(listener.socket);
        let failure = ListenError {
            endpoint: Box::new(listener.endpoint.clone()),
            proxy: proxy.to_owned(),
            side,
            source: error,
        };
        self.listeners.remove(id);
        self.fail_change(failure.into());
    }

    /// A listener that was closed for a change cannot be opened again after the change has failed:
    /// the configuration loses its endpoint.
    fn lose_listener(&mut self, id: ListenerId, error: &io::Error) {
        let Some(Listener {
            endpoint, socket, ..
        }) = self.listeners.remove(id)
        else {
            return;
        };
        let text = format!(
            "cannot bind {endpoint} again: {error}; peers cannot connect there until a change adds \
             it"
        );
        self.tell(Level::Error, Place::Socket(socket), Facts::default(), &text);
        let (name, side) = self.names(socket);
        let name = name.to_owned();
        if let Some(config) = self.reconfiguration.config.proxy_mut(&name) {
            let bind = &mut config.socket_mut(side).bind;
            if let Some(index) = bind.iter().position(|other| *other == endpoint) {
                bind.remove(index);
            }
            // As a configuration without endpoints for it would have it.
            if !SocketName::SIDES.contains(&side) && !config.socket(side).has_endpoint() {
                self.remove_auxiliary(socket);
            }
        }
    }

    /// A peer connected to an endpoint; `None` if it is to be disconnected: its address may not
    /// connect, or the endpoint is not listened on any more.
    pub fn handle_accepted(
        &mut self,
        now: Instant,
        listener: ListenerId,
        peer: impl Into<PeerAddress>,
    ) -> Option<ConnId> {
        let listener = self.listeners.get(listener);
        let socket = listener.filter(|listener| listener.is_open)?.socket;
        let peer = peer.into();
        if !admits(&self.sockets[socket].options, peer) {
            self.advance(now);
            self.sockets[socket]
                .stats
                .count_close(&CloseReason::AddressRejected);
            self.report_rejected_address(socket, peer);
            return None;
        }
        Some(self.add_conn(now, socket, peer, Origin::Accepted))
    }

    /// The listeners of a socket, in the order of their slots.
    pub fn listeners(&self, socket: SocketId) -> impl Iterator<Item = ListenerId> {
        let listeners = self.listeners.iter();
        listeners
            .filter(move |(_, listener)| listener.socket == socket)
            .map(|(id, _)| id)
    }

    /// The endpoint that a listener is to bind, and the options of its socket. It is as configured;
    /// for a listener that was open before, it has the former port or path.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<(&Endpoint, &SocketOptions)> {
        let listener = self.listeners.get(id)?;
        let socket = &self.sockets[listener.socket];
        Some((listener.bound_endpoint(), &socket.options))
    }

    /// The proxy and the socket of a listener, by name.
    #[must_use]
    pub fn names_of_listener(&self, id: ListenerId) -> Option<(&str, SocketName)> {
        let listener = self.listeners.get(id)?;
        Some(self.names(listener.socket))
    }

    /// What the proxies listen on: these in the order of their slots, and the sockets of each in
    /// the order of [`SocketName::ALL`].
    #[must_use]
    pub fn bound(&self) -> Vec<Bound> {
        let proxies = self.proxies.iter().filter(|(_, proxy)| !proxy.is_own);
        let sockets = proxies.flat_map(|(_, proxy)| proxy.sockets());
        let listeners = sockets.flat_map(|socket| self.listeners(socket));
        listeners.filter_map(|id| self.bound_as(id)).collect()
    }

    /// What one listener listens on, if it is open.
    pub(super) fn bound_as(&self, id: ListenerId) -> Option<Bound> {
        let listener = self.listeners.get(id).filter(|it| it.is_open)?;
        let (proxy, side) = self.names(listener.socket);
        Some(Bound {
            endpoint: listener.bound.clone()?,
            proxy: proxy.to_owned(),
            side,
        })
    }

    /// Asks the driver to open an endpoint.
    pub(super) fn add_listener(&mut self, socket: SocketId, endpoint: Endpoint) -> ListenerId {
        let id = self.listeners.insert_with(|_| Listener {
            bound: None,
            endpoint,
            is_open: false,
            socket,
        });
        self.deferred.open(Action::Listen(id));
        id
    }

    /// Listens on an endpoint no longer. Peers that came through it stay.
    pub(super) fn remove_listener(&mut self, id: ListenerId) {
        let is_there = self.listeners.remove(id).is_some();
        if is_there && !self.deferred.withdraw(Action::Listen(id)) {
            self.deferred.open(Action::StopListening(id));
        }
    }

    /// Listens on no endpoint of a proxy any more.
    pub(super) fn remove_listeners(&mut self, proxy: ProxyId) {
        let sockets = self.proxies[proxy].sockets();
        let listeners: Vec<_> = sockets.flat_map(|socket| self.listeners(socket)).collect();
        for id in listeners {
            self.remove_listener(id);
        }
    }
}

/// Whether a peer may come from this address.
fn admits(options: &SocketOptions, peer: PeerAddress) -> bool {
    let networks = &options.tcp_accept_filter;
    match peer {
        PeerAddress::Tcp(address) if !networks.is_empty() => networks
            .iter()
            .any(|network| network.contains(address.ip())),
        _ => true,
    }
}
