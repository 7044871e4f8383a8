//! What users may do, by their roles: connections, topics and rates.
//!
//! A peer with a user name gets a [`Permit`] when it is attached, if a role is for that user. Its
//! connections share the rate of the user. Messages that the role forbids are dropped where the
//! receiving socket admits them; subscriptions are narrowed by the XPUB.

use crate::config::{RoleConfig, RoleSide};
use crate::conn::{Input, Phase};
use crate::core::events::{Facts, Place};
use crate::core::timers::Owner;
use crate::core::turn::cost;
use crate::core::{Action, Core, Flow};
use crate::ids::{ConnId, SocketId};
use crate::limits::{IDLE_USERS_MAX, NARROWED_AT_ONCE_MAX, USER_REPORTS_MAX};
use crate::pattern::Pattern;
use crate::pattern::xpub::Limits;
use crate::permit::{Bucket, Permit, Permits, SHOWN_SIZE_MAX};
use crate::reason::CloseReason;
use log::Level;
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use zmtp::{Peer, SocketType, show};

/// The users that have a role.
#[derive(Debug, Default)]
pub(super) struct Users {
    /// The number of each user in each role.
    by_name: BTreeMap<(Arc<str>, String), usize>,
    /// Users without a connection, the latest last: they must not get rid of a debt by a new
    /// connection.
    idle: VecDeque<usize>,
    /// Connections with a permit.
    permits: u64,
    users: Slab<User>,
}

/// A user in a role.
#[derive(Debug)]
struct User {
    bytes: Bucket,
    connections: u32,
    messages: Bucket,
    name: Arc<str>,
    publish: Arc<Permits>,
    /// What the log has said of it: whether it wanted to publish or to subscribe, and the topic.
    reported: Vec<(Wish, Box<[u8]>)>,
    role: RoleConfig,
    subscribe: Arc<Permits>,
}

/// What a user may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Publish,
    Subscribe,
}

impl User {
    fn new(name: Arc<str>, role: &RoleConfig, now: Instant) -> Self {
        Self {
            bytes: Bucket::new(role.byte_rate, now),
            connections: 0,
            messages: Bucket::new(role.message_rate.into(), now),
            publish: Arc::new(Permits::publish(role, &name)),
            subscribe: Arc::new(Permits::subscribe(role, &name)),
            name,
            reported: Vec::new(),
            role: role.clone(),
        }
    }

    /// The role is another one under the same name.
    fn set_role(&mut self, role: &RoleConfig) {
        self.bytes.set_rate(role.byte_rate);
        self.messages.set_rate(role.message_rate.into());
        self.publish = Arc::new(Permits::publish(role, &self.name));
        self.subscribe = Arc::new(Permits::subscribe(role, &self.name));
        self.reported.clear();
        self.role = role.clone();
    }

    fn is_paced(&self) -> bool {
        self.bytes.is_limited() || self.messages.is_limited()
    }

    /// The time at which it may send again.
    fn ready_at(&self) -> Instant {
        let buckets = [&self.bytes, &self.messages].into_iter();
        let limited = buckets.filter(|bucket| bucket.is_limited());
        let ready = limited.map(Bucket::ready_at).max();
        ready.unwrap_or_else(|| self.bytes.ready_at())
    }
}

impl Users {
    /// The number of connections that have a permit.
    pub(super) fn permits(&self) -> u64 {
        self.permits
    }

    fn connections(&self, name: &Arc<str>, role: &RoleConfig) -> u32 {
        let known = self.by_name.get(&(name.clone(), role.name.clone()));
        known.map_or(0, |number| self.users[*number].connections)
    }

    /// One more connection of a user; returns the number of the user.
    fn enter(&mut self, name: &Arc<str>, role: &RoleConfig, now: Instant) -> usize {
        let key = (name.clone(), role.name.clone());
        let users = &mut self.users;
        let number = *self
            .by_name
            .entry(key)
            .or_insert_with(|| users.insert(User::new(name.clone(), role, now)));
        let user = &mut self.users[number];
        if user.role != *role {
            user.set_role(role);
        }
        if user.connections == 0 {
            self.idle.retain(|other| *other != number);
        }
        user.connections += 1;
        self.permits += 1;
        number
    }

