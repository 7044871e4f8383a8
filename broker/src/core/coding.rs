//! The two edges of a connection whose mechanism encrypts traffic: received bytes become plain ZMTP
//! before they are handled, queued frames are sealed before they are written.

use crate::conn::{Egress, Input, Phase};
use crate::core::turn::{self, cost};
use crate::core::{Core, Flow};
use crate::ids::ConnId;
use crate::reason::CloseReason;
use zmtp::{Coder, Error, MechanismConfig};

impl Core {
    /// The handshake of a connection is over: if its mechanism protects traffic, the rest of its
    /// input and all later output pass through its coder.
    pub(super) fn begin_coding(&mut self, id: ConnId, input: &mut Input) {
        if let Some(conn) = self.conns.get_mut(id)
            && let Some(mut coder) = conn.session.take_coder()
        {
            if let Some(bytes) = self.coder_step_size {
                coder.set_step_size(bytes);
            }
            let Coder { opener, sealer } = *coder;
            conn.opener = Some(Box::new(opener));
            self.memory.coders += 1;
            conn.egress.begin_sealing(sealer, &mut self.outbox.store);
            input.begin_coding();
        }
    }

    /// Opens the received frames of a connection that has a coder; returns whether there were any.
    pub(super) fn open_more(&mut self, id: ConnId, input: &mut Input) -> Result<bool, Error> {
        let Some(conn) = self.conns.get_mut(id) else {
            return Ok(false);
        };
        let Some(opener) = &mut conn.opener else {
            return Ok(false);
        };
        let limits = &self.sockets[conn.socket].session.limits;
        let opened = input.open(opener, limits)?;
        self.turn.charge(turn::coded_bytes(opened));
        Ok(opened > 0)
    }

    /// A session has handled a command: one of a handshake with CURVE takes much of a turn.
    pub(super) fn charge_handshake(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let mechanism = &self.sockets[conn.socket].session.mechanism;
        let is_curve = matches!(
            mechanism,
            MechanismConfig::CurveClient(_) | MechanismConfig::CurveServer(_)
        );
        if is_curve && conn.phase == Phase::Handshake {
            self.turn.charge(cost::KEY_AGREEMENT);
        }
    }

    /// A session needs `size` plain bytes: opens more frames, or stores how many bytes to wait for
    /// and returns what becomes of the input.
    pub(super) fn open_or_wait(
        &mut self,
        id: ConnId,
        input: &mut Input,
        size: usize,
    ) -> Option<Flow> {
        if let Some(conn) = self.conns.get_mut(id).filter(|conn| conn.opener.is_none()) {
            conn.need = size;
            return Some(Flow::Done);
        }
        match self.open_more(id, input) {
            Ok(true) => None,
            Ok(false) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.need = input.need();
                }
                Some(Flow::Done)
            }
            Err(error) => {
                self.close_later(id, CloseReason::Protocol(error));
                Some(Flow::Closed)
            }
        }
    }

    /// The queue of a connection, ready to be written; `input` is the buffer that the queue leans
    /// on, or empty. A driver calls this before each use of [`Egress::slices`].
    #[inline]
    pub fn egress_to_write(&mut self, id: ConnId, input: &[u8]) -> Option<&Egress> {
        let egress = self.conns.egress_mut(id)?;
        if egress.is_sealed() {
            match egress.seal(input, &mut self.outbox.store) {
                Ok(size) => self.turn.charge(turn::coded_bytes(size)),
                Err(_) => self.deferred.broken.push_back(id),
            }
        }
        Some(egress)
    }
}
