//! Options of socket types: ROUTER, DEALER, XPUB and XSUB.

use zmqd_tests::{ANY, Python, Zmqd};

/// A proxy with a control and these options, and a Python that can query it.
fn proxy(kind: &str, options: &[&str]) -> (Zmqd, Python) {
    let mut arguments = vec!["--control", ANY];
    if !options.is_empty() {
        arguments.push("--set");
        arguments.extend(options);
    }
    let broker = Zmqd::proxy(kind, &arguments);
    let mut python = Python::beside(&broker);
    python.run("ask = questioner(control)");
    (broker, python)
}

#[test]
fn a_live_peer_keeps_its_identity() {
    let (broker, mut python) = proxy("queue", &[]);
    python.run(
        r#"
        worker = connect(zmq.DEALER, backend)
        older = connect(zmq.DEALER, frontend, identity=b"name")
        wait_until("the older peer", lambda: counters(ask, "frontend")["peers"] == 1)
        newer = dial(zmq.DEALER, frontend, identity=b"name", reconnect_ivl=-1)
        newer.send(b"forged")
        "#,
    );
    let _line = broker.wait_log("another peer has its identity");
    python.run(
        r#"
        older.send(b"question")
        assert worker.recv_multipart() == [b"name", b"question"]
        worker.send_multipart([b"name", b"answer"])
        assert older.recv() == b"answer"
        "#,
    );
}

#[test]
fn a_frozen_peer_loses_its_identity_to_a_newcomer() {
    let (broker, mut python) = proxy("queue", &[]);
    let mut hung = Python::beside(&broker);
    hung.run(r#"older = connect(zmq.DEALER, frontend, identity=b"name")"#);
    python.run(r#"wait_until("the peer", lambda: counters(ask, "frontend")["peers"] == 1)"#);
    hung.signal("STOP");
    python.run(
        r#"
        worker = connect(zmq.DEALER, backend)
        newer = dial(zmq.DEALER, frontend, identity=b"name")
        newer.send(b"question")
        assert worker.recv_multipart() == [b"name", b"question"]
        worker.send_multipart([b"name", b"answer"])
        assert newer.recv() == b"answer"
        "#,
    );
}

#[test]
fn router_handover_gives_an_identity_to_its_newest_peer() {
    let broker = Zmqd::queue(&["--set", "frontend.router_handover=true"]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        worker = connect(zmq.DEALER, backend)
        def greet(client):
            client.send(b"question")
            assert worker.recv_multipart() == [b"name", b"question"]

        older = connect(zmq.DEALER, frontend, identity=b"name", reconnect_ivl=-1)
        greet(older)
        newer = connect(zmq.DEALER, frontend, identity=b"name")
        greet(newer)
        worker.send_multipart([b"name", b"answer"])
        assert newer.recv_multipart() == [b"answer"]
        assert is_silent(older)
        older.close()
        "#,
    );
    broker.wait_connections(2);
    python.run(
        r#"
        greet(newer)
        worker.send_multipart([b"name", b"still here"])
        assert newer.recv_multipart() == [b"still here"]
        "#,
    );
}

#[test]
fn router_mandatory_logs_replies_without_a_receiver() {
    for mandatory in [true, false] {
        let option = format!("frontend.router_mandatory={mandatory}");
        let (broker, mut python) = proxy("queue", &[&option]);
        python.run(
            r#"
            worker = connect(zmq.DEALER, backend)
            worker.send_multipart([b"unknown", b"answer"])
            def missed():
                return counters(ask, "frontend")["dropped"].get("no-such-peer")
            wait_until("the drop to be counted", lambda: missed() == 1)
            "#,
        );
        if mandatory {
            let line = broker.wait_log("queue frontend: not delivered, no-such-peer");
            assert!(line.contains("unknown"), "{line}");
        } else {
            // A line would be in the log before the control answers.
            assert_eq!(broker.log_count("not delivered"), 0);
        }
    }
}

#[test]
fn probe_router_and_routing_id_announce_the_broker() {
    let options = ["backend.probe_router=true", "backend.routing_id=broker"];
    let (_broker, mut python) = proxy("queue", &options);
    python.run(
        r#"
        worker = connect(zmq.ROUTER, backend)
        assert worker.recv_multipart() == [b"broker", b""]
        "#,
    );
    let (_broker, mut python) = proxy("queue", &["backend.routing_id=broker"]);
    python.run(
        r#"
        worker, client = connect(zmq.ROUTER, backend), connect(zmq.REQ, frontend)
        client.send(b"question")
        name, *envelope = worker.recv_multipart()
        assert name == b"broker" and envelope[1:] == [b"", b"question"], "a probe came first"
        "#,
    );
}

#[test]
fn subscribe_narrows_the_topics_that_go_upstream() {
    let (_broker, mut python) = proxy("forwarder", &["frontend.subscribe=a/,b"]);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend)
        everything = connect(zmq.SUB, backend, subscribe=b"")
        assert sorted(take(publisher, 2)) == [[b"\x01a/"], [b"\x01b"]]
        "#,
    );
}

