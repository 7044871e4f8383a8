//! The end of a broker's connections, and of the broker itself.

use super::{Node, State};
use crate::context::{Context, Owner};
use crate::net::Received;
use broker::ConnId;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

impl Node {
    /// Advances connections that are being closed.
    pub(super) fn finish_closing(&mut self, ctx: &mut Context, now: Instant) {
        let closing = self
            .hosts
            .iter()
            .filter(|(_, host)| host.state != State::Open);
        let closing: Vec<ConnId> = closing.map(|(id, _)| *id).collect();
        for id in closing {
            let host = self.hosts.get_mut(&id).expect("it is there");
            let (plug, mut deadline) = (host.plug, 0);
            if let State::Leaving(at) = host.state {
                deadline = at;
            }
            if let State::Flushing(at) = host.state {
                deadline = at;
                if self.core.egress(id).is_none_or(|egress| egress.is_empty()) {
                    ctx.finish(plug);
                    host.state = State::Lingering(at);
                }
            }
            let mut is_finished = false;
            if let State::Lingering(at) = host.state {
                deadline = at;
                let scratch = &mut self.scratch;
                is_finished = loop {
                    match ctx.read(plug, scratch) {
                        Received::Data(_) => {}
                        Received::Nothing => break false,
                        Received::Broken(_) | Received::End => break true,
                    }
                };
            }
            if !is_finished && deadline <= ctx.now && host.state != State::Leaving(deadline) {
                self.impatient.insert(plug);
            }
            if is_finished || deadline <= ctx.now {
                self.drop_host(ctx, now, id);
            }
        }
        // A newcomer may have waited for a free slot.
        self.finish_turn(ctx, now);
        if self.core.is_stopped() {
            self.gone_at.get_or_insert(ctx.now);
        }
    }

    pub(super) fn drop_host(&mut self, ctx: &mut Context, now: Instant, id: ConnId) {
        let host = self.hosts.remove(&id).expect("it is dropped once");
        self.by_cable.remove(&host.plug.cable);
        ctx.close(host.plug);
        self.reminders += 1;
        self.core.handle_closed(now, id);
    }

    /// Whether a side drops its queues before their time is over.
    pub(crate) fn is_impatient(&self) -> bool {
        let mut sides = self
            .config
            .proxies
            .iter()
            .flat_map(|proxy| proxy.sockets().map(|side| proxy.socket(side)));
        sides.any(|side| side.options.linger.is_some())
    }

    /// Whether a proxy that was told to end had no time to send its queues.
    pub(crate) fn has_cut_off(&self, proxy: u32) -> bool {
        let Some(told_at) = self.model.terminated.get(&proxy) else {
            return false;
        };
        let deadline = *told_at + self.config.drain_timeout;
        let closed_at = self.terminated.get(&proxy);
        let closed_at = closed_at.map(|at| self.base + Duration::from_nanos(*at));
        self.is_impatient() || closed_at.is_none_or(|at| at >= deadline)
    }

    /// Begins to stop, or stops at once if it was stopping already.
    pub(crate) fn stop(&mut self, ctx: &mut Context) {
        let now = self.now(ctx);
        self.is_hurried = self.stopped_at.is_some();
        self.stopped_at.get_or_insert(ctx.now);
        self.before_settling();
        self.core.handle_stop(now);
        self.after_settling();
        self.reminders += 2;
        self.finish_turn(ctx, now);
        self.finish_closing(ctx, now);
        self.wake(ctx, ctx.now);
    }

    /// Drops everything, as when the process is killed.
    pub(crate) fn kill(&mut self, ctx: &mut Context) {
        self.is_dead = true;
        for host in self.hosts.values() {
            ctx.reset(host.plug.cable, ErrorKind::ConnectionReset);
        }
        for happening in std::mem::take(&mut self.inbox) {
            self.notice(ctx, happening);
        }
        for listener in ctx.ports.values_mut() {
            listener.is_up &= listener.owner != Owner::Node(self.index);
        }
    }
}
