//! The capture: copies of all messages, as pyzmq's MonitoredQueue and libzmq's proxy make them.

use zmqd_tests::{ANY, Python, Zmqd};

/// A REP server that listens and doubles integers.
const DOUBLING: &str = r#"
    server = bind(zmq.REP)
    def double(count):
        for _ in range(count):
            server.send(b"%d" % (2 * int(server.recv())))
"#;

/// `read_capture`, which makes a reader with a subscription that is in place: requests pass until
/// the reader gets one, and then until it has the last of them.
const READING: &str = r#"
    def read_capture(topic=b""):
        reader = connect(zmq.SUB, capture, subscribe=topic)
        warm = connect(zmq.REQ, frontend)
        def warm_up(number):
            warm.send(b"%d" % number)
            double(1)
            warm.recv()
        number = 1000
        def seen():
            nonlocal number
            number += 1
            warm_up(number)
            return reader.poll(20)
        wait_until("the subscription to the capture", seen)
        last = [b"%d" % number, b"%d" % (2 * number)]
        while reader.recv_multipart()[-1] not in last or reader.poll(50):
            pass
        warm.close()
        return reader
"#;

/// A queue in front of the server, with a capture and these arguments.
fn doubling(arguments: &[&str]) -> (Zmqd, Python) {
    let mut python = Python::new();
    python.run(DOUBLING);
    let server: String = python.ask("last_endpoint(server)");
    let begin = ["queue", "--frontend", ANY, "--backend-connect", &server];
    let broker = Zmqd::start(&[&begin[..], &["--capture", ANY], arguments].concat());
    python.set("frontend", broker.frontend());
    python.set("capture", broker.capture());
    python.run(READING);
    (broker, python)
}

#[test]
fn requests_and_replies_are_captured_in_order_with_the_identity() {
    let (_broker, mut python) = doubling(&[]);
    python.run(
        r#"
        reader = read_capture()
        client = connect(zmq.REQ, frontend)
        serving = in_background(double, 5)
        for number in range(5):
            client.send(b"%d" % number)
            assert client.recv() == b"%d" % (2 * number)
        serving.result()
        seen = take(reader, 10)
        client_id = seen[0][1]
        expected = []
        for number in range(5):
            expected.append([b"in", client_id, b"", b"%d" % number])
            expected.append([b"out", client_id, b"", b"%d" % (2 * number)])
        assert seen == expected, seen
        assert client_id
        "#,
    );
}

#[test]
fn an_announced_identity_is_captured() {
    let (_broker, mut python) = doubling(&["--in-prefix", "asked", "--out-prefix", "answered"]);
    python.run(
        r#"
        reader = read_capture()
        client = connect(zmq.REQ, frontend, identity=b"client-7")
        client.send(b"21")
        double(1)
        assert client.recv() == b"42"
        assert reader.recv_multipart() == [b"asked", b"client-7", b"", b"21"]
        assert reader.recv_multipart() == [b"answered", b"client-7", b"", b"42"]
        "#,
    );
}

#[test]
fn a_reader_may_subscribe_to_one_direction() {
    let (_broker, mut python) = doubling(&[]);
    python.run(
        r#"
        reader = read_capture(b"out")
        client = connect(zmq.REQ, frontend)
        for number in (1, 2, 3):
            client.send(b"%d" % number)
            double(1)
            client.recv()
        assert [parts[::3] for parts in take(reader, 3)] == [
            [b"out", b"2"], [b"out", b"4"], [b"out", b"6"]]
        assert is_silent(reader)
        "#,
    );
}

/// Runs a scenario through pyzmq's device, or libzmq's proxy, and through zmqd.
fn compare(sockets: &str, format: &str, scenario: &str) {
    let mut arguments = vec!["proxy", "--sockets", sockets, "--frontend", ANY];
    arguments.extend(["--backend", ANY, "--capture", ANY]);
    arguments.extend(["--capture-socket", "PUSH", "--capture-format", format]);
    let broker = Zmqd::start(&arguments);
    let mut python = Python::beside(&broker);
    python.set("sockets", sockets);
    python.set("format", format);
    python.run(scenario);
    python.run(
        r#"
        import zmq.devices
        kinds = [getattr(zmq, name) for name in sockets.split(":")]
        device = (
            zmq.devices.ThreadMonitoredQueue(*kinds, zmq.PUSH, b"in", b"out")
            if format == "monitored" else zmq.devices.ThreadProxy(*kinds, zmq.PUSH))
        device.daemon = True
        ports = [device.bind_in_to_random_port("tcp://127.0.0.1"),
                 device.bind_out_to_random_port("tcp://127.0.0.1"),
                 device.bind_mon_to_random_port("tcp://127.0.0.1")]
        device.start()
        theirs = [f"tcp://127.0.0.1:{port}" for port in ports]
        expected, got = scenario(*theirs), scenario(frontend, backend, capture)
        assert got == expected, (got, expected)
        "#,
    );
}

