//! Peers that violate the protocol: each is refused and logged once with its address, and no other
//! peer is affected.

use std::time::Duration;

use zmqd_tests::raw::{COMMAND, MORE, frame, greeting, long_header, ready};
use zmqd_tests::{Python, Raw, Zmqd, turns};

/// A broker under attack, with honest traffic through it.
struct Scene {
    broker: Zmqd,
    honest: Python,
    rss_bytes: u64,
}

impl Scene {
    fn new(kind: &str, arguments: &[&str]) -> Self {
        let broker = Zmqd::proxy(kind, arguments);
        let mut honest = Python::beside(&broker);
        honest.set("kind", kind);
        honest.run("honest = Honest(kind, frontend, backend); honest.passes()");
        let rss_bytes = broker.rss_bytes();
        Self {
            broker,
            honest,
            rss_bytes,
        }
    }

    /// Every honest message so far has arrived, and more arrive.
    #[track_caller]
    fn honest_peers_lose_nothing(&mut self) {
        self.honest.run("honest.passes()");
    }

    /// The broker closes the connection, logs the reason once, and serves the honest peers.
    #[track_caller]
    fn refuses(&mut self, what: &str, mut raw: Raw) {
        raw.read_until_closed();
        self.logs_once(what, &raw);
    }

    /// The log has exactly one line about this peer, and honest messages pass.
    #[track_caller]
    fn logs_once(&mut self, what: &str, raw: &Raw) {
        let line = self.broker.wait_log(raw.address());
        self.honest_peers_lose_nothing();
        let count = self.broker.log_count(raw.address());
        assert_eq!(count, 1, "{count} lines about {what}, the first is {line}");
    }

    #[track_caller]
    fn grew_by_less_than(&self, bytes_max: u64) {
        let growth = self.broker.rss_bytes().saturating_sub(self.rss_bytes);
        assert!(growth < bytes_max, "resident memory grew by {growth} bytes");
    }
}

/// Bytes instead of a greeting.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let mut noise = 0x9e37_79b9_u32;
    let random = (0..4096).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0] & 0x7f
    });
    let mut revision_0 = greeting("NULL");
    revision_0[10] = 0;
    vec![
        ("garbage", random.collect()),
        ("zeros", vec![0; 4096]),
        ("ones", vec![0xff; 4096]),
        (
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(10),
        ),
        ("an anonymous peer of ZMTP 1.0", b"\x01\x00".repeat(40)),
        (
            "a greeting of ZMTP 2.0",
            b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\x00\x00".to_vec(),
        ),
        ("a greeting of revision 0", revision_0.to_vec()),
        ("PLAIN", greeting("PLAIN").to_vec()),
        ("CURVE", greeting("CURVE").to_vec()),
        (
            "a mechanism that begins with NULL",
            greeting("NULLIFY").to_vec(),
        ),
        ("no mechanism", greeting("").to_vec()),
    ]
}

/// Bytes instead of a valid READY, after a valid greeting.
fn bad_handshakes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a message before READY", frame(0, b"too early")),
        ("another command", frame(COMMAND, b"\x04PING\x00\x00")),
        ("an empty command", frame(COMMAND, b"")),
        ("a name without an end", frame(COMMAND, b"\xffREADY")),
        (
            "a property without an end",
            frame(COMMAND, b"\x05READY\x0bSocket-Type\0\0\0\xffDEALER"),
        ),
        ("half a property", frame(COMMAND, b"\x05READY\x0bSocket")),
        ("an identity of 256 octets", {
            let property = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\x01\0";
            frame(COMMAND, &[&property[..], &[b'i'; 256]].concat())
        }),
        ("an unknown socket type", ready("DREALER")),
        (
            "a command of 2^63-1 octets",
            long_header(COMMAND, u64::MAX >> 1),
        ),
        ("a command of 2^64-1 octets", long_header(COMMAND, u64::MAX)),
    ]
}

