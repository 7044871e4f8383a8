//! Questions and commands from outside the path of messages: typed, paged, and charged to the turn.

use crate::config::Side;
use crate::conn::{Conn, Phase};
use crate::core::Core;
use crate::core::change::ChangeError;
use crate::core::closed::{Closed, identity};
use crate::core::events::{Facts, Place};
use crate::core::turn::{Kind, cost};
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::limits::TOPIC_COUNT_SIZE_MAX;
use crate::pattern::Pattern;
use crate::proxy::{Proxy, Socket, Stop};
use crate::reason::CloseReason;
use crate::sort;
use crate::view::{
    BrokerView, CacheView, ClosedPeerView, Page, PageQuery, PeerFilter, PeerView, ProxyView,
    ReplayView, SocketView, StopState, TopicView,
};
use log::Level;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

/// All questions about a running broker, and all commands to it.
///
/// [`crate::Handle::call`] lends one to other threads, [`crate::Broker::admin`] to the thread that
/// runs the broker, [`Core::admin`] to a driver. The control socket uses it too. The driver's
/// methods of [`Core`], `handle_*` and `poll_*`, are out of reach.
///
/// Each method charges its work to the budget of the turn. None blocks, does input or output, or
/// panics. Commands take effect at the end of the turn.
#[derive(Debug)]
pub struct Admin<'a> {
    /// The control connection of the request; `None`: the program itself.
    pub(super) asker: Option<ConnId>,
    pub(super) core: &'a mut Core,
}

/// Why a question or command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminError {
    /// The peer in [`PageQuery::after`] is not remembered any more.
    Forgotten,
    /// The identity to kick is empty, as that of every peer without a name.
    NamelessKick,
    /// The filter for a kick has no id, address or identity.
    NoCriterion,
    /// The samples of other proxies take all the memory that samples may have.
    NoMemory,
    /// No peer of the proxy matches the filter.
    NoSuchPeer,
    /// No proxy of this broker has this handle.
    NoSuchProxy,
    /// No socket of the proxy is an XPUB or PUB.
    NoTopics,
    /// The only peer that matches the filter is the one that sent the command.
    OnlyAsker,
    /// The proxy counts as many topics as it may.
    TooManyCounts,
    /// A topic to count has more than [`TOPIC_COUNT_SIZE_MAX`] bytes.
    TopicTooLong,
}

impl std::fmt::Display for AdminError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Forgotten => {
                "the broker no longer remembers the peer in after: begin with the first page"
            }
            Self::NamelessKick => {
                "identity: every peer without a name has the empty one; write id or address"
            }
            Self::NoCriterion => "the filter is empty: write id, address or identity",
            Self::NoMemory => {
                "samples of messages may take a 16th of memory_limit, which this one would exceed"
            }
            Self::NoSuchPeer => {
                "no peer of this proxy matches: the command \"peers\" lists its peers"
            }
            Self::NoSuchProxy => "no proxy of this broker has this id: ask for the proxies",
            Self::NoTopics => "this proxy has no subscriptions: it has no XPUB and no PUB socket",
            Self::OnlyAsker => {
                "this connection sent the command, so it stays open: close it at your end"
            }
            Self::TooManyCounts => {
                "this proxy counts 64 topics, the most that it may: close clients that count others"
            }
            Self::TopicTooLong => "the topic has more than 255 bytes: count a beginning of it",
        })
    }
}

impl std::error::Error for AdminError {}

