//! Who gets the next message where each goes to one peer.

use zmqd_tests::{Python, Zmqd};

#[test]
fn a_ready_worker_gets_the_work_of_a_busy_one() {
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
