//! A TCP connection under the full control of a test, for misbehaving peers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::{PATIENCE, Stopwatch, wait_until};

/// A connection to a broker.
#[derive(Debug)]
pub struct Raw {
    address: String,
    stream: TcpStream,
}

/// A listener on a free port, to which a broker can connect, and its endpoint.
#[must_use]
#[track_caller]
pub fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a listener has an address");
    (listener, format!("tcp://{address}"))
}

impl Raw {
    /// Connects to `tcp://ADDRESS:PORT`. On loopback each connection has its own source address, so
    /// that the log has a line for each.
    #[must_use]
    #[track_caller]
    pub fn connect(endpoint: &str) -> Self {
        static TAKEN: AtomicU16 = AtomicU16::new(0);
        let [high, low] = TAKEN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        // Neither 127.0.0.1 nor an address of `vacant_endpoint`.
        Self::connect_from(Ipv4Addr::new(127, 1, high, low), endpoint)
    }

    /// Connects to `tcp://ADDRESS:PORT` from this address, if that is on loopback.
    #[must_use]
    #[track_caller]
    pub fn connect_from(source: Ipv4Addr, endpoint: &str) -> Self {
        let address = endpoint.trim_start_matches("tcp://");
        let connect = || -> io::Result<TcpStream> {
            let Ok(to @ SocketAddr::V4(_)) = address.parse::<SocketAddr>() else {
                return TcpStream::connect(address);
            };
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            if to.ip().is_loopback() {
                socket.bind(&SocketAddr::from((source, 0)).into())?;
            }
            socket.connect(&to.into())?;
            Ok(socket.into())
        };
        let stream =
            connect().unwrap_or_else(|error| panic!("cannot connect to {endpoint}: {error}"));
        Self::new(stream)
    }

    /// Waits for a broker that connects.
    #[must_use]
    #[track_caller]
    pub fn accept(listener: &TcpListener) -> Self {
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        let stream = wait_until("a connection from the broker", || listener.accept().ok()).0;
        stream
            .set_nonblocking(false)
            .expect("a connection can be blocking");
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Self {
        let address = stream
            .local_addr()
            .expect("a connection has an address")
            .to_string();
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("no zero timeout");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("no zero timeout");
        stream.set_nodelay(true).expect("loopback is TCP");
        Self { address, stream }
    }

    /// The address of this end, as the log of the broker shows it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends bytes; an error means that the broker has closed.
    ///
    /// # Errors
    ///
    /// The error of the socket: a broken pipe, a reset, or a timeout after [`PATIENCE`].
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends bytes again and again until the broker closes; returns how many were sent.
    ///
    /// # Panics
    ///
    /// If the connection is still open after `bytes_max`, or the broker stops reading.
    #[track_caller]
    pub fn send_until_closed(&mut self, chunk: &[u8], bytes_max: usize) -> usize {
        let mut sent = 0;
        while sent < bytes_max {
            match self.stream.write(&chunk[sent % chunk.len()..]) {
                Ok(len) => sent += len,
                Err(error) if is_closed(&error) => return sent,
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        panic!("{sent} bytes sent and the broker has not closed");
    }

    /// Sends the greeting and READY at once; returns when the broker's READY has arrived.
    #[track_caller]
    pub fn handshake(&mut self, socket_type: &str) {
        self.handshake_with(&ready(socket_type));
    }

    /// As [`Raw::handshake`] with another READY; returns the body of the broker's.
    #[track_caller]
    pub fn handshake_with(&mut self, ready: &[u8]) -> Vec<u8> {
        self.send(&greeting("NULL"))
            .expect("a new connection takes a greeting");
        self.send(ready).expect("a new connection takes READY");
        let mut theirs = [0; 64];
        self.stream
            .read_exact(&mut theirs)
            .expect("the broker greets");
        let answer = self.read_frame();
        assert!(
            answer.starts_with(b"\x05READY"),
            "{} instead of READY",
            answer.escape_ascii()
        );
        answer
    }

    /// Reads one frame and returns its body.
    #[track_caller]
    pub fn read_frame(&mut self) -> Vec<u8> {
        let mut head = [0; 2];
        self.stream
            .read_exact(&mut head)
            .expect("the broker sends a frame");
        let mut len = usize::from(head[1]);
        if head[0] & LONG != 0 {
            let mut rest = [0; 7];
            self.stream
                .read_exact(&mut rest)
                .expect("a long frame has eight octets of length");
            len = rest
                .iter()
                .fold(len, |len, octet| len << 8 | usize::from(*octet));
        }
        let mut body = vec![0; len];
        self.stream
            .read_exact(&mut body)
            .expect("the broker sends the whole frame");
        body
    }

    /// Reads until the broker closes, by FIN or by RST; returns the bytes before that.
    ///
    /// # Panics
    ///
    /// If the connection is still open after [`PATIENCE`].
    #[track_caller]
    pub fn read_until_closed(&mut self) -> Vec<u8> {
        let watch = Stopwatch::start();
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while watch.patience().is_some() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return seen,
                Ok(len) => seen.extend_from_slice(&buffer[..len]),
                Err(error) if is_closed(&error) => return seen,
                Err(error) => panic!("the broker did not close: {error}"),
            }
        }
        panic!("the broker sends and does not close");
    }

    /// Whether the broker closes within this time; drops all it sends meanwhile.
    pub fn is_closed_within(&mut self, time: Duration) -> bool {
        let watch = Stopwatch::start();
        let mut buffer = [0; 4096];
        while let Some(left) = time
            .checked_sub(watch.elapsed())
            .filter(|left| !left.is_zero())
        {
            self.stream
                .set_read_timeout(Some(left))
                .expect("no zero timeout");
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if is_closed(&error) => return true,
                Err(_) => break,
            }
        }
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("no zero timeout");
        false
    }

