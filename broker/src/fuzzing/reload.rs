//! A broker whose configuration changes again and again, against one that starts with the last.

use super::Feed;
use super::core::{PAIRS, keep};
use super::driver::{Driver, Line, handshake, said};
use crate::ChangeError;
use crate::config::{
    Admission, Applies, CaptureFormat, Change, Config, Endpoint, Kind, ProxyConfig, RoleConfig,
    SocketConfig, SocketName, SocketOption, SocketOptions, TopicRule, Value, ValueKind, diff,
};
use crate::ids::{ConnId, ProxyId};
use crate::view::StopState;
use std::hash::Hasher;
use std::time::{Duration, Instant};
use zmtp::SocketType;
use zmtp::encode::append_command;

/// Reads `data` as configurations and the peers that see them change. In the end the broker must
/// be like one that was started with the last configuration: in its sockets, listeners, links and
/// options, and in what it sends new peers.
#[expect(
    clippy::disallowed_methods,
    reason = "any instant works: time moves by operations"
)]
pub fn fuzz_reload(data: &[u8]) {
    let mut feed = Feed { rest: data };
    let first = config(&mut feed);
    if first.check().is_err() {
        return;
    }
    let mut driver = Driver::of(Instant::now(), &first);
    driver.finish_turn();
    for _ in 0..1 + feed.below(4) {
        for _ in 0..feed.below(12) {
            let operation = feed.byte().unwrap_or_default();
            driver.operate(operation, &mut feed);
            driver.finish_turn();
        }
        reload(&mut driver, &mut feed);
    }
    if !settle(&mut driver) {
        return driver.stop();
    }
    let last = running(&mut driver);
    let has_links = last.proxies.iter().any(has_links);
    // What the first broker keeps, or has numbered, the second one never received.
    let keeps = |it: &ProxyConfig| it.cache.is_some() || it.replay.socket.has_endpoint();
    let has_kept = last.proxies.iter().any(keeps);
    // The same goes for subscriptions that came as messages: an XSUB has them for good.
    let subscribes = |it: &ProxyConfig| {
        it.kind.frontend == SocketType::Xsub && it.kind.backend != SocketType::Xpub
    };
    let has_subscribed = last.proxies.iter().any(subscribes);
    let mut fresh = Driver::of(driver.now, &last);
    fresh.finish_turn();
    let [changed, started] = [&driver, &fresh].map(|it| it.core.walk_configured());
    for (changed, started) in changed.iter().zip(&started) {
        assert_eq!(changed, started);
    }
    assert_eq!(driver.core.walk_tables(), fresh.core.walk_tables());
    // A peer that has left may have messages that wait for a receiver. Those for a link may wait
    // for it in any number.
    let left = driver.core.memory();
    let is_clean = driver.lines.is_empty() && (left.inputs, left.queues) == (0, 0);
    if is_clean && !(has_links || has_kept || has_subscribed) {
        let said = feed.rest;
        let [changed, started] =
            [&mut driver, &mut fresh].map(|driver| converse(driver, &mut Feed { rest: said }));
        assert_eq!(changed, started);
    }
    driver.stop();
    fresh.stop();
}

fn running(driver: &mut Driver) -> Config {
    driver.core.admin(driver.now).config().clone()
}

/// Settings that need a restart may have their former values.
fn assert_is_running(driver: &mut Driver, config: &Config) {
    let changes = diff(&running(driver), config).list;
    let mut left = changes.iter().map(Change::applies);
    assert!(
        left.all(|applies| applies == Applies::Restart),
        "{changes:?}"
    );
}

fn has_links(proxy: &ProxyConfig) -> bool {
    let mut sockets = SocketName::ALL.into_iter();
    sockets.any(|name| !proxy.socket(name).connect.is_empty())
}

/// Applies another configuration. If that fails, the former one must still be there.
fn reload(driver: &mut Driver, feed: &mut Feed<'_>) {
    let next = config(feed);
    let before = running(driver);
    if feed.below(4) == 0 {
        driver.refused = vec![endpoint(feed)];
    }
    let changes = diff(&before, &next);
    let begun = driver.core.admin(driver.now).apply(&changes);
    if feed.below(2) == 0 {
        // Peers come and speak while endpoints are opened.
        driver.operate(feed.byte().unwrap_or_default(), feed);
    }
    driver.finish_turn();
    let outcome = begun.and_then(|id| {
        let outcome = driver.core.take_outcome(id);
        outcome.expect("the system answers at once").map(drop)
    });
    let is_refused = !std::mem::take(&mut driver.refused).is_empty();
    match outcome {
        // An endpoint that is to be bound again after all may be lost.
        _ if is_refused => {}
        Ok(()) => assert_is_running(driver, &next),
        // A peer of a control has ended the broker, or a proxy.
        Err(ChangeError::Stopping) => {}
        Err(ChangeError::ProxyStopping(_)) => assert_is_running(driver, &before),
        Err(error) => {
            assert!(matches!(error, ChangeError::Illegal(_)), "{error}");
            assert!(next.check().is_err(), "{error}");
            assert_is_running(driver, &before);
        }
    }
}

/// All peers leave, removed proxies with them, and paused ones go on. Returns false if a proxy
/// ends that is still configured, as a peer of a control may have demanded.
fn settle(driver: &mut Driver) -> bool {
    let lines: Vec<ConnId> = driver.lines.keys().copied().collect();
    for id in lines {
        driver.core.handle_read_closed(id, None);
        driver.core.handle_write_failed(id);
    }
    for _ in 0..40 {
        driver.now += Duration::from_secs(1);
        driver.finish_turn();
    }
    let mut admin = driver.core.admin(driver.now);
    for proxy in admin.proxies() {
        if proxy.stop != StopState::Running || admin.resume(proxy.id).is_err() {
            return false;
        }
    }
    driver.finish_turn();
    true
}

