//! The beginning of a connection: both greetings, and the identity that ends the opening in ZMTP
//! 2.0.
//!
//! Our greeting goes out in two steps:
//!
//! ```text
//! we send                               once the peer has sent
//! FF … 7F 03                            –
//! 01 mechanism as-server filler         a version of 3 or above
//! socket type, identity as a frame      01: ZMTP 2.0 (RFC 15)
//! ```
//!
//! A libzmq peer with another mechanism that receives a whole greeting closes after it has sent
//! only its signature. After the version alone, it answers with its whole greeting, which tells the
//! mechanism that it wants. A peer of 2.0 takes all bytes after the version for frames. libzmq
//! waits for eleven bytes and sends its mechanism before it has ours, so the steps delay nothing,
//! and two sides that both greet in steps finish.

use crate::config::SessionConfig;
use crate::encode::append_frame;
use crate::error::{Error, Incompatible, MechanismName};
use crate::limits::{GREETING_SIZE, GREETING_V2_SIZE, IDENTITY_SIZE_MAX, SIGNATURE_SIZE};
use crate::peer::Peer;
use crate::socket_type::SocketType;
use crate::version::Version;
use crate::wire::greeting::{Arrived, Greeting, parse_v2};
use crate::wire::header::{Header, Legal, LegalFlags};
use crate::wire::loop_check::LoopCheck;

/// The bytes of the greeting up to the first one of the version.
const VERSION_END: usize = SIGNATURE_SIZE + 1;

/// The result of a state for its input.
#[derive(Clone, Debug)]
pub(crate) enum Outcome<T> {
    /// The first `size` bytes were handled, with this result.
    Done { size: usize, result: T },
    /// The input must have this many bytes.
    Need(usize),
}

/// The state that follows the greetings.
#[derive(Clone, Debug)]
pub(crate) enum Opened {
    /// The peer speaks 2.0.
    V2(ExpectIdentity),
    /// The peer speaks this version, and has our mechanism.
    V3(Version),
}

/// Waits for the peer's greeting.
#[derive(Clone, Debug)]
pub(crate) struct ExpectGreeting {
    /// Bytes of our greeting that were sent.
    sent_size: usize,
}

/// Waits for the identity of a peer that speaks 2.0; ours was sent.
#[derive(Clone, Debug)]
pub(crate) struct ExpectIdentity {
    socket_type: SocketType,
}

impl ExpectGreeting {
    /// Appends the beginning of our greeting, up to the version.
    pub(crate) fn start(config: &SessionConfig, out: &mut Vec<u8>) -> Self {
        let mut state = Self { sent_size: 0 };
        state.send(config, VERSION_END, out);
        state
    }

    /// Handles the peer's greeting as far as it has arrived.
    pub(crate) fn handle_input(
        &mut self,
        config: &SessionConfig,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome<Opened>, Error> {
        match Arrived::of(input)? {
            Arrived::Nothing if input.is_empty() => Ok(Outcome::Need(1)),
            Arrived::Nothing => Ok(Outcome::Need(SIGNATURE_SIZE)),
            Arrived::Signature => Ok(Outcome::Need(VERSION_END)),
            Arrived::Major(0) => Err(Incompatible::Version1.into()),
            Arrived::Major(1) => self.handle_v2(config, input, out),
            Arrived::Major(_) => self.handle_v3(config, input, out),
        }
    }

    fn handle_v2(
        &mut self,
        config: &SessionConfig,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome<Opened>, Error> {
        // Such a peer cannot authenticate: it is accepted only where no peer has to.
        if !(config.accept_zmtp2 && config.needs_no_authentication()) {
            return Err(Incompatible::Version2.into());
        }
        if self.sent_size < GREETING_V2_SIZE {
            out.push(config.socket_type.octet());
            append_frame(out, config.announced_identity(), false);
            self.sent_size = GREETING_V2_SIZE;
        }
        let Some(socket_type) = parse_v2(input)? else {
            return Ok(Outcome::Need(GREETING_V2_SIZE));
        };
        config.socket_type.check(socket_type)?;
        Ok(Outcome::Done {
            size: GREETING_V2_SIZE,
            result: Opened::V2(ExpectIdentity { socket_type }),
        })
    }

    fn handle_v3(
        &mut self,
        config: &SessionConfig,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome<Opened>, Error> {
        self.send(config, GREETING_SIZE, out);
        let Some(greeting) = Greeting::parse(input)? else {
            return Ok(Outcome::Need(GREETING_SIZE));
        };
        if greeting.mechanism != Greeting::new(config.mechanism.name()).mechanism {
            let peer = MechanismName(greeting.mechanism);
            let local = config.mechanism.name();
            return Err(Incompatible::Mechanism { local, peer }.into());
        }
        if greeting.as_server && config.mechanism.is_server() {
            let mechanism = config.mechanism.name();
            return Err(Incompatible::Role { mechanism }.into());
        }
        Ok(Outcome::Done {
            size: GREETING_SIZE,
            result: Opened::V3(greeting.version),
        })
    }

    /// Appends the unsent part of the first `size` bytes of our greeting.
    fn send(&mut self, config: &SessionConfig, size: usize, out: &mut Vec<u8>) {
        if self.sent_size < size {
            let greeting = Greeting {
                as_server: config.mechanism.is_server(),
                ..Greeting::new(config.mechanism.name())
            };
            let whole = greeting.bytes();
            out.extend_from_slice(whole.get(self.sent_size..size).unwrap_or_default());
            self.sent_size = size;
        }
    }
}

impl ExpectIdentity {
    /// An identity is a single frame of limited size.
    const LEGAL: Legal = Legal {
        command_size_max: 0,
        flags: LegalFlags::V2_ALONE,
        message_size_max: IDENTITY_SIZE_MAX as u64,
    };

    /// Handles the peer's identity, which ends the opening.
    pub(crate) fn handle_input(&self, input: &[u8]) -> Result<Outcome<Peer>, Error> {
        let Some(header) = Header::parse(input, &Self::LEGAL)? else {
            return Ok(Outcome::Need(Header::size_of(input)));
        };
        let end = header.size + header.body_size;
        let Some(identity) = input.get(header.size..end) else {
            return Ok(Outcome::Need(end));
        };
        let peer = Peer {
            identity: identity.into(),
            loop_check: LoopCheck::Off,
            socket_type: Some(self.socket_type),
            user: None,
            version: Version::V2,
        };
        Ok(Outcome::Done {
            size: end,
            result: peer,
        })
    }
}
