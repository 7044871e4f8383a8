//! The actions that a broker's core requests at the end of a turn.

use super::{Node, State};
use crate::context::SocketKey;
use crate::context::{Context, Dial, Event, Listener, MILLISECOND, Owner};
use crate::mirror::Phase;
use crate::random::mix;
use broker::config::Endpoint;
use broker::limits::LINGER;
use broker::{Action, ConnId, ListenerId, SLICES_MAX};
use std::io::{ErrorKind, IoSlice};
use std::time::Instant;

impl Node {
    /// Inspects the connections that will be closed.
    pub(super) fn before_settling(&mut self) {
        let mut gone: Vec<ConnId> = self.dying.iter().chain(&self.broken).copied().collect();
        gone.sort_unstable();
        gone.dedup();
        for id in gone {
            if let Some(egress) = self.core.egress(id) {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let count = egress.plain_slices(&[], &mut slices);
                if egress.is_sealed()
                    && let Some(mirror) = self.model.mirrors.get_mut(&id)
                {
                    mirror.begin_sealing();
                }
                self.model.dying(id, &slices[..count]);
            }
        }
        // Its close may be left to a later turn, and its queue grow until then.
        let dying = std::mem::take(&mut self.dying);
        let open = dying.into_iter().filter(|id| self.is_open(*id));
        self.dying = open.collect();
    }

    pub(super) fn after_settling(&mut self) {
        for id in std::mem::take(&mut self.broken) {
            if let Some(mirror) = self.model.mirrors.get_mut(&id) {
                mirror.is_mute |= mirror.is_live();
            }
        }
    }

    /// Does all actions of the core; returns whether it had any.
    pub(super) fn finish_turn(&mut self, ctx: &mut Context, now: Instant) -> bool {
        let mut has_acted = false;
        loop {
            let mut actions: Vec<Action> = Vec::new();
            while let Some(action) = self.core.poll_action() {
                actions.push(action);
            }
            // Actions of different connections have no order.
            let salt = ctx.random.next();
            actions.sort_by_key(|action| match action {
                Action::Close { id, .. } | Action::CheckAcks(id) | Action::Resume(id) => {
                    mix(salt ^ id.slot() as u64)
                }
                Action::Connect(_)
                | Action::Listen(_)
                | Action::OpenHttp
                | Action::Record(_)
                | Action::Reload
                | Action::ResumeAll
                | Action::ServeHttp
                | Action::StopConnecting(_)
                | Action::StopListening(_) => mix(salt),
            });
            has_acted |= !actions.is_empty();
            let closing = actions.iter().filter_map(|action| match action {
                Action::Close { id, .. } => Some(*id),
                _ => None,
            });
            let closing: Vec<ConnId> = closing.collect();
            self.called(ctx, now, &closing);
            self.note_cut_off(ctx, &actions);
            for action in actions {
                if let Action::Resume(id) = action
                    && closing.contains(&id)
                {
                    // Its input goes with it, as a waiting one.
                    continue;
                }
                self.act(ctx, now, action);
            }
            while let Some(id) = self.core.poll_dirty() {
                has_acted = true;
                self.write(ctx, id, &[]);
            }
            self.before_settling();
            self.note_leaving();
            let has_more = self.core.run_deferred(now);
            self.after_settling();
            if !has_more {
                return has_acted;
            }
        }
    }

    /// Finds connections that a stop closes although their input could still be forwarded.
    pub(super) fn note_cut_off(&mut self, ctx: &Context, actions: &[Action]) {
        let ends = |action: &Action| match action {
            Action::Close { id, .. } => self.model.mirrors[id].phase == Phase::Ready,
            _ => false,
        };
        let drain = ctx.span(self.config.drain_timeout);
        let Some(stopped_at) = self.stopped_at.filter(|_| actions.iter().any(ends)) else {
            return;
        };
        let is_first = self.drained_at.is_none();
        self.drained_at.get_or_insert(ctx.now);
        if ctx.now >= stopped_at + drain || self.is_hurried || self.is_impatient() {
            return;
        }
        if is_first {
            self.model.excuse_lonely();
        }
        for action in actions {
            if let Action::Close { id, .. } = action
                && self.hosts[id].is_suspended
                && self.model.has_takers(*id)
            {
                self.cut_off.insert(*id);
            }
        }
    }

