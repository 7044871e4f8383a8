//! Every connection, by an id that never means another one.

use crate::conn::Conn;
use slab::Slab;
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

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct ConnTable {
    first_generation: u32,
    generations: Vec<u32>,
    slots: Slab<Conn>,
}

impl ConnTable {
    /// No connection yet. ROUTERs name peers by their ids, and replies to such a name may come when
    /// the broker is another process: `first_generation` should differ from one to the next.
    pub(crate) fn new(first_generation: u32) -> Self {
        Self {
            first_generation,
            ..Self::default()
        }
    }

    /// Adds a connection.
    ///
    /// # Panics
    /// At 2³² connections at once, which no system has descriptors for.
    pub(crate) fn insert(&mut self, conn: Conn) -> ConnId {
        let index = self.slots.insert(conn);
        if index == self.generations.len() {
            self.generations.push(self.first_generation);
        }
        let Ok(slot) = u32::try_from(index) else {
            unreachable!("more connections than slots")
        };
        let generation = self.generations[index];
        self.slots[index].generation = generation;
        ConnId { generation, slot }
    }

    /// Forgets a connection; its id will find nothing ever after.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        // A slot that was given away 2³² times starts over: by then no reply is that late.
        self.generations[id.slot()] = id.generation.wrapping_add(1);
        Some(self.slots.remove(id.slot()))
    }

    #[inline]
    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        let conn = self.slots.get(id.slot())?;
        (conn.generation == id.generation).then_some(conn)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let conn = self.slots.get_mut(id.slot())?;
        (conn.generation == id.generation).then_some(conn)
    }

    /// The connection that has this slot now.
    #[inline]
    pub(crate) fn in_slot(&self, slot: u32) -> Option<(ConnId, &Conn)> {
        let conn = self.slots.get(slot as usize)?;
        let generation = conn.generation;
        Some((ConnId { generation, slot }, conn))
    }

    /// Every connection, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.slots.iter().map(|(index, conn)| {
            let slot = u32::try_from(index).unwrap_or(u32::MAX);
            let generation = conn.generation;
            (ConnId { generation, slot }, conn)
        })
    }

    /// Every connection, to be changed, in the same order.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Conn> {
        self.slots.iter_mut().map(|(_, conn)| conn)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}
