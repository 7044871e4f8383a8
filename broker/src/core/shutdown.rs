//! The end of a broker, or of one of its proxies: what is queued is sent first, for as long as the
//! configuration says.

use crate::config::SocketName;
use crate::conn::{Conn, ConnId, Phase, SocketId};
use crate::core::Core;
use crate::core::actions::Action;
use crate::core::links::LinkState;
use crate::peer::PeerAddress;
use crate::proxy::{Linger, Proxy, Stop};
use crate::why::{Drop, Why};
use std::time::Instant;

impl Core {
    /// Begins to stop: nothing is accepted or read any more, what is queued is sent, for as long as
    /// the configuration says. A second call gives up what is queued.
    pub fn handle_stop(&mut self, now: Instant) {
        if self.stop != Stop::No {
            self.close_all(now);
            return;
        }
        let deadline = now + self.drain_timeout;
        self.stop = Stop::Draining(deadline);
        self.actions.push_back(Action::StopAccepting(None));
        for index in 0..self.proxies.len() {
            self.begin_stop(now, index, deadline);
        }
        self.settle(now);
    }

    /// Begins to end one proxy of several.
    pub(super) fn stop_proxy(&mut self, now: Instant, index: u32) {
        let deadline = now + self.drain_timeout;
        self.actions.push_back(Action::StopAccepting(Some(index)));
        self.begin_stop(now, index as usize, deadline);
        self.stopping.push(index);
    }

    fn begin_stop(&mut self, now: Instant, index: usize, deadline: Instant) {
        let proxy = &mut self.proxies[index];
        if proxy.stop != Stop::No {
            return;
        }
        proxy.stop = Stop::Draining(deadline);
        proxy.begin_linger(now, deadline);
        let links = self.links.iter_mut();
        for link in links.filter(|link| link.socket.proxy as usize == index) {
            if let LinkState::Waiting(_) = link.state {
                link.state = LinkState::Connecting;
            }
        }
        let is_unfinished = |conn: &Conn| conn.phase == Phase::Handshake || conn.is_stand_in();
        self.doom_all(|conn| conn.socket.proxy as usize == index && is_unfinished(conn));
    }

