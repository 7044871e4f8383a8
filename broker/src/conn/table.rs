//! Every connection, by an id that never means another one.

use crate::conn::closing::{Closing, Writer};
use crate::conn::{Conn, Egress, Phase, SocketId};
use crate::why::Drop;
use slab::Slab;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

/// Names a connection for as long as the process lives: a slot, and how often it was given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) generation: u32,
    pub(crate) slot: u32,
}

impl ConnId {
    /// A small number, unique among the connections of a moment, for tables of the driver.
    #[must_use]
    #[inline]
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// Both as one number, never zero.
    pub(crate) fn number(self) -> u64 {
        (u64::from(self.generation) << 32 | u64::from(self.slot)).wrapping_add(1)
    }
}

/// The slot, and behind a hyphen the generation in hexadecimal digits.
impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.slot, self.generation)
    }
}

impl FromStr for ConnId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (slot, generation) = text.split_once('-').ok_or(())?;
        Ok(Self {
            generation: u32::from_str_radix(generation, 16).map_err(drop)?,
            slot: slot.parse().map_err(drop)?,
        })
    }
}

/// What has no room for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Overflowing {
    /// The queue of this connection.
    Peer(ConnId),
    /// The queues of all peers of this socket.
    Socket(SocketId),
}

/// All connections.
#[derive(Debug)]
pub(crate) struct ConnTable {
    first_generation: u32,
    generations: Vec<u32>,
    /// Connections that began to miss messages for want of room, and sockets all of whose peers had
    /// none: the log is to hear of them.
    pub(crate) overflowing: VecDeque<Overflowing>,
    /// Bytes at which a queue counts as full, whatever its options say: what memory allows.
    pub(crate) queue_size_max: u64,
    slots: Slab<Slot>,
}

/// A connection, by what can still be done with it.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all slots are open, and a box would cost each access"
)]
enum Slot {
    Closing(Closing),
    Open(Conn),
}

impl Slot {
    #[inline]
    fn open(&self) -> Option<&Conn> {
        match self {
            Self::Open(conn) => Some(conn),
            Self::Closing(_) => None,
        }
    }

    #[inline]
    fn open_mut(&mut self) -> Option<&mut Conn> {
        match self {
            Self::Open(conn) => Some(conn),
            Self::Closing(_) => None,
        }
    }

    fn generation(&self) -> u32 {
        match self {
            Self::Closing(closing) => closing.generation,
            Self::Open(conn) => conn.generation,
        }
    }
}

impl ConnTable {
    /// No connection yet. ROUTERs name peers by their ids, and replies to such a name may come when
    /// the broker is another process: `first_generation` should differ from one to the next.
    pub(crate) fn new(first_generation: u32) -> Self {
        Self {
            first_generation,
            generations: Vec::new(),
            overflowing: VecDeque::new(),
            queue_size_max: u64::MAX,
            slots: Slab::new(),
        }
    }

    /// Adds a connection.
    ///
    /// # Panics
    /// At 2³² connections at once, which no system has descriptors for.
    pub(crate) fn insert(&mut self, mut conn: Conn) -> ConnId {
        let entry = self.slots.vacant_entry();
        let index = entry.key();
        if index == self.generations.len() {
            self.generations.push(self.first_generation);
        }
        let Ok(slot) = u32::try_from(index) else {
            unreachable!("more connections than slots")
        };
        let generation = self.generations[index];
        conn.generation = generation;
        entry.insert(Slot::Open(conn));
        ConnId { generation, slot }
    }

    /// Turns an open connection into a closing one, which nothing can be sent to any more.
    /// `has_messages` says whether its queue consists of messages.
    pub(crate) fn begin_closing(&mut self, id: ConnId, has_messages: bool) -> Option<&mut Closing> {
        self.get(id)?;
        let Slot::Open(conn) = self.slots.remove(id.slot()) else {
            unreachable!("it was found open")
        };
        let entry = self.slots.vacant_entry();
        debug_assert_eq!(
            entry.key(),
            id.slot(),
            "the slot freed last is given away first"
        );
        match entry.insert(Slot::Closing(Closing::of(conn, has_messages))) {
            Slot::Closing(closing) => Some(closing),
            Slot::Open(_) => None,
        }
    }

