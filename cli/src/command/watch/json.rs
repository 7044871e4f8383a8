//! Plain TCP clients that send JSON objects.

use std::io::{self, ErrorKind, Read as _};
use std::net::{self, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use serde_json::{Map, Value};
use watch::{Decoder, Flaw};

/// Most connections at a time; a new one replaces the one that has been silent for longest.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// The time for the first object, and for the rest of one that has begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are read from one connection before others have their turn.
const READ_SIZE: usize = 16 << 10;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    decoder: Decoder,
    /// The last time that bytes arrived, or the begin of the connection.
    pub(super) heard_at: Instant,
    pub(super) stream: TcpStream,
}

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It has ended, properly or not.
    Ended(Result<(), Flaw>),
    /// It may send more.
    Open,
}

/// The listeners at all addresses of `HOST:PORT`. One address is enough: a machine may have no
/// IPv6.
pub(super) fn listen(text: &str) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut refusal = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for mut address in text.to_socket_addrs()? {
        // Port 0 is any, and the same for all addresses.
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        let bound = net::TcpListener::bind(address);
        match bound.and_then(|it| it.set_nonblocking(true).map(|()| it)) {
            Ok(listener) => listeners.push(TcpListener::from_std(listener)),
            Err(error) => refusal = error,
        }
    }
    match listeners.is_empty() || refusal.kind() == ErrorKind::AddrInUse {
        true => Err(refusal),
        false => Ok(listeners),
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, now: Instant) -> Self {
        Self {
            decoder: Decoder::default(),
            heard_at: now,
            stream,
        }
    }

    /// Reads all that has arrived; each whole object goes to `found`. A reset behind the data loses
    /// nothing: the system hands over the data first.
    pub(super) fn read(
        &mut self,
        now: Instant,
        found: &mut impl FnMut(Map<String, Value>),
    ) -> Reading {
        let mut buffer = [0; READ_SIZE];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Reading::Ended(self.decoder.handle_end()),
                Ok(size) => {
                    self.heard_at = now;
                    let handled = self.decoder.handle_input(&buffer[..size], &mut *found);
                    if let Err(flaw) = handled {
                        return Reading::Ended(Err(flaw));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Reading::Open,
                Err(_) => return Reading::Ended(self.decoder.handle_end()),
            }
        }
    }

    /// The time at which the connection is closed unless more arrives.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = self.decoder.is_inside() || self.decoder.objects() == 0;
        waits.then(|| self.heard_at + PATIENCE)
    }
}
