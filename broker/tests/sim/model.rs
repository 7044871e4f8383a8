//! What a broker must do with what it reads, decided beside it and compared with what it writes.

mod answers;
mod written;

use crate::context::SocketKey;
use crate::message::{Key, Style, key_of};
use crate::net::Plug;
use crate::shadow::{Expected, Heard, Pending, Phase, Shadow, Unit};
use crate::watch::{Audience, Passing, Sender, Watch, is_at_high_water};
use broker::config::{Balance, Config, Overflow, SocketName, SocketOptions};
use broker::{ConnId, Core};
use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::time::Instant;
use zmtp::wire::command::Command;
use zmtp::{Frames, LoopCommand, SocketType};

#[derive(Debug)]
pub(crate) struct Model {
    /// Questions that have just been put to a control.
    asked: usize,
    batch: u64,
    /// When the broker's turn began.
    pub(crate) now: Instant,
    /// Connections that have sent what is decided on when it goes on.
    pending: BTreeSet<ConnId>,
    /// Connections that a control was told to close.
    pub(crate) kicked: Vec<ConnId>,
    /// Whom a shortage of memory hits is not known here.
    pub(crate) may_shed: bool,
    /// Connections that have sent what has not gone on, where somebody watches.
    passing: BTreeSet<ConnId>,
    pub(crate) shadows: BTreeMap<ConnId, Shadow>,
    pub(crate) sockets: Vec<SocketModel>,
    style: Style,
    /// Proxies that were told to end, and when.
    pub(crate) terminated: BTreeMap<u32, Instant>,
    /// By proxy.
    pub(crate) watches: Vec<Option<Watch>>,
}

/// One socket of one proxy.
#[derive(Debug)]
pub(crate) struct SocketModel {
    pub(crate) closed: u64,
    /// Messages that were for one or several of its peers, each counted.
    pub(crate) expected: u64,
    /// DEALER, PUSH: what became of each message that one of its peers is to get.
    pub(crate) fates: BTreeMap<Key, Fate>,
    /// Messages for this socket that were heard and left unhandled when connections ended.
    pub(crate) excused: u64,
    /// ROUTER: whose identity was made up by the broker.
    given: BTreeMap<Vec<u8>, ConnId>,
    /// Subscriptions had to wait for publishers: who was to get what, and when, is not known.
    pub(crate) is_vague: bool,
    /// What was queued for a peer that is gone waits until the broker has reached it again.
    keeps_for_links: bool,
    /// Messages were heard from across that a dead connection left unhandled.
    pub(crate) is_loose: bool,
    /// A message that was queued may be dropped again, which is counted.
    pub(crate) is_lossy: bool,
    /// DEALER, PUSH: messages that were written behind younger ones of the same sender.
    pub(crate) late: u64,
    /// Bytes of the largest message for one of its peers.
    pub(crate) largest: usize,
    /// ROUTER: who announced which identity.
    names: BTreeMap<Vec<u8>, ConnId>,
    pub(crate) options: SocketOptions,
    pub(crate) overflow: Overflow,
    /// DEALER, PUSH: unwritten messages of dead peers; `None` if that could not be seen.
    pub(crate) requeued: Option<u64>,
    /// REP: who has asked and waits, as far as that is certain.
    requester: Option<ConnId>,
    /// REP: messages that the socket across has dropped.
    lost: u64,
    /// REP: answers that nobody had asked for.
    unasked: u64,
    /// What connections that are gone were said to have sent.
    pub(crate) received: u64,
    pub(crate) socket_type: SocketType,
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// When it came.
    batch: u64,
    pub(crate) begun: u32,
    pub(crate) heard: u32,
    order: u64,
    source: ConnId,
    /// When it was last taken back from a dead peer.
    taken_back: Option<u64>,
}

/// The index of a socket among all sockets.
pub(crate) fn index(socket: SocketKey) -> usize {
    socket.proxy as usize * SocketName::ALL.len() + socket.side as usize
}

