//! All kinds of load at once, for hours: nothing is lost, and nothing grows.
//!
//! Rounds of load are followed by rests, which compare the state of the broker with its state in
//! earlier rests. `py/soak.py` has the peers. `./ci.sh soak MINUTES` runs it.

use std::env;
use std::time::Duration;

use zmqd_tests::{Python, Scratch, Stopwatch, Zmqd};

/// How long the load of a round lasts.
const ROUND_SECONDS: u32 = 10;
/// Rounds before the first comparison, in which allocators and tables reach their size.
const WARM_UP_ROUNDS: usize = 5;
/// The most that memory at rest may grow from the first half of the run to the second. One round
/// makes thousands of connections, so a leak of a few bytes for each would be more.
const GROWTH_MAX: u64 = 3 << 20;

const CONFIG: &str = r#"
[options]
handshake_ivl = 1000

[[proxy]]
name = "queue"
kind = "queue"
frontend.bind = ["tcp://127.0.0.1:0", "ipc://*"]
backend.bind = ["tcp://127.0.0.1:0", "ipc://*"]
capture.bind = "tcp://127.0.0.1:0"
control.bind = "tcp://127.0.0.1:0"

[[proxy]]
name = "forwarder"
kind = "forwarder"
frontend.bind = ["tcp://127.0.0.1:0", "ipc://*"]
backend = { bind = ["tcp://127.0.0.1:0", "ipc://*"], sndhwm = 500 }
control.bind = "tcp://127.0.0.1:0"

[[proxy]]
name = "streamer"
kind = "streamer"
frontend.bind = ["tcp://127.0.0.1:0", "ipc://*"]
backend.bind = ["tcp://127.0.0.1:0", "ipc://*"]
control.bind = "tcp://127.0.0.1:0"

[[proxy]]
name = "rough-queue"
kind = "queue"
frontend.bind = "tcp://127.0.0.1:0"
backend.bind = "tcp://127.0.0.1:0"
control.bind = "tcp://127.0.0.1:0"

[[proxy]]
name = "rough-streamer"
kind = "streamer"
frontend.bind = "tcp://127.0.0.1:0"
backend.bind = "tcp://127.0.0.1:0"
control.bind = "tcp://127.0.0.1:0"
"#;

/// Endpoints that a broker with [`CONFIG`] prints.
const ENDPOINTS: usize = 22;

/// The state of the broker after a round.
#[derive(Debug)]
struct Rest {
    /// Processor time of the round, in ticks of 10 ms, for a thousand verified messages.
    cost: u64,
    files: u64,
    memory_in_use: u64,
    peers: u64,
    resident: u64,
    topics: u64,
}

/// The broker and all its peers.
struct Scene {
    broker: Zmqd,
    observer: Python,
    /// The name of each load, and the process of its peers.
    peers: Vec<(&'static str, Python)>,
}

impl Scene {
    fn new() -> Self {
        let config = Scratch::new("toml", CONFIG);
        let broker = Zmqd::start_expecting(ENDPOINTS, &["run", config.path()]);
        let list = |proxy, side| format!("{:?}", broker.endpoints(proxy, side));
        let one = |proxy, side| format!("{:?}", broker.endpoint(proxy, side));
        let python = |what: &'static str, made: &str| {
            let mut python = Python::new();
            python.run(&format!("import soak\nmine = soak.{made}"));
            (what, python)
        };
        let both = |class: &str, proxy| {
            let (frontends, backends) = (list(proxy, "frontend"), list(proxy, "backend"));
            format!("{class}({frontends}, {backends})")
        };
        let ends = format!(
            "[(zmq.DEALER, {}), (zmq.PULL, {})]",
            one("rough-queue", "backend"),
            one("rough-streamer", "backend"),
        );
        let slow = ["frontend", "backend", "control"].map(|side| one("forwarder", side));
        let peers = vec![
            python("requests", &both("Requests", "queue")),
            python("publications", &both("Publications", "forwarder")),
            python("floods", &format!("Slow({})", slow.join(", "))),
            python("sockets", &format!("Churn([{}], {ends})", places(&broker))),
            python(
                "garbage",
                &format!("Garbage([{}])", open_endpoints(&broker)),
            ),
            // The last, because it takes the messages that closed sockets have left.
            python("work", &both("Work", "streamer")),
        ];
        let mut observer = Python::new();
        let proxies = [
            "queue",
            "forwarder",
            "streamer",
            "rough-queue",
            "rough-streamer",
        ];
        let controls = proxies.map(|proxy| one(proxy, "control")).join(", ");
        let pid = broker.pid();
        observer.run(&format!(
            "import soak\nmine = soak.Observer({pid}, [{controls}])"
        ));
        Self {
            broker,
            observer,
            peers,
        }
    }

