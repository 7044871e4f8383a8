//! `zmqd replay` into pyzmq and into zmqd, from recordings that `zmqd sniff` made.

use zmqd_tests::raw::{self, Raw};
use zmqd_tests::{ANY, Finished, Python, Scratch, Stopwatch, Zmqd, vacant_endpoint};

/// Records the list `messages` of Python, sent by a socket that acts as a capture.
#[track_caller]
fn record(python: &mut Python) -> Scratch {
    let file = Scratch::absent("zrec");
    python.run("source = bind(zmq.PUSH); count = len(messages)");
    let (endpoint, count) = (
        python.ask::<String>("last_endpoint(source)"),
        python.ask::<String>("count"),
    );
    let sniffer = Zmqd::start_expecting(
        0,
        &[
            "sniff",
            &endpoint,
            "--socket",
            "PULL",
            "--record",
            file.path(),
            "--count",
            &count,
        ],
    );
    python.run("for message in messages: source.send_multipart(message)");
    let Finished { code, stderr, .. } = sniffer.wait();
    assert_eq!(code, Some(0), "{stderr}");
    file
}

/// Replays with these arguments while Python executes `block`; returns the last line of the log.
#[track_caller]
fn replay(file: &Scratch, arguments: &[&str], python: &mut Python, block: &str) -> String {
    let player = Zmqd::start_expecting(0, &[&["replay", file.path()], arguments].concat());
    python.run(block);
    let Finished { code, stderr, .. } = player.wait();
    assert_eq!(code, Some(0), "{stderr}");
    stderr.lines().last().expect("a last line").to_owned()
}

#[test]
fn work_goes_to_a_sink_in_order_and_whole() {
    let mut python = Python::new();
    python.run(
        "kinds = [(b'%d' % n, bytes(n % 300), b'', b'x' * (n % 7 * 20_000)) for n in range(1000)]\n\
         messages = [list(kind) for kind in kinds] + [[b'y' * 5_000_000]]",
    );
    let file = record(&mut python);
    python.run("sink = bind(zmq.PULL, rcvhwm=10)");
    let endpoint: String = python.ask("last_endpoint(sink)");
    let last = replay(
        &file,
        &["--to", &endpoint, "--socket", "push", "--max"],
        &mut python,
        "assert take(sink, 1001) == messages",
    );
    assert!(last.contains(" 1001 messages sent in "), "{last}");
}

#[test]
fn publications_reach_every_waiting_subscriber() {
    let mut python = Python::new();
    python.run("messages = [[b'in', b'topic %d' % (n % 2), b'%d' % n] for n in range(200)]");
    let file = record(&mut python);
    let endpoint = vacant_endpoint();
    python.set("endpoint", &endpoint);
    replay(
        &file,
        &[
            "--to",
            &format!("@{endpoint}"),
            "--socket",
            "PUB",
            "--peers",
            "2",
            "--max",
        ],
        &mut python,
        r#"
        half = dial(zmq.SUB, endpoint, subscribe=b"topic 1")
        whole = dial(zmq.SUB, endpoint, subscribe=[b"topic 0", b"topic 1"])
        published = [message[1:] for message in messages]
        assert take(half, 100) == published[1::2]
        assert take(whole, 200) == published
        "#,
    );
    // Through a forwarder, whose subscriber filters too.
    let broker = Zmqd::forwarder(&[]);
    python.set("backend", broker.backend());
    python.run(
        "subscriber, publisher = connect(zmq.SUB, backend, subscribe=b'topic 0'), None\n\
         received = in_background(take, subscriber, 100)",
    );
    python.set("frontend", broker.frontend());
    python.run(
        "publisher = connect(zmq.PUB, frontend)\n\
         probe = connect(zmq.SUB, backend)\nsettle([publisher], [probe])",
    );
    let arguments = ["--to", broker.frontend(), "--socket", "PUB", "--max"];
    replay(
        &file,
        &arguments,
        &mut python,
        "assert received.result() == published[0::2]",
    );
}

#[test]
fn requests_are_sent_again_and_replies_counted() {
    let mut python = Python::new();
    python.run(
        r#"
        messages = []
        for n in range(50):
            client = b"\0%04d" % n if n % 2 else b"client"
            messages.append([b"in", client, b"", b"question %d" % n])
            messages.append([b"out", client, b"", b"answer %d" % n])
        "#,
    );
    let file = record(&mut python);
    let broker = Zmqd::queue(&[]);
    python.set("backend", broker.backend());
    python.run("worker = connect(zmq.REP, backend)");
    let work = r#"
        for n in range(50):
            assert worker.recv_multipart() == [b"question %d" % n]
            worker.send(b"reply")
    "#;
    let to = [
        "--to",
        broker.frontend(),
        "--socket",
        "DEALER",
        "--wait",
        "20",
    ];
    let last = replay(&file, &[&to[..], &["--max"]].concat(), &mut python, work);
    assert!(
        last.contains(" 50 messages sent in ") && last.contains(" 50 replies"),
        "{last}"
    );
    // With the recorded identities, as a DEALER sends them in place of other ROUTERs.
    python.run("router = bind(zmq.ROUTER)");
    let endpoint: String = python.ask("last_endpoint(router)");
    replay(
        &file,
        &[
            "--to",
            &endpoint,
            "--socket",
            "DEALER",
            "--wait",
            "0",
            "--max",
            "--keep-identity",
            "--direction",
            "out",
        ],
        &mut python,
        "assert [message[1:] for message in take(router, 50)] == [m[1:] for m in messages[1::2]]",
    );
}

