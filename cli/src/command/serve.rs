//! Running a broker: bind, say so, run until a signal.

use std::io::ErrorKind;

use broker::config::{Config, Endpoint};
use broker::{BindError, Bound, Broker};

use super::{Failure, print};

/// Runs `config` until stopped by a signal; prints a line for each bound endpoint, and what
/// `afterwards` makes of them.
pub(super) fn serve(
    config: &Config,
    afterwards: impl FnOnce(&[Bound]) -> String,
) -> Result<(), Failure> {
    let mut broker = Broker::bind(config).map_err(|error| Failure::Running(explain(&error)))?;
    // Before the lines below: who has read them may send a signal.
    broker
        .stop_on_signals()
        .map_err(|error| Failure::Running(format!("cannot wait for signals: {error}")))?;
    let bound = broker.bound();
    let mut text = String::new();
    for Bound {
        endpoint,
        proxy,
        side,
    } in bound
    {
        text.push_str(&format!("{proxy} {side} bound {endpoint}\n"));
    }
    text.push_str(&afterwards(bound));
    match print(&text) {
        // A broker works on though nobody reads where it listens.
        Ok(()) | Err(Failure::BrokenPipe) => {}
        Err(Failure::Running(sentence) | Failure::Usage(sentence)) => log::warn!("{sentence}"),
    }
    broker
        .run()
        .map_err(|error| Failure::Running(format!("the event loop failed: {error}")))
}

/// Adds what to do to what went wrong.
fn explain(error: &BindError) -> String {
    let advice = match error {
        BindError::Endpoint {
            endpoint, source, ..
        } => advice(endpoint, source.kind()),
        BindError::EventLoop(_) => None,
        BindError::Record(_) => Some("name another file, or end who records there"),
    };
    advice.map_or_else(|| error.to_string(), |advice| format!("{error}; {advice}"))
}

fn advice(endpoint: &Endpoint, kind: ErrorKind) -> Option<&'static str> {
    let is_tcp = matches!(endpoint, Endpoint::Tcp { .. });
    match kind {
        ErrorKind::AddrInUse if is_tcp => Some("stop who listens there, or choose another port"),
        ErrorKind::AddrInUse => Some("stop who listens there, or choose another name"),
        ErrorKind::AddrNotAvailable if is_tcp => {
            Some("use an address of this machine, or * for all")
        }
        ErrorKind::AlreadyExists => Some("remove it, or choose another name"),
        ErrorKind::NotFound if !is_tcp => Some("make its directory, or choose another"),
        ErrorKind::PermissionDenied if is_tcp => {
            Some("use a port above 1023, or allow CAP_NET_BIND_SERVICE")
        }
        ErrorKind::PermissionDenied => Some("let zmqd write there, or run it as another user"),
        _ => None,
    }
}
