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

/// The newest message of a topic. If several waiting senders went on at once, it is that of one of
/// them.
#[derive(Clone, Debug, Default)]
struct Newest {
    /// The number of the input in which it came.
    batch: u64,
    /// The call of the core in which waiting senders went on; none if it did not wait.
    call: Option<u64>,
    /// By sender, unless it is older than the broker.
    keys: BTreeMap<Option<ConnId>, Key>,
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
}

/// A value that a subscriber was sent.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    batch: u64,
    /// Its key, if it was not known which of several messages became the value.
    pub(super) is_news: bool,
    key: Key,
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
                newest.keys = [(None, key)].into();
            }
        }
    }

    /// A message of a publisher goes on: in this call, if it had to wait.
    pub(super) fn keep(&mut self, id: ConnId, message: &Pending, call: Option<u64>) {
        let own = self.mirrors[&id].socket;
        let Some(across) = own.across() else { return };
        if self.sockets[index(own)].socket_type == SocketType::Xsub
            && let Some(values) = &mut self.sockets[index(across)].values
            && values.keeps(&message.first)
        {
            let newest = values.newest.entry(message.first.clone()).or_default();
            if call.is_none() || newest.call != call {
                newest.keys.clear();
            }
            (newest.batch, newest.call) = (self.batch, call);
            newest.keys.insert(Some(id), message.key);
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
            .map(|(found, newest)| (found.clone(), newest.offer(self.batch, is_due)))
            .collect();
        let count = new.len() as u64;
        let at = index(mirror.socket);
        self.sockets[at].offered += count;
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        for (topic, offer) in new {
            mirror.offers.waiting.entry(topic).or_default().push(offer);
        }
    }

    /// A peer has cancelled a subscription: values may still be in its queue, and any value may
    /// come again for another subscription.
    pub(super) fn withdraw(&mut self, id: ConnId) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let socket = &mut self.sockets[index(mirror.socket)];
        mirror.offers.nothing_is_due();
        let Some(values) = &socket.values else { return };
        for (topic, newest) in &values.newest {
            if mirror.is_for(topic) {
                let offer = newest.offer(self.batch, false);
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
    fn offer(&self, made_in: u64, is_due: bool) -> Offer {
        Offer {
            batch: self.batch,
            is_due,
            keys: self.keys.values().copied().collect(),
            made_in,
            may_have_come: false,
        }
    }
}

impl SocketModel {
    /// A subscriber was sent a value: no other of its subscribers gets another one of that topic.
    pub(super) fn learn_value(&mut self, taken: &Taken) {
        let values = self.values.as_mut().filter(|_| taken.is_news);
        let newest = values.and_then(|values| values.newest.get_mut(&taken.topic));
        if let Some(newest) = newest.filter(|it| it.batch == taken.batch) {
            newest.keys.retain(|_, key| *key == taken.key);
            let topic = taken.topic.escape_ascii();
            assert!(!newest.keys.is_empty(), "{topic} has two last values");
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
            let alike = (0..all.len()).filter(|at| all[*at].keys.contains(&key));
            let made_in = alike.clone().map(|at| all[at].made_in).min()?;
            // Of several, one that is due has come.
            let due = alike.clone().find(|at| all[*at].is_due);
            let offer = all.swap_remove(due.or_else(|| alike.clone().next())?);
            Some(Taken {
                batch: offer.batch,
                is_news: offer.keys.len() > 1,
                key,
                made_in,
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

    fn nothing_is_due(&mut self) {
        for offer in self.waiting.values_mut().flatten() {
            offer.is_due = false;
        }
    }
}
