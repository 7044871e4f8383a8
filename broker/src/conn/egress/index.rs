//! The positions of a topic's messages, among those that are kept apart.

/// Sequence numbers of messages by the hash of their topics: open addressing, linear probing. The
/// hash is keyed, so that a peer cannot choose topics whose places collide.
#[derive(Debug, Default)]
pub(super) struct Index {
    len: usize,
    slots: Vec<Slot>,
}

/// Eight bytes for a message; `tag` zero is an empty slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    /// The low half of the number, which is unambiguous because queues are shorter than its range.
    number: u32,
    tag: u32,
}

impl Index {
    const SLOTS_MIN: usize = 16;

    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    pub(super) fn insert(&mut self, hash: u64, number: u64) {
        if self.len * 8 >= self.slots.len() * 7 {
            self.resize((self.slots.len() / 2 * 3).max(Self::SLOTS_MIN));
        }
        self.place(Slot {
            number: low(number),
            tag: tag(hash),
        });
        self.len += 1;
    }

    /// The numbers of all messages whose topic may have this hash.
    pub(super) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let tag = tag(hash);
        let matching = self.probe(tag).filter(move |at| self.slots[*at].tag == tag);
        matching.map(|at| self.slots[at].number)
    }

    /// Removes a message, unless it was removed before.
    pub(super) fn remove(&mut self, hash: u64, number: u64) {
        let Some(mut hole) = self.find(hash, number) else {
            return;
        };
        let count = self.slots.len();
        let mut at = hole;
        loop {
            at = self.behind(at);
            let slot = self.slots[at];
            if slot.tag == 0 {
                break;
            }
            let way = |from: usize| {
                if at < from {
                    at + count - from
                } else {
                    at - from
                }
            };
            if way(self.home(slot.tag)) >= way(hole) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = Slot::default();
        self.len -= 1;
        if count > 4 * Self::SLOTS_MIN && self.len < count / 8 {
            self.resize(count / 4);
        }
    }

    /// Notes that a message has another number.
    pub(super) fn renumber(&mut self, hash: u64, before: u64, after: u64) {
        if let Some(at) = self.find(hash, before) {
            self.slots[at].number = low(after);
        }
    }

    fn find(&self, hash: u64, number: u64) -> Option<usize> {
        let wanted = Slot {
            number: low(number),
            tag: tag(hash),
        };
        self.probe(wanted.tag).find(|at| self.slots[*at] == wanted)
    }

    /// The occupied slots from the home of `tag` on.
    fn probe(&self, tag: u32) -> impl Iterator<Item = usize> + '_ {
        let count = self.slots.len();
        let home = if count == 0 { 0 } else { self.home(tag) };
        let places = (home..count).chain(0..home);
        places.take_while(|at| self.slots[*at].tag != 0)
    }

    fn home(&self, tag: u32) -> usize {
        let scaled = (u64::from(tag) * self.slots.len() as u64) >> 32;
        usize::try_from(scaled).unwrap_or(0)
    }

    fn behind(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() {
            0
        } else {
            at + 1
        }
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.tag);
        while self.slots[at].tag != 0 {
            at = self.behind(at);
        }
        self.slots[at] = slot;
    }

    fn resize(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.slots, vec![Slot::default(); count]);
        for slot in before {
            if slot.tag != 0 {
                self.place(slot);
            }
        }
    }
}

/// The high bits determine the slot, so the lowest bit can mark it as occupied.
fn tag(hash: u64) -> u32 {
    low(hash >> 32) | 1
}

/// The low half of a number.
pub(super) fn low(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
