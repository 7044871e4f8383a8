//! A proxy: two sockets, and who waits between them.

use crate::config::{Overflow, ProxyConfig, SocketConfig, SocketName, SocketOptions};
use crate::conn::egress::{Store, Unsent};
use crate::conn::line::Line;
use crate::conn::{Conn, ConnId, Phase};
use crate::core::report::Reports;
use crate::limits::{UPSTREAM_BYTES_MAX, UPSTREAM_PATIENCE};
use crate::pattern::Pattern;
use crate::pattern::errand::Errand;
use crate::stats::SocketStats;
use crate::why::Drop;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmtp::encode::append_frame;
use zmtp::{HeartbeatConfig, Limits, LoopCheck, SessionConfig, SocketType};

pub(crate) mod neighbours;
pub(crate) mod watch;

use neighbours::Neighbours;
use watch::Watch;

/// One side of a proxy.
#[derive(Debug)]
pub(crate) struct Socket {
    /// The request that it has sent last, if it is a REQ or the one across is a REP.
    pub(crate) errand: Errand,
    /// Somebody can come, or it goes to somebody.
    pub(crate) has_endpoint: bool,
    pub(crate) linger: Linger,
    /// How many messages went no further for want of room when it began to drop those that are for
    /// any of its peers, all of which have none.
    pub(crate) missed_before: Option<u64>,
    /// Brokers among its peers.
    pub(crate) neighbours: Neighbours,
    pub(crate) options: SocketOptions,
    pub(crate) pattern: Pattern,
    /// Peers whose handshake is over.
    pub(crate) peers: usize,
    /// What the sessions of all its connections have in common.
    pub(crate) session: Arc<SessionConfig>,
    pub(crate) stats: SocketStats,
    /// Heap bytes of its subscriptions when they were last counted.
    pub(crate) subscription_bytes: u64,
    /// Connections whose next message waits for somebody on the other side, in the order of their
    /// turns.
    pub(crate) waiting: Line,
}

/// Until when a socket's queues are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linger {
    /// For ever: no stop has begun.
    Always,
    /// Until then.
    Until(Instant),
    /// Not any more: what is queued is dropped.
    Over,
}

/// How far the end of a proxy, or of the broker, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It runs.
    No,
    /// What is queued is being sent, until then.
    Draining(Instant),
    /// Everything is being closed, or is closed.
    Closing,
}

/// Two sockets, of which one sends what the other receives, and two beside them.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) backend: Socket,
    pub(crate) capture: Socket,
    pub(crate) control: Socket,
    /// Former XPUB peers whose subscriptions are being cancelled.
    pub(crate) departing: VecDeque<ConnId>,
    pub(crate) frontend: Socket,
    /// Nothing is passed on for now.
    pub(crate) is_paused: bool,
    pub(crate) name: String,
    /// What the log has heard of its peers.
    pub(crate) reports: Reports,
    /// How far its end has come.
    pub(crate) stop: Stop,
    pub(crate) watch: Watch,
}

