//! What a role permits one user: topics, and a rate.

use crate::config::{RoleConfig, TopicRule};
use crate::pattern::begins_with;
use crate::sort;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A set of topics: all that begin with one of some prefixes, and single ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Topics {
    /// Single topics, sorted, none of them with one of the prefixes.
    exact: Vec<Box<[u8]>>,
    /// Prefixes, sorted, none of them within another.
    prefixes: Vec<Box<[u8]>>,
}

impl Topics {
    fn new(rules: &[TopicRule], user: &str, counts: impl Fn(&TopicRule) -> bool) -> Self {
        let (mut exact, mut prefixes) = (Vec::<Box<[u8]>>::new(), Vec::<Box<[u8]>>::new());
        for rule in rules.iter().filter(|rule| counts(rule)) {
            let topic = rule.for_user(user).into_boxed_slice();
            if rule.is_exact() {
                exact.push(topic);
            } else {
                prefixes.push(topic);
            }
        }
        sort::by(&mut prefixes, &mut Ord::cmp);
        let mut topics = Self::default();
        for prefix in prefixes {
            // A prefix within another comes right after it.
            if !topics.covers(&prefix) {
                topics.prefixes.push(prefix);
            }
        }
        sort::by(&mut exact, &mut Ord::cmp);
        exact.dedup();
        exact.retain(|topic| !topics.covers(topic));
        topics.exact = exact;
        topics
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// Whether every topic that begins with this one is in the set.
    fn covers(&self, topic: &[u8]) -> bool {
        let after = self.prefixes.partition_point(|prefix| **prefix <= *topic);
        // Only the last prefix before the topic can be one of it.
        after > 0 && begins_with(topic, &self.prefixes[after - 1])
    }

    fn has(&self, topic: &[u8]) -> bool {
        self.covers(topic) || is_in(&self.exact, topic)
    }

    /// Whether this is one of the prefixes or single topics.
    fn is_rule(&self, topic: &[u8]) -> bool {
        is_in(&self.prefixes, topic) || is_in(&self.exact, topic)
    }
}

fn is_in(sorted: &[Box<[u8]>], topic: &[u8]) -> bool {
    sorted
        .binary_search_by(|other| (**other).cmp(topic))
        .is_ok()
}

/// Those of a sorted list that begin with this topic.
fn within<'a>(sorted: &'a [Box<[u8]>], topic: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let first = sorted.partition_point(|other| **other < *topic);
    let rest = sorted[first..].iter().map(|other| &**other);
    rest.take_while(|other| other.starts_with(topic))
}

/// The topics that a user may send or receive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Permits {
    allowed: Topics,
    denied: Topics,
}

impl Permits {
    /// The topics that a role lets a user send.
    pub(crate) fn publish(role: &RoleConfig, user: &str) -> Self {
        Self::new(&role.publish, &role.publish_deny, user)
    }

    /// The topics that a role lets a user receive.
    pub(crate) fn subscribe(role: &RoleConfig, user: &str) -> Self {
        Self::new(&role.subscribe, &role.subscribe_deny, user)
    }

    /// Every topic.
    pub(crate) fn everything() -> Self {
        let all = [b""[..].into()];
        Self {
            allowed: Topics {
                prefixes: all.into(),
                ..Topics::default()
            },
            denied: Topics::default(),
        }
    }

    fn new(allowed: &[TopicRule], denied: &[TopicRule], user: &str) -> Self {
        // The prefix of a user without a name would be that of every user.
        Self {
            allowed: Topics::new(allowed, user, |rule| {
                !(user.is_empty() && rule.names_user())
            }),
            denied: Topics::new(denied, user, |_| true),
        }
    }

    /// Whether every topic is permitted.
    pub(crate) fn is_everything(&self) -> bool {
        self.allowed.covers(b"") && self.denied.is_empty()
    }

    /// Whether a message with this topic is permitted.
    pub(crate) fn has(&self, topic: &[u8]) -> bool {
        !self.denied.has(topic) && self.allowed.has(topic)
    }

    /// Whether narrowed subscriptions match messages that are not permitted.
    pub(crate) fn needs_filter(&self) -> bool {
        !(self.allowed.exact.is_empty() && self.denied.is_empty())
    }

    /// The subscriptions that are left of one: itself if it is permitted as a whole, otherwise the
    /// permitted prefixes and topics within it.
    pub(crate) fn narrow(&self, topic: &[u8]) -> Vec<Box<[u8]>> {
        let Self { allowed, denied } = self;
        if allowed.covers(topic) {
            let itself = (!denied.covers(topic)).then(|| topic.into());
            return itself.into_iter().collect();
        }
        let prefixes = within(&allowed.prefixes, topic).filter(|prefix| !denied.covers(prefix));
        let exact = within(&allowed.exact, topic).filter(|topic| !denied.has(topic));
        prefixes.chain(exact).map(Into::into).collect()
    }

    /// Whether a narrowed subscription may come from several: it is a prefix or topic of the role.
    pub(crate) fn is_rule(&self, topic: &[u8]) -> bool {
        self.allowed.is_rule(topic)
    }
}

