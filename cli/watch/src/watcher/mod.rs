//! All watches: the one public state machine.
//!
//! The driver calls `handle_*` with what has happened and the time, takes [`Watcher::poll_output`]
//! until it is empty, and calls [`Watcher::handle_timeout`] at [`Watcher::poll_timeout`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::job::{Job, Purpose};
use self::watch::Watch;
use crate::config::{Config, ProcessConfig, SignConfig, WatchConfig};
use crate::limits::{GAP, STORM_MIN};
use crate::look::{self, Finding, Look};

mod heartbeat;
mod job;
mod output;
mod status;
mod watch;

pub use heartbeat::Heartbeat;
pub use output::{Event, Level, Outcome, Output, RunId, Signal, State, WatchId};

/// All watches of one process.
#[derive(Debug)]
pub struct Watcher {
    broker: Broker,
    config: Config,
    /// Commands for watches that have failed; they wait for each other.
    escalations: VecDeque<Job>,
    /// Counts configurations, so that answers to the questions of an older one are not used.
    generation: u64,
    is_dry: bool,
    is_stopping: bool,
    /// The action that runs; one at a time.
    job: Option<Job>,
    /// Services of watches that a reload has removed, until they have ended.
    leaving: Vec<job::Service>,
    next_id: u64,
    outputs: VecDeque<Output>,
    questions: Vec<Value>,
    /// The starts of the actions in the last minute.
    recent: VecDeque<Instant>,
    /// Since when there is a storm.
    storm: Option<Instant>,
    /// Heartbeats that no watch waits for.
    strangers: u64,
    watches: Vec<Watch>,
}

/// The broker, as far as the last look has shown it.
#[derive(Clone, Copy, Debug, Default)]
struct Broker {
    /// Whether it answered the last look.
    answers: bool,
    /// Whether it has ever answered.
    is_known: bool,
    /// Its process id, and its uptime in seconds.
    life: Option<(u64, f64)>,
}

/// The time in which [`crate::config::WatcherConfig::max_actions_per_minute`] counts.
const MINUTE: Duration = Duration::from_secs(60);

impl Watcher {
    /// Begins: every watch is new and has its grace, and services of the watches start. With
    /// `is_dry` no command runs and no process starts: the log says what would have been done.
    #[must_use]
    pub fn new(config: Config, is_dry: bool, now: Instant) -> Self {
        let mut watcher = Self {
            broker: Broker::default(),
            config: Config::default(),
            escalations: VecDeque::new(),
            generation: 0,
            is_dry,
            is_stopping: false,
            job: None,
            leaving: Vec::new(),
            next_id: 0,
            outputs: VecDeque::new(),
            questions: Vec::new(),
            recent: VecDeque::new(),
            storm: None,
            strangers: 0,
            watches: Vec::new(),
        };
        watcher.reload(config, now);
        watcher
    }

