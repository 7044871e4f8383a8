//! Brokers in a chain: each subscription travels up the whole chain once, publications travel down,
//! and replies reach their clients.

use zmqd_tests::{ANY, Python, Scratch, Zmqd, vacant_endpoint};

/// Three forwarders, each connected to the backend of the one before.
fn three_forwarders() -> [Zmqd; 3] {
    let below = |upper: &Zmqd| {
        let connect = ["--frontend-connect", upper.backend()];
        Zmqd::start(&[&["forwarder", "--backend", ANY], &connect[..]].concat())
    };
    let top = Zmqd::forwarder(&[]);
    let middle = below(&top);
    let bottom = below(&middle);
    [top, middle, bottom]
}

/// A Python with the endpoint for publishers, those for subscribers at each level, and functions
/// that collect the subscriptions that a publisher gets.
fn beside_chain(brokers: [&Zmqd; 3]) -> Python {
    let mut python = Python::new();
    python.set("frontend", brokers[0].frontend());
    for (broker, name) in brokers.into_iter().zip(["top", "middle", "bottom"]) {
        python.set(name, broker.backend());
    }
    python.run(
        r#"
        levels = [top, middle, bottom]

        def changes(publisher, subscribers):
            "All subscriptions that the publisher got so far, sorted, without those of `settle`."
            settle([publisher], subscribers)
            changes = []
            while not is_silent(publisher):
                changes.append(publisher.recv())
            return sorted(one for one in changes if b"\xffsettle" not in one)

        def gets(publisher, *wanted):
            "Whether these are the next subscriptions, in any order, without those of `settle`."
            changes = []
            while len(changes) < len(wanted):
                one = publisher.recv()
                changes += [] if b"\xffsettle" in one else [one]
            return sorted(changes) == sorted(wanted)
        "#,
    );
    python
}

#[test]
fn subscriptions_and_cancels_travel_up_the_whole_chain_once() {
    let brokers = three_forwarders();
    beside_chain(brokers.each_ref()).run(
        r#"
        publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
        subscribers = [connect(zmq.SUB, level) for level in levels for _ in range(4)]
        topics = [b"topic %d" % number for number in range(20)]
        wanted = sorted(b"\1" + topic for topic in topics)
        assert changes(publisher, subscribers) == []
        for topic in topics:
            for subscriber in subscribers:
                subscriber.subscribe(topic)
        assert changes(publisher, subscribers) == wanted
        for topic in topics:
            publisher.send_multipart([topic, b"news"])
        for subscriber in subscribers:
            assert take(subscriber, 20) == [[topic, b"news"] for topic in topics]

        # All subscribers cancel but one at the far end, then that one too.
        *most, last = subscribers
        for topic in topics:
            for subscriber in most:
                subscriber.unsubscribe(topic)
        assert changes(publisher, subscribers) == []
        publisher.send(b"topic 7 again")
        assert last.recv() == b"topic 7 again"
        for topic in topics:
            last.unsubscribe(topic)
        assert changes(publisher, subscribers) == sorted(b"\0" + topic for topic in topics)
        assert all(is_silent(subscriber) for subscriber in subscribers)
        "#,
    );
}

#[test]
fn subscriptions_of_a_killed_subscriber_are_cancelled_through_the_chain() {
    let brokers = three_forwarders();
    let mut python = beside_chain(brokers.each_ref());
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
        stays = connect(zmq.SUB, middle, subscribe=[b"shared", b"own"])
        assert changes(publisher, [stays]) == [b"\1own", b"\1shared"]
        "#,
    );
    let mut victim = Python::new();
    victim.set("bottom", brokers[2].backend());
    victim.run("dies = connect(zmq.SUB, bottom, subscribe=[b'shared', b'x', b'x/y', b''])");
    python.run(r"assert gets(publisher, b'\1', b'\1x', b'\1x/y')");
    victim.kill();
    python.run(
        r#"
        assert gets(publisher, b"\0", b"\0x", b"\0x/y")
        assert changes(publisher, [stays]) == []
        publisher.send(b"shared news")
        assert stays.recv() == b"shared news"
        "#,
    );
}

