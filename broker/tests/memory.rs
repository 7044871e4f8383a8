//! Operations that need no heap memory once all buffers have grown, and the memory counted as in
//! use.

#![expect(
    clippy::disallowed_methods,
    reason = "any instant works: the test moves it"
)]

#[path = "../benches/forward/drive.rs"]
mod drive;

use broker::Action;
use broker::config::{CacheConfig, ProxyConfig};
use drive::Bench;
use std::time::{Duration, Instant};
use zmtp::encode::append_command;

/// A core with these peers.
fn bench(kind: &str, peers: [usize; 3]) -> Bench {
    Bench::new(Instant::now(), kind, peers, |_| ())
}

/// The number of allocations of a second run of `work`.
#[track_caller]
fn assert_allocates_nothing(what: &str, mut work: impl FnMut()) {
    for _ in 0..3 {
        work();
    }
    let counted = allocation_counter::measure(work);
    assert_eq!(counted.count_total, 0, "{what}: {counted:?}");
}

#[test]
fn small_messages_are_passed_on_without_allocating() {
    for (kind, peers) in [
        ("streamer", [1, 1, 0]),
        ("streamer", [2, 4, 0]),
        ("streamer", [1, 1, 2]),
        ("forwarder", [1, 1, 0]),
        ("forwarder", [1, 50, 0]),
        ("forwarder", [1, 2, 1]),
        ("queue", [1, 1, 0]),
        ("queue", [16, 4, 0]),
        ("queue", [1, 1, 1]),
    ] {
        let mut bench = bench(kind, peers);
        let batch = drive::message(kind, 64).repeat(100);
        assert_allocates_nothing(&format!("{kind} {peers:?}"), || {
            bench.run_batches(&batch, 10);
        });
    }
}

#[test]
fn the_last_value_of_a_topic_takes_the_place_of_the_one_before_without_allocating() {
    let cache = |proxy: &mut ProxyConfig| proxy.cache = Some(CacheConfig::default());
    let mut bench = Bench::new(Instant::now(), "forwarder", [1, 1, 0], cache);
    let batch = drive::message("forwarder", 64).repeat(100);
    assert_allocates_nothing("last values", || bench.run_batches(&batch, 10));
}

#[test]
fn a_heartbeat_is_answered_and_asked_for_without_allocating() {
    let mut bench = bench("streamer", [1, 1, 0]);
    let (mut ping, mut pong) = (Vec::new(), Vec::new());
    append_command(&mut ping, "PING", b"\x00\x64context");
    append_command(&mut pong, "PONG", b"");
    let peers = [bench.sources[0], bench.sinks[0]];
    assert_allocates_nothing("heartbeats", || {
        for _ in 0..100 {
            bench.now += Duration::from_secs(5);
            for id in peers {
                bench.feed(id, &ping);
                bench.feed(id, &pong);
            }
            bench.finish_turn();
        }
    });
}

#[test]
fn unsent_messages_of_a_closed_peer_do_not_count_any_more() {
    let mut bench = bench("streamer", [1, 1, 0]);
    let message = drive::message("streamer", 100);
    bench.feed(bench.sources[0], &message);
    let queues = bench.core.memory().queues;
    assert!(
        (message.len() as u64..4096).contains(&queues),
        "{queues} bytes"
    );
    // A partly written message, which its peer does not read on.
    let sink = bench.core.poll_dirty().expect("there is something to send");
    bench.core.handle_written(sink, 10, true);
    // Twice: the first call gives the queue time, the second drops it.
    bench.core.handle_stop(bench.now);
    bench.core.handle_stop(bench.now);
    bench.core.run_deferred(bench.now);
    while let Some(action) = bench.core.poll_action() {
        if let Action::Close { id, .. } = action {
            bench.core.handle_closed(bench.now, id);
        }
    }
    assert!(bench.core.is_stopped());
    let left = bench.core.memory();
    assert_eq!((left.connections, left.inputs, left.queues), (0, 0, 0));
}

#[test]
fn a_large_queue_that_is_given_up_is_not_copied() {
    const QUEUE_BYTES: u64 = 8 << 20;
    let mut bench = bench("streamer", [1, 2, 0]);
    let batch = drive::message("streamer", 10_000).repeat(2);
    // The queues of both sinks, neither of which reads.
    while bench.core.memory_in_use() < 2 * QUEUE_BYTES {
        bench.feed(bench.sources[0], &batch);
        while let Some(sink) = bench.core.poll_dirty() {
            bench.core.handle_written(sink, 0, true);
        }
    }
    let in_use = bench.core.memory().queues;
    let counted = allocation_counter::measure(|| {
        bench.core.handle_write_failed(bench.sinks[0]);
        bench.core.run_deferred(bench.now);
    });
    let left = bench.core.memory().queues;
    assert!(
        left > in_use / 8 * 7,
        "{left} of {in_use} bytes: it waits for the other"
    );
    // Some of its buffers are kept for other queues.
    assert!(counted.bytes_max < QUEUE_BYTES / 2, "{counted:?}");
}

#[test]
fn large_messages_take_little_more_than_their_size() {
    for size in [66_000, 100_000, 1_000_000] {
        let mut bench = bench("streamer", [1, 1, 0]);
        let message = drive::message("streamer", size);
        // A message that arrives at once is written from the scratch, or copied.
        let (begin, rest) = message.split_at(40_000);
        let counted = allocation_counter::measure(|| {
            while bench.core.memory_in_use() < 32 << 20 {
                bench.feed(bench.sources[0], begin);
                bench.feed(bench.sources[0], rest);
                while let Some(sink) = bench.core.poll_dirty() {
                    bench.core.handle_written(sink, 0, true);
                }
            }
        });
        let (held, in_use) = (counted.bytes_current, bench.core.memory_in_use());
        let held = u64::try_from(held).expect("something is held");
        assert!(
            held < in_use + in_use / 4,
            "{held} bytes for {in_use} of {size} each"
        );
    }
}

#[test]
fn one_subscription_more_moves_no_more_than_a_block() {
    let mut bench = bench("forwarder", [1, 1, 0]);
    let subscriber = bench.sinks[0];
    let mut largest = 0;
    for number in 0..300_000 {
        let mut wire = Vec::new();
        append_command(&mut wire, "SUBSCRIBE", format!("topic {number}").as_bytes());
        let counted = allocation_counter::measure(|| bench.feed(subscriber, &wire));
        largest = largest.max(counted.bytes_max);
    }
    assert!(bench.core.subscription_memory() > 10_000_000);
    // A block, and the publisher's copy.
    assert!(largest < 600_000, "{largest} bytes for one subscription");
}