impl Core {
    /// Questions and commands of the program, at this moment; call it between other methods, but
    /// never between [`Self::begin_input`] and [`Self::end_input`].
    pub fn admin(&mut self, now: Instant) -> Admin<'_> {
        self.advance(now);
        self.turn.work_on(Kind::Calls);
        self.turn.charge(cost::CALL);
        Admin {
            asker: None,
            core: self,
        }
    }

    /// Whether the budget of the turn allows one more use of [`Self::admin`].
    #[must_use]
    pub fn may_call(&mut self) -> bool {
        self.turn.work_on(Kind::Calls);
        !self.turn.cuts()
    }

    /// Questions and commands of a control's peer, charged to reading.
    pub(super) fn admin_of(&mut self, asker: ConnId) -> Admin<'_> {
        Admin {
            asker: Some(asker),
            core: self,
        }
    }

    /// The counters of every socket, in the order of the configuration, frontends first. For
    /// drivers and tests, without charge; use [`Admin::sockets`] otherwise.
    #[must_use]
    pub fn statistics(&self) -> Vec<SocketView> {
        let queued = self.queued();
        let proxies = self.proxies.iter().filter(|(_, proxy)| !proxy.is_own);
        let views = proxies.flat_map(|(_, proxy)| self.view_sockets(proxy, &queued));
        views.collect()
    }

    /// The queues of each socket that has any.
    fn queued(&self) -> BTreeMap<SocketId, Queued> {
        let open = self.conns.iter();
        let open = open.map(|(_, conn)| (conn.socket, &conn.egress));
        let closing = self.conns.closing();
        let closing = closing.map(|(_, closing)| (closing.socket, &closing.egress));
        let mut queued: BTreeMap<SocketId, Queued> = BTreeMap::new();
        for (id, egress) in open.chain(closing) {
            let queued = queued.entry(id).or_default();
            queued.bytes += egress.bytes();
            queued.messages += u64::from(egress.messages());
        }
        queued
    }

    fn view_sockets(&self, proxy: &Proxy, queued: &BTreeMap<SocketId, Queued>) -> Vec<SocketView> {
        let view = |id| {
            let socket: &Socket = &self.sockets[id];
            let queued = queued.get(&id).copied().unwrap_or_default();
            SocketView {
                counters: socket.stats.clone(),
                peers: socket.peers,
                proxy: proxy.name.clone(),
                queued_bytes: queued.bytes,
                queued_messages: queued.messages,
                socket: socket.name,
                socket_type: socket.session.socket_type,
                topics: match &socket.pattern {
                    Pattern::Xpub(xpub) => xpub.topics(),
                    _ => 0,
                },
                waiting: socket.suspended.len(),
            }
        };
        proxy.sockets().map(view).collect()
    }

    fn view_proxy(
        &self,
        id: ProxyId,
        proxy: &Proxy,
        queued: &BTreeMap<SocketId, Queued>,
    ) -> ProxyView {
        ProxyView {
            cache: proxy.observers.cache().map(|cache| CacheView {
                bytes: cache.size(),
                updates: cache.updates(),
                values: cache.values() as u64,
            }),
            id,
            is_paused: proxy.is_paused,
            name: proxy.name.clone(),
            record: proxy
                .observers
                .recording
                .tape()
                .map(|tape| tape.statistics()),
            replay: proxy.observers.ring().map(|ring| ReplayView {
                bytes: ring.size(),
                messages: ring.next() - ring.first(),
                next_sequence: ring.next(),
            }),
            sockets: self.view_sockets(proxy, queued),
            stop: self.view_stop(proxy.stop),
        }
    }

    fn view_stop(&self, stop: Stop) -> StopState {
        match stop {
            Stop::No => StopState::Running,
            Stop::Draining(until) => {
                StopState::Draining(until.saturating_duration_since(self.clock.now()))
            }
            Stop::Closing => StopState::Closing,
        }
    }

    pub(super) fn view_peer(&self, id: ConnId) -> Option<PeerView> {
        let conn = self.conns.get(id)?;
        let socket = &self.sockets[conn.socket];
        let (is_ready, traffic) = (conn.phase == Phase::Ready, &conn.traffic);
        Some(PeerView {
            address: conn.peer,
            age: self.clock.now().saturating_duration_since(traffic.since),
            bytes_received: traffic.bytes_received,
            bytes_sent: traffic.bytes_sent,
            drops: traffic.drops(),
            endpoint: self.endpoint_of(conn).cloned(),
            id,
            identity: identity(conn).to_vec(),
            is_ready,
            is_suspended: is_ready && conn.is_suspended,
            mechanism: is_ready.then(|| conn.session.mechanism()),
            messages_received: traffic.messages_received,
            messages_sent: traffic.messages_sent,
            queued_bytes: conn.egress.bytes(),
            queued_messages: conn.egress.messages(),
            socket: socket.name,
            socket_type: traffic.socket_type,
            subscriptions: match &socket.pattern {
                Pattern::Xpub(xpub) => xpub.subscriptions_of(id),
                _ => 0,
            },
            user: conn.user.as_deref().filter(|_| is_ready).map(str::to_owned),
            version: is_ready.then_some(conn.version),
        })
    }

    fn view_closed(&self, closed: &Closed, socket: &Socket) -> ClosedPeerView {
        ClosedPeerView {
            address: closed.peer,
            ago: self.clock.now().saturating_duration_since(closed.at),
            id: closed.id,
            identity: closed.identity.to_vec(),
            lasted: closed.at.saturating_duration_since(closed.since),
            reason: closed.why,
            socket: socket.name,
        }
    }
}

