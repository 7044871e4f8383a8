//! The scenarios that all implementations run, as far as they can.
//!
//! Each scenario has its own broker. `front` opens the sockets in front of it, `back` those behind
//! it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Implementation, Kind, Message, Peer, Settings};
use crate::clock::wait_until;
use crate::fixed_endpoints::FixedEndpoints;
use crate::tap::Tap;
use crate::zmqd::Zmqd;

/// REQ and REP take turns through a queue.
pub fn requests(front: &dyn Implementation, back: &dyn Implementation) {
    take_turns(front, back, |text| parts(&[text]));
}

/// The same with several parts, one of them empty.
pub fn multipart_requests(front: &dyn Implementation, back: &dyn Implementation) {
    take_turns(front, back, |text| parts(&["", text, "more"]));
}

fn take_turns(
    front: &dyn Implementation,
    back: &dyn Implementation,
    message: impl Fn(&str) -> Message,
) {
    let broker = Zmqd::queue(&[]);
    let mut server = open(back, Kind::Rep, broker.backend());
    let mut client = open(front, Kind::Req, broker.frontend());
    for number in 0..100 {
        let question = message(&format!("question {number}"));
        client.send(&question);
        assert_eq!(server.receive(), question);
        let answer = message(&format!("answer {number}"));
        server.send(&answer);
        assert_eq!(client.receive(), answer);
    }
}

/// The worker sees the identities that clients announced, and replies are routed by them.
pub fn identities(front: &dyn Implementation, back: &dyn Implementation) {
    let broker = Zmqd::queue(&[]);
    let mut worker = open(back, Kind::Dealer, broker.backend());
    let names = ["alice", "bob"];
    let mut clients = names.map(|identity| {
        let settings = Settings {
            identity,
            ..Settings::default()
        };
        front.open(Kind::Req, broker.frontend(), settings)
    });
    for number in 0..20 {
        for (client, name) in clients.iter_mut().zip(names) {
            client.send(&parts(&[&format!("{name} {number}")]));
        }
        let mut requests = [worker.receive(), worker.receive()];
        requests.sort();
        for (request, name) in requests.iter().zip(names) {
            assert_eq!(request, &parts(&[name, "", &format!("{name} {number}")]));
        }
        for request in requests.iter().rev() {
            worker.send(request);
        }
        for (client, name) in clients.iter_mut().zip(names) {
            assert_eq!(client.receive(), parts(&[&format!("{name} {number}")]));
        }
    }
}

/// DEALER clients have many requests outstanding at a ROUTER, and get their own replies in order.
pub fn pipelined(front: &dyn Implementation, back: &dyn Implementation) {
    const COUNT: usize = 200;
    let broker = Zmqd::queue(&[]);
    let mut worker = open(back, Kind::Router, broker.backend());
    let mut clients = [0, 1].map(|_| open(front, Kind::Dealer, broker.frontend()));
    let request = |client: usize, number: usize| {
        parts(&[&format!("client {client}"), "", &number.to_string()])
    };
    for number in 0..COUNT {
        for (index, client) in clients.iter_mut().enumerate() {
            client.send(&request(index, number));
        }
    }
    for _ in 0..2 * COUNT {
        let message = worker.receive();
        assert_eq!(message.len(), 5, "the names of two hops and the request");
        worker.send(&message);
    }
    for number in 0..COUNT {
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.receive(), request(index, number));
        }
    }
}

