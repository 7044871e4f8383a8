//! One ceiling for the memory of all queues and all input.
//!
//! When it is reached, first nothing is read any more, so that nothing is added and peers that read
//! make room. If that does not help within a second, because some do not read, what is largest
//! goes: a queue is shed, or a peer whose unfinished input it is is closed.

use crate::conn::{ConnId, Input};
use crate::core::{Action, Core};
use crate::limits::SHORTAGE_PATIENCE;
use crate::proxy::{Proxy, Socket};
use crate::why::{Drop, Why};
use std::time::Instant;

/// What is known of the memory in use.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Bytes of received input that is kept: unfinished messages, and those that wait.
    held: u64,
    /// Bytes that may be in use; zero is no limit.
    limit: u64,
    /// Since when there is too little, and nothing is read.
    short_since: Option<Instant>,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Whether nothing may be read now.
    pub(super) fn is_short(&self) -> bool {
        self.short_since.is_some()
    }

    /// When patience with those that do not read ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.short_since.map(|since| since + SHORTAGE_PATIENCE)
    }
}

impl Core {
    /// Takes a connection's kept input, to be dealt with.
    pub(super) fn take_tail(&mut self, id: ConnId) -> Input {
        let Some(conn) = self.conns.get_mut(id) else {
            return Input::default();
        };
        let tail = std::mem::take(&mut conn.tail);
        self.memory.held -= tail.size();
        tail
    }

    /// Keeps what is left of an input with its connection.
    pub(super) fn put_tail(&mut self, id: ConnId, tail: Input) {
        if let Some(conn) = self.conns.get_mut(id) {
            self.memory.held += tail.size();
            conn.tail = tail;
        }
    }

    /// Forgets a closing connection, and what its peer was not sent while it lingered.
    pub(super) fn forget(&mut self, id: ConnId) {
        self.timers.forget(id);
        if let Some(mut closing) = self.conns.remove_closing(id) {
            closing.egress.close(&mut self.outbox.store);
        }
    }

    /// Memory of all queues and of their spare buffers, in bytes; what several queues share counts
    /// once.
    #[must_use]
    pub fn queue_memory(&self) -> u64 {
        self.outbox.store.memory()
    }

    /// Bytes in all queues and all kept input.
    #[must_use]
    pub fn memory_in_use(&self) -> u64 {
        self.outbox.store.queued + self.memory.held
    }

    /// Whether there is room for what need not be here: at least half of the limit is free.
    #[must_use]
    pub fn has_memory_to_spare(&self) -> bool {
        self.memory.limit == 0 || self.memory_in_use() < self.memory.limit / 2
    }

    /// Stops reading above the limit, goes on reading well below it, and makes room if time does
    /// not.
    pub(super) fn check_memory(&mut self, now: Instant) {
        let limit = self.memory.limit;
        if limit == 0 {
            return;
        }
        let Some(since) = self.memory.short_since else {
            if self.memory_in_use() > limit {
                log::warn!("the memory limit of {limit} bytes is reached: nothing is read for now");
                self.memory.short_since = Some(now);
                self.outbox.store.release_spare();
            }
            return;
        };
        // Well below, so that it does not begin again at once.
        let enough = limit - limit / 8;
        while now >= since + SHORTAGE_PATIENCE && self.memory_in_use() > enough {
            if !self.make_room_in_memory() {
                // What is left is being closed, or about to be: it is looked at again later.
                self.memory.short_since = Some(now);
                break;
            }
        }
        if self.memory_in_use() <= enough {
            self.memory.short_since = None;
            self.actions.push_back(Action::ResumeAll);
            self.transit.note();
        }
    }

    /// Lets go of what is largest; false if there is nothing.
    fn make_room_in_memory(&mut self) -> bool {
        let size = |conn: &crate::conn::Conn| conn.egress.footprint().max(conn.tail.size());
        let largest = self
            .conns
            .iter()
            .max_by_key(|(_, conn)| size(conn))
            .map(|(id, _)| id);
        let largest_size = largest.map_or(0, |id| self.conns.get(id).map_or(0, size));
        if let Some(socket) = most_stranded(&mut self.proxies, largest_size) {
            let store = &mut self.outbox.store;
            return socket.shed_stranded(Drop::MemoryShed, store) > 0;
        }
        let Some(conn) = largest.and_then(|id| self.conns.get_mut(id)) else {
            return false;
        };
        if size(conn) == 0 {
            return false;
        }
        let (id, is_tail) = (largest, conn.tail.size() >= conn.egress.footprint());
        let socket = self.proxies[conn.socket.proxy as usize].socket_mut(conn.socket.side);
        if is_tail {
            let freed = std::mem::take(&mut conn.tail).size();
            self.memory.held -= freed;
            if let Some(id) = id {
                self.doom(id, Why::MemoryShed);
            }
            return freed > 0;
        }
        let before = self.outbox.store.queued;
        socket.shed(conn, Drop::MemoryShed, &mut self.outbox.store);
        if let Some(id) = id {
            self.queue_shortened(id);
        }
        if self.outbox.store.queued == before {
            // One message that is being sent, and that the peer does not read on; or subscriptions,
            // all of which a publisher is told when it comes back.
            if let Some(id) = id {
                self.doom(id, Why::MemoryShed);
            }
            return false;
        }
        true
    }
}

/// The socket with the most that dead peers were not sent, if it is more than `least` bytes.
fn most_stranded(proxies: &mut [Proxy], least: u64) -> Option<&mut Socket> {
    let sockets = proxies.iter_mut().flat_map(Proxy::all_mut);
    sockets
        .map(|socket| (socket.stranded_bytes(), socket))
        .filter(|(size, _)| *size > least)
        .max_by_key(|(size, _)| *size)
        .map(|(_, socket)| socket)
}
