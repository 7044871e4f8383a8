//! The table of socket options: configuration keys, help, `check` and the guide all read it.
//!
//! To add one: a field of [`SocketOptions`], a row of [`SocketOption::ALL`], a line in the guide.

use std::fmt;
use std::time::Duration;

use super::{SocketOptions, nearest};

/// One socket option: a row of [`SocketOption::ALL`].
#[derive(Clone, Copy, Debug)]
pub struct SocketOption {
    /// One short line for help and documentation, with the meaning of zero where it has one.
    pub doc: &'static str,
    /// libzmq's name for it, where libzmq has it.
    pub libzmq: Option<&'static str>,
    /// Largest legal value, in `unit`.
    pub max: u64,
    /// Smallest legal value, in `unit`.
    pub min: u64,
    /// The key in configuration files and of `--set`: libzmq's name in lower case.
    pub name: &'static str,
    /// What the number counts.
    pub unit: Unit,
    read: fn(&SocketOptions) -> u64,
    write: fn(&mut SocketOptions, u64),
}

/// What the number of an option counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Frames of one message.
    Frames,
    /// Whole messages.
    Messages,
    /// Thousandths of a second.
    Milliseconds,
    /// Subscriptions.
    Subscriptions,
}

/// A value or a name that no option has, or options that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The longest wait before a reconnection is below the first.
    #[error(
        "reconnect_ivl_max ({max_ms} ms) is below reconnect_ivl ({first_ms} ms): \
         set it to {first_ms} or more"
    )]
    BackOff {
        /// `reconnect_ivl`, in milliseconds.
        first_ms: u64,
        /// `reconnect_ivl_max`, in milliseconds.
        max_ms: u64,
    },
    /// Out of range.
    #[error("{value} is out of range: write a number of {unit} from {min} to {max}")]
    Range {
        /// Largest legal value.
        max: u64,
        /// Smallest legal value.
        min: u64,
        /// What it counts.
        unit: Unit,
        /// What was asked for.
        value: u64,
    },
    /// No such option.
    #[error("there is no option \"{name}\": {}", nearest::hint(name, &SocketOption::names()))]
    Unknown {
        /// What was asked for.
        name: String,
    },
}

impl SocketOption {
    /// Every option, in the order of help and documentation.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "sndhwm",
            libzmq: Some("ZMQ_SNDHWM"),
            unit: Unit::Messages,
            min: 0,
            max: COUNT_MAX,
            doc: "Messages queued for one peer before it counts as full; 0: no limit",
            read: |options| options.sndhwm.into(),
            write: |options, value| options.sndhwm = count(value),
        },
        Self {
            name: "sndhwm_bytes",
            libzmq: None,
            unit: Unit::Bytes,
            min: 1,
            max: SIZE_MAX,
            doc: "Bytes queued for one peer before it counts as full",
            read: |options| options.sndhwm_bytes,
            write: |options, value| options.sndhwm_bytes = value,
        },
        Self {
            name: "maxmsgsize",
            libzmq: Some("ZMQ_MAXMSGSIZE"),
            unit: Unit::Bytes,
            min: 1,
            max: SIZE_MAX,
            doc: "Bytes of the largest message accepted, with its frame headers",
            read: |options| options.maxmsgsize,
            write: |options, value| options.maxmsgsize = value,
        },
        Self {
            name: "maxmsgframes",
            libzmq: None,
            unit: Unit::Frames,
            min: 1,
            max: COUNT_MAX,
            doc: "Frames of the longest message accepted",
            read: |options| options.maxmsgframes.into(),
            write: |options, value| options.maxmsgframes = count(value),
        },
        Self {
            name: "handshake_ivl",
            libzmq: Some("ZMQ_HANDSHAKE_IVL"),
            unit: Unit::Milliseconds,
            min: 0,
            max: TIME_MS_MAX,
            doc: "Milliseconds from connecting to the end of the handshake; 0: no limit",
            read: |options| milliseconds(options.handshake_ivl),
            write: |options, value| options.handshake_ivl = Duration::from_millis(value),
        },
        Self {
            name: "heartbeat_ivl",
            libzmq: Some("ZMQ_HEARTBEAT_IVL"),
            unit: Unit::Milliseconds,
            min: 0,
            max: TIME_MS_MAX,
            doc: "Milliseconds between PINGs to a peer; 0: none",
            read: |options| milliseconds(options.heartbeat_ivl),
            write: |options, value| options.heartbeat_ivl = Duration::from_millis(value),
        },
        Self {
            name: "heartbeat_timeout",
            libzmq: Some("ZMQ_HEARTBEAT_TIMEOUT"),
            unit: Unit::Milliseconds,
            min: 0,
            max: TIME_MS_MAX,
            doc: "Milliseconds of silence after a PING until a peer is dead; 0: for ever",
            read: |options| milliseconds(options.heartbeat_timeout),
            write: |options, value| options.heartbeat_timeout = Duration::from_millis(value),
        },
        Self {
            name: "heartbeat_ttl",
            libzmq: Some("ZMQ_HEARTBEAT_TTL"),
            unit: Unit::Milliseconds,
            min: 0,
            max: TTL_MS_MAX,
            doc: "Milliseconds without PING until peers may think us dead; 0: for ever",
            read: |options| milliseconds(options.heartbeat_ttl),
            write: |options, value| options.heartbeat_ttl = Duration::from_millis(value),
        },
        Self {
            name: "reconnect_ivl",
            libzmq: Some("ZMQ_RECONNECT_IVL"),
            unit: Unit::Milliseconds,
            min: 1,
            max: TIME_MS_MAX,
            doc: "Milliseconds before a lost connection is tried again",
            read: |options| milliseconds(options.reconnect_ivl),
            write: |options, value| options.reconnect_ivl = Duration::from_millis(value),
        },
        Self {
            name: "reconnect_ivl_max",
            libzmq: Some("ZMQ_RECONNECT_IVL_MAX"),
            unit: Unit::Milliseconds,
            min: 1,
            max: TIME_MS_MAX,
            doc: "Milliseconds that wait grows to, doubled by each failure",
            read: |options| milliseconds(options.reconnect_ivl_max),
            write: |options, value| options.reconnect_ivl_max = Duration::from_millis(value),
        },
        Self {
            name: "subscriptions_max",
            libzmq: None,
            unit: Unit::Subscriptions,
            min: 1,
            max: COUNT_MAX,
            doc: "Subscriptions one peer may hold",
            read: |options| options.subscriptions_max.into(),
            write: |options, value| options.subscriptions_max = count(value),
        },
        Self {
            name: "topic_size_max",
            libzmq: None,
            unit: Unit::Bytes,
            min: 1,
            max: COUNT_MAX,
            doc: "Bytes of the longest topic that can be subscribed to",
            read: |options| options.topic_size_max.into(),
            write: |options, value| options.topic_size_max = count(value),
        },
    ];

    /// The option with this name.
    ///
    /// # Errors
    /// There is none; the error names the nearest.
    pub fn find(name: &str) -> Result<&'static Self, OptionError> {
        Self::ALL
            .iter()
            .find(|option| option.name == name)
            .ok_or_else(|| OptionError::Unknown {
                name: name.to_owned(),
            })
    }

    /// Every name, in the order of the table.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        Self::ALL.iter().map(|option| option.name).collect()
    }

    /// The value among `options`, in `unit`.
    #[must_use]
    pub fn get(&self, options: &SocketOptions) -> u64 {
        (self.read)(options)
    }

    /// The value when nothing is configured, in `unit`.
    #[must_use]
    pub fn default_value(&self) -> u64 {
        self.get(&SocketOptions::default())
    }

    /// Sets the value among `options`, in `unit`.
    ///
    /// # Errors
    /// The value is out of range; `options` are as they were.
    pub fn set(&self, options: &mut SocketOptions, value: u64) -> Result<(), OptionError> {
        if !(self.min..=self.max).contains(&value) {
            let (unit, min, max) = (self.unit, self.min, self.max);
            return Err(OptionError::Range {
                max,
                min,
                unit,
                value,
            });
        }
        (self.write)(options, value);
        Ok(())
    }
}

