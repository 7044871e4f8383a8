//! The end of a turn: its work is limited, the rest waits for the next, and proxies have equal
//! shares.

use crate::play::{Play, bound, listener_at, listening, proxy};
use broker::config::{
    Admission, Config, ProxyConfig, Reject, SocketConfig, SocketName, SocketOptions, Users,
};
use broker::limits::WORK_PER_TURN;
use broker::reason::DropReason;
use broker::{Action, ConnId, Core, Flow, SLICES_MAX};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zmtp::curve::{CurveClient, CurveServer, PublicKey, SecretKey};
use zmtp::encode::{append_command, append_frame, append_message};
use zmtp::plain::{Password, PasswordHash};
use zmtp::wire::greeting::Greeting;
use zmtp::wire::metadata::{SOCKET_TYPE, append_property};
use zmtp::{Coder, Event, Limits, MechanismConfig, STEP_SIZE, Session, SessionConfig, SocketType};

/// A driver whose kernel accepts all bytes, turn by turn.
struct Loop {
    core: Core,
    /// Whether the kernel accepts no bytes.
    is_stalled: bool,
    now: Instant,
    /// Bytes from peers that were not read yet.
    received: BTreeMap<ConnId, Vec<u8>>,
    scratch: Vec<u8>,
    sent: BTreeMap<ConnId, Vec<u8>>,
    /// The most work of a turn so far.
    work_max: u64,
}

impl Loop {
    #[expect(
        clippy::disallowed_methods,
        reason = "any instant works: the test moves it"
    )]
    fn run(config: &Config) -> Self {
        let now = Instant::now();
        Self {
            core: bound(now, config, 1),
            is_stalled: false,
            now,
            received: BTreeMap::new(),
            scratch: vec![0; 256 << 10],
            sent: BTreeMap::new(),
            work_max: 0,
        }
    }

    fn new(proxies: Vec<ProxyConfig>) -> Self {
        Self::run(&Config {
            proxies,
            ..Config::default()
        })
    }

    fn accept(&mut self, proxy: usize, side: SocketName) -> ConnId {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let socket = (proxy, side);
        let listener = listener_at(&self.core, socket);
        let id = self.core.handle_accepted(self.now, listener, peer);
        id.expect("every address may connect")
    }

    /// A peer connects, and shakes hands in the next turns; its first messages follow at once.
    fn join(
        &mut self,
        proxy: usize,
        side: SocketName,
        socket_type: SocketType,
        more: &[u8],
    ) -> ConnId {
        let id = self.accept(proxy, side);
        let (mut hello, mut metadata) = (Vec::new(), Vec::new());
        Greeting::new("NULL").emit(&mut hello);
        append_property(&mut metadata, SOCKET_TYPE, socket_type.name().as_bytes());
        append_command(&mut hello, "READY", &metadata);
        hello.extend_from_slice(more);
        self.send(id, &hello);
        id
    }

    fn subscribers(&mut self, proxy: usize, count: usize) -> Vec<ConnId> {
        self.subscribers_to(proxy, count, "")
    }

    fn subscribers_to(&mut self, proxy: usize, count: usize, topic: &str) -> Vec<ConnId> {
        let mut subscribe = Vec::new();
        append_command(&mut subscribe, "SUBSCRIBE", topic.as_bytes());
        (0..count)
            .map(|_| self.join(proxy, SocketName::Backend, SocketType::Sub, &subscribe))
            .collect()
    }

    fn send(&mut self, id: ConnId, bytes: &[u8]) {
        self.received.entry(id).or_default().extend(bytes);
        self.core.read_later(id);
    }

    /// Runs one turn; returns its work.
    fn turn(&mut self) -> u64 {
        self.core.begin_turn(self.now);
        while let Some(id) = self.core.poll_read() {
            self.read(id);
        }
        self.core.handle_timeout(self.now, self.now);
        self.finish();
        while let Some(id) = self.core.poll_newcomer() {
            self.read(id);
        }
        self.finish();
        let work = self.core.work_of_turn();
        self.work_max = self.work_max.max(work);
        work
    }

    /// Runs turns until no work is left; returns their number.
    fn settle(&mut self) -> usize {
        let mut turns = 1;
        while self.turn() > 0 || self.core.has_backlog() {
            turns += 1;
            assert!(turns < 100_000, "the work never ends");
        }
        turns
    }

    fn read(&mut self, id: ConnId) {
        let is_cut = self.core.is_cut(id);
        let mut input = self.core.begin_input(id, &mut self.scratch);
        if !is_cut {
            let bytes = self.received.entry(id).or_default();
            let size = bytes.len().min(input.spare().len());
            input.spare()[..size].copy_from_slice(&bytes[..size]);
            input.filled(size);
            bytes.drain(..size);
        }
        while self.core.handle_input(self.now, id, &mut input) == Flow::Flush {
            self.write_urgent(&input);
        }
        self.write_urgent(&input);
        self.core.end_input(id, input, &mut self.scratch);
        if self.core.is_cut(id) || self.received.get(&id).is_some_and(|left| !left.is_empty()) {
            self.core.read_later(id);
        }
    }

    fn write_urgent(&mut self, input: &broker::Input) {
        while let Some(target) = self.core.poll_urgent() {
            self.write(target, input.buffer());
            self.core.keep_rest(target, input);
        }
    }

    fn write(&mut self, id: ConnId, input: &[u8]) {
        if self.is_stalled {
            return self.core.handle_written(id, 0, true);
        }
        while let Some(egress) = self
            .core
            .egress_to_write(id, input)
            .filter(|egress| !egress.is_empty())
        {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = egress.slices(input, &mut slices);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|it| it.to_vec()).collect();
            if count > 0 {
                self.core.handle_written(id, bytes.len(), false);
                self.sent.entry(id).or_default().extend(bytes);
            }
            if input.is_empty() && self.core.leaves_rest(id) {
                return;
            }
        }
    }

    fn finish(&mut self) {
        loop {
            while let Some(action) = self.core.poll_action() {
                match action {
                    Action::Close { id, .. } => self.core.handle_closed(self.now, id),
                    Action::Resume(id) => self.core.read_later(id),
                    _ => {}
                }
            }
            while let Some(id) = self.core.poll_dirty() {
                self.write(id, &[]);
            }
            if !self.core.run_deferred(self.now) {
                return;
            }
        }
    }

    fn sent_to(&self, id: ConnId) -> usize {
        self.sent.get(&id).map_or(0, Vec::len)
    }

    /// All peers are connected; figures count from here.
    fn start(&mut self) {
        self.settle();
        self.sent.clear();
        self.work_max = 0;
    }

    fn assert_bounded(&self) {
        let most = 2 * WORK_PER_TURN;
        assert!(self.work_max <= most, "{} units in a turn", self.work_max);
    }
}

