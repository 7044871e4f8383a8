//! Messages from text: lines, whole inputs, and JSON as `zmqd sniff --json` prints it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zmtp::encode::append_message;

use crate::capture::json;

/// How a text becomes messages.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// An empty frame goes in front, as a REQ sends it.
    pub(super) is_delimited: bool,
    /// Topics and first frames are joined.
    pub(super) is_inline: bool,
    pub(super) is_json: bool,
    /// The first frame is the identity of a peer.
    pub(super) is_routed: bool,
    /// The topics to send each message with; without one, it is sent as it is.
    pub(super) topics: Vec<Vec<u8>>,
}

/// Messages in wire form, one after another.
#[derive(Debug, Default)]
pub(super) struct Batch {
    ends: Vec<usize>,
    wire: Vec<u8>,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The message at this index, in wire form.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let start = match index {
            0 => 0,
            index => *self.ends.get(index - 1)?,
        };
        self.wire.get(start..*self.ends.get(index)?)
    }

    /// The size of all messages, in bytes.
    pub(super) fn size(&self) -> usize {
        self.wire.len()
    }
}

impl Shape {
    /// Appends the messages for a text.
    ///
    /// # Errors
    /// The text is not a message in JSON, or a message of a ROUTER has no identity.
    pub(super) fn append_text(&self, text: &[u8], batch: &mut Batch) -> Result<(), String> {
        if self.is_json {
            let frames = parse_json(text, self.is_routed)?;
            let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
            return self.append(&frames, batch);
        }
        if !self.is_routed {
            return self.append(&[text], batch);
        }
        let end = text.iter().position(|byte| *byte == b' ');
        let (identity, body) = match end {
            Some(end) => (&text[..end], &text[end + 1..]),
            None => (text, &b""[..]),
        };
        self.append(&[identity, body], batch)
    }

    /// Appends the messages for these frames.
    ///
    /// # Errors
    /// There are no frames, or only the identity for a ROUTER.
    pub(super) fn append(&self, frames: &[&[u8]], batch: &mut Batch) -> Result<(), String> {
        let decoded;
        let mut whole: Vec<&[u8]> = Vec::with_capacity(frames.len() + 1);
        if self.is_delimited {
            whole.push(b"");
        }
        whole.extend(frames);
        if self.is_routed {
            let [identity, _, ..] = frames else {
                return Err("a ROUTER needs the identity of a peer and a frame".to_owned());
            };
            decoded = identity_of(identity);
            whole[0] = &decoded;
        }
        if frames.is_empty() {
            return Err("a message needs a frame".to_owned());
        }
        if self.topics.is_empty() {
            batch.push(&whole);
        }
        for topic in &self.topics {
            if self.is_inline {
                let joined = [topic, whole[0]].concat();
                let mut whole = whole.clone();
                whole[0] = &joined;
                batch.push(&whole);
            } else {
                batch.push(&[&[topic.as_slice()], &whole[..]].concat());
            }
        }
        Ok(())
    }
}

impl Batch {
    fn push(&mut self, frames: &[&[u8]]) {
        append_message(&mut self.wire, frames);
        self.ends.push(self.wire.len());
    }
}

/// An identity as it is printed: hexadecimal after 0x, or as it is.
fn identity_of(text: &[u8]) -> Vec<u8> {
    let digits = text.strip_prefix(b"0x").filter(|it| !it.is_empty());
    let decoded = digits.and_then(from_hex);
    decoded.unwrap_or_else(|| text.to_vec())
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

/// The frames of a message in JSON: an array of frames, or an object whose member "frames" is one,
/// with the identity in another. A frame is a text, or an object with the member "text", "hex" or
/// "json".
fn parse_json(text: &[u8], is_routed: bool) -> Result<Vec<Vec<u8>>, String> {
    let text = str::from_utf8(text).map_err(|_| "not JSON: it is not UTF-8".to_owned())?;
    let mut frames = Vec::new();
    let list = if text.trim_start().starts_with('[') {
        list_of(text)?
    } else {
        let members = members_of(text)?;
        if is_routed {
            let identity = ["identity", "identity_hex"].into_iter().find_map(|name| {
                let value = members.get(name)?;
                Some(text_of(value).and_then(|text| match name {
                    "identity" => Ok(text.into_bytes()),
                    _ => hex(&text),
                }))
            });
            frames.extend(identity.transpose()?);
        }
        let list = members.get("frames");
        list_of(list.ok_or("the object has no \"frames\"")?.get())?
    };
    for frame in list {
        frames.push(parse_frame(frame)?);
    }
    Ok(frames)
}

fn parse_frame(frame: &RawValue) -> Result<Vec<u8>, String> {
    if frame.get().starts_with('"') {
        return Ok(text_of(frame)?.into_bytes());
    }
    let members = members_of(frame.get())?;
    match members.first_key_value() {
        Some((name, value)) if members.len() == 1 => match name.as_str() {
            "text" => Ok(text_of(value)?.into_bytes()),
            "hex" => hex(&text_of(value)?),
            "json" => {
                let compact = json::compact(value.get());
                Ok(compact
                    .unwrap_or_else(|| value.get().to_owned())
                    .into_bytes())
            }
            _ => Err(FRAME_FORM.to_owned()),
        },
        _ => Err(FRAME_FORM.to_owned()),
    }
}

const FRAME_FORM: &str = "write a frame as {\"text\":…}, {\"hex\":…}, {\"json\":…} or \"…\"";

fn hex(digits: &str) -> Result<Vec<u8>, String> {
    from_hex(digits.as_bytes()).ok_or_else(|| "\"hex\" needs pairs of digits".to_owned())
}

fn text_of(value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|_| FRAME_FORM.to_owned())
}

