//! Endpoints of every form, with pyzmq at the other end.

use std::env;
use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use zmqd_tests::{ANY, Python, Scratch, Zmqd, wait_until};

/// A directory for sockets, with a short name because theirs may not be long.
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
        let entries = fs::read_dir(&self.path).expect("it is there").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.path)); // fails only if it is gone already
    }
}

/// A name in the abstract namespace that no other test has.
fn abstract_endpoint(name: &str) -> String {
    format!("ipc://@zmqd-it-{}-{name}", process::id())
}

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn all_kinds_of_traffic_pass_over_local_sockets() {
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
        assert_eq!(directory.names(), [""; 0], "files go when the broker goes");
    }
}

#[test]
fn the_directory_of_a_chosen_path_goes_too() {
    let directory = Directory::new();
    let broker = Zmqd::start(&["queue", "--frontend", "ipc://*", "--backend", ANY]);
    let path = broker.frontend().strip_prefix("ipc://").expect("a path");
    let parent = PathBuf::from(path)
        .parent()
        .expect("a directory")
        .to_owned();
    let mode = fs::metadata(&parent).expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    broker.signal("INT");
    assert_eq!(broker.wait().code, Some(0));
    assert!(!parent.exists());
    drop(directory);
}

#[test]
fn large_messages_pass_over_local_sockets() {
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
fn local_peers_that_bind_are_connected_to_and_found_again() {
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
    let log = broker.wait_log(&front);
    assert!(log.contains("will go on trying"), "{log}");
}

#[test]
fn what_a_crash_left_behind_is_replaced() {
    let directory = Directory::new();
    let (front, back) = (directory.ipc("front"), directory.ipc("back"));
    let arguments = ["queue", "--frontend", &front, "--backend", &back];
    let mut broker = Zmqd::start(&arguments);
    let mut python = Python::beside(&broker);
    python.run("server, client = connect(zmq.REP, backend), connect(zmq.REQ, frontend)");
    for _ in 0..3 {
        broker.kill();
        assert_eq!(directory.names(), ["back", "front"], "a crash leaves them");
        broker = Zmqd::start(&arguments);
        // Those who were connected come back, to the same paths.
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
fn a_socket_that_somebody_listens_on_is_never_taken() {
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
fn a_file_that_is_no_socket_stays() {
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
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
}

#[test]
fn of_many_that_start_at_once_in_the_same_place_one_stays() {
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
    wait_until("all but one to give up", || {
        let running = all
            .iter_mut()
            .filter_map(|one| one.exited().is_none().then_some(()));
        (running.count() == 1).then_some(())
    });
    let mut python = Python::new();
    python.set("front", &front);
    python.run("connect(zmq.PUSH, front)");
    all.retain_mut(|one| one.exited().is_none());
    let last = all.pop().expect("one stays");
    last.signal("TERM");
    assert_eq!(last.wait().code, Some(0));
    assert_eq!(directory.names(), [""; 0]);
}

#[test]
fn mode_and_owner_decide_who_may_connect() {
    let directory = Directory::new();
    let metadata = fs::metadata(&directory.path).expect("it is there");
    let is_root = metadata.uid() == 0;
    // Only root may give files away; others can at least say that they keep them.
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
        let found = fs::symlink_metadata(directory.file(name)).expect("it is there");
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
        python.run("os.setgid(65534); os.setuid(65534)"); // nobody, everywhere
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
fn peers_on_the_same_machine_are_named_in_the_log() {
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

#[test]
fn ipv6_addresses_are_bound_and_connected_to() {
    if !has_ipv6() {
        let end = Zmqd::finish(&["queue", "--frontend", "tcp://[::1]:0", "--backend", ANY]);
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        return;
    }
    let broker = Zmqd::start(&[
        "queue",
        "--frontend",
        "tcp://[::1]:0",
        "--backend",
        "tcp://::1:*",
    ]);
    assert!(
        broker.frontend().starts_with("tcp://[::1]:"),
        "{}",
        broker.frontend()
    );
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        context.ipv6 = True
        honest = Honest("queue", frontend, backend)
        honest.passes()
        honest.pause()
        server = bind(zmq.REP, "tcp://[::1]:*")
        "#,
    );
    let server: String = python.ask("last_endpoint(server)");
    let second = Zmqd::start(&["queue", "--frontend", ANY, "--backend-connect", &server]);
    python.set("second", second.frontend());
    python.run(
        r#"
        client = connect(zmq.REQ, second)
        client.send(b"question")
        assert server.recv() == b"question"
        "#,
    );
}

#[test]
fn every_interface_is_of_both_families_if_ipv6_is_set() {
    let any = "tcp://*:0";
    let broker = Zmqd::start(&[
        "forwarder",
        "--frontend",
        any,
        "--backend",
        any,
        "--set",
        "ipv6=true",
    ]);
    let port = |endpoint: &str| endpoint.rsplit(':').next().expect("a port").to_owned();
    let (front, back) = (port(broker.frontend()), port(broker.backend()));
    let mut python = Python::new();
    python.run("context.ipv6 = True");
    let mut addresses = vec!["127.0.0.1"];
    if has_ipv6() {
        assert!(
            broker.frontend().starts_with("tcp://[::]:"),
            "{}",
            broker.frontend()
        );
        addresses.push("[::1]");
    }
    for address in addresses {
        let (front, back) = (
            format!("tcp://{address}:{front}"),
            format!("tcp://{address}:{back}"),
        );
        python.run(&format!(
            "honest = Honest('forwarder', {front:?}, {back:?}); honest.passes(); honest.pause()"
        ));
    }
}

/// The first link-local address of this machine and its interface.
fn link_local() -> Option<(Ipv6Addr, String)> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, scope, _, interface] = fields[..] else {
            return None;
        };
        let address = u128::from_str_radix(address, 16).expect("hexadecimal");
        (scope == "20").then(|| (address.into(), interface.to_owned()))
    })
}

#[test]
fn zones_tell_which_interface_a_link_local_address_is_on() {
    let Some((address, interface)) = link_local() else {
        let end = Zmqd::finish(&[
            "queue",
            "--frontend",
            "tcp://[fe80::1%none0]:0",
            "--backend",
            ANY,
        ]);
        assert_eq!(end.code, Some(1), "{}", end.stderr);
        return;
    };
    let zoned = format!("tcp://[{address}%{interface}]");
    let broker = Zmqd::start(&[
        "queue",
        "--frontend",
        &format!("{zoned}:0"),
        "--backend",
        ANY,
    ]);
    assert!(
        broker.frontend().starts_with(&zoned),
        "{}",
        broker.frontend()
    );
    // A second one connects to the same address, as does pyzmq.
    let second = Zmqd::start(&[
        "queue",
        "--frontend",
        ANY,
        "--backend-connect",
        broker.frontend(),
    ]);
    let mut python = Python::beside(&broker);
    python.set("second", second.frontend());
    python.run(
        r#"
        context.ipv6 = True
        server = connect(zmq.REP, backend)
        for client in [connect(zmq.REQ, frontend), connect(zmq.REQ, second)]:
            client.send(b"question")
            assert server.recv() == b"question"
            server.send(b"answer")
            assert client.recv() == b"answer"
        "#,
    );
}

#[test]
fn interfaces_are_bound_by_name() {
    let broker = Zmqd::start(&[
        "queue",
        "--frontend",
        "tcp://lo:*",
        "--backend",
        "tcp://lo:0",
    ]);
    assert!(
        broker.frontend().starts_with("tcp://127.0.0.1:"),
        "{}",
        broker.frontend()
    );
    Python::beside(&broker).run(r#"Honest("queue", frontend, backend).passes()"#);
    let end = Zmqd::finish(&[
        "queue",
        "--frontend",
        "tcp://none0.invalid:*",
        "--backend",
        ANY,
    ]);
    assert_eq!(end.code, Some(1), "{}", end.stderr);
}

#[test]
fn connections_come_from_the_source_they_are_given() {
    let mut python = Python::new();
    python.run("server = bind(zmq.ROUTER)");
    let server: String = python.ask("last_endpoint(server).removeprefix('tcp://')");
    let target = format!("tcp://127.0.0.7:0;{server}");
    let broker = Zmqd::start(&["queue", "--frontend", ANY, "--backend-connect", &target]);
    python.set("frontend", broker.frontend());
    python.run(
        r#"
        client = connect(zmq.REQ, frontend)
        client.send(b"question")
        message = server.recv_multipart(copy=False)[-1]
        assert message.bytes == b"question"
        assert message.get("Peer-Address") == "127.0.0.7", message.get("Peer-Address")
        "#,
    );
}

#[test]
fn proxies_of_one_process_meet_within_it() {
    let config = Scratch::new("toml", IN_ROWS);
    let broker = Zmqd::start_expecting(7, &["run", config.path()]);
    assert_eq!(broker.endpoint("work-out", "frontend"), "inproc://work");
    let mut python = Python::new();
    for (name, proxy, side) in [
        ("sources", "work-in", "frontend"),
        ("sinks", "work-out", "backend"),
        ("publishers", "news-in", "frontend"),
        ("subscribers", "news-out", "backend"),
        ("subscribers_early", "news-in", "backend"),
    ] {
        let endpoints = broker.endpoints(proxy, side);
        let tcp = endpoints
            .iter()
            .find(|endpoint| endpoint.starts_with("tcp"));
        python.set(name, tcp.expect("one of TCP"));
    }
    python.run(
        r#"
        source, sink = connect(zmq.PUSH, sources), connect(zmq.PULL, sinks)
        for number in range(10_000):
            source.send_multipart([b"%d" % number, b"x" * (number % 300)])
            received = sink.recv_multipart()
            assert received == [b"%d" % number, b"x" * (number % 300)], received

        publisher = connect(zmq.PUB, publishers)
        near = connect(zmq.SUB, subscribers_early, subscribe=b"a")
        far = connect(zmq.SUB, subscribers, subscribe=b"b")
        settle([publisher], [near, far])
        for topic in [b"a", b"b", b"c"]:
            publisher.send_multipart([topic, b"news"])
        assert near.recv_multipart() == [b"a", b"news"]
        assert far.recv_multipart() == [b"b", b"news"]
        assert is_silent(near) and is_silent(far)
        "#,
    );
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
}

/// Two rows of two. What is connected to comes before or behind what binds it.
const IN_ROWS: &str = r#"
[[proxy]]
kind = "streamer"
name = "work-in"
frontend.bind = "tcp://127.0.0.1:0"
backend.connect = "inproc://work"

[[proxy]]
kind = "streamer"
name = "work-out"
frontend.bind = "inproc://work"
backend.bind = "tcp://127.0.0.1:0"

[[proxy]]
kind = "forwarder"
name = "news-in"
frontend.bind = "tcp://127.0.0.1:0"
backend.bind = ["inproc://news", "tcp://127.0.0.1:0"]

[[proxy]]
kind = "forwarder"
name = "news-out"
frontend.connect = "inproc://news"
backend.bind = "tcp://127.0.0.1:0"
"#;

/// libzmq keeps the queue of a lost connection until its socket is used; a connection that is made
/// before that has no queue, at its own proxy as well.
#[test]
fn a_pair_that_does_not_reconnect_by_itself_connects_again_after_a_restart() {
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
            wait_until("an end of the old queue", lambda: not pair.poll(1, zmq.POLLOUT))
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
