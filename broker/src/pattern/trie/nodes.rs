//! The shape of the trie: topics to leaves and back.

use super::arena::{Arena, NONE, Neighbours, Slot};
use super::holders::Holders;
use super::label::{LABEL_BYTES_MAX, Label, Spill};
use super::pool::{Moved, Pool, Shape, capacity};

/// The first node of every search. It is never removed, and its label is empty.
pub(super) const ROOT: u32 = 0;

/// A topic that a peer holds. Its number changes only when memory is freed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// The branch above.
    pub(super) parent: u32,
    /// The bytes from `parent` to here. Empty if this is the terminal of `parent`.
    pub(super) label: Label<11>,
    pub(super) holders: Holders,
}

/// A place where topics diverge. Except for the root, it has at least two entries (the terminal and
/// the children), or one child that cannot be joined with it because the label would be too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    /// The branch above, [`NONE`] for the root.
    pub(super) parent: u32,
    /// The leaf of the topic that ends here, or [`NONE`].
    pub(super) terminal: u32,
    children_at: u32,
    children_count: u16,
    /// The bytes from `parent` to here.
    pub(super) label: Label<5>,
}

// A million topics are a million leaves and, if random, a quarter of a million branches.
const _: () = assert!(size_of::<Leaf>() == 28 && size_of::<Branch>() == 20);

/// A leaf or a branch, as stored among the children of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Leaf(u32),
    Branch(u32),
}

/// Leaves, branches, and their memory.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) leaves: Arena<Leaf>,
    pub(super) branches: Arena<Branch>,
    pub(super) spills: Pool<Spill>,
    pub(super) children: Pool<Children>,
}

/// First bytes of the children's labels, in ascending order; then the children.
#[derive(Debug)]
pub(super) struct Children;

impl Shape for Children {
    type Word = u8;
    const WIDTHS: &'static [usize] = &[1, NODE_BYTES];
}

impl Nodes {
    /// No topics, no heap memory.
    pub(super) const fn new() -> Self {
        Self {
            leaves: Arena::new(),
            branches: Arena::new(),
            spills: Pool::new(),
            children: Pool::new(),
        }
    }

    /// The leaf of `topic`. O(length of the topic).
    pub(super) fn find(&self, topic: &[u8]) -> Option<u32> {
        let (mut branch, mut rest) = (ROOT, topic);
        if self.leaves.live() == 0 {
            return None;
        }
        loop {
            let Some(&key) = rest.first() else {
                let terminal = self.branches[branch].terminal;
                return (terminal != NONE).then_some(terminal);
            };
            match self.child(branch, key)? {
                Node::Leaf(leaf) => {
                    let end = self.leaves[leaf].label.strip_from(rest, &self.spills)?;
                    return end.is_empty().then_some(leaf);
                }
                Node::Branch(next) => {
                    rest = self.branches[next].label.strip_from(rest, &self.spills)?;
                    branch = next;
                }
            }
        }
    }

    /// The leaf of `topic`, which is made if it does not exist; a new one has [`Holders::NONE`].
    /// O(length of the topic).
    pub(super) fn find_or_insert(&mut self, topic: &[u8]) -> u32 {
        if self.leaves.live() == 0 && self.branches.live() == 0 {
            self.branches.insert(Branch::below(NONE));
        }
        let (mut branch, mut rest) = (ROOT, topic);
        loop {
            let Some(&key) = rest.first() else {
                let terminal = self.branches[branch].terminal;
                return if terminal == NONE {
                    self.insert_below(branch, rest)
                } else {
                    terminal
                };
            };
            let Some(child) = self.child(branch, key) else {
                return self.insert_below(branch, rest);
            };
            let common = self.label_common(child, rest);
            rest = &rest[common..];
            match child {
                Node::Leaf(leaf) if rest.is_empty() && common == self.label_len(child) => {
                    return leaf;
                }
                Node::Branch(next) if common == self.label_len(child) => branch = next,
                _ => {
                    let parting = self.split(child, common);
                    let leaf = self.insert_below(parting, rest);
                    // Labels above and below the split are shorter now: they may fit into one.
                    self.tidy(branch);
                    if let Node::Branch(below) = child {
                        self.tidy(below);
                    }
                    return leaf;
                }
            }
        }
    }

