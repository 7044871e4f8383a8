//! The messages of one service, as a broker counts them: requests of a worker, or a queue.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use watch::config::SignConfig;

use crate::scenario::Random;

/// Bytes of each message.
const MESSAGE_SIZE: u64 = 100;

/// What waits for one service, with the truth about its age.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// The times at which the messages came that wait, the oldest first.
    arrivals: VecDeque<Duration>,
    /// Messages that this connection of the service has got, or that wait in its queue.
    entered: u64,
    /// No messages come before this time.
    idle_until: Duration,
    is_absent: bool,
    /// Messages that this connection has finished.
    left: u64,
    /// Counts connections.
    life: u64,
    /// The oldest message and the bytes, at the last look of the watch.
    pub(crate) seen: Waiting,
    /// Messages that the proxy has received.
    received: u64,
    /// When there was more than the bound of a backlog in bytes.
    large_since: Option<Duration>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) age: Duration,
    pub(crate) bytes: u64,
}

impl Traffic {
    /// A message comes, unless nothing is to be done; a service that hangs does not take it.
    pub(crate) fn beat(&mut self, is_hung: bool, now: Duration, random: &mut Random) {
        if random.chance(1) {
            self.idle_until = now + random.time(1000, 60_000);
        }
        if now >= self.idle_until {
            self.arrivals.push_back(now);
            if !self.is_absent {
                self.entered += 1;
                self.received += 1;
            }
        }
        if !is_hung {
            self.finish();
        }
    }

    /// The service has done all that waited.
    pub(crate) fn finish(&mut self) {
        if !self.is_absent {
            self.arrivals.clear();
            self.left = self.entered;
            self.large_since = None;
        }
    }

    /// The process has ended: a worker loses what it held, a queue waits in the senders.
    pub(crate) fn disconnect(&mut self, sign: &SignConfig) {
        self.is_absent = true;
        if matches!(sign, SignConfig::Stuck { .. }) {
            self.arrivals.clear();
        }
    }

    /// Another process connects, and gets what waits.
    pub(crate) fn connect(&mut self) {
        if self.is_absent {
            self.is_absent = false;
            self.life += 1;
            self.left = 0;
            self.entered = self.arrivals.len() as u64;
            self.received += self.entered;
        }
    }

    pub(crate) fn waiting(&self, now: Duration) -> Waiting {
        Waiting {
            age: self.arrivals.front().map_or(Duration::ZERO, |at| now - *at),
            bytes: self.arrivals.len() as u64 * MESSAGE_SIZE,
        }
    }

    /// Since when a watch with this sign has a reason, if it asks about messages that wait.
    pub(crate) fn trouble_since(&mut self, sign: &SignConfig, now: Duration) -> Option<Duration> {
        let oldest = self.arrivals.front().copied();
        match sign {
            SignConfig::Stuck { .. } => oldest,
            SignConfig::Backlog(backlog) => {
                let bytes = self.waiting(now).bytes;
                if backlog.bytes.is_some_and(|max| bytes > max) && !self.is_absent {
                    self.large_since = self.large_since.or(Some(now));
                }
                let old = backlog.age.zip(oldest).map(|(age, oldest)| oldest + age);
                [old.filter(|at| *at <= now), self.large_since]
                    .into_iter()
                    .flatten()
                    .min()
            }
            _ => None,
        }
    }

    /// Whether what the watch has seen in its last look is enough for an alarm.
    pub(crate) fn justifies(&self, sign: &SignConfig, after: Duration) -> bool {
        let Waiting { age, bytes } = self.seen;
        match sign {
            SignConfig::Stuck { .. } => age > after,
            // Once over a bound, a queue is too long until it has fallen to half of it.
            SignConfig::Backlog(backlog) => {
                backlog.age.is_some_and(|max| 2 * age > max)
                    || backlog.bytes.is_some_and(|max| 2 * bytes > max)
            }
            _ => true,
        }
    }

    /// The broker's answer about the peers of the side of the service.
    pub(crate) fn peers(&self) -> Value {
        let peer = json!({
            "address": "tcp://127.0.0.1:9",
            "dropped": {},
            "id": format!("c{}", self.life),
            "messages_received": self.left,
            // A worker has got them all; of a queue, those that wait are not sent.
            "messages_sent": self.entered,
            "phase": "ready",
            "queued_messages": 0,
        });
        let peers: Vec<Value> = (!self.is_absent).then_some(peer).into_iter().collect();
        json!({ "peers": peers })
    }

    /// The same for a queue.
    pub(crate) fn queue(&self) -> Value {
        let mut answer = self.peers();
        if let Some(peer) = answer["peers"].get_mut(0) {
            peer["messages_sent"] = json!(self.left);
            peer["queued_messages"] = json!(self.entered - self.left);
        }
        answer
    }

    /// The sockets of the proxy.
    pub(crate) fn sockets(&self) -> Value {
        let waits = self.is_absent && !self.arrivals.is_empty();
        let queued = (self.entered - self.left) * MESSAGE_SIZE;
        let queued = if self.is_absent { 0 } else { queued };
        json!([
            { "side": "frontend", "messages_received": self.received,
              "waiting": u64::from(waits) },
            { "side": "backend", "peers": u64::from(!self.is_absent), "queued_bytes": queued },
        ])
    }
}
