//! All connections, by an id that never means another connection.

use crate::config::SocketOptions;
use crate::conn::closing::{Closing, Writer};
use crate::conn::{Conn, Egress, Phase, Room};
use crate::ids::{ConnId, SocketId};
use crate::reason::DropReason;
use crate::table::Table;
use std::collections::VecDeque;

/// A queue, or queues, without room for messages.
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
    /// Connections that began to miss messages because their queues were full, and sockets without
    /// a peer with room, for the log.
    pub(crate) overflowing: VecDeque<Overflowing>,
    /// The size in bytes at which a queue counts as full because of lack of memory, whatever its
    /// options.
    pub(crate) queue_size_max: u64,
    table: Table<ConnId, Slot>,
}

/// A connection, open or closing.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all slots are open, and a box would cost each access"
)]
enum Slot {
    Closing(Closing),
    Open(Conn),
    /// The broker itself, as a subscriber: see [`ConnTable::OWN_SLOT`].
    Own,
}

impl Slot {
    #[inline]
    fn open(&self) -> Option<&Conn> {
        match self {
            Self::Open(conn) => Some(conn),
            Self::Closing(_) | Self::Own => None,
        }
    }

    #[inline]
    fn open_mut(&mut self) -> Option<&mut Conn> {
        match self {
            Self::Open(conn) => Some(conn),
            Self::Closing(_) | Self::Own => None,
        }
    }

    fn closing(&self) -> Option<&Closing> {
        match self {
            Self::Closing(closing) => Some(closing),
            Self::Open(_) | Self::Own => None,
        }
    }

    fn closing_mut(&mut self) -> Option<&mut Closing> {
        match self {
            Self::Closing(closing) => Some(closing),
            Self::Open(_) | Self::Own => None,
        }
    }
}

impl ConnTable {
    /// A slot that no connection has. Patterns know peers by their slots, and the broker is the
    /// subscriber in this one where it keeps messages.
    pub(crate) const OWN_SLOT: u32 = 0;

    /// The broker itself, as a subscriber.
    pub(crate) const OWN: ConnId = ConnId {
        generation: 0,
        slot: Self::OWN_SLOT,
    };

    /// An empty table. ROUTERs name peers by their ids, and replies to such a name may arrive after
    /// a restart of the broker: `first_generation` should differ between processes.
    pub(crate) fn new(first_generation: u32) -> Self {
        let mut table: Table<ConnId, Slot> = Table::new(first_generation);
        let own = table.insert_with(|_| Slot::Own);
        debug_assert_eq!(own.slot, Self::OWN_SLOT, "the first slot comes first");
        Self {
            overflowing: VecDeque::new(),
            queue_size_max: u64::MAX,
            table,
        }
    }

    /// Adds a connection.
    pub(crate) fn insert(&mut self, conn: Conn) -> ConnId {
        self.table.insert_with(|_| Slot::Open(conn))
    }

    /// Turns an open connection into a closing one, which cannot be sent messages. `has_messages`
    /// says whether its queue consists of messages.
    pub(crate) fn begin_closing(&mut self, id: ConnId, has_messages: bool) -> Option<&mut Closing> {
        let slot = self.table.replace_with(id, |slot| match slot {
            Slot::Open(conn) => Slot::Closing(Closing::of(conn, has_messages)),
            other => other,
        });
        slot?.closing_mut()
    }

