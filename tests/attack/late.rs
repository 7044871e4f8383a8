//! Last values and messages that are sent again, for peers that ask and do not read.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use zmqd_tests::clock::idle;
use zmqd_tests::raw::{MORE, frame};

use crate::scene::Scene;
use crate::subscribers::{end, publisher};
use crate::swarm::{Buffers, connect, greet, hello, subscriber, subscription, write_within};
use crate::{Attack, Same, peers};

const LIMIT: u64 = 32 << 20;

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new("3,000 silent subscribers of values", "forwarder", values)
        .limit(LIMIT)
        .options("cache = { topics = [\"flood\"], bytes = 8388608 }")
        .beside(Same::Publications),
    Attack::new(
        "a value for each beginning of a topic",
        "forwarder",
        beginnings,
    )
    .limit(LIMIT)
    .options("cache = { topics = [\"flood\"], bytes = 8388608 }")
    .beside(Same::Publications),
    Attack::new("values that push out all others", "forwarder", evictions)
        .limit(LIMIT)
        .options("cache = { topics = [\"flood\"], bytes = 8388608 }")
        .beside(Same::Publications),
    Attack::new("2,000 silent readers of a replay", "forwarder", replays)
        .limit(LIMIT)
        .options("replay = { bind = \"tcp://127.0.0.1:0\", bytes = 1048576 }")
        .beside(Same::Publications),
];

/// The time for a broker to read what an attacker sends.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages with these topics, and a body of this size.
fn publications(topics: impl Iterator<Item = String>, size: usize) -> Vec<u8> {
    let body = frame(0, &vec![b'x'; size]);
    topics
        .flat_map(|topic| [frame(MORE, topic.as_bytes()), body.clone()].concat())
        .collect()
}

/// Sends this as a publisher; returns the connection and the number of bytes.
fn publish(scene: &Scene, bytes: &[u8]) -> (Option<TcpStream>, usize) {
    let source = publisher(scene);
    let sent = source.as_ref();
    let sent = sent.map_or(0, |source| write_within(source, bytes, PATIENCE));
    (source, sent)
}

/// Peers that say this and read nothing.
fn crowd(endpoint: &str, count: usize, hello: &[u8]) -> Vec<TcpStream> {
    let streams = (0..peers(count)).map_while(|_| connect(endpoint, Buffers::Small).ok());
    let mut streams: Vec<TcpStream> = streams.collect();
    streams.retain_mut(|stream| stream.write_all(hello).is_ok());
    streams
}

/// Thousands of values for thousands of subscribers.
fn values(scene: &mut Scene) -> String {
    let many = publications((0..10_000).map(|it| format!("flood{it:05}")), 200);
    let (mut least, mut sent) = (usize::MAX, 0);
    while scene.again() {
        let (source, bytes) = publish(scene, &many);
        sent += bytes;
        let crowd = crowd(scene.backend(), 3000, &subscriber(b"flood"));
        least = least.min(crowd.len());
        idle(Duration::from_millis(500));
        end(source);
    }
    let rounds = scene.rounds();
    format!("{least} peers, {rounds} times, {} MB", sent / 1_000_000)
}

/// One subscriber that makes as many subscriptions with values as it can, each of which is inside
/// the next.
fn beginnings(scene: &mut Scene) -> String {
    let topics: Vec<String> = (0..200)
        .map(|it| format!("flood{it:03}{}", "x".repeat(900)))
        .collect();
    let many = publications(topics.iter().cloned(), 10);
    let each = |topic: &String| -> Vec<u8> {
        let lens = (6..topic.len()).rev();
        lens.flat_map(|len| subscription(&topic.as_bytes()[..len]))
            .collect()
    };
    let wishes: Vec<u8> = topics.iter().flat_map(each).collect();
    let mut sent = 0;
    while scene.again() {
        let (source, _) = publish(scene, &many);
        if let Ok(stream) = greet(scene.backend(), "SUB") {
            sent += write_within(&stream, &wishes, PATIENCE);
            idle(Duration::from_millis(200));
        }
        end(source);
    }
    format!("{} peers, {} MB", scene.rounds(), sent / 1_000_000)
}

/// As many short values as there is room for, and then one that takes the room of all.
fn evictions(scene: &mut Scene) -> String {
    let short = publications((0..40_000).map(|it| format!("flood{it:05}")), 10);
    let large = publications(std::iter::once("flood".to_owned()), 8_300_000);
    let mut sent = 0;
    while scene.again() {
        for bytes in [&short, &large] {
            let (source, bytes) = publish(scene, bytes);
            sent += bytes;
            end(source);
        }
    }
    format!("{} times, {} MB", scene.rounds(), sent / 1_000_000)
}

/// Thousands of peers that ask for everything, again and again.
fn replays(scene: &mut Scene) -> String {
    let many = publications((0..20_000).map(|it| format!("flood{it:05}")), 200);
    let replay = scene.broker.endpoint("attacked", "replay").to_owned();
    let requests = frame(0, &[0; 8]).repeat(20);
    let (mut least, mut sent) = (usize::MAX, 0);
    while scene.again() {
        let (source, bytes) = publish(scene, &many);
        sent += bytes;
        let crowd = crowd(&replay, 2000, &[&hello("DEALER")[..], &requests].concat());
        least = least.min(crowd.len());
        for _ in 0..10 {
            for stream in &crowd {
                write_within(stream, &requests, Duration::from_millis(1));
            }
        }
        end(source);
    }
    let rounds = scene.rounds();
    format!("{least} peers, {rounds} times, {} MB", sent / 1_000_000)
}
