//! A whole core by operations: peers that connect, send, read, stall and leave, in any order.

use super::Feed;
use super::driver::Driver;
use crate::config::{
    CacheConfig, CaptureConfig, Config, ControlConfig, Endpoint, Kind, Overflow, ProxyConfig,
    ReplayConfig, SocketConfig, SocketOptions,
};
use std::time::{Duration, Instant};

/// Pairs of sockets that treat messages differently.
pub(super) const PAIRS: [&str; 10] = [
    "ROUTER:DEALER",
    "XSUB:XPUB",
    "PULL:PUSH",
    "ROUTER:ROUTER",
    "PAIR:PAIR",
    "REP:REQ",
    "SUB:PUB",
    "XSUB:DEALER",
    "REP",
    "ROUTER",
];

/// Reads `data` as events for a broker. It must not panic, must keep its limits, and must end with
/// nothing left when it is stopped.
#[expect(
    clippy::disallowed_methods,
    reason = "any instant works: time moves by operations"
)]
pub fn fuzz_core(data: &[u8]) {
    let mut feed = Feed { rest: data };
    let kind: Kind = PAIRS[feed.below(PAIRS.len())]
        .parse()
        .expect("a legal pair");
    let config = Config {
        proxies: vec![proxy(kind, "fuzz", &mut feed)],
        memory_limit: 1 << (17 + feed.below(6)),
        ..Config::default()
    };
    let mut driver = Driver::of(Instant::now(), &config);
    // Long inputs find nothing that short ones do not.
    for _ in 0..400 {
        let Some(operation) = feed.byte() else { break };
        driver.operate(operation, &mut feed);
        driver.finish_turn();
    }
    driver.stop();
}

/// A proxy with all possible parts, and small limits.
fn proxy(kind: Kind, name: &str, feed: &mut Feed<'_>) -> ProxyConfig {
    let overflows = [
        Overflow::Standard,
        Overflow::Block,
        Overflow::DropNewest,
        Overflow::DropOldest,
        Overflow::Conflate,
        Overflow::ConflateTopic,
        Overflow::Disconnect,
    ];
    let endpoint: Endpoint = "tcp://127.0.0.1:1".parse().expect("an endpoint");
    let mut side = || SocketConfig {
        bind: vec![endpoint.clone()],
        options: SocketOptions {
            maxmsgsize: 100_000,
            max_age: Duration::from_millis([0, 0, 20][feed.below(3)]),
            overflow: overflows[feed.below(overflows.len())],
            sndhwm: [0, 1, 4, 1000][feed.below(4)],
            sndhwm_bytes: [100, 5000, 1 << 20][feed.below(3)],
            subscriptions_max: 20,
            ..SocketOptions::default()
        },
        ..SocketConfig::default()
    };
    let mut proxy = ProxyConfig {
        frontend: side(),
        backend: side(),
        capture: CaptureConfig {
            socket: side(),
            ..CaptureConfig::default()
        },
        control: ControlConfig {
            socket: side(),
            ..ControlConfig::default()
        },
        ..ProxyConfig::new(kind, name)
    };
    if kind.is_echo {
        proxy.backend = SocketConfig::default();
    } else {
        proxy.backend.connect = vec![endpoint.into()];
    }
    keep(&mut proxy, feed, |_| side_of_replay());
    proxy
}

fn side_of_replay() -> SocketConfig {
    SocketConfig {
        bind: vec!["tcp://127.0.0.1:2".parse().expect("an endpoint")],
        options: SocketOptions {
            sndhwm: 4,
            ..SocketOptions::default()
        },
        ..SocketConfig::default()
    }
}

/// Lets a forwarder keep messages for late joiners.
pub(super) fn keep(
    proxy: &mut ProxyConfig,
    feed: &mut Feed<'_>,
    socket: impl FnOnce(&mut Feed<'_>) -> SocketConfig,
) {
    if proxy.publishers().is_none() {
        return;
    }
    if feed.below(3) == 0 {
        proxy.cache = Some(CacheConfig {
            age_max: [None, Some(Duration::from_millis(20))][feed.below(2)],
            bytes_max: 1 << (9 + feed.below(6)),
            empty_deletes: feed.below(2) == 0,
            topics: [&["a", "bc"][..], &[""]][feed.below(2)]
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..CacheConfig::default()
        });
    }
    if feed.below(3) == 0 {
        proxy.replay = ReplayConfig {
            bytes_max: 1 << (9 + feed.below(6)),
            messages_max: 1 << feed.below(8),
            sequence: feed.below(2) == 0,
            socket: socket(feed),
        };
    }
}
