//! Log lines about peers: one for each cause and address, then one sum a minute.

use crate::log;
use crate::play::{Play, hello, listener_at, proxy};
use broker::config::{Config, Endpoint, Overflow, ProxyConfig, SocketConfig, SocketName};
use broker::limits::{GREETING_PATIENCE, LINK_LINES_MAX, REPORTS_KEPT_MAX};
use broker::{Action, ConnId};
use std::net::SocketAddr;
use std::time::Duration;
use zmtp::SocketType;
use zmtp::encode::append_command;
use zmtp::wire::greeting::Greeting;

const MINUTE: Duration = Duration::from_secs(60);

impl Play {
    /// Peers connect from this address, send bytes that are not ZMTP, and are closed.
    fn strangers(&mut self, proxy: usize, address: [u8; 4], count: u16) {
        for port in 1..=count {
            let side = SocketName::Frontend;
            let peer = SocketAddr::from((address, port));
            let listener = listener_at(&self.core, (proxy, side));
            let id = self.core.handle_accepted(self.now, listener, peer);
            let id = id.expect("every address may connect");
            self.feed(id, b"GET / HTTP/1.1\r\n");
            self.run_closes();
        }
    }

    fn run_closes(&mut self) {
        self.core.begin_turn(self.now);
        while self.core.run_deferred(self.now) {}
        while let Some(action) = self.core.poll_action() {
            if let Action::Close { id, .. } = action {
                self.core.handle_closed(self.now, id);
            }
        }
    }
}

#[test]
fn strangers_from_one_address_are_a_line_and_a_sum_a_minute() {
    log::keep();
    let mut play = Play::of(proxy("queue"));
    play.strangers(0, [10, 0, 0, 7], 42);
    let first = "WARN queue frontend: closed 10.0.0.7:1: not a ZeroMQ peer of version 3 or above: \
                 it sent \"GET / HTTP/1.1\"";
    assert_eq!(log::taken(), [first]);
    play.pass(MINUTE / 2);
    play.strangers(0, [10, 0, 0, 8], 3);
    assert_eq!(log::taken().len(), 1, "another address");
    play.pass(MINUTE / 2);
    let sum = "WARN queue frontend: closed 43 more peers from 10.0.0.7 and 1 other in the \
               last minute: not-zmtp (43)";
    assert_eq!(log::taken(), [sum]);
    let all = "proxy=queue side=frontend";
    let fields = [
        format!("{all} peer=10.0.0.7:1 reason=not-zmtp"),
        format!("{all} peer=10.0.0.8:1 reason=not-zmtp"),
        format!("{all} peer=10.0.0.7 and 1 other reason=not-zmtp count=43"),
    ];
    assert_eq!(log::taken_fields(), fields);
    play.strangers(0, [10, 0, 0, 8], 1);
    assert_eq!(log::taken(), [""; 0], "it is not forgotten yet");
    play.pass(MINUTE);
    let sum = "WARN queue frontend: closed 1 more peer from 10.0.0.8 in the last minute: \
               not-zmtp (1)";
    assert_eq!(log::taken(), [sum]);
    play.strangers(0, [10, 0, 0, 7], 1);
    assert_eq!(log::taken().len(), 1, "no case for a minute");
    play.pass(MINUTE * 3);
    assert_eq!(log::taken(), [""; 0]);
    assert_eq!(play.core.poll_timeout(), None, "no report is pending");
    let stats = &play.core.statistics()[0].counters;
    assert_eq!(stats.closed_for("not-zmtp"), 47);
}

