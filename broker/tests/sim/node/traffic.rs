//! A broker's reading and writing.

use super::{Node, State};
use crate::context::{Context, SocketKey};
use crate::model::index;
use crate::net::{Received, Written};
use crate::watch::is_at_high_water;
use broker::config::SocketName;
use broker::{ConnId, Egress, Flow, Input, SLICES_MAX};
use std::collections::BTreeSet;
use std::io::IoSlice;

impl Node {
    /// Reads from established peers, as the budget of the turn allows; returns those that are left
    /// for later nevertheless.
    pub(super) fn read_all(&mut self, ctx: &mut Context) -> Vec<ConnId> {
        let mut put_off = Vec::new();
        while let Some(id) = self.core.poll_read() {
            // Not if signs of life may be among the bytes left for later.
            if !ctx.has_beats && ctx.random.chance(5) {
                put_off.push(id);
            } else {
                self.read(ctx, id);
            }
        }
        put_off
    }

    /// Reads from peers in their handshake; returns whether there were any.
    pub(super) fn read_newcomers(&mut self, ctx: &mut Context) -> bool {
        let mut has_any = false;
        while let Some(id) = self.core.poll_newcomer() {
            self.read(ctx, id);
            has_any = true;
        }
        has_any
    }

    /// Reads once and forwards the input, or continues with the rest of the last input.
    pub(super) fn read(&mut self, ctx: &mut Context, id: ConnId) {
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        if host.state != State::Open || !self.core.wants_input(id) {
            return;
        }
        if self.core.is_cut(id) {
            let targets = self.model.hear_decision(id);
            let mut input = self.core.begin_input(id, &mut self.scratch);
            self.handle_input(ctx, id, &mut input, &targets);
            self.core.end_input(id, input, &mut self.scratch);
            return self.read_later(id);
        }
        let plug = host.plug;
        let mut input = self.core.begin_input(id, &mut self.scratch);
        let spare = input.spare();
        assert!(!spare.is_empty(), "the input has no room");
        match ctx.read(plug, spare) {
            Received::Nothing => host.can_read = false,
            // Waiting messages go first; then the end is reported again.
            Received::End => {
                self.model.ended(id);
                self.core.handle_read_closed(id, None);
                self.dying.extend((!host.is_suspended).then_some(id));
            }
            Received::Broken(kind) => {
                self.model.ended(id);
                self.core.handle_read_closed(id, Some(&kind.into()));
                self.dying.extend((!host.is_suspended).then_some(id));
            }
            Received::Data(size) => {
                ctx.coverage
                    .add("read while parked", u64::from(host.is_suspended));
                let targets = self.model.hear(id, &spare[..size]);
                input.filled(size);
                self.handle_input(ctx, id, &mut input, &targets);
            }
        }
        self.core.end_input(id, input, &mut self.scratch);
        self.read_later(id);
    }

