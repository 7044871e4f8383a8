use super::*;
use broker::record::Origin;
use zmtp::encode::append_message;

const ORIGIN: Origin<'static> = Origin {
    connection: 0,
    direction: None,
    is_routed: false,
    peer: None,
    socket_type: None,
    source: "q",
    user: None,
};

/// The bytes that each side of a flow sent, by `client > broker`.
type Streams = BTreeMap<String, Vec<u8>>;

/// Adds messages to flows and reassembles the streams, as a receiver would.
fn exported(messages: &[(Origin<'_>, &[&[u8]])]) -> Streams {
    let (mut flows, mut streams) = (Flows::default(), Streams::new());
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for (origin, frames) in messages {
        let mut wire = Vec::new();
        append_message(&mut wire, frames);
        let message = Message {
            frames: &wire,
            origin: *origin,
            time_ns: 0,
        };
        let emitted = flows.message(&message, |packet| {
            receive(packet, &mut next, &mut streams);
            Ok(())
        });
        emitted.expect("nothing fails here");
    }
    streams
}

fn receive(packet: &[u8], next: &mut BTreeMap<String, u32>, streams: &mut Streams) {
    let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    let (header_size, from, to): (_, IpAddr, IpAddr) = if packet[0] == 0x45 {
        let ip = |at| Ipv4Addr::from_bits(number(at));
        (20, ip(12).into(), ip(16).into())
    } else {
        let ip = |at: usize| {
            let bytes: [u8; 16] = packet[at..at + 16].try_into().unwrap();
            Ipv6Addr::from(bytes)
        };
        (40, ip(8).into(), ip(24).into())
    };
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let from = SocketAddr::new(from, port(header_size));
    let to = SocketAddr::new(to, port(header_size + 2));
    let flags = packet[header_size + 13];
    let payload = &packet[header_size + usize::from(packet[header_size + 12] >> 4) * 4..];
    let (forth, back) = (format!("{from} > {to}"), format!("{to} > {from}"));
    let (sequence, acknowledged) = (number(header_size + 4), number(header_size + 8));
    let size = u32::try_from(payload.len()).unwrap() + u32::from(flags & SYN != 0);
    match next.insert(forth.clone(), sequence.wrapping_add(size)) {
        None => assert!(flags & SYN != 0, "{forth} begins with SYN"),
        Some(expected) => assert_eq!(sequence, expected, "{forth}"),
    }
    if flags & ACK != 0 {
        assert_eq!(Some(&acknowledged), next.get(&back), "{forth}");
    }
    streams.entry(forth).or_default().extend_from_slice(payload);
}

/// Greeting, READY and messages, as a stream must contain them.
fn stream(socket_type: &str, identity: Option<&[u8]>, messages: &[&[&[u8]]]) -> Vec<u8> {
    let (mut stream, mut properties) = (Vec::new(), Vec::new());
    Greeting::new("NULL").emit(&mut stream);
    append_property(&mut properties, SOCKET_TYPE, socket_type.as_bytes());
    if let Some(identity) = identity {
        append_property(&mut properties, IDENTITY, identity);
    }
    append_command(&mut stream, "READY", &properties);
    for frames in messages {
        append_message(&mut stream, frames);
    }
    stream
}

fn assert_streams(streams: &Streams, expected: &[(&str, Vec<u8>)]) {
    let found: Vec<&str> = streams.keys().map(String::as_str).collect();
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, names);
    for (name, stream) in expected {
        let (found, stream) = (streams[*name].escape_ascii(), stream.escape_ascii());
        assert_eq!(found.to_string(), stream.to_string(), "{name}");
    }
}

#[test]
fn peers_with_identities_have_both_directions_on_one_flow() {
    let to = |direction| Origin {
        direction: Some(direction),
        is_routed: true,
        ..ORIGIN
    };
    let (incoming, outgoing) = (to(Direction::In), to(Direction::Out));
    let streams = exported(&[
        (incoming, &[b"me", b"", b"question"]),
        (incoming, &[b"\0made", b"x"]),
        (outgoing, &[b"me", b"", b"answer"]),
    ]);
    let messages: [&[&[u8]]; 3] = [&[b"", b"question"], &[b"", b"answer"], &[b"x"]];
    assert_streams(
        &streams,
        &[
            (
                "10.0.0.1:50000 > 192.0.2.1:5555",
                stream("DEALER", Some(b"me"), &messages[..1]),
            ),
            (
                "10.0.0.2:50000 > 192.0.2.1:5555",
                stream("DEALER", Some(b""), &messages[2..]),
            ),
            (
                "192.0.2.1:5555 > 10.0.0.1:50000",
                stream("ROUTER", Some(b""), &messages[1..2]),
            ),
            (
                "192.0.2.1:5555 > 10.0.0.2:50000",
                stream("ROUTER", Some(b""), &[]),
            ),
        ],
    );
}

#[test]
fn peers_with_addresses_keep_them() {
    let from = |text: &str, connection| Origin {
        connection,
        direction: Some(Direction::Out),
        peer: Some(PeerAddress::Tcp(text.parse().unwrap())),
        socket_type: Some(SocketType::Xpub),
        ..ORIGIN
    };
    let streams = exported(&[
        (from("10.9.8.7:1234", 4), &[b"\x01topic"]),
        (from("[2001:db8::7]:1234", 5), &[b"\x01topic"]),
    ]);
    let publisher = stream("XPUB", None, &[]);
    let subscriber = stream("SUB", None, &[&[b"\x01topic"]]);
    assert_streams(
        &streams,
        &[
            ("10.9.8.7:1234 > 192.0.2.1:5555", subscriber.clone()),
            ("192.0.2.1:5555 > 10.9.8.7:1234", publisher.clone()),
            ("[2001:db8::1]:5555 > [2001:db8::7]:1234", publisher),
            ("[2001:db8::7]:1234 > [2001:db8::1]:5555", subscriber),
        ],
    );
}

#[test]
fn sources_without_details_have_a_flow_and_a_port_each() {
    let other = Origin {
        direction: Some(Direction::In),
        source: "other",
        ..ORIGIN
    };
    let streams = exported(&[(ORIGIN, &[b"a", b"b"]), (other, &[b"c"])]);
    assert_streams(
        &streams,
        &[
            ("10.0.0.1:50000 > 192.0.2.1:5555", stream("SUB", None, &[])),
            (
                "10.0.0.2:50000 > 192.0.2.1:5556",
                stream("DEALER", Some(b""), &[&[b"c"]]),
            ),
            (
                "192.0.2.1:5555 > 10.0.0.1:50000",
                stream("PUB", None, &[&[b"a", b"b"]]),
            ),
            (
                "192.0.2.1:5556 > 10.0.0.2:50000",
                stream("DEALER", Some(b""), &[]),
            ),
        ],
    );
}

#[test]
fn long_messages_are_divided_and_acknowledged() {
    let body = vec![7; 3 << 20];
    let (mut flows, mut sizes, mut acknowledgements) = (Flows::default(), Vec::new(), 0);
    let mut wire = Vec::new();
    append_message(&mut wire, &[&body]);
    let message = Message {
        frames: &wire,
        origin: ORIGIN,
        time_ns: 0,
    };
    let emitted = flows.message(&message, |packet| {
        sizes.push(packet.len());
        acknowledgements += usize::from(packet.len() == 40 && packet[12..16] == [10, 0, 0, 1]);
        Ok(())
    });
    emitted.expect("nothing fails here");
    assert_eq!(sizes.iter().max(), Some(&65535));
    assert_eq!(
        acknowledgements,
        1 + 2,
        "one of the handshake, and one when more than a MiB is on its way"
    );
    let whole = stream("PUB", None, &[&[&body]]);
    let streams = exported(&[(ORIGIN, &[&body])]);
    assert!(streams["192.0.2.1:5555 > 10.0.0.1:50000"] == whole);
}
