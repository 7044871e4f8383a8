//! An hour of rates, so that graphs are full when the dashboard opens.

use crate::limits::{HISTORY_LEN, HISTORY_PROXIES_MAX};
use broker::config::Side;
use broker::view::{BrokerView, ProxyView};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The figures of a proxy in one step: five rates per second, and the queued messages at its end.
/// Their order is that of [`FIGURES`].
type Figures = [f32; FIGURES.len()];

/// The keys of the figures of a proxy.
pub(crate) const FIGURES: [&str; 6] = [
    "from_frontend",
    "to_backend",
    "from_backend",
    "to_frontend",
    "dropped",
    "queued",
];

const DROPPED: usize = 4;

/// A step of which nothing is known: the broker was too busy to answer.
const UNKNOWN: f32 = f32::NAN;

/// The history of a broker: samples at equal distances, the oldest first.
#[derive(Debug)]
pub(crate) struct History {
    /// The share of time that the loop worked, and bytes of memory in use.
    broker: VecDeque<[f32; 2]>,
    /// The time that the loop had worked at the last sample.
    busy: Duration,
    proxies: Vec<Series>,
    step: Duration,
    /// The number of steps until the last sample, and its time.
    tick: u64,
    at: Option<Instant>,
}

#[derive(Debug)]
struct Series {
    /// The counters at the last sample.
    counters: [u64; FIGURES.len()],
    name: String,
    samples: VecDeque<Figures>,
}

impl History {
    pub(crate) fn new(step: Duration) -> Self {
        Self {
            at: None,
            broker: VecDeque::new(),
            busy: Duration::ZERO,
            proxies: Vec::new(),
            step,
            tick: 0,
        }
    }

    /// Adds a sample taken at this time.
    pub(crate) fn add(&mut self, now: Instant, broker: &BrokerView, proxies: &[ProxyView]) {
        let busy = broker.turn_times.total;
        let before = self.at.replace(now);
        let elapsed = before.map(|before| now.saturating_duration_since(before).as_secs_f64());
        let elapsed = elapsed.filter(|elapsed| *elapsed > 0.0);
        // The distance is one step, unless the broker did not answer for some.
        let steps = before.map_or(0, |before| {
            let elapsed = now.saturating_duration_since(before) + self.step / 2;
            elapsed.as_nanos() / self.step.as_nanos().max(1)
        });
        let missed = usize::try_from(steps).unwrap_or(usize::MAX);
        let missed = missed.saturating_sub(1).min(HISTORY_LEN);
        self.tick += missed as u64 + u64::from(elapsed.is_some());
        self.proxies
            .retain(|series| proxies.iter().any(|proxy| proxy.name == series.name));
        if let Some(elapsed) = elapsed {
            let load = busy.saturating_sub(self.busy).as_secs_f64() / elapsed;
            let memory = broker.memory.total() as f32;
            push(
                &mut self.broker,
                missed,
                [UNKNOWN; 2],
                [small(load.min(1.0)), memory],
            );
        }
        self.busy = busy;
        for proxy in proxies {
            let counters = counters(proxy);
            let mut known = self.proxies.iter_mut();
            if let Some(series) = known.find(|series| series.name == proxy.name) {
                series.add(counters, missed, elapsed);
            } else if self.proxies.len() < HISTORY_PROXIES_MAX {
                self.proxies.push(Series {
                    counters,
                    name: proxy.name.clone(),
                    samples: VecDeque::new(),
                });
            }
        }
    }

    /// Whether a proxy dropped messages in the last step.
    pub(crate) fn is_dropping(&self, proxy: &str) -> bool {
        let last = self.series(proxy).and_then(|series| series.samples.back());
        last.is_some_and(|figures| figures[DROPPED] > 0.0)
    }

    fn series(&self, proxy: &str) -> Option<&Series> {
        self.proxies.iter().find(|series| series.name == proxy)
    }

    /// The samples of the broker after this tick.
    pub(crate) fn of_broker(&self, since: u64) -> Value {
        let column = |column: usize| {
            let samples = latest(&self.broker, self.tick, since);
            samples.map(|figures| number(figures[column])).collect()
        };
        let (load, memory): (Vec<Value>, Vec<Value>) = (column(0), column(1));
        json!({
            "load": load,
            "memory_in_use": memory,
            "step_seconds": self.step.as_secs_f64(),
            "tick": self.tick,
        })
    }

    /// The samples of a proxy after this tick; empty if there are none.
    pub(crate) fn of_proxy(&self, proxy: &str, since: u64) -> Value {
        let mut value = json!({
            "step_seconds": self.step.as_secs_f64(),
            "tick": self.tick,
        });
        let none = VecDeque::new();
        let samples = self.series(proxy).map_or(&none, |series| &series.samples);
        for (column, key) in FIGURES.iter().enumerate() {
            let samples = latest(samples, self.tick, since);
            let samples: Vec<Value> = samples.map(|figures| number(figures[column])).collect();
            value[key] = samples.into();
        }
        value
    }
}

impl Series {
    fn add(&mut self, counters: [u64; FIGURES.len()], missed: usize, elapsed: Option<f64>) {
        let before = std::mem::replace(&mut self.counters, counters);
        let Some(elapsed) = elapsed else {
            return;
        };
        let mut figures = [0.0; FIGURES.len()];
        for ((figure, now), before) in figures.iter_mut().zip(counters).zip(before) {
            // Another proxy of the same name begins at zero.
            *figure = small(now.checked_sub(before).unwrap_or(now) as f64 / elapsed);
        }
        figures[FIGURES.len() - 1] = counters[FIGURES.len() - 1] as f32;
        push(&mut self.samples, missed, [UNKNOWN; FIGURES.len()], figures);
    }
}

