mod policies;
mod roles;

use super::xpub::Notice;
use super::xsub::publisher::Change;
use super::*;
use crate::conn::egress::{Egress, Store, Unsent};
use crate::conn::outbox::Outbox;
use crate::conn::{Conn, Origin, Phase};
use crate::ids::{ProxyId, SocketId};
use crate::table::Handle;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use zmtp::encode::{append_frame, append_message};
use zmtp::{Session, SessionConfig};

static OPTIONS: LazyLock<SocketOptions> = LazyLock::new(|| SocketOptions {
    sndhwm: 2,
    ..SocketOptions::DEFAULT
});

fn new(socket_type: SocketType) -> Pattern {
    Pattern::new(socket_type, &OPTIONS)
}

/// Each function below uses a store of its own.
fn store() -> Store {
    Store::boundless()
}

/// The number of a connection, in the order in which they were made.
fn number(id: ConnId) -> u32 {
    id.slot - 1 - ConnTable::OWN_SLOT
}

const STRANGER: ConnId = ConnId {
    generation: 9,
    slot: 9,
};

#[expect(
    clippy::disallowed_methods,
    reason = "any instant works: no deadline is checked"
)]
fn add(conns: &mut ConnTable) -> ConnId {
    let config = Arc::new(SessionConfig::new(SocketType::Router));
    let now = Instant::now();
    let session = Session::new(config, now, &mut Vec::new());
    let ids = (ProxyId::new(0, 0), SocketId::new(0, 0));
    let address = SocketAddr::from(([127, 0, 0, 1], 1)).into();
    let mut conn = Conn::new(now, session, ids, address, Origin::Accepted);
    conn.phase = Phase::Ready;
    conns.insert(conn)
}

fn fill(conns: &mut ConnTable, id: ConnId, is_blocked: bool) {
    let conn = conns.get_mut(id).unwrap();
    conn.is_blocked = is_blocked;
    let mut pool = store();
    for _ in 0..OPTIONS.sndhwm {
        conn.egress.push_bytes(b"\0\x01x", 1, &mut pool);
    }
}

fn drain(conns: &mut ConnTable, id: ConnId, size: usize) {
    let conn = conns.get_mut(id).unwrap();
    conn.is_blocked = false;
    conn.egress.advance(size, &mut store());
}

/// Unsent messages of a peer that left.
fn unsent(messages: &[Vec<u8>], store: &mut Store) -> Unsent {
    let mut gone = Egress::default();
    for message in messages {
        gone.push_bytes(message, 1, store);
    }
    gone.close_and_take(store)
}

fn message(frames: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    append_message(&mut out, frames);
    out
}

fn attach(
    pattern: &mut Pattern,
    id: ConnId,
    identity: &[u8],
    conns: &mut ConnTable,
) -> Result<Option<ConnId>, CloseReason> {
    pattern.attach(id, identity, conns)
}

/// The route of a message, and its envelope.
fn route_with(
    pattern: &mut Pattern,
    conns: &mut ConnTable,
    wire: &[u8],
    targets: &mut Vec<ConnId>,
) -> (Route, Vec<u8>) {
    let mut envelope = Vec::new();
    let route = route_as_the_loop_does(pattern, conns, &OPTIONS, wire, targets, &mut envelope);
    (route, envelope)
}

/// Uses the fast path where possible.
fn route_as_the_loop_does(
    pattern: &mut Pattern,
    conns: &mut ConnTable,
    options: &SocketOptions,
    wire: &[u8],
    targets: &mut Vec<ConnId>,
    envelope: &mut Vec<u8>,
) -> Route {
    if let Some((id, skip)) = pattern.one(wire, conns, options) {
        return Route::To { id, skip };
    }
    let message = Outgoing {
        is_matched: false,
        prefix: &[],
        sender: STRANGER,
        wire,
    };
    pattern.route(message, conns, options, targets, envelope)
}

fn route(pattern: &mut Pattern, conns: &mut ConnTable, wire: &[u8]) -> Route {
    route_with(pattern, conns, wire, &mut Vec::new()).0
}

/// The numbers of the next `count` peers with a turn.
fn rotation(pattern: &mut Pattern, conns: &mut ConnTable, count: usize) -> Vec<u32> {
    let mut next = || match route(pattern, conns, b"") {
        Route::To { id, skip: 0 } => number(id),
        other => panic!("a peer has room, but: {other:?}"),
    };
    (0..count).map(|_| next()).collect()
}

