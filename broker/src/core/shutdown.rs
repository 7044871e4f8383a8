//! The end of a broker, or of one of its proxies: queued messages are sent first, within the
//! configured time.

use crate::conn::{Conn, Phase};
use crate::core::Core;
use crate::core::change::ChangeError;
use crate::core::events::{Facts, Place};
use crate::core::inproc::InprocActivity;
use crate::ids::{ConnId, LinkId, ProxyId, SocketId};
use crate::pattern::balancer::Balancer;
use crate::peer::PeerAddress;
use crate::proxy::{Linger, Proxy, Socket, Stop, Undelivered};
use crate::reason::{CloseReason, DropReason};
use log::Level;
use std::time::{Duration, Instant};

/// The state of a stop of the broker, and of proxies that end before it.
#[derive(Debug)]
pub(super) struct Shutdown {
    drain_timeout: Duration,
    /// Whether a second call of [`Core::handle_stop`] has ended the wait for queues.
    is_forced: bool,
    stop: Stop,
    /// Proxies that end before the others, while they send queued messages.
    stopping: Vec<ProxyId>,
    pub(super) inproc: InprocActivity,
}

impl Shutdown {
    pub(super) fn new(drain_timeout: Duration) -> Self {
        Self {
            drain_timeout,
            is_forced: false,
            stop: Stop::No,
            stopping: Vec::new(),
            inproc: InprocActivity::default(),
        }
    }

    /// Whether no further turn is needed at once: while the broker drains, messages between its own
    /// sockets have come to rest.
    pub(super) fn is_quiet(&self) -> bool {
        self.inproc.is_quiet() || !matches!(self.stop, Stop::Draining(_))
    }

    /// How long a stop that begins from now on may take.
    pub(super) fn set_drain_timeout(&mut self, timeout: Duration) {
        self.drain_timeout = timeout;
    }

    /// The stage of the broker's stop.
    pub(super) fn stop(&self) -> Stop {
        self.stop
    }

    /// The messages that a stop has dropped from the queues of a socket, and the limit that was
    /// reached.
    fn describe_loss(&self, socket: &Socket) -> String {
        let messages = socket.stats.dropped(DropReason::Stopping);
        let Undelivered { bytes, peers } = socket.undelivered;
        let dropped = format!("dropped {messages} queued messages of {bytes} bytes");
        let peers = match peers {
            0 => return format!("{dropped}: no peer is connected to take them"),
            1 => "1 peer".to_owned(),
            peers => format!("{peers} peers"),
        };
        let limit = match socket.options.linger {
            _ if self.is_forced => "before the second signal".to_owned(),
            Some(linger) if linger < self.drain_timeout => {
                format!("within {} ms (linger)", linger.as_millis())
            }
            _ => format!(
                "within {} ms (drain_timeout)",
                self.drain_timeout.as_millis()
            ),
        };
        format!("{dropped}: {peers} did not take them {limit}")
    }

    /// Whether everything is closed, or being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.stop == Stop::Closing
    }
}

impl Core {
    /// Begins to stop: the broker accepts and reads nothing any more, and sends queued messages
    /// within the configured time. A second call drops them.
    pub fn handle_stop(&mut self, now: Instant) {
        if self.shutdown.stop != Stop::No {
            self.shutdown.is_forced = true;
            self.close_all(now);
            return;
        }
        // It may wait for listeners that end here.
        self.fail_change(ChangeError::Stopping);
        let deadline = now + self.shutdown.drain_timeout;
        self.shutdown.stop = Stop::Draining(deadline);
        for id in self.proxies.handles() {
            // The control of the broker answers until the end.
            if self.proxies[id].is_own {
                continue;
            }
            self.begin_stop(now, id, deadline);
        }
        self.run_deferred(now);
    }

    /// Begins to end one proxy of several.
    pub(super) fn stop_proxy(&mut self, now: Instant, id: ProxyId) {
        let deadline = now + self.shutdown.drain_timeout;
        self.begin_stop(now, id, deadline);
        self.shutdown.stopping.push(id);
    }

