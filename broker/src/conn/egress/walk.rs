//! A recount of the memory of queues, by a walk over everything in them, for comparison with the
//! account.

use super::segment::Content;
use super::{Body, Chunk, Egress, Shared, Store, Unsent};
use std::collections::BTreeMap;

/// The memory found so far.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Blocks that several queues may share, by address.
    blocks: BTreeMap<usize, u64>,
    /// Bytes that only one queue owns.
    owned: u64,
}

impl Walk {
    /// Counts the memory of a queue.
    pub(crate) fn visit(&mut self, egress: &Egress) {
        let (owned, blocks) = held_by(egress);
        self.owned += owned as u64;
        blocks.into_iter().for_each(|block| self.add(block));
    }

    /// Counts messages that were removed from queues.
    pub(crate) fn visit_unsent(&mut self, unsent: &Unsent) {
        self.owned += unsent.owned() as u64;
        unsent.blocks().for_each(|block| self.add(block));
    }

    /// Counts the memory that all queues have in common, except spare buffers.
    pub(crate) fn visit_store(&mut self, store: &Store) {
        store
            .kept_block()
            .into_iter()
            .for_each(|block| self.add(block));
    }

    /// Counts bytes that queues may share.
    pub(crate) fn visit_shared(&mut self, block: &Shared) {
        self.add(block);
    }

    /// The bytes of everything visited, each block once.
    pub(crate) fn total(&self) -> u64 {
        self.owned + self.blocks.values().sum::<u64>()
    }

    fn add(&mut self, block: &Shared) {
        self.blocks.insert(block.address(), block.block_size());
    }
}

/// A queue's own memory, and its shared blocks.
pub(super) fn held_by(egress: &Egress) -> (usize, Vec<&Shared>) {
    let mut owned = egress.chunks.capacity() * size_of::<Chunk>();
    let mut blocks = Vec::new();
    for chunk in &egress.chunks {
        match &chunk.body {
            Body::Batch(batch) => owned += batch.capacity(),
            Body::Input(_) => {}
            Body::Shared(shared) => blocks.push(shared),
        }
    }
    if let Some(sealed) = &egress.sealed {
        owned += sealed.owned();
    }
    if let Some(apart) = &egress.apart {
        owned += apart.walk();
        for segment in apart.segments() {
            if let Content::Shared(shared) = &segment.content {
                blocks.push(shared);
            }
        }
    }
    (owned, blocks)
}