/// Publications reach the subscribers of a prefix of their first part, until these cancel.
pub fn publications(front: &dyn Implementation, back: &dyn Implementation) {
    let broker = Zmqd::forwarder(&[]);
    let mut publisher = open(front, Kind::Pub, broker.frontend());
    let mut subscriber = open(back, Kind::Sub, broker.backend());
    subscriber.subscribe("topic");
    settle(publisher.as_mut(), subscriber.as_mut(), "mark 1");
    let mut everything = open(back, Kind::Sub, broker.backend());
    everything.subscribe("");
    settle(publisher.as_mut(), everything.as_mut(), "mark 2");

    for number in 0..100 {
        let number = number.to_string();
        let wanted = parts(&["topic and more", "", &number]);
        let others = [parts(&["topi", &number]), parts(&["other", "topic"])];
        publisher.send(&wanted);
        others.iter().for_each(|other| publisher.send(other));
        assert_eq!(subscriber.receive(), wanted);
        assert_eq!(everything.receive(), wanted);
        others
            .iter()
            .for_each(|other| assert_eq!(&everything.receive(), other));
    }

    subscriber.cancel("topic");
    let mut is_cancelled = || {
        let mark = parts(&["mark 1", "now"]);
        publisher.send(&parts(&["topic", "late"]));
        publisher.send(&mark);
        let late = (0..).take_while(|_| subscriber.receive() != mark).count();
        (late == 0).then_some(())
    };
    wait_until("the cancel to take effect", &mut is_cancelled);
    for _ in 0..20 {
        assert_eq!(is_cancelled(), Some(()), "a cancelled topic arrived again");
    }
}

/// An XPUB gets each subscription of all subscribers together once.
pub fn subscriptions(front: &dyn Implementation, back: &dyn Implementation) {
    let broker = Zmqd::forwarder(&[]);
    let mut publisher = open(front, Kind::XPub, broker.frontend());
    let mut first = open(back, Kind::Sub, broker.backend());
    let mut second = open(back, Kind::Sub, broker.backend());
    first.subscribe("topic");
    assert_eq!(publisher.receive(), parts(&["\x01topic"]));
    second.subscribe("topic");
    second.subscribe("second");
    assert_eq!(publisher.receive(), parts(&["\x01second"]));

    let publication = parts(&["topic", "of both"]);
    publisher.send(&publication);
    assert_eq!(first.receive(), publication);
    assert_eq!(second.receive(), publication);

    first.cancel("topic");
    first.subscribe("first");
    assert_eq!(publisher.receive(), parts(&["\x01first"]));
    second.cancel("topic");
    assert_eq!(publisher.receive(), parts(&["\x00topic"]));
}

/// Work of all sizes reaches one sink in order, and two sinks exactly once.
pub fn work(front: &dyn Implementation, back: &dyn Implementation) {
    const COUNT: usize = 200;
    let broker = Zmqd::streamer(&[]);
    let mut source = open(front, Kind::Push, broker.frontend());
    let mut sink = open(back, Kind::Pull, broker.backend());
    let sizes = [0, 1, 255, 256, 8191, 8192, 65_535, 65_536, 100_000];
    for size in sizes {
        source.send(&[body(size, 1), body(size, 2)]);
    }
    for size in sizes {
        assert_eq!(sink.receive(), [body(size, 1), body(size, 2)], "{size} B");
    }

    let mut sinks = [sink, open(back, Kind::Pull, broker.backend())];
    for number in 0..COUNT {
        source.send(&parts(&[&format!("{number:03}")]));
    }
    let mut taken: [Vec<Message>; 2] = [Vec::new(), Vec::new()];
    wait_until("all work to be taken", || {
        for (sink, taken) in sinks.iter_mut().zip(&mut taken) {
            taken.extend(sink.receive_within(GLANCE));
        }
        (taken[0].len() + taken[1].len() >= COUNT).then_some(())
    });
    assert!(taken.iter().all(|messages| messages.is_sorted()), "order");
    let mut all = taken.concat();
    all.sort();
    let wanted: Vec<Message> = (0..COUNT)
        .map(|number| parts(&[&format!("{number:03}")]))
        .collect();
    assert_eq!(all, wanted);
}

