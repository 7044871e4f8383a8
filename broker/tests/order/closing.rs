//! A closing connection is sent no further messages, however long its end takes.

use crate::play::{Play, hello, listener_at, proxy};
use broker::config::{Config, SocketName, SocketOptions};
use broker::reason::DropReason;
use broker::{Action, ConnId, PeerAddress};
use std::time::Duration;
use zmtp::SocketType;
use zmtp::encode::append_command;

/// Its subscriptions are cancelled in slices, and are known until the last.
#[test]
fn a_subscriber_that_is_cut_off_is_not_written_while_its_subscriptions_are_cancelled() {
    let mut config = proxy("forwarder");
    config.backend.options = SocketOptions {
        sndhwm: 1,
        ..SocketOptions::default()
    };
    let mut play = Play::of(config);
    let announced = [("X-Zmqd-Loop-Check", &b"on"[..])];
    let subscriber = play.join_with(SocketName::Backend, SocketType::Sub, &announced);
    play.write(subscriber);
    let mut wire = Vec::new();
    for number in 0..5000 {
        append_command(&mut wire, "SUBSCRIBE", format!("{number:04}").as_bytes());
    }
    play.feed(subscriber, &wire);
    let publisher = play.join_as(SocketName::Frontend, SocketType::Pub);
    play.send(publisher, &["4999 fills the queue"]);
    let mut wire = Vec::new();
    append_command(&mut wire, "ZMQD-LOOP", b"");
    play.feed(subscriber, &wire);
    let close = play.core.poll_action();
    assert!(matches!(close, Some(Action::Close { id, .. }) if id == subscriber));
    play.closed.push(subscriber);
    play.core.handle_closed(play.now, subscriber);
    play.send(publisher, &["4999 goes nowhere"]);
    let statistics = play.core.statistics();
    assert_eq!(statistics[1].counters.messages_out, 1, "the first one");
}

/// Bytes that it sent before it stopped reading may still arrive, so its connection stays.
#[test]
fn a_reply_for_a_peer_that_reads_no_more_is_dropped() {
    let mut play = Play::of(proxy("queue"));
    let client = play.join_as(SocketName::Frontend, SocketType::Dealer);
    let worker = play.join_as(SocketName::Backend, SocketType::Dealer);
    play.write(worker); // the handshake
    play.send(client, &["request"]);
    let request = play.write_frames(worker);
    play.core.handle_write_failed(client);
    play.core.run_deferred(play.now);
    let reply: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
    play.send_frames(worker, &reply);
    let frontend = &play.core.statistics()[0].counters;
    assert_eq!(frontend.messages_out, 0);
    assert_eq!(frontend.dropped(DropReason::NoSuchPeer), 1);
}

/// A source, and a sink that reads only the beginning of its message; and a stop.
fn stopping() -> (Play, ConnId) {
    let mut play = Play::new(SocketOptions::default());
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["partly read"]);
    assert_eq!(play.write_up_to(sink, 5).len(), 5);
    play.core.handle_stop(play.now);
    (play, source)
}

#[test]
fn a_stop_ends_at_its_deadline_though_a_message_is_sent_in_part() {
    let (mut play, _) = stopping();
    assert!(!play.core.is_stopped(), "the sink may still read");
    play.pass(Duration::from_secs(60));
    while let Some(action) = play.core.poll_action() {
        if let Action::Close { id, .. } = action {
            play.core.handle_closed(play.now, id);
        }
    }
    assert!(play.core.is_stopped());
}

/// A connection between two proxies of the broker is read while it stops.
#[test]
fn a_stop_ends_at_its_deadline_though_messages_keep_coming_from_within() {
    let mut play = Play::new(SocketOptions::default());
    let sink = play.join(SocketName::Backend);
    let frontend = listener_at(&play.core, (0, SocketName::Frontend));
    let within = PeerAddress::Inproc;
    let source = play.core.handle_accepted(play.now, frontend, within);
    let source = source.expect("every address may connect");
    play.feed(source, &hello(SocketType::Push));
    play.write(source);
    play.core.handle_stop(play.now);
    let (begun_at, drain) = (play.now, Config::DRAIN_TIMEOUT);
    while play.core.wants_input(source) && play.now < begun_at + 3 * drain {
        play.send(source, &["more"]);
        play.write(sink);
        play.now += drain / 50;
    }
    assert!(play.now >= begun_at + drain, "it was not given its time");
    while let Some(action) = play.core.poll_action() {
        if let Action::Close { id, .. } = action {
            play.core.handle_closed(play.now, id);
        }
    }
    assert!(play.core.is_stopped(), "the deadline has no effect");
}

#[test]
fn nothing_is_read_after_a_stop_has_begun() {
    let (mut play, source) = stopping();
    play.core.begin_turn(play.now);
    play.core.read_later(source);
    assert_eq!(play.core.poll_read(), None);
}