impl Model {
    pub(crate) fn new(config: &Config, style: Style, now: Instant) -> Self {
        let may_shed = config.memory_limit > 0;
        let sockets = config.proxies.iter().flat_map(|proxy| {
            SocketName::ALL.map(|side| SocketModel {
                closed: 0,
                excused: 0,
                is_lossy: may_shed
                    || may_drop(proxy.socket_type(side), &proxy.socket(side).options),
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
                // To whom a REP's answers go is checked in another way.
                is_vague: proxy.socket_type(side) == SocketType::Rep,
                late: 0,
                largest: 0,
                names: BTreeMap::new(),
                options: proxy.socket(side).options.clone(),
                requeued: Some(0),
                requester: None,
                lost: 0,
                unasked: 0,
                received: 0,
                socket_type: proxy.socket_type(side),
            })
        });
        Self {
            asked: 0,
            batch: 0,
            now,
            pending: BTreeSet::new(),
            kicked: Vec::new(),
            may_shed,
            passing: BTreeSet::new(),
            shadows: BTreeMap::new(),
            sockets: sockets.collect(),
            style,
            terminated: BTreeMap::new(),
            watches: config
                .proxies
                .iter()
                .map(|proxy| {
                    let capture = &proxy.capture;
                    let is_lossy = may_drop(capture.socket_type, &capture.socket.options);
                    Watch::new(proxy, (may_shed, is_lossy), style)
                })
                .collect(),
        }
    }

    pub(crate) fn socket(&self, id: ConnId) -> &SocketModel {
        &self.sockets[index(self.shadows[&id].socket)]
    }

    pub(crate) fn connected(&mut self, id: ConnId, socket: SocketKey, plug: Plug, now: Instant) {
        let SocketModel {
            socket_type,
            options,
            ..
        } = &self.sockets[index(socket)];
        let shadow = Shadow::new((socket, *socket_type), options, plug, now, self.style);
        let former = self.shadows.insert(id, shadow);
        assert!(former.is_none(), "{id:?} was given away twice");
    }

    /// The broker is about to handle these bytes; answers with those it must send something.
    pub(crate) fn hear(&mut self, id: ConnId, bytes: &[u8]) -> BTreeSet<ConnId> {
        self.batch += 1;
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        let mut targets = BTreeSet::new();
        for heard in shadow.hear(bytes) {
            match heard {
                // A PAIR's second peer is refused, and nothing of what it says is heard.
                Heard::Ready(_) if self.is_pair_taken(id) => break,
                // Nor of what a peer says that announces a name of the form that the broker makes.
                Heard::Ready(peer) if self.is_reserved(id, &peer.identity) => break,
                Heard::Ready(peer) => {
                    let shadow = self.shadows.get_mut(&id).expect("it is connected");
                    shadow.phase = Phase::Ready;
                    shadow.was_ready = true;
                    shadow.identity = peer.identity.to_vec();
                    let socket = &mut self.sockets[index(shadow.socket)];
                    if !peer.identity.is_empty() {
                        socket.names.insert(peer.identity.to_vec(), id);
                    }
                }
                Heard::Subscription { add, topic } => {
                    let shadow = self.shadows.get_mut(&id).expect("it is connected");
                    let options = &self.sockets[index(shadow.socket)].options;
                    let has_room = shadow.topics.len() < options.subscriptions_max as usize;
                    if !add {
                        shadow.topics.remove(&topic);
                    } else if has_room {
                        shadow.topics.insert(topic);
                    }
                }
                Heard::Command(command) => self.asked(id, &command),
                Heard::Loops(said) => {
                    // It says that this connection is part of a loop, which ends it.
                    if said == LoopCommand::Loop && self.shadows[&id].is_neighbour {
                        break;
                    }
                }
                Heard::Message {
                    is_enveloped,
                    is_single_frame,
                    message,
                    size,
                } => {
                    let key = message.key;
                    self.count(id, (key, is_enveloped), size);
                    self.note_lie(id, key);
                    let pending = Pending {
                        first: message.first.clone(),
                        is_single_frame,
                        key,
                    };
                    if self.decides_late(id) {
                        let shadow = self.shadows.get_mut(&id).expect("it is connected");
                        shadow.pending.push_back(pending);
                        self.pending.insert(id);
                    } else {
                        targets.extend(self.expect_all(id, &pending));
                    }
                    self.pass_later(id, message, size);
                }
            }
        }
        targets
    }

