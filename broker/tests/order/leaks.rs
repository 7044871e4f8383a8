//! Hostile patterns that made other implementations of ZeroMQ lose memory, thousands of times: what
//! the account says returns to its start, equals a recount, and is what the heap holds.
//!
//! The patterns are those of CVE-2021-20234 (peers that end within a message, or with another
//! identity each) and CVE-2021-20237 (messages for a socket that sends only, and topics that share
//! beginnings).

use crate::changes::endpoint;
use crate::play::{Play, proxy};
use broker::config::{Attach, CacheConfig, SocketName};
use broker::{Action, ConnId};
use std::time::Duration;
use zmtp::SocketType;
use zmtp::encode::{append_command, append_frame};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{SOCKET_TYPE, append_property};

const FRONT: SocketName = SocketName::Frontend;
const BACK: SocketName = SocketName::Backend;

/// Peers that leave before the first look: tables and lists of fixed length have grown by then.
const WARM_UP: usize = 1200;
/// Peers that leave before the second look.
const ROUNDS: usize = 2000;

/// Bytes that the heap may hold in addition: spare capacity of tables.
const SLACK: i64 = 64 << 10;

/// Runs a hostile round of so many peers thousands of times; nothing of it stays.
#[track_caller]
fn leaves_nothing(play: &mut Play, peers: usize, mut round: impl FnMut(&mut Play, usize)) {
    let (warm_up, rounds) = (WARM_UP / peers, ROUNDS / peers);
    let mut run = |play: &mut Play, rounds: std::ops::Range<usize>| {
        for number in rounds {
            round(play, number);
        }
        // What departed peers leave is freed in small steps.
        for turns in 0.. {
            if !play.core.has_backlog() {
                break;
            }
            play.turns(1);
            close_all(play);
            while play.core.poll_dirty().is_some() {}
            assert!(turns < 10_000, "a backlog that does not end");
        }
    };
    run(play, 0..warm_up);
    // Events become more until there are 256 of them; the heap has room for that.
    let before = play.memory();
    assert_eq!(play.core.memory(), play.core.walk_memory());
    let counted = allocation_counter::measure(|| run(play, warm_up..warm_up + rounds));
    assert_eq!(play.core.memory(), play.core.walk_memory());
    assert_eq!(play.memory(), before);
    let held = counted.bytes_current;
    assert!(held < SLACK, "{held} bytes more, {counted:?}");
    assert!(
        counted.bytes_total > 1000 * rounds as u64,
        "a round took no memory"
    );
}

/// The driver closes what the core wants closed.
fn close_all(play: &mut Play) {
    while let Some(action) = play.core.poll_action() {
        if let Action::Close { id, .. } = action {
            play.core.handle_closed(play.now, id);
        }
    }
    play.core.run_deferred(play.now);
}

/// The beginning of a message: a delimiter and more frames, the last of which is not whole.
fn beginning(number: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    append_frame(&mut wire, b"", true);
    for _ in 0..number % 5 {
        append_frame(&mut wire, &[b'x'; 300], true);
    }
    let mut last = Vec::new();
    append_frame(&mut last, &vec![b'y'; number * 97 % 100_000], false);
    last.pop();
    wire.extend(last);
    wire
}

#[test]
fn peers_that_end_within_a_message_leave_nothing_and_none_of_it_is_forwarded() {
    for (kind, source, sink) in [
        ("queue", SocketType::Dealer, SocketType::Rep),
        ("streamer", SocketType::Push, SocketType::Pull),
        ("forwarder", SocketType::Pub, SocketType::Sub),
    ] {
        let mut play = Play::of(proxy(kind));
        let sink = play.join_as(BACK, sink);
        if kind == "forwarder" {
            let mut all = Vec::new();
            append_command(&mut all, "SUBSCRIBE", b"");
            play.feed(sink, &all);
        }
        play.write(sink);
        leaves_nothing(&mut play, 1, |play, number| {
            let id = play.join_as(FRONT, source);
            play.write(id);
            play.feed(id, &beginning(number));
            play.lose(id);
            assert_eq!(play.write_frames(sink), [b""; 0], "a part of a message");
        });
    }
}

/// The side that connects: the server it finds is hostile.
#[test]
fn servers_that_end_within_a_message_leave_nothing() {
    let mut config = proxy("streamer");
    config.frontend.bind.clear();
    config.frontend.options.reconnect_ivl = Duration::from_millis(1);
    config.frontend.options.reconnect_ivl_max = Duration::from_millis(1);
    config.frontend.attach(Attach::Connect, endpoint(7));
    let mut play = Play::of(config);
    let sink = play.join(BACK);
    leaves_nothing(&mut play, 1, |play, number| {
        let id = connected(play);
        play.write(id);
        play.feed(id, &hello(SocketType::Push));
        play.feed(id, &beginning(number));
        play.lose(id);
        assert_eq!(play.write_frames(sink), [b""; 0], "a part of a message");
    });
}

