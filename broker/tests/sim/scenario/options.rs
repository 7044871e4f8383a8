//! Options of sockets: draws every option of the table that the core uses.

use crate::random::Random;
use broker::config::{Balance, Overflow, SocketName, SocketOptions};
use std::time::Duration;
use zmtp::SocketType;

/// The socket, and the kind of run.
#[derive(Debug)]
pub(super) struct Dice<'a> {
    /// Peers have heartbeats.
    pub(super) has_beats: bool,
    /// Another broker is behind it: messages lost on the way are never answered.
    pub(super) is_chained: bool,
    /// No peer may be declared dead.
    pub(super) is_fair: bool,
    /// Whether options that are seldom configured are drawn too.
    pub(super) is_odd: bool,
    pub(super) random: &'a mut Random,
    pub(super) side: SocketName,
    pub(super) socket_type: SocketType,
}

/// An option, and a function that draws it.
type Row = (&'static str, fn(&mut Dice<'_>, &mut SocketOptions));

/// The drawn options, in order. Limits are mostly small, so that runs reach them.
const DRAWN: &[Row] = &[
    ("sndhwm", |dice, options| {
        options.sndhwm = dice.random.pick(&[0, 1, 2, 3, 5, 10, 100, 1000]);
    }),
    ("sndhwm_bytes", |dice, options| {
        let sizes = [1, 100, 2000, 50_000, 1 << 20, 64 << 20];
        options.sndhwm_bytes = dice.random.pick(&sizes);
    }),
    ("rcvhwm", |dice, options| {
        options.rcvhwm = dice.random.pick(&[1, 1, 1, 0, 2, 20]);
    }),
    ("rcvhwm_bytes", |dice, options| {
        options.rcvhwm_bytes = dice.random.pick(&[1, 5000, 64 << 20]);
    }),
    ("maxmsgsize", |dice, options| {
        options.maxmsgsize = dice.random.pick(&[700_000, 128 << 20]);
    }),
    ("maxmsgframes", |dice, options| {
        options.maxmsgframes = dice.random.pick(&[12, 8192]);
    }),
    ("linger", |dice, options| {
        let lingers = [None, None, None, None, Some(0), Some(300)];
        options.linger = dice.random.pick(&lingers).map(Duration::from_millis);
    }),
    ("handshake_ivl", |dice, options| {
        options.handshake_ivl = dice.millis(&[0, 200, 1000, 30_000]);
    }),
    ("accept_zmtp2", |dice, options| {
        options.accept_zmtp2 = dice.random.chance(30);
    }),
    ("heartbeat_ivl", |dice, options| {
        // A peer that is suspended before it has sent two PINGs relies on those of the broker.
        let rare = if dice.is_fair { 500 } else { 0 };
        let interval = dice.millis(&[rare, 500, 1000]);
        options.heartbeat_ivl = if dice.has_beats {
            interval
        } else {
            Duration::ZERO
        };
    }),
    ("heartbeat_timeout", |dice, options| {
        options.heartbeat_timeout = dice.millis(&[300, 3000]);
    }),
    ("heartbeat_ttl", |dice, options| {
        options.heartbeat_ttl = dice.millis(&[0, 3000]);
    }),
    ("reconnect_ivl", |dice, options| {
        options.reconnect_ivl = dice.millis(&[1, 10, 100]);
    }),
    ("reconnect_ivl_max", |dice, options| {
        let factor = dice.random.pick(&[1, 3, 20]);
        options.reconnect_ivl_max = options.reconnect_ivl * factor;
    }),
    ("balance", |dice, options| {
        // A sink never answers, nor does a reader of a capture, so it would be ready only once.
        options.balance = match dice.socket_type {
            SocketType::Push => dice
                .random
                .pick(&[Balance::RoundRobin, Balance::LeastQueued]),
            SocketType::Dealer if !dice.is_chained && dice.side != SocketName::Capture => dice
                .random
                .pick(&[Balance::RoundRobin, Balance::LeastQueued, Balance::Ready]),
            _ => Balance::RoundRobin,
        };
    }),
    ("immediate", |dice, options| {
        options.immediate = dice.random.chance(40) || options.balance == Balance::Ready;
    }),
    ("overflow", |dice, options| {
        let policies = [
            Overflow::Block,
            Overflow::Conflate,
            Overflow::ConflateTopic,
            Overflow::Disconnect,
            Overflow::DropNewest,
            Overflow::DropOldest,
        ];
        if dice.is_odd && dice.random.chance(60) {
            options.overflow = dice.random.pick(&policies);
        }
        if dice.side == SocketName::Capture {
            let may_block = dice.socket_type != SocketType::Pub;
            if may_block && dice.random.chance(50) {
                options.overflow = Overflow::Block;
            } else if !may_block && options.overflow == Overflow::Block {
                options.overflow = Overflow::Standard;
            }
        }
    }),
    ("conflate", |dice, options| {
        let is_free = matches!(options.overflow, Overflow::Standard | Overflow::Conflate);
        options.conflate = dice.is_odd && is_free && dice.random.chance(5);
    }),
    ("xpub_nodrop", |dice, options| {
        let is_free = matches!(options.overflow, Overflow::Standard | Overflow::Block);
        let may = is_free && !options.conflate && dice.side != SocketName::Capture;
        options.xpub_nodrop = dice.is_odd && may && dice.random.chance(20);
    }),
    ("overflow_timeout", |dice, options| {
        options.overflow_timeout = dice.millis(&[0, 50, 1000]);
    }),
    ("max_age", |dice, options| {
        if dice.is_odd && dice.random.chance(30) {
            options.max_age = dice.millis(&[5, 50, 500, 2000]);
        }
    }),
    ("router_handover", |dice, options| {
        options.router_handover = dice.random.chance(60);
    }),
    ("router_mandatory", |dice, options| {
        options.router_mandatory = dice.random.chance(30);
    }),
    ("probe_router", |dice, options| {
        options.probe_router = dice.is_odd && dice.random.chance(20);
    }),
    ("routing_id", |dice, options| {
        if dice.is_odd && dice.random.chance(20) {
            options.routing_id = "broker".into();
        }
    }),
    ("subscribe", |dice, options| {
        if dice.is_odd && dice.random.chance(30) {
            let allowed = [&["a"][..], &["ab", "b"], &["bb", "a"]];
            let topics = dice.random.pick(&allowed).iter();
            options.subscribe = topics.map(|topic| (*topic).to_owned()).collect();
        }
    }),
    ("xpub_verbose", |dice, options| {
        options.xpub_verbose = dice.is_odd && dice.random.chance(20);
    }),
    ("xpub_verboser", |dice, options| {
        options.xpub_verboser = dice.is_odd && dice.random.chance(20);
    }),
    ("xpub_welcome_msg", |dice, options| {
        if dice.is_odd && dice.random.chance(20) {
            options.xpub_welcome_msg = "welcome".into();
        }
    }),
    ("invert_matching", |dice, options| {
        options.invert_matching = dice.is_odd && dice.random.chance(10);
    }),
    ("subscriptions_max", |dice, options| {
        // An XSUB counts the subscriptions that it narrows, and passes on no more than its limit.
        let few = if options.subscribe.is_empty() {
            3
        } else {
            1_000_000
        };
        let counts = [few, 1_000_000, 1_000_000, 1_000_000];
        options.subscriptions_max = dice.random.pick(&counts);
    }),
    ("topic_size_max", |dice, options| {
        options.topic_size_max = dice.random.pick(&[64, 4096]);
    }),
    ("loop_check", |dice, options| {
        options.loop_check = dice.random.chance(80);
    }),
];

