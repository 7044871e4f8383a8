//! The messages that a broker must send for its input, decided independently and compared.

mod answers;
mod changes;
mod contests;
mod handlers;
mod kept;
mod roles;
mod routing;
mod written;

use crate::context::SocketKey;
use crate::message::{Key, Style, key_of};
use crate::mirror::{Begun, Expected, Heard, Mirror, Pending, Phase, Unit, beginning};
use crate::net::Plug;
use crate::watch::{Audience, Passing, Sender, Watch, is_at_high_water};
use broker::config::{
    Admission, Balance, Config, Overflow, ProxyConfig, RoleConfig, SocketConfig, SocketName,
    SocketOptions,
};
use broker::{ConnId, Core};
pub(crate) use contests::Contest;
pub(crate) use kept::{Numbers, Offers};
pub(crate) use roles::Part;
use routing::may_drop;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::time::Instant;
use zmtp::curve::PublicKey;
use zmtp::wire::command::Command;
use zmtp::{Authorization, Frames, LoopCommand, SocketType};

#[derive(Debug)]
pub(crate) struct Model {
    /// New questions to a control.
    asked: usize,
    batch: u64,
    /// Calls of the core after which messages that had waited were looked for.
    calls: u64,
    /// The keys of all peers.
    clients: Vec<PublicKey>,
    /// Most bytes of a long frame that the broker encrypts or decrypts at once.
    pub(crate) coder_step_size: usize,
    names: Vec<String>,
    /// Requests to ZAP handlers, by proxy.
    requests: BTreeMap<u32, handlers::Requests>,
    /// Peers that handlers have let in.
    pub(crate) let_in: u64,
    roles: Vec<RoleConfig>,
    users: BTreeMap<String, String>,
    /// When the broker's turn began.
    pub(crate) now: Instant,
    /// Connections with input whose destination is decided when it goes on.
    pending: BTreeSet<ConnId>,
    /// Connections that wait for identities of others.
    pub(crate) contests: BTreeSet<ConnId>,
    /// Connections that a control was told to close.
    pub(crate) kicked: Vec<ConnId>,
    /// Memory is limited, so it is unknown which peers lose messages.
    pub(crate) may_shed: bool,
    /// Connections with input that has not gone on, if a capture or control watches.
    passing: BTreeSet<ConnId>,
    pub(crate) mirrors: BTreeMap<ConnId, Mirror>,
    pub(crate) sockets: Vec<SocketModel>,
    style: Style,
    /// Proxies that were told to end, and the times.
    pub(crate) terminated: BTreeMap<u32, Instant>,
    /// Proxies that were removed.
    pub(crate) removed: BTreeSet<u32>,
    /// Peers of controls that wait for the result of a reload, once for each time they asked.
    pub(crate) reloading: Vec<ConnId>,
    /// By proxy.
    pub(crate) watches: Vec<Option<Watch>>,
}

/// One socket of one proxy.
#[derive(Debug)]
pub(crate) struct SocketModel {
    config: SocketConfig,
    pub(crate) closed: u64,
    /// Messages for one or several of its peers, each counted.
    pub(crate) expected: u64,
    /// DEALER, PUSH: the fate of each message for one of its peers.
    pub(crate) fates: BTreeMap<Key, Fate>,
    /// Messages for this socket that were received and not handled when connections ended.
    pub(crate) excused: u64,
    /// ROUTER: the peers with identities that the broker generated.
    given: BTreeMap<Vec<u8>, ConnId>,
    /// Subscriptions had to wait for publishers: receivers and times are unknown.
    pub(crate) is_vague: bool,
    /// Messages queued for a departed peer wait until the broker is connected to it again.
    pub(crate) keeps_for_links: bool,
    /// A dead connection across left received messages unhandled.
    pub(crate) is_loose: bool,
    /// A queued message may be dropped again, which is counted.
    pub(crate) is_lossy: bool,
    /// XSUB: the topics that the broker itself asks publishers for.
    pub(crate) kept: BTreeSet<Vec<u8>>,
    /// DEALER, PUSH: messages that were written after newer ones of the same sender.
    pub(crate) late: u64,
    /// Bytes of the largest message for one of its peers.
    pub(crate) largest: usize,
    /// ROUTER: the peers with announced identities.
    names: BTreeMap<Vec<u8>, ConnId>,
    /// XPUB: the numbers behind its messages, if they have some.
    numbers: Option<Numbers>,
    /// XPUB: last values that its peers may get.
    pub(crate) offered: u64,
    pub(crate) options: SocketOptions,
    pub(crate) overflow: Overflow,
    /// DEALER, PUSH: unwritten messages of dead peers; `None` if they are not visible.
    pub(crate) requeued: Option<u64>,
    /// REP: the peer that waits for an answer, if certain.
    requester: Option<ConnId>,
    /// REP: messages that the socket across has dropped.
    lost: u64,
    /// REP: answers without a question.
    unasked: u64,
    /// Messages that departed connections have sent, as far as read.
    pub(crate) received: u64,
    pub(crate) socket_type: SocketType,
    /// XPUB: the last values, if they are kept.
    values: Option<kept::Values>,
}

