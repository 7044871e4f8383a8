//! Pulled cables, and hosts that vanish silently.

use zmqd_tests::{Host, Network, Python, Zmqd, wait_until};

/// Five PINGs a second, and a peer is dead after a second without an answer.
const BEATS: [&str; 2] = ["--set=heartbeat_ivl=200", "--set=heartbeat_timeout=1000"];

/// A broker on a host, on free ports.
fn broker_on(host: &Host, kind: &str, more: &[&str]) -> Zmqd {
    let (frontend, backend) = (host.any(), host.any());
    let sides = [kind, "--frontend", &frontend, "--backend", &backend];
    host.zmqd(&[&sides[..], more].concat())
}

/// A queue on a host that connects to a server.
fn queue_before(host: &Host, server: &str, more: &[&str]) -> Zmqd {
    let frontend = host.any();
    let sides = [
        "queue",
        "--frontend",
        &frontend,
        "--backend-connect",
        server,
    ];
    host.zmqd(&[&sides[..], more].concat())
}

/// A Python whose client asks again until it gets an answer, and one with a server.
fn ask_and_answer(broker: &Zmqd, asking: &Host, answering: &Host) -> (Python, Python) {
    let mut server = answering.python(broker);
    server.run("server = connect(zmq.REP, backend)");
    server.begin("while True: server.send(b'answer to ' + server.recv())");
    let mut client = asking.python(broker);
    client.run(
        r#"
        def ask(client, question):
            def answered():
                client.send(question)
                return client.poll(500)
            wait_until("an answer", answered)
            assert client.recv() == b"answer to " + question
        client = connect(zmq.REQ, frontend, req_relaxed=1, req_correlate=1)
        ask(client, b"first")
        "#,
    );
    (client, server)
}

#[test]
fn a_cable_pulled_for_a_moment_loses_nothing() {
    for kind in ["queue", "streamer"] {
        let mut network = Network::new();
        let [middle, left, right] = network.hosts();
        let broker = broker_on(&middle, kind, &[]);
        let (mut near, mut far) = (left.python(&broker), right.python(&broker));
        far.set("kind", kind);
        far.run("far = connect(zmq.PULL if kind == 'streamer' else zmq.DEALER, backend)");
        near.set("kind", kind);
        near.run(
            r#"
            near = connect(zmq.PUSH if kind == "streamer" else zmq.DEALER, frontend)
            stopping, sent = threading.Event(), 0
            def send():
                global sent
                while not stopping.wait(0.001):
                    near.send(b"%d" % sent + bytes(2000))
                    sent += 1
                near.send(b"end")
            sending = in_background(send)
            "#,
        );
        far.begin(
            r#"
            received = 0
            while (message := far.recv_multipart()[-1]) != b"end":
                assert message == b"%d" % received + bytes(2000), (message[:9], received)
                received += 1
            "#,
        );
        // Traffic through another broker measures how long a cable is out.
        let other = Zmqd::queue(&[]);
        let mut clock = Python::beside(&other);
        clock.run("honest = Honest('queue', frontend, backend); honest.passes()");
        for host in [&left, &right, &middle] {
            network.wait_traffic(100);
            network.pull(host);
            clock.run("honest.passes(200)");
            network.plug(host);
        }
        network.wait_traffic(100);
        near.run("stopping.set(); sending.result()");
        far.finish();
        let (sent, received): (u64, u64) = (near.ask("sent"), far.ask("received"));
        assert_eq!(sent, received);
        assert_eq!(
            broker.log_count("closed"),
            0,
            "a peer was closed after a moment"
        );
    }
}

#[test]
fn a_client_returns_with_its_identity_after_its_cable_was_pulled() {
    let mut network = Network::new();
    let [middle, left, right] = network.hosts();
    let broker = broker_on(&middle, "queue", &BEATS);
    let mut server = right.python(&broker);
    server.run("server = connect(zmq.DEALER, backend)");
    let mut client = left.python(&broker);
    client.run(
        r#"
        beats = {"heartbeat_ivl": 200, "heartbeat_timeout": 1000}
        client = connect(zmq.DEALER, frontend, identity=b"client", **beats)
        client.send(b"before")
        "#,
    );
    server.run("assert server.recv_multipart() == [b'client', b'before']");
    network.pull(&left);
    let _line = broker.wait_log("no sign of life after PING");
    server.run("server.send_multipart([b'client', b'while it is away'])");
    broker.wait_connections(1);
    network.plug(&left);
    client.run("client.send(b'after')");
    server.run("assert server.recv_multipart() == [b'client', b'after']");
    server.run("server.send_multipart([b'client', b'welcome back'])");
    client.run("assert client.recv() == b'welcome back' and is_silent(client, 100)");
    broker.wait_connections(2);
}

#[test]
fn peers_without_heartbeats_reconnect() {
    let mut network = Network::new();
    let [middle, left, right] = network.hosts();
    // With -v the log has a line for each peer, though they reconnect from the same addresses.
    let broker = broker_on(&middle, "queue", &[&BEATS[..], &["-v"]].concat());
    let (mut client, _server) = ask_and_answer(&broker, &left, &right);
    for host in [&left, &right, &middle] {
        let closed = broker.log_count("no sign of life after PING");
        network.pull(host);
        wait_until("a peer to be declared dead", || {
            (broker.log_count("no sign of life after PING") > closed).then_some(())
        });
        network.plug(host);
        client.run("for number in range(20): ask(client, b'%d' % number)");
    }
}

