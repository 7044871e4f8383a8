//! State that everything in a run shares: the clock, future events, cables, numbers, records.

use crate::curve::SERVER_KEYS;
use crate::message::{Header, Purpose, Style};
use crate::net::{Cable, Plug};
use crate::random::Random;
use crate::trace::Trace;
use broker::config::SocketName;
use broker::{LinkId, ListenerId};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// A socket, by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SocketKey {
    /// The index of its proxy.
    pub(crate) proxy: u32,
    pub(crate) side: SocketName,
}

impl SocketKey {
    /// The socket of the other side, which an auxiliary socket does not have.
    pub(crate) fn across(self) -> Option<Self> {
        let side = self.side.side()?.opposite().into();
        Some(Self { side, ..self })
    }
}

/// Nanoseconds since the run began.
pub(crate) type Nanos = u64;

pub(crate) const MILLISECOND: Nanos = 1_000_000;
pub(crate) const SECOND: Nanos = 1000 * MILLISECOND;

/// The owner of one end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Node(usize),
    Peer(usize),
}

/// Something that happens at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// An end learns that the connection is lost.
    Break { plug: Plug, kind: ErrorKind },
    /// The other end has read so much.
    Credit { plug: Plug, size: usize },
    /// Bytes, or the end of them, come to an end.
    Deliver { plug: Plug },
    /// A peer or broker tries to connect.
    Dial(Dial),
    /// A fault occurs.
    Fault,
    /// A peer acts.
    Peer(usize),
    /// An end learns that its connection is lost.
    Tell { plug: Plug },
    /// A broker's event loop runs a turn.
    Turn(usize),
}

/// An attempt to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) from: Owner,
    /// The link, if a broker connects.
    pub(crate) link: Option<LinkId>,
    pub(crate) port: u16,
}

/// The owner of a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listener {
    pub(crate) is_up: bool,
    pub(crate) owner: Owner,
    /// The socket and the handle of its listener, if a broker listens.
    pub(crate) socket: Option<(SocketKey, ListenerId)>,
}

/// Future events, the earliest first; simultaneous ones in random order.
#[derive(Debug)]
pub(crate) struct Queue {
    count: u64,
    events: BTreeMap<(Nanos, u64), Event>,
    random: Random,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Nanos, event: Event) {
        self.count += 1;
        let order = self.random.next() << 40 | self.count;
        self.events.insert((at, order), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Nanos, Event)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }

    pub(crate) fn next(&self) -> Option<Nanos> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }
}

/// One connection of one peer, as a sender of messages.
#[derive(Debug)]
pub(crate) struct Sender {
    /// The proxies that its messages may pass.
    pub(crate) group: usize,
    pub(crate) identity: Vec<u8>,
    pub(crate) is_liar: bool,
}

/// The counts of events that one run may lack, but not a hundred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    pub(crate) fn add(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    pub(crate) fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            self.add(what, *count);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(what, count)| (*what, *count))
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) base: Instant,
    pub(crate) cables: Vec<Cable>,
    pub(crate) coverage: Coverage,
    /// The proxies behind each port.
    pub(crate) groups: BTreeMap<u16, usize>,
    /// Identities that workers of any proxy have received.
    pub(crate) identities: Vec<Vec<u8>>,
    /// No faults, misbehaving or slow peers: no peer may be declared dead.
    pub(crate) is_fair: bool,
    /// All cables are equally fast, so that bytes sent at once arrive at once.
    pub(crate) is_even: bool,
    /// Messages that two brokers exchange may come over a former connection after those over its
    /// successor.
    pub(crate) may_overtake: bool,
    /// Heartbeats are in use, so networks must be fast enough for them.
    pub(crate) has_beats: bool,
    /// The final phase: no new faults, no slow peers, and no new messages.
    pub(crate) is_calm: bool,
    /// The brokers stop: closed peers do not reconnect.
    pub(crate) is_over: bool,
    /// Ends of connections whose peers have waited for the end of a handshake for too long.
    pub(crate) kept_waiting: Vec<Plug>,
    pub(crate) now: Nanos,
    pub(crate) ports: BTreeMap<u16, Listener>,
    pub(crate) queue: Queue,
    pub(crate) random: Random,
    /// Requests and items that reached a peer: each at most once.
    received: BTreeSet<(Purpose, u32, u32)>,
    pub(crate) senders: Vec<Sender>,
    /// The ports behind which brokers have their second key.
    pub(crate) second_keys: BTreeSet<u16>,
    /// The time at which a worker or sink last completed its part of a handshake.
    pub(crate) taker_at: Nanos,
    pub(crate) style: Style,
    pub(crate) trace: Trace,
}

impl Context {
    pub(crate) fn new(random: &mut Random, style: Style, is_loud: bool) -> Self {
        let queue = Queue {
            count: 0,
            events: BTreeMap::new(),
            random: Random::new(random.next()),
        };
        Self {
            base: base(),
            cables: Vec::new(),
            coverage: Coverage::default(),
            groups: BTreeMap::new(),
            identities: Vec::new(),
            has_beats: false,
            is_even: false,
            may_overtake: false,
            is_fair: false,
            is_calm: false,
            is_over: false,
            kept_waiting: Vec::new(),
            now: 0,
            ports: BTreeMap::new(),
            queue,
            random: Random::new(random.next()),
            received: BTreeSet::new(),
            senders: Vec::new(),
            second_keys: BTreeSet::new(),
            taker_at: 0,
            style,
            trace: Trace::new(is_loud),
        }
    }

    /// The number of the key that brokers have behind a port.
    pub(crate) fn server_key(&self, port: u16) -> u8 {
        SERVER_KEYS[usize::from(self.second_keys.contains(&port))]
    }

    pub(crate) fn instant(&self) -> Instant {
        self.base + Duration::from_nanos(self.now)
    }

    #[expect(clippy::unused_self, reason = "beside its opposite")]
    pub(crate) fn span(&self, duration: Duration) -> Nanos {
        Nanos::try_from(duration.as_nanos()).expect("runs are short")
    }

    pub(crate) fn nanos(&self, instant: Instant) -> Nanos {
        let elapsed = instant.saturating_duration_since(self.base).as_nanos();
        Nanos::try_from(elapsed).expect("runs are short")
    }

    /// Registers a connection of a peer as a sender.
    pub(crate) fn add_sender(&mut self, identity: &[u8], group: usize, is_liar: bool) -> u32 {
        self.senders.push(Sender {
            group,
            identity: identity.to_vec(),
            is_liar,
        });
        u32::try_from(self.senders.len() - 1).expect("few senders")
    }

    /// Remembers an identity that a misbehaving peer may use elsewhere.
    pub(crate) fn overhear(&mut self, identity: &[u8]) {
        const KEPT: usize = 30;
        if !self.identities.iter().any(|known| known == identity) {
            if self.identities.len() >= KEPT {
                self.identities.remove(0);
            }
            self.identities.push(identity.to_vec());
        }
    }

    pub(crate) fn sender(&self, header: &Header) -> &Sender {
        &self.senders[header.sender as usize]
    }

    /// Notes that a message arrived that may arrive only once.
    pub(crate) fn receive_once(&mut self, header: &Header) {
        let is_new = self
            .received
            .insert((header.purpose, header.sender, header.number));
        assert!(is_new, "{header:?} arrived twice");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be made from the clock; all others count from this one"
)]
fn base() -> Instant {
    Instant::now()
}
