//! Brokers connected in a ring: found and opened in any order, reported, and healed.

use std::time::Duration;

use zmqd_tests::raw::{COMMAND, frame};
use zmqd_tests::{ANY, Python, Raw, Zmqd, vacant_endpoint, wait_until};

/// Part of every line about a loop.
const LOOP: &str = "a loop of brokers";

/// Brokers in a ring. Each connects to the one before, which may start later.
struct Ring {
    /// For each broker its arguments, without those of its link.
    arguments: Vec<Vec<String>>,
    brokers: Vec<Option<Zmqd>>,
    /// For each broker the arguments of its link.
    connects: Vec<[String; 2]>,
}

impl Ring {
    /// Of forwarders whose frontends connect, or of queues and streamers whose backends do.
    fn new(kind: &str, count: usize) -> Self {
        let (own, other) = match kind {
            "forwarder" => ("frontend", "backend"),
            _ => ("backend", "frontend"),
        };
        let places: Vec<String> = (0..count).map(|_| vacant_endpoint()).collect();
        let words = |place: &String| {
            let binds = [format!("--{other}"), place.clone(), format!("--{own}")];
            let options = ["--set", "reconnect_ivl_max=400", "-v"].map(str::to_owned);
            let kind = [kind.to_owned()];
            [&kind[..], &binds, &[ANY.to_owned()], &options].concat()
        };
        let connect = |index: usize| {
            let place = &places[(index + count - 1) % count];
            [format!("--{own}-connect"), place.clone()]
        };
        Self {
            arguments: places.iter().map(words).collect(),
            brokers: (0..count).map(|_| None).collect(),
            connects: (0..count).map(connect).collect(),
        }
    }

    fn start(&mut self, index: usize, connects: bool) {
        let connect = self.connects[index].each_ref().map(String::as_str);
        let connect = if connects { &connect[..] } else { &[] };
        let words = self.arguments[index].iter().map(String::as_str);
        let words: Vec<&str> = words.chain(connect.iter().copied()).collect();
        self.brokers[index] = Some(Zmqd::start(&words));
    }

    fn kill(&mut self, index: usize) {
        self.brokers[index] = None;
    }

    fn broker(&self, index: usize) -> &Zmqd {
        self.brokers[index].as_ref().expect("the broker runs")
    }

    /// Waits until a link was closed for a loop so many times; returns the index of its broker. At
    /// first, links that connect at the same moment may all be closed.
    fn wait_loop(&self, times: usize) -> usize {
        wait_until("a loop to be found", || {
            (0..self.brokers.len()).find(|index| self.looped_times(*index) >= times)
        })
    }

    /// How often the link of a broker was closed for a loop.
    fn looped_times(&self, index: usize) -> usize {
        self.broker(index).log_count(&self.line(index))
    }

    /// Part of the line about a closed link.
    fn line(&self, index: usize) -> String {
        format!("closing {}, {LOOP}", self.connects[index][1])
    }

    fn beside(&self) -> Python {
        let mut python = Python::new();
        let ends = |end: fn(&Zmqd) -> &str| {
            let brokers = (0..self.brokers.len()).map(|index| end(self.broker(index)));
            brokers.collect::<Vec<_>>().join(" ")
        };
        python.set("frontends", &ends(Zmqd::frontend));
        python.set("backends", &ends(Zmqd::backend));
        python.run("frontends, backends = frontends.split(), backends.split()");
        python
    }
}

/// Orders in which so many brokers start.
fn orders(count: usize) -> Vec<Vec<usize>> {
    match count {
        1 => vec![vec![0]],
        2 => vec![vec![0, 1], vec![1, 0]],
        _ => [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ]
        .map(Vec::from)
        .to_vec(),
    }
}

#[test]
fn a_ring_of_forwarders_is_opened_in_every_order_of_starts() {
    for count in 1..=3 {
        for order in orders(count) {
            let mut ring = Ring::new("forwarder", count);
            for index in &order {
                ring.start(*index, true);
            }
            let looped = ring.wait_loop(1);
            let line = ring.broker(looped).wait_log(&ring.line(looped));
            let advice = "take one connection of the loop out of its configuration";
            assert!(line.contains("ERROR") && line.ends_with(advice), "{line}");
            assert!(
                line.contains("forwarder frontend: closing tcp://"),
                "{line}"
            );
            ring.beside().run(
                r#"
                # Each subscriber gets each message of the publishers before it in the chain once.
                subscribers = [connect(zmq.SUB, endpoint, subscribe=b"n") for endpoint in backends]
                publishers = [connect(zmq.PUB, endpoint) for endpoint in frontends]
                for publisher, subscriber in zip(publishers, subscribers):
                    settle([publisher], [subscriber])
                reached = {(p, s) for p in range(len(publishers)) for s in range(len(subscribers))}

                def has_settled():
                    "Whether each subscriber gets the messages of all publishers before it."
                    global reached
                    for p, publisher in enumerate(publishers):
                        publisher.send(b"n ask %d" % p)
                    wait_until("a message each", lambda: all(s.poll(100) for s in subscribers))
                    reached = set()
                    for s, subscriber in enumerate(subscribers):
                        while subscriber.poll(20):
                            reached.add((int(subscriber.recv().split()[2]), s))
                    count = len(publishers)
                    return len(reached) == count * (count + 1) // 2

                wait_until("a chain", has_settled)
                for number in range(300):
                    for p, publisher in enumerate(publishers):
                        publisher.send(b"n %d %d" % (p, number))
                for s, subscriber in enumerate(subscribers):
                    sources = [p for p in range(len(publishers)) if (p, s) in reached]
                    wanted = sorted((p, number) for p in sources for number in range(300))
                    got = []
                    while len(got) < len(wanted):
                        _, p, number = subscriber.recv().split()
                        if p != b"ask":
                            got.append((int(p), int(number)))
                    assert sorted(got) == wanted
                    assert is_silent(subscriber, 10), subscriber.recv()
                "#,
            );
        }
    }
}

