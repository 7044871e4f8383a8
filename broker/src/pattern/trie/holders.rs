//! The peers that hold a topic, in ascending order, each with the links of its list of topics.

use super::arena::{NONE, number};
use super::blocks::Blocks;
use super::pool::{Moved, Pool, Shape, capacity};
use std::iter;
use std::num::NonZeroU32;

/// The neighbours of a leaf in the list of one peer: leaves, or [`NONE`] at the ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) previous: u32,
    pub(super) next: u32,
}

/// The peers that hold the topic of a leaf, as stored in the leaf. Most topics have one peer, which
/// needs no memory besides the leaf. Others are in [`Crowds`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Holders {
    One { peer: PeerPlusOne, link: Link },
    Many { at: u32, count: u32 },
}

/// Not zero, so that [`Holders::Many`] and [`Holders::One`] need no tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerPlusOne(NonZeroU32);

/// The peers of topics with more than one: up to [`FEW_MAX`] in one block of a pool, more in a list
/// of chunks.
#[derive(Debug)]
pub(super) struct Crowds {
    pub(super) few: Pool<Few>,
    lots: Blocks<Vec<Chunk>>,
    lots_vacant: Vec<u32>,
    lots_bytes: usize,
}

/// Peers in ascending order; their previous leaves; their next leaves.
#[derive(Debug)]
pub(super) struct Few;

impl Shape for Few {
    type Word = u32;
    const WIDTHS: &'static [usize] = &[1, 1, 1];
}

/// A run of the peers of one topic, at least one and at most [`CHUNK_PEERS_MAX`]. Limits the moves
/// that keep a hundred thousand of them in order.
#[derive(Debug)]
struct Chunk {
    peers: Vec<u32>,
    links: Vec<Link>,
}

impl Holders {
    /// No peer.
    pub(super) const NONE: Self = Self::Many { at: 0, count: 0 };

    pub(super) const fn one(peer: u32, link: Link) -> Self {
        Self::One {
            peer: PeerPlusOne::new(peer),
            link,
        }
    }

    /// More than one peer; `at` is their place in [`Crowds`].
    pub(super) fn many(at: u32, count: usize) -> Self {
        Self::Many {
            at,
            count: number(count),
        }
    }

    /// Number of peers.
    pub(super) const fn count(self) -> usize {
        match self {
            Self::One { .. } => 1,
            Self::Many { count, .. } => count as usize,
        }
    }

    /// The peer, if it is the only one.
    pub(super) const fn only(self) -> Option<u32> {
        match self {
            Self::One { peer, .. } => Some(peer.peer()),
            Self::Many { .. } => None,
        }
    }
}

impl PeerPlusOne {
    const fn new(peer: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(peer))
    }

    pub(super) const fn peer(self) -> u32 {
        self.0.get() - 1
    }
}

impl Crowds {
    /// No peers, no heap memory.
    pub(super) const fn new() -> Self {
        Self {
            few: Pool::new(),
            lots: Blocks::new(1),
            lots_vacant: Vec::new(),
            lots_bytes: 0,
        }
    }

    /// Whether `peer` is among the holders. O(log n).
    pub(super) fn contains(&self, holders: Holders, peer: u32) -> bool {
        match holders {
            Holders::One { peer: other, .. } => other.peer() == peer,
            Holders::Many { at, count } if is_few(count) => self
                .few_peers(at, count as usize)
                .binary_search(&peer)
                .is_ok(),
            Holders::Many { at, .. } => {
                let chunks = &self.lots[at];
                chunks
                    .get(chunk_of(chunks, peer))
                    .is_some_and(|chunk| chunk.find(peer).is_ok())
            }
        }
    }

    /// Calls `visit` with all peers in ascending order, in one or several slices that are not
    /// empty.
    #[inline]
    pub(super) fn visit(&self, holders: Holders, mut visit: impl FnMut(&[u32])) {
        match holders {
            Holders::One { peer, .. } => visit(&[peer.peer()]),
            Holders::Many { at, count } if is_few(count) => {
                visit(self.few_peers(at, count as usize));
            }
            Holders::Many { at, .. } => {
                self.lots[at].iter().for_each(|chunk| visit(&chunk.peers));
            }
        }
    }

