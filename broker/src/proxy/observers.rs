//! The observers of a proxy's messages: the capture, the recording and the counters.
//!
//! Each has a type of its own, and takes note of a message in one method.

use crate::config::{CaptureFormat, ProxyConfig, Side, SocketName};
use crate::conn::egress::{Shared, Store};
use crate::ids::ConnId;
use crate::peer::PeerAddress;
use crate::proxy::cache::{Cache, Passing};
use crate::proxy::ring::Ring;
use crate::proxy::sample::{self, Sample};
use crate::proxy::topic_counts::TopicCounts;
use crate::record::{Direction, Origin, Tape};
use zmtp::encode::append_frame;
use zmtp::{Frames, SocketType};

/// All observers of a proxy.
#[derive(Debug)]
pub(crate) struct Observers {
    pub(crate) capture: Capture,
    pub(crate) counters: Counters,
    /// Whether any of them takes note of messages; if not, forwarding skips them.
    is_active: bool,
    kept: Kept,
    pub(crate) recording: Recording,
    pub(crate) sample: Option<Box<Sample>>,
    topics: TopicCounts,
}

/// Keeps messages from publishers.
#[derive(Debug, Default)]
struct Kept {
    cache: Option<Box<Cache>>,
    /// The side of the publishers, if there is one.
    from: Option<Side>,
    ring: Option<Box<Ring>>,
}

/// Messages received by one side, as `zmq_proxy_steerable` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Bytes of the bodies of frames, identities included.
    pub(crate) bytes: u64,
    pub(crate) frames: u64,
}

/// Counts messages, if a control can ask for the counters.
#[derive(Debug)]
pub(crate) struct Counters {
    has_control: bool,
    passed: [Passed; 2],
}

/// Records every message, if a tape is set.
#[derive(Debug)]
pub(crate) struct Recording {
    /// The name of the proxy.
    name: String,
    tape: Option<Box<dyn Tape>>,
    /// The socket types of both sides.
    types: [SocketType; 2],
}

/// The form of the copies that the capture sends.
#[derive(Debug)]
pub(crate) struct Capture {
    /// Whether messages wait for a reader of the capture, even before one has connected.
    pub(crate) blocks: bool,
    format: CaptureFormat,
    has_readers: bool,
    /// ROUTER:ROUTER, whose messages are shown in their outgoing form.
    is_exchange: bool,
    /// The frames with the direction.
    prefixes: [Vec<u8>; 2],
}

