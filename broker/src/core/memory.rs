//! The account of the memory that peers can cause, and the reaction at its limit.
//!
//! ```text
//! memory_limit: | connections ≤ 1/4 | inputs ≤ 1/2 | subscriptions ≤ 1/2 | queues: the rest |
//! ```
//!
//! - **Queues.** Above half of the limit memory is *tight*: a queue counts as full when it is
//!   larger than the distance between the memory in use and three quarters of the limit, or than an
//!   equal share of an eighth of the limit if that is more. So a growing queue never takes the last
//!   of the memory, and senders feel back-pressure as at a high-water mark.
//! - **Inputs.** Above a quarter of the limit the broker does not read peers whose messages wait,
//!   or would have to; it reads all others. Above half, it gives up the largest unfinished message
//!   and closes its peer.
//! - **Subscriptions, connections.** Above their shares it closes the peer with the most
//!   subscriptions, and does not accept new connections.
//! - **Kept messages**, of caches and rings, have limits of their own, which together are at most
//!   half of the limit in every legal configuration.
//! - **Closed peers** and **events** are remembered as far as they fit into small shares of the
//!   limit.
//! - When the sum reaches the limit all the same, the largest holders are given up at once, until
//!   an eighth of the limit is free.

use crate::conn::{Conn, Input, Phase};
use crate::core::report::Shed;
use crate::core::{Action, Core};
use crate::ids::{ConnId, SocketId};
use crate::limits::{CODER_MEMORY, CONNECTION_MEMORY, PERMIT_MEMORY, ZAP_REQUEST_MEMORY};
use crate::pattern::balancer::Balancer;
use crate::reason::{CloseReason, DropReason};
use crate::sort;

/// Memory by use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// The closed peers and the events that are remembered, and the addresses of refused peers.
    pub closed: u64,
    /// The fixed cost of each connection, even if idle, and of its requests.
    pub connections: u64,
    /// Stored input: unfinished and waiting messages.
    pub inputs: u64,
    /// Last values, and messages that can be sent again.
    pub kept: u64,
    /// Queues for peers, and their bookkeeping. Spare buffers do not count: some megabytes at most.
    pub queues: u64,
    /// Subscriptions, those whose last values are still to be sent, and pending changes for
    /// publishers.
    pub subscriptions: u64,
}

impl MemoryUse {
    /// The sum.
    #[must_use]
    #[inline(always)]
    pub fn total(self) -> u64 {
        let Self {
            closed,
            connections,
            inputs,
            kept,
            queues,
            subscriptions,
        } = self;
        closed + connections + inputs + kept + queues + subscriptions
    }
}

/// The memory in use, as far as it is tracked, and its limit.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Peers that wait for answers of ZAP handlers.
    pub(super) asked: u64,
    /// Bytes of the closed peers that are remembered.
    pub(super) closed: u64,
    /// Open connections that have a coder.
    pub(super) coders: u64,
    /// Bytes of stored input.
    inputs: u64,
    /// Stored input exceeds a quarter of the limit, or did and is still close to it.
    is_input_tight: bool,
    /// A request to the driver to read all peers again is pending.
    pub(super) is_resuming: bool,
    /// More than half of the limit is in use, or was and little less still is.
    is_tight: bool,
    /// Bytes that may be in use; zero is unlimited.
    limit: u64,
    /// The memory freed at the limit since the last log line about it.
    pub(super) shed: Option<Shed>,
    /// Bytes of counts by topic, for clients of controls, and of samples.
    pub(super) topic_counts: u64,
}

/// A holder of memory that can be freed.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// The last bytes of a closing connection.
    Closing(ConnId),
    Input(ConnId),
    Queue(ConnId),
    /// Unsent messages of dead peers of this socket.
    Orphaned(SocketId),
    Subscriptions(ConnId),
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Whether peers are not read if their messages would only wait.
    pub(super) fn is_input_tight(&self) -> bool {
        self.is_input_tight
    }

    /// Bytes that may be in use; zero is unlimited.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// The limit for unfinished and waiting input, in bytes.
    fn inputs_max(&self) -> u64 {
        self.limit / 2
    }

    /// The limit for all subscriptions, in bytes.
    fn subscriptions_max(&self) -> u64 {
        self.limit / 2
    }

    /// The limit for connections, in bytes.
    fn connections_max(&self) -> u64 {
        match self.limit {
            0 => u64::MAX,
            limit => limit / 4,
        }
    }
}

