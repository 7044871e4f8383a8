//! Three brokers and their peers on four hosts; the network between them is partitioned and heals.

use zmqd_tests::{Host, Network, Python, Zmqd, wait_until};

/// Five PINGs a second, a peer is dead after a second without an answer, and links retry soon.
const BEATS: [&str; 4] = [
    "--set=heartbeat_ivl=200",
    "--set=heartbeat_timeout=1000",
    "--set=connect_timeout=500",
    "--set=reconnect_ivl_max=200",
];

/// Starts a broker that listens on both sides, or connects on one of them.
fn broker_on(host: &Host, kind: &str, frontend: [&str; 2], backend: &[&str]) -> Zmqd {
    host.zmqd(&[&[kind], &frontend[..], backend, &BEATS].concat())
}

/// Waits until `broker` has logged `what` more often than before.
#[track_caller]
fn wait_for_another(broker: &Zmqd, what: &str, before: usize) {
    wait_until(&format!("another {what:?} in the log"), || {
        (broker.log_count(what) > before).then_some(())
    });
}

const SILENT: &str = "no sign of life after PING";

/// A worker that sends its process id with each answer, and remembers the requests.
fn worker_on(host: &Host, broker: &Zmqd) -> Python {
    let mut worker = host.python(broker);
    worker.run(
        r#"
        worker, stopping, asked = connect(zmq.REP, backend), threading.Event(), []
        def work():
            while not stopping.is_set():
                if worker.poll(10):
                    asked.append(worker.recv())
                    worker.send(b"%d %s" % (os.getpid(), asked[-1]))
        working = in_background(work)
        "#,
    );
    worker
}

/// Four clients that ask again until they get an answer, all at once, and count their requests.
const CLIENTS: &str = r#"
clients = [connect(zmq.REQ, frontend, req_relaxed=1, req_correlate=1) for _ in range(4)]
sent, count = {}, 0
def ask(client, question):
    "Asks until a worker answers; returns the process id of that worker."
    def answered():
        sent[question] = sent.get(question, 0) + 1
        client.send(question)
        return client.poll(500)
    wait_until("an answer", answered)
    pid, answer = client.recv().split()
    assert answer == question, (answer, question)
    return int(pid)
def ask_all(rounds):
    "All clients ask at once; returns the process ids of the workers."
    def go(number, begin):
        return {ask(clients[number], b"%d.%d" % (number, begin + n)) for n in range(rounds)}
    global count
    threads = [in_background(go, number, count) for number in range(4)]
    count += rounds
    return set().union(*(thread.result() for thread in threads))
def wait_answers_of(workers):
    wait_until(f"{workers} to answer", lambda: ask_all(2) == workers)
"#;

/// Clients send requests to one broker, which connects to two others, each with a worker.
#[test]
fn requests_go_to_reachable_workers() {
    let mut network = Network::new();
    let [hub, one, two, clients] = network.hosts();
    let ends: [(String, String); 2] = [&one, &two].map(|host| (host.endpoint(1), host.any()));
    let [first, second] = [(&one, &ends[0]), (&two, &ends[1])].map(|(host, (front, back))| {
        broker_on(host, "queue", ["--frontend", front], &["--backend", back])
    });
    let links = ["--backend-connect", &ends[0].0, &ends[1].0];
    let middle = broker_on(&hub, "queue", ["--frontend", &hub.any()], &links);
    let mut workers = [worker_on(&one, &first), worker_on(&two, &second)];
    let mut client = clients.python(&middle);
    client.run(CLIENTS);
    let pids = workers
        .each_mut()
        .map(|worker| worker.ask::<u32>("os.getpid()"));
    let [both, only_first, only_second] = [
        format!("wait_answers_of({{{}, {}}})", pids[0], pids[1]),
        format!("wait_answers_of({{{}}})", pids[0]),
        format!("wait_answers_of({{{}}})", pids[1]),
    ];
    client.run(&both);
    for _round in 0..2 {
        network.cut(&hub, &two);
        client.run(&only_first);
        client.run("ask_all(50)");
        network.cut(&hub, &one);
        network.heal(&hub, &two);
        client.run(&only_second);
        // No worker is reachable; the clients ask again and again.
        network.cut(&hub, &two);
        let closed = middle.log_count(SILENT);
        client.begin("ask_all(5)");
        wait_for_another(&middle, SILENT, closed);
        network.heal(&hub, &one);
        network.heal(&hub, &two);
        client.finish();
        client.run(&both);
    }
    for worker in &mut workers {
        worker.run("stopping.set(); working.result()");
        let asked: String = worker.ask("b' '.join(asked).decode()");
        client.set("asked", &asked);
        client.run("for question in asked.encode().split(): sent[question] -= 1");
    }
    client.run(
        "assert min(sent.values()) >= 0, 'a worker got a request more often than it was sent'",
    );
    client.run("assert all(is_silent(client) for client in clients)");
}

