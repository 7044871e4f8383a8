//! Commands with which zmqd brokers detect that they are connected in a loop.
//!
//! They go only to peers that announce `X-Zmqd-Loop-Check` in READY. The broker decides what they
//! mean and how to react; docs/protocol.md describes the procedure.

use crate::error::Malformed;
use crate::wire::frame::append_command;
use byteorder::{BigEndian, ByteOrder};
use bytes::BufMut;

/// The property that announces that its sender looks for loops. RFC 37 reserves `X-` for properties
/// that it does not define.
pub(crate) const PROPERTY: &str = "X-Zmqd-Loop-Check";

const UP: &str = "ZMQD-UP";
const PROBE: &str = "ZMQD-PROBE";
const LOOP: &str = "ZMQD-LOOP";
const JOIN: &str = "ZMQD-JOIN";

/// Whether one end of a connection looks for loops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopCheck {
    /// It does not, or has not announced it.
    #[default]
    Off,
    /// It does, and messages may pass at the same time.
    On,
    /// It does, and no message may pass until it ends the trial, because this connection has closed
    /// a loop before.
    Trial,
}

/// A command about loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopCommand {
    /// A probe of the receiver has come back over this connection, which is part of a loop and will
    /// be closed.
    Loop,
    /// Pass this probe on.
    Probe(Probe),
    /// The sender is ready to pass probes on over this connection.
    Up,
}

/// A number that brokers pass on along the path of messages, to see whether it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The connection through which the broker that made the probe sent it.
    pub exit: u32,
    /// The number of brokers that have passed it on.
    pub hops: u8,
    /// Its name, drawn at random, so that only brokers that have received it know it.
    pub number: u128,
}

/// Bytes of a probe, after the name of its command.
const PROBE_SIZE: usize = 1 + 16 + 4;

impl LoopCheck {
    /// The value of the property; `None` if it is not announced.
    pub(crate) fn value(self) -> Option<&'static [u8]> {
        match self {
            Self::Off => None,
            Self::On => Some(b"on"),
            Self::Trial => Some(b"trial"),
        }
    }

    /// The meaning of this value of the property; unknown values mean [`LoopCheck::Off`].
    pub(crate) fn from_value(value: &[u8]) -> Self {
        match value {
            b"on" => Self::On,
            b"trial" => Self::Trial,
            _ => Self::Off,
        }
    }
}

/// Parses the data of a command; `None` if its name is not one of these.
pub(crate) fn parse(name: &[u8], data: &[u8]) -> Result<Option<Parsed>, Malformed> {
    let named = |known: &str| name == known.as_bytes();
    Ok(Some(if named(UP) {
        Parsed::Said(LoopCommand::Up)
    } else if named(PROBE) {
        let data = data.get(..PROBE_SIZE).ok_or(Malformed::Probe)?;
        let (&hops, rest) = data.split_first().ok_or(Malformed::Probe)?;
        let (number, exit) = rest.split_at_checked(16).ok_or(Malformed::Probe)?;
        Parsed::Said(LoopCommand::Probe(Probe {
            exit: BigEndian::read_u32(exit),
            hops,
            number: BigEndian::read_u128(number),
        }))
    } else if named(LOOP) {
        Parsed::Said(LoopCommand::Loop)
    } else if named(JOIN) {
        Parsed::Join
    } else {
        return Ok(None);
    }))
}

/// A command, and the layer that handles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Handled by the session: the trial is over.
    Join,
    /// Handled by the broker.
    Said(LoopCommand),
}

/// Appends the command that ends a trial.
pub(crate) fn append_join(out: &mut impl BufMut) {
    append_command(out, JOIN, &[]);
}

impl LoopCommand {
    /// Appends the whole command. Only for peers that have announced the loop check.
    pub fn append(self, out: &mut impl BufMut) {
        match self {
            Self::Loop => append_command(out, LOOP, &[]),
            Self::Up => append_command(out, UP, &[]),
            Self::Probe(Probe { exit, hops, number }) => {
                let mut data = Vec::with_capacity(PROBE_SIZE);
                data.push(hops);
                data.extend(number.to_be_bytes());
                data.extend(exit.to_be_bytes());
                append_command(out, PROBE, &data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::command::Command;

    #[test]
    fn commands_are_parsed_as_they_were_appended() {
        let probe = Probe {
            exit: 7,
            hops: 3,
            number: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        };
        for said in [
            LoopCommand::Loop,
            LoopCommand::Probe(probe),
            LoopCommand::Up,
        ] {
            let mut out = Vec::new();
            said.append(&mut out);
            assert_eq!(Command::parse(&out[2..]), Ok(Command::LoopCheck(said)));
        }
        let mut out = Vec::new();
        LoopCommand::Probe(probe).append(&mut out);
        let expected = b"\x04\x20\x0aZMQD-PROBE\x03\x01\x02\x03\x04\x05\x06\x07\x08\
                         \x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\0\0\0\x07";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_probe_may_grow_but_not_shrink() {
        let mut out = Vec::new();
        let probe = Probe {
            exit: 0,
            hops: 0,
            number: 0,
        };
        LoopCommand::Probe(probe).append(&mut out);
        let body = &out[2..];
        let longer = [body, b"more"].concat();
        let expected = Ok(Command::LoopCheck(LoopCommand::Probe(probe)));
        assert_eq!(Command::parse(&longer), expected);
        for size in 11..body.len() {
            assert_eq!(Command::parse(&body[..size]), Err(Malformed::Probe));
        }
    }

    #[test]
    fn unknown_values_mean_off() {
        for check in [LoopCheck::On, LoopCheck::Trial] {
            let value = check.value().expect("it is announced");
            assert_eq!(LoopCheck::from_value(value), check);
        }
        assert_eq!(LoopCheck::from_value(b"on+"), LoopCheck::Off);
        assert_eq!(LoopCheck::Off.value(), None);
    }
}
