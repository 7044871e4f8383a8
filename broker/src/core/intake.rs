//! The path of a message: from received bytes to the queues of those who get it.

use crate::config::{Overflow, Side};
use crate::conn::egress::DIRECT_SIZE_MIN;
use crate::conn::input::LARGE_SIZE_MIN;
use crate::conn::{ConnId, Input, Origin, Phase, SocketId};
use crate::core::{Action, Core};
use crate::limits::CONTROL_BYTES_MAX;
use crate::pattern::{Admit, Outgoing, Pattern, Route};
use crate::peer::PeerAddress;
use crate::why::{Drop, Why};
use bytes::BytesMut;
use std::time::Instant;
use zmtp::{Event, Frames, Peer};

/// How far [`Core::handle_input`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The connection is given up.
    Closed,
    /// All that is whole was dealt with: the rest waits for more bytes.
    Done,
    /// A peer whose queue is full must be written before the rest can be dealt with: write all that
    /// [`Core::poll_urgent`] names and call again.
    Flush,
    /// The quota was used up.
    More,
    /// The next message waits for somebody to take it; the connection is not read until
    /// [`crate::core::Action::Resume`].
    Parked,
}

impl Core {
    /// Where the next bytes of a connection go: behind those that wait for them. Takes the scratch
    /// unless a large message is being received.
    pub fn begin_input(&mut self, id: ConnId, scratch: &mut BytesMut) -> Input {
        let need = self.conns.get(id).map_or(0, |conn| conn.need);
        let mut tail = self.take_tail(id);
        if need >= LARGE_SIZE_MIN {
            tail.grow_for(need);
            return tail;
        }
        let mut input = Input::scratch(std::mem::take(scratch));
        input.carry(tail.bytes());
        input
    }