    /// Removes a leaf and the branches that are not needed any more. O(length of the topic).
    pub(super) fn remove(&mut self, leaf: u32) {
        let Leaf { parent, label, .. } = self.leaves[leaf];
        if self.branches[parent].terminal == leaf {
            self.branches[parent].terminal = NONE;
        } else {
            self.detach(parent, label.first());
            self.set_label(Node::Leaf(leaf), &[]);
        }
        self.leaves.remove(leaf);
        self.tidy(parent);
    }

    /// Writes the topic of a leaf into `topic`. O(length of the topic).
    pub(super) fn topic_of(&self, leaf: u32, topic: &mut Vec<u8>) {
        topic.clear();
        let mut len = self.leaves[leaf].label.len();
        let mut branch = self.leaves[leaf].parent;
        while branch != NONE {
            len += self.branches[branch].label.len();
            branch = self.branches[branch].parent;
        }
        topic.resize(len, 0);
        let mut start = len - self.leaves[leaf].label.len();
        self.leaves[leaf]
            .label
            .copy_to(&mut topic[start..], &self.spills);
        branch = self.leaves[leaf].parent;
        while branch != NONE {
            let Branch { label, parent, .. } = &self.branches[branch];
            let end = start;
            start -= label.len();
            label.copy_to(&mut topic[start..end], &self.spills);
            branch = *parent;
        }
    }

    /// Moves the last leaf, which is `from`, to a vacant slot, and returns its new number. The
    /// caller must update its holders.
    pub(super) fn move_last_leaf(&mut self, from: u32) -> u32 {
        let to = self.leaves.move_last();
        let Leaf { parent, label, .. } = self.leaves[to];
        if label.len() == 0 {
            self.branches[parent].terminal = to;
        } else {
            debug_assert_eq!(self.child(parent, label.first()), Some(Node::Leaf(from)));
            self.replace(parent, label.first(), Node::Leaf(to));
        }
        let units = label.spill_units();
        if units > 0 {
            let owner = Node::Leaf(to).to_word();
            self.spills.set_owner(label.spill_at(), units, owner);
        }
        to
    }

    /// Moves the last branch, which is `from` and not the root, to a vacant slot.
    pub(super) fn move_last_branch(&mut self, from: u32) {
        let to = self.branches.move_last();
        let Branch {
            parent,
            terminal,
            children_at,
            label,
            ..
        } = self.branches[to];
        debug_assert_eq!(self.child(parent, label.first()), Some(Node::Branch(from)));
        self.replace(parent, label.first(), Node::Branch(to));
        if terminal != NONE {
            self.leaves[terminal].parent = to;
        }
        let count = self.branches[to].children_len();
        for index in 0..count {
            let child = self.child_at(to, index);
            self.set_parent(child, to);
        }
        if count > 0 {
            self.children.set_owner(children_at, count, to);
        }
        let units = label.spill_units();
        if units > 0 {
            let owner = Node::Branch(to).to_word();
            self.spills.set_owner(label.spill_at(), units, owner);
        }
    }

    /// The child whose label begins with `key`. Reads at most 256 keys.
    #[inline]
    pub(super) fn child(&self, branch: u32, key: u8) -> Option<Node> {
        let keys = self.keys(branch);
        let index = rank(keys, key);
        (keys.get(index) == Some(&key)).then(|| self.child_at(branch, index))
    }

    /// The first child whose label begins with `key` or more.
    pub(super) fn child_from(&self, branch: u32, key: u8) -> Option<Node> {
        let keys = self.keys(branch);
        let index = rank(keys, key);
        (index < keys.len()).then(|| self.child_at(branch, index))
    }

