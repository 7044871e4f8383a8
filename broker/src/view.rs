//! Views: the answers of a running broker, as plain values.
//!
//! A view is a copy of one moment. [`crate::Admin`] makes them; JSON on the control socket is one
//! rendering. Lists that peers can make long come in pages of at most [`PAGE_LEN_MAX`] items.

use crate::config::{Endpoint, SocketName};
use crate::core::{MemoryUse, Reloaded};
use crate::ids::{ConnId, ProxyId};
use crate::peer::PeerAddress;
use crate::reason::{CloseReason, DropReason};
use crate::record;
use crate::stats::{SocketStats, TurnTimes};
use std::time::Duration;
use zmtp::{Credentials, SocketType, Version};

/// Most items on one page.
pub const PAGE_LEN_MAX: usize = 100;

/// The broker as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerView {
    /// Messages dropped since the broker was created, for whatever reason, also by sockets that
    /// were removed since.
    pub dropped_messages: u64,
    /// Bytes of memory in use by what peers have caused, by purpose.
    pub memory: MemoryUse,
    /// Bytes of memory that peers may cause; 0: unlimited.
    pub memory_limit: u64,
    /// The process; 0: unknown.
    pub pid: u32,
    /// The last reload of the configuration, if there was one.
    pub reload: Option<ReloadView>,
    /// The name of the configuration; empty: unknown.
    pub source: String,
    /// The stage of a stop of the broker.
    pub stop: StopState,
    /// Durations of the turns of the event loop.
    pub turn_times: TurnTimes,
    /// Time since the broker was created.
    pub uptime: Duration,
    /// The version of this library, such as `0.1.0`.
    pub version: &'static str,
}

/// The last reload of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadView {
    /// Time since then.
    pub ago: Duration,
    /// The changes that were made and the settings that need a restart, or the reason why nothing
    /// has changed: one sentence, or several in lines of their own.
    pub outcome: Result<Reloaded, String>,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyView {
    /// The last values that it keeps, if it does.
    pub cache: Option<CacheView>,
    /// The handle of the proxy.
    pub id: ProxyId,
    /// Whether the proxy forwards no messages for now.
    pub is_paused: bool,
    /// The configured name.
    pub name: String,
    /// The recording, if the proxy is recorded.
    pub record: Option<record::Statistics>,
    /// The messages that it can send again, if it keeps any.
    pub replay: Option<ReplayView>,
    /// The sockets of the proxy, in the order of [`SocketName::ALL`].
    pub sockets: Vec<SocketView>,
    /// The stage of the end of the proxy.
    pub stop: StopState,
}

/// The last values of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheView {
    /// Bytes of the values and their bookkeeping.
    pub bytes: u64,
    /// The number of messages that became values so far.
    pub updates: u64,
    /// The number of topics that have a value.
    pub values: u64,
}

/// One last value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueView {
    /// Time since the message has passed.
    pub age: Duration,
    /// The message in wire form, for `zmtp::Frames`.
    pub wire: Vec<u8>,
}

/// The messages that a proxy can send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayView {
    /// Bytes of the messages and their bookkeeping.
    pub bytes: u64,
    /// The number of messages.
    pub messages: u64,
    /// The sequence number of the next message.
    pub next_sequence: u64,
}

/// The stage of the end of a proxy or of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopState {
    /// It runs.
    Running,
    /// It sends queued messages, for at most this much longer.
    Draining(Duration),
    /// It closes all connections, or has closed them.
    Closing,
}

impl StopState {
    /// The name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Draining(_) => "draining",
            Self::Closing => "closing",
        }
    }
}

/// One socket of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketView {
    /// The counters of the socket.
    pub counters: SocketStats,
    /// Peers after their handshake.
    pub peers: usize,
    /// The name of the proxy.
    pub proxy: String,
    /// Bytes queued for the peers of the socket.
    pub queued_bytes: u64,
    /// Messages queued for the peers of the socket.
    pub queued_messages: u64,
    /// The name of the socket in the proxy.
    pub socket: SocketName,
    /// The ZeroMQ type of the socket.
    pub socket_type: SocketType,
    /// Distinct topics that its peers subscribe to.
    pub topics: usize,
    /// Peers that are suspended: their next message waits for a receiver.
    pub waiting: usize,
}

