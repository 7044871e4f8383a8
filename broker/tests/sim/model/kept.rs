//! Last values: what new subscribers must get, and may get.

use super::*;
use broker::config::CacheConfig;
use broker::limits::CACHE_TOPIC_SIZE_MAX;
use broker::view::ValueView;

/// The last values of a forwarder, as a broker must keep them.
#[derive(Debug)]
pub(crate) struct Values {
    config: CacheConfig,
    /// The newest message of each topic.
    newest: BTreeMap<Vec<u8>, Newest>,
    /// Values may have given way to others, or to time.
    may_end: bool,
}

/// The numbers of the messages that pass a forwarder.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// The number of the message before the first one, once it is known.
    base: Option<u64>,
    /// Whether they are behind the messages.
    pub(super) are_shown: bool,
    /// Messages by their positions among all, as far as these are known.
    keys: BTreeMap<u64, Key>,
    /// Messages that have passed.
    passed: u64,
}

/// A message that may be the last value of its topic.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    /// None deletes the value.
    key: Option<Key>,
    /// Its position among all messages that get numbers, if known. Those from before the broker
    /// have 0.
    number: Option<u64>,
}

/// The newest message of a topic. If several waiting senders went on at once, it is that of one of
/// them.
#[derive(Clone, Debug, Default)]
struct Newest {
    /// The number of the input in which it came.
    batch: u64,
    /// The call of the core in which waiting senders went on; none if it did not wait.
    call: Option<u64>,
    /// By sender, unless it is older than the broker.
    candidates: BTreeMap<Option<ConnId>, Candidate>,
}

/// A value that a subscriber must get, or may get.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// The number of the input in which it came.
    batch: u64,
    is_due: bool,
    /// One of these.
    keys: BTreeSet<Key>,
    /// The number of the input from which the subscription came: the value is queued behind all
    /// that was queued before that.
    made_in: u64,
    /// The message itself came although the queue may have been full: if that was in truth this
    /// value, the message was dropped.
    may_have_come: bool,
    /// Its position among all messages that get numbers, if known.
    number: Option<u64>,
    /// The number of the input in which a newer message of its topic came: it is in the queue by
    /// then, or never.
    outdated_in: Option<u64>,
}

/// A value that a subscriber was sent.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    batch: u64,
    /// Its key, if it was not known which of several messages became the value.
    pub(super) is_news: bool,
    key: Key,
    number: Option<u64>,
    /// The number of the input before which all that was queued is in front of it.
    pub(super) made_in: u64,
    topic: Vec<u8>,
}

/// The values for one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    /// Values that it was not sent, by topic: one for each subscription.
    waiting: BTreeMap<Vec<u8>, Vec<Offer>>,
    /// The number of values that it was sent.
    pub(crate) sent: u64,
}

impl Values {
    pub(super) fn new(config: &CacheConfig, may_shed: bool) -> Self {
        let is_small = config.bytes_max < CacheConfig::BYTES_MAX;
        Self {
            config: config.clone(),
            newest: BTreeMap::new(),
            may_end: may_shed || is_small || config.age_max.is_some(),
        }
    }

    fn keeps(&self, topic: &[u8]) -> bool {
        let mut kept = self.config.topics.iter();
        let is_short = topic.len() <= CACHE_TOPIC_SIZE_MAX;
        is_short && kept.any(|prefix| topic.starts_with(prefix.as_bytes()))
    }
}

impl Model {
    /// The topics that the broker itself asks the publishers of a proxy for.
    pub(crate) fn kept_topics(config: &ProxyConfig) -> BTreeSet<Vec<u8>> {
        let cache = config.cache.iter().flat_map(|cache| &cache.topics);
        let replay = config.replay.socket.has_endpoint().then(Vec::new);
        let topics = cache.map(|topic| topic.clone().into_bytes());
        topics.chain(replay).collect()
    }

    /// A proxy keeps other values from now on, or none.
    pub(crate) fn set_cache(&mut self, proxy: u32, config: &ProxyConfig) {
        let may_shed = self.may_shed;
        let [front, back] = SocketName::SIDES.map(|side| SocketKey { proxy, side });
        self.sockets[index(front)].kept = Self::kept_topics(config);
        let values = &mut self.sockets[index(back)].values;
        let former = values.take();
        *values = config
            .cache
            .as_ref()
            .map(|cache| Values::new(cache, may_shed));
        if let (Some(values), Some(former)) = (values, former) {
            values.may_end |= former.may_end;
            values.newest = former.newest;
            let kept: Vec<_> = values
                .newest
                .keys()
                .filter(|it| !values.keeps(it))
                .cloned()
                .collect();
            for topic in kept {
                values.newest.remove(&topic);
            }
        }
        for mirror in self.mirrors.values_mut() {
            if mirror.socket == back {
                mirror.offers.nothing_is_due();
            }
        }
    }

