//! The queue (ROUTER/DEALER): requests reach workers, and replies their clients.

use zmqd_tests::{ANY, Python, Zmqd, vacant_endpoint, wait_until};

#[test]
fn req_and_rep() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        server, client = connect(zmq.REP, backend), connect(zmq.REQ, frontend)
        for number in range(100):
            client.send_multipart([b"question", b"%d" % number])
            assert server.recv_multipart() == [b"question", b"%d" % number]
            server.send_multipart([b"answer", b"%d" % number])
            assert client.recv_multipart() == [b"answer", b"%d" % number]
        "#,
    );
}

#[test]
fn dealer_client_and_rep() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        server, client = connect(zmq.REP, backend), connect(zmq.DEALER, frontend)
        for number in range(100):
            client.send_multipart([b"", b"%d" % number])
        for number in range(100):
            assert server.recv() == b"%d" % number
            server.send(b"answer %d" % number)
        assert take(client, 100) == [[b"", b"answer %d" % number] for number in range(100)]
        "#,
    );
}

#[test]
fn req_and_dealer_worker() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        worker, client = connect(zmq.DEALER, backend), connect(zmq.REQ, frontend)
        for number in range(100):
            client.send(b"%d" % number)
            identity, delimiter, body = worker.recv_multipart()
            assert identity[:1] == b"\0" and (delimiter, body) == (b"", b"%d" % number)
            worker.send_multipart([identity, b"", b"answer ", body])
            assert client.recv_multipart() == [b"answer ", body]
        "#,
    );
}

#[test]
fn router_worker() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        worker = connect(zmq.ROUTER, backend)
        clients = [connect(zmq.REQ, frontend, identity=b"client %d" % n) for n in range(3)]
        for number in range(30):
            client = clients[number % 3]
            client.send(b"%d" % number)
            broker, identity, delimiter, body = worker.recv_multipart()
            assert (identity, delimiter, body) == (client.identity, b"", b"%d" % number)
            worker.send_multipart([broker, identity, b"", b"answer"])
            assert client.recv() == b"answer"
        "#,
    );
}

#[test]
fn dealers_with_identities_get_several_replies_per_request() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        workers = [connect(zmq.DEALER, backend) for _ in range(3)]
        clients = [connect(zmq.DEALER, frontend, identity=b"client-%d" % n) for n in range(4)]

        def serve(worker, stopping):
            while not stopping.is_set():
                if worker.poll(10):
                    identity, number = worker.recv_multipart()
                    for part in range(int(number) % 5):
                        worker.send_multipart([identity, number, b"%d" % part, identity])

        stopping = threading.Event()
        threads = [in_background(serve, worker, stopping) for worker in workers]
        for number in range(100):
            for client in clients:
                client.send(b"%d" % number)
        for client in clients:
            replies = take(client, sum(number % 5 for number in range(100)))
            assert all(reply[2] == client.identity for reply in replies)
            got = sorted((int(number), int(part)) for number, part, _ in replies)
            assert got == [(number, part) for number in range(100) for part in range(number % 5)]
        stopping.set()
        [thread.result() for thread in threads]
        "#,
    );
}

#[test]
fn two_servers_take_strict_turns() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        servers = [connect(zmq.REP, backend) for _ in range(2)]
        client = connect(zmq.REQ, frontend)

        def accept(server):
            server.send(server.recv())
            return client.recv()

        order = everyone_served(lambda: client.send(b"warm"), servers, accept)
        for number in range(100):
            client.send(b"%d" % number)
            assert accept(order[number % 2]) == b"%d" % number
        "#,
    );
}

#[test]
fn requests_wait_in_their_clients_until_a_worker_connects() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        clients = [connect(zmq.REQ, frontend) for _ in range(5)]
        [client.send(b"%d" % number) for number, client in enumerate(clients)]
        eager = connect(zmq.DEALER, frontend, sndhwm=10, sndbuf=65536)
        sent = 0
        def push_until_full():
            global sent
            while eager.poll(200, zmq.POLLOUT):
                eager.send_multipart([b"", b"%d" % sent, bytes(65536)])
                sent += 1
        "#,
    );
    // Measured once the buffers of the kernel are full.
    let ticks = wait_until("half a second without traffic", || {
        python.run("push_until_full()");
        let ticks = broker.cpu_ticks();
        let room: u32 = python.ask("eager.poll(500, zmq.POLLOUT)");
        (room == 0).then(|| broker.cpu_ticks() - ticks)
    });
    assert!(ticks <= 2, "an idle queue used {ticks} ticks of 10 ms");
    let rss = broker.rss_bytes();
    assert!(
        rss < 32 << 20,
        "the queue stores requests: {rss} bytes resident"
    );
    python.run(
        r#"
        server = connect(zmq.REP, backend)
        numbers = []
        for _ in range(sent + len(clients)):
            number, *rest = server.recv_multipart()
            numbers += [int(number)] if rest else []
            server.send(b"answer " + number)
        assert numbers == list(range(sent))
        assert [client.recv() for client in clients] == [b"answer %d" % n for n in range(5)]
        assert take(eager, sent) == [[b"", b"answer %d" % number] for number in range(sent)]
        "#,
    );
}

