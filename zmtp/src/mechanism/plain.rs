//! PLAIN: a user name and a password, both in the clear (RFC 24).
//!
//! ```text
//! client                             server
//! HELLO     user, password     ──►   asks whether the user may
//!           ◄──                      WELCOME
//! INITIATE  metadata           ──►
//!           ◄──                      READY  metadata
//! ```

mod hash;

pub use hash::{PasswordHash, PasswordHashError};

use super::expect::{expect, expect_or_refusal};
use super::{Credentials, Progress};
use crate::config::SessionConfig;
use crate::encode::append_command;
use crate::error::{Error, Malformed, Misbehaved, Reason, Refused};
use crate::mechanism::curve::is_equal;
use crate::peer::Peer;
use crate::version::Version;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A password; wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

/// What a client of PLAIN says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainClient {
    password: Password,
    user: Box<[u8]>,
}

/// A user name or a password of more than 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PLAIN has no room for a user name or password of more than 255 bytes")]
pub struct PlainError;

/// The handshake of a client.
#[derive(Debug)]
pub(crate) struct ClientHandshake {
    plain: Arc<PlainClient>,
    state: ClientState,
}

#[derive(Debug)]
enum ClientState {
    /// HELLO is sent.
    ExpectWelcome,
    /// INITIATE is sent.
    ExpectReady,
}

/// The handshake of a server.
#[derive(Debug, Default)]
pub(crate) enum ServerHandshake {
    /// Waits for HELLO.
    #[default]
    ExpectHello,
    /// Waits for [`ServerHandshake::authorize`].
    ExpectAuthorization,
    /// WELCOME is sent to the client that goes by this name.
    ExpectInitiate(Option<Arc<str>>),
    /// READY is sent.
    Done,
}

impl Password {
    /// A copy of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Takes a time that depends on the sizes, but not on the bytes.
impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        is_equal(&self.0, &other.0)
    }
}

impl Eq for Password {}

/// Shows nothing of the password.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl PlainClient {
    /// A client with this name and password.
    ///
    /// # Errors
    /// If one of them has more than 255 bytes.
    pub fn new(user: &[u8], password: Password) -> Result<Self, PlainError> {
        if user.len().max(password.0.len()) > usize::from(u8::MAX) {
            return Err(PlainError);
        }
        Ok(Self {
            password,
            user: user.into(),
        })
    }
}

impl ClientHandshake {
    /// Nothing is sent.
    pub(crate) fn new(plain: Arc<PlainClient>) -> Self {
        Self {
            plain,
            state: ClientState::ExpectWelcome,
        }
    }

    /// Appends HELLO.
    pub(crate) fn start(&self, out: &mut Vec<u8>) -> Progress {
        let mut data = Zeroizing::new(Vec::with_capacity(2 * (1 + usize::from(u8::MAX))));
        for field in [&*self.plain.user, self.plain.password.as_bytes()] {
            data.push(u8::try_from(field.len()).unwrap_or(u8::MAX));
            data.extend_from_slice(field);
        }
        append_command(out, "HELLO", &data);
        Progress::Continue
    }

    /// Handles the body of the next command.
    pub(crate) fn handle_command(
        &mut self,
        config: &SessionConfig,
        version: Version,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        if let Some(reason) = refusal_of_libzmq(body) {
            return Err(Refused::ByPeer(reason).into());
        }
        match self.state {
            ClientState::ExpectWelcome => {
                if !expect_or_refusal(b"WELCOME", body)?.is_empty() {
                    return Err(Malformed::CommandSize.into());
                }
                append_metadata_command("INITIATE", config, out);
                self.state = ClientState::ExpectReady;
                Ok(Progress::Continue)
            }
            ClientState::ExpectReady => {
                let metadata = expect_or_refusal(b"READY", body)?;
                let peer = Peer::from_metadata(config.socket_type, version, metadata)?;
                Ok(Progress::Done(peer, None))
            }
        }
    }
}

impl ServerHandshake {
    /// Handles the body of the next command.
    pub(crate) fn handle_command(
        &mut self,
        config: &SessionConfig,
        version: Version,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        match self {
            Self::ExpectHello => {
                let credentials = parse_hello(expect(b"HELLO", body)?)?;
                *self = Self::ExpectAuthorization;
                Ok(Progress::Authenticate(credentials))
            }
            Self::ExpectInitiate(user) => {
                let metadata = expect(b"INITIATE", body)?;
                let mut peer = Peer::from_metadata(config.socket_type, version, metadata)?;
                peer.user = user.take();
                append_metadata_command("READY", config, out);
                *self = Self::Done;
                Ok(Progress::Done(peer, None))
            }
            Self::ExpectAuthorization | Self::Done => Err(Misbehaved::UnexpectedCommand.into()),
        }
    }