#[test]
fn a_queue_is_captured_as_by_pyzmqs_monitored_queue() {
    for format in ["monitored", "proxy"] {
        compare(
            "ROUTER:DEALER",
            format,
            r#"
            def scenario(frontend, backend, capture):
                reader = connect(zmq.PULL, capture)
                worker = connect(zmq.DEALER, backend)
                client = connect(zmq.DEALER, frontend, identity=b"me")
                seen = []
                for body in ([b"one"], [b"", b"two", b""], [b"x" * 300, b"y" * 100_000]):
                    client.send_multipart(body)
                    worker.send_multipart(worker.recv_multipart() + [b"done"])
                    assert client.recv_multipart() == body + [b"done"]
                    seen += take(reader, 2)
                worker.send_multipart([b"unknown", b"lost"])
                seen += take(reader, 1)
                return seen
            "#,
        );
    }
}

#[test]
fn subscriptions_are_captured_as_by_libzmqs_proxy() {
    for format in ["monitored", "proxy"] {
        compare(
            "XSUB:XPUB",
            format,
            r#"
            def scenario(frontend, backend, capture):
                reader = connect(zmq.PULL, capture)
                publisher = connect(zmq.XPUB, frontend)
                first, second = connect(zmq.SUB, backend), connect(zmq.SUB, backend)
                seen = []
                first.subscribe(b"a")
                seen += take(reader, 1)
                second.subscribe(b"a")
                second.subscribe(b"b")
                seen += take(reader, 1)
                take(publisher, 2)
                publisher.send_multipart([b"apple", b"pie"])
                assert take(first, 1) == take(second, 1) == [[b"apple", b"pie"]]
                seen += take(reader, 1)
                first.close()
                second.unsubscribe(b"a")
                seen += take(reader, 1)
                second.close()
                return seen + take(reader, 1)
            "#,
        );
    }
}

#[test]
fn two_routers_are_captured_as_by_pyzmqs_monitored_queue() {
    compare(
        "ROUTER:ROUTER",
        "monitored",
        r#"
        def scenario(frontend, backend, capture):
            reader = connect(zmq.PULL, capture)
            a = connect(zmq.DEALER, frontend, identity=b"a")
            b = connect(zmq.DEALER, backend, identity=b"b")
            def say(sender, receiver, name, *body):
                def arrived():
                    sender.send_multipart([name, *body])
                    return receiver.poll(20)
                wait_until("a message to arrive", arrived)
                [receiver.recv_multipart() for _ in iter(lambda: receiver.poll(50), 0)]
                return [reader.recv_multipart() for _ in iter(lambda: reader.poll(50), 0)][-1]
            return [say(a, b, b"b", b"hello"), say(b, a, b"a", b"", b"world")]
        "#,
    );
}

#[test]
fn every_type_of_capture_socket_sends_copies() {
    for (socket, kind) in [
        ("PUB", "zmq.SUB"),
        ("PUSH", "zmq.PULL"),
        ("PAIR", "zmq.PAIR"),
        ("DEALER", "zmq.DEALER"),
    ] {
        let more = ["--capture", ANY, "--capture-socket", socket];
        let broker = Zmqd::streamer(&more);
        let mut python = Python::beside(&broker);
        python.run(&format!("kind = {kind}"));
        python.run(
            r#"
            reader = connect(kind, capture, **({"subscribe": b""} if kind == zmq.SUB else {}))
            source, sink = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)
            def seen():
                source.send_multipart([b"piece", b"of work"])
                assert sink.recv_multipart() == [b"piece", b"of work"]
                return reader.poll(20)
            wait_until("a copy", seen)
            assert reader.recv_multipart() == [b"in", b"piece", b"of work"]
            if kind in (zmq.PAIR, zmq.DEALER):
                reader.send(b"not for the broker")
            seen()
            "#,
        );
    }
}

