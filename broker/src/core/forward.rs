//! The loop that takes most of the time: it forwards the messages of one input from one socket to
//! the one across.

use crate::config::Side;
use crate::conn::egress::{DIRECT_SIZE_MIN, Shared};
use crate::conn::outbox::Outbox;
use crate::conn::{ConnTable, Input, Room};
use crate::core::Flow;
use crate::core::deferred::Deferred;
use crate::core::observe::{Observer, Ready, Sender, Wire};
use crate::core::turn::{self, Turn, cost};
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::pattern::{Admit, Outgoing, Route, count_missing, split_missing};
use crate::proxy::Socket;
use crate::proxy::ring::append_numbered;
use crate::reason::DropReason;
use std::ops::Range;

/// Targets share a copy of a run of at least this size; of a shorter run each has its own copy,
/// which takes no more memory than a share.
const SHARED_SIZE_MIN: usize = 256;

/// The path of all messages of one input.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardPlan {
    /// Whether each message goes to one peer and is queued by itself.
    pub(super) goes_singly: bool,
    /// Whether several messages may be queued as one: they are not changed, and the queues do not
    /// keep them apart.
    pub(super) has_runs: bool,
    /// Their sender.
    pub(super) id: ConnId,
    /// Whether a peer may not get every message to which it subscribes.
    pub(super) is_filtered: bool,
    /// Whether the role of the sender limits what it may send.
    pub(super) is_limited: bool,
    /// Whether messages get their numbers behind them.
    pub(super) is_numbered: bool,
    /// Whether messages are only routed and queued: their admission needs no decision.
    pub(super) is_plain: bool,
    /// Whether observers take note of them.
    pub(super) is_watched: bool,
    /// Whether other senders have waited for longer.
    pub(super) must_wait: bool,
    pub(super) proxy: ProxyId,
    /// The side that received them.
    pub(super) side: Side,
    /// The socket that received them.
    pub(super) socket: SocketId,
    /// The socket that sends them on.
    pub(super) to: SocketId,
}

/// The parts of the core that forwarding needs, looked up once for all messages.
#[derive(Debug)]
pub(super) struct Forwarder<'a> {
    pub(super) conns: &'a mut ConnTable,
    pub(super) deferred: &'a mut Deferred,
    /// The envelope that a REQ or REP puts in front of a message.
    pub(super) envelope: &'a mut Vec<u8>,
    pub(super) from: &'a mut Socket,
    /// Whether the sending socket has matched the message at the front.
    pub(super) is_matched: bool,
    pub(super) observer: Observer<'a>,
    pub(super) outbox: &'a mut Outbox,
    /// The prefix of this sender's messages.
    pub(super) prefix: &'a [u8],
    pub(super) targets: &'a mut Vec<ConnId>,
    pub(super) to: &'a mut Socket,
    pub(super) turn: &'a mut Turn,
    pub(super) plan: &'a ForwardPlan,
}

/// Why [`Forwarder::forward_all`] stopped.
#[derive(Clone, Copy, Debug)]
pub(super) enum ForwardEnd {
    /// The input has no further message.
    Empty,
    /// The message at the front, of this size, goes to no peer.
    Nowhere { route: Route, size: usize },
    /// The message at the front cannot go on yet.
    Stopped(Flow),
}

