//! Handshake commands that must come in their order.

use crate::error::{Error, Malformed, Misbehaved, Refused};
use crate::wire::command::{Command, split_name};

/// The data of the command `name`, the only one that may come now.
pub(super) fn expect<'a>(name: &[u8], body: &'a [u8]) -> Result<&'a [u8], Error> {
    let (found, data) = split_name(body)?;
    if found != name {
        return Err(Misbehaved::UnexpectedCommand.into());
    }
    Ok(data)
}

/// The same at a client, whose server may answer with ERROR instead.
pub(super) fn expect_or_refusal<'a>(name: &[u8], body: &'a [u8]) -> Result<&'a [u8], Error> {
    let (found, data) = split_name(body)?;
    if found == name {
        return Ok(data);
    }
    match Command::parse(body) {
        Ok(Command::Error(reason)) => Err(Refused::ByPeer(reason).into()),
        Err(error @ Malformed::ErrorReason) => Err(error.into()),
        _ => Err(Misbehaved::UnexpectedCommand.into()),
    }
}
