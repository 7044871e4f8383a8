//! Subscriptions on their way from subscribers to publishers.

use crate::conn::outbox::Outbox;
use crate::conn::{ConnId, ConnTable, Origin, SocketId};
use crate::core::Core;
use crate::limits::UPSTREAM_BYTES_MAX;
use crate::pattern::xpub::Notice;
use crate::pattern::{Outgoing, Pattern, Route, count_missing, split_missing};
use crate::proxy::Socket;
use crate::why::Drop;
use zmtp::Peer;
use zmtp::encode::append_frame;

impl Core {
    /// A peer of an XPUB subscribes or cancels.
    pub(super) fn subscribe(&mut self, id: ConnId, topic: &[u8], add: bool) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let SocketId { proxy, side } = conn.socket;
        let (socket, across) = self.proxies[proxy as usize].sockets_mut(side);
        let Pattern::Xpub(xpub) = &mut socket.pattern else {
            return;
        };
        match xpub.subscribe(id, topic, add, &socket.options) {
            Err(why) => self.doom(id, why),
            Ok(notice) => {
                let mut upstream = Upstream {
                    conns: &mut self.conns,
                    control: &mut self.control,
                    outbox: &mut self.outbox,
                };
                upstream.tell(id, across, topic, add, notice);
                if notice.to_others {
                    self.show_subscription(id, SocketId { proxy, side }, topic, add);
                }
            }
        }
    }

    /// A peer across an XSUB has subscribed or cancelled by a message, as users of XSUB sockets do.
    pub(super) fn subscribe_by_message(&mut self, to: SocketId, add: bool, topic: &[u8]) {
        let socket = self.proxies[to.proxy as usize].socket_mut(to.side);
        let Pattern::Xsub(xsub) = &mut socket.pattern else {
            return;
        };
        let mut upstream = Upstream {
            conns: &mut self.conns,
            control: &mut self.control,
            outbox: &mut self.outbox,
        };
        let tell = |id, topic: &[u8]| upstream.tell_publisher(id, topic, add);
        if !xsub.subscribe(topic, add, &socket.options, tell) {
            socket.stats.count_drop(Drop::TooManySubscriptions);
        }
    }

    /// Sends a new publisher every topic that somebody wants, each once.
    pub(super) fn replay_subscriptions(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (SocketId { proxy, side }, version) = (conn.socket, conn.version);
        let filter = match conn.origin {
            Origin::Accepted => 0,
            Origin::Dialled(link) => self.links[link as usize].filter,
        };
        let (socket, across) = self.proxies[proxy as usize].sockets_mut(side);
        let Pattern::Xsub(xsub) = &mut socket.pattern else {
            return;
        };
        xsub.set_filter(id, &self.conns, filter);
        let control = &mut self.control;
        xsub.for_each_topic(id, |topic| {
            Peer::append_subscription(version, topic, true, control)
        });
        if let Pattern::Xpub(xpub) = &across.pattern
            && !xpub.is_pub()
            && xsub.passes_all(id)
        {
            xpub.for_each_topic(|topic| Peer::append_subscription(version, topic, true, control));
        }
        self.send_control(id);
    }

    /// Whether a publisher of this socket has yet to take so many subscriptions that the next
    /// should wait.
    pub(super) fn is_upstream_full(&self, id: SocketId) -> bool {
        let socket = self.proxies[id.proxy as usize].socket(id.side);
        let Pattern::Xsub(xsub) = &socket.pattern else {
            return false;
        };
        let queued = |id| self.conns.get(id).map_or(0, |conn| conn.egress.bytes());
        xsub.peers()
            .iter()
            .any(|id| queued(*id) > UPSTREAM_BYTES_MAX)
    }

    /// Whether subscriptions of peers that left can be cancelled now.
    pub(super) fn can_cancel(&self) -> bool {
        let next = self.departing.front();
        let socket = next.and_then(|id| self.conns.closing_socket(*id));
        socket.is_some_and(|socket| !self.is_upstream_full(socket.across()))
    }

    /// Cancels up to `limit` subscriptions of peers that left.
    pub(super) fn cancel_departed(&mut self, limit: usize) {
        if !self.can_cancel() {
            return;
        }
        let Some(id) = self.departing.pop_front() else {
            return;
        };
        let Some(SocketId { proxy, side }) = self.conns.closing_socket(id) else {
            return;
        };
        let is_watched = self.proxies[proxy as usize].watch.is_active;
        let (socket, across) = self.proxies[proxy as usize].sockets_mut(side);
        let Pattern::Xpub(xpub) = &mut socket.pattern else {
            return;
        };
        let is_pub = xpub.is_pub();
        let mut upstream = Upstream {
            conns: &mut self.conns,
            control: &mut self.control,
            outbox: &mut self.outbox,
        };
        let is_shown = is_watched && !is_pub;
        let mut shown = Vec::new();
        let is_gone = xpub.forget(id, limit, |topic| {
            if is_shown {
                shown.push(topic.to_vec());
            }
            let notice = Notice {
                to_others: !is_pub,
                to_publishers: !is_pub,
            };
            upstream.tell(id, across, topic, false, notice);
        });
        if !is_gone {
            self.departing.push_front(id);
        } else if let Some(closing) = self.conns.closing_mut(id) {
            closing.is_cancelling = false;
            if closing.is_closed {
                self.forget(id);
            }
        }
        for topic in shown {
            self.show_subscription(id, SocketId { proxy, side }, &topic, false);
        }
    }
}

