//! Conditions that must hold when the world is quiet, and at the end.

use crate::context::SocketKey;
use crate::context::{Context, Owner, SECOND};
use crate::mirror::{Mirror, Phase};
use crate::model::{Model, SocketModel, index, is_balanced};
use crate::node::Node;
use crate::peers::{Peer, Role};
use crate::world::World;
use broker::config::{Overflow, SocketName};
use broker::reason::DropReason;
use broker::view::SocketView;
use broker::{ConnId, Egress, SLICES_MAX};
use std::collections::BTreeSet;
use std::io::IoSlice;
use zmtp::SocketType;

impl World {
    /// Every peer has read everything sent to it, and has sent everything that it began.
    pub(crate) fn check_quiet(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| !node.is_dead) {
            assert!(node.is_quiet(), "a broker is awake without work");
            if !self.script.beats {
                node.turn_for_nothing(&self.ctx);
            }
            let left = node.core.memory();
            if left.queues > 0 {
                self.ctx
                    .trace
                    .show(|| format!("{:#?}", node.core.statistics()));
            }
            // A refused peer is closed late, and some of its input may be left until then.
            let mirrors = node.hosts.keys().map(|id| &node.model.mirrors[id]);
            let has_refused = mirrors.into_iter().any(|mirror| mirror.is_denied);
            let may_wait = self.script.beats && has_refused;
            assert!(left.inputs == 0 || may_wait, "{} bytes kept", left.inputs);
            assert_eq!(left.queues, 0, "memory in use");
            assert_eq!(node.model.reloading, [], "peers that wait for a reload");
            check_figures(node, &mut self.ctx);
            check_nothing_lost(&node.model);
            node.model.check_values();
            assert_eq!(
                node.model.contests,
                [].into(),
                "peers that wait for identities"
            );
            check_subscriptions(&node.model);
            check_shown_subscriptions(&node.model);
            node.model.check_requests();
            let mirrors = node.model.mirrors.values();
            let values = mirrors.map(|mirror| mirror.offers.sent).sum();
            self.ctx.coverage.add("last values", values);
            let let_in = node.model.let_in;
            self.ctx.coverage.add("peers that handlers let in", let_in);
        }
        for node in self.nodes.iter().filter(|node| !node.is_dead) {
            for (id, host) in &node.hosts {
                let mirror = &node.model.mirrors[id];
                let is_whole = self.ctx.is_whole(host.plug.cable);
                let may_wait = self.script.beats || !mirror.is_denied;
                assert!(may_wait, "{id:?} was denied, and is not closed");
                if mirror.phase == Phase::Ready && is_whole {
                    self.check_connection(*id, mirror);
                }
            }
        }
    }

    /// Both ends of a connection that was never lost agree about it.
    fn check_connection(&self, id: ConnId, mirror: &Mirror) {
        let other = mirror.plug.other();
        let (received, sent) = match self.ctx.cables[other.cable].owners[other.side] {
            Owner::Node(index) => {
                let node = &self.nodes[index];
                let mirror = node
                    .model
                    .mirrors
                    .values()
                    .find(|mirror| mirror.plug == other)
                    .expect("both ends are open");
                (mirror.heard_messages, mirror.begun_messages)
            }
            Owner::Peer(index) => {
                let peer = &self.peers[index];
                let Some(wire) = peer.wire.as_ref().filter(|wire| wire.plug == other) else {
                    return;
                };
                if peer.is_liar() {
                    return;
                }
                assert_eq!(wire.pending(), 0, "{id:?} has not read what its peer wrote");
                check_view(peer, mirror);
                (wire.received_messages, wire.sent_messages)
            }
        };
        assert_eq!(
            received, mirror.begun_messages,
            "sent by {id:?} and received"
        );
        assert_eq!(sent, mirror.heard_messages, "sent to {id:?} and handled");
    }

    /// Without faults, peers have read everything that a broker wrote before it closed.
    fn check_last_words(&self, node: &Node) {
        if self.script.fault_gap.is_some() || node.config.memory_limit > 0 {
            return;
        }
        for peer in self.peers.iter().filter(|peer| !peer.is_liar()) {
            let Some((plug, received)) = &peer.past else {
                continue;
            };
            let of_peer = |mirror: &&Mirror| mirror.plug == plug.other();
            let Some(mirror) = node.model.mirrors.values().find(of_peer) else {
                continue;
            };
            let is_due = node.parted.contains(&mirror.plug);
            if is_due && !node.impatient.contains(&mirror.plug) {
                let begun = mirror.begun_messages;
                let cable = mirror.plug.cable;
                assert_eq!(*received, begun, "the last messages over cable {cable}");
            }
        }
    }

    /// The brokers have ended and kept every promise on the way.
    pub(crate) fn check_stopped(&mut self) {
        for node in self.nodes.iter().filter(|node| !node.is_dead) {
            assert!(node.core.is_stopped(), "a broker does not stop");
            assert!(node.hosts.is_empty(), "a stopped broker has connections");
            for snapshot in &node.core.statistics() {
                let socket = &node.model.sockets[index(socket_of(node, snapshot))];
                assert_eq!(snapshot.peers, 0, "a stopped broker has peers");
                let unsent = snapshot.counters.dropped(DropReason::Stopping);
                self.ctx.coverage.add(DropReason::Stopping.label(), unsent);
                let ends: u64 = snapshot
                    .counters
                    .closed
                    .iter()
                    .map(|(_, count)| count)
                    .sum();
                assert_eq!(ends, socket.closed, "connections that ended");
            }
            let stopped_at = node.stopped_at.expect("it was told to stop");
            let drain = self.ctx.span(node.config.drain_timeout);
            let longest = stopped_at + drain + 3 * SECOND;
            let gone_at = node.gone_at.expect("it is stopped");
            assert!(gone_at < longest, "a broker took too long to stop");
            let is_drained = node.drained_at.is_some_and(|at| at < stopped_at + drain);
            if is_drained && !node.is_hurried && !node.is_impatient() {
                check_nothing_lost(&node.model);
                self.check_last_words(node);
            }
        }
        for peer in &self.peers {
            assert!(
                peer.wire.is_none(),
                "a peer does not know that the broker is gone"
            );
        }
    }
}

