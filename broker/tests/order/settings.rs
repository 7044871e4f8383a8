//! Changes beyond proxies, endpoints and options: captures and controls, recordings, admission, and
//! endpoints that overlap with their successors.

use crate::changes::{endpoint, main_only};
use crate::play::{Play, hello, proxy};
use crate::refusals::secret;
use broker::config::{
    Admission, Attach, CaptureFormat, ClientKeys, Config, Endpoint, Overflow, SocketName, diff,
};
use broker::reason::CloseReason;
use broker::record::{OpenError, Origin, RecordConfig, Statistics, Tape};
use broker::view::{PageQuery, PeerFilter};
use broker::{Action, Applied, ChangeError, ConnId, ListenerId};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use zmtp::curve::CurveServer;
use zmtp::{Authorization, MechanismConfig, SocketType};

const FRONT: SocketName = SocketName::Frontend;
const BACK: SocketName = SocketName::Backend;

impl Play {
    /// Makes the differences between the running configuration and another.
    fn reload(&mut self, change: impl FnOnce(&mut Config)) -> Result<Applied, ChangeError> {
        let mut next = self.core.admin(self.now).config().clone();
        change(&mut next);
        self.change(|admin| {
            let changes = diff(admin.config(), &next);
            admin.apply(&changes)
        })
    }

    fn reader(&mut self, socket_type: SocketType) -> ConnId {
        let id = self.join_as(SocketName::Capture, socket_type);
        if socket_type == SocketType::Sub {
            self.feed(id, b"\x04\x0a\x09SUBSCRIBE");
        }
        self.write(id);
        id
    }

    /// Why the peers that were closed last were closed.
    fn reasons(&mut self, side: SocketName) -> Vec<CloseReason> {
        let id = self.id("main");
        let filter = PeerFilter {
            sockets: vec![side],
            ..PeerFilter::default()
        };
        let mut admin = self.core.admin(self.now);
        let page = admin.closed_peers(id, &filter, &PageQuery::default());
        let page = page.expect("it is there").items;
        page.iter().map(|peer| peer.reason).collect()
    }
}

#[test]
fn a_capture_comes_and_goes_while_messages_pass() {
    let mut play = main_only();
    let (source, sink) = (play.join(FRONT), play.join(BACK));
    let before = (play.core.walk_tables(), play.memory());
    for format in [CaptureFormat::Monitored, CaptureFormat::Proxy] {
        play.send(source, &["unseen"]);
        let applied = play.reload(|config| {
            let capture = &mut config.proxies[0].capture;
            capture.format = format;
            capture.socket.bind.push(endpoint(9));
        });
        assert_eq!(applied.expect("legal").bound.len(), 1);
        let reader = play.reader(SocketType::Sub);
        play.send(source, &["seen"]);
        let copy: &[&str] = match format {
            CaptureFormat::Monitored => &["in", "seen"],
            CaptureFormat::Proxy => &["seen"],
        };
        // Its last copies are sent before it is closed.
        play.reload(|config| config.proxies[0].capture.socket.bind.clear())
            .expect("legal");
        play.send(source, &["unseen"]);
        assert_eq!(play.write(reader), copy);
        assert!(play.actions().contains(&Action::Close {
            id: reader,
            lingers: true
        }));
        assert_eq!(play.write(sink), ["unseen", "seen", "unseen"]);
        play.turns(3);
        let after = (play.core.walk_tables(), play.memory());
        assert_eq!(after, before);
        play.has_no_trace();
    }
}

/// A new control does not hide the readers of the capture.
#[test]
fn a_capture_keeps_its_readers_when_a_control_comes() {
    let mut config = proxy("streamer");
    config.name = "main".to_owned();
    config.backend.bind = vec![endpoint(2)];
    config.capture.socket.bind.push(endpoint(9));
    let mut play = Play::of(config);
    let (source, _sink) = (play.join(FRONT), play.join(BACK));
    let reader = play.reader(SocketType::Sub);
    play.reload(|config| config.proxies[0].control.socket.bind.push(endpoint(8)))
        .expect("legal");
    play.send(source, &["seen"]);
    assert_eq!(play.write(reader), ["in", "seen"]);
}

