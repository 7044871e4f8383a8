//! Messages that never end, and questions whose answers are not read.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use zmqd_tests::clock::idle;
use zmqd_tests::raw::{COMMAND, frame, greeting, long_header, ready_with};

use crate::scene::Scene;
use crate::swarm::{Buffers, Swarm, connect, greet, hello, is_closed, write_within};
use crate::{Attack, Same, peers};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new("560 announce much and send a byte more", "queue", announce).beside(Same::Requests),
    Attack::new("560 announce much, limit 32 MB", "queue", announce)
        .limit(LIMIT)
        .beside(Same::Requests),
    Attack::new("six begin 120 MiB and come again", "queue", |scene| {
        unfinished(scene, 6)
    })
    .beside(Same::Requests),
    Attack::new("two begin 120 MiB, limit 32 MB", "queue", |scene| {
        unfinished(scene, 2)
    })
    .limit(LIMIT)
    .beside(Same::Requests),
    Attack::new("six begin 120 MiB of work", "streamer", |scene| {
        unfinished(scene, 6)
    })
    .beside(Same::Work),
    Attack::new("a peer on trial that reads no PONG", "forwarder", |scene| {
        pings(scene, "trial")
    })
    .limit(LIMIT)
    .beside(Same::Publications),
    Attack::new("a peer that reads no PONG", "forwarder", |scene| {
        pings(scene, "on")
    })
    .limit(LIMIT)
    .beside(Same::Publications),
];

const LIMIT: u64 = 32 << 20;

/// The type of a socket that sends to the attacked frontend.
fn sender(scene: &Scene) -> &'static str {
    match scene.kind {
        "streamer" => "PUSH",
        "forwarder" => "PUB",
        _ => "DEALER",
    }
}

/// Each peer announces 100 MiB, sends a part, and later one more byte.
fn announce(scene: &mut Scene) -> String {
    let lie = [long_header(0, 100 << 20), vec![b'x'; 230]].concat();
    let mut least = usize::MAX;
    while scene.again() {
        let hello = hello(sender(scene));
        let mut swarm = Swarm::connect(scene.frontend(), peers(560), &hello, Buffers::Default);
        swarm.say(&lie);
        idle(Duration::from_millis(200));
        swarm.say(b"x");
        idle(Duration::from_millis(800));
        least = least.min(swarm.len());
    }
    format!("{} rounds, {least} peers at least", scene.rounds())
}

/// Each peer begins 120 MiB, sends all but the end, waits, and reconnects when it is closed.
fn unfinished(scene: &Scene, count: usize) -> String {
    let socket_type = sender(scene);
    let endpoint = scene.frontend().to_owned();
    let time = scene.left().max(Duration::from_secs(3));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let endpoint = endpoint.clone();
            thread::spawn(move || begin_again(&endpoint, socket_type, time))
        })
        .collect();
    let (mut came, mut sent) = (0, 0);
    for thread in threads {
        let (times, bytes) = thread.join().expect("an attacker does not panic");
        came += times;
        sent += bytes;
    }
    format!("came {came} times, {} MB", sent / 1_000_000)
}

/// The number of connections of one attacker within the time, and the bytes that it sent.
fn begin_again(endpoint: &str, socket_type: &str, time: Duration) -> (u32, usize) {
    const ANNOUNCED: usize = 120 << 20;
    let watch = zmqd_tests::Stopwatch::start();
    let chunk = vec![b'x'; 1 << 20];
    let (mut came, mut sent) = (0, 0);
    while watch.elapsed() < time {
        let Ok(stream) = greet(endpoint, socket_type) else {
            idle(Duration::from_millis(10)); // refused; tries again a moment later
            continue;
        };
        came += 1;
        let mut left = ANNOUNCED - 1;
        write_within(&stream, &long_header(0, ANNOUNCED as u64), time);
        while watch.elapsed() < time && !is_closed(&stream) {
            let len = left.min(chunk.len());
            let written = write_within(&stream, &chunk[..len], Duration::from_millis(200));
            left -= written;
            sent += written;
            if left == 0 {
                idle(Duration::from_millis(10));
            }
        }
    }
    (came, sent)
}

/// Sends PINGs while the broker reads them, and does not read the answers.
fn pings(scene: &mut Scene, check: &str) -> String {
    let looking = [("Socket-Type", "SUB"), ("X-Zmqd-Loop-Check", check)];
    let hello = [&greeting("NULL")[..], &ready_with(&looking)].concat();
    let many = frame(COMMAND, b"\x04PING\x00\x000123456789abcdef").repeat(4000);
    let mut sent = 0;
    while scene.again() {
        let Ok(stream) = connect(scene.backend(), Buffers::Small) else {
            break;
        };
        write_within(&stream, &hello, Duration::from_secs(1));
        sent += flood(&stream, &many, scene.left().max(Duration::from_secs(2)));
    }
    format!("{} MB of PINGs", sent / 1_000_000)
}

/// Writes this repeatedly until the time is over or the broker stops reading.
fn flood(stream: &TcpStream, chunk: &[u8], time: Duration) -> usize {
    let watch = zmqd_tests::Stopwatch::start();
    let mut sent = 0;
    while watch.elapsed() < time {
        let written = write_within(stream, chunk, Duration::from_millis(500));
        sent += written;
        if written < chunk.len() {
            break;
        }
    }
    sent
}
