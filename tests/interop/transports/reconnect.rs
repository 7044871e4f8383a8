//! Links: how a broker retries the connections that it makes.

use std::net::TcpListener;
use std::time::Duration;

use zmqd_tests::raw::listen;
use zmqd_tests::{ANY, Python, Raw, Stopwatch, Zmqd, vacant_endpoint};

/// A listener, and a broker that connects to it with these options.
fn target(options: &[&str]) -> (TcpListener, Zmqd) {
    let (listener, endpoint) = listen();
    let arguments = ["queue", "--frontend", ANY, "--backend-connect", &endpoint];
    let broker = Zmqd::start(&[&arguments[..], &["--set"], options].concat());
    (listener, broker)
}

#[test]
fn a_lost_connection_is_retried_after_reconnect_ivl() {
    let (listener, _broker) = target(&["reconnect_ivl=2000", "reconnect_ivl_max=2000"]);
    drop(Raw::accept(&listener));
    let watch = Stopwatch::start();
    drop(Raw::accept(&listener));
    // The jitter shortens the wait by up to half.
    assert!(
        watch.elapsed() >= Duration::from_millis(900),
        "retried after {:?}",
        watch.elapsed()
    );
}

#[test]
fn attempts_wait_at_most_reconnect_ivl_max() {
    let (listener, _broker) = target(&["reconnect_ivl=10", "reconnect_ivl_max=20"]);
    let watch = Stopwatch::start();
    for _ in 0..15 {
        drop(Raw::accept(&listener));
    }
    assert!(watch.elapsed() < SOON, "{:?} have passed", watch.elapsed());
}

#[test]
fn attempts_back_off_until_a_handshake_succeeds() {
    let (listener, endpoint) = listen();
    let broker = Zmqd::start(&["queue", "--frontend", ANY, "--backend-connect", &endpoint]);
    let mut gaps = Vec::new();
    drop(Raw::accept(&listener));
    for _attempt in 0..5 {
        let watch = Stopwatch::start();
        drop(Raw::accept(&listener));
        gaps.push(watch.elapsed());
    }
    // 100, 200, 400, 800 and 1600 ms, less the jitter.
    assert!(
        gaps.iter().sum::<Duration>() > Duration::from_secs(1),
        "no back-off: {gaps:?}"
    );
    assert!(gaps[4] > gaps[0], "no back-off: {gaps:?}");
    let ticks = broker.cpu_ticks();
    let mut worker = Raw::accept(&listener);
    worker.handshake("DEALER");
    let ticks = broker.cpu_ticks() - ticks;
    assert!(ticks <= 2, "waiting to connect used {ticks} ticks of 10 ms");
    drop(worker);
    let watch = Stopwatch::start();
    drop(Raw::accept(&listener));
    let gap = watch.elapsed();
    assert!(
        gap < gaps[4],
        "no reset after a handshake: {gap:?} after {gaps:?}"
    );
}

#[test]
fn a_link_reconnects_to_a_server_that_restarts() {
    let server = vacant_endpoint();
    let broker = Zmqd::start(&["queue", "--frontend", ANY, "--backend-connect", &server]);
    let mut python = Python::beside(&broker);
    python.set("server_endpoint", &server);
    python.run("client = connect(zmq.DEALER, frontend)");
    for _life in 0..3 {
        python.run(
            r#"
            for number in range(10):
                client.send_multipart([b"", b"%d" % number])
            server = bind(zmq.REP, server_endpoint)
            for number in range(10):
                assert server.recv() == b"%d" % number
                server.send(b"answer %d" % number)
                assert client.recv_multipart() == [b"", b"answer %d" % number]
            server.close()
            "#,
        );
        // Only the client stays connected, so that requests wait for the next server.
        broker.wait_connections(1);
    }
}

/// Less than the default of any option, and far more than needed.
const SOON: Duration = Duration::from_secs(9);