/// A queue is as large as its content.
pub(crate) fn check_size(id: ConnId, egress: &Egress) {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let count = egress.plain_slices(&[], &mut slices);
    let plain: usize = slices[..count].iter().map(|slice| slice.len()).sum();
    let bytes = (plain + egress.sealed_bytes()) as u64;
    if count < SLICES_MAX {
        assert_eq!(bytes, egress.bytes(), "bytes in the queue of {id:?}");
    } else {
        assert!(bytes <= egress.bytes(), "bytes in the queue of {id:?}");
    }
}

fn check_view(peer: &Peer, mirror: &Mirror) {
    if let Role::Publisher(publisher) = &peer.role {
        assert_eq!(publisher.topics, mirror.view, "subscriptions in transit");
    }
}

/// The broker's figures equal those of the model.
fn check_figures(node: &Node, ctx: &mut Context) {
    let snapshots = node.core.statistics();
    ctx.trace.show(|| format!("{snapshots:#?}"));
    for snapshot in &snapshots {
        let what = format!("{} {}", snapshot.proxy, snapshot.socket);
        let own = socket_of(node, snapshot);
        let socket = &node.model.sockets[index(own)];
        let mirrors: Vec<&Mirror> = node
            .model
            .mirrors
            .values()
            .filter(|mirror| mirror.socket == own)
            .collect();
        assert_eq!(snapshot.queued_messages, 0, "{what}: messages queued");
        assert_eq!(snapshot.queued_bytes, 0, "{what}: bytes queued");
        assert_eq!(snapshot.waiting, 0, "{what}: connections that wait");
        let ready = mirrors.iter().filter(|mirror| mirror.phase == Phase::Ready);
        assert_eq!(snapshot.peers, ready.count(), "{what}: peers");
        let ends = snapshot.counters.closed.iter().map(|(_, count)| count);
        assert_eq!(
            ends.sum::<u64>(),
            socket.closed,
            "{what}: connections ended"
        );
        let live = node
            .hosts
            .keys()
            .filter(|id| node.model.mirrors[*id].socket == own);
        let received: u64 = live.map(|id| node.core.messages_received(*id)).sum();
        assert_eq!(
            snapshot.counters.messages_in,
            received + socket.received,
            "{what}: the sum over its connections"
        );
        check_bytes_out(&what, snapshot, &mirrors);
        if let Some(key) = own.across() {
            let mut others = snapshots.iter();
            let across = others
                .find(|other| other.socket == key.side && other.proxy == snapshot.proxy)
                .expect("a proxy has two sides");
            let opposite = &node.model.sockets[index(key)];
            check_input(&what, snapshot, &mirrors, socket.socket_type, opposite);
            check_reasons(&what, node, snapshot, socket);
            check_output(&what, snapshot, across, socket);
            check_missed(&what, snapshot, &mirrors, socket);
        } else if own.side == SocketName::Replay {
            check_askers(&what, snapshot, &mirrors);
        } else if own.side == SocketName::Zap {
            check_handlers(&what, snapshot, &mirrors, socket);
        } else {
            check_auxiliary(&what, node, snapshot, &mirrors);
            if own.side == SocketName::Capture {
                let missed = snapshot.counters.dropped(DropReason::PeerFull);
                ctx.coverage.add("copies missed", missed);
            }
        }
        check_forgers(&what, snapshot, &mirrors);
        for reason in DropReason::ALL {
            ctx.coverage
                .add(reason.label(), snapshot.counters.dropped(reason));
        }
        ctx.coverage.add("requeued", snapshot.counters.requeued);
        for (label, count) in &snapshot.counters.closed {
            let is_late = ["heartbeat-timeout", "ttl-expired"].contains(label);
            assert!(
                !ctx.is_fair || !is_late,
                "{what}: a live peer was declared dead"
            );
            ctx.coverage.add(label, *count);
        }
    }
}

