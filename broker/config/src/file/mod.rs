//! TOML text to [`Config`].
//!
//! The text is parsed to a tree with positions, which is read by hand: the keys of options come
//! from the table of options, and each error has its line, its key and the remedy. Reading
//! continues after an error, so that one run reports all errors.

use std::collections::{HashMap, HashSet};

use toml::de::{DeTable, DeValue, Error};
use zmtp::{SocketType, show};

use self::error::{Fail, Fails, Node};
use self::value::{
    Value, as_table, as_text, get, items, read_endpoint, read_number, read_size, read_time,
    read_value,
};
use super::{
    Attach, BrokerControl, CaptureConfig, CaptureFormat, Config, Connect, ControlConfig, Fault,
    Kind, Place, Problem, ProxyConfig, SocketConfig, SocketName, SocketOption, SocketOptions, Unit,
    socket, suggest,
};
use crate::RecordConfig;
use crate::limits::CONFIG_SIZE_MAX;

mod error;
mod http;
mod retained;
mod role;
mod value;

pub use error::{ConfigError, ConfigErrors};

impl Config {
    /// The text for [`Config::embedded_default`].
    pub const DEFAULT_TOML: &str = include_str!("../default.toml");

    /// Reads a configuration; `file` is only its name for messages.
    ///
    /// # Errors
    /// All errors: the text is larger than [`CONFIG_SIZE_MAX`], is not TOML, has unknown keys or
    /// wrong values, or [`Config::problems`] finds problems.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        if text.len() > CONFIG_SIZE_MAX {
            return Err(ConfigErrors::too_large(file));
        }
        let mut reader = Reader::default();
        let config = reader.config(text);
        if reader.fails.is_empty() {
            return Ok(config);
        }
        Err(ConfigErrors::new(reader.fails, text, file))
    }

    /// One proxy of each kind on the loopback interface.
    ///
    /// # Panics
    /// Never: the text is part of the program and tested.
    #[must_use]
    pub fn embedded_default() -> Self {
        Self::from_toml(Self::DEFAULT_TOML, "default.toml").expect("the embedded file is legal")
    }
}

/// Reads the tree; collects errors, and remembers places in the text for [`Config::problems`].
#[derive(Default)]
struct Reader {
    /// Proxies with errors in their text, which are incomplete.
    broken: HashSet<usize>,
    fails: Fails,
    /// The number of errors found, kept or dropped.
    fail_count: u64,
    places: Vec<(Place, Node)>,
}

/// The socket types in the text for the sockets of one proxy, by [`SocketName`].
type SocketTypes = [Option<(SocketType, Node)>; SocketName::ALL.len()];

