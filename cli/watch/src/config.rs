//! The configuration: the tables `[watcher]` and `[[watch]]`.

use std::path::PathBuf;
use std::time::Duration;

use broker::config::{ConfigError, Endpoint, SocketConfig, SocketName};
use zmtp::SocketType;

mod access;
mod file;
mod reader;
#[cfg(test)]
mod tests;

pub use file::ConfigErrors;

/// All watches, and the process that runs them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The table `[watcher]`.
    pub watcher: WatcherConfig,
    /// The tables `[[watch]]`, in the order of the file.
    pub watches: Vec<WatchConfig>,
}

/// The process of all watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatcherConfig {
    /// The control of the broker; [`None`]: the broker of this user.
    pub broker: Option<Endpoint>,
    /// The PUB socket for events and data; without an endpoint there is none.
    pub events: SocketConfig,
    /// Where services send heartbeats.
    pub heartbeat: HeartbeatConfig,
    /// The log file.
    pub log: Option<LogConfig>,
    /// Most actions of all watches in a minute.
    pub max_actions_per_minute: u32,
    /// A URL that is asked for once a minute, so that another machine notices the end of this one.
    pub ping: Option<Url>,
    /// The share of all watches, in percent, above which watches that are down at once are a storm,
    /// and no action is taken; 100: never.
    pub storm_percent: u32,
    /// Where events are posted, for watches without a URL of their own.
    pub webhook: Option<Url>,
}

/// Where services send heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// The type of `zmtp`: PULL or SUB.
    pub socket: SocketType,
    /// `HOST:PORT` for JSON over plain TCP; [`None`] opens the usual port if a watch waits for
    /// heartbeats, and an empty text opens none.
    pub tcp: Option<String>,
    /// The ZeroMQ socket for heartbeats; without an endpoint there is none. Its option
    /// `tcp_accept_filter` concerns plain TCP too.
    pub zmtp: SocketConfig,
}

/// A log file that rotates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A file is closed when it is this old; zero: at any age.
    pub age_max: Duration,
    /// Closed files that are kept.
    pub files_max: u32,
    /// The file that is written to; closed files have a number behind this name.
    pub path: PathBuf,
    /// A file is closed before it exceeds this number of bytes; zero: at any size.
    pub size_max: u64,
}

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// The time for one command; then its process group gets TERM, and KILL.
    pub action_timeout: Duration,
    /// The commands that restart the service, in order.
    pub actions: Vec<Command>,
    /// The time without a sign of life after which the service is late.
    pub after: Duration,
    /// The time between two actions.
    pub backoff: Backoff,
    /// Consecutive checks that find no sign of life before the service is down.
    pub confirm: u32,
    /// Watches whose trouble explains that of this one.
    pub depends: Vec<String>,
    /// The command for a watch that has failed.
    pub escalate: Option<Command>,
    /// Whether silence counts before the first sign of life.
    pub expect: bool,
    /// The time after the start, a reload and each action in which silence does not count.
    pub grace: Duration,
    /// Most actions within `max_window`; with the next one due, the watch has failed.
    pub max_actions: u32,
    /// The time for `max_actions`.
    pub max_window: Duration,
    /// The name; unique.
    pub name: String,
    /// The sign of life.
    pub sign: SignConfig,
    /// The service, if this process runs it.
    pub start: Option<Command>,
    /// The time between TERM and KILL when the service is stopped.
    pub stop_timeout: Duration,
    /// Where events are posted.
    pub webhook: Option<Url>,
}

/// A program and its arguments; no shell reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(pub Vec<String>);

/// The time between two actions: it grows with each until the service has been up for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The growth from one action to the next; at least 1.
    pub factor: u32,
    /// The time between the first action and the second.
    pub first: Duration,
    /// The longest time.
    pub max: Duration,
    /// The time after which a service that is up counts as healthy: the next action is a first one.
    pub reset_after: Duration,
}

