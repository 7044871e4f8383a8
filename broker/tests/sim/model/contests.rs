//! Peers that announce the identity of another: without `router_handover` that one keeps it as long
//! as it gives signs of life.

use super::*;
use broker::limits::NAME_PATIENCE;
use broker::reason::CloseReason;
use zmtp::Peer;

/// A peer that waits for the identity of another.
#[derive(Debug)]
pub(crate) struct Contest {
    holder: ConnId,
    peer: Peer,
    /// What it has said since.
    pub(super) said: Vec<Heard>,
    since: Instant,
}

impl Model {
    /// Whether a newcomer has to wait for the identity that it announces.
    pub(super) fn has_rival(&self, id: ConnId, peer: &Peer) -> bool {
        let socket = &self.sockets[index(self.mirrors[&id].socket)];
        let is_router = socket.socket_type == SocketType::Router;
        is_router && !socket.options.router_handover && self.holder(id, &peer.identity).is_some()
    }

    /// Another peer that has this identity, and is not closed.
    fn holder(&self, id: ConnId, identity: &[u8]) -> Option<ConnId> {
        let socket = &self.sockets[index(self.mirrors[&id].socket)];
        let is_there = |holder: &&ConnId| self.mirrors[*holder].phase == Phase::Ready;
        let holder = socket.names.get(identity).filter(is_there).copied();
        holder.filter(|holder| *holder != id)
    }

    pub(super) fn begin_contest(&mut self, id: ConnId, peer: Peer, said: Vec<Heard>) {
        let holder = self.holder(id, &peer.identity).expect("a rival");
        let contest = Contest {
            holder,
            peer,
            said,
            since: self.now,
        };
        self.contests.insert(id);
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        mirror.contest = Some(contest);
    }

    /// A peer that waited for an identity has got it.
    pub(crate) fn came_in(&mut self, id: ConnId) {
        self.contests.remove(&id);
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let contest = mirror.contest.take().expect("it has waited");
        mirror.has_waited = true;
        let (user, at) = (mirror.user.clone(), mirror.socket);
        let hands_over = self.sockets[index(at)].options.router_handover;
        let has_left = |id: ConnId| {
            let mirror = &self.mirrors[&id];
            mirror.phase == Phase::Closed || mirror.has_ended || mirror.is_mute
        };
        let is_silent = self.mirrors[&contest.holder]
            .heard_at
            .is_none_or(|heard| heard <= contest.since)
            && self.now >= contest.since + NAME_PATIENCE;
        assert!(
            has_left(contest.holder) || is_silent || hands_over,
            "{id:?} took the identity of {:?}, which is alive",
            contest.holder
        );
        if let Some(holder) = self.holder(id, &contest.peer.identity) {
            assert!(
                holder == contest.holder || has_left(holder) || hands_over,
                "{id:?} took the identity that {holder:?} got meanwhile"
            );
            assert_eq!(user, self.mirrors[&holder].user, "users of one identity");
        }
        let all = std::iter::once(Heard::Ready(contest.peer)).chain(contest.said);
        let targets = self.take(id, all.collect());
        assert_eq!(targets, BTreeSet::new(), "its messages go on later");
    }

    /// A peer that waited for an identity is closed, for this reason.
    pub(crate) fn turned_away(&mut self, id: ConnId, why: Option<CloseReason>) {
        self.contests.remove(&id);
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let contest = mirror.contest.take().expect("it has waited");
        if why != Some(CloseReason::IdentityTaken) {
            return;
        }
        let own = self.mirrors[&id].socket;
        let holders = self.mirrors.values().filter(|other| {
            let is_gone = other.closed_at.is_some_and(|at| at < self.now);
            let is_same = other.identity == *contest.peer.identity;
            is_same && other.socket == own && other.was_ready && !is_gone
        });
        assert!(
            holders.count() > 0,
            "{id:?} was refused an identity that no peer has"
        );
    }

    /// The broker has read the end of a connection.
    pub(crate) fn ended(&mut self, id: ConnId) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        mirror.has_ended = true;
    }

    /// Each wait for an identity ends.
    pub(crate) fn check_contests(&self) {
        for id in &self.contests {
            let contest = self.mirrors[id].contest.as_ref();
            let waits_since = contest.map(|contest| contest.since);
            let is_late = waits_since.is_some_and(|it| self.now > it + 2 * NAME_PATIENCE);
            assert!(!is_late, "{id:?} waits for an identity");
        }
    }
}
