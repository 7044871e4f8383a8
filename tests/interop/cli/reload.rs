//! Reloads: by SIGHUP and by `zmqd ctl reload`, with good files and bad ones, under load.

use std::fs;

use zmqd_tests::{ANY, Python, Scratch, Zmqd, wait_until};

/// A streamer called "numbers", and what else the file has.
fn file(numbers: &str, rest: &str) -> String {
    format!(
        "[[proxy]]\nname = \"numbers\"\nkind = \"streamer\"\n{numbers}\n\
         frontend = {{ bind = [\"{ANY}\"] }}\nbackend = {{ bind = [\"{ANY}\"] }}\n{rest}"
    )
}

/// Sends SIGHUP and waits for the result: a line with this text, once more than before.
#[track_caller]
fn reload(broker: &Zmqd, result: &str) {
    let before = broker.log_count(result);
    broker.signal("HUP");
    wait_until("a reload", || {
        (broker.log_count(result) > before).then_some(())
    });
}

fn numbers(broker: &Zmqd) -> Python {
    let mut python = Python::new();
    python.set("frontend", broker.endpoint("numbers", "frontend"));
    python.set("backend", broker.endpoint("numbers", "backend"));
    python
}

#[test]
fn twenty_reloads_under_load_lose_and_reorder_nothing() {
    let guest = format!(
        "[[proxy]]\nname = \"guest\"\nkind = \"queue\"\n\
         frontend = {{ bind = [\"{ANY}\"] }}\nbackend = {{ bind = [\"{ANY}\"] }}\n\
         capture = {{ bind = [\"{ANY}\"] }}\n"
    );
    let record = Scratch::absent("record");
    let recorded = format!("record = {{ path = \"{}\" }}\n", record.path());
    let capture =
        format!("capture = {{ bind = [\"{ANY}\"] }}\ncontrol = {{ bind = [\"{ANY}\"] }}\n");
    let variants = [
        file("", ""),
        file("", &guest),
        file(&capture, &guest),
        file(&recorded, ""),
        file(&[recorded.clone(), capture].concat(), &guest),
    ];
    let config = Scratch::new("toml", &variants[0]);
    let end = Scratch::absent("end");
    let broker = Zmqd::start_expecting(2, &["run", config.path()]);
    let mut python = numbers(&broker);
    python.set("end", end.path());
    python.run(
        r#"
        import os, threading
        def pump():
            source, number = connect(zmq.PUSH, frontend), 0
            while number % 100 or not os.path.exists(end):
                source.send(number.to_bytes(8, "big"))
                number += 1
            source.send(b"")
        thread = threading.Thread(target=pump)
        thread.start()
        sink = connect(zmq.PULL, backend)
        "#,
    );
    python.begin(
        r#"
        received = 0
        while message := sink.recv():
            assert int.from_bytes(message, "big") == received, (message, received)
            received += 1
        thread.join()
        assert received > 1000, received
        "#,
    );
    for round in 1..=20 {
        fs::write(config.path(), &variants[round % variants.len()]).expect("a file");
        reload(&broker, "reloaded ");
    }
    fs::write(end.path(), "").expect("a file");
    python.finish();
    assert_eq!(broker.log_count("is rejected"), 0);
    assert!(broker.log_count("guest: proxy added, at once") >= 4);
    assert!(broker.log_count("numbers.capture: removed, at once") >= 4);
}

#[test]
fn a_bad_file_is_rejected_as_a_whole() {
    let good = file("", "");
    let config = Scratch::new("toml", &good);
    let broker = Zmqd::start_expecting(2, &["run", config.path()]);
    let mut python = numbers(&broker);
    python.run("honest = Honest('streamer', frontend, backend); honest.passes()");
    let half = &good[..good.len() - 20];
    let taken = broker.endpoint("numbers", "frontend");
    let bad = [
        (half.to_owned(), "scratch"),
        (file("colour = 7", ""), "toml:4"),
        (
            format!("drain_timeout = \"1s\"\n{}", file("", "[[proxy]]\n")),
            "toml",
        ),
        (good.replacen(ANY, "tcp://*:0", 1), "any peer may come in"),
        (String::new(), "has no proxy"),
    ];
    for (text, expected) in bad {
        fs::write(config.path(), text).expect("a file");
        let before = broker.log_count(expected);
        reload(&broker, "is rejected, and nothing has changed");
        assert!(broker.log_count(expected) > before, "{:?}", broker.lines());
        python.run("honest.passes()");
    }
    fs::remove_file(config.path()).expect("the file");
    reload(&broker, "is rejected, and nothing has changed");
    assert_eq!(broker.log_count("cannot read"), 1);
    assert_eq!(broker.log_count(", at once"), 0, "{:?}", broker.lines());
    // A port that another socket has is found out when it is bound.
    let other = good
        .replacen(ANY, taken, 1)
        .replacen("numbers", "others", 1);
    fs::write(config.path(), [good.clone(), other].concat()).expect("a file");
    reload(&broker, "is rejected, and nothing has changed");
    assert_eq!(broker.log_count("cannot bind"), 1);
    assert_eq!(broker.log_count(", at once"), 0, "{:?}", broker.lines());
    python.run("honest.passes()");
    // Two at once are as good as one.
    fs::write(config.path(), format!("drain_timeout = \"7s\"\n{good}")).expect("a file");
    broker.signal("HUP");
    reload(&broker, "reloaded ");
    let _ = broker.wait_log("drain_timeout: 7000 ms (was 5000 ms), at once");
    assert_eq!(broker.log_count("drain_timeout"), 1);
    python.run("honest.passes(); honest.pause()");
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
}

