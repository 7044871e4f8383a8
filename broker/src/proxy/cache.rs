//! The last value of each topic, and the subscribers that are still to get some of them.
//!
//! ```text
//!   topics:  "cfg.a" → 2    "cfg.b" → 0    "x" → 1       (in order, to find those of a prefix)
//!   entries: 1 ⇄ 0 ⇄ 2                                   (the oldest first, to drop it)
//! ```
//!
//! A new subscriber gets the values of its topics in the order of the topics, as fast as it takes
//! them. A topic that changes meanwhile is left out: the subscriber has got the newer message on
//! the usual way. So a subscriber that is slow costs a cursor, and no copy of the table.

use crate::config::CacheConfig;
use crate::conn::egress::{DIRECT_SIZE_MIN, Shared, Store};
use crate::ids::ConnId;
use crate::limits::{CACHE_TOPIC_SIZE_MAX, WISHES_INSIDE_MAX};
use crate::pattern::begins_with;
use crate::pattern::trie::Trie;
use crate::pattern::xpub::Xpub;
use crate::proxy::waiters::Waiters;
use crate::proxy::wishes::{TooMany, Wishes};
use slab::Slab;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use zmtp::Frames;

/// The bookkeeping of a value, in bytes: its entry, and its topic in the trie. Tables grow by
/// doubling, so that half of their memory may be unused.
const ENTRY_BYTES: u64 = 2 * size_of::<Entry>() as u64 + TOPIC_BYTES + SPARE_MAX as u64;

/// Most bytes of the trie for a topic, in addition to those of the topic itself.
const TOPIC_BYTES: u64 = 192;

/// Values that are sent to a subscriber before the turn is checked.
const BATCH_LEN_MAX: usize = 64;

/// Values that are dropped for their age when a message passes: more than come with it.
const EXPIRED_AT_ONCE_MAX: usize = 2;

/// Values that give way when a message passes, in addition to one for each [`BYTES_PER_EVICTED`]
/// of its bytes; others give way in the next turns.
const EVICTED_AT_ONCE_MAX: usize = 8;
const BYTES_PER_EVICTED: usize = 2048;

/// Wishes of a departed peer that are dropped at once.
const DEPARTED_AT_ONCE_MAX: usize = 100;

/// Most unused bytes of the memory of a short value.
const SPARE_MAX: usize = 128;

/// The end of the list of entries.
const NONE: u32 = u32::MAX;

/// The last values of one proxy.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Topics that messages have added or removed and that [`Self::take_changed`] did not tell yet.
    changed: u64,
    config: CacheConfig,
    /// The wishes of peers that have gone, which are dropped in small steps.
    departed: VecDeque<Wishes>,
    entries: Slab<Entry>,
    /// Values that were too old were left for later.
    is_expiring: bool,
    newest: u32,
    oldest: u32,
    /// Bytes of the values and their bookkeeping, as far as the limit counts them.
    size: u64,
    /// The subscribers that are still to get values.
    subscribers: Waiters<Wishes>,
    /// The topics of all entries, each held by the number of its entry.
    topics: Trie,
    /// Bytes of the values that queues may share, as the account of the queues counts them.
    shared_bytes: u64,
    /// The number of messages kept so far.
    updates: u64,
    /// Heap bytes of the other values.
    values_bytes: u64,
    /// Heap bytes of the wishes.
    wishes_bytes: u64,
}

/// The last message of a topic.
#[derive(Debug)]
struct Entry {
    /// The entries before and behind it, by age.
    newer: u32,
    older: u32,
    /// Its number among the messages that passed the ring, if there is one.
    sequence: u64,
    /// Microseconds since the broker began; less than 0 for a value of a former process.
    stamp: i64,
    /// The number of updates when it came.
    update: u64,
    value: Value,
}

/// A message in wire form.
#[derive(Debug)]
enum Value {
    /// Short enough to be copied to each queue.
    Own(Vec<u8>),
    Shared(Shared),
}

