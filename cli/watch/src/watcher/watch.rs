//! One watch: its state, and the times that decide about it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::job::{Job, Purpose, Service, Step, written};
use super::output::{Event, Level, Outcome, Output, RunId, State, WatchId};
use crate::config::{Command, SignConfig, WatchConfig};
use crate::look::{Evidence, Finding, Look};

/// A watch.
#[derive(Debug)]
pub(super) struct Watch {
    /// Actions since the service was healthy.
    attempts: u32,
    /// Why nothing can be said about the service.
    blind: Option<String>,
    /// The time of the next check.
    pub(super) check_at: Instant,
    pub(super) config: WatchConfig,
    /// Why the service of this watch has ended by itself.
    ended: Option<String>,
    /// What is missing.
    detail: String,
    pub(super) evidence: Evidence,
    /// Until when silence does not count.
    pub(super) grace_until: Instant,
    /// Whether there was ever a sign of life.
    has_lived: bool,
    /// Why the action that is due waits.
    pub(super) held: Option<String>,
    /// The starts of actions within `max_window`.
    history: VecDeque<Instant>,
    pub(super) id: WatchId,
    /// Whether a command has paused it.
    is_paused: bool,
    /// Whether its proxy is paused.
    is_proxy_paused: bool,
    pub(super) last_action: Option<(Instant, String)>,
    /// The last sign of life, or the time from which on silence counts.
    pub(super) lived_at: Instant,
    /// The last look at the broker that was answered, if this watch needs one.
    looked_at: Option<Instant>,
    /// Failed checks in a row.
    misses: u32,
    /// No action before this time.
    pub(super) next_action_at: Option<Instant>,
    /// The question to systemd that is not answered yet.
    pub(super) probe: Option<RunId>,
    pub(super) reason: String,
    pub(super) service: Option<Service>,
    pub(super) since: Instant,
    pub(super) state: State,
    pub(super) total_actions: u64,
}

impl Watch {
    pub(super) fn new(config: WatchConfig, id: WatchId, now: Instant) -> Self {
        Self {
            attempts: 0,
            blind: None,
            check_at: now,
            detail: String::new(),
            ended: None,
            evidence: Evidence::default(),
            grace_until: now + config.grace,
            has_lived: false,
            held: None,
            history: VecDeque::new(),
            id,
            is_paused: false,
            is_proxy_paused: false,
            last_action: None,
            lived_at: now,
            looked_at: None,
            misses: 0,
            next_action_at: None,
            probe: None,
            reason: "no sign of life yet".to_owned(),
            service: None,
            since: now,
            state: State::New,
            total_actions: 0,
            config,
        }
    }