impl Reader {
    fn config(&mut self, text: &str) -> Config {
        let mut config = Config::default();
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            self.fail(not_toml(error));
        }
        if !errors.is_empty() {
            // The rest of the tree would be a guess, and so would its errors.
            return config;
        }
        let node = Node {
            at: root.span(),
            key: String::new(),
        };
        let table = root.get_ref();
        self.refuse_unknown(
            table,
            &node,
            &[
                BROKER_CONTROL,
                "drain_timeout",
                "http",
                "http_hosts",
                "http_samples",
                "http_token_file",
                INSECURE,
                "memory_limit",
                "options",
                "proxy",
                "role",
                "users",
                WATCHES[0],
                WATCHES[1],
            ],
        );
        if let Some((value, node)) = get(table, &node, BROKER_CONTROL) {
            let control = as_text(value, &node)
                .and_then(|text| BrokerControl::from_text(text).map_err(|fault| node.fail(fault)));
            config.broker_control = self.keep(control).unwrap_or_default();
        }
        if let Some((value, node)) = get(table, &node, "drain_timeout")
            && let Some(timeout) = self.keep(read_time(value, &node))
        {
            config.drain_timeout = timeout;
        }
        if let Some((value, node)) = get(table, &node, "memory_limit")
            && let Some(limit) = self.keep(read_size(value, &node))
        {
            config.memory_limit = limit;
        }
        self.http(table, &node, &mut config.http);
        let options = self.shared_options(table, &node);
        self.roles(table, &node, &mut config);
        let is_shared_broken = self.fail_count > 0;
        self.proxies(table, &node, &options, &mut config.proxies);
        if is_shared_broken {
            self.broken.extend(0..config.proxies.len());
        }
        name_the_nameless(&mut config.proxies);
        let unread = config.load_keys().err().unwrap_or_default();
        let mut problems = config.problems();
        problems.retain(|problem| problem.fault != Fault::KeysNotLoaded);
        problems.extend(config.unknown_proxies());
        for problem in unread.into_iter().chain(problems) {
            if self.is_certain(&problem) {
                self.fail(self.locate(&problem));
            }
        }
        config
    }

    /// The options of all sockets. For one of them the root has a key too.
    fn shared_options(&mut self, root: &DeTable<'_>, root_node: &Node) -> SocketOptions {
        let mut options = SocketOptions::default();
        self.option(INSECURE, root, root_node, &mut options);
        let Some((value, node)) = get(root, root_node, "options") else {
            return options;
        };
        let instead = || "write options.KEY = VALUE, or a table [options]".to_owned();
        let Some(table) = self.keep(as_table(value, &node, instead)) else {
            return options;
        };
        let before = self.fail_count;
        self.refuse_unknown(table, &node, &SocketOption::names());
        self.options(table, &node, &mut options);
        if self.fail_count == before {
            for contradiction in options.contradictions() {
                self.fail(node.fail(contradiction));
            }
        }
        options
    }

    fn proxies(
        &mut self,
        root: &DeTable<'_>,
        root_node: &Node,
        options: &SocketOptions,
        proxies: &mut Vec<ProxyConfig>,
    ) {
        let Some((value, node)) = get(root, root_node, "proxy") else {
            return;
        };
        let DeValue::Array(tables) = value.get_ref() else {
            let fail = node.fail("write [[proxy]] in double brackets: a file may have several");
            return self.fail(fail);
        };
        for (index, item) in tables.iter().enumerate() {
            let item_node = Node {
                at: item.span(),
                key: node.key.clone(),
            };
            let before = self.fail_count;
            proxies.push(self.proxy(item, &item_node, index, options));
            if self.fail_count > before {
                self.broken.insert(index);
            }
        }
    }

    /// Reads a proxy. One with errors is incomplete, but counts, so that the numbers of others stay
    /// correct.
    fn proxy(
        &mut self,
        value: &Value<'_>,
        node: &Node,
        index: usize,
        options: &SocketOptions,
    ) -> ProxyConfig {
        self.places.push((Place::Name(index), node.clone()));
        let instead = || "write [[proxy]], and the keys of the proxy below it".to_owned();
        let Some(table) = self.keep(as_table(value, node, instead)) else {
            return ProxyConfig::new(Kind::ALL[0], "");
        };
        let misplaced = SocketOption::names();
        for option in &misplaced {
            if let Some((_, option_node)) = get(table, node, option) {
                self.fail(option_node.fail(
                    "options belong to one side, in [proxy.frontend] or [proxy.backend], or to \
                     all sockets, in [options]",
                ));
            }
        }
        let keys = [
            "backend", "cache", "capture", "control", "frontend", "kind", "name", "record",
            "replay", "zap",
        ];
        self.refuse_unknown_but(table, node, &keys, &misplaced);
        let before = self.fail_count;
        let types = SocketName::ALL.map(|name| self.socket_type(table, node, name));
        let kind = match read_kind(table, node, &types) {
            // A socket type that cannot be read was reported already.
            Err(_) if self.fail_count > before => None,
            kind => self.keep(kind),
        };
        let name = self.name(table, node, index);
        let mut proxy = ProxyConfig::new(kind.unwrap_or(Kind::ALL[0]), name);
        for (name, socket_type) in SocketName::ALL.into_iter().zip(types) {
            let socket_type = socket_type.map(|(socket_type, type_node)| {
                self.places
                    .push((Place::SocketType(index, name), type_node));
                socket_type
            });
            match (name, socket_type) {
                (SocketName::Capture, Some(found)) => proxy.capture.socket_type = found,
                (SocketName::Control, Some(found)) => proxy.control.socket_type = found,
                _ => {}
            }
            *proxy.socket_mut(name) =
                self.socket(table, node, (index, name), (socket_type, options));
        }
        self.capture(table, node, index, &mut proxy.capture);
        proxy.cache = self.cache(table, node, index);
        self.replay(table, node, &mut proxy.replay);
        proxy.record = self.record(table, node);
        proxy
    }

    /// The name of a proxy; empty if it has none.
    fn name(&mut self, proxy: &DeTable<'_>, node: &Node, index: usize) -> String {
        let Some((value, name_node)) = get(proxy, node, "name") else {
            return String::new();
        };
        let name = match as_text(value, &name_node) {
            Ok("") => Err(name_node.fail("a name cannot be empty: leave it out, or write one")),
            name => name,
        };
        self.places.push((Place::Name(index), name_node));
        self.keep(name).unwrap_or_default().to_owned()
    }

    /// Reads the keys of a capture other than endpoints and options.
    fn capture(
        &mut self,
        proxy: &DeTable<'_>,
        node: &Node,
        index: usize,
        capture: &mut CaptureConfig,
    ) {
        let Some((value, node)) = get(proxy, node, SocketName::Capture.name()) else {
            return;
        };
        let DeValue::Table(table) = value.get_ref() else {
            return;
        };
        if let Some((value, format_node)) = get(table, &node, "format") {
            let format = as_text(value, &format_node).and_then(|name| {
                CaptureFormat::from_name(name).ok_or_else(|| {
                    let hint = suggest::hint(name, &CaptureFormat::ALL.map(CaptureFormat::name));
                    let name = show(name);
                    format_node.fail(format!("unknown format \"{name}\": {hint}"))
                })
            });
            capture.format = self.keep(format).unwrap_or_default();
        }
        let prefixes = [
            ("in_prefix", &mut capture.in_prefix),
            ("out_prefix", &mut capture.out_prefix),
        ];
        for (key, prefix) in prefixes {
            if let Some((value, prefix_node)) = get(table, &node, key)
                && let Some(text) = self.keep(as_text(value, &prefix_node))
            {
                text.clone_into(prefix);
                self.places.push((Place::CapturePrefix(index), prefix_node));
            }
        }
    }

    /// Reads endpoints and options of a socket, whose type may be in the text.
    fn socket(
        &mut self,
        proxy: &DeTable<'_>,
        proxy_node: &Node,
        (index, name): (usize, SocketName),
        (socket_type, options): (Option<SocketType>, &SocketOptions),
    ) -> SocketConfig {
        let socket_type = socket_type.unwrap_or_else(|| match name {
            SocketName::Control => ControlConfig::default().socket_type,
            SocketName::Replay => SocketType::Router,
            SocketName::Zap => SocketType::Dealer,
            _ => CaptureConfig::default().socket_type,
        });
        let mut config = SocketConfig {
            options: options.shared_with(name, socket_type),
            ..SocketConfig::default()
        };
        let Some((value, node)) = get(proxy, proxy_node, name.name()) else {
            self.places
                .push((Place::Socket(index, name), proxy_node.join(name.name())));
            return config;
        };
        self.places.push((Place::Socket(index, name), node.clone()));
        let instead = || {
            let endpoint = match value.get_ref() {
                DeValue::String(text) => text,
                _ => "tcp://127.0.0.1:5559",
            };
            format!(
                "write {name}.bind = \"{}\" to listen there, or {name}.connect",
                show(endpoint)
            )
        };
        let Some(table) = self.keep(as_table(value, &node, instead)) else {
            return config;
        };
        let mut keys = vec!["bind", "connect"];
        keys.extend(match name {
            SocketName::Capture => &["format", "in_prefix", "out_prefix", "socket"][..],
            SocketName::Replay => &["bytes", "messages", "sequence"],
            SocketName::Zap => &[],
            _ => &["socket"],
        });
        keys.extend(SocketOption::names());
        self.refuse_unknown(table, &node, &keys);
        if let Some((value, bind_node)) = get(table, &node, "bind") {
            for (item, item_node) in items(value, &bind_node) {
                if let Some(endpoint) = self.keep(read_endpoint(item, &item_node, Attach::Bind)) {
                    let place = Place::Bind(index, name, config.bind.len());
                    self.places.push((place, item_node));
                    config.bind.push(endpoint);
                }
            }
        }
        if let Some((value, connect_node)) = get(table, &node, "connect") {
            for (item, item_node) in items(value, &connect_node) {
                if let Some(connect) = self.connect(item, &item_node) {
                    let place = Place::Connect(index, name, config.connect.len());
                    self.places.push((place, item_node));
                    config.connect.push(connect);
                }
            }
        }
        self.options(table, &node, &mut config.options);
        config
    }

    /// The type of a socket, if it is in the text; the type is checked later.
    fn socket_type(
        &mut self,
        proxy: &DeTable<'_>,
        node: &Node,
        name: SocketName,
    ) -> Option<(SocketType, Node)> {
        let (value, node) = get(proxy, node, name.name())?;
        // Values other than tables are refused with the endpoints and options.
        let DeValue::Table(table) = value.get_ref() else {
            return None;
        };
        let (value, type_node) = get(table, &node, "socket")?;
        let found = as_text(value, &type_node)
            .and_then(|text| socket(text).map_err(|error| type_node.fail(error)));
        Some((self.keep(found)?, type_node))
    }

    /// Reads an endpoint to connect to, or a table with it and its topics.
    fn connect(&mut self, value: &Value<'_>, node: &Node) -> Option<Connect> {
        let DeValue::Table(table) = value.get_ref() else {
            let endpoint = self.keep(read_endpoint(value, node, Attach::Connect))?;
            return Some(endpoint.into());
        };
        self.refuse_unknown(table, node, &["endpoint", SUBSCRIBE]);
        let Some((value, endpoint_node)) = get(table, node, "endpoint") else {
            let missing = "this table needs an endpoint: { endpoint = \"tcp://host:5562\" }";
            self.fail(node.fail(missing));
            return None;
        };
        let endpoint = self.keep(read_endpoint(value, &endpoint_node, Attach::Connect));
        let mut options = SocketOptions::default();
        // The key has the same meaning as for a whole side.
        self.option(SUBSCRIBE, table, node, &mut options);
        Some(Connect {
            endpoint: endpoint?,
            subscribe: options.subscribe,
        })
    }

    fn options(&mut self, table: &DeTable<'_>, node: &Node, options: &mut SocketOptions) {
        for option in SocketOption::ALL {
            self.option(option.name, table, node, options);
        }
    }

    fn option(
        &mut self,
        name: &str,
        table: &DeTable<'_>,
        node: &Node,
        options: &mut SocketOptions,
    ) {
        if let Ok(option) = SocketOption::find(name)
            && let Some((value, option_node)) = get(table, node, name)
        {
            let set = read_value(value, &option_node, option).and_then(|value| {
                let set = option.set(options, value);
                set.map_err(|error| option_node.fail(error))
            });
            self.keep(set);
        }
    }

    /// Reads a recording: a file, or a table with the limits of its files.
    fn record(&mut self, proxy: &DeTable<'_>, node: &Node) -> Option<RecordConfig> {
        let (value, node) = get(proxy, node, "record")?;
        if let DeValue::String(path) = value.get_ref() {
            return Some(RecordConfig::new(path.as_ref()));
        }
        let instead = || "write record = \"FILE\", or a table with a path".to_owned();
        let table = self.keep(as_table(value, &node, instead))?;
        self.refuse_unknown(table, &node, &["age", "buffer", "files", "path", "size"]);
        let Some((value, path_node)) = get(table, &node, "path") else {
            self.fail(node.fail("a recording needs a path: write path = \"FILE\""));
            return None;
        };
        let path = self.keep(as_text(value, &path_node)).unwrap_or_default();
        let mut record = RecordConfig::new(path);
        if let Some((value, node)) = get(table, &node, "age") {
            let age = self.keep(read_age(value, &node));
            record.age_max = age.filter(|age| !age.is_zero());
        }
        for (key, size) in [
            ("buffer", &mut record.buffer_size_max),
            ("size", &mut record.file_size_max),
        ] {
            if let Some((value, node)) = get(table, &node, key)
                && let Some(read) = self.keep(read_size(value, &node))
            {
                *size = read;
            }
        }
        if let Some((value, node)) = get(table, &node, "files") {
            let files = read_number(value, &node, Unit::Files, u64::from(u32::MAX));
            let files = self.keep(files).unwrap_or_default();
            record.files_max = u32::try_from(files).unwrap_or(u32::MAX);
        }
        Some(record)
    }

    fn refuse_unknown(&mut self, table: &DeTable<'_>, node: &Node, known: &[&str]) {
        self.refuse_unknown_but(table, node, known, &[]);
    }

    /// Refuses every key in the text that is not among `known`; `told` were refused already.
    fn refuse_unknown_but(
        &mut self,
        table: &DeTable<'_>,
        node: &Node,
        known: &[&str],
        told: &[&str],
    ) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) || told.contains(&name) {
                continue;
            }
            if self.fails.is_cut() {
                break;
            }
            let new_name = RENAMED
                .iter()
                .find(|(old, new)| *old == name && known.contains(new));
            let hint = match new_name {
                Some((_, new)) => format!("it was renamed to \"{new}\""),
                None => suggest::hint(name, known),
            };
            let unknown_node = Node {
                at: key.span(),
                ..node.join(&show(name).to_string())
            };
            self.fail(unknown_node.fail(format!("unknown key: {hint}")));
        }
    }

    /// Keeps an error, to continue without the value.
    fn keep<T>(&mut self, read: Result<T, Fail>) -> Option<T> {
        read.map_err(|fail| self.fail(fail)).ok()
    }

    fn fail(&mut self, fail: Fail) {
        self.fail_count += 1;
        self.fails.push(fail);
    }

    /// Whether a problem is a problem by itself, not a consequence of an error in the text.
    fn is_certain(&self, problem: &Problem) -> bool {
        match (&problem.fault, problem.place) {
            (Fault::NoProxy, _) => self.fail_count == 0,
            (Fault::NoInproc(_), _) => self.broken.is_empty(),
            (_, Place::Socket(index, _) | Place::SocketType(index, _)) => {
                !self.broken.contains(&index)
            }
            (Fault::NoSubscriber(_), Place::Connect(index, ..))
            | (Fault::Cleartext(_) | Fault::Exposed(_), Place::Bind(index, ..))
            | (Fault::Cleartext(_), Place::Connect(index, ..)) => !self.broken.contains(&index),
            _ => true,
        }
    }

    /// The latest noted place that matches a problem is the closest.
    fn locate(&self, problem: &Problem) -> Fail {
        let mut places = self.places.iter().rev();
        match places.find(|(place, _)| *place == problem.place) {
            Some((_, node)) => node.fail(problem),
            None => Fail {
                at: None,
                key: String::new(),
                sentence: problem.to_string(),
            },
        }
    }
}

