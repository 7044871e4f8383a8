//! The pcapng format (draft-ietf-opsawg-pcapng): blocks of bare IP packets with times in
//! nanoseconds. Numbers are little-endian.

use std::io::{self, Write};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;

/// Shows the byte order of the file.
const MAGIC: u32 = 0x1a2b_3c4d;

/// Packets begin with their IP header, of version 4 or 6.
const LINKTYPE_RAW: u16 = 101;

/// Options, by their numbers.
const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_SECTION_PROGRAM: u16 = 4;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_INTERFACE_RESOLUTION: u16 = 9;

/// Writes one section with one interface.
#[derive(Debug)]
pub(super) struct Writer<W: Write> {
    block: Vec<u8>,
    out: W,
}

impl<W: Write> Writer<W> {
    /// Writes the blocks that precede the packets.
    pub(super) fn begin(out: W) -> io::Result<Self> {
        let mut writer = Self {
            block: Vec::new(),
            out,
        };
        let block = &mut writer.block;
        block.extend_from_slice(&MAGIC.to_le_bytes());
        block.extend_from_slice(&[1, 0, 0, 0]); // version 1.0
        block.extend_from_slice(&u64::MAX.to_le_bytes()); // the size is unknown
        let program = concat!("zmqd ", env!("CARGO_PKG_VERSION"));
        append_option(block, OPTION_SECTION_PROGRAM, program.as_bytes());
        append_option(block, OPTION_END, b"");
        writer.end_block(SECTION)?;
        let block = &mut writer.block;
        block.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        block.extend_from_slice(&[0; 6]); // reserved; no limit on packet size
        append_option(block, OPTION_INTERFACE_NAME, b"zmqd");
        append_option(block, OPTION_INTERFACE_RESOLUTION, &[9]); // 10^-9 s
        append_option(block, OPTION_END, b"");
        writer.end_block(INTERFACE)?;
        Ok(writer)
    }

    /// Writes a packet, with a comment unless that is empty.
    pub(super) fn packet(&mut self, time_ns: u64, packet: &[u8], comment: &str) -> io::Result<()> {
        let block = &mut self.block;
        let size = u32::try_from(packet.len()).map_err(io::Error::other)?;
        let [a, b, c, d, e, f, g, h] = time_ns.to_le_bytes();
        block.extend_from_slice(&[0; 4]); // the only interface
        block.extend_from_slice(&[e, f, g, h, a, b, c, d]); // the high half first
        block.extend_from_slice(&size.to_le_bytes()); // as captured
        block.extend_from_slice(&size.to_le_bytes()); // original size
        block.extend_from_slice(packet);
        pad(block);
        if !comment.is_empty() {
            append_option(block, OPTION_COMMENT, comment.as_bytes());
            append_option(block, OPTION_END, b"");
        }
        self.end_block(PACKET)
    }

    /// Flushes the output.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes the finished block; its size is at both ends.
    fn end_block(&mut self, kind: u32) -> io::Result<()> {
        let size = u32::try_from(self.block.len() + 12).map_err(io::Error::other)?;
        self.out.write_all(&kind.to_le_bytes())?;
        self.out.write_all(&size.to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.out.write_all(&size.to_le_bytes())?;
        self.block.clear();
        Ok(())
    }
}

fn append_option(block: &mut Vec<u8>, number: u16, value: &[u8]) {
    block.extend_from_slice(&number.to_le_bytes());
    block.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    block.extend_from_slice(value);
    pad(block);
}

/// Pads the block to a multiple of four.
fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_the_specification() {
        let mut out = Vec::new();
        let mut writer = Writer::begin(&mut out).unwrap();
        writer
            .packet(0x0102_0304_0506_0708, b"\x45five", "")
            .unwrap();
        writer.packet(1, b"\x45bye", "user a").unwrap();
        writer.finish().unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let program = format!("zmqd {version}");
        let padded = program.len().next_multiple_of(4);
        let size = u8::try_from(28 + 4 + padded + 4).unwrap();
        let mut expected = b"\x0a\x0d\x0d\x0a".to_vec();
        expected.extend([size, 0, 0, 0]);
        expected.extend(b"\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        expected.extend([4, 0, u8::try_from(program.len()).unwrap(), 0]);
        expected.extend(program.bytes());
        expected.resize(24 + 4 + padded, 0);
        expected.extend([0, 0, 0, 0, size, 0, 0, 0]);
        expected.extend(b"\x01\0\0\0\x28\0\0\0\x65\0\0\0\0\0\0\0");
        expected.extend(b"\x02\0\x04\0zmqd\x09\0\x01\0\x09\0\0\0\0\0\0\0\x28\0\0\0");
        expected.extend(b"\x06\0\0\0\x28\0\0\0\0\0\0\0\x04\x03\x02\x01\x08\x07\x06\x05");
        expected.extend(b"\x05\0\0\0\x05\0\0\0\x45five\0\0\0\x28\0\0\0");
        expected.extend(b"\x06\0\0\0\x34\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0");
        expected.extend(b"\x04\0\0\0\x04\0\0\0\x45bye");
        expected.extend(b"\x01\0\x06\0user a\0\0\0\0\0\0\x34\0\0\0");
        assert_eq!(
            out.escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }
}