fn push_with_peers(count: usize) -> (Pattern, ConnTable, Vec<ConnId>) {
    let (mut pattern, mut conns) = (new(SocketType::Push), ConnTable::new(0));
    let ids: Vec<_> = (0..count).map(|_| add(&mut conns)).collect();
    for id in &ids {
        assert_eq!(attach(&mut pattern, *id, b"", &mut conns), Ok(None));
    }
    (pattern, conns, ids)
}

#[test]
fn turns_go_round_in_the_order_of_attaching() {
    let (mut pattern, mut conns, _) = push_with_peers(3);
    assert_eq!(rotation(&mut pattern, &mut conns, 7), [0, 1, 2, 0, 1, 2, 0]);
}

#[test]
fn turns_survive_every_removal() {
    for removed in 0..4 {
        for before in 0..4 {
            let (mut pattern, mut conns, ids) = push_with_peers(4);
            rotation(&mut pattern, &mut conns, before);
            pattern.detach(ids[removed], &mut conns);
            conns.remove(ids[removed]);
            let mut seen = rotation(&mut pattern, &mut conns, 6);
            let first_round = seen[..3].to_vec();
            assert_eq!(seen[3..], first_round, "the rotation repeats");
            seen.sort_unstable();
            seen.dedup();
            let left: Vec<u32> = (0..4).filter(|slot| *slot as usize != removed).collect();
            assert_eq!(seen, left);
        }
    }
}

#[test]
fn a_full_peer_is_flushed_then_passed_over_then_comes_back_half_empty() {
    let (mut pattern, mut conns, ids) = push_with_peers(2);
    fill(&mut conns, ids[0], false);
    let route = route(&mut pattern, &mut conns, b"");
    assert_eq!(route, Route::Flush(ids[0]));
    conns.get_mut(ids[0]).unwrap().is_blocked = true;
    assert_eq!(rotation(&mut pattern, &mut conns, 3), [1, 1, 1]);
    let balancer = pattern.balancer().unwrap();
    balancer.writable(ids[0], &mut conns, &OPTIONS);
    let conn = conns.get(ids[0]).unwrap();
    assert!(balancer.is_full(ids[0], conn), "nothing has drained");
    drain(&mut conns, ids[0], 6);
    balancer.writable(ids[0], &mut conns, &OPTIONS);
    assert_eq!(rotation(&mut pattern, &mut conns, 4), [1, 0, 1, 0]);
}

#[test]
fn without_a_receiver_a_message_waits() {
    let (mut pattern, mut conns, ids) = push_with_peers(1);
    fill(&mut conns, ids[0], true);
    let mut again = || route(&mut pattern, &mut conns, b"");
    assert_eq!(again(), Route::Wait);
    assert_eq!(again(), Route::Wait);
}

#[test]
fn orphaned_messages_go_first_and_in_order() {
    let (mut pattern, mut conns, ids) = push_with_peers(1);
    let mut outbox = Outbox::default();
    let orphaned = [message(&[b"a", b"b"]), message(&[b"c"]), message(&[b"d"])];
    let balancer = pattern.balancer().unwrap();
    let stranded_now = unsent(&orphaned, &mut outbox.store);
    balancer.requeue(stranded_now, &mut outbox.store);
    assert_eq!(balancer.route(&mut conns, &OPTIONS), Route::Wait);
    balancer.deliver_orphaned(&mut conns, &OPTIONS, &mut outbox, &mut Errand::default());
    let queued = conns.get(ids[0]).unwrap().egress.messages();
    assert_eq!(queued, OPTIONS.sndhwm, "the high-water mark");
    assert!(balancer.has_orphaned());
    drain(&mut conns, ids[0], orphaned[0].len() + orphaned[1].len());
    balancer.deliver_orphaned(&mut conns, &OPTIONS, &mut outbox, &mut Errand::default());
    assert!(!balancer.has_orphaned());
    let egress = &mut conns.get_mut(ids[0]).unwrap().egress;
    let mut rest = egress.close_and_take(&mut outbox.store);
    assert_eq!(
        rest.pop(&mut outbox.store).as_deref(),
        Some(&orphaned[2][..])
    );
    assert!(rest.is_empty());
}

fn router_with(identities: &[&[u8]]) -> (Pattern, ConnTable, Vec<ConnId>) {
    let (mut pattern, mut conns) = (new(SocketType::Router), ConnTable::new(0));
    let mut ids = Vec::new();
    for identity in identities {
        let id = add(&mut conns);
        assert_eq!(attach(&mut pattern, id, identity, &mut conns), Ok(None));
        ids.push(id);
    }
    (pattern, conns, ids)
}

