//! `zmqd watch` with real processes, real brokers and plain clients.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use zmqd_tests::{ANY, PATIENCE, Python, Scratch, Zmqd, wait_until};

use super::status::Home;

mod decisions;
mod load;
mod metrics;
mod processes;
mod reload;
mod security;

/// A watch, and the directory in which it is found.
struct Watching {
    file: Scratch,
    home: Home,
    process: Zmqd,
}

impl Watching {
    fn start(config: &str) -> Self {
        Self::start_in(Home::new(), config, &[])
    }

    fn start_in(home: Home, config: &str, arguments: &[&str]) -> Self {
        let file = Scratch::new("toml", config);
        let arguments = [&["watch"], arguments, &[file.path()]].concat();
        let process = home.start(0, &arguments);
        let watching = Self {
            file,
            home,
            process,
        };
        watching.bound("control");
        watching
    }

    /// The address that a line of the output names.
    #[track_caller]
    fn bound(&self, what: &str) -> String {
        wait_until(&format!("a line for {what}"), || {
            let lines = self.process.lines();
            let begin = format!("{what} bound ");
            lines
                .iter()
                .find_map(|it| it.strip_prefix(&begin).map(str::to_owned))
        })
    }

    /// The row of a watch in the table of states.
    fn row(&self, name: &str) -> Vec<String> {
        let table = self.home.run(&["watch", "status"]);
        let rows = table
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned));
        let mut rows = rows.map(Iterator::collect::<Vec<String>>);
        let found = rows.find(|row| row.first().is_some_and(|it| it == name));
        found.unwrap_or_else(|| panic!("no {name} in\n{table}"))
    }

    fn state(&self, name: &str) -> String {
        self.row(name)[1].clone()
    }

    /// The number of actions of a watch.
    fn actions(&self, name: &str) -> u32 {
        self.row(name)[4].parse().expect("a number")
    }

    #[track_caller]
    fn wait_state(&self, name: &str, state: &str) {
        wait_until(&format!("{name} to be {state}"), || {
            (self.state(name) == state).then_some(())
        });
    }

    #[track_caller]
    fn wait_actions(&self, name: &str, count: u32) {
        let fact = format!("{count} actions of {name}");
        wait_until(&fact, || (self.actions(name) >= count).then_some(()));
    }

    /// One of the counters.
    fn counter(&self, name: &str) -> u64 {
        let status = self.home.run(&["watch", "status", "--json"]);
        let begin = format!("\"{name}\":");
        let rest = status.split_once(&begin).map(|(_, rest)| rest);
        let digits = rest.and_then(|rest| rest.split([',', '}']).next());
        digits
            .and_then(|it| it.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {status}"))
    }

    /// A connection of a plain client.
    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.bound("json")).expect("it listens")
    }

    fn send(&self, text: &str) {
        self.connect().write_all(text.as_bytes()).expect("it reads");
    }
}

/// The unmodified client of such services, and a loop around it.
const SERVICE: &str = r#"
import json, os, socket, sys, time

def send(kind, port):
    message = {"type": kind, "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        client.connect(("localhost", port))
        client.send(json.dumps(message).encode())
    except OSError:
        pass
    finally:
        client.close()

with open(sys.argv[2], "a") as pids:
    print(os.getpid(), file=pids)
parent = os.getppid()
while os.getppid() == parent:  # a test that fails kills the watch, which cannot end its services
    send("heartbeat", int(sys.argv[1]))
    time.sleep(0.05)
"#;

/// A service of a watch that sends heartbeats to a port of its own, and the file with the numbers
/// of its processes.
struct Service {
    config: String,
    pids: Scratch,
    _script: Scratch,
}

impl Service {
    fn new(more: &str) -> Self {
        let (script, pids) = (Scratch::new("py", SERVICE), Scratch::absent("pids"));
        // A free port, which the configuration has to name before the watch listens.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let config = format!(
            "[watcher]\nheartbeat.tcp = \"127.0.0.1:{port}\"\n\
             [[watch]]\nname = \"camera\"\nheartbeat = {{ type = \"heartbeat\" }}\n\
             start = [\"python3\", \"{}\", \"{port}\", \"{}\"]\n\
             after = \"1s\"\ngrace = \"2s\"\nstop_timeout = \"300ms\"\n\
             backoff = {{ first = \"100ms\", factor = 1 }}\n{more}\n",
            script.path(),
            pids.path()
        );
        Self {
            config,
            pids,
            _script: script,
        }
    }

    fn pids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.pids.path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait_starts(&self, count: usize) -> String {
        let fact = format!("start {count} of the service");
        wait_until(&fact, || self.pids().get(count - 1).cloned())
    }
}