    /// A broker began with these values.
    pub(crate) fn restored(&mut self, proxy: u32, restored: &[ValueView]) {
        let side = SocketName::Backend;
        let style = self.style;
        let socket = &mut self.sockets[index(SocketKey { proxy, side })];
        let Some(values) = &mut socket.values else {
            return;
        };
        for value in restored {
            let topic = Frames::new(&value.wire).next().expect("a frame").body;
            if values.keeps(topic) {
                let newest = values.newest.entry(topic.to_vec()).or_default();
                let key = key_of(style, &value.wire);
                let candidate = Candidate {
                    key: Some(key),
                    number: Some(0),
                };
                newest.candidates = [(None, candidate)].into();
            }
        }
    }

    /// A message of a publisher goes on: in this call, if it had to wait.
    pub(super) fn keep(&mut self, id: ConnId, message: &Pending, call: Option<u64>) {
        let own = self.mirrors[&id].socket;
        let Some(across) = own.across() else { return };
        let is_published = self.sockets[index(own)].socket_type == SocketType::Xsub;
        let socket = &mut self.sockets[index(across)];
        let next = socket.numbers.as_ref().map(|it| it.passed + 1);
        let values = socket.values.as_mut().filter(|_| is_published);
        let Some(values) = values.filter(|it| it.keeps(&message.first)) else {
            return;
        };
        let deletes = values.config.empty_deletes && message.is_empty;
        let newest = values.newest.entry(message.first.clone()).or_default();
        if call.is_none() || newest.call != call {
            newest.candidates.clear();
        }
        (newest.batch, newest.call) = (self.batch, call);
        let candidate = Candidate {
            key: (!deletes).then_some(message.key),
            number: next.filter(|_| call.is_none() && !self.may_shed),
        };
        newest.candidates.insert(Some(id), candidate);
        for mirror in self.mirrors.values_mut().filter(|it| it.socket == across) {
            mirror.offers.outdate(&message.first, self.batch);
        }
    }

    /// The position of a message that goes on among all that get numbers, if that is known.
    pub(super) fn number(&mut self, id: ConnId, key: Key, call: Option<u64>) -> Option<u64> {
        let own = self.mirrors[&id].socket;
        let is_published = self.sockets[index(own)].socket_type == SocketType::Xsub;
        let across = own.across().filter(|_| is_published)?;
        let socket = &mut self.sockets[index(across)];
        let numbers = socket.numbers.as_mut()?;
        numbers.passed += 1;
        // The order of those that had to wait is unknown.
        let is_known = call.is_none() && !self.may_shed;
        is_known.then(|| {
            numbers.keys.insert(numbers.passed, key);
            numbers.passed
        })
    }

    /// A peer is sent a message again: the one that had this number.
    pub(super) fn sent_again(&mut self, id: ConnId, answer: &[u8]) {
        let side = SocketName::Backend;
        let own = self.mirrors[&id].socket;
        let socket = &mut self.sockets[index(SocketKey { side, ..own })];
        let mut frames = Frames::new(answer);
        let number = frames.next().filter(|frame| frame.more);
        let number = number.and_then(|frame| frame.body.try_into().ok());
        if let Some(numbers) = &mut socket.numbers
            && let Some(number) = number.map(u64::from_be_bytes)
            && !socket.is_vague
        {
            let key = key_of(self.style, frames.rest());
            numbers.check_again(id, key, number);
        }
    }

    /// A peer has one more subscription: it gets the values that it did not get for another.
    pub(super) fn offer(&mut self, id: ConnId, topic: &[u8]) {
        let mirror = &self.mirrors[&id];
        let socket = &self.sockets[index(mirror.socket)];
        let Some(values) = &socket.values else { return };
        let is_new = |found: &[u8]| {
            let mut others = mirror.wanted.iter().filter(|other| ***other != *topic);
            found.starts_with(topic) && !others.any(|other| found.starts_with(other))
        };
        let new = values.newest.iter();
        let new = new.filter(|(found, _)| is_new(found) && mirror.is_for(found));
        let is_due = !(values.may_end || socket.is_lossy);
        let new: Vec<_> = new
            .filter_map(|(found, newest)| Some((found.clone(), newest.offer(self.batch, is_due)?)))
            .collect();
        let count = new.len() as u64;
        let at = index(mirror.socket);
        self.sockets[at].offered += count;
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        for (topic, offer) in new {
            mirror.offers.waiting.entry(topic).or_default().push(offer);
        }
    }

