//! The identities by which a ROUTER addresses its peers.

use crate::play::{Place, Play, bound, listener_at, proxy};
use broker::config::{Config, SocketName};
use broker::reason::DropReason;
use broker::view::{PageQuery, PeerFilter};
use broker::{Action, ConnId};
use std::net::SocketAddr;
use std::time::Duration;
use zmtp::encode::append_command;
use zmtp::{SocketType, Version};

fn frontend(proxy: usize) -> Place {
    (proxy, SocketName::Frontend)
}

fn backend(proxy: usize) -> Place {
    (proxy, SocketName::Backend)
}

/// Two queues in one broker, with a client and a worker each.
fn two_queues(identity: &[u8]) -> (Play, [ConnId; 2], [ConnId; 2]) {
    let mut play = Play::of_all(vec![proxy("queue"), proxy("queue")]);
    let workers = [0, 1].map(|proxy| play.join_named(backend(proxy), SocketType::Dealer, b""));
    let clients =
        [0, 1].map(|proxy| play.join_named(frontend(proxy), SocketType::Dealer, identity));
    for id in clients.into_iter().chain(workers) {
        play.write(id);
    }
    (play, clients, workers)
}

/// The identity that this worker receives for its client.
fn name_of(play: &mut Play, client: ConnId, worker: ConnId) -> Vec<u8> {
    play.send_frames(client, &[b"question"]);
    let mut frames = play.write_frames(worker);
    assert_eq!(frames.pop().as_deref(), Some(&b"question"[..]));
    frames.pop().expect("the name in front")
}

#[test]
fn a_worker_cannot_reach_a_client_of_another_queue() {
    let (mut play, clients, workers) = two_queues(b"");
    let names = [0, 1].map(|at| name_of(&mut play, clients[at], workers[at]));
    for at in [0, 1] {
        play.send_frames(workers[at], &[&names[1 - at], b"injected"]);
        assert_eq!(play.write(clients[1 - at]), [""; 0]);
        play.send_frames(workers[at], &[&names[at], b"answer"]);
        assert_eq!(play.write(clients[at]), ["answer"]);
    }
    let snapshots = play.core.statistics();
    let frontends = snapshots
        .iter()
        .filter(|it| it.socket == SocketName::Frontend);
    let missed: Vec<u64> = frontends
        .map(|it| it.counters.dropped(DropReason::NoSuchPeer))
        .collect();
    assert_eq!(missed, [1, 1]);
}

#[test]
fn a_name_in_one_queue_is_free_in_another() {
    let (mut play, clients, workers) = two_queues(b"name");
    for at in [0, 1] {
        assert_eq!(name_of(&mut play, clients[at], workers[at]), b"name");
        play.send_frames(workers[at], &[b"name", b"answer"]);
        assert_eq!(play.write(clients[at]), ["answer"]);
        assert_eq!(play.write(clients[1 - at]), [""; 0]);
    }
}

#[test]
fn announced_identities_keep_no_anonymous_peer_out() {
    let mut play = Play::of(proxy("queue"));
    let worker = play.join_named(backend(0), SocketType::Dealer, b"");
    let first = play.join_named(frontend(0), SocketType::Dealer, b"");
    play.write(worker);
    let name = name_of(&mut play, first, worker);
    // The identities that the next connections would get.
    let coming = (1..=20).map(|ahead| {
        let mut name = name.clone();
        let slot = u32::from_be_bytes([name[1], name[2], name[3], name[4]]);
        name[1..5].copy_from_slice(&(slot + 2 * ahead).to_be_bytes());
        name
    });
    for name in coming {
        play.join_named(frontend(0), SocketType::Dealer, &name);
    }
    for _ in 0..20 {
        let anonymous = play.join_named(frontend(0), SocketType::Dealer, b"");
        name_of(&mut play, anonymous, worker);
    }
}

