//! The cryptography of CurveZMQ as it is used here, and the hash of passwords: the only file that
//! uses crates for it.
//!
//! ```text
//! k    = HSalsa20(X25519(secret, public), 0)         one per pair of keys, for both directions
//! sub  = HSalsa20(k, nonce[..16])
//! text = Salsa20(sub, nonce[16..]), from byte 32 on  XOR plaintext
//! tag  = Poly1305(the first 32 bytes of that stream, text)
//! box  = tag(16) || text
//! ```
//!
//! `dryoc` computes all of this, with vector instructions where the processor has them. The nonces
//! of MESSAGE begin with the same 16 bytes in one direction, so [`MessageKey`] computes `sub` once;
//! short messages then take two blocks of Salsa20 rather than three. `dryoc` has no entrance for
//! that, so those two blocks come from `salsa20`.
//!
//! A [`SteppedBox`] is sealed or opened piece by piece, so that a long message does not keep others
//! waiting. `dryoc` has no entrance for that either: its stream comes from `salsa20`, which has no
//! vector instructions.
//!
//! Boxes need no allocation. No text is decrypted before its tag is verified, except in steps,
//! where the tag comes to be known with the last piece. Keys are wiped. Key streams are not: each
//! belongs to one message, which stands in the clear beside it.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64ct::{Base64Unpadded, Encoding};
use dryoc::classic::crypto_box::{
    crypto_box_beforenm, crypto_box_detached_afternm_inplace,
    crypto_box_open_detached_afternm_inplace,
};
use dryoc::classic::crypto_core::{crypto_core_hsalsa20, crypto_scalarmult};
use dryoc::classic::crypto_onetimeauth::{
    OnetimeauthState, crypto_onetimeauth, crypto_onetimeauth_final, crypto_onetimeauth_init,
    crypto_onetimeauth_update, crypto_onetimeauth_verify,
};
use salsa20::cipher::{KeyIvInit, StreamCipher, StreamCipherCore, StreamCipherSeek, consts::U10};
use salsa20::{Salsa20, SalsaCore};
use std::cell::RefCell;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key of any kind.
pub(super) const KEY_SIZE: usize = 32;
/// Bytes of a nonce.
pub(super) const NONCE_SIZE: usize = 24;
/// Bytes that a box has in front of its text.
pub(super) const TAG_SIZE: usize = 16;

/// Bytes of a block of Salsa20.
const BLOCK_SIZE: usize = 64;
/// Longest text that two blocks cover: the first 32 bytes of the stream are the key of the tag.
const SHORT_TEXT_SIZE_MAX: usize = 2 * BLOCK_SIZE - KEY_SIZE;

/// Bytes that are wiped when they are dropped.
pub(super) type Secret<const SIZE: usize> = Zeroizing<[u8; SIZE]>;

/// Whether two secrets are equal, in a time that does not depend on their bytes.
pub(crate) fn is_equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

/// The base point of Curve25519: its first coordinate is 9.
const BASE_POINT: [u8; KEY_SIZE] = {
    let mut point = [0; KEY_SIZE];
    point[0] = 9;
    point
};

/// The public key that belongs to a secret one.
///
/// `dryoc` multiplies the base point faster, but with 130 KiB of code and tables for that alone. A
/// handshake multiplies three other points as well, so this costs it a seventh of its time.
pub(super) fn derive_public_key(secret: &[u8; KEY_SIZE]) -> [u8; KEY_SIZE] {
    let mut public = [0; KEY_SIZE];
    let result = crypto_scalarmult(&mut public, secret, &BASE_POINT);
    debug_assert!(result.is_ok(), "only points of low order lead to zero");
    public
}

/// Whether a public key is a point of low order: all secret keys agree with it on zero.
pub(super) fn is_low_order(public: &[u8; KEY_SIZE]) -> bool {
    let any_secret = [1; KEY_SIZE];
    crypto_scalarmult(&mut [0; KEY_SIZE], &any_secret, public).is_err()
}

/// Costs of the hash of a password: Argon2id, in one lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PasswordCosts {
    /// Memory in KiB.
    pub(crate) memory: u32,
    /// The number of passes over the memory.
    pub(crate) passes: u32,
}

const SALT_SIZE: usize = 16;
const PASSWORD_HASH_SIZE: usize = 32;

/// The hash of a password with a new salt, in the text form of libsodium; `None` without random
/// bytes.
pub(crate) fn hash_password(password: &[u8], costs: PasswordCosts) -> Option<String> {
    let mut salt = [0; SALT_SIZE];
    if !fill_from_system(&mut salt) {
        return None;
    }
    let hash = argon2id(password, &salt, costs)?;
    let [salt, hash] = [&salt[..], &hash[..]].map(Base64Unpadded::encode_string);
    Some(format!("{}{salt}${hash}", prefix(costs)))
}

/// Whether the text is a hash with these costs, in the only form that [`hash_password`] writes.
pub(crate) fn is_password_hash(text: &str, costs: PasswordCosts) -> bool {
    parse_password_hash(text, costs).is_some()
}

