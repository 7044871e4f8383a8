//! A blocking ZMTP peer: a [`Session`] over a standard stream, for commands that are clients of a
//! broker.
#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use broker::config::endpoint::Endpoint;
use zmtp::{
    Coder, Event, HeartbeatConfig, Incompatible, MechanismConfig, Opener, Peer, Sealer, Session,
    SessionConfig, SocketType, Version, encode,
};

mod advice;
mod connection;
mod dialer;
mod queue;
mod security;
mod signals;
mod socket;
mod stream;
mod subscriptions;

pub(crate) use advice::Advice;
pub(crate) use security::SecurityArgs;
pub(crate) use socket::{Arrival, Loss, News, PeerId, Socket, Waker};
pub(crate) use stream::{Listener, Stream};

/// What all connections of one command have in common.
#[derive(Clone, Debug)]
pub(crate) struct ClientConfig {
    pub(crate) mechanism: MechanismConfig,
    pub(crate) socket_type: SocketType,
    /// For connecting, and again for the handshake. Later, a write that makes no progress for this
    /// long fails.
    pub(crate) timeout: Duration,
}

/// One connection after its handshake.
#[derive(Debug)]
pub(crate) struct Client {
    /// Received plain bytes; those before `taken` are handled.
    input: Vec<u8>,
    /// Opens received frames, if the mechanism encrypts them.
    opener: Option<Opener>,
    /// Plain bytes to be sent.
    out: Vec<u8>,
    outgoing: Arc<Mutex<Outgoing>>,
    /// Received frames that are not opened yet.
    raw: Vec<u8>,
    /// The size of the next read: it grows each time that the buffer was too small.
    read_size: usize,
    session: Session,
    /// Steps of the handshake so far: the greeting, and then commands of the peer.
    steps: u32,
    stream: Arc<Stream>,
    taken: usize,
    version: Version,
}

/// The sending direction of a connection. It is locked during a write, so that writes do not
/// interleave and frames leave in the order in which they are sealed.
#[derive(Debug, Default)]
struct Outgoing {
    sealed: Vec<u8>,
    /// Seals frames before they are sent, if the mechanism encrypts them.
    sealer: Option<Sealer>,
}

/// Sends on a client's connection from another thread, while the client receives.
#[derive(Debug)]
pub(crate) struct Sender {
    outgoing: Arc<Mutex<Outgoing>>,
    stream: Arc<Stream>,
}

