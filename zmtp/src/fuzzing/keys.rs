//! The keys of fuzzed connections, and random bytes that are the same in every run.

use crate::config::MechanismConfig;
use crate::mechanism::curve::{CurveClient, CurveServer, Entropy, SecretKey};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static COUNTER: Cell<u64> = const { Cell::new(0) };
}

const ENTROPY: Entropy = Entropy::new(|bytes| {
    for byte in bytes {
        let count = COUNTER.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        COUNTER.set(count);
        let mixed = (count ^ count >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        [.., *byte] = (mixed ^ mixed >> 32).to_be_bytes();
    }
    Ok(())
});

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).expect("a key other than zero")
}

/// Every run begins with the same random bytes.
pub(super) fn reset_entropy() {
    COUNTER.set(0);
}

/// The one server.
pub(super) fn curve_server() -> MechanismConfig {
    let server = CurveServer::new(secret(1)).with_entropy(ENTROPY);
    MechanismConfig::CurveServer(Arc::new(server))
}

/// A client that it knows.
pub(super) fn curve_client() -> MechanismConfig {
    let client = CurveClient::new(secret(2), secret(1).public_key()).with_entropy(ENTROPY);
    MechanismConfig::CurveClient(Arc::new(client))
}
