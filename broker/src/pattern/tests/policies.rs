//! The effects of options.

use super::super::*;
use super::{OPTIONS, add, fill, route_as_the_loop_does, store};
use crate::pattern::xpub::Notice;
use crate::pattern::xsub::publisher::Change;

/// A pattern with `count` peers and these options.
fn with_options(
    socket_type: SocketType,
    options: &SocketOptions,
    count: usize,
) -> (Pattern, ConnTable, Vec<ConnId>) {
    let (mut pattern, mut conns) = (Pattern::new(socket_type, options), ConnTable::new(0));
    let ids: Vec<_> = (0..count).map(|_| add(&mut conns)).collect();
    for id in &ids {
        assert_eq!(pattern.attach(*id, b"", &mut conns), Ok(None));
    }
    (pattern, conns, ids)
}

fn route_under(pattern: &mut Pattern, conns: &mut ConnTable, options: &SocketOptions) -> Route {
    let (targets, envelope) = (&mut Vec::new(), &mut Vec::new());
    route_as_the_loop_does(pattern, conns, options, b"\0\x01t", targets, envelope)
}

#[test]
fn verbose_publishers_hear_more() {
    // The result of each step: subscribe by 0, by 0 again, by 1; cancel by 0, by a peer without a
    // subscription, by 1.
    let steps = [
        (0, true),
        (0, true),
        (1, true),
        (0, false),
        (0, false),
        (1, false),
    ];
    let table: [(bool, bool, [bool; 6], [bool; 6]); 3] = [
        (
            false,
            false,
            [true, false, false, false, false, true],
            [false; 6],
        ),
        (
            true,
            false,
            [true, true, true, false, false, true],
            [false; 6],
        ),
        (
            false,
            true,
            [true, true, true, false, false, true],
            [false, false, false, true, false, false],
        ),
    ];
    for (xpub_verbose, xpub_verboser, publishers, others_only) in table {
        let options = SocketOptions {
            xpub_verbose,
            xpub_verboser,
            ..OPTIONS.clone()
        };
        let (mut pattern, _, ids) = with_options(SocketType::Xpub, &options, 2);
        let Pattern::Xpub(xpub) = &mut pattern else {
            unreachable!()
        };
        for (step, (peer, add)) in steps.into_iter().enumerate() {
            let notice = xpub.subscribe(ids[peer], b"t", add, &options);
            let change = match (add, step) {
                (true, 0) => Change::Subscribed,
                (true, _) => Change::Repeated,
                (false, _) => Change::Cancelled,
            };
            let expected = Notice {
                is_add: add,
                to_others: publishers[step] || others_only[step],
                to_publishers: publishers[step].then_some(change),
            };
            assert_eq!(
                notice,
                Ok(expected),
                "{xpub_verbose} {xpub_verboser} step {step}"
            );
        }
    }
}

#[test]
fn inverted_matching_sends_to_peers_that_did_not_subscribe() {
    let options = SocketOptions {
        invert_matching: true,
        ..OPTIONS.clone()
    };
    let (mut pattern, conns, ids) = with_options(SocketType::Pub, &options, 3);
    let Pattern::Xpub(xpub) = &mut pattern else {
        unreachable!()
    };
    xpub.subscribe(ids[1], b"a", true, &options).unwrap();
    for (topic, expected) in [(&b"ab"[..], vec![ids[0], ids[2]]), (b"b", ids.clone())] {
        let mut targets = Vec::new();
        xpub.find(topic);
        xpub.found(&conns, &options, &mut targets);
        assert_eq!(targets, expected);
    }
}

/// Some publishers send everything.
#[test]
fn a_sub_admits_only_its_topics() {
    let options = SocketOptions {
        subscribe: vec!["eu.".to_owned(), "us.".to_owned()],
        ..OPTIONS.clone()
    };
    let (pattern, _, ids) = with_options(SocketType::Sub, &options, 1);
    for (wire, expected) in [
        (&b"\0\x05eu.de"[..], Admit::Pass { skip: 0 }),
        (b"\x01\x03us.\0\x04text", Admit::Pass { skip: 0 }),
        (b"\0\x02eu", Admit::Drop(DropReason::NotExpected)),
        (b"\x01\x01x\0\x03us.", Admit::Drop(DropReason::NotExpected)),
        (b"\0\0", Admit::Drop(DropReason::NotExpected)),
    ] {
        assert_eq!(pattern.admit(ids[0], wire), expected, "{wire:?}");
    }
}

