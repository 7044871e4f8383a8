//! XSUB and SUB: receive from every publisher, and send subscriptions to every publisher.

mod filter;
pub(crate) mod publisher;

use crate::config::SocketOptions;
use crate::conn::ConnTable;
use crate::ids::ConnId;
use crate::pattern::Admit;
use crate::pattern::xpub::Xpub;
use crate::reason::DropReason;
use filter::{Filter, Origin};
use publisher::{Change, Publisher};
use slab::Slab;
use std::ops::ControlFlow;
use zmtp::{Frames, SocketType};

/// The publishers, and the subscriptions for each.
#[derive(Debug)]
pub(crate) struct Xsub {
    /// The first filter is for all publishers whose link has no topics of its own.
    filters: Slab<Filter>,
    /// Heap bytes of the filters, and of pending changes for publishers.
    memory: u64,
    publishers: Vec<Publisher>,
    socket_type: SocketType,
}

impl Xsub {
    pub(crate) fn new(socket_type: SocketType, options: &SocketOptions) -> Self {
        let is_sub = socket_type == SocketType::Sub;
        let filter = Filter::new(&options.subscribe, is_sub);
        let memory = filter.memory();
        let mut filters = Slab::new();
        filters.insert(filter);
        Self {
            memory,
            filters,
            publishers: Vec::new(),
            socket_type,
        }
    }

    /// Whether it is a SUB, which sends no messages.
    pub(crate) fn is_sub(&self) -> bool {
        self.socket_type == SocketType::Sub
    }

    /// The filter of a link: that of the socket, unless the link has topics of its own. What is
    /// wanted already goes through the new one too: that is in the table of `across`, or else with
    /// the filter of the socket.
    pub(crate) fn filter_for(&mut self, topics: &[String], across: Option<&Xpub>) -> usize {
        if topics.is_empty() {
            return 0;
        }
        let mut filter = Filter::new(topics, self.is_sub());
        match across {
            _ if self.is_sub() => {}
            Some(xpub) => xpub.for_each_topic_from(b"", |topic, _| {
                filter.adopt(topic, 1);
                ControlFlow::Continue(())
            }),
            None => self.filters[0].for_each_wanted(|topic, times| filter.adopt(topic, times)),
        }
        self.memory += filter.memory();
        self.filters.insert(filter)
    }

    /// The link of a filter is gone.
    pub(crate) fn remove_filter(&mut self, filter: usize) {
        if filter > 0
            && let Some(filter) = self.filters.try_remove(filter)
        {
            self.memory -= filter.memory();
        }
    }

    /// Sets the filter of a publisher, which has that of the socket at first.
    pub(crate) fn set_filter(&mut self, id: ConnId, conns: &ConnTable, filter: usize) {
        if let Some(publisher) = self.publisher_mut(id, conns) {
            publisher.filter = filter;
        }
    }