impl Core {
    /// The memory that peers have caused, by use; see [`Self::memory_in_use`].
    #[must_use]
    #[inline(always)]
    pub fn memory(&self) -> MemoryUse {
        let kept = self.kept_memory();
        MemoryUse {
            closed: self.memory.closed + self.events.memory() + self.refusals.memory(),
            connections: self.connection_memory() + kept.requests,
            inputs: self.memory.inputs,
            kept: kept.messages + kept.shared,
            queues: self.outbox.store.memory() - self.outbox.store.spare() - kept.shared,
            subscriptions: self.pending.memory() + kept.wishes,
        }
    }

    /// All memory that peers have caused, in bytes: the sum compared with the limit.
    #[must_use]
    #[inline(never)]
    pub fn memory_in_use(&self) -> u64 {
        self.memory().total()
    }

    /// Whether there is memory for dispensable copies: at least half of the limit is free.
    #[must_use]
    pub fn has_memory_to_spare(&self) -> bool {
        self.memory.limit == 0 || self.memory_in_use() < self.memory.limit / 2
    }

    /// Takes the stored input of a connection, to handle it.
    #[inline]
    pub(super) fn take_tail(&mut self, id: ConnId) -> Input {
        let Some(conn) = self.conns.get_mut(id) else {
            return Input::default();
        };
        self.memory.inputs -= std::mem::take(&mut conn.tail_memory);
        std::mem::take(&mut conn.tail)
    }

