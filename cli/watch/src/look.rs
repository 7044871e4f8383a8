//! Looks at a broker: the questions for its control, and signs of life from its answers.
//!
//! The broker keeps counters, and a watch compares those of two looks. So the broker needs no clock
//! and no memory for a watch, and ages are exact to the time between two looks.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use broker::config::SocketName;
use serde_json::{Value, json};

use crate::config::{AbsentConfig, BacklogConfig, Config, SignConfig, SilentConfig};
use crate::limits::PEERS_MAX;

/// The answers to all questions, in their order; an error is a sentence of the broker.
pub(crate) type Answers = [Result<Value, String>];

/// The result of a look for one watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// No new sign of life, and why.
    Bad(String),
    /// Nothing can be said.
    Blind(String),
    /// A sign of life at this time.
    Good(Instant),
    /// The proxy is paused.
    Paused,
    /// The last time without trouble, and the trouble since then.
    Since(Instant, String),
}

/// What a watch remembers of the last look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// The number of messages by side, peer or topic.
    counts: Option<BTreeMap<String, u64>>,
    is_over: bool,
    ledgers: BTreeMap<String, Ledger>,
    /// Since when senders wait, and the messages received at that time.
    waiting: Option<(Instant, u64)>,
}

/// Finds the age of the oldest thing that came in and did not go out, from two counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    entered: u64,
    /// Times, and how many had come in by then.
    marks: VecDeque<(Instant, u64)>,
}

/// Most marks: when things come in at every look, later ones count from a later look.
const MARKS_MAX: usize = 32;

/// The questions for all watches; the first is about the broker as a whole.
pub(crate) fn questions(config: &Config) -> Vec<Value> {
    let mut questions = vec![json!({ "command": "status" })];
    for watch in &config.watches {
        if let Some(question) = question_of(&watch.sign)
            && !questions.contains(&question)
        {
            questions.push(question);
        }
    }
    questions
}

/// The question of its own that a sign needs.
fn question_of(sign: &SignConfig) -> Option<Value> {
    let mut question = json!({ "command": "peers" });
    let (proxy, side) = match sign {
        SignConfig::Absent(AbsentConfig {
            identity: None,
            user: None,
            ..
        })
        | SignConfig::Backlog(BacklogConfig { age: None, .. })
        | SignConfig::Silent(SilentConfig {
            identity: None,
            topic: None,
            ..
        })
        | SignConfig::Broker
        | SignConfig::Heartbeat { .. }
        | SignConfig::Process(_) => return None,
        SignConfig::Absent(AbsentConfig { proxy, side, .. })
        | SignConfig::Backlog(BacklogConfig { proxy, side, .. })
        | SignConfig::Stuck { proxy, side } => (proxy, Some(*side)),
        SignConfig::Silent(config) => {
            if let Some(topic) = &config.topic {
                question = json!({ "command": "count", "topic": topic });
            }
            (&config.proxy, config.side)
        }
    };
    question["proxy"] = json!(proxy);
    if let Some(side) = side {
        question["side"] = json!(side.name());
    }
    Some(question)
}

/// The answers, with the questions to find them by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) answers: &'a Answers,
    pub(crate) now: Instant,
    pub(crate) questions: &'a [Value],
}

impl<'a> Look<'a> {
    /// The process id of the broker and its uptime in seconds.
    pub(crate) fn broker(&self) -> Option<(u64, f64)> {
        let status = self.answers.first()?.as_ref().ok()?;
        let pid = status["pid"].as_u64()?;
        Some((pid, status["uptime_seconds"].as_f64()?))
    }

    fn proxy(&self, name: &str) -> Result<&'a Value, Finding> {
        let blind = |sentence: String| Finding::Blind(sentence);
        let status = match self.answers.first() {
            Some(Ok(status)) => status,
            Some(Err(sentence)) => return Err(blind(sentence.clone())),
            None => return Err(blind("the broker gave no status".to_owned())),
        };
        let mut proxies = status["proxies"].as_array().into_iter().flatten();
        let found = proxies.find(|proxy| proxy["proxy"] == name);
        let found = found.ok_or_else(|| blind(format!("the broker has no proxy \"{name}\"")))?;
        match found["paused"].as_bool() {
            Some(true) => Err(Finding::Paused),
            _ => Ok(found),
        }
    }

    /// The answer to the question of this sign.
    fn answer(&self, sign: &SignConfig) -> Result<&'a Value, Finding> {
        let wanted = question_of(sign);
        let index = self
            .questions
            .iter()
            .position(|it| Some(it) == wanted.as_ref());
        match index.and_then(|index| self.answers.get(index)) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(sentence)) => Err(Finding::Blind(sentence.clone())),
            None => Err(Finding::Blind("the broker gave no answer".to_owned())),
        }
    }

    /// The peers for this sign, at most [`PEERS_MAX`].
    fn peers(&self, sign: &SignConfig) -> Result<&'a [Value], Finding> {
        let peers = self.answer(sign)?["peers"].as_array();
        let peers = peers.map_or(&[][..], Vec::as_slice);
        Ok(&peers[..peers.len().min(PEERS_MAX)])
    }
}

