//! What must be true when nothing happens any more, and when everything is over.

use crate::context::{Context, Owner, SECOND};
use crate::model::{Model, SocketModel, index, is_balanced};
use crate::node::Node;
use crate::peers::{Peer, Role};
use crate::shadow::{Phase, Shadow};
use crate::world::World;
use broker::ConnId;
use broker::config::Side;
use broker::stats::SocketSnapshot;
use broker::why::Drop;
use std::collections::BTreeSet;
use zmtp::SocketType;

impl World {
    /// Everybody has read what was sent to him and sent what he had to say.
    pub(crate) fn check_quiet(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| !node.is_dead) {
            assert!(node.is_quiet(), "a broker is awake for nothing");
            if !self.script.beats {
                node.turn_for_nothing(&self.ctx);
            }
            assert_eq!(node.core.memory_in_use(), 0, "memory in use");
            check_figures(node, &mut self.ctx);
            check_nothing_lost(&node.model);
            check_subscriptions(&node.model);
        }
        for node in self.nodes.iter().filter(|node| !node.is_dead) {
            for (id, host) in &node.hosts {
                let shadow = &node.model.shadows[id];
                let is_whole = self.ctx.is_whole(host.plug.cable);
                if shadow.phase == Phase::Ready && is_whole {
                    self.check_connection(*id, shadow);
                }
            }
        }
    }

    /// Both ends of a connection that was never lost have seen the same.
    fn check_connection(&self, id: ConnId, shadow: &Shadow) {
        let other = shadow.plug.other();
        let (received, sent) = match self.ctx.cables[other.cable].owners[other.side] {
            Owner::Node(index) => {
                let node = &self.nodes[index];
                let shadow = node
                    .model
                    .shadows
                    .values()
                    .find(|shadow| shadow.plug == other)
                    .expect("both ends are open");
                (shadow.heard_messages, shadow.begun_messages)
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
                check_view(peer, shadow);
                (wire.received_messages, wire.sent_messages)
            }
        };
        assert_eq!(
            received, shadow.begun_messages,
            "sent by {id:?} and received"
        );
        assert_eq!(sent, shadow.heard_messages, "sent to {id:?} and handled");
    }

    /// Where nothing went wrong, what a broker wrote before it closed was read.
    fn check_last_words(&self, node: &Node) {
        if self.script.fault_gap.is_some() || node.config.memory_limit > 0 {
            return;
        }
        for peer in self.peers.iter().filter(|peer| !peer.is_liar()) {
            let Some((plug, received)) = &peer.past else {
                continue;
            };
            let of_peer = |shadow: &&Shadow| shadow.plug == plug.other();
            let Some(shadow) = node.model.shadows.values().find(of_peer) else {
                continue;
            };
            let is_due = node.parted.contains(&shadow.plug);
            if is_due && !node.impatient.contains(&shadow.plug) {
                let begun = shadow.begun_messages;
                let cable = shadow.plug.cable;
                assert_eq!(*received, begun, "the last messages over cable {cable}");
            }
        }
    }

    /// The brokers are gone, and nothing they promised was broken on the way.
    pub(crate) fn check_stopped(&mut self) {
        for node in self.nodes.iter().filter(|node| !node.is_dead) {
            assert!(node.core.is_stopped(), "a broker does not stop");
            assert!(node.hosts.is_empty(), "a stopped broker has connections");
            for (snapshot, socket) in node.core.statistics().iter().zip(&node.model.sockets) {
                assert_eq!(snapshot.peers, 0, "a stopped broker has peers");
                let unsent = snapshot.counters.dropped(Drop::Stopping);
                self.ctx.coverage.add(Drop::Stopping.label(), unsent);
                let ends: u64 = snapshot
                    .counters
                    .closed
                    .iter()
                    .map(|(_, count)| count)
                    .sum();
                assert_eq!(ends, socket.closed, "connections that ended");
            }
            let stopped_at = node.stopped_at.expect("it was told to");
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
                "a peer was not told that the broker is gone"
            );
        }
    }
}

fn check_view(peer: &Peer, shadow: &Shadow) {
    if let Role::Publisher(publisher) = &peer.role {
        assert_eq!(publisher.topics, shadow.view, "subscriptions on their way");
    }
}

