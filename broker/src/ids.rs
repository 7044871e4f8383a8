//! Handles of the parts of a broker: each means one part for as long as the process lives.

use crate::table::Handle;
use std::fmt;
use std::str::FromStr;

/// Handle types, one for each kind of table.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            pub(crate) generation: u32,
            pub(crate) slot: u32,
        }

        impl Handle for $name {
            #[inline]
            fn new(slot: u32, generation: u32) -> Self {
                Self { generation, slot }
            }

            #[inline]
            fn generation(self) -> u32 {
                self.generation
            }

            #[inline]
            fn slot(self) -> usize {
                self.slot as usize
            }
        }
    )*};
}

handles! {
    /// A connection.
    ConnId
    /// A connecting endpoint.
    LinkId
    /// A listening endpoint.
    ListenerId
    /// A proxy.
    ProxyId
    /// A socket of a proxy.
    SocketId
}

impl LinkId {
    /// A small number, unique among the current links, for tables of the driver.
    #[must_use]
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

impl ListenerId {
    /// A small number, unique among the listeners of a moment, for tables of the driver.
    #[must_use]
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

impl ConnId {
    /// A small number, unique among the current connections, for tables of the driver.
    #[must_use]
    #[inline]
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The number of the connection in recordings, never zero; see
    /// [`Origin::connection`](crate::record::Origin::connection).
    #[must_use]
    pub fn number(self) -> u64 {
        (u64::from(self.generation) << 32 | u64::from(self.slot)).wrapping_add(1)
    }
}

/// The slot, a hyphen, and the generation in hexadecimal digits.
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
