//! The peers that were closed last.

use crate::config::{Config, SocketName};
use crate::conn::Conn;
use crate::core::Core;
use crate::ids::ConnId;
use crate::peer::PeerAddress;
use crate::reason::CloseReason;
use std::time::Instant;
use zmtp::Frames;

/// The most closed peers remembered for one socket, if there are few sockets.
const CLOSED_LEN_MAX: usize = 1000;

/// The closed peers remembered for one socket, whatever the number of sockets.
const CLOSED_LEN_MIN: usize = 16;

/// The closed peers remembered for all sockets together: some MiB.
const CLOSED_TOTAL: usize = 1 << 14;

/// A closed peer.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(super) at: Instant,
    pub(super) id: ConnId,
    pub(super) identity: Box<[u8]>,
    pub(super) peer: PeerAddress,
    pub(super) since: Instant,
    pub(super) why: CloseReason,
}

/// The number of closed peers that each socket remembers. Each has a list of its own, so that a
/// flood of peers at one socket does not erase the lists of others.
pub(super) fn closed_len_max(config: &Config) -> usize {
    let sockets = SocketName::ALL.len() * config.proxies.len().max(1);
    (CLOSED_TOTAL / sockets).clamp(CLOSED_LEN_MIN, CLOSED_LEN_MAX)
}

/// The identity under which a ROUTER addresses a peer; empty if it has none.
pub(super) fn identity(conn: &Conn) -> &[u8] {
    let frame = Frames::new(&conn.identity_frame).next();
    frame.map_or(&[], |frame| frame.body)
}

impl Core {
    /// Remembers a peer that is being closed. A peer of a capture or control is remembered only
    /// after a fault.
    pub(super) fn remember_closed(&mut self, now: Instant, id: ConnId, why: CloseReason) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let socket = &mut self.sockets[conn.socket];
        let is_auxiliary = socket.across.is_none();
        if is_auxiliary && !why.is_notable() {
            return;
        }
        socket.closed.truncate(self.closed_len_max - 1);
        socket.closed.push_front(Closed {
            at: now,
            id,
            identity: identity(conn).into(),
            peer: conn.peer,
            since: conn.traffic.since,
            why,
        });
    }
}
