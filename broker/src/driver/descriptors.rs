//! What the broker can do without when all file descriptors are in use.

use super::stream::{State, Stream};
use super::{Broker, stream_of};
use crate::ids::ConnId;
use std::time::Instant;

impl Broker {
    /// All file descriptors are in use, so not even a receiver of waiting messages can connect.
    /// Peers that have closed and whose messages wait do not need theirs: the rest of their input
    /// is read.
    pub(super) fn release_descriptors(&mut self, now: Instant) {
        self.core.charge_walk();
        let is_gone = |stream: &&Stream| {
            stream.is_read_closed
                && stream.state == State::Open
                && self.core.is_suspended(stream.id)
        };
        let streams = self.streams.iter().flatten().filter(is_gone);
        let gone: Vec<ConnId> = streams.map(|stream| stream.id).collect();
        gone.into_iter().for_each(|id| self.take_rest(now, id));
    }

    /// Reads the rest of the input of a peer that has closed, as far as there is memory, and closes
    /// its descriptor.
    fn take_rest(&mut self, now: Instant, id: ConnId) {
        while let Some(stream) = stream_of(&mut self.streams, id)
            && self.core.has_memory_to_spare()
            && self.core.may_read_on()
        {
            let mut input = self.core.begin_input(id, &mut self.scratch);
            let size = stream.read(input.spare());
            match size {
                Ok(None) => {}
                Ok(Some(size @ 1..)) => {
                    input.filled(size);
                    self.core.handle_input(now, id, &mut input);
                }
                Ok(Some(0)) | Err(_) => {
                    stream.release();
                    self.core.handle_read_closed(id, None);
                }
            }
            self.core.end_input(id, input, &mut self.scratch);
            if !matches!(size, Ok(Some(1..))) {
                return;
            }
        }
    }
}
