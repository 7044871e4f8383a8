//! Filters: the messages that a command shows, sends or exports.

use broker::record::{Direction, Message};
use zmtp::Frames;

use super::split;

// Required properties of a message. If an option has several values, any one of them suffices.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct FilterArgs {
    /// in or out: only messages that the frontend, or the backend, received
    #[arg(long, value_enum, hide_possible_values = true, help_heading = FILTERS)]
    pub(crate) direction: Option<DirectionArg>,
    /// Only messages from or for this identity; 0x and digits for bytes
    #[arg(long, value_name = "IDENTITY", help_heading = FILTERS)]
    pub(crate) identity: Vec<String>,
    /// Only messages whose first frame after the envelope has this prefix
    #[arg(long, value_name = "PREFIX", help_heading = FILTERS)]
    pub(crate) topic: Vec<String>,
    /// Only messages with a frame that contains this text
    #[arg(long, value_name = "TEXT", help_heading = FILTERS)]
    pub(crate) text: Vec<String>,
    /// Only messages from this proxy or endpoint
    #[arg(long, value_name = "NAME", help_heading = FILTERS)]
    pub(crate) source: Vec<String>,
    /// In recordings, only messages from peers with this user name
    #[arg(long, value_name = "NAME", help_heading = FILTERS)]
    pub(crate) user: Vec<String>,
}

const FILTERS: &str = "Filters";

/// A direction on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DirectionArg {
    In,
    Out,
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::In => Self::In,
            DirectionArg::Out => Self::Out,
        }
    }
}

/// The same, in the form for [`Filter::accepts`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    direction: Option<Direction>,
    identities: Vec<Vec<u8>>,
    sources: Vec<String>,
    texts: Vec<Vec<u8>>,
    topics: Vec<Vec<u8>>,
    users: Vec<String>,
}

impl Filter {
    pub(crate) fn new(args: &FilterArgs) -> Self {
        let bytes = |texts: &[String]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        Self {
            direction: args.direction.map(Direction::from),
            identities: args.identity.iter().map(|text| identity(text)).collect(),
            sources: args.source.clone(),
            texts: bytes(&args.text),
            topics: bytes(&args.topic),
            users: args.user.clone(),
        }
    }

    /// The only accepted direction, if there is one restriction.
    pub(crate) fn direction(&self) -> Option<Direction> {
        self.direction
    }

    /// Also accepts messages with this text, and no longer those without any of the texts.
    pub(crate) fn add_text(&mut self, text: &str) {
        self.texts.push(text.as_bytes().to_vec());
    }

    /// Whether a message passes.
    pub(crate) fn accepts(&self, message: &Message<'_>) -> bool {
        let Self {
            direction,
            identities,
            sources,
            texts,
            topics,
            users,
        } = self;
        let (identity, mut frames) = split(message);
        (direction.is_none() || message.origin.direction == *direction)
            && any(sources, |source| source == message.origin.source)
            && any(users, |user| Some(&**user) == message.origin.user)
            && any(identities, |wanted| identity == Some(wanted))
            && any(texts, |text| has_text(message, text))
            && (topics.is_empty() || {
                let topic = topic(&mut frames, identity.is_some());
                any(topics, |prefix| topic.starts_with(prefix))
            })
    }
}