fn signal(name: &str, pid: &str) {
    let mut kill = std::process::Command::new("kill");
    let status = kill.args(["-s", name, pid]).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "kill -s {name} {pid}"
    );
}

fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Waits until none of these processes runs: one that was killed may need a moment to end.
#[track_caller]
fn wait_end(pids: &[String]) {
    wait_until("the end of processes", || {
        (!pids.iter().any(|pid| is_running(pid))).then_some(())
    });
}

#[test]
fn a_service_that_hangs_is_restarted() {
    let service = Service::new("");
    let watching = Watching::start(&service.config);
    let first = service.wait_starts(1);
    watching.wait_state("camera", "up");
    // It lives, but does nothing, and cannot even end on TERM.
    signal("STOP", &first);
    let second = service.wait_starts(2);
    watching.wait_state("camera", "up");
    assert_eq!(watching.actions("camera"), 1);
    wait_end(&[first]);
    let _ = watching.process.wait_log("camera: recovered");
    watching.process.signal("TERM");
    let finished = watching.process.wait();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    wait_end(&[second]);
}

#[test]
fn a_service_that_crashes_is_restarted_without_waiting_for_silence() {
    let mut service = Service::new("");
    service.config = service.config.replace("after = \"1s\"", "after = \"1h\"");
    let watching = Watching::start(&service.config);
    let first = service.wait_starts(1);
    watching.wait_state("camera", "up");
    signal("KILL", &first);
    service.wait_starts(2);
    let _ = watching
        .process
        .wait_log("camera: the service was ended by signal 9");
}

/// A configuration with one watch of a service that never sends a heartbeat.
fn restarts(keys: &str) -> String {
    format!(
        "[watcher]\nheartbeat.tcp = \"127.0.0.1:0\"\n[[watch]]\nname = \"a\"\nheartbeat = {{}}\n\
         expect = true\nafter = \"200ms\"\ngrace = \"100ms\"\nconfirm = 1\n\
         backoff = {{ first = \"100ms\", factor = 1 }}\nstop_timeout = \"200ms\"\n{keys}\n"
    )
}

#[test]
fn children_of_a_service_end_with_it() {
    let pids = Scratch::absent("pids");
    // It ignores TERM, and so do its children.
    let shell = format!(
        "trap '' TERM; sleep 30 & echo $! >> {0}; sleep 30 & echo $! >> {0}; wait; wait",
        pids.path()
    );
    let config = restarts(&format!(
        "start = [\"sh\", \"-c\", \"{shell}\"]\nmax_actions = 1"
    ));
    let watching = Watching::start(&config);
    let read = || fs::read_to_string(pids.path()).unwrap_or_default();
    let all = wait_until("the second start", || {
        let pids: Vec<String> = read().lines().map(str::to_owned).collect();
        (pids.len() == 4).then_some(pids)
    });
    wait_end(&all[..2]);
    watching.wait_state("a", "failed");
    watching.process.signal("TERM");
    assert_eq!(watching.process.wait().code, Some(0));
    wait_end(&all[2..]);
}

#[test]
fn a_flood_of_output_and_a_daemon_hold_up_nothing() {
    let config = restarts(
        "start = [\"yes\"]\nmax_actions = 2\n\
         action = [[\"sh\", \"-c\", \"timeout 5 yes & timeout 5 sleep 30 &\"],\
         [\"sh\", \"-c\", \"echo the end of it\"]]",
    );
    let watching = Watching::start(&config);
    let line = watching.process.wait_log("it wrote: the end of it");
    assert!(line.contains("ended with code 0"), "{line}");
    watching.wait_state("a", "failed");
    assert_eq!(watching.actions("a"), 2);
    let rss = watching.process.rss_bytes();
    assert!(rss < 64 << 20, "{rss} bytes");
}

