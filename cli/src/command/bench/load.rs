//! The messages of the load, encoded once, and the check that exactly these arrive.

use zmtp::encode;
use zmtp::wire::header::{COMMAND, LONG, LONG_SIZE, SHORT_SIZE};

/// One message in wire form, and as many as fit into one write.
#[derive(Debug)]
pub(super) struct Load {
    block: Vec<u8>,
    header_size: usize,
    message_size: usize,
}

/// Counts the messages in a stream of bytes, cut anywhere, and refuses any message that is not of
/// the load. To save time it reads only headers, not bodies.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The received part of a command.
    command: Vec<u8>,
    messages: u64,
    /// The number of received bytes of the current message.
    position: usize,
}

/// Bytes that are not a message of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mismatch;

impl Load {
    /// Messages of one frame with `body_size` bytes.
    pub(super) fn new(body_size: usize) -> Self {
        let mut block = Vec::with_capacity(BLOCK_SIZE + LONG_SIZE);
        encode::append_frame(&mut block, &vec![b'z'; body_size], false);
        let message_size = block.len();
        let count = (BLOCK_SIZE / message_size).max(1);
        let block = block.repeat(count);
        Self {
            block,
            header_size: message_size - body_size,
            message_size,
        }
    }

    /// Whole messages, one after another.
    pub(super) fn block(&self) -> &[u8] {
        &self.block
    }

    /// One message, frame header included, in bytes.
    pub(super) fn message_size(&self) -> usize {
        self.message_size
    }

    fn header(&self) -> &[u8] {
        &self.block[..self.header_size]
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        // With a constant length for the sizes at which a message takes little time.
        match (self.header(), bytes) {
            ([flags, size], [first, second, ..]) => first == flags && second == size,
            (header, bytes) => bytes.starts_with(header),
        }
    }
}

impl Tally {
    /// Whole messages so far.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Handles the next bytes of the stream. Skips commands, such as PING.
    pub(super) fn feed(&mut self, load: &Load, mut bytes: &[u8]) -> Result<(), Mismatch> {
        let size = load.message_size;
        while let Some(&first) = bytes.first() {
            if self.position == 0 {
                if !self.command.is_empty() || first & COMMAND != 0 {
                    self.pass_command_byte(first);
                    bytes = &bytes[1..];
                    continue;
                }
                while bytes.len() >= size && load.begins(bytes) {
                    self.messages += 1;
                    bytes = &bytes[size..];
                }
                if bytes.first().is_none_or(|flags| flags & COMMAND != 0) {
                    continue;
                }
            }
            if let Some(expected) = load.header().get(self.position) {
                if bytes[0] != *expected {
                    return Err(Mismatch);
                }
                self.position += 1;
                bytes = &bytes[1..];
            }
            let body = (size - self.position).min(bytes.len());
            if self.position >= load.header_size {
                self.position += body;
                bytes = &bytes[body..];
            }
            if self.position == size {
                self.position = 0;
                self.messages += 1;
            }
        }
        Ok(())
    }

    /// Commands are rare and short: byte by byte is fast enough.
    fn pass_command_byte(&mut self, byte: u8) {
        self.command.push(byte);
        let long = self.command[0] & LONG != 0;
        let header_size = if long { LONG_SIZE } else { SHORT_SIZE };
        let Some(size) = self.command.get(1..header_size) else {
            return;
        };
        let body_size = size
            .iter()
            .fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
        if self.command.len() - header_size == body_size {
            self.command.clear();
        }
    }
}

/// Bytes of one write: enough to make the generator's system calls negligible.
pub(super) const BLOCK_SIZE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_whole_messages() {
        for (body_size, message_size) in [
            (0, 2),
            (64, 66),
            (255, 257),
            (256, 265),
            (16 << 10, 16393),
            (1 << 20, 1_048_585),
        ] {
            let load = Load::new(body_size);
            assert_eq!(load.message_size(), message_size);
            assert_eq!(load.block().len() % message_size, 0);
            assert!(load.block().len() <= BLOCK_SIZE.max(message_size));
            let mut tally = Tally::default();
            tally.feed(&load, load.block()).unwrap();
            let count = load.block().len() / message_size;
            assert_eq!(tally.messages(), count as u64);
        }
    }

    #[test]
    fn the_count_is_the_same_in_every_chunking() {
        for body_size in [0, 1, 64, 300] {
            let load = Load::new(body_size);
            let message = &load.block()[..load.message_size()];
            let mut stream = message.repeat(2);
            encode::append_command(&mut stream, "PING", b"\0\0context");
            encode::append_command(&mut stream, "UNKNOWN", &[1; 300]);
            stream.extend(message.repeat(3));
            for chunk_size in 1..=stream.len() {
                let mut tally = Tally::default();
                for chunk in stream.chunks(chunk_size) {
                    tally.feed(&load, chunk).unwrap();
                }
                assert_eq!(
                    tally.messages(),
                    5,
                    "{body_size} B in chunks of {chunk_size}"
                );
            }
        }
    }

    #[test]
    fn another_size_or_a_second_frame_is_a_mismatch() {
        let load = Load::new(64);
        for wrong in [&b"\x00\x41"[..], b"\x01\x40", b"\x02\0\0\0\0\0\0\0\x40"] {
            let mut stream = load.block()[..load.message_size()].to_vec();
            stream.extend_from_slice(wrong);
            for chunk_size in 1..=stream.len() {
                let mut tally = Tally::default();
                let fed = stream
                    .chunks(chunk_size)
                    .try_for_each(|chunk| tally.feed(&load, chunk));
                assert_eq!(fed, Err(Mismatch), "{wrong:?} in chunks of {chunk_size}");
            }
        }
    }
}
