//! Queues of many small messages for peers that do not read.

use std::net::TcpStream;
use std::time::Duration;

use zmqd_tests::clock::{idle, poll_for};
use zmqd_tests::raw::frame;

use crate::scene::Scene;
use crate::subscribers::{end, publisher};
use crate::swarm::{Buffers, Swarm, subscriber, write_within};
use crate::{Attack, Same};

pub(crate) const ATTACKS: &[Attack] = &[
    small("max_age, 500 stalled, 20 B", "backend.max_age = 600000"),
    small(
        "drop-oldest, 500 stalled, 20 B",
        "backend.overflow = \"drop-oldest\"",
    ),
    small(
        "conflate-topic, 500 stalled, 20 B",
        "backend.overflow = \"conflate-topic\"",
    ),
    Attack::new("max_age, one stalled, 1 B", "forwarder", |scene| {
        stalled(scene, 1, "", 1 << 20)
    })
    .limit(LIMIT)
    .options("backend.sndhwm = 0\nbackend.sndbuf = 4096\nbackend.max_age = 600000")
    .beside(Same::Publications),
    Attack::new("conflate-topic, 40,000 topics", "forwarder", topics)
        .options("backend.sndhwm = 0\nbackend.sndbuf = 4096\nbackend.overflow = \"conflate-topic\"")
        .beside(Same::Publications),
    Attack::new("max_age, a million queued", "forwarder", million)
        .options("backend.sndhwm = 0\nbackend.sndbuf = 4096\nbackend.max_age = 600000")
        .beside(Same::Publications),
];

const LIMIT: u64 = 32 << 20;
/// Processor time for all topics, without that of honest peers.
const TOPICS_MAX: Duration = Duration::from_millis(200);
/// Additional processor time of a message behind a long queue.
const MESSAGE_MAX: Duration = Duration::from_micros(20);
/// The time for the broker to read a burst.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stalled subscribers of 20-byte messages, under an option.
const fn small(name: &'static str, option: &'static str) -> Attack {
    let run = |scene: &mut Scene| stalled(scene, 500, "flood", 2 << 20);
    Attack::new(name, "forwarder", run)
        .limit(LIMIT)
        .options(option)
        .beside(Same::Publications)
}

/// Messages whose first frames are all different.
fn distinct(prefix: &str, count: usize) -> Vec<u8> {
    let width = 20 - prefix.len();
    (0..count)
        .flat_map(|number| frame(0, format!("{prefix}{number:0>width$}").as_bytes()))
        .collect()
}

/// In each round, this many bytes for subscribers that do not read.
fn stalled(scene: &mut Scene, count: usize, prefix: &str, bytes: usize) -> String {
    let flood = if prefix.is_empty() {
        frame(0, b"f").repeat(bytes / 3)
    } else {
        distinct(prefix, bytes / 22)
    };
    let topic = if prefix.is_empty() { "f" } else { prefix };
    let (mut least, mut sent) = (usize::MAX, 0);
    while scene.again() {
        let swarm = Swarm::connect(
            scene.backend(),
            count,
            &subscriber(topic.as_bytes()),
            Buffers::Small,
        );
        least = least.min(swarm.len());
        let source = publisher(scene);
        if let Some(source) = &source {
            sent += write_within(source, &flood, PATIENCE);
        }
        idle(Duration::from_millis(500));
        end(source);
    }
    format!(
        "{least} peers, {} rounds, {} MB",
        scene.rounds(),
        sent / 1_000_000
    )
}

/// Publishes, and waits until the broker has read everything and uses no more processor time.
fn publish(scene: &Scene, source: &TcpStream, bytes: &[u8]) {
    write_within(source, bytes, PATIENCE);
    let mut before = scene.broker.scheduled().ran;
    // Honest peers take a few ms in each tenth of a second.
    poll_for(PATIENCE, || {
        idle(Duration::from_millis(100));
        let now = scene.broker.scheduled().ran;
        let is_calm = now.saturating_sub(before) < Duration::from_millis(30);
        before = now;
        is_calm.then_some(())
    });
}

/// The processor time for honest peers alone, in this time.
fn honest_cost(scene: &mut Scene, time: Duration) -> Duration {
    scene.cost(|_| idle(time))
}

fn topics(scene: &mut Scene) -> String {
    let flood = distinct("flood", 40_000);
    let mut most = Duration::ZERO;
    while scene.again() {
        let swarm = Swarm::connect(scene.backend(), 1, &subscriber(b"flood"), Buffers::Small);
        let source = publisher(scene).expect("the broker listens");
        let second = Duration::from_secs(1);
        let calm = honest_cost(scene, second / 4) * 4;
        let watch = zmqd_tests::Stopwatch::start();
        let cost = scene.cost(|scene| publish(scene, &source, &flood));
        let honest = calm.mul_f64(watch.elapsed().as_secs_f64());
        most = most.max(cost.saturating_sub(honest));
        drop(swarm);
        end(Some(source));
    }
    scene.require("processor time", Some(most), TOPICS_MAX);
    format!("{} rounds, {most:.2?} of processor time", scene.rounds())
}

/// The processor time of one single message.
fn lonely_cost(scene: &mut Scene, source: &TcpStream) -> Duration {
    const COUNT: u32 = 300;
    let message = distinct("flood", 1);
    let cost = scene.cost(|_| {
        for _ in 0..COUNT {
            write_within(source, &message, PATIENCE);
            idle(Duration::from_millis(1));
        }
    });
    cost / COUNT
}

fn million(scene: &mut Scene) -> String {
    let many = distinct("flood", 1_000_000);
    let mut most = Duration::ZERO;
    while scene.again() {
        let swarm = Swarm::connect(scene.backend(), 1, &subscriber(b"flood"), Buffers::Small);
        let source = publisher(scene).expect("the broker listens");
        let before = lonely_cost(scene, &source);
        publish(scene, &source, &many);
        let behind = lonely_cost(scene, &source);
        most = most.max(behind.saturating_sub(before));
        drop(swarm);
        end(Some(source));
    }
    scene.require("processor time for a message", Some(most), MESSAGE_MAX);
    format!(
        "{} rounds; a message behind a million costs {most:.1?} more",
        scene.rounds()
    )
}
