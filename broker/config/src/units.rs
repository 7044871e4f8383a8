//! Times and sizes with units: `5s`, `250ms`, `64MiB`.
//!
//! Configuration files and the command line parse them with the same two functions. The caller
//! gives the unit of a number without one.

use std::time::Duration;

/// Reads a time: a number and one of `ns`, `us`, `ms`, `s`, `min` (or `m`), `h`, `d`. A number
/// without a unit counts `plain`. [`None`] if the text is anything else, or not a whole number of
/// nanoseconds.
#[must_use]
pub fn parse_time(text: &str, plain: Duration) -> Option<Duration> {
    let (number, unit) = split(text);
    let unit_ns = match unit {
        "" => plain.as_nanos(),
        "ns" => 1,
        "us" | "µs" => 1000,
        "ms" => 1_000_000,
        "s" => NANOSECONDS,
        "min" | "m" => 60 * NANOSECONDS,
        "h" => 3600 * NANOSECONDS,
        "d" => 86_400 * NANOSECONDS,
        _ => return None,
    };
    let nanoseconds = multiply(number, unit_ns)?;
    let seconds = u64::try_from(nanoseconds / NANOSECONDS).ok()?;
    Some(Duration::new(
        seconds,
        u32::try_from(nanoseconds % NANOSECONDS).ok()?,
    ))
}

/// Reads a size in bytes: a number and one of `B`, `KiB`, `MiB`, `GiB`, `TiB`, `kB`, `MB`, `GB`,
/// `TB`, in upper or lower case. As in other tools, `K`, `M`, `G` and `T` alone are KiB, MiB, GiB
/// and TiB. [`None`] if the text is anything else, or not a whole number of bytes.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let unit_size = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    multiply(number, unit_size)?.try_into().ok()
}

/// The number at the front of a text, and the unit after it, with or without blanks between them.
fn split(text: &str) -> (&str, &str) {
    let is_of_number = |letter: char| letter.is_ascii_digit() || letter == '.';
    let end = text.find(|letter| !is_of_number(letter));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim_start_matches(' '))
}

/// A decimal number times `unit`, if the product is a whole number.
fn multiply(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // More digits do not matter: no unit has so many divisors.
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() || fraction.len() > DIGITS_MAX || number.ends_with('.') {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: u128 = format!("{}{fraction}", u64_of(whole)?).parse().ok()?;
    let product = digits.checked_mul(unit)?;
    (product % scale == 0).then_some(product / scale)
}

/// Only digits: `u64::from_str` would accept a leading plus.
fn u64_of(digits: &str) -> Option<u64> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok())?
}

/// Nanoseconds of a second.
const NANOSECONDS: u128 = 1_000_000_000;

/// Digits after the point that can matter.
const DIGITS_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_plain_numbers_are_as_before() {
        let (ms, s) = (Duration::from_millis(1), Duration::from_secs(1));
        for (text, plain, expected) in [
            ("0", s, Duration::ZERO),
            ("5", s, 5 * s),
            ("5", ms, 5 * ms),
            ("0.25", s, 250 * ms),
            ("1.50", s, 1500 * ms),
            ("250ms", s, 250 * ms),
            ("5s", ms, 5 * s),
            ("5 s", ms, 5 * s),
            ("1.5h", ms, 5400 * s),
            ("2min", ms, 120 * s),
            ("2m", ms, 120 * s),
            ("7d", ms, 7 * 86_400 * s),
            ("10us", ms, Duration::from_micros(10)),
            ("10µs", ms, Duration::from_micros(10)),
            ("3ns", ms, Duration::from_nanos(3)),
            ("1.000000000000000000s", ms, s),
        ] {
            assert_eq!(parse_time(text, plain), Some(expected), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "+1",
            "1,5",
            ".5",
            "5.",
            "1.2.3",
            "1e3",
            "5S",
            "5 weeks",
            "0.1ns",
            "5s5",
            "inf",
            "NaN",
            "99999999999999999999d",
            "1.0000000000000001s",
        ] {
            assert_eq!(parse_time(text, s), None, "{text}");
        }
        assert_eq!(parse_time("18446744073709551615d", s), None, "overflow");
    }

    #[test]
    fn sizes_have_units_of_both_sorts() {
        for (text, expected) in [
            ("0", 0),
            ("1000", 1000),
            ("1000B", 1000),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("64M", 64 << 20),
            ("64 MiB", 64 << 20),
            ("64mib", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2T", 2 << 40),
            ("1kB", 1000),
            ("1.5MB", 1_500_000),
            ("2GB", 2_000_000_000),
            ("1TB", 1_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "MiB",
            "-1",
            "+1",
            "0.3B",
            "1.0001KiB",
            "1EiB",
            "64 Mi B",
            "18446744073709551616",
            "99999999999TiB",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
