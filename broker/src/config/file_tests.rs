//! Texts and what they mean, or what is wrong with them.

use super::*;
use crate::config::Overflow;

fn read(text: &str) -> Config {
    Config::from_toml(text, "test.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refusal(text: &str) -> String {
    let error = Config::from_toml(text, "test.toml").expect_err(text);
    let sentence = error.to_string();
    assert!(!sentence.contains('\n'), "one line: {sentence}");
    sentence
}

fn texts<T: ToString>(endpoints: &[T]) -> Vec<String> {
    endpoints.iter().map(ToString::to_string).collect()
}

fn connect(text: &str) -> Connect {
    text.parse::<Endpoint>().expect("legal").into()
}

#[test]
fn what_is_connected_to_may_have_topics_of_its_own() {
    let config = read(
        "[[proxy]]\nkind = 'forwarder'\nbackend.bind = 'tcp://*:1'\nfrontend.subscribe = 'all'\n\
         frontend.connect = ['tcp://a:2', { endpoint = 'tcp://b:3', subscribe = ['eu.', 'us.'] },\n\
         { endpoint = 'tcp://c:4', subscribe = 'one' }, { endpoint = 'tcp://d:5' }]\n",
    );
    let topics = |topics: &[&str], endpoint| Connect {
        subscribe: topics.iter().map(ToString::to_string).collect(),
        ..connect(endpoint)
    };
    let expected = [
        connect("tcp://a:2"),
        topics(&["eu.", "us."], "tcp://b:3"),
        topics(&["one"], "tcp://c:4"),
        connect("tcp://d:5"),
    ];
    assert_eq!(config.proxies[0].frontend.connect, expected);
    assert_eq!(config.proxies[0].frontend.options.subscribe, ["all"]);
}

#[test]
fn the_embedded_default_is_one_of_each_on_loopback() {
    let config = Config::embedded_default();
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    let mut port = 5559;
    for (proxy, kind) in config.proxies.iter().zip(Kind::ALL) {
        assert_eq!((proxy.kind, proxy.name.as_str()), (*kind, kind.name));
        for side in SocketName::SIDES {
            let SocketConfig {
                bind,
                connect,
                options,
            } = proxy.socket(side);
            assert_eq!(texts(bind), [format!("tcp://127.0.0.1:{port}")]);
            assert_eq!((connect.len(), options), (0, &SocketOptions::default()));
            port += 1;
        }
    }
    assert_eq!(port, 5565);
}

#[test]
fn every_way_of_writing_a_side_means_the_same() {
    let expected = read(
        "[[proxy]]\nkind = 'queue'\n\
         [proxy.frontend]\nbind = ['tcp://*:1']\nsndhwm = 7\n\
         [proxy.backend]\nconnect = ['tcp://a:2', 'tcp://b:3']\n",
    );
    assert_eq!(texts(&expected.proxies[0].frontend.bind), ["tcp://*:1"]);
    assert_eq!(
        expected.proxies[0].backend.connect,
        ["tcp://a:2", "tcp://b:3"].map(connect)
    );
    assert_eq!(expected.proxies[0].frontend.options.sndhwm, 7);
    assert_eq!(expected.proxies[0].backend.options.sndhwm, 1000);
    for text in [
        "[[proxy]]\nkind = 'queue'\nfrontend = { bind = 'tcp://*:1', sndhwm = 7 }\n\
         backend = { connect = ['tcp://a:2', 'tcp://b:3'] }\n",
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*:1'\nfrontend.sndhwm = 0x7\n\
         backend.connect = ['tcp://a:2', 'tcp://b:3']\n",
        "proxy = [{ kind = 'queue', frontend = { bind = 'tcp://*:1', sndhwm = +7 },\n\
         backend.connect = ['tcp://a:2', 'tcp://b:3'] }]\n",
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn options_reach_every_side_that_does_not_say_otherwise() {
    let config = read(
        "drain_timeout = 0\n\
         [[proxy]]\nkind = 'streamer'\nfrontend.bind = 'tcp://*:1'\n\
         backend = { bind = 'tcp://*:2', maxmsgsize = 1_000 }\n\
         [options]\nmaxmsgsize = 2000\nhandshake_ivl = 0\n",
    );
    assert_eq!(config.drain_timeout, Duration::ZERO);
    assert_eq!(config.proxies[0].frontend.options.maxmsgsize, 2000);
    assert_eq!(config.proxies[0].backend.options.maxmsgsize, 1000);
    assert_eq!(
        config.proxies[0].backend.options.handshake_ivl,
        Duration::ZERO
    );
}

#[test]
fn every_option_of_the_table_is_a_key() {
    for option in SocketOption::ALL {
        let value = match (option.kind, option.default_value()) {
            (_, OptionValue::Flag(flag)) => OptionValue::Flag(!flag),
            (ValueKind::Number { max, .. }, OptionValue::Number(-1)) => OptionValue::Number(max),
            (ValueKind::Number { max, .. }, OptionValue::Number(number)) => {
                OptionValue::Number(max.min(number + 1))
            }
            (ValueKind::Choice(names), _) => {
                OptionValue::Text(names.last().expect("a choice").to_string())
            }
            // As good as any; the tests of the table have those that are more than text.
            (_, other) => other,
        };
        let text = format!(
            "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*:1'\nbackend.bind = 'tcp://*:2'\n\
             backend.{} = {value}\n",
            option.name
        );
        assert_eq!(
            option.get(&read(&text).proxies[0].backend.options),
            value,
            "{}",
            option.name
        );
    }
}

#[test]
fn options_have_the_types_of_toml() {
    let config = read(
        "[options]\ntcp_accept_filter = ['127.0.0.0/8', '::1']\nipv6 = true\ntcp_keepalive = -1\n\
         bindtodevice = 'lo'\n\
         [[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*:1'\n\
         backend = { bind = 'tcp://*:2', tcp_accept_filter = '10.0.0.0/8' }\n",
    );
    let [frontend, backend] = SocketName::SIDES.map(|side| &config.proxies[0].socket(side).options);
    let filter = SocketOption::find("tcp_accept_filter").expect("an option");
    assert_eq!(
        filter.get(frontend).to_string(),
        r#"["127.0.0.0/8", "::1/128"]"#
    );
    assert_eq!(filter.get(backend).to_string(), r#"["10.0.0.0/8"]"#);
    assert_eq!(
        (
            frontend.ipv6,
            frontend.tcp_keepalive,
            &*frontend.bindtodevice
        ),
        (true, None, "lo")
    );
}

#[test]
fn proxies_without_a_name_are_called_by_their_kind_and_a_number() {
    let mut text = String::new();
    for (index, name) in ["", "name = 'queue2'", "", ""].iter().enumerate() {
        text.push_str(&format!(
            "[[proxy]]\nkind = 'queue'\n{name}\nfrontend.bind = 'tcp://*:1{index}'\n\
             backend.bind = 'tcp://*:2{index}'\n"
        ));
    }
    let config = read(&text);
    let names: Vec<&str> = config
        .proxies
        .iter()
        .map(|proxy| proxy.name.as_str())
        .collect();
    assert_eq!(names, ["queue", "queue2", "queue3", "queue4"]);
}

#[test]
fn refusals_name_line_and_key_and_say_what_to_do() {
    for (text, expected) in WRONG_AT_THE_TOP.iter().chain(WRONG_IN_A_PROXY) {
        let refusal = refusal(text);
        assert!(
            refusal.contains(expected),
            "{text}\nexpected: {expected}\nfound: {refusal}"
        );
    }
    for (text, expected) in WRONG_TOGETHER {
        let text = format!("{text}backend.bind = 'tcp://*:2'\n");
        let refusal = refusal(&text);
        assert!(
            refusal.contains(expected),
            "{text}\nexpected: {expected}\nfound: {refusal}"
        );
    }
}

#[test]
fn a_name_that_comes_twice_is_refused_at_the_second() {
    let text = "[[proxy]]\nkind = 'queue'\nname = 'a'\nfrontend.bind = 'tcp://*:1'\n\
                backend.bind = 'tcp://*:2'\n[[proxy]]\nkind = 'queue'\nname = 'a'\n\
                frontend.bind = 'tcp://*:3'\nbackend.bind = 'tcp://*:4'\n";
    assert_eq!(
        refusal(text),
        "test.toml:8: proxy.name: another proxy is called \"a\": give one of them another name"
    );
}

#[test]
fn every_damaged_text_is_read_or_refused_in_one_line() {
    let whole = Config::DEFAULT_TOML;
    let lines = whole.lines().count();
    let refuse_well = |text: &str| {
        if let Err(error) = Config::from_toml(text, "test.toml") {
            assert!(error.line <= lines, "{error}");
            assert!(!error.to_string().contains('\n'), "{error}");
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

const WRONG_AT_THE_TOP: &[(&str, &str)] = &[
    ("", "test.toml: there is no proxy: add a [[proxy]] table"),
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
        "test.toml:1: z: unknown key: write one of drain_timeout",
    ),
    (
        "drain_timeout = '5s'",
        "test.toml:1: drain_timeout: write a whole number of ms: this is",
    ),
    (
        "drain_timeout = 1.5",
        "drain_timeout: write a whole number of ms: this is of type float",
    ),
    ("drain_timeout = -1", "drain_timeout: -1 is out of range"),
    (
        "drain_timeout = 2147483648",
        "write a number of ms from 0 to 2147483647",
    ),
    (
        "options = 3",
        "test.toml:1: options: this must be a table, it is of type integer",
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
        "test.toml:1: proxy: write [[proxy]], in two brackets",
    ),
    ("proxy = [3]", "test.toml:1: proxy: this must be a table"),
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
        "test.toml:3: proxy.sndhwm: options belong to a",
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
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = ['tcp://*:1',\n\n'udp://x']",
        "test.toml:5: proxy.frontend.bind: \"udp://x\" has the transport \"udp\"",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nbackend.connect = 'tcp://*:1'",
        "test.toml:3: proxy.backend.connect: \"tcp://*:1\" names no host to connect to",
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
        "test.toml:3: proxy.frontend.bind: the key says already whether to bind",
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
        "test.toml:3: proxy.frontend.connect: a ROUTER subscribes to nothing",
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
        "[[proxy]]\nkind = 'queue'\nname = 'two words'\nfrontend.bind = 'tcp://*:1'\n",
        "test.toml:3: proxy.name: \"two words\" is no name",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = ['tcp://*:1',\n 'tcp://127.0.0.1:2']\n",
        "test.toml:5: proxy.backend.bind: tcp://*:2 is bound by the frontend of queue",
    ),
    (
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*:1'\nfrontend.reconnect_ivl = 9000\n",
        "test.toml:3: proxy.frontend: reconnect_ivl_max (5000 ms) is below reconnect_ivl",
    ),
];

#[test]
fn any_two_sockets_are_written_on_their_sides() {
    let text = "memory_limit = 1000\n[[proxy]]\n\
                frontend = { socket = 'pull', bind = 'tcp://*:1' }\n\
                backend = { socket = 'PUB', bind = 'tcp://*:2' }\n\
                [[proxy]]\nfrontend = { socket = 'REP', bind = 'tcp://*:3' }";
    let config = Config::from_toml(text, "test.toml").expect("legal");
    assert_eq!(config.memory_limit, 1000);
    assert_eq!(Ok(config.proxies[0].kind), "PULL:PUB".parse());
    assert_eq!(Ok(config.proxies[1].kind), "REP".parse());
    let refusals = [
        (
            "kind = 'queue'\nfrontend.socket = 'REP'",
            "proxy.kind: the sides say their sockets",
        ),
        (
            "frontend.socket = 'PULL'\nbackend.socket = 'SUB'",
            "both sides only receive",
        ),
        ("frontend.socket = 'RAP'", "unknown socket type \"RAP\""),
        ("frontend.socket = 'SUB'", "SUB alone makes no proxy"),
        ("backend.socket = 'SUB'", "the frontend needs a socket too"),
    ];
    for (proxy, expected) in refusals {
        let text = format!("[[proxy]]\n{proxy}\n");
        let refusal = Config::from_toml(&text, "test.toml")
            .expect_err(proxy)
            .to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }
}

/// The beginning of a proxy in a file.
const SIDES: &str = "[[proxy]]\nkind = 'queue'\nname = 'q'\n\
                     frontend.bind = 'tcp://*:1'\nbackend.bind = 'tcp://*:2'\n";

#[test]
fn captures_controls_and_recordings_are_read() {
    let text = format!(
        "{SIDES}capture = {{ bind = 'tcp://*:3', socket = 'PUSH', format = 'proxy', sndhwm = 7 }}\n\
         control.connect = 'tcp://a:4'\n\
         record = {{ path = 'q.zrec', files_max = 3, age_max = 60000 }}\n"
    );
    let proxy = &Config::from_toml(&text, "test.toml")
        .expect("legal")
        .proxies[0];
    let CaptureConfig {
        format,
        in_prefix,
        out_prefix,
        socket,
        socket_type,
    } = &proxy.capture;
    assert_eq!(
        (*format, *socket_type),
        (CaptureFormat::Proxy, SocketType::Push)
    );
    assert_eq!((in_prefix.as_str(), out_prefix.as_str()), ("in", "out"));
    assert_eq!(
        (texts(&socket.bind), socket.options.sndhwm),
        (vec!["tcp://*:3".to_owned()], 7)
    );
    assert_eq!(proxy.control.socket_type, SocketType::Rep);
    let control = &proxy.control.socket.connect;
    assert_eq!(control[0].endpoint.to_string(), "tcp://a:4");
    let expected = RecordConfig {
        age_max: Some(Duration::from_secs(60)),
        files_max: 3,
        ..RecordConfig::new("q.zrec")
    };
    assert_eq!(proxy.record, Some(expected));
}

#[test]
fn wrong_captures_controls_and_recordings_are_refused() {
    for (line, expected) in [
        (
            "capture.socket = 'SUB'",
            "test.toml:6: proxy.capture.socket: a capture cannot be SUB",
        ),
        (
            "capture.format = 'pcap'",
            "test.toml:6: proxy.capture.format: unknown format",
        ),
        (
            "capture.in_prefix = 'out'",
            "test.toml:6: proxy.capture.in_prefix: prefixes must differ",
        ),
        (
            "control.socket = 'DEALER'",
            "proxy.control.socket: a control cannot be DEALER",
        ),
        (
            "control.in_prefix = 'a'",
            "proxy.control.in_prefix: unknown key",
        ),
        (
            "capture.bind = 'tcp://*:2'",
            "proxy.capture.bind: tcp://*:2 is bound by the backend",
        ),
        (
            "record = { files_max = 2 }",
            "proxy.record: a recording needs a path",
        ),
        (
            "record = { path = 'a', size = 2 }",
            "proxy.record.size: unknown key",
        ),
    ] {
        let refusal = refusal(&format!("{SIDES}{line}\n"));
        assert!(refusal.contains(expected), "{refusal}");
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
        let error = Config::from_toml(&text, "\u{1b}.toml").expect_err(start);
        let shown = error.to_string();
        assert!(shown.len() < 1200, "{start}: {} bytes", shown.len());
        assert!(!shown.contains(zmtp::is_hidden), "{shown:?}");
    }
}

#[test]
fn a_text_that_is_too_large_is_not_parsed() {
    let text = "\n".repeat(CONFIG_SIZE_MAX + 1);
    let error = Config::from_toml(&text, "a.toml").expect_err("too large");
    assert!(
        error.sentence.contains("more than 8388608 bytes"),
        "{error}"
    );
    let error = Config::from_toml(&text[1..], "a.toml").expect_err("nothing to do");
    assert!(error.sentence.contains("no proxy"), "{error}");
}

#[test]
fn proxies_without_names_are_numbered_around_those_with_names() {
    let text = r#"
        [[proxy]]
        kind = "queue"
        frontend = { bind = "inproc://1" }
        backend = { bind = "inproc://2" }
        [[proxy]]
        kind = "queue"
        name = "queue2"
        frontend = { bind = "inproc://3" }
        backend = { bind = "inproc://4" }
        [[proxy]]
        kind = "queue"
        frontend = { bind = "inproc://5" }
        backend = { bind = "inproc://6" }
    "#;
    let config = Config::from_toml(text, "a.toml").expect("legal");
    let names: Vec<&str> = config.proxies.iter().map(|proxy| &*proxy.name).collect();
    assert_eq!(names, ["queue", "queue2", "queue3"]);
}

/// What a quadratic check would cost 100 times as much.
#[test]
#[expect(clippy::disallowed_methods, reason = "a ratio of two times")]
fn ten_times_the_proxies_take_about_ten_times_as_long() {
    use std::fmt::Write as _;
    let text = |count: u32| {
        let mut text = String::new();
        for index in 0..count {
            let (front, back) = (2 * index + 1, 2 * index + 2);
            let _ = write!(
                text,
                "[[proxy]]\nkind = \"queue\"\nfrontend = {{ bind = \"inproc://{front}\" }}\n\
                 backend = {{ bind = \"inproc://{back}\" }}\n\
                 control = {{ connect = \"inproc://{front}\" }}\n"
            );
        }
        text
    };
    let time = |text: &str| {
        let runs = (0..3).map(|_| {
            let before = std::time::Instant::now();
            Config::from_toml(text, "a.toml").expect("legal");
            before.elapsed()
        });
        runs.min().expect("three")
    };
    let (small, large) = (text(300), text(3000));
    let (small_time, large_time) = (time(&small), time(&large));
    assert!(
        large_time < 40 * small_time,
        "{small_time:?} for 300, {large_time:?} for 3000"
    );
}

#[test]
fn options_without_effect_on_captures_and_controls_are_refused_with_the_reason() {
    for (lines, sentence) in [
        (
            "capture = { bind = 'tcp://*:3', immediate = false }",
            "proxy.capture: immediate = false has no effect on a capture, links of",
        ),
        (
            "capture = { bind = 'tcp://*:3', overflow = 'block' }",
            "has no effect on a capture, a PUB never waits for its subscribers",
        ),
        (
            "capture = { bind = 'tcp://*:3', xpub_nodrop = true }",
            "xpub_nodrop = true has no effect on a capture, copies never wait for a PUB",
        ),
        (
            "capture = { bind = 'tcp://*:3', socket = 'PUSH', balance = 'ready' }",
            "only the readers of a PUSH or DEALER capture take turns, and they never answer",
        ),
        (
            "control = { bind = 'tcp://*:3', overflow = 'block' }",
            "has no effect on a control",
        ),
        (
            "control = { bind = 'tcp://*:3', rcvhwm = 5 }",
            "rcvhwm = 5 has no effect on a control, nothing that",
        ),
    ] {
        let text = format!("{STREAMER}{lines}\n");
        let error = Config::from_toml(&text, "test.toml").expect_err(lines);
        let error = error.to_string();
        assert!(error.contains(sentence), "{error}");
        assert!(error.starts_with("test.toml:5: proxy."), "{error}");
    }
}

#[test]
fn a_capture_blocks_only_if_it_is_told_to_itself() {
    let capture = "capture = { bind = 'tcp://*:3', socket = 'PUSH' }";
    let all = "[options]\noverflow = 'block'\nimmediate = false\nsndhwm = 7\n";
    let text = format!("{all}{STREAMER}{capture}\n");
    let config = Config::from_toml(&text, "test.toml").expect("legal");
    let proxy = &config.proxies[0];
    assert_eq!(proxy.backend.options.overflow, Overflow::Block);
    let options = &proxy.capture.socket.options;
    let found = (options.overflow, options.immediate, options.sndhwm);
    assert_eq!(found, (Overflow::Standard, true, 7));
    for socket in ["PUSH", "PAIR", "DEALER"] {
        let capture = format!("{{ bind = 'tcp://*:3', socket = '{socket}', overflow = 'block' }}");
        let text = format!("{STREAMER}capture = {capture}\n");
        let config = Config::from_toml(&text, "test.toml").expect("legal");
        let overflow = config.proxies[0].capture.socket.options.overflow;
        assert_eq!(overflow, Overflow::Block);
    }
}

const STREAMER: &str = "[[proxy]]\nkind = 'streamer'\n\
     frontend.bind = 'tcp://*:1'\nbackend.bind = 'tcp://*:2'\n";
