//! Late joiners: last values and replays, by the clients that the guide shows, and by those of the
//! ØMQ guide's last value cache.

use std::fs;
use std::path::Path;
use zmqd_tests::{Python, Scratch, Zmqd};

/// The block of a program that the guide shows.
fn program_of_guide(name: &str) -> Scratch {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/late.md");
    let page = fs::read_to_string(page).expect("a page of the guide");
    let mut blocks = page.split("```python\n").skip(1);
    let block = blocks.find(|block| block.starts_with(&format!("# {name}\n")));
    let block = block.expect("the program").split("```").next();
    Scratch::new("py", block.expect("a block"))
}

/// A forwarder that keeps messages, with these lines in its table.
fn keeping(lines: &str) -> (Zmqd, Scratch) {
    let file = Scratch::new(
        "toml",
        &format!(
            "[[proxy]]\nkind = \"forwarder\"\nfrontend.bind = \"tcp://127.0.0.1:*\"\n\
             backend.bind = \"tcp://127.0.0.1:*\"\n{lines}\n"
        ),
    );
    let endpoints = 2 + usize::from(lines.contains("bind"));
    let broker = Zmqd::start_expecting(endpoints, &["run", file.path()]);
    (broker, file)
}

/// What `pathopub` and `pathosub` of the ØMQ guide do: a thousand topics, each published once; and
/// a subscriber of one of them, which comes late.
#[test]
fn the_clients_of_the_last_value_cache_work_as_they_are() {
    let (broker, _file) = keeping("cache = {}");
    Python::beside(&broker).run(
        r#"
        publisher = context.socket(zmq.PUB)
        publisher.sndhwm = 0
        publisher.connect(frontend)
        witness = connect(zmq.SUB, backend, subscribe=[b"999"])
        settle([publisher], [witness])
        for topic in range(1000):
            publisher.send_multipart([b"%03d" % topic, b"Save Roger"])
        take(witness, 1)
        for topic in [0, 7, 999]:
            subscriber = context.socket(zmq.SUB)
            subscriber.connect(backend)
            subscriber.setsockopt(zmq.SUBSCRIBE, b"%03d" % topic)
            assert take(subscriber, 1) == [[b"%03d" % topic, b"Save Roger"]]
            assert is_silent(subscriber)
            publisher.send_multipart([b"%03d" % topic, b"Off with his head!"])
            assert take(subscriber, 1) == [[b"%03d" % topic, b"Off with his head!"]]
            subscriber.close()
        everything = connect(zmq.SUB, backend, subscribe=[b""])
        got = take(everything, 1000)
        assert [topic for topic, _ in got] == [b"%03d" % topic for topic in range(1000)]
        heads = [topic for topic, body in got if body == b"Off with his head!"]
        assert heads == [b"000", b"007", b"999"]
        "#,
    );
}

#[test]
fn values_come_before_the_stream_while_a_publisher_never_stops() {
    let (broker, _file) = keeping("cache = { topics = [\"cfg.\"] }");
    Python::beside(&broker).run(
        r#"
        publisher = connect(zmq.PUB, frontend, sndhwm=0)
        witness = connect(zmq.SUB, backend, subscribe=[b""], rcvhwm=0)
        settle([publisher], [witness])
        stop = threading.Event()

        def publish():
            number = 0
            while not stop.is_set():
                number += 1
                publisher.send_multipart([b"cfg.%d" % (number % 50), b"%d" % number])
                publisher.send_multipart([b"other", b"%d" % number])
                if number % 50 == 0:
                    time.sleep(0.001)  # a rate that every subscriber keeps up with

        thread = threading.Thread(target=publish)
        thread.start()
        take(witness, 100)
        witness.close()
        for _ in range(10):
            subscriber = connect(zmq.SUB, backend, subscribe=[b"cfg."], rcvhwm=0)
            got = [(topic, int(number)) for topic, number in take(subscriber, 1000)]
            first = {}
            for topic, number in got:
                last = first.setdefault(topic, number)
                assert number in (last, last + 50), (topic, last, number)
                first[topic] = number
            assert len(first) == 50
            subscriber.close()
        stop.set()
        thread.join()
        "#,
    );
}

