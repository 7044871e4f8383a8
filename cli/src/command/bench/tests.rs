//! Whole runs, with a byte relay for a proxy: the two ends shake hands with each other.

use broker::config::Endpoint;
use clap::{Args as _, FromArgMatches as _};
use zmtp::MechanismConfig;

use super::BenchArgs;
use super::report::Report;
use super::sides::Sides;
use crate::client::tests::relay;

fn bench(sides: &Sides, work: &str) -> Result<Report, String> {
    let words = format!(
        "bench {work} --frontend {} --backend {}",
        sides.frontend, sides.backend
    );
    let command = BenchArgs::augment_args(clap::Command::new("bench"));
    let matches = command.try_get_matches_from(words.split(' ')).unwrap();
    let args = BenchArgs::from_arg_matches(&matches).unwrap();
    args.work.run(sides.mechanism.clone())
}

fn sides(frontend: Endpoint, backend: Endpoint) -> Sides {
    Sides {
        backend,
        frontend,
        mechanism: MechanismConfig::Null,
    }
}

fn through(
    change: impl FnMut(&mut Vec<u8>) + Send + 'static,
    work: &str,
) -> Result<Report, String> {
    let (frontend, backend) = relay(change);
    bench(&sides(frontend, backend), work)
}

/// A number of the report, parsed from its JSON; NaN for `null`.
fn number(report: &Report, name: &str) -> f64 {
    let json = report.json();
    let (_, value) = json.split_once(&format!("\"{name}\":")).unwrap();
    match value.split([',', '}']).next().unwrap() {
        "null" => f64::NAN,
        value => value.parse().unwrap(),
    }
}

#[test]
fn everything_sent_through_a_relay_is_delivered() {
    let pid = std::process::id();
    for work in [
        "stream --size 64",
        "stream --size 0",
        "stream --size 300000",
        "forward --size 64",
        "forward --size 1024 --window 10",
        "queue --size 64",
        "queue --size 1 --window 1",
        "queue --size 16384 --window 300",
    ] {
        // Longer if the machine is too busy for a result.
        let report = [0.05, 0.5, 5.0].into_iter().find_map(|seconds| {
            let work = format!("{work} --duration {seconds} --warmup 0.01 --pid {pid}");
            let report = through(|_| {}, &work).unwrap();
            let counts = ["sent", "cpu_ns_per_message"].map(|name| number(&report, name));
            counts.iter().all(|count| *count > 0.0).then_some(report)
        });
        let report = report.unwrap_or_else(|| panic!("{work} costs nothing"));
        assert!(number(&report, "sent") > 0.0, "{work}");
        assert_eq!(
            number(&report, "sent"),
            number(&report, "delivered"),
            "{work}"
        );
        assert_eq!(number(&report, "delivered_share"), 1.0, "{work}");
        assert!(number(&report, "messages_per_second") > 0.0, "{work}");
        assert!(number(&report, "cpu_ns_per_message") > 0.0, "{work}");
        assert!(number(&report, "resident_bytes") > 0.0, "{work}");
        assert_eq!(report.warnings(), [""; 0], "{work}");
    }
}

#[test]
fn latencies_are_in_order() {
    let report = [0.05, 0.5, 5.0].into_iter().find_map(|seconds| {
        let work = format!("latency --duration {seconds} --warmup 0");
        let report = through(|_| {}, &work).unwrap();
        (number(&report, "delivered") > 0.0).then_some(report)
    });
    let report = report.expect("something is delivered in seconds");
    let names = ["p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"];
    let latencies = names.map(|name| number(&report, name));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{latencies:?}");
}

#[test]
fn a_crowd_of_one_is_answered() {
    let work = "crowd --clients 1 --interval 0.01 --duration 0.5 --warmup 0";
    let report = through(|_| {}, work).unwrap();
    assert!(number(&report, "delivered") > 1.0);
    assert!(number(&report, "p50_us") > 0.0);
    let work = "crowd --clients 1 --interval 0.001 --duration 0.2 --warmup 0 --timeout 1";
    let mut seen = 0;
    let swallow = move |bytes: &mut Vec<u8>| {
        bytes.truncate(DEALER_HANDSHAKE_SIZE.saturating_sub(seen));
        seen += bytes.len();
    };
    let failure = through(swallow, work).unwrap_err();
    assert_eq!(failure, "nothing was delivered");
}

/// Bytes that a DEALER sends in its handshake, as a PUSH does, and an identity.
const DEALER_HANDSHAKE_SIZE: usize = 64 + 43;

/// Bytes that a PUSH sends in its handshake: the greeting and `04 1a 05 READY 0b Socket-Type …`.
const PUSH_HANDSHAKE_SIZE: usize = 64 + 28;

#[test]
fn nothing_delivered_is_a_failure() {
    let mut seen = 0;
    let swallow = move |bytes: &mut Vec<u8>| {
        bytes.truncate(PUSH_HANDSHAKE_SIZE.saturating_sub(seen));
        seen += bytes.len();
    };
    let work = "stream --duration 0.02 --warmup 0 --timeout 0.1";
    let failure = through(swallow, work).unwrap_err();
    assert!(
        failure.starts_with("nothing was delivered of "),
        "{failure}"
    );
}

#[test]
fn bytes_that_were_not_sent_are_a_failure() {
    let mut seen = 0;
    let change = move |bytes: &mut Vec<u8>| {
        seen += bytes.len();
        if seen > PUSH_HANDSHAKE_SIZE {
            // The header of the next message, on every connection.
            bytes.insert(0, 3);
        }
    };
    let failure = through(change, "stream --duration 5 --warmup 0").unwrap_err();
    assert!(
        failure.contains("delivered bytes that were not sent"),
        "{failure}"
    );
}

#[test]
fn a_refused_connection_is_a_failure_that_names_the_endpoint() {
    let (frontend, backend) = relay(|_| {});
    let closed = "tcp://127.0.0.1:1".parse().unwrap();
    let sides = sides(closed, backend);
    let failure = bench(&sides, "stream --timeout 0.05").unwrap_err();
    assert!(
        failure.starts_with("cannot connect a PUSH to tcp://127.0.0.1:1: "),
        "{failure}"
    );
    drop(frontend);
}

#[test]
fn memory_needs_a_process_to_inspect() {
    let (frontend, backend) = relay(|_| {});
    let sides = sides(frontend, backend);
    let failure = bench(&sides, "idle").unwrap_err();
    assert!(failure.contains("--pid"), "{failure}");
}

#[test]
fn memory_counts_the_subscriptions_that_arrived() {
    let pid = std::process::id();
    let work = format!("subscriptions --count 5000 --pid {pid}");
    let report = through(|_| {}, &work).unwrap();
    assert_eq!(number(&report, "subscriptions"), 5000.0);
    assert_eq!(number(&report, "connections"), 1.0);
    let work = format!("subscriptions --count 1 --connections 2 --pid {pid}");
    assert!(through(|_| {}, &work).unwrap_err().contains("--count"));
}

#[test]
fn counts_are_checked() {
    assert_eq!(super::count("16"), Ok(16));
    for text in ["", "0", "-1", "many"] {
        assert!(super::count(text).is_err(), "{text}");
    }
}
