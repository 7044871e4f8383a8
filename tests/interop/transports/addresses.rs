//! Addresses of tcp: IPv6, zones, names of interfaces, and source addresses.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};

use zmqd_tests::{ANY, Python, Zmqd};

fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn ipv6_addresses_bind_and_connect() {
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
fn ipv6_binds_a_wildcard_for_both_families() {
    let any = "tcp://*:0";
    let broker = Zmqd::start(&[
        "forwarder",
        "--frontend",
        any,
        "--backend",
        any,
        "--insecure",
        "--set",
        "ipv6=true",
    ]);
    let port = |endpoint: &str| endpoint.rsplit(':').next().expect("a port").to_owned();
    let (front, back) = (port(broker.frontend()), port(broker.backend()));
    assert_eq!(broker.frontend(), format!("tcp://*:{front}"));
    let mut python = Python::new();
    python.run("context.ipv6 = True");
    let mut addresses = vec!["127.0.0.1"];
    if has_ipv6() {
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
fn link_local_addresses_take_a_zone() {
    let Some((address, interface)) = link_local() else {
        let end = Zmqd::finish(&[
            "queue",
            "--frontend",
            "tcp://[fe80::1%none0]:0",
            "--backend",
            ANY,
            "--insecure",
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
        "--insecure",
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
        "--insecure",
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
        "--insecure",
    ]);
    assert_eq!(end.code, Some(1), "{}", end.stderr);
}

#[test]
fn connections_use_the_configured_source_address() {
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
