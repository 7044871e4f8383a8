//! Messages that wait in the broker for a receiver: `rcvhwm` of suspended senders, and the queues
//! of links that are down.

use zmqd_tests::{ANY, Python, Zmqd, vacant_endpoint};

/// Python that fills a streamer with 64 KiB messages from `source`, and reads its counters from the
/// control. The buffers of the kernel are too small for one message.
const FILL: &str = r#"
    ask = questioner(control)
    source = connect(zmq.PUSH, frontend, sndhwm=1, sndbuf=4096)
    sent = 0

    def push(count):
        global sent
        for _ in range(count):
            source.send_multipart([b"%d" % sent, bytes(65536)])
            sent += 1

    def push_until_full():
        global sent
        while source.poll(300, zmq.POLLOUT):
            push(1)

    def memory_in_use():
        return ask("statistics")["memory_in_use"]

    def numbers(sink, count):
        return [int(number) for number, _ in take(sink, count)]
"#;

/// A streamer without peers, with these options on its frontend.
fn without_sinks(options: &[&str]) -> (Zmqd, Python) {
    let mut arguments = vec!["--control", ANY, "--set", "frontend.rcvbuf=4096"];
    arguments.extend(options);
    let broker = Zmqd::streamer(&arguments);
    let mut python = Python::beside(&broker);
    python.run(FILL);
    (broker, python)
}

#[test]
fn a_waiting_message_suspends_its_sender() {
    let (_broker, mut python) = without_sinks(&[]);
    python.run(
        r#"
        push_until_full()
        assert sent < 10, "more than one message, the rest of a read, and the queue of the source"
        (peer,) = ask("peers", side="frontend")["peers"]
        assert peer["parked"]
        assert numbers(connect(zmq.PULL, backend), sent) == list(range(sent))
        "#,
    );
}

#[test]
fn rcvhwm_limits_the_messages_of_a_suspended_sender() {
    let (_broker, mut python) = without_sinks(&["frontend.rcvhwm=30"]);
    python.run(
        r#"
        push(30)
        push_until_full()
        assert sent < 40
        sink = connect(zmq.PULL, backend)
        assert numbers(sink, sent) == list(range(sent))
        # There is room again, also for messages sent while others wait.
        push(100)
        assert numbers(sink, 100) == list(range(sent - 100, sent))
        "#,
    );
}

#[test]
fn rcvhwm_bytes_limits_the_bytes_of_a_suspended_sender() {
    let options = ["frontend.rcvhwm=0", "frontend.rcvhwm_bytes=2000000"];
    let (_broker, mut python) = without_sinks(&options);
    python.run(
        r#"
        push(30)
        wait_until("the messages to wait", lambda: memory_in_use() > 1_900_000)
        push_until_full()
        assert 30 < sent < 40
        assert numbers(connect(zmq.PULL, backend), sent) == list(range(sent))
        "#,
    );
}

#[test]
fn waiting_messages_outlive_their_sender() {
    let (broker, mut python) = without_sinks(&["frontend.rcvhwm=100"]);
    python.run(
        r#"
        push(50)
        source.close(linger=-1)
        # Its end arrives behind all its messages.
        wait_until("the messages to wait", lambda: memory_in_use() > 50 * 65536)
        sink = connect(zmq.PULL, backend)
        assert numbers(sink, 50) == list(range(50))
        "#,
    );
    broker.wait_connections(2);
}

/// A streamer that connects to a sink which does not listen yet, with a queue for 20 messages.
fn with_down_link(immediate: &str) -> (Zmqd, Python) {
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
fn a_down_link_has_a_queue_unless_immediate_is_set() {
    let (_broker, mut python) = with_down_link("false");
    python.run(
        r#"
        push(20)
        wait_until("all to be queued", lambda: queued() == 20)
        push_until_full()
        assert sent < 30 and queued() == 20
        assert ask("peers", side="backend")["total"] == 0, "the down link counts as a peer"
        assert numbers(bind(zmq.PULL, link), sent) == list(range(sent))
        "#,
    );
    let (_broker, mut python) = with_down_link("true");
    python.run(
        r#"
        push_until_full()
        assert sent < 10 and queued() == 0
        assert numbers(bind(zmq.PULL, link), sent) == list(range(sent))
        "#,
    );
}

#[test]
fn immediate_decides_where_the_queue_of_a_lost_link_goes() {
    for (immediate, goes_back) in [("false", true), ("true", false)] {
        let (_broker, mut python) = with_down_link(immediate);
        python.set("goes_back", if goes_back { "yes" } else { "" });
        python.run(
            r#"
            lost = bind(zmq.PULL, link, rcvhwm=1, rcvbuf=4096)
            other = connect(zmq.PULL, backend)
            wait_until("both sinks", lambda: counters(ask, "backend")["peers"] == 2)
            push(30)
            def assigned():
                return counters(ask, "backend")["messages_sent"]
            wait_until("all messages to be assigned", lambda: assigned() == 30)
            of_other = numbers(other, 15)
            of_lost = [number for number in range(30) if number not in of_other]
            kept = queued()
            lost.close()
            wait_until("the lost link to be closed", lambda: counters(ask, "backend")["closed"])
            back = bind(zmq.PULL, link)
            wait_until("both sinks", lambda: counters(ask, "backend")["peers"] == 2)
            expected, not_expected = (back, other) if goes_back else (other, back)
            # The first messages may have been sent or begun meanwhile.
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
        def queued():
            return counters(ask, "backend")["queued_messages"]
        wait_until("one request to be queued", lambda: queued() == 1)
        server = bind(zmq.REP, link)
        for _ in clients:
            server.send(server.recv() * 2)
        assert [client.recv() for client in clients] == [b"00", b"11"]
        "#,
    );
}
