//! Clients with misbehaving peers, lost connections, and readers that go away.

use zmqd_tests::raw::{self, Raw, frame, long_header};
use zmqd_tests::{Python, Zmqd, binary, turns, vacant_endpoint, wait_until};

use super::clients::{client, fail, fed, succeed};

/// A listening client, and its endpoint.
fn listening(kind: &str, words: &[&str]) -> (Zmqd, String) {
    let endpoint = vacant_endpoint();
    let listening = format!("@{endpoint}");
    let client = client(&[&[kind, &listening], words].concat());
    drop(client.wait_log("listening"));
    (client, endpoint)
}

#[test]
fn endless_messages_are_refused_and_others_are_served() {
    let (puller, endpoint) = listening("pull", &["-n", "1"]);
    // A frame that announces too much, and one frame after another without an end.
    let mut large = Raw::connect(&endpoint);
    large.handshake("PUSH");
    large.send(&long_header(0, 1 << 40)).expect("a header");
    large.read_until_closed();
    let mut endless = Raw::connect(&endpoint);
    endless.handshake("PUSH");
    let frames = frame(raw::MORE, b"x").repeat(1000);
    let sent = endless.send_until_closed(&frames, 64 << 20);
    assert!(sent > 8192, "{sent}");
    let mut python = Python::new();
    python.set("endpoint", &endpoint);
    python.run("source = dial(zmq.PUSH, endpoint); source.send(b'honest')");
    assert_eq!(succeed(puller), "[honest]");
}

/// Each peer may begin a large message; all of them together may not.
#[test]
fn begun_messages_of_many_peers_have_a_common_limit() {
    let (puller, endpoint) = listening("pull", &["-n", "1"]);
    let mut peers: Vec<Raw> = (0..4).map(|_| Raw::connect(&endpoint)).collect();
    for peer in &mut peers {
        peer.handshake("PUSH");
        peer.send(&long_header(0, 100 << 20)).expect("a legal size");
    }
    // The largest input is that of the last peer, which reaches the limit, and is given up then.
    for (peer, size) in peers.iter_mut().zip([60, 60, 60, 90]) {
        drop(peer.send(&vec![b'x'; size << 20]));
    }
    drop(puller.wait_log("the inputs of all peers are too large"));
    let peak = puller.rss_peak_bytes();
    assert!(peak < 640 << 20, "{peak}");
    let mut python = Python::new();
    python.set("endpoint", &endpoint);
    python.run("source = dial(zmq.PUSH, endpoint); source.send(b'honest')");
    assert_eq!(succeed(puller), "[honest]");
}

/// Each peer may have many subscriptions; all of them together may not.
#[test]
fn subscriptions_of_many_peers_have_a_common_limit() {
    let (publisher, endpoint) = listening("pub", &["--interval", "10ms", "honest"]);
    let topics = |peer: u32| {
        let topic = |number: u32| frame(0, format!("\x01{peer:020}{number:020}").as_bytes());
        (0..99_000).flat_map(topic).collect::<Vec<u8>>()
    };
    let peers = (0..24).map(|number| {
        let mut peer = Raw::connect(&endpoint);
        peer.handshake("SUB");
        peer.send(&topics(number)).expect("legal subscriptions");
        peer
    });
    let peers: Vec<Raw> = peers.collect();
    drop(publisher.wait_log("the subscriptions of all peers are too many"));
    let peak = publisher.rss_peak_bytes();
    assert!(peak < 384 << 20, "{peak}");
    let mut python = Python::new();
    python.set("endpoint", &endpoint);
    python.run("reader = dial(zmq.SUB, endpoint, subscribe=b''); reader.recv()");
    drop(peers);
    publisher.signal("INT");
    succeed(publisher);
}

