//! The fuzz targets without a fuzzer: on the seeds in `fuzz/seeds`, and on inputs from random
//! numbers.

#[path = "../../zmtp/tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../zmtp/tests/support/random.rs"]
mod random;

use broker::fuzzing::{fuzz_config, fuzz_core, fuzz_endpoint, fuzz_query, fuzz_reload, fuzz_trie};
use fuzz::{Target, byte, replay_seeds, try_inputs};

#[test]
fn seeds_of_every_target() {
    let targets: [(&str, Target); 6] = [
        ("config", fuzz_config),
        ("core", fuzz_core),
        ("endpoint", fuzz_endpoint),
        ("query", fuzz_query),
        ("reload", fuzz_reload),
        ("trie", fuzz_trie),
    ];
    replay_seeds(&targets);
}

#[test]
fn whole_brokers() {
    try_numbers(fuzz_core, 1000, 1500);
}

#[test]
fn changed_configurations() {
    try_numbers(fuzz_reload, 3000, 800);
}

#[test]
fn subscriptions() {
    try_numbers(fuzz_trie, 3000, 600);
}

#[test]
fn questions_and_configurations() {
    let questions = br#"{"command": "peers", "side": "frontend", "after": "1-2", "limit": 3}"#;
    try_changed(fuzz_query, questions);
    try_changed(
        fuzz_query,
        br#"{"command": "who", "topic_hex": "00ff", "limit": 1}"#,
    );
    try_changed(fuzz_config, broker::config::Config::DEFAULT_TOML.as_bytes());
    for endpoint in [
        "tcp://eth0:1;[::1%2]:3",
        "ipc://@a",
        "tcp://*:*",
        "inproc://x",
    ] {
        try_changed(fuzz_endpoint, endpoint.as_bytes());
    }
}

/// Inputs of random bytes, up to a size.
fn try_numbers(target: Target, inputs: usize, size_max: usize) {
    try_inputs(target, inputs, |random| {
        let size = random.below(size_max);
        (0..size).map(|_| byte(random)).collect()
    });
}

/// A legal input with some of its bytes changed, removed or doubled.
fn try_changed(target: Target, legal: &[u8]) {
    target(legal);
    try_inputs(target, 1000, |random| {
        let mut input = legal.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(input.len());
            match random.below(4) {
                0 => input[at] ^= 1 << random.below(8),
                1 => input.truncate(at.max(1)),
                2 => input.insert(at, byte(random)),
                _ => {
                    let end = (at + random.below(16)).min(input.len());
                    input.extend_from_within(at..end);
                }
            }
        }
        input
    });
}