fn message(size: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    append_frame(&mut wire, &vec![b'x'; size], false);
    wire
}

#[test]
fn a_burst_to_thousands_of_subscribers_takes_many_turns() {
    let mut driver = Loop::new(vec![proxy("forwarder")]);
    let subscribers = driver.subscribers(0, 6000);
    let source = driver.join(0, SocketName::Frontend, SocketType::Pub, &[]);
    driver.start();
    let burst = message(200).repeat(40);
    driver.send(source, &burst);
    let turns = driver.settle();
    driver.assert_bounded();
    assert!(turns > 10, "{turns} turns");
    for id in subscribers {
        assert_eq!(driver.sent_to(id), burst.len(), "{id:?}");
    }
}

#[test]
fn messages_that_thousands_miss_take_many_turns() {
    let mut forwarder = proxy("forwarder");
    forwarder.backend.options.sndhwm = 1;
    let mut driver = Loop::new(vec![forwarder]);
    driver.subscribers_to(0, 500, "a");
    driver.subscribers_to(0, 500, "b");
    let source = driver.join(0, SocketName::Frontend, SocketType::Pub, &[]);
    driver.start();
    driver.is_stalled = true;
    let (mut both, count) = (Vec::new(), 500);
    append_frame(&mut both, b"a", false);
    append_frame(&mut both, b"b", false);
    driver.send(source, &both.repeat(count));
    let turns = driver.settle();
    driver.assert_bounded();
    assert!(turns > 100, "{turns} turns for half a million drops");
    // Messages with the same targets as the one before are counted with it.
    let mut one = Vec::new();
    append_frame(&mut one, b"a", false);
    driver.send(source, &one.repeat(2 * count));
    let turns = driver.settle();
    driver.assert_bounded();
    assert!(
        turns < 20,
        "{turns} turns for half a million drops of one run"
    );
}