    fn begin_stop(&mut self, now: Instant, id: ProxyId, deadline: Instant) {
        let proxy = &mut self.proxies[id];
        if proxy.stop != Stop::No {
            return;
        }
        proxy.stop = Stop::Draining(deadline);
        proxy.begin_linger(&mut self.sockets, now, deadline);
        self.remove_listeners(id);
        let links = self.links.iter();
        let own = links.filter(|(_, link)| self.sockets[link.socket].proxy == id);
        let own: Vec<LinkId> = own.map(|(link, _)| link).collect();
        for link in own {
            self.end_link(link);
        }
        let is_unfinished =
            |conn: &Conn| conn.phase == Phase::Handshake || conn.is_down_link_queue();
        let is_meant = |conn: &Conn| conn.proxy == id && is_unfinished(conn);
        self.close_all_later(CloseReason::Stopping, is_meant);
    }

    /// Advances the stops in progress. Returns whether one has ended, so that more work is due.
    pub(super) fn check_stops(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.deferred.is_stop_asked) && self.shutdown.stop == Stop::No {
            self.handle_stop(now);
            return true;
        }
        if let Stop::Draining(deadline) = self.shutdown.stop {
            self.end_linger(now);
            let is_quiet = self.shutdown.inproc.is_quiet() && self.agenda.is_empty();
            if now >= deadline || is_quiet && self.is_drained(None) {
                self.close_all(now);
                self.run_deferred(now);
                return true;
            }
        }
        self.free_what_left();
        if self.shutdown.stopping.is_empty() {
            return false;
        }
        // They began to end before the broker did, so their deadlines come first.
        self.end_linger(now);
        let (mut ended, mut index) = (false, 0);
        while let Some(proxy) = self.shutdown.stopping.get(index).copied() {
            let stop = self.proxies[proxy].stop;
            if matches!(stop, Stop::Draining(deadline) if now < deadline)
                && !self.is_drained(Some(proxy))
            {
                index += 1;
            } else {
                self.shutdown.stopping.swap_remove(index);
                self.close_proxy(now, proxy);
                ended = true;
            }
        }
        ended
    }

    /// The next deadline of the stops in progress.
    pub(super) fn stop_deadline(&self) -> Option<Instant> {
        let is_stopping =
            matches!(self.shutdown.stop, Stop::Draining(_)) || !self.shutdown.stopping.is_empty();
        if !is_stopping {
            return None;
        }
        let deadlines = self
            .proxies
            .iter()
            .filter_map(|(_, proxy)| match proxy.stop {
                Stop::Draining(deadline) => Some(deadline),
                Stop::No | Stop::Closing => None,
            });
        deadlines.chain(self.linger_deadline()).min()
    }

    /// Whether this connection may be read during the stops in progress.
    pub(super) fn is_read_in_stop(&self, conn: &Conn) -> bool {
        match (self.proxies[conn.proxy].stop, self.shutdown.stop) {
            (Stop::No, _) => true,
            // Received messages go on.
            (Stop::Draining(_), _) if conn.is_cut => true,
            // Messages from one socket of this broker to another must be received and sent on.
            (Stop::Draining(_), Stop::Draining(_)) => conn.peer == PeerAddress::Inproc,
            _ => false,
        }
    }

    /// Drops all queued messages, and closes every connection.
    fn close_all(&mut self, now: Instant) {
        for id in self.proxies.handles() {
            if self.proxies[id].is_own {
                self.remove_listeners(id);
            }
            self.close_proxy(now, id);
        }
        self.shutdown.stopping.clear();
        self.shutdown.stop = Stop::Closing;
    }

    fn close_proxy(&mut self, now: Instant, id: ProxyId) {
        let proxy = &self.proxies[id];
        if proxy.stop == Stop::Closing {
            return;
        }
        proxy.begin_linger(&mut self.sockets, now, now);
        self.end_linger(now);
        let proxy = &mut self.proxies[id];
        proxy.stop = Stop::Closing;
        let sockets: Vec<SocketId> = proxy.sockets().collect();
        for id in sockets {
            let socket = &self.sockets[id];
            let dropped = socket.stats.dropped(DropReason::Stopping);
            if dropped > 0 {
                let loss = self.shutdown.describe_loss(socket);
                let facts = Facts {
                    count: Some(dropped),
                    ..Facts::default()
                };
                self.tell(Level::Warn, Place::Socket(id), facts, &loss);
            }
        }
        self.close_all_later(CloseReason::Stopping, |conn| conn.proxy == id);
    }

    pub(super) fn close_all_later(&mut self, why: CloseReason, is_meant: impl Fn(&Conn) -> bool) {
        let meant = self.conns.iter().filter(|(_, conn)| is_meant(conn));
        let ids: Vec<ConnId> = meant.map(|(id, _)| id).collect();
        for id in ids {
            self.close_later(id, why);
        }
    }

    /// The next time at which a socket must stop sending.
    fn linger_deadline(&self) -> Option<Instant> {
        let sockets = self.sockets.iter();
        let deadlines = sockets.filter_map(|(_, socket)| match socket.linger {
            Linger::Until(deadline) => Some(deadline),
            Linger::Always | Linger::Over => None,
        });
        deadlines.min()
    }

    /// Drops and counts the queued messages of sockets that must stop sending.
    fn end_linger(&mut self, now: Instant) {
        let mut is_any_over = false;
        for (_, socket) in self.sockets.iter_mut() {
            let linger = &mut socket.linger;
            if matches!(*linger, Linger::Until(deadline) if deadline <= now) {
                *linger = Linger::Over;
            }
            is_any_over |= *linger == Linger::Over;
        }
        if !is_any_over {
            return;
        }
        let store = &mut self.outbox.store;
        for (_, socket) in self.sockets.iter_mut() {
            if socket.linger == Linger::Over {
                let balancer = socket.pattern.as_balancer();
                let bytes = balancer.map_or(0, Balancer::orphaned_bytes);
                socket.undelivered.bytes += bytes;
                socket.shed_orphaned(DropReason::Stopping, store);
            }
        }
        for (id, conn) in self.conns.iter_mut() {
            let socket = &mut self.sockets[conn.socket];
            if socket.linger == Linger::Over && conn.egress.messages() > 0 {
                let before = conn.egress.bytes();
                socket.shed((id, conn), DropReason::Stopping, &[], store);
                socket.count_undelivered(before - conn.egress.bytes());
            }
        }
        for closing in self.conns.iter_closing_mut() {
            let socket = &mut self.sockets[closing.socket];
            if socket.linger == Linger::Over && closing.has_messages {
                let before = closing.egress.bytes();
                let count = closing.egress.shed(&[], store);
                socket.stats.count_drops(DropReason::Stopping, count);
                socket.count_undelivered(before - closing.egress.bytes());
            }
        }
    }

    /// Whether no queued message can still be sent, for one proxy or for all. A message for a peer
    /// that is not connected, or for a capture without readers, does not count, since nothing is
    /// accepted any more.
    fn is_drained(&self, only: Option<ProxyId>) -> bool {
        let is_meant = |proxy: ProxyId| only.is_none_or(|only| only == proxy);
        let is_over = |socket: &Socket| socket.linger == Linger::Over;
        let could_go = |proxy: &Proxy, from: &Socket, to: &Socket| {
            let waits = !from.suspended.is_empty() && proxy.may_take_copies(&self.sockets);
            let is_open = !proxy.is_paused && !is_over(to);
            is_open && to.peers > 0 && (waits || to.pattern.has_orphaned())
        };
        let is_between = |proxy: &Proxy| {
            let [front, back] = proxy.sides().map(|id| &self.sockets[id]);
            could_go(proxy, front, back) || could_go(proxy, back, front)
        };
        let is_sent = |proxy: ProxyId, socket: SocketId, is_empty: bool| {
            !is_meant(proxy) || is_empty || is_over(&self.sockets[socket])
        };
        let mut proxies = self.proxies.iter();
        let (mut open, mut closing) = (self.conns.iter(), self.conns.closing());
        !proxies.any(|(id, proxy)| is_meant(id) && is_between(proxy))
            && open.all(|(_, conn)| {
                let is_empty = conn.egress.is_empty() && !conn.is_cut;
                is_sent(conn.proxy, conn.socket, is_empty)
            })
            && closing.all(|(_, it)| is_sent(it.proxy, it.socket, it.egress.is_empty()))
    }
}
