//! Connecting endpoints: each has a link, which is tried again until the broker stops.

use crate::config::{Connect, Endpoint, SocketOptions};
use crate::conn::{Conn, Origin};
use crate::core::events::{Facts, Place, is_told};
use crate::core::timers::Owner;
use crate::core::turn::{Kind, cost};
use crate::core::{Action, Core};
use crate::ids::{ConnId, LinkId, SocketId};
use crate::pattern::Pattern;
use crate::peer::PeerAddress;
use crate::proxy::Stop;
use crate::reason::CloseReason;
use log::Level;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::time::{Duration, Instant};

/// One connecting endpoint.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) backoff: Backoff,
    pub(crate) connect: Connect,
    /// The filter of its socket that restricts its subscriptions.
    pub(crate) filter: usize,
    /// A failure was reported and no success since: further failures are not reported.
    pub(crate) is_known_down: bool,
    /// The log has reported that the peer is late with its greeting, and no handshake was completed
    /// since.
    pub(crate) is_known_silent: bool,
    /// It closed a loop when it was last up, so it comes back on trial.
    pub(crate) is_looped: bool,
    /// It was removed from the configuration: it stays as long as its connection.
    pub(crate) is_removed: bool,
    pub(crate) socket: SocketId,
    /// Its queue while the peer is not connected, if the options ask for one.
    pub(crate) queue_while_down: Option<ConnId>,
    pub(crate) state: LinkState,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// The driver connects.
    Connecting,
    /// It is not tried any more.
    Ended,
    /// This connection exists, before or after its handshake.
    Up(ConnId),
    /// It waits until this time.
    Waiting(Instant),
}

/// The wait before the next attempt: it doubles after each failure, up to a maximum, and each wait
/// is shortened by up to half at random, so that the clients of a server do not reconnect together.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    first: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(options: &SocketOptions) -> Self {
        let first = options.reconnect_ivl.max(Duration::from_millis(1));
        Self {
            failures: 0,
            first,
            max: options.reconnect_ivl_max.max(first),
        }
    }

    /// The next wait, shortened at random.
    pub(crate) fn next(&mut self, random: &mut Random) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let wait = self.first.saturating_mul(factor).min(self.max);
        self.failures = (self.failures + 1).min(31);
        let half = wait / 2;
        half + half.mul_f64(random.fraction())
    }

    /// The options have changed: from now on waits follow them. Returns the longest.
    pub(crate) fn set_options(&mut self, options: &SocketOptions) -> Duration {
        let failures = self.failures;
        *self = Self {
            failures,
            ..Self::new(options)
        };
        self.max
    }

    /// A handshake was completed: the next wait is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Numbers that cannot be predicted from earlier ones without the seed: hashes of the seed and a
/// count.
#[derive(Debug)]
pub(crate) struct Random {
    count: u64,
    seed: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { count: 0, seed }
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        let mut hasher = DefaultHasher::new();
        (self.seed, self.count).hash(&mut hasher);
        hasher.finish()
    }

    /// A random number.
    pub(crate) fn number(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap_or_default()
    }

    /// A number that is never drawn twice.
    pub(crate) fn wide_number(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// A number from 0 up to, but not including, 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(self.number()) / 2_f64.powi(32)
    }
}

impl Core {
    /// Connects a socket to one more endpoint.
    pub(super) fn add_link(&mut self, id: SocketId, connect: &Connect) {
        let filter = self.add_filter(id, &connect.subscribe);
        let options = &self.sockets[id].options;
        let link = self.links.insert_with(|_| Link {
            backoff: Backoff::new(options),
            connect: connect.clone(),
            filter,
            is_known_down: false,
            is_known_silent: false,
            is_looped: false,
            is_removed: false,
            socket: id,
            queue_while_down: None,
            state: LinkState::Connecting,
        });
        self.deferred.absent.push(link);
        self.deferred.act(Action::Connect(link));
    }

    /// Disconnects from an endpoint. A connection to it is closed.
    pub(super) fn remove_link(&mut self, id: LinkId) {
        let link = &mut self.links[id];
        link.is_removed = true;
        let queue = link.queue_while_down;
        if let LinkState::Up(conn) = link.state {
            self.close_later(conn, CloseReason::EndpointRemoved);
        }
        self.end_link(id);
        if let Some(queue) = queue {
            self.close_later(queue, CloseReason::EndpointRemoved);
        }
        self.leaving.links.push(id);
    }

    /// Stops trying a link that is down.
    pub(super) fn end_link(&mut self, id: LinkId) {
        let link = &mut self.links[id];
        match link.state {
            LinkState::Connecting => {
                link.state = LinkState::Ended;
                if !self.deferred.withdraw(Action::Connect(id)) {
                    self.deferred.act(Action::StopConnecting(id));
                }
            }
            LinkState::Waiting(_) => {
                link.state = LinkState::Ended;
                self.timers.forget_link(id);
            }
            LinkState::Ended | LinkState::Up(_) => {}
        }
    }

