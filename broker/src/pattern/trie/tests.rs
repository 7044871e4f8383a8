//! The trie against a naive twin, its invariants, its memory.

use super::label::LABEL_BYTES_MAX;
use super::nodes::{Branch, Leaf};
use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::thread;

/// The same contract, without regard for speed.
#[derive(Default)]
struct Twin {
    topics: BTreeMap<Vec<u8>, BTreeSet<u32>>,
}

impl Twin {
    fn insert(&mut self, topic: &[u8], peer: u32) -> Inserted {
        let peers = self.topics.entry(topic.to_vec()).or_default();
        let others = !peers.is_empty();
        match (peers.insert(peer), others) {
            (false, _) => Inserted::Already,
            (true, false) => Inserted::First,
            (true, true) => Inserted::Further,
        }
    }

    fn remove(&mut self, topic: &[u8], peer: u32) -> Removed {
        let Some(peers) = self.topics.get_mut(topic) else {
            return Removed::NotFound;
        };
        if !peers.remove(&peer) {
            return Removed::NotFound;
        }
        if !peers.is_empty() {
            return Removed::Other;
        }
        self.topics.remove(topic);
        Removed::Last
    }

    fn topics_of(&self, peer: u32) -> Vec<Vec<u8>> {
        let held = self
            .topics
            .iter()
            .filter(|(_, peers)| peers.contains(&peer));
        held.map(|(topic, _)| topic.clone()).collect()
    }

    fn matches(&self, topic: &[u8]) -> Vec<u32> {
        let prefixes = (0..=topic.len()).filter_map(|len| self.topics.get(&topic[..len]));
        prefixes.flatten().copied().collect()
    }
}

/// xorshift64*: the sequences are the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn peer(&mut self, end: usize) -> u32 {
        u32::try_from(self.below(end)).unwrap()
    }

    /// Letters of `alphabet`, fewer than `len_end`; sometimes after a long common prefix whose
    /// length is close to that of the longest label.
    fn topic(&mut self, alphabet: &[u8], len_end: usize, long: bool) -> Vec<u8> {
        let mut topic = Vec::new();
        if long && self.below(4) == 0 {
            let len = LABEL_BYTES_MAX * (1 + self.below(2)) + self.below(7) - 3;
            topic.resize(len, alphabet[0]);
            if self.below(3) == 0 {
                let place = self.below(len);
                topic[place] = alphabet[alphabet.len() - 1];
            }
        }
        for _ in 0..self.below(len_end) {
            topic.push(alphabet[self.below(alphabet.len())]);
        }
        topic
    }

    fn binary(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Prints the seed when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = writeln!(
                std::io::stderr(),
                "the sequence with seed {} failed",
                self.0
            );
        }
    }
}

impl Trie {
    fn matched(&self, topic: &[u8]) -> Vec<u32> {
        let mut peers = Vec::new();
        self.matches(topic, |slice| {
            assert!(!slice.is_empty());
            assert!(slice.is_sorted_by(|one, other| one < other));
            peers.extend_from_slice(slice);
        });
        peers
    }

    fn all_topics(&self) -> Vec<Vec<u8>> {
        let mut topics = Vec::new();
        self.for_each_topic(|topic| topics.push(topic.to_vec()));
        topics
    }

    /// Panics unless every invariant of the structure holds.
    fn check(&self) {
        if self.topics() == 0 {
            assert_eq!(self.subscriptions, 0);
            assert!(
                self.bytes() <= LISTS_KEPT * size_of::<List>(),
                "{} bytes",
                self.bytes()
            );
            return;
        }
        let leaves = self.check_branches();
        let mut held = BTreeMap::<u32, BTreeSet<u32>>::new();
        let mut crowd_bytes = 0;
        for &leaf in &leaves {
            let holders = self.nodes.leaves[leaf].holders;
            crowd_bytes += self.crowds.check(holders, leaf);
            self.crowds.visit(holders, |peers| {
                for &peer in peers {
                    assert!(held.entry(peer).or_default().insert(leaf));
                }
            });
        }
        let count = |leaf: &u32| self.nodes.leaves[*leaf].holders.count();
        let many =
            |range: &dyn Fn(usize) -> bool| leaves.iter().filter(|l| range(count(l))).count();
        assert_eq!(
            self.crowds.few.census().0,
            many(&|count| (2..=128).contains(&count))
        );
        assert_eq!(
            self.crowds.census(),
            (many(&|count| count > 128), crowd_bytes)
        );
        assert_eq!(self.crowds.few.census().1, self.crowds.few.bytes());
        assert_eq!(leaves.iter().map(count).sum::<usize>(), self.subscriptions);
        self.check_lists(held);
    }

