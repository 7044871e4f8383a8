//! Values that several subcommands parse.

use std::time::Duration;

use broker::config::endpoint::attach;
use broker::config::{Attach, Endpoint, EndpointError, parse_size, parse_time};

/// An endpoint, and whether to bind or connect to it.
pub(crate) type Attached = (Attach, Endpoint);

/// A time; a number without a unit counts seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = parse_time(text, Duration::from_secs(1)).filter(|time| *time <= TIME_MAX);
    time.ok_or_else(|| "write a time such as 5s or 250ms; a number alone is seconds".to_owned())
}

/// A time above zero.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time.is_zero() {
        return Err("write a time above zero".to_owned());
    }
    Ok(time)
}

/// A time between two looks, which must leave the other side time for its work.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let time = time(text)?;
    if time < INTERVAL_MIN {
        return Err(format!(
            "write a time of at least {} ms",
            INTERVAL_MIN.as_millis()
        ));
    }
    Ok(time)
}

/// A size in bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write a size such as 65536, 64KiB or 10MB".to_owned())
}

pub(crate) fn bind_by_habit(text: &str) -> Result<Attached, EndpointError> {
    attach(text, Attach::Bind)
}

pub(crate) fn connect_by_habit(text: &str) -> Result<Attached, EndpointError> {
    attach(text, Attach::Connect)
}

const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Above this, sums of times could overflow: a hundred years.
const TIME_MAX: Duration = Duration::from_secs(36_500 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_unless_they_have_a_unit() {
        assert_eq!(time("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(timeout("2min"), Ok(Duration::from_secs(120)));
        for text in ["", "-1", "1e300", "soon", "99999d"] {
            assert!(time(text).is_err(), "{text}");
        }
        assert!(timeout("0").is_err());
        assert_eq!(interval("100ms"), Ok(Duration::from_millis(100)));
        assert!(interval("99ms").is_err());
        assert_eq!(size("64KiB"), Ok(65_536));
        assert!(size("64 Mo").is_err());
    }
}
