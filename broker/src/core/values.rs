//! Last values for new subscribers: see [`crate::proxy::cache`].

use crate::config::{ProxyConfig, SocketOptions};
use crate::conn::{Conn, ConnTable};
use crate::core::Core;
use crate::core::admin::{Admin, AdminError};
use crate::core::turn::{self, cost};
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::limits::{KEPT_AT_ONCE_MAX, KEPT_IN_A_ROW_MAX};
use crate::pattern::Pattern;
use crate::pattern::xpub::Xpub;
use crate::proxy::cache::{Batch, Cache, Passing};
use crate::proxy::observers::{KeptMemory, signed};
use crate::proxy::ring::append_numbered;
use crate::proxy::wishes::TooMany;
use crate::reason::CloseReason;
use crate::view::{PAGE_LEN_MAX, ValueView};
use std::collections::BTreeSet;
use std::time::Duration;
use zmtp::Frames;

impl Core {
    /// The configuration of what a proxy keeps is new: asks publishers for the topics of that, and
    /// numbers the messages of a new ring.
    pub(super) fn set_kept(&mut self, id: ProxyId, config: &ProxyConfig) {
        let first = self.clock.unix_nanos();
        let proxy = &mut self.proxies[id];
        proxy.observers.number_from(first);
        self.keeping.retain(|other| *other != id);
        if proxy.observers.keeps() {
            self.keeping.push(id);
        }
        let mut topics: BTreeSet<Box<[u8]>> = BTreeSet::new();
        topics.extend(config.kept_topics().map(Box::from));
        if let Some(socket) = self.xpub_of(id) {
            self.subscribe_itself(socket, &topics);
        }
    }

    /// The side that sends to subscribers.
    fn xpub_of(&self, id: ProxyId) -> Option<SocketId> {
        let mut sides = self.proxies[id].sides().into_iter();
        sides.find(|side| matches!(self.sockets[*side].pattern, Pattern::Xpub(_)))
    }

    /// Bytes of all that proxies keep of passing messages. Takes constant time.
    #[inline(always)]
    pub(super) fn kept_memory(&self) -> KeptMemory {
        let mut kept = KeptMemory::default();
        for id in &self.keeping {
            kept = kept.add(self.proxies[*id].observers.kept_memory());
        }
        kept
    }

    /// Bytes of what a subscriber of a socket is still to get.
    pub(super) fn wishes_memory_of(&self, id: ConnId, socket: SocketId) -> u64 {
        let cache = self.proxies[self.sockets[socket].proxy].observers.cache();
        cache.map_or(0, |cache| cache.wishes_memory_of(id))
    }

    /// Bytes of what departed subscribers were to get, which the next turns free.
    pub(super) fn departed_wishes_memory(&self) -> u64 {
        let proxies = self.keeping.iter().map(|id| &self.proxies[*id].observers);
        let caches = proxies.filter_map(|observers| observers.cache());
        caches.map(Cache::departed_memory).sum()
    }

    /// The values for the subscribers of a socket, and the side that sends them. Subscribers of a
    /// capture get none.
    pub(super) fn values_of(&mut self, socket: SocketId) -> Option<(&mut Cache, &Xpub)> {
        let socket = &self.sockets[socket];
        socket.across?;
        let Pattern::Xpub(xpub) = &socket.pattern else {
            return None;
        };
        let observers = &mut self.proxies[socket.proxy].observers;
        Some((observers.cache_mut()?, xpub))
    }

    /// A peer has subscribed to a topic: it gets the values of that, as many as its queue has room
    /// for at once.
    pub(super) fn offer_values(&mut self, id: ConnId, socket: SocketId, topic: &[u8]) {
        let Some((cache, xpub)) = self.values_of(socket) else {
            return;
        };
        let waits = cache.owes(id);
        let looked_at = cache.offer(id, topic, xpub);
        self.turn.charge(looked_at as u64 * cost::CANCEL);
        if !waits {
            self.send_values(id, KEPT_AT_ONCE_MAX);
        }
    }

