//! One budget of work for a turn of the loop.
//!
//! Work is counted in units of about a nanosecond on a slow machine, from figures that the core
//! knows without a clock: bytes, messages, targets, calls of the driver. Each kind of work has a
//! share of the turn. When a share is used up, the rest stays queued and continues in the next
//! turn, which follows at once.

use crate::limits::WORK_PER_TURN as BUDGET;
use crate::stats::TurnTimes;

/// Units of each kind of work in a turn that takes too long by the clock.
const LEAST_SHARE: u64 = BUDGET / 32;

/// Bytes read, copied or written per unit.
const BYTES_PER_UNIT: usize = 4;

/// Costs in units, in addition to those of bytes.
pub(super) mod cost {
    /// A connection is accepted and registered.
    pub(crate) const ACCEPT: u64 = 20_000;
    /// A question is answered.
    pub(crate) const ANSWER: u64 = 20_000;
    /// A byte of an answer in JSON.
    pub(crate) const ANSWER_BYTE: u64 = 10;
    /// Another thread calls: the call is taken, and its thread woken.
    pub(crate) const CALL: u64 = 10_000;
    /// A topic is cancelled, or sent to a publisher, together with many others.
    pub(crate) const CANCEL: u64 = 100;
    /// A connection is closed.
    pub(crate) const CLOSE: u64 = 20_000;
    /// A session handles a command.
    pub(crate) const COMMAND: u64 = 60;
    /// An attempt to connect begins.
    pub(crate) const CONNECT: u64 = 40_000;
    /// A sum of reports looks at an entry.
    pub(crate) const ENTRY: u64 = 200;
    /// A command of a handshake that agrees on keys: up to three multiplications on the curve.
    pub(crate) const KEY_AGREEMENT: u64 = 100_000;
    /// A topic is added to the last values, or removed.
    pub(crate) const KEPT_TOPIC: u64 = 400;
    /// A line of the log is written.
    pub(crate) const LINE: u64 = 10_000;
    /// A message is found and routed.
    pub(crate) const MESSAGE: u64 = 60;
    /// A password is compared with a hash.
    pub(crate) const PASSWORD: u64 = 200_000;
    /// A system call that reads.
    pub(crate) const READ: u64 = 2_000;
    /// A peer subscribes or cancels.
    const SUBSCRIPTION: u64 = 400;
    /// A byte of a long topic whose place among all topics is looked for, if each beginning of it
    /// is a topic too.
    const TOPIC_BYTE: u64 = 32;
    /// Bytes of a topic that cost nothing more.
    const SHORT_TOPIC_SIZE: usize = 32;
    /// A message is queued for one more peer.
    pub(crate) const TARGET: u64 = 40;
    /// The same, where there are so many that the processor must fetch each from memory.
    const FAR_TARGET: u64 = 500;
    /// More targets than the caches of a processor hold.
    const NEAR_TARGETS_MAX: usize = 256;
    /// A deadline is checked.
    pub(crate) const TIMER: u64 = 500;
    /// A view of a peer, a socket or a topic is made.
    pub(crate) const VIEW: u64 = 500;
    /// A walk over all connections looks at one.
    pub(crate) const WALK: u64 = 20;
    /// A system call that writes.
    pub(crate) const WRITE: u64 = 6_000;
    /// The answer of a ZAP handler is read.
    pub(crate) const ZAP_ANSWER: u64 = 2_000;
    /// A ZAP handler is asked about a peer.
    pub(crate) const ZAP_REQUEST: u64 = 2_000;

    /// A message is queued for this number of peers, or dropped because their queues are full.
    #[inline]
    pub(crate) fn targets(count: usize) -> u64 {
        count as u64 * if are_far(count) { FAR_TARGET } else { TARGET }
    }

    /// One more message with the same targets, found by comparing this number of them.
    #[inline]
    pub(crate) fn repetition(compared: usize) -> u64 {
        MESSAGE + compared as u64 / 2
    }

    /// A peer subscribes to a topic of this length, or cancels it.
    #[inline]
    pub(crate) fn subscription(topic_len: usize) -> u64 {
        SUBSCRIPTION + topic(topic_len)
    }

    /// The place of a topic of this length is looked for, with many others.
    #[inline]
    pub(crate) fn topic(len: usize) -> u64 {
        len.saturating_sub(SHORT_TOPIC_SIZE) as u64 * TOPIC_BYTE
    }

    /// Whether this number of targets exceeds the caches of a processor.
    #[inline]
    pub(crate) fn are_far(count: usize) -> bool {
        count > NEAR_TARGETS_MAX
    }
}

/// The kinds of work. Each continues until it has used up its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Connecting, as requested by actions.
    Actions,
    /// Questions and commands of the program.
    Calls,
    /// Closing connections.
    Closing,
    /// Checking deadlines.
    Deadlines,
    /// Accepting, and peers in their handshake: after the others, with the budget that they leave.
    Newcomers,
    /// Reading from established peers, up to queueing their messages.
    Reading,
    /// Pending topics of publishers, and topics of departed peers.
    Subscriptions,
    /// Messages that have waited for a receiver.
    Waking,
    /// Writing to established peers.
    Writing,
}

impl Kind {
    const COUNT: usize = Self::Writing as usize + 1;