#[test]
fn replay_keeps_the_recorded_pace_or_speeds_it_up() {
    let mut python = Python::new();
    python.run("messages = []");
    let file = Scratch::absent("zrec");
    // Three messages with at least 300 ms between the first and the last, by Python's clock.
    python.run("source = bind(zmq.PUSH)");
    let endpoint: String = python.ask("last_endpoint(source)");
    let sniffer = Zmqd::start_expecting(
        0,
        &[
            "sniff",
            &endpoint,
            "--socket",
            "PULL",
            "--record",
            file.path(),
            "--count",
            "3",
        ],
    );
    python.run(
        r#"
        for n in range(3):
            source.send(b"%d" % n)
            is_silent(socket(zmq.PULL), 150)
        "#,
    );
    assert_eq!(sniffer.wait().code, Some(0));
    python.run("sink = bind(zmq.PULL)");
    let endpoint: String = python.ask("last_endpoint(sink)");
    let to = ["--to", &*endpoint, "--socket", "PUSH"];
    let block = "assert take(sink, 3) == [[b'0'], [b'1'], [b'2']]";
    let watch = Stopwatch::start();
    replay(&file, &to, &mut python, block);
    let elapsed = watch.elapsed().as_millis();
    assert!(elapsed >= 250, "the replay took only {elapsed} ms");
    // A millionth of the pace would take days.
    replay(
        &file,
        &[&to[..], &["--speed", "1e6"]].concat(),
        &mut python,
        block,
    );
}

#[test]
fn a_lost_connection_is_a_failure() {
    let mut python = Python::new();
    python.run("messages = [[b'x' * 100_000]] * 100");
    let file = record(&mut python);
    python.run("sink = bind(zmq.PULL, rcvhwm=1)");
    let endpoint: String = python.ask("last_endpoint(sink)");
    let player = Zmqd::start_expecting(
        0,
        &[
            "replay",
            file.path(),
            "--to",
            &endpoint,
            "--socket",
            "PUSH",
            "--max",
        ],
    );
    python.run("sink.recv(); sink.close()");
    let Finished { code, stderr, .. } = player.wait();
    assert_eq!(code, Some(1), "{stderr}");
    let sentence = stderr.lines().last().expect("a last line");
    assert!(
        sentence.starts_with("zmqd: the connection ended after "),
        "{sentence}"
    );
    let nowhere = vacant_endpoint();
    let refused = Zmqd::finish(&["replay", file.path(), "--to", &nowhere, "--socket", "PUB"]);
    assert_eq!(refused.code, Some(1));
    let expected = format!("zmqd: cannot connect to {nowhere}: Connection refused");
    assert!(refused.stderr.contains(&expected), "{}", refused.stderr);
}

#[test]
fn a_wrong_socket_type_is_reported() {
    let mut python = Python::new();
    python.run("messages = [[b'x']]");
    let file = record(&mut python);
    let broker = Zmqd::start(&["queue", "--frontend", ANY, "--backend", ANY]);
    let finished = Zmqd::finish(&[
        "replay",
        file.path(),
        "--to",
        broker.frontend(),
        "--socket",
        "PUSH",
    ]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("PUSH"), "{}", finished.stderr);
}

/// After the last message nothing is sent any more: an answer would fail, and the replay with it.
#[test]
fn pings_at_the_end_do_no_harm() {
    let mut python = Python::new();
    python.run("messages = [[b'x']]");
    let file = record(&mut python);
    let (listener, endpoint) = raw::listen();
    let replay = ["replay", file.path(), "--to", &endpoint, "--socket", "PUSH"];
    let player = Zmqd::start_expecting(0, &replay);
    let mut sink = Raw::accept(&listener);
    sink.handshake("PULL");
    assert_eq!(sink.read_frame(), b"x");
    assert_eq!(sink.read_until_closed(), b"");
    let ping = raw::frame(raw::COMMAND, b"\x04PING\0\0");
    for _ in 0..10_000 {
        sink.send(&ping).expect("the replay reads on");
    }
    drop(sink);
    let Finished { code, stderr, .. } = player.wait();
    assert_eq!(code, Some(0), "{stderr}");
}
