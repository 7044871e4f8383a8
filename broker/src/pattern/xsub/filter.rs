//! The topics that some publishers of a socket may be asked for, and those that they are asked for.

use crate::config::SocketOptions;
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use crate::pattern::trie::{Inserted, Removed, Trie};
use crate::pattern::xsub::publisher::Change;
use crate::sort;
use std::ops::ControlFlow;

/// The topics that the publishers of one link, or of all links without topics of their own, may be
/// asked for, and those that they are asked for.
#[derive(Debug)]
pub(super) struct Filter {
    /// The topics that may be passed on, by prefix, none of them within another; empty means all.
    allowed: Vec<Box<[u8]>>,
    store: Store,
}

/// Topics with the number of their subscriptions: those of a SUB, those requested by messages, and
/// those to which others were narrowed. An XPUB across has its own store; subscriptions that pass
/// unchanged are not in this one.
///
/// The peers of a topic in the trie are the bits that are set in the number of its subscriptions,
/// so that one structure works for all stores of topics, and its memory is known exactly.
#[derive(Debug, Default)]
struct Store {
    topics: Trie,
}

/// The origin of a subscription or a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From a peer that sent a message.
    Message,
    /// The store of an XPUB, which counts the subscriptions of a topic itself.
    Store,
}

/// The effect of a subscription or a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// The topic is new, or gone.
    Edge,
    /// The topic has one more subscription.
    Further,
    /// The store has no room for it.
    Full,
    /// Other subscriptions remain, or there were none.
    Nothing,
}

impl Filter {
    pub(super) fn new(topics: &[String], is_sub: bool) -> Self {
        let mut allowed: Vec<Box<[u8]>> = Vec::new();
        let mut sorted: Vec<&[u8]> = topics.iter().map(String::as_bytes).collect();
        sort::by(&mut sorted, &mut Ord::cmp);
        for topic in sorted {
            // A prefix within another comes right after it.
            if allowed.last().is_none_or(|last| !topic.starts_with(last)) {
                allowed.push(topic.into());
            }
        }
        let mut store = Store::default();
        if is_sub {
            if allowed.is_empty() {
                allowed.push(Box::default());
            }
            for topic in allowed.drain(..) {
                store.add(&topic);
            }
        }
        Self { allowed, store }
    }

    /// Whether subscriptions are narrowed on their way upstream.
    pub(super) fn narrows(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Whether a topic of the store is a prefix of this one. Compares at most as many bytes as the
    /// longest topic of the store has.
    pub(super) fn holds_prefix_of(&self, topic: &[u8]) -> bool {
        let mut is_held = false;
        self.store.topics.matches(topic, |_| is_held = true);
        is_held
    }

    /// Counts a subscription or a cancel and calls `tell` with each topic that publishers must get,
    /// and its change: the topic itself if it is within an allowed one, otherwise the allowed ones
    /// within it. False if there was no room.
    pub(super) fn change(
        &mut self,
        (topic, change): (&[u8], Change),
        origin: Origin,
        options: &SocketOptions,
        mut tell: impl FnMut(&[u8], Change),
    ) -> bool {
        let Self { allowed, store } = self;
        if allowed.is_empty() && origin == Origin::Store {
            tell(topic, change);
            return true;
        }
        let mut has_room = true;
        let mut count = |topic: &[u8]| {
            if change == Change::Repeated && origin == Origin::Store {
                // The store has counted this one already, and will cancel it once.
                return tell(topic, change);
            }
            match store.count(topic, change.is_add(), options) {
                Counted::Edge if change.is_add() => tell(topic, Change::Subscribed),
                Counted::Edge => tell(topic, Change::Cancelled),
                Counted::Further if origin == Origin::Message => tell(topic, Change::Repeated),
                Counted::Full => has_room = false,
                Counted::Further | Counted::Nothing => {}
            }
        };
        if allowed.is_empty() || allowed.iter().any(|prefix| topic.starts_with(prefix)) {
            count(topic);
        } else {
            let within = allowed.iter().filter(|prefix| prefix.starts_with(topic));
            within.for_each(|prefix| count(prefix));
        }
        has_room
    }

    /// Calls `visit` with each topic of the store from `first` on, in order, until `visit` breaks.
    pub(super) fn for_each_topic_from(
        &self,
        first: &[u8],
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) {
        let topics = &self.store.topics;
        topics.for_each_topic_from(first, |topic, _| visit(topic));
    }

    /// Takes over a topic that was wanted so often before this filter was there.
    pub(super) fn adopt(&mut self, topic: &[u8], times: u64) {
        let Self { allowed, store } = self;
        let mut add = |topic: &[u8]| {
            let exponents = (0..u64::BITS).filter(|bit| times >> bit & 1 == 1);
            exponents.for_each(|exponent| store.add_from(exponent, topic));
        };
        if allowed.is_empty() || allowed.iter().any(|prefix| topic.starts_with(prefix)) {
            add(topic);
        } else {
            let within = allowed.iter().filter(|prefix| prefix.starts_with(topic));
            within.for_each(|prefix| add(prefix));
        }
    }

    /// Calls `visit` with each topic of the store, and how often it is wanted.
    pub(super) fn for_each_wanted(&self, mut visit: impl FnMut(&[u8], u64)) {
        self.for_each_topic_from(b"", |topic| {
            visit(topic, self.store.times(topic));
            ControlFlow::Continue(())
        });
    }

    /// Heap bytes of the store, in constant time.
    pub(super) fn memory(&self) -> u64 {
        self.store.topics.bytes() as u64
    }
}

impl Store {
    fn count(&mut self, topic: &[u8], add: bool, options: &SocketOptions) -> Counted {
        let is_held = self.topics.holders_of(topic) > 0;
        match (add, is_held) {
            (true, true) => {
                self.add(topic);
                Counted::Further
            }
            (true, false) => {
                let has_room = self.topics.topics() < options.subscriptions_max as usize
                    && self.topics.bytes() + topic.len() <= SUBSCRIPTION_BYTES_MAX
                    && topic.len() <= options.topic_size_max as usize;
                if !has_room {
                    return Counted::Full;
                }
                self.add(topic);
                Counted::Edge
            }
            (false, true) => self.subtract(topic),
            (false, false) => Counted::Nothing,
        }
    }