fn route_to(pattern: &mut Pattern, conns: &mut ConnTable, identity: &[u8]) -> Route {
    route(pattern, conns, &message(&[identity, b"body"]))
}

fn identity_of(conns: &ConnTable, id: ConnId) -> Vec<u8> {
    conns.get(id).unwrap().identity_frame[2..].to_vec()
}

#[test]
fn replies_find_announced_and_generated_identities() {
    let long = [7; 255];
    let (mut pattern, mut conns, ids) = router_with(&[b"a\0b", b"", &long, b""]);
    for id in &ids {
        let identity = identity_of(&conns, *id);
        let skip = 2 + identity.len();
        assert_eq!(
            route_to(&mut pattern, &mut conns, &identity),
            Route::To { id: *id, skip }
        );
    }
    assert_ne!(identity_of(&conns, ids[1]), identity_of(&conns, ids[3]));
    assert_eq!(
        route_to(&mut pattern, &mut conns, b"who"),
        Route::Drop(DropReason::NoSuchPeer)
    );
}

#[test]
fn a_late_reply_reaches_no_other_peer() {
    let (mut pattern, mut conns, ids) = router_with(&[b""]);
    let identity = identity_of(&conns, ids[0]);
    pattern.detach(ids[0], &mut conns);
    conns.remove(ids[0]);
    let next = add(&mut conns);
    assert_eq!(next.slot, ids[0].slot, "another peer has the slot");
    assert_eq!(attach(&mut pattern, next, b"", &mut conns), Ok(None));
    let route = route_to(&mut pattern, &mut conns, &identity);
    assert_eq!(route, Route::Drop(DropReason::NoSuchPeer));
}

#[test]
fn the_newest_peer_keeps_the_identity_when_the_older_one_leaves() {
    let (mut pattern, mut conns, ids) = router_with(&[b"name"]);
    let newer = add(&mut conns);
    assert_eq!(
        attach(&mut pattern, newer, b"name", &mut conns),
        Ok(Some(ids[0]))
    );
    pattern.detach(ids[0], &mut conns);
    conns.remove(ids[0]);
    let expected = Route::To { id: newer, skip: 6 };
    assert_eq!(route_to(&mut pattern, &mut conns, b"name"), expected);
}

#[test]
fn no_peer_gets_an_identity_of_the_generated_form() {
    let (mut pattern, mut conns, ids) = router_with(&[b""]);
    let given = identity_of(&conns, ids[0]);
    let mut coming = given.clone();
    coming[4] += 2;
    for generated in [given, coming] {
        let thief = add(&mut conns);
        let refused = attach(&mut pattern, thief, &generated, &mut conns);
        assert_eq!(refused, Err(CloseReason::IdentityReserved));
        conns.remove(thief);
    }
}

#[test]
fn a_router_drops_undeliverable_messages_with_a_reason() {
    let (mut pattern, mut conns, ids) = router_with(&[b"a"]);
    let mut identity_only = Vec::new();
    append_frame(&mut identity_only, b"a", false);
    let route = route(&mut pattern, &mut conns, &identity_only);
    assert_eq!(route, Route::Drop(DropReason::WithoutBody));
    fill(&mut conns, ids[0], false);
    assert_eq!(
        route_to(&mut pattern, &mut conns, b"a"),
        Route::Flush(ids[0])
    );
    conns.get_mut(ids[0]).unwrap().is_blocked = true;
    assert_eq!(
        route_to(&mut pattern, &mut conns, b"a"),
        Route::Full(ids[0])
    );
}

fn xpub_with(topics: &[&[&[u8]]]) -> (Pattern, ConnTable, Vec<ConnId>) {
    let (mut pattern, mut conns) = (new(SocketType::Xpub), ConnTable::new(0));
    let mut ids = Vec::new();
    for topics in topics {
        let id = add(&mut conns);
        ids.push(id);
        let Pattern::Xpub(xpub) = &mut pattern else {
            unreachable!()
        };
        for topic in *topics {
            xpub.subscribe(id, topic, true, &OPTIONS).unwrap();
        }
    }
    (pattern, conns, ids)
}