impl Proxy {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        let socket = |side| Socket::new(config.socket_type(side), config.socket(side));
        let mut proxy = Self {
            backend: socket(SocketName::Backend),
            capture: socket(SocketName::Capture),
            control: socket(SocketName::Control),
            departing: VecDeque::new(),
            frontend: socket(SocketName::Frontend),
            is_paused: false,
            name: config.name.clone(),
            reports: Reports::default(),
            stop: Stop::No,
            watch: Watch::new(config),
        };
        if config.kind.is_echo {
            // The backend has no peers: it sends through those of the frontend.
            proxy.backend.options = proxy.frontend.options.clone();
            proxy.backend.pattern = Pattern::Echo;
            proxy.frontend.pattern = Pattern::Echo;
        }
        proxy
    }

    pub(crate) fn socket(&self, side: SocketName) -> &Socket {
        match side {
            SocketName::Frontend => &self.frontend,
            SocketName::Backend => &self.backend,
            SocketName::Capture => &self.capture,
            SocketName::Control => &self.control,
        }
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self, side: SocketName) -> &mut Socket {
        self.sockets_mut(side).0
    }

    /// What a message meets that comes in through one of the two sides.
    #[inline]
    pub(crate) fn passage(&mut self, side: SocketName) -> Passage<'_> {
        let (from, to) = match side {
            SocketName::Backend => (&mut self.backend, &mut self.frontend),
            _ => (&mut self.frontend, &mut self.backend),
        };
        Passage {
            capture: &mut self.capture,
            from,
            to,
            watch: &mut self.watch,
        }
    }

    /// Whether the copies of all messages of a sender go to the same readers, as long as those have
    /// room. A PUSH or DEALER takes turns, so that it must be asked once for each message; so must
    /// a capture that blocks.
    pub(crate) fn has_steady_copies(&self) -> bool {
        let options = &self.capture.options;
        let is_steady = matches!(self.capture.pattern, Pattern::Xpub(_))
            && self.watch.leads_with_direction()
            && !options.overflow.takes_back();
        let is_idle = self.capture.peers == 0 && !self.watch.blocks;
        is_idle || is_steady
    }

    /// The sides whose messages may wait for a peer of this one.
    pub(crate) fn senders(side: SocketName) -> &'static [SocketName] {
        match side {
            SocketName::Backend => &[SocketName::Frontend],
            SocketName::Capture => &SocketName::SIDES,
            SocketName::Control => &[],
            SocketName::Frontend => &[SocketName::Backend],
        }
    }

    /// Whether the capture may take a copy of a message sooner or later: one that blocks takes none
    /// without a reader, or once it is to send no more.
    pub(crate) fn may_take_copies(&self) -> bool {
        let Socket { linger, peers, .. } = &self.capture;
        !self.watch.blocks || *peers > 0 && *linger != Linger::Over
    }

    /// A stop begins: every socket goes on sending for as long as it may, at most until `deadline`.
    pub(crate) fn begin_linger(&mut self, now: Instant, deadline: Instant) {
        for socket in self.all_mut() {
            socket.begin_linger(now, deadline);
        }
    }

    /// All sockets, in the order of [`SocketName::ALL`].
    pub(crate) fn sockets(&self) -> [&Socket; SocketName::ALL.len()] {
        SocketName::ALL.map(|side| self.socket(side))
    }

    /// The sockets of all sides.
    pub(crate) fn all_mut(&mut self) -> [&mut Socket; SocketName::ALL.len()] {
        [
            &mut self.frontend,
            &mut self.backend,
            &mut self.capture,
            &mut self.control,
        ]
    }

    /// The socket on `side` and the one across.
    #[inline]
    pub(crate) fn sockets_mut(&mut self, side: SocketName) -> (&mut Socket, &mut Socket) {
        match side {
            SocketName::Frontend => (&mut self.frontend, &mut self.backend),
            SocketName::Backend => (&mut self.backend, &mut self.frontend),
            SocketName::Capture => (&mut self.capture, &mut self.control),
            SocketName::Control => (&mut self.control, &mut self.capture),
        }
    }
}

/// What a message meets on its way through a proxy.
pub(crate) struct Passage<'a> {
    pub(crate) capture: &'a mut Socket,
    pub(crate) from: &'a mut Socket,
    pub(crate) to: &'a mut Socket,
    pub(crate) watch: &'a mut Watch,
}

impl Socket {
    fn new(socket_type: SocketType, config: &SocketConfig) -> Self {
        let mut options = config.options.clone();
        options.overflow = options.overflow_on(socket_type);
        let limits = Limits {
            message_frames_max: options.maxmsgframes,
            message_size_max: options.maxmsgsize,
            topic_size_max: u64::from(options.topic_size_max),
            ..Limits::default()
        };
        let handshake_timeout = Some(options.handshake_ivl).filter(|interval| !interval.is_zero());
        let heartbeat = HeartbeatConfig {
            interval: options.heartbeat_ivl,
            timeout: options.heartbeat_timeout,
            ttl: options.heartbeat_ttl,
        };
        let session = SessionConfig {
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
        };
        Self {
            errand: Errand::default(),
            has_endpoint: config.has_endpoint(),
            linger: Linger::Always,
            missed_before: None,
            neighbours: Neighbours::default(),
            pattern: Pattern::new(socket_type, &options),
            options,
            peers: 0,
            session: Arc::new(session),
            stats: SocketStats::default(),
            subscription_bytes: 0,
            waiting: Line::default(),
        }
    }

    /// A message was dropped, and counted, that any of its peers could have had, for want of room:
    /// true if it is the first.
    pub(crate) fn begins_to_overflow(&mut self) -> bool {
        let before = self.stats.dropped(Drop::PeerFull) - 1;
        let begins = self.missed_before.is_none();
        self.missed_before.get_or_insert(before);
        begins
    }

    /// One of its peers has room: how many messages were dropped, if some were.
    pub(crate) fn overflows_no_more(&mut self) -> Option<u64> {
        let before = self.missed_before.take()?;
        Some(self.stats.dropped(Drop::PeerFull) - before)
    }

    /// Whether what it receives goes on as it is, without more ado.
    pub(crate) fn takes_plainly(&self) -> bool {
        self.pattern.takes_plainly(&self.options)
    }

    /// Whether what it sends is queued for those to whom it is routed, without more ado.
    pub(crate) fn sends_plainly(&self) -> bool {
        self.pattern.sends_plainly() && !self.options.overflow.takes_back()
    }