#[test]
fn an_action_has_its_time_and_a_failed_watch_is_an_error_once() {
    let file = Scratch::absent("page");
    let keys = format!(
        "action = [\"sh\", \"-c\", \"trap '' TERM; echo begun; sleep 30\"]\n\
         action_timeout = \"200ms\"\nmax_actions = 1\n\
         escalate = [\"sh\", \"-c\", \"echo $ZMQD_WATCH $ZMQD_STATE $HOSTILE > {}\"]",
        file.path()
    );
    let watching = Watching::start(&restarts(&keys));
    let line = watching.process.wait_log("after its action_timeout");
    assert!(
        line.contains("was ended by signal 9") && line.contains("begun"),
        "{line}"
    );
    watching.wait_state("a", "failed");
    let page = wait_until("the escalation", || {
        fs::read_to_string(file.path())
            .ok()
            .filter(|text| !text.is_empty())
    });
    assert_eq!(page, "a failed\n");
    assert_eq!(watching.process.log_count("ERROR"), 1);
    watching.send("{}");
    let _ = watching.process.wait_log("a: recovered");
    watching.wait_state("a", "failed");
    watching.home.run(&["watch", "resume", "a"]);
    watching.wait_actions("a", 2);
    let unknown = watching.home.finish(&["watch", "pause", "b"]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.stderr.contains("no watch is called \"b\""),
        "{}",
        unknown.stderr
    );
}

/// Two watches: one for heartbeats, one for data.
const TWO: &str = r#"
[watcher]
heartbeat = { tcp = "127.0.0.1:0", zmtp = "tcp://127.0.0.1:0" }
events = "tcp://127.0.0.1:0"
[[watch]]
name = "lives"
heartbeat = { type = "heartbeat" }
after = "1h"
[[watch]]
name = "flows"
heartbeat = { type = "poiid" }
after = "1h"
"#;

#[test]
fn plain_clients_send_objects_in_any_way() {
    let watching = Watching::start(TWO);
    let mut slow = watching.connect();
    slow.set_nodelay(true).expect("an option");
    for byte in br#"{"type": "poiid", "time": "2024-07-01 12:00:00", "dat": [1]}"# {
        slow.write_all(&[*byte]).expect("it reads");
    }
    watching.wait_state("flows", "up");
    assert_eq!(watching.state("lives"), "new", "data feeds another watch");
    // The client does not read, and resets the connection behind its data.
    let reset = watching.connect();
    let socket = socket2_of(&reset);
    (&reset)
        .write_all(b"{\"type\": \"heartbeat\"}")
        .expect("it reads");
    socket
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("an option");
    drop((socket, reset));
    watching.wait_state("lives", "up");
}

fn socket2_of(stream: &TcpStream) -> socket2::Socket {
    socket2::Socket::from(stream.try_clone().expect("a descriptor"))
}

#[test]
fn zeromq_peers_send_heartbeats_and_read_events() {
    let watching = Watching::start(TWO);
    let mut python = Python::new();
    python.set("heartbeats", &watching.bound("heartbeat"));
    python.set("events", &watching.bound("events"));
    python.run(
        r#"
        reader = connect(zmq.SUB, events, subscribe=b"")
        sender = connect(zmq.PUSH, heartbeats)
        # The subscription is in place when the first object of another type arrives.
        while not reader.poll(50):
            sender.send(b'{"type": "probe"}')
        sender.send(b"camera")
        topics = {}
        while len(topics) < 3:
            topic, body = reader.recv_multipart()
            topics[topic] = body
        assert topics[b"heartbeat"] == b"camera", topics
        event = json.loads(topics[b"watch/lives"])
        assert event["event"] == event["state"] == "up", event
        assert event["watch"] == "lives"
        sender.send_multipart([b"", b'{"type": "poiid", "n": 1}'])
        while True:
            topic, body = reader.recv_multipart()
            if topic == b"poiid":
                break
        assert json.loads(body)["n"] == 1
        "#,
    );
    watching.wait_state("flows", "up");
    watching.process.signal("TERM");
    assert_eq!(watching.process.wait().code, Some(0));
}

