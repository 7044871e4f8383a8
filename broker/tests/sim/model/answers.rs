//! The peers to which a REP or a control owes an answer.

use super::*;
use crate::context::SocketKey;

impl Model {
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
