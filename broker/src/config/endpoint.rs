//! Endpoints in libzmq's syntax.
//!
//! [`Endpoint`]'s `FromStr` accepts whatever is an endpoint at all; what is only for binding (`*`
//! and port 0) is told apart by [`Endpoint::parse_bind`] and [`Endpoint::parse_connect`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Where a socket binds or connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `tcp://HOST:PORT`
    Tcp {
        /// The interface to listen on or the host to connect to.
        host: Host,
        /// The port; zero asks the system for a free one and is only for binding.
        port: u16,
    },
}

/// The host part of a TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// `*`: every IPv4 interface; only for binding.
    Any,
    /// A numeric address; IPv6 stands in brackets.
    Ip(IpAddr),
    /// A name, resolved at each attempt.
    Name(String),
}

/// What a socket does with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attach {
    /// Listen on it.
    Bind,
    /// Connect to it.
    Connect,
}

/// A text that is no endpoint, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" {fault}")]
pub struct EndpointError {
    /// What is wrong with it.
    pub fault: EndpointFault,
    /// The endpoint as it was written.
    pub text: String,
}

/// What is wrong with an endpoint; the sentence goes on from its text and says what to write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// `*` cannot be connected to.
    #[error("names no host to connect to: * is only for binding, write a name or an address")]
    AnyHost,
    /// Neither an address nor a name.
    #[error(
        "has the host \"{0}\", neither an address nor a name: write 127.0.0.1, [::1] or a name"
    )]
    HostMalformed(String),
    /// Nothing between `://` and the port.
    #[error("has no host: write tcp://*:{0} to bind every interface, or name a host")]
    HostMissing(String),
    /// libzmq looks this up among the network interfaces.
    #[error("names the network interface \"{0}\", which zmqd cannot look up: write its address")]
    InterfaceName(String),
    /// Something after the port.
    #[error("goes on after the port: end it there, tcp has no paths")]
    PathAfterPort,
    /// Neither a number nor `*`.
    #[error("has the port \"{0}\": write a number up to 65535, or * to bind any free port")]
    PortMalformed(String),
    /// Nothing after the host.
    #[error("has no port: write {0}:5559, for example")]
    PortMissing(String),
    /// Above 65535.
    #[error("has the port {0}: the highest is 65535")]
    PortTooLarge(String),
    /// Port 0 and `*` cannot be connected to.
    #[error("names no port to connect to: 0 and * are only for binding, write the peer's port")]
    PortZero,
    /// libzmq's `source;destination`.
    #[error("has a source address before the semicolon, which zmqd cannot use: leave it out")]
    SourceAddress,
    /// No `://`.
    #[error("names no transport: write tcp://{0}")]
    TransportMissing(String),
    /// Not `tcp`.
    #[error("has the transport \"{0}\", which zmqd does not speak: write tcp://HOST:PORT")]
    TransportUnknown(String),
    /// `%` in the host.
    #[error("has the zone \"%{0}\", which zmqd cannot use: write an address without a zone")]
    Zone(String),
}

impl Endpoint {
    /// Parses an endpoint to listen on; the host may be `*`, the port `*` or 0.
    ///
    /// # Errors
    /// The text is no endpoint, or names a network interface.
    pub fn parse_bind(text: &str) -> Result<Self, EndpointError> {
        let endpoint: Self = text.parse()?;
        let Self::Tcp { host, .. } = &endpoint;
        match host {
            Host::Name(name) if looks_like_interface(name) => Err(EndpointError::new(
                text,
                EndpointFault::InterfaceName(name.clone()),
            )),
            _ => Ok(endpoint),
        }
    }

    /// Parses an endpoint to connect to: a certain host and a certain port.
    ///
    /// # Errors
    /// The text is no endpoint, or one that is only for binding.
    pub fn parse_connect(text: &str) -> Result<Self, EndpointError> {
        let endpoint: Self = text.parse()?;
        match &endpoint {
            Self::Tcp {
                host: Host::Any, ..
            } => Err(EndpointError::new(text, EndpointFault::AnyHost)),
            Self::Tcp { port: 0, .. } => Err(EndpointError::new(text, EndpointFault::PortZero)),
            Self::Tcp { .. } => Ok(endpoint),
        }
    }

