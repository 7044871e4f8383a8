//! The account of memory, and its limit.

use crate::play::{Play, proxy};
use broker::config::{Config, SocketName, SocketOptions};
use broker::limits::CONNECTION_MEMORY;
use broker::reason::DropReason;
use broker::{Action, ConnId};
use zmtp::SocketType;
use zmtp::encode::append_command;

const LIMIT: u64 = 4 << 20;

fn limited(kind: &str, options: SocketOptions) -> Play {
    let mut config = Config {
        memory_limit: LIMIT,
        proxies: vec![proxy(kind)],
        ..Config::default()
    };
    config.proxies[0].frontend.options = options.clone();
    config.proxies[0].backend.options = options;
    Play::run(&config)
}

fn subscribe(play: &mut Play, topic: &str) -> ConnId {
    let id = play.join_as(SocketName::Backend, SocketType::Sub);
    let mut wire = Vec::new();
    append_command(&mut wire, "SUBSCRIBE", topic.as_bytes());
    play.feed(id, &wire);
    play.write(id);
    id
}

fn closed_for(play: &Play, side: usize, label: &str) -> u64 {
    play.core.statistics()[side].counters.closed_for(label)
}

/// The header of a frame that announces this number of bytes.
fn announce(size: u64) -> Vec<u8> {
    let mut wire = vec![2];
    wire.extend(size.to_be_bytes());
    wire
}

#[test]
fn announced_sizes_take_no_memory() {
    let mut play = limited("streamer", SocketOptions::default());
    let liars: Vec<ConnId> = (0..300).map(|_| play.join(SocketName::Frontend)).collect();
    let before = play.core.memory();
    for id in &liars {
        play.feed(*id, &announce(100 << 20));
        play.feed(*id, b"x");
    }
    let inputs = play.core.memory().inputs - before.inputs;
    assert!(inputs <= 300 * 64, "{inputs} bytes for 10 of each");
    assert_eq!(closed_for(&play, 0, "memory-shed"), 0);
}

#[test]
fn an_unfinished_message_takes_at_most_twice_its_received_bytes() {
    let mut play = limited("streamer", SocketOptions::default());
    let source = play.join(SocketName::Frontend);
    play.feed(source, &announce(1 << 20));
    let mut came = 9;
    while came < 1 << 20 {
        play.feed(source, &[b'x'; 10_000]);
        came += 10_000;
        let inputs = play.core.memory().inputs;
        assert!(inputs <= 2 * came + 1024, "{inputs} for {came}");
    }
}

#[test]
fn of_unfinished_messages_the_largest_is_given_up() {
    let mut play = limited("streamer", SocketOptions::default());
    let sink = play.join(SocketName::Backend);
    let large = play.join(SocketName::Frontend);
    let small = play.join(SocketName::Frontend);
    play.feed(small, &announce(600_000));
    play.feed(small, &[b's'; 200_000]);
    play.feed(large, &announce(100 << 20));
    for _ in 0..20 {
        play.feed(large, &[b'l'; 200_000]);
        let inputs = play.core.memory().inputs;
        assert!(inputs <= LIMIT / 2, "{inputs} bytes");
    }
    assert_eq!(closed_for(&play, 0, "memory-shed"), 1);
    play.feed(small, &[b's'; 200_000]);
    play.feed(small, &[b's'; 200_000]);
    assert_eq!(play.write(sink)[0].len(), 600_000);
}

#[test]
fn a_subscriber_that_does_not_read_leaves_room_for_one_that_does() {
    let options = SocketOptions {
        sndhwm: 0,
        sndhwm_bytes: 1 << 30,
        ..SocketOptions::default()
    };
    let mut play = limited("forwarder", options);
    let silent: Vec<ConnId> = (0..10).map(|_| subscribe(&mut play, "")).collect();
    let reader = subscribe(&mut play, "");
    let publisher = play.join_as(SocketName::Frontend, SocketType::Pub);
    let body = "b".repeat(10_000);
    for number in 0..400 {
        let message = format!("{number} {body}");
        play.send(publisher, &[&message]);
        assert_eq!(play.write(reader), [message], "each as it arrives");
        let used = play.core.memory_in_use();
        assert!(used <= LIMIT, "{used} bytes are in use");
    }
    let dropped = play.core.statistics()[1].counters.drops.iter().sum::<u64>();
    assert!(dropped > 2000, "{dropped} of 4000 copies were dropped");
    assert!(silent.iter().all(|id| play.core.egress(*id).is_some()));
}

