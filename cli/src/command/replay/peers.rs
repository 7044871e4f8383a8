//! The receivers of replayed messages.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::time::{Duration, Instant};

use broker::config::Attach;
use zmtp::SocketType;

use crate::client::{ClientConfig, ClientError, Loss, News, Socket};
use crate::output::Failure;
use crate::value::Attached;

/// Bytes of messages after which events are handled.
const BATCH_SIZE: usize = 64 << 10;

/// The peers of one socket.
#[derive(Debug)]
pub(super) struct Peers {
    /// Bytes of messages since events were handled.
    batch_size: usize,
    replies: u64,
    sent: u64,
    socket: Socket,
    socket_type: SocketType,
    timeout: Duration,
}

impl Peers {
    /// Connects, or waits for this number of peers.
    pub(super) fn gather(
        attached: &Attached,
        config: &ClientConfig,
        count: u32,
    ) -> Result<Self, Failure> {
        let mut socket = Socket::new(config, Vec::new())?;
        if let Some(bound) = socket.attach(attached)? {
            log::info!("{bound}: listening");
        }
        let count = match attached.0 {
            Attach::Bind => count as usize,
            Attach::Connect => 1,
        };
        let mut peers = Self {
            batch_size: 0,
            replies: 0,
            sent: 0,
            socket,
            socket_type: config.socket_type,
            timeout: config.timeout,
        };
        while peers.socket.peers() < count {
            peers.hear(None)?;
        }
        Ok(peers)
    }

    /// Sends a message in wire form when it is due: to all subscribers, or to the next peer.
    pub(super) fn send(&mut self, wire: &[u8], due: Instant) -> Result<(), Failure> {
        while due > Instant::now() {
            self.hear(Some(due))?;
        }
        loop {
            let is_sent = match self.socket_type {
                // They filter for themselves, so that nothing is missed before the last has
                // subscribed.
                SocketType::Pub => self.socket.publish(wire, true),
                _ => self.socket.send(wire).is_some(),
            };
            if is_sent {
                break;
            }
            self.hear(None)?;
        }
        self.sent += 1;
        self.batch_size += wire.len();
        if self.batch_size >= BATCH_SIZE {
            self.batch_size = 0;
            self.hear(Some(Instant::now()))?;
        }
        Ok(())
    }

    /// Waits until the peers have taken all messages from this process.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        while self.socket.flush_messages() > 0 {
            self.hear(None)?;
        }
        Ok(())
    }

    /// The number of messages sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Waits for outstanding replies, as long as each arrives in time, and until the peers have
    /// read everything; returns the number of replies.
    pub(super) fn finish(mut self, wait: Duration) -> Result<u64, Failure> {
        if self.socket_type == SocketType::Dealer {
            let mut deadline = Instant::now() + wait;
            while self.replies < self.sent && Instant::now() < deadline {
                let seen = self.replies;
                self.hear(Some(deadline))?;
                if self.replies > seen {
                    deadline = Instant::now() + wait;
                }
            }
        }
        self.socket.end();
        let deadline = Instant::now() + self.timeout;
        while self.socket.peers() > 0 {
            match self.socket.next(Some(deadline))? {
                // The expected end, which proves that the peer has read everything.
                News::Lost(Loss {
                    error: ClientError::Closed,
                    ..
                }) => {}
                News::Lost(loss) => self.note(&loss)?,
                News::Message(_) => self.replies += 1,
                News::TimedOut => {
                    let left = self.socket.peers();
                    log::warn!("{left} peers did not close the connection in time");
                    break;
                }
                _ => {}
            }
        }
        Ok(self.replies)
    }

    /// Handles the next event, or waits until the deadline.
    fn hear(&mut self, deadline: Option<Instant>) -> Result<(), Failure> {
        match self.socket.next(deadline)? {
            News::Lost(loss) => self.note(&loss),
            News::Message(_) => {
                self.replies += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A lost peer is the end, and so is an endpoint without one.
    fn note(&self, loss: &Loss) -> Result<(), Failure> {
        let Loss {
            endpoint, error, ..
        } = loss;
        Err(Failure::Running(match (loss.peer, loss.is_dialed) {
            (Some(_), _) => format!("the connection ended after {} messages: {error}", self.sent),
            (None, true) => format!("cannot connect to {endpoint}: {error}"),
            (None, false) => {
                log::warn!("{endpoint}: {error}");
                return Ok(());
            }
        }))
    }
}