fn socket_of(node: &Node, snapshot: &SocketView) -> SocketKey {
    let mut proxies = (0..).zip(&node.config.proxies);
    let found = proxies.find(|(_, config)| config.name == snapshot.proxy);
    SocketKey {
        proxy: found.expect("it is configured").0,
        side: snapshot.socket,
    }
}

/// Only peers that forged frames are closed for that.
fn check_forgers(what: &str, own: &SocketView, mirrors: &[&Mirror]) {
    const LABELS: [&str; 2] = ["nonce-repeated", "not-encrypted"];
    for label in LABELS {
        let forgers = mirrors.iter().filter(|it| it.forged == Some(label));
        let (count, most) = (own.counters.closed_for(label), forgers.count() as u64);
        assert!(
            count <= most,
            "{what}: {count} closed, {label}, {most} forged"
        );
    }
}

/// Each request for messages was counted.
fn check_askers(what: &str, own: &SocketView, mirrors: &[&Mirror]) {
    let heard: u64 = mirrors.iter().map(|mirror| mirror.heard_messages).sum();
    let is_whole = mirrors.iter().all(|mirror| mirror.phase != Phase::Closed);
    let came = own.counters.messages_in;
    let is_right = came == heard || !is_whole && came < heard;
    assert!(is_right, "{what}: {heard} requests, {came} in");
}

