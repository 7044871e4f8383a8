//! Subscriptions: too many of them, and publishers that do not get them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use zmqd_tests::Stopwatch;
use zmqd_tests::clock::idle;
use zmqd_tests::raw::{COMMAND, MORE, frame, greeting, ready_with};

use crate::honest::Link;
use crate::report::shown;
use crate::scene::Scene;
use crate::subscribers::{end, publisher};
use crate::swarm::{Buffers, connect, greet, hello, subscription, write_within};
use crate::{Attack, Same, urgent};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new("990,000 topics, and then a second peer", "forwarder", many)
        .limit(16 << 20)
        .beside(Same::Publications),
    Attack::new("a publisher that reads by drops", "forwarder", drops).beside(Same::Publications),
    Attack::new("a loop command, and then the end", "forwarder", loops).beside(Same::Publications),
    Attack::new("workers that know the names of others", "queue", names),
];

/// The time until a publisher that reads has a new subscription.
const FRESH_MAX: Duration = Duration::from_secs(1);
/// The longest wait for it: less than the broker waits before a PING.
const FRESH_PATIENCE: Duration = Duration::from_secs(5);

/// This number of subscriptions to topics of 20 bytes with this prefix.
pub(crate) fn subscriptions(prefix: &str, count: usize) -> Vec<u8> {
    let topics = (0..count).map(|number| format!("{prefix}{number:0>16}"));
    topics
        .flat_map(|topic| subscription(topic.as_bytes()))
        .collect()
}

fn many(scene: &mut Scene) -> String {
    let topics = [
        subscriptions("one.", 990_000),
        subscriptions("two.", 990_000),
    ];
    let mut sent = 0;
    while scene.again() {
        let mut swarm = Vec::new();
        for topics in &topics {
            if let Ok(stream) = greet(scene.backend(), "SUB") {
                sent += write_within(&stream, topics, Duration::from_secs(3));
                swarm.push(stream);
            }
        }
        idle(Duration::from_millis(300));
    }
    format!("{} rounds, {} MB", scene.rounds(), sent / 1_000_000)
}

/// One publisher that reads 64 bytes every half second, and one subscriber of many topics.
fn drops(scene: &mut Scene) -> String {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut slow = connect(scene.frontend(), Buffers::Small).expect("the broker listens");
    let mut answer = [0; 4096];
    let is_greeted = write_within(&slow, &hello("PUB"), FRESH_MAX) > 0;
    assert!(is_greeted && slow.read(&mut answer).is_ok());
    let slow_too = slow.try_clone().expect("a connection can be shared");
    let reader = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut drop_ = [0; 64];
            while !is_over.load(Ordering::Relaxed)
                && !matches!(slow.read(&mut drop_), Ok(0) | Err(_))
            {
                idle(Duration::from_millis(500));
            }
        }
    });
    let healthy = healthy_publisher(scene);
    let wanted = subscriptions("much", 300_000);
    let greedy = greet(scene.backend(), "SUB").expect("the broker listens");
    let greedy_too = greedy.try_clone().expect("a connection can be shared");
    let writer = thread::spawn(move || write_within(&greedy_too, &wanted, Duration::from_secs(20)));
    let (mut slowest, mut number) = (Some(Duration::ZERO), 0);
    while slowest.is_some() && (scene.again() || number < 10) {
        slowest = slowest
            .zip(fresh_subscription(scene, number))
            .map(|(one, other)| one.max(other));
        number += 1;
        idle(Duration::from_millis(200));
    }
    is_over.store(true, Ordering::Relaxed);
    end(Some(slow_too));
    end(Some(greedy));
    let sent = writer.join().expect("a writer does not panic");
    reader.join().expect("a reader does not panic");
    drop(healthy.shutdown(std::net::Shutdown::Both));
    scene.require("the first publication", slowest, FRESH_MAX);
    format!(
        "{} MB of topics; {number} new subscriptions, the slowest heard first: {}",
        sent / 1_000_000,
        shown(slowest)
    )
}

