//! A peer that has keys, seals what it likes, and is sometimes damaged on its way.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic here is what a fuzzer looks for"
)]

use super::command::{
    CLIENT_PREFIX, HELLO_PREFIX, INITIATE_PREFIX, READY_PREFIX, SERVER_PREFIX, VOUCH_PREFIX,
    WELCOME_PREFIX, nonce,
};
use super::crypto::{BoxKey, TAG_SIZE, derive_public_key, is_low_order};
use super::{ClientHandshake, CurveClient, CurveServer, Entropy, SecretKey, ServerHandshake};
use crate::coder::{Coder, Opened, STEP_SIZE};
use crate::config::SessionConfig;
use crate::fuzzing::LIMITS;
use crate::mechanism::{Credentials, Progress};
use crate::peer::Peer;
use crate::socket_type::SocketType;
use crate::version::Version;
use std::sync::Arc;

/// Reads `data` as the choices of a peer of our server or, if its first byte is odd, of our client:
/// what it puts into its boxes, which bytes of them are damaged, and how it goes on in traffic. Our
/// side must let pass exactly that which is sealed with the right keys, undamaged, and legal.
pub(crate) fn fuzz_curve(data: &[u8]) {
    let Some((which, choices)) = data.split_first() else {
        return;
    };
    let mut choices = Choices(choices);
    let ready = if which & 1 == 0 {
        be_client(&mut choices)
    } else {
        be_server(&mut choices)
    };
    if let Some(mut sender) = ready {
        while !choices.0.is_empty() && sender.send(&mut choices) {}
    }
}

