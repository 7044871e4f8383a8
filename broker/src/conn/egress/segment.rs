//! A part of a queue whose messages are kept apart: adjacent bytes, and a list of the positions at
//! which the messages begin.

use super::buffer::Buffer;
use super::shared::Shared;

/// The state of a unit: a message, a command, or the rest of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Stays in place; not a message.
    Command,
    /// Was removed.
    Hole,
    /// Can be removed while no byte of it was written.
    Message,
    /// A message whose beginning is gone; stays.
    Rest,
}

/// A unit in eight bytes: its position, its state, and the time at which it was queued, in
/// microseconds since its segment's epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    place: u32,
    pub(super) time: u32,
}

impl Unit {
    /// Two bits hold the state.
    pub(super) const START_MAX: usize = (1 << 30) - 1;

    pub(super) fn new(start: usize, state: State, time: u32) -> Self {
        debug_assert!(start <= Self::START_MAX);
        let start = u32::try_from(start).unwrap_or(0);
        Self {
            place: start << 2 | state as u32,
            time,
        }
    }

    pub(super) fn start(self) -> usize {
        (self.place >> 2) as usize
    }

    pub(super) fn state(self) -> State {
        match self.place & 3 {
            0 => State::Command,
            1 => State::Hole,
            2 => State::Message,
            _ => State::Rest,
        }
    }

    fn set_hole(&mut self) {
        self.place = self.place & !3 | State::Hole as u32;
    }
}

#[derive(Debug)]
pub(super) enum Content {
    Owned(Buffer),
    Shared(Shared),
}

/// Invariants: `head` is the first unit that is neither sent nor a hole, and exists; only in the
/// first segment of a queue may bytes of it be `begun`. `live` counts the bytes to send, `holes`
/// the removed units after the head.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) begun: usize,
    pub(super) content: Content,
    /// The time to which the times of units are relative.
    pub(super) epoch: u64,
    /// The number of the first unit.
    pub(super) first: u64,
    pub(super) head: usize,
    pub(super) holes: usize,
    pub(super) live: usize,
    /// Messages to send, whole or not.
    pub(super) messages: u32,
    pub(super) units: Vec<Unit>,
}

impl Segment {
    pub(super) fn new(content: Content, first: u64, epoch: u64) -> Self {
        Self {
            begun: 0,
            content,
            epoch,
            first,
            head: 0,
            holes: 0,
            live: 0,
            messages: 0,
            units: Vec::new(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Owned(bytes) => bytes,
            Content::Shared(shared) => shared,
        }
    }

    /// Bytes of memory, without a shared block.
    pub(super) fn owned(&self) -> usize {
        let bytes = match &self.content {
            Content::Owned(bytes) => bytes.capacity(),
            Content::Shared(_) => 0,
        };
        bytes + self.units.capacity() * size_of::<Unit>()
    }

    /// The size of the block that it shares with others.
    pub(super) fn block(&self) -> u64 {
        match &self.content {
            Content::Owned(_) => 0,
            Content::Shared(shared) => shared.block_size(),
        }
    }

    /// Whether a unit of this size, queued at this time, fits after the others.
    pub(super) fn has_room(&self, size: usize, micros: u64) -> bool {
        match &self.content {
            Content::Owned(bytes) => {
                bytes.capacity() - bytes.len() >= size && u32::try_from(micros - self.epoch).is_ok()
            }
            Content::Shared(_) => false,
        }
    }

    /// Appends a unit whose bytes are there or follow.
    pub(super) fn push_unit(&mut self, start: usize, size: usize, state: State, micros: u64) {
        let time = u32::try_from(micros - self.epoch).unwrap_or(u32::MAX);
        self.units.push(Unit::new(start, state, time));
        self.live += size;
        self.messages += u32::from(state != State::Command);
    }

    /// The same as [`Self::push_unit`], with the bytes.
    pub(super) fn push(&mut self, parts: &[&[u8]], state: State, micros: u64) {
        let Content::Owned(bytes) = &mut self.content else {
            return;
        };
        let start = bytes.len();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let size = bytes.len() - start;
        self.push_unit(start, size, state, micros);
    }

    /// The range of a unit.
    pub(super) fn range(&self, unit: usize) -> std::ops::Range<usize> {
        let next = self.units.get(unit + 1);
        let end = next.map_or_else(|| self.bytes().len(), |next| next.start());
        self.units[unit].start()..end
    }

    pub(super) fn unit(&self, unit: usize) -> &[u8] {
        &self.bytes()[self.range(unit)]
    }

    /// The bytes from the first unsent one, including holes.
    pub(super) fn left(&self) -> &[u8] {
        &self.bytes()[self.units[self.head].start() + self.begun..]
    }

    /// Whether a unit can be removed.
    pub(super) fn can_drop(&self, unit: usize) -> bool {
        let is_begun = unit == self.head && self.begun > 0;
        unit >= self.head && self.units[unit].state() == State::Message && !is_begun
    }

    /// The time at which a unit was queued.
    pub(super) fn micros(&self, unit: usize) -> u64 {
        self.epoch + u64::from(self.units[unit].time)
    }

    /// Removes a message; returns its size.
    pub(super) fn make_hole(&mut self, unit: usize) -> usize {
        let size = self.range(unit).len();
        self.units[unit].set_hole();
        self.live -= size;
        self.messages -= 1;
        self.holes += 1;
        if unit == self.head {
            self.skip_holes();
        }
        size
    }

    /// Steps over the unit at the head.
    pub(super) fn pass_head(&mut self) {
        self.messages -= u32::from(self.units[self.head].state() != State::Command);
        self.begun = 0;
        self.head += 1;
        self.skip_holes();
    }

    /// Whether its first unit is a partly written message.
    pub(super) fn is_begun(&self) -> bool {
        match self.units[self.head].state() {
            State::Message => self.begun > 0,
            State::Rest => true,
            State::Command | State::Hole => false,
        }
    }

    fn skip_holes(&mut self) {
        while let Some(unit) = self.units.get(self.head)
            && unit.state() == State::Hole
        {
            self.head += 1;
            self.holes -= 1;
        }
    }

    /// Whether more than half of the bytes after the head are holes, or three quarters of a shared
    /// block are not needed.
    pub(super) fn is_sparse(&self) -> bool {
        match &self.content {
            Content::Owned(_) => {
                let units = self.units.len() - self.head;
                self.holes * 2 > units || self.holes > 0 && self.live * 2 < self.left().len()
            }
            Content::Shared(shared) => shared.is_wasted_on(self.live),
        }
    }
}
