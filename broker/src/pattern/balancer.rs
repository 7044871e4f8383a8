//! DEALER and PUSH: each message goes to one peer, in turn, or waits.

use crate::config::{Balance, Overflow, SocketOptions};
use crate::conn::egress::{Store, Unsent};
use crate::conn::outbox::Outbox;
use crate::conn::{Conn, ConnTable};
use crate::ids::ConnId;
use crate::pattern::Route;
use crate::pattern::errand::Errand;
use crate::pattern::round_robin::{Pause, RoundRobin};
use crate::reason::DropReason;

/// The outgoing half of a DEALER or PUSH socket.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    /// Messages that were queued for peers that died; they go before all others. No new message is
    /// admitted meanwhile, so that they never exceed the queues of the dead peers.
    orphaned: Unsent,
    turns: RoundRobin,
}

impl Balancer {
    pub(crate) fn attach(&mut self, id: ConnId, conns: &mut ConnTable) {
        self.turns.insert(id, conns);
    }

    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        self.turns.remove(id, conns);
    }

    /// The peer with the turn, if it has room; the turn passes with each message, as in libzmq,
    /// regardless of the queues.
    #[inline(always)]
    pub(crate) fn one(&mut self, conns: &ConnTable, options: &SocketOptions) -> Option<ConnId> {
        if !self.orphaned.is_empty() || options.balance != Balance::RoundRobin {
            return None;
        }
        let id = self.turns.current()?;
        if conns
            .get(id)?
            .is_at_high_water(options, conns.queue_size_max)
        {
            return None;
        }
        self.turns.advance();
        Some(id)
    }

    /// The peer with the turn. A peer that is full and slow is skipped until its queue has drained
    /// to half.
    pub(crate) fn route(&mut self, conns: &mut ConnTable, options: &SocketOptions) -> Route {
        if !self.orphaned.is_empty() {
            return Route::Wait;
        }
        let route = self.pick(conns, options);
        let drops = matches!(
            options.overflow,
            Overflow::Disconnect | Overflow::DropNewest
        );
        if route == Route::Wait && drops && !self.is_empty() {
            return Route::Drop(DropReason::PeerFull);
        }
        route
    }

    /// Whether the turn always stays with the same peer. It does not if peers must be ready for
    /// each message, since a busy peer has no turns.
    #[inline]
    pub(crate) fn is_steady(&self) -> bool {
        self.turns.has_one() && self.orphaned.is_empty()
    }

    /// Takes back the unsent messages of a dead peer.
    pub(crate) fn requeue(&mut self, unsent: Unsent, store: &mut Store) {
        self.orphaned.append(unsent, store);
    }

    /// Drops the orphaned messages; returns their number.
    pub(crate) fn drop_orphaned(&mut self, store: &mut Store) -> u32 {
        self.orphaned.discard(store)
    }

    /// The orphaned messages.
    pub(crate) fn orphaned(&self) -> &Unsent {
        &self.orphaned
    }

    /// Bytes of the orphaned messages.
    pub(crate) fn orphaned_bytes(&self) -> u64 {
        self.orphaned.bytes()
    }

    /// Gives the orphaned messages to peers with room. Returns the last peer that got one, and the
    /// number of dropped messages: a full queue that drops its oldest message for a new one has no
    /// room for these, which are older.
    pub(crate) fn deliver_orphaned(
        &mut self,
        conns: &mut ConnTable,
        options: &SocketOptions,
        outbox: &mut Outbox,
        errand: &mut Errand,
    ) -> (Option<ConnId>, u32) {
        let (mut last, mut dropped) = (None, 0);
        while !self.orphaned.is_empty()
            && let Route::To { id, .. } = self.pick(conns, options)
            && let Some(message) = self.orphaned.pop(&mut outbox.store)
        {
            if conns
                .get(id)
                .is_some_and(|conn| conn.is_at_high_water(options, conns.queue_size_max))
            {
                dropped += 1;
                errand.delivered(self.orphaned.messages(), None);
                continue;
            }
            outbox.push_whole(conns, id, message);
            errand.delivered(self.orphaned.messages(), Some(id));
            last = Some(id);
        }
        (last, dropped)
    }

    /// Gives a peer turns again if its queue has drained to half.
    pub(crate) fn writable(&mut self, id: ConnId, conns: &mut ConnTable, options: &SocketOptions) {
        let Some(conn) = conns.get(id) else {
            return;
        };
        if conn.is_at_low_water(options) {
            self.turns.end_pause(Pause::Full, id, conns);
        }
    }

    /// Whether this peer was found full and slow, and its queue has not drained to half since.
    pub(crate) fn is_full(&self, id: ConnId, conn: &Conn) -> bool {
        self.turns.is_full(id, conn)
    }

    /// All such peers.
    pub(crate) fn full(&self) -> impl Iterator<Item = ConnId> {
        self.turns.full()
    }

    /// Whether it has no peers.
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Whether orphaned messages wait for other peers.
    pub(crate) fn has_orphaned(&self) -> bool {
        !self.orphaned.is_empty()
    }

    /// A peer has answered, so it is ready for more. Returns whether it was busy before.
    pub(crate) fn answered(&mut self, id: ConnId, conns: &mut ConnTable) -> bool {
        self.turns.end_pause(Pause::Busy, id, conns)
    }

    fn pick(&mut self, conns: &mut ConnTable, options: &SocketOptions) -> Route {
        if options.balance == Balance::LeastQueued {
            self.turns.advance_to_least(|id| {
                conns
                    .get(id)
                    .map_or(u64::MAX, |conn| u64::from(conn.egress.messages()))
            });
        }
        let size_max = conns.queue_size_max;
        while let Some(id) = self.turns.current() {
            let Some(conn) = conns.get(id) else {
                debug_assert!(false, "a closed peer has turns");
                return Route::Wait;
            };
            let is_full = conn.is_at_high_water(options, size_max);
            if is_full && !conn.is_blocked {
                return Route::Flush(id);
            }
            if !is_full || options.overflow.takes_back() {
                if options.balance == Balance::Ready {
                    self.turns.pause_current(Pause::Busy, conns);
                } else {
                    self.turns.advance();
                }
                return Route::To { id, skip: 0 };
            }
            self.turns.pause_current(Pause::Full, conns);
        }
        Route::Wait
    }
}
