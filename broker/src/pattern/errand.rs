//! The request whose answer a REQ or REP waits for, on its way through the queues of a socket.
//!
//! A request is lost when a peer leaves that has begun to read it, or when it is dropped. Its
//! answer will never come, so the next request must not wait for it.

use crate::ids::ConnId;

/// The place of the last request that a socket has sent.
///
/// Invariant: an unsent request has exactly `behind` others after it.
#[derive(Debug, Default)]
pub(crate) struct Errand {
    /// Older requests whose peers left, and which were queued after this one.
    behind: u32,
    place: Place,
}

/// The possible places of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its peer has left, or it was dropped: there will be no answer.
    Lost,
    /// It was answered, or none was sent.
    #[default]
    Nowhere,
    /// In the queue of this peer, or with this peer.
    Peer(ConnId),
    /// Among the orphaned requests.
    Orphaned,
}

impl Errand {
    /// A request is queued for this peer, or dropped for lack of a peer.
    pub(crate) fn begin(&mut self, peer: Option<ConnId>) {
        self.behind = 0;
        self.place = peer.map_or(Place::Lost, Place::Peer);
    }

    /// The answer has arrived.
    pub(crate) fn end(&mut self) {
        self.place = Place::Nowhere;
    }

    /// This number of unsent messages was taken out of the queue of a peer and moved to `place`.
    pub(crate) fn taken_back(&mut self, peer: ConnId, unsent: u32, place: Place) {
        if self.place == Place::Peer(peer) {
            if unsent > self.behind {
                self.place = place;
            } else {
                self.behind = 0;
            }
        } else if self.place == place {
            self.behind += unsent;
        }
    }

    /// One orphaned message was given to a peer, or dropped; `left` are still orphaned.
    pub(crate) fn delivered(&mut self, left: u32, peer: Option<ConnId>) {
        if self.place == Place::Orphaned && left == self.behind {
            self.begin(peer);
        } else if peer.is_some_and(|peer| self.place == Place::Peer(peer)) {
            self.behind += 1;
        }
    }

    /// This number of messages was dropped from the front of a peer's unsent messages; `left` of
    /// them are still queued.
    pub(crate) fn dropped(&mut self, peer: ConnId, count: u32, left: u32) {
        if self.place != Place::Peer(peer) {
            return;
        }
        let was_unsent = left + count > self.behind;
        if was_unsent && left <= self.behind {
            self.place = Place::Lost;
        } else if !was_unsent {
            self.behind = left;
        }
    }

    /// All orphaned messages were dropped.
    pub(crate) fn dropped_orphaned(&mut self) {
        if self.place == Place::Orphaned {
            self.place = Place::Lost;
        }
    }

    /// This peer will not answer any more.
    pub(crate) fn left(&mut self, peer: ConnId) {
        if self.place == Place::Peer(peer) {
            self.place = Place::Lost;
        }
    }

    /// Whether the request was lost since the last call.
    pub(crate) fn take_lost(&mut self) -> bool {
        let is_lost = self.place == Place::Lost;
        if is_lost {
            self.place = Place::Nowhere;
        }
        is_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers() -> [ConnId; 2] {
        [1, 2].map(|slot| ConnId {
            generation: 1,
            slot,
        })
    }

    #[test]
    fn a_request_that_was_begun_is_lost_with_its_peer_and_another_goes_on() {
        let [first, second] = peers();
        let mut errand = Errand::default();
        errand.begin(Some(first));
        errand.left(second);
        assert!(!errand.take_lost(), "another peer has it");
        errand.taken_back(first, 1, Place::Orphaned);
        errand.left(first);
        assert!(!errand.take_lost(), "it was taken back");
        // An older request is taken back later.
        errand.taken_back(second, 1, Place::Orphaned);
        errand.delivered(1, Some(second));
        errand.delivered(0, Some(second));
        assert!(!errand.take_lost());
        errand.taken_back(second, 1, Place::Orphaned);
        errand.left(second);
        assert!(errand.take_lost(), "only the one after it was not begun");
        assert!(!errand.take_lost(), "it is lost once");
    }

    #[test]
    fn a_request_is_dropped_with_those_before_it_but_not_with_those_after_it() {
        let [first, second] = peers();
        let mut errand = Errand::default();
        errand.begin(Some(first));
        errand.taken_back(second, 2, Place::Peer(first));
        errand.dropped(first, 1, 3);
        assert!(!errand.take_lost(), "an older one was dropped");
        errand.dropped(first, 1, 2);
        assert!(errand.take_lost());
        errand.begin(Some(first));
        errand.taken_back(second, 2, Place::Peer(first));
        errand.dropped(first, 1, 1);
        errand.dropped(first, 1, 0);
        assert!(!errand.take_lost(), "it was sent before");
        errand.begin(None);
        assert!(errand.take_lost(), "no peer had room");
    }
}