    pub(super) fn handle_input(
        &mut self,
        ctx: &mut Context,
        id: ConnId,
        input: &mut Input,
        targets: &BTreeSet<ConnId>,
    ) {
        let now = self.now(ctx);
        let (mut full, mut goes) = (BTreeSet::new(), 0);
        let mut before = self.core.egress(id).map_or(0, Egress::messages);
        loop {
            goes += 1;
            let asking = self.model.mirrors[&id].asking.is_some();
            let handlers = if asking {
                self.handlers_of(id)
            } else {
                Vec::new()
            };
            let flow = self.core.handle_input(now, id, input);
            for (handler, queued) in handlers {
                let has = self.core.egress(handler).map_or(0, Egress::messages);
                if has > queued {
                    self.model.asked_handler(id, handler);
                }
            }
            self.called(ctx, now, &[]);
            if flow != Flow::More {
                self.check_answers(ctx, id, before);
            }
            let is_full = |target: &&ConnId| {
                let options = &self.model.socket(**target).options;
                self.core.is_blocked(**target) && is_at_high_water(&self.core, **target, options)
            };
            full.extend(targets.iter().filter(is_full));
            let has_moved = self.write_urgent(ctx, input);
            match flow {
                Flow::Flush => {
                    assert!(has_moved, "{id:?} waits for a queue that cannot be written");
                    ctx.coverage.add("flushed for room", 1);
                    before = self.core.egress(id).map_or(0, Egress::messages);
                    continue;
                }
                Flow::Closed => {
                    ctx.coverage.add("protocol errors", 1);
                    self.dying.push(id);
                }
                Flow::Suspended => {
                    ctx.coverage.add("parked", 1);
                    self.hosts.get_mut(&id).expect("it is there").is_suspended = true;
                }
                Flow::Done => {}
                Flow::Paused => {
                    ctx.coverage.add("paused for their rate", 1);
                    self.hosts.get_mut(&id).expect("it is there").is_cut = true;
                    self.reminders += 1;
                    self.model.paused(id);
                }
                Flow::More => {
                    ctx.coverage.add("cut by the end of a turn", 1);
                    // The receivers and order of the rest are known only if it goes on now.
                    if !self.model.goes_to_one(id) {
                        self.check_work();
                        self.core.begin_turn(now);
                        continue;
                    }
                }
            }
            break;
        }
        self.model.handled(targets, &full, goes);
        if self.hosts.get(&id).is_some_and(|host| host.is_suspended) {
            self.model.parked(id);
        }
    }

    /// The handlers that may be asked about a peer, and the messages in their queues.
    fn handlers_of(&self, id: ConnId) -> Vec<(ConnId, u32)> {
        let zap = SocketKey {
            side: SocketName::Zap,
            ..self.model.mirrors[&id].socket
        };
        let all = self.hosts.keys().copied();
        let own = all.filter(|other| self.model.mirrors[other].socket == zap);
        own.map(|id| (id, self.core.egress(id).map_or(0, Egress::messages)))
            .collect()
    }

    /// A control answers at once, even if its proxy is blocked, unless its queue is full.
    pub(super) fn check_answers(&mut self, ctx: &mut Context, id: ConnId, before: u32) {
        let asked = self.model.take_asked();
        if asked == 0 {
            return;
        }
        self.dying.extend(&self.model.kicked);
        let socket = self.model.mirrors[&id].socket;
        let stuck = self.core.statistics();
        let is_stuck = stuck.iter().any(|socket| socket.waiting > 0);
        ctx.coverage.add("questions", asked as u64);
        ctx.coverage
            .add("questions while messages wait", u64::from(is_stuck));
        let after = self.core.egress(id).map_or(0, Egress::messages);
        let queued = (after - before) as usize;
        let watch = self.model.watches[socket.proxy as usize].as_mut();
        let watch = watch.expect("there is a control");
        assert!(queued <= asked, "{id:?}: more answers than questions");
        if queued < asked {
            let options = &self.model.sockets[index(socket)].options;
            // The room of one queue under a memory limit is unknown here.
            let is_full = is_at_high_water(&self.core, id, options) || self.model.may_shed;
            let is_live = self.model.mirrors[&id].is_live();
            assert!(
                is_full || !is_live,
                "{id:?}: {asked} questions, {queued} answers"
            );
            watch.not_answered(id, asked - queued, is_full);
        }
    }

