//! CURVE with an implementation that is not libzmq: the crate `rzmq`, as client and as server.

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use ::rzmq::socket::options::{
    AUTO_DELIMITER, CURVE_SECRET_KEY, CURVE_SERVER, CURVE_SERVER_KEY, LINGER, SUBSCRIBE,
};
use ::rzmq::{Context, Msg, MsgFlags, Socket, SocketType, ZmqError};
use tokio::runtime::Runtime;
use zmqd_tests::{ANY, PATIENCE, Zmqd, vacant_endpoint};
use zmtp::curve::{PublicKey, SecretKey};

use super::{go, runtime};
use crate::protocol::curve::Keys;

/// Secret keys of rzmq.
const LISTED: [u8; 32] = [7; 32];
const UNLISTED: [u8; 32] = [8; 32];
const SERVER: [u8; 32] = [9; 32];

/// Sockets of rzmq.
struct Sockets {
    context: Context,
    runtime: Rc<Runtime>,
}

fn public_key(secret: &[u8; 32]) -> PublicKey {
    SecretKey::from_bytes(secret).expect("a key").public_key()
}

/// Messages of several sizes, with short and long frames.
fn messages() -> Vec<Vec<Vec<u8>>> {
    let sizes = [0, 1, 63, 64, 222, 223, 255, 256, 65_535, 65_536, 1 << 20];
    let frames = |size: usize| vec![b"frame".to_vec(), Vec::new(), vec![b'x'; size]];
    sizes.map(frames).to_vec()
}

impl Sockets {
    fn new() -> Self {
        let runtime = runtime();
        let context = go(&runtime, async { Context::new() });
        Self {
            context: context.expect("rzmq starts"),
            runtime,
        }
    }

    /// A socket with the secret key of a client of this server, or of a server; or without a key.
    fn open(&self, kind: SocketType, secret: Option<&[u8]>, server: Option<&PublicKey>) -> Socket {
        let opened = go(&self.runtime, async {
            let socket = self.context.socket(kind)?;
            socket.set_option(LINGER, 0).await?;
            if matches!(kind, SocketType::Dealer) {
                // Otherwise it adds empty parts, unlike libzmq.
                socket.set_option(AUTO_DELIMITER, false).await?;
            }
            if let Some(secret) = secret {
                socket.set_option_raw(CURVE_SECRET_KEY, secret).await?;
                match server {
                    Some(key) => {
                        let key = key.as_bytes();
                        socket.set_option_raw(CURVE_SERVER_KEY, key).await?;
                    }
                    None => socket.set_option(CURVE_SERVER, true).await?,
                }
            }
            Ok::<_, ZmqError>(socket)
        });
        opened.expect("rzmq takes the keys")
    }

    fn connect(&self, socket: Socket, endpoint: &str) -> Socket {
        go(&self.runtime, socket.connect(endpoint)).expect("rzmq connects");
        socket
    }

    fn send(&self, socket: &Socket, frames: &[Vec<u8>]) {
        let mut parts: Vec<Msg> = frames.iter().cloned().map(Msg::from_vec).collect();
        let all_but_last = parts.len() - 1;
        for part in &mut parts[..all_but_last] {
            part.set_flags(MsgFlags::MORE);
        }
        go(&self.runtime, socket.send_multipart(parts)).expect("rzmq sends");
    }

    /// The next message, or nothing within this time.
    fn poll(&self, socket: &Socket, patience: Duration) -> Option<Vec<Vec<u8>>> {
        let receive = async { tokio::time::timeout(patience, socket.recv_multipart()).await };
        let parts = self.runtime.block_on(receive).ok()?.expect("rzmq receives");
        let bytes = parts.iter().map(|part| part.data().unwrap_or_default());
        Some(bytes.map(<[u8]>::to_vec).collect())
    }

    fn receive(&self, socket: &Socket) -> Vec<Vec<u8>> {
        self.poll(socket, PATIENCE).expect("a message arrives")
    }
}

#[test]
fn zmqd_serves_rzmq_with_curve() {
    let keys = Keys::new("rzmq-clients", &["server"]);
    fs::write(
        keys.path("clients"),
        format!("{} rzmq\n", public_key(&LISTED)),
    )
    .expect("a file");
    let text = Zmqd::finish(&["keygen", "--public", &keys.path("server.key_secret")]).stdout;
    let server: PublicKey = text.trim_end().parse().expect("a key");
    let secret = keys.set("curve_secret", "server.key_secret");
    let clients = keys.set("curve_clients", "clients");
    let options = ["--set", &secret, "--set", &clients];
    let sockets = Sockets::new();
    let client = |kind, secret: &[u8; 32], endpoint: &str| {
        let socket = sockets.open(kind, Some(secret), Some(&server));
        sockets.connect(socket, endpoint)
    };

    let broker = Zmqd::streamer(&options);
    let sink = client(SocketType::Pull, &LISTED, broker.backend());
    let source = client(SocketType::Push, &LISTED, broker.frontend());
    for message in messages() {
        sockets.send(&source, &message);
        assert_eq!(sockets.receive(&sink), message);
    }
    let _stranger = client(SocketType::Push, &UNLISTED, broker.frontend());
    let _ = broker.wait_log("the peer is not authorised");

    let broker = Zmqd::queue(&options);
    let worker = client(SocketType::Rep, &LISTED, broker.backend());
    let asker = client(SocketType::Req, &LISTED, broker.frontend());
    for number in 0..50_u8 {
        for (from, to) in [(&asker, &worker), (&worker, &asker)] {
            let sent = go(
                &sockets.runtime,
                from.send(Msg::from_vec(vec![number; 300])),
            );
            sent.expect("rzmq sends");
            assert_eq!(sockets.receive(to), [vec![number; 300]]);
        }
    }

    let broker = Zmqd::forwarder(&options);
    let subscriber = client(SocketType::Sub, &LISTED, broker.backend());
    go(&sockets.runtime, subscriber.set_option(SUBSCRIBE, b"frame")).expect("rzmq subscribes");
    let publisher = client(SocketType::Pub, &LISTED, broker.frontend());
    // Until the subscription has arrived.
    let first = || {
        sockets.send(&publisher, &[b"frame".to_vec()]);
        sockets.poll(&subscriber, Duration::from_millis(50))
    };
    zmqd_tests::wait_until("a publication", first);
    for message in messages() {
        sockets.send(&publisher, &message);
        let next = || Some(sockets.receive(&subscriber)).filter(|heard| heard.len() > 1);
        assert_eq!(
            zmqd_tests::wait_until("the next publication", next),
            message
        );
    }
}

#[test]
fn rzmq_serves_zmqd_with_curve() {
    let keys = Keys::new("rzmq-server", &["client"]);
    let sockets = Sockets::new();
    let sink = sockets.open(SocketType::Pull, Some(&SERVER), None);
    let endpoint = vacant_endpoint();
    go(&sockets.runtime, sink.bind(&endpoint)).expect("a free port");
    let broker = Zmqd::start(&[
        "streamer",
        "--frontend",
        ANY,
        "--backend-connect",
        &endpoint,
        "--set",
        &keys.set("backend.curve_secret", "client.key_secret"),
        "--set",
        &format!("backend.curve_server={}", public_key(&SERVER)),
    ]);
    let source = sockets.open(SocketType::Push, None, None);
    let source = sockets.connect(source, broker.frontend());
    for message in messages() {
        sockets.send(&source, &message);
        assert_eq!(sockets.receive(&sink), message);
    }
}
