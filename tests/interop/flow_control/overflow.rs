//! Messages for peers that read too slowly.

use std::time::Duration;
use zmqd_tests::{ANY, Python, Stopwatch, Zmqd};

/// A proxy with a control and these options on its backend, and a Python that can query it.
fn proxy(kind: &str, options: &[&str]) -> (Zmqd, Python) {
    let options: Vec<String> = options
        .iter()
        .map(|option| format!("backend.{option}"))
        .collect();
    let mut arguments = vec!["--control", ANY, "--set", "backend.sndbuf=16384"];
    arguments.extend(options.iter().map(String::as_str));
    let broker = Zmqd::proxy(kind, &arguments);
    let mut python = Python::beside(&broker);
    python.run("ask = questioner(control)");
    (broker, python)
}

/// A forwarder that got so many publications while `slow`, its only subscriber, read none.
fn flooded(count: u32, options: &[&str]) -> (Zmqd, Python) {
    let (broker, mut python) = proxy("forwarder", options);
    python.run(
        r#"
        publisher = connect(zmq.PUB, frontend, sndhwm=0)
        slow = connect(zmq.SUB, backend, subscribe=b"t", rcvhwm=1, rcvbuf=4096)
        settle([publisher], [slow])

        def passed():
            return counters(ask, "frontend")["messages_received"]

        def publish(number):
            publisher.send_multipart([b"t", b"%d" % number, bytes(65536)])

        def received(until):
            numbers = []
            while numbers[-1:] != [until]:
                topic, number, body = slow.recv_multipart()
                assert (topic, body) == (b"t", bytes(65536)), "whole messages"
                numbers.append(int(number))
            return numbers

        def slow_peer():
            (peer,) = ask("peers", side="backend")["peers"]
            return peer

        before = passed()
        "#,
    );
    python.run(&format!("for number in range({count}): publish(number)"));
    python.run(&format!(
        "wait_until('all publications to arrive', lambda: passed() == before + {count})"
    ));
    (broker, python)
}

#[test]
fn sndhwm_limits_the_messages_of_a_queue() {
    for sndhwm in [7, 30] {
        let (_broker, mut python) = flooded(60, &[&format!("sndhwm={sndhwm}")]);
        let queued: u32 = python.ask("slow_peer()['queued_messages']");
        // The kernel may have taken one since the last drop.
        assert!((sndhwm - 1..=sndhwm).contains(&queued), "{queued} queued");
        python.run(
            r#"
            kept = 60 - slow_peer()["dropped"]["peer-full"]
            numbers = [int(number) for _, number, _ in take(slow, kept)]
            assert numbers == sorted(numbers) and numbers[:7] == list(range(7)), "not the oldest"
            "#,
        );
    }
}

#[test]
fn sndhwm_bytes_limits_the_bytes_of_a_queue() {
    let (_broker, mut python) = flooded(60, &["sndhwm=0", "sndhwm_bytes=1000000"]);
    let bytes: u32 = python.ask("slow_peer()['queued_bytes']");
    assert!(bytes >= 1_000_000, "{bytes} bytes are not full");
    assert!(bytes < 1_000_000 + 66_000, "{bytes} bytes are too many");
    python.run("assert counters(ask, 'backend')['dropped']['peer-full'] > 30");
}

/// A streamer whose sink reads nothing, and whose source has sent 100 messages.
fn pushed(policy: &str) -> (Zmqd, Python) {
    let (broker, mut python) = proxy("streamer", &["sndhwm=10", policy]);
    python.run(
        r#"
        sink = connect(zmq.PULL, backend, rcvhwm=1, rcvbuf=4096)
        source = connect(zmq.PUSH, frontend, sndhwm=0)
        for number in range(100):
            source.send_multipart([b"%d" % number, bytes(65536)])
        def passed():
            return counters(ask, "frontend")["messages_received"]
        def missed(reason):
            return counters(ask, "backend")["dropped"].get(reason, 0)
        "#,
    );
    (broker, python)
}

#[test]
fn standard_and_block_wait_for_a_full_sink() {
    for policy in ["overflow=standard", "overflow=block"] {
        let (_broker, mut python) = pushed(policy);
        python.run(
            r#"
            wait_until("the source to wait", lambda: counters(ask, "frontend")["waiting"] == 1)
            assert passed() < 20 and counters(ask, "backend")["dropped"] == {}
            assert [int(number) for number, _ in take(sink, 100)] == list(range(100))
            "#,
        );
    }
}

#[test]
fn drop_newest_drops_the_newest_messages() {
    let (_broker, mut python) = pushed("overflow=drop-newest");
    python.run(
        r#"
        wait_until("the streamer to take all messages", lambda: passed() == 100)
        kept = 100 - missed("peer-full")
        assert 10 <= kept < 20
        assert [int(number) for number, _ in take(sink, kept)] == list(range(kept))
        "#,
    );
}

#[test]
fn drop_oldest_drops_the_oldest_messages() {
    let (_broker, mut python) = pushed("overflow=drop-oldest");
    python.run(
        r#"
        wait_until("the streamer to take all messages", lambda: passed() == 100)
        kept = 100 - missed("peer-full")
        assert 10 <= kept < 20
        numbers = [int(number) for number, _ in take(sink, kept)]
        # The message in transmission stays, and so do the newest.
        assert numbers == sorted(numbers) and numbers[-9:] == list(range(91, 100))
        "#,
    );
}