fn socket(proxy: &Value, side: SocketName) -> &Value {
    let mut sockets = proxy["sockets"].as_array().into_iter().flatten();
    let found = sockets.find(|socket| socket["side"] == side.name());
    found.unwrap_or(&Value::Null)
}

fn number(object: &Value, key: &str) -> u64 {
    object[key].as_u64().unwrap_or_default()
}

impl Evidence {
    /// The result of a look for a sign that asks the broker.
    pub(crate) fn judge(&mut self, sign: &SignConfig, look: &Look<'_>) -> Finding {
        let found = match sign {
            SignConfig::Absent(config) => absent(config, sign, look),
            SignConfig::Backlog(config) => self.backlog(config, sign, look),
            SignConfig::Silent(config) => self.silent(config, sign, look),
            SignConfig::Stuck { proxy, .. } => self.stuck(proxy, sign, look),
            SignConfig::Broker => Ok(Finding::Good(look.now)),
            SignConfig::Heartbeat { .. } | SignConfig::Process(_) => {
                Ok(Finding::Blind("the broker does not know it".to_owned()))
            }
        };
        found.unwrap_or_else(|finding| finding)
    }

    /// Any message since the last look.
    fn silent(
        &mut self,
        config: &SilentConfig,
        sign: &SignConfig,
        look: &Look<'_>,
    ) -> Result<Finding, Finding> {
        let proxy = look.proxy(&config.proxy)?;
        let received = |object: &Value| number(object, "messages_received");
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        match (&config.identity, &config.topic) {
            (None, Some(topic)) => {
                let messages = number(look.answer(sign)?, "messages");
                counts.insert(topic.clone(), messages);
            }
            (Some(identity), _) => {
                let peers = look.peers(sign)?.iter();
                let meant = peers.filter(|peer| peer["identity"] == **identity);
                let id = |peer: &Value| peer["id"].as_str().unwrap_or_default().to_owned();
                counts.extend(meant.map(|peer| (id(peer), received(peer))));
            }
            (None, None) => {
                let sides = config
                    .side
                    .map_or_else(|| SocketName::SIDES.to_vec(), |side| vec![side]);
                for side in sides {
                    counts.insert(side.name().to_owned(), received(socket(proxy, side)));
                }
            }
        }
        let before = self.counts.replace(counts);
        let (Some(before), Some(counts)) = (before, &self.counts) else {
            return Ok(Finding::Bad("no message since the first look".to_owned()));
        };
        // A count that has become smaller has begun anew, with zero.
        let is_more = |(key, count): (&String, &u64)| {
            let before = before.get(key).filter(|before| *before <= count);
            *count > before.copied().unwrap_or_default()
        };
        Ok(match counts.iter().any(is_more) {
            true => Finding::Good(look.now),
            false => Finding::Bad(String::new()),
        })
    }

    /// The oldest unanswered request of any worker.
    fn stuck(
        &mut self,
        proxy: &str,
        sign: &SignConfig,
        look: &Look<'_>,
    ) -> Result<Finding, Finding> {
        look.proxy(proxy)?;
        let peers = look.peers(sign)?.iter();
        let counts = peers.map(|peer| {
            let (asked, answered) = (
                number(peer, "messages_sent"),
                number(peer, "messages_received"),
            );
            (peer, asked, answered)
        });
        let oldest = note_all(&mut self.ledgers, look.now, counts);
        Ok(match oldest {
            None => Finding::Good(look.now),
            Some((since, peer)) => {
                let address = peer["address"].as_str().unwrap_or("?");
                let reason = format!("the worker at {address} holds an unanswered request");
                Finding::Since(since, reason)
            }
        })
    }

