//! Plain TCP clients that send JSON objects.

use std::io::{self, ErrorKind, Read as _};
use std::net::{self, SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use broker::config::Network;
use mio::net::{TcpListener, TcpStream};
use serde_json::{Map, Value};
use watch::{Decoder, Flaw};

use super::socket::admits;
use super::sources::{Progress, Source};

/// Most connections at a time; a new one replaces the one that has been silent for longest.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// The time for the first object, and for the rest of one that has begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that are read from one connection before others have their turn. They hold at most 2048
/// objects, and dozens of real ones.
const READ_SIZE: usize = 4 << 10;

/// A socket that listens.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) inner: TcpListener,
    /// The networks that clients may come from; empty: any.
    pub(super) networks: Vec<Network>,
    /// The address as the configuration has it.
    pub(super) text: String,
}

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
    Open(Progress),
}

impl Listener {
    /// The next connection that waits; [`None`] if it may not come from its address.
    pub(super) fn accept(&self, now: Instant) -> io::Result<Option<Source>> {
        let (stream, address) = self.inner.accept()?;
        let is_admitted = admits(&self.networks, address.into());
        Ok(is_admitted.then(|| Source::Json(Connection::new(stream, now))))
    }
}

/// New listeners at all addresses of `HOST:PORT` except those that are `open`, and these. One
/// address is enough: a machine may have no IPv6.
pub(super) fn listen(
    text: &str,
    open: &[SocketAddr],
) -> io::Result<(Vec<TcpListener>, Vec<SocketAddr>)> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut shared = Vec::new();
    let mut refusal = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for mut address in text.to_socket_addrs()? {
        // Port 0 is any, and the same for all addresses.
        if let (0, Some(first)) = (address.port(), listeners.first()) {
            address.set_port(first.local_addr()?.port());
        }
        if open.contains(&address) {
            shared.push(address);
            continue;
        }
        let bound = net::TcpListener::bind(address);
        match bound.and_then(|it| it.set_nonblocking(true).map(|()| it)) {
            Ok(listener) => listeners.push(TcpListener::from_std(listener)),
            Err(error) => refusal = error,
        }
    }
    let is_nothing = listeners.is_empty() && shared.is_empty();
    match is_nothing || refusal.kind() == ErrorKind::AddrInUse {
        true => Err(refusal),
        false => Ok((listeners, shared)),
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

    /// Reads some of what has arrived; each whole object goes to `found`. A reset behind the data
    /// loses nothing: the system hands over the data first.
    pub(super) fn read(
        &mut self,
        now: Instant,
        found: &mut impl FnMut(Map<String, Value>),
    ) -> Reading {
        let mut buffer = [0; READ_SIZE];
        match self.stream.read(&mut buffer) {
            Ok(0) => Reading::Ended(self.decoder.handle_end()),
            Ok(size) => {
                self.heard_at = now;
                match self.decoder.handle_input(&buffer[..size], found) {
                    // The end of the stream may be there already.
                    Ok(()) => Reading::Open(Progress::More),
                    Err(flaw) => Reading::Ended(Err(flaw)),
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Reading::Open(Progress::More),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Reading::Open(Progress::Waits),
            Err(_) => Reading::Ended(self.decoder.handle_end()),
        }
    }

    /// The time at which the connection is closed unless more arrives.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = self.decoder.is_inside() || self.decoder.objects() == 0;
        waits.then(|| self.heard_at + PATIENCE)
    }
}
