//! TOML text to [`Config`].
//!
//! The tables may stand in the file of a broker, whose other keys are left to it.

use broker::config::{ConfigError, SocketConfig, SocketName, hint};
use broker::limits::{CONFIG_SIZE_MAX, TOPIC_COUNT_SIZE_MAX};
use toml::de::{DeTable, DeValue};
use zmtp::{SocketType, show};

use super::access;
pub use super::reader::ConfigErrors;
use super::reader::{Node, Reader};
use super::{
    AbsentConfig, BacklogConfig, Backoff, Config, HeartbeatConfig, LogConfig, ProcessConfig,
    SignConfig, SilentConfig, Url, WatchConfig, WatcherConfig,
};
use crate::limits::WATCHES_MAX;

/// The keys of a sign of life.
const SIGNS: [&str; 7] = [
    "absent",
    "backlog",
    "broker",
    "heartbeat",
    "process",
    "silent",
    "stuck",
];

/// The other keys of a watch.
const KEYS: [&str; 15] = [
    "action",
    "action_timeout",
    "after",
    "backoff",
    "confirm",
    "depends",
    "escalate",
    "expect",
    "grace",
    "max_actions",
    "max_window",
    "name",
    "start",
    "stop_timeout",
    "webhook",
];

impl Config {
    /// Reads the tables `[watcher]` and `[[watch]]`; `file` is only its name for messages.
    ///
    /// # Errors
    /// All errors of these tables, or the text is not TOML.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        if text.len() > CONFIG_SIZE_MAX {
            return Err(ConfigErrors(vec![ConfigError {
                file: file.to_owned(),
                key: String::new(),
                line: 0,
                sentence: format!("more than {CONFIG_SIZE_MAX} bytes: divide this file"),
            }]));
        }
        let mut reader = Reader::new(text, file);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let message = error.message().replace('\n', ", ");
            let sentence = format!("this is not TOML: {}", show(&message));
            reader.fail(&error.span().unwrap_or_default(), "", sentence);
        }
        let mut config = Self::default();
        if errors.is_empty() {
            let node = Node {
                at: root.span(),
                key: String::new(),
                table: root.get_ref(),
            };
            let broker = reader.broker_control(&node);
            // The broker refuses wrong values.
            let insecure = node.get(access::INSECURE).map(|found| found.value);
            let is_insecure = matches!(insecure, Some(DeValue::Boolean(true)));
            config.watcher = reader.watcher(&node, is_insecure);
            config.watcher.broker = config.watcher.broker.or(broker);
            config.watches = reader.watches(&node);
        }
        reader.finish()?;
        Ok(config)
    }
}