/// The fate of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// The number of its input.
    batch: u64,
    pub(crate) begun: u32,
    pub(crate) heard: u32,
    order: u64,
    source: ConnId,
    /// The time at which it was last taken back from a dead peer.
    taken_back: Option<u64>,
}

/// The index of a socket among all sockets.
pub(crate) fn index(socket: SocketKey) -> usize {
    socket.proxy as usize * SocketName::ALL.len() + socket.side as usize
}

impl Model {
    pub(crate) fn new(config: &Config, style: Style, now: Instant, coder_step_size: usize) -> Self {
        let may_shed = config.memory_limit > 0;
        let mut model = Self {
            asked: 0,
            batch: 0,
            calls: 0,
            clients: crate::curve::client_keys().collect(),
            coder_step_size,
            names: Vec::new(),
            let_in: 0,
            requests: BTreeMap::new(),
            roles: config.roles.clone(),
            users: config.users.clone(),
            now,
            pending: BTreeSet::new(),
            contests: BTreeSet::new(),
            kicked: Vec::new(),
            may_shed,
            passing: BTreeSet::new(),
            mirrors: BTreeMap::new(),
            removed: BTreeSet::new(),
            sockets: Vec::new(),
            style,
            terminated: BTreeMap::new(),
            reloading: Vec::new(),
            watches: Vec::new(),
        };
        for proxy in &config.proxies {
            model.add_proxy(proxy);
        }
        model
    }

    /// One more proxy, behind the others.
    pub(crate) fn add_proxy(&mut self, proxy: &ProxyConfig) {
        let may_shed = self.may_shed;
        self.names.push(proxy.name.clone());
        let sockets = SocketName::ALL.map(|side| SocketModel {
            config: proxy.socket(side).clone(),
            closed: 0,
            excused: 0,
            is_lossy: may_shed || may_drop(proxy.socket_type(side), &proxy.socket(side).options),
            overflow: match overflow(proxy.socket_type(side), &proxy.socket(side).options) {
                // Copies and answers never wait.
                Overflow::Block if side.side().is_none() => Overflow::DropNewest,
                overflow => overflow,
            },
            expected: 0,
            fates: BTreeMap::new(),
            given: BTreeMap::new(),
            keeps_for_links: !(proxy.socket(side).options.immediate
                || proxy.socket(side).connect.is_empty()),
            is_loose: false,
            // The receivers of a REP's answers are checked elsewhere.
            is_vague: proxy.socket_type(side) == SocketType::Rep,
            kept: BTreeSet::new(),
            late: 0,
            largest: 0,
            names: BTreeMap::new(),
            numbers: Numbers::of(proxy, side),
            offered: 0,
            options: proxy.socket(side).options.clone(),
            requeued: Some(0),
            requester: None,
            lost: 0,
            unasked: 0,
            received: 0,
            socket_type: proxy.socket_type(side),
            values: None,
        });
        let number = u32::try_from(self.sockets.len() / SocketName::ALL.len());
        self.sockets.extend(sockets);
        self.set_cache(number.expect("few proxies"), proxy);
        let capture = &proxy.capture;
        let is_lossy = may_drop(capture.socket_type, &capture.socket.options);
        let watch = Watch::new(proxy, (may_shed, is_lossy), self.style);
        self.watches.push(watch);
    }

