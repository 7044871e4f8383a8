//! Conditions that must hold after every turn of a broker.

use super::Host;
use super::{Node, State};
use crate::check::check_size;
use crate::context::Context;
use crate::context::SocketKey;
use crate::model::{index, is_balanced};
use crate::watch::is_at_high_water;
use broker::config::{Admission, Balance, Overflow, SocketName, SocketOptions};
use broker::limits::{UPSTREAM_BYTES_MAX, WORK_PER_TURN};
use broker::{ConnId, Core, Egress};
use zmtp::{Credentials, SocketType};

impl Node {
    /// Checks the conditions of a turn.
    pub(super) fn check_turn(&self, ctx: &Context) {
        for (id, host) in &self.hosts {
            let Some(egress) = self.core.egress(*id) else {
                panic!("{id:?} is forgotten before it is closed");
            };
            let is_stuck = !egress.is_empty() && !self.core.is_blocked(*id);
            // Work beyond the budget of a turn is left to the next.
            assert!(
                !is_stuck || self.core.has_backlog(),
                "{id:?} has something to send that is never written"
            );
            check_size(*id, egress);
            let socket = self.model.socket(*id);
            let options = &socket.options;
            if options.sndhwm != 0 {
                // A partly written message stays, and the newest replaces only the others.
                let begun = u32::from(socket.overflow.takes_back());
                assert!(
                    egress.messages() <= options.sndhwm + begun,
                    "{id:?}: too many messages"
                );
            }
            // Subscriptions must not be lost and have only their own limit; answers have any
            // length.
            let is_limited = !matches!(
                (socket.socket_type, self.model.mirrors[id].socket.side),
                (SocketType::Xsub, _) | (_, SocketName::Control)
            );
            // Encryption makes a batch longer than the messages that had room.
            if is_limited && !egress.is_sealed() {
                let largest = (socket.largest + 9 + 255) as u64;
                let begun = if socket.overflow.takes_back() {
                    largest
                } else {
                    0
                };
                let limit =
                    options.sndhwm_bytes + largest + begun + 2 * broker::limits::PONG_BYTES_MAX;
                assert!(
                    egress.bytes() < limit,
                    "{id:?}: {} bytes queued",
                    egress.bytes()
                );
            }
            // What is in front of a forged frame may wait; the peer is closed when that is gone.
            let is_forger = self.model.mirrors[id].forged.is_some() && host.state == State::Open;
            let waits = host.is_suspended || host.is_cut || self.core.is_cut(*id);
            let may_stay = !is_forger || waits || self.core.has_backlog();
            assert!(may_stay, "{id:?} has forged a frame, and is not closed");
            // A peer that is not admitted any more is closed, at the latest when its input goes on.
            if let Some(Credentials::Curve(key)) = &self.model.mirrors[id].credentials
                && let Admission::Keys(keys) = &self.model.mirrors[id].admission
                && host.state == State::Open
                && keys.client(key).is_none()
            {
                let is_read = self.core.wants_input(*id) && !self.core.is_cut(*id);
                assert!(!is_read, "{id:?} is not admitted, and is read");
            }
            if host.state == State::Open && host.can_read && self.core.wants_input(*id) {
                let is_queued = self.core.is_read_later(*id);
                assert!(is_queued, "{id:?} may be read, but is not due");
            }
        }
        self.check_served();
        // Compares the running account with a recount.
        let (counted, found) = (self.core.memory(), self.core.walk_memory());
        assert_eq!(counted, found, "memory counted, and found");
        let limit = self.config.memory_limit;
        if limit > 0 {
            let used = self.core.memory_in_use();
            // The last step of the turn may have added this much.
            let most = limit + (1 << 20);
            assert!(used <= most, "{used} bytes in use, {limit} allowed");
        }
        assert!(
            ctx.has_beats || self.watches_queues() || self.idle_turns <= self.reminders,
            "{} turns did nothing by {}",
            self.idle_turns,
            ctx.now
        );
    }

    /// A turn does not exceed its budget by much, whatever its work.
    pub(super) fn check_work(&self) {
        let work = self.core.work_of_turn();
        // Each kind of work has its share, which one large item may exceed.
        assert!(work <= 2 * WORK_PER_TURN, "{work} units of work in a turn");
    }

