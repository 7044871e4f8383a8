//! What is held in the broker while there is nobody to take it.

use zmqd_tests::{ANY, Python, Zmqd, vacant_endpoint};

/// How Python fills a streamer with 64 KiB messages through `source`, knowing by its control what
/// has become of them. The buffers of the kernel are too small for one message.
const FILL: &str = r#"
    ask = questioner(control)
    source = connect(zmq.PUSH, frontend, sndhwm=1, sndbuf=4096)
    sent = 0

    def push(count):
        global sent
        for _ in range(count):
            source.send_multipart([b"%d" % sent, bytes(65536)])
            sent += 1

    def push_until_stuck():
        global sent
        while source.poll(300, zmq.POLLOUT):
            push(1)

    def numbers(sink, count):
        return [int(number) for number, _ in take(sink, count)]
"#;

/// A streamer that nobody has connected to, with these options on its frontend.
fn without_sinks(options: &[&str]) -> (Zmqd, Python) {
    let mut arguments = vec!["--control", ANY, "--set", "frontend.rcvbuf=4096"];
    arguments.extend(options);
    let broker = Zmqd::streamer(&arguments);
    let mut python = Python::beside(&broker);
    python.run(FILL);
    (broker, python)
}

#[test]
fn a_message_that_waits_keeps_the_next_with_its_sender() {
    let (_broker, mut python) = without_sinks(&[]);
    python.run(
        r#"
        push_until_stuck()
        assert sent < 10, "one waits, and the rest of a read, and what the source queues"
        (peer,) = ask("peers", side="frontend")["peers"]
        assert peer["parked"]
        assert numbers(connect(zmq.PULL, backend), sent) == list(range(sent))
        "#,
    );
}

#[test]
fn as_many_wait_here_as_rcvhwm_says() {
    let (_broker, mut python) = without_sinks(&["frontend.rcvhwm=30"]);
    python.run(
        r#"
        push(30)
        push_until_stuck()
        assert sent < 40
        sink = connect(zmq.PULL, backend)
        assert numbers(sink, sent) == list(range(sent))
        # There is room again, also for what is sent while some of it waits.
        push(100)
        assert numbers(sink, 100) == list(range(sent - 100, sent))
        "#,
    );
}

#[test]
fn as_much_waits_here_as_rcvhwm_bytes_says() {
    let options = ["frontend.rcvhwm=0", "frontend.rcvhwm_bytes=2000000"];
    let (_broker, mut python) = without_sinks(&options);
    python.run(
        r#"
        push(30)
        assert wait_until("it to be held", lambda: ask("statistics")["memory_in_use"] > 1_900_000)
        push_until_stuck()
        assert 30 < sent < 40
        assert numbers(connect(zmq.PULL, backend), sent) == list(range(sent))
        "#,
    );
}

#[test]
fn what_waits_outlives_its_sender() {
    let (broker, mut python) = without_sinks(&["frontend.rcvhwm=100"]);
    python.run(
        r#"
        push(50)
        source.close(linger=-1)
        # Its end is behind all that it sent.
        assert wait_until("it to be held", lambda: ask("statistics")["memory_in_use"] > 50 * 65536)
        sink = connect(zmq.PULL, backend)
        assert numbers(sink, 50) == list(range(50))
        "#,
    );
    broker.wait_connections(2);
}

/// A streamer that connects to a sink which is not there yet, with a queue for 20 messages.
fn down(immediate: &str) -> (Zmqd, Python) {
    let endpoint = vacant_endpoint();
    let immediate = format!("backend.immediate={immediate}");
    let broker = Zmqd::start(&[
        "streamer",
        "--frontend",
        ANY,
        "--backend",
        ANY,
        "--backend-connect",
        &endpoint,
        "--control",
        ANY,
        "--set",
        "sndhwm=20",
        "sndbuf=4096",
        "frontend.rcvbuf=4096",
        "reconnect_ivl=10",
        "reconnect_ivl_max=10",
        &immediate,
    ]);
    let mut python = Python::beside(&broker);
    python.set("link", &endpoint);
    python.run(FILL);
    python.run(
        r#"
        def queued():
            return counters(ask, "backend")["queued_messages"]
        "#,
    );
    (broker, python)
}

#[test]
fn a_link_that_is_down_has_a_queue_unless_immediate_is_set() {
    let (_broker, mut python) = down("false");
    python.run(
        r#"
        push(20)
        wait_until("all to be queued", lambda: queued() == 20)
        push_until_stuck()
        assert sent < 30 and queued() == 20
        assert ask("peers", side="backend")["total"] == 0, "nobody is there"
        assert numbers(bind(zmq.PULL, link), sent) == list(range(sent))
        "#,
    );
    let (_broker, mut python) = down("true");
    python.run(
        r#"
        push_until_stuck()
        assert sent < 10 and queued() == 0
        assert numbers(bind(zmq.PULL, link), sent) == list(range(sent))
        "#,
    );
}

#[test]
fn what_a_lost_link_had_not_sent_waits_for_it_or_goes_to_another() {
    for (immediate, goes_back) in [("false", true), ("true", false)] {
        let (_broker, mut python) = down(immediate);
        python.set("goes_back", if goes_back { "yes" } else { "" });
        python.run(
            r#"
            lost = bind(zmq.PULL, link, rcvhwm=1, rcvbuf=4096)
            other = connect(zmq.PULL, backend)
            wait_until("both", lambda: counters(ask, "backend")["peers"] == 2)
            push(30)
            wait_until("all to be dealt", lambda: counters(ask, "backend")["messages_sent"] == 30)
            of_other = numbers(other, 15)
            of_lost = [number for number in range(30) if number not in of_other]
            kept = queued()
            lost.close()
            wait_until("its end", lambda: counters(ask, "backend")["closed"])
            back = bind(zmq.PULL, link)
            wait_until("both", lambda: counters(ask, "backend")["peers"] == 2)
            expected, not_expected = (back, other) if goes_back else (other, back)
            # The first ones may have been sent or begun meanwhile.
            first = of_lost.index(numbers(expected, 1)[0])
            assert first >= 15 - kept > 0
            assert numbers(expected, 14 - first) == of_lost[first + 1:]
            assert is_silent(not_expected)
            "#,
        );
    }
}

#[test]
fn a_request_waits_for_a_server_that_is_down() {
    let endpoint = vacant_endpoint();
    let broker = Zmqd::start(&[
        "proxy",
        "--sockets",
        "REP:REQ",
        "--frontend",
        ANY,
        "--backend-connect",
        &endpoint,
        "--control",
        ANY,
        "--set",
        "backend.immediate=false",
        "reconnect_ivl=10",
    ]);
    let mut python = Python::beside(&broker);
    python.set("link", &endpoint);
    python.run(
        r#"
        ask = questioner(control)
        clients = [connect(zmq.REQ, frontend) for _ in range(2)]
        for number, client in enumerate(clients):
            client.send(b"%d" % number)
        wait_until("one to be queued", lambda: counters(ask, "backend")["queued_messages"] == 1)
        server = bind(zmq.REP, link)
        for _ in clients:
            server.send(server.recv() * 2)
        assert [client.recv() for client in clients] == [b"00", b"11"]
        "#,
    );
}