/// A connection after its handshake, without the session.
#[derive(Debug)]
pub(crate) struct BareConnection {
    /// What its bytes pass through, if its mechanism encrypts them.
    pub(crate) coder: Option<Box<Coder>>,
    /// Bytes that were received and not returned.
    pub(crate) received: Vec<u8>,
    pub(crate) stream: TcpStream,
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
        Self::over(stream, config)
    }

    /// Shakes hands on a connection; otherwise as [`Self::connect`].
    pub(crate) fn over(stream: Stream, config: &ClientConfig) -> Result<Self, ClientError> {
        let session = SessionConfig {
            handshake_timeout: Some(config.timeout),
            heartbeat: Some(HEARTBEAT),
            mechanism: config.mechanism.clone(),
            ..SessionConfig::new(config.socket_type)
        };
        Self::shake_hands(stream, session, config.timeout)
    }

    fn shake_hands(
        stream: Stream,
        config: SessionConfig,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        stream.set_write_timeout(Some(timeout))?;
        let now = Instant::now();
        let mut out = Vec::new();
        let session = Session::new(Arc::new(config), now, &mut out);
        let mut client = Self {
            input: Vec::new(),
            opener: None,
            out,
            outgoing: Arc::default(),
            raw: Vec::new(),
            read_size: READ_SIZE_MIN,
            session,
            steps: 0,
            stream: Arc::new(stream),
            taken: 0,
            version: Version::V3_0,
        };
        match client.advance(Some(now + timeout)) {
            Ok(Heard::Ready(peer)) => client.version = peer.version,
            Ok(Heard::Message(_) | Heard::Subscription { .. }) => {
                unreachable!("a session reports nothing else before it is ready")
            }
            Err(error) => {
                let mechanism = &client.session.config().mechanism;
                return Err(match Advice::new(mechanism, client.steps, &error) {
                    Some(advice) => ClientError::Handshake(Box::new(error), advice),
                    None => error,
                });
            }
        }
        Ok(client)
    }

    /// The handshake is over: if the mechanism encrypts traffic, what is received and sent from
    /// now on passes through its coder.
    fn begin_coding(&mut self) {
        if let Some(coder) = self.session.take_coder() {
            self.raw = self.input.split_off(self.taken);
            self.opener = Some(coder.opener);
            self.outgoing().sealer = Some(coder.sealer);
        }
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        let locked = self.outgoing.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one message with these frames.
    ///
    /// # Errors
    /// The connection is closed or blocked.
    pub(crate) fn send<B: AsRef<[u8]>>(&mut self, frames: &[B]) -> Result<(), ClientError> {
        encode::append_message(&mut self.out, frames);
        self.flush()
    }

    /// Subscribes to a topic (`add`) or cancels it, in the form this peer understands. The next
    /// [`Self::send`] or [`Self::flush`] sends it, so that thousands can leave together.
    pub(crate) fn append_subscription(&mut self, topic: &[u8], add: bool) {
        Peer::append_subscription(self.version, topic, add, &mut self.out);
    }

    /// Waits for the next message or subscription.
    ///
    /// # Errors
    /// The connection is closed or failed, or the deadline passed; after a deadline the call may be
    /// repeated.
    pub(crate) fn recv(&mut self, deadline: Option<Instant>) -> Result<Received<'_>, ClientError> {
        match self.advance(deadline)? {
            Heard::Message(at) => Ok(Received::Message(&self.input[at])),
            Heard::Subscription { add, topic } => Ok(Received::Subscription {
                add,
                topic: &self.input[topic],
            }),
            Heard::Ready(_) => unreachable!("the handshake was over before"),
        }
    }

    /// Sends pending bytes.
    ///
    /// # Errors
    /// The connection is closed or blocked.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut outgoing = match self.outgoing.try_lock() {
            Ok(outgoing) => outgoing,
            // Our sender is writing. An answer to PING can wait: sent data is a sign of life, and
            // waiting for a peer that itself waits for us to read would be a deadlock.
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        outgoing.write(&self.stream, &self.out)?;
        drop(outgoing);
        self.out.clear();
        Ok(())
    }

    /// A sender for another thread. From now on writes wait for the peer without a limit.
    pub(crate) fn sender(&self) -> io::Result<Sender> {
        self.stream.set_write_timeout(None)?;
        Ok(Sender {
            outgoing: Arc::clone(&self.outgoing),
            stream: Arc::clone(&self.stream),
        })
    }

    /// Another handle to the connection: to shut it down from elsewhere, or to read without the
    /// session.
    pub(crate) fn try_clone_stream(&self) -> io::Result<Stream> {
        self.stream.try_clone()
    }

    /// The bare connection, for a caller that knows the wire form.
    ///
    /// # Errors
    /// It is not over TCP, or a sender exists for it.
    pub(crate) fn into_tcp(mut self) -> Result<BareConnection, String> {
        self.input.drain(..self.taken);
        self.input.append(&mut self.raw);
        let sealer = self.outgoing().sealer.take();
        let coder = self.opener.take().zip(sealer);
        match Arc::into_inner(self.stream) {
            Some(Stream::Tcp(stream)) => Ok(BareConnection {
                coder: coder.map(|(opener, sealer)| Box::new(Coder { opener, sealer })),
                received: self.input,
                stream,
            }),
            _ => Err("only tcp://HOST:PORT can be put under load".to_owned()),
        }
    }

    /// Reads until something has arrived. The returned ranges are valid until the next call.
    fn advance(&mut self, deadline: Option<Instant>) -> Result<Heard, ClientError> {
        loop {
            let start = self.taken;
            let input = self.input.get_mut(start..).unwrap_or_default();
            let step = match self.session.handle_input(input, &mut self.out) {
                Ok(step) => step,
                Err(error) => {
                    // The ERROR for the peer; a failure to send it does not matter.
                    let _ = self.flush();
                    return Err(ClientError::Protocol(error));
                }
            };
            self.taken += step.consumed;
            match step.event {
                Event::Message(span) => {
                    self.session.accept();
                    let at = self.taken..self.taken + span.size;
                    self.taken = at.end;
                    return Ok(Heard::Message(at));
                }
                Event::Need(_) => {
                    self.input.truncate(self.input.len() - step.removed);
                    self.flush()?;
                    self.read(deadline)?;
                }
                // The client lets in the peer that it has connected to.
                Event::Authenticate(_) | Event::Undecided => {}
                Event::LoopCheck(_) | Event::Trial(_) => {}
                Event::Progress => self.steps = self.steps.saturating_add(1),
                Event::Ready(peer) => {
                    self.flush()?;
                    self.begin_coding();
                    return Ok(Heard::Ready(peer));
                }
                Event::Subscription { add, topic } => {
                    return Ok(Heard::Subscription {
                        add,
                        topic: start + topic.start..start + topic.end,
                    });
                }
            }
        }
    }

    /// Opens the whole frames that were received; returns whether there were any.
    fn open(&mut self) -> Result<bool, ClientError> {
        let Some(opener) = &mut self.opener else {
            return Ok(false);
        };
        let limits = &self.session.config().limits;
        let opened = opener.open(&mut self.raw, limits);
        let opened = opened.map_err(ClientError::Protocol)?;
        self.input.extend_from_slice(&self.raw[..opened.plain]);
        self.raw.drain(..opened.consumed);
        Ok(opened.plain > 0)
    }

    /// Waits for bytes, or until a heartbeat is due. The buffer grows with received bytes, not with
    /// announced sizes.
    fn read(&mut self, deadline: Option<Instant>) -> Result<(), ClientError> {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.open()? {
            return Ok(());
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(ClientError::TimedOut);
        }
        let wake = deadline.into_iter().chain(self.session.poll_timeout());
        // A deadline that passed before this call still gets a short read.
        let timeout = |wake: Instant| wake.saturating_duration_since(now).max(MOMENT);
        self.stream.set_read_timeout(wake.min().map(timeout))?;
        let buffer = match &self.opener {
            Some(_) => &mut self.raw,
            None => &mut self.input,
        };
        let have = buffer.len();
        buffer.resize(have + self.read_size, 0);
        let received = (&*self.stream).read(&mut buffer[have..]);
        buffer.truncate(have + received.as_ref().map_or(0, |size| *size));
        match received {
            Ok(0) => Err(ClientError::Closed),
            Ok(size) => {
                if size == self.read_size {
                    self.read_size = (2 * size).min(READ_SIZE_MAX);
                }
                self.session.handle_received(Instant::now());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => match (error.into(), deadline) {
                (ClientError::TimedOut, Some(deadline)) if deadline <= Instant::now() => {
                    Err(ClientError::TimedOut)
                }
                (ClientError::TimedOut, _) => {
                    let beat = self.session.handle_timeout(Instant::now(), &mut self.out);
                    beat.map_err(ClientError::Protocol)?;
                    self.flush()
                }
                (error, _) => Err(error),
            },
        }
    }
}