/// What shows that a service lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignConfig {
    /// Enough peers are connected.
    Absent(AbsentConfig),
    /// The queues of a side are short.
    Backlog(BacklogConfig),
    /// The control of the broker answers.
    Broker,
    /// The service sends heartbeats.
    Heartbeat {
        /// The name that it sends; [`None`]: any.
        service: Option<String>,
        /// The type of the object; [`None`]: any.
        kind: Option<String>,
    },
    /// A process runs: the one in a file, that of a unit of systemd, or that of `start`.
    Process(ProcessConfig),
    /// A proxy receives messages.
    Silent(SilentConfig),
    /// Workers answer.
    Stuck {
        /// The proxy.
        proxy: String,
        /// The side of the workers.
        side: SocketName,
    },
}

/// The peers that must be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentConfig {
    /// The identity that one of the peers must have.
    pub identity: Option<String>,
    /// The fewest peers.
    pub min_peers: u64,
    /// The proxy.
    pub proxy: String,
    /// The side.
    pub side: SocketName,
    /// The user that one of the peers must be.
    pub user: Option<String>,
}

/// The bounds of queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BacklogConfig {
    /// The age of the oldest message that waits.
    pub age: Option<Duration>,
    /// Bytes of all messages that wait.
    pub bytes: Option<u64>,
    /// The proxy.
    pub proxy: String,
    /// The side whose peers receive the messages.
    pub side: SocketName,
}

/// The messages that a proxy must receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentConfig {
    /// Only from peers with this identity.
    pub identity: Option<String>,
    /// The proxy.
    pub proxy: String,
    /// The side that receives them; [`None`]: any.
    pub side: Option<SocketName>,
    /// Only those whose first frame begins with it.
    pub topic: Option<String>,
}

/// The process to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessConfig {
    /// The one that this watch has started.
    Own,
    /// The one whose number is in this file.
    PidFile(PathBuf),
    /// The ones of this unit of systemd.
    Unit(String),
}

/// An address for plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Host and port as in the header `Host`.
    pub authority: String,
    /// The host, without brackets.
    pub host: String,
    /// The path and what follows it, beginning with `/`.
    pub path: String,
    /// The port.
    pub port: u16,
}

/// The usual port for heartbeats over plain TCP.
pub const HEARTBEAT_TCP: &str = "localhost:5005";

impl Config {
    /// Whether a watch waits for heartbeats.
    #[must_use]
    pub fn wants_heartbeats(&self) -> bool {
        let is_one = |watch: &WatchConfig| matches!(watch.sign, SignConfig::Heartbeat { .. });
        self.watches.iter().any(is_one)
    }

    /// `HOST:PORT` for JSON over plain TCP, if it is wanted.
    #[must_use]
    pub fn heartbeat_tcp(&self) -> Option<&str> {
        match &self.watcher.heartbeat.tcp {
            Some(text) => Some(&text[..]).filter(|text| !text.is_empty()),
            None => self.wants_heartbeats().then_some(HEARTBEAT_TCP),
        }
    }

    /// Reads the files with keys and users; `file` is only the name of the configuration for
    /// messages.
    ///
    /// # Errors
    /// Every socket whose files cannot be used.
    pub fn load_keys(&mut self, file: &str) -> Result<(), ConfigErrors> {
        let watcher = &mut self.watcher;
        let mut errors = Vec::new();
        for (key, socket) in [
            ("watcher.events", &mut watcher.events),
            ("watcher.heartbeat", &mut watcher.heartbeat.zmtp),
        ] {
            if let Err(error) = socket.load_keys() {
                errors.push(ConfigError {
                    file: file.to_owned(),
                    key: key.to_owned(),
                    line: 0,
                    sentence: error.to_string(),
                });
            }
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ConfigErrors(errors)),
        }
    }

    /// Whether a watch asks the broker.
    #[must_use]
    pub fn asks_broker(&self) -> bool {
        self.watches.iter().any(|watch| watch.sign.asks_broker())
    }
}

