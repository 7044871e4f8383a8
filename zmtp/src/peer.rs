//! What a peer announced in its handshake, and the form in which it takes subscriptions.

use crate::encode::{append_command, append_frame};
use crate::error::{Error, Incompatible, Malformed};
use crate::limits::IDENTITY_SIZE_MAX;
use crate::socket_type::SocketType;
use crate::version::Version;
use crate::wire::loop_check::{LoopCheck, PROPERTY};
use crate::wire::metadata::{IDENTITY, Properties, SOCKET_TYPE};
use std::sync::Arc;

/// What a peer announced in its handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity; empty if it announced none.
    pub identity: Box<[u8]>,
    /// Whether it looks for loops of brokers.
    pub loop_check: LoopCheck,
    /// Its socket type; absent if it announced none, which is legal as in libzmq.
    pub socket_type: Option<SocketType>,
    /// The name that [`crate::Authorization::Granted`] gave it.
    pub user: Option<Arc<str>>,
    /// The version it speaks.
    pub version: Version,
}

impl Peer {
    /// Reads a property list. The last of several identities counts; unknown properties are
    /// ignored.
    pub(crate) fn from_metadata(
        local: SocketType,
        version: Version,
        metadata: &[u8],
    ) -> Result<Self, Error> {
        let mut peer = Self {
            identity: Box::default(),
            loop_check: LoopCheck::Off,
            socket_type: None,
            user: None,
            version,
        };
        for property in Properties::new(metadata) {
            let property = property?;
            if property.is(IDENTITY) {
                if property.value.len() > IDENTITY_SIZE_MAX {
                    return Err(Malformed::Metadata.into());
                }
                peer.identity = property.value.into();
            } else if property.is(SOCKET_TYPE) {
                let announced =
                    SocketType::from_name(property.value).ok_or(Incompatible::UnknownSocketType)?;
                local.check(announced)?;
                peer.socket_type = Some(announced);
            } else if property.is(PROPERTY) {
                peer.loop_check = LoopCheck::from_value(property.value);
            }
        }
        Ok(peer)
    }

    /// Appends a subscription or its cancellation (`add` is false), in the form that a peer of this
    /// version understands: a command since ZMTP 3.1, a message whose first byte is 1 or 0 before.
    pub fn append_subscription(version: Version, topic: &[u8], add: bool, out: &mut Vec<u8>) {
        if version.has_commands() {
            append_command(out, if add { "SUBSCRIBE" } else { "CANCEL" }, topic);
        } else {
            let mut body = Vec::with_capacity(1 + topic.len());
            body.push(u8::from(add));
            body.extend_from_slice(topic);
            append_frame(out, &body, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_take_the_form_that_the_version_knows() {
        let table = [
            (Version::V2, true, &b"\x00\x02\x01A"[..]),
            (Version::V2, false, b"\x00\x02\x00A"),
            (Version::V3_0, true, b"\x00\x02\x01A"),
            (Version::V3_1, true, b"\x04\x0b\x09SUBSCRIBEA"),
            (Version::V3_1, false, b"\x04\x08\x06CANCELA"),
        ];
        for (version, add, expected) in table {
            let mut out = Vec::new();
            Peer::append_subscription(version, b"A", add, &mut out);
            assert_eq!(out, expected, "{version}");
        }
    }

    /// libzmq 4 decides by the size of the topic alone, and then the byte in front does not fit.
    #[test]
    fn a_topic_of_255_bytes_makes_a_long_message() {
        let mut out = Vec::new();
        Peer::append_subscription(Version::V2, &[b't'; 255], true, &mut out);
        assert!(out.starts_with(b"\x02\0\0\0\0\0\0\x01\0\x01tt"));
        assert_eq!(out.len(), 9 + 256);
    }
}
