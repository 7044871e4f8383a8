//! A recount of the memory that peers have caused, from everything that exists. Tests compare it
//! with the account.

use crate::conn::egress::walk::Walk;
use crate::core::Core;
use crate::core::memory::MemoryUse;
use crate::limits::CONNECTION_MEMORY;

impl Core {
    /// The value that [`Self::memory`] must have between two turns. Visits every connection, queue,
    /// message and table.
    #[doc(hidden)]
    #[must_use]
    pub fn walk_memory(&self) -> MemoryUse {
        let mut found = MemoryUse::default();
        let mut walk = Walk::default();
        for (_, conn) in self.conns.iter() {
            found.connections += CONNECTION_MEMORY;
            found.inputs += conn.tail.memory(conn.need);
            walk.visit(&conn.egress);
        }
        for (_, closing) in self.conns.closing() {
            found.connections += CONNECTION_MEMORY;
            walk.visit(&closing.egress);
        }
        for (_, socket) in self.sockets.iter() {
            found.subscriptions += socket.pattern.walk_subscriptions();
            if let Some(unsent) = socket.pattern.orphaned() {
                walk.visit_unsent(unsent);
            }
        }
        walk.visit_store(&self.outbox.store);
        found.queues = walk.total();
        found
    }
}
