//! From configured hosts to addresses.

use crate::config::endpoint::Host;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs as _};

/// The meaning of a host to connect to.
#[derive(Debug)]
pub(super) enum Target {
    /// This address.
    Address(SocketAddr),
    /// A name to look up, which may take long.
    Name(Host),
}

/// The address to listen on. A name is looked up at once: before the loop runs, that may block.
pub(super) fn to_bind(host: &Host, port: u16, ipv6: bool) -> io::Result<SocketAddr> {
    match host {
        Host::Name(name) => match of_interface(name, port, ipv6)? {
            Some(address) => Ok(address),
            None => resolve(host, port, ipv6)?
                .into_iter()
                .next()
                .ok_or_else(|| not_found("the name has no address".to_owned())),
        },
        _ => numeric(host, port, ipv6),
    }
}

/// The target of a connection.
pub(super) fn to_connect(host: &Host, port: u16) -> io::Result<Target> {
    Ok(match host {
        Host::Name(_) => Target::Name(host.clone()),
        _ => Target::Address(numeric(host, port, false)?),
    })
}

/// The local address of a connection whose target is of this family. As in libzmq, names are those
/// of interfaces.
pub(super) fn to_connect_from(host: &Host, port: u16, ipv6: bool) -> io::Result<SocketAddr> {
    let address = match host {
        Host::Name(name) => of_interface(name, port, ipv6)?
            .ok_or_else(|| not_found(format!("unknown network interface {name}")))?,
        _ => numeric(host, port, ipv6)?,
    };
    if address.is_ipv6() == ipv6 {
        return Ok(address);
    }
    let message = format!("the source address {address} is of another family than the target");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// All addresses of a name: IPv6 only if requested. Blocks.
pub(super) fn resolve(host: &Host, port: u16, ipv6: bool) -> io::Result<Vec<SocketAddr>> {
    let name = host.to_string();
    let all = match host.loopback() {
        Some(addresses) => addresses.map(|ip| SocketAddr::new(ip, port)).to_vec(),
        None => {
            let found = (name.as_str(), port).to_socket_addrs();
            found.map_err(|error| unresolved(&name, &error))?.collect()
        }
    };
    wanted(&name, all, ipv6)
}

/// The C library's resolver reports "Try again" or "Name or service not known", without the name.
fn unresolved(name: &str, error: &io::Error) -> io::Error {
    let said = error.to_string();
    let said = said.strip_prefix("failed to lookup address information: ");
    match said {
        Some(said) => io::Error::new(error.kind(), format!("no address for {name:?} ({said})")),
        None => io::Error::new(error.kind(), format!("no address for {name:?}: {error}")),
    }
}

fn wanted(name: &str, all: Vec<SocketAddr>, ipv6: bool) -> io::Result<Vec<SocketAddr>> {
    let has_any = !all.is_empty();
    let wanted = all.into_iter();
    let wanted: Vec<SocketAddr> = wanted.filter(|address| ipv6 || address.is_ipv4()).collect();
    if wanted.is_empty() && has_any {
        let message = format!("{name} has only IPv6 addresses: set ipv6 to use them");
        return Err(not_found(message));
    }
    Ok(wanted)
}

fn numeric(host: &Host, port: u16, ipv6: bool) -> io::Result<SocketAddr> {
    match host {
        Host::Any if ipv6 => Ok((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into()),
        Host::Any => Ok((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into()),
        Host::Ip(ip) => Ok((*ip, port).into()),
        Host::Zoned(ip, zone) => Ok(SocketAddrV6::new(*ip, port, 0, scope(zone)?).into()),
        Host::Name(name) => Err(not_found(format!("{name} is not an address"))),
    }
}

/// The number of a zone, which is a network interface by its name or its number.
fn scope(zone: &str) -> io::Result<u32> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    if_nametoindex(zone).map_err(|_| not_found(format!("unknown network interface {zone}")))
}

/// The first address of a network interface: of IPv6 if requested and present. [`None`] if the
/// interface does not exist.
fn of_interface(name: &str, port: u16, ipv6: bool) -> io::Result<Option<SocketAddr>> {
    if if_nametoindex(name).is_err() {
        return Ok(None);
    }
    let addresses: Vec<SocketAddr> = getifaddrs()?
        .filter(|entry| entry.interface_name == name)
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| (v4.ip(), port).into());
            let v6 = address.as_sockaddr_in6().map(|v6| {
                let scope = v6.scope_id();
                SocketAddr::V6(SocketAddrV6::new(v6.ip(), port, 0, scope))
            });
            v4.or(v6)
        })
        .collect();
    let first = |is_v6: bool| {
        let mut of_family = addresses
            .iter()
            .filter(|address| address.is_ipv6() == is_v6);
        of_family.next().copied()
    };
    let found = if ipv6 {
        first(true).or_else(|| first(false))
    } else {
        first(false)
    };
    match found {
        Some(address) => Ok(Some(address)),
        None if addresses.is_empty() => Err(not_found(format!(
            "network interface {name} has no address"
        ))),
        None => {
            let message = format!("network interface {name} has only IPv6 addresses: set ipv6");
            Err(not_found(message))
        }
    }
}