/// Messages of 1 MiB and 5 MiB pass through each kind of proxy, byte for byte.
pub fn large_messages(front: &dyn Implementation, back: &dyn Implementation) {
    let sizes = [1 << 20, 5 << 20];
    let queue = Zmqd::queue(&[]);
    let mut server = open(back, Kind::Rep, queue.backend());
    let mut client = open(front, Kind::Req, queue.frontend());
    for size in sizes {
        client.send(&[body(size, 1)]);
        assert_same(&server.receive(), &[body(size, 1)]);
        server.send(&[body(size, 2)]);
        assert_same(&client.receive(), &[body(size, 2)]);
    }
    let streamer = Zmqd::streamer(&[]);
    let mut sink = open(back, Kind::Pull, streamer.backend());
    let mut source = open(front, Kind::Push, streamer.frontend());
    for size in sizes {
        source.send(&[body(size, 3)]);
        assert_same(&sink.receive(), &[body(size, 3)]);
    }
    let forwarder = Zmqd::forwarder(&[]);
    let mut publisher = open(front, Kind::Pub, forwarder.frontend());
    let mut subscriber = open(back, Kind::Sub, forwarder.backend());
    subscriber.subscribe("topic");
    settle(publisher.as_mut(), subscriber.as_mut(), "mark");
    for size in sizes {
        let publication = [b"topic".to_vec(), body(size, 4)];
        publisher.send(&publication);
        assert_same(&subscriber.receive(), &publication);
    }
}

/// A queue is killed and restarted; its clients and workers reconnect by themselves.
pub fn reconnections(front: &dyn Implementation, back: &dyn Implementation) {
    let endpoints = FixedEndpoints::new("queue");
    let mut broker = endpoints.start();
    let mut worker = open(back, Kind::Dealer, broker.backend());
    let mut client = open(front, Kind::Dealer, broker.frontend());
    for life in 0..3 {
        let question = parts(&[&format!("in life {life}")]);
        wait_until("an answer from this life", || {
            client.send(&question);
            while let Some(request) = worker.receive_within(GLANCE) {
                worker.send(&request);
            }
            let answers = || client.receive_within(GLANCE);
            let mut answers = std::iter::from_fn(answers);
            answers.any(|answer| answer == question).then_some(())
        });
        broker.kill();
        broker = endpoints.start();
    }
}

/// A forwarder is killed and restarted; its subscribers subscribe again by themselves.
pub fn resubscriptions(front: &dyn Implementation, back: &dyn Implementation) {
    let endpoints = FixedEndpoints::new("forwarder");
    let mut broker = endpoints.start();
    let mut publisher = open(front, Kind::Pub, broker.frontend());
    let mut subscriber = open(back, Kind::Sub, broker.backend());
    subscriber.subscribe("topic");
    for life in 0..3 {
        let publication = parts(&["topic", &format!("in life {life}")]);
        wait_until("a publication from this life", || {
            publisher.send(&parts(&["other"]));
            publisher.send(&publication);
            let arrived = subscriber.receive_within(GLANCE)?;
            assert!(
                arrived[0] == b"topic",
                "another topic than the subscribed one"
            );
            (arrived == publication).then_some(())
        });
        broker.kill();
        broker = endpoints.start();
    }
}

/// Peers answer the broker's PINGs.
pub fn answered_heartbeats(front: &dyn Implementation, back: &dyn Implementation) {
    let broker = Zmqd::queue(&["--set", "heartbeat_ivl=20"]);
    beat(front, back, &broker, Settings::default(), |tap| {
        tap.broker().pings() >= BEATS && tap.peer().pongs() >= BEATS
    });
}

/// The broker answers the PINGs of peers that send some.
pub fn own_heartbeats(front: &dyn Implementation, back: &dyn Implementation) {
    let broker = Zmqd::queue(&["--set", "heartbeat_ivl=0"]);
    let settings = Settings {
        heartbeat_ms: 20,
        ..Settings::default()
    };
    beat(front, back, &broker, settings, |tap| {
        tap.peer().pings() >= BEATS && tap.broker().pongs() >= BEATS
    });
}

