//! The process: configuration, several proxies at once, signals, exit codes.

use std::net::TcpListener;
use std::time::Duration;

use zmqd_tests::{ANY, Python, Scratch, Stopwatch, Zmqd, wait_until};

/// One message through each kind of proxy.
const EXERCISE: &str = r#"
    def exercise(kind, frontend, backend):
        honest = Honest(kind, frontend, backend)
        honest.passes()
        honest.pause()
"#;

#[test]
fn the_default_configuration_serves_every_kind() {
    let printed = Zmqd::finish(&["run", "--print-default"]);
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    let mut text = printed.stdout;
    for port in 5559..=5564 {
        let fixed = format!("tcp://127.0.0.1:{port}");
        assert_eq!(
            text.matches(&fixed).count(),
            1,
            "{fixed} is not in the default file exactly once"
        );
        text = text.replace(&fixed, ANY);
    }
    let config = Scratch::new("toml", &text);
    let broker = Zmqd::start_expecting(6, &["run", config.path()]);
    let mut python = Python::new();
    python.run(EXERCISE);
    for kind in ["queue", "forwarder", "streamer"] {
        let (frontend, backend) = (
            broker.endpoint(kind, "frontend"),
            broker.endpoint(kind, "backend"),
        );
        python.run(&format!("exercise({kind:?}, {frontend:?}, {backend:?})"));
    }
}

#[test]
fn proxies_of_one_process_exchange_nothing() {
    let config = Scratch::new("toml", TWO_OF_A_KIND);
    let broker = Zmqd::start_expecting(6, &["run", config.path()]);
    let mut python = Python::new();
    for (name, endpoint) in [
        ("red_in", broker.endpoint("red", "frontend")),
        ("red_out", broker.endpoint("red", "backend")),
        ("blue_in", broker.endpoints("blue", "frontend")[0]),
        ("blue_in_too", broker.endpoints("blue", "frontend")[1]),
        ("blue_out", broker.endpoint("blue", "backend")),
    ] {
        python.set(name, endpoint);
    }
    python.run(
        r#"
        red, blue = connect(zmq.PULL, red_out), connect(zmq.PULL, blue_out)
        connect(zmq.PUSH, red_in).send(b"red")
        connect(zmq.PUSH, blue_in).send(b"blue")
        assert (red.recv(), blue.recv()) == (b"red", b"blue")
        connect(zmq.PUSH, blue_in_too).send(b"blue too")
        assert blue.recv() == b"blue too"
        assert is_silent(red)
        "#,
    );
}

const TWO_OF_A_KIND: &str = r#"
[[proxy]]
name = "red"
kind = "streamer"
frontend = { bind = ["tcp://127.0.0.1:0"] }
backend = { bind = ["tcp://127.0.0.1:0"] }

