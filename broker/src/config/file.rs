//! TOML text to [`Config`].
//!
//! The text is read as a tree with positions and walked by hand: the keys of options come from the
//! table of options, and every complaint names its line, its key and what to write instead.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    Attach, CaptureConfig, CaptureFormat, Config, Connect, ControlConfig, Endpoint, Kind, Place,
    Problem, ProxyConfig, SocketConfig, SocketName, SocketOption, SocketOptions, TIME_MS_MAX,
    Value as OptionValue, ValueKind, socket, suggest,
};
use crate::limits::CONFIG_SIZE_MAX;
use crate::record::RecordConfig;
use zmtp::{SocketType, show};

/// A configuration text that means nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The name of the file, as it was given.
    pub file: String,
    /// The key, dotted from the top; empty if it is about the whole text.
    pub key: String,
    /// The line, counted from one; zero if it is about the whole text.
    pub line: usize,
    /// What is wrong and what to do.
    pub sentence: String,
}

impl Config {
    /// The text that [`Config::embedded_default`] is read from.
    pub const DEFAULT_TOML: &str = include_str!("default.toml");

    /// Reads a configuration; `file` is only a name for messages.
    ///
    /// # Errors
    /// The text is larger than [`CONFIG_SIZE_MAX`], is not TOML, has unknown keys or wrong values,
    /// or [`Config::check`] objects.
    pub fn from_toml(text: &str, file: &str) -> Result<Self, ConfigError> {
        if text.len() > CONFIG_SIZE_MAX {
            return Err(ConfigError::too_large(file));
        }
        let mut reader = Reader { places: Vec::new() };
        reader.config(text).map_err(|error| ConfigError {
            file: file.to_owned(),
            line: error.at.map_or(0, |at| line(text, at.start)),
            key: error.key,
            sentence: error.sentence,
        })
    }

    /// One proxy of each kind on the loopback interface.
    ///
    /// # Panics
    /// Never: the text is part of the program, and tested.
    #[must_use]
    pub fn embedded_default() -> Self {
        Self::from_toml(Self::DEFAULT_TOML, "default.toml").expect("the embedded file is legal")
    }
}

impl ConfigError {
    /// A file of more than [`CONFIG_SIZE_MAX`] bytes, which need not have been read.
    #[must_use]
    pub fn too_large(file: &str) -> Self {
        let sentence = format!(
            "this file has more than {CONFIG_SIZE_MAX} bytes: divide it among several zmqd"
        );
        Self {
            file: file.to_owned(),
            key: String::new(),
            line: 0,
            sentence,
        }
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        show(&self.file).up_to(FILE_LEN_MAX).fmt(f)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.sentence)
    }
}

impl std::error::Error for ConfigError {}

/// Characters of the name of a file that an error shows.
const FILE_LEN_MAX: usize = 1024;

/// Walks the tree; remembers where in the text things stood, for [`Config::check`].
struct Reader {
    places: Vec<(Place, Node)>,
}

/// Where a value stands: its key, dotted from the top, and its bytes in the text.
#[derive(Clone)]
struct Node {
    at: Range<usize>,
    key: String,
}

struct Fail {
    at: Option<Range<usize>>,
    key: String,
    sentence: String,
}

type Value<'t> = Spanned<DeValue<'t>>;

impl Reader {
    fn config(&mut self, text: &str) -> Result<Config, Fail> {
        let root = DeTable::parse(text).map_err(|error| Fail {
            at: error.span(),
            key: String::new(),
            sentence: not_toml(error.message()),
        })?;
        let root_node = Node {
            at: root.span(),
            key: String::new(),
        };
        let table = root.get_ref();
        let keys = ["drain_timeout", "memory_limit", "options", "proxy"];
        refuse_unknown(table, &root_node, &keys)?;

        let mut config = Config::default();
        if let Some((value, node)) = get(table, &root_node, "drain_timeout") {
            config.drain_timeout = read_duration(value, &node)?;
        }
        if let Some((value, node)) = get(table, &root_node, "memory_limit") {
            config.memory_limit = read_size(value, &node)?;
        }
        let mut options = SocketOptions::default();
        if let Some((value, node)) = get(table, &root_node, "options") {
            let option_table = as_table(value, &node)?;
            refuse_unknown(option_table, &node, &SocketOption::names())?;
            read_options(option_table, &node, &mut options)?;
            options.check().map_err(|error| node.fail(error))?;
        }
        if let Some((value, node)) = get(table, &root_node, "proxy") {
            let DeValue::Array(tables) = value.get_ref() else {
                return Err(node.fail("write [[proxy]], in two brackets: there may be several"));
            };
            for (index, item) in tables.iter().enumerate() {
                let item_node = Node {
                    at: item.span(),
                    key: node.key.clone(),
                };
                config
                    .proxies
                    .push(self.proxy(item, &item_node, index, &options)?);
            }
        }
        name_the_nameless(&mut config.proxies);
        config.check().map_err(|problem| self.locate(&problem))?;
        Ok(config)
    }