#[test]
fn a_subscriber_that_reads_nothing_does_not_stop_the_others() {
    let mut python = Python::new();
    let endpoint = vacant_endpoint();
    let publisher = fed(
        "",
        &[
            "pub",
            &format!("@{endpoint}"),
            "--peers",
            "2",
            "-n",
            "3000",
            "--",
            &"x".repeat(100_000),
        ],
    );
    drop(publisher.wait_log("listening"));
    let mut stuck = Raw::connect(&endpoint);
    stuck.handshake("SUB");
    stuck.send(&frame(0, b"\x01")).expect("a subscription");
    python.set("endpoint", &endpoint);
    python.run(
        "reader = dial(zmq.SUB, endpoint, subscribe=b'')\n\
         assert {len(reader.recv()) for _ in range(3000)} == {100_000}",
    );
    assert!(publisher.rss_peak_bytes() < 64 << 20);
    let complaint = fail(1, publisher);
    assert!(complaint.contains("a peer reads nothing"), "{complaint}");
}

#[test]
fn a_publisher_goes_on_when_a_subscriber_leaves_what_it_was_sent() {
    let (publisher, endpoint) = listening("pub", &["--interval", "1us", &"x".repeat(100_000)]);
    let mut stuck = Raw::connect(&endpoint);
    stuck.handshake("SUB");
    stuck.send(&frame(0, b"\x01")).expect("a subscription");
    let mut python = Python::new();
    python.set("endpoint", &endpoint);
    // So many do not fit into the buffers of the other one.
    python.run(
        "reader = dial(zmq.SUB, endpoint, subscribe=b'')\n\
         for _ in range(1000): reader.recv()",
    );
    drop(stuck);
    publisher.wait_connections(1);
    python.run("for _ in range(1000): reader.recv()");
    publisher.signal("INT");
    succeed(publisher);
}

#[test]
fn a_replier_reads_nothing_from_a_peer_that_takes_no_replies() {
    let (replier, endpoint) = listening("rep", &["--echo", "--cut", "1"]);
    let mut python = Python::new();
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        stuck = dial(zmq.DEALER, endpoint, rcvhwm=1, sndhwm=1)
        while stuck.poll(1000, zmq.POLLOUT):
            stuck.send_multipart([b"", b"x" * 10_000])
        "#,
    );
    let peak = replier.rss_peak_bytes();
    assert!(peak < 64 << 20, "{peak}");
    python.run("asker = dial(zmq.REQ, endpoint); asker.send(b'q'); assert asker.recv() == b'q'");
    // Replies that it did not take go with it.
    python.run("stuck.close(0)");
    replier.wait_connections(1);
    python.run("asker.send(b'r'); assert asker.recv() == b'r'");
    replier.signal("INT");
    succeed(replier);
}

#[test]
fn a_thousand_peers_take_little_memory() {
    let _turn = turns::many_connections();
    let (puller, endpoint) = listening("pull", &[]);
    let mut peers: Vec<Raw> = (0..1000).map(|_| Raw::connect(&endpoint)).collect();
    for peer in &mut peers {
        peer.handshake("PUSH");
        peer.send(&frame(0, b"message")).expect("a message");
    }
    // Some shake no hands at all.
    let silent: Vec<Raw> = (0..50).map(|_| Raw::connect(&endpoint)).collect();
    puller.wait_connections(1050);
    let size = puller.rss_bytes();
    assert!(size < 64 << 20, "{size}");
    drop((peers, silent));
    puller.wait_connections(0);
    puller.signal("TERM");
    succeed(puller);
}

/// Some publishers leave the filtering to their subscribers.
#[test]
fn a_subscriber_shows_only_its_topics() {
    let (subscriber, endpoint) = listening("sub", &["-t", "a.", "-n", "2"]);
    let mut publisher = Raw::connect(&endpoint);
    publisher.handshake("PUB");
    for topic in ["a.1", "b", "a", "", "a.2"] {
        publisher
            .send(&frame(0, topic.as_bytes()))
            .expect("a message");
    }
    assert_eq!(succeed(subscriber), "[a.1]\n[a.2]");
}

