//! Memory for the bytes of a queue.

use bytes::Bytes;
use memmap2::MmapMut;
use nix::unistd::{SysconfVar, sysconf};
use std::ops::Deref;
use std::sync::OnceLock;

/// Buffers of at least this size, and of at least a page, have pages of their own.
///
/// Queues grow and shrink in any order. In the heap, one small allocation that stays would keep all
/// free memory before it from returning to the system; pages return when they are unmapped.
const PAGES_SIZE_MIN: usize = 4 << 10;

/// The size of a page, the unit in which the system maps memory: 4 KiB on most machines, 16 or 64
/// KiB on some ARM processors.
fn page_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let size = size.and_then(|size| usize::try_from(size).ok());
        size.filter(|size| *size > 0).unwrap_or(PAGES_SIZE_MIN)
    })
}

/// A buffer that does not grow.
#[derive(Debug)]
pub(super) enum Buffer {
    Heap(Vec<u8>),
    Pages(Pages),
}

/// Pages whose first bytes are in use.
#[derive(Debug)]
pub(super) struct Pages {
    len: usize,
    map: MmapMut,
}

impl Buffer {
    /// An empty buffer for at least `size` bytes.
    pub(super) fn with_capacity(size: usize) -> Self {
        // If the system refuses this process more mappings, the heap will do.
        if size >= PAGES_SIZE_MIN
            && size >= page_size()
            && let Ok(map) = MmapMut::map_anon(size.next_multiple_of(page_size()))
        {
            Self::Pages(Pages { len: 0, map })
        } else {
            Self::Heap(Vec::with_capacity(size))
        }
    }

    pub(super) fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::with_capacity(bytes.len());
        copy.extend_from_slice(bytes);
        copy
    }

    /// Bytes that fit into the memory.
    #[inline]
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Heap(bytes) => bytes.capacity(),
            Self::Pages(pages) => pages.map.len(),
        }
    }

    /// Appends bytes, for which there must be room.
    #[inline]
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        debug_assert!(
            bytes.len() <= self.capacity() - self.len(),
            "a buffer does not grow"
        );
        match self {
            Self::Heap(heap) => heap.extend_from_slice(bytes),
            Self::Pages(Pages { len, map }) => {
                let end = *len + bytes.len();
                map[*len..end].copy_from_slice(bytes);
                *len = end;
            }
        }
    }

    /// Appends `size` bytes for the caller to overwrite; the buffer must have room for them.
    pub(super) fn grow(&mut self, size: usize) -> &mut [u8] {
        debug_assert!(
            size <= self.capacity() - self.len(),
            "a buffer does not grow"
        );
        match self {
            Self::Heap(heap) => {
                let start = heap.len();
                heap.resize(start + size, 0);
                &mut heap[start..]
            }
            Self::Pages(Pages { len, map }) => {
                let start = *len;
                *len += size;
                &mut map[start..*len]
            }
        }
    }

    /// All bytes, to be overwritten.
    pub(super) fn whole_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(heap) => heap,
            Self::Pages(Pages { len, map }) => &mut map[..*len],
        }
    }

    /// Keeps only the first `size` bytes.
    pub(super) fn truncate(&mut self, size: usize) {
        match self {
            Self::Heap(bytes) => bytes.truncate(size),
            Self::Pages(pages) => pages.len = pages.len.min(size),
        }
    }

    /// Frees unused memory, if it is much.
    pub(super) fn shrink(self) -> Self {
        match self {
            Self::Heap(mut bytes) => {
                bytes.shrink_to_fit();
                Self::Heap(bytes)
            }
            Self::Pages(pages) if pages.len.next_multiple_of(page_size()) < pages.map.len() => {
                Self::copy_of(&pages.map[..pages.len])
            }
            Self::Pages(_) => self,
        }
    }

    /// The bytes, to share them with other owners.
    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Heap(bytes) => bytes.into(),
            Self::Pages(pages) => Bytes::from_owner(pages),
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Pages(pages) => pages.as_ref(),
        }
    }
}

impl AsRef<[u8]> for Pages {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}
