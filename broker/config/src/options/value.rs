//! Values of options: numbers, switches, choices, texts and lists.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{OptionError, suggest};
use crate::units::{parse_size, parse_time};

/// The values that an option can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// One of these names.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// Texts; one alone need not be a list. On the command line, commas separate them.
    List,
    /// A whole number.
    Number {
        /// Whether -1 is legal too: "not set", which is the system default for options of the
        /// system.
        is_optional: bool,
        /// Largest legal value, in `unit`.
        max: i64,
        /// Smallest legal value, in `unit`.
        min: i64,
        /// What the number counts.
        unit: Unit,
    },
    /// A text with a maximum size.
    Text {
        /// Its longest length, in bytes.
        size_max: usize,
    },
}

/// The unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Connections.
    Connections,
    /// Files of a recording.
    Files,
    /// Frames of one message.
    Frames,
    /// Whole messages.
    Messages,
    /// Milliseconds.
    Milliseconds,
    /// No unit: the number is a code.
    None,
    /// Keepalive packets.
    Probes,
    /// Seconds.
    Seconds,
    /// Subscriptions.
    Subscriptions,
}

/// The value of an option; displayed as in TOML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// On or off.
    Flag(bool),
    /// Texts in order.
    List(Vec<String>),
    /// A number in the unit of the option; -1 if it is not set.
    Number(i64),
    /// A text, or the name of a choice.
    Text(String),
}

/// A field of [`super::SocketOptions`], as the value of an option.
pub(super) trait Field {
    /// The value of the field.
    fn load(&self) -> Value;

    /// Sets the field to a value of the option's [`ValueKind`]; the error has the remedy.
    fn store(&mut self, value: Value) -> Result<(), String>;
}

/// A type with a name for each of its values.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Every value and its name.
    const ALL: &'static [(&'static str, Self)];
}

/// An element of a list that must parse; the error has the remedy.
pub(super) trait Item: FromStr<Err = String> + fmt::Display {}

impl ValueKind {
    /// A number from `min` to `max`.
    pub const fn number(unit: Unit, min: i64, max: i64) -> Self {
        Self::Number {
            is_optional: false,
            max,
            min,
            unit,
        }
    }

    /// A number from `min` to `max`, or -1 to leave it unset.
    pub(super) const fn optional(unit: Unit, min: i64, max: i64) -> Self {
        Self::Number {
            is_optional: true,
            max,
            min,
            unit,
        }
    }

    /// Parses a value from the command line.
    ///
    /// # Errors
    /// The text is not a value of this kind.
    pub fn parse(&self, text: &str) -> Result<Value, OptionError> {
        let malformed = || OptionError::ValueKind { kind: *self };
        let value = match self {
            Self::Flag => Value::Flag(text.parse().map_err(|_| malformed())?),
            Self::List => Value::List(items(text)),
            Self::Number { unit, .. } => Value::Number(unit.parse(text).ok_or_else(malformed)?),
            Self::Choice(_) | Self::Text { .. } => Value::Text(text.to_owned()),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Checks that a value is of this kind and in range.
    ///
    /// # Errors
    /// It is of another kind, or out of range.
    pub(super) fn check(&self, value: &Value) -> Result<(), OptionError> {
        match (self, value) {
            (Self::Flag, Value::Flag(_)) | (Self::List, Value::List(_)) => Ok(()),
            (Self::Choice(names), Value::Text(name)) if !names.contains(&name.as_str()) => {
                let hint = suggest::hint(name, names);
                let name = name.clone();
                Err(OptionError::Choice { hint, name })
            }
            (Self::Text { size_max }, Value::Text(text)) if text.len() > *size_max => {
                let (size, size_max) = (text.len(), *size_max);
                Err(OptionError::TooLong { size, size_max })
            }
            (Self::Choice(_) | Self::Text { .. }, Value::Text(_)) => Ok(()),
            (
                Self::Number {
                    is_optional,
                    max,
                    min,
                    ..
                },
                Value::Number(number),
            ) => {
                if (*min..=*max).contains(number) || *is_optional && *number == UNSET {
                    return Ok(());
                }
                let (kind, value) = (*self, *number);
                Err(OptionError::Range { kind, value })
            }
            _ => Err(OptionError::ValueKind { kind: *self }),
        }
    }
}

/// Displayed as the object of "write", such as "a whole number of ms".
impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choice(names) => write!(f, "one of {}", names.join(", ")),
            Self::Flag => f.write_str("true or false"),
            Self::List => f.write_str("a list of texts"),
            Self::Number { unit, .. } => match unit {
                Unit::None => f.write_str("a whole number"),
                Unit::Bytes => f.write_str("a number of bytes, or a size such as \"64MiB\""),
                Unit::Milliseconds | Unit::Seconds => {
                    write!(f, "a number of {unit}, or a time such as \"5s\"")
                }
                unit => write!(f, "a whole number of {unit}"),
            },
            Self::Text { .. } => f.write_str("a text"),
        }
    }
}

