//! Connections with pending output, and its urgency.

use crate::conn::egress::{Shared, Store};
use crate::conn::rota::Rota;
use crate::conn::{ConnTable, Input};
use crate::ids::ConnId;
use std::ops::Range;

/// The lists through which queues reach the kernel.
///
/// A connection that gets a message is *touched* until the runs of the input end. If its queue then
/// refers to the input it is *urgent*: the driver writes it before the input goes away. Otherwise
/// it is *dirty*: written once at the end of the turn, however many messages it gets until then.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Established peers.
    dirty: Rota<ConnId>,
    /// Peers in their handshake.
    greetings: Rota<ConnId>,
    pub(crate) store: Store,
    touched: Vec<ConnId>,
    urgent: Vec<ConnId>,
}

impl Outbox {
    /// Queues `prefix` and then `range` of the input's buffer for `id`.
    #[inline(always)]
    pub(crate) fn push_input(
        &mut self,
        conns: &mut ConnTable,
        id: ConnId,
        prefix: &[u8],
        input: &Input,
        range: Range<usize>,
    ) {
        let Some(conn) = conns.get_mut(id) else {
            return;
        };
        conn.egress
            .push_input(prefix, input, range, &mut self.store);
        if !conn.is_touched {
            conn.is_touched = true;
            self.touched.push(id);
        }
    }

    /// Queues `range` of the input's buffer, which contains this number of messages, for `id`.
    #[inline]
    pub(crate) fn push_run(
        &mut self,
        conns: &mut ConnTable,
        id: ConnId,
        input: &Input,
        range: Range<usize>,
        messages: u32,
    ) {
        let Some(conn) = conns.get_mut(id) else {
            return;
        };
        conn.egress
            .push_run(input, range, messages, &mut self.store);
        if !conn.is_touched {
            conn.is_touched = true;
            self.touched.push(id);
        }
    }

    /// Queues bytes with this number of messages, which other peers get too.
    #[inline]
    pub(crate) fn push_shared_run(
        &mut self,
        conns: &mut ConnTable,
        id: ConnId,
        input: &Input,
        run: &Shared,
        messages: u32,
    ) {
        if let Some(conn) = conns.get_mut(id) {
            conn.egress
                .push_shared_run(input, run.clone(), messages, &mut self.store);
            self.mark_dirty(conns, id);
        }
    }

    /// Queues bytes that contain `messages` whole messages, or only commands.
    #[inline]
    pub(crate) fn push_bytes(
        &mut self,
        conns: &mut ConnTable,
        id: ConnId,
        bytes: &[u8],
        messages: u32,
    ) {
        let Some(conn) = conns.get_mut(id) else {
            return;
        };
        if conn.egress.is_closed() {
            return;
        }
        conn.egress.push_bytes(bytes, messages, &mut self.store);
        self.mark_dirty(conns, id);
    }

    /// Queues a message that was taken out of another queue.
    pub(crate) fn push_whole(&mut self, conns: &mut ConnTable, id: ConnId, message: Shared) {
        if let Some(conn) = conns.get_mut(id) {
            conn.egress.push_whole(message, &mut self.store);
            self.mark_dirty(conns, id);
        }
    }

    /// Makes sure that `id` is flushed at the end of the turn.
    pub(crate) fn mark_dirty(&mut self, conns: &mut ConnTable, id: ConnId) {
        if let Some(writer) = conns.writer(id)
            && !std::mem::replace(writer.is_dirty, true)
        {
            let list = if writer.is_newcomer {
                &mut self.greetings
            } else {
                &mut self.dirty
            };
            list.push(writer.proxy.slot, id);
        }
    }

    /// Makes sure that `id` is flushed before the current input is handled further.
    #[inline]
    pub(crate) fn mark_urgent(&mut self, conns: &mut ConnTable, id: ConnId) {
        if let Some(conn) = conns.get_mut(id)
            && !std::mem::replace(&mut conn.is_urgent, true)
        {
            self.urgent.push(id);
        }
    }

    /// Ends the runs of the current input. Connections whose runs stay in the scratch become
    /// urgent.
    #[inline]
    pub(crate) fn end_runs(&mut self, conns: &mut ConnTable, input: &Input) {
        while let Some(id) = self.touched.pop() {
            let Some(conn) = conns.get_mut(id) else {
                continue;
            };
            conn.is_touched = false;
            conn.egress.close_run(input, &mut self.store);
            if conn.egress.leans_on_input() {
                self.mark_urgent(conns, id);
            } else {
                self.mark_dirty(conns, id);
            }
        }
    }

    /// The next connection that must be written before the input goes away.
    pub(crate) fn poll_urgent(&mut self, conns: &mut ConnTable) -> Option<ConnId> {
        let id = self.urgent.pop()?;
        if let Some(conn) = conns.get_mut(id) {
            conn.is_urgent = false;
        }
        Some(id)
    }

    /// The next established peer to be written at the end of the turn; for `done` see
    /// [`Rota::pop`].
    pub(crate) fn poll_dirty(&mut self, conns: &mut ConnTable, done: u64) -> Option<ConnId> {
        next_dirty(&mut self.dirty, conns, done)
    }

    /// The next peer in its handshake to be written at the end of the turn.
    pub(crate) fn poll_greeting(&mut self, conns: &mut ConnTable, done: u64) -> Option<ConnId> {
        next_dirty(&mut self.greetings, conns, done)
    }

    /// Whether an established peer waits to be written.
    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether a peer in its handshake waits to be written.
    pub(crate) fn has_greetings(&self) -> bool {
        !self.greetings.is_empty()
    }

    /// Queues a message that several queues may share.
    pub(crate) fn push_shared(
        &mut self,
        conns: &mut ConnTable,
        id: ConnId,
        prefix: &[u8],
        body: Shared,
    ) {
        if let Some(conn) = conns.get_mut(id) {
            conn.egress.push_shared(prefix, body, &mut self.store);
            self.mark_dirty(conns, id);
        }
    }
}

/// The next connection of a list with pending output that can be written.
fn next_dirty(list: &mut Rota<ConnId>, conns: &mut ConnTable, done: u64) -> Option<ConnId> {
    while let Some(id) = list.pop(done) {
        if let Some(writer) = conns.writer(id) {
            *writer.is_dirty = false;
            if !writer.egress.is_empty() && !*writer.is_blocked {
                return Some(id);
            }
        }
    }
    None
}