    fn is_reserved(&self, id: ConnId, identity: &[u8]) -> bool {
        let own = self.shadows[&id].socket;
        let is_router = self.sockets[index(own)].socket_type == SocketType::Router;
        is_router && identity.len() == 9 && identity[0] == 0
    }

    fn is_pair_taken(&self, id: ConnId) -> bool {
        let own = self.shadows[&id].socket;
        self.sockets[index(own)].socket_type == SocketType::Pair && self.live(own).next().is_some()
    }

    /// One whose messages are like those of others is not told from them.
    fn note_lie(&mut self, id: ConnId, key: Key) {
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        let is_router = self.sockets[index(shadow.socket)].socket_type == SocketType::Router;
        if is_router && matches!(key, Key::Other(_)) {
            shadow.is_wild = true;
            shadow.expected.clear();
            shadow.begun.clear();
        }
    }

    /// Whether messages of this peer may wait, though they are for certain others.
    fn decides_late(&self, id: ConnId) -> bool {
        let own = self.shadows[&id].socket;
        own.across()
            .is_some_and(|across| self.sockets[index(across)].blocks())
    }

    /// Whether what this peer sends goes to one of many.
    pub(crate) fn goes_to_one(&self, id: ConnId) -> bool {
        let own = self.shadows[&id].socket;
        own.across()
            .is_some_and(|across| is_balanced(self.sockets[index(across)].socket_type))
    }

    /// Whom a message must reach, and notes that it must.
    fn expect_all(&mut self, id: ConnId, message: &Pending) -> Vec<ConnId> {
        let chosen = self.route(id, (&message.first, message.is_single_frame));
        for target in &chosen {
            self.expect(*target, message.key);
        }
        chosen
    }

    /// Decides on messages that have gone on since the core was last asked.
    fn decide(&mut self, core: &Core) {
        for id in self.pending.clone() {
            let received = core.messages_received(id);
            loop {
                let shadow = self.shadows.get_mut(&id).expect("it is connected");
                if shadow.passed_late >= received {
                    break;
                }
                shadow.passed_late += 1;
                let message = shadow.pending.pop_front();
                let message = message.unwrap_or_else(|| panic!("{id:?}: more went on than came"));
                self.expect_all(id, &message);
            }
            if self.shadows[&id].pending.is_empty() {
                self.pending.remove(&id);
            }
        }
    }

    /// Takes note of a message that somebody who watches is to know of when it goes on.
    fn pass_later(&mut self, id: ConnId, message: Passing, size: usize) {
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        let is_watched = self.watches[shadow.socket.proxy as usize].is_some();
        let goes_on = self.sockets[index(shadow.socket)].socket_type != SocketType::Push
            && shadow.socket.side.side().is_some();
        if is_watched && goes_on {
            let capture = SocketKey {
                side: SocketName::Capture,
                ..shadow.socket
            };
            // A copy has its direction in front.
            let largest = &mut self.sockets[index(capture)].largest;
            *largest = (*largest).max(size + 100);
            shadow.passing.push_back(message);
            self.passing.insert(id);
        }
    }