#[test]
fn strangers_of_one_proxy_hide_none_of_another() {
    log::keep();
    let named = |name: &str| {
        let mut config = proxy("queue");
        config.name = name.to_owned();
        config
    };
    let mut play = Play::of_all(vec![named("one"), named("two")]);
    let addresses = u8::try_from(REPORTS_KEPT_MAX).expect("few");
    for address in 0..addresses + 10 {
        play.strangers(0, [10, 0, 0, address], 2);
    }
    assert_eq!(log::taken().len(), REPORTS_KEPT_MAX);
    play.strangers(1, [10, 0, 0, 1], 2);
    let lines = log::taken();
    assert!(lines.len() == 1 && lines[0].starts_with("WARN two frontend: closed 10.0.0.1:1: "));
    play.core.finish_reports();
    let lines = log::taken();
    let total = REPORTS_KEPT_MAX + 20;
    let others = REPORTS_KEPT_MAX - 1;
    let sums = [
        format!(
            "WARN one frontend: closed {total} more peers from 10.0.0.0 and more than {others} \
             other addresses in the last minute: not-zmtp ({total})"
        ),
        "WARN two frontend: closed 1 more peer from 10.0.0.1 in the last minute: not-zmtp (1)"
            .to_owned(),
    ];
    assert_eq!(lines, sums);
}

#[test]
fn reaching_the_memory_limit_repeatedly_gives_a_line_and_a_sum() {
    log::keep();
    let mut config = proxy("streamer");
    config.frontend.options.rcvhwm = 1;
    let mut play = Play::run(&Config {
        memory_limit: 1 << 20,
        proxies: vec![config],
        ..Config::default()
    });
    let _sink = play.join(SocketName::Backend);
    let source = play.join(SocketName::Frontend);
    let body = "x".repeat(100_000);
    for _ in 0..200 {
        play.send(source, &[&body]);
    }
    let lines = log::taken();
    let reached = |line: &&String| line.contains("the memory limit of 1048576 bytes");
    assert_eq!(lines.iter().filter(reached).count(), 1, "{lines:?}");
    play.pass(MINUTE);
    let lines = log::taken();
    let sums: Vec<&String> = lines.iter().filter(reached).collect();
    assert!(
        sums.len() == 1 && sums[0].contains(" more time") && sums[0].contains(": gave up "),
        "{lines:?}"
    );
}

/// A queue whose backend connects to an endpoint.
fn dialling() -> ProxyConfig {
    let endpoint: Endpoint = "tcp://example.test:5560".parse().expect("an endpoint");
    let mut config = proxy("queue");
    config.backend = SocketConfig {
        connect: vec![endpoint.into()],
        ..SocketConfig::default()
    };
    config
}

impl Play {
    /// The broker connects, at once or after a wait.
    fn dialled(&mut self) -> ConnId {
        let address = SocketAddr::from(([10, 0, 0, 9], 5560));
        for _ in 0..100 {
            while let Some(action) = self.core.poll_action() {
                if let Action::Connect(link) = action {
                    let id = self.core.handle_connected(self.now, link, address);
                    return id.expect("the link is wanted");
                }
            }
            self.pass(Duration::from_millis(100));
        }
        panic!("the broker does not connect");
    }
}

#[test]
fn a_wrong_port_is_reported_once_by_its_endpoint_until_it_is_right() {
    log::keep();
    let mut play = Play::of(dialling());
    let wrong = |play: &mut Play| {
        let id = play.dialled();
        play.feed(id, b"HTTP/1.1 400 Bad Request\r\n");
        play.run_closes();
    };
    for _ in 0..5 {
        wrong(&mut play);
    }
    let line = "WARN queue backend: closed tcp://example.test:5560 (10.0.0.9:5560): not a ZeroMQ \
                peer of version 3 or above: it sent \"HTTP/1.1 400 Bad Request\"";
    assert_eq!(log::taken(), [line]);
    let id = play.dialled();
    play.feed(id, &hello(SocketType::Router));
    let connected = "INFO queue backend: connected to tcp://example.test:5560";
    assert_eq!(log::taken(), [connected]);
    play.lose(id);
    wrong(&mut play);
    assert_eq!(log::taken(), [line], "it was right meanwhile");
}

