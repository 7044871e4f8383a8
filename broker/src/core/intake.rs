//! The path of a message: from received bytes to the queues of those who get it.

use crate::conn::egress::DIRECT_SIZE_MIN;
use crate::conn::input::LARGE_SIZE_MIN;
use crate::conn::{Conn, ConnId, Input, Origin, Phase, SocketId};
use crate::core::{Action, Core};
use crate::limits::CONTROL_BYTES_MAX;
use crate::pattern::{Admit, Outgoing, Pattern, Route, subscription_in, to_one};
use crate::why::{Drop, Why};
use bytes::BytesMut;
use std::time::Instant;
use zmtp::{Event, Peer};

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
        let Some(conn) = self.conns.get_mut(id) else {
            return Input::default();
        };
        if conn.need >= LARGE_SIZE_MIN {
            let mut input = std::mem::take(&mut conn.tail);
            input.grow_for(conn.need);
            return input;
        }
        let mut input = Input::scratch(std::mem::take(scratch));
        input.carry(conn.tail.bytes());
        conn.tail = Input::default();
        input
    }

    /// Deals with the messages in `input`, as many as can go somewhere.
    pub fn handle_input(&mut self, now: Instant, id: ConnId, input: &mut Input) -> Flow {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.handle_received(now);
        }
        let flow = self.pump(id, input, u32::MAX, false);
        self.outbox.settle(&mut self.conns, input);
        self.remind(id);
        if flow == Flow::Parked
            && let Some(conn) = self.conns.get_mut(id)
        {
            conn.is_parked = true;
            let SocketId { proxy, side } = conn.socket;
            self.proxies[proxy as usize]
                .socket_mut(side)
                .waiting
                .push_back(id);
        }
        flow
    }

    /// Keeps what is left of `input` in the connection and gives the scratch back.
    pub fn end_input(&mut self, id: ConnId, input: Input, scratch: &mut BytesMut) {
        let conn = self
            .conns
            .get_mut(id)
            .filter(|conn| conn.phase < Phase::Closing);
        if !input.is_scratch() {
            if let Some(conn) = conn {
                keep(conn, input);
            }
            return;
        }
        if let Some(conn) = conn {
            conn.tail = input.keep();
        }
        *scratch = input.into_buffer();
    }

    /// Copies what [`Core::poll_urgent`]'s connection could not send before the input goes away.
    pub fn keep_rest(&mut self, id: ConnId, input: &Input) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.egress.keep(input, &mut self.outbox.pool);
        }
    }

    /// Lets those who wait on `source` go on, as far as there is somebody to take their messages: one
    /// message each in turn, as libzmq's fair queuing has it, or all of one who waits alone.
    pub(super) fn wake(&mut self, source: SocketId) {
        let proxy = &mut self.proxies[source.proxy as usize];
        let to = proxy.socket_mut(proxy.across(source.side));
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
            let Some(conn) = self.conns.get_mut(id) else {
                return;
            };
            let mut input = std::mem::take(&mut conn.tail);
            let flow = self.pump(id, &mut input, quota, true);
            self.outbox.settle(&mut self.conns, &input);
            if let Some(conn) = self.conns.get_mut(id) {
                conn.is_parked = !matches!(flow, Flow::Done | Flow::Closed);
                keep(conn, input);
            }
            let socket = self.proxies[source.proxy as usize].socket_mut(source.side);
            match flow {
                Flow::Flush | Flow::Parked => return,
                Flow::More => socket.waiting.rotate_left(1),
                Flow::Done | Flow::Closed => {
                    socket.waiting.pop_front();
                    waiting -= 1;
                    self.actions.push_back(Action::Resume(id));
                }
            }
        }
    }

    /// Steps through `input`, at most `quota` messages. `is_resumed` if this connection has waited for
    /// its turn; others must line up behind those who wait.
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
            let step = conn
                .session
                .handle_input(input.bytes_mut(), &mut self.control);
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
                    if let Some(stuck) = self.forward(id, socket, input, span.size, is_resumed) {
                        return stuck;
                    }
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.session.accept();
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
                    self.subscribe(id, &input.bytes()[topic], add);
                }
            }
            input.consume(step.consumed);
        }
    }

    /// Remembers what goes in front of this peer's messages: for a ROUTER's peer its name, for all
    /// others nothing. An echo knows where to send what it gets.
    fn take_prefix(&mut self, id: ConnId) {
        self.prefix.clear();
        if let Some(conn) = self.conns.get(id)
            && !self.proxies[conn.socket.proxy as usize].is_echo
        {
            self.prefix.extend_from_slice(&conn.identity_frame);
        }
    }

    /// Queues what a session wants said. A peer that does not read gets no more answers to its PINGs.
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

    /// Sends the message at the front of `input`, received by this socket, on and consumes it; answers
    /// with the reason if it cannot go yet.
    #[inline]
    fn forward(
        &mut self,
        id: ConnId,
        socket: SocketId,
        input: &mut Input,
        size: usize,
        is_resumed: bool,
    ) -> Option<Flow> {
        let wire = &input.bytes()[..size];
        let proxy = &mut self.proxies[socket.proxy as usize];
        let across = SocketId {
            side: proxy.across(socket.side),
            ..socket
        };
        let from = proxy.socket_mut(socket.side);
        if !from.waiting.is_empty() && !is_resumed {
            return Some(Flow::Parked);
        }
        let taken = match from.pattern.admit(id, wire) {
            Admit::Pass { skip } => skip,
            Admit::Wait => return Some(Flow::Parked),
            Admit::Drop(reason) => {
                from.stats.count_drop(reason);
                input.consume(size);
                return None;
            }
        };
        let route = self.route(id, across, &wire[taken..]);
        match route {
            Route::Wait => return Some(Flow::Parked),
            Route::Flush(target) => {
                self.outbox.mark_urgent(target);
                return Some(Flow::Flush);
            }
            _ => {}
        }
        let proxy = &mut self.proxies[socket.proxy as usize];
        let from = proxy.socket_mut(socket.side);
        from.stats.count_in(size);
        let answers = from.pattern.accepted(id, wire, taken);
        let to = proxy.socket_mut(across.side);
        // An answer lets the next request go: of those across a REQ, or of those of the REP itself.
        if answers || to.pattern.is_rep() {
            self.wakes.push(across);
        }
        let added = self.envelope.len() + self.prefix.len();
        match route {
            Route::Drop(reason) => {
                to.stats.count_drop(reason);
                input.consume(size);
            }
            Route::To { id: target, skip } => {
                to.stats.count_out(1, size - taken - skip + added);
                self.targets.clear();
                self.targets.push(target);
                self.deliver(input, size, taken + skip);
            }
            _ => {
                to.stats.count_out(self.targets.len(), size - taken + added);
                self.deliver(input, size, taken);
            }
        }
        None
    }

    /// Decides where a message goes that came in on the other side of `to`. What `to` itself puts in
    /// front is left in the envelope.
    #[inline]
    fn route(&mut self, from: ConnId, to: SocketId, wire: &[u8]) -> Route {
        self.envelope.clear();
        let proxy = &mut self.proxies[to.proxy as usize];
        let is_echo = proxy.is_echo;
        let socket = proxy.socket_mut(to.side);
        if is_echo && socket.pattern.balancer().is_none() {
            return to_one(from, 0, &self.conns, &socket.options);
        }
        if let Pattern::Xsub(_) = socket.pattern
            && self.prefix.is_empty()
            && let Some((add, topic)) = subscription_in(wire)
        {
            self.targets.clear();
            return self.subscribe_by_message(to, add, topic);
        }
        let message = Outgoing {
            prefix: &self.prefix,
            wire,
        };
        let (conns, targets) = (&mut self.conns, &mut self.targets);
        let route =
            socket
                .pattern
                .route(message, conns, &socket.options, targets, &mut self.envelope);
        if let Route::Targets { full } = route {
            socket.stats.count_drops(Drop::PeerFull, full);
        }
        route
    }

    /// Queues the message at the front of `input`, without its first `skip` bytes, for all targets, and
    /// consumes it.
    #[inline]
    fn deliver(&mut self, input: &mut Input, size: usize, skip: usize) {
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
            input.consume(size);
        } else {
            // Taking it out moves what stands behind it: runs of this input end here.
            outbox.settle(conns, input);
            let body = input.take_shared(size).slice(skip..);
            for target in &self.targets {
                outbox.push_shared(conns, *target, prefix, body.clone());
            }
        }
    }

    /// Takes in a peer whose handshake is over.
    fn attach(&mut self, id: ConnId, peer: &Peer) -> Result<(), Why> {
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        conn.minor = peer.minor;
        let (socket_id, origin) = (conn.socket, conn.origin);
        let SocketId { proxy, side } = socket_id;
        let proxy = &mut self.proxies[proxy as usize];
        let (socket, _) = proxy.sockets_mut(side);
        if let Some(replaced) = socket.pattern.attach(id, &peer.identity, &mut self.conns)? {
            self.doomed.push((replaced, Why::Replaced));
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(());
        };
        conn.phase = Phase::Ready;
        log::debug!("{} {side}: {} attached", proxy.name, conn.peer);
        let (socket, _) = proxy.sockets_mut(side);
        socket.peers += 1;
        socket.stats.peers_attached += 1;
        let (is_balancer, is_xsub) = (
            socket.pattern.balancer().is_some(),
            matches!(socket.pattern, Pattern::Xsub(_)),
        );
        if let Origin::Dialled(link) = origin {
            self.link_is_up(link);
        }
        if is_xsub {
            self.replay_subscriptions(id);
        }
        if is_balancer {
            self.wake_later(self.across(socket_id));
        }
        Ok(())
    }
}

/// Keeps what is left of an input; room that was grown only as long as a large message needs it.
fn keep(conn: &mut Conn, input: Input) {
    let as_it_is = !input.is_scratch() && (conn.is_parked || conn.need >= LARGE_SIZE_MIN);
    conn.tail = if as_it_is { input } else { input.keep() };
}
