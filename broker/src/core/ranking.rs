//! Peers in the order of a figure.

use crate::core::admin::{Admin, AdminError};
use crate::core::turn::cost;
use crate::ids::{ConnId, ProxyId};
use crate::pattern::Pattern;
use crate::sort;
use crate::view::{PAGE_LEN_MAX, Page, PeerFilter, PeerOrder, PeerView};
use std::cmp::Reverse;

impl Admin<'_> {
    /// The connected peers of a proxy that match a filter, those with the largest figure first, and
    /// among equals in the order of their connection slots: at most `limit` of them, from 1 to
    /// [`PAGE_LEN_MAX`], after the first `skip`. [`Page::total`] is counted. Figures change between
    /// two pages, so a peer may be on both or on none.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn ranked_peers(
        &mut self,
        proxy: ProxyId,
        filter: &PeerFilter,
        order: PeerOrder,
        (skip, limit): (usize, usize),
    ) -> Result<Page<PeerView>, AdminError> {
        self.find(proxy)?;
        self.core.charge_walk();
        let found = self.matching(proxy, filter);
        let mut found: Vec<(Reverse<u64>, ConnId)> = found
            .map(|id| (Reverse(self.figure(id, order)), id))
            .collect();
        let total = found.len();
        let end = skip.saturating_add(limit.clamp(1, PAGE_LEN_MAX)).min(total);
        let rank = |(figure, id): &(Reverse<u64>, ConnId)| (*figure, id.slot());
        if end < total {
            found.select_nth_unstable_by_key(end, rank);
            found.truncate(end);
        }
        sort::by_key(&mut found, rank);
        let wanted = found.get(skip..).unwrap_or_default();
        let wanted = wanted.iter();
        let items: Vec<PeerView> = wanted
            .filter_map(|(_, id)| self.core.view_peer(*id))
            .collect();
        self.core.turn.charge(total as u64 * cost::WALK);
        self.charge_views(items.len());
        Ok(Page {
            has_more: end < total,
            items,
            total: Some(total),
        })
    }

    fn figure(&self, id: ConnId, order: PeerOrder) -> u64 {
        let core = &*self.core;
        let Some(conn) = core.conns.get(id) else {
            return 0;
        };
        let traffic = &conn.traffic;
        match order {
            PeerOrder::Age => {
                let age = core.clock.now().saturating_duration_since(traffic.since);
                u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
            }
            PeerOrder::Bytes => traffic.bytes_received.saturating_add(traffic.bytes_sent),
            PeerOrder::BytesReceived => traffic.bytes_received,
            PeerOrder::BytesSent => traffic.bytes_sent,
            PeerOrder::Dropped => traffic.drops().iter().sum(),
            PeerOrder::Messages => {
                let received = traffic.messages_received;
                received.saturating_add(traffic.messages_sent)
            }
            PeerOrder::MessagesReceived => traffic.messages_received,
            PeerOrder::MessagesSent => traffic.messages_sent,
            PeerOrder::QueuedBytes => conn.egress.bytes(),
            PeerOrder::QueuedMessages => conn.egress.messages().into(),
            PeerOrder::Subscriptions => match &core.sockets[conn.socket].pattern {
                Pattern::Xpub(xpub) => xpub.subscriptions_of(id) as u64,
                _ => 0,
            },
        }
    }
}
