//! The memory that a proxy needs for idle connections and subscriptions.
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock"
)]

use std::io::Read;
use std::net::Shutdown;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use zmtp::SocketType;

use super::process::Process;
use super::report::{Report, ratio};
use super::sides::Sides;
use super::works::both;
use crate::client::{Client, ClientError, Received, Stream};

/// Opens `connections` subscribers that share `topics` topics, and reports the growth of the
/// process.
///
/// The last topic of each connection is published until it arrives, which proves that the proxy
/// knows all topics.
/// published until it arrives.
pub(super) fn memory(
    work: &'static str,
    sides: &Sides,
    (connections, topics): (usize, usize),
    process: Process,
    timeout: Duration,
) -> Result<Report, String> {
    let before = process.resident_size()?;
    let start = Instant::now();
    let (mut publishers, mut clients) = both(
        || sides.connect_front(SocketType::Pub, 1, timeout),
        || sides.connect_back(SocketType::Sub, connections, timeout),
    )?;
    let publisher = &mut publishers[0];
    let clone = || {
        publisher
            .try_clone_stream()
            .map_err(|error| error.to_string())
    };
    let (upstream, stop) = (clone()?, clone()?);
    let after = thread::scope(|scope| {
        let (heard, news) = mpsc::channel();
        scope.spawn(move || discard(upstream, &heard));
        let known = subscribe(publisher, &mut clients, topics, timeout);
        let elapsed = start.elapsed();
        // Subscriptions that the proxy still has to pass on do not count as its memory.
        while known.is_ok() && news.recv_timeout(QUIET).is_ok() {}
        let after = process.resident_size();
        // Ends the thread; an error means that it has ended already.
        let _ = stop.shutdown(Shutdown::Both);
        known.and(after).map(|after| (after, elapsed))
    });
    let (after, elapsed) = after?;
    let grown = after.saturating_sub(before);
    let mut report = Report::new(work);
    report.count("connections", connections as u64);
    report.count("subscriptions", topics as u64);
    report.number("seconds", elapsed.as_secs_f64());
    report.count("resident_bytes_before", before);
    report.count("resident_bytes_grown", grown);
    report.number("bytes_per_connection", ratio(grown, connections as u64));
    report.number("bytes_per_subscription", ratio(grown, topics as u64));
    Ok(report)
}

/// Spreads the topics over the connections, and returns when the proxy knows them all.
fn subscribe(
    publisher: &mut Client,
    clients: &mut [Client],
    topics: usize,
    timeout: Duration,
) -> Result<(), String> {
    let connections = clients.len();
    for (index, client) in clients.iter_mut().enumerate() {
        let own: Vec<usize> = (index..topics).step_by(connections).collect();
        for topics in own.chunks(TOPICS_PER_WRITE) {
            for number in topics {
                client.append_subscription(&topic(*number), true);
            }
            client
                .flush()
                .map_err(|error| format!("cannot subscribe: {error}"))?;
        }
    }
    let deadline = Instant::now() + timeout;
    for (index, client) in clients.iter_mut().enumerate() {
        let last = topics - 1 - (topics - 1 - index) % connections;
        probe(publisher, client, &topic(last), deadline)?;
    }
    Ok(())
}

/// Publishes a topic until its subscriber gets it.
fn probe(
    publisher: &mut Client,
    subscriber: &mut Client,
    topic: &[u8],
    deadline: Instant,
) -> Result<(), String> {
    loop {
        publisher
            .send(&[topic])
            .map_err(|error| format!("cannot publish: {error}"))?;
        let now = Instant::now();
        match subscriber.recv(Some(now + PROBE_INTERVAL)) {
            Ok(Received::Message(_) | Received::Subscription { .. }) => return Ok(()),
            Err(ClientError::TimedOut) if now < deadline => {}
            Err(error) => {
                let topic = topic.escape_ascii();
                return Err(format!(
                    "no message arrives for the subscription to {topic}: {error}"
                ));
            }
        }
    }
}

/// Reads until the connection ends, and reports each read.
fn discard(stream: Stream, heard: &Sender<()>) {
    let mut buffer = vec![0; 256 << 10];
    while (&stream).read(&mut buffer).is_ok_and(|size| size > 0) {
        if heard.send(()).is_err() {
            return;
        }
    }
}

/// Twelve bytes, different for a million numbers.
fn topic(number: usize) -> Vec<u8> {
    format!("topic-{number:06}").into_bytes()
}

/// The wait before a probe is sent again.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// The silence of the upstream side after which everything counts as passed on.
const QUIET: Duration = Duration::from_millis(200);
const TOPICS_PER_WRITE: usize = 4096;
