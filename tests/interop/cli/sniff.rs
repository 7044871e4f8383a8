//! `zmqd sniff` with captures of pyzmq and of zmqd, and its recordings when it is killed or the
//! disk is full.

use std::fs;

use zmqd_tests::zmqd::binary;
use zmqd_tests::{ANY, Finished, Python, Scratch, Stopwatch, Zmqd, wait_until};

/// Functions for the blocks of Python below, beside those of `py/peer.py`.
const FUNCTIONS: &str = r#"
    import json
    import subprocess
    from zmq.devices import ThreadMonitoredQueue, ThreadProxy

    def repeat(message, made):
        "Publishes again and again until `stopping` is set."
        def publish():
            while not stopping.is_set():
                made.send_multipart(message)
                time.sleep(0.002)
        stopping = threading.Event()
        return stopping, in_background(publish)

    def bound(device):
        "Binds the three sockets of a device to free ports."
        host = "tcp://127.0.0.1"
        binds = [getattr(device, f"bind_{side}_to_random_port") for side in ("in", "out", "mon")]
        return [f"{host}:{bind(host)}" for bind in binds]

    def monitored():
        "A MonitoredQueue of pyzmq, with a client called anna, an anonymous one and a worker."
        global frontend, backend, capture, anna, anonymous, worker
        queue = ThreadMonitoredQueue(zmq.ROUTER, zmq.DEALER, zmq.PUB, b"in", b"out")
        frontend, backend, capture = bound(queue)
        queue.start()
        worker = connect(zmq.REP, backend)
        anna = connect(zmq.REQ, frontend, identity=b"anna")
        anonymous = connect(zmq.REQ, frontend)

    def ask(client, *question):
        client.send_multipart(question)
        worker.send_multipart([part.upper() for part in worker.recv_multipart()])
        return client.recv_multipart()
"#;

fn python() -> Python {
    let mut python = Python::new();
    python.run(FUNCTIONS);
    python
}

/// A sniffer with these arguments, connected.
#[track_caller]
fn sniff(arguments: &[&str]) -> Zmqd {
    let sniffer = Zmqd::start_expecting(0, &[&["sniff"], arguments].concat());
    drop(sniffer.wait_log(": connected"));
    sniffer
}

/// Sends requests until the sniffer shows one: its subscription arrives a moment after it has
/// connected.
#[track_caller]
fn wake(python: &mut Python, sniffer: &Zmqd) {
    wait_until("the sniffer to show a message", || {
        python.run("ask(anna, b'awake?')");
        (!sniffer.lines().is_empty()).then_some(())
    });
}

#[track_caller]
fn finish(sniffer: Zmqd) -> Finished {
    let finished = sniffer.wait();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished
}

/// The lines without those of [`wake`].
fn lines_of(stdout: &str) -> Vec<&str> {
    let awake = |line: &&str| !line.to_ascii_lowercase().contains("awake?");
    stdout.lines().filter(awake).collect()
}