    /// Adds one to how often a topic is wanted.
    fn add(&mut self, topic: &[u8]) {
        self.add_from(0, topic);
    }

    /// Adds a power of two, as it is done on paper with binary digits.
    fn add_from(&mut self, exponent: u32, topic: &[u8]) {
        for bit in exponent..u64::BITS {
            if self.topics.insert(topic, bit) != Inserted::Already {
                return;
            }
            self.topics.remove(topic, bit);
        }
    }

    /// How often a topic of the store is wanted.
    fn times(&self, topic: &[u8]) -> u64 {
        // Those of its prefixes count too, until they are taken away again.
        let sum = |topic: &[u8]| {
            let mut sum = 0_u64;
            let add = |bits: &[u32]| sum += bits.iter().map(|bit| 1 << bit).sum::<u64>();
            self.topics.matches(topic, add);
            sum
        };
        match topic.split_last() {
            Some((_, shorter)) => sum(topic) - sum(shorter),
            None => sum(topic),
        }
    }

    /// Subtracts one from the number of a topic's subscriptions, which is not zero.
    fn subtract(&mut self, topic: &[u8]) -> Counted {
        for bit in 0..u64::BITS {
            match self.topics.remove(topic, bit) {
                Removed::Last => return Counted::Edge,
                Removed::Other => return Counted::Nothing,
                Removed::NotFound => {
                    self.topics.insert(topic, bit);
                }
            }
        }
        Counted::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The subscriptions (`+`) and cancels (`-`) that publishers get for these changes.
    fn told(filter: &mut Filter, origin: Origin, changes: &[&str]) -> Vec<String> {
        let mut told = Vec::new();
        for change in changes {
            let (sign, topic) = change.split_at(1);
            let options = SocketOptions::default();
            let change = match sign {
                "+" => Change::Subscribed,
                "*" => Change::Repeated,
                _ => Change::Cancelled,
            };
            let change = (topic.as_bytes(), change);
            let has_room = filter.change(change, origin, &options, |topic, change| {
                let sign = if change.is_add() { '+' } else { '-' };
                told.push(format!("{sign}{}", topic.escape_ascii()));
            });
            assert!(has_room);
        }
        told
    }

    fn filter(topics: &[&str]) -> Filter {
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        Filter::new(&topics, false)
    }

    fn topics(filter: &Filter) -> Vec<Vec<u8>> {
        let mut topics = Vec::new();
        filter.for_each_topic_from(b"", |topic| {
            topics.push(topic.to_vec());
            ControlFlow::Continue(())
        });
        topics
    }

    #[test]
    fn topics_are_narrowed_on_their_way_upstream() {
        let table: [(&str, &[&str]); 6] = [
            ("+a/x", &["+a/x"]),
            ("+b", &["+b"]),
            ("+", &["+a/", "+b"]),
            ("+a", &["+a/"]),
            ("+c", &[]),
            ("-a/", &[]),
        ];
        for (change, expected) in table {
            let mut filter = filter(&["b", "a/", "a/y", "a/"]);
            assert_eq!(told(&mut filter, Origin::Store, &[change]), expected);
        }
    }

    #[test]
    fn a_topic_to_which_several_are_narrowed_is_sent_once_and_cancelled_once() {
        let mut filter = filter(&["eu.", "us."]);
        let changes = ["+", "+eu.", "+eu.de", "+e", "-", "-eu.", "-e", "-eu.de"];
        assert_eq!(
            told(&mut filter, Origin::Store, &changes),
            ["+eu.", "+us.", "+eu.de", "-us.", "-eu.", "-eu.de"]
        );
        assert_eq!(topics(&filter).len(), 0);
        assert!(filter.memory() < 256, "{} bytes", filter.memory());
    }

    #[test]
    fn a_repeated_subscription_is_cancelled_once_where_it_is_narrowed() {
        let changes = ["+eu.de", "*eu.de", "*eu.de", "-eu.de"];
        let mut filter = filter(&["eu."]);
        assert_eq!(
            told(&mut filter, Origin::Store, &changes),
            ["+eu.de", "+eu.de", "+eu.de", "-eu.de"]
        );
        assert_eq!(topics(&filter).len(), 0);
        assert!(filter.memory() < 256, "{} bytes", filter.memory());
    }

    #[test]
    fn a_topic_is_cancelled_after_as_many_cancels_as_subscriptions() {
        for count in 1..20 {
            let mut filter = filter(&[]);
            let changes: Vec<&str> = [vec!["+a"; count], vec!["-a"; count - 1]].concat();
            told(&mut filter, Origin::Message, &changes);
            assert_eq!(topics(&filter), [b"a"], "{count}");
            assert_eq!(told(&mut filter, Origin::Message, &["-a", "-a"]), ["-a"]);
            assert_eq!(topics(&filter).len(), 0);
            assert!(filter.memory() < 256, "{} bytes", filter.memory());
        }
    }

    #[test]
    fn a_frame_is_compared_no_further_than_the_longest_topic() {
        let topics = ["ab".to_owned(), "abc".to_owned()];
        let filter = Filter::new(&topics, true);
        let long = vec![b'x'; 1 << 20];
        // A comparison at each byte would take 2^36 steps.
        for _ in 0..1 << 16 {
            assert!(!filter.holds_prefix_of(&long));
        }
        assert!(filter.holds_prefix_of(b"ab") && !filter.holds_prefix_of(b"a"));
        assert!(Filter::new(&[], true).holds_prefix_of(b""));
    }

    #[test]
    fn subscriptions_by_messages_are_passed_on_each_time_and_cancelled_once() {
        let changes = ["-a", "+a", "+a", "+b", "-a", "-a"];
        let expected = ["+a", "+a", "+b", "-a"];
        assert_eq!(told(&mut filter(&[]), Origin::Message, &changes), expected);
        let narrowed = told(&mut filter(&["a", "c"]), Origin::Message, &changes);
        assert_eq!(narrowed, ["+a", "+a", "-a"]);
    }

    #[test]
    fn the_store_has_a_limit() {
        let options = SocketOptions {
            subscriptions_max: 2,
            topic_size_max: 4,
            ..SocketOptions::default()
        };
        let mut filter = filter(&[]);
        let mut add = |topic: &[u8]| {
            let change = (topic, Change::Subscribed);
            filter.change(change, Origin::Message, &options, |_, _| {})
        };
        assert!(add(b"a") && add(b"a") && !add(b"long!") && add(b"b"));
        assert!(!add(b"c") && add(b"b"));
        assert_eq!(topics(&filter), [b"a", b"b"]);
    }
}
