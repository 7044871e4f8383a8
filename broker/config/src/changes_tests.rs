//! What differs is found, and making it leads from one configuration to the other.

use super::*;
use crate::{
    CaptureConfig, CaptureFormat, ClientKeys, ControlConfig, HttpToken, Kind, SocketOptions,
};
use std::sync::Arc;
use zmtp::curve::{CurveServer, SecretKey};

fn endpoint(port: u16) -> Endpoint {
    let text = format!("tcp://127.0.0.1:{port}");
    text.parse().expect("an endpoint")
}

fn proxy(name: &str, kind: &str, port: u16) -> ProxyConfig {
    let kind = Kind::from_name(kind).expect("a kind of the table");
    let mut proxy = ProxyConfig::new(kind, name);
    proxy.frontend.bind.push(endpoint(port));
    proxy.backend.bind.push(endpoint(port + 1));
    proxy
}

fn two() -> Config {
    Config {
        proxies: vec![proxy("a", "queue", 1), proxy("b", "streamer", 3)],
        ..Config::default()
    }
}

/// What `diff` says of a change to [`two`], and what is left to change when that is made.
fn told(change: impl FnOnce(&mut Config)) -> (Vec<String>, Vec<String>) {
    let (old, mut new) = (two(), two());
    change(&mut new);
    let changes = diff(&old, &new);
    let mut made = old;
    changes.apply_to(&mut made).expect("they fit");
    let left = diff(&made, &new);
    let lines = |changes: &Changes| changes.list.iter().map(Change::to_string).collect();
    (lines(&changes), lines(&left))
}

/// As [`told`] where nothing needs a restart.
fn made(change: impl FnOnce(&mut Config)) -> Vec<String> {
    let (told, left) = told(change);
    assert_eq!(left, [""; 0]);
    told
}

#[test]
fn the_address_for_http_changes_at_once_and_a_token_is_not_shown() {
    let address = |text: &str| Some(text.parse().expect("an address"));
    let lines = made(|config| config.http.address = address("127.0.0.1:9090"));
    assert_eq!(lines, ["http: 127.0.0.1:9090 (was off), at once"]);
    let mut old = two();
    old.http.address = address("127.0.0.1:9090");
    let mut new = old.clone();
    new.http.hosts = vec!["box".to_owned()];
    new.http.hides_samples = true;
    new.http.token = HttpToken::new("0123456789abcdef");
    let changes = diff(&old, &new);
    let lines: Vec<String> = changes.list.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["http: host names and samples and token changed, at once"]
    );
    changes.apply_to(&mut old).expect("it fits");
    assert_eq!(old, new);
}

#[test]
fn what_is_equal_does_not_differ() {
    assert_eq!(made(|_| {}), [""; 0]);
    assert_eq!(made(|config| config.proxies.reverse()), [""; 0]);
    // A capture that is not there has no options.
    let idle = |config: &mut Config| config.proxies[0].capture.socket.options.sndhwm = 7;
    assert_eq!(made(idle), [""; 0]);
}

#[test]
fn every_difference_is_a_line_with_its_key_and_its_time() {
    let lines = made(|config| {
        config.drain_timeout = Duration::from_secs(1);
        config.memory_limit = 0;
        let frontend = &mut config.proxies[0].frontend;
        frontend.options.sndhwm = 7;
        frontend.options.maxmsgsize = 8;
        frontend.bind.push(endpoint(9));
        frontend.connect.push(endpoint(10).into());
        config.proxies[1] = proxy("c", "queue", 11);
    });
    assert_eq!(
        lines,
        [
            "drain_timeout: 1000 ms (was 5000 ms), at once",
            "memory_limit: 0 bytes (was 536870912 bytes), at once",
            "b: proxy removed, at once",
            "a.frontend.sndhwm: 7 (was 1000), at once",
            "a.frontend.maxmsgsize: 8 (was 134217728), for new connections",
            "a.frontend.bind: tcp://127.0.0.1:9 added, at once",
            "a.frontend.connect: tcp://127.0.0.1:10 added, at once",
            "c: proxy added, at once",
        ]
    );
}

