//! Work that is done at the end of an input or of a turn: never in the middle of an input, whose
//! bytes queues may lean on.

use crate::conn::ConnTable;
use crate::core::actions::Action;
use crate::ids::{ConnId, LinkId, SocketId};
use crate::reason::CloseReason;
use std::collections::VecDeque;

/// What [`crate::Core::run_deferred`] and [`crate::Core::poll_action`] have to do.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// Links that have been down since they were added.
    pub(super) absent: Vec<LinkId>,
    /// Requests to the driver.
    pub(super) actions: VecDeque<Action>,
    /// Connections that cannot be written to any more.
    pub(super) broken: VecDeque<ConnId>,
    /// Connections to be closed. Each is open, knows that it is here, and is here once.
    pub(super) closes: VecDeque<(ConnId, CloseReason)>,
    /// The last proxy was terminated: the broker stops.
    pub(super) is_stop_asked: bool,
    /// Sockets whose suspended senders are to be tried again, each once.
    wakes: VecDeque<SocketId>,
}

impl Deferred {
    /// Whether nothing is to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.absent.is_empty()
            && self.actions.is_empty()
            && self.broken.is_empty()
            && self.closes.is_empty()
            && !self.is_stop_asked
            && self.wakes.is_empty()
    }

    /// Asks the driver to do this.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// An open connection is to be closed; only the first reason counts.
    pub(super) fn close_later(&mut self, conns: &mut ConnTable, id: ConnId, why: CloseReason) {
        if let Some(conn) = conns.get_mut(id)
            && !std::mem::replace(&mut conn.closes_later, true)
        {
            self.closes.push_back((id, why));
        }
    }

    /// Suspended senders of this socket are to be tried again.
    pub(super) fn wake(&mut self, socket: SocketId) {
        if !self.wakes.contains(&socket) {
            self.wakes.push_back(socket);
        }
    }

    /// Whether there are sockets whose suspended senders are to be tried again.
    pub(super) fn has_wakes(&self) -> bool {
        !self.wakes.is_empty()
    }

    /// The next socket whose suspended senders are to be tried again.
    pub(super) fn next_wake(&mut self) -> Option<SocketId> {
        self.wakes.pop_front()
    }
}