#[test]
fn a_flapping_link_does_not_flood_the_log() {
    log::keep();
    let mut play = Play::of(dialling());
    for _ in 0..50 {
        let id = play.dialled();
        play.feed(id, &hello(SocketType::Router));
        play.feed(id, &[0xff]);
        play.run_closes();
    }
    play.core.finish_reports();
    let lines = log::taken();
    let most = 2 * LINK_LINES_MAX as usize + 2;
    assert!(lines.len() <= most, "{} lines: {lines:?}", lines.len());
    let counts = |what: &str| -> usize {
        let number = |line: &str| line.split_whitespace().find_map(|word| word.parse().ok());
        let of = lines.iter().filter(|line| line.contains(what));
        of.map(|line| number(line).unwrap_or(1)).sum()
    };
    assert_eq!(counts("backend: connected"), 50, "{lines:?}");
    let closed = counts("backend: closed") + counts("backend: lost");
    assert_eq!(closed, 50, "{lines:?}");
}

#[test]
fn a_silent_peer_is_reported_once_after_two_seconds() {
    log::keep();
    let mut play = Play::of(dialling());
    for expected in [1, 0] {
        let id = play.dialled();
        play.pass(GREETING_PATIENCE / 2);
        assert_eq!(log::taken(), [""; 0], "there is time left");
        play.pass(GREETING_PATIENCE);
        let lines = log::taken();
        assert_eq!(lines.len(), expected, "{lines:?}");
        let begin = "WARN queue backend: connected to tcp://example.test:5560 (10.0.0.9:5560), no \
                     greeting yet";
        assert!(
            lines.iter().all(|line| line.starts_with(begin)),
            "{lines:?}"
        );
        play.lose(id);
        let lines = log::taken();
        let end = "before its greeting: closed by the peer";
        assert_eq!(lines.len(), expected, "{lines:?}");
        assert!(lines.iter().all(|line| line.ends_with(end)), "{lines:?}");
    }
}

#[test]
fn a_refusal_names_the_endpoint() {
    log::keep();
    let mut play = Play::of(dialling());
    let id = play.dialled();
    let mut refusal = Vec::new();
    Greeting::new("NULL").emit(&mut refusal);
    append_command(&mut refusal, "ERROR", b"\x07Go away");
    play.feed(id, &refusal);
    play.run_closes();
    let line = "WARN queue backend: closed tcp://example.test:5560 (10.0.0.9:5560): refused: the \
                peer said \"Go away\"";
    assert_eq!(log::taken(), [line]);
}

/// A forwarder whose subscribers have room for this number of messages, and its publisher.
fn forwarding(sndhwm: u32) -> (Play, ConnId) {
    let mut config = proxy("forwarder");
    config.backend.options.sndhwm = sndhwm;
    let mut play = Play::of(config);
    let publisher = play.join_as(SocketName::Frontend, SocketType::Pub);
    (play, publisher)
}

impl Play {
    fn subscriber(&mut self, address: [u8; 4]) -> ConnId {
        self.peer = SocketAddr::from((address, 5));
        let id = self.join_as(SocketName::Backend, SocketType::Sub);
        self.write(id);
        let mut subscribe = Vec::new();
        append_command(&mut subscribe, "SUBSCRIBE", b"");
        self.feed(id, &subscribe);
        id
    }
}

