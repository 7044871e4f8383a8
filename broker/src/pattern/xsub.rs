//! XSUB and SUB: hear every publisher, and tell every publisher what is wanted.

use crate::config::SocketOptions;
use crate::conn::{ConnId, ConnTable};
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use crate::pattern::Admit;
use crate::why::Drop;
use std::collections::BTreeMap;
use zmtp::{Frames, SocketType};

/// The publishers, and topics that are wanted.
#[derive(Debug)]
pub(crate) struct Xsub {
    /// The topics that an XSUB may pass on, by prefix; none is all.
    allowed: Vec<Box<[u8]>>,
    peers: Vec<ConnId>,
    socket_type: SocketType,
    /// What a SUB's configuration names, and what an XSUB was asked for, each with how often. An
    /// XPUB across has its own store, so that this one is empty unless topics must be narrowed.
    topics: BTreeMap<Box<[u8]>, u32>,
    topics_bytes: usize,
}

impl Xsub {
    pub(crate) fn new(socket_type: SocketType, options: &SocketOptions) -> Self {
        let configured = || {
            options
                .subscribe
                .iter()
                .map(|topic| topic.as_bytes().into())
        };
        let mut topics = BTreeMap::new();
        if socket_type == SocketType::Sub {
            topics.extend(configured().map(|topic| (topic, 1)));
            if topics.is_empty() {
                topics.insert(Box::default(), 1);
            }
        }
        Self {
            allowed: configured().collect(),
            peers: Vec::new(),
            socket_type,
            topics,
            topics_bytes: 0,
        }
    }

    /// Whether subscriptions are narrowed to configured topics on their way upstream.
    pub(crate) fn narrows(&self) -> bool {
        !self.allowed.is_empty() && !self.is_sub()
    }

    /// Whether a topic is in its own store.
    pub(crate) fn wants(&self, topic: &[u8]) -> bool {
        self.topics.contains_key(topic)
    }

    /// What goes upstream for a subscription to `topic`: itself if it lies within an allowed one,
    /// or else the allowed ones that lie within it.
    pub(crate) fn narrowed<'a>(&'a self, topic: &'a [u8]) -> Vec<&'a [u8]> {
        if self
            .allowed
            .iter()
            .any(|allowed| topic.starts_with(allowed))
        {
            return vec![topic];
        }
        let within = self
            .allowed
            .iter()
            .filter(|allowed| allowed.starts_with(topic));
        within.map(AsRef::as_ref).collect()
    }

    /// Whether it is a SUB: nothing is sent through it.
    pub(crate) fn is_sub(&self) -> bool {
        self.socket_type == SocketType::Sub
    }

    pub(crate) fn attach(&mut self, id: ConnId, conns: &mut ConnTable) {
        if let Some(conn) = conns.get_mut(id) {
            conn.turn = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
            self.peers.push(id);
        }
    }

    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        let Some(index) = conns.get(id).map(|conn| conn.turn as usize) else {
            return;
        };
        if self.peers.get(index) != Some(&id) {
            return;
        }
        self.peers.swap_remove(index);
        if let Some(moved) = self
            .peers
            .get(index)
            .and_then(|moved| conns.get_mut(*moved))
        {
            moved.turn = u32::try_from(index).unwrap_or(u32::MAX);
        }
    }

    /// A SUB filters again what it hears, because some publishers send everything; an XSUB does
    /// not.
    #[inline]
    pub(crate) fn admit(&self, wire: &[u8]) -> Admit {
        if self.is_sub() {
            let topic = Frames::new(wire).next().map_or(&[][..], |frame| frame.body);
            let is_prefix = |end| self.topics.contains_key(&topic[..end]);
            if !(0..=topic.len()).any(is_prefix) {
                return Admit::Drop(Drop::NotExpected);
            }
        }
        Admit::Pass { skip: 0 }
    }

    /// What subscribers send upstream beside subscriptions goes to every publisher, as in libzmq.
    pub(crate) fn all(&self, targets: &mut Vec<ConnId>) {
        targets.clear();
        targets.extend_from_slice(&self.peers);
    }

    /// Counts a subscription or a cancel in its own store; answers whether the publishers must hear
    /// of it: of every subscription, and of the last cancel, as libzmq's XSUB has it. `None` if
    /// there are too many.
    pub(crate) fn subscribe(
        &mut self,
        topic: &[u8],
        add: bool,
        options: &SocketOptions,
    ) -> Option<bool> {
        if add {
            let is_known = self.topics.contains_key(topic);
            let has_room = self.topics.len() < options.subscriptions_max as usize
                && self.topics_bytes + topic.len() <= SUBSCRIPTION_BYTES_MAX;
            if !is_known {
                if !has_room || topic.len() > options.topic_size_max as usize {
                    return None;
                }
                self.topics_bytes += topic.len();
            }
            let count = self.topics.entry(topic.into()).or_default();
            *count = count.saturating_add(1);
            return Some(true);
        }
        match self.topics.get_mut(topic) {
            None => Some(false),
            Some(count) if *count > 1 => {
                *count -= 1;
                Some(false)
            }
            Some(_) => {
                self.topics.remove(topic);
                self.topics_bytes -= topic.len();
                Some(true)
            }
        }
    }

    /// Calls `visit` with each topic in its own store.
    pub(crate) fn for_each_topic(&self, visit: impl FnMut(&[u8])) {
        self.topics.keys().map(AsRef::as_ref).for_each(visit);
    }

    /// The publishers.
    pub(crate) fn peers(&self) -> &[ConnId] {
        &self.peers
    }
}
