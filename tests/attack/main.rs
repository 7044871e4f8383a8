//! Attacks on a release build, alongside honest peers that number their messages.
//!
//! `./ci.sh attack MINUTES [WORD|WORD…]` runs all attacks, or those with one of these words in
//! their names, each for its share of the time and against its own broker. The broker has three
//! proxies, one of which is attacked. The suite prints a table and fails if a goal was missed:
//!
//! - no honest message is lost, reordered or from a stranger, on the other proxies and, where an
//!   attack leaves the message path open, on the attacked one;
//! - resident memory is at most 1.25 times the limit and 16 MiB; when the attackers have
//!   left, it is back within 64 MiB of the start, or within the limit if that is less, and open
//!   files are as many as before;
//! - the 99th percentile of honest requests on another proxy is at most 20 ms above that of a relay
//!   of bytes, which runs at the same time, and the times that an attack names are no longer than
//!   it allows (with `SLOWER=N` in the environment all of these are N times as long);
//! - SIGTERM ends the broker.
//!
//! The broker, the relay and the honest peers have priority over the attackers, if this user may
//! set it, since real attackers have processors of their own.

mod brokers;
mod controls;
mod honest;
mod inputs;
mod late;
mod queues;
mod report;
mod scene;
mod security;
mod storms;
mod subscribers;
mod swarm;
mod topics;
mod wire;

use std::env;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use report::{Figures, HEAD};
use scene::Scene;

/// An attack, and its broker.
#[derive(Clone, Copy)]
pub(crate) struct Attack {
    /// Whether the broker answers HTTP.
    pub(crate) has_http: bool,
    pub(crate) kind: &'static str,
    /// Memory limit in bytes, if not the default.
    pub(crate) limit: Option<u64>,
    /// The number of endpoints of the frontend.
    pub(crate) listeners: usize,
    pub(crate) name: &'static str,
    /// Further lines for the attacked proxy.
    pub(crate) options: &'static str,
    /// Attacks for the share of the scene, and returns a description.
    pub(crate) run: fn(&mut Scene) -> String,
    /// Honest messages on the attacked proxy.
    pub(crate) same: Option<Same>,
}

/// The honest peers of the attacked proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Same {
    Publications,
    Requests,
    Work,
}

impl Attack {
    pub(crate) const fn new(
        name: &'static str,
        kind: &'static str,
        run: fn(&mut Scene) -> String,
    ) -> Self {
        Self {
            has_http: false,
            kind,
            limit: None,
            listeners: 1,
            name,
            options: "",
            run,
            same: None,
        }
    }

    pub(crate) const fn beside(mut self, same: Same) -> Self {
        self.same = Some(same);
        self
    }

    pub(crate) const fn http(mut self) -> Self {
        self.has_http = true;
        self
    }

    pub(crate) const fn limit(mut self, bytes: u64) -> Self {
        self.limit = Some(bytes);
        self
    }

    pub(crate) const fn options(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }
}

/// Open files that this process and the broker each need for the largest attacks.
const FILES: usize = 12_000;
/// Tries of an attack: a time goal is missed only if each try misses it.
const TRIES: u32 = 3;
/// The part of an attack's share that setting up and tearing down a scene takes.
const SCENERY: Duration = Duration::from_secs(2);

/// A wrapper for processes with priority; without the right to set it, it has no effect.
pub(crate) const URGENT: &[&str] = &["nice", "-n", "-10"];

/// Starts a thread with priority over those of the attackers.
pub(crate) fn urgent<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let raised = move || {
        if let Ok(path) = fs::read_link("/proc/thread-self")
            && let Some(id) = path.file_name()
        {
            // Without the right to set it, the thread has normal priority.
            drop(
                Command::new("renice")
                    .args(["-n", "-10", "-p"])
                    .arg(id)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status(),
            );
        }
        work()
    };
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(raised).expect("a thread can be started")
}

/// The number of peers for an attack: as many as wanted, or as open files allow.
pub(crate) fn peers(wanted: usize) -> usize {
    wanted.min(files_max().saturating_sub(200))
}

fn files_max() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(usize::MAX)
}

/// Runs one attack, again if other programs may have used the processors.
fn attempt(attack: &Attack, share: Duration) -> Figures {
    let mut tries = 1;
    loop {
        let figures = scene::run(attack, share);
        if tries == TRIES || !figures.may_be_noise() {
            return figures;
        }
        println!("again, since other programs may have had the processors:\n{figures}");
        tries += 1;
    }
}

#[test]
fn it_stays_itself() {
    let minutes = env::var("MINUTES").ok().and_then(|text| text.parse().ok());
    let minutes: f64 = minutes.expect("MINUTES says how long this runs");
    let word = env::var("WORD").unwrap_or_default();
    let all = [
        subscribers::ATTACKS,
        topics::ATTACKS,
        queues::ATTACKS,
        inputs::ATTACKS,
        brokers::ATTACKS,
        controls::ATTACKS,
        late::ATTACKS,
        storms::ATTACKS,
        security::ATTACKS,
    ]
    .concat();
    let chosen: Vec<Attack> = all
        .into_iter()
        .filter(|attack| word.split('|').any(|one| attack.name.contains(one)))
        .collect();
    assert!(!chosen.is_empty(), "no attack has {word:?} in its name");
    let count = u32::try_from(chosen.len()).expect("there are few attacks");
    let share = (Duration::from_secs_f64(60.0 * minutes) / count).saturating_sub(SCENERY);
    if files_max() < FILES {
        println!(
            "Only {} files may be open, so that large attacks have fewer peers: `ulimit -n`.",
            files_max()
        );
    }
    println!("{HEAD}");
    let mut missed = Vec::new();
    for attack in &chosen {
        let figures = attempt(attack, share);
        println!("{figures}");
        if !figures.missed().is_empty() {
            missed.push(format!("{}: {}", attack.name, figures.missed().join("; ")));
        }
    }
    assert!(
        missed.is_empty(),
        "{} of {count} attacks missed a goal:\n{}",
        missed.len(),
        missed.join("\n")
    );
}
