//! `/metrics`: the text format of Prometheus, version 0.0.4.
//!
//! Labels are the names of proxies and sockets, and reasons from fixed lists: peers, topics and
//! users cannot make a new time series. Counters of all reasons are there from the start, at 0.

use crate::process::Process;
use crate::response::Response;
use broker::reason::{CloseReason, DropReason, PROTOCOL_LABELS};
use broker::sort;
use broker::stats::TurnTimes;
use broker::view::{BrokerView, ProxyView, SocketView, StopState, WatchView};
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the broker and the system say at one moment.
pub(crate) struct Snapshot {
    pub(crate) broker: BrokerView,
    /// Seconds since 1970.
    now: f64,
    process: Process,
    pub(crate) proxies: Vec<ProxyView>,
    watches: Vec<WatchView>,
}

impl Snapshot {
    pub(crate) fn new(
        broker: BrokerView,
        proxies: Vec<ProxyView>,
        mut watches: Vec<WatchView>,
    ) -> Self {
        // A series may occur once.
        sort::by(&mut watches, &mut |one, other| one.name.cmp(&other.name));
        watches.dedup_by(|one, other| one.name == other.name);
        Self {
            broker,
            now: seconds_of_the_day(),
            process: Process::now(),
            proxies,
            watches,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "Prometheus counts seconds since 1970"
)]
fn seconds_of_the_day() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0.0, |now| now.as_secs_f64())
}

/// A group of time series with one name.
pub(crate) struct Family {
    help: &'static str,
    kind: &'static str,
    pub(crate) name: &'static str,
    source: Source,
}

