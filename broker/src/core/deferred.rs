//! Work for the end of an input or of a turn: never in the middle of an input, while queues may
//! refer to its bytes.

use crate::conn::ConnTable;
use crate::core::actions::Action;
use crate::ids::{ConnId, LinkId, SocketId};
use crate::reason::CloseReason;
use std::collections::VecDeque;

/// The pending work of [`crate::Core::run_deferred`] and [`crate::Core::poll_action`].
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// Links that have been down since they were added.
    pub(super) absent: Vec<LinkId>,
    /// Requests to the driver.
    pub(super) actions: VecDeque<Action>,
    /// Connections whose stream failed on writing.
    pub(super) broken: VecDeque<ConnId>,
    /// Connections to close. Each is open, knows that it is in this list, and is in it once.
    pub(super) closes: VecDeque<(ConnId, CloseReason)>,
    /// Requests to the driver to open or close a listener, or to open a recording. They come before
    /// all others: an endpoint that was closed can be opened again at once.
    pub(super) opening: VecDeque<Action>,
    /// The last proxy was terminated: the broker stops.
    pub(super) is_stop_asked: bool,
    /// Sockets whose suspended senders get another try, each once.
    wakes: VecDeque<SocketId>,
}

impl Deferred {
    /// Whether no work is pending.
    pub(super) fn is_empty(&self) -> bool {
        self.absent.is_empty()
            && self.actions.is_empty()
            && self.opening.is_empty()
            && self.broken.is_empty()
            && self.closes.is_empty()
            && !self.is_stop_asked
            && self.wakes.is_empty()
    }

    /// Requests an action of the driver.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    /// Asks the driver to open or close something, before all else.
    pub(super) fn open(&mut self, action: Action) {
        self.opening.push_back(action);
    }

    /// Withdraws a request; false if the driver has it already.
    pub(super) fn withdraw(&mut self, action: Action) -> bool {
        let count = |this: &Self| this.actions.len() + this.opening.len();
        let before = count(self);
        self.actions.retain(|other| *other != action);
        self.opening.retain(|other| *other != action);
        count(self) < before
    }

    /// Schedules the close of an open connection; only the first reason counts.
    pub(super) fn close_later(&mut self, conns: &mut ConnTable, id: ConnId, why: CloseReason) {
        if let Some(conn) = conns.get_mut(id)
            && !std::mem::replace(&mut conn.closes_later, true)
        {
            self.closes.push_back((id, why));
        }
    }

    /// Schedules another try for the suspended senders of this socket.
    pub(super) fn wake(&mut self, socket: SocketId) {
        if !self.wakes.contains(&socket) {
            self.wakes.push_back(socket);
        }
    }

    /// The sockets whose suspended senders get another try.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &SocketId> {
        self.wakes.iter()
    }

    /// A socket is gone.
    pub(super) fn forget(&mut self, socket: SocketId) {
        self.wakes.retain(|other| *other != socket);
    }

    /// Whether suspended senders are due for another try.
    pub(super) fn has_wakes(&self) -> bool {
        !self.wakes.is_empty()
    }

    /// The next socket whose suspended senders get another try.
    pub(super) fn next_wake(&mut self) -> Option<SocketId> {
        self.wakes.pop_front()
    }
}
