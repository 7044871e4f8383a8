//! Services that daemonise, start slowly, or are found by a file or a unit; systemd and pings.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;

use zmqd_tests::{PATIENCE, Python, Scratch, Zmqd};

use super::super::systemd::Supervisor;
use super::{Home, Service, Watching, is_running, restarts, signal, wait_end};

/// Processes that have left the group of their parents, which end with their test.
struct Daemons {
    pids: Scratch,
}

impl Daemons {
    fn new() -> Self {
        let pids = Scratch::absent("pids");
        Self { pids }
    }

    /// A shell command that starts one more.
    fn start(&self) -> String {
        format!("setsid sleep 60 & echo $! >> {}", self.pids.path())
    }

    fn pids(&self) -> Vec<String> {
        let text = fs::read_to_string(self.pids.path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for pid in self.pids().iter().filter(|pid| is_running(pid)) {
            signal("KILL", pid);
        }
    }
}

#[test]
fn the_process_of_a_pid_file_is_started_again_as_a_daemon() {
    let daemons = Daemons::new();
    let file = Scratch::absent("pid");
    let config = format!(
        "[[watch]]\nname = \"a\"\nprocess = {{ pid_file = \"{0}\" }}\nafter = \"200ms\"\n\
         grace = \"100ms\"\nconfirm = 1\n\
         action = [[\"sh\", \"-c\", \"{1}\"], [\"sh\", \"-c\", \"tail -n 1 {2} > {0}\"]]\n",
        file.path(),
        daemons.start(),
        daemons.pids.path()
    );
    let watching = Watching::start(&config);
    watching.wait_actions("a", 1);
    watching.wait_state("a", "up");
    let first = daemons.pids().pop().expect("a daemon");
    assert!(is_running(&first), "it lives on without its shell");
    signal("KILL", &first);
    let line = watching.process.wait_log("a: late: no process");
    assert!(line.contains("no process runs"), "{line}");
    watching.wait_actions("a", 2);
    watching.wait_state("a", "up");
    watching.process.signal("TERM");
    assert_eq!(watching.process.wait().code, Some(0));
    let second = daemons.pids().pop().expect("a daemon");
    assert!(is_running(&second), "it is not a service of the watch");
}

#[test]
fn a_unit_is_asked_for_by_systemctl() {
    let (folder, active) = (Scratch::absent("bin"), Scratch::new("active", ""));
    fs::create_dir(folder.path()).expect("a new folder");
    // A machine of tests has no systemd; this one is asked in its place, with the same words.
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = \"is-active --quiet -- cam.service\" ] && [ -e {} ]\n",
        active.path()
    );
    let systemctl = format!("{}/systemctl", folder.path());
    fs::write(&systemctl, script).expect("the folder is ours");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&systemctl, mode).expect("the file is ours");
    let config = format!(
        "[[watch]]\nname = \"a\"\nprocess = {{ unit = \"cam.service\" }}\nafter = \"200ms\"\n\
         grace = \"100ms\"\nconfirm = 1\naction = [\"touch\", \"{}\"]\n",
        active.path()
    );
    let (home, file) = (Home::new(), Scratch::new("toml", &config));
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("PATH={}:{path}", folder.path());
    let wrapper = ["env", "-u", "RUNTIME_DIRECTORY", &home.variable, &path];
    let process = Zmqd::start_under_expecting(0, &wrapper, &["watch", file.path()]);
    let watching = Watching {
        file,
        home,
        process,
    };
    watching.bound("control");
    watching.wait_state("a", "up");
    fs::remove_file(active.path()).expect("it is there");
    let line = watching.process.wait_log("a: late: no process");
    assert!(
        line.contains("systemctl is-active ended with code 1"),
        "{line}"
    );
    let _ = watching.process.wait_log("a: recovered");
    assert_eq!(watching.actions("a"), 1);
    fs::remove_dir_all(folder.path()).expect("the folder is ours");
}