    pub(crate) fn socket(&self, id: ConnId) -> &SocketModel {
        &self.sockets[index(self.mirrors[&id].socket)]
    }

    pub(crate) fn connected(&mut self, id: ConnId, socket: SocketKey, plug: Plug, now: Instant) {
        let SocketModel {
            socket_type,
            config,
            ..
        } = &self.sockets[index(socket)];
        let mut mirror = Mirror::new((socket, *socket_type), config, plug, now, self.style);
        mirror.coder_step_size = self.coder_step_size;
        let former = self.mirrors.insert(id, mirror);
        assert!(former.is_none(), "{id:?} was given away twice");
    }

    /// The program has decided about a peer; its input is heard when the broker goes on with it.
    pub(crate) fn decided(&mut self, id: ConnId, authorization: Authorization) {
        let at = self.mirrors[&id].socket;
        let authorization = match authorization {
            Authorization::Granted { user: Some(user) } if !self.may_be_at(at, &user) => {
                Authorization::Denied { is_told: false }
            }
            other => other,
        };
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        mirror.is_denied = matches!(authorization, Authorization::Denied { .. });
        mirror.is_undecided = false;
        mirror.decision = Some(authorization);
    }

    /// The broker goes on with the rest of a peer's input, after it has learned of a new decision
    /// about the peer.
    pub(crate) fn hear_decision(&mut self, id: ConnId) -> BTreeSet<ConnId> {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        if let Some(user) = mirror.unchecked.take() {
            let (at, is_told) = (mirror.socket, mirror.is_told);
            let user = user.filter(|user| self.may_be_at(at, user));
            let mirror = self.mirrors.get_mut(&id).expect("it is connected");
            mirror.decide(user, is_told);
        }
        if self.mirrors[&id].decision.is_none() {
            return BTreeSet::new();
        }
        self.hear(id, &[])
    }

    /// The broker is about to handle these bytes; returns the connections to which it must send
    /// something.
    pub(crate) fn hear(&mut self, id: ConnId, bytes: &[u8]) -> BTreeSet<ConnId> {
        self.batch += 1;
        let mut mirror = self.mirrors.remove(&id).expect("it is connected");
        let at = mirror.socket;
        if !bytes.is_empty() {
            mirror.heard_at = Some(self.now);
        }
        let all = mirror.hear(bytes, &|user| self.may_be_at(at, user));
        let contest = mirror.contest.as_mut();
        let now = match contest {
            Some(contest) => {
                contest.said.extend(all);
                Vec::new()
            }
            None => all,
        };
        self.mirrors.insert(id, mirror);
        self.take(id, now)
    }