fn list_of(text: &str) -> Result<Vec<&RawValue>, String> {
    serde_json::from_str(text).map_err(explain)
}

fn members_of(text: &str) -> Result<BTreeMap<String, &RawValue>, String> {
    serde_json::from_str(text).map_err(explain)
}

fn explain(error: serde_json::Error) -> String {
    format!("not a message in JSON: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use zmtp::Frames;

    fn shown(shape: &Shape, text: &[u8]) -> Result<Vec<String>, String> {
        let mut batch = Batch::default();
        shape.append_text(text, &mut batch)?;
        let message = |index| Frames::new(batch.get(index).unwrap()).to_string();
        Ok((0..batch.len()).map(message).collect())
    }

    #[test]
    fn a_line_is_a_message_for_each_topic() {
        let plain = Shape::default();
        assert_eq!(shown(&plain, b"a b").unwrap(), ["[a b]"]);
        assert_eq!(shown(&plain, b"").unwrap(), ["[]"]);
        let topics = Shape {
            topics: vec![b"x.".to_vec(), b"y".to_vec()],
            ..Shape::default()
        };
        assert_eq!(shown(&topics, b"a").unwrap(), ["[x.][a]", "[y][a]"]);
        let inline = Shape {
            is_inline: true,
            ..topics
        };
        assert_eq!(shown(&inline, b"a").unwrap(), ["[x.a]", "[ya]"]);
        let delimited = Shape {
            is_delimited: true,
            ..Shape::default()
        };
        assert_eq!(shown(&delimited, b"a").unwrap(), ["[][a]"]);
    }

    #[test]
    fn a_line_for_a_router_begins_with_the_identity() {
        let routed = Shape {
            is_routed: true,
            ..Shape::default()
        };
        assert_eq!(shown(&routed, b"me a b").unwrap(), ["[me][a b]"]);
        assert_eq!(shown(&routed, b"me").unwrap(), ["[me][]"]);
        assert_eq!(shown(&routed, b"0x006d a").unwrap(), ["[\\x00m][a]"]);
        assert_eq!(shown(&routed, b"0x0 a").unwrap(), ["[0x0][a]"]);
        let mut batch = Batch::default();
        assert!(routed.append(&[b"me"], &mut batch).is_err());
    }

    #[test]
    fn json_of_sniff_is_read_back() {
        let json = Shape {
            is_json: true,
            ..Shape::default()
        };
        let line = br#"{"time":"2026","size":1,"frames":[
            {"text":"a\u0001"},{"hex":"ff00"},{"json":{"z":1.50,"a":[1, 2]}}]}"#;
        assert_eq!(
            shown(&json, line).unwrap(),
            ["[a\\x01][\\xff\\x00][{\"z\":1.50,\"a\":[1,2]}]"]
        );
        assert_eq!(
            shown(&json, br#" ["a", {"text":""}, "b"]"#).unwrap(),
            ["[a][][b]"]
        );
        let routed = Shape {
            is_routed: true,
            ..json
        };
        let line = br#"{"identity":"me","frames":["a"]}"#;
        assert_eq!(shown(&routed, line).unwrap(), ["[me][a]"]);
        let line = br#"{"identity_hex":"0001","frames":["a"]}"#;
        assert_eq!(shown(&routed, line).unwrap(), ["[\\x00\\x01][a]"]);
        assert_eq!(shown(&routed, br#"["me","a"]"#).unwrap(), ["[me][a]"]);
        for wrong in [
            &b""[..],
            b"[]",
            b"{}",
            b"7",
            b"[7]",
            b"[[]]",
            b"[{}]",
            b"[{\"text\":1}]",
            b"[{\"hex\":\"0\"}]",
            b"[{\"hex\":\"xx\"}]",
            b"[{\"a\":\"\"}]",
            b"\xff",
            b"{\"frames\":1}",
            b"[\"a\"] x",
            b"[{\"text\":\"\",\"hex\":\"\"}]",
        ] {
            let json = Shape {
                is_json: true,
                ..Shape::default()
            };
            assert!(shown(&json, wrong).is_err(), "{:?}", wrong.escape_ascii());
        }
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        assert!(shown(&routed, &deep).is_err(), "depth is limited");
    }
}
