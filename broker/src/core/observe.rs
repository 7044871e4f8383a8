//! Observers of passing messages: the capture, the recording and the counters.
//!
//! The loops that forward messages call them in two places. [`Observer::reserve`] decides before a
//! message is routed which readers of the capture get a copy, since a reader may have to be written
//! first. [`Observer::observe`] takes note of a message that goes on. A reader without room misses
//! a copy, which is counted. If the capture blocks, the message waits in its sender instead, until
//! a reader has room.

use crate::config::Side;
use crate::conn::egress::Shared;
use crate::conn::outbox::Outbox;
use crate::conn::{ConnTable, Input, Overflowing, Room};
use crate::core::closed::identity;
use crate::core::timers::Owner;
use crate::core::{Admin, AdminError, Core};
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::limits::SAMPLE_PATIENCE;
use crate::pattern::{Outgoing, Route, count_missing, split_missing};
use crate::proxy::Socket;
use crate::proxy::observers::Observers;
use crate::proxy::sample::{self, Sample, Sampled};
use crate::reason::DropReason;
use crate::view::SampleView;
use std::ops::Range;
use std::time::Duration;
use zmtp::encode::append_frame;

/// The copies of the message being forwarded.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// The bytes in front of the message.
    head: Vec<u8>,
    /// Why no reader gets it, although one was eligible.
    missed: Option<DropReason>,
    /// Readers whose queues are full.
    missing: Vec<ConnId>,
    readers: Vec<ConnId>,
    /// The room that all readers have.
    room: Room,
    /// The number of the message's bytes that the head already contains.
    skip: usize,
}

/// Whether a message may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// This reader is full, but the kernel was not asked to take its queue. It is written first,
    /// then the call is repeated, so that a reader misses copies only if it is slow.
    Flush(ConnId),
    /// The message may go on.
    Now,
    /// The capture blocks, and no reader has room for the copy.
    Wait,
}

/// The sender of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    pub(super) id: ConnId,
    /// The prefix of its messages: the identity frame, if a ROUTER received them.
    pub(super) prefix: &'a [u8],
    /// The side that received them.
    pub(super) side: Side,
}

/// The bytes of a message that goes on.
#[derive(Debug)]
pub(super) enum Wire<'a> {
    /// Bytes, of which the copies share nothing with other queues.
    Bytes(&'a [u8]),
    /// A range of an input.
    Range(&'a Input, Range<usize>),
    /// Bytes that queues share.
    Shared(&'a Shared),
}

/// The observers of one proxy, and the tools to observe a message.
#[derive(Debug)]
pub(super) struct Observer<'a> {
    /// The capture, if the proxy has one.
    pub(super) capture: Option<&'a mut Socket>,
    pub(super) copies: &'a mut Copies,
    pub(super) parts: &'a mut Observers,
}

impl Observer<'_> {
    /// Decides which readers of the capture get a copy of a message. If a message goes on although
    /// its readers are full and the capture blocks, none gets a copy.
    #[inline(never)]
    pub(super) fn reserve(
        &mut self,
        conns: &mut ConnTable,
        sender: Sender<'_>,
        wire: &[u8],
    ) -> Ready {
        let Copies {
            head,
            missed,
            missing,
            readers,
            room,
            skip,
        } = &mut *self.copies;
        head.clear();
        missing.clear();
        readers.clear();
        (*missed, *skip) = (None, 0);
        *room = Room::UNLIMITED;
        let form = &self.parts.capture;
        let Some(capture) = self.capture.as_mut().filter(|it| it.peers > 0) else {
            *missed = form.blocks.then_some(DropReason::PeerFull);
            return if form.blocks { Ready::Wait } else { Ready::Now };
        };
        *skip = form.begin(sender.side, sender.prefix, wire, head);
        let message = Outgoing {
            is_matched: false,
            prefix: head,
            sender: sender.id,
            wire,
        };
        let mut envelope = Vec::new();
        let Socket {
            options, pattern, ..
        } = &mut **capture;
        match pattern.route(message, conns, options, readers, &mut envelope) {
            Route::Flush(reader) => {
                *missed = Some(DropReason::PeerFull);
                readers.clear();
                return Ready::Flush(reader);
            }
            Route::To { id, .. } => readers.push(id),
            Route::Targets { full } => {
                missing.extend(split_missing(readers, full));
                *room = conns.least_room(readers, options);
            }
            Route::Drop(reason) => *missed = Some(reason),
            Route::Full(_) | Route::Subscription { .. } | Route::Wait => {
                *missed = Some(DropReason::PeerFull);
                readers.clear();
                if form.blocks {
                    return Ready::Wait;
                }
            }
        }
        Ready::Now
    }

    /// Whether the readers of the last message have room for another one, if all copies go to the
    /// same readers.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.copies.room.is_any()
    }

    /// The number of topics that the messages observed have added to the last values, or removed,
    /// since the last call.
    #[inline]
    pub(super) fn take_changed_topics(&mut self) -> u64 {
        self.parts.take_changed_topics()
    }

    /// Takes note of a message that goes on: counts it, records it, and queues its copies for the
    /// readers chosen by [`Self::reserve`].
    #[inline(never)]
    pub(super) fn observe(
        &mut self,
        conns: &mut ConnTable,
        outbox: &mut Outbox,
        sender: Sender<'_>,
        wire: &Wire<'_>,
    ) {
        let bytes = wire.bytes();
        let Sender { id, prefix, side } = sender;
        self.parts.count(side, prefix, bytes);
        let recording = &mut self.parts.recording;
        if recording.tape().is_some() {
            let conn = conns.get(id);
            let peer = conn.map(|conn| (conn.peer, conn.user.as_deref()));
            recording.record(side, id, peer, &[prefix, bytes]);
        }
        let shared = match wire {
            Wire::Shared(shared) => Some(*shared),
            Wire::Bytes(_) | Wire::Range(..) => None,
        };
        self.parts.keep(side, (bytes, shared), &outbox.store);
        if let Some(sample) = &mut self.parts.sample
            && sample.takes(outbox.store.stamp)
        {
            let conn = conns.get(id);
            let (frames, has_more) = sample::begin(bytes);
            sample.push(Sampled {
                frames,
                has_more,
                id,
                identity: conn.map_or(&[][..], identity).into(),
                peer: conn.map(|conn| conn.peer),
                side,
                size: bytes.len(),
                stamp: outbox.store.stamp,
                user: conn.and_then(|conn| conn.user.as_deref()).map(Into::into),
            });
        }
        if let Some(capture) = &mut self.capture {
            self.copies.count(conns, outbox, capture, bytes);
            self.copies.queue(conns, outbox, wire);
        }
    }
}

