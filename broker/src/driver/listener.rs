//! Endpoints that peers connect to.

use crate::config::endpoint::Host;
use crate::config::{Endpoint, SocketOptions};
use crate::driver::address;
use crate::driver::ipc::{self, SocketFile};
use crate::driver::passed::ipc_name;
use crate::driver::stream::Socket;
use crate::driver::tune::{tune_buffers, tune_tcp};
use crate::ids::ListenerId;
use crate::limits::ACCEPT_PAUSE;
use crate::peer::PeerAddress;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use socket2::{Domain, Protocol, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    acceptor: Acceptor,
    /// A connection may be waiting.
    pub(super) can_accept: bool,
    /// The endpoint with its real port or path.
    pub(super) endpoint: Endpoint,
    pub(super) id: ListenerId,
    /// No connection is accepted before this time, since all file descriptors are in use.
    /// Connections wait in the backlog.
    pub(super) paused_until: Option<Instant>,
}

#[derive(Debug)]
enum Acceptor {
    /// Connections arrive through the handle: see [`Listener::inproc_name`].
    Inproc,
    Tcp(TcpListener),
    Unix {
        /// The socket file, removed when the listener is dropped.
        _file: Option<SocketFile>,
        socket: UnixListener,
    },
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) listener: ListenerId,
    pub(super) peer: PeerAddress,
    pub(super) socket: Socket,
}

impl Listener {
    /// Binds and listens.
    pub(super) fn bind(
        endpoint: &Endpoint,
        id: ListenerId,
        options: &SocketOptions,
    ) -> io::Result<Self> {
        let (acceptor, endpoint) = match endpoint {
            Endpoint::Inproc(_) => (Acceptor::Inproc, endpoint.clone()),
            Endpoint::Ipc(name) => {
                let bound = ipc::listen(name, options)?;
                let socket = UnixListener::from_std(bound.listener);
                let acceptor = Acceptor::Unix {
                    _file: bound.file,
                    socket,
                };
                (acceptor, Endpoint::Ipc(bound.name))
            }
            Endpoint::Tcp { host, port, .. } => {
                let socket = listen(host, *port, options)?;
                let endpoint = real_endpoint(host, &socket)?;
                (Acceptor::Tcp(socket), endpoint)
            }
        };
        Ok(Self {
            acceptor,
            can_accept: true,
            endpoint,
            id,
            paused_until: None,
        })
    }

    /// Takes a socket that listens already, for this endpoint. Its file, if it has one, is that of
    /// the process that has opened it.
    pub(super) fn adopt(
        endpoint: &Endpoint,
        id: ListenerId,
        options: &SocketOptions,
        socket: socket2::Socket,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let (acceptor, endpoint) = match endpoint {
            Endpoint::Tcp { host, .. } => {
                tune_tcp(&socket, socket.domain()?, options)?;
                let socket = TcpListener::from_std(socket.into());
                let endpoint = real_endpoint(host, &socket)?;
                (Acceptor::Tcp(socket), endpoint)
            }
            Endpoint::Ipc(_) | Endpoint::Inproc(_) => {
                tune_buffers(&socket, options)?;
                let name = ipc_name(&socket.local_addr()?);
                let endpoint = name.map_or_else(|| endpoint.clone(), Endpoint::Ipc);
                let acceptor = Acceptor::Unix {
                    _file: None,
                    socket: UnixListener::from_std(socket.into()),
                };
                (acceptor, endpoint)
            }
        };
        Ok(Self {
            acceptor,
            can_accept: true,
            endpoint,
            id,
            paused_until: None,
        })
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.acceptor {
            Acceptor::Inproc => Ok(()),
            Acceptor::Tcp(socket) => registry.register(socket, token, Interest::READABLE),
            Acceptor::Unix { socket, .. } => registry.register(socket, token, Interest::READABLE),
        }
    }

    /// Ends listening. Closing the descriptor would not take a passed socket out of the poll, since
    /// the process that has opened it has it too.
    pub(super) fn leave(mut self, registry: &Registry) {
        let left = match &mut self.acceptor {
            Acceptor::Inproc => Ok(()),
            Acceptor::Tcp(socket) => registry.deregister(socket),
            Acceptor::Unix { socket, .. } => registry.deregister(socket),
        };
        if let Err(error) = left {
            log::debug!("cannot take a listener out of the poll: {error}");
        }
    }

