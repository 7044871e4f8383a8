//! The cost of finding messages in received bytes: `cargo bench -p zmqd-zmtp`.
//!
//! Each row is the best of many rounds, because other work of the machine only adds time. A buffer
//! of messages is consumed as in the driver: from the front, without moving its bytes. Without
//! `--bench`, as in `cargo test`, each row runs once.

#![expect(clippy::disallowed_methods, reason = "a benchmark is about the clock")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmtp::{Event, Session, SessionConfig, SocketType, encode::append_message};

/// Bytes of one read of the driver.
const BUFFER_SIZE: usize = 64 << 10;

/// Time for each row.
const MEASURED_TIME: Duration = Duration::from_millis(500);

struct Row {
    name: &'static str,
    /// Sizes of the frames of each message.
    frames: &'static [usize],
    /// Messages in one buffer.
    messages: usize,
    /// Bytes that arrive at once.
    piece_size: usize,
}

const ROWS: [Row; 8] = [
    Row::new("64 B", &[64], BUFFER_SIZE / 66, BUFFER_SIZE),
    Row::new("64 B, a message at a time", &[64], BUFFER_SIZE / 66, 66),
    Row::new("64 B, a byte at a time", &[64], 100, 1),
    Row::new("0 B", &[0], BUFFER_SIZE / 2, BUFFER_SIZE),
    Row::new("1 KiB", &[1024], BUFFER_SIZE / 1033, BUFFER_SIZE),
    Row::new("empty + 64 B", &[0, 64], BUFFER_SIZE / 68, BUFFER_SIZE),
    Row::new("8 parts of 16 B", &[16; 8], BUFFER_SIZE / 144, BUFFER_SIZE),
    Row::new("8 parts of 16 B, a byte at a time", &[16; 8], 100, 1),
];

fn main() {
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    println!("{:40} {:>10} {:>10}", "message", "ns each", "MB/s");
    for row in &ROWS {
        let mut stream = row.stream();
        let mut sessions = [SocketType::Pull, SocketType::Xpub].map(ready_session);
        let [pull, xpub] = sessions.each_mut().map(|session| {
            let mut best = Duration::MAX;
            let start = Instant::now();
            while best == Duration::MAX || is_measured && start.elapsed() < MEASURED_TIME {
                let round_start = Instant::now();
                let found = row.run(session, &mut stream);
                best = best.min(round_start.elapsed());
                assert_eq!(found, row.messages, "{}", row.name);
            }
            best
        });
        for (kind, best) in [("PULL", pull), ("XPUB", xpub)] {
            let ns_each = best.as_secs_f64() * 1e9 / row.messages as f64;
            let megabytes = stream.len() as f64 / best.as_secs_f64() / 1e6;
            println!("{:34}{kind:>6} {ns_each:10.2} {megabytes:10.0}", row.name);
        }
    }
}

impl Row {
    const fn new(
        name: &'static str,
        frames: &'static [usize],
        messages: usize,
        piece_size: usize,
    ) -> Self {
        Self {
            name,
            frames,
            messages,
            piece_size,
        }
    }

    fn stream(&self) -> Vec<u8> {
        let frames: Vec<Vec<u8>> = self.frames.iter().map(|size| vec![b'm'; *size]).collect();
        let mut stream = Vec::new();
        for _ in 0..self.messages {
            append_message(&mut stream, &frames);
        }
        stream
    }

    /// Handles the whole stream; returns the number of messages.
    fn run(&self, session: &mut Session, stream: &mut [u8]) -> usize {
        let mut out = Vec::new();
        let (mut found, mut front, mut end) = (0, 0, 0);
        while end < stream.len() {
            end = stream.len().min(end + self.piece_size);
            loop {
                if let Some(finder) = session.finder() {
                    while let Some(size) = finder.find(&stream[front..end]) {
                        black_box(&stream[front..][..size]);
                        front += size;
                        found += 1;
                    }
                }
                let input = &mut stream[front..end];
                let step = session.handle_input(input, &mut out).expect("a session");
                let Event::Message(span) = step.event else {
                    break;
                };
                black_box(&input[step.consumed..][..span.size]);
                session.accept();
                front += step.consumed + span.size;
                found += 1;
            }
        }
        assert!(out.is_empty() && front == stream.len());
        found
    }
}

/// A session after its handshake.
fn ready_session(socket_type: SocketType) -> Session {
    let mut out = Vec::new();
    let config = Arc::new(SessionConfig::new(socket_type));
    let mut session = Session::new(config, Instant::now(), &mut out);
    let mut input = [&b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL"[..], &[0; 48]].concat();
    input.extend(b"\x04\x06\x05READY");
    let mut rest = &mut input[..];
    while !session.is_ready() {
        let step = session.handle_input(rest, &mut out).expect("a handshake");
        rest = &mut rest[step.consumed..];
    }
    session
}
