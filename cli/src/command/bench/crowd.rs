//! Many clients that each send a request now and then.
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock"
)]

use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use zmtp::SocketType;

use super::histogram::Histogram;
use super::latency::{beside_echo, describe_latency};
use super::load::{Load, Tally};
use super::process::Process;
use super::report::{Report, describe, per_second};
use super::works::{Plan, both};
use crate::client::{Client, Wire};

/// One client, and its outstanding request.
#[derive(Debug)]
struct Requester {
    asked: Option<Instant>,
    stream: Wire,
    tally: Tally,
}

/// All clients, and the loop that moves their bytes.
#[derive(Debug)]
struct Crowd<'a> {
    requesters: Vec<Requester>,
    events: Events,
    /// Round trips, from the write of a request to its reply.
    histogram: Histogram,
    load: &'a Load,
    poll: Poll,
    /// Requests that were not sent, since the previous one had no reply yet.
    skipped: u64,
}

/// DEALER clients that each send a request per interval, at evenly spread moments, and one DEALER
/// worker that echoes.
pub(super) fn crowd(plan: &Plan<'_>, clients: usize, interval: Duration) -> Result<Report, String> {
    let timeout = plan.timing.timeout;
    let (front, mut back) = both(
        || {
            plan.sides
                .connect_front(SocketType::Dealer, clients, timeout)
        },
        || plan.sides.connect_back(SocketType::Dealer, 1, timeout),
    )?;
    let (worker, _) = back.pop().ok_or("there is one worker")?.into_wire();
    let load = Load::new(plan.body_size);
    let mut crowd = Crowd::new(front, &load)?;
    beside_echo(worker, || crowd.measure(plan, interval))
}

impl<'a> Crowd<'a> {
    fn new(clients: Vec<Client>, load: &'a Load) -> Result<Self, String> {
        let poll = Poll::new().map_err(|error| format!("cannot poll: {error}"))?;
        let mut requesters = Vec::with_capacity(clients.len());
        for (index, client) in clients.into_iter().enumerate() {
            let (wire, _) = client.into_wire();
            let registered = wire.stream().set_nonblocking().and_then(|()| {
                let (fd, token) = (wire.stream().as_raw_fd(), Token(index));
                let registry = poll.registry();
                registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
                Ok(wire)
            });
            requesters.push(Requester {
                asked: None,
                stream: registered.map_err(|error| format!("cannot poll a connection: {error}"))?,
                tally: Tally::default(),
            });
        }
        Ok(Self {
            requesters,
            events: Events::with_capacity(1024),
            histogram: Histogram::new(),
            load,
            poll,
            skipped: 0,
        })
    }

    fn measure(&mut self, plan: &Plan<'_>, interval: Duration) -> Result<Report, String> {
        let clients = u32::try_from(self.requesters.len()).map_err(|_| "too many clients")?;
        let start = Instant::now();
        let step = interval / clients;
        let mut number = 0;
        let mut next = start;
        self.run_until(&mut number, &mut next, step, start + plan.timing.warmup)?;
        self.histogram = Histogram::new();
        self.skipped = 0;
        let cpu_before = plan.process.map(Process::cpu_times).transpose()?;
        let begin = Instant::now();
        self.run_until(&mut number, &mut next, step, begin + plan.timing.measured)?;
        let elapsed = begin.elapsed();
        let cpu_after = plan.process.map(Process::cpu_times).transpose()?;
        let delivered = self.histogram.total();
        if delivered == 0 {
            return Err("nothing was delivered".to_owned());
        }
        let mut report = Report::new("crowd");
        report.count("clients", clients.into());
        report.count("body_bytes", plan.body_size as u64);
        report.number("seconds", elapsed.as_secs_f64());
        report.count("delivered", delivered);
        report.count("skipped", self.skipped);
        report.number("messages_per_second", per_second(delivered, elapsed));
        describe_latency(&mut report, &self.histogram);
        let cpu_time = cpu_after
            .zip(cpu_before)
            .map(|(after, before)| after.since(&before));
        describe(&mut report, cpu_time, elapsed, delivered);
        if let Some(process) = plan.process {
            report.count("resident_bytes", process.resident_size()?);
        }
        if self.skipped > 0 {
            report.warn(format!(
                "{} requests were not sent, since a reply took longer than the interval",
                self.skipped
            ));
        }
        Ok(report)
    }

    /// Sends the requests that are due, and reads the replies.
    fn run_until(
        &mut self,
        number: &mut usize,
        next: &mut Instant,
        step: Duration,
        deadline: Instant,
    ) -> Result<(), String> {
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Ok(());
            }
            while *next <= now {
                let index = *number % self.requesters.len();
                self.ask(index)?;
                *number += 1;
                *next += step;
            }
            let wait = (*next).min(deadline).saturating_duration_since(now);
            match self.poll.poll(&mut self.events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(format!("cannot poll: {error}"));
                }
                _ => {}
            }
            for event in &self.events {
                let index = event.token().0;
                if let Some(requester) = self.requesters.get_mut(index) {
                    let took = requester.hear(self.load);
                    let took = took.map_err(|error| format!("client {index}: {error}"))?;
                    if let Some(took) = took {
                        self.histogram.record(took);
                    }
                }
            }
        }
    }

    fn ask(&mut self, index: usize) -> Result<(), String> {
        let requester = &mut self.requesters[index];
        if requester.asked.is_some() {
            self.skipped += 1;
            return Ok(());
        }
        let request = &self.load.block()[..self.load.message_size()];
        // The kernel has room, since all previous requests were read.
        match requester.stream.write(request) {
            Ok((size, false)) if size == request.len() => {
                requester.asked = Some(Instant::now());
                Ok(())
            }
            Ok(_) => Err(format!(
                "client {index}: the kernel accepted half a request"
            )),
            Err(error) => Err(format!("client {index}: {error}")),
        }
    }
}

impl Requester {
    /// Reads all available bytes; returns the duration of the request, if this was its reply.
    fn hear(&mut self, load: &Load) -> Result<Option<Duration>, String> {
        let mut buffer = vec![0; 4096];
        let before = self.tally.messages();
        loop {
            match self.stream.read(&mut buffer) {
                Ok(heard) if heard.raw == 0 => {
                    return Err("the proxy closed the connection".to_owned());
                }
                Ok(heard) => {
                    let fed = self.tally.feed(load, &buffer[..heard.plain]);
                    fed.map_err(|_| "the proxy delivered bytes that were not sent")?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if self.tally.messages() == before {
            return Ok(None);
        }
        Ok(self.asked.take().map(|asked| asked.elapsed()))
    }
}