#[test]
fn a_burst_to_thousands_that_read_nothing_is_in_memory_once() {
    let mut driver = Loop::new(vec![proxy("forwarder")]);
    driver.subscribers(0, 1000);
    let source = driver.join(0, SocketName::Frontend, SocketType::Pub, &[]);
    driver.start();
    driver.is_stalled = true;
    let before = driver.core.memory().queues;
    let burst = message(2000).repeat(100);
    driver.send(source, &burst);
    driver.settle();
    let used = driver.core.memory().queues - before;
    let most = 2 * burst.len() as u64 + 1000 * 1024;
    assert!(used <= most, "{used} bytes for a burst of {}", burst.len());
}

#[test]
fn a_turn_that_the_clock_ends_still_writes() {
    let mut driver = Loop::new(vec![proxy("forwarder")]);
    let subscriber = driver.subscribers(0, 1)[0];
    let source = driver.join(0, SocketName::Frontend, SocketType::Pub, &[]);
    driver.start();
    driver.send(source, &message(20));
    driver.core.begin_turn(driver.now);
    while let Some(id) = driver.core.poll_read() {
        driver.read(id);
    }
    driver.core.end_turn();
    driver.finish();
    assert_eq!(
        driver.sent_to(subscriber),
        22,
        "it would wait as long as turns are slow"
    );
}

#[test]
fn a_long_message_for_thousands_is_not_written_in_one_turn() {
    let mut driver = Loop::new(vec![proxy("forwarder")]);
    let subscribers = driver.subscribers(0, 3000);
    let source = driver.join(0, SocketName::Frontend, SocketType::Pub, &[]);
    driver.start();
    let message = message(60_000);
    driver.send(source, &message);
    driver.turn();
    let written = subscribers.iter().filter(|id| driver.sent_to(**id) > 0);
    let written = written.count();
    assert!(written < 300, "{written} of 3000 in the first turn");
    driver.settle();
    for id in subscribers {
        assert_eq!(driver.sent_to(id), message.len(), "{id:?}");
    }
}

#[test]
fn writes_of_one_proxy_leave_the_others_their_share() {
    let mut driver = Loop::new(vec![proxy("forwarder"), proxy("streamer")]);
    driver.subscribers(0, 6000);
    let publisher = driver.join(0, SocketName::Frontend, SocketType::Pub, &[]);
    let source = driver.join(1, SocketName::Frontend, SocketType::Push, &[]);
    let sink = driver.join(1, SocketName::Backend, SocketType::Pull, &[]);
    driver.start();
    driver.send(publisher, &message(20).repeat(2000));
    for number in 1..=10 {
        driver.turn();
        assert!(driver.core.has_backlog(), "the burst is over too soon");
        driver.send(source, &message(20));
        driver.turn();
        assert_eq!(driver.sent_to(sink), number * 22, "it waits for others");
    }
    driver.assert_bounded();
}

#[test]
fn thousands_of_peers_that_vanish_at_once_take_many_turns() {
    let mut driver = Loop::new(vec![proxy("forwarder")]);
    let subscribers = driver.subscribers(0, 5000);
    driver.start();
    driver.core.begin_turn(driver.now);
    for id in &subscribers {
        driver.core.handle_read_closed(*id, None);
    }
    let turns = driver.settle();
    driver.assert_bounded();
    assert!(turns > 50, "{turns} turns");
    assert_eq!(driver.core.statistics()[1].peers, 0);
}

#[test]
fn thousands_of_deadlines_at_once_take_several_turns() {
    let mut driver = Loop::new(vec![proxy("streamer")]);
    for _ in 0..5000 {
        driver.accept(0, SocketName::Frontend);
    }
    driver.start();
    driver.now += Duration::from_secs(3600);
    let turns = driver.settle();
    driver.assert_bounded();
    assert!(turns > 10, "{turns} turns");
}

