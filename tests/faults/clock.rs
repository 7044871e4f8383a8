//! The wall clock is set back and forth.
//!
//! Times in logs and recordings come from it. Deadlines use the monotonic clock, which cannot be
//! set, and which libfaketime leaves alone here.

use std::fs;
use std::path::PathBuf;

use zmqd_tests::{ANY, Python, Scratch, Zmqd, vacant_endpoint};

/// The path of Debian's libfaketime.
pub(super) fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib exists").flatten();
    let found = folders
        .map(|folder| folder.path().join("faketime/libfaketime.so.1"))
        .find(|path| path.exists());
    found.expect("did not run: install libfaketime, a package of Debian")
}

/// The date that a line of the log begins with.
fn date(line: &str) -> &str {
    line.trim_start_matches('[')
        .get(..10)
        .expect("lines of the log begin with a time")
}

#[test]
fn deadlines_do_not_follow_the_wall_clock() {
    let clock = Scratch::new("faketime", "+0");
    let wrapper = [
        "env",
        &format!("LD_PRELOAD={}", library().display()),
        &format!("FAKETIME_TIMESTAMP_FILE={}", clock.path()),
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ];
    let server = vacant_endpoint();
    let sides = ["queue", "--frontend", ANY, "--backend-connect", &server];
    let more = ["--set=heartbeat_ivl=100", "--set=heartbeat_timeout=2000"];
    let broker = Zmqd::start_under(&wrapper, &[&sides[..], &more].concat());
    let mut python = Python::beside(&broker);
    python.set("server_endpoint", &server);
    python.run(
        r#"
        client = connect(zmq.REQ, frontend)
        def ask_and_answer():
            server = bind(zmq.REP, server_endpoint)
            for _ in range(50):
                client.send(b"question")
                server.send(server.recv())
                assert client.recv() == b"question"
            server.close()
        ask_and_answer()
        "#,
    );
    let mut dates = vec![date(&broker.wait_log("connected to")).to_owned()];
    for shift in ["-400d", "+400d", "-4000d", "+0"] {
        fs::write(clock.path(), shift).expect("the clock can be set");
        // Only the silent peer is closed, after its timeout; the lost link reconnects.
        let mut silent = zmqd_tests::Raw::connect(broker.frontend());
        silent.handshake("DEALER");
        let watch = zmqd_tests::Stopwatch::start();
        silent.read_until_closed();
        let elapsed = watch.elapsed();
        assert!(elapsed.as_millis() >= 2000, "closed after {elapsed:?}");
        dates.push(date(&broker.wait_log(silent.address())).to_owned());
        let ticks = broker.cpu_ticks();
        python.run("assert is_silent(client, 300)");
        let ticks = broker.cpu_ticks() - ticks;
        assert!(
            ticks <= 5,
            "with the clock at {shift}, idling used {ticks} ticks of 10 ms"
        );
        python.run("ask_and_answer()");
        broker.wait_connections(1);
    }
    let distinct: std::collections::BTreeSet<&String> = dates.iter().collect();
    assert_eq!(
        distinct.len(),
        4,
        "the log does not show the times that were set: {dates:?}"
    );
    assert_eq!(
        broker.log_count("no sign of life"),
        4,
        "not one for each silent peer"
    );
}