    /// The broker handles what a peer has said; returns the connections to which it must send
    /// something.
    fn take(&mut self, id: ConnId, all: Vec<Heard>) -> BTreeSet<ConnId> {
        let mut targets = BTreeSet::new();
        let mut all = all.into_iter();
        while let Some(heard) = all.next() {
            match heard {
                // A PAIR's second peer is refused, and its input is ignored.
                Heard::Ready(_) if self.is_pair_taken(id) => break,
                // So is the input of a peer that announces an identity of the generated form.
                Heard::Ready(peer) if self.is_reserved(id, &peer.identity) => break,
                // And that of a peer that may not take an identity from another user.
                Heard::Ready(peer) if self.is_of_other_user(id, &peer) => break,
                // That of one that must wait for its identity waits too.
                Heard::Ready(peer)
                    if self.has_rival(id, &peer) && !self.mirrors[&id].has_waited =>
                {
                    self.begin_contest(id, peer, all.collect());
                    break;
                }
                // And that of a peer whose role does not permit it to be there.
                Heard::Ready(peer) if !self.take_part(id, &peer.identity) => break,
                Heard::Ready(peer) => {
                    let mirror = self.mirrors.get_mut(&id).expect("it is connected");
                    assert!(!mirror.is_denied, "{id:?} was denied, and came in");
                    mirror.phase = Phase::Ready;
                    mirror.was_ready = true;
                    mirror.identity = peer.identity.to_vec();
                    let socket = &mut self.sockets[index(mirror.socket)];
                    if !peer.identity.is_empty() {
                        socket.names.insert(peer.identity.to_vec(), id);
                    }
                }
                Heard::Subscription { add, topic } => {
                    if !self.subscribed(id, topic, add) {
                        break;
                    }
                }
                Heard::Command(command) => self.asked(id, &command),
                Heard::Loops(said) => {
                    // The peer claims that this connection is part of a loop, which ends it.
                    if said == LoopCommand::Loop && self.mirrors[&id].is_neighbour {
                        break;
                    }
                }
                Heard::Message {
                    is_enveloped,
                    is_empty,
                    is_single_frame,
                    message,
                    size,
                } => {
                    let key = message.key;
                    if self.is_forbidden(id, &message.first) {
                        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
                        mirror.heard_messages += 1;
                        mirror.denied.push(mirror.heard_messages);
                        continue;
                    }
                    self.count(id, (key, is_enveloped), size);
                    self.note_lie(id, key);
                    let pending = Pending {
                        first: message.first.clone(),
                        is_empty,
                        is_single_frame,
                        key,
                    };
                    if self.decides_late(id) {
                        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
                        mirror.pending.push_back(pending);
                        self.pending.insert(id);
                    } else {
                        targets.extend(self.expect_all(id, &pending, None));
                    }
                    self.pass_later(id, message, size);
                }
            }
        }
        targets
    }

    fn is_reserved(&self, id: ConnId, identity: &[u8]) -> bool {
        let own = self.mirrors[&id].socket;
        let is_router = self.sockets[index(own)].socket_type == SocketType::Router;
        is_router && identity.len() == 9 && identity[0] == 0
    }

    fn is_pair_taken(&self, id: ConnId) -> bool {
        let own = self.mirrors[&id].socket;
        self.sockets[index(own)].socket_type == SocketType::Pair && self.live(own).next().is_some()
    }