    /// Whether the role of this user permits it to receive messages with this topic.
    pub(super) fn may_receive(&self, number: usize, topic: &[u8]) -> bool {
        self.users[number].subscribe.has(topic)
    }

    /// One connection less of a user.
    fn leave(&mut self, number: usize) {
        self.permits -= 1;
        let user = &mut self.users[number];
        user.connections -= 1;
        if user.connections == 0 {
            self.idle.push_back(number);
        }
        if self.idle.len() > IDLE_USERS_MAX
            && let Some(oldest) = self.idle.pop_front()
        {
            let user = self.users.remove(oldest);
            self.by_name.remove(&(user.name, user.role.name));
        }
    }
}

/// How the role of a peer limits what it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reception {
    /// By its subscriptions.
    BySubscription,
    /// Not at all: the messages have no topics.
    Free,
    /// Not possible: the peer gets every topic, or those to which it did not subscribe.
    Unlimited,
}

impl Core {
    /// The role of the user by which a peer is known, if it has one, and permits the peer to be
    /// where it is.
    fn role_of(&self, socket: SocketId, user: &str) -> Result<Option<&RoleConfig>, CloseReason> {
        let socket = &self.sockets[socket];
        let config = &self.reconfiguration.config;
        let of_list = socket.admission.role_of(user).map(|role| &**role);
        let named = of_list.or_else(|| config.users.get(user).map(|role| &**role));
        let name = named.unwrap_or(RoleConfig::DEFAULT);
        let Some(role) = config.role(name) else {
            // Without the role that it was given, a user may do nothing.
            return named.map_or(Ok(None), |_| Err(CloseReason::RoleForbids));
        };
        let side = RoleSide::of(socket.name, socket.session.socket_type);
        let is_limited = || !Permits::subscribe(role, user).is_everything();
        if !role.permits(&self.proxies[socket.proxy].name, side)
            || self.reception(socket.id) == Reception::Unlimited && is_limited()
        {
            return Err(CloseReason::RoleForbids);
        }
        Ok(Some(role))
    }

    /// Whether the role of a user permits its peers to be at this socket.
    pub(super) fn may_be_at(&self, socket: SocketId, user: &str) -> Result<(), CloseReason> {
        self.role_of(socket, user).map(drop)
    }

    /// Whether messages that pass a socket have topics, and how those that it sends can be limited.
    fn reception(&self, id: SocketId) -> Reception {
        let socket = &self.sockets[id];
        let across = socket.across.map(|across| &self.sockets[across].pattern);
        match (&socket.pattern, across) {
            (_, None) | (Pattern::Echo, _) => Reception::Free,
            (Pattern::Xpub(_), _) if socket.options.invert_matching => Reception::Unlimited,
            (Pattern::Xpub(_), _) => Reception::BySubscription,
            (Pattern::Xsub(_), _) => Reception::Free,
            (_, Some(Pattern::Xsub(_))) => Reception::Unlimited,
            _ => Reception::Free,
        }
    }

    /// Whether messages that the peers of a socket send have topics.
    fn has_topics(&self, id: SocketId) -> bool {
        let is_topical = |id: SocketId| {
            let socket_type = self.sockets[id].session.socket_type;
            matches!(
                socket_type,
                SocketType::Pub | SocketType::Sub | SocketType::Xpub | SocketType::Xsub
            )
        };
        let socket = &self.sockets[id];
        let is_echo = matches!(socket.pattern, Pattern::Echo);
        let across = socket.across.filter(|_| !is_echo);
        across.is_some_and(|across| is_topical(id) || is_topical(across))
    }

    /// The role of a peer that is about to be attached, if its user has one.
    pub(super) fn may_enter(
        &self,
        id: ConnId,
        peer: &Peer,
    ) -> Result<Option<RoleConfig>, CloseReason> {
        let Some(conn) = self.conns.get(id) else {
            return Ok(None);
        };
        let Some(user) = &conn.user else {
            return Ok(None);
        };
        let Some(role) = self.role_of(conn.socket, user)? else {
            return Ok(None);
        };
        let pattern = &self.sockets[conn.socket].pattern;
        let replaced = pattern.holder(&peer.identity, &self.conns);
        let others = self.users.connections(user, role);
        let others = others.saturating_sub(u32::from(replaced.is_some()));
        if role.max_connections > 0 && others >= role.max_connections {
            return Err(CloseReason::TooManyConnections);
        }
        Ok(Some(role.clone()))
    }

