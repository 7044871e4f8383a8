//! Endpoints of ipc, by path and in the abstract namespace, with pyzmq at the other end.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use zmqd_tests::{ANY, Python, Zmqd, wait_until};

/// A directory for sockets. Its path is short, since the path of a socket is limited.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("zmqd-it-{}-{number}", process::id()));
        fs::create_dir(&path).expect("the temporary directory can be written to");
        Self { path }
    }

    /// The path of a file in it.
    fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// The endpoint of a socket in it.
    fn ipc(&self, name: &str) -> String {
        format!("ipc://{}", self.file(name))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).expect("it exists").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path)); // fails only if it was removed
    }
}

/// A name in the abstract namespace, not used by other tests.
fn abstract_endpoint(name: &str) -> String {
    format!("ipc://@zmqd-it-{}-{name}", process::id())
}

#[test]
fn every_kind_of_proxy_works_over_ipc() {
    let directory = Directory::new();
    for (kind, front, back) in [
        ("queue", directory.ipc("front"), abstract_endpoint("back")),
        (
            "forwarder",
            abstract_endpoint("front"),
            directory.ipc("back"),
        ),
        ("streamer", "ipc://*".to_owned(), "ipc://*".to_owned()),
    ] {
        let broker = Zmqd::start(&[kind, "--frontend", &front, "--backend", &back]);
        for (bound, configured) in [(broker.frontend(), &front), (broker.backend(), &back)] {
            let is_chosen = configured == "ipc://*" && bound.starts_with("ipc:///");
            assert!(bound == configured || is_chosen, "{bound} for {configured}");
        }
        let mut python = Python::beside(&broker);
        python.set("kind", kind);
        python.run(
            r#"
            honest = Honest(kind, frontend, backend)
            honest.passes()
            honest.pause()
            "#,
        );
        broker.signal("TERM");
        assert_eq!(broker.wait().code, Some(0));
        assert_eq!(
            directory.names(),
            [""; 0],
            "files are left after the broker has ended"
        );
    }
}

#[test]
fn the_directory_of_a_wildcard_path_is_removed() {
    let directory = Directory::new();
    let broker = Zmqd::start(&["queue", "--frontend", "ipc://*", "--backend", ANY]);
    let path = broker.frontend().strip_prefix("ipc://").expect("a path");
    let parent = PathBuf::from(path)
        .parent()
        .expect("a directory")
        .to_owned();
    let mode = fs::metadata(&parent).expect("it exists").permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    broker.signal("INT");
    assert_eq!(broker.wait().code, Some(0));
    assert!(!parent.exists());
    drop(directory);
}

#[test]
fn large_messages_pass_over_ipc() {
    let directory = Directory::new();
    let (front, back) = (directory.ipc("front"), directory.ipc("back"));
    let broker = Zmqd::start(&["queue", "--frontend", &front, "--backend", &back]);
    Python::beside(&broker).run(
        r#"
        client, server = connect(zmq.DEALER, frontend), connect(zmq.REP, backend)
        sent = [b"", os.urandom(10), os.urandom(20_000_000), b"", os.urandom(70_000)]
        client.send_multipart(sent)
        received = server.recv_multipart()
        assert digest(received) == digest(sent[1:])
        server.send_multipart(received)
        assert digest(client.recv_multipart()) == digest(sent)
        "#,
    );
}

#[test]
fn ipc_links_connect_and_reconnect() {
    let directory = Directory::new();
    let (front, back) = (abstract_endpoint("client"), directory.ipc("server"));
    let broker = Zmqd::start_expecting(
        0,
        &[
            "queue",
            "--frontend-connect",
            &front,
            "--backend-connect",
            &back,
            "--set",
            "reconnect_ivl=10",
            "reconnect_ivl_max=10",
        ],
    );
    let mut python = Python::beside(&broker);
    python.set("front", &front);
    python.set("back", &back);
    python.run(
        r#"
        for life in range(3):
            client, server = bind(zmq.DEALER, front), bind(zmq.REP, back)
            for number in range(20):
                question = b"%d in life %d" % (number, life)
                client.send_multipart([b"", question])
                assert server.recv() == question
                server.send(question)
                assert client.recv_multipart() == [b"", question]
            client.close()
            server.close()
        "#,
    );
    let log = broker.wait_log(&format!("cannot connect to {front}"));
    assert!(log.contains("retrying"), "{log}");
}