#[test]
fn ctl_reload_reports_the_changes() {
    let control = format!("control = {{ bind = [\"{ANY}\"] }}\n");
    let config = Scratch::new("toml", &file(&control, ""));
    let broker = Zmqd::start_expecting(3, &["run", config.path()]);
    let endpoint = broker.endpoint("numbers", "control").to_owned();
    let ctl = || Zmqd::finish(&["ctl", &endpoint, "reload"]);
    assert_eq!(ctl().stdout, "no changes");
    let changed = format!(
        "drain_timeout = \"7s\"\noptions = {{ backlog = 7 }}\n{}",
        file(&control, "")
    );
    fs::write(config.path(), changed).expect("a file");
    let told = ctl();
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let lines: Vec<&str> = told.stdout.lines().collect();
    let expected = [
        "drain_timeout: 7000 ms (was 5000 ms), at once",
        "restart zmqd to change: numbers.frontend.backlog, numbers.backend.backlog, \
         numbers.control.backlog",
    ];
    assert_eq!(lines, expected);
    let _ = broker.wait_log("restart zmqd to apply the other changes in ");
    fs::write(config.path(), "colour = 7").expect("a file");
    let told = ctl();
    assert_eq!(told.code, Some(1));
    assert!(told.stderr.contains("toml:1"), "{}", told.stderr);
    // The answer comes although its own socket goes.
    fs::write(config.path(), file("", "")).expect("a file");
    let told = ctl();
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(
        told.stdout.contains("numbers.control: removed"),
        "{}",
        told.stdout
    );
    let gone = ctl();
    assert_eq!(gone.code, Some(1));
}

#[test]
fn a_key_that_was_removed_closes_its_connections() {
    let keys = crate::protocol::curve::Keys::new("reload", &["server", "first", "second", "new"]);
    let public = |name: &str| {
        let text = fs::read_to_string(keys.path(&format!("{name}.key"))).expect("a file");
        text.split('"').rev().nth(1).expect("a key").to_owned()
    };
    let list = |names: &[&str]| {
        let lines = names
            .iter()
            .map(|name| format!("{} {name}\n", public(name)));
        fs::write(keys.path("list"), lines.collect::<String>()).expect("a file");
    };
    list(&["first", "second"]);
    let settings = [
        keys.set("curve_secret", "server.key_secret"),
        keys.set("curve_clients", "list"),
    ];
    let broker = Zmqd::streamer(&["--set", &settings[0], "--set", &settings[1]]);
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        client = clients_of(keys)
        sink = client(zmq.PULL, backend, "first")
        first, second = (client(zmq.PUSH, frontend, name) for name in ("first", "second"))
        for number in range(10):
            for source in first, second:
                source.send(b"%d" % number)
                assert sink.recv() == b"%d" % number
        "#,
    );
    list(&["first", "new"]);
    reload(&broker, "reloaded command line, with 2 changes");
    let _ = broker.wait_log("the configuration does not admit it any more");
    assert_eq!(broker.log_count("1 keys added, 1 keys removed, at once"), 2);
    python.run(
        r#"
        new = client(zmq.PUSH, frontend, "new")
        new.send(b"new")
        assert sink.recv() == b"new"
        second.send(b"lost")
        first.send(b"first")
        assert sink.recv() == b"first"
        assert is_silent(sink)
        "#,
    );
    // A new key of the server closes nothing by itself.
    for file in ["server.key", "server.key_secret"] {
        fs::copy(
            keys.path(&file.replace("server", "second")),
            keys.path(file),
        )
        .expect("a file");
    }
    reload(&broker, "reloaded command line, with 2 changes");
    python.run(
        r#"
        first.send(b"again")
        assert sink.recv() == b"again"
        other = client(zmq.PUSH, frontend, "first")
        other.send(b"by the new key")
        assert sink.recv() == b"by the new key"
        "#,
    );
}