    /// A peer has cancelled a subscription: values that no other one matches may still be in its
    /// queue. No value that it has got comes again.
    pub(super) fn withdraw(&mut self, id: ConnId) {
        let batch = self.batch;
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let mut waiting = std::mem::take(&mut mirror.offers.waiting);
        let unwanted = waiting.iter_mut().filter(|(it, _)| !mirror.is_for(it));
        for offer in unwanted.flat_map(|(_, all)| all) {
            offer.is_due = false;
            offer.outdated_in.get_or_insert(batch);
        }
        mirror.offers.waiting = waiting;
    }

    /// The role of a peer has changed: values that it gets by now may come, or may not.
    pub(super) fn reconsider(&mut self, id: ConnId) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let socket = &mut self.sockets[index(mirror.socket)];
        mirror.offers.nothing_is_due();
        let Some(values) = &socket.values else { return };
        for (topic, newest) in &values.newest {
            let offer = newest.offer(self.batch, false);
            if let Some(offer) = offer.filter(|_| mirror.is_for(topic)) {
                let waiting = mirror.offers.waiting.entry(topic.clone());
                waiting.or_default().push(offer);
                socket.offered += 1;
            }
        }
    }

    /// Every value that a subscriber must get has come, unless a newer message took its place.
    pub(crate) fn check_values(&self) {
        for (id, mirror) in self.mirrors.iter().filter(|(_, mirror)| mirror.is_live()) {
            let socket = &self.sockets[index(mirror.socket)];
            for (topic, offer) in socket.owed(mirror) {
                assert!(
                    offer.may_have_come,
                    "{id:?} never got the value of {}: {:?}",
                    topic.escape_ascii(),
                    offer.keys
                );
            }
        }
    }
}

impl Newest {
    /// The value for a subscriber; [`None`] if it is deleted.
    fn offer(&self, made_in: u64, is_due: bool) -> Option<Offer> {
        let candidates = self.candidates.values();
        let keys: BTreeSet<Key> = candidates.clone().filter_map(|it| it.key).collect();
        let is_there = candidates.clone().all(|it| it.key.is_some());
        let numbers = candidates.map(|it| it.number);
        (!keys.is_empty()).then(|| Offer {
            batch: self.batch,
            is_due: is_due && is_there,
            number: numbers.clone().next().flatten().filter(|_| keys.len() == 1),
            keys,
            made_in,
            may_have_come: false,
            outdated_in: None,
        })
    }
}

impl Numbers {
    /// Whether a proxy puts numbers behind messages.
    pub(crate) fn are_shown(proxy: &ProxyConfig) -> bool {
        proxy.replay.sequence && proxy.replay.socket.has_endpoint()
    }

    pub(super) fn of(proxy: &ProxyConfig, side: SocketName) -> Option<Self> {
        let is_xpub = proxy.socket_type(side) == SocketType::Xpub && side == SocketName::Backend;
        (is_xpub && proxy.replay.socket.has_endpoint()).then(|| Self {
            are_shown: Self::are_shown(proxy),
            ..Self::default()
        })
    }

    /// A message that is sent again has the number that it had.
    fn check_again(&mut self, id: ConnId, key: Key, number: u64) {
        let Some(base) = self.base else {
            // Only one message has this key.
            let mut found = self.keys.iter().filter(|(_, it)| **it == key);
            let at = found.next().map(|(at, _)| *at);
            let at = at.filter(|_| matches!(key, Key::Numbered(..)));
            self.base = at.map(|at| number.wrapping_sub(at));
            return;
        };
        let known = self.keys.get(&number.wrapping_sub(base));
        assert!(
            known.is_none_or(|known| *known == key),
            "{id:?} was sent {key:?} again with the number {number} of {known:?}"
        );
    }

    fn check(&mut self, id: ConnId, key: Key, (number, at): (u64, u64)) {
        let base = *self.base.get_or_insert_with(|| number.wrapping_sub(at));
        assert_eq!(
            number,
            base.wrapping_add(at),
            "{id:?}: the number of {key:?}"
        );
    }
}

impl Taken {
    /// Whether its message passed before the broker began: it has no number.
    pub(super) fn is_restored(&self) -> bool {
        self.number == Some(0)
    }
}

impl SocketModel {
    /// The numbers of messages for a subscriber increase, and each message that passes has one.
    pub(super) fn check_number(
        &mut self,
        id: ConnId,
        mirror: &mut Mirror,
        number: Option<u64>,
        expected: &Expected,
    ) {
        let (Some(numbers), Some(number)) = (&mut self.numbers, number) else {
            return;
        };
        let key = expected.key;
        assert!(
            mirror.last_number.is_none_or(|last| last < number),
            "{id:?} was sent {key:?} with number {number} after {:?}",
            mirror.last_number
        );
        mirror.last_number = Some(number);
        if let Some(at) = expected.number {
            numbers.check(id, key, (number, at));
        }
    }

