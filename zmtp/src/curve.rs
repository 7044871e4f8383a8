//! CURVE: what an application needs to have keys, and to configure a mechanism with them.
//!
//! ```
//! use zmtp::curve::{CurveClient, CurveServer, Entropy, SecretKey};
//!
//! # fn main() -> Result<(), zmtp::curve::EntropyError> {
//! let server = CurveServer::new(SecretKey::generate(Entropy::SYSTEM)?);
//! let secret = SecretKey::generate(Entropy::SYSTEM)?;
//! let client = CurveClient::new(secret, server.public_key());
//! println!("{} may talk to {}", client.public_key(), server.public_key());
//! # Ok(())
//! # }
//! ```

pub use crate::mechanism::curve::{
    CurveClient, CurveServer, Entropy, EntropyError, KeyError, PublicKey, SecretKey, SecretText,
    Z85Error,
};
