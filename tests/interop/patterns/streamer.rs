//! The streamer (PULL/PUSH): work of all sources goes to the sinks in turn.

use zmqd_tests::{Python, Zmqd, wait_until};

#[test]
fn sinks_take_strict_turns() {
    let broker = Zmqd::streamer(&[]);
    Python::beside(&broker).run(
        r#"
        source = connect(zmq.PUSH, frontend)
        sinks = [connect(zmq.PULL, backend) for _ in range(3)]
        order = everyone_served(lambda: source.send(b"warm"), sinks)
        for number in range(300):
            source.send_multipart([b"%d" % number, b"", b"body"])
        for turn, sink in enumerate(order):
            wanted = [[b"%d" % number, b"", b"body"] for number in range(turn, 300, 3)]
            assert take(sink, 100) == wanted
            assert is_silent(sink)
        "#,
    );
}

#[test]
fn one_sink_gets_the_work_of_all_sources() {
    let broker = Zmqd::streamer(&[]);
    Python::beside(&broker).run(
        r#"
        sink = connect(zmq.PULL, backend)
        sources = [connect(zmq.PUSH, frontend) for _ in range(5)]
        for number in range(200):
            for name, source in enumerate(sources):
                source.send_multipart([b"%d" % name, b"%d" % number])
        got = take(sink, 1000)
        for name in range(5):
            mine = [int(number) for source, number in got if int(source) == name]
            assert mine == list(range(200))
        assert is_silent(sink)
        "#,
    );
}

#[test]
fn a_busy_source_does_not_starve_another() {
    let broker = Zmqd::streamer(&["--set", "sndhwm=10"]);
    Python::beside(&broker).run(
        r#"
        sink = connect(zmq.PULL, backend, rcvhwm=1)
        busy, calm = connect(zmq.PUSH, frontend, sndhwm=0), connect(zmq.PUSH, frontend)
        for number in range(20_000):
            busy.send_multipart([b"busy", bytes(1024)])
        [calm.send(b"calm") for _ in range(10)]
        before = calmed = 0
        while calmed < 10:
            kind = sink.recv_multipart()[0]
            calmed, before = calmed + (kind == b"calm"), before + (kind == b"busy")
        assert before < 19_000, f"{before} messages of the busy source came first"
        take(sink, 20_000 - before)
        "#,
    );
}

#[test]
fn sources_wait_for_a_sink_and_lose_nothing() {
    let broker = Zmqd::streamer(&["--set", "sndhwm=10"]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        source = connect(zmq.PUSH, frontend, sndhwm=10, sndbuf=65536)
        sent = 0
        def push_until_full():
            global sent
            while source.poll(200, zmq.POLLOUT):
                source.send_multipart([b"%d" % sent, bytes(16384)])
                sent += 1

        push_until_full()
        assert sent < 2000, f"the streamer stores {sent} messages"
        "#,
    );
    // Measured once the buffers of the kernel are full.
    let ticks = wait_until("half a second without traffic", || {
        python.run("push_until_full()");
        let ticks = broker.cpu_ticks();
        let room: u32 = python.ask("source.poll(500, zmq.POLLOUT)");
        (room == 0).then(|| broker.cpu_ticks() - ticks)
    });
    assert!(ticks <= 2, "an idle streamer used {ticks} ticks of 10 ms");
    let rss = broker.rss_bytes();
    assert!(
        rss < 32 << 20,
        "the streamer stores work: {rss} bytes resident"
    );
    python.run(
        r#"
        sink = connect(zmq.PULL, backend, rcvhwm=1, rcvbuf=65536)
        push_until_full()  # the queue of the sink and all buffers before it
        numbers = [int(number) for number, body in take(sink, sent)]
        assert numbers == list(range(sent))
        source.send(b"more")
        assert sink.recv() == b"more"
        "#,
    );
}

#[test]
fn a_slow_sink_is_passed_over() {
    let broker = Zmqd::streamer(&["--set", "sndhwm=10"]);
    Python::beside(&broker).run(
        r#"
        source = connect(zmq.PUSH, frontend)
        slow = connect(zmq.PULL, backend, rcvhwm=1, rcvbuf=65536)
        quick = connect(zmq.PULL, backend)
        everyone_served(lambda: source.send(b"warm"), [slow, quick])
        numbers = []
        for number in range(2000):
            source.send_multipart([b"%d" % number, bytes(16384)])
            while quick.poll(0):
                numbers.append(int(quick.recv_multipart()[0]))
        while len(numbers) < 2000:
            (ready,) = wait_until("work", lambda: [s for s in (quick, slow) if s.poll(1)][:1])
            numbers.append(int(ready.recv_multipart()[0]))
        assert sorted(numbers) == list(range(2000))
        "#,
    );
}

#[test]
fn work_queued_for_a_killed_sink_goes_to_the_others() {
    let broker = Zmqd::streamer(&["--set", "sndhwm=300"]);
    let mut python = Python::beside(&broker);
    let mut victim = Python::beside(&broker);
    victim.run("sink = connect(zmq.PULL, backend, rcvhwm=1, rcvbuf=65536)");
    python.run(
        r#"
        others = [connect(zmq.PULL, backend) for _ in range(2)]
        source = connect(zmq.PUSH, frontend)
        for number in range(600):
            source.send_multipart([b"%d" % number, bytes(131072)])
        source.linger = -1
        source.close()
        numbers = set()
        def drain():
            for other in others:
                while other.poll(20):
                    number, body = other.recv_multipart()
                    assert body == bytes(131072) and int(number) not in numbers
                    numbers.add(int(number))
            return len(numbers)
        "#,
    );
    python.run("wait_until('the share of the others', lambda: drain() >= 400)");
    // The source leaves once the streamer has all its work.
    broker.wait_connections(3);
    victim.kill();
    python.run("wait_until('the share of the victim', lambda: drain() >= 540)");
    let lost: usize = python.ask("600 - drain()");
    assert!(lost <= 60, "{lost} pieces of work were lost with the sink");
}
