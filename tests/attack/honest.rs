//! Peers that number their messages and send at a fixed pace during an attack.
//!
//! A message is timed from the moment it was due, not from the moment it could be sent, so that a
//! broker that stops reading cannot hide the pause.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zmqd_tests::clock::poll_for;
use zmqd_tests::raw::{COMMAND, LONG, MORE, frame, greeting, ready};
use zmqd_tests::{Pace, Stopwatch};
use zmtp::{Event, Session, SessionConfig};

use crate::urgent;
use crate::wire::{Incoming, Outgoing};

/// The time between two messages of one sender.
const INTERVAL: Duration = Duration::from_millis(4);
/// Bytes of a message: its number, its due time, and filler.
const SIZE: usize = 64;
/// The time for the last messages after an attack.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// The prefix of publications.
pub(crate) const TOPIC: &[u8] = b"honest.";

/// The fate of the messages of one sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Messages that no honest peer sent.
    pub(crate) foreign: u64,
    /// The times from due to arrival.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) received: u64,
    /// Messages that arrived after a later one, or twice.
    pub(crate) reordered: u64,
    pub(crate) sent: u64,
    next: u64,
}

/// One sender and one receiver.
#[derive(Debug)]
pub(crate) struct Peers {
    connections: Vec<TcpStream>,
    is_over: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    receiver: JoinHandle<Tally>,
    sender: JoinHandle<u64>,
}

/// One connection: receives whole frames, and answers PINGs.
#[derive(Debug)]
pub(crate) struct Link {
    reader: BufReader<Incoming>,
    writer: Arc<Mutex<Outgoing>>,
}

impl Peers {
    /// A DEALER that sends requests, and a DEALER that sends each back.
    pub(crate) fn requests(frontend: &str, backend: &str) -> Self {
        let worker = Link::open(backend, "DEALER");
        Self::round_trips(Link::open(frontend, "DEALER"), worker)
    }

    /// The same frames through a relay without protocol knowledge.
    pub(crate) fn relayed(frontend: &str, backend: &str) -> Self {
        let client = Link::bare(frontend);
        Self::round_trips(client, Link::bare(backend))
    }

    /// A PUSH and a PULL.
    pub(crate) fn work(frontend: &str, backend: &str) -> Self {
        let sink = Link::open(backend, "PULL");
        let source = Link::open(frontend, "PUSH");
        Self::one_way(source, sink, b"")
    }

    /// A PUB, and a SUB of its publications.
    pub(crate) fn publications(frontend: &str, backend: &str) -> Self {
        let mut source = Link::open(frontend, "PUB");
        let sink = Link::open(backend, "SUB");
        sink.send(&frame(0, &[b"\x01", TOPIC].concat()))
            .expect("a subscription is fine");
        let is_wanted = |heard: &[u8]| heard.ends_with(TOPIC);
        while !is_wanted(
            &source
                .message()
                .expect("the broker passes subscriptions on"),
        ) {}
        Self::one_way(source, sink, TOPIC)
    }

    /// As [`Self::requests`], on these connections.
    pub(crate) fn round_trips(client: Link, mut worker: Link) -> Self {
        let connections = vec![client.stream(), worker.stream()];
        urgent("worker", move || {
            let mut answer = Vec::new();
            while let Ok((flags, body)) = worker.frame() {
                answer.extend(frame(flags & MORE, &body));
                if flags & MORE == 0 {
                    if worker.send(&answer).is_err() {
                        break;
                    }
                    answer.clear();
                }
            }
        });
        let writer = client.writer();
        Self::start(connections, writer, client, b"")
    }

    fn one_way(mut source: Link, sink: Link, topic: &'static [u8]) -> Self {
        let connections = vec![source.stream(), sink.stream()];
        let writer = source.writer();
        // Only answers PINGs and reads the subscriptions of others.
        urgent("source", move || while source.frame().is_ok() {});
        Self::start(connections, writer, sink, topic)
    }