/// A broker with a queue, and a watch of each kind that follows it.
fn follow(home: &Home, keys: &str) -> (Zmqd, String) {
    let queue = ["queue", "--frontend", ANY, "--backend", ANY];
    let broker = home.start(2, &queue);
    let config = format!(
        "[[watch]]\nname = \"w\"\nafter = \"500ms\"\ngrace = \"200ms\"\nconfirm = 2\n{keys}\n"
    );
    (broker, config)
}

#[test]
fn a_peer_that_goes_silent_while_connected_is_noticed() {
    let home = Home::new();
    let sign = "silent = { proxy = \"queue\", side = \"frontend\", identity = \"camera\" }";
    let done = Scratch::absent("done");
    let action = format!(
        "action = [\"sh\", \"-c\", \"echo $ZMQD_REASON > {}\"]",
        done.path()
    );
    let (broker, config) = follow(&home, &format!("{sign}\n{action}"));
    let mut python = Python::beside(&broker);
    python.run("camera = connect(zmq.DEALER, frontend, identity=b'camera')");
    python.run("other = connect(zmq.DEALER, frontend, identity=b'other')");
    python.run("worker = connect(zmq.DEALER, backend)");
    let watching = Watching::start_in(home, &config, &[]);
    python.begin("for n in range(40): camera.send(b'x'); other.send(b'y'); time.sleep(0.05)");
    watching.wait_state("w", "up");
    python.finish();
    // The other one goes on.
    python.begin("for n in range(100): other.send(b'y'); time.sleep(0.05)");
    watching.wait_actions("w", 1);
    let reason = wait_until("the action", || fs::read_to_string(done.path()).ok());
    assert!(reason.starts_with("no message for"), "{reason}");
    python.finish();
    python.run("camera.send(b'x')");
    let _ = watching.process.wait_log("w: recovered");
}

#[test]
fn a_topic_that_goes_silent_is_told_from_others() {
    let home = Home::new();
    let forwarder = ["forwarder", "--frontend", ANY, "--backend", ANY];
    let broker = home.start(2, &forwarder);
    let config = "[[watch]]\nname = \"w\"\nafter = \"500ms\"\ngrace = \"200ms\"\n\
                  silent = { proxy = \"forwarder\", side = \"frontend\", topic = \"rain.\" }\n\
                  action = [\"true\"]\n";
    let mut python = Python::beside(&broker);
    python.run(
        r#"
        reader = connect(zmq.SUB, backend, subscribe=b"")
        rain, sun = connect(zmq.PUB, frontend), connect(zmq.PUB, frontend)
        "#,
    );
    let watching = Watching::start_in(home, config, &[]);
    python.begin(
        r#"
        for n in range(40):
            rain.send_multipart([b"rain.north", b"1"])
            sun.send_multipart([b"sun", b"rain."])
            time.sleep(0.05)
        "#,
    );
    watching.wait_state("w", "up");
    python.finish();
    // The other topic goes on.
    python.begin("for n in range(100): sun.send_multipart([b'sun', b'rain.']); time.sleep(0.05)");
    watching.wait_actions("w", 1);
    python.finish();
    python.run("rain.send_multipart([b'rain.', b'1'])");
    let _ = watching.process.wait_log("w: recovered");
}

#[test]
fn a_worker_that_holds_a_request_is_told_from_idle_ones() {
    let home = Home::new();
    let (broker, config) = follow(&home, "stuck = { proxy = \"queue\" }\naction = [\"true\"]");
    let mut python = Python::beside(&broker);
    python.run("client = connect(zmq.DEALER, frontend); worker = connect(zmq.REP, backend)");
    let watching = Watching::start_in(home, &config, &[]);
    watching.wait_state("w", "up");
    python.run("client.send_multipart([b'', b'a']); worker.recv(); worker.send(b'b')");
    python.run("client.recv(); time.sleep(1.5)");
    assert_eq!(watching.actions("w"), 0, "an idle worker causes no alarm");
    python.run("client.send_multipart([b'', b'a']); worker.recv()");
    watching.wait_actions("w", 1);
    python.run("worker.send(b'b')");
    let _ = watching.process.wait_log("w: recovered");
}