/// Whether one value matches, or none is required.
fn any<T>(wanted: &[T], does: impl FnMut(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(does)
}

fn has_text(message: &Message<'_>, text: &[u8]) -> bool {
    Frames::new(message.frames).any(|frame| contains(frame.body, text))
}

/// The first frame that is not part of an envelope.
fn topic<'a>(frames: &mut Frames<'a>, is_routed: bool) -> &'a [u8] {
    let first = frames.next().map(|frame| frame.body).unwrap_or_default();
    if is_routed && first.is_empty() {
        return frames.next().map(|frame| frame.body).unwrap_or_default();
    }
    first
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    let Some(first) = text.first() else {
        return true;
    };
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(text) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Reads an identity in the form in which it is shown: text, or `0x` and pairs of digits.
fn identity(text: &str) -> Vec<u8> {
    let bytes = text.strip_prefix("0x").and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2);
        let byte = |pair: &[u8]| match pair {
            [_, _] => u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok(),
            _ => None,
        };
        pairs.map(byte).collect::<Option<Vec<u8>>>()
    });
    bytes.unwrap_or_else(|| text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::record::Origin;
    use zmtp::encode::append_message;

    /// Whether a filter of these arguments accepts a message.
    fn accepts(
        change: impl FnOnce(&mut FilterArgs),
        direction: Option<Direction>,
        is_routed: bool,
        frames: &[&[u8]],
    ) -> bool {
        let (mut args, mut wire) = (FilterArgs::default(), Vec::new());
        change(&mut args);
        append_message(&mut wire, frames);
        let origin = Origin {
            connection: 0,
            direction,
            is_routed,
            peer: None,
            socket_type: None,
            source: "queue",
            user: Some("anna"),
        };
        Filter::new(&args).accepts(&Message {
            frames: &wire,
            origin,
            time_ns: 0,
        })
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn directions_are_exact() {
        for direction in [None, Some(Direction::In), Some(Direction::Out)] {
            assert!(accepts(|_| (), direction, false, &[b"x"]));
            let wants_in = accepts(
                |args| args.direction = Some(DirectionArg::In),
                direction,
                false,
                &[b"x"],
            );
            assert_eq!(wants_in, direction == Some(Direction::In));
        }
    }

    #[test]
    fn identities_are_whole_and_may_be_bytes() {
        let message: [&[u8]; 3] = [b"\0\xff\x10", b"", b"client"];
        for (wanted, expected) in [
            (&["0x00ff10"][..], true),
            (&["0x00FF10"], true),
            (&["0x00ff"], false),
            (&["0x00ff1"], false),
            (&["client"], false),
            (&["client", "0x00ff10"], true),
        ] {
            let set = |args: &mut FilterArgs| args.identity = texts(wanted);
            assert_eq!(accepts(set, None, true, &message), expected, "{wanted:?}");
            assert!(!accepts(set, None, false, &message), "it has no identity");
        }
        let set = |args: &mut FilterArgs| args.identity = texts(&["0xylophone"]);
        assert!(accepts(set, None, true, &[b"0xylophone", b""]));
    }

    #[test]
    fn the_topic_follows_the_envelope() {
        let set = |args: &mut FilterArgs| args.topic = texts(&["we", "news"]);
        for (is_routed, frames, expected) in [
            (false, &[&b"weather"[..], b"x"][..], true),
            (false, &[b"new"], false),
            (false, &[b"x", b"weather"], false),
            (false, &[b"", b"weather"], false),
            (true, &[b"id", b"weather"], true),
            (true, &[b"id", b"", b"weather"], true),
            (true, &[b"weather", b"", b"x"], false),
            (true, &[b"weather"], false),
        ] {
            assert_eq!(
                accepts(set, None, is_routed, frames),
                expected,
                "{frames:?}"
            );
        }
    }

    #[test]
    fn text_may_be_anywhere() {
        for (text, expected) in [
            ("id", true),
            ("aab", true),
            ("b\u{e9}", true),
            ("aaab", false),
            ("idaa", false),
            ("", true),
        ] {
            let set = |args: &mut FilterArgs| args.text = texts(&[text]);
            let frames: [&[u8]; 2] = [b"id", "aab\u{e9}\u{e9}".as_bytes()];
            assert_eq!(accepts(set, None, true, &frames), expected, "{text}");
        }
    }

    #[test]
    fn sources_and_several_options_together() {
        let set = |args: &mut FilterArgs| args.source = texts(&["queue"]);
        assert!(accepts(set, None, false, &[b"x"]));
        let set = |args: &mut FilterArgs| args.source = texts(&["que"]);
        assert!(!accepts(set, None, false, &[b"x"]));
        for (users, expected) in [
            (&["anna"][..], true),
            (&["ann"], false),
            (&["b", "anna"], true),
        ] {
            let set = |args: &mut FilterArgs| args.user = texts(users);
            assert_eq!(accepts(set, None, false, &[b"x"]), expected, "{users:?}");
        }
        let both = |args: &mut FilterArgs| {
            args.text = texts(&["x"]);
            args.topic = texts(&["y"]);
        };
        assert!(!accepts(both, None, false, &[b"x"]));
        assert!(accepts(both, None, false, &[b"y", b"x"]));
    }
}