    fn proxy(
        &mut self,
        value: &Value<'_>,
        node: &Node,
        index: usize,
        options: &SocketOptions,
    ) -> Result<ProxyConfig, Fail> {
        let table = as_table(value, node)?;
        for option in SocketOption::names() {
            if let Some((_, option_node)) = get(table, node, option) {
                return Err(option_node.fail(
                    "options belong to a side, in [proxy.frontend] or [proxy.backend], or to all, \
                     in [options]",
                ));
            }
        }
        let keys = [
            "backend", "capture", "control", "frontend", "kind", "name", "record",
        ];
        refuse_unknown(table, node, &keys)?;
        let kind = read_kind(table, node)?;
        let mut name = String::new();
        self.places.push((Place::Name(index), node.clone()));
        if let Some((value, name_node)) = get(table, node, "name") {
            as_text(value, &name_node)?.clone_into(&mut name);
            if name.is_empty() {
                return Err(name_node.fail("a name cannot be empty: leave it out, or write one"));
            }
            self.places.push((Place::Name(index), name_node));
        }
        let mut proxy = ProxyConfig::new(kind, name);
        for side in SocketName::ALL {
            *proxy.socket_mut(side) = self.socket(table, node, (index, side), options)?;
        }
        self.auxiliary(table, node, index, &mut proxy)?;
        proxy.record = read_record(table, node)?;
        Ok(proxy)
    }

    /// What auxiliary sockets have besides endpoints and options.
    fn auxiliary(
        &mut self,
        table: &DeTable<'_>,
        node: &Node,
        index: usize,
        proxy: &mut ProxyConfig,
    ) -> Result<(), Fail> {
        for side in [SocketName::Capture, SocketName::Control] {
            if let Some((socket, socket_node)) = read_socket(table, node, side)? {
                match side {
                    SocketName::Capture => proxy.capture.socket_type = socket,
                    _ => proxy.control.socket_type = socket,
                }
                self.places
                    .push((Place::SocketType(index, side), socket_node));
            }
        }
        let Some((value, capture_node)) = get(table, node, SocketName::Capture.name()) else {
            return Ok(());
        };
        let capture = as_table(value, &capture_node)?;
        if let Some((value, format_node)) = get(capture, &capture_node, "format") {
            let name = as_text(value, &format_node)?;
            proxy.capture.format = CaptureFormat::from_name(name).ok_or_else(|| {
                let hint = suggest::hint(name, &CaptureFormat::ALL.map(CaptureFormat::name));
                let name = show(name);
                format_node.fail(format!("unknown format \"{name}\": {hint}"))
            })?;
        }
        let prefixes = [
            ("in_prefix", &mut proxy.capture.in_prefix),
            ("out_prefix", &mut proxy.capture.out_prefix),
        ];
        for (key, prefix) in prefixes {
            if let Some((value, prefix_node)) = get(capture, &capture_node, key) {
                as_text(value, &prefix_node)?.clone_into(prefix);
                self.places.push((Place::CapturePrefix(index), prefix_node));
            }
        }
        Ok(())
    }

