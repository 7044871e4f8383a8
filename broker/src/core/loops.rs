//! Brokers connected in a ring send a message round without end: finding the ring, and opening it.
//!
//! ```text
//!            up                       each end of a new connection says that it is there;
//!   A ◄───────────── C                the other then sends a probe the way that messages from
//!   │ probe          ▲ probe          there go: it comes back over that very connection exactly
//!   └──────► B ──────┘                if there is a ring, and then that is closed.
//! ```
//!
//! Every connection is probed when both its ends can pass probes on. Of those of a ring one is the
//! last, and its probe finds all others in place. No topology is remembered, so that none can be
//! out of date, and a probe closes nothing but the connection that it is about: its number is new
//! each time, and known only to brokers that messages reach from here.

use crate::conn::{Conn, Input, Origin};
use crate::core::Core;
use crate::core::timers::Owner;
use crate::ids::{ConnId, SocketId};
use crate::limits::{LOOP_TRIAL, PROBE_HOPS_MAX, PROBES_WAITING_MAX};
use crate::pattern::Pattern;
use crate::proxy::loop_peers::LoopPeers;
use crate::reason::CloseReason;
use std::time::Instant;
use zmtp::{LoopCheck, LoopCommand, Peer, Probe};

impl Core {
    /// The handshake with a broker is over; greets it if both look for loops.
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

    /// A connection of a broker has ended.
    pub(super) fn remove_loop_peer(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.loop_peer.take().is_some()
        {
            let socket = &mut self.sockets[conn.socket];
            socket.loop_peers.peers.remove(&id);
        }
    }

    /// A connection that closed a loop before is there again: for some time nothing but probes
    /// passes over it. The end that connected says when that is over.
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

    /// No loop was found in time.
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

    /// A peer says something about loops; false if its connection is part of one and given up.
    /// Peers that have not said that they look for loops are not listened to.
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
        // Messages that came before it go before it.
        self.outbox.end_runs(&mut self.conns, input);
        match said {
            // One probe for each connection: the peer cannot have more of them made.
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

    /// Asks all brokers that messages of this connection go to whether they come back to it.
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
        // What is said to an auxiliary socket goes nowhere.
        let Some(to) = from.across.filter(|_| from.receives()) else {
            return Vec::new();
        };
        let (to, capture) = (&self.sockets[to], self.proxies[from.proxy].capture);
        let mut exits: Vec<ConnId> = match from.pattern {
            Pattern::Echo => vec![id],
            _ if to.sends() => to.loop_peers.peers.iter().copied().collect(),
            _ => Vec::new(),
        };
        // Copies can lead back as well.
        if let Some(capture) = capture {
            exits.extend(&self.sockets[capture].loop_peers.peers);
        }
        exits
    }

    /// Passes a probe on, unless there are more in that queue than any honest broker causes.
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

    /// Tells the log of a loop, the first time as an error, and sees to it that a link of ours
    /// comes back on trial.
    fn report_loop(&mut self, id: ConnId, exit: Option<u32>) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let now = self.clock.now();
        let (origin, socket) = (conn.origin, conn.socket);
        let here = self.address_of(conn);
        // The peer can change the slot in a probe: other proxies are none of its business.
        let exit = exit.map(|slot| {
            let found = self.conns.in_slot(slot);
            found.filter(|(_, exit)| exit.proxy == self.sockets[socket].proxy)
        });
        let course = match exit {
            Some(Some((_, exit))) => {
                let there = self.address_of(exit);
                format!("what goes out to {there} comes back over it")
            }
            Some(None) => "what goes out comes back over it".to_owned(),
            None => "what comes in over it goes back to where it came from".to_owned(),
        };
        let level = if self.is_news(now, origin, socket) {
            log::Level::Error
        } else {
            log::Level::Debug
        };
        let (name, side) = self.names(socket);
        log::log!(
            level,
            "{name} {side}: closing {here}, a loop of brokers: {course}; take one connection of \
             the loop out of its configuration"
        );
    }

    /// Whether a loop over this connection was not reported yet, or long ago.
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
            Origin::Accepted => conn.peer.to_string(),
            Origin::Dialled(link) => self.links[link].endpoint.to_string(),
        }
    }
}