fn push<T: Copy>(samples: &mut VecDeque<T>, missed: usize, unknown: T, sample: T) {
    samples.extend(std::iter::repeat_n(unknown, missed));
    samples.push_back(sample);
    let surplus = samples.len().saturating_sub(HISTORY_LEN);
    samples.drain(..surplus);
}

fn latest<T>(samples: &VecDeque<T>, tick: u64, since: u64) -> impl Iterator<Item = &T> {
    let wanted = usize::try_from(tick.saturating_sub(since)).unwrap_or(usize::MAX);
    let skipped = samples.len().saturating_sub(wanted);
    samples.iter().skip(skipped)
}

fn counters(proxy: &ProxyView) -> [u64; FIGURES.len()] {
    let mut counters = [0; FIGURES.len()];
    for view in &proxy.sockets {
        let stats = &view.counters;
        match view.socket.side() {
            Some(Side::Frontend) => {
                counters[0] += stats.messages_in;
                counters[3] += stats.messages_out;
            }
            Some(Side::Backend) => {
                counters[1] += stats.messages_out;
                counters[2] += stats.messages_in;
            }
            None => continue,
        }
        counters[DROPPED] += stats.drops.iter().sum::<u64>();
        counters[5] += view.queued_messages;
    }
    counters
}

/// Half the memory, for seven digits.
#[expect(clippy::cast_possible_truncation, reason = "a graph has three digits")]
fn small(figure: f64) -> f32 {
    figure as f32
}

#[expect(clippy::cast_possible_truncation, reason = "rates are far below 2^63")]
fn whole(figure: f64) -> Value {
    json!(figure.round() as u64)
}

/// Three digits are enough for a graph.
fn number(figure: f32) -> Value {
    let figure = f64::from(figure);
    if !figure.is_finite() {
        Value::Null
    } else if figure.fract() == 0.0 || figure >= 100.0 {
        whole(figure)
    } else {
        json!((figure * 1000.0).round() / 1000.0)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a base for times")]
mod tests {
    use super::*;
    use crate::tests::{broker_view, proxy_view};

    const STEP: Duration = Duration::from_secs(5);

    #[test]
    fn rates_are_those_of_each_step() {
        let (start, mut history) = (Instant::now(), History::new(STEP));
        let broker = broker_view();
        for step in 0..4_u32 {
            let mut proxy = proxy_view("a");
            proxy.sockets[0].counters.messages_in = u64::from(step * step) * 10;
            proxy.sockets[1].counters.drops[0] = u64::from(step) * 5;
            proxy.sockets[1].queued_messages = 7;
            history.add(start + STEP * step, &broker, &[proxy]);
        }
        let all = history.of_proxy("a", 0);
        assert_eq!(all["from_frontend"], json!([2, 6, 10]));
        assert_eq!(all["dropped"], json!([1, 1, 1]));
        assert_eq!(all["queued"], json!([7, 7, 7]));
        assert_eq!(all["tick"], 3);
        assert_eq!(history.of_proxy("a", 2)["from_frontend"], json!([10]));
        assert_eq!(history.of_proxy("a", 9)["from_frontend"], json!([]));
        assert_eq!(history.of_proxy("b", 0)["from_frontend"], json!([]));
        assert!(history.is_dropping("a") && !history.is_dropping("b"));
        assert_eq!(history.of_broker(2)["load"], json!([0]));
    }

    #[test]
    fn missed_steps_are_unknown_and_an_hour_is_kept() {
        let (start, mut history) = (Instant::now(), History::new(STEP));
        let broker = broker_view();
        let mut at = start;
        history.add(at, &broker, &[proxy_view("a")]);
        at += STEP * 3;
        history.add(at, &broker, &[proxy_view("a")]);
        assert_eq!(history.of_proxy("a", 0)["queued"], json!([null, null, 0]));
        for _ in 0..HISTORY_LEN + 3 {
            at += STEP;
            history.add(at, &broker, &[proxy_view("a")]);
        }
        let kept = history.of_proxy("a", 0);
        assert_eq!(kept["queued"].as_array().map(Vec::len), Some(HISTORY_LEN));
        history.add(at + STEP * 10_000, &broker, &[proxy_view("a")]);
        let kept = history.of_proxy("a", 0);
        assert_eq!(kept["queued"].as_array().map(Vec::len), Some(HISTORY_LEN));
        assert_eq!(kept["queued"][0], Value::Null);
    }

    #[test]
    fn a_proxy_that_begins_again_has_no_negative_rate() {
        let (start, mut history) = (Instant::now(), History::new(STEP));
        for (step, count) in [(0, 100), (1, 20)] {
            let mut proxy = proxy_view("a");
            proxy.sockets[0].counters.messages_in = count;
            history.add(start + STEP * step, &broker_view(), &[proxy]);
        }
        assert_eq!(history.of_proxy("a", 0)["from_frontend"], json!([4]));
        history.add(start + STEP * 2, &broker_view(), &[]);
        assert!(history.proxies.is_empty(), "a removed proxy is forgotten");
        let many: Vec<ProxyView> = (0..100).map(|it| proxy_view(&it.to_string())).collect();
        history.add(start + STEP * 3, &broker_view(), &many);
        assert_eq!(history.proxies.len(), HISTORY_PROXIES_MAX);
    }
}