/// Whether the password has this hash, in a time that does not depend on the bytes of either.
pub(crate) fn verify_password(text: &str, costs: PasswordCosts, password: &[u8]) -> bool {
    let found = parse_password_hash(text, costs).and_then(|(salt, hash)| {
        let own = argon2id(password, &salt, costs)?;
        Some(is_equal(&own[..], &hash))
    });
    found == Some(true)
}

fn parse_password_hash(
    text: &str,
    costs: PasswordCosts,
) -> Option<([u8; SALT_SIZE], [u8; PASSWORD_HASH_SIZE])> {
    let (salt, hash) = text.strip_prefix(&prefix(costs))?.split_once('$')?;
    Some((from_base64(salt)?, from_base64(hash)?))
}

fn prefix(PasswordCosts { memory, passes }: PasswordCosts) -> String {
    format!("$argon2id$v=19$m={memory},t={passes},p=1$")
}

fn from_base64<const SIZE: usize>(text: &str) -> Option<[u8; SIZE]> {
    let mut bytes = [0; SIZE];
    let size = Base64Unpadded::decode(text, &mut bytes).ok()?.len();
    (size == SIZE).then_some(bytes)
}

/// Computes a hash. Its memory is kept for the next: if each hash had memory of its own, small
/// blocks that are allocated in between would leave it in pieces that no later hash fits into.
fn argon2id(
    password: &[u8],
    salt: &[u8],
    costs: PasswordCosts,
) -> Option<Secret<PASSWORD_HASH_SIZE>> {
    thread_local! {
        static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
    }
    let params = Params::new(costs.memory, costs.passes, 1, Some(PASSWORD_HASH_SIZE)).ok()?;
    let mut hash = Secret::default();
    MEMORY.with_borrow_mut(|memory| {
        memory.resize(params.block_count(), Block::new());
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let result =
            argon2.hash_password_into_with_memory(password, salt, &mut hash[..], &mut memory[..]);
        memory.iter_mut().for_each(Zeroize::zeroize);
        result.ok()
    })?;
    Some(hash)
}

/// Fills `bytes` from the random numbers of the system.
pub(super) fn fill_from_system(bytes: &mut [u8]) -> bool {
    getrandom::fill(bytes).is_ok()
}

/// The symmetric key of boxes: what two key pairs agree on, or any 32 random bytes.
#[derive(Clone)]
pub(super) struct BoxKey(Secret<KEY_SIZE>);

impl BoxKey {
    /// The key that `secret` and `public` agree on; `None` if `public` is of low order.
    pub(super) fn agree(public: &[u8; KEY_SIZE], secret: &[u8; KEY_SIZE]) -> Option<Self> {
        let key = crypto_box_beforenm(public, secret).ok()?;
        Some(Self(Zeroizing::new(key)))
    }

    /// A key of random bytes, for boxes that only their sender opens.
    pub(super) fn from_bytes(bytes: &[u8; KEY_SIZE]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// Seals the text behind the first 16 bytes of `sealed` in place and writes the tag there.
    ///
    /// # Panics
    /// If fewer than 16 bytes are given.
    pub(super) fn seal(&self, nonce: &[u8; NONCE_SIZE], sealed: &mut [u8]) {
        let (tag, text) = split_tag(sealed);
        crypto_box_detached_afternm_inplace(text, tag, nonce, &self.0);
    }

    /// Opens `sealed` in place and returns its text; `None`, and nothing has changed, if the tag is
    /// not that of the text.
    pub(super) fn open<'a>(
        &self,
        nonce: &[u8; NONCE_SIZE],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let (tag, text) = sealed.split_first_chunk_mut::<TAG_SIZE>()?;
        crypto_box_open_detached_afternm_inplace(text, tag, nonce, &self.0).ok()?;
        Some(text)
    }
}

/// The key of one direction of traffic.
pub(super) struct MessageKey {
    key: BoxKey,
    /// The first 16 bytes of every nonce.
    prefix: [u8; 16],
    subkey: Secret<KEY_SIZE>,
}

/// Shows nothing of the key.
impl fmt::Debug for BoxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxKey(hidden)")
    }
}

impl MessageKey {
    /// The key for boxes whose nonces begin with `prefix`.
    pub(super) fn new(key: &BoxKey, prefix: &[u8; 16]) -> Self {
        let mut subkey = Zeroizing::new([0; KEY_SIZE]);
        crypto_core_hsalsa20(&mut subkey, prefix, &key.0, None);
        Self {
            key: key.clone(),
            prefix: *prefix,
            subkey,
        }
    }

    /// As [`BoxKey::seal`], with the rest of the nonce.
    pub(super) fn seal(&self, nonce: u64, sealed: &mut [u8]) {
        if sealed.len() > TAG_SIZE + SHORT_TEXT_SIZE_MAX {
            return self.key.seal(&self.nonce(nonce), sealed);
        }
        let (tag, text) = split_tag(sealed);
        let stream = ShortStream::new(&self.subkey, nonce);
        stream.apply(text);
        crypto_onetimeauth(tag, text, &stream.tag_key);
    }

