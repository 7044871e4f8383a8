//! Roles of the users of a broker.

use super::{Scene, client_keys, legalize};
use crate::message::Profile;
use crate::node::Repertoire;
use broker::config::{
    Admission, Config, RoleConfig, RoleSide, SocketConfig, SocketName, TopicRule,
};
use std::sync::Arc;
use zmtp::{MechanismConfig, SocketType};

/// Rules that permit or deny a part of all topics.
const RULES: [&str; 12] = [
    "", "a", "b", "ab", "ba", "aa", "=", "=a", "=ab", "=bb", "%u", "=%u",
];

impl Scene {
    /// Gives the users of a broker roles, and some of them others later.
    pub(super) fn roles(&mut self, config: &mut Config, repertoire: &mut Repertoire) {
        let sockets = config.proxies.iter().flat_map(|proxy| {
            SocketName::SIDES.map(|side| (proxy.socket_type(side), proxy.socket(side).clone()))
        });
        let sockets = sockets.filter(|(_, socket)| has_users(socket));
        let sockets: Vec<(SocketType, SocketConfig)> = sockets.collect();
        // A broker would connect again and again to a peer that it does not let in.
        let is_calling = !repertoire.endpoints.is_empty()
            || sockets.iter().any(|(_, it)| !it.connect.is_empty());
        if sockets.is_empty() || is_calling || self.random.chance(20) {
            return;
        }
        let needed = |of: SocketType| sockets.iter().any(|(socket_type, _)| *socket_type == of);
        let needed = [SocketType::Dealer, SocketType::Push].map(needed);
        for name in [RoleConfig::DEFAULT, "first", "second"] {
            if self.random.chance(60) {
                let role = self.role(name, config, (needed, repertoire.is_any));
                config.roles.push(role);
            }
        }
        if let Some(role) = config.roles.first() {
            for user in ["client-2", "user-1", "user-2"] {
                if self.random.chance(50) {
                    config.users.insert(user.to_owned(), role.name.clone());
                }
            }
        }
        let is_inverted = sockets.iter().any(|(_, it)| it.options.invert_matching);
        let is_paced = |role: &RoleConfig| role.message_rate > 0 || role.byte_rate > 0;
        if !is_inverted && !config.roles.is_empty() && !config.roles.iter().any(is_paced) {
            config.proxies.iter_mut().for_each(legalize);
            for _ in 0..3 {
                let roles = config.roles.iter().map(|role| {
                    let mut role = role.clone();
                    self.rules(&mut role);
                    role
                });
                repertoire.roles.push(roles.collect());
            }
        }
        for proxy in &mut config.proxies {
            for side in SocketName::SIDES {
                let admission = &mut proxy.socket_mut(side).admission;
                if let Admission::Keys(keys) = admission {
                    let role = config.roles.last().map(|role| &*role.name);
                    *keys = Arc::new(client_keys(role));
                }
            }
        }
    }

    fn role(
        &mut self,
        name: &str,
        config: &Config,
        (needed, may_change): ([bool; 2], bool),
    ) -> RoleConfig {
        let mut role = RoleConfig {
            name: name.to_owned(),
            ..RoleConfig::default()
        };
        self.rules(&mut role);
        let profile = self.world.ctx.style.profile;
        let beats = self.world.script.beats;
        let random = &mut self.random;
        if random.chance(30) {
            let mut sides = vec![RoleSide::Worker];
            for (side, is_needed) in [
                (RoleSide::Client, false),
                (RoleSide::Publisher, false),
                (RoleSide::Subscriber, needed[1]),
            ] {
                sides.extend((is_needed || random.chance(60)).then_some(side));
            }
            role.sides = Some(sides);
        }
        if needed == [false; 2] && random.chance(80) {
            role.max_connections = random.pick(&[1, 1, 2, 4]);
        }
        if needed == [false; 2] && !may_change && random.chance(20) {
            let proxy = random.below(config.proxies.len());
            role.proxies = Some(vec![config.proxies[proxy].name.clone()]);
        }
        if random.chance(20) {
            role.max_subscriptions = random.pick(&[2, 5]);
        }
        if random.chance(25) {
            role.message_rate = if beats {
                300
            } else {
                random.pick(&[20, 100, 300])
            };
        }
        if random.chance(15) && !(profile == Profile::Large && beats) {
            // Where events never end, all that waits must have gone on soon.
            let rates: &[u64] = match (beats, profile) {
                (false, Profile::Large) => &[200_000, 5_000_000],
                (true, Profile::Mixed) => &[500_000],
                _ => &[20_000, 500_000],
            };
            role.byte_rate = random.pick(rates);
        }
        role
    }

    /// Draws what a role permits.
    fn rules(&mut self, role: &mut RoleConfig) {
        let random = &mut self.random;
        let mut draw = |count: usize| -> Vec<TopicRule> {
            let rules = (0..count).map(|_| random.pick(&RULES).parse().expect("a rule"));
            rules.collect()
        };
        role.publish = draw(3);
        role.publish_deny = draw(1);
        role.subscribe = draw(3);
        role.subscribe_deny = draw(1);
        for denied in [&mut role.publish_deny, &mut role.subscribe_deny] {
            if random.chance(50) {
                denied.clear();
            }
        }
    }
}

/// Whether peers of a socket may have a user name.
fn has_users(socket: &SocketConfig) -> bool {
    let is_named = socket.admission == Admission::Program || !socket.options.zap_domain.is_empty();
    socket.mechanism != MechanismConfig::Null || is_named
}
