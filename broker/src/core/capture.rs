//! Copies of passing messages for those who read the capture.
//!
//! Who gets a copy is decided before the message is routed, since a reader may have to be written
//! first; copies are queued once it is sure that the message goes on. What a reader has no room for
//! it misses, and that is counted; unless the capture blocks: then the message waits in its sender
//! until a reader can take the copy.

use crate::config::Side;
use crate::conn::egress::Shared;
use crate::conn::outbox::Outbox;
use crate::conn::{ConnTable, Input, Overflowing, Room};
use crate::core::Core;
use crate::core::lane::{least_room, make_room};
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::pattern::{Outgoing, Route, count_missing, split_missing};
use crate::proxy::Socket;
use crate::proxy::watch::Watch;
use crate::why::Drop;
use std::ops::Range;
use zmtp::encode::append_frame;

/// The copies of the message being forwarded.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// What stands in front of the message.
    head: Vec<u8>,
    /// Why nobody gets it, if somebody might have.
    missed: Option<Drop>,
    /// Readers whose queues are full.
    missing: Vec<ConnId>,
    readers: Vec<ConnId>,
    /// What all readers have room for.
    room: Room,
    /// How much of the message the head holds already.
    skip: usize,
}

impl Copies {
    /// Whether nobody is to be written first before the next message can be shown, where copies are
    /// steady.
    #[inline]
    pub(super) fn have_room(&self) -> bool {
        self.room.is_any()
    }
}

/// What stands between a message and its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// This reader is full though the kernel was not asked to take of its queue: one that is
    /// written first, and asked again, misses nothing unless it is slow.
    Flush(ConnId),
    /// Nothing: the message may go on.
    Now,
    /// The capture blocks, and no reader can take the copy.
    Wait,
}

/// What it takes to show a message.
pub(super) struct Show<'a> {
    /// The capture, if the proxy has one.
    pub(super) capture: Option<&'a mut Socket>,
    pub(super) conns: &'a mut ConnTable,
    pub(super) copies: &'a mut Copies,
    /// Who sent it.
    pub(super) id: ConnId,
    pub(super) outbox: &'a mut Outbox,
    /// The identity frame of who sent it.
    pub(super) prefix: &'a [u8],
    /// The side through which it came in.
    pub(super) side: Side,
    pub(super) watch: &'a mut Watch,
}

