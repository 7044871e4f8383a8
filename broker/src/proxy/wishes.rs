//! The subscriptions of a peer whose last values are still to be sent, and how far each has come.
//!
//! ```text
//!   "cfg."     ├─ sent ─┤next                   the first in the order of topics is worked on
//!   "cfg.a"       └──────┘                      inside another: that one brings its values
//!   "log."                     next┤
//! ```
//!
//! A value is still to be sent if it is so for every subscription that matches it: the peer has got
//! all values of those that are not here, and the newer messages too. Cancelling some of them
//! changes that only for topics that no subscription matches any more. So a wish outlives its
//! subscription as long as another one is around it that goes on bringing values: it says which of
//! them have come already.

use crate::ids::ConnId;
use crate::pattern::xpub::Xpub;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

/// The bookkeeping of a wish, in bytes: its place in a tree that may be half empty, and two
/// allocations.
const WISH_BYTES: u64 = 192;

/// The bookkeeping of a peer with wishes, in bytes.
const PEER_BYTES: u64 = 192;

/// For [`Wish::since`]: the peer has got all values, of any age.
const BROUGHT: u64 = 0;

/// For [`Wish::since`]: the subscriptions around it say which values are still to be sent.
const AS_AROUND: u64 = u64::MAX;

/// The new subscriptions of one peer.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Heap bytes of them all.
    bytes: u64,
    by_topic: BTreeMap<Box<[u8]>, Wish>,
    /// The number of those that were cancelled.
    released: usize,
}

/// A new subscription, and how far its values were sent.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// Whether the peer has this subscription. If not, it has another one around it.
    is_held: bool,
    /// The first topic that was not looked at; [`None`] before any was.
    next: Option<Box<[u8]>>,
    /// The number of updates when it came: later ones have reached the subscriber.
    pub(crate) since: u64,
}

/// What the subscriptions around another one say about its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    /// There are none.
    Nothing,
    /// All have come.
    Brought,
    /// Some may be still to come.
    ToBring,
}

/// A subscription is around so many others whose values are still to be sent that the broker
/// cannot find out at once what to send after the cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Wish {
    /// This one, for this topic, brings only what the other one would bring too.
    fn narrow(&mut self, topic: &[u8], other: &Self) {
        self.since = self.since.min(other.since);
        if other.next > self.next && other.next.as_deref() > Some(topic) {
            self.next.clone_from(&other.next);
        }
    }

    /// Whether it is still to bring the value of a topic that came with this number of updates.
    fn is_to_bring(&self, topic: &[u8], update: u64) -> bool {
        update <= self.since && self.next.as_deref().is_none_or(|next| next <= topic)
    }

    /// Whether it has nothing more to bring of topics that begin with its own.
    fn is_done(&self, topic: &[u8]) -> bool {
        let next = self.next.as_deref();
        self.since == BROUGHT || next.is_some_and(|it| it > topic && !it.starts_with(topic))
    }
}

impl Wishes {
    /// Adds a subscription, made after this number of updates. Counts the subscriptions looked at.
    pub(crate) fn add(
        &mut self,
        id: ConnId,
        (topic, updates): (&[u8], u64),
        xpub: &Xpub,
        looked_at: &mut usize,
    ) {
        if let Some(wish) = self.by_topic.get_mut(topic) {
            // It was cancelled, and others matched its topics all the time.
            self.released -= usize::from(!wish.is_held);
            wish.is_held = true;
            return;
        }
        let since = match self.around(id, topic, xpub, looked_at) {
            Around::Nothing => updates,
            Around::Brought => return,
            Around::ToBring => AS_AROUND,
        };
        self.insert(topic, since, true);
    }

    fn insert(&mut self, topic: &[u8], since: u64, is_held: bool) {
        self.bytes += memory(topic, None);
        self.released += usize::from(!is_held);
        let wish = Wish {
            is_held,
            next: None,
            since,
        };
        self.by_topic.insert(topic.into(), wish);
    }

    fn remove(&mut self, topic: &[u8]) -> Option<Wish> {
        let wish = self.by_topic.remove(topic)?;
        self.bytes -= memory(topic, wish.next.as_deref());
        self.released -= usize::from(!wish.is_held);
        Some(wish)
    }

