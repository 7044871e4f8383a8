//! Thousands of connections.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use zmqd_tests::Stopwatch;
use zmqd_tests::raw::{COMMAND, frame, greeting, ready};

/// The time to make one connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// The time until all connections of a swarm are answered.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that an attacker's system buffers: the possible minimum.
const SMALL_BUFFER: usize = 2048;

/// The bytes that an attacker's system buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    Default,
    Small,
}

/// Open connections, which end with a reset when dropped.
#[derive(Debug)]
pub(crate) struct Swarm {
    streams: Vec<TcpStream>,
}

impl Swarm {
    /// Connects this number of peers, each of which sends the same bytes and waits until the broker
    /// has read them. Refused ones are left out.
    pub(crate) fn connect(endpoint: &str, count: usize, hello: &[u8], buffers: Buffers) -> Self {
        let hello = [hello, &ping()].concat();
        let mut streams = Vec::with_capacity(count);
        for _ in 0..count {
            let Ok(mut stream) = connect(endpoint, buffers) else {
                break; // the broker or this process is at its limit
            };
            if stream.write_all(&hello).is_ok() {
                streams.push(stream);
            }
        }
        let watch = Stopwatch::start();
        streams.retain(|stream| {
            let left = ANSWER_PATIENCE.saturating_sub(watch.elapsed());
            wait_pong(stream, left.max(Duration::from_millis(1))).is_ok()
        });
        Self { streams }
    }

    pub(crate) fn into_streams(self) -> Vec<TcpStream> {
        self.streams
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Sends this on every connection; drops those that fail.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.streams
            .retain_mut(|stream| stream.write_all(bytes).is_ok());
    }
}

/// One connection that ends with a reset and leaves nothing behind in the kernel.
pub(crate) fn connect(endpoint: &str, buffers: Buffers) -> io::Result<TcpStream> {
    connect_from(Ipv4Addr::LOCALHOST, endpoint, buffers)
}

/// The same, from another address of this machine.
pub(crate) fn connect_from(
    from: Ipv4Addr,
    endpoint: &str,
    buffers: Buffers,
) -> io::Result<TcpStream> {
    let address: SocketAddr = endpoint
        .trim_start_matches("tcp://")
        .parse()
        .map_err(io::Error::other)?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if buffers == Buffers::Small {
        socket.set_recv_buffer_size(SMALL_BUFFER)?;
    }
    socket.set_linger(Some(Duration::ZERO))?;
    if from != Ipv4Addr::LOCALHOST {
        socket.bind(&SockAddr::from(SocketAddr::from((from, 0))))?;
    }
    socket.connect_timeout(&SockAddr::from(address), CONNECT_PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(CONNECT_PATIENCE))?;
    Ok(stream)
}

/// One connection after a handshake as this type of socket.
pub(crate) fn greet(endpoint: &str, socket_type: &str) -> io::Result<TcpStream> {
    let mut stream = connect(endpoint, Buffers::Default)?;
    stream.write_all(&[&hello(socket_type)[..], &ping()].concat())?;
    wait_pong(&stream, ANSWER_PATIENCE)?;
    Ok(stream)
}

/// Greeting and READY.
pub(crate) fn hello(socket_type: &str) -> Vec<u8> {
    [&greeting("NULL")[..], &ready(socket_type)].concat()
}

/// Greeting, READY, and a subscription to this topic.
pub(crate) fn subscriber(topic: &[u8]) -> Vec<u8> {
    [&hello("SUB")[..], &subscription(topic)].concat()
}

pub(crate) fn subscription(topic: &[u8]) -> Vec<u8> {
    frame(0, &[b"\x01", topic].concat())
}

/// Writes as much of this as the broker reads in the time; returns the number of bytes.
pub(crate) fn write_within(stream: &TcpStream, bytes: &[u8], time: Duration) -> usize {
    let watch = Stopwatch::start();
    let mut sent = 0;
    while sent < bytes.len() {
        let left = time.saturating_sub(watch.elapsed());
        if left.is_zero() || stream.set_write_timeout(Some(left)).is_err() {
            break;
        }
        match (&*stream).write(&bytes[sent..]) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    sent
}

/// Whether the broker has closed; its bytes are discarded.
pub(crate) fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let closed = loop {
        match (&*stream).read(&mut buffer) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => break error.kind() != ErrorKind::WouldBlock,
        }
    };
    closed || stream.set_nonblocking(false).is_err()
}

/// Ends with FIN, not with a reset.
pub(crate) fn end_politely(stream: &TcpStream) {
    // Fails only if the connection has ended.
    drop(SockRef::from(stream).set_linger(None));
}

/// A PING whose answer shows that everything before it was read.
fn ping() -> Vec<u8> {
    frame(COMMAND, b"\x04PING\x00\x00read")
}

/// Waits for a PONG for at most this time, whatever else arrives.
fn wait_pong(mut stream: &TcpStream, time: Duration) -> io::Result<()> {
    const PONG: &[u8] = b"\x04PONGread";
    let watch = Stopwatch::start();
    let mut seen = Vec::with_capacity(256);
    let mut buffer = [0; 256];
    while !seen.windows(PONG.len()).any(|part| part == PONG) {
        let left = time.saturating_sub(watch.elapsed());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        // These bytes could be the beginning of a PONG.
        seen.drain(..seen.len().saturating_sub(PONG.len()));
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            _ if left.is_zero() => return Err(ErrorKind::TimedOut.into()),
            len => seen.extend_from_slice(&buffer[..len]),
        }
    }
    Ok(())
}
