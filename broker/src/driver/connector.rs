//! Endpoints to connect to: resolves names and tries addresses without blocking the loop.

use crate::config::endpoint::{Host, Source};
use crate::config::{Endpoint, SocketOptions};
use crate::core::Core;
use crate::driver::stream::Socket;
use crate::driver::tune::{tune_buffers, tune_tcp};
use crate::driver::{address, ipc, link_token};
use crate::ids::LinkId;
use crate::peer::PeerAddress;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Waker};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Type};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

/// The stack of a thread that resolves one name, large enough for the C library's resolver.
const RESOLVER_STACK_SIZE: usize = 512 << 10;

/// The result of an attempt: a socket that is not registered any more, or an error.
pub(super) type Outcome = (LinkId, io::Result<(Socket, PeerAddress)>);

type Resolved = (LinkId, io::Result<Vec<SocketAddr>>);

/// The attempts in progress.
#[derive(Debug)]
pub(super) struct Connector {
    attempts: BTreeMap<LinkId, Attempt>,
    resolved: mpsc::Receiver<Resolved>,
    resolver: mpsc::Sender<Resolved>,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    /// The time when the next address is tried, if this one has not answered.
    deadline: Option<Instant>,
    /// Addresses of the same name that were not tried yet.
    others: VecDeque<SocketAddr>,
    stream: TcpStream,
}

/// The parameters of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial<'a> {
    endpoint: &'a Endpoint,
    link: LinkId,
    now: Instant,
    options: &'a SocketOptions,
    registry: &'a Registry,
}

impl<'a> Dial<'a> {
    /// `None` if the link is not to be connected any more.
    pub(super) fn new(
        now: Instant,
        link: LinkId,
        core: &'a Core,
        registry: &'a Registry,
    ) -> Option<Self> {
        let (endpoint, options) = core.link(link)?;
        Some(Self {
            endpoint,
            link,
            now,
            options,
            registry,
        })
    }
}

