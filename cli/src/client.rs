//! Commands that are peers of a broker, or of any other ZeroMQ program.
//!
//! ```text
//! Socket: many connections, an event loop ──┐
//!                                           ├─► Connection: zmtp::Session ─► Wire: coder ─► Stream
//! Client: one connection, which waits ──────┘
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::config::Admission;
use broker::config::endpoint::Endpoint;
use zmtp::{HeartbeatConfig, Incompatible, MechanismConfig, SessionConfig, SocketType, encode};

mod advice;
mod connection;
mod dialer;
mod queue;
mod security;
mod signals;
mod socket;
mod stream;
mod subscriptions;
mod wire;

pub(crate) use advice::Advice;
pub(crate) use connection::{Connection, Heard};
pub(crate) use security::{SecurityArgs, ServerArgs};
pub(crate) use socket::{Arrival, Loss, News, PeerId, Socket, Waker};
pub(crate) use stream::{Listener, Stream};
pub(crate) use subscriptions::Subscriptions;
pub(crate) use wire::Wire;

/// What all connections of one command have in common.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    pub(crate) mechanism: MechanismConfig,
    pub(crate) socket_type: SocketType,
    /// For connecting, and again for the handshake. Later, a write that makes no progress for this
    /// long fails.
    pub(crate) timeout: Duration,
}

/// One connection after its handshake, which waits.
#[derive(Debug)]
pub(crate) struct Client {
    connection: Connection,
    /// Room for the next read: it grows each time that it was too small.
    scratch: Vec<u8>,
}

/// Received by [`Client::recv`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    /// A whole message in wire form; `zmtp::Frames` iterates over it.
    Message(&'a [u8]),
    /// The peer of our publishing socket subscribes (`add`) or cancels.
    Subscription { add: bool, topic: &'a [u8] },
}

/// Why a client could not go on.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The peer closed the connection.
    Closed,
    /// The handshake of a mechanism with keys or passwords failed, and what to check.
    Handshake(Box<Self>, Advice),
    /// A system call failed.
    Io(io::Error),
    /// One side violated the protocol, or both are incompatible.
    Protocol(zmtp::Error),
    /// This side has closed the connection.
    Refused(&'static str),
    /// Nothing arrived before the deadline.
    TimedOut,
}

impl Client {
    /// Connects and shakes hands.
    ///
    /// # Errors
    /// Nothing listens there, the peer refuses us, or the time is over.
    pub(crate) fn connect(endpoint: &Endpoint, config: &ClientConfig) -> Result<Self, ClientError> {
        let stream = Stream::connect(endpoint, config.timeout)?;
        Self::shake_hands(stream, config.session(), config.timeout)
    }

    fn shake_hands(
        stream: Stream,
        config: SessionConfig,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        stream.set_write_timeout(Some(timeout))?;
        let now = Instant::now();
        let mut client = Self {
            connection: Connection::new(stream, Arc::new(config), Admission::Any, now),
            scratch: vec![0; READ_SIZE_MIN],
        };
        match client.advance(Some(now + timeout)) {
            Ok(Heard::Ready(_)) => {}
            Ok(Heard::Message(_) | Heard::Subscription { .. }) => {
                unreachable!("a session reports nothing else before it is ready")
            }
            Err(error) => return Err(client.connection.explain(error)),
        }
        client.flush()?;
        Ok(client)
    }

    /// Sends one message with these frames.
    ///
    /// # Errors
    /// The connection is closed or blocked.
    pub(crate) fn send<B: AsRef<[u8]>>(&mut self, frames: &[B]) -> Result<(), ClientError> {
        encode::append_message(self.connection.out(), frames);
        self.flush()
    }

    /// Subscribes to a topic (`add`) or cancels it, in the form this peer understands. The next
    /// [`Self::send`] or [`Self::flush`] sends it, so that thousands can leave together.
    pub(crate) fn append_subscription(&mut self, topic: &[u8], add: bool) {
        self.connection.subscribe(topic, add);
    }

    /// Waits for the next message or subscription.
    ///
    /// # Errors
    /// The connection is closed or failed, or the deadline passed; after a deadline the call may be
    /// repeated.
    pub(crate) fn recv(&mut self, deadline: Option<Instant>) -> Result<Received<'_>, ClientError> {
        match self.advance(deadline)? {
            Heard::Message(at) => Ok(Received::Message(self.connection.bytes(at))),
            Heard::Subscription { add, topic } => Ok(Received::Subscription {
                add,
                topic: self.connection.bytes(topic),
            }),
            Heard::Ready(_) => unreachable!("the handshake was over before"),
        }
    }

    /// Sends pending bytes.
    ///
    /// # Errors
    /// The connection is closed or blocked.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        self.connection.flush()?;
        match self.connection.unsent() {
            0 => Ok(()),
            // The stream waits, so it took no more in its time.
            _ => Err(ClientError::TimedOut),
        }
    }

    /// Another handle to the connection: to shut it down from elsewhere, or to read without the
    /// session.
    pub(crate) fn try_clone_stream(&self) -> io::Result<Stream> {
        self.connection.stream().try_clone()
    }

    /// The bare connection, for a caller that knows the form of messages on the wire, and the bytes
    /// that were received and not returned.
    pub(crate) fn into_wire(self) -> (Wire, Vec<u8>) {
        self.connection.into_wire()
    }

    /// Reads until something has arrived. The returned ranges are valid until the next call.
    fn advance(&mut self, deadline: Option<Instant>) -> Result<Heard, ClientError> {
        loop {
            match self.connection.step() {
                Ok(Some(heard)) => return Ok(heard),
                Ok(None) => {}
                Err(error) => {
                    // The ERROR for the peer; a failure to send it does not matter.
                    drop(self.flush());
                    return Err(error);
                }
            }
            self.flush()?;
            self.read(deadline)?;
        }
    }

    /// Waits for bytes, or until a heartbeat is due.
    fn read(&mut self, deadline: Option<Instant>) -> Result<(), ClientError> {
        let now = Instant::now();
        let is_late = |now| deadline.is_some_and(|deadline| deadline <= now);
        if is_late(now) {
            return Err(ClientError::TimedOut);
        }
        let wake = deadline.into_iter().chain(self.connection.poll_timeout());
        let timeout = |wake: Instant| wake.saturating_duration_since(now).max(MOMENT);
        let stream = self.connection.stream();
        stream.set_read_timeout(wake.min().map(timeout))?;
        let size = self.connection.read(&mut self.scratch, Instant::now())?;
        if size == self.scratch.len() {
            self.scratch.resize((2 * size).min(READ_SIZE_MAX), 0);
        }
        let now = Instant::now();
        if size > 0 {
            return Ok(());
        }
        if is_late(now) {
            return Err(ClientError::TimedOut);
        }
        self.connection.handle_timeout(now, false)?;
        self.flush()
    }
}