    /// Stores the rest of an input with its connection, if there is memory for it and for its
    /// growth at the next read.
    pub(super) fn put_tail(&mut self, id: ConnId, tail: Input) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.tail_memory = tail.memory(conn.need);
        conn.tail = tail;
        self.memory.inputs += conn.tail_memory;
        let size = conn.tail_memory;
        if self.memory.limit > 0 && self.memory.inputs > self.memory.inputs_max() && size > 0 {
            self.give_up_inputs();
        }
        self.enforce_limit(&[]);
    }

    /// Forgets a closing connection, and the unsent messages that lingered with it.
    pub(super) fn forget(&mut self, id: ConnId) {
        if let Some(mut closing) = self.conns.remove_closing(id) {
            closing.egress.close(&mut self.outbox.store);
        }
    }

    /// Whether the broker has too many connections for one more.
    pub(super) fn has_too_many_connections(&self) -> bool {
        let requests = self.kept_memory().requests;
        self.connection_memory() + requests > self.memory.connections_max()
    }

    /// A connection that is about to be closed opens no more frames.
    pub(super) fn forget_coder(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.opener.take().is_some()
        {
            self.memory.coders -= 1;
        }
    }

    /// Bytes of connections without their requests to rings.
    #[inline(always)]
    fn connection_memory(&self) -> u64 {
        self.conns.len() as u64 * CONNECTION_MEMORY
            + self.memory.coders * CODER_MEMORY
            + self.users.permits() * PERMIT_MEMORY
            + self.memory.asked * ZAP_REQUEST_MEMORY
            + self.passwords.memory()
            + self.reload.memory()
            + self.memory.topic_counts
            + self.watches.memory()
    }

    /// Copies the bytes that a connection of [`Core::poll_urgent`] could not send before the input
    /// goes away, as far as there is memory for them.
    pub fn keep_rest(&mut self, id: ConnId, input: &Input) {
        let size = input.buffer().len() as u64;
        if self.room_for_queues() < size {
            self.make_room(input.buffer(), size);
        }
        let allowance = self.room_for_queues();
        let Some(writer) = self.conns.writer(id) else {
            return;
        };
        let store = &mut self.outbox.store;
        let dropped = writer.egress.keep(input, allowance, store).dropped;
        if dropped > 0
            && let Some(conn) = self.conns.get_mut(id)
        {
            let socket_id = conn.socket;
            let socket = &mut self.sockets[socket_id];
            socket.count_dropped((id, conn), DropReason::MemoryLimit, dropped, 0);
            self.give_up_lost_request(socket_id);
        }
    }

    /// Bytes that may be added to all queues before the limit is reached.
    #[inline]
    fn room_for_queues(&self) -> u64 {
        match self.memory.limit {
            0 => u64::MAX,
            limit => limit.saturating_sub(self.memory_in_use()),
        }
    }

    /// Makes sure that the memory in use is within the limit, and updates the sizes at which queues
    /// count as full. Call this whenever memory may have been added.
    ///
    /// Queues may refer to `input`, the buffer of an input that is being handled.
    pub(super) fn enforce_limit(&mut self, input: &[u8]) {
        let limit = self.memory.limit;
        if limit == 0 {
            return;
        }
        if self.memory_in_use() > limit {
            self.make_room(input, 0);
        }
        let subscriptions = self.subscription_memory();
        if subscriptions > self.memory.subscriptions_max() {
            self.give_up_subscriptions(subscriptions);
        }
        let used = self.memory_in_use();
        let (was_tight, was_input_tight) = (self.memory.is_tight, self.memory.is_input_tight);
        // Well below each mark, so that the state does not change back at once.
        let enough = if was_tight { limit / 8 * 3 } else { limit / 2 };
        let inputs_enough = if was_input_tight {
            limit / 8
        } else {
            limit / 4
        };
        self.memory.is_tight = used > enough;
        self.memory.is_input_tight = self.memory.inputs > inputs_enough;
        self.conns.queue_size_max = if self.memory.is_tight {
            let equal_part = limit / 8 / (self.conns.len() as u64).max(1);
            (limit / 4 * 3).saturating_sub(used).max(equal_part)
        } else {
            u64::MAX
        };
        if was_tight && !self.memory.is_tight {
            self.relax();
        }
        if was_input_tight && !self.memory.is_input_tight {
            self.resume_all();
        }
    }

    /// No peer of a socket is suspended any more: its peers are read again, if they were not for
    /// lack of memory.
    pub(super) fn none_is_suspended(&mut self) {
        if self.memory.is_input_tight {
            self.resume_all();
        }
    }

    /// Sets the limit, in bytes; zero is unlimited.
    pub(super) fn set_memory_limit(&mut self, limit: u64) {
        self.memory.limit = limit;
        if limit > 0 {
            return self.enforce_limit(&[]);
        }
        let was_tight = std::mem::take(&mut self.memory.is_tight);
        let was_input_tight = std::mem::take(&mut self.memory.is_input_tight);
        self.conns.queue_size_max = u64::MAX;
        if was_tight {
            self.relax();
        }
        if was_input_tight {
            self.resume_all();
        }
    }

    /// Reads every peer again that may be read.
    fn resume_all(&mut self) {
        if !std::mem::replace(&mut self.memory.is_resuming, true) {
            self.deferred.act(Action::ResumeAll);
        }
        self.shutdown.inproc.note();
    }

    /// There is memory again: queues that counted as full accept messages.
    fn relax(&mut self) {
        let sockets = self.sockets.iter();
        let balancers = sockets.filter_map(|(_, socket)| socket.pattern.as_balancer());
        let full: Vec<ConnId> = balancers.flat_map(Balancer::full).collect();
        for id in full {
            self.queue_shortened(id);
        }
        for proxy in self.proxies.handles() {
            self.wake_both(proxy);
        }
    }

    /// Gives up the largest unfinished inputs until the others have room. Waiting messages are
    /// whole, and stay.
    fn give_up_inputs(&mut self) {
        let mut holders: Vec<(u64, ConnId)> = self
            .conns
            .iter()
            .map(|(id, conn)| (unfinished(conn), id))
            .filter(|(size, _)| *size > 0)
            .collect();
        sort::by_key(&mut holders, |holder| *holder);
        let enough = self.memory.inputs_max() / 8 * 7;
        while self.memory.inputs > enough
            && let Some((_, id)) = holders.pop()
        {
            self.release(Holder::Input(id), &[]);
        }
    }

    /// Closes the peers with the most subscriptions until the others are within their share. Their
    /// memory is free once they are cancelled.
    fn give_up_subscriptions(&mut self, used: u64) {
        let enough = self.memory.subscriptions_max() / 8 * 7;
        if used.saturating_sub(self.memory_being_freed()) > enough
            && let Some((id, _)) = self.largest_subscriber()
        {
            self.release(Holder::Subscriptions(id), &[]);
        }
    }

    /// Gives up the largest holders until an eighth of the limit is free; none if there is room for
    /// `more` bytes already. Queues may refer to `input`.
    fn make_room(&mut self, input: &[u8], more: u64) {
        let limit = self.memory.limit;
        self.outbox.store.release_spare();
        let (before, enough) = (self.memory_in_use(), limit / 8 * 7);
        if before + more <= limit {
            return;
        }
        let mut holders = self.holders();
        sort::by_key(&mut holders, |(size, _)| *size);
        // Memory that the end of the turn frees by closing connections.
        let mut pending = self.memory_being_freed();
        while self.memory_in_use() > enough + pending
            && let Some((size, holder)) = holders.pop()
        {
            let used = self.memory_in_use();
            self.release(holder, input);
            let freed = used.saturating_sub(self.memory_in_use());
            pending += size.saturating_sub(freed);
        }
        let freed = before.saturating_sub(self.memory_in_use());
        if freed > 0 {
            self.report_shed(freed);
        }
    }

    /// All holders of memory that can be freed, and the bytes of each.
    fn holders(&self) -> Vec<(u64, Holder)> {
        let open = self.conns.iter().flat_map(|(id, conn)| {
            [
                (conn.egress.footprint(), Holder::Queue(id)),
                (unfinished(conn), Holder::Input(id)),
            ]
        });
        let closing = self.conns.closing();
        let closing = closing.map(|(id, it)| (it.egress.footprint(), Holder::Closing(id)));
        let subscriber = self.largest_subscriber();
        let subscriber = subscriber.map(|(id, size)| (size, Holder::Subscriptions(id)));
        let sockets = self.sockets.iter();
        let orphaned = sockets.map(|(id, socket)| (socket.orphaned_bytes(), Holder::Orphaned(id)));
        let all = open.chain(closing).chain(subscriber).chain(orphaned);
        all.filter(|(size, _)| *size > 0).collect()
    }

    /// The memory of subscriptions of departed peers, which is free when all are cancelled.
    fn memory_being_freed(&self) -> u64 {
        let closing = self.conns.closing().filter(|(_, it)| it.is_cancelling);
        let closing: u64 = closing.map(|(id, _)| self.subscription_memory_of(id)).sum();
        closing + self.departed_wishes_memory()
    }

    /// Frees the memory of this holder.
    fn release(&mut self, holder: Holder, input: &[u8]) {
        let store = &mut self.outbox.store;
        match holder {
            Holder::Closing(id) => {
                if let Some(closing) = self.conns.closing_mut(id) {
                    closing.egress.close(store);
                }
            }
            Holder::Input(id) => {
                drop(self.take_tail(id));
                self.close_later(id, CloseReason::MemoryLimit);
            }
            Holder::Queue(id) => self.release_queue(id, input),
            Holder::Orphaned(id) => {
                self.sockets[id].shed_orphaned(DropReason::MemoryLimit, store);
                self.give_up_lost_request(id);
            }
            Holder::Subscriptions(id) => self.close_later(id, CloseReason::MemoryLimit),
        }
    }

    fn release_queue(&mut self, id: ConnId, input: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let socket = &mut self.sockets[conn.socket];
        let before = conn.egress.footprint();
        let store = &mut self.outbox.store;
        socket.shed((id, conn), DropReason::MemoryLimit, input, store);
        if conn.egress.footprint() > before / 2 {
            // One message that is being sent and that the peer does not read; or subscriptions,
            // which a publisher gets when it returns.
            self.close_later(id, CloseReason::MemoryLimit);
            self.give_up_queue(self.clock.now(), id);
        }
        self.queue_shortened(id);
    }
}

/// The memory of an unfinished message, which closing its peer would free. A peer in its handshake
/// has little, and may be the one that takes waiting messages. Messages left for the next turn are
/// whole, and no more than one read.
fn unfinished(conn: &Conn) -> u64 {
    match conn.phase {
        Phase::Ready if !conn.is_suspended && !conn.is_cut => conn.tail_memory,
        _ => 0,
    }
}
