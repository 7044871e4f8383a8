//! One page of `zmqd top`: lines that fit the terminal, whatever peers call themselves.

use broker::sort;
use std::cmp::Ordering;

use serde_json::Value;
use zmtp::show;

use super::{ROWS_MAX, Sample};
use crate::command::control::items;
use crate::command::ctl::table::{bytes, duration, size, text};
use crate::command::status::{Paint, describe_memory, in_words};

/// What the rows are, and their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Bytes,
    Drops,
    Messages,
    Topics,
    Waiting,
}

impl View {
    /// Each with its key and name.
    pub(super) const ALL: [(char, &str, Self); 5] = [
        ('p', "peers", Self::Messages),
        ('b', "bytes", Self::Bytes),
        ('w', "waiting", Self::Waiting),
        ('d', "drops", Self::Drops),
        ('t', "topics", Self::Topics),
    ];

    /// The view with this name.
    pub(super) fn of_name(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, own, _)| *own == name);
        let names = Self::ALL.map(|(_, name, _)| name).join(", ");
        found.map_or_else(
            || Err(format!("write one of {names}")),
            |(.., view)| Ok(*view),
        )
    }

    /// The figure by which the broker ranks its peers.
    pub(super) fn order(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Drops => "dropped",
            Self::Messages | Self::Topics => "messages",
            Self::Waiting => "queued_messages",
        }
    }

    pub(super) fn of_key(key: char) -> Option<Self> {
        let found = Self::ALL.iter().find(|(own, ..)| *own == key);
        found.map(|(.., view)| *view)
    }
}

/// The columns and lines of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) lines: usize,
}

impl Size {
    /// The usual terminal.
    pub(super) const USUAL: Self = Self {
        columns: 80,
        lines: 24,
    };
}

/// Columns of a page without a terminal.
const COLUMNS_PRINTED: usize = 120;

/// Characters shown of a text before it is cut to its column.
const TEXT_LEN_MAX: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Bold,
    Plain,
    Red,
}

/// The lines of a page.
#[derive(Debug)]
pub(super) struct Page {
    columns: usize,
    lines: Vec<(Look, String)>,
}

impl Page {
    /// A page that fits a terminal of this size; without one, it has all rows.
    pub(super) fn of(sample: &Sample, view: View, size: Option<Size>) -> Self {
        let mut page = Self {
            columns: size.map_or(COLUMNS_PRINTED, |size| size.columns),
            lines: Vec::new(),
        };
        page.push_head(sample);
        let height = size.map_or(usize::MAX, |size| size.lines);
        // Room for a blank line, titles, a row and the keys stays.
        page.lines.truncate(height.saturating_sub(4).max(1));
        page.push(Look::Plain, "");
        match view {
            View::Topics => page.push_topics(sample),
            View::Drops => {
                page.push_losses(sample);
                page.push_peers(sample, view);
            }
            View::Bytes | View::Messages | View::Waiting => page.push_peers(sample, view),
        }
        if size.is_some() {
            page.lines.truncate(height.saturating_sub(1));
            let keys = View::ALL.map(|(key, name, own)| {
                let mark = if own == view { "*" } else { "" };
                format!("{key} {name}{mark}")
            });
            page.push(Look::Bold, &format!("{}  q end", keys.join("  ")));
        }
        page
    }

    /// The page without colours.
    pub(super) fn text(&self) -> String {
        let lines = self.lines.iter();
        let lines: Vec<&str> = lines.map(|(_, line)| line.as_str()).collect();
        lines.join("\n") + "\n"
    }

    /// The lines as a terminal shows them.
    pub(super) fn painted(&self, paint: Paint) -> Vec<String> {
        let lines = self.lines.iter().map(|(look, line)| match look {
            Look::Bold => paint.bold(line),
            Look::Plain => line.clone(),
            Look::Red => paint.red(line),
        });
        lines.collect()
    }

    fn push(&mut self, look: Look, line: &str) {
        let line: String = line.chars().take(self.columns).collect();
        self.lines.push((look, line.trim_end().to_owned()));
    }

