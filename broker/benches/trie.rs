//! The subscription trie: bytes for each topic, nanoseconds for each operation.
//!
//! `cargo bench -p zmqd-broker --bench trie`. The topics of a row are inserted in random order,
//! matched and removed in another; each figure is the mean over all of them.
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use broker::bench_support::{Inserted, Removed, Trie};
use std::hint::black_box;
use std::time::Instant;

fn main() {
    println!(
        "topics                    count    bytes   insert      hit     miss   remove    leave"
    );
    for (name, generate) in GENERATORS {
        for count in [10_000, 100_000, 1_000_000] {
            topics(name, generate, count);
        }
    }
    few(&[""]);
    few(&["", "a", "b", "sensor/", "sensor/0", "sensor/1", "sensor/10"]);
    churn(1_000_000, 10_000_000);
    println!("\npeers on one topic        count    bytes   insert    leave");
    for count in [100, 10_000, 100_000] {
        crowd("ascending", count, |index| index);
        crowd("scattered", count, |index| permuted(index, count));
    }
}

/// Writes the topic of that number, which is unique and always the same.
type Generate = fn(u32, &mut Vec<u8>);

const GENERATORS: [(&str, Generate); 4] = [
    ("random alphanumerics", |number, topic| {
        let letters = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut random = Random::of(number);
        topic.extend((0..12).map(|_| letters[random.below(letters.len())]));
    }),
    ("sensor/000123", |number, topic| {
        topic.extend_from_slice(format!("sensor/{number:06}").as_bytes());
    }),
    ("random binary", |number, topic| {
        let mut random = Random::of(number);
        topic.extend((0..12).map(|_| random.below(256).to_le_bytes()[0]));
    }),
    ("letters, 8 to 16", |number, topic| {
        let mut random = Random::of(number);
        let len = 8 + random.below(9);
        topic.extend((0..len).map(|_| b'a' + random.below(26).to_le_bytes()[0]));
    }),
];

/// One peer and `count` topics.
fn topics(name: &str, generate: Generate, count: u32) {
    let list = |order: fn(u32, u32) -> u32, cut: usize, suffix: &[u8]| {
        let mut flat = Flat::default();
        for index in 0..count {
            generate(order(index, count), &mut flat.bytes);
            flat.bytes.truncate(flat.bytes.len() - cut);
            flat.bytes.extend_from_slice(suffix);
            flat.ends.push(flat.bytes.len());
        }
        flat
    };
    let (inserted, removed) = (list(permuted, 0, b""), list(|index, _| index, 0, b""));
    let hits = list(|index, _| index, 0, b"/suffix!");
    let misses = list(|index, _| index, 1, b"~/suffix!"); // at the last byte
    let mut trie = Trie::new();
    let fill = |trie: &mut Trie| {
        let first = |topic: &&[u8]| trie.insert(topic, 0) == Inserted::First;
        assert_eq!(inserted.iter().filter(first).count(), count as usize);
    };
    let insert = nanoseconds(count, || fill(&mut trie));
    let bytes = trie.bytes() / count as usize;
    let matched = |topics: &Flat| {
        let mut peers = 0;
        topics
            .iter()
            .for_each(|topic| trie.matches(topic, |slice| peers += slice.len()));
        peers
    };
    let hit = nanoseconds(count, || assert_eq!(matched(&hits), count as usize));
    let miss = nanoseconds(count, || assert!(matched(&misses) <= count as usize / 100));
    let remove = nanoseconds(count, || {
        let last = |topic: &&[u8]| trie.remove(topic, 0) == Removed::Last;
        assert_eq!(removed.iter().filter(last).count(), count as usize);
    });
    fill(&mut trie);
    let leave = nanoseconds(count, || assert!(trie.remove_peer(0, usize::MAX, |_| {})));
    println!(
        "{name:<22}{count:>9}{bytes:>9}{insert:>9.1}{hit:>9.1}{miss:>9.1}{remove:>9.1}{leave:>9.1}"
    );
}

/// The topics of most publishers.
fn few(topics: &[&str]) {
    let mut trie = Trie::new();
    for topic in topics {
        assert_eq!(trie.insert(topic.as_bytes(), 0), Inserted::First);
    }
    let count = 20_000_000;
    let mut peers = 0;
    let hit = nanoseconds(count, || {
        for _ in 0..count {
            trie.matches(black_box(b"sensor/000123/volts!"), |slice| {
                peers += slice.len()
            });
        }
    });
    let name = format!("{} prefixes match", peers / count as usize);
    println!("{name:<22}{:>9}{hit:>27.1}", topics.len());
}

/// A constant number of binary topics, replaced again and again.
fn churn(population: u32, steps: u32) {
    let topic = |number: u32| {
        let mut random = Random::of(number);
        let len = 8 + random.below(9);
        (0..len)
            .map(|_| random.below(256).to_le_bytes()[0])
            .collect::<Vec<_>>()
    };
    let (mut trie, mut held) = (Trie::new(), (0..population).collect::<Vec<_>>());
    held.iter()
        .for_each(|number| assert_eq!(trie.insert(&topic(*number), 0), Inserted::First));
    let before = trie.bytes();
    let pair = nanoseconds(steps, || {
        for step in 0..steps {
            let index = Random::of(step).below(held.len());
            assert_eq!(trie.remove(&topic(held[index]), 0), Removed::Last);
            held[index] = population + step;
            assert_eq!(trie.insert(&topic(held[index]), 0), Inserted::First);
        }
    });
    println!("{steps} replacements among {population}: {pair:.1} ns each,");
    println!("  {before} bytes before and {} after", trie.bytes());
}

fn crowd(name: &str, count: u32, peer: impl Fn(u32) -> u32) {
    let mut trie = Trie::new();
    let insert = nanoseconds(count, || {
        (0..count)
            .for_each(|index| assert_ne!(trie.insert(b"topic", peer(index)), Inserted::Already));
    });
    let bytes = trie.bytes() / count as usize;
    assert_eq!(trie.subscriptions(), count as usize);
    let leave = nanoseconds(count, || {
        (0..count).for_each(|index| assert!(trie.remove_peer(peer(index), 9, |_| {})));
    });
    println!("{name:<22}{count:>9}{bytes:>9}{insert:>9.1}{leave:>9.1}");
}

/// Byte strings one after another, so that reading them costs next to nothing.
#[derive(Default)]
struct Flat {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Flat {
    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts
            .zip(&self.ends)
            .map(|(&start, &end)| &self.bytes[start..end])
    }
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn of(seed: u32) -> Self {
        Self(u64::from(seed) << 32)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(word >> 33).expect("31 bits") % end
    }
}

/// The numbers below `count`, each once, in no particular order: the factor is prime and divides no
/// count.
fn permuted(index: u32, count: u32) -> u32 {
    let place = (u64::from(index) * 2_654_435_761) % u64::from(count);
    u32::try_from(place).expect("less than a count")
}

fn nanoseconds(count: u32, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}