    /// Attaches a peer in the role of its user.
    pub(super) fn enter(&mut self, id: ConnId, role: Option<&RoleConfig>) {
        let now = self.clock.now();
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (socket, former) = (conn.socket, conn.permit.as_ref().map(|it| it.user));
        let denied = conn.permit.as_ref().map_or(0, |it| it.denied);
        if role.is_none() && former.is_none() {
            return;
        }
        let has_topics = self.has_topics(socket);
        let number = match (role, &conn.user) {
            (Some(role), Some(name)) => Some(self.users.enter(name, role, now)),
            _ => None,
        };
        former.into_iter().for_each(|user| self.users.leave(user));
        let user = number.map(|number| &self.users.users[number]);
        let permit = number.zip(user).map(|(number, user)| {
            let publish = has_topics.then(|| user.publish.clone());
            let mut permit = Permit::new(number, publish, user.is_paced());
            permit.denied = denied;
            Box::new(permit)
        });
        let limits = self.limits(socket, user);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.permit = permit;
        self.limit_subscriptions(id, limits);
    }

    /// How a role limits the subscriptions of a peer of this socket.
    fn limits(&self, socket: SocketId, user: Option<&User>) -> Option<Limits> {
        let user = user?;
        let permits = if self.reception(socket) != Reception::Free {
            user.subscribe.clone()
        } else if user.role.max_subscriptions > 0 {
            // A role does not know the topics of the copies that a capture sends.
            Arc::new(Permits::everything())
        } else {
            return None;
        };
        Some(Limits {
            permits,
            subscriptions_max: match user.role.max_subscriptions {
                0 => u32::MAX,
                most => most,
            },
        })
    }

    /// A connection is about to be closed.
    pub(super) fn leave(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Some(permit) = conn.permit.take()
        {
            self.users.leave(permit.user);
        }
    }

    /// Users or roles have changed: every peer with a user name gets what its role is now. Peers
    /// that may not be where they are any more are closed; subscriptions that are not permitted any
    /// more are cancelled, and those that are now are made.
    pub(super) fn reassess_peers(&mut self) {
        self.charge_walk();
        let users = self.conns.iter();
        let users = users.filter(|(_, conn)| conn.user.is_some() && conn.phase == Phase::Ready);
        let users: Vec<ConnId> = users.map(|(id, _)| id).collect();
        for id in users {
            self.reassess(id);
        }
    }

