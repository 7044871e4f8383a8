//! Two peers with one name. Without `router_handover` the one that has it keeps it for as long as
//! it gives signs of life, and loses it to the other as soon as it gives none.
//!
//! ```text
//! the newcomer announces a name in use ──► the holder gets a PING; the newcomer waits
//!     the holder is heard, or may be too slow to answer ──► the newcomer is closed
//!     the holder has ended, or is silent for NAME_PATIENCE ──► the newcomer has the name
//! ```
//!
//! So a client whose network failed gets in again, and what it sent meanwhile is not lost; and a
//! peer that announces the name of another that is alive gets nothing of what is meant for it.

use crate::conn::{Conn, Phase};
use crate::core::lifecycle::may_be_slow;
use crate::core::timers::Owner;
use crate::core::{Action, Core};
use crate::ids::ConnId;
use crate::limits::NAME_PATIENCE;
use crate::proxy::Stop;
use crate::reason::CloseReason;
use std::time::Instant;
use zmtp::Peer;

/// A peer that waits for the name of another.
#[derive(Debug)]
pub(crate) struct Contest {
    asked_at: Instant,
    /// The peer that has been asked for a sign of life.
    holder: ConnId,
    peer: Peer,
}

impl Core {
    /// Takes in a peer whose handshake is over; false if another has its name and was asked whether
    /// it is there. Until [`Self::check_contest`] the peer waits.
    pub(super) fn take_in(&mut self, id: ConnId, peer: &Peer) -> Result<bool, CloseReason> {
        let Some(holder) = self.rival(id, peer) else {
            return self.attach(id, peer).map(|()| true);
        };
        let now = self.clock.now();
        if !self.ask(holder) {
            self.deferred.act(Action::CheckAcks(holder));
            return Err(CloseReason::IdentityTaken);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            conn.version = peer.version;
            conn.contest = Some(Box::new(Contest {
                asked_at: now,
                holder,
                peer: peer.clone(),
            }));
        }
        self.timers.insert(now + NAME_PATIENCE, Owner::Contest(id));
        Ok(false)
    }

    /// The peer that may keep its name from another one.
    fn rival(&self, id: ConnId, peer: &Peer) -> Option<ConnId> {
        let socket = &self.sockets[self.conns.get(id)?.socket];
        if socket.options.router_handover {
            return None;
        }
        let holder = socket.pattern.holder(&peer.identity, &self.conns)?;
        let has_left = |conn: &Conn| conn.egress.is_closed() || conn.has_left();
        let is_there = self.conns.get(holder).is_some_and(|conn| !has_left(conn));
        is_there.then_some(holder)
    }

    /// Asks a peer for a sign of life; false if it knows no PING.
    fn ask(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else {
            return false;
        };
        let had_answer = conn.session.has_answer();
        let has_asked = conn.session.ask(&mut self.scratch.session_out);
        if has_asked {
            self.send_ping(id, had_answer);
        }
        has_asked
    }

    /// The holder of a name has had its time to answer.
    pub(super) fn check_contest(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(contest) = conn.contest.take() else {
            return;
        };
        if conn.phase != Phase::Handshake {
            return;
        }
        if let Some(rival) = self.rival(id, &contest.peer)
            && (rival != contest.holder || self.may_be_there(rival, contest.asked_at))
        {
            return self.close_later(id, CloseReason::IdentityTaken);
        }
        match self.attach(id, &contest.peer) {
            Ok(()) => self.line_up(id),
            Err(why) => self.close_later(id, why),
        }
    }

    /// Whether a peer that was asked for a sign of life at that moment is alive, or has an excuse
    /// for its silence; then its system is asked.
    fn may_be_there(&mut self, id: ConnId, asked_at: Instant) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return false;
        };
        let proxy = &self.proxies[conn.proxy];
        let is_read = proxy.stop == Stop::No && !self.would_only_wait(conn);
        if conn.session.has_heard_since(asked_at) {
            return true;
        }
        let is_excused = conn.is_suspended || !is_read || may_be_slow(&self.sockets, conn);
        if is_excused {
            self.deferred.act(Action::CheckAcks(id));
        }
        is_excused
    }

    /// A peer that has waited is attached now: what it sent meanwhile gets its turn.
    fn line_up(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id).filter(|conn| conn.is_suspended) {
            let socket_id = conn.socket;
            let socket = &mut self.sockets[socket_id];
            socket.suspended.push_back(id, &mut self.conns);
            self.deferred.wake(socket_id);
        }
    }
}
