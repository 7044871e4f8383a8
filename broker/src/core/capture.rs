//! Copies of passing messages for those who read the capture.
//!
//! Who gets a copy is decided before the message is routed, since a reader may have to be written
//! first; copies are queued once it is sure that the message goes on. They never wait: what a
//! reader has no room for it misses, and that is counted.

use crate::config::Side;
use crate::conn::{ConnId, Input, SocketId};
use crate::core::{Core, Flow};
use crate::pattern::{Admit, Outgoing, Route};
use crate::why::Drop;
use bytes::Bytes;
use std::ops::Range;
use zmtp::encode::append_frame;

/// The copies of the message being forwarded.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// What stands in front of the message.
    head: Vec<u8>,
    /// How many readers miss it, and why.
    missed: Option<(Drop, u32)>,
    readers: Vec<ConnId>,
    /// How much of the message the head holds already.
    skip: usize,
}

impl Copies {
    fn clear(&mut self) {
        self.head.clear();
        self.missed = None;
        self.readers.clear();
        self.skip = 0;
    }
}

impl Core {
    /// Decides who gets a copy of a message that came in through `socket`. Answers with
    /// [`Flow::Flush`] if a reader is to be written first, which misses nothing unless it is slow.
    #[inline(never)]
    pub(super) fn find_readers(
        &mut self,
        id: ConnId,
        socket: SocketId,
        wire: &[u8],
    ) -> Option<Flow> {
        let pattern = &self.proxies[socket.proxy as usize]
            .socket(socket.side)
            .pattern;
        let Admit::Pass { skip } = pattern.admit(id, wire) else {
            return None;
        };
        let reader = self.prepare_copies(id, socket, &wire[skip..])?;
        self.outbox.mark_urgent(reader);
        Some(Flow::Flush)
    }

    /// Answers with a reader that is full though the kernel was not asked to take of its queue.
    fn prepare_copies(&mut self, id: ConnId, socket: SocketId, wire: &[u8]) -> Option<ConnId> {
        let proxy = &mut self.proxies[socket.proxy as usize];
        let copies = &mut self.copies;
        copies.clear();
        let capture = &mut proxy.capture;
        if capture.peers == 0 {
            return None;
        }
        let head = &mut copies.head;
        copies.skip = proxy.watch.begin(socket.side, &self.prefix, wire, head);
        let message = Outgoing {
            prefix: head,
            sender: id,
            wire,
        };
        let (conns, options) = (&mut self.conns, &capture.options);
        let (readers, mut envelope) = (&mut copies.readers, Vec::new());
        match capture
            .pattern
            .route(message, conns, options, readers, &mut envelope)
        {
            Route::Flush(reader) => {
                copies.missed = Some((Drop::PeerFull, 1));
                readers.clear();
                return Some(reader);
            }
            Route::To { id, .. } => readers.push(id),
            Route::Targets { full } => copies.missed = Some((Drop::PeerFull, full)),
            Route::Drop(reason) => copies.missed = Some((reason, 1)),
            Route::Full(_) | Route::Subscription { .. } | Route::Wait => {
                copies.missed = Some((Drop::PeerFull, 1));
                readers.clear();
            }
        }
        None
    }

    /// Queues the copies of a message that goes on, which is a range of `input`.
    #[inline(never)]
    pub(super) fn show_range(&mut self, socket: SocketId, input: &Input, range: Range<usize>) {
        self.count_copies(socket, &input.buffer()[range.clone()]);
        let copies = &self.copies;
        for reader in &copies.readers {
            let range = range.start + copies.skip..range.end;
            self.outbox
                .push_input(&mut self.conns, *reader, &copies.head, input, range);
        }
    }

    /// Queues the copies of a message that goes on, whose bytes are shared.
    #[inline(never)]
    pub(super) fn show_shared(&mut self, socket: SocketId, wire: &Bytes) {
        self.count_copies(socket, wire);
        let copies = &self.copies;
        for reader in &copies.readers {
            let body = wire.slice(copies.skip..);
            self.outbox
                .push_shared(&mut self.conns, *reader, &copies.head, body);
        }
    }

    /// Counts a message that goes on, and its copies; makes room for them.
    fn count_copies(&mut self, socket: SocketId, wire: &[u8]) {
        let proxy = &mut self.proxies[socket.proxy as usize];
        proxy.watch.count(socket.side, &self.prefix, wire);
        let copies = &mut self.copies;
        let stats = &mut proxy.capture.stats;
        if let Some((reason, count)) = copies.missed.take() {
            stats.count_drops(reason, count);
        }
        let size = copies.head.len() + wire.len() - copies.skip;
        stats.count_out(copies.readers.len(), size);
        if !copies.readers.is_empty() && proxy.capture.options.overflow.takes_back() {
            let readers = std::mem::take(&mut copies.readers);
            let side = Side::Capture;
            self.make_room(SocketId { side, ..socket }, &readers, wire);
            self.copies.readers = readers;
        }
    }

    /// Shows a subscription or a cancel that an XPUB passes on, as the message that an application
    /// would get.
    pub(super) fn show_subscription(
        &mut self,
        id: ConnId,
        socket: SocketId,
        topic: &[u8],
        add: bool,
    ) {
        if !self.proxies[socket.proxy as usize].watch.is_active {
            return;
        }
        let mut wire = Vec::with_capacity(topic.len() + 10);
        append_frame(&mut wire, &[&[u8::from(add)], topic].concat(), false);
        self.prefix.clear();
        // There is no waiting for a reader here: one that is full misses it.
        let _ = self.prepare_copies(id, socket, &wire);
        self.count_copies(socket, &wire);
        let Copies { head, readers, .. } = &mut self.copies;
        head.extend_from_slice(&wire);
        for reader in readers {
            self.outbox.push_bytes(&mut self.conns, *reader, head, 1);
        }
    }
}
