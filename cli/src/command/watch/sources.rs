//! Everything that the event loop waits for: listeners, connections and pipes.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::unix::pipe::Receiver;
use mio::{Interest, Registry, Token};
use slab::Slab;
use watch::RunId;

use super::counters::{Counters, Trouble};
use super::{json, socket};

/// One of them.
#[derive(Debug)]
pub(super) enum Source {
    Json(json::Connection),
    JsonListener(json::Listener),
    /// What a process writes.
    Pipe(RunId, Receiver),
    Zmtp(Box<socket::Connection>),
    ZmtpListener(socket::Listener),
}

/// Whether a source has more to do at once, or waits for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Progress {
    More,
    Waits,
}

/// All of them, by their tokens.
///
/// A source does a little in each turn, so that none keeps the others waiting. Events come once for
/// each change of a descriptor, so a source that has more to do is kept in a list until then.
#[derive(Debug)]
pub(super) struct Sources {
    list: Slab<Entry>,
    /// The keys of those that have something to do.
    ready: VecDeque<usize>,
    registry: Registry,
}

#[derive(Debug)]
struct Entry {
    is_ready: bool,
    source: Source,
}

/// The time in which deadlines of connections are looked at again, and listeners that could not
/// accept.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Pipes that processes have left open; more are closed, the oldest first.
const PIPES_MAX: usize = 256;

/// Why a connection is closed at once.
const FOREIGN: &str = "its address is not in tcp_accept_filter";

/// Connections that a listener accepts in one turn.
const ACCEPTS_PER_TURN: usize = 16;

impl Source {
    fn fd(&self) -> RawFd {
        match self {
            Self::Json(connection) => connection.stream.as_raw_fd(),
            Self::JsonListener(listener) => listener.inner.as_raw_fd(),
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

    fn is_listener(&self) -> bool {
        matches!(self, Self::JsonListener(_) | Self::ZmtpListener(_))
    }

    /// The last sign of life of a connection.
    fn heard_at(&self) -> Option<Instant> {
        match self {
            Self::Json(connection) => Some(connection.heard_at),
            Self::Zmtp(connection) => Some(connection.heard_at),
            _ => None,
        }
    }

    /// Whether it is a connection whose handshake is over.
    fn is_in(&self) -> bool {
        matches!(self, Self::Zmtp(connection) if connection.is_ready)
    }

    fn run_id(&self) -> Option<RunId> {
        match self {
            Self::Pipe(id, _) => Some(*id),
            _ => None,
        }
    }

    /// Whether it counts against the same limit, and that limit.
    fn limit(&self, other: &Self) -> Option<usize> {
        match (self, other) {
            (Self::Json(_), Self::Json(_)) => Some(json::CONNECTIONS_MAX),
            (Self::Pipe(..), Self::Pipe(..)) => Some(PIPES_MAX),
            (Self::Zmtp(it), Self::Zmtp(other)) if it.role == other.role => {
                Some(socket::CONNECTIONS_MAX)
            }
            _ => None,
        }
    }
}

impl Sources {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            list: Slab::new(),
            ready: VecDeque::new(),
            registry,
        }
    }

    /// Begins to wait for one more, which has its first turn soon.
    pub(super) fn add(&mut self, source: Source) -> io::Result<usize> {
        let (fd, interest) = (source.fd(), source.interest());
        let key = self.list.insert(Entry {
            is_ready: false,
            source,
        });
        let mut fd = SourceFd(&fd);
        if let Err(error) = self.registry.register(&mut fd, Token(key), interest) {
            self.list.remove(key);
            return Err(error);
        }
        self.wake(key);
        Ok(key)
    }

    pub(super) fn remove(&mut self, key: usize) {
        if let Some(entry) = self.list.try_remove(key) {
            // It fails only for a descriptor that is closed.
            let _ = self.registry.deregister(&mut SourceFd(&entry.source.fd()));
        }
    }

    pub(super) fn remove_all(&mut self, is_meant: impl Fn(usize, &Source) -> bool) {
        let list = self.list.iter();
        let meant = list.filter(|(key, it)| is_meant(*key, &it.source));
        let meant: Vec<usize> = meant.map(|(key, _)| key).collect();
        meant.into_iter().for_each(|key| self.remove(key));
    }

