//! ROUTER: each message carries its peer's identity in front, both ways.

use crate::config::SocketOptions;
use crate::conn::{Conn, ConnTable, Phase};
use crate::ids::{ConnId, SocketId};
use crate::pattern::{Route, to_one};
use crate::reason::{CloseReason, DropReason};
use std::collections::HashMap;
use zmtp::Frames;
use zmtp::encode::append_frame;

/// The identities of the peers of one socket.
///
/// A peer without an announced identity gets one that contains its [`ConnId`], so that a reply
/// finds it by index, and a reply to a departed peer cannot reach its successor in the slot. All
/// sockets of the process share that index: an identity counts only for a peer of this socket.
/// Announced identities are kept in a map with a keyed hash, because peers choose them.
#[derive(Debug, Default)]
pub(crate) struct Router {
    names: HashMap<Box<[u8]>, ConnId>,
    /// The handle of this socket, from the first peer on.
    socket: Option<SocketId>,
}

/// Bytes of a generated identity: a zero, which RFC 37 forbids in announced ones, and a [`ConnId`].
const GENERATED_SIZE: usize = 9;

impl Router {
    /// The peer with this announced identity.
    pub(crate) fn holder(&self, identity: &[u8], conns: &ConnTable) -> Option<ConnId> {
        let (holder, _) = self.find_announced(identity, conns)?;
        Some(holder)
    }

    /// Adds a peer under the identity that it announces; returns the peer that had it before.
    ///
    /// Announced and generated identities never collide: like libzmq, this accepts announced ones
    /// that begin with a zero, except those of the generated form.
    pub(crate) fn attach(
        &mut self,
        id: ConnId,
        identity: &[u8],
        conns: &mut ConnTable,
    ) -> Result<Option<ConnId>, CloseReason> {
        if generated_for(identity).is_some() {
            return Err(CloseReason::IdentityReserved);
        }
        let replaced = self.holder(identity, conns);
        let generated = generated(id);
        let name = if identity.is_empty() {
            &generated[..]
        } else {
            identity
        };
        let mut frame = Vec::with_capacity(2 + name.len());
        append_frame(&mut frame, name, true);
        if let Some(conn) = conns.get_mut(id) {
            conn.identity_frame = frame.into_boxed_slice();
            self.socket = Some(conn.socket);
        }
        if !identity.is_empty() {
            self.names.insert(identity.into(), id);
        }
        Ok(replaced)
    }

    pub(crate) fn detach(&mut self, id: ConnId, conns: &ConnTable) {
        let Some(conn) = conns.get(id) else { return };
        let name = Frames::new(&conn.identity_frame)
            .next()
            .map_or(&[][..], |frame| frame.body);
        if self.names.get(name) == Some(&id) {
            self.names.remove(name);
        }
    }

    /// The peer named in front, if it is connected and has room, and the size of its identity.
    #[inline(always)]
    pub(crate) fn one(
        &self,
        message: &[u8],
        conns: &ConnTable,
        options: &SocketOptions,
    ) -> Option<(ConnId, usize)> {
        let mut frames = Frames::new(message);
        let first = frames.next().filter(|first| first.more)?;
        let (id, conn) = self.find(first.body, conns)?;
        let can_take =
            !conn.egress.is_closed() && !conn.is_at_high_water(options, conns.queue_size_max);
        can_take.then(|| (id, message.len() - frames.rest().len()))
    }

    /// The route to the peer named in front. A ROUTER never waits: messages for a full or absent
    /// peer are dropped.
    pub(crate) fn route(
        &self,
        message: &[u8],
        conns: &ConnTable,
        options: &SocketOptions,
    ) -> Route {
        let mut frames = Frames::new(message);
        let Some(first) = frames.next().filter(|first| first.more) else {
            return Route::Drop(DropReason::WithoutBody);
        };
        let skip = message.len() - frames.rest().len();
        let Some((id, _)) = self.find(first.body, conns) else {
            return Route::Drop(DropReason::NoSuchPeer);
        };
        to_one(id, skip, conns, options)
    }

    /// The attached peer with this identity.
    #[inline(always)]
    fn find<'a>(&self, name: &[u8], conns: &'a ConnTable) -> Option<(ConnId, &'a Conn)> {
        let Some(id) = generated_for(name) else {
            return self.find_announced(name, conns);
        };
        let conn = conns.get(id)?;
        let is_ours = Some(conn.socket) == self.socket && conn.phase == Phase::Ready;
        let is_its_name = conn.identity_frame.get(2..) == Some(name);
        (is_ours && is_its_name).then_some((id, conn))
    }

    #[inline(never)]
    fn find_announced<'a>(&self, name: &[u8], conns: &'a ConnTable) -> Option<(ConnId, &'a Conn)> {
        let id = *self.names.get(name)?;
        let conn = conns.get(id)?;
        (conn.phase == Phase::Ready).then_some((id, conn))
    }
}

fn generated(id: ConnId) -> [u8; GENERATED_SIZE] {
    let mut identity = [0; GENERATED_SIZE];
    identity[1..5].copy_from_slice(&id.slot.to_be_bytes());
    identity[5..].copy_from_slice(&id.generation.to_be_bytes());
    identity
}

/// The connection for which an identity of this form was generated.
#[inline]
fn generated_for(name: &[u8]) -> Option<ConnId> {
    let (&[0, s0, s1, s2, s3], rest) = name.split_first_chunk::<5>()? else {
        return None;
    };
    let generation = u32::from_be_bytes(rest.try_into().ok()?);
    Some(ConnId {
        generation,
        slot: u32::from_be_bytes([s0, s1, s2, s3]),
    })
}
