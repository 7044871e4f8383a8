//! The order in which connections are read, and the time up to which all peers were read.

use crate::config::SocketName;
use crate::conn::Phase;
use crate::conn::rota::Rota;
use crate::core::Core;
use crate::core::turn::{Kind, cost};
use crate::ids::ConnId;
use std::time::Instant;

/// Connections to be read: established peers, and newcomers after them.
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

/// The time up to which all peers were read; deadlines of peers are judged as of that time. The
/// connections that were due by some moment form a round; when the last of them was read, all were
/// read up to that moment.
#[derive(Debug, Default)]
struct Heard {
    /// Connections of the round that were not read yet.
    behind: usize,
    is_odd: bool,
    /// Connections of the next round.
    later: usize,
    /// The moment of the round.
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
    /// Makes sure that [`Self::poll_read`] or [`Self::poll_newcomer`] returns this connection, if
    /// it may be read.
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

    /// Whether [`Self::poll_read`] or [`Self::poll_newcomer`] will return this connection.
    #[must_use]
    pub fn is_read_later(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.is_read_later)
    }

    /// The next established connection to read, while the budget of the turn allows it. Proxies
    /// take turns. If [`Self::is_cut`], continue with its received input instead.
    #[must_use]
    pub fn poll_read(&mut self) -> Option<ConnId> {
        self.next_entry(Kind::Reading, |agenda| &mut agenda.established)
    }

    /// The next connection to read that is in its handshake. When all are read, passwords are
    /// compared, whose peers follow.
    #[must_use]
    pub fn poll_newcomer(&mut self) -> Option<ConnId> {
        loop {
            let next = self.next_entry(Kind::Newcomers, |agenda| &mut agenda.newcomers);
            if next.is_some() || !self.check_password() {
                return next;
            }
        }
    }

    /// The next connection of a list that may still be read, while this kind of work has budget.
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

    /// Whether this is a peer of a control.
    #[must_use]
    pub fn is_asking(&self, id: ConnId) -> bool {
        let conn = self.conns.get(id);
        conn.is_some_and(|conn| self.sockets[conn.socket].name == SocketName::Control)
    }

    /// Whether one more connection may be accepted in this turn; if so, it is charged.
    #[must_use]
    pub fn may_accept(&mut self) -> bool {
        self.turn.work_on(Kind::Newcomers);
        let may = !self.turn.cuts();
        if may {
            self.turn.charge(cost::ACCEPT);
        }
        may
    }

    /// Whether the budget of the turn allows more reading from established peers.
    #[must_use]
    pub fn may_read_on(&mut self) -> bool {
        self.turn.work_on(Kind::Reading);
        !self.turn.cuts()
    }

    /// Charges a walk of the driver over all connections.
    pub fn charge_walk(&mut self) {
        self.turn.charge(self.conns.len() as u64 * cost::WALK);
    }

    /// All connections for which the kernel had input at `moment` are due to be read by now.
    pub fn note_heard(&mut self, moment: Instant) {
        self.agenda.heard.begin_round(moment);
    }

    /// The time up to which all input of peers was handed over, as far as [`Self::note_heard`] was
    /// called.
    #[must_use]
    pub fn heard_until(&self) -> Option<Instant> {
        self.agenda.heard.until
    }
}
