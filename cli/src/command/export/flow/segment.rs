//! TCP segments in IP packets, with correct headers.

use std::net::SocketAddr;

pub(super) const SYN: u8 = 0x02;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Bytes of headers without options.
const IPV4_SIZE: usize = 20;
const IPV6_SIZE: usize = 40;
const TCP_SIZE: usize = 20;

/// TCP's number in an IP header.
const PROTOCOL: u8 = 6;

/// The time-to-live of the packets.
const HOPS: u8 = 64;

/// Both ends offer 65535 << 14 bytes, the largest possible window (RFC 7323), so no analysis finds
/// it full.
const WINDOW: u16 = u16::MAX;
const WINDOW_SCALE: u8 = 14;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client = 0,
    Broker = 1,
}

/// A TCP connection without losses.
#[derive(Debug)]
pub(super) struct Connection {
    addresses: [SocketAddr; 2],
    /// The identification of the next packet from each end, for the IPv4 header.
    ids: [u16; 2],
    /// The number of the next byte from each end.
    next: [u32; 2],
    packet: Vec<u8>,
}

impl End {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Broker,
            Self::Broker => Self::Client,
        }
    }
}

impl Connection {
    /// A connection between two addresses of one family; `number` determines its sequence numbers.
    pub(super) fn new(client: SocketAddr, broker: SocketAddr, number: u32) -> Self {
        let first = number.wrapping_mul(0x9e37_79b9);
        Self {
            addresses: [client, broker],
            ids: [1, 1],
            next: [first, first.rotate_left(16)],
            packet: Vec::new(),
        }
    }

    /// Payload bytes of a segment: IP has 16 bits for its size.
    pub(super) fn payload_size_max(&self) -> usize {
        match self.addresses[0] {
            SocketAddr::V4(_) => usize::from(u16::MAX) - IPV4_SIZE - TCP_SIZE,
            SocketAddr::V6(_) => usize::from(u16::MAX) - TCP_SIZE,
        }
    }

    /// The next packet from an end, with a payload that fits.
    pub(super) fn segment(&mut self, from: End, flags: u8, payload: &[u8]) -> &[u8] {
        let (own, other) = (from as usize, from.other() as usize);
        let size_max = u16::try_from(self.payload_size_max()).unwrap_or_default();
        let [high, low] = size_max.to_be_bytes();
        // Maximum segment size, a NOP, then the window scale.
        let options = [2, 4, high, low, 1, 3, 3, WINDOW_SCALE];
        let options = if flags & SYN == 0 { &[] } else { &options[..] };
        let header_size = TCP_SIZE + options.len();
        let acknowledged = if flags & ACK == 0 {
            0
        } else {
            self.next[other]
        };
        let mut segment = Vec::with_capacity(header_size + payload.len());
        for end in [own, other] {
            segment.extend_from_slice(&self.addresses[end].port().to_be_bytes());
        }
        segment.extend_from_slice(&self.next[own].to_be_bytes());
        segment.extend_from_slice(&acknowledged.to_be_bytes());
        let words = u8::try_from(header_size / 4).unwrap_or_default();
        segment.extend_from_slice(&[words << 4, flags]);
        segment.extend_from_slice(&WINDOW.to_be_bytes());
        segment.extend_from_slice(&[0; 4]); // checksum, urgent pointer
        segment.extend_from_slice(options);
        segment.extend_from_slice(payload);
        let checksum = self.checksum(own, &segment);
        segment[16..18].copy_from_slice(&checksum.to_be_bytes());
        self.append_packet(own, &segment);
        let sent = u32::try_from(payload.len()).unwrap_or_default() + u32::from(flags & SYN != 0);
        self.next[own] = self.next[own].wrapping_add(sent);
        self.ids[own] = self.ids[own].wrapping_add(1);
        &self.packet
    }

