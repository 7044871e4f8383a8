//! Sockets with keys, users and networks, and endpoints that other machines could reach.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use zmqd_tests::{Python, Scratch, Zmqd, wait_until};

use super::Watching;
use crate::protocol::curve::Keys;
use crate::protocol::plain;

/// A watch for each of these services, and the keys of its sockets.
fn config(services: &[&str], heartbeat: &str, events: &str) -> String {
    let watches = services.iter().map(|name| {
        format!("[[watch]]\nname = \"{name}\"\nheartbeat.service = \"{name}\"\nafter = \"1h\"\n")
    });
    format!(
        "[watcher.heartbeat]\ntcp = \"\"\nzmtp = \"tcp://127.0.0.1:0\"\n{heartbeat}\n\
         [watcher.events]\nbind = \"tcp://127.0.0.1:0\"\n{events}\n{}",
        watches.collect::<String>()
    )
}

/// The settings of a CURVE server for the clients in a directory.
fn curve(keys: &Keys, clients: &str) -> String {
    let (secret, clients) = (keys.path("server.key_secret"), keys.path(clients));
    format!("curve_secret = \"{secret}\"\ncurve_clients = \"{clients}\"")
}

impl Watching {
    /// A Python with the endpoints of the watch in `heartbeats` and `events`.
    fn python(&self) -> Python {
        let mut python = Python::new();
        python.set("heartbeats", &self.bound("heartbeat"));
        python.set("events", &self.bound("events"));
        python
    }

    #[track_caller]
    fn wait_refused(&self, count: u64) {
        wait_until(&format!("{count} refused peers"), || {
            (self.counter("refused_peers") >= count).then_some(())
        });
    }
}

#[test]
fn only_clients_with_a_listed_key_send_heartbeats_and_read_events() {
    let owners = ["server", "other", "clients/listed", "unlisted"];
    let keys = Keys::new("watch", &owners);
    let security = curve(&keys, "clients");
    let services = ["listed", "unlisted", "other", "null", "late"];
    let watching = Watching::start(&config(&services, &security, &security));
    let mut python = watching.python();
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        client = clients_of(keys)
        reader = client(zmq.SUB, events, "clients/listed", subscribe=b"")
        nosy = client(zmq.SUB, events, "unlisted", subscribe=b"")
        plain = dial(zmq.SUB, events, subscribe=b"")
        senders = {
            b"unlisted": client(zmq.PUSH, heartbeats, "unlisted"),
            b"other": clients_of(keys, server="other")(zmq.PUSH, heartbeats, "clients/listed"),
            b"null": dial(zmq.PUSH, heartbeats),
        }
        for name, sender in senders.items():
            sender.send(name)
        listed = client(zmq.PUSH, heartbeats, "clients/listed")
        # The subscription is in place when the first object of another type arrives.
        while not reader.poll(50):
            listed.send(b'{"type": "probe"}')
        listed.send(b"listed")
        while reader.recv_multipart()[0] != b"watch/listed":
            pass
        "#,
    );
    watching.wait_state("listed", "up");
    // Each of the five has tried at least once, and libzmq tries again and again.
    watching.wait_refused(10);
    python.run("listed.send(b'late')");
    watching.wait_state("late", "up");
    for name in ["unlisted", "other", "null"] {
        assert_eq!(watching.state(name), "new", "{name}");
    }
    python.run("assert is_silent(nosy) and is_silent(plain)");
    assert_eq!(watching.process.log_count("a peer is refused"), 1);
}

/// Connections without a handshake make room for each other, and peers that have come in stay.
#[test]
fn strangers_do_not_push_out_peers_that_have_come_in() {
    let keys = Keys::new("watch-crowd", &["server", "clients/a"]);
    let security = curve(&keys, "clients");
    let watching = Watching::start(&config(&["a", "b"], &security, ""));
    let mut python = watching.python();
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        peer = clients_of(keys)(zmq.PUSH, heartbeats, "clients/a")
        peer.send(b"a")
        "#,
    );
    watching.wait_state("a", "up");
    python.run("losses = peer.get_monitor_socket(zmq.EVENT_DISCONNECTED)");
    let address = watching.bound("heartbeat");
    let address = address.trim_start_matches("tcp://");
    let _turn = zmqd_tests::turns::many_connections();
    let crowd = (0..100).map(|_| TcpStream::connect(address).expect("it listens"));
    let crowd: Vec<TcpStream> = crowd.collect();
    wait_until("all of the crowd", || {
        (watching.counter("surplus_connections") >= 37).then_some(())
    });
    python.run("peer.send(b'b')");
    watching.wait_state("b", "up");
    python.run("assert is_silent(losses, 100)");
    drop(crowd);
}

