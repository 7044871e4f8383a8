//! Random operations on a queue and on a naive twin, which stores each message by itself: both send
//! the same bytes and drop the same messages, and the account equals a recount.

use super::walk::held_by;
use super::*;
use std::collections::HashSet;
use zmtp::Frames;

/// A message, a command or some bytes of a handshake.
#[derive(Clone, Debug)]
struct Item {
    bytes: Vec<u8>,
    can_go: bool,
    is_message: bool,
    queued_at: u64,
    /// The number of its bytes that were written.
    written: usize,
}

/// The naive twin of a queue.
#[derive(Debug, Default)]
struct Twin {
    items: Vec<Item>,
}

impl Twin {
    fn bytes(&self) -> Vec<u8> {
        let left = self.items.iter().map(|item| &item.bytes[item.written..]);
        left.flatten().copied().collect()
    }

    fn messages(&self) -> u32 {
        let messages = self.items.iter().filter(|item| item.is_message);
        u32::try_from(messages.count()).unwrap()
    }

    fn advance(&mut self, mut size: usize) {
        while size > 0 {
            let front = &mut self.items[0];
            let taken = size.min(front.bytes.len() - front.written);
            front.written += taken;
            front.can_go = false;
            size -= taken;
            if front.written == front.bytes.len() {
                self.items.remove(0);
            }
        }
    }

    fn remove(&mut self, mut goes: impl FnMut(&Item) -> bool) -> Vec<Vec<u8>> {
        let mut gone = Vec::new();
        self.items.retain(|item| {
            let stays = !item.can_go || !goes(item);
            if !stays {
                gone.push(item.bytes.clone());
            }
            stays
        });
        gone
    }
}

struct Random {
    /// The number of messages so far: no two are the same.
    messages: u32,
    state: u64,
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).unwrap() % limit
    }

    fn size(&mut self) -> usize {
        let most = [3, 30, 30, 30, 300, 300, 300, 3000, 3000, 20_000][self.below(10)];
        self.below(most)
    }

    fn message(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        let topics = [&b"a"[..], b"b", b"ccc", b"", b"a longer topic"];
        let topic = topics[self.below(topics.len())];
        self.messages += 1;
        let mut body = self.messages.to_le_bytes().to_vec();
        body.resize(4 + self.size(), b'.');
        zmtp::encode::append_message(&mut wire, &[topic, &body]);
        wire
    }
}

/// Two queues with one store, and everything that they may refer to.
struct World {
    egress: [Egress; 2],
    input: Input,
    is_apart: bool,
    /// The current operation.
    last: usize,
    /// Microseconds since the beginning.
    now: u64,
    random: Random,
    /// Blocks that the test itself owns.
    shared: Vec<Shared>,
    store: Store,
    twins: [Twin; 2],
    unsent: Option<(Unsent, Vec<Vec<u8>>)>,
}