/// A message that passes, for [`Cache::keep`].
#[derive(Debug)]
pub(crate) struct Passing<'a> {
    /// Its number in the ring; 0 without a ring.
    pub(crate) sequence: u64,
    /// The same bytes, if other queues share them.
    pub(crate) shared: Option<&'a Shared>,
    /// Microseconds since the broker began; less than 0 before that.
    pub(crate) stamp: i64,
    /// Its wire form.
    pub(crate) wire: &'a [u8],
}

/// A value that a subscriber is to get.
#[derive(Debug)]
pub(crate) struct Offer<'a> {
    /// Its number in the ring; 0 if it has none.
    pub(crate) sequence: u64,
    /// The same bytes, if they can be shared.
    pub(crate) shared: Option<&'a Shared>,
    /// Its wire form.
    pub(crate) wire: &'a [u8],
}

/// The values to send to a subscriber next.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Bytes of the values.
    bytes: u64,
    bytes_max: u64,
    entries: Vec<u32>,
    /// Topics and subscriptions that were looked at.
    pub(crate) looked_at: usize,
    looked_at_max: usize,
    messages_max: usize,
    /// Microseconds since the broker began.
    now: i64,
}

impl Batch {
    /// An empty one with room for so many messages and bytes, for which so many topics may be
    /// looked at.
    pub(crate) fn new(
        now: i64,
        (messages_max, bytes_max): (usize, u64),
        looked_at_max: usize,
    ) -> Self {
        Self {
            bytes: 0,
            bytes_max,
            entries: Vec::new(),
            looked_at: 0,
            looked_at_max,
            messages_max: messages_max.min(BATCH_LEN_MAX),
            now,
        }
    }

    fn is_full(&self) -> bool {
        self.looked_at >= self.looked_at_max
            || self.entries.len() >= self.messages_max
            || self.bytes >= self.bytes_max
    }
}

impl Cache {
    pub(crate) fn new(config: CacheConfig) -> Self {
        Self {
            changed: 0,
            config,
            departed: VecDeque::new(),
            entries: Slab::new(),
            is_expiring: false,
            newest: NONE,
            oldest: NONE,
            size: 0,
            subscribers: Waiters::default(),
            topics: Trie::new(),
            shared_bytes: 0,
            updates: 0,
            values_bytes: 0,
            wishes_bytes: 0,
        }
    }