#[test]
fn sniff_shows_a_monitored_queue_of_pyzmq() {
    let mut python = python();
    python.run("monitored()");
    let capture: String = python.ask("capture");
    let text = sniff(&[&capture]);
    let json = sniff(&[&capture, "--json", "--identity", "anna"]);
    let outgoing = sniff(&[&capture, "--direction", "out"]);
    for sniffer in [&text, &json, &outgoing] {
        wake(&mut python, sniffer);
    }
    python.run("ask(anna, b'topic', b'{\"a\": 1}', bytes([255] * 70)); ask(anonymous, b'bye')");
    let mut outputs = [text, json, outgoing].map(|sniffer| {
        wait_until("the last reply to be shown", || {
            let lines = sniffer.lines();
            python.run("ask(anna, b'awake?')");
            let is_awake = lines
                .iter()
                .any(|line| line.to_lowercase().contains("awake?"));
            let has_last = lines
                .iter()
                .any(|line| line.contains("BYE") || line.contains("TOPIC"));
            (is_awake && has_last).then_some(())
        });
        sniffer.signal("TERM");
        finish(sniffer).stdout
    });
    let [text, json, outgoing] = &mut outputs;
    let text = lines_of(text);
    let hex = "ff".repeat(64);
    for (line, expected) in text.iter().zip([
        format!(" in  anna [][topic][{{\"a\":1}}][0x{hex}…(70)]"),
        format!(" out anna [][TOPIC][{{\"A\":1}}][0x{hex}…(70)]"),
        " [][bye]".to_owned(),
        " [][BYE]".to_owned(),
    ]) {
        assert!(line.ends_with(&expected), "{line}\n{expected}");
    }
    assert!(
        text[2].contains(" in  0x00"),
        "no generated identity: {}",
        text[2]
    );
    assert_eq!(lines_of(outgoing).len(), 2, "{outgoing}");
    assert!(
        outgoing.lines().all(|line| line.contains("Z out ")),
        "{outgoing}"
    );
    python.set("lines", &lines_of(json).join("\n"));
    python.run(
        r#"
        question, reply = [json.loads(line) for line in lines.splitlines()]
        assert question["source"] == capture and question["identity"] == "anna"
        assert (question["direction"], reply["direction"]) == ("in", "out")
        assert question["frames"] == [
            {"text": ""}, {"text": "topic"}, {"json": {"a": 1}}, {"hex": "ff" * 70}
        ]
        assert question["size"] == 4 + 5 + 8 + 70
        assert time.time_ns() - 60e9 < question["time_ns"] <= reply["time_ns"] <= time.time_ns()
        "#,
    );
}

#[test]
fn direction_narrows_the_subscription() {
    let mut python = python();
    for (options, expected) in [
        (&[][..], "b'\\x01'"),
        (&["--direction", "in"], "b'\\x01in'"),
        (&["--direction", "in", "--in-prefix", "<"], "b'\\x01<'"),
        (&["--direction", "out", "--out-prefix", "<"], "b'\\x01<'"),
    ] {
        python.run("publisher = bind(zmq.XPUB)");
        let endpoint: String = python.ask("last_endpoint(publisher)");
        let sniffer = sniff(&[&[&*endpoint, "--count", "1"][..], options].concat());
        python.run(&format!("assert publisher.recv() == {expected}"));
        python
            .run("publisher.send_multipart([b'in', b'x']); publisher.send_multipart([b'<', b'x'])");
        let stdout = finish(sniffer).stdout;
        assert!(stdout.ends_with(" - [x]"), "{stdout}");
    }
    python.run("publisher = bind(zmq.XPUB)");
    let endpoint: String = python.ask("last_endpoint(publisher)");
    let sniffer = sniff(&[
        &endpoint,
        "--format",
        "monitored",
        "--envelope",
        "routed",
        "--count",
        "1",
    ]);
    python.run(
        "publisher.recv(); publisher.send(b'x'); publisher.send_multipart([b'in', b'a', b'b'])",
    );
    let stdout = finish(sniffer).stdout;
    assert!(stdout.ends_with("Z in  a [b]"), "{stdout}");
}

#[test]
fn sniff_shows_a_proxy_of_pyzmq_and_any_publisher() {
    let mut python = python();
    python.run(
        r#"
        proxy = ThreadProxy(zmq.PULL, zmq.PUSH, zmq.PUB)
        frontend, backend, capture = bound(proxy)
        proxy.start()
        sink, source = connect(zmq.PULL, backend), connect(zmq.PUSH, frontend)
        path = f"ipc://@zmqd-sniff-{os.getpid()}"
        publisher = bind(zmq.PUB, path)
        "#,
    );
    for (endpoint, made) in [("capture", "source"), ("path", "publisher")] {
        let endpoint: String = python.ask(endpoint);
        let sniffer = sniff(&[&endpoint, "--format", "proxy", "--count", "2"]);
        python.run(&format!(
            "stopping, thread = repeat([b'in', b'work'], {made})"
        ));
        let stdout = finish(sniffer).stdout;
        python.run("stopping.set(); thread.result()");
        for line in stdout.lines() {
            assert!(line.ends_with("Z -   - [in][work]"), "{line}");
        }
    }
}

