//! Random scenarios through zmqd and through libzmq's proxy, with the same results.
//!
//! Each seed is one scenario, drawn in Python and run twice. Both runs must deliver the same
//! messages to each peer in the same order, and the same subscriptions to each publisher. `SEED`
//! and `SEEDS` in the environment choose the seeds.

use std::env;

use zmqd_tests::{Python, Zmqd};

/// Draws messages, and compares the results of a scenario with two brokers.
const COMPARING: &str = r#"
    import random

    def draw_body(draw):
        size = draw.choice([0, 1, 2, 7, 100, 255, 256, 1000, 9000, 70_000])
        return draw.randbytes(min(size, 16)) + bytes(max(0, size - 16))

    def draw_message(draw):
        return [draw_body(draw) for _ in range(draw.choice([1, 1, 1, 2, 3, 6]))]

    def summary(parts):
        return [part if len(part) <= 16 else (len(part), part[:16], digest([part]))
                for part in parts]

    def proxy_of(front, back):
        ends = [bind(front), bind(back)]
        endpoints = [last_endpoint(end) for end in ends]
        for end in ends:
            end.rcvtimeo = end.sndtimeo = -1
        in_background(zmq.proxy, *ends)
        return endpoints

    def compare(seed, scenario, theirs, ours):
        expected = scenario(random.Random(seed), *theirs)
        got = scenario(random.Random(seed), *ours)
        assert expected, "nothing happened"
        for step, (one, other) in enumerate(zip(expected, got)):
            assert one == other, f"seed {seed}, step {step}: libzmq {one}, zmqd {other}"
        assert len(expected) == len(got), (seed, len(expected), len(got))
"#;

/// Runs seeds through zmqd and through a proxy of libzmq.
fn compare(broker: &Zmqd, kinds: &str, scenario: &str) {
    let number = |name: &str, default: u64| {
        let text = env::var(name).ok();
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let (first, count) = (number("SEED", 0), number("SEEDS", 10));
    let mut python = Python::beside(broker);
    python.run(COMPARING);
    python.run(scenario);
    python.run(&format!("theirs = proxy_of({kinds})"));
    for seed in first..first + count {
        python.run(&format!(
            "compare({seed}, scenario, theirs, [frontend, backend])"
        ));
    }
}

#[test]
fn queues_deliver_the_same_requests_and_replies() {
    compare(
        &Zmqd::queue(&[]),
        "zmq.ROUTER, zmq.DEALER",
        r#"
        def scenario(draw, frontend, backend):
            names = [b"client %d" % number for number in range(draw.randint(1, 4))]
            clients = [connect(zmq.DEALER, frontend, identity=name) for name in names]
            workers = [connect(zmq.DEALER, backend) for _ in range(draw.randint(1, 4))]
            workers = everyone_served(lambda: clients[0].send(b"first"), workers)
            seen, turn = [], 0
            for _ in range(draw.randint(1, 30)):
                pending = []
                for _ in range(draw.randint(1, 5)):
                    client = draw.randrange(len(clients))
                    clients[client].send_multipart(draw_message(draw))
                    worker = workers[turn % len(workers)]
                    turn += 1
                    got = worker.recv_multipart()
                    seen.append((client, turn, summary(got)))
                    pending.append((worker, got))
                draw.shuffle(pending)
                for worker, got in pending:
                    name = draw.choice([got[0]] * 4 + [b"unknown"])
                    worker.send_multipart([name, *draw_message(draw)])
                    if name in names:
                        found = clients[names.index(name)]
                        seen.append((name, summary(found.recv_multipart())))
            for peer in clients + workers:
                assert is_silent(peer)
                peer.close()
            return seen
        "#,
    );
}

#[test]
fn forwarders_deliver_the_same_publications_and_subscriptions() {
    compare(
        &Zmqd::forwarder(&[]),
        "zmq.XSUB, zmq.XPUB",
        r#"
        def scenario(draw, frontend, backend):
            topics = [b"", b"a", b"ab", b"abc", b"b", b"\x00", b"\xff" * 40]
            publishers = [connect(zmq.XPUB, frontend, rcvhwm=0) for _ in range(draw.randint(1, 3))]
            subscribers = [connect(zmq.SUB, backend) for _ in range(draw.randint(1, 4))]
            held = [set() for _ in subscribers]
            seen = []

            def upstream():
                """The subscriptions that publishers got, once all earlier ones have arrived.

                Each subscriber subscribes to its own mark last; marks are left out.
                """
                marks = [b"\xffmark %d %d" % (len(seen), n) for n in range(len(subscribers))]
                for subscriber, mark in zip(subscribers, marks):
                    subscriber.subscribe(mark)
                changes = []
                for number, publisher in enumerate(publishers):
                    missing = set(marks)
                    while missing:
                        change = publisher.recv()
                        missing.discard(change[1:])
                        if not change[1:].startswith(b"\xffmark"):
                            changes.append((number, change))
                for subscriber, mark in zip(subscribers, marks):
                    subscriber.unsubscribe(mark)
                return sorted(changes)

            for _ in range(draw.randint(1, 40)):
                # One at a time, since the order of changes by two subscribers is undefined.
                index, topic = draw.randrange(len(subscribers)), draw.choice(topics)
                if topic in held[index]:
                    held[index].remove(topic)
                    subscribers[index].unsubscribe(topic)
                else:
                    held[index].add(topic)
                    subscribers[index].subscribe(topic)
                seen.append(upstream())
                for _ in range(draw.randint(1, 6)):
                    parts = [draw.choice(topics) + draw.choice([b"", b"x", b"bc"])]
                    parts += draw_message(draw)
                    draw.choice(publishers).send_multipart(parts)
                    for index, subscriber in enumerate(subscribers):
                        if any(parts[0].startswith(topic) for topic in held[index]):
                            seen.append((index, summary(subscriber.recv_multipart())))
            for peer in publishers + subscribers:
                assert peer.type == zmq.XPUB or is_silent(peer)
                peer.close()
            return seen
        "#,
    );
}

#[test]
fn streamers_deliver_the_same_work() {
    compare(
        &Zmqd::streamer(&[]),
        "zmq.PULL, zmq.PUSH",
        r#"
        def scenario(draw, frontend, backend):
            sources = [connect(zmq.PUSH, frontend) for _ in range(draw.randint(1, 3))]
            sinks = [connect(zmq.PULL, backend) for _ in range(draw.randint(1, 5))]
            sinks = everyone_served(lambda: sources[0].send(b"first"), sinks)
            seen, turn = [], 0
            for _ in range(draw.randint(1, 60)):
                burst = draw.randint(1, 12)
                source = draw.choice(sources)
                for _ in range(burst):
                    source.send_multipart(draw_message(draw))
                for _ in range(burst):
                    sink = sinks[turn % len(sinks)]
                    seen.append((turn % len(sinks), summary(sink.recv_multipart())))
                    turn += 1
            for peer in sources + sinks:
                if peer.type == zmq.PULL:
                    assert is_silent(peer)
                peer.close()
            return seen
        "#,
    );
}