/// Applications number their peers in four bytes, and libzmq allows it.
#[test]
fn a_name_may_begin_with_zero_where_it_is_not_of_the_generated_form() {
    let mut play = Play::of(proxy("queue"));
    let worker = play.join_named(backend(0), SocketType::Dealer, b"");
    play.write(worker);
    for name in [&b"\0\0\0\x05"[..], b"\0", b"\0abcdefg", b"\0abcdefghi"] {
        let client = play.join_named(frontend(0), SocketType::Dealer, name);
        play.write(client);
        assert_eq!(name_of(&mut play, client, worker), name);
        play.send_frames(worker, &[name, b"answer"]);
        assert_eq!(play.write(client), ["answer"]);
    }
}

/// The identities of anonymous peers contain their ids.
#[test]
fn a_new_process_generates_no_identity_of_an_earlier_one() {
    let config = Config {
        proxies: vec![proxy("queue")],
        ..Config::default()
    };
    let (now, peer) = (
        Play::run(&config).now,
        SocketAddr::from(([127, 0, 0, 1], 1)),
    );
    let [one, other] = [1, 2].map(|seed| {
        let mut core = bound(now, &config, seed);
        let listener = listener_at(&core, frontend(0));
        core.handle_accepted(now, listener, peer)
    });
    assert_ne!(one, other);
}

fn named() -> (Play, ConnId, ConnId) {
    let mut play = Play::of(proxy("queue"));
    let worker = play.join_named(backend(0), SocketType::Dealer, b"");
    let holder = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.write(worker);
    play.write(holder);
    (play, holder, worker)
}

/// Lets time pass.
fn wait(play: &mut Play, milliseconds: u64) {
    play.now += Duration::from_millis(milliseconds);
    play.core.handle_timeout(play.now, play.now);
}

/// The connections that the core closes, and those whose systems it checks.
fn closed_and_examined(play: &mut Play) -> (Vec<ConnId>, Vec<ConnId>) {
    let (mut closed, mut examined) = (Vec::new(), Vec::new());
    while let Some(action) = play.core.poll_action() {
        match action {
            Action::Close { id, .. } => {
                play.core.handle_closed(play.now, id);
                closed.push(id);
            }
            Action::CheckAcks(id) => examined.push(id),
            _ => {}
        }
    }
    play.core.run_deferred(play.now);
    (closed, examined)
}

/// Checks that a reply to the identity reaches this peer.
fn has_the_name(play: &mut Play, id: ConnId, worker: ConnId) {
    play.write(id);
    play.send_frames(worker, &[b"name", b"answer"]);
    assert_eq!(play.write(id), ["answer"]);
}

fn pong(play: &mut Play, id: ConnId) {
    let mut wire = Vec::new();
    append_command(&mut wire, "PONG", b"");
    play.feed(id, &wire);
}

/// With the default time-to-live.
const PING: &[u8] = b"\x04PING\x01\x2c";

#[test]
fn a_live_peer_keeps_its_identity() {
    let (mut play, holder, worker) = named();
    let thief = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.send_frames(thief, &[b"forged"]);
    assert_eq!(play.write_frames(holder), [PING]);
    has_the_name(&mut play, holder, worker);
    wait(&mut play, 1);
    pong(&mut play, holder);
    wait(&mut play, 1998);
    assert_eq!(closed_and_examined(&mut play).0, []);
    wait(&mut play, 1);
    assert_eq!(closed_and_examined(&mut play).0, [thief]);
    assert_eq!(play.write(worker), [""; 0]);
    has_the_name(&mut play, holder, worker);
}

#[test]
fn a_peer_whose_network_failed_soon_has_its_identity_again() {
    let (mut play, holder, worker) = named();
    let again = play.join_named(frontend(0), SocketType::Dealer, b"name");
    assert_eq!(play.write_frames(holder), [PING]);
    play.send_frames(again, &[b"first"]);
    play.send_frames(again, &[b"second"]);
    assert_eq!(play.write(worker), [""; 0]);
    wait(&mut play, 2000);
    assert_eq!(closed_and_examined(&mut play).0, [holder]);
    assert_eq!(play.write(worker), ["name", "first", "name", "second"]);
    has_the_name(&mut play, again, worker);
    play.send_frames(again, &[b"third"]);
    assert_eq!(play.write(worker), ["name", "third"]);
}

