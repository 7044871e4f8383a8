//! Passwords that wait to be compared with their hashes, one address after another.
//!
//! A hash takes as long as thousands of small messages, so the hashes of a flood would fill all the
//! time that is left for newcomers. Each address therefore has a line of its own, and the lines
//! take turns: a peer whose address has no other attempt waits for one attempt of each other
//! address at most. Addresses whose peers were refused lately come after all others.
//!
//! ```text
//! HELLO ─► decide ─► line of the address ─► check_password ─► admit ─► the handshake goes on
//! ```

use crate::core::Core;
use crate::core::authorize::Decision;
use crate::core::report::Source;
use crate::core::turn::{Kind, cost};
use crate::ids::ConnId;
use crate::limits::PASSWORD_MEMORY;
use std::collections::BTreeMap;
use zmtp::{Authorization, Credentials};

/// A password that waits to be compared with a hash.
#[derive(Debug)]
pub(crate) struct Unchecked {
    credentials: Credentials,
    /// Its place in the line of its address.
    number: u64,
}

/// The place of an address among the others: first those without refusals, then by the number.
type Turn = (bool, u64);

/// The peers of one address whose passwords wait, in the order of their numbers. There is at least
/// one.
#[derive(Debug)]
struct Line {
    peers: BTreeMap<u64, ConnId>,
    turn: Turn,
}

/// All passwords that wait: one for each connection at most.
#[derive(Debug, Default)]
pub(super) struct Passwords {
    /// The turn of the loop in which the last one was compared.
    checked_in: u64,
    /// The number of the last place that was given.
    last: u64,
    lines: BTreeMap<Source, Line>,
    turns: BTreeMap<Turn, Source>,
    waiting: u64,
}

impl Passwords {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The memory of all that wait, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.waiting * PASSWORD_MEMORY
    }

    /// Adds a peer to the line of its address; returns its number.
    fn push(&mut self, source: Source, id: ConnId, has_refusals: bool) -> u64 {
        self.last += 1;
        let number = self.last;
        let (turn, turns) = ((has_refusals, number), &mut self.turns);
        let line = self.lines.entry(source).or_insert_with(|| {
            turns.insert(turn, source);
            let peers = BTreeMap::new();
            Line { peers, turn }
        });
        line.peers.insert(number, id);
        self.waiting += 1;
        number
    }

    /// The peer whose turn it is.
    fn first(&self) -> Option<(Source, ConnId)> {
        let (_, source) = self.turns.first_key_value()?;
        let (_, id) = self.lines.get(source)?.peers.first_key_value()?;
        Some((*source, *id))
    }

    /// A peer waits no more.
    fn remove(&mut self, source: Source, number: u64) {
        let Some(line) = self.lines.get_mut(&source) else {
            return;
        };
        self.waiting -= u64::from(line.peers.remove(&number).is_some());
        if line.peers.is_empty() {
            self.turns.remove(&line.turn);
            self.lines.remove(&source);
        }
    }

    /// A password of this address was compared: the others come first.
    fn rotate(&mut self, source: Source, has_refusals: bool) {
        if let Some(line) = self.lines.get_mut(&source) {
            self.last += 1;
            self.turns.remove(&line.turn);
            line.turn = (has_refusals, self.last);
            self.turns.insert(line.turn, source);
        }
    }
}

impl Core {
    /// Lets the handshake of a peer wait until its password is compared.
    pub(super) fn check_later(&mut self, id: ConnId, credentials: Credentials) {
        let now = self.clock.now();
        if let Some(conn) = self.conns.get_mut(id) {
            let source = conn.peer.into();
            let has_refusals = self.refusals.knows(now, source);
            let number = self.passwords.push(source, id, has_refusals);
            let unchecked = Unchecked {
                credentials,
                number,
            };
            conn.decision = Some(Box::new(Decision::Unchecked(unchecked)));
        }
    }

