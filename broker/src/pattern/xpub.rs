//! XPUB and PUB: send each message to the peers whose subscriptions match its first frame.

use crate::config::SocketOptions;
use crate::conn::ConnTable;
use crate::ids::ConnId;
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use crate::pattern::trie::{Inserted, Removed, Trie};
use crate::pattern::xsub::publisher::Change;
use crate::reason::CloseReason;
use narrowed::Narrowed;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use zmtp::SocketType;

mod narrowed;

pub(crate) use narrowed::Limits;

/// The subscribers of each topic.
#[derive(Debug)]
pub(crate) struct Xpub {
    /// Peers that may not get every message to which they subscribe.
    filters: usize,
    /// The slots of the receivers of the last message.
    last_slots: Vec<u32>,
    /// Peers whose roles limit what they receive, by their slots.
    narrowed: BTreeMap<u32, Narrowed>,
    /// The memory of these.
    narrowed_bytes: u64,
    /// Peers in the order of their ids, for messages that go to peers without a subscription.
    peers: BTreeSet<ConnId>,
    /// The slots of the peers that match the last topic.
    slots: Vec<u32>,
    socket_type: SocketType,
    /// The number of the last message that needed stamps.
    stamp: u64,
    /// For each slot the number of the last message that it matched, used where a peer could match
    /// twice.
    stamps: Vec<u64>,
    trie: Trie,
}

/// The peers that must get a subscription or a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whether it is a subscription.
    pub(crate) is_add: bool,
    /// Peers across that are not publishers, and get it as a message.
    pub(crate) to_others: bool,
    /// Publishers: the change of the topic.
    pub(crate) to_publishers: Option<Change>,
}

impl Xpub {
    pub(crate) fn new(socket_type: SocketType) -> Self {
        Self {
            filters: 0,
            last_slots: Vec::new(),
            narrowed: BTreeMap::new(),
            narrowed_bytes: 0,
            peers: BTreeSet::new(),
            slots: Vec::new(),
            socket_type,
            stamp: 0,
            stamps: Vec::new(),
            trie: Trie::new(),
        }
    }

    /// Adds a peer, and makes room for it in the lists of receivers: messages do not lengthen these
    /// lists, whose memory is counted when peers join and subscribe.
    pub(crate) fn attach(&mut self, id: ConnId) {
        self.peers.insert(id);
        self.make_room(id.slot);
    }

    /// Makes room for a slot in the lists of receivers.
    fn make_room(&mut self, slot: u32) {
        let slots = slot as usize + 1;
        for list in [&mut self.slots, &mut self.last_slots] {
            list.reserve(slots.saturating_sub(list.len()));
        }
        if self.stamps.len() < slots {
            self.stamps.resize(slots, 0);
        }
    }

    pub(crate) fn detach(&mut self, id: ConnId) {
        self.peers.remove(&id);
        self.take_narrowed(id);
    }

    /// Whether it is a PUB: only subscriptions of its peers count, not their messages.
    #[inline]
    pub(crate) fn is_pub(&self) -> bool {
        self.socket_type == SocketType::Pub
    }

    /// Subscribes or cancels; returns the peers that must get it. Publishers get the first
    /// subscription to a topic and the last cancel; if the options ask for more, they get the other
    /// subscriptions too, but not the other cancels, as with libzmq's XSUB. A cancel without a
    /// subscription is not passed on, since it could end those of others.
    pub(crate) fn subscribe(
        &mut self,
        id: ConnId,
        topic: &[u8],
        add: bool,
        options: &SocketOptions,
    ) -> Result<Notice, CloseReason> {
        let most = options.subscriptions_max as usize;
        self.subscribe_up_to(most, (id, topic, add), options)
    }

