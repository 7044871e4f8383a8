//! A connection that was given up and is not gone yet.

use crate::conn::{Conn, Egress, Origin};
use crate::ids::{ProxyId, SocketId};
use crate::peer::PeerAddress;

/// What remains of a connection from when it is given up until the driver has closed it and its
/// subscriptions are cancelled.
///
/// It has no session and no identity, and [`super::ConnTable::get`] does not find it:
/// a pattern cannot send it anything. Only its queue is still of use, to the driver.
#[derive(Debug)]
pub(crate) struct Closing {
    /// What the peer is still sent: the reason of its end, or the rest of its queue.
    pub(crate) egress: Egress,
    /// Its messages may be dropped; what is queued in a handshake is not made of messages.
    pub(crate) has_messages: bool,
    /// The kernel takes nothing for it now.
    pub(crate) is_blocked: bool,
    /// Its subscriptions are being cancelled: its slot, by which they are known, is kept.
    pub(crate) is_cancelling: bool,
    /// The driver has closed it.
    pub(crate) is_closed: bool,
    /// It waits to be flushed at the end of the turn.
    pub(crate) is_dirty: bool,
    /// How many of its messages went on.
    pub(crate) messages_received: u64,
    pub(crate) origin: Origin,
    pub(crate) peer: PeerAddress,
    pub(crate) proxy: ProxyId,
    pub(crate) socket: SocketId,
}

impl Closing {
    /// What remains of `conn`.
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

/// The half of a connection that the driver writes from, whether it is open or closing.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) egress: &'a mut Egress,
    pub(crate) is_blocked: &'a mut bool,
    pub(crate) is_dirty: &'a mut bool,
    /// The peer is in its handshake.
    pub(crate) is_newcomer: bool,
    pub(crate) proxy: ProxyId,
}
