//! Compares the units that the broker writes with the required ones.

use super::*;
use crate::message::take_number;

impl Model {
    /// The broker wrote the first `taken` bytes of what it offered.
    pub(crate) fn wrote(&mut self, id: ConnId, offered: &[IoSlice<'_>], taken: usize) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        for unit in mirror.tap(offered, taken) {
            self.begun(id, &unit);
        }
    }

    /// Compares the written messages with the required ones.
    pub(crate) fn reconcile(&mut self) {
        let mut news = Vec::new();
        for (id, mirror) in &mut self.mirrors {
            let socket = &mut self.sockets[index(mirror.socket)];
            while let Some(begun) = mirror.begun.pop_front() {
                let may_be_message = socket.may_be_next(mirror, &begun, self.now);
                let Begun { key, number, topic } = begun;
                if !may_be_message && let Some(taken) = mirror.offers.take(key) {
                    socket.check_number_of_value(*id, number, &taken);
                    if !taken.is_restored() {
                        mirror.last_number = mirror.last_number.max(number);
                    }
                    if !socket.blocks() {
                        mirror.miss_before(*id, taken.made_in);
                    }
                    news.extend(taken.is_news.then_some((mirror.socket, taken)));
                    continue;
                }
                let expected = if socket.blocks() {
                    take_in_order(*id, mirror, key)
                } else {
                    take_next(*id, mirror, socket, (key, self.now))
                };
                socket.check_number(*id, mirror, number, &expected);
                mirror.offers.supersede(&topic, expected.batch);
                mirror.offers.come_up_to(expected.batch);
                if expected.is_excused {
                    mirror.offers.may_have_come(&expected);
                }
            }
        }
        for (socket, taken) in news {
            self.sockets[index(socket)].learn_value(&taken);
            let mirrors = self.mirrors.values_mut();
            for mirror in mirrors.filter(|mirror| mirror.socket == socket) {
                mirror.offers.learn(&taken);
            }
        }
    }

    pub(super) fn begun(&mut self, id: ConnId, unit: &Unit) {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let socket = index(mirror.socket);
        let socket_type = self.sockets[socket].socket_type;
        if let Some((add, topic)) = told(socket_type, unit) {
            let is_news = if add {
                mirror.view.insert(topic.clone())
            } else {
                mirror.view.remove(&topic)
            };
            let what = if add { "subscription" } else { "cancel" };
            let may_repeat = self.hears_twice(id);
            assert!(
                is_news || may_repeat,
                "{id:?} was told twice: {what} {}",
                topic.escape_ascii()
            );
            return;
        }
        if unit.is_command {
            return;
        }
        assert!(
            mirror.was_ready,
            "{id:?} was sent a message in its handshake"
        );
        mirror.begun_messages += 1;
        if mirror.greeting.as_ref() == Some(&unit.bytes) {
            mirror.greeting = None;
            mirror.greetings += 1;
            return;
        }
        mirror.begun_bytes += unit.bytes.len() as u64;
        if mirror.socket.side.side().is_none() {
            return self.begun_beside(id, &unit.bytes);
        }
        let is_labelled = self.is_labelled(socket);
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        match socket_type {
            SocketType::Dealer if !is_labelled => {
                let key = key_of(self.style, &unit.bytes);
                self.begun_by_turns(id, key);
            }
            SocketType::Dealer => {
                let mut frames = Frames::new(&unit.bytes);
                let identity = frames.next().expect("a message has a frame").body;
                let key = key_of(self.style, frames.rest());
                let source = self.begun_by_turns(id, key);
                // Two misbehaving peers may send equal messages.
                if let Key::Numbered(..) = key {
                    self.learn(source, identity);
                }
            }
            SocketType::Push => {
                let key = key_of(self.style, &unit.bytes);
                self.begun_by_turns(id, key);
            }
            _ => {
                let (bytes, number) = self.sockets[socket].apart(&unit.bytes);
                let key = key_of(self.style, &bytes);
                let is_wild = socket_type == SocketType::Router && matches!(key, Key::Other(_));
                if !(is_wild || mirror.is_wild || self.sockets[socket].is_vague) {
                    let topic = Frames::new(&bytes).next();
                    let topic = topic.map_or(Vec::new(), |frame| beginning(frame.body));
                    mirror.begun.push_back(Begun { key, number, topic });
                }
            }
        }
    }

    /// Whether messages that a socket sends have the identity of the sender in front.
    pub(super) fn is_labelled(&self, socket: usize) -> bool {
        let front =
            socket / SocketName::ALL.len() * SocketName::ALL.len() + SocketName::Frontend as usize;
        self.sockets[front].socket_type == SocketType::Router
    }

    /// Whether a publisher gets a subscription or cancel again.
    pub(super) fn hears_twice(&self, id: ConnId) -> bool {
        let across = self.mirrors[&id].socket.across();
        across.is_some_and(|across| {
            let options = &self.sockets[index(across)].options;
            options.xpub_verbose || options.xpub_verboser
        })
    }

    /// A message for one of many peers is being written to `id`; returns its source.
    pub(super) fn begun_by_turns(&mut self, id: ConnId, key: Key) -> ConnId {
        let mirror = self.mirrors.get_mut(&id).expect("it is connected");
        let socket = &mut self.sockets[index(mirror.socket)];
        let fate = socket.fates.get_mut(&key);
        let fate = fate.unwrap_or_else(|| panic!("{id:?} was sent {key:?}, which no peer sent"));
        fate.begun += 1;
        assert!(fate.begun <= fate.heard, "{key:?} was sent on twice");
        if matches!(key, Key::Numbered(..)) {
            let last = mirror.orders.entry(fate.source).or_default();
            socket.late += u64::from(fate.order < *last);
            *last = fate.order.max(*last);
        }
        match fate.taken_back {
            Some(batch) => assert!(
                mirror.newest_batch <= batch || socket.requeued.is_none(),
                "{key:?} was taken back and then overtaken on its way to {id:?}"
            ),
            None => mirror.newest_batch = mirror.newest_batch.max(fate.batch),
        }
        fate.source
    }

