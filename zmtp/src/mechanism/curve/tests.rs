//! The handshake, with honest peers and with others.

use super::command::{
    HELLO_PREFIX, INITIATE_PREFIX, READY_PREFIX, VOUCH_PREFIX, WELCOME_PREFIX, nonce,
};
use super::crypto::{BoxKey, TAG_SIZE, derive_public_key};
use super::*;
use crate::config::SessionConfig;
use crate::error::{Error, Incompatible, Malformed, Misbehaved, Reason, Refused, Unverified};
use crate::mechanism::{Credentials, Progress};
use crate::socket_type::SocketType;
use crate::version::Version;
use crate::wire::metadata::append_property;
use std::cell::Cell;
use std::sync::Arc;

/// The body of a command frame.
type Body = Vec<u8>;

/// Brings both sides to a state, and the bodies that are legal in it.
type Reached<'a> = (fn(&mut Pair) -> Body, &'a [&'a Body]);

thread_local! {
    static COUNTER: Cell<u8> = const { Cell::new(0) };
}

/// Other bytes each time, and the same in each run of a test.
fn entropy(bytes: &mut [u8]) -> Result<(), EntropyError> {
    COUNTER.with(|counter| {
        for byte in bytes {
            *byte = counter.get().wrapping_mul(167).wrapping_add(13);
            counter.set(counter.get().wrapping_add(1));
        }
    });
    Ok(())
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).unwrap()
}

/// The server has the secret key 1…1, the client 2…2.
fn server_config() -> Arc<CurveServer> {
    Arc::new(CurveServer::new(secret(1)).with_entropy(Entropy::new(entropy)))
}

fn client_config() -> Arc<CurveClient> {
    let server = secret(1).public_key();
    Arc::new(CurveClient::new(secret(2), server).with_entropy(Entropy::new(entropy)))
}

fn pull() -> SessionConfig {
    SessionConfig::new(SocketType::Pull)
}

fn push() -> SessionConfig {
    SessionConfig::new(SocketType::Push)
}

/// The bodies of the command frames in `out`.
fn bodies(mut out: &[u8]) -> Vec<Body> {
    let mut bodies = Vec::new();
    while let [flags, rest @ ..] = out {
        let (size, rest) = match flags {
            4 => (usize::from(rest[0]), &rest[1..]),
            6 => (
                usize::try_from(u64::from_be_bytes(rest[..8].try_into().unwrap())).unwrap(),
                &rest[8..],
            ),
            _ => panic!("flags of a command: {flags:02x}"),
        };
        bodies.push(rest[..size].to_vec());
        out = &rest[size..];
    }
    bodies
}

fn only_body(out: &[u8]) -> Body {
    let mut bodies = bodies(out);
    assert_eq!(bodies.len(), 1);
    bodies.remove(0)
}

/// Both sides, run as far as a test wants them.
struct Pair {
    client: ClientHandshake,
    server: ServerHandshake,
    server_coder: Option<Box<Coder>>,
}

/// The server asks about the client with this key.
fn asked(key: &PublicKey) -> Result<Progress, Error> {
    Ok(Progress::Authenticate(Credentials::Curve(*key)))
}

impl Pair {
    fn new() -> Self {
        Self {
            client: ClientHandshake::new(client_config()),
            server: ServerHandshake::new(server_config()),
            server_coder: None,
        }
    }

    fn hello(&mut self) -> Body {
        let mut out = Vec::new();
        self.client.start(&mut out).unwrap();
        only_body(&out)
    }

    fn serve(&mut self, body: &[u8]) -> (Result<Progress, Error>, Vec<u8>) {
        let mut out = Vec::new();
        let progress = self
            .server
            .handle_command(&pull(), Version::V3_1, body, &mut out);
        (progress, out)
    }

    fn ask(&mut self, body: &[u8]) -> (Result<Progress, Error>, Vec<u8>) {
        let mut out = Vec::new();
        let progress = self
            .client
            .handle_command(&push(), Version::V3_0, body, &mut out);
        (progress, out)
    }

    fn welcome(&mut self) -> Body {
        let hello = self.hello();
        let (progress, out) = self.serve(&hello);
        assert_eq!(progress, Ok(Progress::Continue));
        only_body(&out)
    }

