//! Packets that are late, duplicated, reordered or lost.

use zmqd_tests::{Network, Python};

/// Far worse than a working network: each round trip takes 80 ms and more.
const BAD: &str = "delay=20 jitter=10 loss=0.03 double=0.02 overtake=0.05";

/// Messages that a receiver can compare, byte for byte.
const MESSAGES: &str = r#"
import random

COUNT = 500

def message(number):
    draw = random.Random(number)
    sizes = [draw.choice([0, 10, 300, 5000]) for _ in range(draw.randrange(4))]
    return [b"%d" % number] + [draw.randbytes(size) for size in sizes]
"#;

/// A broker, two hosts beside it, and a Python with [`MESSAGES`] on each of these.
fn across(network: &mut Network, kind: &str) -> (zmqd_tests::Zmqd, Python, Python) {
    let [middle, left, right] = network.hosts();
    let (frontend, backend) = (middle.any(), middle.any());
    let broker = middle.zmqd(&[kind, "--frontend", &frontend, "--backend", &backend]);
    network.links(BAD);
    let [near, far] = [left, right].map(|host| {
        let mut python = host.python(&broker);
        python.run(MESSAGES);
        python
    });
    (broker, near, far)
}

/// Fails unless the network was as bad as [`BAD`].
#[track_caller]
fn assert_bad(network: &mut Network) {
    for what in ["lost", "doubled", "overtaking"] {
        let count = network.count(what);
        assert!(count >= 10, "only {count} packets {what}");
    }
}

#[test]
fn requests_and_replies_arrive_once_and_whole() {
    let mut network = Network::new();
    let (broker, mut near, mut far) = across(&mut network, "queue");
    far.run("worker = connect(zmq.DEALER, backend)");
    near.run("client = connect(zmq.DEALER, frontend)");
    far.begin("for _ in range(COUNT): worker.send_multipart(worker.recv_multipart())");
    near.run(
        r#"
        def send():
            for number in range(COUNT):
                client.send_multipart(message(number))
        sending = in_background(send)
        for number in range(COUNT):
            assert client.recv_multipart() == message(number)
        sending.result()
        assert is_silent(client, 100)
        "#,
    );
    far.finish();
    assert_bad(&mut network);
    assert_eq!(broker.log_count("closed"), 0);
}

#[test]
fn publications_arrive_once_and_whole() {
    let mut network = Network::new();
    let (broker, mut near, mut far) = across(&mut network, "forwarder");
    near.run("publisher = connect(zmq.XPUB, frontend)");
    far.run("subscriber = connect(zmq.SUB, backend, subscribe=b'')");
    near.run("assert publisher.recv() == b'\\1'");
    near.run("for number in range(COUNT): publisher.send_multipart(message(number))");
    far.run("for number in range(COUNT): assert subscriber.recv_multipart() == message(number)");
    far.run("assert is_silent(subscriber, 100)");
    assert_bad(&mut network);
    assert_eq!(broker.log_count("closed"), 0);
}

#[test]
fn work_arrives_once_and_whole() {
    let mut network = Network::new();
    let (broker, mut near, mut far) = across(&mut network, "streamer");
    far.run("sinks = [connect(zmq.PULL, backend) for _ in range(3)]");
    near.run("source = connect(zmq.PUSH, frontend)");
    near.begin("for number in range(COUNT): source.send_multipart(message(number))");
    far.run(
        r#"
        numbers = [[] for _ in sinks]
        def all_there():
            for sink, got in zip(sinks, numbers):
                while sink.poll(10):
                    received = sink.recv_multipart()
                    got.append(int(received[0]))
                    assert received == message(got[-1])
            return sum(map(len, numbers)) >= COUNT
        wait_until("all the work", all_there)
        assert all(got == sorted(got) for got in numbers)
        assert sorted(sum(numbers, [])) == list(range(COUNT))
        "#,
    );
    near.finish();
    assert_bad(&mut network);
    assert_eq!(broker.log_count("closed"), 0);
}
