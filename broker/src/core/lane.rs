//! The loop that takes most of the time: messages of one input, from one socket to the one across.

use crate::config::Overflow;
use crate::conn::egress::DIRECT_SIZE_MIN;
use crate::conn::outbox::Outbox;
use crate::conn::{ConnId, ConnTable, Input, SocketId};
use crate::core::Flow;
use crate::core::capture::{Copies, Show};
use crate::pattern::{Admit, Outgoing, Route};
use crate::proxy::Socket;
use crate::proxy::watch::Watch;
use crate::why::Drop;
use zmtp::Frames;

/// The way of all messages of one input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Who sent them.
    pub(super) id: ConnId,
    /// Whether they are routed and queued and nothing else: no type and no option has a say.
    pub(super) is_plain: bool,
    /// Whether others have waited for longer to send theirs.
    pub(super) must_wait: bool,
    /// The socket that received them.
    pub(super) socket: SocketId,
}

impl Way {
    /// The socket that sends them on.
    pub(super) fn to(&self) -> SocketId {
        self.socket.across()
    }
}

/// What messages pass on their way, taken out of the core so that nothing is looked up for each.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    pub(super) capture: &'a mut Socket,
    pub(super) conns: &'a mut ConnTable,
    pub(super) copies: &'a mut Copies,
    /// What a REQ or REP puts in front of a message.
    pub(super) envelope: &'a mut Vec<u8>,
    pub(super) from: &'a mut Socket,
    pub(super) outbox: &'a mut Outbox,
    /// What goes in front of the messages of this sender.
    pub(super) prefix: &'a [u8],
    pub(super) targets: &'a mut Vec<ConnId>,
    pub(super) to: &'a mut Socket,
    pub(super) wakes: &'a mut Vec<SocketId>,
    pub(super) watch: &'a mut Watch,
    pub(super) way: &'a Way,
}

/// Why [`Lane::run`] came to an end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Halt {
    /// There is no further message.
    Empty,
    /// The message at the front, of this size, goes to no peer; so many bytes of its envelope were
    /// taken off.
    Nowhere {
        route: Route,
        size: usize,
        taken: usize,
    },
    /// The message at the front cannot go yet.
    Stuck(Flow),
}

