//! Endpoints in libzmq's syntax.
//!
//! [`Endpoint`]'s `FromStr` accepts all endpoints; [`Endpoint::parse_bind`] and
//! [`Endpoint::parse_connect`] refuse those that are only for connecting (a source address) or only
//! for binding (`*` and port 0).

use std::fmt;
use std::str::FromStr;
use zmtp::{is_hidden, show};

mod guess;
mod local;
mod overlap;
mod tcp;

pub use local::IpcName;
pub(super) use overlap::Overlaps;
pub use tcp::{Host, Source};

/// The address that a socket binds or connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `inproc://NAME`: within one broker, without the system's network.
    Inproc(String),
    /// `ipc://PATH`, `ipc://@NAME` or `ipc://*`: within one machine.
    Ipc(IpcName),
    /// `tcp://HOST:PORT` or `tcp://SOURCE:PORT;HOST:PORT`
    Tcp {
        /// The interface to listen on or the host to connect to.
        host: Host,
        /// The port; zero asks the system for a free one and is only for binding.
        port: u16,
        /// The local address of the connection; [`None`] leaves it to the system. Only for
        /// connecting.
        source: Option<Box<Source>>,
    },
}

/// The use of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attach {
    /// Listen on it.
    Bind,
    /// Connect to it.
    Connect,
}

/// A text that is not an endpoint, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" {fault}", show(text))]
pub struct EndpointError {
    /// The error in the text.
    pub fault: EndpointFault,
    /// The text.
    pub text: String,
}

/// An error in an endpoint; the sentence continues after the text and gives the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// `*` cannot be connected to.
    #[error("has no host to connect to: * is only for binding; write a name or an address")]
    AnyHost,
    /// `ipc://*` cannot be connected to.
    #[error("has no path to connect to: * is only for binding; write the path")]
    AnyPath,
    /// A character that would garble logs and output.
    #[error("has a control or invisible character: leave it out")]
    ControlCharacter,
    /// A host that is neither an address nor a name.
    #[error(
        "has the host \"{}\", neither an address nor a name: write 127.0.0.1, [::1] or a name",
        show(.0)
    )]
    HostMalformed(String),
    /// A path longer than the system's address of a local socket.
    #[error("has a path of {size} bytes: write one of at most {size_max}")]
    IpcNameTooLong {
        /// Its length.
        size: usize,
        /// The longest legal length.
        size_max: usize,
    },
    /// Nothing follows `ipc://` or `ipc://@`.
    #[error("has no path: write ipc:///run/zmqd.ipc, ipc://@NAME, or ipc://* to bind")]
    IpcNameMissing,
    /// The name after `inproc://` is empty or too long.
    #[error("has a name of {size} bytes: write one of 1 to {size_max}")]
    InprocName {
        /// Its length.
        size: usize,
        /// The longest legal length.
        size_max: usize,
    },
    /// Text follows the port.
    #[error("has text after the port: remove it, tcp has no paths")]
    PathAfterPort,
    /// The port is neither a number nor `*`.
    #[error("has the port \"{}\": write a number up to 65535, or * to bind any free port",
         show(.0))]
    PortMalformed(String),
    /// The port is missing, or the text has only a port. With a legal endpoint to write instead.
    #[error("has no port: write {} for example", show(.0))]
    PortMissing(String),
    /// A port above 65535.
    #[error("has the port {}: write at most 65535", show(.0))]
    PortTooLarge(String),
    /// Port 0 and `*`, which cannot be connected to.
    #[error("has no port to connect to: 0 and * are only for binding; write the peer's port")]
    PortZero,
    /// libzmq's `source;destination`, in an endpoint to bind.
    #[error("has a source address before the semicolon: leave it out, it is only for connecting")]
    SourceAddress,
    /// `://` is missing. With the endpoint that was probably meant, if it can be guessed.
    #[error("is not an endpoint: write {}", instead(.0.as_deref()))]
    TransportMissing(Option<String>),
    /// An unknown transport.
    #[error(
        "has the transport \"{}\", which zmqd does not support: write tcp://HOST:PORT, ipc://PATH \
         or inproc://NAME",
        show(.0)
    )]
    TransportUnknown(String),
    /// `%` in a host that is not an IPv6 address, or without a zone after it.
    #[error("has the zone \"%{}\": zones are for IPv6 addresses, write [fe80::1%eth0]", show(.0))]
    Zone(String),
}

