//! Whether a peer may come in: by the list of its socket, as a ZAP handler decides, or as the
//! embedding program decides.

use crate::config::{Admission, Change, Changes, Reject, Value};
use crate::conn::Phase;
use crate::core::admin::page_of;
use crate::core::passwords::Unchecked;
use crate::core::{Admin, AdminError, Core};
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::reason::CloseReason;
use crate::view::{Page, PageQuery, UndecidedPeerView};
use std::sync::Arc;
use zmtp::{Authorization, Credentials, MechanismConfig};

/// The decision about a peer in its handshake.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Not made yet: a ZAP handler was asked.
    Asked(Asked),
    /// Not made yet: the embedding program makes it; with the peer's credentials.
    Awaited(Credentials),
    /// Made; the session gets it when its input continues.
    Made(Authorization),
    /// The peer was refused for this reason, and does not know it yet.
    Refused(CloseReason),
    /// Not made yet: the password waits to be compared.
    Unchecked(Unchecked),
}

/// A request to a ZAP handler about a peer.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The connection to the handler.
    pub(crate) handler: ConnId,
    /// The number of the request.
    pub(crate) number: u64,
    /// The name of the peer by the list of its socket.
    pub(crate) user: Option<Arc<str>>,
    /// The socket that connects to the handler.
    pub(crate) zap: SocketId,
}

impl Core {
    /// Decides whether a peer may come in, or lets its handshake wait: until its password is
    /// compared, for a ZAP handler, or for [`Admin::authorize`].
    pub(super) fn decide(&mut self, id: ConnId, credentials: Credentials) {
        let conn = self.conns.get(id);
        let admission = conn.map(|conn| &self.sockets[conn.socket].admission);
        match (admission, &credentials) {
            (Some(Admission::Users(_)), Credentials::Plain { .. }) => {
                self.check_later(id, credentials);
            }
            _ => self.admit(id, credentials),
        }
    }

    /// Decides about a peer by the list of its socket. Where a handler decides too, the list comes
    /// first.
    pub(super) fn admit(&mut self, id: ConnId, credentials: Credentials) {
        if let Some(conn) = self.conns.get_mut(id) {
            if let Credentials::Curve(key) = &credentials {
                conn.key = Some(Box::new(*key));
            }
            let socket = &self.sockets[conn.socket];
            let (admission, asks_zap) = (&socket.admission, socket.options.asks_zap());
            let listed = match (admission, &credentials) {
                // The handler compares the password.
                (Admission::Any, Credentials::Plain { .. }) if asks_zap => {
                    Some(Authorization::Granted { user: None })
                }
                _ => admission.decide(&credentials, conn.peer.ip()),
            };
            match listed {
                None => conn.decision = Some(Box::new(Decision::Awaited(credentials))),
                Some(Authorization::Granted { user }) if asks_zap => {
                    let user = user.filter(|_| *admission != Admission::Any);
                    self.ask_handler(id, &credentials, user);
                }
                Some(Authorization::Denied { .. }) => {
                    let is_told = socket.options.reject == Reject::Error;
                    self.decided(id, Authorization::Denied { is_told });
                }
                Some(authorization) => self.decided(id, authorization),
            }
        }
    }

    /// The decision about a peer is made: its handshake goes on with it. A peer whose role does not
    /// permit it to be there is refused.
    pub(super) fn decided(&mut self, id: ConnId, authorization: Authorization) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if let Authorization::Granted { user } = &authorization {
            // Also for the log, if its role forbids what it wants.
            conn.user.clone_from(user);
        }
        let socket = conn.socket;
        let permitted = match &authorization {
            Authorization::Granted { user: Some(user) } => self.may_be_at(socket, user),
            _ => Ok(()),
        };
        let is_told = self.sockets[socket].options.reject == Reject::Error;
        let authorization = match permitted {
            Ok(()) => authorization,
            Err(_) if is_told => Authorization::Denied { is_told },
            Err(why) => return self.refuse(id, why),
        };
        if let Some(conn) = self.conns.get_mut(id) {
            conn.decision = Some(Box::new(Decision::Made(authorization)));
        }
    }
}

