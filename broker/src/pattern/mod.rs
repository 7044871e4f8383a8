//! The behaviour of each socket type.
//!
//! A pattern knows its peers by id and makes decisions; it never sees a socket, and it reads only
//! the bytes that it needs. Every file has the same functions in the same order: `attach` and
//! `detach` for a peer, `admit` and `accepted` for a received message, `route` for a message to
//! send. [`Pattern`] calls the right file.

use crate::config::{Balance, Overflow, SocketOptions};
use crate::conn::ConnTable;
use crate::conn::egress::Unsent;
use crate::conn::outbox::Outbox;
use crate::ids::ConnId;
use crate::reason::{CloseReason, DropReason};
use crate::stats::SocketStats;
use std::vec::Drain;
use zmtp::{Frames, SocketType};

pub(crate) mod balancer;
pub(crate) mod errand;
pub(crate) mod pair;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod round_robin;
pub(crate) mod router;
pub(crate) mod trie;
pub(crate) mod xpub;
pub(crate) mod xsub;

use balancer::Balancer;
use errand::Errand;
use reply::Reply;
use request::Request;
use router::Router;
use xpub::Xpub;
use xsub::Xsub;

/// The state of a socket, by its type.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// Fair-queued input, output to one peer after another.
    Dealer(Balancer),
    /// Any type as an echo: a message goes back to its sender.
    Echo,
    /// One peer, in both directions.
    Pair(Balancer),
    /// Fair-queued input, no output.
    Pull,
    /// Output to one peer after another, no input.
    Push(Balancer),
    /// One request at a time, answered before the next.
    Rep(Reply),
    /// One request at a time, to one peer after another.
    Req(Request),
    /// Input labelled with the sender's identity, output to the identity in front.
    Router(Router),
    /// Output to subscribers: XPUB; and PUB, which does not pass subscriptions on.
    Xpub(Box<Xpub>),
    /// Input from publishers, subscriptions to all of them: XSUB; and SUB, whose topics are fixed.
    Xsub(Box<Xsub>),
}

/// The decision about a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// It is dropped.
    Drop(DropReason),
    /// It goes on without its first bytes, and with the sender's identity frame in front if the
    /// type labels its input.
    Pass {
        /// Bytes of the envelope that this socket removes.
        skip: usize,
    },
    /// It waits until the previous request is answered.
    Wait,
}

/// The destination of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// None: it is dropped.
    Drop(DropReason),
    /// None yet: this peer's queue is full, but the kernel was not asked to take bytes of it.
    Flush(ConnId),
    /// None: this peer's queue is full, and the peer misses the message.
    Full(ConnId),
    /// The publishers: it is a subscription in the form of a message.
    Subscription {
        /// Whether it subscribes or cancels.
        add: bool,
    },
    /// The peers in the list of targets, except the last `full`, whose queues are full.
    Targets {
        /// The number of peers that miss it.
        full: u32,
    },
    /// This peer, without the first `skip` bytes.
    To {
        /// The peer.
        id: ConnId,
        /// Bytes of its own identity frame.
        skip: usize,
    },
    /// None until a peer has room.
    Wait,
}

/// Whether a topic begins with `prefix`. Comparing no bytes takes long on some processors, which
/// load them all the same and then discard the fault.
#[inline]
pub(crate) fn begins_with(topic: &[u8], prefix: &[u8]) -> bool {
    prefix.is_empty() || topic.starts_with(prefix)
}

/// A message to send, as the routing socket sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// Whether [`Pattern::repeats`] has matched it.
    pub(crate) is_matched: bool,
    /// The prefix from the receiving socket: the sender's identity frame, or nothing.
    pub(crate) prefix: &'a [u8],
    /// Its sender.
    pub(crate) sender: ConnId,
    /// The message in wire form, without the envelope that the receiving socket removed.
    pub(crate) wire: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// The body of the first frame, which publishers match.
    #[inline]
    pub(crate) fn first(&self) -> &'a [u8] {
        let message = if self.prefix.is_empty() {
            self.wire
        } else {
            self.prefix
        };
        Frames::new(message).first()
    }

    /// Whether it is a subscription (true) or a cancel (false) in the form of a message: one frame
    /// that begins with 1 or 0.
    pub(crate) fn subscription(&self) -> Option<bool> {
        let only = Frames::new(self.wire).next().filter(|frame| !frame.more)?;
        match only.body.first() {
            Some(first @ (0 | 1)) if self.prefix.is_empty() => Some(*first == 1),
            _ => None,
        }
    }
}