#[test]
fn the_peer_with_the_shortest_queue_gets_the_next_message() {
    let options = SocketOptions {
        balance: Balance::LeastQueued,
        sndhwm: 100,
        ..OPTIONS.clone()
    };
    let (mut pattern, mut conns, ids) = with_options(SocketType::Push, &options, 3);
    for (id, queued) in ids.iter().zip([2, 0, 1]) {
        for _ in 0..queued {
            let conn = conns.get_mut(*id).unwrap();
            conn.egress.push_bytes(b"\0\x01x", 1, &mut store());
        }
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let Route::To { id, .. } = route_under(&mut pattern, &mut conns, &options) else {
            panic!("all peers have room");
        };
        let conn = conns.get_mut(id).unwrap();
        conn.egress.push_bytes(b"\0\x01x", 1, &mut store());
        order.push(super::number(id));
    }
    order[1..].sort_unstable();
    assert_eq!(order, [1, 0, 1, 1, 2, 2], "each peer gets three in the end");
}

#[test]
fn a_worker_that_has_not_answered_gets_no_more() {
    let options = SocketOptions {
        balance: Balance::Ready,
        ..OPTIONS.clone()
    };
    let (mut pattern, mut conns, ids) = with_options(SocketType::Dealer, &options, 2);
    let mut next = |conns: &mut ConnTable, answered: Option<ConnId>| {
        if let Some(id) = answered {
            pattern.accepted(id, b"\0\0", 0, conns, &options);
        }
        route_under(&mut pattern, conns, &options)
    };
    assert_eq!(
        next(&mut conns, None),
        Route::To {
            id: ids[0],
            skip: 0
        }
    );
    assert_eq!(
        next(&mut conns, None),
        Route::To {
            id: ids[1],
            skip: 0
        }
    );
    assert_eq!(next(&mut conns, None), Route::Wait);
    assert_eq!(
        next(&mut conns, Some(ids[1])),
        Route::To {
            id: ids[1],
            skip: 0
        }
    );
    assert_eq!(next(&mut conns, None), Route::Wait);
    assert_eq!(
        next(&mut conns, Some(ids[0])),
        Route::To {
            id: ids[0],
            skip: 0
        }
    );
}

#[test]
fn a_full_peer_under_each_policy() {
    use Overflow::{Block, Conflate, ConflateTopic, Disconnect, DropNewest, DropOldest, Standard};
    let dropped = Route::Drop(DropReason::PeerFull);
    for overflow in [
        Block,
        Conflate,
        ConflateTopic,
        Disconnect,
        DropNewest,
        DropOldest,
        Standard,
    ] {
        let options = SocketOptions {
            overflow,
            ..OPTIONS.clone()
        };
        let (mut push, mut conns, ids) = with_options(SocketType::Push, &options, 1);
        fill(&mut conns, ids[0], true);
        let taken = Route::To {
            id: ids[0],
            skip: 0,
        };
        let expected = match overflow {
            Block | Standard => Route::Wait,
            Disconnect | DropNewest => dropped,
            _ => taken,
        };
        assert_eq!(
            route_under(&mut push, &mut conns, &options),
            expected,
            "{overflow:?}"
        );
        let (mut publisher, mut conns, ids) = with_options(SocketType::Pub, &options, 1);
        if let Pattern::Xpub(xpub) = &mut publisher {
            xpub.subscribe(ids[0], b"", true, &options).unwrap();
        }
        fill(&mut conns, ids[0], true);
        let expected = match overflow {
            Block => Route::Wait,
            Disconnect | DropNewest | Standard => Route::Targets { full: 1 },
            _ => Route::Targets { full: 0 },
        };
        assert_eq!(
            route_under(&mut publisher, &mut conns, &options),
            expected,
            "{overflow:?}"
        );
    }
}