#[test]
fn a_restarted_middle_broker_gets_all_subscriptions_again() {
    let top = Zmqd::forwarder(&[]);
    let endpoint = vacant_endpoint();
    let connect = ["--frontend-connect", top.backend()];
    let arguments = [&["forwarder", "--backend", &endpoint], &connect[..]].concat();
    let mut middle = Zmqd::start(&arguments);
    let bottom = Zmqd::start(&[
        "forwarder",
        "--backend",
        ANY,
        "--frontend-connect",
        &endpoint,
    ]);
    let mut python = beside_chain([&top, &middle, &bottom]);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
        subscribers = [connect(zmq.SUB, bottom, subscribe=[b"a", b"b"]) for _ in range(3)]
        assert changes(publisher, subscribers) == [b"\1a", b"\1b"]
        "#,
    );
    for _life in 0..3 {
        middle.kill();
        python.run(r"assert gets(publisher, b'\0a', b'\0b')");
        middle = Zmqd::start(&arguments);
        python.run(
            r#"
            assert changes(publisher, subscribers) == [b"\1a", b"\1b"]
            publisher.send_multipart([b"b", b"news"])
            for subscriber in subscribers:
                assert subscriber.recv_multipart() == [b"b", b"news"]
            "#,
        );
    }
}

#[test]
fn a_chain_may_begin_at_a_plain_publisher() {
    let publisher = vacant_endpoint();
    let top = Zmqd::start(&[
        "forwarder",
        "--frontend-connect",
        &publisher,
        "--backend",
        ANY,
    ]);
    let bottom = Zmqd::start(&[
        "forwarder",
        "--frontend-connect",
        top.backend(),
        "--backend",
        ANY,
    ]);
    let mut python = Python::new();
    python.set("source", &publisher);
    python.set("bottom", bottom.backend());
    python.run(
        r#"
        publisher = bind(zmq.PUB, source)
        subscribers = [connect(zmq.SUB, bottom, subscribe=topic) for topic in (b"a", b"ab")]
        settle([publisher], subscribers)
        for topic in (b"a", b"b", b"abc"):
            publisher.send_multipart([topic, b"news"])
        assert take(subscribers[0], 2) == [[b"a", b"news"], [b"abc", b"news"]]
        assert take(subscribers[1], 1) == [[b"abc", b"news"]]
        assert all(is_silent(subscriber) for subscriber in subscribers)
        "#,
    );
}

#[test]
fn requests_and_replies_pass_a_chain_of_queues() {
    let last = Zmqd::queue(&[]);
    let before = |next: &Zmqd| Zmqd::queue(&["--backend-connect", next.frontend()]);
    let middle = before(&last);
    let first = before(&middle);
    let mut python = Python::beside(&first);
    python.set("near", middle.backend());
    python.set("far", last.backend());
    python.run(
        r#"
        def serve(worker, count):
            for _ in range(count):
                worker.send(worker.recv() + b" from " + worker.name)

        def ask(client, number):
            answers = set()
            for question in range(50):
                client.send(b"%d:%d" % (number, question))
                answer, _, name = client.recv().partition(b" from ")
                assert answer == b"%d:%d" % (number, question)
                answers.add(name)
            return answers

        class Worker:
            def __init__(self, name, endpoint):
                self.name, self.socket = name, connect(zmq.REP, endpoint)
                self.served = 0
                self.thread = in_background(self.serve)

            def serve(self):
                while (question := self.socket.recv()) != b"stop":
                    self.served += 1
                    self.socket.send(question + b" from " + self.name)
                self.socket.send(b"stopped")

        workers = [Worker(name, far) for name in (b"one", b"two")] + [Worker(b"near", near)]
        clients = [connect(zmq.REQ, frontend) for _ in range(6)]
        threads = [in_background(ask, client, n) for n, client in enumerate(clients)]
        names = set().union(*(thread.result() for thread in threads))
        assert names == {b"one", b"two", b"near"}
        assert sum(worker.served for worker in workers) == 300
        "#,
    );
}

