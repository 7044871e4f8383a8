//! Subscribers whose roles limit what they receive: their subscriptions are narrowed.

use super::{Notice, Xpub};
use crate::config::SocketOptions;
use crate::ids::ConnId;
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use crate::pattern::trie::{Inserted, Removed, Trie};
use crate::permit::{Permits, Verdicts};
use crate::reason::CloseReason;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The limits of a subscriber.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The topics that it may receive.
    pub(crate) permits: Arc<Permits>,
    /// Subscriptions that it may have.
    pub(crate) subscriptions_max: u32,
}

/// A subscriber with limits.
#[derive(Debug)]
pub(super) struct Narrowed {
    limits: Limits,
    verdicts: Verdicts,
    /// Its subscriptions as it made them; all peers of this trie are number 0.
    wanted: Trie,
}

/// Bytes of a [`Narrowed`] without the subscriptions: the largest part are decisions about topics.
const NARROWED_BYTES: u64 = 1024;

impl Narrowed {
    pub(super) fn memory(&self) -> u64 {
        NARROWED_BYTES + self.wanted.bytes() as u64
    }

    /// Whether it may get a message with this topic, to which it subscribes.
    pub(super) fn may_get(&mut self, topic: &[u8]) -> bool {
        let permits = &self.limits.permits;
        !permits.needs_filter() || self.verdicts.of(topic, || permits.has(topic))
    }

    /// Whether it may get every message.
    pub(super) fn may_get_all(&self) -> bool {
        self.limits.permits.is_everything()
    }

    pub(super) fn needs_filter(&self) -> bool {
        self.limits.permits.needs_filter()
    }

    /// Whether another of its subscriptions needs this narrowed one.
    fn still_wants(&self, narrowed: &[u8]) -> bool {
        let mut is_wanted = false;
        self.wanted.matches(narrowed, |_| is_wanted = true);
        is_wanted && self.limits.permits.is_rule(narrowed)
    }
}

impl Xpub {
    /// Subscribes or cancels, within the limits of the peer, and calls `tell` with each topic that
    /// changes, and the peers that must get it. Returns whether any part of the topic is permitted.
    pub(crate) fn handle_subscription(
        &mut self,
        id: ConnId,
        (topic, add): (&[u8], bool),
        options: &SocketOptions,
        tell: &mut dyn FnMut(&[u8], Notice),
    ) -> Result<bool, CloseReason> {
        let Some(mut peer) = self.take_narrowed(id) else {
            tell(topic, self.subscribe(id, topic, add, options)?);
            return Ok(true);
        };
        let done = self.subscribe_within(id, &mut peer, (topic, add), options, tell);
        self.put_narrowed(id, peer);
        done
    }

    fn subscribe_within(
        &mut self,
        id: ConnId,
        peer: &mut Narrowed,
        (topic, add): (&[u8], bool),
        options: &SocketOptions,
        tell: &mut dyn FnMut(&[u8], Notice),
    ) -> Result<bool, CloseReason> {
        let narrowed = peer.limits.permits.narrow(topic);
        if add {
            let inserted = peer.wanted.insert(topic, 0);
            let most = options.subscriptions_max.min(peer.limits.subscriptions_max);
            let bytes = self.trie.bytes() as u64 + self.narrowed_bytes + peer.memory();
            if peer.wanted.subscriptions() > most as usize || bytes > SUBSCRIPTION_BYTES_MAX as u64
            {
                if inserted != Inserted::Already {
                    peer.wanted.remove(topic, 0);
                }
                return Err(CloseReason::TooManySubscriptions);
            }
        } else if peer.wanted.remove(topic, 0) == Removed::NotFound {
            return Ok(true);
        }
        for topic in &narrowed {
            if add || !peer.still_wants(topic) {
                // The limit is for those that the peer has made.
                tell(
                    topic,
                    self.subscribe_up_to(usize::MAX, (id, topic, add), options)?,
                );
            }
        }
        Ok(!narrowed.is_empty())
    }

