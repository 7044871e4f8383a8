//! The kinds of proxy: one table row for each kind with a name; configuration, help and logs read
//! the table. Any other two sockets make a kind too, if messages can flow between them.

use std::str::FromStr;
use zmtp::{SocketType, show};

/// One kind of proxy: a row of [`Kind::ALL`], or the result of [`Kind::pair`] or [`Kind::echo`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The socket type of the backend.
    pub backend: SocketType,
    /// One short line for help and documentation.
    pub doc: &'static str,
    /// The socket type of the frontend.
    pub frontend: SocketType,
    /// Only the frontend exists: it sends each message back to its sender.
    pub is_echo: bool,
    /// The name in configuration files and of the subcommand.
    pub name: &'static str,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "queue",
            frontend: Router,
            backend: Dealer,
            is_echo: false,
            doc: "Requests to workers in turn, replies back: ROUTER in front, DEALER behind",
        },
        Self {
            name: "forwarder",
            frontend: Xsub,
            backend: Xpub,
            is_echo: false,
            doc: "Publications to subscribers: XSUB in front, XPUB behind",
        },
        Self {
            name: "streamer",
            frontend: Pull,
            backend: Push,
            is_echo: false,
            doc: "Work to sinks in turn: PULL in front, PUSH behind",
        },
    ];

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name == name)
    }

    /// A proxy between any two sockets between which messages can flow.
    ///
    /// # Errors
    /// The reason why this pair cannot work, and the remedy.
    pub fn pair(frontend: SocketType, backend: SocketType) -> Result<Self, PairError> {
        for (one, other) in [(frontend, backend), (backend, frontend)] {
            if let Some(reason) = objection(one, other) {
                return Err(PairError::Pair {
                    backend,
                    frontend,
                    reason,
                });
            }
        }
        let named = Self::ALL
            .iter()
            .find(|kind| kind.frontend == frontend && kind.backend == backend);
        Ok(named.copied().unwrap_or(Self {
            backend,
            doc: "Any two sockets between which messages can flow",
            frontend,
            is_echo: false,
            name: "proxy",
        }))
    }

    /// A proxy with one socket, which sends each message back to its sender.
    ///
    /// # Errors
    /// The type cannot both send and receive.
    pub fn echo(socket: SocketType) -> Result<Self, PairError> {
        if !matches!(socket, Dealer | Pair | Rep | Router) {
            return Err(PairError::Echo(socket));
        }
        Ok(Self {
            backend: socket,
            doc: "One socket that sends each message back",
            frontend: socket,
            is_echo: true,
            name: "echo",
        })
    }
}

/// Socket types that cannot form a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairError {
    /// One socket alone, of a type that cannot both send and receive.
    #[error("{0} alone cannot echo messages: use REP, ROUTER, DEALER or PAIR")]
    Echo(SocketType),
    /// Two sockets between which messages, or answers, cannot flow.
    #[error("{frontend}:{backend} cannot be a proxy: {reason}")]
    Pair {
        /// The socket type of the backend.
        backend: SocketType,
        /// The socket type of the frontend.
        frontend: SocketType,
        /// The reason, and the remedy.
        reason: &'static str,
    },
    /// An unknown name of a socket type.
    #[error("unknown socket type \"{}\": write one of {}", show(.0), socket_names())]
    Unknown(String),
}

/// Parses `FRONT:BACK`, or one socket alone for an echo; in upper or lower case.
impl FromStr for Kind {
    type Err = PairError;

    fn from_str(text: &str) -> Result<Self, PairError> {
        match text.split_once(':') {
            Some((frontend, backend)) => Self::pair(socket(frontend)?, socket(backend)?),
            None => Self::echo(socket(text)?),
        }
    }
}

/// The socket type with this name, in upper or lower case.
///
/// # Errors
/// No socket type has this name.
pub fn socket(name: &str) -> Result<SocketType, PairError> {
    SocketType::from_name(name.to_ascii_uppercase().as_bytes())
        .ok_or_else(|| PairError::Unknown(name.to_owned()))
}

fn socket_names() -> String {
    SocketType::ALL.map(SocketType::name).join(", ")
}

use SocketType::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, Xpub, Xsub};

/// The objection to `one` facing `other`; the caller checks the reverse too.
fn objection(one: SocketType, other: SocketType) -> Option<&'static str> {
    let both_ways = matches!(other, Dealer | Pair | Rep | Req | Router);
    match (one, other) {
        (Pull | Sub | Xsub, Pull | Sub | Xsub) => {
            Some("both sides only receive; use PUSH, PUB or XPUB on one")
        }
        (Pub | Push | Xpub, Pub | Push | Xpub) => {
            Some("both sides only send; use PULL, SUB or XSUB on one")
        }
        (Xsub, Pub | Push) => Some(
            "an XSUB subscribes to what the other side asks for, which asks for nothing: \
             use SUB with topics",
        ),
        (Req, Req) => Some("both sides send requests; use REP or ROUTER on one"),
        (Rep, Rep) => Some("both sides answer requests; use REQ or DEALER on one"),
        (Req | Rep, _) if !both_ways => {
            Some("answers cannot return; use DEALER, ROUTER, REQ or REP across")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_found() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name), Some(*kind));
        }
        assert_eq!(Kind::from_name("Queue"), None);
    }

    #[test]
    fn a_pair_is_legal_exactly_if_messages_and_answers_can_flow() {
        let receives = |socket| !matches!(socket, Pub | Push | Xpub);
        let sends = |socket| !matches!(socket, Pull | Sub | Xsub);
        let lockstep = |socket| matches!(socket, Rep | Req);
        for front in SocketType::ALL {
            for back in SocketType::ALL {
                let flows = |from, to| receives(from) && sends(to);
                let both = flows(front, back) && flows(back, front);
                let expected = (flows(front, back) || flows(back, front))
                    && (both || !(lockstep(front) || lockstep(back)))
                    && !(lockstep(front) && front == back)
                    && !matches!((front, back), (Xsub, Pub | Push) | (Pub | Push, Xsub));
                assert_eq!(Kind::pair(front, back).is_ok(), expected, "{front}:{back}");
            }
        }
        assert_eq!(Kind::pair(Router, Dealer), Ok(Kind::ALL[0]));
        let refusal = Kind::pair(Pull, Sub).expect_err("both only receive");
        assert_eq!(
            refusal.to_string(),
            "PULL:SUB cannot be a proxy: both sides only receive; use PUSH, PUB or XPUB on one"
        );
        assert!(Kind::echo(Rep).is_ok() && Kind::echo(Sub).is_err());
        assert_eq!("router:Dealer".parse(), Ok(Kind::ALL[0]));
        assert_eq!("REP".parse(), Kind::echo(Rep));
        let refusal = "REP:RAP".parse::<Kind>().expect_err("no such type");
        assert!(
            refusal
                .to_string()
                .starts_with("unknown socket type \"RAP\": write one of")
        );
    }

    #[test]
    fn documentation_fits_a_line_of_help() {
        for kind in Kind::ALL {
            assert!(kind.doc.len() <= 80, "{}", kind.name);
            assert!(!kind.doc.ends_with('.'), "{}", kind.name);
        }
    }
}