    /// A connection requested by [`Action::Connect`] was made; `None` if it is not needed any more
    /// and must be dropped.
    pub fn handle_connected(
        &mut self,
        now: Instant,
        link: LinkId,
        peer: impl Into<PeerAddress>,
    ) -> Option<ConnId> {
        let socket = self.connecting(link)?.socket;
        self.turn.work_on(Kind::Actions);
        self.turn.charge(cost::ACCEPT);
        let id = self.add_conn(now, socket, peer.into(), Origin::Dialled(link));
        self.links[link].state = LinkState::Up(id);
        Some(id)
    }

    /// A connection requested by [`Action::Connect`] could not be made. It is requested again
    /// later; only the first failure in a row is logged as a warning.
    pub fn handle_connect_failed(&mut self, now: Instant, link: LinkId, error: &io::Error) {
        let Some(entry) = self.connecting(link) else {
            return;
        };
        let level = if entry.is_known_down {
            Level::Debug
        } else {
            Level::Warn
        };
        if is_told(level) {
            let (place, peer) = (
                Place::Socket(entry.socket),
                entry.connect.endpoint.to_string(),
            );
            let text = format!("cannot connect to {peer}: {error}; retrying");
            self.tell(level, place, Facts::of(&peer), &text);
        }
        self.links[link].is_known_down = true;
        self.retry_link(now, link);
    }

    /// A link that the driver is connecting.
    fn connecting(&self, id: LinkId) -> Option<&Link> {
        let link = self.links.get(id);
        link.filter(|link| link.state == LinkState::Connecting)
    }

    /// The link in this slot.
    #[must_use]
    pub fn link_in_slot(&self, slot: usize) -> Option<LinkId> {
        let (link, _) = self.links.in_slot(u32::try_from(slot).ok()?)?;
        Some(link)
    }

    /// The endpoint of a link that the driver must connect, and the options of its socket; `None`
    /// if it is not needed any more.
    #[must_use]
    pub fn link(&self, id: LinkId) -> Option<(&Endpoint, &SocketOptions)> {
        let link = self.connecting(id)?;
        let options = &self.sockets[link.socket].options;
        Some((&link.connect.endpoint, options))
    }

    /// The socket of a link.
    #[must_use]
    pub fn socket_of_link(&self, id: LinkId) -> Option<SocketId> {
        Some(self.links.get(id)?.socket)
    }

    /// The endpoint of a link that has a connection.
    pub(super) fn endpoint(&self, link: LinkId) -> &Endpoint {
        &self.links[link].connect.endpoint
    }

    /// The endpoint of a connection, if the broker made it.
    pub(super) fn endpoint_of(&self, conn: &Conn) -> Option<&Endpoint> {
        match conn.origin {
            Origin::Dialled(link) => Some(self.endpoint(link)),
            Origin::Accepted => None,
        }
    }

    /// A handshake over this link was completed.
    pub(super) fn link_is_up(&mut self, link: LinkId) {
        let entry = &mut self.links[link];
        entry.backoff.reset();
        entry.is_known_down = false;
        entry.is_known_silent = false;
        entry.is_looped = false;
        self.report_connected(link);
    }

    pub(super) fn check_link(&mut self, now: Instant, id: LinkId) {
        if let Some(link) = self.links.get_mut(id)
            && let LinkState::Waiting(until) = link.state
            && until <= now
        {
            link.state = LinkState::Connecting;
            self.deferred.act(Action::Connect(id));
        }
    }

    pub(super) fn retry_link(&mut self, now: Instant, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else {
            return;
        };
        let proxy = self.sockets[link.socket].proxy;
        if link.is_removed || self.proxies[proxy].stop != Stop::No {
            link.state = LinkState::Ended;
            return;
        }
        let until = now + link.backoff.next(&mut self.random);
        link.state = LinkState::Waiting(until);
        self.timers.insert(until, Owner::Link(id));
    }

    /// The filter of the subscriptions that a link of this socket carries.
    fn add_filter(&mut self, id: SocketId, topics: &[String]) -> usize {
        let Some(across) = self.sockets[id].across else {
            return 0;
        };
        let (socket, across) = self.sockets.pair_mut(id, across);
        let Pattern::Xsub(xsub) = &mut socket.pattern else {
            return 0;
        };
        let table = match &across.pattern {
            Pattern::Xpub(xpub) if !xpub.is_pub() => Some(&**xpub),
            _ => None,
        };
        let filter = xsub.filter_for(topics, table);
        self.count_subscriptions(id);
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_over() {
        let (mut backoff, mut random) = (Backoff::new(&SocketOptions::default()), Random::new(7));
        for wait_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000] {
            let wait = backoff.next(&mut random).as_secs_f64() * 1000.0;
            let full = f64::from(wait_ms);
            assert!(wait >= full / 2.0 && wait < full, "{wait} of {full}");
        }
        backoff.reset();
        assert!(backoff.next(&mut random) < Duration::from_millis(100));
        for _ in 0..100 {
            backoff.next(&mut random);
        }
    }
}
