//! The subscriptions that one publisher has got, and its pending changes.

use crate::ids::ConnId;
use crate::limits::UPSTREAM_NOTED_BYTES_MAX;
use crate::pattern::trie::{Removed, Trie};

/// The change of a topic, as publishers must get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The last subscription was cancelled.
    Cancelled,
    /// One more subscription, in addition to others; publishers are to get each.
    Repeated,
    /// The first subscription.
    Subscribed,
}

/// When a publisher gets a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// At once.
    AtOnce,
    /// Later: when its turn in the table comes, or with the pending changes.
    Later,
    /// Never: it has so many pending changes that it must be closed.
    TooMuch,
}

/// A publisher.
///
/// A new one gets the table of topics in slices, in their order, so that the table is never copied
/// as a whole. A change of a topic that it has already got is noted while its queue is full; a
/// change that is reverted before the publisher got it is removed.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(super) filter: usize,
    pub(crate) id: ConnId,
    /// Whether it is in the line of publishers that have changes to get.
    pub(crate) is_in_line: bool,
    /// It had too many pending changes: no more are noted.
    is_lost: bool,
    /// Each topic with a pending change, held by those of [`CANCEL`], [`NEW`] and [`REPEAT`] that
    /// apply.
    noted: Trie,
    /// The first topic of the table that it has not got yet; `None` if it has got all.
    untold_from: Option<Vec<u8>>,
}

/// The publisher knows the topic, which was cancelled.
const CANCEL: u32 = 0;
/// The publisher does not know the topic, which is wanted.
const NEW: u32 = 1;
/// The publisher must get the topic whether it knows it or not.
const REPEAT: u32 = 2;

impl Change {
    /// Whether it is a subscription.
    pub(crate) fn is_add(self) -> bool {
        self != Self::Cancelled
    }
}

impl Publisher {
    /// A publisher that has got no topics yet.
    pub(super) fn new(id: ConnId) -> Self {
        Self {
            filter: 0,
            id,
            is_in_line: false,
            is_lost: false,
            noted: Trie::new(),
            untold_from: Some(Vec::new()),
        }
    }

    /// Decides when the publisher gets a change. `has_room` says whether its queue has room now.
    pub(crate) fn change(&mut self, topic: &[u8], change: Change, has_room: bool) -> Telling {
        let is_untold = |first: &Vec<u8>| topic >= first.as_slice();
        if self.is_lost || self.untold_from.as_ref().is_some_and(is_untold) {
            return Telling::Later;
        }
        if has_room && self.noted.topics() == 0 {
            return Telling::AtOnce;
        }
        self.note(topic, change);
        if self.noted.bytes() <= UPSTREAM_NOTED_BYTES_MAX {
            return Telling::Later;
        }
        self.is_lost = true;
        self.noted = Trie::new();
        Telling::TooMuch
    }

    fn note(&mut self, topic: &[u8], change: Change) {
        let noted = &mut self.noted;
        match change {
            Change::Subscribed => {
                if noted.remove(topic, CANCEL) == Removed::NotFound {
                    noted.insert(topic, NEW);
                }
            }
            Change::Repeated => {
                noted.insert(topic, REPEAT);
            }
            Change::Cancelled => {
                noted.remove(topic, REPEAT);
                if noted.remove(topic, NEW) == Removed::NotFound {
                    noted.insert(topic, CANCEL);
                }
            }
        }
    }

    /// Whether it has changes to get.
    pub(crate) fn is_behind(&self) -> bool {
        !self.is_lost && (self.noted.topics() > 0 || self.untold_from.is_some())
    }

    /// The topic at which the table continues, if it has not got all of it.
    pub(super) fn untold_from(&self) -> Option<&[u8]> {
        self.untold_from.as_deref()
    }

    /// It has got the table up to `last`, or to its end.
    pub(super) fn told_up_to(&mut self, last: Option<Vec<u8>>) {
        self.untold_from = last.map(|mut topic| {
            // No topic lies between a topic and the same with a zero byte at the end.
            topic.push(0);
            topic
        });
    }