#[test]
fn the_form_of_copies_changes_for_the_same_readers() {
    let mut config = proxy("streamer");
    config.name = "main".to_owned();
    config.backend.bind = vec![endpoint(2)];
    config.capture.socket.bind.push(endpoint(9));
    let mut play = Play::of(config);
    let (source, sink) = (play.join(FRONT), play.join(BACK));
    let reader = play.reader(SocketType::Sub);
    play.send(source, &["1"]);
    play.reload(|config| config.proxies[0].capture.in_prefix = "from".to_owned())
        .expect("legal");
    play.send(source, &["2"]);
    play.reload(|config| config.proxies[0].capture.format = CaptureFormat::Proxy)
        .expect("legal");
    play.send(source, &["3"]);
    assert_eq!(play.write(reader), ["in", "1", "from", "2", "3"]);
    assert_eq!(play.write(sink), ["1", "2", "3"]);
}

#[test]
fn a_control_that_comes_and_goes_leaves_the_readers_of_the_capture_alone() {
    let mut config = proxy("streamer");
    config.name = "main".to_owned();
    config.backend.bind = vec![endpoint(2)];
    config.capture.socket.bind.push(endpoint(9));
    let mut play = Play::of(config);
    let source = play.join(FRONT);
    play.join(BACK);
    let reader = play.reader(SocketType::Sub);
    play.reload(|config| config.proxies[0].control.socket.bind.push(endpoint(8)))
        .expect("legal");
    play.send(source, &["1"]);
    assert_eq!(play.write(reader), ["in", "1"]);
    play.reload(|config| config.proxies[0].control.socket.bind.clear())
        .expect("legal");
    play.send(source, &["2"]);
    assert_eq!(play.write(reader), ["in", "2"]);
}

#[test]
fn messages_wait_for_a_capture_that_blocks_only_as_long_as_it_is_there() {
    let mut play = main_only();
    let (source, sink) = (play.join(FRONT), play.join(BACK));
    play.reload(|config| {
        let capture = &mut config.proxies[0].capture;
        capture.socket_type = SocketType::Push;
        capture.socket.options.overflow = Overflow::Block;
        capture.socket.bind.push(endpoint(9));
    })
    .expect("legal");
    play.send(source, &["1"]);
    assert_eq!(play.write(sink), [""; 0], "the capture has no reader");
    let reader = play.reader(SocketType::Pull);
    assert_eq!(play.write(sink), ["1"]);
    play.lose(reader);
    play.send(source, &["2"]);
    assert_eq!(play.write(sink), [""; 0]);
    play.reload(|config| config.proxies[0].capture.socket.bind.clear())
        .expect("legal");
    assert_eq!(play.write(sink), ["2"]);
    play.has_no_trace();
}

#[test]
fn a_control_of_another_type_replaces_the_former_at_its_endpoint() {
    let mut play = main_only();
    play.reload(|config| config.proxies[0].control.socket.bind.push(endpoint(9)))
        .expect("legal");
    let former = play.join_as(SocketName::Control, SocketType::Req);
    play.write(former);
    play.send_frames(former, &[b"", b"STATISTICS"]);
    assert_eq!(play.write_frames(former).len(), 9);
    let mut opened = 0;
    let mut next = play.core.admin(play.now).config().clone();
    next.proxies[0].control.socket_type = SocketType::Pair;
    let changes = diff(play.core.admin(play.now).config(), &next);
    let id = play.core.admin(play.now).apply(&changes).expect("legal");
    while play.core.is_opening() {
        opened += usize::from(matches!(play.core.poll_action(), Some(Action::Listen(_))));
    }
    assert_eq!(opened, 0, "the listener stays");
    assert!(play.core.take_outcome(id).expect("all is open").is_ok());
    play.actions();
    assert_eq!(play.core.walk_tables()[6], ("leaving sockets", 0));
    let control = play.join_as(SocketName::Control, SocketType::Pair);
    play.write(control);
    play.send_frames(control, &[b"STATISTICS"]);
    assert_eq!(
        play.write_frames(control),
        vec![vec![0; 8]; 8],
        "counted anew"
    );
    play.has_no_trace();
}

