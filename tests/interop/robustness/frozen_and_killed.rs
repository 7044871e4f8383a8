//! Brokers and peers that are frozen (SIGSTOP) for a while, or killed in the middle of a message.
//!
//! Killed brokers, clients and workers are in `restarts.rs`, killed sinks and subscribers in
//! `patterns/streamer.rs` and `patterns/forwarder.rs`.

use zmqd_tests::{ANY, Python, Zmqd, wait_until};

/// Peers on both sides of a proxy: `near` sends with `send_until_full`, `far` receives with
/// `numbers`.
const ENDS: &str = r#"
near_type, far_type, options = {
    "queue": (zmq.DEALER, zmq.DEALER, {}),
    "forwarder": (zmq.XPUB, zmq.SUB, {"xpub_nodrop": 1}),
    "streamer": (zmq.PUSH, zmq.PULL, {}),
}[kind]
near = connect(near_type, frontend, sndhwm=10, sndbuf=65536, **options)
far = connect(far_type, backend, **({"subscribe": b""} if kind == "forwarder" else {}))
if kind == "forwarder":
    assert near.recv() == b"\1"
near.send(b"warm")
far.recv_multipart()

def numbers(source, count):
    messages = take(source, count)
    assert all(message[-1] == bytes(16384) for message in messages)
    return [int(message[-2]) for message in messages]

def send_until_full():
    near.sndtimeo = 300
    for sent in range(100_000):
        try:
            near.send_multipart([b"%d" % sent, bytes(16384)])
        except zmq.Again:
            return sent
"#;

#[test]
fn a_frozen_broker_loses_nothing() {
    for kind in ["queue", "forwarder", "streamer"] {
        let broker = Zmqd::proxy(kind, &["--set", "overflow=block"]);
        let mut python = Python::beside(&broker);
        python.set("kind", kind);
        python.run(ENDS);
        python.run("monitors = [monitor_of(end) for end in (near, far)]");
        broker.signal("STOP");
        python.run("sent = send_until_full()");
        broker.signal("CONT");
        python.run(
            r#"
            assert numbers(far, sent) == list(range(sent))
            assert all(is_silent(monitor) for monitor in monitors), "a peer was disconnected"
            "#,
        );
    }
}

#[test]
fn a_broker_frozen_for_long_declares_no_peer_dead() {
    let broker = Zmqd::start_within("-n 4096", &["queue", "--frontend", ANY, "--backend", ANY]);
    let mut honest = Python::beside(&broker);
    honest.run("honest = Honest('queue', frontend, backend); honest.passes()");
    // More connections than the driver gets events for in one turn. Each announces a time-to-live
    // of two seconds, and none is silent.
    let mut crowd = Python::under(&["sh", "-c", "ulimit -n 4096 && exec \"$0\" \"$@\""]);
    crowd.meet(&broker);
    crowd.run(
        r#"
        import socket as sockets
        greeting = b"\xff" + bytes(8) + b"\x7f\3\1NULL" + bytes(48)
        ready = b"\4\x1c\5READY\x0bSocket-Type\0\0\0\6DEALER"
        ping = b"\4\7\4PING\0\x14"
        host, port = frontend.removeprefix("tcp://").split(":")
        stopping = threading.Event()
        crowd = [sockets.create_connection((host, port)) for _ in range(1500)]
        for one in crowd:
            one.sendall(greeting + ready)
        def beat():
            while not stopping.is_set():
                for one in crowd:
                    one.sendall(ping)
                    one.setblocking(False)
                    try:
                        assert one.recv(65536), "closed by the broker"
                    except BlockingIOError:
                        pass
                    one.setblocking(True)
                stopping.wait(0.05)
        beating = in_background(beat)
        "#,
    );
    broker.wait_connections(1502);
    let mut idle = Python::beside(&broker);
    // It declares the broker dead after three seconds, which tells the test that they are over.
    idle.run(
        r#"
        idle = socket(zmq.DEALER, heartbeat_ivl=1500, heartbeat_timeout=1500)
        wait = watch(idle, zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        idle.connect(frontend)
        assert wait() == zmq.EVENT_HANDSHAKE_SUCCEEDED
        "#,
    );
    broker.signal("STOP");
    idle.run("assert wait() == zmq.EVENT_DISCONNECTED; idle.close()");
    broker.signal("CONT");
    honest.run("honest.passes()");
    crowd.run("stopping.set(); beating.result()");
    assert_eq!(broker.log_count("closed"), 0, "a peer was declared dead");
}

#[test]
fn a_frozen_worker_is_replaced_and_returns() {
    let beats = [
        "--set",
        "heartbeat_ivl=200",
        "--set",
        "heartbeat_timeout=600",
    ];
    let broker = Zmqd::queue(&beats);
    let start_worker = || {
        let mut worker = Python::beside(&broker);
        worker.run("server = connect(zmq.REP, backend)");
        worker.begin("while True: server.send(b'%d %s' % (os.getpid(), server.recv()))");
        worker
    };
    let (frozen, other) = (start_worker(), start_worker());
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        client = connect(zmq.REQ, frontend, req_relaxed=1, req_correlate=1)
        def ask(number):
            "Asks until a worker answers; returns the process id of that worker."
            def answered():
                client.send(b"%d" % number)
                return client.poll(500)
            wait_until("an answer", answered)
            pid, answer = client.recv().split()
            assert int(answer) == number
            return int(pid)

        wait_until("both workers", lambda: len({ask(0) for _ in range(4)}) == 2)
        "#,
    );
    frozen.signal("STOP");
    let _line = broker.wait_log("no sign of life after PING");
    python.run("assert len({ask(number) for number in range(100)}) == 1");
    frozen.signal("CONT");
    python.run("wait_until('the worker to return', lambda: len({ask(0) for _ in range(4)}) == 2)");
    other.kill();
    python.run("wait_until('the other to leave', lambda: len({ask(0) for _ in range(4)}) == 1)");
    python.run("for number in range(100): ask(number)");
}

