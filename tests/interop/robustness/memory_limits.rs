//! A broker in a process with little memory.

use zmqd_tests::flood::{KINDS, flood};
use zmqd_tests::raw::{MORE, frame, long_header};
use zmqd_tests::{ANY, Python, Raw, Zmqd};

/// A broker with a memory limit of 32 MiB, in a process that gets at most 128 MiB.
fn cramped(kind: &str) -> Zmqd {
    let sides = [kind, "--frontend", ANY, "--backend", ANY];
    let limits = ["--memory-limit", "33554432", "--set", "sndhwm=0"];
    let message = ["--set", "maxmsgsize=8388608"];
    Zmqd::start_within("-v 131072", &[&sides[..], &limits, &message].concat())
}

#[test]
fn queues_stay_short_and_the_broker_survives_a_flood() {
    for (kind, near, far) in KINDS {
        let broker = cramped(kind);
        let (stuck, mut python) = flood(&broker, near, far, 2000);
        drop(stuck);
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
fn partial_messages_are_bounded() {
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
    let _line = broker.wait_log("the memory limit was reached");
    drop(crowd);
    let mut honest = Python::beside(&broker);
    honest.run("honest = Honest('streamer', frontend, backend); honest.passes()");
}