impl Reader<'_> {
    /// The control of the broker of the same file. The broker refuses wrong values.
    fn broker_control(&self, root: &Node<'_, '_>) -> Option<broker::config::Endpoint> {
        match root.get("broker_control")?.value {
            DeValue::String(text) => broker::config::Endpoint::parse_connect(text).ok(),
            _ => None,
        }
    }

    fn watcher(&mut self, root: &Node<'_, '_>, is_insecure: bool) -> WatcherConfig {
        let mut watcher = WatcherConfig::default();
        let remedy = "write [watcher], and its keys below it";
        let Some(node) = self.table(root, "watcher", remedy) else {
            return watcher;
        };
        let keys = [
            "broker",
            "events",
            "heartbeat",
            "log",
            "max_actions_per_minute",
            "ping",
            "storm_percent",
            "webhook",
        ];
        self.refuse_unknown(&node, &keys);
        watcher.broker = self.endpoint(&node, "broker", false);
        watcher.events = self.events(&node, is_insecure);
        watcher.heartbeat = self.heartbeat(&node, is_insecure);
        watcher.log = self.log(&node);
        if let Some(number) = self.number(&node, "max_actions_per_minute", 1..=1000) {
            watcher.max_actions_per_minute = number;
        }
        watcher.ping = self.parsed(&node, "ping", Url::parse);
        if let Some(number) = self.number(&node, "storm_percent", 1..=100) {
            watcher.storm_percent = number;
        }
        watcher.webhook = self.parsed(&node, "webhook", Url::parse);
        watcher
    }

    /// The PUB: an endpoint, or a table with more.
    fn events(&mut self, watcher: &Node<'_, '_>, is_insecure: bool) -> SocketConfig {
        let Some(found) = watcher.get("events") else {
            return SocketConfig::default();
        };
        let DeValue::Table(table) = found.value else {
            let options = access::options(is_insecure);
            return self.socket(watcher, "events", options);
        };
        let node = Node {
            at: found.at,
            key: found.key,
            table,
        };
        self.refuse_unknown(&node, &[&["bind"], &access::KEYS[..]].concat());
        let options = self.options(&node, is_insecure);
        if node.get("bind").is_none() {
            let sentence = "name the endpoint: write bind = \"ENDPOINT\"";
            self.fail(&node.at, &node.key, sentence);
        }
        self.socket(&node, "bind", options)
    }

    fn heartbeat(&mut self, watcher: &Node<'_, '_>, is_insecure: bool) -> HeartbeatConfig {
        let mut heartbeat = HeartbeatConfig::default();
        let remedy = "write heartbeat = { tcp = \"localhost:5005\" }";
        let Some(node) = self.table(watcher, "heartbeat", remedy) else {
            return heartbeat;
        };
        self.refuse_unknown(
            &node,
            &[&["socket", "tcp", "zmtp"], &access::KEYS[..]].concat(),
        );
        let socket = self.parsed(&node, "socket", |text| match text {
            "PULL" => Ok(SocketType::Pull),
            "SUB" => Ok(SocketType::Sub),
            _ => Err("write PULL or SUB".to_owned()),
        });
        heartbeat.socket = socket.unwrap_or(SocketType::Pull);
        heartbeat.tcp = self.parsed(&node, "tcp", |text| {
            let port = text.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            match text.is_empty() || matches!(port, Some(Ok(_))) {
                true => Ok(text.to_owned()),
                false => Err("write HOST:PORT, or \"\" for none".to_owned()),
            }
        });
        let options = self.options(&node, is_insecure);
        self.check_plain_tcp(&node, heartbeat.tcp.as_deref(), &options);
        heartbeat.zmtp = self.socket(&node, "zmtp", options);
        heartbeat
    }

    fn log(&mut self, watcher: &Node<'_, '_>) -> Option<LogConfig> {
        let node = self.table(watcher, "log", "write log = { path = \"FILE\" }")?;
        self.refuse_unknown(&node, &["age", "files", "path", "size"]);
        let path = self.text(&node, "path");
        if path.as_ref().is_none_or(String::is_empty) {
            let sentence = "a log needs a path: write path = \"FILE\"";
            self.fail(&node.at, &node.key, sentence);
        }
        Some(LogConfig {
            age_max: self.time(&node, "age").unwrap_or_default(),
            files_max: self.number(&node, "files", 0..=1000).unwrap_or(5),
            path: path.unwrap_or_default().into(),
            size_max: self.size(&node, "size").unwrap_or(1 << 20),
        })
    }

    fn watches(&mut self, root: &Node<'_, '_>) -> Vec<WatchConfig> {
        let Some(found) = root.get("watch") else {
            return Vec::new();
        };
        let DeValue::Array(_) = found.value else {
            let sentence = "write [[watch]] in double brackets: a file may have several";
            self.fail(&found.at, &found.key, sentence);
            return Vec::new();
        };
        let mut watches: Vec<WatchConfig> = Vec::new();
        let items = found.items();
        if items.len() > WATCHES_MAX {
            let sentence = format!("at most {WATCHES_MAX} watches: divide this file");
            self.fail(&found.at, &found.key, sentence);
            return watches;
        }
        let mut nodes = Vec::new();
        for item in &items {
            let DeValue::Table(table) = item.value else {
                self.fail(
                    &item.at,
                    &item.key,
                    "write [[watch]], and its keys below it",
                );
                continue;
            };
            let node = Node {
                at: item.at.clone(),
                key: item.key.clone(),
                table,
            };
            if let Some(watch) = self.watch(&node) {
                if watches.iter().any(|other| other.name == watch.name) {
                    let sentence = format!("two watches are called \"{}\"", watch.name);
                    self.fail(&node.at, &node.join("name"), sentence);
                }
                watches.push(watch);
                nodes.push(node);
            }
        }
        for (watch, node) in watches.iter().zip(&nodes) {
            self.check_dependencies(watch, node, &watches, watches.len() == items.len());
        }
        watches
    }

    /// Refuses unknown names, and circles. Without the watches that have errors of their own, a
    /// name may only seem to be unknown.
    fn check_dependencies(
        &mut self,
        watch: &WatchConfig,
        node: &Node<'_, '_>,
        watches: &[WatchConfig],
        is_complete: bool,
    ) {
        let find = |name: &str| watches.iter().find(|other| other.name == name);
        for name in &watch.depends {
            if find(name).is_none() && is_complete {
                let names: Vec<&str> = watches.iter().map(|it| &it.name[..]).collect();
                let (shown, hint) = (show(name), hint(name, &names));
                let sentence = format!("no watch is called \"{shown}\": {hint}");
                self.fail(&node.at, &node.join("depends"), sentence);
            }
        }
        let mut reached: Vec<&str> = watch.depends.iter().map(String::as_str).collect();
        let mut next = 0;
        while let Some(name) = reached.get(next) {
            next += 1;
            let further = find(name).map_or(&[][..], |found| &found.depends[..]);
            for name in further {
                if !reached.contains(&name.as_str()) {
                    reached.push(name);
                }
            }
        }
        if reached.contains(&watch.name.as_str()) {
            let sentence = "this watch depends on itself: leave one of the names out";
            self.fail(&node.at, &node.join("depends"), sentence);
        }
    }

    fn watch(&mut self, node: &Node<'_, '_>) -> Option<WatchConfig> {
        let known: Vec<&str> = KEYS.into_iter().chain(SIGNS).collect();
        self.refuse_unknown(node, &known[..]);
        let name = self.parsed(node, "name", |text| {
            let is_legal = |it: char| it.is_ascii_alphanumeric() || "-_.".contains(it);
            match !text.is_empty() && text.len() <= 64 && text.chars().all(is_legal) {
                true => Ok(text.to_owned()),
                false => Err("write up to 64 letters, digits, '-', '_' and '.'".to_owned()),
            }
        });
        if node.get("name").is_none() {
            let sentence = "this watch needs a name: write name = \"NAME\"";
            self.fail(&node.at, &node.join("name"), sentence);
        }
        let start = node.get("start").and_then(|it| self.command(&it));
        let found: Vec<&str> = SIGNS
            .into_iter()
            .filter(|it| node.get(it).is_some())
            .collect();
        let sign = match found[..] {
            [key] => self.sign(node, key, start.is_some()),
            _ => {
                let sentence = format!(
                    "this watch needs one sign of life: write one of {}",
                    SIGNS.join(", ")
                );
                self.fail(&node.at, &node.key, sentence);
                None
            }
        };
        let mut watch = WatchConfig::new(name?, sign?);
        watch.expect |= start.is_some();
        watch.start = start;
        watch.actions = self.commands(node, "action");
        watch.escalate = node.get("escalate").and_then(|it| self.command(&it));
        watch.webhook = self.parsed(node, "webhook", Url::parse);
        watch.depends = self.texts(node, "depends").unwrap_or_default();
        watch.expect = self.flag(node, "expect").unwrap_or(watch.expect);
        self.times(node, &mut watch);
        watch.backoff = self.backoff(node);
        Some(watch)
    }

    fn times(&mut self, node: &Node<'_, '_>, watch: &mut WatchConfig) {
        for (key, time) in [
            ("action_timeout", &mut watch.action_timeout),
            ("after", &mut watch.after),
            ("max_window", &mut watch.max_window),
        ] {
            *time = self.time_above_zero(node, key).unwrap_or(*time);
        }
        for (key, time) in [
            ("grace", &mut watch.grace),
            ("stop_timeout", &mut watch.stop_timeout),
        ] {
            *time = self.time(node, key).unwrap_or(*time);
        }
        for (key, number) in [
            ("confirm", &mut watch.confirm),
            ("max_actions", &mut watch.max_actions),
        ] {
            *number = self.number(node, key, 1..=1000).unwrap_or(*number);
        }
    }

    fn backoff(&mut self, watch: &Node<'_, '_>) -> Backoff {
        let mut backoff = Backoff::default();
        let remedy = "write backoff = { first = \"10s\", factor = 2, max = \"10m\" }";
        let Some(node) = self.table(watch, "backoff", remedy) else {
            return backoff;
        };
        self.refuse_unknown(&node, &["factor", "first", "max", "reset_after"]);
        for (key, time) in [
            ("first", &mut backoff.first),
            ("max", &mut backoff.max),
            ("reset_after", &mut backoff.reset_after),
        ] {
            *time = self.time(&node, key).unwrap_or(*time);
        }
        if let Some(factor) = self.number(&node, "factor", 1..=100) {
            backoff.factor = factor;
        }
        if backoff.first > backoff.max {
            let sentence = "first is above max: write a larger max";
            self.fail(&node.at, &node.key, sentence);
        }
        backoff
    }

    fn sign(&mut self, watch: &Node<'_, '_>, key: &str, is_owned: bool) -> Option<SignConfig> {
        let example = match key {
            "absent" => "absent = { proxy = \"queue\", min_peers = 1 }",
            "backlog" => "backlog = { proxy = \"queue\", age = \"10s\" }",
            "broker" => "broker = {}",
            "heartbeat" => "heartbeat = { type = \"heartbeat\" }",
            "process" => "process = { pid_file = \"/run/service.pid\" }",
            "silent" => "silent = { proxy = \"forwarder\" }",
            _ => "stuck = { proxy = \"queue\" }",
        };
        let node = self.table(watch, key, &format!("write {example}"))?;
        let keys: &[&str] = match key {
            "absent" => &["identity", "min_peers", "proxy", "side", "user"],
            "backlog" => &["age", "bytes", "proxy", "side"],
            "broker" => &[],
            "heartbeat" => &["service", "type"],
            "process" => &["pid_file", "unit"],
            "silent" => &["identity", "proxy", "side", "topic"],
            _ => &["proxy", "side"],
        };
        self.refuse_unknown(&node, keys);
        match key {
            "broker" => return Some(SignConfig::Broker),
            "heartbeat" => {
                return Some(SignConfig::Heartbeat {
                    kind: self.text(&node, "type"),
                    service: self.text(&node, "service"),
                });
            }
            "process" => return self.process(&node, is_owned),
            _ => {}
        }
        let proxy = self.text(&node, "proxy");
        if node.get("proxy").is_none() {
            let sentence = format!("name the proxy: write {example}");
            self.fail(&node.at, &node.key, sentence);
        }
        let (proxy, side) = (proxy?, self.side(&node));
        Some(match key {
            "absent" => {
                let min_peers = self.number(&node, "min_peers", 1..=1_000_000).unwrap_or(1);
                SignConfig::Absent(AbsentConfig {
                    identity: self.text(&node, "identity"),
                    min_peers: min_peers.into(),
                    proxy,
                    side: side.unwrap_or(SocketName::Backend),
                    user: self.text(&node, "user"),
                })
            }
            "backlog" => self.backlog(&node, proxy, side)?,
            "silent" => self.silent(&node, proxy, side)?,
            _ => SignConfig::Stuck {
                proxy,
                side: side.unwrap_or(SocketName::Backend),
            },
        })
    }

    fn silent(
        &mut self,
        node: &Node<'_, '_>,
        proxy: String,
        side: Option<SocketName>,
    ) -> Option<SignConfig> {
        let (identity, topic) = (self.text(node, "identity"), self.text(node, "topic"));
        if identity.is_some() && topic.is_some() {
            let sentence = "write identity or topic: the broker counts by one of them";
            self.fail(&node.at, &node.key, sentence);
            return None;
        }
        if topic
            .as_ref()
            .is_some_and(|it| it.len() > TOPIC_COUNT_SIZE_MAX)
        {
            let sentence = format!("write the first {TOPIC_COUNT_SIZE_MAX} bytes of the topic");
            self.fail(&node.at, &node.join("topic"), sentence);
        }
        Some(SignConfig::Silent(SilentConfig {
            identity,
            proxy,
            side,
            topic,
        }))
    }

    fn backlog(
        &mut self,
        node: &Node<'_, '_>,
        proxy: String,
        side: Option<SocketName>,
    ) -> Option<SignConfig> {
        let (age, bytes) = (self.time(node, "age"), self.size(node, "bytes"));
        if node.get("age").is_none() && node.get("bytes").is_none() {
            let sentence = "write a bound: age = \"10s\", or bytes = \"64MiB\"";
            self.fail(&node.at, &node.key, sentence);
            return None;
        }
        Some(SignConfig::Backlog(BacklogConfig {
            age,
            bytes,
            proxy,
            side: side.unwrap_or(SocketName::Backend),
        }))
    }

    fn process(&mut self, node: &Node<'_, '_>, is_owned: bool) -> Option<SignConfig> {
        let file = self.text(node, "pid_file");
        let unit = self.parsed(node, "unit", |text| {
            match text.is_empty() || text.starts_with('-') {
                true => Err("write the name of a unit, such as camera.service".to_owned()),
                false => Ok(text.to_owned()),
            }
        });
        let process = match (file, unit) {
            (Some(file), None) => ProcessConfig::PidFile(file.into()),
            (None, Some(unit)) => ProcessConfig::Unit(unit),
            (None, None) if is_owned => ProcessConfig::Own,
            _ => {
                let sentence = "write pid_file or unit, or start = [\"PROGRAM\"] in the watch";
                self.fail(&node.at, &node.key, sentence);
                return None;
            }
        };
        Some(SignConfig::Process(process))
    }

    fn side(&mut self, node: &Node<'_, '_>) -> Option<SocketName> {
        self.parsed(node, "side", |text| match text {
            "backend" => Ok(SocketName::Backend),
            "frontend" => Ok(SocketName::Frontend),
            _ => Err("write frontend or backend".to_owned()),
        })
    }
}