/// Each request was queued for a handler, and each message of one was counted.
fn check_handlers(what: &str, own: &SocketView, mirrors: &[&Mirror], socket: &SocketModel) {
    let counters = &own.counters;
    let heard: u64 = mirrors.iter().map(|mirror| mirror.heard_messages).sum();
    assert_eq!(counters.messages_out, socket.expected, "{what}: requests");
    // Some may have arrived with the end of their handler.
    let is_whole = mirrors.iter().all(|mirror| mirror.phase != Phase::Closed);
    let is_right = counters.messages_in == heard || !is_whole && counters.messages_in < heard;
    assert!(
        is_right,
        "{what}: {heard} answers, {} in",
        counters.messages_in
    );
    let refused = counters.dropped(DropReason::NotExpected);
    assert!(refused <= counters.messages_in, "{what}: {refused} dropped");
}

/// A capture has queued or dropped its copies, a control its answers.
fn check_auxiliary(what: &str, node: &Node, snapshot: &SocketView, mirrors: &[&Mirror]) {
    let (model, own) = (&node.model, socket_of(node, snapshot));
    let watch = model.watches[own.proxy as usize].as_ref();
    let watch = watch.expect("it has an endpoint");
    let counters = &snapshot.counters;
    let heard: u64 = mirrors.iter().map(|mirror| mirror.heard_messages).sum();
    let refused = counters.dropped(DropReason::NotExpected);
    let full = counters.dropped(DropReason::PeerFull);
    let may_shed = node.config.memory_limit > 0;
    if own.side == SocketName::Control {
        assert_eq!(counters.messages_in, heard, "{what}: questions");
        let expired = counters.dropped(DropReason::Expired);
        // An answer that is too old may be dropped by the end of its proxy first.
        let most = expired + counters.dropped(DropReason::Stopping);
        let is_expired = (expired..=most).contains(&watch.expired);
        assert!(
            full == watch.unanswered && is_expired || may_shed,
            "{what}: answers dropped"
        );
        return;
    }
    assert_eq!(
        (counters.messages_in, refused),
        (0, heard),
        "{what}: refused"
    );
    if may_shed {
        return;
    }
    let own_model = &model.sockets[index(own)];
    check_reasons(what, node, snapshot, own_model);
    let dropped = counters.drops.iter().sum::<u64>() - refused;
    let requeued = model.sockets[index(own)].requeued;
    if let Some(requeued) = requeued.filter(|_| is_balanced(snapshot_type(node, own))) {
        assert_eq!(counters.requeued, requeued, "{what}: copies taken back");
    }
    let is_live = |id: ConnId| model.mirrors[&id].is_live();
    let is_ended = model.terminated.contains_key(&own.proxy);
    watch.check_quiet(what, (dropped, requeued, is_ended), is_live);
    // The unsent subscriptions of a dead reader are unknown.
    let is_whole = mirrors
        .iter()
        .all(|mirror| mirror.is_live() || !mirror.was_ready);
    let refused_copies = if own_model.overflow.takes_back() {
        0
    } else {
        full
    };
    let subscriptions = watch.views().1;
    let done = counters.messages_out + refused_copies;
    let (least, most) = (
        watch.expected - watch.unsure,
        watch.expected + subscriptions,
    );
    let is_forwarder = model.sockets[index(SocketKey {
        side: SocketName::Backend,
        ..own
    })]
    .socket_type
        == SocketType::Xpub;
    assert!(
        done >= least,
        "{what}: {done} copies queued or dropped, {least} due"
    );
    if is_whole && dropped == 0 || !is_forwarder {
        assert!(
            done <= most,
            "{what}: {done} copies queued or dropped, {most} due"
        );
    }
}

fn snapshot_type(node: &Node, socket: SocketKey) -> SocketType {
    node.config.proxies[socket.proxy as usize].socket_type(socket.side)
}

