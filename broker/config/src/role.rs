//! Roles: what the users of a broker may do.

use super::SocketName;
use std::fmt;
use std::str::FromStr;
use zmtp::{SocketType, show};

/// What the users of a role may do.
///
/// Topics are those of proxies with a PUB, SUB, XPUB or XSUB. A role permits no topic that it does
/// not name, and a denied topic is denied whatever else permits it. Figures of zero do not limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleConfig {
    /// Bytes per second, on the wire, that a user may send over all its connections.
    pub byte_rate: u64,
    /// Connections that a user may have at a time.
    pub max_connections: u32,
    /// Subscriptions that each connection of a user may have.
    pub max_subscriptions: u32,
    /// Messages per second that a user may send over all its connections.
    pub message_rate: u32,
    /// The name; unique within a [`super::Config`].
    pub name: String,
    /// The names of the proxies that its users may connect to; [`None`]: all.
    pub proxies: Option<Vec<String>>,
    /// The topics of messages that its users may send.
    pub publish: Vec<TopicRule>,
    /// The topics of messages that its users may not send.
    pub publish_deny: Vec<TopicRule>,
    /// What its users may be; [`None`]: all but [`RoleSide::Capture`] and [`RoleSide::Control`].
    pub sides: Option<Vec<RoleSide>>,
    /// The topics that its users may receive.
    pub subscribe: Vec<TopicRule>,
    /// The topics that its users may not receive.
    pub subscribe_deny: Vec<TopicRule>,
}

impl RoleConfig {
    /// The name of the role of all users without another.
    pub const DEFAULT: &str = "default";

    /// Whether its users may connect to a side of a proxy.
    #[must_use]
    pub fn permits(&self, proxy: &str, side: RoleSide) -> bool {
        let has_proxy = match &self.proxies {
            Some(proxies) => proxies.iter().any(|name| name == proxy),
            None => true,
        };
        let has_side = match &self.sides {
            Some(sides) => sides.contains(&side),
            None => !matches!(side, RoleSide::Capture | RoleSide::Control),
        };
        has_proxy && has_side
    }
}

/// What a peer is to a proxy, by the socket that it is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleSide {
    /// It reads copies of all messages.
    Capture,
    /// It is connected to a frontend that neither only receives nor only sends.
    Client,
    /// It steers the proxy.
    Control,
    /// It sends messages to a SUB, XSUB or PULL.
    Publisher,
    /// It gets messages from a PUB, XPUB or PUSH.
    Subscriber,
    /// It is connected to a backend that neither only receives nor only sends.
    Worker,
}

impl RoleSide {
    /// All, in the order of their names.
    pub const ALL: [Self; 6] = [
        Self::Capture,
        Self::Client,
        Self::Control,
        Self::Publisher,
        Self::Subscriber,
        Self::Worker,
    ];

    /// The name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Client => "client",
            Self::Control => "control",
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
            Self::Worker => "worker",
        }
    }

    /// The side with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|side| side.name() == name)
    }

    /// What the peers of this socket are.
    #[must_use]
    pub fn of(socket: SocketName, socket_type: SocketType) -> Self {
        match (socket, socket_type) {
            (SocketName::Capture, _) => Self::Capture,
            (SocketName::Control, _) => Self::Control,
            (SocketName::Replay, _) => Self::Subscriber,
            (_, SocketType::Sub | SocketType::Xsub | SocketType::Pull) => Self::Publisher,
            (_, SocketType::Pub | SocketType::Xpub | SocketType::Push) => Self::Subscriber,
            (SocketName::Frontend, _) => Self::Client,
            // A ZAP handler answers, as a worker does. It has no user, and so no role.
            (SocketName::Backend | SocketName::Zap, _) => Self::Worker,
        }
    }
}

/// A rule for topics: a prefix, or `=` and one whole topic.
///
/// `%u` stands for the name of the user, `%%` for a percent sign and `%=` for an equals sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRule {
    /// It is one whole topic.
    is_exact: bool,
    /// The text between the names of the user.
    pieces: Vec<String>,
}

