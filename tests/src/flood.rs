//! More messages than queues hold, for peers that read nothing.

use crate::raw::{Raw, frame};
use crate::{Python, Zmqd};

/// Each kind of proxy, the socket type of its senders, and that of its receivers.
pub const KINDS: [(&str, &str, &str); 3] = [
    ("queue", "DEALER", "DEALER"),
    ("forwarder", "PUB", "SUB"),
    ("streamer", "PUSH", "PULL"),
];

/// Connects three peers that read nothing, and begins to send them so many messages of 64 KiB.
/// Returns these peers, and the sender, a Python whose socket is `near`.
#[track_caller]
pub fn flood(broker: &Zmqd, near: &str, far: &str, messages: u32) -> (Vec<Raw>, Python) {
    let mut stuck: Vec<Raw> = (0..3).map(|_| Raw::connect(broker.backend())).collect();
    for raw in &mut stuck {
        raw.handshake(far);
        if far == "SUB" {
            raw.send(&frame(0, b"\x01"))
                .expect("the broker takes a subscription");
        }
    }
    let mut python = Python::beside(broker);
    python.set("near", near);
    python.set("messages", &messages.to_string());
    python.begin(
        r#"
        near = connect(getattr(zmq, near), frontend, sndhwm=0)
        for number in range(int(messages)):
            near.send_multipart([b"flood", bytes(65536)], copy=False)
        "#,
    );
    (stuck, python)
}
