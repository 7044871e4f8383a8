//! Texts and their meaning.

use super::refusals::refusal;
use super::*;
use crate::{Endpoint, Overflow, RoleConfig, RoleSide, TopicRule, Value as OptionValue, ValueKind};
use std::time::Duration;

fn read(text: &str) -> Config {
    Config::from_toml(text, "test.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn texts<T: ToString>(endpoints: &[T]) -> Vec<String> {
    endpoints.iter().map(ToString::to_string).collect()
}

fn connect(text: &str) -> Connect {
    text.parse::<Endpoint>().expect("legal").into()
}

#[test]
fn an_endpoint_to_connect_to_may_have_topics_of_its_own() {
    let config = read(
        "[[proxy]]\nkind = 'forwarder'\nbackend.bind = 'tcp://[::1]:1'\n\
         frontend.subscribe = 'all'\n\
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
fn the_embedded_default_has_one_proxy_of_each_kind_on_loopback() {
    let config = Config::embedded_default();
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    let mut port = 5559;
    for (proxy, kind) in config.proxies.iter().zip(Kind::ALL) {
        assert_eq!((proxy.kind, proxy.name.as_str()), (*kind, kind.name));
        for side in SocketName::SIDES {
            let SocketConfig {
                admission: _,
                bind,
                connect,
                mechanism: _,
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
         [proxy.frontend]\nbind = ['tcp://127.0.0.1:1']\nsndhwm = 7\n\
         [proxy.backend]\nconnect = ['tcp://a:2', 'tcp://b:3']\n",
    );
    assert_eq!(
        texts(&expected.proxies[0].frontend.bind),
        ["tcp://127.0.0.1:1"]
    );
    assert_eq!(
        expected.proxies[0].backend.connect,
        ["tcp://a:2", "tcp://b:3"].map(connect)
    );
    assert_eq!(expected.proxies[0].frontend.options.sndhwm, 7);
    assert_eq!(expected.proxies[0].backend.options.sndhwm, 1000);
    for text in [
        "[[proxy]]\nkind = 'queue'\nfrontend = { bind = 'tcp://127.0.0.1:1', sndhwm = 7 }\n\
         backend = { connect = ['tcp://a:2', 'tcp://b:3'] }\n",
        "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:1'\nfrontend.sndhwm = 0x7\n\
         backend.connect = ['tcp://a:2', 'tcp://b:3']\n",
        "proxy = [{ kind = 'queue', frontend = { bind = 'tcp://127.0.0.1:1', sndhwm = +7 },\n\
         backend.connect = ['tcp://a:2', 'tcp://b:3'] }]\n",
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
}

#[test]
fn shared_options_apply_to_every_side_that_does_not_set_them() {
    let config = read(
        "drain_timeout = 0\n\
         [[proxy]]\nkind = 'streamer'\nfrontend.bind = 'tcp://127.0.0.1:1'\n\
         backend = { bind = 'tcp://127.0.0.1:2', maxmsgsize = 1_000 }\n\
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
            // Any value will do; the tests of the table cover those with further rules.
            (_, other) => other,
        };
        let text = format!(
            "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://[::1]:1'\n\
             backend.bind = 'tcp://[::1]:2'\n\
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
         [[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://127.0.0.1:1'\n\
         backend = { bind = 'tcp://127.0.0.1:2', tcp_accept_filter = '10.0.0.0/8' }\n",
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
fn proxies_without_a_name_are_named_after_their_kind() {
    let mut text = String::new();
    for (index, name) in ["", "name = 'queue2'", "", ""].iter().enumerate() {
        text.push_str(&format!(
            "[[proxy]]\nkind = 'queue'\n{name}\nfrontend.bind = 'tcp://127.0.0.1:1{index}'\n\
             backend.bind = 'tcp://127.0.0.1:2{index}'\n"
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
fn any_two_sockets_are_written_on_their_sides() {
    let text = "memory_limit = 1000\n[[proxy]]\n\
                frontend = { socket = 'pull', bind = 'tcp://127.0.0.1:1' }\n\
                backend = { socket = 'PUB', bind = 'tcp://127.0.0.1:2' }\n\
                [[proxy]]\nfrontend = { socket = 'REP', bind = 'tcp://127.0.0.1:3' }";
    let config = Config::from_toml(text, "test.toml").expect("legal");
    assert_eq!(config.memory_limit, 1000);
    assert_eq!(Ok(config.proxies[0].kind), "PULL:PUB".parse());
    assert_eq!(Ok(config.proxies[1].kind), "REP".parse());
    let refusals = [
        (
            "kind = 'queue'\nfrontend.socket = 'REP'",
            "proxy.kind: the sockets determine the kind",
        ),
        (
            "frontend.socket = 'PULL'\nbackend.socket = 'SUB'",
            "both sides only receive",
        ),
        ("frontend.socket = 'RAP'", "unknown socket type \"RAP\""),
        ("frontend.socket = 'SUB'", "SUB alone cannot echo messages"),
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

#[test]
fn captures_controls_and_recordings_are_read() {
    let sides = "[[proxy]]\nkind = 'queue'\nname = 'q'\n\
                 frontend.bind = 'tcp://127.0.0.1:1'\nbackend.bind = 'tcp://127.0.0.1:2'\n";
    let text = format!(
        "{sides}capture = {{ bind = 'tcp://[::1]:3', socket = 'PUSH', \
         format = 'proxy', sndhwm = 7 }}\n\
         control.connect = 'tcp://a:4'\n\
         record = {{ path = 'q.zrec', files = 3, age = '60s' }}\n"
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
        (vec!["tcp://[::1]:3".to_owned()], 7)
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
    for (line, expected) in WRONG_BESIDE_THE_SIDES {
        let refusal = refusal(&format!("{sides}{line}\n"));
        assert!(refusal.contains(expected), "{refusal}");
    }
}

const WRONG_BESIDE_THE_SIDES: &[(&str, &str)] = &[
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
        "capture.bind = 'tcp://127.0.0.1:2'",
        "proxy.capture.bind: tcp://127.0.0.1:2 is bound by the backend",
    ),
    (
        "record = { files = 2 }",
        "proxy.record: a recording needs a path",
    ),
    (
        "record = { path = 'a', sizes = 2 }",
        "proxy.record.sizes: unknown key: did you mean \"size\"?",
    ),
    (
        "record = { path = 'a', age_max = 60000 }",
        "proxy.record.age_max: unknown key: it was renamed to \"age\"",
    ),
    (
        "record = { path = 'a', age = 60 }",
        "proxy.record.age: write the unit too: age = \"60s\" or age = \"60ms\"",
    ),
];

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

#[test]
fn times_and_sizes_may_have_units() {
    let config = read(
        "drain_timeout = '1.5s'\nmemory_limit = '64MiB'\n[options]\nsndhwm_bytes = '10MB'\n\
         handshake_ivl = '2min'\ntcp_keepalive_idle = '1h'\nmaxmsgsize = 1_000\n\
         [[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://[::1]:1'\n\
          backend.bind = 'tcp://[::1]:2'\n\
         record = { path = 'a', age = '1d', size = '100MB', buffer = '1M', files = 7 }\n",
    );
    assert_eq!(config.drain_timeout, Duration::from_millis(1500));
    assert_eq!(config.memory_limit, 64 << 20);
    let proxy = &config.proxies[0];
    let options = &proxy.frontend.options;
    assert_eq!(
        (options.sndhwm_bytes, options.maxmsgsize),
        (10_000_000, 1000)
    );
    assert_eq!(options.handshake_ivl, Duration::from_secs(120));
    assert_eq!(options.tcp_keepalive_idle, Some(3600));
    let expected = RecordConfig {
        age_max: Some(Duration::from_secs(86_400)),
        buffer_size_max: 1 << 20,
        file_size_max: 100_000_000,
        files_max: 7,
        ..RecordConfig::new("a")
    };
    assert_eq!(proxy.record, Some(expected));
    for (text, expected) in [
        (
            "memory_limit = '64 MoB'",
            "memory_limit: cannot read \"64 MoB\": write a number of bytes",
        ),
        (
            "memory_limit = '-1'",
            "memory_limit: -1 is out of range: write a number of bytes from 0",
        ),
        (
            "drain_timeout = '30d'",
            "drain_timeout: 30d is out of range: write a number of ms from 0",
        ),
        (
            "[options]\nhandshake_ivl = '1us'",
            "options.handshake_ivl: cannot read \"1us\"",
        ),
        (
            "[options]\nsndhwm = '1k'",
            "options.sndhwm: write a whole number of messages: this is",
        ),
        (
            "[options]\ntcp_keepalive_idle = '10ms'",
            "a number of s, or a time such as \"5s\"",
        ),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(expected), "{expected}\n{refusal}");
    }
}

#[test]
fn a_proxy_of_any_two_sockets_may_have_the_kind_proxy() {
    let kind = |lines: &str| {
        let text = format!("[[proxy]]\n{lines}\nfrontend.bind = 'tcp://127.0.0.1:1'\n");
        Config::from_toml(&text, "test.toml").map(|config| config.proxies[0].kind)
    };
    let pair = "kind = 'proxy'\nfrontend.socket = 'PULL'\n\
                backend = { socket = 'PUB', bind = 'tcp://127.0.0.1:2' }";
    assert_eq!(kind(pair), Ok("PULL:PUB".parse().expect("legal")));
    let echo = "kind = 'echo'\nfrontend.socket = 'REP'";
    assert_eq!(kind(echo), Ok("REP".parse().expect("legal")));
    for (lines, expected) in [
        (
            "kind = 'proxy'",
            "proxy.kind: a proxy needs a socket on each side: write frontend.s",
        ),
        (
            "kind = 'proxy'\nfrontend.socket = 'PULL'",
            "proxy.kind: a proxy needs a socket on each",
        ),
        (
            "kind = 'echo'",
            "proxy.kind: an echo needs a socket on the frontend alone",
        ),
        (
            "kind = 'prox'",
            "proxy.kind: unknown kind \"prox\": did you mean \"proxy\"?",
        ),
    ] {
        let error = kind(lines).expect_err(lines).to_string();
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

/// A quadratic check would cost 100 times as much.
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
fn a_capture_blocks_only_by_its_own_option() {
    let capture = "capture = { bind = 'tcp://127.0.0.1:3', socket = 'PUSH' }";
    let all = "[options]\noverflow = 'block'\nimmediate = false\nsndhwm = 7\n";
    let text = format!("{all}{STREAMER}{capture}\n");
    let config = Config::from_toml(&text, "test.toml").expect("legal");
    let proxy = &config.proxies[0];
    assert_eq!(proxy.backend.options.overflow, Overflow::Block);
    let options = &proxy.capture.socket.options;
    let found = (options.overflow, options.immediate, options.sndhwm);
    assert_eq!(found, (Overflow::Standard, true, 7));
    for socket in ["PUSH", "PAIR", "DEALER"] {
        let capture =
            format!("{{ bind = 'tcp://127.0.0.1:3', socket = '{socket}', overflow = 'block' }}");
        let text = format!("{STREAMER}capture = {capture}\n");
        let config = Config::from_toml(&text, "test.toml").expect("legal");
        let overflow = config.proxies[0].capture.socket.options.overflow;
        assert_eq!(overflow, Overflow::Block);
    }
}

pub(super) const STREAMER: &str = "[[proxy]]\nkind = 'streamer'\n\
     frontend.bind = 'tcp://127.0.0.1:1'\nbackend.bind = 'tcp://127.0.0.1:2'\n";

#[test]
fn the_root_of_a_file_permits_insecure_listeners_everywhere() {
    let sockets = "[[proxy]]\nkind = 'queue'\nfrontend.bind = 'tcp://*:1'\n\
                   backend = { bind = 'tcp://127.0.0.1:2', insecure = false }\n\
                   capture.bind = 'tcp://*:3'\ncontrol.bind = 'tcp://*:4'\n";
    let config = read(&format!("insecure = true\n{sockets}"));
    let insecure = SocketName::ALL.map(|name| config.proxies[0].socket(name).options.insecure);
    assert_eq!(insecure, [true, false, true, true, true, false]);
    let errors = Config::from_toml(sockets, "test.toml").expect_err("every peer may come in");
    assert_eq!(errors.to_string().lines().count(), 3, "{errors}");
}

/// A misspelt restriction is one error, not two.
#[test]
fn a_listener_beyond_loopback_is_no_error_beside_another() {
    let text = "[[proxy]]\nkind = 'queue'\nbackend.bind = 'tcp://127.0.0.1:2'\n\
                frontend = { bind = 'tcp://*:1', tcp_acept_filter = '10.0.0.0/8' }\n";
    let errors = Config::from_toml(text, "test.toml").expect_err("an unknown key");
    assert_eq!(errors.to_string().lines().count(), 1, "{errors}");
}

const ROLES: &str = "
[role.sensor]
publish = ['s/%u/', '=alarm']
publish_deny = 's/%u/x'
subscribe = 'config/'
max_connections = 2
max_subscriptions = 10
message_rate = 100
byte_rate = '64KiB'

[role.operator]
subscribe = ''
proxies = 'weather'
sides = ['subscriber', 'control']

[role.default]

[users]
ann = 'operator'
\"bob b\" = 'sensor'

[[proxy]]
kind = 'forwarder'
name = 'weather'
frontend.bind = 'tcp://[::1]:1'
backend.bind = 'tcp://[::1]:2'
";

#[test]
fn roles_and_users_are_tables() {
    let config = read(ROLES);
    let rules = |texts: &[&str]| -> Vec<TopicRule> {
        let rules = texts.iter().map(|text| text.parse().expect(text));
        rules.collect()
    };
    let role = |name: &str| {
        let mut roles = config.roles.iter();
        roles.find(|role| role.name == name).expect(name)
    };
    let sensor = RoleConfig {
        byte_rate: 64 << 10,
        max_connections: 2,
        max_subscriptions: 10,
        message_rate: 100,
        name: "sensor".to_owned(),
        publish: rules(&["s/%u/", "=alarm"]),
        publish_deny: rules(&["s/%u/x"]),
        subscribe: rules(&["config/"]),
        ..RoleConfig::default()
    };
    assert_eq!(*role("sensor"), sensor);
    let operator = RoleConfig {
        name: "operator".to_owned(),
        proxies: Some(vec!["weather".to_owned()]),
        sides: Some(vec![RoleSide::Subscriber, RoleSide::Control]),
        subscribe: rules(&[""]),
        ..RoleConfig::default()
    };
    assert_eq!(*role("operator"), operator);
    assert_eq!(role("default").sides, None);
    let users: Vec<(&str, &str)> = config.users.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(users, [("ann", "operator"), ("bob b", "sensor")]);
}

#[test]
fn wrong_roles_are_refused_where_they_are() {
    for (from, to, expected) in [
        (
            "subscribe = ''",
            "subscribes = ''",
            "test.toml:12: role.operator.subscribes: unknown key",
        ),
        (
            "'=alarm'",
            "'%alarm'",
            "test.toml:3: role.sensor.publish: \"%alarm\" has a %",
        ),
        (
            "'control'",
            "'boss'",
            "test.toml:14: role.operator.sides: unknown side \"boss\"",
        ),
        (
            "'weather'",
            "'wether'",
            "no proxy is called \"weather\": name one that is configured",
        ),
        (
            "= 100",
            "= -1",
            "test.toml:8: role.sensor.message_rate: -1 is out of range",
        ),
        (
            "ann = 'operator'",
            "ann = 'boss'",
            "test.toml:19: users.ann: ann has the role \"boss\", which is not configured: add \
             [role.boss]",
        ),
        ("[role.default]", "[role.'a b']", "\"a b\" is not a name"),
    ] {
        let text = if from == "'weather'" {
            ROLES.replace("name = 'weather'", "name = 'wether'")
        } else {
            ROLES.replacen(from, to, 1)
        };
        let refusal = refusal(&text);
        assert!(
            refusal.contains(expected),
            "expected: {expected}\nfound: {refusal}"
        );
    }
}