#[test]
fn the_backend_connects_to_a_server_that_binds() {
    let mut python = Python::new();
    python.run("server = bind(zmq.REP)");
    let server: String = python.ask("last_endpoint(server)");
    let broker = Zmqd::start(&["queue", "--frontend", ANY, "--backend-connect", &server]);
    python.set("frontend", broker.frontend());
    python.run(
        r#"
        client = connect(zmq.REQ, frontend)
        for number in range(10):
            client.send(b"%d" % number)
            server.send(b"answer to " + server.recv())
            assert client.recv() == b"answer to %d" % number
        "#,
    );
}

#[test]
fn one_side_binds_and_connects_several_endpoints() {
    let mut python = Python::new();
    python.run("distant = bind(zmq.REP)");
    let distant = format!(">{}", python.ask::<String>("last_endpoint(distant)"));
    let broker = Zmqd::start(&[
        "queue",
        "--frontend",
        "@tcp://127.0.0.1:0",
        "--frontend",
        "tcp://*:*",
        "--set",
        "frontend.insecure=true",
        "--frontend-connect",
        &vacant_endpoint(),
        "--backend",
        ANY,
        "--backend",
        "tcp://localhost:0",
        "--backend",
        &distant,
    ]);
    python.set("frontend", broker.frontend());
    python.set("backend", broker.backend());
    let wildcard = broker.endpoints("queue", "frontend")[1].replace('*', "127.0.0.1");
    python.set("wildcard", &wildcard);
    python.set("by_name", broker.endpoints("queue", "backend")[1]);
    python.run(
        r#"
        servers = [distant, connect(zmq.REP, backend), connect(zmq.REP, by_name)]
        clients = [connect(zmq.REQ, endpoint) for endpoint in (frontend, wildcard)]
        for client in clients:
            def accept(server):
                server.send(server.recv())
                return client.recv()
            everyone_served(lambda: client.send(b"hello"), servers, accept)
        "#,
    );
}

#[test]
fn requests_queued_for_a_killed_worker_go_to_another() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    let mut victim = Python::beside(&broker);
    victim.run("worker = connect(zmq.DEALER, backend, rcvhwm=1, rcvbuf=65536)");
    python.run(
        r#"
        client = connect(zmq.DEALER, frontend, sndhwm=0, identity=b"client")
        client.send(b"first")
        "#,
    );
    victim.run("assert worker.recv_multipart() == [b'client', b'first']");
    python.run(
        r#"
        for number in range(200):
            client.send_multipart([b"%d" % number, bytes(131072)])
        client.send(b"last")
        client.disable_monitor()
        client.linger = -1
        client.close()
        "#,
    );
    // The client leaves once the queue has read all its messages; only the victim stays connected.
    broker.wait_connections(1);
    python.run("other = connect(zmq.DEALER, backend)");
    victim.kill();
    python.run(
        r#"
        numbers = []
        while (message := other.recv_multipart())[1] != b"last":
            identity, number, body = message
            assert identity == b"client" and body == bytes(131072)
            numbers.append(int(number))
        assert numbers == list(range(numbers[0], 200)), numbers
        assert numbers[0] < 100, f"{numbers[0]} of 200 requests were lost with the worker"
        "#,
    );
}

#[test]
fn a_reply_to_a_client_that_left_is_dropped() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        worker = connect(zmq.DEALER, backend)
        gone, stays = connect(zmq.DEALER, frontend), connect(zmq.DEALER, frontend)
        gone.send(b"gone")
        old, _ = worker.recv_multipart()
        stays.send(b"stays")
        other, _ = worker.recv_multipart()
        assert old != other
        gone.close()
        "#,
    );
    broker.wait_connections(2);
    python.run(
        r#"
        newcomers = [connect(zmq.DEALER, frontend) for _ in range(3)]
        for identity in (old, b"unknown", b"", b"\0", old + b"\0"):
            worker.send_multipart([identity, b"late"])
        worker.send(b"no identity at all")
        for client in (stays, *newcomers):
            client.send(b"question")
            identity, question = worker.recv_multipart()
            worker.send_multipart([identity, b"answer"])
            assert client.recv_multipart() == [b"answer"]
            assert is_silent(client)
        "#,
    );
}