    fn socket(
        &mut self,
        proxy: &DeTable<'_>,
        proxy_node: &Node,
        (index, side): (usize, SocketName),
        options: &SocketOptions,
    ) -> Result<SocketConfig, Fail> {
        let socket = match (side, read_socket(proxy, proxy_node, side)?) {
            (_, Some((socket, _))) => socket,
            (SocketName::Control, None) => ControlConfig::default().socket_type,
            (_, None) => CaptureConfig::default().socket_type,
        };
        let mut config = SocketConfig {
            options: options.shared_with(side, socket),
            ..SocketConfig::default()
        };
        let Some((value, node)) = get(proxy, proxy_node, side.name()) else {
            self.places
                .push((Place::Socket(index, side), proxy_node.join(side.name())));
            return Ok(config);
        };
        self.places.push((Place::Socket(index, side), node.clone()));
        let table = as_table(value, &node)?;
        let mut keys = vec!["bind", "connect", "socket"];
        if side == SocketName::Capture {
            keys.extend(["format", "in_prefix", "out_prefix"]);
        }
        keys.extend(SocketOption::names());
        refuse_unknown(table, &node, &keys)?;
        if let Some((value, bind_node)) = get(table, &node, "bind") {
            for (nth, (item, item_node)) in items(value, &bind_node).enumerate() {
                let endpoint = read_endpoint(item, &item_node, Attach::Bind)?;
                config.bind.push(endpoint);
                self.places.push((Place::Bind(index, side, nth), item_node));
            }
        }
        if let Some((value, connect_node)) = get(table, &node, "connect") {
            for (nth, (item, item_node)) in items(value, &connect_node).enumerate() {
                config.connect.push(read_connect(item, &item_node)?);
                let place = Place::Connect(index, side, nth);
                self.places.push((place, item_node));
            }
        }
        read_options(table, &node, &mut config.options)?;
        Ok(config)
    }

    /// The latest note about the place of a problem is the closest.
    fn locate(&self, problem: &Problem) -> Fail {
        match self
            .places
            .iter()
            .rev()
            .find(|(place, _)| *place == problem.place)
        {
            Some((_, node)) => node.fail(problem),
            None => Fail {
                at: None,
                key: String::new(),
                sentence: problem.to_string(),
            },
        }
    }
}

impl Node {
    fn join(&self, key: &str) -> Self {
        let path = if self.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.key)
        };
        Self {
            at: self.at.clone(),
            key: path,
        }
    }

    fn fail(&self, sentence: impl ToString) -> Fail {
        Fail {
            at: Some(self.at.clone()),
            key: self.key.clone(),
            sentence: sentence.to_string(),
        }
    }
}

fn get<'a, 't>(table: &'a DeTable<'t>, node: &Node, key: &str) -> Option<(&'a Value<'t>, Node)> {
    let (spanned, value) = table.get_key_value(key)?;
    Some((
        value,
        Node {
            at: spanned.span(),
            ..node.join(key)
        },
    ))
}

/// Refuses the first key in the text that is not among `known`.
fn refuse_unknown(table: &DeTable<'_>, node: &Node, known: &[&str]) -> Result<(), Fail> {
    let unknown = table
        .keys()
        .filter(|key| !known.contains(&key.get_ref().as_ref()));
    match unknown.min_by_key(|key| key.span().start) {
        None => Ok(()),
        Some(key) => {
            let name = key.get_ref();
            let hint = suggest::hint(name, known);
            let unknown_node = Node {
                at: key.span(),
                ..node.join(&show(name.as_ref()).to_string())
            };
            Err(unknown_node.fail(format!("unknown key: {hint}")))
        }
    }
}

/// A proxy has a `kind`, or a `socket` on each side, or one on the frontend alone.
fn read_kind(proxy: &DeTable<'_>, node: &Node) -> Result<Kind, Fail> {
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name).collect();
    let frontend = read_socket(proxy, node, SocketName::Frontend)?;
    let backend = read_socket(proxy, node, SocketName::Backend)?;
    let kind = get(proxy, node, "kind");
    match (kind, frontend, backend) {
        (Some((_, kind_node)), Some(_), _) | (Some((_, kind_node)), _, Some(_)) => {
            Err(kind_node.fail("the sides say their sockets: leave the kind out, or the sockets"))
        }
        (Some((value, kind_node)), None, None) => {
            let name = as_text(value, &kind_node)?;
            Kind::from_name(name).ok_or_else(|| {
                let (name, hint) = (show(name), suggest::hint(name, &names));
                kind_node.fail(format!("unknown kind \"{name}\": {hint}"))
            })
        }
        (None, Some((frontend, _)), Some((backend, backend_node))) => {
            Kind::pair(frontend, backend).map_err(|error| backend_node.fail(error))
        }
        (None, Some((frontend, frontend_node)), None) => {
            Kind::echo(frontend).map_err(|error| frontend_node.fail(error))
        }
        (None, None, Some((_, backend_node))) => {
            Err(backend_node.fail("the frontend needs a socket too"))
        }
        (None, None, None) => {
            let choice = names.join(", ");
            let missing =
                format!("this proxy needs a kind: write one of {choice}, or a socket on each side");
            Err(node.join("kind").fail(missing))
        }
    }
}

