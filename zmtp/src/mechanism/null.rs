//! NULL: each side sends READY as soon as the greetings are exchanged (RFC 37, "The NULL Security
//! Mechanism"), or as soon as its caller has let the peer in.

use super::{Credentials, Progress};
use crate::config::SessionConfig;
use crate::encode::append_command;
use crate::error::{Error, Misbehaved, Refused};
use crate::peer::Peer;
use crate::version::Version;
use crate::wire::command::Command;
use std::sync::Arc;

/// Waits for the peer's READY.
#[derive(Debug, Default)]
pub(crate) struct Null {
    /// The name under which the caller has let the peer in.
    user: Option<Arc<str>>,
}

impl Null {
    /// Appends our READY, unless the caller has to decide first.
    pub(crate) fn start(&self, config: &SessionConfig, out: &mut Vec<u8>) -> Progress {
        if config.authenticate {
            return Progress::Authenticate(Credentials::Null);
        }
        append_ready(config, out);
        Progress::Continue
    }

    /// Appends our READY: the peer may come in.
    pub(crate) fn authorize(
        &mut self,
        config: &SessionConfig,
        user: Option<Arc<str>>,
        out: &mut Vec<u8>,
    ) -> Progress {
        self.user = user;
        append_ready(config, out);
        Progress::Continue
    }

    /// Handles the peer's READY.
    pub(crate) fn handle_command(
        &mut self,
        config: &SessionConfig,
        version: Version,
        body: &[u8],
    ) -> Result<Progress, Error> {
        match Command::parse(body)? {
            Command::Ready(metadata) => {
                let mut peer = Peer::from_metadata(config.socket_type, version, metadata)?;
                peer.user = self.user.take();
                Ok(Progress::Done(peer, None))
            }
            Command::Error(reason) => Err(Refused::ByPeer(reason).into()),
            _ => Err(Misbehaved::UnexpectedCommand.into()),
        }
    }
}

fn append_ready(config: &SessionConfig, out: &mut Vec<u8>) {
    let mut metadata = Vec::new();
    config.append_metadata(&mut metadata);
    append_command(out, "READY", &metadata);
}