    /// Keeps values by this configuration from now on, and drops those that it does not keep.
    pub(crate) fn set_config(&mut self, config: CacheConfig) {
        let is_same = config.topics == self.config.topics;
        self.config = config;
        if !is_same {
            let left: Vec<u32> = self
                .entries
                .iter()
                .filter(|(_, entry)| !self.is_kept(Frames::new(entry.value.bytes()).first()))
                .map(|(slot, _)| number(slot))
                .collect();
            for slot in left {
                self.remove(slot);
            }
        }
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &CacheConfig {
        &self.config
    }

    /// The number of values.
    pub(crate) fn values(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the values and their bookkeeping, as far as the limit counts them.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Heap bytes of the values, in constant time, without [`Self::shared_bytes`].
    pub(crate) fn memory(&self) -> u64 {
        self.values_bytes + self.tables_bytes()
    }

    /// The same, recounted.
    pub(crate) fn walk(&self) -> u64 {
        let values = self.entries.iter().map(|(_, it)| it.value.heap());
        values.sum::<u64>() + self.tables_bytes()
    }

    fn tables_bytes(&self) -> u64 {
        let entries = self.entries.capacity() * size_of::<Entry>();
        (entries + self.topics.bytes()) as u64
    }

    /// Heap bytes of what subscribers are still to get, in constant time.
    pub(crate) fn wishes_memory(&self) -> u64 {
        self.wishes_bytes
    }

    /// The part of it that goes without a further event.
    pub(crate) fn departed_memory(&self) -> u64 {
        self.departed.iter().map(Wishes::memory).sum()
    }

    /// The same as [`Self::wishes_memory`], recounted.
    pub(crate) fn walk_wishes(&self) -> u64 {
        let wishes = self.subscribers.wanted().chain(&self.departed);
        wishes.map(Wishes::walk).sum()
    }

    /// Heap bytes of what a subscriber is still to get.
    pub(crate) fn wishes_memory_of(&self, id: ConnId) -> u64 {
        self.subscribers.get(id).map_or(0, Wishes::memory)
    }

    /// Bytes of the values that queues may share, in constant time.
    pub(crate) fn shared_bytes(&self) -> u64 {
        self.shared_bytes
    }

    /// These values.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Shared> {
        self.entries
            .iter()
            .filter_map(|(_, entry)| match &entry.value {
                Value::Own(_) => None,
                Value::Shared(shared) => Some(shared),
            })
    }

    /// Takes note of a passing message, which becomes the value of its topic.
    pub(crate) fn keep(&mut self, message: &Passing<'_>, store: &Store) {
        let mut frames = Frames::new(message.wire);
        let topic = frames.next().map_or(&[][..], |frame| frame.body);
        if topic.len() > CACHE_TOPIC_SIZE_MAX || !self.is_kept(topic) {
            return;
        }
        self.expire(message.stamp, EXPIRED_AT_ONCE_MAX);
        let slot = self.slot_of(topic);
        let size = charge(topic, message.wire.len());
        if size > self.config.bytes_max || self.config.empty_deletes && is_deletion(frames) {
            // The value that it replaces is not the last one any more.
            if let Some(slot) = slot {
                self.remove(slot);
            }
            return;
        }
        if self.is_over() && self.is_too_much(slot, size) {
            self.make_room(EVICTED_AT_ONCE_MAX);
            if let Some(slot) = self.slot_of(topic) {
                self.remove(slot);
            }
            return;
        }
        self.updates += 1;
        match slot {
            Some(slot) => self.replace(slot, message, store),
            None => self.insert(topic, message, store),
        }
        self.make_room(EVICTED_AT_ONCE_MAX + message.wire.len() / BYTES_PER_EVICTED);
    }

    /// The entry of a topic. Topics often come again at once.
    #[inline]
    fn slot_of(&self, topic: &[u8]) -> Option<u32> {
        let newest = self.entries.get(self.newest as usize);
        match newest {
            Some(entry) if Frames::new(entry.value.bytes()).first() == topic => Some(self.newest),
            _ => self.topics.only_holder_of(topic),
        }
    }

    /// The number of topics that messages have added or removed since the last call: each costs
    /// more than the rest of a message.
    #[inline]
    pub(crate) fn take_changed(&mut self) -> u64 {
        std::mem::take(&mut self.changed)
    }

    fn insert(&mut self, topic: &[u8], message: &Passing<'_>, store: &Store) {
        let value = Value::of(message, store);
        self.size += charge(topic, message.wire.len());
        self.count(&value);
        let slot = number(self.entries.insert(Entry {
            newer: NONE,
            older: NONE,
            sequence: message.sequence,
            stamp: message.stamp,
            update: self.updates,
            value,
        }));
        self.topics.insert(topic, slot);
        self.changed += 1;
        self.link(slot);
    }

    /// Whether a value for which this counts against the limit, in the place of another one or
    /// not, cannot be kept because others are still to give way. So it is over its limit by one
    /// large value, or by several that are not large. As many as come with a short one give way.
    fn is_too_much(&self, slot: Option<u32>, size: u64) -> bool {
        let replaced = slot.map_or(0, |slot| {
            let wire = self.entries[slot as usize].value.bytes();
            charge(Frames::new(wire).first(), wire.len())
        });
        let excess = (self.size + size - replaced).saturating_sub(self.config.bytes_max);
        excess > self.config.bytes_max / 4 && size > EVICTED_AT_ONCE_MAX as u64 * ENTRY_BYTES
    }

    fn count(&mut self, value: &Value) {
        self.values_bytes += value.heap();
        self.shared_bytes += value.shared();
    }

    fn replace(&mut self, slot: u32, message: &Passing<'_>, store: &Store) {
        if slot != self.newest {
            self.unlink(slot);
            self.link(slot);
        }
        let entry = &mut self.entries[slot as usize];
        self.values_bytes -= entry.value.heap();
        self.shared_bytes -= entry.value.shared();
        self.size = self.size + message.wire.len() as u64 - entry.value.bytes().len() as u64;
        entry.value.replace(message, store);
        (entry.sequence, entry.stamp, entry.update) =
            (message.sequence, message.stamp, self.updates);
        self.values_bytes += entry.value.heap();
        self.shared_bytes += entry.value.shared();
    }

    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        let entry = self.entries.remove(slot as usize);
        let (topic, wire) = (
            Frames::new(entry.value.bytes()).first(),
            entry.value.bytes(),
        );
        self.topics.remove(topic, slot);
        self.changed += 1;
        self.size -= charge(topic, wire.len());
        self.values_bytes -= entry.value.heap();
        self.shared_bytes -= entry.value.shared();
        if self.entries.is_empty() {
            self.entries = Slab::new();
            self.topics = Trie::new();
        }
    }

