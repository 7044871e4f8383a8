//! Peers and brokers that are killed and started again.

use zmqd_tests::{ANY, FixedEndpoints, Python, Raw, Zmqd};

#[test]
fn peers_reconnect_to_a_restarted_queue() {
    let endpoints = FixedEndpoints::new("queue");
    let mut broker = endpoints.start();
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        server = connect(zmq.REP, backend)
        clients = [connect(zmq.REQ, frontend, req_relaxed=1, req_correlate=1) for _ in range(3)]
        stopping = threading.Event()
        def serve():
            while not stopping.is_set():
                if server.poll(5):
                    server.send(b"answer to " + server.recv())

        serving = in_background(serve)
        def ask(client, question):
            "Asks again until the answer arrives, as a client of a queue that may restart must."
            def answered():
                client.send(question)
                return client.poll(500)
            wait_until("an answer", answered)
            assert client.recv() == b"answer to " + question
        "#,
    );
    for life in 0..3 {
        python.set("life", &life.to_string());
        python.run(
            r#"
            for number in range(20):
                for client in clients:
                    ask(client, b"%d in life %s" % (number, life.encode()))
            "#,
        );
        broker.kill();
        broker = endpoints.start();
    }
    python.run("for client in clients: ask(client, b'at last')\nstopping.set(); serving.result()");
}

#[test]
fn subscribers_subscribe_again_at_a_restarted_forwarder() {
    let endpoints = FixedEndpoints::new("forwarder");
    let mut broker = endpoints.start();
    // A second broker, for a subscriber behind two brokers.
    let second = Zmqd::start(&[
        "forwarder",
        "--frontend-connect",
        broker.backend(),
        "--backend",
        ANY,
    ]);
    let mut python = Python::beside(&broker);
    python.set("second", second.backend());
    python.run(
        r#"
        publishers = [connect(zmq.PUB, frontend) for _ in range(2)]
        subscribers = [connect(zmq.SUB, endpoint, subscribe=[b"a", b"b"])
                       for endpoint in (backend, backend, second)]
        "#,
    );
    for _life in 0..3 {
        python.run(
            r#"
            settle(publishers, subscribers)
            for number in range(50):
                for publisher in publishers:
                    publisher.send_multipart([b"b", b"%d" % number])
                    publisher.send_multipart([b"c", b"%d" % number])
            for subscriber in subscribers:
                wanted = sorted([b"b", b"%d" % number] for number in range(50) for _ in range(2))
                assert sorted(take(subscriber, 100)) == wanted
            "#,
        );
        broker.kill();
        broker = endpoints.start();
    }
    python.run("settle(publishers, subscribers)");
}

#[test]
fn work_kept_by_its_source_survives_a_restarted_streamer() {
    let endpoints = FixedEndpoints::new("streamer");
    let broker = endpoints.start();
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        sinks = [connect(zmq.PULL, backend) for _ in range(2)]
        source = connect(zmq.PUSH, frontend)
        everyone_served(lambda: source.send(b"warm"), sinks)
        lost = watch(source, zmq.EVENT_DISCONNECTED)
        "#,
    );
    broker.kill();
    // From here on the source knows that the broker has ended, and keeps its messages.
    python.run("lost()\nfor number in range(500): source.send(b'%d' % number)");
    let _broker = endpoints.start();
    python.run(
        r#"
        numbers = []
        def all_there():
            for sink in sinks:
                while sink.poll(1):
                    numbers.append(int(sink.recv()))
            return len(numbers) >= 500
        wait_until("all the work", all_there)
        assert sorted(numbers) == list(range(500))
        "#,
    );
}

#[test]
fn killed_workers_are_replaced() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        clients = [connect(zmq.REQ, frontend, req_relaxed=1, req_correlate=1) for _ in range(4)]
        def ask(client, total):
            for number in range(total):
                def answered():
                    client.send(b"%d" % number)
                    return client.poll(500)
                wait_until("an answer", answered)
                assert client.recv() == b"answer to %d" % number
        "#,
    );
    let start_worker = || {
        let mut worker = Python::beside(&broker);
        worker.run("server = connect(zmq.REP, backend); count = 0");
        worker.begin("while True: server.send(b'answer to ' + server.recv())");
        worker
    };
    let mut workers = [start_worker(), start_worker()];
    python.begin(
        "threads = [in_background(ask, client, 1000) for client in clients]\nthreads[0].result()",
    );
    for round in 0..4 {
        let newcomer = start_worker();
        std::mem::replace(&mut workers[round % 2], newcomer).kill();
    }
    python.finish();
    python.run("[thread.result() for thread in threads]");
    broker.wait_connections(4 + 2);
}

#[test]
fn killed_clients_return_with_their_identities() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.run("server = connect(zmq.DEALER, backend)");
    for _life in 0..4 {
        let mut client = Python::beside(&broker);
        client.run(
            "client = connect(zmq.DEALER, frontend, identity=b'name')\n\
             client.send_multipart([b'open', b'question'])\n\
             [client.send(b'unanswered') for _ in range(20)]",
        );
        python.run(
            r#"
            while server.recv_multipart() != [b"name", b"open", b"question"]:
                pass  # messages of the client before
            server.send_multipart([b"name", b"answer"])
            "#,
        );
        client.run("assert client.recv() == b'answer'");
        client.kill();
    }
}

#[test]
fn a_thousand_short_connections_leave_no_memory_behind() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.run("server, client = connect(zmq.DEALER, backend), connect(zmq.REQ, frontend)");
    let connect_and_leave = || {
        for _life in 0..500 {
            let mut raw = Raw::connect(broker.frontend());
            raw.handshake("DEALER");
        }
        broker.wait_connections(2);
    };
    connect_and_leave();
    let rss = broker.rss_bytes();
    connect_and_leave();
    let growth = broker.rss_bytes().saturating_sub(rss);
    assert!(
        growth < 1 << 20,
        "500 connections that ended left {growth} bytes behind"
    );
    python.run(
        r#"
        client.send(b"question")
        server.send_multipart(server.recv_multipart())
        assert client.recv() == b"question"
        "#,
    );
}