    fn append_packet(&mut self, own: usize, segment: &[u8]) {
        let packet = &mut self.packet;
        packet.clear();
        let size = |size: usize| u16::try_from(size).unwrap_or_default().to_be_bytes();
        match (self.addresses[own], self.addresses[1 - own]) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let [high, low] = size(IPV4_SIZE + segment.len());
                packet.extend_from_slice(&[0x45, 0, high, low]);
                packet.extend_from_slice(&self.ids[own].to_be_bytes());
                packet.extend_from_slice(&[0x40, 0, HOPS, PROTOCOL, 0, 0]); // don't fragment
                packet.extend_from_slice(&from.ip().octets());
                packet.extend_from_slice(&to.ip().octets());
                let checksum = finish(sum(0, packet));
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                let [high, low] = size(segment.len());
                packet.extend_from_slice(&[0x60, 0, 0, 0, high, low, PROTOCOL, HOPS]);
                packet.extend_from_slice(&from.ip().octets());
                packet.extend_from_slice(&to.ip().octets());
            }
            _ => unreachable!("both addresses are of one family"),
        }
        packet.extend_from_slice(segment);
        debug_assert!(
            packet.len() <= IPV6_SIZE + usize::from(u16::MAX),
            "the payload fits"
        );
    }

    /// The checksum of a segment, which covers the addresses (RFC 9293, 3.1; RFC 8200, 8.1).
    fn checksum(&self, own: usize, segment: &[u8]) -> u16 {
        let mut total = 0;
        for address in [self.addresses[own], self.addresses[1 - own]] {
            total = match address {
                SocketAddr::V4(address) => sum(total, &address.ip().octets()),
                SocketAddr::V6(address) => sum(total, &address.ip().octets()),
            };
        }
        let size = u32::try_from(segment.len()).unwrap_or_default();
        total = sum(total, &size.to_be_bytes());
        total = sum(total, &[0, PROTOCOL]);
        finish(sum(total, segment))
    }
}

/// Adds up pairs of bytes; a zero follows an odd last byte.
fn sum(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(start, |total, pair| {
        total + (u64::from(pair[0]) << 8) + pair.get(1).map_or(0, |low| u64::from(*low))
    })
}

/// Folds the carries in and inverts (RFC 1071).
fn finish(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_specifications() {
        let (client, broker) = ("10.0.0.1:50000", "192.0.2.1:5555");
        let mut connection = Connection::new(client.parse().unwrap(), broker.parse().unwrap(), 0);
        let syn = connection.segment(End::Client, SYN, b"").to_vec();
        assert_eq!(
            syn,
            b"\x45\0\0\x30\0\x01\x40\0\x40\x06\x6e\xc5\x0a\0\0\x01\xc0\0\x02\x01\
              \xc3\x50\x15\xb3\0\0\0\0\0\0\0\0\x70\x02\xff\xff\xe4\xe7\0\0\
              \x02\x04\xff\xd7\x01\x03\x03\x0e"
        );
        connection.segment(End::Broker, SYN | ACK, b"");
        let data = connection.segment(End::Broker, PSH | ACK, b"odd").to_vec();
        assert_eq!(data[..6], *b"\x45\0\0\x2b\0\x02");
        assert_eq!(
            data[24..32],
            *b"\0\0\0\x01\0\0\0\x01",
            "sequence, acknowledgement"
        );
        assert_eq!(data[33], PSH | ACK);
        // A receiver adds up everything, checksum included, and must get no difference.
        let mut total = sum(0, &data[12..20]);
        total = sum(total, &[0, PROTOCOL, 0, 23]);
        assert_eq!(finish(sum(total, &data[20..])), 0);
        assert_eq!(finish(sum(0, &data[..20])), 0);
        let reply = connection.segment(End::Client, ACK, b"");
        assert_eq!(reply[24..32], *b"\0\0\0\x01\0\0\0\x04");
    }

    #[test]
    fn the_largest_segments_fit_and_numbers_wrap() {
        for addresses in [
            ["10.0.0.1:1", "192.0.2.1:2"],
            ["[::1]:1", "[2001:db8::1]:2"],
        ] {
            let [client, broker] = addresses.map(|text| text.parse().unwrap());
            let mut connection = Connection::new(client, broker, 1);
            connection.next = [u32::MAX - 10, 7];
            let payload = vec![0xff; connection.payload_size_max()];
            let packet = connection.segment(End::Client, ACK, &payload).to_vec();
            let header_size = packet.len() - payload.len() - TCP_SIZE;
            let (size, counted) = match client {
                SocketAddr::V4(_) => (&packet[2..4], packet.len()),
                SocketAddr::V6(_) => (&packet[4..6], packet.len() - header_size),
            };
            assert_eq!((size, counted), (&[0xff, 0xff][..], 65535));
            let expected = u32::try_from(payload.len() - 11).unwrap();
            assert_eq!(connection.next[0], expected);
        }
    }
}
