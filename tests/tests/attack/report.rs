//! What an attack did, which goals were missed, and the table of both.

use std::env;
use std::fmt;
use std::time::Duration;

use crate::honest::{Tally, percentile};

/// What resident memory may have beyond 1.25 times the limit.
const MEMORY_SLACK: u64 = 16 << 20;
/// What glibc keeps at most of what was freed at the end of its heap, where messages were large.
const KEPT_MAX: u64 = 64 << 20;
/// How much longer the slowest hundredth of honest requests may take than without a broker, unless
/// the environment says otherwise.
const LATENCY_SLACK_MS: u64 = 20;
/// Files that a broker opens when it first needs them, and keeps.
pub(crate) const FILES_SLACK: usize = 2;

/// All that was seen of one attack.
pub(crate) struct Figures {
    /// Open files before and after.
    pub(crate) files: (usize, usize),
    pub(crate) lasted: Duration,
    pub(crate) limit: u64,
    /// Round trips through a relay that knows no protocol, at the same time.
    pub(crate) machine: Tally,
    /// Resident bytes before, at most, and at rest.
    pub(crate) memory: [u64; 3],
    /// Goals of the attack alone that were missed.
    pub(crate) misses: Vec<String>,
    pub(crate) name: &'static str,
    /// Requests and work on other proxies.
    pub(crate) others: [Tally; 2],
    /// Processor time of the broker.
    pub(crate) ran: Duration,
    /// Messages on the attacked proxy, if honest ones can pass there.
    pub(crate) same: Option<Tally>,
    /// How long the stop took, if there was an end.
    pub(crate) stop: Option<Duration>,
    /// Time in which the broker was ready to run and had no processor.
    pub(crate) waited: Duration,
    /// What the attackers did.
    pub(crate) what: String,
}

impl Figures {
    /// The goals that were missed, as phrases.
    pub(crate) fn missed(&self) -> Vec<String> {
        let mut missed = self.misses.clone();
        let [requests, work] = &self.others;
        let tallies = [
            ("requests", Some(requests)),
            ("work", Some(work)),
            ("same proxy", self.same.as_ref()),
        ];
        for (where_, tally) in tallies {
            let Some(tally) = tally else { continue };
            for (count, what) in [
                (tally.lost(), "lost"),
                (tally.reordered, "reordered"),
                (tally.foreign, "from strangers"),
            ] {
                if count > 0 {
                    missed.push(format!("{where_}: {count} {what}"));
                }
            }
        }
        if self.memory[1] > self.memory_max() {
            missed.push("memory".to_owned());
        }
        if self.memory[2] > self.memory[0] + rest_max(self.limit) {
            missed.push("memory at rest".to_owned());
        }
        if self.files.1 > self.files.0 + FILES_SLACK {
            missed.push("open files".to_owned());
        }
        if self.is_late() {
            missed.push("latency".to_owned());
        }
        missed
    }

    /// Whether latency is all that was missed, of which other programs may be the cause.
    pub(crate) fn may_be_noise(&self) -> bool {
        self.is_late() && self.missed().len() == 1
    }

    fn is_late(&self) -> bool {
        let [_, machine, ..] = quantiles(&self.machine);
        let [_, ours, ..] = self.latency();
        ours > machine.saturating_add(latency_slack())
    }

    /// Median, 99th percentile and maximum of round trips on another proxy.
    pub(crate) fn latency(&self) -> [Duration; 3] {
        quantiles(&self.others[0])
    }

    fn memory_max(&self) -> u64 {
        self.limit + self.limit / 4 + MEMORY_SLACK
    }
}

/// A machine that others use at the same time needs more: `SLACK_MS`.
fn latency_slack() -> Duration {
    let text = env::var("SLACK_MS").ok();
    let given = text.map(|text| text.parse().expect("SLACK_MS is a number of milliseconds"));
    Duration::from_millis(given.unwrap_or(LATENCY_SLACK_MS))
}

/// What resident memory may have at rest beyond the start.
pub(crate) fn rest_max(limit: u64) -> u64 {
    limit.min(KEPT_MAX)
}

/// The names of the columns.
pub(crate) const HEAD: &str = "\
| attack | what came | lost, reordered, strange: other proxies | same proxy | p50, p99, max ms | \
machine's p99 | memory: start, most ≤ goal, rest MiB | CPU s of s, waited | files | stop s | \
missed |
|---|---|---|---|---|--:|---|---|---|--:|---|";

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, max] = self.latency().map(millis);
        let [_, machine, _] = quantiles(&self.machine).map(millis);
        let [start, peak, rest] = self.memory.map(|bytes| bytes >> 20);
        let [requests, work] = self.others.each_ref().map(faults);
        let same = self.same.as_ref().map_or_else(|| "–".to_owned(), faults);
        let stop = self.stop.map_or_else(
            || "never".to_owned(),
            |took| format!("{:.1}", took.as_secs_f64()),
        );
        let missed = self.missed();
        let verdict = if missed.is_empty() {
            "–".to_owned()
        } else {
            format!("**{}**", missed.join("; "))
        };
        write!(
            f,
            "| {} | {} | {requests}; {work} | {same} | {p50}, {p99}, {max} | {machine} | \
             {start}, {peak} ≤ {}, {rest} | {:.2} of {:.1}, {:.2} | {}, {} | {stop} | {verdict} |",
            self.name,
            self.what,
            self.memory_max() >> 20,
            self.ran.as_secs_f64(),
            self.lasted.as_secs_f64(),
            self.waited.as_secs_f64(),
            self.files.0,
            self.files.1,
        )
    }
}

fn faults(tally: &Tally) -> String {
    format!(
        "{}, {}, {} of {}",
        tally.lost(),
        tally.reordered,
        tally.foreign,
        tally.sent
    )
}

/// Median, 99th percentile and maximum. What is lost takes for all time.
fn quantiles(tally: &Tally) -> [Duration; 3] {
    let mut sorted = tally.latencies.clone();
    sorted.sort_unstable();
    let lost = usize::try_from(tally.lost()).unwrap_or(usize::MAX);
    sorted.resize(sorted.len().saturating_add(lost), Duration::MAX);
    [500, 990, 1000].map(|permille| percentile(&sorted, permille))
}

fn millis(time: Duration) -> String {
    if time == Duration::MAX {
        "never".to_owned()
    } else {
        format!("{:.1}", time.as_secs_f64() * 1e3)
    }
}