    /// A request of `source` has this identity in front.
    pub(super) fn learn(&mut self, source: ConnId, identity: &[u8]) {
        let mirror = self.mirrors.get_mut(&source).expect("it is connected");
        let shown = identity.escape_ascii();
        if !mirror.identity.is_empty() {
            assert_eq!(
                mirror.identity, identity,
                "{source:?} is called {shown}, which it did not announce"
            );
            return;
        }
        if let Some(given) = &mirror.given {
            assert_eq!(given, identity, "{source:?} has two identities");
            return;
        }
        mirror.given = Some(identity.to_vec());
        let socket = &mut self.sockets[index(mirror.socket)];
        let former = socket.given.insert(identity.to_vec(), source);
        assert_eq!(former, None, "the identity {shown} was given away twice");
    }
}

impl SocketModel {
    /// A message that it sends without the number behind it, and that number.
    fn apart(&self, message: &[u8]) -> (Vec<u8>, Option<u64>) {
        if !self.numbers.as_ref().is_some_and(|it| it.are_shown) {
            return (message.to_vec(), None);
        }
        let (bytes, number) = take_number(message);
        (bytes, Some(number))
    }

    /// Whether what a peer was sent may be the message that it must be sent; if not, it is a value.
    fn may_be_next(&self, mirror: &Mirror, begun: &Begun, now: Instant) -> bool {
        let found = mirror.expected.iter().position(|it| it.key == begun.key);
        let Some(at) = found else { return false };
        if !mirror.offers.has(begun.key) {
            return true;
        }
        if begun.number.is_some() && begun.number <= mirror.last_number {
            return false;
        }
        let expected = &mirror.expected[at];
        let before = at.checked_sub(1).map(|before| &mirror.expected[before]);
        let skipped = match before {
            Some(before) => before.is_single.then_some(before.batch),
            None => mirror.skipped,
        };
        let max_age = self.options.max_age;
        let is_late = !max_age.is_zero() && now - expected.at > max_age;
        let is_alone = !expected.is_single || skipped != Some(expected.batch);
        self.blocks() || !is_late && (self.is_lossy || is_alone)
    }
}

impl Mirror {
    /// It was sent a value that was queued behind everything from before this input.
    fn miss_before(&mut self, id: ConnId, batch: u64) {
        while let Some(expected) = self.expected.pop_front_if(|it| it.batch < batch) {
            assert!(
                expected.is_excused,
                "{id:?} missed {:?} though its queue was not full; then came a value",
                expected.key
            );
            self.missed += 1;
        }
    }
}

/// Removes a message that `id` was sent from those that it must be sent. Those in front of it were
/// dropped.
fn take_next(
    id: ConnId,
    mirror: &mut Mirror,
    socket: &SocketModel,
    (key, now): (Key, Instant),
) -> Expected {
    let expected = loop {
        let expected = mirror.expected.pop_front();
        let expected = expected.unwrap_or_else(|| {
            panic!("{id:?} was sent {key:?}: not for it, or twice, or out of order")
        });
        if expected.key == key {
            break expected;
        }
        assert!(
            expected.is_excused,
            "{id:?} missed {:?} though its queue was not full; then came {key:?}",
            expected.key
        );
        mirror.missed += 1;
        mirror.skipped = expected.is_single.then_some(expected.batch);
    };
    let (max_age, age) = (socket.options.max_age, now - expected.at);
    assert!(
        max_age.is_zero() || age <= max_age,
        "{id:?} was sent {key:?} after {age:?}, {max_age:?} are allowed"
    );
    // A message that went on late has the batch of the input before it.
    let is_alone = !expected.is_single || mirror.skipped != Some(expected.batch);
    assert!(
        socket.is_lossy || is_alone,
        "{id:?} was sent {key:?} though its queue had been full before"
    );
    expected
}

/// Removes a message that `id` was sent from those that it must be sent. If messages of several
/// senders had to wait, the order between senders is unknown.
fn take_in_order(id: ConnId, mirror: &mut Mirror, key: Key) -> Expected {
    let sender = |key| match key {
        Key::Numbered(_, sender, _) => Some(sender),
        Key::Other(_) => None,
    };
    let found = mirror.expected.iter().position(|it| it.key == key);
    let at = found.unwrap_or_else(|| panic!("{id:?} was sent {key:?}: not for it, or twice"));
    let before = mirror.expected.iter().take(at);
    let missed = before.filter(|it| sender(it.key).is_some() && sender(it.key) == sender(key));
    for expected in missed {
        assert!(
            expected.is_excused,
            "{id:?} missed {:?} though it had to wait; then came {key:?}",
            expected.key
        );
    }
    mirror.expected.remove(at).expect("it is there")
}

/// Whether `unit` is a subscription or cancel for a publisher.
fn told(socket_type: SocketType, unit: &Unit) -> Option<(bool, Vec<u8>)> {
    if socket_type != SocketType::Xsub {
        return None;
    }
    let frame = Frames::new(&unit.bytes).next()?;
    if unit.is_command {
        return match Command::parse(frame.body) {
            Ok(Command::Subscribe(topic)) => Some((true, topic.to_vec())),
            Ok(Command::Cancel(topic)) => Some((false, topic.to_vec())),
            _ => None,
        };
    }
    match frame.body.split_first() {
        Some((first @ (0 | 1), topic)) if !frame.more => Some((*first == 1, topic.to_vec())),
        _ => None,
    }
}
