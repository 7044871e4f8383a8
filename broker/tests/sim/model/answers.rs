//! Questions to a control, and the peers to which a REP or a control owes an answer.

use super::*;
use crate::context::SocketKey;

/// The question that is answered later.
const RELOAD: &[u8] = br#"{"command": "reload"}"#;

impl Model {
    /// A control received this message.
    pub(super) fn asked(&mut self, id: ConnId, message: &[u8]) {
        if self.mirrors[&id].socket.side == SocketName::Zap {
            return self.heard_answer(id, message);
        }
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        mirror.heard_messages += 1;
        mirror.heard_bytes += message.len() as u64;
        let SocketKey { proxy, side } = mirror.socket;
        if side == SocketName::Replay {
            return;
        }
        let is_rep = self.sockets[index(mirror.socket)].socket_type == SocketType::Rep;
        let mut frames = Frames::new(message);
        if is_rep {
            while frames.next().is_some_and(|frame| !frame.body.is_empty()) {}
        }
        let Some(command) = frames.next().map(|frame| frame.body) else {
            return;
        };
        if command == RELOAD {
            return self.reloading.push(id);
        }
        if command == b"TERMINATE" {
            self.terminate(proxy);
        }
        let text = String::from_utf8_lossy(command);
        let is_meant = |mirror: &Mirror| {
            let address = crate::node::address(mirror.plug).to_string();
            let quoted = format!("\"{address}\"");
            mirror.socket.proxy == proxy
                && mirror.phase != Phase::Closed
                && text.contains("\"kick\"")
                && text.contains(&quoted)
        };
        let mirrors = self.mirrors.iter().filter(|(_, mirror)| is_meant(mirror));
        // The sender is spared.
        let others = mirrors.map(|(id, _)| *id).filter(|other| *other != id);
        let kicked: Vec<ConnId> = others.collect();
        if let Some(watch) = &mut self.watches[proxy as usize] {
            self.asked += watch.asked(id, command, kicked.len(), is_rep);
        }
        self.kicked.extend(kicked);
    }

    /// Bytes are about to be written to `id`: finds answers of a control that are too old.
    pub(crate) fn writing(&mut self, core: &Core, id: ConnId) {
        let mirror = &self.mirrors[&id];
        let options = &self.sockets[index(mirror.socket)].options;
        let has_ages = mirror.socket.side == SocketName::Control && !options.max_age.is_zero();
        if let Some(egress) = core.egress(id).filter(|_| has_ages && mirror.is_live())
            && let Some(watch) = &mut self.watches[mirror.socket.proxy as usize]
        {
            watch.keep_answers(id, egress.messages() - mirror.begun_last());
        }
    }

    /// The number of questions since the last call.
    pub(crate) fn take_asked(&mut self) -> usize {
        std::mem::take(&mut self.asked)
    }

    /// A message to a reader of a capture, or to a peer of a control, is begun.
    pub(super) fn begun_beside(&mut self, id: ConnId, message: &[u8]) {
        let mirrors = &self.mirrors;
        let socket = mirrors[&id].socket;
        match socket.side {
            SocketName::Replay => return self.sent_again(id, message),
            SocketName::Zap => return self.requested(id, message),
            _ => {}
        }
        let is_rep = self.sockets[index(socket)].socket_type == SocketType::Rep;
        let watch = &mut self.watches[socket.proxy as usize];
        let watch = watch.as_mut().expect("the proxy has a capture or control");
        if socket.side == SocketName::Control {
            return watch.answered(id, message, is_rep);
        }
        let side_of = |sender: ConnId| mirrors[&sender].socket.side;
        if let Some((sender, identity)) = watch.shown(id, message, side_of) {
            self.learn(sender, identity);
        }
    }

    /// A REP gives the first answer to the peer that asked, however long it waits.
    pub(super) fn check_answered(&mut self, core: &Core, closing: &[ConnId]) {
        for proxy in (0..).take(self.watches.len()) {
            let side = SocketName::Frontend;
            let key = SocketKey { proxy, side };
            let front = index(key);
            if self.sockets[front].socket_type != SocketType::Rep {
                continue;
            }
            let (mut answers, mut asker) = (0, None);
            let mirrors = self.mirrors.iter_mut();
            for (id, mirror) in mirrors.filter(|(_, it)| it.socket.proxy == proxy) {
                let received = core.messages_received(*id);
                if received > mirror.passed_steps {
                    let is_answer = mirror.socket.side == SocketName::Backend;
                    answers += u64::from(is_answer) * (received - mirror.passed_steps);
                    asker = (!is_answer).then_some(*id).or(asker);
                    mirror.passed_steps = received;
                }
            }
            let snapshots = core.statistics();
            let mut own = snapshots.iter().filter(|it| it.socket == side);
            let own = own.nth(proxy as usize).expect("each proxy has a frontend");
            let unasked = own
                .counters
                .dropped(broker::reason::DropReason::NotExpected);
            let is_worker = |id: &ConnId| Some(self.mirrors[id].socket) == key.across();
            let mut behind = snapshots
                .iter()
                .filter(|it| it.socket == SocketName::Backend);
            let behind = behind.nth(proxy as usize).expect("each has a backend");
            let lost = behind.counters.drops.iter().sum();
            let socket = &mut self.sockets[front];
            // The request may have gone with its worker, or was dropped.
            let has_lost = std::mem::replace(&mut socket.lost, lost) < lost;
            if has_lost || closing.iter().any(is_worker) {
                socket.requester = None;
                asker = asker.filter(|_| !has_lost);
            }
            let more = unasked - std::mem::replace(&mut socket.unasked, unasked);
            let is_there = |id: &ConnId| self.mirrors[id].is_live() && !closing.contains(id);
            if let Some(id) = socket.requester.filter(is_there) {
                assert!(
                    answers == 0 || more < answers,
                    "{id:?} was not given the answer that it waits for"
                );
            }
            if answers > 0 {
                socket.requester = None;
            } else if asker.is_some() {
                socket.requester = asker;
            }
        }
    }

    /// A control has queued this number of results of a reload for a peer that asked; a full one
    /// gets none.
    pub(crate) fn reloaded(&mut self, id: ConnId, count: usize, is_full: bool) {
        let own = self.mirrors[&id].socket;
        let watch = &mut self.watches[own.proxy as usize];
        let watch = watch.as_mut().expect("there is a control");
        for _ in 0..count {
            let at = self.reloading.iter().position(|asker| *asker == id);
            self.reloading.remove(at.expect("it has asked"));
            watch.answer_later(id);
        }
        let before = self.reloading.len();
        self.reloading.retain(|asker| *asker != id || !is_full);
        watch.unanswered += (before - self.reloading.len()) as u64;
    }
}
