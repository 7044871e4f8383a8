//! Subscribers whose roles limit what they receive.

use super::*;
use crate::config::{RoleConfig, TopicRule};
use crate::pattern::xpub::Limits;
use crate::permit::Permits;
use std::sync::Arc;

fn limits(allowed: &[&str], denied: &[&str], subscriptions_max: u32) -> Limits {
    let rules = |texts: &[&str]| -> Vec<TopicRule> {
        let rules = texts.iter().map(|text| text.parse().expect(text));
        rules.collect()
    };
    let role = RoleConfig {
        subscribe: rules(allowed),
        subscribe_deny: rules(denied),
        ..RoleConfig::default()
    };
    Limits {
        permits: Arc::new(Permits::subscribe(&role, "ann")),
        subscriptions_max,
    }
}

/// Collects what publishers are told.
fn told(lines: &mut Vec<String>) -> impl FnMut(&[u8], Notice) {
    |topic, notice| {
        if let Some(change) = notice.to_publishers {
            let sign = if change.is_add() { '+' } else { '-' };
            lines.push(format!("{sign}{}", topic.escape_ascii()));
        }
    }
}

#[test]
fn a_cancel_ends_what_its_subscription_began_and_no_more() {
    let (mut pattern, _, ids) = xpub_with(&[&[], &[]]);
    let Pattern::Xpub(xpub) = &mut pattern else {
        unreachable!()
    };
    let peer = ids[0];
    let mut lines = Vec::new();
    xpub.limit(
        peer,
        Some(limits(&["a", "b", "=c"], &["ax"], 9)),
        &OPTIONS,
        &mut told(&mut lines),
    )
    .expect("nothing is subscribed to");
    let mut change = |topic: &str, add| {
        let mut lines = Vec::new();
        let done = xpub.handle_subscription(
            peer,
            (topic.as_bytes(), add),
            &OPTIONS,
            &mut told(&mut lines),
        );
        (done.expect("there is room"), lines.join(" "))
    };
    let is = |permitted, lines: &str| (permitted, lines.to_owned());
    assert_eq!(change("", true), is(true, "+a +b +c"));
    assert_eq!(change("", true), is(true, ""), "the same again");
    assert_eq!(change("a", true), is(true, ""), "it has that already");
    assert_eq!(change("ab", true), is(true, "+ab"));
    assert_eq!(change("ax", true), is(false, ""), "denied");
    assert_eq!(change("d", true), is(false, ""), "not permitted");
    assert_eq!(change("c", true), is(true, ""));
    assert_eq!(
        change("", false),
        is(true, "-b"),
        "a and c are still wanted"
    );
    assert_eq!(change("", false), is(true, ""), "it is not subscribed to");
    assert_eq!(change("c", false), is(true, "-c"));
    assert_eq!(change("a", false), is(true, "-a"));
    assert_eq!(change("ab", false), is(true, "-ab"));
    assert_eq!(change("d", false), is(false, ""));
    assert_eq!(xpub.subscriptions_of(peer), 0);
}

#[test]
fn the_limit_is_for_the_subscriptions_that_the_peer_makes() {
    let (mut pattern, _, ids) = xpub_with(&[&[]]);
    let Pattern::Xpub(xpub) = &mut pattern else {
        unreachable!()
    };
    let wide = limits(&["a", "b", "c", "d"], &[], 2);
    let options = SocketOptions {
        subscriptions_max: 3,
        ..OPTIONS.clone()
    };
    let mut ignore = |_: &[u8], _| {};
    xpub.limit(ids[0], Some(wide), &options, &mut ignore)
        .unwrap();
    for topic in [&b""[..], b"a", b"a"] {
        let done = xpub.handle_subscription(ids[0], (topic, true), &options, &mut ignore);
        assert_eq!(done, Ok(true));
    }
    let refused = xpub.handle_subscription(ids[0], (b"b", true), &options, &mut ignore);
    assert_eq!(refused, Err(CloseReason::TooManySubscriptions));
}

#[test]
fn another_role_cancels_and_makes_subscriptions() {
    let (mut pattern, mut conns, ids) = xpub_with(&[&[], &[]]);
    let Pattern::Xpub(xpub) = &mut pattern else {
        unreachable!()
    };
    let mut ignore = |_: &[u8], _| {};
    for topic in [&b""[..], b"bc"] {
        xpub.handle_subscription(ids[0], (topic, true), &OPTIONS, &mut ignore)
            .unwrap();
    }
    let mut limit = |limits: Option<Limits>| {
        let mut lines = Vec::new();
        xpub.limit(ids[0], limits, &OPTIONS, &mut told(&mut lines))
            .unwrap();
        lines.sort();
        lines.join(" ")
    };
    assert_eq!(limit(Some(limits(&["a", "b"], &[], 9))), "+a +b -");
    assert_eq!(limit(Some(limits(&["b", "=c"], &["bc"], 9))), "+c -a -bc");
    assert_eq!(limit(Some(limits(&[], &[], 9))), "-b -c");
    assert_eq!(limit(None), "+ +bc");
    let _ = limit(Some(limits(&["b", "=c"], &["bd"], 9)));
    assert!(pattern.has_filters());
    for (topic, expected) in [("b", 1), ("bd", 0), ("c", 1), ("cc", 0), ("a", 0)] {
        assert!(pattern.match_permitted(topic.as_bytes()));
        let Pattern::Xpub(xpub) = &mut pattern else {
            unreachable!()
        };
        let mut targets = Vec::new();
        xpub.found(&conns, &OPTIONS, &mut targets);
        assert_eq!(targets.len(), expected, "{topic}");
    }
    let before = pattern.subscription_memory();
    assert_eq!(pattern.walk_subscriptions(), before);
    pattern.detach(ids[0], &mut conns);
    assert!(!pattern.has_filters());
    assert!(
        pattern.subscription_memory() < before,
        "the memory is given back"
    );
}
