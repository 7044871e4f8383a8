//! A recount of the memory that peers have caused, from everything that exists. Tests compare it
//! with the account.

use crate::conn::egress::walk::Walk;
use crate::core::Core;
use crate::core::listeners::Listener;
use crate::core::memory::MemoryUse;
use crate::core::timers::Owner;
use crate::ids::{ConnId, LinkId, ProxyId, SocketId};
use crate::limits::{CODER_MEMORY, CONNECTION_MEMORY, PERMIT_MEMORY, ZAP_REQUEST_MEMORY};
use crate::proxy::Socket;
use crate::proxy::observers::KeptMemory;
use crate::sort;
use zmtp::SocketType;

impl Core {
    /// The value that [`Self::memory`] must have between two turns. Visits every connection, queue,
    /// message and table.
    #[doc(hidden)]
    #[must_use]
    pub fn walk_memory(&self) -> MemoryUse {
        let mut found = MemoryUse {
            closed: self.events.walk() + self.refusals.memory(),
            ..MemoryUse::default()
        };
        let mut walk = Walk::default();
        for (_, conn) in self.conns.iter() {
            found.connections += CONNECTION_MEMORY;
            if conn.opener.is_some() {
                found.connections += CODER_MEMORY;
            }
            if conn.permit.is_some() {
                found.connections += PERMIT_MEMORY;
            }
            found.inputs += conn.tail.memory(conn.need);
            walk.visit(&conn.egress);
        }
        found.connections += self.walk_requests() * ZAP_REQUEST_MEMORY + self.walk_passwords();
        found.connections += self.reload.walk() + self.watches.walk();
        let proxies = self.proxies.iter();
        found.connections += proxies.map(|(_, it)| it.observers.memory()).sum::<u64>();
        for (_, closing) in self.conns.closing() {
            found.connections += CONNECTION_MEMORY;
            walk.visit(&closing.egress);
        }
        for (_, socket) in self.sockets.iter() {
            found.closed += socket.closed.memory();
            found.subscriptions += socket.pattern.walk_subscriptions();
            if let Some(unsent) = socket.pattern.orphaned() {
                walk.visit_unsent(unsent);
            }
        }
        let mut kept = KeptMemory::default();
        for (_, proxy) in self.proxies.iter() {
            kept = kept.add(proxy.observers.walk_kept());
            let cache = proxy.observers.cache().into_iter();
            for block in cache.flat_map(|cache| cache.shared()) {
                walk.visit_shared(block);
            }
        }
        walk.visit_store(&self.outbox.store);
        found.connections += kept.requests;
        found.kept = kept.messages + kept.shared;
        found.queues = walk.total() - kept.shared;
        found.subscriptions += kept.wishes;
        found
    }

    /// How many entries there are in everything that knows proxies, sockets, links or listeners by
    /// their ids. A proxy or endpoint that was removed leaves none behind.
    #[doc(hidden)]
    #[must_use]
    pub fn walk_tables(&self) -> [(&'static str, usize); 7] {
        [
            ("proxies", self.proxies.len()),
            ("sockets", self.sockets.len()),
            ("links", self.links.len()),
            ("listeners", self.listeners.len()),
            ("recordings", self.recorded.len()),
            ("leaving", self.leaving.len()),
            ("leaving sockets", self.leaving.sockets.len()),
        ]
    }

    /// All that the configuration determines, in an order of its own: two brokers with the same
    /// configuration are described by the same lines, whatever has happened to them.
    #[doc(hidden)]
    #[must_use]
    pub fn walk_configured(&self) -> Vec<String> {
        let place = |socket: SocketId| {
            let (proxy, side) = self.names(socket);
            format!("{proxy} {side}")
        };
        let sockets = self.sockets.iter().map(|(id, socket)| {
            let Socket {
                admission,
                linger,
                options,
                session,
                ..
            } = socket;
            format!(
                "{}: {options:?} {admission:?} {session:?} {linger:?}",
                place(id)
            )
        });
        let listeners = self.listeners.iter().map(|(_, listener)| {
            let Listener {
                bound,
                endpoint,
                is_open,
                socket,
            } = listener;
            format!(
                "{} listens at {endpoint}: {bound:?} {is_open}",
                place(*socket)
            )
        });
        let links = self.links.iter().map(|(_, link)| {
            format!(
                "{} connects to {:?}: {}",
                place(link.socket),
                link.connect,
                link.filter
            )
        });
        let proxies = self
            .proxies
            .iter()
            .map(|(_, proxy)| format!("{}: {:?}", proxy.name, proxy.observers.configured()));
        let mut lines: Vec<String> = sockets
            .chain(listeners)
            .chain(links)
            .chain(proxies)
            .collect();
        sort::by(&mut lines, &mut Ord::cmp);
        lines
    }

    /// The types of socket that the peer of a connection may have.
    #[doc(hidden)]
    #[must_use]
    pub fn walk_peer_types(&self, id: ConnId) -> &'static [SocketType] {
        let socket = self.conns.get(id).map(|conn| &self.sockets[conn.socket]);
        socket.map_or(&[], |socket| socket.session.socket_type.peers())
    }

    /// Ids that are remembered though what they named is gone; none between two turns.
    #[doc(hidden)]
    #[must_use]
    pub fn walk_stale_ids(&self) -> usize {
        let is_link = |id: &LinkId| self.links.get(*id).is_some();
        let is_proxy = |id: &ProxyId| self.proxies.get(*id).is_some();
        let links = self.deferred.absent.iter().filter(|id| !is_link(id));
        let proxies = self.pending.proxies().chain(&self.recorded);
        let proxies = proxies.chain(&self.keeping);
        let proxies = proxies.filter(|id| !is_proxy(id));
        let sockets = self.deferred.sockets();
        let sockets = sockets.filter(|id| self.sockets.get(**id).is_none());
        let timers = self.timers.owners().filter(|owner| match owner {
            Owner::Link(id) => !is_link(id),
            Owner::Reports(id) | Owner::Sample(id) => !is_proxy(id),
            _ => false,
        });
        links.count() + proxies.count() + sockets.count() + timers.count()
    }
}
