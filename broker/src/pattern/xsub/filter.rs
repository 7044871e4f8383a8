//! What some of the publishers of a socket may be asked for, and are.

use crate::config::SocketOptions;
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use std::collections::BTreeMap;

/// The topics that publishers of one link, or of all links without topics of their own, may be
/// asked for, and those they are asked for.
#[derive(Debug)]
pub(super) struct Filter {
    /// The topics that may be passed on, by prefix, none of them within another; none is all.
    allowed: Vec<Box<[u8]>>,
    store: Store,
}

/// Topics, each with how often it is wanted: those of a SUB, those asked for by messages, and those
/// that others were narrowed to. An XPUB across has its own store; what passes unchanged is not
/// here.
#[derive(Debug, Default)]
struct Store {
    bytes: usize,
    topics: BTreeMap<Box<[u8]>, u32>,
}

/// Who subscribes or cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A peer that sent a message.
    Message,
    /// The store of an XPUB, which tells of the first and the last only.
    Store,
}

/// What became of a subscription or a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// The topic is new, or gone.
    Edge,
    /// The topic is wanted by one more.
    Further,
    /// There is no room for it.
    Full,
    /// Others still want it, or nobody did.
    Nothing,
}

impl Filter {
    pub(super) fn new(topics: &[String], is_sub: bool) -> Self {
        let mut allowed: Vec<Box<[u8]>> = Vec::new();
        let mut sorted: Vec<&[u8]> = topics.iter().map(String::as_bytes).collect();
        sorted.sort_unstable();
        for topic in sorted {
            // What is within another comes right behind it.
            if allowed.last().is_none_or(|last| !topic.starts_with(last)) {
                allowed.push(topic.into());
            }
        }
        let mut store = Store::default();
        if is_sub {
            store
                .topics
                .extend(allowed.drain(..).map(|topic| (topic, 1)));
            if store.topics.is_empty() {
                store.topics.insert(Box::default(), 1);
            }
        }
        Self { allowed, store }
    }

    /// Whether subscriptions are narrowed on their way upstream.
    pub(super) fn narrows(&self) -> bool {
        !self.allowed.is_empty()
    }

    /// Whether a topic of the store is a prefix of this one.
    pub(super) fn holds_prefix_of(&self, topic: &[u8]) -> bool {
        (0..=topic.len()).any(|end| self.store.topics.contains_key(&topic[..end]))
    }

    /// Counts a subscription or a cancel and calls `tell` with each topic that publishers must hear
    /// of: the topic itself if it lies within an allowed one, or else the allowed ones that lie
    /// within it. False if there was no room.
    pub(super) fn change(
        &mut self,
        (topic, add): (&[u8], bool),
        origin: Origin,
        options: &SocketOptions,
        mut tell: impl FnMut(&[u8]),
    ) -> bool {
        let Self { allowed, store } = self;
        if allowed.is_empty() && origin == Origin::Store {
            tell(topic);
            return true;
        }
        let mut has_room = true;
        let mut count = |topic: &[u8]| match store.count(topic, add, options) {
            Counted::Edge => tell(topic),
            Counted::Further if origin == Origin::Message => tell(topic),
            Counted::Full => has_room = false,
            Counted::Further | Counted::Nothing => {}
        };
        if allowed.is_empty() || allowed.iter().any(|prefix| topic.starts_with(prefix)) {
            count(topic);
        } else {
            let within = allowed.iter().filter(|prefix| prefix.starts_with(topic));
            within.for_each(|prefix| count(prefix));
        }
        has_room
    }

    /// Calls `visit` with each topic of the store.
    pub(super) fn for_each_topic(&self, visit: impl FnMut(&[u8])) {
        self.store.topics.keys().map(AsRef::as_ref).for_each(visit);
    }
}

impl Store {
    fn count(&mut self, topic: &[u8], add: bool, options: &SocketOptions) -> Counted {
        match self.topics.get_mut(topic) {
            Some(count) if add => {
                *count = count.saturating_add(1);
                Counted::Further
            }
            Some(count) if *count > 1 => {
                *count -= 1;
                Counted::Nothing
            }
            Some(_) => {
                self.topics.remove(topic);
                self.bytes -= topic.len();
                Counted::Edge
            }
            None if !add => Counted::Nothing,
            None => {
                let has_room = self.topics.len() < options.subscriptions_max as usize
                    && self.bytes + topic.len() <= SUBSCRIPTION_BYTES_MAX
                    && topic.len() <= options.topic_size_max as usize;
                if !has_room {
                    return Counted::Full;
                }
                self.bytes += topic.len();
                self.topics.insert(topic.into(), 1);
                Counted::Edge
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What publishers hear of these subscriptions (`+`) and cancels (`-`).
    fn told(filter: &mut Filter, origin: Origin, changes: &[&str]) -> Vec<String> {
        let mut told = Vec::new();
        for change in changes {
            let (sign, topic) = change.split_at(1);
            let options = SocketOptions::default();
            let has_room =
                filter.change((topic.as_bytes(), sign == "+"), origin, &options, |topic| {
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
    fn what_several_are_narrowed_to_is_told_once_and_cancelled_once() {
        let mut filter = filter(&["eu.", "us."]);
        let changes = ["+", "+eu.", "+eu.de", "+e", "-", "-eu.", "-e", "-eu.de"];
        assert_eq!(
            told(&mut filter, Origin::Store, &changes),
            ["+eu.", "+us.", "+eu.de", "-us.", "-eu.", "-eu.de"]
        );
        filter.for_each_topic(|topic| panic!("{topic:?} is left"));
        assert_eq!(filter.store.bytes, 0);
    }

    #[test]
    fn what_is_asked_for_by_messages_is_passed_on_each_time_and_cancelled_once() {
        let changes = ["-a", "+a", "+a", "+b", "-a", "-a"];
        let expected = ["+a", "+a", "+b", "-a"];
        assert_eq!(told(&mut filter(&[]), Origin::Message, &changes), expected);
        let narrowed = told(&mut filter(&["a", "c"]), Origin::Message, &changes);
        assert_eq!(narrowed, ["+a", "+a", "-a"]);
    }

    #[test]
    fn there_is_room_for_so_much_and_no_more() {
        let options = SocketOptions {
            subscriptions_max: 2,
            topic_size_max: 4,
            ..SocketOptions::default()
        };
        let mut filter = filter(&[]);
        let mut add =
            |topic: &[u8]| filter.change((topic, true), Origin::Message, &options, |_| {});
        assert!(add(b"a") && add(b"a") && !add(b"long!") && add(b"b"));
        assert!(!add(b"c") && add(b"b"));
        let mut topics = Vec::new();
        filter.for_each_topic(|topic| topics.push(topic.to_vec()));
        assert_eq!(topics, [b"a", b"b"]);
    }
}
