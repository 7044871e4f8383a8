//! Rates and round-trip times.

use broker::sort;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use broker::record::{Direction, Message};

use crate::capture::show::{self, Form, Style, append_json_identity};
use crate::capture::{size_of, split, time};

/// The length of an interval.
pub(super) const INTERVAL_NS: u64 = 1_000_000_000;

/// Identities counted separately in an interval; further ones count only in the sums.
const IDENTITIES_MAX: usize = 10_000;

/// Identities shown of an interval: those with the most messages.
const SHOWN_MAX: usize = 10;

/// Requests without a reply that are remembered, for all identities together.
const WAITING_MAX: usize = 100_000;

/// The age at which a request is forgotten when that many are remembered.
const WAITING_NS_MAX: u64 = 60_000_000_000;

/// Counts messages by intervals of their own times, so that a recording gives the same result as
/// the live capture.
#[derive(Debug, Default)]
pub(super) struct Stats {
    interval: Tally,
    /// The beginning of the current interval; `None` before the first message or tick.
    started_ns: Option<u64>,
    total: Tally,
    /// The beginning of the count.
    total_started_ns: u64,
    waiting: Waiting,
}

/// Counts of some span of time.
#[derive(Debug, Default)]
struct Tally {
    all: Traffic,
    identities: BTreeMap<Vec<u8>, Traffic>,
}

/// Counts of both directions.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    incoming: Amount,
    outgoing: Amount,
    round_trips: RoundTrips,
    /// Messages without a direction.
    undirected: Amount,
}

#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    bytes: u64,
    messages: u64,
}

/// Times from a request to its reply.
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrips {
    count: u64,
    max_ns: u64,
    sum_ns: u64,
}

/// Times of requests without a reply, the oldest first, by source and identity.
#[derive(Debug, Default)]
struct Waiting {
    count: usize,
    /// The last search for old requests.
    forgotten_ns: u64,
    since_ns: BTreeMap<(String, Vec<u8>), VecDeque<u64>>,
}

impl Stats {
    /// Counts a message. Messages of one source must be in the order of their times.
    pub(super) fn count(&mut self, message: &Message<'_>) {
        let amount = Amount {
            bytes: size_of(message),
            messages: 1,
        };
        let (identity, _) = split(message);
        let mut traffic = Traffic::default();
        match message.origin.direction {
            None => traffic.undirected = amount,
            Some(Direction::In) => traffic.incoming = amount,
            Some(Direction::Out) => traffic.outgoing = amount,
        }
        if let Some(identity) = identity {
            let round_trip_ns = self.waiting.pair(message, identity);
            traffic.round_trips = round_trip_ns.map_or_else(RoundTrips::default, RoundTrips::of);
        }
        for tally in [&mut self.interval, &mut self.total] {
            tally.add(identity, &traffic);
        }
    }

    /// Ends the intervals before `now_ns` and appends their figures. With `is_live` also those of
    /// empty intervals, of which a recording may have any number.
    pub(super) fn advance(&mut self, now_ns: u64, is_live: bool, style: &Style, out: &mut String) {
        let Some(mut started_ns) = self.started_ns else {
            self.started_ns = Some(now_ns);
            self.total_started_ns = now_ns;
            return;
        };
        while now_ns.saturating_sub(started_ns) >= INTERVAL_NS {
            let interval = std::mem::take(&mut self.interval);
            if is_live || interval.all.messages() > 0 {
                let span = (started_ns, INTERVAL_NS);
                interval.append(span, "second", style, out);
                started_ns += INTERVAL_NS;
            } else {
                // Skips to the interval of the next message.
                started_ns = now_ns - (now_ns - started_ns) % INTERVAL_NS;
            }
        }
        self.started_ns = Some(started_ns);
    }

    /// The end of the current interval.
    pub(super) fn deadline_ns(&self) -> Option<u64> {
        self.started_ns.map(|started_ns| started_ns + INTERVAL_NS)
    }

