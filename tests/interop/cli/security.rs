//! `sniff`, `ctl`, `replay` and `bench` as clients of CURVE and PLAIN, with zmqd and with pyzmq.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process;

use zmqd_tests::{ANY, Finished, Python, Scratch, Zmqd, vacant_endpoint};

use crate::protocol::curve::Keys;
use crate::protocol::plain;

/// A proxy whose sockets all are CURVE servers, and let in the keys of `clients`.
fn encrypted(kind: &str, keys: &Keys, clients: &str) -> Zmqd {
    let secret = keys.set("curve_secret", "server.key_secret");
    let clients = match clients {
        "any" => "curve_clients=any".to_owned(),
        file => keys.set("curve_clients", file),
    };
    let sockets = ["--capture", ANY, "--control", ANY];
    Zmqd::proxy(
        kind,
        &[&sockets[..], &["--set", &secret, "--set", &clients]].concat(),
    )
}

/// The options of a client with this key.
fn client_of(keys: &Keys, client: &str) -> [String; 4] {
    [
        "--curve-server".to_owned(),
        keys.path("server.key"),
        "--curve-secret".to_owned(),
        keys.path(&format!("{client}.key_secret")),
    ]
}

fn run(arguments: &[&str], options: &[String]) -> Finished {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Zmqd::finish(&[arguments, &options].concat())
}

#[track_caller]
fn succeed(arguments: &[&str], options: &[String]) -> String {
    let finished = run(arguments, options);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout
}

