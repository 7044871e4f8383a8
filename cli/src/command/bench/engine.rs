//! One thread that plays every peer, and the measured interval.
//!
//! The generator uses at most one processor, so that on a small machine the process in the middle
//! has one to itself.
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock"
)]

use std::io;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::load::{BLOCK_SIZE, Load};
use super::peer::{Peer, Role};
use super::process::Process;
use crate::client::{Client, Wire};

/// Peers, and the loop that moves their bytes.
#[derive(Debug)]
pub(super) struct Engine {
    /// The number of times that each sent message arrives.
    copies: u64,
    events: Events,
    is_lossy: bool,
    is_stopping: bool,
    load: Load,
    /// The number of messages by which sources may be ahead of the slowest sink.
    lead_max: u64,
    peers: Vec<Peer>,
    poll: Poll,
    scratch: Vec<u8>,
}

/// Counts up to some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    /// Messages that arrived, on all connections together.
    pub(super) delivered: u64,
    /// Messages that were sent.
    pub(super) sent: u64,
    /// Messages that arrived at the peer with the fewest.
    pub(super) slowest: u64,
}

/// The durations of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The measured interval, at least.
    pub(super) measured: Duration,
    /// The longest wait for messages in transit at the end.
    pub(super) timeout: Duration,
    /// The load before that interval.
    pub(super) warmup: Duration,
}

/// The results of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Processor time of the process in the middle within the interval.
    pub(super) cpu_time: Option<Duration>,
    /// Messages that arrived within the interval.
    pub(super) delivered: u64,
    /// The measured interval.
    pub(super) elapsed: Duration,
    /// Resident memory of the process in the middle at the end of the interval, in bytes.
    pub(super) resident_size: Option<u64>,
    /// From the first message to the last, those in transit at the end included.
    pub(super) totals: Totals,
}

impl Engine {
    /// An engine without peers, for messages of `load` that arrive `copies` times.
    pub(super) fn new(load: Load, copies: u64) -> io::Result<Self> {
        Ok(Self {
            copies,
            events: Events::with_capacity(1024),
            is_lossy: false,
            is_stopping: false,
            load,
            lead_max: u64::MAX,
            peers: Vec::new(),
            poll: Poll::new()?,
            scratch: vec![0; BLOCK_SIZE],
        })
    }

    /// Limits the sources to this many messages ahead of the slowest sink.
    pub(super) fn hold_lead(&mut self, lead_max: u64) {
        self.lead_max = lead_max;
    }

    /// Adds a peer after its handshake.
    pub(super) fn add(&mut self, client: Client, role: Role) -> Result<(), String> {
        let (wire, received) = client.into_wire();
        if !received.is_empty() {
            return Err("the proxy delivered bytes before any were sent".to_owned());
        }
        self.register(wire, role)
            .map_err(|error| format!("cannot poll a connection: {error}"))
    }

    /// Tolerates loss: missing messages are waited for only while others arrive.
    pub(super) fn expect_loss(&mut self) {
        self.is_lossy = true;
    }

    /// Runs the peers: warm-up, the measured interval, then the messages in transit.
    pub(super) fn measure(
        mut self,
        timing: &Timing,
        process: Option<Process>,
    ) -> Result<Measured, String> {
        let start = self.run_until(Instant::now() + timing.warmup)?;
        let before = self.totals();
        let cpu_before = process.map(Process::cpu_times).transpose()?;
        let end = self.run_until(start + timing.measured)?;
        let cpu_after = process.map(Process::cpu_times).transpose()?;
        let after = self.totals();
        let resident_size = process.map(Process::resident_size).transpose()?;
        self.drain(timing.timeout)?;
        Ok(Measured {
            cpu_time: cpu_after
                .zip(cpu_before)
                .map(|(after, before)| after.since(&before)),
            delivered: after.delivered - before.delivered,
            elapsed: end - start,
            resident_size,
            totals: self.totals(),
        })
    }

    fn register(&mut self, wire: Wire, role: Role) -> io::Result<()> {
        wire.stream().set_nonblocking()?;
        let interest = match role {
            Role::Echo { .. } | Role::Requester { .. } => Interest::READABLE | Interest::WRITABLE,
            Role::Sink { .. } => Interest::READABLE,
            Role::Source { .. } => Interest::WRITABLE,
        };
        let (fd, token) = (wire.stream().as_raw_fd(), Token(self.peers.len()));
        let registry = self.poll.registry();
        registry.register(&mut SourceFd(&fd), token, interest)?;
        self.peers.push(Peer::new(wire, role));
        Ok(())
    }

    /// Runs until `deadline`; returns the time at which it stopped.
    fn run_until(&mut self, deadline: Instant) -> Result<Instant, String> {
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Ok(now);
            }
            self.turn(deadline - now)?;
        }
    }

    /// Stops sending, and waits until everything has arrived or nothing arrives any more.
    fn drain(&mut self, timeout: Duration) -> Result<(), String> {
        self.is_stopping = true;
        let quiet = if self.is_lossy {
            QUIET.min(timeout)
        } else {
            timeout
        };
        let deadline = Instant::now() + timeout;
        let mut last = (self.totals().delivered, Instant::now());
        loop {
            let totals = self.totals();
            let now = Instant::now();
            if totals.delivered > last.0 {
                last = (totals.delivered, now);
            }
            let is_complete = totals.delivered >= totals.sent * self.copies;
            if is_complete || now >= deadline || now - last.1 >= quiet {
                return Ok(());
            }
            self.turn(quiet)?;
        }
    }

    /// Waits until a peer can proceed, at most for `timeout`, and runs it.
    fn turn(&mut self, timeout: Duration) -> Result<(), String> {
        let mut goal = self.goal();
        let is_runnable = self
            .peers
            .iter()
            .any(|peer| peer.is_runnable(&self.load, goal));
        let timeout = if is_runnable { Duration::ZERO } else { timeout };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(format!("cannot poll: {error}"));
            }
            _ => {}
        }
        for event in &self.events {
            if let Some(peer) = self.peers.get_mut(event.token().0) {
                peer.handle_event(event);
            }
        }
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            peer.turn(&self.load, goal, &mut self.scratch)
                .map_err(|error| format!("connection {index} broke off: {error}"))?;
            if self.lead_max < u64::MAX && peer.received().is_some() {
                goal = self.goal();
            }
        }
        Ok(())
    }

    /// The number of messages that each source may have sent.
    fn goal(&self) -> u64 {
        if self.is_stopping {
            return 0;
        }
        if self.lead_max == u64::MAX {
            return u64::MAX;
        }
        self.totals().slowest.saturating_add(self.lead_max)
    }

    fn totals(&self) -> Totals {
        let received = || self.peers.iter().filter_map(Peer::received);
        Totals {
            delivered: received().sum(),
            sent: self.peers.iter().map(|peer| peer.sent(&self.load)).sum(),
            slowest: received().min().unwrap_or_default(),
        }
    }
}

/// The silence after which missing messages count as lost.
const QUIET: Duration = Duration::from_secs(1);
