//! Live captures: a thread passes on the messages that a socket receives.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Instant;

use broker::record::{Message, Origin};
use zmtp::SocketType;

use crate::capture::{FormatArgs, OwnedMessage, time};
use crate::client::{Arrival, ClientConfig, Loss, News, Socket};
use crate::output::Failure;
use crate::value::Attached;

/// Events of the thread.
#[derive(Debug)]
pub(super) enum Event {
    /// A capture cannot be read.
    Failed(String),
    /// Messages that arrived together.
    Messages(Vec<OwnedMessage>),
    /// A signal requests a stop.
    Stop,
}

/// How to read captures; the same for every endpoint.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) client: ClientConfig,
    pub(super) format: FormatArgs,
    /// The topic of a SUB.
    pub(super) topic: Vec<u8>,
}

/// Batches that wait to be shown. When this many wait, nothing is read, and the publisher drops
/// messages or waits.
const BATCHES_MAX: usize = 16;

/// Messages and bytes after which a batch is passed on.
const BATCH_MESSAGES_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Reads all endpoints until the process ends.
///
/// # Errors
/// An endpoint cannot be bound. A failure to connect is an event.
pub(super) fn start(tap: Tap, endpoints: &[Attached]) -> Result<Receiver<Event>, Failure> {
    let topics = match tap.client.socket_type {
        SocketType::Sub => vec![tap.topic.clone()],
        _ => Vec::new(),
    };
    let mut socket = Socket::new(&tap.client, topics)?;
    socket.watch_signals()?;
    for attached in endpoints {
        if let Some(bound) = socket.attach(attached)? {
            log::info!("{bound}: listening");
        }
    }
    let (sender, events) = mpsc::sync_channel(BATCHES_MAX);
    thread::spawn(move || {
        let last = tap.listen(&mut socket, &sender);
        // The receiver has gone if the command ends.
        drop(sender.send(last));
    });
    Ok(events)
}

impl Tap {
    /// Passes on messages until a signal or a failure, which is returned.
    fn listen(&self, socket: &mut Socket, sender: &SyncSender<Event>) -> Event {
        let mut batch = Batch::default();
        let mut joined = BTreeSet::new();
        loop {
            // Messages wait only for others that have arrived already.
            let deadline = (!batch.messages.is_empty()).then(Instant::now);
            let news = match socket.next(deadline) {
                Ok(news) => news,
                Err(failure) => return Event::Failed(failure.into_sentences().join("; ")),
            };
            let mut is_due = false;
            match news {
                News::Joined(peer) => {
                    let (is_dialed, endpoint) = (socket.is_dialed(peer), socket.endpoint(peer));
                    let what = if is_dialed { "" } else { "a peer " };
                    log::info!("{endpoint}: {what}connected");
                    joined.insert(endpoint.to_owned());
                }
                News::Lost(loss) => {
                    if let Some(failed) = describe(&loss, &joined) {
                        return Event::Failed(failed);
                    }
                }
                News::Message(arrival) => {
                    self.take(&arrival, &mut batch);
                    is_due = batch.is_full();
                }
                News::Stop => return Event::Stop,
                News::TimedOut => is_due = true,
                News::Room | News::Subscribed | News::Woken => {}
            }
            if is_due {
                let batch = std::mem::take(&mut batch);
                if sender.send(Event::Messages(batch.messages)).is_err() {
                    return Event::Stop;
                }
            }
        }
    }

    /// Adds a message to a batch.
    fn take(&self, arrival: &Arrival<'_>, batch: &mut Batch) {
        let Some(captured) = self.format.read(arrival.wire) else {
            return;
        };
        let time_ns = *batch.time_ns.get_or_insert_with(time::now_ns);
        batch.bytes += captured.frames.len();
        let message = Message {
            frames: captured.frames,
            origin: Origin {
                connection: 0,
                direction: captured.direction,
                is_routed: captured.is_routed,
                peer: None,
                socket_type: None,
                source: arrival.source,
                user: None,
            },
            time_ns,
        };
        let message = OwnedMessage::new(&message, arrival.source, None);
        batch.messages.push(message);
    }
}

/// Logs a lost connection. Only the first attempt may fail: an endpoint that never worked is
/// probably misspelt.
fn describe(loss: &Loss, joined: &BTreeSet<String>) -> Option<String> {
    let Loss {
        endpoint, error, ..
    } = loss;
    match (loss.is_dialed, loss.peer) {
        (true, Some(_)) => log::warn!("{endpoint}: {error}; connecting again"),
        (true, None) if !joined.contains(&**endpoint) => {
            return Some(format!("cannot connect to {endpoint}: {error}"));
        }
        (true, None) => log::debug!("{endpoint}: {error}"),
        (false, _) => log::warn!("{endpoint}: {error}"),
    }
    None
}

/// Messages that arrived together.
#[derive(Debug, Default)]
struct Batch {
    bytes: usize,
    messages: Vec<OwnedMessage>,
    /// The time at which the first of them arrived, which counts for all.
    time_ns: Option<u64>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}
