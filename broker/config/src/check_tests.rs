use super::*;
use crate::{CacheConfig, Kind, RecordConfig};
use std::sync::Arc;
use zmtp::curve::{CurveServer, SecretKey};
use zmtp::plain::{Password, PlainClient};

fn side(port: u16) -> SocketConfig {
    let endpoint = Endpoint::parse_bind(&format!("tcp://127.0.0.1:{port}")).expect("legal");
    SocketConfig {
        bind: vec![endpoint],
        ..SocketConfig::default()
    }
}

fn proxy(name: &str, frontend_port: u16) -> ProxyConfig {
    ProxyConfig {
        frontend: side(frontend_port),
        backend: side(frontend_port + 1),
        ..ProxyConfig::new(Kind::ALL[0], name)
    }
}

fn problem(proxies: Vec<ProxyConfig>) -> (Place, String) {
    let problem = Config {
        proxies,
        ..Config::default()
    }
    .check()
    .expect_err("a problem");
    (problem.place, problem.to_string())
}

#[test]
fn a_legal_configuration_passes() {
    let config = Config {
        proxies: vec![proxy("a", 1), proxy("b", 3)],
        ..Config::default()
    };
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn names_are_unique_words() {
    assert_eq!(
        problem(vec![proxy("a", 1), proxy("b", 3), proxy("a", 5)]).0,
        Place::Name(2)
    );
    let long = "x".repeat(65);
    for name in ["", "two words", "line\nbreak", "é", long.as_str()] {
        let (place, sentence) = problem(vec![proxy(name, 1)]);
        assert_eq!(place, Place::Name(0), "{name}");
        assert!(sentence.contains("is not a name"), "{sentence}");
        assert!(!sentence.contains('\n'), "{sentence}");
    }
}

#[test]
fn a_process_has_addresses_for_all_that_its_limits_allow() {
    let with = |memory_limit: u64, kept: u64, buffer: u64| {
        let mut proxy = proxy("a", 1);
        proxy.cache = Some(CacheConfig {
            bytes_max: kept,
            ..CacheConfig::default()
        });
        proxy.record = Some(RecordConfig {
            buffer_size_max: buffer,
            ..RecordConfig::new("a")
        });
        Config {
            memory_limit,
            proxies: vec![proxy],
            ..Config::default()
        }
    };
    for (config, bytes) in [
        (with(900, 0, 100), None),
        (with(901, 0, 100), Some(1001)),
        (with(0, 100, 900), None),
        (with(0, 101, 900), Some(1001)),
        (with(u64::MAX, 5, 5), Some(u64::MAX)),
    ] {
        let problem = config.addresses_problem(1000);
        let max = 1000;
        let expected = bytes.map(|bytes| Fault::LacksAddresses { bytes, max });
        assert_eq!(problem.map(|problem| problem.fault), expected);
    }
    // It is a rule where addresses have 32 bits.
    let problems = with(8 << 30, 0, 0).problems();
    let is_refused = |it: &Problem| matches!(it.fault, Fault::LacksAddresses { .. });
    assert_eq!(problems.iter().any(is_refused), usize::BITS == 32);
}

#[test]
fn both_sides_need_an_endpoint() {
    let mut lonely = proxy("a", 1);
    lonely.backend = SocketConfig::default();
    let (place, sentence) = problem(vec![lonely]);
    assert_eq!(place, Place::Socket(0, SocketName::Backend));
    assert!(
        sentence.contains("the backend has no endpoint"),
        "{sentence}"
    );
}

#[test]
fn an_echo_has_only_a_frontend() {
    let mut echo = proxy("a", 1);
    echo.kind = "REP".parse().expect("legal");
    let (place, sentence) = problem(vec![echo.clone()]);
    assert_eq!(place, Place::Socket(0, SocketName::Backend));
    assert!(sentence.starts_with("an echo has no backend"), "{sentence}");
    echo.backend = SocketConfig::default();
    let config = Config {
        proxies: vec![echo],
        ..Config::default()
    };
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn overlapping_binds_name_the_other() {
    let (place, sentence) = problem(vec![proxy("a", 1), proxy("b", 2)]);
    assert_eq!(place, Place::Bind(1, SocketName::Frontend, 0));
    assert_eq!(
        sentence,
        "tcp://127.0.0.1:2 is bound by the backend of a already: use another port"
    );
    let mut wild = proxy("b", 7);
    wild.backend.bind.push("tcp://*:2".parse().expect("legal"));
    let (place, sentence) = problem(vec![proxy("a", 1), wild]);
    assert_eq!(place, Place::Bind(1, SocketName::Backend, 1));
    assert!(
        sentence.contains("the backend of a (tcp://127.0.0.1:2)"),
        "{sentence}"
    );
}

#[test]
fn names_within_the_machine_are_bound_once() {
    for (name, expected) in [
        ("ipc:///run/a", "use another name"),
        ("inproc://a", "use another name"),
    ] {
        let mut proxy = proxy("a", 1);
        for side in SocketName::SIDES {
            let endpoint = name.parse().expect(name);
            proxy.socket_mut(side).bind = vec![endpoint];
        }
        let (place, sentence) = problem(vec![proxy]);
        assert_eq!(place, Place::Bind(0, SocketName::Backend, 0));
        assert!(sentence.ends_with(expected), "{sentence}");
    }
}

#[test]
fn inproc_endpoints_to_connect_to_must_be_bound() {
    let mut first = proxy("a", 1);
    let endpoint: Endpoint = "inproc://between".parse().expect("legal");
    first.backend.connect = vec![endpoint.clone().into()];
    let mut second = proxy("b", 3);
    second.frontend.bind = vec![endpoint];
    let config = Config {
        proxies: vec![first.clone(), second],
        ..Config::default()
    };
    assert_eq!(config.check(), Ok(()), "connecting may come before binding");
    let (place, sentence) = problem(vec![first]);
    assert_eq!(place, Place::Connect(0, SocketName::Backend, 0));
    assert!(
        sentence.starts_with("no side binds inproc://between"),
        "{sentence}"
    );
}

#[test]
fn topics_are_for_sockets_that_subscribe() {
    let mut proxy = proxy("a", 1);
    let topics = |text: &str| Connect {
        subscribe: vec!["eu.".to_owned()],
        ..Connect::from(text.parse::<Endpoint>().expect("legal"))
    };
    proxy.frontend.connect = vec![topics("tcp://a:7")];
    let (place, sentence) = problem(vec![proxy.clone()]);
    assert_eq!(place, Place::Connect(0, SocketName::Frontend, 0));
    assert!(
        sentence.starts_with("a ROUTER does not subscribe"),
        "{sentence}"
    );
    proxy.kind = "XSUB:XPUB".parse().expect("legal");
    let config = Config {
        proxies: vec![proxy],
        ..Config::default()
    };
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn a_listener_beyond_loopback_needs_a_restriction_or_insecure() {
    let exposed = |name: SocketName, restrict: &dyn Fn(&mut SocketConfig)| {
        let mut proxy = proxy("a", 1);
        // The only kind that may have every socket.
        proxy.kind = Kind::from_name("forwarder").expect("a kind");
        let socket = proxy.socket_mut(name);
        socket.bind.push("tcp://*:9".parse().expect("legal"));
        restrict(socket);
        Config {
            proxies: vec![proxy],
            ..Config::default()
        }
    };
    let secret = || SecretKey::from_bytes(&[7; 32]).expect("not zero");
    let curve = || MechanismConfig::CurveServer(Arc::new(CurveServer::new(secret())));
    // A ZAP handler binds, and zmqd connects to it.
    let binding = SocketName::ALL
        .into_iter()
        .filter(|name| *name != SocketName::Zap);
    for name in binding {
        let problems = exposed(name, &|_| ()).problems();
        let nth = usize::from(name.side().is_some());
        let [problem] = &problems[..] else {
            panic!("{problems:?}");
        };
        assert_eq!(problem.place, Place::Bind(0, name, nth));
        assert_eq!(problem.fault, Fault::Exposed("tcp://*:9".to_owned()));
        let plain = exposed(name, &|socket| {
            let network = "10.0.0.0/8".parse().expect("a network");
            socket.options.tcp_accept_filter.push(network);
            socket.mechanism = MechanismConfig::PlainServer;
        });
        let problem = plain.problems().swap_remove(0);
        assert_eq!(problem.place, Place::Bind(0, name, nth));
        assert_eq!(problem.fault, Fault::Cleartext("tcp://*:9".to_owned()));
        let restrictions: [&dyn Fn(&mut SocketConfig); 3] = [
            &|socket| socket.options.insecure = true,
            &|socket| {
                let network = "10.0.0.0/8".parse().expect("a network");
                socket.options.tcp_accept_filter.push(network);
            },
            &|socket| socket.mechanism = curve(),
        ];
        for restrict in restrictions {
            assert_eq!(exposed(name, restrict).problems(), []);
        }
    }
}

#[test]
fn a_password_is_not_sent_to_another_machine_in_the_clear() {
    let mut proxy = proxy("a", 1);
    let plain = PlainClient::new(b"user", Password::new(b"secret")).expect("short");
    proxy.backend.mechanism = MechanismConfig::PlainClient(Arc::new(plain));
    for (text, is_refused) in [
        ("tcp://127.0.0.1:9", false),
        ("ipc:///run/a", false),
        ("tcp://10.0.0.1:9", true),
        ("tcp://server:9", true),
    ] {
        let endpoint: Endpoint = text.parse().expect(text);
        proxy.backend.connect = vec![endpoint.into()];
        proxy.backend.options.insecure = false;
        let config = |proxy: &ProxyConfig| Config {
            proxies: vec![proxy.clone()],
            ..Config::default()
        };
        let fault = Fault::Cleartext(text.to_owned());
        let place = Place::Connect(0, SocketName::Backend, 0);
        let expected = is_refused.then_some(Problem { fault, place });
        let problems = config(&proxy).problems();
        assert_eq!(problems.into_iter().next(), expected, "{text}");
        proxy.backend.options.insecure = true;
        assert_eq!(config(&proxy).check(), Ok(()));
    }
}

#[test]
fn a_configuration_needs_a_proxy() {
    assert_eq!(problem(Vec::new()).0, Place::Whole);
}