    /// A value has the number of its message; 0 if that passed before the broker began.
    pub(super) fn check_number_of_value(&mut self, id: ConnId, number: Option<u64>, taken: &Taken) {
        let (Some(numbers), Some(number)) = (&mut self.numbers, number) else {
            return;
        };
        match taken.number {
            Some(0) => assert_eq!(number, 0, "{id:?}: the number of {:?}", taken.key),
            Some(at) => numbers.check(id, taken.key, (number, at)),
            None => {}
        }
    }

    /// A subscriber was sent a value: no other of its subscribers gets another one of that topic.
    pub(super) fn learn_value(&mut self, taken: &Taken) {
        let values = self.values.as_mut().filter(|_| taken.is_news);
        let newest = values.and_then(|values| values.newest.get_mut(&taken.topic));
        if let Some(newest) = newest.filter(|it| it.batch == taken.batch) {
            newest.candidates.retain(|_, it| it.key == Some(taken.key));
            let topic = taken.topic.escape_ascii();
            assert!(!newest.candidates.is_empty(), "{topic} has two last values");
        }
    }

    /// The values that a subscriber must get and did not.
    fn owed<'a>(&'a self, mirror: &'a Mirror) -> impl Iterator<Item = (&'a Vec<u8>, &'a Offer)> {
        let values = self.values.as_ref().filter(|_| !self.is_vague);
        let waiting = mirror.offers.waiting.iter();
        let waiting = waiting.flat_map(|(topic, all)| all.iter().map(move |it| (topic, it)));
        waiting.filter(move |(topic, it)| {
            let newest = values.and_then(|values| values.newest.get(*topic));
            it.is_due && newest.is_some_and(|newest| newest.batch == it.batch)
        })
    }

    /// The number of messages that a subscriber missed although they seem to have come: what came
    /// were their values.
    pub(crate) fn missed_behind_values(&self, mirror: &Mirror) -> u64 {
        let owed = self.owed(mirror);
        owed.filter(|(_, offer)| offer.may_have_come).count() as u64
    }
}

impl Offers {
    /// Notes that a value was sent; [`None`] if there is no such value.
    pub(super) fn take(&mut self, key: Key) -> Option<Taken> {
        let mut waiting = self.waiting.iter_mut();
        let taken = waiting.find_map(|(topic, all)| {
            // They come in the order in which they were made, but those of cancelled subscriptions
            // may have been left out: of several, the last one may have come.
            let at = all.iter().position(|offer| offer.keys.contains(&key))?;
            let offer = all.remove(at);
            for later in all.iter_mut().filter(|it| it.keys.contains(&key)) {
                later.is_due &= offer.is_due;
            }
            let made_in = offer.made_in;
            Some(Taken {
                batch: offer.batch,
                is_news: offer.keys.len() > 1,
                key,
                made_in,
                number: offer.number,
                topic: topic.clone(),
            })
        })?;
        self.sent += 1;
        Some(taken)
    }

    pub(super) fn has(&self, key: Key) -> bool {
        let mut all = self.waiting.values().flatten();
        all.any(|offer| offer.keys.contains(&key))
    }

    /// The value of a topic is known by now.
    pub(super) fn learn(&mut self, taken: &Taken) {
        let of_topic = self.waiting.get_mut(&taken.topic).into_iter().flatten();
        for offer in of_topic.filter(|it| it.batch == taken.batch) {
            offer.keys.retain(|key| *key == taken.key);
        }
    }

    /// Notes that a message was sent that the queue may have had no room for.
    pub(super) fn may_have_come(&mut self, message: &Expected) {
        let mut alike = self.waiting.values_mut().flatten();
        let is_it = |it: &&mut Offer| it.keys.contains(&message.key) && it.made_in > message.batch;
        if let Some(offer) = alike.find(|it| is_it(it) && it.is_due && !it.may_have_come) {
            offer.may_have_come = true;
        }
    }

    /// A message with this topic was sent: an older one must not follow.
    pub(super) fn supersede(&mut self, topic: &[u8], batch: u64) {
        if let Some(all) = self.waiting.get_mut(topic) {
            all.retain(|offer| offer.batch >= batch);
        }
    }

    /// A newer message with this topic goes on.
    fn outdate(&mut self, topic: &[u8], batch: u64) {
        for offer in self.waiting.get_mut(topic).into_iter().flatten() {
            offer.outdated_in.get_or_insert(batch);
        }
    }

    /// A message of this input was sent: what was queued before it has come.
    pub(super) fn come_up_to(&mut self, batch: u64) {
        for all in self.waiting.values_mut() {
            all.retain(|offer| offer.outdated_in.is_none_or(|it| it >= batch));
        }
    }

    fn nothing_is_due(&mut self) {
        for offer in self.waiting.values_mut().flatten() {
            offer.is_due = false;
        }
    }
}
