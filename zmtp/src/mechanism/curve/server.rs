//! The server's half of the handshake.

use super::command::{
    BODY_SIZE_MAX, CLIENT_PREFIX, COOKIE_PREFIX, COOKIE_SIZE, Fields, HELLO_PREFIX, HELLO_SIZE,
    INITIATE_BOX_SIZE_MIN, INITIATE_PREFIX, LONG_NONCE_SIZE, PADDING_SIZE, READY_PREFIX,
    SERVER_PREFIX, SIGNATURE_SIZE, VERSION, VOUCH_BOX_SIZE, VOUCH_PREFIX, WELCOME_PREFIX,
    WELCOME_SIZE, fill, nonce,
};
use super::crypto::{BoxKey, KEY_SIZE, NONCE_SIZE, Secret, TAG_SIZE, derive_public_key, is_equal};
use super::{CurveServer, PublicKey, coder, traffic};
use crate::config::SessionConfig;
use crate::encode::append_command;
use crate::error::{Error, Incompatible, Malformed, Misbehaved, Unverified};
use crate::mechanism::expect::expect;
use crate::mechanism::{Credentials, Progress};
use crate::peer::Peer;
use crate::version::Version;
use std::fmt;
use std::sync::Arc;

/// The nonce of our READY, the first one that counts; WELCOME has a random one.
const READY_NONCE: u64 = 1;

/// The handshake of a server. An error is final; the state is then the one before.
pub(crate) struct ServerHandshake {
    curve: Arc<CurveServer>,
    state: State,
}

enum State {
    /// HELLO is awaited.
    ExpectHello,
    /// WELCOME is sent; INITIATE is awaited. The secret key of the connection, s', is in the cookie
    /// and nowhere else.
    ExpectInitiate {
        /// C', the client's key of this connection.
        client: [u8; KEY_SIZE],
        /// The key of the cookie.
        cookie_key: BoxKey,
        /// The nonce of HELLO.
        received_nonce: u64,
    },
    /// The owner of this connection's session decides whether the client is welcome.
    ExpectAuthorization { traffic: Traffic, peer: Peer },
    /// READY is sent.
    Done,
}

/// What traffic begins with.
struct Traffic {
    key: BoxKey,
    /// The nonce of INITIATE.
    received_nonce: u64,
}

