//! Peers with a security mechanism that the broker does not have, and peers of other protocols: the
//! log names the mechanism and shows the first bytes, whichever side connects.

use zmqd_tests::raw::listen;
use zmqd_tests::{ANY, Python, Raw, Zmqd};

/// Python functions for sockets with CURVE or PLAIN.
const SECURE: &str = r#"
def secure(kind, mechanism, **options):
    made = socket(kind, **options)
    if mechanism == "PLAIN":
        made.plain_username, made.plain_password = b"name", b"word"
    else:
        made.curve_serverkey, _ = zmq.curve_keypair()
        made.curve_publickey, made.curve_secretkey = zmq.curve_keypair()
    return made

def guarded(kind, mechanism):
    made = socket(kind)
    if mechanism == "PLAIN":
        made.plain_server = True
    else:
        made.curve_server = True
        _, made.curve_secretkey = zmq.curve_keypair()
    return made, f"tcp://127.0.0.1:{made.bind_to_random_port('tcp://127.0.0.1')}"
"#;

const TIMES: usize = 30;

#[test]
fn a_client_with_another_mechanism_is_logged_once_and_counted_each_time() {
    for mechanism in ["CURVE", "PLAIN"] {
        let broker = Zmqd::queue(&["--control", ANY]);
        let mut python = Python::beside(&broker);
        python.run(SECURE);
        python.set("mechanism", mechanism);
        python.set("times", &TIMES.to_string());
        python.run(
            r#"
            ask = questioner(control)
            for number in range(1, int(times) + 1):
                client = secure(zmq.DEALER, mechanism)
                wait = watch(client, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
                client.connect(frontend)
                assert wait() == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
                client.disable_monitor()
                client.close(0)
                expected = {"mechanism-mismatch": number}
                def is_counted():
                    return counters(ask, "frontend")["closed"] == expected
                wait_until("the cause to be counted", is_counted)
            "#,
        );
        let cause = format!("the peer wants {mechanism}; this side speaks NULL only");
        let _line = broker.wait_log(&cause);
        assert_eq!(
            broker.log_count(&cause),
            1,
            "one line, since all come from one address"
        );
        broker.signal("TERM");
        let (more, end) = (TIMES - 1, broker.wait());
        let sum = format!(
            "queue frontend: closed {more} more peers from 127.0.0.1 in the last minute: \
             mechanism-mismatch ({more})"
        );
        assert!(end.stderr.contains(&sum), "{}", end.stderr);
    }
}

#[test]
fn a_server_with_another_mechanism_is_logged_once() {
    for mechanism in ["CURVE", "PLAIN"] {
        let mut python = Python::new();
        python.run(SECURE);
        python.set("mechanism", mechanism);
        python.run("server, endpoint = guarded(zmq.ROUTER, mechanism)");
        let endpoint: String = python.ask("endpoint");
        let options = ["reconnect_ivl=100", "reconnect_ivl_max=100"];
        let ends = ["--frontend", ANY, "--backend-connect", &endpoint];
        let arguments = [
            &["queue"],
            &ends[..],
            &["--control", ANY, "--set"],
            &options,
        ];
        let broker = Zmqd::start(&arguments.concat());
        let mut python = Python::beside(&broker);
        python.set("times", &TIMES.to_string());
        python.run(
            r#"
            ask = questioner(control)
            closed = lambda: counters(ask, "backend")["closed"]
            wait_until("many attempts", lambda: sum(closed().values()) >= int(times))
            assert set(closed()) == {"mechanism-mismatch"}, closed()
            "#,
        );
        let cause = format!("the peer wants {mechanism}; this side speaks NULL only");
        let line = broker.wait_log(&cause);
        let named = format!("queue backend: closed {endpoint}: ");
        assert!(line.contains(&named), "{line}");
        assert_eq!(broker.log_count(&cause), 1, "one line for all attempts");
        broker.signal("TERM");
        let end = broker.wait();
        let sum =
            format!("more connections to {endpoint} in the last minute: mechanism-mismatch (");
        assert!(end.stderr.contains(&sum), "{}", end.stderr);
    }
}

#[test]
fn the_log_quotes_the_first_bytes_of_other_protocols() {
    let broker = Zmqd::queue(&[]);
    let mut raw = Raw::connect(broker.frontend());
    raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("the connection is open");
    raw.read_until_closed();
    let line = broker.wait_log(raw.address());
    let shown = r#"not a ZeroMQ peer of version 3 or above: it sent "GET / HTTP/1.1""#;
    assert!(line.ends_with(shown), "{line}");
    let mut raw = Raw::connect(broker.frontend());
    raw.send(b"\x1b[2J\xe2\x80\xae")
        .expect("the connection is open");
    raw.read_until_closed();
    let line = broker.wait_log(raw.address());
    assert!(line.ends_with(r#""\x1b[2J\u{202e}""#), "{line}");
}

#[test]
fn a_silent_server_is_closed_after_handshake_ivl() {
    let (_listener, endpoint) = listen();
    let arguments = ["queue", "--frontend", ANY, "--backend-connect", &endpoint];
    let broker = Zmqd::start(&[&arguments[..], &["--set", "handshake_ivl=100"]].concat());
    let _line = broker.wait_log("no greeting within 100 ms (handshake_ivl)");
}

#[test]
fn a_server_of_another_protocol_is_logged_once_with_its_endpoint() {
    let (listener, address) = listen();
    let endpoint = address.replace("127.0.0.1", "localhost");
    let options = ["--set", "reconnect_ivl=10", "reconnect_ivl_max=10"];
    let ends = ["queue", "--frontend", ANY, "--backend-connect", &endpoint];
    let broker = Zmqd::start(&[&ends[..], &options].concat());
    for _ in 0..5 {
        let mut server = Raw::accept(&listener);
        // The broker may close before it has read all of this.
        drop(server.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"));
        server.read_until_closed();
    }
    let line = broker.wait_log("HTTP/1.1 400");
    let address = address.trim_start_matches("tcp://");
    let closed = format!("queue backend: closed {endpoint} ({address}): ");
    assert!(line.contains(&closed), "{line}");
    let _sixth = Raw::accept(&listener);
    assert_eq!(
        broker.log_count("HTTP/1.1 400"),
        1,
        "one line for all attempts"
    );
    broker.signal("TERM");
    let end = broker.wait();
    let sum = format!("queue backend: lost 4 more connections to {endpoint} in the last minute: ");
    assert!(end.stderr.contains(&sum), "{}", end.stderr);
}

#[test]
fn a_silent_server_is_logged_before_its_handshake_times_out() {
    let (_listener, endpoint) = listen();
    let ends = ["queue", "--frontend", ANY, "--backend-connect", &endpoint];
    let broker = Zmqd::start(&ends);
    let line = broker.wait_log("no greeting yet");
    let connected = format!("queue backend: connected to {endpoint}, no greeting yet");
    assert!(line.contains(&connected), "{line}");
}
