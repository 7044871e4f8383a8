//! REP: one request at a time; the answer returns with the request's envelope.

use crate::config::SocketOptions;
use crate::conn::ConnTable;
use crate::ids::ConnId;
use crate::pattern::{Admit, Route, to_one};
use crate::reason::DropReason;
use zmtp::Frames;

/// The request being answered.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// Its frames up to and including the first empty one; empty without a request.
    envelope: Vec<u8>,
    requester: Option<ConnId>,
}

impl Reply {
    /// The requester has left: its answer is dropped, and the next request can be taken.
    pub(crate) fn detach(&mut self, id: ConnId) {
        if self.requester == Some(id) {
            self.give_up();
        }
    }

    /// A request begins after its first empty frame; a message without one is dropped, as in
    /// libzmq.
    pub(crate) fn admit(&self, wire: &[u8]) -> Admit {
        if self.requester.is_some() {
            return Admit::Wait;
        }
        let mut frames = Frames::new(wire);
        while let Some(frame) = frames.next().filter(|frame| frame.more) {
            if frame.body.is_empty() {
                return Admit::Pass {
                    skip: wire.len() - frames.rest().len(),
                };
            }
        }
        Admit::Drop(DropReason::WithoutEnvelope)
    }

    pub(crate) fn accepted(&mut self, id: ConnId, envelope: &[u8]) {
        self.envelope.clear();
        self.envelope.extend_from_slice(envelope);
        self.requester = Some(id);
    }

    /// The route to the requester. An answer without a request is dropped.
    pub(crate) fn route(
        &mut self,
        conns: &ConnTable,
        options: &SocketOptions,
        envelope: &mut Vec<u8>,
    ) -> Route {
        let Some(id) = self.requester else {
            return Route::Drop(DropReason::NotExpected);
        };
        let route = to_one(id, 0, conns, options);
        match route {
            // The answer stays where it is, so its requester must stay too.
            Route::Flush(_) | Route::Wait => return route,
            Route::To { .. } => envelope.extend_from_slice(&self.envelope),
            _ => {}
        }
        self.give_up();
        route
    }

    /// Forgets the request.
    pub(crate) fn give_up(&mut self) {
        self.requester = None;
    }
}