    /// Gives a peer other limits, or none, and calls `tell` with each topic that changes, and the
    /// peers that must get it.
    pub(crate) fn limit(
        &mut self,
        id: ConnId,
        limits: Option<Limits>,
        options: &SocketOptions,
        tell: &mut dyn FnMut(&[u8], Notice),
    ) -> Result<(), CloseReason> {
        let mut held = BTreeSet::new();
        self.trie.topics_of(id.slot, |topic| {
            held.insert(Box::<[u8]>::from(topic));
        });
        let wanted = match (self.take_narrowed(id), &limits) {
            (None, None) => return Ok(()),
            (Some(peer), _) => peer.wanted,
            (None, Some(_)) => {
                let mut wanted = Trie::new();
                for topic in &held {
                    wanted.insert(topic, 0);
                }
                wanted
            }
        };
        let mut next = BTreeSet::new();
        wanted.for_each_topic(|topic| match &limits {
            Some(limits) => next.extend(limits.permits.narrow(topic)),
            None => drop(next.insert(topic.into())),
        });
        for topic in held.difference(&next) {
            tell(
                topic,
                self.subscribe_up_to(usize::MAX, (id, topic, false), options)?,
            );
        }
        for topic in next.difference(&held) {
            tell(
                topic,
                self.subscribe_up_to(usize::MAX, (id, topic, true), options)?,
            );
        }
        if let Some(limits) = limits {
            let peer = Narrowed {
                limits,
                verdicts: Verdicts::default(),
                wanted,
            };
            self.put_narrowed(id, peer);
        }
        Ok(())
    }

    /// The number of subscriptions that a peer has made.
    pub(crate) fn wanted_of(&self, id: ConnId) -> usize {
        match self.narrowed.get(&id.slot) {
            Some(peer) => peer.wanted.subscriptions(),
            None => self.trie.subscriptions_of(id.slot),
        }
    }

    /// Calls `visit` with each subscription that a peer has made and that matches `topic`.
    pub(crate) fn for_each_wanted_prefix(
        &self,
        id: ConnId,
        topic: &[u8],
        mut visit: impl FnMut(&[u8]),
    ) {
        let (trie, slot) = match self.narrowed.get(&id.slot) {
            Some(peer) => (&peer.wanted, 0),
            None => (&self.trie, id.slot),
        };
        trie.for_each_prefix_held(topic, slot, |len| visit(&topic[..len]));
    }

    /// Whether a peer may get a message with this topic, to which it subscribes.
    pub(crate) fn may_get(&mut self, id: ConnId, topic: &[u8]) -> bool {
        let Some(peer) = self.narrowed.get_mut(&id.slot) else {
            return true;
        };
        let mut is_held = false;
        self.trie
            .for_each_prefix_held(topic, id.slot, |_| is_held = true);
        is_held && peer.may_get(topic)
    }

    /// Finds the peers that match `topic` and may get it, each once.
    pub(crate) fn find_permitted(&mut self, topic: &[u8]) {
        self.find(topic);
        let Self {
            narrowed, slots, ..
        } = self;
        slots.retain(|slot| {
            let peer = narrowed.get_mut(slot);
            peer.is_none_or(|peer| peer.may_get(topic))
        });
    }

    /// Whether a peer may not get every message to which it subscribes.
    pub(crate) fn has_filters(&self) -> bool {
        self.filters > 0
    }

    pub(super) fn take_narrowed(&mut self, id: ConnId) -> Option<Narrowed> {
        let peer = self.narrowed.remove(&id.slot)?;
        self.narrowed_bytes -= peer.memory();
        self.filters -= usize::from(peer.needs_filter());
        Some(peer)
    }

    fn put_narrowed(&mut self, id: ConnId, peer: Narrowed) {
        self.narrowed_bytes += peer.memory();
        self.filters += usize::from(peer.needs_filter());
        self.narrowed.insert(id.slot, peer);
    }
}
