//! The reading half: records in order, and the damage between them.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use super::format::{self, HEADER_SIZE, Header, Lost, MARKER, Message, Record, VERSION};

/// Least bytes of a read. Memory grows with the file's content, not with sizes announced in it.
const READ_SIZE: usize = 64 << 10;

/// Reads a recording from beginning to end.
#[derive(Debug)]
pub struct Reader<R> {
    /// Received bytes from `start` to `end`, with room after them.
    buffer: Vec<u8>,
    end: usize,
    /// Whether the first record was seen.
    has_begun: bool,
    input: R,
    is_at_end: bool,
    /// The position of `buffer[start]` in the file.
    offset: u64,
    start: usize,
}

/// An entry of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Bytes that are not a record.
    Damage(Damage),
    /// Messages that were never recorded are missing here.
    Lost(Lost),
    /// A message.
    Message(Message<'a>),
}

/// Bytes that are not a record; reading continues after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The kind of damage.
    pub fault: Fault,
    /// Their position in the file.
    pub offset: u64,
    /// Their number.
    pub size: u64,
}

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The checksum is wrong, or the content is malformed.
    Corrupt,
    /// The file ends within a record: its writer was killed, or is still writing.
    Unfinished,
}

/// Why a recording cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file does not begin like a recording.
    #[error("this is not a zmqd recording")]
    NotARecording,
    /// A later version of zmqd wrote it.
    #[error("this recording has version {0} of the format; a newer zmqd reads it")]
    Version(u16),
}

/// The kind of the bytes at the front.
enum Next {
    /// This number of bytes is not a record.
    Damage(Fault, usize),
    End,
    /// A record whose body is in the buffer, at this place.
    Record(Range<usize>),
}

impl<R: Read> Reader<R> {
    /// A reader at the beginning of a recording.
    pub fn new(input: R) -> Self {
        Self {
            buffer: Vec::new(),
            end: 0,
            has_begun: false,
            input,
            is_at_end: false,
            offset: 0,
            start: 0,
        }
    }

    /// The next entry; `None` at the end. The work is proportional to the bytes consumed.
    ///
    /// # Errors
    /// Reading failed, or the file is not a recording of a known version.
    pub fn read(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        loop {
            let offset = self.offset;
            let body = match self.next()? {
                Next::End if self.has_begun => return Ok(None),
                // An unfinished file may lack even the end of its first record.
                Next::Damage(fault, size) if self.has_begun || fault == Fault::Unfinished => {
                    self.has_begun = true;
                    self.consume(size);
                    if fault == Fault::Corrupt {
                        self.consume_damage()?;
                    }
                    return Ok(Some(self.damage(fault, offset)));
                }
                Next::Damage(..) | Next::End => return Err(ReadError::NotARecording),
                Next::Record(body) => body,
            };
            self.consume(HEADER_SIZE + body.len());
            let is_whole = match format::parse(&self.buffer[body.clone()]) {
                Some(Record::Begin { version }) if version > VERSION => {
                    return Err(ReadError::Version(version));
                }
                Some(Record::Begin { .. }) => {
                    self.has_begun = true;
                    continue;
                }
                _ if !self.has_begun => return Err(ReadError::NotARecording),
                Some(Record::Unknown) => continue,
                Some(Record::Lost(_)) => true,
                Some(Record::Message(message)) => {
                    let frames = body.end - message.frames.len()..body.end;
                    format::is_message(&mut self.buffer[frames])
                }
                None => false,
            };
            // Parsed a second time, because a value returned from a loop is borrowed throughout the
            // loop.
            return Ok(Some(match format::parse(&self.buffer[body]) {
                Some(Record::Message(message)) if is_whole => Entry::Message(message),
                Some(Record::Lost(lost)) => Entry::Lost(lost),
                _ => self.damage(Fault::Corrupt, offset),
            }));
        }
    }

    /// Damage that ends at the current position.
    fn damage<'a>(&self, fault: Fault, offset: u64) -> Entry<'a> {
        Entry::Damage(Damage {
            fault,
            offset,
            size: self.offset - offset,
        })
    }

    /// Skips all bytes up to the next record.
    fn consume_damage(&mut self) -> io::Result<()> {
        while let Next::Damage(Fault::Corrupt, size) = self.next()? {
            self.consume(size);
        }
        Ok(())
    }

    /// Examines the bytes at the front, and reads as many as that needs.
    fn next(&mut self) -> io::Result<Next> {
        self.fill(HEADER_SIZE)?;
        let bytes = &self.buffer[self.start..self.end];
        let Some(header) = bytes.first_chunk::<HEADER_SIZE>() else {
            let marker = &bytes[..bytes.len().min(MARKER.len())];
            return Ok(match bytes.len() {
                0 => Next::End,
                size if MARKER.starts_with(marker) => Next::Damage(Fault::Unfinished, size),
                size => Next::Damage(Fault::Corrupt, size),
            });
        };
        let Some(header) = Header::parse(header) else {
            return self.skip();
        };
        let size = HEADER_SIZE + header.body_size;
        self.fill(size)?;
        let bytes = &self.buffer[self.start..self.end];
        let Some(body) = bytes.get(HEADER_SIZE..size) else {
            return Ok(Next::Damage(Fault::Unfinished, bytes.len()));
        };
        if !header.fits(body) {
            return Ok(Next::Damage(Fault::Corrupt, size));
        }
        Ok(Next::Record(self.start + HEADER_SIZE..self.start + size))
    }

    /// The front is not a header: searches for the next one, a buffer at a time.
    fn skip(&mut self) -> io::Result<Next> {
        self.fill(READ_SIZE)?;
        let bytes = &self.buffer[self.start..self.end];
        let is_header = |at: &usize| {
            let header = bytes[*at..].first_chunk::<HEADER_SIZE>();
            header.is_some_and(|header| Header::parse(header).is_some())
        };
        let size = match (1..bytes.len()).find(is_header) {
            Some(at) => at,
            None if self.is_at_end => bytes.len(),
            // A header may begin in the last bytes.
            None => bytes.len() - (HEADER_SIZE - 1),
        };
        Ok(Next::Damage(Fault::Corrupt, size))
    }

    /// Reads until the buffer has this number of bytes, or the file ends.
    fn fill(&mut self, size: usize) -> io::Result<()> {
        while self.end - self.start < size && !self.is_at_end {
            if self.buffer.len() - self.end < READ_SIZE {
                if self.start > 0 {
                    self.buffer.copy_within(self.start..self.end, 0);
                    self.end -= self.start;
                    self.start = 0;
                }
                if self.buffer.len() - self.end < READ_SIZE {
                    // Doubles the buffer, so that a pipe of small pieces costs little for each
                    // piece, but has no more than the record needs: twice the longest record does
                    // not fit where addresses have 32 bits.
                    let room = (2 * (self.end + READ_SIZE)).min(size + 2 * READ_SIZE);
                    self.buffer.reserve_exact(room - self.buffer.len());
                    self.buffer.resize(room, 0);
                }
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(received) => {
                    self.end += received;
                    self.is_at_end = received == 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn consume(&mut self, size: usize) {
        self.start += size;
        self.offset += size as u64;
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, size, .. } = self;
        match self.fault {
            Fault::Corrupt => write!(f, "{size} bytes at byte {offset} are damaged"),
            Fault::Unfinished => write!(
                f,
                "the last record, {size} bytes at byte {offset}, is unfinished"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