#[test]
fn the_first_of_two_waiting_peers_gets_the_identity() {
    let (mut play, holder, worker) = named();
    let first = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.write(holder);
    wait(&mut play, 1000);
    let second = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.write(holder);
    wait(&mut play, 1000);
    assert_eq!(closed_and_examined(&mut play).0, [holder]);
    wait(&mut play, 1000);
    assert_eq!(closed_and_examined(&mut play).0, [second]);
    has_the_name(&mut play, first, worker);
}

#[test]
fn an_identity_is_free_when_its_holder_has_left() {
    let (mut play, holder, worker) = named();
    let again = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.lose(holder);
    wait(&mut play, 2000);
    assert_eq!(closed_and_examined(&mut play).0, []);
    has_the_name(&mut play, again, worker);
}

#[test]
fn the_holder_keeps_its_identity_when_the_waiting_peer_leaves() {
    let (mut play, holder, worker) = named();
    let thief = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.core.handle_read_closed(thief, None);
    wait(&mut play, 1);
    pong(&mut play, holder);
    wait(&mut play, 1999);
    assert_eq!(closed_and_examined(&mut play).0, [thief]);
    has_the_name(&mut play, holder, worker);
}

/// It was sent an answer that it may not have read, so its system is checked.
#[test]
fn a_slow_peer_keeps_its_identity_unless_its_system_is_gone() {
    let (mut play, holder, worker) = named();
    has_the_name(&mut play, holder, worker);
    let other = play.join_named(frontend(0), SocketType::Dealer, b"name");
    wait(&mut play, 2000);
    assert_eq!(closed_and_examined(&mut play), (vec![other], vec![holder]));
    play.core.handle_unreachable(holder);
    play.core.run_deferred(play.now);
    assert_eq!(closed_and_examined(&mut play).0, [holder]);
    let other = play.join_named(frontend(0), SocketType::Dealer, b"name");
    has_the_name(&mut play, other, worker);
}

#[test]
fn a_peer_without_ping_keeps_its_identity_unless_its_system_is_gone() {
    let mut play = Play::of(proxy("queue"));
    let holder = play.join_speaking(Version::V3_0, frontend(0), SocketType::Dealer, b"name");
    let other = play.join_named(frontend(0), SocketType::Dealer, b"name");
    assert_eq!(closed_and_examined(&mut play), (vec![other], vec![holder]));
    assert!(!play.write_frames(holder).contains(&PING.to_vec()));
}

/// Without a worker, the last request of a departed client waits, and so does the end of its
/// connection.
#[test]
fn a_departed_peer_loses_its_identity_at_once() {
    let mut play = Play::of(proxy("queue"));
    let left = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.send_frames(left, &[b"question"]);
    play.core.handle_read_closed(left, None);
    let again = play.join_named(frontend(0), SocketType::Dealer, b"name");
    assert_eq!(closed_and_examined(&mut play).0, [left]);
    let worker = play.join_named(backend(0), SocketType::Dealer, b"");
    play.write(worker);
    has_the_name(&mut play, again, worker);
}

#[test]
fn a_peer_that_waits_for_its_name_does_not_count_as_waiting_for_a_receiver() {
    let mut play = Play::of(proxy("queue"));
    play.join_named(frontend(0), SocketType::Dealer, b"name");
    let rival = play.join_named(frontend(0), SocketType::Dealer, b"name");
    play.send_frames(rival, &[b"question"]);
    let proxy = play.core.proxies().next().expect("a queue");
    let mut admin = play.core.admin(play.now);
    let page = admin.peers(proxy, &PeerFilter::default(), &PageQuery::default());
    let peers = page.expect("a queue").items;
    let rival = peers.iter().find(|peer| peer.id == rival).expect("listed");
    assert!(!rival.is_ready, "the first peer has its name");
    let waiting: usize = admin.sockets().iter().map(|socket| socket.waiting).sum();
    let suspended = peers.iter().filter(|peer| peer.is_suspended).count();
    assert_eq!(suspended, waiting);
}
