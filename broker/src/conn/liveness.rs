//! Whether a silent peer may be too busy to answer.
//!
//! libzmq stops reading a connection when its application has not taken enough of what came, and
//! then answers no PING either. So silence says something about a peer only if it has read all that
//! it was sent, which a PONG proves for all that was sent before the PING.

/// What a peer may have been sent and not have read, as far as that is known.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// Bytes sent or queued when the last PING was, it included.
    asked_at: u64,
    /// Something was sent between the last PING that was answered and the last one.
    is_behind: bool,
    /// There was no room for the last PING.
    ping_was_skipped: bool,
}

impl Liveness {
    /// That of a peer which has shaken hands, and so has read the `bytes` sent to it so far.
    pub(crate) fn beyond(bytes: u64) -> Self {
        Self {
            asked_at: bytes,
            ..Self::default()
        }
    }

    /// A PING was queued, if there was room; `before` and `after` are the bytes sent or queued
    /// without it and with it, and `has_answer` says whether those before it were answered.
    pub(crate) fn asked(&mut self, before: u64, after: u64, has_answer: bool) {
        let is_new = before != self.asked_at;
        self.is_behind = is_new || self.is_behind && !has_answer;
        self.ping_was_skipped = before == after;
        self.asked_at = after;
    }

    /// Whether the peer was not sent the last PING.
    pub(crate) fn ping_was_skipped(&self) -> bool {
        self.ping_was_skipped
    }

    /// Whether there is something that the peer may not have read; `bytes` were sent or are queued.
    pub(crate) fn may_be_unread(&self, bytes: u64) -> bool {
        self.is_behind || bytes != self.asked_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING_SIZE: u64 = 9;

    #[test]
    fn who_was_sent_nothing_since_an_answer_has_no_excuse() {
        let mut doubt = Liveness::beyond(50);
        assert!(!doubt.may_be_unread(50));
        doubt.asked(100, 100 + PING_SIZE, true);
        assert!(doubt.may_be_unread(109), "the hundred may not be read");
        doubt.asked(109, 118, true);
        assert!(!doubt.may_be_unread(118), "they are read");
        assert!(doubt.may_be_unread(119));
    }

    #[test]
    fn what_was_sent_before_a_ping_without_answer_stays_in_doubt() {
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