impl Unit {
    /// Parses a number of this unit: a plain number, or a time or size with its own unit. [`None`]
    /// if the text is neither, or not a whole number of this unit.
    pub fn parse(self, text: &str) -> Option<i64> {
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        let time_of = |unit: Duration| {
            let nanoseconds = parse_time(text, unit)?.as_nanos();
            let whole = nanoseconds.is_multiple_of(unit.as_nanos());
            whole.then(|| (nanoseconds / unit.as_nanos()).try_into().ok())?
        };
        match self {
            Self::Bytes => parse_size(text)?.try_into().ok(),
            Self::Milliseconds => time_of(Duration::from_millis(1)),
            Self::Seconds => time_of(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bytes => "bytes",
            Self::Connections => "connections",
            Self::Files => "files",
            Self::Frames => "frames",
            Self::Messages => "messages",
            Self::Milliseconds => "ms",
            Self::None => "",
            Self::Probes => "probes",
            Self::Seconds => "s",
            Self::Subscriptions => "subscriptions",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::List(texts) => f.debug_list().entries(texts).finish(),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl Field for bool {
    fn load(&self) -> Value {
        Value::Flag(*self)
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        if let Value::Flag(flag) = value {
            *self = flag;
        }
        Ok(())
    }
}

impl Field for u32 {
    fn load(&self) -> Value {
        Value::Number((*self).into())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        // Saturates here and below: the kind has checked the range.
        *self = number(&value).map_or(Self::MAX, |number| number.try_into().unwrap_or(Self::MAX));
        Ok(())
    }
}

impl Field for u64 {
    fn load(&self) -> Value {
        Value::Number((*self).try_into().unwrap_or(i64::MAX))
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        *self = number(&value).unwrap_or(Self::MAX);
        Ok(())
    }
}

/// In milliseconds.
impl Field for Duration {
    fn load(&self) -> Value {
        Value::Number(self.as_millis().try_into().unwrap_or(i64::MAX))
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        *self = number(&value).map_or(Self::MAX, Self::from_millis);
        Ok(())
    }
}

/// In milliseconds; [`None`] is -1.
impl Field for Option<Duration> {
    fn load(&self) -> Value {
        self.map_or(Value::Number(UNSET), |duration| duration.load())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        *self = number(&value).map(Duration::from_millis);
        Ok(())
    }
}

/// [`None`] is -1.
impl Field for Option<u32> {
    fn load(&self) -> Value {
        self.map_or(Value::Number(UNSET), |number| number.load())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        *self = number(&value).map(|number| number.try_into().unwrap_or(u32::MAX));
        Ok(())
    }
}

/// As in libzmq: 1, 0, or -1 for [`None`].
impl Field for Option<bool> {
    fn load(&self) -> Value {
        Value::Number(self.map_or(UNSET, i64::from))
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        *self = number(&value).map(|number| number != 0);
        Ok(())
    }
}

impl Field for String {
    fn load(&self) -> Value {
        Value::Text(self.clone())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        if let Value::Text(text) = value {
            *self = text;
        }
        Ok(())
    }
}

impl Field for Vec<String> {
    fn load(&self) -> Value {
        Value::List(self.clone())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        if let Value::List(texts) = value {
            *self = texts;
        }
        Ok(())
    }
}

impl<T: Item> Field for Vec<T> {
    fn load(&self) -> Value {
        Value::List(self.iter().map(ToString::to_string).collect())
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        if let Value::List(texts) = value {
            *self = texts
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?;
        }
        Ok(())
    }
}

impl<T: Choice> Field for T {
    fn load(&self) -> Value {
        let name = T::ALL.iter().find(|(_, value)| value == self);
        Value::Text(name.map_or_else(String::new, |(name, _)| (*name).to_owned()))
    }

    fn store(&mut self, value: Value) -> Result<(), String> {
        if let Value::Text(text) = value
            && let Some((_, chosen)) = T::ALL.iter().find(|(name, _)| *name == text)
        {
            *self = *chosen;
        }
        Ok(())
    }
}

/// The number, unless it is -1.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => (*number).try_into().ok(),
        _ => None,
    }
}

/// The remedy for a number that is out of range.
pub(super) fn range(kind: &ValueKind) -> String {
    let ValueKind::Number {
        is_optional,
        max,
        min,
        unit,
    } = kind
    else {
        return format!("write {kind}");
    };
    let of = match unit {
        Unit::None => String::new(),
        unit => format!(" of {unit}"),
    };
    let or = if *is_optional { ", or -1" } else { "" };
    format!("write a number{of} from {min} to {max}{or}")
}

/// The texts of a list on the command line.
fn items(text: &str) -> Vec<String> {
    let items = text.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The longest time, in milliseconds: libzmq's `int`, 24 days.
pub const TIME_MS_MAX: u64 = 0x7FFF_FFFF;

/// [`TIME_MS_MAX`] in the type of the table.
pub(super) const TIME_MAX: i64 = 0x7FFF_FFFF;

/// The value of an option that is not set, as in libzmq.
const UNSET: i64 = -1;
