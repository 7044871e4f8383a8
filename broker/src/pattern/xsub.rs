//! XSUB and SUB: hear every publisher, and tell every publisher what is wanted.

mod filter;

use crate::config::SocketOptions;
use crate::conn::{ConnId, ConnTable};
use crate::pattern::Admit;
use crate::why::Drop;
use filter::{Filter, Origin};
use zmtp::{Frames, SocketType};

/// The publishers, and what each is asked for.
#[derive(Debug)]
pub(crate) struct Xsub {
    /// The first is for all publishers whose link has no topics of its own.
    filters: Vec<Filter>,
    /// For each publisher the index of its filter.
    filters_of: Vec<usize>,
    peers: Vec<ConnId>,
    socket_type: SocketType,
}

impl Xsub {
    pub(crate) fn new(socket_type: SocketType, options: &SocketOptions) -> Self {
        let is_sub = socket_type == SocketType::Sub;
        Self {
            filters: vec![Filter::new(&options.subscribe, is_sub)],
            filters_of: Vec::new(),
            peers: Vec::new(),
            socket_type,
        }
    }

    /// Whether it is a SUB: nothing is sent through it.
    pub(crate) fn is_sub(&self) -> bool {
        self.socket_type == SocketType::Sub
    }

    /// The filter of a link: that of the socket, unless the link has topics of its own.
    pub(crate) fn filter_for(&mut self, topics: &[String]) -> usize {
        if topics.is_empty() {
            return 0;
        }
        self.filters.push(Filter::new(topics, self.is_sub()));
        self.filters.len() - 1
    }

    /// Says which filter is that of a publisher: until then it is that of the socket.
    pub(crate) fn set_filter(&mut self, id: ConnId, conns: &ConnTable, filter: usize) {
        if let Some(conn) = conns.get(id)
            && self.peers.get(conn.turn as usize) == Some(&id)
        {
            self.filters_of[conn.turn as usize] = filter;
        }
    }

    pub(crate) fn attach(&mut self, id: ConnId, conns: &mut ConnTable) {
        if let Some(conn) = conns.get_mut(id) {
            conn.turn = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
            self.peers.push(id);
            self.filters_of.push(0);
        }
    }

    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        let Some(index) = conns.get(id).map(|conn| conn.turn as usize) else {
            return;
        };
        if self.peers.get(index) != Some(&id) {
            return;
        }
        self.peers.swap_remove(index);
        self.filters_of.swap_remove(index);
        if let Some(moved) = self
            .peers
            .get(index)
            .and_then(|moved| conns.get_mut(*moved))
        {
            moved.turn = u32::try_from(index).unwrap_or(u32::MAX);
        }
    }

    /// A SUB filters again what it hears, because some publishers send everything; an XSUB does
    /// not.
    #[inline]
    pub(crate) fn admit(&self, id: ConnId, wire: &[u8]) -> Admit {
        if self.is_sub() {
            let topic = Frames::new(wire).next().map_or(&[][..], |frame| frame.body);
            if !self.filters[self.filter_of(id)].holds_prefix_of(topic) {
                return Admit::Drop(Drop::NotExpected);
            }
        }
        Admit::Pass { skip: 0 }
    }

    /// What subscribers send upstream beside subscriptions goes to every publisher, as in libzmq.
    pub(crate) fn all(&self, targets: &mut Vec<ConnId>) {
        targets.clear();
        targets.extend_from_slice(&self.peers);
    }

    /// The XPUB across has its first subscription to a topic, or lost its last: calls `tell` with
    /// each publisher that must hear of it, and with what it must hear of.
    pub(crate) fn pass_on(
        &mut self,
        topic: &[u8],
        add: bool,
        options: &SocketOptions,
        tell: impl FnMut(ConnId, &[u8]),
    ) {
        self.change((topic, add), Origin::Store, options, tell);
    }

    /// A peer across, which is no XPUB, subscribes or cancels by a message: as [`Self::pass_on`].
    /// Publishers hear of every subscription and of the last cancel, as libzmq's XSUB has it.
    /// False if there are too many.
    pub(crate) fn subscribe(
        &mut self,
        topic: &[u8],
        add: bool,
        options: &SocketOptions,
        tell: impl FnMut(ConnId, &[u8]),
    ) -> bool {
        self.change((topic, add), Origin::Message, options, tell)
    }

    fn change(
        &mut self,
        (topic, add): (&[u8], bool),
        origin: Origin,
        options: &SocketOptions,
        mut tell: impl FnMut(ConnId, &[u8]),
    ) -> bool {
        let mut has_room = true;
        for (index, filter) in self.filters.iter_mut().enumerate() {
            let publishers = self.peers.iter().zip(&self.filters_of);
            let publishers = publishers.filter(|(_, filter)| **filter == index);
            has_room &= filter.change((topic, add), origin, options, |topic| {
                publishers.clone().for_each(|(id, _)| tell(*id, topic));
            });
        }
        has_room
    }

    /// Calls `visit` with each topic that this publisher is to know, as far as they are in a store
    /// of ours.
    pub(crate) fn for_each_topic(&self, id: ConnId, visit: impl FnMut(&[u8])) {
        self.filters[self.filter_of(id)].for_each_topic(visit);
    }

    /// Whether this publisher is to know, beside those, each topic of the XPUB across.
    pub(crate) fn passes_all(&self, id: ConnId) -> bool {
        !self.is_sub() && !self.filters[self.filter_of(id)].narrows()
    }

    /// The publishers.
    pub(crate) fn peers(&self) -> &[ConnId] {
        &self.peers
    }

    #[inline]
    fn filter_of(&self, id: ConnId) -> usize {
        if self.filters.len() == 1 {
            return 0;
        }
        let index = self.peers.iter().position(|peer| *peer == id);
        index.map_or(0, |index| self.filters_of[index])
    }
}
