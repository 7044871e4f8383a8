//! Watches in a simulated world: services that hang, crash and come back, commands that help or do
//! not, a broker that goes away, storms, pauses and a machine that stands still.
//!
//! ```text
//! SEED=17 cargo test -p zmqd-watch --test sim     replays one run
//! SEEDS=20000 cargo test -p zmqd-watch --test sim this number of runs
//! ```
//!
//! Reading order: [`world`] has services, processes and the clock; [`traffic`] has what a broker
//! counts; [`rules`] says what a watch must and must not do.

mod rules;
mod scenario;
mod traffic;
mod world;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::catch_unwind;

/// The default number of runs.
const SEEDS: u64 = 400;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: write a number")),
    )
}

/// Counts of what has happened in all runs.
type Coverage = BTreeMap<&'static str, u64>;

/// Runs this many seeds from a random one, or the one in the environment.
fn run_all(count: u64, run: fn(u64) -> Coverage) -> Coverage {
    let given = number("SEED");
    let first = given.unwrap_or_else(|| RandomState::new().hash_one(0_u8) >> 16);
    let count = if given.is_some() {
        1
    } else {
        number("SEEDS").unwrap_or(count)
    };
    let mut all = Coverage::new();
    for seed in first..first + count {
        match catch_unwind(|| run(seed)) {
            Ok(coverage) => {
                for (what, times) in coverage {
                    *all.entry(what).or_default() += times;
                }
            }
            Err(_) => panic!("replay it with SEED={seed} cargo test -p zmqd-watch --test sim"),
        }
    }
    all
}

#[test]
fn watches_act_when_they_must_and_only_then() {
    let coverage = run_all(SEEDS, |seed| world::World::new(seed).run());
    println!("{coverage:?}");
    if number("SEED").is_none() && number("SEEDS").is_none() {
        for what in COVERED {
            assert!(coverage.contains_key(what), "no run had any: {what}");
        }
    }
}

/// Events that must occur in the default number of runs, which would prove less without them.
const COVERED: &[&str] = &[
    "acted in time",
    "acted in time for messages",
    "acting",
    "actions with a grace",
    "broker away",
    "crashes",
    "dry runs",
    "failed",
    "gaps that the clock counts",
    "gaps that the clock does not count",
    "held for a cause",
    "held for a storm",
    "killed",
    "late for a backlog",
    "late for a request",
    "paused",
    "recovered",
    "recovered from failed",
    "reloads",
    "resumed",
    "second actions",
    "stalls",
    "storm",
];

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in 0..20 {
        let run = || world::World::new(seed).run();
        assert_eq!(run(), run(), "SEED={seed}");
    }
}