    /// Deals with the messages in `input`, as many as can go somewhere.
    pub fn handle_input(&mut self, now: Instant, id: ConnId, input: &mut Input) -> Flow {
        self.outbox.store.now = Some(now);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.handle_received(now);
            if conn.peer == PeerAddress::Inproc {
                self.transit.note();
            }
        }
        let flow = self.pump(id, input, u32::MAX, false);
        self.outbox.settle(&mut self.conns, input);
        if flow == Flow::Parked
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.is_parked = true;
            conn.session.hold_back(now);
            let SocketId { proxy, side } = conn.socket;
            self.proxies[proxy as usize]
                .socket_mut(side)
                .waiting
                .push_back(id);
        }
        self.remind(id);
        flow
    }

    /// Keeps what is left of `input` in the connection and gives the scratch back.
    pub fn end_input(&mut self, id: ConnId, input: Input, scratch: &mut BytesMut) {
        if !input.is_scratch() {
            self.keep(id, input);
            return;
        }
        if self.is_in_use(id) {
            self.put_tail(id, input.keep());
        }
        *scratch = input.into_buffer();
    }

    /// Keeps what is left of an input that is not the scratch; room that was grown only as long as
    /// a large message needs it.
    fn keep(&mut self, id: ConnId, input: Input) {
        if let Some(conn) = self.conns.get(id)
            && self.is_in_use(id)
        {
            let as_it_is = conn.is_parked || conn.need >= LARGE_SIZE_MIN;
            self.put_tail(id, if as_it_is { input } else { input.keep() });
        }
    }

    fn is_in_use(&self, id: ConnId) -> bool {
        let conn = self.conns.get(id);
        conn.is_some_and(|conn| conn.phase < Phase::Closing)
    }

    /// Copies what [`Core::poll_urgent`]'s connection could not send before the input goes away.
    pub fn keep_rest(&mut self, id: ConnId, input: &Input) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.egress.keep(input, &mut self.outbox.store);
        }
    }

    /// Lets those who wait on `source` go on, as far as there is somebody to take their messages:
    /// one message each in turn, as libzmq's fair queuing has it, or all of one who waits alone.
    pub(super) fn wake(&mut self, source: SocketId) {
        let proxy = &mut self.proxies[source.proxy as usize];
        if proxy.is_paused && !source.side.is_beside() {
            return;
        }
        let to = proxy.socket_mut(source.side.opposite());
        if to.pattern.has_stranded() {
            let (conns, outbox) = (&mut self.conns, &mut self.outbox);
            to.pattern.deliver_stranded(conns, &to.options, outbox);
            if to.pattern.has_stranded() {
                return;
            }
        }
        let from = proxy.socket_mut(source.side);
        let mut waiting = from.waiting.len();
        while waiting > 0 {
            let socket = self.proxies[source.proxy as usize].socket_mut(source.side);
            let Some(id) = socket.waiting.front().copied() else {
                return;
            };
            let quota = if socket.waiting.len() > 1 {
                1
            } else {
                u32::MAX
            };
            let mut input = self.take_tail(id);
            let flow = self.pump(id, &mut input, quota, true);
            self.outbox.settle(&mut self.conns, &input);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.is_parked = !matches!(flow, Flow::Done | Flow::Closed);
            }
            self.keep(id, input);
            let socket = self.proxies[source.proxy as usize].socket_mut(source.side);
            match flow {
                Flow::Flush | Flow::Parked => return,
                Flow::More => socket.waiting.rotate_left(1),
                Flow::Done | Flow::Closed => {
                    socket.waiting.pop_front();
                    waiting -= 1;
                    self.actions.push_back(Action::Resume(id));
                    // There may be something to read, from another socket of ours too.
                    self.transit.note();
                }
            }
        }
    }

    /// Steps through `input`, at most `quota` messages. `is_resumed` if this connection has waited
    /// for its turn; others must line up behind those who wait.
    fn pump(&mut self, id: ConnId, input: &mut Input, mut quota: u32, is_resumed: bool) -> Flow {
        let Some(conn) = self.conns.get(id) else {
            return Flow::Closed;
        };
        let socket = conn.socket;
        self.take_prefix(id);
        loop {
            let Some(conn) = self.conns.get_mut(id) else {
                return Flow::Closed;
            };
            let bytes = input.bytes_mut();
            let step = conn.session.handle_input(bytes, &mut self.control);
            if !self.control.is_empty() {
                self.answer(id);
            }
            let step = match step {
                Ok(step) => step,
                Err(error) => {
                    self.doom(id, Why::Protocol(error));
                    return Flow::Closed;
                }
            };
            match step.event {
                Event::Message(span) => {
                    input.consume(step.consumed);
                    if quota == 0 {
                        return Flow::More;
                    }
                    if socket.side.is_beside() {
                        self.handle_beside(id, socket, input, span.size);
                    } else if let Some(stuck) =
                        self.forward(id, socket, input, span.size, is_resumed)
                    {
                        return stuck;
                    }
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.session.accept();
                        conn.traffic.count_received(span.size);
                    }
                    quota -= 1;
                    continue;
                }
                Event::Need(size) => {
                    input.cut(step.removed);
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.need = size;
                    }
                    return Flow::Done;
                }
                Event::Progress => {}
                Event::Ready(peer) => {
                    if let Err(why) = self.attach(id, &peer) {
                        self.doom(id, why);
                        return Flow::Closed;
                    }
                    self.take_prefix(id);
                }
                Event::Subscription { add, topic } => {
                    if quota == 0 {
                        return Flow::More;
                    }
                    if !self.can_subscribe(socket, is_resumed) {
                        return Flow::Parked;
                    }
                    // Messages that came before it go before it.
                    self.outbox.settle(&mut self.conns, input);
                    self.subscribe(id, &input.bytes()[topic], add);
                    quota -= 1;
                }
            }
            input.consume(step.consumed);
        }
    }

    /// Remembers what goes in front of this peer's messages: for a ROUTER's peer its name, for all
    /// others nothing.
    fn take_prefix(&mut self, id: ConnId) {
        self.prefix.clear();
        if let Some(conn) = self.conns.get(id) {
            self.prefix.extend_from_slice(&conn.identity_frame);
        }
    }

    /// Whether subscriptions can be passed on now. They must not be lost, so they wait while a
    /// publisher has not taken those before; one that takes none for too long is closed.
    fn can_subscribe(&self, socket: SocketId, is_resumed: bool) -> bool {
        let proxy = &self.proxies[socket.proxy as usize];
        let is_paused = proxy.is_paused && !socket.side.is_beside();
        (is_resumed || !is_paused && proxy.socket(socket.side).waiting.is_empty())
            && !self.is_upstream_full(socket.across())
    }

    /// Queues what a session wants said. A peer that does not read gets no more answers to its
    /// PINGs.
    pub(super) fn answer(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if self.control.is_empty() {
            return;
        }
        if conn.phase == Phase::Ready && conn.egress.bytes() > CONTROL_BYTES_MAX {
            self.control.clear();
        } else {
            self.send_control(id);
        }
    }

    /// Sends the message at the front of `input`, received by this socket, on and consumes it;
    /// answers with the reason if it cannot go yet.
    #[inline]
    fn forward(
        &mut self,
        id: ConnId,
        socket: SocketId,
        input: &mut Input,
        size: usize,
        is_resumed: bool,
    ) -> Option<Flow> {
        let proxy = &mut self.proxies[socket.proxy as usize];
        let (is_paused, is_watched) = (proxy.is_paused, proxy.watch.is_active);
        let (from, _) = proxy.sockets_mut(socket.side);
        if (is_paused || !from.waiting.is_empty()) && !is_resumed {
            return Some(Flow::Parked);
        }
        let wire = &input.bytes()[..size];
        if is_watched && let Some(stuck) = self.find_readers(id, socket, wire) {
            return Some(stuck);
        }
        let (from, to) = self.proxies[socket.proxy as usize].sockets_mut(socket.side);
        let taken = match from.pattern.admit(id, wire) {
            Admit::Pass { skip } => skip,
            Admit::Wait => return Some(Flow::Parked),
            Admit::Drop(reason) => {
                from.stats.count_drop(reason);
                input.consume(size);
                return None;
            }
        };
        let message = Outgoing {
            prefix: &self.prefix,
            sender: id,
            wire: &wire[taken..],
        };
        self.targets.clear();
        self.envelope.clear();
        let (conns, targets) = (&mut self.conns, &mut self.targets);
        let route = to
            .pattern
            .route(message, conns, &to.options, targets, &mut self.envelope);
        let skip = match route {
            Route::Wait => return Some(Flow::Parked),
            Route::Flush(target) => {
                self.outbox.mark_urgent(target);
                return Some(Flow::Flush);
            }
            Route::Drop(_) | Route::Full(_) | Route::Subscription { .. } => 0,
            Route::Targets { full } => {
                to.stats.count_drops(Drop::PeerFull, full);
                taken
            }
            Route::To { id: target, skip } => {
                targets.push(target);
                taken + skip
            }
        };
        from.stats.count_in(size);
        to.stats.count_out(
            targets.len(),
            size - skip + self.prefix.len() + self.envelope.len(),
        );
        let answers = from.pattern.accepted(id, wire, taken, conns, &from.options);
        // An answer lets the next request go: of those across a REQ, or of those of the REP itself.
        if answers || to.pattern.is_rep() {
            self.wakes.push(socket.across());
        }
        if to.options.overflow.takes_back() {
            self.make_room_at_targets(socket.across(), wire);
        }
        if !matches!(route, Route::Targets { .. } | Route::To { .. }) {
            self.outbox.settle(&mut self.conns, input);
            self.forwarded_otherwise(socket.across(), route, &input.bytes()[..size]);
        }
        self.deliver(input, size, skip, is_watched.then_some((socket, taken)));
        None
    }

    /// What follows when a message has gone to no peer.
    #[cold]
    fn forwarded_otherwise(&mut self, to: SocketId, route: Route, wire: &[u8]) {
        match route {
            Route::Drop(reason) => self.miss(to, None, reason, wire),
            Route::Full(id) => self.miss(to, Some(id), Drop::PeerFull, wire),
            Route::Subscription { add } => {
                let body = Frames::new(wire).next().map_or(&[][..], |frame| frame.body);
                self.subscribe_by_message(to, add, body.get(1..).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// A message goes to nobody; if it was for a peer that is there, that one misses it.
    fn miss(&mut self, to: SocketId, id: Option<ConnId>, reason: Drop, wire: &[u8]) {
        let socket = self.proxies[to.proxy as usize].socket_mut(to.side);
        socket.stats.count_drop(reason);
        let is_mandatory = socket.options.router_mandatory;
        if let Some(conn) = id.and_then(|id| self.conns.get_mut(id)) {
            conn.traffic.count_drops(reason, 1);
        }
        if is_mandatory {
            self.report_undelivered(to, reason, wire);
        }
    }

    #[cold]
    fn make_room_at_targets(&mut self, to: SocketId, wire: &[u8]) {
        let targets = std::mem::take(&mut self.targets);
        self.make_room(to, &targets, wire);
        self.targets = targets;
    }

    /// Takes older messages out of the queues of these peers, where the options say that newer ones
    /// go before them.
    pub(super) fn make_room(&mut self, to: SocketId, targets: &[ConnId], wire: &[u8]) {
        let socket = self.proxies[to.proxy as usize].socket_mut(to.side);
        let options = &socket.options;
        let topic = Frames::new(wire).next().map_or(&[][..], |frame| frame.body);
        for id in targets {
            let Some(conn) = self.conns.get_mut(*id) else {
                continue;
            };
            let store = &mut self.outbox.store;
            let replaced = match options.overflow {
                Overflow::Conflate => conn.egress.drop_unsent(None, store),
                Overflow::ConflateTopic => conn.egress.drop_unsent(Some(topic), store),
                _ => 0,
            };
            let mut oldest = 0;
            while conn.is_at_high_water(options) && conn.egress.drop_oldest(store) {
                oldest += 1;
            }
            for (reason, count) in [(Drop::Replaced, replaced), (Drop::PeerFull, oldest)] {
                socket.stats.count_drops(reason, count);
                conn.traffic.count_drops(reason, count);
            }
        }
    }

    /// Queues the message at the front of `input`, without its first `skip` bytes, for all targets,
    /// and consumes it. If somebody watches, `shown` is the socket that it came in through, and the
    /// bytes that this took off.
    #[inline]
    fn deliver(
        &mut self,
        input: &mut Input,
        size: usize,
        skip: usize,
        shown: Option<(SocketId, usize)>,
    ) {
        let (conns, outbox) = (&mut self.conns, &mut self.outbox);
        let prefix = if self.envelope.is_empty() {
            &self.prefix
        } else {
            self.envelope.extend_from_slice(&self.prefix);
            &self.envelope
        };
        if input.is_scratch() || size < DIRECT_SIZE_MIN {
            let range = input.start() + skip..input.start() + size;
            for target in &self.targets {
                outbox.push_input(conns, *target, prefix, input, range.clone());
            }
            if let Some((from, taken)) = shown {
                self.show_range(from, input, input.start() + taken..input.start() + size);
            }
            input.consume(size);
        } else {
            // Taking it out moves what stands behind it: runs of this input end here.
            outbox.settle(conns, input);
            let message = input.take_shared(size);
            for target in &self.targets {
                outbox.push_shared(conns, *target, prefix, message.slice(skip..));
            }
            if let Some((from, taken)) = shown {
                self.show_shared(from, &message.slice(taken..));
            }
        }
    }

    /// Takes in a peer whose handshake is over.
    fn attach(&mut self, id: ConnId, peer: &Peer) -> Result<(), Why> {
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        conn.version = peer.version;
        conn.traffic.socket_type = peer.socket_type;
        conn.egress.begin_traffic();
        let (socket_id, origin, address) = (conn.socket, conn.origin, conn.peer);
        let proxy = &mut self.proxies[socket_id.proxy as usize];
        let socket = proxy.socket_mut(socket_id.side);
        let (pattern, options) = (&mut socket.pattern, &socket.options);
        if let Some(replaced) = pattern.attach(id, &peer.identity, &mut self.conns, options)? {
            self.doomed.push((replaced, Why::Replaced));
        }
        socket.peers += 1;
        socket.stats.peers_attached += 1;
        if socket_id.side == Side::Capture {
            proxy.watch.has_readers(proxy.capture.peers);
        }
        let socket = proxy.socket_mut(socket_id.side);
        let options = &socket.options;
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        conn.phase = Phase::Ready;
        if options.overflow.takes_back() || !options.max_age.is_zero() {
            conn.egress.keep_apart();
        }
        let first = socket.first_message();
        let is_xsub = matches!(socket.pattern, Pattern::Xsub(_));
        let is_balancer = socket.pattern.balancer().is_some();
        log::debug!("{} {}: {address} attached", proxy.name, socket_id.side);
        if let Origin::Dialled(link) = origin {
            self.link_is_up(link);
        }
        self.outbox.push_bytes(&mut self.conns, id, &first, 1);
        if is_xsub {
            self.replay_subscriptions(id);
        }
        if is_balancer {
            self.wake_later(socket_id.across());
        }
        Ok(())
    }
}