fn receivers(pattern: &mut Pattern, conns: &mut ConnTable, topic: &[u8]) -> (Vec<u32>, u32) {
    let mut targets = Vec::new();
    match route_with(pattern, conns, &message(&[topic, b"body"]), &mut targets).0 {
        Route::Targets { full } => {
            split_missing(&mut targets, full);
            let mut slots: Vec<_> = targets.iter().map(|id| number(*id)).collect();
            slots.sort_unstable();
            (slots, full)
        }
        other => panic!("a fan-out, but: {other:?}"),
    }
}

#[test]
fn each_subscriber_gets_a_message_once() {
    let (mut pattern, mut conns, _) = xpub_with(&[&[b"", b"a", b"ab"], &[b"a"], &[b"b"], &[]]);
    let table: [(&[u8], &[u32]); 5] = [
        (b"abc", &[0, 1]),
        (b"a", &[0, 1]),
        (b"b", &[0, 2]),
        (b"", &[0]),
        (b"c", &[0]),
    ];
    for (topic, expected) in table {
        let (slots, full) = receivers(&mut pattern, &mut conns, topic);
        assert_eq!(
            (&slots[..], full),
            (expected, 0),
            "{}",
            topic.escape_ascii()
        );
    }
}

#[test]
fn only_the_slow_subscriber_misses_a_message() {
    let (mut pattern, mut conns, ids) = xpub_with(&[&[b""], &[b""], &[b""]]);
    fill(&mut conns, ids[1], true);
    assert_eq!(receivers(&mut pattern, &mut conns, b"t"), (vec![0, 2], 1));
    conns.get_mut(ids[2]).unwrap().egress.close(&mut store());
    assert_eq!(receivers(&mut pattern, &mut conns, b"t"), (vec![0], 1));
    fill(&mut conns, ids[0], false);
    let route = route(&mut pattern, &mut conns, b"\0\x01t");
    assert_eq!(
        route,
        Route::Flush(ids[0]),
        "a peer that was not asked is not slow"
    );
}

#[test]
fn messages_take_the_same_route_on_every_path() {
    let topic = |topic: &[u8]| message(&[topic, b"body"]);
    for (topics, is_steady) in [
        (&[&[][..]][..], true),
        (&[&[&b""[..]], &[b""]], true),
        (&[&[b""], &[b"", b"a"]], false),
    ] {
        let (mut pattern, mut conns, _) = xpub_with(topics);
        assert_eq!(pattern.is_steady(), is_steady, "{topics:?}");
        receivers(&mut pattern, &mut conns, b"b");
        assert!(pattern.repeats(&topic(b"c")), "{topics:?}");
    }
    let (mut pattern, mut conns, _) = xpub_with(&[&[b"a", b"ab"], &[b"b"], &[b"a"]]);
    receivers(&mut pattern, &mut conns, b"a");
    let repeats = [&b"ab"[..], b"b", b"a"].map(|text| pattern.repeats(&topic(text)));
    assert_eq!(repeats, [true, false, true]);

    let steady = [1, 2].map(|peers| push_with_peers(peers).0.is_steady());
    assert_eq!(steady, [true, false]);
    let (mut pattern, mut conns, _) = push_with_peers(1);
    if let Some(balancer) = pattern.balancer() {
        let mut store = store();
        let taken_back = unsent(&[message(&[b"taken back"])], &mut store);
        balancer.requeue(taken_back, &mut store);
    }
    assert!(!pattern.is_steady(), "orphaned messages go first");
    assert_eq!(route(&mut pattern, &mut conns, b""), Route::Wait);
}

#[test]
fn publishers_hear_of_the_first_and_the_last() {
    let (mut pattern, mut conns, ids) = xpub_with(&[&[], &[]]);
    let Pattern::Xpub(xpub) = &mut pattern else {
        unreachable!()
    };
    let mut subscribe =
        |peer: usize, topic: &[u8], add| xpub.subscribe(ids[peer], topic, add, &OPTIONS);
    let table: [(usize, &[u8], bool, bool); 8] = [
        (0, b"t", true, true),
        (0, b"t", true, false),
        (1, b"t", true, false),
        (1, b"other", false, false),
        (0, b"t", false, false),
        (0, b"t", false, false),
        (1, b"t", false, true),
        (1, b"t", false, false),
    ];
    for (step, (peer, topic, add, expected)) in table.into_iter().enumerate() {
        let change = if add {
            Change::Subscribed
        } else {
            Change::Cancelled
        };
        let expected = Notice {
            is_add: add,
            to_others: expected,
            to_publishers: expected.then_some(change),
        };
        assert_eq!(subscribe(peer, topic, add), Ok(expected), "step {step}");
    }
    assert_eq!(receivers(&mut pattern, &mut conns, b"t"), (vec![], 0));
}

