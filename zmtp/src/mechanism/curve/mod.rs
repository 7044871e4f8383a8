//! CURVE: authentication by keys, and encryption of all that follows (CurveZMQ, RFC 26).
//!
//! ```text
//! client                                                 server
//! HELLO     C', Box[zeros](c' → S)               ──►     knows s
//!           ◄──   WELCOME   Box[S', cookie](s → C')
//! INITIATE  cookie, Box[C, vouch, metadata](c' → S')  ──►  asks whether C may
//!           ◄──   READY     Box[metadata](s' → C')
//! MESSAGE   Box[flags, data](c' → S')            ◄─►     MESSAGE   Box[flags, data](s' → C')
//! ```
//!
//! `C`, `S` are the keys that name the two sides, `C'`, `S'` the keys of this one connection. The
//! vouch is `Box[C', S](c → S')`: the owner of `C` says that `C'` is for a connection to `S`. Which
//! side is the server depends on the keys alone, not on which side connects.
//!
//! Each side counts the nonces of all boxes that it sends, from the first command of the handshake
//! to the last message, and refuses a nonce that is not greater than the one before.

mod client;
mod command;
mod crypto;
pub(crate) mod fuzzing;
mod keys;
mod server;
pub(crate) mod traffic;
mod z85;

pub(crate) use client::ClientHandshake;
pub(crate) use crypto::{
    PasswordCosts, hash_password, is_equal, is_password_hash, verify_password,
};
pub(crate) use server::ServerHandshake;

pub use keys::{Entropy, EntropyError, KeyError, PublicKey, SecretKey, SecretText};
pub use z85::Z85Error;

use crate::coder::Coder;

/// What a CURVE server needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurveServer {
    entropy: Entropy,
    public: PublicKey,
    secret: SecretKey,
}

/// What a CURVE client needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurveClient {
    entropy: Entropy,
    public: PublicKey,
    secret: SecretKey,
    server: PublicKey,
}

impl CurveServer {
    /// A server with this key.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        Self {
            entropy: Entropy::SYSTEM,
            public: secret.public_key(),
            secret,
        }
    }

    /// The same with another source of random bytes, for tests.
    #[must_use]
    pub fn with_entropy(self, entropy: Entropy) -> Self {
        Self { entropy, ..self }
    }

    /// The public key, which clients must know.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }
}

impl CurveClient {
    /// A client with the key `secret` of the server with the key `server`.
    #[must_use]
    pub fn new(secret: SecretKey, server: PublicKey) -> Self {
        Self {
            entropy: Entropy::SYSTEM,
            public: secret.public_key(),
            secret,
            server,
        }
    }

    /// The same with another source of random bytes, for tests.
    #[must_use]
    pub fn with_entropy(self, entropy: Entropy) -> Self {
        Self { entropy, ..self }
    }

    /// The public key, which the server must know.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }
}

/// What the traffic of a connection passes through.
fn coder(opener: traffic::Opener, sealer: traffic::Sealer) -> Box<Coder> {
    Box::new(Coder {
        opener: crate::coder::Opener(opener),
        sealer: crate::coder::Sealer(sealer),
    })
}

/// The points of low order in every encoding that counts, zero first.
#[cfg(test)]
fn low_order_points() -> [[u8; 32]; 8] {
    let mut points = [[0; 32]; 8];
    points[1][0] = 1;
    points[2] = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ];
    points[3] = [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ];
    // One less than the prime, the prime, one more; and the first with the bit that is ignored.
    for (point, first, last) in [
        (4, 0xec, 0x7f),
        (5, 0xed, 0x7f),
        (6, 0xee, 0x7f),
        (7, 0xec, 0xff),
    ] {
        points[point] = [0xff; 32];
        points[point][0] = first;
        points[point][31] = last;
    }
    points
}

#[cfg(test)]
mod tests;
