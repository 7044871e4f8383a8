//! REQ: one request at a time, to one peer after another; the next one waits for the answer.

use crate::config::SocketOptions;
use crate::conn::ConnTable;
use crate::conn::egress::Unsent;
use crate::ids::ConnId;
use crate::pattern::balancer::Balancer;
use crate::pattern::{Admit, Route};
use crate::reason::DropReason;
use zmtp::Frames;
use zmtp::wire::header::MORE;

/// The empty frame in front of every request and every answer.
const DELIMITER: &[u8] = &[MORE, 0];

/// The peers, and the one that has the request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    asked: Option<ConnId>,
    balancer: Balancer,
}

impl Request {
    pub(crate) fn attach(&mut self, id: ConnId, conns: &mut ConnTable) {
        self.balancer.attach(id, conns);
    }

    /// A peer that has the request and leaves will not answer; libzmq would wait without end.
    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        self.balancer.detach(id, conns);
        if self.asked == Some(id) {
            self.asked = None;
        }
    }

    /// Admits the answer of the peer that has the request, without its delimiter.
    pub(crate) fn admit(&self, id: ConnId, wire: &[u8]) -> Admit {
        let mut frames = Frames::new(wire);
        let has_delimiter = frames
            .next()
            .is_some_and(|frame| frame.more && frame.body.is_empty());
        match self.asked {
            Some(asked) if asked == id && has_delimiter => Admit::Pass {
                skip: wire.len() - frames.rest().len(),
            },
            Some(asked) if asked == id => Admit::Drop(DropReason::WithoutEnvelope),
            _ => Admit::Drop(DropReason::NotExpected),
        }
    }

    pub(crate) fn accepted(&mut self) -> bool {
        self.asked = None;
        true
    }

    pub(crate) fn route(
        &mut self,
        conns: &mut ConnTable,
        options: &SocketOptions,
        envelope: &mut Vec<u8>,
    ) -> Route {
        if self.asked.is_some() {
            return Route::Wait;
        }
        let route = self.balancer.route(conns, options);
        if let Route::To { id, .. } = route {
            envelope.extend_from_slice(DELIMITER);
            self.asked = Some(id);
        }
        route
    }

    /// Whether an unsent request waits for another peer.
    pub(crate) fn has_orphaned(&self) -> bool {
        self.balancer.has_orphaned()
    }

    /// The request will not be answered.
    pub(crate) fn give_up(&mut self) {
        self.asked = None;
    }

    /// An orphaned request has gone to this peer.
    pub(crate) fn redelivered(&mut self, id: ConnId) {
        self.asked = Some(id);
    }

    /// An unsent request.
    pub(crate) fn orphaned(&self) -> &Unsent {
        self.balancer.orphaned()
    }

    /// Bytes of an unsent request.
    pub(crate) fn orphaned_bytes(&self) -> u64 {
        self.balancer.orphaned_bytes()
    }

    pub(crate) fn balancer(&mut self) -> &mut Balancer {
        &mut self.balancer
    }

    /// The same as [`Self::balancer`], read-only.
    pub(crate) fn as_balancer(&self) -> &Balancer {
        &self.balancer
    }
}
