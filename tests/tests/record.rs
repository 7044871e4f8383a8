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
    let text = "[[proxy]]\nkind = 'queue'\nrecord = { path = '/dev/full', files_max = 2 }\n\
                frontend.bind = 'tcp://127.0.0.1:0'\nbackend.bind = 'tcp://127.0.0.1:0'\n\
                control.bind = 'tcp://127.0.0.1:0'\n";
    let file = Scratch::new("toml", text);
    let broker = Zmqd::start_expecting(3, &["run", file.path()]);
    let mut python = Python::beside(&broker);
    python.run(ASKING);
    python.run("work(100)");
    python.run("wait_until('all to be lost', lambda: record()['lost_messages'] == 200)");
    python.run("assert record()['failing'] and record()['messages'] == 0");
    let _ = broker.wait_log("No space left on device");
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