#[test]
fn xpub_verbose_passes_on_every_subscription() {
    for (option, expected) in [
        ("xpub_verbose=false", r#"[b"\x01t", b"\x01end", b"\x00t"]"#),
        (
            "xpub_verbose=true",
            r#"[b"\x01t", b"\x01t", b"\x01end", b"\x00t"]"#,
        ),
    ] {
        let option = format!("backend.{option}");
        let (_broker, mut python) = proxy("forwarder", &[&option]);
        python.run(&format!("expected = {expected}"));
        python.run(
            r#"
            publisher = connect(zmq.XPUB, frontend, xpub_verbose=1)
            subscribers = [connect(zmq.SUB, backend) for _ in range(2)]
            for subscriber in subscribers:
                subscriber.subscribe(b"t")
                before = subscribers.index(subscriber)
                wait_until("the subscription", lambda: ask("who", topic="t")["total"] == before + 1)
            subscribers[0].subscribe(b"end")
            for subscriber in subscribers:
                subscriber.unsubscribe(b"t")
            assert [publisher.recv() for _ in expected] == expected
            "#,
        );
    }
}

#[test]
fn xpub_verboser_passes_on_every_cancel() {
    for (option, expected) in [
        ("xpub_verbose=true", r#"[b"\x01t", b"\x01t", b"\x00t"]"#),
        (
            "xpub_verboser=true",
            r#"[b"\x01t", b"\x01t", b"\x00t", b"\x00t"]"#,
        ),
    ] {
        let option = format!("backend.{option}");
        let broker = Zmqd::start(&[
            "proxy",
            "--sockets",
            "PAIR:XPUB",
            "--frontend",
            ANY,
            "--backend",
            ANY,
            "--set",
            &option,
        ]);
        let mut python = Python::beside(&broker);
        python.run(&format!("expected = {expected}"));
        python.run(
            r#"
            program = connect(zmq.PAIR, frontend)
            subscribers = [connect(zmq.SUB, backend) for _ in range(2)]
            received = []
            for subscriber in subscribers:
                subscriber.subscribe(b"t")
                received.append(program.recv())
            ends = [b"\x01first", b"\x01second"]
            for subscriber, end in zip(subscribers, ends):
                subscriber.unsubscribe(b"t")
                subscriber.subscribe(end[1:])
            while not set(ends) <= set(received):
                received.append(program.recv())
            assert [one for one in received if one not in ends] == expected
            "#,
        );
    }
}

#[test]
fn xpub_welcome_msg_is_sent_to_new_subscribers() {
    let (_broker, mut python) = proxy("forwarder", &["backend.xpub_welcome_msg=welcome"]);
    python.run(
        r#"
        subscriber = connect(zmq.SUB, backend, subscribe=b"")
        assert subscriber.recv_multipart() == [b"welcome"]
        "#,
    );
}

#[test]
fn invert_matching_sends_to_peers_without_the_subscription() {
    let (_broker, mut python) = proxy("forwarder", &["backend.invert_matching=true"]);
    python.run(
        r#"
        publisher = connect(zmq.PUB, frontend, invert_matching=1)
        subscriber = connect(zmq.SUB, backend, invert_matching=1, subscribe=b"a")
        def total(topic):
            return ask("who", topic=topic)["total"]
        wait_until("the subscription", lambda: (total("a"), total("b")) == (0, 1))
        for topic in (b"a", b"b", b"ab", b"c"):
            publisher.send(topic)
        assert [subscriber.recv() for _ in range(2)] == [b"b", b"c"]
        "#,
    );
}
