//! Why a session ended, and which side is at fault.

use crate::limits::MECHANISM_SIZE;
use crate::show::show;
use crate::socket_type::SocketType;
use std::fmt;
use std::time::Duration;

/// Why a session ended. The error is final: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer is correct, but we cannot talk to it.
    #[error("incompatible peer: {0}")]
    Incompatible(#[from] Incompatible),
    /// Our side failed, through no fault of the peer.
    #[error("this side failed: {0}")]
    Internal(#[from] Internal),
    /// The bytes are not ZMTP.
    #[error("malformed input: {0}")]
    Malformed(#[from] Malformed),
    /// The bytes are ZMTP, but illegal at that moment.
    #[error("misbehaving peer: {0}")]
    Misbehaved(#[from] Misbehaved),
    /// The first bytes, which are given, are not a ZMTP signature. ZMTP 1.0, which ZeroMQ 2 speaks,
    /// has no signature either.
    #[error("not a ZeroMQ peer of version 3 or above: it sent {0}")]
    NotZmtp(Reason),
    /// One side refused with an ERROR command.
    #[error("refused: {0}")]
    Refused(#[from] Refused),
    /// The peer was too late.
    #[error("timed out: {0}")]
    TimedOut(#[from] Deadline),
    /// The peer failed to prove its identity, or that its bytes are unchanged.
    #[error("not verified: {0}")]
    Unverified(#[from] Unverified),
}

/// A peer that is correct, but not compatible with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// It speaks another version of CurveZMQ.
    #[error("the peer speaks CurveZMQ {major}.{minor}; this side speaks 1.0 only")]
    CurveVersion {
        /// The first number of its version.
        major: u8,
        /// The second.
        minor: u8,
    },
    /// Its greeting names another security mechanism.
    #[error("the peer wants {peer}; this side speaks {local} only")]
    Mechanism {
        /// Our mechanism.
        local: &'static str,
        /// The mechanism that its greeting names.
        peer: MechanismName,
    },
    /// It is a server of the mechanism, as we are.
    #[error("both sides are {mechanism} servers")]
    Role {
        /// The mechanism of both.
        mechanism: &'static str,
    },
    /// Its socket type cannot talk to ours.
    #[error("a {peer} socket cannot talk to our {local} socket")]
    SocketType {
        /// Our type.
        local: SocketType,
        /// The peer's type.
        peer: SocketType,
    },
    /// It announced an unknown socket type.
    #[error("unknown socket type")]
    UnknownSocketType,
    /// It speaks ZMTP 1.0, as ZeroMQ 2.x does.
    #[error("the peer speaks ZMTP 1.0, as ZeroMQ 2 does, which is not supported")]
    Version1,
    /// It speaks ZMTP 2.0, as ZeroMQ 3.2 does.
    #[error("the peer speaks ZMTP 2.0, as ZeroMQ 3.2 does, and accept_zmtp2 is not set")]
    Version2,
}

/// A fault on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Internal {
    /// There are no random bytes to make keys from.
    #[error("the system provides no random bytes")]
    Entropy,
    /// Every nonce of the connection was used.
    #[error("no nonce is left to encrypt another frame with")]
    NoncesUsedUp,
}

/// Bytes that do not parse, or that break a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A command body whose name runs past its end.
    #[error("command name runs past its body")]
    CommandName,
    /// A command whose size is not the one that it must have.
    #[error("handshake command of the wrong size")]
    CommandSize,
    /// A command larger than any legal command.
    #[error("command too large")]
    CommandTooLarge,
    /// An ERROR command whose reason runs past its end.
    #[error("reason of ERROR runs past its body")]
    ErrorReason,
    /// Reserved flag bits, or a command with MORE.
    #[error("illegal frame flags")]
    Flags,
    /// A frame larger than the limit.
    #[error("frame too large")]
    FrameTooLarge,
    /// A property list that does not parse.
    #[error("malformed metadata")]
    Metadata,
    /// A MESSAGE command that is too short.
    #[error("MESSAGE cut short")]
    MessageCommand,
    /// A message larger than the limit.
    #[error("message too large")]
    MessageTooLarge,
    /// A PING without its time-to-live.
    #[error("PING without a time-to-live")]
    Ping,
    /// A probe for loops that is too short.
    #[error("probe for loops cut short")]
    Probe,
    /// A message of more frames than the limit.
    #[error("message of too many frames")]
    TooManyFrames,
}

/// Legal bytes at the wrong moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaved {
    /// A subscription between two frames of a message.
    #[error("subscription inside a message")]
    CommandInMessage,
    /// A message frame before the handshake was over.
    #[error("message before the handshake was over")]
    MessageInHandshake,
    /// An unencrypted frame on an encrypted connection.
    #[error("unencrypted frame")]
    NotEncrypted,
    /// A topic longer than the limit.
    #[error("topic too long")]
    TopicTooLong,
    /// A command that the handshake does not expect now.
    #[error("unexpected handshake command")]
    UnexpectedCommand,
}

/// A refusal by ERROR command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The peer refused us, for the reason that begins like this.
    #[error("the peer said {0}")]
    ByPeer(Reason),
    /// We refused the peer: [`crate::Authorization::Denied`].
    #[error("the peer is not authorised")]
    ByUs {
        /// Whether an ERROR command says so.
        is_told: bool,
    },
}

/// A proof that failed: a box that does not open, or that does not contain what it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// The cookie in INITIATE is not the one sent on this connection.
    #[error("the cookie in INITIATE does not belong to this connection")]
    Cookie,
    /// The client sealed HELLO for another server key.
    #[error("HELLO does not open; check that the client has our public key as its server key")]
    Hello,
    /// INITIATE is not sealed with the keys of the connection.
    #[error("INITIATE does not open")]
    Initiate,
    /// A public key that makes every shared secret the same.
    #[error("public key of low order")]
    LowOrder,
    /// A message was changed on its way, or belongs to another connection.
    #[error("MESSAGE does not open")]
    Message,
    /// A nonce not greater than the one before: a frame was repeated.
    #[error("nonce repeated or out of order")]
    Nonce,
    /// READY is not sealed with the keys of the connection.
    #[error("READY does not open")]
    Ready,
    /// The client does not prove that it owns its key and means this server.
    #[error("the client does not prove that it owns its key")]
    Vouch,
    /// WELCOME is not sealed with the key that we expect of the server.
    #[error("WELCOME does not open; check the public key of the server")]
    Welcome,
}

