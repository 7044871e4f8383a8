//! `zmqd bench`: a load generator for any ZMTP proxy, zmqd or not.
//!
//! The messages are encoded before the run, workers send back the bytes they receive and receivers
//! only count, so the process in the middle is the bottleneck.

mod crowd;
mod engine;
mod handshakes;
mod histogram;
mod latency;
mod load;
mod memory;
mod peer;
mod process;
mod report;
mod sides;
mod works;

#[cfg(test)]
mod tests;

use std::io::{self, Write as _};
use std::time::Duration;

use broker::config::endpoint::Endpoint;
use clap::{Args, Subcommand};
use zmtp::MechanismConfig;

use self::engine::Timing;
use self::process::Process;
use self::report::Report;
use self::sides::Sides;
use self::works::Plan;
use crate::client::SecurityArgs;
use crate::output::{Failure, print};
use crate::value::{size, time, timeout};

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, arg_required_else_help = false)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    work: Work,
}

const EXAMPLES: &str = "\
zmqd plays the peers on both sides of the proxy. It encodes messages before the run, so that the
proxy is the bottleneck.

Examples, against zmqd without arguments:
  zmqd bench queue --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560
  zmqd bench latency --frontend tcp://127.0.0.1:5559 --backend tcp://127.0.0.1:5560 --json
  zmqd bench stream --frontend tcp://127.0.0.1:5563 --backend tcp://127.0.0.1:5564 --size 1024";

#[derive(Debug, Subcommand)]
enum Work {
    /// Round trips through a queue: DEALER clients, DEALER workers that echo
    Queue(QueueArgs),
    /// Fan-out through a forwarder: a PUB, SUB subscribers to everything
    Forward(ForwardArgs),
    /// One-way throughput through a streamer: PUSH sources, PULL sinks
    Stream(StreamArgs),
    /// Round trip of one request at a time through a queue
    Latency(LatencyArgs),
    /// Round trips of many clients that each send a request now and then, through a queue
    Crowd(CrowdArgs),
    /// Clients of a queue that repeatedly connect, shake hands and close
    Handshakes(HandshakesArgs),
    /// Memory of a forwarder for idle connections with one subscription each
    Idle(IdleArgs),
    /// Memory of a forwarder for subscriptions
    Subscriptions(SubscriptionsArgs),
}

#[derive(Args, Debug)]
struct QueueArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Number of clients
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    clients: usize,
    /// Number of workers; by default as many as clients
    #[arg(long, value_name = "N", value_parser = count)]
    workers: Option<usize>,
    /// Outstanding requests of each client
    #[arg(long, value_name = "N", default_value = "256", value_parser = count)]
    window: usize,
}

#[derive(Args, Debug)]
struct ForwardArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Number of subscribers
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    subscribers: usize,
    /// Largest lead of the publisher in messages; unlimited by default
    #[arg(long, value_name = "N", value_parser = count)]
    window: Option<usize>,
}

#[derive(Args, Debug)]
struct StreamArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Number of sources
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    sources: usize,
    /// Number of sinks; by default as many as sources
    #[arg(long, value_name = "N", value_parser = count)]
    sinks: Option<usize>,
}

#[derive(Args, Debug)]
struct LatencyArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Args, Debug)]
struct CrowdArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Number of clients
    #[arg(long, value_name = "N", default_value = "1000", value_parser = count)]
    clients: usize,
    /// Time between two requests of one client
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    interval: Duration,
}

#[derive(Args, Debug)]
struct HandshakesArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    time: TimeArgs,
    /// Clients at a time
    #[arg(long, value_name = "N", default_value = "2", value_parser = count)]
    clients: usize,
}

#[derive(Args, Debug)]
struct IdleArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Number of connections
    #[arg(long, value_name = "N", default_value = "1000", value_parser = count)]
    connections: usize,
}

#[derive(Args, Debug)]
struct SubscriptionsArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Subscriptions, of twelve bytes each
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = count)]
    count: usize,
    /// Number of connections that share them
    #[arg(long, value_name = "N", default_value = "1", value_parser = count)]
    connections: usize,
}

