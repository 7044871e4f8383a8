//! Options without effect on an auxiliary socket, where setting them is a mistake.

use super::{Balance, OptionError, Overflow, SocketOption, SocketOptions};
use crate::SocketName;
use zmtp::SocketType;

/// Options of the table, and the sockets on which they have no effect.
struct Idle {
    /// Whether the value in these options has no effect on this socket.
    is_idle: fn(SocketName, SocketType, &SocketOptions) -> bool,
    names: &'static [&'static str],
    /// The reason, or the remedy.
    reason: &'static str,
}

const IDLE: &[Idle] = &[
    Idle {
        names: &["rcvhwm", "rcvhwm_bytes"],
        is_idle: |_, _, _| true,
        reason: "received messages of captures and controls never wait",
    },
    Idle {
        names: &["immediate"],
        is_idle: |_, _, _| true,
        reason: "links of captures and controls have no queue while they are down",
    },
    Idle {
        names: &["balance"],
        is_idle: |side, socket_type, options| {
            let takes_turns = matches!(socket_type, SocketType::Dealer | SocketType::Push);
            side == SocketName::Control || !takes_turns || options.balance == Balance::Ready
        },
        reason: "only the readers of a PUSH or DEALER capture take turns, and they never answer",
    },
    Idle {
        names: &["overflow"],
        is_idle: |side, socket_type, options| match options.overflow {
            Overflow::Block => side == SocketName::Control || socket_type == SocketType::Pub,
            Overflow::Conflate | Overflow::ConflateTopic | Overflow::DropOldest => {
                side == SocketName::Control
            }
            Overflow::Disconnect | Overflow::DropNewest | Overflow::Standard => false,
        },
        reason: "a PUB never waits for its subscribers, so a capture that is to block must be \
                 PUSH, PAIR or DEALER; a control drops the newest answer or disconnects",
    },
    Idle {
        names: &["conflate"],
        is_idle: |side, _, _| side == SocketName::Control,
        reason: "each answer of a control is for one question",
    },
    Idle {
        names: &["xpub_nodrop"],
        is_idle: |_, _, _| true,
        reason: "copies never wait for a PUB: make the capture PUSH, PAIR or DEALER, and set its \
                 overflow to \"block\"",
    },
    Idle {
        names: &["router_handover", "router_mandatory"],
        is_idle: |_, _, _| true,
        reason: "neither a capture nor a control can be a ROUTER",
    },
    Idle {
        names: &["probe_router"],
        is_idle: |_, socket_type, _| socket_type != SocketType::Dealer,
        reason: "of captures and controls only a DEALER sends it",
    },
    Idle {
        names: &["routing_id"],
        is_idle: |_, socket_type, _| !socket_type.announces_identity(),
        reason: "this socket type does not announce an identity",
    },
    Idle {
        names: &["subscribe"],
        is_idle: |_, socket_type, _| socket_type != SocketType::Sub,
        reason: "of captures and controls only a SUB subscribes",
    },
    Idle {
        names: &["xpub_verbose", "xpub_verboser"],
        is_idle: |_, _, _| true,
        reason: "captures and controls do not pass on subscriptions",
    },
    Idle {
        names: &[
            "invert_matching",
            "subscriptions_max",
            "topic_size_max",
            "xpub_welcome_msg",
        ],
        is_idle: |_, socket_type, _| socket_type != SocketType::Pub,
        reason: "of captures and controls only a PUB has subscribers",
    },
];

/// The options that have an effect on the connections to ZAP handlers.
const OF_ZAP: &[&str] = &[
    "bindtodevice",
    "connect_timeout",
    "curve_secret",
    "curve_server",
    "handshake_ivl",
    "heartbeat_ivl",
    "heartbeat_timeout",
    "heartbeat_ttl",
    "insecure",
    "ipv6",
    "plain_password_file",
    "plain_username",
    "rcvbuf",
    "reconnect_ivl",
    "reconnect_ivl_max",
    "routing_id",
    "sndbuf",
    "sndhwm",
    "sndhwm_bytes",
    "tcp_keepalive",
    "tcp_keepalive_cnt",
    "tcp_keepalive_idle",
    "tcp_keepalive_intvl",
    "tcp_maxrt",
    "tos",
];