    fn initiate(&mut self) -> Body {
        let welcome = self.welcome();
        let (progress, out) = self.ask(&welcome);
        assert_eq!(progress, Ok(Progress::Continue));
        only_body(&out)
    }

    fn ready(&mut self) -> Body {
        let initiate = self.initiate();
        let (progress, out) = self.serve(&initiate);
        let key = secret(2).public_key();
        assert_eq!(progress, asked(&key));
        assert!(out.is_empty(), "nothing is said before the key is welcome");
        let mut out = Vec::new();
        let user = Some("user".into());
        let progress = self.server.authorize(&pull(), user, &mut out);
        let Ok(Progress::Done(peer, coder)) = progress else {
            panic!("{progress:?}");
        };
        self.server_coder = coder;
        assert_eq!(peer.user.as_deref(), Some("user"));
        assert_eq!(peer.socket_type, Some(SocketType::Push));
        assert_eq!(peer.version, Version::V3_1);
        only_body(&out)
    }
}

/// Both coders after an honest handshake, the client's first.
pub(super) fn coders() -> [Box<Coder>; 2] {
    let mut pair = Pair::new();
    let ready = pair.ready();
    let (progress, out) = pair.ask(&ready);
    let Ok(Progress::Done(peer, Some(coder))) = progress else {
        panic!("{progress:?}");
    };
    assert_eq!(peer.socket_type, Some(SocketType::Pull));
    assert_eq!(peer.version, Version::V3_0);
    assert!(out.is_empty());
    [coder, pair.server_coder.unwrap()]
}

#[test]
fn both_sides_agree_and_the_sizes_are_those_of_the_rfc() {
    let mut pair = Pair::new();
    assert_eq!(pair.hello().len(), 200);
    let mut pair = Pair::new();
    assert_eq!(pair.welcome().len(), 168);
    let metadata_size = b"\x0bSocket-Type\0\0\0\x04PUSH".len();
    let mut pair = Pair::new();
    assert_eq!(pair.initiate().len(), 257 + metadata_size);
    let mut pair = Pair::new();
    assert_eq!(pair.ready().len(), 30 + metadata_size);
    let [_, _] = coders();
}

#[test]
fn nothing_of_a_key_is_shown() {
    let mut pair = Pair::new();
    let ready = pair.ready();
    let shown = format!(
        "{:?} {:?} {:?} {:?}",
        pair.client,
        pair.server,
        server_config(),
        coders()
    );
    let text = secret(1).to_text();
    assert!(!shown.contains(text.as_str()) && !shown.contains("1, 1, 1"));
    assert!(shown.contains("ClientHandshake(ExpectReady)"), "{shown}");
    assert!(shown.contains("ServerHandshake(Done)"), "{shown}");
    drop(ready);
}

#[test]
fn hello_has_one_size_and_one_version() {
    for size in [0, 6, 199, 201, 400] {
        let mut pair = Pair::new();
        let mut hello = pair.hello();
        hello.resize(size, 0);
        let expected = if size == 0 {
            Malformed::CommandName
        } else {
            Malformed::CommandSize
        };
        assert_eq!(pair.serve(&hello).0, Err(expected.into()), "{size} bytes");
    }
    for (major, minor) in [(1, 1), (0, 0), (2, 0)] {
        let mut pair = Pair::new();
        let mut hello = pair.hello();
        hello[6..8].copy_from_slice(&[major, minor]);
        let expected = Incompatible::CurveVersion { major, minor };
        assert_eq!(pair.serve(&hello).0, Err(expected.into()));
    }
}

/// RFC 26 has zeros there; libzmq does not look.
#[test]
fn the_padding_of_hello_may_be_anything() {
    let mut pair = Pair::new();
    let mut hello = pair.hello();
    hello[8..80].fill(0xff);
    assert_eq!(pair.serve(&hello).0, Ok(Progress::Continue));
}

#[test]
fn every_other_byte_of_hello_counts() {
    for place in 80..200 {
        let mut pair = Pair::new();
        let mut hello = pair.hello();
        hello[place] ^= 1;
        let (progress, out) = pair.serve(&hello);
        assert_eq!(progress, Err(Unverified::Hello.into()), "byte {place}");
        assert!(out.is_empty());
        let honest = Pair::new().hello();
        assert_eq!(pair.serve(&honest).0, Ok(Progress::Continue), "no trace");
    }
}

