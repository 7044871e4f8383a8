//! The peers that a message must reach.

use super::*;
use crate::context::SocketKey;

impl Model {
    /// The peers that a message must reach, as far as that is certain.
    pub(super) fn route(&self, id: ConnId, (first, is_single_frame): (&[u8], bool)) -> Vec<ConnId> {
        let own = self.mirrors[&id].socket;
        let Some(target) = own.across() else {
            return Vec::new();
        };
        let socket = &self.sockets[index(target)];
        match (self.sockets[index(own)].socket_type, socket.socket_type) {
            (SocketType::Xsub, _) => {
                let wants =
                    |mirror: &Mirror| mirror.is_for(first) != socket.options.invert_matching;
                let live = self.live(target).filter(|(_, mirror)| wants(mirror));
                live.map(|(id, _)| id).collect()
            }
            (SocketType::Xpub, _) => self.live(target).map(|(id, _)| id).collect(),
            (_, SocketType::Router) if !is_single_frame => {
                let bearer = self.bearer(target, first);
                bearer.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn live(&self, socket: SocketKey) -> impl Iterator<Item = (ConnId, &Mirror)> {
        let of_socket =
            move |(_, mirror): &(&ConnId, &Mirror)| mirror.socket == socket && mirror.is_live();
        let mirrors = self.mirrors.iter().filter(of_socket);
        mirrors.map(|(id, mirror)| (*id, mirror))
    }

    /// The peer with this identity now.
    pub(super) fn bearer(&self, socket: SocketKey, identity: &[u8]) -> Option<ConnId> {
        let socket = &self.sockets[index(socket)];
        let is_live = |id: &&ConnId| self.mirrors[*id].is_live();
        let given = socket.given.get(identity).filter(is_live);
        let named = socket.names.get(identity).filter(is_live);
        given.or(named).copied()
    }

    /// Whether a message of `id` has a possible receiver.
    pub(crate) fn has_takers(&self, id: ConnId) -> bool {
        let target = self.mirrors[&id].socket.across();
        target.is_some_and(|target| {
            let proxy = target.proxy as usize;
            let goes_on = !self.is_paused(proxy) && self.may_be_copied(proxy);
            goes_on && self.live(target).next().is_some()
        })
    }

    /// Whether messages of a proxy need not wait for the first reader of its capture.
    pub(crate) fn may_be_copied(&self, proxy: usize) -> bool {
        let capture = SocketKey {
            proxy: u32::try_from(proxy).expect("few proxies"),
            side: SocketName::Capture,
        };
        let watch = self.watches[proxy].as_ref();
        let blocks = watch.is_some_and(|watch| watch.blocks);
        !blocks || self.live(capture).next().is_some()
    }
}

/// Whether messages queued for a peer of a socket may be dropped again, or messages for one of its
/// peers may go to none.
pub(super) fn may_drop(socket_type: SocketType, options: &SocketOptions) -> bool {
    let overflow = overflow(socket_type, options);
    let drops = matches!(overflow, Overflow::DropNewest | Overflow::Disconnect);
    overflow.takes_back() || !options.max_age.is_zero() || is_balanced(socket_type) && drops
}