    /// Takes another configuration. A watch that stays as it was goes on; the others begin with
    /// their grace, and the services of removed ones end.
    pub fn reload(&mut self, config: Config, now: Instant) {
        self.generation += 1;
        self.questions = look::questions(&config);
        let mut before = std::mem::take(&mut self.watches);
        for wanted in &config.watches {
            let same = before.iter().position(|watch| watch.config == *wanted);
            match same {
                Some(index) => self.watches.push(before.remove(index)),
                None => {
                    self.next_id += 1;
                    let id = WatchId(self.next_id);
                    self.watches.push(Watch::new(wanted.clone(), id, now));
                }
            }
        }
        for watch in before {
            if let Some(mut service) = watch.service {
                service.stop(watch.config.stop_timeout, now, &mut self.outputs);
                self.leaving.push(service);
            }
        }
        self.config = config;
        for index in 0..self.watches.len() {
            if self.watches[index].must_start() {
                self.start_service(index);
            }
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The questions for the control of the broker, with a number for [`Self::handle_look`]; the
    /// answer to one about peers has all pages. The list is empty if no watch asks: the broker
    /// then gets [`Self::report`] alone.
    #[must_use]
    pub fn questions(&self) -> (u64, &[Value]) {
        match self.config.asks_broker() {
            true => (self.generation, &self.questions),
            false => (self.generation, &[]),
        }
    }

    /// The time between two looks at the broker.
    #[must_use]
    pub fn look_interval(&self) -> Duration {
        let asking = self
            .config
            .watches
            .iter()
            .filter(|it| it.sign.asks_broker());
        let intervals = asking.map(WatchConfig::interval);
        intervals.min().unwrap_or(crate::limits::CHECK_INTERVAL_MAX)
    }

    /// The answers to the questions with this number, or [`None`] if the broker does not answer.
    pub fn handle_look(
        &mut self,
        generation: u64,
        answers: Option<&[Result<Value, String>]>,
        now: Instant,
    ) {
        self.note_gap(now);
        if generation != self.generation || !self.config.asks_broker() {
            return;
        }
        let Some(answers) = answers else {
            self.broker.answers = false;
            for watch in self.watches.iter_mut().filter(|it| it.needs_broker()) {
                watch.become_blind("the broker does not answer", &mut self.outputs);
            }
            return;
        };
        let questions = std::mem::take(&mut self.questions);
        let look = Look {
            answers,
            now,
            questions: &questions,
        };
        let life = look.broker();
        let is_another = match (self.broker.life, life) {
            (Some((pid, uptime)), Some((new_pid, new_uptime))) => {
                pid != new_pid || new_uptime < uptime
            }
            _ => false,
        };
        let is_back = self.broker.is_known && (!self.broker.answers || is_another);
        self.broker = Broker {
            answers: true,
            is_known: true,
            life,
        };
        for index in 0..self.watches.len() {
            let watch = &mut self.watches[index];
            if !watch.config.sign.asks_broker() {
                continue;
            }
            if is_back && watch.needs_broker() {
                watch.evidence = look::Evidence::default();
                watch.give_grace(now);
            }
            let finding = watch.judge(&look);
            self.note(index, finding, now);
        }
        self.questions = questions;
    }

    /// Takes note of a finding.
    fn note(&mut self, index: usize, finding: Finding, now: Instant) {
        let watch = &mut self.watches[index];
        let was_down = watch.is_in_trouble();
        watch.note(finding, now, &mut self.outputs);
        if was_down && watch.state() == State::Up {
            self.give_dependents_grace(index, now);
        }
    }

    /// A service that depends on one that is back needs time too.
    fn give_dependents_grace(&mut self, index: usize, now: Instant) {
        let mut names = vec![self.watches[index].config.name.clone()];
        let mut next = 0;
        while let Some(name) = names.get(next).cloned() {
            next += 1;
            for watch in &mut self.watches {
                if watch.config.depends.contains(&name) && !names.contains(&watch.config.name) {
                    names.push(watch.config.name.clone());
                    if watch.state() != State::Up {
                        watch.give_grace(now);
                    }
                }
            }
        }
    }

    /// A heartbeat has arrived.
    pub fn handle_heartbeat(&mut self, heartbeat: &Heartbeat, now: Instant) {
        self.note_gap(now);
        let mut is_known = false;
        for index in 0..self.watches.len() {
            if heartbeat.is_for(&self.watches[index].config.sign) {
                is_known = true;
                self.note(index, Finding::Good(now), now);
            }
        }
        if !is_known {
            self.strangers += 1;
        }
    }

    /// Whether the process of a watch lives, in answer to [`Output::CheckPidFile`].
    pub fn handle_process(&mut self, id: WatchId, lives: bool, now: Instant) {
        self.note_gap(now);
        let Some(index) = self.watches.iter().position(|watch| watch.id == id) else {
            return;
        };
        let finding = match lives {
            true => Finding::Good(now),
            false => Finding::Bad("no process runs".to_owned()),
        };
        self.note(index, finding, now);
    }

    /// A process that [`Output::Run`] has started, or could not start, has ended; `output` is the
    /// end of what it wrote.
    pub fn handle_exit(&mut self, id: RunId, outcome: &Outcome, output: &str, now: Instant) {
        self.note_gap(now);
        if let Some(job) = &mut self.job
            && job.has_run(id)
        {
            job.handle_exit(outcome, output, &mut self.outputs);
            self.advance_job(now);
            return;
        }
        self.leaving.retain(|service| service.id != id);
        let probed = self
            .watches
            .iter()
            .position(|watch| watch.probe == Some(id));
        if let Some(index) = probed {
            self.watches[index].probe = None;
            let finding = match outcome {
                Outcome::Exited(0) => Finding::Good(now),
                outcome => Finding::Bad(format!("systemctl is-active {outcome}")),
            };
            self.note(index, finding, now);
            return;
        }
        let owner = self.watches.iter_mut().find(|watch| watch.has_run(id));
        if let Some(watch) = owner {
            watch.handle_end_of_service(outcome, output, now, &mut self.outputs);
            self.advance_job(now);
        }
    }

    /// This process, or the whole machine, has stood still: silence proves nothing.
    pub fn handle_gap(&mut self, now: Instant) {
        let sentence = "this process has stood still: every watch gets its grace again";
        self.log(Level::Warn, sentence.to_owned());
        for watch in &mut self.watches {
            watch.give_grace(now);
            watch.check_at = watch.check_at.max(now);
        }
    }

    /// Notices that this process has stood still, whatever is the first to happen behind that: a
    /// service may have ended meanwhile.
    fn note_gap(&mut self, now: Instant) {
        let due = self.watches.iter().map(|watch| watch.check_at).min();
        let is_late = due.is_some_and(|due| now.saturating_duration_since(due) > GAP);
        if is_late && !self.is_stopping {
            self.handle_gap(now);
        }
    }

    /// The time for [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let job = self.job.iter().filter_map(Job::poll_timeout);
        let checks = self.watches.iter().map(|watch| watch.check_at);
        let checks = checks.filter(|_| !self.is_stopping);
        let services = self
            .watches
            .iter()
            .filter_map(|watch| watch.service.as_ref());
        let services = services.filter_map(job::Service::poll_timeout);
        let leaving = self.leaving.iter().filter_map(job::Service::poll_timeout);
        job.chain(checks).chain(services).chain(leaving).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_gap(now);
        for service in &mut self.leaving {
            service.handle_timeout(now, &mut self.outputs);
        }
        for watch in &mut self.watches {
            if let Some(service) = &mut watch.service {
                service.handle_timeout(now, &mut self.outputs);
            }
        }
        if let Some(job) = &mut self.job {
            job.handle_timeout(now, &mut self.outputs);
        }
        self.advance_job(now);
        if self.is_stopping {
            return;
        }
        for index in 0..self.watches.len() {
            if self.watches[index].check_at <= now {
                self.look_for_process(index, now);
                self.watches[index].check(now, &mut self.outputs);
            }
        }
        self.act(now);
    }

    /// Asks for the process of a watch, if that is its sign of life.
    fn look_for_process(&mut self, index: usize, now: Instant) {
        let watch = &mut self.watches[index];
        let SignConfig::Process(process) = &watch.config.sign else {
            return;
        };
        match process {
            ProcessConfig::Own if watch.service.is_some() => {
                self.note(index, Finding::Good(now), now);
            }
            ProcessConfig::Own => {}
            ProcessConfig::PidFile(path) => self.outputs.push_back(Output::CheckPidFile {
                path: path.clone(),
                watch: watch.id,
            }),
            ProcessConfig::Unit(unit) => {
                if watch.probe.is_none() {
                    self.next_id += 1;
                    let id = RunId(self.next_id);
                    watch.probe = Some(id);
                    self.outputs.push_back(Output::probe(id, unit));
                }
            }
        }
    }

    /// Begins the actions that are due.
    fn act(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|at| now - *at >= MINUTE) {
            self.recent.pop_front();
        }
        self.note_storm(now);
        for index in 0..self.watches.len() {
            if !self.watches[index].wants_action(now) {
                continue;
            }
            if let Some(reason) = self.hold(index) {
                self.watches[index].held = Some(reason);
                continue;
            }
            if self.watches[index].has_used_up_actions(now) {
                self.give_up(index, now);
                continue;
            }
            if self.job.is_none() {
                self.recent.push_back(now);
                let watch = &mut self.watches[index];
                self.job = Some(watch.begin_action(now, &mut self.outputs));
                self.advance_job(now);
            }
        }
        if self.job.is_none() && !self.escalations.is_empty() {
            self.job = self.escalations.pop_front();
            self.advance_job(now);
        }
    }