/// A publisher that numbers what it publishes on each of three topics.
const PUBLISHER: &str = r#"
publisher, number, known = connect(zmq.XPUB, frontend, xpub_verboser=1), 0, []

def publish(count):
    global number
    for number in range(number + 1, number + 1 + count):
        for topic in (b"all", b"old", b"new"):
            publisher.send_multipart([topic, b"%d" % number])

def wait_known(*wanted):
    def is_known():
        while not is_silent(publisher, 1):
            known.append(publisher.recv())
        return set(wanted) <= set(known)
    wait_until(f"{wanted} to reach the publisher", is_known)
    known.clear()
"#;

/// A subscriber that remembers the numbers it got on each topic.
const SUBSCRIBER: &str = r#"
sub = connect(zmq.SUB, backend, subscribe=[b"all", b"old"])
got = {b"all": [], b"old": [], b"new": []}

def take_up_to(last, *topics):
    "Takes messages until this number has arrived on these topics."
    while any(got[topic][-1:] != [last] for topic in topics):
        topic, number = sub.recv_multipart()
        assert got[topic][-1:] < [int(number)], (topic, number, got)
        got[topic].append(int(number))
"#;

/// A forwarder in the middle, two others that connect to it, and peers around them.
struct Star {
    far: Python,
    leaves: [Zmqd; 2],
    middle: Zmqd,
    near: Python,
    publisher: Python,
}

impl Star {
    /// Starts all of them, and waits until both subscribers get publications.
    fn new([hub, one, two, publishers]: [&Host; 4]) -> Self {
        let (front, source) = (hub.any(), hub.endpoint(1));
        let listens = ["--frontend", &front];
        let middle = broker_on(hub, "forwarder", listens, &["--backend", &source]);
        let leaves = [one, two].map(|host| {
            let connects = ["--frontend-connect", &source];
            broker_on(host, "forwarder", connects, &["--backend", &host.any()])
        });
        let mut publisher = publishers.python(&middle);
        publisher.run(PUBLISHER);
        let [mut near, mut far] = [(one, &leaves[0]), (two, &leaves[1])].map(|(host, leaf)| {
            let mut python = host.python(leaf);
            python.run(SUBSCRIBER);
            python
        });
        publisher.run("wait_known(b'\\1all', b'\\1old')");
        wait_until("both subscribers to get publications", || {
            publisher.run("publish(1)");
            let is_served = |python: &mut Python| python.ask::<i32>("sub.poll(20)") > 0;
            (is_served(&mut near) && is_served(&mut far)).then_some(())
        });
        Self {
            far,
            leaves,
            middle,
            near,
            publisher,
        }
    }

    /// Publishes a hundred more numbers and returns the last one.
    fn publish(&mut self) -> u64 {
        self.publisher.run("publish(100)");
        self.publisher.ask("number")
    }
}

/// One broker publishes to two others, and subscriptions change while one of these is cut off.
#[test]
fn cut_off_subscribers_miss_only_the_publications_of_that_time() {
    let mut network = Network::new();
    let hosts: [Host; 4] = network.hosts();
    let [hub, _, two, _] = &hosts;
    let mut star = Star::new(hosts.each_ref());
    let cut = star.publish();
    for python in [&mut star.near, &mut star.far] {
        python.run(&format!("take_up_to({cut}, b'all', b'old')"));
    }

    let both = [&star.middle, &star.leaves[1]];
    let closed = both.map(|broker| broker.log_count(SILENT));
    network.cut(hub, two);
    for (broker, before) in both.into_iter().zip(closed) {
        wait_for_another(broker, SILENT, before);
    }
    star.far
        .run("sub.subscribe(b'new'); sub.unsubscribe(b'old')");
    let healed = star.publish();
    star.near
        .run(&format!("take_up_to({healed}, b'all', b'old')"));
    star.far.run("assert is_silent(sub)");

    let connected = star.leaves[1].log_count("connected to");
    network.heal(hub, two);
    wait_for_another(&star.leaves[1], "connected to", connected);
    star.publisher.run("wait_known(b'\\1new')");
    let last = star.publish();
    star.near
        .run(&format!("take_up_to({last}, b'all', b'old')"));
    star.far.run(&format!("take_up_to({last}, b'all', b'new')"));
    star.near.run(&format!(
        "assert got[b'all'][-300:] == list(range({last} - 299, {last} + 1))"
    ));
    star.far.run(&format!(
        r#"
        before = list(range({cut} - 99, {cut} + 1))
        after = list(range({healed} + 1, {last} + 1))
        assert got[b"all"][-200:] == before + after
        assert got[b"old"][-100:] == before, "a cancelled topic still arrived"
        assert got[b"new"] == after
        "#,
    ));
}