#[test]
fn established_peers_come_before_a_storm_of_newcomers() {
    let mut driver = Loop::new(vec![proxy("streamer")]);
    let source = driver.join(0, SocketName::Frontend, SocketType::Push, &[]);
    let sink = driver.join(0, SocketName::Backend, SocketType::Pull, &[]);
    driver.start();
    for number in 1..=20 {
        for _ in 0..300 {
            driver.join(0, SocketName::Frontend, SocketType::Push, &[]);
        }
        driver.send(source, &message(20));
        driver.turn();
        assert_eq!(driver.sent_to(sink), number * 22, "it waits for newcomers");
    }
    driver.assert_bounded();
}

/// The greeting and the HELLO of a CURVE client.
fn hello(now: Instant, server: PublicKey) -> Vec<u8> {
    let secret = SecretKey::from_bytes(&[2; 32]).expect("a usable key");
    let client = CurveClient::new(secret, server);
    let config = SessionConfig {
        mechanism: MechanismConfig::CurveClient(Arc::new(client)),
        ..SessionConfig::new(SocketType::Push)
    };
    let (mut hello, mut greeting) = (Vec::new(), Vec::new());
    let mut session = Session::new(Arc::new(config), now, &mut hello);
    Greeting::new("CURVE").emit(&mut greeting);
    let step = session.handle_input(&mut greeting, &mut hello);
    assert!(step.is_ok() && hello.len() > 200, "{step:?}");
    hello
}

/// Bytes of a greeting and of WELCOME with its header.
const ANSWERED: u64 = 64 + 170;

#[test]
fn handshakes_with_curve_share_the_turn() {
    let secret = SecretKey::from_bytes(&[1; 32]).expect("a usable key");
    let server = CurveServer::new(secret);
    let mut config = proxy("streamer");
    let public = server.public_key();
    config.frontend.mechanism = MechanismConfig::CurveServer(Arc::new(server));
    let mut driver = Loop::new(vec![config]);
    let hello = hello(driver.now, public);
    let join = |driver: &mut Loop| {
        let id = driver.accept(0, SocketName::Frontend);
        driver.send(id, &hello);
        id
    };
    let first = join(&mut driver);
    let mut peers = vec![first];
    for turn in 0..40 {
        peers.extend((0..100).map(|_| join(&mut driver)));
        driver.turn();
        let is_answered = |id: &&ConnId| {
            let queued = driver.core.egress(**id).map_or(0, broker::Egress::bytes);
            driver.sent_to(**id) as u64 + queued == ANSWERED
        };
        let answered = peers.iter().filter(is_answered).count();
        assert!(answered <= 30 * (turn + 1), "{answered} after turn {turn}");
    }
    assert_eq!(
        driver.sent_to(first) as u64,
        ANSWERED,
        "the flood delays it"
    );
    driver.assert_bounded();
}

/// A client of CURVE whose handshake is over.
struct Client {
    coder: Box<Coder>,
    id: ConnId,
    /// Bytes from the broker that it has read.
    read: usize,
}

impl Client {
    fn join(driver: &mut Loop, side: SocketName, socket_type: SocketType) -> Self {
        let [own, server] =
            [2, 1].map(|byte| SecretKey::from_bytes(&[byte; 32]).expect("a usable key"));
        let client = CurveClient::new(own, server.public_key());
        let config = SessionConfig {
            mechanism: MechanismConfig::CurveClient(Arc::new(client)),
            ..SessionConfig::new(socket_type)
        };
        let (mut out, mut input, mut read) = (Vec::new(), Vec::new(), 0);
        let mut session = Session::new(Arc::new(config), driver.now, &mut out);
        let id = driver.accept(0, side);
        loop {
            driver.send(id, &std::mem::take(&mut out));
            driver.settle();
            let sent = driver.sent.get(&id).map_or(&[][..], Vec::as_slice);
            input.extend_from_slice(&sent[read..]);
            read = sent.len();
            loop {
                let step = session.handle_input(&mut input, &mut out);
                let step = step.expect("the broker shakes hands");
                input.drain(..step.consumed);
                if let Some(coder) = session.take_coder() {
                    assert!(input.is_empty(), "more than the handshake");
                    return Self { coder, id, read };
                }
                if matches!(step.event, Event::Need(_)) {
                    break;
                }
            }
        }
    }
}

