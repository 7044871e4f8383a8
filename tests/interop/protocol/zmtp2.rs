//! Peers of ZMTP 2.0, as in ZeroMQ 3.2, with pyzmq on the other side of the broker.
//!
//! The old peer behaves like the original: it sends its version only after the broker's signature,
//! takes the first twelve bytes as the whole greeting, and the rest as frames of messages.

use std::io::{Read, Write};
use std::net::TcpStream;

use zmqd_tests::raw::{MORE, frame, listen, long_header};
use zmqd_tests::{ANY, PATIENCE, Python, Raw, Zmqd, wait_until};

/// Arguments of a broker that serves old peers.
const ACCEPT: [&str; 2] = ["--set", "accept_zmtp2=true"];

/// The numbers of socket types in ZMTP 2.0.
const PUB: u8 = 1;
const SUB: u8 = 2;
const REQ: u8 = 3;
const REP: u8 = 4;
const DEALER: u8 = 5;
const ROUTER: u8 = 6;
const PULL: u8 = 7;
const PUSH: u8 = 8;

/// A peer of ZMTP 2.0.
struct OldPeer {
    stream: TcpStream,
}

impl OldPeer {
    /// Connects and shakes hands with a broker whose socket is of this type.
    #[track_caller]
    fn connect(endpoint: &str, socket_type: u8, identity: &[u8], broker: u8) -> Self {
        Self::shake_hands(dial(endpoint), socket_type, identity, broker)
    }

    #[track_caller]
    fn shake_hands(stream: TcpStream, socket_type: u8, identity: &[u8], broker: u8) -> Self {
        let mut peer = Self::open(stream, identity);
        peer.send(&[1, socket_type]);
        let [version, theirs] = peer.read(2)[..] else {
            panic!("two bytes were read")
        };
        assert!(version > 0, "version {version} has other frames");
        assert_eq!(theirs, broker);
        peer.send(&frame(0, identity));
        assert_eq!(peer.recv(), [b""], "the broker announces an identity");
        peer
    }

    /// Exchanges signatures.
    #[track_caller]
    fn open(stream: TcpStream, identity: &[u8]) -> Self {
        let timeout = Some(PATIENCE);
        stream.set_read_timeout(timeout).expect("no zero timeout");
        stream.set_write_timeout(timeout).expect("no zero timeout");
        stream.set_nodelay(true).expect("loopback is TCP");
        let mut peer = Self { stream };
        let length = (identity.len() as u64 + 1).to_be_bytes();
        peer.send(&[&[0xff], &length[..], &[0x7f]].concat());
        assert_eq!(peer.read(10), b"\xff\0\0\0\0\0\0\0\x01\x7f");
        peer
    }

    #[track_caller]
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the broker reads");
    }

    /// The address of this end, as the log of the broker shows it.
    fn address(&self) -> String {
        let address = self.stream.local_addr();
        address.expect("a connection has an address").to_string()
    }

    /// Sends a message of these frames.
    #[track_caller]
    fn send_message(&mut self, frames: &[&[u8]]) {
        for (index, body) in frames.iter().enumerate() {
            let more = if index + 1 < frames.len() { MORE } else { 0 };
            self.send(&frame(more, body));
        }
    }

    #[track_caller]
    fn read(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.stream
            .read_exact(&mut bytes)
            .expect("the broker sends bytes");
        bytes
    }

    /// The next message. All that the broker sends is taken as frames of messages.
    #[track_caller]
    fn recv(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let flags = self.read(1)[0];
            assert!(flags <= 3, "flags {flags:#04x} do not exist in 2.0");
            let size_size = if flags & 2 == 0 { 1 } else { 8 };
            let size = self.read(size_size);
            let size = size
                .iter()
                .fold(0, |size, byte| size << 8 | usize::from(*byte));
            frames.push(self.read(size));
            if flags & MORE == 0 {
                return frames;
            }
        }
    }
}

#[track_caller]
fn dial(endpoint: &str) -> TcpStream {
    let address = endpoint.trim_start_matches("tcp://");
    TcpStream::connect(address).expect("the broker listens")
}

#[test]
fn an_old_req_gets_its_replies() {
    let broker = Zmqd::queue(&ACCEPT);
    let mut python = Python::beside(&broker);
    python.run("server = connect(zmq.REP, backend)");
    python.begin("for _ in range(3): server.send_multipart([b'answer to'] + take(server, 1)[0])");
    for identity in [&b""[..], b"old client", &[0xee; 255]] {
        let mut client = OldPeer::connect(broker.frontend(), REQ, identity, ROUTER);
        let question = b"question ".repeat(100);
        client.send_message(&[b"", &question]);
        assert_eq!(client.recv(), [&b""[..], b"answer to", &question]);
    }
    python.finish();
}

