//! Looks that a test makes up.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn peer(id: &str, sent: u64, received: u64, queued: u64) -> Value {
    json!({
        "address": "tcp://127.0.0.1:9", "dropped": {}, "id": id, "identity": id, "user": null,
        "messages_received": received, "messages_sent": sent, "phase": "ready",
        "queued_messages": queued,
    })
}

fn status(received: u64, waiting: u64, bytes: u64) -> Value {
    json!({ "pid": 7, "uptime_seconds": 1.5, "proxies": [{ "proxy": "q", "paused": false,
        "sockets": [
            { "side": "frontend", "messages_received": received, "waiting": waiting, "peers": 1 },
            { "side": "backend", "messages_received": 0, "queued_bytes": bytes, "peers": 2 },
        ] }] })
}

/// Judges a sign by a status and the peers.
fn judge(
    evidence: &mut Evidence,
    sign: &SignConfig,
    now: Instant,
    status: Value,
    peers: &[Value],
) -> Finding {
    let mut config = Config::default();
    config
        .watches
        .push(crate::config::WatchConfig::new("w", sign.clone()));
    let questions = questions(&config);
    let answers = [Ok(status), Ok(json!({ "peers": peers }))];
    let look = Look {
        answers: &answers,
        now,
        questions: &questions,
    };
    evidence.judge(sign, &look)
}

fn silent(identity: Option<&str>) -> SignConfig {
    SignConfig::Silent(SilentConfig {
        identity: identity.map(str::to_owned),
        proxy: "q".to_owned(),
        side: None,
        topic: None,
    })
}

fn stuck() -> SignConfig {
    SignConfig::Stuck {
        proxy: "q".to_owned(),
        side: SocketName::Backend,
    }
}

fn backlog(age: Option<Duration>, bytes: Option<u64>) -> SignConfig {
    SignConfig::Backlog(BacklogConfig {
        age,
        bytes,
        proxy: "q".to_owned(),
        side: SocketName::Backend,
    })
}

#[test]
fn a_counter_that_grows_is_a_sign_of_life() {
    let (mut evidence, now) = (Evidence::default(), Instant::now());
    let sign = silent(None);
    let mut look = |count| judge(&mut evidence, &sign, now, status(count, 0, 0), &[]);
    assert!(
        matches!(look(5), Finding::Bad(_)),
        "the time of these is not known"
    );
    assert!(matches!(look(5), Finding::Bad(_)));
    assert_eq!(look(6), Finding::Good(now));
}

/// The broker counts by topic as long as the connection of the watch is open.
#[test]
fn a_count_by_topic_may_begin_anew() {
    let mut config = Config::default();
    let sign = SignConfig::Silent(SilentConfig {
        identity: None,
        proxy: "q".to_owned(),
        side: Some(SocketName::Frontend),
        topic: Some("weather.".to_owned()),
    });
    let watch = crate::config::WatchConfig::new("w", sign.clone());
    config.watches.push(watch);
    let questions = questions(&config);
    let asked = json!({
        "command": "count", "proxy": "q", "side": "frontend", "topic": "weather.",
    });
    assert_eq!(questions[1], asked);
    let (mut evidence, now) = (Evidence::default(), Instant::now());
    let mut look = |count: u64| {
        let answers = [Ok(status(0, 0, 0)), Ok(json!({ "messages": count }))];
        let look = Look {
            answers: &answers,
            now,
            questions: &questions,
        };
        evidence.judge(&sign, &look)
    };
    assert!(matches!(look(0), Finding::Bad(_)), "it has just begun");
    assert_eq!(look(7), Finding::Good(now));
    assert!(matches!(look(7), Finding::Bad(_)));
    assert!(matches!(look(0), Finding::Bad(_)), "another connection");
    assert_eq!(look(1), Finding::Good(now));
    assert!(matches!(look(1), Finding::Bad(_)));
    assert_eq!(look(9), Finding::Good(now));
    assert_eq!(
        look(3),
        Finding::Good(now),
        "another connection, and messages"
    );
}

#[test]
fn a_named_peer_is_told_from_others_and_may_connect_again() {
    let (mut evidence, now) = (Evidence::default(), Instant::now());
    let sign = silent(Some("a"));
    let mut look = |peers: &[Value]| judge(&mut evidence, &sign, now, status(9, 0, 0), peers);
    assert!(matches!(look(&[peer("a", 0, 3, 0)]), Finding::Bad(_)));
    assert!(matches!(
        look(&[peer("a", 0, 3, 0), peer("b", 0, 8, 0)]),
        Finding::Bad(_)
    ));
    assert!(matches!(look(&[]), Finding::Bad(_)));
    assert_eq!(
        look(&[peer("a", 0, 1, 0)]),
        Finding::Good(now),
        "a new connection"
    );
}

