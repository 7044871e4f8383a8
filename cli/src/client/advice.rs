//! What to check when a handshake with keys or passwords fails: servers of CURVE close the
//! connection without a word.

use std::fmt;

use zmtp::curve::PublicKey;
use zmtp::{Error, MechanismConfig};

use super::ClientError;

/// The setting that is probably wrong, by how far the handshake came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// The server knows its own key, and does not let in this client.
    ClientKey(PublicKey),
    /// The server does not let in this user.
    Password,
    /// The server cannot read what was sealed for it.
    ServerKey,
    /// The server has let in the user, and closed later.
    SocketType,
}

impl Advice {
    /// What to check after an error at this step of a handshake; [`None`] if the error says it, or
    /// the mechanism has no keys and passwords.
    pub(super) fn new(
        mechanism: &MechanismConfig,
        steps: u32,
        error: &ClientError,
    ) -> Option<Self> {
        let is_refusal = match error {
            ClientError::Protocol(error) => matches!(error, Error::Refused(_)),
            _ => true,
        };
        match (mechanism, steps) {
            // The greeting was not complete, or the error has its own explanation.
            (_, 0) => None,
            _ if !is_refusal => None,
            (MechanismConfig::CurveClient(_), 1) => Some(Self::ServerKey),
            (MechanismConfig::CurveClient(curve), _) => Some(Self::ClientKey(curve.public_key())),
            (MechanismConfig::PlainClient(_), 1) => Some(Self::Password),
            (MechanismConfig::PlainClient(_), _) => Some(Self::SocketType),
            _ => None,
        }
    }

    /// Whether another socket type could have another result.
    pub(crate) fn is_about_socket_types(self) -> bool {
        matches!(self, Self::ClientKey(_) | Self::SocketType)
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientKey(key) => write!(
                f,
                "in the CURVE handshake: check that the server lets in the key {key} (see \
                 --curve-secret), and that the socket types match"
            ),
            Self::Password => f.write_str(
                "in the PLAIN handshake: check --plain-username and --plain-password-file",
            ),
            Self::ServerKey => f.write_str(
                "in the CURVE handshake: check that --curve-server is the server's public key",
            ),
            Self::SocketType => {
                f.write_str("in the PLAIN handshake: check that the socket types match")
            }
        }
    }
}
