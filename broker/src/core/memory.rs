//! One account of the memory that peers can cause, and what happens at its limit.
//!
//! ```text
//! memory_limit: | connections ≤ 1/4 | inputs ≤ 1/2 | subscriptions ≤ 1/2 | queues: the rest |
//! ```
//!
//! - **Queues.** Above half of the limit memory is *tight*: a queue counts as full when it holds
//!   more than three quarters of the limit leave free, or than its equal part of an eighth if that
//!   is more. So a queue that grows never takes the last of the memory, and senders feel
//!   back-pressure as they do at a high-water mark.
//! - **Inputs.** Above a quarter of the limit a peer is not read from whose messages wait, or would
//!   have to; all other peers are. Above half the largest unfinished message is given up, and its
//!   peer closed.
//! - **Subscriptions, connections.** Above their shares the peer with most subscriptions is closed,
//!   and a new connection is not taken in.
//! - When the sum reaches the limit all the same, what is largest goes at once, until an eighth of
//!   the limit is free.

use crate::conn::{Conn, Input, Phase};
use crate::core::report::Shed;
use crate::core::{Action, Core};
use crate::ids::{ConnId, SocketId};
use crate::limits::CONNECTION_MEMORY;
use crate::pattern::balancer::Balancer;
use crate::reason::{CloseReason, DropReason};

/// Memory by what it is used for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// What each connection needs, even an idle one.
    pub connections: u64,
    /// Received input that is kept: unfinished messages, and those that wait.
    pub inputs: u64,
    /// Messages queued for peers, with all that it takes to keep them. Buffers that are kept for
    /// the next messages do not count: some megabytes at most.
    pub queues: u64,
    /// Subscriptions, and what publishers are still to be told of them.
    pub subscriptions: u64,
}

impl MemoryUse {
    /// All of it.
    #[must_use]
    pub fn total(self) -> u64 {
        self.connections + self.inputs + self.queues + self.subscriptions
    }
}

/// What is known of the memory in use, and its limit.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Bytes of received input that is kept.
    inputs: u64,
    /// More than a quarter of the limit is kept input, or was and little less still is.
    is_input_tight: bool,
    /// The driver is about to be told to read from all peers.
    pub(super) is_resuming: bool,
    /// More than half of the limit is in use, or was and little less still is.
    is_tight: bool,
    /// Bytes that may be in use; zero is no limit.
    limit: u64,
    /// What was had back at the limit since the log heard of it last.
    pub(super) shed: Option<Shed>,
}

/// What holds memory that can be had back.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// What a closing connection is still sent.
    Closing(ConnId),
    Input(ConnId),
    Queue(ConnId),
    /// What dead peers of this socket were not sent.
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

    /// Whether peers are not read from whose messages would only wait.
    pub(super) fn is_input_tight(&self) -> bool {
        self.is_input_tight
    }

    /// Bytes that may be in use; zero is no limit.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that all unfinished and waiting input may have.
    fn inputs_max(&self) -> u64 {
        self.limit / 2
    }

    /// Bytes that all subscriptions may have.
    fn subscriptions_max(&self) -> u64 {
        self.limit / 2
    }

    /// Connections that there may be.
    fn connections_max(&self) -> u64 {
        match self.limit {
            0 => u64::MAX,
            limit => limit / 4 / CONNECTION_MEMORY,
        }
    }
}

