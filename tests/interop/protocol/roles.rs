//! Users of CURVE with roles, and libzmq at the other end.

use super::curve::Keys;
use std::fs;
use std::path::Path;
use std::process::Command;
use zmqd_tests::{Python, Zmqd, binary};

/// A broker with the configuration in `text`, where `KEYS` is the directory of the keys.
fn run(keys: &Keys, endpoints: usize, text: &str) -> Zmqd {
    let text = text.replace("KEYS", keys.path("").trim_end_matches('/'));
    fs::write(keys.path("zmqd.toml"), text).expect("a file");
    Zmqd::start_expecting(endpoints, &["run", &keys.path("zmqd.toml")])
}

/// A list of clients with what follows their names.
fn list(keys: &Keys, clients: &[(&str, &str)]) {
    let lines = clients.iter().map(|(name, words)| {
        let secret = keys.path(&format!("{name}.key_secret"));
        let public = Zmqd::finish(&["keygen", "--public", &secret]).stdout;
        format!("{} {name} {words}\n", public.trim())
    });
    fs::write(keys.path("clients"), lines.collect::<String>()).expect("a list");
}

fn python(broker: &Zmqd, keys: &Keys) -> Python {
    let mut python = Python::beside(broker);
    python.set("keys", &keys.path(""));
    python.run(r#"client = clients_of(keys, server="broker")"#);
    python
}

/// The part of the guide below a heading, up to the next.
fn chapter(heading: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/encryption.md");
    let page = fs::read_to_string(page).expect("a page of the guide");
    let (_, rest) = page.split_once(heading).expect(heading);
    rest.split("\n## ").next().expect("a part").to_owned()
}

/// The first block of a language in a part of the guide.
fn block(chapter: &str, language: &str) -> String {
    let (_, rest) = chapter
        .split_once(&format!("```{language}\n"))
        .expect(language);
    rest.split("```").next().expect("a block").to_owned()
}

/// The lines of the guide, at other ports.
#[test]
fn the_guide_leads_to_two_clients_one_of_which_may_publish() {
    let keys = Keys::new("guide", &[]);
    let chapter = chapter("## Two clients, one of which may publish\n");
    let lines = block(&chapter, "console");
    let commands = lines.lines().map(|line| line.trim_start_matches("$ "));
    let makes_keys = commands.filter(|line| !line.contains("zmqd run"));
    let script: Vec<&str> = makes_keys.collect();
    assert_eq!(script.len(), 3, "{lines}");
    let path = binary().parent().expect("a directory");
    let path = format!("{}:{}", path.display(), env!("PATH"));
    let made = Command::new("sh")
        .args(["-ec", &script.join("\n")])
        .current_dir(keys.path(""))
        .env("PATH", path)
        .status();
    assert!(made.expect("a shell").success());
    let text = block(&chapter, "toml");
    let text = text.replace(":5559", ":0").replace(":5560", ":0");
    let text = text.replace("\"broker.key_secret\"", "\"KEYS/broker.key_secret\"");
    let text = text.replace("\"clients\"", "\"KEYS/clients\"");
    let broker = run(&keys, 2, &text);
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run("os.chdir(keys)");
    python.run(&block(&chapter, "python"));
    python.run(
        r#"
        def of(name):
            made = connect(zmq.XPUB, name, frontend), connect(zmq.SUB, name, backend)
            for each in made:
                each.linger, each.rcvtimeo = 0, PATIENCE_MS
            return made

        (station, _), (intruder, display) = of("station"), of("display")
        display.subscribe(b"")
        assert station.recv() == intruder.recv() == b"\1"
        for number in range(100):
            intruder.send(b"weather.%d forged" % number)
            station.send(b"private %d" % number)
            station.send(b"weather.%d" % number)
        assert take(display, 100) == [[b"weather.%d" % number] for number in range(100)]
        assert is_silent(display, 100)
        "#,
    );
    let log = broker.wait_log("may not publish \"private");
    assert!(log.contains("(user station)"), "{log}");
    assert!(log.contains("the role sender does not permit it"), "{log}");
    let _ = broker.wait_log("(user display) may not publish \"weather.0 forged\"");
}

const FORWARDER: &str = r#"
options = { curve_secret = "KEYS/broker.key_secret", curve_clients = "KEYS/clients" }

[[proxy]]
kind = "forwarder"
frontend.bind = "tcp://127.0.0.1:0"
backend.bind = "tcp://127.0.0.1:0"
control = { bind = "tcp://127.0.0.1:0", curve_secret = "", curve_clients = "" }
"#;

/// Upstream sees what is left of the subscriptions; denied and single topics are left out of what
/// a wide subscription gets.
#[test]
fn subscriptions_are_narrowed_to_what_the_role_permits() {
    let keys = Keys::new("narrowed", &["broker", "ann", "bob"]);
    list(&keys, &[("ann", "role=reader"), ("bob", "")]);
    let roles = r#"
[role.reader]
subscribe = ["a.", "u/%u/", "=b"]
subscribe_deny = ["a.secret"]
"#;
    let broker = run(&keys, 3, &[FORWARDER, roles].concat());
    let mut python = python(&broker, &keys);
    python.run(
        r#"
        publisher = client(zmq.XPUB, frontend, "bob")
        reader = client(zmq.SUB, backend, "ann", subscribe=b"")
        seen = sorted(publisher.recv() for _ in range(3))
        assert seen == [b"\1a.", b"\1b", b"\1u/ann/"], seen
        reader.subscribe(b"a.x")
        assert publisher.recv() == b"\1a.x"
        for topic in [b"a.1", b"a.secret", b"a.secret.2", b"b", b"b2", b"c", b"u/ann/1", b"u/bob/1",
                      b"a.x"]:
            publisher.send_multipart([topic, b"body"])
        got = [parts[0] for parts in take(reader, 4)]
        assert got == [b"a.1", b"b", b"u/ann/1", b"a.x"], got
        assert is_silent(reader, 100)
        reader.unsubscribe(b"")
        seen = sorted(publisher.recv() for _ in range(3))
        assert seen == [b"\0a.", b"\0b", b"\0u/ann/"], seen
        publisher.send(b"a.x1")
        assert reader.recv() == b"a.x1"
        ask = questioner(control)
        peers = {peer.get("user"): peer for peer in ask("peers", side="backend")["peers"]}
        assert peers["ann"]["subscriptions"] == 1, peers
        "#,
    );
}

/// A queue has no topics, but sides, connections and a rate.
#[test]
fn a_role_limits_sides_connections_and_rate() {
    let keys = Keys::new("limits", &["broker", "asker", "worker"]);
    list(&keys, &[("asker", "role=asker"), ("worker", "role=worker")]);
    let broker = run(
        &keys,
        3,
        &FORWARDER.replace("forwarder", "queue").replace(
            "[[proxy]]",
            r#"
[role.asker]
sides = "client"
max_connections = 1
message_rate = 50

[role.worker]
sides = "worker"

[[proxy]]"#,
        ),
    );
    let mut python = python(&broker, &keys);
    python.run(
        r#"
        forged = client(zmq.DEALER, backend, "asker")
        worker = client(zmq.DEALER, backend, "worker")
        asker = client(zmq.DEALER, frontend, "asker")
        began = time.monotonic()
        for number in range(100):
            asker.send(b"%d" % number)
        asked = take(worker, 100)
        took = time.monotonic() - began
        assert [parts[-1] for parts in asked] == [b"%d" % number for number in range(100)]
        assert 0.9 < took < 20, took
        second = client(zmq.DEALER, frontend, "asker")
        second.send(b"second")
        assert is_silent(worker, 300) and is_silent(forged)
        "#,
    );
    let _ = broker.wait_log("(user asker): the role of its user does not permit this side");
    let _ = broker.wait_log("(user asker): its user has as many connections as its role permits");
}

/// An identity is that of its user, also where the newest peer otherwise takes it over.
#[test]
fn an_identity_is_not_taken_over_from_another_user() {
    let keys = Keys::new("identity", &["broker", "ann", "bob"]);
    list(&keys, &[("ann", ""), ("bob", "")]);
    let text = FORWARDER.replace("forwarder", "queue");
    let text = text.replace("options = {", "options = { router_handover = true,");
    let broker = run(&keys, 3, &text);
    let mut python = python(&broker, &keys);
    python.run(
        r#"
        worker = client(zmq.REP, backend, "bob")
        def ask(name):
            made = client(zmq.REQ, frontend, name, routing_id=b"desk")
            made.send(name.encode())
            return made

        ann = ask("ann")
        assert worker.recv() == b"ann"
        bob = ask("bob")
        "#,
    );
    let _ = broker.wait_log("(user bob): another peer has its identity");
    python.run(
        r#"
        worker.send(b"for ann")
        assert ann.recv() == b"for ann"
        assert is_silent(bob)
        again = ask("ann")
        assert worker.recv() == b"ann"
        worker.send(b"for ann again")
        assert again.recv() == b"for ann again"
        "#,
    );
}
