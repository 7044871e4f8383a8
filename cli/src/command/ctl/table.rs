//! Answers as tables.

use serde_json::Value;
use zmtp::show;

use super::CtlCommand;

/// Characters shown of a cell.
const CELL_LEN_MAX: usize = 200;

/// A column: its heading, and its cell for a row.
pub(in crate::command) struct Column(
    pub(in crate::command) &'static str,
    pub(in crate::command) fn(&Value) -> String,
);

/// Renders a table; numbers are aligned to the right, texts to the left.
pub(in crate::command) fn render(columns: &[Column], rows: &[Value]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let cells = columns.iter().map(|Column(_, cell)| cell(row));
            cells
                .map(|cell| show(&cell).up_to(CELL_LEN_MAX).to_string())
                .collect()
        })
        .collect();
    let is_number = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
    let widths: Vec<(usize, bool)> = columns
        .iter()
        .enumerate()
        .map(|(at, Column(title, _))| {
            let column = || cells.iter().map(|row| row[at].as_str());
            let width = column().map(|text| text.chars().count()).max();
            let is_right = column().all(|text| text.is_empty() || is_number(text));
            (width.unwrap_or_default().max(title.len()), is_right)
        })
        .collect();
    let mut text = String::new();
    let titles = columns.iter().map(|Column(title, _)| (*title).to_owned());
    for row in std::iter::once(titles.collect()).chain(cells) {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, (width, is_right))| match is_right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The result of a command that steers the proxy.
fn steered(answer: &Value, done: &str) -> String {
    match answer.get("done") {
        Some(_) => format!("{done}\n"),
        None => "sent; a PAIR or SUB control does not answer\n".to_owned(),
    }
}

/// One line about the process, if it is zmqd: `zmqd 0.1.0, up 3d04h, 1.0 MiB in use, paused`.
fn describe_process(answer: &Value) -> String {
    let Some(version) = answer["version"].as_str() else {
        return String::new();
    };
    let memory = answer["memory_in_use"].as_u64().unwrap_or_default();
    let paused = match answer["paused"].as_bool() {
        Some(true) => ", paused",
        _ => "",
    };
    format!(
        "zmqd {}, up {}, {} in use{paused}\n",
        show(version).up_to(CELL_LEN_MAX),
        duration(answer, "uptime_seconds"),
        size(memory)
    )
}

/// A size in its largest suitable unit.
pub(in crate::command) fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(unit, name)| {
            let tenths = bytes / (unit / 10);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}

/// The distribution of the turns' durations.
fn describe_turns(turns: &Value) -> String {
    let milliseconds = |value: &Value| value.as_f64().map(|seconds| seconds * 1000.0);
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let buckets = turns["buckets"].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = format!(
        "turns {}, cut short {}, longest {:.3} ms\n",
        count(&turns["count"]),
        count(&turns["cut_short"]),
        milliseconds(&turns["longest_seconds"]).unwrap_or_default()
    );
    for bucket in buckets {
        let below = match milliseconds(&bucket["below_seconds"]) {
            Some(below) => format!("below {below:.3} ms"),
            None => "longer".to_owned(),
        };
        let count = count(&bucket["count"]);
        text.push_str(&format!("{below:>18}  {count}\n"));
    }
    text
}

/// A line for each change, and one with the keys that need a restart.
fn describe_reload(answer: &Value) -> String {
    let texts = |list: &str| {
        let items = answer[list].as_array().map_or(&[][..], Vec::as_slice);
        let texts = items.iter().filter_map(Value::as_str);
        texts
            .map(|text| show(text).whole().to_string())
            .collect::<Vec<_>>()
    };
    let (mut lines, keys) = (texts("changes"), texts("needs_restart"));
    if !keys.is_empty() {
        lines.push(format!("restart zmqd to change: {}", keys.join(", ")));
    }
    if lines.is_empty() {
        lines.push("no changes".to_owned());
    }
    lines.join("\n") + "\n"
}

