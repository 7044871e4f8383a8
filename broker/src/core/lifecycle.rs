//! Connection lifecycle: accept, deadlines, close.

use crate::config::SocketName;
use crate::conn::egress::Unsent;
use crate::conn::{Conn, Origin, Phase};
use crate::core::Core;
use crate::core::actions::Action;
use crate::core::report::Ended;
use crate::core::timers::Owner;
use crate::core::turn::{Kind, cost};
use crate::ids::{ConnId, SocketId};
use crate::limits::GREETING_PATIENCE;
use crate::pattern::Pattern;
use crate::pattern::errand::Place;
use crate::peer::PeerAddress;
use crate::proxy::{Sockets, Stop};
use crate::reason::{CloseReason, DropReason};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmtp::{Deadline, Error, LoopCheck, Session};

impl Core {
    pub(super) fn add_conn(
        &mut self,
        now: Instant,
        socket: SocketId,
        peer: PeerAddress,
        origin: Origin,
    ) -> ConnId {
        let (proxy, mut config) = {
            let socket = &self.sockets[socket];
            (socket.proxy, Arc::clone(&socket.session))
        };
        if let Origin::Dialled(link) = origin
            && self.links[link].is_looped
        {
            Arc::make_mut(&mut config).loop_check = LoopCheck::Trial;
        }
        let session = Session::new(config, now, &mut self.scratch.session_out);
        let id = self
            .conns
            .insert(Conn::new(now, session, (proxy, socket), peer, origin));
        self.send_session_output(id);
        self.remind(id);
        if let Origin::Dialled(link) = origin
            && !self.links[link].is_known_silent
        {
            let late = now + GREETING_PATIENCE;
            self.timers.insert(late, Owner::Greeting(id));
        }
        if self.has_too_many_connections() {
            self.close_later(id, CloseReason::MemoryLimit);
        }
        id
    }

    /// Lets a session handle its deadlines.
    ///
    /// A suspended peer is not read, so its silence proves nothing: its signs of life may wait in
    /// the kernel. A peer with unread bytes may be too slow to answer, as long as its system
    /// acknowledges data. Both get PINGs all the same, for the peer's own deadlines; the second
    /// kind as long as its queue has room.
    pub(super) fn check_deadline(&mut self, now: Instant, id: ConnId, reminder: Instant) {
        let would_wait = self
            .conns
            .get(id)
            .is_some_and(|it| self.would_only_wait(it));
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.reminder != Some(reminder) {
            return;
        }
        conn.reminder = None;
        if conn.refusal().is_some() {
            return;
        }
        // A peer may not be read once a stop has begun, or while memory for input is short.
        let proxy = &self.proxies[conn.proxy];
        let is_unread =
            conn.is_suspended || conn.is_paused() || proxy.stop != Stop::No || would_wait;
        let had_answer = conn.session.has_answer();
        let mut is_examined = false;
        if conn.phase == Phase::Ready {
            if is_unread {
                conn.session.pause_liveness(now);
            } else if conn.session.is_overdue(now) && may_be_slow(&self.sockets, conn) {
                conn.session.excuse_silence(now);
                is_examined = true;
            }
        }
        if let Err(error) = conn
            .session
            .handle_timeout(now, &mut self.scratch.session_out)
        {
            self.scratch.session_out.clear();
            return self.close_later(id, CloseReason::Protocol(error));
        }
        if is_examined {
            self.deferred.act(Action::CheckAcks(id));
        }
        if is_unread {
            conn.session.pause_liveness(now);
        }
        if !self.scratch.session_out.is_empty() {
            self.send_ping(id, had_answer);
        }
        self.remind(id);
    }

    /// Queues the PING of a session, if there is room; `had_answer` says whether earlier PINGs were
    /// answered.
    pub(super) fn send_ping(&mut self, id: ConnId, had_answer: bool) {
        let before = self.conns.get(id).map_or(0, Conn::bytes_meant_for_it);
        self.answer(id);
        if let Some(conn) = self.conns.get_mut(id) {
            let with_ping = conn.bytes_meant_for_it();
            conn.liveness.asked(before, with_ping, had_answer);
        }
    }

    /// The peer's system does not acknowledge data, so its silence means that it is gone.
    pub fn handle_unreachable(&mut self, id: ConnId) {
        self.close_later(
            id,
            CloseReason::Protocol(Error::TimedOut(Deadline::Heartbeat)),
        );
    }

