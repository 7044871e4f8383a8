//! Processor time and memory of the process in the middle, from Linux.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

/// The process in the middle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: u32,
}

/// Nanoseconds on a processor, by thread. A thread's time is lost when it ends, so only threads
/// that exist at both ends of an interval can be compared.
#[derive(Debug, Default)]
pub(super) struct CpuTimes(BTreeMap<OsString, u64>);

impl Process {
    /// The process with this number.
    pub(super) fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// The time that its threads have spent on a processor, in user space and in the kernel. This
    /// is the scheduler's own figure in nanoseconds; `ps` and `top` count ticks.
    pub(super) fn cpu_times(self) -> Result<CpuTimes, String> {
        let tasks = format!("/proc/{}/task", self.pid);
        let entries = fs::read_dir(&tasks).map_err(|error| self.unreadable(&tasks, &error))?;
        let mut threads = BTreeMap::new();
        for entry in entries.flatten() {
            // A thread may end during this loop.
            if let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) {
                let time_ns = on_processor_ns(&text)
                    .ok_or_else(|| format!("{tasks} has a schedstat without a time: \"{text}\""))?;
                threads.insert(entry.file_name(), time_ns);
            }
        }
        Ok(CpuTimes(threads))
    }

    /// Resident memory in bytes.
    pub(super) fn resident_size(self) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.pid);
        let text = fs::read_to_string(&path).map_err(|error| self.unreadable(&path, &error))?;
        resident_size(&text).ok_or_else(|| format!("{path} has no resident memory"))
    }

    fn unreadable(self, path: &str, error: &std::io::Error) -> String {
        format!("cannot inspect process {}: {path}: {error}", self.pid)
    }
}

impl CpuTimes {
    /// The time spent since `before` by threads that still exist.
    pub(super) fn since(&self, before: &Self) -> Duration {
        let spent = self.0.iter().map(|(thread, after_ns)| {
            after_ns.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        });
        Duration::from_nanos(spent.sum())
    }
}

fn on_processor_ns(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

fn resident_size(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_parsed() {
        assert_eq!(on_processor_ns("9221377 12334 77\n"), Some(9_221_377));
        assert_eq!(on_processor_ns("\n"), None);
        let status = "Name:\tzmqd\nVmHWM:\t    9999 kB\nVmRSS:\t    2048 kB\nThreads:\t1\n";
        assert_eq!(resident_size(status), Some(2 << 20));
        assert_eq!(resident_size("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn threads_that_end_or_begin_do_not_disturb_the_sum() {
        let times = |threads: &[(&str, u64)]| {
            CpuTimes(
                threads
                    .iter()
                    .map(|(name, time_ns)| (OsString::from(name), *time_ns))
                    .collect(),
            )
        };
        let before = times(&[("1", 100), ("2", 5000)]);
        let after = times(&[("1", 130), ("3", 7)]);
        assert_eq!(after.since(&before), Duration::from_nanos(37));
    }

    #[test]
    fn this_process_is_seen_and_a_missing_one_is_named() {
        let this = Process::new(std::process::id());
        assert!(this.resident_size().unwrap() > 0);
        let times = this.cpu_times().unwrap();
        assert!(times.since(&CpuTimes::default()) > Duration::ZERO);
        assert_eq!(times.since(&times), Duration::ZERO);
        let missing = Process::new(u32::MAX);
        for refusal in [
            missing.cpu_times().map(drop),
            missing.resident_size().map(drop),
        ] {
            assert!(refusal.unwrap_err().contains("process 4294967295"));
        }
    }
}
