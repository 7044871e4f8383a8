//! One broker under attack, and its honest peers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use zmqd_tests::clock::{idle, poll_for};
use zmqd_tests::zmqd::Scheduled;
use zmqd_tests::{Scratch, Stopwatch, Zmqd};

use crate::honest::{Peers, Tally};
use crate::report::{FILES_SLACK, Figures, at_most, rest_max, shown};
use crate::security::Files;
use crate::{Attack, Same, URGENT};

/// The time for memory and files to return after the attackers have left. A refused peer has its
/// connection for up to 30 s.
const REST_PATIENCE: Duration = Duration::from_secs(45);
/// The longest stop, with a drain timeout of 5 s.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// A broker with three proxies: `attacked`, and the others, `requests` and `work`.
pub(crate) struct Scene {
    /// Makes connections that exist when the broker is told to stop.
    pub(crate) before_the_stop: Option<Box<dyn FnOnce() -> Vec<TcpStream>>>,
    pub(crate) broker: Zmqd,
    /// The messages of honest peers that the attack itself has started on the attacked proxy.
    pub(crate) honest: Option<Tally>,
    /// The kind of the attacked proxy.
    pub(crate) kind: &'static str,
    /// Times that exceeded the attack's own goals.
    late: Vec<String>,
    pub(crate) limit: u64,
    rounds: u32,
    share: Duration,
    watch: Stopwatch,
}

/// A relay without protocol knowledge: the performance of the machine without a broker.
struct Relay {
    backend: String,
    child: Child,
    frontend: String,
}

/// Honest peers: of the broker, and of the relay.
struct Honest {
    machine: Peers,
    requests: Peers,
    same: Option<Peers>,
    work: Peers,
}

/// The token of HTTP.
pub(crate) const TOKEN: &str = "0123456789abcdef";

/// The default memory limit of a broker.
const LIMIT_DEFAULT: u64 = 512 << 20;

impl Scene {
    fn start(attack: &Attack, share: Duration) -> Self {
        let limit = attack
            .limit
            .map_or_else(String::new, |limit| format!("memory_limit = {limit}\n"));
        let listeners = vec![r#""tcp://127.0.0.1:0""#; attack.listeners].join(", ");
        let any = r#"bind = "tcp://127.0.0.1:0""#;
        let others = [("requests", "queue"), ("work", "streamer")].map(|(name, kind)| {
            format!(
                "\n[[proxy]]\nname = \"{name}\"\nkind = \"{kind}\"\nfrontend.{any}\nbackend.{any}\n"
            )
        });
        let files = Files::new();
        let token = Scratch::new("token", TOKEN);
        let owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(token.path(), owner).expect("its owner");
        let http = if attack.has_http {
            format!(
                "http = \"127.0.0.1:0\"\nhttp_token_file = \"{}\"\n",
                token.path()
            )
        } else {
            String::new()
        };
        let text = format!(
            "{limit}{http}[[proxy]]\nname = \"attacked\"\nkind = \"{}\"\n\
             frontend.bind = [{listeners}]\nbackend.{any}\ncontrol.{any}\n{}\n{}",
            attack.kind,
            files.name_in(attack.options),
            others.concat()
        );
        let config = Scratch::new("toml", &text);
        let replay = usize::from(attack.options.starts_with("replay"));
        let endpoints = attack.listeners + 2 + replay + 4;
        let broker = Zmqd::start_under_expecting(endpoints, URGENT, &["run", config.path()]);
        Self {
            before_the_stop: None,
            broker,
            honest: None,
            kind: attack.kind,
            late: Vec::new(),
            limit: attack.limit.unwrap_or(LIMIT_DEFAULT),
            rounds: 0,
            share,
            watch: Stopwatch::start(),
        }
    }

    pub(crate) fn frontend(&self) -> &str {
        self.broker.endpoint("attacked", "frontend")
    }

    pub(crate) fn frontends(&self) -> Vec<&str> {
        self.broker.endpoints("attacked", "frontend")
    }

    pub(crate) fn backend(&self) -> &str {
        self.broker.endpoint("attacked", "backend")
    }

    pub(crate) fn control(&self) -> &str {
        self.broker.endpoint("attacked", "control")
    }

    /// Whether there is time for another round; always for the first.
    pub(crate) fn again(&mut self) -> bool {
        self.rounds += 1;
        self.rounds == 1 || self.watch.elapsed() < self.share
    }

    /// The number of rounds begun.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds - 1
    }

    /// The remaining time of the share.
    pub(crate) fn left(&self) -> Duration {
        self.share.saturating_sub(self.watch.elapsed())
    }

    /// Checks a goal of this attack alone; `None` is an infinite time.
    pub(crate) fn require(&mut self, what: &str, took: Option<Duration>, goal: Duration) {
        if took.is_none_or(|took| took > at_most(goal)) {
            self.late.push(format!("{what}: {}", shown(took)));
        }
    }