    /// Adds `peer`, which is not among the holders of `leaf`. O(log n), and moves the entries of
    /// at most one block or chunk.
    pub(super) fn insert(
        &mut self,
        holders: &mut Holders,
        leaf: u32,
        (peer, link): (u32, Link),
    ) -> Option<Moved> {
        let (at, count) = match *holders {
            Holders::Many { count: 0, .. } => {
                *holders = Holders::one(peer, link);
                return None;
            }
            Holders::Many { at, count } => (at, count),
            Holders::One { peer: first, link } => {
                let at = self.few.allocate(1, leaf);
                self.few_write(at, 1, 0, (first.peer(), link));
                (at, 1)
            }
        };
        let mut moved = None;
        let at = if is_few(count + 1) {
            let Err(index) = self.few_peers(at, count as usize).binary_search(&peer) else {
                unreachable!("peer {peer} holds the topic already")
            };
            let (at_new, moved_block) = self.few.open(at, count as usize, index, leaf);
            self.few_write(at_new, count as usize + 1, index, (peer, link));
            moved = moved_block;
            at_new
        } else if is_few(count) {
            let (at_new, moved_block) = self.few_to_lots(at, count as usize);
            self.lots_insert(at_new, (peer, link));
            moved = moved_block;
            at_new
        } else {
            self.lots_insert(at, (peer, link));
            at
        };
        *holders = Holders::Many {
            at,
            count: count + 1,
        };
        moved
    }

    /// Removes `peer`, if it is among the holders of `leaf`, and returns its link. Costs as much as
    /// [`insert`](Self::insert).
    pub(super) fn remove(
        &mut self,
        holders: &mut Holders,
        leaf: u32,
        peer: u32,
    ) -> Option<(Link, Option<Moved>)> {
        let (at, count) = match *holders {
            Holders::One { peer: other, link } => {
                if other.peer() != peer {
                    return None;
                }
                *holders = Holders::NONE;
                return Some((link, None));
            }
            Holders::Many { at, count } => (at, count),
        };
        if !is_few(count) {
            let link = self.lots_remove(at, peer)?;
            let at = if is_few(count - 1) {
                self.lots_to_few(at, leaf)
            } else {
                at
            };
            *holders = Holders::Many {
                at,
                count: count - 1,
            };
            return Some((link, None));
        }
        let index = self
            .few_peers(at, count as usize)
            .binary_search(&peer)
            .ok()?;
        let (_, link) = self.few_entry(at, count as usize, index);
        if count == 2 {
            let (last, last_link) = self.few_entry(at, 2, 1 - index);
            *holders = Holders::one(last, last_link);
            return Some((link, self.few.release(at, 2)));
        }
        let (at, moved) = self.few.close(at, count as usize, index, leaf);
        *holders = Holders::Many {
            at,
            count: count - 1,
        };
        Some((link, moved))
    }

    /// Changes the link of `peer`, which is among the holders. O(log n).
    pub(super) fn relink(
        &mut self,
        holders: &mut Holders,
        peer: u32,
        change: impl FnOnce(&mut Link),
    ) {
        match holders {
            Holders::One { link, .. } => change(link),
            Holders::Many { at, count } if is_few(*count) => {
                let count = *count as usize;
                let Ok(index) = self.few_peers(*at, count).binary_search(&peer) else {
                    unreachable!("peer {peer} does not hold the topic")
                };
                let (_, mut link) = self.few_entry(*at, count, index);
                change(&mut link);
                self.few_write(*at, count, index, (peer, link));
            }
            Holders::Many { at, .. } => {
                let chunks = &mut self.lots[*at];
                let index = chunk_of(chunks, peer);
                let Ok(place) = chunks[index].find(peer) else {
                    unreachable!("peer {peer} does not hold the topic")
                };
                change(&mut chunks[index].links[place]);
            }
        }
    }

    /// Notes the new number of the leaf with these holders.
    pub(super) fn set_owner(&mut self, holders: Holders, leaf: u32) {
        if let Holders::Many { at, count } = holders
            && is_few(count)
        {
            self.few.set_owner(at, count as usize, leaf);
        }
    }

    /// Calls `visit` with all peers and their links.
    pub(super) fn for_each_link(&self, holders: Holders, mut visit: impl FnMut(u32, Link)) {
        match holders {
            Holders::One { peer, link } => visit(peer.peer(), link),
            Holders::Many { at, count } if is_few(count) => {
                for index in 0..count as usize {
                    let (peer, link) = self.few_entry(at, count as usize, index);
                    visit(peer, link);
                }
            }
            Holders::Many { at, .. } => {
                for chunk in &self.lots[at] {
                    let entries = chunk.peers.iter().zip(&chunk.links);
                    entries.for_each(|(peer, link)| visit(*peer, *link));
                }
            }
        }
    }

