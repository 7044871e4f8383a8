//! Choices about whom a message goes to, and what happens when a queue is full.

use super::value::Choice;

/// Whose turn it is on a side that gives each message to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The one who has least to take, in turn among equals.
    LeastQueued,
    /// One who has answered what it was given before, in turn.
    Ready,
    /// The next, as in libzmq, whatever the queues.
    #[default]
    RoundRobin,
}

/// What happens to a message for a peer whose queue is at its high-water mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It waits, and with it who sent it.
    Block,
    /// It replaces what is queued, full or not: only the newest message is kept.
    Conflate,
    /// It replaces the queued message with the same first frame, full or not.
    ConflateTopic,
    /// It is dropped, and the peer is closed if its queue stays full for `overflow_timeout`.
    Disconnect,
    /// It is dropped.
    DropNewest,
    /// The oldest queued message is dropped for it.
    DropOldest,
    /// As in libzmq: DEALER, PAIR, PUSH and REQ block, the others drop it.
    #[default]
    Standard,
}

impl Overflow {
    /// Whether messages may have to be taken out of the queue again.
    #[must_use]
    pub fn takes_back(self) -> bool {
        matches!(
            self,
            Self::Conflate | Self::ConflateTopic | Self::DropOldest
        )
    }

    /// Its name in configurations.
    pub(super) fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, overflow)| *overflow == self);
        named.map_or("", |(name, _)| name)
    }
}

impl Balance {
    /// Every name.
    pub(super) const NAMES: &'static [&'static str] = &names::<3, Self>(Self::ALL);
}

impl Overflow {
    /// Every name.
    pub(super) const NAMES: &'static [&'static str] = &names::<7, Self>(Self::ALL);
}

/// The names in a table of choices; it does not compile unless `N` is how many there are.
const fn names<const N: usize, T: Copy>(table: &[(&'static str, T)]) -> [&'static str; N] {
    assert!(table.len() == N);
    let mut names = [""; N];
    let mut index = 0;
    while index < N {
        names[index] = table[index].0;
        index += 1;
    }
    names
}

impl Choice for Balance {
    const ALL: &'static [(&'static str, Self)] = &[
        ("round-robin", Self::RoundRobin),
        ("least-queued", Self::LeastQueued),
        ("ready", Self::Ready),
    ];
}

impl Choice for Overflow {
    const ALL: &'static [(&'static str, Self)] = &[
        ("standard", Self::Standard),
        ("block", Self::Block),
        ("drop-newest", Self::DropNewest),
        ("drop-oldest", Self::DropOldest),
        ("conflate", Self::Conflate),
        ("conflate-topic", Self::ConflateTopic),
        ("disconnect", Self::Disconnect),
    ];
}
