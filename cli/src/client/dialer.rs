//! Connecting, again and again: each attempt on a thread of its own, since names are looked up.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use broker::config::Endpoint;
use mio::Waker;

use super::{ClientError, Stream};

/// The endpoints that a socket connects to.
#[derive(Debug)]
pub(super) struct Dialers {
    attempts: Receiver<Attempt>,
    is_stopped: bool,
    list: Vec<Dialer>,
    sender: Sender<Attempt>,
    timeout: Duration,
    waker: Arc<Waker>,
}

/// One endpoint.
#[derive(Debug)]
struct Dialer {
    /// When to connect; [`None`] during an attempt and a connection.
    due: Option<Instant>,
    endpoint: Arc<Endpoint>,
    name: Arc<str>,
    /// The wait before the next attempt.
    pause: Duration,
}

/// The result of an attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) dialer: usize,
    pub(super) result: Result<Stream, ClientError>,
}

/// The wait before a lost connection is tried again: at first, and at most.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Dialers {
    /// Without endpoints; an attempt takes at most `timeout` for each address of a name.
    pub(super) fn new(timeout: Duration, waker: Arc<Waker>) -> Self {
        let (sender, attempts) = mpsc::channel();
        Self {
            attempts,
            is_stopped: false,
            list: Vec::new(),
            sender,
            timeout,
            waker,
        }
    }

    pub(super) fn add(&mut self, endpoint: Endpoint, now: Instant) {
        self.list.push(Dialer {
            due: Some(now),
            name: endpoint.to_string().into(),
            endpoint: Arc::new(endpoint),
            pause: PAUSE_MIN,
        });
    }

    /// The endpoint as a text.
    pub(super) fn name(&self, dialer: usize) -> &Arc<str> {
        &self.list[dialer].name
    }

    /// The time for [`Self::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.list.iter().filter_map(|dialer| dialer.due).min()
    }

    /// Begins the attempts that are due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for (index, dialer) in self.list.iter_mut().enumerate() {
            if dialer.due.is_none_or(|due| due > now) {
                continue;
            }
            dialer.due = None;
            let (sender, waker) = (self.sender.clone(), Arc::clone(&self.waker));
            let (endpoint, timeout) = (Arc::clone(&dialer.endpoint), self.timeout);
            let attempt = move || {
                let result = Stream::connect(&endpoint, timeout).map_err(ClientError::from);
                let attempt = Attempt {
                    dialer: index,
                    result,
                };
                if sender.send(attempt).is_ok() {
                    // The loop would find the result at its next event.
                    drop(waker.wake());
                }
            };
            let thread = thread::Builder::new().name("connect".to_owned());
            if thread.spawn(attempt).is_err() {
                dialer.due = Some(now + PAUSE_MAX);
            }
        }
    }

    /// The next finished attempt.
    pub(super) fn poll_attempt(&self) -> Option<Attempt> {
        let attempt = self.attempts.try_recv().ok()?;
        (!self.is_stopped).then_some(attempt)
    }

    /// Notes that the handshake is over.
    pub(super) fn succeed(&mut self, dialer: usize) {
        self.list[dialer].pause = PAUSE_MIN;
    }

    /// Plans another attempt after a pause: this one has failed, or the connection is lost.
    pub(super) fn retry(&mut self, dialer: usize, now: Instant) {
        if self.is_stopped {
            return;
        }
        let dialer = &mut self.list[dialer];
        dialer.due = Some(now + dialer.pause);
        dialer.pause = (2 * dialer.pause).min(PAUSE_MAX);
    }

    /// Ends all attempts.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
        for dialer in &mut self.list {
            dialer.due = None;
        }
    }
}
