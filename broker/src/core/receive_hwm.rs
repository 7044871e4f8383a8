//! The receive high-water mark: the bytes that are read and kept behind a waiting message.

use crate::conn::backlog::{Backlog, BacklogLimits};
use crate::conn::{Conn, Input};
use crate::core::{Action, Core, Flow};
use crate::ids::ConnId;
use crate::proxy::Sockets;
use std::time::Instant;

impl Core {
    /// Suspends a connection: the message at the front of `tail` waits.
    pub(super) fn suspend(&mut self, id: ConnId, tail: &Input) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.backlog = Backlog::default();
            let limits = limits(&self.sockets, conn);
            conn.backlog.received(tail.bytes(), tail.raw_len(), limits);
        }
    }

    /// Suspends a connection before its next message, received or not.
    pub(super) fn suspend_next(&mut self, id: ConnId) {
        let tail = self.take_tail(id);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_suspended = true;
        }
        self.suspend(id, &tail);
        self.put_tail(id, tail);
    }

    /// More bytes of a suspended connection were read.
    pub(super) fn buffer_more(&mut self, now: Instant, id: ConnId, input: &mut Input) -> Flow {
        let mut tail = self.take_tail(id);
        tail.append(input);
        // The peer hears of an error when its turn comes.
        let _ = self.open_more(id, &mut tail);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.pause_liveness(now);
            let limits = limits(&self.sockets, conn);
            conn.backlog.received(tail.bytes(), tail.raw_len(), limits);
        }
        self.put_tail(id, tail);
        self.remind(id);
        Flow::Suspended
    }

    /// Some waiting messages have gone on: reads from the peer again if there is room.
    pub(super) fn update_room(&mut self, id: ConnId, tail: &Input) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_suspended) else {
            return;
        };
        let limits = limits(&self.sockets, conn);
        if (conn.backlog).went_on(tail.bytes(), tail.raw_len(), limits) {
            self.deferred.act(Action::Resume(id));
        }
    }

    /// Whether a connection is suspended: its next message waits for a receiver with room.
    #[must_use]
    pub fn is_suspended(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.is_suspended)
    }
}

fn limits<'a>(sockets: &'a Sockets, conn: &Conn) -> BacklogLimits<'a> {
    let socket = &sockets[conn.socket];
    BacklogLimits {
        limits: &socket.session.limits,
        options: &socket.options,
        version: conn.version,
    }
}