#[test]
fn garbage_instead_of_a_greeting_is_refused() {
    let mut scene = Scene::new("queue", &["--set", "handshake_ivl=1500"]);
    for (what, bytes) in garbage() {
        let mut raw = Raw::connect(scene.broker.frontend());
        // An error means that the broker has closed before it read all of this.
        drop(raw.send(&bytes));
        scene.refuses(what, raw);
    }
    scene.grew_by_less_than(4 << 20);
}

#[test]
fn bad_handshakes_are_refused() {
    let mut scene = Scene::new("queue", &[]);
    for (what, bytes) in bad_handshakes() {
        let mut raw = Raw::connect(scene.broker.frontend());
        raw.send(&greeting("NULL")).expect(what);
        drop(raw.send(&bytes));
        scene.refuses(what, raw);
    }
    scene.grew_by_less_than(4 << 20);
}

#[test]
fn a_partial_greeting_leaves_nothing_behind() {
    let mut scene = Scene::new("queue", &[]);
    for len in [0, 1, 10, 11, 12, 32, 63, 64] {
        let mut raw = Raw::connect(scene.broker.frontend());
        raw.send(&greeting("NULL")[..len])
            .expect("a new connection takes a greeting");
        raw.end();
        raw.read_until_closed();
        scene.honest_peers_lose_nothing();
        let lines = scene.broker.log_count(raw.address());
        assert!(lines <= 1, "{lines} lines about {len} octets of a greeting");
    }
    scene.broker.wait_connections(2);
}

#[test]
fn slow_and_silent_handshakes_time_out() {
    let mut scene = Scene::new("queue", &["--set", "handshake_ivl=1000"]);
    let hello = [&greeting("NULL")[..], &ready("DEALER")].concat();
    let mut silent: Vec<Raw> = [0, 1, 10, 32, 63, 64, 66, hello.len() - 1]
        .into_iter()
        .map(|len| {
            let mut raw = Raw::connect(scene.broker.frontend());
            raw.send(&hello[..len])
                .expect("a new connection takes a greeting");
            raw
        })
        .collect();
    let mut dripping = Raw::connect(scene.broker.backend());
    let pace = Duration::from_millis(100);
    let sent = hello
        .iter()
        .take_while(|octet| dripping.send(&[**octet]).is_ok() && !dripping.is_closed_within(pace));
    let sent = sent.count();
    assert!(sent < 40, "still open after {sent} octets, one in {pace:?}");
    scene.logs_once("a slow peer", &dripping);
    for raw in &mut silent {
        raw.read_until_closed();
        scene.logs_once("a silent peer", raw);
    }
}

#[test]
fn a_wrong_socket_type_gets_an_error_command() {
    for (kind, wrong_types) in [
        ("queue", ["REP", "PUB", "SUB", "PUSH", "PULL", "PAIR"]),
        (
            "forwarder",
            ["SUB", "XSUB", "REQ", "PULL", "DEALER", "ROUTER"],
        ),
        ("streamer", ["PULL", "SUB", "REQ", "REP", "ROUTER", "PAIR"]),
    ] {
        let mut scene = Scene::new(kind, &[]);
        for wrong_type in wrong_types {
            let mut raw = Raw::connect(scene.broker.frontend());
            raw.send(&greeting("NULL"))
                .expect("a new connection takes a greeting");
            raw.send(&ready(wrong_type))
                .expect("the broker waits for READY");
            let received = raw.read_until_closed();
            let is_error = received.windows(6).any(|window| window == b"\x05ERROR");
            assert!(
                is_error,
                "a {wrong_type} got only {}",
                received.escape_ascii()
            );
            scene.logs_once(wrong_type, &raw);
        }
    }
}

