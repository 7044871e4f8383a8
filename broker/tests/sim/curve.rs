//! Keys of the simulated world, and random bytes that the seed decides.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use zmtp::MechanismConfig;
use zmtp::curve::{CurveClient, CurveServer, Entropy, EntropyError, PublicKey, SecretKey};

/// The mechanism of brokers. Their connections all begin with the same random bytes, so that a
/// mirror of one has the same keys; those of different peers differ all the same.
pub(crate) fn server() -> MechanismConfig {
    static SERVER: OnceLock<Arc<CurveServer>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let server = CurveServer::new(secret(1));
        Arc::new(server.with_entropy(Entropy::new(fill_alike)))
    });
    MechanismConfig::CurveServer(server.clone())
}

/// The mechanism of a peer with the key of this number.
pub(crate) fn client(number: u8) -> MechanismConfig {
    let client = CurveClient::new(secret(number), secret(1).public_key());
    MechanismConfig::CurveClient(Arc::new(client.with_entropy(Entropy::new(fill_random))))
}

/// The public key of a peer.
pub(crate) fn public_key(number: u8) -> PublicKey {
    secret(number).public_key()
}

/// The public keys of all peers that have one.
pub(crate) fn client_keys() -> impl Iterator<Item = PublicKey> {
    (2..=5).map(public_key)
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes(&[number; 32]).expect("a usable key")
}

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// A run begins: its peers make the same keys every time.
pub(crate) fn seed(seed: u64) {
    RANDOM.set(seed);
}

fn fill_random(bytes: &mut [u8]) -> Result<(), EntropyError> {
    for byte in bytes {
        let mixed = RANDOM.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        RANDOM.set(mixed);
        *byte = (mixed ^ mixed >> 29)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
            .to_be_bytes()[0];
    }
    Ok(())
}

fn fill_alike(bytes: &mut [u8]) -> Result<(), EntropyError> {
    bytes.fill(0x42);
    Ok(())
}
