//! Requests to the driver.

use crate::ids::{ConnId, LinkId, SocketId};

/// A request to the driver. Requests for different connections have no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop reading, close, then call [`crate::Core::handle_closed`].
    Close {
        /// The connection.
        id: ConnId,
        /// First send the queue and wait for the peer to close its side, for at most
        /// [`crate::limits::LINGER`].
        lingers: bool,
    },
    /// Connect to the endpoint of this link, then call [`crate::Core::handle_connected`] or
    /// [`crate::Core::handle_connect_failed`].
    Connect(LinkId),
    /// Find out whether the peer's system acknowledges data; call
    /// [`crate::Core::handle_unreachable`] if it does not. The silence of the peer itself does not
    /// show whether it is slow or dead.
    CheckAcks(ConnId),
    /// Read from this connection again: it is not suspended any more, or has room for more input.
    Resume(ConnId),
    /// Read from all peers again that may be read.
    ResumeAll,
    /// Accept no further connection on the endpoints of this socket; or on any endpoint, and drop
    /// connections in progress.
    StopAccepting(Option<SocketId>),
}