    /// Appends the figures of the unfinished interval, and the sums.
    pub(super) fn append_total(&self, now_ns: u64, style: &Style, out: &mut String) {
        if let Some(started_ns) = self.started_ns
            && self.interval.all.messages() > 0
        {
            let length_ns = now_ns.saturating_sub(started_ns).max(1);
            let span = (started_ns, length_ns);
            self.interval.append(span, "rest", style, out);
        }
        let length_ns = now_ns.saturating_sub(self.total_started_ns).max(1);
        let span = (self.total_started_ns, length_ns);
        self.total.append(span, "total", style, out);
    }
}

impl Waiting {
    /// Notes a request, or takes the oldest request that a reply may answer and returns its age.
    fn pair(&mut self, message: &Message<'_>, identity: &[u8]) -> Option<u64> {
        let key = (message.origin.source.to_owned(), identity.to_vec());
        let now_ns = message.time_ns;
        match message.origin.direction? {
            Direction::In => {
                if self.count >= WAITING_MAX {
                    self.forget(now_ns);
                }
                if self.count < WAITING_MAX {
                    self.since_ns.entry(key).or_default().push_back(now_ns);
                    self.count += 1;
                }
                None
            }
            Direction::Out => {
                let since_ns = self.since_ns.get_mut(&key)?;
                let since = since_ns.pop_front()?;
                if since_ns.is_empty() {
                    self.since_ns.remove(&key);
                }
                self.count -= 1;
                Some(now_ns.saturating_sub(since))
            }
        }
    }
}

impl Waiting {
    /// Forgets the requests that are too old, once per interval.
    fn forget(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.forgotten_ns) < INTERVAL_NS {
            return;
        }
        self.forgotten_ns = now_ns;
        for since_ns in self.since_ns.values_mut() {
            since_ns.retain(|since_ns| now_ns.saturating_sub(*since_ns) <= WAITING_NS_MAX);
        }
        self.since_ns.retain(|_, since_ns| !since_ns.is_empty());
        self.count = self.since_ns.values().map(VecDeque::len).sum();
    }
}

impl Tally {
    fn add(&mut self, identity: Option<&[u8]>, traffic: &Traffic) {
        self.all.add(traffic);
        let Some(identity) = identity else {
            return;
        };
        if let Some(own) = self.identities.get_mut(identity) {
            own.add(traffic);
        } else if self.identities.len() < IDENTITIES_MAX {
            self.identities.insert(identity.to_vec(), *traffic);
        }
    }

    /// Appends the figures of a span of time, given by its beginning and length.
    fn append(&self, span: (u64, u64), what: &str, style: &Style, out: &mut String) {
        let mut busiest: Vec<(&Vec<u8>, &Traffic)> = self.identities.iter().collect();
        sort::by_key(&mut busiest, |(_, traffic)| {
            std::cmp::Reverse(traffic.messages())
        });
        let more = busiest.len().saturating_sub(SHOWN_MAX);
        busiest.truncate(SHOWN_MAX);
        if style.form == Form::Json {
            self.append_json(span, what, &busiest, out);
            return;
        }
        let (started_ns, length_ns) = span;
        style.paint(out, show::DIM, &time::utc(started_ns));
        let _ = write!(out, " {what:<6} ");
        self.all.append_text(length_ns, out);
        out.push('\n');
        for (identity, traffic) in busiest {
            let mut shown = String::new();
            style.append_frame(&mut shown, identity);
            out.push_str("    ");
            style.paint(out, show::YELLOW, &format!("{shown:<20}"));
            out.push(' ');
            traffic.append_text(length_ns, out);
            out.push('\n');
        }
        if more > 0 {
            let _ = writeln!(out, "    and {more} more");
        }
    }

    fn append_json(
        &self,
        (started_ns, length_ns): (u64, u64),
        what: &str,
        busiest: &[(&Vec<u8>, &Traffic)],
        out: &mut String,
    ) {
        let (time, seconds) = (time::utc(started_ns), seconds(length_ns));
        let _ = write!(
            out,
            "{{\"time\":\"{time}\",\"of\":\"{what}\",\"seconds\":{seconds:.3}"
        );
        self.all.append_json(out);
        let count = self.identities.len();
        let _ = write!(out, ",\"identity_count\":{count},\"identities\":[");
        for (index, (identity, traffic)) in busiest.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push('{');
            append_json_identity(out, identity);
            traffic.append_json(out);
            out.push('}');
        }
        out.push_str("]}\n");
    }
}