/// One peer of each side and capture connects, they speak in turns, and read everything. Returns
/// the sums of what each has read.
fn converse(driver: &mut Driver, feed: &mut Feed<'_>) -> Vec<Option<u64>> {
    let mut peers = Vec::new();
    let mut admin = driver.core.admin(driver.now);
    let views = admin.proxies();
    let mut proxies: Vec<(String, ProxyId)> =
        views.into_iter().map(|it| (it.name, it.id)).collect();
    proxies.sort();
    for (name, proxy) in proxies {
        for side in [
            SocketName::Frontend,
            SocketName::Backend,
            SocketName::Capture,
        ] {
            let identity = format!("{name} {side}");
            peers.extend(join(driver, proxy, side, identity.as_bytes()));
        }
    }
    for _ in 0..20 {
        if peers.is_empty() {
            break;
        }
        let id = peers[feed.below(peers.len())];
        let bytes = said(feed);
        driver.receive(id, &bytes);
        driver.finish_turn();
    }
    let sum = |id: &ConnId| Some(driver.lines.get(id)?.written.finish());
    peers.iter().map(sum).collect()
}

/// Lets a peer connect that reads all that it gets, and subscribes to everything if it can.
fn join(driver: &mut Driver, proxy: ProxyId, side: SocketName, name: &[u8]) -> Option<ConnId> {
    let socket = driver.core.socket(proxy, side)?;
    let listener = driver.core.listeners(socket).next()?;
    let address = driver.address();
    let id = driver.core.handle_accepted(driver.now, listener, address)?;
    let peer_type = *driver.core.walk_peer_types(id).first()?;
    driver.lines.insert(id, Line::new(peer_type, usize::MAX));
    let mut hello = handshake(peer_type, name);
    if matches!(peer_type, SocketType::Sub | SocketType::Xsub) {
        append_command(&mut hello, "SUBSCRIBE", b"");
    }
    driver.receive(id, &hello);
    Some(id)
}

/// Any configuration of up to three proxies; most are legal.
fn config(feed: &mut Feed<'_>) -> Config {
    let names = ["a", "b", "c"];
    let first = feed.below(3);
    let proxies = (0..1 + feed.below(3)).map(|index| proxy(names[(first + index) % 3], feed));
    let mut config = Config {
        proxies: proxies.collect(),
        ..Config::default()
    };
    if feed.below(4) == 0 {
        config.memory_limit = 1 << (18 + feed.below(6));
        config.drain_timeout = Duration::from_millis(1 << feed.below(13));
    }
    if feed.below(4) == 0 {
        let name = ["default", "other"][feed.below(2)];
        let publish = vec!["a".parse::<TopicRule>().expect("a rule")];
        config.roles.push(RoleConfig {
            name: name.to_owned(),
            publish,
            ..RoleConfig::default()
        });
    }
    config
}

fn proxy(name: &str, feed: &mut Feed<'_>) -> ProxyConfig {
    let kind = PAIRS[feed.below(PAIRS.len())].parse();
    let kind: Kind = kind.expect("a legal pair");
    let mut proxy = ProxyConfig::new(kind, name);
    proxy.frontend = side(feed);
    if !kind.is_echo {
        proxy.backend = side(feed);
    }
    if feed.below(3) == 0 {
        proxy.capture.socket = side(feed);
        proxy.capture.format = [CaptureFormat::Monitored, CaptureFormat::Proxy][feed.below(2)];
        proxy.capture.socket_type = [SocketType::Pub, SocketType::Push][feed.below(2)];
    }
    if feed.below(3) == 0 {
        proxy.control.socket = side(feed);
        proxy.control.socket_type = [SocketType::Rep, SocketType::Sub][feed.below(2)];
    }
    keep(&mut proxy, feed, side);
    proxy
}

fn side(feed: &mut Feed<'_>) -> SocketConfig {
    let mut side = SocketConfig::default();
    for _ in 0..1 + feed.below(2) {
        side.bind.push(endpoint(feed));
    }
    if feed.below(5) == 0 {
        side.connect.push(endpoint(feed).into());
    }
    if feed.below(8) == 0 {
        side.admission = Admission::Program;
    }
    for _ in 0..feed.below(3) {
        option(&mut side.options, feed);
    }
    side
}

/// Endpoints of loopback: few enough to be drawn again, and to overlap rarely.
fn endpoint(feed: &mut Feed<'_>) -> Endpoint {
    let text = format!("tcp://127.0.0.1:{}", 1 + feed.below(40));
    text.parse().expect("an endpoint")
}

/// Sets any option to any legal value, unless its values have a form of their own.
fn option(options: &mut SocketOptions, feed: &mut Feed<'_>) {
    let option = &SocketOption::ALL[feed.below(SocketOption::ALL.len())];
    if option.names_keys() {
        return;
    }
    let value = match option.kind {
        ValueKind::Choice(names) => Value::Text(names[feed.below(names.len())].to_owned()),
        ValueKind::Flag => Value::Flag(feed.below(2) == 0),
        ValueKind::List => Value::List(vec![["a", "127.0.0.1"][feed.below(2)].to_owned()]),
        ValueKind::Number { max, min, .. } => {
            let exponent = feed.below(24);
            Value::Number((1_i64 << exponent).clamp(min, max))
        }
        ValueKind::Text { .. } => Value::Text(["", "a"][feed.below(2)].to_owned()),
    };
    // Some texts have a form of their own.
    let _ = option.set(options, value);
}
