//! CURVE with libzmq at the other end: the patterns, and the keys that decide which peers come in.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{self, Command};

use zmqd_tests::raw::{COMMAND, frame, greeting, ready};
use zmqd_tests::{ANY, CURVE_KEYS, Python, Raw, Zmqd};

/// A directory with keys that `zmqd keygen` has made; removed when dropped.
pub(crate) struct Keys(PathBuf);

impl Keys {
    pub(crate) fn new(name: &str, owners: &[&str]) -> Self {
        let path = env::temp_dir().join(format!("zmqd-curve-{name}-{}", process::id()));
        fs::create_dir_all(&path).expect("a directory");
        let keys = Self(path);
        for owner in owners {
            let file = keys.0.join(owner);
            fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
            let made = Zmqd::finish(&["keygen", &keys.path(owner)]);
            assert_eq!(made.code, Some(0), "{}", made.stderr);
        }
        keys
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// The setting of an option to a file here.
    pub(crate) fn set(&self, option: &str, file: &str) -> String {
        format!("{option}={}", self.path(file))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("the directory");
    }
}

/// The tests of the three kinds of proxy, and of PAIR, once more, with all their sockets encrypted.
#[test]
fn queue_forwarder_and_streamer_pass_their_tests_with_curve() {
    let keys = Keys::new("patterns", &["server", "client"]);
    let mut again = Command::new(env::current_exe().expect("this binary"));
    again.args([
        "patterns::any_sockets::pairs_exchange",
        "patterns::queue",
        "patterns::forwarder",
        "patterns::streamer",
    ]);
    // These start brokers or peers of their own, which have no keys.
    for name in UNENCRYPTED {
        again.args(["--skip", name]);
    }
    let output = again.env(CURVE_KEYS, &keys.0).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = text.matches(" ... ok\n").count();
    assert!(output.status.success() && passed >= 20, "{text}");
}

const UNENCRYPTED: [&str; 2] = [
    "one_side_binds_and_connects_several_endpoints",
    "the_backend_connects_to_a_server_that_binds",
];

#[test]
fn only_clients_with_the_servers_key_come_in() {
    let keys = Keys::new("secret", &["server", "other", "client"]);
    let secret = keys.set("curve_secret", "server.key_secret");
    let broker = Zmqd::queue(&["--set", &secret, "--set", "curve_clients=any"]);
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        client = clients_of(keys)
        stranger = clients_of(keys, server="other")(zmq.DEALER, backend)
        plain = dial(zmq.DEALER, backend)
        worker, asker = client(zmq.REP, backend), client(zmq.REQ, frontend)
        for number in range(300):
            asker.send_multipart([b"%d" % number, b"x" * number * 300])
            assert worker.recv_multipart() == [b"%d" % number, b"x" * number * 300]
            worker.send(b"answer")
            assert asker.recv() == b"answer"
        assert is_silent(stranger) and is_silent(plain)
        "#,
    );
}

#[test]
fn only_listed_clients_come_in() {
    let keys = Keys::new("clients", &["server", "clients/listed", "unlisted"]);
    let secret = keys.set("curve_secret", "server.key_secret");
    let clients = keys.set("curve_clients", "clients");
    let control = [
        "--control",
        ANY,
        "--set",
        "control.curve_secret=",
        "--set",
        "control.curve_clients=",
    ];
    let broker = Zmqd::streamer(&[&["--set", &secret, "--set", &clients], &control[..]].concat());
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        client = clients_of(keys)
        unlisted = client(zmq.PULL, backend, "unlisted")
        sink = client(zmq.PULL, backend, "clients/listed")
        source = client(zmq.PUSH, frontend, "clients/listed")
        for number in range(100):
            source.send(b"%d" % number)
        assert take(sink, 100) == [[b"%d" % number] for number in range(100)]
        assert is_silent(unlisted)
        ask = questioner(control)
        peers = ask("peers")["peers"]
        # The one that is refused is still connected.
        ready = [peer for peer in peers if peer["phase"] == "ready"]
        assert {peer["user"] for peer in ready} == {"listed"}, peers
        "#,
    );
    broker.signal("TERM");
    let log = broker.wait().stderr;
    assert!(log.contains("not authorised"), "{log}");
    let secret = fs::read_to_string(keys.path("server.key_secret")).expect("the file");
    let secret = secret.split('"').nth(3).expect("a secret key");
    assert!(
        secret.len() == 40 && !log.contains(secret),
        "a secret key in the log"
    );
}

