//! The forwarder (XSUB/XPUB): publications reach subscribers, and subscriptions publishers.

use zmqd_tests::{Python, Zmqd};

#[test]
fn many_publishers_many_subscribers_many_topics() {
    let broker = Zmqd::forwarder(&[]);
    Python::beside(&broker).run(
        r#"
        wanted = [[b"a"], [b"a", b"b"], [b"b", b"cc"], [b"c"], [b"cc", b"d", b"nothing"]]
        topics = [b"a", b"b", b"c", b"cc", b"d", b"dd", b"e"]
        publishers = [connect(zmq.PUB, frontend) for _ in range(4)]
        subscribers = [connect(zmq.SUB, backend, subscribe=prefixes) for prefixes in wanted]
        settle(publishers, subscribers)
        for number in range(50):
            for p, publisher in enumerate(publishers):
                for topic in topics:
                    publisher.send_multipart([topic, b"%d" % p, b"%d" % number])
        for subscriber, prefixes in zip(subscribers, wanted):
            matching = [topic for topic in topics if topic.startswith(tuple(prefixes))]
            got = take(subscriber, len(matching) * len(publishers) * 50)
            for p in range(len(publishers)):
                mine = [(topic, int(number)) for topic, source, number in got if int(source) == p]
                assert mine == [(topic, number) for number in range(50) for topic in matching]
            assert is_silent(subscriber)
        "#,
    );
}

#[test]
fn a_late_publisher_gets_every_subscription_once() {
    let broker = Zmqd::forwarder(&[]);
    Python::beside(&broker).run(
        r#"
        topics = {b"%d" % number for number in range(500)}
        subscribers = [connect(zmq.SUB, backend, subscribe=sorted(topics)) for _ in range(3)]
        for _ in range(3):
            publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
            changes = [publisher.recv() for _ in topics]
            assert {b"\1" + topic for topic in topics} == set(changes)
            for topic in sorted(topics):
                publisher.send_multipart([topic, b"news"])
            wanted = [[topic, b"news"] for topic in sorted(topics)]
            for subscriber in subscribers:
                assert take(subscriber, 500) == wanted
            assert is_silent(publisher)
            publisher.close()
        "#,
    );
}

#[test]
fn only_the_first_subscription_and_the_last_cancel_go_upstream() {
    let broker = Zmqd::forwarder(&[]);
    let mut python = Python::beside(&broker);
    for option in ["xpub_verbose", "xpub_verboser"] {
        python.set("option", option);
        python.run(
            r#"
            publisher = connect(zmq.XPUB, frontend, **{option: 1})
            one, two = connect(zmq.SUB, backend), connect(zmq.SUB, backend)

            def change():
                return publisher.recv()

            one.subscribe(b"topic")
            assert change() == b"\1topic"
            two.subscribe(b"topic")
            two.subscribe(b"topical")
            assert change() == b"\1topical"
            two.subscribe(b"topic")
            two.subscribe(b"")
            assert change() == b"\1"
            one.unsubscribe(b"topic")
            one.subscribe(b"next")
            assert change() == b"\1next"
            two.unsubscribe(b"topic")  # subscribed twice, still wanted
            two.subscribe(b"afterwards")
            assert change() == b"\1afterwards"
            two.unsubscribe(b"topic")
            assert change() == b"\0topic"
            two.unsubscribe(b"")
            assert change() == b"\0"
            two.unsubscribe(b"topical")
            assert change() == b"\0topical"
            one.unsubscribe(b"next")
            assert change() == b"\0next"
            two.unsubscribe(b"afterwards")
            assert change() == b"\0afterwards"
            publisher.close()
            "#,
        );
    }
}

