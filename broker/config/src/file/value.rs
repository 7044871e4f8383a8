//! Single values of a configuration text: endpoints, options, times, sizes.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zmtp::show;

use super::error::{Fail, Node};
use crate::{Attach, Endpoint, SocketOption, TIME_MS_MAX, Unit, Value as OptionValue, ValueKind};

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The value of a key, and its place.
pub(super) fn get<'a, 't>(
    table: &'a DeTable<'t>,
    node: &Node,
    key: &str,
) -> Option<(&'a Value<'t>, Node)> {
    let (spanned, value) = table.get_key_value(key)?;
    Some((
        value,
        Node {
            at: spanned.span(),
            ..node.join(key)
        },
    ))
}

/// One value or a list of them, each with its place.
pub(super) fn items<'a, 't>(
    value: &'a Value<'t>,
    node: &Node,
) -> impl Iterator<Item = (&'a Value<'t>, Node)> {
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

/// Reads a value of the option's kind; the option itself checks its meaning.
pub(super) fn read_value(
    value: &Value<'_>,
    node: &Node,
    option: &SocketOption,
) -> Result<OptionValue, Fail> {
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
        (ValueKind::Number { unit, .. }, DeValue::String(text)) if has_suffixes(unit) => {
            let number = unit
                .parse(text)
                .ok_or_else(|| unreadable(node, text, &kind))?;
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

pub(super) fn read_endpoint(
    value: &Value<'_>,
    node: &Node,
    attach: Attach,
) -> Result<Endpoint, Fail> {
    let DeValue::String(text) = value.get_ref() else {
        return Err(node.fail(format!(
            "write an endpoint such as \"tcp://127.0.0.1:5559\", or a list of them: this is of \
             type {}",
            value.get_ref().type_str()
        )));
    };
    if text.starts_with(['@', '>']) {
        return Err(
            node.fail("the key determines whether to bind or connect: leave out the @ or >")
        );
    }
    let endpoint = match attach {
        Attach::Bind => Endpoint::parse_bind(text),
        Attach::Connect => Endpoint::parse_connect(text),
    };
    endpoint.map_err(|error| node.fail(error))
}

/// Reads a time; a plain number counts milliseconds.
pub(super) fn read_time(value: &Value<'_>, node: &Node) -> Result<Duration, Fail> {
    read_number(value, node, Unit::Milliseconds, TIME_MS_MAX).map(Duration::from_millis)
}

pub(super) fn read_size(value: &Value<'_>, node: &Node) -> Result<u64, Fail> {
    read_number(value, node, Unit::Bytes, i64::MAX.unsigned_abs())
}

pub(super) fn read_number(
    value: &Value<'_>,
    node: &Node,
    unit: Unit,
    max: u64,
) -> Result<u64, Fail> {
    let max_i64 = i64::try_from(max).unwrap_or(i64::MAX);
    let kind = ValueKind::number(unit, 0, max_i64);
    let (number, shown) = match value.get_ref() {
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            (number.ok(), integer.as_str())
        }
        DeValue::String(text) if has_suffixes(unit) => {
            let number = unit
                .parse(text)
                .ok_or_else(|| unreadable(node, text, &kind))?;
            (Some(number), text.as_ref())
        }
        other => {
            let found = other.type_str();
            return Err(node.fail(format!("write {kind}: this is of type {found}")));
        }
    };
    match number.and_then(|number| u64::try_from(number).ok()) {
        Some(number) if number <= max => Ok(number),
        _ => Err(node.fail(format!(
            "{} is out of range: write a number of {unit} from 0 to {max}",
            show(shown)
        ))),
    }
}

/// Whether a number of this unit may be a text with its own unit.
fn has_suffixes(unit: Unit) -> bool {
    matches!(unit, Unit::Bytes | Unit::Milliseconds | Unit::Seconds)
}

fn unreadable(node: &Node, text: &str, kind: &ValueKind) -> Fail {
    node.fail(format!("cannot read \"{}\": write {kind}", show(text)))
}

/// A table; `instead` is the remedy if the value is something else.
pub(super) fn as_table<'a, 't>(
    value: &'a Value<'t>,
    node: &Node,
    instead: impl FnOnce() -> String,
) -> Result<&'a DeTable<'t>, Fail> {
    match value.get_ref() {
        DeValue::Table(table) => Ok(table),
        other => Err(node.fail(format!(
            "{}: this is of type {}",
            instead(),
            other.type_str()
        ))),
    }
}

pub(super) fn as_flag(value: &Value<'_>, node: &Node) -> Result<bool, Fail> {
    match value.get_ref() {
        DeValue::Boolean(flag) => Ok(*flag),
        other => Err(node.fail(format!(
            "write true or false: this is of type {}",
            other.type_str()
        ))),
    }
}

pub(super) fn as_text<'a>(value: &'a Value<'_>, node: &Node) -> Result<&'a str, Fail> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text),
        other => Err(node.fail(format!(
            "write a text in quotes: this is of type {}",
            other.type_str()
        ))),
    }
}