impl Observers {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        let types = SocketName::SIDES.map(|side| config.socket_type(side));
        let mut observers = Self {
            capture: Capture::new(config, types),
            counters: Counters {
                has_control: config.control.socket.has_endpoint(),
                passed: Default::default(),
            },
            is_active: false,
            kept: Kept::new(config),
            recording: Recording {
                name: config.name.clone(),
                tape: None,
                types,
            },
            sample: None,
            topics: TopicCounts::default(),
        };
        observers.decide();
        observers
    }

    /// Whether any of them takes note of messages.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.is_active
    }

    /// Capture and control are as in this configuration from now on; the capture has this number of
    /// peers. Counting begins anew with a new control.
    pub(crate) fn set_config(&mut self, config: &ProxyConfig, readers: usize) {
        self.capture = Capture::new(config, self.recording.types);
        let has_control = config.control.socket.has_endpoint();
        if self.counters.has_control != has_control {
            self.counters = Counters {
                has_control,
                passed: Default::default(),
            };
        }
        self.kept.set_config(config);
        self.set_readers(readers);
    }

    /// Numbers the messages of a new ring from here on.
    pub(crate) fn number_from(&mut self, first: u64) {
        if let Some(ring) = &mut self.kept.ring {
            ring.number_from(first);
        }
    }

    /// Takes note of a message that `side` received and that goes on, if it is to be kept.
    #[inline]
    pub(crate) fn keep(
        &mut self,
        side: Side,
        (wire, shared): (&[u8], Option<&Shared>),
        store: &Store,
    ) {
        let Kept { cache, from, ring } = &mut self.kept;
        if *from != Some(side) {
            return;
        }
        let stamp = store.stamp;
        let sequence = ring.as_ref().map_or(0, |ring| ring.next());
        if let Some(ring) = ring {
            ring.push(wire, stamp);
        }
        if let Some(cache) = cache {
            let message = Passing {
                sequence,
                shared,
                stamp: signed(stamp),
                wire,
            };
            cache.keep(&message, store);
        }
    }

    /// The number of topics that messages have added to the last values, or removed, since the last
    /// call.
    #[inline]
    pub(crate) fn take_changed_topics(&mut self) -> u64 {
        self.cache_mut().map_or(0, Cache::take_changed)
    }

    /// Whether it keeps messages.
    pub(crate) fn keeps(&self) -> bool {
        self.kept.cache.is_some() || self.kept.ring.is_some()
    }

    /// Whether messages from publishers get their numbers behind them.
    pub(crate) fn is_numbered(&self) -> bool {
        self.kept.ring.as_ref().is_some_and(|ring| ring.is_shown)
    }

    /// The number of the next message that this side receives, if that gets it behind it.
    pub(crate) fn next_number(&self, side: Side) -> Option<u64> {
        let ring = self.kept.ring.as_ref()?;
        (ring.is_shown && self.kept.from == Some(side)).then(|| ring.next())
    }

    /// The last values.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.kept.cache.as_deref()
    }

    /// The last values, to be changed.
    pub(crate) fn cache_mut(&mut self) -> Option<&mut Cache> {
        self.kept.cache.as_deref_mut()
    }

    /// The messages that can be sent again.
    pub(crate) fn ring(&self) -> Option<&Ring> {
        self.kept.ring.as_deref()
    }

    /// The messages that can be sent again, to be changed.
    pub(crate) fn ring_mut(&mut self) -> Option<&mut Ring> {
        self.kept.ring.as_deref_mut()
    }

    /// A peer has gone.
    pub(crate) fn forget(&mut self, id: ConnId) {
        let Kept { cache, ring, .. } = &mut self.kept;
        cache.iter_mut().for_each(|cache| cache.forget(id));
        ring.iter_mut().for_each(|ring| ring.forget(id));
    }

    /// Puts a peer in line for what it waits for.
    pub(crate) fn line_up(&mut self, id: ConnId) {
        let Kept { cache, ring, .. } = &mut self.kept;
        cache.iter_mut().for_each(|cache| cache.line_up(id));
        ring.iter_mut().for_each(|ring| ring.line_up(id));
    }

    /// Whether work on what it keeps is left that needs no event.
    pub(crate) fn has_kept_work(&self) -> bool {
        self.cache().is_some_and(Cache::has_work) || self.ring().is_some_and(Ring::has_line)
    }

    /// Bytes of all that it keeps, in constant time.
    pub(crate) fn kept_memory(&self) -> KeptMemory {
        let (cache, ring) = (self.cache(), self.ring());
        KeptMemory {
            messages: cache.map_or(0, Cache::memory) + ring.map_or(0, Ring::memory),
            requests: ring.map_or(0, Ring::requests_memory),
            shared: cache.map_or(0, Cache::shared_bytes),
            wishes: cache.map_or(0, Cache::wishes_memory),
        }
    }

    /// The same, recounted.
    pub(crate) fn walk_kept(&self) -> KeptMemory {
        let (cache, ring) = (self.cache(), self.ring());
        let shared = cache.into_iter().flat_map(Cache::shared);
        KeptMemory {
            messages: cache.map_or(0, Cache::walk) + ring.map_or(0, Ring::walk),
            requests: ring.map_or(0, Ring::walk_requests),
            shared: shared.map(Shared::block_size).sum(),
            wishes: cache.map_or(0, Cache::walk_wishes),
        }
    }

    /// Sets the number of the capture's peers.
    pub(crate) fn set_readers(&mut self, peers: usize) {
        self.capture.has_readers = peers > 0;
        self.decide();
    }

    /// Records every message from now on, or none any more.
    pub(crate) fn set_tape(&mut self, tape: Option<Box<dyn Tape>>) {
        self.recording.tape = tape;
        self.decide();
    }

    /// The messages with this topic that `side` has received since the first question of this
    /// client about them; `None`: too many are counted.
    pub(crate) fn count_topic(
        &mut self,
        owner: Option<ConnId>,
        side: Option<Side>,
        prefix: &[u8],
    ) -> Option<u64> {
        let messages = self.topics.ask(owner, side, prefix);
        self.decide();
        messages
    }

    /// Begins or ends a sample of messages.
    pub(crate) fn set_sample(&mut self, sample: Option<Sample>) {
        self.sample = sample.map(Box::new);
        self.decide();
    }

    /// Ends the counts of a client of a control.
    pub(crate) fn forget_topics(&mut self, owner: ConnId) {
        if !self.topics.is_empty() {
            self.topics.forget(owner);
            self.decide();
        }
    }

    /// Counts a message that `side` received and that goes on.
    #[inline]
    pub(crate) fn count(&mut self, side: Side, identity: &[u8], wire: &[u8]) {
        self.counters.count(side, identity, wire);
        self.topics.count(side, wire);
    }

    /// Bytes of the counts of clients, and of a sample.
    pub(crate) fn memory(&self) -> u64 {
        let sample = self.sample.as_ref().map_or(0, |_| sample::MEMORY);
        self.topics.memory() + sample
    }

    /// All that the configuration determines, but for the recording.
    pub(crate) fn configured(&self) -> String {
        let (capture, has_control) = (&self.capture, self.counters.has_control);
        let cache = self.cache().map(Cache::config);
        let ring = self.ring().map(Ring::limits);
        let is_active = self.is_active;
        format!("{capture:?}, control: {has_control}, {cache:?}, {ring:?}, {is_active}")
    }

    fn decide(&mut self) {
        let Capture {
            blocks,
            has_readers,
            ..
        } = self.capture;
        let is_kept = self.counters.has_control || self.recording.tape.is_some();
        let is_asked = !self.topics.is_empty() || self.sample.is_some();
        self.is_active = blocks || has_readers || is_kept || self.keeps() || is_asked;
    }
}

