//! Endpoints that we connect to: names are resolved and addresses tried, without blocking the loop.

use crate::config::Endpoint;
use crate::config::endpoint::Host;
use crate::core::LinkId;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, Waker};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, mpsc};
use std::thread;

/// Stack of a thread that resolves one name; the C library's resolver wants some.
const RESOLVER_STACK_SIZE: usize = 512 << 10;

/// What came of an attempt.
pub(super) type Outcome = (LinkId, io::Result<(TcpStream, SocketAddr)>);

type Resolved = (LinkId, io::Result<Vec<SocketAddr>>);

/// The attempts under way.
#[derive(Debug)]
pub(super) struct Connector {
    attempts: HashMap<LinkId, Attempt>,
    resolved: mpsc::Receiver<Resolved>,
    resolver: mpsc::Sender<Resolved>,
    waker: Arc<Waker>,
}

#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    /// Addresses of the same name not tried yet.
    others: VecDeque<SocketAddr>,
    stream: TcpStream,
}

impl Connector {
    pub(super) fn new(waker: Arc<Waker>) -> Self {
        let (resolver, resolved) = mpsc::channel();
        Self {
            attempts: HashMap::new(),
            resolved,
            resolver,
            waker,
        }
    }

    /// Begins an attempt. A name is resolved anew each time, in a thread of its own, because the
    /// system's resolver blocks; the waker tells when [`Self::poll_resolved`] has the answer.
    pub(super) fn connect(
        &mut self,
        link: LinkId,
        endpoint: &Endpoint,
        token: Token,
        registry: &Registry,
    ) -> Option<Outcome> {
        let Endpoint::Tcp { host, port } = endpoint;
        let port = *port;
        match host {
            Host::Any => Some((link, Err(io::ErrorKind::AddrNotAvailable.into()))),
            Host::Ip(ip) => {
                self.try_next(link, VecDeque::from([(*ip, port).into()]), token, registry)
            }
            Host::Name(name) => {
                let (name, resolver, waker) =
                    (name.clone(), self.resolver.clone(), Arc::clone(&self.waker));
                let resolve = move || {
                    let found = (name.as_str(), port)
                        .to_socket_addrs()
                        .map(Iterator::collect);
                    // Both fail only when the broker is gone.
                    let _ = resolver.send((link, found));
                    let _ = waker.wake();
                };
                let thread = thread::Builder::new().stack_size(RESOLVER_STACK_SIZE);
                thread.spawn(resolve).err().map(|error| (link, Err(error)))
            }
        }
    }

    /// Takes up a name that was resolved.
    pub(super) fn poll_resolved(&self) -> Option<Resolved> {
        self.resolved.try_recv().ok()
    }

    /// Tries the next of these addresses; answers if there is none left.
    pub(super) fn try_next(
        &mut self,
        link: LinkId,
        mut addresses: VecDeque<SocketAddr>,
        token: Token,
        registry: &Registry,
    ) -> Option<Outcome> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        while let Some(address) = addresses.pop_front() {
            let begun = TcpStream::connect(address).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry
                    .register(&mut stream, token, interest)
                    .map(|()| stream)
            });
            match begun {
                Ok(stream) => {
                    let attempt = Attempt {
                        address,
                        others: addresses,
                        stream,
                    };
                    self.attempts.insert(link, attempt);
                    return None;
                }
                Err(error) => last = error,
            }
        }
        Some((link, Err(last)))
    }

    /// The socket of an attempt is ready: it is connected, or has failed and the next address is tried.
    pub(super) fn handle_event(
        &mut self,
        link: LinkId,
        token: Token,
        registry: &Registry,
    ) -> Option<Outcome> {
        let attempt = self.attempts.remove(&link)?;
        match connected(&attempt) {
            Ok(true) => Some((link, Ok((attempt.stream, attempt.address)))),
            Ok(false) => {
                self.attempts.insert(link, attempt);
                None
            }
            Err(error) if attempt.others.is_empty() => Some((link, Err(error))),
            Err(_) => self.try_next(link, attempt.others, token, registry),
        }
    }

    /// Gives up all attempts.
    pub(super) fn clear(&mut self) {
        self.attempts.clear();
    }
}

/// Whether a connection was made; false if it is still being made.
fn connected(attempt: &Attempt) -> io::Result<bool> {
    if let Some(error) = attempt.stream.take_error()? {
        return Err(error);
    }
    match attempt.stream.peer_addr() {
        // A port of ours, chosen by the system to connect from, may be the very one connected to.
        Ok(peer) if attempt.stream.local_addr()? == peer => {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