    /// Brings stops that are under way a step further. Answers whether one came to its end, so that
    /// there is more to do.
    pub(super) fn check_stops(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.is_stop_asked) && self.stop == Stop::No {
            self.handle_stop(now);
            return true;
        }
        if let Stop::Draining(deadline) = self.stop {
            self.end_linger(now);
            let is_quiet = self.transit.is_quiet() && self.agenda.is_empty();
            if now >= deadline || is_quiet && self.is_drained(None) {
                self.close_all(now);
                self.settle(now);
                return true;
            }
        }
        if self.stopping.is_empty() {
            return false;
        }
        // They began to end before the broker did, and their deadlines come first.
        self.end_linger(now);
        let (mut ended, mut index) = (false, 0);
        while let Some(proxy) = self.stopping.get(index).copied() {
            let stop = self.proxies[proxy as usize].stop;
            if matches!(stop, Stop::Draining(deadline) if now < deadline)
                && !self.is_drained(Some(proxy))
            {
                index += 1;
            } else {
                self.stopping.swap_remove(index);
                self.close_proxy(now, proxy as usize);
                ended = true;
            }
        }
        ended
    }

    /// When the next stop that is under way comes to a deadline.
    pub(super) fn stop_deadline(&self) -> Option<Instant> {
        let is_stopping = matches!(self.stop, Stop::Draining(_)) || !self.stopping.is_empty();
        if !is_stopping {
            return None;
        }
        let deadlines = self.proxies.iter().filter_map(|proxy| match proxy.stop {
            Stop::Draining(deadline) => Some(deadline),
            Stop::No | Stop::Closing => None,
        });
        deadlines.chain(self.linger_deadline()).min()
    }

    /// Whether this connection may be read from, as far as stops have a say.
    pub(super) fn is_read_in_stop(&self, conn: &Conn) -> bool {
        match (self.proxies[conn.socket.proxy as usize].stop, self.stop) {
            (Stop::No, _) => true,
            // What was received goes on.
            (Stop::Draining(_), _) if conn.is_cut => true,
            // What one socket of ours has sent to another is queued here, and to be sent on.
            (Stop::Draining(_), Stop::Draining(_)) => conn.peer == PeerAddress::Inproc,
            _ => false,
        }
    }

    /// Gives up what is still queued, and every connection.
    fn close_all(&mut self, now: Instant) {
        for index in 0..self.proxies.len() {
            self.close_proxy(now, index);
        }
        self.stopping.clear();
        self.stop = Stop::Closing;
    }

    fn close_proxy(&mut self, now: Instant, index: usize) {
        let proxy = &mut self.proxies[index];
        if proxy.stop == Stop::Closing {
            return;
        }
        proxy.begin_linger(now, now);
        self.end_linger(now);
        let proxy = &mut self.proxies[index];
        proxy.stop = Stop::Closing;
        for side in SocketName::ALL {
            let (name, count) = (
                &proxy.name,
                proxy.socket(side).stats.dropped(Drop::Stopping),
            );
            if count > 0 {
                log::warn!(
                    "{name} {side}: dropped {count} queued messages: their peers did not take them \
                     before the stop (drain_timeout, linger)"
                );
            }
        }
        self.doom_all(|conn| conn.socket.proxy as usize == index);
    }

    fn doom_all(&mut self, is_meant: impl Fn(&Conn) -> bool) {
        let meant = self.conns.iter().filter(|(_, conn)| is_meant(conn));
        let ids: Vec<ConnId> = meant.map(|(id, _)| id).collect();
        for id in ids {
            self.doom(id, Why::Stopping);
        }
    }

    /// When the next socket of a stop that is under way is to send no more.
    fn linger_deadline(&self) -> Option<Instant> {
        let sockets = self.proxies.iter().flat_map(Proxy::sockets);
        let deadlines = sockets.filter_map(|socket| match socket.linger {
            Linger::Until(deadline) => Some(deadline),
            Linger::Always | Linger::Over => None,
        });
        deadlines.min()
    }

    /// Drops what is queued on sockets that are to send no more, and counts it.
    fn end_linger(&mut self, now: Instant) {
        let mut is_any_over = false;
        for proxy in &mut self.proxies {
            for side in SocketName::ALL {
                let linger = &mut proxy.socket_mut(side).linger;
                if matches!(*linger, Linger::Until(deadline) if deadline <= now) {
                    *linger = Linger::Over;
                }
                is_any_over |= *linger == Linger::Over;
            }
        }
        if !is_any_over {
            return;
        }
        let store = &mut self.outbox.store;
        for socket in self.proxies.iter_mut().flat_map(Proxy::all_mut) {
            if socket.linger == Linger::Over {
                socket.shed_stranded(Drop::Stopping, store);
            }
        }
        for (id, conn) in self.conns.iter_mut() {
            let SocketId { proxy, side } = conn.socket;
            let socket = self.proxies[proxy as usize].socket_mut(side);
            if socket.linger == Linger::Over && conn.egress.messages() > 0 {
                socket.shed((id, conn), Drop::Stopping, &[], store);
            }
        }
        for closing in self.conns.iter_closing_mut() {
            let SocketId { proxy, side } = closing.socket;
            let socket = self.proxies[proxy as usize].socket_mut(side);
            if socket.linger == Linger::Over && closing.has_messages {
                let count = closing.egress.shed(&[], store);
                socket.stats.count_drops(Drop::Stopping, count);
            }
        }
    }

    /// Whether nothing is queued that could still be sent, by one proxy or by all. A message that
    /// waits for a peer that is not there, a reader of the capture too, waits in vain: nothing is
    /// accepted any more.
    fn is_drained(&self, only: Option<u32>) -> bool {
        let is_meant = |proxy: u32| only.is_none_or(|only| only == proxy);
        let could_go = |proxy: &Proxy, from: SocketName| {
            let (waits, to) = (
                !proxy.socket(from).waiting.is_empty(),
                proxy.socket(from.opposite()),
            );
            let is_open = !proxy.is_paused && to.linger != Linger::Over;
            let may_go = waits && proxy.may_take_copies() || to.pattern.has_stranded();
            is_open && to.peers > 0 && may_go
        };
        let is_between =
            |proxy: &Proxy| SocketName::SIDES.iter().any(|from| could_go(proxy, *from));
        let is_sent = |socket: SocketId, is_empty: bool| {
            let linger = self.proxies[socket.proxy as usize]
                .socket(socket.side)
                .linger;
            !is_meant(socket.proxy) || is_empty || linger == Linger::Over
        };
        let mut proxies = (0..).zip(&self.proxies);
        !proxies.any(|(index, proxy)| is_meant(index) && is_between(proxy))
            && self
                .conns
                .iter()
                .all(|(_, conn)| is_sent(conn.socket, conn.egress.is_empty() && !conn.is_cut))
            && self
                .conns
                .closing()
                .all(|(_, closing)| is_sent(closing.socket, closing.egress.is_empty()))
    }
}