/// A service has to stay in the foreground; one that does not is restarted as often as allowed, and
/// what it leaves behind outside its group holds up nothing.
#[test]
fn a_service_that_daemonises_counts_as_ended() {
    let daemons = Daemons::new();
    let start = format!("start = [\"sh\", \"-c\", \"{}\"]", daemons.start());
    let watching = Watching::start(&restarts(&format!("{start}\nmax_actions = 2")));
    watching.wait_state("a", "failed");
    let _ = watching
        .process
        .wait_log("a: the service ended with code 0");
    assert_eq!(daemons.pids().len(), 3, "one start and two actions");
    watching.process.signal("TERM");
    assert_eq!(watching.process.wait().code, Some(0));
}

/// Thirty seconds, at a tenth of their length.
#[test]
fn a_start_that_takes_long_needs_a_grace_that_is_longer() {
    let slow = |grace: &str| {
        let mut service = Service::new("");
        let (from, to) = (
            "start = [\"python3\", ",
            "start = [\"sh\", \"-c\", \"sleep 3; exec python3 \\\"$@\\\"\", \"sh\", ",
        );
        service.config = service.config.replace(from, to);
        service.config = service.config.replace("grace = \"2s\"", grace);
        service
    };
    let patient = slow("grace = \"20s\"");
    let watching = Watching::start(&patient.config);
    watching.wait_state("camera", "up");
    assert_eq!((watching.actions("camera"), patient.pids().len()), (0, 1));
    let hasty = slow("grace = \"100ms\"");
    let watching = Watching::start(&hasty.config);
    watching.wait_actions("camera", 1);
    assert_eq!(hasty.pids().len(), 0, "it was stopped before its begin");
    wait_end(&hasty.pids());
}

#[test]
fn a_sub_socket_receives_heartbeats() {
    let config = "[watcher.heartbeat]\ntcp = \"\"\nzmtp = \"tcp://127.0.0.1:0\"\n\
                  socket = \"SUB\"\n[[watch]]\nname = \"a\"\n\
                  heartbeat = { service = \"a\" }\nafter = \"300ms\"\ngrace = 0\n";
    let watching = Watching::start(config);
    let mut python = Python::new();
    python.set("heartbeats", &watching.bound("heartbeat"));
    python.run("sender = connect(zmq.XPUB, heartbeats)");
    // It subscribes to everything.
    python.run("assert sender.recv() == b'\\x01'");
    python.begin("for n in range(40): sender.send_multipart([b'x', b'a']); time.sleep(0.05)");
    watching.wait_state("a", "up");
    python.finish();
    watching.wait_state("a", "down");
}

#[test]
fn systemd_gets_the_states_and_a_url_gets_pings() {
    let systemd = Supervisor::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let config = format!("ping = \"http://{address}/alive?a=b\"");
    let config = restarts("start = [\"sleep\", \"30\"]\nmax_actions = 1")
        .replace("[watcher]", &format!("[watcher]\n{config}"));
    let (home, file) = (Home::new(), Scratch::new("toml", &config));
    let notify = systemd.variable();
    let wrapper = ["env", "-u", "RUNTIME_DIRECTORY", &home.variable, &notify];
    let process = Zmqd::start_under_expecting(0, &wrapper, &["watch", file.path()]);
    systemd.next_with("READY=1");
    let state = systemd.next_with("STATUS=1 watch, 1 new");
    assert!(state.iter().any(|line| line == "WATCHDOG=1"), "{state:?}");
    systemd.next_with("STATUS=1 watch, 1 failed (a)");
    let mut stream = listener.accept().expect("a ping").0;
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    let mut request = [0; 20];
    stream.read_exact(&mut request).expect("a request");
    assert_eq!(&request, b"GET /alive?a=b HTTP/");
    process.signal("TERM");
    systemd.next_with("STOPPING=1");
    assert_eq!(process.wait().code, Some(0));
}
