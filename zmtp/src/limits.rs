//! Protocol constants, and limits on what a peer may send.
//!
//! Each length that a peer announces is compared with one of these, in `u64`, before it is used.

use std::time::Duration;

/// Bytes in a ZMTP 3.x greeting (RFC 37, "The Greeting").
pub const GREETING_SIZE: usize = 64;

/// Bytes in a ZMTP 2.0 greeting, without the identity behind it (RFC 15).
pub const GREETING_V2_SIZE: usize = 12;

/// Bytes at the beginning of a greeting that 2.0 and 3.x have in common.
pub const SIGNATURE_SIZE: usize = 10;

/// Bytes of the mechanism name within the greeting.
pub const MECHANISM_SIZE: usize = 20;

/// Longest identity ZeroMQ allows.
pub const IDENTITY_SIZE_MAX: usize = 255;

/// Longest context that a PONG echoes (RFC 37, "Connection Heartbeating").
pub const PING_CONTEXT_SIZE_MAX: usize = 16;

/// Longest reason an ERROR command can carry: its length is one byte.
pub const ERROR_REASON_SIZE_MAX: usize = 255;

/// The shortest time that a peer gets to end a trial for loops: several times what a probe needs to
/// pass through a ring of brokers, however short the handshake timeout is.
pub const TRIAL_PATIENCE_MIN: Duration = Duration::from_secs(5);

/// `"\x09SUBSCRIBE"`, the longest prefix a topic can have in a command.
const SUBSCRIBE_PREFIX_SIZE: u64 = 10;

/// Limits on what one peer may make us hold. The defaults are finite and suit a small machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest handshake command; an INITIATE with a certificate and some metadata is about 1 KiB.
    pub handshake_command_size_max: u64,
    /// Most frames in one message: an endless MORE must end somewhere.
    pub message_frames_max: u32,
    /// Largest message in bytes on the wire, frame headers included; it limits single frames too.
    pub message_size_max: u64,
    /// Longest topic of a subscription, in bytes.
    pub topic_size_max: u64,
}

impl Limits {
    /// Largest command once the handshake is over; RFC 37 has none longer than SUBSCRIBE and PING.
    #[must_use]
    pub fn traffic_command_size_max(&self) -> u64 {
        self.topic_size_max
            .saturating_add(SUBSCRIBE_PREFIX_SIZE)
            .max(256)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_command_size_max: 64 << 10,
            message_frames_max: 8192,
            message_size_max: 128 << 20,
            topic_size_max: 4096,
        }
    }
}