#[derive(Args, Debug)]
struct CommonArgs {
    /// Where clients, publishers and sources connect
    #[arg(long, value_name = "ENDPOINT", value_parser = Endpoint::parse_connect)]
    frontend: Endpoint,
    /// Where workers, subscribers and sinks connect
    #[arg(long, value_name = "ENDPOINT", value_parser = Endpoint::parse_connect)]
    backend: Endpoint,
    #[command(flatten)]
    security: SecurityArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The proxy's process, to report its processor time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// Longest wait, for a connection or last messages
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,
}

#[derive(Args, Debug)]
struct LoadArgs {
    #[command(flatten)]
    time: TimeArgs,
    /// Size of a message's body
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = size)]
    size: u64,
}

#[derive(Args, Debug)]
struct TimeArgs {
    /// Duration of the measurement
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    duration: Duration,
    /// Duration of the load before the measurement
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = time)]
    warmup: Duration,
}

/// Puts a load on a proxy and prints the measurements. Fails if a connection fails, or if nothing
/// is delivered.
pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    let common = args.work.common();
    let mechanism = common
        .security
        .mechanism(&[&common.frontend, &common.backend])?;
    let report = args.work.run(mechanism).map_err(Failure::Running)?;
    print(&if common.json {
        report.json()
    } else {
        report.text()
    })?;
    for warning in report.warnings() {
        // If stderr is closed, the warning is lost.
        drop(writeln!(io::stderr(), "zmqd: {warning}"));
    }
    Ok(())
}

impl Work {
    fn common(&self) -> &CommonArgs {
        match self {
            Self::Queue(QueueArgs { common, .. })
            | Self::Forward(ForwardArgs { common, .. })
            | Self::Stream(StreamArgs { common, .. })
            | Self::Latency(LatencyArgs { common, .. })
            | Self::Crowd(CrowdArgs { common, .. })
            | Self::Handshakes(HandshakesArgs { common, .. })
            | Self::Idle(IdleArgs { common, .. })
            | Self::Subscriptions(SubscriptionsArgs { common, .. }) => common,
        }
    }

    fn run(&self, mechanism: MechanismConfig) -> Result<Report, String> {
        let CommonArgs {
            frontend,
            backend,
            pid,
            timeout,
            ..
        } = self.common();
        let sides = Sides {
            backend: backend.clone(),
            frontend: frontend.clone(),
            mechanism,
        };
        let process = pid.map(Process::new);
        let timing = |time: &TimeArgs| Timing {
            measured: time.duration,
            timeout: *timeout,
            warmup: time.warmup,
        };
        let plan = |load: &LoadArgs| Plan {
            body_size: usize::try_from(load.size).unwrap_or(usize::MAX),
            process,
            sides: &sides,
            timing: timing(&load.time),
        };
        let grown = |work, connections: usize, topics: usize| {
            let process = process.ok_or("--pid is needed to see the memory of a process")?;
            memory::memory(work, &sides, (connections, topics), process, *timeout)
        };
        match self {
            Self::Queue(args) => {
                let workers = args.workers.unwrap_or(args.clients);
                works::queue(&plan(&args.load), args.clients, workers, args.window as u64)
            }
            Self::Forward(args) => {
                let window = args.window.map(|window| window as u64);
                works::forward(&plan(&args.load), args.subscribers, window)
            }
            Self::Stream(args) => {
                let sinks = args.sinks.unwrap_or(args.sources);
                works::stream(&plan(&args.load), args.sources, sinks)
            }
            Self::Latency(args) => latency::latency(&plan(&args.load)),
            Self::Crowd(args) => crowd::crowd(&plan(&args.load), args.clients, args.interval),
            Self::Handshakes(args) => {
                handshakes::handshakes(&sides, &timing(&args.time), process, args.clients)
            }
            Self::Idle(args) => grown("idle", args.connections, args.connections),
            Self::Subscriptions(args) if args.count < args.connections => {
                Err("--count must not be below --connections".to_owned())
            }
            Self::Subscriptions(args) => grown("subscriptions", args.connections, args.count),
        }
    }
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("not a count: {error}")),
    }
}