/// The complaint of a command that ends with this code.
#[track_caller]
fn fail(code: i32, arguments: &[&str], options: &[String]) -> String {
    let finished = run(arguments, options);
    assert_eq!(finished.code, Some(code), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    finished.stderr
}

/// The public key in a file, as text.
fn public_key(keys: &Keys, name: &str) -> String {
    let shown = Zmqd::finish(&[
        "keygen",
        "--public",
        &keys.path(&format!("{name}.key_secret")),
    ]);
    shown.stdout.trim_end().to_owned()
}

#[test]
fn ctl_and_sniff_pass_curve_and_say_which_key_is_refused() {
    let keys = Keys::new("cli-ctl", &["server", "other", "clients/admin", "stranger"]);
    let broker = encrypted("queue", &keys, "clients");
    let admin = client_of(&keys, "clients/admin");
    let (control, capture) = (broker.control(), broker.capture());
    let peers = succeed(&["ctl", control, "peers", "--all"], &admin);
    assert!(peers.contains("control"), "{peers}");
    // Before the subcommand too.
    let statistics = [
        "ctl",
        &admin[0],
        &admin[1],
        &admin[2],
        &admin[3],
        control,
        "statistics",
    ];
    assert!(succeed(&statistics, &[]).starts_with("zmqd "));

    let stranger = client_of(&keys, "stranger");
    let expected = format!("lets in the key {}", public_key(&keys, "stranger"));
    for command in [
        &["ctl", control, "peers"][..],
        &["sniff", capture, "--count", "1"],
    ] {
        let complaint = fail(1, command, &stranger);
        assert!(complaint.contains(&expected), "{complaint}");
        // A key of this run is in no list.
        let complaint = fail(1, command, &stranger[..2]);
        assert!(
            complaint.contains("check that the server lets in the key "),
            "{complaint}"
        );
        let mut wrong = admin.clone();
        wrong[1] = public_key(&keys, "other");
        let complaint = fail(1, command, &wrong);
        let expected = "CURVE handshake: check that --curve-server is the server's public key";
        assert!(complaint.contains(expected), "{complaint}");
        let complaint = fail(1, command, &[]);
        assert!(
            complaint.contains("wants CURVE") && complaint.contains("--curve-server"),
            "{complaint}"
        );
    }
}

#[test]
fn a_control_of_another_type_is_found_with_curve() {
    let keys = Keys::new("cli-pair", &["server", "client"]);
    let secret = keys.set("curve_secret", "server.key_secret");
    for socket in ["PAIR", "SUB"] {
        let arguments = [
            "--control",
            ANY,
            "--control-socket",
            socket,
            "--set",
            &secret,
        ];
        let clients = ["--set", "curve_clients=any"];
        let broker = Zmqd::queue(&[&arguments[..], &clients].concat());
        let said = succeed(
            &["ctl", broker.control(), "terminate"],
            &client_of(&keys, "client"),
        );
        assert_eq!(said, "sent; a PAIR or SUB control does not answer");
        assert_eq!(broker.wait().code, Some(0));
    }
}

#[test]
fn faulty_options_are_refused_before_anything_connects() {
    let keys = Keys::new("cli-faults", &["server", "client"]);
    let password = plain::password("sunny");
    let exposed = keys.path("exposed");
    fs::copy(keys.path("client.key_secret"), &exposed).expect("a copy");
    fs::set_permissions(&exposed, Permissions::from_mode(0o644)).expect("its mode");
    let server = keys.path("server.key");
    let user = [
        "--plain-username",
        "weather",
        "--plain-password-file",
        password.path(),
    ];
    for (options, expected) in [
        (&["--curve-secret", &exposed][..], "give --curve-server too"),
        (&user[..2], "give --plain-password-file too"),
        (&user[2..], "give --plain-username too"),
        (
            &[&["--curve-server", &server], &user[..]].concat()[..],
            "a connection has one mechanism",
        ),
        (
            &["--curve-server", &server, "--curve-secret", &exposed],
            "other users may read it: chmod 600",
        ),
        (
            &["--curve-server", "no-such-file"],
            "cannot read no-such-file",
        ),
        (&user, "pass the network of tcp://10.0.0.1:9 in the clear"),
    ] {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let complaint = fail(2, &["ctl", "tcp://10.0.0.1:9", "peers"], &options);
        assert!(complaint.contains(expected), "{complaint}");
    }
}

/// One key in 85 begins like an option.
#[test]
fn a_key_may_begin_with_a_hyphen() {
    let key = "-".repeat(39) + "0";
    for command in [
        &["ctl", "tcp://127.0.0.1:1", "peers"][..],
        &["sniff", "tcp://127.0.0.1:1"],
    ] {
        let complaint = fail(1, command, &["--curve-server".to_owned(), key.clone()]);
        assert!(complaint.contains("refused"), "{complaint}");
    }
}

/// The options of a client of PLAIN.
fn plain_client(name: &str, password: &Scratch) -> [String; 4] {
    let password = password.path();
    ["--plain-username", name, "--plain-password-file", password].map(str::to_owned)
}

#[test]
fn users_of_plain_come_in_by_their_password() {
    let (users, password) = (plain::users(), plain::password("sunny"));
    let users = format!("plain_users={}", users.path());
    let broker = Zmqd::queue(&["--control", ANY, "--set", &users]);
    let user = |name: &str| plain_client(name, &password);
    let peers = ["ctl", broker.control(), "peers", "--all", "--json"];
    let peers = succeed(&peers, &user("weather"));
    assert!(peers.contains("\"user\":\"weather\""), "{peers}");
    let complaint = fail(1, &["ctl", broker.control(), "peers"], &user("climate"));
    let expected = "PLAIN handshake: check --plain-username and --plain-password-file";
    assert!(complaint.contains(expected), "{complaint}");
}

/// Clients of the shell, through a broker and with a server of pyzmq.
#[test]
fn clients_for_the_shell_pass_curve_and_plain() {
    let keys = Keys::new("cli-clients", &["server", "clients/anna", "stranger"]);
    let broker = encrypted("forwarder", &keys, "clients");
    let anna = client_of(&keys, "clients/anna");
    let large = "x".repeat(100_000);
    let subscribe = ["sub", broker.backend(), "-n", "1"];
    let options: Vec<&str> = anna.iter().map(String::as_str).collect();
    let subscriber = Zmqd::start_expecting(0, &[&subscribe[..], &options].concat());
    succeed(&["pub", broker.frontend(), "topic", &large], &anna);
    let Finished { code, stdout, .. } = subscriber.wait();
    assert_eq!((code, stdout), (Some(0), format!("[topic][{large}]")));
    let complaint = fail(1, &subscribe, &client_of(&keys, "stranger"));
    let expected = format!("lets in the key {}", public_key(&keys, "stranger"));
    assert!(complaint.contains(&expected), "{complaint}");

    let mut python = Python::new();
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        server = socket(zmq.REP)
        be_server(server, keys)
        server.bind("tcp://127.0.0.1:0")
        "#,
    );
    let endpoint: String = python.ask("last_endpoint(server)");
    python.begin("for _ in range(2): server.send(server.recv() * 2)");
    assert_eq!(
        succeed(&["req", &endpoint, "hi", "-n", "2"], &anna),
        "[hihi]\n[hihi]"
    );
    python.finish();

    let (users, password) = (plain::users(), plain::password("sunny"));
    let users = format!("plain_users={}", users.path());
    let broker = Zmqd::streamer(&["--set", &users]);
    let user = |name: &str| plain_client(name, &password);
    succeed(&["push", broker.frontend(), "work"], &user("weather"));
    let shown = succeed(&["pull", broker.backend(), "-n", "1"], &user("weather"));
    assert_eq!(shown, "[work]");
    let complaint = fail(
        1,
        &["push", "-q", broker.frontend(), "work"],
        &user("climate"),
    );
    assert!(
        complaint.contains("PLAIN handshake: check --plain-username"),
        "{complaint}"
    );
}

#[test]
fn a_client_for_the_shell_can_be_the_server() {
    let keys = Keys::new("cli-server", &["server", "clients/anna", "stranger"]);
    let endpoint = vacant_endpoint();
    let (listening, secret) = (format!("@{endpoint}"), keys.path("server.key_secret"));
    let clients = keys.path("clients");
    let curve = ["--curve-secret", &secret, "--curve-clients", &clients];
    let rep = ["rep", &listening, "--echo", "-n", "1"];
    let replier = Zmqd::start_expecting(0, &[&rep[..], &curve].concat());
    drop(replier.wait_log("listening"));
    let ask = &["req", &endpoint, "hi"][..];
    let complaint = fail(1, &[ask, &["-q"]].concat(), &client_of(&keys, "stranger"));
    assert!(complaint.contains("lets in the key"), "{complaint}");
    let mut python = Python::new();
    python.set("keys", &keys.path(""));
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        anna = clients_of(keys)(zmq.REQ, endpoint, name="clients/anna")
        anna.send(b"hello")
        assert anna.recv() == b"hello"
        "#,
    );
    let Finished { code, stdout, .. } = replier.wait();
    assert_eq!((code, &*stdout), (Some(0), "[hello]"));
    let complaint = fail(2, &[&rep[..], &curve[2..]].concat(), &[]);
    assert!(complaint.contains("--curve-secret"), "{complaint}");
}