    /// The core has been called, and is closing these connections: takes note of what has gone on.
    pub(crate) fn called(&mut self, core: &Core, closing: &[ConnId]) {
        self.decide(core);
        self.check_answered(core, closing);
        let Self {
            passing,
            shadows,
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
            let readers = shadows.iter();
            let readers = readers.filter(|(_, it)| it.socket == capture && it.is_live());
            let audience = readers.map(|(id, shadow)| {
                let is_at_high_water = is_at_high_water(core, *id, options);
                Audience {
                    id: *id,
                    is_at_high_water,
                    is_closing: closing.contains(id),
                    is_full: is_at_high_water && core.is_blocked(*id),
                    is_inverted: options.invert_matching,
                    topics: &shadow.topics,
                }
            });
            let audience: Vec<Audience<'_>> = audience.collect();
            let mut peers = shadows.iter().filter(|(_, it)| it.socket == capture);
            let has_peers = peers.any(|(id, it)| it.phase == Phase::Ready && !closing.contains(id));
            watch.called(&audience, has_peers);
            for id in passing
                .iter()
                .filter(|id| shadows[*id].socket.proxy == proxy)
            {
                let shadow = &shadows[id];
                let sender = Sender {
                    id: *id,
                    identity: &shadow.identity,
                    side: shadow.socket.side,
                };
                let count = usize::try_from(core.messages_received(*id) - shadow.passed);
                let gone = shadow.passing.iter().take(count.expect("few messages"));
                for (order, message) in (shadow.passed..).zip(gone) {
                    watch.passed(&sender, order, message, &audience);
                }
            }
        }
        passing.retain(|id| {
            let shadow = shadows.get_mut(id).expect("it is connected");
            let received = core.messages_received(*id);
            while shadow.passed < received {
                shadow.passed += 1;
                let message = shadow.passing.pop_front();
                assert!(message.is_some(), "{id:?}: more went on than it sent");
            }
            !shadow.passing.is_empty()
        });
    }

    /// A control was sent this.
    fn asked(&mut self, id: ConnId, message: &[u8]) {
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        shadow.heard_messages += 1;
        shadow.heard_bytes += message.len() as u64;
        let SocketKey { proxy, .. } = shadow.socket;
        let is_rep = self.sockets[index(shadow.socket)].socket_type == SocketType::Rep;
        let mut frames = Frames::new(message);
        if is_rep {
            while frames.next().is_some_and(|frame| !frame.body.is_empty()) {}
        }
        let Some(command) = frames.next().map(|frame| frame.body) else {
            return;
        };
        if command == b"TERMINATE" {
            self.terminated.entry(proxy).or_insert(self.now);
        }
        let text = String::from_utf8_lossy(command);
        let is_meant = |shadow: &Shadow| {
            let address = crate::node::address(shadow.plug).to_string();
            let quoted = format!("\"{address}\"");
            shadow.socket.proxy == proxy
                && shadow.phase != Phase::Closed
                && text.contains("\"kick\"")
                && text.contains(&quoted)
        };
        let shadows = self.shadows.iter().filter(|(_, shadow)| is_meant(shadow));
        // The asker is spared.
        let others = shadows.map(|(id, _)| *id).filter(|other| *other != id);
        let kicked: Vec<ConnId> = others.collect();
        if let Some(watch) = &mut self.watches[proxy as usize] {
            self.asked += watch.asked(id, command, kicked.len(), is_rep);
        }
        self.kicked.extend(kicked);
    }

    /// Something is about to be written to `id`: finds answers of a control that are too old.
    pub(crate) fn writing(&mut self, core: &Core, id: ConnId) {
        let shadow = &self.shadows[&id];
        let options = &self.sockets[index(shadow.socket)].options;
        let has_ages = shadow.socket.side == SocketName::Control && !options.max_age.is_zero();
        if let Some(egress) = core.egress(id).filter(|_| has_ages && shadow.is_live())
            && let Some(watch) = &mut self.watches[shadow.socket.proxy as usize]
        {
            watch.keep_answers(id, egress.messages() - shadow.begun_last());
        }
    }

