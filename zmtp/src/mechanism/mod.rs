//! Security mechanisms: the handshake between the greetings and the first message.

use crate::coder::Coder;
use crate::config::{MechanismConfig, SessionConfig};
use crate::error::{Error, Misbehaved};
use crate::peer::Peer;
use crate::version::Version;
use curve::PublicKey;
use plain::Password;
use std::sync::Arc;

pub(crate) mod curve;
mod expect;
mod null;
pub(crate) mod plain;

/// What a peer proves, or says, about itself before it is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// The public key of a client of CURVE, which has proved that it owns the secret one.
    Curve(PublicKey),
    /// Nothing: the mechanism is NULL. Only its address is known.
    Null,
    /// A user name and a password. Both came in the clear.
    Plain {
        /// The password.
        password: Password,
        /// The user name: any bytes, at most 255.
        user: Box<[u8]>,
    },
}

/// The answer to [`crate::Event::Authenticate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// The peer may come in.
    Granted {
        /// The name by which the peer is known, if it has one: [`Peer::user`].
        user: Option<Arc<str>>,
    },
    /// The peer may not come in.
    Denied {
        /// Whether it is told so by an ERROR command. A libzmq peer that gets one does not connect
        /// again; one whose connection is just closed does.
        is_told: bool,
    },
}

/// How far a handshake has come.
#[derive(Debug)]
pub(crate) enum Progress {
    /// The caller has to decide about the peer: [`Mechanism::authorize`] continues.
    Authenticate(Credentials),
    /// The next command of the peer continues.
    Continue,
    /// The handshake is over. Its traffic passes through the coder, if there is one.
    Done(Peer, Option<Box<Coder>>),
}

/// A coder is equal to none, not even itself.
#[cfg(test)]
impl PartialEq for Progress {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Authenticate(left), Self::Authenticate(right)) => left == right,
            (Self::Continue, Self::Continue) => true,
            (Self::Done(left, None), Self::Done(right, None)) => left == right,
            _ => false,
        }
    }
}

/// The mechanism of one session, and the state of its handshake.
#[derive(Debug)]
pub(crate) enum Mechanism {
    /// The client of CURVE.
    CurveClient(curve::ClientHandshake),
    /// The server of CURVE.
    CurveServer(curve::ServerHandshake),
    /// No security: READY both ways.
    Null(null::Null),
    /// The client of PLAIN.
    PlainClient(plain::ClientHandshake),
    /// The server of PLAIN.
    PlainServer(plain::ServerHandshake),
}

impl Mechanism {
    /// The mechanism that `config` asks for, before its first command.
    pub(crate) fn new(config: &MechanismConfig) -> Self {
        match config {
            MechanismConfig::CurveClient(curve) => {
                Self::CurveClient(curve::ClientHandshake::new(curve.clone()))
            }
            MechanismConfig::CurveServer(curve) => {
                Self::CurveServer(curve::ServerHandshake::new(curve.clone()))
            }
            MechanismConfig::Null => Self::Null(null::Null::default()),
            MechanismConfig::PlainClient(plain) => {
                Self::PlainClient(plain::ClientHandshake::new(plain.clone()))
            }
            MechanismConfig::PlainServer => Self::PlainServer(plain::ServerHandshake::default()),
        }
    }

    /// Called when the greetings are exchanged; appends the command that the mechanism sends first,
    /// if any.
    pub(crate) fn start(
        &mut self,
        config: &SessionConfig,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        match self {
            Self::CurveClient(client) => client.start(out),
            Self::CurveServer(_) => Ok(Progress::Continue),
            Self::Null(null) => Ok(null.start(config, out)),
            Self::PlainClient(client) => Ok(client.start(out)),
            Self::PlainServer(_) => Ok(Progress::Continue),
        }
    }

    /// Handles the body of the next handshake command, given the version of its sender.
    pub(crate) fn handle_command(
        &mut self,
        config: &SessionConfig,
        version: Version,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        match self {
            Self::CurveClient(client) => client.handle_command(config, version, body, out),
            Self::CurveServer(server) => server.handle_command(config, version, body, out),
            Self::Null(null) => null.handle_command(config, version, body),
            Self::PlainClient(client) => client.handle_command(config, version, body, out),
            Self::PlainServer(server) => server.handle_command(config, version, body, out),
        }
    }

    /// Continues after [`Progress::Authenticate`]: the peer may come in, under this name.
    pub(crate) fn authorize(
        &mut self,
        config: &SessionConfig,
        user: Option<Arc<str>>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        match self {
            Self::CurveServer(server) => server.authorize(config, user, out),
            Self::Null(null) => Ok(null.authorize(config, user, out)),
            Self::PlainServer(server) => server.authorize(user, out),
            Self::CurveClient(_) | Self::PlainClient(_) => {
                Err(Misbehaved::UnexpectedCommand.into())
            }
        }
    }
}