impl Traffic {
    fn add(&mut self, other: &Self) {
        self.incoming.add(other.incoming);
        self.outgoing.add(other.outgoing);
        self.undirected.add(other.undirected);
        self.round_trips.add(other.round_trips);
    }

    fn messages(&self) -> u64 {
        self.incoming.messages + self.outgoing.messages + self.undirected.messages
    }

    fn append_text(&self, length_ns: u64, out: &mut String) {
        let rate = |amount: u64| amount as f64 / seconds(length_ns);
        let mut append = |name: &str, amount: Amount| {
            let (messages, bytes) = (rate(amount.messages), shown_bytes(rate(amount.bytes)));
            let _ = write!(out, "{name} {messages:.0}/s {bytes}/s  ");
        };
        if self.undirected.messages == 0 || self.messages() > self.undirected.messages {
            append("in", self.incoming);
            append("out", self.outgoing);
        }
        if self.undirected.messages > 0 {
            append("passed", self.undirected);
        }
        let RoundTrips {
            count,
            max_ns,
            sum_ns,
        } = self.round_trips;
        match sum_ns.checked_div(count) {
            None => out.truncate(out.trim_end().len()),
            Some(mean_ns) => {
                let [mean, max] = [mean_ns, max_ns].map(Duration::from_nanos).map(time::short);
                let _ = write!(out, "round trip {mean}, at most {max}");
            }
        }
    }

    fn append_json(&self, out: &mut String) {
        for (name, amount) in [
            ("in", self.incoming),
            ("out", self.outgoing),
            ("passed", self.undirected),
        ] {
            let Amount { bytes, messages } = amount;
            let _ = write!(
                out,
                ",\"{name}\":{{\"messages\":{messages},\"bytes\":{bytes}}}"
            );
        }
        let RoundTrips {
            count,
            max_ns,
            sum_ns,
        } = self.round_trips;
        if let Some(mean_ns) = sum_ns.checked_div(count) {
            let _ = write!(
                out,
                ",\"round_trips\":{{\"count\":{count},\"mean_ns\":{mean_ns},\"max_ns\":{max_ns}}}"
            );
        }
    }
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.messages += other.messages;
    }
}