    /// Walks all branches and returns the leaves.
    fn check_branches(&self) -> Vec<u32> {
        let nodes = &self.nodes;
        let (mut leaves, mut branches, mut stack) = (Vec::new(), 0, vec![ROOT]);
        let (mut blocks, mut spills) = (0, 0);
        while let Some(branch) = stack.pop() {
            branches += 1;
            let keys = nodes.keys(branch);
            assert!(keys.is_sorted_by(|one, other| one < other));
            let (at, count) = nodes.branches[branch].children();
            if count > 0 {
                blocks += 1;
                assert_eq!(nodes.children.owner(at, count), branch);
            }
            for (index, &key) in keys.iter().enumerate() {
                let child = nodes.child_at(branch, index);
                assert_eq!(nodes.child(branch, key), Some(child));
                let (parent, first, units, at) = match child {
                    Node::Leaf(leaf) => {
                        leaves.push(leaf);
                        let Leaf { parent, label, .. } = &nodes.leaves[leaf];
                        (
                            *parent,
                            label.first(),
                            label.spill_units(),
                            label.spill_at(),
                        )
                    }
                    Node::Branch(next) => {
                        stack.push(next);
                        let Branch { parent, label, .. } = &nodes.branches[next];
                        (
                            *parent,
                            label.first(),
                            label.spill_units(),
                            label.spill_at(),
                        )
                    }
                };
                assert_eq!((parent, first), (branch, key));
                if units > 0 {
                    spills += 1;
                    assert_eq!(nodes.spills.owner(at, units), child.to_word());
                }
            }
            let terminal = nodes.branches[branch].terminal;
            if terminal != NONE {
                leaves.push(terminal);
                assert_eq!(nodes.leaves[terminal].parent, branch);
                assert_eq!(nodes.leaves[terminal].label.len(), 0);
            }
            if branch != ROOT && terminal == NONE && keys.len() == 1 {
                let len = nodes.branches[branch].label.len();
                let len_joined = len + nodes.label_len(nodes.child_at(branch, 0));
                assert!(
                    len_joined > LABEL_BYTES_MAX,
                    "a branch that should have been joined"
                );
            }
            assert!(
                branch == ROOT || terminal != NONE || !keys.is_empty(),
                "a dead end"
            );
        }
        assert_eq!(leaves.len(), nodes.leaves.live());
        assert_eq!(branches, nodes.branches.live());
        assert_eq!(nodes.children.census(), (blocks, nodes.children.bytes()));
        assert_eq!(nodes.spills.census(), (spills, nodes.spills.bytes()));
        leaves
    }

    fn check_lists(&self, mut held: BTreeMap<u32, BTreeSet<u32>>) {
        for (peer, list) in (0..).zip(&self.lists) {
            let mut expected = held.remove(&peer).unwrap_or_default();
            assert_eq!(list.count as usize, expected.len());
            let (mut previous, mut leaf) = (NONE, list.head);
            while leaf != NONE {
                assert!(expected.remove(&leaf));
                let link = self
                    .crowds
                    .link(self.nodes.leaves[leaf].holders, peer)
                    .unwrap();
                assert_eq!(link.previous, previous);
                (previous, leaf) = (leaf, link.next);
            }
            assert!(
                expected.is_empty(),
                "leaves that the list of peer {peer} lacks"
            );
        }
        assert!(held.is_empty());
    }
}

/// The parameters of one random sequence of operations.
struct Plan<'a> {
    alphabet: &'a [u8],
    len_end: usize,
    long: bool,
    peers: usize,
    steps: usize,
    /// The number of inserts among 16 operations at first; in the second half, the rest.
    inserts_of_16: usize,
    check_every: usize,
}

