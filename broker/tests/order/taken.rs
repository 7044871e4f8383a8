//! Messages taken back from the queue of a closed peer.

use crate::play::{Play, listener_at, proxy};
use broker::config::{Overflow, SocketName, SocketOptions};
use broker::reason::DropReason;
use std::net::SocketAddr;
use zmtp::encode::append_command;
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{SOCKET_TYPE, append_property};
use zmtp::{LoopCommand, SocketType};

/// They were queued for another sink, and count against the high-water mark of the next.
#[test]
fn requeued_messages_fill_no_queue_beyond_its_high_water_mark() {
    let mut play = Play::new(SocketOptions {
        overflow: Overflow::DropOldest,
        sndhwm: 2,
        ..SocketOptions::default()
    });
    let sinks = [SocketName::Backend; 2].map(|side| play.join(side));
    let source = play.join(SocketName::Frontend);
    play.send(source, &["1", "2", "3", "4", "5", "6"]);
    play.lose(sinks[0]);
    let statistics = play.core.statistics();
    let backend = statistics
        .iter()
        .find(|it| it.socket == SocketName::Backend);
    let backend = backend.expect("a proxy has a backend");
    assert_eq!(backend.queued_messages, 2);
    assert_eq!(backend.counters.dropped(DropReason::PeerFull), 4);
    assert_eq!(play.write(sinks[1]), ["4", "6"]);
}

#[test]
fn the_probe_for_a_worker_goes_to_no_other_worker() {
    let mut config = proxy("queue");
    config.backend.options.probe_router = true;
    let mut play = Play::of(config);
    let other = play.join_as(SocketName::Backend, SocketType::Dealer);
    play.write(other);
    let worker = play.join_as(SocketName::Backend, SocketType::Dealer);
    play.lose(worker);
    assert_eq!(play.write(other), [""; 0]);
}

/// Subscriptions are messages for a publisher of ZMTP 3.0, but not elsewhere in the broker.
#[test]
fn a_loop_does_not_requeue_subscriptions_as_messages() {
    let mut play = Play::of(proxy("forwarder"));
    let mut hello = Greeting::new("NULL").bytes();
    hello[11] = 0;
    let mut metadata = Vec::new();
    append_property(&mut metadata, SOCKET_TYPE, b"PUB");
    append_property(&mut metadata, "X-Zmqd-Loop-Check", b"on");
    let mut ready = Vec::new();
    append_command(&mut ready, "READY", &metadata);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let socket = (0, SocketName::Frontend);
    let listener = listener_at(&play.core, socket);
    let publisher = play.core.handle_accepted(play.now, listener, peer);
    let publisher = publisher.expect("every address may connect");
    play.feed(publisher, &[&hello, &ready[..]].concat());
    play.write(publisher);
    let subscriber = play.join_as(SocketName::Backend, SocketType::Sub);
    let mut wire = Vec::new();
    append_command(&mut wire, "SUBSCRIBE", b"a");
    play.feed(subscriber, &wire);
    wire.clear();
    LoopCommand::Loop.append(&mut wire);
    play.feed(publisher, &wire);
    let statistics = play.core.statistics();
    assert_eq!(statistics[0].counters.closed_for("loop"), 1);
    assert_eq!(statistics[0].queued_messages, 0);
}
