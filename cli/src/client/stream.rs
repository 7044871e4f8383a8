//! Blocking connections over every transport that an endpoint can name.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as LocalAddress, UnixListener, UnixStream};
use std::time::Duration;

use broker::PeerAddress;
use broker::config::SocketOptions;
use broker::config::endpoint::{Endpoint, Host, IpcName};
use broker::ipc::SocketFile;

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Ipc(UnixStream),
    Tcp(TcpStream),
}

/// A socket that accepts connections.
#[derive(Debug)]
pub(crate) enum Listener {
    Ipc {
        /// Removed when dropped.
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
    Tcp(TcpListener),
}

impl Stream {
    /// Connects, with `timeout` for each address of a name.
    pub(super) fn connect(endpoint: &Endpoint, timeout: Duration) -> io::Result<Self> {
        match endpoint {
            Endpoint::Inproc(_) => Err(unsupported("inproc connects only within one process")),
            Endpoint::Ipc(name) => UnixStream::connect_addr(&local_address(name)?).map(Self::Ipc),
            Endpoint::Tcp {
                source: Some(_), ..
            } => Err(unsupported("this command cannot choose a source address")),
            Endpoint::Tcp { host, port, .. } => {
                let stream = connect_any(&resolve(host, *port)?, timeout)?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Ipc(stream) => stream.set_read_timeout(timeout),
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
        }
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Ipc(stream) => stream.set_write_timeout(timeout),
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Reads and writes do not wait any more.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Ipc(stream) => stream.set_nonblocking(true),
            Self::Tcp(stream) => stream.set_nonblocking(true),
        }
    }

    /// Ends one direction of the connection, or both.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Ipc(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        }
    }

    /// The address of the peer, for lists that name networks. A local socket has none.
    pub(crate) fn peer_address(&self) -> PeerAddress {
        let address = match self {
            Self::Ipc(_) => None,
            Self::Tcp(stream) => stream.peer_addr().ok(),
        };
        address.map_or(PeerAddress::Inproc, PeerAddress::from)
    }

    /// Another handle to the same connection.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Ipc(stream) => Self::Ipc(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
        })
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Ipc(stream) => (&mut &*stream).read(buffer),
            Stream::Tcp(stream) => (&mut &*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Ipc(stream) => (&mut &*stream).write(bytes),
            Stream::Tcp(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listener {
    /// Listens, and returns the bound endpoint with its real port.
    pub(crate) fn bind(endpoint: &Endpoint) -> io::Result<(Self, Endpoint)> {
        match endpoint {
            Endpoint::Inproc(_) => Err(unsupported("inproc connects only within one process")),
            Endpoint::Ipc(name) => {
                let bound = broker::ipc::listen(name, &SocketOptions::default())?;
                bound.listener.set_nonblocking(false)?;
                let listener = Self::Ipc {
                    _file: bound.file,
                    listener: bound.listener,
                };
                Ok((listener, Endpoint::Ipc(bound.name)))
            }
            Endpoint::Tcp { host, port, .. } => {
                let addresses = match host {
                    Host::Any => vec![(Ipv4Addr::UNSPECIFIED, *port).into()],
                    host => resolve(host, *port)?,
                };
                let listener = TcpListener::bind(&addresses[..])?;
                let bound = Endpoint::Tcp {
                    host: host.clone(),
                    port: listener.local_addr()?.port(),
                    source: None,
                };
                Ok((Self::Tcp(listener), bound))
            }
        }
    }

    /// [`Self::accept`] does not wait any more.
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Ipc { listener, .. } => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }

    /// Waits for the next connection.
    pub(crate) fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Ipc { listener, .. } => Ok(Stream::Ipc(listener.accept()?.0)),
            Self::Tcp(listener) => {
                let stream = listener.accept()?.0;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Ipc(stream) => stream.as_raw_fd(),
            Self::Tcp(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Ipc { listener, .. } => listener.as_raw_fd(),
            Self::Tcp(listener) => listener.as_raw_fd(),
        }
    }
}

fn connect_any(addresses: &[SocketAddr], timeout: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn resolve(host: &Host, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Some([v6, v4]) = host.loopback() {
        return Ok(vec![(v4, port).into(), (v6, port).into()]);
    }
    Ok(match host {
        Host::Any => return Err(unsupported("* is only for binding")),
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Name(name) => (name.as_str(), port).to_socket_addrs()?.collect(),
        Host::Zoned(ip, zone) => (format!("{ip}%{zone}"), port).to_socket_addrs()?.collect(),
    })
}

fn local_address(name: &IpcName) -> io::Result<LocalAddress> {
    match name {
        IpcName::Abstract(name) => LocalAddress::from_abstract_name(name),
        IpcName::Any => Err(unsupported("ipc://* is only for listening")),
        IpcName::Path(path) => LocalAddress::from_pathname(path),
    }
}

fn unsupported(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, what)
}
