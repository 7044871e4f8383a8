//! The bytes of a connection, which pass a coder if its mechanism encrypts them.

use std::io::{self, ErrorKind, Read as _, Write as _};

use zmtp::{Coder, Limits};

use super::Stream;
use super::queue::Queue;

/// A stream of plain ZMTP, over a stream of the bytes on the wire.
#[derive(Debug)]
pub(crate) struct Wire {
    coding: Option<Box<Coding>>,
    stream: Stream,
}

/// Both directions of an encrypted connection.
#[derive(Debug)]
struct Coding {
    coder: Coder,
    limits: Limits,
    /// Received bytes that are not opened yet.
    raw: Vec<u8>,
    sealed: Queue,
}

/// The result of [`Wire::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Plain bytes, which are at the front of the buffer.
    pub(crate) plain: usize,
    /// Bytes that the stream delivered.
    pub(crate) raw: usize,
}

/// Sealed bytes of one write, and at most a frame more.
const SEALED_SIZE: usize = 64 << 10;

/// A buffer without bytes keeps at most this much memory.
const KEPT_SIZE_MAX: usize = 64 << 10;

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            coding: None,
            stream,
        }
    }

    /// The handshake is over: what is sent and received from now on passes this coder, but not what
    /// is still `unsent` of the handshake. Opens the bytes that were `received` behind it.
    pub(super) fn encrypt(
        &mut self,
        coder: Coder,
        limits: Limits,
        unsent: Queue,
        received: Vec<u8>,
    ) -> io::Result<Vec<u8>> {
        let mut coding = Box::new(Coding {
            coder,
            limits,
            raw: received,
            sealed: unsent,
        });
        let size = coding.open()?;
        let plain = coding.raw[..size.plain].to_vec();
        coding.raw.drain(..size.consumed);
        self.coding = Some(coding);
        Ok(plain)
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether sealed bytes wait for the stream: [`Self::write`] sends them.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent() > 0
    }

    /// The number of sealed bytes that wait for the stream.
    pub(super) fn unsent(&self) -> usize {
        let coding = self.coding.as_deref();
        coding.map_or(0, |coding| coding.sealed.len())
    }

    /// The number of received bytes that are not opened yet.
    pub(super) fn unopened(&self) -> usize {
        let coding = self.coding.as_deref();
        coding.map_or(0, |coding| coding.raw.len())
    }

    /// Reads as many bytes as the buffer has, once. The buffer grows if more are opened.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Heard> {
        let raw = (&self.stream).read(buffer)?;
        let Some(coding) = &mut self.coding else {
            return Ok(Heard { plain: raw, raw });
        };
        coding.raw.extend_from_slice(&buffer[..raw]);
        let opened = coding.open()?;
        if buffer.len() < opened.plain {
            buffer.resize(opened.plain, 0);
        }
        buffer[..opened.plain].copy_from_slice(&coding.raw[..opened.plain]);
        coding.raw.drain(..opened.consumed);
        if coding.raw.is_empty() {
            coding.raw.shrink_to(KEPT_SIZE_MAX);
        }
        Ok(Heard {
            plain: opened.plain,
            raw,
        })
    }

    /// Sends bytes; an encrypted connection takes whole frames, which begin the bytes. Returns how
    /// many were taken, and whether the stream has no room for more.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let Some(coding) = &mut self.coding else {
            let size = (&self.stream).write(bytes)?;
            return Ok((size, size < bytes.len()));
        };
        let mut taken = 0;
        if coding.sealed.is_empty() {
            let sealer = &mut coding.coder.sealer;
            let sealed = sealer.append_sealed(bytes, SEALED_SIZE, coding.sealed.tail());
            taken = sealed.map_err(io::Error::other)?;
        }
        match (&self.stream).write(coding.sealed.pending()) {
            Ok(size) => coding.sealed.advance(size),
            Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => {}
            Err(error) => return Err(error),
        }
        Ok((taken, !coding.sealed.is_empty()))
    }

    /// Sends whole frames on a blocking stream.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.has_unsent() {
            match self.write(bytes) {
                Ok((size, _)) => bytes = &bytes[size..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Coding {
    /// Opens the whole frames that were received, in place.
    fn open(&mut self) -> io::Result<zmtp::Opened> {
        let opened = self.coder.opener.open(&mut self.raw, &self.limits);
        opened.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}