#[test]
fn a_pair_keeps_its_first_peer() {
    let (pair, endpoint) = listening("pair", &["-n", "1"]);
    let mut first = Raw::connect(&endpoint);
    first.handshake("PAIR");
    let mut second = Raw::connect(&endpoint);
    let opening = [&raw::greeting("NULL")[..], &raw::ready("PAIR")].concat();
    second.send(&opening).expect("a new connection");
    second.read_until_closed();
    first.send(&frame(0, b"first")).expect("a message");
    assert_eq!(succeed(pair), "[first]");
}

/// As long as peers take all of it.
#[test]
fn a_sender_at_full_speed_hears_a_signal() {
    let (_sink, endpoint) = listening("pull", &["--cut", "1"]);
    let pusher = client(&["push", &endpoint, "-n", "1000000000", "-v", "x"]);
    drop(pusher.wait_log("connected"));
    pusher.signal("INT");
    succeed(pusher);
}

#[test]
fn long_sending_shows_its_progress_on_a_terminal() {
    let mut python = Python::new();
    python.set("binary", &binary().to_string_lossy());
    python.run(
        r#"
        import pty, subprocess
        sink = bind(zmq.PULL)
        terminal, stderr = pty.openpty()
        words = [binary, "push", last_endpoint(sink), "--rate", "50", "x" * 1000]
        pusher = subprocess.Popen(words, stderr=stderr, stdin=subprocess.DEVNULL)
        shown = b""
        try:
            while b"messages/s" not in shown:
                shown += os.read(terminal, 1000)
            assert b" messages, 0.0 MB" in shown or b" messages, 0.1 MB" in shown, shown
            pusher.send_signal(2)
            assert pusher.wait(20) == 0
        finally:
            pusher.kill()
        "#,
    );
}

#[test]
fn a_peer_that_sends_without_end_does_not_put_off_a_timeout() {
    for (socket_type, words, code) in [
        ("PUB", &["sub", "-t", "wanted"][..], 1),
        ("REP", &["req"], 1),
        ("REQ", &["rep", "--echo"], 1),
        ("PULL", &["push"], 0),
    ] {
        let (listener, endpoint) = raw::listen();
        let message = if words.contains(&"sub") || words.contains(&"rep") {
            &[][..]
        } else {
            &["hello"]
        };
        let client = client(&[words, &["--timeout", "300ms", &endpoint], message].concat());
        let mut peer = Raw::accept(&listener);
        peer.handshake(socket_type);
        // Not wanted, and neither a request nor a reply.
        peer.send_until_closed(&frame(0, b"junk").repeat(1000), 1 << 30);
        assert_eq!(client.wait().code, Some(code), "{words:?}");
    }
}

#[test]
fn a_client_waits_for_its_peer_and_comes_back_to_it() {
    let mut python = Python::new();
    let endpoint = vacant_endpoint();
    python.set("endpoint", &endpoint);
    let subscriber = client(&["sub", &endpoint, "-n", "2"]);
    drop(subscriber.wait_log("retrying"));
    for number in 0..2 {
        python.run(&format!(
            r#"
            publisher = bind(zmq.XPUB, endpoint)
            assert publisher.recv() == b"\x01"
            publisher.send(b"{number}")
            "#,
        ));
        if number == 0 {
            wait_until("the first line", || {
                (subscriber.lines().len() == 1).then_some(())
            });
            python.run("publisher.close()");
            drop(subscriber.wait_log("connecting again"));
        }
    }
    assert_eq!(succeed(subscriber), "[0]\n[1]");
}

#[test]
fn a_lost_peer_is_a_failure_of_what_it_was_sent() {
    let mut python = Python::new();
    python.run("router = bind(zmq.ROUTER)");
    let endpoint: String = python.ask("last_endpoint(router)");
    let asker = client(&["req", &endpoint, "question"]);
    python.run("router.recv_multipart(); router.close()");
    assert!(fail(1, asker).contains("before the reply"));
    python.run("sink = bind(zmq.PULL, rcvhwm=1)");
    let endpoint: String = python.ask("last_endpoint(sink)");
    let pusher = client(&["push", &endpoint, "-n", "1000", &"x".repeat(100_000)]);
    python.run("sink.recv(); sink.close()");
    assert!(fail(1, pusher).contains("bytes were not sent"));
}