    /// Drops expired messages of a queue that is not written, and closes its peer if the queue has
    /// been full for too long. No event tells when a queue becomes full or has room again, so it is
    /// checked several times within its time.
    pub(super) fn check_queue(&mut self, now: Instant, id: ConnId) {
        if self.drop_expired(id) {
            // The rest has its turn before any other work on this queue.
            return self.timers.insert(now, Owner::Queue(id));
        }
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let socket = &self.sockets[conn.socket];
        let (patience, has_been_full) = (socket.patience(id, conn), socket.has_been_full(id, conn));
        let term = socket.watch_term(id, conn);
        let full = conn.fullness.get_or_insert_default();
        full.missed_before = conn.traffic.dropped(DropReason::PeerFull);
        full.is_watched = term.is_some();
        match patience {
            Some(patience) if has_been_full => {
                if now >= *full.since.get_or_insert(now) + patience {
                    let why = match socket.pattern {
                        Pattern::Xsub(_) => CloseReason::SubscriptionsUnread,
                        _ => CloseReason::TooSlow,
                    };
                    return self.close_later(id, why);
                }
            }
            _ => full.since = None,
        }
        if let Some(term) = term {
            self.timers
                .insert(now + look_again_after(term), Owner::Queue(id));
        }
    }

    /// Makes sure that the next deadline of a connection is noticed. A deadline that moves back
    /// costs nothing until its old timer fires.
    #[inline]
    pub(super) fn remind(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if let Some(deadline) = conn.session.poll_timeout()
            && conn.reminder.is_none_or(|reminder| deadline < reminder)
        {
            conn.reminder = Some(deadline);
            self.timers.insert(deadline, Owner::Conn(id));
        }
    }

    /// Gives up the queue of a peer that cannot be written to any more.
    pub(super) fn give_up_queue(&mut self, now: Instant, id: ConnId) {
        let Some(conn) = self
            .conns
            .get_mut(id)
            .filter(|conn| conn.phase == Phase::Ready)
        else {
            return;
        };
        let (socket, origin) = (conn.socket, conn.origin);
        let gave_up = &mut self.sockets[socket];
        let unsent = gave_up.close_queue(conn, &mut self.outbox.store);
        if let Some(balancer) = gave_up.pattern.balancer() {
            balancer.detach(id, &mut self.conns);
        }
        self.requeue(now, id, (socket, origin), unsent);
    }

    /// Keeps the unsent messages of a dead peer until its link is up again, or gives them to other
    /// peers, if any peer will do. An answer of a control is only for the peer that asked, and a
    /// request to a ZAP handler only for that handler.
    pub(super) fn requeue(
        &mut self,
        now: Instant,
        peer: ConnId,
        (id, origin): (SocketId, Origin),
        unsent: Unsent,
    ) {
        let messages = unsent.messages();
        let (mut unsent, kept_by) = self.keep_for_link(now, origin, unsent);
        let socket = &mut self.sockets[id];
        let mut place = kept_by.map_or(Place::Lost, Place::Peer);
        if let Some(balancer) = socket.pattern.balancer()
            && !matches!(socket.name, SocketName::Control | SocketName::Zap)
        {
            balancer.requeue(unsent, &mut self.outbox.store);
            socket.stats.requeued += u64::from(messages);
            place = kept_by.map_or(Place::Orphaned, Place::Peer);
        } else {
            unsent.discard(&mut self.outbox.store);
        }
        socket.errand.taken_back(peer, messages, place);
        self.give_up_lost_request(id);
        self.wake_for(id);
    }

    /// Closes scheduled connections, as many as the budget of the turn allows; returns whether it
    /// closed any.
    pub(super) fn run_closes(&mut self, now: Instant) -> bool {
        self.turn.work_on(Kind::Closing);
        let mut had_any = false;
        while !self.deferred.closes.is_empty() && !self.turn.cuts() {
            if let Some((id, why)) = self.deferred.closes.pop_front() {
                self.turn.charge(cost::CLOSE);
                self.close(now, id, why);
                had_any = true;
            }
        }
        if had_any {
            // Kept input was given back: peers may be read again.
            self.enforce_limit(&[]);
        }
        had_any
    }

