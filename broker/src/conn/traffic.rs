//! The counters of one connection.

use crate::reason::DropReason;
use std::time::Instant;
use zmtp::SocketType;

/// Counters of one connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// Most peers never miss a message.
    drops: Option<Box<Drops>>,
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    /// The time at which the connection was made.
    pub(crate) since: Instant,
    /// The socket type that the peer announced, once it is attached.
    pub(crate) socket_type: Option<SocketType>,
}

/// The messages that one peer missed.
#[derive(Debug, Default)]
struct Drops {
    /// In the order of [`DropReason::ALL`].
    by_reason: [u64; DropReason::ALL.len()],
    /// The number of messages that it had missed for lack of room when the current series began.
    missed_before: Option<u64>,
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

    /// Counts received messages that have gone on.
    pub(crate) fn count_received(&mut self, messages: u64, bytes: u64) {
        self.messages_received += messages;
        self.bytes_received += bytes;
    }

    /// Counts missed messages: true if the first of a series was missed for lack of room.
    #[cold]
    pub(crate) fn count_drops(&mut self, reason: DropReason, messages: u32) -> bool {
        if messages == 0 {
            return false;
        }
        let drops = self.drops.get_or_insert_default();
        let count = &mut drops.by_reason[reason as usize];
        let before = *count;
        *count += u64::from(messages);
        let begins = reason == DropReason::PeerFull && drops.missed_before.is_none();
        if begins {
            drops.missed_before = Some(before);
        }
        begins
    }

    /// Whether it currently misses messages for lack of room.
    #[inline]
    pub(crate) fn is_missing_some(&self) -> bool {
        let drops = self.drops.as_ref();
        drops.is_some_and(|drops| drops.missed_before.is_some())
    }

    /// It has room again: the number of messages missed in this series, if there was one.
    pub(crate) fn misses_no_more(&mut self) -> Option<u64> {
        let before = self.drops.as_mut()?.missed_before.take()?;
        Some(self.dropped(DropReason::PeerFull) - before)
    }

    /// The number of messages that it missed for this reason.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.drops
            .as_ref()
            .map_or(0, |drops| drops.by_reason[reason as usize])
    }

    /// The messages that it missed, in the order of [`DropReason::ALL`].
    pub(crate) fn drops(&self) -> [u64; DropReason::ALL.len()] {
        let drops = self.drops.as_ref();
        drops.map_or_else(Default::default, |drops| drops.by_reason)
    }
}
