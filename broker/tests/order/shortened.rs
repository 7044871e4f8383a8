//! A queue gets shorter without a write: everything that waited for room goes on.

use crate::play::{Play, listening, proxy};
use broker::config::{Kind, Overflow, ProxyConfig, SocketName, SocketOptions};
use broker::reason::DropReason;
use broker::view::SocketView;
use std::time::Duration;
use zmtp::SocketType;

/// The views of the frontend and the backend.
fn statistics(play: &Play) -> (SocketView, SocketView) {
    let mut all = play.core.statistics().into_iter();
    let (front, back) = (all.next(), all.next());
    (front.expect("a frontend"), back.expect("a backend"))
}

#[test]
fn a_full_sink_whose_messages_expire_gets_the_next() {
    let mut play = Play::new(SocketOptions {
        max_age: Duration::from_secs(1),
        sndhwm: 2,
        ..SocketOptions::default()
    });
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2", "3"]);
    assert!(play.core.is_suspended(source), "the kernel takes nothing");
    play.pass(Duration::from_millis(1500));
    assert!(!play.core.is_suspended(source), "two messages are too old");
    assert_eq!(play.write(sink), ["3"]);
}

#[test]
fn a_full_sink_whose_messages_are_shed_gets_the_next() {
    let mut play = Play::with(|config| {
        let options = SocketOptions {
            sndhwm: 2,
            ..SocketOptions::default()
        };
        config.proxies[0].frontend.options = options.clone();
        config.proxies[0].backend.options = options;
        config.memory_limit = 200_000;
    });
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    let (large, other) = ("a".repeat(60_000), play.join(SocketName::Frontend));
    play.send(source, &[&large, &large, "3"]);
    assert!(play.core.is_suspended(source), "the queue is full");
    // The beginning of a large message, somewhat smaller than the queue.
    let head = [2, 0, 0, 0, 0, 0, 16, 0, 0];
    play.feed(other, &[&head[..], &[b'x'; 48_000]].concat());
    play.pass(Duration::from_millis(10));
    let (_, back) = statistics(&play);
    assert_eq!(back.counters.dropped(DropReason::MemoryLimit), 2);
    assert!(!play.core.is_suspended(source));
    assert_eq!(play.write(sink), ["3"]);
}

#[test]
fn a_waiting_answer_keeps_its_requester() {
    let kind = Kind::pair(SocketType::Rep, SocketType::Req).expect("a proxy");
    let mut config = ProxyConfig {
        frontend: listening(),
        backend: listening(),
        ..ProxyConfig::new(kind, "requests")
    };
    config.frontend.options = SocketOptions {
        overflow: Overflow::Block,
        sndhwm: 1,
        ..SocketOptions::default()
    };
    let mut play = Play::of(config);
    let client = play.join_as(SocketName::Frontend, SocketType::Dealer);
    play.write(client);
    let server = play.join_as(SocketName::Backend, SocketType::Rep);
    play.write(server);
    for number in ["1", "2", "3"] {
        play.send_frames(client, &[b"", number.as_bytes()]);
        assert_eq!(play.write(server), ["", number]);
        // The client has not read the previous answer, so this one waits.
        play.send_frames(server, &[b"", number.as_bytes()]);
        if number != "1" {
            assert!(
                play.core.is_suspended(server),
                "the queue of one answer is full"
            );
            let before = if number == "2" { "1" } else { "2" };
            assert_eq!(play.write(client), ["", before]);
            play.core.run_deferred(play.now);
        }
    }
    assert_eq!(play.write(client), ["", "3"]);
    let (front, _) = statistics(&play);
    assert_eq!(front.counters.drops.iter().sum::<u64>(), 0);
}

#[test]
fn a_terminated_proxy_sends_queued_messages_and_counts_the_rest() {
    let mut play = Play::with(|config| {
        let mut other = proxy("queue");
        "other".clone_into(&mut other.name);
        config.proxies.push(other);
        config.proxies[0].control.socket = listening();
        config.drain_timeout = Duration::from_secs(10);
    });
    // The second sink reads nothing.
    let [read, _] = [SocketName::Backend; 2].map(|side| play.join(side));
    let source = play.join(SocketName::Frontend);
    let control = play.join_as(SocketName::Control, SocketType::Req);
    play.write(control);
    play.send(source, &["1", "2", "3", "4", "5"]);
    play.send_frames(control, &[b"", b"TERMINATE"]);
    play.pass(Duration::from_secs(9));
    assert_eq!(
        play.write(read),
        ["1", "3", "5"],
        "a sink has the time of the stop"
    );
    play.pass(Duration::from_secs(2));
    let (_, back) = statistics(&play);
    assert_eq!(back.counters.dropped(DropReason::Stopping), 2);
    assert_eq!(back.counters.messages_out, 5);
}

#[test]
fn a_proxy_that_ends_before_a_stop_has_its_own_deadline() {
    let mut play = Play::with(|config| {
        let mut other = proxy("streamer");
        "other".clone_into(&mut other.name);
        config.proxies.push(other);
        config.proxies[0].control.socket = listening();
        config.drain_timeout = Duration::from_secs(10);
    });
    let (_, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    // The other proxy has messages to send until its own deadline.
    let of_other = |side| (1, side);
    play.join_to(of_other(SocketName::Backend), SocketType::Pull, &[]);
    let other = play.join_to(of_other(SocketName::Frontend), SocketType::Push, &[]);
    play.send(other, &["nor this"]);
    let control = play.join_as(SocketName::Control, SocketType::Req);
    play.write(control);
    play.send(source, &["unread"]);
    play.send_frames(control, &[b"", b"TERMINATE"]);
    play.pass(Duration::from_secs(5));
    play.core.handle_stop(play.now);
    play.now += Duration::from_secs(5);
    play.turns(3);
    let next = play.core.poll_timeout();
    assert!(
        next.is_none_or(|next| next > play.now),
        "a passed deadline is waited for"
    );
    let (_, back) = statistics(&play);
    assert_eq!(back.counters.dropped(DropReason::Stopping), 1);
}