/// Clients and workers of all implementations share one queue, their publishers and subscribers one
/// forwarder.
pub fn together(implementations: &[&dyn Implementation]) {
    let queue = Zmqd::queue(&[]);
    let everywhere = |kind, endpoint: &str| -> Vec<Box<dyn Peer>> {
        let opened = implementations.iter().map(|one| open(*one, kind, endpoint));
        opened.collect()
    };
    let mut workers = everywhere(Kind::Rep, queue.backend());
    let mut clients = everywhere(Kind::Req, queue.frontend());
    // Pairs of a client and the worker that answered it. The first client asks twice in each round,
    // so that the next round begins with another worker.
    let mut met = BTreeSet::new();
    wait_until("each client to get an answer from each worker", || {
        for number in (0..implementations.len()).chain([0]) {
            clients[number].send(&parts(&[&number.to_string()]));
            let (server, request) = wait_until("a worker to get the request", || {
                let mut workers = workers.iter_mut().enumerate();
                workers.find_map(|(at, worker)| Some((at, worker.receive_within(GLANCE)?)))
            });
            workers[server].send(&request);
            assert_eq!(clients[number].receive(), request);
            met.insert((number, server));
        }
        (met.len() == implementations.len().pow(2)).then_some(())
    });

    let forwarder = Zmqd::forwarder(&[]);
    let mut publishers = everywhere(Kind::Pub, forwarder.frontend());
    let mut subscribers = everywhere(Kind::Sub, forwarder.backend());
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        subscriber.subscribe("topic");
        for (other, publisher) in publishers.iter_mut().enumerate() {
            let mark = format!("mark {number} {other}");
            settle(publisher.as_mut(), subscriber.as_mut(), &mark);
        }
    }
    for (number, publisher) in publishers.iter_mut().enumerate() {
        let publication = parts(&["topic", &number.to_string()]);
        publisher.send(&publication);
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.receive(), publication);
        }
    }
}

/// Idle peers on both sides exchange heartbeats until `is_enough`; then they are still connected.
fn beat(
    front: &dyn Implementation,
    back: &dyn Implementation,
    broker: &Zmqd,
    settings: Settings,
    is_enough: impl Fn(&Tap) -> bool,
) {
    let taps = [broker.frontend(), broker.backend()].map(Tap::before);
    let mut client = front.open(Kind::Dealer, &taps[0].endpoint(), settings);
    let mut worker = back.open(Kind::Dealer, &taps[1].endpoint(), settings);
    let mut exchange = || {
        let question = parts(&["question"]);
        client.send(&question);
        let request = worker.receive();
        worker.send(&request);
        assert_eq!(client.receive(), question);
    };
    exchange();
    wait_until("heartbeats and their answers", || {
        taps.iter().all(&is_enough).then_some(())
    });
    exchange();
    let connections = taps.each_ref().map(Tap::connections);
    assert_eq!(connections, [1, 1], "a peer has reconnected");
}

/// Returns once the publisher has all subscriptions of the subscriber, and nothing is in transit.
///
/// Subscriptions keep their order on the way to the publisher, so the arrival of a message for the
/// last one proves that the others are in place.
fn settle(publisher: &mut dyn Peer, subscriber: &mut dyn Peer, mark: &str) {
    subscriber.subscribe(mark);
    wait_until("a mark to arrive", || {
        publisher.send(&parts(&[mark, "perhaps"]));
        subscriber.receive_within(GLANCE).map(drop)
    });
    let last = parts(&[mark, "last"]);
    publisher.send(&last);
    while subscriber.receive() != last {}
}

fn open(implementation: &dyn Implementation, kind: Kind, endpoint: &str) -> Box<dyn Peer> {
    implementation.open(kind, endpoint, Settings::default())
}

fn parts(texts: &[&str]) -> Message {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Bytes that differ from their neighbours, so that a comparison notices a shift.
fn body(size: usize, seed: usize) -> Vec<u8> {
    let octet = |at: usize| u8::try_from((at.wrapping_mul(31) ^ at >> 8 ^ seed) & 255);
    (0..size).map_while(|at| octet(at).ok()).collect()
}

/// As `assert_eq!`, without printing megabytes.
#[track_caller]
fn assert_same(one: &[Vec<u8>], other: &[Vec<u8>]) {
    let sizes = |message: &[Vec<u8>]| message.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(one), sizes(other));
    assert!(one == other, "bytes were changed");
}

/// How long to wait for a message where the caller will wait again.
const GLANCE: Duration = Duration::from_millis(20);

/// Heartbeats that prove a working exchange.
const BEATS: usize = 5;
