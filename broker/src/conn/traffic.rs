//! What has passed over one connection, for whoever asks.

use crate::why::Drop;
use std::time::Instant;
use zmtp::SocketType;

/// Counters of one connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// Most peers miss nothing, ever.
    drops: Option<Box<[u64; Drop::ALL.len()]>>,
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    /// When the connection was made.
    pub(crate) since: Instant,
    /// What the peer says it is, once it is attached.
    pub(crate) socket_type: Option<SocketType>,
}

impl Traffic {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            bytes_received: 0,
            bytes_sent: 0,
            drops: None,
            messages_received: 0,
            messages_sent: 0,
            since: now,
            socket_type: None,
        }
    }

    /// So many messages were received and have gone on.
    pub(crate) fn count_received(&mut self, messages: u64, bytes: u64) {
        self.messages_received += messages;
        self.bytes_received += bytes;
    }

    /// It missed so many messages.
    #[cold]
    pub(crate) fn count_drops(&mut self, reason: Drop, messages: u32) {
        if messages > 0 {
            let drops = self.drops.get_or_insert_default();
            drops[reason as usize] += u64::from(messages);
        }
    }

    /// How many messages it missed for this reason.
    pub(crate) fn dropped(&self, reason: Drop) -> u64 {
        self.drops
            .as_ref()
            .map_or(0, |drops| drops[reason as usize])
    }

    /// What it missed, in the order of [`Drop::ALL`].
    pub(crate) fn drops(&self) -> [u64; Drop::ALL.len()] {
        self.drops.as_deref().copied().unwrap_or_default()
    }
}
