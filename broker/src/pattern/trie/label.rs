//! The bytes between a node and its parent.

use super::pool::{Moved, Pool, Shape};

/// The longest label; longer ones become chains of nodes. It limits the work of splitting and
/// joining nodes, whatever the length of the topics that a peer chooses.
pub(super) const LABEL_BYTES_MAX: usize = 255;

/// Bytes of a [`Label`] that do not fit into its node.
#[derive(Debug)]
pub(super) struct Spill;

impl Shape for Spill {
    type Word = u8;
    const WIDTHS: &'static [usize] = &[SPILL_UNIT];
}

/// At most [`LABEL_BYTES_MAX`] bytes. Up to `N` are stored in place; of longer labels the first `N`
/// - 4, followed by the position of a block with the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Label<N> {
    pub(super) const EMPTY: Self = Self {
        len: 0,
        bytes: [0; N],
    };

    /// Stores `bytes` for `owner`.
    pub(super) fn new(bytes: &[u8], owner: u32, spills: &mut Pool<Spill>) -> Self {
        let Ok(len) = u8::try_from(bytes.len()) else {
            unreachable!("a label of more than {LABEL_BYTES_MAX} bytes")
        };
        let mut label = Self { len, ..Self::EMPTY };
        if bytes.len() <= N {
            label.bytes[..bytes.len()].copy_from_slice(bytes);
            return label;
        }
        let (head, tail) = bytes.split_at(Self::HEAD);
        label.bytes[..Self::HEAD].copy_from_slice(head);
        let at = spills.allocate(label.spill_units(), owner);
        spills.words_mut(at, label.spill_units())[..tail.len()].copy_from_slice(tail);
        label.moved_to(at);
        label
    }

    /// Frees the block, if it exists.
    #[must_use = "the owner's position is stale"]
    pub(super) fn release(self, spills: &mut Pool<Spill>) -> Option<Moved> {
        let units = self.spill_units();
        if units == 0 {
            None
        } else {
            spills.release(self.spill_at(), units)
        }
    }

    /// Notes the new position of the block.
    pub(super) fn moved_to(&mut self, at: u32) {
        self.bytes[Self::HEAD..].copy_from_slice(&at.to_le_bytes());
    }

    pub(super) const fn len(&self) -> usize {
        self.len as usize
    }

    /// The first byte. The label is not empty.
    pub(super) const fn first(&self) -> u8 {
        debug_assert!(self.len > 0);
        self.bytes[0]
    }

    /// Writes the label into `target`, which must have its length.
    pub(super) fn copy_to(&self, target: &mut [u8], spills: &Pool<Spill>) {
        let (head, tail) = self.parts(spills);
        target[..head.len()].copy_from_slice(head);
        target[head.len()..].copy_from_slice(tail);
    }

    /// The number of equal leading bytes.
    pub(super) fn common(&self, bytes: &[u8], spills: &Pool<Spill>) -> usize {
        let (head, tail) = self.parts(spills);
        head.iter()
            .chain(tail)
            .zip(bytes)
            .take_while(|(one, other)| one == other)
            .count()
    }

    /// The bytes after the label in `bytes`, if they begin with it.
    #[inline]
    pub(super) fn strip_from<'a>(&self, bytes: &'a [u8], spills: &Pool<Spill>) -> Option<&'a [u8]> {
        let (start, rest) = bytes.split_at_checked(self.len())?;
        if self.len() <= N {
            return (start == &self.bytes[..self.len()]).then_some(rest);
        }
        let (head, tail) = start.split_at(Self::HEAD);
        // The second comparison costs a cache miss; the first decides nearly always.
        (head == &self.bytes[..Self::HEAD] && tail == self.parts(spills).1).then_some(rest)
    }

    /// Entries of the block; 0 without a block.
    pub(super) const fn spill_units(&self) -> usize {
        if self.len() <= N {
            0
        } else {
            (self.len() - Self::HEAD).div_ceil(SPILL_UNIT)
        }
    }

    /// Position of the block, if it exists.
    pub(super) fn spill_at(&self) -> u32 {
        let mut at = [0; 4];
        at.copy_from_slice(&self.bytes[Self::HEAD..]);
        u32::from_le_bytes(at)
    }

    fn parts<'a>(&'a self, spills: &'a Pool<Spill>) -> (&'a [u8], &'a [u8]) {
        if self.len() <= N {
            return (&self.bytes[..self.len()], &[]);
        }
        let spill = spills.words(self.spill_at(), self.spill_units());
        (&self.bytes[..Self::HEAD], &spill[..self.len() - Self::HEAD])
    }

    /// Bytes in place in front of the position of a block.
    const HEAD: usize = N - size_of::<u32>();
}

const SPILL_UNIT: usize = 4;