    /// The start of a walk in order that skips topics before `first`: a branch, the least key of
    /// its children to visit, and the bytes from the root down to it. These are all of `first` if
    /// the walk begins with the branch itself.
    pub(super) fn lower_bound(&self, first: &[u8]) -> (u32, Option<u8>, Vec<u8>) {
        let (mut branch, mut path) = (ROOT, Vec::new());
        loop {
            let rest = &first[path.len()..];
            let Some(&key) = rest.first() else {
                return (branch, Some(0), path);
            };
            let Some(child) = self.child(branch, key) else {
                return (branch, Some(key), path);
            };
            let mut label = vec![0; self.label_len(child)];
            self.label_copy(child, &mut label);
            match child {
                Node::Branch(next) if rest.starts_with(&label) => {
                    path.append(&mut label);
                    branch = next;
                }
                _ if label.as_slice() < rest => return (branch, key.checked_add(1), path),
                _ => return (branch, Some(key), path),
            }
        }
    }

    /// The keys of the children, ascending.
    #[inline]
    pub(super) fn keys(&self, branch: u32) -> &[u8] {
        let count = self.branches[branch].children_len();
        if count == 0 {
            return &[];
        }
        &self
            .children
            .words(self.branches[branch].children_at, count)[..count]
    }

    #[inline]
    pub(super) fn label_len(&self, node: Node) -> usize {
        match node {
            Node::Leaf(leaf) => self.leaves[leaf].label.len(),
            Node::Branch(branch) => self.branches[branch].label.len(),
        }
    }

    pub(super) fn label_copy(&self, node: Node, target: &mut [u8]) {
        match node {
            Node::Leaf(leaf) => self.leaves[leaf].label.copy_to(target, &self.spills),
            Node::Branch(branch) => self.branches[branch].label.copy_to(target, &self.spills),
        }
    }