#[test]
fn follow_shows_the_time_between_two_brokers() {
    let second = Zmqd::queue(&["--capture", ANY]);
    let behind = format!(">{}", second.frontend());
    let first = Zmqd::start_expecting(
        2,
        &[
            "queue",
            "--frontend",
            ANY,
            "--backend",
            &behind,
            "--capture",
            ANY,
        ],
    );
    let captures = [&first, &second].map(|broker| {
        let proxy = "queue";
        broker.endpoint(proxy, "capture").to_owned()
    });
    let [near, far] = &captures;
    let mut python = python();
    python.set("frontend", first.frontend());
    python.set("backend", second.backend());
    python.run(
        "worker, anna = connect(zmq.REP, backend), connect(zmq.REQ, frontend, identity=b'anna')",
    );
    let sniffer = Zmqd::start_expecting(0, &["sniff", near, far, "--follow", "trace-"]);
    // Each of the two captures is subscribed to once it shows a request.
    wait_until("both captures to show a message", || {
        python.run("ask(anna, b'trace-0')");
        let lines = sniffer.lines();
        let is_shown = |capture: &String| lines.iter().any(|line| line.contains(capture));
        captures.iter().all(is_shown).then_some(())
    });
    python.run("ask(anna, b'other'); ask(anna, b'x', b'the trace-17')");
    let hops = wait_until("two hops", || {
        let lines = sniffer.lines();
        let hops = lines.into_iter().filter(|line| line.contains("trace-17"));
        let hops: Vec<String> = hops.collect();
        (hops.len() == 2).then_some(hops)
    });
    // They are so close to each other that the second may arrive first.
    for capture in [near, far] {
        let hop = hops
            .iter()
            .find(|hop| hop.contains(&format!(" {capture} in  ")));
        let hop = hop.unwrap_or_else(|| panic!("{capture}: {hops:?}"));
        assert!(
            hop.contains(" +") && hop.contains("[x][the trace-17]"),
            "{hop}"
        );
    }
    assert!(!sniffer.lines().iter().any(|line| line.contains("other")));
}

#[test]
fn sniff_listens_for_captures_of_every_socket_type() {
    let mut python = python();
    for (theirs, ours) in [
        ("PUSH", "PULL"),
        ("PAIR", "PAIR"),
        ("DEALER", "DEALER"),
        ("DEALER", "ROUTER"),
        ("PUB", "SUB"),
    ] {
        let sniffer = Zmqd::start_expecting(
            0,
            &["sniff", "--bind", ANY, "--socket", ours, "--count", "1"],
        );
        let line = sniffer.wait_log(": listening");
        let endpoint = line
            .split_whitespace()
            .find(|word| word.starts_with("tcp://"));
        let endpoint = endpoint
            .expect("an endpoint")
            .trim_end_matches(':')
            .to_owned();
        python.set("endpoint", &endpoint);
        python.run(&format!(
            "capture = connect(zmq.{theirs}, endpoint)\ncapture.sndtimeo = 100\n\
             stopping, thread = repeat([b'out', b'x'], capture)"
        ));
        let stdout = finish(sniffer).stdout;
        assert!(
            stdout.ends_with("Z out - [x]"),
            "{theirs} to {ours}: {stdout}"
        );
        python.run("stopping.set()\ntry: thread.result()\nexcept zmq.Again: pass\ncapture.close()");
    }
}

#[test]
fn sniff_reconnects_to_a_capture() {
    let mut python = python();
    python.run("publisher = bind(zmq.PUB)");
    let endpoint: String = python.ask("last_endpoint(publisher)");
    let sniffer = sniff(&[&endpoint]);
    for round in ["first", "second"] {
        python.run(&format!(
            "stopping, thread = repeat([b'{round}'], publisher)"
        ));
        wait_until("the message to be shown", || {
            let lines = sniffer.lines();
            lines.iter().any(|line| line.contains(round)).then_some(())
        });
        python.set("endpoint", &endpoint);
        python.run(
            "stopping.set(); thread.result(); publisher.close()\n\
             publisher = bind(zmq.PUB, endpoint)",
        );
    }
    drop(sniffer.wait_log("connecting again"));
    sniffer.signal("INT");
    finish(sniffer);
}

