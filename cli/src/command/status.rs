//! `zmqd status`: the running broker on one screen.

use std::env;
use std::io::{self, IsTerminal as _};
use std::thread;
use std::time::Duration;

use broker::config::Endpoint;
use serde_json::{Value, json};
use zmtp::show;

use super::control::{Control, ControlArgs, items, put_rates_of};
use super::ctl::table::{duration, rate, size, text};
use super::local::Kind;
use super::serve::counted;
use crate::capture::json;
use crate::output::{Failure, print};

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    /// The endpoint of the control to ask, instead of the usual place
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "pid")]
    #[arg(value_parser = Endpoint::parse_connect)]
    control: Option<Endpoint>,
    /// Print one line of JSON for each broker
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ask: ControlArgs,
}

const EXAMPLES: &str = "\
Rates are measured over one second. With several brokers running, status lists them, and --pid
chooses one. Each zmqd listens for its own user only: at $RUNTIME_DIRECTORY/zmqd.ctl in a service of
systemd, or else at zmqd/PID.ctl in $XDG_RUNTIME_DIR, or at /tmp/zmqd-UID/PID.ctl. Services in
/run/zmqd are found too.

Exit code 1: no broker of this user runs.

Examples:
  zmqd status
  zmqd status --pid 812 --json
  sudo -u zmqd zmqd status";

/// The time over which rates are measured.
const MEASURED: Duration = Duration::from_secs(1);

/// Characters shown of a text.
const TEXT_LEN_MAX: usize = 200;

/// Prints the status of the running brokers.
pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let mut found = match &args.control {
        Some(endpoint) => {
            let mut control = Control::connect(endpoint, &args.ask)?;
            let status = ask(&mut control)?;
            vec![(control, status)]
        }
        None => Control::find_all(Kind::Broker, &args.ask)?,
    };
    if found.is_empty() {
        return Err(Control::none_runs(Kind::Broker));
    }
    if found.len() > 1 && !args.json {
        let statuses: Vec<&Value> = found.iter().map(|(_, status)| status).collect();
        return print(&list(&statuses));
    }
    measure(&mut found);
    let is_coloured = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
    let mut output = String::new();
    for (_, status) in &found {
        if args.json {
            json::append_visibly(&mut output, &status.to_string());
            output.push('\n');
        } else {
            output.push_str(&describe(status, is_coloured));
        }
    }
    print(&output)
}

/// The status of one broker.
pub(super) fn ask(control: &mut Control) -> Result<Value, Failure> {
    control.ask(&json!({ "command": "status" }))
}

/// Asks every broker again after a while, and adds the rates. One that has ended meanwhile keeps
/// its first status.
#[expect(clippy::disallowed_methods, reason = "a rate needs time to pass")]
fn measure(found: &mut [(Control, Value)]) {
    thread::sleep(MEASURED);
    for (control, status) in found {
        if let Ok(mut after) = ask(control) {
            put_rates(status, &mut after);
            *status = after;
        }
    }
}

/// Adds the rates of each socket since `before`.
pub(super) fn put_rates(before: &Value, after: &mut Value) {
    let uptime = |status: &Value| status["uptime_seconds"].as_f64().unwrap_or_default();
    let seconds = uptime(after) - uptime(before);
    let Some(proxies) = after["proxies"].as_array_mut() else {
        return;
    };
    for proxy in proxies {
        let former = items(before, "proxies").iter();
        let former = former.clone().find(|it| it["proxy"] == proxy["proxy"]);
        let (Some(former), Some(sockets)) = (former, proxy["sockets"].as_array_mut()) else {
            continue;
        };
        for socket in sockets {
            let same = items(former, "sockets").iter();
            let same = same.clone().find(|it| it["side"] == socket["side"]);
            if let Some(same) = same {
                put_rates_of(same, socket, seconds);
            }
        }
    }
}

/// Several brokers, a line for each.
fn list(statuses: &[&Value]) -> String {
    let mut output = String::new();
    for status in statuses {
        let names = items(status, "proxies").iter();
        let names: Vec<String> = names.map(|proxy| shown(proxy, "proxy")).collect();
        output.push_str(&format!(
            "pid {}  {}  up {}  proxies: {}\n",
            shown(status, "pid"),
            shown(&status["configuration"], "source"),
            duration(status, "uptime_seconds"),
            names.join(", ")
        ));
    }
    output.push_str("several brokers run: zmqd status --pid PID shows one\n");
    output
}

