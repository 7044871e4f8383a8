//! Captures and controls that come and go while the broker runs.

use crate::config::{ProxyConfig, SocketName};
use crate::core::Core;
use crate::core::opening::Opening;
use crate::ids::{ConnId, LinkId, ProxyId, SocketId};
use crate::proxy::Socket;
use crate::reason::CloseReason;

impl Core {
    /// Makes a socket for a capture or control and listens on its endpoints; the proxy does not
    /// have it yet.
    pub(super) fn prepare_auxiliary(
        &mut self,
        opening: &mut Opening,
        proxy: ProxyId,
        name: SocketName,
    ) {
        let mut configs = opening.next.proxies.iter();
        let Some(config) = configs.find(|config| config.name == self.proxies[proxy].name) else {
            return;
        };
        let config = config.clone();
        let sockets = &mut self.sockets;
        let socket = sockets.insert_with(|id| Socket::new(id, proxy, name, &config));
        opening.auxiliaries.push((proxy, socket));
        for endpoint in &config.socket(name).bind {
            self.listen(opening, socket, endpoint);
        }
    }

    /// Gives a proxy the socket that [`Self::prepare_auxiliary`] made.
    pub(super) fn add_auxiliary(&mut self, id: ProxyId, socket: SocketId) {
        let name = self.sockets[socket].name;
        let Some(config) = self.config_of(&self.proxies[id].name).cloned() else {
            return;
        };
        let proxy = &mut self.proxies[id];
        if name == SocketName::Capture {
            proxy.capture = Some(socket);
        } else {
            proxy.control = Some(socket);
        }
        proxy.observers.set_config(&config, 0);
        self.connect_socket(socket, &config.socket(name).connect);
    }

    /// Takes its capture or control from a proxy. The peers are closed, and the socket goes with
    /// the last of them.
    pub(super) fn remove_auxiliary(&mut self, socket: SocketId) {
        let Socket { name, proxy, .. } = self.sockets[socket];
        let Some(config) = self.config_of(&self.proxies[proxy].name).cloned() else {
            return;
        };
        let own = &mut self.proxies[proxy];
        if name == SocketName::Capture {
            own.capture = None;
            own.observers.set_config(&config, 0);
        } else {
            own.control = None;
            let readers = own.capture.map_or(0, |capture| self.sockets[capture].peers);
            own.observers.set_config(&config, readers);
        }
        let links = self.links.iter();
        let links: Vec<LinkId> = links
            .filter(|(_, link)| link.socket == socket && !link.is_removed)
            .map(|(id, _)| id)
            .collect();
        for link in links {
            self.remove_link(link);
        }
        let conns = self.conns.iter();
        let conns: Vec<ConnId> = conns
            .filter(|(_, conn)| conn.socket == socket)
            .map(|(id, _)| id)
            .collect();
        for conn in conns {
            self.close_later(conn, CloseReason::SocketRemoved);
        }
        self.leaving.sockets.push(socket);
        // Messages may have waited for a reader of the capture.
        self.wake_both(proxy);
    }

    /// The copies of a proxy's messages take the form of the running configuration.
    pub(super) fn set_capture_form(&mut self, name: &str) {
        let (Some(id), Some(config)) = (self.proxy_named(name), self.config_of(name).cloned())
        else {
            return;
        };
        let proxy = &mut self.proxies[id];
        let readers = proxy
            .capture
            .map_or(0, |capture| self.sockets[capture].peers);
        proxy.observers.set_config(&config, readers);
    }

    /// The running configuration of the proxy with this name.
    pub(super) fn config_of(&self, name: &str) -> Option<&ProxyConfig> {
        let mut proxies = self.reconfiguration.config.proxies.iter();
        proxies.find(|config| config.name == name)
    }
}
