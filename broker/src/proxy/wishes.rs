//! The subscriptions of a peer whose last values are still to be sent, and how far each has come.
//!
//! ```text
//!   "cfg."     ├─ sent ─┤next                   the first in the order of topics is worked on
//!   "cfg.a"       └──────┘                      inside another: that one brings its values
//!   "log."                     next┤
//! ```

use crate::ids::ConnId;
use crate::pattern::xpub::Xpub;
use std::collections::BTreeMap;

/// The bookkeeping of a wish, in bytes: its place in a tree that may be half empty, and two
/// allocations.
const WISH_BYTES: u64 = 192;

/// The bookkeeping of a peer with wishes, in bytes.
const PEER_BYTES: u64 = 192;

/// The new subscriptions of one peer.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Heap bytes of them all.
    bytes: u64,
    by_topic: BTreeMap<Box<[u8]>, Wish>,
}

/// A new subscription, and how far its values were sent.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The first topic that was not looked at; [`None`] before any was.
    next: Option<Box<[u8]>>,
    /// The number of updates when it came: later ones have reached the subscriber.
    pub(crate) since: u64,
}

impl Wishes {
    /// Adds a subscription, or begins anew with it.
    pub(crate) fn add(&mut self, topic: &[u8], since: u64) {
        self.withdraw(topic);
        self.bytes += memory(topic, None);
        self.by_topic
            .insert(topic.into(), Wish { next: None, since });
    }

    /// A subscription was cancelled.
    pub(crate) fn withdraw(&mut self, topic: &[u8]) {
        if let Some(wish) = self.by_topic.remove(topic) {
            self.bytes -= memory(topic, wish.next.as_deref());
        }
    }

    /// The one to work on: its topic, the next topic to look at, and itself.
    pub(crate) fn first(&self) -> Option<(&[u8], &[u8], &Wish)> {
        let (topic, wish) = self.by_topic.first_key_value()?;
        Some((topic, wish.next.as_deref().unwrap_or(topic), wish))
    }

    /// The one to work on goes on with this topic.
    pub(crate) fn go_on_with(&mut self, next: Box<[u8]>) {
        if let Some(mut first) = self.by_topic.first_entry() {
            self.bytes -= memory(first.key(), first.get().next.as_deref());
            self.bytes += memory(first.key(), Some(&next));
            first.get_mut().next = Some(next);
        }
    }

    /// The one to work on is done.
    pub(crate) fn remove_first(&mut self) {
        if let Some((topic, wish)) = self.by_topic.pop_first() {
            self.bytes -= memory(&topic, wish.next.as_deref());
        }
    }

    /// Whether another subscription of the peer brings all that the one with this topic does: it
    /// is shorter, so that its values were sent before. Counts the subscriptions looked at.
    pub(crate) fn is_inside_another(
        id: ConnId,
        topic: &[u8],
        xpub: &Xpub,
        looked_at: &mut usize,
    ) -> bool {
        let mut is_inside = false;
        xpub.for_each_wanted_prefix(id, topic, |prefix| {
            *looked_at += 1;
            is_inside |= prefix.len() < topic.len();
        });
        is_inside
    }

    /// Whether a value that came with this number of updates is to be sent for the subscription
    /// `wish`: none of the others that match it has brought it, or its message. Counts the
    /// subscriptions looked at.
    pub(crate) fn is_first_for(
        &self,
        id: ConnId,
        (topic, update, wish): (&[u8], u64, &[u8]),
        xpub: &Xpub,
        looked_at: &mut usize,
    ) -> bool {
        let mut is_first = true;
        xpub.for_each_wanted_prefix(id, topic, |prefix| {
            *looked_at += 1;
            is_first &= prefix == wish || self.is_to_bring(prefix, (topic, update));
        });
        is_first
    }

    /// Whether a subscription is still to bring the value of a topic that came with this number of
    /// updates.
    fn is_to_bring(&self, prefix: &[u8], (topic, update): (&[u8], u64)) -> bool {
        self.by_topic.get(prefix).is_some_and(|wish| {
            update <= wish.since && wish.next.as_deref().is_none_or(|next| next <= topic)
        })
    }

    /// Removes up to `most` of them, and returns the number.
    pub(crate) fn remove_some(&mut self, most: usize) -> usize {
        let removed = most.min(self.by_topic.len());
        for _ in 0..removed {
            self.remove_first();
        }
        removed
    }

    /// The number of subscriptions.
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Bytes of the subscriptions and their bookkeeping, in constant time.
    pub(crate) fn memory(&self) -> u64 {
        PEER_BYTES + self.bytes
    }

    /// The same, recounted.
    pub(crate) fn walk(&self) -> u64 {
        let wishes = self.by_topic.iter();
        let wishes = wishes.map(|(topic, wish)| memory(topic, wish.next.as_deref()));
        PEER_BYTES + wishes.sum::<u64>()
    }
}

fn memory(topic: &[u8], next: Option<&[u8]>) -> u64 {
    WISH_BYTES + (topic.len() + next.map_or(0, <[u8]>::len)) as u64
}
