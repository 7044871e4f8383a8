//! The client's half of the handshake.

use super::command::{
    BODY_SIZE_MAX, CLIENT_PREFIX, COOKIE_SIZE, Fields, HELLO_PREFIX, HELLO_SIZE,
    INITIATE_BOX_SIZE_MIN, INITIATE_PREFIX, LONG_NONCE_SIZE, PADDING_SIZE, READY_PREFIX,
    SERVER_PREFIX, SIGNATURE_SIZE, VERSION, VOUCH_BOX_SIZE, VOUCH_PREFIX, WELCOME_PREFIX,
    WELCOME_SIZE, fill, nonce,
};
use super::crypto::{BoxKey, KEY_SIZE, Secret, TAG_SIZE, derive_public_key};
use super::{CurveClient, coder, traffic};
use crate::config::SessionConfig;
use crate::encode::append_command;
use crate::error::{Error, Malformed, Misbehaved, Unverified};
use crate::mechanism::Progress;
use crate::mechanism::expect::expect_or_refusal;
use crate::peer::Peer;
use crate::version::Version;
use std::fmt;
use std::sync::Arc;

/// The nonce of our HELLO.
const HELLO_NONCE: u64 = 1;
/// The nonce of our INITIATE.
const INITIATE_NONCE: u64 = 2;

/// The handshake of a client. An error is final; the state is then the one before.
pub(crate) struct ClientHandshake {
    curve: Arc<CurveClient>,
    state: State,
}

enum State {
    /// The greetings are not over.
    Start,
    /// HELLO is sent; WELCOME is awaited.
    ExpectWelcome {
        /// The key of boxes between c' and S.
        key: BoxKey,
        /// C', our key of this connection.
        public: [u8; KEY_SIZE],
        /// c'.
        secret: Secret<KEY_SIZE>,
    },
    /// INITIATE is sent; READY is awaited. This is the key of the traffic.
    ExpectReady(BoxKey),
    /// READY has come.
    Done,
}

impl ClientHandshake {
    /// Nothing is sent.
    pub(crate) fn new(curve: Arc<CurveClient>) -> Self {
        Self {
            curve,
            state: State::Start,
        }
    }

