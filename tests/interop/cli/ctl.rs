//! `zmqd ctl` with a proxy of zmqd and with one of libzmq.

use zmqd_tests::{ANY, Finished, Python, Zmqd};

/// The output of a successful `zmqd ctl`.
#[track_caller]
fn ctl(endpoint: &str, arguments: &[&str]) -> String {
    let finished = run(endpoint, arguments);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout
}

fn run(endpoint: &str, arguments: &[&str]) -> Finished {
    Zmqd::finish(&[&["ctl", endpoint], arguments].concat())
}

/// The words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines();
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}

#[test]
fn ctl_pauses_resumes_and_ends_a_proxy() {
    for socket in ["REP", "PAIR", "SUB"] {
        let broker = Zmqd::queue(&["--control", ANY, "--control-socket", socket]);
        let mut python = Python::beside(&broker);
        let said = |done: &str| match socket {
            "REP" => done.to_owned(),
            _ => "sent; a PAIR or SUB control does not answer".to_owned(),
        };
        assert_eq!(ctl(broker.control(), &["pause"]), said("paused"));
        python.run(
            r#"
            client, worker = connect(zmq.REQ, frontend), connect(zmq.REP, backend)
            client.send(b"wait")
            "#,
        );
        let _ = broker.wait_log("paused by");
        if socket != "SUB" {
            let statistics = ctl(broker.control(), &["statistics"]);
            let first = statistics.lines().next().unwrap_or_default();
            assert!(
                first.starts_with("zmqd ") && first.ends_with(" in use, paused"),
                "{first}"
            );
        }
        assert_eq!(ctl(broker.control(), &["resume"]), said("resumed"));
        python.run("assert worker.recv() == b'wait'");
        assert_eq!(ctl(broker.control(), &["terminate"]), said("terminated"));
        assert_eq!(broker.wait().code, Some(0));
    }
}

