//! The results of an attack, its missed goals, and the table.

use std::env;
use std::fmt;
use std::time::Duration;

use crate::honest::{Tally, percentile};

/// Resident memory allowed beyond 1.25 times the limit.
const MEMORY_SLACK: u64 = 16 << 20;
/// Freed memory that glibc keeps at the end of its heap after large messages, at most.
const KEPT_MAX: u64 = 64 << 20;
/// Latency that the slowest hundredth of honest requests may have beyond that of the relay.
const LATENCY_SLACK: Duration = Duration::from_millis(20);
/// Files that a broker opens on first use and keeps.
pub(crate) const FILES_SLACK: usize = 2;

/// The results of one attack.
pub(crate) struct Figures {
    /// Open files before and after.
    pub(crate) files: (usize, usize),
    pub(crate) lasted: Duration,
    pub(crate) limit: u64,
    /// Round trips through a relay without protocol knowledge, at the same time.
    pub(crate) machine: Tally,
    /// Times that exceeded the attack's own goals.
    pub(crate) late: Vec<String>,
    /// Resident bytes before, at most, and at rest.
    pub(crate) memory: [u64; 3],
    pub(crate) name: &'static str,
    /// Requests and work on other proxies.
    pub(crate) others: [Tally; 2],
    /// Processor time of the broker.
    pub(crate) ran: Duration,
    /// Messages on the attacked proxy, if honest ones can pass it.
    pub(crate) same: Option<Tally>,
    /// The duration of the stop, or another end of the broker.
    pub(crate) stop: Result<Duration, String>,
    /// Time in which the broker was ready to run without a processor.
    pub(crate) waited: Duration,
    /// A description of the attack.
    pub(crate) what: String,
}

impl Figures {
    /// The missed goals, as phrases.
    pub(crate) fn missed(&self) -> Vec<String> {
        let mut missed: Vec<String> = self.stop.clone().err().into_iter().collect();
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
        missed.extend(self.missed_times());
        missed
    }

    /// Whether only times were missed, which other programs may have caused.
    pub(crate) fn may_be_noise(&self) -> bool {
        let times = self.missed_times().len();
        times > 0 && times == self.missed().len()
    }

    fn missed_times(&self) -> Vec<String> {
        let [_, machine, ..] = quantiles(&self.machine);
        let [_, ours, ..] = self.latency();
        let mut missed = self.late.clone();
        if ours > machine.saturating_add(at_most(LATENCY_SLACK)) {
            missed.push("latency".to_owned());
        }
        missed
    }

    /// Median, 99th percentile and maximum of round trips on another proxy.
    pub(crate) fn latency(&self) -> [Duration; 3] {
        quantiles(&self.others[0])
    }

    fn memory_max(&self) -> u64 {
        self.limit + self.limit / 4 + MEMORY_SLACK
    }
}

/// The goal for a time: a machine with other load may need `SLOWER` times as much.
pub(crate) fn at_most(goal: Duration) -> Duration {
    let text = env::var("SLOWER").unwrap_or_else(|_| "1".to_owned());
    goal * text.parse::<u32>().expect("SLOWER is a whole number")
}

/// Resident memory at rest that is allowed beyond the start.
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
        let stop = self.stop.as_ref().map_or_else(
            |_| "never".to_owned(),
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

/// Median, 99th percentile and maximum. A lost message counts as infinitely late.
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

/// A time that may be infinite.
pub(crate) fn shown(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("{time:.1?}"))
}