#[test]
fn an_auxiliary_socket_of_a_proxy_that_goes_leaves_nothing_behind() {
    let mut play = main_only();
    let before = play.core.walk_tables();
    let mut other = proxy("streamer");
    other.name = "other".to_owned();
    other.frontend.bind = vec![endpoint(11)];
    other.backend.bind = vec![endpoint(12)];
    other.capture.socket.bind = vec![endpoint(13)];
    play.change(|admin| admin.add_proxy(other)).expect("legal");
    let socket = play.id("other");
    let socket = play
        .core
        .socket(socket, SocketName::Capture)
        .expect("it has one");
    let listener = play.core.listeners(socket).next().expect("it listens");
    let reader = play.core.handle_accepted(play.now, listener, play.peer);
    let reader = reader.expect("every address may connect");
    play.feed(reader, &hello(SocketType::Sub));
    play.reload(|config| config.proxies[1].capture.socket.bind.clear())
        .expect("legal");
    let id = play.id("other");
    play.change(|admin| admin.remove_proxy(id)).expect("legal");
    play.write(reader);
    play.actions();
    play.turns(3);
    assert_eq!(play.core.walk_tables(), before);
    play.has_no_trace();
}

#[derive(Debug, Default)]
struct Recorded {
    is_over: bool,
    limits: Vec<u32>,
    messages: usize,
}

#[derive(Debug)]
struct TestTape(Arc<Mutex<Recorded>>, Box<Path>);

impl Tape for TestTape {
    fn flush(&mut self) {}

    fn path(&self) -> &Path {
        &self.1
    }

    fn push(&mut self, _: &Origin<'_>, _: &[&[u8]]) {
        self.0.lock().expect("no panic").messages += 1;
    }

