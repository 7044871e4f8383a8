//! The memory of queues, counted anew by a walk over all that they hold. The account must say the
//! same.

use super::segment::Content;
use super::{Body, Chunk, Egress, Shared, Store, Unsent};
use std::collections::BTreeMap;

/// What was found so far.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Blocks that several queues may hold, by address.
    blocks: BTreeMap<usize, u64>,
    /// Bytes that one holder each has for itself.
    owned: u64,
}

impl Walk {
    /// Counts what a queue holds.
    pub(crate) fn visit(&mut self, egress: &Egress) {
        let (owned, blocks) = held_by(egress);
        self.owned += owned as u64;
        blocks.into_iter().for_each(|block| self.add(block));
    }

    /// Counts what was taken out of queues.
    pub(crate) fn visit_unsent(&mut self, unsent: &Unsent) {
        self.owned += unsent.owned() as u64;
        unsent.blocks().for_each(|block| self.add(block));
    }

    /// Counts what all queues have in common; spare buffers do not count.
    pub(crate) fn visit_store(&mut self, store: &Store) {
        store
            .kept_block()
            .into_iter()
            .for_each(|block| self.add(block));
    }

    /// Bytes of all that was visited, each block once.
    pub(crate) fn total(&self) -> u64 {
        self.owned + self.blocks.values().sum::<u64>()
    }

    fn add(&mut self, block: &Shared) {
        self.blocks.insert(block.address(), block.block_size());
    }
}

/// The memory that a queue has for itself, and the blocks that it holds.
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
        owned += sealed.buffer.capacity();
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