#[test]
fn libzmq_with_a_wrong_socket_type_does_not_reconnect() {
    // With -v every peer has its own line.
    let mut scene = Scene::new("queue", &["-v"]);
    scene.honest.run(
        r#"
        wrong = [socket(kind) for kind in (zmq.PUB, zmq.PULL, zmq.SUB)]
        for one in wrong:
            wait = watch(one, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_DISCONNECTED)
            one.connect(frontend)
            wait()
        "#,
    );
    scene.broker.wait_connections(2);
    // Longer than libzmq waits before it reconnects.
    scene.honest.run("honest.passes(500)");
    scene.broker.wait_connections(2);
    let lines = scene.broker.log_count("queue frontend: closed 127.0.0.1:");
    assert_eq!(lines, 3, "one line for each of three peers");
}

#[test]
fn oversized_frames_are_refused_from_the_header() {
    let mut scene = Scene::new("queue", &[]);
    for len in [
        (128 << 20) + 1,
        1 << 32,
        u64::MAX >> 1,
        (u64::MAX >> 1) + 1,
        u64::MAX,
    ] {
        for flags in [0, MORE, COMMAND] {
            let mut raw = Raw::connect(scene.broker.frontend());
            raw.handshake("DEALER");
            raw.send(&long_header(flags, len))
                .expect("the connection is valid so far");
            scene.refuses(&format!("{len} octets announced with flags {flags}"), raw);
        }
    }
    scene.grew_by_less_than(4 << 20);
}

#[test]
fn announced_lengths_allocate_nothing() {
    const PEERS: u64 = 500;
    let _turn = turns::many_connections();
    let mut scene = Scene::new("queue", &[]);
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let mut raw = Raw::connect(scene.broker.frontend());
        raw.handshake("DEALER");
        let begin = [long_header(0, 100 << 20), vec![b'x'; 1000]].concat();
        raw.send(&begin).expect("the length is legal");
        peers.push(raw);
    }
    // Twice more, so that the broker reads each of them three times.
    for _ in 0..2 {
        scene.honest_peers_lose_nothing();
        for raw in &mut peers {
            raw.send(b"x").expect("the message has not ended");
        }
    }
    scene.honest_peers_lose_nothing();
    // Memory for the bytes that arrived and some room, none for the announced length.
    scene.grew_by_less_than(PEERS * (16 << 10) + (4 << 20));
    drop(peers);
    scene.broker.wait_connections(2);
}

#[test]
fn endless_multipart_messages_are_refused() {
    let mut scene = Scene::new("queue", &[]);
    for body in [&b""[..], b"x", &[b'x'; 200]] {
        let mut raw = Raw::connect(scene.broker.frontend());
        raw.handshake("DEALER");
        let many = frame(MORE, body).repeat(1000);
        let sent = raw.send_until_closed(&many, 64 << 20);
        assert!(sent > 1000 * body.len(), "closed after only {sent} bytes");
        scene.logs_once("an endless message", &raw);
    }
    scene.grew_by_less_than(8 << 20);
    let mut raw = Raw::connect(scene.broker.frontend());
    raw.handshake("DEALER");
    raw.send_until_closed(&frame(MORE, &vec![b'x'; 1 << 20]), 512 << 20);
    scene.logs_once("a large endless message", &raw);
    scene.broker.wait_connections(2);
    scene.grew_by_less_than(16 << 20); // the collected bytes are freed
}

#[test]
fn a_peer_holds_at_most_a_million_subscriptions() {
    let mut scene = Scene::new("forwarder", &[]);
    let mut raw = Raw::connect(scene.broker.backend());
    raw.handshake("SUB");
    for thousand in 0..1000 {
        let subscriptions: Vec<u8> = (0..1000)
            .flat_map(|number| frame(0, format!("\x01topic {thousand:03}{number:03}").as_bytes()))
            .collect();
        raw.send(&subscriptions)
            .expect("a million subscriptions are allowed");
    }
    // The PONG proves that the broker has read all of them.
    raw.send(&frame(COMMAND, b"\x04PING\x00\x00last"))
        .expect("a PING is allowed");
    assert_eq!(raw.read_frame(), b"\x04PONGlast");
    scene.grew_by_less_than(64 << 20);
    assert_eq!(
        scene.broker.log_count(raw.address()),
        0,
        "a million subscriptions are logged"
    );
    raw.send_until_closed(&frame(0, b"\x01one too many"), 1 << 20);
    scene.logs_once("one subscription too many", &raw);
    scene.broker.wait_connections(2);
    // The queue of the publisher has held a million cancels.
    scene.grew_by_less_than(96 << 20);
}

