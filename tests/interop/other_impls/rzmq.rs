//! The crate `rzmq`: ZMTP 3.1 in Rust, without XPUB and XSUB.

use std::rc::Rc;
use std::time::Duration;

use ::rzmq::socket::options::{
    AUTO_DELIMITER, HEARTBEAT_IVL, HEARTBEAT_TIMEOUT, LINGER, ROUTING_ID, SUBSCRIBE, UNSUBSCRIBE,
};
use ::rzmq::{Context, Msg, MsgFlags, Socket, SocketType, ZmqError};
use tokio::runtime::Runtime;
use zmqd_tests::implementation::{self, Implementation, Kind, Message, Peer, Settings};
use zmqd_tests::runs;

use super::{go, runtime};

runs! {
    Rzmq::start: alone frontend backend;
    multipart_requests: backend;
    subscriptions: backend;
    answered_heartbeats:;
}

pub(crate) struct Rzmq {
    context: Context,
    runtime: Rc<Runtime>,
}

struct Connected {
    runtime: Rc<Runtime>,
    socket: Socket,
}

impl Rzmq {
    pub(crate) fn start() -> Self {
        let runtime = runtime();
        let context = go(&runtime, async { Context::new() });
        Self {
            context: context.expect("rzmq starts"),
            runtime,
        }
    }
}

impl Implementation for Rzmq {
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
            Kind::XPub => panic!("rzmq has no XPUB"),
        };
        let opened = go(&self.runtime, async {
            let socket = self.context.socket(socket_type)?;
            socket.set_option(LINGER, 0).await?;
            if matches!(kind, Kind::Dealer | Kind::Router) {
                // Otherwise it adds empty parts, unlike libzmq.
                socket.set_option(AUTO_DELIMITER, false).await?;
            }
            if !settings.identity.is_empty() {
                let identity = settings.identity.as_bytes();
                socket.set_option(ROUTING_ID, identity).await?;
            }
            if settings.heartbeat_ms > 0 {
                let timeout = implementation::HEARTBEAT_TIMEOUT.as_millis();
                let timeout = i32::try_from(timeout).expect("some seconds");
                let interval = i32::from(settings.heartbeat_ms);
                socket.set_option(HEARTBEAT_IVL, interval).await?;
                socket.set_option(HEARTBEAT_TIMEOUT, timeout).await?;
            }
            socket.connect(endpoint).await?;
            Ok::<_, ZmqError>(socket)
        });
        Box::new(Connected {
            runtime: Rc::clone(&self.runtime),
            socket: opened.expect("rzmq connects"),
        })
    }
}

impl Connected {
    fn set(&self, option: i32, value: &str) {
        let done = go(
            &self.runtime,
            self.socket.set_option(option, value.as_bytes()),
        );
        done.expect("rzmq takes the option");
    }
}

impl Peer for Connected {
    fn subscribe(&mut self, topic: &str) {
        self.set(SUBSCRIBE, topic);
    }

    fn cancel(&mut self, topic: &str) {
        self.set(UNSUBSCRIBE, topic);
    }

    fn send(&mut self, message: &[Vec<u8>]) {
        let mut parts: Vec<Msg> = message.iter().cloned().map(Msg::from_vec).collect();
        let all_but_last = parts.len() - 1;
        for part in &mut parts[..all_but_last] {
            part.set_flags(MsgFlags::MORE);
        }
        let sent = go(&self.runtime, async {
            match <[Msg; 1]>::try_from(parts) {
                Ok([part]) => self.socket.send(part).await, // its REQ sends single parts only
                Err(parts) => self.socket.send_multipart(parts).await,
            }
        });
        sent.expect("rzmq sends");
    }

    fn receive_within(&mut self, patience: Duration) -> Option<Message> {
        let receive = async { tokio::time::timeout(patience, self.socket.recv_multipart()).await };
        let received = self.runtime.block_on(receive).ok()?;
        let parts = received.expect("rzmq receives");
        let bytes = parts.iter().map(|part| part.data().unwrap_or_default());
        Some(bytes.map(<[u8]>::to_vec).collect())
    }
}