#[test]
fn only_users_with_their_password_send_heartbeats() {
    let users = plain::users();
    let security = format!("plain_users = \"{}\"", users.path());
    let services = ["right", "wrong", "null"];
    let watching = Watching::start(&config(&services, &security, ""));
    let mut python = watching.python();
    python.run(
        r#"
        def client(password):
            made = socket(zmq.PUSH)
            made.plain_username, made.plain_password = b"weather", password
            made.connect(heartbeats)
            return made
        wrong, null = client(b"rain"), dial(zmq.PUSH, heartbeats)
        wrong.send(b"wrong")
        null.send(b"null")
        "#,
    );
    watching.wait_refused(4);
    python.run("right = client(b'sunny'); right.send(b'right')");
    watching.wait_state("right", "up");
    for name in ["wrong", "null"] {
        assert_eq!(watching.state(name), "new", "{name}");
    }
    watching.process.signal("TERM");
    let log = watching.process.wait().stderr;
    assert!(!log.contains("rain") && !log.contains("sunny"), "{log}");
}

#[test]
fn a_reload_takes_other_keys_and_closes_what_came_in_by_the_old_ones() {
    let keys = Keys::new("watch-reload", &["server", "clients/a", "clients/b"]);
    let security = curve(&keys, "clients");
    let watching = Watching::start(&config(&["a", "b", "gone"], &security, ""));
    let mut python = watching.python();
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        a, b = (clients_of(keys)(zmq.PUSH, heartbeats, "clients/" + name) for name in "ab")
        a.send(b"a")
        b.send(b"b")
        "#,
    );
    watching.wait_state("a", "up");
    watching.wait_state("b", "up");
    let secret = keys.path("server.key_secret");
    let text = fs::read_to_string(&secret).expect("its key");
    fs::remove_file(keys.path("clients/a.key")).expect("it is ours");
    // A file that cannot be used changes nothing.
    fs::write(&secret, "none").expect("it is ours");
    watching.process.signal("HUP");
    let line = watching.process.wait_log("reload rejected");
    assert!(line.contains("watcher.heartbeat: "), "{line}");
    assert_eq!(watching.counter("refused_peers"), 0);
    fs::write(&secret, text).expect("it is ours");
    watching.process.signal("HUP");
    let _ = watching.process.wait_log("reloaded: 3 watches");
    watching.wait_refused(1);
    python.run("a.send(b'gone'); b.send(b'{\"type\": \"stranger\"}')");
    wait_until("a message of the other", || {
        (watching.counter("unknown_heartbeats") == 1).then_some(())
    });
    assert_eq!(watching.state("gone"), "new");
}

/// What `zmqd check` says about a watch with these keys; nothing if they are legal.
fn complaint(watcher: &str, root: &str) -> String {
    let watch = "[[watch]]\nname = \"a\"\nheartbeat = {}\n";
    let file = Scratch::new("toml", &format!("{root}\n{watch}[watcher]\n{watcher}\n"));
    let checked = Zmqd::finish(&["check", file.path()]);
    let refused = [0, 2].iter().position(|code| checked.code == Some(*code));
    let refused = refused.expect("a verdict") == 1;
    assert_eq!(refused, !checked.stderr.is_empty(), "{}", checked.stderr);
    if refused {
        let started = Zmqd::finish(&["watch", file.path()]);
        assert_eq!(
            (started.code, &started.stderr),
            (Some(2), &checked.stderr),
            "it does not start"
        );
    }
    checked.stderr
}

/// The ways out that a refusal names.
const OPEN: &str = "set curve_secret and curve_clients, or tcp_accept_filter, or insecure = true";
const PLAIN: &str = "set tcp_accept_filter, or insecure = true, or use localhost";
const CLEAR: &str = "would pass the network of tcp://*:7006 in the clear";

const NETWORK: &str = "tcp_accept_filter = \"10.0.0.0/8\"";
const CONSENT: &str = "insecure = true";

fn heartbeat(more: &str) -> String {
    format!("heartbeat = {{ zmtp = \"tcp://*:7006\"{more} }}")
}

fn events(more: &str) -> String {
    format!("events = {{ bind = \"tcp://*:7006\"{more} }}")
}

