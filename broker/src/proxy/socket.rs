//! A socket of a proxy: its pattern, its options, and state that its peers share.

use crate::config::{Admission, Overflow, ProxyConfig, SocketConfig, SocketName, SocketOptions};
use crate::conn::egress::{Store, Unsent};
use crate::conn::line::Line;
use crate::conn::{Conn, ConnTable, Phase};
use crate::core::ClosedPeers;
use crate::core::zap::ZapRequests;
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::limits::{UPSTREAM_BYTES_MAX, UPSTREAM_PATIENCE, ZAP_ANSWER_SIZE_MAX};
use crate::pattern::Pattern;
use crate::pattern::errand::Errand;
use crate::proxy::loop_peers::LoopPeers;
use crate::reason::DropReason;
use crate::stats::SocketStats;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmtp::encode::append_frame;
use zmtp::{Frames, HeartbeatConfig, Limits, LoopCheck, SessionConfig, SocketType};

/// A socket of a proxy.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Which peers may come in.
    pub(crate) admission: Admission,
    /// The socket of the other side; an auxiliary socket has none.
    pub(crate) across: Option<SocketId>,
    /// Its peers that were closed last.
    pub(crate) closed: ClosedPeers,
    /// The last request that it sent, if it is a REQ or the one across is a REP.
    pub(crate) errand: Errand,
    pub(crate) id: SocketId,
    /// Messages may have to be taken out of its queues again, one by one; once they may, its queues
    /// stay as they are made for it.
    pub(crate) keeps_apart: bool,
    pub(crate) linger: Linger,
    /// The number of messages dropped for lack of room when the current series began, if all peers
    /// lack room for messages that any of them could get.
    pub(crate) missed_before: Option<u64>,
    pub(crate) name: SocketName,
    /// Brokers among its peers.
    pub(crate) loop_peers: LoopPeers,
    pub(crate) options: SocketOptions,
    pub(crate) pattern: Pattern,
    /// Peers after their handshake.
    pub(crate) peers: usize,
    pub(crate) proxy: ProxyId,
    /// The configuration that the sessions of all its connections share.
    pub(crate) session: Arc<SessionConfig>,
    pub(crate) stats: SocketStats,
    /// Heap bytes of its subscriptions at the last count.
    pub(crate) subscription_bytes: u64,
    /// Suspended senders: their next messages wait for a receiver on the other side. In the order
    /// of their turns.
    pub(crate) suspended: Line,
    /// The messages that a stop dropped.
    pub(crate) undelivered: Undelivered,
    /// Its requests to ZAP handlers, if it connects to them.
    pub(crate) zap: ZapRequests,
}

/// The queues of a socket that a stop dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// Bytes on the wire.
    pub(crate) bytes: u64,
    /// Peers whose queues were not empty.
    pub(crate) peers: u64,
}

/// The time until which a socket's queues are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linger {
    /// Without a limit: no stop has begun.
    Always,
    /// Until this time.
    Until(Instant),
    /// Over: queued messages are dropped.
    Over,
}

impl Socket {
    /// The socket of a proxy that has this name.
    pub(crate) fn new(
        id: SocketId,
        proxy: ProxyId,
        name: SocketName,
        config: &ProxyConfig,
    ) -> Self {
        let (socket_type, config) = (config.socket_type(name), config.socket(name));
        let mut options = config.options.clone();
        options.overflow = options.overflow_on(socket_type);
        Self {
            admission: config.admission.clone(),
            across: None,
            closed: ClosedPeers::default(),
            errand: Errand::default(),
            id,
            keeps_apart: options.keeps_apart(),
            linger: Linger::Always,
            missed_before: None,
            name,
            loop_peers: LoopPeers::default(),
            pattern: Pattern::new(socket_type, &options),
            session: Arc::new(secure(config, session_config(name, socket_type, &options))),
            options,
            peers: 0,
            proxy,
            stats: SocketStats::default(),
            subscription_bytes: 0,
            suspended: Line::default(),
            undelivered: Undelivered::default(),
            zap: ZapRequests::default(),
        }
    }

    /// A peer has completed its handshake.
    pub(crate) fn count_attached(&mut self, id: ConnId) {
        self.peers += 1;
        self.stats.peers_attached += 1;
        if self.name == SocketName::Zap {
            self.zap.add_handler(id);
        }
    }

    /// Takes over other options. Sessions that have begun go on by those they began with.
    pub(crate) fn set_options(&mut self, mut options: SocketOptions) {
        let socket_type = self.session.socket_type;
        options.overflow = options.overflow_on(socket_type);
        self.keeps_apart |= options.keeps_apart();
        self.session = Arc::new(SessionConfig {
            authenticate: authenticates(&self.admission, &options),
            mechanism: self.session.mechanism.clone(),
            ..session_config(self.name, socket_type, &options)
        });
        self.options = options;
    }

    /// Takes over other keys, for connections that begin from now on.
    pub(crate) fn set_keys(&mut self, config: &SocketConfig) {
        self.admission = config.admission.clone();
        self.session = Arc::new(secure(config, (*self.session).clone()));
    }

