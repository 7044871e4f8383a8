//! Texts that are endpoints, and texts that are not.

use super::*;

fn sentence(result: Result<Endpoint, EndpointError>) -> String {
    result.expect_err("must be refused").to_string()
}

#[test]
fn legal_endpoints_are_displayed_as_libzmq_writes_them() {
    for (text, displayed) in [
        ("tcp://*:5555", "tcp://*:5555"),
        ("tcp://*:*", "tcp://*:0"),
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
    for (text, expected) in [
        ("", "names no transport: write tcp://"),
        (
            "127.0.0.1:5555",
            "names no transport: write tcp://127.0.0.1:5555",
        ),
        (
            "//127.0.0.1:5555",
            "names no transport: write tcp://127.0.0.1:5555",
        ),
        ("tcp:127.0.0.1:5", "names no transport"),
        (
            "ipc:///tmp/socket",
            "the transport \"ipc\", which zmqd does not speak",
        ),
        (
            "TCP://localhost:5",
            "the transport \"TCP\", which zmqd does not speak",
        ),
        ("tcp://", "has no port"),
        ("tcp://localhost", "has no port: write tcp://localhost:5559"),
        (
            "tcp://localhost:",
            "has no port: write tcp://localhost:5559",
        ),
        ("tcp://[::1]", "has no port: write tcp://[::1]:5559"),
        ("tcp://::1", "has the host \":\""),
        ("tcp://:5555", "has no host: write tcp://*:5555"),
        (
            "tcp://localhost:65536",
            "the port 65536: the highest is 65535",
        ),
        (
            "tcp://localhost:99999999999",
            "the port 99999999999: the highest is 65535",
        ),
        (
            "tcp://localhost:http",
            "the port \"http\": write a number up to 65535",
        ),
        ("tcp://localhost:+5", "the port \"+5\""),
        ("tcp://localhost:-1", "the port \"-1\""),
        ("tcp://localhost:5555/", "goes on after the port"),
        ("tcp://localhost:5555/name", "goes on after the port"),
        (
            "tcp://10.0.0.1:0;10.0.0.2:5555",
            "a source address before the semicolon",
        ),
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
        ("tcp://fe80::1%eth0:5555", "the zone \"%eth0\""),
        ("tcp://[fe80::1%2]:5555", "the zone \"%2\""),
    ] {
        let refusal = sentence(text.parse());
        assert!(refusal.contains(expected), "{text}: {refusal}");
        assert!(
            refusal.starts_with(&format!("\"{text}\" ")),
            "{text}: {refusal}"
        );
    }
}

#[test]
fn what_is_only_for_binding_is_refused_on_connect() {
    for (text, expected) in [
        ("tcp://*:5555", "* is only for binding"),
        ("tcp://*:*", "* is only for binding"),
        ("tcp://localhost:0", "0 and * are only for binding"),
        ("tcp://localhost:*", "0 and * are only for binding"),
    ] {
        assert!(Endpoint::parse_bind(text).is_ok(), "{text}");
        let refusal = sentence(Endpoint::parse_connect(text));
        assert!(refusal.contains(expected), "{text}: {refusal}");
    }
    assert!(
        Endpoint::parse_connect("tcp://eth0:5555").is_ok(),
        "a host may be called so"
    );
}

#[test]
fn interfaces_are_refused_on_bind() {
    for name in [
        "lo",
        "eth0",
        "wlan1",
        "docker0",
        "enp3s0",
        "eno1",
        "wlp2s0",
        "enx001122aabbcc",
    ] {
        let refusal = sentence(Endpoint::parse_bind(&format!("tcp://{name}:5555")));
        assert!(refusal.contains("network interface"), "{refusal}");
    }
    for name in [
        "localhost",
        "broker",
        "eth",
        "lot",
        "ensemble",
        "eth0.example.org",
    ] {
        assert!(
            Endpoint::parse_bind(&format!("tcp://{name}:5555")).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn prefixes_overrule_the_habit_of_the_side() {
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
fn overlapping_binds_are_seen() {
    for (one, other, expected) in [
        ("tcp://127.0.0.1:5", "tcp://127.0.0.1:5", true),
        ("tcp://*:5", "tcp://127.0.0.1:5", true),
        ("tcp://0.0.0.0:5", "tcp://*:5", true),
        ("tcp://localhost:5", "tcp://localhost:5", true),
        ("tcp://127.0.0.1:5", "tcp://127.0.0.2:5", false),
        ("tcp://127.0.0.1:5", "tcp://127.0.0.1:6", false),
        ("tcp://*:5", "tcp://[::1]:5", false),
        ("tcp://*:0", "tcp://*:0", false),
    ] {
        let (one, other): (Endpoint, Endpoint) = (one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(one.overlaps(&other), expected, "{one} {other}");
        assert_eq!(other.overlaps(&one), expected, "{other} {one}");
    }
}