#[test]
fn roles_and_the_roles_of_users_change_at_once() {
    let role = |name: &str, message_rate| RoleConfig {
        message_rate,
        name: name.to_owned(),
        ..RoleConfig::default()
    };
    let (mut old, mut new) = (two(), two());
    old.roles = vec![role("gone", 0), role("other", 1), role("same", 0)];
    new.roles = vec![role("same", 0), role("new", 0), role("other", 2)];
    for (config, users) in [
        (&mut old, [("ann", "same"), ("bob", "gone")]),
        (&mut new, [("ann", "other"), ("eve", "new")]),
    ] {
        let users = users.map(|(user, role)| (user.to_owned(), role.to_owned()));
        config.users.extend(users);
    }
    let changes = diff(&old, &new);
    let lines: Vec<String> = changes.list.iter().map(Change::to_string).collect();
    assert_eq!(
        lines,
        [
            "role.gone: role removed, at once",
            "role.new: role added, at once",
            "role.other: role changed, at once",
            "users.ann: other (was same), at once",
            "users.bob: no role (was gone), at once",
            "users.eve: new (was no role), at once",
        ]
    );
    changes.apply_to(&mut old).expect("they fit");
    assert_eq!(diff(&old, &new).list.len(), 0);
}

#[test]
fn a_proxy_that_answers_itself_is_another_proxy() {
    let (mut old, mut new) = (two(), two());
    old.proxies[0].kind = "REP".parse().expect("a pair");
    new.proxies[0].kind = "REP:REQ".parse().expect("a pair");
    let changes = diff(&old, &new);
    let lines: Vec<String> = changes.list.iter().map(Change::to_string).collect();
    assert_eq!(
        lines,
        ["a: proxy removed, at once", "a: proxy added, at once"]
    );
    changes.apply_to(&mut old).expect("they fit");
    assert_eq!(diff(&old, &new).list.len(), 0);
}

#[test]
fn endpoints_are_counted() {
    let any: Endpoint = "tcp://127.0.0.1:0".parse().expect("an endpoint");
    let lines = made(|config| {
        let bind = &mut config.proxies[0].backend.bind;
        *bind = vec![any.clone(), any.clone()];
    });
    let line = |what| format!("a.backend.bind: {what}, at once");
    assert_eq!(
        lines,
        [
            line("tcp://127.0.0.1:2 removed"),
            line("tcp://127.0.0.1:0 added"),
            line("tcp://127.0.0.1:0 added"),
        ]
    );
}

#[test]
fn a_proxy_of_another_kind_is_another_proxy() {
    let lines = made(|config| config.proxies[0] = proxy("a", "forwarder", 1));
    assert_eq!(
        lines,
        ["a: proxy removed, at once", "a: proxy added, at once"]
    );
}

#[test]
fn what_needs_a_restart_is_named_and_left_out() {
    let (told, left) = told(|config| {
        config.proxies[0].frontend.options.backlog = 7;
    });
    let lines = ["a.frontend.backlog: 7 (was 4096), after a restart"];
    assert_eq!(told, lines);
    assert_eq!(left, lines);
}

#[test]
fn captures_controls_and_recordings_come_and_go() {
    let lines = made(|config| {
        config.proxies[0].capture.socket.bind.push(endpoint(9));
        config.proxies[0].control.socket.bind.push(endpoint(10));
        config.proxies[1].record = Some(RecordConfig::new("file"));
    });
    let expected = [
        "a.capture: added, at once",
        "a.control: added, at once",
        "b.record: file added, at once",
    ];
    assert_eq!(lines, expected);
    let mut old = two();
    old.proxies[0].capture.socket.bind.push(endpoint(9));
    old.proxies[0].control.socket.bind.push(endpoint(10));
    old.proxies[1].record = Some(RecordConfig::new("file"));
    let lines = |new: &Config| -> Vec<String> {
        let changes = diff(&old, new);
        let mut made = old.clone();
        changes.apply_to(&mut made).expect("they fit");
        assert_eq!(diff(&made, new).list.len(), 0);
        changes.list.iter().map(Change::to_string).collect()
    };
    let expected = [
        "a.capture: removed, at once",
        "a.control: removed, at once",
        "b.record: file removed, at once",
    ];
    assert_eq!(lines(&two()), expected);
    let mut new = old.clone();
    let capture = &mut new.proxies[0].capture;
    capture.format = CaptureFormat::Proxy;
    capture.in_prefix = "from".to_owned();
    new.proxies[0].control.socket_type = zmtp::SocketType::Pair;
    new.proxies[1].record = Some(RecordConfig {
        files_max: 7,
        ..RecordConfig::new("file")
    });
    let expected = [
        "a.capture.format: proxy (was monitored), at once",
        "a.capture.in_prefix: \"from\" (was \"in\"), at once",
        "a.control: removed, at once",
        "a.control: added, at once",
        "b.record: other limits, at once",
    ];
    assert_eq!(lines(&new), expected);
    let mut new = old.clone();
    new.proxies[1].record = Some(RecordConfig::new("other"));
    assert_eq!(lines(&new), ["b.record: other (was file), at once"]);
}

