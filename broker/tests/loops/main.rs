//! Brokers connected in rings, which are found and opened: real cores, simulated cables.

mod net;

use broker::config::SocketName;
use broker::limits::PROBES_WAITING_MAX;
use net::Net;
use std::time::Duration;
use zmtp::{LoopCheck, LoopCommand, Probe, SocketType};

const SECOND: Duration = Duration::from_secs(1);

/// Long enough for two of the longest waits between attempts to connect, each with a trial.
const LONG: Duration = Duration::from_secs(15);

/// Messages that go into a ring.
const MESSAGES: u16 = 2000;

/// The kinds of proxy in rings, with the types of their senders and receivers.
const KINDS: [(&str, SocketType, SocketType); 3] = [
    ("forwarder", SocketType::Pub, SocketType::Sub),
    ("queue", SocketType::Dealer, SocketType::Dealer),
    ("streamer", SocketType::Push, SocketType::Pull),
];

/// The backend of one broker and the frontend of another.
#[derive(Clone, Copy, Debug)]
struct Link {
    from: usize,
    to: usize,
    /// Whether the first connects to the second, instead of the reverse.
    pushes: bool,
}

impl Link {
    fn endpoint(self) -> String {
        let (broker, side) = if self.pushes {
            (self.to, SocketName::Frontend)
        } else {
            (self.from, SocketName::Backend)
        };
        let port = 1000 + 2 * broker + usize::from(side == SocketName::Backend);
        format!("tcp://127.0.0.1:{port}")
    }
}

/// The endpoint for peers.
fn entrance(broker: usize, side: SocketName) -> String {
    let port = 3000 + 2 * broker + usize::from(side == SocketName::Backend);
    format!("tcp://127.0.0.1:{port}")
}

/// The configuration of one of the brokers with these links, and further lines.
fn config(kind: &str, broker: usize, links: &[Link], more: &str) -> String {
    let mut text = format!("[options]\n{more}\n[[proxy]]\nkind = '{kind}'\n");
    for side in SocketName::SIDES {
        let (mut binds, mut connects) = (vec![entrance(broker, side)], Vec::new());
        for link in links {
            let own = if side == SocketName::Frontend {
                link.to
            } else {
                link.from
            };
            let connects_here = link.pushes == (side == SocketName::Backend);
            if own == broker && connects_here {
                connects.push(link.endpoint());
            } else if own == broker && !binds.contains(&link.endpoint()) {
                binds.push(link.endpoint());
            }
        }
        text += &format!("[proxy.{side}]\nbind = {binds:?}\nconnect = {connects:?}\n");
    }
    text
}

/// Brokers that start one after another, in an order and with gaps that the seed decides.
fn start(kind: &str, count: usize, links: &[Link], seed: u64) -> Net {
    let mut net = Net::new(seed);
    let mut left: Vec<usize> = (0..count).collect();
    while !left.is_empty() {
        let broker = left.swap_remove(net.below(left.len()));
        net.add(broker, &config(kind, broker, links, ""));
        let gap = net.below(4) * net.below(150);
        net.run(Duration::from_millis(gap as u64));
    }
    net
}

fn ring(net: &mut impl FnMut(usize) -> usize, count: usize) -> Vec<Link> {
    let link = |from| Link {
        from,
        to: (from + 1) % count,
        pushes: net(2) == 0,
    };
    (0..count).map(link).collect()
}

/// Whether each link of a ring is up; only the brokers are peers.
fn up(net: &Net, count: usize) -> Vec<bool> {
    let peers = |broker, side| net.socket(broker, side).peers;
    let is_up = |from: usize| {
        let ends = [
            peers(from, SocketName::Backend),
            peers((from + 1) % count, SocketName::Frontend),
        ];
        assert!(ends[0] == ends[1] && ends[0] <= 1, "half a link: {ends:?}");
        ends[0] == 1
    };
    (0..count).map(is_up).collect()
}

/// The one link of a ring that is down.
fn cut(net: &Net, count: usize) -> usize {
    let up = up(net, count);
    let down: Vec<usize> = (0..count).filter(|link| !up[*link]).collect();
    assert_eq!(down.len(), 1, "links that are up: {up:?}");
    down[0]
}