    /// Takes out up to `limit` pending changes and calls `tell` with each topic, and whether it is
    /// wanted; returns the number of changes.
    pub(super) fn take_noted(&mut self, limit: usize, mut tell: impl FnMut(&[u8], bool)) -> usize {
        let before = self.noted.subscriptions();
        for kind in [NEW, REPEAT, CANCEL] {
            let taken = before - self.noted.subscriptions();
            // A topic that is both new and repeated is sent once, with its last change.
            self.noted
                .remove_peer(kind, limit - taken, |topic| tell(topic, kind != CANCEL));
        }
        before - self.noted.subscriptions()
    }

    /// Heap bytes of the pending changes, in constant time.
    pub(super) fn memory(&self) -> u64 {
        let cursor = self.untold_from.as_ref().map_or(0, Vec::capacity);
        (self.noted.bytes() + cursor) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher() -> Publisher {
        let mut publisher = Publisher::new(ConnId {
            generation: 0,
            slot: 0,
        });
        publisher.told_up_to(None);
        publisher
    }

    /// The result of these changes (`+`, `*` for one more, `-`) while the queue is full.
    fn told(changes: &[&str]) -> Vec<String> {
        let mut publisher = publisher();
        for change in changes {
            let (sign, topic) = change.split_at(1);
            let change = match sign {
                "+" => Change::Subscribed,
                "*" => Change::Repeated,
                _ => Change::Cancelled,
            };
            let telling = publisher.change(topic.as_bytes(), change, false);
            assert_eq!(telling, Telling::Later);
        }
        let mut told = Vec::new();
        while publisher.is_behind() {
            let taken = publisher.take_noted(1, |topic, add| {
                let sign = if add { '+' } else { '-' };
                told.push(format!("{sign}{}", topic.escape_ascii()));
            });
            assert_eq!(taken, 1);
        }
        assert!(publisher.memory() < 256, "{} bytes", publisher.memory());
        told.sort();
        told
    }

    #[test]
    fn a_reverted_change_is_not_sent() {
        let table: [(&[&str], &[&str]); 8] = [
            (&["+a", "+b"], &["+a", "+b"]),
            (&["+a", "-a"], &[]),
            (&["-a", "+a"], &[]),
            (&["-a", "+a", "-a"], &["-a"]),
            (&["+a", "-a", "+a"], &["+a"]),
            (&["+a", "*a", "*a"], &["+a"]),
            (&["*a", "-a"], &["-a"]),
            (&["+a", "*a", "-a", "+b"], &["+b"]),
        ];
        for (changes, expected) in table {
            assert_eq!(told(changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn a_topic_that_was_not_sent_yet_is_sent_in_its_turn() {
        let mut publisher = publisher();
        publisher.told_up_to(Some(b"m".to_vec()));
        for (topic, expected) in [
            (&b"a"[..], Telling::AtOnce),
            (b"m", Telling::AtOnce),
            (b"m\0", Telling::Later),
            (b"ma", Telling::Later),
        ] {
            let telling = publisher.change(topic, Change::Subscribed, true);
            assert_eq!(telling, expected, "{topic:?}");
        }
        assert_eq!(publisher.take_noted(9, |_, _| {}), 0);
    }

    #[test]
    fn pending_changes_are_limited() {
        let mut publisher = publisher();
        let mut number = 0_u64;
        loop {
            number += 1;
            let topic = format!("{number:01000}");
            let telling = publisher.change(topic.as_bytes(), Change::Subscribed, false);
            if telling == Telling::TooMuch {
                break;
            }
            assert_eq!(telling, Telling::Later);
            assert!(publisher.memory() <= UPSTREAM_NOTED_BYTES_MAX as u64);
        }
        assert!(number > 10_000);
        assert!(!publisher.is_behind() && publisher.memory() == 0);
        let telling = publisher.change(b"more", Change::Subscribed, false);
        assert_eq!((telling, publisher.memory()), (Telling::Later, 0));
    }
}
