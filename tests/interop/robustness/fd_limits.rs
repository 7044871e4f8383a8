//! A broker that has used up its file descriptors.

use zmqd_tests::{ANY, Python, Raw, Zmqd, turns, vacant_endpoint};

#[test]
fn a_lost_link_reconnects_once_a_file_is_free() {
    let _turn = turns::many_connections();
    let server = vacant_endpoint();
    let sides = ["--frontend", ANY, "--backend-connect", &server];
    // Longer than the next accept takes, which uses the file of the lost connection.
    let more = [
        "--set",
        "reconnect_ivl=1000",
        "--set",
        "reconnect_ivl_max=1000",
    ];
    let broker = Zmqd::start_within("-n 64", &[&["queue"], &sides[..], &more].concat());
    let mut python = Python::beside(&broker);
    python.set("server_endpoint", &server);
    python.run(
        r#"
        server = bind(zmq.REP, server_endpoint)
        client = connect(zmq.REQ, frontend)
        client.send(b"question")
        server.send(server.recv())
        assert client.recv() == b"question"
        "#,
    );
    // More connections than files, so that a free file is used at once.
    let crowd: Vec<Raw> = (0..120).map(|_| Raw::connect(broker.frontend())).collect();
    let _line = broker.wait_log("cannot accept connections for now");
    python.run("server.close()");
    let _line = broker.wait_log("Too many open files (os error 24); retrying");
    python.run("server = bind(zmq.REP, server_endpoint); client.send(b'once more')");
    python.run("assert is_silent(server, 200)");
    drop(crowd);
    python.run(
        r#"
        server.send(server.recv())
        assert client.recv() == b"once more"
        "#,
    );
}

#[test]
fn senders_that_left_need_no_files() {
    for (kind, near, far) in [("queue", "REQ", "DEALER"), ("streamer", "PUSH", "PULL")] {
        let sides = [kind, "--frontend", ANY, "--backend", ANY];
        let broker = Zmqd::start_within("-n 64", &sides);
        let mut python = Python::beside(&broker);
        python.set("near", near);
        python.set("far", far);
        python.run(
            r#"
            near, far = getattr(zmq, near), getattr(zmq, far)
            for number in range(200):
                leaving = connect(near, frontend)
                leaving.linger = PATIENCE_MS
                leaving.send(b"%d" % number)
                leaving.close()
            receiver = connect(far, backend)
            numbers = [int(message[-1]) for message in take(receiver, 200)]
            assert numbers == list(range(200)), numbers
            "#,
        );
        broker.wait_connections(1);
        let mut honest = Python::beside(&broker);
        python.run("receiver.close()");
        honest.set("kind", kind);
        honest.run("honest = Honest(kind, frontend, backend); honest.passes()");
    }
}

#[test]
fn new_peers_wait_and_connected_ones_go_on_at_the_fd_limit() {
    let _turn = turns::many_connections();
    let arguments = ["queue", "--frontend", ANY, "--backend", ANY];
    let broker = Zmqd::start_within("-n 64", &arguments);
    let mut honest = Python::beside(&broker);
    honest.run("honest = Honest('queue', frontend, backend); honest.passes()");
    let crowd: Vec<Raw> = (0..120).map(|_| Raw::connect(broker.frontend())).collect();
    honest.run("honest.passes(); honest.pause()");
    let held = broker.connections();
    assert!(held < 64, "{held} connections in 64 files");
    let ticks = broker.cpu_ticks();
    honest.run("assert is_silent(honest.far, 500)");
    let ticks = broker.cpu_ticks() - ticks;
    assert!(ticks <= 5, "waiting for files used {ticks} ticks of 10 ms");
    honest.run("honest.resume(); honest.passes(); honest.pause()");
    drop(crowd);
    honest.run(
        r#"
        late = connect(zmq.REQ, frontend)
        late.send(b"late")
        honest.far.send(honest.far.recv())
        assert late.recv() == b"late"
        honest.resume()
        honest.passes()
        "#,
    );
}
