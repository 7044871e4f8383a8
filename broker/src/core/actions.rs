//! What the driver is to do.

use crate::ids::{ConnId, LinkId, SocketId};

/// A request to the driver. There is no order among those of different connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read nothing more, close, then call [`crate::Core::handle_closed`].
    Close {
        /// The connection.
        id: ConnId,
        /// First send what is queued and see the peer close its side, for as long as
        /// [`crate::limits::LINGER`] allows.
        lingers: bool,
    },
    /// Try the endpoint of this link, then call [`crate::Core::handle_connected`] or
    /// [`crate::Core::handle_connect_failed`].
    Connect(LinkId),
    /// Find out whether the peer's system acknowledges what is sent to it; call
    /// [`crate::Core::handle_unreachable`] if it does not. Whether the peer itself is slow or dead
    /// cannot be told from what it says.
    CheckAcks(ConnId),
    /// Read on from this connection: what it sent is waiting no more, or there is room for more.
    Resume(ConnId),
    /// Read on from all peers that may be read from.
    ResumeAll,
    /// Accept no further connection on the endpoints of this socket; or on any endpoint, and drop
    /// connections still being made.
    StopAccepting(Option<SocketId>),
}