    /// Lets the core encrypt the next messages of an encrypted connection: to the model, encrypted
    /// messages are written.
    fn seal(&mut self, ctx: &mut Context, id: ConnId, input: &[u8]) {
        let Some(egress) = self.core.egress(id) else {
            return;
        };
        if !egress.is_sealed() {
            self.core.egress_to_write(id, input);
            return;
        }
        let plain_bytes = |egress: &Egress| egress.bytes() - egress.sealed_bytes() as u64;
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = egress.plain_slices(input, &mut slices);
        let plain: Vec<Vec<u8>> = slices[..count].iter().map(|it| it.to_vec()).collect();
        let had = egress.slices(&[], &mut [IoSlice::new(&[]); SLICES_MAX]) > 0;
        let (sealed_before, plain_before) = (egress.sealed_bytes(), plain_bytes(egress));
        self.core.egress_to_write(id, input);
        let egress = self.core.egress(id).expect("it is there");
        let sealed = egress.sealed_bytes() - sealed_before;
        let taken = plain_before - plain_bytes(egress);
        let has = egress.slices(&[], &mut [IoSlice::new(&[]); SLICES_MAX]) > 0;
        let is_unfinished = !has && !egress.is_empty();
        let what = "long frames not encrypted at once";
        ctx.coverage.add(what, u64::from(is_unfinished));
        // Many frames, a frame that is not long, or a step.
        let step_max = (64 << 10).max(16 * self.model.coder_step_size + 64);
        assert!(
            sealed <= step_max,
            "{id:?}: {sealed} bytes are encrypted at once"
        );
        if let Some(mirror) = self.model.mirrors.get_mut(&id) {
            mirror.begin_sealing();
        }
        if had {
            assert_eq!(sealed, 0, "{id:?} encrypts before its kernel has taken all");
        } else if taken > 0 {
            let taken = usize::try_from(taken).expect("no more than there was");
            let plain: Vec<IoSlice<'_>> = plain.iter().map(|it| IoSlice::new(it)).collect();
            ctx.coverage.add("encrypted batches", 1);
            self.model.writing(&self.core, id);
            self.model.wrote(id, &plain, taken);
        }
    }

    /// Writes the queues that cannot wait; returns whether one has become shorter.
    fn write_urgent(&mut self, ctx: &mut Context, input: &Input) -> bool {
        let mut has_moved = false;
        while let Some(target) = self.core.poll_urgent() {
            ctx.coverage.add("written from the scratch", 1);
            // The memory limit may have emptied its queue after the message found it full.
            has_moved |= self.core.egress(target).is_some_and(Egress::is_empty);
            has_moved |= self.write(ctx, target, input.buffer());
            self.core.keep_rest(target, input);
        }
        has_moved
    }

    /// Writes a queue until the kernel accepts no more; returns whether anything was written.
    pub(super) fn write(&mut self, ctx: &mut Context, id: ConnId, input: &[u8]) -> bool {
        let Some(plug) = self.hosts.get(&id).map(|host| host.plug) else {
            return false;
        };
        let mut has_moved = false;
        while !self.core.is_blocked(id) {
            self.seal(ctx, id, input);
            let Some(egress) = self.core.egress(id).filter(|egress| !egress.is_empty()) else {
                break;
            };
            has_moved = true;
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            if count == 0 {
                // A long frame is being encrypted, of which nothing can be sent yet.
                if self.core.leaves_rest(id) {
                    ctx.coverage.add("encrypted in a later turn", 1);
                    return has_moved;
                }
                continue;
            }
            // The end of a message may be beyond the visible part of a very long queue.
            let offered = if count == SLICES_MAX {
                count - 2
            } else {
                count
            };
            match ctx.write(plug, &slices[..offered]) {
                Written::Taken(size) => {
                    assert!(size > 0, "an empty queue has something to write");
                    if !egress.is_sealed() {
                        self.model.writing(&self.core, id);
                        self.model.wrote(id, &slices[..count], size);
                    }
                    self.core.handle_written(id, size, false);
                    let egress = self.core.egress(id);
                    let has_more = egress.is_some_and(|egress| !egress.is_empty());
                    if has_more && input.is_empty() && self.core.leaves_rest(id) {
                        ctx.coverage.add("written in a later turn", 1);
                        return has_moved;
                    }
                }
                Written::Blocked => {
                    ctx.coverage.add("blocked", 1);
                    self.core.handle_written(id, 0, true);
                }
                Written::Broken => {
                    ctx.coverage.add("broken while writing", 1);
                    self.core.handle_write_failed(id);
                    self.broken.push(id);
                    self.hosts.get_mut(&id).expect("it is there").can_read = true;
                    self.read_later(id);
                    break;
                }
            }
        }
        has_moved
    }
}
