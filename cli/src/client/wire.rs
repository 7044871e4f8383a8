//! A connection under load, whose bytes pass a coder if its mechanism encrypts them.

use std::io::{self, ErrorKind, Read, Write};

use zmtp::{Coder, Limits};

/// A stream of plain ZMTP, over a stream of the bytes on the wire.
#[derive(Debug)]
pub(super) struct Coded<S> {
    coding: Option<Box<Coding>>,
    stream: S,
}

/// Both directions of an encrypted connection.
#[derive(Debug)]
struct Coding {
    coder: Coder,
    limits: Limits,
    /// Received bytes that are not opened yet.
    raw: Vec<u8>,
    sealed: Vec<u8>,
    /// The number of bytes of `sealed` that were sent.
    written: usize,
}

/// The result of [`Coded::read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Plain bytes, which are at the front of the buffer.
    pub(super) plain: usize,
    /// Bytes that the stream delivered.
    pub(super) raw: usize,
}

impl<S: Read + Write> Coded<S> {
    pub(super) fn new(stream: S, coder: Option<Box<Coder>>) -> Self {
        let coding = coder.map(|coder| {
            Box::new(Coding {
                coder: *coder,
                limits: Limits::default(),
                raw: Vec::new(),
                sealed: Vec::new(),
                written: 0,
            })
        });
        Self { coding, stream }
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether sealed bytes wait for the stream: [`Self::write`] sends them.
    pub(super) fn has_unsent(&self) -> bool {
        let coding = self.coding.as_deref();
        coding.is_some_and(|coding| coding.written < coding.sealed.len())
    }

    /// Reads as many bytes as the buffer has, once. The buffer grows if more are opened.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Heard> {
        let raw = self.stream.read(buffer)?;
        let Some(coding) = &mut self.coding else {
            return Ok(Heard { plain: raw, raw });
        };
        coding.raw.extend_from_slice(&buffer[..raw]);
        let opened = coding.coder.opener.open(&mut coding.raw, &coding.limits);
        let opened = opened.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if buffer.len() < opened.plain {
            buffer.resize(opened.plain, 0);
        }
        buffer[..opened.plain].copy_from_slice(&coding.raw[..opened.plain]);
        coding.raw.drain(..opened.consumed);
        Ok(Heard {
            plain: opened.plain,
            raw,
        })
    }

    /// Sends bytes; an encrypted connection takes whole frames, which begin the bytes. Returns how
    /// many were taken, and whether the stream has no room for more.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let Some(coding) = &mut self.coding else {
            let size = self.stream.write(bytes)?;
            return Ok((size, size < bytes.len()));
        };
        let mut taken = 0;
        if coding.written == coding.sealed.len() {
            coding.sealed.clear();
            coding.written = 0;
            let sealer = &mut coding.coder.sealer;
            let sealed = sealer.append_sealed(bytes, SEALED_SIZE, &mut coding.sealed);
            taken = sealed.map_err(io::Error::other)?;
        }
        match self.stream.write(&coding.sealed[coding.written..]) {
            Ok(size) => coding.written += size,
            Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => {}
            Err(error) => return Err(error),
        }
        Ok((taken, coding.written < coding.sealed.len()))
    }

    /// Sends whole frames on a blocking stream.
    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
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

/// Sealed bytes of one write, and at most a frame more.
const SEALED_SIZE: usize = 64 << 10;
