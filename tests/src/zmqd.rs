//! The broker process: builds it once, starts it on free ports, observes and ends it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::wait_until;
use crate::dialogue::signal;
use crate::environment::{profile_dir, run, target_dir, test_target};
use crate::lines::{Lines, mentions};

/// A loopback endpoint whose port the broker chooses.
pub const ANY: &str = "tcp://127.0.0.1:0";

/// A variable of the environment: the directory with the keys of [`Zmqd::proxy`] and of the Python
/// peers, which then use CURVE.
pub const CURVE_KEYS: &str = "ZMQD_TESTS_CURVE";

/// A running `zmqd`; killed when dropped. A failing test prints its log.
#[derive(Debug)]
pub struct Zmqd {
    bound: Vec<Bound>,
    child: Child,
    stderr: Lines,
    stdout: Lines,
}

/// One bound endpoint, as the broker prints it at its start.
#[derive(Clone, Debug)]
struct Bound {
    endpoint: String,
    proxy: String,
    side: String,
}

/// Times of a process, as the scheduler of the kernel counts them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scheduled {
    /// Processor time, user and system.
    pub ran: Duration,
    /// Time in which a thread was ready to run and had no processor.
    pub waited: Duration,
}

/// A `zmqd` that has ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code, or `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, if any.
    pub signal: Option<i32>,
    /// All of its standard error.
    pub stderr: String,
    /// All of its standard output.
    pub stdout: String,
}

impl Zmqd {
    /// A queue bound to free ports on both sides, with more arguments if any.
    #[must_use]
    pub fn queue(arguments: &[&str]) -> Self {
        Self::proxy("queue", arguments)
    }

    /// A forwarder bound to free ports on both sides, with more arguments if any.
    #[must_use]
    pub fn forwarder(arguments: &[&str]) -> Self {
        Self::proxy("forwarder", arguments)
    }

    /// A streamer bound to free ports on both sides, with more arguments if any.
    #[must_use]
    pub fn streamer(arguments: &[&str]) -> Self {
        Self::proxy("streamer", arguments)
    }

    /// A proxy of this kind bound to free ports on both sides, with more arguments if any.
    #[must_use]
    pub fn proxy(kind: &str, arguments: &[&str]) -> Self {
        let proxy = [kind, "--frontend", ANY, "--backend", ANY];
        let Ok(keys) = env::var(CURVE_KEYS) else {
            return Self::start(&[&proxy, arguments].concat());
        };
        let secret = format!("curve_secret={keys}/server.key_secret");
        let clients = format!("curve_clients={keys}/client.key");
        let curve = ["--set", &secret, "--set", &clients];
        Self::start(&[&proxy, arguments, &curve].concat())
    }

