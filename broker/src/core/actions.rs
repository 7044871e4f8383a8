//! Requests to the driver.

use crate::ids::{ConnId, LinkId, ListenerId, ProxyId};

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
    /// Open the endpoint of this listener, which [`crate::Core::listener`] has, then call
    /// [`crate::Core::handle_listening`] or [`crate::Core::handle_listen_failed`].
    Listen(ListenerId),
    /// Listen on the address of [`crate::Core::http_to_open`], but serve nothing there yet; call
    /// [`crate::Core::handle_http_open`] or [`crate::Core::handle_http_failed`].
    OpenHttp,
    /// Begin the recording that [`crate::Core::record_config`] has for this proxy, then call
    /// [`crate::Core::handle_recording`] or [`crate::Core::handle_record_failed`].
    Record(ProxyId),
    /// A peer of a control asks for a reload: read the configuration again, apply it, then call
    /// [`crate::Core::handle_reloaded`]. The peers that asked wait for that.
    Reload,
    /// Serve HTTP by the configuration in [`crate::Admin::config`]: at the address that
    /// [`Self::OpenHttp`] opened last, if it has that one; otherwise where it is served already.
    /// An address that the configuration does not have is closed.
    ServeHttp,
    /// Give up the attempt to connect this link.
    StopConnecting(LinkId),
    /// Close this listener: nothing is listened on under its id any more.
    StopListening(ListenerId),
}
