//! Deadlines of all connections and links in one heap.
//!
//! An entry is a reminder to look, not the deadline itself: whoever is looked at says whether
//! anything is due. So a deadline that moves or goes away costs nothing until its reminder comes
//! up.

use crate::conn::ConnId;
use crate::core::actions::LinkId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Who is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Conn(ConnId),
    Link(LinkId),
    /// The queue of a connection: has it been full for too long?
    Queue(ConnId),
    /// A connection on trial: was no loop found?
    Trial(ConnId),
}

/// Reminders, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Owner)>>,
}

impl Timers {
    /// Reminds of `owner` at `deadline`.
    pub(crate) fn insert(&mut self, deadline: Instant, owner: Owner) {
        self.heap.push(Reverse((deadline, owner)));
    }

    /// The next owner whose reminder is due, and for when it was set.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Owner)> {
        let Reverse((deadline, _)) = self.heap.peek()?;
        if *deadline > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    /// When the next reminder is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// How many reminders there are.
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets the reminders of owners that are not there any more.
    pub(crate) fn retain(&mut self, mut is_there: impl FnMut(Owner) -> bool) {
        self.heap.retain(|Reverse((_, owner))| is_there(*owner));
    }
}
