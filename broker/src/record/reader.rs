//! The reading half: records in order, and what is damaged between them.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use super::format::{self, HEADER_SIZE, Header, Lost, MARKER, Message, Record, VERSION};

/// Bytes asked for at once, at least. Memory grows with what is there, not with what a record
/// announces.
const READ_SIZE: usize = 64 << 10;

/// Reads a recording from beginning to end.
#[derive(Debug)]
pub struct Reader<R> {
    /// Received bytes from `start` to `end`, and room behind them.
    buffer: Vec<u8>,
    end: usize,
    /// Whether the first record was seen.
    has_begun: bool,
    input: R,
    is_at_end: bool,
    /// Where `buffer[start]` stands in the file.
    offset: u64,
    start: usize,
}

/// What stands next in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Bytes that are no record.
    Damage(Damage),
    /// Messages are missing here that were never recorded.
    Lost(Lost),
    /// A message.
    Message(Message<'a>),
}

/// Bytes that are no record; reading goes on behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong with them.
    pub fault: Fault,
    /// Where they begin in the file.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

/// What is wrong with bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Their checksum is wrong, or what they hold makes no sense.
    Corrupt,
    /// The file ends within a record, which its writer did not live to finish, or is still writing.
    Unfinished,
}

/// A recording that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused to read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not begin as recordings do.
    #[error("this is not a zmqd recording")]
    NotARecording,
    /// A later zmqd wrote it.
    #[error("this recording has version {0} of the format; a newer zmqd reads it")]
    Version(u16),
}

/// What the bytes at the front are.
enum Next {
    /// So many bytes are no record.
    Damage(Fault, usize),
    End,
    /// A record whose body stands there, in the buffer.
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

    /// The next entry; `None` at the end. The work is in proportion to the bytes passed over.
    ///
    /// # Errors
    /// The system refused to read, or this is no recording that we know.
    pub fn read(&mut self) -> Result<Option<Entry<'_>>, ReadError> {
        loop {
            let offset = self.offset;
            let body = match self.next()? {
                Next::End if self.has_begun => return Ok(None),
                // One that was never finished may lack even the end of its first record.
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
            // Parsed a second time, because what a loop returns is borrowed through all of it.
            return Ok(Some(match format::parse(&self.buffer[body]) {
                Some(Record::Message(message)) if is_whole => Entry::Message(message),
                Some(Record::Lost(lost)) => Entry::Lost(lost),
                _ => self.damage(Fault::Corrupt, offset),
            }));
        }
    }

    /// Damage that ends where we are.
    fn damage<'a>(&self, fault: Fault, offset: u64) -> Entry<'a> {
        Entry::Damage(Damage {
            fault,
            offset,
            size: self.offset - offset,
        })
    }

    /// Passes over all bytes up to the next record.
    fn consume_damage(&mut self) -> io::Result<()> {
        while let Next::Damage(Fault::Corrupt, size) = self.next()? {
            self.consume(size);
        }
        Ok(())
    }

    /// Looks at the front, and reads as much as it takes to tell what is there.
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

    /// There is no header at the front: looks for the next one, a buffer at a time.
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

    /// Reads until there are so many bytes, or no more.
    fn fill(&mut self, size: usize) -> io::Result<()> {
        while self.end - self.start < size && !self.is_at_end {
            if self.buffer.len() - self.end < READ_SIZE {
                if self.start > 0 {
                    self.buffer.copy_within(self.start..self.end, 0);
                    self.end -= self.start;
                    self.start = 0;
                }
                if self.buffer.len() - self.end < READ_SIZE {
                    // For as much again, so that a pipe of small pieces is not paid for by each.
                    self.buffer.resize(2 * (self.end + READ_SIZE), 0);
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
                "the last record, {size} bytes at byte {offset}, is not finished"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