#[test]
fn a_peer_may_hold_subscriptions_up_to_the_limit() {
    let (mut pattern, _, ids) = xpub_with(&[&[]]);
    let Pattern::Xpub(xpub) = &mut pattern else {
        unreachable!()
    };
    let options = SocketOptions {
        subscriptions_max: 3,
        ..OPTIONS.clone()
    };
    for topic in [b"a", b"b", b"c", b"c"] {
        assert!(xpub.subscribe(ids[0], topic, true, &options).is_ok());
    }
    let refused = xpub.subscribe(ids[0], b"d", true, &options);
    assert_eq!(refused, Err(CloseReason::TooManySubscriptions));
}

#[test]
fn messages_of_subscribers_go_to_every_connected_publisher() {
    let (mut pattern, mut conns) = (new(SocketType::Xsub), ConnTable::new(0));
    let ids: Vec<_> = (0..3).map(|_| add(&mut conns)).collect();
    for id in &ids {
        assert_eq!(attach(&mut pattern, *id, b"", &mut conns), Ok(None));
    }
    pattern.detach(ids[0], &mut conns);
    pattern.detach(ids[0], &mut conns);
    assert_eq!(
        receivers(&mut pattern, &mut conns, b"hello"),
        (vec![1, 2], 0)
    );
}

#[test]
fn sockets_that_only_send_admit_nothing() {
    for (socket_type, expected) in [
        (SocketType::Push, Admit::Drop(DropReason::NotExpected)),
        (SocketType::Pub, Admit::Drop(DropReason::NotExpected)),
        (SocketType::Dealer, Admit::Pass { skip: 0 }),
        (SocketType::Pull, Admit::Pass { skip: 0 }),
        (SocketType::Router, Admit::Pass { skip: 0 }),
        (SocketType::Xpub, Admit::Pass { skip: 0 }),
        (SocketType::Xsub, Admit::Pass { skip: 0 }),
    ] {
        assert_eq!(
            new(socket_type).admit(STRANGER, b"\0\0"),
            expected,
            "{socket_type}"
        );
    }
}

#[test]
fn a_rep_answers_one_request_at_a_time_with_its_envelope() {
    let (mut pattern, mut conns) = (new(SocketType::Rep), ConnTable::new(0));
    let ids: Vec<_> = (0..2).map(|_| add(&mut conns)).collect();
    let request = message(&[b"x", b"y", b"", b"", b"body"]);
    let skip = 3 + 3 + 2;
    assert_eq!(pattern.admit(ids[0], &request), Admit::Pass { skip });
    pattern.accepted(ids[0], &request, skip, &mut conns, &OPTIONS);
    assert_eq!(pattern.admit(ids[1], &request), Admit::Wait);
    let answer = route_with(&mut pattern, &mut conns, b"\0\x01a", &mut Vec::new());
    let expected = Route::To {
        id: ids[0],
        skip: 0,
    };
    assert_eq!(answer, (expected, request[..skip].to_vec()));
    let unasked = route(&mut pattern, &mut conns, b"\0\x01a");
    assert_eq!(unasked, Route::Drop(DropReason::NotExpected));
    assert_eq!(pattern.admit(ids[1], &request), Admit::Pass { skip });
    pattern.accepted(ids[1], &request, skip, &mut conns, &OPTIONS);
    pattern.detach(ids[1], &mut conns);
    assert_eq!(pattern.admit(ids[0], &request), Admit::Pass { skip });
    let bare = message(&[b"no", b"delimiter"]);
    assert_eq!(
        pattern.admit(ids[0], &bare),
        Admit::Drop(DropReason::WithoutEnvelope)
    );
}