impl Pattern {
    /// The pattern of a socket type.
    pub(crate) fn new(socket_type: SocketType, options: &SocketOptions) -> Self {
        match socket_type {
            SocketType::Dealer => Self::Dealer(Balancer::default()),
            SocketType::Pair => Self::Pair(Balancer::default()),
            SocketType::Pub => Self::Xpub(Box::new(Xpub::new(socket_type))),
            SocketType::Pull => Self::Pull,
            SocketType::Push => Self::Push(Balancer::default()),
            SocketType::Rep => Self::Rep(Reply::default()),
            SocketType::Req => Self::Req(Request::default()),
            SocketType::Router => Self::Router(Router::default()),
            SocketType::Sub => Self::Xsub(Box::new(Xsub::new(socket_type, options))),
            SocketType::Xpub => Self::Xpub(Box::new(Xpub::new(socket_type))),
            SocketType::Xsub => Self::Xsub(Box::new(Xsub::new(socket_type, options))),
        }
    }

    /// The peer with the identity that another peer announces, if the type uses identities.
    pub(crate) fn holder(&self, identity: &[u8], conns: &ConnTable) -> Option<ConnId> {
        match self {
            Self::Router(router) => router.holder(identity, conns),
            _ => None,
        }
    }

    /// Adds a peer after its handshake; returns the peer that it replaces, if any.
    pub(crate) fn attach(
        &mut self,
        id: ConnId,
        identity: &[u8],
        conns: &mut ConnTable,
    ) -> Result<Option<ConnId>, CloseReason> {
        match self {
            Self::Dealer(balancer) | Self::Push(balancer) => balancer.attach(id, conns),
            Self::Pair(balancer) => pair::attach(balancer, id, conns)?,
            Self::Req(request) => request.attach(id, conns),
            Self::Router(router) => return router.attach(id, identity, conns),
            Self::Xpub(xpub) => xpub.attach(id),
            Self::Xsub(xsub) => xsub.attach(id, conns),
            Self::Echo | Self::Pull | Self::Rep(_) => {}
        }
        Ok(None)
    }

