//! The path of a message: from received bytes to the queues of its receivers.

use crate::conn::liveness::Liveness;
use crate::conn::{Input, Origin, Overflowing, Phase};
use crate::core::forward::{ForwardEnd, ForwardPlan, Forwarder};
use crate::core::observe::Observer;
use crate::core::turn::{self, Kind, cost};
use crate::core::{Action, Core};
use crate::ids::{ConnId, SocketId};
use crate::limits::PONG_BYTES_MAX;
use crate::pattern::{Pattern, Route};
use crate::peer::PeerAddress;
use crate::proxy::{Socket, Sockets};
use crate::reason::{CloseReason, DropReason};
use std::time::Instant;
use zmtp::{Event, Frames, Peer, Step};

/// Units of work for one socket with suspended senders, before the next one has its turn.
const WAKE_QUANTUM: u64 = 100_000;

/// The result of [`Core::handle_input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The connection will be closed.
    Closed,
    /// All whole messages were handled: the rest waits for more bytes.
    Done,
    /// A peer with a full queue must be written first: write every connection of
    /// [`Core::poll_urgent`] and call again.
    Flush,
    /// The budget of the turn is used up: end the input, and continue it in the next turn; see
    /// [`Core::is_cut`].
    More,
    /// The user of the peer has used up its rate: end the input.
    /// [`crate::core::Action::Resume`] tells when it continues; nothing is read until then.
    Paused,
    /// The next message waits for a receiver with room. More may be read only up to the receive
    /// high-water mark; [`crate::core::Action::Resume`] tells when there is room again.
    Suspended,
}

impl Core {
    /// The buffer for the next bytes of a connection: the scratch, behind bytes carried from the
    /// last read, or the connection's own buffer while it receives a large message.
    pub fn begin_input(&mut self, id: ConnId, scratch: &mut Vec<u8>) -> Input {
        if self.is_cut(id) {
            return self.take_tail(id);
        }
        let mut input = Input::scratch(std::mem::take(scratch));
        let Some(conn) = self.conns.get(id) else {
            return input;
        };
        input.set_coded(conn.opener.is_some());
        if conn.is_suspended {
            return input;
        }
        let need = conn.need;
        let mut tail = self.take_tail(id);
        if tail.is_grown_for(need) {
            *scratch = input.into_buffer();
            tail.grow_for(need);
            return tail;
        }
        input.carry(&tail);
        input
    }