#[test]
fn an_old_rep_serves_requests() {
    let broker = Zmqd::queue(&ACCEPT);
    let mut python = Python::beside(&broker);
    let mut server = OldPeer::connect(broker.backend(), REP, b"", DEALER);
    python.run("client = connect(zmq.REQ, frontend, identity=b'new client')");
    for number in 0..10 {
        python.run(&format!("client.send(b'question {number}')"));
        let envelope_and_body = server.recv();
        let question = format!("question {number}").into_bytes();
        assert_eq!(
            envelope_and_body,
            [b"new client".to_vec(), vec![], question]
        );
        server.send_message(&[b"new client", b"", b"answer"]);
        python.run("assert client.recv() == b'answer'");
    }
}

#[test]
fn an_old_sub_gets_its_topics() {
    let broker = Zmqd::forwarder(&ACCEPT);
    let mut python = Python::beside(&broker);
    // An XPUB shows the subscriptions that arrive.
    python.run("publisher = connect(zmq.XPUB, frontend)");
    let mut subscriber = OldPeer::connect(broker.backend(), SUB, b"", PUB);
    let long_topic = [b't'; 255];
    for topic in [&b"weather"[..], b"news", &long_topic] {
        subscriber.send_message(&[&[&[1], topic].concat()]);
    }
    python.run(
        r#"
        topics = {publisher.recv() for _ in range(3)}
        assert topics == {b"\1weather", b"\1news", b"\1" + b"t" * 255}
        publisher.send_multipart([b"weather.today", b"fair"])
        publisher.send(b"sports: not asked for")
        publisher.send(b"t" * 300)
        publisher.send(b"news")
        "#,
    );
    assert_eq!(subscriber.recv(), [&b"weather.today"[..], b"fair"]);
    assert_eq!(subscriber.recv(), [[b't'; 300]]);
    assert_eq!(subscriber.recv(), [b"news"]);
    subscriber.send_message(&[b"\0weather"]);
    python.run(
        r#"
        assert publisher.recv() == b"\0weather"
        publisher.send(b"weather.tomorrow")
        publisher.send(b"news again")
        "#,
    );
    assert_eq!(subscriber.recv(), [b"news again"]);
    drop(subscriber);
    python.run("assert {publisher.recv(), publisher.recv()} == {b'\\0news', b'\\0' + b't' * 255}");
}

#[test]
fn an_old_pub_gets_subscriptions_as_messages() {
    let broker = Zmqd::forwarder(&ACCEPT);
    let mut python = Python::beside(&broker);
    python.run("early = connect(zmq.SUB, backend, subscribe=b'early')");
    let mut publisher = OldPeer::connect(broker.frontend(), PUB, b"", SUB);
    assert_eq!(publisher.recv(), [b"\x01early"]);
    python.run("late = connect(zmq.SUB, backend, subscribe=[b'late', b't' * 255])");
    assert_eq!(publisher.recv(), [b"\x01late"]);
    assert_eq!(publisher.recv(), [[&[1][..], &[b't'; 255]].concat()]);
    publisher.send_message(&[b"early", b"bird"]);
    publisher.send_message(&[b"other", b"not wanted"]);
    publisher.send_message(&[b"late", b"riser"]);
    python.run(
        r#"
        assert early.recv_multipart() == [b"early", b"bird"]
        assert late.recv_multipart() == [b"late", b"riser"]
        late.unsubscribe(b"late")
        "#,
    );
    assert_eq!(publisher.recv(), [b"\0late"]);
}

#[test]
fn an_old_push_and_an_old_pull_exchange_work() {
    let broker = Zmqd::streamer(&ACCEPT);
    let mut python = Python::beside(&broker);
    python.run("sink = connect(zmq.PULL, backend)");
    let mut source = OldPeer::connect(broker.frontend(), PUSH, b"", PULL);
    for number in 0..100 {
        source.send_message(&[b"", format!("work {number}").as_bytes(), &[0; 1000]]);
    }
    python.run(
        r#"
        for number in range(100):
            assert sink.recv_multipart() == [b"", b"work %d" % number, bytes(1000)]
        sink.close()
        "#,
    );
    wait_until("the sink to leave", || {
        (broker.connections() == 1).then_some(())
    });
    let mut sink = OldPeer::connect(broker.backend(), PULL, b"", PUSH);
    python.run(
        "source = connect(zmq.PUSH, frontend); source.send_multipart([b'a', b'', b'b' * 256])",
    );
    assert_eq!(sink.recv(), [b"a".to_vec(), vec![], vec![b'b'; 256]]);
}

#[test]
fn a_link_may_connect_to_an_old_peer() {
    let (listener, backend) = listen();
    let connect = ["queue", "--frontend", ANY, "--backend-connect", &backend];
    let broker = Zmqd::start(&[&connect[..], &ACCEPT].concat());
    let (stream, _) = listener.accept().expect("a connection of the broker");
    let mut server = OldPeer::shake_hands(stream, REP, b"", DEALER);
    let mut python = Python::new();
    python.set("frontend", broker.frontend());
    python.run("client = connect(zmq.REQ, frontend, identity=b'c'); client.send(b'question')");
    assert_eq!(server.recv(), [&b"c"[..], b"", b"question"]);
    server.send_message(&[b"c", b"", b"answer"]);
    python.run("assert client.recv() == b'answer'");
}