    /// Closes a connection: removes it from its socket, and leaves the driver its last bytes to
    /// send.
    pub(super) fn close(&mut self, now: Instant, id: ConnId, why: CloseReason) {
        self.report_room(id, "it left");
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.is_down_link_queue() {
            let origin = conn.origin;
            return self.give_up_down_link_queue(now, origin);
        }
        let (is_refused, why) = (conn.refusal().is_some(), cause_of(conn, why));
        let (socket_id, origin, ended) = (conn.socket, conn.origin, Ended::of(conn));
        let was_ready = conn.phase == Phase::Ready;
        let was_suspended = std::mem::take(&mut conn.is_suspended);
        if !was_ready {
            conn.egress.begin_traffic();
        }
        let socket = &mut self.sockets[socket_id];
        let proxy = socket.proxy;
        let lingers = why.lingers();
        let unsent = match why {
            // Messages on their way into a loop can go another way; the peer still gets LOOP.
            CloseReason::Loop if socket.may_shed(conn) => {
                Some(conn.egress.take_unsent(&[], &mut self.outbox.store))
            }
            _ if lingers => None,
            _ => Some(socket.close_queue(conn, &mut self.outbox.store)),
        };
        socket.stats.count_close(&why);
        let has_messages = was_ready && socket.may_shed(conn);
        let is_xpub = matches!(socket.pattern, Pattern::Xpub(_));
        if was_suspended {
            socket.suspended.remove(id, &mut self.conns);
            if socket.suspended.is_empty() {
                self.none_is_suspended();
            }
        }
        self.remember_closed(now, id, why);
        // A refusal was reported when it was made.
        if !is_refused {
            self.report_close(socket_id, &ended, &why, None);
        }
        self.remove_loop_peer(id);
        if was_ready {
            self.detach(id, socket_id);
        }
        self.take_tail(id);
        self.forget_topic_counts(id);
        self.watches.forget(id);
        self.reload.forget(id);
        self.forget_request(id);
        self.forget_kept(id);
        self.forget_password(id);
        self.forget_coder(id);
        self.leave(id);
        self.timers.forget(id);
        if let Some(closing) = self.conns.begin_closing(id, has_messages)
            && was_ready
            && is_xpub
        {
            closing.is_cancelling = true;
            self.depart(id, proxy);
        }
        self.count_subscriptions(socket_id);
        if was_ready && let Some(unsent) = unsent {
            self.requeue(now, id, (socket_id, origin), unsent);
            // A REP whose requester has left takes the next request.
            self.deferred.wake(socket_id);
        }
        let socket = &mut self.sockets[socket_id];
        socket.errand.left(id);
        self.give_up_lost_request(socket_id);
        self.deferred.act(Action::Close { id, lingers });
    }

    /// Removes a peer from its socket.
    fn detach(&mut self, id: ConnId, socket_id: SocketId) {
        let socket = &mut self.sockets[socket_id];
        socket.peers -= 1;
        socket.pattern.detach(id, &mut self.conns);
        self.lose_handler(socket_id, id);
        let socket = &self.sockets[socket_id];
        let proxy = &mut self.proxies[socket.proxy];
        if proxy.capture == Some(socket_id) {
            proxy.observers.set_readers(socket.peers);
            // A message may wait for this reader's queue to be written.
            self.wake_for(socket_id);
        }
    }
}

/// The reason for the end of a connection, given what the driver knows of it.
fn cause_of(conn: &Conn, why: CloseReason) -> CloseReason {
    if !matches!(why, CloseReason::Io(_) | CloseReason::PeerClosed) {
        return why;
    }
    // libzmq closes without an ERROR if it does not accept our socket type, and 3.2 if it does not
    // accept our greeting.
    match conn.refusal() {
        Some(why) => why,
        None if conn.session.is_in_handshake() => CloseReason::GaveUp,
        None if conn.has_signature_only() => CloseReason::LeftInGreeting,
        None => why,
    }
}

/// Whether a peer may be silent because it is too slow to read everything sent to it or queued for
/// it. A peer with as many answers as requests has read it.
pub(super) fn may_be_slow(sockets: &Sockets, conn: &Conn) -> bool {
    let socket = &sockets[conn.socket];
    let traffic = &conn.traffic;
    let is_even =
        socket.pattern.is_answered() && traffic.messages_sent <= traffic.messages_received;
    let may_be_unread = conn.liveness.may_be_unread(conn.bytes_meant_for_it());
    !conn.egress.is_empty() || conn.liveness.ping_was_skipped() || !is_even && may_be_unread
}

/// The time between two checks of a queue that may be full for `patience`.
pub(super) fn look_again_after(patience: Duration) -> Duration {
    (patience / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
}
