//! Subscribers that do not read during bursts of publications.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use zmqd_tests::clock::idle;
use zmqd_tests::raw::frame;

use crate::scene::Scene;
use crate::swarm::{Buffers, Swarm, greet, subscriber, write_within};
use crate::topics::subscriptions;
use crate::{Attack, Same, peers};

const LIMIT: u64 = 32 << 20;

pub(crate) const ATTACKS: &[Attack] = &[
    silent("6,000 silent subscribers, 200 B", |scene| {
        burst(scene, 6000, 200, 4 << 20, Buffers::Small)
    }),
    silent("6,000 silent subscribers, 2,000 B", |scene| {
        burst(scene, 6000, 2000, 4 << 20, Buffers::Small)
    }),
    silent("500 silent subscribers, 2,000 B", |scene| {
        burst(scene, 500, 2000, 4 << 20, Buffers::Small)
    }),
    silent("2,000 silent subscribers, default buffers", |scene| {
        burst(scene, 2000, 2000, 20 << 20, Buffers::Default)
    }),
    Attack::new("floods in a row", "forwarder", floods).beside(Same::Publications),
    silent("large messages to 6,000 subscribers", |scene| {
        burst(scene, 6000, 256 << 10, 4 << 20, Buffers::Small)
    }),
    Attack::new("10,000 subscribers vanish at once", "forwarder", vanish)
        .beside(Same::Publications),
];

/// The time for a broker to read a burst before an attacker gives up.
const BURST_PATIENCE: Duration = Duration::from_secs(5);

const fn silent(name: &'static str, run: fn(&mut Scene) -> String) -> Attack {
    Attack::new(name, "forwarder", run)
        .limit(LIMIT)
        .beside(Same::Publications)
}

/// Messages of one size that add up to this number of bytes.
pub(crate) fn messages(size: usize, bytes: usize) -> Vec<u8> {
    let mut body = b"flood".to_vec();
    body.resize(size, b'x');
    frame(0, &body).repeat((bytes / size).max(1))
}

/// A publisher that reads its subscriptions, so that it is not closed.
pub(crate) fn publisher(scene: &Scene) -> Option<TcpStream> {
    let stream = greet(scene.frontend(), "PUB").ok()?;
    stream.set_read_timeout(None).ok()?;
    let mut copy = stream.try_clone().ok()?;
    // Ends with the connection.
    thread::spawn(move || std::io::copy(&mut copy, &mut std::io::sink()));
    Some(stream)
}

/// Ends a connection that another thread reads from too.
pub(crate) fn end(stream: Option<TcpStream>) {
    if let Some(stream) = stream {
        drop(stream.shutdown(std::net::Shutdown::Both)); // fails only if the broker was first
    }
}

/// One burst in each round to subscribers that connect and do not read.
fn burst(scene: &mut Scene, count: usize, size: usize, bytes: usize, buffers: Buffers) -> String {
    let flood = messages(size, bytes);
    let (mut least, mut sent) = (usize::MAX, 0);
    while scene.again() {
        let swarm = Swarm::connect(
            scene.backend(),
            peers(count),
            &subscriber(b"flood"),
            buffers,
        );
        least = least.min(swarm.len());
        let source = publisher(scene);
        if let Some(source) = &source {
            sent += write_within(source, &flood, BURST_PATIENCE);
        }
        idle(Duration::from_millis(500));
        end(source);
    }
    format!(
        "{least} peers, {} bursts, {} MB",
        scene.rounds(),
        sent / 1_000_000
    )
}

/// Bursts of messages of different sizes, each to its own subscribers.
fn floods(scene: &mut Scene) -> String {
    let mut sent = 0;
    for size in [100, 1000, 10_000, 100_000, 1_000_000].into_iter().cycle() {
        if !scene.again() && scene.rounds() >= 5 {
            break;
        }
        let swarm = Swarm::connect(scene.backend(), 60, &subscriber(b"flood"), Buffers::Small);
        let flood = messages(size, 24 << 20);
        let source = publisher(scene);
        if let Some(source) = &source {
            sent += write_within(source, &flood, BURST_PATIENCE);
        }
        idle(Duration::from_millis(200));
        drop(swarm);
        end(source);
    }
    format!("{} floods, {} MB", scene.rounds(), sent / 1_000_000)
}

/// All subscribers leave at once, each with some topics.
fn vanish(scene: &mut Scene) -> String {
    let mut most = 0;
    let hello = [subscriber(b"vanishing"), subscriptions("vanish", 20)].concat();
    while scene.again() {
        let swarm = Swarm::connect(scene.backend(), peers(10_000), &hello, Buffers::Small);
        most = most.max(swarm.len());
        idle(Duration::from_millis(200));
        drop(swarm);
        idle(Duration::from_millis(500));
    }
    format!("{} times {most} peers", scene.rounds())
}