    /// The same, with another limit for the subscriptions of the peer.
    fn subscribe_up_to(
        &mut self,
        subscriptions_max: usize,
        (id, topic, add): (ConnId, &[u8], bool),
        options: &SocketOptions,
    ) -> Result<Notice, CloseReason> {
        let is_pub = self.is_pub();
        let (change, is_news) = if add {
            let inserted = self.trie.insert(topic, id.slot);
            let held = self.trie.subscriptions_of(id.slot);
            if held > subscriptions_max || self.trie.bytes() > SUBSCRIPTION_BYTES_MAX {
                // No publisher has got the subscription, so none must get the cancel.
                if inserted != Inserted::Already {
                    self.trie.remove(topic, id.slot);
                }
                return Err(CloseReason::TooManySubscriptions);
            }
            let is_verbose = options.xpub_verbose || options.xpub_verboser;
            match inserted {
                Inserted::First => (Some(Change::Subscribed), true),
                Inserted::Further if self.is_alone_with_broker(topic) => {
                    (is_verbose.then_some(Change::Repeated), true)
                }
                _ => (is_verbose.then_some(Change::Repeated), is_verbose),
            }
        } else {
            match self.trie.remove(topic, id.slot) {
                Removed::Last => (Some(Change::Cancelled), true),
                Removed::Other if self.is_left_to_broker(topic) => (None, true),
                Removed::Other => (None, options.xpub_verboser),
                Removed::NotFound => (None, false),
            }
        };
        Ok(Notice {
            is_add: add,
            to_others: !is_pub && is_news,
            to_publishers: change.filter(|_| !is_pub),
        })
    }

    /// Whether one peer holds this topic, and the broker itself, of which only publishers learn.
    fn is_alone_with_broker(&self, topic: &[u8]) -> bool {
        self.trie.holders_of(topic) == 2 && self.is_kept(topic)
    }

    /// Whether only the broker itself holds this topic.
    fn is_left_to_broker(&self, topic: &[u8]) -> bool {
        self.trie.only_holder_of(topic) == Some(ConnTable::OWN_SLOT)
    }

    /// The broker subscribes to these topics itself, and to no others; calls `tell` with each topic
    /// that changes, and the publishers that must get it.
    pub(crate) fn subscribe_itself(
        &mut self,
        topics: &BTreeSet<Box<[u8]>>,
        options: &SocketOptions,
        mut tell: impl FnMut(&[u8], Notice),
    ) {
        let own = ConnTable::OWN_SLOT;
        if !topics.is_empty() {
            self.make_room(own);
        }
        let mut held = BTreeSet::new();
        self.trie.topics_of(own, |topic| {
            held.insert(Box::<[u8]>::from(topic));
        });
        let is_verbose = options.xpub_verbose || options.xpub_verboser;
        let changes = topics.difference(&held).map(|topic| (topic, true));
        for (topic, is_add) in changes.chain(held.difference(topics).map(|topic| (topic, false))) {
            let change = if is_add {
                match self.trie.insert(topic, own) {
                    Inserted::First => Some(Change::Subscribed),
                    _ => is_verbose.then_some(Change::Repeated),
                }
            } else {
                let removed = self.trie.remove(topic, own);
                (removed == Removed::Last).then_some(Change::Cancelled)
            };
            let notice = Notice {
                is_add,
                to_others: false,
                to_publishers: change.filter(|_| !self.is_pub()),
            };
            tell(topic, notice);
        }
    }

    /// Removes up to `limit` subscriptions of a departed peer, and calls `emptied` for each topic
    /// that no peer holds any more, and whether the broker itself still does; returns whether the
    /// peer has none left.
    pub(crate) fn forget(
        &mut self,
        id: ConnId,
        limit: usize,
        emptied: impl FnMut(&[u8], bool),
    ) -> bool {
        let own = ConnTable::OWN_SLOT;
        let peer = (id.slot, limit);
        let is_gone = self.trie.remove_peer_beside(own, peer, emptied);
        if self.peers.is_empty() && self.trie.subscriptions() == 0 {
            (self.slots, self.last_slots) = (Vec::new(), Vec::new());
            self.stamps = Vec::new();
        }
        is_gone
    }

    /// Calls `visit` with each topic from `first` on, in order, and the number of its subscribers,
    /// until `visit` breaks.
    pub(crate) fn for_each_topic_from(
        &self,
        first: &[u8],
        visit: impl FnMut(&[u8], usize) -> ControlFlow<()>,
    ) {
        self.trie.for_each_topic_from(first, visit);
    }

    /// Whether the broker itself subscribes to this topic.
    pub(crate) fn is_kept(&self, topic: &[u8]) -> bool {
        self.trie.holds(topic, ConnTable::OWN_SLOT)
    }