/// Both wait for the other's version, but not for more than the other sends unprompted.
#[test]
fn two_brokers_with_accept_zmtp2_connect() {
    let far = Zmqd::queue(&ACCEPT);
    let connect = [
        "queue",
        "--frontend",
        ANY,
        "--backend-connect",
        far.frontend(),
    ];
    let near = Zmqd::start(&[&connect[..], &ACCEPT].concat());
    let mut python = Python::new();
    python.set("near", near.frontend());
    python.set("far", far.backend());
    python.run(
        r#"
        client, server = connect(zmq.REQ, near), connect(zmq.REP, far)
        client.send(b"question")
        assert server.recv() == b"question"
        server.send(b"answer")
        assert client.recv() == b"answer"
        "#,
    );
    let mut old = OldPeer::connect(near.frontend(), REQ, b"", ROUTER);
    old.send_message(&[b"", b"old question"]);
    python.run("assert server.recv() == b'old question'; server.send(b'old answer')");
    assert_eq!(old.recv(), [&b""[..], b"old answer"]);
}

/// An old peer would take a PING for a message.
#[test]
fn old_peers_get_no_heartbeats_and_stay_connected() {
    let beats = ["backend.heartbeat_ivl=20", "backend.heartbeat_timeout=20"];
    let broker = Zmqd::streamer(&[&ACCEPT[..], &["--set", beats[0], "--set", beats[1]]].concat());
    let mut python = Python::beside(&broker);
    let mut old = OldPeer::connect(broker.backend(), PULL, b"", PUSH);
    for _ in 0..5 {
        let mut silent = Raw::connect(broker.backend());
        silent.handshake("PULL");
        assert!(silent.read_frame().starts_with(b"\x04PING"));
        silent.read_until_closed();
    }
    wait_until("all but the old peer to be closed", || {
        (broker.connections() == 1).then_some(())
    });
    python.run("source = connect(zmq.PUSH, frontend); source.send(b'work')");
    assert_eq!(old.recv(), [b"work"]);
}

#[test]
fn old_peers_are_refused_by_default() {
    let broker = Zmqd::queue(&[]);
    let mut old = OldPeer::open(dial(broker.frontend()), b"");
    assert_eq!(old.read(1), [3]);
    old.send(&[1, REQ]);
    let mut more = Vec::new();
    old.stream.read_to_end(&mut more).expect("an orderly end");
    assert!(
        more.is_empty(),
        "after the version: {}",
        more.escape_ascii()
    );
    let line = broker.wait_log(&old.address());
    assert!(line.contains("ZMTP 2.0"), "{line}");
    assert!(line.contains("accept_zmtp2"), "no remedy in {line}");
}

/// Its version is unknown, so the log suggests no option.
#[test]
fn a_peer_that_leaves_during_its_greeting_is_logged() {
    let broker = Zmqd::queue(&[]);
    let old = OldPeer::open(dial(broker.frontend()), b"");
    let address = old.address();
    drop(old);
    let line = broker.wait_log(&address);
    assert!(
        line.ends_with("it closed in the middle of its greeting"),
        "{line}"
    );
}

#[test]
fn peers_of_zmtp_1_are_refused() {
    let broker = Zmqd::queue(&ACCEPT);
    let anonymous: &[u8] = b"\x01\x00";
    let with_long_identity = long_header(0xff, 300);
    let with_version: &[u8] = b"\xff\0\0\0\0\0\0\0\x01\x7f\x00";
    for (bytes, reason) in [
        (anonymous, "not a ZeroMQ peer of version 3 or above"),
        (&with_long_identity[..], "ZMTP 1.0"),
        (with_version, "ZMTP 1.0"),
    ] {
        let mut raw = Raw::connect(broker.frontend());
        raw.send(bytes).expect("the broker reads");
        raw.send(&[0; 10]).expect("the broker reads");
        raw.read_until_closed();
        let line = broker.wait_log(raw.address());
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn an_old_peer_of_a_wrong_type_is_closed() {
    let broker = Zmqd::queue(&ACCEPT);
    let mut raw = Raw::connect(broker.frontend());
    raw.send(b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x02\x00\x00")
        .expect("the broker reads");
    let received = raw.read_until_closed();
    assert_eq!(received, b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x06\x00\x00");
    let line = broker.wait_log(raw.address());
    assert!(
        line.contains("a SUB socket cannot talk to our ROUTER socket"),
        "{line}"
    );
}

#[test]
fn a_command_closes_an_old_peer() {
    let broker = Zmqd::streamer(&ACCEPT);
    let mut old = OldPeer::connect(broker.frontend(), PUSH, b"", PULL);
    old.send(b"\x04\x07\x04PING\x00\x00");
    let line = broker.wait_log(&old.address());
    assert!(line.contains("illegal frame flags"), "{line}");
}