    /// Removes a peer. An XPUB keeps its subscriptions until they are cancelled one by one.
    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => {
                balancer.detach(id, conns);
            }
            Self::Rep(reply) => reply.detach(id),
            Self::Req(request) => request.detach(id, conns),
            Self::Router(router) => router.detach(id, conns),
            Self::Xpub(xpub) => xpub.detach(id),
            Self::Xsub(xsub) => xsub.detach(id, conns),
            Self::Echo | Self::Pull => {}
        }
    }

    /// Heap bytes of its subscriptions, in constant time.
    pub(crate) fn subscription_memory(&self) -> u64 {
        match self {
            Self::Xpub(xpub) => xpub.memory(),
            Self::Xsub(xsub) => xsub.memory(),
            _ => 0,
        }
    }

    /// The value of [`Self::subscription_memory`], recounted.
    pub(crate) fn walk_subscriptions(&self) -> u64 {
        match self {
            Self::Xpub(xpub) => xpub.walk(),
            Self::Xsub(xsub) => xsub.walk(),
            _ => 0,
        }
    }

    /// Whether [`Self::admit`] admits every message unchanged, and [`Self::accepted`] has no
    /// effect.
    pub(crate) fn takes_plainly(&self, options: &SocketOptions) -> bool {
        match self {
            Self::Echo | Self::Pair(_) | Self::Pull | Self::Router(_) => true,
            Self::Dealer(_) => options.balance != Balance::Ready,
            Self::Push(_) | Self::Rep(_) | Self::Req(_) => false,
            Self::Xpub(xpub) => !xpub.is_pub(),
            Self::Xsub(xsub) => !xsub.is_sub(),
        }
    }

    /// Whether [`Self::route`] adds no envelope, and requests need not wait for answers.
    pub(crate) fn sends_plainly(&self) -> bool {
        !matches!(self, Self::Rep(_) | Self::Req(_))
    }

    /// Decides on a received message.
    pub(crate) fn admit(&self, id: ConnId, wire: &[u8]) -> Admit {
        match self {
            Self::Push(_) => Admit::Drop(DropReason::NotExpected),
            Self::Rep(reply) => reply.admit(wire),
            Self::Req(request) => request.admit(id, wire),
            Self::Xpub(xpub) if xpub.is_pub() => Admit::Drop(DropReason::NotExpected),
            Self::Xsub(xsub) => xsub.admit(id, wire),
            _ => Admit::Pass { skip: 0 },
        }
    }

    /// Notes that a message admitted by [`Self::admit`] has gone on. Returns whether the other side
    /// may send now although it could not before.
    pub(crate) fn accepted(
        &mut self,
        id: ConnId,
        wire: &[u8],
        skip: usize,
        conns: &mut ConnTable,
        options: &SocketOptions,
    ) -> bool {
        match self {
            Self::Dealer(balancer) if options.balance == Balance::Ready => {
                balancer.answered(id, conns)
            }
            Self::Rep(reply) => {
                reply.accepted(id, &wire[..skip]);
                false
            }
            Self::Req(request) => request.accepted(),
            _ => false,
        }
    }

    /// Whether [`Self::one`] can route messages.
    pub(crate) fn sends_singly(&self) -> bool {
        matches!(
            self,
            Self::Dealer(_) | Self::Pair(_) | Self::Push(_) | Self::Router(_)
        )
    }

    /// A fast path of [`Self::route`] for the caller's loop: the only peer that gets the message,
    /// if it has room, and the number of bytes of its own identity to leave out.
    #[inline(always)]
    pub(crate) fn one(
        &mut self,
        wire: &[u8],
        conns: &ConnTable,
        options: &SocketOptions,
    ) -> Option<(ConnId, usize)> {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => {
                Some((balancer.one(conns, options)?, 0))
            }
            Self::Router(router) => router.one(wire, conns, options),
            _ => None,
        }
    }

    /// Whether every message goes to the peer of the last one, while that has room.
    #[inline]
    pub(crate) fn is_steady(&self) -> bool {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => {
                balancer.is_steady()
            }
            Self::Xpub(xpub) => xpub.is_steady(),
            _ => false,
        }
    }

    /// Whether a message goes to the peers of the last one, while they have room and no peer joins
    /// or leaves, subscribes or cancels. If not, call [`Self::route`].
    #[inline]
    pub(crate) fn repeats(&mut self, wire: &[u8]) -> bool {
        match self {
            Self::Xpub(xpub) => {
                let topic = Frames::new(wire).first();
                xpub.repeats(topic)
            }
            _ => self.is_steady(),
        }
    }

    /// Decides where a message goes; several peers are listed in `targets`. The envelope that this
    /// socket adds is put into `envelope`. Both must be empty.
    pub(crate) fn route(
        &mut self,
        message: Outgoing<'_>,
        conns: &mut ConnTable,
        options: &SocketOptions,
        targets: &mut Vec<ConnId>,
        envelope: &mut Vec<u8>,
    ) -> Route {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => {
                balancer.route(conns, options)
            }
            Self::Pull => Route::Drop(DropReason::NotExpected),
            Self::Echo => to_one(message.sender, 0, conns, options),
            Self::Rep(reply) => reply.route(conns, options, envelope),
            Self::Req(request) => request.route(conns, options, envelope),
            Self::Router(router) => router.route(message.wire, conns, options),
            Self::Xpub(xpub) => {
                if !message.is_matched {
                    xpub.find(message.first());
                }
                xpub.found(conns, options, targets);
                fan_out(conns, options, targets)
            }
            Self::Xsub(xsub) => match message.subscription() {
                _ if xsub.is_sub() => Route::Drop(DropReason::NotExpected),
                Some(add) => Route::Subscription { add },
                None => {
                    xsub.all(targets);
                    fan_out(conns, options, targets)
                }
            },
        }
    }

    /// Whether peers may not get every message to which they subscribe: call
    /// [`Self::match_permitted`] before [`Self::route`].
    pub(crate) fn has_filters(&self) -> bool {
        matches!(self, Self::Xpub(xpub) if xpub.has_filters())
    }

    /// Matches a topic with the subscriptions of the peers that may get it; false if all may.
    pub(crate) fn match_permitted(&mut self, topic: &[u8]) -> bool {
        match self {
            Self::Xpub(xpub) if xpub.has_filters() => {
                xpub.find_permitted(topic);
                true
            }
            _ => false,
        }
    }

    /// Whether orphaned messages wait for another peer.
    #[inline]
    pub(crate) fn has_orphaned(&self) -> bool {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => {
                balancer.has_orphaned()
            }
            Self::Req(request) => request.has_orphaned(),
            _ => false,
        }
    }

    /// Orphaned messages, if the type gives them to other peers.
    pub(crate) fn orphaned(&self) -> Option<&Unsent> {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => {
                Some(balancer.orphaned())
            }
            Self::Req(request) => Some(request.orphaned()),
            _ => None,
        }
    }

    /// Bytes of orphaned messages.
    pub(crate) fn orphaned_bytes(&self) -> u64 {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => {
                balancer.orphaned_bytes()
            }
            Self::Req(request) => request.orphaned_bytes(),
            _ => 0,
        }
    }

    /// Gives orphaned messages to other peers, as far as they have room; returns the number dropped
    /// for lack of room.
    pub(crate) fn deliver_orphaned(
        &mut self,
        conns: &mut ConnTable,
        options: &SocketOptions,
        outbox: &mut Outbox,
        errand: &mut Errand,
    ) -> u32 {
        let Some(balancer) = self.balancer() else {
            return 0;
        };
        let (last, dropped) = balancer.deliver_orphaned(conns, options, outbox, errand);
        if let (Self::Req(request), Some(id)) = (self, last) {
            request.redelivered(id);
        }
        dropped
    }

    /// The outgoing half of a type whose messages wait for a peer with room.
    pub(crate) fn balancer(&mut self) -> Option<&mut Balancer> {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => Some(balancer),
            Self::Req(request) => Some(request.balancer()),
            _ => None,
        }
    }

    /// The same as [`Self::balancer`], read-only.
    pub(crate) fn as_balancer(&self) -> Option<&Balancer> {
        match self {
            Self::Dealer(balancer) | Self::Pair(balancer) | Self::Push(balancer) => Some(balancer),
            Self::Req(request) => Some(request.as_balancer()),
            _ => None,
        }
    }

    /// Whether its peers answer messages, as workers do.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self, Self::Dealer(_) | Self::Req(_))
    }

    /// Whether it takes the next request only after the last one was answered.
    pub(crate) fn is_rep(&self) -> bool {
        matches!(self, Self::Rep(_))
    }

    /// Whether it puts the sender's identity in front of received messages.
    pub(crate) fn is_router(&self) -> bool {
        matches!(self, Self::Router(_))
    }

    /// Whether it sends subscriptions to its peers.
    pub(crate) fn is_xsub(&self) -> bool {
        matches!(self, Self::Xsub(_))
    }

    /// Whether it sends the next request only after the last one was answered.
    pub(crate) fn is_req(&self) -> bool {
        matches!(self, Self::Req(_))
    }

    /// Forgets the request whose answer this side waits for.
    pub(crate) fn give_up_request(&mut self) {
        match self {
            Self::Rep(reply) => reply.give_up(),
            Self::Req(request) => request.give_up(),
            _ => {}
        }
    }
}

