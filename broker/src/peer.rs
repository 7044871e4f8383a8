//! The other end of a connection, as the system identifies it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use zmtp::show;

/// The other end of a connection; displayed in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerAddress {
    /// None yet: the link is down.
    DownLink,
    /// Another socket of the same broker.
    Inproc,
    /// A process of this machine.
    Ipc {
        /// The process that connected, or that listens if zmqd connected.
        pid: i32,
        /// Its user.
        uid: u32,
    },
    /// The program that embeds the broker.
    Program,
    /// An address of the network.
    Tcp(SocketAddr),
}

impl PeerAddress {
    /// The address in its network, if it connects over one.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            _ => None,
        }
    }
}

/// A peer as the log names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPeer {
    pub(crate) address: PeerAddress,
    pub(crate) user: Option<Arc<str>>,
}

impl fmt::Display for NamedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        match &self.user {
            Some(user) => write!(f, " (user {})", show(user.as_bytes()).up_to(USER_LEN_MAX)),
            None => Ok(()),
        }
    }
}

/// Characters of a user name in the log.
const USER_LEN_MAX: usize = 64;

/// Mapped IPv4 addresses of an IPv6 socket become plain IPv4 addresses.
impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        Self::Tcp(if ip == address.ip() {
            address
        } else {
            (ip, address.port()).into()
        })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DownLink => f.write_str("no peer"),
            Self::Inproc => f.write_str("inproc peer"),
            Self::Program => f.write_str("inproc peer (this program)"),
            Self::Ipc { pid, uid } => write!(f, "ipc peer (pid {pid}, uid {uid})"),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_by_what_is_known_of_them() {
        let tcp = |text: &str| PeerAddress::from(text.parse::<SocketAddr>().expect(text));
        for (peer, expected) in [
            (PeerAddress::Inproc, "inproc peer"),
            (PeerAddress::Program, "inproc peer (this program)"),
            (
                PeerAddress::Ipc { pid: 71, uid: 0 },
                "ipc peer (pid 71, uid 0)",
            ),
            (tcp("[::ffff:10.0.0.1]:7"), "10.0.0.1:7"),
            (tcp("[fe80::1%3]:7"), "[fe80::1%3]:7"),
        ] {
            assert_eq!(peer.to_string(), expected);
        }
    }
}