impl Wire<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Range(input, range) => &input.buffer()[range.clone()],
            Self::Shared(shared) => shared,
        }
    }
}

impl Copies {
    /// Counts the copies of a message, and makes room for them.
    #[inline]
    fn count(
        &mut self,
        conns: &mut ConnTable,
        outbox: &mut Outbox,
        capture: &mut Socket,
        wire: &[u8],
    ) {
        if let Some(reason) = self.missed {
            capture.stats.count_drop(reason);
            if reason == DropReason::PeerFull && capture.begins_to_overflow() {
                let overflowing = Overflowing::Socket(capture.id);
                conns.overflowing.push_back(overflowing);
            }
        }
        let stats = &mut capture.stats;
        if !self.missing.is_empty() {
            count_missing(stats, conns, self.missing.iter().copied(), 1);
        }
        let size = self.head.len() + wire.len() - self.skip;
        stats.count_out(self.readers.len(), 1, size);
        self.room = self.room.behind(1, size);
        if !self.readers.is_empty() && capture.options.overflow.takes_back() {
            capture.make_room(conns, &mut outbox.store, &self.readers, wire);
        }
    }

    /// Queues the copies of a message.
    #[inline]
    fn queue(&mut self, conns: &mut ConnTable, outbox: &mut Outbox, wire: &Wire<'_>) {
        let (head, skip) = (&mut self.head, self.skip);
        let readers = self.readers.iter().copied();
        match wire {
            Wire::Bytes(bytes) => {
                head.extend_from_slice(&bytes[skip..]);
                for reader in readers {
                    outbox.push_bytes(conns, reader, head, 1);
                }
            }
            Wire::Range(input, range) => {
                for reader in readers {
                    let range = range.start + skip..range.end;
                    outbox.push_input(conns, reader, head, input, range);
                }
            }
            Wire::Shared(shared) => {
                for reader in readers {
                    outbox.push_shared(conns, reader, head, shared.skip(skip));
                }
            }
        }
    }
}

