//! The topics that one subscriber wants.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

/// Topics of one subscriber, each with the number of its subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    size: usize,
    topics: BTreeMap<Box<[u8]>, u32>,
}

/// Topics that one subscriber may have, and their bytes together.
const TOPICS_MAX: usize = 100_000;
const SIZE_MAX: usize = 4 << 20;

/// The bookkeeping of a topic: its place in a tree that may be half empty, and an allocation.
const TOPIC_BYTES: usize = 80;

impl Subscriptions {
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Adds a subscription; false if the peer has too many.
    #[must_use]
    pub(crate) fn add(&mut self, topic: &[u8]) -> bool {
        if let Some(count) = self.topics.get_mut(topic) {
            *count = count.saturating_add(1);
            return true;
        }
        if self.topics.len() >= TOPICS_MAX || self.size + topic.len() > SIZE_MAX {
            return false;
        }
        self.size += topic.len();
        self.topics.insert(topic.into(), 1);
        true
    }

    /// Whether there are more topics, or more bytes of all.
    pub(crate) fn exceed(&self, topics: usize, size: usize) -> bool {
        self.topics.len() > topics || self.size > size
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        self.size + self.topics.len() * TOPIC_BYTES
    }

    /// Cancels a subscription.
    pub(crate) fn remove(&mut self, topic: &[u8]) {
        if let Some(count) = self.topics.get_mut(topic) {
            *count -= 1;
            if *count == 0 {
                self.size -= topic.len();
                self.topics.remove(topic);
            }
        }
    }

    /// Whether a topic is a prefix of the first frame of a message.
    pub(crate) fn matches(&self, first: &[u8]) -> bool {
        // Prefixes of `first` sort before it, the longest last. Between two of them may stand other
        // topics: then the next candidate is what they have in common with it.
        let mut end = first;
        loop {
            let mut below = self.topics.range::<[u8], _>((Unbounded, Included(end)));
            let Some((topic, _)) = below.next_back() else {
                return false;
            };
            if first.starts_with(topic) {
                return true;
            }
            let common = topic.iter().zip(end).take_while(|(a, b)| a == b).count();
            end = &end[..common];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_matches_if_a_topic_is_a_prefix() {
        let mut wanted = Subscriptions::default();
        assert!(!wanted.matches(b"a"));
        for topic in ["a.b", "a.bc", "a.c.d", "b", "a.c.d.e"] {
            assert!(wanted.add(topic.as_bytes()));
        }
        for (first, expected) in [
            ("a", false),
            ("a.b", true),
            ("a.bb", true),
            ("a.c", false),
            ("a.c.e", false),
            ("a.c.d.z", true),
            ("bzz", true),
            ("c", false),
            ("", false),
        ] {
            assert_eq!(wanted.matches(first.as_bytes()), expected, "{first}");
        }
        assert!(wanted.add(b""));
        assert!(wanted.matches(b"") && wanted.matches(b"c"));
    }

    /// Against the definition, with all short texts of two letters.
    #[test]
    fn matching_is_as_a_scan_finds_it() {
        let texts: Vec<Vec<u8>> = (0..5_u32)
            .flat_map(|len| {
                (0..1_u32 << len).map(move |bits| {
                    (0..len)
                        .map(|at| if bits >> at & 1 == 0 { b'a' } else { b'b' })
                        .collect()
                })
            })
            .collect();
        for seed in 0..200_usize {
            let topics: Vec<&Vec<u8>> =
                (0..4).map(|at| &texts[(seed * 7 + at * 11) % 31]).collect();
            let mut wanted = Subscriptions::default();
            assert!(topics.iter().all(|topic| wanted.add(topic)));
            for text in &texts {
                let expected = topics.iter().any(|topic| text.starts_with(topic));
                assert_eq!(wanted.matches(text), expected, "{topics:?} {text:?}");
            }
        }
    }

    #[test]
    fn subscriptions_are_counted_and_limited() {
        let mut wanted = Subscriptions::default();
        assert!(wanted.add(b"a") && wanted.add(b"a"));
        wanted.remove(b"a");
        wanted.remove(b"b");
        assert!(wanted.matches(b"a"));
        wanted.remove(b"a");
        assert!(wanted.is_empty() && wanted.size == 0);
        let topic = |number: usize| format!("{number:040}").into_bytes();
        let taken = (0..TOPICS_MAX).filter(|number| wanted.add(&topic(*number)));
        assert_eq!(taken.count(), TOPICS_MAX);
        assert!(!wanted.add(b"one more"));
        assert!(wanted.add(&topic(0)), "one that is there is counted");
        let mut long = Subscriptions::default();
        let wide = |number: u8| vec![number; SIZE_MAX / 4];
        assert!((0..4).all(|number| long.add(&wide(number))));
        assert!(!long.add(b"x"));
    }
}