#[test]
fn a_pipeline_waits_for_memory_and_loses_nothing() {
    let options = SocketOptions {
        sndhwm: 0,
        sndhwm_bytes: 1 << 30,
        ..SocketOptions::default()
    };
    let mut play = limited("streamer", options);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    let body = "b".repeat(100_000);
    let mut sent = 0;
    while !play.core.is_suspended(source) {
        play.send(source, &[&body]);
        sent += 1;
        assert!(sent < 100, "it never had to wait");
    }
    assert!(play.core.memory_in_use() > LIMIT / 4);
    let mut read = 0;
    for _ in 0..100 {
        read += play.write(sink).len();
        play.core.run_deferred(play.now);
    }
    assert_eq!(read, sent);
    assert_eq!(
        play.core.statistics()[1]
            .counters
            .dropped(DropReason::MemoryLimit),
        0
    );
}

#[test]
fn queues_have_room_again_when_another_proxy_frees_memory() {
    let mut play = Play::with(|config| {
        config.memory_limit = LIMIT;
        config.proxies.push(proxy("forwarder"));
        for proxy in &mut config.proxies {
            proxy.backend.options.sndhwm = 0;
            proxy.backend.options.sndhwm_bytes = 1 << 30;
        }
    });
    play.join(SocketName::Backend);
    let source = play.join(SocketName::Frontend);
    let forwarder = |side| (1, side);
    let subscriber = play.join_to(forwarder(SocketName::Backend), SocketType::Sub, &[]);
    let mut wire = Vec::new();
    append_command(&mut wire, "SUBSCRIBE", b"");
    play.feed(subscriber, &wire);
    let publisher = play.join_to(forwarder(SocketName::Frontend), SocketType::Pub, &[]);
    let body = "b".repeat(100_000);
    for _ in 0..27 {
        play.send(publisher, &[&body]);
    }
    assert!(play.core.memory_in_use() > LIMIT / 2);
    for _ in 0..20 {
        if !play.core.is_suspended(source) {
            play.send(source, &[&body]);
        }
    }
    assert!(play.core.is_suspended(source), "memory is short");
    play.lose(subscriber);
    play.turns(2);
    assert!(!play.core.is_suspended(source), "there is memory again");
}

#[test]
fn when_input_has_room_again_all_peers_are_read_and_that_is_charged_once() {
    let mut play = limited("streamer", SocketOptions::default());
    let sources = [SocketName::Frontend; 150].map(|side| play.join(side));
    let body = "b".repeat(10_000);
    for source in sources {
        play.send(source, &[&body]);
    }
    assert!(play.core.memory().inputs > LIMIT / 4, "it is not tight");
    let sink = play.join(SocketName::Backend);
    let (mut resumed, mut work) = (0, 0);
    for _ in 0..100 {
        play.core.begin_turn(play.now);
        play.core.handle_timeout(play.now, play.now);
        let before = play.core.work_of_turn();
        while let Some(action) = play.core.poll_action() {
            resumed += usize::from(action == Action::ResumeAll);
        }
        work += play.core.work_of_turn() - before;
        play.write(sink);
    }
    assert_eq!(play.core.statistics()[0].waiting, 0, "some still wait");
    assert_eq!(resumed, 1, "it was requested more than once");
    assert!(work >= 151 * 20, "{work} units for 151 connections");
}

#[test]
fn connections_have_a_quarter_of_the_memory() {
    let mut play = limited("streamer", SocketOptions::default());
    let most = LIMIT / 4 / CONNECTION_MEMORY;
    for _ in 0..most {
        play.join(SocketName::Frontend);
    }
    assert_eq!(closed_for(&play, 0, "memory-shed"), 0);
    play.join(SocketName::Frontend);
    assert_eq!(closed_for(&play, 0, "memory-shed"), 1);
}

#[test]
fn the_peer_with_most_subscriptions_is_closed_and_its_memory_freed() {
    let mut play = limited("forwarder", SocketOptions::default());
    let modest = subscribe(&mut play, "modest");
    let greedy = play.join_as(SocketName::Backend, SocketType::Sub);
    play.write(greedy);
    let mut number = 0;
    while closed_for(&play, 1, "memory-shed") == 0 {
        let mut wire = Vec::new();
        for _ in 0..1000 {
            number += 1;
            append_command(&mut wire, "SUBSCRIBE", format!("{number:09}").as_bytes());
        }
        play.feed(greedy, &wire);
        assert!(number < 1_000_000, "the limit was never reached");
        let used = play.core.memory_in_use();
        assert!(used <= LIMIT, "{used} bytes are in use");
    }
    play.lose(greedy);
    for _ in 0..1000 {
        play.core.handle_timeout(play.now, play.now);
    }
    let left = play.core.memory().subscriptions;
    assert!(left < 500_000, "{left} bytes are still in use");
    let publisher = play.join_as(SocketName::Frontend, SocketType::Pub);
    play.send(publisher, &["modest goes on"]);
    assert_eq!(play.write(modest), ["modest goes on"]);
}
