//! Values of a TOML text, with errors that name the line, the key and the remedy.

use broker::sort;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use broker::config::{ConfigError, Endpoint, hint, parse_size, parse_time};
use toml::de::{DeTable, DeValue};
use zmtp::show;

/// All errors of a file, in the order of the text; displayed one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects errors.
pub(super) struct Reader<'a> {
    errors: Vec<(usize, ConfigError)>,
    file: &'a str,
    text: &'a str,
}

/// A table, and its place in the text.
#[derive(Clone)]
pub(super) struct Node<'a, 't> {
    pub(super) at: Range<usize>,
    pub(super) key: String,
    pub(super) table: &'a DeTable<'t>,
}

/// A value, and its place in the text.
pub(super) struct Found<'a, 't> {
    pub(super) at: Range<usize>,
    pub(super) key: String,
    pub(super) value: &'a DeValue<'t>,
}

/// Most errors that are kept.
const ERRORS_MAX: usize = 100;

/// The longest time: a year. Sums of times cannot overflow.
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, file: &'a str) -> Self {
        Self {
            errors: Vec::new(),
            file,
            text,
        }
    }

    /// The errors so far, in the order of the text.
    pub(super) fn finish(mut self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        sort::by_key(&mut self.errors, |(at, _)| *at);
        let errors = self.errors.into_iter().map(|(_, error)| error);
        Err(ConfigErrors(errors.collect()))
    }

    pub(super) fn fail(&mut self, at: &Range<usize>, key: &str, sentence: impl Into<String>) {
        if self.errors.len() >= ERRORS_MAX {
            return;
        }
        let start = at.start.min(self.text.len());
        let before = self.text.as_bytes().get(..start).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let error = ConfigError {
            file: self.file.to_owned(),
            key: key.to_owned(),
            line,
            sentence: sentence.into(),
        };
        self.errors.push((start, error));
    }

    /// As [`Self::fail`], at the key of a table.
    pub(super) fn fail_at(&mut self, node: &Node<'_, '_>, key: &str, sentence: String) {
        let at = node
            .get(key)
            .map_or_else(|| node.at.clone(), |found| found.at);
        self.fail(&at, &node.join(key), sentence);
    }

    /// Refuses every key that is not among `known`.
    pub(super) fn refuse_unknown(&mut self, node: &Node<'_, '_>, known: &[&str]) {
        for key in node.table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let path = node.join(&show(name).to_string());
                let sentence = format!("unknown key: {}", hint(name, known));
                self.fail(&key.span(), &path, sentence);
            }
        }
    }

    fn refuse_type(&mut self, found: &Found<'_, '_>, remedy: &str) {
        let kind = found.value.type_str();
        self.fail(
            &found.at,
            &found.key,
            format!("{remedy}: this is of type {kind}"),
        );
    }

    /// The table under a key.
    pub(super) fn table<'b, 't>(
        &mut self,
        node: &Node<'b, 't>,
        key: &str,
        remedy: &str,
    ) -> Option<Node<'b, 't>> {
        let found = node.get(key)?;
        let DeValue::Table(table) = found.value else {
            self.refuse_type(&found, remedy);
            return None;
        };
        Some(Node {
            at: found.at,
            key: found.key,
            table,
        })
    }

    pub(super) fn text(&mut self, node: &Node<'_, '_>, key: &str) -> Option<String> {
        let found = node.get(key)?;
        self.as_text(&found).map(str::to_owned)
    }

    fn as_text<'b>(&mut self, found: &Found<'b, '_>) -> Option<&'b str> {
        match found.value {
            DeValue::String(text) => Some(text),
            _ => {
                self.refuse_type(found, "write a text in quotes");
                None
            }
        }
    }

    /// A text that `read` understands.
    pub(super) fn parsed<T>(
        &mut self,
        node: &Node<'_, '_>,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let found = node.get(key)?;
        match read(self.as_text(&found)?) {
            Ok(value) => Some(value),
            Err(sentence) => {
                self.fail(&found.at, &found.key, sentence);
                None
            }
        }
    }

    /// An endpoint to listen on (`binds`) or to connect to.
    pub(super) fn endpoint(
        &mut self,
        node: &Node<'_, '_>,
        key: &str,
        binds: bool,
    ) -> Option<Endpoint> {
        self.parsed(node, key, |text| {
            let endpoint = match binds {
                true => Endpoint::parse_bind(text),
                false => Endpoint::parse_connect(text),
            };
            endpoint.map_err(|error| error.to_string())
        })
    }

    pub(super) fn flag(&mut self, node: &Node<'_, '_>, key: &str) -> Option<bool> {
        let found = node.get(key)?;
        match found.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => {
                self.refuse_type(&found, "write true or false");
                None
            }
        }
    }

    /// A time; a plain number counts milliseconds.
    pub(super) fn time(&mut self, node: &Node<'_, '_>, key: &str) -> Option<Duration> {
        self.quantity(node, key, "a time such as \"30s\"", |text| {
            parse_time(text, Duration::from_millis(1)).filter(|time| *time <= TIME_MAX)
        })
    }

    /// As [`Self::time`], above zero.
    pub(super) fn time_above_zero(&mut self, node: &Node<'_, '_>, key: &str) -> Option<Duration> {
        let time = self.time(node, key)?;
        if time.is_zero() {
            let found = node.get(key)?;
            self.fail(&found.at, &found.key, "write a time above zero");
            return None;
        }
        Some(time)
    }

    /// A size in bytes.
    pub(super) fn size(&mut self, node: &Node<'_, '_>, key: &str) -> Option<u64> {
        self.quantity(node, key, "a size such as \"64KiB\"", parse_size)
    }

    /// A number, or a text with a unit.
    fn quantity<T>(
        &mut self,
        node: &Node<'_, '_>,
        key: &str,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let found = node.get(key)?;
        let text = match found.value {
            DeValue::Integer(integer) => integer.as_str(),
            DeValue::String(text) => text,
            _ => {
                self.refuse_type(&found, &format!("write {what}"));
                return None;
            }
        };
        let quantity = read(text);
        if quantity.is_none() {
            let sentence = format!("cannot read \"{}\": write {what}", show(text));
            self.fail(&found.at, &found.key, sentence);
        }
        quantity
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &mut self,
        node: &Node<'_, '_>,
        key: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let found = node.get(key)?;
        let number = match found.value {
            DeValue::Integer(integer) => {
                u32::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (min, max) = (range.start(), range.end());
            let sentence = format!("write a whole number from {min} to {max}");
            self.fail(&found.at, &found.key, sentence);
        }
        number
    }

    /// One text or a list of them.
    pub(super) fn texts(&mut self, node: &Node<'_, '_>, key: &str) -> Option<Vec<String>> {
        let found = node.get(key)?;
        let mut texts = Vec::new();
        for item in found.items() {
            texts.push(self.as_text(&item)?.to_owned());
        }
        Some(texts)
    }

    /// A program and its arguments as a list of texts.
    pub(super) fn command(&mut self, found: &Found<'_, '_>) -> Option<super::Command> {
        const REMEDY: &str = "write the program and its arguments as a list of texts";
        let DeValue::Array(_) = found.value else {
            self.refuse_type(found, REMEDY);
            return None;
        };
        let mut words = Vec::new();
        for item in found.items() {
            let word = self.as_text(&item)?;
            if word.contains('\0') {
                self.fail(&item.at, &item.key, "an argument has no zero bytes");
                return None;
            }
            words.push(word.to_owned());
        }
        if words.first().is_none_or(String::is_empty) {
            self.fail(&found.at, &found.key, REMEDY);
            return None;
        }
        Some(super::Command(words))
    }

    /// One command, or a list of commands.
    pub(super) fn commands(&mut self, node: &Node<'_, '_>, key: &str) -> Vec<super::Command> {
        let Some(found) = node.get(key) else {
            return Vec::new();
        };
        let is_list = matches!(found.value, DeValue::Array(items)
            if items.iter().any(|item| matches!(item.get_ref(), DeValue::Array(_))));
        if !is_list {
            return self.command(&found).into_iter().collect();
        }
        let items = found.items();
        items.iter().filter_map(|item| self.command(item)).collect()
    }
}

impl<'a, 't> Node<'a, 't> {
    /// The dotted name of a key of this table.
    pub(super) fn join(&self, key: &str) -> String {
        match self.key.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.key),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Found<'a, 't>> {
        let (spanned, value) = self.table.get_key_value(key)?;
        Some(Found {
            at: spanned.span(),
            key: self.join(key),
            value: value.get_ref(),
        })
    }
}

impl Found<'_, '_> {
    /// The items of a list, or the value itself.
    pub(super) fn items(&self) -> Vec<Self> {
        let item = |at, value| Self {
            at,
            key: self.key.clone(),
            value,
        };
        match self.value {
            DeValue::Array(items) => {
                let items = items.iter();
                items.map(|it| item(it.span(), it.get_ref())).collect()
            }
            value => vec![item(self.at.clone(), value)],
        }
    }
}
