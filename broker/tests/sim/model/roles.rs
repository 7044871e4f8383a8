//! What the roles of users permit, decided without the broker's code.

use super::*;
use broker::config::{RoleConfig, RoleSide, TopicRule};

/// The role of a peer's user.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) role: RoleConfig,
    pub(crate) user: String,
}

impl Part {
    fn any(&self, rules: &[TopicRule], matches: impl Fn(&[u8], bool) -> bool) -> bool {
        let mut rules = rules.iter();
        rules.any(|rule| matches(&rule.for_user(&self.user), rule.is_exact()))
    }

    fn permits(&self, allowed: &[TopicRule], denied: &[TopicRule], topic: &[u8]) -> bool {
        let has = |rules| {
            self.any(rules, |rule, is_exact| {
                topic.starts_with(rule) && (!is_exact || topic == rule)
            })
        };
        has(allowed) && !has(denied)
    }

    pub(crate) fn may_publish(&self, topic: &[u8]) -> bool {
        self.permits(&self.role.publish, &self.role.publish_deny, topic)
    }

    pub(crate) fn may_receive(&self, topic: &[u8]) -> bool {
        self.permits(&self.role.subscribe, &self.role.subscribe_deny, topic)
    }

    pub(crate) fn may_receive_all(&self) -> bool {
        let is_all = |rule: &[u8], is_exact: bool| rule.is_empty() && !is_exact;
        self.any(&self.role.subscribe, is_all) && self.role.subscribe_deny.is_empty()
    }

    pub(crate) fn is_paced(&self) -> bool {
        self.role.message_rate > 0 || self.role.byte_rate > 0
    }

    /// The subscriptions that are left of one.
    pub(crate) fn narrowed(&self, wanted: &[u8]) -> BTreeSet<Vec<u8>> {
        let RoleConfig {
            subscribe,
            subscribe_deny,
            ..
        } = &self.role;
        let covers = |rules: &[TopicRule], topic: &[u8]| {
            self.any(rules, |rule, is_exact| !is_exact && topic.starts_with(rule))
        };
        if covers(subscribe, wanted) {
            let itself = (!covers(subscribe_deny, wanted)).then(|| wanted.to_vec());
            return itself.into_iter().collect();
        }
        let rules = subscribe.iter();
        let rules = rules.map(|rule| (rule.for_user(&self.user), rule.is_exact()));
        let within = rules.filter(|(rule, is_exact)| {
            let is_within_another = self.any(subscribe, |other, other_is_exact| {
                let is_longer = rule.len() > other.len() || *is_exact;
                !other_is_exact && rule.starts_with(other) && is_longer
            });
            let is_denied = covers(subscribe_deny, rule)
                || *is_exact && self.any(subscribe_deny, |other, _| other == *rule);
            rule.starts_with(wanted) && !is_within_another && !is_denied
        });
        within.map(|(rule, _)| rule).collect()
    }
}

impl Model {
    /// The role of a peer that is about to come in; false if it may not.
    pub(super) fn take_part(&mut self, id: ConnId, identity: &[u8]) -> bool {
        let own = self.mirrors[&id].socket;
        let socket = &self.sockets[index(own)];
        let Some(user) = self.mirrors[&id].user.clone() else {
            return true;
        };
        if !self.may_be_at(own, &user) {
            return false;
        }
        let part = self.part(&socket.config.admission, &user);
        let Some(part) = part else { return true };
        let is_same = |other: &Mirror| {
            let other = other.part.as_ref().filter(|_| other.phase == Phase::Ready);
            other.is_some_and(|other| other.user == part.user && other.role.name == part.role.name)
        };
        // A peer that comes again replaces its former self.
        let is_router = socket.socket_type == SocketType::Router;
        let former = socket.names.get(identity).filter(|_| is_router);
        let others = self.mirrors.iter();
        let others = others.filter(|(other, mirror)| is_same(mirror) && Some(*other) != former);
        let others = others.count();
        let most = part.role.max_connections as usize;
        if most > 0 && others >= most {
            return false;
        }
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        mirror.part = Some(part);
        true
    }

    /// Whether the role of a user permits its peers to be at a socket.
    pub(super) fn may_be_at(&self, at: SocketKey, user: &str) -> bool {
        let socket = &self.sockets[index(at)];
        let Some(part) = self.part(&socket.config.admission, user) else {
            return true;
        };
        let side = RoleSide::of(at.side, socket.socket_type);
        let is_inverted = socket.socket_type == SocketType::Xpub && socket.options.invert_matching;
        let name = &self.names[at.proxy as usize];
        part.role.permits(name, side) && (!is_inverted || part.may_receive_all())
    }

