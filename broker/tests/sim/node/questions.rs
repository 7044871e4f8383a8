//! Typed questions and commands to a broker, whose answers are compared with the model.

use super::{Node, State};
use crate::context::{Context, Owner, SocketKey};
use crate::mirror::Mirror;
use broker::config::SocketName;
use broker::limits::{
    EVENT_TEXT_SIZE_MAX, EVENTS_MAX, REPORT_INTERVAL, SAMPLE_BYTES_MAX, SAMPLE_FRAMES_MAX,
    SAMPLE_LEN_MAX, SAMPLE_PATIENCE,
};
use broker::reason::CloseReason;
use broker::view::{
    ClosedPeerView, EventView, PAGE_LEN_MAX, Page, PageQuery, PeerFilter, PeerView, SocketView,
    TopicView, WatchView,
};
use broker::{Admin, AdminError, ConnId, ProxyId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};
use zmtp::SocketType;

/// Closed peers that a socket remembers, whatever the number of proxies.
const REMEMBERED: usize = 1000;

/// The same for all sockets together.
const REMEMBERED_IN_ALL: usize = 16_384;

impl Node {
    /// Asks about a proxy between two turns, and sometimes kicks peers.
    pub(super) fn ask(&mut self, ctx: &mut Context, now: Instant) {
        // With work left over from a turn, answers need not agree.
        if self.core.has_backlog() || self.core.is_stopped() {
            return;
        }
        self.ask_for_losses(now);
        self.ask_for_events(ctx, now);
        self.report_watches(ctx, now);
        let known = self.known();
        let (proxy, index) = ctx.random.pick(&known);
        let sockets = self.admin(now).proxy(proxy).expect("it is configured");
        let filter = some_sockets(ctx);
        let peers = self.ask_for_peers(ctx, now, (proxy, index), &filter);
        if filter.sockets.is_empty() {
            for socket in &sockets.sockets {
                check_socket(socket, &peers);
            }
        }
        self.ask_for_closed(ctx, now, (proxy, index), &sockets.sockets);
        self.ask_for_topics(ctx, now, (proxy, index), &sockets.sockets);
        if ctx.random.chance(30) {
            self.ask_for_sample(ctx, now, (proxy, index));
        }
        ctx.coverage.add("typed questions", 1);
        if !ctx.is_calm && self.stopped_at.is_none() && ctx.random.chance(15) {
            self.kick(ctx, now, proxy, &peers);
        }
    }

    /// The sum of the dropped messages has those of removed proxies too.
    fn ask_for_losses(&mut self, now: Instant) {
        let told = self.admin(now).broker().dropped_messages;
        let sockets = self.core.statistics();
        let present: u64 = sockets.iter().flat_map(|it| it.counters.drops).sum();
        let former = std::mem::replace(&mut self.dropped_messages, told);
        assert!(
            told >= present && told >= former,
            "{told} dropped messages, {present} by sockets that are there, {former} before"
        );
    }

    /// Events are few, in order, and small; a cause that repeats is one of them, and each close
    /// with a cause that the log tells has one.
    fn ask_for_events(&mut self, ctx: &mut Context, now: Instant) {
        let limit = some_limit(ctx);
        let events = pages(
            limit,
            None,
            |event: &EventView| event.number,
            |page| self.admin(now).events(None, page),
        );
        assert!(events.len() <= EVENTS_MAX, "{} events", events.len());
        let numbers = events.iter().map(|it| it.number);
        assert!(
            numbers.is_sorted_by(|new, old| new > old),
            "the latest first"
        );
        assert!(events.is_sorted_by_key(|it| it.ago), "the latest first");
        let bytes: usize = events.iter().map(|it| it.text.len()).sum();
        let share = self.config.memory_limit / 64;
        assert!(share == 0 || bytes as u64 <= share, "{bytes} bytes");
        let mut lines: BTreeMap<_, Duration> = BTreeMap::new();
        for event in &events {
            assert!(event.level <= log::Level::Info, "{event:?}");
            assert!(event.text.len() <= EVENT_TEXT_SIZE_MAX, "{event:?}");
            // All peers have one address.
            if event.text.starts_with("closed 127.0.0.1:") {
                let key = (event.proxy.clone(), event.socket, event.reason);
                let next = lines.insert(key, event.ago);
                let apart = next.map(|next| event.ago.saturating_sub(next));
                let is_late = apart.is_none_or(|apart| apart >= REPORT_INTERVAL);
                assert!(is_late, "a cause is told twice: {event:?}, {events:?}");
            }
        }
        ctx.coverage.add("events", events.len() as u64);
        // Those that peers cause may go before older ones.
        let has_lost = match events.first() {
            Some(newest) => newest.number + 1 > events.len() as u64,
            None => share > 0,
        };
        if has_lost {
            return;
        }
        for (proxy, _) in self.known() {
            let name = self.admin(now).proxy(proxy).expect("it is configured").name;
            let (all, page) = (PeerFilter::default(), PageQuery::default());
            let closed = self.admin(now).closed_peers(proxy, &all, &page);
            for peer in closed.expect("the first page").items {
                let is_told = |it: &EventView| {
                    (&it.proxy, it.socket, it.reason)
                        == (&name, Some(peer.socket), peer.reason.label())
                };
                // A peer that is kicked may have been refused before, which was told.
                let is_silent = !peer.reason.is_notable() || peer.reason == CloseReason::Kicked;
                let is_known = is_silent || events.iter().any(is_told);
                assert!(is_known, "no event tells of {peer:?}: {events:?}");
            }
        }
    }

