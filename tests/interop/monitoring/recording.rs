//! A proxy that records its messages.

use crate::protocol::plain::users;
use zmqd_tests::{ANY, Python, Scratch, Zmqd};

const TRAFFIC: &str = r#"
    import json
    control = connect(zmq.REQ, control)
    def record():
        control.send(b'{"command": "statistics"}')
        return json.loads(control.recv())["record"]
    client = connect(zmq.REQ, frontend, identity=b"client-7")
    worker = connect(zmq.REP, backend)
    def work(count):
        for number in range(count):
            client.send(b"question %d" % number)
            worker.send(worker.recv().replace(b"question", b"answer"))
            assert client.recv() == b"answer %d" % number
"#;

/// The messages of a recording, as `zmqd sniff --read` prints them: a line of JSON for each.
fn read(path: &str) -> Vec<String> {
    let finished = Zmqd::finish(&["sniff", "--read", path, "--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_killed_broker_leaves_a_complete_recording() {
    let file = Scratch::absent("zrec");
    let broker = Zmqd::queue(&["--control", ANY, "--record", file.path()]);
    let mut python = Python::beside(&broker);
    python.run(TRAFFIC);
    python.run("work(100)");
    python.run("wait_until('all messages to be written', lambda: record()['messages'] == 200)");
    broker.kill();
    let lines = read(file.path());
    assert_eq!(lines.len(), 200);
    assert!(lines[0].contains("question 0") && lines[199].contains("answer 99"));
    let has_origin = |line: &String| line.contains("client-7") && line.contains(r#""queue""#);
    assert!(lines.iter().all(has_origin), "{}", lines[0]);
    let incoming = lines
        .iter()
        .filter(|line| line.contains(r#""direction":"in""#));
    assert_eq!(incoming.count(), 100);
}

/// The worker has a user name, the client has none.
#[test]
fn messages_are_recorded_with_the_user_name_of_their_sender() {
    let (file, users) = (Scratch::absent("zrec"), users());
    let secured = format!("backend.plain_users={}", users.path());
    let broker = Zmqd::queue(&["--record", file.path(), "--set", &secured]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        worker = socket(zmq.REP)
        worker.plain_username, worker.plain_password = b"weather", b"sunny"
        worker.connect(backend)
        client = connect(zmq.REQ, frontend)
        client.send(b"question")
        worker.recv()
        worker.send(b"answer")
        assert client.recv() == b"answer"
        "#,
    );
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
    let lines = read(file.path());
    let has_user = |line: &String| line.contains(r#""user":"weather""#);
    let found: Vec<bool> = lines.iter().map(has_user).collect();
    assert_eq!(found, [false, true], "{lines:?}");
    let finished = Zmqd::finish(&["sniff", "--read", file.path(), "--user", "weather"]);
    assert_eq!(finished.stdout.lines().count(), 1, "{}", finished.stdout);
    assert!(finished.stdout.contains("(user weather) [][answer]"));
}

#[test]
fn a_full_disk_delays_no_traffic_and_lost_messages_are_counted() {
    let file = Scratch::absent("zrec");
    let arguments = [
        "queue",
        "--frontend",
        ANY,
        "--backend",
        ANY,
        "--control",
        ANY,
    ];
    let recording = ["--record", file.path()];
    // Files of at most 8 KiB: to the broker, that is a full disk.
    let broker = Zmqd::start_within("-f 16", &[&arguments[..], &recording[..]].concat());
    let mut python = Python::beside(&broker);
    python.run(TRAFFIC);
    python.run(
        r#"
        work(500)
        def is_complete():
            found = record()
            return found["messages"] + found["lost_messages"] == 1000 and found
        found = wait_until("all messages to be written or lost", is_complete)
        assert found["messages"] > 0 and found["lost_messages"] > 0 and found["failing"], found
        "#,
    );
    let _ = broker.wait_log("File too large");
    let written: usize = python.ask("found['messages']");
    broker.kill();
    assert_eq!(read(file.path()).len(), written);
}

#[test]
fn an_unwritable_recording_is_refused_in_one_sentence() {
    let arguments = [
        "--frontend",
        ANY,
        "--backend",
        ANY,
        "--record",
        "/proc/nowhere/file",
    ];
    let refused = Zmqd::finish(&[&["queue"][..], &arguments[..]].concat());
    assert_eq!(refused.code, Some(1));
    let sentence = "cannot record to /proc/nowhere/file: ";
    assert!(refused.stderr.contains(sentence), "{}", refused.stderr);
}