const PING: &[u8] = b"\x04\x07\x04PING\0\0";

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random {
            messages: 0,
            state: (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let is_apart = random.below(2) == 0;
        let mut world = Self {
            egress: Default::default(),
            input: Input::scratch(Default::default()),
            is_apart,
            last: 0,
            now: 0,
            random,
            shared: Vec::new(),
            store: Store::default(),
            twins: Default::default(),
            unsent: None,
        };
        world.store.copies_nothing = world.random.below(3) == 0;
        for queue in 0..2 {
            world.push_bytes(queue, b"\xffgreeting", 0);
            world.egress[queue].begin_traffic();
            if is_apart {
                world.egress[queue].keep_apart();
            }
        }
        world
    }

    fn push_twin(&mut self, queue: usize, bytes: &[u8], is_message: bool) {
        self.twins[queue].items.push(Item {
            bytes: bytes.to_vec(),
            can_go: is_message,
            is_message,
            queued_at: self.now,
            written: 0,
        });
    }

    fn push_bytes(&mut self, queue: usize, bytes: &[u8], messages: u32) {
        self.egress[queue].push_bytes(bytes, messages, &mut self.store);
        self.push_twin(queue, bytes, messages > 0);
    }

    /// One of all possible operations.
    fn step(&mut self) {
        let queue = self.random.below(2);
        self.now += [0, 10, 5000][self.random.below(3)];
        self.store.stamp = self.now;
        self.last = self.random.below(16);
        match self.last {
            0 | 1 => {
                let message = self.random.message();
                self.push_bytes(queue, &message, 1);
            }
            2 => self.push_bytes(queue, PING, 0),
            3 => self.push_shared(),
            4..=6 => self.handle_input(),
            7 | 8 => self.write(queue),
            9 => {
                let input = self.input.buffer();
                let dropped = self.egress[queue].shed(input, &mut self.store);
                let gone = self.twins[queue].remove(|_| true);
                assert_eq!(dropped as usize, gone.len(), "shed");
            }
            10 => self.take_unsent(queue),
            11 => self.drop_topic(queue),
            12 => self.drop_oldest(queue),
            13 => self.drop_expired(queue),
            14 => self.egress[queue].release_blocks(&mut self.store),
            _ => self.append(queue),
        }
    }

    fn push_shared(&mut self) {
        let count = 1 + self.random.below(3);
        let messages: Vec<_> = (0..count).map(|_| self.random.message()).collect();
        let block = self.store.share_copy(&messages.concat());
        let prefix = [&b""[..], b"\x01\x02id"][self.random.below(2)];
        for queue in 0..2 {
            if count > 1 {
                let count = u32::try_from(count).unwrap();
                let (input, store) = (&self.input, &mut self.store);
                self.egress[queue].push_shared_run(input, block.clone(), count, store);
                for message in &messages {
                    self.push_twin(queue, message, true);
                }
            } else {
                self.egress[queue].push_shared(prefix, block.clone(), &mut self.store);
                self.push_twin(queue, &[prefix, &messages[0]].concat(), true);
            }
        }
        if self.random.below(4) == 0 {
            self.shared.push(block);
        }
    }

    /// An input from its beginning to its end.
    fn handle_input(&mut self) {
        self.store.forget_input();
        let messages: Vec<_> = (0..1 + self.random.below(8))
            .map(|_| self.random.message())
            .collect();
        let bytes = messages.concat();
        self.input = Input::scratch(bytes[..].into());
        self.input.filled(bytes.len());
        let mut start = 0;
        for message in &messages {
            let range = start..start + message.len();
            start = range.end;
            for queue in 0..2 {
                self.push_ranges(queue, message, range.clone());
            }
            // Operations in the middle of an input.
            if self.random.below(6) == 0 {
                let queue = self.random.below(2);
                let input = self.input.buffer();
                if self.random.below(2) == 0 {
                    let dropped = self.egress[queue].shed(input, &mut self.store);
                    let gone = self.twins[queue].remove(|_| true);
                    assert_eq!(dropped as usize, gone.len(), "shed in the middle");
                } else {
                    self.egress[queue].close_run(&self.input, &mut self.store);
                    self.write(queue);
                    self.take_unsent(queue);
                }
                self.check();
            }
        }
        for queue in 0..2 {
            self.egress[queue].close_run(&self.input, &mut self.store);
            if self.random.below(3) == 0 {
                self.check();
                self.write(queue);
            }
        }
        for queue in 0..2 {
            self.keep(queue);
        }
        self.input = Input::scratch(Default::default());
    }

    fn push_ranges(&mut self, queue: usize, message: &[u8], range: Range<usize>) {
        let prefix = [&b""[..], b"\x01\x02id"][self.random.below(2)];
        match self.random.below(4) {
            0 => {}
            1 | 2 if !self.is_apart => {
                self.egress[queue].push_run(&self.input, range, 1, &mut self.store);
                self.push_twin(queue, message, true);
            }
            _ => {
                self.egress[queue].push_input(prefix, &self.input, range, &mut self.store);
                self.push_twin(queue, &[prefix, message].concat(), true);
            }
        }
    }

    /// Messages in the input are dropped, from the end, beyond their allowance.
    fn keep(&mut self, queue: usize) {
        let allowance = [u64::MAX, 0, 5000][self.random.below(3)];
        let before = self.content(queue);
        let egress = &mut self.egress[queue];
        let messages = egress.messages();
        let kept = egress.keep(&self.input, allowance, &mut self.store);
        assert_eq!(egress.messages() + kept.dropped, messages, "kept");
        assert!(!egress.leans_on_input());
        if allowance == u64::MAX {
            assert_eq!(kept.dropped, 0);
        }
        if kept.dropped == 0 {
            assert_eq!(self.content(queue), before);
        }
        // Whole messages of this input were dropped: the twin drops those that are missing.
        let after = self.content(queue);
        let (mut at, mut dropped) = (0, 0);
        self.twins[queue].items.retain(|item| {
            let left = &item.bytes[item.written..];
            let stays = after[at..].starts_with(left);
            if stays {
                at += left.len();
            } else {
                assert!(item.can_go, "a partly written message was dropped");
                dropped += 1;
            }
            stays
        });
        assert_eq!(dropped, kept.dropped);
    }

    fn write(&mut self, queue: usize) {
        let input = self.input.buffer().to_vec();
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let egress = &self.egress[queue];
        let count = egress.slices(&input, &mut slices);
        let offered: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        assert!(offered > 0 || egress.open.messages > 0 || egress.is_empty());
        let size = match self.random.below(4) {
            0 => offered,
            _ => self.random.below(offered + 1),
        };
        let bytes: Vec<u8> = slices[..count].concat_bytes();
        assert!(self.twins[queue].bytes().starts_with(&bytes));
        self.egress[queue].advance(size, &mut self.store);
        self.twins[queue].advance(size);
    }

    fn take_unsent(&mut self, queue: usize) {
        let unsent = self.egress[queue].take_unsent(self.input.buffer(), &mut self.store);
        let gone = self.twins[queue].remove(|_| true);
        assert_eq!(unsent.messages() as usize, gone.len(), "taken");
        match &mut self.unsent {
            Some((mine, twin)) => {
                mine.append(unsent, &mut self.store);
                twin.extend(gone);
            }
            none => *none = Some((unsent, gone)),
        }
        let Some((mut unsent, twin)) = self.unsent.take() else {
            return;
        };
        match self.random.below(4) {
            0 => {
                let bytes: usize = twin.iter().map(Vec::len).sum();
                assert_eq!(unsent.bytes(), bytes as u64);
                assert_eq!(unsent.discard(&mut self.store) as usize, twin.len());
            }
            1 if self.egress[1 - queue].open.messages == 0 => {
                self.egress[1 - queue].push_unsent(unsent, &mut self.store);
                for message in twin {
                    self.push_twin(1 - queue, &message, true);
                }
            }
            2 => {
                for message in twin {
                    assert_eq!(unsent.pop(&mut self.store).as_deref(), Some(&message[..]));
                }
                assert!(unsent.is_empty());
            }
            _ => self.unsent = Some((unsent, twin)),
        }
    }

    fn drop_topic(&mut self, queue: usize) {
        let topics = [None, Some(&b"a"[..]), Some(b"ccc"), Some(b""), Some(b"id")];
        let topic = topics[self.random.below(topics.len())];
        if !self.is_apart {
            return;
        }
        let dropped = self.egress[queue].drop_unsent(topic, &mut self.store);
        let is_about = |item: &Item| match topic {
            None => true,
            topic => topic == Frames::new(&item.bytes).next().map(|frame| frame.body),
        };
        let gone = self.twins[queue].remove(is_about);
        assert_eq!(dropped as usize, gone.len(), "about {topic:?}");
    }

    fn drop_oldest(&mut self, queue: usize) {
        for _ in 0..self.random.below(5) {
            let is_gone = self.egress[queue].drop_oldest(&mut self.store);
            let mut left = usize::from(self.is_apart);
            let gone = self.twins[queue].remove(|_| std::mem::take(&mut left) > 0);
            assert_eq!(usize::from(is_gone), gone.len(), "the oldest");
        }
    }

    fn drop_expired(&mut self, queue: usize) {
        let age = [0, 5000, 20_000][self.random.below(3)];
        let limit = self.now.checked_sub(age);
        if let Some(limit) = limit.filter(|_| self.is_apart) {
            let dropped = self.egress[queue].drop_expired(limit, u32::MAX, &mut self.store);
            let gone = self.twins[queue].remove(|item| item.queued_at <= limit);
            assert_eq!(dropped as usize, gone.len(), "expired");
        }
    }

    /// A queue without a begun message is appended to the other.
    fn append(&mut self, queue: usize) {
        let mut other = Egress::default();
        if self.is_apart {
            other.keep_apart();
        }
        for _ in 0..self.random.below(20) {
            let message = self.random.message();
            other.push_bytes(&message, 1, &mut self.store);
            self.push_twin(queue, &message, true);
        }
        self.egress[queue].append(other, &mut self.store);
    }

    fn content(&self, queue: usize) -> Vec<u8> {
        let egress = &self.egress[queue];
        let input = self.input.buffer();
        let mut out = Vec::new();
        let mut skip = egress.written;
        for chunk in &egress.chunks {
            out.extend_from_slice(&chunk.bytes(input)[skip..]);
            skip = 0;
        }
        for segment in egress.apart.iter().flat_map(|apart| apart.segments()) {
            for unit in segment.head..segment.units.len() {
                if segment.units[unit].state() != State::Hole {
                    let begun = if unit == segment.head {
                        segment.begun
                    } else {
                        0
                    };
                    out.extend_from_slice(&segment.unit(unit)[begun..]);
                }
            }
        }
        out.extend_from_slice(&input[egress.open.start..egress.open.end]);
        out
    }

    fn check(&self) {
        let mut blocks: Vec<Shared> = self.shared.clone();
        let mut owned = 0;
        for queue in 0..2 {
            let (egress, twin) = (&self.egress[queue], &self.twins[queue]);
            assert!(self.content(queue) == twin.bytes(), "bytes of {queue}");
            assert_eq!(egress.bytes(), twin.bytes().len() as u64);
            let extra = egress.messages().checked_sub(twin.messages());
            // Messages written whole count until the rest of their chunk is written.
            let most = egress.chunks.front().map_or(0, |front| front.messages);
            assert!(extra.is_some_and(|extra| extra <= most), "messages");
            let (mine, held) = held_by(egress);
            let all: u64 = held.iter().map(|block| block.block_size()).sum();
            assert_eq!(
                egress.footprint(),
                mine as u64 + all,
                "footprint of {queue}"
            );
            blocks.extend(held.into_iter().cloned());
            owned += mine;
        }
        let queued: u64 = self.egress.iter().map(Egress::bytes).sum();
        let waiting = self.unsent.as_ref().map_or(0, |(unsent, _)| unsent.bytes());
        assert_eq!(self.store.queued, queued + waiting);
        if let Some((unsent, _)) = &self.unsent {
            owned += unsent.owned();
            blocks.extend(unsent.blocks().cloned());
        }
        blocks.extend(self.store.kept_block().cloned());
        let mut seen = HashSet::new();
        blocks.retain(|block| seen.insert(block.address()));
        let shared: u64 = blocks.iter().map(Shared::block_size).sum();
        let spare = self.store.walk_spare() as u64;
        assert_eq!(self.store.spare(), spare);
        assert_eq!(self.store.memory(), owned as u64 + shared + spare);
    }
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}

impl ConcatBytes for [IoSlice<'_>] {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|slice| slice.to_vec()).collect()
    }
}

#[test]
fn a_queue_does_what_its_naive_twin_does() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for step in 0..150 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                world.step();
                world.check();
            }));
            let World { is_apart, last, .. } = world;
            assert!(
                result.is_ok(),
                "seed {seed}, step {step}, operation {last}, apart: {is_apart}"
            );
        }
        for queue in 0..2 {
            if world.random.below(2) == 0 {
                world.egress[queue].close(&mut world.store);
                world.twins[queue].items.clear();
            } else {
                world.take_unsent(queue);
                let left = usize::try_from(world.egress[queue].bytes()).unwrap();
                world.egress[queue].advance(left, &mut world.store);
                world.twins[queue].advance(left);
            }
        }
        if let Some((mut unsent, _)) = world.unsent.take() {
            unsent.discard(&mut world.store);
        }
        for queue in 0..2 {
            world.egress[queue].close(&mut world.store);
        }
        world.shared.clear();
        world.store.forget_input();
        assert_eq!(world.store.queued, 0);
        assert_eq!(world.store.memory(), world.store.spare(), "seed {seed}");
        world.store.release_spare();
        assert_eq!(world.store.memory(), 0);
    }
}
