//! Messages in transit between two sockets of this broker. No queue contains them, so a stop waits
//! until nothing has moved for a turn.

/// Whether messages move between sockets of this broker.
#[derive(Debug)]
pub(crate) struct InprocActivity {
    is_quiet: bool,
    moves: u64,
    moves_seen: u64,
}

impl Default for InprocActivity {
    fn default() -> Self {
        Self {
            is_quiet: true,
            moves: 0,
            moves_seen: 0,
        }
    }
}

impl InprocActivity {
    /// Bytes were written to, or read from, a connection between two sockets of this broker, or
    /// such a connection may be read again.
    pub(crate) fn note(&mut self) {
        self.moves += 1;
    }

    /// Call this once per turn, between reading and writing: bytes written in one turn are read in
    /// the next.
    pub(crate) fn turn(&mut self) {
        self.is_quiet = self.moves == self.moves_seen;
        self.moves_seen = self.moves;
    }

    /// Whether all written bytes were read.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet && self.moves == self.moves_seen
    }
}
