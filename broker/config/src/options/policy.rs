//! Policies: the selection of the next peer, and the treatment of messages for a full queue.

use super::value::Choice;

/// The selection of the next peer on a side that gives each message to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The peer with the shortest queue; among equals, in turn.
    LeastQueued,
    /// A peer that has answered its previous message, in turn.
    Ready,
    /// The next peer, as in libzmq, whatever the queues.
    #[default]
    RoundRobin,
}

/// The treatment of peers that may not come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reject {
    /// They are closed without a word, later with each attempt; they may try again.
    #[default]
    Close,
    /// They are told at once by an ERROR command. libzmq does not connect again after one.
    Error,
}

/// The treatment of a message for a peer whose queue is at its high-water mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The message waits in its sender.
    Block,
    /// The message replaces the queued ones, even in a queue with room: only the newest is kept.
    Conflate,
    /// The message replaces the queued one with the same first frame, even in a queue with room.
    ConflateTopic,
    /// The message is dropped, and the peer is closed if its queue stays full for
    /// `overflow_timeout`.
    Disconnect,
    /// The message is dropped.
    DropNewest,
    /// The message replaces the oldest queued one.
    DropOldest,
    /// As in libzmq: DEALER, PAIR, PUSH and REQ block, the others drop the message.
    #[default]
    Standard,
}

impl Overflow {
    /// Whether messages may have to be removed from a queue.
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

impl Reject {
    /// Every name.
    pub(super) const NAMES: &'static [&'static str] = &names::<2, Self>(Self::ALL);
}

impl Overflow {
    /// Every name.
    pub(super) const NAMES: &'static [&'static str] = &names::<7, Self>(Self::ALL);
}

/// The names in a table of choices; it compiles only if `N` is their number.
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

impl Choice for Reject {
    const ALL: &'static [(&'static str, Self)] = &[("close", Self::Close), ("error", Self::Error)];
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
