//! ZAP with pyzmq's `Authenticator` in a process of its own, as the guide describes it, and peers
//! of libzmq.

use super::curve::Keys;
use std::fs;
use std::path::Path;
use zmqd_tests::{ANY, Python, Scratch, Zmqd};

/// The line of the guide's handler that tests replace by policies of their own.
const POLICY: &str = "    auth.configure_plain(\"orders\", {\"weather\": \"sunny\"})\n";

/// The handler that the guide shows.
fn handler_of_guide() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/zap.md");
    let page = fs::read_to_string(page).expect("a page of the guide");
    let (_, rest) = page.split_once("```python\n").expect("a handler");
    let handler = rest.split("```").next().expect("a block").to_owned();
    assert!(handler.lines().count() <= 30);
    assert!(handler.contains(POLICY), "{handler}");
    handler
}

/// A handler in a process of its own; it ends with its Python.
struct Handler {
    _python: Python,
    _file: Scratch,
}

impl Handler {
    /// Runs the handler of the guide with these policies.
    fn start(endpoint: &str, policy: &str) -> Self {
        let lines = policy.lines().map(|line| format!("    {}\n", line.trim()));
        let text = handler_of_guide().replace(POLICY, &lines.collect::<String>());
        let file = Scratch::new("py", &text);
        let mut python = Python::new();
        python.set("path", file.path());
        python.set("endpoint", endpoint);
        python.run(
            r#"
            sys.argv = [path, endpoint]
            program = compile(open(path).read(), path, "exec")
            threading.Thread(target=exec, args=(program, {}), daemon=True).start()
            "#,
        );
        Self {
            _python: python,
            _file: file,
        }
    }
}

/// An ipc endpoint that no other test has.
fn endpoint() -> (Scratch, String) {
    let file = Scratch::absent("zap");
    let endpoint = format!("ipc://{}", file.path());
    (file, endpoint)
}

/// A broker whose sides ask the handler at an endpoint.
fn guarded(kind: &str, endpoint: &str, settings: &[&str]) -> Zmqd {
    let mut arguments = vec![
        kind,
        "--frontend",
        ANY,
        "--backend",
        ANY,
        "--control",
        ANY,
        "--zap",
        endpoint,
        "--set",
        "frontend.zap_domain=orders",
        "backend.zap_domain=orders",
        "zap.reconnect_ivl_max=100",
    ];
    arguments.extend(settings);
    Zmqd::start_expecting(3, &arguments)
}

/// Functions for clients of every mechanism.
const CLIENTS: &str = r#"
def plain(kind, endpoint, user, password):
    made = socket(kind)
    made.plain_username, made.plain_password = user, password
    made.connect(endpoint)
    return made

def curve(kind, endpoint, name):
    made = socket(kind)
    be_client(made, keys, server="broker", client=name)
    made.connect(endpoint)
    return made

def users():
    peers = ask("peers")["peers"]
    return sorted({peer["user"] for peer in peers if peer["phase"] == "ready"})

def reasons(side="frontend"):
    return counters(ask, side)["closed"]
"#;

fn python(broker: &Zmqd) -> Python {
    let mut python = Python::beside(broker);
    python.run(CLIENTS);
    python.run("ask = questioner(control)");
    python
}

#[test]
fn null_peers_come_in_by_their_address() {
    for (policy, is_allowed) in [
        ("auth.allow(\"127.0.0.1\")", true),
        ("auth.allow(\"10.0.0.1\")", false),
        ("auth.deny(\"127.0.0.1\")", false),
        ("auth.deny(\"10.0.0.1\")", true),
    ] {
        let (_file, endpoint) = endpoint();
        let broker = guarded("streamer", &endpoint, &[]);
        let _handler = Handler::start(&endpoint, policy);
        let _line = broker.wait_log("streamer zap: connected to ipc://");
        let mut python = python(&broker);
        python.run("source, sink = dial(zmq.PUSH, frontend), dial(zmq.PULL, backend)");
        if is_allowed {
            python.run(
                r#"
                for number in range(100):
                    source.send(b"%d" % number)
                assert take(sink, 100) == [[b"%d" % number] for number in range(100)]
                assert users() == ["anonymous"], users()
                "#,
            );
        } else {
            python.run(
                r#"
                wait_until("a refusal", lambda: reasons().get("zap-denied", 0) > 1)
                assert users() == []
                "#,
            );
            let _line = broker.wait_log("the ZAP handler does not let it in");
        }
    }
}

#[test]
fn plain_peers_come_in_by_their_passwords() {
    let (_file, endpoint) = endpoint();
    let settings = [
        "frontend.plain_users=any",
        "backend.plain_users=any",
        "control.zap_domain=",
    ];
    let broker = guarded("queue", &endpoint, &settings);
    let _handler = Handler::start(&endpoint, POLICY);
    let _line = broker.wait_log("queue zap: connected to ipc://");
    let mut python = python(&broker);
    python.run(
        r#"
        strangers = [
            plain(zmq.REP, backend, b"weather", b"rain"),
            plain(zmq.REP, backend, b"maps", b"sunny"),
            dial(zmq.REP, backend),
        ]
        worker = plain(zmq.REP, backend, b"weather", b"sunny")
        asker = plain(zmq.REQ, frontend, b"weather", b"sunny")
        for number in range(100):
            asker.send(b"%d" % number)
            assert worker.recv() == b"%d" % number
            worker.send(b"answer")
            assert asker.recv() == b"answer"
        wait_until("refusals", lambda: reasons("backend").get("zap-denied", 0) > 1)
        assert all(is_silent(stranger) for stranger in strangers)
        assert users() == ["weather"]
        "#,
    );
    broker.signal("TERM");
    let log = broker.wait().stderr;
    assert!(!log.contains("sunny") && !log.contains("rain"), "{log}");
}