fn read_socket(
    proxy: &DeTable<'_>,
    node: &Node,
    side: SocketName,
) -> Result<Option<(SocketType, Node)>, Fail> {
    let Some((value, side_node)) = get(proxy, node, side.name()) else {
        return Ok(None);
    };
    let table = as_table(value, &side_node)?;
    let Some((value, socket_node)) = get(table, &side_node, "socket") else {
        return Ok(None);
    };
    let found = socket(as_text(value, &socket_node)?);
    Ok(Some((
        found.map_err(|error| socket_node.fail(error))?,
        socket_node,
    )))
}

fn read_options(table: &DeTable<'_>, node: &Node, options: &mut SocketOptions) -> Result<(), Fail> {
    for option in SocketOption::ALL {
        if let Some((value, option_node)) = get(table, node, option.name) {
            let read = read_value(value, &option_node, option)?;
            option
                .set(options, read)
                .map_err(|error| option_node.fail(error))?;
        }
    }
    Ok(())
}

/// Reads a value of the type that the option wants; the option itself says whether it is legal.
fn read_value(value: &Value<'_>, node: &Node, option: &SocketOption) -> Result<OptionValue, Fail> {
    let (kind, found) = (option.kind, value.get_ref());
    let of_other_type = || {
        let found = found.type_str();
        node.fail(format!("write {kind}: this is of type {found}"))
    };
    let text = |item: &Value<'_>| match item.get_ref() {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        _ => Err(of_other_type()),
    };
    match (kind, found) {
        (ValueKind::Flag, DeValue::Boolean(flag)) => Ok(OptionValue::Flag(*flag)),
        (ValueKind::Number { .. }, DeValue::Integer(integer)) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            let number = number.map_err(|_| {
                node.fail(format!(
                    "{} is out of range: write {kind}",
                    show(integer.as_str())
                ))
            })?;
            Ok(OptionValue::Number(number))
        }
        (ValueKind::Choice(_) | ValueKind::Text { .. }, _) => Ok(OptionValue::Text(text(value)?)),
        (ValueKind::List, DeValue::Array(items)) => {
            let texts: Result<_, _> = items.iter().map(text).collect();
            Ok(OptionValue::List(texts?))
        }
        (ValueKind::List, _) => Ok(OptionValue::List(vec![text(value)?])),
        _ => Err(of_other_type()),
    }
}

/// One value or a list of them, each with its place.
fn items<'a, 't>(value: &'a Value<'t>, node: &Node) -> impl Iterator<Item = (&'a Value<'t>, Node)> {
    let items = match value.get_ref() {
        DeValue::Array(items) => items.iter().collect(),
        _ => vec![value],
    };
    let node = node.clone();
    items.into_iter().map(move |item| {
        let item_node = Node {
            at: item.span(),
            ..node.clone()
        };
        (item, item_node)
    })
}

fn read_endpoint(value: &Value<'_>, node: &Node, attach: Attach) -> Result<Endpoint, Fail> {
    let DeValue::String(text) = value.get_ref() else {
        return Err(node.fail(format!(
            "write an endpoint such as \"tcp://127.0.0.1:5559\", or a list of them: this is of \
             type {}",
            value.get_ref().type_str()
        )));
    };
    if text.starts_with(['@', '>']) {
        return Err(
            node.fail("the key says already whether to bind or to connect: leave out the @ or >")
        );
    }
    let endpoint = match attach {
        Attach::Bind => Endpoint::parse_bind(text),
        Attach::Connect => Endpoint::parse_connect(text),
    };
    endpoint.map_err(|error| node.fail(error))
}