    /// Drops the oldest values until the others are within the limit, at most this number; returns
    /// the number.
    #[inline]
    pub(crate) fn make_room(&mut self, most: usize) -> usize {
        let mut dropped = 0;
        while dropped < most && self.is_over() {
            self.remove(self.oldest);
            dropped += 1;
        }
        dropped
    }

    /// Whether values are still to give way.
    fn is_over(&self) -> bool {
        self.size > self.config.bytes_max && self.oldest != NONE
    }

    /// Drops up to `most` values that are too old at this time; returns their number.
    #[inline]
    pub(crate) fn expire(&mut self, now: i64, most: usize) -> usize {
        let mut expired = 0;
        while let Some(entry) = self.entries.get(self.oldest as usize)
            && self.is_too_old(entry.stamp, now)
        {
            self.is_expiring = expired == most;
            if self.is_expiring {
                return expired;
            }
            self.remove(self.oldest);
            expired += 1;
        }
        self.is_expiring = false;
        expired
    }

    /// Whether a value with this stamp is too old now.
    pub(crate) fn is_too_old(&self, stamp: i64, now: i64) -> bool {
        self.config.age_max.is_some_and(|age_max| {
            let age_max = i64::try_from(age_max.as_micros()).unwrap_or(i64::MAX);
            now.saturating_sub(stamp) > age_max
        })
    }