fn not_found(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::AddrNotAvailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Endpoint;

    fn host(text: &str) -> Host {
        match format!("tcp://{text}:1").parse() {
            Ok(Endpoint::Tcp { host, .. }) => host,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn bound(text: &str, ipv6: bool) -> String {
        to_bind(&host(text), 7, ipv6).expect(text).to_string()
    }

    #[test]
    fn hosts_mean_ipv4_unless_ipv6_is_set() {
        assert_eq!(bound("*", false), "0.0.0.0:7");
        assert_eq!(bound("*", true), "[::]:7");
        assert_eq!(bound("10.0.0.1", true), "10.0.0.1:7");
        assert_eq!(bound("[::1]", false), "[::1]:7");
        assert_eq!(bound("localhost", false), "127.0.0.1:7");
        assert!(["[::1]:7", "127.0.0.1:7"].contains(&&*bound("localhost", true)));
    }

    #[test]
    fn localhost_needs_no_resolver() {
        for name in ["localhost", "LocalHost.", "db.localhost"] {
            let found = resolve(&host(name), 7, true).expect(name);
            let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(shown, ["[::1]:7", "127.0.0.1:7"], "{name}");
        }
        assert_eq!(host("localhost.example").loopback(), None);
        assert_eq!(host("[::1]").loopback(), None);
    }

    #[test]
    fn errors_about_names_without_an_address_contain_the_name() {
        let refusal = resolve(&host("no.such.invalid"), 7, false).expect_err("not registered");
        let refusal = refusal.to_string();
        assert!(
            refusal.starts_with("no address for \"no.such.invalid\""),
            "{refusal}"
        );
    }

    #[test]
    fn names_mean_their_addresses_of_the_requested_families() {
        let [v6, v4] = ["[2001:db8::1]:7", "192.0.2.1:7"].map(|text| text.parse().expect(text));
        assert_eq!(wanted("n", vec![v6, v4], false).expect("one is left"), [v4]);
        assert_eq!(wanted("n", vec![v6, v4], true).expect("both are"), [v6, v4]);
        assert_eq!(wanted("n", vec![v6], true).expect("it is"), [v6]);
        let refusal = wanted("n", vec![v6], false).expect_err("no address is left");
        assert!(refusal.to_string().contains("set ipv6"), "{refusal}");
        assert_eq!(
            wanted("n", vec![], false).expect("an empty list stays empty"),
            []
        );
    }

    #[test]
    fn interfaces_mean_their_first_address() {
        assert_eq!(bound("lo", false), "127.0.0.1:7");
        let has_ipv6 = std::fs::read_to_string("/proc/net/if_inet6")
            .is_ok_and(|all| all.lines().any(|line| line.ends_with(" lo")));
        let expected = if has_ipv6 { "[::1]:7" } else { "127.0.0.1:7" };
        assert_eq!(bound("lo", true), expected);
        let from = to_connect_from(&host("lo"), 0, false).expect("lo has IPv4");
        assert_eq!(from.to_string(), "127.0.0.1:0");
    }

    #[test]
    fn zones_are_interfaces_by_name_or_number() {
        let number = if_nametoindex("lo").expect("every Linux has it");
        assert_eq!(
            bound("[fe80::1%lo]", false),
            format!("[fe80::1%{number}]:7")
        );
        assert_eq!(bound("[fe80::1%9]", false), "[fe80::1%9]:7");
        let refusal = to_bind(&host("[fe80::1%none0]"), 7, false).expect_err("no such zone");
        assert!(
            refusal
                .to_string()
                .contains("unknown network interface none0")
        );
    }

    #[test]
    fn sources_are_of_the_family_of_their_target() {
        let from = |text: &str, ipv6| to_connect_from(&host(text), 7, ipv6);
        assert_eq!(from("*", true).expect("any").to_string(), "[::]:7");
        assert_eq!(
            from("127.0.0.2", false).expect("local").to_string(),
            "127.0.0.2:7"
        );
        for (text, ipv6, expected) in [
            ("127.0.0.2", true, "of another family"),
            ("[::1]", false, "of another family"),
            ("none0", false, "unknown network interface none0"),
        ] {
            let refusal = from(text, ipv6).expect_err(text).to_string();
            assert!(refusal.contains(expected), "{text}: {refusal}");
        }
    }
}
