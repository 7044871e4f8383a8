//! Which connection is read from next, and up to when all peers have been heard.

use crate::config::SocketName;
use crate::conn::Phase;
use crate::conn::rota::Rota;
use crate::core::Core;
use crate::core::turn::{Kind, cost};
use crate::ids::ConnId;
use std::time::Instant;

/// Connections to be read from: established peers, and newcomers after them.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    established: Rota<Entry>,
    heard: Heard,
    newcomers: Rota<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: ConnId,
    /// Which of two rounds it belongs to; see [`Heard`].
    is_odd: bool,
}

/// Deadlines of peers are judged as of a moment up to which all of them have been heard.
/// Connections that were to be read from by a moment are a round; when the last of them has been
/// read from, all have been heard up to then.
#[derive(Debug, Default)]
struct Heard {
    /// Connections of the round that are still to be read from.
    behind: usize,
    is_odd: bool,
    /// Connections that belong to the next round.
    later: usize,
    /// Up to when all have been heard if those of the round have been.
    round: Option<Instant>,
    until: Option<Instant>,
}

impl Agenda {
    pub(super) fn is_empty(&self) -> bool {
        self.established.is_empty() && self.newcomers.is_empty()
    }
}

impl Heard {
    fn add(&mut self, id: ConnId) -> Entry {
        self.later += 1;
        Entry {
            id,
            is_odd: self.is_odd,
        }
    }

    fn take(&mut self, entry: Entry) {
        if entry.is_odd == self.is_odd {
            self.later -= 1;
            return;
        }
        self.behind -= 1;
        self.end_round();
    }

    fn begin_round(&mut self, moment: Instant) {
        if self.round.is_some() {
            return;
        }
        self.round = Some(moment);
        self.is_odd = !self.is_odd;
        self.behind = std::mem::take(&mut self.later);
        self.end_round();
    }

    fn end_round(&mut self) {
        if self.behind == 0 && self.round.is_some() {
            self.until = self.round.take();
        }
    }
}

impl Core {
    /// Sees to it that [`Self::poll_read`] or [`Self::poll_newcomer`] names this connection, if it
    /// may be read from.
    pub fn read_later(&mut self, id: ConnId) {
        if !self.wants_input(id) {
            return;
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if std::mem::replace(&mut conn.is_read_later, true) {
            return;
        }
        let entry = self.agenda.heard.add(id);
        let list = match conn.phase {
            Phase::Handshake => &mut self.agenda.newcomers,
            Phase::Ready => &mut self.agenda.established,
        };
        list.push(conn.proxy.slot, entry);
    }

    /// Whether this connection waits to be named by [`Self::poll_read`] or [`Self::poll_newcomer`].
    #[must_use]
    pub fn is_read_later(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.is_read_later)
    }

    /// The next established connection to be read from, as long as the budget of the turn allows.
    /// Proxies take turns. If [`Self::is_cut`], there is received input to go on with instead.
    #[must_use]
    pub fn poll_read(&mut self) -> Option<ConnId> {
        self.next_entry(Kind::Reading, |agenda| &mut agenda.established)
    }

    /// The next connection to be read from that is in its handshake.
    #[must_use]
    pub fn poll_newcomer(&mut self) -> Option<ConnId> {
        self.next_entry(Kind::Newcomers, |agenda| &mut agenda.newcomers)
    }

    /// The next of a list that may still be read from, as long as this kind of work has budget.
    #[inline]
    fn next_entry(
        &mut self,
        kind: Kind,
        list: impl Fn(&mut Agenda) -> &mut Rota<Entry>,
    ) -> Option<ConnId> {
        self.turn.work_on(kind);
        while !list(&mut self.agenda).is_empty() && !self.turn.cuts() {
            let entry = list(&mut self.agenda).pop(self.turn.done())?;
            if let Some(id) = self.take_entry(entry) {
                return Some(id);
            }
        }
        None
    }

    fn take_entry(&mut self, entry: Entry) -> Option<ConnId> {
        self.agenda.heard.take(entry);
        let conn = self.conns.get_mut(entry.id)?;
        conn.is_read_later = false;
        self.wants_input(entry.id).then(|| {
            self.turn.charge(cost::READ);
            entry.id
        })
    }

    /// Whether this peer asks a control.
    #[must_use]
    pub fn is_asking(&self, id: ConnId) -> bool {
        let conn = self.conns.get(id);
        conn.is_some_and(|conn| self.sockets[conn.socket].name == SocketName::Control)
    }

    /// Whether one more connection may be accepted in this turn; it is charged for.
    #[must_use]
    pub fn may_accept(&mut self) -> bool {
        self.turn.work_on(Kind::Newcomers);
        let may = !self.turn.cuts();
        if may {
            self.turn.charge(cost::ACCEPT);
        }
        may
    }

    /// Whether the budget of the turn allows to read more from established peers.
    #[must_use]
    pub fn may_read_on(&mut self) -> bool {
        self.turn.work_on(Kind::Reading);
        !self.turn.cuts()
    }

    /// The driver looks at all connections.
    pub fn charge_walk(&mut self) {
        self.turn.charge(self.conns.len() as u64 * cost::WALK);
    }

    /// All connections that the kernel had something from at `moment` are to be read from by now.
    pub fn note_heard(&mut self, moment: Instant) {
        self.agenda.heard.begin_round(moment);
    }

    /// Up to when everything that peers have sent has been handed over, as far as
    /// [`Self::note_heard`] was told.
    #[must_use]
    pub fn heard_until(&self) -> Option<Instant> {
        self.agenda.heard.until
    }
}