impl ServerHandshake {
    /// HELLO is awaited.
    pub(crate) fn new(curve: Arc<CurveServer>) -> Self {
        Self {
            curve,
            state: State::ExpectHello,
        }
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
            State::ExpectHello => (self.handle_hello(body, out)?, Progress::Continue),
            State::ExpectInitiate {
                client,
                cookie_key,
                received_nonce,
            } => {
                let initiate = Initiate::parse(body, *received_nonce)?;
                let (traffic, key, metadata) = initiate.open(&self.curve, client, cookie_key)?;
                let peer = Peer::from_metadata(config.socket_type, version, &metadata)?;
                let next = State::ExpectAuthorization { traffic, peer };
                (next, Progress::Authenticate(Credentials::Curve(key)))
            }
            State::ExpectAuthorization { .. } | State::Done => {
                return Err(Misbehaved::UnexpectedCommand.into());
            }
        };
        self.state = next;
        Ok(progress)
    }

    /// Continues after [`Progress::Authenticate`]: appends READY, which ends the handshake.
    ///
    /// # Errors
    /// If no HELLO has arrived.
    pub(crate) fn authorize(
        &mut self,
        config: &SessionConfig,
        user: Option<Arc<str>>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let State::ExpectAuthorization { traffic, peer } = &self.state else {
            return Err(Misbehaved::UnexpectedCommand.into());
        };
        let mut peer = peer.clone();
        peer.user = user;
        let counter = READY_NONCE.to_be_bytes();
        let mut sealed = vec![0; TAG_SIZE];
        config.append_metadata(&mut sealed);
        traffic
            .key
            .seal(&nonce(READY_PREFIX, &counter), &mut sealed);
        append_command(out, "READY", &[&counter, &sealed[..]].concat());
        let opener = traffic::Opener::new(&traffic.key, CLIENT_PREFIX, traffic.received_nonce);
        let sealer = traffic::Sealer::new(&traffic.key, SERVER_PREFIX, READY_NONCE);
        self.state = State::Done;
        Ok(Progress::Done(peer, Some(coder(opener, sealer))))
    }

    fn handle_hello(&self, body: &[u8], out: &mut Vec<u8>) -> Result<State, Error> {
        let data = expect(b"HELLO", body)?;
        if data.len() != HELLO_SIZE {
            return Err(Malformed::CommandSize.into());
        }
        let mut fields = Fields::new(data);
        let &[major, minor] = fields.take()?;
        if [major, minor] != VERSION {
            return Err(Incompatible::CurveVersion { major, minor }.into());
        }
        // libzmq looks at the padding no more than this.
        fields.take::<PADDING_SIZE>()?;
        let client: &[u8; KEY_SIZE] = fields.take()?;
        let counter: &[u8; 8] = fields.take()?;
        let mut signature: [u8; TAG_SIZE + SIGNATURE_SIZE] = *fields.take()?;
        let key = BoxKey::agree(client, self.curve.secret.bytes()).ok_or(Unverified::LowOrder)?;
        let zeros = key
            .open(&nonce(HELLO_PREFIX, counter), &mut signature)
            .ok_or(Unverified::Hello)?;
        if *zeros != [0; SIGNATURE_SIZE] {
            return Err(Unverified::Hello.into());
        }
        let cookie_key = self.send_welcome(client, &key, out)?;
        Ok(State::ExpectInitiate {
            client: *client,
            cookie_key,
            received_nonce: u64::from_be_bytes(*counter),
        })
    }

    /// Makes the key of the connection, puts it into the cookie, and appends WELCOME; returns the
    /// key of the cookie.
    fn send_welcome(
        &self,
        client: &[u8; KEY_SIZE],
        key: &BoxKey,
        out: &mut Vec<u8>,
    ) -> Result<BoxKey, Error> {
        let mut random = Secret::new([0; 2 * KEY_SIZE + 2 * LONG_NONCE_SIZE]);
        self.curve.entropy.fill(&mut *random)?;
        let mut fields = Fields::new(&*random);
        let transient: &[u8; KEY_SIZE] = fields.take()?;
        let cookie_key = BoxKey::from_bytes(fields.take()?);
        let cookie_nonce: &[u8; LONG_NONCE_SIZE] = fields.take()?;
        let welcome_nonce: &[u8; LONG_NONCE_SIZE] = fields.take()?;

        let mut cookie = Secret::new([0; TAG_SIZE + 2 * KEY_SIZE]);
        fill(&mut *cookie, &[&[0; TAG_SIZE], client, transient]);
        cookie_key.seal(&nonce(COOKIE_PREFIX, cookie_nonce), &mut *cookie);

        let mut welcome = [0; WELCOME_SIZE];
        let (front, sealed) = welcome.split_at_mut(LONG_NONCE_SIZE);
        front.copy_from_slice(welcome_nonce);
        let public = derive_public_key(transient);
        fill(sealed, &[&[0; TAG_SIZE], &public, cookie_nonce, &*cookie]);
        key.seal(&nonce(WELCOME_PREFIX, welcome_nonce), sealed);
        append_command(out, "WELCOME", &welcome);
        Ok(cookie_key)
    }
}

/// The fields of INITIATE.
struct Initiate<'a> {
    cookie: &'a [u8; COOKIE_SIZE],
    nonce: u64,
    sealed: &'a [u8],
}