impl Show<'_> {
    /// Decides which readers get a copy of a message. A message that does not wait for them though
    /// it should is one that none of them gets.
    #[inline(never)]
    pub(super) fn prepare(&mut self, wire: &[u8]) -> Ready {
        let Self {
            capture, copies, ..
        } = self;
        let Copies {
            head,
            missed,
            missing,
            readers,
            room,
            skip,
        } = &mut **copies;
        head.clear();
        missing.clear();
        readers.clear();
        (*missed, *skip) = (None, 0);
        *room = Room::UNLIMITED;
        let blocks = self.watch.blocks;
        let Some(capture) = capture.as_mut().filter(|capture| capture.peers > 0) else {
            *missed = blocks.then_some(Drop::PeerFull);
            return if blocks { Ready::Wait } else { Ready::Now };
        };
        *skip = self.watch.begin(self.side, self.prefix, wire, head);
        let message = Outgoing {
            is_matched: false,
            prefix: head,
            sender: self.id,
            wire,
        };
        let mut envelope = Vec::new();
        let (pattern, options) = (&mut capture.pattern, &capture.options);
        match pattern.route(message, self.conns, options, readers, &mut envelope) {
            Route::Flush(reader) => {
                *missed = Some(Drop::PeerFull);
                readers.clear();
                return Ready::Flush(reader);
            }
            Route::To { id, .. } => readers.push(id),
            Route::Targets { full } => {
                missing.extend(split_missing(readers, full));
                *room = least_room(readers, self.conns, options);
            }
            Route::Drop(reason) => *missed = Some(reason),
            Route::Full(_) | Route::Subscription { .. } | Route::Wait => {
                *missed = Some(Drop::PeerFull);
                readers.clear();
                if blocks {
                    return Ready::Wait;
                }
            }
        }
        Ready::Now
    }

    /// Queues the copies of a message that goes on, which is a range of `input`.
    #[inline(never)]
    pub(super) fn range(&mut self, input: &Input, range: Range<usize>) {
        self.count(&input.buffer()[range.clone()]);
        let Copies {
            head,
            readers,
            skip,
            ..
        } = &*self.copies;
        for reader in readers {
            let range = range.start + skip..range.end;
            self.outbox
                .push_input(self.conns, *reader, head, input, range);
        }
    }

    /// Queues the copies of a message that goes on, whose bytes are shared.
    #[inline(never)]
    pub(super) fn shared(&mut self, wire: &Shared) {
        self.count(wire);
        let Copies {
            head,
            readers,
            skip,
            ..
        } = &*self.copies;
        for reader in readers {
            let body = wire.skip(*skip);
            self.outbox.push_shared(self.conns, *reader, head, body);
        }
    }

    fn set_blocked(&mut self, reader: ConnId, is_blocked: bool) {
        if let Some(conn) = self.conns.get_mut(reader) {
            conn.is_blocked = is_blocked;
        }
    }

    /// Records a message that goes on.
    fn record(&mut self, wire: &[u8]) {
        if self.watch.tape().is_some() {
            let peer = self.conns.get(self.id).map(|conn| conn.peer);
            self.watch
                .record(self.side, self.id, peer, &[self.prefix, wire]);
        }
    }

    /// Counts a message that goes on, and its copies; makes room for them.
    fn count(&mut self, wire: &[u8]) {
        self.watch.count(self.side, self.prefix, wire);
        self.record(wire);
        let Copies {
            head,
            missed,
            missing,
            readers,
            room,
            skip,
            ..
        } = &mut *self.copies;
        let Some(capture) = &mut self.capture else {
            return;
        };
        if let Some(reason) = missed {
            capture.stats.count_drop(*reason);
            if *reason == Drop::PeerFull && capture.begins_to_overflow() {
                let overflowing = Overflowing::Socket(capture.id);
                self.conns.overflowing.push_back(overflowing);
            }
        }
        let stats = &mut capture.stats;
        count_missing(stats, self.conns, missing.iter().copied(), 1);
        let size = head.len() + wire.len() - *skip;
        stats.count_out(readers.len(), 1, size);
        *room = room.behind(1, size);
        if !readers.is_empty() && capture.options.overflow.takes_back() {
            make_room(self.conns, self.outbox, capture, readers, wire);
        }
    }
}

impl Core {
    /// What it takes to show a message from `id` that came in through a side of a proxy.
    pub(super) fn show(&mut self, id: ConnId, side: Side, proxy: ProxyId) -> Show<'_> {
        let proxy = &mut self.proxies[proxy];
        Show {
            capture: proxy.capture.map(|capture| &mut self.sockets[capture]),
            conns: &mut self.conns,
            copies: &mut self.scratch.copies,
            id,
            outbox: &mut self.outbox,
            prefix: &self.scratch.prefix,
            side,
            watch: &mut proxy.watch,
        }
    }

    /// Shows a subscription or a cancel that an XPUB passes on, as the message that an application
    /// would get.
    pub(super) fn show_subscription(
        &mut self,
        id: ConnId,
        from: SocketId,
        topic: &[u8],
        add: bool,
    ) {
        let Socket { name, proxy, .. } = self.sockets[from];
        let Some(side) = name.side().filter(|_| self.proxies[proxy].watch.is_active) else {
            return;
        };
        let mut wire = Vec::with_capacity(topic.len() + 10);
        append_frame(&mut wire, &[&[u8::from(add)], topic].concat(), false);
        let mut show = Show {
            prefix: &[],
            ..self.show(id, side, proxy)
        };
        // A subscription does not wait for a reader, even where messages do: one that is full
        // misses it, as if the kernel took nothing of it, and the others do not.
        let mut full = Vec::new();
        while let Ready::Flush(reader) = show.prepare(&wire) {
            show.set_blocked(reader, true);
            full.push(reader);
        }
        for reader in full {
            show.set_blocked(reader, false);
        }
        show.count(&wire);
        let Copies { head, readers, .. } = &mut self.scratch.copies;
        head.extend_from_slice(&wire);
        for reader in readers {
            self.outbox.push_bytes(&mut self.conns, *reader, head, 1);
        }
    }
}