    pub(super) fn act(&mut self, ctx: &mut Context, now: Instant, action: Action) {
        match action {
            Action::Connect(link) => {
                let Some((endpoint, _)) = self.core.link(link) else {
                    return;
                };
                let port = port(endpoint);
                let dial = Dial {
                    from: Owner::Node(self.index),
                    link: Some(link),
                    port,
                };
                let at = ctx.now + ctx.random.range(1_000..=5 * MILLISECOND);
                ctx.trace
                    .note(ctx.now, "dial", [self.index, port.into(), 0]);
                ctx.queue.push(at, Event::Dial(dial));
            }
            Action::Close { id, lingers } => {
                self.turn_away(ctx, now, id);
                let host = self.hosts.get_mut(&id).expect("it is closed once");
                assert_eq!(host.state, State::Open, "{id:?} is closed once");
                let is_excused = (host.is_suspended || host.is_cut) && !self.cut_off.contains(&id);
                let SocketKey { proxy, .. } = self.model.mirrors[&id].socket;
                let was_ready = self.model.mirrors[&id].phase == Phase::Ready;
                if self.model.terminated.contains_key(&proxy) && was_ready {
                    self.terminated.entry(proxy).or_insert(ctx.now);
                }
                if self.stopped_at.is_some() && self.model.mirrors[&id].is_live() {
                    self.parted.insert(host.plug);
                }
                let received = self.core.messages_received(id);
                self.model.closed(id, received, is_excused);
                if lingers {
                    host.state = State::Flushing(ctx.now + ctx.span(LINGER));
                } else if ctx.random.chance(20) {
                    host.state = State::Leaving(ctx.now + ctx.random.range(0..=MILLISECOND));
                } else {
                    self.drop_host(ctx, now, id);
                }
            }
            Action::CheckAcks(id) => {
                let cable = self.hosts.get(&id).map(|host| host.plug.cable);
                // The kernel has no information on a peer without unacknowledged data.
                let is_known = ctx.random.chance(80);
                ctx.coverage.add("suspects", 1);
                if cable.is_some_and(|cable| ctx.is_silent(cable)) && is_known {
                    self.core.handle_unreachable(id);
                }
            }
            Action::Resume(id) => {
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.is_suspended = self.core.is_suspended(id);
                }
                self.read_later(id);
            }
            Action::ServeHttp => self.serve_http(now),
            Action::ResumeAll => {
                let all: Vec<ConnId> = self.hosts.keys().copied().collect();
                for id in all {
                    self.read_later(id);
                }
            }
            Action::Listen(id) => self.listen(ctx, id),
            Action::OpenHttp => self.open_http(),
            Action::Record(proxy) => self.begin_recording(now, proxy),
            Action::Reload => self.begin_reload(ctx),
            // The core refuses an attempt that succeeds nevertheless.
            Action::StopConnecting(_) => {}
            Action::StopListening(id) => self.stop_listening(ctx, id),
        }
    }

    fn begin_reload(&mut self, ctx: &mut Context) {
        let later = ctx.random.range(0..=20 * MILLISECOND);
        self.wake(ctx, ctx.now + later);
        self.reminders += 1;
        self.is_reloading = true;
    }

    fn listen(&mut self, ctx: &mut Context, id: ListenerId) {
        let (endpoint, _) = self.core.listener(id).expect("it is asked for");
        let endpoint = endpoint.clone();
        if matches!(endpoint, Endpoint::Ipc(_)) {
            // The simulated network has no peers for the control of the broker.
            self.broker_controls.insert(id);
            return self.core.handle_listening(id, endpoint);
        }
        // Another listener of this port overlaps with it, whatever their addresses.
        let former = ctx.ports.get(&port(&endpoint));
        let former = former.filter(|it| it.owner == Owner::Node(self.index));
        if former.is_some_and(|it| it.socket.is_some_and(|(_, other)| other != id)) {
            let error = ErrorKind::AddrInUse.into();
            return self.core.handle_listen_failed(id, error);
        }
        let listener = Listener {
            is_up: true,
            owner: Owner::Node(self.index),
            socket: Some((self.socket_of(&endpoint), id)),
        };
        ctx.ports.insert(port(&endpoint), listener);
        self.core.handle_listening(id, endpoint);
    }

    fn stop_listening(&mut self, ctx: &mut Context, id: ListenerId) {
        if self.broker_controls.remove(&id) {
            return;
        }
        let is_running = self.stopped_at.is_none();
        let what = "sockets closed while others run";
        ctx.coverage.add(what, u64::from(is_running));
        if is_running && self.repertoire.is_any && !ctx.is_calm {
            // It may come again, and peers go on trying.
            for listener in ctx.ports.values_mut() {
                if listener.socket.is_some_and(|(_, other)| other == id)
                    && listener.owner == Owner::Node(self.index)
                {
                    (listener.is_up, listener.socket) = (false, None);
                }
            }
            return;
        }
        ctx.ports.retain(|_, listener| {
            listener.owner != Owner::Node(self.index)
                || listener.socket.is_none_or(|(_, other)| other != id)
        });
    }
}

pub(super) fn port(endpoint: &Endpoint) -> u16 {
    match endpoint {
        Endpoint::Tcp { port, .. } => *port,
        _ => unreachable!("the simulated network has nothing else"),
    }
}