#[test]
fn announced_identities_are_kept_verbatim() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        worker = connect(zmq.DEALER, backend)
        anonymous = connect(zmq.DEALER, frontend)
        anonymous.send(b"question")
        generated, _ = worker.recv_multipart()
        identities = [b"a", b"a\0", b"a\0b", b"\xff", b"\x01\x00", bytes(range(1, 256)),
                      bytes(255 * [255]), b"\0"]
        clients = [connect(zmq.DEALER, frontend, identity=identity) for identity in identities]
        for client, identity in zip(clients, identities):
            client.send(b"question")
            assert worker.recv_multipart() == [identity, b"question"]
        for identity in identities:
            worker.send_multipart([identity, b"to " + identity])
        for client, identity in zip(clients, identities):
            assert client.recv_multipart() == [b"to " + identity]
        worker.send_multipart([generated, b"answer"])
        assert anonymous.recv_multipart() == [b"answer"]
        more = [connect(zmq.DEALER, frontend) for _ in range(10)]
        for number, client in enumerate(more):
            client.send(b"%d" % number)
        names = {worker.recv_multipart()[0] for _ in more}
        assert len(names) == 10 and names.isdisjoint({generated, *identities})
        "#,
    );
}

#[test]
fn a_stuck_client_delays_no_other() {
    let broker = Zmqd::queue(&["--set", "sndhwm=10"]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        worker = connect(zmq.DEALER, backend)
        stuck = connect(zmq.DEALER, frontend, rcvhwm=1, rcvbuf=65536, identity=b"stuck")
        client = connect(zmq.REQ, frontend)
        for number in range(1000):
            stuck.send(b"%d" % number)
            assert worker.recv_multipart() == [b"stuck", b"%d" % number]
            worker.send_multipart([b"stuck", b"%d" % number, bytes(65536)])
            if number % 10 == 0:
                client.send(b"question")
                identity, _, question = worker.recv_multipart()
                worker.send_multipart([identity, b"", b"answer"])
                assert client.recv() == b"answer"
        "#,
    );
    let rss = broker.rss_bytes();
    assert!(rss < 32 << 20, "replies to one client fill {rss} bytes");
    python.run(
        r#"
        numbers = [int(stuck.recv_multipart()[0])]
        while stuck.poll(100):
            number, body = stuck.recv_multipart()
            assert body == bytes(65536)
            numbers.append(int(number))
        assert numbers == sorted(set(numbers)) and len(numbers) < 1000
        "#,
    );
}

#[test]
fn replies_pass_while_requests_are_blocked() {
    let broker = Zmqd::queue(&["--set", "sndhwm=10"]);
    Python::beside(&broker).run(
        r#"
        worker = connect(zmq.DEALER, backend, rcvhwm=1, rcvbuf=65536)
        client = connect(zmq.DEALER, frontend, sndhwm=10, sndbuf=65536)
        client.send(b"first")
        identity, _ = worker.recv_multipart()
        while client.poll(300, zmq.POLLOUT):
            client.send(bytes(65536))
        for number in range(1000):
            worker.send_multipart([identity, b"%d" % number])
            assert client.recv() == b"%d" % number
        "#,
    );
}

#[test]
fn correlated_and_relaxed_requests() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        server = connect(zmq.REP, backend)
        client = connect(zmq.REQ, frontend, req_correlate=1, req_relaxed=1)
        for number in range(20):
            client.send(b"abandoned %d" % number)
            client.send(b"meant %d" % number)
            for _ in range(2):
                server.send(b"answer to " + server.recv())
            assert client.recv() == b"answer to meant %d" % number
        "#,
    );
}

#[test]
fn probes_of_clients_pass_and_probes_of_workers_are_dropped() {
    let broker = Zmqd::queue(&[]);
    Python::beside(&broker).run(
        r#"
        worker = connect(zmq.DEALER, backend, probe_router=1)
        client = connect(zmq.DEALER, frontend, probe_router=1, identity=b"prober")
        assert worker.recv_multipart() == [b"prober", b""]
        worker.send_multipart([b"prober", b"welcome"])
        assert client.recv_multipart() == [b"welcome"]
        "#,
    );
}
