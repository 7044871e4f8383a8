//! The choice of the peer for the next message, where each message goes to one peer.

use zmqd_tests::{ANY, Python, Zmqd};

/// How many of 40 pieces of work each of two sinks gets, the smaller number first. One of the sinks
/// reads nothing. Each piece is sent when the other sink has all its work.
fn shares(balance: &str) -> (u32, u32) {
    let balance = format!("backend.balance={balance}");
    let broker = Zmqd::streamer(&["--control", ANY, "--set", "backend.sndbuf=16384", &balance]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        ask = questioner(control)
        slow = connect(zmq.PULL, backend, rcvhwm=1, rcvbuf=4096)
        quick = connect(zmq.PULL, backend)
        wait_until("both sinks", lambda: counters(ask, "backend")["peers"] == 2)
        source = connect(zmq.PUSH, frontend)
        def sinks():
            return ask("peers", side="backend")["peers"]
        def is_assigned(count):
            has_queue = [sink["queued_messages"] > 0 for sink in sinks()]
            return counters(ask, "backend")["messages_sent"] == count and has_queue.count(True) < 2
        for count in range(40):
            source.send(bytes(65536))
            wait_until("the work to be assigned", lambda: is_assigned(count + 1))
        shares = sorted(sink["messages_sent"] + sink["queued_messages"] for sink in sinks())
        "#,
    );
    (python.ask("shares[0]"), python.ask("shares[1]"))
}

#[test]
fn round_robin_ignores_the_lengths_of_queues() {
    assert_eq!(shares("round-robin"), (20, 20));
}

#[test]
fn least_queued_passes_over_a_sink_with_a_queue() {
    let (slow, quick) = shares("least-queued");
    // The kernel buffers some of it, and then the queue of the slow sink is not empty.
    assert!(slow < 10 && quick > 30, "{slow} and {quick}");
}

#[test]
fn ready_gives_no_work_to_a_busy_worker() {
    let broker = Zmqd::queue(&["--set", "backend.balance=ready"]);
    Python::beside(&broker).run(
        r#"
        client = connect(zmq.DEALER, frontend)
        slow, quick = [connect(zmq.DEALER, backend) for _ in range(2)]
        for number in range(10):
            client.send(b"%d" % number)
        first = slow.recv_multipart()
        for _ in range(9):
            quick.send_multipart(quick.recv_multipart())
        assert is_silent(slow)
        slow.send_multipart(first)
        assert sorted(int(client.recv()) for _ in range(10)) == list(range(10))
        "#,
    );
}
