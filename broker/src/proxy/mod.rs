//! A proxy: two sockets, of which each sends what the other receives.

use crate::config::{ProxyConfig, SocketName};
use crate::core::report::Reports;
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::pattern::Pattern;
use crate::table::Table;
use std::collections::VecDeque;
use std::time::Instant;

pub(crate) mod loop_peers;
pub(crate) mod observers;
pub(crate) mod socket;

use observers::Observers;
pub(crate) use socket::{Linger, Socket, Undelivered};

/// All sockets of all proxies.
pub(crate) type Sockets = Table<SocketId, Socket>;

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

/// Two sides, and the auxiliary sockets that are configured.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) backend: SocketId,
    pub(crate) capture: Option<SocketId>,
    pub(crate) control: Option<SocketId>,
    /// Former XPUB peers whose subscriptions are being cancelled.
    pub(crate) departing: VecDeque<ConnId>,
    pub(crate) frontend: SocketId,
    /// Nothing is passed on for now.
    pub(crate) is_paused: bool,
    pub(crate) name: String,
    pub(crate) observers: Observers,
    /// What the log has heard of its peers.
    pub(crate) reports: Reports,
    /// How far its end has come.
    pub(crate) stop: Stop,
}

impl Proxy {
    /// The proxy with this id, whose sockets are added to `sockets`.
    pub(crate) fn new(id: ProxyId, config: &ProxyConfig, sockets: &mut Sockets) -> Self {
        let mut add = |name| sockets.insert_with(|socket| Socket::new(socket, id, name, config));
        let [frontend, backend] = SocketName::SIDES.map(&mut add);
        let mut auxiliary = |name| config.socket(name).has_endpoint().then(|| add(name));
        let [capture, control] = [SocketName::Capture, SocketName::Control].map(&mut auxiliary);
        let (front, back) = sockets.pair_mut(frontend, backend);
        (front.across, back.across) = (Some(backend), Some(frontend));
        if config.kind.is_echo {
            // The backend has no peers: it sends through those of the frontend.
            back.options = front.options.clone();
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
            name: config.name.clone(),
            observers: Observers::new(config),
            reports: Reports::default(),
            stop: Stop::No,
        }
    }

    /// The frontend and the backend.
    pub(crate) fn sides(&self) -> [SocketId; 2] {
        [self.frontend, self.backend]
    }

    /// All its sockets, in the order of [`SocketName::ALL`].
    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketId> + use<> {
        let auxiliary = [self.capture, self.control].into_iter().flatten();
        self.sides().into_iter().chain(auxiliary)
    }

    /// One of its sockets, if it has it.
    pub(crate) fn socket(&self, name: SocketName) -> Option<SocketId> {
        match name {
            SocketName::Frontend => Some(self.frontend),
            SocketName::Backend => Some(self.backend),
            SocketName::Capture => self.capture,
            SocketName::Control => self.control,
        }
    }

    /// Whether the copies of all messages of a sender go to the same readers, as long as those have
    /// room. A PUSH or DEALER takes turns, so that it must be asked once for each message; so must
    /// a capture that blocks.
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

    /// Whether the capture may take a copy of a message sooner or later: one that blocks takes none
    /// without a reader, or once it is to send no more.
    pub(crate) fn may_take_copies(&self, sockets: &Sockets) -> bool {
        let can_take = |id| {
            let Socket { linger, peers, .. } = &sockets[id];
            *peers > 0 && *linger != Linger::Over
        };
        !self.observers.capture.blocks || self.capture.is_some_and(can_take)
    }

    /// A stop begins: every socket goes on sending for as long as it may, at most until `deadline`.
    pub(crate) fn begin_linger(&self, sockets: &mut Sockets, now: Instant, deadline: Instant) {
        for id in self.sockets() {
            sockets[id].begin_linger(now, deadline);
        }
    }
}
