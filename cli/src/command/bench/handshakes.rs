//! Connections that only shake hands.
#![expect(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock"
)]

use std::thread;
use std::time::{Duration, Instant};

use zmtp::SocketType;

use super::engine::Timing;
use super::process::Process;
use super::report::{Report, per_second};
use super::sides::Sides;

/// DEALER clients on this many threads: each connects, waits for READY, closes, and starts over.
pub(super) fn handshakes(
    sides: &Sides,
    timing: &Timing,
    process: Option<Process>,
    threads: usize,
) -> Result<Report, String> {
    come_and_go(sides, timing, threads, timing.warmup)?;
    let cpu_before = process.map(Process::cpu_times).transpose()?;
    let start = Instant::now();
    let count = come_and_go(sides, timing, threads, timing.measured)?;
    let elapsed = start.elapsed();
    let cpu_after = process.map(Process::cpu_times).transpose()?;
    if count == 0 {
        return Err("no handshake finished in time".to_owned());
    }
    let mut report = Report::new("handshakes");
    report.number("seconds", elapsed.as_secs_f64());
    report.count("handshakes", count);
    report.number("handshakes_per_second", per_second(count, elapsed));
    if let Some((after, before)) = cpu_after.zip(cpu_before) {
        let cpu_time = after.since(&before);
        report.number("handshakes_per_cpu_second", per_second(count, cpu_time));
        report.number("cpu_cores", cpu_time.as_secs_f64() / elapsed.as_secs_f64());
    }
    if let Some(process) = process {
        report.count("resident_bytes", process.resident_size()?);
    }
    Ok(report)
}

/// The number of handshakes of all threads together.
fn come_and_go(
    sides: &Sides,
    timing: &Timing,
    threads: usize,
    time: Duration,
) -> Result<u64, String> {
    let deadline = Instant::now() + time;
    let one = || {
        let mut count = 0;
        while Instant::now() < deadline {
            sides.connect_front(SocketType::Dealer, 1, timing.timeout)?;
            count += 1;
        }
        Ok(count)
    };
    thread::scope(|scope| {
        let mut running = Vec::new();
        for _ in 0..threads {
            running.push(scope.spawn(one));
        }
        let mut total = 0;
        for thread in running {
            let counted: Result<u64, String> = thread
                .join()
                .map_err(|_panic| "a client's thread panicked".to_owned())?;
            total += counted?;
        }
        Ok(total)
    })
}
