//! The timers of all connections and links, in the order of time.
//!
//! A timer is a reminder to check, not the deadline itself: the owner decides whether anything is
//! due. So a deadline that moves back or is cancelled costs nothing until its timer fires. Each
//! owner has at most one timer: a deadline that moves forward moves it, and a closed owner removes
//! it, so that there are never more timers than owners.

use crate::ids::{ConnId, LinkId, ProxyId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// The owner of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Conn(ConnId),
    /// A connection that the broker made: checks that the peer has sent its greeting.
    Greeting(ConnId),
    /// A connection that waits for an identity: checks whether the holder has given a sign of life.
    Contest(ConnId),
    Link(LinkId),
    /// A connection whose peer was refused: closes it.
    Refusal(ConnId),
    /// The reports of this proxy: sums them up.
    Reports(ProxyId),
    /// The sample of the messages of this proxy: ends it.
    Sample(ProxyId),
    /// The memory freed at the limit: logs a sum.
    Shed,
    /// The queue of a connection: checks whether it has been full for too long.
    Queue(ConnId),
    /// A connection whose user has used up its rate: reads from it again.
    Rate(ConnId),
    /// A connection on trial: ends the trial, if no loop was found.
    Trial(ConnId),
    /// A connection whose handshake waits for the answer of a ZAP handler: refuses the peer.
    Zap(ConnId),
}

/// Timers, the earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_owner: BTreeMap<Owner, Instant>,
    by_time: BTreeSet<(Instant, Owner)>,
}

impl Timers {
    /// Sets the timer of `owner` to `deadline`; replaces the earlier setting.
    pub(crate) fn insert(&mut self, deadline: Instant, owner: Owner) {
        if let Some(former) = self.by_owner.insert(owner, deadline) {
            self.by_time.remove(&(former, owner));
        }
        self.by_time.insert((deadline, owner));
    }

    /// The next owner whose timer has fired, and the time for which it was set.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Owner)> {
        let (deadline, owner) = *self.by_time.first()?;
        if deadline > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_owner.remove(&owner);
        Some((deadline, owner))
    }

    /// The time of the next timer.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// The owners of all timers.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.by_owner.keys()
    }

    /// Removes the timer of a link.
    pub(crate) fn forget_link(&mut self, id: LinkId) {
        self.forget_owner(Owner::Link(id));
    }

    /// Removes the timer of a peer that waited for the answer of a ZAP handler.
    pub(crate) fn forget_zap(&mut self, id: ConnId) {
        self.forget_owner(Owner::Zap(id));
    }

    /// Removes the timers of a proxy.
    pub(crate) fn forget_proxy(&mut self, id: ProxyId) {
        self.forget_owner(Owner::Reports(id));
        self.forget_owner(Owner::Sample(id));
    }

    fn forget_owner(&mut self, owner: Owner) {
        if let Some(deadline) = self.by_owner.remove(&owner) {
            self.by_time.remove(&(deadline, owner));
        }
    }

    /// Removes all timers of a connection.
    pub(crate) fn forget(&mut self, id: ConnId) {
        let owners = [
            Owner::Conn,
            Owner::Contest,
            Owner::Greeting,
            Owner::Queue,
            Owner::Rate,
            Owner::Refusal,
            Owner::Trial,
            Owner::Zap,
        ];
        for owner in owners.map(|owner| owner(id)) {
            self.forget_owner(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant works: the test moves it"
    )]
    fn an_owner_has_one_timer_however_often_its_deadline_moves() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let conn = |slot| ConnId {
            generation: 1,
            slot,
        };
        // Like a peer whose PINGs bring a time-to-live: each moves the deadline.
        for round in (1..=1000_u64).rev() {
            for slot in 0..10 {
                let deadline = start + Duration::from_millis(round * 10 + u64::from(slot));
                timers.insert(deadline, Owner::Conn(conn(slot)));
            }
        }
        timers.insert(start, Owner::Queue(conn(3)));
        assert_eq!((timers.by_owner.len(), timers.by_time.len()), (11, 11));
        timers.forget(conn(3));
        assert_eq!((timers.by_owner.len(), timers.by_time.len()), (9, 9));
        assert_eq!(timers.next(), Some(start + Duration::from_millis(10)));
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(start + Duration::from_millis(14)))
            .map(|(_, owner)| owner)
            .collect();
        assert_eq!(due, [0, 1, 2, 4].map(|slot| Owner::Conn(conn(slot))));
        assert_eq!((timers.by_owner.len(), timers.by_time.len()), (5, 5));
    }
}