#[test]
fn a_ring_is_opened_at_one_link_and_carries_everything_once() {
    for seed in 0..100 {
        for (kind, source_type, sink_type) in KINDS {
            let count = 1 + usize::try_from(seed % 5).expect("small");
            let mut dice = net::Random::new(seed);
            let links = ring(&mut |bound| dice.below(bound), count);
            let mut net = start(kind, count, &links, seed);
            net.run(LONG);
            assert!(net.loops() > 0, "{kind} of {count}, seed {seed}: no loop");
            let cut = cut(&net, count);
            // The broker behind the cut is the first of the remaining chain.
            let (first, last) = ((cut + 1) % count, cut);
            let entrance_of = |side, broker| entrance(broker, side);
            let source = net.connect(
                source_type,
                &entrance_of(SocketName::Frontend, first),
                LoopCheck::Off,
            );
            let sink = net.connect(
                sink_type,
                &entrance_of(SocketName::Backend, last),
                LoopCheck::Off,
            );
            net.run(SECOND);
            if kind == "forwarder" {
                net.peers[sink].subscribe(b"");
            }
            net.run(SECOND);
            // While the one link is tried again and again.
            for number in 0..MESSAGES {
                net.peers[source].send(&[b"message", &number.to_be_bytes()]);
                net.run(SECOND / 200);
            }
            net.run(SECOND);
            let bodies = net.peers[sink].numbers();
            let expected: Vec<u16> = (0..MESSAGES).collect();
            assert_eq!(
                bodies, expected,
                "{kind} of {count}, seed {seed}, cut {cut}"
            );
            assert_eq!(
                net.messages(),
                u64::from(MESSAGES) * count as u64,
                "each broker took each once"
            );
        }
    }
}

#[test]
fn a_link_comes_back_when_the_ring_is_open_elsewhere() {
    for seed in 0..60 {
        for (kind, _, _) in KINDS {
            let count = 2 + usize::try_from(seed % 4).expect("small");
            let mut dice = net::Random::new(seed);
            let links = ring(&mut |bound| dice.below(bound), count);
            let mut net = start(kind, count, &links, seed);
            net.run(LONG);
            let before = cut(&net, count);
            let removed = (before + 1 + dice.below(count - 1)) % count;
            net.bar(&links[removed].endpoint());
            net.run(LONG);
            assert_eq!(cut(&net, count), removed, "{kind} of {count}, seed {seed}");
            // The ring is found again when that link comes back.
            let loops = net.loops();
            net.barred.clear();
            net.run(LONG);
            assert!(net.loops() > loops);
            assert_eq!(cut(&net, count), removed, "{kind} of {count}, seed {seed}");
        }
    }
}

#[test]
fn chains_trees_and_diamonds_are_no_rings() {
    let shapes: [(usize, &[(usize, usize)]); 5] = [
        (3, &[(0, 1), (1, 2)]),
        (6, &[(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)]),
        (6, &[(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)]),
        (4, &[(0, 1), (0, 2), (1, 3), (2, 3)]),
        (4, &[(0, 1), (1, 2), (2, 3), (0, 3), (0, 2)]),
    ];
    for seed in 0..20 {
        for (kind, _, _) in KINDS {
            for (count, pairs) in shapes {
                let mut dice = net::Random::new(seed);
                let link = |(from, to): &(usize, usize)| Link {
                    from: *from,
                    to: *to,
                    pushes: dice.below(2) == 0,
                };
                let links: Vec<Link> = pairs.iter().map(link).collect();
                let mut net = start(kind, count, &links, seed);
                net.run(LONG);
                let peers = (0..count).map(|broker| net.socket(broker, SocketName::Backend).peers);
                assert_eq!(
                    (net.loops(), peers.sum()),
                    (0, links.len()),
                    "{kind}, {links:?}"
                );
            }
        }
    }
}

#[test]
fn rings_up_to_the_limit_are_found_and_larger_ones_are_not() {
    for (count, is_found) in [(65, true), (66, false)] {
        let links = ring(&mut |_| 0, count);
        let mut net = start("streamer", count, &links, 1);
        net.run(LONG);
        assert_eq!(net.loops() > 0, is_found, "{count} brokers");
    }
}

#[test]
fn a_ring_of_brokers_that_do_not_look_for_it_stays() {
    let links = ring(&mut |_| 0, 2);
    let mut net = Net::new(1);
    net.add(0, &config("streamer", 0, &links, ""));
    net.add(1, &config("streamer", 1, &links, "loop_check = false"));
    net.run(LONG);
    assert_eq!((net.loops(), up(&net, 2)), (0, vec![true, true]));
}

#[test]
fn echoes_and_captures_close_rings_too() {
    let echo = |bind: &str, connect: &str| {
        format!(
            "[[proxy]]\nfrontend = {{ socket = 'DEALER', bind = '{bind}', connect = {connect} }}\n"
        )
    };
    let mut net = Net::new(1);
    net.add(0, &echo("tcp://127.0.0.1:1", "[]"));
    net.add(1, &echo("tcp://127.0.0.1:2", "['tcp://127.0.0.1:1']"));
    net.run(LONG);
    assert!(net.loops() > 0, "two echoes answer each other without end");

    let mut net = Net::new(1);
    let text = "[[proxy]]\nkind = 'forwarder'\nbackend.bind = 'tcp://127.0.0.1:1'\n\
                frontend.connect = 'tcp://127.0.0.1:2'\ncapture.bind = 'tcp://127.0.0.1:2'\n";
    net.add(0, text);
    net.run(LONG);
    assert!(net.loops() > 0, "a broker hears its own copies");
    assert_eq!(net.socket(0, SocketName::Frontend).peers, 0);
}