/// A publisher that answers each subscription to `fresh-…` with one publication.
fn healthy_publisher(scene: &Scene) -> std::net::TcpStream {
    let mut link = Link::open(scene.frontend(), "PUB");
    let stream = link.stream();
    urgent("healthy", move || {
        while let Ok(heard) = link.message() {
            let at = heard.windows(6).position(|window| window == b"fresh-");
            let Some(topic) = at.map(|at| &heard[at..]) else {
                continue;
            };
            let is_begun = heard.first() == Some(&1) || heard.starts_with(b"\x09SUBSCRIBE");
            if is_begun && link.send(&frame(0, topic)).is_err() {
                break;
            }
        }
    });
    stream
}

/// The time until a new subscriber gets its publication; `None` if it gets none.
fn fresh_subscription(scene: &Scene, number: u32) -> Option<Duration> {
    let watch = Stopwatch::start();
    let topic = format!("fresh-{number:04}");
    let mut link = Link::open(scene.backend(), "SUB");
    let stream = link.stream();
    stream.set_read_timeout(Some(FRESH_PATIENCE)).ok()?;
    link.send(&subscription(topic.as_bytes())).ok()?;
    let heard = link.message().ok()?;
    (heard == topic.as_bytes()).then(|| watch.elapsed())
}

/// A peer that claims to look for loops, subscribes to much, claims to have found a loop, and
/// leaves.
fn loops(scene: &mut Scene) -> String {
    let looking = [("Socket-Type", "SUB"), ("X-Zmqd-Loop-Check", "on")];
    let mut said = [&greeting("NULL")[..], &ready_with(&looking)].concat();
    said.extend(subscriptions("loop", 5000));
    said.extend(frame(COMMAND, b"\x09ZMQD-LOOP"));
    let flood = frame(0, b"loop0000000000000001").repeat(2000);
    let source = publisher(scene);
    while scene.again() || scene.rounds() < 10 {
        let Ok(stream) = connect(scene.backend(), Buffers::Default) else {
            break;
        };
        if let Some(source) = &source {
            write_within(source, &flood, Duration::from_secs(1));
        }
        write_within(&stream, &said, Duration::from_secs(1));
        drop(stream.shutdown(std::net::Shutdown::Write)); // fails only if the broker was first
        if let Some(source) = &source {
            write_within(source, &flood, Duration::from_secs(1));
        }
        idle(Duration::from_millis(20));
    }
    end(source);
    format!("{} peers", scene.rounds())
}

/// A worker of one queue that answers with all possible identities of peers.
fn names(scene: &mut Scene) -> String {
    let mut forged = 0_u64;
    while scene.again() {
        let mut worker = Link::open(scene.backend(), "DEALER");
        let client = Link::open(scene.frontend(), "DEALER");
        client
            .send(&frame(0, b"whose name is this?"))
            .expect("the broker reads");
        let request = worker.envelope().expect("the only worker gets it");
        let Some((_, generation)) = request.split_last_chunk::<4>() else {
            break;
        };
        let generation = u32::from_be_bytes(*generation);
        for near in 0..8 {
            let generation = generation.wrapping_sub(4).wrapping_add(near).to_be_bytes();
            let mut answers = Vec::new();
            for slot in 0..500_u32 {
                let name = [&[0][..], &slot.to_be_bytes(), &generation].concat();
                answers.extend(frame(MORE, &name));
                answers.extend(frame(0, b"forged"));
                forged += 1;
            }
            if worker.send(&answers).is_err() {
                break;
            }
        }
        idle(Duration::from_millis(100));
        drop(client.stream().shutdown(std::net::Shutdown::Both));
        drop(worker.stream().shutdown(std::net::Shutdown::Both));
    }
    format!("{forged} forged replies")
}
