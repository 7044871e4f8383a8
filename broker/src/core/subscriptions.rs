//! Subscriptions on their way from subscribers to publishers.

use crate::conn::outbox::Outbox;
use crate::conn::{ConnId, ConnTable, Phase, SocketId};
use crate::core::Core;
use crate::pattern::{Outgoing, Pattern, Route};
use crate::proxy::Socket;
use crate::why::{Drop, Why};
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
            Ok(false) => {}
            Ok(true) => {
                let mut upstream = Upstream {
                    conns: &mut self.conns,
                    control: &mut self.control,
                    doomed: &mut self.doomed,
                    outbox: &mut self.outbox,
                };
                upstream.tell(across, topic, add);
            }
        }
    }

    /// A peer across an XSUB subscribes or cancels by a message, as users of XSUB sockets do.
    pub(super) fn subscribe_by_message(&mut self, to: SocketId, add: bool, topic: &[u8]) -> Route {
        let socket = self.proxies[to.proxy as usize].socket_mut(to.side);
        let Pattern::Xsub(xsub) = &mut socket.pattern else {
            return Route::Drop(Drop::NotExpected);
        };
        if xsub.is_sub() {
            return Route::Drop(Drop::NotExpected);
        }
        match xsub.subscribe(topic, add, &socket.options) {
            None => return Route::Drop(Drop::TooManySubscriptions),
            Some(false) => {}
            Some(true) => {
                let mut upstream = Upstream {
                    conns: &mut self.conns,
                    control: &mut self.control,
                    doomed: &mut self.doomed,
                    outbox: &mut self.outbox,
                };
                upstream.tell(socket, topic, add);
            }
        }
        Route::Targets { full: 0 }
    }

    /// Sends a new publisher every topic that somebody wants, each once.
    pub(super) fn replay_subscriptions(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (SocketId { proxy, side }, minor) = (conn.socket, conn.minor);
        let (socket, across) = self.proxies[proxy as usize].sockets_mut(side);
        let Pattern::Xsub(xsub) = &socket.pattern else {
            return;
        };
        let control = &mut self.control;
        xsub.for_each_topic(|topic| Peer::append_subscription(minor, topic, true, control));
        if let Pattern::Xpub(xpub) = &across.pattern
            && !xpub.is_pub()
            && !xsub.is_sub()
        {
            xpub.for_each_topic(|topic| Peer::append_subscription(minor, topic, true, control));
        }
        self.send_control(id);
    }

    /// Cancels up to `limit` subscriptions of peers that left.
    pub(super) fn cancel_departed(&mut self, limit: usize) {
        let Some(id) = self.departing.pop_front() else {
            return;
        };
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let SocketId { proxy, side } = conn.socket;
        let (socket, across) = self.proxies[proxy as usize].sockets_mut(side);
        let Pattern::Xpub(xpub) = &mut socket.pattern else {
            return;
        };
        let is_pub = xpub.is_pub();
        let mut upstream = Upstream {
            conns: &mut self.conns,
            control: &mut self.control,
            doomed: &mut self.doomed,
            outbox: &mut self.outbox,
        };
        let is_gone = xpub.forget(id, limit, |topic| {
            if !is_pub {
                upstream.tell(across, topic, false);
            }
        });
        if !is_gone {
            self.departing.push_front(id);
        } else if let Some(conn) = self.conns.get_mut(id) {
            conn.is_departing = false;
            if conn.phase == Phase::Closed {
                self.conns.remove(id);
            }
        }
    }
}

/// What it takes to tell the other side of a subscription.
struct Upstream<'a> {
    conns: &'a mut ConnTable,
    control: &'a mut Vec<u8>,
    doomed: &'a mut Vec<(ConnId, Why)>,
    outbox: &'a mut Outbox,
}

impl Upstream<'_> {
    /// Tells whom it concerns: the publishers of an XSUB, or whoever gets the messages of another type.
    fn tell(&mut self, across: &mut Socket, topic: &[u8], add: bool) {
        match &across.pattern {
            Pattern::Xsub(xsub) if xsub.is_sub() => {}
            Pattern::Xsub(xsub) => {
                for publisher in xsub.peers() {
                    self.tell_publisher(*publisher, across.options.sndhwm_bytes, topic, add);
                }
            }
            _ => self.tell_as_message(across, topic, add),
        }
    }

    /// There is no high-water mark for what must not be lost. So one that does not read is closed
    /// before its queue grows with every subscription; when it comes back it is told everything.
    fn tell_publisher(&mut self, id: ConnId, bytes_max: u64, topic: &[u8], add: bool) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if conn.egress.bytes() > bytes_max {
            self.doomed.push((id, Why::SubscriptionsUnread));
            return;
        }
        Peer::append_subscription(conn.minor, topic, add, self.control);
        self.outbox.push_bytes(self.conns, id, self.control, 0);
        self.control.clear();
    }

    /// The form in which applications get subscriptions from an XPUB. It cannot wait here: what nobody
    /// takes at once is lost.
    fn tell_as_message(&mut self, across: &mut Socket, topic: &[u8], add: bool) {
        let mut body = Vec::with_capacity(1 + topic.len());
        body.push(u8::from(add));
        body.extend_from_slice(topic);
        let mut wire = Vec::with_capacity(body.len() + 9);
        append_frame(&mut wire, &body, false);
        let message = Outgoing {
            prefix: &[],
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
                stats.count_out(1, envelope.len());
            }
            Route::Targets { .. } => {
                for id in &targets {
                    self.outbox.push_bytes(self.conns, *id, &wire, 1);
                }
                stats.count_out(targets.len(), wire.len());
            }
            Route::Drop(reason) => stats.count_drop(reason),
            Route::Flush(_) | Route::Wait => stats.count_drop(Drop::PeerFull),
        }
    }
}
