//! The fuzz targets without a fuzzer: the seeds in `fuzz/seeds`, and inputs made from numbers.
//!
//! A panic in a target is the finding. `SEED=… cargo test -p zmqd-broker --test fuzz_replay` begins
//! with another seed; the one in use is printed when a test fails.

#[path = "../../zmtp/tests/support/random.rs"]
mod random;

use broker::fuzzing::{fuzz_config, fuzz_core, fuzz_endpoint, fuzz_inquiry, fuzz_trie};
use random::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{fs, path::Path};

#[test]
fn seeds_of_every_target() {
    let targets = [
        ("config", fuzz_config as fn(&[u8])),
        ("core", fuzz_core),
        ("endpoint", fuzz_endpoint),
        ("inquiry", fuzz_inquiry),
        ("trie", fuzz_trie),
    ];
    for (name, target) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../fuzz/seeds")
            .join(name);
        let mut replayed = 0;
        for entry in fs::read_dir(&folder).expect("a folder of seeds") {
            let path = entry.expect("a directory entry").path();
            let data = fs::read(&path).expect("a readable seed");
            let outcome = catch_unwind(|| target(&data));
            assert!(outcome.is_ok(), "{}", path.display());
            replayed += 1;
        }
        assert!(replayed >= 10, "{replayed} seeds of {name}");
    }
}

#[test]
fn whole_brokers() {
    try_numbers(fuzz_core, 1000, 1500);
}

#[test]
fn subscriptions() {
    try_numbers(fuzz_trie, 3000, 600);
}

#[test]
fn questions_and_configurations() {
    let questions = br#"{"command": "peers", "side": "frontend", "after": "1-2", "limit": 3}"#;
    try_changed(fuzz_inquiry, questions);
    try_changed(
        fuzz_inquiry,
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

/// Inputs of any bytes up to a size.
fn try_numbers(target: fn(&[u8]), inputs: usize, size_max: usize) {
    try_inputs(target, inputs, |random| {
        let size = random.below(size_max);
        (0..size).map(|_| byte(random)).collect()
    });
}

/// A legal input with some of its bytes changed, taken out or doubled.
fn try_changed(target: fn(&[u8]), legal: &[u8]) {
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

fn try_inputs(target: fn(&[u8]), inputs: usize, make: impl Fn(&mut Random) -> Vec<u8>) {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED=number"));
    let mut random = Random::new(seed);
    for _ in 0..inputs {
        let input = make(&mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(outcome.is_ok(), "SEED={seed}: {}", input.escape_ascii());
    }
}

fn byte(random: &mut Random) -> u8 {
    u8::try_from(random.below(256)).expect("a byte")
}
