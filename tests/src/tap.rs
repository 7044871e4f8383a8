//! A relay between a peer and a broker that counts heartbeats.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A listening relay; takes no new connections after it is dropped.
#[derive(Debug)]
pub struct Tap {
    address: String,
    seen: Arc<Seen>,
}

/// Counters of what has passed.
#[derive(Debug, Default)]
struct Seen {
    broker: Beats,
    connections: AtomicUsize,
    peer: Beats,
    stopped: AtomicBool,
}

/// Heartbeats that one end has sent.
#[derive(Debug, Default)]
pub struct Beats {
    pings: AtomicUsize,
    pongs: AtomicUsize,
}

impl Tap {
    /// Listens on a free port for peers of `tcp://ADDRESS:PORT`.
    #[must_use]
    pub fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let broker = endpoint.trim_start_matches("tcp://").to_owned();
        let seen = Arc::new(Seen::default());
        let counted = Arc::clone(&seen);
        thread::spawn(move || {
            for peer in listener.incoming().flatten() {
                if counted.stopped.load(Ordering::Relaxed) {
                    break;
                }
                counted.connections.fetch_add(1, Ordering::Relaxed);
                relay(peer, &broker, &counted);
            }
        });
        Self {
            address: address.to_string(),
            seen,
        }
    }

    /// The endpoint for peers, in place of the broker's.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// How many connections peers have made.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Heartbeats that the broker has sent.
    #[must_use]
    pub fn broker(&self) -> &Beats {
        &self.seen.broker
    }

    /// Heartbeats that the peer has sent.
    #[must_use]
    pub fn peer(&self) -> &Beats {
        &self.seen.peer
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.seen.stopped.store(true, Ordering::Relaxed);
        // This wakes the listener; an error means that it has ended.
        drop(TcpStream::connect(&self.address));
    }
}

impl Beats {
    /// PING commands.
    #[must_use]
    pub fn pings(&self) -> usize {
        self.pings.load(Ordering::Relaxed)
    }

    /// PONG commands.
    #[must_use]
    pub fn pongs(&self) -> usize {
        self.pongs.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: &[u8]) {
        for name in bytes.windows(NAME.len()) {
            match name {
                b"\x04PING" => self.pings.fetch_add(1, Ordering::Relaxed),
                b"\x04PONG" => self.pongs.fetch_add(1, Ordering::Relaxed),
                _ => continue,
            };
        }
    }
}

/// Connects a peer to the broker, by two threads.
fn relay(peer: TcpStream, broker: &str, seen: &Arc<Seen>) {
    // Without a broker the peer's connection is closed too.
    let Ok(broker) = TcpStream::connect(broker) else {
        return;
    };
    let clone = |stream: &TcpStream| stream.try_clone().expect("a connection can be shared");
    let (peer_too, broker_too) = (clone(&peer), clone(&broker));
    let (theirs, ours) = (Arc::clone(seen), Arc::clone(seen));
    thread::spawn(move || pump(peer, broker, &theirs.peer));
    thread::spawn(move || pump(broker_too, peer_too, &ours.broker));
}

/// Copies bytes until one of the two is closed, and then closes the other.
fn pump(mut from: TcpStream, mut to: TcpStream, beats: &Beats) {
    let mut buffer = [0; 65536];
    let mut kept = 0; // bytes at the front that may be the beginning of a name
    while let Ok(len @ 1..) = from.read(&mut buffer[kept..]) {
        if to.write_all(&buffer[kept..kept + len]).is_err() {
            break;
        }
        let end = kept + len;
        beats.count(&buffer[..end]);
        kept = end.min(NAME.len() - 1); // too short to be counted twice
        buffer.copy_within(end - kept..end, 0);
    }
    // An error means that it is closed.
    drop(to.shutdown(Shutdown::Both));
}

/// The beginning of a command: the length of its name, and the name. No message of a test has it.
const NAME: &[u8] = b"\x04PING";
