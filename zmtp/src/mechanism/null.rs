//! NULL: each side sends READY as soon as the greetings are exchanged (RFC 37, "The NULL Security
//! Mechanism").

use crate::config::SessionConfig;
use crate::encode::append_command;
use crate::error::{Error, Misbehaved, Refused};
use crate::peer::Peer;
use crate::version::Version;
use crate::wire::command::Command;

/// Our READY was sent; waits for the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectReady;

impl ExpectReady {
    /// Appends our READY.
    pub(crate) fn start(&self, config: &SessionConfig, out: &mut Vec<u8>) {
        let mut metadata = Vec::new();
        config.append_metadata(&mut metadata);
        append_command(out, "READY", &metadata);
    }

    /// Handles the peer's READY.
    pub(crate) fn handle_command(
        &self,
        config: &SessionConfig,
        version: Version,
        command: Command<'_>,
    ) -> Result<Peer, Error> {
        match command {
            Command::Ready(metadata) => Peer::from_metadata(config.socket_type, version, metadata),
            Command::Error(reason) => Err(Refused::ByPeer(reason).into()),
            _ => Err(Misbehaved::UnexpectedCommand.into()),
        }
    }
}