/// Options that are not drawn, with the reason.
#[cfg(test)]
const NOT_DRAWN: &[(&str, &str)] = &[
    ("curve_secret", THE_MECHANISMS),
    ("curve_clients", THE_MECHANISMS),
    ("curve_server", THE_MECHANISMS),
    (
        "reject",
        "the scenarios draw it together with the mechanism",
    ),
    ("plain_users", THE_MECHANISMS),
    ("plain_username", THE_MECHANISMS),
    ("plain_password_file", THE_MECHANISMS),
    ("zap_domain", THE_HANDLERS),
    ("zap_timeout", THE_HANDLERS),
    (
        "insecure",
        "the check of a configuration reads it, and nothing that runs",
    ),
    ("connect_timeout", THE_DRIVERS),
    ("sndbuf", THE_KERNELS),
    ("rcvbuf", THE_KERNELS),
    ("backlog", THE_KERNELS),
    ("ipv6", THE_DRIVERS),
    ("tos", THE_KERNELS),
    ("bindtodevice", THE_KERNELS),
    ("ipc_mode", THE_DRIVERS),
    ("ipc_owner", THE_DRIVERS),
    ("tcp_accept_filter", THE_DRIVERS),
    ("tcp_keepalive", THE_KERNELS),
    ("tcp_keepalive_idle", THE_KERNELS),
    ("tcp_keepalive_intvl", THE_KERNELS),
    ("tcp_keepalive_cnt", THE_KERNELS),
    ("tcp_maxrt", THE_KERNELS),
];

