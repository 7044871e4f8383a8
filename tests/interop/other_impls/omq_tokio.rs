//! The crate `omq-tokio`: ZMTP 3.1 in Rust.

use std::time::Duration;

use ::omq_tokio::{Context, Error, Options, SocketType, blocking};
use zmqd_tests::PATIENCE;
use zmqd_tests::implementation::{
    HEARTBEAT_TIMEOUT, Implementation, Kind, Message, Peer, Settings,
};
use zmqd_tests::runs;

runs! {
    Omq::start: alone frontend backend;
}

pub(crate) struct Omq {
    context: Context,
}

struct Connected {
    socket: blocking::Socket,
}

impl Omq {
    pub(crate) fn start() -> Self {
        Self {
            context: Context::new(),
        }
    }
}

impl Implementation for Omq {
    fn open(&self, kind: Kind, endpoint: &str, settings: Settings) -> Box<dyn Peer> {
        let socket_type = match kind {
            Kind::Dealer => SocketType::Dealer,
            Kind::Pub => SocketType::Pub,
            Kind::Pull => SocketType::Pull,
            Kind::Push => SocketType::Push,
            Kind::Rep => SocketType::Rep,
            Kind::Req => SocketType::Req,
            Kind::Router => SocketType::Router,
            Kind::Sub => SocketType::Sub,
            Kind::XPub => SocketType::XPub,
        };
        let mut options = Options::default();
        if !settings.identity.is_empty() {
            options = options.identity(settings.identity);
        }
        if settings.heartbeat_ms > 0 {
            let interval = Duration::from_millis(settings.heartbeat_ms.into());
            options = options.heartbeat_interval(interval);
            options = options.heartbeat_timeout(HEARTBEAT_TIMEOUT);
        }
        let socket = self.context.blocking_socket(socket_type, options);
        let connected = socket.connect_timeout(endpoint, PATIENCE);
        connected.expect("omq-tokio connects");
        Box::new(Connected { socket })
    }
}

impl Peer for Connected {
    fn subscribe(&mut self, topic: &str) {
        let done = self.socket.subscribe(topic.to_owned());
        done.expect("omq-tokio subscribes");
    }

    fn cancel(&mut self, topic: &str) {
        let done = self.socket.unsubscribe(topic.to_owned());
        done.expect("omq-tokio cancels");
    }

    fn send(&mut self, message: &[Vec<u8>]) {
        let message = ::omq_tokio::Message::multipart(message.to_vec());
        let sent = self.socket.send_timeout(message, PATIENCE);
        sent.expect("omq-tokio sends");
    }

    fn receive_within(&mut self, patience: Duration) -> Option<Message> {
        match self.socket.recv_timeout(patience) {
            Ok(message) => Some(message.iter().map(|part| part.to_vec()).collect()),
            Err(Error::WouldBlock | Error::Timeout) => None,
            Err(error) => panic!("omq-tokio receives: {error}"),
        }
    }
}
