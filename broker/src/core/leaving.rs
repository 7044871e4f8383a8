//! Proxies, auxiliary sockets and links that were removed from the configuration: each stays as
//! long as one of its connections, and leaves nothing behind.

use crate::conn::{Origin, Overflowing};
use crate::core::Core;
use crate::ids::{LinkId, ProxyId, SocketId};
use crate::pattern::Pattern;
use crate::proxy::Stop;
use crate::reason::DropReason;
use std::collections::BTreeSet;

/// Removed proxies, auxiliary sockets and links that still have connections.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) links: Vec<LinkId>,
    pub(super) proxies: Vec<ProxyId>,
    pub(super) sockets: Vec<SocketId>,
}

impl Leaving {
    pub(super) fn len(&self) -> usize {
        self.links.len() + self.proxies.len() + self.sockets.len()
    }
}

impl Core {
    /// Frees what was removed and has no connections.
    pub(super) fn free_what_left(&mut self) {
        if self.leaving.len() == 0 {
            return;
        }
        self.charge_walk();
        let (mut links, mut proxies) = (BTreeSet::new(), BTreeSet::new());
        let mut sockets = BTreeSet::new();
        let open = self.conns.iter();
        let open = open.map(|(_, conn)| (conn.origin, conn.proxy, conn.socket));
        let closing = self.conns.closing();
        let closing = closing.map(|(_, it)| (it.origin, it.proxy, it.socket));
        for (origin, proxy, socket) in open.chain(closing) {
            proxies.insert(proxy);
            sockets.insert(socket);
            if let Origin::Dialled(link) = origin {
                links.insert(link);
            }
        }
        let is_over = |id: &ProxyId| self.proxies[*id].stop == Stop::Closing;
        let leaving = self.leaving.proxies.iter().copied();
        let gone: Vec<ProxyId> = leaving
            .filter(|id| is_over(id) && !proxies.contains(id))
            .collect();
        let leaving = self.leaving.links.iter().copied();
        let ended: Vec<LinkId> = leaving.filter(|id| !links.contains(id)).collect();
        let leaving = self.leaving.sockets.iter().copied();
        let freed: Vec<SocketId> = leaving.filter(|id| !sockets.contains(id)).collect();
        self.leaving.proxies.retain(|id| !gone.contains(id));
        self.leaving.sockets.retain(|id| !freed.contains(id));
        self.leaving.links.retain(|id| !ended.contains(id));
        for id in ended {
            self.free_link(id);
        }
        for id in freed {
            self.log_missed(id);
            self.free_socket(id);
        }
        for id in gone {
            self.free_proxy(id);
        }
    }

    /// Frees a link without a connection.
    fn free_link(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(id) else {
            return;
        };
        self.timers.forget_link(id);
        self.deferred.absent.retain(|other| *other != id);
        if let Pattern::Xsub(xsub) = &mut self.sockets[link.socket].pattern {
            xsub.remove_filter(link.filter);
            self.count_subscriptions(link.socket);
        }
    }

    /// Frees a proxy without connections.
    pub(super) fn free_proxy(&mut self, id: ProxyId) {
        self.log_sums(id);
        let mut sockets: Vec<SocketId> = self.proxies[id].sockets().collect();
        let is_its = |socket: &mut SocketId| self.sockets[*socket].proxy == id;
        sockets.extend(self.leaving.sockets.extract_if(.., is_its));
        for socket in &sockets {
            self.log_missed(*socket);
        }
        self.remove_listeners(id);
        let links = self.links.iter();
        let own = links.filter(|(_, link)| sockets.contains(&link.socket));
        let own: Vec<LinkId> = own.map(|(link, _)| link).collect();
        for link in own {
            self.leaving.links.retain(|other| *other != link);
            self.free_link(link);
        }
        for socket in &sockets {
            self.free_socket(*socket);
        }
        self.end_topic_counts(id);
        self.keeping.retain(|proxy| *proxy != id);
        self.recorded.retain(|proxy| *proxy != id);
        self.pending.forget(id);
        self.timers.forget_proxy(id);
        self.proxies.remove(id);
    }

    /// All messages that were dropped, also by sockets that were removed. Answers of the control of
    /// the broker are not messages.
    pub(super) fn dropped_messages(&self) -> u64 {
        let sockets = self.sockets.iter().map(|(_, socket)| socket);
        let sockets = sockets.filter(|socket| !self.proxies[socket.proxy].is_own);
        let present: u64 = sockets.flat_map(|socket| socket.stats.drops).sum();
        self.dropped_before + present
    }

    pub(super) fn free_socket(&mut self, id: SocketId) {
        let socket = &mut self.sockets[id];
        socket.shed_orphaned(DropReason::Stopping, &mut self.outbox.store);
        self.memory.closed -= socket.closed.memory();
        self.pending.subtract(socket.subscription_bytes);
        if !self.proxies[socket.proxy].is_own {
            self.dropped_before += socket.stats.drops.iter().sum::<u64>();
        }
        self.deferred.forget(id);
        let overflowing = &mut self.conns.overflowing;
        overflowing.retain(|it| !matches!(it, Overflowing::Socket(socket) if *socket == id));
        self.sockets.remove(id);
    }
}