#[test]
fn keys_are_compared_and_not_shown() {
    let secret = |first: u8| SecretKey::from_bytes(&[first; 32]).expect("a usable key");
    let mut keys = ClientKeys::default();
    let mut secure = |config: &mut Config, first: u8, client: u8| {
        let socket = &mut config.proxies[0].frontend;
        let server = CurveServer::new(secret(first));
        socket.mechanism = MechanismConfig::CurveServer(Arc::new(server));
        keys.insert(&secret(client).public_key(), "name");
        socket.admission = Admission::Keys(Arc::new(keys.clone()));
    };
    let lines = made(|config| secure(config, 1, 2));
    let public = secret(1).public_key();
    let expected = [
        format!(
            "a.frontend.mechanism: CURVE with the public key {public} (was NULL), for new \
             connections"
        ),
        "a.frontend.admission: 1 keys (was any peer), at once".to_owned(),
    ];
    assert_eq!(lines, expected);
    let (mut old, mut new) = (two(), two());
    secure(&mut old, 1, 3);
    secure(&mut new, 1, 4);
    let changes = diff(&old, &new);
    let lines: Vec<String> = changes.list.iter().map(Change::to_string).collect();
    let expected = ["a.frontend.admission: 1 keys added, 0 keys removed, at once"];
    assert_eq!(lines, expected);
}

#[test]
fn a_change_must_fit() {
    let at = SocketPath {
        proxy: "a".to_owned(),
        socket: SocketName::Frontend,
    };
    let fit = |change| {
        let changes = Changes { list: vec![change] };
        changes
            .apply_to(&mut two())
            .map_err(|error| error.to_string())
    };
    assert_eq!(fit(Change::Unbind(at.clone(), endpoint(1))), Ok(()));
    let error = fit(Change::Unbind(at, endpoint(9))).expect_err("the endpoint is unknown");
    let expected = "a.frontend does not have the endpoint tcp://127.0.0.1:9: name one that it has";
    assert_eq!(error, expected);
    let error = fit(Change::ProxyRemoved("c".to_owned())).expect_err("the proxy is unknown");
    assert_eq!(error, "no proxy is called \"c\": name one that is there");
}

/// Whatever two configurations have, the differences lead from one to the other.
#[test]
fn differences_lead_from_one_configuration_to_another() {
    let mut state = 7_u32;
    let mut draw = |bound: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % bound
    };
    let mut config = |names: &[&str]| {
        let mut proxies = Vec::new();
        for name in names {
            let kind = ["queue", "streamer", "forwarder"][draw(3) as usize];
            let mut proxy = proxy(name, kind, 1);
            for side in SocketName::SIDES {
                let socket = proxy.socket_mut(side);
                for port in 10..14 {
                    if draw(2) == 0 {
                        socket.bind.push(endpoint(port));
                    }
                    if draw(2) == 0 {
                        socket.connect.push(endpoint(port).into());
                    }
                }
                if draw(2) == 0 {
                    socket.admission = Admission::Program;
                }
                socket.options = SocketOptions {
                    sndhwm: draw(3),
                    max_age: Duration::from_millis(draw(3).into()),
                    ..SocketOptions::default()
                };
            }
            if draw(2) == 0 {
                proxy.capture.socket.bind.push(endpoint(20));
                proxy.capture.in_prefix = ["in", "from"][draw(2) as usize].to_owned();
                proxy.capture.format = CaptureFormat::ALL[draw(2) as usize];
                proxy.capture.socket_type = CaptureConfig::SOCKETS[draw(2) as usize];
            }
            if draw(2) == 0 {
                proxy.control.socket.connect.push(endpoint(21).into());
                proxy.control.socket_type = ControlConfig::SOCKETS[draw(2) as usize];
            }
            proxy.record =
                [None, Some("one"), Some("other")][draw(3) as usize].map(RecordConfig::new);
            proxies.push(proxy);
        }
        Config {
            proxies,
            ..Config::default()
        }
    };
    for _ in 0..500 {
        let (old, new) = (config(&["a", "b", "c"]), config(&["b", "d", "a"]));
        let mut made = old.clone();
        diff(&old, &new).apply_to(&mut made).expect("they fit");
        assert_eq!(diff(&made, &new).list.len(), 0, "{old:?} {new:?}");
        assert_eq!(diff(&new, &made).list.len(), 0, "{old:?} {new:?}");
    }
}