/// The broker's figures are those of the model.
fn check_figures(node: &Node, ctx: &mut Context) {
    let snapshots = node.core.statistics();
    ctx.trace.show(|| format!("{snapshots:#?}"));
    for snapshot in &snapshots {
        let what = format!("{} {}", snapshot.proxy, snapshot.side);
        let own = usize::from(snapshot.side == Side::Backend);
        let proxy = node.config.proxies.iter();
        let at = proxy
            .zip(0..)
            .find(|(proxy, _)| proxy.name == snapshot.proxy)
            .map_or(0, |(_, at)| at);
        let across = &snapshots[2 * at + 1 - own];
        let socket = &node.model.sockets[2 * at + own];
        let shadows: Vec<&Shadow> = node
            .model
            .shadows
            .values()
            .filter(|shadow| index(shadow.socket) == 2 * at + own)
            .collect();
        assert_eq!(snapshot.queued_messages, 0, "{what}: messages queued");
        assert_eq!(snapshot.queued_bytes, 0, "{what}: bytes queued");
        assert_eq!(snapshot.waiting, 0, "{what}: connections that wait");
        let ready = shadows.iter().filter(|shadow| shadow.phase == Phase::Ready);
        assert_eq!(snapshot.peers, ready.count(), "{what}: peers");
        let ends = snapshot.counters.closed.iter().map(|(_, count)| count);
        assert_eq!(
            ends.sum::<u64>(),
            socket.closed,
            "{what}: connections ended"
        );
        check_input(
            &what,
            snapshot,
            &shadows,
            (
                socket.socket_type,
                node.model.sockets[2 * at + 1 - own].is_loose,
            ),
        );
        check_output(&what, snapshot, across, socket);
        for reason in Drop::ALL {
            ctx.coverage
                .add(reason.label(), snapshot.counters.dropped(reason));
        }
        ctx.coverage.add("requeued", snapshot.counters.requeued);
        for (label, count) in &snapshot.counters.closed {
            let is_late = ["heartbeat-timeout", "ttl-expired"].contains(label);
            assert!(
                !ctx.is_fair || !is_late,
                "{what}: a peer that is there was thought dead"
            );
            ctx.coverage.add(label, *count);
        }
    }
}

fn check_input(
    what: &str,
    snapshot: &SocketSnapshot,
    shadows: &[&Shadow],
    (socket_type, is_loose): (SocketType, bool),
) {
    let counters = &snapshot.counters;
    let heard: u64 = shadows.iter().map(|shadow| shadow.heard_messages).sum();
    let bytes: u64 = shadows.iter().map(|shadow| shadow.heard_bytes).sum();
    if socket_type == SocketType::Push {
        let refused = counters.dropped(Drop::NotExpected);
        assert_eq!(
            (counters.messages_in, refused),
            (0, heard),
            "{what}: refused"
        );
    } else if is_loose {
        assert!(counters.messages_in <= heard, "{what}: messages in");
    } else {
        assert_eq!(counters.messages_in, heard, "{what}: messages in");
        assert_eq!(counters.bytes_in, bytes, "{what}: bytes in");
    }
    let was_ready = shadows.iter().filter(|shadow| shadow.was_ready).count() as u64;
    let refused = counters.closed_for("identity-reserved");
    assert_eq!(
        counters.peers_attached,
        was_ready - refused,
        "{what}: peers attached"
    );
}

/// What came from across went out or was dropped.
fn check_output(what: &str, own: &SocketSnapshot, across: &SocketSnapshot, socket: &SocketModel) {
    let counters = &own.counters;
    let dropped: u64 = counters.drops.iter().sum();
    let full = counters.dropped(Drop::PeerFull);
    let came = across.counters.messages_in;
    if socket.is_vague {
        return;
    }
    match socket.socket_type {
        SocketType::Dealer | SocketType::Push => {
            let refused = counters.dropped(Drop::NotExpected);
            assert_eq!(
                dropped, refused,
                "{what}: messages dropped where they must wait"
            );
            assert_eq!(counters.messages_out, came, "{what}: messages out");
            if let Some(requeued) = socket.requeued {
                assert_eq!(counters.requeued, requeued, "{what}: messages taken back");
            }
            assert!(
                socket.late <= counters.requeued,
                "{what}: {} messages out of order, {} taken back",
                socket.late,
                counters.requeued
            );
        }
        SocketType::Router => {
            assert_eq!(counters.messages_out + dropped, came, "{what}: replies");
        }
        SocketType::Xpub | SocketType::Xsub => {
            assert_eq!(dropped, full, "{what}: dropped for another reason");
            let expected = socket.expected;
            assert_eq!(
                counters.messages_out + full,
                expected,
                "{what}: messages for its peers"
            );
        }
        _ => {
            assert_eq!(dropped, 0, "{what}: a PULL is to send nothing");
            assert_eq!(counters.messages_out, 0, "{what}: what a PULL sends");
        }
    }
}

/// Every message that was to go to one of many went to one, and every other to those it was for.
fn check_nothing_lost(model: &Model) {
    for socket in &model.sockets {
        if !is_balanced(socket.socket_type) {
            continue;
        }
        for (key, fate) in &socket.fates {
            let is_lost = fate.begun < fate.heard && !socket.is_loose;
            assert!(!is_lost, "{key:?} came in and never went out");
        }
    }
    let live = model.shadows.iter().filter(|(_, shadow)| shadow.is_live());
    for (id, shadow) in live {
        for expected in &shadow.expected {
            assert!(
                expected.is_excused,
                "{id:?} missed {:?} though its queue was not full",
                expected.key
            );
        }
    }
}

/// Every publisher knows what all subscribers together want.
fn check_subscriptions(model: &Model) {
    for shadow in model.shadows.values().filter(|shadow| shadow.is_live()) {
        let socket = &model.sockets[index(shadow.socket)];
        if socket.socket_type != SocketType::Xsub {
            continue;
        }
        let subscribers = model.shadows.values().filter(|other| {
            other.is_live()
                && other.socket.proxy == shadow.socket.proxy
                && other.socket.side != shadow.socket.side
        });
        let wanted: BTreeSet<&Vec<u8>> = subscribers.flat_map(|other| &other.topics).collect();
        let view: BTreeSet<&Vec<u8>> = shadow.view.iter().collect();
        assert_eq!(view, wanted, "what a publisher knows, and what is wanted");
    }
}
