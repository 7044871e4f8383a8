//! Locks for tests that need much of something which all tests of a process share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The turn of a test that opens hundreds of connections; such tests run one after another. All
/// tests of a process share its limit of open files, which is 1024 on many systems.
pub fn many_connections() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