/// One screen.
fn describe(status: &Value, is_coloured: bool) -> String {
    let paint = Paint(is_coloured);
    let title = format!(
        "zmqd {}, pid {}, up {}",
        shown(status, "version"),
        shown(status, "pid"),
        duration(status, "uptime_seconds")
    );
    let mut output = format!(
        "{}\nconfiguration  {}\nmemory         {}\nstate          {}\n",
        paint.bold(&title),
        describe_configuration(&status["configuration"]),
        describe_memory(status),
        shown(status, "stop")
    );
    for proxy in items(status, "proxies") {
        output.push('\n');
        output.push_str(&paint.bold(&describe_proxy(proxy)));
        output.push('\n');
        for socket in items(proxy, "sockets") {
            output.push_str(&describe_socket(socket, paint));
        }
        output.push_str(&describe_kept(proxy));
        output.push_str(&describe_record(&proxy["record"], paint));
    }
    output
}

fn describe_configuration(configuration: &Value) -> String {
    let mut line = format!(
        "{}, {}",
        shown(configuration, "source"),
        shown(configuration, "state")
    );
    if configuration.get("seconds_ago").is_some() {
        line.push_str(&format!(" {} ago", duration(configuration, "seconds_ago")));
    }
    if configuration.get("error").is_some() {
        line.push_str(&format!(": {}", shown(configuration, "error")));
    }
    let keys = items(configuration, "needs_restart").iter();
    let keys: Vec<&str> = keys.filter_map(Value::as_str).collect();
    if !keys.is_empty() {
        let keys = keys.join(", ");
        let keys = show(&keys).up_to(TEXT_LEN_MAX);
        line.push_str(&format!("; restart zmqd to change {keys}"));
    }
    line
}

pub(super) fn describe_memory(status: &Value) -> String {
    let bytes = |key: &str| status[key].as_u64().unwrap_or_default();
    match bytes("memory_limit") {
        0 => format!("{}, unlimited", size(bytes("memory_in_use"))),
        limit => format!("{} of {}", size(bytes("memory_in_use")), size(limit)),
    }
}

fn describe_proxy(proxy: &Value) -> String {
    let paused = match proxy["paused"].as_bool() {
        Some(true) => ", paused",
        _ => "",
    };
    format!(
        "{}: {}{paused}",
        shown(proxy, "proxy"),
        shown(proxy, "stop")
    )
}

/// A socket: its endpoints, its peers and rates, and what it dropped.
fn describe_socket(socket: &Value, paint: Paint) -> String {
    let (side, kind) = (shown(socket, "side"), shown(socket, "socket"));
    let texts = |list: &'static str| items(socket, list).iter().filter_map(Value::as_str);
    let connects = texts("connects").map(|endpoint| format!("to {endpoint}"));
    let endpoints: Vec<String> = texts("binds").map(str::to_owned).chain(connects).collect();
    let endpoints = endpoints.join(", ");
    let endpoints = show(&endpoints).up_to(TEXT_LEN_MAX);
    let mut output = format!("  {side:<8}  {kind:<6}  {endpoints}\n");
    let number = |key: &str| socket[key].as_u64().unwrap_or_default();
    let peers = number("peers");
    let noun = if peers == 1 { "peer" } else { "peers" };
    let mut parts = vec![format!("{peers} {noun}")];
    if socket.get("messages_received_per_second").is_some() {
        for (word, key) in [("received", "received"), ("sent", "sent")] {
            let messages = rate(socket, &format!("messages_{key}_per_second"));
            parts.push(format!("{word} {messages}/s"));
        }
    }
    let queued = number("queued_messages");
    if queued > 0 {
        parts.push(format!(
            "{queued} queued ({})",
            size(number("queued_bytes"))
        ));
    }
    let waiting = number("waiting");
    if waiting > 0 {
        let verb = if waiting == 1 { "waits" } else { "wait" };
        parts.push(format!("{} {verb}", counted(waiting, "sender")));
    }
    let topics = number("topics");
    if topics > 0 {
        parts.push(counted(topics, "topic"));
    }
    output.push_str(&format!("{INDENT}{}\n", parts.join(", ")));
    for (reason, count) in socket["dropped"].as_object().into_iter().flatten() {
        let count = count.as_u64().unwrap_or_default();
        let line = format!("dropped {count}: {}", in_words(reason));
        output.push_str(&format!("{INDENT}{}\n", paint.red(&line)));
    }
    if socket["public_key"].is_string() {
        output.push_str(&format!(
            "{INDENT}CURVE key {}\n",
            shown(socket, "public_key")
        ));
    }
    output
}

const INDENT: &str = "                    ";

/// The last values of a proxy, and the messages that it can send again.
fn describe_kept(proxy: &Value) -> String {
    let mut output = String::new();
    for (key, count, one) in [
        ("cache", "values", "value"),
        ("replay", "messages", "message"),
    ] {
        if let (Some(bytes), Some(number)) =
            (proxy[key]["bytes"].as_u64(), proxy[key][count].as_u64())
        {
            let count = if number == 1 { one } else { count };
            output.push_str(&format!("  {key} {number} {count}, {}\n", size(bytes)));
        }
    }
    output
}