#[test]
fn a_client_of_another_server_is_told_apart() {
    let other = Arc::new(CurveClient::new(secret(2), secret(3).public_key()));
    let mut client = ClientHandshake::new(other);
    let mut out = Vec::new();
    client.start(&mut out).unwrap();
    let error = Pair::new().serve(&only_body(&out)).0.unwrap_err();
    assert_eq!(error, Unverified::Hello.into());
    assert_eq!(error.label(), "wrong-server-key");
    assert_eq!(
        error.reply(),
        None,
        "no ERROR: the client may have more luck"
    );
}

#[test]
fn keys_of_low_order_are_refused_in_hello() {
    for point in low_order_points() {
        let mut pair = Pair::new();
        let mut hello = pair.hello();
        hello[80..112].copy_from_slice(&point);
        assert_eq!(pair.serve(&hello).0, Err(Unverified::LowOrder.into()));
    }
}

#[test]
fn a_signature_other_than_zeros_is_refused() {
    let (transient, mut hello) = ([5; 32], vec![0; 200]);
    hello[..8].copy_from_slice(b"\x05HELLO\x01\x00");
    hello[80..112].copy_from_slice(&derive_public_key(&transient));
    hello[199] = 1;
    let key = BoxKey::agree(secret(1).public_key().as_bytes(), &transient).unwrap();
    key.seal(&nonce(HELLO_PREFIX, &[0; 8]), &mut hello[120..]);
    let mut pair = Pair::new();
    assert_eq!(pair.serve(&hello).0, Err(Unverified::Hello.into()));
}

#[test]
fn a_dry_source_ends_the_handshake_on_both_sides() {
    let dry = Entropy::new(|_| Err(EntropyError));
    let curve = CurveClient::new(secret(2), secret(1).public_key()).with_entropy(dry);
    let mut client = ClientHandshake::new(Arc::new(curve));
    let mut out = Vec::new();
    assert_eq!(client.start(&mut out).unwrap_err().label(), "no-entropy");
    let mut server = ServerHandshake::new(Arc::new(CurveServer::new(secret(1)).with_entropy(dry)));
    let hello = Pair::new().hello();
    let result = server.handle_command(&pull(), Version::V3_1, &hello, &mut out);
    assert_eq!(result.unwrap_err().label(), "no-entropy");
    assert!(out.is_empty());
}

#[test]
fn commands_have_their_order_on_both_sides() {
    let unexpected = || Err(Misbehaved::UnexpectedCommand.into());
    let [hello, welcome, initiate, ready] =
        [Pair::hello, Pair::welcome, Pair::initiate, Pair::ready]
            .map(|command| command(&mut Pair::new()));
    let error = b"\x05ERROR\x03400".to_vec();
    let message = b"\x07MESSAGE".to_vec();
    let all = [&hello, &welcome, &initiate, &ready, &error, &message];
    // Each side's states, made by the last command that the other side has got from it.
    let states: [Reached<'_>; 4] = [
        (Pair::hello, &[&hello]),
        (Pair::welcome, &[&initiate]),
        (Pair::initiate, &[&initiate]),
        (Pair::ready, &[]),
    ];
    for (reach, legal) in states {
        for body in all.iter().filter(|body| !legal.contains(body)) {
            let mut pair = Pair::new();
            reach(&mut pair);
            assert_eq!(
                pair.serve(body).0,
                unexpected(),
                "{}",
                body[..6].escape_ascii()
            );
        }
    }
    let states: [Reached<'_>; 2] = [
        (Pair::hello, &[&welcome, &error]),
        (Pair::initiate, &[&ready, &error]),
    ];
    for (reach, legal) in states {
        for body in all.iter().filter(|body| !legal.contains(body)) {
            let mut pair = Pair::new();
            reach(&mut pair);
            assert_eq!(
                pair.ask(body).0,
                unexpected(),
                "{}",
                body[..6].escape_ascii()
            );
        }
    }
    assert_eq!(Pair::new().ask(&welcome).0, unexpected(), "before HELLO");
}

#[test]
fn two_servers_wait_and_two_clients_part() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    assert_eq!(
        pair.ask(&hello).0,
        Err(Misbehaved::UnexpectedCommand.into())
    );
}

