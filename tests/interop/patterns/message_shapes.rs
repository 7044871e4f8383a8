//! Messages of every shape pass unchanged: any number of parts, any size, empty parts anywhere.

use zmqd_tests::{Python, Zmqd};

/// Sockets on both sides of a proxy, and `pass_through`, which sends messages from one to the
/// other.
fn one_way(kind: &str) -> (Zmqd, Python) {
    let broker = Zmqd::proxy(kind, &[]);
    let mut python = Python::beside(&broker);
    python.set("kind", kind);
    python.run(
        r#"
        if kind == "queue":
            source = connect(zmq.DEALER, frontend, identity=b"me")
            sink = connect(zmq.DEALER, backend)
        elif kind == "forwarder":
            source, sink = connect(zmq.PUB, frontend), connect(zmq.SUB, backend)
            sink.subscribe(b"topic")
            settle([source], [sink])
        else:
            source, sink = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)

        head = {"queue": [], "forwarder": [b"topic"], "streamer": []}[kind]
        added = {"queue": [b"me"], "forwarder": [], "streamer": []}[kind]

        def pass_through(message):
            source.send_multipart(head + message, copy=False)
            got = sink.recv_multipart()
            assert digest(got) == digest(added + head + message), [len(part) for part in got]
            if kind == "queue":
                sink.send_multipart(got, copy=False)
                assert digest(source.recv_multipart()) == digest(message)
        "#,
    );
    (broker, python)
}

fn every_number_of_parts(kind: &str, step: usize) {
    let (_broker, mut python) = one_way(kind);
    python.run(&format!(
        r#"
        for count in sorted({{1, 2, 3, 4, 999, 1000, *range(1, 1001, {step})}}):
            pass_through([b"%d" % part * (part % 7) for part in range(count)])
        "#
    ));
}

fn every_size(kind: &str) {
    let (broker, mut python) = one_way(kind);
    python.run(
        r#"
        sizes = [0, 1, 2, 126, 127, 128, 253, 254, 255, 256, 257, 1000, 4095, 4096, 8191, 8192]
        sizes += [8193, 65535, 65536, 65537, 262143, 262144, 262145, 1 << 20, 5_000_001, 64 << 20]
        noise = os.urandom(1 << 16)
        for size in sizes:
            body = (noise * (size // len(noise) + 1))[:size]
            pass_through([body])
            if size < 1 << 20:
                pass_through([body, b"", body, b"end"])
                pass_through([b"", body, body[:-1]])
        del body
        pass_through([b"afterwards"])
        "#,
    );
    let rss = broker.rss_bytes();
    assert!(
        rss < 64 << 20,
        "{rss} bytes stay resident after the largest message"
    );
}

fn empty_frames_anywhere(kind: &str) {
    let (_broker, mut python) = one_way(kind);
    python.run(
        r#"
        import itertools
        for count in range(1, 6):
            for frames in itertools.product((b"", b"x", bytes(300)), repeat=count):
                pass_through(list(frames))
        "#,
    );
}

#[test]
fn queue_passes_every_number_of_parts() {
    every_number_of_parts("queue", 37);
}

#[test]
fn queue_passes_every_size() {
    every_size("queue");
}

#[test]
fn queue_passes_empty_frames_anywhere() {
    empty_frames_anywhere("queue");
}

#[test]
fn forwarder_passes_every_number_of_parts() {
    every_number_of_parts("forwarder", 37);
}

#[test]
fn forwarder_passes_every_size() {
    every_size("forwarder");
}

#[test]
fn forwarder_passes_empty_frames_anywhere() {
    empty_frames_anywhere("forwarder");
}

#[test]
fn streamer_passes_every_number_of_parts() {
    every_number_of_parts("streamer", 1);
}

#[test]
fn streamer_passes_every_size() {
    every_size("streamer");
}

#[test]
fn streamer_passes_empty_frames_anywhere() {
    empty_frames_anywhere("streamer");
}

#[test]
fn large_and_small_messages_keep_their_order() {
    let broker = Zmqd::streamer(&[]);
    Python::beside(&broker).run(
        r#"
        source, sink = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)
        sizes = [(number * 7919) % 50 * (4000 if number % 3 else 1) for number in range(2000)]
        def push():
            for number, size in enumerate(sizes):
                source.send_multipart([b"%d" % number, bytes(size), b""])

        pushing = in_background(push)
        for number, size in enumerate(sizes):
            assert sink.recv_multipart() == [b"%d" % number, bytes(size), b""]
        pushing.result()
        "#,
    );
}

#[test]
fn a_large_message_reaches_every_subscriber() {
    let broker = Zmqd::forwarder(&[]);
    Python::beside(&broker).run(
        r#"
        publisher = connect(zmq.PUB, frontend)
        subscribers = [connect(zmq.SUB, backend, subscribe=b"topic") for _ in range(5)]
        settle([publisher], subscribers)
        for number in range(5):
            body = os.urandom(1 << 16) * 100
            publisher.send_multipart([b"topic", body, b"%d" % number], copy=False)
            for subscriber in subscribers:
                topic, got, end = subscriber.recv_multipart()
                assert (digest([got]), end) == (digest([body]), b"%d" % number)
        "#,
    );
}