/// A deadline that the peer has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Deadline {
    /// For the end of its greeting.
    #[error("no greeting within {} ms (handshake_ivl)", after.as_millis())]
    Greeting {
        /// The time that it had.
        after: Duration,
    },
    /// For the end of the handshake.
    #[error("handshake not finished within {} ms (handshake_ivl)", after.as_millis())]
    Handshake {
        /// The time that it had.
        after: Duration,
    },
    /// For a sign of life after our PING.
    #[error("no sign of life after PING")]
    Heartbeat,
    /// For a sign of life within the time-to-live that the peer announced.
    #[error("no sign of life within the peer's own time-to-live")]
    TimeToLive,
    /// For the end of a trial for loops that it asked for.
    #[error("trial for loops not finished within {} ms", after.as_millis())]
    Trial {
        /// The time that it had.
        after: Duration,
    },
}

impl Error {
    /// Every label, in alphabetical order.
    pub const LABELS: [&'static str; 36] = [
        "both-servers",
        "box-not-verified",
        "command-in-message",
        "command-too-large",
        "curve-version",
        "frame-too-large",
        "handshake-timeout",
        "heartbeat-timeout",
        "illegal-flags",
        "low-order-key",
        "malformed-command",
        "malformed-metadata",
        "malformed-ping",
        "malformed-probe",
        "mechanism-mismatch",
        "message-in-handshake",
        "message-too-large",
        "no-entropy",
        "nonce-repeated",
        "nonces-used-up",
        "not-authorised",
        "not-encrypted",
        "not-zmtp",
        "refused-by-peer",
        "socket-type-mismatch",
        "too-many-frames",
        "topic-too-long",
        "trial-timeout",
        "ttl-expired",
        "unexpected-command",
        "unknown-socket-type",
        "vouch-not-verified",
        "wrong-cookie",
        "wrong-server-key",
        "zmtp-1",
        "zmtp-2",
    ];

