//! Every row of the table works.

use super::*;

/// Values that a row must accept; none is its default, if it has other values.
fn samples(option: &SocketOption) -> Vec<Value> {
    match option.kind {
        ValueKind::Choice(names) => names
            .iter()
            .map(|name| Value::Text((*name).to_owned()))
            .collect(),
        ValueKind::Flag => vec![Value::Flag(true), Value::Flag(false)],
        ValueKind::List => vec![match option.name {
            "tcp_accept_filter" => list(&["10.0.0.0/8", "::1/128"]),
            _ => list(&["a", "b"]),
        }],
        ValueKind::Text { .. } => vec![Value::Text(match option.name {
            "ipc_mode" => "660".to_owned(),
            "ipc_owner" => "root:0".to_owned(),
            _ => "ab".to_owned(),
        })],
        ValueKind::Number {
            is_optional,
            max,
            min,
            ..
        } => {
            let mut numbers = vec![Value::Number(min), Value::Number(max)];
            numbers.extend(is_optional.then_some(Value::Number(-1)));
            numbers
        }
    }
}

fn list(texts: &[&str]) -> Value {
    Value::List(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn every_option_reads_back_its_value_and_changes_only_its_field() {
    for option in SocketOption::ALL {
        for value in [samples(option), vec![option.default_value()]].concat() {
            let mut options = SocketOptions::default();
            let set = option.set(&mut options, value.clone());
            assert_eq!(set, Ok(()), "{} {value}", option.name);
            assert_eq!(option.get(&options), value, "{}", option.name);
            for other in SocketOption::ALL {
                if other.name != option.name {
                    assert_eq!(other.get(&options), other.default_value(), "{}", other.name);
                }
            }
        }
    }
}

#[test]
fn every_option_parses_the_text_that_it_displays() {
    for option in SocketOption::ALL {
        for value in samples(option) {
            let text = match &value {
                Value::List(texts) => texts.join(","),
                Value::Text(text) => text.clone(),
                Value::Flag(_) | Value::Number(_) => value.to_string(),
            };
            assert_eq!(option.parse(&text), Ok(value), "{}", option.name);
        }
    }
}

#[test]
fn illegal_values_are_refused() {
    for option in SocketOption::ALL {
        let mut options = SocketOptions::default();
        let wrong = match option.kind {
            ValueKind::Choice(_) => vec![Value::Text("?".to_owned()), Value::Number(1)],
            ValueKind::Flag => vec![Value::Number(1), Value::Text("true".to_owned())],
            ValueKind::List => vec![Value::Text("one".to_owned()), Value::Flag(true)],
            ValueKind::Number { max, min, .. } => {
                let mut wrong = vec![Value::Number(-2), Value::Flag(true)];
                wrong.extend(max.checked_add(1).map(Value::Number));
                wrong.extend((min > 0).then_some(Value::Number(min - 1)));
                wrong
            }
            ValueKind::Text { size_max } => {
                vec![Value::Text("x".repeat(size_max + 1)), Value::Number(1)]
            }
        };
        for value in wrong {
            assert!(
                option.set(&mut options, value.clone()).is_err(),
                "{} {value}",
                option.name
            );
        }
        assert_eq!(options, SocketOptions::default());
    }
}

#[test]
fn refusals_say_what_to_write() {
    let limited = ValueKind::optional(Unit::Seconds, 1, 9);
    let choice = ValueKind::Choice(&["block", "drop-newest"]);
    for (kind, text, expected) in [
        (ValueKind::Flag, "yes", "write true or false"),
        (
            limited,
            "x",
            "write a number of s, or a time such as \"5s\"",
        ),
        (
            limited,
            "0",
            "0 is out of range: write a number of s from 1 to 9, or -1",
        ),
        (
            ValueKind::number(Unit::None, 0, 255),
            "256",
            "256 is out of range: write a number from 0 to 255",
        ),
        (
            choice,
            "drop-newst",
            "unknown choice \"drop-newst\": did you mean \"drop-newest\"?",
        ),
        (
            choice,
            "x",
            "unknown choice \"x\": write one of block, drop-newest",
        ),
        (
            ValueKind::Text { size_max: 2 },
            "abc",
            "this text of 3 bytes is too long: write one of at most 2 bytes",
        ),
    ] {
        assert_eq!(kind.parse(text).expect_err(text).to_string(), expected);
    }
}

#[test]
fn values_are_displayed_as_toml() {
    let text = |text: &str| text.to_owned();
    for (value, expected) in [
        (Value::Flag(true), "true"),
        (Value::Number(-1), "-1"),
        (Value::Text(text("a\"b\n")), r#""a\"b\n""#),
        (list(&["a", "b"]), r#"["a", "b"]"#),
    ] {
        assert_eq!(value.to_string(), expected);
    }
    let items = ValueKind::List.parse("a, b,,c").expect("a list");
    assert_eq!(items, list(&["a", "b", "c"]));
}

#[test]
fn names_are_distinct_and_those_of_libzmq() {
    for option in SocketOption::ALL {
        assert_eq!(
            SocketOption::find(option.name).expect("found").name,
            option.name
        );
        if let Some(libzmq) = option.libzmq {
            assert_eq!(libzmq.to_lowercase(), format!("zmq_{}", option.name));
        }
        assert!(
            option.doc.len() <= 70,
            "{} must fit a line of help",
            option.name
        );
    }
    assert_eq!(
        SocketOption::find("sndhw")
            .expect_err("no such option")
            .to_string(),
        "unknown option \"sndhw\": did you mean \"sndhwm\"?"
    );
}

#[test]
fn a_longest_wait_below_the_first_is_refused() {
    let mut options = SocketOptions::default();
    assert_eq!(options.contradictions(), []);
    options.reconnect_ivl = Duration::from_secs(9);
    assert_eq!(
        options.contradictions()[0].to_string(),
        "reconnect_ivl_max (5000 ms) is below reconnect_ivl (9000 ms): set it to 9000 or more"
    );
}

#[test]
fn peers_that_are_not_connected_are_not_ready() {
    let options = SocketOptions {
        balance: Balance::Ready,
        immediate: false,
        ..SocketOptions::DEFAULT
    };
    let sentence = options.contradictions()[0].to_string();
    assert!(
        sentence.ends_with("set immediate to true, or balance to another"),
        "{sentence}"
    );
}

#[test]
fn other_names_of_a_policy_must_agree_with_it() {
    let block = SocketOptions {
        overflow: Overflow::Block,
        ..SocketOptions::DEFAULT
    };
    for (conflate, xpub_nodrop, expected) in [
        (false, false, None),
        (false, true, None),
        (
            true,
            false,
            Some(
                "conflate is true and overflow is \"block\": set conflate to false, or overflow to \
                 \"standard\"",
            ),
        ),
        (
            true,
            true,
            Some("conflate and xpub_nodrop are both true: set one of them to false"),
        ),
    ] {
        let options = SocketOptions {
            conflate,
            xpub_nodrop,
            ..block.clone()
        };
        let found = options.contradictions().first().map(ToString::to_string);
        assert_eq!(found.as_deref(), expected);
    }
    let newest = SocketOptions {
        overflow: Overflow::ConflateTopic,
        xpub_nodrop: true,
        ..SocketOptions::DEFAULT
    };
    let sentence = newest.contradictions()[0].to_string();
    assert!(
        sentence.starts_with("xpub_nodrop is true and overflow is \"conflate-topic\""),
        "{sentence}"
    );
}

#[test]
fn other_names_of_a_policy_mean_that_policy() {
    let conflate = SocketOptions {
        conflate: true,
        ..SocketOptions::DEFAULT
    };
    let nodrop = SocketOptions {
        xpub_nodrop: true,
        ..SocketOptions::DEFAULT
    };
    for (options, socket_type, expected) in [
        (&conflate, SocketType::Push, Overflow::Conflate),
        (&conflate, SocketType::Xpub, Overflow::Conflate),
        (&nodrop, SocketType::Xpub, Overflow::Block),
        (&nodrop, SocketType::Pub, Overflow::Block),
        (&nodrop, SocketType::Router, Overflow::Standard),
    ] {
        assert_eq!(options.overflow_on(socket_type), expected, "{socket_type}");
    }
}