/// The route to this one peer. By default, the types that use it drop messages for a full peer;
/// messages for an absent peer are dropped whatever the options say.
#[inline]
pub(crate) fn to_one(id: ConnId, skip: usize, conns: &ConnTable, options: &SocketOptions) -> Route {
    match conns.target(id) {
        Some(conn) if !conn.is_at_high_water(options, conns.queue_size_max) => {
            Route::To { id, skip }
        }
        Some(conn) if !conn.is_blocked => Route::Flush(id),
        Some(_) if options.overflow.takes_back() => Route::To { id, skip },
        Some(_) if options.overflow == Overflow::Block => Route::Wait,
        Some(_) => Route::Full(id),
        None => Route::Drop(DropReason::NoSuchPeer),
    }
}

/// Moves peers without room behind those with room. If a full peer's queue was not offered to the
/// kernel yet, that is done first: a message that the peer misses after that it misses because it
/// is slow.
#[inline]
fn fan_out(conns: &ConnTable, options: &SocketOptions, targets: &mut Vec<ConnId>) -> Route {
    let mut all_can = true;
    for id in targets.iter() {
        match conns.target(*id) {
            Some(conn) if !conn.is_at_high_water(options, conns.queue_size_max) => {}
            Some(conn) if !conn.is_blocked => return Route::Flush(*id),
            _ => all_can = false,
        }
    }
    if all_can {
        return Route::Targets { full: 0 };
    }
    targets.retain(|id| conns.target(*id).is_some());
    // Peers with room stay in front, in their order.
    let mut kept = 0;
    for at in 0..targets.len() {
        let is_full = conns
            .get(targets[at])
            .is_some_and(|conn| conn.is_at_high_water(options, conns.queue_size_max));
        if !is_full || options.overflow.takes_back() {
            targets.swap(kept, at);
            kept += 1;
        }
    }
    let full = targets.len() - kept;
    if full > 0 && options.overflow == Overflow::Block {
        return Route::Wait;
    }
    Route::Targets {
        full: u32::try_from(full).unwrap_or(u32::MAX),
    }
}

/// Removes the last `full` of `targets`: the peers that miss a message.
#[inline]
pub(crate) fn split_missing(targets: &mut Vec<ConnId>, full: u32) -> Drain<'_, ConnId> {
    targets.drain(targets.len() - full as usize..)
}

/// Counts messages that these peers of a socket miss because their queues are full.
pub(crate) fn count_missing(
    stats: &mut SocketStats,
    conns: &mut ConnTable,
    missing: impl IntoIterator<Item = ConnId>,
    messages: u32,
) {
    for id in missing {
        stats.count_drops(DropReason::PeerFull, messages);
        conns.count_drops(id, DropReason::PeerFull, messages);
    }
}

#[cfg(test)]
mod tests;