/// Topics that a cache of decisions has room for.
const VERDICTS: usize = 16;

/// Bytes of the longest topic that is kept there; longer ones are decided about each time.
const VERDICT_SIZE_MAX: usize = 46;

/// The latest decisions about the topics of one connection.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    entries: Option<Box<[Option<Verdict>; VERDICTS]>>,
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    may: bool,
    size: u8,
    topic: [u8; VERDICT_SIZE_MAX],
}

impl Verdicts {
    /// The decision about a topic: the kept one, or that of `decide`.
    pub(crate) fn of(&mut self, topic: &[u8], decide: impl FnOnce() -> bool) -> bool {
        let size = topic.len();
        if size > VERDICT_SIZE_MAX {
            return decide();
        }
        let byte = |index: usize| topic.get(index).map_or(0, |byte| usize::from(*byte));
        let mixed = size + byte(size.wrapping_sub(1)) + 5 * byte(size / 2);
        let entries = self
            .entries
            .get_or_insert_with(|| Box::new([None; VERDICTS]));
        let entry = &mut entries[mixed % VERDICTS];
        if let Some(known) = entry
            && known.topic[..usize::from(known.size)] == *topic
        {
            return known.may;
        }
        let may = decide();
        let mut kept = [0; VERDICT_SIZE_MAX];
        kept[..size].copy_from_slice(topic);
        *entry = Some(Verdict {
            may,
            size: u8::try_from(size).unwrap_or(0),
            topic: kept,
        });
        may
    }
}

/// What the role of its user means for one connection.
#[derive(Debug)]
pub(crate) struct Permit {
    /// Messages of the peer that were dropped because they are not permitted.
    pub(crate) denied: u64,
    /// The rate of its user is limited.
    pub(crate) is_paced: bool,
    /// It is not read until its user may send again.
    pub(crate) is_paused: bool,
    /// The topic of the first message that was denied since the last report.
    news: Option<Box<[u8]>>,
    /// The topics of the messages that it may send, if they have topics.
    publish: Option<Arc<Permits>>,
    /// The number of its user.
    pub(crate) user: usize,
    verdicts: Verdicts,
}

impl Permit {
    pub(crate) fn new(user: usize, publish: Option<Arc<Permits>>, is_paced: bool) -> Self {
        Self {
            denied: 0,
            is_paced,
            is_paused: false,
            news: None,
            publish: publish.filter(|permits| !permits.is_everything()),
            user,
            verdicts: Verdicts::default(),
        }
    }

    /// Whether messages of the peer have to be looked at.
    pub(crate) fn limits_topics(&self) -> bool {
        self.publish.is_some()
    }

    /// Whether the peer may send a message with this topic; counts those that it may not.
    pub(crate) fn may_publish(&mut self, topic: &[u8]) -> bool {
        let Some(permits) = &self.publish else {
            return true;
        };
        let may = self.verdicts.of(topic, || permits.has(topic));
        if !may {
            self.denied += 1;
            self.news
                .get_or_insert_with(|| topic[..topic.len().min(SHOWN_SIZE_MAX)].into());
        }
        may
    }

    /// Takes the topic to be reported, if there is one.
    pub(crate) fn take_news(&mut self) -> Option<Box<[u8]>> {
        self.news.take()
    }
}

/// Bytes of a denied topic that are kept for the log.
pub(crate) const SHOWN_SIZE_MAX: usize = 64;

/// The time whose worth of messages or bytes may come at once.
const BURST: Duration = Duration::from_secs(1);

/// A token bucket: full, it has what may come in a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// The time at which it is full again.
    full_at: Instant,
    /// Units per second; zero is unlimited.
    rate: u64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: u64, now: Instant) -> Self {
        Self { full_at: now, rate }
    }

    /// The same tokens, to be filled at another rate.
    pub(crate) fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// Whether it limits anything.
    pub(crate) fn is_limited(&self) -> bool {
        self.rate > 0
    }

    /// The whole units in it.
    pub(crate) fn level(&self, now: Instant) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let missing = self.full_at.saturating_duration_since(now);
        let there = BURST.saturating_sub(missing).as_nanos() * u128::from(self.rate);
        u64::try_from(there / BURST.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes units out of it, more than it has if need be.
    pub(crate) fn take(&mut self, units: u64, now: Instant) {
        if self.rate > 0 {
            self.full_at = self.full_at.max(now) + self.time_for(units);
        }
    }

    /// The time at which it has one unit.
    pub(crate) fn ready_at(&self) -> Instant {
        let ready = self.full_at + self.time_for(1);
        ready.checked_sub(BURST).unwrap_or(ready)
    }

    fn time_for(&self, units: u64) -> Duration {
        let nanos = (u128::from(units) * BURST.as_nanos()).div_ceil(u128::from(self.rate.max(1)));
        // A debt beyond a year is forgiven.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(DEBT_MAX)
    }
}

const DEBT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
#[path = "permit_tests.rs"]
mod tests;
