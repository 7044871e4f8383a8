//! Brokers in a row: what subscribers want travels up the whole chain once, messages travel down,
//! and replies find their way back.

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

/// A Python that knows where publishers come in, where subscribers do at each level, and how to
/// collect what a publisher is told.
fn beside_chain(brokers: [&Zmqd; 3]) -> Python {
    let mut python = Python::new();
    python.set("frontend", brokers[0].frontend());
    for (broker, name) in brokers.into_iter().zip(["top", "middle", "bottom"]) {
        python.set(name, broker.backend());
    }
    python.run(
        r#"
        levels = [top, middle, bottom]

        def told(publisher, subscribers):
            "What it was told up to now, sorted, without the marks by which that is known."
            settle([publisher], subscribers)
            told = []
            while not is_silent(publisher):
                told.append(publisher.recv())
            return sorted(one for one in told if b"\xffsettle" not in one)

        def hears(publisher, *wanted):
            "Whether the next that it is told, in any order and without such marks, is this."
            told = []
            while len(told) < len(wanted):
                one = publisher.recv()
                told += [] if b"\xffsettle" in one else [one]
            return sorted(told) == sorted(wanted)
        "#,
    );
    python
}

#[test]
fn subscriptions_and_cancels_go_up_the_whole_chain_once() {
    let brokers = three_forwarders();
    beside_chain(brokers.each_ref()).run(
        r#"
        publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
        subscribers = [connect(zmq.SUB, level) for level in levels for _ in range(4)]
        topics = [b"topic %d" % number for number in range(20)]
        wanted = sorted(b"\1" + topic for topic in topics)
        assert told(publisher, subscribers) == []
        for topic in topics:
            for subscriber in subscribers:
                subscriber.subscribe(topic)
        assert told(publisher, subscribers) == wanted
        for topic in topics:
            publisher.send_multipart([topic, b"news"])
        for subscriber in subscribers:
            assert take(subscriber, 20) == [[topic, b"news"] for topic in topics]

        # All but one at the far end lose interest, then that one too.
        *most, last = subscribers
        for topic in topics:
            for subscriber in most:
                subscriber.unsubscribe(topic)
        assert told(publisher, subscribers) == []
        publisher.send(b"topic 7 again")
        assert last.recv() == b"topic 7 again"
        for topic in topics:
            last.unsubscribe(topic)
        assert told(publisher, subscribers) == sorted(b"\0" + topic for topic in topics)
        assert all(is_silent(subscriber) for subscriber in subscribers)
        "#,
    );
}

#[test]
fn a_subscriber_that_dies_is_cancelled_through_the_chain() {
    let brokers = three_forwarders();
    let mut python = beside_chain(brokers.each_ref());
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
        stays = connect(zmq.SUB, middle, subscribe=[b"shared", b"own"])
        assert told(publisher, [stays]) == [b"\1own", b"\1shared"]
        "#,
    );
    let mut victim = Python::new();
    victim.set("bottom", brokers[2].backend());
    victim.run("dies = connect(zmq.SUB, bottom, subscribe=[b'shared', b'x', b'x/y', b''])");
    python.run(r"assert hears(publisher, b'\1', b'\1x', b'\1x/y')");
    victim.kill();
    python.run(
        r#"
        assert hears(publisher, b"\0", b"\0x", b"\0x/y")
        assert told(publisher, [stays]) == []
        publisher.send(b"shared news")
        assert stays.recv() == b"shared news"
        "#,
    );
}

#[test]
fn a_broker_in_the_middle_that_comes_back_is_told_everything_again() {
    let top = Zmqd::forwarder(&[]);
    let place = vacant_endpoint();
    let connect = ["--frontend-connect", top.backend()];
    let arguments = [&["forwarder", "--backend", &place], &connect[..]].concat();
    let mut middle = Zmqd::start(&arguments);
    let bottom = Zmqd::start(&["forwarder", "--backend", ANY, "--frontend-connect", &place]);
    let mut python = beside_chain([&top, &middle, &bottom]);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
        subscribers = [connect(zmq.SUB, bottom, subscribe=[b"a", b"b"]) for _ in range(3)]
        assert told(publisher, subscribers) == [b"\1a", b"\1b"]
        "#,
    );
    for _life in 0..3 {
        middle.kill();
        python.run(r"assert hears(publisher, b'\0a', b'\0b')");
        middle = Zmqd::start(&arguments);
        python.run(
            r#"
            assert told(publisher, subscribers) == [b"\1a", b"\1b"]
            publisher.send_multipart([b"b", b"news"])
            for subscriber in subscribers:
                assert subscriber.recv_multipart() == [b"b", b"news"]
            "#,
        );
    }
}

#[test]
fn a_chain_begins_at_a_plain_publisher() {
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
fn requests_go_down_a_chain_of_queues_and_replies_find_back() {
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
fn each_link_may_pass_on_topics_of_its_own() {
    let mut python = Python::new();
    python.run(
        r#"
        world, europe = (bind(zmq.XPUB, xpub_verboser=1) for _ in range(2))

        def told(publisher, mark):
            "What it is told before this mark."
            told = []
            while (one := publisher.recv()) != b"\1" + mark:
                told.append(one)
            return sorted(told)
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
        assert told(world, b"mark 1") == [b"\1eu", b"\1eu.de", b"\1us.ny"]
        assert told(europe, b"mark 1") == [b"\1eu.", b"\1eu.de"]

        # What two subscribers are narrowed to is one subscription, until both are gone.
        for topic in (b"", b"mark 2"):
            two.subscribe(topic)
        assert told(world, b"mark 2") == [b"\1"]
        assert told(europe, b"mark 2") == [b"\1mark"]
        one.unsubscribe(b"eu")
        one.subscribe(b"mark 3")
        assert told(world, b"mark 3") == [b"\0eu"]
        assert told(europe, b"mark 3") == []

        for publisher, where in ((world, b"world"), (europe, b"europe")):
            publisher.send_multipart([b"eu.fr", where])
            publisher.send_multipart([b"us.ny", where])
        got = sorted(take(two, 3))
        assert got == [[b"eu.fr", b"europe"], [b"eu.fr", b"world"], [b"us.ny", b"world"]]
        assert one.recv_multipart() == [b"us.ny", b"world"]

        two.unsubscribe(b"")
        two.subscribe(b"mark 4")
        assert told(world, b"mark 4") == [b"\0"]
        assert told(europe, b"mark 4") == [b"\0eu.", b"\0mark"]
        "#,
    );
}

#[test]
fn a_chain_of_brokers_reaches_into_another_network() {
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
            told = {publisher.recv() for _ in range(3)}
            assert told == {b"\1a", b"\1b", b"\1c"}
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