    /// The state that others see.
    pub(super) fn state(&self) -> State {
        match self.state {
            State::Acting => State::Acting,
            _ if self.is_paused || self.is_proxy_paused => State::Paused,
            state => state,
        }
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    pub(super) fn has_run(&self, id: RunId) -> bool {
        self.service
            .as_ref()
            .is_some_and(|service| service.id == id)
    }

    /// Whether it waits for answers of the broker, and is blind without them.
    pub(super) fn needs_broker(&self) -> bool {
        self.config.sign.asks_broker() && self.config.sign != SignConfig::Broker
    }

    /// Whether its trouble explains that of others.
    pub(super) fn is_in_trouble(&self) -> bool {
        matches!(
            self.state(),
            State::Late | State::Down | State::Acting | State::Failed
        )
    }

    /// Whether it counts among all watches when a storm is looked for.
    pub(super) fn counts(&self) -> bool {
        self.state() != State::Paused && self.blind.is_none()
    }

    /// Whether its service is to be started.
    pub(super) fn must_start(&self) -> bool {
        self.config.start.is_some() && self.service.is_none() && self.state == State::New
    }

    /// From now on silence counts only after the grace.
    pub(super) fn give_grace(&mut self, now: Instant) {
        self.grace_until = self.grace_until.max(now + self.config.grace);
        self.misses = 0;
    }

    pub(super) fn is_in_grace(&self, now: Instant) -> bool {
        now < self.grace_until
    }

    pub(super) fn judge(&mut self, look: &Look<'_>) -> Finding {
        self.evidence.judge(&self.config.sign, look)
    }

    /// Nothing can be said for now.
    pub(super) fn become_blind(&mut self, reason: &str, out: &mut VecDeque<Output>) {
        if self.blind.as_deref() != Some(reason) {
            let line = format!("{}: cannot be judged: {reason}", self.config.name);
            out.push_back(Output::Log(Level::Warn, line));
            self.blind = Some(reason.to_owned());
        }
    }

    /// Takes note of a finding.
    pub(super) fn note(&mut self, finding: Finding, now: Instant, out: &mut VecDeque<Output>) {
        match finding {
            Finding::Blind(reason) => return self.become_blind(&reason, out),
            Finding::Paused => {
                self.blind = None;
                if !self.is_proxy_paused {
                    self.is_proxy_paused = true;
                    self.event("paused", "its proxy is paused".to_owned(), out);
                }
                return;
            }
            _ => {}
        }
        self.looked_at = Some(now);
        if self.blind.take().is_some() {
            self.give_grace(now);
        }
        if std::mem::take(&mut self.is_proxy_paused) {
            self.give_grace(now);
            self.event("resumed", "its proxy forwards again".to_owned(), out);
        }
        match finding {
            Finding::Good(at) => self.live(at, now, out),
            Finding::Since(at, reason) => {
                self.live(at, now, out);
                self.detail = reason;
            }
            Finding::Bad(reason) => self.detail = reason,
            Finding::Blind(_) | Finding::Paused => {}
        }
    }

    /// A sign of life at this time.
    fn live(&mut self, at: Instant, now: Instant, out: &mut VecDeque<Output>) {
        self.has_lived = true;
        self.detail.clear();
        // A sign can be older than the last one: a worker that holds a request has lived until it
        // got that.
        self.lived_at = at;
        if self.ended.is_some() {
            return;
        }
        let is_new = match self.state {
            State::New => true,
            State::Down | State::Failed => at > self.since,
            State::Up | State::Late | State::Acting | State::Paused => false,
        };
        if is_new && now.saturating_duration_since(at) <= self.config.after {
            self.misses = 0;
            self.enter(State::Up, "it lives", now, out);
        }
    }

    /// Whether the last look is young enough. A broker that hangs makes no service silent.
    fn is_informed(&self, now: Instant) -> bool {
        let is_young =
            |at: Instant| now.saturating_duration_since(at) <= 2 * self.config.interval();
        !self.needs_broker() || self.looked_at.is_some_and(is_young)
    }

    /// Whether there was no sign of life for too long.
    fn is_missing(&self, now: Instant) -> bool {
        let is_expected = self.has_lived || self.config.expect;
        // What a broker has seen since its last answer is not known.
        let known = self.looked_at.filter(|_| self.needs_broker());
        let silence = known
            .unwrap_or(now)
            .saturating_duration_since(self.lived_at);
        self.ended.is_some() || is_expected && silence > self.config.after
    }

    /// The check that is due.
    pub(super) fn check(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        self.check_at = now + self.config.interval();
        let is_settled = self.state == State::Up
            && now.saturating_duration_since(self.since) >= self.config.backoff.reset_after;
        if is_settled {
            self.attempts = 0;
        }
        if self.state() == State::Paused || self.state == State::Acting || self.blind.is_some() {
            return;
        }
        if !self.is_missing(now) {
            self.misses = 0;
            if self.state == State::Late {
                self.enter(State::Up, "it lives", now, out);
            }
            return;
        }
        if self.is_in_grace(now) || self.state == State::Failed || !self.is_informed(now) {
            return;
        }
        self.misses = match self.ended {
            // The end of a process needs no second look.
            Some(_) => self.config.confirm,
            None => self.misses.saturating_add(1).min(self.config.confirm),
        };
        if matches!(self.state, State::New | State::Up) {
            let reason = self.ended.clone().unwrap_or_else(|| {
                let silence = now.saturating_duration_since(self.lived_at);
                let sign = self.config.sign.trouble();
                let colon = if self.detail.is_empty() { "" } else { ": " };
                let detail = &self.detail;
                format!("{sign} for {:.1} s{colon}{detail}", silence.as_secs_f64())
            });
            self.enter(State::Late, &reason, now, out);
        }
        if self.state == State::Late && self.misses >= self.config.confirm {
            let reason = self.reason.clone();
            self.enter(State::Down, &reason, now, out);
        }
    }

    /// Whether its own times ask for an action.
    pub(super) fn wants_action(&self, now: Instant) -> bool {
        self.state() == State::Down
            && self.blind.is_none()
            && self.is_informed(now)
            && self.misses >= self.config.confirm
            && self.is_missing(now)
            && !self.is_in_grace(now)
            && !(self.config.actions.is_empty() && self.config.start.is_none())
            && self.next_action_at.is_none_or(|at| at <= now)
    }

    /// Whether there were as many actions as allowed.
    pub(super) fn has_used_up_actions(&mut self, now: Instant) -> bool {
        let window = self.config.max_window;
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= window;
        while self.history.front().is_some_and(is_old) {
            self.history.pop_front();
        }
        self.history.len() >= self.config.max_actions as usize
    }

    /// The facts about the watch, for a command.
    pub(super) fn facts(&self, now: Instant) -> Vec<(&'static str, String)> {
        let seconds = now.saturating_duration_since(self.lived_at).as_secs();
        vec![
            ("ZMQD_WATCH", self.config.name.clone()),
            ("ZMQD_SIGN", self.config.sign.name().to_owned()),
            ("ZMQD_STATE", self.state.name().to_owned()),
            ("ZMQD_REASON", self.reason.clone()),
            ("ZMQD_SINCE_SECONDS", seconds.to_string()),
            ("ZMQD_ACTION", self.attempts.to_string()),
        ]
    }

    /// Begins the action: the service stops, the commands run, the service starts.
    pub(super) fn begin_action(&mut self, now: Instant, out: &mut VecDeque<Output>) -> Job {
        self.held = None;
        self.attempts = self.attempts.saturating_add(1);
        self.total_actions += 1;
        self.history.push_back(now);
        self.next_action_at = Some(now + self.config.backoff.delay(self.attempts));
        let is_owned = self.config.start.is_some();
        let mut steps = Vec::new();
        steps.extend(is_owned.then_some(Step::Stop));
        steps.extend(self.config.actions.iter().cloned().map(Step::Run));
        steps.extend(is_owned.then_some(Step::Start));
        let job = Job::new(self, Purpose::Restart, steps, now);
        let reason = self.reason.clone();
        self.enter(State::Acting, &reason, now, out);
        job
    }

    /// The action is over: grace, and then silence counts again.
    pub(super) fn end_action(&mut self, outcome: &str, now: Instant, out: &mut VecDeque<Output>) {
        self.last_action = Some((now, outcome.to_owned()));
        self.misses = 0;
        self.has_lived = true;
        self.state = State::Down;
        self.since = now;
        self.grace_until = self.grace_until.max(now + self.config.grace);
        self.reason = format!("action {}: {outcome}", self.attempts);
        let reason = self.reason.clone();
        self.event("acted", reason, out);
    }

    /// Too many actions.
    pub(super) fn fail(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        let (count, window) = (self.config.max_actions, self.config.max_window.as_secs());
        let actions = if count == 1 { "action" } else { "actions" };
        let reason = format!(
            "{count} {actions} within {window} s did not help; zmqd watch resume {} tries again",
            self.config.name
        );
        self.enter(State::Failed, &reason, now, out);
    }

    pub(super) fn pause(&mut self, out: &mut VecDeque<Output>) {
        if !self.is_paused {
            self.is_paused = true;
            self.event("paused", "by a command".to_owned(), out);
        }
    }

    pub(super) fn resume(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        if !self.is_paused && self.state != State::Failed {
            return;
        }
        self.is_paused = false;
        if self.state == State::Failed {
            self.history.clear();
            self.attempts = 0;
            self.next_action_at = None;
            self.state = State::Down;
            self.since = now;
        }
        self.give_grace(now);
        self.event("resumed", "by a command".to_owned(), out);
    }

    /// Starts the service.
    pub(super) fn start_service(&mut self, id: RunId, is_dry: bool, out: &mut VecDeque<Output>) {
        let Some(command) = self.config.start.clone() else {
            return;
        };
        let name = self.config.name.clone();
        self.ended = None;
        if is_dry {
            let line = format!("{name}: would start {command}");
            out.push_back(Output::Log(Level::Warn, line));
            return;
        }
        let line = format!("{name}: starts {command}");
        out.push_back(Output::Log(Level::Info, line));
        self.service = Some(Service::new(id, name.clone()));
        out.push_back(Output::Run {
            command,
            environment: vec![("ZMQD_WATCH", name)],
            id,
            is_service: true,
        });
    }

    /// Ends the service for an action; returns whether it has ended.
    pub(super) fn is_stopped(
        &mut self,
        is_dry: bool,
        now: Instant,
        out: &mut VecDeque<Output>,
    ) -> bool {
        if is_dry {
            let line = format!("{}: would stop the service", self.config.name);
            out.push_back(Output::Log(Level::Warn, line));
            return true;
        }
        match &mut self.service {
            None => true,
            Some(service) if service.is_held() => {
                self.service = None;
                true
            }
            Some(service) => {
                service.stop(self.config.stop_timeout, now, out);
                false
            }
        }
    }

    /// The service has ended.
    pub(super) fn handle_end_of_service(
        &mut self,
        outcome: &Outcome,
        output: &str,
        now: Instant,
        out: &mut VecDeque<Output>,
    ) {
        let Some(service) = self.service.take() else {
            return;
        };
        if service.is_ending() {
            return;
        }
        let name = &self.config.name;
        let line = format!("{name}: the service {outcome}{}", written(output));
        out.push_back(Output::Log(Level::Warn, line));
        self.ended = Some(format!("the service {outcome}"));
        self.check_at = now;
    }

    /// Enters a state.
    fn enter(&mut self, state: State, reason: &str, now: Instant, out: &mut VecDeque<Output>) {
        let before = self.state;
        self.held = None;
        self.state = state;
        self.since = now;
        reason.clone_into(&mut self.reason);
        let is_back = matches!(before, State::Down | State::Failed) && state == State::Up;
        let kind = if is_back { "recovered" } else { state.name() };
        self.event(kind, reason.to_owned(), out);
    }

    /// Reports an event, and logs it.
    fn event(&self, kind: &'static str, reason: String, out: &mut VecDeque<Output>) {
        let level = match kind {
            "failed" => Level::Error,
            "acting" | "down" | "late" => Level::Warn,
            _ => Level::Info,
        };
        let line = format!("{}: {kind}: {reason}", self.config.name);
        out.push_back(Output::Log(level, line));
        out.push_back(Output::Event(Event {
            kind,
            reason,
            state: Some(self.state()),
            watch: self.config.name.clone(),
            webhook: self.config.webhook.clone(),
        }));
    }

    /// The commands of the action, for a person.
    pub(super) fn commands(&self) -> Vec<&Command> {
        let start = self.config.start.iter();
        self.config.actions.iter().chain(start).collect()
    }

    /// The time until silence counts.
    pub(super) fn grace_left(&self, now: Instant) -> Duration {
        self.grace_until.saturating_duration_since(now)
    }
}