/// A chain of three streamers between a source and a sink, each streamer on its own host.
fn chain(network: &mut Network) -> (Vec<Zmqd>, [Host; 4], Python, Python) {
    let [first, second, third, source] = network.hosts();
    let ends = [&first, &second].map(|host| host.endpoint(1));
    let brokers = vec![
        broker_on(
            &first,
            "streamer",
            ["--frontend", &first.any()],
            &["--backend", &ends[0]],
        ),
        broker_on(
            &second,
            "streamer",
            ["--frontend-connect", &ends[0]],
            &["--backend", &ends[1]],
        ),
        broker_on(
            &third,
            "streamer",
            ["--frontend-connect", &ends[1]],
            &["--backend", &third.any()],
        ),
    ];
    let mut sink = third.python(&brokers[2]);
    sink.run(
        r#"
        sink, got, ended = connect(zmq.PULL, backend), [], threading.Event()
        def work():
            while not ended.is_set():
                number, body = sink.recv_multipart()
                assert body == bytes(1000)
                got.append(int(number))
                if got[-1] == -1:
                    ended.set()
        working = in_background(work)
        "#,
    );
    let mut python = source.python(&brokers[0]);
    python.run(
        r#"
        source, stopping, sent = connect(zmq.PUSH, frontend), threading.Event(), 0
        def work():
            global sent
            while not stopping.wait(0.0005):
                source.send_multipart([b"%d" % sent, bytes(1000)])
                sent += 1
        working = in_background(work)
        "#,
    );
    (brokers, [first, second, third, source], python, sink)
}

/// Stops the source and waits until all its messages have arrived; returns how many it sent.
fn finish(source: &mut Python, sink: &mut Python) -> String {
    source.run("stopping.set(); working.result(); source.send_multipart([b'-1', bytes(1000)])");
    sink.run("working.result(); assert got.pop() == -1 and is_silent(sink, 100)");
    source.ask("sent")
}

#[test]
fn a_chain_cut_for_a_moment_loses_nothing() {
    let mut network = Network::new();
    let (brokers, [first, second, third, _], mut source, mut sink) = chain(&mut network);
    for (one, other) in [(&first, &second), (&second, &third), (&first, &second)] {
        network.wait_traffic(300);
        let lost = network.count("lost");
        network.cut(one, other);
        wait_until("packets to be lost", || {
            (network.count("lost") > lost + 3).then_some(())
        });
        network.heal(one, other);
    }
    network.wait_traffic(300);
    let sent = finish(&mut source, &mut sink);
    sink.set("sent", &sent);
    sink.run("assert got == list(range(int(sent))), 'lost, duplicated or out of order'");
    let closed: usize = brokers
        .iter()
        .map(|broker| broker.log_count("closed"))
        .sum();
    assert_eq!(closed, 0, "a peer was closed after a moment");
}

#[test]
fn a_chain_cut_for_long_loses_only_messages_in_transit() {
    let mut network = Network::new();
    let (brokers, [first, second, third, _], mut source, mut sink) = chain(&mut network);
    sink.run("spans = []");
    for (one, other, index) in [(&first, &second, 1), (&second, &third, 2)] {
        network.wait_traffic(300);
        sink.run("spans.append([got[-1]])");
        let (closed, connected) = (
            brokers[index].log_count(SILENT),
            brokers[index].log_count("connected to"),
        );
        network.cut(one, other);
        wait_for_another(&brokers[index], SILENT, closed);
        network.heal(one, other);
        wait_for_another(&brokers[index], "connected to", connected);
        // The other end has closed the old connection too.
        brokers[index - 1].wait_connections(2);
        sink.set("healed", &source.ask::<String>("sent"));
        sink.run("spans[-1].append(int(healed))");
    }
    network.wait_traffic(300);
    let sent = finish(&mut source, &mut sink);
    sink.set("sent", &sent);
    sink.run(
        r#"
        assert len(got) == len(set(got)), "duplicated"
        missing = set(range(int(sent))) - set(got)
        strange = [n for n in missing if not any(begin < n <= end for begin, end in spans)]
        assert not strange, f"{sorted(strange)} were lost outside of {spans}"
        "#,
    );
}