/// The connection of the only link, as soon as it is due.
fn connected(play: &mut Play) -> ConnId {
    loop {
        if let Some(Action::Connect(link)) = play.core.poll_action() {
            let id = play.core.handle_connected(play.now, link, play.peer);
            return id.expect("it is wanted");
        }
        play.now += Duration::from_millis(1);
        play.turns(1);
    }
}

fn hello(socket_type: SocketType) -> Vec<u8> {
    let (mut hello, mut metadata) = (Vec::new(), Vec::new());
    Greeting::new("NULL").emit(&mut hello);
    append_property(&mut metadata, SOCKET_TYPE, socket_type.name().as_bytes());
    append_command(&mut hello, "READY", &metadata);
    hello
}

#[test]
fn peers_with_ever_new_identities_leave_nothing() {
    for handover in [false, true] {
        let mut config = proxy("queue");
        config.frontend.options.router_handover = handover;
        let mut play = Play::of(config);
        let worker = play.join_as(BACK, SocketType::Rep);
        play.write(worker);
        leaves_nothing(&mut play, 4, |play, number| {
            let long = format!("{number:>255}");
            let ids = [long.as_bytes(), b"always", b"always", b""].map(|identity| {
                let id = play.join_named((0, FRONT), SocketType::Req, identity);
                play.write(id);
                play.send_frames(id, &[b"", b"question"]);
                id
            });
            for id in ids {
                if play.core.egress(id).is_some() {
                    play.lose(id);
                }
            }
            // Those that were replaced, or waited for the identity.
            play.pass(Duration::from_secs(10));
            close_all(play);
            // No peer is there to get the answers.
            let asked = play.write_up_to(worker, usize::MAX);
            play.feed(worker, &asked);
        });
    }
}

#[test]
fn messages_for_a_socket_that_only_sends_leave_nothing() {
    for (socket_type, caches, publishes) in [
        (SocketType::Sub, false, false),
        (SocketType::Sub, true, true),
        (SocketType::Xsub, false, true),
        (SocketType::Xsub, true, false),
    ] {
        let mut config = proxy("forwarder");
        config.cache = caches.then(CacheConfig::default);
        let mut play = Play::of(config);
        let publisher = publishes.then(|| play.join_as(FRONT, SocketType::Xpub));
        let subscriber = play.join_as(BACK, socket_type);
        play.write(subscriber);
        leaves_nothing(&mut play, 1, |play, number| {
            let byte = [u8::try_from(number % 256).expect("small")];
            let long = vec![b'x'; number % 3000];
            for frames in [
                &[&b""[..], b"", b""][..],
                &[&byte, b"topic", &long],
                &[b"\x07topic", &byte],
                // A cancel of what it never subscribed to, by message and by command.
                &[format!("\0{number}").as_bytes()],
            ] {
                play.send_frames(subscriber, frames);
            }
            let mut cancel = Vec::new();
            append_command(&mut cancel, "CANCEL", &long[..long.len().min(300)]);
            play.feed(subscriber, &cancel);
            if let Some(publisher) = publisher {
                play.write(publisher);
            }
        });
        assert!(play.closed.is_empty(), "{:?}", play.closed);
    }
}

/// Topics that share beginnings, in an order of their own in each round.
fn topics(number: usize) -> Vec<Vec<u8>> {
    let stem = format!("{}", number % 7).repeat(1 + number % 400);
    let ends = (0..40).map(|end| stem.len() * (end * 17 % 41) / 41);
    let mut topics: Vec<Vec<u8>> = ends.map(|end| stem.as_bytes()[..end].to_vec()).collect();
    topics.extend((0..40).map(|end| format!("{stem}{}", (end * number) % 97).into_bytes()));
    topics.sort_unstable();
    topics.dedup();
    let len = topics.len();
    topics.rotate_left(number % len);
    topics
}

#[test]
fn topics_that_share_beginnings_leave_nothing_when_cancelled_or_with_their_peer() {
    for caches in [false, true] {
        let mut config = proxy("forwarder");
        config.cache = caches.then(|| CacheConfig {
            bytes_max: 20_000,
            ..CacheConfig::default()
        });
        let mut play = Play::of(config);
        let publisher = play.join_as(FRONT, SocketType::Pub);
        play.write(publisher);
        if caches {
            for number in 0..100 {
                play.send_frames(publisher, &[&topics(number)[0], b"value"]);
            }
        }
        leaves_nothing(&mut play, 1, |play, number| {
            let topics = topics(number);
            let id = play.join_as(BACK, SocketType::Sub);
            let say = |play: &mut Play, name: &str, topics: &[Vec<u8>]| {
                let mut wire = Vec::new();
                for topic in topics {
                    append_command(&mut wire, name, topic);
                }
                play.feed(id, &wire);
            };
            say(play, "SUBSCRIBE", &topics);
            say(play, "CANCEL", &topics[number % topics.len()..]);
            say(play, "SUBSCRIBE", &topics[topics.len() / 2..]);
            if number % 3 == 0 {
                play.write(id);
                say(play, "CANCEL", &topics);
            }
            play.lose(id);
            play.turns(3);
            play.write(publisher);
        });
        assert_eq!(play.core.statistics()[1].topics, 0);
    }
}