    /// Up to `most` values behind the topic `after`, in the order of their topics and with at most
    /// about `bytes_max` bytes together: the time of each in microseconds since the broker began,
    /// and its wire form.
    pub(crate) fn page(
        &self,
        after: Option<&[u8]>,
        most: usize,
        bytes_max: usize,
    ) -> Vec<(i64, Vec<u8>)> {
        let first = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        let (mut page, mut bytes) = (Vec::new(), 0);
        self.topics.for_each_topic_from(&first, |topic, _| {
            if let Some(slot) = self.topics.only_holder_of(topic) {
                let entry = &self.entries[slot as usize];
                bytes += entry.value.bytes().len();
                page.push((entry.stamp, entry.value.bytes().to_vec()));
            }
            if page.len() >= most || bytes >= bytes_max {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        page
    }

    /// Whether a topic has a value.
    pub(crate) fn has(&self, topic: &[u8]) -> bool {
        self.topics.holders_of(topic) > 0
    }

    /// The number of messages that became values so far.
    pub(crate) fn updates(&self) -> u64 {
        self.updates
    }

    /// Whether messages with this topic have values.
    #[inline]
    fn is_kept(&self, topic: &[u8]) -> bool {
        let mut kept = self.config.topics.iter();
        kept.any(|prefix| begins_with(topic, prefix.as_bytes()))
    }

    /// Puts an entry at the end of the list: it is the newest.
    #[inline]
    fn link(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.newest, slot);
        let entry = &mut self.entries[slot as usize];
        (entry.older, entry.newer) = (older, NONE);
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
    }

    #[inline]
    fn unlink(&mut self, slot: u32) {
        let Entry { newer, older, .. } = self.entries[slot as usize];
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Whether any topic that begins with this one has a value.
    fn has_any(&self, prefix: &[u8]) -> bool {
        let mut is_there = false;
        self.topics.for_each_topic_from(prefix, |found, _| {
            is_there = begins_with(found, prefix);
            ControlFlow::Break(())
        });
        is_there
    }

    /// A peer has subscribed to a topic: it is to get the values of that. Returns the number of its
    /// subscriptions that were looked at.
    pub(crate) fn offer(&mut self, id: ConnId, topic: &[u8], xpub: &Xpub) -> usize {
        let mut looked_at = 0;
        if !self.has_any(topic) {
            return looked_at;
        }
        let is_new = self.subscribers.get(id).is_none();
        let wishes = self.subscribers.get_or_default(id);
        let before = if is_new { 0 } else { wishes.memory() };
        wishes.add(id, (topic, self.updates), xpub, &mut looked_at);
        self.wishes_bytes = self.wishes_bytes - before + wishes.memory();
        self.forget_fulfilled(id);
        looked_at
    }

    /// A peer has cancelled a subscription: it gets no more values for that alone. Returns the
    /// number of its subscriptions that were looked at.
    pub(crate) fn withdraw(
        &mut self,
        id: ConnId,
        topic: &[u8],
        xpub: &Xpub,
    ) -> Result<usize, TooMany> {
        let mut looked_at = 0;
        let has_values = self.has_any(topic);
        let Some(wishes) = self.subscribers.get_mut(id) else {
            return Ok(looked_at);
        };
        self.wishes_bytes -= wishes.memory();
        let most = (&mut looked_at, WISHES_INSIDE_MAX);
        let done = wishes.withdraw(id, (topic, has_values), xpub, most);
        self.wishes_bytes += wishes.memory();
        self.forget_fulfilled(id);
        done.map(|()| looked_at)
    }

    /// Forgets a peer that is to get no more values.
    fn forget_fulfilled(&mut self, id: ConnId) {
        let wishes = self.subscribers.get(id);
        if wishes.is_some_and(|wishes| wishes.len() == 0) {
            self.forget(id);
        }
    }

    /// A peer has gone, or is to get no more values.
    pub(crate) fn forget(&mut self, id: ConnId) {
        let Some(wishes) = self.subscribers.remove(id) else {
            return;
        };
        if wishes.len() <= DEPARTED_AT_ONCE_MAX {
            self.wishes_bytes -= wishes.memory();
        } else {
            self.departed.push_back(wishes);
        }
    }

    /// Drops up to `most` wishes of departed peers; returns their number.
    pub(crate) fn forget_departed(&mut self, most: usize) -> usize {
        let mut dropped = 0;
        while dropped < most
            && let Some(wishes) = self.departed.front_mut()
        {
            self.wishes_bytes -= wishes.memory();
            dropped += wishes.remove_some(most - dropped);
            if wishes.len() == 0 {
                self.departed.pop_front();
            } else {
                self.wishes_bytes += wishes.memory();
            }
        }
        dropped
    }

    /// Whether a peer is still to get values.
    pub(crate) fn owes(&self, id: ConnId) -> bool {
        self.subscribers.get(id).is_some()
    }

    /// Puts a peer in line; call this when its queue has room.
    pub(crate) fn line_up(&mut self, id: ConnId) {
        self.subscribers.line_up(id);
    }

    /// The next peer in line.
    pub(crate) fn next_in_line(&mut self) -> Option<ConnId> {
        self.subscribers.next_in_line()
    }

    /// Whether work is left that needs no event.
    pub(crate) fn has_work(&self) -> bool {
        self.subscribers.has_line()
            || !self.departed.is_empty()
            || self.is_expiring
            || self.is_over()
    }

    /// Fills a batch with values that a peer is to get next, at least one if there are any.
    pub(crate) fn fill(&mut self, batch: &mut Batch, id: ConnId, xpub: &mut Xpub) {
        let Some(mut wishes) = self.subscribers.get_mut(id).map(std::mem::take) else {
            return;
        };
        self.wishes_bytes -= wishes.memory();
        while !batch.is_full()
            && let Some((topic, next, wish)) = wishes.first()
        {
            batch.looked_at += 1;
            let next = if Wishes::is_inside_another(id, topic, xpub, &mut batch.looked_at) {
                None
            } else {
                let may_get = |found: &[u8], update: u64, looked_at: &mut usize| {
                    wishes.is_first_for(id, (found, update, topic), xpub, looked_at)
                        && xpub.may_get(id, found)
                };
                self.fill_with(batch, (topic, next, wish.since), may_get)
            };
            match next {
                Some(next) => wishes.go_on_with(next),
                None => wishes.remove_first(),
            }
        }
        if wishes.len() == 0 {
            self.subscribers.remove(id);
        } else {
            self.wishes_bytes += wishes.memory();
            *self.subscribers.get_or_default(id) = wishes;
        }
    }

    /// Fills a batch with values of topics that begin with a prefix, from `next` on, no newer than
    /// `since`; returns the topic to go on with if more are left. `may_get` says of a topic and
    /// its number of updates whether the peer may get its value, and counts what it looks at.
    fn fill_with(
        &self,
        batch: &mut Batch,
        (prefix, next, since): (&[u8], &[u8], u64),
        mut may_get: impl FnMut(&[u8], u64, &mut usize) -> bool,
    ) -> Option<Box<[u8]>> {
        let mut left = None;
        self.topics.for_each_topic_from(next, |topic, _| {
            if !begins_with(topic, prefix) {
                return ControlFlow::Break(());
            }
            if batch.is_full() {
                left = Some(topic.into());
                return ControlFlow::Break(());
            }
            batch.looked_at += 1;
            if let Some(slot) = self.topics.only_holder_of(topic)
                && let entry = &self.entries[slot as usize]
                && entry.update <= since
                && !self.is_too_old(entry.stamp, batch.now)
                && may_get(topic, entry.update, &mut batch.looked_at)
            {
                batch.bytes += entry.value.bytes().len() as u64;
                batch.entries.push(slot);
            }
            ControlFlow::Continue(())
        });
        left
    }

    /// The values of a batch.
    pub(crate) fn offers(&self, batch: &Batch) -> impl Iterator<Item = Offer<'_>> {
        let entries = batch.entries.iter();
        let entries = entries.filter_map(|slot| self.entries.get(*slot as usize));
        entries.map(|entry| Offer {
            sequence: entry.sequence,
            shared: match &entry.value {
                Value::Own(_) => None,
                Value::Shared(shared) => Some(shared),
            },
            wire: entry.value.bytes(),
        })
    }
}

impl Value {
    fn of(message: &Passing<'_>, store: &Store) -> Self {
        match message.shared {
            _ if message.wire.len() < DIRECT_SIZE_MIN => Self::Own(message.wire.to_vec()),
            Some(shared) if shared.block_size() / 5 * 4 <= message.wire.len() as u64 => {
                Self::Shared(shared.clone())
            }
            _ => Self::Shared(store.share_copy(message.wire)),
        }
    }

    /// Becomes another message; a short one takes the same memory.
    fn replace(&mut self, message: &Passing<'_>, store: &Store) {
        match self {
            Self::Own(bytes) if bytes.len() == message.wire.len() => {
                bytes.copy_from_slice(message.wire);
            }
            Self::Own(bytes) if message.wire.len() < DIRECT_SIZE_MIN => {
                bytes.clear();
                bytes.reserve_exact(message.wire.len());
                bytes.extend_from_slice(message.wire);
                bytes.shrink_to(message.wire.len() + SPARE_MAX);
            }
            _ => *self = Self::of(message, store),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(shared) => shared,
        }
    }

    /// Bytes that queues may share.
    fn shared(&self) -> u64 {
        match self {
            Self::Own(_) => 0,
            Self::Shared(shared) => shared.block_size(),
        }
    }

    /// Heap bytes that no queue shares.
    fn heap(&self) -> u64 {
        match self {
            Self::Own(bytes) => bytes.capacity() as u64,
            Self::Shared(_) => 0,
        }
    }
}

/// The bytes for which a value counts against the limit.
fn charge(topic: &[u8], size: usize) -> u64 {
    ENTRY_BYTES + (topic.len() + size) as u64
}

/// Whether the frames behind the topic are there, and all empty.
fn is_deletion(rest: Frames<'_>) -> bool {
    let mut frames = rest.peekable();
    frames.peek().is_some() && frames.all(|frame| frame.body.is_empty())
}

fn number(slot: usize) -> u32 {
    u32::try_from(slot).expect("fewer values than memory has bytes for")
}