    /// A short constant name for metrics and for counting by reason.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Incompatible(Incompatible::CurveVersion { .. }) => "curve-version",
            Self::Incompatible(Incompatible::Mechanism { .. }) => "mechanism-mismatch",
            Self::Incompatible(Incompatible::Role { .. }) => "both-servers",
            Self::Incompatible(Incompatible::SocketType { .. }) => "socket-type-mismatch",
            Self::Incompatible(Incompatible::UnknownSocketType) => "unknown-socket-type",
            Self::Incompatible(Incompatible::Version1) => "zmtp-1",
            Self::Incompatible(Incompatible::Version2) => "zmtp-2",
            Self::Internal(Internal::Entropy) => "no-entropy",
            Self::Internal(Internal::NoncesUsedUp) => "nonces-used-up",
            Self::Malformed(
                Malformed::CommandName
                | Malformed::CommandSize
                | Malformed::ErrorReason
                | Malformed::MessageCommand,
            ) => "malformed-command",
            Self::Malformed(Malformed::CommandTooLarge) => "command-too-large",
            Self::Malformed(Malformed::Flags) => "illegal-flags",
            Self::Malformed(Malformed::FrameTooLarge) => "frame-too-large",
            Self::Malformed(Malformed::Metadata) => "malformed-metadata",
            Self::Malformed(Malformed::MessageTooLarge) => "message-too-large",
            Self::Malformed(Malformed::Ping) => "malformed-ping",
            Self::Malformed(Malformed::Probe) => "malformed-probe",
            Self::Malformed(Malformed::TooManyFrames) => "too-many-frames",
            Self::Misbehaved(Misbehaved::CommandInMessage) => "command-in-message",
            Self::Misbehaved(Misbehaved::MessageInHandshake) => "message-in-handshake",
            Self::Misbehaved(Misbehaved::NotEncrypted) => "not-encrypted",
            Self::Misbehaved(Misbehaved::TopicTooLong) => "topic-too-long",
            Self::Misbehaved(Misbehaved::UnexpectedCommand) => "unexpected-command",
            Self::NotZmtp(_) => "not-zmtp",
            Self::Refused(Refused::ByPeer(_)) => "refused-by-peer",
            Self::Refused(Refused::ByUs { .. }) => "not-authorised",
            Self::TimedOut(Deadline::Greeting { .. } | Deadline::Handshake { .. }) => {
                "handshake-timeout"
            }
            Self::TimedOut(Deadline::Heartbeat) => "heartbeat-timeout",
            Self::TimedOut(Deadline::TimeToLive) => "ttl-expired",
            Self::TimedOut(Deadline::Trial { .. }) => "trial-timeout",
            Self::Unverified(Unverified::Cookie) => "wrong-cookie",
            Self::Unverified(Unverified::Hello | Unverified::Welcome) => "wrong-server-key",
            Self::Unverified(Unverified::Initiate | Unverified::Message | Unverified::Ready) => {
                "box-not-verified"
            }
            Self::Unverified(Unverified::LowOrder) => "low-order-key",
            Self::Unverified(Unverified::Nonce) => "nonce-repeated",
            Self::Unverified(Unverified::Vouch) => "vouch-not-verified",
        }
    }

    /// The error for an input that does not begin like ZMTP; it quotes the first line, as far as it
    /// has arrived.
    pub(crate) fn not_zmtp(input: &[u8]) -> Self {
        let end = input.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let line = input.get(..end.unwrap_or(input.len())).unwrap_or_default();
        let line = if line.is_empty() { input } else { line };
        Self::NotZmtp(Reason::new(line))
    }

    /// Whether the last bytes for the peer should be sent before the connection is closed: an
    /// ERROR, or the greeting that shows it our mechanism. A libzmq peer then gives the endpoint
    /// up; without them it would reconnect every 100 ms.
    #[must_use]
    pub fn has_final_bytes(&self) -> bool {
        let is_mechanism = matches!(self, Self::Incompatible(Incompatible::Mechanism { .. }));
        is_mechanism || self.reply().is_some()
    }

    /// The reason for an ERROR command to the peer, if it gets one.
    ///
    /// A connecting libzmq peer that receives ERROR gives the endpoint up; after a mere close it
    /// reconnects every 100 ms. So only peers whose type never matches get one. Before the
    /// greetings are over a peer would not understand a command, and after the handshake RFC 37
    /// ("Error Handling") has no ERROR.
    #[must_use]
    pub fn reply(&self) -> Option<&'static str> {
        match self {
            Self::Incompatible(
                Incompatible::SocketType { .. } | Incompatible::UnknownSocketType,
            ) => Some("Invalid socket type"),
            // The status code of ZAP (RFC 27), as libzmq sends it.
            Self::Refused(Refused::ByUs { is_told: true }) => Some("400"),
            _ => None,
        }
    }
}

/// The name of a security mechanism in a greeting, padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MechanismName(pub [u8; MECHANISM_SIZE]);

/// Safe to print: unprintable bytes are escaped.
impl fmt::Display for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|byte| *byte != 0);
        let name = self.0.get(..end.map_or(0, |last| last + 1));
        match name.unwrap_or_default() {
            [] => f.write_str("a mechanism without a name"),
            name => write!(f, "{}", name.escape_ascii()),
        }
    }
}

impl fmt::Debug for MechanismName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The beginning of a text from a peer, safe to print.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    text: [u8; Self::SIZE_MAX],
    size: u8,
}

impl Reason {
    const SIZE_MAX: usize = 46;

    /// Keeps the first bytes of `text`.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let mut kept = [0; Self::SIZE_MAX];
        let mut size = 0;
        for (to, from) in kept.iter_mut().zip(text) {
            *to = *from;
            size += 1;
        }
        Self { text: kept, size }
    }

    fn bytes(&self) -> &[u8] {
        self.text.get(..usize::from(self.size)).unwrap_or_default()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", show(self.bytes()))
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_listed() {
        let source = include_str!("error.rs");
        let start = source.find("pub fn label").expect("the function is there");
        let body = source[start..]
            .split("\n    }\n")
            .next()
            .expect("it has an end");
        let mut found: Vec<&str> = body.split('"').skip(1).step_by(2).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, Error::LABELS);
    }
}