#[test]
fn tcp_keepalive_finds_dead_peers() {
    let mut network = Network::new();
    let [middle, left, right] = network.hosts();
    let broker = broker_on(
        &middle,
        "queue",
        &[
            "--set=heartbeat_ivl=0",
            "--set=tcp_keepalive=1",
            "--set=tcp_keepalive_idle=1",
            "--set=tcp_keepalive_intvl=1",
            "--set=tcp_keepalive_cnt=2",
        ],
    );
    let (mut client, _server) = ask_and_answer(&broker, &left, &right);
    broker.wait_connections(2);
    // Unacknowledged bytes would be retransmitted instead, for a quarter of an hour.
    network.wait_silence();
    network.cut(&middle, &left);
    broker.wait_connections(1);
    network.heal(&middle, &left);
    client.run("ask(client, b'again')");
    broker.wait_connections(2);
}

/// A streamer with the options `more` has more messages for a sink than the kernel buffers, and the
/// sink, with the options `sink`, is cut off. The next sink gets these messages.
fn queue_behind_a_cut(more: &[&str], sink: &str) {
    let mut network = Network::new();
    let [middle, left, right] = network.hosts();
    let broker = broker_on(&middle, "streamer", &[&BEATS[..], more].concat());
    let mut lost = right.python(&broker);
    lost.run(&format!("sink = connect(zmq.PULL, backend{sink})"));
    network.wait_traffic(60);
    network.cut(&middle, &right);
    let mut near = left.python(&broker);
    near.run(
        r#"
        source = connect(zmq.PUSH, frontend)
        for number in range(600):
            source.send_multipart([b"%d" % number, bytes(65536)])
        "#,
    );
    broker.wait_connections(1);
    near.run(
        r#"
        other = connect(zmq.PULL, backend)
        numbers = [int(other.recv_multipart()[0])]
        while numbers[-1] != 599:
            numbers.append(int(other.recv_multipart()[0]))
        assert numbers == list(range(numbers[0], 600)), numbers
        assert numbers[0] < 100, f"{numbers[0]} of 600 messages were lost on the way"
        "#,
    );
}

#[test]
fn messages_queued_behind_a_cut_go_to_others_when_heartbeats_stop() {
    queue_behind_a_cut(&[], ", heartbeat_ivl=200");
}

#[test]
fn messages_queued_behind_a_cut_go_to_others_after_tcp_maxrt() {
    let options = ["--set=heartbeat_ivl=0", "--set=tcp_maxrt=2000"];
    queue_behind_a_cut(&options, ", heartbeat_ivl=200");
}

#[test]
fn messages_queued_behind_a_cut_go_to_others_without_acknowledgements() {
    // Without heartbeats of its own, a sink that is cut off is as silent as a slow one.
    queue_behind_a_cut(&[], "");
}

#[test]
fn a_worker_cut_off_during_a_request_is_found_dead() {
    let mut network = Network::new();
    let [middle, left, right] = network.hosts();
    let broker = broker_on(&middle, "queue", &BEATS);
    let mut worker = right.python(&broker);
    worker.run("worker = connect(zmq.REP, backend)");
    let mut client = left.python(&broker);
    client.run("client = connect(zmq.REQ, frontend); client.send(b'question')");
    worker.run("assert worker.recv() == b'question'");
    network.cut(&middle, &right);
    broker.wait_connections(1);
}

#[test]
fn an_attempt_to_connect_ends_after_connect_timeout() {
    let mut network = Network::new();
    let [middle, left, right] = network.hosts();
    network.cut(&middle, &right);
    let server = right.endpoint(5555);
    let more = ["--set=connect_timeout=300", "--set=reconnect_ivl_max=100"];
    let broker = queue_before(&middle, &server, &more);
    let _line = broker.wait_log("no answer within connect_timeout");
    let mut worker = right.python(&broker);
    worker.set("server", &server);
    worker.run("worker = bind(zmq.REP, server)");
    worker.begin("for _ in range(2): worker.send(worker.recv())");
    let mut client = left.python(&broker);
    client.run("client = connect(zmq.REQ, frontend); client.send(b'question')");
    network.heal(&middle, &right);
    client.run("assert client.recv() == b'question'");
    client.run("client.send(b'another'); assert client.recv() == b'another'");
    worker.finish();
}

#[test]
fn a_link_reconnects_to_a_server_that_vanished() {
    let mut network = Network::new();
    let [middle, left, right] = network.hosts();
    let server = right.endpoint(5555);
    let more = [&BEATS[..], &["--set=connect_timeout=500"]].concat();
    let broker = queue_before(&middle, &server, &more);
    let mut client = left.python(&broker);
    client.run("client = connect(zmq.REQ, frontend, req_relaxed=1, req_correlate=1)");
    let start_server = || {
        let mut python = right.python(&broker);
        python.set("endpoint", &server);
        python.run("server = bind(zmq.REP, endpoint)");
        python.begin("while True: server.send(server.recv())");
        python
    };
    let ask = r#"
        def answered():
            client.send(b"question")
            return client.poll(500)
        wait_until("an answer", answered)
        assert client.recv() == b"question"
    "#;
    let mut process = start_server();
    client.run(ask);
    for _life in 0..3 {
        // Its end stays unnoticed: no FIN or RST leaves the host.
        network.cut(&middle, &right);
        process.kill();
        process = start_server();
        network.heal(&middle, &right);
        client.run(ask);
    }
}
