//! Texts that are endpoints, and texts that are not.

use super::*;

fn sentence(result: Result<Endpoint, EndpointError>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn only_loopback_addresses_and_localhost_stay_within_the_machine() {
    for (text, is_beyond) in [
        ("inproc://a", false),
        ("ipc:///run/a", false),
        ("ipc://@a", false),
        ("ipc://*", false),
        ("tcp://127.0.0.1:5", false),
        ("tcp://127.255.0.9:5", false),
        ("tcp://[::1]:5", false),
        ("tcp://[::ffff:127.0.0.1]:5", false),
        ("tcp://[::1%lo]:5", false),
        ("tcp://localhost:5", false),
        ("tcp://a.LOCALHOST.:5", false),
        ("tcp://*:5", true),
        ("tcp://:5", true),
        ("tcp://*:*", true),
        ("tcp://0.0.0.0:5", true),
        ("tcp://[::]:5", true),
        ("tcp://[::ffff:10.0.0.1]:5", true),
        ("tcp://128.0.0.1:5", true),
        ("tcp://[fe80::1%lo]:5", true),
        ("tcp://eth0:5", true),
        ("tcp://lo:5", true),
        ("tcp://localhost.example.org:5", true),
        ("tcp://127.0.0.1.example.org:5", true),
    ] {
        let endpoint: Endpoint = text.parse().expect(text);
        assert_eq!(endpoint.is_beyond_loopback(), is_beyond, "{text}");
    }
}

#[test]
fn legal_endpoints_are_displayed_as_libzmq_writes_them() {
    for (text, displayed) in [
        ("tcp://*:5555", "tcp://*:5555"),
        ("tcp://*:*", "tcp://*:0"),
        ("tcp://:5555", "tcp://*:5555"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://127.0.0.1:65535", "tcp://127.0.0.1:65535"),
        ("tcp://[::1]:5555", "tcp://[::1]:5555"),
        ("tcp://::1:5555", "tcp://[::1]:5555"),
        ("tcp://:::5555", "tcp://[::]:5555"),
        ("tcp://[::ffff:10.0.0.1]:1", "tcp://[::ffff:10.0.0.1]:1"),
        ("tcp://[2001:DB8:0:0::1]:*", "tcp://[2001:db8::1]:0"),
        ("tcp://localhost:5555", "tcp://localhost:5555"),
        (
            "tcp://my_host-1.example.org.:5",
            "tcp://my_host-1.example.org.:5",
        ),
        ("tcp://3com.example:0080", "tcp://3com.example:80"),
        ("tcp://eth0:5555", "tcp://eth0:5555"),
        ("tcp://eth0.100:5555", "tcp://eth0.100:5555"),
        ("tcp://[fe80::1%eth0]:5", "tcp://[fe80::1%eth0]:5"),
        ("tcp://fe80::1%2:5", "tcp://[fe80::1%2]:5"),
        ("ipc:///run/zmqd.ipc", "ipc:///run/zmqd.ipc"),
        ("ipc://relative path", "ipc://relative path"),
        ("ipc://@zmqd/frontend", "ipc://@zmqd/frontend"),
        ("ipc://*", "ipc://*"),
        ("ipc://*a", "ipc://*a"),
        ("inproc://requests", "inproc://requests"),
        ("inproc://#1 *", "inproc://#1 *"),
    ] {
        let endpoint = Endpoint::parse_bind(text).expect(text);
        assert_eq!(endpoint.to_string(), displayed);
        assert_eq!(
            displayed.parse(),
            Ok(endpoint),
            "{displayed} does not round-trip"
        );
    }
}

#[test]
fn refusals_say_what_to_write() {
    for (text, expected) in REFUSALS {
        let refusal = sentence(text.parse());
        assert!(refusal.contains(expected), "{text}: {refusal}");
        assert!(
            refusal.starts_with(&format!("\"{}\" ", show(text))),
            "{text}: {refusal}"
        );
    }
}

/// Advice that would be refused again is worse than none.
#[test]
fn advice_in_refusals_is_legal() {
    let texts = REFUSALS.iter().map(|(text, _)| *text);
    for text in texts.chain(["5", ".", "a:b", "[::1]:5", "::", "tcp://[", "tcp://a b"]) {
        for parse in [Endpoint::parse_bind, Endpoint::parse_connect] {
            let refusal = sentence(parse(text));
            let advice = refusal.split("write ").nth(1).unwrap_or_default();
            let words = advice.split([' ', ',']).filter(|word| {
                let is_example = word.contains("://") && !word.contains(char::is_uppercase);
                is_example && !(word.contains('*') && refusal.contains("to bind"))
            });
            for word in words {
                assert!(parse(word).is_ok(), "{refusal}");
            }
        }
    }
}

#[test]
fn endpoints_only_for_binding_are_refused_on_connect() {
    for (text, expected) in [
        ("tcp://*:5555", "* is only for binding"),
        ("tcp://*:*", "* is only for binding"),
        ("tcp://:5555", "has no host to connect to"),
        ("tcp://localhost:0", "0 and * are only for binding"),
        ("tcp://localhost:*", "0 and * are only for binding"),
        ("ipc://*", "has no path to connect to"),
    ] {
        assert!(Endpoint::parse_bind(text).is_ok(), "{text}");
        let refusal = sentence(Endpoint::parse_connect(text));
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
}

#[test]
fn source_addresses_are_only_for_connecting() {
    for (text, displayed) in [
        (
            "tcp://10.0.0.1:0;10.0.0.2:5555",
            "tcp://10.0.0.1:0;10.0.0.2:5555",
        ),
        ("tcp://*:7;[::1]:5555", "tcp://*:7;[::1]:5555"),
        ("tcp://eth0:*;host:5555", "tcp://eth0:0;host:5555"),
        (
            "tcp://fe80::1%eth0:0;fe80::2%eth0:5",
            "tcp://[fe80::1%eth0]:0;[fe80::2%eth0]:5",
        ),
    ] {
        let endpoint = Endpoint::parse_connect(text).expect(text);
        assert_eq!(endpoint.to_string(), displayed);
        assert_eq!(displayed.parse(), Ok(endpoint));
        let refusal = sentence(Endpoint::parse_bind(text));
        assert!(
            refusal.contains("a source address before the semicolon"),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn local_names_have_the_lengths_of_the_system_and_of_libzmq() {
    for (transport, size_max) in [("ipc", 107), ("inproc", 256)] {
        let longest = format!("{transport}://{}", "x".repeat(size_max));
        assert!(Endpoint::parse_bind(&longest).is_ok(), "{transport}");
        let refusal = sentence(Endpoint::parse_bind(&format!("{longest}x")));
        let expected = format!("of {} bytes: write one of", size_max + 1);
        assert!(refusal.contains(&expected), "{refusal}");
    }
    assert!(Endpoint::parse_bind(&format!("ipc://@{}", "x".repeat(106))).is_ok());
    assert!(Endpoint::parse_bind(&format!("ipc://@{}", "x".repeat(107))).is_err());
}

#[test]
fn prefixes_override_the_default_of_the_side() {
    let at = |text: &str| text.parse::<Endpoint>().expect(text);
    let (bind, connect) = (Attach::Bind, Attach::Connect);
    for (text, unless_told, expected) in [
        ("tcp://127.0.0.1:5", bind, (bind, at("tcp://127.0.0.1:5"))),
        (
            "tcp://127.0.0.1:5",
            connect,
            (connect, at("tcp://127.0.0.1:5")),
        ),
        ("@tcp://*:*", connect, (bind, at("tcp://*:*"))),
        (">tcp://[::1]:5", bind, (connect, at("tcp://[::1]:5"))),
    ] {
        assert_eq!(attach(text, unless_told), Ok(expected), "{text}");
    }
    assert!(attach(">tcp://*:5", bind).is_err());
    assert!(attach("@>tcp://*:5", bind).is_err());
}

#[test]
fn overlapping_binds_are_found() {
    for (one, other, expected) in [
        ("tcp://127.0.0.1:5", "tcp://127.0.0.1:5", true),
        ("tcp://*:5", "tcp://127.0.0.1:5", true),
        ("tcp://0.0.0.0:5", "tcp://*:5", true),
        ("tcp://localhost:5", "tcp://localhost:5", true),
        ("tcp://127.0.0.1:5", "tcp://127.0.0.2:5", false),
        ("tcp://127.0.0.1:5", "tcp://127.0.0.1:6", false),
        ("tcp://*:5", "tcp://[::1]:5", false),
        ("tcp://*:0", "tcp://*:0", false),
        ("tcp://[fe80::1%eth0]:5", "tcp://[fe80::1%eth0]:5", true),
        ("tcp://[fe80::1%eth0]:5", "tcp://[fe80::1%eth1]:5", false),
        ("ipc:///a", "ipc:///a", true),
        ("ipc:///a", "ipc:///b", false),
        ("ipc://@a", "ipc://a", false),
        ("ipc://*", "ipc://*", false),
        ("inproc://a", "inproc://a", true),
        ("inproc://a", "inproc://b", false),
        ("inproc://a", "ipc://a", false),
    ] {
        let (one, other): (Endpoint, Endpoint) = (one.parse().unwrap(), other.parse().unwrap());
        for (one, other) in [(&one, &other), (&other, &one)] {
            let mut overlaps = Overlaps::default();
            assert_eq!(overlaps.add(one), None);
            let found = overlaps.add(other);
            assert_eq!(found, expected.then_some(0), "{one} {other}");
        }
    }
}

#[test]
fn the_first_of_several_overlaps_is_named() {
    let endpoints = ["tcp://127.0.0.1:5", "tcp://127.0.0.2:5", "tcp://*:5"];
    let endpoints = endpoints.map(|text| text.parse::<Endpoint>().unwrap());
    let mut overlaps = Overlaps::default();
    let found = endpoints.each_ref().map(|endpoint| overlaps.add(endpoint));
    assert_eq!(found, [None, None, Some(0)]);
    assert_eq!(overlaps.add(&endpoints[1]), Some(1));
}

const REFUSALS: &[(&str, &str)] = &[
    ("", "is not an endpoint: write tcp://HOST:PORT, ipc://PATH"),
    ("5555", "is not an endpoint: write tcp://127.0.0.1:5555"),
    (":5555", "is not an endpoint: write tcp://127.0.0.1:5555"),
    ("99999", "is not an endpoint: write tcp://HOST:PORT"),
    ("localhost", "is not an endpoint: write tcp://HOST:PORT"),
    ("*:5555", "is not an endpoint: write tcp://*:5555"),
    ("/run/x.ctl", "is not an endpoint: write ipc:///run/x.ctl"),
    ("./x.ctl", "is not an endpoint: write ipc://./x.ctl"),
    ("@zmqd", "is not an endpoint: write ipc://@zmqd"),
    (
        "127.0.0.1:5555",
        "is not an endpoint: write tcp://127.0.0.1:5555",
    ),
    (
        "//127.0.0.1:5555",
        "is not an endpoint: write tcp://127.0.0.1:5555",
    ),
    (
        "tcp:127.0.0.1:5",
        "is not an endpoint: write tcp://HOST:PORT",
    ),
    ("ipc://", "has no path: write ipc:///run/zmqd.ipc"),
    ("ipc://@", "has no path"),
    ("ipc:///a\nb", "has a control or invisible character"),
    ("ipc:///a\0b", "has a control or invisible character"),
    ("inproc://", "has a name of 0 bytes: write one of 1 to 256"),
    (
        "pgm://eth0;239.0.0.1:5",
        "the transport \"pgm\", which zmqd does not support: write tcp://HOST:PORT, ipc://PATH or",
    ),
    (
        "TCP://localhost:5",
        "the transport \"TCP\", which zmqd does not support",
    ),
    ("tcp://", "has no port: write tcp://127.0.0.1:5559 for"),
    ("tcp://5555", "has no port: write tcp://127.0.0.1:5555 for"),
    ("tcp://0", "has no port: write tcp://127.0.0.1:5559 for"),
    ("tcp://localhost", "has no port: write tcp://localhost:5559"),
    (
        "tcp://localhost:",
        "has no port: write tcp://localhost:5559",
    ),
    ("tcp://[::1]", "has no port: write tcp://[::1]:5559"),
    ("tcp://::1", "has the host \":\""),
    ("tcp://[]:5555", "has the host \"[]\""),
    ("tcp://:http", "has the port \"http\""),
    (
        "tcp://localhost:65536",
        "the port 65536: write at most 65535",
    ),
    (
        "tcp://localhost:99999999999",
        "the port 99999999999: write at most 65535",
    ),
    (
        "tcp://localhost:http",
        "the port \"http\": write a number up to 65535",
    ),
    ("tcp://localhost:+5", "the port \"+5\""),
    ("tcp://localhost:-1", "the port \"-1\""),
    ("tcp://localhost:5555/", "has text after the port"),
    ("tcp://localhost:5555/name", "has text after the port"),
    (
        "tcp://10.0.0.1;10.0.0.2:5555",
        "has no port: write tcp://10.0.0.1:5559",
    ),
    (
        "tcp://10.0.0.1:0;10.0.0.2",
        "has no port: write tcp://10.0.0.2:5559",
    ),
    ("tcp://;10.0.0.2:5555", "has no port"),
    (
        "tcp://256.0.0.1:5555",
        "the host \"256.0.0.1\", neither an address nor a name",
    ),
    ("tcp://127.1:5555", "the host \"127.1\""),
    ("tcp://[::1:5555", "the host \"[::1\""),
    ("tcp://[127.0.0.1]:5555", "the host \"[127.0.0.1]\""),
    ("tcp://[::g]:5555", "the host \"[::g]\""),
    ("tcp://my host:5555", "the host \"my host\""),
    ("tcp://-a:5555", "the host \"-a\""),
    ("tcp://é:5555", "the host \"é\""),
    ("tcp://**:5555", "the host \"**\""),
    (
        "tcp://10.0.0.1%eth0:5555",
        "the zone \"%eth0\": zones are for IPv6",
    ),
    ("tcp://host%2:5555", "the zone \"%2\""),
    ("tcp://[fe80::1%]:5555", "the zone \"%\""),
    ("tcp://[fe80::1%e h]:5555", "the zone \"%e h\""),
];