    /// A peer whose messages equal those of others cannot be distinguished from them.
    fn note_lie(&mut self, id: ConnId, key: Key) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let is_router = self.sockets[index(mirror.socket)].socket_type == SocketType::Router;
        if is_router && matches!(key, Key::Other(_)) {
            mirror.is_wild = true;
            mirror.expected.clear();
            mirror.begun.clear();
        }
    }

    /// Whether messages of this peer may wait, though their receivers are determined.
    fn decides_late(&self, id: ConnId) -> bool {
        let mirror = &self.mirrors[&id];
        let is_paced = mirror.part.as_ref().is_some_and(Part::is_paced);
        let across = mirror.socket.across();
        let waits = is_paced || mirror.has_waited;
        across.is_some_and(|across| waits || self.sockets[index(across)].blocks())
    }

    /// Whether messages of this peer go to one of many.
    pub(crate) fn goes_to_one(&self, id: ConnId) -> bool {
        let own = self.mirrors[&id].socket;
        own.across()
            .is_some_and(|across| is_balanced(self.sockets[index(across)].socket_type))
    }

    /// The receivers of a message, which are noted.
    fn expect_all(&mut self, id: ConnId, message: &Pending, call: Option<u64>) -> Vec<ConnId> {
        self.keep(id, message, call);
        let number = self.number(id, message.key, call);
        let chosen = self.route(id, (&message.first, message.is_single_frame));
        for target in &chosen {
            self.expect(*target, message.key, number);
        }
        chosen
    }

    /// Decides about messages that have gone on since the last call.
    fn decide(&mut self, core: &Core) {
        self.calls += 1;
        for id in self.pending.clone() {
            let received = core.messages_received(id);
            loop {
                let mirror = self.mirrors.get_mut(&id).expect("it is connected");
                if mirror.passed_late >= received {
                    break;
                }
                mirror.passed_late += 1;
                let message = mirror.pending.pop_front();
                let message =
                    message.unwrap_or_else(|| panic!("{id:?}: more messages went on than arrived"));
                for target in self.expect_all(id, &message, Some(self.calls)) {
                    let options = &self.socket(target).options;
                    let is_full =
                        core.is_blocked(target) && is_at_high_water(core, target, options);
                    let mirror = self.mirrors.get_mut(&target).expect("it is connected");
                    if let Some(expected) = mirror.expected.back_mut() {
                        expected.is_excused |= is_full;
                        expected.is_single = false;
                    }
                }
            }
            if self.mirrors[&id].pending.is_empty() {
                self.pending.remove(&id);
            }
        }
    }

    /// Notes a message that captures and controls must learn of when it goes on.
    fn pass_later(&mut self, id: ConnId, message: Passing, size: usize) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let is_watched = self.watches[mirror.socket.proxy as usize].is_some();
        let goes_on = self.sockets[index(mirror.socket)].socket_type != SocketType::Push
            && mirror.socket.side.side().is_some();
        if is_watched && goes_on {
            let capture = SocketKey {
                side: SocketName::Capture,
                ..mirror.socket
            };
            // A copy has its direction in front.
            let largest = &mut self.sockets[index(capture)].largest;
            *largest = (*largest).max(size + 100);
            mirror.passing.push_back(message);
            self.passing.insert(id);
        }
    }

    /// The core was called, and is closing these connections: notes the messages that have gone on.
    pub(crate) fn called(&mut self, core: &Core, closing: &[ConnId]) {
        self.decide(core);
        self.check_answered(core, closing);
        let Self {
            passing,
            mirrors,
            sockets,
            watches,
            ..
        } = self;
        for (proxy, watch) in (0..).zip(watches) {
            let Some(watch) = watch else { continue };
            let capture = SocketKey {
                proxy,
                side: SocketName::Capture,
            };
            let options = &sockets[index(capture)].options;
            let readers = mirrors.iter();
            let readers = readers.filter(|(_, it)| it.socket == capture && it.is_live());
            let audience = readers.map(|(id, mirror)| {
                let is_at_high_water = is_at_high_water(core, *id, options);
                Audience {
                    id: *id,
                    is_at_high_water,
                    is_closing: closing.contains(id),
                    is_full: is_at_high_water && core.is_blocked(*id),
                    is_inverted: options.invert_matching,
                    topics: &mirror.topics,
                }
            });
            let audience: Vec<Audience<'_>> = audience.collect();
            let mut peers = mirrors.iter().filter(|(_, it)| it.socket == capture);
            let has_peers = peers.any(|(id, it)| it.phase == Phase::Ready && !closing.contains(id));
            watch.called(&audience, has_peers);
            for id in passing
                .iter()
                .filter(|id| mirrors[*id].socket.proxy == proxy)
            {
                let mirror = &mirrors[id];
                let sender = Sender {
                    id: *id,
                    identity: &mirror.identity,
                    side: mirror.socket.side,
                };
                let count = usize::try_from(core.messages_received(*id) - mirror.passed);
                let gone = mirror.passing.iter().take(count.expect("few messages"));
                for (order, message) in (mirror.passed..).zip(gone) {
                    watch.passed(&sender, order, message, &audience);
                }
            }
        }
        passing.retain(|id| {
            let mirror = mirrors.get_mut(id).expect("it is connected");
            let received = core.messages_received(*id);
            while mirror.passed < received {
                mirror.passed += 1;
                let message = mirror.passing.pop_front();
                let message = message.unwrap_or_else(|| {
                    panic!("{id:?}: more messages went on than it sent");
                });
                mirror.gone.insert((message.first, message.frames));
            }
            !mirror.passing.is_empty()
        });
    }

    /// Counts a message of a peer, and remembers it if it goes to one of many.
    fn count(&mut self, id: ConnId, (key, is_enveloped): (Key, bool), size: usize) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        mirror.heard_messages += 1;
        mirror.heard_bytes += size as u64;
        let order = mirror.heard_messages;
        let Some(across) = mirror.socket.across() else {
            return;
        };
        let source_type = self.sockets[index(mirror.socket)].socket_type;
        let socket = &mut self.sockets[index(across)];
        // A REP puts the envelope of the request in front of an answer.
        let envelope = match socket.socket_type {
            SocketType::Rep => 300,
            // A number is behind it.
            SocketType::Xpub => 10,
            _ => 0,
        };
        socket.largest = socket.largest.max(size + envelope);
        // A REP discards requests that it cannot answer.
        let is_taken = source_type != SocketType::Rep || is_enveloped;
        let is_balanced = is_balanced(socket.socket_type);
        if is_balanced && is_taken {
            let fate = socket.fates.entry(key).or_insert(Fate {
                batch: self.batch,
                begun: 0,
                heard: 0,
                order,
                source: id,
                taken_back: None,
            });
            fate.heard += 1;
        }
    }

    fn expect(&mut self, target: ConnId, key: Key, number: Option<u64>) {
        let mirror = self.mirrors.get_mut(&target).expect("it is connected");
        let socket = &mut self.sockets[index(mirror.socket)];
        // Replies of misbehaving peers are not expected: they may have any identity.
        let is_wild = socket.socket_type == SocketType::Router && matches!(key, Key::Other(_));
        if is_wild || mirror.is_wild || socket.is_vague {
            return;
        }
        socket.expected += 1;
        mirror.expected.push_back(Expected {
            at: self.now,
            batch: self.batch,
            is_excused: socket.is_lossy,
            is_single: true,
            key,
            number,
        });
    }

    /// The broker has handled the input of [`Self::hear`], in several goes; after one of them the
    /// queues of those in `full` were full.
    pub(crate) fn handled(
        &mut self,
        targets: &BTreeSet<ConnId>,
        full: &BTreeSet<ConnId>,
        goes: u32,
    ) {
        for target in targets {
            let mirror = self.mirrors.get_mut(target).expect("it is connected");
            let of_batch = |expected: &&mut Expected| expected.batch == self.batch;
            for expected in mirror.expected.iter_mut().rev().take_while(of_batch) {
                expected.is_excused |= full.contains(target);
                expected.is_single = goes == 1;
            }
        }
    }

    /// The input of `id` waits. If only subscriptions may wait, and messages after them, it is
    /// unknown when a subscription takes effect.
    pub(crate) fn parked(&mut self, id: ConnId) {
        let own = self.mirrors[&id].socket;
        let Some(across) = own.across() else {
            return;
        };
        if self.contests.contains(&id) {
            return;
        }
        let to = &self.sockets[index(across)];
        let source_type = self.sockets[index(own)].socket_type;
        // Messages that are decided late may wait; subscriptions among them may not.
        let waits = to.blocks() && source_type != SocketType::Xpub;
        if is_balanced(to.socket_type) || waits || to.socket_type == SocketType::Rep {
            return;
        }
        let of_proxy = [index(own), index(across)];
        for socket in of_proxy {
            self.sockets[socket].is_vague = true;
        }
        let mirrors = self.mirrors.values_mut();
        for mirror in mirrors.filter(|mirror| of_proxy.contains(&index(mirror.socket))) {
            mirror.expected.clear();
            mirror.begun.clear();
            mirror.missed = 0;
        }
    }

    /// A proxy is told to end. The queues of links that are down are taken back, unseen here.
    pub(crate) fn terminate(&mut self, proxy: u32) {
        self.terminated.entry(proxy).or_insert(self.now);
        for side in SocketName::SIDES {
            let socket = &mut self.sockets[index(SocketKey { proxy, side })];
            if socket.keeps_for_links {
                socket.requeued = None;
            }
        }
    }

    /// `id` will be closed soon; `queued` is its queue.
    pub(crate) fn dying(&mut self, id: ConnId, queued: &[IoSlice<'_>]) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let socket = index(mirror.socket);
        let is_labelled = self.is_labelled(socket);
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let socket = &mut self.sockets[socket];
        if is_balanced(socket.socket_type) && mirror.is_live() {
            mirror.is_dying = true;
            let unsent = mirror.unsent(queued);
            let count = unsent.as_ref().map(|unsent| unsent.len() as u64);
            let before = std::mem::replace(&mut mirror.unsent_before, count.unwrap_or(0));
            let sum = socket.requeued.map(|sum| sum - before);
            socket.requeued = sum.zip(count).map(|(sum, more)| sum + more);
            for message in unsent.into_iter().flatten() {
                let is_labelled = is_labelled && socket.socket_type == SocketType::Dealer;
                let key = known(self.style, is_labelled, &message);
                if let Some(fate) = socket.fates.get_mut(&key)
                    && !socket.keeps_for_links
                {
                    fate.taken_back = Some(self.batch);
                }
            }
        }
    }

    /// The broker has closed `id`, of which `received` messages went on; `is_excused` if it need
    /// not handle the rest.
    pub(crate) fn closed(&mut self, id: ConnId, received: u64, is_excused: bool) {
        self.reconcile();
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let socket = &mut self.sockets[index(mirror.socket)];
        socket.closed += 1;
        socket.received += received;
        mirror.handled = Some(received);
        // The broker declared it dead without looking at its queue.
        if is_balanced(socket.socket_type) && mirror.is_live() && !mirror.is_dying {
            socket.requeued = None;
        }
        if is_excused || self.may_shed && mirror.heard_messages > received {
            let left = mirror.left(received);
            if let Some(across) = mirror.socket.across() {
                self.sockets[index(across)].excused += left;
            }
        }
        mirror.close();
        mirror.closed_at = Some(self.now);
        self.forget_asked(id);
        self.passing.remove(&id);
        self.pending.remove(&id);
        self.kicked.retain(|kicked| *kicked != id);
        self.reloading.retain(|asker| *asker != id);
    }

    /// Excuses the loss of messages that wait on a socket without a peer, or without a peer that
    /// will become ready, or that is not forwarded to, or for the first reader of a capture.
    pub(crate) fn excuse_lonely(&mut self) {
        for socket in 0..self.sockets.len() {
            let is_here = |mirror: &Mirror| index(mirror.socket) == socket && mirror.is_live();
            let is_heard = self.sockets[socket].options.balance != Balance::Ready;
            let proxy = socket / SocketName::ALL.len();
            let goes_on = !self.is_paused(proxy) && self.may_be_copied(proxy);
            let has_takers = is_heard && self.mirrors.values().any(is_here);
            self.sockets[socket].is_loose |= !goes_on || !has_takers;
        }
    }

    pub(crate) fn is_paused(&self, proxy: usize) -> bool {
        let watch = self.watches[proxy].as_ref();
        watch.is_some_and(|watch| watch.is_paused)
    }
}