    /// Appends HELLO.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>) -> Result<Progress, Error> {
        let mut secret = Secret::new([0; KEY_SIZE]);
        self.curve.entropy.fill(&mut *secret)?;
        let public = derive_public_key(&secret);
        let key =
            BoxKey::agree(self.curve.server.as_bytes(), &secret).ok_or(Unverified::LowOrder)?;
        let counter = HELLO_NONCE.to_be_bytes();
        let mut signature = [0; TAG_SIZE + SIGNATURE_SIZE];
        key.seal(&nonce(HELLO_PREFIX, &counter), &mut signature);
        let mut hello = [0; HELLO_SIZE];
        fill(
            &mut hello,
            &[&VERSION, &[0; PADDING_SIZE], &public, &counter, &signature],
        );
        append_command(out, "HELLO", &hello);
        self.state = State::ExpectWelcome {
            key,
            public,
            secret,
        };
        Ok(Progress::Continue)
    }

    /// Handles the body of the next command; what must be sent is appended to `out`.
    pub(crate) fn handle_command(
        &mut self,
        config: &SessionConfig,
        version: Version,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let (next, progress) = match &self.state {
            State::ExpectWelcome {
                key,
                public,
                secret,
            } => {
                let welcome = Welcome::open(body, key)?;
                let key = self.send_initiate(config, &welcome, public, secret, out)?;
                (State::ExpectReady(key), Progress::Continue)
            }
            State::ExpectReady(key) => {
                let (received_nonce, metadata) = open_ready(body, key)?;
                let peer = Peer::from_metadata(config.socket_type, version, &metadata)?;
                let opener = traffic::Opener::new(key, SERVER_PREFIX, received_nonce);
                let sealer = traffic::Sealer::new(key, CLIENT_PREFIX, INITIATE_NONCE);
                let coder = coder(opener, sealer);
                (State::Done, Progress::Done(peer, Some(coder)))
            }
            State::Start | State::Done => {
                return Err(Misbehaved::UnexpectedCommand.into());
            }
        };
        self.state = next;
        Ok(progress)
    }

    /// Appends INITIATE and returns the key of the traffic.
    fn send_initiate(
        &self,
        config: &SessionConfig,
        welcome: &Welcome,
        public: &[u8; KEY_SIZE],
        secret: &[u8; KEY_SIZE],
        out: &mut Vec<u8>,
    ) -> Result<BoxKey, Error> {
        let curve = &self.curve;
        let key = BoxKey::agree(&welcome.server, secret).ok_or(Unverified::LowOrder)?;
        let vouch_key =
            BoxKey::agree(&welcome.server, curve.secret.bytes()).ok_or(Unverified::LowOrder)?;
        let mut vouch_nonce = [0; LONG_NONCE_SIZE];
        curve.entropy.fill(&mut vouch_nonce)?;
        let mut vouch = [0; VOUCH_BOX_SIZE];
        fill(
            &mut vouch,
            &[&[0; TAG_SIZE], public, curve.server.as_bytes()],
        );
        vouch_key.seal(&nonce(VOUCH_PREFIX, &vouch_nonce), &mut vouch);

        let counter = INITIATE_NONCE.to_be_bytes();
        let mut sealed = Vec::with_capacity(TAG_SIZE + INITIATE_BOX_SIZE_MIN);
        sealed.extend_from_slice(&[0; TAG_SIZE]);
        sealed.extend_from_slice(curve.public.as_bytes());
        sealed.extend_from_slice(&vouch_nonce);
        sealed.extend_from_slice(&vouch);
        config.append_metadata(&mut sealed);
        key.seal(&nonce(INITIATE_PREFIX, &counter), &mut sealed);
        let data = [&welcome.cookie, &counter[..], &sealed].concat();
        append_command(out, "INITIATE", &data);
        Ok(key)
    }
}

/// What WELCOME tells.
struct Welcome {
    cookie: [u8; COOKIE_SIZE],
    /// S', the server's key of this connection.
    server: [u8; KEY_SIZE],
}

impl Welcome {
    fn open(body: &[u8], key: &BoxKey) -> Result<Self, Error> {
        let data = expect_or_refusal(b"WELCOME", body)?;
        if data.len() != WELCOME_SIZE {
            return Err(Malformed::CommandSize.into());
        }
        let mut fields = Fields::new(data);
        let welcome_nonce: &[u8; LONG_NONCE_SIZE] = fields.take()?;
        let mut sealed: [u8; WELCOME_SIZE - LONG_NONCE_SIZE] = *fields.take()?;
        let opened = key
            .open(&nonce(WELCOME_PREFIX, welcome_nonce), &mut sealed)
            .ok_or(Unverified::Welcome)?;
        let mut fields = Fields::new(opened);
        Ok(Self {
            server: *fields.take()?,
            cookie: *fields.take()?,
        })
    }
}

/// The nonce of READY, and the metadata in it.
fn open_ready(body: &[u8], key: &BoxKey) -> Result<(u64, Vec<u8>), Error> {
    let data = expect_or_refusal(b"READY", body)?;
    if body.len() > BODY_SIZE_MAX {
        return Err(Malformed::CommandTooLarge.into());
    }
    let mut fields = Fields::new(data);
    let counter: &[u8; 8] = fields.take()?;
    let mut sealed = fields.rest().to_vec();
    if sealed.len() < TAG_SIZE {
        return Err(Malformed::CommandSize.into());
    }
    let metadata = key
        .open(&nonce(READY_PREFIX, counter), &mut sealed)
        .ok_or(Unverified::Ready)?;
    Ok((u64::from_be_bytes(*counter), metadata.to_vec()))
}

/// Shows nothing of the keys.
impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::Start => "ClientHandshake(Start)",
            State::ExpectWelcome { .. } => "ClientHandshake(ExpectWelcome)",
            State::ExpectReady(_) => "ClientHandshake(ExpectReady)",
            State::Done => "ClientHandshake(Done)",
        })
    }
}