    /// Why the action of a watch that is due has to wait, although its own times allow it.
    fn hold(&self, index: usize) -> Option<String> {
        let watch = &self.watches[index];
        if let Some(cause) = self.cause(watch) {
            return Some(format!("{cause} is the cause"));
        }
        if self.storm.is_some() {
            return Some("too many watches are down at once".to_owned());
        }
        if let Some(job) = &self.job {
            return Some(format!("waits for the action of {}", job.name));
        }
        let most = self.config.watcher.max_actions_per_minute as usize;
        (self.recent.len() >= most).then(|| format!("{most} actions in this minute"))
    }

    /// The watch that explains the trouble of this one.
    fn cause(&self, watch: &Watch) -> Option<&str> {
        let depends = |other: &&Watch| watch.config.depends.contains(&other.config.name);
        let mut causes = self.watches.iter().filter(depends);
        let found = causes.find(|other| other.is_in_trouble() || self.cause(other).is_some());
        found.map(|other| &other.config.name[..])
    }

    /// More than half of all watches are down at once: their cause is elsewhere.
    fn note_storm(&mut self, now: Instant) {
        let own = self
            .watches
            .iter()
            .filter(|it| it.counts() && self.cause(it).is_none());
        let (all, down) = own.fold((0_usize, 0_usize), |(all, down), watch| {
            (all + 1, down + usize::from(watch.is_in_trouble()))
        });
        let percent = self.config.watcher.storm_percent as usize;
        let is_storm = down >= STORM_MIN && down * 100 > all * percent;
        match (is_storm, self.storm) {
            (true, None) => {
                self.storm = Some(now);
                let reason =
                    format!("{down} of {all} watches are down at once: no action is taken");
                self.log(Level::Error, reason.clone());
                let webhook = self.config.watcher.webhook.clone();
                self.outputs
                    .push_back(Output::Event(Event::storm(reason, webhook)));
            }
            (false, Some(_)) => {
                self.storm = None;
                self.log(
                    Level::Info,
                    "no storm any more: actions are taken again".to_owned(),
                );
            }
            _ => {}
        }
    }

