//! ROUTER: each message carries its peer's identity in front, both ways.

use crate::config::SocketOptions;
use crate::conn::{Conn, ConnId, ConnTable};
use crate::pattern::{Route, to_one};
use crate::why::{Drop, Why};
use std::collections::HashMap;
use zmtp::Frames;
use zmtp::encode::append_frame;

/// Who has which identity.
///
/// A peer that announces none gets one that holds its [`ConnId`], so that a reply finds it by
/// index, and a reply to one that left finds nobody, whoever has its place now. Announced ones are
/// kept as they are, in a map whose hash is keyed, because peers choose them.
#[derive(Debug, Default)]
pub(crate) struct Router {
    names: HashMap<Box<[u8]>, ConnId>,
}

/// Bytes of a generated identity: a zero, which RFC 37 keeps from announced ones, and a [`ConnId`].
const GENERATED_SIZE: usize = 9;

impl Router {
    /// Takes in a peer. The newest bearer of a name has it, unless configured otherwise: the older
    /// one is most often the same client, whose end nobody has noticed yet.
    pub(crate) fn attach(
        &mut self,
        id: ConnId,
        identity: &[u8],
        conns: &mut ConnTable,
        options: &SocketOptions,
    ) -> Result<Option<ConnId>, Why> {
        let generated = generated(id);
        let name = if identity.is_empty() {
            &generated[..]
        } else {
            identity
        };
        let holder = self.find(name, conns).map(|(holder, _)| holder);
        let replaced = match holder {
            Some(holder) if generated_for(name) == Some(holder) => {
                return Err(Why::IdentityReserved);
            }
            Some(_) if !options.router_handover => return Err(Why::IdentityTaken),
            holder => holder,
        };
        let mut frame = Vec::with_capacity(2 + name.len());
        append_frame(&mut frame, name, true);
        if let Some(conn) = conns.get_mut(id) {
            conn.identity_frame = frame.into_boxed_slice();
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

    /// The peer named in front, if it is there and has room, and the size of its name.
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
        let can_take = !conn.egress.is_closed() && !conn.is_at_high_water(options);
        can_take.then(|| (id, message.len() - frames.rest().len()))
    }

    /// The peer named in front. A ROUTER never waits: what a full or absent peer should get is
    /// lost.
    pub(crate) fn route(
        &self,
        message: &[u8],
        conns: &ConnTable,
        options: &SocketOptions,
    ) -> Route {
        let mut frames = Frames::new(message);
        let Some(first) = frames.next().filter(|first| first.more) else {
            return Route::Drop(Drop::WithoutBody);
        };
        let skip = message.len() - frames.rest().len();
        let Some((id, _)) = self.find(first.body, conns) else {
            return Route::Drop(Drop::NoSuchPeer);
        };
        to_one(id, skip, conns, options)
    }

    /// The attached peer with this identity.
    #[inline(always)]
    fn find<'a>(&self, name: &[u8], conns: &'a ConnTable) -> Option<(ConnId, &'a Conn)> {
        if let Some(id) = generated_for(name)
            && let Some(conn) = conns.get(id)
            && conn.identity_frame.get(2..) == Some(name)
        {
            return Some((id, conn));
        }
        self.find_announced(name, conns)
    }

    #[inline(never)]
    fn find_announced<'a>(&self, name: &[u8], conns: &'a ConnTable) -> Option<(ConnId, &'a Conn)> {
        let id = *self.names.get(name)?;
        Some((id, conns.get(id)?))
    }
}

fn generated(id: ConnId) -> [u8; GENERATED_SIZE] {
    let mut identity = [0; GENERATED_SIZE];
    identity[1..5].copy_from_slice(&id.slot.to_be_bytes());
    identity[5..].copy_from_slice(&id.generation.to_be_bytes());
    identity
}

/// The connection that an identity of this form was generated for.
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
