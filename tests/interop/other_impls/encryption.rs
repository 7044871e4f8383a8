//! CURVE with an implementation that is not libzmq: the crate `omq-tokio`, as a server.

use omq_tokio::{Context, CurveKeypair, Message, Options, SocketType, blocking::Socket};
use zmqd_tests::{ANY, PATIENCE, Zmqd};

use crate::protocol::curve::Keys;

/// Messages of several sizes, with short and long frames.
fn messages() -> Vec<Vec<Vec<u8>>> {
    let sizes = [0, 1, 63, 64, 222, 223, 255, 256, 65_535, 65_536, 1 << 20];
    let frames = |size: usize| vec![b"frame".to_vec(), Vec::new(), vec![b'x'; size]];
    sizes.map(frames).to_vec()
}

fn send(socket: &Socket, frames: &[Vec<u8>]) {
    let message = Message::multipart(frames.to_vec());
    socket
        .send_timeout(message, PATIENCE)
        .expect("omq-tokio sends");
}

fn receive(socket: &Socket) -> Vec<Vec<u8>> {
    let message = socket.recv_timeout(PATIENCE).expect("omq-tokio receives");
    message.iter().map(|part| part.to_vec()).collect()
}

#[test]
fn omq_tokio_serves_zmqd_with_curve() {
    let keys = Keys::new("omq-server", &["client"]);
    let pair = CurveKeypair::generate();
    let context = Context::new();
    let sink = context.blocking_socket(
        SocketType::Pull,
        Options::default().curve_server(pair.clone()),
    );
    let endpoint = sink
        .bind_timeout("tcp://127.0.0.1:0", PATIENCE)
        .expect("a free port");
    let broker = Zmqd::start(&[
        "streamer",
        "--frontend",
        ANY,
        "--backend-connect",
        &endpoint.to_string(),
        "--set",
        &keys.set("backend.curve_secret", "client.key_secret"),
        "--set",
        &format!("backend.curve_server={}", pair.public.to_z85()),
        // omq-tokio repeats COMMAND outside the box of a PONG, which zmqd refuses.
        "--set",
        "backend.heartbeat_ivl=0",
    ]);
    let source = context.blocking_socket(SocketType::Push, Options::default());
    source
        .connect_timeout(broker.frontend(), PATIENCE)
        .expect("omq-tokio connects");
    for message in messages() {
        send(&source, &message);
        assert_eq!(receive(&sink), message);
    }
}