/// Where the samples of a family are from.
enum Source {
    Broker(fn(&Snapshot, &mut Samples<'_>)),
    Proxy(fn(&ProxyView, &mut Samples<'_>)),
    Socket(fn(&SocketView, &mut Samples<'_>)),
}

/// Writes the samples of one family.
struct Samples<'a> {
    /// The labels that all of them have.
    labels: String,
    name: &'static str,
    text: &'a mut String,
}

impl Samples<'_> {
    fn put(&mut self, value: impl Display) {
        self.put_as("", "", value);
    }

    fn put_if(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(value);
        }
    }

    /// A sample with further labels.
    fn put_for(&mut self, labels: &str, value: impl Display) {
        self.put_as("", labels, value);
    }

    fn put_as(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let Self {
            name,
            labels: own,
            text,
        } = self;
        // Writing to a string does not fail.
        let _ = match (own.as_str(), labels) {
            ("", "") => writeln!(text, "{name}{suffix} {value}"),
            (one, "") | ("", one) => writeln!(text, "{name}{suffix}{{{one}}} {value}"),
            (one, other) => writeln!(text, "{name}{suffix}{{{one},{other}}} {value}"),
        };
    }
}

/// The states of a watch.
const WATCH_STATES: [&str; 7] = ["new", "up", "late", "down", "acting", "paused", "failed"];

/// Every family.
pub(crate) const FAMILIES: &[Family] = &[
    family(
        "zmqd_build_info",
        "gauge",
        "The version, as a label.",
        Source::Broker(|it, out| {
            out.put_for(&format!("version=\"{}\"", escape(it.broker.version)), 1);
        }),
    ),
    family(
        "zmqd_uptime_seconds",
        "gauge",
        "Time since the broker began.",
        Source::Broker(|it, out| {
            out.put(it.broker.uptime.as_secs_f64());
        }),
    ),
    family(
        "zmqd_watch_state",
        "gauge",
        "The state of each service that zmqd watch reports: 1 for one of the states.",
        Source::Broker(|it, out| {
            for watch in &it.watches {
                for state in WATCH_STATES {
                    let labels = format!("watch=\"{}\",state=\"{state}\"", escape(&watch.name));
                    out.put_for(&labels, u8::from(watch.state == state));
                }
            }
        }),
    ),
    family(
        "zmqd_watch_actions_total",
        "counter",
        "Actions of zmqd watch for each service.",
        Source::Broker(|it, out| {
            for watch in &it.watches {
                out.put_for(&format!("watch=\"{}\"", escape(&watch.name)), watch.actions);
            }
        }),
    ),
    family(
        "zmqd_stopping",
        "gauge",
        "1 while the broker stops.",
        Source::Broker(|it, out| {
            out.put(u8::from(it.broker.stop != StopState::Running));
        }),
    ),
    family(
        "zmqd_config_last_reload_successful",
        "gauge",
        "1 if the configuration is as it was last read, 0 if that reading was rejected.",
        Source::Broker(|it, out| {
            let reload = it.broker.reload.as_ref();
            out.put(u8::from(reload.is_none_or(|reload| reload.outcome.is_ok())));
        }),
    ),
    family(
        "zmqd_config_last_reload_timestamp_seconds",
        "gauge",
        "The time at which the configuration was last read.",
        Source::Broker(|it, out| {
            let ago = it
                .broker
                .reload
                .as_ref()
                .map_or(it.broker.uptime, |it| it.ago);
            out.put(it.now - ago.as_secs_f64());
        }),
    ),
    family(
        "zmqd_memory_in_use_bytes",
        "gauge",
        "Memory in use by what peers have caused, by purpose.",
        Source::Broker(|it, out| {
            let memory = it.broker.memory;
            for (purpose, bytes) in [
                ("closed", memory.closed),
                ("connections", memory.connections),
                ("inputs", memory.inputs),
                ("kept", memory.kept),
                ("queues", memory.queues),
                ("subscriptions", memory.subscriptions),
            ] {
                out.put_for(&format!("purpose=\"{purpose}\""), bytes);
            }
        }),
    ),
    family(
        "zmqd_memory_limit_bytes",
        "gauge",
        "Memory that peers may cause; 0: unlimited.",
        Source::Broker(|it, out| out.put(it.broker.memory_limit)),
    ),
    family(
        "zmqd_loop_turn_seconds",
        "histogram",
        "Durations of the turns of the event loop, without waiting.",
        Source::Broker(|it, out| put_turns(&it.broker.turn_times, out)),
    ),
    family(
        "zmqd_loop_turns_cut_short_total",
        "counter",
        "Turns that used up their budget and left work to the next.",
        Source::Broker(|it, out| out.put(it.broker.turn_times.cut_short)),
    ),
    family(
        "zmqd_proxy_paused",
        "gauge",
        "1 while the proxy is paused.",
        Source::Proxy(|it, out| {
            out.put(u8::from(it.is_paused));
        }),
    ),
    family(
        "zmqd_cache_values",
        "gauge",
        "Topics that have a last value.",
        Source::Proxy(|it, out| out.put_if(it.cache.map(|it| it.values))),
    ),
    family(
        "zmqd_cache_bytes",
        "gauge",
        "Memory of last values.",
        Source::Proxy(|it, out| out.put_if(it.cache.map(|it| it.bytes))),
    ),
    family(
        "zmqd_replay_messages",
        "gauge",
        "Messages that can be sent again.",
        Source::Proxy(|it, out| out.put_if(it.replay.map(|it| it.messages))),
    ),
    family(
        "zmqd_replay_bytes",
        "gauge",
        "Memory of messages that can be sent again.",
        Source::Proxy(|it, out| out.put_if(it.replay.map(|it| it.bytes))),
    ),
    family(
        "zmqd_recorded_messages_total",
        "counter",
        "Messages written to the recording.",
        Source::Proxy(|it, out| out.put_if(it.record.as_ref().map(|it| it.messages))),
    ),
    family(
        "zmqd_recorded_bytes_total",
        "counter",
        "Bytes written to the recording.",
        Source::Proxy(|it, out| out.put_if(it.record.as_ref().map(|it| it.bytes))),
    ),
    family(
        "zmqd_recording_lost_messages_total",
        "counter",
        "Messages that the recording missed.",
        Source::Proxy(|it, out| out.put_if(it.record.as_ref().map(|it| it.lost_messages))),
    ),
    family(
        "zmqd_recording_failing",
        "gauge",
        "1 while the recording cannot be written.",
        Source::Proxy(|it, out| {
            out.put_if(it.record.as_ref().map(|it| u8::from(it.is_failing)));
        }),
    ),
    family(
        "zmqd_connections",
        "gauge",
        "Peers after their handshake.",
        Source::Socket(|it, out| {
            out.put(it.peers);
        }),
    ),
    family(
        "zmqd_connections_opened_total",
        "counter",
        "Connections that finished their handshake.",
        Source::Socket(|it, out| out.put(it.counters.peers_attached)),
    ),
    family(
        "zmqd_connections_closed_total",
        "counter",
        "Connections that ended, by reason; also those that failed in their handshake.",
        Source::Socket(|it, out| {
            let labels = CloseReason::LABELS.iter().chain(&PROTOCOL_LABELS);
            for label in labels {
                out.put_for(
                    &format!("reason=\"{label}\""),
                    it.counters.closed_for(label),
                );
            }
        }),
    ),
    family(
        "zmqd_messages_received_total",
        "counter",
        "Messages accepted from peers.",
        Source::Socket(|it, out| out.put(it.counters.messages_in)),
    ),
    family(
        "zmqd_received_bytes_total",
        "counter",
        "Bytes of the messages accepted from peers.",
        Source::Socket(|it, out| out.put(it.counters.bytes_in)),
    ),
    family(
        "zmqd_messages_sent_total",
        "counter",
        "Messages queued for peers; a message for several counts for each.",
        Source::Socket(|it, out| out.put(it.counters.messages_out)),
    ),
    family(
        "zmqd_sent_bytes_total",
        "counter",
        "Bytes of the messages queued for peers.",
        Source::Socket(|it, out| out.put(it.counters.bytes_out)),
    ),
    family(
        "zmqd_messages_dropped_total",
        "counter",
        "Dropped messages, by reason.",
        Source::Socket(|it, out| {
            for reason in DropReason::ALL {
                let labels = format!("reason=\"{}\"", reason.label());
                out.put_for(&labels, it.counters.dropped(reason));
            }
        }),
    ),
    family(
        "zmqd_messages_requeued_total",
        "counter",
        "Messages taken back from peers that died before any byte of them was written.",
        Source::Socket(|it, out| out.put(it.counters.requeued)),
    ),
    family(
        "zmqd_queue_messages",
        "gauge",
        "Messages queued for the peers of the socket.",
        Source::Socket(|it, out| out.put(it.queued_messages)),
    ),
    family(
        "zmqd_queue_bytes",
        "gauge",
        "Bytes queued for the peers of the socket.",
        Source::Socket(|it, out| out.put(it.queued_bytes)),
    ),
    family(
        "zmqd_peers_suspended",
        "gauge",
        "Peers whose next message waits for a receiver.",
        Source::Socket(|it, out| out.put(it.waiting)),
    ),
    family(
        "zmqd_topics",
        "gauge",
        "Distinct topics that the peers of the socket subscribe to.",
        Source::Socket(|it, out| out.put(it.topics)),
    ),
    family(
        "process_cpu_seconds_total",
        "counter",
        "Time of the processor.",
        Source::Broker(|it, out| out.put_if(it.process.cpu_seconds)),
    ),
    family(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory.",
        Source::Broker(|it, out| out.put_if(it.process.resident_bytes)),
    ),
    family(
        "process_open_fds",
        "gauge",
        "Open file descriptors.",
        Source::Broker(|it, out| {
            out.put_if(it.process.descriptors);
        }),
    ),
    family(
        "process_max_fds",
        "gauge",
        "File descriptors that the process may open.",
        Source::Broker(|it, out| out.put_if(it.process.descriptors_max)),
    ),
    family(
        "process_start_time_seconds",
        "gauge",
        "The time at which the broker began, in seconds since 1970.",
        Source::Broker(|it, out| out.put(it.now - it.broker.uptime.as_secs_f64())),
    ),
];

const fn family(
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    source: Source,
) -> Family {
    Family {
        help,
        kind,
        name,
        source,
    }
}

/// The answer, rendered family by family and proxy by proxy while the client reads.
pub(crate) fn render(snapshot: Snapshot) -> Response {
    let snapshot = Arc::new(snapshot);
    let parts = FAMILIES.iter().flat_map(move |family| {
        let snapshot = Arc::clone(&snapshot);
        let count = match family.source {
            Source::Broker(_) => 1,
            Source::Proxy(_) | Source::Socket(_) => snapshot.proxies.len(),
        };
        (0..count).map(move |index| render_part(family, &snapshot, index))
    });
    Response::parts(CONTENT_TYPE, parts)
}

/// The samples of a family for the proxy with this index; in front of the first, its head.
fn render_part(family: &Family, snapshot: &Snapshot, index: usize) -> Vec<u8> {
    let Family {
        help, kind, name, ..
    } = family;
    let mut text = String::new();
    if index == 0 {
        text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }
    let mut samples = Samples {
        labels: String::new(),
        name,
        text: &mut text,
    };
    let proxy = snapshot.proxies.get(index);
    match (&family.source, proxy) {
        (Source::Broker(put), _) => put(snapshot, &mut samples),
        (Source::Proxy(put), Some(proxy)) => {
            samples.labels = format!("proxy=\"{}\"", escape(&proxy.name));
            put(proxy, &mut samples);
        }
        (Source::Socket(put), Some(proxy)) => {
            for socket in &proxy.sockets {
                let (name, side) = (escape(&proxy.name), socket.socket);
                samples.labels = format!("proxy=\"{name}\",side=\"{side}\"");
                put(socket, &mut samples);
            }
        }
        (_, None) => {}
    }
    text.into_bytes()
}

fn put_turns(times: &TurnTimes, out: &mut Samples<'_>) {
    let mut count = 0;
    for (index, in_bucket) in times.buckets.iter().enumerate() {
        count += in_bucket;
        let bound = TurnTimes::bound(index).map(|bound| bound.as_secs_f64());
        let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
        // Powers of four from 4 µs on: enough for percentiles, and half as many time series.
        if index % 2 == 0 && index > 0 || bound == "+Inf" {
            out.put_as("_bucket", &format!("le=\"{bound}\""), count);
        }
    }
    out.put_as("_sum", "", Duration::as_secs_f64(&times.total));
    out.put_as("_count", "", count);
}

/// The value of a label, as the format requires.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Body;
    use crate::tests::{broker_view, proxy_view};
    use std::collections::BTreeSet;

    /// Two reports of one watch, with a name that needs escapes.
    fn watches() -> Vec<WatchView> {
        let watch = WatchView {
            actions: 7,
            name: "a\"b".to_owned(),
            reason: String::new(),
            sign: "silent".to_owned(),
            state: "down".to_owned(),
        };
        vec![watch.clone(), watch]
    }

    #[test]
    fn a_watch_is_in_one_state() {
        let text = text(Vec::new());
        let states = text
            .lines()
            .filter(|line| line.starts_with("zmqd_watch_state{"));
        let ones: Vec<&str> = states.filter(|line| line.ends_with(" 1")).collect();
        assert_eq!(
            ones,
            ["zmqd_watch_state{watch=\"a\\\"b\",state=\"down\"} 1"]
        );
        assert!(text.contains("zmqd_watch_actions_total{watch=\"a\\\"b\"} 7\n"));
    }

    fn text(proxies: Vec<ProxyView>) -> String {
        let Body::Parts(parts) = render(Snapshot::new(broker_view(), proxies, watches())).body
        else {
            panic!("it comes in parts");
        };
        let mut text = Vec::new();
        parts.for_each(|part| {
            assert!(part.len() < 40_000, "a part of {} bytes", part.len());
            text.extend(part);
        });
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn every_line_is_a_comment_or_a_sample_of_the_family_above() {
        let text = text(vec![proxy_view("a"), proxy_view("b\"\\\nc")]);
        let mut family = "";
        let mut series = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                family = rest.split(' ').nth(1).expect("a name");
                continue;
            }
            assert!(line.starts_with(family), "{line} below {family}");
            let (name, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name.to_owned()), "{name} twice");
        }
        assert!(series.contains("zmqd_connections{proxy=\"b\\\"\\\\\\nc\",side=\"backend\"}"));
        assert!(
            !text.contains("zmqd_recorded_messages_total{"),
            "nothing is recorded"
        );
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for Family {
            help, kind, name, ..
        } in FAMILIES
        {
            assert!(names.insert(name), "{name} twice");
            assert!(
                name.starts_with("zmqd_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.') && !help.contains('\n'), "{help}");
        }
    }

    /// Alerts and dashboards would be silent about a metric that does not exist.
    #[test]
    fn the_examples_name_metrics_that_exist() {
        let files = [
            include_str!("../../../examples/prometheus/zmqd.rules.yml"),
            include_str!("../../../examples/prometheus/zmqd.rules.test.yml"),
            include_str!("../../../examples/grafana/zmqd.json"),
            include_str!("../../../docs/guide/http.md"),
        ];
        for file in files {
            let words = file.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            let named = words.filter(|word| word.starts_with("zmqd_") || is_process(word));
            let mut count = 0;
            for word in named {
                let base = ["_bucket", "_sum", "_count"].iter();
                let base = base.filter_map(|suffix| word.strip_suffix(suffix)).next();
                let base = base.filter(|base| *base == "zmqd_loop_turn_seconds");
                let name = base.unwrap_or(word);
                assert!(FAMILIES.iter().any(|family| family.name == name), "{word}");
                count += 1;
            }
            assert!(count >= 8, "{count} metrics");
        }
        let is_process_of = |family: &&Family| is_process(family.name);
        assert_eq!(FAMILIES.iter().filter(is_process_of).count(), 5);
        let guide = files[3];
        let missing = FAMILIES
            .iter()
            .find(|family| !guide.contains(&format!("`{}`", family.name)));
        assert_eq!(missing.map(|family| family.name), None, "not in the guide");
    }

    fn is_process(word: &str) -> bool {
        let endings = ["_seconds", "_total", "_bytes", "_fds"];
        word.starts_with("process_") && endings.iter().any(|ending| word.ends_with(ending))
    }

    #[test]
    fn counters_of_all_reasons_begin_at_zero() {
        let text = text(vec![proxy_view("a")]);
        let of = |family: &str| {
            let samples = text.lines().filter(|line| line.starts_with(family));
            let backend = samples.filter(|line| line.contains("side=\"backend\""));
            backend
                .inspect(|line| assert!(line.ends_with(" 0"), "{line}"))
                .count()
        };
        assert_eq!(of("zmqd_messages_dropped_total"), DropReason::ALL.len());
        let closes = CloseReason::LABELS.len() + PROTOCOL_LABELS.len();
        assert_eq!(of("zmqd_connections_closed_total"), closes);
    }
}
