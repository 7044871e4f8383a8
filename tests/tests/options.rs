//! Options of the system's sockets, as they show from outside.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use zmqd_tests::{ANY, Python, Raw, Zmqd, wait_until};

#[test]
fn only_peers_from_certain_networks_are_let_in() {
    let broker = Zmqd::queue(&[
        "--set",
        "frontend.tcp_accept_filter=127.0.0.0/8,fd00::/8",
        "backend.tcp_accept_filter=10.0.0.0/8",
    ]);
    let mut kept_out = Raw::connect(broker.backend());
    assert_eq!(kept_out.read_until_closed(), b"", "not even a greeting");
    let line = broker.wait_log("tcp_accept_filter");
    assert!(line.contains("queue backend: closed 127.0.0.1:"), "{line}");
    Python::beside(&broker).run("connect(zmq.REQ, frontend)");
}

#[test]
fn keepalive_runs_where_it_is_set() {
    let broker = Zmqd::queue(&[
        "--set",
        "frontend.tcp_keepalive=1",
        "tcp_keepalive_idle=1000",
    ]);
    for (endpoint, expected) in [
        (broker.frontend(), KEEPALIVE_TIMER),
        (broker.backend(), "00"),
    ] {
        let address = endpoint.strip_prefix("tcp://").expect("TCP");
        let peer = TcpStream::connect(address).expect("it listens");
        let port = |address: SocketAddr| format!("{:04X}", address.port());
        let ends = [
            port(peer.peer_addr().expect("connected")),
            port(peer.local_addr().expect("connected")),
        ];
        // A timer of its own runs while data is unacknowledged; that passes.
        wait_until(&format!("timer {expected} at {endpoint}"), || {
            let table = fs::read_to_string("/proc/net/tcp").expect("Linux has it");
            let mut timers = table.lines().filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let [_, local, remote, _, _, timer, ..] = fields[..] else {
                    return None;
                };
                let is_it = local.ends_with(&ends[0]) && remote.ends_with(&ends[1]);
                is_it.then(|| timer.split(':').next() == Some(expected))
            });
            timers.any(|is_expected| is_expected).then_some(())
        });
    }
}

/// How `/proc/net/tcp` writes it.
const KEEPALIVE_TIMER: &str = "02";

#[test]
fn an_address_that_does_not_answer_is_given_up() {
    let mut python = Python::new();
    // With a full backlog Linux answers nobody.
    python.run(
        r#"
        import socket as sockets
        full = sockets.socket()
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first = sockets.create_connection(full.getsockname())
        "#,
    );
    let port: u16 = python.ask("full.getsockname()[1]");
    let target = format!("tcp://127.0.0.1:{port}");
    let broker = Zmqd::queue(&["--frontend-connect", &target, "--set", "connect_timeout=20"]);
    let line = broker.wait_log(&target);
    assert!(line.contains("no answer within connect_timeout"), "{line}");
}

#[test]
fn an_interface_that_is_not_there_cannot_be_bound_to() {
    let arguments = ["queue", "--frontend", ANY, "--backend", ANY, "--set"];
    let end = Zmqd::finish(&[&arguments[..], &["bindtodevice=none0"]].concat());
    assert_eq!(end.code, Some(1), "{}", end.stderr);
    assert!(
        end.stderr.contains("queue frontend: cannot bind"),
        "{}",
        end.stderr
    );
    let broker = Zmqd::start(&[&arguments[..], &["bindtodevice=lo"]].concat());
    Python::beside(&broker).run(r#"Honest("queue", frontend, backend).passes()"#);
}
