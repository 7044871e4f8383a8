//! Subscriptions on their way from subscribers to publishers.
//!
//! Subscribers never wait for publishers, and publishers never wait for each other. Changes for
//! which a publisher has room are queued at once. Others are noted by topic: when half of the queue
//! has gone, the publisher gets the newest state of each topic that it does not know yet. A new
//! publisher gets the table of topics in the same way, a part in each turn.

use crate::config::SocketOptions;
use crate::conn::outbox::Outbox;
use crate::conn::{Conn, ConnTable, Origin};
use crate::core::Core;
use crate::core::deferred::Deferred;
use crate::core::roles::Wish;
use crate::core::turn::cost;
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::limits::{CANCELS_IN_A_ROW_MAX, TELLS_IN_A_ROW_MAX, UPSTREAM_BYTES_MAX};
use crate::pattern::xpub::{Notice, Xpub};
use crate::pattern::xsub::publisher::{Change, Publisher, Telling};
use crate::pattern::{Outgoing, Pattern, Route, count_missing, split_missing};
use crate::proxy::{Socket, Sockets};
use crate::reason::{CloseReason, DropReason};
use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};
use zmtp::Peer;
use zmtp::encode::append_frame;

/// Work on subscriptions that is done in small steps.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Proxies with subscriptions of departed peers to cancel, in the order of their turns.
    departing: VecDeque<ProxyId>,
    /// Heap bytes of all subscriptions at the last count.
    memory: u64,
    /// Publishers that have changes to get and room for them, in the order of their turns.
    telling: VecDeque<ConnId>,
}

impl Pending {
    /// The proxies that have peers to forget.
    pub(super) fn proxies(&self) -> impl Iterator<Item = &ProxyId> {
        self.departing.iter()
    }

    /// Bytes of subscriptions and pending changes.
    pub(super) fn memory(&self) -> u64 {
        self.memory
    }

    /// A proxy is gone.
    pub(super) fn forget(&mut self, proxy: ProxyId) {
        self.departing.retain(|other| *other != proxy);
    }

    /// A socket whose subscriptions had this number of bytes was removed.
    pub(super) fn subtract(&mut self, bytes: u64) {
        self.memory -= bytes;
    }
}

