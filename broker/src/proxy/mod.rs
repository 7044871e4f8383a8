//! A proxy: two sockets, and who waits between them.

use crate::config::{ProxyConfig, Side, SideConfig, SocketOptions};
use crate::conn::ConnId;
use crate::pattern::Pattern;
use crate::stats::SocketStats;
use std::collections::VecDeque;
use std::sync::Arc;
use zmtp::{HeartbeatConfig, Limits, SessionConfig, SocketType};

pub(crate) mod kind;

/// One side of a proxy.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) options: SocketOptions,
    pub(crate) pattern: Pattern,
    /// Peers whose handshake is over.
    pub(crate) peers: usize,
    /// What the sessions of all its connections have in common.
    pub(crate) session: Arc<SessionConfig>,
    pub(crate) stats: SocketStats,
    /// Connections whose next message waits for somebody on the other side, in the order of their
    /// turns.
    pub(crate) waiting: VecDeque<ConnId>,
}

/// Two sockets; what one receives the other sends.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) backend: Socket,
    pub(crate) frontend: Socket,
    /// What the frontend receives it sends itself.
    pub(crate) is_echo: bool,
    pub(crate) name: String,
}

impl Proxy {
    pub(crate) fn new(config: &ProxyConfig) -> Self {
        Self {
            backend: Socket::new(config.kind.backend, &config.backend),
            frontend: Socket::new(config.kind.frontend, &config.frontend),
            is_echo: config.kind.is_echo,
            name: config.name.clone(),
        }
    }

    pub(crate) fn socket(&self, side: Side) -> &Socket {
        match side {
            Side::Frontend => &self.frontend,
            Side::Backend => &self.backend,
        }
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self, side: Side) -> &mut Socket {
        self.sockets_mut(side).0
    }

    /// The side through which goes out what comes in on `side`.
    #[inline]
    pub(crate) fn across(&self, side: Side) -> Side {
        if self.is_echo { side } else { side.opposite() }
    }

    /// The socket on `side` and the one across.
    #[inline]
    pub(crate) fn sockets_mut(&mut self, side: Side) -> (&mut Socket, &mut Socket) {
        match side {
            Side::Frontend => (&mut self.frontend, &mut self.backend),
            Side::Backend => (&mut self.backend, &mut self.frontend),
        }
    }
}

impl Socket {
    fn new(socket_type: SocketType, config: &SideConfig) -> Self {
        let options = config.options.clone();
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
            handshake_timeout,
            heartbeat: Some(heartbeat).filter(|heartbeat| !heartbeat.interval.is_zero()),
            limits,
            ..SessionConfig::new(socket_type)
        };
        Self {
            options,
            pattern: Pattern::new(socket_type),
            peers: 0,
            session: Arc::new(session),
            stats: SocketStats::default(),
            waiting: VecDeque::new(),
        }
    }
}