/// The answer to a command as text.
pub(super) fn describe(command: &CtlCommand, answer: &Value) -> String {
    let rows = |list: &str| answer[list].as_array().map_or(&[][..], Vec::as_slice);
    match command {
        CtlCommand::Pause => steered(answer, "paused"),
        CtlCommand::Resume => steered(answer, "resumed"),
        CtlCommand::Terminate => steered(answer, "terminated"),
        CtlCommand::Reload => describe_reload(answer),
        CtlCommand::Statistics => {
            let is_ours = answer.get("proxy").is_some();
            let columns = if is_ours { SOCKETS } else { STEERED };
            let mut text = describe_process(answer);
            text.push_str(&render(columns, rows("sockets")));
            if let Some(turns) = answer.get("turns") {
                text.push_str(&describe_turns(turns));
            }
            text
        }
        CtlCommand::Peers { rates: true, .. } => {
            let columns: Vec<Column> = PEERS.iter().chain(RATES).copied().collect();
            render(&columns, rows("peers"))
        }
        CtlCommand::Peers { .. } | CtlCommand::Who { .. } => render(PEERS, rows("peers")),
        CtlCommand::Closed { .. } => render(CLOSED, rows("closed")),
        CtlCommand::Events => render(EVENTS, rows("events")),
        CtlCommand::Subscriptions { .. } => render(SUBSCRIPTIONS, rows("subscriptions")),
        CtlCommand::Kick { .. } => {
            let count = rows("kicked").len();
            let peers = if count == 1 { "peer" } else { "peers" };
            format!("{count} {peers} closed\n")
        }
    }
}

impl Clone for Column {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Column {}

const SOCKETS: &[Column] = &[
    Column("SIDE", |row| text(row, "side")),
    Column("SOCKET", |row| text(row, "socket")),
    Column("PEERS", |row| text(row, "peers")),
    Column("WAITING", |row| text(row, "waiting")),
    Column("RECEIVED", |row| text(row, "messages_received")),
    Column("BYTES RECEIVED", |row| text(row, "bytes_received")),
    Column("SENT", |row| text(row, "messages_sent")),
    Column("BYTES SENT", |row| text(row, "bytes_sent")),
    Column("QUEUED", |row| text(row, "queued_messages")),
    Column("TOPICS", |row| text(row, "topics")),
    Column("DROPPED", |row| reasons(row, "dropped")),
    Column("CLOSED", |row| reasons(row, "closed")),
];

const STEERED: &[Column] = &[
    Column("SIDE", |row| text(row, "side")),
    Column("FRAMES RECEIVED", |row| text(row, "frames_received")),
    Column("BYTES RECEIVED", |row| text(row, "bytes_received")),
    Column("FRAMES SENT", |row| text(row, "frames_sent")),
    Column("BYTES SENT", |row| text(row, "bytes_sent")),
];

const PEERS: &[Column] = &[
    Column("ID", |row| text(row, "id")),
    Column("SIDE", |row| text(row, "side")),
    Column("SOCKET", |row| text(row, "socket")),
    Column("ADDRESS", |row| text(row, "address")),
    Column("IDENTITY", |row| bytes(row, "identity")),
    Column("AGE", |row| duration(row, "age_seconds")),
    Column("RECEIVED", |row| text(row, "messages_received")),
    Column("SENT", |row| text(row, "messages_sent")),
    Column("QUEUED", |row| text(row, "queued_messages")),
    Column("TOPICS", |row| text(row, "subscriptions")),
    Column("STATE", state),
    Column("DROPPED", |row| reasons(row, "dropped")),
];

const RATES: &[Column] = &[
    Column("RECEIVED/S", |row| {
        rate(row, "messages_received_per_second")
    }),
    Column("BYTES RECEIVED/S", |row| {
        rate(row, "bytes_received_per_second")
    }),
    Column("SENT/S", |row| rate(row, "messages_sent_per_second")),
    Column("BYTES SENT/S", |row| rate(row, "bytes_sent_per_second")),
];

const CLOSED: &[Column] = &[
    Column("AGO", |row| duration(row, "seconds_ago")),
    Column("LASTED", |row| duration(row, "lasted_seconds")),
    Column("SIDE", |row| text(row, "side")),
    Column("ADDRESS", |row| text(row, "address")),
    Column("IDENTITY", |row| bytes(row, "identity")),
    Column("REASON", |row| text(row, "reason")),
    Column("DETAIL", |row| text(row, "detail")),
];

const EVENTS: &[Column] = &[
    Column("AGO", |row| duration(row, "seconds_ago")),
    Column("LEVEL", |row| text(row, "level")),
    Column("PROXY", |row| text(row, "proxy")),
    Column("SIDE", |row| text(row, "side")),
    Column("EVENT", |row| text(row, "text")),
];

const SUBSCRIPTIONS: &[Column] = &[
    Column("TOPIC", |row| bytes(row, "topic")),
    Column("PEERS", |row| text(row, "peers")),
    Column("SIDE", |row| text(row, "side")),
];

pub(in crate::command) fn text(row: &Value, key: &str) -> String {
    match &row[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text, in quotes if it could be mistaken for hexadecimal digits or for an empty cell.
pub(in crate::command) fn bytes(row: &Value, key: &str) -> String {
    match (&row[key], &row[format!("{key}_hex")]) {
        (_, Value::String(digits)) => format!("0x{digits}"),
        (Value::String(text), _) if key == "topic" && text.is_empty() => "(all)".to_owned(),
        (Value::String(text), _) if text.starts_with("0x") => format!("\"{text}\""),
        (Value::String(text), _) => text.clone(),
        _ => String::new(),
    }
}

pub(in crate::command) fn reasons(row: &Value, key: &str) -> String {
    let counted = row[key].as_object().into_iter().flatten();
    let texts: Vec<String> = counted
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if texts.is_empty() {
        return "0".to_owned();
    }
    texts.join(", ")
}

fn state(row: &Value) -> String {
    match (row["phase"].as_str(), row["parked"].as_bool()) {
        (Some("ready"), Some(true)) => "waits".to_owned(),
        (phase, _) => phase.unwrap_or_default().to_owned(),
    }
}

/// Seconds in the two largest units.
pub(in crate::command) fn duration(row: &Value, key: &str) -> String {
    let seconds = row[key].as_f64().unwrap_or_default();
    let whole = seconds.max(0.0).floor();
    // Seconds since the start of a process fit; a cast saturates.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, whole, and a cast saturates"
    )]
    let whole = whole as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86400 => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
        _ => format!("{}d{:02}h", whole / 86400, whole / 3600 % 24),
    }
}

