//! When real commands run, and when they do not: pauses, causes, storms; and what they get.

use std::fs;

use zmqd_tests::{Python, Scratch};

use super::{Watching, restarts};

/// A watch of heartbeats of its own name, with an action that changes nothing.
fn watch(name: &str, keys: &str) -> String {
    format!(
        "[[watch]]\nname = \"{name}\"\nheartbeat.service = \"{name}\"\nafter = \"300ms\"\n\
         confirm = 1\ngrace = \"100ms\"\nmax_actions = 3\n\
         backoff = {{ first = \"100ms\", factor = 1 }}\naction = [\"true\"]\n{keys}\n"
    )
}

/// Watches of this process, whose endpoints are free.
fn watches(list: &[String]) -> String {
    let watcher = "[watcher]\nheartbeat.tcp = \"127.0.0.1:0\"\nevents = \"tcp://127.0.0.1:0\"\n";
    format!("{watcher}{}", list.concat())
}

#[test]
fn a_paused_watch_takes_no_action_until_it_is_resumed() {
    let watching = Watching::start(&watches(&[watch("a", ""), watch("b", "")]));
    watching.home.run(&["watch", "pause", "a"]);
    for name in ["a", "b"] {
        watching.send(&format!("{{\"service\": \"{name}\"}}"));
    }
    watching.wait_state("b", "failed");
    assert_eq!((watching.actions("a"), watching.actions("b")), (0, 3));
    assert_eq!(watching.state("a"), "paused");
    watching.home.run(&["watch", "resume", "a"]);
    watching.wait_state("a", "failed");
    assert_eq!(watching.actions("a"), 3);
}

#[test]
fn the_cause_alone_is_restarted() {
    let hub = watch("hub", "expect = true");
    let leaf = watch("leaf", "expect = true\ndepends = \"hub\"");
    let watching = Watching::start(&watches(&[hub, leaf]));
    watching.wait_state("hub", "failed");
    assert_eq!((watching.actions("hub"), watching.actions("leaf")), (3, 0));
    let waits = watching.row("leaf").join(" ");
    assert!(waits.ends_with("hub is the cause"), "{waits}");
    // Nothing is known of it now, so that it explains nothing.
    watching.home.run(&["watch", "pause", "hub"]);
    watching.wait_actions("leaf", 1);
}

#[test]
fn nothing_is_done_while_most_watches_are_down() {
    let names = ["a", "b", "c", "d"];
    let list = names.map(|name| watch(name, "expect = true"));
    let watching = Watching::start(&watches(&list));
    let line = watching.process.wait_log("no action is taken");
    assert!(line.contains("ERROR"), "{line}");
    for name in names {
        assert_eq!(watching.state(name), "down");
        assert_eq!(watching.actions(name), 0);
    }
    // Without these two, the others are too few for a storm.
    for name in ["a", "b"] {
        watching.home.run(&["watch", "pause", name]);
    }
    let _ = watching.process.wait_log("no storm any more");
    for name in ["c", "d"] {
        watching.wait_actions(name, 1);
    }
    assert_eq!((watching.actions("a"), watching.actions("b")), (0, 0));
}

#[test]
fn commands_get_the_facts_and_no_shell() {
    let facts = Scratch::absent("facts");
    let keys = format!(
        "max_actions = 1\naction = [[\"printf\", \"%s;\", \"$HOME\", \"a b\"],\
         [\"sh\", \"-c\", \"env | grep ^ZMQD_ | sort > {}\"]]",
        facts.path()
    );
    let watching = Watching::start(&restarts(&keys));
    let line = watching.process.wait_log("it wrote: $HOME;a b;");
    assert!(line.contains("ended with code 0"), "{line}");
    watching.wait_state("a", "failed");
    let facts = fs::read_to_string(facts.path()).expect("the action has run");
    let lines: Vec<&str> = facts.lines().collect();
    let [action, reason, sign, since, state, name] = lines[..] else {
        panic!("six facts: {facts}");
    };
    assert_eq!(
        [action, sign, state, name],
        [
            "ZMQD_ACTION=1",
            "ZMQD_SIGN=heartbeat",
            "ZMQD_STATE=down",
            "ZMQD_WATCH=a",
        ]
    );
    assert!(
        reason.starts_with("ZMQD_REASON=no heartbeat for"),
        "{reason}"
    );
    assert!(since.starts_with("ZMQD_SINCE_SECONDS="), "{since}");
}

#[test]
fn objects_of_plain_clients_are_published() {
    let watching = Watching::start(&watches(&[watch("a", "")]));
    let mut python = Python::new();
    python.set("events", &watching.bound("events"));
    python.set("address", &watching.bound("json"));
    python.run(
        r#"
        import socket as plain
        def send(text):
            host, port = address.split(":")
            with plain.create_connection((host, int(port))) as client:
                client.send(text)
        reader = connect(zmq.SUB, events, subscribe=[b"probe", b"poiid"])
        # The subscription is in place when the first object arrives.
        while not reader.poll(50):
            send(b'{"type": "probe"}')
        send(b'{"type": "heartbeat"}{"type": "poiid", "time": "2024-07-01 12:00:00", "dat": [1]}')
        topics = [reader.recv_multipart()]
        while topics[-1][0] != b"poiid":
            topics.append(reader.recv_multipart())
        assert {topic for topic, _ in topics} == {b"probe", b"poiid"}, topics
        expected = {"type": "poiid", "time": "2024-07-01 12:00:00", "dat": [1]}
        assert json.loads(topics[-1][1]) == expected
        "#,
    );
}
