//! XPUB and PUB: send each message to those whose subscriptions match its first frame.

use crate::config::SocketOptions;
use crate::conn::{ConnId, ConnTable};
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use crate::pattern::trie::{Inserted, Removed, Trie};
use crate::why::Why;
use zmtp::SocketType;

/// Who subscribes to what.
#[derive(Debug)]
pub(crate) struct Xpub {
    /// For each slot the number of the last message it was matched with, where a peer could be matched
    /// twice.
    stamps: Vec<u64>,
    message: u64,
    slots: Vec<u32>,
    socket_type: SocketType,
    trie: Trie,
}

impl Xpub {
    pub(crate) fn new(socket_type: SocketType) -> Self {
        Self {
            stamps: Vec::new(),
            message: 0,
            slots: Vec::new(),
            socket_type,
            trie: Trie::new(),
        }
    }

    /// Whether it is a PUB: what its peers send, subscriptions apart, is nobody's business.
    #[inline]
    pub(crate) fn is_pub(&self) -> bool {
        self.socket_type == SocketType::Pub
    }

    /// Enters or cancels a subscription; answers whether the publishers must hear of it: they hear of
    /// the first subscription to a topic and of the last cancel. A cancel of what a peer never had is
    /// nobody's business, or it could cut others off.
    pub(crate) fn subscribe(
        &mut self,
        id: ConnId,
        topic: &[u8],
        add: bool,
        options: &SocketOptions,
    ) -> Result<bool, Why> {
        if !add {
            let is_last = self.trie.remove(topic, id.slot) == Removed::Last;
            return Ok(is_last && !self.is_pub());
        }
        let inserted = self.trie.insert(topic, id.slot);
        let has_too_many = self.trie.subscriptions_of(id.slot) > options.subscriptions_max as usize;
        if has_too_many || self.trie.bytes() > SUBSCRIPTION_BYTES_MAX {
            // Nobody upstream has heard of it, so nobody must hear of its end.
            if inserted != Inserted::Already {
                self.trie.remove(topic, id.slot);
            }
            return Err(Why::TooManySubscriptions);
        }
        Ok(inserted == Inserted::First && !self.is_pub())
    }

    /// Removes up to `limit` subscriptions of a peer that left, calling `emptied` for each topic that
    /// nobody wants any more; answers whether none is left.
    pub(crate) fn forget(&mut self, id: ConnId, limit: usize, emptied: impl FnMut(&[u8])) -> bool {
        self.trie.remove_peer(id.slot, limit, emptied)
    }

    /// Calls `visit` with each topic that somebody subscribes to, once.
    pub(crate) fn for_each_topic(&self, visit: impl FnMut(&[u8])) {
        self.trie.for_each_topic(visit);
    }

    /// Distinct topics.
    pub(crate) fn topics(&self) -> usize {
        self.trie.topics()
    }

    /// Puts the peers that want `topic` into `targets`, each once.
    #[inline]
    pub(crate) fn matches(&mut self, topic: &[u8], conns: &ConnTable, targets: &mut Vec<ConnId>) {
        let Self {
            stamps,
            message: stamp,
            slots,
            trie,
            ..
        } = self;
        slots.clear();
        let mut sets = 0;
        trie.matches(topic, |peers| {
            sets += 1;
            if sets == 1 {
                slots.extend_from_slice(peers);
                return;
            }
            if sets == 2 {
                *stamp += 1;
                for slot in slots.iter() {
                    is_new(stamps, *slot, *stamp);
                }
            }
            slots.extend(peers.iter().filter(|slot| is_new(stamps, **slot, *stamp)));
        });
        targets.clear();
        targets.extend(
            slots
                .iter()
                .filter_map(|slot| Some(conns.in_slot(*slot)?.0)),
        );
    }
}

/// Stamps a slot; false if it already was.
fn is_new(stamps: &mut Vec<u64>, slot: u32, stamp: u64) -> bool {
    let index = slot as usize;
    if index >= stamps.len() {
        stamps.resize(index + 1, 0);
    }
    std::mem::replace(&mut stamps[index], stamp) != stamp
}