impl Endpoint {
    /// Whether bytes for it may leave this machine, or come from another: a tcp endpoint that is
    /// not a loopback address. Interfaces and names other than `localhost` are not looked up, and
    /// count as beyond it.
    #[must_use]
    pub fn is_beyond_loopback(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } if !host.is_loopback())
    }

    /// Whether both cannot be bound at the same time, as far as their texts show it.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut overlaps = Overlaps::default();
        overlaps.add(self).is_none() && overlaps.add(other).is_some()
    }

    /// Parses an endpoint to listen on; the host may be `*`, the port `*` or 0.
    ///
    /// # Errors
    /// The text is not an endpoint, or has a source address.
    pub fn parse_bind(text: &str) -> Result<Self, EndpointError> {
        match text.parse()? {
            Self::Tcp {
                source: Some(_), ..
            } => Err(EndpointError::new(text, EndpointFault::SourceAddress)),
            endpoint => Ok(endpoint),
        }
    }

    /// Parses an endpoint to connect to: the host and the port must be definite.
    ///
    /// # Errors
    /// The text is not an endpoint, or is only for binding.
    pub fn parse_connect(text: &str) -> Result<Self, EndpointError> {
        let endpoint: Self = text
            .parse()
            .map_err(|error: EndpointError| match error.fault {
                EndpointFault::TransportMissing(guess) => {
                    let guess = guess.filter(|guess| Self::parse_connect(guess).is_ok());
                    EndpointError::new(text, EndpointFault::TransportMissing(guess))
                }
                _ => error,
            })?;
        let fault = match &endpoint {
            Self::Ipc(IpcName::Any) => EndpointFault::AnyPath,
            Self::Tcp {
                host: Host::Any, ..
            } => EndpointFault::AnyHost,
            Self::Tcp { port: 0, .. } => EndpointFault::PortZero,
            Self::Inproc(_) | Self::Ipc(_) | Self::Tcp { .. } => return Ok(endpoint),
        };
        Err(EndpointError::new(text, fault))
    }
}

/// Parses an endpoint with czmq's prefixes: `@` binds, `>` connects; without one, `unless_told`
/// applies.
///
/// # Errors
/// The text is not an endpoint for this use.
pub fn attach(text: &str, unless_told: Attach) -> Result<(Attach, Endpoint), EndpointError> {
    let (attach, bare) = match (text.strip_prefix('@'), text.strip_prefix('>')) {
        (Some(bare), _) => (Attach::Bind, bare),
        (_, Some(bare)) => (Attach::Connect, bare),
        (None, None) => (unless_told, text),
    };
    let endpoint = match attach {
        Attach::Bind => Endpoint::parse_bind(bare)?,
        Attach::Connect => Endpoint::parse_connect(bare)?,
    };
    Ok((attach, endpoint))
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|fault| EndpointError::new(text, fault))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inproc(name) => write!(f, "inproc://{name}"),
            Self::Ipc(name) => write!(f, "ipc://{name}"),
            Self::Tcp { host, port, source } => {
                f.write_str("tcp://")?;
                if let Some(source) = source {
                    write!(f, "{source};")?;
                }
                write!(f, "{host}:{port}")
            }
        }
    }
}

impl EndpointError {
    fn new(text: &str, fault: EndpointFault) -> Self {
        Self {
            fault,
            text: text.to_owned(),
        }
    }
}

/// What to write instead of a text without a transport.
fn instead(guess: Option<&str>) -> String {
    match guess {
        Some(guess) => show(guess).to_string(),
        None => "tcp://HOST:PORT, ipc://PATH or inproc://NAME".to_owned(),
    }
}

fn parse(text: &str) -> Result<Endpoint, EndpointFault> {
    if text.contains(is_hidden) {
        return Err(EndpointFault::ControlCharacter);
    }
    let (transport, address) = text
        .split_once("://")
        .ok_or_else(|| EndpointFault::TransportMissing(guess::without_transport(text)))?;
    match transport {
        "inproc" => local::parse_inproc(address).map(Endpoint::Inproc),
        "ipc" => local::parse_ipc(address).map(Endpoint::Ipc),
        "tcp" => tcp::parse(address),
        other => Err(EndpointFault::TransportUnknown(other.to_owned())),
    }
}

#[cfg(test)]
mod tests;
