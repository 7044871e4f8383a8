//! The counters of one connection.

use crate::reason::DropReason;
use std::time::Instant;
use zmtp::SocketType;

/// Counters of one connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// Most peers miss nothing, ever.
    drops: Option<Box<Drops>>,
    pub(crate) messages_received: u64,
    pub(crate) messages_sent: u64,
    /// When the connection was made.
    pub(crate) since: Instant,
    /// What the peer says it is, once it is attached.
    pub(crate) socket_type: Option<SocketType>,
}

/// What one peer missed.
#[derive(Debug, Default)]
struct Drops {
    /// In the order of [`DropReason::ALL`].
    by_reason: [u64; DropReason::ALL.len()],
    /// How many messages it had missed for want of room when it began to miss those that it misses
    /// now.
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

    /// So many messages were received and have gone on.
    pub(crate) fn count_received(&mut self, messages: u64, bytes: u64) {
        self.messages_received += messages;
        self.bytes_received += bytes;
    }

    /// It missed so many messages: true if it begins to miss some for want of room.
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

    /// Whether it misses messages for want of room.
    #[inline]
    pub(crate) fn is_missing_some(&self) -> bool {
        let drops = self.drops.as_ref();
        drops.is_some_and(|drops| drops.missed_before.is_some())
    }

    /// It has room again: how many messages it has missed, if it missed some.
    pub(crate) fn misses_no_more(&mut self) -> Option<u64> {
        let before = self.drops.as_mut()?.missed_before.take()?;
        Some(self.dropped(DropReason::PeerFull) - before)
    }

    /// How many messages it missed for this reason.
    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.drops
            .as_ref()
            .map_or(0, |drops| drops.by_reason[reason as usize])
    }

    /// What it missed, in the order of [`DropReason::ALL`].
    pub(crate) fn drops(&self) -> [u64; DropReason::ALL.len()] {
        let drops = self.drops.as_ref();
        drops.map_or_else(Default::default, |drops| drops.by_reason)
    }
}
