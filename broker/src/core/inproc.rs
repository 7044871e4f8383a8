//! What is on its way between two sockets of this broker. No queue shows it, so a stop waits until
//! nothing has moved for a turn.

/// Whether anything moves.
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
    /// will be now that one may be read from again.
    pub(crate) fn note(&mut self) {
        self.moves += 1;
    }

    /// Called once per turn, between reading and writing: what was written in one turn is read in
    /// the next.
    pub(crate) fn turn(&mut self) {
        self.is_quiet = self.moves == self.moves_seen;
        self.moves_seen = self.moves;
    }

    /// Whether everything that was written has been read.
    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet && self.moves == self.moves_seen
    }
}