#[test]
fn a_list_limits_the_addresses_of_its_clients() {
    let keys = Keys::new("networks", &["server", "near", "far"]);
    let public = |name: &str| {
        let printed = Zmqd::finish(&["keygen", "--public", &keys.path(name)]);
        printed.stdout.trim().to_owned()
    };
    let (near, far) = (public("near.key_secret"), public("far.key_secret"));
    let list = format!("# clients\n{near} near from=127.0.0.0/8,::1\n{far} far from=10.0.0.0/8\n");
    fs::write(keys.path("list"), list).expect("a list");
    let secret = keys.set("curve_secret", "server.key_secret");
    let clients = keys.set("curve_clients", "list");
    let broker = Zmqd::streamer(&["--set", &secret, "--set", &clients]);
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        client = clients_of(keys)
        far = client(zmq.PULL, backend, "far")
        sink, source = client(zmq.PULL, backend, "near"), client(zmq.PUSH, frontend, "near")
        for number in range(100):
            source.send(b"%d" % number)
        assert take(sink, 100) == [[b"%d" % number] for number in range(100)]
        assert is_silent(far)
        "#,
    );
}

/// A libzmq client gives the endpoint up after an ERROR. After a mere close it comes back, and
/// waits longer each time.
#[test]
fn a_refused_client_tries_again_unless_it_is_told() {
    let keys = Keys::new("reject", &["server", "listed", "client"]);
    let secret = keys.set("frontend.curve_secret", "server.key_secret");
    let clients = keys.set("frontend.curve_clients", "listed.key");
    for reject in ["close", "error"] {
        let reject = format!("frontend.reject={reject}");
        let control = ["--control", ANY];
        let options = ["--set", &secret, "--set", &clients, "--set", &reject];
        let broker = Zmqd::streamer(&[&options[..], &control].concat());
        let mut python = Python::beside(&broker);
        python.set("keys", &keys.path(""));
        python.set("reject", &reject);
        python.run(
            r#"
            ask = questioner(control)
            client = socket(zmq.PUSH)
            be_client(client, keys)
            told, untold = zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            is_told = reject.endswith("error")
            wait = watch(client, told | untold)
            begin = time.monotonic()
            client.connect(frontend)
            assert wait() == (told if is_told else untold)
            if not is_told:
                assert wait() == untold
                # One second, and then two.
                assert time.monotonic() - begin > 2.9
            count = 1 if is_told else 2
            assert counters(ask, "frontend")["closed"] == {"not-authorised": count}
            "#,
        );
        let line = broker.wait_log("not authorised (key ");
        let key = fs::read_to_string(keys.path("client.key")).expect("the file");
        let key = key.split('"').nth(1).expect("a public key");
        assert!(line.contains(&key[..8]) && !line.contains(key), "{line}");
        assert_eq!(
            broker.log_count("not authorised"),
            1,
            "one line for all attempts"
        );
    }
}