#[test]
fn a_server_is_believed_when_it_refuses() {
    for reach in [Pair::hello, Pair::initiate] {
        let mut pair = Pair::new();
        reach(&mut pair);
        let expected = Refused::ByPeer(Reason::new(b"400"));
        let (progress, out) = pair.ask(b"\x05ERROR\x03400");
        assert_eq!((progress, out), (Err(expected.into()), vec![]));
        let cut = pair.ask(b"\x05ERROR\x0440").0;
        assert_eq!(cut, Err(Malformed::ErrorReason.into()));
    }
}

#[test]
fn welcome_has_one_size_and_every_byte_counts() {
    for size in [8, 167, 169] {
        let mut pair = Pair::new();
        let mut welcome = pair.welcome();
        welcome.resize(size, 0);
        assert_eq!(pair.ask(&welcome).0, Err(Malformed::CommandSize.into()));
    }
    for place in 8..168 {
        let mut pair = Pair::new();
        let mut welcome = pair.welcome();
        welcome[place] ^= 0x80;
        let (progress, out) = pair.ask(&welcome);
        assert_eq!(progress, Err(Unverified::Welcome.into()), "byte {place}");
        assert!(out.is_empty());
    }
}

#[test]
fn a_server_key_of_low_order_is_refused() {
    for point in low_order_points() {
        let mut pair = Pair::new();
        let hello = pair.hello();
        let key = BoxKey::agree(hello[80..112].try_into().unwrap(), &[1; 32]).unwrap();
        let mut welcome = vec![0; 168];
        welcome[..8].copy_from_slice(b"\x07WELCOME");
        welcome[40..72].copy_from_slice(&point);
        key.seal(&nonce(WELCOME_PREFIX, &[0; 16]), &mut welcome[24..]);
        assert_eq!(pair.ask(&welcome).0, Err(Unverified::LowOrder.into()));
    }
}

#[test]
fn initiate_of_256_bytes_is_too_short_and_of_64_kib_too_long() {
    let mut pair = Pair::new();
    let mut initiate = pair.initiate();
    initiate.truncate(256);
    assert_eq!(pair.serve(&initiate).0, Err(Malformed::CommandSize.into()));
    initiate.resize(257, 0);
    assert_eq!(pair.serve(&initiate).0, Err(Unverified::Initiate.into()));
    initiate.resize(64 << 10, 0);
    assert_eq!(pair.serve(&initiate).0, Err(Unverified::Initiate.into()));
    initiate.push(0);
    let too_large = Err(Malformed::CommandTooLarge.into());
    assert_eq!(pair.serve(&initiate).0, too_large);
}

#[test]
fn every_byte_of_initiate_counts() {
    let size = Pair::new().initiate().len();
    for place in 9..size {
        let mut pair = Pair::new();
        let mut initiate = pair.initiate();
        initiate[place] ^= 4;
        let expected = match place {
            9..105 => Unverified::Cookie,
            _ => Unverified::Initiate,
        };
        assert_eq!(pair.serve(&initiate).0, Err(expected.into()), "{place}");
    }
}

#[test]
fn every_bit_of_the_cookie_counts() {
    let mut pair = Pair::new();
    let initiate = pair.initiate();
    for bit in 9 * 8..105 * 8 {
        let mut flipped = initiate.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(pair.serve(&flipped).0, Err(Unverified::Cookie.into()));
    }
    let key = secret(2).public_key();
    assert_eq!(pair.serve(&initiate).0, asked(&key));
}

#[test]
fn the_cookie_of_another_connection_is_refused() {
    let initiate = Pair::new().initiate();
    let mut pair = Pair::new();
    let mut own = pair.initiate();
    assert_eq!(pair.serve(&initiate).0, Err(Unverified::Cookie.into()));
    own[9..105].copy_from_slice(&initiate[9..105]);
    assert_eq!(pair.serve(&own).0, Err(Unverified::Cookie.into()));
}

#[test]
fn the_nonce_of_initiate_is_greater_than_that_of_hello() {
    for counter in [0_u64, 1] {
        let mut pair = Pair::new();
        let mut initiate = pair.initiate();
        initiate[105..113].copy_from_slice(&counter.to_be_bytes());
        assert_eq!(pair.serve(&initiate).0, Err(Unverified::Nonce.into()));
    }
}