#[test]
fn peers_are_shown_in_a_table_and_in_json() {
    let broker = Zmqd::queue(&["--control", ANY]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        client, worker = connect(zmq.REQ, frontend, identity=b"client-7"), connect(zmq.REP, backend)
        client.send(b"one")
        worker.send(worker.recv())
        assert client.recv() == b"one"
        "#,
    );
    let table = ctl(broker.control(), &["peers", "--rates"]);
    let rows = words(&table);
    assert_eq!(
        rows[0][..5],
        ["ID", "SIDE", "SOCKET", "ADDRESS", "IDENTITY"]
    );
    let row = rows.iter().find(|row| row.contains(&"client-7"));
    let row = row.unwrap_or_else(|| panic!("no client in\n{table}"));
    assert_eq!(row[1..3], ["frontend", "REQ"]);
    let json = ctl(broker.control(), &["peers", "--side", "backend", "--json"]);
    assert_eq!(json.lines().count(), 1);
    assert!(
        json.contains(r#""socket":"REP""#) && !json.contains("client-7"),
        "{json}"
    );
    let statistics = ctl(broker.control(), &["statistics"]);
    let rows = words(&statistics);
    let names = ["SIDE", "frontend", "backend", "control"];
    let is_of_table = |row: &&Vec<&str>| row.first().is_some_and(|first| names.contains(first));
    let sockets = rows.iter().filter(is_of_table).count();
    assert_eq!(
        sockets, 4,
        "not a title, two sides and the control: {statistics}"
    );
    assert!(!table.contains("control"), "{table}");
    let all = ctl(broker.control(), &["peers", "--all"]);
    assert!(all.contains("control"), "{all}");
    assert_eq!(
        ctl(broker.control(), &["kick", "--identity", "client-7"]),
        "1 peer closed"
    );
    let refused = run(broker.control(), &["kick", "--identity", "client-7"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("no peer"), "{}", refused.stderr);
    let closed = ctl(broker.control(), &["closed", "--all"]);
    assert!(
        closed.contains("client-7") && closed.contains("kicked by command"),
        "{closed}"
    );
    let events = ctl(broker.control(), &["events"]);
    assert!(
        events.contains("EVENT") && events.contains("kicked by command"),
        "{events}"
    );
    let refused = run(broker.control(), &["who", "a"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("no XPUB"), "{}", refused.stderr);
}

#[test]
fn long_lists_of_subscriptions_are_fetched_page_by_page() {
    let broker = Zmqd::forwarder(&["--control", ANY]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        publisher = connect(zmq.XPUB, frontend, rcvhwm=0)
        topics = [b"topic %04d" % number for number in range(2500)]
        subscriber = connect(zmq.SUB, backend, subscribe=topics + [b"other"], sndhwm=0)
        take(publisher, 2501)
        "#,
    );
    let rows = ctl(broker.control(), &["subscriptions", "topic"]);
    let topics: Vec<&str> = rows.lines().skip(1).collect();
    assert_eq!(topics.len(), 2500);
    assert!(topics[0].starts_with("topic 0000") && topics[2499].starts_with("topic 2499"));
    let who = ctl(broker.control(), &["who", "topic 0001/x"]);
    assert_eq!(who.lines().count(), 2, "{who}");
}

#[test]
fn ctl_controls_a_proxy_of_libzmq() {
    for kind in ["zmq.REP", "zmq.PAIR"] {
        let mut python = Python::new();
        python.run(&format!("kind = {kind}"));
        python.run(
            r#"
            ends = [bind(one) for one in (zmq.ROUTER, zmq.DEALER, kind)]
            frontend, backend, control = [last_endpoint(end) for end in ends]
            for end in ends:
                end.rcvtimeo = end.sndtimeo = -1
            client, worker = dial(zmq.DEALER, frontend, identity=b"me"), dial(zmq.DEALER, backend)
            steerable = in_background(zmq.proxy_steerable, ends[0], ends[1], None, ends[2])
            client.send(b"12345")
            assert worker.recv_multipart() == [b"me", b"12345"]
            "#,
        );
        let control: String = python.ask("control");
        let table = ctl(&control, &["statistics"]);
        let rows = words(&table);
        assert_eq!(rows[1], ["frontend", "2", "7", "0", "0"], "{table}");
        assert_eq!(rows[2], ["backend", "0", "0", "2", "7"], "{table}");
        let refused = run(&control, &["peers", "--timeout", "1s"]);
        assert_eq!(refused.code, Some(1), "{}", refused.stdout);
        assert!(
            refused.stderr.contains("does not answer JSON questions"),
            "{}",
            refused.stderr
        );
        // A PAIR of libzmq refuses a peer until it has released the one before.
        if kind == "zmq.REP" {
            assert_eq!(ctl(&control, &["terminate"]), "terminated");
            python.run("steerable.result()");
        }
    }
}

#[test]
fn a_hostile_control_cannot_send_escapes_to_the_terminal() {
    let mut python = Python::new();
    python.run(
        r##"
        import json
        hostile = "\x1b]0;title\x07\x7f\x9b2J\u202e\u2066\u200b\ufeff\U000e0041\u2028"
        error = False
        control = bind(zmq.REP)
        def serve():
            control.rcvtimeo = -1
            while True:
                request = json.loads(control.recv())
                if error:
                    answer = {"error": hostile + "x" * 1_000_000}
                else:
                    row = {key: hostile for key in (
                        "address", "detail", "id", "identity", "phase", "reason", "side",
                        "socket", "topic", "peers", "subscriptions", "text")}
                    row["dropped"] = row["closed"] = {hostile: 1}
                    rows = [] if "after" in request else [row]
                    answer = {list: rows for list in (
                        "closed", "events", "peers", "sockets", "subscriptions")}
                    answer[hostile] = answer["proxy"] = hostile
                control.send(json.dumps(answer, ensure_ascii=False).encode())
        in_background(serve)
        endpoint = last_endpoint(control)
        "##,
    );
    let endpoint: String = python.ask("endpoint");
    let hostile = "\u{1b}\u{7}\u{7f}\u{9b}\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}\u{2028}";
    let hidden = |one: char| hostile.contains(one);
    for command in [
        &["peers"][..],
        &["closed"],
        &["events"],
        &["subscriptions"],
        &["who", "a"],
        &["statistics"],
    ] {
        for json in [&[][..], &["--json"]] {
            let shown = ctl(&endpoint, &[command, json].concat());
            assert!(shown.contains("title"), "{command:?}: {shown:?}");
            assert!(!shown.contains(hidden), "{command:?}: {shown:?}");
        }
    }
    python.run("error = True");
    let refused = run(&endpoint, &["closed"]);
    assert_eq!(refused.code, Some(1));
    assert!(!refused.stderr.contains(hidden), "{:?}", refused.stderr);
    assert!(refused.stderr.len() < 2000, "{}", refused.stderr.len());
}

#[test]
fn an_unreachable_control_is_reported_in_one_sentence() {
    let refused = run(&zmqd_tests::vacant_endpoint(), &["peers"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("if it has --control"),
        "{}",
        refused.stderr
    );
    let broker = Zmqd::forwarder(&[]);
    let refused = run(broker.backend(), &["peers", "--timeout", "2s"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("check that it is the control"),
        "{}",
        refused.stderr
    );
}
