//! Security mechanisms: the handshake between the greetings and the first message.

use crate::config::{MechanismConfig, SessionConfig};
use crate::error::Error;
use crate::peer::Peer;
use crate::version::Version;
use crate::wire::command::Command;

mod null;

/// The mechanism of one session, and the state of its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// No security: READY both ways.
    Null(null::ExpectReady),
}

impl Mechanism {
    /// The mechanism that `config` asks for, before its first command.
    pub(crate) fn new(config: &MechanismConfig) -> Self {
        match config {
            MechanismConfig::Null => Self::Null(null::ExpectReady),
        }
    }

    /// Whether it accepts every peer without authentication.
    pub(crate) fn is_null(&self) -> bool {
        match self {
            Self::Null(_) => true,
        }
    }

    /// Its name in the greeting.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Null(_) => "NULL",
        }
    }

    /// Called when the greetings are exchanged; appends the command that the mechanism sends first,
    /// if any.
    pub(crate) fn start(&self, config: &SessionConfig, out: &mut Vec<u8>) {
        match self {
            Self::Null(state) => state.start(config, out),
        }
    }

    /// Handles the next handshake command, given the version of its sender; returns the peer once
    /// the handshake is over.
    pub(crate) fn handle_command(
        &mut self,
        config: &SessionConfig,
        version: Version,
        command: Command<'_>,
    ) -> Result<Option<Peer>, Error> {
        match self {
            Self::Null(state) => state.handle_command(config, version, command).map(Some),
        }
    }
}
