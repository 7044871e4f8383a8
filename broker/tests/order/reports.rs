//! What the log hears of peers: one line for each cause and address, then one sum a minute.

use crate::log;
use crate::play::{Play, proxy};
use broker::config::{Config, Side};
use broker::limits::REPORTS_KEPT_MAX;
use broker::{Action, SocketId};
use std::net::SocketAddr;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

impl Play {
    /// Peers come from this address, send what is not ZMTP, and are closed.
    fn strangers(&mut self, proxy: u32, address: [u8; 4], count: u16) {
        for port in 1..=count {
            let side = Side::Frontend;
            let peer = SocketAddr::from((address, port));
            let id = self
                .core
                .handle_accepted(self.now, SocketId { proxy, side }, peer);
            self.feed(id, b"GET / HTTP/1.1\r\n");
            self.close_doomed();
        }
    }

    fn close_doomed(&mut self) {
        self.core.begin_turn(self.now);
        while self.core.settle(self.now) {}
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
    let sum = "WARN queue frontend: closed 43 more peers from 10.0.0.7 and 1 other address in the \
               last minute: not-zmtp (43)";
    assert_eq!(log::taken(), [sum]);
    play.strangers(0, [10, 0, 0, 8], 1);
    assert_eq!(log::taken(), [""; 0], "it is not forgotten yet");
    play.pass(MINUTE);
    let sum = "WARN queue frontend: closed 1 more peer from 10.0.0.8 in the last minute: \
               not-zmtp (1)";
    assert_eq!(log::taken(), [sum]);
    play.strangers(0, [10, 0, 0, 7], 1);
    assert_eq!(log::taken().len(), 1, "it was quiet for a minute");
    play.pass(MINUTE * 3);
    assert_eq!(log::taken(), [""; 0]);
    assert_eq!(play.core.poll_timeout(), None, "nothing is left to be said");
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
fn a_memory_limit_that_is_reached_over_and_over_is_a_line_and_a_sum() {
    log::keep();
    let mut config = proxy("streamer");
    config.frontend.options.rcvhwm = 1;
    let mut play = Play::run(&Config {
        memory_limit: 1 << 20,
        proxies: vec![config],
        ..Config::default()
    });
    let _sink = play.join(Side::Backend);
    let source = play.join(Side::Frontend);
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