/// A client that has WELCOME and can put anything into its INITIATE.
struct Forger {
    pair: Pair,
    cookie: Vec<u8>,
    /// S'.
    server: [u8; 32],
    /// The keys of this connection.
    transient: [u8; 32],
    key: BoxKey,
}

impl Forger {
    fn new() -> Self {
        let transient = [5; 32];
        let server: PublicKey = secret(1).public_key();
        let key = BoxKey::agree(server.as_bytes(), &transient).unwrap();
        let mut hello = vec![0; 200];
        hello[..8].copy_from_slice(b"\x05HELLO\x01\x00");
        hello[80..112].copy_from_slice(&derive_public_key(&transient));
        key.seal(&nonce(HELLO_PREFIX, &[0; 8]), &mut hello[120..]);
        let mut pair = Pair::new();
        let (progress, out) = pair.serve(&hello);
        assert_eq!(progress, Ok(Progress::Continue), "nonce 0 is one");
        let mut welcome = only_body(&out);
        let welcome_nonce = nonce(WELCOME_PREFIX, &welcome[8..24]);
        let opened = key.open(&welcome_nonce, &mut welcome[24..]).unwrap();
        let server = opened[..32].try_into().unwrap();
        Self {
            pair,
            cookie: opened[32..].to_vec(),
            server,
            transient,
            key: BoxKey::agree(&server, &transient).unwrap(),
        }
    }

    /// A vouch sealed by `secret` for `to`.
    fn vouch(&self, secret: &[u8; 32], to: &[u8; 32], for_server: &PublicKey) -> Vec<u8> {
        let public = derive_public_key(&self.transient);
        let mut vouch = [&[0; 16][..], &public, for_server.as_bytes()].concat();
        let key = BoxKey::agree(to, secret).unwrap();
        key.seal(&nonce(VOUCH_PREFIX, &[7; 16]), &mut vouch);
        [&[7; 16], &vouch[..]].concat()
    }

    fn honest_vouch(&self) -> Vec<u8> {
        self.vouch(&[2; 32], &self.server, &secret(1).public_key())
    }

    fn initiate(
        &mut self,
        client: &[u8; 32],
        vouch: &[u8],
        metadata: &[u8],
    ) -> Result<Progress, Error> {
        let counter = 1_u64.to_be_bytes();
        let mut sealed = [&[0; TAG_SIZE], &client[..], vouch, metadata].concat();
        self.key
            .seal(&nonce(INITIATE_PREFIX, &counter), &mut sealed);
        let body = [b"\x08INITIATE", &self.cookie[..], &counter, &sealed].concat();
        let (progress, out) = self.pair.serve(&body);
        assert!(out.is_empty());
        progress
    }
}

#[test]
fn a_vouch_proves_the_key_and_means_this_connection_and_server() {
    let client = *secret(2).public_key().as_bytes();
    let server = secret(1).public_key();
    let refused = || Err(Unverified::Vouch.into());

    let mut forger = Forger::new();
    let vouch = forger.honest_vouch();
    let welcome = asked(&secret(2).public_key());
    assert_eq!(forger.initiate(&client, &vouch, b""), welcome);

    let mut forger = Forger::new();
    let to_long_term = forger.vouch(&[2; 32], server.as_bytes(), &server);
    assert_eq!(forger.initiate(&client, &to_long_term, b""), refused());

    let mut forger = Forger::new();
    let other_server = forger.vouch(&[2; 32], &forger.server, &secret(3).public_key());
    assert_eq!(forger.initiate(&client, &other_server, b""), refused());

    let mut forger = Forger::new();
    let vouch = forger.honest_vouch();
    let other_key = *secret(4).public_key().as_bytes();
    assert_eq!(forger.initiate(&other_key, &vouch, b""), refused());

    let mut forger = Forger::new();
    forger.transient = [6; 32];
    let other_connection = forger.honest_vouch();
    assert_eq!(forger.initiate(&client, &other_connection, b""), refused());

    for bit in 0..8 * 96 {
        let mut forger = Forger::new();
        let mut vouch = forger.honest_vouch();
        vouch[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            forger.initiate(&client, &vouch, b""),
            refused(),
            "bit {bit}"
        );
    }
    for point in low_order_points() {
        let mut forger = Forger::new();
        let vouch = forger.honest_vouch();
        let low_order = Err(Unverified::LowOrder.into());
        assert_eq!(forger.initiate(&point, &vouch, b""), low_order);
    }
}

