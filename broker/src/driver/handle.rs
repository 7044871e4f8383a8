//! Speaks to a running broker from other threads.

use crate::stats::SocketSnapshot;
use mio::Waker;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};

/// A request from another thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Connect to an endpoint of this broker, and give the other end away.
    ConnectInproc {
        name: String,
        reply: mpsc::Sender<io::Result<UnixStream>>,
    },
    /// As SIGTERM.
    Stop,
    /// What every socket has seen.
    Statistics(mpsc::Sender<Vec<SocketSnapshot>>),
}

/// A handle to a broker, for other threads; any number of clones.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) waker: Arc<Waker>,
}

impl Handle {
    /// Lets the broker send what is queued and stop; a second call stops it at once. Does nothing
    /// if it has stopped.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// What every socket has seen, in the order of the configuration, frontends first; `None` if
    /// the broker has stopped. Waits for the turn under way.
    #[must_use]
    pub fn statistics(&self) -> Option<Vec<SocketSnapshot>> {
        let (sender, receiver) = mpsc::channel();
        self.send(Command::Statistics(sender));
        receiver.recv().ok()
    }

    /// Connects to `inproc://NAME`, which a side of some proxy must bind. The answer is a stream
    /// like that of a TCP connection: what speaks ZMTP over it is a peer of that side. Waits for
    /// the turn under way, or for [`crate::Broker::run`] to be called.
    ///
    /// # Errors
    /// Nobody binds this name, or the broker stops or has stopped.
    pub fn connect_inproc(&self, name: &str) -> io::Result<UnixStream> {
        let (reply, receiver) = mpsc::channel();
        self.send(Command::ConnectInproc {
            name: name.to_owned(),
            reply,
        });
        let has_stopped = || io::Error::new(io::ErrorKind::NotConnected, "the broker has stopped");
        receiver.recv().map_err(|_| has_stopped())?
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // If the loop cannot be woken it is not there, or it is awake.
            let _ = self.waker.wake();
        }
    }
}