    /// As [`BoxKey::open`], with the rest of the nonce.
    pub(super) fn open<'a>(&self, nonce: u64, sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        if sealed.len() > TAG_SIZE + SHORT_TEXT_SIZE_MAX {
            return self.key.open(&self.nonce(nonce), sealed);
        }
        let (tag, text) = sealed.split_first_chunk_mut::<TAG_SIZE>()?;
        let stream = ShortStream::new(&self.subkey, nonce);
        crypto_onetimeauth_verify(tag, text, &stream.tag_key).ok()?;
        stream.apply(text);
        Some(text)
    }

    /// A box with the rest of its nonce, to be sealed or opened in steps.
    pub(super) fn begin(&self, nonce: u64) -> SteppedBox {
        let mut stream = Salsa20::new((&*self.subkey).into(), (&nonce.to_be_bytes()).into());
        let mut tag_key = Zeroizing::new([0; KEY_SIZE]);
        stream.apply_keystream(&mut tag_key[..]);
        SteppedBox {
            authenticator: crypto_onetimeauth_init(&tag_key),
            stream,
        }
    }

    fn nonce(&self, rest: u64) -> [u8; NONCE_SIZE] {
        let mut nonce = [0; NONCE_SIZE];
        let (prefix, counter) = nonce.split_at_mut(self.prefix.len());
        prefix.copy_from_slice(&self.prefix);
        counter.copy_from_slice(&rest.to_be_bytes());
        nonce
    }
}

/// Shows nothing of the key.
impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey(hidden)")
    }
}

/// A box whose text is sealed or opened piece by piece, in order. To be sealed, each piece passes
/// twice: first for the tag, which stands in front, then for the text.
pub(super) struct SteppedBox {
    authenticator: OnetimeauthState,
    stream: Salsa20,
}

impl SteppedBox {
    /// Adds the next piece of the text to the tag.
    pub(super) fn add(&mut self, piece: &[u8]) {
        let mut sealed = [0; 4096];
        for piece in piece.chunks(sealed.len()) {
            let (sealed, _) = sealed.split_at_mut(piece.len());
            sealed.copy_from_slice(piece);
            self.stream.apply_keystream(sealed);
            crypto_onetimeauth_update(&mut self.authenticator, sealed);
        }
    }

    /// The tag of all pieces, and the stream that seals them, from the beginning of the text.
    pub(super) fn finish(self) -> ([u8; TAG_SIZE], TextStream) {
        let Self {
            authenticator,
            mut stream,
        } = self;
        let mut tag = [0; TAG_SIZE];
        crypto_onetimeauth_final(authenticator, &mut tag);
        stream.seek(KEY_SIZE);
        (tag, TextStream(stream))
    }

    /// Opens the next piece of the text in place. It is worth nothing until [`Self::finish`] has
    /// given the tag of the box.
    pub(super) fn open(&mut self, piece: &mut [u8]) {
        crypto_onetimeauth_update(&mut self.authenticator, piece);
        self.stream.apply_keystream(piece);
    }
}

/// What seals the text of a [`SteppedBox`].
pub(super) struct TextStream(Salsa20);

impl TextStream {
    /// Seals the next piece of the text in place.
    pub(super) fn seal(&mut self, piece: &mut [u8]) {
        self.0.apply_keystream(piece);
    }
}

/// Shows nothing of the key.
impl fmt::Debug for TextStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TextStream(hidden)")
    }
}

/// Shows nothing of the keys.
impl fmt::Debug for SteppedBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SteppedBox(hidden)")
    }
}

/// The first two blocks of a stream of Salsa20.
struct ShortStream {
    tag_key: [u8; KEY_SIZE],
    text_key: [u8; SHORT_TEXT_SIZE_MAX],
}

impl ShortStream {
    fn new(subkey: &[u8; KEY_SIZE], nonce: u64) -> Self {
        let mut cipher = SalsaCore::<U10>::new(subkey.into(), (&nonce.to_be_bytes()).into());
        let (mut tag_key, mut text_key) = ([0; KEY_SIZE], [0; SHORT_TEXT_SIZE_MAX]);
        let mut block = Default::default();
        cipher.write_keystream_block(&mut block);
        let (first, rest) = text_key.split_at_mut(BLOCK_SIZE - KEY_SIZE);
        let (key, begin) = block.split_at(KEY_SIZE);
        tag_key.copy_from_slice(key);
        first.copy_from_slice(begin);
        cipher.write_keystream_block(&mut block);
        rest.copy_from_slice(&block);
        Self { tag_key, text_key }
    }

    fn apply(&self, text: &mut [u8]) {
        for (byte, key) in text.iter_mut().zip(&self.text_key) {
            *byte ^= key;
        }
    }
}

fn split_tag(sealed: &mut [u8]) -> (&mut [u8; TAG_SIZE], &mut [u8]) {
    let Some(split) = sealed.split_first_chunk_mut() else {
        unreachable!("a box to be sealed has room for its tag");
    };
    split
}

#[cfg(test)]
#[path = "crypto_tests.rs"]
mod tests;