    /// Whether received input of this connection was left for the next turn. It must be handled
    /// before more is read: [`Self::begin_input`] returns it, and no bytes may be read into it.
    #[must_use]
    pub fn is_cut(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.is_cut)
    }

    /// Handles the messages in `input`, as many as can go on.
    pub fn handle_input(&mut self, now: Instant, id: ConnId, input: &mut Input) -> Flow {
        let now = self.advance(now);
        self.outbox.store.forget_input();
        if let Some(conn) = self.conns.get_mut(id) {
            self.turn.work_on(match conn.phase {
                Phase::Handshake => Kind::Newcomers,
                Phase::Ready => Kind::Reading,
            });
            if !std::mem::take(&mut conn.is_cut) {
                self.turn.charge(turn::bytes(input.held().len()));
                conn.session.handle_received(now);
            }
            if conn.peer == PeerAddress::Inproc {
                self.shutdown.inproc.note();
            }
        }
        if self.is_suspended(id) {
            return self.buffer_more(now, id, input);
        }
        let flow = self.pump_at_rate(id, input, u32::MAX, false);
        self.outbox.end_runs(&mut self.conns, input);
        if flow == Flow::Suspended
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.is_suspended = true;
            conn.session.pause_liveness(now);
            // A peer that waits for an identity has no turn yet.
            if conn.contest.is_none() {
                let socket = &mut self.sockets[conn.socket];
                socket.suspended.push_back(id, &mut self.conns);
            }
            self.suspend(id, input);
        }
        if flow == Flow::More
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.is_cut = true;
        }
        self.remind(id);
        self.enforce_limit(input.buffer());
        flow
    }

    /// Keeps the rest of `input` in the connection and gives the scratch back.
    pub fn end_input(&mut self, id: ConnId, input: Input, scratch: &mut Vec<u8>) {
        self.outbox.store.forget_input();
        if !input.is_scratch() {
            self.keep(id, input);
            return;
        }
        if self.conns.get(id).is_some() && !input.held().is_empty() {
            self.put_tail(id, input.keep());
        }
        *scratch = input.into_buffer();
    }

    /// Keeps the rest of an input that is not the scratch; its grown room only while a large
    /// message needs it.
    fn keep(&mut self, id: ConnId, input: Input) {
        if let Some(conn) = self.conns.get(id) {
            let is_in_use = conn.is_suspended || conn.is_cut || input.is_grown_for(conn.need);
            let as_it_is = is_in_use && !input.is_mostly_spent();
            self.put_tail(id, if as_it_is { input } else { input.keep() });
        }
    }

    /// Resumes the suspended senders of `source` as far as receivers have room: one message each in
    /// turn, as in libzmq's fair queuing, or all messages of a sender that waits alone.
    pub(super) fn wake(&mut self, source: SocketId) {
        let from = &self.sockets[source];
        let proxy = &self.proxies[from.proxy];
        let Some(opposite) = from.across else {
            // Requests to a control are handled at once.
            if proxy.capture == Some(source) {
                self.wake_for_copies(source);
            }
            return;
        };
        if proxy.is_paused {
            return;
        }
        let to = &mut self.sockets[opposite];
        if to.pattern.has_orphaned() {
            let (conns, outbox) = (&mut self.conns, &mut self.outbox);
            let (options, errand) = (&to.options, &mut to.errand);
            let dropped = to.pattern.deliver_orphaned(conns, options, outbox, errand);
            to.stats.count_drops(DropReason::PeerFull, dropped);
            if to.pattern.has_orphaned() {
                return;
            }
            self.give_up_lost_request(opposite);
        }
        let from = &self.sockets[source];
        let mut waiting = from.suspended.len();
        let until = self.turn.done() + WAKE_QUANTUM;
        while waiting > 0 {
            if self.turn.cuts() || self.turn.done() >= until {
                // The others have their turn first.
                return self.deferred.wake(source);
            }
            let socket = &mut self.sockets[source];
            let Some(id) = socket.suspended.front() else {
                return;
            };
            let quota = if socket.suspended.len() > 1 {
                1
            } else {
                u32::MAX
            };
            let mut input = self.take_tail(id);
            let flow = self.pump_at_rate(id, &mut input, quota, true);
            self.outbox.end_runs(&mut self.conns, &input);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.is_suspended = !matches!(flow, Flow::Done | Flow::Closed | Flow::Paused);
            }
            self.update_room(id, &input);
            self.keep(id, input);
            let socket = &mut self.sockets[source];
            match flow {
                Flow::Flush | Flow::Suspended => return,
                Flow::More => socket.suspended.rotate(&mut self.conns),
                Flow::Done | Flow::Closed | Flow::Paused => {
                    socket.suspended.pop_front(&mut self.conns);
                    waiting -= 1;
                    if socket.suspended.is_empty() {
                        self.none_is_suspended();
                    }
                    self.deferred.act(Action::Resume(id));
                    // The connection may have input, perhaps from another socket of this broker.
                    self.shutdown.inproc.note();
                }
            }
        }
    }

    /// Gives copies that departed readers of a capture left to other readers, paused or not, and
    /// lets messages go on that wait for room in the capture.
    fn wake_for_copies(&mut self, id: SocketId) {
        let capture = &mut self.sockets[id];
        let proxy = capture.proxy;
        if capture.pattern.has_orphaned() {
            let (conns, outbox) = (&mut self.conns, &mut self.outbox);
            let (pattern, errand) = (&mut capture.pattern, &mut capture.errand);
            let dropped = pattern.deliver_orphaned(conns, &capture.options, outbox, errand);
            capture.stats.count_drops(DropReason::PeerFull, dropped);
        }
        self.wake_both(proxy);
    }

    /// Steps through `input`, at most `quota` messages. `is_resumed` if this connection has waited
    /// for its turn; others must line up behind the suspended senders.
    pub(super) fn pump(
        &mut self,
        id: ConnId,
        input: &mut Input,
        mut quota: u32,
        is_resumed: bool,
    ) -> Flow {
        let Some(conn) = self.conns.get(id) else {
            return Flow::Closed;
        };
        let is_limited = conn.limits_topics();
        let plan = self.plan(id, conn.socket, (is_resumed, is_limited));
        let plan = plan.as_ref();
        self.scratch.envelope.clear();
        self.take_prefix(id);
        loop {
            // The common case: whole messages, one after another.
            if let Some(plan) = plan
                && let Some(finder) = self.conns.get(id).and_then(|conn| conn.session.finder())
            {
                let find = |bytes: &[u8]| finder.find(bytes);
                if let Some(stuck) = self.forward(plan, input, &find, &mut quota) {
                    return stuck;
                }
            }
            if let Some(flow) = self.step(id, plan, input, &mut quota) {
                return flow;
            }
            self.turn.charge(cost::COMMAND);
            let has_more = !input.bytes().is_empty() || input.opens_more();
            if has_more && self.turn.cuts() {
                return Flow::More;
            }
        }
    }

    /// Handles the message or command at the front of `input`; returns the reason if the bytes
    /// after it cannot be handled yet.
    #[inline]
    fn step(
        &mut self,
        id: ConnId,
        plan: Option<&ForwardPlan>,
        input: &mut Input,
        quota: &mut u32,
    ) -> Option<Flow> {
        let Some(conn) = self.conns.get_mut(id) else {
            return Some(Flow::Closed);
        };
        let authorization = conn.take_decision();
        let (session, out) = (&mut conn.session, &mut self.scratch.session_out);
        let step = match authorization {
            Some(authorization) => session.authorize(authorization, out).map(Step::of),
            None => session.handle_input(input.bytes_mut(), out),
        };
        if !self.scratch.session_out.is_empty() {
            self.answer(id);
        }
        let mut step = match step {
            Ok(step) => step,
            Err(error) => {
                self.fail_session(id, error);
                return Some(Flow::Closed);
            }
        };
        match step.event {
            Event::Message(span) => {
                input.consume(step.consumed);
                return self.pass_on(id, plan, input, span.size, quota);
            }
            Event::Need(size) => {
                input.cut(step.removed);
                return self.open_or_wait(id, input, size);
            }
            Event::LoopCheck(said) if !self.handle_loop_command(id, said, input) => {
                return Some(Flow::Closed);
            }
            Event::LoopCheck(_) => {}
            Event::Progress => self.charge_handshake(id),
            Event::Authenticate(credentials) => {
                self.charge_handshake(id);
                self.decide(id, credentials);
            }
            Event::Undecided => return Some(Flow::Done),
            Event::Trial(peer) => {
                input.consume(std::mem::take(&mut step.consumed));
                self.begin_coding(id, input);
                self.begin_trial(id, &peer);
            }
            Event::Ready(peer) => {
                input.consume(std::mem::take(&mut step.consumed));
                self.begin_coding(id, input);
                if let Some(flow) = self.try_take_in(id, &peer) {
                    return Some(flow);
                }
            }
            Event::Subscription { add, topic } => {
                if *quota == 0 || self.turn.cuts() {
                    return Some(Flow::More);
                }
                if plan.is_some_and(|plan| plan.must_wait) {
                    return Some(Flow::Suspended);
                }
                // Messages received before it are queued before it.
                self.outbox.end_runs(&mut self.conns, input);
                self.turn.charge(cost::subscription(topic.len()));
                let is_closed = self.subscribe(id, &input.bytes()[topic], add);
                *quota -= 1;
                if is_closed {
                    input.consume(step.consumed);
                    return Some(Flow::Closed);
                }
            }
        }
        input.consume(step.consumed);
        None
    }

    /// Takes in a peer whose handshake is over; returns the reason if its messages cannot be
    /// handled yet.
    fn try_take_in(&mut self, id: ConnId, peer: &Peer) -> Option<Flow> {
        match self.take_in(id, peer) {
            // What follows is handled in the role of its user.
            Ok(true) if self.conns.get(id).is_some_and(|it| it.permit.is_some()) => {
                Some(Flow::More)
            }
            Ok(true) => {
                self.take_prefix(id);
                None
            }
            Ok(false) => Some(Flow::Suspended),
            Err(why) => {
                self.close_later(id, why);
                Some(Flow::Closed)
            }
        }
    }

    /// Forwards the message of this size at the front; returns the reason if it cannot go on yet.
    fn pass_on(
        &mut self,
        id: ConnId,
        plan: Option<&ForwardPlan>,
        input: &mut Input,
        size: usize,
        quota: &mut u32,
    ) -> Option<Flow> {
        // The bytes are there until they are consumed.
        let there = input.bytes().len();
        let find = |bytes: &[u8]| (bytes.len() == there).then_some(size);
        match plan {
            Some(plan) => {
                if let Some(stuck) = self.forward(plan, input, &find, quota) {
                    return Some(stuck);
                }
            }
            None if self.has_answered(id) => return Some(Flow::More),
            None => self.handle_auxiliary(id, input, size),
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.accept();
        }
        None
    }

    /// The path of a peer's messages; an auxiliary socket has none.
    fn plan(
        &self,
        id: ConnId,
        socket: SocketId,
        (is_resumed, is_limited): (bool, bool),
    ) -> Option<ForwardPlan> {
        let from = &self.sockets[socket];
        let (side, to_id) = (from.name.side()?, from.across?);
        let (proxy, to) = (&self.proxies[from.proxy], &self.sockets[to_id]);
        let must_wait = (proxy.is_paused || !from.suspended.is_empty()) && !is_resumed;
        let is_filtered = to.pattern.has_filters();
        let has_roles = is_limited || is_filtered;
        let is_plain = !(must_wait || has_roles) && from.takes_plainly() && to.sends_plainly();
        let is_watched = proxy.observers.is_active();
        let is_short = is_plain && (!is_watched || proxy.has_steady_copies(&self.sockets));
        Some(ForwardPlan {
            goes_singly: is_short && to.pattern.sends_singly(),
            has_runs: is_short && !from.pattern.is_router() && !to.keeps_apart,
            id,
            is_filtered,
            is_limited,
            is_numbered: is_watched && proxy.observers.next_number(side).is_some(),
            is_plain,
            is_watched,
            must_wait,
            proxy: from.proxy,
            side,
            socket,
            to: to_id,
        })
    }

    /// Sets the prefix of this peer's messages: its identity for a peer of a ROUTER, otherwise
    /// empty.
    fn take_prefix(&mut self, id: ConnId) {
        self.scratch.prefix.clear();
        if let Some(conn) = self.conns.get(id) {
            self.scratch.prefix.extend_from_slice(&conn.identity_frame);
        }
    }

    /// Queues the output of a session. A peer that does not read gets no further answers to PINGs.
    pub(super) fn answer(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if self.scratch.session_out.is_empty() {
            return;
        }
        if conn.egress.bytes() > PONG_BYTES_MAX {
            self.scratch.session_out.clear();
        } else {
            self.send_session_output(id);
        }
    }

    /// Forwards messages from the front of `input`, as many as `find` finds, and consumes them;
    /// returns the reason if not all could go on.
    #[inline]
    fn forward(
        &mut self,
        plan: &ForwardPlan,
        input: &mut Input,
        find: &impl Fn(&[u8]) -> Option<usize>,
        quota: &mut u32,
    ) -> Option<Flow> {
        loop {
            let proxy = &mut self.proxies[plan.proxy];
            let (from, to, capture) = passage(&mut self.sockets, plan, proxy.capture);
            let observer = Observer {
                capture,
                copies: &mut self.scratch.copies,
                parts: &mut proxy.observers,
            };
            let (messages, bytes) = (from.stats.messages_in, from.stats.bytes_in);
            let mut forwarder = Forwarder {
                conns: &mut self.conns,
                envelope: &mut self.scratch.envelope,
                from,
                is_matched: false,
                observer,
                outbox: &mut self.outbox,
                prefix: &self.scratch.prefix,
                targets: &mut self.scratch.targets,
                to,
                turn: &mut self.turn,
                deferred: &mut self.deferred,
                plan,
            };
            let halt = forwarder.forward_all(input, find, quota);
            let stats = &forwarder.from.stats;
            let (messages, bytes) = (stats.messages_in - messages, stats.bytes_in - bytes);
            if let Some(conn) = self.conns.get_mut(plan.id) {
                conn.traffic.count_received(messages, bytes);
            }
            if plan.is_limited {
                self.report_denied_message(plan.id);
            }
            match halt {
                ForwardEnd::Empty => return None,
                ForwardEnd::Stopped(flow) => return Some(flow),
                ForwardEnd::Nowhere { route, size } => {
                    self.outbox.end_runs(&mut self.conns, input);
                    self.forwarded_nowhere(plan.to, route, &input.bytes()[..size]);
                    input.consume(size);
                }
            }
        }
    }

    /// Further work when a message has gone to no peer.
    #[cold]
    fn forwarded_nowhere(&mut self, to: SocketId, route: Route, wire: &[u8]) {
        match route {
            Route::Drop(reason) => self.miss(to, None, reason, wire),
            Route::Full(id) => self.miss(to, Some(id), DropReason::PeerFull, wire),
            Route::Subscription { add } => {
                let body = Frames::new(wire).first();
                self.subscribe_by_message(to, add, body.get(1..).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// A message goes to no peer; if it was for a connected peer, that peer misses it.
    fn miss(&mut self, to: SocketId, id: Option<ConnId>, reason: DropReason, wire: &[u8]) {
        let socket = &mut self.sockets[to];
        socket.stats.count_drop(reason);
        let is_mandatory = socket.options.router_mandatory;
        match id {
            Some(id) => self.conns.count_drops(id, reason, 1),
            None if reason == DropReason::PeerFull && socket.begins_to_overflow() => {
                let overflowing = Overflowing::Socket(to);
                self.conns.overflowing.push_back(overflowing);
            }
            None => {}
        }
        if is_mandatory {
            self.report_undelivered(to, reason, wire);
        }
    }

    /// Attaches a peer after its handshake.
    pub(super) fn attach(&mut self, id: ConnId, peer: &Peer) -> Result<(), CloseReason> {
        let role = self.may_enter(id, peer)?;
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        conn.version = peer.version;
        conn.traffic.socket_type = peer.socket_type;
        conn.egress.begin_traffic();
        conn.liveness = Liveness::beyond(conn.bytes_meant_for_it());
        let (socket_id, origin) = (conn.socket, conn.origin);
        let kept = self.take_down_link_queue(origin);
        let socket = &mut self.sockets[socket_id];
        if let Some(replaced) = socket.pattern.attach(id, &peer.identity, &mut self.conns)? {
            self.deferred
                .closes
                .push_back((replaced, CloseReason::Replaced));
            if let Some(conn) = self.conns.get_mut(replaced) {
                conn.closes_later = true;
            }
        }
        socket.count_attached(id);
        let proxy = &mut self.proxies[socket.proxy];
        if proxy.capture == Some(socket_id) {
            proxy.observers.set_readers(socket.peers);
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        conn.phase = Phase::Ready;
        let keeps_apart = socket.keeps_apart;
        let first = socket.first_message();
        let is_xsub = matches!(socket.pattern, Pattern::Xsub(_));
        let is_balancer = socket.pattern.balancer().is_some();
        let (name, side, named) = (&*proxy.name, socket.name, conn.named());
        log::debug!(
            proxy = name, side:% = side, peer:% = named;
            "{name} {side}: {named} attached"
        );
        if let Origin::Dialled(link) = origin {
            self.link_is_up(link);
        }
        self.add_loop_peer(id, peer);
        // It is for this peer alone: it must not be dropped, or given to another peer.
        self.outbox.push_bytes(&mut self.conns, id, &first, 0);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.egress.begin_traffic();
            if keeps_apart {
                conn.egress.keep_apart();
            }
        }
        self.enter(id, role.as_ref());
        self.hand_over(id, kept);
        self.count_subscriptions(socket_id);
        if is_xsub {
            self.replay_subscriptions(id);
        }
        if is_balancer {
            self.wake_for(socket_id);
        }
        Ok(())
    }
}

/// The parts that a message passes: the socket that received it, the one that sends it on, and the
/// capture.
fn passage<'a>(
    sockets: &'a mut Sockets,
    plan: &ForwardPlan,
    capture: Option<SocketId>,
) -> (&'a mut Socket, &'a mut Socket, Option<&'a mut Socket>) {
    if let Some(capture) = capture {
        let [from, to, capture] = sockets.disjoint_mut([plan.socket, plan.to, capture]);
        (from, to, Some(capture))
    } else {
        let (from, to) = sockets.pair_mut(plan.socket, plan.to);
        (from, to, None)
    }
}