    /// Starts with these arguments and waits for one line per `--frontend`, `--backend`,
    /// `--capture` and `--control`.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_expecting(count_binds(arguments), arguments)
    }

    /// Starts with these arguments and waits until this many endpoints are bound.
    #[must_use]
    pub fn start_expecting(endpoints: usize, arguments: &[&str]) -> Self {
        Self::spawn(endpoints, Command::new(binary()).args(arguments))
    }

    /// As [`Zmqd::start`], in a process with a limit, written as for the shell's `ulimit`.
    #[must_use]
    pub fn start_within(limit: &str, arguments: &[&str]) -> Self {
        let limited = format!("ulimit {limit} && exec \"$0\" \"$@\"");
        Self::start_under(&["sh", "-c", &limited], arguments)
    }

    /// As [`Zmqd::start`], by a command that executes the arguments behind it.
    #[must_use]
    pub fn start_under(wrapper: &[&str], arguments: &[&str]) -> Self {
        Self::start_under_expecting(count_binds(arguments), wrapper, arguments)
    }

    /// As [`Zmqd::start_under`], and waits until this many endpoints are bound.
    #[must_use]
    pub fn start_under_expecting(endpoints: usize, wrapper: &[&str], arguments: &[&str]) -> Self {
        let (first, others) = wrapper.split_first().expect("a wrapper is not empty");
        let mut command = Command::new(first);
        command.args(others).arg(binary()).args(arguments);
        Self::spawn(endpoints, &mut command)
    }

    /// Runs with these arguments to its end.
    #[must_use]
    pub fn finish(arguments: &[&str]) -> Finished {
        Self::start_expecting(0, arguments).wait()
    }

    fn spawn(endpoints: usize, command: &mut Command) -> Self {
        let mut child = command
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = Lines::collect(child.stdout.take().expect("standard output was piped"));
        let stderr = Lines::collect(child.stderr.take().expect("standard error was piped"));
        let mut broker = Self {
            bound: Vec::new(),
            child,
            stderr,
            stdout,
        };
        let announced = broker.stdout.find("the endpoints of the broker", |lines| {
            let bound: Vec<Bound> = lines.iter().filter_map(|line| Bound::parse(line)).collect();
            (bound.len() >= endpoints).then_some(bound)
        });
        broker.bound = announced
            .unwrap_or_else(|| panic!("{command:?} ended before it had bound its endpoints"));
        broker
    }

    /// The first endpoint bound by a frontend.
    #[must_use]
    pub fn frontend(&self) -> &str {
        self.bound(|bound| bound.side == "frontend")
    }

    /// The first endpoint bound by a backend.
    #[must_use]
    pub fn backend(&self) -> &str {
        self.bound(|bound| bound.side == "backend")
    }

    /// The first endpoint bound by a capture.
    #[must_use]
    pub fn capture(&self) -> &str {
        self.bound(|bound| bound.side == "capture")
    }

    /// The first endpoint bound by a control.
    #[must_use]
    pub fn control(&self) -> &str {
        self.bound(|bound| bound.side == "control")
    }

    /// The first endpoint bound by this side of this proxy.
    #[must_use]
    pub fn endpoint(&self, proxy: &str, side: &str) -> &str {
        self.bound(|bound| bound.proxy == proxy && bound.side == side)
    }

    /// Every endpoint bound by this side of this proxy, in the order they were announced.
    #[must_use]
    pub fn endpoints(&self, proxy: &str, side: &str) -> Vec<&str> {
        let wanted = self
            .bound
            .iter()
            .filter(|bound| bound.proxy == proxy && bound.side == side);
        wanted.map(|bound| bound.endpoint.as_str()).collect()
    }

    fn bound(&self, wanted: impl Fn(&Bound) -> bool) -> &str {
        let found = self.bound.iter().find(|bound| wanted(bound));
        found.map_or("", |bound| bound.endpoint.as_str())
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// A size in the status of the process, by its label, in bytes.
    fn status_bytes(&self, label: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(label));
        let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kibibytes.expect("the status of a running process has this size") * 1024
    }

    /// The most resident memory so far, in bytes.
    #[must_use]
    pub fn rss_peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// How many files the process has open.
    #[must_use]
    pub fn files(&self) -> usize {
        let directory = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        directory
            .expect("a running process lists its files")
            .count()
    }

    /// Times of all threads so far.
    #[must_use]
    pub fn scheduled(&self) -> Scheduled {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let mut sum = Scheduled::default();
        for task in tasks
            .expect("a running process lists its threads")
            .flatten()
        {
            // A thread that has just ended has no file.
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let mut nanos = text
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .map(Duration::from_nanos);
            sum.ran += nanos.next().unwrap_or_default();
            sum.waited += nanos.next().unwrap_or_default();
        }
        sum
    }

    /// Processor time used so far by all threads, user and system, in ticks of 10 ms.
    #[must_use]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The program name, in parentheses, may contain spaces; fields are counted behind it.
        let fields = stat.rsplit(") ").next().unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks
            .map(|field| field.parse::<u64>().expect("ticks are numbers"))
            .sum()
    }

    /// How many TCP connections the process has, whether the peer is alive or not.
    #[must_use]
    pub fn connections(&self) -> usize {
        let directory = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        let files = directory
            .expect("a running process lists its files")
            .flatten();
        let targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        let held: Vec<String> = targets
            .map(|target| target.to_string_lossy().into_owned())
            .collect();
        let tables = self.proc("net/tcp") + &self.proc("net/tcp6");
        let inode_held = |line: &'_ str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, _, _, state, _, _, _, _, _, inode, ..] = fields[..] else {
                return None;
            };
            let inode = format!("socket:[{inode}]");
            (state != TCP_LISTEN && held.contains(&inode)).then_some(inode)
        };
        // The kernel may list a socket twice while others come and go.
        let inodes: BTreeSet<String> = tables.lines().filter_map(inode_held).collect();
        inodes.len()
    }

    /// Waits until the process has exactly this many connections.
    #[track_caller]
    pub fn wait_connections(&self, count: usize) {
        wait_until(&format!("{count} connections"), || {
            (self.connections() == count).then_some(())
        });
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
    }

    /// Waits for a line of the log that mentions `needle`, and returns it.
    #[track_caller]
    #[must_use]
    pub fn wait_log(&self, needle: &str) -> String {
        let found = self
            .stderr
            .find(&format!("{needle:?} in the log"), |lines| {
                lines.iter().find(|line| mentions(line, needle)).cloned()
            });
        found.unwrap_or_else(|| panic!("the broker ended without {needle:?} in its log"))
    }

    /// The lines of standard output so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// The address for HTTP, once it is announced.
    #[must_use]
    #[track_caller]
    pub fn http_address(&self) -> String {
        wait_until("the address for HTTP", || {
            let lines = self.lines();
            let mut found = lines
                .iter()
                .filter_map(|line| line.strip_prefix("http bound http://"));
            Some(found.next()?.trim_end_matches('/').to_owned())
        })
    }

    /// How many lines of the log contain `needle` so far.
    #[must_use]
    pub fn log_count(&self, needle: &str) -> usize {
        self.stderr.count(needle)
    }

    /// Sends a signal by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// How the process ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child
            .try_wait()
            .expect("the state of a child can be read")
    }

    /// Waits for the end of the process.
    #[must_use]
    pub fn wait(mut self) -> Finished {
        let status = wait_until("the end of the broker", || self.exited());
        Finished {
            code: status.code(),
            signal: status.signal(),
            stderr: self.stderr.to_end(),
            stdout: self.stdout.to_end(),
        }
    }

    /// Ends the process with SIGKILL, as a crash would.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Zmqd {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the broker:\n{}---", self.stderr);
        }
        // Both fail only if the process has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Bound {
    /// Reads `NAME SIDE bound ENDPOINT`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (proxy, side) = (words.next()?.to_owned(), words.next()?.to_owned());
        let endpoint = (words.next()? == "bound")
            .then(|| words.next())??
            .to_owned();
        Some(Self {
            endpoint,
            proxy,
            side,
        })
    }
}