    /// A sample is empty at first, then it has the beginnings of the newest of the messages that
    /// have passed.
    fn ask_for_sample(&mut self, ctx: &mut Context, now: Instant, (proxy, index): (ProxyId, u32)) {
        let sample = match self.admin(now).sample(proxy) {
            Err(AdminError::NoMemory) if self.config.memory_limit > 0 => return,
            sample => sample.expect("it is configured"),
        };
        let former = self.sampled.insert(proxy, now);
        // The timer fires at the next turn, or later if much is due.
        let is_new = former.is_none_or(|at| now > at + 2 * SAMPLE_PATIENCE);
        assert!(!is_new || sample.is_empty(), "it had not begun: {sample:?}");
        assert!(sample.len() <= SAMPLE_LEN_MAX, "{} messages", sample.len());
        assert!(sample.is_sorted_by_key(|it| it.ago), "the latest first");
        for message in &sample {
            let is_begin =
                |(kept, size): &(Vec<u8>, usize)| kept.len() == SAMPLE_BYTES_MAX.min(*size);
            assert!(message.frames.iter().all(is_begin), "{message:?}");
            assert!(message.frames.len() <= SAMPLE_FRAMES_MAX, "{message:?}");
            assert!(message.identity.len() <= 255, "{message:?}");
            let mirror = &self.model.mirrors[&message.id];
            assert_eq!(
                (mirror.socket.proxy, mirror.socket.side),
                (index, message.socket)
            );
            let first = &message.frames[0].0;
            let is_subscription = message.frames.len() == 1 && first.first() <= Some(&1);
            if is_subscription || self.model.watches[index as usize].is_none() {
                continue;
            }
            let is_it = |(begin, frames): &(Vec<u8>, u64)| {
                let len = first.len().min(begin.len());
                let shown = *frames.min(&(SAMPLE_FRAMES_MAX as u64));
                (&begin[..len], shown, *frames > shown)
                    == (&first[..len], message.frames.len() as u64, message.has_more)
            };
            assert!(
                mirror.gone.iter().any(is_it),
                "it has not passed: {message:?}"
            );
            ctx.coverage.add("sampled messages", 1);
        }
    }

    /// The last report of watches is told, cut to its limits, until the next.
    fn report_watches(&mut self, ctx: &mut Context, now: Instant) {
        assert_eq!(self.admin(now).watches(), self.watches, "the last report");
        if !ctx.random.chance(20) {
            return;
        }
        let len = ctx.random.pick(&[0, 1, 3, 300]);
        let text = |ctx: &mut Context| "é".repeat(ctx.random.below(250));
        let list: Vec<WatchView> = (0..len)
            .map(|number| WatchView {
                actions: ctx.random.next(),
                name: format!("{number}{}", text(ctx)),
                reason: text(ctx),
                sign: text(ctx),
                state: text(ctx),
            })
            .collect();
        let kept = self.admin(now).report_watches(list.clone());
        let cut = |text: String, len: usize| text.chars().take(len).collect::<String>();
        let cut_all = |watch: WatchView| WatchView {
            actions: watch.actions,
            name: cut(watch.name, 64),
            reason: cut(watch.reason, 200),
            sign: cut(watch.sign, 64),
            state: cut(watch.state, 64),
        };
        self.watches = list.into_iter().take(kept).map(cut_all).collect();
        let texts = |it: &WatchView| [&it.name, &it.reason, &it.sign, &it.state].map(String::len);
        let bytes: usize = self.watches.iter().flat_map(texts).sum();
        let limit = self.config.memory_limit;
        match limit {
            0 => assert_eq!(kept, len.min(256), "without a limit"),
            limit => assert!(kept <= 256 && bytes as u64 <= limit / 64, "{bytes} bytes"),
        }
        ctx.coverage.add("reports of watches", 1);
    }