impl Sender {
    /// Sends whole messages in wire form, and waits until the kernel has them.
    ///
    /// # Errors
    /// The connection is closed.
    pub(crate) fn send_wire(&self, wire: &[u8]) -> Result<(), ClientError> {
        let outgoing = self.outgoing.lock();
        let mut outgoing = outgoing.unwrap_or_else(PoisonError::into_inner);
        outgoing.write(&self.stream, wire)
    }

    /// Closes the sending direction, while the client goes on receiving.
    ///
    /// # Errors
    /// The connection is closed.
    pub(crate) fn end(&self) -> Result<(), ClientError> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }
}

impl Outgoing {
    /// Sends whole frames, and waits until the kernel has them.
    fn write(&mut self, mut stream: &Stream, mut plain: &[u8]) -> Result<(), ClientError> {
        let Some(sealer) = &mut self.sealer else {
            return Ok(stream.write_all(plain)?);
        };
        while !plain.is_empty() {
            self.sealed.clear();
            let size = sealer.append_sealed(plain, READ_SIZE_MAX, &mut self.sealed);
            plain = &plain[size.map_err(ClientError::Protocol)?..];
            stream.write_all(&self.sealed)?;
        }
        Ok(())
    }
}

/// The result of [`Client::advance`], by its place in the input.
enum Heard {
    Message(Range<usize>),
    Ready(Peer),
    Subscription { add: bool, topic: Range<usize> },
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
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
    use std::net::TcpListener;
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
        for name in &names {
            let endpoint: Endpoint = name.parse().unwrap();
            // The second time the path has a socket without a listener.
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
                    if let Ok(back) = Client::over(stream, &config(SocketType::Pull, TIMEOUT)) {
                        break back;
                    }
                };
                let expected = Received::Message(b"\x00\x05local");
                assert_eq!(back.recv(Some(Instant::now() + TIMEOUT)).unwrap(), expected);
                front.join().unwrap();
            }
        }
        std::fs::remove_file(path).unwrap();
        let none = "inproc://here".parse().unwrap();
        assert!(Listener::bind(&none).is_err());
        assert!(Client::connect(&none, &config(SocketType::Pull, TIMEOUT)).is_err());
    }

    #[test]
    fn the_bare_connection_keeps_bytes_that_were_not_returned() {
        let (mut front, mut back) = pair(SocketType::Push, SocketType::Pull);
        encode::append_message(&mut front.out, &["one"]);
        front.send(&["two"]).unwrap();
        back.recv(Some(Instant::now() + TIMEOUT)).unwrap();
        drop(front);
        let bare = back.into_tcp().unwrap();
        let (mut stream, mut received) = (bare.stream, bare.received);
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