    /// The link of `peer`, if it is among the holders.
    pub(super) fn link(&self, holders: Holders, peer: u32) -> Option<Link> {
        match holders {
            Holders::One { peer: other, link } => (other.peer() == peer).then_some(link),
            Holders::Many { at, count } if is_few(count) => {
                let index = self
                    .few_peers(at, count as usize)
                    .binary_search(&peer)
                    .ok()?;
                Some(self.few_entry(at, count as usize, index).1)
            }
            Holders::Many { at, .. } => {
                let chunks = &self.lots[at];
                let chunk = chunks.get(chunk_of(chunks, peer))?;
                chunk.find(peer).ok().map(|place| chunk.links[place])
            }
        }
    }

    /// Heap bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.few.bytes()
            + self.lots_bytes
            + self.lots.bytes()
            + self.lots_vacant.capacity() * size_of::<u32>()
    }

    fn few_peers(&self, at: u32, count: usize) -> &[u32] {
        &self.few.words(at, count)[..count]
    }

    fn few_entry(&self, at: u32, count: usize, index: usize) -> (u32, Link) {
        let (words, step) = (&self.few.words(at, count)[index..], capacity(count));
        (
            words[0],
            Link {
                previous: words[step],
                next: words[2 * step],
            },
        )
    }

    fn few_write(&mut self, at: u32, count: usize, index: usize, (peer, link): (u32, Link)) {
        let (words, step) = (&mut self.few.words_mut(at, count)[index..], capacity(count));
        (words[0], words[step], words[2 * step]) = (peer, link.previous, link.next);
    }

    fn few_to_lots(&mut self, at: u32, count: usize) -> (u32, Option<Moved>) {
        let mut chunk = Chunk::new();
        for index in 0..count {
            chunk.push(self.few_entry(at, count, index));
        }
        let moved = self.few.release(at, count);
        let crowd = self.lots_vacant.pop().unwrap_or_else(|| {
            self.lots.push(iter::once(Vec::new()), 4);
            number(self.lots.len() - 1)
        });
        self.lots[crowd].push(chunk);
        self.lots_bytes += crowd_bytes(&self.lots[crowd]);
        (crowd, moved)
    }

    fn lots_to_few(&mut self, crowd: u32, leaf: u32) -> u32 {
        let chunks = std::mem::take(&mut self.lots[crowd]);
        self.lots_bytes -= crowd_bytes(&chunks);
        self.lots_vacant.push(crowd);
        let count = chunks.iter().map(|chunk| chunk.peers.len()).sum();
        let at = self.few.allocate(count, leaf);
        let entries = chunks
            .iter()
            .flat_map(|chunk| chunk.peers.iter().zip(&chunk.links));
        for (index, (&peer, &link)) in entries.enumerate() {
            self.few_write(at, count, index, (peer, link));
        }
        at
    }

    fn lots_insert(&mut self, crowd: u32, (peer, link): (u32, Link)) {
        let chunks = &mut self.lots[crowd];
        self.lots_bytes -= crowd_bytes(chunks);
        let mut index = chunk_of(chunks, peer);
        if index == chunks.len() {
            // At the end: connections mostly subscribe in the order of their numbers, and so leave
            // full chunks instead of half-full ones.
            if chunks[index - 1].is_full() {
                chunks.push(Chunk::new());
            } else {
                index -= 1;
            }
        } else if chunks[index].is_full() {
            let upper = chunks[index].split();
            chunks.insert(index + 1, upper);
            index += usize::from(chunks[index].peers.last() < Some(&peer));
        }
        let chunk = &mut chunks[index];
        let Err(place) = chunk.find(peer) else {
            unreachable!("peer {peer} holds the topic already")
        };
        chunk.peers.insert(place, peer);
        chunk.links.insert(place, link);
        self.lots_bytes += crowd_bytes(chunks);
    }

    fn lots_remove(&mut self, crowd: u32, peer: u32) -> Option<Link> {
        let chunks = &mut self.lots[crowd];
        let index = chunk_of(chunks, peer);
        let place = chunks.get(index)?.find(peer).ok()?;
        self.lots_bytes -= crowd_bytes(chunks);
        chunks[index].peers.remove(place);
        let link = chunks[index].links.remove(place);
        for lower in [index, index.wrapping_sub(1)] {
            join_if_small(chunks, lower);
        }
        self.lots_bytes += crowd_bytes(chunks);
        Some(link)
    }

    /// Panics unless every invariant of one set of peers holds; returns its bytes.
    #[cfg(test)]
    pub(super) fn check(&self, holders: Holders, leaf: u32) -> usize {
        let mut peers = Vec::new();
        self.visit(holders, |slice| {
            assert!(!slice.is_empty());
            peers.extend_from_slice(slice);
        });
        assert!(peers.is_sorted_by(|one, other| one < other));
        assert_eq!(peers.len(), holders.count());
        match holders {
            Holders::One { .. } => 0,
            Holders::Many { at, count } if is_few(count) => {
                assert!(count >= 2);
                assert_eq!(self.few.owner(at, count as usize), leaf);
                0
            }
            Holders::Many { at, .. } => {
                let chunks = &self.lots[at];
                for pair in chunks.windows(2) {
                    let sum = pair[0].peers.len() + pair[1].peers.len();
                    assert!(
                        sum > CHUNK_PEERS_MAX / 2,
                        "chunks that should have been joined"
                    );
                }
                for chunk in chunks {
                    assert_eq!(chunk.peers.len(), chunk.links.len());
                    assert_eq!(chunk.peers.capacity(), CHUNK_PEERS_MAX);
                    assert_eq!(chunk.links.capacity(), CHUNK_PEERS_MAX);
                }
                crowd_bytes(chunks)
            }
        }
    }

    /// Number of sets in a list of chunks, and their bytes.
    #[cfg(test)]
    pub(super) const fn census(&self) -> (usize, usize) {
        (self.lots.len() - self.lots_vacant.len(), self.lots_bytes)
    }
}

