//! Texts that are refused, and the errors.

use super::tests::STREAMER;
use super::*;

fn refusals(text: &str) -> Vec<String> {
    let errors = Config::from_toml(text, "test.toml").expect_err(text);
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.join("\n"), errors.to_string(), "one line each");
    lines
}

pub(super) fn refusal(text: &str) -> String {
    refusals(text).swap_remove(0)
}

#[test]
fn refusals_name_line_and_key_and_remedy() {
    for (text, expected) in WRONG_AT_THE_TOP.iter().chain(WRONG_IN_A_PROXY) {
        let refusal = refusal(text);
        assert!(
            refusal.contains(expected),
            "{text}\nexpected: {expected}\nfound: {refusal}"
        );
    }
    for (text, expected) in WRONG_TOGETHER {
        let text = format!("{text}backend.bind = 'tcp://127.0.0.1:2'\n");
        let refusal = refusal(&text);
        assert!(
            refusal.contains(expected),
            "{text}\nexpected: {expected}\nfound: {refusal}"
        );
    }
}

#[test]
fn a_duplicate_name_is_refused_at_the_second_place() {
    let text = "[[proxy]]\nkind = 'queue'\nname = 'a'\nfrontend.bind = 'tcp://127.0.0.1:1'\n\
                backend.bind = 'tcp://127.0.0.1:2'\n[[proxy]]\nkind = 'queue'\nname = 'a'\n\
                frontend.bind = 'tcp://127.0.0.1:3'\nbackend.bind = 'tcp://127.0.0.1:4'\n";
    assert_eq!(
        refusal(text),
        "test.toml:8: proxy.name: another one has the name \"a\": rename one of them"
    );
}

#[test]
fn a_file_for_last_values_has_one_writer() {
    let proxy = |name: &str, line: &str| {
        format!(
            "[[proxy]]\nkind = 'forwarder'\nname = '{name}'\nfrontend.bind = 'inproc://{name}f'\n\
             backend.bind = 'inproc://{name}b'\n{line}\n"
        )
    };
    let cache = "cache = { path = '/tmp/values' }";
    for first in [cache, "record = '/tmp/./values'"] {
        let text = proxy("a", first) + &proxy("b", cache);
        assert_eq!(
            refusal(&text),
            "test.toml:12: proxy.cache: a writes /tmp/values already: name another file"
        );
    }
    let apart = proxy("a", "record = '/tmp/messages'") + &proxy("b", cache);
    assert!(Config::from_toml(&apart, "test.toml").is_ok());
}