#[test]
fn a_frozen_sink_gets_its_share_late() {
    let broker = Zmqd::streamer(&["--set", "sndhwm=100"]);
    let mut frozen = Python::beside(&broker);
    frozen.run("sink = connect(zmq.PULL, backend)");
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        source, sink = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)
        def drain():
            while sink.poll(20):
                got.append(int(sink.recv_multipart()[0]))
            return len(got)
        got = []
        "#,
    );
    frozen.signal("STOP");
    python.run(
        r#"
        for number in range(2000):
            source.send_multipart([b"%d" % number, bytes(16384)])
            while sink.poll(0):
                got.append(int(sink.recv_multipart()[0]))
        source.send(b"2000")
        wait_until("most of the work", lambda: drain() >= 1000)
        assert got == sorted(got)
        "#,
    );
    let served: usize = python.ask("drain()");
    assert!(served < 2001, "the frozen sink had no share");
    frozen.signal("CONT");
    frozen.set("count", &(2001 - served).to_string());
    frozen.run("got = [int(message[0]) for message in take(sink, int(count))]");
    frozen.run("assert got == sorted(got) and is_silent(sink)");
    let late: String = frozen.ask("','.join(map(str, got))");
    python.set("late", &late);
    python.run("assert sorted(got + [int(n) for n in late.split(',')]) == list(range(2001))");
}

#[test]
fn a_frozen_subscriber_misses_counted_messages_only() {
    let broker = Zmqd::forwarder(&["--set", "sndhwm=50", "--control", ANY]);
    let mut frozen = Python::beside(&broker);
    frozen.run("sub = connect(zmq.SUB, backend, subscribe=b'n')");
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        publisher, quick = connect(zmq.XPUB, frontend), connect(zmq.SUB, backend, subscribe=b"n")
        assert publisher.recv() == b"\1n"
        asker = connect(zmq.REQ, control)
        def backend_peers():
            asker.send(b'{"command": "peers", "side": "backend"}')
            return asker.recv_json()["peers"]
        "#,
    );
    frozen.signal("STOP");
    python.run(
        r#"
        for number in range(3000):
            message = [b"n", b"%d" % number, bytes(16384)]
            publisher.send_multipart(message)
            assert quick.recv_multipart() == message
        missed = sum(peer["dropped"].get("peer-full", 0) for peer in backend_peers())
        "#,
    );
    let missed: usize = python.ask("missed");
    assert!(missed > 0, "the subscriber had room for everything");
    frozen.signal("CONT");
    frozen.set("count", &(3000 - missed).to_string());
    frozen.run(
        r#"
        messages = take(sub, int(count))
        got = [int(number) for _, number, body in messages if body == bytes(16384)]
        assert len(got) == int(count) and got == sorted(set(got)) and is_silent(sub, 50)
        "#,
    );
    python.run("publisher.send_multipart([b'n', b'end'])");
    frozen.run("assert sub.recv_multipart() == [b'n', b'end']");
}

