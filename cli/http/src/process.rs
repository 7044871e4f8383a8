//! Figures of the process, as Prometheus clients name them.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use std::fs;

/// Figures of the process; one that the system does not tell is `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    /// Time of the processor, in seconds.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) descriptors: Option<u64>,
    pub(crate) descriptors_max: Option<u64>,
    pub(crate) resident_bytes: Option<u64>,
}

impl Process {
    pub(crate) fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let micros =
            usage.map(|usage| (usage.user_time() + usage.system_time()).num_microseconds());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut lines = status.lines();
        let resident = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let listed = fs::read_dir("/proc/self/fd").ok();
        let limits = getrlimit(Resource::RLIMIT_NOFILE).ok();
        Self {
            cpu_seconds: micros.map(|micros| micros as f64 / 1e6),
            // One of them reads the list.
            descriptors: listed.map(|entries| (entries.count() as u64).saturating_sub(1)),
            descriptors_max: limits.map(|(soft, _)| wide(soft)),
            resident_bytes: resident.map(|kib: u64| kib << 10),
        }
    }
}

/// A limit in 64 bits; some systems with 32-bit addresses have limits of 32 bits.
fn wide(limit: impl Into<u64>) -> u64 {
    limit.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_all_figures() {
        let process = Process::now();
        assert!(process.cpu_seconds.is_some());
        assert!(process.descriptors.is_some_and(|count| count > 2));
        assert!(process.descriptors_max.is_some_and(|count| count > 2));
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000));
    }
}