/// A reader of a capture that missed nothing knows for each topic whether it is wanted.
fn check_shown_subscriptions(model: &Model) {
    for (proxy, watch) in (0..).zip(&model.watches) {
        let Some(watch) = watch else { continue };
        let backend = SocketKey {
            proxy,
            side: SocketName::Backend,
        };
        let subscribers = model.mirrors.values();
        let subscribers = subscribers.filter(|other| other.is_live() && other.socket == backend);
        let wanted: BTreeSet<&Vec<u8>> = subscribers.flat_map(|other| &other.topics).collect();
        // The cancel of one subscriber is shown while others still want the topic.
        let is_verboser = model.sockets[index(backend)].options.xpub_verboser;
        for (id, view) in watch
            .views()
            .0
            .filter(|(id, _)| model.mirrors[id].is_live())
        {
            for (topic, is_wanted) in view {
                let is_cancelled = is_verboser && !is_wanted;
                assert!(
                    is_cancelled || *is_wanted == wanted.contains(topic),
                    "{id:?} was shown otherwise: {} {is_wanted}",
                    topic.escape_ascii()
                );
            }
        }
    }
}

fn check_input(
    what: &str,
    snapshot: &SocketView,
    mirrors: &[&Mirror],
    socket_type: SocketType,
    across: &SocketModel,
) {
    let counters = &snapshot.counters;
    let heard: u64 = mirrors.iter().map(|mirror| mirror.heard_messages).sum();
    let bytes: u64 = mirrors.iter().map(|mirror| mirror.heard_bytes).sum();
    if socket_type == SocketType::Push {
        let refused = counters.dropped(DropReason::NotExpected);
        assert_eq!(counters.messages_in, 0, "{what}: a PUSH receives nothing");
        let left = heard - refused;
        let is_all = left <= across.excused || across.is_loose;
        assert!(is_all, "{what}: {refused} of {heard} refused");
    } else {
        let denied = counters.dropped(DropReason::Denied);
        let forbidden: u64 = mirrors.iter().map(|it| it.denied.len() as u64).sum();
        assert!(
            denied <= forbidden,
            "{what}: {denied} messages denied, {forbidden} forbidden"
        );
        let handled = counters.messages_in + counters.dropped(DropReason::WithoutEnvelope) + denied;
        assert!(handled <= heard, "{what}: messages in");
        let left = heard - handled;
        let closed = || {
            let closed = mirrors.iter().filter_map(|mirror| {
                let left = mirror.left(mirror.handled?);
                (left > 0).then_some((mirror.plug, left))
            });
            closed.collect::<Vec<_>>()
        };
        assert!(
            left <= across.excused || across.is_loose,
            "{what}: {left} messages of {heard} are not handled; left when closed: {:?}",
            closed()
        );
        if counters.messages_in == heard {
            assert_eq!(counters.bytes_in, bytes, "{what}: bytes in");
        }
    }
    let was_ready = mirrors.iter().filter(|mirror| mirror.was_ready).count() as u64;
    assert_eq!(counters.peers_attached, was_ready, "{what}: peers attached");
}

/// Queued bytes were written, except unsent ones of dead peers and dropped ones.
fn check_bytes_out(what: &str, snapshot: &SocketView, mirrors: &[&Mirror]) {
    let counters = &snapshot.counters;
    let begun = |mirror: &&Mirror| mirror.begun_messages - mirror.greetings;
    let messages: u64 = mirrors.iter().map(begun).sum();
    let bytes: u64 = mirrors.iter().map(|mirror| mirror.begun_bytes).sum();
    if counters.messages_out == messages {
        assert_eq!(counters.bytes_out, bytes, "{what}: bytes out");
    } else {
        assert!(counters.bytes_out >= bytes, "{what}: bytes out");
    }
}

