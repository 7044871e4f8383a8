//! Counters of what was refused, lost or not understood. The log has a line for the first of each.

use std::fmt::Display;

use serde_json::{Map, Value, json};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A plain TCP client sent bytes that are not objects.
    Flawed,
    /// An object or message is not a heartbeat.
    Foreign,
    /// A peer sends and does not read: its input waits.
    Held,
    /// A reader of events is too slow, and misses one.
    Missed,
    /// A peer of a ZeroMQ socket broke the protocol or a limit.
    Refused,
    /// A connection or pipe was closed because there were too many.
    Surplus,
    /// A webhook or ping was dropped, because too many wait.
    Unsent,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters([u64; Trouble::ALL.len()]);

impl Trouble {
    const ALL: [Self; 7] = [
        Self::Flawed,
        Self::Foreign,
        Self::Held,
        Self::Missed,
        Self::Refused,
        Self::Surplus,
        Self::Unsent,
    ];

    /// The key in answers, and the line for the first one.
    fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Flawed => ("unreadable_heartbeats", "a heartbeat cannot be read"),
            Self::Foreign => ("foreign_objects", "an object is not a heartbeat"),
            Self::Held => (
                "held_peers",
                "a peer sends and does not read: its input waits",
            ),
            Self::Missed => (
                "missed_events",
                "a reader of events is too slow and misses some",
            ),
            Self::Refused => ("refused_peers", "a peer is refused"),
            Self::Surplus => (
                "surplus_connections",
                "too many connections: the one that is silent for longest is closed",
            ),
            Self::Unsent => (
                "unsent_webhooks",
                "webhooks are too slow: some are not sent",
            ),
        }
    }
}

impl Counters {
    /// Counts one; `detail` says more about the first.
    pub(super) fn note(&mut self, trouble: Trouble, detail: &dyn Display) {
        let count = &mut self.0[trouble as usize];
        *count += 1;
        if *count == 1 {
            let (_, line) = trouble.texts();
            log::warn!("{line}: {detail}; further ones are counted");
        }
    }

    /// All counters by their keys.
    pub(super) fn to_json(&self) -> Value {
        let mut object = Map::new();
        for it in Trouble::ALL {
            object.insert(it.texts().0.to_owned(), json!(self.0[it as usize]));
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_a_counter_of_its_own() {
        let mut counters = Counters::default();
        for (index, trouble) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(trouble as usize, index);
            for _ in 0..=index {
                counters.note(trouble, &"a test");
            }
        }
        let all = counters.to_json();
        for (index, trouble) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(all[trouble.texts().0], index + 1, "{trouble:?}");
        }
    }
}