#[test]
fn a_permanent_ring_costs_little_and_heals() {
    for kind in ["forwarder", "queue", "streamer"] {
        let mut ring = Ring::new(kind, 3);
        for index in [1, 0, 2] {
            ring.start(index, true);
        }
        let looped = ring.wait_loop(4);
        let mut python = ring.beside();
        python.set("kind", kind);
        // A queue or streamer gives each message to the next receiver, a peer or another broker.
        // The chain ends at the closed link, and only there are all receivers peers.
        let last = match kind {
            "forwarder" => (looped + 2) % 3,
            _ => looped,
        };
        python.set("last", &last.to_string());
        python.run(
            "last = int(last)\n\
             honest = Honest(kind, frontends[last], backends[last])\n\
             honest.passes(200); honest.pause()",
        );
        let all = || (0..3).map(|index| ring.broker(index));
        let ticks: u64 = all().map(Zmqd::cpu_ticks).sum();
        let others = || (0..3).filter(|index| *index != looped);
        let closed = || -> usize { others().map(|index| ring.looped_times(index)).sum() };
        let closed_before = closed();
        // Some more attempts to close the ring, without traffic.
        let times = ring.looped_times(looped) + 3;
        wait_until("further attempts", || {
            (ring.looped_times(looped) >= times).then_some(())
        });
        let spent = all().map(Zmqd::cpu_ticks).sum::<u64>() - ticks;
        assert!(spent < 20, "{kind}: {spent} ticks of 10 ms without traffic");
        python.run("honest.resume(); honest.passes(200); honest.pause()");
        let reported: usize = all().map(|broker| broker.log_count("ERROR")).sum();
        assert!(reported <= 6, "{kind}: {reported} errors for one ring");
        assert_eq!(closed(), closed_before, "{kind}: another link was closed");

        // The operator removes another link, and the closed one reconnects.
        let removed = (looped + 1) % 3;
        let connected = |ring: &Ring| ring.broker(looped).log_count("connected to");
        let before = connected(&ring);
        ring.kill(removed);
        ring.start(removed, false);
        wait_until("the link to reconnect", || {
            (connected(&ring) > before).then_some(())
        });
    }
}

#[test]
fn a_broker_connected_to_itself_reports_it_and_keeps_serving() {
    for kind in ["forwarder", "queue", "streamer"] {
        let mut ring = Ring::new(kind, 1);
        ring.start(0, true);
        ring.wait_loop(1);
        let broker = ring.broker(0);
        let mut python = Python::beside(broker);
        python.set("kind", kind);
        python.run("honest = Honest(kind, frontend, backend); honest.passes(100); honest.pause()");
        let ticks = broker.cpu_ticks();
        python.run("assert is_silent(honest.far, 500)");
        let spent = Duration::from_millis(10 * (broker.cpu_ticks() - ticks));
        assert!(
            spent < Duration::from_millis(250),
            "{kind}: {spent:?} of processor time"
        );
    }
}

#[test]
fn only_brokers_get_loop_commands() {
    let broker = Zmqd::forwarder(&[]);
    let ping = frame(COMMAND, b"\x04PING\0\0");
    let mut peer = Raw::connect(broker.backend());
    peer.handshake("SUB");
    peer.send(&ping).expect("the connection is open");
    assert_eq!(peer.read_frame(), b"\x04PONG");

    let mut other = Raw::connect(broker.backend());
    let property = b"\x11X-Zmqd-Loop-Check\0\0\0\x02on";
    let ready = [&b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"[..], property].concat();
    let answer = other.handshake_with(&frame(COMMAND, &ready));
    assert!(answer.ends_with(property), "{}", answer.escape_ascii());
    assert_eq!(other.read_frame(), b"\x07ZMQD-UP");
    other.send(&ping).expect("the connection is open");
    assert_eq!(other.read_frame(), b"\x04PONG");
}