    /// The broker in a line, and a line for each proxy.
    fn push_head(&mut self, sample: &Sample) {
        let status = &sample.status;
        let title = format!(
            "zmqd {}  pid {}  up {}  memory {}  dropped {}  {}",
            cell(status, "version"),
            cell(status, "pid"),
            duration(status, "uptime_seconds"),
            describe_memory(status),
            short(number(status, "dropped_messages")),
            cell(status, "stop"),
        );
        self.push(Look::Bold, &title);
        for proxy in items(status, "proxies") {
            let (look, line) = line_of_proxy(proxy);
            self.push(look, &line);
        }
    }

    fn push_peers(&mut self, sample: &Sample, view: View) {
        let mut peers: Vec<(&str, &Value)> = Vec::new();
        for (proxy, answer) in &sample.peers {
            peers.extend(items(answer, "peers").iter().map(|peer| (&**proxy, peer)));
        }
        if view == View::Drops {
            peers.retain(|(_, peer)| weight(peer, view) > 0.0);
        }
        sort::by(&mut peers, &mut |(_, one), (_, other)| {
            descending(weight(one, view), weight(other, view))
        });
        // What a wider terminal has to spare goes to the two texts.
        let spare = self.columns.saturating_sub(Size::USUAL.columns) / 2;
        let (address_width, identity_width) = (17 + spare.min(26), 10 + spare);
        let by = match view {
            View::Bytes => "bytes",
            _ => "messages",
        };
        let row = |cells: [&str; 8]| {
            let [
                proxy,
                side,
                address,
                identity,
                received,
                sent,
                queued,
                dropped,
            ] = cells;
            format!(
                "{proxy:<8} {side:<8} {address:<address_width$} {identity:<identity_width$} \
                 {received:>7} {sent:>7} {queued:>8} {dropped:>8}"
            )
        };
        let titles = [
            "PROXY", "SIDE", "ADDRESS", "IDENTITY", "IN/S", "OUT/S", "QUEUED", "DROPPED",
        ];
        self.push(Look::Bold, &row(titles));
        for (proxy, peer) in peers {
            let rate = |way: &str| {
                let rate = peer[format!("{by}_{way}_per_second")].as_f64();
                rate.map_or_else(String::new, short)
            };
            let dropped = weight(peer, View::Drops);
            let identity = show(&bytes(peer, "identity"))
                .up_to(TEXT_LEN_MAX)
                .to_string();
            let line = row([
                &fit(&shown(proxy), 8),
                &fit(&cell(peer, "side"), 8),
                &fit(&cell(peer, "address"), address_width),
                &fit(&identity, identity_width),
                &rate("received"),
                &rate("sent"),
                &short(number(peer, "queued_messages")),
                &short(dropped),
            ]);
            let look = if dropped > 0.0 {
                Look::Red
            } else {
                Look::Plain
            };
            self.push(look, &line);
        }
        for (proxy, answer) in &sample.peers {
            self.push_rest((proxy, "peers"), items(answer, "peers").len(), answer);
        }
    }

    fn push_topics(&mut self, sample: &Sample) {
        let answers = sample.topics.as_deref().unwrap_or_default();
        let mut topics: Vec<(&str, &Value)> = Vec::new();
        for (proxy, answer) in answers {
            let own = items(answer, "subscriptions").iter();
            topics.extend(own.map(|topic| (&**proxy, topic)));
        }
        sort::by(&mut topics, &mut |(_, one), (_, other)| {
            descending(number(one, "peers"), number(other, "peers"))
        });
        let titles = format!("{:<12} {:>11}  TOPIC", "PROXY", "SUBSCRIBERS");
        self.push(Look::Bold, &titles);
        for (proxy, topic) in topics {
            let line = format!(
                "{:<12} {:>11}  {}",
                fit(&shown(proxy), 12),
                cell(topic, "peers"),
                show(&bytes(topic, "topic")).up_to(TEXT_LEN_MAX)
            );
            self.push(Look::Plain, &line);
        }
        for (proxy, answer) in answers {
            let rows = items(answer, "subscriptions").len();
            self.push_rest((proxy, "topics"), rows, answer);
        }
    }