/// What it takes to tell the other side of a subscription.
struct Upstream<'a> {
    conns: &'a mut ConnTable,
    control: &'a mut Vec<u8>,
    outbox: &'a mut Outbox,
}

impl Upstream<'_> {
    /// Tells whom it concerns: the publishers of an XSUB, or whoever gets the messages of another
    /// type.
    fn tell(&mut self, from: ConnId, across: &mut Socket, topic: &[u8], add: bool, notice: Notice) {
        match &mut across.pattern {
            Pattern::Xsub(xsub) if xsub.is_sub() || !notice.to_publishers => {}
            Pattern::Xsub(xsub) => {
                let tell = |id, topic: &[u8]| self.tell_publisher(id, topic, add);
                xsub.pass_on(topic, add, &across.options, tell);
            }
            _ if notice.to_others => self.tell_as_message(from, across, topic, add),
            _ => {}
        }
    }

    fn tell_publisher(&mut self, id: ConnId, topic: &[u8], add: bool) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        Peer::append_subscription(conn.version, topic, add, self.control);
        self.outbox.push_bytes(self.conns, id, self.control, 0);
        self.control.clear();
    }

    /// The form in which applications get subscriptions from an XPUB. It cannot wait here: what
    /// nobody takes at once is lost.
    fn tell_as_message(&mut self, from: ConnId, across: &mut Socket, topic: &[u8], add: bool) {
        let mut body = Vec::with_capacity(1 + topic.len());
        body.push(u8::from(add));
        body.extend_from_slice(topic);
        let mut wire = Vec::with_capacity(body.len() + 9);
        append_frame(&mut wire, &body, false);
        let message = Outgoing {
            is_matched: false,
            prefix: &[],
            sender: from,
            wire: &wire,
        };
        let (mut targets, mut envelope) = (Vec::new(), Vec::new());
        let Socket {
            options,
            pattern,
            stats,
            ..
        } = across;
        match pattern.route(message, self.conns, options, &mut targets, &mut envelope) {
            Route::To { id, skip } => {
                envelope.extend_from_slice(&wire[skip..]);
                self.outbox.push_bytes(self.conns, id, &envelope, 1);
                stats.count_out(1, 1, envelope.len());
            }
            Route::Targets { full } => {
                count_missing(stats, self.conns, split_missing(&mut targets, full));
                for id in &targets {
                    self.outbox.push_bytes(self.conns, *id, &wire, 1);
                }
                stats.count_out(targets.len(), 1, wire.len());
            }
            Route::Drop(reason) => stats.count_drop(reason),
            Route::Flush(_) | Route::Full(_) | Route::Subscription { .. } | Route::Wait => {
                stats.count_drop(Drop::PeerFull)
            }
        }
    }
}