#[test]
fn a_frozen_client_delays_no_other() {
    let broker = Zmqd::queue(&["--set", "sndhwm=50", "--control", ANY]);
    let mut frozen = Python::beside(&broker);
    frozen.run("client = connect(zmq.DEALER, frontend, identity=b'frozen'); client.send(b'hi')");
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        server, other = connect(zmq.DEALER, backend), connect(zmq.REQ, frontend)
        assert server.recv_multipart() == [b"frozen", b"hi"]
        asker = connect(zmq.REQ, control)
        def dropped():
            asker.send(b'{"command": "statistics"}')
            sockets = asker.recv_json()["sockets"]
            return sum(socket["dropped"].get("peer-full", 0) for socket in sockets)
        "#,
    );
    frozen.signal("STOP");
    python.run(
        r#"
        for number in range(2000):
            server.send_multipart([b"frozen", b"%d" % number, bytes(16384)])
            if number % 100 == 0:
                other.send(b"question")
                server.send_multipart(server.recv_multipart())
                assert other.recv() == b"question"
        other.send(b"last")
        server.send_multipart(server.recv_multipart())
        assert other.recv() == b"last"
        "#,
    );
    let missed: usize = python.ask("dropped()");
    assert!(missed > 0, "the client had room for everything");
    frozen.signal("CONT");
    frozen.set("count", &(2000 - missed).to_string());
    frozen.run(
        r#"
        got = [int(number) for number, _ in take(client, int(count))]
        assert got == sorted(set(got)) and is_silent(client, 50)
        client.send(b"still here")
        "#,
    );
    python.run("assert server.recv_multipart() == [b'frozen', b'still here']");
}

#[test]
fn senders_killed_in_the_middle_of_a_message_leave_nothing_behind() {
    for kind in ["queue", "forwarder", "streamer"] {
        let broker = Zmqd::proxy(kind, &[]);
        let mut python = Python::beside(&broker);
        python.set("kind", kind);
        python.run(ENDS);
        let baseline = broker.rss_bytes();
        for _life in 0..5 {
            let mut victim = Python::beside(&broker);
            victim.set("kind", kind);
            victim.run(
                r#"
                kinds = {"queue": zmq.DEALER, "forwarder": zmq.XPUB, "streamer": zmq.PUSH}
                victim = connect(kinds[kind], frontend, sndhwm=1, sndbuf=65536)
                if kind == "forwarder":
                    victim.recv()  # without a subscription it would send nothing
                "#,
            );
            let held = broker.rss_bytes();
            // The peak counts from here on, to include memory that was used for a moment.
            let peak = format!("/proc/{}/clear_refs", broker.pid());
            std::fs::write(peak, "5").expect("the peak of a process can be reset");
            victim.run("victim.send_multipart([b'torn', bytes(100 << 20)], copy=False)");
            // The broker has read part of it.
            wait_until("some of the message", || {
                (broker.rss_peak_bytes() > held + (1 << 20)).then_some(())
            });
            victim.kill();
            python.run(
                r#"
                for number in range(10):
                    near.send_multipart([b"%d" % number, bytes(16384)])
                def whole():
                    message = far.recv_multipart()
                    if message[-2] == b"torn":
                        assert message[-1] == bytes(100 << 20)
                        return False
                    return [int(message[-2])] + numbers(far, 9) == list(range(10))
                wait_until("the messages of the others", whole)
                "#,
            );
        }
        broker.wait_connections(2);
        let growth = broker.rss_bytes().saturating_sub(baseline);
        assert!(
            growth < 32 << 20,
            "killed senders left {growth} bytes behind"
        );
    }
}

#[test]
fn monitors_may_be_frozen_and_killed() {
    let arguments = ["--capture", ANY, "--control", ANY, "--set", "sndhwm=10"];
    let broker = Zmqd::queue(&arguments);
    let mut honest = Python::beside(&broker);
    honest.run("honest = Honest('queue', frontend, backend); honest.passes()");
    let start_monitor = || {
        let mut monitor = Python::beside(&broker);
        monitor.run(
            r#"
            reader = connect(zmq.SUB, capture, subscribe=b"", rcvhwm=1)
            asker = connect(zmq.DEALER, control)
            for _ in range(1000):
                asker.send_multipart([b"", b'{"command": "commands"}'])
            "#,
        );
        monitor
    };
    let (frozen, killed) = (start_monitor(), start_monitor());
    frozen.signal("STOP");
    honest.run("honest.passes(500)");
    killed.kill();
    honest.run("honest.passes(500)");
    broker.wait_connections(4);
    frozen.signal("CONT");
    frozen.kill();
    honest.run("honest.passes(500)");
    broker.wait_connections(2);
}