#[test]
fn absent_peers_and_long_queues_are_noticed() {
    let home = Home::new();
    let keys = "absent = { proxy = \"queue\", side = \"backend\", min_peers = 2 }";
    let (broker, config) = follow(&home, keys);
    let more = "[[watch]]\nname = \"b\"\nafter = \"300ms\"\ngrace = 0\nconfirm = 1\n\
                backlog = { proxy = \"queue\", age = \"500ms\" }\n";
    let mut python = Python::beside(&broker);
    python.run("first = connect(zmq.DEALER, backend)");
    let watching = Watching::start_in(home, &format!("{config}{more}"), &[]);
    watching.wait_state("w", "down");
    watching.wait_state("b", "up");
    python.run("second = connect(zmq.DEALER, backend)");
    watching.wait_state("w", "up");
    // Without a receiver, messages wait in their senders.
    python.run("first.close(); second.close()");
    python.run("client = connect(zmq.DEALER, frontend); client.send(b'x')");
    watching.wait_state("b", "down");
    python.run("third = connect(zmq.DEALER, backend); third.recv()");
    watching.wait_state("b", "up");
}

#[test]
fn a_broker_that_does_not_answer_is_the_only_cause() {
    let home = Home::new();
    let (broker, config) = follow(&home, "broker = {}\naction = [\"true\"]");
    let more = "[[watch]]\nname = \"q\"\nafter = \"500ms\"\ngrace = 0\nexpect = true\n\
                silent = { proxy = \"queue\" }\naction = [\"true\"]\n";
    let mut python = Python::beside(&broker);
    python.run("client = connect(zmq.DEALER, frontend); worker = connect(zmq.DEALER, backend)");
    let arguments = ["--timeout", "1s"];
    let config = format!("{config}{more}");
    let watching = Watching::start_in(home, &config, &arguments);
    python.begin("for n in range(60): client.send(b'x'); time.sleep(0.05)");
    watching.wait_state("w", "up");
    watching.wait_state("q", "up");
    broker.signal("STOP");
    watching.wait_actions("w", 1);
    let _ = watching
        .process
        .wait_log("q: cannot be judged: the broker does not answer");
    assert_eq!(watching.actions("q"), 0, "it is not the cause");
    broker.signal("CONT");
    watching.wait_state("w", "up");
    python.finish();
}

#[test]
fn a_paused_proxy_suspends_its_watches() {
    let home = Home::new();
    let keys = "silent = { proxy = \"queue\" }\nexpect = true\naction = [\"true\"]";
    let (broker, config) = follow(&home, keys);
    home.run(&["ctl", "pause"]);
    let watching = Watching::start_in(home, &config, &[]);
    let _ = watching.process.wait_log("w: paused: its proxy is paused");
    assert_eq!(watching.state("w"), "paused");
    watching.home.run(&["ctl", "resume"]);
    watching.wait_actions("w", 1);
    drop(broker);
}

