//! Property lists: `name-size(1) name value-size(4) value`, any number of times.

use crate::error::Malformed;
use byteorder::{BigEndian, ByteOrder};
use bytes::BufMut;

/// The property that names the sender's socket type.
pub const SOCKET_TYPE: &str = "Socket-Type";
/// The property with the identity of the sender.
pub const IDENTITY: &str = "Identity";

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// Its name. Case does not matter (RFC 37), though it does to libzmq.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl Property<'_> {
    /// Whether this is the property `name`.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Iterates over a property list; ends after the first error.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    rest: &'a [u8],
}

impl<'a> Properties<'a> {
    /// Iterates over `list`, a whole property list.
    #[must_use]
    pub fn new(list: &'a [u8]) -> Self {
        Self { rest: list }
    }

    fn split(&mut self) -> Option<Property<'a>> {
        let (&name_size, rest) = self.rest.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(name_size))?;
        let (value_size, rest) = rest.split_at_checked(4)?;
        // `rest` cannot hold a value as long as the address space, so a size that does not fit
        // `usize` is the same error as a value that runs past the end.
        let value_size = usize::try_from(BigEndian::read_u32(value_size)).ok()?;
        let (value, rest) = rest.split_at_checked(value_size)?;
        self.rest = rest;
        Some(Property { name, value })
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Result<Property<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let property = self.split();
        if property.is_none() {
            self.rest = &[];
        }
        Some(property.ok_or(Malformed::Metadata))
    }
}

/// Appends one property.
///
/// # Panics
/// If the name is longer than 255 bytes or the value longer than 2³²−1: both are ours.
pub fn append_property(out: &mut impl BufMut, name: &str, value: &[u8]) {
    let sizes = (u8::try_from(name.len()), u32::try_from(value.len()));
    let (Ok(name_size), Ok(value_size)) = sizes else {
        unreachable!("properties that we send are short");
    };
    out.put_u8(name_size);
    out.put_slice(name.as_bytes());
    out.put_u32(value_size);
    out.put_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let mut list = Vec::new();
        append_property(&mut list, SOCKET_TYPE, b"DEALER");
        append_property(&mut list, IDENTITY, b"");
        assert_eq!(list, b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0");
        let parsed: Vec<_> = Properties::new(&list).map(Result::unwrap).collect();
        assert!(parsed[0].is("socket-TYPE") && parsed[0].value == b"DEALER");
        assert!(parsed[1].is(IDENTITY) && parsed[1].value.is_empty());
        assert_eq!(parsed.len(), 2);
    }

    #[test]
    fn every_truncation_is_an_error_and_ends_the_walk() {
        let mut list = Vec::new();
        append_property(&mut list, "X-a", b"value");
        for size in 1..list.len() {
            let mut walk = Properties::new(&list[..size]);
            assert_eq!(walk.next(), Some(Err(Malformed::Metadata)), "{size} bytes");
            assert_eq!(walk.next(), None);
        }
    }

    #[test]
    fn a_value_of_four_gibibytes_is_an_error() {
        let list = b"\x01x\xff\xff\xff\xffvalue";
        assert_eq!(Properties::new(list).next(), Some(Err(Malformed::Metadata)));
    }
}