fn compare(seed: u64, plan: &Plan<'_>) {
    let _seed = Seed(seed);
    let mut random = Random::new(seed);
    let (mut trie, mut twin) = (Trie::new(), Twin::default());
    for step in 0..plan.steps {
        let topic = random.topic(plan.alphabet, plan.len_end, plan.long);
        let peer = random.peer(plan.peers);
        let generation = trie.generation();
        let share = if step < plan.steps / 2 {
            plan.inserts_of_16
        } else {
            16 - plan.inserts_of_16
        };
        let changed = if random.below(64 * plan.peers) == 0 {
            compare_remove_peer(&mut trie, &mut twin, &mut random, peer)
        } else if random.below(16) < share {
            let expected = twin.insert(&topic, peer);
            assert_eq!(
                trie.insert(&topic, peer),
                expected,
                "insert {topic:?} {peer}"
            );
            expected != Inserted::Already
        } else {
            let expected = twin.remove(&topic, peer);
            assert_eq!(
                trie.remove(&topic, peer),
                expected,
                "remove {topic:?} {peer}"
            );
            expected != Removed::NotFound
        };
        assert_eq!(trie.generation() != generation, changed);
        let probe = random.topic(plan.alphabet, plan.len_end + 2, plan.long);
        assert_eq!(
            trie.matched(&probe),
            twin.matches(&probe),
            "match {probe:?}"
        );
        assert_eq!(trie.topics(), twin.topics.len());
        if step % plan.check_every == 0 {
            trie.check();
            assert!(trie.all_topics().iter().eq(twin.topics.keys()));
            compare_walk(&trie, &twin, &probe);
            assert_eq!(
                trie.subscriptions(),
                twin.topics.values().map(BTreeSet::len).sum::<usize>()
            );
            assert_eq!(trie.subscriptions_of(peer), twin.topics_of(peer).len());
        }
    }
    for peer in (0..).take(plan.peers) {
        compare_remove_peer(&mut trie, &mut twin, &mut random, peer);
    }
    assert_eq!(
        (trie.topics(), trie.subscriptions(), twin.topics.len()),
        (0, 0, 0)
    );
    trie.check();
}

