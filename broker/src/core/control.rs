//! Steering: the commands of `zmq_proxy_steerable`. zmqd's own commands, in JSON, are in
//! `query.rs`.
//!
//! Commands are handled where they are received, whatever the state of the proxy: an answer does
//! not depend on the path of messages.

use crate::config::{Side, SocketName};
use crate::conn::Input;
use crate::core::Core;
use crate::core::query::render_unanswered;
use crate::core::turn::cost;
use crate::ids::{ConnId, ProxyId, SocketId};
use crate::pattern::Admit;
use crate::reason::DropReason;
use zmtp::encode::{append_frame, append_message};
use zmtp::{Frames, SocketType};

/// The answer to a command.
enum Answer {
    /// One frame.
    Body(Vec<u8>),
    /// libzmq's answer to a command that only has an effect: an empty message from a REP, which
    /// must answer, and none from others.
    Done,
    /// It comes with the result of a reload.
    Later,
    /// A message in wire form.
    Wire(Vec<u8>),
}

impl Core {
    /// Handles the message at the front of `input`, which an auxiliary socket received, and
    /// consumes it.
    pub(super) fn handle_auxiliary(&mut self, id: ConnId, input: &mut Input, size: usize) {
        let Some(conn) = self.conns.get_mut(id) else {
            return input.consume(size);
        };
        let socket_id = conn.socket;
        let socket = &mut self.sockets[socket_id];
        match socket.name {
            SocketName::Replay => return self.handle_request(id, input, size),
            SocketName::Zap => return self.handle_zap_answer(id, input, size),
            _ => {}
        }
        let wire = &input.bytes()[..size];
        let envelope_size = match (socket.name, socket.pattern.admit(id, wire)) {
            (SocketName::Control, Admit::Pass { skip }) => skip,
            (_, Admit::Drop(reason)) => {
                socket.stats.count_drop(reason);
                return input.consume(size);
            }
            _ => {
                socket.stats.count_drop(DropReason::NotExpected);
                return input.consume(size);
            }
        };
        socket.stats.count_in(1, size);
        conn.traffic.count_received(1, size as u64);
        let (proxy, socket_type) = (socket.proxy, socket.session.socket_type);
        let (envelope, rest) = wire.split_at(envelope_size);
        // As in libzmq, a command is one frame; further frames are ignored.
        let command = Frames::new(rest).first();
        let answer = self.command(id, proxy, command);
        let answer_size = match &answer {
            Answer::Body(bytes) | Answer::Wire(bytes) => bytes.len() as u64,
            Answer::Done | Answer::Later => 0,
        };
        self.turn
            .charge(cost::ANSWER + answer_size * cost::ANSWER_BYTE);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.answered_in = self.turn.number;
        }
        let mut message = envelope.to_vec();
        match answer {
            _ if socket_type == SocketType::Sub => message.clear(),
            Answer::Body(body) => append_frame(&mut message, &body, false),
            Answer::Done if socket_type == SocketType::Rep => {
                append_frame(&mut message, b"", false);
            }
            Answer::Done => message.clear(),
            Answer::Later if self.reload.add(id, &message) => message.clear(),
            // What was asked for is done all the same, and a later question has the result.
            Answer::Later => append_frame(&mut message, &render_unanswered(), false),
            Answer::Wire(wire) => message.extend_from_slice(&wire),
        }
        self.send_answer(id, socket_id, &message);
        input.consume(size);
    }

    /// Whether a peer of a control has had an answer in this turn: its next question waits for the
    /// next turn. One that waits for a reload asks nothing else.
    pub(super) fn has_answered(&self, id: ConnId) -> bool {
        let answered_in = self.conns.get(id).map(|conn| conn.answered_in);
        answered_in == Some(self.turn.number)
    }

    /// Queues an answer, unless the peer asks and never reads.
    pub(super) fn send_answer(&mut self, id: ConnId, socket_id: SocketId, message: &[u8]) {
        let socket = &mut self.sockets[socket_id];
        if message.is_empty() {
            return;
        }
        let conn = self.conns.get(id);
        if conn.is_none_or(|conn| conn.is_at_high_water(&socket.options, u64::MAX)) {
            socket.stats.count_drop(DropReason::PeerFull);
            return;
        }
        socket.stats.count_out(1, 1, message.len());
        self.outbox.push_bytes(&mut self.conns, id, message, 1);
    }

    fn command(&mut self, id: ConnId, proxy: ProxyId, command: &[u8]) -> Answer {
        match command {
            b"STATISTICS" => Answer::Wire(self.steering_statistics(proxy)),
            [b'{', ..] => {
                let answer = self.answer_query(id, proxy, command);
                answer.map_or(Answer::Later, Answer::Body)
            }
            _ => {
                // The answer does not depend on the effect, as in libzmq.
                let _ = match command {
                    b"PAUSE" => self.admin_of(id).pause(proxy),
                    b"RESUME" => self.admin_of(id).resume(proxy),
                    b"TERMINATE" => self.admin_of(id).terminate(proxy),
                    _ => Ok(false),
                };
                Answer::Done
            }
        }
    }

    /// Eight numbers in the order of `zmq_proxy_steerable`, each a frame in this machine's byte
    /// order: frames and bytes received and sent, of the frontend and then of the backend.
    fn steering_statistics(&self, id: ProxyId) -> Vec<u8> {
        let is_meant = |other: ProxyId| other == id || self.proxies[id].is_own;
        let passed = |side| {
            let meant = self.proxies.iter().filter(|(other, _)| is_meant(*other));
            meant.fold((0_u64, 0_u64), |(frames, bytes), (_, proxy)| {
                let passed = proxy.observers.counters.passed(side);
                (frames + passed.frames, bytes + passed.bytes)
            })
        };
        let (front, back) = (passed(Side::Frontend), passed(Side::Backend));
        let frames = [
            front.0, front.1, back.0, back.1, back.0, back.1, front.0, front.1,
        ];
        let mut wire = Vec::new();
        append_message(&mut wire, &frames.map(u64::to_ne_bytes));
        wire
    }
}
