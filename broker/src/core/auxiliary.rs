//! Auxiliary sockets that come and go while the broker runs.

use crate::config::SocketName;
use crate::core::Core;
use crate::core::opening::Opening;
use crate::ids::{LinkId, ProxyId, SocketId};
use crate::proxy::Socket;
use crate::reason::CloseReason;

impl Core {
    /// Makes an auxiliary socket and listens on its endpoints; the proxy does not have it yet.
    pub(super) fn prepare_auxiliary(
        &mut self,
        opening: &mut Opening,
        proxy: ProxyId,
        name: SocketName,
    ) {
        let Some(config) = opening.next.proxy(&self.proxies[proxy].name) else {
            return;
        };
        let config = config.clone();
        let sockets = &mut self.sockets;
        let socket = sockets.insert_with(|id| Socket::new(id, proxy, name, &config));
        opening.auxiliaries.push((proxy, socket));
        self.count_subscriptions(socket);
        for endpoint in &config.socket(name).bind {
            self.listen(opening, socket, endpoint);
        }
    }

    /// Gives a proxy the socket that [`Self::prepare_auxiliary`] made.
    pub(super) fn add_auxiliary(&mut self, id: ProxyId, socket: SocketId) {
        let name = self.sockets[socket].name;
        let proxy = &mut self.proxies[id];
        proxy.set_auxiliary(name, Some(socket));
        self.set_observers(id);
        let config = self.reconfiguration.config.proxy(&self.proxies[id].name);
        let connects = config.map(|config| config.socket(name).connect.clone());
        self.connect_socket(socket, &connects.unwrap_or_default());
    }

    /// Takes an auxiliary socket from its proxy. The peers are closed, and the socket goes with the
    /// last of them.
    pub(super) fn remove_auxiliary(&mut self, socket: SocketId) {
        let Socket { name, proxy, .. } = self.sockets[socket];
        let own = &mut self.proxies[proxy];
        own.set_auxiliary(name, None);
        self.set_observers(proxy);
        let links = self.links.iter();
        let links: Vec<LinkId> = links
            .filter(|(_, link)| link.socket == socket && !link.is_removed)
            .map(|(id, _)| id)
            .collect();
        for link in links {
            self.remove_link(link);
        }
        self.close_all_later(CloseReason::SocketRemoved, |conn| conn.socket == socket);
        self.leaving.sockets.push(socket);
        // Messages may have waited for a reader of the capture.
        self.wake_both(proxy);
    }

    /// What a proxy does with its messages beside passing them on becomes as in the running
    /// configuration.
    pub(super) fn set_observers(&mut self, id: ProxyId) {
        let proxy = &mut self.proxies[id];
        if let Some(config) = self.reconfiguration.config.proxy(&proxy.name) {
            let capture = proxy.capture;
            let readers = capture.map_or(0, |capture| self.sockets[capture].peers);
            proxy.observers.set_config(config, readers);
            let config = config.clone();
            self.set_kept(id, &config);
        }
    }
}
