//! Peers that wait for the identities of others.

use super::Node;
use crate::context::Context;
use broker::view::{PageQuery, PeerFilter};
use broker::{ConnId, ProxyId};
use std::time::Instant;

impl Node {
    /// The core was called, and is closing these connections.
    pub(super) fn called(&mut self, ctx: &mut Context, now: Instant, closing: &[ConnId]) {
        self.settle_contests(ctx, now);
        self.model.check_contests();
        self.model.called(&self.core, closing);
    }

    /// Learns which of the peers that wait for identities have got them.
    fn settle_contests(&mut self, ctx: &mut Context, now: Instant) {
        for id in self.model.contests.clone() {
            let Some(proxy) = self.proxy_of(id) else {
                continue;
            };
            let filter = PeerFilter {
                id: Some(id),
                ..PeerFilter::default()
            };
            let page = self.admin(now).peers(proxy, &filter, &PageQuery::default());
            let page = page.expect("it is configured");
            if page.items.iter().any(|peer| peer.is_ready) {
                ctx.coverage.add("identities given up", 1);
                self.model.came_in(id);
            }
        }
    }

    /// A peer is closed, perhaps one that waits for an identity.
    pub(super) fn turn_away(&mut self, ctx: &mut Context, now: Instant, id: ConnId) {
        if !self.model.contests.contains(&id) {
            return;
        }
        let filter = PeerFilter {
            id: Some(id),
            ..PeerFilter::default()
        };
        let proxy = self.proxy_of(id);
        let page = proxy.and_then(|proxy| {
            let mut admin = self.admin(now);
            admin
                .closed_peers(proxy, &filter, &PageQuery::default())
                .ok()
        });
        let closed = page.iter().flat_map(|page| &page.items).next();
        let why = closed.map(|closed| closed.reason);
        ctx.coverage.add("identities kept", 1);
        self.model.turned_away(id, why);
    }

    fn proxy_of(&self, id: ConnId) -> Option<ProxyId> {
        let proxy = self.model.mirrors[&id].socket.proxy;
        self.proxies[proxy as usize]
    }
}
