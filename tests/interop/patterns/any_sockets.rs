//! Proxies of any two sockets, and of one, as with libzmq's proxy and pyzmq's devices.

use zmqd_tests::{ANY, Python, Zmqd};

/// A proxy of these sockets, and a Python beside it.
fn proxy(sockets: &str, more: &[&str]) -> (Zmqd, Python) {
    let broker = Zmqd::proxy("proxy", &[&["--sockets", sockets], more].concat());
    let python = Python::beside(&broker);
    (broker, python)
}

#[test]
fn work_becomes_publications() {
    let (_broker, mut python) = proxy("PULL:PUB", &[]);
    python.run(
        r#"
        source = connect(zmq.PUSH, frontend)
        subscriber = connect(zmq.SUB, backend, subscribe=b"a")
        wait_until("the subscription", lambda: (source.send(b"a!"), subscriber.poll(20))[1])
        [subscriber.recv() for _ in iter(lambda: subscriber.poll(50), 0)]
        source.send_multipart([b"b", b"not wanted"])
        source.send_multipart([b"ab", b"wanted"])
        assert subscriber.recv_multipart() == [b"ab", b"wanted"]
        assert is_silent(subscriber)
        "#,
    );
}

#[test]
fn publications_become_work_on_the_configured_topics() {
    let (_broker, mut python) = proxy("SUB:PUSH", &["--set", "frontend.subscribe=a,b/"]);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend)
        assert sorted(take(publisher, 2)) == [[b"\x01a"], [b"\x01b/"]]
        sinks = [connect(zmq.PULL, backend) for _ in range(2)]
        order = everyone_served(lambda: publisher.send(b"a"), sinks)
        for topic in (b"a1", b"b", b"b/2", b"c", b"a3"):
            publisher.send_multipart([topic, b"body"])
        assert take(order[0], 2) == [[b"a1", b"body"], [b"a3", b"body"]]
        assert take(order[1], 1) == [[b"b/2", b"body"]]
        "#,
    );
}

#[test]
fn pairs_exchange_messages_and_a_second_peer_is_refused() {
    let (broker, mut python) = proxy("PAIR:PAIR", &[]);
    python.run(
        r#"
        left, right = connect(zmq.PAIR, frontend), connect(zmq.PAIR, backend)
        left.send_multipart([b"from", b"left"])
        assert right.recv_multipart() == [b"from", b"left"]
        right.send(b"from right")
        assert left.recv() == b"from right"
        late = dial(zmq.PAIR, frontend)
        "#,
    );
    let _line = broker.wait_log("the PAIR has a peer already");
    python.run(
        r#"
        left.close()
        # The late peer loses what it sends before it notices that it was closed.
        wait_until("the late peer to be accepted", lambda: (late.send(b"now"), right.poll(20))[1])
        assert right.recv() == b"now"
        "#,
    );
}

#[test]
fn rep_and_req_stay_in_lockstep_when_a_server_leaves() {
    let (_broker, mut python) = proxy("REP:REQ", &[]);
    python.run(
        r#"
        server = connect(zmq.REP, backend)
        clients = [connect(zmq.REQ, frontend) for _ in range(3)]
        for client in clients:
            client.send(b"question")
        for _ in clients:
            assert server.recv() == b"question"
            assert is_silent(server, 50), "one at a time"
            server.send_multipart([b"an", b"answer"])
        assert [client.recv_multipart() for client in clients] == [[b"an", b"answer"]] * 3
        clients[0].send(b"lost")
        assert server.recv() == b"lost"
        server.close()
        server = connect(zmq.REP, backend)
        clients[1].send(b"not lost")
        assert server.recv() == b"not lost"
        server.send(b"answer")
        assert clients[1].recv() == b"answer"
        "#,
    );
}

#[test]
fn routers_exchange_identities_as_in_a_monitored_queue() {
    let (_broker, mut python) = proxy("ROUTER:ROUTER", &["--control", ANY]);
    python.run(
        r#"
        ask = questioner(control)
        a = connect(zmq.DEALER, frontend, identity=b"a")
        b = connect(zmq.DEALER, backend, identity=b"b")
        # A ROUTER drops messages for a peer whose handshake it has not finished.
        for side in ("frontend", "backend"):
            wait_until("the peer", lambda: counters(ask, side)["peers"] == 1)
        a.send_multipart([b"b", b"hello"])
        assert b.recv_multipart() == [b"a", b"hello"]
        b.send_multipart([b"a", b"", b"back"])
        assert a.recv_multipart() == [b"b", b"", b"back"]
        "#,
    );
}

#[test]
fn a_queue_works_in_reverse() {
    let (_broker, mut python) = proxy("DEALER:ROUTER", &[]);
    python.run(
        r#"
        server, client = connect(zmq.REP, frontend), connect(zmq.REQ, backend)
        for number in range(10):
            client.send(b"%d" % number)
            server.send(server.recv() * 2)
            assert client.recv() == b"%d" % number * 2
        "#,
    );
}

#[test]
fn messages_to_an_xsub_are_subscriptions() {
    let (_broker, mut python) = proxy("XSUB:PAIR", &[]);
    python.run(
        r#"
        publisher, program = connect(zmq.XPUB, frontend), connect(zmq.PAIR, backend)
        program.send(b"\x01topic")
        assert publisher.recv() == b"\x01topic"
        publisher.send_multipart([b"topic/1", b"news"])
        assert program.recv_multipart() == [b"topic/1", b"news"]
        program.send(b"\x00topic")
        assert publisher.recv() == b"\x00topic"
        "#,
    );
}

#[test]
fn an_xpub_passes_its_subscriptions_on_as_messages() {
    let (_broker, mut python) = proxy("PAIR:XPUB", &["--set", "backend.xpub_verboser=true"]);
    python.run(
        r#"
        program = connect(zmq.PAIR, frontend)
        subscribers = [connect(zmq.SUB, backend) for _ in range(2)]
        for subscriber in subscribers:
            subscriber.subscribe(b"t")
            assert program.recv() == b"\x01t"
        subscribers[0].unsubscribe(b"t")
        assert program.recv() == b"\x00t"
        program.send(b"t!")
        assert subscribers[1].recv() == b"t!" and is_silent(subscribers[0])
        "#,
    );
}

#[test]
fn a_single_socket_echoes_messages() {
    for (sockets, peer) in [("REP", "REQ"), ("ROUTER", "DEALER"), ("DEALER", "DEALER")] {
        let broker = Zmqd::start(&["proxy", "--sockets", sockets, "--frontend", ANY]);
        let mut python = Python::new();
        python.set("frontend", broker.frontend());
        python.run(&format!(
            r#"
        peers = [connect(zmq.{peer}, frontend) for _ in range(3)]
        for number, peer in enumerate(peers):
            peer.send_multipart([b"%d" % number, b"body"])
        assert [peer.recv_multipart() for peer in peers] == [[b"%d" % n, b"body"] for n in range(3)]
        "#
        ));
    }
}

#[test]
fn an_impossible_pair_of_sockets_is_refused_with_the_reason() {
    let arguments = [
        "proxy",
        "--sockets",
        "PULL:SUB",
        "--frontend",
        ANY,
        "--backend",
        ANY,
    ];
    let finished = Zmqd::finish(&arguments);
    assert_eq!(finished.code, Some(2));
    let error = finished.stderr;
    assert!(
        error.contains("PULL:SUB cannot be a proxy: both sides only receive"),
        "{error}"
    );
}
