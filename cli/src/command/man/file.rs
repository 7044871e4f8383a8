//! zmqd.toml(5): the keys of the configuration file, and the options.

use std::fmt::Write as _;

use broker::config::SocketOption;

/// The keys of the file, but for the options: names, value, default.
pub(super) const KEYS: &[(&str, &str, &str)] = &[
    (
        "broker_control",
        "where the broker listens for \"zmqd status\" and \"zmqd ctl\": \"ipc:///PATH\", or \
         \"none\"",
        "a place for its own user",
    ),
    (
        "drain_timeout",
        "time to send queued messages at a stop, in ms or with a unit; 0 stops at once",
        "5000",
    ),
    ("http", "the address of the HTTP server", "off"),
    (
        "http_hosts",
        "names of this machine that requests may have in Host: one, or a list",
        "none",
    ),
    (
        "http_samples",
        "whether HTTP shows the beginnings of messages to clients with the token",
        "true",
    ),
    (
        "http_token_file",
        "the file with the token for commands and for other machines",
        "none",
    ),
    (
        "insecure",
        "true sets the option on all sockets that do not set it themselves",
        "false",
    ),
    (
        "memory_limit",
        "memory that all peers together may cause, in bytes or with a unit; 0: unlimited",
        "512MiB",
    ),
    (
        "options",
        "table: the options of all sides, unless a side sets its own",
        "",
    ),
    ("role", "[role.NAME], once for each role", "none"),
    (
        "users",
        "[users]: the roles of users, as NAME = \"ROLE\"",
        "none",
    ),
    (
        "watch, watcher",
        "[[watch]], once for each service to watch, and [watcher]: see \"zmqd watch\"",
        "none",
    ),
    ("proxy", "[[proxy]], once for each proxy; at least one", ""),
    (
        "proxy.kind",
        "\"queue\", \"forwarder\" or \"streamer\"; with a socket on the sides, \"proxy\" or \
         \"echo\"",
        "needed, unless the sides have a socket",
    ),
    (
        "proxy.name",
        "up to 64 letters, digits, dots, hyphens and underscores, unique in the file",
        "the kind, with a number if that name is taken",
    ),
    (
        "proxy.frontend, proxy.backend",
        "table with the keys of a socket, below",
        "needed",
    ),
    (
        "proxy.capture",
        "table with the keys of a socket: it sends copies of all messages",
        "none",
    ),
    (
        "proxy.capture.format",
        "\"monitored\" or \"proxy\"",
        "\"monitored\"",
    ),
    (
        "proxy.capture.in_prefix, proxy.capture.out_prefix",
        "the direction in front of copies",
        "\"in\", \"out\"",
    ),
    (
        "proxy.record",
        "the file to record to, or a table with path, size and age of one file, files to keep, \
         and buffer, the size of what waits in memory",
        "none",
    ),
    (
        "proxy.cache",
        "table: the last values that new subscribers of a forwarder get",
        "none",
    ),
    (
        "proxy.cache.topics",
        "the topics that have values, by prefix: one, or a list",
        "all",
    ),
    (
        "proxy.cache.bytes",
        "memory for the values, in bytes or with a unit",
        "16MiB",
    ),
    (
        "proxy.cache.max_age",
        "the age at which a value is dropped, with a unit; 0: never",
        "0",
    ),
    (
        "proxy.cache.path",
        "the file that keeps the values while zmqd does not run",
        "none",
    ),
    (
        "proxy.cache.empty_deletes",
        "true: a message with an empty body removes the value of its topic",
        "false",
    ),
    (
        "proxy.replay",
        "table with the keys of a socket: a ROUTER that sends messages of a forwarder again",
        "none",
    ),
    (
        "proxy.replay.messages, proxy.replay.bytes",
        "how many messages to keep, and the memory for them, in bytes or with a unit",
        "100000, 64MiB",
    ),
    (
        "proxy.replay.sequence",
        "true: messages for subscribers end with a frame that has their number",
        "false",
    ),
    (
        "proxy.control",
        "table with the keys of a socket: it steers the proxy",
        "none",
    ),
    (
        "proxy.zap",
        "table with connect and options: the ZAP handlers to ask about peers",
        "none",
    ),
    (
        "SOCKET.socket",
        "the socket type: of a side of a proxy without kind; of a capture \"PUB\", \"PUSH\", \
         \"PAIR\" or \"DEALER\"; of a control \"REP\", \"PAIR\" or \"SUB\"",
        "\"PUB\" of a capture, \"REP\" of a control",
    ),
    (
        "SOCKET.bind",
        "an endpoint or a list of endpoints to listen on",
        "none",
    ),
    (
        "SOCKET.connect",
        "an endpoint or a list of endpoints to connect to, with reconnection",
        "none",
    ),
    (
        "SOCKET.connect.endpoint, SOCKET.connect.subscribe",
        "a table instead of an endpoint: the endpoint, and the topics allowed there",
        "none",
    ),
];

