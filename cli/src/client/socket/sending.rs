//! The sending half of a socket: which peer gets a message, and its queue.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::time::{Duration, Instant};

use zmtp::{Frames, SocketType};

use super::{News, PeerId, Socket};

/// Bytes of all queues; each peer has its share, within these limits. A message that begins below
/// the limit is taken as a whole.
const QUEUES_SIZE_MAX: usize = 64 << 20;
const QUEUE_SIZE_MIN: usize = 64 << 10;
const QUEUE_SIZE_MAX: usize = 1 << 20;

/// Queued bytes that are sent at once.
const FLUSH_SIZE: usize = 64 << 10;

/// A subscriber that has read nothing for this long misses messages.
const STALL: Duration = Duration::from_secs(1);

impl Socket {
    /// Sends what peers take at once, and returns the number of bytes left. If there are any,
    /// [`News::Room`] follows when more have left.
    pub(crate) fn flush_messages(&mut self) -> usize {
        self.flush_all();
        let members = self.members.iter();
        let left = members
            .map(|key| self.links[*key].connection.unsent())
            .sum();
        self.wants_progress = left > 0;
        left
    }

    /// Sends a message in wire form to the next peer that has room; [`None`] if none has.
    pub(crate) fn send(&mut self, wire: &[u8]) -> Option<PeerId> {
        let count = self.members.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let key = self.members[index];
            if self.has_room(key) {
                self.turn = index + 1;
                let peer = self.id(key);
                self.push(key, wire);
                return Some(peer);
            }
        }
        self.wants_room = true;
        None
    }

    /// Sends a message in wire form to this peer; false if it has no room. A peer that has left
    /// misses it.
    pub(crate) fn send_to(&mut self, peer: PeerId, wire: &[u8]) -> bool {
        if !self.is_there(peer) {
            return true;
        }
        if !self.has_room(peer.key) {
            self.wants_room = true;
            return false;
        }
        self.push(peer.key, wire);
        true
    }

    /// Replies to this peer with these frames, in wire form. A REP reads nothing from a peer
    /// without room, so its replies need no limit of their own.
    pub(crate) fn reply(&mut self, peer: PeerId, envelope: &[u8], wire: &[u8]) {
        if self.is_there(peer) {
            let out = self.links[peer.key].connection.out();
            out.extend_from_slice(envelope);
            self.push(peer.key, wire);
        }
    }

    fn is_there(&self, peer: PeerId) -> bool {
        let link = self.links.get(peer.key);
        link.is_some_and(|link| link.serial == peer.serial)
    }

    /// Sends a message in wire form to all subscribers, or, with `is_for_all`, to all peers. False
    /// if one has no room. Unless the message is for all, a peer that has read nothing for a second
    /// misses it instead.
    pub(crate) fn publish(&mut self, wire: &[u8], is_for_all: bool) -> bool {
        let first = Frames::new(wire).next().map(|frame| frame.body);
        let first = first.unwrap_or_default();
        let mut missed = 0;
        self.wanted.clear();
        for key in &self.members {
            let link = &self.links[*key];
            if !is_for_all && !link.topics.matches(first) {
                continue;
            }
            if self.has_room(*key) {
                self.wanted.push(*key);
                continue;
            }
            let now = Instant::now();
            let since = *self.links[*key].full_since.get_or_insert(now);
            if is_for_all || now.duration_since(since) < STALL {
                self.wants_room = true;
                return false;
            }
            missed += 1;
        }
        self.missed += missed;
        let wanted = std::mem::take(&mut self.wanted);
        for key in &wanted {
            self.push(*key, wire);
        }
        self.wanted = wanted;
        true
    }

    /// The bytes that each peer may have in its queue.
    fn queue_size_max(&self) -> usize {
        let share = QUEUES_SIZE_MAX / self.members.len().max(1);
        share.clamp(QUEUE_SIZE_MIN, QUEUE_SIZE_MAX)
    }

    pub(super) fn has_room(&self, key: usize) -> bool {
        self.links[key].connection.unsent() < self.queue_size_max()
    }

    /// Queues bytes for a peer.
    fn push(&mut self, key: usize, wire: &[u8]) {
        let link = &mut self.links[key];
        link.is_owed = true;
        let connection = &mut link.connection;
        connection.out().extend_from_slice(wire);
        if connection.unsent() >= FLUSH_SIZE {
            self.flush(key);
        } else {
            self.mark(key);
        }
    }

    /// Notes that a link has bytes to be sent.
    pub(super) fn mark(&mut self, key: usize) {
        let link = &mut self.links[key];
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push(key);
        }
    }

    pub(super) fn flush_all(&mut self) {
        for key in std::mem::take(&mut self.dirty) {
            if let Some(link) = self.links.get_mut(key) {
                link.is_dirty = false;
                self.flush(key);
            }
        }
    }

    pub(super) fn flush(&mut self, key: usize) {
        // An answer to a PING would fail, and end the wait for the peer.
        if self.is_ended {
            return;
        }
        // The limit of all inputs may have ended any link.
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        match link.connection.flush() {
            Ok(false) => {}
            Ok(true) => {
                link.full_since = None;
                link.is_owed &= link.connection.unsent() > 0;
                let has_room = self.has_room(key);
                if self.wants_progress || self.wants_room && has_room {
                    (self.wants_progress, self.wants_room) = (false, false);
                    self.news.push_back(News::Room);
                }
                if has_room && self.session.socket_type == SocketType::Rep {
                    self.queue(key);
                }
            }
            Err(error) => self.lose(key, error),
        }
    }
}