    /// Whether two sockets cannot listen on both at once, as far as the texts can tell.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (
            Self::Tcp { host, port },
            Self::Tcp {
                host: other_host,
                port: other_port,
            },
        ) = (self, other);
        let same_family = host.is_ipv4() && other_host.is_ipv4();
        let either_is_wild = host.is_unspecified_ipv4() || other_host.is_unspecified_ipv4();
        *port != 0 && port == other_port && (host == other_host || same_family && either_is_wild)
    }
}

impl Host {
    fn is_ipv4(&self) -> bool {
        matches!(self, Self::Any | Self::Ip(IpAddr::V4(_)))
    }

    fn is_unspecified_ipv4(&self) -> bool {
        matches!(
            self,
            Self::Any | Self::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        )
    }
}

/// Parses an endpoint with czmq's prefixes: `@` binds, `>` connects, neither does `unless_told`.
///
/// # Errors
/// The text is no endpoint for what is to be done with it.
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
        let Self::Tcp { host, port } = self;
        write!(f, "tcp://{host}:{port}")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
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

fn parse(text: &str) -> Result<Endpoint, EndpointFault> {
    let (transport, address) = text
        .split_once("://")
        .ok_or_else(|| EndpointFault::TransportMissing(text.trim_start_matches('/').to_owned()))?;
    if transport != "tcp" {
        return Err(EndpointFault::TransportUnknown(transport.to_owned()));
    }
    if address.contains(';') {
        return Err(EndpointFault::SourceAddress);
    }
    if address.contains('/') {
        return Err(EndpointFault::PathAfterPort);
    }
    // As in libzmq the last colon splits, which is what makes the brackets of IPv6 optional.
    match address.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && !port.ends_with(']') => {
            if host.is_empty() {
                return Err(EndpointFault::HostMissing(port.to_owned()));
            }
            Ok(Endpoint::Tcp {
                host: parse_host(host)?,
                port: parse_port(port)?,
            })
        }
        _ => Err(EndpointFault::PortMissing(
            text.trim_end_matches(':').to_owned(),
        )),
    }
}

fn parse_host(text: &str) -> Result<Host, EndpointFault> {
    if text == "*" {
        return Ok(Host::Any);
    }
    if let Some((_, zone)) = text.split_once('%') {
        return Err(EndpointFault::Zone(zone.trim_end_matches(']').to_owned()));
    }
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = if unbracketed.is_some() || text.contains(':') {
        unbracketed
            .unwrap_or(text)
            .parse()
            .ok()
            .map(|ip: Ipv6Addr| Host::Ip(ip.into()))
    } else if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        // The short forms of inet_aton, 127.1 for example, are refused: they hide slips.
        text.parse().ok().map(|ip: Ipv4Addr| Host::Ip(ip.into()))
    } else {
        is_host_name(text).then(|| Host::Name(text.to_owned()))
    };
    host.ok_or_else(|| EndpointFault::HostMalformed(text.to_owned()))
}

fn parse_port(text: &str) -> Result<u16, EndpointFault> {
    if text == "*" {
        return Ok(0);
    }
    // Checked here because `u16::from_str` would take a leading plus.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointFault::PortMalformed(text.to_owned()));
    }
    text.parse()
        .map_err(|_| EndpointFault::PortTooLarge(text.to_owned()))
}

fn is_host_name(text: &str) -> bool {
    text.len() <= HOST_NAME_LEN_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && !text.starts_with(['-', '.'])
}

/// Whether a name is one that Linux gives to network interfaces; a host called so would be rare,
/// and binding to it rarer, whereas libzmq's users do write `tcp://eth0:5555`.
fn looks_like_interface(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let numbered = [
        "bond", "br", "can", "docker", "eth", "ppp", "tap", "tun", "usb", "wg", "wlan",
    ];
    let predictable = ["eno", "ens", "enp", "enx", "wlp", "wlx", "wwp"];
    name == "lo"
        || stem.len() < name.len() && numbered.contains(&stem)
        || predictable.iter().any(|prefix| {
            name.strip_prefix(prefix)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
}

/// Longest name the domain name system can hold, in bytes.
const HOST_NAME_LEN_MAX: usize = 253;

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