    fn start(
        connections: Vec<TcpStream>,
        writer: Arc<Mutex<Outgoing>>,
        mut sink: Link,
        topic: &'static [u8],
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicU64::new(0));
        let mut pace = Pace::every(INTERVAL);
        let watch = pace.watch();
        let sender = urgent("sender", {
            let is_over = Arc::clone(&is_over);
            move || {
                let mut sent = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let due = pace.wait();
                    if write(&writer, &frame(0, &numbered(topic, sent, due))).is_err() {
                        break;
                    }
                    sent += 1;
                }
                sent
            }
        });
        let receiver = urgent("receiver", {
            let received = Arc::clone(&received);
            move || {
                let mut tally = Tally::default();
                while let Ok(message) = sink.message() {
                    tally.take(topic, &message, watch);
                    received.store(tally.received, Ordering::Relaxed);
                }
                tally
            }
        });
        Self {
            connections,
            is_over,
            received,
            receiver,
            sender,
        }
    }

    /// Ends the sender, waits for its last messages, and returns the counts.
    pub(crate) fn finish(self) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        let received = || self.received.load(Ordering::Relaxed);
        // A sender whose broker does not read ends with its connection.
        poll_for(LAST_PATIENCE, || self.sender.is_finished().then_some(()));
        let is_through = |sent| poll_for(LAST_PATIENCE, || (received() >= sent).then_some(()));
        let close = || {
            for connection in &self.connections {
                // Fails only if the broker has closed first.
                drop(connection.shutdown(Shutdown::Both));
            }
        };
        let sent = if self.sender.is_finished() {
            let sent = self.sender.join().expect("a sender does not panic");
            is_through(sent);
            close();
            sent
        } else {
            close();
            self.sender.join().expect("a sender does not panic")
        };
        let mut tally = self.receiver.join().expect("a receiver does not panic");
        tally.sent = sent;
        tally
    }
}

impl Tally {
    pub(crate) fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    fn take(&mut self, topic: &[u8], message: &[u8], watch: Stopwatch) {
        let Some((number, due)) = parse(topic, message) else {
            self.foreign += 1;
            return;
        };
        if number < self.next {
            self.reordered += 1;
            return;
        }
        self.next = number + 1;
        self.received += 1;
        self.latencies.push(watch.elapsed().saturating_sub(due));
    }
}

impl Link {
    /// Connects and shakes hands.
    #[track_caller]
    pub(crate) fn open(endpoint: &str, socket_type: &str) -> Self {
        let mut link = Self::bare(endpoint);
        let hello = [&greeting("NULL")[..], &ready(socket_type)].concat();
        link.send(&hello).expect("a fresh connection takes a hello");
        let mut theirs = [0; 64];
        link.reader
            .read_exact(&mut theirs)
            .expect("the broker greets");
        let (flags, body) = link.raw_frame().expect("the broker answers READY");
        assert!(
            flags & COMMAND != 0 && body.starts_with(b"\x05READY"),
            "{} instead of READY",
            body.escape_ascii()
        );
        link
    }

    #[track_caller]
    fn bare(endpoint: &str) -> Self {
        let stream = TcpStream::connect(endpoint.trim_start_matches("tcp://"))
            .unwrap_or_else(|error| panic!("cannot connect to {endpoint}: {error}"));
        stream.set_nodelay(true).expect("loopback is TCP");
        let writer = Outgoing::new(clone(&stream), None);
        Self::over(Incoming::new(stream, None, Vec::new()), writer)
    }

