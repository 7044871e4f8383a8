//! Times and durations in readable form.

use std::time::{Duration, SystemTime};

/// Nanoseconds since 1970, now.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line reads the clock"
)]
pub(crate) fn now_ns() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(elapsed.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// A time in UTC by RFC 3339, with six digits of its second.
pub(crate) fn utc(time_ns: u64) -> String {
    let seconds = time_ns / 1_000_000_000;
    let micros = time_ns / 1000 % 1_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// A duration with three digits, in a suitable unit.
pub(crate) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.0..0.001 => format!("{:.0} µs", seconds * 1e6),
        0.001..1.0 => format!("{:.*} ms", digits(seconds * 1e3), seconds * 1e3),
        _ => format!("{:.*} s", digits(seconds), seconds),
    }
}

fn digits(number: f64) -> usize {
    match number {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    }
}

/// The date this number of days after 1 January 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 1 March of the year 0, so that a leap day is the last day of its year.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_868_799, "2000-02-29T23:59:59.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
            (18_446_744_073, "2554-07-21T23:34:33.000000Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000_000), expected);
        }
        assert_eq!(utc(1_234_567_999), "1970-01-01T00:00:01.234567Z");
    }

    #[test]
    fn durations_have_a_suitable_unit() {
        for (nanos, expected) in [
            (0, "0 µs"),
            (1_499, "1 µs"),
            (999_400, "999 µs"),
            (1_234_567, "1.23 ms"),
            (12_345_678, "12.3 ms"),
            (123_456_789, "123 ms"),
            (1_234_567_890, "1.23 s"),
            (98_765_432_109, "98.8 s"),
            (3_600_000_000_000, "3600 s"),
        ] {
            assert_eq!(short(Duration::from_nanos(nanos)), expected);
        }
    }
}