/// Messages are dropped only for the reasons that the options of a socket give.
fn check_reasons(what: &str, node: &Node, own: &SocketView, socket: &SocketModel) {
    let overflow = socket.overflow;
    let SocketKey { proxy, .. } = socket_of(node, own);
    let conflates = matches!(overflow, Overflow::Conflate | Overflow::ConflateTopic);
    let may_be = |reason| match reason {
        DropReason::Expired => !socket.options.max_age.is_zero(),
        DropReason::MemoryLimit => node.config.memory_limit > 0,
        DropReason::PeerFull => overflow != Overflow::Block,
        DropReason::Replaced => conflates,
        DropReason::NoSuchPeer | DropReason::WithoutBody => {
            socket.socket_type == SocketType::Router
        }
        DropReason::Stopping => node.has_cut_off(proxy),
        DropReason::Denied
        | DropReason::NotExpected
        | DropReason::TooManySubscriptions
        | DropReason::WithoutEnvelope => true,
    };
    for reason in DropReason::ALL {
        let count = own.counters.dropped(reason);
        // A departed peer cannot take its answer.
        let is_gone = socket.socket_type == SocketType::Rep && reason == DropReason::NoSuchPeer;
        assert!(
            count == 0 || may_be(reason) || is_gone,
            "{what}: {count} messages dropped, {}",
            reason.label()
        );
    }
}

/// Messages from across were sent or dropped.
fn check_output(what: &str, own: &SocketView, across: &SocketView, socket: &SocketModel) {
    let counters = &own.counters;
    let dropped = |reasons: &[DropReason]| -> u64 {
        let counts = reasons.iter().map(|reason| counters.dropped(*reason));
        counts.sum()
    };
    // Where the oldest message is dropped, it had been queued.
    let refused = if socket.overflow.takes_back() {
        0
    } else {
        dropped(&[DropReason::PeerFull])
    };
    let came = across.counters.messages_in;
    if socket.is_vague && socket.socket_type != SocketType::Rep {
        return;
    }
    match socket.socket_type {
        SocketType::Dealer | SocketType::Push => {
            assert_eq!(
                counters.messages_out + refused,
                came,
                "{what}: messages out"
            );
            if let Some(requeued) = socket.requeued {
                assert_eq!(counters.requeued, requeued, "{what}: messages taken back");
            }
            assert!(
                socket.late <= counters.requeued,
                "{what}: {} messages out of order, {} taken back",
                socket.late,
                counters.requeued
            );
            check_lost(what, own, socket);
        }
        SocketType::Router | SocketType::Rep => {
            let absent = dropped(&[DropReason::NoSuchPeer, DropReason::WithoutBody]);
            let unasked = if socket.socket_type == SocketType::Rep {
                dropped(&[DropReason::NotExpected])
            } else {
                0
            };
            assert_eq!(
                counters.messages_out + refused + absent + unasked,
                came,
                "{what}: replies"
            );
        }
        // The time at which a message went on is unknown, and so are the peers for which it was
        // counted.
        SocketType::Xpub | SocketType::Xsub if socket.blocks() => {}
        SocketType::Xpub | SocketType::Xsub => {
            let (done, due) = (counters.messages_out + refused, socket.expected);
            // A receiver that is closed for its memory amid an input misses the rest of that.
            let is_known = counters.closed_for("memory-shed") == 0;
            let least = if is_known { due } else { 0 };
            assert!(
                (least..=due + socket.offered).contains(&done),
                "{what}: {done} messages for its peers, {due} due, {} values",
                socket.offered
            );
        }
        _ => {
            assert_eq!(counters.messages_out, 0, "{what}: a PULL sends nothing");
        }
    }
}

/// Received messages that were never sent were dropped and counted.
pub(crate) fn check_lost(what: &str, own: &SocketView, socket: &SocketModel) {
    let refused = own.counters.dropped(DropReason::NotExpected);
    let dropped = own.counters.drops.iter().sum::<u64>() - refused;
    let lost = socket.fates.values().map(|fate| fate.heard - fate.begun);
    let lost: u64 = lost.map(u64::from).sum();
    assert!(
        socket.is_loose || lost <= dropped + socket.excused,
        "{what}: {lost} messages came in and never went out, {dropped} were dropped"
    );
    assert!(
        lost >= dropped,
        "{what}: {lost} messages came in and never went out, {dropped} were dropped"
    );
}

