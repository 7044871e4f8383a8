//! The keys of CurveZMQ: 32 bytes each, or 40 characters of Z85.

use super::crypto::{self, KEY_SIZE, Secret};
use super::z85::{self, CHARACTERS, Z85Error};
use crate::error::{Error, Internal};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// A public key: it names its owner, and may be shown to all.
#[derive(Clone, Copy)]
pub struct PublicKey([u8; KEY_SIZE]);

/// A secret key. It is wiped when it is dropped, and has no printable form but
/// [`SecretKey::to_text`].
#[derive(Clone)]
pub struct SecretKey(Secret<KEY_SIZE>);

/// A secret key in Z85, wiped when it is dropped.
#[derive(Clone)]
pub struct SecretText(Secret<CHARACTERS>);

/// Why bytes or a text are not a usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A public key that agrees with every secret key on the same number: a point of low order.
    #[error("a public key of low order protects nothing")]
    LowOrder,
    /// The text is not a key in Z85.
    #[error(transparent)]
    Text(#[from] Z85Error),
    /// All bytes are zero, as in a key that was never set.
    #[error("a key of zeros protects nothing")]
    Zero,
}

/// Where random bytes come from.
#[derive(Clone, Copy)]
pub struct Entropy(fn(&mut [u8]) -> Result<(), EntropyError>);

/// The source has no random bytes to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system provides no random bytes")]
pub struct EntropyError;

impl From<EntropyError> for Error {
    fn from(EntropyError: EntropyError) -> Self {
        Internal::Entropy.into()
    }
}

impl PublicKey {
    /// Bytes of a key.
    pub const SIZE: usize = KEY_SIZE;

    /// A key from its bytes.
    ///
    /// # Errors
    /// [`KeyError::Zero`] or [`KeyError::LowOrder`].
    pub fn from_bytes(bytes: [u8; KEY_SIZE]) -> Result<Self, KeyError> {
        if bytes == [0; KEY_SIZE] {
            return Err(KeyError::Zero);
        }
        if crypto::is_low_order(&bytes) {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// A key that a secret key has already agreed with, so that it is not of low order.
    pub(super) fn from_agreed(bytes: [u8; KEY_SIZE]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0
    }
}

/// Takes a time that does not depend on the keys.
impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        crypto::is_equal(&self.0, &other.0)
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// In Z85.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        z85::write(&z85::encode(&self.0), f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// From Z85.
impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; KEY_SIZE];
        z85::decode(text, &mut bytes)?;
        Self::from_bytes(bytes)
    }
}

impl SecretKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// [`KeyError::Zero`].
    pub fn from_bytes(bytes: &[u8; KEY_SIZE]) -> Result<Self, KeyError> {
        if crypto::is_equal(bytes, &[0; KEY_SIZE]) {
            return Err(KeyError::Zero);
        }
        Ok(Self(Secret::new(*bytes)))
    }

    /// A new key.
    ///
    /// # Errors
    /// If the source has no random bytes.
    pub fn generate(entropy: Entropy) -> Result<Self, EntropyError> {
        let mut bytes = Secret::new([0; KEY_SIZE]);
        entropy.fill(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// The public key that belongs to it; costs a multiplication on the curve.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(crypto::derive_public_key(&self.0))
    }

    /// Its text in Z85, for the file in which it is kept.
    #[must_use]
    pub fn to_text(&self) -> SecretText {
        SecretText(Secret::new(z85::encode(&self.0)))
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_SIZE] {
        &self.0
    }
}

/// Takes a time that does not depend on the keys.
impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        crypto::is_equal(&*self.0, &*other.0)
    }
}

impl Eq for SecretKey {}

/// Shows nothing of the key.
impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

/// From Z85.
impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = Secret::new([0; KEY_SIZE]);
        z85::decode(text, &mut bytes)?;
        Self::from_bytes(&bytes)
    }
}

impl SecretText {
    /// The 40 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&*self.0).unwrap_or_default()
    }
}

/// Shows nothing of the key.
impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(hidden)")
    }
}

impl Entropy {
    /// The random numbers of the operating system.
    pub const SYSTEM: Self = Self(|bytes| {
        if crypto::fill_from_system(bytes) {
            Ok(())
        } else {
            Err(EntropyError)
        }
    });

    /// Another source. All keys and nonces of a handshake come from it, so that only a test has a
    /// reason for one.
    #[must_use]
    pub const fn new(fill: fn(&mut [u8]) -> Result<(), EntropyError>) -> Self {
        Self(fill)
    }

    /// Fills `bytes`.
    ///
    /// # Errors
    /// If the source has no random bytes.
    pub fn fill(self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        (self.0)(bytes)
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::SYSTEM
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

/// Whether both are the same function.
impl PartialEq for Entropy {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for Entropy {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key pairs that libzmq's documentation of CURVE publishes.
    const PAIRS: [(&str, &str); 2] = [
        (
            "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
            "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
        ),
        (
            "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
            "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6",
        ),
    ];

    #[test]
    fn public_keys_belong_to_secret_ones() {
        for (public, secret) in PAIRS {
            let public: PublicKey = public.parse().unwrap();
            let secret: SecretKey = secret.parse().unwrap();
            assert_eq!(secret.public_key(), public);
        }
        assert_ne!(
            PAIRS[0].0.parse::<PublicKey>(),
            PAIRS[1].0.parse::<PublicKey>()
        );
    }

    #[test]
    fn text_comes_back() {
        for (public, secret) in PAIRS {
            assert_eq!(public.parse::<PublicKey>().unwrap().to_string(), public);
            let key: SecretKey = secret.parse().unwrap();
            assert_eq!(key.to_text().as_str(), secret);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret: SecretKey = PAIRS[0].1.parse().unwrap();
        let shown = format!("{secret:?} {:?}", secret.to_text());
        assert_eq!(shown, "SecretKey(hidden) SecretText(hidden)");
    }

    #[test]
    fn keys_that_protect_nothing_are_refused() {
        let zero = "0".repeat(40);
        assert_eq!(zero.parse::<SecretKey>(), Err(KeyError::Zero));
        assert_eq!(zero.parse::<PublicKey>(), Err(KeyError::Zero));
        for point in crate::mechanism::curve::low_order_points()
            .into_iter()
            .skip(1)
        {
            assert_eq!(PublicKey::from_bytes(point), Err(KeyError::LowOrder));
        }
    }

    #[test]
    fn a_text_that_is_cut_tells_its_length() {
        let cut = PAIRS[1].0.split_once('?').unwrap().0;
        let error = cut.parse::<PublicKey>().unwrap_err();
        assert_eq!(error.to_string(), "a key has 40 characters, not 8");
    }

    #[test]
    fn generated_keys_differ_and_a_dry_source_is_reported() {
        let keys = [0; 2].map(|_| SecretKey::generate(Entropy::SYSTEM).unwrap());
        assert_ne!(keys[0], keys[1]);
        let dry = Entropy::new(|_| Err(EntropyError));
        assert_eq!(SecretKey::generate(dry), Err(EntropyError));
        assert_ne!(dry, Entropy::SYSTEM);
    }
}