impl SocketModel {
    /// Whether messages for its peers wait until they have room.
    pub(crate) fn blocks(&self) -> bool {
        let is_for_some = matches!(
            self.socket_type,
            SocketType::Router | SocketType::Xpub | SocketType::Xsub
        );
        is_for_some && self.overflow == Overflow::Block
    }
}

/// The treatment of messages for a full queue of this socket type, from all options that concern
/// it.
fn overflow(socket_type: SocketType, options: &SocketOptions) -> Overflow {
    let is_publisher = matches!(socket_type, SocketType::Pub | SocketType::Xpub);
    match options.overflow {
        _ if options.conflate => Overflow::Conflate,
        _ if options.xpub_nodrop && is_publisher => Overflow::Block,
        Overflow::Standard if is_balanced(socket_type) => Overflow::Block,
        Overflow::Standard => Overflow::DropNewest,
        overflow => overflow,
    }
}

/// The key by which the source of a message knows it that a socket of this type sends.
fn known(style: Style, is_labelled: bool, message: &[u8]) -> Key {
    let mut frames = Frames::new(message);
    if is_labelled {
        frames.next();
    }
    key_of(style, frames.rest())
}

/// Whether each message goes to one of the peers.
pub(crate) fn is_balanced(socket_type: SocketType) -> bool {
    matches!(socket_type, SocketType::Dealer | SocketType::Push)
}
