//! The subscriptions of all peers of one XPUB: topics, and the peers that hold each.
//!
//! A radix trie. A topic is a *leaf*; topics diverge at a *branch*. A topic that is a prefix of
//! others is the *terminal* of a branch, so that leaves have no children and branches have no
//! peers:
//!
//! ```text
//!   "", "ab", "abc", "abd/x"        root ── terminal: leaf ""
//!                                    └─ 'a' branch "ab" ── terminal: leaf ""      (ab)
//!                                                       ├─ 'c' leaf "c"          (abc)
//!                                                       └─ 'd' leaf "d/x"        (abd/x)
//! ```
//!
//! A leaf keeps its number as long as its topic is held, unless it moves so that memory can be
//! freed: when less than a quarter of the slots is in use, each removal moves a few. A doubly
//! linked list through the leaves connects all leaves of a peer. It costs a peer sixteen bytes and
//! a subscription eight, and makes the removal of a peer proportional to its subscriptions.
//!
//! Peers choose topics, so the code does not recurse, each step looks at no more than 256 children,
//! and a label has at most 255 bytes: longer ones are chains. Memory does not fragment: leaves and
//! branches have one size each, everything else is in pools without holes (`pool`).

mod arena;
mod blocks;
mod holders;
mod label;
mod nodes;
mod pool;
#[cfg(test)]
mod tests;

use arena::NONE;
use holders::{Crowds, Holders, Link};
use nodes::{Node, Nodes, ROOT};
use pool::Moved;
use std::ops::ControlFlow;

/// A multiset of topics and their peers, matched by prefix.
///
/// A *peer* is a small number, dense from zero: the slot of a connection. The trie keeps sixteen
/// bytes for each number up to the largest that has subscribed since it was last empty.
///
/// A *topic* is any byte string, also the empty one. The trie does not limit topics; the code that
/// accepts them from peers does.
#[derive(Debug)]
pub struct Trie {
    nodes: Nodes,
    crowds: Crowds,
    /// The moves that may be made to free memory: see [`Trie::give_back`].
    credit: usize,
    lists: Vec<List>,
    subscriptions: usize,
    generation: u64,
}

/// The effect of [`Trie::insert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The peer is the first on that topic.
    First,
    /// The peer was added to others on that topic.
    Further,
    /// None: the peer held the topic already. Subscriptions are not counted per peer.
    Already,
}

/// The effect of [`Trie::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// The peer was the last on that topic.
    Last,
    /// The peer was removed; others still hold that topic.
    Other,
    /// None: the peer did not hold the topic. Do not pass this cancel upstream, where it would end
    /// the subscriptions of others.
    NotFound,
}

/// The leaves that one peer holds, newest first.
#[derive(Clone, Copy, Debug)]
struct List {
    /// The approximate bytes of their topics; a peer that is being removed counts by shares.
    bytes: u64,
    head: u32,
    count: u32,
}

impl Trie {
    /// A trie without topics and without heap memory.
    pub const fn new() -> Self {
        Self {
            nodes: Nodes::new(),
            crowds: Crowds::new(),
            credit: 0,
            lists: Vec::new(),
            subscriptions: 0,
            generation: 0,
        }
    }

    /// Subscribes `peer` to `topic`.
    ///
    /// O(length of the topic + logarithm of the number of peers on it).
    pub fn insert(&mut self, topic: &[u8], peer: u32) -> Inserted {
        let leaf = self.nodes.find_or_insert(topic);
        let mut holders = self.nodes.leaves[leaf].holders;
        let count = holders.count();
        if count > 0 && self.crowds.contains(holders, peer) {
            return Inserted::Already;
        }
        if self.lists.len() <= peer as usize {
            self.lists.resize(peer as usize + 1, List::EMPTY);
        }
        let list = &mut self.lists[peer as usize];
        let link = Link {
            previous: NONE,
            next: list.head,
        };
        list.head = leaf;
        list.bytes += topic.len() as u64;
        list.count += 1;
        let moved = self.crowds.insert(&mut holders, leaf, (peer, link));
        self.nodes.leaves[leaf].holders = holders;
        self.crowd_moved(moved);
        self.relink(link.next, peer, |link| link.previous = leaf);
        self.subscriptions += 1;
        self.generation += 1;
        if count == 0 {
            Inserted::First
        } else {
            Inserted::Further
        }
    }

