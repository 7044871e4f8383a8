//! Rings of brokers, in which messages would circulate endlessly: detects a ring, and opens it.
//!
//! ```text
//!            up                       each end of a new connection sends UP; the other then
//!   A ◄───────────── C                sends a probe along the path of messages from there. It
//!   │ probe          ▲ probe          comes back over that same connection exactly if there is
//!   └──────► B ──────┘                a ring, and then both ends close the connection.
//! ```
//!
//! Every connection is probed when both its ends can pass probes on. One connection of a ring is
//! the last to reach that state, and its probe finds all others in place. Brokers store no topology
//! that could be out of date, and a probe can close only the connection that it was made for: its
//! number is new each time, and known only to brokers that messages from here reach.

use crate::conn::{Conn, Input, Origin};
use crate::core::Core;
use crate::core::events::{Facts, Place};
use crate::core::timers::Owner;
use crate::ids::{ConnId, SocketId};
use crate::limits::{LOOP_TRIAL, PROBE_HOPS_MAX, PROBES_WAITING_MAX};
use crate::pattern::Pattern;
use crate::proxy::loop_peers::LoopPeers;
use crate::reason::CloseReason;
use log::Level;
use std::time::Instant;
use zmtp::{LoopCheck, LoopCommand, Peer, Probe};

