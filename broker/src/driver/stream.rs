//! One connection of the kernel.

use crate::ids::ConnId;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Instant;

/// Most bytes per write: a call takes as long as its bytes take to be copied.
const WRITE_SIZE_MAX: usize = 256 << 10;

/// A connected socket of any transport.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket and its readiness, which events report only when it changes.
#[derive(Debug)]
pub(super) struct Stream {
    /// Input may be available.
    pub(super) can_read: bool,
    pub(super) id: ConnId,
    /// The end of the input was announced: a short read does not mean that no more is available.
    pub(super) is_read_closed: bool,
    /// `None` once the peer has closed, all its input was read, and the descriptor was needed
    /// elsewhere.
    socket: Option<Socket>,
    pub(super) state: State,
}

/// The stage of a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In use.
    Open,
    /// The queue is being sent, until this time.
    Flushing(Instant),
    /// Our side is closed, and the peer's close is awaited, until this time. Closing with unread
    /// input would make the kernel send a reset, on which the peer's kernel discards received data.
    Lingering(Instant),
}

impl Socket {
    /// Reads available bytes, as far as they fit.
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    /// Writes as much as the kernel accepts. Nearly always there is one piece, for which a cheaper
    /// call exists.
    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (Self::Tcp(stream), [slice]) => stream.write(slice),
            (Self::Tcp(stream), slices) => stream.write_vectored(slices),
            (Self::Unix(stream), [slice]) => stream.write(slice),
            (Self::Unix(stream), slices) => stream.write_vectored(slices),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        self.source().register(registry, token, on)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, on: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, on)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}

impl Stream {
    pub(super) fn new(id: ConnId, socket: Socket) -> Self {
        // One read tells whether there was an event before the registration.
        Self {
            can_read: true,
            id,
            is_read_closed: false,
            socket: Some(socket),
            state: State::Open,
        }
    }

    /// Reads once. `Ok(None)` means that nothing is available. A short read is remembered as the
    /// end of the available bytes, which saves another call.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(socket) = &mut self.socket else {
            return Ok(Some(0));
        };
        loop {
            return match socket.read(into) {
                Ok(size) => {
                    // The end of the input can be read repeatedly.
                    self.can_read = size == into.len() || size == 0 || self.is_read_closed;
                    Ok(Some(size))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.can_read = false;
                    Ok(None)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Writes as much as the kernel accepts, up to the limit for one call.
    #[inline]
    pub(super) fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(socket) = &mut self.socket else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut left = WRITE_SIZE_MAX;
        let fits = |slice: &&IoSlice<'_>| {
            let size = slice.len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        };
        match (slices.iter().take_while(fits).count(), slices) {
            (0, [first, ..]) => socket.write_vectored(&[IoSlice::new(&first[..WRITE_SIZE_MAX])]),
            (count, slices) => socket.write_vectored(&slices[..count]),
        }
    }

    /// Its descriptor, if it is a TCP socket.
    pub(super) fn tcp(&self) -> Option<BorrowedFd<'_>> {
        match &self.socket {
            Some(Socket::Tcp(stream)) => Some(stream.as_fd()),
            _ => None,
        }
    }

    /// Closes the descriptor: from now on reads return only the end of the input.
    pub(super) fn release(&mut self) {
        // Closing it removes it from the poll.
        self.socket = None;
    }

    /// Closes our side; the peer reads the end of the stream after all data.
    pub(super) fn finish(&mut self, deadline: Instant) {
        self.state = State::Lingering(deadline);
        self.can_read = true;
        // An error means that the peer is gone, which the next read reports too.
        let _ = self.socket.as_ref().map(|it| it.shutdown(Shutdown::Write));
    }

    /// Discards available bytes, as many as one read takes; true when the peer has closed its side
    /// too.
    pub(super) fn is_finished(&mut self, scratch: &mut [u8]) -> bool {
        self.can_read && matches!(self.read(scratch), Ok(Some(0)) | Err(_))
    }
}