[[proxy]]
name = "blue"
kind = "streamer"
frontend = { bind = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"] }
backend = { bind = ["tcp://127.0.0.1:0"] }

[[proxy]]
name = "unused"
kind = "queue"
frontend = { bind = ["tcp://127.0.0.1:0"] }
backend = { connect = ["tcp://127.0.0.1:1"] }
"#;

/// A broker with 500 numbered messages of 16 KiB queued for one `sink` that does not read.
fn loaded(kind: &str, arguments: &[&str]) -> (Zmqd, Python) {
    let broker = Zmqd::proxy(kind, arguments);
    let mut python = Python::beside(&broker);
    python.set("kind", kind);
    python.run(
        r#"
        near, far = {"queue": (zmq.DEALER, zmq.DEALER), "forwarder": (zmq.PUB, zmq.SUB),
                     "streamer": (zmq.PUSH, zmq.PULL)}[kind]
        source = connect(near, frontend, sndhwm=0, linger=-1)
        sink = connect(far, backend, rcvhwm=1, rcvbuf=65536)
        if kind == "forwarder":
            sink.subscribe(b"topic")
            settle([source], [sink])
        for number in range(500):
            source.send_multipart([b"topic", b"%d" % number, bytes(16384)])
        source.close()
        "#,
    );
    // The source leaves once it has sent everything; the broker notices once it has read all.
    broker.wait_connections(1);
    (broker, python)
}

#[test]
fn sigterm_sends_the_queued_messages() {
    for kind in ["queue", "forwarder", "streamer"] {
        let (broker, mut python) = loaded(kind, &[]);
        broker.signal("TERM");
        python.run(
            r#"
            for number in range(500):
                assert sink.recv_multipart()[-3:] == [b"topic", b"%d" % number, bytes(16384)]
            "#,
        );
        let end = broker.wait();
        assert_eq!(end.code, Some(0), "{kind}: {}", end.stderr);
    }
}

#[test]
fn draining_ends_after_drain_timeout() {
    let (broker, _python) = loaded("streamer", &["--drain-timeout", "300"]);
    let watch = Stopwatch::start();
    broker.signal("TERM");
    let end = broker.wait();
    let elapsed = watch.elapsed();
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    // The default is 5 s.
    assert!(
        elapsed >= Duration::from_millis(300) && elapsed < Duration::from_secs(5),
        "ended after {elapsed:?}"
    );
}

#[test]
fn a_side_with_linger_0_drops_its_queues() {
    let arguments = ["--drain-timeout", "600000", "--set", "backend.linger=0"];
    for kind in ["queue", "forwarder", "streamer"] {
        let (broker, _python) = loaded(kind, &arguments);
        broker.signal("TERM");
        let end = broker.wait();
        assert_eq!(end.code, Some(0), "{kind}: {}", end.stderr);
        let said = "1 peer did not take them within 0 ms (linger)";
        let line = end.stderr.lines().find(|line| line.contains(said));
        let line = line.unwrap_or_else(|| panic!("{kind}: {}", end.stderr));
        assert!(
            line.contains(&format!("{kind} backend: dropped ")),
            "{line}"
        );
        let mut words = line.split(' ').skip_while(|word| *word != "of").skip(1);
        let bytes: u64 = words.next().and_then(|word| word.parse().ok()).expect(line);
        assert!(bytes > 0, "{line}");
    }
}

#[test]
fn a_side_drains_for_at_most_its_linger() {
    let arguments = ["--drain-timeout", "600000", "--set", "backend.linger=300"];
    let (broker, _python) = loaded("streamer", &arguments);
    let watch = Stopwatch::start();
    broker.signal("TERM");
    let end = broker.wait();
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    assert!(
        watch.elapsed() >= Duration::from_millis(300),
        "ended after {:?}",
        watch.elapsed()
    );
    assert!(
        end.stderr
            .contains("1 peer did not take them within 300 ms (linger)"),
        "{}",
        end.stderr
    );
}

#[test]
fn linger_0_of_one_side_costs_the_other_nothing() {
    let (broker, mut python) = loaded("streamer", &["--set", "frontend.linger=0"]);
    broker.signal("TERM");
    python.run(
        r#"
        for number in range(500):
            assert sink.recv_multipart() == [b"topic", b"%d" % number, bytes(16384)]
        "#,
    );
    let end = broker.wait();
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    assert!(!end.stderr.contains("queued messages"), "{}", end.stderr);
}

#[test]
fn messages_without_a_receiver_are_reported_at_the_end() {
    let (broker, mut python) = loaded("streamer", &["--drain-timeout", "600000"]);
    python.run("sink.close()");
    broker.wait_connections(0);
    broker.signal("TERM");
    let end = broker.wait();
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    assert!(
        end.stderr
            .contains(" bytes: no peer is connected to take them"),
        "{}",
        end.stderr
    );
}

#[test]
fn a_second_signal_ends_the_draining() {
    let (mut broker, _python) = loaded("streamer", &["--drain-timeout", "600000"]);
    wait_until("the end of the broker", || {
        broker.signal("TERM");
        broker.exited()
    });
    let end = broker.wait();
    assert_eq!(end.signal, None, "a signal ended it: {}", end.stderr);
}

#[test]
fn signals_end_an_idle_broker_at_once() {
    for signal in ["INT", "TERM"] {
        let broker = Zmqd::queue(&["--drain-timeout", "600000"]);
        let mut python = Python::beside(&broker);
        python.run("honest = Honest('queue', frontend, backend); honest.passes(); honest.pause()");
        broker.signal(signal);
        let end = broker.wait();
        assert_eq!(end.code, Some(0), "SIG{signal}: {}", end.stderr);
    }
}

#[test]
fn sighup_sigusr1_and_sigusr2_change_nothing() {
    let broker = Zmqd::queue(&[]);
    let mut python = Python::beside(&broker);
    python.run("honest = Honest('queue', frontend, backend); honest.passes()");
    for (signal, expected) in [
        ("HUP", "reloaded command line, with 0 changes"),
        ("USR1", "SIGUSR1 has no effect"),
        ("HUP", "only its key files are read again"),
        ("USR2", ""),
    ] {
        broker.signal(signal);
        let _line = broker.wait_log(expected);
        python.run("honest.passes()");
    }
    python.run("honest.pause()");
    assert_eq!(broker.log_count("SIGUSR2"), 0);
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
}

#[test]
fn the_log_reports_start_and_stop() {
    let (broker, _python) = loaded("streamer", &["--set", "backend.linger=0"]);
    let pid = broker.pid();
    broker.signal("TERM");
    let end = broker.wait();
    let lines: Vec<&str> = end.stderr.lines().collect();
    let begin = format!("(pid {pid}) started: command line, 1 proxy, 2 endpoints");
    assert!(lines[0].ends_with(&begin), "{}", end.stderr);
    let stopping = lines
        .iter()
        .filter(|line| line.ends_with("stopping (SIGTERM)"));
    assert_eq!(stopping.count(), 1, "{}", end.stderr);
    let last = lines[lines.len() - 1];
    assert!(last.contains("stopped after "), "{}", end.stderr);
    let dropped = last.strip_suffix(" messages dropped");
    let dropped = dropped.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    assert!(
        dropped.is_some_and(|count: u64| count > 0),
        "{}",
        end.stderr
    );
}

#[test]
fn a_port_in_use_is_reported_in_one_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("port 0 is never in use");
    let address = taken
        .local_addr()
        .expect("a listener has an address")
        .to_string();
    let endpoint = format!("tcp://{address}");
    let end = Zmqd::finish(&["queue", "--frontend", ANY, "--backend", &endpoint]);
    assert_eq!(end.code, Some(1), "{}", end.stderr);
    assert_eq!(end.stderr.lines().count(), 1, "{}", end.stderr);
    assert!(end.stderr.contains(&address), "{}", end.stderr);
}