impl Lane<'_> {
    /// Sends messages at the front of `input` on, at most `quota`, and consumes them.
    #[inline]
    pub(super) fn run(
        &mut self,
        input: &mut Input,
        find: &mut impl FnMut(&[u8]) -> Option<usize>,
        quota: &mut u32,
    ) -> Halt {
        while let Some(size) = find(input.bytes()) {
            if *quota == 0 {
                return Halt::Stuck(Flow::More);
            }
            let mut taken = 0;
            if !self.way.is_plain {
                match self.admit(&input.bytes()[..size]) {
                    Admit::Pass { skip } => taken = skip,
                    Admit::Wait => return Halt::Stuck(Flow::Parked),
                    Admit::Drop(reason) => {
                        self.from.stats.count_drop(reason);
                        input.consume(size);
                        *quota -= 1;
                        continue;
                    }
                }
                if let Some(reader) = self.find_readers(&input.bytes()[taken..size]) {
                    self.outbox.mark_urgent(reader);
                    return Halt::Stuck(Flow::Flush);
                }
            }
            self.targets.clear();
            let route = self.to.pattern.route(
                Outgoing {
                    prefix: self.prefix,
                    sender: self.way.id,
                    wire: &input.bytes()[taken..size],
                },
                self.conns,
                &self.to.options,
                self.targets,
                self.envelope,
            );
            let mut skip_out = taken;
            match route {
                Route::To { id, skip } => {
                    skip_out += skip;
                    self.targets.push(id);
                }
                Route::Targets { full } => self.to.stats.count_drops(Drop::PeerFull, full),
                Route::Wait => return Halt::Stuck(Flow::Parked),
                Route::Flush(target) => {
                    self.outbox.mark_urgent(target);
                    return Halt::Stuck(Flow::Flush);
                }
                Route::Drop(_) | Route::Full(_) | Route::Subscription { .. } => {}
            }
            self.from.stats.count_in(size);
            if !self.way.is_plain {
                self.forwarded(&input.bytes()[..size], taken);
            }
            *quota -= 1;
            if let Route::Drop(_) | Route::Full(_) | Route::Subscription { .. } = route {
                return Halt::Nowhere { route, size, taken };
            }
            self.deliver(input, size, taken, skip_out);
        }
        Halt::Empty
    }

    /// Lets a socket whose type or whose options have a say decide on a message that it received.
    #[inline(never)]
    fn admit(&mut self, wire: &[u8]) -> Admit {
        if self.way.must_wait {
            return Admit::Wait;
        }
        self.envelope.clear();
        self.from.pattern.admit(self.way.id, wire)
    }

    /// If somebody watches, decides who gets a copy; answers with who is to be written first.
    #[inline(never)]
    fn find_readers(&mut self, wire: &[u8]) -> Option<ConnId> {
        let (id, is_watched) = (self.way.id, self.watch.is_active);
        is_watched.then(|| self.show().prepare(id, wire)).flatten()
    }

    fn show(&mut self) -> Show<'_> {
        Show {
            capture: self.capture,
            conns: self.conns,
            copies: self.copies,
            from: self.way.socket,
            outbox: self.outbox,
            prefix: self.prefix,
            watch: self.watch,
        }
    }

    /// What follows, where types or options ask for it, when a message has found its targets and is
    /// not queued yet.
    #[inline(never)]
    fn forwarded(&mut self, wire: &[u8], taken: usize) {
        let Socket {
            options, pattern, ..
        } = &mut *self.from;
        let answers = pattern.accepted(self.way.id, wire, taken, self.conns, options);
        // An answer lets the next request go: of those across a REQ, or of those of the REP itself.
        if answers || self.to.pattern.is_rep() {
            self.wakes.push(self.way.to());
        }
        if self.to.options.overflow.takes_back() {
            make_room(self.conns, self.outbox, self.to, self.targets, wire);
        }
    }

    /// Queues the message at the front of `input`, without its first `skip` bytes, for all targets,
    /// and, without the first `taken`, for those who watch; and consumes it.
    #[inline]
    fn deliver(&mut self, input: &mut Input, size: usize, taken: usize, skip: usize) {
        let prefix = if self.envelope.is_empty() {
            self.prefix
        } else {
            self.envelope.extend_from_slice(self.prefix);
            &self.envelope[..]
        };
        let size_out = size - skip + prefix.len();
        self.to.stats.count_out(self.targets.len(), size_out);
        if input.is_scratch() || size < DIRECT_SIZE_MIN {
            let range = input.start() + skip..input.start() + size;
            for target in self.targets.iter() {
                self.outbox
                    .push_input(self.conns, *target, prefix, input, range.clone());
            }
            if !self.way.is_plain && self.watch.is_active {
                let range = input.start() + taken..input.start() + size;
                self.show().range(input, range);
            }
            input.consume(size);
        } else {
            // Taking it out moves what stands behind it: runs of this input end here.
            self.outbox.settle(self.conns, input);
            let message = input.take_shared(size);
            for target in self.targets.iter() {
                self.outbox
                    .push_shared(self.conns, *target, prefix, message.slice(skip..));
            }
            if !self.way.is_plain && self.watch.is_active {
                self.show().shared(&message.slice(taken..));
            }
        }
    }
}

/// Takes older messages out of the queues of these peers of a socket, where its options say that
/// newer ones go before them.
#[cold]
pub(super) fn make_room(
    conns: &mut ConnTable,
    outbox: &mut Outbox,
    socket: &mut Socket,
    peers: &[ConnId],
    wire: &[u8],
) {
    let Socket { options, stats, .. } = socket;
    let topic = Frames::new(wire).next().map_or(&[][..], |frame| frame.body);
    for id in peers {
        let Some(conn) = conns.get_mut(*id) else {
            continue;
        };
        let store = &mut outbox.store;
        let replaced = match options.overflow {
            Overflow::Conflate => conn.egress.drop_unsent(None, store),
            Overflow::ConflateTopic => conn.egress.drop_unsent(Some(topic), store),
            _ => 0,
        };
        let mut oldest = 0;
        while conn.is_at_high_water(options) && conn.egress.drop_oldest(store) {
            oldest += 1;
        }
        for (reason, count) in [(Drop::Replaced, replaced), (Drop::PeerFull, oldest)] {
            stats.count_drops(reason, count);
            conn.traffic.count_drops(reason, count);
        }
    }
}