    fn over(reader: Incoming, writer: Outgoing) -> Self {
        Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            writer: Arc::new(Mutex::new(writer)),
        }
    }

    /// Connects and shakes hands with any mechanism.
    #[track_caller]
    pub(crate) fn open_with(endpoint: &str, config: &SessionConfig) -> Self {
        let mut stream = Self::bare(endpoint).stream();
        let (mut session, mut out) = begin(config);
        let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let step = session.handle_input(&mut input, &mut out);
            let step = step.expect("the broker lets honest peers in");
            input.drain(..step.consumed);
            stream.write_all(&out).expect("the broker reads");
            out.clear();
            match step.event {
                Event::Ready(_) => break,
                Event::Need(_) => {
                    let size = stream.read(&mut buffer).expect("the broker answers");
                    assert!(size > 0, "the broker closed an honest connection");
                    input.extend_from_slice(&buffer[..size]);
                }
                _ => {}
            }
        }
        let coder = session.take_coder();
        let (opener, sealer) = coder.map(|coder| (coder.opener, coder.sealer)).unzip();
        let writer = Outgoing::new(clone(&stream), sealer);
        Self::over(Incoming::new(stream, opener, input), writer)
    }

    pub(crate) fn stream(&self) -> TcpStream {
        clone(&self.reader.get_ref().stream)
    }

    pub(crate) fn writer(&self) -> Arc<Mutex<Outgoing>> {
        Arc::clone(&self.writer)
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        write(&self.writer, bytes)
    }

    /// The last frame of the next message, or the content of a subscription.
    pub(crate) fn message(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let (flags, body) = self.frame()?;
            if flags & MORE == 0 {
                return Ok(body);
            }
        }
    }

    /// The first frame of the next message; the others are discarded.
    pub(crate) fn envelope(&mut self) -> io::Result<Vec<u8>> {
        let (flags, first) = self.frame()?;
        if flags & MORE != 0 {
            self.message()?;
        }
        Ok(first)
    }

    /// The next frame that is not a PING.
    fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let (flags, body) = self.raw_frame()?;
            let ping = body.strip_prefix(b"\x04PING");
            let Some(context) = ping.filter(|_| flags & COMMAND != 0) else {
                return Ok((flags, body));
            };
            let context = context.get(2..).unwrap_or_default();
            self.send(&frame(COMMAND, &[b"\x04PONG", context].concat()))?;
        }
    }

    fn raw_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.reader.read_exact(&mut head)?;
        let mut len = u64::from(head[1]);
        if head[0] & LONG != 0 {
            let mut rest = [0; 7];
            self.reader.read_exact(&mut rest)?;
            len = rest
                .iter()
                .fold(len, |len, octet| len << 8 | u64::from(*octet));
        }
        let mut body = Vec::new();
        let read = (&mut self.reader).take(len).read_to_end(&mut body)?;
        if read as u64 == len {
            Ok((head[0], body))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn write(writer: &Mutex<Outgoing>, bytes: &[u8]) -> io::Result<()> {
    let mut outgoing = writer.lock().unwrap_or_else(PoisonError::into_inner);
    outgoing.send(bytes)
}

/// A session, and the first bytes that it sends.
#[expect(
    clippy::disallowed_methods,
    reason = "a session wants the time, although nothing here depends on it"
)]
fn begin(config: &SessionConfig) -> (Session, Vec<u8>) {
    let mut out = Vec::new();
    let session = Session::new(Arc::new(config.clone()), Instant::now(), &mut out);
    (session, out)
}

/// All that such a peer sends to a server with this greeting, before the first answer.
pub(crate) fn hello_of(config: &SessionConfig, greeting: &[u8]) -> Vec<u8> {
    let (mut session, mut out) = begin(config);
    let mut input = greeting.to_vec();
    let step = session.handle_input(&mut input, &mut out);
    assert!(step.is_ok(), "a legal greeting");
    out
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a connection can be shared")
}

fn numbered(topic: &[u8], number: u64, due: Duration) -> Vec<u8> {
    let nanos = u64::try_from(due.as_nanos()).expect("a test does not last for centuries");
    let mut body = topic.to_vec();
    body.extend(number.to_be_bytes());
    body.extend(nanos.to_be_bytes());
    body.resize(SIZE, b'.');
    body
}

fn parse(topic: &[u8], message: &[u8]) -> Option<(u64, Duration)> {
    let fields = message.strip_prefix(topic)?;
    if message.len() != SIZE {
        return None;
    }
    let (number, rest) = fields.split_first_chunk()?;
    let (nanos, filling) = rest.split_first_chunk()?;
    let is_whole = filling.iter().all(|octet| *octet == b'.');
    let due = Duration::from_nanos(u64::from_be_bytes(*nanos));
    is_whole.then(|| (u64::from_be_bytes(*number), due))
}

/// The latency that this many in a thousand stay below.
pub(crate) fn percentile(sorted: &[Duration], permille: usize) -> Duration {
    let at = (sorted.len() * permille / 1000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(Duration::MAX)
}