    /// Heap bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.leaves.bytes() + self.branches.bytes() + self.spills.bytes() + self.children.bytes()
    }

    /// Makes a leaf for `rest` under a branch that has no node there yet.
    fn insert_below(&mut self, mut branch: u32, mut rest: &[u8]) -> u32 {
        while rest.len() > LABEL_BYTES_MAX {
            let (label, after) = rest.split_at(LABEL_BYTES_MAX);
            let link = self.branches.insert(Branch::below(branch));
            self.attach(branch, label[0], Node::Branch(link));
            self.set_label(Node::Branch(link), label);
            (branch, rest) = (link, after);
        }
        let (label, holders) = (Label::EMPTY, Holders::NONE);
        let leaf = self.leaves.insert(Leaf {
            parent: branch,
            label,
            holders,
        });
        match rest.first() {
            None => self.branches[branch].terminal = leaf,
            Some(&key) => {
                self.attach(branch, key, Node::Leaf(leaf));
                self.set_label(Node::Leaf(leaf), rest);
            }
        }
        leaf
    }

    /// Puts a branch above `node` such that the first `at` bytes of its label, at least one, lead
    /// to that branch. If those are all bytes of a leaf's label, the leaf becomes the terminal.
    fn split(&mut self, node: Node, at: usize) -> u32 {
        let mut label = [0; LABEL_BYTES_MAX];
        let label = &mut label[..self.label_len(node)];
        self.label_copy(node, label);
        let (above, below) = label.split_at(at);
        let parent = self.parent(node);
        let branch = self.branches.insert(Branch::below(parent));
        self.set_label(Node::Branch(branch), above);
        self.replace(parent, above[0], Node::Branch(branch));
        self.set_label(node, below);
        self.set_parent(node, branch);
        match (node, below.first()) {
            (_, Some(&key)) => self.attach(branch, key, node),
            (Node::Leaf(leaf), None) => self.branches[branch].terminal = leaf,
            (Node::Branch(_), None) => unreachable!("a branch was split at its end"),
        }
        branch
    }

    /// Removes `branch`, and then those above it, if it has no entry; replaces it by its only entry
    /// if it has just one.
    fn tidy(&mut self, mut branch: u32) {
        while branch != ROOT {
            let &Branch {
                parent,
                terminal,
                label,
                ..
            } = &self.branches[branch];
            let entry = match (terminal, self.keys(branch)) {
                (NONE, []) => {
                    self.detach(parent, label.first());
                    self.discard(branch);
                    branch = parent;
                    continue;
                }
                (NONE, [_]) => self.child_at(branch, 0),
                (_, []) => Node::Leaf(terminal),
                _ => return,
            };
            let (head, len) = (label.len(), label.len() + self.label_len(entry));
            if len <= LABEL_BYTES_MAX {
                let mut joined = [0; LABEL_BYTES_MAX];
                label.copy_to(&mut joined[..head], &self.spills);
                self.label_copy(entry, &mut joined[head..len]);
                self.set_label(entry, &joined[..len]);
                self.set_parent(entry, parent);
                self.replace(parent, joined[0], entry);
                if terminal == NONE {
                    let key = self.keys(branch)[0];
                    self.detach(branch, key);
                }
                self.discard(branch);
            }
            return;
        }
    }

    /// Removes a branch without links to or from it.
    fn discard(&mut self, branch: u32) {
        debug_assert_eq!(self.branches[branch].children_count, 0);
        self.set_label(Node::Branch(branch), &[]);
        self.branches.remove(branch);
    }

    fn attach(&mut self, parent: u32, key: u8, child: Node) {
        let index = rank(self.keys(parent), key);
        let Branch {
            children_at: at,
            children_count,
            ..
        } = &mut self.branches[parent];
        let count = usize::from(*children_count);
        *children_count += 1;
        let (at_new, moved) = self.children.open(*at, count, index, parent);
        *at = at_new;
        let words = self.children.words_mut(at_new, count + 1);
        words[index] = key;
        words[capacity(count + 1) + index * NODE_BYTES..][..NODE_BYTES]
            .copy_from_slice(&child.to_bytes());
        self.children_moved(moved);
    }

    fn detach(&mut self, parent: u32, key: u8) {
        let index = rank(self.keys(parent), key);
        debug_assert_eq!(self.keys(parent).get(index), Some(&key));
        let Branch {
            children_at: at,
            children_count,
            ..
        } = &mut self.branches[parent];
        let count = usize::from(*children_count);
        *children_count -= 1;
        let (at_new, moved) = self.children.close(*at, count, index, parent);
        *at = at_new;
        self.children_moved(moved);
    }

    fn replace(&mut self, parent: u32, key: u8, child: Node) {
        let index = rank(self.keys(parent), key);
        debug_assert_eq!(self.keys(parent).get(index), Some(&key));
        let (at, count) = (
            self.branches[parent].children_at,
            self.branches[parent].children_len(),
        );
        self.children.words_mut(at, count)[capacity(count) + index * NODE_BYTES..][..NODE_BYTES]
            .copy_from_slice(&child.to_bytes());
    }

    fn children_moved(&mut self, moved: Option<Moved>) {
        if let Some(Moved { owner, at }) = moved {
            self.branches[owner].children_at = at;
        }
    }

    pub(super) fn child_at(&self, branch: u32, index: usize) -> Node {
        let count = self.branches[branch].children_len();
        let words = self
            .children
            .words(self.branches[branch].children_at, count);
        let mut bytes = [0; NODE_BYTES];
        bytes.copy_from_slice(&words[capacity(count) + index * NODE_BYTES..][..NODE_BYTES]);
        Node::from_bytes(bytes)
    }

    fn parent(&self, node: Node) -> u32 {
        match node {
            Node::Leaf(leaf) => self.leaves[leaf].parent,
            Node::Branch(branch) => self.branches[branch].parent,
        }
    }

    fn set_parent(&mut self, node: Node, parent: u32) {
        match node {
            Node::Leaf(leaf) => self.leaves[leaf].parent = parent,
            Node::Branch(branch) => self.branches[branch].parent = parent,
        }
    }

    fn label_common(&self, node: Node, bytes: &[u8]) -> usize {
        match node {
            Node::Leaf(leaf) => self.leaves[leaf].label.common(bytes, &self.spills),
            Node::Branch(branch) => self.branches[branch].label.common(bytes, &self.spills),
        }
    }

    fn set_label(&mut self, node: Node, bytes: &[u8]) {
        let owner = node.to_word();
        let moved = match node {
            Node::Leaf(leaf) => {
                let label = Label::new(bytes, owner, &mut self.spills);
                std::mem::replace(&mut self.leaves[leaf].label, label).release(&mut self.spills)
            }
            Node::Branch(branch) => {
                let label = Label::new(bytes, owner, &mut self.spills);
                std::mem::replace(&mut self.branches[branch].label, label).release(&mut self.spills)
            }
        };
        // The moved block may be the new one itself.
        match moved.map(|moved| (Node::from_word(moved.owner), moved.at)) {
            None => {}
            Some((Node::Leaf(leaf), at)) => self.leaves[leaf].label.moved_to(at),
            Some((Node::Branch(branch), at)) => self.branches[branch].label.moved_to(at),
        }
    }
}