    /// Reverts [`insert`](Self::insert), in the same time.
    pub fn remove(&mut self, topic: &[u8], peer: u32) -> Removed {
        match self
            .nodes
            .find(topic)
            .and_then(|leaf| Some((leaf, self.withdraw(leaf, peer, Some(topic.len()))?)))
        {
            None => Removed::NotFound,
            Some((_, count)) if count > 0 => Removed::Other,
            Some((leaf, _)) => {
                self.nodes.remove(leaf);
                self.give_back();
                Removed::Last
            }
        }
    }

    /// Removes at most `limit` subscriptions of `peer`, newest first, and calls `emptied` with each
    /// topic that no peer holds any more. Returns true when the peer has none left.
    ///
    /// Each costs what [`remove`](Self::remove) does, independent of the size of the trie.
    pub fn remove_peer(&mut self, peer: u32, limit: usize, mut emptied: impl FnMut(&[u8])) -> bool {
        self.remove_peer_beside(NONE, (peer, limit), |topic, _| emptied(topic))
    }

    /// The same, and calls `emptied` also with each topic that only `other` holds, and true.
    pub(crate) fn remove_peer_beside(
        &mut self,
        other: u32,
        (peer, limit): (u32, usize),
        mut emptied: impl FnMut(&[u8], bool),
    ) -> bool {
        let mut topic = Vec::new();
        for _ in 0..limit {
            let Some(&List {
                head: leaf,
                count: 1..,
                ..
            }) = self.lists.get(peer as usize)
            else {
                return true;
            };
            match self.withdraw(leaf, peer, None) {
                Some(0) => {
                    self.nodes.topic_of(leaf, &mut topic);
                    self.nodes.remove(leaf);
                    self.give_back();
                    emptied(&topic, false);
                }
                Some(1) if self.nodes.leaves[leaf].holders.only() == Some(other) => {
                    self.nodes.topic_of(leaf, &mut topic);
                    emptied(&topic, true);
                }
                _ => {}
            }
        }
        self.subscriptions_of(peer) == 0
    }

    /// Calls `visit` with the peers of every stored prefix of `topic`, including the empty one and
    /// `topic` itself. The peers of one prefix are in ascending order, in one slice or, if they are
    /// many, in several; no slice is empty. A peer that holds several of the prefixes appears
    /// several times.
    ///
    /// O(length of the longest stored prefix + number of peers); allocates nothing.
    pub fn matches(&self, topic: &[u8], mut visit: impl FnMut(&[u32])) {
        self.for_each_prefix(topic, |holders, _| self.crowds.visit(holders, &mut visit));
    }

    /// Calls `visit` with the length of each stored prefix of `topic` that `peer` holds, the
    /// shortest first. Allocates nothing.
    pub fn for_each_prefix_held(&self, topic: &[u8], peer: u32, mut visit: impl FnMut(usize)) {
        self.for_each_prefix(topic, |holders, rest| {
            if self.crowds.contains(holders, peer) {
                visit(topic.len() - rest);
            }
        });
    }

    /// Calls `visit` with the peers of every stored prefix of `topic`, and the number of bytes that
    /// follow it.
    #[inline(always)]
    fn for_each_prefix(&self, topic: &[u8], mut visit: impl FnMut(Holders, usize)) {
        if self.subscriptions == 0 {
            return;
        }
        let Nodes {
            leaves,
            branches,
            spills,
            ..
        } = &self.nodes;
        let (mut branch, mut rest) = (ROOT, topic);
        loop {
            let terminal = branches[branch].terminal;
            if terminal != NONE {
                visit(leaves[terminal].holders, rest.len());
            }
            let Some(&key) = rest.first() else { return };
            match self.nodes.child(branch, key) {
                None => return,
                Some(Node::Branch(next)) => {
                    let Some(after) = branches[next].label.strip_from(rest, spills) else {
                        return;
                    };
                    (branch, rest) = (next, after);
                }
                Some(Node::Leaf(leaf)) => {
                    if let Some(after) = leaves[leaf].label.strip_from(rest, spills) {
                        visit(leaves[leaf].holders, after.len());
                    }
                    return;
                }
            }
        }
    }

    /// Calls `visit` with each topic that any peer holds, once, in the order of their bytes.
    ///
    /// Allocates one buffer for the longest topic.
    pub fn for_each_topic(&self, mut visit: impl FnMut(&[u8])) {
        self.for_each_topic_from(&[], |topic, _| {
            visit(topic);
            ControlFlow::Continue(())
        });
    }

