//! Everything that the event loop waits for: listeners, connections and pipes.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};
use slab::Slab;
use watch::RunId;

use super::{json, socket};

/// One of them.
#[derive(Debug)]
pub(super) enum Source {
    Json(json::Connection),
    JsonListener(TcpListener),
    /// What a process writes.
    Pipe(RunId, Receiver),
    Zmtp(Box<socket::Connection>),
    ZmtpListener(socket::Listener),
}

/// All of them, by their tokens.
#[derive(Debug)]
pub(super) struct Sources {
    list: Slab<Source>,
    registry: Registry,
    /// Connections that were closed because there were too many.
    surplus: u64,
}

/// The time in which deadlines of connections are looked at again.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Pipes that processes have left open; more are closed, the oldest first.
const PIPES_MAX: usize = 256;

impl Source {
    fn fd(&self) -> RawFd {
        match self {
            Self::Json(connection) => connection.stream.as_raw_fd(),
            Self::JsonListener(listener) => listener.as_raw_fd(),
            Self::Pipe(_, pipe) => pipe.as_raw_fd(),
            Self::Zmtp(connection) => connection.fd(),
            Self::ZmtpListener(listener) => listener.fd(),
        }
    }

    fn interest(&self) -> Interest {
        match self {
            Self::Zmtp(_) => Interest::READABLE | Interest::WRITABLE,
            _ => Interest::READABLE,
        }
    }
}

impl Sources {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            list: Slab::new(),
            registry,
            surplus: 0,
        }
    }

    /// Begins to wait for one more.
    pub(super) fn add(&mut self, source: Source) -> io::Result<usize> {
        let (fd, interest) = (source.fd(), source.interest());
        let key = self.list.insert(source);
        let registered = self
            .registry
            .register(&mut SourceFd(&fd), Token(key), interest);
        if registered.is_err() {
            self.list.remove(key);
        }
        registered.map(|()| key)
    }

    pub(super) fn remove(&mut self, key: usize) {
        if let Some(source) = self.list.try_remove(key) {
            // It fails only for a descriptor that is closed.
            let _ = self.registry.deregister(&mut SourceFd(&source.fd()));
        }
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Source> {
        self.list.get_mut(key)
    }

    /// The keys of those that are meant.
    pub(super) fn keys(&self, is_meant: impl Fn(&Source) -> bool) -> Vec<usize> {
        let list = self.list.iter();
        list.filter(|(_, it)| is_meant(it))
            .map(|(key, _)| key)
            .collect()
    }

    /// Closes all that listens or is connected, for another configuration.
    pub(super) fn close_listeners(&mut self, role: Option<socket::Role>) {
        let keys = self.keys(|source| match (source, role) {
            (Source::ZmtpListener(listener), Some(role)) => listener.role == role,
            (Source::JsonListener(_), None) => true,
            _ => false,
        });
        for key in keys {
            self.remove(key);
        }
    }

    /// Takes the connections that wait at a listener; returns their keys.
    pub(super) fn accept(&mut self, key: usize, now: Instant) -> Vec<usize> {
        let mut taken = Vec::new();
        loop {
            let accepted = match self.list.get(key) {
                Some(Source::JsonListener(listener)) => listener
                    .accept()
                    .map(|(stream, _)| Source::Json(json::Connection::new(stream, now))),
                Some(Source::ZmtpListener(listener)) => listener
                    .accept(now)
                    .map(|connection| Source::Zmtp(Box::new(connection))),
                _ => return taken,
            };
            match accepted {
                Ok(source) => {
                    self.make_room(&source);
                    taken.extend(self.add(source).ok());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return taken,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    return taken;
                }
            }
        }
    }

    /// Closes the connection that has been silent for longest, if there are too many.
    fn make_room(&mut self, newcomer: &Source) {
        let oldest = match newcomer {
            Source::Json(_) => {
                let keys = self.keys(|source| matches!(source, Source::Json(_)));
                let is_full = keys.len() >= json::CONNECTIONS_MAX;
                let heard_at = |key: &usize| match &self.list[*key] {
                    Source::Json(connection) => Some(connection.heard_at),
                    _ => None,
                };
                keys.into_iter().min_by_key(heard_at).filter(|_| is_full)
            }
            Source::Zmtp(newcomer) => {
                let role = newcomer.role;
                let is_alike =
                    |source: &Source| matches!(source, Source::Zmtp(it) if it.role == role);
                let keys = self.keys(is_alike);
                let is_full = keys.len() >= socket::CONNECTIONS_MAX;
                keys.into_iter().min().filter(|_| is_full)
            }
            Source::Pipe(..) => {
                let keys = self.keys(|source| matches!(source, Source::Pipe(..)));
                let is_full = keys.len() >= PIPES_MAX;
                keys.into_iter().min().filter(|_| is_full)
            }
            _ => None,
        };
        if let Some(key) = oldest {
            if self.surplus == 0 {
                log::warn!("too many connections: the one that is silent for longest is closed");
            }
            self.surplus += 1;
            self.remove(key);
        }
    }

    /// Adds the pipe of a process.
    pub(super) fn add_pipe(&mut self, id: RunId, pipe: Receiver) -> io::Result<()> {
        let source = Source::Pipe(id, pipe);
        self.make_room(&source);
        self.add(source).map(|_| ())
    }
}