fn describe_record(record: &Value, paint: Paint) -> String {
    if record.is_null() {
        return String::new();
    }
    let number = |key: &str| record[key].as_u64().unwrap_or_default();
    let line = format!(
        "  recording {} messages, {}",
        number("messages"),
        size(number("bytes"))
    );
    let trouble = match (record["failing"].as_bool(), number("lost_messages")) {
        (Some(true), lost) => format!(", failing, {lost} lost"),
        (_, 0) => String::new(),
        (_, lost) => format!(", {lost} lost"),
    };
    format!("{line}{}\n", paint.red(&trouble))
}

/// The reason for a drop.
pub(super) fn in_words(label: &str) -> String {
    let words = match label {
        "denied" => "the role of the sender does not permit them",
        "expired" => "older than max_age",
        "memory-shed" => "the memory limit was reached (memory_limit)",
        "no-such-peer" => "no peer has the identity",
        "not-expected" => "the type of the socket only receives",
        "peer-full" => "the queues of peers were full (sndhwm, sndhwm_bytes)",
        "replaced" => "a newer message took the place (overflow)",
        "stopping" => "not sent before the stop (drain_timeout)",
        "too-many-subscriptions" => "subscriptions beyond the limit",
        "without-body" => "no frame followed the identity",
        "without-envelope" => "no empty frame before the body",
        other => return show(other).up_to(TEXT_LEN_MAX).to_string(),
    };
    words.to_owned()
}

/// A text of an answer, without hidden characters.
fn shown(row: &Value, key: &str) -> String {
    show(&text(row, key)).up_to(TEXT_LEN_MAX).to_string()
}

/// Colours, if the terminal shows them.
#[derive(Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.within("1", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.within("31", text)
    }

    fn within(self, code: &str, text: &str) -> String {
        match self.0 && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::reason::DropReason;

    #[test]
    fn every_reason_for_a_drop_has_words() {
        for reason in DropReason::ALL {
            assert_ne!(in_words(reason.label()), reason.label());
        }
    }

    #[test]
    fn a_hostile_answer_leaves_no_hidden_character() {
        let evil = "\x1b[2J\u{202e}\n\r\0";
        let status = json!({
            "version": evil, "pid": evil, "stop": evil,
            "configuration": { "source": evil, "state": evil, "error": evil, "seconds_ago": 1,
                               "needs_restart": [evil] },
            "proxies": [{ "proxy": evil, "stop": evil, "sockets": [{
                "side": evil, "socket": evil, "binds": [evil], "connects": [evil],
                "dropped": { evil: 3 }, "public_key": evil,
            }] }],
        });
        for output in [describe(&status, false), list(&[&status])] {
            let hidden = |one: char| one != '\n' && zmtp::is_hidden(one);
            assert!(!output.contains(hidden), "{output:?}");
        }
        assert_eq!(describe(&status, false).lines().count(), 10);
        assert!(describe(&status, true).contains("\x1b[31mdropped 3"));
    }

    #[test]
    fn a_broker_that_lost_messages_and_rejected_a_file_says_so() {
        let status = json!({
            "version": "0.1.0", "pid": 812, "uptime_seconds": 61.0, "stop": "running",
            "memory_in_use": 1_600_000, "memory_limit": 536_870_912,
            "configuration": { "source": "z.toml", "state": "last reload rejected",
                               "seconds_ago": 5.0, "error": "z.toml:1: no" },
            "proxies": [{ "proxy": "q", "paused": true, "stop": "running", "sockets": [{
                "side": "backend", "socket": "XPUB", "binds": ["tcp://127.0.0.1:1"], "peers": 1,
                "messages_received_per_second": 0.0, "messages_sent_per_second": 12.4,
                "dropped": { "peer-full": 20 }, "topics": 2,
            }], "record": { "messages": 3, "bytes": 2048, "failing": true, "lost_messages": 1 } }],
        });
        assert_eq!(
            describe(&status, false),
            "zmqd 0.1.0, pid 812, up 1m01s\n\
             configuration  z.toml, last reload rejected 5.0s ago: z.toml:1: no\n\
             memory         1.5 MiB of 512.0 MiB\n\
             state          running\n\
             \n\
             q: running, paused\n  \
               backend   XPUB    tcp://127.0.0.1:1\n\
             \u{20}                   1 peer, received 0/s, sent 12/s, 2 topics\n\
             \u{20}                   dropped 20: the queues of peers were full (sndhwm, \
             sndhwm_bytes)\n  \
               recording 3 messages, 2.0 KiB, failing, 1 lost\n"
        );
    }
}
