//! A relay between one peer and a broker that counts the heartbeats passing through it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// A listening relay; it takes no new connections once dropped.
#[derive(Debug)]
pub struct Tap {
    address: String,
    seen: Arc<Seen>,
}

/// What has passed so far.
#[derive(Debug, Default)]
struct Seen {
    broker: Beats,
    connections: AtomicUsize,
    peer: Beats,
    stopped: AtomicBool,
}

/// Heartbeats of one side.
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

    /// Where peers connect to instead of the broker.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// What the broker has sent.
    #[must_use]
    pub fn broker(&self) -> &Beats {
        &self.seen.broker
    }

    /// What the peer has sent.
    #[must_use]
    pub fn peer(&self) -> &Beats {
        &self.seen.peer
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.seen.stopped.store(true, Ordering::Relaxed);
        // Only to wake the listener; if it cannot be reached it has ended.
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

/// Joins a peer with a connection of its own to the broker, on two threads.
fn relay(peer: TcpStream, broker: &str, seen: &Arc<Seen>) {
    // A broker that is gone closes the peer's connection as well.
    let Ok(broker) = TcpStream::connect(broker) else {
        return;
    };
    let clone = |stream: &TcpStream| stream.try_clone().expect("a connection can be shared");
    let (peer_too, broker_too) = (clone(&peer), clone(&broker));
    let (theirs, ours) = (Arc::clone(seen), Arc::clone(seen));
    thread::spawn(move || pump(peer, broker, &theirs.peer));
    thread::spawn(move || pump(broker_too, peer_too, &ours.broker));
}

/// Passes bytes on until one of the two closes, and then closes the other.
fn pump(mut from: TcpStream, mut to: TcpStream, beats: &Beats) {
    let mut buffer = [0; 65536];
    let mut kept = 0; // bytes in front that may be the beginning of a name
    while let Ok(len @ 1..) = from.read(&mut buffer[kept..]) {
        if to.write_all(&buffer[kept..kept + len]).is_err() {
            break;
        }
        let end = kept + len;
        beats.count(&buffer[..end]);
        kept = end.min(NAME.len() - 1); // too short to be counted a second time
        buffer.copy_within(end - kept..end, 0);
    }
    // Fails only if it is closed already.
    drop(to.shutdown(Shutdown::Both));
}

/// A command begins with the length of its name; no message in a test contains this.
const NAME: &[u8] = b"\x04PING";
