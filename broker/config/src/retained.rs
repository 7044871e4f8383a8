//! What a forwarder keeps of passing messages: the last value of each topic, and a ring of the
//! newest messages for replays.

use super::{Config, Fault, Place, Problem, ProxyConfig, SocketConfig};
use crate::limits::CACHE_TOPIC_SIZE_MAX;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The last value of each topic, which new subscribers get first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// The age at which a value is dropped; [`None`] is never.
    pub age_max: Option<Duration>,
    /// Bytes of memory for all values, with their bookkeeping. The oldest values give way to new
    /// ones.
    pub bytes_max: u64,
    /// Whether a message whose frames behind the topic are all empty removes the value of its
    /// topic.
    pub empty_deletes: bool,
    /// The file that keeps the values while the broker does not run. The program that runs the
    /// broker reads and writes it, by `Admin::last_values` and
    /// `Admin::restore_values`.
    pub path: Option<PathBuf>,
    /// The topics, by prefix; publishers are asked for them even without subscribers.
    pub topics: Vec<String>,
}

/// The newest messages, which peers of a ROUTER of the broker can ask for again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayConfig {
    /// Bytes of memory for these messages.
    pub bytes_max: u64,
    /// The number of messages to keep.
    pub messages_max: u64,
    /// Whether messages for subscribers end with a frame that has their sequence number.
    pub sequence: bool,
    /// The endpoints and options of the ROUTER; without an endpoint nothing is kept.
    pub socket: SocketConfig,
}

impl CacheConfig {
    /// The default limit for values, in bytes.
    pub const BYTES_MAX: u64 = 16 << 20;
}

impl ReplayConfig {
    /// The default limit for messages, in bytes.
    pub const BYTES_MAX: u64 = 64 << 20;

    /// The default number of messages.
    pub const MESSAGES_MAX: u64 = 100_000;

    /// The same ring on another socket.
    pub(super) fn with_socket(&self, socket: SocketConfig) -> Self {
        Self {
            socket,
            ..self.clone()
        }
    }
}

impl Default for CacheConfig {
    /// Every topic, within the default limit.
    fn default() -> Self {
        Self {
            age_max: None,
            bytes_max: Self::BYTES_MAX,
            empty_deletes: false,
            path: None,
            topics: vec![String::new()],
        }
    }
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            bytes_max: Self::BYTES_MAX,
            messages_max: Self::MESSAGES_MAX,
            sequence: false,
            socket: SocketConfig::default(),
        }
    }
}

impl Config {
    /// Bytes that all caches and replays may take.
    fn kept_bytes(&self) -> u64 {
        let kept = self.proxies.iter().flat_map(|proxy| {
            let cache = proxy.cache.as_ref().map(|cache| cache.bytes_max);
            let replay = Some(&proxy.replay).filter(|it| it.socket.has_endpoint());
            [cache, replay.map(|replay| replay.bytes_max)]
        });
        kept.flatten().fold(0, u64::saturating_add)
    }

    /// Whether a process that has addresses for `max` bytes can reach its limits.
    pub(super) fn addresses_problem(&self, max: u64) -> Option<Problem> {
        let records = self.proxies.iter().filter_map(|it| it.record.as_ref());
        let buffers = records.map(|record| record.buffer_size_max);
        let counted = self.memory_limit.max(self.kept_bytes());
        let bytes = buffers.fold(counted, u64::saturating_add);
        (bytes > max).then_some(Problem {
            fault: Fault::LacksAddresses { bytes, max },
            place: Place::Whole,
        })
    }

    /// Whether messages to keep leave memory for others.
    pub(super) fn kept_problem(&self) -> Option<Problem> {
        let kept = self.kept_bytes();
        let limit = self.memory_limit;
        (limit > 0 && kept > limit / 2).then_some(Problem {
            fault: Fault::KeepsTooMuch { kept, limit },
            place: Place::Whole,
        })
    }
}

impl Config {
    /// Files for last values that would replace those of another proxy, or a recording.
    pub(super) fn cache_files(&self) -> Vec<Problem> {
        let recordings = self.proxies.iter().filter_map(|proxy| {
            let record = proxy.record.as_ref()?;
            Some((&*record.path, &*proxy.name))
        });
        let mut writers: HashMap<&Path, &str> = recordings.collect();
        let mut problems = Vec::new();
        for (index, proxy) in self.proxies.iter().enumerate() {
            let Some(path) = proxy.cache.as_ref().and_then(|it| it.path.as_deref()) else {
                continue;
            };
            if let Some(other) = writers.insert(path, &proxy.name) {
                let (other, path) = (other.to_owned(), path.display().to_string());
                problems.push(Problem {
                    fault: Fault::CacheFileTwice { other, path },
                    place: Place::Cache(index),
                });
            }
        }
        problems
    }
}

/// Whether the last values of a proxy can be kept and sent.
pub(super) fn check_cache(proxy: &ProxyConfig) -> Vec<Fault> {
    let Some(cache) = &proxy.cache else {
        return Vec::new();
    };
    let subscribers = proxy
        .publishers()
        .map(|it| proxy.socket(it.opposite().into()));
    let is_inverted = subscribers.is_some_and(|it| it.options.invert_matching);
    let is_long = |topic: &String| topic.len() > CACHE_TOPIC_SIZE_MAX;
    let faults = [
        (subscribers.is_none(), Fault::KeepsNothing("cache")),
        (is_inverted, Fault::CacheInverted),
        (cache.bytes_max == 0, Fault::KeepsZero("bytes")),
        (cache.topics.is_empty(), Fault::CacheWithoutTopics),
        (cache.topics.iter().any(is_long), Fault::CacheTopic),
    ];
    let faults = faults.into_iter().filter(|(is_there, _)| *is_there);
    faults.map(|(_, fault)| fault).collect()
}

/// Whether the messages of a proxy can be kept and sent again.
pub(super) fn check_replay(proxy: &ProxyConfig) -> Vec<Fault> {
    let replay = &proxy.replay;
    // A table may have options for all sockets.
    let is_asked_for = replay.with_socket(SocketConfig::default()) != ReplayConfig::default();
    if !replay.socket.has_endpoint() {
        return is_asked_for
            .then_some(Fault::ReplayUnbound)
            .into_iter()
            .collect();
    }
    let faults = [
        (proxy.publishers().is_none(), Fault::KeepsNothing("replay")),
        (replay.bytes_max == 0, Fault::KeepsZero("bytes")),
        (replay.messages_max == 0, Fault::KeepsZero("messages")),
    ];
    let faults = faults.into_iter().filter(|(is_there, _)| *is_there);
    faults.map(|(_, fault)| fault).collect()
}
