//! Cables: two pipes of bytes with a limited buffer, latency, and faults.
//!
//! ```text
//! write ──► | in transit (segments) | arrived | ──► read
//!           └──── used, at most capacity ─────┘ room is given back one latency after the read
//! ```

use crate::context::{Context, Event, Nanos, Owner};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};

/// One end of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Plug {
    pub(crate) cable: usize,
    /// 0 dialled, 1 accepted.
    pub(crate) side: usize,
}

impl Plug {
    pub(crate) fn other(self) -> Self {
        Self {
            side: 1 - self.side,
            ..self
        }
    }
}

/// The properties of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// Bytes that a pipe holds until they are read.
    pub(crate) capacity: usize,
    pub(crate) jitter: Nanos,
    pub(crate) latency: Nanos,
    /// Whether transfers are split at random.
    pub(crate) is_ragged: bool,
}

#[derive(Debug)]
pub(crate) struct Cable {
    /// The error that each side sees.
    errors: [Option<ErrorKind>; 2],
    is_closed: [bool; 2],
    /// Bytes do not arrive any more, and neither end learns of it.
    is_silent: bool,
    pub(crate) owners: [Owner; 2],
    /// By the side that writes.
    pipes: [Pipe; 2],
    quality: Quality,
    stalled_until: Nanos,
}

#[derive(Debug, Default)]
struct Pipe {
    arrived: usize,
    bytes: VecDeque<u8>,
    /// The writer has closed its side.
    is_finished: bool,
    /// The reader knows that the writer has closed its side.
    is_finish_seen: bool,
    is_writer_blocked: bool,
    /// The times at which bytes arrive; no bytes mean the end.
    segments: VecDeque<(Nanos, usize)>,
    used: usize,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Blocked,
    Broken,
    Taken(usize),
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Broken(ErrorKind),
    Data(usize),
    End,
    Nothing,
}

impl Context {
    /// Connects two owners; the first one dialled.
    pub(crate) fn connect(&mut self, owners: [Owner; 2]) -> Plug {
        let quality = self.quality();
        self.cables.push(Cable {
            errors: [None; 2],
            is_closed: [false; 2],
            is_silent: false,
            owners,
            pipes: [Pipe::default(), Pipe::default()],
            quality,
            stalled_until: 0,
        });
        Plug {
            cable: self.cables.len() - 1,
            side: 0,
        }
    }

    fn quality(&mut self) -> Quality {
        let random = &mut self.random;
        Quality {
            capacity: random.pick(&[1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20]),
            jitter: random.pick(&[0, 1_000, if self.is_even { 0 } else { 1_000_000 }]),
            latency: if self.is_even {
                50_000
            } else if self.has_beats {
                random.pick(&[1_000, 50_000, 1_000_000])
            } else {
                random.pick(&[1_000, 50_000, 1_000_000, 30_000_000])
            },
            is_ragged: random.chance(60),
        }
    }