#[test]
fn an_unreachable_capture_is_a_failure() {
    let nowhere = zmqd_tests::vacant_endpoint();
    let finished = Zmqd::finish(&["sniff", &nowhere]);
    assert_eq!(finished.code, Some(1));
    let expected = format!("zmqd: cannot connect to {nowhere}: Connection refused");
    assert!(finished.stderr.contains(&expected), "{}", finished.stderr);
}

#[test]
fn stats_show_live_traffic() {
    let mut python = python();
    python.run("monitored()");
    let capture: String = python.ask("capture");
    let sniffer = sniff(&[&capture, "--stats", "--json"]);
    let is_complete = |line: &String| line.contains("\"round_trips\"") && line.contains("anna");
    wait_until("a second with a reply", || {
        python.run("ask(anna, b'x')");
        sniffer.lines().iter().any(is_complete).then_some(())
    });
    sniffer.signal("TERM");
    python.set("lines", &finish(sniffer).stdout);
    python.run(
        r#"
        intervals = [json.loads(line) for line in lines.splitlines()]
        *seconds, total = intervals
        assert total["of"] == "total" and all(one["of"] in ("second", "rest") for one in seconds)
        for way in ("in", "out"):
            for what in ("messages", "bytes"):
                assert total[way][what] == sum(one[way][what] for one in seconds)
        (identity,) = total["identities"]
        assert identity["identity"] == "anna" and total["identity_count"] == 1
        trips = total["round_trips"]
        assert identity["round_trips"] == trips
        assert 0 < trips["mean_ns"] <= trips["max_ns"] < 25e9
        assert total["out"]["messages"] - 1 <= trips["count"] <= total["out"]["messages"]
        "#,
    );
}

#[test]
fn colours_are_for_terminals() {
    let file = Scratch::absent("zrec");
    let mut python = python();
    python.run("publisher = bind(zmq.PUB)");
    let endpoint: String = python.ask("last_endpoint(publisher)");
    let sniffer = sniff(&[&endpoint, "--count", "1", "--record", file.path()]);
    python.run("stopping, thread = repeat([b'in', b'hello'], publisher)");
    finish(sniffer);
    python.set("program", binary().to_str().expect("UTF-8"));
    python.set("file", file.path());
    python.run(
        r#"
        import pty
        stopping.set()

        def shown(**environment):
            ours, theirs = pty.openpty()
            child = subprocess.Popen(
                [program, "sniff", "--read", file], stdout=theirs, env={**os.environ, **environment}
            )
            os.close(theirs)
            text = b""
            try:
                while more := os.read(ours, 4096):
                    text += more
            except OSError:
                pass  # the end of a terminal
            assert child.wait() == 0
            os.close(ours)
            return text

        for name in ("NO_COLOR", "TERM"):
            os.environ.pop(name, None)
        assert b"\x1b[32min \x1b[0m" in shown(TERM="xterm") and b"\x1b" in shown()
        assert b"\x1b" not in shown(NO_COLOR="1", TERM="xterm")
        assert b"\x1b" not in shown(TERM="dumb")
        piped = subprocess.run([program, "sniff", "--read", file], stdout=subprocess.PIPE)
        assert b"\x1b" not in piped.stdout and b" in  - [hello]" in piped.stdout
        "#,
    );
}

/// The numbers of the messages in a recording, in order.
#[track_caller]
fn numbers(path: &str) -> (Vec<u64>, String) {
    let Finished {
        code,
        stderr,
        stdout,
        ..
    } = Zmqd::finish(&["sniff", "--read", path]);
    assert_eq!(code, Some(0), "{stderr}");
    let number = |line: &str| {
        let (_, last) = line
            .trim_end_matches(']')
            .rsplit_once('[')
            .expect("a frame");
        last.parse().expect("a number")
    };
    (stdout.lines().map(number).collect(), stderr)
}

/// Starts a sniffer that records what `source` in Python sends; `start` starts it with its
/// arguments.
fn record_numbers(python: &mut Python, path: &str, start: impl Fn(&[&str]) -> Zmqd) -> Zmqd {
    python.run("source = bind(zmq.PUSH, sndhwm=100); number = 0");
    let endpoint: String = python.ask("last_endpoint(source)");
    let sniffer = start(&["sniff", &endpoint, "--socket", "PULL", "--record", path]);
    drop(sniffer.wait_log(": connected"));
    sniffer
}