#[test]
fn a_file_may_have_both_and_is_checked_as_a_whole() {
    let broker = "[[proxy]]\nkind = \"queue\"\nfrontend.bind = \"tcp://127.0.0.1:0\"\n\
                  backend.bind = \"tcp://127.0.0.1:0\"\n";
    let watch = "[[watch]]\nname = \"w\"\nstuck = { proxy = \"queue\" }\naction = [\"true\"]\n";
    let both = Scratch::new("toml", &format!("{broker}{watch}"));
    let checked = Zmqd::finish(&["check", both.path()]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(
        checked.stdout.contains("queue (queue)"),
        "{}",
        checked.stdout
    );
    assert!(
        checked.stdout.contains("watch w: stuck"),
        "{}",
        checked.stdout
    );
    let home = Home::new();
    let running = home.start(2, &["run", both.path()]);
    assert_eq!(running.log_count("unknown key"), 0);
    let wrong = Scratch::new("toml", &format!("{broker}{watch}confrim = 3\n"));
    for command in ["check", "run", "watch"] {
        let refused = home.finish(&[command, wrong.path()]);
        assert_eq!(refused.code, Some(2), "{command}");
        let expected = "watch.confrim: unknown key: did you mean \"confirm\"?";
        assert!(
            refused.stderr.contains(expected),
            "{command}: {}",
            refused.stderr
        );
    }
    let lost = Scratch::new(
        "toml",
        &format!("{broker}{watch}").replace("\"queue\" }", "\"qu\" }"),
    );
    let refused = Zmqd::finish(&["check", lost.path()]);
    assert!(
        refused
            .stderr
            .contains("watch w: no proxy is called \"qu\""),
        "{}",
        refused.stderr
    );
    let alone = Scratch::new("toml", "[[watch]]\nname = \"w\"\nbroker = {}\n");
    assert_eq!(Zmqd::finish(&["check", alone.path()]).code, Some(0));
    let none = Zmqd::finish(&["watch", Scratch::new("toml", broker).path()]);
    assert!(
        none.stderr.contains("has no [[watch]] table"),
        "{}",
        none.stderr
    );
}

#[test]
fn a_dry_run_starts_nothing_and_says_what_it_would_do() {
    let file = Scratch::absent("made");
    let keys = format!(
        "start = [\"touch\", \"{0}\"]\naction = [\"touch\", \"{0}\"]",
        file.path()
    );
    let watching = Watching::start_in(Home::new(), &restarts(&keys), &["--dry-run"]);
    let _ = watching
        .process
        .wait_log(&format!("a: would run touch {}", file.path()));
    let _ = watching.process.wait_log("a: would stop the service");
    assert!(!Path::new(file.path()).exists());
}

#[test]
fn webhooks_get_events() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let keys = format!("webhook = \"http://127.0.0.1:{port}/alert?a=b\"");
    let _watching = Watching::start(&restarts(&keys));
    let mut events = Vec::new();
    for _ in 0..2 {
        let mut stream = listener.accept().expect("a request").0;
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut buffer = [0; 1024];
            let size = stream.read(&mut buffer).expect("a request");
            assert!(size > 0, "it ends early");
            request.extend_from_slice(&buffer[..size]);
        }
        stream
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .expect("it reads");
        let _ = stream.shutdown(Shutdown::Both);
        let text = String::from_utf8(request).expect("text");
        assert!(text.starts_with("POST /alert?a=b HTTP/1.1\r\n"), "{text}");
        events.push(text);
    }
    assert!(events[0].contains("\"event\":\"late\""), "{}", events[0]);
    assert!(events[1].contains("\"event\":\"down\""), "{}", events[1]);
}

/// The lines of the log in a comment, or in the log itself, without what differs from run to run.
fn plain(lines: &[&str]) -> Vec<String> {
    let words = |line: &str| {
        let words = line.split_whitespace();
        let is_time = |word: &str| word.parse::<f64>().is_ok_and(|time| time < 100.0);
        let words = words.map(|word| if is_time(word) { "N" } else { word });
        words.collect::<Vec<_>>().join(" ")
    };
    lines.iter().copied().map(words).collect()
}

#[test]
fn the_example_prints_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/watch");
    let text = fs::read_to_string(folder.join("watch.toml")).expect("the example");
    let promised = text.lines().filter_map(|line| line.strip_prefix("#     "));
    let promised: Vec<&str> = promised.filter(|line| !line.starts_with("cd ")).collect();
    let promised = plain(&promised);
    assert!(promised.len() > 10, "{promised:?}");
    let free = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let ports = free.map(|it| it.local_addr().expect("it is bound").port().to_string());
    let text = text.replace("5005", &ports[0]).replace("5009", &ports[1]);
    let script = |name: &str| format!("\"{}\"", folder.join(name).display());
    let text = text.replace("\"consumer.py\"", &script("consumer.py"));
    let text = text.replace("\"emulator.py\"", &script("emulator.py"));
    let watching = Watching::start(&text);
    let _ = watching.process.wait_log("data: recovered");
    watching.process.signal("TERM");
    let log = watching.process.wait().stderr;
    let lines = log
        .lines()
        .filter_map(|line| line.split_once("] ").map(|(_, line)| line));
    let lines: Vec<String> = lines
        .map(|line| line.replace(&ports[0], "5005").replace(&ports[1], "5009"))
        .map(|line| line.replace(&format!("{}/", folder.display()), ""))
        .collect();
    let seen: Vec<&str> = lines.iter().map(String::as_str).collect();
    let seen = plain(&seen);
    for line in &promised {
        assert!(seen.contains(line), "no \"{line}\" in\n{log}");
    }
}