#[test]
fn bench_puts_local_sockets_under_load() {
    let [front, back] = [Scratch::absent("ipc"), Scratch::absent("ipc")]
        .map(|file| format!("ipc://{}", file.path()));
    let broker = Zmqd::start(&["streamer", "--frontend", &front, "--backend", &back]);
    let sides = [
        "--frontend",
        broker.frontend(),
        "--backend",
        broker.backend(),
    ];
    let time = ["--duration", "0.2", "--warmup", "0.1"];
    let report = succeed(&[&["bench", "stream"], &sides[..], &time].concat(), &[]);
    assert!(
        report.contains("delivered share                1.000"),
        "{report}"
    );
}

/// Each work of `zmqd bench`, with both sides of the proxy encrypted.
#[test]
fn bench_puts_encrypted_proxies_under_load() {
    let keys = Keys::new("cli-bench", &["server", "client"]);
    let options = client_of(&keys, "client");
    for (kind, work) in [
        ("streamer", &["stream"][..]),
        ("streamer", &["stream", "--size", "300000", "--sinks", "2"]),
        (
            "forwarder",
            &["forward", "--subscribers", "3", "--window", "100"],
        ),
        ("queue", &["queue", "--clients", "3"]),
        ("queue", &["queue", "--size", "70000", "--window", "3"]),
        ("queue", &["latency"]),
        ("queue", &["crowd", "--clients", "10", "--interval", "0.01"]),
        ("queue", &["handshakes"]),
        ("forwarder", &["idle", "--connections", "20"]),
    ] {
        let broker = encrypted(kind, &keys, "any");
        let pid = broker.pid().to_string();
        let sides = [
            "--frontend",
            broker.frontend(),
            "--backend",
            broker.backend(),
        ];
        let time = ["--duration", "0.3", "--warmup", "0.1"];
        let time = if work[0] == "idle" { &[][..] } else { &time };
        let work = [
            &["bench"],
            work,
            &sides[..],
            time,
            &["--json", "--pid", &pid],
        ]
        .concat();
        // A key of this run suffices, since every client may come in.
        for options in [&options[..], &options[..2]] {
            let report = succeed(&work, options);
            assert!(!report.contains("\"delivered\":0"), "{report}");
        }
    }
}

/// pyzmq publishes what a sniffer records, and receives what is replayed of it.
#[test]
fn sniff_and_replay_are_clients_of_pyzmq() {
    let keys = Keys::new("cli-pyzmq", &["server", "client"]);
    let recording = env::temp_dir().join(format!("zmqd-curve-{}.zrec", process::id()));
    let recording = recording.to_string_lossy().into_owned();
    drop(fs::remove_file(&recording));
    let mut python = Python::new();
    python.set("keys", &keys.path(""));
    python.run(
        r#"
        def serve(kind):
            made = socket(kind)
            secret = zmq.auth.load_certificate(keys + "server.key_secret")[1]
            made.curve_server, made.curve_secretkey = True, secret
            made.bind("tcp://127.0.0.1:0")
            return made

        publisher, sink = serve(zmq.PUB), serve(zmq.PULL)
        captured, target = last_endpoint(publisher), last_endpoint(sink)
        bodies = [b"", b"x" * 300, b"y" * 3_000_000]

        def publish():
            while not stopping.is_set():
                publisher.send_multipart([b"topic", *bodies])
                time.sleep(0.01)
        stopping = threading.Event()
        publishing = in_background(publish)
        "#,
    );
    let (captured, target): (String, String) = (python.ask("captured"), python.ask("target"));
    let options = client_of(&keys, "client");
    let sniff = [
        "sniff", &captured, "--count", "3", "--record", &recording, "--print",
    ];
    let shown = succeed(&sniff, &options);
    assert_eq!(shown.lines().count(), 3, "{shown}");
    let mut wrong = options.clone();
    wrong[1] = public_key(&keys, "client");
    let complaint = fail(1, &["sniff", &captured, "--count", "1"], &wrong);
    assert!(
        complaint.contains("check that --curve-server is"),
        "{complaint}"
    );

    let replay = [
        "replay", &recording, "--to", &target, "--socket", "PUSH", "--max",
    ];
    python.begin("assert take(sink, 3) == [[b'topic', *bodies]] * 3");
    let replayed = succeed(&replay, &options[..2]);
    assert_eq!(replayed, "");
    python.finish();
    python.run("stopping.set(); publishing.result()");
    fs::remove_file(&recording).expect("the recording");
}