impl RoundTrips {
    fn of(round_trip_ns: u64) -> Self {
        Self {
            count: 1,
            max_ns: round_trip_ns,
            sum_ns: round_trip_ns,
        }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

fn seconds(length_ns: u64) -> f64 {
    Duration::from_nanos(length_ns).as_secs_f64()
}

/// Bytes in a suitable unit.
fn shown_bytes(bytes: f64) -> String {
    match bytes {
        0.0..1e3 => format!("{bytes:.0} B"),
        1e3..1e6 => format!("{:.1} kB", bytes / 1e3),
        1e6..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.1} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::record::Origin;
    use zmtp::encode::append_message;

    const SECOND: u64 = INTERVAL_NS;

    const PLAIN: Style = Style {
        cut: 0,
        has_colour: false,
        has_source: false,
        form: Form::Line,
    };

    const JSON: Style = Style {
        form: Form::Json,
        ..PLAIN
    };

    fn count(stats: &mut Stats, time_ns: u64, direction: Option<Direction>, identity: &str) {
        let mut frames = Vec::new();
        append_message(&mut frames, &[identity, "", "ten bytes."]);
        stats.count(&Message {
            frames: &frames,
            origin: Origin {
                connection: 0,
                direction,
                is_routed: !identity.is_empty(),
                peer: None,
                socket_type: None,
                source: "queue",
                user: None,
            },
            time_ns,
        });
    }

    #[test]
    fn rates_and_round_trips_by_direction_and_identity() {
        let (mut stats, mut out) = (Stats::default(), String::new());
        stats.advance(5 * SECOND, true, &PLAIN, &mut out);
        assert_eq!(stats.deadline_ns(), Some(6 * SECOND));
        let (incoming, outgoing) = (Some(Direction::In), Some(Direction::Out));
        for (ms, direction, identity) in [
            (0, incoming, "a"),
            (1, incoming, "b"),
            (2, outgoing, "a"),
            (3, incoming, "a"),
            (4, incoming, "a"),
            (7, outgoing, "a"),
            (9, outgoing, "a"),
            (10, outgoing, "unasked"),
            (11, None, ""),
        ] {
            count(&mut stats, 5 * SECOND + ms * 1_000_000, direction, identity);
        }
        stats.advance(6 * SECOND - 1, true, &PLAIN, &mut out);
        assert_eq!(out, "");
        stats.advance(7 * SECOND, true, &PLAIN, &mut out);
        stats.append_total(7 * SECOND, &PLAIN, &mut out);
        assert_eq!(
            out,
            "1970-01-01T00:00:05.000000Z second in 4/s 44 B/s  out 4/s 50 B/s  \
             passed 1/s 10 B/s  round trip 3.67 ms, at most 5.00 ms\n    \
             a                    in 3/s 33 B/s  out 3/s 33 B/s  \
             round trip 3.67 ms, at most 5.00 ms\n    \
             b                    in 1/s 11 B/s  out 0/s 0 B/s\n    \
             unasked              in 0/s 0 B/s  out 1/s 17 B/s\n\
             1970-01-01T00:00:06.000000Z second in 0/s 0 B/s  out 0/s 0 B/s\n\
             1970-01-01T00:00:05.000000Z total  in 2/s 22 B/s  out 2/s 25 B/s  \
             passed 0/s 5 B/s  round trip 3.67 ms, at most 5.00 ms\n    \
             a                    in 2/s 16 B/s  out 2/s 16 B/s  \
             round trip 3.67 ms, at most 5.00 ms\n    \
             b                    in 0/s 6 B/s  out 0/s 0 B/s\n    \
             unasked              in 0/s 0 B/s  out 0/s 8 B/s\n"
        );
    }

    #[test]
    fn a_gap_in_a_recording_is_one_step() {
        let (mut stats, mut out) = (Stats::default(), String::new());
        for time_ns in [SECOND / 2, 90_000 * SECOND, 90_000 * SECOND + 1] {
            stats.advance(time_ns, false, &JSON, &mut out);
            count(&mut stats, time_ns, None, "");
        }
        stats.advance(90_002 * SECOND, false, &JSON, &mut out);
        assert_eq!(
            out,
            "{\"time\":\"1970-01-01T00:00:00.500000Z\",\"of\":\"second\",\"seconds\":1.000,\
             \"in\":{\"messages\":0,\"bytes\":0},\"out\":{\"messages\":0,\"bytes\":0},\
             \"passed\":{\"messages\":1,\"bytes\":10},\"identity_count\":0,\"identities\":[]}\n\
             {\"time\":\"1970-01-02T00:59:59.500000Z\",\"of\":\"second\",\"seconds\":1.000,\
             \"in\":{\"messages\":0,\"bytes\":0},\"out\":{\"messages\":0,\"bytes\":0},\
             \"passed\":{\"messages\":2,\"bytes\":20},\"identity_count\":0,\"identities\":[]}\n"
        );
    }

    #[test]
    fn only_the_busiest_are_shown_and_memory_is_bounded() {
        let (mut stats, mut out) = (Stats::default(), String::new());
        stats.advance(0, true, &PLAIN, &mut out);
        for number in 0..IDENTITIES_MAX + 5 {
            count(&mut stats, 0, Some(Direction::In), &format!("{number}"));
        }
        count(&mut stats, 0, Some(Direction::In), "77");
        stats.advance(SECOND, true, &PLAIN, &mut out);
        assert_eq!(out.lines().count(), 2 + SHOWN_MAX);
        out.clear();
        stats.append_total(SECOND, &PLAIN, &mut out);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2 + SHOWN_MAX);
        assert!(lines[0].contains(" in 10006/s "), "{}", lines[0]);
        assert!(lines[1].starts_with("    77 "), "{}", lines[1]);
        assert_eq!(lines[11], "    and 9990 more");
        for _ in 0..2 * WAITING_MAX {
            count(&mut stats, 0, Some(Direction::In), "a");
        }
        assert_eq!(stats.waiting.count, WAITING_MAX);
        // Old requests make room when another request arrives.
        count(&mut stats, WAITING_NS_MAX + 1, Some(Direction::In), "a");
        assert_eq!(stats.waiting.count, 1);
    }
}