    /// Says that a list is not complete.
    fn push_rest(&mut self, (proxy, what): (&str, &str), rows: usize, answer: &Value) {
        if rows < ROWS_MAX {
            return;
        }
        let total = answer["total"].as_u64();
        let of = total.map_or_else(String::new, |total| format!(" of {total}"));
        let line = format!("{}: the first {rows}{of} {what}", shown(proxy));
        self.push(Look::Bold, &line);
    }

    fn push_losses(&mut self, sample: &Sample) {
        let mut losses: Vec<&super::Loss> = sample.losses.iter().collect();
        let rate = |loss: &super::Loss| loss.per_second.unwrap_or_default();
        sort::by(&mut losses, &mut |one, other| {
            descending(rate(one), rate(other)).then(other.count.cmp(&one.count))
        });
        let titles = format!(
            "{:<8} {:<8} {:>8} {:>8}  REASON",
            "PROXY", "SIDE", "DROPPED", "PER S"
        );
        self.push(Look::Bold, &titles);
        for loss in losses {
            // Counts are shown in few digits.
            #[expect(clippy::cast_precision_loss, reason = "seven characters are shown")]
            let count = loss.count as f64;
            let line = format!(
                "{:<8} {:<8} {:>8} {:>8}  {}",
                fit(&shown(&loss.proxy), 8),
                fit(&shown(&loss.side), 8),
                short(count),
                loss.per_second.map_or_else(String::new, short),
                in_words(&loss.reason)
            );
            self.push(Look::Red, &line);
        }
        self.push(Look::Plain, "");
    }
}

/// The number by which peers are sorted.
fn weight(peer: &Value, view: View) -> f64 {
    let rates = |what: &str| {
        let rate = |way: &str| number(peer, &format!("{what}_{way}_per_second"));
        rate("received") + rate("sent")
    };
    match view {
        View::Bytes => rates("bytes"),
        View::Drops => drops_of(peer),
        View::Waiting => number(peer, "queued_messages"),
        View::Messages | View::Topics => rates("messages"),
    }
}

fn descending(one: f64, other: f64) -> Ordering {
    other.total_cmp(&one)
}

fn drops_of(row: &Value) -> f64 {
    let counts = row["dropped"].as_object().into_iter().flatten();
    sum(counts.filter_map(|(_, count)| count.as_f64()))
}

/// The sums of a proxy over its sides.
fn line_of_proxy(proxy: &Value) -> (Look, String) {
    let sockets = items(proxy, "sockets").iter();
    let sides = sockets.filter(|it| it["side"] == "frontend" || it["side"] == "backend");
    let total = |key: &str| short(sum(sides.clone().map(|it| number(it, key))));
    let state = match (proxy["paused"].as_bool(), proxy["stop"].as_str()) {
        (Some(true), _) => "  paused",
        (_, Some("running")) => "",
        _ => "  stopping",
    };
    let queued = sides.clone().filter_map(|it| it["queued_bytes"].as_u64());
    let losses = sum(items(proxy, "sockets").iter().map(drops_of));
    let look = if losses > 0.0 { Look::Red } else { Look::Plain };
    let line = format!(
        "{:<12} {:>5} {}  in {:>6}/s  out {:>6}/s  queued {} ({})  dropped {}{state}",
        fit(&cell(proxy, "proxy"), 12),
        total("peers"),
        if total("peers") == "1" {
            "peer "
        } else {
            "peers"
        },
        total("messages_received_per_second"),
        total("messages_sent_per_second"),
        total("queued_messages"),
        size(queued.sum()),
        short(losses),
    );
    (look, line)
}

/// The sum of no numbers is 0, and not -0 as that of an iterator.
fn sum(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |sum, number| sum + number)
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_default()
}