    /// Whether peers may send it messages.
    pub(crate) fn receives(&self) -> bool {
        !matches!(self.session.socket_type, SocketType::Pub | SocketType::Push)
    }

    /// Whether it may send messages to its peers: XSUB does, what subscribers send to publishers.
    pub(crate) fn sends(&self) -> bool {
        !matches!(self.session.socket_type, SocketType::Pull | SocketType::Sub)
    }

    /// How long the queue of this peer may stay full; `None` if it may for ever, or is far from it.
    /// It is watched from when the kernel takes no more: by when it is full nothing is written.
    pub(crate) fn patience(&self, conn: &Conn) -> Option<Duration> {
        if let Pattern::Xsub(_) = self.pattern {
            let may_be_full = conn.is_blocked || self.is_full(conn);
            return may_be_full.then_some(UPSTREAM_PATIENCE);
        }
        let is_watched = self.options.overflow == Overflow::Disconnect
            && (conn.is_blocked || self.has_been_full(conn));
        is_watched.then_some(self.options.overflow_timeout)
    }

    /// A time in which something may be due in the queue of this peer though nothing is written of
    /// it: its patience ends, or messages become too old. [`None`] if nothing can be.
    pub(crate) fn watch_term(&self, conn: &Conn) -> Option<Duration> {
        let max_age = self.options.max_age;
        let can_expire = !max_age.is_zero() && conn.is_blocked && !conn.egress.is_empty();
        let terms = [self.patience(conn), can_expire.then_some(max_age)];
        terms.into_iter().flatten().min()
    }

    /// Whether the queue of this peer is full, or was since it was last looked at.
    pub(crate) fn has_been_full(&self, conn: &Conn) -> bool {
        let missed_before = conn.fullness.as_ref().map_or(0, |full| full.missed_before);
        let has_missed = || conn.traffic.dropped(Drop::PeerFull) > missed_before;
        self.is_full(conn) || conn.is_full || has_missed()
    }

    /// A stop begins: what is queued is sent until `deadline`, or for less if the options say so.
    pub(crate) fn begin_linger(&mut self, now: Instant, deadline: Instant) {
        let own = self.options.linger.map(|linger| now + linger);
        self.linger = Linger::Until(own.map_or(deadline, |own| own.min(deadline)));
    }

    /// Whether the queue of this peer is as full as it may be.
    pub(crate) fn is_full(&self, conn: &Conn) -> bool {
        match self.pattern {
            Pattern::Xsub(_) => conn.egress.bytes() > UPSTREAM_BYTES_MAX,
            _ => conn.is_at_high_water(&self.options, u64::MAX),
        }
    }

    /// Whether the queue of this peer may be dropped. It consists of no messages in a handshake,
    /// and subscriptions must not be lost: a publisher that knows them as messages only keeps its
    /// queue.
    pub(crate) fn may_shed(&self, conn: &Conn) -> bool {
        let has_subscriptions =
            matches!(self.pattern, Pattern::Xsub(_)) && !conn.version.has_commands();
        conn.phase == Phase::Ready && !has_subscriptions
    }

    /// Drops what is queued for this peer and not begun, and answers how much it was.
    /// It may lean on `input`.
    pub(crate) fn shed(
        &mut self,
        (id, conn): (ConnId, &mut Conn),
        reason: Drop,
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

    /// Takes note that messages in the queue of this peer were dropped, the oldest first, and that
    /// `left` of them are unsent still.
    pub(crate) fn count_dropped(
        &mut self,
        (id, conn): (ConnId, &mut Conn),
        reason: Drop,
        count: u32,
        left: u32,
    ) {
        self.stats.count_drops(reason, count);
        conn.traffic.count_drops(reason, count);
        self.errand.dropped(id, count, left);
    }

    /// Gives up the queue of a peer that does not read any more. Hands over what it was not sent,
    /// if it does not matter who gets it.
    pub(crate) fn close_queue(&mut self, conn: &mut Conn, store: &mut Store) -> Unsent {
        if self.pattern.balancer().is_some() {
            conn.egress.close_and_take(store)
        } else {
            conn.egress.close(store);
            Unsent::default()
        }
    }

    /// Bytes that were taken back from dead peers.
    pub(crate) fn stranded_bytes(&self) -> u64 {
        self.pattern.stranded_bytes()
    }

    /// Drops what was taken back from dead peers, and answers how much it was.
    pub(crate) fn shed_stranded(&mut self, reason: Drop, store: &mut Store) -> u32 {
        let balancer = self.pattern.balancer();
        let dropped = balancer.map_or(0, |balancer| balancer.drop_stranded(store));
        self.stats.count_drops(reason, dropped);
        self.errand.dropped_stranded();
        dropped
    }

    /// What a new peer is sent first: a probe, so that a ROUTER knows us, or a publisher's welcome.
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