    /// The queues of a side, and the senders that wait for room in them.
    fn backlog(
        &mut self,
        config: &BacklogConfig,
        sign: &SignConfig,
        look: &Look<'_>,
    ) -> Result<Finding, Finding> {
        let proxy = look.proxy(&config.proxy)?;
        let bytes = number(socket(proxy, config.side), "queued_bytes");
        let mut age = Duration::ZERO;
        if config.age.is_some() {
            let peers = look.peers(sign)?.iter();
            let counts = peers.map(|peer| {
                let removed = ["expired", "memory-shed", "replaced"];
                let removed: u64 = removed.iter().map(|it| number(&peer["dropped"], it)).sum();
                let left = number(peer, "messages_sent") + removed;
                (peer, left + number(peer, "queued_messages"), left)
            });
            let oldest = note_all(&mut self.ledgers, look.now, counts);
            let since = oldest.map(|(since, _)| since);
            let since = since
                .into_iter()
                .chain(self.waiting(proxy, config.side, look.now));
            age = since
                .map(|since| look.now.saturating_duration_since(since))
                .max()
                .unwrap_or_default();
        }
        // What was over the bound is over it until it has fallen to half.
        let share = if self.is_over { 2 } else { 1 };
        let is_old = config
            .age
            .is_some_and(|max| age.saturating_mul(share) > max);
        let is_large = config
            .bytes
            .is_some_and(|max| bytes.saturating_mul(share.into()) > max);
        self.is_over = is_old || is_large;
        Ok(match self.is_over {
            false => Finding::Good(look.now),
            true if is_old => {
                Finding::Bad(format!("a message waits for {:.1} s", age.as_secs_f64()))
            }
            true => Finding::Bad(format!("{bytes} bytes wait")),
        })
    }

    /// Since when senders across wait without any progress.
    fn waiting(&mut self, proxy: &Value, side: SocketName, now: Instant) -> Option<Instant> {
        let across = match side {
            SocketName::Backend => SocketName::Frontend,
            _ => SocketName::Backend,
        };
        let across = socket(proxy, across);
        let received = number(across, "messages_received");
        self.waiting = match self.waiting {
            _ if number(across, "waiting") == 0 => None,
            Some((since, before)) if before == received => Some((since, before)),
            _ => Some((now, received)),
        };
        self.waiting.map(|(since, _)| since)
    }
}

/// Enough peers, or one with the identity or user.
fn absent(config: &AbsentConfig, sign: &SignConfig, look: &Look<'_>) -> Result<Finding, Finding> {
    let AbsentConfig {
        identity,
        min_peers,
        proxy,
        side,
        user,
    } = config;
    let proxy = look.proxy(proxy)?;
    let found = if identity.is_none() && user.is_none() {
        number(socket(proxy, *side), "peers")
    } else {
        let is_meant = |key: &str, wanted: &Option<String>, peer: &Value| {
            wanted.as_ref().is_none_or(|wanted| peer[key] == **wanted)
        };
        let peers = look.peers(sign)?.iter();
        let meant = peers.filter(|peer| {
            peer["phase"] == "ready"
                && is_meant("identity", identity, peer)
                && is_meant("user", user, peer)
        });
        meant.count() as u64
    };
    Ok(match found >= *min_peers {
        true => Finding::Good(look.now),
        false => Finding::Bad(format!("{found} of {min_peers} peers")),
    })
}

/// Takes note of the counters of all peers: how many came in, and went out. Returns the time of the
/// oldest that did not go out, and its peer.
fn note_all<'a>(
    ledgers: &mut BTreeMap<String, Ledger>,
    now: Instant,
    counts: impl Iterator<Item = (&'a Value, u64, u64)>,
) -> Option<(Instant, &'a Value)> {
    let mut before = std::mem::take(ledgers);
    let mut oldest: Option<(Instant, &Value)> = None;
    for (peer, entered, left) in counts {
        let id = peer["id"].as_str().unwrap_or_default();
        let mut ledger = before.remove(id).unwrap_or_default();
        if let Some(since) = ledger.note(now, entered, left)
            && oldest.is_none_or(|(earliest, _)| since < earliest)
        {
            oldest = Some((since, peer));
        }
        ledgers.insert(id.to_owned(), ledger);
    }
    oldest
}

impl Ledger {
    /// Takes note of how many came in so far, and went out so far. Returns the time of a look at
    /// which the oldest of the others was in already.
    pub(crate) fn note(&mut self, now: Instant, entered: u64, left: u64) -> Option<Instant> {
        if entered > self.entered && self.marks.len() < MARKS_MAX {
            self.marks.push_back((now, entered));
            self.entered = entered;
        }
        while self.marks.front().is_some_and(|(_, count)| *count <= left) {
            self.marks.pop_front();
        }
        self.marks.front().map(|(since, _)| *since)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any time to count from")]
mod tests;