#[test]
fn oversized_topics_are_refused() {
    let mut scene = Scene::new("forwarder", &[]);
    let topic = vec![b't'; 4097];
    for (what, subscription) in [
        ("a message", frame(0, &[b"\x01", &topic[..]].concat())),
        (
            "a command",
            frame(COMMAND, &[b"\x09SUBSCRIBE", &topic[..]].concat()),
        ),
    ] {
        let mut raw = Raw::connect(scene.broker.backend());
        raw.handshake("SUB");
        raw.send(&subscription)
            .expect("the connection is valid so far");
        scene.refuses(what, raw);
    }
}

#[test]
fn the_queue_of_a_stuck_subscriber_is_bounded() {
    let mut scene = Scene::new("forwarder", &["--set", "sndhwm=100"]);
    let mut stuck = Raw::connect(scene.broker.backend());
    stuck.handshake("SUB");
    stuck
        .send(&frame(0, b"\x01flood"))
        .expect("a subscription is allowed");
    stuck
        .send(&frame(COMMAND, b"\x04PING\x00\x00"))
        .expect("a PING is allowed");
    assert_eq!(stuck.read_frame(), b"\x04PONG");
    scene.honest.run(
        r#"
        flood = connect(zmq.PUB, frontend, sndhwm=0)
        end = connect(zmq.SUB, backend, subscribe=b"end of flood")
        settle([flood], [end])
        for _ in range(20):
            [flood.send_multipart([b"flood", bytes(65536)], copy=False) for _ in range(100)]
            flood.send(b"end of flood")
            end.recv()
        "#,
    );
    scene.honest_peers_lose_nothing();
    // A hundred messages of 64 KiB; the buffers of the kernel do not count.
    scene.grew_by_less_than(16 << 20);
}

#[test]
fn idle_peers_cost_little_memory() {
    let _turn = turns::many_connections();
    let mut scene = Scene::new("forwarder", &[]);
    let idle: Vec<Raw> = (0..400)
        .map(|_| {
            let mut raw = Raw::connect(scene.broker.backend());
            raw.handshake("SUB");
            raw
        })
        .collect();
    scene.broker.wait_connections(402);
    scene.honest_peers_lose_nothing();
    scene.grew_by_less_than(400 * 4096 + (2 << 20));
    let logged: usize = idle
        .iter()
        .map(|raw| scene.broker.log_count(raw.address()))
        .sum();
    assert_eq!(logged, 0, "idle peers are logged");
    drop(idle);
    scene.broker.wait_connections(2);
}

#[test]
fn a_partial_message_of_a_closed_peer_is_dropped() {
    let mut scene = Scene::new("streamer", &[]);
    for cut in 1..40 {
        let mut raw = Raw::connect(scene.broker.frontend());
        raw.handshake("PUSH");
        let message = [frame(MORE, &[b'x'; 20]), frame(0, &[b'y'; 20])].concat();
        raw.send(&message[..cut]).expect("the connection is valid");
    }
    scene.broker.wait_connections(2);
    scene.honest_peers_lose_nothing();
}

#[test]
fn messages_from_a_sink_do_not_reach_the_source() {
    let mut scene = Scene::new("streamer", &[]);
    // Pauses the honest peers, since this sink gets its share of their work.
    scene.honest.run("honest.pause()");
    let mut raw = Raw::connect(scene.broker.backend());
    raw.handshake("PULL");
    drop(raw.send(&frame(0, b"a message of a sink").repeat(100)));
    raw.end();
    raw.read_until_closed();
    scene.broker.wait_connections(2);
    scene.honest.run("honest.resume()");
    scene.honest_peers_lose_nothing();
}