#[test]
fn each_link_passes_on_its_configured_topics() {
    let mut python = Python::new();
    python.run(
        r#"
        world, europe = (bind(zmq.XPUB, xpub_verboser=1) for _ in range(2))

        def changes(publisher, mark):
            "The subscriptions that the publisher gets before this mark."
            changes = []
            while (one := publisher.recv()) != b"\1" + mark:
                changes.append(one)
            return sorted(changes)
        "#,
    );
    let text = format!(
        "[[proxy]]\nkind = \"forwarder\"\nbackend.bind = \"{ANY}\"\n\
         frontend.connect = [\"{}\", {{ endpoint = \"{}\", subscribe = [\"eu.\", \"mark\"] }}]\n",
        python.ask::<String>("last_endpoint(world)"),
        python.ask::<String>("last_endpoint(europe)"),
    );
    let file = Scratch::new("toml", &text);
    let broker = Zmqd::start_expecting(1, &["run", file.path()]);
    python.set("backend", broker.backend());
    python.run(
        r#"
        one, two = connect(zmq.SUB, backend), connect(zmq.SUB, backend)
        for topic in (b"eu.de", b"us.ny", b"eu", b"mark 1"):
            one.subscribe(topic)
        assert changes(world, b"mark 1") == [b"\1eu", b"\1eu.de", b"\1us.ny"]
        assert changes(europe, b"mark 1") == [b"\1eu.", b"\1eu.de"]

        # Two subscriptions that are narrowed to the same topic count as one.
        for topic in (b"", b"mark 2"):
            two.subscribe(topic)
        assert changes(world, b"mark 2") == [b"\1"]
        assert changes(europe, b"mark 2") == [b"\1mark"]
        one.unsubscribe(b"eu")
        one.subscribe(b"mark 3")
        assert changes(world, b"mark 3") == [b"\0eu"]
        assert changes(europe, b"mark 3") == []

        for publisher, where in ((world, b"world"), (europe, b"europe")):
            publisher.send_multipart([b"eu.fr", where])
            publisher.send_multipart([b"us.ny", where])
        got = sorted(take(two, 3))
        assert got == [[b"eu.fr", b"europe"], [b"eu.fr", b"world"], [b"us.ny", b"world"]]
        assert one.recv_multipart() == [b"us.ny", b"world"]

        two.unsubscribe(b"")
        two.subscribe(b"mark 4")
        assert changes(world, b"mark 4") == [b"\0"]
        assert changes(europe, b"mark 4") == [b"\0eu.", b"\0mark"]
        "#,
    );
}

#[test]
fn a_chain_connects_again_to_a_publisher_that_restarts() {
    let mut python = Python::new();
    let publisher = vacant_endpoint();
    let outer = Zmqd::start(&[
        "forwarder",
        "--frontend-connect",
        &publisher,
        "--backend",
        ANY,
    ]);
    let inner = Zmqd::start(&[
        "forwarder",
        "--frontend-connect",
        outer.backend(),
        "--backend",
        ANY,
    ]);
    python.set("publisher_endpoint", &publisher);
    python.set("outer", outer.backend());
    python.set("inner", inner.backend());
    python.run(
        r#"
        near = connect(zmq.SUB, outer, subscribe=[b"a", b"c"])
        far = connect(zmq.SUB, inner, subscribe=[b"b", b"c"])
        for life in range(2):
            publisher = bind(zmq.XPUB, publisher_endpoint)
            changes = {publisher.recv() for _ in range(3)}
            assert changes == {b"\1a", b"\1b", b"\1c"}
            for number in range(100):
                for topic in (b"a", b"b", b"c", b"d"):
                    publisher.send_multipart([topic, b"%d" % number])
            for subscriber, topics in ((near, (b"a", b"c")), (far, (b"b", b"c"))):
                wanted = [[topic, b"%d" % number] for number in range(100) for topic in topics]
                assert take(subscriber, 200) == wanted
            far.unsubscribe(b"b")
            assert publisher.recv() == b"\0b"
            far.unsubscribe(b"c")
            far.subscribe(b"b")
            assert publisher.recv() == b"\1b"
            far.subscribe(b"c")
            far.subscribe(b"marker %d" % life)
            assert publisher.recv() == b"\1marker %d" % life
            far.unsubscribe(b"marker %d" % life)
            assert publisher.recv() == b"\0marker %d" % life
            publisher.close()
        "#,
    );
}