    /// The name to which sockets and programs of this process may connect.
    pub(super) fn inproc_name(&self) -> Option<&str> {
        match (&self.acceptor, &self.endpoint) {
            (Acceptor::Inproc, Endpoint::Inproc(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether it pauses because all descriptors were in use.
    pub(super) fn is_resting(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Accepts one waiting connection.
    ///
    /// Without a free descriptor it pauses: the connection stays in the backlog. To try again at
    /// once would fail again and again, at the full speed of the machine.
    pub(super) fn accept(&mut self, now: Instant) -> Option<Accepted> {
        let was_paused = self.paused_until.take().is_some();
        match self.accept_one() {
            Ok(one) => return Some(one),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.can_accept = false,
            Err(error) if is_of_that_connection(&error) => {}
            Err(error) => {
                if !was_paused {
                    log::warn!("cannot accept connections for now: {}", refusal(&error));
                }
                self.paused_until = Some(now + ACCEPT_PAUSE);
            }
        }
        None
    }

    fn accept_one(&self) -> io::Result<Accepted> {
        let (socket, peer) = match &self.acceptor {
            Acceptor::Inproc => return Err(io::ErrorKind::WouldBlock.into()),
            Acceptor::Tcp(socket) => {
                let (stream, address) = socket.accept()?;
                (Socket::Tcp(stream), address.into())
            }
            Acceptor::Unix { socket, .. } => {
                let (stream, _) = socket.accept()?;
                let peer = ipc::peer(&stream);
                (Socket::Unix(stream), peer)
            }
        };
        Ok(Accepted {
            listener: self.id,
            peer,
            socket,
        })
    }
}

fn listen(host: &Host, port: u16, options: &SocketOptions) -> io::Result<TcpListener> {
    let address = address::to_bind(host, port, options.ipv6)?;
    match listen_at(address, options) {
        // As in libzmq, `*` means IPv4 on a machine without IPv6.
        Err(error) if *host == Host::Any && options.ipv6 && is_without_family(&error) => {
            listen_at(address::to_bind(host, port, false)?, options)
        }
        result => result,
    }
}

fn listen_at(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // As in libzmq with ZMQ_IPV6, `[::]` accepts IPv4 peers too.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    tune_tcp(&socket, domain, options)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

/// The endpoint with its real address and port; `*` stays, because it is not an address.
fn real_endpoint(host: &Host, socket: &TcpListener) -> io::Result<Endpoint> {
    let address = socket.local_addr()?;
    let host = match (host, address) {
        // The system has only its number.
        (Host::Zoned(ip, zone), _) => Host::Zoned(*ip, zone.clone()),
        (Host::Any, _) => Host::Any,
        (_, SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
            Host::Zoned(*v6.ip(), v6.scope_id().to_string())
        }
        _ => Host::Ip(address.ip()),
    };
    Ok(Endpoint::Tcp {
        host,
        port: address.port(),
        source: None,
    })
}

/// The error of the system, with the limit that was reached and the remedy.
fn refusal(error: &io::Error) -> String {
    let is = |errno: Errno| error.raw_os_error() == Some(errno as i32);
    if is(Errno::EMFILE) {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(limit, _)| limit);
        return format!(
            "all {limit} file descriptors are in use, and new connections wait; raise the limit \
             with ulimit -n, or with LimitNOFILE in systemd"
        );
    }
    if is(Errno::ENFILE) {
        return "all file descriptors of the system are in use, and new connections wait; raise \
                fs.file-max"
            .to_owned();
    }
    error.to_string()
}

/// Whether an error of `accept` concerns only one connection (accept(2)).
fn is_of_that_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionReset, Interrupted, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | PermissionDenied | TimedOut
    )
}

/// Whether the system does not support IPv6, or has no IPv6 address.
fn is_without_family(error: &io::Error) -> bool {
    let without = [Errno::EAFNOSUPPORT, Errno::EADDRNOTAVAIL].map(|errno| errno as i32);
    error
        .raw_os_error()
        .is_some_and(|code| without.contains(&code))
}
