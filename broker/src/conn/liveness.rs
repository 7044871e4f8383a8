//! Whether a silent peer may be too busy to answer.
//!
//! libzmq stops reading a connection while its application lags behind, and then does not answer
//! PING either. So silence means something only if the peer has read everything sent to it. A PONG
//! proves that for everything sent before the PING.

/// The bytes that a peer may not have read, as far as known.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// Bytes sent or queued up to and including the last PING.
    asked_at: u64,
    /// Bytes were sent between the last answered PING and the last PING.
    is_behind: bool,
    /// The queue had no room for the last PING.
    ping_was_skipped: bool,
}

impl Liveness {
    /// The state after the handshake, in which the peer has read the `bytes` sent so far.
    pub(crate) fn beyond(bytes: u64) -> Self {
        Self {
            asked_at: bytes,
            ..Self::default()
        }
    }

    /// A PING was queued, if there was room; `before` and `after` are the bytes sent or queued
    /// without it and with it. `has_answer` says whether earlier PINGs were answered.
    pub(crate) fn asked(&mut self, before: u64, after: u64, has_answer: bool) {
        let is_new = before != self.asked_at;
        self.is_behind = is_new || self.is_behind && !has_answer;
        self.ping_was_skipped = before == after;
        self.asked_at = after;
    }

    /// Whether the last PING was not sent.
    pub(crate) fn ping_was_skipped(&self) -> bool {
        self.ping_was_skipped
    }

    /// Whether the peer may have unread bytes; `bytes` were sent or are queued.
    pub(crate) fn may_be_unread(&self, bytes: u64) -> bool {
        self.is_behind || bytes != self.asked_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING_SIZE: u64 = 9;

    #[test]
    fn a_peer_that_was_sent_nothing_since_its_answer_has_read_all() {
        let mut doubt = Liveness::beyond(50);
        assert!(!doubt.may_be_unread(50));
        doubt.asked(100, 100 + PING_SIZE, true);
        assert!(doubt.may_be_unread(109), "the hundred may be unread");
        doubt.asked(109, 118, true);
        assert!(!doubt.may_be_unread(118), "they are read");
        assert!(doubt.may_be_unread(119));
    }

    #[test]
    fn bytes_sent_before_an_unanswered_ping_may_be_unread() {
        let mut doubt = Liveness::beyond(0);
        doubt.asked(0, 9, true);
        doubt.asked(50, 59, true);
        doubt.asked(59, 68, false);
        doubt.asked(68, 77, false);
        assert!(doubt.may_be_unread(77));
        doubt.asked(77, 86, true);
        assert!(!doubt.may_be_unread(86));
    }
}
