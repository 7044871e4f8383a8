//! The body of a fuzz target, an ordinary function; see `fuzz/` and `tests/fuzz_record.rs`.

use std::io::Read;

use super::{Entry, Message, Reader};

/// Reads `data`, after the first record of every recording, as a recording: at once, and as from a
/// slow pipe. Both must give the same entries.
pub fn fuzz_reader(data: &[u8]) {
    let mut recording = Vec::new();
    super::format::append_begin(&mut recording);
    super::format::seal(&mut recording);
    recording.extend_from_slice(data);
    let whole = read_all(&recording[..]);
    assert_eq!(read_all(Drip { rest: &recording }), whole);
}

/// The entries of a recording, as text.
fn read_all(input: impl Read) -> Vec<String> {
    let (mut reader, mut told) = (Reader::new(input), Vec::new());
    loop {
        match reader.read() {
            Ok(None) => return told,
            Ok(Some(entry)) => {
                if let Entry::Message(message) = &entry {
                    check(message);
                }
                told.push(format!("{entry:?}"));
            }
            Err(error) => {
                told.push(error.to_string());
                return told;
            }
        }
    }
}

/// A message is whole, and recording it again gives the same message.
fn check(message: &Message<'_>) {
    assert!(zmtp::Frames::new(message.frames).count() > 0, "no frames");
    let Message {
        frames,
        origin,
        time_ns,
    } = message;
    let mut again = Vec::new();
    super::format::append_begin(&mut again);
    super::format::seal(&mut again);
    let start = again.len();
    super::format::append_message(&mut again, *time_ns, origin, &[frames]);
    super::format::seal(&mut again[start..]);
    let mut reader = Reader::new(&again[..]);
    assert!(matches!(reader.read(), Ok(Some(Entry::Message(read))) if read == *message));
}

/// A pipe that returns a few bytes at a time.
struct Drip<'a> {
    rest: &'a [u8],
}

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.rest.len().min(buffer.len()).min(7);
        let (now, rest) = self.rest.split_at(size);
        buffer[..size].copy_from_slice(now);
        self.rest = rest;
        Ok(size)
    }
}
