//! What must be true after every turn of a broker.

use super::{Node, State};
use crate::check::check_size;
use crate::context::Context;
use broker::config::Side;

impl Node {
    /// What must be true after every turn.
    pub(super) fn check_turn(&self, ctx: &Context) {
        for (id, host) in &self.hosts {
            let Some(egress) = self.core.egress(*id) else {
                panic!("{id:?} is forgotten before it is closed");
            };
            let is_stuck = !egress.is_empty() && !self.core.is_blocked(*id);
            assert!(!is_stuck, "{id:?} has something to send and nobody knows");
            check_size(*id, egress);
            let socket = self.model.socket(*id);
            let options = &socket.options;
            if options.sndhwm != 0 {
                assert!(
                    egress.messages() <= options.sndhwm,
                    "{id:?}: too many messages"
                );
            }
            // Subscriptions must not be lost and know no limit but their own; answers are as long
            // as they are.
            let is_limited = !matches!(
                (socket.socket_type, self.model.shadows[id].socket.side),
                (zmtp::SocketType::Xsub, _) | (_, Side::Control)
            );
            if is_limited {
                let largest = (socket.largest + 9 + 255) as u64;
                let limit = options.sndhwm_bytes + largest + 2 * broker::limits::CONTROL_BYTES_MAX;
                assert!(
                    egress.bytes() < limit,
                    "{id:?}: {} bytes queued",
                    egress.bytes()
                );
            }
            if host.state == State::Open && host.can_read && self.core.wants_input(*id) {
                assert!(host.is_queued, "{id:?} may be read and nobody does");
            }
        }
        let limit = self.config.memory_limit;
        if limit > 0 {
            let used = self.core.memory_in_use();
            // What the last step of the turn added.
            let most = limit + (1 << 20);
            assert!(used <= most, "{used} bytes in use, {limit} allowed");
        }
        assert!(
            ctx.has_beats || self.idle_turns <= self.reminders,
            "{} turns did nothing by {}",
            self.idle_turns,
            ctx.now
        );
    }

    /// Whether nothing of it will happen without somebody else.
    pub(crate) fn is_quiet(&self) -> bool {
        let is_sent = |id| self.core.egress(id).is_none_or(|egress| egress.is_empty());
        self.inbox.is_empty()
            && self.readable.is_empty()
            && !self.core.has_backlog()
            && self.hosts.keys().all(|id| is_sent(*id))
    }

    /// Runs a turn for which there is no reason.
    pub(crate) fn turn_for_nothing(&mut self, ctx: &Context) {
        let before = self.core.statistics();
        let now = self.now(ctx);
        self.core.handle_timeout(now, now);
        assert_eq!(self.core.poll_action(), None, "work without a reason");
        assert_eq!(self.core.poll_dirty(), None, "work without a reason");
        assert!(!self.core.settle(now), "work without a reason");
        assert!(!self.core.has_backlog(), "a backlog that never ends");
        assert!(
            self.core.statistics() == before,
            "figures change by themselves"
        );
    }
}