impl Core {
    /// A peer of an XPUB subscribes or cancels. Returns whether it is closed for that, so that
    /// nothing that follows is handled.
    pub(super) fn subscribe(&mut self, id: ConnId, topic: &[u8], add: bool) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return true;
        };
        let (own, was_closing) = (conn.socket, conn.closes_later);
        let has_values = self.values_of(own).is_some();
        let held = self.subscriptions_held(id, own);
        let changed = self.change_subscriptions(id, own, |xpub, options, tell| {
            xpub.handle_subscription(id, (topic, add), options, tell)
        });
        // It may have been about to be closed for something else.
        let Some(is_permitted) = changed else {
            return true;
        };
        if add && !is_permitted {
            self.report_denied(id, Wish::Subscribe, topic);
        }
        if has_values {
            match self.subscriptions_held(id, own).cmp(&held) {
                Ordering::Greater => self.offer_values(id, own, topic),
                Ordering::Less => self.withdraw_values(id, own, topic),
                Ordering::Equal => {}
            }
        }
        let is_closing = |conn: &Conn| conn.closes_later && !was_closing;
        self.conns.get(id).is_none_or(is_closing)
    }

    /// The number of subscriptions that a peer has made.
    fn subscriptions_held(&self, id: ConnId, own: SocketId) -> usize {
        match &self.sockets[own].pattern {
            Pattern::Xpub(xpub) => xpub.wanted_of(id),
            _ => 0,
        }
    }

    /// The broker subscribes to these topics itself, and to no others.
    pub(super) fn subscribe_itself(&mut self, own: SocketId, topics: &BTreeSet<Box<[u8]>>) {
        let (sockets, mut upstream) = self.upstream();
        let (socket, mut across) = both_sides(sockets, own);
        if let Pattern::Xpub(xpub) = &mut socket.pattern {
            let options = &socket.options;
            xpub.subscribe_itself(topics, options, |topic, notice| {
                upstream.tell(ConnTable::OWN, across.as_deref_mut(), topic, notice);
            });
        }
        self.count_subscriptions(own);
    }

    /// Lets `change` alter the subscriptions of a peer of an XPUB. It calls its last argument with
    /// each topic that changes, which is told to those that it concerns. Returns its result; if it
    /// fails, [`None`], and the peer is closed.
    pub(super) fn change_subscriptions(
        &mut self,
        id: ConnId,
        own: SocketId,
        change: impl FnOnce(
            &mut Xpub,
            &SocketOptions,
            &mut dyn FnMut(&[u8], Notice),
        ) -> Result<bool, CloseReason>,
    ) -> Option<bool> {
        let is_watched = self.proxies[self.sockets[own].proxy].observers.is_active();
        let (sockets, mut upstream) = self.upstream();
        let (socket, mut across) = both_sides(sockets, own);
        let Pattern::Xpub(xpub) = &mut socket.pattern else {
            return Some(true);
        };
        let mut shown = Vec::new();
        let mut tell = |topic: &[u8], notice: Notice| {
            upstream.tell(id, across.as_deref_mut(), topic, notice);
            if is_watched && notice.to_others {
                shown.push((topic.to_vec(), notice.is_add));
            }
        };
        let changed = change(xpub, &socket.options, &mut tell);
        for (topic, add) in shown {
            self.observe_subscription(id, own, &topic, add);
        }
        self.count_subscriptions(own);
        changed.map_err(|why| self.close_later(id, why)).ok()
    }

    /// The sockets, and what sending their subscriptions upstream needs.
    fn upstream(&mut self) -> (&mut Sockets, Upstream<'_>) {
        let upstream = Upstream {
            conns: &mut self.conns,
            session_out: &mut self.scratch.session_out,
            deferred: &mut self.deferred,
            outbox: &mut self.outbox,
            telling: &mut self.pending.telling,
        };
        (&mut self.sockets, upstream)
    }

    /// A peer across an XSUB subscribes or cancels by a message, as users of XSUB sockets do.
    pub(super) fn subscribe_by_message(&mut self, to: SocketId, add: bool, topic: &[u8]) {
        let (sockets, mut upstream) = self.upstream();
        let socket = &mut sockets[to];
        let Pattern::Xsub(xsub) = &mut socket.pattern else {
            return;
        };
        let has_room = xsub.subscribe((topic, add), &socket.options, |publisher, topic, change| {
            upstream.tell_publisher(publisher, topic, change);
        });
        if !has_room {
            socket.stats.count_drop(DropReason::TooManySubscriptions);
        }
        self.count_subscriptions(to);
    }

    /// Begins to send a new publisher every topic that any peer wants, each once.
    pub(super) fn replay_subscriptions(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let filter = match conn.origin {
            Origin::Accepted => 0,
            Origin::Dialled(link) => self.links[link].filter,
        };
        let Pattern::Xsub(xsub) = &mut self.sockets[conn.socket].pattern else {
            return;
        };
        xsub.set_filter(id, &self.conns, filter);
        // A short table is sent before the first message of the publisher is read.
        self.tell_more(id, TELLS_IN_A_ROW_MAX);
        self.tell_later(id);
    }

    /// Puts a publisher in line if it has changes to get and room for them. Call this whenever the
    /// queue of a publisher gets shorter.
    pub(super) fn tell_later(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if conn.egress.bytes() > UPSTREAM_BYTES_MAX / 2 {
            return;
        }
        let socket = &mut self.sockets[conn.socket];
        if let Pattern::Xsub(xsub) = &mut socket.pattern
            && let Some(publisher) = xsub.publisher_mut(id, &self.conns)
            && publisher.is_behind()
            && !std::mem::replace(&mut publisher.is_in_line, true)
        {
            self.pending.telling.push_back(id);
        }
    }

    /// Sends publishers that are new or have fallen behind up to `limit` topics, some to each in
    /// turn; returns the number.
    pub(super) fn tell_publishers(&mut self, limit: usize) -> usize {
        let mut told = 0;
        while told < limit {
            let Some(id) = self.pending.telling.pop_front() else {
                break;
            };
            told += self.tell_more(id, TELLS_IN_A_ROW_MAX.min(limit - told));
            let Some(conn) = self.conns.get(id) else {
                continue;
            };
            let has_room = conn.egress.bytes() <= UPSTREAM_BYTES_MAX;
            let socket = &mut self.sockets[conn.socket];
            if let Pattern::Xsub(xsub) = &mut socket.pattern
                && let Some(publisher) = xsub.publisher_mut(id, &self.conns)
            {
                // Without room it returns to the line when half of its queue has gone.
                publisher.is_in_line = has_room && publisher.is_behind();
                if publisher.is_in_line {
                    self.pending.telling.push_back(id);
                }
            }
        }
        told
    }

    /// Sends one publisher up to `limit` topics, as long as its queue has room; returns the number.
    fn tell_more(&mut self, id: ConnId, limit: usize) -> usize {
        let mut told = 0;
        let Some(conn) = self.conns.get(id) else {
            return told;
        };
        let (own, version) = (conn.socket, conn.version);
        while told < limit {
            let queued = self.conns.get(id).map_or(0, |conn| conn.egress.bytes());
            if queued > UPSTREAM_BYTES_MAX {
                break;
            }
            let (socket, across) = both_sides(&mut self.sockets, own);
            let Pattern::Xsub(xsub) = &mut socket.pattern else {
                return told;
            };
            let table = match across.map(|across| &across.pattern) {
                Some(Pattern::Xpub(xpub)) if !xpub.is_pub() => Some(&**xpub),
                _ => None,
            };
            let limit = TELLS_AT_ONCE.min(limit - told);
            let session_out = &mut self.scratch.session_out;
            let taken = xsub.tell_more(id, &self.conns, table, limit, |topic, add| {
                Peer::append_subscription(version, topic, add, session_out);
            });
            self.send_session_output(id);
            told += taken;
            if taken < limit {
                break;
            }
        }
        self.count_subscriptions(own);
        told
    }

    /// Whether work on subscriptions is pending that needs no event.
    pub(super) fn has_pending_subscriptions(&self) -> bool {
        !(self.pending.departing.is_empty() && self.pending.telling.is_empty())
            || self.has_pending_kept()
    }

    /// A peer of an XPUB has left: its subscriptions are cancelled in small steps.
    pub(super) fn depart(&mut self, id: ConnId, proxy: ProxyId) {
        let departing = &mut self.proxies[proxy].departing;
        if departing.is_empty() {
            self.pending.departing.push_back(proxy);
        }
        departing.push_back(id);
    }

    /// Cancels up to `limit` subscriptions of departed peers, some for each proxy in turn, until
    /// the turn is spent; returns the number.
    pub(super) fn cancel_departed(&mut self, limit: usize) -> usize {
        let mut cancelled = 0;
        while cancelled < limit {
            let Some(proxy) = self.pending.departing.pop_front() else {
                break;
            };
            if let Some(id) = self.proxies[proxy].departing.pop_front() {
                let limit = CANCELS_IN_A_ROW_MAX.min(limit - cancelled);
                let (count, is_gone) = self.cancel_some(id, limit);
                // A peer without subscriptions costs work too.
                cancelled += count.max(1);
                if !is_gone {
                    self.proxies[proxy].departing.push_front(id);
                }
            }
            if !self.proxies[proxy].departing.is_empty() {
                self.pending.departing.push_back(proxy);
            }
            if self.turn.cuts() {
                break;
            }
        }
        cancelled
    }

    /// Cancels up to `limit` subscriptions of a departed peer; returns the number, and whether it
    /// has none left.
    fn cancel_some(&mut self, id: ConnId, limit: usize) -> (usize, bool) {
        let Some(own) = self.conns.closing_socket(id) else {
            return (0, true);
        };
        let is_watched = self.proxies[self.sockets[own].proxy].observers.is_active();
        let (sockets, mut upstream) = self.upstream();
        let (socket, mut across) = both_sides(sockets, own);
        let Pattern::Xpub(xpub) = &mut socket.pattern else {
            return (0, true);
        };
        let is_pub = xpub.is_pub();
        let is_shown = is_watched && !is_pub;
        let mut shown = Vec::new();
        let before = xpub.subscriptions_of(id);
        let mut work = 0;
        let is_gone = xpub.forget(id, limit, |topic, is_kept| {
            work += cost::topic(topic.len());
            if is_shown {
                shown.push(topic.to_vec());
            }
            let notice = Notice {
                is_add: false,
                to_others: !is_pub,
                to_publishers: (!is_pub && !is_kept).then_some(Change::Cancelled),
            };
            upstream.tell(id, across.as_deref_mut(), topic, notice);
        });
        let cancelled = before - xpub.subscriptions_of(id);
        self.turn.charge(work);
        if is_gone && let Some(closing) = self.conns.closing_mut(id) {
            closing.is_cancelling = false;
            if closing.is_closed {
                self.forget(id);
            }
        }
        for topic in shown {
            self.observe_subscription(id, own, &topic, false);
        }
        self.count_subscriptions(own);
        (cancelled, is_gone)
    }

    /// Updates the memory of the subscriptions of a proxy's socket, and of the one across. Call
    /// this after each change of them.
    pub(super) fn count_subscriptions(&mut self, id: SocketId) {
        let ids = [Some(id), self.sockets[id].across];
        for id in ids.into_iter().flatten() {
            let socket = &mut self.sockets[id];
            let bytes = socket.pattern.subscription_memory();
            let before = std::mem::replace(&mut socket.subscription_bytes, bytes);
            self.pending.memory = self.pending.memory + bytes - before;
        }
    }

    /// Heap bytes of all subscriptions: tables, pending changes for publishers, and spare memory.
    /// Takes constant time.
    #[must_use]
    pub fn subscription_memory(&self) -> u64 {
        self.pending.memory + self.kept_memory().wishes
    }

    /// The approximate memory in bytes of a peer's subscriptions, or of a publisher's pending
    /// changes. Takes constant time.
    #[must_use]
    pub fn subscription_memory_of(&self, id: ConnId) -> u64 {
        let open = self.conns.get(id).map(|conn| conn.socket);
        let Some(socket) = open.or_else(|| self.conns.closing_socket(id)) else {
            return 0;
        };
        match &self.sockets[socket].pattern {
            Pattern::Xpub(xpub) => xpub.memory_of(id) + self.wishes_memory_of(id, socket),
            Pattern::Xsub(xsub) => xsub.memory_of(id, &self.conns),
            _ => 0,
        }
    }

    /// The peer with the most memory for subscriptions, or publisher for pending changes, and its
    /// approximate bytes. Closing peers do not count. Looks at all connections.
    #[must_use]
    pub fn largest_subscriber(&self) -> Option<(ConnId, u64)> {
        let open = self.conns.iter();
        open.map(|(id, _)| (id, self.subscription_memory_of(id)))
            .filter(|(_, bytes)| *bytes > 0)
            .max_by_key(|(_, bytes)| *bytes)
    }
}

