//! Versions of the protocol.

use std::fmt;

/// The versions of ZMTP, as far as they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// ZMTP 2.0 (RFC 15), which ZeroMQ 3.2 speaks: no commands and no security.
    V2,
    /// ZMTP 3.0 (RFC 23): commands in the handshake only.
    V3_0,
    /// ZMTP 3.1 (RFC 37) and later.
    V3_1,
}

impl Version {
    /// Whether it knows the commands SUBSCRIBE, CANCEL, PING and PONG.
    #[must_use]
    pub fn has_commands(self) -> bool {
        self >= Self::V3_1
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "2.0",
            Self::V3_0 => "3.0",
            Self::V3_1 => "3.1",
        })
    }
}
