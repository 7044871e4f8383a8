//! Proxies of any two sockets, and of one, as libzmq's proxy and pyzmq's devices allow them.

use zmqd_tests::{ANY, Python, Zmqd};

/// A proxy of these sockets, and Python beside it.
fn proxy(sockets: &str, more: &[&str]) -> (Zmqd, Python) {
    let mut arguments = vec![
        "proxy",
        "--sockets",
        sockets,
        "--frontend",
        ANY,
        "--backend",
        ANY,
    ];
    arguments.extend(more);
    let broker = Zmqd::start(&arguments);
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
fn pairs_talk_through_the_broker_and_a_second_waits_outside() {
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
    let _line = broker.wait_log("the pair has its peer already");
    python.run(
        r#"
        left.close()
        # What it sends before it has noticed that it was closed is lost.
        wait_until("the late one's turn", lambda: (late.send(b"now"), right.poll(20))[1])
        assert right.recv() == b"now"
        "#,
    );
}

#[test]
fn rep_and_req_keep_their_lockstep_and_outlive_a_server() {
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
fn routers_exchange_names_as_in_a_monitored_queue() {
    let (_broker, mut python) = proxy("ROUTER:ROUTER", &[]);
    python.run(
        r#"
        a = connect(zmq.DEALER, frontend, identity=b"a")
        b = connect(zmq.DEALER, backend, identity=b"b")
        a.send_multipart([b"b", b"hello"])
        assert b.recv_multipart() == [b"a", b"hello"]
        b.send_multipart([b"a", b"", b"back"])
        assert a.recv_multipart() == [b"b", b"", b"back"]
        "#,
    );
}

#[test]
fn a_queue_works_the_other_way_round() {
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
fn an_xsub_is_told_its_subscriptions_by_messages() {
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
fn an_xpub_tells_a_program_of_its_subscriptions() {
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
fn one_socket_alone_sends_back_what_it_gets() {
    for (sockets, peer) in [("REP", "REQ"), ("ROUTER", "DEALER"), ("DEALER", "DEALER")] {
        let broker = Zmqd::start(&["proxy", "--sockets", sockets, "--frontend", ANY]);
        let mut python = Python::new();
        python.set("frontend", broker.frontend());
        python.run(&format!(
            r#"
        peers = [connect(zmq.{peer}, frontend) for _ in range(3)]
        for who, peer in enumerate(peers):
            peer.send_multipart([b"%d" % who, b"body"])
        assert [peer.recv_multipart() for peer in peers] == [[b"%d" % n, b"body"] for n in range(3)]
        "#
        ));
    }
}

#[test]
fn a_pair_of_sockets_that_makes_no_sense_is_refused_with_the_reason() {
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
    let said = finished.stderr;
    assert!(
        said.contains("PULL:SUB makes no proxy: both sides only receive"),
        "{said}"
    );
}