#[test]
fn metadata_of_many_sizes() {
    let client = *secret(2).public_key().as_bytes();
    let mut filling = Vec::new();
    append_property(&mut filling, "X-filling", &[b'x'; 60_000]);
    let mut wrong_type = Vec::new();
    append_property(&mut wrong_type, "Socket-Type", b"SUB");
    let mut identity = Vec::new();
    append_property(&mut identity, "Identity", &[b'i'; 256]);
    let welcome = asked(&secret(2).public_key());
    let malformed = || Err(Malformed::Metadata.into());
    let mismatch = Err(Incompatible::SocketType {
        local: SocketType::Pull,
        peer: SocketType::Sub,
    }
    .into());
    let table: [(&[u8], Result<Progress, Error>); 6] = [
        (b"", welcome),
        (b"\x01", malformed()),
        (b"\x01x\0\0\0\x02y", malformed()),
        (&identity, malformed()),
        (&wrong_type, mismatch),
        (&filling, asked(&secret(2).public_key())),
    ];
    for (metadata, expected) in table {
        let mut forger = Forger::new();
        let vouch = forger.honest_vouch();
        assert_eq!(forger.initiate(&client, &vouch, metadata), expected);
    }
}

#[test]
fn every_byte_of_ready_counts() {
    let size = Pair::new().ready().len();
    for place in 6..size {
        let mut pair = Pair::new();
        let mut ready = pair.ready();
        ready[place] ^= 2;
        assert_eq!(pair.ask(&ready).0, Err(Unverified::Ready.into()));
    }
    for size in 6..30 {
        let mut pair = Pair::new();
        let ready = pair.ready();
        let cut = pair.ask(&ready[..size]).0;
        assert_eq!(cut, Err(Malformed::CommandSize.into()));
    }
    let mut pair = Pair::new();
    let mut ready = pair.ready();
    ready.resize((64 << 10) + 1, 0);
    assert_eq!(pair.ask(&ready).0, Err(Malformed::CommandTooLarge.into()));
}

#[test]
fn ready_with_a_type_that_does_not_fit_is_refused() {
    let mut pair = Pair::new();
    pair.ready();
    let server = SessionConfig::new(SocketType::Pub);
    let mut pair = Pair::new();
    let initiate = pair.initiate();
    pair.serve(&initiate).0.unwrap();
    let mut out = Vec::new();
    pair.server.authorize(&server, None, &mut out).unwrap();
    let error = pair.ask(&only_body(&out)).0.unwrap_err();
    assert_eq!(error.label(), "socket-type-mismatch");
}

#[test]
fn a_client_is_authorized_once_and_only_when_it_asks() {
    let mut pair = Pair::new();
    let mut out = Vec::new();
    assert!(pair.server.authorize(&pull(), None, &mut out).is_err());
    pair.initiate();
    assert!(pair.server.authorize(&pull(), None, &mut out).is_err());
    let mut pair = Pair::new();
    pair.ready();
    assert!(pair.server.authorize(&pull(), None, &mut out).is_err());
    assert!(out.is_empty());
}

/// The nonce of READY may be any: it is the first one that the client sees.
#[test]
fn traffic_begins_behind_the_nonces_of_the_handshake() {
    let mut pair = Pair::new();
    let hello = pair.hello();
    assert_eq!(hello[112..120], 1_u64.to_be_bytes());
    let mut pair = Pair::new();
    assert_eq!(pair.initiate()[105..113], 2_u64.to_be_bytes());
    let mut pair = Pair::new();
    assert_eq!(pair.ready()[6..14], 1_u64.to_be_bytes());
    let nonces = coders().map(|mut coder| {
        let mut out = vec![0; coder.sealer.sealed_size(1)];
        coder.sealer.seal(0, b"x", &mut out).unwrap();
        u64::from_be_bytes(out[10..18].try_into().unwrap())
    });
    assert_eq!(nonces, [3, 2]);
    assert_eq!(nonce(READY_PREFIX, &[1; 8])[16..], [1; 8]);
}