#[test]
fn a_capture_may_connect_to_its_reader() {
    let mut python = Python::new();
    python.run("collector = bind(zmq.PULL)");
    let collector: String = python.ask("last_endpoint(collector)");
    let target = format!(">{collector}");
    let more = ["--capture", &target, "--capture-socket", "PUSH"];
    let broker = Zmqd::streamer(&more);
    python.set("frontend", broker.frontend());
    python.set("backend", broker.backend());
    python.run(
        r#"
        source, sink = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)
        def arrived():
            source.send(b"work")
            assert sink.recv() == b"work"
            return collector.poll(20)
        wait_until("a copy", arrived)
        assert collector.recv_multipart() == [b"in", b"work"]
        "#,
    );
}

#[test]
fn a_stuck_reader_delays_no_traffic() {
    for socket in ["PUB", "PUSH"] {
        let more = [
            "--capture",
            ANY,
            "--capture-socket",
            socket,
            "--control",
            ANY,
        ];
        let small = ["--set", "capture.sndhwm=10", "capture.sndbuf=8192"];
        let broker = Zmqd::streamer(&[&more[..], &small[..]].concat());
        let mut python = Python::beside(&broker);
        python.set("socket_name", socket);
        python.run(
            r#"
            import json
            options = {"subscribe": b""} if socket_name == "PUB" else {}
            kind = zmq.SUB if socket_name == "PUB" else zmq.PULL
            reader = connect(kind, capture, rcvhwm=1, rcvbuf=8192, **options)
            source, sink = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)
            def seen():
                source.send(b"first")
                assert sink.recv() == b"first"
                return reader.poll(20)
            wait_until("a copy", seen)
            sending = in_background(
                lambda: [source.send(b"%06d" % number + bytes(20_000)) for number in range(2000)])
            for number in range(2000):
                assert sink.recv()[:6] == b"%06d" % number
            sending.result()
            control = connect(zmq.REQ, control)
            control.send(b'{"command": "statistics"}')
            sockets = {found["side"]: found for found in json.loads(control.recv())["sockets"]}
            got, missed = sockets["capture"], sockets["capture"]["dropped"]["peer-full"]
            assert missed > 0 and sockets["frontend"]["dropped"] == {}
            assert got["messages_sent"] + missed <= sockets["frontend"]["messages_received"]
            "#,
        );
    }
}

#[test]
fn a_reader_that_keeps_up_misses_nothing() {
    let more = ["--capture", ANY, "--set", "capture.sndhwm=100"];
    let broker = Zmqd::streamer(&more);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        reader = connect(zmq.SUB, capture, subscribe=b"", rcvhwm=0)
        source, sink = connect(zmq.PUSH, frontend, sndhwm=0), connect(zmq.PULL, backend, rcvhwm=0)
        def seen():
            source.send(b"first")
            assert sink.recv() == b"first"
            return reader.poll(20)
        wait_until("a copy", seen)
        sending = in_background(lambda: [source.send(b"%d" % n) for n in range(50_000)])
        for number in range(50_000):
            assert int(sink.recv()) == number
        sending.result()
        got = [parts for parts in iter(reader.recv_multipart, [b"in", b"49999"])]
        numbers = [int(body) for _, body in got if body != b"first"]
        assert numbers == list(range(49_999)), len(numbers)
        "#,
    );
}

/// As pyzmq's own `test_device.test_proxy`, with a reader that connects after the message was sent:
/// a capture that does not block drops the copy.
#[test]
fn a_blocking_capture_waits_for_a_late_reader() {
    let mut python = Python::new();
    for round in 0..20 {
        let more = ["--capture", ANY, "--capture-socket", "PUSH"];
        let format = ["--capture-format", "proxy"];
        let set = ["--set", "capture.overflow=block"];
        let broker = Zmqd::streamer(&[&more[..], &format, &set].concat());
        python.meet(&broker);
        python.set("number", &round.to_string());
        python.run(
            r#"
            sink, source = connect(zmq.PULL, backend), connect(zmq.PUSH, frontend)
            source.send_multipart([b"hello", number.encode()])
            if int(number) % 5 == 0:
                assert is_silent(sink, 50), "forwarded before a reader could take the copy"
            reader = connect(zmq.PULL, capture)
            for receiver in (sink, reader):
                assert receiver.recv_multipart() == [b"hello", number.encode()]
            for each in (source, reader, sink):
                each.close()
            "#,
        );
    }
}

#[test]
fn a_blocking_pub_capture_is_refused_with_the_reason() {
    let sides = ["streamer", "--frontend", ANY, "--backend", ANY];
    let more = ["--capture", ANY, "--set", "capture.overflow=block"];
    let end = Zmqd::finish(&[&sides[..], &more].concat());
    assert_eq!(end.code, Some(2), "{}", end.stderr);
    let reason = "a PUB never waits for its subscribers";
    assert!(end.stderr.contains(reason), "{}", end.stderr);
}