#[test]
fn a_follower_that_is_killed_again_and_again_misses_nothing() {
    let (broker, _file) = keeping("replay = { bind = \"tcp://127.0.0.1:*\", sequence = true }");
    let program = program_of_guide("follow.py");
    let state = Scratch::absent("state");
    let mut python = Python::beside(&broker);
    python.set("program", program.path());
    python.set("state", state.path());
    python.set("replay", broker.endpoint("forwarder", "replay"));
    python.run(
        r#"
        import subprocess

        publisher = connect(zmq.XPUB, frontend, sndhwm=0)
        assert publisher.recv() == b"\x01", "the broker itself subscribes"
        total = 6000

        def publish():
            for number in range(total):
                publisher.send_multipart([b"t%d" % (number % 3), b"%d" % number])
                if number % 20 == 0:
                    time.sleep(0.005)  # longer than the lives of several followers

        thread = threading.Thread(target=publish)
        thread.start()
        bodies = []
        while thread.is_alive() or bodies[-1:] != [total - 1]:
            follower = subprocess.Popen(
                [sys.executable, program, state, backend, replay],
                stdout=subprocess.PIPE, text=True)
            until = time.monotonic() + 0.6
            while time.monotonic() < until or not bodies:
                line = follower.stdout.readline()
                bodies.append(int(line.split()[2]))
                if bodies[-1] == total - 1:
                    break
            follower.kill()
            rest, _ = follower.communicate()
            whole = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
            bodies.extend(int(line.split()[2]) for line in whole)
        thread.join()
        # Only the message at which it was killed may come twice.
        repeats = sum(one == two for one, two in zip(bodies, bodies[1:]))
        assert sorted(set(bodies)) == list(range(total)), "none is missing"
        assert len(bodies) == total + repeats, "in order"
        "#,
    );
}

#[test]
fn a_replay_answers_dealer_and_req() {
    let (broker, _file) = keeping("replay = { bind = \"tcp://127.0.0.1:*\", messages = 50 }");
    let mut python = Python::beside(&broker);
    python.set("replay", broker.endpoint("forwarder", "replay"));
    python.run(
        r#"
        publisher = connect(zmq.PUB, frontend)
        witness = connect(zmq.SUB, backend, subscribe=[b""])
        settle([publisher], [witness])
        before = time.time()
        for number in range(80):
            publisher.send_multipart([b"ab"[number % 2:][:1], b"%d" % number])
        take(witness, 80)
        dealer = connect(zmq.DEALER, replay)

        def ask(*frames):
            dealer.send_multipart(frames)
            got = []
            while True:
                number, *message = dealer.recv_multipart()
                got.append((int.from_bytes(number, "big"), message))
                if not message:
                    return got

        everything = ask(bytes(8))
        assert [message[1] for _, message in everything[:-1]] == [b"%d" % n for n in range(30, 80)]
        first = everything[0][0]
        assert [number for number, _ in everything] == list(range(first, first + 51))
        assert ask(b"-60", b"b") == [it for it in everything if it[1][:1] in ([b"b"], [])]
        assert ask(b"@%f" % before) == everything
        assert ask(b"@%f" % time.time()) == everything[-1:]
        asker = connect(zmq.REQ, replay)
        asker.send((first + 49).to_bytes(8, "big"))
        number, topic, body = asker.recv_multipart()
        assert (int.from_bytes(number, "big"), body) == (first + 49, b"79")
        "#,
    );
}

#[test]
fn the_other_cures_of_the_guide_work() {
    let file = Scratch::new(
        "toml",
        "[[proxy]]\nkind = \"forwarder\"\nfrontend.bind = \"tcp://127.0.0.1:*\"\n\
         backend = { bind = \"tcp://127.0.0.1:*\", xpub_welcome_msg = \"WELCOME\" }\n",
    );
    let broker = Zmqd::start_expecting(2, &["run", file.path()]);
    let (first, ready) = (program_of_guide("first.py"), program_of_guide("ready.py"));
    let mut python = Python::beside(&broker);
    python.set("first", first.path());
    python.set("ready", ready.path());
    python.run(
        r#"
        import subprocess

        publisher = subprocess.Popen([sys.executable, first, frontend])
        subscriber = connect(zmq.SUB, backend, subscribe=[b"news"])
        assert take(subscriber, 1) == [[b"news", b"the first message"]]
        assert publisher.wait(10) == 0
        shown = subprocess.run([sys.executable, ready, backend], capture_output=True, timeout=10)
        assert shown.stdout == b"WELCOME\n"
        "#,
    );
}

#[test]
fn values_come_back_after_a_restart() {
    let values = Scratch::absent("values");
    let lines = format!("cache = {{ path = \"{}\" }}", values.path());
    let (broker, _file) = keeping(&lines);
    Python::beside(&broker).run(
        r#"
        publisher = connect(zmq.PUB, frontend)
        subscriber = connect(zmq.SUB, backend, subscribe=[b""])
        settle([publisher], [subscriber])
        for number in range(300):
            publisher.send_multipart([b"%03d" % number, b"x" * (number * 100)])
        take(subscriber, 300)
        "#,
    );
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
    let (broker, _file) = keeping(&lines);
    Python::beside(&broker).run(
        r#"
        subscriber = connect(zmq.SUB, backend, subscribe=[b"1", b"299"])
        wanted = [number for number in range(300) if 100 <= number < 200] + [299]
        got = take(subscriber, len(wanted))
        assert got == [[b"%03d" % number, b"x" * (number * 100)] for number in wanted]
        "#,
    );
}