#[cfg(test)]
const THE_MECHANISMS: &str = "it names a file; the scenarios draw mechanism and admission";
const THE_HANDLERS: &str = "the scenarios draw it together with a handler";
#[cfg(test)]
const THE_DRIVERS: &str = "the driver applies it before the core knows of a connection";
#[cfg(test)]
const THE_KERNELS: &str = "it is an option of kernel sockets, which the simulator does not have";

impl Dice<'_> {
    /// Draws the options of one socket.
    pub(super) fn options(&mut self) -> SocketOptions {
        let mut options = SocketOptions::DEFAULT;
        for (_, draw) in DRAWN {
            draw(self, &mut options);
        }
        assert_eq!(options.contradictions(), [], "drawn options must agree");
        options
    }

    fn millis(&mut self, from: &[u64]) -> Duration {
        Duration::from_millis(self.random.pick(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::config::SocketOption;
    use std::collections::BTreeSet;

    #[test]
    fn every_option_of_the_table_is_drawn_or_excused() {
        let drawn = DRAWN.iter().map(|(name, _)| *name);
        let named: Vec<&str> = drawn
            .chain(NOT_DRAWN.iter().map(|(name, _)| *name))
            .collect();
        let set: BTreeSet<&str> = named.iter().copied().collect();
        assert_eq!(
            set.len(),
            named.len(),
            "an option is in both lists, or twice"
        );
        let table: BTreeSet<&str> = SocketOption::names().into_iter().collect();
        assert_eq!(
            set, table,
            "options drawn or excused, and those of the table"
        );
    }

    #[test]
    fn every_drawn_option_takes_a_value_that_is_not_its_default() {
        let mut random = Random::new(1);
        let mut seen = BTreeSet::new();
        for round in 0..500 {
            for (side, socket_type) in [
                (SocketName::Frontend, SocketType::Router),
                (SocketName::Backend, SocketType::Dealer),
            ] {
                let mut dice = Dice {
                    has_beats: round % 2 == 0,
                    is_chained: false,
                    is_fair: false,
                    is_odd: true,
                    random: &mut random,
                    side,
                    socket_type,
                };
                let options = dice.options();
                for option in SocketOption::ALL {
                    if option.get(&options) != option.default_value() {
                        seen.insert(option.name);
                    }
                }
            }
        }
        let drawn: BTreeSet<&str> = DRAWN.iter().map(|(name, _)| *name).collect();
        assert_eq!(seen, drawn, "options that ever differed from their default");
    }
}