/// A vacant leaf has no holders.
impl Slot for Leaf {
    fn vacant(Neighbours { previous, next }: Neighbours) -> Self {
        Self {
            parent: next,
            label: Label::EMPTY,
            holders: Holders::Many {
                at: previous,
                count: 0,
            },
        }
    }

    fn neighbours(&self) -> Option<Neighbours> {
        let next = self.parent;
        match self.holders {
            Holders::Many {
                at: previous,
                count: 0,
            } => Some(Neighbours { previous, next }),
            _ => None,
        }
    }
}

impl Branch {
    const fn below(parent: u32) -> Self {
        let (terminal, label) = (NONE, Label::EMPTY);
        Self {
            parent,
            terminal,
            children_at: 0,
            children_count: 0,
            label,
        }
    }

    const fn children_len(&self) -> usize {
        self.children_count as usize
    }

    /// Position and number of entries of the block of children.
    #[cfg(test)]
    pub(super) const fn children(&self) -> (u32, usize) {
        (self.children_at, self.children_len())
    }
}

/// A vacant branch has more children than there are bytes.
impl Slot for Branch {
    fn vacant(Neighbours { previous, next }: Neighbours) -> Self {
        Self {
            children_count: u16::MAX,
            terminal: previous,
            ..Self::below(next)
        }
    }

    fn neighbours(&self) -> Option<Neighbours> {
        let (previous, next) = (self.terminal, self.parent);
        (self.children_count == u16::MAX).then_some(Neighbours { previous, next })
    }
}

impl Node {
    pub(super) const fn to_word(self) -> u32 {
        match self {
            Self::Leaf(leaf) => leaf | LEAF_BIT,
            Self::Branch(branch) => branch,
        }
    }

    pub(super) const fn from_word(word: u32) -> Self {
        if word & LEAF_BIT == 0 {
            Self::Branch(word)
        } else {
            Self::Leaf(word ^ LEAF_BIT)
        }
    }

    const fn to_bytes(self) -> [u8; NODE_BYTES] {
        self.to_word().to_le_bytes()
    }

    const fn from_bytes(bytes: [u8; NODE_BYTES]) -> Self {
        Self::from_word(u32::from_le_bytes(bytes))
    }
}

/// The number of keys that are less than `key`. Without branches, so that the compiler compares
/// sixteen at a time: at most 16 steps.
fn rank(keys: &[u8], key: u8) -> usize {
    let (chunks, rest) = keys.as_chunks::<16>();
    let less = |keys: &[u8]| keys.iter().map(|other| u8::from(*other < key)).sum::<u8>();
    let chunked: usize = chunks.iter().map(|chunk| usize::from(less(chunk))).sum();
    chunked + usize::from(less(rest))
}

const LEAF_BIT: u32 = 1 << 31;
const NODE_BYTES: usize = size_of::<u32>();
