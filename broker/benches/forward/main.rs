//! The cost of a message in the broker itself, without sockets: received bytes in, bytes to send
//! out.
//!
//! `cargo bench -p zmqd-broker --bench forward -- [WORK [BATCHES]]`; the figures do not include the
//! two system calls and two copies by the kernel for each batch. WORK selects the loads whose names
//! contain it. BATCHES sets the exact number of batches, after one to warm up, so that instructions
//! can be counted; see docs/performance.md.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod drive;

use broker::config::{CacheConfig, ProxyConfig};
use drive::{BATCH_SIZE, Bench};
use std::time::{Duration, Instant};

const RUN_TIME: Duration = Duration::from_millis(300);

/// A load.
struct Work {
    name: &'static str,
    kind: &'static str,
    sources: usize,
    sinks: usize,
    /// Readers that subscribe to all copies of the capture.
    readers: usize,
    body_size: usize,
    /// Alters the configuration of the proxy.
    change: fn(&mut ProxyConfig),
    /// Each message of a batch has a topic of its own.
    is_spread: bool,
    /// Messages of each source before the others have their turn; 0: as many as fit into a batch.
    window: usize,
}

const WORKS: [Work; 18] = [
    Work::one_way("streamer, 1 sink, 64 B", "streamer", 1, 64),
    Work::one_way("streamer, 1 sink, 1 KiB", "streamer", 1, 1024),
    Work::one_way("streamer, 1 sink, 16 KiB", "streamer", 1, 16 << 10),
    Work::one_way("streamer, 1 sink, 100 KiB", "streamer", 1, 100 << 10),
    Work::one_way("streamer, 4 sinks in turn", "streamer", 4, 64),
    Work::one_way("forwarder, 1 subscriber", "forwarder", 1, 64),
    Work::one_way("forwarder, 50 subscribers", "forwarder", 50, 64),
    Work::one_way("forwarder, many topics", "forwarder", 1, 64).spread(),
    Work::one_way("forwarder with a cache", "forwarder", 1, 64).changed(cache),
    Work::one_way("cache, many topics", "forwarder", 1, 64)
        .changed(cache)
        .spread(),
    Work::one_way("cache, ever new topics", "forwarder", 1, 64)
        .changed(small_cache)
        .spread(),
    Work::one_way("forwarder with a ring", "forwarder", 1, 64).changed(ring),
    Work::one_way("forwarder with numbers", "forwarder", 1, 64).changed(number),
    Work::queue("queue, 1 x 256, 1 worker", 1, 256, 1),
    Work::queue("queue, 16 x 64, 4 workers", 16, 64, 4),
    Work::queue("queue, 1 x 1, 1 worker", 1, 1, 1),
    Work::one_way("watched streamer, 1 sink", "streamer", 1, 64).watched(),
    Work::queue("watched queue, 1 x 256, 1 worker", 1, 256, 1).watched(),
];

impl Work {
    const fn one_way(
        name: &'static str,
        kind: &'static str,
        sinks: usize,
        body_size: usize,
    ) -> Self {
        Self {
            name,
            kind,
            sources: 1,
            sinks,
            readers: 0,
            body_size,
            change: |_| (),
            is_spread: false,
            window: 0,
        }
    }

    const fn changed(self, change: fn(&mut ProxyConfig)) -> Self {
        Self { change, ..self }
    }

    const fn spread(self) -> Self {
        Self {
            is_spread: true,
            ..self
        }
    }

    const fn watched(self) -> Self {
        Self { readers: 1, ..self }
    }

    const fn queue(name: &'static str, sources: usize, window: usize, sinks: usize) -> Self {
        Self {
            name,
            kind: "queue",
            sources,
            sinks,
            readers: 0,
            body_size: 64,
            change: |_| (),
            is_spread: false,
            window,
        }
    }
}

/// The newest message of each topic is kept.
fn cache(proxy: &mut ProxyConfig) {
    proxy.cache = Some(CacheConfig::default());
}

/// The same, with room for a part of the topics of a batch: each message takes the place of
/// another.
fn small_cache(proxy: &mut ProxyConfig) {
    proxy.cache = Some(CacheConfig {
        bytes_max: 256 << 10,
        ..CacheConfig::default()
    });
}

/// The newest messages are kept.
fn ring(proxy: &mut ProxyConfig) {
    proxy.replay.socket = proxy.frontend.clone();
}

/// The same, and messages end with their numbers.
fn number(proxy: &mut ProxyConfig) {
    ring(proxy);
    proxy.replay.sequence = true;
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut arguments = arguments.iter().filter(|text| !text.starts_with("--"));
    let wanted = arguments.next().map_or("", String::as_str);
    let batches = arguments.next().map(|text| text.parse().expect("a number"));
    println!("{:<34} {:>12} {:>12}", "work", "messages", "ns/message");
    for work in WORKS.iter().filter(|work| work.name.contains(wanted)) {
        report(work, batches);
    }
}

fn report(work: &Work, batches: Option<u64>) {
    let peers = [work.sources, work.sinks, work.readers];
    let mut bench = Bench::new(Instant::now(), work.kind, peers, work.change);
    let message = drive::message(work.kind, work.body_size);
    let count = match work.window {
        0 => (BATCH_SIZE / message.len()).max(1),
        window => window,
    };
    let mut batch = message.repeat(count);
    if work.is_spread {
        for (number, message) in batch.chunks_mut(message.len()).enumerate() {
            let topic = format!("{number:08}");
            let start = message.len() - work.body_size;
            message[start..][..topic.len()].copy_from_slice(topic.as_bytes());
        }
    }
    bench.run_batches(&batch, 1);
    let (mut messages, start) = (0, Instant::now());
    while messages == 0 || batches.is_none() && start.elapsed() < RUN_TIME {
        bench.run_batches(&batch, batches.unwrap_or(10));
        messages += batches.unwrap_or(10) * (count * work.sources) as u64;
    }
    let nanoseconds = start.elapsed().as_secs_f64() * 1e9 / messages as f64;
    println!("{:<34} {messages:>12} {nanoseconds:>12.1}", work.name);
}