#[test]
fn subscriptions_of_a_killed_subscriber_are_cancelled() {
    let broker = Zmqd::forwarder(&[]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, xpub_verboser=1)
        stays = connect(zmq.SUB, backend, subscribe=[b"shared", b"own"])
        assert {publisher.recv(), publisher.recv()} == {b"\1shared", b"\1own"}
        "#,
    );
    let mut victim = Python::beside(&broker);
    victim.run("sub = connect(zmq.SUB, backend, subscribe=[b'shared', b'x', b'x/y', b''])");
    python.run("assert {publisher.recv() for _ in range(3)} == {b'\\1x', b'\\1x/y', b'\\1'}");
    victim.kill();
    python.run(
        r#"
        assert {publisher.recv() for _ in range(3)} == {b"\0x", b"\0x/y", b"\0"}
        publisher.send(b"shared news")
        assert stays.recv() == b"shared news"
        assert is_silent(publisher)
        "#,
    );
}

#[test]
fn xsub_messages_are_subscriptions() {
    let broker = Zmqd::forwarder(&[]);
    Python::beside(&broker).run(
        r#"
        publisher, subscriber = connect(zmq.XPUB, frontend), connect(zmq.XSUB, backend)
        subscriber.send(b"\1topic")
        assert publisher.recv() == b"\1topic"
        publisher.send_multipart([b"other", b"not wanted"])
        publisher.send_multipart([b"topic", b"wanted"])
        assert subscriber.recv_multipart() == [b"topic", b"wanted"]
        subscriber.send(b"\1")
        assert publisher.recv() == b"\1"
        publisher.send_multipart([b"other", b"wanted"])
        assert subscriber.recv_multipart() == [b"other", b"wanted"]
        subscriber.send(b"\0")
        subscriber.send(b"\0topic")
        assert take(publisher, 2) == [[b"\0"], [b"\0topic"]]
        subscriber.send(b"\1more")
        assert publisher.recv() == b"\1more"
        publisher.send(b"topic")
        publisher.send(b"more")
        assert subscriber.recv() == b"more"
        "#,
    );
}

#[test]
fn other_messages_of_subscribers_reach_every_publisher() {
    let broker = Zmqd::forwarder(&[]);
    Python::beside(&broker).run(
        r#"
        publishers = [connect(zmq.XPUB, frontend) for _ in range(2)]
        subscriber = connect(zmq.XSUB, backend)
        subscriber.send(b"\1topic")
        for publisher in publishers:
            assert publisher.recv() == b"\1topic"
        messages = [[b"hello"], [b"\2", b"", b"two parts more"], [b""], [b"bye"]]
        for message in messages:
            subscriber.send_multipart(message)
        for publisher in publishers:
            assert take(publisher, 4) == messages
        "#,
    );
}

#[test]
fn topics_of_boundary_lengths() {
    let broker = Zmqd::forwarder(&[]);
    Python::beside(&broker).run(
        r#"
        publisher = connect(zmq.XPUB, frontend)
        lengths = (0, 1, 2, 244, 245, 246, 247, 253, 254, 255, 256, 257, 1000, 4096)
        for kind in (zmq.SUB, zmq.XSUB):
            for topic in [bytes(length) for length in lengths] + [b"\xff" * 300]:
                subscriber = connect(kind, backend)
                if kind == zmq.SUB:
                    subscriber.subscribe(topic)
                else:
                    subscriber.send(b"\1" + topic)
                assert publisher.recv() == b"\1" + topic
                if topic:
                    publisher.send(topic[:-1])
                publisher.send_multipart([topic, b"exact"])
                publisher.send_multipart([topic + b"\0longer"])
                assert take(subscriber, 2) == [[topic, b"exact"], [topic + b"\0longer"]]
                if kind == zmq.SUB:
                    subscriber.unsubscribe(topic)
                else:
                    subscriber.send(b"\0" + topic)
                assert publisher.recv() == b"\0" + topic
                subscriber.close()
        "#,
    );
}

