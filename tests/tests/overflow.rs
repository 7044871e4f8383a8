//! What happens to messages for peers that read too slowly.

use zmqd_tests::{Python, Zmqd};

#[test]
fn conflated_subscribers_get_the_newest_of_each_topic() {
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
            assert numbers == sorted(set(numbers)) and len(numbers) < 1000, "in order, with gaps"
        "#,
    );
}

#[test]
fn a_subscriber_that_reads_nothing_is_disconnected_where_that_is_wanted() {
    let more = &[
        "--hwm",
        "10",
        "--set",
        "backend.overflow=disconnect",
        "backend.overflow_timeout=100",
    ];
    let broker = Zmqd::forwarder(more);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, sndhwm=0)
        slow = connect(zmq.SUB, backend, subscribe=b"", rcvhwm=1, reconnect_ivl=-1)
        assert publisher.recv() == b"\x01"
        for number in range(3000):
            publisher.send(bytes(16384))
        "#,
    );
    let _line = broker.wait_log("its queue stayed full for too long");
    python.run(r#"assert publisher.recv() == b"\x00""#);
}

#[test]
fn a_blocking_forwarder_loses_nothing() {
    let broker = Zmqd::forwarder(&["--hwm", "10", "--set", "backend.overflow=block"]);
    Python::beside(&broker).run(
        r#"
        publisher = connect(zmq.XPUB, frontend, sndhwm=0)
        slow = connect(zmq.SUB, backend, subscribe=b"", rcvhwm=10)
        quick = connect(zmq.SUB, backend, subscribe=b"", rcvhwm=0)
        assert publisher.recv() == b"\x01"
        for number in range(3000):
            publisher.send_multipart([b"%d" % number, bytes(16384)])
        for subscriber in (slow, quick):
            for number in range(3000):
                assert subscriber.recv_multipart()[0] == b"%d" % number
        "#,
    );
}

#[test]
fn the_memory_limit_stops_reading_and_then_sheds_the_largest_queue() {
    let more = &[
        "--memory-limit",
        "20000000",
        "--hwm",
        "0",
        "--handshake-timeout",
        "0",
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
    let _line = broker.wait_log("the memory limit of 20000000 bytes is reached");
    python.run(
        r#"
        reader = connect(zmq.SUB, backend, subscribe=b"end")
        def end():
            publisher.send(b"end")
            return reader.poll(100)
        wait_until("traffic flows again", end)
        "#,
    );
    // Shedding copies the queue once, and the allocator keeps what it got.
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 60_000_000, "{grown} bytes for a limit of 20 MB");
}
