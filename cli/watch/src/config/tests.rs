//! Texts of configurations, legal and not.

use super::*;

fn read(text: &str) -> Config {
    Config::from_toml(text, "w.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

#[track_caller]
fn refuse(text: &str, expected: &str) {
    let errors = Config::from_toml(text, "w.toml").expect_err("it is wrong");
    assert!(errors.to_string().contains(expected), "{errors}");
}

const CAMERA: &str = r#"
[[proxy]]
kind = "forwarder"

[[watch]]
name = "camera"
silent = { proxy = "forwarder", side = "frontend", topic = "weather." }
after = "30s"
grace = 500
confirm = 3
action = ["systemctl", "restart", "camera.service"]
action_timeout = "20s"
backoff = { first = "1s", factor = 3, max = "10s", reset_after = "1m" }
max_actions = 4
max_window = "2h"
escalate = ["/usr/local/bin/page-me"]
webhook = "http://127.0.0.1:8080/alert"
depends = ["emulator"]

[[watch]]
name = "emulator"
heartbeat = { type = "heartbeat", service = "emulator" }
start = ["emulator", "--port", "5009"]
action = [["rm", "-f", "lock"], ["touch", "ready"]]

[watcher]
broker = "ipc:///run/zmqd/zmqd.ctl"
events = "tcp://127.0.0.1:5007"
heartbeat = { tcp = "127.0.0.1:6005", zmtp = "tcp://127.0.0.1:6006", socket = "SUB" }
log = { path = "watch.log", size = "1MiB", age = "1d", files = 3 }
max_actions_per_minute = 7
storm_percent = 100
"#;

#[test]
fn every_key_has_its_place() {
    let config = read(CAMERA);
    let [camera, emulator] = &config.watches[..] else {
        panic!("two watches");
    };
    let side = Some(SocketName::Frontend);
    let silent = SignConfig::Silent(SilentConfig {
        identity: None,
        proxy: "forwarder".into(),
        side,
        topic: Some("weather.".into()),
    });
    assert_eq!(camera.sign, silent);
    assert_eq!(camera.grace, Duration::from_millis(500));
    assert_eq!((camera.confirm, camera.max_actions), (3, 4));
    assert_eq!(camera.max_window, Duration::from_secs(7200));
    assert_eq!(
        camera.actions[0].to_string(),
        "systemctl restart camera.service"
    );
    assert_eq!(camera.webhook.as_ref().map(|url| url.port), Some(8080));
    assert!(!camera.expect, "it may never have sent anything");
    assert!(emulator.expect, "it is started here");
    assert_eq!(emulator.actions.len(), 2);
    assert_eq!(
        emulator.start.as_ref().map(Command::program),
        Some("emulator")
    );
    assert_eq!(config.heartbeat_tcp(), Some("127.0.0.1:6005"));
    assert_eq!(config.watcher.heartbeat.socket, SocketType::Sub);
    assert_eq!(
        config.watcher.log.as_ref().map(|log| log.files_max),
        Some(3)
    );
    assert_eq!(
        (
            config.watcher.max_actions_per_minute,
            config.watcher.storm_percent
        ),
        (7, 100)
    );
    let delays = [1, 2, 3, 4, 1000].map(|action| camera.backoff.delay(action).as_secs());
    assert_eq!(delays, [1, 3, 9, 10, 10]);
}

#[test]
fn the_usual_port_opens_only_for_a_watch_that_waits_there() {
    assert_eq!(read("").heartbeat_tcp(), None);
    let waits = "[[watch]]\nname = \"a\"\nheartbeat = {}\n";
    assert_eq!(read(waits).heartbeat_tcp(), Some("localhost:5005"));
    let none = format!("{waits}[watcher]\nheartbeat.tcp = \"\"\n");
    assert_eq!(read(&none).heartbeat_tcp(), None);
}

#[test]
fn sockets_have_the_keys_of_a_broker() {
    let text = "insecure = true\n[watcher]\n\
                heartbeat = { zmtp = 'tcp://*:1', plain_users = 'u', insecure = true }\n\
                events = { bind = 'tcp://*:2', tcp_accept_filter = ['10.0.0.0/8', '::1'] }\n";
    let WatcherConfig {
        events, heartbeat, ..
    } = read(text).watcher;
    assert_eq!(heartbeat.zmtp.options.plain_users, "u");
    let networks = events.options.tcp_accept_filter.iter();
    let networks: Vec<String> = networks.map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
    let bound = [&events, &heartbeat.zmtp].map(|it| it.bind[0].to_string());
    assert_eq!(bound, ["tcp://*:2", "tcp://*:1"]);
    assert!(events.options.insecure, "as the root says");
    let mut config = read(text);
    let errors = config.load_keys("w.toml").expect_err("no such file");
    assert!(
        errors
            .to_string()
            .starts_with("w.toml: watcher.heartbeat: ")
    );
}

#[test]
fn an_exposed_endpoint_is_refused_at_its_line() {
    let exposed = "other machines can reach tcp://*:1";
    for (text, key) in [
        (
            "[watcher]\nevents = 'tcp://*:1'",
            "w.toml:2: watcher.events: ",
        ),
        (
            "[watcher.events]\n\nbind = 'tcp://*:1'",
            "w.toml:3: watcher.events.bind: ",
        ),
        (
            "[watcher.heartbeat]\nzmtp = 'tcp://*:1'",
            "w.toml:2: watcher.heartbeat.zmtp: ",
        ),
    ] {
        refuse(text, &format!("{key}{exposed}"));
        read(&format!("insecure = true\n{text}"));
    }
    for tcp in ["0.0.0.0:1", "[::]:1", "host:1", "192.0.2.7:1"] {
        let expected = format!("w.toml:1: watcher.heartbeat.tcp: other machines can reach {tcp}");
        refuse(&format!("watcher.heartbeat.tcp = '{tcp}'"), &expected);
    }
    for tcp in ["127.0.0.1:1", "[::1]:1", "localhost:1", ""] {
        read(&format!("watcher.heartbeat.tcp = '{tcp}'"));
    }
}

#[test]
fn errors_name_line_key_and_remedy() {
    let text = "[[watch]]\nname = \"a\"\nbroker = {}\nafter = \"soon\"\nconfirm = 0\nacton = []\n";
    let errors = Config::from_toml(text, "w.toml")
        .expect_err("three errors")
        .to_string();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(
        lines,
        [
            "w.toml:4: watch.after: cannot read \"soon\": write a time such as \"30s\"",
            "w.toml:5: watch.confirm: write a whole number from 1 to 1000",
            "w.toml:6: watch.acton: unknown key: did you mean \"action\"?",
        ]
    );
}

#[test]
fn wrong_watches_are_refused() {
    let watch = |keys: &str| format!("[[watch]]\nname = \"a\"\n{keys}\n");
    for (text, expected) in [
        (watch(""), "needs one sign of life"),
        (
            watch("broker = {}\nheartbeat = {}"),
            "needs one sign of life",
        ),
        (watch("broker = true"), "write broker = {}"),
        (watch("silent = {}"), "name the proxy"),
        (
            watch("stuck = { proxy = \"q\", side = \"left\" }"),
            "write frontend or backend",
        ),
        (watch("backlog = { proxy = \"q\" }"), "write a bound"),
        (watch("process = {}"), "write pid_file or unit"),
        (
            watch("broker = {}\naction = \"reboot\""),
            "as a list of texts",
        ),
        (watch("broker = {}\naction = []"), "as a list of texts"),
        (watch("broker = {}\nafter = 0"), "above zero"),
        (
            watch("broker = {}\ndepends = \"b\""),
            "no watch is called \"b\"",
        ),
        (watch("broker = {}\ndepends = \"a\""), "depends on itself"),
        (
            watch("broker = {}\nwebhook = \"https://a/\""),
            "only plain HTTP",
        ),
        (
            watch("broker = {}\nbackoff = { first = \"1h\" }"),
            "first is above max",
        ),
        (watch("broker = {}\nname = \"a b\""), "this is not TOML"),
        ("[[watch]]\nbroker = {}\n".to_owned(), "needs a name"),
        (
            "[[watch]]\nname = \"a b\"\nbroker = {}\n".to_owned(),
            "up to 64 letters",
        ),
        (watch("broker = {}").repeat(2), "two watches are called"),
        ("watch = 1".to_owned(), "in double brackets"),
        (
            "[watcher]\nheartbeat = { socket = \"REP\" }".to_owned(),
            "write PULL or SUB",
        ),
        ("[watcher]\nlog = {}".to_owned(), "a log needs a path"),
    ] {
        refuse(&text, expected);
    }
}

#[test]
fn urls_are_plain_http() {
    let url = Url::parse("http://[::1]:8080/a?b").expect("legal");
    assert_eq!(
        (&url.host[..], url.port, &url.path[..]),
        ("::1", 8080, "/a?b")
    );
    let url = Url::parse("http://host").expect("legal");
    assert_eq!(
        (&url.authority[..], url.port, &url.path[..]),
        ("host", 80, "/")
    );
    for text in [
        "",
        "host",
        "http://",
        "http://:80/",
        "http://a b/",
        "http://a:x/",
        "http://u@a/",
    ] {
        assert!(Url::parse(text).is_err(), "{text}");
    }
}