impl SocketOptions {
    /// Whether the options agree with each other.
    ///
    /// # Errors
    /// `reconnect_ivl_max` is below `reconnect_ivl`.
    pub fn check(&self) -> Result<(), OptionError> {
        if self.reconnect_ivl_max < self.reconnect_ivl {
            return Err(OptionError::BackOff {
                first_ms: milliseconds(self.reconnect_ivl),
                max_ms: milliseconds(self.reconnect_ivl_max),
            });
        }
        Ok(())
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bytes => "bytes",
            Self::Frames => "frames",
            Self::Messages => "messages",
            Self::Milliseconds => "ms",
            Self::Subscriptions => "subscriptions",
        })
    }
}

/// The longest time that can be configured, in milliseconds: libzmq's `int`, 24 days.
pub const TIME_MS_MAX: u64 = 0x7FFF_FFFF;

/// The longest time-to-live that libzmq counts right: it keeps the milliseconds in sixteen bits.
const TTL_MS_MAX: u64 = 65_500;

const COUNT_MAX: u64 = 0xFFFF_FFFF;
/// What a TOML integer can hold.
const SIZE_MAX: u64 = 0x7FFF_FFFF_FFFF_FFFF;

/// Saturates; [`SocketOption::set`] has checked the range.
fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reads_what_it_wrote_and_touches_nothing_else() {
        for option in SocketOption::ALL {
            for value in [option.min, option.max, option.default_value()] {
                let mut options = SocketOptions::default();
                option.set(&mut options, value).expect(option.name);
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
    fn values_out_of_range_are_refused() {
        for option in SocketOption::ALL {
            let mut options = SocketOptions::default();
            for value in [option.min.wrapping_sub(1), option.max + 1] {
                let refusal = option
                    .set(&mut options, value)
                    .expect_err(option.name)
                    .to_string();
                assert!(refusal.contains(&option.max.to_string()), "{refusal}");
            }
            assert_eq!(options, SocketOptions::default());
        }
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
            "there is no option \"sndhw\": did you mean \"sndhwm\"?"
        );
    }

    #[test]
    fn a_longest_wait_below_the_first_is_refused() {
        let mut options = SocketOptions::default();
        assert_eq!(options.check(), Ok(()));
        options.reconnect_ivl = Duration::from_secs(9);
        assert_eq!(
            options.check().expect_err("contradiction").to_string(),
            "reconnect_ivl_max (5000 ms) is below reconnect_ivl (9000 ms): set it to 9000 or more"
        );
    }
}
