//! Formats of capture sockets: the representation of direction and identity.

use broker::record::Direction;
use zmtp::Frames;

// The format of captured messages.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FormatArgs {
    /// auto, monitored or proxy: how a capture marks the direction
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) format: Format,
    /// First frame of copies from the frontend
    #[arg(long, value_name = "TEXT", default_value = "in")]
    pub(crate) in_prefix: String,
    /// First frame of copies from the backend
    #[arg(long, value_name = "TEXT", default_value = "out")]
    pub(crate) out_prefix: String,
    /// auto, routed or none: whether the first frame is an identity
    #[arg(long, value_enum, default_value_t = Envelope::Auto)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub(crate) envelope: Envelope,
}

/// How a capture marks the direction. Doc comments on the variants would double the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // By a first frame that is one of the prefixes; other messages have no direction.
    Auto,
    // By a first frame that is one of the prefixes; other messages are skipped.
    Monitored,
    // Not at all: the frames are as the proxy forwarded them.
    Proxy,
}

/// Whether the first frame is an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Envelope {
    // If the direction is known and an empty frame follows, or if it looks like a ROUTER's own.
    Auto,
    // Always: the proxy has a ROUTER.
    Routed,
    // Never.
    None,
}

/// A captured message without the frame that the capture added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Captured<'a> {
    pub(crate) direction: Option<Direction>,
    /// In wire form.
    pub(crate) frames: &'a [u8],
    pub(crate) is_routed: bool,
}

impl FormatArgs {
    /// Reads a captured message in wire form; `None` if it has another format.
    pub(crate) fn read<'a>(&self, captured: &'a [u8]) -> Option<Captured<'a>> {
        let (direction, frames) = match (self.format, self.prefixed(captured)) {
            (Format::Proxy, _) | (Format::Auto, None) => (None, captured),
            (Format::Auto | Format::Monitored, Some((direction, frames))) => {
                (Some(direction), frames)
            }
            (Format::Monitored, None) => return None,
        };
        let is_routed = match self.envelope {
            Envelope::Auto => has_identity(direction.is_some(), frames),
            Envelope::Routed => true,
            Envelope::None => false,
        };
        Some(Captured {
            direction,
            frames,
            is_routed,
        })
    }

    /// Whether no message can have a direction.
    pub(crate) fn is_undirected(&self) -> bool {
        self.format == Format::Proxy
    }

    /// The topic to subscribe to for these directions; `None` means all.
    pub(crate) fn topic(&self, direction: Option<Direction>) -> &[u8] {
        match direction {
            None => b"",
            Some(Direction::In) => self.in_prefix.as_bytes(),
            Some(Direction::Out) => self.out_prefix.as_bytes(),
        }
    }

    fn prefixed<'a>(&self, captured: &'a [u8]) -> Option<(Direction, &'a [u8])> {
        let mut frames = Frames::new(captured);
        let first = frames.next().filter(|first| first.more)?;
        let direction = match first.body {
            prefix if prefix == self.in_prefix.as_bytes() => Direction::In,
            prefix if prefix == self.out_prefix.as_bytes() => Direction::Out,
            _ => return None,
        };
        Some((direction, frames.rest()))
    }
}

/// Whether the first frame looks like an identity. An empty frame after it counts only in captures
/// that mark directions: elsewhere it may as well follow a topic, as an empty body.
fn has_identity(is_directed: bool, frames: &[u8]) -> bool {
    let mut frames = Frames::new(frames);
    let (Some(first), Some(second)) = (frames.next(), frames.next()) else {
        return false;
    };
    let size = first.body.len();
    let is_made_up = first.body.first() == Some(&0) && MADE_UP_SIZES.contains(&size);
    let is_delimited = is_directed && second.body.is_empty() && second.more;
    is_made_up || is_delimited && (1..=zmtp::limits::IDENTITY_SIZE_MAX).contains(&size)
}

/// Sizes of the identities that libzmq and zmqd generate for peers without one. They begin with a
/// zero byte, which RFC 37 forbids in other identities.
const MADE_UP_SIZES: [usize; 2] = [5, 9];

#[cfg(test)]
mod tests {
    use super::*;
    use zmtp::encode::append_message;

    fn args() -> FormatArgs {
        FormatArgs {
            format: Format::Auto,
            in_prefix: "in".to_owned(),
            out_prefix: "out".to_owned(),
            envelope: Envelope::Auto,
        }
    }

    fn wire(frames: &[&str]) -> Vec<u8> {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        wire
    }

    #[test]
    fn the_direction_is_a_whole_first_frame() {
        let (auto, incoming, outgoing) = (args(), Some(Direction::In), Some(Direction::Out));
        for (captured, direction, frames) in [
            (
                &["in", "topic", "body"][..],
                incoming,
                &["topic", "body"][..],
            ),
            (&["out", "x"], outgoing, &["x"]),
            (&["in"], None, &["in"]),
            (&["inn", "x"], None, &["inn", "x"]),
            (&["topic", "in"], None, &["topic", "in"]),
        ] {
            let captured = wire(captured);
            let captured_message = auto.read(&captured).expect("any format");
            assert_eq!(captured_message.direction, direction);
            assert_eq!(captured_message.frames, wire(frames));
        }
        let prefixes = FormatArgs {
            in_prefix: "<".to_owned(),
            out_prefix: "in".to_owned(),
            ..args()
        };
        let direction = |captured: &[&str]| prefixes.read(&wire(captured)).unwrap().direction;
        assert_eq!(direction(&["<", "x"]), incoming);
        assert_eq!(direction(&["in", "x"]), outgoing);
        assert_eq!(prefixes.topic(incoming), b"<");
        assert_eq!(prefixes.topic(None), b"");
    }

    #[test]
    fn a_format_can_be_forced() {
        let (with, without) = (wire(&["in", "x"]), wire(&["x", "y"]));
        let monitored = FormatArgs {
            format: Format::Monitored,
            ..args()
        };
        assert!(monitored.read(&with).is_some());
        assert_eq!(monitored.read(&without), None);
        let proxy = FormatArgs {
            format: Format::Proxy,
            ..args()
        };
        assert_eq!(proxy.read(&with).unwrap().frames, with);
        assert_eq!(proxy.read(&with).unwrap().direction, None);
    }

    #[test]
    fn the_next_frame_shows_an_identity() {
        for (frames, expected) in [
            (&["client", "", "body"][..], true),
            (&["client", ""], false),
            (&["client", "body", ""], false),
            (&["", "", "body"], false),
            (&["topic", "body"], false),
            (&["\0abcd", "body"], true),
            (&["\0abcdefgh", "body"], true),
            (&["\0abcd"], false),
            (&["\0abc", "body"], false),
        ] {
            assert_eq!(has_identity(true, &wire(frames)), expected, "{frames:?}");
        }
        assert!(!has_identity(false, &wire(&["client", "", "body"])));
        assert!(has_identity(false, &wire(&["\0abcd", "body"])));
        for (envelope, expected) in [(Envelope::Routed, true), (Envelope::None, false)] {
            let forced = FormatArgs { envelope, ..args() };
            for frames in [&["a", "b"][..], &["a", "", "b"]] {
                assert_eq!(forced.read(&wire(frames)).unwrap().is_routed, expected);
            }
        }
    }
}