impl<'a> Initiate<'a> {
    /// Reads the fields, and checks what can be checked without a key.
    fn parse(body: &'a [u8], received_nonce: u64) -> Result<Self, Error> {
        let data = expect(b"INITIATE", body)?;
        if body.len() > BODY_SIZE_MAX {
            return Err(Malformed::CommandTooLarge.into());
        }
        let mut fields = Fields::new(data);
        let cookie = fields.take()?;
        let nonce = u64::from_be_bytes(*fields.take()?);
        let sealed = fields.rest();
        if sealed.len() < TAG_SIZE + INITIATE_BOX_SIZE_MIN {
            return Err(Malformed::CommandSize.into());
        }
        if nonce <= received_nonce {
            return Err(Unverified::Nonce.into());
        }
        Ok(Self {
            cookie,
            nonce,
            sealed,
        })
    }

    /// Opens cookie, box and vouch, one with what the one before has told; returns the keys of the
    /// traffic, the key that names the client, and its metadata.
    fn open(
        &self,
        curve: &CurveServer,
        client: &[u8; KEY_SIZE],
        cookie_key: &BoxKey,
    ) -> Result<(Traffic, PublicKey, Vec<u8>), Error> {
        let transient = open_cookie(self.cookie, client, cookie_key)?;
        let key = BoxKey::agree(client, &transient).ok_or(Unverified::LowOrder)?;
        let mut sealed = self.sealed.to_vec();
        let opened = key
            .open(
                &nonce(INITIATE_PREFIX, &self.nonce.to_be_bytes()),
                &mut sealed,
            )
            .ok_or(Unverified::Initiate)?;
        let mut fields = Fields::new(opened);
        let long_term: &[u8; KEY_SIZE] = fields.take()?;
        let vouch_nonce: &[u8; LONG_NONCE_SIZE] = fields.take()?;
        let mut vouch: [u8; VOUCH_BOX_SIZE] = *fields.take()?;
        let metadata = fields.rest().to_vec();

        let vouch_key = BoxKey::agree(long_term, &transient).ok_or(Unverified::LowOrder)?;
        let vouched = vouch_key
            .open(&nonce(VOUCH_PREFIX, vouch_nonce), &mut vouch)
            .ok_or(Unverified::Vouch)?;
        let (for_client, for_server) = vouched.split_at(KEY_SIZE);
        if !is_equal(for_client, client) || !is_equal(for_server, curve.public.as_bytes()) {
            return Err(Unverified::Vouch.into());
        }
        let traffic = Traffic {
            key,
            received_nonce: self.nonce,
        };
        Ok((traffic, PublicKey::from_agreed(*long_term), metadata))
    }
}

/// Opens the cookie that this connection has sent and returns the key s' from it.
fn open_cookie(
    cookie: &[u8; COOKIE_SIZE],
    client: &[u8; KEY_SIZE],
    cookie_key: &BoxKey,
) -> Result<Secret<KEY_SIZE>, Error> {
    let mut fields = Fields::new(cookie);
    let cookie_nonce: [u8; NONCE_SIZE] = nonce(COOKIE_PREFIX, fields.take::<LONG_NONCE_SIZE>()?);
    let mut sealed = Secret::<{ TAG_SIZE + 2 * KEY_SIZE }>::new(*fields.take()?);
    let opened = cookie_key
        .open(&cookie_nonce, &mut *sealed)
        .ok_or(Unverified::Cookie)?;
    let mut fields = Fields::new(opened);
    if !is_equal(fields.take::<KEY_SIZE>()?, client) {
        return Err(Unverified::Cookie.into());
    }
    Ok(Secret::new(*fields.take()?))
}

/// Shows nothing of the keys.
impl fmt::Debug for ServerHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.state {
            State::ExpectHello => "ServerHandshake(ExpectHello)",
            State::ExpectInitiate { .. } => "ServerHandshake(ExpectInitiate)",
            State::ExpectAuthorization { .. } => "ServerHandshake(ExpectAuthorization)",
            State::Done => "ServerHandshake(Done)",
        })
    }
}