    pub(super) fn get(&self, key: usize) -> Option<&Source> {
        self.list.get(key).map(|entry| &entry.source)
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Source> {
        self.list.get_mut(key).map(|entry| &mut entry.source)
    }

    /// The keys of those that are meant.
    pub(super) fn keys(&self, is_meant: impl Fn(&Source) -> bool) -> Vec<usize> {
        let list = self.list.iter();
        list.filter(|(_, it)| is_meant(&it.source))
            .map(|(key, _)| key)
            .collect()
    }

    /// Gives a source a turn, soon.
    pub(super) fn wake(&mut self, key: usize) {
        if let Some(entry) = self.list.get_mut(key)
            && !entry.is_ready
        {
            entry.is_ready = true;
            self.ready.push_back(key);
        }
    }

    /// A listener that could not accept, because the process had too many files, tries it again.
    pub(super) fn wake_listeners(&mut self) {
        for key in self.keys(Source::is_listener) {
            self.wake(key);
        }
    }

    /// The number of those that have something to do.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next one that has something to do.
    pub(super) fn next_ready(&mut self) -> Option<usize> {
        let key = self.ready.pop_front()?;
        if let Some(entry) = self.list.get_mut(key) {
            entry.is_ready = false;
        }
        Some(key)
    }

    /// Takes connections that wait at a listener.
    pub(super) fn accept(&mut self, key: usize, now: Instant, counters: &mut Counters) -> Progress {
        for _ in 0..ACCEPTS_PER_TURN {
            let accepted = match self.get(key) {
                Some(Source::JsonListener(listener)) => listener.accept(now),
                Some(Source::ZmtpListener(listener)) => listener.accept(now),
                _ => return Progress::Waits,
            };
            match accepted {
                Ok(Some(source)) => {
                    self.make_room(&source, counters);
                    if let Err(error) = self.add(source) {
                        counters.note(Trouble::Refused, &error);
                    }
                }
                Ok(None) => counters.note(Trouble::Refused, &FOREIGN),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Waits,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    counters.note(Trouble::Refused, &format_args!("cannot accept: {error}"));
                    return Progress::Waits;
                }
            }
        }
        Progress::More
    }

    /// Closes the connection that has been silent for longest, or the oldest pipe, if there are too
    /// many. Peers that have not come in yet make room for those that have.
    fn make_room(&mut self, newcomer: &Source, counters: &mut Counters) {
        let keys = self.keys(|source| newcomer.limit(source).is_some());
        let Some(max) = newcomer.limit(newcomer).filter(|max| keys.len() >= *max) else {
            return;
        };
        let rank = |key: &usize| {
            let source = self.get(*key);
            source.map(|source| (source.is_in(), source.heard_at(), source.run_id()))
        };
        if let Some(key) = keys.into_iter().min_by_key(rank) {
            counters.note(Trouble::Surplus, &format_args!("at most {max}"));
            self.remove(key);
        }
    }

    /// Adds the pipe of a process.
    pub(super) fn add_pipe(
        &mut self,
        id: RunId,
        pipe: Receiver,
        counters: &mut Counters,
    ) -> io::Result<()> {
        let source = Source::Pipe(id, pipe);
        self.make_room(&source, counters);
        self.add(source).map(|_| ())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any time to count from")]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_listener_takes_a_few_connections_in_each_turn() {
        let poll = mio::Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry().try_clone().unwrap());
        let (mut listeners, _) = json::listen("127.0.0.1:0", &[]).unwrap();
        let inner = listeners.remove(0);
        let address = inner.local_addr().unwrap();
        let text = String::new();
        let networks = Vec::new();
        let listener = json::Listener {
            inner,
            networks,
            text,
        };
        let listener = Source::JsonListener(listener);
        let key = sources.add(listener).unwrap();
        let clients = [(); ACCEPTS_PER_TURN + 1].map(|()| TcpStream::connect(address).unwrap());
        let (now, mut counters) = (Instant::now(), Counters::default());
        let mut turn = || {
            let progress = sources.accept(key, now, &mut counters);
            let taken = sources.keys(|it| matches!(it, Source::Json(_))).len();
            (progress, taken)
        };
        assert_eq!(turn(), (Progress::More, ACCEPTS_PER_TURN));
        assert_eq!(turn(), (Progress::Waits, clients.len()));
    }

    #[test]
    fn a_source_waits_once_for_its_turn() {
        let poll = mio::Poll::new().unwrap();
        let mut sources = Sources::new(poll.registry().try_clone().unwrap());
        let (_sender, receiver) = mio::unix::pipe::new().unwrap();
        let mut counters = Counters::default();
        let id = RunId::default();
        sources.add_pipe(id, receiver, &mut counters).unwrap();
        assert_eq!(sources.ready(), 1, "a new one has a turn");
        let key = sources.next_ready().unwrap();
        assert_eq!(sources.next_ready(), None);
        sources.wake(key);
        sources.wake(key);
        assert_eq!((sources.next_ready(), sources.ready()), (Some(key), 0));
        sources.wake(key);
        sources.remove(key);
        assert_eq!(sources.next_ready(), Some(key));
        assert!(sources.get(key).is_none(), "it left before its turn");
    }
}
