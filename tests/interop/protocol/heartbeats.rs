//! PING and PONG in both directions, and peers that are not declared dead.

use std::time::Duration;

use zmqd_tests::raw::{COMMAND, frame};
use zmqd_tests::{Python, Raw, Stopwatch, Zmqd};

/// A Python whose `beat` makes sockets that send 20 PINGs a second and disconnect after a second
/// without an answer.
fn beating(broker: &Zmqd) -> Python {
    let mut python = Python::beside(broker);
    python.run(
        r#"
        def beat(kind, endpoint, **options):
            options |= {"heartbeat_ivl": 50, "heartbeat_timeout": 1000}
            made = socket(kind, **options)
            wait = watch(made, zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
            made.connect(endpoint)
            assert wait() == zmq.EVENT_HANDSHAKE_SUCCEEDED
            return made

        def stays_connected(made, ms):
            return is_silent(monitor_of(made), ms)
        "#,
    );
    python
}

#[test]
fn pings_of_idle_peers_are_answered() {
    let broker = Zmqd::queue(&[]);
    beating(&broker).run(
        r#"
        server, client = beat(zmq.REP, backend), beat(zmq.REQ, frontend)
        client.send(b"question")
        assert server.recv() == b"question"
        assert stays_connected(client, 1500) and stays_connected(server, 0)
        server.send(b"answer")
        assert client.recv() == b"answer"
        "#,
    );
}

#[test]
fn pings_of_busy_peers_are_answered() {
    let broker = Zmqd::streamer(&[]);
    beating(&broker).run(
        r#"
        source, sink = beat(zmq.PUSH, frontend), beat(zmq.PULL, backend)
        parts = [bytes(100_000) for _ in range(10)]
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            source.send_multipart(parts)
            assert digest(sink.recv_multipart()) == digest(parts)
        assert stays_connected(source, 0) and stays_connected(sink, 0)
        "#,
    );
}

#[test]
fn suspended_senders_are_not_declared_dead() {
    let broker = Zmqd::streamer(&["--set", "sndhwm=10", "--set", "heartbeat_ivl=50"]);
    beating(&broker).run(
        r#"
        source, sent = beat(zmq.PUSH, frontend, sndhwm=10, sndbuf=65536), 0
        while source.poll(300, zmq.POLLOUT):
            source.send_multipart([b"%d" % sent, bytes(65536)])
            sent += 1
        assert stays_connected(source, 1500)
        sink = connect(zmq.PULL, backend)
        assert [int(number) for number, _ in take(sink, sent)] == list(range(sent))
        "#,
    );
}

#[test]
fn slow_readers_are_not_declared_dead() {
    let beats = ["heartbeat_ivl=100", "heartbeat_timeout=200"];
    let options = beats.map(|option| ["--set", option]).concat();
    for (kind, near, far, idle) in [
        ("queue", "DEALER", "DEALER", "DEALER"),
        ("forwarder", "PUB", "SUB", "SUB"),
        ("streamer", "PUSH", "PULL", "PUSH"),
    ] {
        let broker = Zmqd::proxy(kind, &options);
        let mut python = Python::beside(&broker);
        python.set("near", near);
        python.set("far", far);
        python.run(
            r#"
            far = socket(getattr(zmq, far), rcvhwm=1)
            wait = watch(far, zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
            far.connect(backend)
            assert wait() == zmq.EVENT_HANDSHAKE_SUCCEEDED
            near = connect(getattr(zmq, near), frontend)
            if far.type == zmq.SUB:
                far.subscribe(b"")
                settle([near], [far])
            for number in range(100):
                near.send_multipart([b"", b"%d" % number])
            assert far.poll(PATIENCE_MS)
            "#,
        );
        // Meanwhile peers with nothing to read are declared dead, one after the other.
        for _ in 0..4 {
            let is_subscriber = idle == "SUB";
            let side = if is_subscriber {
                broker.backend()
            } else {
                broker.frontend()
            };
            let mut silent = Raw::connect(side);
            silent.handshake(idle);
            silent.read_until_closed();
        }
        let _line = broker.wait_log("no sign of life after PING");
        python.run(
            r#"
            numbers = [int(message[-1]) for message in take(far, 100)]
            assert numbers == list(range(100)), numbers
            assert is_silent(monitor_of(far)), "the slow reader was disconnected"
            "#,
        );
    }
}

/// A streamer with these options, and a raw source.
fn raw_source(options: &[&str]) -> (Zmqd, Raw) {
    let broker = Zmqd::streamer(&[&["--set"], options].concat());
    let mut raw = Raw::connect(broker.frontend());
    raw.handshake("PUSH");
    (broker, raw)
}

#[test]
fn a_silent_peer_gets_a_ping_and_is_closed() {
    let watch = Stopwatch::start();
    let (broker, mut raw) = raw_source(&[
        "frontend.heartbeat_ivl=50",
        "frontend.heartbeat_ttl=1200",
        "frontend.heartbeat_timeout=100",
    ]);
    let ping = raw.read_frame();
    assert!(watch.elapsed() < SOON, "{:?} have passed", watch.elapsed());
    // The time-to-live is in tenths of a second.
    assert_eq!(ping, b"\x04PING\x00\x0c");
    raw.read_until_closed();
    assert!(watch.elapsed() < SOON, "{:?} have passed", watch.elapsed());
    let line = broker.wait_log(raw.address());
    assert!(line.contains("no sign of life after PING"), "{line}");
}

#[test]
fn a_peer_that_answers_pings_stays_connected() {
    let options = [
        "frontend.heartbeat_ivl=50",
        "frontend.heartbeat_timeout=2000",
    ];
    let (broker, mut raw) = raw_source(&options);
    for _ in 0..5 {
        assert!(raw.read_frame().starts_with(b"\x04PING"));
        raw.send(&frame(COMMAND, b"\x04PONG"))
            .expect("the connection is open");
    }
    raw.send(&frame(0, b"work"))
        .expect("the connection is open");
    Python::beside(&broker).run("assert connect(zmq.PULL, backend).recv() == b'work'");
}

/// Less than the default of any option, and far more than needed.
const SOON: Duration = Duration::from_secs(9);