    /// Compares the next password, if the budget that the turn has for newcomers allows it, and
    /// lets the handshake of its peer go on. One is compared in every turn. Returns whether there
    /// was any.
    pub(super) fn check_password(&mut self) -> bool {
        let Some((source, id)) = self.passwords.first() else {
            return false;
        };
        self.turn.work_on(Kind::Newcomers);
        if self.turn.cuts() && self.passwords.checked_in == self.turn.number {
            return false;
        }
        self.passwords.checked_in = self.turn.number;
        self.turn.charge(cost::PASSWORD);
        if let Some(credentials) = self.forget_password(id) {
            self.admit(id, credentials);
        }
        let decision = self.conns.get(id).and_then(|it| it.decision.as_deref());
        let told = match decision {
            Some(Decision::Made(Authorization::Denied { is_told })) => Some(*is_told),
            _ => None,
        };
        let now = self.clock.now();
        if told == Some(true) {
            self.refusals.note(now, source);
        }
        let has_refusals = told.is_some() || self.refusals.knows(now, source);
        self.passwords.rotate(source, has_refusals);
        if let Some(conn) = self.conns.get_mut(id)
            && matches!(conn.decision.as_deref(), Some(Decision::Made(_)))
        {
            conn.is_cut = true;
            self.read_later(id);
        }
        true
    }

    /// The password of a peer waits no more; returns the credentials.
    pub(super) fn forget_password(&mut self, id: ConnId) -> Option<Credentials> {
        let conn = self.conns.get_mut(id)?;
        let waits = |decision: &mut Box<Decision>| matches!(**decision, Decision::Unchecked(_));
        let Decision::Unchecked(unchecked) = *conn.decision.take_if(waits)? else {
            return None;
        };
        self.passwords.remove(conn.peer.into(), unchecked.number);
        Some(unchecked.credentials)
    }

    /// The memory of passwords that wait, recounted.
    pub(super) fn walk_passwords(&self) -> u64 {
        let conns = self.conns.iter();
        let waiting = conns.filter(|(_, conn)| conn.has_unchecked_password());
        waiting.count() as u64 * PASSWORD_MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn source(number: u32) -> Source {
        Source::Address(Ipv4Addr::from(number).into())
    }

    fn conn(slot: u32) -> ConnId {
        ConnId {
            generation: 1,
            slot,
        }
    }

    /// The order in which all that wait are compared; addresses in `bad` are refused.
    fn order(passwords: &mut Passwords, bad: &[Source]) -> Vec<ConnId> {
        let mut order = Vec::new();
        while let Some((source, id)) = passwords.first() {
            order.push(id);
            let numbers = &passwords.lines[&source].peers;
            let number = *numbers.first_key_value().expect("not empty").0;
            passwords.remove(source, number);
            passwords.rotate(source, bad.contains(&source));
        }
        order
    }

    #[test]
    fn addresses_take_turns_and_refused_ones_come_last() {
        let mut passwords = Passwords::default();
        for slot in 0..3 {
            passwords.push(source(1), conn(slot), false);
        }
        for slot in 3..6 {
            passwords.push(source(2), conn(slot), false);
        }
        passwords.push(source(3), conn(6), true);
        assert_eq!(passwords.memory(), 7 * PASSWORD_MEMORY);
        let found = order(&mut passwords, &[source(1)]);
        assert_eq!(found, [0, 3, 4, 5, 6, 1, 2].map(conn));
        assert_eq!((passwords.memory(), passwords.is_empty()), (0, true));
    }

    #[test]
    fn nothing_is_kept_of_peers_that_leave() {
        let mut passwords = Passwords::default();
        let first = passwords.push(source(1), conn(0), false);
        let second = passwords.push(source(1), conn(1), false);
        passwords.push(source(2), conn(2), false);
        passwords.remove(source(1), first);
        passwords.remove(source(1), first);
        passwords.remove(source(1), second);
        assert_eq!(passwords.memory(), PASSWORD_MEMORY);
        assert_eq!((passwords.lines.len(), passwords.turns.len()), (1, 1));
        assert_eq!(order(&mut passwords, &[]), [conn(2)]);
        assert!(passwords.lines.is_empty() && passwords.turns.is_empty());
    }
}