impl Chunk {
    fn new() -> Self {
        Self {
            peers: Vec::with_capacity(CHUNK_PEERS_MAX),
            links: Vec::with_capacity(CHUNK_PEERS_MAX),
        }
    }

    fn push(&mut self, (peer, link): (u32, Link)) {
        self.peers.push(peer);
        self.links.push(link);
    }

    const fn is_full(&self) -> bool {
        self.peers.len() == CHUNK_PEERS_MAX
    }

    fn find(&self, peer: u32) -> Result<usize, usize> {
        self.peers.binary_search(&peer)
    }

    /// Keeps the lower half and returns the upper.
    fn split(&mut self) -> Self {
        let mut upper = Self::new();
        upper.peers.extend(self.peers.drain(CHUNK_PEERS_MAX / 2..));
        upper.links.extend(self.links.drain(CHUNK_PEERS_MAX / 2..));
        upper
    }
}

/// The first chunk that does not end before `peer`; the number of chunks if all do.
fn chunk_of(chunks: &[Chunk], peer: u32) -> usize {
    chunks.partition_point(|chunk| chunk.peers.last() < Some(&peer))
}

/// Joins two neighbours if one is empty, or if together they fill at most half of a chunk.
fn join_if_small(chunks: &mut Vec<Chunk>, lower: usize) {
    let Some([one, other]) = chunks
        .get_mut(lower..)
        .and_then(|rest| rest.first_chunk_mut())
    else {
        return;
    };
    let (len, len_other) = (one.peers.len(), other.peers.len());
    if len == 0 || len_other == 0 || len + len_other <= CHUNK_PEERS_MAX / 2 {
        one.peers.append(&mut other.peers);
        one.links.append(&mut other.links);
        chunks.remove(lower + 1);
    }
}

fn crowd_bytes(chunks: &Vec<Chunk>) -> usize {
    chunks.capacity() * size_of::<Chunk>()
        + chunks.len() * CHUNK_PEERS_MAX * (size_of::<u32>() + size_of::<Link>())
}

const fn is_few(count: u32) -> bool {
    count <= FEW_MAX
}

/// The most peers in one block; a block moves as a whole, so this is far below the possible size.
const FEW_MAX: u32 = 128;

/// Three kilobytes: the most that moves to insert a peer into a long list.
const CHUNK_PEERS_MAX: usize = 256;

const _: () = assert!(size_of::<Holders>() == 12 && NONE == u32::MAX);