#[test]
fn a_socket_file_left_by_a_crash_is_replaced() {
    let directory = Directory::new();
    let (front, back) = (directory.ipc("front"), directory.ipc("back"));
    let arguments = ["queue", "--frontend", &front, "--backend", &back];
    let mut broker = Zmqd::start(&arguments);
    let mut python = Python::beside(&broker);
    python.run("server, client = connect(zmq.REP, backend), connect(zmq.REQ, frontend)");
    for _ in 0..3 {
        broker.kill();
        assert_eq!(directory.names(), ["back", "front"], "after a crash");
        broker = Zmqd::start(&arguments);
        // The connected peers reconnect to the same paths.
        python.run(
            r#"
            client.send(b"question")
            assert server.recv() == b"question"
            server.send(b"answer")
            assert client.recv() == b"answer"
            "#,
        );
    }
}

#[test]
fn a_socket_in_use_is_never_replaced() {
    let directory = Directory::new();
    let (front, back) = (directory.ipc("front"), directory.ipc("back"));
    let first = Zmqd::start(&["queue", "--frontend", &front, "--backend", ANY]);
    let mut python = Python::beside(&first);
    python.set("back", &back);
    python.run("other = bind(zmq.PULL, back)");
    for taken in [&front, &back, &abstract_endpoint("taken")] {
        let _other = taken
            .strip_prefix("ipc://@")
            .map(|name| UnixListener::bind_addr(&abstract_address(name)).expect("it is free"));
        let end = Zmqd::finish(&["queue", "--frontend", taken, "--backend", ANY]);
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        let expected = format!("queue frontend: cannot bind {taken}: ");
        assert!(end.stderr.contains(&expected), "{}", end.stderr);
        assert!(
            end.stderr.contains("stop the other process"),
            "{}",
            end.stderr
        );
    }
    python.run(
        r#"
        connect(zmq.PUSH, back).send(b"still here")
        assert other.recv() == b"still here"
        honest = Honest("queue", frontend, backend)
        honest.passes()
        "#,
    );
}

fn abstract_address(name: &str) -> std::os::unix::net::SocketAddr {
    use std::os::linux::net::SocketAddrExt;
    std::os::unix::net::SocketAddr::from_abstract_name(name).expect("short enough")
}

#[test]
fn a_regular_file_is_never_replaced() {
    let directory = Directory::new();
    let path = directory.file("precious");
    fs::write(&path, "precious").expect("the directory can be written to");
    let end = Zmqd::finish(&[
        "queue",
        "--frontend",
        &directory.ipc("precious"),
        "--backend",
        ANY,
    ]);
    assert_eq!(end.code, Some(1), "{}", end.stderr);
    assert!(end.stderr.contains("is not a socket"), "{}", end.stderr);
    assert_eq!(fs::read_to_string(&path).expect("it exists"), "precious");
}

