//! Peers about which the program decides before they come in.

use super::Node;
use crate::context::{Context, MILLISECOND};
use broker::config::{Admission, SocketName};
use broker::view::PageQuery;
use broker::{ConnId, ProxyId};
use std::time::Instant;
use zmtp::Authorization;

impl Node {
    /// Lists the peers whose handshakes wait, and decides about some of them.
    pub(super) fn decide(&mut self, ctx: &mut Context, now: Instant) {
        if !self.config.proxies.iter().any(|proxy| {
            SocketName::ALL
                .iter()
                .any(|name| proxy.socket(*name).admission == Admission::Program)
        }) {
            return;
        }
        for (proxy, index) in self.known() {
            self.check_undecided(now, (proxy, index));
        }
        let undecided = self.model.mirrors.iter();
        let undecided: Vec<ConnId> = undecided
            .filter(|(id, mirror)| mirror.is_undecided && self.is_open(**id))
            // A kick of the same turn is a decision too.
            .filter(|(id, _)| !self.kicked.contains(id))
            .map(|(id, _)| *id)
            .collect();
        for id in undecided {
            if ctx.random.chance(50) {
                self.decide_about(ctx, now, id);
            } else {
                let later = ctx.random.range(0..=20 * MILLISECOND);
                self.wake(ctx, ctx.now + later);
                self.reminders += 1;
            }
        }
    }

    /// The program decides soon, even if nothing else happens.
    pub(super) fn decide_later(&mut self, ctx: &mut Context) {
        let mut undecided = self.hosts.keys();
        if undecided.any(|id| self.model.mirrors[id].is_undecided && self.is_open(*id)) {
            self.wake(ctx, ctx.now + 20 * MILLISECOND);
            self.reminders += 1;
        }
    }

    /// Exactly the peers that wait are listed, with the credentials that they have.
    fn check_undecided(&mut self, now: Instant, (proxy, index): (ProxyId, u32)) {
        let page = self
            .admin(now)
            .undecided_peers(proxy, &PageQuery::default());
        let page = page.expect("it is configured");
        assert!(!page.has_more, "few peers");
        let listed = page.items.iter();
        for peer in listed.clone() {
            let own = &self.model.mirrors[&peer.id].credentials;
            assert_eq!(Some(&peer.credentials), own.as_ref(), "{:?}", peer.id);
        }
        let listed: Vec<ConnId> = listed.map(|peer| peer.id).collect();
        let mirrors = self.model.mirrors.iter();
        let mut waiting: Vec<ConnId> = mirrors
            .filter(|(id, mirror)| {
                mirror.socket.proxy == index && mirror.is_undecided && self.is_open(**id)
            })
            .map(|(id, _)| *id)
            .collect();
        waiting.sort_by_key(|id| id.slot());
        assert_eq!(listed, waiting, "the peers that wait for a decision");
    }

    fn decide_about(&mut self, ctx: &mut Context, now: Instant, id: ConnId) {
        let authorization = match ctx.random.below(10) {
            0 if !ctx.is_calm => Authorization::Denied {
                is_told: ctx.random.chance(50),
            },
            1..5 => Authorization::Granted { user: None },
            _ => Authorization::Granted {
                user: Some(format!("user-{}", id.slot()).into()),
            },
        };
        let decided = self.admin(now).authorize(id, authorization.clone());
        assert_eq!(decided, Ok(()), "{id:?}");
        let again = self.admin(now).authorize(id, authorization.clone());
        assert!(again.is_err(), "{id:?} is decided about once");
        ctx.coverage.add("decided by the program", 1);
        self.model.decided(id, authorization);
    }
}