/// A proxy has a `kind`, or a `socket` on each side, or one on the frontend alone. The kinds
/// without a row in the table, "proxy" and "echo", need their sockets.
fn read_kind(proxy: &DeTable<'_>, node: &Node, types: &SocketTypes) -> Result<Kind, Fail> {
    let [frontend, backend, ..] = types;
    let kind = get(proxy, node, "kind");
    let name = kind
        .as_ref()
        .map(|(value, kind_node)| as_text(value, kind_node))
        .transpose()?;
    let named = match (&kind, name, frontend, backend) {
        (None, ..) | (_, None, ..) => None,
        (_, Some(PAIR), Some(_), Some(_)) | (_, Some(ECHO), Some(_), None) => None,
        (Some((_, kind_node)), Some(PAIR), ..) => {
            return Err(kind_node.fail(
                "a proxy needs a socket on each side: write frontend.socket = \"PULL\" and \
                 backend.socket = \"PUB\", for example",
            ));
        }
        (Some((_, kind_node)), Some(ECHO), ..) => {
            return Err(kind_node.fail(
                "an echo needs a socket on the frontend alone: write frontend.socket = \"REP\", \
                 for example",
            ));
        }
        (Some((_, kind_node)), Some(name), None, None) => {
            Some(Kind::from_name(name).ok_or_else(|| {
                let (name, hint) = (show(name), suggest::hint(name, &kind_names()));
                kind_node.fail(format!("unknown kind \"{name}\": {hint}"))
            })?)
        }
        (Some((_, kind_node)), Some(_), ..) => {
            return Err(kind_node
                .fail("the sockets determine the kind: leave out the kind, or the sockets"));
        }
    };
    match (named, frontend, backend) {
        (Some(kind), ..) => Ok(kind),
        (None, Some((frontend, _)), Some((backend, backend_node))) => {
            Kind::pair(*frontend, *backend).map_err(|error| backend_node.fail(error))
        }
        (None, Some((frontend, frontend_node)), None) => {
            Kind::echo(*frontend).map_err(|error| frontend_node.fail(error))
        }
        (None, None, Some((_, backend_node))) => {
            Err(backend_node.fail("the frontend needs a socket too"))
        }
        (None, None, None) => {
            let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name).collect();
            let choice = names.join(", ");
            let missing =
                format!("this proxy needs a kind: write one of {choice}, or a socket on each side");
            Err(node.join("kind").fail(missing))
        }
    }
}

