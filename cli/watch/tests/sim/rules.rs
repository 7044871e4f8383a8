//! What a watch must and must not do, decided from events alone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;
use watch::Event;
use watch::config::{Config, WatchConfig};

use crate::Coverage;

/// One watch, as its events show it.
#[derive(Debug)]
struct Seen {
    actions: VecDeque<Duration>,
    attempts: u32,
    config: WatchConfig,
    /// No action before this time.
    grace_until: Duration,
    has_failed: bool,
    is_paused: bool,
    last_action: Option<Duration>,
    up_since: Option<Duration>,
}

/// All watches.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    acting: Option<String>,
    actions: VecDeque<Duration>,
    pub(crate) coverage: Coverage,
    config: Config,
    seen: BTreeMap<String, Seen>,
}

impl Rules {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.coverage.entry(what).or_default() += 1;
    }

    /// A configuration comes; watches that stay keep what they are.
    pub(crate) fn configure(&mut self, config: &Config, now: Duration) {
        self.config = config.clone();
        let mut before = std::mem::take(&mut self.seen);
        for watch in &config.watches {
            let same = before
                .remove(&watch.name)
                .filter(|seen| seen.config == *watch);
            let fresh = || Seen {
                actions: VecDeque::new(),
                attempts: 0,
                config: watch.clone(),
                grace_until: now + watch.grace,
                has_failed: false,
                is_paused: false,
                last_action: None,
                up_since: None,
            };
            self.seen
                .insert(watch.name.clone(), same.unwrap_or_else(fresh));
        }
    }

    /// These watches have their grace from now on.
    pub(crate) fn give_grace(&mut self, now: Duration, is_meant: impl Fn(&WatchConfig) -> bool) {
        for seen in self.seen.values_mut().filter(|seen| is_meant(&seen.config)) {
            seen.grace_until = seen.grace_until.max(now + seen.config.grace);
        }
    }

    pub(crate) fn pause(&mut self, name: &str, is_paused: bool, now: Duration) {
        let Some(seen) = self.seen.get_mut(name) else {
            return;
        };
        if !is_paused && (seen.is_paused || seen.has_failed) {
            seen.grace_until = seen.grace_until.max(now + seen.config.grace);
            if seen.has_failed {
                seen.attempts = 0;
                seen.actions.clear();
                seen.last_action = None;
            }
            seen.has_failed = false;
        }
        seen.is_paused = is_paused;
    }

    /// An event of a watch at this time.
    pub(crate) fn note(&mut self, event: &Event, now: Duration) {
        if event.kind == "storm" {
            self.count("storm");
            return;
        }
        if event.kind == "acting" {
            self.note_action(&event.watch, now);
        }
        let Some(seen) = self.seen.get_mut(&event.watch) else {
            return;
        };
        let name = &event.watch;
        match event.kind {
            "acted" => {
                assert_eq!(self.acting.take().as_ref(), Some(name));
                seen.grace_until = seen.grace_until.max(now + seen.config.grace);
            }
            "failed" => {
                assert!(!seen.has_failed, "{name} fails twice");
                seen.has_failed = true;
            }
            "recovered" if seen.has_failed => {
                seen.has_failed = false;
                *self.coverage.entry("recovered from failed").or_default() += 1;
            }
            _ => {}
        }
        match event.kind {
            // Long enough up, the next action is a first one.
            "recovered" | "up" => seen.up_since = seen.up_since.or(Some(now)),
            "down" | "late" => {
                let healthy = seen.up_since.take().map(|since| now.saturating_sub(since));
                if healthy.is_some_and(|time| time >= seen.config.backoff.reset_after) {
                    seen.attempts = 0;
                }
            }
            _ => {}
        }
        self.count(event.kind);
    }

    /// A watch begins an action.
    fn note_action(&mut self, name: &str, now: Duration) {
        let Some(seen) = self.seen.get_mut(name) else {
            return;
        };
        assert!(!seen.is_paused, "{name} acts while it is paused");
        assert!(!seen.has_failed, "{name} acts although it has failed");
        assert!(now >= seen.grace_until, "{name} acts in its grace");
        if seen.config.grace > Duration::ZERO {
            *self.coverage.entry("actions with a grace").or_default() += 1;
        }
        if let Some(last) = seen.last_action {
            let delay = seen.config.backoff.delay(seen.attempts);
            assert!(
                seen.attempts == 0 || now >= last + delay,
                "{name} acts at {now:?} within the back-off of {delay:?} since {last:?}"
            );
            *self.coverage.entry("second actions").or_default() += 1;
        }
        seen.up_since = None;
        seen.attempts += 1;
        seen.last_action = Some(now);
        seen.actions.push_back(now);
        let window = seen.config.max_window;
        seen.actions.retain(|at| now - *at < window);
        let count = seen.actions.len();
        assert!(
            count <= seen.config.max_actions as usize,
            "{name}: {count} actions"
        );
        assert_eq!(self.acting, None, "{name} acts beside another");
        self.acting = Some(name.to_owned());
        self.actions.push_back(now);
        self.actions
            .retain(|at| now - *at < Duration::from_secs(60));
        let most = self.config.watcher.max_actions_per_minute as usize;
        assert!(self.actions.len() <= most, "too many actions in a minute");
    }

    /// A reload has removed the watch that acted.
    pub(crate) fn forget_action(&mut self) {
        self.acting = None;
    }

    /// The states that the watches report, after all that happens at one time.
    pub(crate) fn check(&mut self, status: &Value, begun: Option<&str>) {
        let watches = status["watches"].as_array().expect("a list");
        for watch in watches {
            if let Some(waits) = watch["waits"].as_str() {
                let what = match waits {
                    waits if waits.ends_with("is the cause") => "held for a cause",
                    waits if waits.ends_with("at once") => "held for a storm",
                    _ => "held for another reason",
                };
                *self.coverage.entry(what).or_default() += 1;
            }
        }
        let state = |name: &str| {
            let found = watches.iter().find(|watch| watch["name"] == name);
            found.map_or("", |watch| watch["state"].as_str().expect("a text"))
        };
        let is_trouble = |name: &str| matches!(state(name), "late" | "down" | "acting" | "failed");
        let cause = |name: &str| self.cause(name, &is_trouble);
        let Some(begun) = begun else {
            return;
        };
        assert_eq!(
            cause(begun),
            None,
            "{begun} acts although another is the cause"
        );
        let blind = |name: &str| {
            let found = watches.iter().find(|watch| watch["name"] == name);
            found.is_some_and(|watch| watch["blind"] == true)
        };
        let own: Vec<&str> = self
            .seen
            .keys()
            .map(|name| &name[..])
            .filter(|name| state(name) != "paused" && !blind(name) && cause(name).is_none())
            .collect();
        let down = own.iter().filter(|name| is_trouble(name)).count();
        let percent = self.config.watcher.storm_percent as usize;
        let is_storm = down >= 3 && down * 100 > own.len() * percent;
        assert!(
            !is_storm,
            "{begun} acts in a storm: {down} of {}",
            own.len()
        );
    }

    fn cause(&self, name: &str, is_trouble: &dyn Fn(&str) -> bool) -> Option<String> {
        let seen = self.seen.get(name)?;
        let mut causes = seen.config.depends.iter();
        let found = causes.find(|it| is_trouble(it) || self.cause(it, is_trouble).is_some());
        found.cloned()
    }
}