#[test]
fn a_worker_that_holds_a_request_is_told_from_idle_ones() {
    let (mut evidence, start) = (Evidence::default(), Instant::now());
    let sign = stuck();
    let mut look = |second: u32, peers: &[Value]| {
        judge(
            &mut evidence,
            &sign,
            start + second * SECOND,
            status(0, 0, 0),
            peers,
        )
    };
    assert_eq!(look(0, &[peer("a", 3, 3, 0)]), Finding::Good(start));
    let held = |second: u32| {
        let reason = "the worker at tcp://127.0.0.1:9 holds an unanswered request";
        Finding::Since(start + second * SECOND, reason.to_owned())
    };
    assert_eq!(look(1, &[peer("a", 4, 3, 0)]), held(1));
    assert_eq!(look(2, &[peer("a", 5, 3, 0)]), held(1));
    assert_eq!(
        look(3, &[peer("a", 6, 4, 0)]),
        held(2),
        "the older one was answered"
    );
    assert_eq!(
        look(4, &[peer("a", 6, 6, 0)]),
        Finding::Good(start + 4 * SECOND)
    );
    assert_eq!(
        look(90, &[peer("a", 6, 6, 0)]),
        Finding::Good(start + 90 * SECOND),
        "it is idle"
    );
    assert_eq!(
        look(91, &[]),
        Finding::Good(start + 91 * SECOND),
        "it has left"
    );
}

#[test]
fn a_queue_is_over_its_bound_until_half_of_it_is_gone() {
    let (mut evidence, now) = (Evidence::default(), Instant::now());
    let sign = backlog(None, Some(100));
    let mut is_good = |bytes| {
        let finding = judge(&mut evidence, &sign, now, status(0, 0, bytes), &[]);
        finding == Finding::Good(now)
    };
    let looks = [100, 101, 100, 51, 50, 100].map(&mut is_good);
    assert_eq!(looks, [true, false, false, false, true, true]);
}

#[test]
fn the_oldest_message_in_a_queue_or_a_sender_has_an_age() {
    let (mut evidence, start) = (Evidence::default(), Instant::now());
    let sign = backlog(Some(2 * SECOND), None);
    let mut is_good = |second: u32, waiting, peers: &[Value]| {
        let now = start + second * SECOND;
        judge(&mut evidence, &sign, now, status(7, waiting, 0), peers) == Finding::Good(now)
    };
    assert!(is_good(0, 0, &[peer("a", 5, 0, 3)]));
    assert!(is_good(2, 0, &[peer("a", 5, 0, 4)]));
    assert!(
        !is_good(3, 0, &[peer("a", 7, 0, 2)]),
        "the third has waited for 3 s"
    );
    assert!(is_good(4, 0, &[peer("a", 9, 0, 0)]));
    assert!(is_good(5, 1, &[]), "a sender begins to wait");
    assert!(!is_good(8, 1, &[]));
    assert!(is_good(9, 0, &[]));
}

#[test]
fn peers_are_counted_or_looked_for() {
    let now = Instant::now();
    let sign = |min_peers, identity: Option<&str>| {
        SignConfig::Absent(AbsentConfig {
            identity: identity.map(str::to_owned),
            min_peers,
            proxy: "q".to_owned(),
            side: SocketName::Backend,
            user: None,
        })
    };
    let is_good = |sign: &SignConfig| {
        let peers = [peer("a", 0, 0, 0)];
        let finding = judge(&mut Evidence::default(), sign, now, status(0, 0, 0), &peers);
        finding == Finding::Good(now)
    };
    assert!(is_good(&sign(2, None)));
    assert!(!is_good(&sign(3, None)));
    assert!(is_good(&sign(1, Some("a"))));
    assert!(!is_good(&sign(1, Some("b"))));
}

#[test]
fn a_paused_or_unknown_proxy_proves_nothing() {
    let now = Instant::now();
    let mut paused = status(0, 0, 0);
    paused["proxies"][0]["paused"] = json!(true);
    for sign in [silent(None), stuck(), backlog(None, Some(1))] {
        let look = |status| judge(&mut Evidence::default(), &sign, now, status, &[]);
        assert_eq!(look(paused.clone()), Finding::Paused);
        assert!(matches!(look(json!({ "proxies": [] })), Finding::Blind(_)));
        assert!(matches!(look(Value::Null), Finding::Blind(_)));
    }
}

/// The age never exceeds the true one, and misses at most the time between two looks.
#[test]
fn ages_are_exact_to_the_time_between_looks() {
    let start = Instant::now();
    for seed in 0..200_u64 {
        let mut random = seed;
        let mut next = |bound: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % bound
        };
        let (mut ledger, mut entered, mut left) = (Ledger::default(), Vec::new(), 0_usize);
        let mut looks = Vec::new();
        for tick in 0..200_u64 {
            if next(3) == 0 {
                entered.push(tick);
            }
            if next(4) == 0 && left < entered.len() {
                left += 1;
            }
            if next(5) > 0 {
                continue;
            }
            looks.push(tick);
            let at = |tick: u64| start + Duration::from_millis(tick);
            let since = ledger.note(at(tick), entered.len() as u64, left as u64);
            // The look that saw the oldest first.
            let first = entered.get(left).map(|truth| {
                let first = looks.iter().find(|look| *look >= truth);
                at(*first.expect("this look is one"))
            });
            if ledger.marks.len() < MARKS_MAX {
                assert_eq!(since, first, "seed {seed}, tick {tick}");
            }
        }
    }
}