    /// Questions as the driver would ask them: those beyond the budget of a turn wait for the next.
    pub(super) fn admin(&mut self, now: Instant) -> Admin<'_> {
        if !self.core.may_call() {
            self.check_work();
            self.core.begin_turn(now);
        }
        self.core.admin(now)
    }

    /// Lists peers page by page: each open connection occurs once.
    fn ask_for_peers(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        (proxy, index): (ProxyId, u32),
        filter: &PeerFilter,
    ) -> Vec<PeerView> {
        let is_meant = |socket: SocketKey| socket.proxy == index && filter.has_socket(socket.side);
        let open = self.hosts.iter();
        let open = open.filter(|(_, host)| host.state == State::Open);
        let open = open.map(|(id, _)| *id);
        let mut open: Vec<ConnId> = open
            .filter(|id| is_meant(self.model.mirrors[id].socket))
            .collect();
        open.sort_by_key(|id| id.slot());
        let limit = some_limit(ctx);
        let peers = pages(
            limit,
            Some(open.len()),
            |peer: &PeerView| peer.id,
            |page| {
                let page = self.admin(now).peers(proxy, filter, page);
                page.expect("it is configured")
            },
        );
        let listed: Vec<ConnId> = peers.iter().map(|peer| peer.id).collect();
        assert_eq!(listed, open, "the listed and the connected peers");
        for peer in &peers {
            self.check_peer(peer);
        }
        peers
    }

    fn check_peer(&self, peer: &PeerView) {
        let (id, mirror) = (peer.id, &self.model.mirrors[&peer.id]);
        assert_eq!(peer.socket, mirror.socket.side, "the socket of {id:?}");
        let address = super::address(mirror.plug);
        assert_eq!(peer.address, address.into(), "the address of {id:?}");
        assert!(!peer.is_ready || mirror.was_ready, "{id:?} is not ready");
        let mechanism = peer.is_ready.then(|| mirror.mechanism());
        assert_eq!(peer.mechanism, mechanism, "{id:?}");
        let user = mirror.user.as_deref().filter(|_| peer.is_ready);
        assert_eq!(peer.user.as_deref(), user, "{id:?}");
        assert!(!(peer.is_ready && mirror.is_undecided), "{id:?} came in");
        let queue = self.core.egress(id).expect("it is open");
        let queued = (peer.queued_messages, peer.queued_bytes);
        assert_eq!(queued, (queue.messages(), queue.bytes()), "{id:?}");
        let is_accepted = peer.messages_received <= mirror.heard_messages;
        assert!(is_accepted, "{id:?}: more messages went on than arrived");
        // A peer whose identity another one has waits for that, not for a receiver.
        let is_suspended = peer.is_ready && self.core.is_suspended(id);
        assert_eq!(peer.is_suspended, is_suspended, "{id:?}");
    }

    /// Lists closed peers page by page: each closed connection occurs once.
    fn ask_for_closed(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        (proxy, index): (ProxyId, u32),
        sockets: &[SocketView],
    ) {
        let filter = PeerFilter::of_socket(ctx.random.pick(&SocketName::SIDES));
        let socket = sockets.iter().find(|it| filter.has_socket(it.socket));
        let counts = &socket.expect("a side exists").counters.closed;
        let count: u64 = counts.iter().map(|(_, count)| count).sum();
        let total = usize::try_from(count).expect("few").min(REMEMBERED);
        let limit = some_limit(ctx);
        // A part of a memory limit holds fewer, and so does one list of many.
        let lists = SocketName::ALL.len() * self.config.proxies.len();
        let has_limit = self.config.memory_limit > 0 || total > REMEMBERED_IN_ALL / lists;
        let closed = pages(
            limit,
            (!has_limit).then_some(total),
            |peer: &ClosedPeerView| peer.id,
            |page| {
                let page = self.admin(now).closed_peers(proxy, &filter, page);
                page.expect("nothing is forgotten meanwhile")
            },
        );
        assert!(closed.len() <= total, "{} of {total}", closed.len());
        assert!(closed.is_sorted_by_key(|peer| peer.ago), "the latest first");
        let ids: BTreeSet<ConnId> = closed.iter().map(|peer| peer.id).collect();
        assert_eq!(ids.len(), closed.len(), "a peer was closed twice");
        for peer in &closed {
            let mirror = &self.model.mirrors[&peer.id];
            assert_eq!(
                (mirror.socket.proxy, mirror.socket.side),
                (index, peer.socket)
            );
            assert!(!self.is_open(peer.id), "{:?} is closed and open", peer.id);
            let is_kicked = self.kicked.contains(&peer.id);
            assert!(!is_kicked || peer.reason == CloseReason::Kicked, "{peer:?}");
        }
    }

    /// Lists topics page by page: each subscribed topic occurs once, with the number of its peers.
    fn ask_for_topics(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        (proxy, index): (ProxyId, u32),
        sockets: &[SocketView],
    ) {
        let is_publisher =
            |it: &&SocketView| matches!(it.socket_type, SocketType::Pub | SocketType::Xpub);
        let mut sides = sockets.iter().filter(|it| it.socket.side().is_some());
        let Some(side) = sides.find(is_publisher).map(|it| it.socket) else {
            let topics = self.admin(now).topics(proxy, b"", &PageQuery::default());
            assert_eq!(topics, Err(AdminError::NoTopics));
            return;
        };
        let prefix = [&b""[..], b"a", b"ab"][ctx.random.below(3)];
        let topics = pages(
            some_limit(ctx),
            None,
            |topic: &TopicView| topic.topic.clone(),
            |page| {
                let page = self.admin(now).topics(proxy, prefix, page);
                page.expect("there is a publisher")
            },
        );
        let found = topics.iter().map(|it| (it.topic.clone(), it.peers));
        let found: BTreeMap<Vec<u8>, usize> = found.collect();
        assert_eq!(found.len(), topics.len(), "a topic is listed twice");
        let key = SocketKey { proxy: index, side };
        let subscribers = self.hosts.iter().filter(|(id, host)| {
            host.state == State::Open && self.model.mirrors[*id].socket == key
        });
        let subscribers: Vec<ConnId> = subscribers.map(|(id, _)| *id).collect();
        // The broker has not seen the input of a suspended peer after the waiting message.
        let is_behind = |id: &ConnId| self.core.is_suspended(*id) || self.core.is_cut(*id);
        if subscribers.iter().any(is_behind) {
            return;
        }
        let mut wanted: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mirrors = subscribers.iter().map(|id| &self.model.mirrors[id]);
        let all = mirrors.flat_map(|mirror| &mirror.topics);
        for topic in all.filter(|topic| topic.starts_with(prefix)) {
            *wanted.entry(topic.clone()).or_default() += 1;
        }
        assert_eq!(found, wanted, "topics that are listed, and subscribed to");
        ctx.coverage.add("topics listed", topics.len() as u64);
        let options = &self.config.proxies[index as usize].socket(side).options;
        if !options.invert_matching && !topics.is_empty() {
            let topic = &topics[ctx.random.below(topics.len())].topic;
            self.ask_for_subscribers(ctx, now, (proxy, topic), subscribers);
        }
    }

    /// Lists the peers that would get a message with this topic, among those that may subscribe.
    fn ask_for_subscribers(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        (proxy, topic): (ProxyId, &[u8]),
        mut subscribers: Vec<ConnId>,
    ) {
        // A peer that cannot be written to any more is still subscribed, but gets no messages.
        let wants = |mirror: &Mirror| mirror.is_live() && mirror.is_for(topic);
        subscribers.retain(|id| wants(&self.model.mirrors[id]));
        subscribers.sort_by_key(|id| id.slot());
        let listed = pages(
            some_limit(ctx),
            Some(subscribers.len()),
            |peer: &PeerView| peer.id,
            |page| {
                let page = self.admin(now).subscribers(proxy, topic, page);
                page.expect("there is a publisher")
            },
        );
        let listed: Vec<ConnId> = listed.iter().map(|peer| peer.id).collect();
        assert_eq!(listed, subscribers, "the peers that would get a message");
    }

    /// Kicks the peers like one of these: exactly those are closed.
    fn kick(&mut self, ctx: &mut Context, now: Instant, proxy: ProxyId, peers: &[PeerView]) {
        let Some(victim) = peers.get(ctx.random.below(peers.len() + 1)) else {
            return;
        };
        let mut filter = some_sockets(ctx);
        match ctx.random.below(3) {
            0 => filter.id = Some(victim.id),
            1 => filter.address = Some(victim.address.to_string()),
            _ => filter.identity = Some(victim.identity.clone()),
        }
        let mut admin = self.admin(now);
        let all = admin.peers(proxy, &PeerFilter::default(), &PageQuery::default());
        let all = all.expect("it is configured");
        if all.has_more {
            return;
        }
        let is_meant = |peer: &PeerView| {
            filter.has_socket(peer.socket)
                && filter.id.is_none_or(|id| id == peer.id)
                && filter
                    .address
                    .as_ref()
                    .is_none_or(|it| *it == peer.address.to_string())
                && filter
                    .identity
                    .as_ref()
                    .is_none_or(|it| *it == peer.identity)
        };
        let meant = all.items.iter().filter(|peer| is_meant(peer));
        let meant: Vec<ConnId> = meant.map(|peer| peer.id).collect();
        // Messages in transit to another broker may be overtaken on a new connection.
        let is_link = |id: &ConnId| {
            let owners = ctx.cables[self.hosts[id].plug.cable].owners;
            owners.iter().all(|owner| matches!(owner, Owner::Node(_)))
        };
        if meant.iter().any(is_link) {
            return;
        }
        let kicked = self.admin(now).kick(proxy, &filter);
        if filter.identity.as_ref().is_some_and(Vec::is_empty) {
            assert_eq!(kicked, Err(AdminError::NamelessKick));
            return;
        }
        if meant.is_empty() {
            assert_eq!(kicked, Err(AdminError::NoSuchPeer));
            return;
        }
        assert_eq!(
            kicked.as_ref(),
            Ok(&meant),
            "the peers that {filter:?} kicks"
        );
        ctx.coverage
            .add("kicked by the program", meant.len() as u64);
        self.dying.extend(&meant);
        self.kicked.extend(&meant);
        self.model.kicked.extend(meant);
    }
}

