//! Newcomers: accepted within one budget for all listeners, after all work for established peers.

use super::Broker;
use super::listener::Accepted;
use std::time::Instant;

impl Broker {
    /// Accepts, and reads from peers in their handshake, after all work for established peers.
    pub(super) fn take_in_newcomers(&mut self, now: Instant) {
        let mut has_any = self.accept(now);
        while let Some(id) = self.core.poll_newcomer() {
            self.read(now, id);
            has_any = true;
        }
        if has_any {
            self.finish_work(now);
        }
    }

    pub(super) fn handle_crowd(&mut self, index: usize) {
        if let Some(Some(listener)) = self.listeners.get_mut(index)
            && !std::mem::replace(&mut listener.can_accept, true)
        {
            self.crowded.push_back(index);
        }
    }

    /// Accepts from all listeners in turn, as many peers as the budget of the turn allows; returns
    /// whether there were any.
    fn accept(&mut self, now: Instant) -> bool {
        let (mut has_any, mut is_short, mut resting) = (false, false, 0);
        while resting < self.crowded.len() {
            let Some(index) = self.crowded.pop_front() else {
                break;
            };
            let Some(Some(listener)) = self.listeners.get_mut(index) else {
                continue;
            };
            if listener.is_resting(now) {
                self.crowded.push_back(index);
                resting += 1;
                continue;
            }
            if listener.can_accept && !self.core.may_accept() {
                self.crowded.push_front(index);
                break;
            }
            let accepted = listener.accept(now);
            is_short |= listener.paused_until.is_some();
            if listener.can_accept {
                self.crowded.push_back(index);
            }
            if let Some(accepted) = accepted {
                resting = 0;
                has_any = true;
                self.take_in(now, accepted);
                self.mind_clock();
            }
        }
        if is_short {
            self.release_descriptors(now);
        }
        has_any
    }

    fn take_in(&mut self, now: Instant, accepted: Accepted) {
        let Accepted {
            listener,
            peer,
            socket,
        } = accepted;
        // If it is not to stay, dropping the socket disconnects it.
        if let Some(id) = self.core.handle_accepted(now, listener, peer) {
            self.add_stream(now, id, socket);
        }
    }
}