impl SignConfig {
    /// The key in the file, and the name in answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Absent(_) => "absent",
            Self::Backlog(_) => "backlog",
            Self::Broker => "broker",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Process(_) => "process",
            Self::Silent(_) => "silent",
            Self::Stuck { .. } => "stuck",
        }
    }

    /// Its absence in words, before a time.
    #[must_use]
    pub fn trouble(&self) -> &'static str {
        match self {
            Self::Absent(_) => "peers are absent",
            Self::Backlog(_) => "messages wait",
            Self::Broker => "the broker does not answer",
            Self::Heartbeat { .. } => "no heartbeat",
            Self::Process(_) => "no process",
            Self::Silent(_) => "no message",
            Self::Stuck { .. } => "no answer",
        }
    }

    /// Whether the broker knows it.
    #[must_use]
    pub fn asks_broker(&self) -> bool {
        !matches!(self, Self::Heartbeat { .. } | Self::Process(_))
    }

    /// The proxy that it concerns.
    #[must_use]
    pub fn proxy(&self) -> Option<&str> {
        match self {
            Self::Absent(AbsentConfig { proxy, .. })
            | Self::Backlog(BacklogConfig { proxy, .. })
            | Self::Silent(SilentConfig { proxy, .. })
            | Self::Stuck { proxy, .. } => Some(proxy),
            Self::Broker | Self::Heartbeat { .. } | Self::Process(_) => None,
        }
    }
}

impl WatchConfig {
    /// A watch with the default times and without actions.
    #[must_use]
    pub fn new(name: impl Into<String>, sign: SignConfig) -> Self {
        Self {
            action_timeout: Duration::from_secs(20),
            actions: Vec::new(),
            after: Duration::from_secs(30),
            backoff: Backoff::default(),
            confirm: 2,
            depends: Vec::new(),
            escalate: None,
            expect: !matches!(sign, SignConfig::Heartbeat { .. } | SignConfig::Silent(_)),
            grace: Duration::from_secs(60),
            max_actions: 5,
            max_window: Duration::from_secs(3600),
            name: name.into(),
            sign,
            start: None,
            stop_timeout: Duration::from_secs(5),
            webhook: None,
        }
    }

    /// The time between two checks: a fifth of `after`, within bounds.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let (min, max) = (
            crate::limits::CHECK_INTERVAL_MIN,
            crate::limits::CHECK_INTERVAL_MAX,
        );
        (self.after / 5).clamp(min, max)
    }
}

impl Backoff {
    /// The time between this action and the next; the first action has the number 1.
    #[must_use]
    pub fn delay(&self, action: u32) -> Duration {
        let mut delay = self.first.min(self.max);
        for _ in 1..action {
            if delay >= self.max {
                break;
            }
            delay = delay.saturating_mul(self.factor).min(self.max);
            if self.factor <= 1 {
                break;
            }
        }
        delay
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            factor: 2,
            first: Duration::from_secs(10),
            max: Duration::from_secs(600),
            reset_after: Duration::from_secs(600),
        }
    }
}

impl Default for WatcherConfig {
    fn default() -> Self {
        Self {
            broker: None,
            events: SocketConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            log: None,
            max_actions_per_minute: 10,
            ping: None,
            storm_percent: 50,
            webhook: None,
        }
    }
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            socket: SocketType::Pull,
            tcp: None,
            zmtp: SocketConfig::default(),
        }
    }
}

impl Command {
    /// The program.
    #[must_use]
    pub fn program(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match word.is_empty() || word.contains([' ', '"']) {
                true => write!(f, "{word:?}")?,
                false => zmtp::show(word).whole().fmt(f)?,
            }
        }
        Ok(())
    }
}

impl Url {
    /// Reads `http://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// A sentence with the remedy.
    pub fn parse(text: &str) -> Result<Self, String> {
        let remedy = || "write http://HOST:PORT/PATH".to_owned();
        if text.starts_with("https://") {
            return Err("only plain HTTP is spoken: write http://, or run curl as escalate".into());
        }
        let rest = text.strip_prefix("http://").ok_or_else(remedy)?;
        let is_legal = |letter: char| letter.is_ascii_graphic();
        if !rest.chars().all(is_legal) {
            return Err("a URL has no blanks, and only letters of ASCII".to_owned());
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| remedy())?)
            }
            _ => (authority, 80),
        };
        let host = host
            .strip_prefix('[')
            .map_or(host, |host| host.strip_suffix(']').unwrap_or(host));
        if host.is_empty() || host.contains('@') {
            return Err(remedy());
        }
        Ok(Self {
            authority: authority.to_owned(),
            host: host.to_owned(),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            port,
        })
    }
}