    /// The number of topics that a peer subscribes to.
    pub(crate) fn subscriptions_of(&self, id: ConnId) -> usize {
        self.trie.subscriptions_of(id.slot)
    }

    /// Heap bytes of the subscriptions and the lists of receivers, in constant time.
    pub(crate) fn memory(&self) -> u64 {
        let slots = self.slots.capacity() + self.last_slots.capacity();
        let stamps = self.stamps.capacity();
        let lists = slots * size_of::<u32>() + stamps * size_of::<u64>();
        (self.trie.bytes() + lists) as u64 + self.narrowed_bytes
    }

    /// The same, recounted.
    pub(crate) fn walk(&self) -> u64 {
        let narrowed = self.narrowed.values().map(Narrowed::memory);
        self.memory() - self.narrowed_bytes + narrowed.sum::<u64>()
    }

    /// The approximate bytes of memory of a peer's subscriptions.
    pub(crate) fn memory_of(&self, id: ConnId) -> u64 {
        let narrowed = self.narrowed.get(&id.slot);
        self.trie.bytes_of(id.slot) + narrowed.map_or(0, Narrowed::memory)
    }

    /// Distinct topics of peers.
    pub(crate) fn topics(&self) -> usize {
        let mut own = 0;
        self.trie.topics_of(ConnTable::OWN_SLOT, |topic| {
            own += usize::from(self.trie.holders_of(topic) == 1);
        });
        self.trie.topics() - own
    }

    /// Whether every peer subscribes to everything or to nothing.
    #[inline]
    pub(crate) fn is_steady(&self) -> bool {
        !self.trie.tells_apart()
    }

    /// Finds the peers that match `topic`, each once; returns whether they are the receivers of the
    /// last message.
    #[inline]
    pub(crate) fn repeats(&mut self, topic: &[u8]) -> bool {
        self.find(topic);
        self.slots == self.last_slots
    }

    /// Finds the peers that match `topic`, each once.
    #[inline]
    pub(crate) fn find(&mut self, topic: &[u8]) {
        let Self {
            slots,
            stamp,
            stamps,
            trie,
            ..
        } = self;
        slots.clear();
        let mut sets = 0;
        trie.matches(topic, |peers| {
            sets += 1;
            if sets == 1 {
                slots.extend_from_slice(peers);
                return;
            }
            if sets == 2 {
                *stamp += 1;
                for slot in slots.iter() {
                    is_new(stamps, *slot, *stamp);
                }
            }
            slots.extend(peers.iter().filter(|slot| is_new(stamps, **slot, *stamp)));
        });
    }

    /// Puts the peers that were found into `targets`.
    pub(crate) fn found(
        &mut self,
        conns: &ConnTable,
        options: &SocketOptions,
        targets: &mut Vec<ConnId>,
    ) {
        std::mem::swap(&mut self.slots, &mut self.last_slots);
        targets.clear();
        if options.invert_matching {
            self.invert(targets);
        } else {
            let slots = self.last_slots.iter();
            targets.extend(slots.filter_map(|slot| conns.target_in_slot(*slot)));
        }
    }

    /// Puts the peers that were not found into `targets`.
    fn invert(&mut self, targets: &mut Vec<ConnId>) {
        self.stamp += 1;
        for slot in &self.last_slots {
            is_new(&mut self.stamps, *slot, self.stamp);
        }
        let (stamp, stamps) = (self.stamp, &mut self.stamps);
        // A role that limits subscriptions cannot limit what they leave out.
        let may = |id: &&ConnId| {
            let peer = self.narrowed.get(&id.slot);
            peer.is_none_or(Narrowed::may_get_all)
        };
        let peers = self.peers.iter().filter(may);
        targets.extend(peers.filter(|id| is_new(stamps, id.slot, stamp)));
    }
}

/// Stamps a slot; false if it already was.
fn is_new(stamps: &mut Vec<u64>, slot: u32, stamp: u64) -> bool {
    let index = slot as usize;
    if index >= stamps.len() {
        stamps.resize(index + 1, 0);
    }
    std::mem::replace(&mut stamps[index], stamp) != stamp
}