/// A filter for every socket, for the sides, or for one.
fn some_sockets(ctx: &mut Context) -> PeerFilter {
    match ctx.random.below(3) {
        0 => PeerFilter::of_socket(ctx.random.pick(&SocketName::ALL)),
        1 => PeerFilter {
            sockets: SocketName::SIDES.to_vec(),
            ..PeerFilter::default()
        },
        _ => PeerFilter::default(),
    }
}

/// A page length, legal or not.
fn some_limit(ctx: &mut Context) -> usize {
    ctx.random
        .pick(&[0, 1, 2, 3, 7, PAGE_LEN_MAX, PAGE_LEN_MAX + 1, usize::MAX])
}

/// All items of a list, page by page: no page is longer than `limit` and [`PAGE_LEN_MAX`], or empty
/// before the end, and all have the same total.
fn pages<K: Debug + PartialEq, T>(
    limit: usize,
    total: Option<usize>,
    key: impl Fn(&T) -> K,
    mut ask: impl FnMut(&PageQuery<K>) -> Page<T>,
) -> Vec<T> {
    let (mut all, mut query) = (Vec::new(), PageQuery { after: None, limit });
    loop {
        let page = ask(&query);
        let len_max = limit.clamp(1, PAGE_LEN_MAX);
        assert!(page.items.len() <= len_max, "{} items", page.items.len());
        assert!(
            !page.has_more || page.items.len() == len_max,
            "a short page in the middle of a list"
        );
        assert!(
            total.is_none() || page.total == total,
            "{:?}, {total:?}",
            page.total
        );
        let last = page.items.last().map(&key);
        assert!(
            last.is_none() || last != query.after,
            "twice on a list: {last:?}"
        );
        query.after = last;
        all.extend(page.items);
        if !page.has_more {
            return all;
        }
    }
}

/// The figures of a socket are those of its peers.
fn check_socket(socket: &SocketView, peers: &[PeerView]) {
    let own = peers.iter().filter(|peer| peer.socket == socket.socket);
    let ready = own.clone().filter(|peer| peer.is_ready).count();
    let suspended = own.clone().filter(|peer| peer.is_suspended).count();
    let what = format!("{} {}", socket.proxy, socket.socket);
    assert_eq!(socket.peers, ready, "{what}: peers");
    assert_eq!(socket.waiting, suspended, "{what}: suspended peers");
}
