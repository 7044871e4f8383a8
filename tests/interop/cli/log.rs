//! The log of the process: formats, the journal of systemd, a file that is renamed or cannot be
//! written.

use std::fs;

use zmqd_tests::{ANY, Python, Scratch, Zmqd, wait_until};

const QUEUE: [&str; 5] = ["queue", "--frontend", ANY, "--backend", ANY];

#[test]
fn a_log_in_json_has_the_life_of_the_process() {
    let broker = Zmqd::start(&[&QUEUE[..], &["--log-format", "json"]].concat());
    let start = broker.wait_log("started: command line");
    for part in [
        r#"{"time":"20"#,
        r#""level":"INFO","target":"zmqd"#,
        &format!("(pid {})", broker.pid()),
        "1 proxy, 2 endpoints",
    ] {
        assert!(start.contains(part), "no {part:?} in {start}");
    }
    let line = broker.wait_log("queue frontend: ROUTER");
    assert!(line.contains(broker.frontend()), "{line}");
    let fields = r#","proxy":"queue","side":"frontend"}"#;
    assert!(line.ends_with(fields), "{line}");
    let mut python = Python::new();
    python.set("frontend", broker.frontend());
    python.run(
        r#"
        import socket
        host, port = frontend.removeprefix("tcp://").split(":")
        socket.create_connection((host, int(port))).sendall(b"GET /\x1b[2J HTTP/1.1\r\n\r\n")
        "#,
    );
    let line = broker.wait_log("not a ZeroMQ peer");
    assert!(line.contains(r#""level":"WARN""#), "{line}");
    assert!(line.contains(r#","peer":"127.0.0.1:"#), "{line}");
    assert!(line.ends_with(r#","reason":"not-zmtp"}"#), "{line}");
    broker.signal("TERM");
    let log = broker.wait().stderr;
    assert!(log.contains("stopping (SIGTERM)"), "{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains("stopped after "), "{log}");
    assert!(
        last.ends_with(r#": 0 messages dropped","count":0}"#),
        "{log}"
    );
    let is_object = |line: &str| line.starts_with("{\"time\"") && line.ends_with('}');
    assert!(log.lines().all(is_object), "{log}");
    python.set("log", &log);
    python.run("import json; [json.loads(line) for line in log.splitlines()]");
}

#[test]
fn an_error_that_ends_the_process_is_in_the_log() {
    let taken = Zmqd::start(&QUEUE);
    let again = ["queue", "--frontend", taken.frontend(), "--backend", ANY];
    let json = Zmqd::finish(&[&again[..], &["--log-format", "json"]].concat());
    assert_eq!(
        (json.code, json.stderr.lines().count()),
        (Some(1), 1),
        "{}",
        json.stderr
    );
    let line = r#""level":"ERROR","target":"zmqd::logger","message":"queue frontend: cannot bind"#;
    assert!(json.stderr.contains(line), "{}", json.stderr);
    let log = Scratch::absent("log");
    let text = Zmqd::finish(&[&again[..], &["--log-file", log.path()]].concat());
    assert!(text.stderr.contains("cannot bind"), "{}", text.stderr);
    let log = fs::read_to_string(log.path()).expect("the log file");
    assert!(log.contains("ERROR] queue frontend: cannot bind"), "{log}");
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    let stream = r#"exec env JOURNAL_STREAM="$(stat -L -c %d:%i /proc/self/fd/2)" "$0" "$@""#;
    let broker = Zmqd::start_under(&["sh", "-c", stream], &QUEUE);
    let line = broker.wait_log("started: command line");
    assert!(line.starts_with("<6>zmqd "), "{line}");
    broker.signal("TERM");
    let log = broker.wait().stderr;
    assert!(log.lines().all(|line| line.starts_with("<6>")), "{log}");
    // The variable stays when stderr goes elsewhere.
    let broker = Zmqd::start_under(&["env", "JOURNAL_STREAM=1:2"], &QUEUE);
    let line = broker.wait_log("started: command line");
    assert!(line.starts_with("[20"), "{line}");
}

#[test]
fn a_renamed_log_file_is_opened_again() {
    let (log, old) = (Scratch::new("log", "before\n"), Scratch::absent("log"));
    let broker = Zmqd::start(&[&QUEUE[..], &["--log-file", log.path()]].concat());
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let has = |text: &str| read(log.path()).contains(text).then_some(());
    wait_until("the first line", || has("started: command line"));
    assert!(read(log.path()).starts_with("before\n["), "it is appended");
    fs::rename(log.path(), old.path()).expect("both are ours");
    broker.signal("USR1");
    wait_until("a new file", || has("opened the log file again (SIGUSR1)"));
    broker.signal("TERM");
    let finished = broker.wait();
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    assert!(read(log.path()).contains("stopped after"));
    assert!(!read(old.path()).contains("SIGUSR1"));
    let lost = Zmqd::finish(&[&QUEUE[..], &["--log-file", "/nonexistent/a.log"]].concat());
    assert_eq!(lost.code, Some(1));
    let sentence = "zmqd: --log-file: cannot open /nonexistent/a.log: ";
    assert!(lost.stderr.starts_with(sentence), "{}", lost.stderr);
}

/// A full disk does not stop a broker, and stderr says what happened.
#[test]
fn a_log_file_that_cannot_be_written_does_no_harm() {
    let broker = Zmqd::start(&[&QUEUE[..], &["--log-file", "/dev/full"]].concat());
    let line = broker.wait_log("log file /dev/full: cannot write");
    assert!(line.contains("lines are lost until it works"), "{line}");
    let mut python = Python::new();
    python.set("ends", broker.frontend());
    python.set("sides", broker.backend());
    python.run(
        r#"
        client, worker = connect(zmq.REQ, ends), connect(zmq.REP, sides)
        client.send(b"one")
        assert worker.recv() == b"one"
        "#,
    );
    broker.signal("TERM");
    let finished = broker.wait();
    assert_eq!(finished.code, Some(0));
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
}