impl Admin<'_> {
    /// The newest messages that have passed through a proxy, the latest first: at most 20, of which
    /// 20 are taken at once and then in each second. Of each it has the beginnings of its first
    /// frames. The sample begins, empty, with the first question, and ends 10 seconds after the
    /// last one; messages cost more meanwhile.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`]; [`AdminError::NoMemory`] if all samples would take more than a
    /// 16th of the memory limit.
    pub fn sample(&mut self, proxy: ProxyId) -> Result<Vec<SampleView>, AdminError> {
        self.find(proxy)?;
        let core = &mut *self.core;
        let stamp = core.clock.stamp();
        if core.proxies[proxy].observers.sample.is_none() {
            let limit = core.memory.limit();
            let samples = core.proxies.iter();
            let samples = samples.filter(|(_, it)| it.observers.sample.is_some());
            let memory = (samples.count() as u64 + 1) * sample::MEMORY;
            if limit > 0 && memory > limit / SAMPLES_SHARE {
                return Err(AdminError::NoMemory);
            }
            let begun = Some(Sample::new(stamp));
            core.proxies[proxy].observers.set_sample(begun);
            core.account_topic_counts();
        }
        let end = core.clock.now() + SAMPLE_PATIENCE;
        core.timers.insert(end, Owner::Sample(proxy));
        let view = |it: &Sampled| SampleView {
            address: it.peer,
            ago: Duration::from_micros(stamp.saturating_sub(it.stamp)),
            frames: it
                .frames
                .iter()
                .map(|(kept, size)| (kept.to_vec(), *size))
                .collect(),
            has_more: it.has_more,
            id: it.id,
            identity: it.identity.to_vec(),
            size: it.size,
            socket: it.side.into(),
            user: it.user.as_deref().map(str::to_owned),
        };
        let sample = core.proxies[proxy].observers.sample.iter();
        let views: Vec<_> = sample
            .flat_map(|it| it.list.iter().rev().map(view))
            .collect();
        self.charge_views(views.len());
        Ok(views)
    }
}

/// All samples together may take this share of the memory limit.
const SAMPLES_SHARE: u64 = 16;

impl Core {
    /// The messages of a proxy were not looked at for a while: the sample ends.
    pub(super) fn end_sample(&mut self, proxy: ProxyId) {
        self.proxies[proxy].observers.set_sample(None);
        self.account_topic_counts();
    }

    /// The client of a control has left: its counts by topic end.
    pub(super) fn forget_topic_counts(&mut self, owner: ConnId) {
        if self.memory.topic_counts > 0 {
            for (_, proxy) in self.proxies.iter_mut() {
                proxy.observers.forget_topics(owner);
            }
            self.account_topic_counts();
        }
    }

    /// A proxy is freed, with its counts by topic.
    pub(super) fn end_topic_counts(&mut self, proxy: ProxyId) {
        self.memory.topic_counts -= self.proxies[proxy].observers.memory();
    }

    /// Counts by topic have come or gone.
    pub(super) fn account_topic_counts(&mut self) {
        let sizes = self.proxies.iter();
        let sizes = sizes.map(|(_, proxy)| proxy.observers.memory());
        self.memory.topic_counts = sizes.sum();
    }

    /// Lets observers take note of a subscription or cancel that an XPUB passes on, in the form
    /// that an application would get.
    pub(super) fn observe_subscription(
        &mut self,
        id: ConnId,
        from: SocketId,
        topic: &[u8],
        add: bool,
    ) {
        let Socket { name, proxy, .. } = self.sockets[from];
        let proxy = &mut self.proxies[proxy];
        let Some(side) = name.side().filter(|_| proxy.observers.is_active()) else {
            return;
        };
        let mut wire = Vec::with_capacity(topic.len() + 10);
        append_frame(&mut wire, &[&[u8::from(add)], topic].concat(), false);
        let sender = Sender {
            id,
            prefix: &[],
            side,
        };
        let mut observer = Observer {
            capture: proxy.capture.map(|capture| &mut self.sockets[capture]),
            copies: &mut self.scratch.copies,
            parts: &mut proxy.observers,
        };
        let conns = &mut self.conns;
        // A subscription does not wait for a reader, even if messages do: a full reader misses it,
        // as if the kernel accepted no bytes for it; the others do not.
        let mut full = Vec::new();
        while let Ready::Flush(reader) = observer.reserve(conns, sender, &wire) {
            set_blocked(conns, reader, true);
            full.push(reader);
        }
        for reader in full {
            set_blocked(conns, reader, false);
        }
        observer.observe(conns, &mut self.outbox, sender, &Wire::Bytes(&wire));
    }
}

fn set_blocked(conns: &mut ConnTable, reader: ConnId, is_blocked: bool) {
    if let Some(conn) = conns.get_mut(reader) {
        conn.is_blocked = is_blocked;
    }
}