impl ClientConfig {
    fn session(&self) -> SessionConfig {
        SessionConfig {
            handshake_timeout: Some(self.timeout),
            heartbeat: Some(HEARTBEAT),
            mechanism: self.mechanism.clone(),
            ..SessionConfig::new(self.socket_type)
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(error) = inner {
            return Self::Protocol(*error);
        }
        match error.kind() {
            // The error of a blocking socket with a timeout, which depends on the system.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Io(error),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::Handshake(error, advice) => write!(f, "{error} {advice}"),
            Self::Io(error) => error.fmt(f),
            Self::Protocol(error @ zmtp::Error::Incompatible(Incompatible::Mechanism { .. })) => {
                let remedy =
                    "choose its mechanism with --curve-server, --plain-username or neither";
                write!(f, "{error}; {remedy}")
            }
            Self::Protocol(error) => error.fmt(f),
            Self::Refused(reason) => f.write_str(reason),
            Self::TimedOut => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for ClientError {}

/// The defaults of a broker: a lost machine is noticed if the peer knows PING.
const HEARTBEAT: HeartbeatConfig = HeartbeatConfig {
    interval: Duration::from_secs(10),
    timeout: Duration::from_secs(15),
    ttl: Duration::ZERO,
};

/// The shortest time to wait for bytes.
const MOMENT: Duration = Duration::from_millis(1);

/// The first reads are small, because a command may hold thousands of clients.
const READ_SIZE_MIN: usize = 4 << 10;
const READ_SIZE_MAX: usize = 256 << 10;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::thread;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn config(socket_type: SocketType, timeout: Duration) -> ClientConfig {
        ClientConfig {
            mechanism: MechanismConfig::Null,
            socket_type,
            timeout,
        }
    }

    fn listen() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
        (listener, endpoint.parse().unwrap())
    }

    /// Joins one connection to each of two endpoints, so that two clients shake hands with each
    /// other. `change` sees the bytes from the front to the back.
    pub(crate) fn relay(
        mut change: impl FnMut(&mut Vec<u8>) + Send + 'static,
    ) -> (Endpoint, Endpoint) {
        let ((front, frontend), (back, backend)) = (listen(), listen());
        thread::spawn(move || {
            let (front, back) = (front.accept().unwrap().0, back.accept().unwrap().0);
            thread::scope(|scope| {
                scope.spawn(|| copy(&back, &front, |_| {}));
                copy(&front, &back, &mut change);
            });
        });
        (frontend, backend)
    }

    fn copy(mut from: &TcpStream, mut to: &TcpStream, mut change: impl FnMut(&mut Vec<u8>)) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(size @ 1..) = from.read(&mut buffer) {
            let mut bytes = buffer[..size].to_vec();
            change(&mut bytes);
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    fn pair(front: SocketType, back: SocketType) -> (Client, Client) {
        let (frontend, backend) = relay(|_| {});
        let front = thread::spawn(move || Client::connect(&frontend, &config(front, TIMEOUT)));
        let back = Client::connect(&backend, &config(back, TIMEOUT)).unwrap();
        (front.join().unwrap().unwrap(), back)
    }

    /// A peer that sends these bytes, then reads without end if `stays`, and closes otherwise.
    fn connect_to(bytes: &'static [u8], stays: bool, timeout: Duration) -> ClientError {
        let (listener, endpoint) = listen();
        let peer = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(bytes).unwrap();
            while stays && stream.read(&mut [0; 64]).is_ok_and(|size| size > 0) {}
        });
        let refusal = Client::connect(&endpoint, &config(SocketType::Sub, timeout)).unwrap_err();
        peer.join().unwrap();
        refusal
    }

    #[test]
    fn messages_and_subscriptions_arrive_whole_and_in_order() {
        let (mut publisher, mut subscriber) = pair(SocketType::Pub, SocketType::Sub);
        let deadline = Some(Instant::now() + TIMEOUT);
        subscriber.append_subscription(b"a", true);
        subscriber.append_subscription(b"b", false);
        subscriber.flush().unwrap();
        for (add, topic) in [(true, b"a"), (false, b"b")] {
            let expected = Received::Subscription { add, topic };
            assert_eq!(publisher.recv(deadline).unwrap(), expected);
        }
        let large = vec![7; 3 << 20];
        let sender = thread::spawn({
            let large = large.clone();
            move || {
                for _ in 0..100 {
                    publisher.send(&["a", "", "text"]).unwrap();
                }
                publisher.send(&[&large]).unwrap();
                publisher
            }
        });
        for _ in 0..100 {
            let expected = Received::Message(b"\x01\x01a\x01\x00\x00\x04text");
            assert_eq!(subscriber.recv(deadline).unwrap(), expected);
        }
        let Received::Message(message) = subscriber.recv(deadline).unwrap() else {
            panic!("a message");
        };
        assert_eq!(message[9..], large);
        drop(sender.join().unwrap());
        assert!(matches!(
            subscriber.recv(deadline),
            Err(ClientError::Closed)
        ));
    }

    #[test]
    fn a_deadline_that_passes_leaves_the_connection_usable() {
        let (mut front, mut back) = pair(SocketType::Dealer, SocketType::Dealer);
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(matches!(back.recv(Some(soon)), Err(ClientError::TimedOut)));
        front.send(&["late"]).unwrap();
        let deadline = Some(Instant::now() + TIMEOUT);
        assert_eq!(
            back.recv(deadline).unwrap(),
            Received::Message(b"\x00\x04late")
        );
    }

    #[test]
    fn a_silent_peer_times_out_and_one_that_answers_does_not() {
        let heartbeat = |interval_ms, timeout_ms| SessionConfig {
            heartbeat: Some(HeartbeatConfig {
                interval: Duration::from_millis(interval_ms),
                timeout: Duration::from_millis(timeout_ms),
                ttl: Duration::ZERO,
            }),
            ..SessionConfig::new(SocketType::Dealer)
        };
        let (listener, endpoint) = listen();
        let peer =
            thread::spawn(move || Client::connect(&endpoint, &config(SocketType::Dealer, TIMEOUT)));
        let stream = Stream::Tcp(listener.accept().unwrap().0);
        let mut client = Client::shake_hands(stream, heartbeat(1, 50), TIMEOUT).unwrap();
        // The peer has shaken hands and stops reading.
        let _silent = peer.join().unwrap().unwrap();
        let dead = client.recv(Some(Instant::now() + TIMEOUT)).unwrap_err();
        assert!(
            matches!(dead, ClientError::Protocol(zmtp::Error::TimedOut(_))),
            "{dead}"
        );

        let (listener, endpoint) = listen();
        let peer = thread::spawn(move || {
            let mut peer =
                Client::connect(&endpoint, &config(SocketType::Dealer, TIMEOUT)).unwrap();
            drop(peer.recv(Some(Instant::now() + TIMEOUT)).map(|_| ()));
        });
        let stream = Stream::Tcp(listener.accept().unwrap().0);
        let mut client = Client::shake_hands(stream, heartbeat(1, 5000), TIMEOUT).unwrap();
        // After many PINGs and their answers.
        let soon = Some(Instant::now() + Duration::from_millis(50));
        assert!(matches!(client.recv(soon), Err(ClientError::TimedOut)));
        client.send(&["the end"]).unwrap();
        peer.join().unwrap();
    }

    #[test]
    fn local_sockets_are_bound_and_connected_to() {
        let path = std::env::temp_dir().join(format!("zmqd-client-{}.ipc", std::process::id()));
        let names = [
            format!("ipc://{}", path.display()),
            format!("ipc://@zmqd-client-{}", std::process::id()),
        ];
        // A socket without a listener.
        drop(UnixListener::bind(&path).unwrap());
        for name in &names {
            let endpoint: Endpoint = name.parse().unwrap();
            for _ in 0..2 {
                let (listener, bound) = Listener::bind(&endpoint).unwrap();
                assert_eq!(bound, endpoint);
                assert!(
                    Listener::bind(&endpoint).is_err(),
                    "another process listens there"
                );
                let connect = endpoint.clone();
                let front = thread::spawn(move || {
                    let mut front = Client::connect(&connect, &config(SocketType::Push, TIMEOUT));
                    front.as_mut().unwrap().send(&["local"]).unwrap();
                });
                // The first connection is that of the second attempt to bind.
                let mut back = loop {
                    let stream = listener.accept().unwrap();
                    let session = SessionConfig::new(SocketType::Pull);
                    if let Ok(back) = Client::shake_hands(stream, session, TIMEOUT) {
                        break back;
                    }
                };
                let expected = Received::Message(b"\x00\x05local");
                assert_eq!(back.recv(Some(Instant::now() + TIMEOUT)).unwrap(), expected);
                front.join().unwrap();
            }
        }
        assert!(!path.exists(), "a listener removes its file");
        std::fs::write(&path, "notes").unwrap();
        assert!(Listener::bind(&names[0].parse().unwrap()).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
        std::fs::remove_file(path).unwrap();
        let none = "inproc://here".parse().unwrap();
        assert!(Listener::bind(&none).is_err());
        assert!(Client::connect(&none, &config(SocketType::Pull, TIMEOUT)).is_err());
    }

    #[test]
    fn the_bare_connection_keeps_bytes_that_were_not_returned() {
        let (mut front, mut back) = pair(SocketType::Push, SocketType::Pull);
        encode::append_message(front.connection.out(), &["one"]);
        front.send(&["two"]).unwrap();
        back.recv(Some(Instant::now() + TIMEOUT)).unwrap();
        drop(front);
        let (wire, mut received) = back.into_wire();
        let mut stream = wire.stream();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"\x00\x03two");
    }

    #[test]
    fn a_peer_without_zmtp_is_recognised() {
        let http = connect_to(b"HTTP/1.1 400 Bad Request\r\n\r\n", true, TIMEOUT);
        assert!(
            http.to_string().contains("it sent \"HTTP/1.1 400"),
            "{http}"
        );
        let silent = connect_to(b"", true, Duration::from_millis(20));
        assert!(matches!(silent, ClientError::TimedOut), "{silent}");
        let closing = connect_to(b"\xff", false, TIMEOUT);
        assert!(
            matches!(closing, ClientError::Closed | ClientError::Io(_)),
            "{closing}"
        );
        let (listener, endpoint) = listen();
        drop(listener);
        let refused = Client::connect(&endpoint, &config(SocketType::Sub, TIMEOUT)).unwrap_err();
        assert!(matches!(refused, ClientError::Io(_)), "{refused}");
    }
}