/// Every kind that a file can name.
fn kind_names() -> Vec<&'static str> {
    let rows = Kind::ALL.iter().map(|kind| kind.name);
    rows.chain([PAIR, ECHO]).collect()
}

/// Reads the age of a recording. Its unit is required: the command line counts seconds, files count
/// milliseconds.
fn read_age(value: &Value<'_>, node: &Node) -> Result<std::time::Duration, Fail> {
    match value.get_ref() {
        DeValue::Integer(integer) if integer.as_str() != "0" => Err(node.fail(format!(
            "write the unit too: age = \"{0}s\" or age = \"{0}ms\"",
            show(integer.as_str())
        ))),
        _ => read_time(value, node),
    }
}

/// Names each nameless proxy after its kind, with a number if that name is taken.
fn name_the_nameless(proxies: &mut [ProxyConfig]) {
    let mut taken: HashSet<String> = proxies.iter().map(|proxy| proxy.name.clone()).collect();
    // The last number tried for each kind; those below it are taken.
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    for proxy in proxies.iter_mut().filter(|proxy| proxy.name.is_empty()) {
        let kind = proxy.kind.name;
        let number = numbers.entry(kind).or_default();
        proxy.name = loop {
            *number += 1;
            let name = match *number {
                1 => kind.to_owned(),
                number => format!("{kind}{number}"),
            };
            if taken.insert(name.clone()) {
                break name;
            }
        };
    }
}

fn not_toml(error: &Error) -> Fail {
    let message = error.message().replace('\n', ", ");
    Fail {
        at: error.span(),
        key: String::new(),
        sentence: format!(
            "this is not TOML: {}",
            show(&message).up_to(MESSAGE_LEN_MAX)
        ),
    }
}

/// The names of kinds that are not in the table, as `zmqd check` shows them.
const PAIR: &str = "proxy";
const ECHO: &str = "echo";

/// The key of an option that the root of a file may set for all sockets.
const INSECURE: &str = "insecure";

/// The key for the control that answers for all proxies.
const BROKER_CONTROL: &str = "broker_control";

/// The keys of `zmqd watch`, which reads and checks them itself.
const WATCHES: [&str; 2] = ["watch", "watcher"];

/// The key of the topics of one connection, as for a whole side.
const SUBSCRIBE: &str = "subscribe";

/// Keys that were renamed, and their new names.
const RENAMED: &[(&str, &str)] = &[
    ("age_max", "age"),
    ("buffer_size_max", "buffer"),
    ("file_size_max", "size"),
    ("files_max", "files"),
];

/// Characters of a TOML parser's message that an error shows.
const MESSAGE_LEN_MAX: usize = 300;

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