#[test]
fn only_the_first_frame_is_matched() {
    let broker = Zmqd::forwarder(&[]);
    Python::beside(&broker).run(
        r#"
        publisher, subscriber = connect(zmq.PUB, frontend), connect(zmq.SUB, backend)
        subscriber.subscribe(b"topic")
        settle([publisher], [subscriber])
        messages = [[b"other", b"topic"], [b"topic", b"other", b""], [b"", b"topic"],
                    [b"topi", b"c"], [b"topic/deeper", b"", b"topic"], [b"topic"], [b"\1topic"]]
        for message in messages:
            publisher.send_multipart(message)
        assert take(subscriber, 3) == [messages[1], messages[4], messages[5]]
        assert is_silent(subscriber)
        "#,
    );
}

#[test]
fn a_slow_subscriber_misses_whole_messages_and_the_others_none() {
    let broker = Zmqd::forwarder(&["--set", "sndhwm=100"]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        publisher = connect(zmq.PUB, frontend, sndhwm=0)
        slow = connect(zmq.SUB, backend, subscribe=b"topic", rcvhwm=1, rcvbuf=65536)
        quick = [connect(zmq.SUB, backend, subscribe=b"topic", rcvhwm=0) for _ in range(3)]
        settle([publisher], [slow, *quick])

        def publish(numbers):
            for number in numbers:
                body = b"%d" % number * 4000
                publisher.send_multipart([b"topic", b"%d" % number, b"", body, digest([body])])

        def whole(message):
            topic, number, empty, body, fingerprint = message
            assert (topic, empty, digest([body])) == (b"topic", b"", fingerprint)
            return int(number)

        # In batches below the high-water mark. The quick subscribers take each before the next.
        for first in range(0, 2000, 50):
            publish(range(first, first + 50))
            for subscriber in quick:
                got = [whole(message) for message in take(subscriber, 50)]
                assert got == list(range(first, first + 50))
        "#,
    );
    let rss = broker.rss_bytes();
    assert!(
        rss < 32 << 20,
        "{rss} bytes resident with one slow subscriber"
    );
    python.run(
        r#"
        numbers = []
        def caught_up():
            while slow.poll(10):
                numbers.append(whole(slow.recv_multipart()))
            if numbers[-1] >= 2000:
                return True
            publish([2000 + len(numbers)])

        wait_until("the slow subscriber to catch up", caught_up)
        old = [number for number in numbers if number < 2000]
        assert numbers == sorted(set(numbers)), numbers
        assert 50 <= len(old) < 2000, f"{len(old)} of 2000 arrived"
        "#,
    );
}

#[test]
fn a_publisher_waits_for_its_subscribers_by_a_queue() {
    let broker = Zmqd::forwarder(&[]);
    let queue = Zmqd::queue(&[]);
    let mut publisher = Python::beside(&broker);
    let mut subscribers = Python::beside(&broker);
    publisher.set("answers", queue.backend());
    subscribers.set("questions", queue.frontend());
    publisher.begin(
        r#"
        publisher, answers = connect(zmq.PUB, frontend), connect(zmq.REP, answers)
        ready = set()
        while len(ready) < 3:
            publisher.send(b"hello")
            while answers.poll(5):
                ready.add(answers.recv())
                answers.send(b"noted")
        for number in range(500):
            publisher.send_multipart([b"data", b"%d" % number])
        "#,
    );
    subscribers.run(
        r#"
        def subscriber(name):
            topics = connect(zmq.SUB, backend, subscribe=[b"data", b"hello"])
            assert topics.recv() == b"hello"
            yes = connect(zmq.REQ, questions)
            yes.send(name)
            assert yes.recv() == b"noted"
            while (message := topics.recv_multipart()) == [b"hello"]:
                pass
            assert [message, *take(topics, 499)] == [[b"data", b"%d" % n] for n in range(500)]

        threads = [in_background(subscriber, name) for name in (b"one", b"two", b"three")]
        [thread.result() for thread in threads]
        "#,
    );
    publisher.finish();
}
