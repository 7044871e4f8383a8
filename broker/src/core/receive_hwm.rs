//! The receive high-water mark: how much is read and held behind a message that waits.

use crate::conn::backlog::{Backlog, BacklogLimits};
use crate::conn::{Conn, Input};
use crate::core::{Action, Core, Flow};
use crate::ids::ConnId;
use crate::proxy::Sockets;
use std::time::Instant;

impl Core {
    /// The message at the front of `tail` waits from now on.
    pub(super) fn suspend(&mut self, id: ConnId, tail: &[u8]) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.backlog = Backlog::default();
            let limits = limits(&self.sockets, conn);
            conn.backlog.received(tail, limits);
        }
    }

    /// The next message of a connection waits, whether or not it is there.
    pub(super) fn suspend_next(&mut self, id: ConnId) {
        let tail = self.take_tail(id);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_suspended = true;
        }
        self.suspend(id, tail.bytes());
        self.put_tail(id, tail);
    }

    /// More was read behind a message that waits.
    pub(super) fn buffer_more(&mut self, now: Instant, id: ConnId, input: &mut Input) -> Flow {
        let mut tail = self.take_tail(id);
        tail.append(input.bytes());
        input.consume(input.bytes().len());
        if let Some(conn) = self.conns.get_mut(id) {
            conn.session.pause_liveness(now);
            let limits = limits(&self.sockets, conn);
            conn.backlog.received(tail.bytes(), limits);
        }
        self.put_tail(id, tail);
        self.remind(id);
        Flow::Suspended
    }

    /// Some of what waited has gone on: lets the peer send more if there is room again.
    pub(super) fn update_room(&mut self, id: ConnId, tail: &Input) {
        let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.is_suspended) else {
            return;
        };
        let limits = limits(&self.sockets, conn);
        if conn.backlog.went_on(tail.bytes(), limits) {
            self.deferred.act(Action::Resume(id));
        }
    }

    /// Whether the next message of a connection waits for a receiver with room.
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
