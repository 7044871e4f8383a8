//! Messages as a TCP connection might have carried them: handshakes, greetings, segments.
//!
//! A flow is the traffic of one peer with the broker. The identity of a message determines its
//! flow, or else its connection, or else only its source.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use broker::PeerAddress;
use broker::record::{Direction, Message};
use zmtp::SocketType;
use zmtp::encode::append_command;
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{IDENTITY, SOCKET_TYPE, append_property};

use self::segment::{ACK, Connection, End, PSH, SYN};
use crate::capture::split;

mod segment;

/// Bytes of one direction after which the other acknowledges, long before its window is full.
const UNACKNOWLEDGED_MAX: usize = 1 << 20;

/// All flows so far, and the addresses for the next.
#[derive(Debug, Default)]
pub(super) struct Flows {
    flows: BTreeMap<Key, Flow>,
    /// The ports of the broker, by source, from [`PORT`] on.
    sources: BTreeMap<String, u16>,
}

/// The key of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// The peer of this connection, from this address.
    Connection(String, u64, String),
    /// The peer with this identity.
    Identity(String, Vec<u8>),
    /// All peers of a source that does not distinguish them.
    Source(String),
}

#[derive(Debug)]
struct Flow {
    connection: Connection,
    /// Bytes that an end has sent since the other end last sent anything.
    unacknowledged: [usize; 2],
}

impl Flows {
    /// Passes the packets of a message to `emit`, preceded by those that open its flow.
    pub(super) fn message(
        &mut self,
        message: &Message<'_>,
        mut emit: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (identity, frames) = split(message);
        let key = key_of(message, identity);
        let sender = sender_of(message, &key);
        if !self.flows.contains_key(&key) {
            let mut flow = Flow {
                connection: self.connection(message),
                unacknowledged: [0; 2],
            };
            flow.open(message, identity, &mut emit)?;
            self.flows.insert(key.clone(), flow);
        }
        let Some(flow) = self.flows.get_mut(&key) else {
            unreachable!("it was inserted above");
        };
        // The message is only an identity.
        let wire = match frames.rest() {
            [] => message.frames,
            rest => rest,
        };
        flow.send(sender, wire, &mut emit)
    }

    /// A connection from the peer's address if it is known, or from an address for this flow alone.
    fn connection(&mut self, message: &Message<'_>) -> Connection {
        let source = message.origin.source;
        let count = u16::try_from(self.sources.len()).unwrap_or(u16::MAX);
        let fresh = PORT.saturating_add(count);
        let port = *self.sources.entry(source.to_owned()).or_insert(fresh);
        let index = u32::try_from(self.flows.len()).unwrap_or(u32::MAX);
        let client = match message.origin.peer {
            Some(PeerAddress::Tcp(address)) if !message.origin.is_routed => address,
            _ => {
                let [high, a, b, c] = (index + 1).to_be_bytes();
                let ip = Ipv4Addr::new(10, a, b, c);
                SocketAddr::from((ip, CLIENT_PORT + u16::from(high)))
            }
        };
        let ip: IpAddr = match client {
            SocketAddr::V4(_) => BROKER_V4.into(),
            SocketAddr::V6(_) => BROKER_V6.into(),
        };
        Connection::new(client, SocketAddr::new(ip, port), index)
    }
}

impl Flow {
    /// TCP's handshake, both greetings, READY from both.
    fn open(
        &mut self,
        message: &Message<'_>,
        identity: Option<&[u8]>,
        emit: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let connection = &mut self.connection;
        emit(connection.segment(End::Client, SYN, b""))?;
        emit(connection.segment(End::Broker, SYN | ACK, b""))?;
        emit(connection.segment(End::Client, ACK, b""))?;
        let (client, broker) = socket_types(message);
        let mut greeting = Vec::new();
        Greeting::new("NULL").emit(&mut greeting);
        for end in [End::Client, End::Broker] {
            self.send(end, &greeting, emit)?;
        }
        for (end, socket_type) in [(End::Client, client), (End::Broker, broker)] {
            let (mut properties, mut ready) = (Vec::new(), Vec::new());
            append_property(&mut properties, SOCKET_TYPE, socket_type.name().as_bytes());
            if socket_type.announces_identity() {
                let announced = identity.filter(|name| end == End::Client && name[..1] != [0]);
                append_property(&mut properties, IDENTITY, announced.unwrap_or_default());
            }
            append_command(&mut ready, "READY", &properties);
            self.send(end, &ready, emit)?;
        }
        Ok(())
    }

    /// Sends bytes in segments, with acknowledgements from the other end.
    fn send(
        &mut self,
        from: End,
        bytes: &[u8],
        emit: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let size_max = self.connection.payload_size_max();
        let count = bytes.len().div_ceil(size_max);
        self.unacknowledged[from.other() as usize] = 0;
        for (payload, number) in bytes.chunks(size_max).zip(1..) {
            let flags = if number == count { PSH | ACK } else { ACK };
            emit(self.connection.segment(from, flags, payload))?;
            let unacknowledged = &mut self.unacknowledged[from as usize];
            *unacknowledged += payload.len();
            if *unacknowledged >= UNACKNOWLEDGED_MAX {
                *unacknowledged = 0;
                emit(self.connection.segment(from.other(), ACK, b""))?;
            }
        }
        Ok(())
    }
}

fn key_of(message: &Message<'_>, identity: Option<&[u8]>) -> Key {
    let origin = &message.origin;
    let source = origin.source.to_owned();
    match (identity, origin.peer) {
        (Some(identity), _) => Key::Identity(source, identity.to_vec()),
        (None, None) if origin.connection == 0 => Key::Source(source),
        (None, peer) => {
            let peer = peer.map_or_else(String::new, |peer| peer.to_string());
            Key::Connection(source, origin.connection, peer)
        }
    }
}

/// The sender of a message on its flow. If the flow is a connection, the broker received the
/// message on it; a capture without directions is that of a publisher, at the broker's end.
fn sender_of(message: &Message<'_>, key: &Key) -> End {
    match (key, message.origin.direction) {
        (Key::Connection(..), _) => End::Client,
        (Key::Identity(..), Some(Direction::Out)) => End::Broker,
        (Key::Identity(..), _) => End::Client,
        (Key::Source(_), Some(Direction::In)) => End::Client,
        (Key::Source(_), _) => End::Broker,
    }
}

/// The socket types of the client and of the broker, as far as known.
fn socket_types(message: &Message<'_>) -> (SocketType, SocketType) {
    let origin = &message.origin;
    match (origin.is_routed, origin.socket_type, origin.direction) {
        (true, _, _) => (SocketType::Dealer, SocketType::Router),
        (false, Some(broker), _) => {
            let client = match broker {
                SocketType::Dealer | SocketType::Router => SocketType::Dealer,
                other => other.peers()[0],
            };
            (client, broker)
        }
        (false, None, None) => (SocketType::Sub, SocketType::Pub),
        // Any type that may send both ways.
        (false, None, Some(_)) => (SocketType::Dealer, SocketType::Dealer),
    }
}

/// Addresses for documentation (RFC 5737, RFC 3849), which no host has.
const BROKER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BROKER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The port of the first source; each further source has the next port.
const PORT: u16 = 5555;

/// The port of peers whose address is unknown.
const CLIENT_PORT: u16 = 50_000;

#[cfg(test)]
mod tests;
