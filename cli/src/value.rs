//! Values on the command line that several subcommands parse.

use std::time::Duration;

use broker::config::endpoint::attach;
use broker::config::{Attach, Endpoint, EndpointError};

/// An endpoint and what to do with it.
pub(crate) type Attached = (Attach, Endpoint);

/// A length of time in seconds, which need not be whole.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub(crate) fn bind_by_habit(text: &str) -> Result<Attached, EndpointError> {
    attach(text, Attach::Bind)
}

pub(crate) fn connect_by_habit(text: &str) -> Result<Attached, EndpointError> {
    attach(text, Attach::Connect)
}
