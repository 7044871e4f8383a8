//! What each socket type does with messages.
//!
//! A pattern knows its peers by id and decides; it never sees a socket, and bytes only as far as it must
//! read them. Every file has the same functions in the same order: `attach` and `detach` a peer, `admit`
//! a message that a peer sent, `route` one that is to go out. [`Pattern`] calls the right file.

use crate::config::SocketOptions;
use crate::conn::{Conn, ConnId, ConnTable};
use crate::why::{Drop, Why};
use zmtp::SocketType;

pub(crate) mod balancer;
pub(crate) mod router;
pub(crate) mod trie;
pub(crate) mod turns;
pub(crate) mod xpub;
pub(crate) mod xsub;

use balancer::Balancer;
use router::Router;
use xpub::Xpub;
use xsub::Xsub;

/// The state of a socket according to its type.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// Fair-queued input, output to one peer after the other.
    Dealer(Balancer),
    /// Fair-queued input, no output.
    Pull,
    /// Output to one peer after the other, no input.
    Push(Balancer),
    /// Input labelled with the sender's identity, output to the identity in front.
    Router(Router),
    /// Output to those who subscribed.
    Xpub(Box<Xpub>),
    /// Input from publishers, subscriptions to all of them.
    Xsub(Xsub),
}

/// What becomes of a message that a peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// It goes on, behind the sender's identity frame if the type labels its input.
    Pass,
    /// It goes no further.
    Drop(Drop),
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Nowhere.
    Drop(Drop),
    /// Nowhere yet: this peer's queue is full, but the kernel was not asked to take of it.
    Flush(ConnId),
    /// To those in the list of targets, and not to `full` others whose queues are full.
    Targets {
        /// How many miss it.
        full: u32,
    },
    /// To this peer, without the first `skip` bytes.
    To {
        /// The peer.
        id: ConnId,
        /// Bytes of its own identity frame.
        skip: usize,
    },
    /// Nowhere until somebody can take it.
    Wait,
}

impl Pattern {
    /// The pattern of a socket type that a proxy can have.
    ///
    /// # Panics
    /// For types that no [`crate::config::Kind`] names.
    pub(crate) fn new(socket_type: SocketType) -> Self {
        match socket_type {
            SocketType::Dealer => Self::Dealer(Balancer::default()),
            SocketType::Pull => Self::Pull,
            SocketType::Push => Self::Push(Balancer::default()),
            SocketType::Router => Self::Router(Router::default()),
            SocketType::Xpub => Self::Xpub(Box::default()),
            SocketType::Xsub => Self::Xsub(Xsub::default()),
            other => unreachable!("no kind of proxy has a {other} socket"),
        }
    }

    /// Takes in a peer whose handshake is over; answers with the one it replaces, if any.
    pub(crate) fn attach(
        &mut self,
        id: ConnId,
        identity: &[u8],
        conns: &mut ConnTable,
    ) -> Result<Option<ConnId>, Why> {
        match self {
            Self::Dealer(balancer) | Self::Push(balancer) => balancer.attach(id, conns),
            Self::Router(router) => return router.attach(id, identity, conns),
            Self::Xsub(xsub) => xsub.attach(id, conns),
            Self::Pull | Self::Xpub(_) => {}
        }
        Ok(None)
    }

    /// Lets go of a peer. An XPUB keeps its subscriptions until they are cancelled one by one.
    pub(crate) fn detach(&mut self, id: ConnId, conns: &mut ConnTable) {
        match self {
            Self::Dealer(balancer) | Self::Push(balancer) => balancer.detach(id, conns),
            Self::Router(router) => router.detach(id, conns),
            Self::Xsub(xsub) => xsub.detach(id, conns),
            Self::Pull | Self::Xpub(_) => {}
        }
    }

    /// Decides on a message that a peer sent.
    #[inline]
    pub(crate) fn admit(&self) -> Admit {
        match self {
            Self::Push(_) => Admit::Drop(Drop::NotExpected),
            _ => Admit::Pass,
        }
    }

    /// Decides where a message goes; several peers are put into `targets`.
    #[inline]
    pub(crate) fn route(
        &mut self,
        message: &[u8],
        conns: &mut ConnTable,
        options: &SocketOptions,
        targets: &mut Vec<ConnId>,
    ) -> Route {
        match self {
            Self::Dealer(balancer) | Self::Push(balancer) => balancer.route(conns, options),
            Self::Pull => Route::Drop(Drop::NotExpected),
            Self::Router(router) => router.route(message, conns, options),
            Self::Xpub(xpub) => {
                xpub.matches(message, conns, targets);
                fan_out(conns, options, targets)
            }
            Self::Xsub(xsub) => {
                xsub.all(targets);
                fan_out(conns, options, targets)
            }
        }
    }

    /// Whether messages taken back from a dead peer wait for another.
    pub(crate) fn has_stranded(&self) -> bool {
        match self {
            Self::Dealer(balancer) | Self::Push(balancer) => balancer.has_stranded(),
            _ => false,
        }
    }

    /// The outgoing half of a type that makes messages wait for somebody to take them.
    pub(crate) fn balancer(&mut self) -> Option<&mut Balancer> {
        match self {
            Self::Dealer(balancer) | Self::Push(balancer) => Some(balancer),
            _ => None,
        }
    }
}

/// Leaves in `targets` those who can take a message now. One whose queue is full though the kernel was
/// not yet asked is worth asking first: what it then misses it misses by its own slowness.
#[inline]
fn fan_out(conns: &ConnTable, options: &SocketOptions, targets: &mut Vec<ConnId>) -> Route {
    let mut all_can = true;
    for id in targets.iter() {
        let Some(conn) = conns.get(*id) else { continue };
        if !can_take(conn, options) {
            if !conn.is_blocked && !conn.egress.is_closed() {
                return Route::Flush(*id);
            }
            all_can = false;
        }
    }
    let mut full = 0;
    if !all_can {
        targets.retain(|id| {
            let Some(conn) = conns.get(*id) else {
                return false;
            };
            full += u32::from(!conn.egress.is_closed() && conn.is_at_high_water(options));
            can_take(conn, options)
        });
    }
    Route::Targets { full }
}

#[inline]
fn can_take(conn: &Conn, options: &SocketOptions) -> bool {
    !conn.is_at_high_water(options) && !conn.egress.is_closed()
}

#[cfg(test)]
mod tests;