/// The options that have no effect on a socket for replays.
const NOT_OF_REPLAY: &[&str] = &[
    "balance",
    "conflate",
    "immediate",
    "invert_matching",
    "overflow",
    "overflow_timeout",
    "rcvhwm",
    "rcvhwm_bytes",
    "router_handover",
    "router_mandatory",
    "subscribe",
    "subscriptions_max",
    "topic_size_max",
    "xpub_nodrop",
    "xpub_verbose",
    "xpub_verboser",
    "xpub_welcome_msg",
];

/// The reason for that.
const IDLE_ON_REPLAY: &str = "a peer gets each answer that it asked for, as fast as it reads";

/// The reason why all others have none.
const IDLE_ON_ZAP: &str = "it only connects to ZAP handlers and asks them about peers";

impl SocketOptions {
    /// The options that are set but have no effect on an auxiliary socket of this type.
    pub fn idle_options(
        &self,
        side: SocketName,
        socket_type: SocketType,
    ) -> impl Iterator<Item = OptionError> {
        SocketOption::ALL.iter().filter_map(move |option| {
            let value = option.get(self);
            let reason = self.idle(option, side, socket_type)?;
            (value != option.default_value()).then(|| OptionError::Idle {
                name: option.name,
                reason,
                side,
                value: value.to_string(),
            })
        })
    }

    /// The options that a socket inherits from those of all sockets. An auxiliary socket does not
    /// inherit options without effect. A capture does not inherit a policy that blocks, because an
    /// unread capture would stop its proxy. Connections to ZAP handlers inherit nothing: they are
    /// not for peers.
    #[must_use]
    pub fn shared_with(&self, side: SocketName, socket_type: SocketType) -> Self {
        let mut options = self.clone();
        if side.side().is_some() {
            return options;
        }
        if side == SocketName::Zap {
            return Self::default();
        }
        if options.overflow == Overflow::Block {
            options.overflow = Overflow::Standard;
        }
        for option in SocketOption::ALL {
            if options.idle(option, side, socket_type).is_some() {
                option.reset(&mut options);
            }
        }
        options
    }

    fn idle(
        &self,
        option: &SocketOption,
        side: SocketName,
        socket_type: SocketType,
    ) -> Option<&'static str> {
        if side == SocketName::Zap {
            return (!OF_ZAP.contains(&option.name)).then_some(IDLE_ON_ZAP);
        }
        if side == SocketName::Replay {
            return NOT_OF_REPLAY
                .contains(&option.name)
                .then_some(IDLE_ON_REPLAY);
        }
        let idle = IDLE.iter().find(|idle| idle.names.contains(&option.name))?;
        (idle.is_idle)(side, socket_type, self).then_some(idle.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CaptureConfig, ControlConfig};

    #[test]
    fn options_without_effect_are_in_the_table_and_have_a_reason() {
        for idle in IDLE {
            for name in idle.names {
                assert!(SocketOption::find(name).is_ok(), "{name}");
            }
            assert!(!idle.reason.is_empty(), "{:?}", idle.names);
        }
    }

    #[test]
    fn inherited_options_are_legal_on_auxiliary_sockets() {
        let mut options = SocketOptions {
            immediate: false,
            overflow: Overflow::Block,
            rcvhwm: 7,
            router_handover: true,
            sndhwm: 7,
            subscribe: vec!["a".to_owned()],
            xpub_nodrop: true,
            xpub_verbose: true,
            ..SocketOptions::DEFAULT
        };
        for (side, sockets) in [
            (SocketName::Capture, &CaptureConfig::SOCKETS[..]),
            (SocketName::Control, &ControlConfig::SOCKETS),
        ] {
            for socket_type in sockets {
                let shared = options.shared_with(side, *socket_type);
                assert_eq!(shared.idle_options(side, *socket_type).next(), None);
                assert_eq!((shared.sndhwm, shared.overflow), (7, Overflow::Standard));
            }
        }
        options.immediate = true;
        assert_eq!(
            options.shared_with(SocketName::Backend, SocketType::Push),
            options
        );
    }
}
