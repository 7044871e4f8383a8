//! The four roles of a peer of the load generator. None ever blocks.
//!
//! ```text
//! source ──► proxy ──► sink             requester ◄──► proxy ◄──► echo
//! ```

use std::io;

use super::load::{Load, Tally};
use crate::client;

/// A connection and its role.
#[derive(Debug)]
pub(super) struct Peer {
    role: Role,
    wire: Wire,
}

/// The role of a peer. When it stops, its sent bytes end with a whole message.
#[derive(Debug)]
pub(super) enum Role {
    /// Sends back the bytes it receives.
    Echo {
        /// Received bytes, of which those from `start` on were not sent back yet.
        pending: Vec<u8>,
        /// The number of bytes of `pending` that were sent.
        start: usize,
    },
    /// Keeps a number of requests outstanding.
    Requester {
        /// The limit of outstanding messages.
        window: u64,
        /// Bytes sent.
        sent: u64,
        /// Replies received.
        tally: Tally,
    },
    /// Receives and counts.
    Sink {
        /// Messages received.
        tally: Tally,
    },
    /// Sends as fast as it can.
    Source {
        /// Bytes sent.
        sent: u64,
    },
}

impl Peer {
    /// A peer on a connection after its handshake, which has received nothing since.
    pub(super) fn new(stream: client::Wire, role: Role) -> Self {
        // Edge-triggered polling reports only changes, so the first attempt needs no event.
        let wire = Wire {
            is_closing: false,
            is_readable: true,
            is_writable: true,
            stream,
        };
        Self { role, wire }
    }

    /// Notes an event of the poll.
    pub(super) fn handle_event(&mut self, event: &mio::event::Event) {
        self.wire.is_readable |= event.is_readable() || event.is_read_closed();
        self.wire.is_writable |= event.is_writable() || event.is_write_closed();
        self.wire.is_closing |= event.is_read_closed() || event.is_error();
    }

    /// Moves at most one buffer of bytes each way. `goal` is the total number of messages that a
    /// source may have sent; a lower goal only completes the message in progress.
    ///
    /// # Errors
    /// The connection is closed, or delivers bytes that were not sent.
    pub(super) fn turn(&mut self, load: &Load, goal: u64, scratch: &mut Vec<u8>) -> io::Result<()> {
        let wire = &mut self.wire;
        match &mut self.role {
            Role::Echo { pending, start } => echo(wire, pending, start, scratch),
            Role::Requester {
                window,
                sent,
                tally,
            } => {
                receive(wire, tally, load, scratch)?;
                let goal = goal.min(tally.messages() + *window);
                send(wire, sent, load, goal)
            }
            Role::Sink { tally } => receive(wire, tally, load, scratch),
            Role::Source { sent } => send(wire, sent, load, goal),
        }
    }

    /// Whether another turn would make progress without waiting.
    pub(super) fn is_runnable(&self, load: &Load, goal: u64) -> bool {
        let Wire {
            is_readable,
            is_writable,
            ..
        } = self.wire;
        if is_writable && self.wire.stream.has_unsent() {
            return true;
        }
        match &self.role {
            Role::Echo { pending, .. } if pending.is_empty() => is_readable,
            Role::Echo { .. } => is_writable,
            Role::Requester {
                window,
                sent,
                tally,
            } => {
                let goal = goal.min(tally.messages() + *window);
                is_readable || is_writable && due(*sent, load, goal) > 0
            }
            Role::Sink { .. } => is_readable,
            Role::Source { sent } => is_writable && due(*sent, load, goal) > 0,
        }
    }

    /// Messages sent, including the one in progress.
    pub(super) fn sent(&self, load: &Load) -> u64 {
        match &self.role {
            Role::Requester { sent, .. } | Role::Source { sent } => {
                sent.div_ceil(load.message_size() as u64)
            }
            Role::Echo { .. } | Role::Sink { .. } => 0,
        }
    }

    /// Whole messages received, if this role counts them.
    pub(super) fn received(&self) -> Option<u64> {
        match &self.role {
            Role::Requester { tally, .. } | Role::Sink { tally } => Some(tally.messages()),
            Role::Echo { .. } | Role::Source { .. } => None,
        }
    }
}

/// A socket and its state.
#[derive(Debug)]
struct Wire {
    /// The other side has closed its direction, so that every read must go on to the end.
    is_closing: bool,
    is_readable: bool,
    is_writable: bool,
    stream: client::Wire,
}

impl Wire {
    /// The number of plain bytes; zero if nothing is available. A short read means that no more was
    /// available (epoll(7)), which saves another read.
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let room = buffer.len();
        match self.stream.read(buffer) {
            Ok(heard) if heard.raw == 0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "closed by the proxy",
            )),
            Ok(heard) => {
                self.is_readable = self.is_closing || heard.raw == room;
                Ok(heard.plain)
            }
            Err(error) => none_if_blocked(error, &mut self.is_readable),
        }
    }

    /// Zero if the kernel has no room.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Ok((size, is_blocked)) => {
                self.is_writable = !is_blocked;
                Ok(size)
            }
            Err(error) => none_if_blocked(error, &mut self.is_writable),
        }
    }
}

fn none_if_blocked(error: io::Error, flag: &mut bool) -> io::Result<usize> {
    match error.kind() {
        io::ErrorKind::WouldBlock => *flag = false,
        io::ErrorKind::Interrupted => {}
        _ => return Err(error),
    }
    Ok(0)
}

fn echo(
    wire: &mut Wire,
    pending: &mut Vec<u8>,
    start: &mut usize,
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    if wire.stream.has_unsent() && wire.is_writable {
        wire.write(&[])?;
    }
    if pending.is_empty() && wire.is_readable {
        let size = wire.read(scratch)?;
        let received = &scratch[..size];
        let sent = if received.is_empty() {
            0
        } else {
            wire.write(received)?
        };
        pending.extend_from_slice(&received[sent..]);
    } else if !pending.is_empty() && wire.is_writable {
        *start += wire.write(&pending[*start..])?;
        if *start == pending.len() {
            pending.clear();
            *start = 0;
        }
    }
    Ok(())
}

fn receive(
    wire: &mut Wire,
    tally: &mut Tally,
    load: &Load,
    scratch: &mut Vec<u8>,
) -> io::Result<()> {
    if !wire.is_readable {
        return Ok(());
    }
    let size = wire.read(scratch)?;
    tally.feed(load, &scratch[..size]).map_err(|_mismatch| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "delivered bytes that were not sent",
        )
    })
}

fn send(wire: &mut Wire, sent: &mut u64, load: &Load, goal: u64) -> io::Result<()> {
    let due = due(*sent, load, goal);
    if (due > 0 || wire.stream.has_unsent()) && wire.is_writable {
        let block = load.block();
        let start = usize::try_from(*sent % block.len() as u64).unwrap_or_default();
        let end = block.len().min(start.saturating_add(due));
        *sent += wire.write(&block[start..end])? as u64;
    }
    Ok(())
}

/// Bytes to send until `goal` messages are sent, and at least the rest of the message in progress.
fn due(sent: u64, load: &Load, goal: u64) -> usize {
    let size = load.message_size() as u64;
    let end = goal.max(sent.div_ceil(size)).saturating_mul(size);
    usize::try_from(end - sent).unwrap_or(usize::MAX)
}