    /// A message that any of its peers could get was dropped for lack of room, and counted: true if
    /// it is the first of a series.
    pub(crate) fn begins_to_overflow(&mut self) -> bool {
        let before = self.stats.dropped(DropReason::PeerFull) - 1;
        let begins = self.missed_before.is_none();
        self.missed_before.get_or_insert(before);
        begins
    }

    /// One of its peers has room: the number of messages dropped in this series, if there was one.
    pub(crate) fn overflows_no_more(&mut self) -> Option<u64> {
        let before = self.missed_before.take()?;
        Some(self.stats.dropped(DropReason::PeerFull) - before)
    }

    /// Whether its received messages go on unchanged.
    pub(crate) fn takes_plainly(&self) -> bool {
        self.pattern.takes_plainly(&self.options)
    }

    /// Whether its outgoing messages are only routed and queued.
    pub(crate) fn sends_plainly(&self) -> bool {
        self.pattern.sends_plainly() && !self.options.overflow.takes_back()
    }

    /// Whether peers may send it messages.
    pub(crate) fn receives(&self) -> bool {
        !matches!(self.session.socket_type, SocketType::Pub | SocketType::Push)
    }

    /// Whether it may send messages to its peers: XSUB sends those of subscribers to publishers.
    pub(crate) fn sends(&self) -> bool {
        !matches!(self.session.socket_type, SocketType::Pull | SocketType::Sub)
    }

    /// The time that the queue of this peer may stay full; [`None`] if it is unlimited, or if the
    /// queue is far from full. The queue is watched from the moment when the kernel accepts no more
    /// bytes, since nothing is written after that.
    #[inline]
    pub(crate) fn patience(&self, id: ConnId, conn: &Conn) -> Option<Duration> {
        if let Pattern::Xsub(_) = self.pattern {
            let may_be_full = conn.is_blocked || self.is_full(conn);
            return may_be_full.then_some(UPSTREAM_PATIENCE);
        }
        let is_watched = self.options.overflow == Overflow::Disconnect
            && (conn.is_blocked || self.has_been_full(id, conn));
        is_watched.then_some(self.options.overflow_timeout)
    }

    /// The time after which the queue of this peer may need work although nothing is written: its
    /// patience ends, or messages expire. [`None`] if neither can happen.
    #[inline]
    pub(crate) fn watch_term(&self, id: ConnId, conn: &Conn) -> Option<Duration> {
        let max_age = self.options.max_age;
        let can_expire = !max_age.is_zero() && conn.is_blocked && !conn.egress.is_empty();
        let terms = [self.patience(id, conn), can_expire.then_some(max_age)];
        terms.into_iter().flatten().min()
    }

    /// Whether the queue of this peer is full, or was since the last check.
    pub(crate) fn has_been_full(&self, id: ConnId, conn: &Conn) -> bool {
        let missed_before = conn.fullness.as_ref().map_or(0, |full| full.missed_before);
        let has_missed = || conn.traffic.dropped(DropReason::PeerFull) > missed_before;
        let balancer = self.pattern.as_balancer();
        let is_paused = balancer.is_some_and(|balancer| balancer.is_full(id, conn));
        self.is_full(conn) || is_paused || has_missed()
    }

    /// A stop begins: queued messages are sent until `deadline`, or for less if the options say so.
    pub(crate) fn begin_linger(&mut self, now: Instant, deadline: Instant) {
        let own = self.options.linger.map(|linger| now + linger);
        self.linger = Linger::Until(own.map_or(deadline, |own| own.min(deadline)));
    }

    /// Notes that a stop dropped this number of bytes for one peer.
    pub(crate) fn count_undelivered(&mut self, bytes: u64) {
        self.undelivered.bytes += bytes;
        self.undelivered.peers += u64::from(bytes > 0);
    }

    /// Whether the queue of this peer is full.
    pub(crate) fn is_full(&self, conn: &Conn) -> bool {
        match self.pattern {
            Pattern::Xsub(_) => conn.egress.bytes() > UPSTREAM_BYTES_MAX,
            _ => conn.is_at_high_water(&self.options, u64::MAX),
        }
    }

    /// Whether the queue of this peer may be dropped. A queue in the handshake has no messages, and
    /// subscriptions must not be lost: a publisher that gets them as messages keeps its queue.
    pub(crate) fn may_shed(&self, conn: &Conn) -> bool {
        let has_subscriptions =
            matches!(self.pattern, Pattern::Xsub(_)) && !conn.version.has_commands();
        conn.phase == Phase::Ready && !has_subscriptions
    }

    /// Drops the unsent messages queued for this peer, and returns their
    /// number. The queue may refer to `input`.
    pub(crate) fn shed(
        &mut self,
        (id, conn): (ConnId, &mut Conn),
        reason: DropReason,
        input: &[u8],
        store: &mut Store,
    ) -> u32 {
        let dropped = if self.may_shed(conn) {
            conn.egress.shed(input, store)
        } else {
            0
        };
        self.count_dropped((id, conn), reason, dropped, 0);
        dropped
    }