/// A number in few characters.
fn short(number: f64) -> String {
    match number {
        1e12.. => format!("{:.0}G", number / 1e9),
        1e9.. => format!("{:.1}G", number / 1e9),
        1e6.. => format!("{:.1}M", number / 1e6),
        1e5.. => format!("{:.0}k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

/// The beginning of a text that fits a column.
fn fit(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// A text of an answer, without hidden characters.
fn cell(row: &Value, key: &str) -> String {
    shown(&text(row, key))
}

fn shown(text: &str) -> String {
    show(text).up_to(TEXT_LEN_MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{Loss, Sample};
    use super::*;
    use serde_json::json;

    fn sample(count: u32, text: &str) -> Sample {
        let peer = |number: u32| {
            json!({
                "id": number.to_string(), "side": text, "address": text,
                "identity": format!("{number}{text}"), "queued_messages": number,
                "messages_received_per_second": f64::from(number) * 1e4,
                "bytes_sent_per_second": f64::from(count - number),
                "dropped": { "peer-full": 100 - number },
            })
        };
        let peers: Vec<Value> = (0..count).map(peer).collect();
        let loss = |count| Loss {
            count,
            per_second: Some(0.0),
            proxy: text.to_owned(),
            reason: text.to_owned(),
            side: text.to_owned(),
        };
        let topics: Vec<Value> = (0..count)
            .map(|number| json!({ "topic": format!("{number}{text}"), "peers": number }))
            .collect();
        Sample {
            losses: (0..u64::from(count)).map(loss).collect(),
            peers: vec![(text.to_owned(), json!({ "peers": peers }))],
            status: json!({
                "version": text, "pid": 1, "stop": text, "uptime_seconds": 1.0,
                "proxies": vec![json!({ "proxy": text, "sockets": [] }); 30],
            }),
            topics: Some(vec![(text.to_owned(), json!({ "subscriptions": topics }))]),
        }
    }

    #[test]
    fn a_page_fits_the_terminal_whatever_peers_call_themselves() {
        let evil = "\x1b[2J\u{202e}\n\r".to_owned() + &"x".repeat(300);
        for (columns, lines) in [(80, 24), (200, 50), (20, 5)] {
            for (.., view) in View::ALL {
                let size = Size { columns, lines };
                let page = Page::of(&sample(90, &evil), view, Some(size));
                let text = page.text();
                assert!(text.lines().count() <= lines, "{text}");
                let is_narrow = |line: &str| line.chars().count() <= columns;
                assert!(text.lines().all(is_narrow), "{text}");
                let hidden = |one: char| one != '\n' && zmtp::is_hidden(one);
                assert!(!text.contains(hidden), "{text:?}");
                let last = text.lines().last().unwrap_or_default();
                assert!(last.starts_with("p peers"), "{text}");
                let plain = page.painted(Paint(false)).join("\n") + "\n";
                assert_eq!(plain, text, "no colours");
                assert!(page.painted(Paint(true))[0].starts_with("\x1b[1m"));
            }
        }
    }

    #[test]
    fn rows_are_in_the_order_of_the_chosen_number() {
        for (view, first) in [
            (View::Messages, "89a"),
            (View::Bytes, "0a"),
            (View::Waiting, "89a"),
            (View::Drops, "0a"),
            (View::Topics, "89a"),
        ] {
            let text = Page::of(&sample(90, "a"), view, None).text();
            let title = |line: &&str| line.contains("IDENTITY") || line.contains("TOPIC");
            let mut rows = text.lines().skip_while(|line| !title(line)).skip(1);
            let row = rows.next().unwrap_or_default();
            assert!(!text.contains("-0"), "{text}");
            assert!(
                row.split_whitespace().any(|cell| cell == first),
                "{view:?}: {text}"
            );
        }
        for (number, expected) in [
            (99_999.4, "99999"),
            (890_000.0, "890k"),
            (2_340_000.0, "2.3M"),
            (0.4, "0"),
        ] {
            assert_eq!(short(number), expected);
        }
    }

    #[test]
    fn a_list_that_is_not_complete_says_so() {
        let mut many = sample(10, "a");
        let peers = vec![json!({ "id": "1" }); ROWS_MAX];
        many.peers = vec![("a".to_owned(), json!({ "peers": peers, "total": 10_000 }))];
        let text = Page::of(&many, View::Messages, None).text();
        assert!(
            text.ends_with("a: the first 2000 of 10000 peers\n"),
            "{text}"
        );
    }
}