/// A socket, and the one across unless it is an auxiliary socket.
fn both_sides(sockets: &mut Sockets, own: SocketId) -> (&mut Socket, Option<&mut Socket>) {
    match sockets[own].across {
        Some(across) => {
            let (own, across) = sockets.pair_mut(own, across);
            (own, Some(across))
        }
        None => (&mut sockets[own], None),
    }
}

/// Topics sent between two checks of a publisher's queue.
const TELLS_AT_ONCE: usize = 16;

/// The parts of the core that sending a subscription upstream needs.
struct Upstream<'a> {
    conns: &'a mut ConnTable,
    session_out: &'a mut Vec<u8>,
    deferred: &'a mut Deferred,
    outbox: &'a mut Outbox,
    telling: &'a mut VecDeque<ConnId>,
}

impl Upstream<'_> {
    /// Passes a subscription on to the peers that it concerns: the publishers of an XSUB, or the
    /// receivers of messages behind another type.
    fn tell(&mut self, from: ConnId, across: Option<&mut Socket>, topic: &[u8], notice: Notice) {
        let Some(across) = across else {
            return;
        };
        match (&mut across.pattern, notice.to_publishers) {
            (Pattern::Xsub(xsub), Some(change)) if !xsub.is_sub() => {
                let options = &across.options;
                xsub.pass_on((topic, change), options, |publisher, topic, change| {
                    self.tell_publisher(publisher, topic, change);
                });
            }
            (Pattern::Xsub(_), _) => {}
            _ if notice.to_others => self.tell_as_message(from, across, topic, notice.is_add),
            _ => {}
        }
    }

    fn tell_publisher(&mut self, publisher: &mut Publisher, topic: &[u8], change: Change) {
        let id = publisher.id;
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let has_room = conn.egress.bytes() <= UPSTREAM_BYTES_MAX;
        match publisher.change(topic, change, has_room) {
            Telling::AtOnce => {
                Peer::append_subscription(conn.version, topic, change.is_add(), self.session_out);
                self.outbox.push_bytes(self.conns, id, self.session_out, 0);
                self.session_out.clear();
            }
            Telling::TooMuch => {
                self.deferred
                    .close_later(self.conns, id, CloseReason::SubscriptionsUnread);
            }
            Telling::Later if has_room && publisher.is_behind() && !publisher.is_in_line => {
                publisher.is_in_line = true;
                self.telling.push_back(id);
            }
            Telling::Later => {}
        }
    }

    /// The form in which applications get subscriptions from an XPUB. It cannot wait here: it is
    /// lost where no peer has room.
    fn tell_as_message(&mut self, from: ConnId, across: &mut Socket, topic: &[u8], add: bool) {
        let mut body = Vec::with_capacity(1 + topic.len());
        body.push(u8::from(add));
        body.extend_from_slice(topic);
        let mut wire = Vec::with_capacity(body.len() + 9);
        append_frame(&mut wire, &body, false);
        let message = Outgoing {
            is_matched: across.pattern.match_permitted(&body),
            prefix: &[],
            sender: from,
            wire: &wire,
        };
        let (mut targets, mut envelope) = (Vec::new(), Vec::new());
        let Socket {
            options,
            pattern,
            stats,
            ..
        } = across;
        match pattern.route(message, self.conns, options, &mut targets, &mut envelope) {
            Route::To { id, skip } => {
                envelope.extend_from_slice(&wire[skip..]);
                self.outbox.push_bytes(self.conns, id, &envelope, 1);
                stats.count_out(1, 1, envelope.len());
            }
            Route::Targets { full } => {
                count_missing(stats, self.conns, split_missing(&mut targets, full), 1);
                for id in &targets {
                    self.outbox.push_bytes(self.conns, *id, &wire, 1);
                }
                stats.count_out(targets.len(), 1, wire.len());
            }
            Route::Drop(reason) => stats.count_drop(reason),
            Route::Flush(_) | Route::Full(_) | Route::Subscription { .. } | Route::Wait => {
                stats.count_drop(DropReason::PeerFull)
            }
        }
    }
}