    pub(crate) fn attach(&mut self, id: ConnId, conns: &mut ConnTable) {
        if let Some(conn) = conns.get_mut(id) {
            conn.turn = u32::try_from(self.publishers.len()).unwrap_or(u32::MAX);
            let publisher = Publisher::new(id);
            self.memory += publisher.memory();
            self.publishers.push(publisher);
        }
    }

    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        let Some(publisher) = self.publisher_mut(id, conns) else {
            return;
        };
        self.memory -= publisher.memory();
        let Some(index) = conns.get(id).map(|conn| conn.turn as usize) else {
            return;
        };
        self.publishers.swap_remove(index);
        if let Some(moved) = self
            .publishers
            .get(index)
            .and_then(|moved| conns.get_mut(moved.id))
        {
            moved.turn = u32::try_from(index).unwrap_or(u32::MAX);
        }
    }

    /// The state of a publisher.
    pub(crate) fn publisher_mut(
        &mut self,
        id: ConnId,
        conns: &ConnTable,
    ) -> Option<&mut Publisher> {
        let index = conns.get(id)?.turn as usize;
        let publisher = self.publishers.get_mut(index)?;
        (publisher.id == id).then_some(publisher)
    }

    /// A SUB filters received messages again, because some publishers send everything; an XSUB does
    /// not.
    #[inline]
    pub(crate) fn admit(&self, id: ConnId, wire: &[u8]) -> Admit {
        if self.is_sub() {
            let topic = Frames::new(wire).first();
            if !self.filters[self.filter_of(id)].holds_prefix_of(topic) {
                return Admit::Drop(DropReason::NotExpected);
            }
        }
        Admit::Pass { skip: 0 }
    }

    /// Messages from subscribers that are not subscriptions go to every publisher, as in libzmq.
    pub(crate) fn all(&self, targets: &mut Vec<ConnId>) {
        targets.clear();
        targets.extend(self.publishers.iter().map(|publisher| publisher.id));
    }

    /// The store of the XPUB across changes: calls `tell` with each publisher that must get the
    /// change, the topic, and its change.
    pub(crate) fn pass_on(
        &mut self,
        (topic, change): (&[u8], Change),
        options: &SocketOptions,
        tell: impl FnMut(&mut Publisher, &[u8], Change),
    ) {
        self.change((topic, change), Origin::Store, options, tell);
    }

    /// A peer across, of a type other than XPUB, subscribes or cancels by a message: see
    /// [`Self::pass_on`]. Publishers get every subscription and the last cancel, as with libzmq's
    /// XSUB. False if there are too many.
    pub(crate) fn subscribe(
        &mut self,
        (topic, add): (&[u8], bool),
        options: &SocketOptions,
        tell: impl FnMut(&mut Publisher, &[u8], Change),
    ) -> bool {
        let change = if add {
            Change::Subscribed
        } else {
            Change::Cancelled
        };
        self.change((topic, change), Origin::Message, options, tell)
    }

    fn change(
        &mut self,
        change: (&[u8], Change),
        origin: Origin,
        options: &SocketOptions,
        mut tell: impl FnMut(&mut Publisher, &[u8], Change),
    ) -> bool {
        let Self {
            filters,
            memory,
            publishers,
            ..
        } = self;
        let mut has_room = true;
        for (index, filter) in filters.iter_mut() {
            let before = filter.memory();
            has_room &= filter.change(change, origin, options, |topic, change| {
                let asked = publishers.iter_mut();
                for publisher in asked.filter(|publisher| publisher.filter == index) {
                    let before = publisher.memory();
                    tell(publisher, topic, change);
                    *memory = *memory + publisher.memory() - before;
                }
            });
            *memory = *memory + filter.memory() - before;
        }
        has_room
    }

    /// Takes out up to `limit` topics that a publisher must still get, and calls `tell` with each,
    /// and whether it is wanted. The table of topics is that of `across` if subscriptions pass
    /// unchanged, otherwise a store of this socket. Returns the number: if it is less than `limit`,
    /// none is left.
    pub(crate) fn tell_more(
        &mut self,
        id: ConnId,
        conns: &ConnTable,
        across: Option<&Xpub>,
        limit: usize,
        mut tell: impl FnMut(&[u8], bool),
    ) -> usize {
        let is_sub = self.is_sub();
        let Some(index) = conns.get(id).map(|conn| conn.turn as usize) else {
            return 0;
        };
        let Some(publisher) = self.publishers.get_mut(index).filter(|it| it.id == id) else {
            return 0;
        };
        let before = publisher.memory();
        let mut taken = publisher.take_noted(limit, &mut tell);
        if taken < limit
            && let Some(first) = publisher.untold_from()
        {
            let mut last = None;
            let visit = |topic: &[u8]| {
                tell(topic, true);
                taken += 1;
                if taken < limit {
                    return ControlFlow::Continue(());
                }
                last = Some(topic.to_vec());
                ControlFlow::Break(())
            };
            let filter = &self.filters[publisher.filter];
            match across {
                Some(xpub) if !is_sub && !filter.narrows() => xpub.for_each_topic_from(first, {
                    let mut visit = visit;
                    move |topic, _| visit(topic)
                }),
                _ => filter.for_each_topic_from(first, visit),
            }
            publisher.told_up_to(last);
        }
        self.memory = self.memory + publisher.memory() - before;
        taken
    }

    /// Heap bytes of the filters and of pending changes for publishers, in constant time.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// The same, recounted.
    pub(crate) fn walk(&self) -> u64 {
        let filters = self.filters.iter().map(|(_, filter)| filter.memory());
        filters
            .chain(self.publishers.iter().map(Publisher::memory))
            .sum()
    }

    /// Heap bytes of one publisher's pending changes.
    pub(crate) fn memory_of(&self, id: ConnId, conns: &ConnTable) -> u64 {
        let index = conns.get(id).map(|conn| conn.turn as usize);
        let publisher = index.and_then(|index| self.publishers.get(index));
        let publisher = publisher.filter(|publisher| publisher.id == id);
        publisher.map_or(0, Publisher::memory)
    }

    #[inline]
    fn filter_of(&self, id: ConnId) -> usize {
        if self.filters.len() == 1 {
            return 0;
        }
        let publisher = self.publishers.iter().find(|publisher| publisher.id == id);
        publisher.map_or(0, |publisher| publisher.filter)
    }
}