    /// A watch has failed: no more actions, one error, and its command for that.
    fn give_up(&mut self, index: usize, now: Instant) {
        let watch = &mut self.watches[index];
        watch.fail(now, &mut self.outputs);
        if let Some(command) = watch.config.escalate.clone() {
            let job = Job::new(watch, Purpose::Escalate, vec![job::Step::Run(command)], now);
            self.escalations.push_back(job);
        }
    }

    fn start_service(&mut self, index: usize) {
        self.next_id += 1;
        let (id, is_dry) = (RunId(self.next_id), self.is_dry);
        self.watches[index].start_service(id, is_dry, &mut self.outputs);
    }

    /// Goes on with the action that runs.
    fn advance_job(&mut self, now: Instant) {
        while let Some(mut job) = self.job.take() {
            let index = self.watches.iter().position(|watch| watch.id == job.watch);
            let step = job.next_step();
            match (step, index) {
                (None, _) => {
                    let watch = index.map(|index| &mut self.watches[index]);
                    job.end(watch, now, &mut self.outputs);
                    continue;
                }
                (Some(job::Step::Stop), Some(index)) => {
                    let watch = &mut self.watches[index];
                    if !watch.is_stopped(self.is_dry, now, &mut self.outputs) {
                        self.job = Some(job);
                        return;
                    }
                    job.done();
                }
                (Some(job::Step::Start), Some(index)) => {
                    if !self.is_stopping {
                        self.start_service(index);
                    }
                    job.done();
                }
                (Some(job::Step::Run(_)), _) if self.is_stopping => job.done(),
                (Some(job::Step::Run(command)), _) => {
                    if !job.is_running() {
                        self.next_id += 1;
                        let id = RunId(self.next_id);
                        job.run(id, command, self.is_dry, now, &mut self.outputs);
                    }
                    if job.is_running() {
                        self.job = Some(job);
                        return;
                    }
                }
                (Some(_), None) => job.done(),
            }
            self.job = Some(job);
        }
    }

    /// The next output; [`None`] when all are taken.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Ends all services and the action that runs; [`Self::has_stopped`] is true once they have
    /// ended.
    pub fn stop(&mut self, now: Instant) {
        self.is_stopping = true;
        self.escalations.clear();
        for watch in &mut self.watches {
            let timeout = watch.config.stop_timeout;
            if let Some(service) = &mut watch.service {
                service.stop(timeout, now, &mut self.outputs);
            }
        }
        if let Some(job) = &mut self.job {
            job.interrupt(now, &mut self.outputs);
        }
        self.advance_job(now);
    }

    /// Whether no process of a watch runs.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        let runs = |watch: &Watch| watch.service.is_some();
        self.job.is_none() && self.leaving.is_empty() && !self.watches.iter().any(runs)
    }

    /// Pauses a watch by its name: it takes no action and does not go down.
    ///
    /// # Errors
    /// No watch has this name.
    pub fn pause(&mut self, name: &str) -> Result<(), String> {
        let index = self.find(name)?;
        self.watches[index].pause(&mut self.outputs);
        Ok(())
    }

    /// Resumes a watch that is paused or has failed, with its grace.
    ///
    /// # Errors
    /// No watch has this name.
    pub fn resume(&mut self, name: &str, now: Instant) -> Result<(), String> {
        let index = self.find(name)?;
        self.watches[index].resume(now, &mut self.outputs);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize, String> {
        let found = self.watches.iter().position(|it| it.config.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.watches.iter().map(|it| &it.config.name[..]).collect();
            let (shown, hint) = (zmtp::show(name), broker::config::hint(name, &names));
            format!("no watch is called \"{shown}\": {hint}")
        })
    }

    fn log(&mut self, level: Level, line: String) {
        self.outputs.push_back(Output::Log(level, line));
    }
}
