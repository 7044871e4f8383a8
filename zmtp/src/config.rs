//! What a session is told when it is made.

use crate::heartbeat::HeartbeatConfig;
use crate::limits::Limits;
use crate::mechanism::curve::{CurveClient, CurveServer, PublicKey};
use crate::mechanism::plain::PlainClient;
use crate::socket_type::SocketType;
use crate::wire::loop_check::{LoopCheck, PROPERTY};
use crate::wire::metadata::{IDENTITY, SOCKET_TYPE, append_property};
use std::sync::Arc;
use std::time::Duration;

/// The configuration that all sessions of one socket share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Whether to serve peers that speak ZMTP 2.0, as ZeroMQ 3.2 does. They cannot authenticate, so
    /// this has an effect only with the NULL mechanism and without `authenticate`.
    pub accept_zmtp2: bool,
    /// Whether the caller decides about each peer although the mechanism is NULL: the session then
    /// reports [`crate::Event::Authenticate`]. Other mechanisms always do on the side that checks.
    pub authenticate: bool,
    /// When to send PING and when to give a silent peer up; `None` sends no PING.
    pub heartbeat: Option<HeartbeatConfig>,
    /// How long a peer may take to finish its handshake; `None` sets no limit.
    pub handshake_timeout: Option<Duration>,
    /// The identity that we announce if our socket type announces one; at most 255 bytes.
    pub identity: Vec<u8>,
    /// Limits on what the peer sends.
    pub limits: Limits,
    /// Whether to look for loops of brokers, together with peers that look for them too.
    pub loop_check: LoopCheck,
    /// The security mechanism, with its configuration.
    pub mechanism: MechanismConfig,
    /// Our socket type.
    pub socket_type: SocketType,
}

/// The security mechanism of a socket, with what it needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MechanismConfig {
    /// CURVE, as a client: authentication of both sides by keys, and encryption.
    CurveClient(Arc<CurveClient>),
    /// CURVE, as a server: the caller decides about the key of each client.
    CurveServer(Arc<CurveServer>),
    /// NULL: no authentication and no encryption.
    #[default]
    Null,
    /// PLAIN, as a client: this user name and password.
    PlainClient(Arc<PlainClient>),
    /// PLAIN, as a server: a user name and a password in the clear, about which the caller decides.
    PlainServer,
}

impl MechanismConfig {
    /// Its name in the greeting.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CurveClient(_) | Self::CurveServer(_) => "CURVE",
            Self::Null => "NULL",
            Self::PlainClient(_) | Self::PlainServer => "PLAIN",
        }
    }

    /// The public key of our side; `None` without CURVE.
    #[must_use]
    pub fn public_key(&self) -> Option<PublicKey> {
        match self {
            Self::CurveClient(curve) => Some(curve.public_key()),
            Self::CurveServer(curve) => Some(curve.public_key()),
            Self::Null | Self::PlainClient(_) | Self::PlainServer => None,
        }
    }

    /// Whether our side is the server. The caller of a server decides about each peer, and its
    /// peers are clients, whichever side connects.
    #[must_use]
    pub fn is_server(&self) -> bool {
        match self {
            Self::CurveClient(_) | Self::Null | Self::PlainClient(_) => false,
            Self::CurveServer(_) | Self::PlainServer => true,
        }
    }
}

impl SessionConfig {
    /// An anonymous socket with the NULL mechanism, the default limits, libzmq's 30 s for the
    /// handshake, no heartbeats, and no peers of ZMTP 2.0.
    #[must_use]
    pub fn new(socket_type: SocketType) -> Self {
        Self {
            accept_zmtp2: false,
            authenticate: false,
            handshake_timeout: Some(Duration::from_secs(30)),
            heartbeat: None,
            identity: Vec::new(),
            limits: Limits::default(),
            loop_check: LoopCheck::Off,
            mechanism: MechanismConfig::Null,
            socket_type,
        }
    }

    /// Whether our side may send ERROR in the handshake: a client of a mechanism may not.
    pub(crate) fn may_send_error(&self) -> bool {
        matches!(self.mechanism, MechanismConfig::Null) || self.mechanism.is_server()
    }

    /// Whether every peer may come in.
    pub(crate) fn needs_no_authentication(&self) -> bool {
        matches!(self.mechanism, MechanismConfig::Null) && !self.authenticate
    }

    /// Appends our property list, spelled and ordered as in libzmq, which compares by case.
    pub(crate) fn append_metadata(&self, out: &mut Vec<u8>) {
        append_property(out, SOCKET_TYPE, self.socket_type.name().as_bytes());
        if self.socket_type.announces_identity() {
            append_property(out, IDENTITY, self.announced_identity());
        }
        if let Some(value) = self.loop_check.value() {
            append_property(out, PROPERTY, value);
        }
    }

    /// The identity that peers see; empty if our socket type announces none.
    pub(crate) fn announced_identity(&self) -> &[u8] {
        if self.socket_type.announces_identity() {
            &self.identity
        } else {
            &[]
        }
    }
}