/// One connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// The other end of the connection.
    pub address: PeerAddress,
    /// Time since the connection was made.
    pub age: Duration,
    /// Bytes of the forwarded messages that the peer has sent, on the wire.
    pub bytes_received: u64,
    /// Bytes written to the peer.
    pub bytes_sent: u64,
    /// Messages that the peer missed, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
    /// The endpoint that the broker connected to; `None` if the peer connected.
    pub endpoint: Option<Endpoint>,
    /// The handle of the connection.
    pub id: ConnId,
    /// The identity by which a ROUTER addresses the peer; empty if it has none.
    pub identity: Vec<u8>,
    /// Whether the handshake is over.
    pub is_ready: bool,
    /// Whether the next message of the peer waits for a receiver.
    pub is_suspended: bool,
    /// The security mechanism, by its name in the greeting; `None` during the handshake.
    pub mechanism: Option<&'static str>,
    /// Messages of the peer that were forwarded.
    pub messages_received: u64,
    /// Messages written to the peer as a whole.
    pub messages_sent: u64,
    /// Bytes queued for the peer.
    pub queued_bytes: u64,
    /// Messages queued for the peer.
    pub queued_messages: u32,
    /// The socket of the proxy that the peer is connected to.
    pub socket: SocketName,
    /// The ZeroMQ type that the peer announced; `None` during the handshake.
    pub socket_type: Option<SocketType>,
    /// Topics that the peer subscribes to.
    pub subscriptions: usize,
    /// The authenticated user; `None` if the mechanism authenticates none.
    pub user: Option<String>,
    /// The protocol version that the peer speaks; `None` during the handshake.
    pub version: Option<Version>,
}

/// A peer whose connection was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedPeerView {
    /// The other end of the connection.
    pub address: PeerAddress,
    /// Time since the connection was closed.
    pub ago: Duration,
    /// The former handle of the connection.
    pub id: ConnId,
    /// The identity by which a ROUTER addressed the peer; empty if it had none.
    pub identity: Vec<u8>,
    /// How long the connection lasted.
    pub lasted: Duration,
    /// Why the connection was closed.
    pub reason: CloseReason,
    /// The socket of the proxy that the peer was connected to.
    pub socket: SocketName,
}

/// Something that has happened: a line of the log of level info or worse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    /// Time since then.
    pub ago: Duration,
    /// How bad it is.
    pub level: log::Level,
    /// The number of the event: those before it have lower ones.
    pub number: u64,
    /// The name of the proxy; empty if it concerns the broker as a whole.
    pub proxy: String,
    /// The label of the reason; empty if it has none.
    pub reason: &'static str,
    /// The socket of the proxy, if it concerns one.
    pub socket: Option<SocketName>,
    /// What has happened, in words: at most 500 bytes.
    pub text: String,
}

/// The beginning of a message that has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleView {
    /// The other end of the connection of its sender, if known.
    pub address: Option<PeerAddress>,
    /// Time since then.
    pub ago: Duration,
    /// The beginnings of its first frames, at most 64 bytes of each of 8, and the sizes of these
    /// frames. The identity that a ROUTER puts in front is not one of them.
    pub frames: Vec<(Vec<u8>, usize)>,
    /// Whether it has more frames.
    pub has_more: bool,
    /// The handle of the connection of its sender.
    pub id: ConnId,
    /// The identity by which a ROUTER addresses its sender; empty if it has none.
    pub identity: Vec<u8>,
    /// Bytes of the message on the wire.
    pub size: usize,
    /// The socket that received it.
    pub socket: SocketName,
    /// The authenticated user; `None` if the mechanism authenticates none.
    pub user: Option<String>,
}

/// A peer whose handshake waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecidedPeerView {
    /// The other end of the connection.
    pub address: PeerAddress,
    /// What the peer has proved, or said, about itself.
    pub credentials: Credentials,
    /// The handle of the connection.
    pub id: ConnId,
    /// The socket of the proxy that the peer is connected to.
    pub socket: SocketName,
}

/// A topic that peers subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// The number of peers that subscribe to exactly this topic.
    pub peers: usize,
    /// The socket of the proxy that these peers are connected to.
    pub socket: SocketName,
    /// The topic.
    pub topic: Vec<u8>,
}

/// A service that `zmqd watch` watches, as it reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchView {
    /// The actions so far.
    pub actions: u64,
    /// The name of the watch.
    pub name: String,
    /// The reason for its state.
    pub reason: String,
    /// The sign of life.
    pub sign: String,
    /// The state: new, up, late, down, acting, paused or failed.
    pub state: String,
}

/// Selects peers of a proxy: a peer must match every field that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerFilter {
    /// The other end of the connection, as [`PeerAddress`] displays it.
    pub address: Option<String>,
    /// Bytes that the address, as displayed, the identity or the name of the user must contain.
    pub contains: Option<Vec<u8>>,
    /// The handle of the connection.
    pub id: Option<ConnId>,
    /// The identity under which a ROUTER addresses the peer; an empty one matches every peer
    /// without an identity.
    pub identity: Option<Vec<u8>>,
    /// The sockets whose peers match; empty: every socket.
    pub sockets: Vec<SocketName>,
}