    /// How many questions there were since this was last asked.
    pub(crate) fn take_asked(&mut self) -> usize {
        std::mem::take(&mut self.asked)
    }

    /// Something is being sent to a reader of a capture or to whoever is at a control.
    fn begun_beside(&mut self, id: ConnId, message: &[u8]) {
        let shadows = &self.shadows;
        let socket = shadows[&id].socket;
        let is_rep = self.sockets[index(socket)].socket_type == SocketType::Rep;
        let watch = &mut self.watches[socket.proxy as usize];
        let watch = watch.as_mut().expect("somebody watches");
        if socket.side == SocketName::Control {
            return watch.answered(id, message, is_rep);
        }
        let side_of = |sender: ConnId| shadows[&sender].socket.side;
        if let Some((sender, identity)) = watch.shown(id, message, side_of) {
            self.learn(sender, identity);
        }
    }

    /// Counts a message that a peer sent, and remembers it if it goes to one of many.
    fn count(&mut self, id: ConnId, (key, is_enveloped): (Key, bool), size: usize) {
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        shadow.heard_messages += 1;
        shadow.heard_bytes += size as u64;
        let order = shadow.heard_messages;
        let Some(across) = shadow.socket.across() else {
            return;
        };
        let source_type = self.sockets[index(shadow.socket)].socket_type;
        let socket = &mut self.sockets[index(across)];
        // A REP puts the envelope of the request in front of an answer.
        let envelope = if socket.socket_type == SocketType::Rep {
            300
        } else {
            0
        };
        socket.largest = socket.largest.max(size + envelope);
        // What a REP cannot answer it discards.
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

    /// Whom a message must reach, as far as that is certain.
    fn route(&self, id: ConnId, (first, is_single_frame): (&[u8], bool)) -> Vec<ConnId> {
        let own = self.shadows[&id].socket;
        let Some(target) = own.across() else {
            return Vec::new();
        };
        let socket = &self.sockets[index(target)];
        match (self.sockets[index(own)].socket_type, socket.socket_type) {
            (SocketType::Xsub, _) => {
                let wants = |shadow: &Shadow| {
                    let mut topics = shadow.topics.iter();
                    let is_match = topics.any(|topic| first.starts_with(topic));
                    is_match != socket.options.invert_matching
                };
                let live = self.live(target).filter(|(_, shadow)| wants(shadow));
                live.map(|(id, _)| id).collect()
            }
            (SocketType::Xpub, _) => self.live(target).map(|(id, _)| id).collect(),
            (_, SocketType::Router) if !is_single_frame => {
                let bearer = self.bearer(target, first);
                bearer.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn live(&self, socket: SocketKey) -> impl Iterator<Item = (ConnId, &Shadow)> {
        let of_socket =
            move |(_, shadow): &(&ConnId, &Shadow)| shadow.socket == socket && shadow.is_live();
        let shadows = self.shadows.iter().filter(of_socket);
        shadows.map(|(id, shadow)| (*id, shadow))
    }

    /// Who has this identity now.
    fn bearer(&self, socket: SocketKey, identity: &[u8]) -> Option<ConnId> {
        let socket = &self.sockets[index(socket)];
        let is_live = |id: &&ConnId| self.shadows[*id].is_live();
        let given = socket.given.get(identity).filter(is_live);
        let named = socket.names.get(identity).filter(is_live);
        given.or(named).copied()
    }

    fn expect(&mut self, target: ConnId, key: Key) {
        let shadow = self.shadows.get_mut(&target).expect("it is connected");
        let socket = &mut self.sockets[index(shadow.socket)];
        // A liar's reply is held against nothing: it may bear any identity.
        let is_wild = socket.socket_type == SocketType::Router && matches!(key, Key::Other(_));
        if is_wild || shadow.is_wild || socket.is_vague {
            return;
        }
        socket.expected += 1;
        shadow.expected.push_back(Expected {
            at: self.now,
            batch: self.batch,
            is_excused: socket.is_lossy,
            is_single: true,
            key,
        });
    }

    /// The broker has handled what [`Self::hear`] announced, in so many goes; after one of them the
    /// queues of those in `full` were full.
    pub(crate) fn handled(
        &mut self,
        targets: &BTreeSet<ConnId>,
        full: &BTreeSet<ConnId>,
        goes: u32,
    ) {
        for target in targets {
            let shadow = self.shadows.get_mut(target).expect("it is connected");
            let of_batch = |expected: &&mut Expected| expected.batch == self.batch;
            for expected in shadow.expected.iter_mut().rev().take_while(of_batch) {
                expected.is_excused |= full.contains(target);
                expected.is_single = goes == 1;
            }
        }
    }

    /// Compares what was written with what had to be.
    pub(crate) fn reconcile(&mut self) {
        for (id, shadow) in &mut self.shadows {
            while let Some(key) = shadow.begun.pop_front() {
                if self.sockets[index(shadow.socket)].blocks() {
                    take_in_order(*id, shadow, key);
                    continue;
                }
                let expected = loop {
                    let expected = shadow.expected.pop_front();
                    let expected = expected.unwrap_or_else(|| {
                        panic!("{id:?} was sent {key:?}: not for it, or twice, or out of order")
                    });
                    if expected.key == key {
                        break expected;
                    }
                    assert!(
                        expected.is_excused,
                        "{id:?} missed {:?} though its queue was not full; then came {key:?}",
                        expected.key
                    );
                    shadow.missed += 1;
                    shadow.skipped = expected.is_single.then_some(expected.batch);
                };
                let socket = &self.sockets[index(shadow.socket)];
                let (max_age, age) = (socket.options.max_age, self.now - expected.at);
                assert!(
                    max_age.is_zero() || socket.blocks() || age <= max_age,
                    "{id:?} was sent {key:?} after {age:?}, {max_age:?} are allowed"
                );
                let is_lossy = socket.is_lossy;
                assert!(
                    is_lossy || shadow.skipped != Some(expected.batch),
                    "{id:?} was sent {key:?} though its queue had been full before"
                );
            }
        }
    }

    /// What `id` has said waits. Where nothing may wait but subscriptions, and what stands behind
    /// them, it is not known any more when a subscription counts.
    pub(crate) fn parked(&mut self, id: ConnId) {
        let own = self.shadows[&id].socket;
        let Some(across) = own.across() else {
            return;
        };
        let to = &self.sockets[index(across)];
        let source_type = self.sockets[index(own)].socket_type;
        // What is decided late may wait; subscriptions among it may not.
        let waits = to.blocks() && source_type != SocketType::Xpub;
        if is_balanced(to.socket_type) || waits || to.socket_type == SocketType::Rep {
            return;
        }
        let of_proxy = [index(own), index(across)];
        for socket in of_proxy {
            self.sockets[socket].is_vague = true;
        }
        let shadows = self.shadows.values_mut();
        for shadow in shadows.filter(|shadow| of_proxy.contains(&index(shadow.socket))) {
            shadow.expected.clear();
            shadow.begun.clear();
            shadow.missed = 0;
        }
    }

    /// `id` is about to be given up; `queued` is what waits to be sent to it.
    pub(crate) fn dying(&mut self, id: ConnId, queued: &[IoSlice<'_>]) {
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        let socket = index(shadow.socket);
        let is_labelled = self.is_labelled(socket);
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        let socket = &mut self.sockets[socket];
        if is_balanced(socket.socket_type) && shadow.is_live() {
            shadow.is_dying = true;
            let unsent = shadow.unsent(queued);
            let count = unsent.as_ref().map(|unsent| unsent.len() as u64);
            socket.requeued = socket.requeued.zip(count).map(|(sum, more)| sum + more);
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

    /// The broker has given up `id`, of which so many messages went on; `is_excused` if it had more
    /// to handle and need not.
    pub(crate) fn closed(&mut self, id: ConnId, received: u64, is_excused: bool) {
        self.reconcile();
        let shadow = self.shadows.get_mut(&id).expect("it is connected");
        let socket = &mut self.sockets[index(shadow.socket)];
        socket.closed += 1;
        socket.received += received;
        // One that the broker thought dead: nobody has looked at its queue.
        if is_balanced(socket.socket_type) && shadow.is_live() && !shadow.is_dying {
            socket.requeued = None;
        }
        if is_excused || self.may_shed && shadow.heard_messages > received {
            let left = shadow.heard_messages - received;
            if let Some(across) = shadow.socket.across() {
                self.sockets[index(across)].excused += left;
            }
        }
        shadow.close();
        self.passing.remove(&id);
        self.pending.remove(&id);
        self.kicked.retain(|kicked| *kicked != id);
    }

    /// Excuses the loss of what waits for peers of a socket that has none, or none that will be
    /// heard to say that it is ready, or to which nothing is passed on.
    pub(crate) fn excuse_lonely(&mut self) {
        for socket in 0..self.sockets.len() {
            let is_here = |shadow: &Shadow| index(shadow.socket) == socket && shadow.is_live();
            let is_heard = self.sockets[socket].options.balance != Balance::Ready;
            let is_paused = self.is_paused(socket / SocketName::ALL.len());
            let has_takers = is_heard && self.shadows.values().any(is_here);
            self.sockets[socket].is_loose |= is_paused || !has_takers;
        }
    }

    /// Whether anybody is there to get what `id` sends.
    pub(crate) fn has_takers(&self, id: ConnId) -> bool {
        let target = self.shadows[&id].socket.across();
        target.is_some_and(|target| {
            !self.is_paused(target.proxy as usize) && self.live(target).next().is_some()
        })
    }

    pub(crate) fn is_paused(&self, proxy: usize) -> bool {
        let watch = self.watches[proxy].as_ref();
        watch.is_some_and(|watch| watch.is_paused)
    }
}

impl SocketModel {
    /// Whether a message for one of its peers, or for some, waits until they have room.
    pub(crate) fn blocks(&self) -> bool {
        let is_for_some = matches!(
            self.socket_type,
            SocketType::Router | SocketType::Xpub | SocketType::Xsub
        );
        is_for_some && self.overflow == Overflow::Block
    }
}

/// What a socket of this type does when a queue is full, whichever option says so.
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

/// Whether what is queued for a peer of a socket may be dropped again, or what goes to one of its
/// peers may go to none.
fn may_drop(socket_type: SocketType, options: &SocketOptions) -> bool {
    let overflow = overflow(socket_type, options);
    let drops = matches!(overflow, Overflow::DropNewest | Overflow::Disconnect);
    overflow.takes_back() || !options.max_age.is_zero() || is_balanced(socket_type) && drops
}

/// Takes what `id` was sent out of what it must be sent. When messages of several senders that had
/// to wait went on is known, their order is not.
fn take_in_order(id: ConnId, shadow: &mut Shadow, key: Key) {
    let sender = |key| match key {
        Key::Numbered(_, sender, _) => Some(sender),
        Key::Other(_) => None,
    };
    let found = shadow.expected.iter().position(|it| it.key == key);
    let at = found.unwrap_or_else(|| panic!("{id:?} was sent {key:?}: not for it, or twice"));
    let before = shadow.expected.iter().take(at);
    let missed = before.filter(|it| sender(it.key).is_some() && sender(it.key) == sender(key));
    for expected in missed {
        assert!(
            expected.is_excused,
            "{id:?} missed {:?} though it had to wait; then came {key:?}",
            expected.key
        );
    }
    shadow.expected.remove(at);
}

/// How the source of a message knows it that a socket of this type sends.
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