impl<'a> Forwarder<'a> {
    /// Forwards messages from the front of `input`, at most `quota`, and consumes them. `find`
    /// returns the size of the first.
    pub(super) fn forward_all(
        &mut self,
        input: &mut Input,
        find: &impl Fn(&[u8]) -> Option<usize>,
        quota: &mut u32,
    ) -> ForwardEnd {
        let is_steady = self.plan.has_runs && self.to.pattern.is_steady();
        loop {
            if self.plan.goes_singly && !is_steady {
                if self.plan.is_watched {
                    self.forward_singly::<true>(input, find, quota);
                } else {
                    self.forward_singly::<false>(input, find, quota);
                }
            }
            let Some(size) = find(input.bytes()) else {
                return ForwardEnd::Empty;
            };
            if *quota == 0 || self.turn.cuts() {
                return ForwardEnd::Stopped(Flow::More);
            }
            *quota -= 1;
            self.turn.charge(cost::MESSAGE);
            let mut taken = 0;
            if !self.plan.is_plain {
                match self.admit(&input.bytes()[..size]) {
                    Admit::Pass { skip } => taken = skip,
                    Admit::Wait => return ForwardEnd::Stopped(Flow::Suspended),
                    Admit::Drop(reason) => {
                        self.from.stats.count_drop(reason);
                        input.consume(size);
                        continue;
                    }
                }
            }
            if self.plan.is_watched {
                match self.reserve(&input.bytes()[taken..size]) {
                    Ready::Flush(reader) => return self.flush_first(reader),
                    Ready::Now => {}
                    Ready::Wait => return ForwardEnd::Stopped(Flow::Suspended),
                }
                if self.plan.is_numbered {
                    match self.forward_numbered(input, size, taken) {
                        Some(end) => return end,
                        None => continue,
                    }
                }
            }
            let has_run = self.plan.has_runs && !is_shared(input, size);
            let route = self.route(&input.bytes()[taken..size]);
            match route {
                Route::Wait => return ForwardEnd::Stopped(Flow::Suspended),
                Route::Flush(target) => return self.flush_first(target),
                _ => self.from.stats.count_in(1, size),
            }
            if !self.plan.is_plain {
                self.routed(&input.bytes()[..size], taken);
            }
            match route {
                Route::Targets { full } if has_run && (self.is_far() || !self.is_heavy(size)) => {
                    self.forward_run(input, size, full, find, quota);
                }
                Route::To { .. } if has_run && is_steady => {
                    self.forward_run(input, size, 0, find, quota);
                }
                _ => {
                    if !self.send(input, size, taken, route) {
                        return ForwardEnd::Nowhere { route, size };
                    }
                }
            }
        }
    }

    /// Queues the message at the front for the peers of its route, lets observers take note of it,
    /// and consumes it. Returns false, and keeps the message, if it goes to no peer.
    #[inline]
    fn send(&mut self, input: &mut Input, size: usize, taken: usize, route: Route) -> bool {
        let (shared, goes_on) = match route {
            Route::Targets { full } => {
                self.turn.charge(cost::targets(full as usize));
                let missing = split_missing(self.targets, full);
                count_missing(&mut self.to.stats, self.conns, missing, 1);
                (self.queue(input, size, taken), true)
            }
            Route::To { skip, .. } => (self.queue(input, size, taken + skip), true),
            _ => (None, false),
        };
        if self.plan.is_watched {
            let range = input.start() + taken..input.start() + size;
            let whole = shared.as_ref().map(|shared| shared.skip(taken));
            self.observe(&match &whole {
                Some(shared) => Wire::Shared(shared),
                None => Wire::Range(input, range),
            });
        }
        if goes_on && shared.is_none() {
            input.consume(size);
        }
        goes_on
    }

    /// Queues the message at the front for the peers of its route with its number behind it, lets
    /// observers take note of it as it came, and consumes it. Returns the reason if it goes to no
    /// peer, or cannot go on yet.
    #[inline(never)]
    fn forward_numbered(
        &mut self,
        input: &mut Input,
        size: usize,
        taken: usize,
    ) -> Option<ForwardEnd> {
        let number = self.observer.parts.next_number(self.plan.side);
        let route = self.route(&input.bytes()[taken..size]);
        match route {
            Route::Wait => return Some(ForwardEnd::Stopped(Flow::Suspended)),
            Route::Flush(target) => return Some(self.flush_first(target)),
            _ => self.from.stats.count_in(1, size),
        }
        if !self.plan.is_plain {
            self.routed(&input.bytes()[..size], taken);
        }
        let wire = Wire::Range(input, input.start() + taken..input.start() + size);
        let Route::Targets { full } = route else {
            self.observe(&wire);
            return Some(ForwardEnd::Nowhere { route, size });
        };
        let missing = split_missing(self.targets, full);
        count_missing(&mut self.to.stats, self.conns, missing, 1);
        self.envelope.clear();
        let number = number.unwrap_or_default();
        append_numbered(self.envelope, &input.bytes()[taken..size], number);
        self.queue_numbered(full);
        self.observe(&wire);
        input.consume(size);
        None
    }

