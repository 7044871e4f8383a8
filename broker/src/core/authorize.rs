//! Whether a peer may come in: by the list of its socket, or as the embedding program decides.

use crate::config::Admission;
use crate::core::admin::page_of;
use crate::core::turn::cost;
use crate::core::{Action, Admin, AdminError, Core};
use crate::ids::{ConnId, ProxyId};
use crate::view::{Page, PageQuery, UndecidedPeerView};
use zmtp::{Authorization, Credentials};

/// The decision about a peer in its handshake.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Not made yet; with the peer's credentials.
    Awaited(Credentials),
    /// Made; the session gets it when its input continues.
    Made(Authorization),
}

impl Core {
    /// Decides whether a peer may come in, or lets its handshake wait for [`Admin::authorize`].
    pub(super) fn decide(&mut self, id: ConnId, credentials: Credentials) {
        if let Some(conn) = self.conns.get_mut(id) {
            let admission = &self.sockets[conn.socket].admission;
            if let (Admission::Users(_), Credentials::Plain { .. }) = (admission, &credentials) {
                self.turn.charge(cost::PASSWORD);
            }
            let decision = match admission.decide(&credentials, conn.peer) {
                Some(authorization) => Decision::Made(authorization),
                None => Decision::Awaited(credentials),
            };
            conn.decision = Some(Box::new(decision));
        }
    }
}

/// Decisions about peers.
impl Admin<'_> {
    /// The peers of a proxy whose handshake waits for [`Self::authorize`], in the order of their
    /// connection slots. Only sockets with [`crate::config::Admission::Program`] have any.
    /// [`Page::total`] is counted.
    ///
    /// # Errors
    /// [`AdminError::NoSuchProxy`].
    pub fn undecided_peers(
        &mut self,
        proxy: ProxyId,
        page: &PageQuery<ConnId>,
    ) -> Result<Page<UndecidedPeerView>, AdminError> {
        self.find(proxy)?;
        self.core.charge_walk();
        let core = &*self.core;
        let conns = core.conns.iter();
        let waiting = conns.filter(|(_, conn)| conn.proxy == proxy && conn.is_undecided());
        let page = page_of(waiting.map(|(id, _)| id), page, |id| {
            let conn = core.conns.get(id)?;
            let Some(Decision::Awaited(credentials)) = conn.decision.as_deref() else {
                return None;
            };
            Some(UndecidedPeerView {
                address: conn.peer,
                credentials: credentials.clone(),
                id,
                socket: core.sockets[conn.socket].name,
            })
        });
        self.charge_views(page.items.len());
        Ok(page)
    }

    /// Decides about a peer whose handshake waits. The handshake goes on in this turn or the next;
    /// it may still fail for another reason.
    ///
    /// # Errors
    /// [`AdminError::NoSuchPeer`]: the peer is gone, or its handshake does not wait.
    pub fn authorize(
        &mut self,
        peer: ConnId,
        authorization: Authorization,
    ) -> Result<(), AdminError> {
        let conn = self.core.conns.get_mut(peer);
        let conn = conn.filter(|conn| conn.is_undecided() && !conn.closes_later);
        let conn = conn.ok_or(AdminError::NoSuchPeer)?;
        conn.decision = Some(Box::new(Decision::Made(authorization)));
        // Its input continues as if it had been left for this turn, even without pending bytes.
        conn.is_cut = true;
        self.core.deferred.act(Action::Resume(peer));
        Ok(())
    }
}