impl Core {
    /// Greets a broker after the handshake, if both look for loops.
    pub(super) fn add_loop_peer(&mut self, id: ConnId, peer: &Peer) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let is_known = conn.loop_peer.is_some();
        let checks = [peer.loop_check, conn.session.config().loop_check];
        if is_known || checks.contains(&LoopCheck::Off) {
            return;
        }
        conn.loop_peer = Some(Box::default());
        let socket = &mut self.sockets[conn.socket];
        socket.loop_peers.peers.insert(id);
        self.say(id, LoopCommand::Up);
    }

    /// Forgets a broker whose connection has ended.
    pub(super) fn remove_loop_peer(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.loop_peer.take().is_some()
        {
            let socket = &mut self.sockets[conn.socket];
            socket.loop_peers.peers.remove(&id);
        }
    }

    /// A connection that closed a loop before is up again: for some time it carries only probes.
    /// The end that connected ends that time.
    pub(super) fn begin_trial(&mut self, id: ConnId, peer: &Peer) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.egress.begin_traffic();
        let is_ours = conn.session.config().loop_check == LoopCheck::Trial;
        self.add_loop_peer(id, peer);
        if is_ours {
            let now = self.clock.now();
            self.timers.insert(now + LOOP_TRIAL, Owner::Trial(id));
        }
    }

    /// Ends a trial in whose time no loop was found.
    pub(super) fn check_trial(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if let Some(peer) = conn.session.end_trial(&mut self.scratch.session_out) {
            self.send_session_output(id);
            match self.take_in(id, &peer) {
                Ok(true) => {}
                Ok(false) => self.suspend_next(id),
                Err(why) => self.close_later(id, why),
            }
        }
    }

    /// Handles a loop command; false if its connection is part of a loop and will be closed.
    /// Commands from peers that do not look for loops are ignored.
    pub(super) fn handle_loop_command(
        &mut self,
        id: ConnId,
        said: LoopCommand,
        input: &Input,
    ) -> bool {
        let Some(conn) = self.conns.get_mut(id) else {
            return true;
        };
        let socket = conn.socket;
        let Some(loop_peer) = &mut conn.loop_peer else {
            return true;
        };
        let own = loop_peer.probe;
        // Messages received before it are queued before it.
        self.outbox.end_runs(&mut self.conns, input);
        match said {
            // One probe for each connection: a peer cannot cause more.
            LoopCommand::Up if own.is_none() => self.launch_probe(id, socket),
            LoopCommand::Up => {}
            LoopCommand::Probe(probe) if own == Some(probe.number) => {
                self.say(id, LoopCommand::Loop);
                self.report_loop(id, Some(probe.exit));
                self.close_later(id, CloseReason::Loop);
                return false;
            }
            LoopCommand::Probe(probe) => self.pass_probe_on(id, socket, probe),
            LoopCommand::Loop => {
                self.report_loop(id, None);
                self.close_later(id, CloseReason::Loop);
                return false;
            }
        }
        true
    }

    /// Sends a probe to all brokers that messages of this connection go to.
    fn launch_probe(&mut self, id: ConnId, socket: SocketId) {
        let number = self.random.wide_number();
        if let Some(loop_peer) = self
            .conns
            .get_mut(id)
            .and_then(|conn| conn.loop_peer.as_mut())
        {
            loop_peer.probe = Some(number);
        }
        self.loop_peers_mut(socket).is_new(number);
        for exit in self.exits(id, socket) {
            let probe = Probe {
                exit: exit.slot,
                hops: 0,
                number,
            };
            self.send_probe(exit, probe);
        }
    }

    fn pass_probe_on(&mut self, id: ConnId, socket: SocketId, probe: Probe) {
        let is_new = self.loop_peers_mut(socket).is_new(probe.number);
        if is_new && probe.hops < PROBE_HOPS_MAX {
            let hops = probe.hops + 1;
            for exit in self.exits(id, socket) {
                self.send_probe(exit, Probe { hops, ..probe });
            }
        }
    }

    fn loop_peers_mut(&mut self, id: SocketId) -> &mut LoopPeers {
        let socket = &mut self.sockets[id];
        &mut socket.loop_peers
    }

    /// The brokers that messages of this connection may go to.
    fn exits(&self, id: ConnId, socket: SocketId) -> Vec<ConnId> {
        let from = &self.sockets[socket];
        // Messages to an auxiliary socket go nowhere.
        let Some(to) = from.across.filter(|_| from.receives()) else {
            return Vec::new();
        };
        let (to, capture) = (&self.sockets[to], self.proxies[from.proxy].capture);
        let mut exits: Vec<ConnId> = match from.pattern {
            Pattern::Echo => vec![id],
            _ if to.sends() => to.loop_peers.peers.iter().copied().collect(),
            _ => Vec::new(),
        };
        // Copies can lead back too.
        if let Some(capture) = capture {
            exits.extend(&self.sockets[capture].loop_peers.peers);
        }
        exits
    }

    /// Sends a probe, unless the queue has more of them than any honest broker causes.
    fn send_probe(&mut self, id: ConnId, probe: Probe) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let is_idle = conn.egress.is_empty();
        let Some(loop_peer) = &mut conn.loop_peer else {
            return;
        };
        if is_idle {
            loop_peer.waiting = 0;
        }
        if loop_peer.waiting < PROBES_WAITING_MAX {
            loop_peer.waiting += 1;
            self.say(id, LoopCommand::Probe(probe));
        }
    }

    fn say(&mut self, id: ConnId, command: LoopCommand) {
        debug_assert!(
            self.scratch.session_out.is_empty(),
            "sessions have been answered"
        );
        command.append(&mut self.scratch.session_out);
        self.send_session_output(id);
    }

    /// Logs a loop, the first time as an error, and makes a link of ours come back on trial.
    fn report_loop(&mut self, id: ConnId, exit: Option<u32>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let now = self.clock.now();
        let (origin, socket) = (conn.origin, conn.socket);
        let here = self.address_of(conn);
        // A peer can change the slot in a probe: it must not learn about other proxies.
        let exit = exit.map(|slot| {
            let found = self.conns.in_slot(slot);
            found.filter(|(_, exit)| exit.proxy == self.sockets[socket].proxy)
        });
        let course = match exit {
            Some(Some((_, exit))) => {
                let there = self.address_of(exit);
                format!("messages sent to {there} come back over it")
            }
            Some(None) => "messages sent from here come back over it".to_owned(),
            None => "messages received over it go back to their sender".to_owned(),
        };
        let level = if self.is_news(now, origin, socket) {
            Level::Error
        } else {
            Level::Debug
        };
        let text = format!(
            "closing {here}, a loop of brokers: {course}; take one connection of the loop out of \
             its configuration"
        );
        self.tell(level, Place::Socket(socket), Facts::of(&here), &text);
    }

    /// Whether a loop over this connection was not reported yet, or not recently.
    fn is_news(&mut self, now: Instant, origin: Origin, socket: SocketId) -> bool {
        match origin {
            Origin::Accepted => self.loop_peers_mut(socket).may_report(now),
            Origin::Dialled(link) => {
                let link = &mut self.links[link];
                !std::mem::replace(&mut link.is_looped, true)
            }
        }
    }

    /// The name of a connection in the configuration: its endpoint, or the address of its peer.
    pub(super) fn address_of(&self, conn: &Conn) -> String {
        match conn.origin {
            Origin::Accepted => conn.named().to_string(),
            Origin::Dialled(link) => self.endpoint(link).to_string(),
        }
    }
}
