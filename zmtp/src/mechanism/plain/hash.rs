//! Salted hashes of passwords, for the files of a server.

use super::Password;
use crate::mechanism::curve::{
    PasswordCosts, hash_password, is_equal, is_password_hash, verify_password,
};
use std::fmt;
use std::str::FromStr;

/// The salted hash of a password: Argon2id.
///
/// All hashes have the same costs, which bound the time of [`Self::verify`]: a server computes a
/// hash for each attempt of each peer, in the middle of its other work. 256 KiB and two passes take
/// about as long as the four multiplications of a handshake with CURVE. That is much less than an
/// interactive login would spend, and so a hash that falls into wrong hands withstands guessing
/// only if the password is long and random.
#[derive(Clone)]
pub struct PasswordHash(Box<str>);

/// Why a text is not a hash, or a hash cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// The system has no random bytes for a salt.
    #[error("the system provides no random bytes")]
    Entropy,
    /// The text is not a hash of this kind, or one with other costs.
    #[error("this is not a password hash as zmqd passwd writes it")]
    Malformed,
}

/// The costs of every hash.
const COSTS: PasswordCosts = PasswordCosts {
    memory: 256,
    passes: 2,
};

impl PasswordHash {
    /// The hash of a password, with a salt of its own.
    ///
    /// # Errors
    /// [`PasswordHashError::Entropy`].
    pub fn new(password: &Password) -> Result<Self, PasswordHashError> {
        let hash = hash_password(password.as_bytes(), COSTS);
        let hash = hash.ok_or(PasswordHashError::Entropy)?;
        Ok(Self(hash.into()))
    }

    /// A hash that no known password has: comparing with it takes the time of any other, so that
    /// the answer about an unknown user comes as late as the one about a wrong password.
    #[must_use]
    pub fn of_unknown_user() -> Self {
        Self(UNKNOWN.into())
    }

    /// Whether this is the password; takes a time that depends on its size alone.
    #[must_use]
    pub fn verify(&self, password: &Password) -> bool {
        verify_password(&self.0, COSTS, password.as_bytes())
    }

    /// Its text, as [`FromStr`] reads it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The hash of 32 random bytes that were not kept.
const UNKNOWN: &str = "$argon2id$v=19$m=256,t=2,p=1$hBTU4Kta5XMnpHOViAEgEQ$\
                       i7K3yk8bI5KPNaGyiVGn7zB42T1djlzh2bS0AVhBf+M";

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        is_equal(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for PasswordHash {}

/// Shows nothing of the hash.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(hidden)")
    }
}

impl FromStr for PasswordHash {
    type Err = PasswordHashError;

    fn from_str(text: &str) -> Result<Self, PasswordHashError> {
        if !is_password_hash(text, COSTS) {
            return Err(PasswordHashError::Malformed);
        }
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes())
    }

    #[test]
    fn a_password_has_its_hash_and_no_other_has() {
        let [first, second] = [(), ()].map(|()| PasswordHash::new(&password("secret")).unwrap());
        assert_ne!(first, second, "each has a salt of its own");
        for hash in [&first, &second] {
            assert!(hash.verify(&password("secret")));
            for wrong in ["", "Secret", "secre", "secret ", "secret\0"] {
                assert!(!hash.verify(&password(wrong)), "{wrong:?}");
            }
            assert_eq!(hash.as_str().parse().as_ref(), Ok(hash));
            assert!(!format!("{hash:?}").contains('$'));
        }
        let long = password(&"x".repeat(255));
        assert!(PasswordHash::new(&long).unwrap().verify(&long));
    }

    /// A text that libsodium made with the same costs, by `crypto_pwhash_str`.
    #[test]
    fn hashes_are_those_of_libsodium() {
        let hash: PasswordHash = LIBSODIUM.parse().unwrap();
        assert!(hash.verify(&password("correct horse")));
        assert!(!hash.verify(&password("correct horsE")));
    }

    #[test]
    fn an_unknown_user_costs_as_much_as_a_known_one() {
        let unknown = PasswordHash::of_unknown_user();
        assert_eq!(
            unknown.as_str().parse(),
            Ok(unknown.clone()),
            "the same costs"
        );
        assert!(!unknown.verify(&password("")));
    }

    /// No file can make a hash of more work.
    #[test]
    fn other_costs_and_forms_are_refused() {
        let good = PasswordHash::of_unknown_user();
        let good = good.as_str();
        for (from, to) in [
            ("m=256", "m=1048576"),
            ("m=256", "m=0256"),
            ("t=2", "t=3"),
            ("p=1", "p=4"),
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("hBTU", "hBT"),
            ("hBTU", "hB=U"),
            ("f+M", "f+"),
            ("f+M", "f+MM"),
            ("f+M", "f+!"),
            ("$argon2id", "argon2id"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            let parsed = text.parse::<PasswordHash>();
            assert_eq!(parsed, Err(PasswordHashError::Malformed), "{text}");
        }
        assert!("".parse::<PasswordHash>().is_err());
    }

    const LIBSODIUM: &str = "$argon2id$v=19$m=256,t=2,p=1$oPGyZZiDPBd4d13XljO7eA$\
                             b126KL3kJY3rQoM0Jz6OBKJZS3RmUl11GDOempOTFw4";
}
