//! Services, processes and the clock.

#![expect(clippy::disallowed_methods, reason = "any time to count from")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use watch::config::{Command, Config, ProcessConfig, SignConfig, WatchConfig};
use watch::{Event, Heartbeat, Outcome, Output, RunId, Signal, Watcher};

use crate::Coverage;
use crate::rules::Rules;
use crate::scenario::{self, Random};
use crate::traffic::Traffic;

/// The length of a run.
const END: Duration = Duration::from_secs(1200);

/// What happens at a time of its own.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Beat(usize),
    Broker(bool),
    Crash(usize),
    Gap,
    Hang(usize),
    HangAll,
    Heal(usize),
    Look,
    Pause(usize, bool),
    ProcessEnds(RunId, i32),
    Reload,
    Stall,
}

#[derive(Debug)]
struct Process {
    index: usize,
    is_service: bool,
    /// Whether it ends on TERM.
    minds_term: bool,
    term_at: Option<Duration>,
}

pub(crate) struct World {
    agenda: BTreeMap<(Duration, u64), Happening>,
    /// Since when the broker does not answer; at first the question is pending, for this long.
    broker_away: Option<(Duration, Duration)>,
    config: Config,
    /// The messages of each service before those that the broker counts by topic.
    counted_since: Vec<u64>,
    /// Since when every watch that is silent has had to act, in calm runs.
    hung_at: Vec<Option<Duration>>,
    is_calm: bool,
    is_dry: bool,
    is_hung: Vec<bool>,
    messages: Vec<u64>,
    now: Duration,
    processes: BTreeMap<RunId, Process>,
    random: Random,
    rules: Rules,
    serial: u64,
    start: Instant,
    /// What waits for each service.
    traffic: Vec<Traffic>,
    watcher: Watcher,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let (is_calm, is_dry) = (random.chance(40), random.chance(10));
        let config = scenario::config(&mut random, is_calm);
        let start = Instant::now();
        let count = config.watches.len();
        let mut rules = Rules::default();
        rules.configure(&config, Duration::ZERO);
        Self {
            agenda: BTreeMap::new(),
            broker_away: None,
            watcher: Watcher::new(config.clone(), is_dry, start),
            config,
            counted_since: vec![0; count],
            hung_at: vec![None; count],
            is_calm,
            is_dry,
            is_hung: vec![false; count],
            messages: vec![0; count],
            now: Duration::ZERO,
            processes: BTreeMap::new(),
            random,
            rules,
            serial: 0,
            start,
            traffic: (0..count).map(|_| Traffic::default()).collect(),
        }
    }

    pub(crate) fn run(mut self) -> Coverage {
        if self.is_dry {
            self.rules.count("dry runs");
        }
        self.plan();
        self.drain();
        while self.now < END {
            let timer = self.watcher.poll_timeout().map(|at| at - self.start);
            let timer = timer.expect("there are watches").max(self.now);
            let first = self.agenda.first_key_value().map(|((at, _), _)| *at);
            match first {
                Some(at) if at <= timer => {
                    self.now = self.now.max(at);
                    let (_, happening) = self.agenda.pop_first().expect("it is there");
                    self.happen(happening);
                }
                _ => {
                    self.now = timer;
                    self.watcher.handle_timeout(self.start + self.now);
                }
            }
            self.drain();
            self.check_promptness();
        }
        self.stop();
        self.rules.coverage
    }

    fn at(&self) -> Instant {
        self.start + self.now
    }

    fn add(&mut self, delay: Duration, happening: Happening) {
        self.serial += 1;
        self.agenda
            .insert((self.now + delay, self.serial), happening);
    }

    fn plan(&mut self) {
        for index in 0..self.config.watches.len() {
            self.add(Duration::ZERO, Happening::Beat(index));
        }
        self.add(Duration::ZERO, Happening::Look);
        let troubles = if self.is_calm {
            1
        } else {
            self.random.range(1, 25)
        };
        for _ in 0..troubles {
            let at = self.random.time(0, 1_000_000);
            let count = self.config.watches.len() as u64;
            let index = usize::try_from(self.random.range(0, count - 1)).expect("small");
            let happening = match self.random.range(0, 10) {
                _ if self.is_calm => Happening::Hang(index),
                0 | 1 => Happening::Crash(index),
                2 => Happening::HangAll,
                3 => Happening::Broker(false),
                4 => Happening::Pause(index, true),
                5 => Happening::Gap,
                6 => Happening::Reload,
                7 => Happening::Stall,
                _ => Happening::Hang(index),
            };
            self.add(at, happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Beat(index) => self.beat(index),
            Happening::Broker(answers) => {
                if !answers {
                    self.rules.count("broker away");
                    let back = self.random.time(1000, 60_000);
                    self.add(back, Happening::Broker(true));
                }
                self.counted_since.clone_from(&self.messages);
                let pending = self.random.time(0, 8000);
                self.broker_away = (!answers).then_some((self.now, pending));
            }
            Happening::Crash(index) => {
                let mut services = self.processes.iter();
                let found = services.find(|(_, it)| it.index == index && it.is_service);
                if let Some(id) = found.map(|(id, _)| *id) {
                    self.rules.count("crashes");
                    self.happen(Happening::ProcessEnds(id, 1));
                }
            }
            Happening::Gap => {
                // Whether the clock counts the time of a suspension depends on the system.
                if self.random.chance(50) {
                    self.rules.count("gaps that the clock counts");
                    self.now += self.random.time(20_000, 200_000);
                } else {
                    self.rules.count("gaps that the clock does not count");
                }
                self.watcher.handle_gap(self.at());
                self.rules.give_grace(self.now, |_| true);
            }
            Happening::Stall => {
                // The watch stands still, and the world does not: it has to notice by itself.
                self.rules.count("stalls");
                self.now += self.random.time(20_000, 200_000);
                self.rules.give_grace(self.now, |_| true);
            }
            Happening::Hang(index) => self.hang(index),
            Happening::HangAll => (0..self.is_hung.len()).for_each(|index| self.hang(index)),
            Happening::Heal(index) => self.heal(index),
            Happening::Look => self.look(),
            Happening::Pause(index, is_paused) => self.pause(index, is_paused),
            Happening::ProcessEnds(id, code) => {
                if let Some(process) = self.processes.remove(&id) {
                    if process.is_service {
                        let index = process.index;
                        self.is_hung[index] = true;
                        self.traffic[index].disconnect(&self.config.watches[index].sign);
                    }
                    let outcome = Outcome::Exited(code);
                    self.watcher
                        .handle_exit(id, &outcome, "written\n", self.at());
                }
            }
            Happening::Reload => self.reload(),
        }
    }

    /// One watch changes.
    fn reload(&mut self) {
        self.rules.count("reloads");
        let count = self.config.watches.len() as u64;
        let index = usize::try_from(self.random.range(0, count - 1)).expect("small");
        let changed = scenario::watch(&mut self.random, index, false);
        let mut config = self.config.clone();
        config.watches[index] = changed;
        self.config = config.clone();
        let acting = self.acting();
        self.rules.configure(&config, self.now);
        if acting == Some(scenario::name(index)) {
            self.rules.forget_action();
        }
        self.watcher.reload(config, self.at());
    }

    fn acting(&self) -> Option<String> {
        let status = self.watcher.status(self.at());
        let mut watches = status["watches"].as_array().expect("a list").iter();
        let acting = watches.find(|watch| watch["state"] == "acting");
        acting.map(|watch| watch["name"].as_str().expect("a text").to_owned())
    }

    /// A service hangs, and may come back by itself.
    fn hang(&mut self, index: usize) {
        self.is_hung[index] = true;
        if self.is_calm {
            self.hung_at[index] = Some(self.now);
            let own = SignConfig::Process(ProcessConfig::Own);
            if self.config.watches[index].sign == own {
                self.happen(Happening::Crash(index));
            }
        } else if self.random.chance(50) {
            let back = self.random.time(1000, 200_000);
            self.add(back, Happening::Heal(index));
        }
    }

    /// A service works again, as it was or on another connection.
    fn heal(&mut self, index: usize) {
        self.is_hung[index] = false;
        let traffic = &mut self.traffic[index];
        if self.random.chance(50) {
            traffic.disconnect(&self.config.watches[index].sign);
        }
        traffic.connect();
        traffic.finish();
    }

    /// A sign of life, if the service lives; and the next one.
    fn beat(&mut self, index: usize) {
        let after = self.config.watches[index].after;
        let period = self.random.time(100, 1600);
        self.add(period.min(after / 4), Happening::Beat(index));
        let is_hung = self.is_hung[index];
        self.traffic[index].beat(is_hung, self.now, &mut self.random);
        if self.is_hung[index] {
            return;
        }
        self.messages[index] += 1;
        if let SignConfig::Heartbeat { service, .. } = &self.config.watches[index].sign {
            let name = service.clone().expect("it has a name");
            let heartbeat = Heartbeat::from_frame(name.as_bytes()).expect("a name");
            self.watcher.handle_heartbeat(&heartbeat, self.at());
        }
    }

    fn look(&mut self) {
        let (generation, questions) = self.watcher.questions();
        let questions = questions.to_vec();
        let is_pending = self
            .broker_away
            .is_some_and(|(since, pending)| self.now < since + pending);
        if !questions.is_empty() && !is_pending {
            let answers = questions.iter().map(|question| Ok(self.answer(question)));
            let answers: Vec<Result<Value, String>> = answers.collect();
            let answers = self.broker_away.is_none().then_some(&answers[..]);
            if answers.is_some() {
                for traffic in &mut self.traffic {
                    traffic.seen = traffic.waiting(self.now);
                }
            }
            self.watcher.handle_look(generation, answers, self.at());
        }
        let interval = self.watcher.look_interval();
        self.add(interval, Happening::Look);
    }

    /// The answer of the broker to a question.
    fn answer(&self, question: &Value) -> Value {
        let Some(name) = question["proxy"].as_str() else {
            return self.status_of_broker();
        };
        let index = name[1..].parse::<usize>().expect("a number");
        if question["command"] == "count" {
            assert_eq!(
                (&question["side"], &question["topic"]),
                (&json!("frontend"), &json!(name))
            );
            // Counting begins with the first question, and anew on another connection.
            let since = self.counted_since[index];
            return json!({ "messages": self.messages[index] - since });
        }
        assert_eq!(question["command"], "peers");
        match self.config.watches[index].sign {
            SignConfig::Backlog(_) => self.traffic[index].queue(),
            _ => self.traffic[index].peers(),
        }
    }

    fn status_of_broker(&self) -> Value {
        let proxy = |index: usize| {
            let peers = u64::from(!self.is_hung[index]);
            let sockets = match self.config.watches[index].sign {
                SignConfig::Stuck { .. } | SignConfig::Backlog(_) => self.traffic[index].sockets(),
                _ => json!([
                    { "side": "frontend", "messages_received": self.messages[index] },
                    { "side": "backend", "peers": peers },
                ]),
            };
            json!({ "proxy": scenario::name(index), "paused": false, "sockets": sockets })
        };
        let proxies: Vec<Value> = (0..self.is_hung.len()).map(proxy).collect();
        json!({ "pid": 1, "uptime_seconds": self.now.as_secs_f64(), "proxies": proxies })
    }

    fn pause(&mut self, index: usize, is_paused: bool) {
        let name = scenario::name(index);
        self.rules.pause(&name, is_paused, self.now);
        if is_paused {
            self.watcher.pause(&name).expect("it exists");
            let back = self.random.time(1000, 200_000);
            self.add(back, Happening::Pause(index, false));
        } else {
            self.rules.count("resumed");
            self.watcher.resume(&name, self.at()).expect("it exists");
        }
    }

    /// Does what the watcher asks for.
    fn drain(&mut self) {
        let (mut begun, mut is_news) = (None, false);
        while let Some(output) = self.watcher.poll_output() {
            is_news |= matches!(output, Output::Event(_));
            match output {
                Output::CheckPidFile { path, watch } => {
                    let name = path.display().to_string();
                    let index = name[1..].parse::<usize>().expect("a number");
                    let lives = !self.is_hung[index];
                    self.watcher.handle_process(watch, lives, self.at());
                }
                Output::Event(event) => {
                    if event.kind == "late" {
                        self.check_justified(&event);
                    }
                    if event.kind == "acting" {
                        self.check_informed(&event.watch);
                        begun = Some(event.watch.clone());
                    }
                    self.rules.note(&event, self.now);
                }
                Output::Log(_, line) => {
                    if std::env::var_os("TRACE").is_some() {
                        println!("{:?} {line}", self.now);
                    }
                    if line.starts_with("this process has stood still") {
                        self.rules.give_grace(self.now, |_| true);
                    }
                }
                Output::Run {
                    command,
                    id,
                    is_service,
                    ..
                } => self.start_process(&command, id, is_service),
                Output::Signal(id, signal) => self.signal(id, signal),
            }
        }
        if is_news {
            let status = self.watcher.status(self.at());
            self.rules.check(&status, begun.as_deref());
        }
    }

    /// Nothing is done about a service that only a broker knows, while that does not answer.
    fn check_informed(&self, name: &str) {
        let index = name[1..].parse::<usize>().expect("a number");
        let watch = &self.config.watches[index];
        if let Some((since, _)) = self.broker_away.filter(|_| watch.sign.asks_broker())
            && watch.start.is_none()
        {
            let known = since + 2 * watch.interval();
            assert!(
                self.now <= known,
                "{name} acts, and the broker is away since {since:?}"
            );
        }
    }

    /// A worker without a request, and a queue that is short enough, never alarm.
    fn check_justified(&mut self, event: &Event) {
        let index = event.watch[1..].parse::<usize>().expect("a number");
        let WatchConfig { after, sign, .. } = &self.config.watches[index];
        let has_ended = event.reason.starts_with("the service");
        let traffic = &self.traffic[index];
        assert!(
            has_ended || traffic.justifies(sign, *after),
            "{} is late without a reason: {}, in truth {:?}",
            event.watch,
            event.reason,
            traffic.seen
        );
        match sign {
            _ if has_ended => {}
            SignConfig::Backlog(_) => self.rules.count("late for a backlog"),
            SignConfig::Stuck { .. } => self.rules.count("late for a request"),
            _ => {}
        }
    }

    fn start_process(&mut self, command: &Command, id: RunId, is_service: bool) {
        assert!(!self.is_dry, "a dry run starts {command}");
        let [word, name] = &command.0[..] else {
            panic!("two words");
        };
        let index = name[1..].parse::<usize>().expect("a number");
        let time = self.random.time(1, 900);
        if word == "absent" {
            let outcome = Outcome::NotStarted("no such file".to_owned());
            self.watcher.handle_exit(id, &outcome, "", self.at());
            return;
        }
        let process = Process {
            index,
            is_service,
            minds_term: word != "stubborn" && (self.is_calm || !self.random.chance(10)),
            term_at: None,
        };
        self.processes.insert(id, process);
        match &word[..] {
            "fix" => {
                self.heal(index);
                self.add(
                    time.min(Duration::from_millis(400)),
                    Happening::ProcessEnds(id, 0),
                );
            }
            "service" => {
                let is_well = self.is_calm || self.random.chance(70);
                self.is_hung[index] = !is_well;
                self.traffic[index].connect();
            }
            "fail" => self.add(time, Happening::ProcessEnds(id, 3)),
            "page" => self.add(time, Happening::ProcessEnds(id, 0)),
            _ => {}
        }
    }

    fn signal(&mut self, id: RunId, signal: Signal) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        match signal {
            Signal::Term => {
                assert_eq!(process.term_at, None, "TERM comes once");
                process.term_at = Some(self.now);
                if process.minds_term {
                    self.add(Duration::from_millis(20), Happening::ProcessEnds(id, 143));
                }
            }
            Signal::Kill => {
                assert!(process.term_at.is_some(), "KILL comes behind TERM");
                self.rules.count("killed");
                self.add(Duration::from_millis(1), Happening::ProcessEnds(id, 137));
            }
        }
    }

    /// In calm runs, a service that hangs is restarted in time.
    fn check_promptness(&mut self) {
        for index in 0..self.hung_at.len() {
            let Some(hung_at) = self.hung_at[index] else {
                continue;
            };
            let watch = &self.config.watches[index];
            let waits = matches!(
                watch.sign,
                SignConfig::Stuck { .. } | SignConfig::Backlog(_)
            );
            let since = match waits {
                true => self.traffic[index].trouble_since(&watch.sign, self.now),
                false => Some(hung_at),
            };
            let Some(since) = since else {
                continue;
            };
            let status = self.watcher.status(self.at());
            let seen = &status["watches"][index];
            if seen["actions"] != 0 {
                let what = if waits {
                    "acted in time for messages"
                } else {
                    "acted in time"
                };
                self.rules.count(what);
                self.hung_at[index] = None;
                continue;
            }
            let has_lived = watch.expect || since > watch.after;
            if !has_lived {
                self.hung_at[index] = None;
                continue;
            }
            let grace = watch.grace.max(since);
            // A message that waits is noticed at a look, and is old enough at another.
            let looks = watch.confirm + if waits { 4 } else { 2 };
            let confirmed = watch.interval() * looks;
            let latest = grace.max(since + watch.after) + confirmed + Duration::from_millis(500);
            assert!(
                self.now <= latest,
                "{}: no action at {latest:?}: {seen}",
                watch.name
            );
        }
    }

    /// Everything ends in time.
    fn stop(&mut self) {
        self.watcher.stop(self.at());
        self.drain();
        let deadline = self.now + Duration::from_secs(30);
        while !self.watcher.has_stopped() {
            assert!(
                self.now < deadline,
                "it does not stop: {:?}",
                self.processes
            );
            let timer = self.watcher.poll_timeout().map(|at| at - self.start);
            let first = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let timer = timer.map_or(deadline, |timer| timer.max(self.now));
            match first {
                Some(at) if at <= timer => {
                    self.now = self.now.max(at);
                    let (_, happening) = self.agenda.pop_first().expect("it is there");
                    if matches!(happening, Happening::ProcessEnds(..)) {
                        self.happen(happening);
                    }
                }
                _ => {
                    self.now = timer;
                    self.watcher.handle_timeout(self.at());
                }
            }
            self.drain();
        }
        let left = self.processes.values().filter(|it| it.is_service).count();
        assert_eq!(left, 0, "services remain");
    }
}
