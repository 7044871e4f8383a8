//! Endpoints that peers connect to.

use crate::config::endpoint::Host;
use crate::config::{Endpoint, Side};
use crate::conn::SocketId;
use crate::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN_MAX};
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::time::Instant;

/// Connections that the kernel makes ahead of us. After a restart every client of the broker comes back
/// within 200 ms; the kernel lowers this to its own maximum.
const BACKLOG: i32 = 4096;

/// A broker could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An endpoint could not be bound.
    #[error("{proxy} {side}: cannot bind {endpoint}: {source}")]
    Endpoint {
        /// The endpoint as it was configured.
        endpoint: Endpoint,
        /// The name of its proxy.
        proxy: String,
        /// The side of the proxy.
        side: Side,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused an event loop.
    #[error("cannot make an event loop: {0}")]
    EventLoop(#[from] io::Error),
}

/// One endpoint that the broker listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The endpoint, with the port that the system chose if it was asked to.
    pub endpoint: Endpoint,
    /// The name of the proxy.
    pub proxy: String,
    /// The side of the proxy.
    pub side: Side,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    /// There may be somebody to accept.
    pub(super) can_accept: bool,
    /// Nobody is accepted until then: there are no descriptors left. Connections wait in the backlog.
    pub(super) paused_until: Option<Instant>,
    pub(super) socket: TcpListener,
    pub(super) socket_id: SocketId,
}

impl Listener {
    /// Binds and listens.
    pub(super) fn bind(endpoint: &Endpoint, socket_id: SocketId) -> io::Result<Self> {
        let address = address_of(endpoint)?;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // As libzmq with ZMQ_IPV6: `[::]` takes IPv4 peers too.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into());
        Ok(Self {
            can_accept: true,
            paused_until: None,
            socket,
            socket_id,
        })
    }

    /// The endpoint with its real port.
    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        let address = self.socket.local_addr()?;
        Ok(Endpoint::Tcp {
            host: Host::Ip(address.ip()),
            port: address.port(),
        })
    }

    /// Accepts those who are there, some at a time, and passes each to `accepted`. Answers whether more
    /// may be there.
    ///
    /// Without descriptors it rests for a while: the connection stays in the backlog, and accepting it
    /// again at once would fail again, for ever, at the full speed of the machine.
    pub(super) fn accept(&mut self, now: Instant, mut accepted: impl FnMut(TcpStream, SocketAddr)) {
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        let was_paused = self.paused_until.take().is_some();
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            match self.socket.accept() {
                Ok((stream, peer)) => accepted(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.can_accept = false;
                    return;
                }
                Err(error) if is_of_that_connection(&error) => {}
                Err(error) => {
                    if !was_paused {
                        log::warn!("cannot accept connections for now: {error}");
                    }
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }
}

/// Whether an error of `accept` concerns only the connection that was to be accepted (accept(2)).
fn is_of_that_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied | TimedOut
    )
}

fn address_of(endpoint: &Endpoint) -> io::Result<SocketAddr> {
    let Endpoint::Tcp { host, port } = endpoint;
    match host {
        Host::Any => Ok((IpAddr::V4(Ipv4Addr::UNSPECIFIED), *port).into()),
        Host::Ip(ip) => Ok((*ip, *port).into()),
        // Once, before the loop runs: to bind a name is to name an interface of this machine.
        Host::Name(name) => (name.as_str(), *port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
    }
}