/// A forwarder, and peers that claim to be a broker in front of it and one behind it.
fn between() -> (Net, usize, usize) {
    let mut net = Net::new(1);
    net.add(0, &config("forwarder", 0, &[], ""));
    let front = net.connect(
        SocketType::Pub,
        &entrance(0, SocketName::Frontend),
        LoopCheck::On,
    );
    let back = net.connect(
        SocketType::Sub,
        &entrance(0, SocketName::Backend),
        LoopCheck::On,
    );
    net.run(SECOND);
    assert!(net.peers[front].is_ready && net.peers[back].is_ready);
    assert_eq!(net.peers[front].heard, [LoopCommand::Up]);
    (net, front, back)
}

/// The probes that a peer was sent.
fn probes(net: &Net, peer: usize) -> Vec<Probe> {
    let heard = net.peers[peer].heard.iter();
    heard
        .filter_map(|said| match said {
            LoopCommand::Probe(probe) => Some(*probe),
            _ => None,
        })
        .collect()
}

#[test]
fn a_peer_that_returns_a_probe_closes_only_itself() {
    let (mut net, front, back) = between();
    let other = net.connect(
        SocketType::Pub,
        &entrance(0, SocketName::Frontend),
        LoopCheck::On,
    );
    for _ in 0..1000 {
        net.peers[front].say(LoopCommand::Up);
    }
    net.run(SECOND);
    let sent = probes(&net, back);
    assert_eq!(
        sent.len(),
        1,
        "one probe for each connection, however often it says so"
    );
    // Another peer has overheard the number: it is a probe like any other, seen before.
    net.peers[other].say(LoopCommand::Probe(sent[0]));
    net.run(SECOND);
    assert_eq!((probes(&net, back).len(), net.loops()), (1, 0));
    net.peers[front].say(LoopCommand::Probe(sent[0]));
    net.run(SECOND);
    assert_eq!(net.loops(), 1);
    assert_eq!(net.peers[front].heard.last(), Some(&LoopCommand::Loop));
    let are_closed = [front, other, back].map(|peer| net.peers[peer].is_closed);
    assert_eq!(are_closed, [true, false, false]);
    // Nor does a claim to have found a loop.
    net.peers[other].say(LoopCommand::Loop);
    net.run(SECOND);
    let are_closed = [other, back].map(|peer| net.peers[peer].is_closed);
    assert_eq!(are_closed, [true, false]);
}

#[test]
fn numbers_are_new_each_time() {
    let mut seen = Vec::new();
    for seed in 0..2 {
        let mut net = Net::new(seed);
        net.add(0, &config("forwarder", 0, &[], ""));
        let back = net.connect(
            SocketType::Sub,
            &entrance(0, SocketName::Backend),
            LoopCheck::On,
        );
        net.run(SECOND);
        for _ in 0..50 {
            let front = net.connect(
                SocketType::Pub,
                &entrance(0, SocketName::Frontend),
                LoopCheck::On,
            );
            net.run(SECOND / 100);
            net.peers[front].say(LoopCommand::Up);
            net.run(SECOND / 100);
        }
        seen.extend(probes(&net, back).iter().map(|probe| probe.number));
    }
    assert_eq!(seen.len(), 100);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100);
}

#[test]
fn loop_commands_of_other_peers_are_ignored() {
    let (mut net, _, back) = between();
    let mute = net.connect(
        SocketType::Pub,
        &entrance(0, SocketName::Frontend),
        LoopCheck::Off,
    );
    net.run(SECOND);
    let probe = Probe {
        exit: 0,
        hops: 0,
        number: 7,
    };
    for said in [
        LoopCommand::Up,
        LoopCommand::Probe(probe),
        LoopCommand::Loop,
    ] {
        net.peers[mute].say(said);
    }
    net.run(SECOND);
    assert!(!net.peers[mute].is_closed && probes(&net, back).is_empty());
}

#[test]
fn unread_probes_are_limited() {
    let (mut net, front, back) = between();
    net.peers[back].is_deaf = true;
    for number in 0..5000 {
        let probe = Probe {
            exit: 0,
            hops: 0,
            number,
        };
        net.peers[front].say(LoopCommand::Probe(probe));
    }
    net.run(SECOND);
    let queued = net.socket(0, SocketName::Backend).queued_bytes;
    let most = u64::from(PROBES_WAITING_MAX) * 34;
    assert!(queued > 0 && queued <= most, "{queued} bytes are queued");
    net.peers[back].is_deaf = false;
    net.hear_all();
    net.run(SECOND);
    assert_eq!(probes(&net, back).len(), PROBES_WAITING_MAX as usize);
    assert!(!net.peers[front].is_closed);
}
