//! JSON objects in the bytes of a plain TCP client, one behind the other, without lengths.
//!
//! The decoder keeps at most [`OBJECT_SIZE_MAX`] bytes, and walks each byte once. Blanks, line ends
//! and zero bytes may stand between objects.

use std::fmt;

use serde_json::{Map, Value};

use crate::limits::OBJECT_SIZE_MAX;

/// Finds the objects in the bytes of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The object at the front, as far as it has arrived.
    buffer: Vec<u8>,
    /// Open braces and brackets.
    depth: u32,
    /// The flaw that ended it.
    flaw: Option<Flaw>,
    is_escaped: bool,
    is_in_string: bool,
    objects: u64,
}

/// Why bytes cannot be read as a sequence of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The connection ended inside an object.
    Cut,
    /// The connection ended without an object.
    Empty,
    /// An object is not JSON.
    NotJson,
    /// A value begins that is not an object.
    NotObject,
    /// An object has more than [`OBJECT_SIZE_MAX`] bytes.
    TooLarge,
}

impl Decoder {
    /// Handles received bytes, in segments of any size; each whole object goes to `found`.
    ///
    /// # Errors
    /// The first flaw, which is final: from then on every call returns it.
    pub fn handle_input(
        &mut self,
        bytes: &[u8],
        mut found: impl FnMut(Map<String, Value>),
    ) -> Result<(), Flaw> {
        for byte in bytes {
            if let Some(flaw) = self.flaw {
                return Err(flaw);
            }
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' | 0 => continue,
                    b'{' => {}
                    _ => return Err(self.fail(Flaw::NotObject)),
                }
            }
            if self.buffer.len() == OBJECT_SIZE_MAX {
                return Err(self.fail(Flaw::TooLarge));
            }
            self.buffer.push(*byte);
            if self.step(*byte) {
                match serde_json::from_slice(&self.buffer) {
                    Ok(Value::Object(object)) => {
                        self.objects += 1;
                        self.buffer.clear();
                        found(object);
                    }
                    _ => return Err(self.fail(Flaw::NotJson)),
                }
            }
        }
        self.flaw.map_or(Ok(()), Err)
    }

    /// The connection has ended, by its end or by a reset.
    ///
    /// # Errors
    /// It ended inside an object, without any object, or by an earlier flaw.
    pub fn handle_end(&mut self) -> Result<(), Flaw> {
        match self.flaw {
            Some(flaw) => Err(flaw),
            None if self.depth > 0 => Err(self.fail(Flaw::Cut)),
            None if self.objects == 0 => Err(self.fail(Flaw::Empty)),
            None => Ok(()),
        }
    }

    /// The number of objects so far.
    #[must_use]
    pub fn objects(&self) -> u64 {
        self.objects
    }

    /// Whether an object has begun and not ended.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.depth > 0
    }

    /// The bytes of memory that it keeps.
    #[must_use]
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Takes note of a byte of an object; returns whether it is the last one.
    fn step(&mut self, byte: u8) -> bool {
        if self.is_in_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }

    fn fail(&mut self, flaw: Flaw) -> Flaw {
        self.flaw = Some(flaw);
        self.buffer = Vec::new();
        flaw
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "the connection ended inside an object",
            Self::Empty => "the connection ended without an object",
            Self::NotJson => "an object is not JSON",
            Self::NotObject => {
                "the text begins with a value that is not an object: send {\"type\": …}"
            }
            Self::TooLarge => "an object has more than 64 KiB",
        })
    }
}

impl std::error::Error for Flaw {}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(segments: &[&[u8]]) -> (Vec<String>, Result<(), Flaw>) {
        let (mut decoder, mut objects) = (Decoder::default(), Vec::new());
        let mut outcome = Ok(());
        for segment in segments {
            outcome = decoder.handle_input(segment, |object| {
                objects.push(Value::Object(object).to_string());
            });
        }
        (objects, outcome.and_then(|()| decoder.handle_end()))
    }

    #[test]
    fn one_object_in_any_segments() {
        let text = br#"{"type": "heartbeat", "note": "a \"}{\\", "list": [{}, [1]]}"#;
        let whole = decode(&[text]);
        assert_eq!((whole.0.len(), whole.1), (1, Ok(())));
        for cut in 0..text.len() {
            assert_eq!(decode(&[&text[..cut], &text[cut..]]), whole, "{cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(decode(&bytes), whole);
    }

    #[test]
    fn several_objects_with_anything_blank_between() {
        let (objects, end) = decode(&[b"{\"a\":1}{\"a\":2}\r\n\0 {\"a\":3}\n"]);
        assert_eq!(objects, [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#]);
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn flaws_are_named_and_final() {
        for (text, flaw) in [
            (&b""[..], Flaw::Empty),
            (b"\r\n", Flaw::Empty),
            (b"{", Flaw::Cut),
            (b"{\"a\": \"}", Flaw::Cut),
            (b"{]", Flaw::NotJson),
            (b"{\"a\"}", Flaw::NotJson),
            (b"{\xff}", Flaw::NotJson),
            (b"[1]", Flaw::NotObject),
            (b"GET / HTTP/1.1", Flaw::NotObject),
        ] {
            assert_eq!(decode(&[text]).1, Err(flaw), "{text:?}");
        }
        let (objects, end) = decode(&[b"{}x", b"{}"]);
        assert_eq!(
            (objects.len(), end),
            (1, Err(Flaw::NotObject)),
            "it is final"
        );
    }

    #[test]
    fn an_object_without_an_end_keeps_no_more_than_its_limit() {
        let mut decoder = Decoder::default();
        decoder.handle_input(b"{\"a\": \"", |_| ()).unwrap();
        let mut outcome = Ok(());
        for _ in 0..10 << 10 {
            outcome = decoder.handle_input(&[b'x'; 1 << 10], |_| ());
            assert!(decoder.size() <= OBJECT_SIZE_MAX);
        }
        assert_eq!(outcome, Err(Flaw::TooLarge));
        assert_eq!(decoder.size(), 0, "nothing is kept of it");
        let legal = [b"{\"a\":\"", &[b'x'; OBJECT_SIZE_MAX - 8][..], b"\"}"].concat();
        assert_eq!(legal.len(), OBJECT_SIZE_MAX);
        assert_eq!(decode(&[&legal]).1, Ok(()));
        let over = [b"{\"a\":\"", &[b'x'; OBJECT_SIZE_MAX - 7][..], b"\"}"].concat();
        assert_eq!(decode(&[&over]).1, Err(Flaw::TooLarge));
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let deep = [&b"{\"a\":"[..], &[b'['; 1000], &[b']'; 1000], b"}"].concat();
        assert_eq!(decode(&[&deep]).1, Err(Flaw::NotJson));
    }
}