/// Messages that connected peers of a socket missed were dropped and counted.
fn check_missed(what: &str, own: &SocketView, mirrors: &[&Mirror], socket: &SocketModel) {
    let live = mirrors.iter().filter(|mirror| mirror.is_live());
    let missed = |mirror: &&Mirror| {
        let unseen = socket.missed_behind_values(mirror);
        mirror.missed + mirror.expected.len() as u64 + unseen
    };
    let missed: u64 = live.map(missed).sum();
    let dropped: u64 = own.counters.drops.iter().sum();
    assert!(
        missed <= dropped,
        "{what}: {missed} missed, {dropped} dropped"
    );
}

/// Every message for one of many peers went to one, and every other message to its receivers.
fn check_nothing_lost(model: &Model) {
    for (proxy, socket) in model.sockets.iter().enumerate() {
        let proxy = u32::try_from(proxy / SocketName::ALL.len()).expect("few proxies");
        // It may drop what no peer is left to take, which is counted: `check_lost` compares that.
        if model.terminated.contains_key(&proxy) {
            continue;
        }
        if !is_balanced(socket.socket_type) || socket.is_lossy {
            continue;
        }
        let lost = socket.fates.iter();
        let mut lost = lost.filter(|(_, fate)| fate.begun < fate.heard);
        let count = lost
            .clone()
            .map(|(_, fate)| u64::from(fate.heard - fate.begun));
        let is_lost = count.sum::<u64>() > socket.excused && !socket.is_loose;
        if let Some((key, _)) = lost.next().filter(|_| is_lost) {
            panic!("{key:?} came in and never went out");
        }
    }
    let live = model.mirrors.iter().filter(|(_, mirror)| mirror.is_live());
    for (id, mirror) in live {
        let socket = &model.sockets[index(mirror.socket)];
        // The newest message is never dropped for a newer one.
        let keeps_newest = socket.overflow.takes_back() && socket.options.max_age.is_zero();
        assert!(
            !keeps_newest || model.may_shed || mirror.expected.is_empty(),
            "{id:?} was not sent the newest message for it"
        );
        for expected in &mirror.expected {
            assert!(
                expected.is_excused,
                "{id:?} missed {:?} though its queue was not full",
                expected.key
            );
        }
    }
}

/// Every publisher knows the subscriptions of all subscribers together.
fn check_subscriptions(model: &Model) {
    for mirror in model.mirrors.values().filter(|mirror| mirror.is_live()) {
        let socket = &model.sockets[index(mirror.socket)];
        if socket.socket_type != SocketType::Xsub {
            continue;
        }
        let subscribers = model
            .mirrors
            .values()
            .filter(|other| other.is_live() && Some(other.socket) == mirror.socket.across());
        let wanted = subscribers.flat_map(|other| &other.topics);
        let wanted = wanted.flat_map(|topic| narrowed(topic, &socket.options.subscribe));
        let mut wanted: BTreeSet<&[u8]> = wanted.collect();
        let kept = socket.kept.iter();
        wanted.extend(kept.flat_map(|topic| narrowed(topic, &socket.options.subscribe)));
        let view: BTreeSet<&[u8]> = mirror.view.iter().map(Vec::as_slice).collect();
        assert_eq!(view, wanted, "what a publisher knows, and what is wanted");
    }
}

/// The topics that publishers may be asked for, if a peer wants this topic: the topic itself if it
/// is within an allowed one, otherwise the allowed ones within it.
fn narrowed<'a>(topic: &'a [u8], allowed: &'a [String]) -> Vec<&'a [u8]> {
    let mut allowed = allowed.iter().map(String::as_bytes);
    if allowed.len() == 0 || allowed.clone().any(|prefix| topic.starts_with(prefix)) {
        return vec![topic];
    }
    let within = allowed.by_ref().filter(|prefix| prefix.starts_with(topic));
    within.collect()
}
