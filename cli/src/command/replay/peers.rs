//! The receivers of replayed messages, with a thread for the answers of each.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender as Channel};
use std::thread;
use std::time::{Duration, Instant};

use broker::config::Attach;
use zmtp::SocketType;

use crate::client::{Client, ClientConfig, ClientError, Listener, Received, Sender};
use crate::output::Failure;
use crate::value::Attached;

/// Bytes of messages that are due together and sent together.
const BATCH_SIZE: usize = 64 << 10;

/// The peers of one socket.
#[derive(Debug)]
pub(super) struct Peers {
    /// Bytes of messages that are due and unsent.
    batch_size: usize,
    /// Events of the threads.
    news: Receiver<PeerEvent>,
    /// The peer with the next turn, for sockets that take turns.
    next: usize,
    peers: Vec<Peer>,
    replies: u64,
    sent: u64,
    socket_type: SocketType,
    timeout: Duration,
}

/// A receiver.
#[derive(Debug)]
struct Peer {
    /// Messages that are due and unsent.
    batch: Vec<u8>,
    sender: Sender,
}

/// An event of a thread.
#[derive(Debug)]
enum PeerEvent {
    Ended(ClientError),
    Reply,
}

impl Peers {
    /// Connects, or waits for this number of peers.
    pub(super) fn gather(
        (attach, endpoint): &Attached,
        config: &ClientConfig,
        count: u32,
    ) -> Result<Self, Failure> {
        let mut clients = Vec::new();
        match attach {
            Attach::Connect => {
                let client = Client::connect(endpoint, config);
                clients.push(client.map_err(|error| {
                    Failure::Running(format!("cannot connect to {endpoint}: {error}"))
                })?);
            }
            Attach::Bind => {
                let (listener, bound) = Listener::bind(endpoint).map_err(|error| {
                    Failure::Running(format!("cannot bind {endpoint}: {error}"))
                })?;
                log::info!("{bound}: listening");
                while clients.len() < count as usize {
                    let stream = listener.accept().map_err(|error| {
                        Failure::Running(format!("{bound}: cannot accept a connection: {error}"))
                    })?;
                    match Client::over(stream, config) {
                        Ok(client) => clients.push(client),
                        Err(error) => log::warn!("{bound}: {error}"),
                    }
                }
            }
        }
        let (channel, news) = mpsc::channel();
        let mut peers = Vec::new();
        for client in clients {
            let sender = client.sender().map_err(|error| {
                Failure::Running(format!("cannot write to {endpoint}: {error}"))
            })?;
            peers.push(Peer {
                batch: Vec::new(),
                sender,
            });
            let channel = channel.clone();
            thread::spawn(move || listen(client, &channel));
        }
        Ok(Self {
            batch_size: 0,
            news,
            next: 0,
            peers,
            replies: 0,
            sent: 0,
            socket_type: config.socket_type,
            timeout: config.timeout,
        })
    }

    /// Sends a message in wire form when it is due: to all subscribers, or to the next peer.
    pub(super) fn send(&mut self, wire: &[u8], due: Instant) -> Result<(), Failure> {
        if due > Instant::now() {
            self.flush()?;
            self.wait(due)?;
        }
        let targets = match self.socket_type {
            SocketType::Pub => 0..self.peers.len(),
            _ => self.next..self.next + 1,
        };
        self.next = (self.next + 1) % self.peers.len();
        for peer in &mut self.peers[targets] {
            peer.batch.extend_from_slice(wire);
        }
        self.sent += 1;
        self.batch_size += wire.len();
        if self.batch_size >= BATCH_SIZE {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends due messages, and handles pending events.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        for peer in &mut self.peers {
            if !peer.batch.is_empty() {
                let written = peer.sender.send_wire(&peer.batch);
                written.map_err(|error| ended(self.sent, &error))?;
                peer.batch.clear();
            }
        }
        self.batch_size = 0;
        while let Ok(news) = self.news.try_recv() {
            self.note(news)?;
        }
        Ok(())
    }

    /// The number of messages sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits for outstanding replies, as long as each arrives in time, and until the peers have
    /// taken everything; returns the number of replies.
    pub(super) fn finish(mut self, wait: Duration) -> Result<u64, Failure> {
        if self.socket_type == SocketType::Dealer {
            let mut deadline = Instant::now() + wait;
            while self.replies < self.sent && Instant::now() < deadline {
                let seen = self.replies;
                self.hear(deadline)?;
                if self.replies > seen {
                    deadline = Instant::now() + wait;
                }
            }
        }
        for peer in &self.peers {
            peer.sender
                .end()
                .map_err(|error| ended(self.sent, &error))?;
        }
        let deadline = Instant::now() + self.timeout;
        let mut left = self.peers.len();
        while left > 0 {
            match self
                .news
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                // The expected end, which proves that the peer has read everything.
                Ok(PeerEvent::Ended(ClientError::Closed)) => left -= 1,
                Ok(PeerEvent::Ended(error)) => return Err(ended(self.sent, &error)),
                Ok(PeerEvent::Reply) => self.replies += 1,
                Err(_) => {
                    log::warn!("{left} peers did not close the connection in time");
                    break;
                }
            }
        }
        Ok(self.replies)
    }

    /// Waits until a message is due, handling events.
    fn wait(&mut self, due: Instant) -> Result<(), Failure> {
        while Instant::now() < due {
            self.hear(due)?;
        }
        Ok(())
    }

    /// Waits for the next event until the deadline.
    fn hear(&mut self, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.news.recv_timeout(left) {
            Ok(news) => self.note(news),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    fn note(&mut self, news: PeerEvent) -> Result<(), Failure> {
        match news {
            PeerEvent::Ended(error) => Err(ended(self.sent, &error)),
            PeerEvent::Reply => {
                self.replies += 1;
                Ok(())
            }
        }
    }
}

/// Reports replies, and the end. Subscriptions are ignored: subscribers get everything and filter
/// for themselves, so that nothing is missed before the last has subscribed.
fn listen(mut client: Client, channel: &Channel<PeerEvent>) {
    loop {
        let news = match client.recv(None) {
            Ok(Received::Message(_)) => PeerEvent::Reply,
            Ok(Received::Subscription { .. }) => continue,
            Err(error) => PeerEvent::Ended(error),
        };
        let is_last = matches!(news, PeerEvent::Ended(_));
        if channel.send(news).is_err() || is_last {
            return;
        }
    }
}

fn ended(sent: u64, error: &ClientError) -> Failure {
    Failure::Running(format!(
        "the connection ended after {sent} messages: {error}"
    ))
}
