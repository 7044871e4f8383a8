//! Machines that are suspended, a watch that stands still, and services that take long to start.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use zmqd_tests::{Scratch, Stopwatch, Zmqd, wait_until};

use super::clock::library as faketime;

/// The grace of the watches here, longer than all that confirms their silence.
const GRACE: Duration = Duration::from_secs(4);

/// A watch of heartbeats, which this process sends.
struct Watching {
    _file: Scratch,
    process: Zmqd,
}

impl Watching {
    /// Starts it by a command, and keeps it up until its first grace is over.
    fn start_under(wrapper: &[&str]) -> Self {
        let config = format!(
            "[watcher]\nheartbeat.tcp = \"127.0.0.1:0\"\n[[watch]]\nname = \"a\"\n\
             heartbeat = {{}}\nafter = \"1s\"\nconfirm = 1\ngrace = {}\naction = [\"true\"]\n",
            GRACE.as_millis()
        );
        let file = Scratch::new("toml", &config);
        let process = Zmqd::start_under_expecting(0, wrapper, &["watch", file.path()]);
        let watching = Self {
            _file: file,
            process,
        };
        let begin = Stopwatch::start();
        wait_until("the end of its grace", || {
            watching.beat();
            (begin.elapsed() > GRACE).then_some(())
        });
        assert_eq!(watching.process.log_count("a: late"), 0);
        watching
    }

    fn beat(&self) {
        let address = wait_until("the endpoint", || {
            let lines = self.process.lines();
            let mut found = lines.iter().filter_map(|it| it.strip_prefix("json bound "));
            found.next().map(str::to_owned)
        });
        let mut client = TcpStream::connect(address).expect("it listens");
        client.write_all(b"{}").expect("it reads");
    }

    /// The silent service has its grace from now on, and no more.
    fn expect_grace(&self) {
        let begin = Stopwatch::start();
        let _ = self.process.wait_log("this process has stood still");
        let _ = self.process.wait_log("a: acting: no heartbeat");
        let elapsed = begin.elapsed();
        assert!(
            elapsed + Duration::from_millis(200) > GRACE,
            "it acted after {elapsed:?}"
        );
        assert_eq!(self.process.log_count("has stood still"), 1);
    }
}

/// A library that lets a process believe that its machine was suspended.
fn library() -> Scratch {
    let library = Scratch::absent("so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/c/suspended.c");
    let mut compiler = Command::new("cc");
    let made = compiler.args(["-shared", "-fPIC", "-o", library.path(), source]);
    assert!(made.status().is_ok_and(|it| it.success()), "cc {source}");
    library
}

#[test]
fn a_machine_that_was_suspended_gives_its_services_their_grace() {
    let (library, seconds) = (library(), Scratch::new("seconds", "7"));
    let wrapper = [
        "env",
        &format!("LD_PRELOAD={}", library.path()),
        &format!("SUSPENDED_SECONDS={}", seconds.path()),
    ];
    let watching = Watching::start_under(&wrapper);
    assert_eq!(
        watching.process.log_count("has stood still"),
        0,
        "earlier suspensions do not count"
    );
    // A night.
    fs::write(seconds.path(), "28807").expect("the file is ours");
    watching.expect_grace();
}

#[test]
fn a_watch_that_was_stopped_gives_its_services_their_grace() {
    let watching = Watching::start_under(&["env"]);
    watching.process.signal("STOP");
    let begin = Stopwatch::start();
    wait_until("far more time than a heartbeat may take", || {
        (begin.elapsed() > Duration::from_secs(7)).then_some(())
    });
    watching.process.signal("CONT");
    watching.expect_grace();
}

#[test]
fn the_wall_clock_is_of_no_concern() {
    let clock = Scratch::new("faketime", "+0");
    let wrapper = [
        "env",
        &format!("LD_PRELOAD={}", faketime().display()),
        &format!("FAKETIME_TIMESTAMP_FILE={}", clock.path()),
        "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ];
    let watching = Watching::start_under(&wrapper);
    for shift in ["-400d", "+400d", "+0"] {
        fs::write(clock.path(), shift).expect("the clock can be set");
        let begin = Stopwatch::start();
        wait_until("several checks", || {
            watching.beat();
            (begin.elapsed() > Duration::from_secs(2)).then_some(())
        });
        for line in ["has stood still", "a: late"] {
            assert_eq!(watching.process.log_count(line), 0, "{shift}: {line}");
        }
    }
    let begin = Stopwatch::start();
    fs::write(clock.path(), "-400d").expect("the clock can be set");
    let line = watching.process.wait_log("a: acting: no heartbeat");
    let elapsed = begin.elapsed();
    assert!(elapsed < GRACE, "{elapsed:?}");
    // The log has the time that was set.
    let last = watching.process.wait_log("a: up: it lives");
    assert_ne!(line.get(..5), last.get(..5), "{line}\n{last}");
}

/// A service that says how far its start is, and then sends heartbeats.
const SLOW: &str = r#"
echo begun >> "$1"
sleep 15
echo half >> "$1"
sleep 15
exec python3 -c '
import os, socket, sys, time
parent = os.getppid()
while os.getppid() == parent:  # a test that fails kills the watch, which cannot end its services
    host, port = sys.argv[1].split(":")
    client = socket.create_connection((host, int(port)))
    client.send(b"{}")
    client.close()
    time.sleep(0.05)
' "$2"
"#;

/// Such a service, and a watch that runs it.
struct Slow {
    _file: Scratch,
    process: Zmqd,
    progress: Scratch,
    _script: Scratch,
}

impl Slow {
    fn start(keys: &str) -> Self {
        let (progress, script) = (Scratch::absent("progress"), Scratch::new("sh", SLOW));
        let endpoint = zmqd_tests::vacant_endpoint();
        let address = endpoint.trim_start_matches("tcp://");
        let config = format!(
            "[watcher]\nheartbeat.tcp = \"{address}\"\n[[watch]]\nname = \"slow\"\n\
             heartbeat = {{}}\nafter = \"1s\"\nstop_timeout = \"1s\"\n{keys}\n\
             start = [\"sh\", \"{}\", \"{}\", \"{address}\"]\n",
            script.path(),
            progress.path()
        );
        let file = Scratch::new("toml", &config);
        let process = Zmqd::start_expecting(0, &["watch", file.path()]);
        Self {
            _file: file,
            process,
            progress,
            _script: script,
        }
    }

    fn progress(&self) -> String {
        fs::read_to_string(self.progress.path()).unwrap_or_default()
    }
}

#[test]
fn a_service_has_half_a_minute_to_start_if_its_grace_is_longer() {
    let (patient, hasty) = (
        Slow::start("grace = \"1min\""),
        Slow::start("grace = \"5s\""),
    );
    // Its grace is over long before.
    let _ = hasty.process.wait_log("slow: acting: no heartbeat");
    wait_until("the second start", || {
        (hasty.progress() == "begun\nbegun\n").then_some(())
    });
    wait_until("half of the start", || {
        (patient.progress() == "begun\nhalf\n").then_some(())
    });
    let _ = patient.process.wait_log("slow: up: it lives");
    for sign in ["late", "down", "acting"] {
        let line = format!("slow: {sign}");
        assert_eq!(patient.process.log_count(&line), 0, "{line}");
    }
    assert_eq!(patient.progress(), "begun\nhalf\n", "it was started once");
    assert_eq!(hasty.process.log_count("slow: up"), 0);
    for watch in [patient, hasty] {
        watch.process.signal("TERM");
        assert_eq!(watch.process.wait().code, Some(0));
    }
}
