//! Clients that send too much, or the wrong thing.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use zmqd_tests::raw::{frame, long_header};
use zmqd_tests::{PATIENCE, Python, Raw, wait_until};

use super::{TWO, Watching};

const MIB: u64 = 1 << 20;

#[test]
fn hostile_clients_are_bounded_and_told_once() {
    let watching = Watching::start(TWO);
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "{\"type\": }",
        "[]",
        "{\"type\": 7}",
    ] {
        watching.send(text);
    }
    drop(watching.connect());
    let mut endless = watching.connect();
    endless.set_write_timeout(Some(PATIENCE)).expect("a time");
    let chunk = vec![b'['; 64 << 10];
    // It is closed long before the end.
    let sent = (0..160)
        .take_while(|_| endless.write_all(&chunk).is_ok())
        .count();
    assert!(sent < 160, "10 MB were read");
    let crowd: Vec<TcpStream> = (0..1000).map(|_| watching.connect()).collect();
    watching.send("{\"type\": \"heartbeat\"}");
    watching.wait_state("lives", "up");
    let files = watching.process.files();
    assert!(files < 120, "{files} files");
    assert_eq!(watching.process.log_count("a heartbeat cannot be read"), 1);
    assert_eq!(watching.process.log_count("too many connections"), 1);
    assert_eq!(watching.state("flows"), "new");
    drop(crowd);
}

/// Sends the same bytes again and again until the test is over.
fn flood(mut send: impl FnMut() -> bool + Send + 'static) -> impl FnOnce() {
    let is_over = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_over);
    let thread = thread::spawn(move || while !flag.load(Ordering::Relaxed) && send() {});
    move || {
        is_over.store(true, Ordering::Relaxed);
        thread.join().expect("the flood ends");
    }
}

#[test]
fn clients_that_send_without_end_leave_time_and_memory_for_others() {
    let watching = Watching::start(TWO);
    let mut plain = watching.connect();
    plain.set_write_timeout(Some(PATIENCE)).expect("a time");
    let mut peer = Raw::connect(&watching.bound("heartbeat"));
    peer.handshake("PUSH");
    let objects = br#"{"type":"flood"}"#.repeat(4096);
    let messages = frame(0, b"flood").repeat(4096);
    let ends = [
        Box::new(flood(move || plain.write_all(&objects).is_ok())) as Box<dyn FnOnce()>,
        Box::new(flood(move || peer.send(&messages).is_ok())),
    ];
    wait_until("the floods", || {
        (watching.counter("unknown_heartbeats") > 100_000).then_some(())
    });
    for kind in ["poiid", "heartbeat"] {
        watching.send(&format!("{{\"type\": \"{kind}\"}}"));
    }
    watching.wait_state("lives", "up");
    watching.wait_state("flows", "up");
    let rss = watching.process.rss_peak_bytes();
    ends.into_iter().for_each(|end| end());
    assert!(rss < 64 * MIB, "{rss} bytes");
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_read_from() {
    let more: String = (0..300)
        .map(|n| format!("[[watch]]\nname = \"more{n}\"\nheartbeat = {{ type = \"more\" }}\n"))
        .collect();
    let watching = Watching::start(&format!("{TWO}{more}"));
    let mut python = Python::new();
    python.set("control", &watching.bound("control"));
    // Answers have about 100 KB, and a thousand requests are more than all buffers hold.
    python.run(
        r#"
        client = context.socket(zmq.DEALER)
        client.setsockopt(zmq.RCVHWM, 1)
        client.setsockopt(zmq.SNDHWM, 0)
        client.setsockopt(zmq.LINGER, 0)
        client.connect(control)
        for n in range(5000):
            client.send_multipart([b"", b'{"command": "status"}'])
        "#,
    );
    wait_until("a peer that is held", || {
        (watching.counter("held_peers") > 0).then_some(())
    });
    watching.send("{\"type\": \"heartbeat\"}");
    watching.wait_state("lives", "up");
    let rss = watching.process.rss_peak_bytes();
    assert!(rss < 64 * MIB, "{rss} bytes");
    assert_eq!(watching.process.log_count("sends and does not read"), 1);
}

#[test]
fn messages_and_subscriptions_have_limits_that_are_counted() {
    let watching = Watching::start(TWO);
    let mut large = Raw::connect(&watching.bound("heartbeat"));
    large.handshake("PUSH");
    large.send(&long_header(0, MIB)).expect("it reads");
    assert!(large.is_closed_within(PATIENCE), "its message is too large");
    let mut reader = Raw::connect(&watching.bound("events"));
    reader.handshake("SUB");
    let topic = |number: u32| frame(0, format!("\x01{number:0200}").as_bytes());
    // A topic that is subscribed to again is only counted.
    reader.send(&topic(0).repeat(10_000)).expect("it reads");
    assert_eq!(watching.counter("refused_peers"), 1);
    let topics: Vec<u8> = (0..1000).flat_map(topic).collect();
    let _ = reader.send(&topics);
    assert!(reader.is_closed_within(PATIENCE), "it has too many topics");
    assert_eq!(watching.counter("refused_peers"), 2);
    assert_eq!(watching.process.log_count("a peer is refused"), 1);
}
