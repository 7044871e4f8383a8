//! Peers that are refused in the handshake: a close without a word, later with each attempt.
//!
//! A libzmq peer gives an endpoint up once it gets an ERROR command, and so would stay away even
//! after its key is listed. One whose connection is closed tries again within 100 ms, each time at
//! the cost of a handshake. So the close waits: a second for the first refusal of an address, and
//! twice as long for each further one, up to half a minute. Peers from the same address that may
//! come in do not wait.

use crate::conn::{Conn, Origin, Phase};
use crate::core::Core;
use crate::core::authorize::Decision;
use crate::core::report::{Ended, Source};
use crate::core::timers::Owner;
use crate::ids::ConnId;
use crate::limits::{REFUSAL_DELAY_MAX, REFUSAL_DELAY_MIN, REFUSALS_KEPT_MAX};
use crate::reason::CloseReason;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use zmtp::{Error, Refused};

/// The addresses of refused peers.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The last delay of each, and when it is forgotten.
    by_source: BTreeMap<Source, (Duration, Instant)>,
    by_time: BTreeSet<(Instant, Source)>,
}

impl Refusals {
    /// The memory of all known addresses, in bytes.
    pub(super) fn memory(&self) -> u64 {
        (self.by_source.len() as u64) * REFUSAL_MEMORY
    }

    /// Whether a peer of this address was refused lately.
    pub(super) fn knows(&self, now: Instant, source: Source) -> bool {
        let known = self.by_source.get(&source);
        known.is_some_and(|(_, until)| now < *until)
    }

    /// A peer was refused that is closed at once.
    pub(super) fn note(&mut self, now: Instant, source: Source) {
        let _ = self.delay(now, source);
    }

    /// The delay of the close of one more refused peer. Beyond the limit of known addresses, others
    /// have the shortest.
    fn delay(&mut self, now: Instant, source: Source) -> Duration {
        while let Some((until, source)) = self.by_time.first().copied()
            && until <= now
        {
            self.by_time.pop_first();
            self.by_source.remove(&source);
        }
        let delay = match self.by_source.get(&source) {
            Some((former, until)) => {
                self.by_time.remove(&(*until, source));
                (2 * *former).min(REFUSAL_DELAY_MAX)
            }
            None if self.by_source.len() >= REFUSALS_KEPT_MAX => return REFUSAL_DELAY_MIN,
            None => REFUSAL_DELAY_MIN,
        };
        // An address that stays away for as long again begins anew.
        let until = now + 2 * delay + REFUSAL_DELAY_MIN;
        self.by_source.insert(source, (delay, until));
        self.by_time.insert((until, source));
        delay
    }
}

/// Bytes of an address in both tables, and of their nodes.
const REFUSAL_MEMORY: u64 = 200;

impl Core {
    /// The session of a connection has failed: closes it, or refuses its peer.
    pub(super) fn fail_session(&mut self, id: ConnId, error: Error) {
        let is_refused = matches!(
            error,
            Error::Refused(Refused::ByUs { .. }) | Error::Unverified(_)
        );
        let why = CloseReason::Protocol(error);
        if is_refused {
            self.refuse_peer(id, why, error.has_final_bytes());
        } else {
            self.close_later(id, why);
        }
    }

    /// A peer in its handshake may not come in: it is closed late, and without a word.
    pub(super) fn refuse(&mut self, id: ConnId, why: CloseReason) {
        self.refuse_peer(id, why, false);
    }

    /// The same; a peer that is told of it is closed at once.
    fn refuse_peer(&mut self, id: ConnId, why: CloseReason, is_told: bool) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        // The broker itself decides when it connects again.
        let is_dialled = matches!(conn.origin, Origin::Dialled(_));
        if conn.phase != Phase::Handshake || conn.closes_later {
            return self.close_later(id, why);
        }
        self.forget_request(id);
        self.forget_password(id);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (socket, ended, peer) = (conn.socket, Ended::of(conn), conn.peer);
        let key = conn.key.as_deref().copied();
        conn.decision = Some(Box::new(Decision::Refused(why)));
        self.report_close(socket, &ended, &why, key);
        if is_told || is_dialled {
            return self.close_later(id, why);
        }
        let now = self.clock.now();
        let delay = match why {
            // The trouble is with the handler: the peer may come in as soon as that is over.
            CloseReason::Zap(refusal) if !refusal.is_decision() => REFUSAL_DELAY_MIN,
            _ => self.refusals.delay(now, peer.into()),
        };
        self.timers.insert(now + delay, Owner::Refusal(id));
    }

    /// The time of a refused peer is over.
    pub(super) fn end_refusal(&mut self, id: ConnId) {
        if let Some(why) = self.conns.get(id).and_then(Conn::refusal) {
            self.close_later(id, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn source(number: u32) -> Source {
        Source::Address(Ipv4Addr::from(number).into())
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant works: the test moves it"
    )]
    fn each_refusal_of_an_address_waits_twice_as_long_up_to_half_a_minute() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let delay = refusals.delay(now, source(1));
            assert_eq!(delay, Duration::from_secs(expected));
            now += delay;
        }
        assert_eq!(refusals.delay(now, source(2)), REFUSAL_DELAY_MIN);
        now += 3 * REFUSAL_DELAY_MAX;
        assert_eq!(
            refusals.delay(now, source(1)),
            REFUSAL_DELAY_MIN,
            "forgotten"
        );
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant works: the test moves it"
    )]
    fn a_limited_number_of_addresses_is_known() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for number in 0..2 * u32::try_from(REFUSALS_KEPT_MAX).expect("few") {
            assert_eq!(refusals.delay(now, source(number)), REFUSAL_DELAY_MIN);
        }
        let kept = (refusals.by_source.len(), refusals.by_time.len());
        assert_eq!(kept, (REFUSALS_KEPT_MAX, REFUSALS_KEPT_MAX));
        assert_eq!(refusals.delay(now, source(0)), 2 * REFUSAL_DELAY_MIN);
        let late = now + 3 * REFUSAL_DELAY_MAX;
        refusals.delay(late, source(0));
        assert_eq!((refusals.by_source.len(), refusals.by_time.len()), (1, 1));
    }
}
