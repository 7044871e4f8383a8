//! The trie against maps and sets.

use super::Feed;
use crate::pattern::trie::{Inserted, Removed, Trie};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// The peers of each topic, kept as simply as possible.
type Twin = BTreeMap<Vec<u8>, BTreeSet<u32>>;

/// Reads `data` as subscriptions, cancels, departures and lookups; the trie must give the same
/// results as a map of sets.
pub fn fuzz_trie(data: &[u8]) {
    let (mut trie, mut twin) = (Trie::new(), Twin::new());
    let mut feed = Feed { rest: data };
    while let Some(operation) = feed.byte() {
        let peer = u32::from(operation >> 3 & 7);
        let size = feed.below(20);
        let topic = feed.bytes(size).to_vec();
        match operation & 7 {
            0..=2 => insert(&mut trie, &mut twin, &topic, peer),
            3 | 4 => remove(&mut trie, &mut twin, &topic, peer),
            5 => depart(&mut trie, &mut twin, peer, size),
            6 => walk(&trie, &twin, &topic),
            _ => look_up(&trie, &twin, &topic),
        }
        assert_eq!(trie.topics(), twin.len());
        let held: usize = twin.values().map(BTreeSet::len).sum();
        assert_eq!(trie.subscriptions(), held);
    }
    walk(&trie, &twin, b"");
    for peer in 0..8 {
        while twin.values().any(|peers| peers.contains(&peer)) {
            depart(&mut trie, &mut twin, peer, 3);
        }
    }
    assert_eq!((trie.topics(), trie.subscriptions()), (0, 0));
}

fn insert(trie: &mut Trie, twin: &mut Twin, topic: &[u8], peer: u32) {
    let peers = twin.entry(topic.to_vec()).or_default();
    let had_others = !peers.is_empty();
    let expected = match (peers.insert(peer), had_others) {
        (false, _) => Inserted::Already,
        (true, false) => Inserted::First,
        (true, true) => Inserted::Further,
    };
    assert_eq!(trie.insert(topic, peer), expected);
}

fn remove(trie: &mut Trie, twin: &mut Twin, topic: &[u8], peer: u32) {
    let held = twin.get_mut(topic).filter(|peers| peers.contains(&peer));
    let expected = held.map_or(Removed::NotFound, |peers| {
        peers.remove(&peer);
        match peers.is_empty() {
            true => Removed::Last,
            false => Removed::Other,
        }
    });
    twin.retain(|_, peers| !peers.is_empty());
    assert_eq!(trie.remove(topic, peer), expected);
}

fn depart(trie: &mut Trie, twin: &mut Twin, peer: u32, limit: usize) {
    let mut emptied = Vec::new();
    let is_done = trie.remove_peer(peer, limit, |topic| emptied.push(topic.to_vec()));
    let held: Vec<Vec<u8>> = twin
        .iter()
        .filter(|(_, peers)| peers.contains(&peer))
        .map(|(topic, _)| topic.clone())
        .collect();
    assert_eq!(is_done, held.len() <= limit);
    // The trie chooses which of them went first, and its lookups show it.
    let mut gone = 0;
    for topic in &held {
        if let Some(peers) = twin.get_mut(topic)
            && !holds(trie, topic, peer)
        {
            gone += 1;
            peers.remove(&peer);
            assert_eq!(emptied.contains(topic), peers.is_empty(), "{topic:?}");
        }
    }
    assert_eq!(gone, held.len().min(limit));
    twin.retain(|_, peers| !peers.is_empty());
}

/// Whether a peer holds this topic: it matches once more than without the topic's last byte.
fn holds(trie: &Trie, topic: &[u8], peer: u32) -> bool {
    let count = |probe: &[u8]| {
        let mut found = 0;
        trie.matches(probe, |peers| found += usize::from(peers.contains(&peer)));
        found
    };
    let shorter = topic.split_last().map_or(0, |(_, shorter)| count(shorter));
    count(topic) > shorter
}

fn walk(trie: &Trie, twin: &Twin, first: &[u8]) {
    let expected = twin.range(first.to_vec()..);
    let mut expected = expected.map(|(topic, peers)| (topic.clone(), peers.len()));
    trie.for_each_topic_from(first, |topic, peers| {
        assert_eq!(expected.next(), Some((topic.to_vec(), peers)));
        ControlFlow::Continue(())
    });
    assert_eq!(expected.next(), None);
}

fn look_up(trie: &Trie, twin: &Twin, topic: &[u8]) {
    let mut found: Vec<u32> = Vec::new();
    trie.matches(topic, |peers| found.extend_from_slice(peers));
    let matching = twin.iter().filter(|(prefix, _)| topic.starts_with(prefix));
    let mut expected: Vec<u32> = matching.flat_map(|(_, peers)| peers).copied().collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}
