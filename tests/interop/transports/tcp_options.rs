//! Options of the kernel's sockets, as seen from outside.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use zmqd_tests::{ANY, Python, Raw, Zmqd, wait_until};

#[test]
fn tcp_accept_filter_admits_its_networks_only() {
    let broker = Zmqd::queue(&[
        "--set",
        "frontend.tcp_accept_filter=127.0.0.0/8,fd00::/8",
        "backend.tcp_accept_filter=10.0.0.0/8",
    ]);
    let mut rejected = Raw::connect(broker.backend());
    assert_eq!(
        rejected.read_until_closed(),
        b"",
        "a rejected peer gets no greeting"
    );
    let line = broker.wait_log("tcp_accept_filter");
    let closed = format!("queue backend: closed {}", rejected.address());
    assert!(line.contains(&closed), "{line}");
    Python::beside(&broker).run("connect(zmq.REQ, frontend)");
}

#[test]
fn tcp_keepalive_runs_on_its_side_only() {
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
        // Another timer runs while data is unacknowledged, for a moment.
        wait_until(&format!("timer {expected} at {endpoint}"), || {
            let table = fs::read_to_string("/proc/net/tcp").expect("Linux has it");
            let mut timers = table.lines().filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let [_, local, remote, _, _, timer, ..] = fields[..] else {
                    return None;
                };
                let is_connection = local.ends_with(&ends[0]) && remote.ends_with(&ends[1]);
                is_connection.then(|| timer.split(':').next() == Some(expected))
            });
            timers.any(|is_expected| is_expected).then_some(())
        });
    }
}

/// The keepalive timer in `/proc/net/tcp`.
const KEEPALIVE_TIMER: &str = "02";

#[test]
fn connect_timeout_ends_an_unanswered_attempt() {
    let mut python = Python::new();
    // With a full backlog Linux answers no connection.
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
    let line = broker.wait_log(&format!("cannot connect to {target}"));
    assert!(line.contains("no answer within connect_timeout"), "{line}");
}

#[test]
fn bindtodevice_needs_an_existing_interface() {
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

#[test]
fn packets_carry_the_type_of_service() {
    let mut python = Python::new();
    python.run(
        r#"
        import socket as sockets
        listener = sockets.create_server(("127.0.0.1", 0))
        "#,
    );
    let port: u16 = python.ask("listener.getsockname()[1]");
    let target = format!("tcp://127.0.0.1:{port}");
    let _broker = Zmqd::queue(&["--frontend-connect", &target, "--set", "tos=104"]);
    python.run(
        r#"
        IP_PKTOPTIONS, IP_RECVTOS = 9, 13
        listener.settimeout(PATIENCE_MS / 1000)
        accepted, _ = listener.accept()
        accepted.setsockopt(sockets.IPPROTO_IP, IP_RECVTOS, 1)
        # A header of a length and two integers, and the type of service of the handshake.
        message = accepted.getsockopt(sockets.IPPROTO_IP, IP_PKTOPTIONS, 64)
        _, level, kind, service = struct.unpack_from("@Niii", message.ljust(64))
        assert (level, kind, service) == (sockets.IPPROTO_IP, sockets.IP_TOS, 104), message
        "#,
    );
}

#[test]
fn a_stuck_peer_is_closed_after_tcp_maxrt() {
    let options = [
        "-v",
        "--set",
        "backend.tcp_maxrt=200",
        "backend.sndbuf=16384",
    ];
    let broker = Zmqd::streamer(&options);
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        sink = connect(zmq.PULL, backend, rcvhwm=1, rcvbuf=4096)
        source = connect(zmq.PUSH, frontend)
        for _ in range(100):
            source.send(bytes(65536))
        "#,
    );
    let line = broker.wait_log("timed out");
    assert!(line.contains("streamer backend: closed"), "{line}");
}

#[test]
fn backlog_limits_the_connections_not_yet_accepted() {
    let broker = Zmqd::streamer(&["--set", "frontend.backlog=2"]);
    broker.signal("STOP");
    Python::beside(&broker).run(
        r#"
        import socket as sockets
        def connect_all(endpoint):
            """Begins ten connections; returns them, and a function that counts the established."""
            host, port = endpoint.removeprefix("tcp://").split(":")
            calling = [sockets.socket() for _ in range(10)]
            for one in calling:
                one.setblocking(False)
                one.connect_ex((host, int(port)))
            poller = zmq.Poller()
            for one in calling:
                poller.register(one, zmq.POLLOUT)
            return calling, lambda: len(poller.poll(0))
        few, connected = connect_all(frontend)
        # Linux takes one more than the backlog.
        wait_until("as many connections as the backlog holds", lambda: connected() == 3)
        many, connected_to_other = connect_all(backend)
        wait_until("all connections to the other side", lambda: connected_to_other() == 10)
        assert connected() == 3
        "#,
    );
}
