//! The kinds of proxy: one table row each; configuration, help and logs read the table.

use crate::config::Side;
use zmtp::SocketType;

/// One kind of proxy: a row of [`Kind::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The socket type of the backend.
    pub backend: SocketType,
    /// One short line for help and documentation.
    pub doc: &'static str,
    /// The socket type of the frontend.
    pub frontend: SocketType,
    /// The name in configuration files and of the subcommand.
    pub name: &'static str,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self {
            name: "queue",
            frontend: SocketType::Router,
            backend: SocketType::Dealer,
            doc: "Requests to workers in turn, replies back: ROUTER in front, DEALER behind",
        },
        Self {
            name: "forwarder",
            frontend: SocketType::Xsub,
            backend: SocketType::Xpub,
            doc: "Publications to those who subscribed: XSUB in front, XPUB behind",
        },
        Self {
            name: "streamer",
            frontend: SocketType::Pull,
            backend: SocketType::Push,
            doc: "Work to sinks in turn: PULL in front, PUSH behind",
        },
    ];

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name == name)
    }

    /// The socket type of one side.
    #[must_use]
    pub fn socket_type(self, side: Side) -> SocketType {
        match side {
            Side::Backend => self.backend,
            Side::Frontend => self.frontend,
        }
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
    fn documentation_fits_a_line_of_help() {
        for kind in Kind::ALL {
            assert!(kind.doc.len() <= 80, "{}", kind.name);
            assert!(!kind.doc.ends_with('.'), "{}", kind.name);
        }
    }
}