    /// Queues the message that was put together in the envelope.
    fn queue_numbered(&mut self, full: u32) {
        let (message, targets) = (&self.envelope[..], self.targets.len());
        self.to.stats.count_out(targets, 1, message.len());
        let shares = targets > 1 && message.len() >= SHARED_SIZE_MIN;
        let copies = if shares { 1 } else { targets as u64 };
        let units = cost::targets(targets + full as usize) + copies * turn::bytes(message.len());
        self.turn.charge(units);
        if shares {
            let shared = self.outbox.store.share_copy(message);
            for target in self.targets.iter() {
                self.outbox
                    .push_shared(self.conns, *target, &[], shared.clone());
            }
        } else {
            for target in self.targets.iter() {
                self.outbox.push_bytes(self.conns, *target, message, 1);
            }
        }
        self.envelope.clear();
    }

    /// The message at the front goes on once this peer was written.
    fn flush_first(&mut self, target: ConnId) -> ForwardEnd {
        self.outbox.mark_urgent(self.conns, target);
        ForwardEnd::Stopped(Flow::Flush)
    }

    /// The loop for sockets that send each message to one peer, while no message needs more work.
    #[inline(never)]
    fn forward_singly<const IS_WATCHED: bool>(
        &mut self,
        input: &mut Input,
        find: &impl Fn(&[u8]) -> Option<usize>,
        quota: &mut u32,
    ) {
        if IS_WATCHED
            && let Some(first) = find(input.bytes())
            && self.reserve(&input.bytes()[..first]) != Ready::Now
        {
            return;
        }
        let (mut messages, mut bytes_in, mut bytes_out) = (0, 0, 0);
        let most = self.turn.left() / (cost::MESSAGE + cost::TARGET);
        let most = (*quota).min(u32::try_from(most).unwrap_or(u32::MAX));
        while messages < most
            && let Some(size) = find(input.bytes())
            && !is_shared(input, size)
            && (!IS_WATCHED || self.can_observe())
            && let Some((id, skip)) = self.one(&input.bytes()[..size])
        {
            let start = input.start();
            let range = start + skip..start + size;
            messages += 1;
            bytes_in += size;
            bytes_out += self.prefix.len() + range.len();
            self.outbox
                .push_input(self.conns, id, self.prefix, input, range);
            if IS_WATCHED {
                self.observe(&Wire::Range(input, start..start + size));
            }
            input.consume(size);
        }
        *quota -= messages;
        let units = u64::from(messages) * (cost::MESSAGE + cost::TARGET);
        self.turn.charge(units + turn::bytes(bytes_out));
        self.from.stats.count_in(messages, bytes_in);
        self.to.stats.count_out(1, messages, bytes_out);
    }

    #[inline(always)]
    fn one(&mut self, wire: &[u8]) -> Option<(ConnId, usize)> {
        let Socket {
            options, pattern, ..
        } = &mut *self.to;
        pattern.one(wire, self.conns, options)
    }

    /// Queues the message at the front, and the next ones with the same targets for which all of
    /// these have room, as one: a queue's overhead is paid once. The last `full` of the targets
    /// have no room and miss all of them.
    #[inline(never)]
    fn forward_run(
        &mut self,
        input: &mut Input,
        first_size: usize,
        full: u32,
        find: &impl Fn(&[u8]) -> Option<usize>,
        quota: &mut u32,
    ) {
        let is_watched = self.plan.is_watched;
        let start = input.start();
        let is_steady = self.to.pattern.is_steady();
        let is_far = self.is_far();
        let reach = self.targets.len() - full as usize;
        let each = cost::repetition(if is_steady { 0 } else { self.targets.len() });
        let (mut messages, mut room, mut size) = (0, None, first_size);
        loop {
            if is_watched {
                self.observe(&Wire::Range(input, input.start()..input.start() + size));
            }
            input.consume(size);
            messages += 1;
            let Some(next) = find(input.bytes()) else {
                break;
            };
            if messages > *quota || is_shared(input, next) {
                break;
            }
            if !is_steady && !self.to.pattern.repeats(&input.bytes()[..next]) {
                self.is_matched = true;
                break;
            }
            let room = room.get_or_insert_with(|| {
                let room = self
                    .conns
                    .least_room(&self.targets[..reach], &self.to.options);
                let copies = if is_far { 1 } else { reach };
                let left = Room::of(self.turn.left() / each, self.turn.bytes_left(copies));
                room.min(left).behind(1, first_size)
            });
            let can_be_shown = !is_watched || self.can_observe();
            if !can_be_shown || !room.take(next) {
                self.is_matched = !is_steady;
                break;
            }
            size = next;
        }
        let range = start..input.start();
        *quota -= messages - 1;
        self.from
            .stats
            .count_in(messages - 1, range.len() - first_size);
        let units = u64::from(messages - 1) * each + cost::targets(self.targets.len());
        self.turn.charge(units);
        let missing = split_missing(self.targets, full);
        count_missing(&mut self.to.stats, self.conns, missing, messages);
        self.push_run(input, range, messages);
    }