    /// One round of load and its rest.
    fn round(&mut self, number: usize) -> Rest {
        let ticks = self.broker.cpu_ticks();
        for (_, python) in &mut self.peers {
            python.begin(&format!("count = mine.round({ROUND_SECONDS})"));
        }
        self.observer.run(&format!("mine.round({ROUND_SECONDS})"));
        let (mut verified, mut summary) = (0, String::new());
        for (what, python) in &mut self.peers {
            python.finish();
            let count: u64 = python.ask("count");
            if *what == "work" {
                python.run("mine.rest()");
            }
            if !["sockets", "garbage"].contains(what) {
                verified += count;
            }
            summary += &format!(", {count} {what}");
        }
        let ticks = self.broker.cpu_ticks() - ticks;
        self.observer.run("rest = mine.rest()");
        let mut ask = |what: &str| self.observer.ask::<u64>(what);
        let rest = Rest {
            cost: ticks * 1000 / verified.max(1),
            files: ask("rest['files']"),
            memory_in_use: ask("rest['memory_in_use']"),
            peers: ask("rest['peers']"),
            resident: ask("rest['resident']"),
            topics: ask("rest['topics']"),
        };
        let (peak, files) = (ask("mine.peaks['resident']"), ask("mine.peaks['files']"));
        let queued = ask("mine.peaks['queued_bytes']");
        println!(
            "round {number}: {} KiB at rest ({} under load, {} queued), {} files ({files}), \
             {ticks} ticks{summary}",
            rest.resident >> 10,
            peak >> 10,
            queued >> 10,
            rest.files,
        );
        rest
    }

    /// Fails if the broker uses more than a little processor time at rest.
    fn assert_idle(&mut self) {
        let ticks = self.broker.cpu_ticks();
        self.observer.run("time.sleep(1)");
        let ticks = self.broker.cpu_ticks() - ticks;
        assert!(ticks <= 10, "a second of rest took {ticks} ticks of 10 ms");
    }
}

/// Endpoints for the sockets of `Churn`, except those where they would take work of honest peers.
fn places(broker: &Zmqd) -> String {
    let kinds = [
        ("queue", "frontend", "zmq.DEALER, zmq.REQ"),
        ("queue", "capture", "zmq.SUB"),
        ("forwarder", "frontend", "zmq.PUB"),
        ("forwarder", "backend", "zmq.SUB"),
        ("streamer", "frontend", "zmq.PUSH"),
        ("rough-queue", "frontend", "zmq.DEALER, zmq.REQ"),
        ("rough-queue", "backend", "zmq.DEALER, zmq.REP"),
        ("rough-streamer", "frontend", "zmq.PUSH"),
        ("rough-streamer", "backend", "zmq.PULL"),
    ];
    let places = kinds.iter().flat_map(|(proxy, side, kinds)| {
        let endpoints = broker.endpoints(proxy, side).into_iter();
        endpoints.map(move |endpoint| format!("([{kinds}], {endpoint:?}), "))
    });
    places.collect()
}

/// Endpoints for the connections of `Garbage`: those of [`places`] and the controls.
fn open_endpoints(broker: &Zmqd) -> String {
    let sides = [
        ("queue", "frontend"),
        ("queue", "capture"),
        ("queue", "control"),
        ("forwarder", "frontend"),
        ("forwarder", "backend"),
        ("streamer", "frontend"),
        ("rough-queue", "frontend"),
        ("rough-queue", "backend"),
        ("rough-streamer", "frontend"),
        ("rough-streamer", "backend"),
    ];
    sides
        .map(|(proxy, side)| format!("{:?}", broker.endpoint(proxy, side)))
        .join(", ")
}

/// The median of a value.
fn median(rests: &[Rest], value: impl Fn(&Rest) -> u64) -> u64 {
    let mut values: Vec<u64> = rests.iter().map(value).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Fails if the second half of the run is worse than the first.
fn assert_no_growth(rests: &[Rest]) {
    let (early, late) = rests.split_at(rests.len() / 2);
    let [before, after] = [early, late].map(|half| median(half, |rest| rest.resident));
    println!(
        "memory at rest, first half and second: {} KiB, {} KiB",
        before >> 10,
        after >> 10
    );
    assert!(
        after <= before + GROWTH_MAX,
        "memory grew from {before} to {after} bytes"
    );
    let [before, after] = [early, late].map(|half| median(half, |rest| rest.cost));
    println!("ticks for a thousand messages, first half and second: {before}, {after}");
    assert!(
        after <= 2 * before + 1,
        "the same work takes {after} ticks after {before}"
    );
}

#[test]
fn nothing_is_lost_and_nothing_grows() {
    let minutes = env::var("MINUTES").ok().and_then(|text| text.parse().ok());
    let minutes: u64 = minutes.expect("MINUTES is a whole number");
    let (watch, length) = (Stopwatch::start(), Duration::from_secs(60 * minutes));
    let mut scene = Scene::new();
    let mut rests: Vec<Rest> = Vec::new();
    while watch.elapsed() < length {
        let rest = scene.round(rests.len() + 1);
        scene.assert_idle();
        let first = rests.first().unwrap_or(&rest);
        assert_eq!(rest.files, first.files, "files are left open");
        assert_eq!(rest.peers, first.peers, "peers are left behind");
        assert_eq!(rest.topics, first.topics, "topics are left behind");
        assert_eq!(
            rest.memory_in_use, first.memory_in_use,
            "bytes are left behind"
        );
        rests.push(rest);
    }
    let rounds = rests.len();
    assert!(
        rounds >= 4 * WARM_UP_ROUNDS,
        "{rounds} rounds are too few: run for 5 minutes or more"
    );
    assert_no_growth(&rests[WARM_UP_ROUNDS..]);
    // The sinks were connected all the time, so the streamer had no reason to drop messages.
    scene.observer.run(
        r#"
        sockets = mine.ask("statistics")[2]["sockets"]
        dropped = set().union(*(counters["dropped"] for counters in sockets))
        assert dropped <= {"not-expected"}, f"the streamer dropped: {sockets}"
        "#,
    );
    let Scene { broker, .. } = scene;
    broker.signal("TERM");
    let finished = broker.wait();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    println!(
        "{rounds} rounds in {} minutes",
        watch.elapsed().as_secs() / 60
    );
}