    /// Closes the sending half, as by FIN; the other half stays open.
    pub fn end(&self) {
        drop(self.stream.shutdown(Shutdown::Write)); // fails only if the broker has closed
    }
}

/// A greeting of ZMTP 3.1 with the given text in its mechanism field.
#[must_use]
pub fn greeting(mechanism: &str) -> [u8; 64] {
    let mut octets = [0; 64];
    octets[0] = 0xff;
    octets[8] = 1;
    octets[9] = 0x7f;
    octets[10..12].copy_from_slice(&[3, 1]);
    octets[12..12 + mechanism.len()].copy_from_slice(mechanism.as_bytes());
    octets
}

/// The READY command of the NULL mechanism with an empty identity.
#[must_use]
pub fn ready(socket_type: &str) -> Vec<u8> {
    ready_with(&[("Socket-Type", socket_type), ("Identity", "")])
}

/// The READY command of the NULL mechanism with these properties.
#[must_use]
pub fn ready_with(properties: &[(&str, &str)]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in properties {
        body.push(u8::try_from(name.len()).expect("names are short"));
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(
            &u32::try_from(value.len())
                .expect("values are short")
                .to_be_bytes(),
        );
        body.extend_from_slice(value.as_bytes());
    }
    frame(COMMAND, &body)
}

/// A frame with its header, in the long form if needed.
#[must_use]
pub fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut octets = match u8::try_from(body.len()) {
        Ok(len) => vec![flags, len],
        Err(_) => long_header(flags, body.len() as u64),
    };
    octets.extend_from_slice(body);
    octets
}

/// The header of a long frame that announces this length.
#[must_use]
pub fn long_header(flags: u8, len: u64) -> Vec<u8> {
    let mut octets = vec![flags | LONG];
    octets.extend_from_slice(&len.to_be_bytes());
    octets
}

/// Flag: more frames of the same message follow.
pub const MORE: u8 = 1;
/// Flag: the length has eight octets.
pub const LONG: u8 = 2;
/// Flag: the frame is a command.
pub const COMMAND: u8 = 4;

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}