impl Core {
    /// Memory in use by what peers have caused; see [`Self::memory_in_use`].
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        MemoryUse {
            connections: self.conns.len() as u64 * CONNECTION_MEMORY,
            inputs: self.memory.inputs,
            queues: self.outbox.store.memory() - self.outbox.store.spare(),
            subscriptions: self.subscription_memory(),
        }
    }

    /// Bytes of all memory that peers have caused: what counts against the limit.
    #[must_use]
    pub fn memory_in_use(&self) -> u64 {
        self.memory().total()
    }

    /// Whether there is room for what need not be here: at least half of the limit is free.
    #[must_use]
    pub fn has_memory_to_spare(&self) -> bool {
        self.memory.limit == 0 || self.memory_in_use() < self.memory.limit / 2
    }

    /// Takes a connection's kept input, to be dealt with.
    pub(super) fn take_tail(&mut self, id: ConnId) -> Input {
        let Some(conn) = self.conns.get_mut(id) else {
            return Input::default();
        };
        self.memory.inputs -= std::mem::take(&mut conn.tail_memory);
        std::mem::take(&mut conn.tail)
    }

    /// Keeps what is left of an input with its connection, if there is room for it and for what it
    /// will grow to when it is read into again.
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

    /// Forgets a closing connection, and what its peer was not sent while it lingered.
    pub(super) fn forget(&mut self, id: ConnId) {
        if let Some(mut closing) = self.conns.remove_closing(id) {
            closing.egress.close(&mut self.outbox.store);
        }
    }

    /// Whether one more connection is more than may be.
    pub(super) fn has_too_many_connections(&self) -> bool {
        self.conns.len() as u64 > self.memory.connections_max()
    }

    /// Copies what a connection of [`Core::poll_urgent`] could not send before the input goes away,
    /// as far as there is memory for it.
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
    fn room_for_queues(&self) -> u64 {
        match self.memory.limit {
            0 => u64::MAX,
            limit => limit.saturating_sub(self.memory_in_use()),
        }
    }

    /// Sees to it that no more memory is in use than may be, and that all know how much is left.
    /// To be called whenever something may have been added.
    ///
    /// Queues may lean on `input`, the buffer of an input that is being handled.
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
        // Well below each mark, so that it does not begin again at once.
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

    /// No message waits on a socket any more: its peers are read from again, if it was for memory
    /// that they were not.
    pub(super) fn none_is_suspended(&mut self) {
        if self.memory.is_input_tight {
            self.resume_all();
        }
    }

    /// Every peer that may be read from is read from again.
    fn resume_all(&mut self) {
        if !std::mem::replace(&mut self.memory.is_resuming, true) {
            self.deferred.act(Action::ResumeAll);
        }
        self.shutdown.inproc.note();
    }

    /// There is memory again: queues that counted as full take messages.
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

    /// Gives up the largest unfinished inputs until the others have room. Messages that wait are
    /// whole, and stay.
    fn give_up_inputs(&mut self) {
        let mut holders: Vec<(u64, ConnId)> = self
            .conns
            .iter()
            .map(|(id, conn)| (unfinished(conn), id))
            .filter(|(size, _)| *size > 0)
            .collect();
        holders.sort_unstable();
        let enough = self.memory.inputs_max() / 8 * 7;
        while self.memory.inputs > enough
            && let Some((_, id)) = holders.pop()
        {
            self.release(Holder::Input(id), &[]);
        }
    }

    /// Closes the peers with most subscriptions until the others are within their share. What they
    /// had is free when it is cancelled.
    fn give_up_subscriptions(&mut self, used: u64) {
        let enough = self.memory.subscriptions_max() / 8 * 7;
        if used.saturating_sub(self.memory_being_freed()) > enough
            && let Some((id, _)) = self.largest_subscriber()
        {
            self.release(Holder::Subscriptions(id), &[]);
        }
    }

    /// Lets go of what is largest until an eighth of the limit is free.
    /// Queues may lean on `input`. Nothing goes if there is room for `more` bytes as it is.
    fn make_room(&mut self, input: &[u8], more: u64) {
        let limit = self.memory.limit;
        self.outbox.store.release_spare();
        let (before, enough) = (self.memory_in_use(), limit / 8 * 7);
        if before + more <= limit {
            return;
        }
        let mut holders = self.holders();
        holders.sort_unstable_by_key(|(size, _)| *size);
        // What is freed when connections are closed at the end of the turn.
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

    /// All that could be had back, and how much it is.
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

    /// Subscriptions that are being cancelled: their memory is free when that is done.
    fn memory_being_freed(&self) -> u64 {
        let closing = self.conns.closing().filter(|(_, it)| it.is_cancelling);
        closing.map(|(id, _)| self.subscription_memory_of(id)).sum()
    }

    /// Lets go of what this holder has.
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
            // One message that is being sent, and that the peer does not read on; or subscriptions,
            // all of which a publisher is told when it comes back.
            self.close_later(id, CloseReason::MemoryLimit);
            self.give_up_queue(self.clock.now(), id);
        }
        self.queue_shortened(id);
    }
}

/// Memory of an unfinished message, for which its peer can be closed. One in its handshake has
/// little, and may be the one that takes what waits. What was left for the next turn is whole, and
/// no more than one read.
fn unfinished(conn: &Conn) -> u64 {
    match conn.phase {
        Phase::Ready if !conn.is_suspended && !conn.is_cut => conn.tail_memory,
        _ => 0,
    }
}
