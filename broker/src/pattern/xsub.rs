//! XSUB and SUB: hear every publisher, and tell every publisher what is wanted.

use crate::config::SocketOptions;
use crate::conn::{ConnId, ConnTable};
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use crate::pattern::Admit;
use crate::why::Drop;
use std::collections::BTreeMap;
use zmtp::{Frames, SocketType};

/// The publishers, and topics that are wanted without an XPUB across.
#[derive(Debug)]
pub(crate) struct Xsub {
    peers: Vec<ConnId>,
    socket_type: SocketType,
    /// What a SUB's configuration names, and what peers across have asked an XSUB for by messages, each
    /// with how often. An XPUB across has its own.
    topics: BTreeMap<Box<[u8]>, u32>,
    topics_bytes: usize,
}

impl Xsub {
    pub(crate) fn new(socket_type: SocketType) -> Self {
        Self {
            peers: Vec::new(),
            socket_type,
            topics: BTreeMap::new(),
            topics_bytes: 0,
        }
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

    /// A SUB filters again what it hears, because some publishers send everything; an XSUB does not.
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

    /// Counts a subscription or a cancel that came as a message from across; answers whether the
    /// publishers must hear of it: of every subscription, and of the last cancel, as libzmq's XSUB
    /// has it. `None` if there are too many.
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

    /// Calls `visit` with each topic wanted without an XPUB across.
    pub(crate) fn for_each_topic(&self, visit: impl FnMut(&[u8])) {
        self.topics.keys().map(AsRef::as_ref).for_each(visit);
    }

    /// The publishers.
    pub(crate) fn peers(&self) -> &[ConnId] {
        &self.peers
    }
}