    /// The processor time that the broker takes for this work.
    pub(crate) fn cost(&mut self, work: impl FnOnce(&mut Self)) -> Duration {
        let before = self.broker.scheduled().ran;
        work(self);
        self.broker.scheduled().ran.saturating_sub(before)
    }

    /// Waits until memory and files have returned.
    fn rest(&self, before: &Before) -> (u64, usize) {
        let is_back = || {
            let now = (self.broker.rss_bytes(), self.broker.files());
            (now.0 <= before.rss + rest_max(self.limit) && now.1 <= before.files + FILES_SLACK)
                .then_some(now)
        };
        poll_for(REST_PATIENCE, is_back)
            .unwrap_or_else(|| (self.broker.rss_bytes(), self.broker.files()))
    }

    /// Stops the broker by SIGTERM; returns the duration, or another end of the broker.
    fn stop(self) -> Result<Duration, String> {
        let mut broker = self.broker;
        let left = self.before_the_stop.map(|connect| connect());
        let watch = Stopwatch::start();
        broker.signal("TERM");
        let ended = poll_for(STOP_PATIENCE, || broker.exited());
        let took = watch.elapsed();
        drop(left);
        match ended {
            Some(status) if status.success() => Ok(took),
            Some(status) => Err(format!("the broker ended with {status}")),
            None => Err(format!("SIGTERM had no effect for {STOP_PATIENCE:?}")),
        }
    }
}

/// The broker before the attack.
struct Before {
    files: usize,
    rss: u64,
    scheduled: Scheduled,
}

/// Attacks a new broker for this time, and returns the results.
pub(crate) fn run(attack: &Attack, share: Duration) -> Figures {
    let mut scene = Scene::start(attack, share);
    let relay = Relay::start();
    let before = Before {
        files: scene.broker.files(),
        rss: scene.broker.rss_bytes(),
        scheduled: scene.broker.scheduled(),
    };
    let honest = Honest::start(&scene, &relay, attack.same);
    let watch = Stopwatch::start();
    scene.watch = watch;
    let what = (attack.run)(&mut scene);
    let lasted = watch.elapsed();
    let after = scene.broker.scheduled();
    let [machine, requests, work, same] = honest.finish();
    let peak = scene.broker.rss_peak_bytes();
    let (rest, files) = scene.rest(&before);
    let limit = scene.limit;
    let late = std::mem::take(&mut scene.late);
    let same = same.or_else(|| scene.honest.take());
    Figures {
        files: (before.files, files),
        lasted,
        late,
        limit,
        machine: machine.expect("the relay is always there"),
        memory: [before.rss, peak, rest],
        name: attack.name,
        others: [requests, work].map(|tally| tally.expect("they are always there")),
        ran: after.ran.saturating_sub(before.scheduled.ran),
        same,
        stop: scene.stop(),
        waited: after.waited.saturating_sub(before.scheduled.waited),
        what,
    }
}

impl Honest {
    fn start(scene: &Scene, relay: &Relay, same: Option<Same>) -> Self {
        let ends = |proxy| {
            let endpoint = |side| scene.broker.endpoint(proxy, side);
            (endpoint("frontend"), endpoint("backend"))
        };
        let (frontend, backend) = ends("attacked");
        let same = same.map(|same| match same {
            Same::Publications => Peers::publications(frontend, backend),
            Same::Requests => Peers::requests(frontend, backend),
            Same::Work => Peers::work(frontend, backend),
        });
        let (frontend, backend) = ends("requests");
        let requests = Peers::requests(frontend, backend);
        let (frontend, backend) = ends("work");
        let work = Peers::work(frontend, backend);
        let machine = Peers::relayed(&relay.frontend, &relay.backend);
        idle(Duration::from_millis(100)); // for the first round trips
        Self {
            machine,
            requests,
            same,
            work,
        }
    }

    fn finish(self) -> [Option<Tally>; 4] {
        let machine = self.machine.finish();
        let requests = self.requests.finish();
        let work = self.work.finish();
        let same = self.same.map(Peers::finish);
        [Some(machine), Some(requests), Some(work), same]
    }
}

impl Relay {
    fn start() -> Self {
        let (first, others) = URGENT.split_first().expect("a wrapper is a command");
        let mut child = Command::new(first)
            .args(others)
            .arg(env!("CARGO_BIN_EXE_relay"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the relay was built with the tests");
        let stdout = BufReader::new(child.stdout.take().expect("standard output was piped"));
        let mut bound = stdout.lines().map(|line| {
            let line = line.expect("the relay says where it listens");
            let endpoint = line.rsplit(' ').next();
            endpoint.expect("a line has a last word").to_owned()
        });
        let mut next = || bound.next().expect("the relay has two endpoints");
        Self {
            frontend: next(),
            backend: next(),
            child,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
