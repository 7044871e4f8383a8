//! Brokers that are visible by default, and `zmqd status`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use zmqd_tests::{ANY, Finished, Python, Scratch, Zmqd};

/// A user's directory for sockets, with no broker in it.
pub(super) struct Home {
    path: PathBuf,
    pub(super) variable: String,
}

impl Home {
    pub(super) fn new() -> Self {
        let scratch = Scratch::absent("run");
        let path = PathBuf::from(format!("/tmp/{}", name_of(scratch.path())));
        fs::create_dir(&path).expect("a new directory");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("it is ours");
        let variable = format!("XDG_RUNTIME_DIR={}", path.display());
        Self { path, variable }
    }

    pub(super) fn start(&self, endpoints: usize, arguments: &[&str]) -> Zmqd {
        let wrapper = ["env", "-u", "RUNTIME_DIRECTORY", &self.variable];
        Zmqd::start_under_expecting(endpoints, &wrapper, arguments)
    }

    pub(super) fn finish(&self, arguments: &[&str]) -> Finished {
        self.start(0, arguments).wait()
    }

    /// The output of a command that succeeds.
    #[track_caller]
    pub(super) fn run(&self, arguments: &[&str]) -> String {
        let finished = self.finish(arguments);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        finished.stdout
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

const QUEUE: [&str; 5] = ["queue", "--frontend", ANY, "--backend", ANY];

pub(super) const TWO_PROXIES: &str = r#"
[[proxy]]
name = "orders"
kind = "queue"
frontend.bind = "tcp://127.0.0.1:0"
backend.bind = "tcp://127.0.0.1:0"

[[proxy]]
name = "prices"
kind = "forwarder"
frontend.bind = "tcp://127.0.0.1:0"
backend.bind = "tcp://127.0.0.1:0"
"#;

#[test]
fn status_finds_the_broker_and_says_when_none_runs() {
    let home = Home::new();
    let none = home.finish(&["status"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(1), ""));
    assert!(none.stderr.contains("zmqd run"), "{}", none.stderr);
    let config = Scratch::new("toml", TWO_PROXIES);
    let broker = home.start(4, &["run", config.path()]);
    let directory = home.path.join("zmqd");
    let socket = directory.join(format!("{}.ctl", broker.pid()));
    let mode = |path: &PathBuf| fs::metadata(path).expect("it is there").mode() & 0o777;
    assert_eq!((mode(&directory), mode(&socket)), (0o700, 0o600));
    let mut python = Python::new();
    python.set("frontend", broker.endpoint("orders", "frontend"));
    python.run(
        r#"
        client = connect(zmq.REQ, frontend, identity=b"\x1b[2J")
        client.send(b"one")
        "#,
    );
    let screen = home.run(&["status"]);
    let first = format!("pid {}", broker.pid());
    assert!(
        screen.lines().next().unwrap_or_default().contains(&first),
        "{screen}"
    );
    for part in [
        config.path(),
        "as started",
        "orders: running",
        "prices: running",
    ] {
        assert!(screen.contains(part), "no {part:?} in\n{screen}");
    }
    assert!(
        screen.contains(broker.endpoint("prices", "backend")),
        "{screen}"
    );
    assert!(screen.contains("1 peer,"), "{screen}");
    assert!(
        !screen.contains('\x1b'),
        "no colours outside of a terminal: {screen}"
    );
    let json = home.run(&["status", "--json"]);
    assert_eq!(json.lines().count(), 1, "{json}");
    assert!(json.contains(r#""messages_received_per_second""#), "{json}");
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
    assert!(!socket.exists(), "the socket goes with its broker");
    assert_eq!(home.finish(&["status"]).code, Some(1));
}

#[test]
fn ctl_needs_no_endpoint_and_asks_which_proxy() {
    let home = Home::new();
    let config = Scratch::new("toml", TWO_PROXIES);
    let broker = home.start(4, &["run", config.path()]);
    let open = home.finish(&["ctl", "peers"]);
    assert_eq!(open.code, Some(1));
    let choice = "--proxy: name one of orders, prices";
    assert!(open.stderr.contains(choice), "{}", open.stderr);
    assert!(
        home.run(&["ctl", "--proxy", "prices", "statistics"])
            .contains("XPUB")
    );
    assert_eq!(home.run(&["ctl", "pause"]), "paused");
    assert_eq!(home.run(&["ctl", "--proxy", "orders", "resume"]), "resumed");
    let screen = home.run(&["status"]);
    assert!(screen.contains("orders: running\n"), "{screen}");
    assert!(screen.contains("prices: running, paused"), "{screen}");
    fs::write(config.path(), "kind = 1").expect("the file is ours");
    assert_eq!(home.finish(&["ctl", "reload"]).code, Some(1));
    let screen = home.run(&["status"]);
    assert!(screen.contains("last reload rejected"), "{screen}");
    fs::write(config.path(), TWO_PROXIES).expect("the file is ours");
    assert_eq!(home.run(&["ctl", "reload"]), "no changes");
    assert_eq!(home.run(&["ctl", "terminate"]), "terminated");
    assert_eq!(broker.wait().code, Some(0));
}

#[test]
fn several_brokers_are_listed_and_the_other_commands_ask_which() {
    let home = Home::new();
    let (one, other) = (home.start(2, &QUEUE), home.start(2, &QUEUE));
    let pids = [one.pid(), other.pid()].map(|pid| pid.to_string());
    let screen = home.run(&["status"]);
    for pid in &pids {
        assert!(
            screen.contains(&format!("pid {pid}  command line")),
            "{screen}"
        );
    }
    let open = home.finish(&["ctl", "peers"]);
    assert_eq!(open.code, Some(1));
    assert!(open.stderr.contains("--pid"), "{}", open.stderr);
    assert_eq!(
        home.run(&["ctl", "--pid", &pids[1], "terminate"]),
        "terminated"
    );
    assert_eq!(other.wait().code, Some(0));
    assert!(home.run(&["status"]).contains(&format!("pid {}", pids[0])));
    let stranger = home.finish(&["status", "--pid", &pids[1]]);
    assert_eq!(stranger.code, Some(1));
}

#[test]
fn the_control_moves_and_goes_with_the_configuration() {
    let home = Home::new();
    let place = home.path.join("b.ctl");
    let endpoint = format!("ipc://{}", place.display());
    let broker = home.start(2, &[&QUEUE[..], &["--broker-control", &endpoint]].concat());
    assert_eq!(home.finish(&["status"]).code, Some(1), "it is elsewhere");
    let screen = home.run(&["status", "--control", &endpoint]);
    assert!(
        screen.contains(&format!("pid {}", broker.pid())),
        "{screen}"
    );
    let config = Scratch::new("toml", &format!("broker_control = \"none\"\n{TWO_PROXIES}"));
    let silent = home.start(4, &["run", config.path()]);
    assert_eq!(home.finish(&["status"]).code, Some(1), "it is off");
    fs::write(config.path(), TWO_PROXIES).expect("the file is ours");
    silent.signal("HUP");
    let _ = silent.wait_log("reloaded");
    assert!(
        home.run(&["status"])
            .contains(&format!("pid {}", silent.pid()))
    );
    let open = Zmqd::finish(&[&QUEUE[..], &["--broker-control", "tcp://*:1"]].concat());
    assert_eq!(open.code, Some(2));
    assert!(
        open.stderr.contains("ipc:///PATH or none"),
        "{}",
        open.stderr
    );
}

#[test]
fn a_broker_without_a_safe_place_runs_without_a_control() {
    let home = Home::new();
    let elsewhere = home.path.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a new directory");
    symlink(&elsewhere, home.path.join("zmqd")).expect("a new link");
    let broker = home.start(2, &QUEUE);
    let line = broker.wait_log("will not find this broker");
    assert!(line.contains("0700"), "{line}");
    let left = fs::read_dir(&elsewhere).expect("it is there").count();
    assert_eq!(left, 0, "nothing behind the link");
}
