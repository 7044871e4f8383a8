//! The signs of life that systemd gets, and the units that ask for them. `./ci.sh systemd` lets
//! systemd judge the units.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use zmqd_tests::{ANY, PATIENCE, Scratch, Zmqd};

/// The place of systemd.
pub(super) struct Supervisor {
    path: Scratch,
    socket: UnixDatagram,
}

impl Supervisor {
    pub(super) fn new() -> Self {
        let path = Scratch::absent("notify");
        let socket = UnixDatagram::bind(path.path()).expect("a new path");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time");
        Self { path, socket }
    }

    /// The variable that names its socket.
    pub(super) fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={}", self.path.path())
    }

    /// Starts a streamer as systemd does, with the time of a watchdog.
    fn start(&self, watchdog_us: u32) -> Zmqd {
        let notify = self.variable();
        let watchdog = format!("WATCHDOG_USEC={watchdog_us}");
        let proxy = ["streamer", "--frontend", ANY, "--backend", ANY];
        Zmqd::start_under(&["env", &notify, &watchdog], &proxy)
    }

    /// The assignments of the next message that has this one.
    pub(super) fn next_with(&self, wanted: &str) -> Vec<String> {
        let mut message = [0; 4096];
        for _ in 0..100 {
            let size = self.socket.recv(&mut message).expect("a message in time");
            let text = str::from_utf8(&message[..size]).expect("text");
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            if lines.iter().any(|line| line == wanted) {
                return lines;
            }
        }
        panic!("no message with {wanted}");
    }
}

#[test]
fn the_life_of_a_service() {
    let systemd = Supervisor::new();
    let broker = systemd.start(400_000);
    let ready = systemd.next_with("READY=1");
    let state = "STATUS=1 proxy, 0 peers, 0 messages queued, 0 messages dropped";
    assert!(ready.iter().any(|line| line == state), "{ready:?}");
    for _ in 0..3 {
        systemd.next_with("WATCHDOG=1");
    }
    broker.signal("HUP");
    let reloading = systemd.next_with("RELOADING=1");
    let clock = reloading
        .iter()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let clock: u64 = clock
        .expect("the time of the reload")
        .parse()
        .expect("a number");
    assert!(clock > 0);
    systemd.next_with("READY=1");
    systemd.next_with("WATCHDOG=1");
    broker.signal("TERM");
    systemd.next_with("STOPPING=1");
    assert_eq!(broker.wait().code, Some(0));
}

/// Without a socket that systemd listens on, the broker works.
#[test]
fn a_supervisor_that_is_gone_does_no_harm() {
    let path = Scratch::absent("gone");
    let notify = format!("NOTIFY_SOCKET={}", path.path());
    let proxy = ["streamer", "--frontend", ANY, "--backend", ANY];
    let broker = Zmqd::start_under(&["env", &notify], &proxy);
    let _ = broker.wait_log("cannot tell systemd about the state of zmqd");
    broker.signal("TERM");
    assert_eq!(broker.wait().code, Some(0));
}

/// The commands in the units are those that zmqd has.
#[test]
fn the_units_start_what_exists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/systemd");
    for unit in ["zmqd.service", "zmqd@.service"] {
        let text = fs::read_to_string(folder.join(unit)).expect(unit);
        let mut commands = 0;
        for line in text.lines() {
            let Some((key, command)) = line.split_once("=/usr/bin/zmqd ") else {
                continue;
            };
            assert!(matches!(key, "ExecStart" | "ExecStartPre"), "{line}");
            let (subcommand, path) = command.split_once(' ').expect("a file");
            assert!(path.starts_with("/etc/zmqd/"), "{line}");
            commands += 1;
            let help = Zmqd::finish(&[subcommand, "--help"]);
            assert_eq!(help.code, Some(0), "{line}");
        }
        assert_eq!(commands, 2, "{unit}");
    }
}
