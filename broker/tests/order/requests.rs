//! A request is lost: the next one does not wait for its answer.

use crate::play::{Play, listening};
use broker::ConnId;
use broker::config::{Kind, Overflow, ProxyConfig, SocketName, SocketOptions};
use std::time::Duration;
use zmtp::SocketType::{self, Dealer, Pair, Rep, Req, Router};
use zmtp::encode::append_frame;

/// A proxy with a REP in front, and two clients of it.
fn play(behind: SocketType, options: SocketOptions) -> (Play, [ConnId; 2]) {
    let kind = Kind::pair(Rep, behind).expect("a proxy");
    let mut config = ProxyConfig {
        frontend: listening(),
        backend: listening(),
        ..ProxyConfig::new(kind, "requests")
    };
    config.backend.options = options;
    let mut play = Play::of(config);
    let clients = [SocketName::Frontend; 2].map(|side| play.join_as(side, Dealer));
    for client in clients {
        play.write(client);
    }
    (play, clients)
}

/// A worker connects; nothing is written to it yet.
fn worker(play: &mut Play) -> ConnId {
    play.join_as(SocketName::Backend, Rep)
}

fn ask(play: &mut Play, client: ConnId, request: &str) {
    play.send_frames(client, &[b"", request.as_bytes()]);
}

/// Whether this request is the last message written to a worker.
fn gets(play: &mut Play, worker: ConnId, request: &str) -> bool {
    let sent = play.write_up_to(worker, usize::MAX);
    let mut wire = Vec::new();
    append_frame(&mut wire, request.as_bytes(), false);
    sent.ends_with(&wire)
}

#[test]
fn a_worker_leaves_with_a_request_and_the_next_does_not_wait() {
    for behind in [Dealer, Req] {
        let (mut play, [client, other]) = play(behind, SocketOptions::DEFAULT);
        let first = worker(&mut play);
        ask(&mut play, client, "1");
        assert!(gets(&mut play, first, "1"));
        // These wait; the departure of one client is not noticed meanwhile.
        ask(&mut play, client, "2");
        ask(&mut play, other, "3");
        let second = worker(&mut play);
        assert!(!gets(&mut play, second, "2"), "one request at a time");
        play.lose(first);
        assert!(gets(&mut play, second, "2"), "{behind}");
        play.lose(second);
        let third = worker(&mut play);
        assert!(gets(&mut play, third, "3"), "{behind}");
    }
}

#[test]
fn an_unsent_request_goes_to_another_worker_and_the_next_waits() {
    let (mut play, [client, other]) = play(Dealer, SocketOptions::DEFAULT);
    let first = worker(&mut play);
    ask(&mut play, client, "1");
    ask(&mut play, other, "2");
    play.lose(first);
    let second = worker(&mut play);
    assert!(gets(&mut play, second, "1"));
    play.send(second, &["answer"]);
    assert_eq!(play.write(client), ["", "answer"]);
    assert!(gets(&mut play, second, "2"));
}

#[test]
fn an_expired_request_does_not_block_the_next() {
    for behind in [Dealer, Req] {
        let options = SocketOptions {
            max_age: Duration::from_secs(1),
            ..SocketOptions::DEFAULT
        };
        let (mut play, [client, other]) = play(behind, options);
        let worker = worker(&mut play);
        play.write_up_to(worker, usize::MAX);
        ask(&mut play, client, "1");
        ask(&mut play, other, "2");
        play.core.handle_written(worker, 0, true);
        play.pass(Duration::from_millis(1500));
        assert!(gets(&mut play, worker, "2"), "{behind}");
    }
}

#[test]
fn a_request_that_no_worker_has_room_for_does_not_block_the_next() {
    let options = SocketOptions {
        overflow: Overflow::DropNewest,
        sndhwm: 1,
        ..SocketOptions::DEFAULT
    };
    let (mut play, [client, other]) = play(Dealer, options);
    let worker = worker(&mut play);
    ask(&mut play, client, "1");
    // The client of the first one has left, and the request is still queued.
    play.lose(client);
    ask(&mut play, other, "2");
    assert!(gets(&mut play, worker, "1"));
    ask(&mut play, other, "3");
    assert!(gets(&mut play, worker, "3"));
}

#[test]
fn a_request_to_an_absent_or_departing_peer_does_not_block_the_next() {
    for behind in [Router, Pair] {
        let (mut play, [client, other]) = play(behind, SocketOptions::DEFAULT);
        if behind == Router {
            ask(&mut play, client, "absent");
        }
        let socket = (0, SocketName::Backend);
        let peer_type = if behind == Pair { Pair } else { Dealer };
        let first = play.join_named(socket, peer_type, b"worker");
        play.write(first);
        ask(&mut play, client, "worker");
        assert_eq!(play.write(first).len(), usize::from(behind == Pair));
        ask(&mut play, other, "worker");
        play.lose(first);
        assert!(!play.core.is_suspended(other) || behind == Pair, "{behind}");
    }
}