/// Of a long frame, each turn opens and seals a bounded part, while others go on.
#[test]
fn a_long_frame_with_curve_takes_many_turns() {
    let secret = || SecretKey::from_bytes(&[1; 32]).expect("a usable key");
    let mut config = proxy("streamer");
    for side in [&mut config.frontend, &mut config.backend] {
        side.mechanism = MechanismConfig::CurveServer(Arc::new(CurveServer::new(secret())));
        side.admission = Admission::Any;
    }
    let mut driver = Loop::new(vec![config]);
    driver.core.set_coder_step_size(STEP_SIZE);
    let mut source = Client::join(&mut driver, SocketName::Frontend, SocketType::Push);
    let mut sink = Client::join(&mut driver, SocketName::Backend, SocketType::Pull);
    let mut plain = Vec::new();
    append_message(&mut plain, &[&b"long"[..], &vec![b'x'; 20 * STEP_SIZE]]);
    append_message(&mut plain, &[b"short"]);
    let mut sealed = Vec::new();
    let sealer = &mut source.coder.sealer;
    let size = sealer.append_sealed(&plain, usize::MAX, &mut sealed);
    assert_eq!(size, Ok(plain.len()));
    driver.send(source.id, &sealed);
    let turns = driver.settle();
    assert!(turns > 20, "{turns} turns");
    driver.assert_bounded();
    let raw = &mut driver.sent.get_mut(&sink.id).expect("it got something")[sink.read..];
    let opened = sink.coder.opener.open(raw, &Limits::default());
    let opened = opened.expect("it is sealed");
    assert_eq!(opened.consumed, raw.len());
    assert!(raw[..opened.plain] == plain, "it has changed on its way");
}

/// The greeting and the HELLO of a PLAIN client.
fn plain_hello(password: &str) -> Vec<u8> {
    let mut hello = Vec::new();
    Greeting::new("PLAIN").emit(&mut hello);
    let mut body = b"\x05HELLO\x04user".to_vec();
    body.push(u8::try_from(password.len()).expect("short"));
    body.extend_from_slice(password.as_bytes());
    hello.extend([4, u8::try_from(body.len()).expect("short")]);
    [hello, body].concat()
}

/// A flood of wrong passwords takes a bounded part of each turn, keeps nothing, and delays neither
/// the traffic of others nor a client that came before it.
#[test]
fn wrong_passwords_share_the_turn() {
    let mut users = Users::default();
    let hash = PasswordHash::new(&Password::new(b"secret")).expect("a salt");
    users.insert("user", hash);
    let mut config = proxy("streamer");
    config.frontend.mechanism = MechanismConfig::PlainServer;
    config.frontend.admission = Admission::Users(Arc::new(users));
    // Each is closed at once, so that the hashes can be counted.
    config.frontend.options.reject = Reject::Error;
    let mut driver = Loop::new(vec![config]);
    let join = |driver: &mut Loop, password: &str| {
        let id = driver.accept(0, SocketName::Frontend);
        driver.send(id, &plain_hello(password));
        id
    };
    let before = join(&mut driver, "secret");
    let mut refused = 0;
    for turn in 0..40 {
        for _ in 0..100 {
            join(&mut driver, "Secret");
        }
        driver.turn();
        let counters = &driver.core.statistics()[0].counters;
        let now = counters.closed_for("not-authorised");
        // Some close in the next turn.
        assert!(
            now - refused <= 8,
            "{} hashes in turn {turn}",
            now - refused
        );
        refused = now;
    }
    assert!(refused > 20, "{refused}");
    // The greeting, and WELCOME with its header.
    assert_eq!(driver.sent_to(before), 64 + 10, "the flood delays it");
    driver.assert_bounded();
}

/// A proxy with a control to which peers connect.
fn controlled() -> ProxyConfig {
    let mut config = proxy("streamer");
    config.control.socket = SocketConfig { ..listening() };
    config
}