    /// No message waits while a receiver has room: no peer that could take a waiting message is
    /// idle.
    fn check_served(&self) {
        if self.stopped_at.is_some() || self.core.has_backlog() {
            return;
        }
        let is_of = |id: &ConnId, socket| {
            let mirror = &self.model.mirrors[id];
            mirror.socket == socket && mirror.is_live()
        };
        for (proxy, side) in (0..)
            .zip(&self.config.proxies)
            .flat_map(|(proxy, _)| SocketName::SIDES.map(|side| (proxy, side)))
        {
            let from = SocketKey { proxy, side };
            let Some(to) = from.across() else { continue };
            let own = &self.model.sockets[index(from)];
            let socket = &self.model.sockets[index(to)];
            // A REP takes one request after another.
            let is_excused = own.socket_type == SocketType::Rep
                || self.model.is_paused(proxy as usize)
                || self.model.terminated.contains_key(&proxy)
                || !self.can_show(proxy);
            let waits = |(id, _): (&ConnId, &Host)| is_of(id, from) && self.core.is_suspended(*id);
            if is_excused || !self.hosts.iter().any(waits) {
                continue;
            }
            let options = &socket.options;
            // The room of one queue under a memory limit is unknown here.
            let has_limit = self.config.memory_limit > 0;
            let is_empty = |id: &ConnId| self.core.egress(*id).is_none_or(Egress::is_empty);
            let peers = self.hosts.iter();
            let mut peers = peers.filter(|(id, host)| is_of(id, to) && host.state == State::Open);
            if is_balanced(socket.socket_type) && options.balance != Balance::Ready {
                let idle = peers.find(|(id, _)| {
                    has_room(&self.core, **id, options) && (!has_limit || is_empty(id))
                });
                assert!(
                    idle.is_none(),
                    "{:?} has room, and messages wait",
                    idle.map(|(id, _)| id)
                );
            } else if socket.blocks() {
                let is_busy = |id: &ConnId| {
                    let bytes = self.core.egress(*id).map_or(0, Egress::bytes);
                    let is_full = is_at_high_water(&self.core, *id, options);
                    is_full || bytes > UPSTREAM_BYTES_MAX || has_limit && !is_empty(id)
                };
                let mut all = self
                    .hosts
                    .keys()
                    .filter(|id| self.model.mirrors[*id].socket == to);
                assert!(
                    all.any(is_busy),
                    "messages wait for {to:?}, of whose queues none is full"
                );
            }
        }
    }

    /// Whether messages of a proxy need not wait for a reader of its capture.
    fn can_show(&self, proxy: u32) -> bool {
        let capture = &self.config.proxies[proxy as usize].capture;
        let options = &capture.socket.options;
        let blocks = capture.socket.has_endpoint()
            && capture.socket_type != SocketType::Pub
            && options.overflow == Overflow::Block;
        let has_limit = self.config.memory_limit > 0;
        let has_room = |(id, host): (&ConnId, &Host)| {
            let mirror = &self.model.mirrors[id];
            let is_reader =
                mirror.socket.side == SocketName::Capture && mirror.socket.proxy == proxy;
            let is_empty = self.core.egress(*id).is_none_or(Egress::is_empty);
            is_reader
                && mirror.is_live()
                && host.state == State::Open
                && has_room(&self.core, *id, options)
                && (!has_limit || is_empty)
        };
        !blocks || self.hosts.iter().any(has_room)
    }

    /// Whether full queues, or queues with expiring messages, are checked by the clock.
    fn watches_queues(&self) -> bool {
        let mut sockets = self.model.sockets.iter();
        sockets.any(|socket| {
            socket.overflow == Overflow::Disconnect || !socket.options.max_age.is_zero()
        })
    }

    /// Whether nothing will happen to it without an event from outside.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_sent = |id| self.core.egress(id).is_none_or(|egress| egress.is_empty());
        self.inbox.is_empty()
            && !self.core.has_backlog()
            && self.hosts.keys().all(|id| is_sent(*id))
    }

    /// Runs a turn without a reason.
    pub(crate) fn turn_for_nothing(&mut self, ctx: &Context) {
        let before = self.core.statistics();
        let now = self.now(ctx);
        self.core.begin_turn(now);
        self.core.handle_timeout(now, now);
        assert_eq!(self.core.poll_action(), None, "work without a reason");
        assert_eq!(self.core.poll_dirty(), None, "work without a reason");
        assert!(!self.core.run_deferred(now), "work without a reason");
        assert!(!self.core.has_backlog(), "a backlog that never ends");
        assert!(
            self.core.statistics() == before,
            "figures change by themselves"
        );
    }
}

/// Whether a queue has drained to half, where its peer gets messages again.
fn has_room(core: &Core, id: ConnId, options: &SocketOptions) -> bool {
    core.egress(id).is_some_and(|egress| {
        let is_low = egress.messages() < options.sndhwm.div_ceil(2).max(1);
        (options.sndhwm == 0 || is_low) && egress.bytes() <= options.sndhwm_bytes / 2
    })
}
