//! A message as a line: as text, or as a JSON object.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use broker::record::{Direction, Message};
use zmtp::{Frames, show};

use super::{json, size_of, split, time};

/// The largest frame that is examined for JSON.
const JSON_SIZE_MAX: usize = 64 << 10;

/// Characters shown of a user name in a text line.
const USER_LEN_MAX: usize = 64;

/// The style of lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Bytes shown of a frame in a text line; 0 is all.
    pub(crate) cut: usize,
    pub(crate) has_colour: bool,
    /// Whether there are several sources, so that lines name the source.
    pub(crate) has_source: bool,
    pub(crate) form: Form,
}

/// What a line has of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The identity and the frames.
    Frames,
    /// The same in hexadecimal, and whole.
    Hex,
    /// Everything, as a JSON object.
    Json,
    /// Everything, as text.
    Line,
}

/// The best representation of a frame.
enum Shown<'a> {
    Hex(&'a [u8]),
    Json(String),
    Text(&'a str),
}

impl Style {
    /// Appends a line; `since` is the time since the last message of those followed, `Some(None)`
    /// for the first.
    pub(crate) fn append(
        &self,
        out: &mut String,
        message: &Message<'_>,
        since: Option<Option<Duration>>,
    ) {
        match self.form {
            Form::Frames | Form::Hex => {
                let (identity, frames) = split(message);
                if let Some(identity) = identity {
                    self.append_identity(out, identity);
                    out.push(' ');
                }
                self.append_frames(out, frames);
            }
            Form::Json => append_json(out, message, since),
            Form::Line => self.append_text(out, message, since),
        }
        out.push('\n');
    }

    fn append_text(
        &self,
        out: &mut String,
        message: &Message<'_>,
        since: Option<Option<Duration>>,
    ) {
        let (identity, frames) = split(message);
        self.paint(out, DIM, &time::utc(message.time_ns));
        if let Some(since) = since {
            let text = since.map_or_else(String::new, |since| format!("+{}", time::short(since)));
            let _ = write!(out, " {text:>9}");
        }
        if self.has_source {
            out.push(' ');
            append_escaped(out, message.origin.source);
        }
        let (direction, colour) = match message.origin.direction {
            None => ("-  ", DIM),
            Some(Direction::In) => ("in ", GREEN),
            Some(Direction::Out) => ("out", CYAN),
        };
        out.push(' ');
        self.paint(out, colour, direction);
        out.push(' ');
        match identity {
            None => self.paint(out, DIM, "-"),
            Some(identity) => self.append_identity(out, identity),
        }
        if let Some(user) = message.origin.user {
            let shown = format!(" (user {})", show(user.as_bytes()).up_to(USER_LEN_MAX));
            self.paint(out, YELLOW, &shown);
        }
        out.push(' ');
        self.append_frames(out, frames);
    }

    fn append_identity(&self, out: &mut String, identity: &[u8]) {
        let mut shown = String::new();
        self.append_frame(&mut shown, identity);
        self.paint(out, YELLOW, &shown);
    }

    fn append_frames(&self, out: &mut String, frames: Frames<'_>) {
        for frame in frames {
            self.paint(out, DIM, "[");
            self.append_frame(out, frame.body);
            self.paint(out, DIM, "]");
        }
    }

    /// Appends a frame; a cut frame is followed by its size.
    pub(crate) fn append_frame(&self, out: &mut String, body: &[u8]) {
        let size_max = match self.cut {
            0 => usize::MAX,
            cut => cut,
        };
        let mut shown_size = body.len();
        let shown = match self.form {
            Form::Hex => Shown::Hex(body),
            _ => shown(body),
        };
        match shown {
            Shown::Hex(bytes) => {
                let bytes = &bytes[..bytes.len().min(size_max)];
                shown_size = bytes.len();
                out.push_str("0x");
                for byte in bytes {
                    let _ = write!(out, "{byte:02x}");
                }
            }
            Shown::Json(text) => {
                let end = text.floor_char_boundary(size_max);
                append_escaped(out, &text[..end]);
                if end < text.len() {
                    shown_size = end.min(body.len() - 1);
                }
            }
            Shown::Text(text) => {
                let end = text.floor_char_boundary(size_max);
                append_escaped(out, &text[..end]);
                shown_size = end;
            }
        }
        if shown_size < body.len() {
            let _ = write!(out, "…({})", body.len());
        }
    }

    /// Appends a text in a colour, if colours are on.
    pub(crate) fn paint(&self, out: &mut String, colour: &str, text: &str) {
        if self.has_colour {
            let _ = write!(out, "\x1b[{colour}m{text}\x1b[0m");
        } else {
            out.push_str(text);
        }
    }
}

fn append_json(out: &mut String, message: &Message<'_>, since: Option<Option<Duration>>) {
    let (identity, frames) = split(message);
    let (time, time_ns) = (time::utc(message.time_ns), message.time_ns);
    let _ = write!(out, "{{\"time\":\"{time}\",\"time_ns\":{time_ns}");
    if let Some(Some(since)) = since {
        let _ = write!(out, ",\"since_ns\":{}", since.as_nanos());
    }
    out.push_str(",\"source\":");
    json::append_string(out, message.origin.source);
    out.push_str(",\"direction\":");
    match message.origin.direction {
        None => out.push_str("null"),
        Some(direction) => json::append_string(out, direction.name()),
    }
    if let Some(peer) = message.origin.peer {
        out.push_str(",\"peer\":");
        json::append_string(out, &peer.to_string());
    }
    if let Some(user) = message.origin.user {
        out.push_str(",\"user\":");
        json::append_string(out, user);
    }
    if let Some(identity) = identity {
        out.push(',');
        append_json_identity(out, identity);
    }
    let _ = write!(out, ",\"size\":{},\"frames\":[", size_of(message));
    append_json_frames(out, frames);
    out.push_str("]}");
}

fn append_json_frames(out: &mut String, frames: Frames<'_>) {
    for (index, frame) in frames.enumerate() {
        if index > 0 {
            out.push(',');
        }
        append_json_frame(out, frame.body);
    }
}

/// Appends the member with the identity; its name tells whether it is text, as in `zmqd ctl`.
pub(crate) fn append_json_identity(out: &mut String, identity: &[u8]) {
    match str::from_utf8(identity) {
        Ok(text) => {
            out.push_str("\"identity\":");
            json::append_string(out, text);
        }
        Err(_) => {
            out.push_str("\"identity_hex\":");
            append_hex(out, identity);
        }
    }
}

/// Appends an object with one member, whose name is the type of the frame.
fn append_json_frame(out: &mut String, body: &[u8]) {
    match (shown(body), str::from_utf8(body)) {
        (Shown::Json(text), _) => {
            out.push_str("{\"json\":");
            json::append_visibly(out, &text);
            out.push('}');
        }
        // JSON shows every text as text, since its escapes make it harmless.
        (_, Ok(text)) => {
            out.push_str("{\"text\":");
            json::append_string(out, text);
            out.push('}');
        }
        (_, Err(_)) => {
            out.push_str("{\"hex\":");
            append_hex(out, body);
            out.push('}');
        }
    }
}

fn append_hex(out: &mut String, bytes: &[u8]) {
    out.push('"');
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out.push('"');
}

fn shown(body: &[u8]) -> Shown<'_> {
    let Ok(text) = str::from_utf8(body) else {
        return Shown::Hex(body);
    };
    if text.len() <= JSON_SIZE_MAX
        && let Some(text) = json::compact(text)
    {
        return Shown::Json(text);
    }
    let mut characters = text.chars().take(PROBE_SIZE);
    let controls = characters.clone().filter(|one| is_strange(*one)).count();
    // One at most, such as that in front of a subscription, and not alone.
    match controls {
        0 => Shown::Text(text),
        1 if !characters.all(is_strange) => Shown::Text(text),
        _ => Shown::Hex(body),
    }
}