#[test]
fn a_side_is_a_client_of_a_libzmq_server() {
    let keys = Keys::new("client", &["server", "zmqd"]);
    let mut python = Python::new();
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        sink = socket(zmq.PULL)
        be_server(sink, keys)
        sink.bind("tcp://127.0.0.1:0")
        "#,
    );
    let endpoint: String = python.ask("last_endpoint(sink)");
    let secret = keys.set("backend.curve_secret", "zmqd.key_secret");
    let server = keys.set("backend.curve_server", "server.key");
    let broker = Zmqd::start(&[
        "streamer",
        "--frontend",
        ANY,
        "--backend-connect",
        &endpoint,
        "--set",
        &secret,
        "--set",
        &server,
    ]);
    python.set("frontend", broker.frontend());
    python.run(
        r#"
        source = connect(zmq.PUSH, frontend)
        for number in range(100):
            source.send_multipart([b"%d" % number, b"y" * 1000])
        assert take(sink, 100) == [[b"%d" % number, b"y" * 1000] for number in range(100)]
        "#,
    );
}

/// Where the keys are is said once for both sides; a setting of one side counts more.
#[test]
fn the_command_line_gives_both_sides_their_keys() {
    let keys = Keys::new("arguments", &["server", "client", "worker"]);
    let broker = Zmqd::queue(&[
        "--curve-secret",
        &keys.path("server.key_secret"),
        "--curve-clients",
        &keys.path("client.key"),
        "--set",
        &keys.set("backend.curve_clients", "worker.key"),
    ]);
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        client = clients_of(keys)
        stranger = client(zmq.REP, backend, "client")
        worker, asker = client(zmq.REP, backend, "worker"), client(zmq.REQ, frontend, "client")
        asker.send(b"question")
        assert worker.recv() == b"question"
        worker.send(b"answer")
        assert asker.recv() == b"answer"
        assert is_silent(stranger)
        "#,
    );
    let mut python = Python::new();
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        sink = socket(zmq.PULL)
        be_server(sink, keys)
        sink.bind("tcp://127.0.0.1:0")
        "#,
    );
    let endpoint: String = python.ask("last_endpoint(sink)");
    let broker = Zmqd::start(&[
        "streamer",
        "--frontend",
        ANY,
        "--set",
        "frontend.curve_server=",
        &keys.set("frontend.curve_clients", "client.key"),
        "--backend-connect",
        &endpoint,
        "--curve-secret",
        &keys.path("client.key_secret"),
        "--curve-server",
        &keys.path("server.key"),
    ]);
    python.set("frontend", broker.frontend());
    python.run(
        r#"
        source = socket(zmq.PUSH)
        be_client(source, keys, server="client", client="client")
        source.connect(frontend)
        source.send(b"work")
        assert sink.recv() == b"work"
        "#,
    );
}

/// Frames of 8 or 32 MiB and more, depending on the processor, are opened and sealed in steps;
/// libzmq does it at once.
#[test]
fn long_frames_pass_as_they_are() {
    let keys = Keys::new("long", &["server", "client"]);
    let broker = Zmqd::streamer(&[
        "--curve-secret",
        &keys.path("server.key_secret"),
        "--curve-clients",
        &keys.path("client.key"),
    ]);
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        import os
        client = clients_of(keys)
        source, sink = client(zmq.PUSH, frontend, "client"), client(zmq.PULL, backend, "client")
        for edge in [8 << 20, 32 << 20]:
            for size in [edge - 34, edge - 33, edge, edge + 7, 1]:
                frames = [b"head", os.urandom(size), b"", os.urandom(edge + 5), b"tail"]
                source.send_multipart(frames)
                received = sink.recv_multipart()
                assert [len(it) for it in received] == [len(it) for it in frames]
                assert received == frames
        "#,
    );
}