#[test]
fn every_damaged_text_is_read_or_refused_in_one_line() {
    let whole = Config::DEFAULT_TOML;
    let lines = whole.lines().count();
    let refuse_well = |text: &str| {
        if let Err(errors) = Config::from_toml(text, "test.toml") {
            for error in errors.iter() {
                assert!(error.line <= lines, "{error}");
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    };
    for at in 0..whole.len() {
        refuse_well(&whole[..at]);
        refuse_well(&format!("{}{}", &whole[..at], &whole[at + 1..]));
        for replacement in ["\"", "[", "]", "=", "{", ".", "\0", "é", "9", "#"] {
            refuse_well(&format!(
                "{}{replacement}{}",
                &whole[..at],
                &whole[at + 1..]
            ));
        }
    }
}

#[test]
fn foreign_text_in_an_error_is_short_and_harmless() {
    let long = "x".repeat(1 << 20);
    let hostile = "\\u001b]0;\\u202e\\u200b\\u0085";
    for text in [
        format!("{long} = 1"),
        format!("\"{hostile}{long}\" = 1"),
        format!("[[proxy]]\nkind = \"{hostile}{long}\""),
        format!("[[proxy]]\nkind = \"queue\"\nname = \"{hostile}{long}\""),
        format!("[[proxy]]\nkind = \"queue\"\nfrontend = {{ bind = \"{hostile}{long}\" }}"),
        format!("[[proxy]]\nkind = \"queue\"\nfrontend = {{ bind = \"tcp://{long}:1\" }}"),
        format!("[[proxy]]\nkind = \"queue\"\nfrontend = {{ bind = \"tcp://a:{long}\" }}"),
        format!("[[proxy]]\nkind = \"queue\"\nfrontend = {{ bind = \"tcp://a:1{hostile}\" }}"),
        format!("[[proxy]]\nfrontend = {{ socket = \"{hostile}{long}\" }}"),
        format!("[options]\nbalance = \"{hostile}{long}\""),
        format!("[options]\nipc_mode = \"{hostile}{long}\""),
        format!("[options]\naccept_from = [\"10.0.0.0/{hostile}{long}\"]"),
        format!("[options]\naccept_from = [\"10.0.0.0/{hostile}\"]"),
        format!("memory_limit = {}", "9".repeat(1 << 20)),
        format!("[[proxy]]\nkind = \"queue\"\n[proxy.{long}]\na = 1"),
        format!("{long} = {long}"),
        format!("a = 1\n{long}.{long} = 1\n{long} = 2"),
    ] {
        let start = &text[..text.floor_char_boundary(80)];
        let errors = Config::from_toml(&text, "\u{1b}.toml").expect_err(start);
        for error in errors.iter() {
            let shown = error.to_string();
            assert!(shown.len() < 1200, "{start}: {} bytes", shown.len());
            assert!(!shown.contains(zmtp::is_hidden), "{shown:?}");
        }
    }
}

#[test]
fn a_text_that_is_too_large_is_not_parsed() {
    let text = "\n".repeat(CONFIG_SIZE_MAX + 1);
    let error = Config::from_toml(&text, "a.toml").expect_err("too large");
    assert!(error.to_string().contains("more than 8388608 bytes"));
    let error = Config::from_toml(&text[1..], "a.toml").expect_err("nothing to do");
    assert!(error.to_string().contains("no proxy"), "{error}");
}

/// One run shows all errors, without their consequences.
#[test]
fn all_errors_of_a_text_are_reported_at_once() {
    let text = "\
drain_timeout = '5 years'
[options]
sndhwn = 7
[[proxy]]
kind = 'que'
frontend.bind = '7001'
fronend.sndhwm = 3
backend.bind = 'tcp://127.0.0.1:7002'
[[proxy]]
kind = 'proxy'
frontend = 'tcp://*:7001'
[[proxy]]
kind = 'queue'
sndhwm = 4
frontend.bind = 'tcp://127.0.0.1:7002'
backend = { connect = ['inproc://a', 'tcp://*:1'], ipv6 = 1 }
";
    let expected = [
        "test.toml:1: drain_timeout: cannot read \"5 years\"",
        "test.toml:3: options.sndhwn: unknown key",
        "test.toml:5: proxy.kind: unknown kind \"que\": did you mean \"queue\"?",
        "test.toml:6: proxy.frontend.bind: \"7001\"",
        "test.toml:7: proxy.fronend: unknown key: did you mean \"frontend\"?",
        "test.toml:10: proxy.kind: a proxy needs a socket on each side",
        "test.toml:11: proxy.frontend: write frontend.bind = \"tcp://*:7001\" to listen there",
        "test.toml:14: proxy.sndhwm: options belong to one side",
        "test.toml:15: proxy.frontend.bind: tcp://127.0.0.1:7002 is bound by the backend of",
        "test.toml:16: proxy.backend.connect: \"tcp://*:1\" has no host",
        "test.toml:16: proxy.backend.ipv6: write true or false",
    ];
    let found = refusals(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected}\n{found}");
    }
    let found = refusals("a = [\nb = ]\n[[proxy]]\nc = d\n");
    assert!(found.len() > 1, "{found:#?}");
    assert!(found.iter().all(|line| line.contains("this is not TOML")));
}

#[test]
fn a_hundred_errors_are_enough() {
    let text = (0..1000).map(|index| format!("key{index} = 1\n"));
    let errors = Config::from_toml(&text.collect::<String>(), "test.toml").expect_err("unknown");
    assert_eq!(errors.iter().count(), ConfigErrors::COUNT_MAX);
    let shown = errors.to_string();
    assert!(
        shown.ends_with("\ntest.toml: more errors follow the first 100"),
        "{shown}"
    );
    let names = "[[proxy]]\nkind = 'queue'\nname = 'a b'\n".repeat(1000);
    let errors = Config::from_toml(&names, "test.toml").expect_err("names");
    assert_eq!(errors.iter().count(), ConfigErrors::COUNT_MAX);
}

#[test]
fn options_without_effect_on_captures_and_controls_are_refused_with_the_reason() {
    for (lines, sentence) in [
        (
            "capture = { bind = 'tcp://127.0.0.1:3', immediate = false }",
            "proxy.capture: immediate = false has no effect on a capture: links of",
        ),
        (
            "capture = { bind = 'tcp://127.0.0.1:3', overflow = 'block' }",
            "has no effect on a capture: a PUB never waits for its subscribers",
        ),
        (
            "capture = { bind = 'tcp://127.0.0.1:3', xpub_nodrop = true }",
            "xpub_nodrop = true has no effect on a capture: copies never wait for a PUB",
        ),
        (
            "capture = { bind = 'tcp://127.0.0.1:3', socket = 'PUSH', balance = 'ready' }",
            "only the readers of a PUSH or DEALER capture take turns, and they never answer",
        ),
        (
            "control = { bind = 'tcp://127.0.0.1:3', overflow = 'block' }",
            "has no effect on a control",
        ),
        (
            "control = { bind = 'tcp://127.0.0.1:3', rcvhwm = 5 }",
            "rcvhwm = 5 has no effect on a control: received",
        ),
    ] {
        let text = format!("{STREAMER}{lines}\n");
        let error = Config::from_toml(&text, "test.toml").expect_err(lines);
        let error = error.to_string();
        assert!(error.contains(sentence), "{error}");
        assert!(error.starts_with("test.toml:5: proxy."), "{error}");
    }
}

const WRONG_AT_THE_TOP: &[(&str, &str)] = &[
    (
        "",
        "test.toml: the configuration has no proxy: add a [[proxy]] table",
    ),
    ("x = ", "test.toml:1: this is not TOML: "),
    ("\n\nproxy = [\n", "test.toml:3: this is not TOML: "),
    (
        "drain_timeout = 1\ndrain_timeout = 2",
        "test.toml:2: this is not TOML: duplicate key",
    ),
    (
        "\nprozy = 1",
        "test.toml:2: prozy: unknown key: did you mean \"proxy\"?",
    ),
    (
        "z = 1\na = 1",
        "test.toml:1: z: unknown key: write one of broker_control, drain_timeout",
    ),
    (
        "drain_timeout = '5 years'",
        "test.toml:1: drain_timeout: cannot read \"5 years\": write a number of ms, or a time such",
    ),
    (
        "drain_timeout = 1.5",
        "drain_timeout: write a number of ms, or a time such as \"5s\": this is of type float",
    ),
    ("http = 9090", "http: write a text"),
    (
        "http = '9090'",
        "test.toml:1: http: cannot read \"9090\": write ADDRESS:PORT, such as 127.0.0.1:9090",
    ),
    (
        "http = '*:9090'\n[[proxy]]\nkind = 'queue'\n\
         frontend.bind = 'inproc://a'\nbackend.bind = 'inproc://b'",
        "test.toml:1: http: other machines can reach 0.0.0.0:9090, and any of them may read there: \
         set http_token_file, or use 127.0.0.1",
    ),
    (
        "http_hosts = ['a', 'http://b']\n[[proxy]]\nkind = 'queue'\n\
         frontend.bind = 'inproc://a'\nbackend.bind = 'inproc://b'",
        "test.toml:1: http_hosts: \"http://b\" is not a host name",
    ),
    (
        "http_samples = 1",
        "test.toml:1: http_samples: write true or false",
    ),
    (
        "http_token_file = '/nonexistent/token'",
        "test.toml:1: http_token_file: cannot read /nonexistent/token",
    ),
    ("drain_timeout = -1", "drain_timeout: -1 is out of range"),
    (
        "drain_timeout = 2147483648",
        "write a number of ms from 0 to 2147483647",
    ),
    (
        "options = 3",
        "test.toml:1: options: write options.KEY = VALUE, or a table [options]: this is of t",
    ),
    (
        "[options]\n\nsndhwn = 3",
        "test.toml:3: options.sndhwn: unknown key: did",
    ),
    (
        "[options]\nsndhwm = '3'",
        "test.toml:2: options.sndhwm: write a whole number of messages",
    ),
    (
        "[options]\nsndhwm = 4294967296",
        "write a number of messages from 0 to 4294967295",
    ),
    (
        "[options]\nmaxmsgsize = 0",
        "options.maxmsgsize: 0 is out of range: write a number of b",
    ),
    (
        "[options]\nmaxmsgsize = -1",
        "options.maxmsgsize: -1 is out of range",
    ),
    (
        "[options]\nipv6 = 1",
        "test.toml:2: options.ipv6: write true or false: this is of type integer",
    ),
    (
        "[options]\nbindtodevice = ['lo']",
        "options.bindtodevice: write a text: this is of type array",
    ),
    (
        "[options]\nbindtodevice = 'a-name-of-16-byte'",
        "options.bindtodevice: this text of 17 bytes is too long",
    ),
    (
        "[options]\ntcp_accept_filter = ['::1', 7]",
        "options.tcp_accept_filter: write a list of texts: this is of type array",
    ),
    (
        "[options]\ntcp_accept_filter = '10.0.0.1/8'",
        "options.tcp_accept_filter: \"10.0.0.1/8\" has an address beyond its 8 bits",
    ),
    (
        "\n[options]\nreconnect_ivl = 9000",
        "test.toml:2: options: reconnect_ivl_max (5000 ms)",
    ),
];

const WRONG_IN_A_PROXY: &[(&str, &str)] = &[
    (
        "[proxy]\nkind = 'queue'",
        "test.toml:1: proxy: write [[proxy]] in double brackets",
    ),
    (
        "proxy = [3]",
        "test.toml:1: proxy: write [[proxy]], and the keys",
    ),
    (
        "[[proxy]]\nname = 'a'",
        "test.toml:1: proxy.kind: this proxy needs a kind: write one of",
    ),
    (
        "[[proxy]]\nkind = 'quee'",
        "test.toml:2: proxy.kind: unknown kind \"quee\": did you",
    ),
    (
        "[[proxy]]\nkind = 3",
        "test.toml:2: proxy.kind: write a text in quotes: this is of type",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nsndhwm = 3",
        "test.toml:3: proxy.sndhwm: options belong to one side",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfront = 3",
        "test.toml:3: proxy.front: unknown key",
    ),
    (
        "[[proxy]]\nkind = 'queue'\n[proxy.frontend]\nbinds = 'x'",
        "test.toml:4: proxy.frontend.binds: unknown key: did you mean \"bind\"?",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*'",
        "test.toml:3: proxy.frontend.bind: \"tcp://*\" has no port",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = ['tcp://127.0.0.1:1',\n\n'udp://x']",
        "test.toml:5: proxy.frontend.bind: \"udp://x\" has the transport \"udp\"",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nbackend.connect = 'tcp://*:1'",
        "test.toml:3: proxy.backend.connect: \"tcp://*:1\" has no host to connect to",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = 5559",
        "test.toml:3: proxy.frontend.bind: write an endpoint such as \"tcp://127.0.0.1:5559\"",
    ),
    (
        "[[proxy]]\nkind = 'forwarder'\nfrontend.connect = [\n\
         { endpoint = 'tcp://a:1', topic = 'a' }]",
        "test.toml:4: proxy.frontend.connect.topic: unknown key",
    ),
    (
        "[[proxy]]\nkind = 'forwarder'\nfrontend.connect = [{ subscribe = 'a' }]",
        "test.toml:3: proxy.frontend.connect: this table needs an endpoint",
    ),
    (
        "[[proxy]]\nkind = 'forwarder'\n\
         frontend.connect = { endpoint = 'tcp://a:1', subscribe = 3 }",
        "test.toml:3: proxy.frontend.connect.subscribe: write ",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = { endpoint = 'tcp://*:1' }",
        "test.toml:3: proxy.frontend.bind: write an endpoint such as",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = '@tcp://*:1'",
        "test.toml:3: proxy.frontend.bind: the key determines whether to bind",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nname = ''\n",
        "test.toml:3: proxy.name: a name cannot be empty",
    ),
];

/// Each is a proxy without a backend yet.
const WRONG_TOGETHER: &[(&str, &str)] = &[
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.connect = ['tcp://a:1',\n 'inproc://a']\n",
        "test.toml:4: proxy.frontend.connect: no side binds inproc://a",
    ),
    (
        "[[proxy]]\nkind = 'queue'\n\
         frontend.connect = { endpoint = 'tcp://a:1', subscribe = 'a' }\n",
        "test.toml:3: proxy.frontend.connect: a ROUTER does not subscribe",
    ),
    (
        "[[proxy]]\nkind = 'queue'\n",
        "test.toml:1: proxy.frontend: the frontend has no endp",
    ),
    (
        "[[proxy]]\nkind = 'queue'\n\nfrontend = { sndhwm = 1 }\n",
        "test.toml:4: proxy.frontend: the frontend has no endpoint",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nname = 'two words'\nfrontend.bind = 'tcp://127.0.0.1:1'\n",
        "test.toml:3: proxy.name: \"two words\" is not a name",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = ['tcp://127.0.0.1:1',\n 'tcp://127.0.0.1:2']\n",
        "test.toml:5: proxy.backend.bind: tcp://127.0.0.1:2 is bound by the frontend of queue",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*:1'\n",
        "test.toml:3: proxy.frontend.bind: other machines can reach tcp://*:1, and any peer may",
    ),
    (
        "insecure = 1\n",
        "test.toml:1: insecure: write true or false",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:1'\n\
         frontend.reconnect_ivl = 9000\n",
        "test.toml:3: proxy.frontend: reconnect_ivl_max (5000 ms) is below reconnect_ivl",
    ),
];