/// Characters that are examined to recognise text.
const PROBE_SIZE: usize = 4096;

fn is_strange(character: char) -> bool {
    character.is_control() && !character.is_whitespace()
}

/// Appends a text on one line, without hidden characters.
fn append_escaped(out: &mut String, text: &str) {
    let _ = write!(out, "{}", show(text).whole());
}

/// Whether stdout is a terminal that supports colours.
pub(crate) fn has_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        && io::stdout().is_terminal()
}

pub(crate) const CYAN: &str = "36";
pub(crate) const DIM: &str = "2";
pub(crate) const GREEN: &str = "32";
pub(crate) const YELLOW: &str = "33";

#[cfg(test)]
mod tests {
    use super::*;
    use broker::PeerAddress;
    use broker::record::Origin;
    use zmtp::encode::append_message;

    const STYLE: Style = Style {
        cut: 12,
        has_colour: false,
        has_source: false,
        form: Form::Line,
    };

    fn line(style: Style, direction: Option<Direction>, frames: &[&[u8]]) -> String {
        line_of(style, (direction, None), frames)
    }

    fn line_of(
        style: Style,
        (direction, user): (Option<Direction>, Option<&str>),
        frames: &[&[u8]],
    ) -> String {
        let (mut out, mut wire) = (String::new(), Vec::new());
        append_message(&mut wire, frames);
        let message = Message {
            frames: &wire,
            origin: Origin {
                connection: 0,
                direction,
                is_routed: direction.is_some(),
                peer: direction.map(|_| PeerAddress::Inproc),
                socket_type: None,
                source: "orders",
                user,
            },
            time_ns: 1_001_002_003,
        };
        style.append(&mut out, &message, None);
        out
    }

