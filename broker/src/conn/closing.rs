//! A connection that is being closed.

use crate::conn::{Conn, Egress, Origin};
use crate::ids::{ProxyId, SocketId};
use crate::peer::PeerAddress;

/// The rest of a connection, from the decision to close it until the driver has closed it and its
/// subscriptions are cancelled.
///
/// It has no session and no identity, and [`super::ConnTable::get`] does not find it, so patterns
/// cannot send it messages. Only the driver still uses its queue.
#[derive(Debug)]
pub(crate) struct Closing {
    /// The last bytes for the peer: the reason for the close, or the rest of its queue.
    pub(crate) egress: Egress,
    /// Its queue has messages, which may be dropped; that of a handshake has none.
    pub(crate) has_messages: bool,
    /// The kernel accepts no bytes for it now.
    pub(crate) is_blocked: bool,
    /// Its subscriptions are being cancelled; its slot, by which they are known, is kept.
    pub(crate) is_cancelling: bool,
    /// The driver has closed it.
    pub(crate) is_closed: bool,
    /// It waits to be flushed at the end of the turn.
    pub(crate) is_dirty: bool,
    /// The number of its messages that have gone on.
    pub(crate) messages_received: u64,
    pub(crate) origin: Origin,
    pub(crate) peer: PeerAddress,
    pub(crate) proxy: ProxyId,
    pub(crate) socket: SocketId,
}

impl Closing {
    /// The rest of `conn`.
    pub(crate) fn of(conn: Conn, has_messages: bool) -> Self {
        Self {
            egress: conn.egress,
            has_messages,
            is_blocked: conn.is_blocked,
            is_cancelling: false,
            is_closed: false,
            is_dirty: conn.is_dirty,
            messages_received: conn.traffic.messages_received,
            origin: conn.origin,
            peer: conn.peer,
            proxy: conn.proxy,
            socket: conn.socket,
        }
    }
}

/// The part of a connection that the driver writes from, open or closing.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) egress: &'a mut Egress,
    pub(crate) is_blocked: &'a mut bool,
    pub(crate) is_dirty: &'a mut bool,
    /// The peer is in its handshake.
    pub(crate) is_newcomer: bool,
    pub(crate) proxy: ProxyId,
}