/// How many endpoints a broker with these arguments prints.
fn count_binds(arguments: &[&str]) -> usize {
    let is_bind = |pair: &&[&str]| {
        let sides = ["--frontend", "--backend", "--capture", "--control"];
        sides.contains(&pair[0]) && !pair[1].starts_with('>')
    };
    arguments.windows(2).filter(is_bind).count()
}

/// An endpoint without a listener, for a peer that will listen there later.
///
/// Its address is in 127/8 and used once, so that neither another test nor the source port of a
/// connection (on 127.0.0.1) can take the port meanwhile.
#[must_use]
pub fn vacant_endpoint() -> String {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let [_, _, high, low] = process::id().to_be_bytes();
    let [page, last] = TAKEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let address = Ipv4Addr::new(127, high | 0x80, low.wrapping_add(page), last);
    let listener = TcpListener::bind((address, 0)).expect("all of 127/8 is this machine");
    let port = listener
        .local_addr()
        .expect("a listener has an address")
        .port();
    format!("tcp://{address}:{port}")
}

/// The binary under test: `ZMQD_BIN` if set, else built in the profile of the test.
#[must_use]
#[track_caller]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let given = || env::var_os("ZMQD_BIN").map(PathBuf::from);
    match BINARY.get_or_init(|| given().map_or_else(build, Ok)) {
        Ok(path) => path,
        Err(complaint) => panic!("zmqd does not build:\n{complaint}"),
    }
}

/// Builds the binary together with the running test target, which is up to date: Cargo unites the
/// features of all packages that it builds, so the binary links with the libraries that
/// `cargo test --workspace` has compiled.
fn build() -> Result<PathBuf, String> {
    let profile_dir = profile_dir();
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--package",
            "zmqd",
            "--package",
            "zmqd-tests",
            "--bin",
            "zmqd",
            "--test",
            &test_target(),
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target_dir());
    run(&mut command).map(|_| profile_dir.join("zmqd"))
}

/// The state of a listener in `/proc/net/tcp`.
const TCP_LISTEN: &str = "0A";