#[test]
fn messages_in_front_of_a_wrong_line_are_sent() {
    let mut python = Python::new();
    python.run("sink = bind(zmq.PULL)");
    let endpoint: String = python.ask("last_endpoint(sink)");
    let lines = "[\"a\"]\\n[\"b\"]\\nwrong\\n[\"c\"]\\n";
    let complaint = fail(1, fed(lines, &["push", &endpoint, "--json"]));
    assert!(
        complaint.contains("message 3: not a message in JSON"),
        "{complaint}"
    );
    python.run("assert take(sink, 2) == [[b'a'], [b'b']]");
    python.run("assert not sink.poll(0)");
}

#[test]
fn a_command_that_prints_too_much_does_not_end_a_replier() {
    let shell = "test $(cat) = much && cat /dev/zero || echo few";
    let (replier, endpoint) = listening("rep", &["-n", "2", "--exec", "sh", "-c", shell]);
    let mut python = Python::new();
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        asker = dial(zmq.REQ, endpoint)
        for question, answer in (b"much", b""), (b"little", b"few\n"):
            asker.send(question)
            assert asker.recv() == answer
        "#,
    );
    drop(replier.wait_log("the command failed: it printed more than 128 MiB"));
    succeed(replier);
}

#[test]
fn a_wrong_type_is_reported_and_wrong_usage_has_its_code() {
    let mut python = Python::new();
    python.run("sink = bind(zmq.PULL)");
    let endpoint: String = python.ask("last_endpoint(sink)");
    let complaint = fail(1, client(&["sub", &endpoint, "--timeout", "20"]));
    assert!(
        complaint.contains("PULL") || complaint.contains("closed"),
        "{complaint}"
    );
    for words in [
        &["pub", "hello"][..],
        &["sub"],
        &["sub", "tcp://127.0.0.1"],
        &["push", &endpoint, "a", "-l"],
        &["push", &endpoint, "-l", "-s"],
        &["pull", &endpoint, "--raw", "--hex"],
        &["rep", &endpoint, "--echo", "--exec", "cat"],
        &["pair", &endpoint, &endpoint],
        &["push", &endpoint, "-f", "/nonexistent"],
    ] {
        fail(2, client(words));
    }
    let nothing = vacant_endpoint();
    let late = fail(
        1,
        client(&["pull", &format!("@{nothing}"), "--timeout", "100ms"]),
    );
    assert!(late.contains("no message arrived within 100 ms"), "{late}");
    let late = fail(
        1,
        client(&["pub", &format!("@{nothing}"), "--timeout", "100ms", "x"]),
    );
    assert!(
        late.contains("100 ms passed without 1 subscriber"),
        "{late}"
    );
}

#[test]
fn a_reader_that_goes_away_ends_a_client_quietly() {
    let (endpoint, mut python) = (vacant_endpoint(), Python::new());
    let shell = "\"$0\" \"$@\" | head -1; exit ${PIPESTATUS[0]}";
    let listening = format!("@{endpoint}");
    let subscriber =
        Zmqd::start_under_expecting(0, &["bash", "-c", shell], &["sub", &listening, "--hex"]);
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        publisher = dial(zmq.XPUB, endpoint)
        publisher.recv()
        stopping = threading.Event()
        def publish():
            while not stopping.is_set():
                publisher.send(b"x")
                time.sleep(0.002)
        publishing = in_background(publish)
        "#,
    );
    let finished = subscriber.wait();
    python.run("stopping.set(); publishing.result()");
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.stdout, "[0x78]");
    assert!(!finished.stderr.contains("zmqd: "), "{}", finished.stderr);
}
