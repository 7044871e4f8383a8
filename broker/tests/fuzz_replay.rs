//! The fuzz targets without a fuzzer: on the seeds in `fuzz/seeds`, and on inputs from random
//! numbers.

#[path = "../../zmtp/tests/support/changed.rs"]
mod changed;
#[path = "../../zmtp/tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../zmtp/tests/support/random.rs"]
mod random;

use broker::config::Config;
use broker::fuzzing::{fuzz_config, fuzz_core, fuzz_endpoint, fuzz_query, fuzz_reload, fuzz_trie};
use changed::try_changed;
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
    try_changed(fuzz_query, 1000, questions);
    let questions = br#"{"command": "peers", "sort": "messages", "skip": 3}"#;
    try_changed(fuzz_query, 1000, questions);
    try_changed(
        fuzz_query,
        1000,
        br#"{"command": "who", "topic_hex": "00ff", "limit": 1}"#,
    );
    try_changed(fuzz_config, 1000, Config::DEFAULT_TOML.as_bytes());
    for endpoint in [
        "tcp://eth0:1;[::1%2]:3",
        "ipc://@a",
        "tcp://*:*",
        "inproc://x",
    ] {
        try_changed(fuzz_endpoint, 1000, endpoint.as_bytes());
    }
}

/// Inputs of random bytes, up to a size.
fn try_numbers(target: Target, inputs: usize, size_max: usize) {
    try_inputs(target, inputs, |random| {
        let size = random.below(size_max);
        (0..size).map(|_| byte(random)).collect()
    });
}