    /// Forgets an open connection; its id never finds another one.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        match self.free(id) {
            Slot::Open(conn) => Some(conn),
            Slot::Closing(_) => None,
        }
    }

    /// Forgets a closing connection; its id never finds another one.
    pub(crate) fn remove_closing(&mut self, id: ConnId) -> Option<Closing> {
        self.closing_mut(id)?;
        match self.free(id) {
            Slot::Closing(closing) => Some(closing),
            Slot::Open(_) => None,
        }
    }

    fn free(&mut self, id: ConnId) -> Slot {
        // A slot that was given away 2³² times starts over: by then no reply is that late.
        self.generations[id.slot()] = id.generation.wrapping_add(1);
        self.slots.remove(id.slot())
    }

    /// An open connection.
    #[inline]
    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        let conn = self.slots.get(id.slot())?.open()?;
        (conn.generation == id.generation).then_some(conn)
    }

    /// A peer missed so many messages.
    pub(crate) fn count_drops(&mut self, id: ConnId, reason: Drop, messages: u32) {
        if let Some(conn) = self.get_mut(id)
            && conn.traffic.count_drops(reason, messages)
        {
            self.overflowing.push_back(Overflowing::Peer(id));
        }
    }

    /// An open connection, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.slots.get_mut(id.slot())?.open_mut()?;
        (conn.generation == id.generation).then_some(conn)
    }

    /// An open connection that messages can be queued for: its peer may still read.
    #[inline]
    pub(crate) fn target(&self, id: ConnId) -> Option<&Conn> {
        self.get(id).filter(|conn| !conn.egress.is_closed())
    }

    /// The open connection that has this slot now, if messages can be queued for it.
    #[inline]
    pub(crate) fn target_in_slot(&self, slot: u32) -> Option<ConnId> {
        let (id, conn) = self.in_slot(slot)?;
        (!conn.egress.is_closed()).then_some(id)
    }

    /// The open connection that has this slot now.
    #[inline]
    pub(crate) fn in_slot(&self, slot: u32) -> Option<(ConnId, &Conn)> {
        let conn = self.slots.get(slot as usize)?.open()?;
        let generation = conn.generation;
        Some((ConnId { generation, slot }, conn))
    }

    /// A closing connection.
    pub(crate) fn closing_mut(&mut self, id: ConnId) -> Option<&mut Closing> {
        match self.slots.get_mut(id.slot())? {
            Slot::Closing(closing) if closing.generation == id.generation => Some(closing),
            _ => None,
        }
    }

    /// The socket that a closing connection belongs to.
    pub(crate) fn closing_socket(&self, id: ConnId) -> Option<SocketId> {
        match self.slots.get(id.slot())? {
            Slot::Closing(closing) if closing.generation == id.generation => Some(closing.socket),
            _ => None,
        }
    }

    /// How many messages of a connection, open or closing, went on.
    pub(crate) fn messages_received(&self, id: ConnId) -> u64 {
        match self.slots.get(id.slot()) {
            Some(Slot::Open(conn)) if conn.generation == id.generation => {
                conn.traffic.messages_received
            }
            Some(Slot::Closing(closing)) if closing.generation == id.generation => {
                closing.messages_received
            }
            _ => 0,
        }
    }

    /// What is queued for a connection, open or closing.
    #[inline]
    pub(crate) fn egress(&self, id: ConnId) -> Option<&Egress> {
        match self.slots.get(id.slot())? {
            Slot::Open(conn) if conn.generation == id.generation => Some(&conn.egress),
            Slot::Closing(closing) if closing.generation == id.generation => Some(&closing.egress),
            _ => None,
        }
    }

    /// Whether the kernel is known to take nothing now for a connection, open or closing.
    #[inline]
    pub(crate) fn is_blocked(&self, id: ConnId) -> bool {
        match self.slots.get(id.slot()) {
            Some(Slot::Open(conn)) => conn.generation == id.generation && conn.is_blocked,
            Some(Slot::Closing(it)) => it.generation == id.generation && it.is_blocked,
            None => false,
        }
    }

    /// The half of a connection, open or closing, that the driver writes from.
    #[inline]
    pub(crate) fn writer(&mut self, id: ConnId) -> Option<Writer<'_>> {
        let slot = self.slots.get_mut(id.slot())?;
        if slot.generation() != id.generation {
            return None;
        }
        Some(match slot {
            Slot::Open(conn) => Writer {
                egress: &mut conn.egress,
                is_blocked: &mut conn.is_blocked,
                is_dirty: &mut conn.is_dirty,
                is_newcomer: conn.phase == Phase::Handshake,
                proxy: conn.socket.proxy,
            },
            Slot::Closing(closing) => Writer {
                egress: &mut closing.egress,
                is_blocked: &mut closing.is_blocked,
                is_dirty: &mut closing.is_dirty,
                is_newcomer: !closing.has_messages,
                proxy: closing.socket.proxy,
            },
        })
    }

    /// Every open connection, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.slots.iter().filter_map(|(index, slot)| {
            let conn = slot.open()?;
            let slot = u32::try_from(index).unwrap_or(u32::MAX);
            let generation = conn.generation;
            Some((ConnId { generation, slot }, conn))
        })
    }

    /// Every open connection, to be changed, in the same order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut Conn)> {
        self.slots.iter_mut().filter_map(|(index, slot)| {
            let conn = slot.open_mut()?;
            let slot = u32::try_from(index).unwrap_or(u32::MAX);
            let generation = conn.generation;
            Some((ConnId { generation, slot }, conn))
        })
    }

    /// Every closing connection, in the order of their slots.
    pub(crate) fn closing(&self) -> impl Iterator<Item = (ConnId, &Closing)> {
        self.slots.iter().filter_map(|(index, slot)| match slot {
            Slot::Closing(closing) => {
                let slot = u32::try_from(index).unwrap_or(u32::MAX);
                let generation = closing.generation;
                Some((ConnId { generation, slot }, closing))
            }
            Slot::Open(_) => None,
        })
    }

    /// Every closing connection, to be changed, in the same order.
    pub(crate) fn iter_closing_mut(&mut self) -> impl Iterator<Item = &mut Closing> {
        self.slots.iter_mut().filter_map(|(_, slot)| match slot {
            Slot::Closing(closing) => Some(closing),
            Slot::Open(_) => None,
        })
    }

    /// Connections, open and closing.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}