#[test]
fn a_killed_recorder_leaves_a_complete_recording() {
    let file = Scratch::absent("zrec");
    let mut python = python();
    let sniffer = record_numbers(&mut python, file.path(), |arguments| {
        Zmqd::start_expecting(0, arguments)
    });
    python.run("for number in range(5000): source.send(b'%d' % number)");
    // The sniffer writes all of them, without further messages and without a stop.
    wait_until("all messages to be in the file", || {
        (numbers(file.path()).0.len() == 5000).then_some(())
    });
    python.run(
        r#"
        def flood():
            global number
            try:
                while True:
                    number += 1
                    source.send(b"%d" % number)
            except zmq.Again:
                pass  # the sniffer was killed

        source.sndtimeo = 2000
        thread = in_background(flood)
        "#,
    );
    let size = fs::metadata(file.path())
        .expect("the recording exists")
        .len();
    wait_until("another megabyte", || {
        let now = fs::metadata(file.path())
            .expect("the recording exists")
            .len();
        (now > size + (1 << 20)).then_some(())
    });
    sniffer.kill();
    let (found, stderr) = numbers(file.path());
    assert!(found.len() > 10_000, "{} messages", found.len());
    let expected: Vec<u64> = (0..found.len() as u64).collect();
    assert_eq!(found, expected, "a gap, or another order");
    assert!(!stderr.contains("damaged"), "{stderr}");
    python.run("thread.result()");
}

#[test]
fn a_stopped_recorder_has_written_everything() {
    let file = Scratch::absent("zrec");
    let mut python = python();
    let sniffer = record_numbers(&mut python, file.path(), |arguments| {
        Zmqd::start_expecting(0, arguments)
    });
    python.run("for number in range(20_000): source.send(b'%d' % number)");
    wait_until("most of the messages to be written", || {
        (numbers(file.path()).0.len() > 19_000).then_some(())
    });
    sniffer.signal("INT");
    let finished = finish(sniffer);
    let (found, _) = numbers(file.path());
    let expected: Vec<u64> = (0..found.len() as u64).collect();
    assert_eq!(found, expected);
    let line = format!("{} messages recorded", found.len());
    assert!(finished.stderr.contains(&line), "{}", finished.stderr);
}

#[test]
fn a_full_disk_is_reported_and_survived() {
    let file = Scratch::absent("zrec");
    let mut python = python();
    let watch = Stopwatch::start();
    // A file of this process has at most so many blocks of 512 bytes.
    let sniffer = record_numbers(&mut python, file.path(), |arguments| {
        Zmqd::start_within("-f 100", arguments)
    });
    python.run("for number in range(5000): source.send(b'%d' % number)");
    drop(sniffer.wait_log("File too large"));
    // It goes on reading, so the source does not wait.
    python.run("for number in range(5000, 10_000): source.send(b'%d' % number)");
    sniffer.signal("TERM");
    let finished = sniffer.wait();
    assert_eq!(finished.code, Some(1));
    let lost = finished.stderr.lines().last().expect("a last line");
    assert!(lost.ends_with(" messages could not be recorded"), "{lost}");
    let seconds = watch.elapsed().as_secs();
    let reports = finished.stderr.matches("File too large").count() as u64;
    assert!(
        reports <= 1 + seconds,
        "more than one report a second: {}",
        finished.stderr
    );
    // The recording reports how many are missing between those it has.
    let (found, stderr) = numbers(file.path());
    let gaps = found.windows(2).map(|pair| pair[1] - pair[0] - 1);
    let missing = stderr.lines().filter_map(|line| {
        let (before, _) = line.split_once(" messages of ")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    });
    assert_eq!(found.first(), Some(&0));
    assert_eq!(gaps.sum::<u64>(), missing.sum::<u64>(), "{stderr}");
    assert!(
        !stderr.contains("damaged"),
        "a partial record was left: {stderr}"
    );
}