    #[test]
    fn a_line_has_time_direction_identity_and_frames() {
        assert_eq!(
            line(STYLE, Some(Direction::In), &[b"me", b"", b"hi"]),
            "1970-01-01T00:00:01.001002Z in  me [][hi]\n"
        );
        assert_eq!(
            line(STYLE, Some(Direction::Out), &[b"\0\x80", b"hi"]),
            "1970-01-01T00:00:01.001002Z out 0x0080 [hi]\n"
        );
        let several = Style {
            has_source: true,
            ..STYLE
        };
        assert_eq!(
            line(several, None, &[b"hi"]),
            "1970-01-01T00:00:01.001002Z orders -   - [hi]\n"
        );
    }

    /// A name may have any characters, and must not change what the line seems to say.
    #[test]
    fn a_user_name_is_shown_on_its_line_without_hidden_characters() {
        let long = "x".repeat(65);
        for (user, expected) in [
            ("anna", "me (user anna) [hi]\n".to_owned()),
            ("", "me (user ) [hi]\n".to_owned()),
            (
                "a\n\u{1b}[2J\u{202e}\u{9b}",
                "me (user a\\n\\x1b[2J\\u{202e}\\u{9b}) [hi]\n".to_owned(),
            ),
            (
                &long,
                format!("me (user {}…(+1 byte)) [hi]\n", "x".repeat(64)),
            ),
        ] {
            let shown = line_of(STYLE, (Some(Direction::In), Some(user)), &[b"me", b"hi"]);
            assert_eq!(shown, format!("1970-01-01T00:00:01.001002Z in  {expected}"));
        }
        let json = Style {
            form: Form::Json,
            ..STYLE
        };
        let user = "\",\"x\":\"\n\u{202e}";
        let shown = line_of(json, (Some(Direction::In), Some(user)), &[b"me", b"hi"]);
        let expected = "\"user\":\"\\\",\\\"x\\\":\\\"\\n\\u202e\",\"identity\":\"me\",";
        assert!(shown.contains(expected), "{shown}");
        assert_eq!(shown.lines().count(), 1);
    }

    #[test]
    fn frames_are_shown_by_their_type_and_cut() {
        for (body, expected) in [
            (&b"plain text"[..], "plain text"),
            (b"a long text indeed", "a long text …(18)"),
            (
                "\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}\u{e4}".as_bytes(),
                "ääääää…(14)",
            ),
            (b"two\nlines\t", "two\\nlines\\t"),
            (b"\x01weather", "\\x01weather"),
            (b"\x01", "0x01"),
            (b"\x01\x02a", "0x010261"),
            (b"\x1b[2Jx", "\\x1b[2Jx"),
            ("\u{9b}2Jx".as_bytes(), "\\u{9b}2Jx"),
            ("a\u{202e}b\u{200b}".as_bytes(), "a\\u{202e}b\\u{200b}"),
            (b"\xff\xfe", "0xfffe"),
            (&[0xff; 13], "0xffffffffffffffffffffffff…(13)"),
            (b"{ \"a\" : 1 }", "{\"a\":1}"),
            (b"[1,    2,\n 3,    4]", "[1,2,3,4]"),
            (b"[1, 2, 3, 4, 5, 6]", "[1,2,3,4,5,6…(18)"),
            (b"{not json}", "{not json}"),
        ] {
            let mut out = String::new();
            STYLE.append_frame(&mut out, body);
            assert_eq!(out, expected);
        }
        let mut out = String::new();
        let whole = Style { cut: 0, ..STYLE };
        whole.append_frame(&mut out, &[b'x'; 5000]);
        assert_eq!(out, "x".repeat(5000));
    }

    #[test]
    fn colours_appear_only_if_requested() {
        let colourful = Style {
            has_colour: true,
            ..STYLE
        };
        assert_eq!(
            line(colourful, Some(Direction::In), &[b"me", b"hi"]),
            "\x1b[2m1970-01-01T00:00:01.001002Z\x1b[0m \x1b[32min \x1b[0m \x1b[33mme\x1b[0m \
             \x1b[2m[\x1b[0mhi\x1b[2m]\x1b[0m\n"
        );
    }

    #[test]
    fn json_has_every_byte() {
        let style = Style {
            form: Form::Json,
            ..STYLE
        };
        let frames: [&[u8]; 6] = [
            b"me",
            b"",
            b"a long text, and a \x01 \"",
            b"\xff\x00",
            b"{\"a\": [1]}",
            b"7",
        ];
        assert_eq!(
            line(style, Some(Direction::Out), &frames),
            "{\"time\":\"1970-01-01T00:00:01.001002Z\",\"time_ns\":1001002003,\
             \"source\":\"orders\",\"direction\":\"out\",\"peer\":\"inproc peer\",\
             \"identity\":\"me\",\"size\":37,\"frames\":[{\"text\":\"\"},\
             {\"text\":\"a long text, and a \\u0001 \\\"\"},{\"hex\":\"ff00\"},\
             {\"json\":{\"a\":[1]}},{\"text\":\"7\"}]}\n"
        );
        assert!(line(style, None, &[b"x"]).contains("\"direction\":null,\"size\":1,"));
    }
}