impl TopicRule {
    /// Whether it stands for one whole topic.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Whether it contains the name of the user.
    #[must_use]
    pub fn names_user(&self) -> bool {
        self.pieces.len() > 1
    }

    /// The prefix or topic, for a user.
    #[must_use]
    pub fn for_user(&self, user: &str) -> Vec<u8> {
        self.pieces.join(user).into_bytes()
    }
}

impl FromStr for TopicRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (is_exact, rest) = match text.strip_prefix('=') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut pieces = vec![String::new()];
        let mut rest = rest.chars();
        while let Some(next) = rest.next() {
            let piece = match (next, next == '%') {
                (next, false) => Some(next),
                (_, true) => match rest.next() {
                    Some('u') => None,
                    Some(sign @ ('%' | '=')) => Some(sign),
                    _ => {
                        let text = show(text);
                        return Err(format!(
                            "\"{text}\" has a % of unknown meaning: write %u for the name of the \
                             user, or %% for a percent sign"
                        ));
                    }
                },
            };
            match (piece, pieces.last_mut()) {
                (Some(sign), Some(last)) => last.push(sign),
                _ => pieces.push(String::new()),
            }
        }
        Ok(Self { is_exact, pieces })
    }
}

/// Displayed as it is written in a configuration.
impl fmt::Display for TopicRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact {
            f.write_str("=")?;
        }
        for (index, piece) in self.pieces.iter().enumerate() {
            let separator = if index > 0 { "%u" } else { "" };
            let piece = piece.replace('%', "%%");
            match piece.strip_prefix('=') {
                Some(rest) if index == 0 && !self.is_exact => write!(f, "%={rest}")?,
                _ => write!(f, "{separator}{piece}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_prefixes_or_topics_and_know_the_user() {
        for (text, is_exact, expected) in [
            ("", false, ""),
            ("a.", false, "a."),
            ("=a", true, "a"),
            ("==a", true, "=a"),
            ("%=a", false, "=a"),
            ("s/%u/", false, "s/ann/"),
            ("=%u", true, "ann"),
            ("100%%%u%u", false, "100%annann"),
        ] {
            let rule: TopicRule = text.parse().expect(text);
            assert_eq!(rule.is_exact(), is_exact, "{text}");
            assert_eq!(rule.for_user("ann"), expected.as_bytes(), "{text}");
            assert_eq!(rule.to_string(), text);
        }
        for text in ["%", "a%x", "%U"] {
            let error = text.parse::<TopicRule>().expect_err(text);
            assert!(error.contains("write %u"), "{error}");
        }
    }

    #[test]
    fn a_role_is_for_all_proxies_and_for_the_sides_that_messages_pass() {
        let mut role = RoleConfig::default();
        for side in RoleSide::ALL {
            let is_auxiliary = matches!(side, RoleSide::Capture | RoleSide::Control);
            assert_eq!(role.permits("a", side), !is_auxiliary, "{side:?}");
            assert_eq!(RoleSide::from_name(side.name()), Some(side));
        }
        role.sides = Some(vec![RoleSide::Control]);
        role.proxies = Some(vec!["b".to_owned()]);
        assert!(role.permits("b", RoleSide::Control));
        assert!(!role.permits("a", RoleSide::Control));
        assert!(!role.permits("b", RoleSide::Client));
    }

    #[test]
    fn a_peer_is_what_its_socket_makes_it() {
        for (socket, socket_type, expected) in [
            (SocketName::Frontend, SocketType::Router, RoleSide::Client),
            (SocketName::Backend, SocketType::Dealer, RoleSide::Worker),
            (SocketName::Frontend, SocketType::Pull, RoleSide::Publisher),
            (SocketName::Backend, SocketType::Xsub, RoleSide::Publisher),
            (SocketName::Frontend, SocketType::Pub, RoleSide::Subscriber),
            (SocketName::Capture, SocketType::Pub, RoleSide::Capture),
            (SocketName::Control, SocketType::Rep, RoleSide::Control),
        ] {
            assert_eq!(RoleSide::of(socket, socket_type), expected);
        }
    }
}