fn tcp(more: &str) -> String {
    format!("heartbeat = {{ tcp = \"0.0.0.0:7006\"{more} }}")
}

#[track_caller]
fn refuse(watcher: &str, key: &str, expected: &str) {
    let said = complaint(watcher, "");
    let is_right = said.contains(&format!("watcher.{key}: ")) && said.contains(expected);
    assert!(is_right, "{watcher}: {said}");
}

#[test]
fn endpoints_beyond_loopback_need_keys_networks_or_consent() {
    refuse(&heartbeat(""), "heartbeat.zmtp", OPEN);
    refuse(&events(""), "events.bind", OPEN);
    refuse("events = \"tcp://*:7006\"", "events", OPEN);
    refuse(&tcp(""), "heartbeat.tcp", PLAIN);
    let beside = tcp(", zmtp = \"ipc://@no\"");
    refuse(&beside, "heartbeat.tcp", PLAIN);
    let users = plain::users();
    let users = format!(", plain_users = \"{}\"", users.path());
    refuse(&heartbeat(&users), "heartbeat.zmtp", CLEAR);
    let filtered = heartbeat(&format!("{users}, {NETWORK}"));
    refuse(&filtered, "heartbeat.zmtp", CLEAR);
    let keys = Keys::new("watch-open", &["server", "clients/a"]);
    let server = curve(&keys, "clients").replace('\n', ", ");
    for keys in [&server[..], NETWORK, CONSENT] {
        for watcher in [
            heartbeat(&format!(", {keys}")),
            events(&format!(", {keys}")),
        ] {
            assert_eq!(complaint(&watcher, ""), "", "{watcher}");
        }
    }
    for keys in [NETWORK, CONSENT] {
        assert_eq!(complaint(&tcp(&format!(", {keys}")), ""), "");
    }
    assert_eq!(complaint(&heartbeat(""), CONSENT), "");
    let said = complaint(&heartbeat(", insecure = false"), CONSENT);
    assert!(said.contains(OPEN), "{said}");
}

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let any = "curve_clients = \"any\"";
    refuse(
        &format!("heartbeat = {{ curve_secret = \"s\", {any} }}"),
        "heartbeat.curve_secret",
        "write zmtp = \"ENDPOINT\"",
    );
    refuse(
        &format!("heartbeat = {{ zmtp = \"ipc://@no\", {any} }}"),
        "heartbeat",
        "curve_secret",
    );
    refuse(
        "heartbeat = { tcp_accept_filter = \"10.0.0.1/8\" }",
        "heartbeat.tcp_accept_filter",
        "beyond its 8 bits",
    );
    let absent = heartbeat(&format!(", curve_secret = \"/none\", {any}"));
    refuse(&absent, "heartbeat", "cannot read /none");
    refuse("events = { }", "events", "bind = ");
}

#[test]
fn only_peers_of_the_networks_come_in() {
    let filtered = |network: &str| {
        let keys = format!("tcp_accept_filter = [\"10.0.0.0/8\", \"{network}\"]");
        config(&["null", "plain"], &keys, &keys)
            .replace("tcp = \"\"", "tcp = \"0.0.0.0:0\"")
            .replace("tcp://127.0.0.1:0", "tcp://*:0")
    };
    let port = |text: String| text.rsplit(':').next().expect("a port").to_owned();
    for (network, comes_in) in [("127.0.0.0/8", true), ("192.0.2.0/24", false)] {
        let watching = Watching::start(&filtered(network));
        let json = format!("127.0.0.1:{}", port(watching.bound("json")));
        let mut client = TcpStream::connect(json).expect("it listens");
        // The other end may have closed it already.
        let _ = client.write_all(b"{\"service\": \"plain\"}");
        drop(client);
        let mut python = Python::new();
        let heartbeats = format!("tcp://127.0.0.1:{}", port(watching.bound("heartbeat")));
        python.set("heartbeats", &heartbeats);
        python.run("sender = dial(zmq.PUSH, heartbeats); sender.send(b'null')");
        if comes_in {
            watching.wait_state("null", "up");
            watching.wait_state("plain", "up");
            assert_eq!(watching.counter("refused_peers"), 0);
            continue;
        }
        let line = watching.process.wait_log("a peer is refused");
        assert!(line.contains("tcp_accept_filter"), "{line}");
        watching.wait_refused(3);
        assert_eq!((watching.state("null"), watching.state("plain")), {
            let new = "new".to_owned();
            (new.clone(), new)
        });
    }
}