/// The keys of a role: names, meaning, and what holds without the key.
pub(super) const ROLE_KEYS: &[(&str, &str, &str)] = &[
    (
        "publish, subscribe",
        "topics that the user may send, or receive: prefixes, or =TOPIC; %u is the user's name",
        "none",
    ),
    (
        "publish_deny, subscribe_deny",
        "topics among these that the user may not send, or receive",
        "none",
    ),
    (
        "sides",
        "what the user may be: client, worker, publisher, subscriber, capture, control",
        "all but capture and control",
    ),
    (
        "proxies",
        "the names of the proxies that the user may connect to",
        "all",
    ),
    (
        "max_connections",
        "connections of a user at a time, to all proxies",
        "unlimited",
    ),
    (
        "max_subscriptions",
        "subscriptions of each connection",
        "subscriptions_max of the side",
    ),
    (
        "message_rate",
        "messages per second that a user may send",
        "unlimited",
    ),
    (
        "byte_rate",
        "bytes per second that a user may send, such as \"64KiB\"",
        "unlimited",
    ),
];

const EXAMPLE: &str = "\
[[proxy]]
name = \"orders\"
kind = \"queue\"
frontend.bind = \"tcp://127.0.0.1:5559\"
backend = { bind = \"tcp://127.0.0.1:5560\", sndhwm = 10 }";

/// The page, in roff.
pub(super) fn page() -> String {
    let mut page = format!(
        ".TH zmqd.toml 5 \"\" \"zmqd {}\"\n.SH NAME\n\
         zmqd.toml \\- the configuration file of zmqd\n",
        env!("CARGO_PKG_VERSION")
    );
    section(
        &mut page,
        "DESCRIPTION",
        "The file is TOML. An unknown key is an error. \"zmqd check FILE\" explains a file, or \
         reports all of its errors. Times and sizes may have a unit, in quotes: \"5s\", \"64MiB\".",
    );
    section(
        &mut page,
        "KEYS",
        "SOCKET stands for frontend, backend, capture, control or zap of a proxy, which take any \
         option too.",
    );
    entries(&mut page, KEYS);
    section(
        &mut page,
        "KEYS OF A ROLE",
        "These are keys of [role.NAME].",
    );
    entries(&mut page, ROLE_KEYS);
    section(
        &mut page,
        "OPTIONS",
        "These are keys of [options] and of each socket.",
    );
    for SocketOption { name, doc, .. } in SocketOption::ALL {
        entry(&mut page, name, doc);
    }
    page += ".SH EXAMPLE\n.nf\n";
    page += &escaped(EXAMPLE);
    page += "\n.fi\n.SH SEE ALSO\n.BR zmqd (1)\n";
    page
}

fn section(page: &mut String, title: &str, text: &str) {
    let _ = writeln!(page, ".SH {title}\n{}", escaped(text));
}

fn entries(page: &mut String, rows: &[(&str, &str, &str)]) {
    for (name, meaning, default) in rows {
        match *default {
            "" => entry(page, name, meaning),
            default => entry(page, name, &format!("{meaning} (default: {default})")),
        }
    }
}

fn entry(page: &mut String, name: &str, meaning: &str) {
    let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escaped(name), escaped(meaning));
}

/// The text with roff's own characters escaped; a line never begins as a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text
        .lines()
        .map(|line| match line.starts_with(['.', '\'']) {
            true => format!("\\&{line}"),
            false => line.to_owned(),
        });
    lines.collect::<Vec<String>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The first column of the tables of a page of the guide whose header begins so.
    fn names(page: &str, header: &str) -> Vec<String> {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide");
        let text = std::fs::read_to_string(guide.join(page)).expect("a page of the guide");
        let rows = text.lines().skip_while(|line| !line.starts_with(header));
        let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
        let cell = |row: &str| {
            row.split(" | ")
                .next()
                .map(|cell| cell.replace(['|', '`'], ""))
        };
        let cells = rows.map(|row| cell(row).expect("a cell").trim().to_owned());
        cells
            .map(|cell| cell.replace('…', "SOCKET").replace("SOCKET..", "SOCKET."))
            .collect()
    }

    #[test]
    fn the_page_and_the_guide_have_the_same_keys() {
        let mut keys = names("configuration.md", "| key | value");
        assert_eq!(keys.pop().as_deref(), Some("SOCKET. and an option"));
        let own: Vec<&str> = KEYS.iter().map(|key| key.0).collect();
        assert_eq!(own, keys);
        let own: Vec<&str> = ROLE_KEYS.iter().map(|key| key.0).collect();
        assert_eq!(own, names("roles.md", "| key of a role"));
    }

    #[test]
    fn no_line_of_text_is_a_request() {
        assert_eq!(escaped(".TH -x\n'a\\b"), "\\&.TH \\-x\n\\&'a\\eb");
        let page = page();
        assert!(page.contains("\\fBsndhwm\\fR\n"), "{page}");
    }
}
