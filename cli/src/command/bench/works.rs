//! The three kinds of throughput: the peers on both sides, and their preparation.
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock"
)]

use std::thread;
use std::time::{Duration, Instant};

use zmtp::SocketType;

use super::engine::{Engine, Measured, Timing, Totals};
use super::load::{Load, Tally};
use super::peer::Role;
use super::process::Process;
use super::report::{Report, describe, per_second, ratio};
use super::sides::Sides;
use crate::client::{Client, Received};

/// The settings that all kinds of work share.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The proxy.
    pub(super) sides: &'a Sides,
    /// Bytes of body.
    pub(super) body_size: usize,
    /// The process in the middle, if its number was given.
    pub(super) process: Option<Process>,
    /// The durations.
    pub(super) timing: Timing,
}

/// PUSH to PULL.
pub(super) fn stream(plan: &Plan<'_>, sources: usize, sinks: usize) -> Result<Report, String> {
    let mut engine = plan.engine(1)?;
    let timeout = plan.timing.timeout;
    let (front, back) = both(
        || plan.sides.connect_front(SocketType::Push, sources, timeout),
        || plan.sides.connect_back(SocketType::Pull, sinks, timeout),
    )?;
    add_all(&mut engine, front, || Role::Source { sent: 0 })?;
    add_all(&mut engine, back, || Role::Sink {
        tally: Tally::default(),
    })?;
    let measured = engine.measure(&plan.timing, plan.process)?;
    let mut report = plan.report("stream", 1, &measured)?;
    warn_of_loss(&mut report, &measured);
    Ok(report)
}

/// PUB to SUB. With a `window` the publisher stays at most that many messages ahead of the slowest
/// subscriber, so that a proxy need not drop messages for slow subscribers.
pub(super) fn forward(
    plan: &Plan<'_>,
    subscribers: usize,
    window: Option<u64>,
) -> Result<Report, String> {
    let mut engine = plan.engine(subscribers as u64)?;
    let timeout = plan.timing.timeout;
    let (mut front, mut back) = both(
        || plan.sides.connect_front(SocketType::Pub, 1, timeout),
        || {
            plan.sides
                .connect_back(SocketType::Sub, subscribers, timeout)
        },
    )?;
    subscribe_all(&mut front[0], &mut back, timeout)?;
    engine.expect_loss();
    if let Some(window) = window {
        engine.hold_lead(window);
    }
    add_all(&mut engine, back, || Role::Sink {
        tally: Tally::default(),
    })?;
    add_all(&mut engine, front, || Role::Source { sent: 0 })?;
    let measured = engine.measure(&plan.timing, plan.process)?;
    let mut report = plan.report("forward", subscribers as u64, &measured)?;
    let Totals { sent, slowest, .. } = measured.totals;
    report.number("delivered_share_of_slowest", ratio(slowest, sent));
    Ok(report)
}

/// DEALER to DEALER and back.
pub(super) fn queue(
    plan: &Plan<'_>,
    clients: usize,
    workers: usize,
    window: u64,
) -> Result<Report, String> {
    let mut engine = plan.engine(1)?;
    let timeout = plan.timing.timeout;
    let (front, back) = both(
        || {
            plan.sides
                .connect_front(SocketType::Dealer, clients, timeout)
        },
        || {
            plan.sides
                .connect_back(SocketType::Dealer, workers, timeout)
        },
    )?;
    add_all(&mut engine, back, || Role::Echo {
        pending: Vec::new(),
        start: 0,
    })?;
    let requester = || Role::Requester {
        window,
        sent: 0,
        tally: Tally::default(),
    };
    add_all(&mut engine, front, requester)?;
    let measured = engine.measure(&plan.timing, plan.process)?;
    let mut report = plan.report("queue", 1, &measured)?;
    warn_of_loss(&mut report, &measured);
    Ok(report)
}