/// Walks from a topic on, to the end and to the second topic.
fn compare_walk(trie: &Trie, twin: &Twin, first: &[u8]) {
    let expected: Vec<(Vec<u8>, usize)> = twin
        .topics
        .range(first.to_vec()..)
        .map(|(topic, peers)| (topic.clone(), peers.len()))
        .collect();
    let walk = |limit: usize| {
        let mut seen = Vec::new();
        trie.for_each_topic_from(first, |topic, peers| {
            seen.push((topic.to_vec(), peers));
            match seen.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        seen
    };
    assert_eq!(walk(usize::MAX), expected, "from {first:?}");
    assert_eq!(walk(2), expected[..expected.len().min(2)], "from {first:?}");
    let has_others = twin.topics.keys().any(|topic| !topic.is_empty());
    assert_eq!(trie.tells_apart(), has_others);
}

/// Removes a peer in portions; true if it held anything.
fn compare_remove_peer(trie: &mut Trie, twin: &mut Twin, random: &mut Random, peer: u32) -> bool {
    let held = twin.topics_of(peer);
    let mut left = held.len();
    let mut emptied = Vec::new();
    loop {
        let limit = random.below(9);
        let done = trie.remove_peer(peer, limit, |topic| emptied.push(topic.to_vec()));
        left = left.saturating_sub(limit);
        assert_eq!(trie.subscriptions_of(peer), left);
        assert_eq!(done, left == 0);
        if done {
            break;
        }
        trie.check();
    }
    emptied.sort();
    let last = |topic: &&Vec<u8>| twin.remove(topic, peer) == Removed::Last;
    assert!(
        held.iter().filter(last).eq(&emptied),
        "the topics without a peer"
    );
    !held.is_empty()
}

#[test]
fn agrees_with_the_twin_on_tiny_alphabets() {
    let alphabets: [&[u8]; 5] = [
        b"a",
        b"ab",
        &[0x00, 0xff],
        &[0x00, 0x01, 0xfe, 0xff],
        b"abcdefgh",
    ];
    for seed in 0..60 {
        let alphabet = alphabets[usize::try_from(seed).unwrap() % alphabets.len()];
        for (peers, inserts_of_16) in [(1, 10), (3, 12), (7, 15)] {
            let (len_end, long) = (7, seed % 2 == 0);
            let (steps, check_every) = (600, 7);
            let plan = Plan {
                alphabet,
                len_end,
                long,
                peers,
                steps,
                inserts_of_16,
                check_every,
            };
            compare(seed, &plan);
        }
    }
}

#[test]
fn agrees_with_the_twin_on_all_bytes() {
    let alphabet: Vec<u8> = (0..=255).collect();
    for seed in 0..6 {
        let (alphabet, len_end, long, peers) = (alphabet.as_slice(), 4, seed % 2 == 0, 3);
        let (steps, inserts_of_16, check_every) = (6000, 13, 500);
        compare(
            seed,
            &Plan {
                alphabet,
                len_end,
                long,
                peers,
                steps,
                inserts_of_16,
                check_every,
            },
        );
    }
}

#[test]
fn agrees_with_the_twin_with_crowds_on_a_topic() {
    for seed in 0..4 {
        let (alphabet, len_end, long, peers): (&[u8], _, _, _) = (b"a", 3, false, 900);
        let (steps, inserts_of_16, check_every) = (20_000, 14, 250);
        compare(
            seed,
            &Plan {
                alphabet,
                len_end,
                long,
                peers,
                steps,
                inserts_of_16,
                check_every,
            },
        );
    }
}

#[test]
fn an_empty_trie_answers() {
    let mut trie = Trie::default();
    assert!(trie.matched(b"").is_empty() && trie.matched(b"a").is_empty());
    assert!(trie.all_topics().is_empty());
    assert_eq!(trie.remove(b"", 0), Removed::NotFound);
    assert!(trie.remove_peer(9, 0, |_| {}) && trie.remove_peer(9, 9, |_| {}));
    assert_eq!(
        (trie.bytes(), trie.generation(), trie.subscriptions_of(9)),
        (0, 0, 0)
    );
}

#[test]
fn the_empty_topic_matches_everything() {
    let mut trie = Trie::new();
    assert_eq!(trie.insert(b"", 3), Inserted::First);
    assert_eq!(trie.insert(b"", 3), Inserted::Already);
    assert_eq!(trie.insert(b"", 1), Inserted::Further);
    assert_eq!(trie.matched(b""), [1, 3]);
    assert_eq!(trie.matched(&[0xff; 5000]), [1, 3]);
    assert_eq!(trie.remove(b"", 3), Removed::Other);
    assert_eq!(trie.remove(b"", 3), Removed::NotFound);
    assert_eq!(trie.remove(b"", 1), Removed::Last);
    trie.check();
}

#[test]
fn a_peer_is_matched_once_for_each_prefix_it_holds() {
    let mut trie = Trie::new();
    for topic in ["", "a", "abc", "abd"] {
        assert_eq!(trie.insert(topic.as_bytes(), 5), Inserted::First);
    }
    assert_eq!(trie.insert(b"ab", 2), Inserted::First);
    assert_eq!(trie.matched(b"abc"), [5, 5, 2, 5]);
    assert_eq!(trie.matched(b"ab"), [5, 5, 2]);
    assert_eq!(trie.matched(b"b"), [5]);
    trie.check();
}

#[test]
fn siblings_at_both_ends_of_the_alphabet_come_and_go() {
    let mut trie = Trie::new();
    let topics: [&[u8]; 6] = [&[0], &[0, 0], &[0, 255], &[128], &[255], &[255, 255]];
    for (skipped, _) in topics.iter().enumerate() {
        for (peer, topic) in (0..).zip(topics) {
            assert_eq!(trie.insert(topic, peer), Inserted::First);
        }
        assert!(trie.all_topics().iter().eq(&topics));
        for (peer, topic) in (0..)
            .zip(topics)
            .skip(skipped)
            .chain((0..).zip(topics).take(skipped))
        {
            trie.check();
            assert_eq!(trie.matched(topic).last(), Some(&peer));
            assert_eq!(trie.remove(topic, peer), Removed::Last);
            assert!(!trie.matched(topic).contains(&peer));
        }
    }
    assert_eq!(trie.topics(), 0);
}

#[test]
fn a_leaving_peer_empties_only_topics_that_it_held_alone() {
    let mut trie = Trie::new();
    for (topic, peer) in [("x", 0), ("xy", 0), ("xyz", 0), ("xy", 1), ("z", 1)] {
        assert_ne!(trie.insert(topic.as_bytes(), peer), Inserted::Already);
    }
    let mut emptied = Vec::new();
    assert!(!trie.remove_peer(0, 2, |topic| emptied.push(topic.to_vec())));
    assert_eq!(emptied, [b"xyz"]);
    assert!(trie.remove_peer(0, 2, |topic| emptied.push(topic.to_vec())));
    assert_eq!(emptied, [&b"xyz"[..], b"x"]);
    assert_eq!(trie.all_topics(), [&b"xy"[..], b"z"]);
    assert_eq!((trie.subscriptions_of(0), trie.subscriptions_of(1)), (0, 2));
    // The number of the connection is reused.
    assert_eq!(trie.insert(b"z", 0), Inserted::Further);
    assert_eq!(trie.matched(b"z"), [0, 1]);
    trie.check();
}

#[test]
fn peers_of_one_topic_leave_in_any_order() {
    let peers = || 0..700_u32;
    let orders: [Vec<u32>; 4] = [
        peers().collect(),
        peers().rev().collect(),
        peers().map(|peer| (peer * 411) % 700).collect(),
        peers()
            .filter(|peer| peer % 5 > 0)
            .chain(peers().filter(|peer| peer % 5 == 0))
            .collect(),
    ];
    for inserted in &orders {
        for removed in &orders {
            let mut trie = Trie::new();
            for &peer in inserted {
                assert_ne!(trie.insert(b"t", peer), Inserted::Already);
                trie.check();
            }
            assert!(trie.matched(b"topic").into_iter().eq(peers()));
            for (left, &peer) in (0..removed.len()).rev().zip(removed) {
                let expected = if left == 0 {
                    Removed::Last
                } else {
                    Removed::Other
                };
                assert_eq!(trie.remove(b"t", peer), expected);
                assert_eq!(trie.remove(b"t", peer), Removed::NotFound);
                assert_eq!(trie.matched(b"topic").len(), left);
                trie.check();
            }
        }
    }
}

#[test]
fn long_topics_need_no_stack() {
    let work = || {
        let mut trie = Trie::new();
        let topic = vec![b'a'; 1 << 20];
        for (peer, len) in (0..).zip([0, 1, 255, 256, 257, 4096, 65_536, 1 << 20]) {
            assert_eq!(trie.insert(&topic[..len], peer), Inserted::First);
        }
        trie.check();
        assert_eq!(trie.matched(&topic), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(trie.matched(&topic[1..]), [0, 1, 2, 3, 4, 5, 6]);
        assert!(
            trie.bytes() < 2 << 20,
            "{} bytes for one of 2^20",
            trie.bytes()
        );
        let mut lens = Vec::new();
        trie.for_each_topic(|topic| lens.push(topic.len()));
        assert_eq!(lens, [0, 1, 255, 256, 257, 4096, 65_536, 1 << 20]);
        assert_eq!(trie.remove(&topic, 7), Removed::Last);
        trie.check();
        assert!(trie.remove_peer(6, 1, |emptied| assert_eq!(emptied, &topic[..65_536])));
        trie.check();
    };
    let thread = thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(work)
        .unwrap();
    thread.join().unwrap();
}

#[test]
fn prefixes_of_prefixes_nest_deeply() {
    let mut trie = Trie::new();
    let topic: Vec<u8> = b"ab".repeat(1500);
    for len in (0..=topic.len()).rev() {
        assert_eq!(trie.insert(&topic[..len], 0), Inserted::First);
    }
    trie.check();
    assert_eq!(trie.matched(&topic).len(), topic.len() + 1);
    for len in 0..topic.len() {
        assert_eq!(trie.remove(&topic[..len], 0), Removed::Last);
    }
    trie.check();
    assert_eq!(trie.matched(&topic), [0]);
}

#[test]
fn memory_stays_flat_while_topics_come_and_go() {
    let _seed = Seed(1);
    let mut random = Random::new(1);
    let mut trie = Trie::new();
    let mut topics: Vec<Vec<u8>> = Vec::new();
    let topic = |random: &mut Random| {
        let len = 4 + random.below(24);
        random.binary(len)
    };
    while topics.len() < 5000 {
        topics.push(topic(&mut random));
        trie.insert(topics.last().unwrap(), 0);
    }
    let bytes = trie.bytes();
    for step in 0..200_000 {
        let index = random.below(topics.len());
        assert_eq!(trie.remove(&topics[index], 0), Removed::Last);
        topics[index] = topic(&mut random);
        assert_eq!(trie.insert(&topics[index], 0), Inserted::First);
        if step % 20_000 == 0 {
            trie.check();
        }
    }
    assert!(
        trie.bytes() < bytes + bytes / 8,
        "{} bytes, {bytes} before",
        trie.bytes()
    );
    // Topics with other lengths find the memory that the first ones left.
    for topic in &topics {
        assert_eq!(trie.remove(topic, 0), Removed::Last);
        assert_eq!(trie.insert(&random.binary(12), 0), Inserted::First);
    }
    trie.check();
    assert!(
        trie.bytes() < bytes + bytes / 8,
        "{} bytes, {bytes} before",
        trie.bytes()
    );
    assert!(trie.remove_peer(0, usize::MAX, |_| {}));
    trie.check();
}

#[test]
fn a_topic_and_a_connection_cost_little() {
    let mut random = Random::new(2);
    let mut trie = Trie::new();
    for _ in 0..50_000 {
        trie.insert(&random.binary(12), 0);
    }
    let bytes_each = trie.bytes() / trie.topics();
    assert!(bytes_each <= 48, "{bytes_each} bytes for a topic of 12");

    for (connections, own_topics) in [(100, false), (100, true), (10_000, false), (10_000, true)] {
        let mut trie = Trie::new();
        for peer in 0..connections {
            let topic = format!("topic {:06}", if own_topics { peer } else { 0 });
            assert_ne!(trie.insert(topic.as_bytes(), peer), Inserted::Already);
        }
        trie.check();
        let bytes_each = trie.bytes() / trie.subscriptions();
        assert!(
            bytes_each < 80,
            "{bytes_each} bytes for a connection with one subscription"
        );
    }
}

#[test]
fn memory_is_freed_when_most_topics_are_gone() {
    let _seed = Seed(3);
    let mut random = Random::new(3);
    let mut trie = Trie::new();
    let topics: Vec<Vec<u8>> = (0..60_000)
        .map(|number| {
            let mut topic = random.binary(6);
            topic.extend_from_slice(format!("{number}").as_bytes());
            topic
        })
        .collect();
    for (index, topic) in topics.iter().enumerate() {
        trie.insert(topic, 0);
        // A few topics stay, some of them with many peers, everywhere in the arenas.
        if index % 100 == 0 {
            (1..=u32::try_from(1 + index / 600).unwrap()).for_each(|peer| {
                trie.insert(topic, peer);
            });
        }
    }
    let bytes = trie.bytes();
    trie.check();
    while !trie.remove_peer(0, 5000, |_| {}) {
        trie.check();
    }
    trie.check();
    assert_eq!(trie.topics(), 600);
    let slots = [trie.nodes.leaves.capacity(), trie.nodes.branches.capacity()];
    assert!(slots.iter().all(|slots| *slots <= 2 * 4096), "{slots:?}");
    for peer in 2..110 {
        trie.remove_peer(peer, usize::MAX, |_| {});
    }
    trie.check();
    assert!(trie.bytes() < bytes / 5, "{} of {bytes}", trie.bytes());
    let kept = topics.iter().step_by(100);
    assert!(kept.clone().all(|topic| trie.matched(topic) == [1]));
}