/// Reads an endpoint to connect to, or a table of it and what may be subscribed to there.
fn read_connect(value: &Value<'_>, node: &Node) -> Result<Connect, Fail> {
    let DeValue::Table(table) = value.get_ref() else {
        return Ok(read_endpoint(value, node, Attach::Connect)?.into());
    };
    refuse_unknown(table, node, &["endpoint", SUBSCRIBE])?;
    let Some((value, endpoint_node)) = get(table, node, "endpoint") else {
        return Err(node.fail("this table needs an endpoint: { endpoint = \"tcp://host:5562\" }"));
    };
    let mut connect = Connect::from(read_endpoint(value, &endpoint_node, Attach::Connect)?);
    if let Some((value, topics_node)) = get(table, node, SUBSCRIBE) {
        // It means what it means for a whole side.
        let option = SocketOption::find(SUBSCRIBE).map_err(|error| topics_node.fail(error))?;
        let mut options = SocketOptions::default();
        option
            .set(&mut options, read_value(value, &topics_node, option)?)
            .map_err(|error| topics_node.fail(error))?;
        connect.subscribe = options.subscribe;
    }
    Ok(connect)
}

/// The key of the topics of one connection, which is that of a whole side too.
const SUBSCRIBE: &str = "subscribe";

/// A recording is a file, or a table that says how much of it is kept.
fn read_record(proxy: &DeTable<'_>, node: &Node) -> Result<Option<RecordConfig>, Fail> {
    let Some((value, record_node)) = get(proxy, node, "record") else {
        return Ok(None);
    };
    if let DeValue::String(path) = value.get_ref() {
        return Ok(Some(RecordConfig::new(path.as_ref())));
    }
    let table = as_table(value, &record_node)?;
    let keys = [
        "age_max",
        "buffer_size_max",
        "file_size_max",
        "files_max",
        "path",
    ];
    refuse_unknown(table, &record_node, &keys)?;
    let Some((value, path_node)) = get(table, &record_node, "path") else {
        return Err(record_node.fail("a recording needs a path: write path = \"FILE\""));
    };
    let mut record = RecordConfig::new(as_text(value, &path_node)?);
    if let Some((value, node)) = get(table, &record_node, "age_max") {
        record.age_max = Some(read_duration(value, &node)?).filter(|age| !age.is_zero());
    }
    if let Some((value, node)) = get(table, &record_node, "buffer_size_max") {
        record.buffer_size_max = read_size(value, &node)?;
    }
    if let Some((value, node)) = get(table, &record_node, "file_size_max") {
        record.file_size_max = read_size(value, &node)?;
    }
    if let Some((value, node)) = get(table, &record_node, "files_max") {
        let files = read_number(value, &node, "files", u64::from(u32::MAX))?;
        record.files_max = u32::try_from(files).unwrap_or(u32::MAX);
    }
    Ok(Some(record))
}

fn read_duration(value: &Value<'_>, node: &Node) -> Result<Duration, Fail> {
    read_number(value, node, "ms", TIME_MS_MAX).map(Duration::from_millis)
}

fn read_size(value: &Value<'_>, node: &Node) -> Result<u64, Fail> {
    read_number(value, node, "bytes", i64::MAX.unsigned_abs())
}

fn read_number(value: &Value<'_>, node: &Node, unit: &str, max: u64) -> Result<u64, Fail> {
    let DeValue::Integer(integer) = value.get_ref() else {
        let found = value.get_ref().type_str();
        return Err(node.fail(format!(
            "write a whole number of {unit}: this is of type {found}"
        )));
    };
    match u64::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(node.fail(format!(
            "{} is out of range: write a number of {unit} from 0 to {max}",
            show(integer.as_str())
        ))),
    }
}

fn as_table<'a, 't>(value: &'a Value<'t>, node: &Node) -> Result<&'a DeTable<'t>, Fail> {
    match value.get_ref() {
        DeValue::Table(table) => Ok(table),
        other => Err(node.fail(format!(
            "this must be a table, it is of type {}",
            other.type_str()
        ))),
    }
}

fn as_text<'a>(value: &'a Value<'_>, node: &Node) -> Result<&'a str, Fail> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        other => Err(node.fail(format!(
            "write a text in quotes: this is of type {}",
            other.type_str()
        ))),
    }
}

/// Calls each proxy without a name by its kind, with a number if that is taken.
fn name_the_nameless(proxies: &mut [ProxyConfig]) {
    let mut taken: HashSet<String> = proxies.iter().map(|proxy| proxy.name.clone()).collect();
    // The number that each kind has come to; those below it are taken.
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

fn not_toml(message: &str) -> String {
    let message = message.replace('\n', ", ");
    format!(
        "this is not TOML: {}",
        show(&message).up_to(MESSAGE_LEN_MAX)
    )
}

/// Characters of what the TOML parser says that an error shows.
const MESSAGE_LEN_MAX: usize = 300;

fn line(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