/// Runs two set-ups at once: behind a relay the two ends shake hands with each other, so neither
/// can wait for the other to finish.
pub(super) fn both<F: Send, B>(
    front: impl FnOnce() -> Result<F, String> + Send,
    back: impl FnOnce() -> Result<B, String>,
) -> Result<(F, B), String> {
    thread::scope(|scope| {
        let front = scope.spawn(front);
        let back = back();
        let front = front
            .join()
            .map_err(|_panic| "a connecting thread panicked".to_owned())?;
        Ok((front?, back?))
    })
}

impl Plan<'_> {
    fn engine(&self, copies: u64) -> Result<Engine, String> {
        Engine::new(Load::new(self.body_size), copies)
            .map_err(|error| format!("cannot make a poll: {error}"))
    }

    fn report(
        &self,
        work: &'static str,
        copies: u64,
        measured: &Measured,
    ) -> Result<Report, String> {
        let Totals {
            delivered, sent, ..
        } = measured.totals;
        if delivered == 0 {
            return Err(format!("nothing was delivered of {sent} messages sent"));
        }
        if delivered > sent * copies {
            return Err(format!(
                "{delivered} messages were delivered of {sent} sent"
            ));
        }
        let mut report = Report::new(work);
        report.count("body_bytes", self.body_size as u64);
        report.number("seconds", measured.elapsed.as_secs_f64());
        report.count("sent", sent);
        report.count("delivered", delivered);
        report.number("delivered_share", ratio(delivered, sent * copies));
        let rate = per_second(measured.delivered, measured.elapsed);
        report.number("messages_per_second", rate);
        report.number("megabytes_per_second", rate * self.body_size as f64 / 1e6);
        describe(
            &mut report,
            measured.cpu_time,
            measured.elapsed,
            measured.delivered,
        );
        if let Some(size) = measured.resident_size {
            report.count("resident_bytes", size);
        }
        Ok(report)
    }
}

/// Warns about missing messages if the proxy should lose none.
fn warn_of_loss(report: &mut Report, measured: &Measured) {
    let Totals {
        delivered, sent, ..
    } = measured.totals;
    if delivered < sent {
        report.warn(format!(
            "{} of {sent} messages did not arrive",
            sent - delivered
        ));
    }
}

fn add_all(
    engine: &mut Engine,
    clients: Vec<Client>,
    role: impl Fn() -> Role,
) -> Result<(), String> {
    clients
        .into_iter()
        .try_for_each(|client| engine.add(client, role()))
}

/// Subscribes all subscribers to everything, and returns when the publisher has all of it.
///
/// A proxy passes on only the first subscription to a topic, so each subscriber follows it with one
/// to a topic of its own: when that arrives, so has the one before. Then it is cancelled, so that
/// matching has no topic that is never sent.
fn subscribe_all(
    publisher: &mut Client,
    subscribers: &mut [Client],
    timeout: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + timeout;
    for add in [true, false] {
        for (index, subscriber) in subscribers.iter_mut().enumerate() {
            if add {
                subscriber.append_subscription(b"", true);
            }
            subscriber.append_subscription(format!("{OWN_TOPIC}{index}").as_bytes(), add);
            subscriber
                .flush()
                .map_err(|error| format!("cannot subscribe: {error}"))?;
        }
        let mut heard = 0;
        while heard < subscribers.len() {
            match publisher.recv(Some(deadline)) {
                Ok(Received::Subscription {
                    add: heard_add,
                    topic,
                }) => {
                    let is_awaited = heard_add == add && topic.starts_with(OWN_TOPIC.as_bytes());
                    heard += usize::from(is_awaited);
                }
                Ok(Received::Message(_)) => {}
                Err(error) => {
                    let count = subscribers.len();
                    let what = if add {
                        "subscriptions"
                    } else {
                        "cancellations"
                    };
                    return Err(format!(
                        "{heard} of {count} {what} reached the publisher: {error}"
                    ));
                }
            }
        }
    }
    Ok(())
}

const OWN_TOPIC: &str = "zmqd bench subscriber ";