/// Certificates in a directory, and any client; a list of the broker must admit the client too.
#[test]
fn curve_peers_come_in_by_their_keys() {
    let names = ["broker", "clients/anna", "clients/bob", "stranger"];
    let keys = Keys::new("zap", &names);
    for name in ["anna", "bob"] {
        let (from, to) = (format!("clients/{name}"), name);
        for end in ["key", "key_secret"] {
            let file = format!("{from}.{end}");
            fs::copy(keys.path(&file), keys.path(&format!("{to}.{end}"))).expect("a copy");
        }
        fs::remove_file(keys.path(&format!("{from}.key_secret"))).expect("it is there");
    }
    fs::copy(keys.path("clients/anna.key"), keys.path("only-anna.key")).expect("a copy");
    let location = format!(
        "auth.configure_curve(\"*\", location={:?})",
        keys.path("clients")
    );
    let location = location.replace("\"*\"", "\"orders\"");
    let any = "auth.configure_curve(\"orders\", location=zmq.auth.CURVE_ALLOW_ANY)";
    for (policy, list, admitted) in [
        (&location[..], "", &["anna", "bob"][..]),
        (any, "", &["anna", "bob", "stranger"]),
        (&location, "only-anna.key", &["anna"]),
    ] {
        let (_file, endpoint) = endpoint();
        let secret = keys.path("broker.key_secret");
        let mut settings = Vec::new();
        for side in ["frontend", "backend"] {
            settings.push(format!("{side}.curve_secret={secret}"));
            if !list.is_empty() {
                settings.push(format!("{side}.curve_clients={}", keys.path(list)));
            }
        }
        let settings: Vec<&str> = settings.iter().map(|text| &**text).collect();
        let broker = guarded("forwarder", &endpoint, &settings);
        let _handler = Handler::start(&endpoint, policy);
        let _line = broker.wait_log("forwarder zap: connected to ipc://");
        let mut python = python(&broker);
        python.set("keys", &keys.path(""));
        python.set("admitted", &admitted.join(" "));
        python.run(
            r#"
            admitted, names = admitted.split(), ["anna", "bob", "stranger"]
            subscribers = {name: curve(zmq.SUB, backend, name) for name in names}
            for each in subscribers.values():
                each.subscribe(b"m.")
            publisher = curve(zmq.XPUB, frontend, "anna")
            assert publisher.recv() == b"\1m."
            inside = [subscribers[name] for name in admitted]
            settle([publisher], inside)
            for number in range(100):
                publisher.send(b"m.%d" % number)
            for subscriber in inside:
                assert take(subscriber, 100) == [[b"m.%d" % number] for number in range(100)]
            assert all(is_silent(each) for each in subscribers.values())
            def public(name):
                return zmq.auth.load_certificate(f"{keys}/{name}.key")[0].decode()
            known = users()
            "#,
        );
        let expected = if list.is_empty() {
            "sorted(public(name) for name in admitted)"
        } else {
            "['only-anna']"
        };
        python.run(&format!("assert known == {expected}, known"));
    }
}

/// Without a handler peers are refused, and come in when it is there, since libzmq connects again.
#[test]
fn peers_wait_outside_while_no_handler_answers() {
    let (_file, endpoint) = endpoint();
    let broker = guarded("streamer", &endpoint, &["frontend.zap_timeout=300"]);
    let mut python = python(&broker);
    python.set("endpoint", &endpoint);
    python.run(
        r#"
        source = dial(zmq.PUSH, frontend)
        wait_until("a refusal", lambda: reasons().get("zap-not-connected", 0) > 1)
        silent = socket(zmq.ROUTER)
        silent.bind(endpoint)
        wait_until("a late answer", lambda: reasons().get("zap-timed-out", 0) > 1)
        request = silent.recv_multipart()
        assert request[1:3] == [b"", b"1.0"] and request[4:6] == [b"orders", b"127.0.0.1"], request
        assert request[7:] == [b"NULL"], request
        # Late, malformed, and to a request that was not made.
        silent.send_multipart(request[:4] + [b"200", b"OK", b"anna", b""])
        silent.send_multipart(request[:3] + [b"x", b"200", b"OK", b"anna", b""])
        silent.send_multipart(request[:3] + [b"999999", b"200", b"OK", b"anna", b""])
        silent.send(b"nonsense")
        assert users() == []
        silent.close()
        "#,
    );
    let _handler = Handler::start(&endpoint, "auth.allow(\"127.0.0.1\")");
    python.run(
        r#"
        sink = dial(zmq.PULL, backend)
        source.send(b"at last")
        assert sink.recv() == b"at last"
        assert users() == ["anonymous"]
        "#,
    );
    broker.signal("TERM");
    let log = broker.wait().stderr;
    for cause in ["no ZAP handler is connected", "did not answer in time"] {
        let lines = log.lines();
        let is_it = |line: &&str| line.contains(cause) && line.contains("streamer frontend:");
        assert_eq!(lines.filter(is_it).count(), 1, "{cause}: {log}");
    }
}