/// The work of a turn with one question, while this number of peers is connected.
fn work_of_question(peers: usize) -> u64 {
    let mut driver = Loop::new(vec![controlled()]);
    for _ in 0..peers {
        driver.join(0, SocketName::Frontend, SocketType::Push, &[]);
    }
    let asker = driver.join(0, SocketName::Control, SocketType::Req, &[]);
    driver.start();
    let mut question = Vec::new();
    append_message(&mut question, &[&b""[..], br#"{"command": "peers"}"#]);
    driver.send(asker, &question);
    driver.turn()
}

#[test]
fn a_question_is_charged_for_all_inspected_peers() {
    let more = work_of_question(5000).saturating_sub(work_of_question(500));
    assert!(more >= 4500 * 20, "{more} units for 4500 peers more");
}

#[test]
fn a_long_expired_queue_is_dropped_in_many_turns() {
    const MESSAGES: u64 = 200_000;
    let mut play = Play::new(SocketOptions {
        max_age: Duration::from_secs(1),
        sndhwm: 0,
        ..SocketOptions::default()
    });
    let (sink, source) = (
        play.join(SocketName::Backend),
        play.join(SocketName::Frontend),
    );
    let bodies = vec!["old"; 10_000];
    for _ in 0..MESSAGES / bodies.len() as u64 {
        play.send(source, &bodies);
    }
    play.now += Duration::from_secs(2);
    let dropped = |play: &Play| {
        play.core.statistics()[1]
            .counters
            .dropped(DropReason::Expired)
    };
    assert_eq!(dropped(&play), 0, "no message has expired yet");
    let (mut before, mut turns) = (0, 0);
    while before < MESSAGES {
        play.core.begin_turn(play.now);
        assert_eq!(
            play.core.poll_dirty(),
            None,
            "expired messages are not written"
        );
        assert!(play.core.work_of_turn() <= 2 * WORK_PER_TURN);
        let after = dropped(&play);
        assert!(
            after > before && after - before <= WORK_PER_TURN / 50,
            "{after}"
        );
        assert!(after == MESSAGES || play.core.has_backlog(), "it waits");
        (before, turns) = (after, turns + 1);
    }
    assert!(turns > 10, "{turns} turns");
    play.send(source, &["new"]);
    assert_eq!(play.write(sink), ["new"]);
}

#[test]
fn a_control_answers_one_question_in_a_turn() {
    let mut driver = Loop::new(vec![controlled(), proxy("streamer")]);
    let mut questions = Vec::new();
    for _ in 0..100 {
        append_message(&mut questions, &[&b""[..], br#"{"command": "peers"}"#]);
    }
    for _ in 0..1000 {
        driver.join(0, SocketName::Frontend, SocketType::Push, &[]);
    }
    let asker = driver.join(0, SocketName::Control, SocketType::Req, &[]);
    let source = driver.join(1, SocketName::Frontend, SocketType::Push, &[]);
    let sink = driver.join(1, SocketName::Backend, SocketType::Pull, &[]);
    driver.start();
    driver.send(asker, &questions);
    let mut answer_size = 0;
    for number in 1..=50 {
        driver.send(source, &message(20));
        driver.turn();
        if number == 1 {
            answer_size = driver.sent_to(asker);
            assert!(answer_size > 0, "no answer");
        }
        assert_eq!(driver.sent_to(sink), number * 22, "it waits for answers");
        assert!(
            driver.sent_to(asker) < (number + 1) * (answer_size + 100),
            "more than one answer"
        );
    }
    driver.settle();
    assert!(driver.sent_to(asker) > 90 * answer_size);
}

/// Messages that the end of a turn leaves for the next are whole, and soon gone: their memory is
/// not freed by closing their sender.
#[test]
fn messages_left_for_the_next_turn_are_not_given_up_at_the_memory_limit() {
    let limit = 300_000;
    let mut driver = Loop::run(&Config {
        memory_limit: limit,
        proxies: vec![proxy("streamer")],
        ..Config::default()
    });
    let sink = driver.join(0, SocketName::Backend, SocketType::Pull, &[]);
    let source = driver.join(0, SocketName::Frontend, SocketType::Push, &[]);
    driver.start();
    let burst = message(2).repeat(65_000);
    driver.send(source, &burst);
    driver.turn();
    assert!(driver.core.is_cut(source), "too much for one turn");
    let inputs = driver.core.memory().inputs;
    assert!(
        inputs > limit / 2,
        "{inputs} bytes are no more than inputs may take"
    );
    driver.settle();
    assert_eq!(driver.sent_to(sink), burst.len());
}
