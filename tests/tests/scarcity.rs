//! The system has no more files or memory to give.
//!
//! That new peers wait for files is in `hostile.rs`.

use zmqd_tests::flood::{KINDS, flood};
use zmqd_tests::raw::{MORE, frame, long_header};
use zmqd_tests::{ANY, Python, Raw, Zmqd, vacant_endpoint};

#[test]
fn a_lost_link_comes_back_once_there_are_files_again() {
    let server = vacant_endpoint();
    let sides = ["--frontend", ANY, "--backend-connect", &server];
    // Longer than until the next connection is accepted, which takes the file of the lost one.
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
    // More than there are files, so that one that becomes free is taken at once.
    let crowd: Vec<Raw> = (0..120).map(|_| Raw::connect(broker.frontend())).collect();
    let _line = broker.wait_log("cannot accept connections for now");
    python.run("server.close()");
    let _line = broker.wait_log("will go on trying: Too many open files");
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
fn the_gone_whose_messages_wait_need_no_files() {
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
            taker = connect(far, backend)
            numbers = [int(message[-1]) for message in take(taker, 200)]
            assert numbers == list(range(200)), numbers
            "#,
        );
        broker.wait_connections(1);
        let mut honest = Python::beside(&broker);
        python.run("taker.close()");
        honest.set("kind", kind);
        honest.run("honest = Honest(kind, frontend, backend); honest.passes()");
    }
}

/// A broker that may hold 32 MiB, in a process that gets no more than 128.
fn cramped(kind: &str) -> Zmqd {
    let sides = [kind, "--frontend", ANY, "--backend", ANY];
    let limits = ["--memory-limit", "33554432", "--hwm", "0"];
    let message = ["--set", "maxmsgsize=8388608"];
    Zmqd::start_within("-v 131072", &[&sides[..], &limits, &message].concat())
}

#[test]
fn with_little_memory_queues_stay_short_and_the_broker_lives() {
    for (kind, near, far) in KINDS {
        let broker = cramped(kind);
        let (deaf, mut python) = flood(&broker, near, far, 2000);
        drop(deaf);
        python.finish();
        python.set("far", far);
        python.run(
            r#"
            far = connect(getattr(zmq, far), backend)
            if far.type == zmq.SUB:
                far.subscribe(b"")
            def ended():
                near.send_multipart([b"end", b""])
                while far.poll(100):
                    *_, word, body = far.recv_multipart()
                    assert (word, body) in [(b"end", b""), (b"flood", bytes(65536))]
                    if word == b"end":
                        return True

            wait_until("the end of the flood", ended)
            "#,
        );
    }
}

#[test]
fn with_little_memory_half_messages_are_bounded() {
    let broker = cramped("streamer");
    let crowd: Vec<Raw> = (0..16)
        .map(|_| {
            let mut raw = Raw::connect(broker.frontend());
            raw.handshake("PUSH");
            let half = [
                frame(MORE, b"half"),
                long_header(0, (8 << 20) - 64),
                vec![b'x'; 7 << 20],
            ];
            drop(raw.send(&half.concat()));
            raw
        })
        .collect();
    let _line = broker.wait_log("the memory limit is reached");
    drop(crowd);
    let mut honest = Python::beside(&broker);
    honest.run("honest = Honest('streamer', frontend, backend); honest.passes()");
}