    /// Appends WELCOME for the client whose credentials were told.
    ///
    /// # Errors
    /// If none were.
    pub(crate) fn authorize(
        &mut self,
        user: Option<Arc<str>>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let Self::ExpectAuthorization = self else {
            return Err(Misbehaved::UnexpectedCommand.into());
        };
        append_command(out, "WELCOME", b"");
        *self = Self::ExpectInitiate(user);
        Ok(Progress::Continue)
    }
}

/// The reason in the ERROR of a libzmq server of PLAIN. Its source has `"\x05ERROR"`, where C takes
/// `\x05E` for one character, so that libzmq 4 sends `^RROR` and the reason.
fn refusal_of_libzmq(body: &[u8]) -> Option<Reason> {
    let (size, text) = body.strip_prefix(b"^RROR")?.split_first()?;
    (usize::from(*size) == text.len()).then(|| Reason::new(text))
}

/// Reads two fields, each behind its size; nothing may follow them.
fn parse_hello(data: &[u8]) -> Result<Credentials, Malformed> {
    let (user, rest) = split_field(data)?;
    let (password, rest) = split_field(rest)?;
    if !rest.is_empty() {
        return Err(Malformed::CommandSize);
    }
    Ok(Credentials::Plain {
        password: Password::new(password),
        user: user.into(),
    })
}

fn split_field(data: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (&size, rest) = data.split_first().ok_or(Malformed::CommandSize)?;
    rest.split_at_checked(usize::from(size))
        .ok_or(Malformed::CommandSize)
}