    fn set_limits(&mut self, config: &RecordConfig) {
        let mut recorded = self.0.lock().expect("no panic");
        recorded.limits.push(config.files_max);
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

impl Drop for TestTape {
    fn drop(&mut self) {
        self.0.lock().expect("no panic").is_over = true;
    }
}

/// Once it got the name of the list that let it in, which was not in force any more.
#[test]
fn a_peer_that_waits_for_an_identity_is_named_by_the_newest_list() {
    let list = |user: &str| {
        let mut keys = ClientKeys::default();
        keys.insert(&secret(2).public_key(), user);
        Admission::Keys(Arc::new(keys))
    };
    let mut config = proxy("queue");
    config.name = "main".to_owned();
    config.frontend.mechanism = MechanismConfig::CurveServer(Arc::new(CurveServer::new(secret(1))));
    config.frontend.admission = list("former");
    config.backend.bind = vec![endpoint(2)];
    let mut play = Play::of(config);
    let worker = play.join_as(BACK, SocketType::Dealer);
    play.write(worker);
    let join = |play: &mut Play| {
        let (id, is_in) = play.knock_with_key((2, 1), SocketType::Dealer, b"name");
        assert!(is_in);
        id
    };
    let (holder, newcomer) = (join(&mut play), join(&mut play));
    play.reload(|config| config.proxies[0].frontend.admission = list("present"))
        .expect("legal");
    // The holder is asked for a sign of life, and gives none.
    play.write_up_to(holder, usize::MAX);
    play.pass(Duration::from_secs(2));
    let actions = play.actions();
    let is_lost = |action: &Action| matches!(action, Action::Close { id, .. } if *id == holder);
    assert!(actions.iter().any(is_lost), "{actions:?}");
    let id = play.id("main");
    let (filter, page) = (PeerFilter::default(), PageQuery::default());
    let peers = play.core.admin(play.now).peers(id, &filter, &page);
    let peers = peers.expect("it is there").items;
    let peer = peers.iter().find(|peer| peer.id == newcomer);
    let user = peer.and_then(|peer| peer.user.as_deref());
    assert_eq!(user, Some("present"));
}

#[test]
fn a_recording_begins_moves_and_ends() {
    let mut play = main_only();
    let (source, sink) = (play.join(FRONT), play.join(BACK));
    let mut tapes: Vec<Arc<Mutex<Recorded>>> = Vec::new();
    let mut record = |play: &mut Play, to: Option<RecordConfig>, works: bool| {
        let mut next = play.core.admin(play.now).config().clone();
        next.proxies[0].record = to;
        let changes = diff(play.core.admin(play.now).config(), &next);
        let id = play.core.admin(play.now).apply(&changes).expect("legal");
        while let Some(action) = play.core.poll_action() {
            let Action::Record(proxy) = action else {
                panic!("{action:?}");
            };
            let path = play
                .core
                .record_config(proxy)
                .expect("asked for")
                .path
                .clone();
            if works {
                let recorded = Arc::<Mutex<Recorded>>::default();
                tapes.push(recorded.clone());
                let tape = TestTape(recorded, path.into());
                play.core.handle_recording(proxy, Box::new(tape));
            } else {
                let source = io::ErrorKind::StorageFull.into();
                let error = OpenError { path, source };
                play.core.handle_record_failed(proxy, error);
            }
        }
        let outcome = play.core.take_outcome(id).expect("all is open");
        play.send(source, &["1"]);
        assert_eq!(play.write(sink), ["1"]);
        let state = |tape: &Arc<Mutex<Recorded>>| {
            let Recorded {
                is_over, messages, ..
            } = *tape.lock().expect("no panic");
            (is_over, messages)
        };
        (outcome.is_ok(), tapes.iter().map(state).collect::<Vec<_>>())
    };
    let (one, other) = (RecordConfig::new("one"), RecordConfig::new("other"));
    assert_eq!(
        record(&mut play, Some(one.clone()), true),
        (true, vec![(false, 1)])
    );
    let limited = RecordConfig {
        files_max: 3,
        ..one
    };
    let after = record(&mut play, Some(limited), true);
    assert_eq!(after, (true, vec![(false, 2)]), "the same file");
    let after = record(&mut play, Some(other.clone()), false);
    assert_eq!(after, (false, vec![(false, 3)]), "it goes on");
    let after = record(&mut play, Some(other), true);
    assert_eq!(after, (true, vec![(true, 3), (false, 1)]));
    assert_eq!(play.core.walk_tables()[4], ("recordings", 1));
    let after = record(&mut play, None, true);
    assert_eq!(after, (true, vec![(true, 3), (true, 1)]));
    assert_eq!(play.core.walk_tables()[4], ("recordings", 0));
    assert_eq!(tapes[0].lock().expect("no panic").limits, [3]);
}

/// The answers of a system on which only one of these ports may be bound at a time.
struct System {
    bound: Vec<ListenerId>,
    /// Fails once the first listener was closed.
    is_full: bool,
}

impl System {
    fn open(&mut self, play: &mut Play) {
        let mut closed = false;
        while play.core.is_opening() {
            match play.core.poll_action() {
                Some(Action::Listen(id)) => {
                    let (endpoint, _) = play.core.listener(id).expect("it is asked for");
                    let endpoint = endpoint.clone();
                    let port = |endpoint: &Endpoint| {
                        endpoint.to_string().rsplit(':').next().map(str::to_owned)
                    };
                    let is_taken = self.bound.iter().any(|other| {
                        let other = play.core.listener(*other);
                        other.is_some_and(|(other, _)| port(other) == port(&endpoint))
                    });
                    if is_taken || closed && std::mem::take(&mut self.is_full) {
                        let error = io::ErrorKind::AddrInUse.into();
                        play.core.handle_listen_failed(id, error);
                    } else {
                        self.bound.push(id);
                        play.core.handle_listening(id, endpoint);
                    }
                }
                Some(Action::StopListening(id)) => {
                    closed = true;
                    self.bound.retain(|other| *other != id);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// An endpoint that overlaps with that of the same port.
fn other(port: u16) -> Endpoint {
    format!("tcp://127.0.0.2:{port}")
        .parse()
        .expect("an endpoint")
}

#[test]
fn an_endpoint_gives_way_to_one_that_overlaps_with_it() {
    for is_full in [false, true] {
        let mut play = main_only();
        let (source, sink) = (play.join(FRONT), play.join(BACK));
        let listeners = |play: &Play| -> Vec<ListenerId> {
            let sockets = play.core.proxies().flat_map(|id| {
                [FRONT, BACK].map(|side| play.core.socket(id, side).expect("it has both"))
            });
            sockets.flat_map(|it| play.core.listeners(it)).collect()
        };
        let mut system = System {
            bound: listeners(&play),
            is_full,
        };
        let before = (system.bound.clone(), play.core.bound());
        let mut next = play.core.admin(play.now).config().clone();
        next.proxies[0].frontend.bind = vec![other(1), endpoint(5)];
        let changes = diff(play.core.admin(play.now).config(), &next);
        let id = play.core.admin(play.now).apply(&changes).expect("legal");
        system.open(&mut play);
        let outcome = play.core.take_outcome(id).expect("all is open");
        let mut bound = system.bound.clone();
        if is_full {
            let error = outcome
                .expect_err("the port was taken meanwhile")
                .to_string();
            assert!(
                error.starts_with("main frontend: cannot bind tcp://127.0.0.2:1: "),
                "{error}"
            );
            bound.sort();
            assert_eq!((bound, play.core.bound()), before, "as it was");
        } else {
            assert_eq!(outcome.expect("it fits").bound.len(), 2);
            bound.sort();
            let mut all = listeners(&play);
            all.sort();
            assert_eq!(bound, all);
            assert_eq!(play.core.admin(play.now).config(), &next);
        }
        play.send(source, &["1"]);
        assert_eq!(play.write(sink), ["1"], "connections stay");
        play.join(FRONT);
        play.has_no_trace();
    }
}

#[test]
fn an_endpoint_that_cannot_be_bound_again_is_not_in_the_configuration() {
    for side in [FRONT, SocketName::Capture] {
        let mut play = main_only();
        play.reload(|config| config.proxies[0].socket_mut(side).bind = vec![endpoint(8)])
            .expect("legal");
        play.actions();
        let before = play.core.admin(play.now).config().clone();
        let mut next = before.clone();
        next.proxies[0].socket_mut(side).bind = vec![endpoint(5), other(8)];
        let changes = diff(&before, &next);
        let id = play.core.admin(play.now).apply(&changes).expect("legal");
        while play.core.is_opening() {
            if let Some(Action::Listen(listener)) = play.core.poll_action() {
                let (endpoint, _) = play.core.listener(listener).expect("asked for");
                let endpoint = endpoint.clone();
                if endpoint.to_string().ends_with(":8") {
                    let error = io::ErrorKind::AddrInUse.into();
                    play.core.handle_listen_failed(listener, error);
                } else {
                    play.core.handle_listening(listener, endpoint);
                }
            }
        }
        assert!(play.core.take_outcome(id).expect("all is known").is_err());
        let config = play.core.admin(play.now).config().clone();
        assert_eq!(config.proxies[0].socket(side).bind, []);
        // A capture without an endpoint is as one that is not configured.
        let proxy = play.id("main");
        assert_eq!(play.core.socket(proxy, side).is_some(), side == FRONT);
        // The same configuration as before binds it again.
        play.reload(|config| *config = before).expect("legal");
        play.join(side);
        play.has_no_trace();
    }
}

#[test]
fn an_endpoint_that_another_process_has_is_refused() {
    let mut play = main_only();
    let id = play.id("main");
    let id = play
        .core
        .admin(play.now)
        .attach(id, FRONT, Attach::Bind, endpoint(7))
        .expect("legal");
    while let Some(action) = play.core.poll_action() {
        if let Action::Listen(listener) = action {
            let error = io::ErrorKind::AddrInUse.into();
            play.core.handle_listen_failed(listener, error);
        }
    }
    assert!(play.core.take_outcome(id).expect("all is known").is_err());
}

#[test]
fn peers_in_their_handshake_are_admitted_as_the_new_configuration_says() {
    let mut play = main_only();
    let sink = play.join(BACK);
    let ready = play.join(FRONT);
    let greeting = hello(SocketType::Push);
    let early = play.join_as(FRONT, SocketType::Push);
    // The beginning of a greeting.
    let half = {
        let listener = crate::play::listener_at(&play.core, (0, FRONT));
        let id = play.core.handle_accepted(play.now, listener, play.peer);
        id.expect("every address may connect")
    };
    play.feed(half, &greeting[..20]);
    play.reload(|config| config.proxies[0].frontend.admission = Admission::Program)
        .expect("legal");
    play.actions();
    // Its session would not have asked.
    assert!(play.core.egress(half).is_none());
    assert_eq!(play.reasons(FRONT), [CloseReason::NotAdmitted]);
    for peer in [ready, early] {
        play.send(peer, &["1"]);
        assert_eq!(play.write(sink), ["1"], "it was in before");
    }
    let waiting = play.join_as(FRONT, SocketType::Push);
    play.send(waiting, &["2"]);
    assert_eq!(play.write(sink), [""; 0]);
    play.reload(|config| config.proxies[0].frontend.admission = Admission::Any)
        .expect("legal");
    play.actions();
    play.feed(waiting, b"");
    assert_eq!(play.write(sink), ["2"], "no program decides any more");
    let late = play
        .core
        .admin(play.now)
        .authorize(waiting, Authorization::Granted { user: None });
    assert!(late.is_err());
}
