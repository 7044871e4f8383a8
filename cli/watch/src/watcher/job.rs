//! Actions: commands one after the other, and services that are stopped and started.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::output::{Level, Outcome, Output, RunId, Signal, WatchId};
use super::watch::Watch;
use crate::config::Command;
use crate::limits::{END_DELAY, KILL_DELAY};

/// Why commands run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A watch has failed.
    Escalate,
    /// A service is restarted.
    Restart,
}

/// A step of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Runs a command to its end.
    Run(Command),
    /// Starts the service of the watch.
    Start,
    /// Ends the service of the watch.
    Stop,
}

/// An action.
#[derive(Debug)]
pub(super) struct Job {
    environment: Vec<(&'static str, String)>,
    failure: Option<String>,
    /// The name of the watch.
    pub(super) name: String,
    purpose: Purpose,
    run: Option<Run>,
    steps: VecDeque<Step>,
    timeout: Duration,
    pub(super) watch: WatchId,
}

/// The command of an action that runs.
#[derive(Debug)]
struct Run {
    command: Command,
    end: End,
    id: RunId,
}

/// The stage of the end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It has no deadline.
    Open,
    /// It gets TERM at this time.
    Term(Instant),
    /// It gets KILL at this time.
    Kill(Instant),
    /// It has got KILL, and is given up at this time.
    Held(Instant),
    /// It was given up.
    GivenUp,
}

/// A service that this process has started.
#[derive(Debug)]
pub(super) struct Service {
    end: End,
    pub(super) id: RunId,
    name: String,
}

impl End {
    fn at(self) -> Option<Instant> {
        match self {
            Self::Open | Self::GivenUp => None,
            Self::Term(at) | Self::Kill(at) | Self::Held(at) => Some(at),
        }
    }

    /// The next stage, if its time has come, with the signal to send.
    fn next(self, now: Instant) -> Option<(Self, Option<Signal>)> {
        if self.at().is_none_or(|at| at > now) {
            return None;
        }
        Some(match self {
            Self::Term(_) => (Self::Kill(now + KILL_DELAY), Some(Signal::Term)),
            Self::Kill(_) => (Self::Held(now + END_DELAY), Some(Signal::Kill)),
            _ => (Self::GivenUp, None),
        })
    }
}

impl Service {
    pub(super) fn new(id: RunId, name: String) -> Self {
        Self {
            end: End::Open,
            id,
            name,
        }
    }

    /// Ends it by TERM, and by KILL after `timeout`.
    pub(super) fn stop(&mut self, timeout: Duration, now: Instant, out: &mut VecDeque<Output>) {
        if self.end == End::Open {
            self.end = End::Kill(now + timeout);
            out.push_back(Output::Signal(self.id, Signal::Term));
        }
    }

    /// Whether it was told to end.
    pub(super) fn is_ending(&self) -> bool {
        self.end != End::Open
    }

    /// Whether it does not end.
    pub(super) fn is_held(&self) -> bool {
        self.end == End::GivenUp
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.end.at()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        let Some((end, signal)) = self.end.next(now) else {
            return;
        };
        self.end = end;
        match signal {
            Some(signal) => out.push_back(Output::Signal(self.id, signal)),
            None => {
                let line = format!("{}: the service {}", self.name, Outcome::Held);
                out.push_back(Output::Log(Level::Error, line));
            }
        }
    }
}

impl Job {
    pub(super) fn new(watch: &Watch, purpose: Purpose, steps: Vec<Step>, now: Instant) -> Self {
        Self {
            environment: watch.facts(now),
            failure: None,
            name: watch.config.name.clone(),
            purpose,
            run: None,
            steps: steps.into(),
            timeout: watch.config.action_timeout,
            watch: watch.id,
        }
    }

    pub(super) fn has_run(&self, id: RunId) -> bool {
        self.run.as_ref().is_some_and(|run| run.id == id)
    }

    pub(super) fn is_running(&self) -> bool {
        self.run.is_some()
    }

    pub(super) fn next_step(&self) -> Option<Step> {
        self.steps.front().cloned()
    }

    /// The first step is over.
    pub(super) fn done(&mut self) {
        self.steps.pop_front();
    }

    /// Runs a command.
    pub(super) fn run(
        &mut self,
        id: RunId,
        command: Command,
        is_dry: bool,
        now: Instant,
        out: &mut VecDeque<Output>,
    ) {
        if is_dry {
            let line = format!("{}: would run {command}", self.name);
            out.push_back(Output::Log(Level::Warn, line));
            self.done();
            return;
        }
        let line = format!("{}: runs {command}", self.name);
        out.push_back(Output::Log(Level::Info, line));
        self.run = Some(Run {
            command: command.clone(),
            end: End::Term(now + self.timeout),
            id,
        });
        out.push_back(Output::Run {
            command,
            environment: self.environment.clone(),
            id,
            is_service: false,
        });
    }

    /// The command has ended.
    pub(super) fn handle_exit(
        &mut self,
        outcome: &Outcome,
        output: &str,
        out: &mut VecDeque<Output>,
    ) {
        let Some(run) = self.run.take() else {
            return;
        };
        self.done();
        let (name, command) = (&self.name, &run.command);
        let has_failed = *outcome != Outcome::Exited(0) || run.end.is_late();
        let late = if run.end.is_late() {
            " after its action_timeout"
        } else {
            ""
        };
        let line = format!("{name}: {command} {outcome}{late}{}", written(output));
        let level = if has_failed { Level::Warn } else { Level::Info };
        out.push_back(Output::Log(level, line));
        if has_failed {
            self.failure = Some(format!("{command} {outcome}{late}"));
            // A service that was stopped for the action is started all the same.
            self.steps.retain(|step| *step == Step::Start);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.run.as_ref().and_then(|run| run.end.at())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        let Some(run) = &mut self.run else {
            return;
        };
        let Some((end, signal)) = run.end.next(now) else {
            return;
        };
        run.end = end;
        match signal {
            Some(signal) => out.push_back(Output::Signal(run.id, signal)),
            None => self.handle_exit(&Outcome::Held, "", out),
        }
    }

    /// Ends the command that runs, because this process ends.
    pub(super) fn interrupt(&mut self, now: Instant, out: &mut VecDeque<Output>) {
        if let Some(run) = &mut self.run
            && matches!(run.end, End::Term(_))
        {
            run.end = End::Term(now);
        }
        self.steps.retain(|step| matches!(step, Step::Run(_)));
        self.handle_timeout(now, out);
    }

    /// All steps are over.
    pub(super) fn end(self, watch: Option<&mut Watch>, now: Instant, out: &mut VecDeque<Output>) {
        let outcome = self.failure.unwrap_or_else(|| "done".to_owned());
        if let (Purpose::Restart, Some(watch)) = (self.purpose, watch) {
            watch.end_action(&outcome, now, out);
        }
    }
}

impl End {
    /// Whether the deadline has passed.
    fn is_late(self) -> bool {
        !matches!(self, Self::Open | Self::Term(_))
    }
}

/// The end of what a command wrote, for the log.
pub(super) fn written(output: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("; it wrote: {}", zmtp::show(&lines.join(" | ")).whole())
}