    /// A peer has cancelled a subscription. It is closed if that is around too many others whose
    /// values it is still to get.
    pub(super) fn withdraw_values(&mut self, id: ConnId, socket: SocketId, topic: &[u8]) {
        let Some((cache, xpub)) = self.values_of(socket) else {
            return;
        };
        match cache.withdraw(id, topic, xpub) {
            Ok(looked_at) => self.turn.charge(looked_at as u64 * cost::CANCEL),
            Err(TooMany) => self.close_later(id, CloseReason::TooManySubscriptions),
        }
    }

    /// A connection is about to be closed.
    pub(super) fn forget_kept(&mut self, id: ConnId) {
        for proxy in &self.keeping {
            self.proxies[*proxy].observers.forget(id);
        }
    }

    /// Puts a peer in line if it waits for values or messages and has room for them. Call this
    /// whenever its queue gets shorter.
    pub(super) fn kept_later(&mut self, id: ConnId) {
        if self.keeping.is_empty() {
            return;
        }
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let socket = &self.sockets[conn.socket];
        if room_for_kept(conn, &socket.options, &self.conns).is_some() {
            self.proxies[socket.proxy].observers.line_up(id);
        }
    }

    /// Whether values or messages can be sent without a further event.
    pub(super) fn has_pending_kept(&self) -> bool {
        let mut keeping = self.keeping.iter();
        keeping.any(|id| self.proxies[*id].observers.has_kept_work())
    }

    /// Sends values and messages to peers in line, some to each in turn, until about `limit` were
    /// looked at or the turn is spent; at least one peer of a proxy gets some.
    pub(super) fn send_kept(&mut self, limit: usize) {
        let now = signed(self.clock.stamp());
        let mut done = 0;
        for index in 0..self.keeping.len() {
            // Each proxy has its part of the limit, and what the ones before it have left.
            let until = limit * (index + 1) / self.keeping.len();
            let proxy = self.keeping[index];
            if let Some(cache) = self.proxies[proxy].observers.cache_mut() {
                let expired = cache.expire(now, KEPT_IN_A_ROW_MAX);
                let evicted = cache.make_room(KEPT_IN_A_ROW_MAX);
                let dropped = expired + evicted + cache.forget_departed(KEPT_IN_A_ROW_MAX);
                let changed = cache.take_changed() * cost::KEPT_TOPIC;
                self.turn.charge(dropped as u64 * cost::CANCEL + changed);
                done += dropped;
            }
            while done < until {
                let observers = &mut self.proxies[proxy].observers;
                let most = KEPT_IN_A_ROW_MAX.min(until - done);
                let subscriber = observers.cache_mut().and_then(|it| it.next_in_line());
                let reader = observers.ring_mut().and_then(|it| it.next_in_line());
                if subscriber.is_none() && reader.is_none() {
                    break;
                }
                done += subscriber.map_or(0, |id| self.send_values(id, most));
                done += reader.map_or(0, |id| self.send_again(id, most));
                if self.turn.cuts() {
                    // The next turn begins with the next proxy.
                    self.keeping.rotate_left(index + 1);
                    return;
                }
            }
        }
    }

    /// Sends a subscriber values while its queue has room, and looks at about `limit` topics;
    /// returns their number. If more are left, it lines up, now or when it has room.
    fn send_values(&mut self, id: ConnId, limit: usize) -> usize {
        let now = signed(self.clock.stamp());
        let mut done = 0;
        while let Some(conn) = self.conns.get(id).filter(|conn| !conn.closes_later) {
            let socket = &mut self.sockets[conn.socket];
            let observers = &mut self.proxies[conn.proxy].observers;
            let is_numbered = observers.is_numbered();
            let (Pattern::Xpub(xpub), Some(cache)) = (&mut socket.pattern, observers.cache_mut())
            else {
                return done;
            };
            if !cache.owes(id) {
                return done;
            }
            let Some((messages, bytes)) = room_for_kept(conn, &socket.options, &self.conns) else {
                return done;
            };
            if done >= limit || done > 0 && self.turn.is_spent() {
                cache.line_up(id);
                return done;
            }
            let room = (messages, bytes.min(self.turn.bytes_left(1)).max(1));
            let mut batch = Batch::new(now, room, limit - done);
            cache.fill(&mut batch, id, xpub);
            done += batch.looked_at;
            self.turn.charge(batch.looked_at as u64 * cost::CANCEL);
            let mut numbered = Vec::new();
            for offer in cache.offers(&batch) {
                let size = offer.wire.len();
                self.turn.charge(turn::bytes(size) + cost::TARGET);
                let (conns, outbox) = (&mut self.conns, &mut self.outbox);
                if socket.options.overflow.takes_back() {
                    socket.make_room(conns, &mut outbox.store, &[id], offer.wire);
                }
                if is_numbered {
                    numbered.clear();
                    append_numbered(&mut numbered, offer.wire, offer.sequence);
                    outbox.push_bytes(conns, id, &numbered, 1);
                    socket.stats.count_out(1, 1, numbered.len());
                } else {
                    match offer.shared {
                        Some(shared) => outbox.push_shared(conns, id, &[], shared.clone()),
                        None => outbox.push_bytes(conns, id, offer.wire, 1),
                    }
                    socket.stats.count_out(1, 1, size);
                }
            }
        }
        done
    }
}