/// The bytes of a fuzzer; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *byte
    }

    fn bytes(&mut self, size: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(size.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A number near a boundary.
    fn number(&mut self) -> u64 {
        let (base, offset) = (self.byte(), u64::from(self.byte()));
        match base % 4 {
            0 => offset,
            1 => u64::from(u16::MAX) + offset,
            2 => u64::MAX - offset,
            _ => (u64::from(base) << 40) + offset,
        }
    }

    /// Flips a bit of a quarter of all bodies; answers with the place.
    fn damage(&mut self, body: &mut [u8]) -> Option<usize> {
        let how = self.byte();
        if how >= 0x40 || body.is_empty() {
            return None;
        }
        let place = usize::from(self.byte()) * 3 % body.len();
        body[place] ^= 1 << (how & 7);
        Some(place)
    }
}

const SERVER: [u8; 32] = [1; 32];
const CLIENT: [u8; 32] = [2; 32];
const STRANGER: [u8; 32] = [3; 32];
/// The peer's key of the connection.
const TRANSIENT: [u8; 32] = [5; 32];

const ENTROPY: Entropy = Entropy::new(|bytes| {
    bytes.fill(0x5e);
    Ok(())
});

fn secret(bytes: &[u8; 32]) -> SecretKey {
    SecretKey::from_bytes(bytes).expect("a key other than zero")
}

fn agree(public: &[u8; 32], secret: &[u8; 32]) -> BoxKey {
    BoxKey::agree(public, secret).expect("a key of high order")
}

/// A box of the text that `parts` make.
fn seal(key: &BoxKey, nonce: &[u8; 24], parts: &[&[u8]]) -> Vec<u8> {
    let mut sealed = vec![0; TAG_SIZE];
    sealed.extend(parts.concat());
    key.seal(nonce, &mut sealed);
    sealed
}

/// The body of the only command in `out`.
fn sent_body(out: &[u8]) -> &[u8] {
    let header_size = if out[0] & 2 == 0 { 2 } else { 9 };
    &out[header_size..]
}

/// Talks to our server; what it needs for traffic if it comes so far.
fn be_client(choices: &mut Choices<'_>) -> Option<Sender> {
    let config = SessionConfig::new(SocketType::Pull);
    let curve = CurveServer::new(secret(&SERVER)).with_entropy(ENTROPY);
    let mut server = ServerHandshake::new(Arc::new(curve));
    let mut out = Vec::new();
    let (public, server_public) = (derive_public_key(&TRANSIENT), derive_public_key(&SERVER));
    let key = agree(&server_public, &TRANSIENT);

    let first = choices.number();
    let counter = first.to_be_bytes();
    let sealed = seal(&key, &nonce(HELLO_PREFIX, &counter), &[&[0; 64]]);
    let mut hello = [b"\x05HELLO\x01\0", &[0; 72][..], &public, &counter, &sealed].concat();
    let damaged = choices.damage(&mut hello);
    let progress = server.handle_command(&config, Version::V3_1, &hello, &mut out);
    // The highest bit of a point counts for nothing (RFC 7748), until INITIATE repeats it.
    let is_same_point = damaged == Some(111) && hello[111] & 0x80 != 0;
    let is_legal = damaged.is_none_or(|place| (8..80).contains(&place)) || is_same_point;
    assert_eq!(progress.is_ok(), is_legal, "{progress:?}");
    progress.ok()?;
    if is_same_point {
        return None;
    }

    let mut welcome = sent_body(&out).to_vec();
    let (front, sealed) = welcome.split_at_mut(24);
    let opened = key.open(&nonce(WELCOME_PREFIX, &front[8..]), sealed);
    let (transient, cookie) = opened.expect("a box for us").split_at(32);
    let transient = transient.try_into().expect("a key");

    let lie = choices.byte();
    let signer = if lie == 1 { STRANGER } else { CLIENT };
    let target = if lie == 2 { &server_public } else { transient };
    let named = if lie == 3 { &public } else { &server_public };
    let vouched = if lie == 4 { &server_public } else { &public };
    let vouch_key = agree(target, &signer);
    let vouch = seal(
        &vouch_key,
        &nonce(VOUCH_PREFIX, &[7; 16]),
        &[vouched, named],
    );
    let client = derive_public_key(&CLIENT);
    let size = usize::from(choices.byte());
    let metadata = choices.bytes(size);
    let second = choices.number();
    let key = agree(transient, &TRANSIENT);
    let counter = second.to_be_bytes();
    let parts = [&client, &[7; 16][..], &vouch, metadata];
    let sealed = seal(&key, &nonce(INITIATE_PREFIX, &counter), &parts);
    let mut initiate = [b"\x08INITIATE", cookie, &counter, &sealed].concat();
    let damaged = choices.damage(&mut initiate);
    out.clear();
    let progress = server.handle_command(&config, Version::V3_1, &initiate, &mut out);
    assert!(out.is_empty());
    let is_proved = damaged.is_none() && second > first && !(1..=4).contains(&lie);
    let peer = Peer::from_metadata(config.socket_type, Version::V3_1, metadata);
    assert_eq!(progress.is_ok(), is_proved && peer.is_ok(), "{progress:?}");
    let asked = Credentials::Curve(secret(&CLIENT).public_key());
    assert!(matches!(progress.ok()?, Progress::Authenticate(credentials) if credentials == asked));
    let progress = server.authorize(&config, None, &mut out);
    let Ok(Progress::Done(_, Some(coder))) = progress else {
        panic!("{progress:?}");
    };
    Some(Sender::new(coder, key, CLIENT_PREFIX, second))
}

/// Talks to our client.
fn be_server(choices: &mut Choices<'_>) -> Option<Sender> {
    let config = SessionConfig::new(SocketType::Push);
    let curve = CurveClient::new(secret(&CLIENT), secret(&SERVER).public_key());
    let mut client = ClientHandshake::new(Arc::new(curve.with_entropy(ENTROPY)));
    let mut out = Vec::new();
    client.start(&mut out).expect("random bytes");
    let public: [u8; 32] = sent_body(&out)[80..112].try_into().expect("a key");
    let key = agree(&public, &SERVER);

    let mut transient = derive_public_key(&TRANSIENT);
    let is_other = choices.byte() == 1;
    if is_other {
        transient = [0; 32];
        let bytes = choices.bytes(32);
        transient[..bytes.len()].copy_from_slice(bytes);
    }
    let cookie = [9; 96];
    let sealed = seal(
        &key,
        &nonce(WELCOME_PREFIX, &[8; 16]),
        &[&transient, &cookie],
    );
    let mut welcome = [b"\x07WELCOME", &[8; 16][..], &sealed].concat();
    let damaged = choices.damage(&mut welcome);
    out.clear();
    let progress = client.handle_command(&config, Version::V3_0, &welcome, &mut out);
    let is_legal = damaged.is_none() && !is_low_order(&transient);
    assert_eq!(progress.is_ok(), is_legal, "{progress:?}");
    progress.ok()?;
    assert_eq!(sent_body(&out)[9..105], cookie);
    if is_other {
        return None;
    }

    let size = usize::from(choices.byte());
    let metadata = choices.bytes(size);
    let first = choices.number();
    let counter = first.to_be_bytes();
    let key = agree(&public, &TRANSIENT);
    let sealed = seal(&key, &nonce(READY_PREFIX, &counter), &[metadata]);
    let mut ready = [b"\x05READY", &counter[..], &sealed].concat();
    let damaged = choices.damage(&mut ready);
    out.clear();
    let progress = client.handle_command(&config, Version::V3_0, &ready, &mut out);
    assert!(out.is_empty());
    let peer = Peer::from_metadata(config.socket_type, Version::V3_0, metadata);
    let is_legal = damaged.is_none() && peer.is_ok();
    assert_eq!(progress.is_ok(), is_legal, "{progress:?}");
    let Progress::Done(_, Some(coder)) = progress.ok()? else {
        panic!("the handshake is over");
    };
    Some(Sender::new(coder, key, SERVER_PREFIX, first))
}

/// What a peer has in traffic, and our side of the connection.
struct Sender {
    coder: Box<Coder>,
    key: BoxKey,
    /// The last nonce.
    nonce: u64,
    prefix: &'static [u8; 16],
}

impl Sender {
    fn new(coder: Box<Coder>, key: BoxKey, prefix: &'static [u8; 16], nonce: u64) -> Self {
        Self {
            coder,
            key,
            nonce,
            prefix,
        }
    }

    /// Sends a frame in two pieces; answers whether the connection goes on.
    fn send(&mut self, choices: &mut Choices<'_>) -> bool {
        let (how, inner_flags) = (choices.byte(), choices.byte());
        let inner_flags = if how & 1 == 0 {
            inner_flags % 3
        } else {
            inner_flags
        };
        let next = if how & 6 == 6 {
            choices.number()
        } else {
            self.nonce.wrapping_add(u64::from(how >> 3 & 3) + 1)
        };
        let data = vec![how; usize::from(choices.byte()) * 5];
        let sealed_nonce = nonce(self.prefix, &next.to_be_bytes());
        let sealed = seal(&self.key, &sealed_nonce, &[&[inner_flags], &data]);
        let mut body = [b"\x07MESSAGE", &next.to_be_bytes()[..], &sealed].concat();
        let damaged = choices.damage(&mut body);
        let mut raw = match u8::try_from(body.len()) {
            Ok(short) if how & 0x20 == 0 => vec![0, short],
            _ => [&[2], &(body.len() as u64).to_be_bytes()[..]].concat(),
        };
        raw.extend(body);

        let is_stepped = how & 0x40 == 0;
        self.coder
            .set_step_size(if is_stepped { 16 } else { STEP_SIZE });
        let opener = &mut self.coder.opener;
        let cut = usize::from(choices.byte()) % raw.len();
        let early = opener.open(&mut raw[..cut], &LIMITS);
        let is_small = data.len() as u64 <= LIMITS.message_size_max;
        let is_proved = damaged.is_none() && next > self.nonce;
        if let Ok(Opened {
            coded,
            consumed,
            need,
            plain,
        }) = early
        {
            assert!((consumed, plain) == (0, 0) && need > cut && need <= raw.len());
            assert!(coded == 0 || is_stepped);
        } else {
            let is_checked = is_stepped && cut >= 9 + 33;
            assert!(
                !is_small && cut >= 9 || !is_proved && is_checked,
                "{early:?}"
            );
            return false;
        }
        let whole_size = raw.len();
        let opened = opener.open(&mut raw, &LIMITS);
        let size_max = match inner_flags {
            2 => LIMITS.traffic_command_size_max(),
            _ => LIMITS.message_size_max,
        };
        let is_legal = inner_flags < 3 && data.len() as u64 <= size_max;
        assert_eq!(opened.is_ok(), is_legal && is_proved, "{opened:?}");
        let Ok(opened) = opened else {
            return false;
        };
        assert_eq!((opened.consumed, opened.need), (whole_size, 2));
        let flags = [0, 1, 4][usize::from(inner_flags)];
        let expected = match u8::try_from(data.len()) {
            Ok(short) => vec![flags, short],
            Err(_) => [&[flags | 2], &(data.len() as u64).to_be_bytes()[..]].concat(),
        };
        assert_eq!(raw[..opened.plain], [expected, data].concat());
        self.nonce = next;
        true
    }
}
