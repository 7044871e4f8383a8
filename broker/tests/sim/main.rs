//! The broker in a simulated world: real cores, real sessions, and everything else from a seed.
//!
//! ```text
//! SEED=17 cargo test -p zmqd-broker --test sim            replays one run
//! SEED=17 TRACE=1 cargo test -p zmqd-broker --test sim    and prints what happens in it
//! SEEDS=5000 cargo test -p zmqd-broker --test sim         this number of runs, from seed 0
//! ```
//!
//! Reading order: [`world`] runs events, [`node`] drives a core, [`peers`] talk to it through
//! [`net`]. [`model`] decides independently of the core what the core must do, from what [`mirror`]
//! sees of each connection, [`watch`] decides what captures show and controls answer, and [`check`]
//! compares everything once the world is quiet.

mod check;
mod context;
mod curve;
mod message;
mod mirror;
mod model;
mod net;
mod node;
mod peers;
mod plain;
mod random;
mod scenario;
mod trace;
mod watch;
mod world;

use context::Coverage;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use world::Outcome;

/// The default number of runs.
const SEEDS: u64 = 500;

fn run(seed: u64, is_loud: bool) -> Outcome {
    curve::seed(seed);
    scenario::draw(seed, is_loud).run()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Runs these seeds; the first one that fails is printed with the command that replays it.
fn run_all(seeds: std::ops::Range<u64>, is_loud: bool) -> Coverage {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(coverage);
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed, is_loud))) {
                Ok(outcome) => coverage.merge(&outcome.coverage),
                Err(_) => {
                    eprintln!("SEED={seed}");
                    next.store(seeds.end, Ordering::Relaxed);
                    return Err(seed);
                }
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut results: Vec<Result<Coverage, u64>> = Vec::new();
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            results.push(thread.join().expect("panics are caught"));
        }
    });
    let mut all = Coverage::default();
    for result in results {
        match result {
            Ok(coverage) => all.merge(&coverage),
            Err(seed) => panic!(
                "SEED={seed} failed; replay it with\n    \
                 SEED={seed} TRACE=1 cargo test -p zmqd-broker --test sim -- --nocapture"
            ),
        }
    }
    all
}

#[test]
fn nothing_is_lost_doubled_or_misled_in_any_run() {
    let first = number("SEED");
    let count = number("SEEDS").unwrap_or_else(|| if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let coverage = run_all(first..first + count, std::env::var_os("TRACE").is_some());
    for (what, times) in coverage.iter() {
        println!("{times:9} {what}");
    }
    if count >= SEEDS {
        for what in COVERED {
            assert!(coverage.get(what) > 0, "no run had any: {what}");
        }
    }
}

/// Events that must occur in the default number of runs, which would prove less without them.
const COVERED: &[&str] = &[
    "answers",
    "answers without a question",
    "blocked",
    "broken while writing",
    "box-not-verified",
    "broker controls moved",
    "brokers killed",
    "caches changed",
    "captures and controls added",
    "captures and controls removed",
    "changes that failed",
    "copies",
    "copies missed",
    "counts by topic",
    "cut by the end of a turn",
    "decided by the program",
    "deletions",
    "denied",
    "encrypted batches",
    "encrypted in a later turn",
    "endpoints added",
    "endpoints removed",
    "endpoints replaced by overlapping ones",
    "expired",
    "flushed for room",
    "forged frames",
    "frame-too-large",
    "half-open deaths",
    "handshake-timeout",
    "heartbeat-timeout",
    "HTTP changed",
    "identities given up",
    "identities kept",
    "impatient clients",
    "items",
    "kicked",
    "kicked by the program",
    "last values",
    "late answers",
    "long frames not encrypted at once",
    "loop",
    "messages again",
    "memory-shed",
    "no-such-peer",
    "nonce-repeated",
    "numbered messages",
    "not-authorised",
    "not-encrypted",
    "not-expected",
    "options changed",
    "parked",
    "paused for their rate",
    "pauses",
    "peer-full",
    "peers that handlers let in",
    "peers that handlers let wait",
    "peers whose keys were removed",
    "sockets closed while others run",
    "publications",
    "questions while messages wait",
    "proxies added",
    "proxies ended by the program",
    "proxies paused by the program",
    "proxies removed",
    "queued for a link that is down",
    "read while parked",
    "recorded users",
    "recordings changed",
    "reloads answered",
    "replaced",
    "replies to a former self",
    "reports of watches",
    "replays",
    "requeued",
    "role-forbids",
    "roles changed",
    "server keys changed",
    "socket-type-mismatch",
    "stopping",
    "suspects",
    "topics listed",
    "too-slow",
    "too-many-connections",
    "too-many-subscriptions",
    "written from the scratch",
    "zap-denied",
    "zap-lost",
    "zap-malformed",
    "zap-not-connected",
    "zap-timed-out",
    "values restored",
    "zmtp-1",
    "zmtp-2",
];

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..12 {
        assert_eq!(run(seed, false), run(seed, false), "SEED={seed}");
    }
}