    /// Queues adjacent messages of the input for all targets.
    fn push_run(&mut self, input: &Input, range: Range<usize>, messages: u32) {
        let targets = self.targets.len();
        self.to.stats.count_out(targets, messages, range.len());
        if targets == 0 {
            return;
        }
        if self.is_worth_sharing(input, range.len()) {
            self.turn.charge(turn::bytes(range.len()));
            let run = self.outbox.store.share_copy(&input.buffer()[range]);
            for target in self.targets.iter() {
                self.outbox
                    .push_shared_run(self.conns, *target, input, &run, messages);
            }
            return;
        }
        self.turn.charge(targets as u64 * turn::bytes(range.len()));
        for target in self.targets.iter() {
            self.outbox
                .push_run(self.conns, *target, input, range.clone(), messages);
        }
    }

    /// Decides where a message goes, and lists its receivers as targets.
    #[inline]
    fn route(&mut self, wire: &[u8]) -> Route {
        let message = Outgoing {
            is_matched: std::mem::take(&mut self.is_matched),
            prefix: self.prefix,
            sender: self.plan.id,
            wire,
        };
        self.targets.clear();
        let Socket {
            options, pattern, ..
        } = &mut *self.to;
        let route = pattern.route(message, self.conns, options, self.targets, self.envelope);
        if let Route::To { id, .. } = route {
            self.targets.push(id);
        }
        route
    }

    /// Lets the receiving socket decide on a message, if its type or options require it.
    #[inline(never)]
    fn admit(&mut self, wire: &[u8]) -> Admit {
        if self.plan.must_wait {
            return Admit::Wait;
        }
        self.envelope.clear();
        let admitted = self.from.pattern.admit(self.plan.id, wire);
        match admitted {
            Admit::Pass { skip } if self.plan.is_limited || self.plan.is_filtered => {
                self.admit_by_role(&wire[skip..], admitted)
            }
            _ => admitted,
        }
    }

    /// Lets the roles of the sender and of the receivers decide on a message that is otherwise
    /// admitted.
    fn admit_by_role(&mut self, wire: &[u8], admitted: Admit) -> Admit {
        let message = Outgoing {
            is_matched: false,
            prefix: self.prefix,
            sender: self.plan.id,
            wire,
        };
        let topic = message.first();
        // A subscription in the form of a message publishes nothing; its sender may receive all.
        let is_subscription = || self.to.pattern.is_xsub() && message.subscription().is_some();
        if self.plan.is_limited
            && let Some(conn) = self.conns.get_mut(self.plan.id)
            && let Some(permit) = &mut conn.permit
            && !is_subscription()
            && !permit.may_publish(topic)
        {
            return Admit::Drop(DropReason::Denied);
        }
        self.is_matched = self.plan.is_filtered && self.to.pattern.match_permitted(topic);
        admitted
    }

    /// Whether a message of this size has so many targets that a copy for each would cost more than
    /// a shared one, or that they cannot all be written from the input in this turn.
    #[inline]
    fn is_heavy(&self, size: usize) -> bool {
        if self.is_far() {
            return size >= SHARED_SIZE_MIN;
        }
        let each = cost::WRITE + turn::bytes(size);
        size >= DIRECT_SIZE_MIN && self.targets.len() as u64 * each > self.turn.left()
    }

    /// Whether the number of targets makes the cost of each matter.
    #[inline]
    fn is_far(&self) -> bool {
        cost::are_far(self.targets.len())
    }