fn append_metadata_command(name: &str, config: &SessionConfig, out: &mut Vec<u8>) {
    let mut metadata = Vec::new();
    config.append_metadata(&mut metadata);
    append_command(out, name, &metadata);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket_type::SocketType;

    const READY: &[u8] = b"\x05READY\x0bSocket-Type\0\0\0\x04PULL";
    const INITIATE: &[u8] = b"\x08INITIATE\x0bSocket-Type\0\0\0\x04PUSH";

    fn client() -> ClientHandshake {
        let plain = PlainClient::new(b"user", Password::new(b"secret")).unwrap();
        ClientHandshake::new(Arc::new(plain))
    }

    fn credentials(user: &[u8], password: &[u8]) -> Credentials {
        Credentials::Plain {
            password: Password::new(password),
            user: user.into(),
        }
    }

    fn tell(
        client: &mut ClientHandshake,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let config = SessionConfig::new(SocketType::Push);
        client.handle_command(&config, Version::V3_1, body, out)
    }

    fn serve(
        server: &mut ServerHandshake,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, Error> {
        let config = SessionConfig::new(SocketType::Pull);
        server.handle_command(&config, Version::V3_0, body, out)
    }

    #[test]
    fn a_client_says_what_libzmq_says() {
        let (mut client, mut out) = (client(), Vec::new());
        assert_eq!(client.start(&mut out), Progress::Continue);
        assert_eq!(out, b"\x04\x12\x05HELLO\x04user\x06secret");
        out.clear();
        let progress = tell(&mut client, b"\x07WELCOME", &mut out);
        assert_eq!(progress, Ok(Progress::Continue));
        assert_eq!(out[2..], *INITIATE);
        out.clear();
        let Ok(Progress::Done(peer, None)) = tell(&mut client, READY, &mut out) else {
            panic!("the end of the handshake");
        };
        assert_eq!(peer.socket_type, Some(SocketType::Pull));
        assert!(out.is_empty());
    }

    #[test]
    fn a_server_asks_before_it_welcomes() {
        let (mut server, mut out) = (ServerHandshake::default(), Vec::new());
        let progress = serve(&mut server, b"\x05HELLO\x04user\x06secret", &mut out);
        let asked = Progress::Authenticate(credentials(b"user", b"secret"));
        assert_eq!((progress, out.len()), (Ok(asked), 0));
        let progress = server.authorize(Some("user".into()), &mut out);
        assert_eq!(progress, Ok(Progress::Continue));
        assert_eq!(out, b"\x04\x08\x07WELCOME");
        out.clear();
        let Ok(Progress::Done(peer, None)) = serve(&mut server, INITIATE, &mut out) else {
            panic!("the end of the handshake");
        };
        assert_eq!(peer.user.as_deref(), Some("user"));
        assert_eq!(peer.socket_type, Some(SocketType::Push));
        assert_eq!(out[2..], *READY);
    }

    #[test]
    fn hello_has_two_fields_and_nothing_else() {
        let long = [b'x'; 255];
        let longest = [&b"\x05HELLO\xff"[..], &long, b"\xff", &long].concat();
        let wrong = || Err(Malformed::CommandSize.into());
        let asked =
            |user: &[u8], password: &[u8]| Ok(Progress::Authenticate(credentials(user, password)));
        let table: [(&[u8], Result<Progress, Error>); 8] = [
            (b"\x05HELLO\x00\x00", asked(b"", b"")),
            (b"\x05HELLO\x01\xff\x02\0p", asked(b"\xff", b"\0p")),
            (&longest, asked(&long, &long)),
            (b"\x05HELLO", wrong()),
            (b"\x05HELLO\x01", wrong()),
            (b"\x05HELLO\x01u", wrong()),
            (b"\x05HELLO\x01u\x02p", wrong()),
            (b"\x05HELLO\x01u\x01pp", wrong()),
        ];
        for (body, expected) in table {
            let progress = serve(&mut ServerHandshake::default(), body, &mut Vec::new());
            assert_eq!(progress, expected, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn commands_have_their_order() {
        let unexpected = || Err(Misbehaved::UnexpectedCommand.into());
        let hello = b"\x05HELLO\x00\x00";
        let mut out = Vec::new();
        let mut server = ServerHandshake::default();
        assert_eq!(serve(&mut server, INITIATE, &mut out), unexpected());
        assert_eq!(serve(&mut server, b"\x05ERROR\x00", &mut out), unexpected());
        assert_eq!(server.authorize(None, &mut out), unexpected());
        serve(&mut server, hello, &mut out).unwrap();
        assert_eq!(serve(&mut server, hello, &mut out), unexpected());
        assert_eq!(serve(&mut server, INITIATE, &mut out), unexpected());
        server.authorize(None, &mut out).unwrap();
        assert_eq!(server.authorize(None, &mut out), unexpected());
        assert_eq!(serve(&mut server, hello, &mut out), unexpected());
        serve(&mut server, INITIATE, &mut out).unwrap();
        assert_eq!(serve(&mut server, INITIATE, &mut out), unexpected());

        let mut client = client();
        assert_eq!(tell(&mut client, READY, &mut out), unexpected());
        assert_eq!(tell(&mut client, hello, &mut out), unexpected());
        let more = tell(&mut client, b"\x07WELCOME.", &mut out);
        assert_eq!(more, Err(Malformed::CommandSize.into()));
        tell(&mut client, b"\x07WELCOME", &mut out).unwrap();
        assert_eq!(tell(&mut client, b"\x07WELCOME", &mut out), unexpected());
    }

    #[test]
    fn a_server_may_refuse_at_any_time() {
        for welcomes in [false, true] {
            let (mut client, mut out) = (client(), Vec::new());
            if welcomes {
                tell(&mut client, b"\x07WELCOME", &mut out).unwrap();
            }
            for body in [&b"\x05ERROR\x03400"[..], b"^RROR\x03400"] {
                let refused = Refused::ByPeer(Reason::new(b"400"));
                let progress = tell(&mut client, body, &mut out);
                assert_eq!(progress, Err(refused.into()));
            }
            let cut = tell(&mut client, b"^RROR\x04400", &mut out);
            assert_eq!(cut, Err(Malformed::CommandName.into()));
        }
    }

    #[test]
    fn passwords_are_not_shown_and_names_are_not_cut() {
        let password = Password::new(&[b'x'; 255]);
        assert_ne!(password, Password::new(&[b'x'; 254]));
        assert_ne!(Password::new(b"secret"), Password::new(b"Secret"));
        let client = PlainClient::new(&[b'u'; 255], password).unwrap();
        let shown = format!("{client:?} {:?}", credentials(b"u", b"secret"));
        assert!(shown.contains("Password(hidden)"));
        assert!(!shown.contains("secret") && !shown.contains("120, 120"));
        let long = PlainClient::new(&[b'u'; 256], Password::new(b""));
        assert_eq!(long, Err(PlainError));
        let long = PlainClient::new(b"", Password::new(&[0; 256]));
        assert_eq!(long, Err(PlainError));
    }
}