#[test]
fn wrong_usage_exits_with_code_2() {
    let unknown_key = Scratch::new(
        "toml",
        "[[proxy]]\nkind = \"queue\"\nfrontent.bind = \"x\"\n",
    );
    let line = format!("{}:3", unknown_key.path());
    for (arguments, mentioned) in [
        (&["queue", "--front-end", ANY][..], "--front-end"),
        (
            &["queue", "--frontend", "udp://127.0.0.1:0", "--backend", ANY],
            "udp://127.0.0.1:0",
        ),
        (
            &[
                "queue",
                "--frontend",
                "tcp://127.0.0.1:65536",
                "--backend",
                ANY,
            ],
            "65536",
        ),
        (&["queue", "--frontend", ANY], "backend"),
        (
            &[
                "queue",
                "--frontend",
                ANY,
                "--backend",
                ANY,
                "--set",
                "sndhwm=many",
            ],
            "many",
        ),
        (&["relay"], "relay"),
        (&["run", "/nowhere/zmqd.toml"], "/nowhere/zmqd.toml"),
        (&["run", unknown_key.path()], &line),
        (&["check", unknown_key.path()], "frontent"),
    ] {
        let end = Zmqd::finish(arguments);
        assert_eq!(end.code, Some(2), "{arguments:?}: {}", end.stderr);
        assert_eq!(
            end.stderr.lines().count(),
            1,
            "{arguments:?}: {}",
            end.stderr
        );
        assert!(
            end.stderr.contains(mentioned),
            "{arguments:?}: {}",
            end.stderr
        );
    }
}
