//! Commands of the embedding program, at random: pauses, resumes and ends proxies.

use super::Node;
use crate::context::{Context, SocketKey};
use broker::ProxyId;
use broker::config::SocketName;
use std::time::Instant;

impl Node {
    /// The faults are over: a paused proxy must go on.
    pub(crate) fn calm(&mut self, ctx: &mut Context) {
        if self.repertoire.steers && !self.is_dead {
            self.reminders += 1;
            self.wake(ctx, ctx.now);
        }
    }

    /// Gives a command, if the run is about that.
    pub(super) fn steer(&mut self, ctx: &mut Context, now: Instant) {
        if !self.repertoire.steers || self.stopped_at.is_some() {
            return;
        }
        if ctx.is_calm {
            for (id, proxy) in self.known() {
                if self.model.is_paused(proxy as usize) {
                    self.pause(ctx, now, (id, proxy), false);
                }
            }
            return;
        }
        let proxy = u32::try_from(ctx.random.below(self.proxies.len())).expect("few proxies");
        let side = SocketName::Frontend;
        let Some(id) = self.changeable(SocketKey { proxy, side }) else {
            return;
        };
        match ctx.random.below(20) {
            0..4 => self.pause(ctx, now, (id, proxy), true),
            // The first one goes on, or the broker would stop.
            4 if proxy > 0 => {
                assert_eq!(self.admin(now).terminate(id), Ok(true), "it goes on");
                assert_eq!(self.admin(now).terminate(id), Ok(false), "it ends already");
                self.model.terminate(proxy);
                ctx.coverage.add("proxies ended by the program", 1);
            }
            _ => self.pause(ctx, now, (id, proxy), false),
        }
        // Each connection may have been given a reason to be looked at.
        self.reminders += 2 * self.hosts.len() as u64 + 10;
    }

    /// Pauses a proxy or lets it go on. Only those with a capture or a control: the model looks at
    /// no others message by message.
    fn pause(
        &mut self,
        ctx: &mut Context,
        now: Instant,
        (id, proxy): (ProxyId, u32),
        is_paused: bool,
    ) {
        let was_paused = self.model.is_paused(proxy as usize);
        let Some(watch) = &mut self.model.watches[proxy as usize] else {
            return;
        };
        watch.is_paused = is_paused;
        let mut admin = self.admin(now);
        let changed = if is_paused {
            admin.pause(id)
        } else {
            admin.resume(id)
        };
        assert_eq!(changed, Ok(was_paused != is_paused), "proxy {proxy}");
        let pauses = u64::from(is_paused && !was_paused);
        ctx.coverage.add("proxies paused by the program", pauses);
    }
}