/// The sizes of the queues of a socket.
#[derive(Clone, Copy, Default)]
struct Queued {
    bytes: u64,
    messages: u64,
}

/// Questions.
impl Admin<'_> {
    /// The broker as a whole.
    #[must_use]
    pub fn broker(&mut self) -> BrokerView {
        self.charge_views(1);
        let core = &*self.core;
        BrokerView {
            dropped_messages: core.dropped_messages(),
            memory: core.memory(),
            memory_limit: core.memory.limit(),
            pid: core.reload.pid,
            reload: core.view_reload(),
            stop: core.view_stop(core.shutdown.stop()),
            turn_times: core.turn.times,
            source: core.reload.source.clone(),
            uptime: core.clock.uptime(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Every proxy, in the order of the configuration; no peer can make this list longer.
    #[must_use]
    pub fn proxies(&mut self) -> Vec<ProxyView> {
        self.core.charge_walk();
        self.charge_views(self.core.sockets.len());
        let core = &*self.core;
        let queued = core.queued();
        let proxies = core.proxies.iter().filter(|(_, proxy)| !proxy.is_own);
        let views = proxies.map(|(id, proxy)| core.view_proxy(id, proxy, &queued));
        views.collect()
    }

    /// One proxy.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn proxy(&mut self, id: ProxyId) -> Result<ProxyView, AdminError> {
        self.find(id)?;
        self.core.charge_walk();
        self.charge_views(self.core.proxies[id].sockets().count());
        let core = &self.core;
        Ok(core.view_proxy(id, &core.proxies[id], &core.queued()))
    }

    /// The proxy with this name; of one that is being removed and one that takes its place, the
    /// latter.
    #[must_use]
    pub fn proxy_named(&self, name: &str) -> Option<ProxyId> {
        let leaving = || {
            let mut proxies = self.core.proxies.iter();
            proxies.find(|(_, proxy)| proxy.name == name)
        };
        let running = self.core.proxy_named(name);
        running.or_else(|| leaving().map(|(id, _)| id))
    }

    /// Every socket of every proxy, in the order of the configuration, frontends first; no peer can
    /// make this list longer.
    #[must_use]
    pub fn sockets(&mut self) -> Vec<SocketView> {
        let proxies = self.proxies().into_iter();
        proxies.flat_map(|proxy| proxy.sockets).collect()
    }

    /// The connected peers of a proxy that match a filter, in the order of their connection slots.
    /// [`Page::total`] is counted.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn peers(
        &mut self,
        proxy: ProxyId,
        filter: &PeerFilter,
        page: &PageQuery<ConnId>,
    ) -> Result<Page<PeerView>, AdminError> {
        self.find(proxy)?;
        self.core.charge_walk();
        let core = &*self.core;
        let page = page_of(self.matching(proxy, filter), page, |id| core.view_peer(id));
        self.charge_views(page.items.len());
        Ok(page)
    }

    /// The peers of a proxy that were closed last and match a filter, the latest first. Each socket
    /// remembers at most 1000 closed peers, or fewer in a broker of more than four proxies or with
    /// a small memory limit.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`], [`AdminError::Forgotten`].
    pub fn closed_peers(
        &mut self,
        proxy: ProxyId,
        filter: &PeerFilter,
        page: &PageQuery<ConnId>,
    ) -> Result<Page<ClosedPeerView>, AdminError> {
        self.find(proxy)?;
        let core = &mut self.core;
        let sockets = core.proxies[proxy].sockets();
        let sockets: Vec<&Socket> = sockets.map(|id| &core.sockets[id]).collect();
        let mut found: Vec<(&Socket, &Closed)> = Vec::new();
        let mut walked = 0;
        for socket in sockets {
            walked += socket.closed.len() as u64;
            let matches = |it: &&Closed| {
                filter.matches(socket.name, (it.id, it.peer), &it.identity)
                    && filter.names_match(it.peer, &it.identity, None)
            };
            let closed = socket.closed.iter().filter(matches);
            found.extend(closed.map(|closed| (socket, closed)));
        }
        // Peers closed at the same moment stay in the order of their list.
        sort::by_key(&mut found, |(_, closed)| Reverse(closed.at));
        let first = match page.after {
            None => 0,
            Some(after) => {
                let last = found.iter().position(|(_, closed)| closed.id == after);
                last.ok_or(AdminError::Forgotten)? + 1
            }
        };
        let (total, end) = (found.len(), first.saturating_add(page.len_max()));
        let wanted = &found[first..end.min(total)];
        let items = wanted.iter();
        let items: Vec<ClosedPeerView> = items
            .map(|(socket, closed)| core.view_closed(closed, socket))
            .collect();
        let units = walked * cost::WALK + items.len() as u64 * cost::VIEW;
        core.turn.charge(units);
        Ok(Page {
            has_more: end < total,
            items,
            total: Some(total),
        })
    }

    /// The messages that a side of a proxy, or any, has received and passed on, and whose first
    /// frame begins with `topic`. The first question begins a count, with zero, which ends with the
    /// connection that asked; a count of the program itself ends with the proxy. Only while there
    /// are counts, each message costs a comparison with each of them.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`], [`AdminError::TooManyCounts`], [`AdminError::TopicTooLong`].
    pub fn count(
        &mut self,
        proxy: ProxyId,
        side: Option<Side>,
        topic: &[u8],
    ) -> Result<u64, AdminError> {
        if topic.len() > TOPIC_COUNT_SIZE_MAX {
            return Err(AdminError::TopicTooLong);
        }
        self.find(proxy)?;
        let observers = &mut self.core.proxies[proxy].observers;
        let messages = observers.count_topic(self.asker, side, topic);
        self.core.account_topic_counts();
        self.charge_views(1);
        messages.ok_or(AdminError::TooManyCounts)
    }

    /// The topics with a prefix that peers of a proxy subscribe to, in the order of their bytes.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`], [`AdminError::NoTopics`].
    pub fn topics(
        &mut self,
        proxy: ProxyId,
        prefix: &[u8],
        page: &PageQuery<Vec<u8>>,
    ) -> Result<Page<TopicView>, AdminError> {
        let id = self.publisher(proxy)?;
        // The first topic that can follow another is that topic with a zero byte at the end.
        let after = page.after.as_deref().map(|after| [after, &[0]].concat());
        let first = after.unwrap_or_default().max(prefix.to_vec());
        let (mut items, mut has_more) = (Vec::new(), false);
        let socket = &self.core.sockets[id];
        if let Pattern::Xpub(xpub) = &socket.pattern {
            xpub.for_each_topic_from(&first, |topic, peers| {
                if !topic.starts_with(prefix) {
                    return ControlFlow::Break(());
                }
                if items.len() == page.len_max() {
                    has_more = true;
                    return ControlFlow::Break(());
                }
                let peers = peers - usize::from(xpub.is_kept(topic));
                if peers == 0 {
                    return ControlFlow::Continue(());
                }
                items.push(TopicView {
                    peers,
                    socket: socket.name,
                    topic: topic.to_vec(),
                });
                ControlFlow::Continue(())
            });
        }
        self.charge_views(items.len());
        Ok(Page {
            has_more,
            items,
            total: None,
        })
    }

    /// The peers of a proxy that would get a message whose first frame is `topic`, in the order of
    /// their connection slots. [`Page::total`] is counted.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`], [`AdminError::NoTopics`].
    pub fn subscribers(
        &mut self,
        proxy: ProxyId,
        topic: &[u8],
        page: &PageQuery<ConnId>,
    ) -> Result<Page<PeerView>, AdminError> {
        let id = self.publisher(proxy)?;
        self.core.charge_walk();
        let mut found = Vec::new();
        let socket = &mut self.core.sockets[id];
        if let Pattern::Xpub(xpub) = &mut socket.pattern {
            xpub.find_permitted(topic);
            xpub.found(&self.core.conns, &socket.options, &mut found);
        }
        sort::by_key(&mut found, |id| id.slot);
        let core = &*self.core;
        let page = page_of(found.into_iter(), page, |id| core.view_peer(id));
        self.charge_views(page.items.len());
        Ok(page)
    }

    /// Whether the share of the turn for questions and commands has budget left. A long call, such
    /// as one for all pages of a list, should return when this is false and continue in another
    /// call, so that messages do not wait.
    #[must_use]
    pub fn has_budget(&self) -> bool {
        !self.core.turn.is_spent()
    }

    /// The proxy, if it exists.
    pub(super) fn find(&self, id: ProxyId) -> Result<&Proxy, AdminError> {
        self.core.proxies.get(id).ok_or(AdminError::NoSuchProxy)
    }

    /// The XPUB or PUB of a proxy; no proxy has two.
    fn publisher(&self, proxy: ProxyId) -> Result<SocketId, AdminError> {
        let mut sides = self.find(proxy)?.sides().into_iter();
        let is_publisher =
            |id: &SocketId| matches!(self.core.sockets[*id].pattern, Pattern::Xpub(_));
        sides.find(is_publisher).ok_or(AdminError::NoTopics)
    }

    /// Charges this number of views of peers, sockets or topics.
    pub(super) fn charge_views(&mut self, count: usize) {
        self.core.turn.charge(count as u64 * cost::VIEW);
    }

    /// The connected peers of a proxy that match a filter, in the order of their slots.
    pub(super) fn matching(
        &self,
        proxy: ProxyId,
        filter: &PeerFilter,
    ) -> impl Iterator<Item = ConnId> {
        let core = &*self.core;
        let conns = core.conns.iter();
        let is_meant = move |(id, conn): &(ConnId, &Conn)| {
            let socket = core.sockets[conn.socket].name;
            conn.proxy == proxy
                && !conn.is_down_link_queue()
                && filter.matches(socket, (*id, conn.peer), identity(conn))
                && filter.names_match(conn.peer, identity(conn), conn.user.as_deref())
        };
        conns.filter(is_meant).map(|(id, _)| id)
    }
}