/// The messages and bytes for which a peer has room, beside those that pass: half of its queue
/// stays free for them. [`None`] if it has none.
pub(super) fn room_for_kept(
    conn: &Conn,
    options: &SocketOptions,
    conns: &ConnTable,
) -> Option<(usize, u64)> {
    if conn.egress.is_closed() {
        return None;
    }
    let (messages, bytes) = (conn.egress.messages(), conn.egress.bytes());
    let messages_max = match options.sndhwm {
        0 => u32::MAX,
        most => most.div_ceil(2),
    };
    let bytes_max = options.sndhwm_bytes.min(conns.queue_size_max) / 2;
    let is_idle = messages == 0 && bytes == 0;
    if is_idle || messages < messages_max && bytes < bytes_max {
        let messages = messages_max.saturating_sub(messages).max(1);
        let messages = usize::try_from(messages).unwrap_or(usize::MAX);
        return Some((messages, bytes_max.saturating_sub(bytes).max(1)));
    }
    None
}

/// Most bytes of the values on one page.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Last values, for a program that keeps them while the broker does not run.
impl Admin<'_> {
    /// The last values of a proxy in the order of their topics, behind the topic `after`: up to a
    /// hundred, with about a mebibyte together. Empty at the end, or if the proxy keeps none.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn last_values(
        &mut self,
        proxy: ProxyId,
        after: Option<&[u8]>,
    ) -> Result<Vec<ValueView>, AdminError> {
        let core = &mut *self.core;
        let now = signed(core.clock.stamp());
        let found = core.proxies.get(proxy).ok_or(AdminError::NoSuchProxy)?;
        let cache = found.observers.cache();
        let page = cache.map(|cache| cache.page(after, PAGE_LEN_MAX, PAGE_BYTES_MAX));
        let values = page.unwrap_or_default().into_iter().map(|(stamp, wire)| {
            let age = u64::try_from(now.saturating_sub(stamp)).unwrap_or(0);
            ValueView {
                age: Duration::from_micros(age),
                wire,
            }
        });
        let values: Vec<ValueView> = values.collect();
        let bytes: usize = values.iter().map(|value| value.wire.len()).sum();
        core.turn
            .charge(values.len() as u64 * cost::VIEW + turn::bytes(bytes));
        Ok(values)
    }

    /// Gives a proxy last values, the oldest first, as if their messages had passed then. Topics
    /// that have a value keep it. Returns how many were taken: those of topics that the proxy
    /// keeps, within its limits.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn restore_values(
        &mut self,
        proxy: ProxyId,
        values: &[ValueView],
    ) -> Result<usize, AdminError> {
        let core = &mut *self.core;
        let now = signed(core.clock.stamp());
        let found = core.proxies.get_mut(proxy).ok_or(AdminError::NoSuchProxy)?;
        let Some(cache) = found.observers.cache_mut() else {
            return Ok(0);
        };
        let before = cache.updates();
        for value in values {
            let age = i64::try_from(value.age.as_micros()).unwrap_or(i64::MAX);
            let is_late = cache.is_too_old(now.saturating_sub(age), now);
            if is_late || cache.has(Frames::new(&value.wire).first()) {
                continue;
            }
            let message = Passing {
                sequence: 0,
                shared: None,
                stamp: now.saturating_sub(age),
                wire: &value.wire,
            };
            cache.keep(&message, &core.outbox.store);
        }
        Ok(usize::try_from(cache.updates() - before).unwrap_or(usize::MAX))
    }
}
