//! What one publisher has been told of, and what it is still to be told.

use crate::ids::ConnId;
use crate::limits::UPSTREAM_NOTED_BYTES_MAX;
use crate::pattern::trie::{Removed, Trie};

/// What became of a topic, as publishers must hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The last that wanted it cancelled.
    Cancelled,
    /// One more wants it, and the publishers are to hear of each.
    Repeated,
    /// The first wants it.
    Subscribed,
}

/// What a publisher hears of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// It is told at once.
    AtOnce,
    /// It is told later: when its turn in the table comes, or with what is noted for it.
    Later,
    /// So much is noted for it that it must be closed.
    TooMuch,
}

/// A publisher.
///
/// A new one is told the table of topics in slices, in their order, so that the table is never
/// copied whole. A change of a topic that is told, while the queue of the publisher is full, is
/// noted; a topic that changes back before the publisher heard of it is not noted any more.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(super) filter: usize,
    pub(crate) id: ConnId,
    /// Whether it has its place among the publishers that are being told something.
    pub(crate) is_in_line: bool,
    /// Too much was noted for it: nothing more is.
    is_lost: bool,
    /// Each topic of which it must hear, held by those of [`CANCEL`], [`NEW`] and [`REPEAT`] that
    /// apply.
    noted: Trie,
    /// Topics of the table before this one are told; `None` if all are.
    untold_from: Option<Vec<u8>>,
}

/// The publisher knows the topic, and it is cancelled.
const CANCEL: u32 = 0;
/// The publisher does not know the topic, and it is wanted.
const NEW: u32 = 1;
/// The publisher is to hear of the topic whether it knows it or not.
const REPEAT: u32 = 2;

impl Change {
    /// Whether it makes a subscription, and not a cancel.
    pub(crate) fn is_add(self) -> bool {
        self != Self::Cancelled
    }
}

impl Publisher {
    /// One that was told nothing.
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

    /// Decides when it is told of a change. `has_room` if its queue takes more now.
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

    /// Whether it is still to be told something.
    pub(crate) fn is_behind(&self) -> bool {
        !self.is_lost && (self.noted.topics() > 0 || self.untold_from.is_some())
    }

    /// Where the telling of the table goes on, if not all of it is told.
    pub(super) fn untold_from(&self) -> Option<&[u8]> {
        self.untold_from.as_deref()
    }

    /// The table has been told up to `last`, or to its end.
    pub(super) fn told_up_to(&mut self, last: Option<Vec<u8>>) {
        self.untold_from = last.map(|mut topic| {
            // No topic lies between one and the same with a zero behind it.
            topic.push(0);
            topic
        });
    }

    /// Takes out up to `limit` of what is noted and calls `tell` with each topic, and whether it is
    /// wanted; answers how many notes were taken.
    pub(super) fn take_noted(&mut self, limit: usize, mut tell: impl FnMut(&[u8], bool)) -> usize {
        let before = self.noted.subscriptions();
        for kind in [NEW, REPEAT, CANCEL] {
            let taken = before - self.noted.subscriptions();
            // A topic that is both new and repeated is told once, with its last note.
            self.noted
                .remove_peer(kind, limit - taken, |topic| tell(topic, kind != CANCEL));
        }
        before - self.noted.subscriptions()
    }

    /// Heap bytes of what is noted, in O(1).
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

    /// What is told of these changes (`+`, `*` for one more, `-`) while the queue is full.
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
    fn of_what_changes_back_nothing_is_told() {
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
    fn a_topic_that_is_not_told_yet_is_told_in_its_turn() {
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
    fn what_is_noted_is_bounded() {
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
