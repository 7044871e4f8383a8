//! The bytes of an honest connection, which pass a coder with CURVE.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use zmtp::{Limits, Opener, Sealer};

/// The receiving direction.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Plain bytes that were not read yet.
    plain: Vec<u8>,
    raw: Vec<u8>,
    opener: Option<Opener>,
    pub(crate) stream: TcpStream,
}

/// The sending direction.
#[derive(Debug)]
pub(crate) struct Outgoing {
    sealer: Option<Sealer>,
    stream: TcpStream,
}

impl Incoming {
    /// `raw` was received before.
    pub(crate) fn new(stream: TcpStream, opener: Option<Opener>, raw: Vec<u8>) -> Self {
        Self {
            plain: Vec::new(),
            raw,
            opener,
            stream,
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(opener) = &mut self.opener else {
            if self.raw.is_empty() {
                return self.stream.read(buffer);
            }
            let size = self.raw.as_slice().read(buffer)?;
            self.raw.drain(..size);
            return Ok(size);
        };
        while self.plain.is_empty() {
            let opened = opener.open(&mut self.raw, &Limits::default());
            let opened = opened.map_err(io::Error::other)?;
            self.plain.extend_from_slice(&self.raw[..opened.plain]);
            self.raw.drain(..opened.consumed);
            if self.plain.is_empty() {
                let size = self.stream.read(buffer)?;
                if size == 0 {
                    return Ok(0);
                }
                self.raw.extend_from_slice(&buffer[..size]);
            }
        }
        let size = self.plain.as_slice().read(buffer)?;
        self.plain.drain(..size);
        Ok(size)
    }
}

impl Outgoing {
    pub(crate) fn new(stream: TcpStream, sealer: Option<Sealer>) -> Self {
        Self { sealer, stream }
    }

    /// Sends whole frames.
    pub(crate) fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else {
            return self.stream.write_all(frames);
        };
        let mut sealed = Vec::new();
        let size = sealer.append_sealed(frames, usize::MAX, &mut sealed);
        assert_eq!(size, Ok(frames.len()), "frames are whole");
        self.stream.write_all(&sealed)
    }
}