    /// Calls `visit` with each topic from `first` on, in order, and the number of its peers, until
    /// `visit` breaks.
    pub fn for_each_topic_from(
        &self,
        first: &[u8],
        mut visit: impl FnMut(&[u8], usize) -> ControlFlow<()>,
    ) {
        if self.subscriptions == 0 {
            return;
        }
        let Nodes {
            leaves, branches, ..
        } = &self.nodes;
        // The loop needs no stack: it finds the next child by the first byte of the last one.
        let (mut branch, mut key_min, mut topic) = self.nodes.lower_bound(first);
        let count = |leaf: u32| leaves[leaf].holders.count();
        if topic.len() >= first.len() && branches[branch].terminal != NONE {
            let flow = visit(&topic, count(branches[branch].terminal));
            if flow.is_break() {
                return;
            }
        }
        loop {
            match key_min.and_then(|key| self.nodes.child_from(branch, key)) {
                Some(node) => {
                    let start = topic.len();
                    topic.resize(start + self.nodes.label_len(node), 0);
                    self.nodes.label_copy(node, &mut topic[start..]);
                    let leaf = match node {
                        Node::Leaf(leaf) => leaf,
                        Node::Branch(next) => branches[next].terminal,
                    };
                    if leaf != NONE && visit(&topic, count(leaf)).is_break() {
                        return;
                    }
                    match node {
                        Node::Leaf(leaf) => {
                            topic.truncate(start);
                            key_min = leaves[leaf].label.first().checked_add(1);
                        }
                        Node::Branch(next) => (branch, key_min) = (next, Some(0)),
                    }
                }
                None if branch == ROOT => return,
                None => {
                    let label = &branches[branch].label;
                    topic.truncate(topic.len() - label.len());
                    key_min = label.first().checked_add(1);
                    branch = branches[branch].parent;
                }
            }
        }
    }

    /// Whether any stored topic is not empty, so that [`Self::matches`] may differ between topics.
    pub fn tells_apart(&self) -> bool {
        let has_empty = self.subscriptions > 0 && self.nodes.branches[ROOT].terminal != NONE;
        self.topics() > usize::from(has_empty)
    }

    /// Calls `visit` with each topic that `peer` holds, newest first.
    pub fn topics_of(&self, peer: u32, mut visit: impl FnMut(&[u8])) {
        let mut next = self.lists.get(peer as usize).map_or(NONE, |list| list.head);
        let mut topic = Vec::new();
        while next != NONE {
            self.nodes.topic_of(next, &mut topic);
            visit(&topic);
            let holders = self.nodes.leaves[next].holders;
            next = self
                .crowds
                .link(holders, peer)
                .map_or(NONE, |link| link.next);
        }
    }

    /// Distinct topics.
    pub const fn topics(&self) -> usize {
        self.nodes.leaves.live()
    }

    /// Pairs of a topic and a peer.
    pub const fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// Topics that `peer` holds.
    pub fn subscriptions_of(&self, peer: u32) -> usize {
        self.lists
            .get(peer as usize)
            .map_or(0, |list| list.count as usize)
    }

    /// Peers that hold `topic` itself. O(length of the topic).
    pub fn holders_of(&self, topic: &[u8]) -> usize {
        let leaf = self.nodes.find(topic);
        leaf.map_or(0, |leaf| self.nodes.leaves[leaf].holders.count())
    }

    /// Whether `peer` holds `topic` itself. O(length of the topic).
    pub fn holds(&self, topic: &[u8], peer: u32) -> bool {
        let leaf = self.nodes.find(topic);
        leaf.is_some_and(|leaf| self.crowds.contains(self.nodes.leaves[leaf].holders, peer))
    }

    /// The only peer that holds `topic` itself. O(length of the topic).
    #[inline]
    pub fn only_holder_of(&self, topic: &[u8]) -> Option<u32> {
        let leaf = self.nodes.find(topic)?;
        self.nodes.leaves[leaf].holders.only()
    }

    /// The approximate heap bytes of `peer`: its topics and their bookkeeping. O(1).
    pub fn bytes_of(&self, peer: u32) -> u64 {
        self.lists.get(peer as usize).map_or(0, |list| {
            list.bytes + u64::from(list.count) * SUBSCRIPTION_BYTES
        })
    }

    /// Heap bytes held, used or not. O(1).
    pub const fn bytes(&self) -> usize {
        self.nodes.bytes() + self.crowds.bytes() + self.lists.capacity() * size_of::<List>()
    }

