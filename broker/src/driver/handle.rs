//! Speaks to a running broker from other threads.

use crate::stats::SocketSnapshot;
use mio::Waker;
use std::sync::{Arc, mpsc};

/// A request from another thread.
#[derive(Debug)]
pub(super) enum Command {
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
    /// Lets the broker send what is queued and stop; a second call stops it at once. Does nothing if it
    /// has stopped.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// What every socket has seen, in the order of the configuration, frontends first; `None` if the
    /// broker has stopped. Waits for the turn under way.
    #[must_use]
    pub fn statistics(&self) -> Option<Vec<SocketSnapshot>> {
        let (sender, receiver) = mpsc::channel();
        self.send(Command::Statistics(sender));
        receiver.recv().ok()
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // If the loop cannot be woken it is not there, or it is awake.
            let _ = self.waker.wake();
        }
    }
}