/// A page of the views of these connections, which are in the order of their slots.
pub(super) fn page_of<V>(
    found: impl Iterator<Item = ConnId>,
    page: &PageQuery<ConnId>,
    view: impl Fn(ConnId) -> Option<V>,
) -> Page<V> {
    let (mut items, mut has_more, mut total) = (Vec::new(), false, 0);
    for id in found {
        total += 1;
        if page.after.is_some_and(|after| id.slot <= after.slot) {
            continue;
        }
        has_more = items.len() == page.len_max();
        if !has_more {
            items.extend(view(id));
        }
    }
    Page {
        has_more,
        items,
        total: Some(total),
    }
}

/// Commands.
impl Admin<'_> {
    /// Closes the peers of a proxy that match a filter, but never the one that sent the command.
    /// The filter must have an id, an address or an identity that is not empty. Returns the
    /// handles of the closed connections, at least one.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`], [`AdminError::NoCriterion`], [`AdminError::NamelessKick`],
    /// [`AdminError::NoSuchPeer`], [`AdminError::OnlyAsker`].
    pub fn kick(&mut self, proxy: ProxyId, filter: &PeerFilter) -> Result<Vec<ConnId>, AdminError> {
        self.find(proxy)?;
        if filter.id.is_none() && filter.address.is_none() && filter.identity.is_none() {
            return Err(AdminError::NoCriterion);
        }
        if filter.identity.as_ref().is_some_and(Vec::is_empty) {
            return Err(AdminError::NamelessKick);
        }
        self.core.charge_walk();
        let mut kicked: Vec<ConnId> = self.matching(proxy, filter).collect();
        match kicked[..] {
            [] => return Err(AdminError::NoSuchPeer),
            [id] if Some(id) == self.asker => return Err(AdminError::OnlyAsker),
            _ => kicked.retain(|id| Some(*id) != self.asker),
        }
        for id in &kicked {
            self.core.close_later(*id, CloseReason::Kicked);
        }
        Ok(kicked)
    }

    /// Reads the configuration again and applies it, as on SIGHUP. The log, and later
    /// [`BrokerView::reload`], have the result.
    pub fn reload(&mut self) {
        self.core.ask_for_reload();
    }

    /// Forwards no messages of a proxy until it is resumed. Handshakes and heartbeats go on.
    /// Returns whether that is a change.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn pause(&mut self, proxy: ProxyId) -> Result<bool, AdminError> {
        self.set_paused(proxy, true)
    }

    /// Forwards the messages of a paused proxy again, waiting ones first. Returns whether that is a
    /// change.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn resume(&mut self, proxy: ProxyId) -> Result<bool, AdminError> {
        self.set_paused(proxy, false)
    }

    /// Ends a proxy: it sends queued messages within the drain timeout, and closes its connections.
    /// The broker stops with the last proxy. Returns whether that is a change.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn terminate(&mut self, proxy: ProxyId) -> Result<bool, AdminError> {
        if self.find(proxy)?.stop != Stop::No {
            return Ok(false);
        }
        self.log(proxy, "terminated");
        let core = &mut self.core;
        // It may wait for a listener that ends here, or add a proxy that would be the last one.
        core.fail_change(ChangeError::ProxyStopping(core.proxies[proxy].name.clone()));
        let has_ended =
            |(id, other): (ProxyId, &Proxy)| id == proxy || other.is_own || other.stop != Stop::No;
        let is_last = core.proxies.iter().all(has_ended);
        if is_last || core.proxies[proxy].is_own {
            // Not in the middle of an input.
            core.deferred.is_stop_asked = true;
        } else {
            core.stop_proxy(core.clock.now(), proxy);
        }
        Ok(true)
    }

    fn set_paused(&mut self, proxy: ProxyId, is_paused: bool) -> Result<bool, AdminError> {
        let found = self.find(proxy)?;
        if found.is_paused == is_paused && !found.is_own {
            return Ok(false);
        }
        self.log(proxy, if is_paused { "paused" } else { "resumed" });
        let core = &mut *self.core;
        let ids = match core.proxies[proxy].is_own {
            true => core.proxies.handles(),
            false => vec![proxy],
        };
        for id in ids {
            core.proxies[id].is_paused = is_paused;
            if !is_paused {
                core.wake_both(id);
            }
        }
        Ok(true)
    }

    /// Logs a command and its sender.
    fn log(&mut self, proxy: ProxyId, what: &str) {
        let asker = self.asker.and_then(|id| self.core.conns.get(id));
        let peer = asker.map_or_else(String::new, |conn| conn.peer.to_string());
        let by = if peer.is_empty() {
            "this program"
        } else {
            &peer
        };
        let text = format!("{what} by {by}");
        self.core
            .tell(Level::Info, Place::Proxy(proxy), Facts::of(&peer), &text);
    }
}
