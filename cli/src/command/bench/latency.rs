//! One request at a time: the round trip that one client measures.
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock"
)]

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zmtp::SocketType;

use super::histogram::Histogram;
use super::load::Load;
use super::process::Process;
use super::report::{Report, describe, per_second};
use super::works::{Plan, both};
use crate::client::Wire;

/// DEALER to DEALER and back, over blocking sockets: between a request and its reply are only the
/// proxy and the kernel's wake-ups.
pub(super) fn latency(plan: &Plan<'_>) -> Result<Report, String> {
    let timeout = plan.timing.timeout;
    let (mut front, mut back) = both(
        || plan.sides.connect_front(SocketType::Dealer, 1, timeout),
        || plan.sides.connect_back(SocketType::Dealer, 1, timeout),
    )?;
    let (Some(client), Some(worker)) = (front.pop(), back.pop()) else {
        unreachable!("one of each was asked for");
    };
    let (client, worker) = (client.into_wire().0, worker.into_wire().0);
    for stream in [&client, &worker] {
        stream
            .stream()
            .set_read_timeout(Some(timeout))
            .map_err(|error| error.to_string())?;
    }
    beside_echo(worker, || measure(plan, client))
}

/// The result of `measure`, while another thread echoes on `worker`.
pub(super) fn beside_echo(
    worker: Wire,
    measure: impl FnOnce() -> Result<Report, String>,
) -> Result<Report, String> {
    let stop = worker
        .stream()
        .try_clone()
        .map_err(|error| error.to_string())?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let echo = scope.spawn(move || match echo(worker) {
            // The last replies may have no reader.
            Err(_) if is_over.load(Ordering::Acquire) => Ok(()),
            echoed => echoed,
        });
        let report = measure();
        is_over.store(true, Ordering::Release);
        // The worker is blocked in a read; this ends it, unless it has ended by itself.
        let _ = stop.shutdown(Shutdown::Both);
        let echoed = echo
            .join()
            .map_err(|_panic| "the worker's thread panicked".to_owned())?;
        let report = report?;
        echoed.map_err(|error| format!("the worker's connection broke off: {error}"))?;
        Ok(report)
    })
}

fn measure(plan: &Plan<'_>, mut client: Wire) -> Result<Report, String> {
    let load = Load::new(plan.body_size);
    let request = &load.block()[..load.message_size()];
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut ping = || -> Result<Duration, String> {
        let start = Instant::now();
        round_trip(&mut client, request, &mut buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "no reply came in time".to_owned(),
            _ => format!("the client's connection broke off: {error}"),
        })?;
        Ok(start.elapsed())
    };
    let warmup_end = Instant::now() + plan.timing.warmup;
    while Instant::now() < warmup_end {
        ping()?;
    }
    let mut histogram = Histogram::new();
    let cpu_before = plan.process.map(Process::cpu_times).transpose()?;
    let start = Instant::now();
    while start.elapsed() < plan.timing.measured {
        histogram.record(ping()?);
    }
    let elapsed = start.elapsed();
    let cpu_after = plan.process.map(Process::cpu_times).transpose()?;

    let mut report = Report::new("latency");
    report.count("body_bytes", plan.body_size as u64);
    report.number("seconds", elapsed.as_secs_f64());
    report.count("delivered", histogram.total());
    report.number(
        "messages_per_second",
        per_second(histogram.total(), elapsed),
    );
    describe_latency(&mut report, &histogram);
    let cpu_time = cpu_after
        .zip(cpu_before)
        .map(|(after, before)| after.since(&before));
    describe(&mut report, cpu_time, elapsed, histogram.total());
    if let Some(process) = plan.process {
        report.count("resident_bytes", process.resident_size()?);
    }
    Ok(report)
}

/// Adds the percentiles of round trips to a report.
pub(super) fn describe_latency(report: &mut Report, histogram: &Histogram) {
    for (name, per_mille) in [
        ("p50_us", 500),
        ("p90_us", 900),
        ("p99_us", 990),
        ("p99_9_us", 999),
    ] {
        report.microseconds(name, histogram.percentile(per_mille));
    }
    report.microseconds("max_us", histogram.max());
}

fn round_trip(client: &mut Wire, request: &[u8], buffer: &mut Vec<u8>) -> io::Result<()> {
    client.write_all(request)?;
    let mut expected = request;
    while !expected.is_empty() {
        let heard = client.read(buffer)?;
        if heard.raw == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let Some(rest) = expected.strip_prefix(&buffer[..heard.plain]) else {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the reply is not the request",
            ));
        };
        expected = rest;
    }
    Ok(())
}

/// Sends back all bytes until the connection ends.
fn echo(mut worker: Wire) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    loop {
        match worker.read(&mut buffer) {
            Ok(heard) if heard.raw == 0 => return Ok(()),
            Ok(heard) => worker.write_all(&buffer[..heard.plain])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes of one read.
const BUFFER_SIZE: usize = 64 << 10;