    /// A number that changes whenever the result of [`matches`](Self::matches) may change.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Removes `peer` from a leaf and returns the number of peers left there; the leaf stays.
    /// Without the length of the topic, the average length of the peer's topics counts.
    fn withdraw(&mut self, leaf: u32, peer: u32, topic_len: Option<usize>) -> Option<usize> {
        let mut holders = self.nodes.leaves[leaf].holders;
        let (link, moved) = self.crowds.remove(&mut holders, leaf, peer)?;
        self.nodes.leaves[leaf].holders = holders;
        self.crowd_moved(moved);
        let list = &mut self.lists[peer as usize];
        list.bytes -= match topic_len {
            Some(len) => list.bytes.min(len as u64),
            None => list.bytes / u64::from(list.count),
        };
        list.count -= 1;
        if list.count == 0 {
            list.bytes = 0;
        }
        if link.previous == NONE {
            list.head = link.next;
        }
        self.relink(link.previous, peer, |neighbour| neighbour.next = link.next);
        self.relink(link.next, peer, |neighbour| {
            neighbour.previous = link.previous
        });
        self.subscriptions -= 1;
        self.generation += 1;
        Some(holders.count())
    }

    fn relink(&mut self, leaf: u32, peer: u32, change: impl FnOnce(&mut Link)) {
        if leaf != NONE {
            self.crowds
                .relink(&mut self.nodes.leaves[leaf].holders, peer, change);
        }
    }

    fn crowd_moved(&mut self, moved: Option<Moved>) {
        if let Some(Moved { owner, at }) = moved {
            let count = self.nodes.leaves[owner].holders.count();
            self.nodes.leaves[owner].holders = Holders::many(at, count);
        }
    }

    /// Frees memory after a topic was removed: all of it with the last topic, and a little while
    /// less than a quarter of the slots is in use. Each removal pays for a few moves; a leaf with
    /// many holders, each of which must learn its new number, moves when enough removals have paid.
    fn give_back(&mut self) {
        self.release_if_empty();
        let is_sparse = |trie: &Self| {
            [
                trie.nodes.leaves.is_sparse(),
                trie.nodes.branches.is_sparse(),
            ]
        };
        if is_sparse(self) == [false; 2] {
            self.credit = 0;
            return;
        }
        self.credit += MOVES_PER_REMOVAL;
        while self.credit > 0 {
            let cost = match is_sparse(self) {
                [true, _] => self.drop_last_leaf(),
                [_, true] => self.drop_last_branch(),
                _ => return,
            };
            match cost {
                Some(cost) => self.credit = self.credit.saturating_sub(cost),
                None => return,
            }
        }
    }

    /// Removes one leaf slot, if there is credit for it; returns the cost.
    fn drop_last_leaf(&mut self) -> Option<usize> {
        let Some(from) = self.nodes.leaves.drop_last() else {
            return Some(1);
        };
        let holders = self.nodes.leaves[from].holders;
        if holders.count() > self.credit {
            return None;
        }
        let to = self.nodes.move_last_leaf(from);
        self.crowds.set_owner(holders, to);
        let mut links = Vec::with_capacity(holders.count());
        self.crowds
            .for_each_link(holders, |peer, link| links.push((peer, link)));
        for (peer, Link { previous, next }) in links {
            if previous == NONE {
                self.lists[peer as usize].head = to;
            }
            self.relink(previous, peer, |neighbour| neighbour.next = to);
            self.relink(next, peer, |neighbour| neighbour.previous = to);
        }
        Some(holders.count())
    }

    /// Removes one branch slot; returns the cost.
    fn drop_last_branch(&mut self) -> Option<usize> {
        if let Some(from) = self.nodes.branches.drop_last() {
            self.nodes.move_last_branch(from);
        }
        Some(1)
    }

    fn release_if_empty(&mut self) {
        if self.topics() == 0 {
            debug_assert_eq!(self.subscriptions, 0);
            self.nodes = Nodes::new();
            self.crowds = Crowds::new();
            self.lists.clear();
            // Not to nothing, because a peer may subscribe and cancel as often as it likes.
            self.lists.shrink_to(LISTS_KEPT);
        }
    }
}

impl Default for Trie {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    const EMPTY: Self = Self {
        bytes: 0,
        head: NONE,
        count: 0,
    };
}

const LISTS_KEPT: usize = 1024;

/// Slots that one removal may free while most are vacant: twice the number that would keep their
/// share.
const MOVES_PER_REMOVAL: usize = 8;

/// Bytes of a subscription in addition to its topic: a leaf, its place among the children of a
/// branch, a share of the branch.
const SUBSCRIPTION_BYTES: u64 = 40;
