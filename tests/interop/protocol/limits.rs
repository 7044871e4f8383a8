//! Options that limit what a peer may send, and how long its handshake may take.

use std::time::Duration;

use zmqd_tests::raw::{COMMAND, MORE, frame};
use zmqd_tests::{Python, Raw, Stopwatch, Zmqd};

/// A streamer with these options on its frontend, a raw source, and a Python with a sink.
fn source(options: &[&str]) -> (Zmqd, Raw, Python) {
    let options: Vec<String> = options
        .iter()
        .map(|option| format!("frontend.{option}"))
        .collect();
    let mut arguments = vec!["--set"];
    arguments.extend(options.iter().map(String::as_str));
    let broker = Zmqd::streamer(&arguments);
    let mut raw = Raw::connect(broker.frontend());
    raw.handshake("PUSH");
    let mut python = Python::beside(&broker);
    python.run("sink = connect(zmq.PULL, backend)");
    (broker, raw, python)
}

#[test]
fn a_message_has_at_most_maxmsgsize_bytes() {
    let (broker, mut raw, mut python) = source(&["maxmsgsize=1000"]);
    // The header of a long frame has nine bytes.
    raw.send(&frame(0, &[b'x'; 991]))
        .expect("the largest message");
    python.run("assert len(sink.recv()) == 991");
    raw.send_until_closed(&frame(0, &[b'x'; 992]), 64 << 20);
    let line = broker.wait_log(raw.address());
    assert!(line.contains("message too large"), "{line}");
}

#[test]
fn a_message_has_at_most_maxmsgframes_frames() {
    let (broker, mut raw, mut python) = source(&["maxmsgframes=3"]);
    let message = |frames: usize| [frame(MORE, b"x").repeat(frames - 1), frame(0, b"x")].concat();
    raw.send(&message(3)).expect("the most frames");
    python.run("assert sink.recv_multipart() == [b'x'] * 3");
    raw.send_until_closed(&message(4), 64 << 20);
    let line = broker.wait_log(raw.address());
    assert!(line.contains("frames"), "{line}");
}

#[test]
fn a_handshake_takes_at_most_handshake_ivl() {
    let broker = Zmqd::queue(&["--set", "handshake_ivl=100"]);
    let watch = Stopwatch::start();
    let mut silent = Raw::connect(broker.frontend());
    silent.read_until_closed();
    assert!(watch.elapsed() < SOON, "closed after {:?}", watch.elapsed());
}

/// A forwarder with these options on its backend, and a raw subscriber.
fn subscriber(options: &[&str]) -> (Zmqd, Raw) {
    let broker = Zmqd::forwarder(&[&["--set"], options].concat());
    let mut raw = Raw::connect(broker.backend());
    raw.handshake("SUB");
    (broker, raw)
}

/// Sends bytes and waits until the broker has handled them.
fn send_and_wait(raw: &mut Raw, bytes: &[u8]) {
    raw.send(bytes).expect("the connection is open");
    raw.send(&frame(COMMAND, b"\x04PING\x00\x00"))
        .expect("the connection is open");
    assert_eq!(raw.read_frame(), b"\x04PONG");
}

#[test]
fn a_peer_holds_at_most_subscriptions_max_subscriptions() {
    let (broker, mut raw) = subscriber(&["backend.subscriptions_max=3"]);
    for topic in [b"\x01a", b"\x01b", b"\x01c"] {
        send_and_wait(&mut raw, &frame(0, topic));
    }
    raw.send_until_closed(&frame(0, b"\x01d"), 64 << 20);
    let line = broker.wait_log(raw.address());
    assert!(line.contains("too many subscriptions"), "{line}");
}

#[test]
fn a_topic_has_at_most_topic_size_max_bytes() {
    let (broker, mut raw) = subscriber(&["backend.topic_size_max=10"]);
    send_and_wait(&mut raw, &frame(0, b"\x010123456789"));
    raw.send_until_closed(&frame(0, b"\x010123456789a"), 64 << 20);
    let line = broker.wait_log(raw.address());
    assert!(line.contains("topic"), "{line}");
}

/// Less than the default of any option, and far more than needed.
const SOON: Duration = Duration::from_secs(9);
