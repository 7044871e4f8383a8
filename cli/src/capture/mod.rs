//! Captured messages: from capture sockets and from recordings, their formats, and filters.

mod filter;
mod format;
pub(crate) mod json;
mod record;
mod recordings;
pub(crate) mod show;
pub(crate) mod time;

use std::sync::Arc;

use broker::PeerAddress;
use broker::record::{Direction, Message, Origin};
use zmtp::{Frames, SocketType};

pub(crate) use filter::{Filter, FilterArgs};
pub(crate) use format::FormatArgs;
pub(crate) use record::RecordArgs;
pub(crate) use recordings::Recordings;

/// A message that outlives the buffer it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedMessage {
    connection: u64,
    direction: Option<Direction>,
    frames: Vec<u8>,
    is_routed: bool,
    peer: Option<PeerAddress>,
    socket_type: Option<SocketType>,
    source: Arc<str>,
    time_ns: u64,
    user: Option<Arc<str>>,
}

impl OwnedMessage {
    /// A copy of `message`, whose source is `source`, and whose user may be that of the last one.
    pub(crate) fn new(
        message: &Message<'_>,
        source: &Arc<str>,
        last_user: Option<&Arc<str>>,
    ) -> Self {
        let origin = &message.origin;
        let user = origin.user.map(|user| match last_user {
            Some(last) if **last == *user => Arc::clone(last),
            _ => user.into(),
        });
        Self {
            connection: origin.connection,
            direction: origin.direction,
            frames: message.frames.to_vec(),
            is_routed: origin.is_routed,
            peer: origin.peer,
            socket_type: origin.socket_type,
            source: Arc::clone(source),
            time_ns: message.time_ns,
            user,
        }
    }

    pub(crate) fn user(&self) -> Option<&Arc<str>> {
        self.user.as_ref()
    }

    pub(crate) fn message(&self) -> Message<'_> {
        Message {
            frames: &self.frames,
            origin: Origin {
                connection: self.connection,
                direction: self.direction,
                is_routed: self.is_routed,
                peer: self.peer,
                socket_type: self.socket_type,
                source: &self.source,
                user: self.user.as_deref(),
            },
            time_ns: self.time_ns,
        }
    }
}

/// The identity in front of a message, if it has one, and the frames after it.
pub(crate) fn split<'a>(message: &Message<'a>) -> (Option<&'a [u8]>, Frames<'a>) {
    let mut frames = Frames::new(message.frames);
    if !message.origin.is_routed {
        return (None, frames);
    }
    let identity = frames.next().map(|frame| frame.body);
    (identity, frames)
}

/// Bytes of all frames, the identity included, without their headers.
pub(crate) fn size_of(message: &Message<'_>) -> u64 {
    let frames = Frames::new(message.frames);
    frames.map(|frame| frame.body.len() as u64).sum()
}
