//! Counts durations in buckets whose width grows with the value, as HDR histograms do.

use std::time::Duration;

/// Durations counted to within one part in 128, in constant memory.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    max_ns: u64,
    total: u64,
}

impl Histogram {
    /// An empty histogram.
    pub(super) fn new() -> Self {
        Self {
            counts: Vec::new(),
            max_ns: 0,
            total: 0,
        }
    }

    /// Counts one duration.
    pub(super) fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(nanoseconds);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.max_ns = self.max_ns.max(nanoseconds);
        self.total += 1;
    }

    /// The number of durations counted.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The longest duration, exactly.
    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The duration that `per_mille` of a thousand do not exceed.
    pub(super) fn percentile(&self, per_mille: u64) -> Duration {
        let rank = (self.total.saturating_mul(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(highest(bucket).min(self.max_ns));
            }
        }
        self.max()
    }
}

/// Below 128 every value has a bucket; above, every power of two has 128 of them.
fn bucket(value: u64) -> usize {
    let shift = value
        .checked_ilog2()
        .unwrap_or(0)
        .saturating_sub(PRECISION_BITS);
    let within = value >> shift;
    usize::try_from((u64::from(shift) << PRECISION_BITS) + within).unwrap_or(usize::MAX)
}

/// The highest value that falls into a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket >> PRECISION_BITS).saturating_sub(1);
    let within = bucket - (shift << PRECISION_BITS);
    ((within + 1) << shift).wrapping_sub(1)
}

const PRECISION_BITS: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut values: Vec<u64> = (0..4096).collect();
        values.extend((12..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        values.push(u64::MAX);
        for pair in values.windows(2) {
            assert!(bucket(pair[0]) <= bucket(pair[1]), "{pair:?}");
        }
        for value in values {
            let highest = highest(bucket(value));
            assert!(
                highest >= value && highest - value <= value / 128,
                "{value} {highest}"
            );
        }
    }

    #[test]
    fn percentiles_of_a_thousand_values() {
        let mut histogram = Histogram::new();
        for microseconds in (1..=1000).rev() {
            histogram.record(Duration::from_micros(microseconds));
        }
        assert_eq!(histogram.total(), 1000);
        assert_eq!(histogram.max(), Duration::from_micros(1000));
        for (per_mille, expected_us) in [(0, 1), (500, 500), (900, 900), (999, 999), (1000, 1000)] {
            let found = histogram.percentile(per_mille).as_secs_f64() * 1e6;
            let expected = f64::from(expected_us);
            assert!(
                (expected..=expected * 1.01).contains(&found),
                "{per_mille}: {found}"
            );
        }
    }
}