    /// Whether one copy of a run for all targets is cheaper than the alternatives for each: a copy
    /// of its own, or a write from the scratch, if the bytes are there.
    fn is_worth_sharing(&self, input: &Input, size: usize) -> bool {
        let is_copied = !input.is_scratch() && size >= DIRECT_SIZE_MIN && self.targets.len() > 1;
        is_copied || self.is_far() && size >= SHARED_SIZE_MIN
    }

    /// The observers' first call: before a message is routed.
    #[inline]
    fn reserve(&mut self, wire: &[u8]) -> Ready {
        let sender = self.sender();
        self.observer.reserve(self.conns, sender, wire)
    }

    /// The observers' second call: a message goes on, or has gone to no peer.
    #[inline]
    fn observe(&mut self, wire: &Wire<'_>) {
        let sender = self.sender();
        self.observer.observe(self.conns, self.outbox, sender, wire);
        let changed = self.observer.take_changed_topics();
        self.turn.charge(changed * cost::KEPT_TOPIC);
    }

    /// Whether the next message can be observed in the same way, and within the turn.
    #[inline]
    fn can_observe(&self) -> bool {
        self.observer.has_room() && !self.turn.is_spent()
    }

    fn sender(&self) -> Sender<'a> {
        Sender {
            id: self.plan.id,
            prefix: self.prefix,
            side: self.plan.side,
        }
    }

    /// Further work for some types and options, once a message has its targets and before it is
    /// queued.
    #[inline(never)]
    fn routed(&mut self, wire: &[u8], taken: usize) {
        let Socket {
            options, pattern, ..
        } = &mut *self.from;
        let answers = pattern.accepted(self.plan.id, wire, taken, self.conns, options);
        // An answer releases the next request: of the peers across a REQ, or of those of the REP
        // itself.
        if answers || self.to.pattern.is_rep() {
            self.from.errand.end();
            self.deferred.wake(self.plan.to);
        }
        if self.from.pattern.is_rep() || self.to.pattern.is_req() {
            self.to.errand.begin(self.targets.first().copied());
            if self.to.errand.take_lost() {
                self.from.pattern.give_up_request();
            }
        }
        if self.to.options.overflow.takes_back() {
            let store = &mut self.outbox.store;
            self.to.make_room(self.conns, store, self.targets, wire);
        }
    }

    /// Queues the message at the front of `input`, without its first `skip` bytes, for all targets.
    /// If they share it, takes it out of the input and returns it.
    fn queue(&mut self, input: &mut Input, size: usize, skip: usize) -> Option<Shared> {
        let is_copied_once = is_shared(input, size) || self.is_heavy(size);
        let prefix = front(self.envelope, self.prefix);
        let size_out = size - skip + prefix.len();
        self.to.stats.count_out(self.targets.len(), 1, size_out);
        let targets = self.targets.len();
        let copies = if is_copied_once { 1 } else { targets as u64 };
        let units = cost::targets(targets) + copies * turn::bytes(size_out);
        self.turn.charge(units);
        if is_copied_once {
            // Taking it out moves the following bytes, so the runs of this input end here.
            self.outbox.end_runs(self.conns, input);
            let (message, capacity) = input.take_shared(size);
            let message = self.outbox.store.share(message, capacity);
            for target in self.targets.iter() {
                self.outbox
                    .push_shared(self.conns, *target, prefix, message.skip(skip));
            }
            return Some(message);
        }
        let range = input.start() + skip..input.start() + size;
        let may_touch = prefix.is_empty() && !self.to.keeps_apart;
        for target in self.targets.iter() {
            let (conns, range) = (&mut *self.conns, range.clone());
            if may_touch {
                self.outbox.push_run(conns, *target, input, range, 1);
            } else {
                self.outbox.push_input(conns, *target, prefix, input, range);
            }
        }
        None
    }
}

/// Whether a message of this size is taken out of the input, to be shared by its receivers.
#[inline]
fn is_shared(input: &Input, size: usize) -> bool {
    size >= DIRECT_SIZE_MIN && !input.is_scratch()
}

/// The bytes in front of a message: the envelope, if any, then the sender's identity.
#[inline]
fn front<'a>(envelope: &'a mut Vec<u8>, prefix: &'a [u8]) -> &'a [u8] {
    if envelope.is_empty() {
        return prefix;
    }
    envelope.extend_from_slice(prefix);
    envelope
}