#[test]
fn conflate_keeps_the_newest_message_only() {
    for policy in ["overflow=conflate", "conflate=true"] {
        let (_broker, mut python) = flooded(60, &[policy]);
        python.run(
            r#"
            replaced = counters(ask, "backend")["dropped"]["replaced"]
            numbers = received(59)
            assert numbers == sorted(numbers) and len(numbers) < 8
            assert len(numbers) + replaced >= 60
            "#,
        );
    }
}

#[test]
fn disconnect_closes_a_peer_after_overflow_timeout() {
    let watch = Stopwatch::start();
    let options = ["sndhwm=10", "overflow=disconnect", "overflow_timeout=100"];
    let (broker, mut python) = flooded(30, &options);
    python.run(
        r#"
        def is_closed():
            publish(30)
            return counters(ask, "backend")["closed"] == {"too-slow": 1}
        wait_until("the slow peer to be closed", is_closed)
        "#,
    );
    let _line = broker.wait_log("its queue stayed full for too long");
    assert!(watch.elapsed() < SOON, "closed after {:?}", watch.elapsed());
    let patient = [
        "sndhwm=10",
        "overflow=disconnect",
        "overflow_timeout=600000",
    ];
    let (_broker, mut python) = flooded(30, &patient);
    python.run("assert received(9) == list(range(10))");
}

#[test]
fn disconnect_closes_a_peer_with_too_many_bytes() {
    let watch = Stopwatch::start();
    let options = [
        "sndhwm=0",
        "sndhwm_bytes=1000000",
        "overflow=disconnect",
        "overflow_timeout=0",
    ];
    let (broker, _python) = flooded(30, &options);
    let _line = broker.wait_log("its queue stayed full for too long");
    assert!(watch.elapsed() < SOON, "closed after {:?}", watch.elapsed());
}

/// Less than the default of any option, and far more than needed.
const SOON: Duration = Duration::from_secs(9);

#[test]
fn messages_older_than_max_age_are_dropped() {
    let (_broker, mut python) = flooded(30, &["max_age=50"]);
    python.run(
        r#"
        end = time.monotonic() + 0.1
        wait_until("the messages to expire", lambda: time.monotonic() > end)
        numbers = []
        def next_one():
            publish(30)
            while slow.poll(10):
                numbers.append(int(slow.recv_multipart()[1]))
            return numbers[-1:] == [30]
        wait_until("a message that has not expired", next_one)
        early = [number for number in numbers if number < 30]
        assert early == list(range(len(early))) and len(early) < 10, "more than in transit"
        assert counters(ask, "backend")["dropped"]["expired"] + len(early) >= 30
        "#,
    );
}

#[test]
fn conflate_topic_keeps_the_newest_message_of_each_topic() {
    let more = &[
        "--set",
        "backend.overflow=conflate-topic",
        "backend.sndbuf=4096",
    ];
    let broker = Zmqd::forwarder(more);
    Python::beside(&broker).run(
        r#"
        publisher = connect(zmq.XPUB, frontend, sndhwm=0)
        slow = connect(zmq.SUB, backend, subscribe=b"", rcvhwm=1, rcvbuf=4096)
        assert publisher.recv() == b"\x01"
        for number in range(2000):
            publisher.send_multipart([b"%d" % (number % 2), b"%d" % number, bytes(4096)])
        seen = {b"0": [], b"1": []}
        while seen[b"0"][-1:] != [1998] or seen[b"1"][-1:] != [1999]:
            topic, number, _ = slow.recv_multipart()
            seen[topic].append(int(number))
        for numbers in seen.values():
            assert numbers == sorted(set(numbers)) and len(numbers) < 1000, "not in order, or all"
        "#,
    );
}

#[test]
fn block_and_xpub_nodrop_lose_no_publication() {
    for policy in ["overflow=block", "xpub_nodrop=true"] {
        let policy = format!("backend.{policy}");
        let broker = Zmqd::forwarder(&["--set", "sndhwm=10", "--set", &policy]);
        Python::beside(&broker).run(
            r#"
            publisher = connect(zmq.PUB, frontend, sndhwm=0)
            slow = connect(zmq.SUB, backend, subscribe=b"t", rcvhwm=10)
            quick = connect(zmq.SUB, backend, subscribe=b"t", rcvhwm=0)
            settle([publisher], [slow, quick])
            for number in range(2000):
                publisher.send_multipart([b"t", b"%d" % number, bytes(16384)])
            for subscriber in (slow, quick):
                assert [int(number) for _, number, _ in take(subscriber, 2000)] == list(range(2000))
            "#,
        );
    }
}

#[test]
fn a_growing_queue_leaves_memory_for_other_peers() {
    let more = &[
        "--memory-limit",
        "20000000",
        "--set",
        "sndhwm=0",
        "--set",
        "handshake_ivl=0",
    ];
    let broker = Zmqd::forwarder(more);
    let before = broker.rss_bytes();
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, sndhwm=0)
        stuck = connect(zmq.SUB, backend, subscribe=b"", rcvhwm=1)
        assert publisher.recv() == b"\x01"
        for number in range(4000):
            publisher.send_multipart([b"%d" % number, bytes(16384)])
        "#,
    );
    python.run(
        r#"
        reader = connect(zmq.SUB, backend, subscribe=b"end")
        def end():
            publisher.send(b"end")
            return reader.poll(100)
        wait_until("a publication to pass", end)
        "#,
    );
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(
        grown < 42_000_000,
        "memory grew by {grown} bytes with a limit of 20 MB"
    );
}