impl Core {
    /// Gives each socket that these changes concern its new keys. Peers that may not come in any
    /// more are closed.
    pub(super) fn set_keys(&mut self, changes: &Changes) {
        let mut changed: Vec<(SocketId, bool)> = Vec::new();
        for change in &changes.list {
            let (at, must_come_again) = match change {
                Change::Admission { at, .. } => (at, false),
                Change::Mechanism { at, from, to } => (at, from.name() != to.name()),
                // No handler was asked in this domain about the peers that are there.
                Change::Option { at, option, to, .. } if option.name == "zap_domain" => {
                    (at, *to != Value::Text(String::new()))
                }
                _ => continue,
            };
            let Some(id) = self.socket_at(at) else {
                continue;
            };
            match changed.iter_mut().find(|(other, _)| *other == id) {
                Some((_, must)) => *must |= must_come_again,
                None => changed.push((id, must_come_again)),
            }
        }
        for (id, must_come_again) in changed {
            let socket = &mut self.sockets[id];
            let former = socket.admission.clone();
            let proxy = &self.proxies[socket.proxy].name;
            if let Some(config) = self.reconfiguration.config.proxy(proxy) {
                socket.set_keys(config.socket(socket.name));
            }
            let conns = self.conns.iter();
            let own = conns.filter(|(_, it)| it.socket == id && !it.is_down_link_queue());
            let own: Vec<ConnId> = own.map(|(conn, _)| conn).collect();
            for conn in own {
                if must_come_again {
                    self.close_later(conn, CloseReason::NotAdmitted);
                } else {
                    self.review(conn, &former);
                }
            }
        }
    }

    /// Looks again whether a peer may come in, by what its socket admits now; `former` let it in.
    fn review(&mut self, id: ConnId, former: &Admission) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn.refusal().is_some() || conn.has_unchecked_password() {
            // It comes again; or its password will be compared with what the list says then.
            return;
        }
        if conn.asked().is_some() {
            // The handler was asked as one that is admitted by the former list.
            return self.close_later(id, CloseReason::NotAdmitted);
        }
        let socket = &self.sockets[conn.socket];
        let is_client = !socket.session.mechanism.is_server();
        let is_asked = conn.phase == Phase::Ready || conn.decision.is_some();
        if !is_asked && socket.session.authenticate && !conn.session.config().authenticate {
            // Its session would let it in without asking.
            return self.close_later(id, CloseReason::NotAdmitted);
        }
        let is_plain = socket.session.mechanism == MechanismConfig::PlainServer;
        if is_plain && is_asked && !conn.is_undecided() {
            let user = conn.user.as_deref();
            if !socket.admission.keeps(former, user, conn.peer.ip()) {
                self.close_later(id, CloseReason::NotAdmitted);
            }
            return;
        }
        let credentials = match (conn.decision.as_deref(), &conn.key) {
            (Some(Decision::Awaited(credentials)), _) => credentials.clone(),
            (_, Some(key)) => Credentials::Curve(**key),
            // A client of a mechanism has chosen its peer, whose key it knows.
            (_, None) if is_client && socket.session.mechanism != MechanismConfig::Null => return,
            (_, None) if is_asked => Credentials::Null,
            (_, None) => return,
        };
        match socket.admission.decide(&credentials, conn.peer.ip()) {
            None => {}
            Some(Authorization::Denied { .. }) => self.close_later(id, CloseReason::NotAdmitted),
            // It has the name that the handler gave it.
            Some(Authorization::Granted { .. })
                if socket.options.asks_zap() && socket.admission == Admission::Any => {}
            Some(Authorization::Granted { user }) => {
                if conn.decision.is_some() {
                    let is_waiting = conn.is_undecided();
                    self.decided(id, Authorization::Granted { user });
                    if is_waiting {
                        self.resume_handshake(id);
                    }
                } else if conn.key.is_some() {
                    conn.user = user;
                }
            }
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
        let waiting = conns.filter(|(_, conn)| conn.proxy == proxy && conn.waits_for_program());
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
        let conn = self.core.conns.get(peer);
        conn.filter(|conn| conn.waits_for_program() && !conn.closes_later)
            .ok_or(AdminError::NoSuchPeer)?;
        self.core.decided(peer, authorization);
        self.core.resume_handshake(peer);
        Ok(())
    }
}