    fn part(&self, admission: &Admission, user: &str) -> Option<Part> {
        let of_list = match admission {
            Admission::Keys(keys) => self.clients.iter().find_map(|key| {
                let client = keys.client(key)?;
                let role = client.role.as_ref().filter(|_| *client.user == *user)?;
                Some(role.to_string())
            }),
            _ => None,
        };
        let named = of_list.or_else(|| self.users.get(user).cloned());
        let name = named.as_deref().unwrap_or(RoleConfig::DEFAULT);
        let role = self.roles.iter().find(|role| role.name == name)?;
        Some(Part {
            role: role.clone(),
            user: user.to_owned(),
        })
    }

    /// Users and roles have changed.
    pub(crate) fn set_roles(&mut self, config: &Config) {
        self.roles.clone_from(&config.roles);
        self.users.clone_from(&config.users);
        let ready = self.mirrors.iter();
        let ready = ready.filter(|(_, mirror)| mirror.phase == Phase::Ready);
        let ready: Vec<ConnId> = ready.map(|(id, _)| *id).collect();
        for id in ready {
            let mirror = &self.mirrors[&id];
            let Some(user) = mirror.user.clone() else {
                continue;
            };
            let admission = &self.sockets[index(mirror.socket)].config.admission;
            let part = self.part(admission, &user);
            let mirror = self.mirrors.get_mut(&id).expect("it is connected");
            mirror.part = part;
            mirror.narrow();
            self.reconsider(id);
        }
    }

    /// Whether a connected peer of another user has the identity of a newcomer.
    pub(super) fn is_of_other_user(&self, id: ConnId, peer: &zmtp::Peer) -> bool {
        let own = self.mirrors[&id].socket;
        let names = &self.sockets[index(own)].names;
        let holder = names.get(&*peer.identity);
        let holder = holder.map(|holder| &self.mirrors[holder]);
        let holder = holder.filter(|holder| holder.phase == Phase::Ready);
        self.sockets[index(own)].socket_type == SocketType::Router
            && holder.is_some_and(|holder| holder.user != self.mirrors[&id].user)
    }

    /// The input of `id` waits because its user has used up its rate. It is unknown when its
    /// subscriptions take effect.
    pub(crate) fn paused(&mut self, id: ConnId) {
        let own = self.mirrors[&id].socket;
        if self.sockets[index(own)].socket_type == SocketType::Xpub {
            self.parked(id);
        }
    }

    /// A peer subscribes or cancels; false if it has too many subscriptions, for which the broker
    /// closes it and handles nothing that follows.
    pub(super) fn subscribed(&mut self, id: ConnId, topic: Vec<u8>, add: bool) -> bool {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let options = &self.sockets[index(mirror.socket)].options;
        let of_role = mirror.part.as_ref().map(|part| part.role.max_subscriptions);
        let of_role = of_role.filter(|most| *most > 0).unwrap_or(u32::MAX);
        let most = options.subscriptions_max.min(of_role) as usize;
        let mut is_added = false;
        if !add {
            mirror.wanted.remove(&topic);
        } else {
            let is_new = !mirror.wanted.contains(&topic);
            if mirror.wanted.len() + usize::from(is_new) > most {
                mirror.is_deaf = true;
                return false;
            }
            is_added = mirror.wanted.insert(topic.clone());
        }
        mirror.narrow();
        if is_added {
            self.offer(id, &topic);
        } else if !add {
            self.withdraw(id);
        }
        true
    }

    /// Whether the role of a peer forbids it to send a message with this topic.
    pub(super) fn is_forbidden(&self, id: ConnId, topic: &[u8]) -> bool {
        let mirror = &self.mirrors[&id];
        let is_topical = |socket: SocketKey| {
            let socket_type = self.sockets[index(socket)].socket_type;
            matches!(socket_type, SocketType::Xpub | SocketType::Xsub)
        };
        mirror.socket.across().is_some_and(is_topical)
            && mirror
                .part
                .as_ref()
                .is_some_and(|part| !part.may_publish(topic))
    }
}

impl Mirror {
    /// Its subscriptions or its role have changed.
    pub(crate) fn narrow(&mut self) {
        let wanted = self.wanted.iter();
        self.topics = match &self.part {
            Some(part) => wanted.flat_map(|topic| part.narrowed(topic)).collect(),
            None => wanted.cloned().collect(),
        };
    }

    /// Whether it must get a message with this topic.
    pub(crate) fn is_for(&self, topic: &[u8]) -> bool {
        let is_match = self.topics.iter().any(|wanted| topic.starts_with(wanted));
        let part = self.part.as_ref();
        is_match && part.is_none_or(|part| part.may_receive(topic))
    }
}
