//! Live captures: a thread for each connection passes on the received messages.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock and waits before it connects again"
)]

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use broker::config::{Attach, Endpoint};
use broker::record::{Message, Origin};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use zmtp::SocketType;

use crate::capture::{FormatArgs, OwnedMessage, time};
use crate::client::{Client, ClientConfig, ClientError, Listener, Received};
use crate::output::Failure;
use crate::value::Attached;

/// Events of the threads.
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

/// The wait before a lost connection is tried again: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Reads all endpoints until the process ends.
///
/// # Errors
/// An endpoint cannot be bound. A failure to connect is an event.
pub(super) fn start(tap: Tap, endpoints: &[Attached]) -> Result<Receiver<Event>, Failure> {
    let (sender, events) = mpsc::sync_channel(BATCHES_MAX);
    watch_signals(sender.clone())?;
    let tap = Arc::new(tap);
    for (attach, endpoint) in endpoints {
        let (tap, sender, endpoint) = (Arc::clone(&tap), sender.clone(), endpoint.clone());
        match attach {
            Attach::Connect => {
                thread::spawn(move || stay_connected(&tap, &endpoint, &sender));
            }
            Attach::Bind => {
                let (listener, bound) = Listener::bind(&endpoint).map_err(|error| {
                    Failure::Running(format!("cannot bind {endpoint}: {error}"))
                })?;
                log::info!("{bound}: listening");
                thread::spawn(move || accept(&tap, &listener, &bound, &sender));
            }
        }
    }
    Ok(events)
}

/// Connects, reads, and connects again when the connection is lost. Only the first attempt may
/// fail: an endpoint that never worked is probably misspelt.
fn stay_connected(tap: &Arc<Tap>, endpoint: &Endpoint, sender: &SyncSender<Event>) {
    let mut pause = PAUSE_MIN;
    let mut is_first = true;
    loop {
        match Client::connect(endpoint, &tap.client) {
            Ok(client) => {
                log::info!("{endpoint}: connected");
                pause = PAUSE_MIN;
                let Some(error) = tap.listen(client, endpoint, sender) else {
                    return;
                };
                log::warn!("{endpoint}: {error}; connecting again");
            }
            Err(error) if is_first => {
                let failed = format!("cannot connect to {endpoint}: {error}");
                drop(sender.send(Event::Failed(failed)));
                return;
            }
            Err(error) => log::debug!("{endpoint}: {error}"),
        }
        is_first = false;
        thread::sleep(pause);
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Reads every connection that arrives.
fn accept(tap: &Arc<Tap>, listener: &Listener, endpoint: &Endpoint, sender: &SyncSender<Event>) {
    loop {
        let stream = match listener.accept() {
            Ok(stream) => stream,
            Err(error) => {
                log::warn!("{endpoint}: cannot accept a connection: {error}");
                thread::sleep(PAUSE_MIN);
                continue;
            }
        };
        let (tap, sender, endpoint) = (Arc::clone(tap), sender.clone(), endpoint.clone());
        thread::spawn(move || {
            let ended = match Client::over(stream, &tap.client) {
                Ok(client) => {
                    log::info!("{endpoint}: a peer connected");
                    tap.listen(client, &endpoint, &sender)
                }
                Err(error) => Some(error),
            };
            if let Some(error) = ended {
                log::warn!("{endpoint}: {error}");
            }
        });
    }
}

impl Tap {
    /// Passes on messages until the connection ends, for the returned reason; `None` if the
    /// receiver has gone.
    fn listen(
        &self,
        mut client: Client,
        endpoint: &Endpoint,
        sender: &SyncSender<Event>,
    ) -> Option<ClientError> {
        if self.client.socket_type == SocketType::Sub {
            client.append_subscription(&self.topic, true);
            if let Err(error) = client.flush() {
                return Some(error);
            }
        }
        let source: Arc<str> = endpoint.to_string().into();
        // Already past when used: takes the received messages without waiting.
        let at_once = Some(Instant::now());
        loop {
            let mut batch = Batch::default();
            if let Err(error) = self.hear(&mut client, None, &source, &mut batch) {
                return Some(error);
            }
            while !batch.is_full() && self.hear(&mut client, at_once, &source, &mut batch).is_ok() {
            }
            let is_empty = batch.messages.is_empty();
            if !is_empty && sender.send(Event::Messages(batch.messages)).is_err() {
                return None;
            }
        }
    }

    /// Adds the next message to a batch.
    fn hear(
        &self,
        client: &mut Client,
        deadline: Option<Instant>,
        source: &Arc<str>,
        batch: &mut Batch,
    ) -> Result<(), ClientError> {
        if let Received::Message(captured) = client.recv(deadline)?
            && let Some(captured_message) = self.format.read(captured)
        {
            let time_ns = *batch.time_ns.get_or_insert_with(time::now_ns);
            batch.bytes += captured_message.frames.len();
            let message = Message {
                frames: captured_message.frames,
                origin: Origin {
                    connection: 0,
                    direction: captured_message.direction,
                    is_routed: captured_message.is_routed,
                    peer: None,
                    socket_type: None,
                    source,
                    user: None,
                },
                time_ns,
            };
            batch
                .messages
                .push(OwnedMessage::new(&message, source, None));
        }
        Ok(())
    }
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

/// Passes on SIGINT and SIGTERM; a second signal ends the process at once.
fn watch_signals(sender: SyncSender<Event>) -> Result<(), Failure> {
    let refuse = |error| Failure::Running(format!("cannot wait for signals: {error}"));
    let (mut heard, sent) = UnixStream::pair().map_err(refuse)?;
    let armed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&armed))
            .map_err(refuse)?;
        signal_hook::flag::register(signal, Arc::clone(&armed)).map_err(refuse)?;
        let sent = sent.try_clone().map_err(refuse)?;
        pipe::register(signal, sent).map_err(refuse)?;
    }
    thread::spawn(move || {
        if heard.read_exact(&mut [0]).is_ok() {
            drop(sender.send(Event::Stop));
        }
    });
    Ok(())
}