/// Peers without CURVE get the greeting of the broker, or a part of it, and no byte more: neither
/// the socket type nor the name of the other side.
#[test]
fn a_curve_side_sends_its_greeting_only_to_other_mechanisms_and_old_versions() {
    let keys = Keys::new("others", &["server"]);
    let broker = Zmqd::queue(&[
        "--curve-secret",
        &keys.path("server.key_secret"),
        "--curve-clients",
        "any",
    ]);
    let as_server = |mechanism: &str| {
        let mut bytes = greeting(mechanism);
        bytes[32] = 1;
        bytes
    };
    let hello = frame(COMMAND, b"\x05HELLO\x04user\x06secret");
    for (name, sent) in [
        ("NULL", [&greeting("NULL")[..], &ready("DEALER")].concat()),
        ("PLAIN", [&greeting("PLAIN")[..], &hello].concat()),
        ("GSSAPI", greeting("GSSAPI").to_vec()),
        ("no name", greeting("").to_vec()),
        ("a longer name", greeting("CURVE2").to_vec()),
        ("a name in lower case", greeting("curve").to_vec()),
        ("the longest name", greeting(&"A".repeat(20)).to_vec()),
        ("a server of NULL", as_server("NULL").to_vec()),
        ("a second server", as_server("CURVE").to_vec()),
        (
            "ZMTP 2.0",
            b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\0\0".to_vec(),
        ),
        ("ZMTP 1.0", b"\x01\0\x06\0hello".to_vec()),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        for endpoint in [broker.frontend(), broker.backend()] {
            let mut raw = Raw::connect(endpoint);
            // The broker may close before it has read all of this.
            drop(raw.send(&sent));
            let seen = raw.read_until_closed();
            assert!(
                as_server("CURVE").starts_with(&seen),
                "{name}: {}",
                seen.escape_ascii()
            );
        }
    }
    broker.wait_connections(0);
}

#[test]
fn two_brokers_encrypt_what_passes_between_them() {
    let keys = Keys::new("chain", &["far", "near"]);
    let far = Zmqd::forwarder(&[
        "--set",
        &keys.set("frontend.curve_secret", "far.key_secret"),
        "--set",
        &keys.set("frontend.curve_clients", "near.key"),
    ]);
    let near = Zmqd::start(&[
        "forwarder",
        "--frontend",
        ANY,
        "--backend-connect",
        far.frontend(),
        "--set",
        &keys.set("backend.curve_secret", "near.key_secret"),
        "--set",
        &keys.set("backend.curve_server", "far.key"),
    ]);
    let mut python = Python::new();
    python.set("entrance", near.frontend());
    python.set("exit", far.backend());
    python.run(
        r#"
        subscriber = connect(zmq.SUB, exit, subscribe=b"a")
        publisher = connect(zmq.XPUB, entrance)
        assert publisher.recv() == b"\1a"
        for number in range(100):
            publisher.send_multipart([b"a%d" % number, b"z" * number * 100])
            publisher.send(b"b")
        assert take(subscriber, 100) == [[b"a%d" % n, b"z" * n * 100] for n in range(100)]
        "#,
    );
}

/// Connections that stop before or after the greeting, and never send a command.
#[test]
fn hundreds_of_half_handshakes_do_not_keep_a_client_out() {
    let keys = Keys::new("half", &["server", "client"]);
    let secret = keys.set("curve_secret", "server.key_secret");
    let broker = Zmqd::queue(&["--set", &secret, "--set", "curve_clients=any"]);
    let before = broker.rss_bytes();
    let mut half: Vec<Raw> = (0..400).map(|_| Raw::connect(broker.frontend())).collect();
    for raw in &mut half[..200] {
        raw.send(&greeting("CURVE"))
            .expect("the broker reads greetings");
    }
    let mut python = Python::beside(&broker);
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        def client(kind, endpoint):
            made = socket(kind)
            be_client(made, keys)
            made.connect(endpoint)
            return made

        worker = client(zmq.REP, backend)
        for number in range(50):
            asker = client(zmq.REQ, frontend)
            asker.send(b"%d" % number)
            assert worker.recv() == b"%d" % number
            worker.send(b"answer")
            assert asker.recv() == b"answer"
            asker.close()
        "#,
    );
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(
        grown < 4 << 20,
        "{grown} bytes more for 400 half handshakes"
    );
    drop(half);
}