#[test]
fn a_slow_subscriber_is_reported_when_it_begins_to_miss_messages_and_when_it_has_room() {
    log::keep();
    let (mut play, publisher) = forwarding(4);
    let slow = play.subscriber([10, 0, 0, 7]);
    play.send(publisher, &["1", "2", "3", "4"]);
    assert_eq!(log::taken(), [""; 0], "it has missed nothing");
    play.send(publisher, &["5", "6"]);
    play.send(publisher, &["7"]);
    let begin = "WARN forwarder backend: dropping messages for 10.0.0.7:5: its queue is full with \
                 4 messages of ";
    let lines = log::taken();
    assert!(lines.len() == 1 && lines[0].starts_with(begin), "{lines:?}");
    play.write(slow);
    let end =
        "INFO forwarder backend: dropped 3 messages for 10.0.0.7:5 until its queue had room again";
    assert_eq!(log::taken(), [end]);
    // Within a minute it is only counted.
    for _ in 0..3 {
        play.send(publisher, &["1", "2", "3", "4", "5", "6"]);
        play.write(slow);
    }
    assert_eq!(log::taken(), [""; 0]);
    play.pass(MINUTE);
    let sums = [
        "WARN forwarder backend: began 3 more times to drop messages for 10.0.0.7:5 in the last \
         minute",
        "INFO forwarder backend: stopped 3 more times to drop messages for 10.0.0.7:5 in the last \
         minute: dropped 6 messages until then",
    ];
    assert_eq!(log::taken(), sums);
    let fields_of = "proxy=forwarder side=backend peer=10.0.0.7:5 reason=peer-full";
    let fields =
        ["", " count=3", " count=3", " count=6"].map(|count| format!("{fields_of}{count}"));
    assert_eq!(log::taken_fields(), fields);
    play.pass(MINUTE * 2);
    play.send(publisher, &["1", "2", "3", "4", "5"]);
    assert_eq!(log::taken().len(), 1, "no case for a minute");
    play.lose(slow);
    let end = "INFO forwarder backend: dropped 1 message for 10.0.0.7:5 until it left";
    assert_eq!(log::taken(), [end]);
}

#[test]
fn many_slow_subscribers_do_not_flood_the_log() {
    log::keep();
    let (mut play, publisher) = forwarding(1);
    let slow: Vec<ConnId> = (0..250)
        .map(|last| play.subscriber([10, 0, 0, last]))
        .collect();
    play.send(publisher, &["1", "2", "3"]);
    play.turns(10);
    assert_eq!(log::taken().len(), REPORTS_KEPT_MAX);
    for id in slow {
        play.lose(id);
    }
    assert_eq!(log::taken().len(), REPORTS_KEPT_MAX);
    play.core.finish_reports();
    let lines = log::taken();
    let more = 250 - REPORTS_KEPT_MAX;
    let [begin, end] = [
        format!("WARN forwarder backend: began {more} more times to drop messages for "),
        format!("INFO forwarder backend: stopped {more} more times to drop messages for "),
    ];
    assert!(
        lines.len() == 2 && lines[0].starts_with(&begin),
        "{lines:?}"
    );
    assert!(lines[1].starts_with(&end), "{lines:?}");
    let missed = format!("dropped {} messages until then", 2 * more);
    assert!(lines[1].ends_with(&missed), "{lines:?}");
}

#[test]
fn dropping_messages_because_all_sinks_are_full_is_reported() {
    log::keep();
    let mut config = proxy("streamer");
    config.backend.options.sndhwm = 2;
    config.backend.options.overflow = Overflow::DropNewest;
    let mut play = Play::of(config);
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    play.send(source, &["1", "2", "3", "4"]);
    play.send(source, &["5"]);
    let line = "WARN streamer backend: dropping messages: the queues of all peers are full \
                (sndhwm, sndhwm_bytes)";
    assert_eq!(log::taken(), [line]);
    play.write(sink);
    let line = "INFO streamer backend: dropped 3 messages until a queue had room again";
    assert_eq!(log::taken(), [line]);
    let fields = ["", " count=3"];
    let fields = fields.map(|count| format!("proxy=streamer side=backend reason=peer-full{count}"));
    assert_eq!(log::taken_fields(), fields);
    play.send(source, &["1", "2", "3", "4"]);
    assert_eq!(log::taken(), [""; 0], "within a minute it is counted");
    play.core.finish_reports();
    assert_eq!(
        log::taken(),
        [
            "INFO streamer backend: dropped 2 messages until the stop",
            "WARN streamer backend: began 1 more time to drop messages for all peers in the last \
             minute",
        ]
    );
}