    fn around(&self, id: ConnId, topic: &[u8], xpub: &Xpub, looked_at: &mut usize) -> Around {
        let mut around = Around::Nothing;
        xpub.for_each_wanted_prefix(id, topic, |prefix| {
            *looked_at += 1;
            if prefix.len() < topic.len() && around != Around::Brought {
                let may_come = self.by_topic.contains_key(prefix);
                around = [Around::Brought, Around::ToBring][usize::from(may_come)];
            }
        });
        around
    }

    /// A subscription was cancelled, and is not among those of the peer any more. `has_values`
    /// says whether there are any of its topics. Counts the subscriptions looked at, and fails if
    /// these are more than `most`.
    pub(crate) fn withdraw(
        &mut self,
        id: ConnId,
        (topic, has_values): (&[u8], bool),
        xpub: &Xpub,
        (looked_at, most): (&mut usize, usize),
    ) -> Result<(), TooMany> {
        let around = self.around(id, topic, xpub, looked_at);
        if around == Around::Nothing {
            return self.withdraw_alone(topic, (looked_at, most));
        }
        match self.by_topic.get_mut(topic) {
            Some(wish) if wish.since < AS_AROUND => {
                self.released += usize::from(wish.is_held);
                wish.is_held = false;
            }
            Some(_) => drop(self.remove(topic)),
            None if around == Around::ToBring && has_values => {
                self.insert(topic, BROUGHT, false);
            }
            None => {}
        }
        Ok(())
    }

    /// The same for a subscription that is not inside another one. Those inside it go on alone.
    fn withdraw_alone(
        &mut self,
        topic: &[u8],
        (looked_at, most): (&mut usize, usize),
    ) -> Result<(), TooMany> {
        let own = self.remove(topic).unwrap_or(Wish {
            is_held: true,
            next: None,
            since: BROUGHT,
        });
        // Those that end too: each is inside the one before it. All before the first subscription
        // that stays, and whether that has nothing more to bring.
        let mut ended: Vec<(Box<[u8]>, Wish)> = Vec::new();
        let mut outer: Option<(Box<[u8]>, bool)> = None;
        let mut gone = Vec::new();
        let behind = (Excluded(topic), Unbounded);
        for (found, wish) in self.by_topic.range_mut::<[u8], _>(behind) {
            if !found.starts_with(topic) {
                break;
            }
            *looked_at += 1;
            if *looked_at > most {
                return Err(TooMany);
            }
            if let Some((outer, is_done)) = &outer
                && found.starts_with(outer)
            {
                if *is_done {
                    gone.push(found.clone());
                }
                continue;
            }
            while ended.pop_if(|(it, _)| !found.starts_with(it)).is_some() {}
            let before = memory(found, wish.next.as_deref());
            wish.narrow(found, ended.last().map_or(&own, |(_, it)| it));
            self.bytes = self.bytes - before + memory(found, wish.next.as_deref());
            let is_done = wish.is_done(found);
            if !wish.is_held || is_done {
                gone.push(found.clone());
            }
            if wish.is_held {
                outer = Some((found.clone(), is_done));
            } else {
                ended.push((found.clone(), wish.clone()));
            }
        }
        for topic in gone {
            self.remove(&topic);
        }
        Ok(())
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
            self.released -= usize::from(!wish.is_held);
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
            let other = self.by_topic.get(prefix);
            is_first &= prefix == wish || other.is_some_and(|it| it.is_to_bring(topic, update));
        });
        is_first && self.released_are_to_bring((topic, update), looked_at)
    }

    /// Whether no cancelled subscription has brought the value of a topic that came with this
    /// number of updates, while another one matched it.
    fn released_are_to_bring(&self, (topic, update): (&[u8], u64), looked_at: &mut usize) -> bool {
        let mut end = topic;
        while self.released > 0
            && let mut before = self.by_topic.range::<[u8], _>((Unbounded, Included(end)))
            && let Some((found, wish)) = before.next_back()
        {
            *looked_at += 1;
            let alike = found
                .iter()
                .zip(end)
                .take_while(|(one, other)| one == other);
            let alike = alike.count();
            // All prefixes of the topic that are longer come behind the one that was found.
            let is_prefix = alike == found.len();
            if is_prefix && !wish.is_held && !wish.is_to_bring(topic, update) {
                return false;
            }
            match alike.checked_sub(usize::from(is_prefix)) {
                Some(len) => end = &topic[..len],
                None => break,
            }
        }
        true
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
