//! What a proxy shows of the messages that pass: copies for its capture, counts for its control.

use crate::config::{CaptureFormat, ProxyConfig, Side, SocketName};
use crate::ids::ConnId;
use crate::peer::PeerAddress;
use crate::record::{Direction, Origin, Tape};
use zmtp::encode::append_frame;
use zmtp::{Frames, SocketType};

/// What has been received through one side, as `zmq_proxy_steerable` counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bytes of the bodies of frames, identities included.
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
}

/// Who looks at the messages of a proxy, and how.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Whether messages wait for a reader of the capture, also while there is no reader.
    pub(crate) blocks: bool,
    format: CaptureFormat,
    has_control: bool,
    /// The name of the proxy.
    name: String,
    /// Somebody looks; if not, messages pass without a second glance.
    pub(crate) is_active: bool,
    /// ROUTER:ROUTER, whose messages are shown as they go out.
    is_exchange: bool,
    passed: [Passed; 2],
    /// Records every message.
    tape: Option<Box<dyn Tape>>,
    /// Those of both sides.
    types: [SocketType; 2],
    /// The frames that say the direction.
    prefixes: [Vec<u8>; 2],
}

impl Watch {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        let capture = &config.capture;
        let prefixes = match capture.format {
            CaptureFormat::Monitored => [&capture.in_prefix, &capture.out_prefix].map(|prefix| {
                let mut frame = Vec::new();
                append_frame(&mut frame, prefix.as_bytes(), true);
                frame
            }),
            CaptureFormat::Proxy => Default::default(),
        };
        let has_control = config.control.socket.has_endpoint();
        let types = SocketName::SIDES.map(|side| config.socket_type(side));
        let blocks = capture.blocks();
        Self {
            blocks,
            format: capture.format,
            has_control,
            name: config.name.clone(),
            is_active: blocks || has_control,
            is_exchange: types == [SocketType::Router; 2],
            passed: Default::default(),
            prefixes,
            tape: None,
            types,
        }
    }

    /// The capture has that many peers now.
    pub(crate) fn has_readers(&mut self, peers: usize) {
        self.is_active = self.blocks || self.has_control || self.tape.is_some() || peers > 0;
    }

    /// From now on every message is recorded.
    pub(crate) fn set_tape(&mut self, tape: Box<dyn Tape>) {
        self.tape = Some(tape);
        self.is_active = true;
    }

    /// Records a message from `id`, which came in through `side` and goes on.
    pub(crate) fn record(
        &mut self,
        side: Side,
        id: ConnId,
        peer: Option<PeerAddress>,
        parts: &[&[u8]],
    ) {
        let Some(tape) = &mut self.tape else {
            return;
        };
        let origin = Origin {
            connection: id.number(),
            direction: Some(match side {
                Side::Backend => Direction::Out,
                Side::Frontend => Direction::In,
            }),
            is_routed: self.types.contains(&SocketType::Router),
            peer,
            socket_type: Some(self.types[index(side)]),
            source: &self.name,
        };
        tape.push(&origin, parts);
    }

    pub(crate) fn tape(&self) -> Option<&dyn Tape> {
        self.tape.as_deref()
    }

    pub(crate) fn tape_mut(&mut self) -> Option<&mut (dyn Tape + 'static)> {
        self.tape.as_deref_mut()
    }

    /// Puts what stands in front of a copy of a message into `head`; answers how many bytes of the
    /// message are in there already.
    ///
    /// The message came in through `side` and is `identity` and then `wire`.
    pub(crate) fn begin(
        &self,
        side: Side,
        identity: &[u8],
        wire: &[u8],
        head: &mut Vec<u8>,
    ) -> usize {
        head.clear();
        head.extend_from_slice(&self.prefixes[index(side)]);
        let mut frames = Frames::new(wire);
        match (self.is_exchange, self.format, frames.next()) {
            (true, CaptureFormat::Monitored, Some(target)) => {
                append_frame(head, target.body, true);
                if target.more {
                    head.extend_from_slice(identity);
                } else {
                    let sender = Frames::new(identity).next();
                    append_frame(head, sender.map_or(&[], |frame| frame.body), false);
                }
                wire.len() - frames.rest().len()
            }
            _ => {
                head.extend_from_slice(identity);
                0
            }
        }
    }

    /// Whether the first frame of a copy says where the message came from, and no more than that
    /// decides who wants it.
    pub(crate) fn leads_with_direction(&self) -> bool {
        self.format == CaptureFormat::Monitored && !self.is_exchange
    }

    /// A message came in through `side` and went on.
    pub(crate) fn count(&mut self, side: Side, identity: &[u8], wire: &[u8]) {
        if self.has_control {
            let passed = &mut self.passed[index(side)];
            for frame in Frames::new(identity).chain(Frames::new(wire)) {
                passed.frames += 1;
                passed.bytes += frame.body.len() as u64;
            }
        }
    }

    /// What came in through `side` and went on.
    pub(crate) fn passed(&self, side: Side) -> Passed {
        self.passed[index(side)]
    }
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Backend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;
    use zmtp::encode::append_message;

    fn message(frames: &[&[u8]]) -> Vec<u8> {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        wire
    }

    fn identity(name: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        append_frame(&mut frame, name, true);
        frame
    }

    fn copy(config: &ProxyConfig, side: Side, from: &[u8], frames: &[&[u8]]) -> Vec<u8> {
        let (wire, mut head) = (message(frames), Vec::new());
        let from = if from.is_empty() {
            Vec::new()
        } else {
            identity(from)
        };
        let skip = Watch::new(config).begin(side, &from, &wire, &mut head);
        head.extend_from_slice(&wire[skip..]);
        head
    }

    #[test]
    fn copies_begin_with_their_direction() {
        let config = ProxyConfig::new(Kind::ALL[0], "queue");
        assert_eq!(
            copy(&config, Side::Frontend, b"a", &[b"", b"1"]),
            message(&[b"in", b"a", b"", b"1"])
        );
        assert_eq!(
            copy(&config, Side::Backend, b"", &[b"a", b"", b"2"]),
            message(&[b"out", b"a", b"", b"2"])
        );
    }

    #[test]
    fn copies_as_zmq_proxy_makes_them_are_the_message() {
        let mut config = ProxyConfig::new(Kind::ALL[0], "queue");
        config.capture.format = CaptureFormat::Proxy;
        assert_eq!(
            copy(&config, Side::Frontend, b"a", &[b"", b"1"]),
            message(&[b"a", b"", b"1"])
        );
    }

    #[test]
    fn what_two_routers_exchange_is_shown_as_it_goes_out() {
        let kind = Kind::pair(SocketType::Router, SocketType::Router).expect("a proxy");
        let mut config = ProxyConfig::new(kind, "exchange");
        let shown = copy(&config, Side::Frontend, b"a", &[b"b", b"hello"]);
        assert_eq!(shown, message(&[b"in", b"b", b"a", b"hello"]));
        let shown = copy(&config, Side::Frontend, b"a", &[b"b"]);
        assert_eq!(shown, message(&[b"in", b"b", b"a"]));
        config.capture.format = CaptureFormat::Proxy;
        let shown = copy(&config, Side::Frontend, b"a", &[b"b", b"hello"]);
        assert_eq!(shown, message(&[b"a", b"b", b"hello"]));
    }

    #[test]
    fn frames_and_the_bytes_in_them_are_counted_where_somebody_can_ask() {
        let mut config = ProxyConfig::new(Kind::ALL[0], "queue");
        let count = |config: &ProxyConfig| {
            let mut watch = Watch::new(config);
            watch.count(Side::Frontend, &identity(b"abc"), &message(&[b"", b"1234"]));
            (watch.passed(Side::Frontend), watch.passed(Side::Backend))
        };
        assert_eq!(count(&config), Default::default());
        let endpoint = "tcp://127.0.0.1:1".parse().expect("an endpoint");
        config.control.socket.bind.push(endpoint);
        let expected = Passed {
            bytes: 7,
            frames: 3,
        };
        assert_eq!(count(&config), (expected, Passed::default()));
    }
}
