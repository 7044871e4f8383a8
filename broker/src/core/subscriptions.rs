//! Subscriptions on their way from subscribers to publishers.

use crate::conn::{ConnId, Phase, SocketId};
use crate::core::Core;
use crate::pattern::Pattern;
use crate::why::Why;
use zmtp::Peer;

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
                if let Pattern::Xsub(xsub) = &across.pattern {
                    // One that does not read would make its queue grow with every subscription: there
                    // is no high-water mark for what must not be lost.
                    for publisher in xsub.peers() {
                        let Some(conn) = self.conns.get(*publisher) else {
                            continue;
                        };
                        Peer::append_subscription(conn.minor, topic, add, &mut self.control);
                        let is_too_slow = conn.egress.bytes() > across.options.sndhwm_bytes;
                        self.outbox
                            .push_bytes(&mut self.conns, *publisher, &self.control, 0);
                        self.control.clear();
                        if is_too_slow {
                            self.doomed.push((*publisher, Why::SubscriptionsUnread));
                        }
                    }
                }
            }
        }
    }

    /// Sends a new publisher every topic that somebody wants, each once.
    pub(super) fn replay_subscriptions(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (SocketId { proxy, side }, minor) = (conn.socket, conn.minor);
        let (_, across) = self.proxies[proxy as usize].sockets_mut(side);
        if let Pattern::Xpub(xpub) = &across.pattern {
            let control = &mut self.control;
            xpub.for_each_topic(|topic| Peer::append_subscription(minor, topic, true, control));
            self.send_control(id);
        }
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
        let is_gone = {
            let (conns, outbox, control) = (&mut self.conns, &mut self.outbox, &mut self.control);
            xpub.forget(id, limit, |topic| {
                let Pattern::Xsub(xsub) = &across.pattern else {
                    return;
                };
                for publisher in xsub.peers() {
                    let Some(minor) = conns.get(*publisher).map(|conn| conn.minor) else {
                        continue;
                    };
                    Peer::append_subscription(minor, topic, false, control);
                    outbox.push_bytes(conns, *publisher, control, 0);
                    control.clear();
                }
            })
        };
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