    /// Notes that the oldest messages in the queue of this peer were dropped, and that `left` of
    /// them are still unsent.
    pub(crate) fn count_dropped(
        &mut self,
        (id, conn): (ConnId, &mut Conn),
        reason: DropReason,
        count: u32,
        left: u32,
    ) {
        self.stats.count_drops(reason, count);
        conn.traffic.count_drops(reason, count);
        self.errand.dropped(id, count, left);
    }

    /// Drops older messages from the queues of these peers for one that begins with `wire`, if the
    /// options say so.
    #[cold]
    pub(crate) fn make_room(
        &mut self,
        conns: &mut ConnTable,
        store: &mut Store,
        peers: &[ConnId],
        wire: &[u8],
    ) {
        let Self { options, stats, .. } = self;
        let topic = Frames::new(wire).first();
        let size_max = conns.queue_size_max;
        for id in peers {
            let Some(conn) = conns.get_mut(*id) else {
                continue;
            };
            let replaced = match options.overflow {
                Overflow::Conflate => conn.egress.drop_unsent(None, store),
                Overflow::ConflateTopic => conn.egress.drop_unsent(Some(topic), store),
                _ => 0,
            };
            let mut oldest = 0;
            while conn.is_at_high_water(options, size_max) && conn.egress.drop_oldest(store) {
                oldest += 1;
            }
            for (reason, count) in [
                (DropReason::Replaced, replaced),
                (DropReason::PeerFull, oldest),
            ] {
                stats.count_drops(reason, count);
                if count > 0 {
                    conns.count_drops(*id, reason, count);
                }
            }
        }
    }

    /// Gives up the queue of a peer that does not read any more. Returns its unsent messages if any
    /// other peer may get them.
    pub(crate) fn close_queue(&mut self, conn: &mut Conn, store: &mut Store) -> Unsent {
        if self.pattern.balancer().is_some() {
            conn.egress.close_and_take(store)
        } else {
            conn.egress.close(store);
            Unsent::default()
        }
    }

    /// Bytes of orphaned messages.
    pub(crate) fn orphaned_bytes(&self) -> u64 {
        self.pattern.orphaned_bytes()
    }

    /// Drops the orphaned messages, and returns their number.
    pub(crate) fn shed_orphaned(&mut self, reason: DropReason, store: &mut Store) -> u32 {
        let balancer = self.pattern.balancer();
        let dropped = balancer.map_or(0, |balancer| balancer.drop_orphaned(store));
        self.stats.count_drops(reason, dropped);
        self.errand.dropped_orphaned();
        dropped
    }

    /// The first message for a new peer: a probe, so that a ROUTER learns of us, or a publisher's
    /// welcome.
    pub(crate) fn first_message(&self) -> Vec<u8> {
        let mut message = Vec::new();
        match self.session.socket_type {
            SocketType::Dealer | SocketType::Req | SocketType::Router
                if self.options.probe_router =>
            {
                append_frame(&mut message, b"", false);
            }
            SocketType::Pub | SocketType::Xpub if !self.options.xpub_welcome_msg.is_empty() => {
                append_frame(
                    &mut message,
                    self.options.xpub_welcome_msg.as_bytes(),
                    false,
                );
            }
            _ => {}
        }
        message
    }
}

/// Gives sessions the mechanism of their socket.
fn secure(config: &SocketConfig, session: SessionConfig) -> SessionConfig {
    SessionConfig {
        authenticate: authenticates(&config.admission, &config.options),
        mechanism: config.mechanism.clone(),
        ..session
    }
}

/// Whether the core decides about peers that have no credentials.
fn authenticates(admission: &Admission, options: &SocketOptions) -> bool {
    *admission == Admission::Program || options.asks_zap()
}

/// What sessions of a socket with these options have in common.
fn session_config(
    name: SocketName,
    socket_type: SocketType,
    options: &SocketOptions,
) -> SessionConfig {
    let limits = Limits {
        message_frames_max: options.maxmsgframes,
        message_size_max: match name {
            SocketName::Zap => options.maxmsgsize.min(ZAP_ANSWER_SIZE_MAX),
            _ => options.maxmsgsize,
        },
        topic_size_max: u64::from(options.topic_size_max),
        ..Limits::default()
    };
    let handshake_timeout = Some(options.handshake_ivl).filter(|interval| !interval.is_zero());
    let heartbeat = HeartbeatConfig {
        interval: options.heartbeat_ivl,
        timeout: options.heartbeat_timeout,
        ttl: options.heartbeat_ttl,
    };
    SessionConfig {
        accept_zmtp2: options.accept_zmtp2,
        handshake_timeout,
        heartbeat: Some(heartbeat).filter(|heartbeat| !heartbeat.interval.is_zero()),
        identity: options.routing_id.clone().into_bytes(),
        limits,
        loop_check: if options.loop_check {
            LoopCheck::On
        } else {
            LoopCheck::Off
        },
        ..SessionConfig::new(socket_type)
    }
}