#[test]
fn one_of_several_brokers_gets_a_path() {
    let directory = Directory::new();
    let front = directory.ipc("front");
    drop(UnixListener::bind(directory.file("front")).expect("it is free")); // as a crash would
    let arguments = [
        "streamer",
        "--frontend",
        &front,
        "--backend",
        "tcp://127.0.0.1:0",
    ];
    let mut all: Vec<Zmqd> = (0..6)
        .map(|_| Zmqd::start_expecting(0, &arguments))
        .collect();
    wait_until("all but one to end", || {
        let running = all
            .iter_mut()
            .filter_map(|one| one.exited().is_none().then_some(()));
        (running.count() == 1).then_some(())
    });
    let mut python = Python::new();
    python.set("front", &front);
    python.run("connect(zmq.PUSH, front)");
    all.retain_mut(|one| one.exited().is_none());
    let last = all.pop().expect("one broker still runs");
    last.signal("TERM");
    assert_eq!(last.wait().code, Some(0));
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn ipc_mode_and_ipc_owner_restrict_access() {
    let directory = Directory::new();
    let metadata = fs::metadata(&directory.path).expect("it exists");
    let is_root = metadata.uid() == 0;
    // Only root may change the owner of a file; others can only name themselves.
    let (uid, gid) = if is_root {
        (12_345, 54_321)
    } else {
        (metadata.uid(), metadata.gid())
    };
    let (front, back) = (directory.ipc("front"), directory.ipc("back"));
    let broker = Zmqd::start(&[
        "queue",
        "--frontend",
        &front,
        "--backend",
        &back,
        "--set",
        &format!("ipc_owner={uid}:{gid}"),
        "frontend.ipc_mode=600",
        "backend.ipc_mode=0666",
    ]);
    for (name, mode) in [("front", 0o600), ("back", 0o666)] {
        let found = fs::symlink_metadata(directory.file(name)).expect("it exists");
        let permissions = found.permissions().mode() & 0o777;
        assert_eq!(
            (permissions, found.uid(), found.gid()),
            (mode, uid, gid),
            "{name}"
        );
    }
    let mut python = Python::beside(&broker);
    python.run("import socket as sockets");
    if is_root {
        python.run("os.setgid(65534); os.setuid(65534)"); // the user `nobody` of every system
    }
    python.run(
        r#"
        def may_connect(endpoint):
            try:
                sockets.socket(sockets.AF_UNIX).connect(endpoint.removeprefix("ipc://"))
            except PermissionError:
                return False
            return True
        "#,
    );
    assert_eq!(python.ask::<String>("may_connect(backend)"), "True");
    let expected = if is_root { "False" } else { "True" };
    assert_eq!(python.ask::<String>("may_connect(frontend)"), expected);
}

#[test]
fn the_log_names_the_process_of_an_ipc_peer() {
    let directory = Directory::new();
    let front = directory.ipc("front");
    let broker = Zmqd::start(&["queue", "--frontend", &front, "--backend", ANY]);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        import socket as sockets
        stranger = sockets.socket(sockets.AF_UNIX)
        stranger.connect(frontend.removeprefix("ipc://"))
        stranger.send(b"GET / HTTP/1.1\r\n\r\n")
        "#,
    );
    let pid: String = python.ask("os.getpid()");
    let line = broker.wait_log(&format!("pid {pid}"));
    assert!(
        line.contains("queue frontend: closed ipc peer (pid"),
        "{line}"
    );
}

/// libzmq keeps the queue of a lost connection until its socket is used; a connection made before
/// that has no queue, with libzmq's own proxy too.
#[test]
fn a_pair_without_reconnection_connects_again_after_a_restart() {
    let directory = Directory::new();
    let (front, back) = (directory.ipc("front"), directory.ipc("back"));
    let ends = ["--frontend", &front, "--backend", &back];
    let arguments = [&["proxy", "--sockets", "pair:pair"][..], &ends].concat();
    let broker = Zmqd::start(&arguments);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        endpoints = (frontend, backend)
        pairs = [connect(zmq.PAIR, endpoint, reconnect_ivl=-1) for endpoint in endpoints]
        lost = [watch(pair, zmq.EVENT_DISCONNECTED) for pair in pairs]
        def bounce():
            for sender, receiver in (pairs, pairs[::-1]):
                sender.send_multipart([b"to", b"the other"])
                assert take(receiver, 1) == [[b"to", b"the other"]]
        bounce()
        "#,
    );
    broker.signal("TERM");
    assert!(broker.wait().code == Some(0));
    python.run(
        r#"
        for lose in lost: lose()
        for pair in pairs:
            wait_until("the end of the old queue", lambda: not pair.poll(1, zmq.POLLOUT))
            assert not pair.poll(100, zmq.POLLOUT)
        "#,
    );
    let _broker = Zmqd::start(&arguments);
    python.run(
        r#"
        for pair, endpoint in zip(pairs, endpoints): pair.connect(endpoint)
        bounce()
        "#,
    );
}