    fn share(self) -> u64 {
        match self {
            Self::Actions
            | Self::Calls
            | Self::Deadlines
            | Self::Newcomers
            | Self::Subscriptions => BUDGET / 8,
            Self::Closing | Self::Waking => BUDGET / 4,
            Self::Reading | Self::Writing => BUDGET * 3 / 8,
        }
    }
}

/// The budget of the current turn, and the state of earlier ones.
#[derive(Debug)]
pub(super) struct Turn {
    /// Units of each kind at the beginning of the turn.
    began_at: [u64; Kind::COUNT],
    /// Units of each kind since the beginning.
    done: [u64; Kind::COUNT],
    /// The clock says that the turn must end.
    is_over: bool,
    /// The current kind of work.
    kind: Kind,
    /// The units of that kind at which its share is used up.
    limit: u64,
    /// The number of the turn.
    pub(super) number: u64,
    pub(super) times: TurnTimes,
    /// Some work was left for the next turn.
    was_cut: bool,
}

impl Default for Turn {
    fn default() -> Self {
        let mut turn = Self {
            began_at: [0; Kind::COUNT],
            done: [0; Kind::COUNT],
            is_over: false,
            kind: Kind::Reading,
            limit: 0,
            number: 0,
            times: TurnTimes::default(),
            was_cut: false,
        };
        turn.begin();
        turn
    }
}

impl Turn {
    /// Begins a turn: every kind of work has its share again.
    pub(super) fn begin(&mut self) {
        self.times.cut_short += u64::from(self.was_cut);
        self.number += 1;
        self.began_at = self.done;
        (self.is_over, self.was_cut) = (false, false);
        self.work_on(Kind::Reading);
    }

    /// The following work is of this kind.
    #[inline]
    pub(super) fn work_on(&mut self, kind: Kind) {
        self.kind = kind;
        let share = match kind {
            _ if self.is_over => LEAST_SHARE,
            // Newcomers get the budget that the other kinds do not need.
            Kind::Newcomers => {
                let others = self.work() - self.spent(kind);
                kind.share().max(BUDGET.saturating_sub(others))
            }
            _ => kind.share(),
        };
        self.limit = self.began_at[kind as usize] + share;
    }

    /// Charges units to the current kind of work.
    #[inline]
    pub(super) fn charge(&mut self, units: u64) {
        self.done[self.kind as usize] += units;
    }

    /// Whether the share of this kind of work is used up.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.done[self.kind as usize] >= self.limit
    }

    /// Whether the share is used up while some work remains, which is left for the next turn.
    #[inline]
    pub(super) fn cuts(&mut self) -> bool {
        let is_spent = self.is_spent();
        self.was_cut |= is_spent;
        is_spent
    }

    /// Units left for this kind of work.
    #[inline]
    pub(super) fn left(&self) -> u64 {
        self.limit.saturating_sub(self.done[self.kind as usize])
    }

    /// Bytes that each of this number of targets may get for the units left.
    #[inline]
    pub(super) fn bytes_left(&self, targets: usize) -> u64 {
        self.left().saturating_mul(BYTES_PER_UNIT as u64) / targets.max(1) as u64
    }

    /// Units of the current kind of work since the beginning of the process.
    pub(super) fn done(&self) -> u64 {
        self.done[self.kind as usize]
    }

    /// Ends the turn before its budget is used up, except for a little of each kind of work: one
    /// kind that takes long in every turn must not block the others.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.limit = 0;
    }

    /// Whether the clock said that the turn takes too long.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    fn spent(&self, kind: Kind) -> u64 {
        self.done[kind as usize] - self.began_at[kind as usize]
    }

    /// Units of all kinds in this turn.
    pub(super) fn work(&self) -> u64 {
        self.done.iter().sum::<u64>() - self.began_at.iter().sum::<u64>()
    }
}

/// The cost of this number of bytes.
#[inline]
pub(super) fn bytes(size: usize) -> u64 {
    (size / BYTES_PER_UNIT) as u64
}

/// What it costs to open or seal so many bytes.
pub(super) fn coded_bytes(size: usize) -> u64 {
    2 * size as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_get_their_share_and_the_unused_budget() {
        let mut turn = Turn::default();
        turn.work_on(Kind::Newcomers);
        assert_eq!(turn.left(), BUDGET, "no other work is pending");
        turn.charge(1000);
        turn.work_on(Kind::Reading);
        turn.charge(BUDGET * 3 / 4);
        assert!(turn.is_spent());
        turn.work_on(Kind::Newcomers);
        assert_eq!(turn.left(), BUDGET / 4 - 1000);
        turn.work_on(Kind::Writing);
        turn.charge(BUDGET);
        turn.work_on(Kind::Newcomers);
        assert_eq!(turn.left(), BUDGET / 8 - 1000, "their share is reserved");
        turn.begin();
        assert_eq!((turn.work(), turn.left()), (0, BUDGET * 3 / 8));
    }

    #[test]
    fn a_turn_that_leaves_work_is_counted_once() {
        let mut turn = Turn::default();
        turn.charge(BUDGET);
        assert!(turn.cuts() && turn.cuts());
        turn.begin();
        assert!(!turn.cuts());
        turn.begin();
        assert_eq!(turn.times.cut_short, 1);
        turn.end();
        assert!(turn.cuts());
        turn.work_on(Kind::Waking);
        assert_eq!(
            turn.left(),
            LEAST_SHARE,
            "a little of it is done in every turn"
        );
        turn.charge(LEAST_SHARE);
        assert!(turn.is_spent());
    }
}