    /// Writes as much of `slices` as there is room for.
    pub(crate) fn write(&mut self, plug: Plug, slices: &[IoSlice<'_>]) -> Written {
        let cable = &mut self.cables[plug.cable];
        let pipe = &mut cable.pipes[plug.side];
        if cable.errors[plug.side].is_some() || cable.is_closed[plug.side] || pipe.is_finished {
            return Written::Broken;
        }
        let mut room = cable.quality.capacity - pipe.used;
        if room == 0 {
            pipe.is_writer_blocked = true;
            return Written::Blocked;
        }
        if cable.quality.is_ragged {
            room = room.min(self.random.transfer_size());
        }
        let mut taken = 0;
        for slice in slices {
            let piece = &slice[..slice.len().min(room - taken)];
            self.trace.bytes(piece);
            if !cable.is_silent {
                pipe.bytes.extend(piece);
            }
            taken += piece.len();
        }
        pipe.used += taken;
        self.trace
            .note(self.now, "write", [plug.cable, plug.side, taken]);
        if !cable.is_silent {
            self.send(plug, taken);
        }
        Written::Taken(taken)
    }

    /// Sends a segment; one without bytes is the end.
    fn send(&mut self, plug: Plug, size: usize) {
        let cable = &mut self.cables[plug.cable];
        let Quality {
            jitter, latency, ..
        } = cable.quality;
        let pipe = &mut cable.pipes[plug.side];
        let before = pipe.segments.back().map_or(0, |(at, _)| *at);
        let at = (self.now + latency + self.random.range(0..=jitter))
            .max(before)
            .max(cable.stalled_until);
        pipe.segments.push_back((at, size));
        let plug = plug.other();
        self.queue.push(at, Event::Deliver { plug });
    }

    /// Delivers due bytes to `plug`; returns whether to notify its owner.
    pub(crate) fn deliver(&mut self, plug: Plug) -> bool {
        let now = self.now;
        let cable = &mut self.cables[plug.cable];
        let pipe = &mut cable.pipes[1 - plug.side];
        let mut has_news = false;
        while let Some((at, size)) = pipe.segments.front().copied() {
            if at > now {
                break;
            }
            pipe.segments.pop_front();
            has_news = true;
            pipe.arrived += size;
            pipe.is_finish_seen |= size == 0;
        }
        if has_news && cable.is_closed[plug.side] && pipe.arrived > 0 {
            // The reading end is closed: the writer learns of it.
            self.break_side(plug.other());
            return false;
        }
        has_news
    }

    /// Whether a read would return anything but [`Received::Nothing`].
    pub(crate) fn can_read(&self, plug: Plug) -> bool {
        let cable = &self.cables[plug.cable];
        let pipe = &cable.pipes[1 - plug.side];
        cable.errors[plug.side].is_some() || pipe.arrived > 0 || pipe.is_finish_seen
    }

    pub(crate) fn read(&mut self, plug: Plug, into: &mut [u8]) -> Received {
        let cable = &mut self.cables[plug.cable];
        if let Some(kind) = cable.errors[plug.side] {
            return Received::Broken(kind);
        }
        let pipe = &mut cable.pipes[1 - plug.side];
        if pipe.arrived == 0 {
            return if pipe.is_finish_seen {
                Received::End
            } else {
                Received::Nothing
            };
        }
        let mut size = pipe.arrived.min(into.len());
        if cable.quality.is_ragged {
            size = size.min(self.random.transfer_size());
        }
        for (to, from) in into.iter_mut().zip(pipe.bytes.drain(..size)) {
            *to = from;
        }
        pipe.arrived -= size;
        let writer = plug.other();
        let at = self.now + cable.quality.latency;
        self.queue.push(at, Event::Credit { plug: writer, size });
        self.trace
            .note(self.now, "read", [plug.cable, plug.side, size]);
        Received::Data(size)
    }

    /// Gives `plug` room back; returns whether its owner waits for it.
    pub(crate) fn credit(&mut self, plug: Plug, size: usize) -> bool {
        let cable = &mut self.cables[plug.cable];
        if cable.is_silent {
            return false;
        }
        let pipe = &mut cable.pipes[plug.side];
        // Bytes in transit may have vanished meanwhile.
        pipe.used = pipe.used.saturating_sub(size);
        std::mem::take(&mut pipe.is_writer_blocked)
    }

    /// Closes the writing side; bytes in transit arrive.
    pub(crate) fn finish(&mut self, plug: Plug) {
        let cable = &mut self.cables[plug.cable];
        let pipe = &mut cable.pipes[plug.side];
        if !pipe.is_finished && cable.errors[plug.side].is_none() {
            pipe.is_finished = true;
            if !cable.is_silent {
                self.send(plug, 0);
            }
        }
    }

    /// Closes one end. If it leaves unread bytes, the other end sees a reset and loses its unread
    /// bytes, as with TCP.
    pub(crate) fn close(&mut self, plug: Plug) {
        self.trace
            .note(self.now, "close", [plug.cable, plug.side, 0]);
        self.finish(plug);
        let cable = &mut self.cables[plug.cable];
        cable.is_closed[plug.side] = true;
        if cable.pipes[1 - plug.side].arrived > 0 {
            self.break_side(plug.other());
        }
    }

    /// Notifies `plug` of a reset after a delay; bytes in transit to it are lost.
    fn break_side(&mut self, plug: Plug) {
        let cable = &self.cables[plug.cable];
        if !cable.is_silent {
            let at = self.now + cable.quality.latency;
            let kind = ErrorKind::ConnectionReset;
            self.queue.push(at, Event::Break { plug, kind });
        }
    }

    /// A reset arrives; returns whether to notify the owner.
    pub(crate) fn break_now(&mut self, plug: Plug, kind: ErrorKind) -> bool {
        let cable = &mut self.cables[plug.cable];
        if cable.is_closed[plug.side] || cable.errors[plug.side].is_some() {
            return false;
        }
        cable.errors[plug.side] = Some(kind);
        for pipe in &mut cable.pipes {
            pipe.bytes.clear();
            pipe.segments.clear();
            pipe.arrived = 0;
        }
        self.trace
            .note(self.now, "broken", [plug.cable, plug.side, 0]);
        true
    }

    /// Both ends lose the connection; each learns of it at a time of its own.
    pub(crate) fn reset(&mut self, cable: usize, kind: ErrorKind) {
        for side in 0..2 {
            let at = self.now + self.random.range(0..=2_000_000);
            let plug = Plug { cable, side };
            self.queue.push(at, Event::Break { plug, kind });
        }
        let cable = &mut self.cables[cable];
        cable.is_silent = true;
        for pipe in &mut cable.pipes {
            pipe.bytes.clear();
            pipe.segments.clear();
            pipe.arrived = 0;
        }
    }

    /// From now on no bytes arrive on either side, and neither end learns of it.
    pub(crate) fn silence(&mut self, cable: usize) {
        let cable = &mut self.cables[cable];
        cable.is_silent = true;
        for pipe in &mut cable.pipes {
            pipe.bytes.truncate(pipe.arrived);
            pipe.segments.clear();
        }
    }

    /// From now on it is fast, so that bytes in transit arrive.
    pub(crate) fn speed_up(&mut self, cable: usize) {
        let cable = &mut self.cables[cable];
        cable.stalled_until = 0;
        cable.quality.capacity = cable.quality.capacity.max(256 << 10);
        cable.quality.jitter = 0;
        cable.quality.latency = 1000;
    }

    /// Bytes sent from now on do not arrive before `until`.
    pub(crate) fn stall(&mut self, cable: usize, until: Nanos) {
        self.cables[cable].stalled_until = until;
    }

    pub(crate) fn is_silent(&self, cable: usize) -> bool {
        self.cables[cable].is_silent
    }

    /// Whether no bytes are in transit on any cable.
    pub(crate) fn is_silent_everywhere(&self) -> bool {
        let is_empty = |pipe: &Pipe| pipe.bytes.is_empty() && pipe.segments.is_empty();
        let whole = (0..self.cables.len()).filter(|cable| self.is_whole(*cable));
        let pipes = whole.flat_map(|cable| &self.cables[cable].pipes);
        pipes.into_iter().all(is_empty)
    }

    /// Whether neither end has closed or lost it.
    pub(crate) fn is_whole(&self, cable: usize) -> bool {
        let cable = &self.cables[cable];
        !cable.is_silent && cable.is_closed == [false; 2] && cable.errors == [None; 2]
    }

    /// Whether this end has neither closed nor lost the connection.
    pub(crate) fn is_open(&self, plug: Plug) -> bool {
        let cable = &self.cables[plug.cable];
        !cable.is_closed[plug.side] && cable.errors[plug.side].is_none()
    }
}
