//! A proxy that records what passes.

use zmqd_tests::{ANY, Python, Scratch, Zmqd};

const ASKING: &str = r#"
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

/// What `zmqd sniff --read` says of a recording, a line of JSON for each message.
fn read(path: &str) -> Vec<String> {
    let finished = Zmqd::finish(&["sniff", "--read", path, "--json"]);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn every_message_is_recorded_with_who_sent_it_even_if_the_broker_is_killed() {
    // Made anew by the recording.
    let file = Scratch::new("zrec", "");
    std::fs::remove_file(file.path()).expect("it was just made");
    let broker = Zmqd::queue(&["--control", ANY, "--record", file.path()]);
    let mut python = Python::beside(&broker);
    python.run(ASKING);
    python.run("work(100)");
    python.run("wait_until('all to be written', lambda: record()['messages'] == 200)");
    broker.kill();
    let lines = read(file.path());
    assert_eq!(lines.len(), 200);
    assert!(lines[0].contains("question 0") && lines[199].contains("answer 99"));
    let is_told = |line: &String| line.contains("client-7") && line.contains(r#""queue""#);
    assert!(lines.iter().all(is_told), "{}", lines[0]);
    let incoming = lines
        .iter()
        .filter(|line| line.contains(r#""direction":"in""#));
    assert_eq!(incoming.count(), 100);
}

#[test]
fn what_cannot_be_written_is_counted_and_holds_nobody_up() {
    let file = Scratch::new("zrec", "");
    std::fs::remove_file(file.path()).expect("it was just made");
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
    // Files of at most 8 KiB: to whoever writes, that is a full disk.
    let broker = Zmqd::start_within("-f 16", &[&arguments[..], &recording[..]].concat());
    let mut python = Python::beside(&broker);
    python.run(ASKING);
    python.run(
        r#"
        work(500)
        def told():
            found = record()
            return found["messages"] + found["lost_messages"] == 1000 and found
        found = wait_until("all to be written or lost", told)
        assert found["messages"] > 0 and found["lost_messages"] > 0 and found["failing"], found
        "#,
    );
    let _ = broker.wait_log("File too large");
    let written: usize = python.ask("found['messages']");
    broker.kill();
    assert_eq!(read(file.path()).len(), written);
}

#[test]
fn a_recording_that_cannot_begin_is_a_sentence() {
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
