//! Two peers with one identity. Without `router_handover` the holder keeps it as long as it gives
//! signs of life, and loses it to the newcomer otherwise.
//!
//! ```text
//! the newcomer announces an identity in use ──► the holder gets a PING; the newcomer waits
//!     the holder gives a sign of life, or may be slow ──► the newcomer is closed
//!     the holder has ended, or is silent for NAME_PATIENCE ──► the newcomer gets the identity
//! ```
//!
//! An identity belongs to the user that announced it: a peer of another user never gets it from a
//! connected peer. All peers without a user name count as one user.
//!
//! So a client whose network failed is served again, and the messages that it sent meanwhile are
//! not lost; and a peer that announces the identity of a live peer gets no messages for that peer.

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

/// The state of a peer that waits for the identity of another.
#[derive(Debug)]
pub(crate) struct Contest {
    asked_at: Instant,
    /// The peer that was asked for a sign of life.
    holder: ConnId,
    peer: Peer,
}

impl Core {
    /// Attaches a peer after its handshake; false if another peer has its identity and was asked
    /// for a sign of life. The newcomer then waits until [`Self::check_contest`].
    pub(super) fn take_in(&mut self, id: ConnId, peer: &Peer) -> Result<bool, CloseReason> {
        if self.is_of_other_user(id, peer) {
            return Err(CloseReason::IdentityTaken);
        }
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

    /// Whether the announced identity of a newcomer belongs to the peer of another user, which
    /// keeps it as long as it is connected.
    fn is_of_other_user(&self, id: ConnId, peer: &Peer) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return false;
        };
        let pattern = &self.sockets[conn.socket].pattern;
        let holder = pattern.holder(&peer.identity, &self.conns);
        let holder = holder.and_then(|holder| self.conns.get(holder));
        holder.is_some_and(|holder| holder.user != conn.user)
    }

    /// The peer that may keep its identity from a newcomer.
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

    /// Asks a peer for a sign of life; false if it does not know PING.
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

    /// The time for the answer of an identity's holder is over.
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
        if self.is_of_other_user(id, &contest.peer) {
            return self.close_later(id, CloseReason::IdentityTaken);
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

    /// Whether a peer that was asked for a sign of life at that moment is alive, or may be too slow
    /// to answer; in the latter case its system is asked.
    fn may_be_there(&mut self, id: ConnId, asked_at: Instant) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return false;
        };
        let proxy = &self.proxies[conn.proxy];
        let is_read = proxy.stop == Stop::No && !self.would_only_wait(conn);
        if conn.session.has_heard_since(asked_at) {
            return true;
        }
        let is_excused =
            conn.is_suspended || conn.is_paused() || !is_read || may_be_slow(&self.sockets, conn);
        if is_excused {
            self.deferred.act(Action::CheckAcks(id));
        }
        is_excused
    }

    /// A peer that has waited is attached now: the messages that it sent meanwhile get their turn.
    fn line_up(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get(id).filter(|conn| conn.is_suspended) {
            let socket_id = conn.socket;
            let socket = &mut self.sockets[socket_id];
            socket.suspended.push_back(id, &mut self.conns);
            self.deferred.wake(socket_id);
        }
    }
}
