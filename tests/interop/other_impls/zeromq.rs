//! The crate `zeromq`: ZMTP 3.0 in Rust, without heartbeats; only its SUB reconnects.

use std::rc::Rc;
use std::time::Duration;

use ::zeromq::util::PeerIdentity;
use ::zeromq::{
    DealerSocket, PubSocket, PullSocket, PushSocket, RepSocket, ReqSocket, RouterSocket, Socket,
    SocketOptions, SocketRecv, SocketSend, SubSocket, XPubSocket, ZmqMessage, ZmqResult,
};
use tokio::runtime::Runtime;
use zmqd_tests::implementation::{Implementation, Kind, Message, Peer, Settings};
use zmqd_tests::runs;

use super::{go, runtime};

runs! {
    Zeromq::start: alone frontend backend;
    reconnections:;
    resubscriptions: backend;
    answered_heartbeats:;
    own_heartbeats:;
}

pub(crate) struct Zeromq {
    runtime: Rc<Runtime>,
}

struct Connected {
    runtime: Rc<Runtime>,
    socket: Any,
}

enum Any {
    Dealer(DealerSocket),
    Pub(PubSocket),
    Pull(PullSocket),
    Push(PushSocket),
    Rep(RepSocket),
    Req(ReqSocket),
    Router(RouterSocket),
    Sub(SubSocket),
    XPub(XPubSocket),
}

impl Zeromq {
    pub(crate) fn start() -> Self {
        Self { runtime: runtime() }
    }
}

impl Implementation for Zeromq {
    fn open(&self, kind: Kind, endpoint: &str, settings: Settings) -> Box<dyn Peer> {
        let mut options = SocketOptions::default();
        if !settings.identity.is_empty() {
            let identity: PeerIdentity = settings.identity.parse().expect("a short name");
            options.peer_identity(identity);
        }
        assert_eq!(settings.heartbeat_ms, 0, "zeromq has no heartbeats");
        let opened = go(&self.runtime, async {
            Ok::<_, ::zeromq::ZmqError>(match kind {
                Kind::Dealer => Any::Dealer(connect(endpoint, options).await?),
                Kind::Pub => Any::Pub(connect(endpoint, options).await?),
                Kind::Pull => Any::Pull(connect(endpoint, options).await?),
                Kind::Push => Any::Push(connect(endpoint, options).await?),
                Kind::Rep => Any::Rep(connect(endpoint, options).await?),
                Kind::Req => Any::Req(connect(endpoint, options).await?),
                Kind::Router => Any::Router(connect(endpoint, options).await?),
                Kind::Sub => Any::Sub(connect(endpoint, options).await?),
                Kind::XPub => Any::XPub(connect(endpoint, options).await?),
            })
        });
        Box::new(Connected {
            runtime: Rc::clone(&self.runtime),
            socket: opened.expect("zeromq connects"),
        })
    }
}

async fn connect<S: Socket>(endpoint: &str, options: SocketOptions) -> ZmqResult<S> {
    let mut socket = S::with_options(options);
    socket.connect(endpoint).await?;
    Ok(socket)
}

impl Connected {
    fn sub(&mut self) -> (&Runtime, &mut SubSocket) {
        match &mut self.socket {
            Any::Sub(socket) => (&self.runtime, socket),
            _ => panic!("only SUB subscribes"),
        }
    }
}

impl Peer for Connected {
    fn subscribe(&mut self, topic: &str) {
        let (runtime, socket) = self.sub();
        go(runtime, socket.subscribe(topic)).expect("zeromq subscribes");
    }

    fn cancel(&mut self, topic: &str) {
        let (runtime, socket) = self.sub();
        go(runtime, socket.unsubscribe(topic)).expect("zeromq cancels");
    }

    fn send(&mut self, message: &[Vec<u8>]) {
        let mut parts = message.iter().cloned();
        let mut message = ZmqMessage::from(parts.next().expect("a message has parts"));
        parts.for_each(|part| message.push_back(part.into()));
        let socket: &mut dyn SocketSend = match &mut self.socket {
            Any::Dealer(socket) => socket,
            Any::Pub(socket) => socket,
            Any::Push(socket) => socket,
            Any::Rep(socket) => socket,
            Any::Req(socket) => socket,
            Any::Router(socket) => socket,
            Any::XPub(socket) => socket,
            Any::Pull(_) | Any::Sub(_) => panic!("PULL and SUB do not send"),
        };
        go(&self.runtime, socket.send(message)).expect("zeromq sends");
    }

    fn receive_within(&mut self, patience: Duration) -> Option<Message> {
        let socket: &mut dyn SocketRecv = match &mut self.socket {
            Any::Dealer(socket) => socket,
            Any::Pull(socket) => socket,
            Any::Rep(socket) => socket,
            Any::Req(socket) => socket,
            Any::Router(socket) => socket,
            Any::Sub(socket) => socket,
            Any::XPub(socket) => socket,
            Any::Pub(_) | Any::Push(_) => panic!("PUB and PUSH do not receive"),
        };
        let receive = async { tokio::time::timeout(patience, socket.recv()).await };
        let received = self.runtime.block_on(receive).ok()?;
        let parts = received.expect("zeromq receives").into_vec();
        Some(parts.iter().map(|part| part.to_vec()).collect())
    }
}
