//! Queues of links that are down, where `immediate` is off.
//!
//! A connection without a stream stands in for the peer. To its socket it is a connection like any
//! other; the driver does not know it and writes nothing. The peer that completes the next
//! handshake gets its queue.

use crate::conn::egress::Unsent;
use crate::conn::{Conn, Egress, Origin, Phase};
use crate::core::Core;
use crate::ids::{ConnId, LinkId};
use crate::pattern::Pattern;
use crate::pattern::errand::Place;
use crate::peer::PeerAddress;
use crate::proxy::Stop;
use std::time::Instant;
use zmtp::Session;

impl Core {
    /// The queue of a link while it is down; `None` if its options ask for none.
    pub(super) fn down_link_queue(&mut self, now: Instant, link: LinkId) -> Option<ConnId> {
        let entry = &mut self.links[link];
        let socket_id = entry.socket;
        let socket = &mut self.sockets[socket_id];
        let is_ending = entry.is_removed || self.proxies[socket.proxy].stop != Stop::No;
        if entry.queue_while_down.is_some() || is_ending {
            return entry.queue_while_down;
        }
        if socket.across.is_none() || socket.options.immediate {
            return None;
        }
        socket.pattern.balancer()?;
        let session = Session::new(socket.session.clone(), now, &mut Vec::new());
        let origin = Origin::Dialled(link);
        let mut conn = Conn::new(
            now,
            session,
            (socket.proxy, socket_id),
            PeerAddress::DownLink,
            origin,
        );
        conn.phase = Phase::Ready;
        conn.is_blocked = true;
        if socket.keeps_apart {
            conn.egress.keep_apart();
        }
        let id = self.conns.insert(conn);
        if socket.pattern.attach(id, &[], &mut self.conns).is_err() {
            // The PAIR has another peer.
            self.conns.remove(id);
            return None;
        }
        entry.queue_while_down = Some(id);
        Some(id)
    }

    /// Keeps the messages of a lost link; returns them if the link has no queue of its own, or the
    /// connection that stands in and has them.
    pub(super) fn keep_for_link(
        &mut self,
        now: Instant,
        origin: Origin,
        unsent: Unsent,
    ) -> (Unsent, Option<ConnId>) {
        let Origin::Dialled(link) = origin else {
            return (unsent, None);
        };
        let Some(id) = self.down_link_queue(now, link) else {
            return (unsent, None);
        };
        let Some(conn) = self.conns.get_mut(id) else {
            return (unsent, None);
        };
        conn.egress.push_unsent(unsent, &mut self.outbox.store);
        self.redelivered(id);
        (Unsent::default(), Some(id))
    }

    /// The link is up: ends the connection that stood in for its peer, and returns its queue.
    pub(super) fn take_down_link_queue(&mut self, origin: Origin) -> Option<(ConnId, Egress)> {
        let Origin::Dialled(link) = origin else {
            return None;
        };
        let entry = &mut self.links[link];
        let (id, socket) = (entry.queue_while_down.take()?, entry.socket);
        self.report_room(id, "another queue took its place");
        let socket = &mut self.sockets[socket];
        socket.pattern.detach(id, &mut self.conns);
        let conn = self.conns.remove(id)?;
        Some((id, conn.egress))
    }

    /// Gives a peer the messages that were queued while it was not connected.
    pub(super) fn hand_over(&mut self, id: ConnId, kept: Option<(ConnId, Egress)>) {
        let Some((queue_while_down, kept)) = kept.filter(|(_, kept)| !kept.is_empty()) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(id) {
            let socket = &mut self.sockets[conn.socket];
            let unsent = kept.messages();
            socket
                .errand
                .taken_back(queue_while_down, unsent, Place::Peer(id));
            conn.egress.append(kept, &mut self.outbox.store);
        }
        self.redelivered(id);
        self.outbox.mark_dirty(&mut self.conns, id);
    }

    /// The link will not be connected again: its queued messages go to other peers.
    pub(super) fn give_up_down_link_queue(&mut self, now: Instant, origin: Origin) {
        let kept = self.take_down_link_queue(origin);
        if let (Origin::Dialled(link), Some((id, mut kept))) = (origin, kept) {
            let unsent = kept.close_and_take(&mut self.outbox.store);
            let socket = self.links[link].socket;
            self.requeue(now, id, (socket, origin), unsent);
        }
    }

    /// A REQ whose request waited for a link waits for this peer's answer now.
    fn redelivered(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id).filter(|conn| !conn.egress.is_empty()) else {
            return;
        };
        let socket = &mut self.sockets[conn.socket];
        if let Pattern::Req(request) = &mut socket.pattern {
            request.redelivered(id);
        }
    }
}
