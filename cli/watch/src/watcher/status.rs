//! The states of all watches, for persons and programs.

use std::time::Instant;

use serde_json::{Value, json};

use super::Watcher;
use super::output::State;
use super::watch::Watch;
use crate::limits::REPORT_MAX;

impl Watcher {
    /// The states of all watches as JSON; `now` is the present.
    #[must_use]
    pub fn status(&self, now: Instant) -> Value {
        let watches = self.watches.iter().map(|watch| describe(watch, now));
        let storm = self.storm.map(|since| seconds(since, now));
        json!({
            "broker_answers": self.config.asks_broker().then_some(self.broker.answers),
            "dry_run": self.is_dry,
            "storm_seconds": storm,
            "unknown_heartbeats": self.strangers,
            "watches": watches.collect::<Vec<Value>>(),
        })
    }

    /// The states of all watches for the metrics of a broker, which keeps no more than these keys.
    #[must_use]
    pub fn report(&self) -> Value {
        let watches = self.watches.iter().take(REPORT_MAX).map(|watch| {
            json!({
                "actions": watch.total_actions,
                "name": watch.config.name,
                "reason": watch.blind().unwrap_or(&watch.reason),
                "sign": watch.config.sign.name(),
                "state": watch.state().name(),
            })
        });
        watches.collect()
    }

    /// The states of all watches in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = vec![match self.watches.len() {
            1 => "1 watch".to_owned(),
            count => format!("{count} watches"),
        }];
        for state in State::ALL {
            let names = self.watches.iter().filter(|it| it.state() == state);
            let names: Vec<&str> = names.map(|it| &it.config.name[..]).collect();
            let is_trouble = !matches!(state, State::New | State::Up);
            match names.len() {
                0 => {}
                count if is_trouble && count <= 3 => {
                    parts.push(format!("{count} {} ({})", state.name(), names.join(", ")));
                }
                count => parts.push(format!("{count} {}", state.name())),
            }
        }
        parts.join(", ")
    }
}

fn describe(watch: &Watch, now: Instant) -> Value {
    let config = &watch.config;
    let commands = watch.commands().into_iter().map(ToString::to_string);
    let next_action = watch.next_action_at.filter(|at| *at > now);
    let last_action = watch
        .last_action
        .as_ref()
        .map(|(at, outcome)| json!({ "outcome": outcome, "seconds_ago": seconds(*at, now) }));
    json!({
        "actions": watch.total_actions,
        "actions_since_healthy": watch.attempts(),
        "after_seconds": config.after.as_secs_f64(),
        "blind": watch.blind().is_some(),
        "commands": commands.collect::<Vec<String>>(),
        "depends": config.depends,
        "grace_seconds": watch.grace_left(now).as_secs_f64(),
        "last_action": last_action,
        "name": config.name,
        "next_action_seconds": next_action.map(|at| (at - now).as_secs_f64()),
        "reason": watch.blind().unwrap_or(&watch.reason),
        "runs": watch.config.start.as_ref().map(|_| watch.service.is_some()),
        "sign": config.sign.name(),
        "silent_seconds": seconds(watch.lived_at, now),
        "since_seconds": seconds(watch.since, now),
        "state": watch.state().name(),
        "waits": watch.held,
    })
}

fn seconds(since: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(since).as_secs_f64()
}