    fn reassess(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.closes_later) else {
            return;
        };
        let Some(user) = &conn.user else { return };
        let was_paused = conn.is_paused();
        match self.role_of(conn.socket, user) {
            Err(why) => return self.close_later(id, why),
            Ok(role) => {
                let role = role.cloned();
                self.enter(id, role.as_ref());
            }
        }
        if was_paused {
            self.deferred.act(Action::Resume(id));
        }
    }

    /// The log gets a line for each topic that a user may not publish or subscribe to, up to a
    /// limit.
    pub(super) fn report_denied(&mut self, id: ConnId, wish: Wish, topic: &[u8]) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let Some(user) = conn.permit.as_ref().map(|permit| permit.user) else {
            return;
        };
        let topic = &topic[..topic.len().min(SHOWN_SIZE_MAX)];
        let user = &mut self.users.users[user];
        let is_known = user
            .reported
            .iter()
            .any(|it| (it.0, &*it.1) == (wish, topic));
        if is_known || user.reported.len() >= USER_REPORTS_MAX {
            return;
        }
        user.reported.push((wish, topic.into()));
        self.turn.charge(cost::LINE);
        let (role, count) = (user.role.name.clone(), user.reported.len());
        let verb = match wish {
            Wish::Publish => "publish",
            Wish::Subscribe => "subscribe to",
        };
        let (place, peer) = (Place::Socket(conn.socket), conn.named().to_string());
        let text = format!(
            "{peer} may not {verb} \"{}\": the role {role} does not permit it{}",
            show(topic),
            if count == USER_REPORTS_MAX {
                "; further topics of this user are only counted"
            } else {
                ""
            }
        );
        self.tell(Level::Warn, place, Facts::of(&peer), &text);
    }

    /// Reports the first message that was denied in an input.
    pub(super) fn report_denied_message(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(id);
        let permit = conn.and_then(|conn| conn.permit.as_mut());
        if let Some(topic) = permit.and_then(|permit| permit.take_news()) {
            self.report_denied(id, Wish::Publish, &topic);
        }
    }

    /// Gives the subscriptions of a peer other limits, if it can subscribe.
    fn limit_subscriptions(&mut self, id: ConnId, limits: Option<Limits>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let own = conn.socket;
        let Pattern::Xpub(xpub) = &self.sockets[own].pattern else {
            return;
        };
        let held = xpub.subscriptions_of(id).max(xpub.wanted_of(id));
        self.turn.charge(held as u64 * cost::subscription(0));
        // It may subscribe again: those of a closed peer are cancelled little by little.
        if held > NARROWED_AT_ONCE_MAX {
            return self.close_later(id, CloseReason::RoleChanged);
        }
        self.change_subscriptions(id, own, |xpub, options, tell| {
            xpub.limit(id, limits, options, tell).map(|()| true)
        });
    }

    /// Steps through `input` as [`Self::pump`] does, at the rate of the peer's user.
    pub(super) fn pump_at_rate(
        &mut self,
        id: ConnId,
        input: &mut Input,
        mut quota: u32,
        is_resumed: bool,
    ) -> Flow {
        loop {
            let Some(allowed) = self.allowance(id) else {
                return self.pump(id, input, quota, is_resumed);
            };
            let before = self.received(id);
            let flow = self.pump(id, input, quota.min(allowed), is_resumed);
            let messages = self.charge_rate(id, before);
            quota -= quota.min(u32::try_from(messages).unwrap_or(u32::MAX));
            let is_stuck = messages == 0 && allowed > 0;
            if flow != Flow::More || quota == 0 || is_stuck || self.turn.cuts() {
                return flow;
            }
            if allowed == 0 {
                self.pause(id);
                return Flow::Paused;
            }
        }
    }

    /// The number of messages that the user of a peer may send now; [`None`] without a limit. A
    /// user with a limit in bytes may exceed it by the last message.
    fn allowance(&self, id: ConnId) -> Option<u32> {
        let permit = self.conns.get(id)?.permit.as_ref()?;
        if !permit.is_paced {
            return None;
        }
        let (user, now) = (&self.users.users[permit.user], self.clock.now());
        let messages = u32::try_from(user.messages.level(now)).unwrap_or(u32::MAX);
        Some(match user.bytes.level(now) {
            0 => 0,
            _ if user.bytes.is_limited() => messages.min(1),
            _ => messages,
        })
    }

    /// Messages and bytes that a peer has sent, denied ones included.
    fn received(&self, id: ConnId) -> (u64, u64) {
        let Some(conn) = self.conns.get(id) else {
            return (0, 0);
        };
        let denied = conn.permit.as_ref().map_or(0, |permit| permit.denied);
        let traffic = &conn.traffic;
        (traffic.messages_received + denied, traffic.bytes_received)
    }

    /// Charges its user for what a peer has sent since `before`; returns the number of messages.
    fn charge_rate(&mut self, id: ConnId, before: (u64, u64)) -> u64 {
        let (messages, bytes) = self.received(id);
        let permit = self.conns.get(id).and_then(|conn| conn.permit.as_ref());
        let Some(number) = permit.map(|permit| permit.user) else {
            return 0;
        };
        let (user, now) = (&mut self.users.users[number], self.clock.now());
        let messages = messages.saturating_sub(before.0);
        user.messages.take(messages, now);
        user.bytes.take(bytes.saturating_sub(before.1), now);
        messages
    }

    /// Does not read from a peer, nor handle its input, until its user may send again.
    fn pause(&mut self, id: ConnId) {
        let now = self.clock.now();
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(permit) = &mut conn.permit else {
            return;
        };
        permit.is_paused = true;
        conn.is_cut = true;
        conn.session.pause_liveness(now);
        let later = self.users.users[permit.user].ready_at();
        self.timers.insert(later.max(now), Owner::Rate(id));
    }

    /// The user of a paused peer may send again.
    pub(super) fn check_rate(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(id);
        if let Some(permit) = conn.and_then(|conn| conn.permit.as_mut())
            && std::mem::take(&mut permit.is_paused)
        {
            self.deferred.act(Action::Resume(id));
        }
    }
}