/// Bytes of what proxies keep of passing messages, by use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptMemory {
    /// Messages of caches and rings, without those that queues may share.
    pub(crate) messages: u64,
    /// Requests for messages of rings.
    pub(crate) requests: u64,
    /// Messages that queues may share, as the account of the queues counts them.
    pub(crate) shared: u64,
    /// Subscriptions whose last values are still to be sent.
    pub(crate) wishes: u64,
}

impl KeptMemory {
    /// The sum of each.
    pub(crate) fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            requests: self.requests + other.requests,
            shared: self.shared + other.shared,
            wishes: self.wishes + other.wishes,
        }
    }
}

/// A time stamp that can be before the beginning.
pub(crate) fn signed(stamp: u64) -> i64 {
    i64::try_from(stamp).unwrap_or(i64::MAX)
}

impl Kept {
    fn new(config: &ProxyConfig) -> Self {
        let mut kept = Self {
            from: config.publishers(),
            ..Self::default()
        };
        kept.set_config(config);
        kept
    }

    /// Keeps messages as in this configuration from now on.
    fn set_config(&mut self, config: &ProxyConfig) {
        match (&mut self.cache, &config.cache) {
            (Some(cache), Some(config)) if cache.config() != config => {
                cache.set_config(config.clone());
            }
            (Some(_), Some(_)) => {}
            (cache, config) => *cache = config.clone().map(|it| Box::new(Cache::new(it))),
        }
        let replay = Some(&config.replay).filter(|it| it.socket.has_endpoint());
        match (&mut self.ring, replay) {
            (Some(ring), Some(replay)) => ring.set_config(replay),
            (ring, replay) => *ring = replay.map(|it| Box::new(Ring::new(it))),
        }
    }
}

impl Counters {
    /// Counts a message that `side` received and that goes on.
    pub(crate) fn count(&mut self, side: Side, identity: &[u8], wire: &[u8]) {
        if !self.has_control {
            return;
        }
        let passed = &mut self.passed[index(side)];
        for frame in Frames::new(identity).chain(Frames::new(wire)) {
            passed.frames += 1;
            passed.bytes += frame.body.len() as u64;
        }
    }

    /// The messages that `side` received and that went on.
    pub(crate) fn passed(&self, side: Side) -> Passed {
        self.passed[index(side)]
    }
}

impl Recording {
    /// Records a message from `id` that `side` received and that goes on. `peer` is the sender: its
    /// address, and its user name if known.
    pub(crate) fn record(
        &mut self,
        side: Side,
        id: ConnId,
        peer: Option<(PeerAddress, Option<&str>)>,
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
            peer: peer.map(|(address, _)| address),
            socket_type: Some(self.types[index(side)]),
            source: &self.name,
            user: peer.and_then(|(_, user)| user),
        };
        tape.push(&origin, parts);
    }

    pub(crate) fn tape(&self) -> Option<&dyn Tape> {
        self.tape.as_deref()
    }

    pub(crate) fn tape_mut(&mut self) -> Option<&mut (dyn Tape + 'static)> {
        self.tape.as_deref_mut()
    }
}

impl Capture {
    fn new(config: &ProxyConfig, types: [SocketType; 2]) -> Self {
        let capture = &config.capture;
        let prefixes = match capture.format {
            CaptureFormat::Monitored => [&capture.in_prefix, &capture.out_prefix].map(|prefix| {
                let mut frame = Vec::new();
                append_frame(&mut frame, prefix.as_bytes(), true);
                frame
            }),
            CaptureFormat::Proxy => Default::default(),
        };
        Self {
            blocks: capture.blocks(),
            format: capture.format,
            has_readers: false,
            is_exchange: types == [SocketType::Router; 2],
            prefixes,
        }
    }

    /// Puts the bytes in front of a copy of a message into `head`; returns the number of bytes of
    /// the message that it contains already.
    ///
    /// The message was received by `side` and consists of `identity`, then `wire`.
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

    /// Whether the first frame of a copy is the direction of the message, which alone decides which
    /// readers get it.
    pub(crate) fn leads_with_direction(&self) -> bool {
        self.format == CaptureFormat::Monitored && !self.is_exchange
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
        let skip = Observers::new(config)
            .capture
            .begin(side, &from, &wire, &mut head);
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
    fn messages_between_two_routers_are_shown_in_their_outgoing_form() {
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
    fn frames_and_the_bytes_in_them_are_counted_where_a_control_can_ask() {
        let mut config = ProxyConfig::new(Kind::ALL[0], "queue");
        let count = |config: &ProxyConfig| {
            let mut counters = Observers::new(config).counters;
            counters.count(Side::Frontend, &identity(b"abc"), &message(&[b"", b"1234"]));
            (
                counters.passed(Side::Frontend),
                counters.passed(Side::Backend),
            )
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
