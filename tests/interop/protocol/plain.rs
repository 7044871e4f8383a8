//! PLAIN with libzmq at the other end, and the passwords that decide which peers come in.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use zmqd_tests::raw::{COMMAND, frame, greeting};
use zmqd_tests::zmqd::binary;
use zmqd_tests::{ANY, Python, Raw, Scratch, Zmqd};

/// Python functions for sockets with PLAIN.
const CLIENT: &str = r#"
def client(kind, endpoint, user, password):
    made = socket(kind)
    made.plain_username, made.plain_password = user, password
    made.connect(endpoint)
    return made
"#;

/// A file with the user "weather" and the password "sunny".
pub(crate) fn users() -> Scratch {
    let file = Scratch::absent("users");
    let mut passwd = Command::new(binary())
        .args(["passwd", file.path(), "weather"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = passwd.stdin.take().expect("it was piped");
    stdin.write_all(b"sunny\n").expect("it reads");
    drop(stdin);
    assert!(passwd.wait().expect("it ends").success());
    file
}

/// A file with a password that only its owner can read.
pub(crate) fn password(text: &str) -> Scratch {
    let file = Scratch::new("password", text);
    fs::set_permissions(file.path(), Permissions::from_mode(0o600)).expect("its owner");
    file
}

#[test]
fn only_users_with_their_password_come_in() {
    let file = users();
    let users = format!("plain_users={}", file.path());
    let control = ["--control", ANY, "--set", "control.plain_users="];
    let broker = Zmqd::queue(&[&["--set", &users], &control[..]].concat());
    let mut python = Python::beside(&broker);
    python.run(CLIENT);
    python.run(
        r#"
        strangers = [
            client(zmq.REP, backend, b"weather", b"rain"),
            client(zmq.REP, backend, b"maps", b"sunny"),
            client(zmq.REP, backend, b"\xff", b"sunny"),
            dial(zmq.REP, backend),
        ]
        worker = client(zmq.REP, backend, b"weather", b"sunny")
        asker = client(zmq.REQ, frontend, b"weather", b"sunny")
        for number in range(100):
            asker.send_multipart([b"%d" % number, b"x" * number * 300])
            assert worker.recv_multipart() == [b"%d" % number, b"x" * number * 300]
            worker.send(b"answer")
            assert asker.recv() == b"answer"
        assert all(is_silent(stranger) for stranger in strangers)
        ask = questioner(control)
        peers = [peer for peer in ask("peers")["peers"] if peer["socket"] != "control"]
        found = {(peer["user"], peer["mechanism"]) for peer in peers if peer["user"]}
        assert found == {("weather", "PLAIN")}, peers
        "#,
    );
    broker.signal("TERM");
    let log = broker.wait().stderr;
    assert!(log.contains("not authorised"), "{log}");
    assert!(
        log.contains("the peer wants NULL; this side speaks PLAIN only"),
        "{log}"
    );
    for password in ["sunny", "rain"] {
        assert!(!log.contains(password), "{log}");
    }
}

/// The server of libzmq asks pyzmq's `Authenticator`.
#[test]
fn a_side_is_a_client_of_a_libzmq_server() {
    for (text, is_right) in [("sunny\n", true), ("rain\n", false)] {
        let file = password(text);
        let mut python = Python::new();
        python.run(
            r#"
            from zmq.auth.thread import ThreadAuthenticator
            authenticator = ThreadAuthenticator(context)
            authenticator.start()
            authenticator.configure_plain(domain="*", passwords={"weather": "sunny"})
            sink = socket(zmq.PULL)
            sink.plain_server = True
            sink.bind("tcp://127.0.0.1:0")
            "#,
        );
        let endpoint: String = python.ask("last_endpoint(sink)");
        let broker = Zmqd::start(&[
            "streamer",
            "--frontend",
            ANY,
            "--backend-connect",
            &endpoint,
            "--set",
            "backend.plain_username=weather",
            "--set",
            &format!("backend.plain_password_file={}", file.path()),
        ]);
        python.set("frontend", broker.frontend());
        if is_right {
            python.run(
                r#"
                source = connect(zmq.PUSH, frontend)
                for number in range(100):
                    source.send_multipart([b"%d" % number, b"y" * 1000])
                assert take(sink, 100) == [[b"%d" % n, b"y" * 1000] for n in range(100)]
                "#,
            );
        } else {
            let _line = broker.wait_log("refused: the peer said \"400\"");
        }
        python.run("authenticator.stop()");
    }
}

#[test]
fn two_brokers_use_a_password() {
    let file = users();
    let users = format!("frontend.plain_users={}", file.path());
    let far = Zmqd::forwarder(&["--set", &users]);
    let password = password("sunny");
    let near = Zmqd::start(&[
        "forwarder",
        "--frontend",
        ANY,
        "--backend-connect",
        far.frontend(),
        "--set",
        "backend.plain_username=weather",
        "--set",
        &format!("backend.plain_password_file={}", password.path()),
    ]);
    let mut python = Python::new();
    python.set("entrance", near.frontend());
    python.set("exit", far.backend());
    python.run(
        r#"
        subscriber = connect(zmq.SUB, exit, subscribe=b"a")
        publisher = connect(zmq.XPUB, entrance)
        assert publisher.recv() == b"\1a"
        publisher.send(b"abc")
        assert subscriber.recv() == b"abc"
        "#,
    );
}

/// Hundreds of wrong passwords at a time, beside a client that talks and one that logs in.
#[test]
fn a_flood_of_wrong_passwords_does_not_keep_a_user_out() {
    let file = users();
    let users = format!("frontend.plain_users={}", file.path());
    let broker = Zmqd::streamer(&["--set", &users]);
    let mut python = Python::beside(&broker);
    python.run(CLIENT);
    python.run(
        r#"
        sink = connect(zmq.PULL, backend)
        first = client(zmq.PUSH, frontend, b"weather", b"sunny")
        first.send(b"first")
        assert sink.recv() == b"first"
        "#,
    );
    let before = broker.rss_bytes();
    let hello = frame(COMMAND, b"\x05HELLO\x07weather\x04rain");
    let wrong = [&greeting("PLAIN")[..], &hello].concat();
    let mut flood: Vec<Raw> = Vec::new();
    for round in 0..10 {
        for _ in 0..100 {
            let mut raw = Raw::connect(broker.frontend());
            raw.send(&wrong).expect("a new connection takes it");
            flood.push(raw);
        }
        python.set("round", &round.to_string());
        python.run(
            r#"
            late = client(zmq.PUSH, frontend, b"weather", b"sunny")
            late.send(b"late")
            first.send(round.encode())
            assert {sink.recv(), sink.recv()} == {b"late", round.encode()}
            late.close()
            "#,
        );
    }
    for raw in &mut flood {
        // The greeting, unless a reset has overtaken it.
        let seen = raw.read_until_closed();
        assert!(seen.len() <= 64, "{}", seen.escape_ascii());
    }
    let grown = broker.rss_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}
