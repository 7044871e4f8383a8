//! Keys of the simulated world, and random bytes that the seed decides.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};
use zmtp::MechanismConfig;
use zmtp::curve::{CurveClient, CurveServer, Entropy, EntropyError, PublicKey, SecretKey};

/// The number of the first key of each broker, and that of the key that may take its place.
pub(crate) const SERVER_KEYS: [u8; 2] = [1, 9];

/// The mechanism of brokers with the key of this number. Their connections all begin with the same
/// random bytes, so that a mirror of one has the same keys; those of different peers differ all the
/// same.
pub(crate) fn server(number: u8) -> MechanismConfig {
    static SERVERS: OnceLock<[Arc<CurveServer>; 2]> = OnceLock::new();
    let servers = SERVERS.get_or_init(|| {
        SERVER_KEYS.map(|number| {
            let server = CurveServer::new(secret(number));
            Arc::new(server.with_entropy(Entropy::new(fill_alike)))
        })
    });
    MechanismConfig::CurveServer(servers[usize::from(number != SERVER_KEYS[0])].clone())
}

/// The mechanism of a peer with the key of this number, for a broker with that of the other.
pub(crate) fn client(number: u8, server: u8) -> MechanismConfig {
    let client = CurveClient::new(secret(number), public_key(server));
    MechanismConfig::CurveClient(Arc::new(client.with_entropy(Entropy::new(fill_random))))
}

/// The mechanism of a peer, for a broker with the key of this number.
pub(crate) fn for_server(mechanism: &MechanismConfig, server: u8) -> MechanismConfig {
    let MechanismConfig::CurveClient(own) = mechanism else {
        return mechanism.clone();
    };
    if server == SERVER_KEYS[0] {
        return mechanism.clone();
    }
    let mut numbers = 2..SERVER_KEYS[1];
    let number = numbers.find(|number| own.public_key() == public_key(*number));
    client(number.expect("peers have these keys"), server)
}

/// The public key of this number.
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
