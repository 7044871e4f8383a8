//! PAIR: a balancer with one peer.

use crate::conn::ConnTable;
use crate::ids::ConnId;
use crate::pattern::balancer::Balancer;
use crate::reason::CloseReason;

/// Adds the one peer. Others are closed, so that they return later, when the first may have left;
/// libzmq keeps them connected without service.
pub(crate) fn attach(
    balancer: &mut Balancer,
    id: ConnId,
    conns: &mut ConnTable,
) -> Result<(), CloseReason> {
    if !balancer.is_empty() {
        return Err(CloseReason::PairTaken);
    }
    balancer.attach(id, conns);
    Ok(())
}
