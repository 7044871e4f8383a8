//! Addresses of `tcp://`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Endpoint, EndpointFault, guess};

/// The host part of a TCP endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// `*`: every interface, IPv4 only unless the option `ipv6` is set; only for binding.
    Any,
    /// A numeric address; IPv6 is in brackets.
    Ip(IpAddr),
    /// To bind, a network interface or a name of this machine; to connect, a name that is looked up
    /// at each attempt.
    Name(String),
    /// An IPv6 address that is valid only on one network interface: `[fe80::1%eth0]`.
    Zoned(Ipv6Addr, String),
}

/// The local address of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// An address of this machine, a network interface, or `*` for any.
    pub host: Host,
    /// The port; zero means any.
    pub port: u16,
}

impl Host {
    /// The loopback addresses, IPv6 first, if this is `localhost` or a name below it, which needs
    /// no resolver (RFC 6761, section 6.3).
    #[must_use]
    pub fn loopback(&self) -> Option<[IpAddr; 2]> {
        let Self::Name(name) = self else {
            return None;
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_local = last.eq_ignore_ascii_case("localhost");
        is_local.then_some([Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
    }

    /// Whether it is a loopback address by its text alone. A network interface and a name other
    /// than `localhost` count as reachable from other machines: they can change their addresses.
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Ip(ip) => ip.to_canonical().is_loopback(),
            Self::Name(_) => self.loopback().is_some(),
            Self::Zoned(ip, _) => ip.is_loopback(),
        }
    }

    pub(super) fn is_ipv4(&self) -> bool {
        matches!(self, Self::Any | Self::Ip(IpAddr::V4(_)))
    }

    /// Whether it means every interface of IPv4.
    pub(super) fn is_unspecified_ipv4(&self) -> bool {
        matches!(
            self,
            Self::Any | Self::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
        )
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
            Self::Zoned(ip, zone) => write!(f, "[{ip}%{zone}]"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Parses the text after `tcp://`.
pub(super) fn parse(address: &str) -> Result<Endpoint, EndpointFault> {
    if address.contains('/') {
        return Err(EndpointFault::PathAfterPort);
    }
    // As in libzmq, the last semicolon separates.
    let (source, target) = match address.rsplit_once(';') {
        Some((source, target)) => (Some(source), target),
        None => (None, address),
    };
    let source = source
        .map(parse_pair)
        .transpose()?
        .map(|(host, port)| Box::new(Source { host, port }));
    let (host, port) = parse_pair(target)?;
    Ok(Endpoint::Tcp { host, port, source })
}

/// Parses `HOST:PORT`.
fn parse_pair(text: &str) -> Result<(Host, u16), EndpointFault> {
    // As in libzmq, the last colon separates, which makes the brackets of IPv6 optional.
    match text.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && !port.ends_with(']') => {
            let port = parse_port(port)?;
            Ok((parse_host(host)?, port))
        }
        _ => Err(EndpointFault::PortMissing(guess::without_port(text))),
    }
}

fn parse_host(text: &str) -> Result<Host, EndpointFault> {
    if text == "*" || text.is_empty() {
        return Ok(Host::Any);
    }
    let unbracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = unbracketed.unwrap_or(text);
    if let Some((address, zone)) = bare.split_once('%') {
        return match address.parse() {
            Ok(ip) if is_zone(zone) => Ok(Host::Zoned(ip, zone.to_owned())),
            _ => Err(EndpointFault::Zone(zone.to_owned())),
        };
    }
    let host = if unbracketed.is_some() || text.contains(':') {
        bare.parse().ok().map(|ip: Ipv6Addr| Host::Ip(ip.into()))
    } else if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        // The short forms of inet_aton, such as 127.1, are refused: they hide mistakes.
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
    // Checked here because `u16::from_str` would accept a leading plus.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointFault::PortMalformed(text.to_owned()));
    }
    text.parse()
        .map_err(|_| EndpointFault::PortTooLarge(text.to_owned()))
}

fn is_host_name(text: &str) -> bool {
    text.len() <= HOST_NAME_LEN_MAX && text.bytes().all(is_of_name) && !text.starts_with(['-', '.'])
}

/// Whether this may be the name or the number of a network interface.
fn is_zone(text: &str) -> bool {
    !text.is_empty() && text.len() <= ZONE_LEN_MAX && text.bytes().all(is_of_name)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

/// Longest name in the domain name system, in bytes.
const HOST_NAME_LEN_MAX: usize = 253;

/// Longest name of a network interface, in bytes.
const ZONE_LEN_MAX: usize = 15;