    /// Removes an open connection; its id never finds another one.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        match self.table.remove(id)? {
            Slot::Open(conn) => Some(conn),
            Slot::Closing(_) | Slot::Own => None,
        }
    }

    /// Removes a closing connection; its id never finds another one.
    pub(crate) fn remove_closing(&mut self, id: ConnId) -> Option<Closing> {
        self.closing_mut(id)?;
        match self.table.remove(id)? {
            Slot::Closing(closing) => Some(closing),
            Slot::Open(_) | Slot::Own => None,
        }
    }

    /// An open connection.
    #[inline]
    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.table.get(id)?.open()
    }

    /// Counts messages that a peer missed.
    pub(crate) fn count_drops(&mut self, id: ConnId, reason: DropReason, messages: u32) {
        if let Some(conn) = self.get_mut(id)
            && conn.traffic.count_drops(reason, messages)
        {
            self.overflowing.push_back(Overflowing::Peer(id));
        }
    }

    /// An open connection, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.table.get_mut(id)?.open_mut()
    }

    /// An open connection that can be sent messages: its peer may still read.
    #[inline]
    pub(crate) fn target(&self, id: ConnId) -> Option<&Conn> {
        self.get(id).filter(|conn| !conn.egress.is_closed())
    }

    /// The open connection in this slot, if it can be sent messages.
    #[inline]
    pub(crate) fn target_in_slot(&self, slot: u32) -> Option<ConnId> {
        let (id, conn) = self.in_slot(slot)?;
        (!conn.egress.is_closed()).then_some(id)
    }

    /// The open connection in this slot.
    #[inline]
    pub(crate) fn in_slot(&self, slot: u32) -> Option<(ConnId, &Conn)> {
        let (id, slot) = self.table.in_slot(slot)?;
        Some((id, slot.open()?))
    }

    /// A closing connection.
    pub(crate) fn closing_mut(&mut self, id: ConnId) -> Option<&mut Closing> {
        self.table.get_mut(id)?.closing_mut()
    }

    /// The socket of a closing connection.
    pub(crate) fn closing_socket(&self, id: ConnId) -> Option<SocketId> {
        Some(self.table.get(id)?.closing()?.socket)
    }

    /// The number of messages of a connection, open or closing, that have gone on.
    pub(crate) fn messages_received(&self, id: ConnId) -> u64 {
        match self.table.get(id) {
            Some(Slot::Open(conn)) => conn.traffic.messages_received,
            Some(Slot::Closing(closing)) => closing.messages_received,
            Some(Slot::Own) | None => 0,
        }
    }

    /// The queue of a connection, open or closing.
    #[inline]
    pub(crate) fn egress(&self, id: ConnId) -> Option<&Egress> {
        Some(match self.table.get(id)? {
            Slot::Open(conn) => &conn.egress,
            Slot::Closing(closing) => &closing.egress,
            Slot::Own => return None,
        })
    }

    /// The queue of a connection, open or closing, to be changed.
    #[inline]
    pub(crate) fn egress_mut(&mut self, id: ConnId) -> Option<&mut Egress> {
        Some(match self.table.get_mut(id)? {
            Slot::Open(conn) => &mut conn.egress,
            Slot::Closing(closing) => &mut closing.egress,
            Slot::Own => return None,
        })
    }

    /// Whether the kernel accepts no bytes for a connection now, open or closing.
    #[inline]
    pub(crate) fn is_blocked(&self, id: ConnId) -> bool {
        match self.table.get(id) {
            Some(Slot::Open(conn)) => conn.is_blocked,
            Some(Slot::Closing(closing)) => closing.is_blocked,
            Some(Slot::Own) | None => false,
        }
    }

    /// The part of a connection, open or closing, that the driver writes from.
    #[inline]
    pub(crate) fn writer(&mut self, id: ConnId) -> Option<Writer<'_>> {
        Some(match self.table.get_mut(id)? {
            Slot::Open(conn) => Writer {
                egress: &mut conn.egress,
                is_blocked: &mut conn.is_blocked,
                is_dirty: &mut conn.is_dirty,
                is_newcomer: conn.phase == Phase::Handshake,
                proxy: conn.proxy,
            },
            Slot::Closing(closing) => Writer {
                egress: &mut closing.egress,
                is_blocked: &mut closing.is_blocked,
                is_dirty: &mut closing.is_dirty,
                is_newcomer: !closing.has_messages,
                proxy: closing.proxy,
            },
            Slot::Own => return None,
        })
    }

    /// The room that all these connections have.
    #[inline]
    pub(crate) fn least_room(&self, ids: &[ConnId], options: &SocketOptions) -> Room {
        let rooms = ids
            .iter()
            .filter_map(|id| Some(self.get(*id)?.room(options, self.queue_size_max)));
        rooms.fold(Room::UNLIMITED, Room::min)
    }

    /// Every open connection, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        let open = |(id, slot): (ConnId, _)| Some((id, Slot::open(slot)?));
        self.table.iter().filter_map(open)
    }

    /// Every open connection, to be changed, in the same order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut Conn)> {
        let open = |(id, slot): (ConnId, _)| Some((id, Slot::open_mut(slot)?));
        self.table.iter_mut().filter_map(open)
    }

    /// Every closing connection, in the order of their slots.
    pub(crate) fn closing(&self) -> impl Iterator<Item = (ConnId, &Closing)> {
        let closing = |(id, slot): (ConnId, _)| Some((id, Slot::closing(slot)?));
        self.table.iter().filter_map(closing)
    }

    /// Every closing connection, to be changed, in the same order.
    pub(crate) fn iter_closing_mut(&mut self) -> impl Iterator<Item = &mut Closing> {
        let closing = |(_, slot)| Slot::closing_mut(slot);
        self.table.iter_mut().filter_map(closing)
    }

    /// Connections, open and closing.
    pub(crate) fn len(&self) -> usize {
        self.table.len() - 1
    }
}
