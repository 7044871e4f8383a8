//! Settings that a running broker takes over from a new configuration.

use crate::config::{Balance, Change, Changes, SocketName};
use crate::conn::{Conn, Phase};
use crate::core::lifecycle::look_again_after;
use crate::core::links::LinkState;
use crate::core::timers::Owner;
use crate::core::{Action, Core};
use crate::ids::{ConnId, LinkId, SocketId};
use crate::pattern::Pattern;
use crate::reason::CloseReason;
use std::time::Instant;

impl Core {
    /// Gives each socket that these changes concern its new options.
    pub(super) fn set_options(&mut self, now: Instant, changes: &Changes) {
        let mut changed: Vec<SocketId> = Vec::new();
        for change in &changes.list {
            if let Change::Option { at, .. } = change
                && let Some(socket) = self.socket_at(at)
                && !changed.contains(&socket)
            {
                changed.push(socket);
                if let Some(config) = self.reconfiguration.config.proxy(&at.proxy) {
                    let options = config.socket(at.socket).options.clone();
                    self.sockets[socket].set_options(options);
                }
            }
        }
        for id in changed {
            self.share_with_echo(id);
            self.apply_options(now, id);
        }
    }

    /// An echo sends through the peers of its frontend, by the options of that.
    fn share_with_echo(&mut self, id: SocketId) {
        let socket = &self.sockets[id];
        if let (Pattern::Echo, SocketName::Frontend, Some(across)) =
            (&socket.pattern, socket.name, socket.across)
        {
            let options = socket.options.clone();
            self.sockets[across].set_options(options);
        }
    }

    /// The options of a socket have changed: all that follows for its connections and links.
    fn apply_options(&mut self, now: Instant, id: SocketId) {
        let conns = self.conns.iter();
        let own = conns.filter(|(_, conn)| conn.socket == id);
        let own: Vec<ConnId> = own.map(|(conn, _)| conn).collect();
        for conn in own {
            self.apply_options_to(now, id, conn);
        }
        let links = self.links.iter();
        let own = links.filter(|(_, link)| link.socket == id && !link.is_removed);
        let own: Vec<LinkId> = own.map(|(link, _)| link).collect();
        for link in own {
            self.apply_options_to_link(now, link);
        }
        // There may be room where there was none.
        self.wake_for(id);
    }

    fn apply_options_to(&mut self, now: Instant, socket_id: SocketId, id: ConnId) {
        let socket = &mut self.sockets[socket_id];
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.is_down_link_queue() && socket.options.immediate {
            // Its messages go to other peers.
            return self.close_later(id, CloseReason::EndpointRemoved);
        }
        if conn.phase == Phase::Ready && socket.keeps_apart {
            conn.egress.keep_apart();
        }
        // The queue of a link that is down may be full for as long as the link is down.
        if !conn.is_down_link_queue()
            && let Some(term) = socket.watch_term(id, conn)
        {
            conn.fullness.get_or_insert_default().is_watched = true;
            let later = now + look_again_after(term);
            self.timers.insert(later, Owner::Queue(id));
        }
        let is_ready = socket.options.balance == Balance::Ready;
        if let (Pattern::Dealer(balancer), false) = (&mut socket.pattern, is_ready) {
            balancer.answered(id, &mut self.conns);
        }
        self.look_for_room(id);
        self.queue_shortened(id);
    }

    /// A suspended sender may be read from again, or must not be any more.
    fn look_for_room(&mut self, id: ConnId) {
        let is_meant = |conn: &&Conn| conn.is_suspended && !conn.has_left();
        if self.conns.get(id).filter(is_meant).is_some() {
            let tail = self.take_tail(id);
            self.suspend(id, &tail);
            self.put_tail(id, tail);
            self.deferred.act(Action::Resume(id));
        }
    }

    fn apply_options_to_link(&mut self, now: Instant, id: LinkId) {
        let link = &mut self.links[id];
        let options = &self.sockets[link.socket].options;
        let longest = link.backoff.set_options(options);
        match link.state {
            LinkState::Waiting(until) if until > now + longest => {
                link.state = LinkState::Waiting(now + longest);
                self.timers.insert(now + longest, Owner::Link(id));
            }
            LinkState::Up(conn)
                if self
                    .conns
                    .get(conn)
                    .is_some_and(|conn| conn.phase == Phase::Ready) =>
            {
                return;
            }
            _ => {}
        }
        if !self.deferred.absent.contains(&id) {
            self.deferred.absent.push(id);
        }
    }
}