impl Connector {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        let (resolver, resolved) = mpsc::channel();
        Self {
            attempts: BTreeMap::new(),
            resolved,
            resolver,
            waker,
        }
    }

    /// Begins an attempt. A name is looked up each time, in a thread of its own, because the
    /// system's resolver blocks; the waker reports that [`Self::poll_resolved`] has the answer.
    pub(super) fn connect(&mut self, dial: Dial<'_>) -> Option<Outcome> {
        let begun = match dial.endpoint {
            Endpoint::Inproc(_) => Err(io::ErrorKind::Unsupported.into()),
            Endpoint::Ipc(name) => {
                let address = ipc::address(name);
                let connected = address.and_then(|address| connect_ipc(&address, dial.options));
                return Some((dial.link, connected));
            }
            Endpoint::Tcp { host, port, .. } => address::to_connect(host, *port),
        };
        match begun {
            Err(error) => Some((dial.link, Err(error))),
            Ok(address::Target::Address(address)) => self.try_next(dial, [address].into()),
            Ok(address::Target::Name(name)) => self.resolve(dial, name),
        }
    }

    fn resolve(&self, dial: Dial<'_>, name: Host) -> Option<Outcome> {
        let (link, ipv6) = (dial.link, dial.options.ipv6);
        let port = match dial.endpoint {
            Endpoint::Tcp { port, .. } => *port,
            _ => 0,
        };
        let (resolver, waker) = (self.resolver.clone(), Arc::clone(&self.waker));
        let resolve = move || {
            // Both fail only when the broker has ended.
            let _ = resolver.send((link, address::resolve(&name, port, ipv6)));
            let _ = waker.wake();
        };
        let thread = thread::Builder::new().stack_size(RESOLVER_STACK_SIZE);
        thread.spawn(resolve).err().map(|error| (link, Err(error)))
    }

    /// The next name that was resolved.
    pub(super) fn poll_resolved(&self) -> Option<Resolved> {
        self.resolved.try_recv().ok()
    }

    /// Tries the next of these addresses; returns the failure of the last.
    pub(super) fn try_next(
        &mut self,
        dial: Dial<'_>,
        mut addresses: VecDeque<SocketAddr>,
    ) -> Option<Outcome> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        while let Some(address) = addresses.pop_front() {
            let begun = connect_tcp(&dial, address).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                dial.registry
                    .register(&mut stream, link_token(dial.link), interest)
                    .map(|()| stream)
            });
            match begun {
                Ok(stream) => {
                    let patience = dial.options.connect_timeout;
                    let attempt = Attempt {
                        address,
                        deadline: (!patience.is_zero()).then(|| dial.now + patience),
                        others: addresses,
                        stream,
                    };
                    self.attempts.insert(dial.link, attempt);
                    return None;
                }
                Err(error) => last = error,
            }
        }
        Some((dial.link, Err(last)))
    }

    /// The socket of an attempt is ready: it is connected, or has failed and the next address is
    /// tried.
    pub(super) fn handle_event(&mut self, dial: Dial<'_>) -> Option<Outcome> {
        let mut attempt = self.attempts.remove(&dial.link)?;
        match connected(&attempt) {
            Ok(true) => {
                // It was registered as a link; from now on it is a connection.
                let done = dial.registry.deregister(&mut attempt.stream);
                let peer = attempt.address.into();
                let outcome = done.map(|()| (Socket::Tcp(attempt.stream), peer));
                Some((dial.link, outcome))
            }
            Ok(false) => {
                self.attempts.insert(dial.link, attempt);
                None
            }
            Err(error) => self.give_up(dial, attempt, error),
        }
    }

    /// The earliest deadline of an attempt.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.attempts.values().map(|attempt| attempt.deadline);
        deadlines.flatten().min()
    }

    /// An attempt whose deadline has passed.
    pub(super) fn poll_expired(&self, now: Instant) -> Option<LinkId> {
        let is_due = |attempt: &Attempt| attempt.deadline.is_some_and(|deadline| deadline <= now);
        let mut attempts = self.attempts.iter();
        attempts
            .find(|(_, attempt)| is_due(attempt))
            .map(|(link, _)| *link)
    }

    /// The deadline of the attempt has passed: tries the next address.
    pub(super) fn handle_expired(&mut self, dial: Dial<'_>) -> Option<Outcome> {
        let attempt = self.attempts.remove(&dial.link)?;
        let error = io::Error::new(io::ErrorKind::TimedOut, "no answer within connect_timeout");
        self.give_up(dial, attempt, error)
    }

    fn give_up(&mut self, dial: Dial<'_>, attempt: Attempt, error: io::Error) -> Option<Outcome> {
        if attempt.others.is_empty() {
            return Some((dial.link, Err(error)));
        }
        self.try_next(dial, attempt.others)
    }

    /// Drops an attempt.
    pub(super) fn stop(&mut self, link: LinkId) {
        self.attempts.remove(&link);
    }
}

/// Begins to connect to an address.
fn connect_tcp(dial: &Dial<'_>, address: SocketAddr) -> io::Result<TcpStream> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    tune_tcp(&socket, domain, dial.options)?;
    if let Endpoint::Tcp {
        source: Some(source),
        ..
    } = dial.endpoint
    {
        let Source { host, port } = source.as_ref();
        let source = address::to_connect_from(host, *port, address.is_ipv6())?;
        // Several connections may use one local port, if they have different peers.
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Connects to a local socket, which succeeds or fails at once.
fn connect_ipc(
    address: &socket2::SockAddr,
    options: &SocketOptions,
) -> io::Result<(Socket, PeerAddress)> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    tune_buffers(&socket, options)?;
    socket.connect(address)?;
    let peer = ipc::peer(&socket);
    Ok((Socket::Unix(UnixStream::from_std(socket.into())), peer))
}

/// Whether a connection was made; false if it is in progress.
fn connected(attempt: &Attempt) -> io::Result<bool> {
    if let Some(error) = attempt.stream.take_error()? {
        return Err(error);
    }
    match attempt.stream.peer_addr() {
        // The system may choose the target port as local port, and so connect the socket to itself.
        Ok(peer) if attempt.stream.local_addr()? == peer => {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