pub(in crate::command) fn rate(row: &Value, key: &str) -> String {
    row[key]
        .as_f64()
        .map_or_else(String::new, |rate| format!("{rate:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_left_aligned_and_numbers_right_aligned() {
        let answer = json!({ "subscriptions": [
            { "topic": "news.", "peers": 12, "side": "backend" },
            { "topic": "", "peers": 3, "side": "backend" },
            { "topic_hex": "00ff", "peers": 1, "side": "backend" },
        ] });
        let command = CtlCommand::Subscriptions {
            prefix: String::new(),
        };
        let expected = "TOPIC   PEERS  SIDE\n\
                        news.      12  backend\n\
                        (all)       3  backend\n\
                        0x00ff      1  backend\n";
        assert_eq!(describe(&command, &answer), expected);
    }

    const PEER_COLUMNS: [&str; 13] = [
        "id",
        "side",
        "socket",
        "address",
        "identity",
        "identity_hex",
        "age_seconds",
        "phase",
        "messages_received",
        "messages_sent",
        "queued_messages",
        "subscriptions",
        "dropped",
    ];

    const CLOSED_COLUMNS: [&str; 7] = [
        "seconds_ago",
        "side",
        "address",
        "identity",
        "identity_hex",
        "reason",
        "detail",
    ];

    const SOCKET_COLUMNS: [&str; 6] = [
        "side",
        "socket",
        "peers",
        "topics",
        "queued_messages",
        "bytes_sent",
    ];

    /// Rows with `hidden`, or a long text, in one column each.
    fn rows_of(columns: &[&str], hidden: &str) -> Value {
        let mut rows = vec![serde_json::Map::new()];
        for column in columns {
            for text in [hidden, &format!("0x{hidden}"), &"x".repeat(1 << 16)] {
                let mut row = serde_json::Map::new();
                row.insert((*column).to_owned(), json!(text));
                rows.push(row);
            }
        }
        json!(rows)
    }

    /// Fills every place of an answer in which a hostile control can put a text.
    #[test]
    fn tables_contain_no_hidden_characters() {
        let hidden: String = ('\0'..=char::MAX)
            .filter(|one| zmtp::is_hidden(*one))
            .collect();
        let fill = |columns: &[&str]| rows_of(columns, &hidden);
        let counts = json!([{ "dropped": { hidden.clone(): 1 }, "closed": { hidden.clone(): 1 } }]);
        let all = false;
        let rates = |rates| CtlCommand::Peers {
            side: None,
            all,
            sort: None,
            rates,
        };
        let topics = CtlCommand::Subscriptions {
            prefix: String::new(),
        };
        for (command, list, rows) in [
            (rates(false), "peers", fill(&PEER_COLUMNS)),
            (rates(true), "peers", fill(&PEER_COLUMNS)),
            (rates(false), "peers", counts.clone()),
            (
                CtlCommand::Who {
                    topic: String::new(),
                },
                "peers",
                fill(&PEER_COLUMNS),
            ),
            (CtlCommand::Closed { all }, "closed", fill(&CLOSED_COLUMNS)),
            (
                CtlCommand::Events,
                "events",
                fill(&["level", "proxy", "side", "text"]),
            ),
            (
                topics,
                "subscriptions",
                fill(&["topic", "topic_hex", "peers", "side"]),
            ),
            (CtlCommand::Statistics, "sockets", fill(&SOCKET_COLUMNS)),
            (CtlCommand::Statistics, "sockets", counts),
        ] {
            let answer = json!({ list: rows, "proxy": hidden });
            let table = describe(&command, &answer);
            let lines = answer[list].as_array().map_or(0, Vec::len) + 1;
            assert_eq!(table.lines().count(), lines, "{command:?}");
            let is_hidden = |one: char| one != '\n' && zmtp::is_hidden(one);
            assert!(!table.contains(is_hidden), "{command:?}");
            let longest = table.lines().map(str::len).max();
            assert!(longest < Some(20_000), "{command:?}: {longest:?}");
        }
    }

    #[test]
    fn statistics_begin_with_the_process_and_steering_says_what_it_did() {
        let answer = json!({
            "version": "0.1.0", "uptime_seconds": 61.0, "memory_in_use": 1_600_000,
            "paused": true, "proxy": "queue", "sockets": [],
        });
        let table = describe(&CtlCommand::Statistics, &answer);
        let first = table.lines().next();
        assert_eq!(first, Some("zmqd 0.1.0, up 1m01s, 1.5 MiB in use, paused"));
        assert_eq!(size(1023), "1023 bytes");
        assert_eq!(size(5 << 30), "5.0 GiB");
        let done = json!({ "done": "pause" });
        assert_eq!(describe(&CtlCommand::Pause, &done), "paused\n");
        let sent = describe(&CtlCommand::Resume, &json!({ "sent": "resume" }));
        assert!(sent.starts_with("sent; "), "{sent}");
    }

    #[test]
    fn times_are_as_exact_as_they_are_short() {
        for (seconds, expected) in [
            (0.04, "0.0s"),
            (59.94, "59.9s"),
            (61.0, "1m01s"),
            (3725.0, "1h02m"),
            (200_000.0, "2d07h"),
        ] {
            assert_eq!(duration(&json!({ "age": seconds }), "age"), expected);
        }
    }

    #[test]
    fn a_peer_shows_its_state_and_what_it_missed() {
        let peer = json!({
            "phase": "ready", "parked": true, "dropped": { "expired": 1, "peer-full": 20 },
        });
        assert_eq!(state(&peer), "waits");
        assert_eq!(state(&json!({ "phase": "ready" })), "ready");
        assert_eq!(reasons(&json!({ "dropped": {} }), "dropped"), "0");
        assert_eq!(reasons(&peer, "dropped"), "expired 1, peer-full 20");
        assert_eq!(state(&json!({ "phase": "handshake" })), "handshake");
    }
}