#[test]
fn a_req_asks_one_peer_at_a_time_and_hears_only_that_one() {
    let (mut pattern, mut conns) = (new(SocketType::Req), ConnTable::new(0));
    let ids: Vec<_> = (0..2).map(|_| add(&mut conns)).collect();
    for id in &ids {
        assert_eq!(attach(&mut pattern, *id, b"", &mut conns), Ok(None));
    }
    let (asked, envelope) = route_with(&mut pattern, &mut conns, b"\0\x01q", &mut Vec::new());
    assert_eq!(
        (asked, &envelope[..]),
        (
            Route::To {
                id: ids[0],
                skip: 0
            },
            &b"\x01\0"[..]
        )
    );
    assert_eq!(route(&mut pattern, &mut conns, b"\0\x01q"), Route::Wait);
    let answer = message(&[b"", b"a"]);
    assert_eq!(
        pattern.admit(ids[1], &answer),
        Admit::Drop(DropReason::NotExpected)
    );
    let bare = message(&[b"a"]);
    assert_eq!(
        pattern.admit(ids[0], &bare),
        Admit::Drop(DropReason::WithoutEnvelope)
    );
    assert_eq!(pattern.admit(ids[0], &answer), Admit::Pass { skip: 2 });
    assert!(
        pattern.accepted(ids[0], &answer, 2, &mut conns, &OPTIONS),
        "the next request can go"
    );
    assert_eq!(
        route(&mut pattern, &mut conns, b"\0\x01q"),
        Route::To {
            id: ids[1],
            skip: 0
        }
    );
    pattern.detach(ids[1], &mut conns);
    assert_eq!(
        route(&mut pattern, &mut conns, b"\0\x01q"),
        Route::To {
            id: ids[0],
            skip: 0
        }
    );
}

#[test]
fn a_pair_has_one_peer_until_it_leaves() {
    let (mut pattern, mut conns) = (new(SocketType::Pair), ConnTable::new(0));
    let ids: Vec<_> = (0..2).map(|_| add(&mut conns)).collect();
    assert_eq!(route(&mut pattern, &mut conns, b"\0\0"), Route::Wait);
    assert_eq!(attach(&mut pattern, ids[0], b"", &mut conns), Ok(None));
    assert_eq!(
        attach(&mut pattern, ids[1], b"", &mut conns),
        Err(CloseReason::PairTaken)
    );
    assert_eq!(rotation(&mut pattern, &mut conns, 2), [0, 0]);
    pattern.detach(ids[0], &mut conns);
    assert_eq!(attach(&mut pattern, ids[1], b"", &mut conns), Ok(None));
    assert_eq!(rotation(&mut pattern, &mut conns, 2), [1, 1]);
}

#[test]
fn each_publisher_gets_the_topics_that_its_link_allows() {
    let (mut pattern, mut conns) = (new(SocketType::Xsub), ConnTable::new(0));
    let ids: Vec<_> = (0..4).map(|_| add(&mut conns)).collect();
    for id in &ids {
        assert_eq!(attach(&mut pattern, *id, b"", &mut conns), Ok(None));
    }
    let Pattern::Xsub(xsub) = &mut pattern else {
        unreachable!()
    };
    let eu = xsub.filter_for(&["eu.".to_owned()], None);
    let us = xsub.filter_for(&["us.".to_owned()], None);
    assert_eq!(xsub.filter_for(&[], None), 0);
    for (index, filter) in [(1, eu), (2, us), (3, eu)] {
        xsub.set_filter(ids[index], &conns, filter);
    }
    // The last one moves to the place of the first.
    xsub.detach(ids[0], &mut conns);
    let mut told = |topic: &[u8]| {
        let mut told = Vec::new();
        let change = (topic, Change::Subscribed);
        xsub.pass_on(change, &OPTIONS, |publisher, topic, _| {
            told.push((number(publisher.id), topic.escape_ascii().to_string()));
        });
        told.sort_unstable();
        told
    };
    let eu_only = [(1, "eu.x".to_owned()), (3, "eu.x".to_owned())];
    assert_eq!(told(b"eu.x"), eu_only);
    let each_its_own = [(1, "eu."), (2, "us."), (3, "eu.")];
    assert_eq!(
        told(b""),
        each_its_own.map(|(slot, topic)| (slot, topic.to_owned()))
    );
    assert_eq!(told(b"asia"), []);
}

#[test]
fn subscriptions_in_the_form_of_messages() {
    let mut conns = ConnTable::new(0);
    let mut found =
        |frames: &[&[u8]]| route(&mut new(SocketType::Xsub), &mut conns, &message(frames));
    assert_eq!(found(&[b"\x01topic"]), Route::Subscription { add: true });
    assert_eq!(found(&[b"\x00"]), Route::Subscription { add: false });
    for frames in [
        &[&b"\x02topic"[..]][..],
        &[b""],
        &[b"\x01a", b"b"],
        &[b"text"],
    ] {
        assert_eq!(found(frames), Route::Targets { full: 0 });
    }
}