impl PeerFilter {
    /// Selects the peers of one socket.
    #[must_use]
    pub fn of_socket(socket: SocketName) -> Self {
        Self {
            sockets: vec![socket],
            ..Self::default()
        }
    }

    /// Whether peers of this socket can match.
    #[must_use]
    pub fn has_socket(&self, socket: SocketName) -> bool {
        self.sockets.is_empty() || self.sockets.contains(&socket)
    }

    /// Whether a peer of this socket matches.
    pub(crate) fn matches(
        &self,
        socket: SocketName,
        (id, address): (ConnId, PeerAddress),
        identity: &[u8],
    ) -> bool {
        self.has_socket(socket)
            && self.id.is_none_or(|wanted| wanted == id)
            && (self.identity.as_deref()).is_none_or(|wanted| wanted == identity)
            && (self.address.as_ref()).is_none_or(|wanted| *wanted == address.to_string())
    }

    /// Whether one of these names of a peer has the text, if one is wanted.
    pub(crate) fn names_match(
        &self,
        address: PeerAddress,
        identity: &[u8],
        user: Option<&str>,
    ) -> bool {
        let Some(wanted) = self.contains.as_deref().filter(|it| !it.is_empty()) else {
            return true;
        };
        let has = |name: &[u8]| name.windows(wanted.len()).any(|part| part == wanted);
        has(identity)
            || user.is_some_and(|user| has(user.as_bytes()))
            || has(address.to_string().as_bytes())
    }
}

/// A figure by which peers are ordered, the largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerOrder {
    /// [`PeerView::age`].
    Age,
    /// Received and sent.
    Bytes,
    /// [`PeerView::bytes_received`].
    BytesReceived,
    /// [`PeerView::bytes_sent`].
    BytesSent,
    /// All of [`PeerView::drops`].
    Dropped,
    /// Received and sent.
    Messages,
    /// [`PeerView::messages_received`].
    MessagesReceived,
    /// [`PeerView::messages_sent`].
    MessagesSent,
    /// [`PeerView::queued_bytes`].
    QueuedBytes,
    /// [`PeerView::queued_messages`].
    QueuedMessages,
    /// [`PeerView::subscriptions`].
    Subscriptions,
}

impl PeerOrder {
    /// Every order, with the key of its figure in JSON.
    pub const ALL: [(&'static str, Self); 11] = [
        ("age_seconds", Self::Age),
        ("bytes", Self::Bytes),
        ("bytes_received", Self::BytesReceived),
        ("bytes_sent", Self::BytesSent),
        ("dropped", Self::Dropped),
        ("messages", Self::Messages),
        ("messages_received", Self::MessagesReceived),
        ("messages_sent", Self::MessagesSent),
        ("queued_bytes", Self::QueuedBytes),
        ("queued_messages", Self::QueuedMessages),
        ("subscriptions", Self::Subscriptions),
    ];

    /// The order by the figure with this key.
    ///
    /// # Errors
    /// A sentence with the keys that exist.
    pub fn from_key(key: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(own, _)| *own == key);
        let keys = || Self::ALL.map(|(own, _)| own).join(", ");
        found
            .map(|(_, order)| *order)
            .ok_or_else(|| format!("write one of {}", keys()))
    }
}

/// Selects a page of a list. `K` is the key of an item: the handle of a peer, or a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery<K> {
    /// The key of the last item on the previous page; `None`: the first page.
    pub after: Option<K>,
    /// Most items on the page, from 1 to [`PAGE_LEN_MAX`]; other values count as the nearest of
    /// these.
    pub limit: usize,
}

impl<K> PageQuery<K> {
    /// The page after the item with this key, with as many items as possible.
    #[must_use]
    pub fn after(key: K) -> Self {
        Self {
            after: Some(key),
            ..Self::default()
        }
    }

    /// The maximum number of items on the page.
    pub(crate) fn len_max(&self) -> usize {
        self.limit.clamp(1, PAGE_LEN_MAX)
    }
}

impl<K> Default for PageQuery<K> {
    /// The first page, with as many items as possible.
    fn default() -> Self {
        Self {
            after: None,
            limit: PAGE_LEN_MAX,
        }
    }
}

/// A part of a list. Items that appear or disappear between two pages may be missing; the others
/// are on exactly one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Whether the list continues.
    pub has_more: bool,
    /// The items of this page, at most [`PAGE_LEN_MAX`].
    pub items: Vec<T>,
    /// The number of items on all pages; `None` if the broker does not count them.
    pub total: Option<usize>,
}
