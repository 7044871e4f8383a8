//! Live captures: a thread for each connection, which hands on what it hears.

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

use crate::capture::{FormatArgs, Kept, time};
use crate::client::{Client, ClientError, Listener, Received};
use crate::output::Failure;
use crate::value::Attached;

/// What the threads tell.
#[derive(Debug)]
pub(super) enum Event {
    /// Nothing can be heard from there.
    Failed(String),
    /// Messages that came together.
    Messages(Vec<Kept>),
    /// A signal asks us to stop.
    Stop,
}

/// How to listen; the same for every endpoint.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) format: FormatArgs,
    pub(super) socket_type: SocketType,
    pub(super) timeout: Duration,
    /// What a SUB subscribes to.
    pub(super) topic: Vec<u8>,
}

/// Batches that wait to be shown; when so many wait, nothing is read, and it is for the publisher
/// to drop messages or to wait.
const BATCHES_MAX: usize = 16;

/// Messages and bytes after which a batch goes on.
const BATCH_MESSAGES_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How soon a lost connection is tried again: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Listens at all endpoints until the process ends.
///
/// # Errors
/// One cannot be bound. What cannot be connected to is told as an event.
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

/// Connects, listens, and connects again when the connection is lost. Only the first attempt may
/// fail: what never was there is most likely misspelt.
fn stay_connected(tap: &Arc<Tap>, endpoint: &Endpoint, sender: &SyncSender<Event>) {
    let mut pause = PAUSE_MIN;
    let mut is_first = true;
    loop {
        match Client::connect(endpoint, tap.socket_type, b"", tap.timeout) {
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

/// Listens to whoever connects.
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
            let ended = match Client::over(stream, tap.socket_type, b"", tap.timeout) {
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
    /// Hands on what comes until the connection ends, for the reason returned; `None` if nobody
    /// wants to hear any more.
    fn listen(
        &self,
        mut client: Client,
        endpoint: &Endpoint,
        sender: &SyncSender<Event>,
    ) -> Option<ClientError> {
        if self.socket_type == SocketType::Sub {
            client.append_subscription(&self.topic, true);
            if let Err(error) = client.flush() {
                return Some(error);
            }
        }
        let source: Arc<str> = endpoint.to_string().into();
        // In the past by the time it is used: takes what was received and does not wait.
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
            && let Some(sighting) = self.format.read(captured)
        {
            let time_ns = *batch.time_ns.get_or_insert_with(time::now_ns);
            batch.bytes += sighting.frames.len();
            let message = Message {
                frames: sighting.frames,
                origin: Origin {
                    connection: 0,
                    direction: sighting.direction,
                    is_routed: sighting.is_routed,
                    peer: None,
                    socket_type: None,
                    source,
                },
                time_ns,
            };
            batch.messages.push(Kept::new(&message, source));
        }
        Ok(())
    }
}

/// Messages that were received together.
#[derive(Debug, Default)]
struct Batch {
    bytes: usize,
    messages: Vec<Kept>,
    /// When the first of them was there, and with it the others.
    time_ns: Option<u64>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

/// Tells of SIGINT and SIGTERM; a second one ends the process, in case we do not.
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
