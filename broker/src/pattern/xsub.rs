//! XSUB: hears every publisher, and tells every publisher what is wanted.

use crate::conn::{ConnId, ConnTable};

/// The publishers.
#[derive(Debug, Default)]
pub(crate) struct Xsub {
    peers: Vec<ConnId>,
}

impl Xsub {
    pub(crate) fn attach(&mut self, id: ConnId, conns: &mut ConnTable) {
        if let Some(conn) = conns.get_mut(id) {
            conn.turn = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
            self.peers.push(id);
        }
    }

    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        let Some(index) = conns.get(id).map(|conn| conn.turn as usize) else {
            return;
        };
        if self.peers.get(index) != Some(&id) {
            return;
        }
        self.peers.swap_remove(index);
        if let Some(moved) = self
            .peers
            .get(index)
            .and_then(|moved| conns.get_mut(*moved))
        {
            moved.turn = u32::try_from(index).unwrap_or(u32::MAX);
        }
    }

    /// What subscribers send upstream beside subscriptions goes to every publisher, as in libzmq.
    pub(crate) fn all(&self, targets: &mut Vec<ConnId>) {
        targets.clear();
        targets.extend_from_slice(&self.peers);
    }

    /// The publishers.
    pub(crate) fn peers(&self) -> &[ConnId] {
        &self.peers
    }
}
