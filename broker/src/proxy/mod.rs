//! A proxy: two sockets, each of which sends the messages that the other receives.

use crate::config::{BrokerControl, ProxyConfig, SocketName};
use crate::core::report::Reports;
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::pattern::Pattern;
use crate::table::Table;
use std::collections::VecDeque;
use std::time::Instant;

pub(crate) mod cache;
pub(crate) mod loop_peers;
pub(crate) mod observers;
pub(crate) mod ring;
pub(crate) mod sample;
pub(crate) mod socket;
mod topic_counts;
mod waiters;
pub(crate) mod wishes;

use observers::Observers;
pub(crate) use socket::{Linger, Socket, Undelivered};

/// All sockets of all proxies.
pub(crate) type Sockets = Table<SocketId, Socket>;

/// The stage of the end of a proxy, or of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It runs.
    No,
    /// Queued messages are being sent, until this time.
    Draining(Instant),
    /// Connections are being closed, or are closed.
    Closing,
}

/// Two sides, and the auxiliary sockets that are configured.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) backend: SocketId,
    pub(crate) capture: Option<SocketId>,
    pub(crate) control: Option<SocketId>,
    /// Former XPUB peers whose subscriptions are being cancelled.
    pub(crate) departing: VecDeque<ConnId>,
    pub(crate) frontend: SocketId,
    /// Messages are not forwarded for now.
    pub(crate) is_paused: bool,
    /// It belongs to the control of the broker, and has no messages.
    pub(crate) is_own: bool,
    /// The configuration does not have it any more: it goes when its last connection has gone.
    pub(crate) is_removed: bool,
    pub(crate) name: String,
    pub(crate) observers: Observers,
    pub(crate) replay: Option<SocketId>,
    /// The log's reports about its peers.
    pub(crate) reports: Reports,
    /// The stage of its end.
    pub(crate) stop: Stop,
    /// Its connections to ZAP handlers.
    pub(crate) zap: Option<SocketId>,
}

impl Proxy {
    /// Makes the proxy with this id, and adds its sockets to `sockets`.
    pub(crate) fn new(id: ProxyId, config: &ProxyConfig, sockets: &mut Sockets) -> Self {
        let mut add = |name| sockets.insert_with(|socket| Socket::new(socket, id, name, config));
        let [frontend, backend] = SocketName::SIDES.map(&mut add);
        let mut auxiliary = |name| config.socket(name).has_endpoint().then(|| add(name));
        let auxiliaries = [
            SocketName::Capture,
            SocketName::Control,
            SocketName::Replay,
            SocketName::Zap,
        ];
        let [capture, control, replay, zap] = auxiliaries.map(&mut auxiliary);
        let (front, back) = sockets.pair_mut(frontend, backend);
        (front.across, back.across) = (Some(backend), Some(frontend));
        if config.kind.is_echo {
            // The backend of an echo has no peers: it sends through those of the frontend.
            back.set_options(front.options.clone());
            back.pattern = Pattern::Echo;
            front.pattern = Pattern::Echo;
        }
        Self {
            backend,
            capture,
            control,
            departing: VecDeque::new(),
            frontend,
            is_paused: false,
            is_own: config.name == BrokerControl::PROXY,
            is_removed: false,
            name: config.name.clone(),
            observers: Observers::new(config),
            replay,
            reports: Reports::default(),
            stop: Stop::No,
            zap,
        }
    }

    /// The frontend and the backend.
    pub(crate) fn sides(&self) -> [SocketId; 2] {
        [self.frontend, self.backend]
    }

    /// All its sockets, in the order of [`SocketName::ALL`].
    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketId> + use<> {
        let auxiliary = [self.capture, self.control, self.replay, self.zap];
        let auxiliary = auxiliary.into_iter().flatten();
        self.sides().into_iter().chain(auxiliary)
    }

    /// One of its sockets, if it exists.
    pub(crate) fn socket(&self, name: SocketName) -> Option<SocketId> {
        match name {
            SocketName::Frontend => Some(self.frontend),
            SocketName::Backend => Some(self.backend),
            SocketName::Capture => self.capture,
            SocketName::Control => self.control,
            SocketName::Replay => self.replay,
            SocketName::Zap => self.zap,
        }
    }

    /// Gives it an auxiliary socket, or takes one from it.
    pub(crate) fn set_auxiliary(&mut self, name: SocketName, socket: Option<SocketId>) {
        match name {
            SocketName::Frontend | SocketName::Backend => {}
            SocketName::Capture => self.capture = socket,
            SocketName::Control => self.control = socket,
            SocketName::Replay => self.replay = socket,
            SocketName::Zap => self.zap = socket,
        }
    }

    /// Whether the copies of all messages of a sender go to the same readers, as long as these have
    /// room. Not so for a PUSH or DEALER, which must choose the next reader for each message, or
    /// for a capture that blocks.
    pub(crate) fn has_steady_copies(&self, sockets: &Sockets) -> bool {
        let Some(capture) = self.capture.map(|id| &sockets[id]) else {
            return true;
        };
        let is_steady = matches!(capture.pattern, Pattern::Xpub(_))
            && self.observers.capture.leads_with_direction()
            && !capture.options.overflow.takes_back();
        let is_idle = capture.peers == 0 && !self.observers.capture.blocks;
        is_idle || is_steady
    }

    /// Whether the capture may still take a copy of a message: one that blocks does not without a
    /// reader, or after its linger time.
    pub(crate) fn may_take_copies(&self, sockets: &Sockets) -> bool {
        let can_take = |id| {
            let Socket { linger, peers, .. } = &sockets[id];
            *peers > 0 && *linger != Linger::Over
        };
        !self.observers.capture.blocks || self.capture.is_some_and(can_take)
    }

    /// A stop begins: every socket goes on sending for its linger time, at most until `deadline`.
    pub(crate) fn begin_linger(&self, sockets: &mut Sockets, now: Instant, deadline: Instant) {
        for id in self.sockets() {
            sockets[id].begin_linger(now, deadline);
        }
    }
}
